/* attention.c -- attention, attention_cached: causal attention inside documents, grouped-query,
 * with optional window, score softcap, sinks, and extra keys and values that every document sees
 * first.
 *
 * Dao et al. 2022, arXiv:2205.14135: keys are taken block by block, a query keeps its greatest
 * score m, the sum l of e^(s - m) and the sum of e^(s - m) v, and rescales them when m grows:
 *
 *   m' = max(m, max_j s_j)   c = e^(m - m')   l' = c l + sum_j e^(s_j - m')   a' = c a + sum_j
 *   e^(s_j - m') v_j o = a / l                lse = m + log l  (a sink is a first score without a
 *   value)
 *
 * An item is a block of queries of one document and all heads (at most MANY) that share a key head,
 * as rows of one matrix; it packs each block of keys and values once, and goes through its rows in
 * strips. Memory does not grow with the length.  A query's numbers depend on the order of key
 * blocks alone, which start at the document's first token: not on the rows beside it.  Scores, m, l
 * and a are fp32; with bf16, e^(s - m) is rounded to bf16 before it meets v (but not for l): that
 * is part of the op. */
#include "attention.h"

enum { STRIP = 12, MANY = 8 };

/* ---- items ----------------------------------------------------------------------------------- */

/* Queries of a head in an item: rows enough to make up for packing the keys. */
static int64_t item_queries(const ft_attention *a) { return STRIP * (12 / att_least(a->group, 3)); }
static int64_t item_heads(const ft_attention *a) { return att_least(a->group, MANY); }
static int64_t parts_of(const ft_attention *a) { return (a->group + MANY - 1) / MANY; }

static ft_attention open_call(const ft_call *k, bool cached)
{
    ft_attention a = attention_open(k, 0, cached ? 5 : 3);
    if (cached) a.key = &k->in[3], a.value = &k->in[4];
    return a;
}

/* Items of a document: blocks of queries by key heads by parts of a group. */
static int64_t items_of_doc(const ft_attention *a, int64_t doc)
{
    int64_t n = a->k->batch->doc_start[doc + 1] - a->k->batch->doc_start[doc],
            step = item_queries(a);
    return (n + step - 1) / step * a->kv_heads * parts_of(a);
}

static int64_t all_items(const ft_call *k, bool cached)
{
    ft_attention a = open_call(k, cached);
    int64_t n = 0;
    for (int64_t d = 0; d < k->batch->n_docs; d++) n += items_of_doc(&a, d);
    return n;
}
static int64_t attention_items(const ft_call *k) { return all_items(k, false); }
static int64_t cached_items(const ft_call *k) { return all_items(k, true); }

/* Queries token … token+n-1 of heads head … head+heads-1.  Their keys start at row `origin`; the
 * first query is number `position` of its document. */
typedef struct { int64_t kv, head, heads, token, n, origin, position; } piece;

/* The longest sums come first, so that threads end together. */
static piece piece_of(const ft_attention *a, int64_t doc, int64_t item, bool cached)
{
    const ft_batch *b = a->k->batch;
    int64_t parts = parts_of(a), step = item_queries(a),
            n = b->doc_start[doc + 1] - b->doc_start[doc];
    int64_t part = item % parts, block = (n + step - 1) / step - 1 - item / parts / a->kv_heads;
    piece p = { .kv = item / parts % a->kv_heads };
    p.head = p.kv * a->group + part * MANY;
    p.heads = att_least(MANY, a->group - part * MANY);
    p.token = b->doc_start[doc] + block * step;
    p.n = att_least(step, n - block * step);
    p.origin = cached ? b->slot[doc] * b->slot_tokens : b->doc_start[doc];
    p.position = block * step + (cached ? b->cached[doc] : 0);
    return p;
}

/* ---- memory of an item ----------------------------------------------------------------------- */

typedef struct {
    char *q, *keys, *values, *tmp; /* rows of queries; panels; room for packing */
    float *score;                  /* [STRIP][ATT_KEYS]; e^(s - m) takes its place */
    float *sum;                    /* [rows][wide] a */
    float *m, *l;                  /* [rows] */
    size_t bytes;
} layout;

static layout lay_out(const ft_attention *a, ft_dtype t, void *scratch)
{
    int64_t rows = item_queries(a) * item_heads(a);
    int64_t key_panels = gemm_panel_bytes(t, a->hd) * (ATT_KEYS / GEMM_N);
    layout l = { .q = (char *)scratch };
    l.keys = l.q + att_round64(rows * a->even * (t == FT_BF16 ? 2 : 4));
    l.values = l.keys + key_panels;
    l.tmp = l.values + gemm_panel_bytes(t, ATT_KEYS) * (a->wide / GEMM_N);
    l.score = (float *)(void *)(l.tmp + gemm_pack_bytes(att_most(a->hd, ATT_KEYS)));
    l.sum = l.score + STRIP * ATT_KEYS;
    l.m = l.sum + rows * a->wide;
    l.l = l.m + rows;
    l.bytes = (size_t)((char *)(l.l + rows) - (char *)scratch);
    return l;
}

static size_t scratch_bytes(const ft_call *k, bool cached, ft_dtype t)
{
    ft_attention a = open_call(k, cached);
    return lay_out(&a, t, NULL).bytes;
}

/* Row h n + i of the item is query i of its head h. */
static void start_rows(const ft_attention *a, const layout *l, const piece *p, ft_dtype t)
{
    int64_t size = t == FT_BF16 ? 2 : 4;
    memset(l->q, 0, (size_t)(p->heads * p->n * a->even * size));
    memset(l->sum, 0, (size_t)(p->heads * p->n * a->wide) * sizeof *l->sum);
    for (int64_t h = 0; h < p->heads; h++) {
        float sink = a->sinks ? (float)ft_get(a->sinks, 0, p->head + h) : -3.0e38f;
        FT_NAME(gemm_fetch)(l->q + h * p->n * a->even * size, a->even, a->q, p->token, p->n,
            (p->head + h) * a->hd,
         a->hd, t);
        for (int64_t i = 0; i < p->n; i++) {
            l->m[h * p->n + i] = sink;
            l->l[h * p->n + i] = a->sinks ? 1 : 0;
        }
    }
}

/* ---- one block of keys ----------------------------------------------------------------------- */

/* n keys and values: rows row … of `key` and `value`.  first: number of the first one in its
 * document; extra ones, which every query sees, have none. */
typedef struct { const ft_arg *key, *value; int64_t row, n, first; bool extra; } block;

static void pack_block(const ft_attention *a, const layout *l, const piece *p, const block *b,
                       ft_dtype t)
{
    ft_arg key = head_of(b->key, p->kv, a->hd, b->row + b->n),
           value = head_of(b->value, p->kv, a->hd, b->row + b->n);
    for (int64_t j = 0; j < b->n; j += GEMM_N)
        FT_NAME(gemm_pack_rows)(l->keys + j / GEMM_N * gemm_panel_bytes(t, a->hd), &key, b->row + j,
            p->kv * a->hd, a->hd,
         t, l->tmp);
    for (int64_t c = 0; c < a->hd; c += GEMM_N)
        FT_NAME(gemm_pack_cols)(l->values + c / GEMM_N * gemm_panel_bytes(t, ATT_KEYS), &value,
            b->row, b->n,
         p->kv * a->hd + c, t, l->tmp);
}

/* Keys of a block that the query of row r sees. */
static range seen_by(const ft_attention *a, const piece *p, const block *b, int64_t r)
{
    int64_t at = p->position + r % p->n - b->first;
    if (b->extra) return (range){ 0, b->n };
    range s = { att_oldest(a, at), att_least(at + 1, b->n) };
    return s.from < s.to ? s : (range){ 0, 0 };
}

/* Those that any of the rows sees; it starts at a panel. */
static range seen_by_rows(const ft_attention *a, const piece *p, const block *b, int64_t r0,
                          int64_t n)
{
    range all = { b->n, 0 };
    for (int64_t r = r0; r < r0 + n; r++) {
        range s = seen_by(a, p, b, r);
        if (s.to == 0) continue;
        all.from = att_least(all.from, s.from);
        all.to = att_most(all.to, s.to);
    }
    all.from = all.from / GEMM_N * GEMM_N;
    return all;
}

/* Scores of one row from its products, in place; returns the greatest. */
static inline float score_row(const ft_attention *a, float *s, range all, range seen)
{
    v16 greatest = v_set(-INFINITY), scale = v_set(a->scale), cap = v_set(a->cap);
    for (int64_t j = all.from; j < all.to; j += 16) {
        v16 x = v_mul(v_load(s + j), scale);
        if (a->cap > 0) x = v_mul(cap, v_tanh(v_div(x, cap)));
        if (j < seen.from || j + 16 > seen.to) x = v_keep(x, seen.from - j, seen.to - j);
        v_store(s + j, x);
        greatest = v_max(greatest, x);
    }
    return v_greatest(greatest);
}

/* e^(s - m) of one row, rounded to t in place; returns their sum. */
static inline float exp_row(float *s, range all, float m, ft_dtype t)
{
    v16 sum = v_zero(), greatest = v_set(m);
    for (int64_t j = all.from; j < all.to; j += 16) {
        v16 e = v_exp(v_sub(v_load(s + j), greatest));
        v_put(s, t, j, e);
        sum = v_add(sum, e);
    }
    return v_sum(sum);
}

static inline void rescale_row(float *sum, int64_t n, float by)
{
    for (int64_t c = 0; c < n; c += 16) v_store(sum + c, v_mul(v_load(sum + c), v_set(by)));
}

/* Rows r0 … of the item, at most STRIP, meet the block. */
static inline void do_strip(const ft_attention *a, const layout *l, const piece *p, const block *b,
                            int64_t r0, int64_t n, ft_dtype t)
{
    int64_t size = t == FT_BF16 ? 2 : 4, per = t == FT_BF16 ? 2 : 1; /* numbers a step */
    range all = seen_by_rows(a, p, b, r0, n);
    if (all.from >= all.to) return;
    gemm_a q = { l->q + r0 * a->even * size, a->even * size, 4 };
    int64_t key_panel = gemm_panel_bytes(t, a->hd), value_panel = gemm_panel_bytes(t, ATT_KEYS);
    gemm_b keys = { l->keys + all.from / GEMM_N * key_panel, key_panel, all.to - all.from };
    FT_NAME(gemm_first)(l->score + all.from, ATT_KEYS, q, keys, n, gemm_steps(t, a->hd), t);
    float m[16] = { 0 }, by[16];
    for (int64_t i = 0; i < n; i++) {
        float greatest = score_row(a, l->score + i * ATT_KEYS, all, seen_by(a, p, b, r0 + i));
        m[i] = greatest > l->m[r0 + i] ? greatest : l->m[r0 + i];
    }
    v_store(by, v_exp(v_sub(v_in(l->m + r0, FT_F32, 0, n), v_load(m))));
    for (int64_t i = 0; i < n; i++) {
        float sum = exp_row(l->score + i * ATT_KEYS, all, m[i], t);
        l->l[r0 + i] = l->l[r0 + i] * by[i] + sum;
        l->m[r0 + i] = m[i];
        if (by[i] != 1) rescale_row(l->sum + (r0 + i) * a->wide, a->wide, by[i]);
    }
    gemm_a e = { (const char *)l->score + all.from * size, ATT_KEYS * 4, 4 };
    gemm_b values = { l->values + all.from / per * gemm_step_bytes(t), value_panel, a->wide };
    FT_NAME(gemm_tile)(l->sum + r0 * a->wide, a->wide, e, values, n,
        gemm_steps(t, all.to - all.from), t);
}

/* ---- an item --------------------------------------------------------------------------------- */

static inline void do_block(const ft_attention *a, const layout *l, const piece *p, block b,
                            ft_dtype t)
{
    int64_t rows = p->heads * p->n;
    pack_block(a, l, p, &b, t);
    for (int64_t r = 0; r < rows; r += STRIP)
        do_strip(a, l, p, &b, r, att_least(STRIP, rows - r), t);
}

/* o = a / l, and lse where it is asked for. */
static inline void finish_rows(const ft_attention *a, const layout *l, const piece *p, ft_dtype t)
{
    const ft_call *k = a->k;
    float *lse = k->n_out > 1 ? (float *)k->out[1].data : NULL;
    int64_t rows = p->heads * p->n;
    for (int64_t r = 0; r < rows; r++) {
        int64_t h = p->head + r / p->n, token = p->token + r % p->n;
        v16 by = v_set(1 / l->l[r]);
        for (int64_t c = 0; c < a->hd; c += 16)
            v_out(ft_row(&k->out[0], token), t, h * a->hd + c, a->hd - c,
                  v_mul(v_load(l->sum + r * a->wide + c), by));
    }
    for (int64_t r = 0; lse && r < rows; r += 16) {
        float x[16];
        v_store(x, v_add(v_in(l->m + r, FT_F32, 0, rows - r),
                         v_log(v_in(l->l + r, FT_F32, 0, rows - r))));
        for (int64_t i = r; i < r + 16 && i < rows; i++)
            lse[(p->token + i % p->n) * k->out[1].ld + p->head + i / p->n] = x[i - r];
    }
}

__attribute__((always_inline)) static inline void run(const ft_call *k, int64_t begin, int64_t end,
                                                      void *scratch, bool cached, ft_dtype t)
{
    ft_attention a = open_call(k, cached);
    layout l = lay_out(&a, t, scratch);
    int64_t doc = 0, before = 0;
    for (int64_t i = begin; i < end; i++) {
        while (i - before >= items_of_doc(&a, doc)) before += items_of_doc(&a, doc++);
        piece p = piece_of(&a, doc, i - before, cached);
        int64_t end_key = p.position + p.n,
                first = att_oldest(&a, p.position);
        start_rows(&a, &l, &p, t);
        for (int64_t j = 0; j < a.n_extra; j += ATT_KEYS)
            do_block(&a, &l, &p,
                     (block){ a.ek, a.ev, j, att_least(ATT_KEYS, a.n_extra - j), 0, true }, t);
        for (int64_t j = first / ATT_KEYS * ATT_KEYS; j < end_key; j += ATT_KEYS)
            do_block(&a, &l, &p,
                     (block){ a.key, a.value, p.origin + j, att_least(ATT_KEYS, end_key - j), j,
                              false },
                     t);
        finish_rows(&a, &l, &p, t);
    }
}

#define VARIANT(name, suffix, cached, t)                                         \
    static void name##_##suffix(const ft_call *k, int64_t b, int64_t e, void *s) \
    {                                                                            \
        run(k, b, e, s, cached, t);                                              \
    }                                                                            \
    static size_t name##_scratch_##suffix(const ft_call *k) { return scratch_bytes(k, cached, t); }
VARIANT(attention, f32, false, FT_F32)
VARIANT(attention, bf16, false, FT_BF16)
VARIANT(cached, f32, true, FT_F32)
VARIANT(cached, bf16, true, FT_BF16)

#define ROW(op_name, name, suffix, t)                                                             \
    {                                                                                             \
        .size = sizeof(ft_kernel), .op = op_name, .dtype = t, .scratch = name##_scratch_##suffix, \
        .items = name##_items, .run = name##_##suffix                                             \
    }
static const ft_kernel kernels[] = {
    ROW("attention", attention, f32, FT_F32), ROW("attention", attention, bf16, FT_BF16),
    ROW("attention_cached", cached, f32, FT_F32), ROW("attention_cached", cached, bf16, FT_BF16),
};
FT_TABLE(attention, kernels)
