/* report_tokens.h -- the token-coloured picture of what was trained on. */
#ifndef FT_CORE_RUN_REPORT_TOKENS_H
#define FT_CORE_RUN_REPORT_TOKENS_H
#include "core/run/tokenizer.h"
#include "core/run/tokens.h"

/* The first training documents as paragraphs, each token a span with its id: class "t" where it
 * carries loss, "f" where the template wrote it, "d" where a row did, and "s" where it is a special
 * token.  tok NULL: ids instead of text. */
void ft_report_tokens(ft_buf *out, const ft_token_set *s, ft_tokenizer_run *tok);
#endif
