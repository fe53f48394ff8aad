/* plan.c -- liveness and offsets (see plan.h).
 *
 * Offsets: buffers are placed from the largest to the smallest, each at the lowest offset where it
 * meets no buffer whose life overlaps.  This is the usual heuristic for an NP-hard packing; on
 * transformer steps it comes within a few per cent of the live bytes at the peak. */
#include "core/graph/plan.h"
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64 };
#define NONE UINT32_MAX

typedef struct {
    g_plan *p;
    ft_g *g;
    uint32_t cap;    /* of p->buffer */
    uint32_t *of;    /* [n_value] buffer of a value, or NONE */
    uint32_t *last;  /* [n_value] last reader of the value itself; NONE: it may not be taken over */
    uint8_t *after;  /* [n_value] depends on an accumulator */
    int64_t slot_tokens;
} planner;

int64_t g_dtype_bytes(ft_dtype t)
{
    switch (t) {
    case FT_F64: case FT_I64: case FT_U64: return 8;
    case FT_F32: case FT_I32: case FT_U32: return 4;
    case FT_BF16: case FT_F16: case FT_I16: case FT_U16: return 2;
    default: return 1;
    }
}

uint64_t g_value_bytes(const ft_desc *d)
{
    return (uint64_t)(g_rows(d) * g_cols(d) * g_dtype_bytes(d->dtype));
}

bool g_is_alias(const g_node *n)
{
    return !strcmp(n->op->name, "reshape") || !strcmp(n->op->name, "detach");
}

/* The input whose buffer the output is: of an alias its only one, of `cache` the stored keys. */
static int shared_input(const g_node *n)
{
    return g_is_alias(n) ? 0 : !strcmp(n->op->name, "cache") ? 1 : -1;
}

/* ---- phases ---------------------------------------------------------------------------------- */

static p_phase phase_of(planner *a, const g_node *n)
{
    bool after = false;
    for (int i = 0; i < n->n_in; i++)
        after |= a->after[n->in[i]] || g_value_at(a->g, n->in[i])->source == G_ACC;
    for (int i = 0; i < n->n_out; i++) a->after[n->out[i]] = after;
    if (n->life == FT_LIFE_CONST) return P_CONST;
    if (n->life == FT_LIFE_MICRO) return P_MICRO;
    return after ? P_END : P_BEGIN;
}

static int sort_into_phases(planner *a, const uint32_t *order, uint32_t n)
{
    g_plan *p = a->p;
    uint8_t *phase = malloc(n + 1);
    p->node = malloc((n + 1) * sizeof *p->node);
    if (!phase || !p->node) {
        free(phase);
        return FT_ENOMEM;
    }
    for (uint32_t i = 0; i < n; i++) phase[i] = (uint8_t)phase_of(a, g_node_at(a->g, order[i]));
    uint32_t k = 0;
    for (int ph = 0; ph < P_N_PHASES; ph++) {
        p->start[ph] = k;
        for (uint32_t i = 0; i < n; i++) {
            if (phase[i] == ph) p->node[k++] = order[i];
        }
    }
    p->start[P_N_PHASES] = k;
    free(phase);
    return 0;
}

/* ---- leaves ---------------------------------------------------------------------------------- */

static uint32_t add_buffer(planner *a, uint32_t v, uint32_t first, p_place place)
{
    g_plan *p = a->p;
    uint64_t size = g_value_bytes(&g_value_at(a->g, v)->desc);
    if (p->n_buffer == a->cap) return NONE; /* cannot happen: room for every value */
    p->buffer[p->n_buffer] = (p_buffer){ .size = (size + ALIGN - 1) / ALIGN * ALIGN, .first = first,
                                         .last = first, .value = v, .place = place };
    return p->n_buffer++;
}

/* Trained parameters one after the other, and their gradients likewise, as they were declared. */
static void place_params(planner *a)
{
    g_plan *p = a->p;
    for (uint32_t i = 0; i < a->g->n_param; i++) {
        uint32_t v = a->g->param[i].value;
        const ft_desc *d = &g_value_at(a->g, v)->desc;
        if (d->life != FT_LIFE_STEP) continue;
        p->value[v] = (p_value){ P_PARAM, p->param_bytes };
        p->grad_at[i] = p->grad_count;
        p->param_bytes += (g_value_bytes(d) + ALIGN - 1) / ALIGN * ALIGN;
        p->grad_count += ((uint64_t)(g_rows(d) * g_cols(d)) + 15) / 16 * 16;
    }
}

/* Sums of gradients: of parameters in the flat array, of other STEP values in a buffer that lives
 * from the start of the step. */
static void place_acc(planner *a, uint32_t v)
{
    const g_value *x = g_value_at(a->g, v);
    const g_value *of = g_value_at(a->g, x->index);
    if (of->source == G_PARAM)
        a->p->value[v] = (p_value){ P_GRAD, a->p->grad_at[of->index] };
    else
        a->of[v] = add_buffer(a, v, a->p->start[P_BEGIN], P_WORK);
}

static void place_leaf(planner *a, uint32_t v)
{
    const g_value *x = g_value_at(a->g, v);
    p_value *at = &a->p->value[v];
    bool matrix = x->desc.shape.ndim >= 2, kept = false;
    uint64_t slots;
    switch (x->source) {
    case G_NODE: break;
    case G_SEED: kept = true; break;
    case G_INPUT: *at = (p_value){ P_BATCH, x->index }; break;
    case G_TABLE: kept = true; break;
    case G_WEIGHT:
        *at = (p_value){ P_WEIGHT, x->index };
        kept = !matrix || a->g->compute == FT_F64;
        break;
    case G_PARAM: kept = x->desc.life == FT_LIFE_CONST; break;
    case G_ACC: place_acc(a, v); break;
    case G_STATE:
        slots = (uint64_t)(a->slot_tokens * g_cols(&x->desc) * g_dtype_bytes(x->desc.dtype));
        *at = (p_value){ P_STATE, a->p->state_bytes };
        a->p->state_bytes += (slots + ALIGN - 1) / ALIGN * ALIGN;
        break;
    }
    if (kept) a->of[v] = add_buffer(a, v, 0, P_KEEP);
}

/* ---- buffers of nodes ------------------------------------------------------------------------ */

static void read_at(planner *a, uint32_t v, uint32_t t)
{
    p_buffer *b = a->of[v] == NONE ? NULL : &a->p->buffer[a->of[v]];
    if (b && t > b->last) b->last = t;
}

static void find_last_readers(planner *a, const ft_val *read, int n_read)
{
    const g_plan *p = a->p;
    for (uint32_t t = 0; t < p->start[P_N_PHASES]; t++) {
        const g_node *n = g_node_at(a->g, p->node[t]);
        for (int i = 0; i < n->n_in; i++) {
            if (a->last[n->in[i]] != NONE) a->last[n->in[i]] = t;
        }
        int s = shared_input(n);
        if (s >= 0) a->last[n->in[s]] = a->last[n->out[0]] = NONE;
    }
    for (int i = 0; i < n_read; i++) a->last[read[i].id] = NONE;
}

/* The buffer that output i of node n may take over at time t, or NONE. */
static uint32_t taken_over(const planner *a, const g_node *n, int i, uint32_t t)
{
    if (i > 1 || !n->op->inplace[i]) return NONE;
    int from = n->op->inplace[i] - 1;
    uint32_t v = n->in[from], b = a->of[v];
    const g_value *x = g_value_at(a->g, v), *y = g_value_at(a->g, n->out[i]);
    if (b == NONE || x->source != G_NODE || a->last[v] != t || a->p->buffer[b].place != P_WORK)
        return NONE;
    if (x->desc.life != n->life || x->desc.dtype != y->desc.dtype) return NONE;
    if (g_value_bytes(&x->desc) != g_value_bytes(&y->desc)) return NONE;
    for (int k = 0; k < n->n_in; k++) { /* the same buffer read through another input */
        if (k != from && a->of[n->in[k]] == b) return NONE;
    }
    return b;
}

static void place_output(planner *a, const g_node *n, int i, uint32_t t)
{
    uint32_t v = n->out[i];
    int s = shared_input(n);
    if (g_value_at(a->g, v)->source == G_NODE) {
        uint32_t b = s >= 0 ? a->of[n->in[s]] : taken_over(a, n, i, t);
        if (s >= 0) a->p->value[v] = a->p->value[n->in[s]];
        else if (b == NONE) b = add_buffer(a, v, t, P_WORK);
        a->of[v] = b;
    }
    read_at(a, v, t); /* also accumulators, which are written */
}

/* What a buffer's life must span beyond its readers: constants live for ever; what is made before
 * the micro-batches and read in one of them is there for all. */
static void stretch(planner *a, const ft_val *read, int n_read)
{
    const uint32_t *start = a->p->start;
    uint32_t end = start[P_END] ? start[P_END] - 1 : 0;
    for (int i = 0; i < n_read; i++) read_at(a, read[i].id, end);
    for (uint32_t i = 0; i < a->p->n_buffer; i++) {
        p_buffer *b = &a->p->buffer[i];
        if (b->place == P_WORK && b->first < start[P_BEGIN] && b->last >= start[P_BEGIN])
            b->place = P_KEEP;
        if (b->first < start[P_MICRO] && b->last >= start[P_MICRO] && b->last < end) b->last = end;
    }
}

static void place_nodes(planner *a, const ft_val *read, int n_read)
{
    find_last_readers(a, read, n_read);
    for (uint32_t t = 0; t < a->p->start[P_N_PHASES]; t++) {
        const g_node *n = g_node_at(a->g, a->p->node[t]);
        for (int i = 0; i < n->n_in; i++) read_at(a, n->in[i], t);
        for (int i = 0; i < n->n_out; i++) place_output(a, n, i, t);
    }
    stretch(a, read, n_read);
}

/* ---- offsets --------------------------------------------------------------------------------- */

static int by_size(const void *x, const void *y)
{
    const p_buffer *a = *(const p_buffer *const *)x, *b = *(const p_buffer *const *)y;
    if (a->size != b->size) return a->size > b->size ? -1 : 1;
    if (a->first != b->first) return a->first < b->first ? -1 : 1;
    return a < b ? -1 : a > b; /* they lie in one array: a total order */
}

static bool meet(const p_buffer *a, const p_buffer *b)
{
    return a->first <= b->last && b->first <= a->last;
}

/* The lowest offset for b beside those placed already, which are sorted by offset. */
static uint64_t lowest_gap(const p_buffer *b, p_buffer *const *placed, uint32_t n)
{
    uint64_t at = 0;
    for (uint32_t i = 0; i < n; i++) {
        const p_buffer *o = placed[i];
        if (!meet(b, o)) continue;
        if (o->offset >= at + b->size) break;
        if (o->offset + o->size > at) at = o->offset + o->size;
    }
    return at;
}

static int place_offsets(g_plan *p)
{
    p_buffer **sorted = malloc((p->n_buffer + 1) * sizeof *sorted);
    p_buffer **placed = malloc((p->n_buffer + 1) * sizeof *placed);
    uint32_t n = 0;
    if (!sorted || !placed) {
        free(sorted);
        free(placed);
        return FT_ENOMEM;
    }
    for (uint32_t i = 0; i < p->n_buffer; i++) {
        if (p->buffer[i].place == P_WORK) {
            sorted[n++] = &p->buffer[i];
        } else {
            p->buffer[i].offset = p->keep_bytes;
            p->keep_bytes += p->buffer[i].size;
        }
    }
    qsort(sorted, n, sizeof *sorted, by_size);
    for (uint32_t i = 0; i < n; i++) {
        p_buffer *b = sorted[i];
        b->offset = lowest_gap(b, placed, i);
        if (b->offset + b->size > p->work_bytes) p->work_bytes = b->offset + b->size;
        uint32_t k = i;
        for (; k > 0 && placed[k - 1]->offset > b->offset; k--) placed[k] = placed[k - 1];
        placed[k] = b;
    }
    free(sorted);
    free(placed);
    return 0;
}

static void write_places(planner *a)
{
    for (uint32_t v = 1; v < a->p->n_value; v++) {
        if (a->of[v] == NONE) continue;
        const p_buffer *b = &a->p->buffer[a->of[v]];
        a->p->value[v] = (p_value){ b->place, b->offset };
    }
}

/* ---- all of it ------------------------------------------------------------------------------- */

static int make(planner *a, const uint32_t *order, uint32_t n, const ft_val *read, int n_read)
{
    g_plan *p = a->p;
    p->n_value = a->g->n_value;
    p->value = calloc(p->n_value, sizeof *p->value);
    p->buffer = calloc(p->n_value, sizeof *p->buffer);
    p->grad_at = calloc(a->g->n_param + 1, sizeof *p->grad_at);
    a->cap = p->n_value;
    a->of = malloc(p->n_value * sizeof *a->of);
    a->last = calloc(p->n_value, sizeof *a->last);
    a->after = calloc(p->n_value, 1);
    if (!p->value || !p->buffer || !p->grad_at || !a->of || !a->last || !a->after) return FT_ENOMEM;
    memset(a->of, 0xFF, p->n_value * sizeof *a->of);
    if (sort_into_phases(a, order, n)) return FT_ENOMEM;
    place_params(a);
    for (uint32_t v = 1; v < p->n_value; v++) place_leaf(a, v);
    place_nodes(a, read, n_read);
    if (place_offsets(p)) return FT_ENOMEM;
    write_places(a);
    return 0;
}

int g_plan_make(g_plan *p, ft_g *g, const uint32_t *order, uint32_t n, const ft_val *read,
                int n_read, int64_t slot_tokens)
{
    *p = (g_plan){ .g = g };
    planner a = { .p = p, .g = g, .slot_tokens = slot_tokens };
    if (g->err.code) return g->err.code;
    int code = make(&a, order, n, read, n_read);
    free(a.of);
    free(a.last);
    free(a.after);
    if (!code) return 0;
    g_plan_free(p);
    return ft_errf(&g->err, code, "out of memory while planning");
}

void g_plan_free(g_plan *p)
{
    free(p->node);
    free(p->value);
    free(p->buffer);
    free(p->grad_at);
    *p = (g_plan){ 0 };
}
