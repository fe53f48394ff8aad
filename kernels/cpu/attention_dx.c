/* attention_dx.c -- attention_dx: the gradients of queries, keys and values (attention_block.h).
 *
 * dq of a query is one sum over keys in ascending order, extra ones first.  dk and dv of a key are
 * one sum over blocks of ATT_QUERIES queries, then heads of its group, then queries.  The sums stay
 * in shared memory: (heads + 2 kv_heads) head_dim floats a token.
 *
 * For threads, a document's queries and keys are cut into runs.  A run of queries i and a run of
 * keys j are a tile, done after (i, j - 1), which adds to the same dq, and after (i - 1, j), which
 * adds to the same dk and dv: so every sum meets its terms in the order above, however long runs
 * are and whoever does them.  Each thread takes a tile that may be done now until all are taken;
 * where there is none, it waits, first spinning, then on a futex. */
#include <linux/futex.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "attention_block.h"

enum { SPIN = 4000 }; /* 20 to 200 microseconds, by processor */

/* ---- attention_dx: runs and tiles ------------------------------------------------------------ */

/* A tile of a document, from token `start` on, and key head: a run of queries with a run of keys,
 * and whether each is the first and the last that the other meets. */
typedef struct {
    int64_t start, kv;
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

/* The first and the last of the key runs that a query run meets. */
typedef struct { int64_t first, last; } span;

static span key_runs(const ft_attention *a, int64_t blocks, int64_t doc, int64_t i)
{
    const ft_batch *b = a->k->batch;
    range q = run_at(i, blocks * QUERIES, b->doc_start[doc + 1] - b->doc_start[doc]);
    return (span){ att_oldest(a, q.from) / (blocks * KEYS), (q.to - 1) / (blocks * KEYS) };
}

/* The tile of query run i and key run j of a document, which meet. */
static tile open_tile(const ft_attention *a, int64_t blocks, int64_t doc, int64_t i, int64_t j)
{
    const ft_batch *b = a->k->batch;
    int64_t start = b->doc_start[doc], len = b->doc_start[doc + 1] - start, qs = blocks * QUERIES;
    range q = run_at(i, qs, len), k = run_at(j, blocks * KEYS, len);
    span met = key_runs(a, blocks, doc, i);
    int64_t newest = a->window > 0 ? att_least(k.to + a->window - 2, len - 1) : len - 1;
    return (tile){ .start = start, .query = q, .key = k,
                   .first_j = j == met.first, .last_j = j == met.last,
                   .first_i = i == k.from / qs, .last_i = i == newest / qs };
}

/* Shared memory: sums [heads][tokens][wide] of dq, then [kv_heads][tokens][wide] of dk and of dv;
 * then how far the tiles are (`progress`, then a `chain` for each run of queries and key head). */
static int64_t sum_floats(const ft_attention *a)
{
    return (a->heads + 2 * a->kv_heads) * ft_rows(a->k, a->q) * a->wide;
}

static size_t dx_shared(const ft_call *k)
{
    ft_attention a = open_call(k);
    return (size_t)(sum_floats(&a) + 2 + a.kv_heads * ft_rows(k, a.q)) * sizeof(float);
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
    int64_t from = att_oldest(a, q->position) / KEYS * KEYS;
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
static inline void do_tile(const ft_attention *a, const layout *l, const tile *x, ft_dtype t)
{
    int64_t row = x->start + x->key.from, n = x->key.to - x->key.from;
    for (int part = 1; x->first_i && part < 3; part++) clear_sums(a, part, x->kv, row, n);
    for (int64_t i = x->query.from; i < x->query.to; i += QUERIES) {
        for (int64_t h = 0; h < a->group; h++)
            do_queries(a, l, x,
                       &(queries){ x->kv * a->group + h, x->kv, x->start + i,
                                   att_least(QUERIES, x->query.to - i), i },
                       t);
    }
    for (int part = 1; x->last_i && part < 3; part++) put_sums(a, part, x->kv, row, n, t);
}

/* ---- who does which tile --------------------------------------------------------------------- */

/* A chain: the tiles of a run of queries and a key head, in order.  Twice the number of those that
 * are done, and 1 more while one is being done. */
typedef _Atomic int32_t chain;

/* How many tiles are done in all, and how many threads wait for the next in the kernel. */
typedef struct { _Atomic uint32_t done, asleep; } progress;

/* The chains of a document, [runs of queries][kv_heads], from `at` on. */
typedef struct { int64_t doc; chain *at; } chains;

static progress *progress_of(const ft_attention *a)
{
    return (progress *)(void *)((float *)a->k->shared + sum_floats(a));
}

static chains all_chains(const ft_attention *a)
{
    return (chains){ 0, (chain *)(void *)(progress_of(a) + 1) };
}

static chains next_document(const ft_attention *a, int64_t blocks, chains c)
{
    return (chains){ c.doc + 1, c.at + runs_of(a, c.doc, blocks * QUERIES) * a->kv_heads };
}

static void start(const ft_attention *a)
{
    int64_t blocks = run_blocks(a);
    chains all = all_chains(a), c = all;
    while (c.doc < a->k->batch->n_docs) c = next_document(a, blocks, c);
    for (chain *at = all.at; at < c.at; at++) atomic_init(at, 0);
    atomic_init(&progress_of(a)->done, 0);
    atomic_init(&progress_of(a)->asleep, 0);
}

/* What a look at a document's chains found: one of the tiles that may be done now, with the least
 * i + j, so that key heads go on beside each other; its chain, NULL if there is none, and what that
 * said.  Whether tiles are left that nobody has taken, and whether all are done. */
typedef struct { chain *at; int32_t said; int64_t i, j; bool left, over; } look;

/* Looks at the chain of query run i, which meets key runs `met`; the run before meets `above`. */
static void look_at(const ft_attention *a, look *l, chain *at, int64_t i, span met, span above)
{
    int32_t said = atomic_load(at);
    int64_t j = met.first + said / 2;
    l->left |= j + said % 2 <= met.last;
    l->over &= j > met.last;
    if (said % 2 || j > met.last || (l->at && i + j >= l->i + l->j)) return;
    if (j <= above.last && atomic_load(at - a->kv_heads) / 2 <= j - above.first) return;
    l->at = at, l->said = said, l->i = i, l->j = j;
}

static look look_through(const ft_attention *a, int64_t blocks, chains c)
{
    look l = { .over = true };
    span met, above = { 0, -1 };
    for (int64_t i = 0; i < runs_of(a, c.doc, blocks * QUERIES); i++, above = met) {
        met = key_runs(a, blocks, c.doc, i);
        for (int64_t kv = 0; kv < a->kv_heads; kv++)
            look_at(a, &l, c.at + i * a->kv_heads + kv, i, met, above);
    }
    return l;
}

/* Takes a tile that may be done now, of the first document that has one; *from: the first that is
 * not over.  NULL: there is none; left: but there will be. */
static chain *take_tile(const ft_attention *a, int64_t blocks, chains *from, tile *out, bool *left)
{
    *left = false;
    for (chains c = *from; c.doc < a->k->batch->n_docs; c = next_document(a, blocks, c)) {
        look l = look_through(a, blocks, c);
        while (l.at && !atomic_compare_exchange_strong(l.at, &l.said, l.said + 1))
            l = look_through(a, blocks, c);
        if (l.at) {
            *out = open_tile(a, blocks, c.doc, l.i, l.j);
            out->kv = (l.at - c.at) % a->kv_heads;
            return l.at;
        }
        *left |= l.left;
        if (l.over && c.doc == from->doc) *from = next_document(a, blocks, c);
    }
    return NULL;
}

/* Waits until more than `done` tiles are done.  A thread counts itself among those asleep before it
 * looks for the last time; who has done a tile looks at the count afterwards. */
static void await(progress *p, uint32_t done)
{
    for (int i = 0; i < SPIN; i++, v_pause()) {
        if (atomic_load(&p->done) != done) return;
    }
    atomic_fetch_add(&p->asleep, 1);
    while (atomic_load(&p->done) == done)
        syscall(SYS_futex, &p->done, FUTEX_WAIT_PRIVATE, done, NULL, NULL, 0);
    atomic_fetch_sub(&p->asleep, 1);
}

static void tell(progress *p)
{
    atomic_fetch_add(&p->done, 1);
    if (atomic_load(&p->asleep))
        syscall(SYS_futex, &p->done, FUTEX_WAKE_PRIVATE, 1 << 30, NULL, NULL, 0);
}

/* Round 0 makes the chains ready; each item of round 1 does tiles until all are taken. */
__attribute__((always_inline)) static inline void dx(const ft_call *k, void *scratch, ft_dtype t)
{
    ft_attention a = open_call(k);
    if (k->round == 0) {
        start(&a);
        return;
    }
    layout l = lay_out(&a, t, scratch);
    int64_t blocks = run_blocks(&a);
    progress *p = progress_of(&a);
    chains from = all_chains(&a);
    for (bool left = true; left;) {
        uint32_t done = atomic_load(&p->done);
        tile x;
        chain *taken = take_tile(&a, blocks, &from, &x, &left);
        if (taken) {
            do_tile(&a, &l, &x, t);
            atomic_fetch_add(taken, 1);
            tell(p);
            left = true;
        } else if (left) {
            await(p, done);
        }
    }
}

static int64_t dx_rounds(const ft_call *k) { return (void)k, 2; }
static int64_t dx_items(const ft_call *k) { return k->round == 0 ? 1 : k->threads; }

static void dx_f32(const ft_call *k, int64_t b, int64_t e, void *s)
{
    if (b < e) dx(k, s, FT_F32);
}
static void dx_bf16(const ft_call *k, int64_t b, int64_t e, void *s)
{
    if (b < e) dx(k, s, FT_BF16);
}

static const ft_kernel kernels[] = {
    { sizeof(ft_kernel), "attention_dx", FT_F32, scratch_f32, dx_items, dx_f32, dx_rounds,
      dx_shared },
    { sizeof(ft_kernel), "attention_dx", FT_BF16, scratch_bf16, dx_items, dx_bf16, dx_rounds,
      dx_shared },
};
FT_TABLE(attention_dx, kernels)
