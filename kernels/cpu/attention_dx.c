/* attention_dx.c -- attention_dx, attention_dek, attention_dev, attention_dsinks: the gradients.
 *
 * The probabilities are computed again from the scores and lse (Dao et al. 2022, arXiv:2205.14135),
 * for a block of queries of one head and a block of keys at a time, keys as rows:
 *
 *   S^T = K Q^T   P^T = e^(S^T - lse)   dP^T = V dO^T   dS^T = P^T (dP^T - D) slope,   D = do.o
 *   dq += dS K    dk += dS^T Q          dv += P^T dO
 *
 * dq of a query is one sum over keys in ascending order, extra ones first.  dk and dv of a key are
 * one sum over blocks of ATT_QUERIES queries, then heads of its group, then queries.  All in fp32,
 * scaled and rounded once at the end; with bf16, P and dS are rounded to bf16 before these
 * products: that is part of the op.  The sums stay in shared memory: (heads + 2 kv_heads) head_dim
 * floats a token.
 *
 * For threads, a document's queries and keys are cut into runs.  A run of queries and a run of keys
 * are a tile; tile (i, j) is done in round i + j, so that no two tiles of a round share a sum, and
 * every sum meets its terms in the order above, however long runs are.
 *
 * Gradients of extra keys and values and of sinks are sums over tokens: over blocks
 * (ft_next_block), each from zero, added in order. */
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
static void *take(char **at, int64_t n)
{
    char *p = *at;
    *at += att_round64(n);
    return p;
}

static layout lay_out(const ft_attention *a, ft_dtype t, void *scratch)
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

static ft_attention open_call(const ft_call *k) { return attention_open(k, 1, 6); }

static size_t scratch_f32(const ft_call *k)
{
    ft_attention a = open_call(k);
    return lay_out(&a, FT_F32, NULL).bytes;
}
static size_t scratch_bf16(const ft_call *k)
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

typedef struct { int64_t from, to; } range; /* of keys in a block */

/* Keys that a query of panel i sees, in whole strips. */
static range seen_by_panel(const ft_attention *a, const queries *q, const block *b, int64_t i)
{
    int64_t at = q->position + i * GEMM_N - b->first, n = att_least(GEMM_N, q->n - i * GEMM_N);
    if (b->extra) return (range){ 0, b->n };
    int64_t from = a->window > 0 ? att_most(at - a->window + 1, 0) / STRIP * STRIP : 0;
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

static gemm_a skip_rows(gemm_a a, int64_t n) { return (gemm_a){ a.a + n * a.row, a.row, a.step }; }

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

/* ---- attention_dx: runs and tiles ------------------------------------------------------------ */

/* A tile of a document and key head: run i of queries with run j of keys; the runs themselves, and
 * the tiles in which each meets the other's first and last. */
typedef struct {
    int64_t doc, start, len, kv, i, j;
    range query, key;
    bool first_i, last_i, first_j, last_j;
} tile;

/* Blocks of queries (or of keys) in a run: a whole document's, unless its tiles one after the other
 * would take longer than a thread's share of all work.  Work is counted in squares of lengths. */
static int64_t run_blocks(const ft_attention *a)
{
    const ft_batch *b = a->k->batch;
    int64_t longest = 1, work = 0, threads = a->k->threads, runs = 1;
    for (int64_t d = 0; d < b->n_docs; d++) {
        int64_t n = b->doc_start[d + 1] - b->doc_start[d];
        longest = att_most(longest, n);
        work += a->kv_heads * n * n / 2;
    }
    while (threads > 1 && runs * QUERIES < longest &&
           (runs == 1 ? 1 : 4) * longest * longest / runs * threads > work)
        runs *= 2;
    return (longest + runs * KEYS - 1) / (runs * KEYS);
}

/* Runs of `step` that document doc has. */
static int64_t runs_of(const ft_attention *a, int64_t doc, int64_t step)
{
    return (a->k->batch->doc_start[doc + 1] - a->k->batch->doc_start[doc] + step - 1) / step;
}

static range run_at(int64_t i, int64_t step, int64_t len)
{
    return (range){ i * step, att_least((i + 1) * step, len) };
}

/* The tile of query run i and key run j of a document, if any of the queries sees one of the
 * keys. */
static bool open_tile(const ft_attention *a, int64_t blocks, int64_t doc, int64_t i, int64_t j,
                      tile *out)
{
    const ft_batch *b = a->k->batch;
    int64_t start = b->doc_start[doc], len = b->doc_start[doc + 1] - start, qs = blocks * QUERIES,
            ks = blocks * KEYS;
    if (i < 0 || j < 0 || i * qs >= len || j * ks >= len) return false;
    range q = run_at(i, qs, len), k = run_at(j, ks, len);
    int64_t oldest = a->window > 0 ? att_most(q.from - a->window + 1, 0) : 0;
    int64_t newest = a->window > 0 ? att_least(k.to + a->window - 2, len - 1) : len - 1;
    if (k.to <= oldest || k.from >= q.to) return false;
    *out = (tile){ .doc = doc, .start = start, .len = len, .i = i, .j = j, .query = q, .key = k,
                   .first_j = j == oldest / ks, .last_j = j == (q.to - 1) / ks,
                   .first_i = i == k.from / qs, .last_i = i == newest / qs };
    return true;
}

/* Finds tile number `item` of the call's round; returns how many there are before it, or in all. */
static int64_t find_tile(const ft_attention *a, int64_t item, tile *out)
{
    int64_t blocks = run_blocks(a), n = 0, round = a->k->round;
    for (int64_t doc = 0; doc < a->k->batch->n_docs; doc++) {
        int64_t runs = runs_of(a, doc, blocks * QUERIES);
        for (int64_t i = 0; i < runs && i <= round; i++) {
            if (!open_tile(a, blocks, doc, i, round - i, out)) continue;
            out->kv = item - n;
            if (out->kv < a->kv_heads) return item;
            n += a->kv_heads;
        }
    }
    return n;
}

static int64_t dx_items(const ft_call *k)
{
    ft_attention a = open_call(k);
    tile none;
    return find_tile(&a, INT64_MAX, &none);
}

static int64_t dx_rounds(const ft_call *k)
{
    ft_attention a = open_call(k);
    int64_t blocks = run_blocks(&a), n = 0;
    for (int64_t d = 0; d < k->batch->n_docs; d++)
        n = att_most(n, runs_of(&a, d, blocks * QUERIES) + runs_of(&a, d, blocks * KEYS) - 1);
    return n;
}

/* Shared memory: sums [heads][tokens][wide] of dq, then [kv_heads][tokens][wide] of dk and of
 * dv. */
static size_t dx_shared(const ft_call *k)
{
    ft_attention a = open_call(k);
    return (size_t)((a.heads + 2 * a.kv_heads) * ft_rows(k, a.q) * a.wide) * sizeof(float);
}

/* Where the sums of head h and token `token` lie in part 0 (dq), 1 (dk), 2 (dv). */
static float *sums(const ft_attention *a, int part, int64_t h, int64_t token)
{
    int64_t heads = part == 0 ? 0 : part == 1 ? a->heads : a->heads + a->kv_heads;
    return (float *)a->k->shared + ((heads + h) * ft_rows(a->k, a->q) + token) * a->wide;
}

static void clear_sums(const ft_attention *a, int part, int64_t h, int64_t token, int64_t n)
{
    memset(sums(a, part, h, token), 0, (size_t)(n * a->wide) * sizeof(float));
}

/* Scales and rounds n tokens' sums into output `part`. */
static inline void put_sums(const ft_attention *a, int part, int64_t h, int64_t token, int64_t n,
                            ft_dtype t)
{
    v16 by = v_set(part < 2 ? a->scale : 1);
    for (int64_t i = token; i < token + n; i++) {
        for (int64_t c = 0; c < a->hd; c += 16)
            v_out(ft_row(&a->k->out[part], i), t, h * a->hd + c, a->hd - c,
                  v_mul(v_load(sums(a, part, h, i) + c), by));
    }
}

/* One head's block of queries and the tile's keys, after the extra ones if the tile is the run's
 * first. */
static inline void do_queries(const ft_attention *a, const layout *l, const tile *x,
                              const queries *q, ft_dtype t)
{
    float *dq = sums(a, 0, q->h, q->token);
    int64_t from = a->window > 0 ? att_most(q->position - a->window + 1, 0) / KEYS * KEYS : 0;
    int64_t to = att_least(x->key.to, q->position + q->n);
    if (x->first_j) clear_sums(a, 0, q->h, q->token, q->n);
    open_queries(a, l, q, t);
    for (int64_t j = 0; x->first_j && j < a->n_extra; j += KEYS)
        do_block(a, l, q,
                 (block){ a->ek, a->ev, j, att_least(KEYS, a->n_extra - j), 0, true, dq, NULL,
                          NULL },
                 t);
    for (int64_t j = att_most(x->key.from, from); j < to; j += KEYS) {
        int64_t row = x->start + j;
        do_block(a, l, q,
                 (block){ a->key, a->value, row, att_least(KEYS, to - j), j, false, dq,
                          sums(a, 1, q->kv, row), sums(a, 2, q->kv, row) },
                 t);
    }
    if (x->last_j) put_sums(a, 0, q->h, q->token, q->n, t);
}

__attribute__((always_inline))
static inline void dx(const ft_call *k, int64_t begin, int64_t end, void *scratch, ft_dtype t)
{
    ft_attention a = open_call(k);
    layout l = lay_out(&a, t, scratch);
    for (int64_t item = begin; item < end; item++) {
        tile x;
        find_tile(&a, item, &x);
        int64_t row = x.start + x.key.from, n = x.key.to - x.key.from;
        for (int part = 1; x.first_i && part < 3; part++) clear_sums(&a, part, x.kv, row, n);
        for (int64_t i = x.query.from; i < x.query.to; i += QUERIES) {
            for (int64_t h = 0; h < a.group; h++)
                do_queries(&a, &l, &x,
                           &(queries){ x.kv * a.group + h, x.kv, x.start + i,
                                       att_least(QUERIES, x.query.to - i), i },
                           t);
        }
        for (int part = 1; x.last_i && part < 3; part++) put_sums(&a, part, x.kv, row, n, t);
    }
}

/* ---- sums over tokens: extra keys and values, sinks ------------------------------------------ */

/* Items are blocks of extra keys of one key head. */
static int64_t extra_items(const ft_call *k)
{
    ft_attention a = open_call(k);
    return a.kv_heads * ((a.n_extra + KEYS - 1) / KEYS);
}

/* Sums of a block of tokens, in l->dk or l->dv, into the output. */
static void add_extra(const ft_attention *a, const float *sum, int64_t kv, int64_t row, int64_t n,
                      float by)
{
    for (int64_t i = 0; i < n; i++) {
        float *to = (float *)a->k->out[0].data + (row + i) * a->k->out[0].ld + kv * a->hd;
        for (int64_t c = 0; c < a->hd; c += 16)
            v_out(to, FT_F32, c, a->hd - c,
                  v_add(v_in(to, FT_F32, c, a->hd - c),
                        v_mul(v_load(sum + i * a->wide + c), v_set(by))));
    }
}

__attribute__((always_inline)) static inline void extra(const ft_call *k, int64_t begin,
                                                        int64_t end, void *scratch, bool of_values,
                                                        ft_dtype t)
{
    ft_attention a = open_call(k);
    layout l = lay_out(&a, t, scratch);
    int64_t blocks = (a.n_extra + KEYS - 1) / KEYS;
    float *sum = of_values ? l.dv : l.dk;
    for (int64_t item = begin; item < end; item++) {
        int64_t kv = item / blocks, row = item % blocks * KEYS,
                n = att_least(KEYS, a.n_extra - row);
        for (int64_t i = 0; i < n && !k->accumulate; i++)
            memset((float *)k->out[0].data + (row + i) * k->out[0].ld + kv * a.hd, 0,
                   (size_t)a.hd * sizeof(float));
        for (ft_block b = { 0 }; ft_next_block(k, a.q, &b);) {
            memset(sum, 0, (size_t)(n * a.wide) * sizeof(float));
            for (int64_t i = b.begin; i < b.end; i += QUERIES) {
                for (int64_t h = kv * a.group; h < (kv + 1) * a.group; h++) {
                    queries q = { h, kv, i, att_least(QUERIES, b.end - i), 0 };
                    open_queries(&a, &l, &q, t);
                    do_block(&a, &l, &q,
                             (block){ a.ek, a.ev, row, n, 0, true, NULL, of_values ? NULL : sum,
                                      of_values ? sum : NULL },
                             t);
                }
            }
            add_extra(&a, sum, kv, row, n, of_values ? 1 : a.scale);
        }
    }
}

static int64_t sink_items(const ft_call *k) { return (int64_t)k->attr[HEADS]; }

/* Tokens of a block go to 16 lanes in turn. */
__attribute__((always_inline))
static inline void sinks(const ft_call *k, int64_t begin, int64_t end, ft_dtype t)
{
    ft_attention a = open_call(k);
    const ft_arg *lse = &k->in[5];
    for (int64_t h = begin; h < end; h++) {
        float *out = (float *)k->out[0].data + h, total = k->accumulate ? *out : 0;
        for (ft_block b = { 0 }; ft_next_block(k, a.q, &b);) {
            v16 sum = v_zero();
            for (int64_t i = b.begin; i < b.end; i += 16) {
                float e[16], d[16];
                for (int64_t j = 0; j < 16; j++) {
                    bool there = i + j < b.end;
                    e[j] = there ? ((const float *)lse->data)[(i + j) * lse->ld + h] : INFINITY;
                    d[j] = there ? output_dot(&a, i + j, h, t) : 0;
                }
                sum = v_fma(v_exp(v_sub(v_set((float)ft_get(a.sinks, 0, h)), v_load(e))), v_load(d),
                            sum);
            }
            total -= v_sum(sum);
        }
        *out = total;
    }
}

static void dx_f32(const ft_call *k, int64_t b, int64_t e, void *s) { dx(k, b, e, s, FT_F32); }
static void dx_bf16(const ft_call *k, int64_t b, int64_t e, void *s) { dx(k, b, e, s, FT_BF16); }
static void dek_f32(const ft_call *k, int64_t b, int64_t e, void *s)
{
    extra(k, b, e, s, false, FT_F32);
}
static void dek_bf16(const ft_call *k, int64_t b, int64_t e, void *s)
{
    extra(k, b, e, s, false, FT_BF16);
}
static void dev_f32(const ft_call *k, int64_t b, int64_t e, void *s)
{
    extra(k, b, e, s, true, FT_F32);
}
static void dev_bf16(const ft_call *k, int64_t b, int64_t e, void *s)
{
    extra(k, b, e, s, true, FT_BF16);
}
static void dsinks_f32(const ft_call *k, int64_t b, int64_t e, void *s)
{
    (void)s;
    sinks(k, b, e, FT_F32);
}
static void dsinks_bf16(const ft_call *k, int64_t b, int64_t e, void *s)
{
    (void)s;
    sinks(k, b, e, FT_BF16);
}

#define ROW(name, t, room, count, fn)                                                       \
    {                                                                                       \
        .size = sizeof(ft_kernel), .op = name, .dtype = t, .scratch = room, .items = count, \
        .run = fn                                                                           \
    }
static const ft_kernel kernels[] = {
    { sizeof(ft_kernel), "attention_dx", FT_F32, scratch_f32, dx_items, dx_f32, dx_rounds,
      dx_shared },
    { sizeof(ft_kernel), "attention_dx", FT_BF16, scratch_bf16, dx_items, dx_bf16, dx_rounds,
      dx_shared },
    ROW("attention_dek", FT_F32, scratch_f32, extra_items, dek_f32),
    ROW("attention_dek", FT_BF16, scratch_bf16, extra_items, dek_bf16),
    ROW("attention_dev", FT_F32, scratch_f32, extra_items, dev_f32),
    ROW("attention_dev", FT_BF16, scratch_bf16, extra_items, dev_bf16),
    ROW("attention_dsinks", FT_F32, NULL, sink_items, dsinks_f32),
    ROW("attention_dsinks", FT_BF16, NULL, sink_items, dsinks_bf16),
};
FT_TABLE(attention_dx, kernels)
