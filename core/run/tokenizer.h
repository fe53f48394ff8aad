/* tokenizer.h -- the tokenizer of a model: its files, and the plugin that reads them, outside of a
 * pipeline's stages (`pipeline tokenize`, the report). */
#ifndef FT_CORE_RUN_TOKENIZER_H
#define FT_CORE_RUN_TOKENIZER_H
#include "core/io/source.h"
#include "core/load/instance.h"
#include "ft/data.h"

typedef struct {
    ft_source *source;
    bool borrowed;             /* the source is the caller's */
    ft_instance *plugin;
    const ft_tokenizer *vt;
    void *self, *encoder;
    ft_vocab vocab;
} ft_tokenizer_run;

/* path: a GGUF file, or a folder that has at least the tokenizer's files.  Takes the first plugin
 * that claims it. */
int ft_tokenizer_open(ft_tokenizer_run *t, const char *path, ft_registry *r, const ft_offer *offer,
                      ft_err *e);
/* The same on a source that is open already and outlives *t. */
int ft_tokenizer_attach(ft_tokenizer_run *t, ft_source *source, ft_registry *r,
                        const ft_offer *offer, ft_err *e);
void ft_tokenizer_close(ft_tokenizer_run *t);

/* 0 when plugin p reads the tokenizer of the source; else the error names the plugin that does. */
int ft_tokenizer_fits(const ft_loaded *p, ft_source *source, ft_registry *r, ft_err *e);

/* flags: FT_ENCODE_*.  *out is valid until the next call. */
int ft_tokenizer_encode(ft_tokenizer_run *t, const ft_text *text, unsigned flags, ft_tokens *out,
                        ft_err *e);
/* The text of ids below vocab.vocab_size; flags: FT_DECODE_*; valid until the next call. */
int ft_tokenizer_decode(ft_tokenizer_run *t, const uint32_t *id, size_t n, unsigned flags,
                        ft_bytes *out, ft_err *e);

/* labels [k->n]: the id where all bytes of the token are trained, else -100.  Returns the number of
 * tokens that lie across a border of what is trained: they carry no loss. */
int64_t ft_tokens_label(const ft_text *text, const ft_tokens *k, int32_t *labels);
/* origin [k->n]: FT_FROM_* of the byte that each token begins with. */
void ft_tokens_origin(const ft_text *text, const ft_tokens *k, uint8_t *origin);
#endif
