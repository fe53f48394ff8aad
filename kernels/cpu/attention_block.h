/* attention_block.h -- the gradients of one head's block of queries with one block of keys, which
 * attention_dx.c and attention_sums.c go through in their orders.
 *
 * The probabilities are computed again from the scores and lse (Dao et al. 2022, arXiv:2205.14135),
 * keys as rows:
 *
 *   S^T = K Q^T   P^T = e^(S^T - lse)   dP^T = V dO^T   dS^T = P^T (dP^T - D) slope,   D = do.o
 *   dq += dS K    dk += dS^T Q          dv += P^T dO
 *
 * All in fp32, scaled and rounded once at the end; with bf16, P and dS are rounded to bf16 before
 * these products: that is part of the op. */
#ifndef FT_CPU_ATTENTION_BLOCK_H
#define FT_CPU_ATTENTION_BLOCK_H
#include "attention.h"

enum { STRIP = 14, KEYS = 8 * STRIP, QUERIES = ATT_QUERIES, PANELS = QUERIES / GEMM_N };

/* ---- memory of a thread ---------------------------------------------------------------------- */

typedef struct {
    char *qt[PANELS], *dot[PANELS];    /* panels of Q^T and dO^T, 32 queries each */
    char *qc, *doc;                    /* panels of Q and dO, 32 features each */
    /* panels of K; room for packing; rows where a copy is needed */
    char *kc, *tmp, *krows, *vrows;
    char *p, *ds;                      /* P^T and dS^T of a block: [KEYS][QUERIES] */
    /* bf16: dS^T of one panel, pairs of keys side by side: [KEYS / 2][32] */
    uint32_t *pairs;
    float *s, *dp;                     /* S^T and dP^T of one panel: [KEYS][32] */
    float *lse, *d;                    /* [QUERIES] */
    float *dk, *dv;                    /* [KEYS][wide]: sums of extra keys */
    size_t bytes;
} layout;

/* Takes n bytes from *at. */
static inline void *take(char **at, int64_t n)
{
    char *p = *at;
    *at += att_round64(n);
    return p;
}

static inline layout lay_out(const ft_attention *a, ft_dtype t, void *scratch)
{
    int64_t wide = a->wide / GEMM_N, columns = wide * gemm_panel_bytes(t, QUERIES),
            floats = sizeof(float);
    char *at = (char *)scratch;
    layout l;
    for (int i = 0; i < PANELS; i++) {
        l.qt[i] = take(&at, gemm_panel_bytes(t, a->hd));
        l.dot[i] = take(&at, gemm_panel_bytes(t, a->hd));
    }
    l.qc = take(&at, columns);
    l.doc = take(&at, columns);
    l.kc = take(&at, wide * gemm_panel_bytes(t, KEYS));
    l.tmp = take(&at, gemm_pack_bytes(att_most(a->hd, QUERIES)));
    l.krows = take(&at, KEYS * a->even * floats);
    l.vrows = take(&at, KEYS * a->even * floats);
    l.p = take(&at, KEYS * QUERIES * floats);
    l.ds = take(&at, KEYS * QUERIES * floats);
    l.pairs = take(&at, KEYS / 2 * GEMM_N * floats);
    l.s = take(&at, KEYS * GEMM_N * floats);
    l.dp = take(&at, KEYS * GEMM_N * floats);
    l.lse = take(&at, QUERIES * floats);
    l.d = take(&at, QUERIES * floats);
    l.dk = take(&at, KEYS * a->wide * floats);
    l.dv = take(&at, KEYS * a->wide * floats);
    l.bytes = (size_t)(at - (char *)scratch);
    return l;
}

static inline ft_attention open_call(const ft_call *k) { return attention_open(k, 1, 6); }

static inline size_t scratch_f32(const ft_call *k)
{
    ft_attention a = open_call(k);
    return lay_out(&a, FT_F32, NULL).bytes;
}
static inline size_t scratch_bf16(const ft_call *k)
{
    ft_attention a = open_call(k);
    return lay_out(&a, FT_BF16, NULL).bytes;
}

/* ---- queries --------------------------------------------------------------------------------- */

/* n queries of head h: tokens from `token` on; the first is number `position` of its document. */
typedef struct { int64_t h, kv, token, n, position; } queries;

static inline float output_dot(const ft_attention *a, int64_t token, int64_t h, ft_dtype t)
{
    const void *dy = ft_row(&a->k->in[0], token), *o = ft_row(&a->k->in[4], token);
    v16 sum = v_zero();
    for (int64_t c = 0; c < a->hd; c += 16)
        sum = v_fma(v_in(dy, t, h * a->hd + c, a->hd - c), v_in(o, t, h * a->hd + c, a->hd - c),
                    sum);
    return v_sum(sum);
}

/* Packs the queries and what belongs to them.  Where a panel has no query, lse is infinite, so p is
 * 0. */
static inline void open_queries(const ft_attention *a, const layout *l, const queries *q,
                                ft_dtype t)
{
    ft_arg x = head_of(a->q, q->h, a->hd, q->token + q->n),
           y = head_of(&a->k->in[0], q->h, a->hd, q->token + q->n);
    const ft_arg *lse = &a->k->in[5];
    for (int64_t i = 0; i < q->n; i += GEMM_N) {
        FT_NAME(gemm_pack_rows)(l->qt[i / GEMM_N], &x, q->token + i, q->h * a->hd, a->hd, t,
            l->tmp);
        FT_NAME(gemm_pack_rows)(l->dot[i / GEMM_N], &y, q->token + i, q->h * a->hd, a->hd, t,
            l->tmp);
    }
    for (int64_t c = 0; c < a->hd; c += GEMM_N) {
        int64_t at = c / GEMM_N * gemm_panel_bytes(t, QUERIES);
        FT_NAME(gemm_pack_cols)(l->qc + at, &x, q->token, q->n, q->h * a->hd + c, t, l->tmp);
        FT_NAME(gemm_pack_cols)(l->doc + at, &y, q->token, q->n, q->h * a->hd + c, t, l->tmp);
    }
    for (int64_t i = 0; i < QUERIES; i++) {
        l->lse[i] = i < q->n ? ((const float *)lse->data)[(q->token + i) * lse->ld + q->h]
                             : INFINITY;
        l->d[i] = i < q->n ? output_dot(a, q->token + i, q->h, t) : 0;
    }
}

/* ---- one block of queries and keys ----------------------------------------------------------- */

/* n keys and values: rows row … of `key` and `value`; the first is number `first` of its document,
 * extra ones have none.  Sums: dq [queries][wide], dk and dv [keys][wide]; NULL where not
 * wanted. */
typedef struct {
    const ft_arg *key, *value;
    int64_t row, n, first;
    bool extra;
    float *dq, *dk, *dv;
} block;

/* Keys that a query of panel i sees, in whole strips. */
static inline range seen_by_panel(const ft_attention *a, const queries *q, const block *b,
                                  int64_t i)
{
    int64_t at = q->position + i * GEMM_N - b->first, n = att_least(GEMM_N, q->n - i * GEMM_N);
    if (b->extra) return (range){ 0, b->n };
    int64_t from = att_oldest(a, at) / STRIP * STRIP;
    int64_t to = att_least((att_most(at + n, 0) + STRIP - 1) / STRIP * STRIP, b->n);
    return from < to ? (range){ from, to } : (range){ 0, 0 };
}

/* The block's rows as steps of t: in place, or copied where pairs need a zero or the dtype
 * differs. */
static inline gemm_a rows_of(const ft_attention *a, const ft_arg *x, const block *b, int64_t kv,
                             char *copy, ft_dtype t)
{
    int64_t size = t == FT_BF16 ? 2 : 4;
    if (!x->packed && x->dtype == t && a->even == a->hd)
        return (gemm_a){ (const char *)x->data + (b->row * x->ld + kv * a->hd) * size, x->ld * size,
                         4 };
    FT_NAME(gemm_fetch)(copy, a->even, x, b->row, b->n, kv * a->hd, a->hd, t);
    for (int64_t i = 0; a->even > a->hd && i < b->n; i++)
        memset(copy + (i * a->even + a->hd) * size, 0, (size_t)size);
    return (gemm_a){ copy, a->even * size, 4 };
}

static inline gemm_a skip_rows(gemm_a a, int64_t n)
{
    return (gemm_a){ a.a + n * a.row, a.row, a.step };
}

/* Row r of S^T and dP^T, 16 queries from c on of the panel: p and ds.  Lanes outside [from, to) do
 * not see the key. */
static inline void probability(const ft_attention *a, const layout *l, int64_t panel, int64_t r,
                               int64_t c, int64_t from, int64_t to, v16 *p, v16 *ds)
{
    v16 x = v_mul(v_load(l->s + r * GEMM_N + c), v_set(a->scale)), slope = v_set(1);
    if (a->cap > 0) {
        v16 u = v_tanh(v_div(x, v_set(a->cap)));
        x = v_mul(u, v_set(a->cap));
        slope = v_fma(v_sub(v_zero(), u), u, slope);
    }
    if (from > 0 || to < 16) x = v_keep(x, from, to);
    *p = v_exp(v_sub(x, v_load(l->lse + panel * GEMM_N + c)));
    v16 d = v_sub(v_load(l->dp + r * GEMM_N + c), v_load(l->d + panel * GEMM_N + c));
    *ds = v_mul(*p, a->cap > 0 ? v_mul(d, slope) : d);
}

/* P^T and dS^T of one panel of queries from its S^T and dP^T. */
static inline void do_rows(const ft_attention *a, const layout *l, const queries *q, const block *b,
                           int64_t panel, range seen, ft_dtype t)
{
    int64_t span = b->extra || a->window == 0 ? INT32_MAX : a->window; /* queries that see a key */
    for (int64_t r = seen.from; r < seen.to; r += 2) {
        bool two = r + 1 < seen.to;
        int64_t from = b->extra ? -span / 2 : b->first + r - q->position - panel * GEMM_N;
        for (int64_t c = 0; c < GEMM_N; c += 16) {
            v16 p[2], ds[2] = { v_zero(), v_zero() };
            for (int i = 0; i < 1 + two; i++) {
                probability(a, l, panel, r + i, c, from + i - c, from + i - c + span, &p[i],
                            &ds[i]);
                v_put(l->p, t, (r + i) * QUERIES + panel * GEMM_N + c, p[i]);
                v_put(l->ds, t, (r + i) * QUERIES + panel * GEMM_N + c, ds[i]);
            }
            if (t == FT_BF16) v_store_pairs(l->pairs + r / 2 * GEMM_N + c, ds[0], ds[1]);
        }
    }
}

/* dq of one panel += dS K. */
static inline void add_dq(const ft_attention *a, const layout *l, const queries *q, const block *b,
                          int64_t panel, range seen, ft_dtype t)
{
    int64_t n = att_least(GEMM_N, q->n - panel * GEMM_N), step = seen.from / (t == FT_BF16 ? 2 : 1);
    gemm_a ds = { (const char *)(l->pairs + step * GEMM_N), 4, GEMM_N * 4 };
    if (t == FT_F32)
        ds = (gemm_a){ l->ds + (seen.from * QUERIES + panel * GEMM_N) * 4, 4, QUERIES * 4 };
    gemm_b k = { l->kc + step * gemm_step_bytes(t), gemm_panel_bytes(t, KEYS), a->wide };
    FT_NAME(gemm_tile)(b->dq + panel * GEMM_N * a->wide, a->wide, ds, k, n,
        gemm_steps(t, seen.to - seen.from), t);
}

/* sum (dk or dv) += left (dS^T or P^T) times right (Q or dO), strip by strip over the queries that
 * see it. */
static inline void add_dkv(const ft_attention *a, const queries *q, const block *b, float *sum,
                           const char *left, const char *right, const range *seen, ft_dtype t)
{
    int64_t size = t == FT_BF16 ? 2 : 4, panels = (q->n + GEMM_N - 1) / GEMM_N;
    for (int64_t r = 0; r < b->n; r += STRIP) {
        int64_t first = 0, last = panels;
        while (first < panels && (seen[first].from > r || seen[first].to <= r)) first++;
        while (last > first && (seen[last - 1].from > r || seen[last - 1].to <= r)) last--;
        int64_t from = first * GEMM_N, n = att_least(last * GEMM_N, q->n) - from;
        if (first >= last) continue;
        gemm_a x = { left + (r * QUERIES + from) * size, QUERIES * size, 4 };
        gemm_b y = { right + gemm_steps(t, from) * gemm_step_bytes(t), gemm_panel_bytes(t, QUERIES),
                     a->wide };
        FT_NAME(gemm_tile)(sum + r * a->wide, a->wide, x, y, att_least(STRIP, b->n - r),
            gemm_steps(t, n), t);
    }
}

static inline void do_block(const ft_attention *a, const layout *l, const queries *q, block b,
                            ft_dtype t)
{
    range seen[PANELS];
    gemm_a key = rows_of(a, b.key, &b, q->kv, l->krows, t),
           value = rows_of(a, b.value, &b, q->kv, l->vrows, t);
    ft_arg view = head_of(b.key, q->kv, a->hd, b.row + b.n);
    for (int64_t c = 0; b.dq && c < a->hd; c += GEMM_N)
        FT_NAME(gemm_pack_cols)(l->kc + c / GEMM_N * gemm_panel_bytes(t, KEYS), &view, b.row, b.n,
            q->kv * a->hd + c, t,
         l->tmp);
    for (int64_t i = 0; i * GEMM_N < q->n; i++) {
        range s = seen[i] = seen_by_panel(a, q, &b, i);
        int64_t n = s.to - s.from;
        if (n == 0) continue;
        FT_NAME(gemm_first)(l->s + s.from * GEMM_N, GEMM_N, skip_rows(key, s.from),
            gemm_one(l->qt[i]), n,
            gemm_steps(t, a->hd),
         t);
        FT_NAME(gemm_first)(l->dp + s.from * GEMM_N, GEMM_N, skip_rows(value, s.from),
            gemm_one(l->dot[i]), n,
         gemm_steps(t, a->hd), t);
        do_rows(a, l, q, &b, i, s, t);
        if (b.dq) add_dq(a, l, q, &b, i, s, t);
    }
    if (b.dv) add_dkv(a, q, &b, b.dv, l->p, l->doc, seen, t);
    if (b.dk) add_dkv(a, q, &b, b.dk, l->ds, l->qc, seen, t);
}
#endif
