/* merge_site.c -- see merge_site.h.
 *
 *   y(x) = x W'^T + c     x = e_0, e_1, …  a block of rows at a time, W' column by column
 *
 * The graph has one site and its input is a table whose rows are picked by ids, so that the adapter
 * sees what it sees in training: a micro-batch of activations.  c = y(0) is the bias; where the
 * base has none, c must be 0.  Products with 0 and 1 are exact, so an update of nothing gives the
 * base's weight to the bit.  Experts' tensors go matrix by matrix: the expert's number stands where
 * the position does.  Checked against PEFT's merged weights (plugins/merge/merge_test.c). */
#include "core/run/merge_site.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "core/graph/rules.h"
#include "ft/ck.h"

enum { BLOCK = 512 }; /* rows of the identity at a time */
static const char input_name[] = "merge.input";

/* ---- a model of one site --------------------------------------------------------------------- */

typedef struct {
    const ft_site *site;
    bool bias;
    const char *weight;  /* a head that shares its weight: that weight's name, else NULL */
    int64_t rows;        /* of the table */
    ft_val x;            /* what enters the site */
    int32_t expert;      /* whose matrix is being found */
} one_site;

static ft_val build(void *self, ft_graph *g, const ft_model_inputs *in)
{
    one_site *o = self;
    const ft_site *s = o->site;
    if (s->kind == FT_SITE_EMBED) {
        ft_layer(g, s->layer, in->ids);
        return ft_site_embed(g, s->name, s->in, s->out, in->ids);
    }
    ft_val table = ft_shared(g, input_name, ft_2d(o->rows, s->in), FT_FROZEN, ft_fill(0));
    o->x = ft_layer(g, s->layer, ft_embedding(g, in->ids, table));
    if (s->kind == FT_SITE_GROUPED) {
        int64_t rows = ft_describe(g, in->positions)->shape.dim[0];
        ft_routing r = { .ids = ft_reshape(g, in->positions, ft_2d(rows, 1)) };
        unsigned flags = (s->by_in ? FT_BY_IN : 0u) | (o->bias ? FT_BIAS : 0u);
        return ft_site_grouped(g, s->name, o->x, &r, s->experts, s->out, flags);
    }
    if (!o->weight) return ft_site_linear(g, s->name, o->x, s->out, o->bias);
    return ft_site_linear_tied(g, s->name, o->x, s->out,
                               ft_weight(g, o->weight, ft_2d(s->out, s->in)));
}

static const ft_model one_site_model = { .size = sizeof one_site_model, .build = build };

/* ---- linear or not --------------------------------------------------------------------------- */

enum { CONSTANT, LINEAR, OTHER };

/* What an op makes of inputs that are each CONSTANT, LINEAR or OTHER in x. */
static uint8_t through(const g_node *n, const uint8_t *how)
{
    uint8_t all = CONSTANT;
    int linear = 0;
    for (int i = 0; i < n->n_in; i++) {
        uint8_t h = how[n->in[i]];
        if (h > all) all = h;
        linear += h == LINEAR;
    }
    if (all != LINEAR) return all;
    if (!strcmp(n->op->name, "binary")) {
        int kind = (int)n->attr[0];
        if (kind == FT_ADD || kind == FT_SUB) return LINEAR;
        return linear == 1 && (kind == FT_MUL || how[n->in[0]] == LINEAR) ? LINEAR : OTHER;
    }
    bool every = !strcmp(n->op->name, "detach") || !strcmp(n->op->name, "copy") ||
                 !strcmp(n->op->name, "concat");
    for (int i = 0; i < n->n_in && !every; i++) {
        if (how[n->in[i]] == LINEAR && (i > 31 || !(n->op->linear >> i & 1))) return OTHER;
    }
    return LINEAR;
}

/* Whether y depends on x by sums and constant factors alone; false also when there is no memory. */
static bool is_linear(const ft_g *g, ft_val x, ft_val y, ft_err *e)
{
    uint8_t *how = calloc(g->n_value + 1, 1);
    if (!how) {
        ft_errf(e, FT_ENOMEM, "out of memory while merging");
        return false;
    }
    how[x.id] = LINEAR;
    for (uint32_t i = 0; i < g->n_node; i++) {
        const g_node *n = g_node_at(g, i);
        uint8_t h = through(n, how);
        for (int k = 0; k < n->n_out; k++) {
            if (n->out[k] != x.id) how[n->out[k]] = h;
        }
    }
    bool good = how[y.id] != OTHER;
    free(how);
    return good;
}

/* ---- running it ------------------------------------------------------------------------------ */

typedef struct {
    one_site site;
    ft_program program;
    ft_engine engine;
    float *input;     /* the table (rows, in) */
} running;

static void stop(running *r)
{
    ft_program_free(&r->program);
    ft_engine_stop(&r->engine);
}

static int start(running *r, ft_merge *m, const ft_merge_item *i, bool bias, ft_err *e)
{
    const ft_site *s = i->site;
    int64_t rows = s->in < BLOCK ? s->in : BLOCK;
    *r = (running){ .site = { .site = s,
                              .bias = bias,
                              .rows = rows,
                              .weight = strcmp(i->name, i->from) && !i->whole.ndim ? i->from
                                                                                   : NULL } };
    ft_program_args a = { .purpose = FT_FOR_VALUE,
                          .model = &one_site_model,
                          .model_self = &r->site,
                          .method = &m->lineup.method,
                          .compute = FT_F32,
                          .max_tokens = rows,
                          .max_trained = rows };
    ft_machine *machine = &m->lineup.machine;
    int code = ft_program_plan(&r->program, &a, &m->lineup.weights, &machine->kernels,
                               machine->threads, e);
    if (code) return code;
    r->engine = (ft_engine){ .machine = machine, .program = { &r->program }, .n_programs = 1 };
    code = ft_engine_start(&r->engine, e);
    if (!code)
        code = ft_engine_fill_part(&r->engine, &m->lineup.weights, (uint64_t)m->run->config.seed,
                                   m->lineup.init, e);
    if (code) {
        stop(r);
        return code;
    }
    const ft_g *g = r->program.g;
    for (uint32_t k = 0; k < g->n_param; k++) {
        const g_param *p = &g->param[k];
        if (!strcmp(p->name, input_name)) r->input = ft_engine_param(&r->engine, k);
        ft_merge_used(m, p->name, p->site || p->weight ? s->name : "the modules that share it");
    }
    g_exec_begin(r->program.x);
    return 0;
}

/* What the site gives for the ids first … first + n - 1: (n, out). */
static const float *run_ids(running *r, int64_t first, int64_t n)
{
    ft_micro *m = &r->engine.micro[0];
    m->b.n_tokens = n;
    m->b.n_rows = m->b.n_docs = 1;
    m->b.n_trained = 0;
    m->row_start[0] = m->doc_start[0] = 0;
    m->row_start[1] = m->doc_start[1] = (int32_t)n;
    for (int64_t t = 0; t < n; t++) {
        m->ids[t] = (int32_t)(first + t);
        m->position[t] = r->site.site->kind == FT_SITE_GROUPED ? r->site.expert : (int32_t)t;
    }
    g_exec_micro(r->program.x, &m->b);
    return g_exec_data(r->program.x, r->program.logits);
}

/* What the site gives for rows c0 … c0 + n - 1 of the identity; n 0: for one row of zeros. */
static const float *run_identity(running *r, int64_t c0, int64_t n)
{
    int64_t in = r->site.site->in;
    memset(r->input, 0, (size_t)(r->site.rows * in) * sizeof *r->input);
    for (int64_t t = 0; t < n; t++) r->input[t * in + c0 + t] = 1;
    return run_ids(r, 0, n ? n : 1);
}

/* ---- the results ----------------------------------------------------------------------------- */

static int not_linear(const ft_merge *m, const ft_site *s, const char *what, ft_err *e)
{
    return ft_errf(e, FT_EUNSUP,
                   "%s cannot be merged: at %s it %s; leave the merge stage out and use the "
                   "adapter as it is",
                   m->lineup.method.adapter[0].plugin, s->name, what);
}

static int merge_bias(ft_merge *m, const ft_merge_item *i, ft_merge_sink sink, void *ctx, ft_err *e)
{
    running r;
    int code = start(&r, m, i, true, e);
    if (code) return code;
    code = sink(ctx, run_identity(&r, 0, 0), i->site->out, e);
    stop(&r);
    return code;
}

static int merge_embedding(ft_merge *m, const ft_merge_item *i, ft_merge_sink sink, void *ctx,
                           ft_err *e)
{
    running r;
    const ft_site *s = i->site;
    int code = start(&r, m, i, false, e);
    if (code) return code;
    for (int64_t row = 0; row < s->in && !code; row += r.site.rows) {
        int64_t n = s->in - row < r.site.rows ? s->in - row : r.site.rows;
        code = sink(ctx, run_ids(&r, row, n), n * s->out, e);
    }
    stop(&r);
    return code;
}

/* w (out, in) from blocks of its columns; c (out): what the site gives for zeros. */
static void fill_weight(running *r, float *w, const float *c)
{
    const ft_site *s = r->site.site;
    for (int64_t c0 = 0; c0 < s->in; c0 += r->site.rows) {
        int64_t n = s->in - c0 < r->site.rows ? s->in - c0 : r->site.rows;
        const float *y = run_identity(r, c0, n);
        for (int64_t o = 0; o < s->out; o++) {
            for (int64_t t = 0; t < n; t++) w[o * s->in + c0 + t] = y[t * s->out + o] - c[o];
        }
    }
}

/* c (out) = y(0); an error when it is not 0 and the model has no place for it. */
static int find_constant(running *r, ft_merge *m, float *c, ft_err *e)
{
    const ft_site *s = r->site.site;
    bool any = false;
    memcpy(c, run_identity(r, 0, 0), (size_t)s->out * sizeof *c);
    for (int64_t o = 0; o < s->out; o++) any |= c[o] != 0;
    return any && (!s->bias || s->kind == FT_SITE_GROUPED)
               ? not_linear(m, s, "adds a constant, and the module has no bias to take it", e)
               : 0;
}

/* The expert's matrix into w, as the site keeps it. */
static void fill_expert(running *r, float *w, const float *c)
{
    const ft_site *s = r->site.site;
    for (int64_t c0 = 0; s->by_in && c0 < s->in; c0 += r->site.rows) {
        int64_t n = s->in - c0 < r->site.rows ? s->in - c0 : r->site.rows;
        memcpy(w + c0 * s->out, run_identity(r, c0, n), (size_t)(n * s->out) * sizeof *w);
    }
    if (!s->by_in) fill_weight(r, w, c);
}

static int merge_linear(ft_merge *m, const ft_merge_item *i, ft_merge_sink sink, void *ctx,
                        ft_err *e)
{
    running r;
    const ft_site *s = i->site;
    uint64_t n, bytes;
    if (!ck_mul(&n, (uint64_t)s->in, (uint64_t)s->out) || !ck_add(&bytes, n, (uint64_t)s->out) ||
        !ck_mul(&bytes, bytes, sizeof(float)))
        return ft_errf(e, FT_ESHAPE, "%s: a weight of %lld x %lld is too large", s->name,
                       (long long)s->out, (long long)s->in);
    int code = start(&r, m, i, false, e);
    if (code) return code;
    float *w = NULL;
    if (!is_linear(r.program.g, r.site.x, r.program.logits, e))
        code = e->code ? e->code
                       : not_linear(m, s, "computes something that is not linear in its input", e);
    if (!code) w = ft_region_new(bytes, "a merged weight", e);
    if (!code && !w) code = e->code;
    int64_t first = i->whole.ndim ? i->row / i->whole.dim[1] : 0;
    int64_t last = i->whole.ndim ? first + 1 : s->kind == FT_SITE_GROUPED ? s->experts : 1;
    for (int64_t k = first; k < last && !code; k++) {
        r.site.expert = (int32_t)k;
        code = find_constant(&r, m, w + n, e);
        if (code) break;
        if (s->kind == FT_SITE_GROUPED) fill_expert(&r, w, w + n);
        else fill_weight(&r, w, w + n);
        if (i->whole.ndim) /* its rows of the expert's matrix */
            code = sink(ctx, w + (i->row - k * i->whole.dim[1]) * s->in, i->shape.dim[0] * s->in,
                        e);
        else code = sink(ctx, w, (int64_t)n, e);
    }
    ft_region_free(w, bytes);
    stop(&r);
    return code;
}

int ft_merge_site(ft_merge *m, const ft_merge_item *i, ft_merge_sink sink, void *ctx, ft_err *e)
{
    if (i->bias) return merge_bias(m, i, sink, ctx, e);
    return i->site->kind == FT_SITE_EMBED ? merge_embedding(m, i, sink, ctx, e)
                                          : merge_linear(m, i, sink, ctx, e);
}
