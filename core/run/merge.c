/* merge.c -- see merge.h.  Which tensors there are, and where the numbers of each come from. */
#include "core/run/merge.h"
#include <string.h>
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/run/merge_lines.h"
#include "core/run/merge_site.h"

enum { PIECE = 1 << 20 }; /* numbers that are handed over at a time */

/* ---- the list of tensors --------------------------------------------------------------------- */

/* The site whose weight or bias has this name, or NULL. */
static const ft_site *site_of(const ft_g *g, const char *weight, bool *bias)
{
    size_t n = strlen(weight);
    *bias = n > 5 && !strcmp(weight + n - 5, ".bias");
    size_t stem = *bias ? n - 5 : n > 7 && !strcmp(weight + n - 7, ".weight") ? n - 7 : 0;
    for (uint32_t i = 0; i < g->n_site; i++) {
        const ft_site *s = &g->site[i];
        bool holds = s->kind == FT_SITE_LINEAR || s->kind == FT_SITE_EMBED;
        if (s->kind == FT_SITE_GROUPED && !strcmp(s->name, weight)) return s;
        if (holds && stem && strlen(s->name) == stem && !strncmp(s->name, weight, stem)) return s;
    }
    return NULL;
}

static bool is_adapted(const ft_merge *m, const ft_site *s)
{
    const ft_method *method = &m->lineup.method;
    return method->n_adapters && s && method->adapter[0].index[s - m->run->scan.g->site] >= 0;
}

static ft_dtype dtype_of(const ft_arg *a) { return a->packed ? FT_F32 : a->dtype; }

/* The shape of the weight that an item is, or is a piece of. */
static const ft_shape *whole_shape(const ft_merge_item *i)
{
    return i->whole.ndim ? &i->whole : &i->shape;
}

/* Fills in where a weight's numbers come from and the dtype that keeps them. */
static int trace(ft_merge *m, ft_merge_item *i, uint32_t weight, ft_err *e)
{
    const ft_method *method = &m->lineup.method;
    ft_arg a;
    i->dtype = FT_F32;
    if (is_adapted(m, i->site)) {
        i->way = FT_MERGE_SITE;
        return 0;
    }
    const char *saved = method->full ? i->from : method->saved_as ? method->saved_as[weight] : NULL;
    if (saved && m->lineup.init) {
        i->way = FT_MERGE_TRAINED;
        i->from = saved;
    }
    const ft_weights *w = &m->lineup.weights;
    bool in_file = i->whole.ndim && !i->lines && !w->gguf && ft_tensors_find(w->base, i->name);
    if (i->way == FT_MERGE_BASE && in_file) {
        i->from = i->name; /* it lies in the file as it is to be written */
        i->whole.ndim = 0;
        i->row = 0;
    }
    int code = ft_weights_find(i->way == FT_MERGE_TRAINED ? &m->trained : &m->lineup.weights,
                               i->from, whole_shape(i), &a, e);
    if (!code) i->dtype = dtype_of(&a);
    return code;
}

/* How many tensors the layout keeps an experts' weight in; 0: it is one. */
static int64_t count_pieces(const ft_merge *m, const char *weight)
{
    const ft_model_run *r = &m->run->model;
    ft_piece p;
    int64_t n = 0;
    if (!FT_HAS(r->vt, piece) || !r->vt->piece) return 0;
    while (r->vt->piece(r->self, weight, m->gguf, n, &p)) n++;
    return n;
}

/* Makes *i the piece p, of n: in a folder they follow one another in the weight's rows; in a GGUF
 * each has as many lines of every expert's matrix. */
static int shape_piece(ft_merge *m, ft_merge_item *i, const ft_piece *p, int64_t j, int64_t n)
{
    const ft_shape *w = &i->whole;
    bool bias = w->ndim == 2;
    int64_t rows = bias ? 1 : w->dim[1], cols = w->dim[w->ndim - 1];
    ft_piece *own = ft_arena_alloc(&m->arena, sizeof *own);
    if (!own) return FT_ENOMEM;
    *own = *p;
    i->name = own->name;
    if (!m->gguf) {
        i->row = j * (w->dim[0] * rows / n);
        i->shape = ft_2d(w->dim[0] * rows / n, cols);
        return 0;
    }
    i->lines = own;
    i->shape = ft_2d(w->dim[0], (p->columns ? cols : rows) / n);
    if (!bias) i->shape.dim[i->shape.ndim++] = p->columns ? rows : cols;
    return 0;
}

/* The n pieces of weight k. */
static int list_pieces(ft_merge *m, uint32_t k, int64_t n, ft_err *e)
{
    const g_weight *w = &m->run->scan.g->weight[k];
    const ft_model_run *r = &m->run->model;
    ft_piece p;
    int code = 0;
    for (int64_t j = 0; j < n && !code; j++) {
        r->vt->piece(r->self, w->name, m->gguf, j, &p);
        ft_merge_item *i = &m->item[m->n++];
        *i = (ft_merge_item){ .from = w->name, .whole = w->shape };
        i->site = site_of(m->run->scan.g, w->name, &i->bias);
        code = shape_piece(m, i, &p, j, n);
        code = code ? ft_errf(e, code, "out of memory while merging") : trace(m, i, k, e);
    }
    return code;
}

/* The module that gives the logits, or NULL. */
static const ft_site *head_of(const ft_g *g)
{
    const ft_site *head = NULL;
    for (uint32_t i = 0; i < g->n_site; i++) {
        if (g->site[i].kind == FT_SITE_LINEAR && g->site[i].layer < 0) head = &g->site[i];
    }
    return head;
}

static bool has_item(const ft_merge *m, const char *name)
{
    for (size_t i = 0; i < m->n; i++) {
        if (!strcmp(m->item[i].name, name)) return true;
    }
    return false;
}

/* A head that shares the embedding, of which one is adapted and the other not, or both in their own
 * ways: it gets a weight of its own. */
static int untie(ft_merge *m, ft_err *e)
{
    const ft_g *g = m->run->scan.g;
    const ft_site *head = head_of(g), *embed = NULL;
    for (uint32_t i = 0; i < g->n_site; i++) {
        if (g->site[i].kind == FT_SITE_EMBED) embed = &g->site[i];
    }
    if (!head || !embed || head->in != embed->out || head->out != embed->in) return 0;
    if (!is_adapted(m, head) && !is_adapted(m, embed)) return 0;
    const char *name = ft_arena_printf(&m->arena, "%s.weight", head->name);
    const char *from = ft_arena_printf(&m->arena, "%s.weight", embed->name);
    if (!name || !from) return ft_errf(e, FT_ENOMEM, "out of memory while merging");
    if (has_item(m, name)) return 0;
    ft_merge_item *i = &m->item[m->n++];
    *i = (ft_merge_item){
        .name = name, .from = from, .shape = ft_2d(head->out, head->in), .site = head
    };
    m->untied = true;
    uint32_t k = 0;
    while (k < g->n_weight && strcmp(g->weight[k].name, from)) k++;
    return trace(m, i, k, e);
}

static int list_weights(ft_merge *m, ft_err *e)
{
    const ft_g *g = m->run->scan.g;
    int code = 0;
    size_t room = g->n_weight + 1;
    for (uint32_t k = 0; k < g->n_weight; k++) room += (size_t)count_pieces(m, g->weight[k].name);
    m->item = ft_arena_array(&m->arena, room, sizeof *m->item);
    if (!m->item) return ft_errf(e, FT_ENOMEM, "out of memory while merging");
    for (uint32_t k = 0; k < g->n_weight && !code; k++) {
        int64_t pieces = count_pieces(m, g->weight[k].name);
        if (pieces) code = list_pieces(m, k, pieces, e);
        if (pieces) continue;
        ft_merge_item *i = &m->item[m->n++];
        *i = (ft_merge_item){ .name = g->weight[k].name,
                              .from = g->weight[k].name,
                              .shape = g->weight[k].shape };
        i->site = site_of(g, i->name, &i->bias);
        code = trace(m, i, k, e);
    }
    return code ? code : untie(m, e);
}

/* ---- what is merged -------------------------------------------------------------------------- */

static int refuse(const char *plugin, const char *why, ft_err *e)
{
    return ft_errf(e, FT_EUNSUP,
                   "%s cannot be merged: it %s, which no weight can hold; leave the merge stage "
                   "out and use the "
                   "adapter as it is",
                   plugin, why);
}

/* The adapter must live in weights alone, and what was saved must be its own. */
static int check_adapter(ft_merge *m, ft_err *e)
{
    ft_method *method = &m->lineup.method;
    const ft_method_adapter *a = &method->adapter[0];
    ft_program_args args = { .purpose = FT_FOR_LOGITS,
                             .model = m->run->model.vt,
                             .model_self = m->run->model.self,
                             .method = method,
                             .compute = FT_F32,
                             .max_tokens = 16,
                             .max_trained = 16 };
    const ft_g *g = m->run->scan.g;
    for (uint32_t i = 0; method->n_adapters && i < g->n_site; i++) {
        uint32_t kind = g->site[i].kind;
        if (a->index[i] >= 0 && kind != FT_SITE_LINEAR && kind != FT_SITE_EMBED &&
            kind != FT_SITE_GROUPED)
            return refuse(a->plugin, "changes what passes between modules", e);
    }
    if (method->n_adapters && FT_HAS(a->vt, virtual_tokens) && a->vt->virtual_tokens &&
        a->vt->virtual_tokens(a->self) > 0)
        return refuse(a->plugin, "puts tokens of its own in front", e);
    int code = ft_program_plan(&m->scan, &args, NULL, NULL, 1, e);
    return code || !m->lineup.init ? code : ft_engine_adapter_fits(m->scan.g, m->lineup.init, e);
}

static int open_trained(ft_merge *m, const ft_stage *s, bool original, ft_err *e)
{
    int code = ft_lineup_open(&m->lineup, m->run, s, 0, NULL, e);
    if (code) return code;
    if (original && m->lineup.packed) m->lineup.weights.packed = NULL;
    m->trained = (ft_weights){ .base = m->lineup.init, .path = "the trained weights" };
    if (m->lineup.init) {
        m->use = ft_arena_array(&m->arena, ft_tensors_count(m->lineup.init) + 1, sizeof *m->use);
        if (!m->use) return ft_errf(e, FT_ENOMEM, "out of memory while merging");
    }
    code = check_adapter(m, e);
    return code ? code : list_weights(m, e);
}

/* The model that an earlier stage merged; its head may have come to have weights of its own. */
static int open_merged(ft_merge *m, const ft_stage *from, ft_err *e)
{
    m->merged = ft_tensors_open(from->dir, e);
    if (!m->merged) return e->code;
    m->lineup.weights = (ft_weights){ .base = m->merged,
                                      .model = m->run->model.vt,
                                      .model_self = m->run->model.self,
                                      .path = from->dir };
    int code = list_weights(m, e);
    const ft_site *head = code ? NULL : head_of(m->run->scan.g);
    const char *name = head ? ft_arena_printf(&m->arena, "%s.weight", head->name) : NULL;
    if (!name || has_item(m, name) || !ft_tensors_find(m->merged, name)) return code;
    ft_merge_item *i = &m->item[m->n++];
    *i = (ft_merge_item){ .name = name, .from = name, .shape = ft_2d(head->out, head->in) };
    return trace(m, i, 0, e);
}

static int open_plain(ft_merge *m, ft_err *e)
{
    int code = ft_model_open_weights(&m->run->model, &m->lineup.weights, e);
    return code ? code : list_weights(m, e);
}

/* ---- configuration --------------------------------------------------------------------------- */

ft_dtype ft_merge_own_dtype(ft_run *r)
{
    ft_weights w;
    ft_arg a;
    const ft_g *g = r->scan.g;
    ft_dtype own = FT_NO_DTYPE;
    if (ft_model_open_weights(&r->model, &w, NULL)) return own;
    for (uint32_t i = 0; i < g->n_weight; i++) {
        if (g->weight[i].shape.ndim != 2) continue;
        if (!ft_weights_find(&w, g->weight[i].name, &g->weight[i].shape, &a, NULL) && !a.packed)
            own = a.dtype;
        break;
    }
    ft_weights_free(&w);
    return own;
}

/* config.json: of the merged model, of the source's folder, or as the model plugin writes it. */
static int open_config(ft_merge *m, const ft_stage *merged, ft_err *e)
{
    const ft_model_run *model = &m->run->model;
    ft_buf text = { 0 };
    char path[4096];
    const char *p;
    size_t n;
    int code = ft_path_join(path, sizeof path, merged ? merged->dir : model->source->path,
                            "config.json", e);
    if (code) return code;
    if (merged || !model->source->gguf) {
        code = ft_file_read(&text, path, 4 << 20, e);
        p = text.p ? text.p : "";
        n = text.n;
    } else if (FT_HAS(model->vt, config) && model->vt->config) {
        code = model->vt->config(model->self, &p, &n);
        if (code) ft_instance_error(model->plugin, code, e);
    } else {
        code = ft_errf(e, FT_EUNSUP,
                       "%s: models of family %s that came from GGUF cannot be written as a Hugging "
                       "Face folder; "
                       "train from the folder instead",
                       model->source->path, model->info.family);
    }
    if (!code) m->config = ft_json_parse(path, p, n, e);
    ft_buf_free(&text);
    return code ? code : m->config ? 0 : e->code;
}

/* ---- opening --------------------------------------------------------------------------------- */

int ft_merge_open(ft_merge *m, ft_run *r, const ft_stage *s, unsigned flags, ft_err *e)
{
    *m = (ft_merge){ .run = r, .gguf = flags & FT_MERGE_FOR_GGUF };
    bool newer = s->input[FT_MERGED] > s->input[FT_TRAINED];
    const ft_stage *merged = newer ? ft_run_input(r, s, FT_MERGED) : NULL;
    bool trained = s->input[FT_TRAINED] >= 0 ||
                   (s->kind->gives == FT_MERGED && s->input[FT_ADAPTER] >= 0);
    int code = merged    ? open_merged(m, merged, e)
               : trained ? open_trained(m, s, flags & FT_MERGE_ONTO_ORIGINAL, e)
                         : open_plain(m, e);
    if (!code) code = open_config(m, merged, e);
    if (code) ft_merge_close(m);
    return code;
}

void ft_merge_close(ft_merge *m)
{
    ft_program_free(&m->scan);
    ft_weights_free(&m->trained);
    ft_lineup_close(&m->lineup);
    ft_tensors_close(m->merged);
    ft_json_done(m->config);
    ft_arena_free(&m->arena);
    *m = (ft_merge){ .run = NULL };
}

/* ---- values ---------------------------------------------------------------------------------- */

/* Rows from … to - 1 of a tensor that is only read, some at a time. */
static int copy_values(const ft_arg *a, int64_t from, int64_t to, ft_merge_sink sink, void *ctx,
                       ft_err *e)
{
    int64_t rows = a->cols < PIECE ? PIECE / a->cols : 1;
    uint64_t bytes = (uint64_t)(rows * a->cols) * sizeof(float);
    float *piece = ft_region_new(bytes, "a piece of a weight", e);
    int code = piece ? 0 : e->code;
    for (int64_t r = from; r < to && !code; r += rows) {
        int64_t n = to - r < rows ? to - r : rows;
        ft_weights_rows(a, r, n, piece);
        code = sink(ctx, piece, n * a->cols, e);
    }
    ft_region_free(piece, bytes);
    return code;
}

/* The files are mapped and read once, from front to back: what has been read need not stay. */
static void forget(const ft_merge *m)
{
    const ft_tensors *set[] = { m->lineup.weights.base, m->lineup.packed, m->trained.base };
    for (size_t i = 0; i < sizeof set / sizeof *set; i++) {
        if (set[i]) ft_tensors_forget(set[i]);
    }
}

static int values_of(ft_merge *m, const ft_merge_item *i, ft_merge_sink sink, void *ctx, ft_err *e)
{
    ft_arg a;
    if (i->way == FT_MERGE_SITE) return ft_merge_site(m, i, sink, ctx, e);
    if (i->way == FT_MERGE_TRAINED) ft_merge_used(m, i->from, i->from);
    int code = ft_weights_find(i->way == FT_MERGE_TRAINED ? &m->trained : &m->lineup.weights,
                               i->from, whole_shape(i), &a, e);
    if (code) return code;
    int64_t rows = i->whole.ndim ? i->shape.dim[0] : a.rows;
    return copy_values(&a, i->row, i->row + rows, sink, ctx, e);
}

/* The lines of a GGUF's piece, picked out of the whole weight as it goes by. */
static int values_of_lines(ft_merge *m, const ft_merge_item *i, ft_merge_sink sink, void *ctx,
                           ft_err *e)
{
    ft_merge_lines l;
    ft_merge_item whole = *i;
    whole.lines = NULL;
    whole.shape = i->whole;
    whole.whole.ndim = 0;
    int code = ft_merge_lines_start(&l, i, sink, ctx, e);
    if (!code) code = values_of(m, &whole, ft_merge_lines_take, &l, e);
    ft_merge_lines_free(&l);
    return code;
}

int ft_merge_values(ft_merge *m, size_t k, ft_merge_sink sink, void *ctx, ft_err *e)
{
    const ft_merge_item *i = &m->item[k];
    int code = i->lines ? values_of_lines(m, i, sink, ctx, e) : values_of(m, i, sink, ctx, e);
    forget(m);
    return code;
}
