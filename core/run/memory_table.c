/* memory_table.c -- see memory_table.h. */
#include "core/run/memory_table.h"
#include <stdlib.h>
#include <string.h>

enum { MOST_OPS = 64 };

typedef struct { const char *op; uint64_t n, bytes; } alive;

/* The time at which the buffers of the work region that are alive are largest together. */
static uint32_t peak_time(const g_plan *p)
{
    uint64_t most = 0;
    uint32_t at = 0;
    for (uint32_t t = 0; t < p->start[P_N_PHASES]; t++) {
        uint64_t now = 0;
        for (uint32_t i = 0; i < p->n_buffer; i++) {
            const p_buffer *b = &p->buffer[i];
            if (b->place == P_WORK && b->first <= t && t <= b->last) now += b->size;
        }
        if (now > most) most = now, at = t;
    }
    return at;
}

static const char *maker(const g_plan *p, const p_buffer *b)
{
    const g_value *v = g_value_at(p->g, b->value);
    return v->source == G_NODE ? g_node_at(p->g, v->node)->op->name
         : v->source == G_ACC  ? "sum of gradients"
                               : "constant";
}

static int by_bytes(const void *a, const void *b)
{
    const alive *x = a, *y = b;
    return x->bytes != y->bytes ? (x->bytes < y->bytes ? 1 : -1) : strcmp(x->op, y->op);
}

static size_t gather(const g_plan *p, uint32_t t, alive row[MOST_OPS])
{
    size_t n = 0;
    for (uint32_t i = 0; i < p->n_buffer; i++) {
        const p_buffer *b = &p->buffer[i];
        size_t k = 0;
        if (b->place != P_WORK || b->first > t || t > b->last) continue;
        while (k < n && strcmp(row[k].op, maker(p, b))) k++;
        if (k == MOST_OPS) continue;
        if (k == n) row[n++] = (alive){ .op = maker(p, b) };
        row[k].n++;
        row[k].bytes += b->size;
    }
    qsort(row, n, sizeof *row, by_bytes);
    return n;
}

void ft_memory_table(const ft_training *t, ft_log *log, const char *who)
{
    const ft_engine *e = &t->engine;
    const g_plan *p = &t->train.plan;
    alive row[MOST_OPS];
    const double mib = 1.0 / (1 << 20);
    const struct { const char *name; uint64_t bytes; } part[] = {
        { "trained parameters", e->grad_at - e->param_at },
        { "gradients", e->state_at - e->grad_at },
        { "optimizer state", e->at[0][0] - e->state_at },
        { "kept and rows", e->work_at - e->at[0][0] },
        { "activations", e->scratch_at - e->work_at },
        { "scratch", e->bytes - e->scratch_at },
        { "weights read", t->plan.weights_bytes },
        { "process", t->plan.process_bytes },
    };
    for (size_t i = 0; i < sizeof part / sizeof *part; i++)
        ft_log_line(log, FT_INFO, who, "  %-20s %17.1f MiB", part[i].name,
                    (double)part[i].bytes * mib);
    uint32_t at = peak_time(p);
    const g_node *now = g_node_at(p->g, p->node[at]);
    ft_log_line(log, FT_INFO, who, "most activations: at %s of layer %d%s, where there are",
                now->op->name, now->layer, now->side == G_BACKWARD ? ", backward" : "");
    size_t n = gather(p, at, row);
    for (size_t i = 0; i < n; i++)
        ft_log_line(log, FT_INFO, who, "  %-20s x %-6llu %8.1f MiB", row[i].op,
                    (unsigned long long)row[i].n, (double)row[i].bytes * mib);
}
