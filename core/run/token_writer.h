/* token_writer.h -- documents into a tokens file (tokens.h) one after the other, in memory that
 * does not grow with them. */
#ifndef FT_CORE_RUN_TOKEN_WRITER_H
#define FT_CORE_RUN_TOKEN_WRITER_H
#include "core/base/spool.h"
#include "core/run/tokens.h"

enum { FT_TOKEN_PARTS = 6 };

typedef struct {
    const char *dir;                /* where it writes while it gathers */
    ft_spool part[FT_TOKEN_PARTS];
    int64_t n_tokens, n_docs;
} ft_token_writer;

typedef struct {
    const int32_t *ids, *labels;    /* [n]; labels: -100 where there is no loss */
    const uint8_t *origin;          /* [n] FT_FROM_* */
    int64_t n;
    uint8_t split, answer;          /* FT_SPLIT_*, FT_ANSWER_* */
} ft_token_doc;

int ft_token_writer_add(ft_token_writer *w, const ft_token_doc *d, ft_err *e);
/* Writes dir/tokens.safetensors. */
int ft_token_writer_save(ft_token_writer *w, int64_t max_length, bool packing, ft_err *e);
void ft_token_writer_free(ft_token_writer *w);
#endif
