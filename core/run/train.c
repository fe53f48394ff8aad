/* train.c -- see train.h: the loop over the steps of a planned training run. */
#include "core/run/train.h"
#include <math.h>
#include <sys/resource.h>
#include "core/base/clock.h"
#include "core/load/isolate.h"
#include "core/run/checkpoint.h"
#include "core/run/metrics.h"
#include "core/run/train_plan.h"

enum { ROW_TOKENS = 1 << 24 };

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
    while (!l->rows.row || step - l->epoch_first >= ft_training_steps(l->rows.n_rows, per)) {
        if (l->rows.row) {
            l->epoch_first += ft_training_steps(l->rows.n_rows, per);
            l->epoch++;
            ft_rows_free(&l->rows);
        }
        int code = ft_training_rows(l->t, &l->rows, FT_SPLIT_TRAIN, l->epoch, e);
        if (code) return code;
    }
    return 0;
}

static int evaluate(loop *l, int64_t step, bool *stop, ft_err *e)
{
    ft_training *t = l->t;
    ft_score s = { .tokens = 0 };
    int code = l->val.row ? 0 : ft_training_rows(t, &l->val, FT_SPLIT_VAL, 0, e);
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
        if (!code && ft_training_evaluates(l->t) && step % a->eval_steps == 0)
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
    if (!code) ft_optim_apart(&t->engine);
    if (!code) code = ft_engine_fill(&t->engine, t->setup.weights, t->setup.seed, t->setup.init, e);
    if (!code && t->setup.resume)
        code = ft_checkpoint_load(t->setup.dir, &c, &t->engine, t->setup.log, e);
    *first = c.step + 1;
    l->best = c.best;
    l->since_best = c.since_best;
    return code ? code
                : ft_metrics_open(&l->metrics, t->setup.dir, c.metrics_bytes, c.timing_bytes, e);
}

int ft_training_run(ft_training *t, ft_err *e)
{
    loop l = { .t = t, .metrics = { .metrics = -1, .timing = -1 } };
    int64_t first = 1;
    ft_progress_start(&l.progress, t->setup.log, "train");
    int code = start(&l, &first, e);
    g_exec_profile(t->train.x, t->setup.profile);
    if (!code) code = run_steps(&l, first, e);
    ft_progress_end(&l.progress);
    ft_metrics_close(&l.metrics);
    ft_rows_free(&l.rows);
    ft_rows_free(&l.val);
    return code;
}
