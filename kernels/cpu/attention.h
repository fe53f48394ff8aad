/* attention.h -- what the attention files share: the op's arguments, and the sizes that its numbers
 * depend on.
 *
 *   attention(q, k, v[, sinks][, ek, ev])                    → o, lse
 *   attention_cached(q, k, v, K, V[, sinks][, ek, ev])       → o
 *   attention_dx(do, q, k, v, o, lse[, sinks][, ek, ev])     → dq, dk, dv;  _dsinks, _dek, _dev
 *   alike
 *
 * q (T, heads * hd); k, v (T, kv_heads * hd); sinks (heads); ek, ev (extra, kv_heads * hd).  A
 * group of heads / kv_heads query heads shares one key head.
 *
 *   s_j = scale q.k_j, softcapped: cap tanh(s / cap);  j from max(0, i - window + 1) to i, and all
 *   extra p = softmax over the s_j and the head's sink;  o = sum p_j v_j;  lse = log sum e^s
 *   D = do.o;  ds_j = p_j (do.v_j - D) (1 - tanh^2);  dq = scale sum ds_j k_j;  dk_j = scale sum ds
 *   q; dv_j = sum p_j do;  dsink = -p_sink D */
#ifndef FT_CPU_ATTENTION_H
#define FT_CPU_ATTENTION_H
#include "gemm.h"

enum { HEADS, KV_HEADS, WINDOW, SCALE, CAP, OPTIONS }; /* attributes */
enum { SINKS = 1, EXTRA = 2 };                         /* options */

/* Keys are taken in blocks of this many, counted from the document's first token; extra keys come
 * first, in blocks of their own.  The softmax is rescaled once a block, so the size is part of what
 * the op computes, as is the order of blocks. */
enum { ATT_KEYS = 128 };
/* Queries of one head whose gradients of keys are summed before the next head's, counted
 * likewise. */
enum { ATT_QUERIES = 128 };

typedef struct {
    const ft_call *k;
    int64_t heads, kv_heads, group, hd, wide, even, window, n_extra;
    float scale, cap;
    const ft_arg *q, *key, *value, *sinks, *ek, *ev; /* sinks, ek, ev: NULL where there are none */
} ft_attention;

/* The call's arguments; q is input number `base`, what is optional starts at input `optional`.
 * wide: head_dim up to whole panels; even: up to whole pairs. */
static inline ft_attention attention_open(const ft_call *k, int base, int optional)
{
    int options = (int)k->attr[OPTIONS];
    ft_attention a = { .k = k,
                       .heads = (int64_t)k->attr[HEADS],
                       .kv_heads = (int64_t)k->attr[KV_HEADS],
                       .window = (int64_t)k->attr[WINDOW],
                       .scale = (float)k->attr[SCALE],
                       .cap = (float)k->attr[CAP],
                       .q = &k->in[base],
                       .key = &k->in[base + 1],
                       .value = &k->in[base + 2] };
    a.group = a.heads / a.kv_heads;
    a.hd = a.q->cols / a.heads;
    a.wide = (a.hd + GEMM_N - 1) / GEMM_N * GEMM_N;
    a.even = a.hd + a.hd % 2;
    if (options & SINKS) a.sinks = &k->in[optional++];
    if (options & EXTRA) {
        a.ek = &k->in[optional];
        a.ev = &k->in[optional + 1];
        a.n_extra = a.ek->rows;
    }
    return a;
}

/* Columns of head h of an argument, rows before `end`: what gemm_pack_cols may read. */
static inline ft_arg head_of(const ft_arg *a, int64_t h, int64_t hd, int64_t end)
{
    ft_arg view = *a;
    view.rows = end;
    view.cols = (h + 1) * hd;
    return view;
}

typedef struct { int64_t from, to; } range; /* from … to - 1 */

static inline int64_t att_least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t att_most(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t att_clamp(int64_t x, int64_t lo, int64_t hi)
{
    return x < lo ? lo : x > hi ? hi : x;
}
/* The oldest key that a query sees whose own key is number `at`; none before number 0. */
static inline int64_t att_oldest(const ft_attention *a, int64_t at)
{
    return a->window > 0 ? att_most(at - a->window + 1, 0) : 0;
}
static inline int64_t att_round64(int64_t bytes) { return (bytes + 63) / 64 * 64; }

/* Lanes below `from` and from `to` on become minus infinity. */
static inline v16 v_keep(v16 x, int64_t from, int64_t to)
{
    static const float lane[16] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };
    v16 i = v_load(lane), none = v_set(-INFINITY);
    x = v_less(i, v_set((float)att_clamp(from, 0, 16)), none, x);
    return v_less(i, v_set((float)att_clamp(to, 0, 16)), x, none);
}

#endif
