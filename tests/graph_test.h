/* graph_test.h -- building, running and differentiating small graphs in tests. */
#ifndef FT_TESTS_GRAPH_TEST_H
#define FT_TESTS_GRAPH_TEST_H
#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "core/graph/exec.h"
#include "tests/harness.h"

/* ---- kernels --------------------------------------------------------------------------------- */
static inline const ft_backend *test_backend(void)
{
    static const ft_backend *b;
    if (!b) {
        char path[512];
        snprintf(path, sizeof path, "%s/plugins/kernels-cpu.so", test_build());
        void *so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        ck_assert_msg(so != NULL, "%s", dlerror());
        const ft_plugin *(*entry)(void);
        *(void **)&entry = dlsym(so, "ft_plugin_entry_1");
        b = entry()->vtable;
    }
    return b;
}

static inline g_kernels test_kernels(const char *variant)
{
    g_kernels k = { .variant = variant };
    k.kernel = test_backend()->kernels(variant, &k.n);
    ck_assert_msg(k.kernel != NULL, "no %s kernels here", variant);
    return k;
}

/* ---- numbers --------------------------------------------------------------------------------- */
static inline double test_random(uint64_t *s) /* in (-1, 1) */
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return (double)(int64_t)(*s >> 11) / 4503599627370496.0 - 1;
}

/* ---- a batch: rows of documents, some tokens trained ----------------------------------------- */
typedef struct {
    ft_batch b;
    int32_t ids[512], position[512], row[16], doc[64], trained[512], target[512];
} test_batch;

/* docs: lengths of documents, 0 ends a row, -1 ends the batch.  Every `skip`-th token is not
 * trained; the last of a document never is. */
static inline void test_batch_fill(test_batch *t, const int *docs, int vocab, int skip,
                                   uint64_t seed)
{
    int64_t n = 0, rows = 0, nd = 0, nt = 0;
    memset(t, 0, sizeof *t);
    for (int i = 0; docs[i] >= 0; i++) {
        if (docs[i] == 0) {
            t->row[++rows] = (int32_t)n;
            continue;
        }
        t->doc[nd++] = (int32_t)n;
        for (int p = 0; p < docs[i]; p++, n++) {
            t->ids[n] = (int32_t)(fabs(test_random(&seed)) * vocab);
            t->position[n] = p;
        }
        for (int64_t k = n - docs[i]; k < n - 1; k++) {
            if (skip && k % skip == 1) continue;
            t->trained[nt] = (int32_t)k;
            t->target[nt++] = t->ids[k + 1];
        }
    }
    t->doc[nd] = (int32_t)n;
    t->b = (ft_batch){ .n_tokens = n, .n_rows = rows, .n_docs = nd, .n_trained = nt, .ids = t->ids,
        .position = t->position, .row_start = t->row, .doc_start = t->doc, .trained = t->trained,
        .target = t->target, .seed = 7, .step = 1, .row_tokens = 512, .loss_scale = 1.0f / 16 };
}

/* ---- a graph that runs ----------------------------------------------------------------------- */
typedef struct {
    ft_g *g;
    g_plan plan;
    g_memory mem;
    g_exec *x;
    ft_pool *pool;
    ft_arg weight[256];
    ft_val loss, hit;
} test_run;

typedef ft_val (*test_build_fn)(ft_graph *g, ft_val ids, ft_val positions, ft_val targets);

static inline void *test_alloc(uint64_t n)
{
    void *p = NULL;
    n = (n + 63) / 64 * 64 + 64;
    ck_assert_int_eq(posix_memalign(&p, 64, n), 0);
    memset(p, 0xFF, n); /* NaN wherever nothing was written */
    return p;
}

/* Builds, derives (unless no gradient is wanted), plans and binds; parameters are random from seed.
 * bind fills r->weight, for graphs that have weights; else NULL. */
static inline void test_open_with(test_run *r, test_build_fn build, const g_method *m,
                                  ft_dtype compute, const char *variant, g_remat remat, int threads,
                                  bool derive, uint64_t seed, void (*bind)(test_run *))
{
    ft_err e = { 0 };
    uint32_t *order, n;
    memset(r, 0, sizeof *r);
    r->g = g_new(compute, 512, 512, m);
    r->g->train = derive;
    r->loss = build(&r->g->pub, g_input(r->g, G_IDS), g_input(r->g, G_POSITIONS),
                    g_input(r->g, G_TARGETS));
    if (derive) g_derive(r->g, r->loss);
    ft_val wanted[2] = { r->loss, { r->g->penalty } };
    int n_wanted = r->g->penalty ? 2 : 1;
    g_rematerialize(r->g, remat, 1 << 20, wanted, n_wanted, &order, &n);
    ck_assert_msg(r->g->err.code == 0, "%s", r->g->err.msg);
    ck_assert_int_eq(g_plan_make(&r->plan, r->g, order, n, wanted, n_wanted, 0), 0);
    if (bind) bind(r);
    free(order);
    g_kernels k = test_kernels(variant);
    r->pool = ft_pool_new(threads, test_backend()->enter, &e);
    g_scratch s;
    ck_assert_msg(g_scratch_sizes(&r->plan, &k, r->weight, threads, &s, &e) == 0, "%s", e.msg);
    r->mem = (g_memory){ .keep = test_alloc(r->plan.keep_bytes),
                         .work = test_alloc(r->plan.work_bytes),
                         .state = test_alloc(r->plan.state_bytes),
                         .param = test_alloc(r->plan.param_bytes),
                         .grad = test_alloc(r->plan.grad_count * 8),
                         .weight = r->weight,
                         .scratch = test_alloc(s.thread * (uint64_t)threads + s.shared) };
    for (uint32_t i = 0; i < r->g->n_param; i++) {
        const g_param *p = &r->g->param[i];
        const ft_desc *d = &g_value_at(r->g, p->value)->desc;
        char *at = (char *)r->mem.param + r->plan.value[p->value].offset;
        for (int64_t j = 0; j < g_rows(d) * g_cols(d); j++) {
            double v = p->init.kind == FT_INIT_FILL ? p->init.a + 0.1 * test_random(&seed)
                                                    : p->init.b * test_random(&seed);
            if (d->dtype == FT_F64) ((double *)(void *)at)[j] = v;
            else ((float *)(void *)at)[j] = (float)v;
        }
    }
    r->x = g_exec_new(&r->plan, &k, &r->mem, r->pool, &e);
    ck_assert_msg(r->x != NULL, "%s", e.msg);
    g_exec_poison(r->x, true);
    g_exec_const(r->x);
}

static inline void test_open(test_run *r, test_build_fn build, const g_method *m, ft_dtype compute,
                             const char *variant, g_remat remat, int threads, bool derive,
                             uint64_t seed)
{
    test_open_with(r, build, m, compute, variant, remat, threads, derive, seed, NULL);
}

static inline void test_close(test_run *r)
{
    g_exec_free(r->x);
    ft_pool_free(r->pool);
    free(r->mem.keep);
    free(r->mem.work);
    free(r->mem.state);
    free(r->mem.param);
    free(r->mem.grad);
    free(r->mem.scratch);
    g_plan_free(&r->plan);
    g_free(r->g);
}

/* One optimizer step's worth of forward and backward; returns loss_scale times the sum of the
 * loss. */
static inline double test_step(test_run *r, const ft_batch *const *b, int n)
{
    double sum = 0;
    g_exec_begin(r->x);
    for (int i = 0; i < n; i++) {
        g_exec_micro(r->x, b[i]);
        const void *l = g_exec_data(r->x, r->loss);
        for (int64_t k = 0; k < b[i]->n_trained; k++)
            sum += (r->g->compute == FT_F64 ? ((const double *)l)[k]
                                            : (double)((const float *)l)[k]) *
                   (double)b[i]->loss_scale;
    }
    g_exec_end(r->x);
    return sum;
}

/* Loss and, once, the penalty. */
static inline double test_total(test_run *r, const ft_batch *const *b, int n)
{
    double sum = test_step(r, b, n);
    if (r->g->penalty) sum += *(const double *)g_exec_data(r->x, (ft_val){ r->g->penalty });
    return sum;
}

/* Parameter i of an fp64 run: each gradient against the difference of the loss of two batches. The
 * largest gradient. */
static inline double test_differences_of(test_run *r, const char *name, uint32_t i,
                                         const double *grad, const ft_batch *const *b)
{
    const g_param *p = &r->g->param[i];
    const ft_desc *d = &g_value_at(r->g, p->value)->desc;
    double *w = (double *)(void *)((char *)r->mem.param + r->plan.value[p->value].offset);
    double biggest = 0;
    for (int64_t j = 0; j < g_rows(d) * g_cols(d); j++) {
        double h = 1e-5, keep = w[j];
        w[j] = keep + h;
        double up = test_total(r, b, 2);
        w[j] = keep - h;
        double down = test_total(r, b, 2);
        w[j] = keep;
        double want = (up - down) / (2 * h), have = grad[r->plan.grad_at[i] + (uint64_t)j];
        biggest = fmax(biggest, fabs(want));
        ck_assert_msg(fabs(want - have) < 1e-6, "%s: d/d %s[%d]: %.9g, by difference %.9g", name,
                      p->name, (int)j, have, want);
    }
    return biggest;
}

/* All parameters; the largest gradient must be above `least`. */
static inline void test_differences(test_run *r, const char *name, const ft_batch *const *b,
                                    double least)
{
    double biggest = 0;
    test_step(r, b, 2);
    double *grad = malloc(r->plan.grad_count * 8);
    memcpy(grad, r->mem.grad, r->plan.grad_count * 8);
    for (uint32_t i = 0; i < r->g->n_param; i++)
        biggest = fmax(biggest, test_differences_of(r, name, i, grad, b));
    ck_assert_msg(biggest > least, "%s: the gradient vanishes", name);
    free(grad);
}
#endif
