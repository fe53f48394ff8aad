/* rows.h -- documents into rows, rows into optimizer steps, in an order that depends on the seed
 * and the epoch alone; and a step's rows into micro-batches as the kernels see them. */
#ifndef FT_CORE_ROWS_H
#define FT_CORE_ROWS_H
#include "core/run/tokens.h"
#include "ft/kernel.h"

/* The rows of one epoch. */
typedef struct {
    int64_t n_rows, n_docs;
    int64_t *row;   /* [n_rows + 1] into doc */
    int64_t *doc;   /* documents, row by row */
} ft_row_plan;

typedef struct {
    int split;            /* FT_SPLIT_TRAIN or _VAL */
    uint64_t seed;
    int64_t epoch;        /* from 0 */
    bool shuffle;
    int64_t virtual_tokens; /* that every document gets in front */
} ft_rows_args;

/* Packing: with shuffling, best fit of the documents from long to short (as TRL's "bfd"), then the
 * rows are put in random order; without, documents fill rows in their order.  0 or FT_ENOMEM. */
int ft_rows_make(ft_row_plan *r, const ft_token_set *s, const ft_rows_args *a);
void ft_rows_free(ft_row_plan *r);
/* Tokens of row i, virtual ones included. */
int64_t ft_rows_tokens(const ft_row_plan *r, const ft_token_set *s, int64_t i,
                       int64_t virtual_tokens);
/* Positions of a row's tokens that carry loss. */
int64_t ft_rows_trained(const ft_row_plan *r, const ft_token_set *s, int64_t i);

/* Room for the arrays of a micro-batch of at most max_tokens tokens. */
typedef struct {
    ft_batch b;
    int64_t max_tokens, max_trained;
    int32_t *ids, *position, *row_start, *doc_start, *trained, *target;
} ft_micro;

uint64_t ft_micro_bytes(int64_t max_tokens, int64_t max_trained);
/* memory: ft_micro_bytes of it. */
void ft_micro_init(ft_micro *m, void *memory, int64_t max_tokens, int64_t max_trained);
/* Takes as many of the rows from `row` on, up to row `end`, as there is room for: at least one,
 * which must fit.  Returns the first row not taken. */
int64_t ft_micro_fill(ft_micro *m, const ft_row_plan *r, const ft_token_set *s, int64_t row,
                      int64_t end, int64_t virtual_tokens);

/* A permutation of 0 … n-1 from a key; the same for ever. */
void ft_permute(int64_t *v, int64_t n, uint64_t key);
#endif
