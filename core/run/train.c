/* train.c -- see train.h: planning a training run, and the loop over its steps. */
#include "core/run/train.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include "core/base/clock.h"
#include "core/load/isolate.h"
#include "core/run/checkpoint.h"
#include "core/run/metrics.h"

enum { USUAL_MICRO = 1024, MOST_EPOCHS = 1 << 20, ROW_TOKENS = 1 << 24, MEASURED = 16 };

/* ---- how long the run is --------------------------------------------------------------------- */

/* Batches that a file has ready are taken in order. */
static bool shuffled(const ft_training *t)
{
    return t->setup.args->shuffle && !t->setup.tokens->rows_per_batch;
}

static ft_rows_args rows_args(const ft_training *t, int split, int64_t epoch)
{
    return (ft_rows_args){ .split = split, .seed = t->setup.seed, .epoch = epoch,
                           .shuffle = split == FT_SPLIT_TRAIN && shuffled(t),
                           .virtual_tokens = t->virtual_tokens };
}

static int make_rows(const ft_training *t, ft_row_plan *r, int split, int64_t epoch, ft_err *e)
{
    ft_rows_args a = rows_args(t, split, epoch);
    return ft_rows_make(r, t->setup.tokens, &a)
               ? ft_errf(e, FT_ENOMEM, "out of memory for the rows of an epoch")
               : 0;
}

/* The largest row (also of those evaluated), and the most tokens and trained tokens of a step. */
typedef struct { int64_t row, row_trained, tokens, trained; } extent;

static void measure_row(const ft_training *t, const ft_row_plan *r, int64_t i, extent *x)
{
    int64_t n = ft_rows_tokens(r, t->setup.tokens, i, t->virtual_tokens),
            trained = ft_rows_trained(r, t->setup.tokens, i);
    if (n > x->row) x->row = n;
    if (trained > x->row_trained) x->row_trained = trained;
}

static void measure_epoch(const ft_training *t, const ft_row_plan *r, extent *x)
{
    int64_t tokens = 0, trained = 0, per = t->plan.rows_per_step;
    for (int64_t i = 0; i < r->n_rows; i++) {
        if (i % per == 0) tokens = trained = 0;
        tokens += ft_rows_tokens(r, t->setup.tokens, i, t->virtual_tokens);
        trained += ft_rows_trained(r, t->setup.tokens, i);
        measure_row(t, r, i, x);
        if (tokens > x->tokens) x->tokens = tokens;
        if (trained > x->trained) x->trained = trained;
    }
}

static int measure_evaluation(const ft_training *t, extent *x, ft_err *e)
{
    ft_row_plan r;
    int code = t->setup.args->eval_steps > 0 ? make_rows(t, &r, FT_SPLIT_VAL, 0, e) : 0;
    if (code || t->setup.args->eval_steps <= 0) return code;
    for (int64_t i = 0; i < r.n_rows; i++) measure_row(t, &r, i, x);
    ft_rows_free(&r);
    return 0;
}

static int64_t steps_of(int64_t rows, int64_t per_step) { return (rows + per_step - 1) / per_step; }

/* Goes through the epochs: rows, steps, extents.  Which rows meet in a step, and how documents are
 * packed, differs from epoch to epoch; after MEASURED of them the largest step that could be is
 * taken. */
static int measure(ft_training *t, extent *x, ft_err *e)
{
    const ft_train_args *a = t->setup.args;
    ft_train_plan *p = &t->plan;
    int64_t batch = t->setup.tokens->rows_per_batch ? t->setup.tokens->rows_per_batch
                                                    : a->per_device_train_batch_size;
    p->rows_per_step = batch * a->gradient_accumulation_steps;
    int64_t whole = (int64_t)floor(a->num_train_epochs), target = a->max_steps;
    double rest = a->num_train_epochs - (double)whole;
    *x = (extent){ 1, 1, 1, 1 };
    int known = measure_evaluation(t, x, e);
    if (known) return known;
    for (int64_t epoch = 0; epoch < MOST_EPOCHS; epoch++) {
        ft_row_plan r;
        bool last = target < 0 && (epoch > whole || (epoch == whole && rest <= 0));
        if (last || (target >= 0 && p->steps >= target)) break;
        int code = make_rows(t, &r, FT_SPLIT_TRAIN, epoch, e);
        if (code) return code;
        int64_t steps = steps_of(r.n_rows, p->rows_per_step);
        measure_epoch(t, &r, x);
        if (epoch == 0) p->rows = r.n_rows, p->steps_per_epoch = steps;
        ft_rows_free(&r);
        if (steps == 0)
            return ft_errf(e, FT_EFORMAT,
                           "there are no rows to train on; check the data stage and its val_size");
        p->steps += target < 0 && epoch == whole ? (int64_t)ceil(rest * (double)steps) : steps;
        bool guess = shuffled(t) && !t->setup.tokens->packing && epoch + 1 >= MEASURED,
             same = !shuffled(t) || guess;
        if (guess)
            x->tokens = x->trained = p->rows_per_step < (1 << 20) / x->row
                                         ? p->rows_per_step * x->row
                                         : 1 << 20;
        if (same && target >= 0) p->steps = target;
        if (same && target < 0) {
            p->steps = whole * steps + (int64_t)ceil(rest * (double)steps);
            break;
        }
    }
    if (target >= 0) p->steps = target;
    return p->steps > 0
               ? 0
               : ft_errf(e, FT_EINVAL, "the run has no steps: num_train_epochs %g, max_steps %lld",
                         a->num_train_epochs, (long long)a->max_steps);
}

/* ---- programs -------------------------------------------------------------------------------- */

static ft_program_args program_args(const ft_training *t, ft_purpose purpose)
{
    const ft_train_setup *s = &t->setup;
    return (ft_program_args){ .purpose = purpose,
                              .model = s->model->vt,
                              .model_self = s->model->self,
                              .method = s->method,
                              .trainer = ft_instance_vtable(s->trainer),
                              .trainer_self = ft_instance_self(s->trainer),
                              .compute = t->plan.compute,
                              .max_tokens = t->plan.micro_tokens,
                              .max_trained = t->plan.micro_trained,
                              .remat = t->plan.recomputed_layers ? G_RECOMPUTE : G_KEEP,
                              .recompute_layers = t->plan.recomputed_layers };
}

static int plan_program(ft_training *t, ft_program *p, ft_purpose purpose, ft_err *e)
{
    ft_program_args a = program_args(t, purpose);
    ft_program_free(p);
    int code = ft_program_plan(p, &a, t->setup.weights, &t->setup.machine->kernels,
                               t->setup.machine->threads, e);
    return code ? ft_instance_error(t->setup.trainer, code, e) : 0;
}

static bool evaluates(const ft_training *t)
{
    return t->setup.args->eval_steps > 0 && t->plan.eval_tokens > 0;
}

/* Bytes of the checkpoint that stay mapped: matrices that are read where they lie. */
static uint64_t mapped_weights(const ft_training *t)
{
    uint64_t n = 0;
    const ft_g *g = t->train.g;
    for (uint32_t i = 0; i < g->n_weight; i++) {
        if (g->weight[i].trained || g->weight[i].shape.ndim < 2) continue;
        n += ft_weights_bytes(t->setup.weights, g->weight[i].name);
    }
    return n;
}

/* What a process has besides its region and its weights: program, libraries, stacks, small
 * tables. */
static uint64_t process_bytes(const ft_training *t)
{
    const ft_token_set *s = t->setup.tokens;
    return (uint64_t)(11 << 20) + (uint64_t)s->n_tokens * 8 + (uint64_t)s->n_docs * 17 +
           (uint64_t)t->train.g->n_node * 900;
}

static int plan_once(ft_training *t, ft_err *e)
{
    int code = plan_program(t, &t->train, FT_FOR_TRAINING, e);
    if (!code && evaluates(t)) code = plan_program(t, &t->eval, FT_FOR_SCORING, e);
    if (code) return code;
    t->engine = (ft_engine){ .machine = t->setup.machine,
                             .program = { &t->train, &t->eval },
                             .n_programs = evaluates(t) ? 2 : 1,
                             .optimizer_states =
                                 t->optim.vt->states(ft_instance_self(t->optim.optimizer)) };
    ft_engine_size(&t->engine);
    t->plan.arena_bytes = t->engine.bytes;
    t->plan.peak_rss_bytes = t->engine.bytes + mapped_weights(t) + process_bytes(t);
    return 0;
}

/* ---- fitting a memory limit ------------------------------------------------------------------ */

static bool fits(const ft_training *t)
{
    return !t->setup.memory_limit || t->plan.peak_rss_bytes <= t->setup.memory_limit;
}

/* The fewest layers that must be recomputed: more layers never need more memory. */
static int fewest_layers(ft_training *t, int32_t layers, ft_err *e)
{
    int32_t lo = 0, hi = layers;
    while (lo < hi) {
        t->plan.recomputed_layers = (lo + hi) / 2;
        int code = plan_once(t, e);
        if (code) return code;
        if (fits(t)) hi = t->plan.recomputed_layers;
        else lo = t->plan.recomputed_layers + 1;
    }
    t->plan.recomputed_layers = lo;
    return plan_once(t, e);
}

static int refuse(ft_training *t, const extent *x, ft_err *e)
{
    double mib = 1.0 / (1 << 20);
    uint64_t least = t->plan.peak_rss_bytes;
    return ft_errf(e, FT_EINVAL,
                   "memory_limit %.0f MiB: the least that this run needs is %.0f MiB, one row of "
                   "%lld tokens at a time "
                   "with every layer recomputed; a smaller max_length, a quantizer stage, or "
                   "memory_limit: %.0fMiB would do",
                   (double)t->setup.memory_limit * mib, (double)least * mib, (long long)x->row,
                   ceil((double)least * mib));
}

static int fit(ft_training *t, const extent *x, ft_err *e)
{
    const char *mode = t->setup.args->gradient_checkpointing;
    int32_t layers = (int32_t)t->setup.model->info.layers;
    bool must = !strcmp(mode, "true"), may = strcmp(mode, "false") != 0;
    t->plan.recomputed_layers = must ? layers : 0;
    int code = plan_once(t, e);
    if (code || fits(t)) return code;
    t->plan.micro_tokens = x->row;
    t->plan.micro_trained = x->row_trained;
    code = plan_once(t, e);
    if (code || fits(t)) return code;
    if (may && !must) code = fewest_layers(t, layers, e);
    return code ? code : fits(t) ? 0 : refuse(t, x, e);
}

/* ---- opening --------------------------------------------------------------------------------- */

static int choose_compute(ft_training *t, ft_err *e)
{
    const char *c = t->setup.args->compute_dtype;
    if (!strcmp(c, "fp16"))
        return ft_errf(e, FT_EUNSUP,
                       "compute_dtype: fp16 is not offered by the CPU kernels; use bf16 or fp32");
    t->plan.compute = ft_machine_compute(t->setup.machine, c);
    return 0;
}

static int check_tokens(const ft_training *t, ft_err *e)
{
    const ft_token_set *s = t->setup.tokens;
    int64_t vocab = t->setup.model->info.vocab, context = t->setup.model->info.context,
            positions = 0;
    for (int64_t i = 0; i < s->n_tokens; i++) {
        if (s->ids[i] >= vocab || s->labels[i] >= vocab)
            return ft_errf(e, FT_EFORMAT,
                           "token id %d is outside of the model's vocabulary of %lld", s->ids[i],
                           (long long)vocab);
    }
    for (int64_t d = 0; d < s->n_docs; d++) {
        if (s->start[d + 1] - s->start[d] > positions) positions = s->start[d + 1] - s->start[d];
    }
    if (positions + t->virtual_tokens > context)
        return ft_errf(e, FT_EINVAL,
                       "a row has %lld tokens, the model's context is %lld; set max_length",
                       (long long)positions, (long long)context);
    return 0;
}

int ft_training_open(ft_training *t, const ft_train_setup *s, ft_err *e)
{
    extent x;
    *t = (ft_training){ .setup = *s };
    t->virtual_tokens = ft_method_virtual_tokens(s->method);
    ft_token_counts train = ft_tokens_count(s->tokens, FT_SPLIT_TRAIN),
                    val = ft_tokens_count(s->tokens, FT_SPLIT_VAL);
    t->plan.tokens = train.tokens;
    t->plan.trained_tokens = train.trained;
    t->plan.eval_tokens = val.trained;
    int code = choose_compute(t, e);
    if (!code) code = check_tokens(t, e);
    if (!code) code = measure(t, &x, e);
    if (!code) code = ft_optim_open(&t->optim, s->args, s->registry, s->offer, &t->arena, e);
    if (!code) code = ft_optim_length(&t->optim, t->plan.steps, e);
    if (code) return code;
    int64_t room = x.row > USUAL_MICRO ? x.row : USUAL_MICRO;
    t->plan.micro_tokens = x.tokens < room ? (x.tokens > x.row ? x.tokens : x.row) : room;
    t->plan.micro_trained = x.trained < t->plan.micro_tokens
                                ? (x.trained > x.row_trained ? x.trained : x.row_trained)
                                : t->plan.micro_tokens;
    code = fit(t, &x, e);
    if (code) return code;
    ft_method_row rows[64];
    ft_method_table(t->train.g, rows, 64, &t->plan.trainable, &t->plan.parameters);
    if (t->plan.trainable == 0)
        return ft_errf(e, FT_EINVAL, "nothing is trained: the adapter has no trained parameters");
    return 0;
}

void ft_training_close(ft_training *t)
{
    ft_program_free(&t->train);
    ft_program_free(&t->eval);
    ft_engine_stop(&t->engine);
    ft_optim_close(&t->optim);
    ft_arena_free(&t->arena);
    *t = (ft_training){ .virtual_tokens = 0 };
}

/* ---- one step -------------------------------------------------------------------------------- */

typedef struct { double loss; int64_t trained, hits, tokens; } step_sums;

static int64_t trained_in(const ft_training *t, const ft_row_plan *r, int64_t from, int64_t to)
{
    int64_t n = 0;
    for (int64_t i = from; i < to; i++) n += ft_rows_trained(r, t->setup.tokens, i);
    return n;
}

/* Forward and backward of the rows from … to-1. */
static int run_rows(ft_training *t, const ft_row_plan *r, int64_t from, int64_t to, int64_t step,
                    step_sums *s, ft_err *e)
{
    ft_micro *m = &t->engine.micro[0];
    *s = (step_sums){ .trained = trained_in(t, r, from, to) };
    if (s->trained == 0)
        return ft_errf(e, FT_EFORMAT,
                       "step %lld has no trained token; larger batches or other data are needed",
                       (long long)step);
    m->b.seed = t->setup.seed;
    m->b.step = step;
    m->b.row_tokens = ROW_TOKENS;
    m->b.loss_scale = (float)(1.0 / (double)s->trained);
    g_exec_begin(t->train.x);
    for (int64_t row = from; row < to;) {
        m->b.first_row = row - from;
        row = ft_micro_fill(m, r, t->setup.tokens, row, to, t->virtual_tokens);
        g_exec_micro(t->train.x, &m->b);
        for (int64_t i = 0; i < m->b.n_trained; i++) {
            s->loss += ft_program_number(&t->train, t->train.loss, i);
            s->hits += ft_program_number(&t->train, t->train.hit, i) > 0.5;
        }
        s->tokens += m->b.n_tokens;
    }
    g_exec_end(t->train.x);
    return 0;
}

static int halt_not_finite(const ft_training *t, int64_t step, double loss, ft_err *e)
{
    const char *bad = ft_optim_bad(&t->engine);
    return ft_errf(e, FT_EFORMAT,
                   "step %lld: the loss is %g and the gradient of %s is not finite; the weights "
                   "are untouched. "
                   "Lower learning_rate, or look at the rows of this step",
                   (long long)step, loss, bad ? bad : "no parameter");
}

/* ---- the loop -------------------------------------------------------------------------------- */

typedef struct {
    ft_training *t;
    ft_metrics metrics;
    ft_progress progress;
    ft_row_plan rows, val;
    int64_t epoch, epoch_first; /* of rows; the first step of that epoch */
    double best;
    int64_t since_best;
} loop;

static uint64_t peak_rss(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (uint64_t)u.ru_maxrss * 1024;
}

/* Rows of the epoch that step lies in. */
static int enter_epoch(loop *l, int64_t step, ft_err *e)
{
    int64_t per = l->t->plan.rows_per_step;
    while (!l->rows.row || step - l->epoch_first >= steps_of(l->rows.n_rows, per)) {
        if (l->rows.row) {
            l->epoch_first += steps_of(l->rows.n_rows, per);
            l->epoch++;
            ft_rows_free(&l->rows);
        }
        int code = make_rows(l->t, &l->rows, FT_SPLIT_TRAIN, l->epoch, e);
        if (code) return code;
    }
    return 0;
}

static int evaluate(loop *l, int64_t step, bool *stop, ft_err *e)
{
    ft_training *t = l->t;
    ft_score s = { .tokens = 0 };
    int code = l->val.row ? 0 : make_rows(t, &l->val, FT_SPLIT_VAL, 0, e);
    if (!code)
        code = ft_score_rows(&t->engine, 1, &l->val, t->setup.tokens, t->virtual_tokens, &s, e);
    if (code) return code;
    double loss = ft_score_loss(&s);
    ft_log_line(t->setup.log, FT_INFO, NULL, "step %lld  eval_loss %.4f  perplexity %.3f",
                (long long)step, loss, exp(loss));
    if (loss < l->best) l->best = loss, l->since_best = 0;
    else l->since_best++;
    int64_t patience = t->setup.args->early_stopping_patience;
    *stop = patience > 0 && l->since_best >= patience;
    return ft_metrics_eval(&l->metrics, step, loss, (double)s.hits / (double)s.tokens, e);
}

static int log_step(loop *l, const ft_metrics_row *r, double seconds, ft_err *e)
{
    ft_training *t = l->t;
    double speed = seconds > 0 ? (double)r->tokens / seconds : 0;
    int code = ft_metrics_step(&l->metrics, r, e);
    if (!code) code = ft_metrics_time(&l->metrics, r->step, seconds, speed, peak_rss(), e);
    if (r->step % t->setup.args->logging_steps == 0 || r->step == t->plan.steps)
        ft_progress_note(&l->progress, "loss %.4f  %.0f tokens/s", r->loss, speed);
    ft_progress_update(&l->progress, "steps", r->step, t->plan.steps);
    return code;
}

static int one_step(loop *l, int64_t step, ft_err *e)
{
    ft_training *t = l->t;
    step_sums s;
    double start = ft_seconds();
    int code = enter_epoch(l, step - 1, e);
    if (code) return code;
    int64_t per = t->plan.rows_per_step, from = (step - 1 - l->epoch_first) * per;
    int64_t to = from + per < l->rows.n_rows ? from + per : l->rows.n_rows;
    code = run_rows(t, &l->rows, from, to, step, &s, e);
    if (code) return code;
    double loss = s.loss / (double)s.trained, norm = ft_optim_norm(&t->engine);
    if (!isfinite(loss) || !isfinite(norm)) return halt_not_finite(t, step, loss, e);
    ft_metrics_row r = { .step = step,
                         .tokens = s.tokens,
                         .loss = loss,
                         .accuracy = (double)s.hits / (double)s.trained,
                         .grad_norm = norm,
                         .learning_rate = ft_optim_rate(&t->optim, step),
                         .epoch = (double)l->epoch + (double)to / (double)l->rows.n_rows };
    ft_optim_step(&t->optim, &t->engine, step, norm);
    double seconds = ft_seconds() - start;
    t->seconds += seconds;
    return log_step(l, &r, seconds, e);
}

static ft_checkpoint checkpoint_of(const loop *l, int64_t step)
{
    return (ft_checkpoint){ .run = l->t->setup.key,
                            .step = step,
                            .metrics_bytes = l->metrics.metrics_bytes,
                            .timing_bytes = l->metrics.timing_bytes,
                            .best = l->best,
                            .since_best = l->since_best };
}

static int save(loop *l, int64_t step, ft_err *e)
{
    ft_checkpoint c = checkpoint_of(l, step);
    int code = ft_metrics_sync(&l->metrics, e);
    return code ? code
                : ft_checkpoint_save(l->t->setup.dir, &c, &l->t->engine,
                                     l->t->setup.args->save_total_limit, e);
}

static int run_steps(loop *l, int64_t first, ft_err *e)
{
    const ft_train_args *a = l->t->setup.args;
    bool stop = false;
    for (int64_t step = first; step <= l->t->plan.steps && !stop; step++) {
        int code = one_step(l, step, e);
        if (!code && evaluates(l->t) && step % a->eval_steps == 0)
            code = evaluate(l, step, &stop, e);
        if (code == FT_ECANCEL) code = 0; /* the evaluation's rest is left out, the step counts */
        if (!code && a->save_steps > 0 && step % a->save_steps == 0) code = save(l, step, e);
        if (code) return code;
        if (ft_cancelled() && step < l->t->plan.steps) {
            code = save(l, step, e);
            return code ? code
                        : ft_errf(e, FT_ECANCEL, "stopped after step %lld; continue with --resume",
                                  (long long)step);
        }
    }
    return 0;
}

/* Parameters, state and counters as a checkpoint has them, or from the beginning. */
static int start(loop *l, int64_t *first, ft_err *e)
{
    ft_training *t = l->t;
    ft_checkpoint c = { .run = t->setup.key, .best = INFINITY };
    int code = ft_engine_start(&t->engine, e);
    if (!code) code = ft_engine_fill(&t->engine, t->setup.weights, t->setup.seed, t->setup.init, e);
    if (!code && t->setup.resume)
        code = ft_checkpoint_load(t->setup.dir, &c, &t->engine, t->setup.log, e);
    *first = c.step + 1;
    l->best = c.best;
    l->since_best = c.since_best;
    return code ? code
                : ft_metrics_open(&l->metrics, t->setup.dir, c.metrics_bytes, c.timing_bytes, e);
}

/* --profile: a line an op, in the order of first use. */
static void print_profile(const ft_training *t)
{
    const g_profile *row = NULL;
    size_t n = t->setup.profile ? g_exec_profile_rows(t->train.x, &row) : 0;
    double all = 0;
    for (size_t i = 0; i < n; i++) all += row[i].seconds;
    for (size_t i = 0; i < n; i++)
        ft_log_line(t->setup.log, FT_INFO, "profile",
                    "%-20s %9llu calls %9.3f s %5.1f %% %10.1f MiB", row[i].op,
                    (unsigned long long)row[i].calls, row[i].seconds, 100 * row[i].seconds / all,
                    (double)row[i].bytes / (1 << 20));
}

int ft_training_run(ft_training *t, ft_err *e)
{
    loop l = { .t = t, .metrics = { -1, -1, 0, 0 } };
    int64_t first = 1;
    ft_progress_start(&l.progress, t->setup.log, "train");
    int code = start(&l, &first, e);
    g_exec_profile(t->train.x, t->setup.profile);
    if (!code) code = run_steps(&l, first, e);
    ft_progress_end(&l.progress);
    if (!code) print_profile(t);
    ft_metrics_close(&l.metrics);
    ft_rows_free(&l.rows);
    ft_rows_free(&l.val);
    return code;
}
