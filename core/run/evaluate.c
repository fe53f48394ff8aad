/* evaluate.c -- see evaluate.h. */
#include "core/run/evaluate.h"
#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/run/chat.h"
#include "core/run/generate.h"
#include "core/run/score.h"
#include "core/run/stage_train.h"

typedef struct ft_evaluation {
    ft_run *r;
    const ft_stage *stage;
    const char *dir;
    ft_lineup lineup;
    ft_chat chat;
    bool tuned, tokens;
    ft_dtype compute;
    const ft_evaluate_args *args;
    ft_json_doc *trained;          /* trained.json of the training stage, or NULL */
    ft_buf numbers, samples;       /* of eval.json and samples.jsonl */
    ft_buf ids, at, answer;  /* of the last answers */
    ft_buf shown;                  /* of the last text() */
    ft_continuation *cont;
    int32_t *out;
} evaluation;

static evaluation *of(const ft_host *h) { return ((ft_run *)ft_host_run(h))->evaluation; }

/* The error of the core becomes the plugin's. */
static int give(const ft_host *h, int code, const ft_err *e)
{
    return code ? h->fail(h, code, "%s", e->msg) : 0;
}

/* ---- the two models -------------------------------------------------------------------------- */

static bool lm_tuned(const ft_host *h) { return of(h)->tuned; }

static int check_which(const ft_host *h, int which)
{
    if (which == FT_LM_BASE || (which == FT_LM_TUNED && of(h)->tuned)) return 0;
    return h->fail(h, FT_EINVAL, "there is no tuned model: put a training stage before this one");
}

static ft_asked asked(evaluation *v, int which)
{
    ft_lineup *l = &v->lineup;
    bool tuned = which == FT_LM_TUNED;
    return (ft_asked){ .machine = &l->machine,
                       .weights = &l->weights,
                       .adapter = tuned ? l->init : NULL,
                       .seed = (uint64_t)v->r->config.seed,
                       .memory_limit = (uint64_t)v->r->config.memory_bytes,
                       .program = { .model = v->r->model.vt,
                                    .model_self = v->r->model.self,
                                    .compute = v->compute,
                                    .method = tuned ? &l->method : NULL } };
}

/* ---- documents and losses -------------------------------------------------------------------- */

static int64_t nth(const ft_token_set *t, int split, int64_t i)
{
    for (int64_t d = 0; d < t->n_docs; d++) {
        if (t->split[d] == split && i-- == 0) return d;
    }
    return -1;
}

static int64_t lm_documents(const ft_host *h, int split)
{
    return of(h)->tokens ? ft_tokens_count(&of(h)->lineup.tokens, split).docs : 0;
}

static int lm_document(const ft_host *h, int split, int64_t i, const int32_t **ids,
                       const int32_t **labels, int64_t *n)
{
    const ft_token_set *t = &of(h)->lineup.tokens;
    int64_t d = of(h)->tokens && i >= 0 ? nth(t, split, i) : -1;
    if (d < 0)
        return h->fail(h, FT_EINVAL, "there is no document %lld in this split", (long long)i);
    *ids = t->ids + t->start[d];
    *labels = t->labels + t->start[d];
    *n = t->start[d + 1] - t->start[d];
    return 0;
}

static int lm_text(const ft_host *h, const int32_t *ids, int64_t n, bool raw, const char **out,
                   size_t *len)
{
    evaluation *v = of(h);
    ft_err e = { 0 };
    v->shown.n = 0;
    int code = ft_chat_text(&v->chat, ids, n, raw, &v->shown, &e);
    *out = v->shown.p ? v->shown.p : "";
    *len = v->shown.n;
    return give(h, code, &e);
}

/* Bytes that the trained tokens stand for, special tokens spelled out. */
static int count_bytes(const ft_host *h, int split, int64_t *bytes)
{
    const ft_token_set *t = &of(h)->lineup.tokens;
    *bytes = 0;
    for (int64_t d = 0; d < t->n_docs; d++) {
        for (int64_t i = t->start[d] + 1, n; t->split[d] == split && i < t->start[d + 1];
             i += n + 1) {
            const char *text;
            size_t len = 0;
            for (n = 0; i + n < t->start[d + 1] && t->labels[i + n] >= 0; n++) {}
            int code = n ? lm_text(h, t->labels + i, n, true, &text, &len) : 0;
            if (code) return code;
            *bytes += (int64_t)len;
        }
    }
    return 0;
}

static int lm_score(const ft_host *h, int which, int split, ft_lm_score *out)
{
    evaluation *v = of(h);
    ft_err e = { 0 };
    ft_score s = { .tokens = 0 };
    *out = (ft_lm_score){ .documents = lm_documents(h, split) };
    int code = check_which(h, which);
    if (code || out->documents == 0) return code;
    ft_asked a = asked(v, which);
    code = give(h, ft_score_split(&a, &v->lineup.tokens, split, &s, &e), &e);
    out->nll = s.nll;
    out->tokens = s.tokens;
    out->hits = s.hits;
    return code ? code : count_bytes(h, split, &out->bytes);
}

/* ---- answers --------------------------------------------------------------------------------- */

/* Texts and counts of the continuations, in buffers that live until the next call. */
static int read_answers(evaluation *v, int64_t n, ft_lm_answer *out, ft_err *e)
{
    size_t *at = calloc((size_t)n + 1, sizeof *at);
    int code = at ? 0 : ft_errf(e, FT_ENOMEM, "out of memory for the answers");
    v->answer.n = 0;
    for (int64_t i = 0; i < n && !code; i++) {
        at[i] = v->answer.n;
        code = ft_chat_text(&v->chat, v->cont[i].out, v->cont[i].n_out, false, &v->answer, e);
        out[i].len = v->answer.n - at[i];
        ft_buf_putc(&v->answer, 0);
    }
    if (!code && v->answer.oom) code = ft_errf(e, FT_ENOMEM, "out of memory for the answers");
    for (int64_t i = 0; i < n && !code; i++) {
        const ft_continuation *c = &v->cont[i];
        out[i] = (ft_lm_answer){ .prompt_ids = c->prompt,
                                 .n_prompt = c->n_prompt,
                                 .text = v->answer.p + at[i],
                                 .len = out[i].len,
                                 .n_tokens = c->n_out,
                                 .stopped = c->stopped };
    }
    free(at);
    return code;
}

/* Continues the prompts in v->ids, of which prompt i starts at byte at[i]. */
static int continue_all(evaluation *v, int which, const size_t *at, int64_t n, ft_lm_answer *out,
                        ft_err *e)
{
    int64_t most = v->args->max_new_tokens;
    free(v->cont);
    free(v->out);
    v->cont = calloc((size_t)n + 1, sizeof *v->cont);
    v->out = calloc((size_t)(n * most) + 1, sizeof *v->out);
    if (!v->cont || !v->out || v->ids.oom || v->at.oom)
        return ft_errf(e, FT_ENOMEM, "out of memory for the answers");
    for (int64_t i = 0; i < n; i++) {
        size_t end = i + 1 < n ? at[i + 1] : v->ids.n;
        v->cont[i] = (ft_continuation){ .prompt = (const int32_t *)(const void *)(v->ids.p + at[i]),
                                        .n_prompt = (int64_t)((end - at[i]) / 4),
                                        .out = v->out + i * most };
    }
    ft_asked a = asked(v, which);
    ft_generate_args g = { .max_new_tokens = most, .stop = v->chat.stop, .n_stop = v->chat.n_stop };
    int code = ft_generate(&a, &g, v->r->model.info.context, v->cont, n, &v->r->progress, e);
    return code ? code : read_answers(v, n, out, e);
}

/* Empties the list of prompts. */
static int begin_prompts(const ft_host *h, int which)
{
    of(h)->ids.n = of(h)->at.n = 0;
    return check_which(h, which);
}

/* A prompt starts here. */
static void next_prompt(evaluation *v) { ft_buf_add(&v->at, &v->ids.n, sizeof v->ids.n); }

static int answer_prompts(const ft_host *h, int which, int64_t n, ft_lm_answer *out)
{
    evaluation *v = of(h);
    ft_err e = { 0 };
    const size_t *at = (const size_t *)(const void *)v->at.p;
    return give(h, continue_all(v, which, at, n, out, &e), &e);
}

static int lm_answer(const ft_host *h, int which, const ft_json *const *messages, int64_t n,
                     ft_lm_answer *out)
{
    evaluation *v = of(h);
    ft_err e = { 0 };
    int code = begin_prompts(h, which);
    for (int64_t i = 0; i < n && !code; i++) {
        next_prompt(v);
        code = give(h, ft_chat_prompt(&v->chat, messages[i], &v->ids, &e), &e);
    }
    return code ? code : answer_prompts(h, which, n, out);
}

static int lm_continue(const ft_host *h, int which, const int32_t *const *ids, const int64_t *n_ids,
                       int64_t n, ft_lm_answer *out)
{
    evaluation *v = of(h);
    int code = begin_prompts(h, which);
    for (int64_t i = 0; i < n && !code; i++) {
        next_prompt(v);
        ft_buf_add(&v->ids, ids[i], (size_t)n_ids[i] * sizeof *ids[i]);
    }
    return code ? code : answer_prompts(h, which, n, out);
}

/* ---- results --------------------------------------------------------------------------------- */

static int lm_report(const ft_host *h, const char *name, double value)
{
    ft_buf *b = &of(h)->numbers;
    ft_buf_puts(b, b->n ? ", " : "{");
    ft_json_quote(b, name, strlen(name));
    ft_buf_puts(b, ": ");
    if (value == floor(value) && fabs(value) < 1e15) ft_buf_printf(b, "%lld", (long long)value);
    else ft_json_real(b, value);
    ft_log_line(&of(h)->r->cli->log, FT_INFO, of(h)->stage->conf->id, "%s %.6g", name, value);
    return b->oom ? h->fail(h, FT_ENOMEM, "out of memory for the results") : 0;
}

static void put_text(ft_buf *b, const char *key, const char *text)
{
    if (!text) return;
    ft_buf_printf(b, "%s\"%s\": ", b->p[b->n - 1] == '{' ? "" : ", ", key);
    ft_json_quote(b, text, strlen(text));
}

static int lm_sample(const ft_host *h, const char *prompt, const char *before, const char *after)
{
    ft_buf *b = &of(h)->samples;
    ft_buf_puts(b, "{");
    if (!b->oom) {
        put_text(b, "prompt", prompt);
        put_text(b, "before", before);
        put_text(b, "after", after);
    }
    ft_buf_puts(b, "}\n");
    return b->oom ? h->fail(h, FT_ENOMEM, "out of memory for the samples") : 0;
}

static bool own_name(const char *name)
{
    return *name && *name != '.' && !strchr(name, '/') && strcmp(name, "eval.json") &&
           strcmp(name, "samples.jsonl");
}

static int lm_write(const ft_host *h, const char *name, const char *p, size_t n)
{
    char path[4096];
    ft_err e = { 0 };
    if (!own_name(name))
        return h->fail(h, FT_EINVAL, "\"%s\" cannot be the name of a result file", name);
    int code = ft_path_join(path, sizeof path, of(h)->dir, name, &e);
    if (!code) code = ft_file_write(path, p, n, &e);
    return give(h, code, &e);
}

static double lm_trained(const ft_host *h, const char *name)
{
    double v;
    const evaluation *x = of(h);
    return x->trained && ft_json_as_real(ft_json_get(ft_json_root(x->trained), name), &v)
               ? v
               : (double)NAN;
}

const ft_lm_api ft_lm_interface = {
    .size = sizeof(ft_lm_api),
    .tuned = lm_tuned,
    .score = lm_score,
    .documents = lm_documents,
    .document = lm_document,
    .answer = lm_answer,
    .continue_ = lm_continue,
    .text = lm_text,
    .report = lm_report,
    .sample = lm_sample,
    .write = lm_write,
    .trained = lm_trained,
};

/* ---- the stage ------------------------------------------------------------------------------- */

static int read_trained(evaluation *v, const ft_stage *train, ft_err *e)
{
    char path[4096];
    ft_buf b = { 0 };
    int code = ft_path_join(path, sizeof path, train->dir, "trained.json", e);
    if (!code) code = ft_file_read(&b, path, 1 << 20, e);
    if (!code && !(v->trained = ft_json_parse(path, b.p ? b.p : "", b.n, e))) code = e->code;
    ft_buf_free(&b);
    return code;
}

static int open_models(evaluation *v, ft_err *e)
{
    ft_run *r = v->r;
    const ft_stage *train = ft_run_input(r, v->stage, FT_TRAINED),
                   *tokens = ft_run_input(r, v->stage, FT_TOKENS);
    v->tokens = tokens != NULL;
    v->tuned = train != NULL;
    int code = ft_lineup_open(&v->lineup, r, v->stage, v->tokens ? FT_LINEUP_TOKENS : 0, NULL, e);
    if (code) return code;
    v->compute = ft_machine_compute(&v->lineup.machine, v->args->compute_dtype);
    if (train) code = read_trained(v, train, e);
    return code ? code : ft_chat_open(&v->chat, r->model.source, r->registry, &r->offer, e);
}

static int save(evaluation *v, ft_err *e)
{
    char path[4096];
    ft_buf_puts(&v->numbers, v->numbers.n ? "}\n" : "{}\n");
    int code = 0;
    if (v->samples.n) {
        code = ft_path_join(path, sizeof path, v->dir, "samples.jsonl", e);
        if (!code) code = ft_file_write_buf(path, &v->samples, e);
    }
    if (!code) code = ft_path_join(path, sizeof path, v->dir, "eval.json", e);
    return code ? code : ft_file_write_buf(path, &v->numbers, e);
}

static void close_evaluation(evaluation *v)
{
    ft_buf *all[] = { &v->numbers, &v->samples, &v->ids, &v->at, &v->answer, &v->shown };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) ft_buf_free(all[i]);
    free(v->cont);
    free(v->out);
    ft_json_done(v->trained);
    ft_chat_close(&v->chat);
    ft_lineup_close(&v->lineup);
    v->r->evaluation = NULL;
}

int ft_stage_evaluate(ft_run *r, ft_stage *s, const char *dir, ft_err *e)
{
    evaluation v = { .r = r, .stage = s, .dir = dir };
    r->evaluation = &v;
    const ft_evaluator *vt = s->conf->plugin->desc.vtable;
    v.args = (const ft_evaluate_args *)(const void *)((const char *)s->conf->config + vt->args);
    int code = open_models(&v, e);
    ft_instance *i = code ? NULL : ft_run_instance(r, s, e);
    if (!code && !i) code = e->code;
    if (!code && (code = vt->run(ft_instance_self(i)))) ft_instance_error(i, code, e);
    if (!code) code = save(&v, e);
    ft_instance_close(i);
    close_evaluation(&v);
    return code;
}

/* ---- publishing ------------------------------------------------------------------------------ */

static int append(ft_buf *out, const char *dir, const char *name, ft_err *e)
{
    char path[4096];
    int code = ft_path_join(path, sizeof path, dir, name, e);
    if (code || !ft_file_exists(path)) return code;
    return ft_file_read(out, path, (size_t)1 << 30, e);
}

/* The plugin's own files. */
static int publish_own(ft_run *r, const ft_stage *s, ft_err *e)
{
    int code = 0;
    DIR *d = opendir(s->dir);
    for (struct dirent *x; d && !code && (x = readdir(d));) {
        const char *name[] = { x->d_name, NULL };
        if (own_name(x->d_name)) code = ft_run_publish(s->dir, r->config.output_dir, name, e);
    }
    if (d) closedir(d);
    return code;
}

static int write_out(ft_run *r, const char *name, const ft_buf *b, ft_err *e)
{
    char path[4096];
    int code = ft_path_join(path, sizeof path, r->config.output_dir, name, e);
    return code ? code : ft_file_write_buf(path, b, e);
}

int ft_evaluation_publish(ft_run *r, ft_err *e)
{
    ft_buf numbers = { 0 }, samples = { 0 };
    int code = 0, n = 0;
    for (int i = 0; i < r->n_stages && !code; i++) {
        const ft_stage *s = &r->stage[i];
        if (s->kind->run != ft_stage_evaluate || !ft_artifact_whole(r, s)) continue;
        ft_buf_puts(&numbers, n++ ? ",\n" : "{");
        ft_json_quote(&numbers, s->conf->id, strlen(s->conf->id));
        ft_buf_puts(&numbers, ": ");
        code = append(&numbers, s->dir, "eval.json", e);
        while (numbers.n && numbers.p[numbers.n - 1] == '\n') numbers.n--;
        if (!code) code = append(&samples, s->dir, "samples.jsonl", e);
        if (!code) code = publish_own(r, s, e);
    }
    ft_buf_puts(&numbers, "}\n");
    if (!code && n) code = write_out(r, "eval.json", &numbers, e);
    if (!code && samples.n) code = write_out(r, "samples.jsonl", &samples, e);
    ft_buf_free(&numbers);
    ft_buf_free(&samples);
    return code;
}
