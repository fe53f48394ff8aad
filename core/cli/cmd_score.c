/* cmd_score.c -- `pipeline score`: the loss of token rows under a model, and its logits.
 *
 *   pipeline score --model DIR_OR_GGUF [--adapter DIR] --tokens F.safetensors [--out G.safetensors]
 *                  [--dtype fp32|bf16]
 *
 * F holds input_ids and, if wanted, labels and seq_ids (data-tokens).  Prints one JSON line; G gets
 * `logits` fp32 with the shape of input_ids and the vocabulary as the last axis. */
#include <math.h>
#include <string.h>
#include "core/base/json.h"
#include "core/cli/cli.h"
#include "core/cli/options.h"
#include "core/io/safetensors_write.h"
#include "core/run/lm.h"
#include "core/run/score.h"
#include "core/run/services.h"

typedef struct { const char *model, *adapter, *tokens, *out, *dtype; } options;

/* The rows of F, through the data-tokens plugin. */
static int open_rows(ft_token_set *s, ft_row_plan *r, const char *path, ft_registry *reg,
                     const ft_offer *offer, ft_err *e)
{
    const ft_loaded *p = ft_registry_get(reg, "data-tokens", e);
    ft_instance *i = p ? ft_instance_open_path(p, "score", path, offer, e) : NULL;
    if (!i) return e->code;
    int code = ft_tokens_from_rows(s, ft_instance_vtable(i), ft_instance_self(i), e);
    if (code) ft_instance_error(i, code, e);
    ft_instance_close(i);
    ft_rows_args a = { .split = FT_SPLIT_TRAIN };
    if (!code && ft_rows_make(r, s, &a)) code = ft_errf(e, FT_ENOMEM, "out of memory for the rows");
    return code;
}

/* The whole of the logits: every token of a micro-batch is a chosen row. */
static int write_logits(ft_engine *e, int which, const ft_row_plan *r, const ft_token_set *t,
                        ft_st_writer *w, ft_err *err)
{
    ft_program *p = e->program[which];
    ft_micro *m = &e->micro[which];
    int64_t vocab = g_cols(g_desc(p->g, p->logits));
    int code = 0;
    g_exec_begin(p->x);
    for (int64_t row = 0; row < r->n_rows && !code;) {
        row = ft_micro_fill(m, r, t, row, row + 1, 0);
        m->b.n_trained = m->b.n_tokens;
        for (int64_t i = 0; i < m->b.n_tokens; i++) m->trained[i] = (int32_t)i;
        g_exec_micro(p->x, &m->b);
        code = ft_st_write(w, 0, g_exec_data(p->x, p->logits),
                           (size_t)(m->b.n_tokens * vocab) * sizeof(float), err);
    }
    return code;
}

static int save_logits(ft_engine *e, int which, const ft_row_plan *r, const ft_token_set *t,
                       const char *path, ft_err *err)
{
    ft_program *p = e->program[which];
    int64_t dim[4], n = 0, per = t->rows_per_batch;
    dim[n++] = per ? t->n_rows / per : t->n_rows;
    if (per) dim[n++] = per;
    dim[n++] = t->max_length;
    dim[n++] = g_cols(g_desc(p->g, p->logits));
    ft_st_writer *w = ft_st_new(err);
    int64_t k = w ? ft_st_declare(w, "logits", FT_F32, dim, (int)n, err) : -1;
    int code = k < 0 ? err->code : ft_st_begin(w, path, 0, err);
    if (!code) code = write_logits(e, which, r, t, w, err);
    if (!code) code = ft_st_commit(w, err);
    ft_st_free(w);
    return code;
}

static int print_score(const ft_score *s)
{
    ft_buf b = { 0 };
    double loss = ft_score_loss(s);
    ft_buf_puts(&b, "{\"loss\": ");
    ft_json_real(&b, loss);
    ft_buf_printf(&b, ", \"tokens\": %lld, \"perplexity\": ", (long long)s->tokens);
    ft_json_real(&b, exp(loss));
    ft_buf_puts(&b, ", \"accuracy\": ");
    ft_json_real(&b, s->tokens ? (double)s->hits / (double)s->tokens : NAN);
    ft_buf_puts(&b, "}\n");
    return ft_cli_put(&b);
}

static int check_rows(const ft_token_set *t, const ft_model_info *m, ft_err *e)
{
    int64_t vocab = m->vocab;
    for (int64_t d = 0; d < t->n_docs; d++) {
        int64_t n = t->start[d + 1] - t->start[d];
        if (n > m->context)
            return ft_errf(e, FT_EINVAL,
                           "a row has a document of %lld tokens, the model's context is %lld; cut "
                           "the rows",
                           (long long)n, (long long)m->context);
    }
    for (int64_t i = 0; i < t->n_tokens; i++) {
        if (t->ids[i] >= vocab || t->labels[i] >= vocab)
            return ft_errf(e, FT_EINVAL, "token id %d is outside of the model's vocabulary of %lld",
                           t->ids[i] >= vocab ? t->ids[i] : t->labels[i], (long long)vocab);
    }
    return 0;
}

static int run(ft_cli *cli, const options *o, ft_score *s, ft_err *e)
{
    ft_lm_run lm = { .adapter = NULL };
    ft_program score = { .x = NULL }, logits = { .x = NULL };
    ft_engine engine = { .machine = &lm.machine };
    ft_token_set set = { .n_docs = 0 };
    ft_row_plan rows = { .n_rows = 0 };
    ft_registry *r = ft_cli_plugins(cli, e);
    ft_offer offer = ft_run_offer(&cli->log);
    int code = r ? ft_lm_open(&lm, r, &offer, o->model, o->adapter, cli->threads, e) : e->code;
    if (!code) code = open_rows(&set, &rows, o->tokens, r, &offer, e);
    if (!code) code = check_rows(&set, &lm.model.info, e);
    if (!code) {
        ft_program_args a = ft_lm_args(&lm);
        a.compute = ft_machine_compute(&lm.machine, o->dtype);
        ft_score_bounds(&rows, &set, 0, o->out ? 1 : 1024, &a.max_tokens, &a.max_trained);
        a.purpose = FT_FOR_SCORING;
        engine.program[engine.n_programs++] = &score;
        code = ft_program_plan(&score, &a, &lm.weights, &lm.machine.kernels, lm.machine.threads, e);
        a.purpose = FT_FOR_LOGITS;
        if (!code && o->out) {
            engine.program[engine.n_programs++] = &logits;
            code = ft_program_plan(&logits, &a, &lm.weights, &lm.machine.kernels,
                                   lm.machine.threads, e);
        }
    }
    if (!code) code = ft_engine_start(&engine, e);
    if (!code) code = ft_engine_fill(&engine, &lm.weights, 0, lm.adapter_tensors, e);
    if (!code) code = ft_score_rows(&engine, 0, &rows, &set, 0, s, e);
    if (!code && o->out) code = save_logits(&engine, 1, &rows, &set, o->out, e);
    ft_program_free(&score);
    ft_program_free(&logits);
    ft_engine_stop(&engine);
    ft_rows_free(&rows);
    ft_tokens_free(&set);
    ft_lm_close(&lm);
    return code;
}

int cmd_score(ft_cli *cli, int argc, char **argv)
{
    options o = { .dtype = "fp32" };
    const ft_option table[] = {
        { .name = "--model", .value = &o.model, .required = true },
        { .name = "--adapter", .value = &o.adapter },
        { .name = "--tokens", .value = &o.tokens, .required = true },
        { .name = "--out", .value = &o.out },
        { .name = "--dtype", .value = &o.dtype },
        { .name = NULL },
    };
    ft_score s = { .tokens = 0 };
    ft_err e = { 0 };
    int status = ft_options(cli, argc, argv, table, NULL, 0);
    if (status) return status;
    if (strcmp(o.dtype, "fp32") && strcmp(o.dtype, "bf16"))
        return ft_cli_fail(FT_EXIT_USAGE, "--dtype %s: fp32 or bf16", o.dtype);
    if (run(cli, &o, &s, &e)) return ft_cli_fail(FT_EXIT_FAILED, "%s", e.msg);
    return print_score(&s);
}
