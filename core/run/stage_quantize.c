/* stage_quantize.c -- packs the matrices of linear layers; embeddings and head stay as they are. */
#include <stdlib.h>
#include <string.h>
#include "core/base/file.h"
#include "core/graph/match.h"
#include "core/graph/plan.h"
#include "core/io/dtype.h"
#include "core/io/safetensors_write.h"
#include "core/run/quantize.h"

/* ---- which weights --------------------------------------------------------------------------- */

static bool skipped(const ft_list *skip, const char *module)
{
    for (size_t i = 0; skip && i < skip->n; i++) {
        if (ft_match_module(skip->v[i], module)) return true;
    }
    return false;
}

/* The module path of a weight that is a linear layer's matrix inside of the layers, or NULL. */
static const ft_site *site_of(const ft_g *g, const char *weight)
{
    size_t n = strlen(weight);
    if (n < 8 || strcmp(weight + n - 7, ".weight")) return NULL;
    for (uint32_t i = 0; i < g->n_site; i++) {
        const ft_site *s = &g->site[i];
        if (s->kind == FT_SITE_LINEAR && s->layer >= 0 && strlen(s->name) == n - 7 &&
            !strncmp(s->name, weight, n - 7))
            return s;
    }
    return NULL;
}

int ft_quantize_parts(const ft_quantizing *q, const ft_g *g, const char *weight,
                      const ft_shape *shape, ft_part part[FT_MAX_PARTS])
{
    const ft_site *s = site_of(g, weight);
    if (!s || skipped(q->skip, s->name)) return 0;
    int n = q->vt->parts(q->self, shape->dim, shape->ndim, part);
    return n > 0 ? n : 0;
}

uint64_t ft_part_bytes(const ft_part *p)
{
    uint64_t n = p->dtype == FT_NO_DTYPE ? 0 : (uint64_t)g_dtype_bytes(p->dtype);
    for (int i = 0; i < p->ndim; i++) n *= (uint64_t)p->dim[i];
    return n;
}

ft_quantizing ft_quantize_open(const ft_instance *i)
{
    ft_quantizing q = { .vt = ft_instance_vtable(i), .self = ft_instance_self(i) };
    if (FT_HAS(q.vt, skip_modules) && q.vt->skip_modules != (size_t)-1)
        q.skip = (const ft_list *)(const void *)((const char *)ft_instance_config(i) +
                                                 q.vt->skip_modules);
    return q;
}

int ft_quantize_plan(ft_weights *w, const ft_g *g, const ft_quantizing *q, ft_err *e)
{
    uint64_t *bytes = ft_arena_array(&w->plan, g->n_weight + 1, sizeof *bytes);
    if (!bytes) return ft_errf(e, FT_ENOMEM, "out of memory while planning packed weights");
    for (uint32_t i = 0; i < g->n_weight; i++) {
        ft_part part[FT_MAX_PARTS];
        int n = ft_quantize_parts(q, g, g->weight[i].name, &g->weight[i].shape, part);
        for (int k = 0; k < n; k++) bytes[i] += ft_part_bytes(&part[k]);
    }
    w->planned = bytes;
    w->planned_for = g;
    return 0;
}

/* ---- the stage ------------------------------------------------------------------------------- */

typedef struct {
    ft_run *r;
    ft_stage *s;
    ft_instance *i;
    ft_quantizing q;
    ft_weights weights;
    ft_st_writer *out;
    ft_buf parts;        /* of the weight at hand */
    ft_buf rows;         /* its numbers in fp32, when it is not plain */
} packing;

int64_t ft_quantize_declare(ft_st_writer *w, const char *weight, const ft_part *part, int n,
                            ft_err *e)
{
    int64_t index = 0;
    for (int k = 0; k < n && index >= 0; k++) {
        char name[512];
        snprintf(name, sizeof name, "%s%s", weight, part[k].suffix);
        if (part[k].dtype != FT_NO_DTYPE)
            index = ft_st_declare(w, name, part[k].dtype, part[k].dim, part[k].ndim, e);
    }
    return index;
}

/* The parts of weight number i of the plain build. */
static int parts_of(const packing *p, const ft_g *g, uint32_t i, ft_part part[FT_MAX_PARTS])
{
    return ft_quantize_parts(&p->q, g, g->weight[i].name, &g->weight[i].shape, part);
}

static int declare(packing *p, const ft_g *g, ft_err *e)
{
    int64_t n = 0;
    for (uint32_t i = 0; i < g->n_weight; i++) {
        ft_part part[FT_MAX_PARTS];
        int parts = parts_of(p, g, i, part);
        n += parts > 0;
        int64_t index = ft_quantize_declare(p->out, g->weight[i].name, part, parts, e);
        if (index < 0) return (int)index;
    }
    if (n == 0)
        return ft_errf(e, FT_EINVAL, "%s: no weight of this model can be packed", p->s->conf->id);
    return 0;
}

/* The weight as a plain tensor: in place, or decoded to fp32. */
static int plain(packing *p, const g_weight *w, ft_tensor *t, ft_err *e)
{
    ft_arg a;
    int code = ft_weights_find(&p->weights, w->name, &w->shape, &a, e);
    if (!code) code = ft_weights_finite(&p->weights, w->name, e);
    if (code) return code;
    *t = (ft_tensor){ .name = w->name, .dtype = FT_F32, .ndim = 2, .dim = { a.rows, a.cols } };
    t->bytes = (uint64_t)(a.rows * a.cols * 4);
    if (!a.packed) {
        t->dtype = a.dtype;
        t->data = a.data;
        t->bytes = (uint64_t)(a.rows * a.cols * g_dtype_bytes(a.dtype));
        return 0;
    }
    p->rows.n = 0;
    float *rows = ft_buf_grow(&p->rows, t->bytes);
    if (!rows) return ft_errf(e, FT_ENOMEM, "out of memory while packing %s", w->name);
    ft_weights_rows(&a, 0, a.rows, rows);
    t->data = rows;
    return 0;
}

int ft_quantize_write(const ft_quantizing *q, ft_instance *i, const ft_tensor *t,
                      const ft_part *part, int n, ft_st_writer *w, int64_t *index, ft_buf *room,
                      ft_err *e)
{
    void *at[FT_MAX_PARTS] = { NULL };
    uint64_t total = 0, from = 0;
    for (int k = 0; k < n; k++) total += (ft_part_bytes(&part[k]) + 63) / 64 * 64;
    room->n = 0;
    char *bytes = ft_buf_grow(room, total);
    if (!bytes) return ft_errf(e, FT_ENOMEM, "out of memory while packing %s", t->name);
    for (int k = 0; k < n; k++) {
        if (part[k].dtype == FT_NO_DTYPE) continue;
        at[k] = bytes + from;
        from += (ft_part_bytes(&part[k]) + 63) / 64 * 64;
    }
    int code = q->vt->encode(q->self, t, at);
    if (code) return ft_instance_error(i, code, e);
    for (int k = 0; k < n && !code; k++) {
        if (at[k]) code = ft_st_write(w, (*index)++, at[k], ft_part_bytes(&part[k]), e);
    }
    return code;
}

static int pack_all(packing *p, const ft_g *g, ft_err *e)
{
    int64_t index = 0;
    for (uint32_t i = 0; i < g->n_weight; i++) {
        ft_part part[FT_MAX_PARTS];
        ft_tensor w;
        int n = parts_of(p, g, i, part);
        if (n == 0) continue;
        int code = plain(p, &g->weight[i], &w, e);
        if (!code)
            code = ft_quantize_write(&p->q, p->i, &w, part, n, p->out, &index, &p->parts, e);
        ft_weights_forget(&p->weights, g->weight[i].name, 1, 1);
        if (code) return code;
        ft_progress_update(&p->r->progress, "weights", i + 1, g->n_weight);
        if (ft_cancelled()) return ft_errf(e, FT_ECANCEL, "stopped on request");
    }
    return 0;
}

int ft_stage_quantize(ft_run *r, ft_stage *s, const char *dir, ft_err *e)
{
    packing p = { .r = r, .s = s };
    char path[4096];
    ft_machine m;
    int code = ft_machine_open(&m, r->registry, r->cli->threads, e);
    if (!code) code = ft_machine_start(&m, e);
    if (code) return code;
    r->machine = &m;
    p.i = ft_run_instance(r, s, e);
    if (!p.i) code = e->code;
    if (!code) {
        p.q = ft_quantize_open(p.i);
        if (!p.q.vt->encode) code = ft_errf(e, FT_EUNSUP, "%s only reads its format", s->conf->use);
    }
    if (!code) code = ft_model_open_weights(&r->model, &p.weights, e);
    if (!code) ft_tensors_apart(p.weights.base);
    p.out = code ? NULL : ft_st_new(e);
    if (!code && !p.out) code = e->code;
    if (!code) code = ft_st_note(p.out, "scheme", p.q.vt->scheme, e);
    if (!code) code = declare(&p, r->scan.g, e);
    if (!code) code = ft_path_join(path, sizeof path, dir, "packed.safetensors", e);
    if (!code) code = ft_st_begin(p.out, path, 0, e);
    if (!code) code = pack_all(&p, r->scan.g, e);
    if (!code) code = ft_st_commit(p.out, e);
    ft_st_free(p.out);
    ft_buf_free(&p.parts);
    ft_buf_free(&p.rows);
    ft_weights_free(&p.weights);
    ft_instance_close(p.i);
    ft_machine_close(&m);
    r->machine = NULL;
    return code;
}
