/* chat.h -- the words of a model: its tokenizer, its chat template and the tokens that end an
 * answer. */
#ifndef FT_CORE_CHAT_H
#define FT_CORE_CHAT_H
#include "core/run/tokenizer.h"
#include "core/text/template.h"
#include "ft/buf.h"

enum { FT_CHAT_STOPS = 16 };

typedef struct {
    ft_tokenizer_run tok;
    ft_template *template;        /* the model's own, or ChatML where it has none */
    int32_t stop[FT_CHAT_STOPS];  /* [n_stop] */
    int n_stop;
} ft_chat;

/* The first tokenizer plugin that claims the model's files.  source outlives *c. */
int ft_chat_open(ft_chat *c, ft_source *source, ft_registry *r, const ft_offer *offer, ft_err *e);
void ft_chat_close(ft_chat *c);

/* messages (an array) rendered up to where the assistant speaks; int32 ids are appended to *ids.
 * What the messages say never becomes a special token. */
int ft_chat_prompt(ft_chat *c, const ft_json *messages, ft_buf *ids, ft_err *e);
/* Text as it stands, special tokens recognised; flags: FT_ENCODE_*. */
int ft_chat_raw(ft_chat *c, const char *text, size_t n, unsigned flags, ft_buf *ids, ft_err *e);
/* Appends the text of n ids; special tokens are left out, or spelled out (raw). */
int ft_chat_text(ft_chat *c, const int32_t *ids, int64_t n, bool raw, ft_buf *text, ft_err *e);
#endif
