/* optim.c -- see optim.h.  Clipping as torch.nn.utils.clip_grad_norm_: max / (norm + 1e-6), at most
 * 1. */
#include "core/run/optim.h"
#include <math.h>
#include <string.h>
#include "ft/half.h"
#include "core/base/file.h"
#include "core/base/suggest.h"
#include "core/config/fill.h"

/* ---- plugins --------------------------------------------------------------------------------- */

/* The trainer's number of this name, for the optimizer's own table. */
static bool train_number(const ft_train_args *a, const char *key, double *out)
{
    const struct { const char *key; double v;
    } known[] = {
        { "adam_beta1", a->adam_beta1 },
        { "adam_beta2", a->adam_beta2 },
        { "adam_epsilon", a->adam_epsilon },
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(known[i].key, key)) continue;
        *out = known[i].v;
        return true;
    }
    for (size_t i = 0; i < a->optim_args.n; i++) {
        if (strcmp(a->optim_args.key[i], key)) continue;
        *out = a->optim_args.value[i];
        return true;
    }
    return false;
}

static int check_optim_args(const ft_loaded *p, const ft_train_args *a, ft_err *e)
{
    for (size_t i = 0; i < a->optim_args.n; i++) {
        const ft_param *row = p->params;
        while (row->key && strcmp(row->key, a->optim_args.key[i])) row++;
        if (!row->key)
            return ft_errf(e, FT_EINVAL, "optim_args: %s has no parameter \"%s\"", p->name,
                           a->optim_args.key[i]);
    }
    return 0;
}

static int open_optimizer(ft_optim *o, ft_registry *r, const ft_offer *offer, ft_arena *arena,
                          ft_err *e)
{
    const ft_loaded *p = ft_registry_get(r, o->args->optim, e);
    ft_diags d = { .n = 0 };
    if (!p) return e->code;
    if (strcmp(p->desc.role, "ft.optimizer/1"))
        return ft_errf(e, FT_EINVAL, "optim: %s is no optimizer but %s", p->name, p->desc.role);
    if (check_optim_args(p, o->args, e)) return e->code;
    char *config = ft_arena_alloc(arena, p->desc.config_size + 1);
    if (!config) return ft_errf(e, FT_ENOMEM, "out of memory for %s", p->name);
    ft_fill_job job = { .arena = arena, .diags = &d, .who = p->name };
    int code = ft_config_fill(config, p->params, NULL, (ft_mark){ NULL, 0, 0 }, &job);
    if (code) ft_diags_to_err(&d, e);
    ft_diags_free(&d);
    for (const ft_param *row = p->params; !code && row->key; row++) {
        double v;
        if (!train_number(o->args, row->key, &v)) continue;
        if (ft_param_ranged(row) && (v < row->min || v > row->max))
            return ft_errf(e, FT_EINVAL, "%s: %s = %g is outside of %g to %g", p->name, row->key, v,
                           row->min, row->max);
        if (row->kind == FT_REAL) *(double *)(void *)(config + row->offset) = v;
        if (row->kind == FT_INT) *(int64_t *)(void *)(config + row->offset) = (int64_t)v;
        if (row->kind == FT_BOOL) *(bool *)(void *)(config + row->offset) = v != 0;
    }
    if (!code) o->optimizer = ft_instance_open(p, p->name, config, offer, e);
    if (!o->optimizer) return e->code;
    o->vt = ft_instance_vtable(o->optimizer);
    return 0;
}

/* Index of the schedule in a plugin's list, or -1. */
static int serves(const ft_schedule *s, const char *name)
{
    for (int i = 0; s->names[i]; i++) {
        if (!strcmp(s->names[i], name)) return i;
    }
    return -1;
}

static int check_kwargs(const ft_optim *o, int which, ft_err *e)
{
    const ft_map *m = &o->args->lr_scheduler_kwargs;
    const char *const *known = o->schedule_vt->kwargs ? o->schedule_vt->kwargs[which] : NULL;
    for (size_t i = 0; i < m->n; i++) {
        size_t k = 0, n = 0;
        while (known && known[n]) n++;
        while (k < n && strcmp(known[k], m->key[i])) k++;
        if (k < n) continue;
        const char *near = n ? ft_suggest(m->key[i], known, n) : NULL;
        return ft_errf(e, FT_EINVAL, "lr_scheduler_kwargs: %s takes no \"%s\"%s%s%s",
                       o->args->lr_scheduler_type, m->key[i], near ? "; did you mean \"" : "",
                       near ? near : "", near ? "\"?" : "");
    }
    return 0;
}

static int open_schedule(ft_optim *o, ft_registry *r, const ft_offer *offer, ft_err *e)
{
    const ft_listed *list;
    size_t n;
    ft_suggestion near;
    if (ft_registry_list(r, &list, &n, e)) return e->code;
    ft_suggest_start(&near, o->args->lr_scheduler_type);
    for (size_t i = 0; i < n; i++) {
        const ft_loaded *p = list[i].plugin;
        if (!p || strcmp(p->desc.role, "ft.schedule/1")) continue;
        const ft_schedule *s = p->desc.vtable;
        for (int k = 0; s->names[k]; k++) ft_suggest_offer(&near, s->names[k]);
        int which = serves(s, o->args->lr_scheduler_type);
        if (which < 0) continue;
        o->schedule = ft_instance_open(p, p->name, NULL, offer, e);
        o->schedule_vt = s;
        return o->schedule ? check_kwargs(o, which, e) : e->code;
    }
    return ft_errf(e, FT_EINVAL, "lr_scheduler_type \"%s\" is not known%s%s%s",
                   o->args->lr_scheduler_type, near.best ? "; did you mean \"" : "",
                   near.best ? near.best : "", near.best ? "\"?" : "");
}

int ft_optim_open(ft_optim *o, const ft_train_args *args, ft_registry *r, const ft_offer *offer,
                  ft_arena *arena, ft_err *e)
{
    *o = (ft_optim){ .args = args };
    int code = open_optimizer(o, r, offer, arena, e);
    if (!code) code = open_schedule(o, r, offer, e);
    if (code) ft_optim_close(o);
    return code;
}

void ft_optim_close(ft_optim *o)
{
    ft_instance_close(o->optimizer);
    ft_instance_close(o->schedule);
    *o = (ft_optim){ .args = NULL };
}

/* ---- schedule -------------------------------------------------------------------------------- */

static ft_schedule_at schedule_at(const ft_optim *o, int64_t step)
{
    return (ft_schedule_at){ .step = step - 1,
                             .warmup = o->warmup,
                             .total = o->total,
                             .kwargs = &o->args->lr_scheduler_kwargs,
                             .base = o->args->learning_rate };
}

int ft_optim_length(ft_optim *o, int64_t total, ft_err *e)
{
    o->total = total;
    o->warmup = o->args->warmup_steps > 0 ? o->args->warmup_steps
                                          : (int64_t)ceil(o->args->warmup_ratio * (double)total);
    ft_schedule_at at = schedule_at(o, 1);
    if (!FT_HAS(o->schedule_vt, check) || !o->schedule_vt->check) return 0;
    int code = o->schedule_vt->check(ft_instance_self(o->schedule), o->args->lr_scheduler_type,
                                     &at);
    return code ? ft_instance_error(o->schedule, code, e) : 0;
}

double ft_optim_rate(const ft_optim *o, int64_t step)
{
    ft_schedule_at at = schedule_at(o, step);
    return o->args->learning_rate * o->schedule_vt->factor(o->args->lr_scheduler_type, &at);
}

/* ---- norm ------------------------------------------------------------------------------------ */

enum { BLOCK = 16384, MOST_BLOCKS = 1 << 16 };

typedef struct { const float *grad; uint64_t n; double *sum; } norm_job;

static void sum_blocks(void *arg, int thread, int64_t begin, int64_t end)
{
    const norm_job *j = arg;
    (void)thread;
    for (int64_t b = begin; b < end; b++) {
        uint64_t from = (uint64_t)b * BLOCK, to = from + BLOCK < j->n ? from + BLOCK : j->n;
        double lane[8] = { 0 };
        for (uint64_t i = from; i + 8 <= to; i += 8) { /* the array is padded to 16 */
            for (int k = 0; k < 8; k++)
                lane[k] += (double)j->grad[i + (uint64_t)k] * (double)j->grad[i + (uint64_t)k];
        }
        j->sum[b] = ((lane[0] + lane[4]) + (lane[1] + lane[5])) +
                    ((lane[2] + lane[6]) + (lane[3] + lane[7]));
    }
}

double ft_optim_norm(ft_engine *e)
{
    static double sum[MOST_BLOCKS];
    uint64_t n = e->program[0]->plan.grad_count, at = 0;
    double total = 0;
    while (at < n) { /* the static array bounds a round, not the model */
        uint64_t part = n - at < (uint64_t)BLOCK * MOST_BLOCKS ? n - at
                                                               : (uint64_t)BLOCK * MOST_BLOCKS;
        norm_job j = { (const float *)e->grad + at, part, sum };
        int64_t blocks = (int64_t)((part + BLOCK - 1) / BLOCK);
        ft_pool_run(e->machine->pool, blocks, sum_blocks, &j);
        for (int64_t b = 0; b < blocks; b++) total += sum[b];
        at += part;
    }
    return sqrt(total);
}

const char *ft_optim_bad(const ft_engine *e)
{
    const ft_program *p = e->program[0];
    for (uint32_t i = 0; i < p->g->n_param; i++) {
        const g_param *q = &p->g->param[i];
        const ft_desc *d = &g_value_at(p->g, q->value)->desc;
        if (d->life != FT_LIFE_STEP) continue;
        const float *g = (const float *)e->grad + p->plan.grad_at[i];
        for (int64_t k = 0; k < g_rows(d) * g_cols(d); k++) {
            if (!isfinite(g[k])) return q->name;
        }
    }
    return NULL;
}

/* ---- update ---------------------------------------------------------------------------------- */

typedef struct {
    ft_optim *o;
    const ft_engine *e;
    ft_update u;
    void *param;
    ft_dtype dtype;
    const float *grad;
    float *state[8];
    int64_t n;
} update_job;

enum { RANGE = 4096, BAND = 256 * RANGE };

/* One range; 16-bit parameters are widened, updated and rounded once. */
static void update_range(void *arg, int thread, int64_t begin, int64_t end)
{
    const update_job *j = arg;
    const ft_optimizer *vt = j->o->vt;
    (void)thread;
    for (int64_t b = begin; b < end; b++) {
        int64_t from = b * RANGE, n = j->n - from < RANGE ? j->n - from : RANGE;
        float wide[RANGE], *state[8];
        for (int k = 0; k < 8; k++) state[k] = j->state[k] ? j->state[k] + from : NULL;
        void *self = ft_instance_self(j->o->optimizer);
        if (j->dtype == FT_F32) {
            vt->update(self, &j->u, n, (float *)j->param + from, j->grad + from, state);
            continue;
        }
        uint16_t *p = (uint16_t *)j->param + from;
        for (int64_t i = 0; i < n; i++) wide[i] = ft_bf16_to_float(p[i]);
        vt->update(self, &j->u, n, wide, j->grad + from, state);
        for (int64_t i = 0; i < n; i++) p[i] = ft_float_to_bf16(wide[i]);
    }
}

void ft_optim_apart(const ft_engine *e)
{
    const ft_program *p = e->program[0];
    const uint64_t count = p->plan.grad_count;
    for (uint32_t i = 0; e->state_dir && e->state && i < p->g->n_param; i++) {
        const ft_desc *d = &g_value_at(p->g, p->g->param[i].value)->desc;
        uint64_t n = d->life == FT_LIFE_STEP ? (uint64_t)(g_rows(d) * g_cols(d)) : 0;
        for (uint64_t from = 0; from < n; from += BAND) {
            for (int k = 0; k < e->optimizer_states; k++)
                ft_file_apart((float *)e->state + (uint64_t)k * count + p->plan.grad_at[i] + from);
        }
    }
}

uint64_t ft_optim_paged_bytes(const ft_engine *e)
{
    const ft_program *p = e->program[0];
    uint64_t most = 0;
    for (uint32_t i = 0; i < p->g->n_param; i++) {
        const ft_desc *d = &g_value_at(p->g, p->g->param[i].value)->desc;
        uint64_t n = (uint64_t)(g_rows(d) * g_cols(d));
        if (d->life == FT_LIFE_STEP && n > most) most = n;
    }
    return (most < BAND ? most : BAND) * 4 * (uint64_t)e->optimizer_states;
}

/* The elements of a band, whose state may lie in a file and is given back after it. */
static void update_band(const update_job *whole, const ft_engine *e, uint64_t grad_at, int64_t from)
{
    update_job j = *whole;
    const uint64_t count = e->program[0]->plan.grad_count;
    j.n = whole->n - from < BAND ? whole->n - from : BAND;
    j.param = (char *)whole->param + from * g_dtype_bytes(whole->dtype);
    j.grad = whole->grad + from;
    for (int k = 0; k < e->optimizer_states && k < 8; k++)
        j.state[k] = (float *)e->state + (uint64_t)k * count + grad_at + from;
    ft_pool_run(e->machine->pool, (j.n + RANGE - 1) / RANGE, update_range, &j);
    for (int k = 0; k < e->optimizer_states && k < 8; k++)
        ft_engine_let_state_go(e, ((uint64_t)k * count + grad_at + (uint64_t)from) * 4,
                               (uint64_t)j.n * 4);
}

void ft_optim_step(ft_optim *o, ft_engine *e, int64_t step, double norm)
{
    const ft_program *p = e->program[0];
    double max = o->args->max_grad_norm, scale = max > 0 ? max / (norm + 1e-6) : 1;
    for (uint32_t i = 0; i < p->g->n_param; i++) {
        const g_param *q = &p->g->param[i];
        const ft_desc *d = &g_value_at(p->g, q->value)->desc;
        if (d->life != FT_LIFE_STEP) continue;
        bool decays = o->args->decay_all || !(q->flags & FT_NO_DECAY);
        update_job j = { .o = o,
                         .e = e,
                         .param = ft_engine_param(e, i),
                         .dtype = d->dtype,
                         .n = g_rows(d) * g_cols(d),
                         .grad = (const float *)e->grad + p->plan.grad_at[i],
                         .u = { .lr = ft_optim_rate(o, step),
                                .weight_decay = decays ? o->args->weight_decay : 0,
                                .step = step,
                                .grad_scale = scale < 1 ? scale : 1 } };
        for (int64_t from = 0; from < j.n; from += BAND)
            update_band(&j, e, p->plan.grad_at[i], from);
    }
}
