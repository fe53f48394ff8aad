/* exec.c -- see exec.h.  Binding resolves every pointer once; running is a loop over calls, without
 * allocation and without looking anything up. */
#include "core/graph/exec.h"
#include "core/base/clock.h"
#include <stdlib.h>
#include <string.h>
#include "ft/half.h"

typedef struct {
    const ft_kernel *kernel; /* NULL: nothing to run (an alias) */
    ft_call call;
    int op;                  /* row of the profile */
} bound;

enum { MAX_PROFILE = 64 };

struct g_exec {
    const g_plan *plan;
    g_memory mem;
    ft_pool *pool;
    bound *node;         /* [plan->start[P_N_PHASES]] */
    ft_arena arena;
    ft_batch batch;
    g_scratch scratch;
    bool poison, profile;
    g_profile row[MAX_PROFILE];
    size_t n_row;
};

static const ft_kernel *find_kernel(const g_kernels *k, const char *op, ft_dtype t)
{
    for (size_t i = 0; i < k->n; i++) {
        const ft_kernel *x = &k->kernel[i];
        if ((x->dtype == t || x->dtype == FT_NO_DTYPE) && !strcmp(x->op, op)) return x;
    }
    return NULL;
}

static const char *const dtype_names[] = {
    [FT_F32] = "fp32", [FT_BF16] = "bf16", [FT_F16] = "fp16", [FT_F64] = "fp64"
};

static const ft_kernel *kernel_for(const g_plan *p, const g_kernels *k, const g_node *n, ft_err *e)
{
    ft_dtype t = g_node_dtype(p->g, n);
    const ft_kernel *found = find_kernel(k, n->op->name, t);
    if (!found)
        ft_errf(e, FT_EUNSUP, "the %s kernels have no %s for %s", k->variant, n->op->name,
                dtype_names[t]);
    return found;
}

/* ---- arguments ------------------------------------------------------------------------------- */

static void *place(const g_plan *p, const g_memory *m, p_value at)
{
    size_t grad = p->g->compute == FT_F64 ? 8 : 4;
    switch (at.place) {
    case P_KEEP: return m->keep ? (char *)m->keep + at.offset : NULL;
    case P_WORK: return m->work ? (char *)m->work + at.offset : NULL;
    case P_STATE: return m->state ? (char *)m->state + at.offset : NULL;
    case P_PARAM: return m->param ? (char *)m->param + at.offset : NULL;
    case P_GRAD: return m->grad ? (char *)m->grad + at.offset * grad : NULL;
    case P_NOWHERE: case P_WEIGHT: case P_BATCH: break;
    }
    return NULL;
}

static ft_arg argument(const g_plan *p, const g_memory *m, uint32_t v)
{
    const g_value *x = g_value_at(p->g, v);
    p_value at = p->value[v];
    if (at.place == P_WEIGHT && m->weight) return m->weight[at.offset];
    ft_arg a = { .data = place(p, m, at), .rows = g_rows(&x->desc), .cols = g_cols(&x->desc),
                 .dtype = x->desc.dtype, .axis = (uint8_t)x->desc.axis };
    a.ld = a.cols;
    return a;
}

static bool bind_call(ft_arena *arena, const g_plan *p, const g_memory *m, const g_node *n,
                      ft_call *c)
{
    ft_arg *in = ft_arena_array(arena, (size_t)n->n_in, sizeof *in);
    ft_arg *out = ft_arena_array(arena, (size_t)n->n_out, sizeof *out);
    if (!in || !out) return false;
    for (int i = 0; i < n->n_in; i++) in[i] = argument(p, m, n->in[i]);
    for (int i = 0; i < n->n_out; i++) out[i] = argument(p, m, n->out[i]);
    *c = (ft_call){ .in = in, .out = out, .n_in = n->n_in, .n_out = n->n_out, .attr = n->attr,
                    .key = n->key, .accumulate = n->accumulate };
    return true;
}

/* Multiplications and additions of matrix products (ops_linear.c): each term's, of a head three
 * (logits, dx and, when it is trained, dW). */
static double flops_of(const char *op, const ft_call *c)
{
    if (!strcmp(op, "linear_dw")) /* dy (T, out), x (T, in) */
        return 2.0 * (double)ft_rows(c, &c->in[0]) * (double)c->in[0].cols * (double)c->in[1].cols;
    bool head = !strcmp(op, "linear_xent");
    bool terms = head || !strcmp(op, "linear") || !strcmp(op, "linear_dx") ||
                 !strcmp(op, "linear_logits") || !strcmp(op, "linear_logprob");
    double n = 0;
    for (int i = 0; terms && i < (int)c->attr[0]; i++)
        n += 2.0 * (double)ft_rows(c, &c->in[2 * i]) * (double)c->in[2 * i + 1].rows *
             (double)c->in[2 * i + 1].cols;
    return head ? n * (c->attr[4] != 0 ? 3 : 2) : n;
}

static uint64_t most(uint64_t a, uint64_t b) { return ((b > a ? b : a) + 63) / 64 * 64; }

int g_scratch_sizes(const g_plan *p, const g_kernels *k, const ft_arg *weight, int threads,
                    g_scratch *out, ft_err *e)
{
    g_memory m = { .weight = weight };
    ft_batch full = { .n_tokens = p->g->max_tokens, .n_trained = p->g->max_trained };
    *out = (g_scratch){ .thread = 64 };
    for (uint32_t i = 0; i < p->start[P_N_PHASES]; i++) {
        const g_node *n = g_node_at(p->g, p->node[i]);
        ft_arena arena = { 0 };
        ft_call c;
        if (g_is_alias(n)) continue;
        const ft_kernel *x = kernel_for(p, k, n, e);
        if (!x) return e->code;
        if (!bind_call(&arena, p, &m, n, &c))
            return ft_errf(e, FT_ENOMEM, "out of memory while planning");
        c.batch = &full;
        c.threads = threads;
        if (x->scratch) out->thread = most(out->thread, x->scratch(&c));
        if (x->shared) out->shared = most(out->shared, x->shared(&c));
        if (n->life == FT_LIFE_MICRO) out->flops += flops_of(n->op->name, &c);
        ft_arena_free(&arena);
    }
    return 0;
}

/* ---- what keep holds from the start ---------------------------------------------------------- */

static double element(const ft_arg *a, int64_t i)
{
    switch (a->dtype) {
    case FT_F64: return ((const double *)a->data)[i];
    case FT_BF16: return (double)ft_bf16_to_float(((const uint16_t *)a->data)[i]);
    case FT_F16: return (double)ft_half_to_float(((const uint16_t *)a->data)[i]);
    default: return (double)((const float *)a->data)[i];
    }
}

/* Widens a plain tensor, whose data may be unaligned, to fp32 or fp64. */
static void widen(void *dst, ft_dtype to, const ft_arg *from)
{
    int64_t n = from->rows * from->cols;
    for (int64_t i = 0; i < n; i++) {
        double v = element(from, i);
        if (to == FT_F64) ((double *)dst)[i] = v;
        else ((float *)dst)[i] = (float)v;
    }
}

static void fill_keep(g_exec *x)
{
    const g_plan *p = x->plan;
    const ft_g *g = p->g;
    for (uint32_t i = 0; i < g->n_table; i++) {
        const g_table *t = &g->table[i];
        const ft_desc *d = &g_value_at(g, t->value)->desc;
        ft_arg a = { .data = (void *)(uintptr_t)t->data,
                     .rows = g_rows(d),
                     .cols = g_cols(d),
                     .dtype = FT_F32 };
        widen(place(p, &x->mem, p->value[t->value]), d->dtype, &a);
    }
    for (uint32_t i = 0; i < g->n_weight; i++) {
        const g_weight *w = &g->weight[i];
        if (w->trained || p->value[w->value].place != P_KEEP) continue;
        widen(place(p, &x->mem, p->value[w->value]), g_value_at(g, w->value)->desc.dtype,
              &x->mem.weight[i]);
    }
}

/* ---- making it ------------------------------------------------------------------------------- */

static int profile_row(g_exec *x, const char *op)
{
    for (size_t i = 0; i < x->n_row; i++) {
        if (!strcmp(x->row[i].op, op)) return (int)i;
    }
    if (x->n_row == MAX_PROFILE) return MAX_PROFILE - 1;
    x->row[x->n_row].op = op;
    return (int)x->n_row++;
}

static int bind_all(g_exec *x, const g_kernels *k, ft_err *e)
{
    const g_plan *p = x->plan;
    for (uint32_t i = 0; i < p->start[P_N_PHASES]; i++) {
        const g_node *n = g_node_at(p->g, p->node[i]);
        bound *b = &x->node[i];
        if (g_is_alias(n)) continue;
        b->kernel = kernel_for(p, k, n, e);
        if (!b->kernel) return e->code;
        b->op = profile_row(x, n->op->name);
        if (!bind_call(&x->arena, p, &x->mem, n, &b->call))
            return ft_errf(e, FT_ENOMEM, "out of memory while binding kernels");
        b->call.batch = &x->batch;
        b->call.threads = ft_pool_threads(x->pool);
        b->call.shared = (char *)x->mem.scratch +
                         (uint64_t)ft_pool_threads(x->pool) * x->scratch.thread;
    }
    return 0;
}

g_exec *g_exec_new(const g_plan *p, const g_kernels *k, const g_memory *m, ft_pool *pool, ft_err *e)
{
    g_exec *x = calloc(1, sizeof *x);
    if (x) x->node = calloc(p->start[P_N_PHASES] + 1, sizeof *x->node);
    if (!x || !x->node) {
        ft_errf(e, FT_ENOMEM, "out of memory while binding kernels");
        g_exec_free(x);
        return NULL;
    }
    x->plan = p;
    x->mem = *m;
    x->pool = pool;
    if (g_scratch_sizes(p, k, m->weight, ft_pool_threads(pool), &x->scratch, e) ||
        bind_all(x, k, e)) {
        g_exec_free(x);
        return NULL;
    }
    fill_keep(x);
    return x;
}

void g_exec_free(g_exec *x)
{
    if (!x) return;
    free(x->node);
    ft_arena_free(&x->arena);
    free(x);
}

/* ---- running --------------------------------------------------------------------------------- */

typedef struct { g_exec *x; bound *b; } job;

static void run_range(void *arg, int thread, int64_t begin, int64_t end)
{
    const job *j = arg;
    char *scratch = (char *)j->x->mem.scratch + (uint64_t)thread * j->x->scratch.thread;
    j->b->kernel->run(&j->b->call, begin, end, scratch);
}

/* Inputs of the batch move from call to call. */
static void point_at_batch(g_exec *x)
{
    const g_plan *p = x->plan;
    const int32_t *data[G_N_INPUTS] = { x->batch.ids, x->batch.position, x->batch.target };
    for (uint32_t i = p->start[P_MICRO]; i < p->start[P_END]; i++) {
        const g_node *n = g_node_at(p->g, p->node[i]);
        for (int k = 0; k < n->n_in; k++) {
            p_value at = p->value[n->in[k]];
            if (at.place == P_BATCH && x->node[i].kernel)
                ((ft_arg *)(uintptr_t)x->node[i].call.in)[k].data =
                    (void *)(uintptr_t)data[at.offset];
        }
    }
}

static uint64_t bytes_moved(const ft_call *c)
{
    uint64_t n = 0;
    for (int i = 0; i < c->n_in; i++)
        n += (uint64_t)(ft_rows(c, &c->in[i]) * c->in[i].cols * g_dtype_bytes(c->in[i].dtype));
    for (int i = 0; i < c->n_out; i++)
        n += (uint64_t)(ft_rows(c, &c->out[i]) * c->out[i].cols * g_dtype_bytes(c->out[i].dtype));
    return n;
}

static void run_node(g_exec *x, bound *b)
{
    job j = { x, b };
    double t = x->profile ? ft_seconds() : 0;
    int64_t rounds = b->kernel->rounds ? b->kernel->rounds(&b->call) : 1;
    for (b->call.round = 0; b->call.round < rounds; b->call.round++)
        ft_pool_run(x->pool, b->kernel->items(&b->call), run_range, &j);
    if (x->profile) {
        g_profile *r = &x->row[b->op];
        r->calls++;
        r->seconds += ft_seconds() - t;
        r->bytes += bytes_moved(&b->call);
        r->flops += flops_of(r->op, &b->call);
    }
}

static void poison_after(g_exec *x, uint32_t t)
{
    for (uint32_t i = 0; i < x->plan->n_buffer; i++) {
        const p_buffer *b = &x->plan->buffer[i];
        if (b->place == P_WORK && b->last == t)
            memset((char *)x->mem.work + b->offset, 0xFF, b->size);
    }
}

static void let_weights_go(const g_exec *x, const g_node *n)
{
    for (int k = 0; k < n->n_in; k++) {
        p_value at = x->plan->value[n->in[k]];
        if (at.place == P_WEIGHT) x->mem.let_go(x->mem.ctx, (uint32_t)at.offset);
    }
}

static void run_phase(g_exec *x, p_phase phase)
{
    for (uint32_t i = x->plan->start[phase]; i < x->plan->start[phase + 1]; i++) {
        if (x->node[i].kernel) run_node(x, &x->node[i]);
        if (x->mem.let_go) let_weights_go(x, g_node_at(x->plan->g, x->plan->node[i]));
        if (x->poison && i + 1 < x->plan->start[phase + 1]) poison_after(x, i);
    }
}

void g_exec_const(g_exec *x) { run_phase(x, P_CONST); }

static void zero_sums(g_exec *x)
{
    const g_plan *p = x->plan;
    size_t grad = p->g->compute == FT_F64 ? 8 : 4;
    if (x->mem.grad) memset(x->mem.grad, 0, p->grad_count * grad);
    for (uint32_t v = 1; v < p->n_value; v++) {
        const g_value *a = g_value_at(p->g, v);
        if (a->source == G_ACC && p->value[v].place == P_WORK)
            memset(place(p, &x->mem, p->value[v]), 0, g_value_bytes(&a->desc));
    }
}

void g_exec_begin(g_exec *x)
{
    zero_sums(x);
    run_phase(x, P_BEGIN);
}

/* The gradient of the loss vector: the loss scale everywhere. */
static void fill_seed(g_exec *x)
{
    const ft_g *g = x->plan->g;
    if (!g->seed) return;
    void *p = place(x->plan, &x->mem, x->plan->value[g->seed]);
    for (int64_t i = 0; i < x->batch.n_trained; i++) {
        if (g->compute == FT_F64) ((double *)p)[i] = (double)x->batch.loss_scale;
        else ((float *)p)[i] = x->batch.loss_scale;
    }
}

void g_exec_micro(g_exec *x, const ft_batch *b)
{
    x->batch = *b;
    point_at_batch(x);
    fill_seed(x);
    run_phase(x, P_MICRO);
}

void g_exec_end(g_exec *x) { run_phase(x, P_END); }

void *g_exec_data(const g_exec *x, ft_val v)
{
    return place(x->plan, &x->mem, x->plan->value[v.id]);
}
void g_exec_poison(g_exec *x, bool on) { x->poison = on; }
void g_exec_profile(g_exec *x, bool on) { x->profile = on; }

size_t g_exec_profile_rows(const g_exec *x, const g_profile **rows)
{
    *rows = x->row;
    return x->n_row;
}
