/* program.c -- see program.h. */
#include "core/run/program.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* The node that turns logits into log-probabilities; the trainer made it somewhere in its loss. */
static void find_head(ft_program *p)
{
    for (uint32_t i = 0; i < p->g->n_node; i++) {
        const g_node *n = g_node_at(p->g, i);
        if (strcmp(n->op->name, "linear_logprob") && strcmp(n->op->name, "linear_xent")) continue;
        p->logprob = (ft_val){ n->out[0] };
        p->hit = (ft_val){ n->out[1] };
        return;
    }
}

static void build(ft_program *p)
{
    const ft_program_args *a = &p->args;
    ft_graph *g = &p->g->pub;
    ft_model_inputs in = { g_input(p->g, G_IDS), g_input(p->g, G_POSITIONS) };
    ft_val logits = a->model->build(a->model_self, g, &in);
    ft_lm lm = { logits, g_input(p->g, G_TARGETS) };
    if (p->g->err.code) return;
    if (a->purpose == FT_FOR_TRAINING) p->loss = a->trainer->loss(a->trainer_self, g, &lm);
    else if (a->purpose == FT_FOR_SCORING) p->loss = ft_logprob(g, logits, lm.targets);
    else if (a->purpose == FT_FOR_VALUE) p->logits = logits;
    else p->logits = g_logits(p->g, logits);
    if (a->purpose == FT_FOR_TRAINING) g_derive(p->g, p->loss);
    find_head(p);
}

static int64_t first_position(const ft_method *m)
{
    for (int i = 0; m && i < m->n_adapters; i++) {
        const ft_adapter *a = m->adapter[i].vt;
        if (FT_HAS(a, first_position) && a->first_position)
            return a->first_position(m->adapter[i].self);
    }
    return 0;
}

enum { MAX_WANTED = 4096 };

static int make_plan(ft_program *p)
{
    const ft_program_args *a = &p->args;
    ft_val wanted[MAX_WANTED];
    uint32_t *order, n;
    int k = 0;
    if (p->loss.id) wanted[k++] = p->loss;
    if (p->logprob.id) wanted[k++] = p->logprob;
    if (p->hit.id) wanted[k++] = p->hit;
    if (p->logits.id) wanted[k++] = p->logits;
    /* what parameters start from */
    for (uint32_t i = 0; i < p->g->n_param && k < MAX_WANTED; i++) {
        const g_param *q = &p->g->param[i];
        if (q->init.kind == FT_INIT_VALUE && q->init.from.id) wanted[k++] = q->init.from;
    }
    int code = g_rematerialize(p->g, a->remat, a->recompute_layers, wanted, k, &order, &n);
    if (code) return code;
    code = g_plan_make(&p->plan, p->g, order, n, wanted, k, a->slot_tokens);
    free(order);
    return code;
}

int ft_program_plan(ft_program *p, const ft_program_args *a, ft_weights *weights,
                    const g_kernels *k, int threads, ft_err *e)
{
    *p = (ft_program){ .args = *a };
    p->g = g_new(a->compute, a->max_tokens, a->max_trained, a->method ? &a->method->answers : NULL);
    if (!p->g) return ft_errf(e, FT_ENOMEM, "out of memory while building the graph");
    p->g->train = a->purpose == FT_FOR_TRAINING;
    p->g->cached = a->purpose == FT_FOR_GENERATION;
    p->g->first_position = first_position(a->method);
    build(p);
    int code = p->g->err.code ? p->g->err.code : weights || k ? make_plan(p) : 0;
    if (code) ft_errf(e, code, "%s", p->g->err.msg);
    if (!code) {
        p->weight = calloc(p->g->n_weight + 1, sizeof *p->weight);
        if (!p->weight) code = ft_errf(e, FT_ENOMEM, "out of memory while building the graph");
    }
    if (!code && weights) code = ft_weights_bind(weights, p->g, p->weight, e);
    if (!code && k) code = g_scratch_sizes(&p->plan, k, p->weight, threads, &p->scratch, e);
    if (code) ft_program_free(p);
    return code;
}

int ft_program_bind(ft_program *p, const g_kernels *k, const g_memory *m, ft_pool *pool, ft_err *e)
{
    g_memory mem = *m;
    mem.weight = p->weight;
    p->x = g_exec_new(&p->plan, k, &mem, pool, e);
    return p->x ? 0 : e->code;
}

void ft_program_free(ft_program *p)
{
    g_exec_free(p->x);
    g_plan_free(&p->plan);
    g_free(p->g);
    free(p->weight);
    *p = (ft_program){ .x = NULL };
}

double ft_program_number(const ft_program *p, ft_val v, int64_t i)
{
    const void *at = g_exec_data(p->x, v);
    ft_dtype t = g_desc(p->g, v)->dtype;
    return t == FT_F64 ? ((const double *)at)[i] : (double)((const float *)at)[i];
}

void *ft_region_new(uint64_t n, const char *what, ft_err *e)
{
    void *p = mmap(NULL, n ? n : 1, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p != MAP_FAILED) return p;
    ft_errf(e, FT_ENOMEM, "cannot get %llu MiB of memory for %s", (unsigned long long)(n >> 20),
            what);
    return NULL;
}

void ft_region_free(void *p, uint64_t n)
{
    if (p) munmap(p, n ? n : 1);
}

void ft_region_touch(void *p, uint64_t n)
{
    volatile char *at = p;
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    if (n == 0 || madvise(p, n, MADV_POPULATE_WRITE) == 0) return;
    for (uint64_t i = 0; i < n; i += page) at[i] = at[i]; /* before Linux 5.14 */
}
