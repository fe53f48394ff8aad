/* kernel_test.h -- what tests of kernels share: the backend of the build under test, batches, and
 * calls whose arguments are made from a line of text and lie between guards.
 *
 * An argument is written KIND:dims, dims being products of letters and digits ("T:gb" is tokens by
 * g * b).  Kinds, compute dtype first, fp32 in lower case where there are both:
 *   T t  tokens by …      R r  trained rows by …      M m  fixed rows by …      A  as m, but added
 *   to W    weights: fixed rows by …, of another dtype in each case, also packed
 *   P p  as T t, but positive     i  ids     o  positions     g  targets
 *   e    tokens by …, each row different numbers below x: experts; as a result any whole numbers
 * Letters stand for the numbers in the case's dims ("a5 b33|a64 b100": two sets of them), S for the
 * tokens of all slots.
 *
 * A buffer ends at a page that cannot be touched; the bytes before it are checked.  Results are
 * filled with NaN patterns first.  Rows past the batch's are NaN patterns in inputs and stay so in
 * outputs. */
#ifndef FT_TESTS_KERNEL_TEST_H
#define FT_TESTS_KERNEL_TEST_H
#include <ctype.h>
#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "ft/half.h"
#include "core/base/pool.h"
#include "ft/kernel.h"
#include "harness.h"

enum {
    KT_ARGS = 12,
    KT_ATTR = 6,
    KT_DOCS = 64,
    KT_MORE_ROWS = 3,
    KT_PAGE = 4096,
    KT_GUARD = 64,
    KT_THREADS = 7
};

/* ---- the backend ----------------------------------------------------------------------------- */

static inline const ft_backend *kt_backend(void)
{
    static const ft_backend *backend;
    char path[512];
    if (backend) return backend;
    snprintf(path, sizeof path, "%s/plugins/kernels-cpu.so", test_build());
    void *so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    ck_assert_msg(so != NULL, "%s", so ? "" : dlerror());
    const ft_plugin *(*entry)(void) = (const ft_plugin *(*)(void))dlsym(so, "ft_plugin_entry_1");
    ck_assert_ptr_nonnull(entry);
    backend = entry()->vtable;
    backend->enter();
    return backend;
}

/* The kernel of a variant for an op, or NULL. */
static inline const ft_kernel *kt_find(const char *variant, const char *op, ft_dtype t)
{
    size_t n;
    const ft_kernel *k = kt_backend()->kernels(variant, &n);
    for (size_t i = 0; k && i < n; i++) {
        if (!strcmp(k[i].op, op) && (k[i].dtype == t || k[i].dtype == FT_NO_DTYPE)) return &k[i];
    }
    return NULL;
}

/* ---- numbers and memory ---------------------------------------------------------------------- */

static inline uint64_t kt_random(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}
static inline double kt_uniform(uint64_t *state, double lo, double hi)
{
    return lo + (hi - lo) * (double)(kt_random(state) >> 11) * 0x1p-53;
}

static inline size_t kt_size(ft_dtype t)
{
    return t == FT_F64 ? 8 : t == FT_BF16 || t == FT_F16 ? 2 : t == FT_I8 ? 1 : 4;
}

/* `align`ed bytes that end at (or less than align before) a page that faults. */
typedef struct { char *map, *data; size_t mapped, bytes; } kt_buffer;

static inline kt_buffer kt_alloc(size_t bytes, size_t align)
{
    size_t room = (bytes + KT_GUARD + align + KT_PAGE - 1) / KT_PAGE * KT_PAGE;
    kt_buffer b = { .mapped = room + KT_PAGE, .bytes = bytes };
    b.map = mmap(NULL, b.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert(b.map != MAP_FAILED);
    ck_assert_int_eq(mprotect(b.map + room, KT_PAGE, PROT_NONE), 0);
    b.data = b.map + (room - bytes) / align * align;
    memset(b.map, 0xA5, room);
    memset(b.data, 0xFF, bytes);
    return b;
}

/* Fails when a byte around the buffer was written. */
static inline void kt_free(kt_buffer *b, const char *what)
{
    if (!b->map) return;
    const char *end = b->map + b->mapped - KT_PAGE;
    for (const char *p = b->map; p < end; p++) {
        if (p == b->data) p += b->bytes;
        if (p < end && (uint8_t)*p != 0xA5) ck_abort_msg("%s: wrote outside its memory", what);
    }
    munmap(b->map, b->mapped);
}

static inline double kt_get(const ft_arg *a, int64_t r, int64_t c)
{
    int64_t i = r * a->ld + c;
    switch (a->dtype) {
    case FT_F64: return ((const double *)a->data)[i];
    case FT_BF16: return (double)ft_bf16_to_float(((const uint16_t *)a->data)[i]);
    case FT_I32: return (double)((const int32_t *)a->data)[i];
    default: return (double)((const float *)a->data)[i];
    }
}

static inline void kt_put(void *data, ft_dtype t, int64_t i, double v)
{
    if (t == FT_F64) ((double *)data)[i] = v;
    else if (t == FT_BF16) ((uint16_t *)data)[i] = ft_float_to_bf16((float)v);
    else if (t == FT_F16) ((uint16_t *)data)[i] = ft_float_to_half((float)v);
    else if (t == FT_I8) ((int8_t *)data)[i] = (int8_t)(v * 127);
    else ((float *)data)[i] = (float)v;
}

/* A packed weight for tests: int8 codes / 128, which bf16 holds exactly. */
static inline void kt_tile(const ft_packed *p, int64_t r0, int64_t nr, int64_t c0, int64_t nc,
                           ft_dtype to, void *dst, int64_t ld)
{
    for (int64_t r = 0; r < nr; r++) {
        for (int64_t c = 0; c < nc; c++)
            kt_put(dst, to, r * ld + c,
                   ((const int8_t *)p->part[0])[(r0 + r) * p->cols + c0 + c] / 128.0);
    }
}

/* ---- batches --------------------------------------------------------------------------------- */

/* Which tokens carry loss. */
typedef enum { KT_ALL, KT_SOME, KT_NONE } kt_trained;

/* Documents by row and order: their lengths, a 0 after the last of a row. */
typedef struct { int docs[KT_DOCS]; kt_trained trained; } kt_plan;

typedef struct {
    ft_batch b;
    int32_t *ids, *position, *trained, *target, row_start[KT_DOCS], doc_start[KT_DOCS],
        slot[KT_DOCS], cached[KT_DOCS];
    int doc_row[KT_DOCS]; /* the row a document lies in */
} kt_batch;

static inline void kt_add_doc(kt_batch *x, int len, int row)
{
    int64_t d = x->b.n_docs++;
    x->doc_row[d] = row;
    x->doc_start[d + 1] = x->doc_start[d] + len;
    x->row_start[row + 1] = x->doc_start[d + 1];
    x->b.n_rows = row + 1;
    x->b.n_tokens = x->doc_start[d + 1];
}

/* Points the batch at its arrays, which have room for n_tokens and KT_MORE_ROWS more. */
static inline void kt_finish_batch(kt_batch *x)
{
    size_t n = (size_t)(x->b.n_tokens + KT_MORE_ROWS) * sizeof(int32_t);
    x->b.ids = x->ids = malloc(n), x->b.position = x->position = malloc(n);
    x->b.trained = x->trained = malloc(n), x->b.target = x->target = malloc(n);
    x->b.row_start = x->row_start, x->b.doc_start = x->doc_start, x->b.slot = x->slot,
    x->b.cached = x->cached;
    x->b.seed = 42, x->b.step = 3, x->b.row_tokens = 1024, x->b.loss_scale = 0.37f;
    for (int64_t d = 0; d < x->b.n_docs; d++) {
        for (int32_t t = x->doc_start[d]; t < x->doc_start[d + 1]; t++)
            x->position[t] = t - x->doc_start[d];
    }
}

static inline kt_batch *kt_batch_new(const kt_plan *p, int64_t ids_from, int64_t ids_to)
{
    kt_batch *x = calloc(1, sizeof *x);
    uint64_t seed = 7;
    int row = 0, longest = 0;
    for (int i = 0; i + 1 < KT_DOCS && (p->docs[i] || (i && p->docs[i - 1])); i++) {
        if (!p->docs[i]) row++;
        else kt_add_doc(x, p->docs[i], row);
        if (p->docs[i] > longest) longest = p->docs[i];
    }
    kt_finish_batch(x);
    for (int64_t t = 0; t < x->b.n_tokens; t++) {
        x->ids[t] = (int32_t)(ids_from +
                              (int64_t)(kt_random(&seed) % (uint64_t)(ids_to - ids_from)));
        x->target[t] = (int32_t)(kt_random(&seed) % (uint64_t)ids_to);
        bool some = p->trained == KT_SOME && (kt_random(&seed) & 3) == 0;
        if (p->trained == KT_ALL || some) x->trained[x->b.n_trained++] = (int32_t)t;
    }
    x->b.first_row = 5;
    x->b.slot_tokens = longest + 40;
    x->b.one_more = x->b.n_tokens % 3 == 0; /* some batches as if they were generation's */
    for (int64_t d = 0; d < x->b.n_docs; d++) { /* slots in another order than documents */
        x->slot[d] = (int32_t)(x->b.n_docs - d);
        x->cached[d] = (int32_t)(d * 17 % 41);
    }
    return x;
}

static inline void kt_batch_free(kt_batch *x)
{
    if (!x) return;
    free(x->ids), free(x->position), free(x->trained), free(x->target), free(x);
}

/* Documents docs[0 … n-1] of a batch as a new one; rows[i] is the row of the i-th.  token and
 * trained tell where its tokens and trained rows were. */
static inline kt_batch *kt_batch_select(const kt_batch *from, const int *docs, const int *rows,
                                        int n, int64_t *token, int64_t *trained)
{
    kt_batch *x = calloc(1, sizeof *x);
    for (int i = 0; i < n; i++) {
        x->slot[i] = from->slot[docs[i]];
        x->cached[i] = from->cached[docs[i]];
        kt_add_doc(x, from->doc_start[docs[i] + 1] - from->doc_start[docs[i]], rows[i]);
    }
    kt_finish_batch(x);
    x->b.slot_tokens = from->b.slot_tokens;
    x->b.one_more = from->b.one_more;
    x->b.first_row = from->b.first_row + from->doc_row[docs[0]];
    for (int i = 0; i < n; i++) {
        int32_t old = from->doc_start[docs[i]], shift = x->doc_start[i] - old;
        for (int32_t t = old; t < from->doc_start[docs[i] + 1]; t++)
            token[t + shift] = t, x->ids[t + shift] = from->ids[t];
        for (int64_t r = 0; r < from->b.n_trained; r++) {
            if (from->trained[r] < old || from->trained[r] >= from->doc_start[docs[i] + 1])
                continue;
            trained[x->b.n_trained] = r;
            x->target[x->b.n_trained] = from->target[r];
            x->trained[x->b.n_trained++] = from->trained[r] + shift;
        }
    }
    return x;
}

/* ---- calls ----------------------------------------------------------------------------------- */

typedef struct kt_call kt_call;

/* An op with arguments of many sizes.  `prepare`: makes inputs that depend on others. */
typedef struct {
    const char *op, *in, *out, *dims;
    double attr[KT_ATTR];
    unsigned flags;
    void (*prepare)(kt_call *);
    /* factor for tolerances, where small differences of large numbers are taken; 0: 1 */
    double slack;
} kt_case;

enum {
    KT_ADDS = 1,     /* accumulate applies to out[0] */
    KT_SUMS = 3,     /* and it is a sum over rows, which may be split into calls */
    KT_EXACT = 128,  /* bf16: fp32 results have fp32's errors */
    KT_PLACE = 4,    /* results depend on the place in the step */
    KT_RAW = 8,      /* the reference writes the op's own dtype */
    KT_INPLACE = 16, /* output i may lie where input i + KT_SHIFTED lies */
    KT_SHIFTED = 32,
    KT_HEADS = 64,   /* the first attributes are g a heads and a key heads */
};

struct kt_call {
    const kt_case *c;
    ft_dtype t;
    kt_batch *batch;
    int64_t dim[26];
    ft_arg in[KT_ARGS], out[KT_ARGS];
    char out_kind[KT_ARGS];
    kt_buffer in_buffer[KT_ARGS], out_buffer[KT_ARGS];
    ft_packed packed[KT_ARGS];
    double attr[KT_ATTR];
    int n_in, n_out, weight; /* weight: which kind W stands for */
    ft_call call;
};

/* Sets the letters from the which-th set of "a5 b33|a64 b100"; false when there are fewer. */
static inline bool kt_dims(const char *dims, int which, int64_t out[26])
{
    for (; which > 0; which--) {
        dims = strchr(dims, '|');
        if (!dims) return false;
        dims++;
    }
    for (; *dims && *dims != '|'; dims++) {
        if (islower(*dims)) out[*dims - 'a'] = atoi(dims + 1);
    }
    return true;
}

/* A product of letters and digits; moves on to what ends it. */
static inline int64_t kt_dim(const kt_call *x, const char **p)
{
    int64_t n = 1;
    int64_t slots = (x->batch->b.n_docs + 1) * x->batch->b.slot_tokens;
    for (; isalnum(**p); ++*p)
        n *= isdigit(**p) ? **p - '0' : **p == 'S' ? slots : x->dim[**p - 'a'];
    return n;
}

/* Reads one argument's text: kind, rows, columns, dtype. */
static inline const char *kt_parse(const kt_call *x, const char *p, ft_arg *a, char *kind)
{
    *kind = *p++;
    char k = (char)toupper(*kind);
    bool trained = k == 'R' || k == 'G', tokens = strchr("TPIOE", k) != NULL;
    a->axis = tokens ? 1 : trained ? 2 : 0;
    a->rows = (trained ? x->batch->b.n_trained : x->batch->b.n_tokens) + KT_MORE_ROWS;
    a->cols = 1;
    if (*p == ':') {
        p++;
        if (a->axis == 0) a->rows = kt_dim(x, &p);
        if (*p == ':') p++;
        a->cols = kt_dim(x, &p);
    }
    a->ld = a->cols;
    a->dtype = strchr("ioge", *kind) ? FT_I32 : isupper(*kind) && *kind != 'A' ? x->t : FT_F32;
    while (*p == ' ') p++;
    return p;
}

static inline int64_t kt_rows(const kt_call *x, const ft_arg *a) { return ft_rows(&x->call, a); }

static inline void kt_fill(kt_call *x, ft_arg *a, char kind, uint64_t seed)
{
    bool positive = kind == 'P' || kind == 'p';
    int64_t n = kt_rows(x, a) * a->cols;
    for (int64_t i = 0; i < n; i++) {
        double v = kt_uniform(&seed, positive ? 0.5 : -1, positive ? 1.5 : 1);
        /* so that none is rounded on the way */
        if (x->t == FT_BF16) v = (double)ft_bf16_to_float(ft_float_to_bf16((float)v));
        kt_put(a->data, a->dtype, i, v);
    }
}

/* Each row different numbers below x, of which a few are frequent. */
static inline void kt_fill_experts(const kt_call *x, const ft_arg *a)
{
    uint64_t seed = 23;
    int64_t n = x->dim['x' - 'a'];
    for (int64_t t = 0; t < kt_rows(x, a); t++) {
        int64_t first = kt_random(&seed) & 1 ? 0 : (int64_t)(kt_random(&seed) % (uint64_t)n);
        for (int64_t j = 0; j < a->cols; j++)
            ((int32_t *)a->data)[t * a->cols + j] = (int32_t)((first + j * (n - 1)) % n);
    }
}

/* A weight's dtype changes from case to case: the compute dtype, bf16, fp16, packed. */
static inline void kt_make_input(kt_call *x, int i, char kind)
{
    static const ft_dtype of_weight[] = { FT_F32, FT_BF16, FT_F16, FT_I8 };
    ft_arg *a = &x->in[i];
    const kt_batch *b = x->batch;
    const int32_t *from = kind == 'i' ? b->ids : kind == 'o' ? b->position : b->target;
    if (kind == 'W') a->dtype = of_weight[x->weight % 4];
    x->in_buffer[i] = kt_alloc((size_t)(a->rows * a->cols) * kt_size(a->dtype), 1);
    a->data = x->in_buffer[i].data;
    if (kind == 'e') kt_fill_experts(x, a);
    else if (a->dtype == FT_I32) memcpy(a->data, from, (size_t)kt_rows(x, a) * 4);
    else kt_fill(x, a, kind, (uint64_t)(1000 * i) + 17);
    if (a->dtype != FT_I8) return;
    x->packed[i] =
        (ft_packed){ .tile = kt_tile, .rows = a->rows, .cols = a->cols, .part = { a->data } };
    *a = (ft_arg){
        .packed = &x->packed[i], .rows = a->rows, .cols = a->cols, .ld = a->cols, .dtype = x->t
    };
}

/* The call of case c with its which-th dims; NULL when there are fewer.  The batch becomes the
 * call's. */
static inline kt_call *kt_call_new(const kt_case *c, const kt_plan *plan, int which, ft_dtype t,
                                   int weight)
{
    kt_call *x = calloc(1, sizeof *x);
    if (!kt_dims(c->dims, which, x->dim)) {
        free(x);
        return NULL;
    }
    int64_t vocab = x->dim['n' - 'a'] ? x->dim['n' - 'a'] : 10;
    x->c = c, x->t = t, x->weight = weight;
    x->batch = kt_batch_new(plan, -x->dim['k' - 'a'], vocab);
    memcpy(x->attr, c->attr, sizeof x->attr);
    if (c->flags & KT_HEADS)
        x->attr[0] = (double)(x->dim['g' - 'a'] * x->dim[0]), x->attr[1] = (double)x->dim[0];
    x->call = (ft_call){
        .in = x->in, .out = x->out, .attr = x->attr, .key = 99, .batch = &x->batch->b, .threads = 1
    };
    for (const char *p = c->in; *p; x->n_in++) {
        char kind;
        p = kt_parse(x, p, &x->in[x->n_in], &kind);
        kt_make_input(x, x->n_in, kind);
    }
    for (const char *p = c->out; *p; x->n_out++) {
        ft_arg *a = &x->out[x->n_out];
        p = kt_parse(x, p, a, &x->out_kind[x->n_out]);
        x->out_buffer[x->n_out] = kt_alloc((size_t)(a->rows * a->cols) * kt_size(a->dtype), 1);
        a->data = x->out_buffer[x->n_out].data;
    }
    x->call.n_in = x->n_in, x->call.n_out = x->n_out;
    if (c->prepare) c->prepare(x);
    return x;
}

/* Rows from[0 … n-1] of an argument, in a buffer of its own. */
static inline kt_buffer kt_gather(ft_arg *a, const int64_t *from, int64_t n)
{
    size_t row = (size_t)a->cols * kt_size(a->dtype);
    kt_buffer b = kt_alloc((size_t)(n + KT_MORE_ROWS) * row, 1);
    for (int64_t i = 0; i < n; i++)
        memcpy(b.data + (size_t)i * row, (const char *)a->data + (size_t)from[i] * row, row);
    a->rows = n + KT_MORE_ROWS;
    a->data = b.data;
    return b;
}

/* The same call for some of its documents (see kt_batch_select).  What has fixed rows is shared. */
static inline kt_call *kt_call_select(const kt_call *from, const int *docs, const int *rows, int n,
                                      int64_t *token, int64_t *trained)
{
    kt_call *x = calloc(1, sizeof *x);
    *x = *from;
    x->batch = kt_batch_select(from->batch, docs, rows, n, token, trained);
    x->call.in = x->in, x->call.out = x->out, x->call.attr = x->attr, x->call.batch = &x->batch->b;
    const int64_t *map[] = { NULL, token, trained },
                  count[] = { 0, x->batch->b.n_tokens, x->batch->b.n_trained };
    for (int i = 0; i < x->n_in; i++)
        x->in_buffer[i] = x->in[i].axis
                              ? kt_gather(&x->in[i], map[x->in[i].axis], count[x->in[i].axis])
                              : (kt_buffer){ 0 };
    for (int i = 0; i < x->n_out; i++)
        x->out_buffer[i] = x->out[i].axis
                               ? kt_gather(&x->out[i], map[x->out[i].axis], count[x->out[i].axis])
                               : (kt_buffer){ 0 };
    return x;
}

static inline void kt_call_free(kt_call *x)
{
    for (int i = 0; i < x->n_in; i++) kt_free(&x->in_buffer[i], x->c->op);
    for (int i = 0; i < x->n_out; i++) kt_free(&x->out_buffer[i], x->c->op);
    kt_batch_free(x->batch);
    free(x);
}

/* ---- running --------------------------------------------------------------------------------- */

typedef enum { KT_WHOLE, KT_ONE_BY_ONE, KT_BACKWARDS, KT_POOL } kt_order;

typedef struct { const ft_kernel *k; const ft_call *c; kt_buffer *scratch; } kt_job;

static inline void kt_range(void *arg, int thread, int64_t begin, int64_t end)
{
    const kt_job *j = arg;
    j->k->run(j->c, begin, end, j->scratch[thread].data);
}

/* All items of the call's round, in that order. */
static inline void kt_run_items(const kt_job *j, int64_t n, kt_order order, ft_pool *pool)
{
    if (order == KT_POOL) ft_pool_run(pool, n, kt_range, (void *)(uintptr_t)j);
    else if (order == KT_WHOLE && n) j->k->run(j->c, 0, n, j->scratch[0].data);
    for (int64_t i = 0; i < n && order == KT_ONE_BY_ONE; i++)
        j->k->run(j->c, i, i + 1, j->scratch[0].data);
    for (int64_t i = n; i > 0 && order == KT_BACKWARDS; i--)
        j->k->run(j->c, i - 1, i, j->scratch[0].data);
}

/* Runs an op with scratch and shared memory of exactly the size that it asks for. */
static inline void kt_run_op(const char *variant, const char *op, ft_dtype t, ft_call *c,
                             kt_order order, int threads)
{
    static ft_pool *pools[KT_THREADS + 1];
    const ft_kernel *k = kt_find(variant, op, t);
    ck_assert_msg(k != NULL, "%s has no %s", variant, op);
    c->threads = threads;
    kt_buffer scratch[KT_THREADS], shared = kt_alloc(k->shared ? k->shared(c) : 0, 64);
    for (int i = 0; i < threads; i++) scratch[i] = kt_alloc(k->scratch ? k->scratch(c) : 0, 64);
    if (order == KT_POOL && !pools[threads])
        pools[threads] = ft_pool_new(threads, kt_backend()->enter, NULL);
    c->shared = shared.data;
    int64_t rounds = k->rounds ? k->rounds(c) : 1;
    for (c->round = 0; c->round < rounds; c->round++)
        kt_run_items(&(kt_job){ k, c, scratch }, k->items(c), order, pools[threads]);
    for (int i = 0; i < threads; i++) kt_free(&scratch[i], op);
    kt_free(&shared, op);
}

static inline void kt_run(kt_call *x, const char *variant, kt_order order, int threads)
{
    kt_run_op(variant, x->c->op, x->t, &x->call, order, threads);
}

/* Results before a run: NaN patterns, or numbers where the op adds to them. */
static inline void kt_clear(kt_call *x)
{
    for (int i = 0; i < x->n_out; i++) {
        memset(x->out_buffer[i].data, 0xFF, x->out_buffer[i].bytes);
        if (x->out_kind[i] == 'A' || (i == 0 && x->call.accumulate)) kt_fill(x, &x->out[i], 'm', 5);
    }
}
#endif
