/* cmd_tokenize.h -- what the two halves of `pipeline tokenize` share: one text (cmd_tokenize.c) and
 * files of rows (cmd_tokenize_rows.c). */
#ifndef FT_CORE_CLI_CMD_TOKENIZE_H
#define FT_CORE_CLI_CMD_TOKENIZE_H
#include "core/run/run.h"
#include "core/run/tokenizer.h"

enum { FT_MOST_JSON = 64 << 20 }; /* bytes of a row */

typedef struct {
    const char *model, *chat, *offsets, *decode, *special, *show, *allow;
    const char *text; /* the argument, or NULL: standard input */
} ft_tokenize_options;

typedef struct {
    const ft_tokenize_options *o;
    ft_registry *registry;
    ft_offer offer;
    ft_tokenizer_run tok;
    ft_buf out, ids, origin;
    bool color;
    int threads;
    int64_t shown;
} ft_tokenizing;

unsigned ft_tokenize_encode_flags(const ft_tokenizing *t);
/* Any bytes as a JSON string: what is no UTF-8 becomes U+FFFD. */
void ft_tokenize_quote(ft_buf *out, const char *p, size_t n);
void ft_tokenize_write_ids(ft_buf *out, const ft_tokens *k);
void ft_tokenize_write_offsets(ft_buf *out, const ft_tokens *k);
/* Writes t->out to standard output when there is enough of it, or all. */
int ft_tokenize_flush(ft_tokenizing *t, bool all, ft_err *e);
/* A tokenized text under a line that says what it is. */
int ft_tokenize_show_text(ft_tokenizing *t, const ft_text *text, const ft_tokens *k,
                          const char *name, ft_err *e);
/* Ids ([…] or {"ids": […]}) as text; row: as a line {"text": …}. */
int ft_tokenize_decode_value(ft_tokenizing *t, const ft_json *v, bool row, ft_err *e);

/* A file of texts or ids, a line a row. */
int ft_tokenize_each_line(ft_tokenizing *t, const char *path, ft_err *e);
/* Rows of data as a training stage would render and label them. */
int ft_tokenize_each_chat(ft_tokenizing *t, const char *path, ft_err *e);
#endif
