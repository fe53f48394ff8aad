/* tokens.h -- tokenized documents: what the tokenizer stage hands to training and evaluation.
 *
 * A document is a run of token ids that see each other; labels say which of them carry loss (-100:
 * none; a label is the id to be predicted at that place, as in Hugging Face files, not shifted).
 * Documents are grouped into rows: fixed ones, when a file came with rows, else the trainer packs
 * them.  A preference pair is two documents, chosen and rejected, one after the other.  On disk it
 * is a safetensors file: ids I32, labels I32, start I64, split U8, perhaps origin U8 and answer U8,
 * and, where rows are fixed, row I64 [rows + 1]; numbers of one kind in its metadata. */
#ifndef FT_CORE_TOKENS_H
#define FT_CORE_TOKENS_H
#include "core/base/err.h"
#include "core/io/tensors.h"
#include "ft/buf.h"
#include "ft/data.h"

/* What a document is to a trainer. */
enum { FT_ANSWER_PLAIN, FT_ANSWER_CHOSEN, FT_ANSWER_REJECTED, FT_ANSWER_GOOD, FT_ANSWER_BAD };

typedef struct {
    int64_t n_docs, n_tokens;
    const int64_t *start;    /* [n_docs + 1] */
    const int32_t *ids;      /* [n_tokens] */
    const int32_t *labels;   /* [n_tokens] */
    const uint8_t *split;    /* [n_docs] FT_SPLIT_TRAIN or FT_SPLIT_VAL */
    const uint8_t *origin;   /* [n_tokens] FT_FROM_* of each token; NULL: not known */
    const uint8_t *answer;   /* [n_docs] FT_ANSWER_*; NULL: all plain */
    int64_t n_rows;          /* fixed rows, or 0 */
    const int64_t *row;      /* [n_rows + 1] first document of each */
    int64_t rows_per_batch;  /* rows of a micro-batch as the file has them, or 0 */
    int64_t max_length;      /* tokens a row may have */
    bool packing;
    ft_tensors *file;        /* owns the numbers, when they are mapped */
    ft_buf memory[6];        /* owns them when they were built */
} ft_token_set;

/* What a set holds, for messages and `check`. */
typedef struct { int64_t docs, tokens, trained, longest; } ft_token_counts;
ft_token_counts ft_tokens_count(const ft_token_set *s, int split);

int ft_tokens_open(ft_token_set *s, const char *path, ft_err *e);
int ft_tokens_save(const ft_token_set *s, const char *path, ft_err *e);
void ft_tokens_free(ft_token_set *s);

/* Building in memory: documents one after the other, then ft_tokens_seal.  To a file:
 * token_writer.h. */
typedef struct {
    ft_buf start, ids, labels, split, row;
    int64_t longest;
} ft_token_builder;

/* labels [n]: -100 where there is no loss.  0 or FT_ENOMEM. */
int ft_tokens_add(ft_token_builder *b, const int32_t *ids, const int32_t *labels, int64_t n,
                  int split);
/* The kind of answers other than plain ones: "preference pairs", "KTO rows", or NULL. */
const char *ft_tokens_kind(const ft_token_set *s);
/* The documents added since the last call make a fixed row. */
int ft_tokens_end_row(ft_token_builder *b);
/* Moves what was built into *s. */
int ft_tokens_seal(ft_token_builder *b, ft_token_set *s, ft_err *e);
void ft_tokens_builder_free(ft_token_builder *b);

/* A source of ready rows (data-tokens) as a set. */
int ft_tokens_from_rows(ft_token_set *s, const ft_token_source *source, void *self, ft_err *e);
#endif
