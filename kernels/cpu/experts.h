/* experts.h -- which rows each expert has: what the grouped kernels share.
 *
 * ids (T, slots) names the experts of each token.  Row t * slots + j is slot j of token t.  The
 * index lists the rows of each expert in ascending order; it is made by the first round of a
 * kernel, in the memory of the call, so that results depend on tokens alone and not on how they
 * were sorted. */
#ifndef FT_CPU_EXPERTS_H
#define FT_CPU_EXPERTS_H
#include "gemm.h"

typedef struct {
    int32_t *start; /* [experts + 1] rows of expert e: row[start[e]] … row[start[e + 1] - 1] */
    int32_t *hit;   /* [experts] those that have rows */
    int32_t *row;   /* [tokens * slots] */
    int32_t *n_hit;
} expert_index;

static inline size_t expert_index_bytes(const ft_arg *ids, int64_t experts)
{
    return (size_t)(2 * experts + 2 + ids->rows * ids->cols) * sizeof(int32_t);
}

static inline expert_index expert_index_at(const ft_call *k, int64_t experts)
{
    int32_t *p = k->shared;
    return (expert_index){ p, p + experts + 1, p + 2 * experts + 2, p + 2 * experts + 1 };
}

/* A counting sort, stable. */
static inline void expert_index_make(const ft_call *k, const ft_arg *ids, int64_t experts)
{
    expert_index x = expert_index_at(k, experts);
    const int32_t *id = ids->data;
    int64_t n = ft_rows(k, ids) * ids->cols;
    int32_t n_hit = 0, at = 0;
    memset(x.start, 0, (size_t)(experts + 1) * sizeof *x.start);
    for (int64_t i = 0; i < n; i++) x.start[id[i]]++;
    for (int64_t e = 0; e < experts; e++) {
        int32_t count = x.start[e];
        if (count) x.hit[n_hit++] = (int32_t)e;
        x.start[e] = at;
        at += count;
    }
    *x.n_hit = n_hit;
    for (int64_t i = 0; i < n; i++) x.row[x.start[id[i]]++] = (int32_t)i;
    for (int64_t e = experts; e > 0; e--) x.start[e] = x.start[e - 1]; /* back again */
    x.start[0] = 0;
}

static inline int64_t two_rounds(const ft_call *k)
{
    (void)k;
    return 2;
}

/* The n features from c on that row r has in x: x is (T, n) and serves all slots, or
 * (T, slots * n).  Copied as dtype t. */
static inline void expert_fetch(void *dst, const ft_arg *x, int64_t slots, int64_t width, int64_t r,
                                int64_t c, int64_t n, ft_dtype t)
{
    int64_t from = x->cols == width ? c : r % slots * width + c;
    FT_NAME(gemm_fetch)(dst, n, x, r / slots, 1, from, n, t);
}
#endif
