/* engine.c -- see engine.h. */
#include "core/run/engine.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "core/base/file.h"
#include "core/base/random.h"
#include "ft/half.h"

/* ---- memory ---------------------------------------------------------------------------------- */

static uint64_t take(uint64_t *at, uint64_t n)
{
    uint64_t here = *at;
    *at += (n + 63) / 64 * 64;
    return here;
}

static uint64_t larger(uint64_t a, uint64_t b) { return a > b ? a : b; }

void ft_engine_size(ft_engine *e)
{
    const g_plan *first = &e->program[0]->plan;
    uint64_t at = 0, work = 0, scratch = 0, slots = 0, grad = first->g->compute == FT_F64 ? 8 : 4;
    e->trains = e->program[0]->args.purpose == FT_FOR_TRAINING;
    e->param_at = take(&at, first->param_bytes);
    e->grad_at = take(&at, e->trains ? first->grad_count * grad : 0);
    e->state_bytes = first->grad_count * 4 * (uint64_t)e->optimizer_states;
    e->state_at = take(&at, e->state_dir ? 0 : e->state_bytes);
    for (int i = 0; i < e->n_programs; i++) {
        const ft_program *p = e->program[i];
        e->at[i][0] = take(&at, p->plan.keep_bytes);
        e->at[i][1] = take(&at, ft_micro_bytes(p->args.max_tokens, p->args.max_trained));
        work = larger(work, p->plan.work_bytes);
        scratch = larger(scratch,
                         p->scratch.thread * (uint64_t)e->machine->threads + p->scratch.shared);
        slots = larger(slots, p->plan.state_bytes);
    }
    e->work_at = take(&at, work);
    e->scratch_at = take(&at, scratch);
    e->slots_at = take(&at, slots);
    e->bytes = at;
}

/* ---- weights and state in mapped files ------------------------------------------------------- */

static void let_go(void *ctx, uint32_t weight)
{
    const ft_pages *p = ctx;
    for (int i = 0; i < FT_MAX_PARTS && p->part[weight * FT_MAX_PARTS + (uint32_t)i].n; i++)
        ft_weights_let_go(p->weights, &p->part[weight * FT_MAX_PARTS + (uint32_t)i]);
}

static int find_pages(ft_engine *e, int i, g_memory *m, ft_err *err)
{
    const ft_g *g = e->program[i]->g;
    ft_weight_part *part = ft_arena_array(&e->arena, (g->n_weight + 1) * FT_MAX_PARTS,
                                          sizeof *part);
    if (!part) return ft_errf(err, FT_ENOMEM, "out of memory while binding weights");
    for (uint32_t k = 0; k < g->n_weight; k++)
        ft_weights_parts(e->paged, g->weight[k].name, part + k * FT_MAX_PARTS);
    e->pages[i] = (ft_pages){ e->paged, part };
    m->let_go = let_go;
    m->ctx = &e->pages[i];
    return 0;
}

/* Room is made on the disk first: a full one is an error here, not a signal later. */
static int map_state(ft_engine *e, ft_err *err)
{
    int fd = open(e->state_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    int why = fd < 0 ? errno : posix_fallocate(fd, 0, (off_t)e->state_bytes);
    void *p = why ? MAP_FAILED
                  : mmap(NULL, e->state_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (!why && p == MAP_FAILED) why = errno;
    if (fd >= 0) close(fd);
    if (why)
        return ft_errf(err, FT_EIO, "cannot make a file of %llu MiB for the optimizer's state in "
                       "%s, as memory_limit asks: %s", (unsigned long long)(e->state_bytes >> 20),
                       e->state_dir, ft_errno_text(why));
    e->state = p;
    return 0;
}

void ft_engine_let_state_go(const ft_engine *e, uint64_t from, uint64_t n)
{
    const ft_map_file state = { .p = e->state, .n = e->state_bytes };
    if (e->state_dir) ft_file_forget(&state, from, n);
}

/* ---- start and stop -------------------------------------------------------------------------- */

static int bind(ft_engine *e, int i, ft_err *err)
{
    ft_program *p = e->program[i];
    bool trains = p->args.purpose == FT_FOR_TRAINING;
    g_memory m = { .keep = e->region + e->at[i][0],
                   .work = e->region + e->work_at,
                   .state = e->region + e->slots_at,
                   .param = e->param,
                   .grad = trains ? e->grad : NULL,
                   .scratch = e->region + e->scratch_at };
    int code = e->paged ? find_pages(e, i, &m, err) : 0;
    if (code) return code;
    ft_micro_init(&e->micro[i], e->region + e->at[i][1], p->args.max_tokens, p->args.max_trained);
    return ft_program_bind(p, &e->machine->kernels, &m, e->machine->pool, err);
}

int ft_engine_start(ft_engine *e, ft_err *err)
{
    int code = ft_machine_start(e->machine, err);
    if (code) return code;
    ft_engine_size(e);
    e->region = ft_region_new(e->bytes, "the run", err);
    if (!e->region) return err->code;
    e->param = e->region + e->param_at;
    e->grad = e->trains ? e->region + e->grad_at : NULL;
    if (!e->state_dir) e->state = e->region + e->state_at;
    else if (e->state_bytes) code = map_state(e, err);
    for (int i = 0; i < e->n_programs && !code; i++) code = bind(e, i, err);
    return code;
}

void ft_engine_stop(ft_engine *e)
{
    if (e->state_dir && e->state) munmap(e->state, e->state_bytes);
    e->state = NULL;
    ft_arena_free(&e->arena);
    ft_region_free(e->region, e->bytes);
    e->region = NULL;
}

/* ---- first values ---------------------------------------------------------------------------- */

void *ft_engine_param(const ft_engine *e, uint32_t i)
{
    const ft_program *p = e->program[0];
    return g_exec_data(p->x, (ft_val){ p->g->param[i].value });
}

static void put(void *at, ft_dtype t, int64_t i, double v)
{
    if (t == FT_F64) ((double *)at)[i] = v;
    else if (t == FT_BF16) ((uint16_t *)at)[i] = ft_float_to_bf16((float)v);
    else ((float *)at)[i] = (float)v;
}

/* Uniform in (0, 1), never 0: 53 bits of SplitMix64. */
static double uniform(uint64_t *s)
{
    return ((double)(ft_random(s) >> 11) + 0.5) * 0x1p-53;
}

/* Box and Muller 1958. */
static double normal(uint64_t *s)
{
    double u = uniform(s), v = uniform(s);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

static void fill_declared(void *at, const ft_desc *d, const g_param *p, uint64_t seed)
{
    int64_t n = g_rows(d) * g_cols(d);
    uint64_t s = g_hash(p->name, seed);
    for (int64_t i = 0; i < n; i++) {
        double v = p->init.a;
        if (p->init.kind == FT_INIT_UNIFORM) v = p->init.a + (p->init.b - p->init.a) * uniform(&s);
        if (p->init.kind == FT_INIT_NORMAL) v = p->init.a + p->init.b * normal(&s);
        put(at, d->dtype, i, v);
    }
}

/* Row r of a weight, of whatever form, into the parameter's. */
static void fill_row(void *at, const ft_desc *d, const ft_arg *a, int64_t r)
{
    float row[4096];
    for (int64_t c = 0; c < a->cols; c += 4096) {
        ft_arg part = *a;
        int64_t n = a->cols - c < 4096 ? a->cols - c : 4096;
        if (a->packed) {
            a->packed->tile(a->packed, r, 1, c, n, FT_F32, row, n);
        } else {
            part.data = (char *)a->data + (r * a->ld + c) * g_dtype_bytes(a->dtype);
            part.cols = n;
            ft_weights_rows(&part, 0, 1, row);
        }
        for (int64_t i = 0; i < n; i++) put(at, d->dtype, r * a->cols + c + i, (double)row[i]);
    }
}

/* In bands, whose pages of the checkpoint are let go: they are not read again. */
static int fill_from_checkpoint(void *at, const ft_desc *d, const g_param *p, ft_weights *w,
                                ft_err *err)
{
    ft_arg a;
    int code = ft_weights_find(w, p->site, &p->shape, &a, err);
    int64_t row = code ? 1 : a.cols * g_dtype_bytes(d->dtype), band = (1 << 20) / row + 1;
    bool same = !code && !a.packed && a.dtype == d->dtype && a.ld == a.cols;
    for (int64_t r = 0; !code && r < a.rows; r += band) {
        int64_t end = r + band < a.rows ? r + band : a.rows;
        if (same) memcpy((char *)at + r * row, (char *)a.data + r * row, (size_t)((end - r) * row));
        for (int64_t i = r; i < end && !same; i++) fill_row(at, d, &a, i);
        ft_weights_forget(w, p->site, end, a.rows);
    }
    return code;
}

static int shape_differs(const g_param *p, const ft_tensor *t, ft_err *err)
{
    bool same = t->ndim == p->shape.ndim;
    for (int i = 0; same && i < t->ndim; i++) same = t->dim[i] == p->shape.dim[i];
    if (same) return 0;
    return ft_errf(err, FT_EFORMAT,
                   "adapter tensor %s has another shape than this model and configuration need",
                   p->name);
}

static int fill_from_adapter(void *at, const ft_desc *d, const g_param *p, const ft_tensor *t,
                             ft_err *err)
{
    int64_t n = g_rows(d) * g_cols(d);
    if (t->dtype != FT_F32 && t->dtype != FT_BF16 && t->dtype != FT_F16)
        return ft_errf(err, FT_EUNSUP, "adapter tensor %s must be F32, BF16 or F16", p->name);
    for (int64_t i = 0; i < n; i++) {
        float f;
        uint16_t h;
        if (t->dtype == FT_F32) {
            memcpy(&f, (const char *)t->data + i * 4, 4);
        } else {
            memcpy(&h, (const char *)t->data + i * 2, 2);
            f = t->dtype == FT_BF16 ? ft_bf16_to_float(h) : ft_half_to_float(h);
        }
        put(at, d->dtype, i, (double)f);
    }
    return 0;
}

/* All tensors of the file that no parameter of g takes, in one error. */
static int check_leftovers(const ft_g *g, const ft_tensors *adapter, ft_err *err)
{
    char names[600] = "";
    size_t at = 0, n = 0;
    for (size_t i = 0; i < ft_tensors_count(adapter); i++) {
        const char *name = ft_tensors_at(adapter, i)->name;
        uint32_t k = 0;
        while (k < g->n_param && strcmp(g->param[k].name, name)) k++;
        if (k < g->n_param || n++ >= 4) continue;
        at += (size_t)snprintf(names + at, sizeof names - at, "%s%.140s", n > 1 ? ", " : "", name);
    }
    if (n == 0) return 0;
    if (n > 4) snprintf(names + at, sizeof names - at, " and %zu more", n - 4);
    return ft_errf(err, FT_EFORMAT,
                   "adapter tensor%s %s: fit%s no parameter of this model and configuration; every "
                   "tensor must be used",
                   n > 1 ? "s" : "", names, n > 1 ? "" : "s");
}

int ft_engine_adapter_fits(const ft_g *g, const ft_tensors *adapter, ft_err *err)
{
    int code = check_leftovers(g, adapter, err);
    if (code) return code;
    for (uint32_t i = 0; i < g->n_param; i++) {
        const g_param *p = &g->param[i];
        const ft_tensor *t = ft_tensors_find(adapter, p->name);
        if (t && shape_differs(p, t, err)) return FT_EFORMAT;
        if (!t && p->saved && !p->weight && !(p->flags & FT_FROZEN))
            return ft_errf(err, FT_EFORMAT,
                           "the adapter has no tensor %s, which this configuration trains",
                           p->name);
    }
    return 0;
}

static int fill_params(ft_engine *e, ft_weights *w, uint64_t seed, const ft_tensors *adapter,
                       ft_err *err)
{
    const ft_g *g = e->program[0]->g;
    int code = 0;
    for (uint32_t i = 0; i < g->n_param && !code; i++) {
        const g_param *p = &g->param[i];
        const ft_desc *d = &g_value_at(g, p->value)->desc;
        const ft_tensor *t = adapter ? ft_tensors_find(adapter, p->name) : NULL;
        void *at = ft_engine_param(e, i);
        if (t) {
            code = fill_from_adapter(at, d, p, t, err);
            ft_tensors_forget_part(adapter, t->data, t->bytes);
        } else if (p->weight) {
            code = fill_from_checkpoint(at, d, p, w, err);
        } else if (p->init.kind != FT_INIT_VALUE) {
            fill_declared(at, d, p, seed);
        }
    }
    return code;
}

/* Frozen parameters of an adapter are the same in every program. */
static void share_frozen(ft_engine *e)
{
    const ft_program *from = e->program[0];
    for (int k = 1; k < e->n_programs; k++) {
        const ft_program *to = e->program[k];
        for (uint32_t i = 0; i < to->g->n_param; i++) {
            const g_param *p = &to->g->param[i];
            const ft_desc *d = &g_value_at(to->g, p->value)->desc;
            if (d->life == FT_LIFE_CONST && i < from->g->n_param)
                memcpy(g_exec_data(to->x, (ft_val){ p->value }), ft_engine_param(e, i),
                       g_value_bytes(d));
        }
    }
}

/* Vectors of the checkpoint have been copied when programs were bound. */
static void forget_vectors(const ft_engine *e, ft_weights *w)
{
    const ft_g *g = e->program[0]->g;
    for (uint32_t i = 0; i < g->n_weight; i++) {
        if (g->weight[i].shape.ndim < 2) ft_weights_forget(w, g->weight[i].name, 1, 1);
    }
}

/* Parameters that start from a value of the graph, as it is before the first step. */
static void fill_from_values(ft_engine *e, const ft_tensors *adapter)
{
    const ft_program *q = e->program[0];
    bool any = false;
    for (uint32_t i = 0; i < q->g->n_param; i++) any |= q->g->param[i].init.kind == FT_INIT_VALUE;
    if (!any || adapter) return;
    g_exec_begin(q->x);
    for (uint32_t i = 0; i < q->g->n_param; i++) {
        const g_param *p = &q->g->param[i];
        if (p->init.kind == FT_INIT_VALUE)
            memcpy(ft_engine_param(e, i), g_exec_data(q->x, p->init.from),
                   g_value_bytes(&g_value_at(q->g, p->value)->desc));
    }
}

int ft_engine_fill_part(ft_engine *e, ft_weights *w, uint64_t seed, const ft_tensors *adapter,
                        ft_err *err)
{
    int code = fill_params(e, w, seed, adapter, err);
    if (code) return code;
    share_frozen(e);
    forget_vectors(e, w);
    for (int i = 0; i < e->n_programs; i++) g_exec_const(e->program[i]->x);
    fill_from_values(e, adapter);
    /* A run has the memory it was planned with from the first step on, or it does not start. */
    if (e->trains) ft_region_touch(e->region, e->bytes);
    return 0;
}

int ft_engine_fill(ft_engine *e, ft_weights *w, uint64_t seed, const ft_tensors *adapter,
                   ft_err *err)
{
    int code = adapter ? ft_engine_adapter_fits(e->program[0]->g, adapter, err) : 0;
    return code ? code : ft_engine_fill_part(e, w, seed, adapter, err);
}
