/* training.h -- a training stage opened inside a test, as `pipeline run` opens it, so that single
 * gradients and the losses of single tokens can be looked at. */
#ifndef FT_TESTS_TRAINING_H
#define FT_TESTS_TRAINING_H
#include <math.h>
#include "core/run/run.h"
#include "core/run/stage_train.h"
#include "tests/tiny.h"

typedef struct {
    ft_cli cli;
    const char *plugins[1];
    char folder[512];
    ft_run run;
    ft_lineup lineup;
    ft_training t;
    ft_row_plan rows;      /* training rows in their order */
} training;

/* Opens a pipeline file whose last stage trains; what that needs is made first. */
static inline void training_open(training *x, const char *yaml)
{
    ft_err e = { 0 };
    *x = (training){ .cli = { .threads = 2, .n_plugin_dirs = 1 } };
    snprintf(x->folder, sizeof x->folder, "%s/plugins", test_build());
    x->plugins[0] = x->folder;
    x->cli.plugin_dir = x->plugins;
    ft_log_init(&x->cli.log, stderr);
    ck_assert_msg(ft_run_open(&x->run, &x->cli, yaml, NULL, 0, &e) == 0, "%s: %s", yaml, e.msg);
    ft_stage *train = &x->run.stage[x->run.n_stages - 1];
    const char *dir = tiny_path("training");
    tiny_must(ft_make_dirs(dir, &e), &e);
    for (ft_stage *s = x->run.stage; s < train; s++) {
        if (!s->kind->run) continue;
        tiny_must(ft_make_dirs(s->dir, &e), &e);
        x->run.current = (int)(s - x->run.stage);
        ft_progress_start(&x->run.progress, &x->cli.log, s->conf->id);
        tiny_must(s->kind->run(&x->run, s, s->dir, &e), &e);
        ft_progress_end(&x->run.progress);
    }
    tiny_must(ft_lineup_open(&x->lineup, &x->run, train, FT_LINEUP_TOKENS, NULL, &e), &e);
    tiny_must(ft_lineup_training(&x->t, &x->lineup, &x->run, train, dir, &e), &e);
    tiny_must(ft_engine_start(&x->t.engine, &e), &e);
    tiny_must(ft_engine_fill(&x->t.engine, &x->lineup.weights, 1, x->lineup.init, &e), &e);
    ft_rows_args a = { .split = FT_SPLIT_TRAIN, .virtual_tokens = x->t.virtual_tokens };
    ck_assert_int_eq(ft_rows_make(&x->rows, &x->lineup.tokens, &a), 0);
}

static inline void training_close(training *x)
{
    ft_rows_free(&x->rows);
    ft_training_close(&x->t);
    ft_lineup_close(&x->lineup);
    ft_run_close(&x->run);
    ft_registry_free(x->cli.registry);
    ft_log_close(&x->cli.log);
}

/* Forward and backward of rows from … to-1, `at_once` of them a micro-batch where there is room.
 * Gradients are then in the engine; returns the mean loss.  losses: of each trained token in their
 * order, or NULL. */
static inline double training_step(training *x, int64_t from, int64_t to, int64_t at_once,
                                   double *losses)
{
    ft_micro *m = &x->t.engine.micro[0];
    const ft_program *p = &x->t.train;
    double sum = 0;
    int64_t trained = 0, k = 0;
    for (int64_t i = from; i < to; i++) trained += ft_rows_trained(&x->rows, &x->lineup.tokens, i);
    m->b.step = 1;
    m->b.row_tokens = 1 << 24;
    m->b.loss_scale = (float)(1.0 / (double)trained);
    g_exec_begin(p->x);
    for (int64_t row = from; row < to;) {
        int64_t end = row + at_once < to ? row + at_once : to;
        m->b.first_row = row - from;
        row = ft_micro_fill(m, &x->rows, &x->lineup.tokens, row, end, x->t.virtual_tokens);
        g_exec_micro(p->x, &m->b);
        for (int64_t i = 0; i < m->b.n_trained; i++, k++) {
            double loss = ft_program_number(p, p->loss, i);
            if (losses) losses[k] = loss;
            sum += loss;
        }
    }
    g_exec_end(p->x);
    ck_assert_int_eq(k, trained);
    return sum / (double)trained;
}

/* The gradient of parameter i, [*n]; NULL when it is frozen. */
static inline const float *training_grad(const training *x, uint32_t i, int64_t *n)
{
    const ft_g *g = x->t.train.g;
    const g_param *p = &g->param[i];
    const ft_desc *d = &g_value_at(g, p->value)->desc;
    *n = g_rows(d) * g_cols(d);
    return p->flags & FT_FROZEN ? NULL
                                : (const float *)x->t.engine.grad + x->t.train.plan.grad_at[i];
}

/* ||a - b|| and ||b||, as one relative error. */
static inline double relative(const float *a, const float *b, int64_t n)
{
    double diff = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        diff += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        size += (double)b[i] * (double)b[i];
    }
    return size > 0 ? sqrt(diff / size) : sqrt(diff);
}

static inline double largest_difference(const ft_tensor *a, const ft_tensor *b)
{
    double most = 0;
    ck_assert_uint_eq(a->bytes, b->bytes);
    for (uint64_t i = 0; i < a->bytes / 4; i++) {
        float x, y;
        memcpy(&x, (const char *)a->data + 4 * i, 4);
        memcpy(&y, (const char *)b->data + 4 * i, 4);
        double d = fabs((double)x - (double)y);
        if (!(d <= most)) most = d; /* NaN counts */
    }
    return most;
}

/* The difference between the logits of `pipeline score --out` and tensor `want` of a file. */
static inline double score_difference(const char *model, const char *adapter, const char *tokens,
                                      const vectors *v, const char *want)
{
    const char *out = tiny_path("logits.safetensors");
    const char *argv[] = { "score", "--model", model, "--tokens",
                           tokens,  "--out",   out,   adapter ? "--adapter" : NULL,
                           adapter, NULL };
    ft_buf said = { 0 };
    vectors got;
    int status = tiny_run(&said, argv);
    ck_assert_msg(status == 0, "%s: status %d: %s", model, status, said.p);
    ft_buf_free(&said);
    vectors_open(&got, tiny_dir, "logits.safetensors");
    ft_tensor a = vectors_get(&got, "", "logits"), b = vectors_get(v, "", want);
    double most = largest_difference(&a, &b);
    vectors_close(&got);
    return most;
}
#endif
