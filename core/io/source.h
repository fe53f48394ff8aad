/* source.h -- opens what `model:` names into an ft_source (ft/source.h). */
#ifndef FT_CORE_SOURCE_H
#define FT_CORE_SOURCE_H
#include "core/base/err.h"
#include "ft/source.h"

enum { FT_NEED_CONFIG = 1 }; /* a folder without config.json is an error, not only a lack */

/* A Hugging Face folder or a GGUF file; weights are not read.  NULL after an error.  Everything
 * that the source points at lives until ft_source_close (NULL is fine). */
ft_source *ft_source_open(const char *path, unsigned need, ft_err *e);
void ft_source_close(ft_source *s);

/* Fills s->tokenizer, when it has not been: tokenizer.json is large and not always wanted.  Nothing
 * to do for GGUF.  In a folder with only a tokenizer.model it stays NULL, and s->tokenizer_model is
 * filled instead; without either that is an error. */
int ft_source_tokenizer(ft_source *s, ft_err *e);
#endif
