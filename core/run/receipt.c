/* receipt.c -- see receipt.h. */
#include "core/run/receipt.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/run/chat.h"
#include "core/run/lora_gguf.h"
#include "core/run/stage_train.h"

enum { ROWS = 4, ROW = 64, STEP = 4 }; /* rows, tokens of one, tokens between logits */

/* Conversations of our own: words, numbers, code, other scripts, blanks, several turns. */
static const char *const talks[] = {
    "[{\"role\": \"user\", \"content\": \"How many days has a leap year, and why 366?\"}]",
    "[{\"role\": \"system\", \"content\": \"Answer briefly.\"}, {\"role\": \"user\", \"content\": "
    "\"Name a river.\"}, {\"role\": \"assistant\", \"content\": \"The Danube.\"}, {\"role\": "
    "\"user\", \"content\": \"And another one?\"}]",
    "[{\"role\": \"user\", \"content\": \"for (int i = 0; i < 10; i++)\\n\\tputs(\\\"x\\\");\"}]",
    "[{\"role\": \"user\", \"content\": \"나는 간다. Ünïcödé — «да» 日本 \\ud83d\\ude42\"}]",
    "[{\"role\": \"user\", \"content\": \"  two  blanks,\\n\\n\\nlines   and 3.14159 \"}]",
    "[{\"role\": \"user\", \"content\": \"I'll say it's <|im_end|> </s> 1,234,567 times\"}]",
};
enum { N_TALKS = sizeof talks / sizeof *talks };

/* The ids both models are asked with. */
typedef struct {
    int32_t id[ROWS][ROW];
    int64_t length[ROWS];
    int n;
    int64_t longest;   /* of a row that is to be made */
} rows;

/* ---- rows ------------------------------------------------------------------------------------ */

static void add_row(rows *x, const int32_t *id, int64_t n, int64_t vocab)
{
    if (n > x->longest) n = x->longest;
    if (x->n == ROWS || n < 2) return;
    for (int64_t i = 0; i < n; i++) {
        if (id[i] < 0 || id[i] >= vocab) return;
    }
    memcpy(x->id[x->n], id, (size_t)n * sizeof *id);
    x->length[x->n++] = n;
}

/* Documents kept apart for evaluation, then others. */
static int rows_of_tokens(rows *x, const ft_stage *tokens, int64_t vocab, ft_err *e)
{
    char path[4096];
    ft_token_set t = { .n_docs = 0 };
    int code = ft_path_join(path, sizeof path, tokens->dir, "tokens.safetensors", e);
    if (!code) code = ft_tokens_open(&t, path, e);
    for (int split = FT_SPLIT_VAL; split >= FT_SPLIT_TRAIN && !code; split--) {
        for (int64_t d = 0; d < t.n_docs; d++) {
            if (t.split[d] == split)
                add_row(x, t.ids + t.start[d], t.start[d + 1] - t.start[d], vocab);
        }
    }
    ft_tokens_free(&t);
    return code;
}

/* The ids of conversation i; 0 tokens where the template or the tokenizer refuses it. */
static int talk(ft_chat *c, int i, ft_buf *ids, ft_err *e)
{
    ft_json_doc *doc = ft_json_parse("conversation", talks[i], strlen(talks[i]), e);
    ids->n = 0;
    if (!doc) return e->code;
    ft_err refused = { 0 };
    int code = ft_chat_prompt(c, ft_json_root(doc), ids, &refused);
    ft_json_done(doc);
    if (code) ids->n = 0;
    return code == FT_ENOMEM ? ft_errf(e, code, "%s", refused.msg) : 0;
}

/* Conversations in the model's own words, where it has some; then ids that mean nothing. */
static int rows_of_words(rows *x, ft_run *r, ft_err *e)
{
    int64_t vocab = r->model.info.vocab;
    ft_chat c;
    ft_err none = { 0 };
    ft_buf ids = { 0 };
    int code = 0;
    if (!ft_chat_open(&c, r->model.source, r->registry, &r->offer, &none)) {
        for (int i = 0; i < N_TALKS && !code; i++) {
            code = talk(&c, i, &ids, e);
            add_row(x, (const int32_t *)(const void *)ids.p, (int64_t)(ids.n / 4), vocab);
        }
        ft_chat_close(&c);
    }
    ft_buf_free(&ids);
    for (int64_t k = 0, n; x->n < ROWS && !code; k += n) {
        int32_t id[ROW];
        n = x->longest;
        for (int64_t i = 0; i < n; i++) id[i] = (int32_t)((k + i) * 7919 % vocab);
        if (n < 2) return ft_errf(e, FT_EUNSUP, "a model for %lld tokens has no logits to compare",
                                  (long long)n);
        add_row(x, id, n, vocab);
    }
    return code;
}

static int64_t count_positions(const rows *x)
{
    int64_t n = 0;
    for (int i = 0; i < x->n; i++) n += (x->length[i] + STEP - 1) / STEP;
    return n;
}

/* ---- logits ---------------------------------------------------------------------------------- */

/* Row i as a micro-batch of one document, with logits after every STEP-th token and the last. */
static void fill(ft_micro *m, const rows *x, int i)
{
    ft_batch *b = &m->b;
    int64_t n = x->length[i];
    b->n_tokens = n;
    b->n_rows = b->n_docs = 1;
    b->n_trained = 0;
    m->row_start[0] = m->doc_start[0] = 0;
    m->row_start[1] = m->doc_start[1] = (int32_t)n;
    for (int64_t t = 0; t < n; t++) {
        m->ids[t] = x->id[i][t];
        m->position[t] = (int32_t)t;
        if ((n - 1 - t) % STEP) continue;
        m->target[b->n_trained] = 0;
        m->trained[b->n_trained++] = (int32_t)t;
    }
}

/* out (positions, vocabulary) */
static int run_rows(const ft_asked *a, const rows *x, float *out, ft_err *e)
{
    ft_program program = { .x = NULL };
    ft_engine engine = { .n_programs = 0 };
    ft_program_args p = a->program;
    p.purpose = FT_FOR_LOGITS;
    p.compute = FT_F32;
    p.max_tokens = ROW;
    p.max_trained = ROW;
    int code = ft_program_plan(&program, &p, a->weights, &a->machine->kernels, a->machine->threads,
                               e);
    if (!code) engine = ft_asked_engine(a, &program);
    if (!code) code = ft_engine_start(&engine, e);
    if (!code) code = ft_engine_fill(&engine, a->weights, a->seed, a->adapter, e);
    if (!code) g_exec_begin(program.x);
    for (int i = 0; i < x->n && !code; i++) {
        fill(&engine.micro[0], x, i);
        g_exec_micro(program.x, &engine.micro[0].b);
        int64_t n = engine.micro[0].b.n_trained * g_cols(g_desc(program.g, program.logits));
        memcpy(out, g_exec_data(program.x, program.logits), (size_t)n * sizeof *out);
        out += n;
        if (ft_cancelled()) code = ft_errf(e, FT_ECANCEL, "stopped on request");
    }
    ft_program_free(&program);
    ft_engine_stop(&engine);
    return code;
}

/* The model as it was trained on: packed weights as their numbers, the adapter on them. */
static int run_trained(ft_run *r, const ft_stage *s, const rows *x, float *out, ft_err *e)
{
    ft_lineup l;
    int code = ft_lineup_open(&l, r, s, 0, NULL, e);
    if (code) return code;
    bool tuned = l.init || s->input[FT_ADAPTER] >= 0;
    ft_asked a = { .machine = &l.machine,
                   .weights = &l.weights,
                   .adapter = l.init,
                   .seed = (uint64_t)r->config.seed,
                   .memory_limit = (uint64_t)r->config.memory_bytes,
                   .program = { .model = r->model.vt,
                                .model_self = r->model.self,
                                .method = tuned ? &l.method : NULL } };
    if (a.program.method && ft_method_virtual_tokens(&l.method))
        code = ft_errf(e, FT_EUNSUP, "%s puts tokens of its own in front: no model file holds them",
                       l.method.adapter[0].plugin);
    if (!code) code = run_rows(&a, x, out, e);
    ft_lineup_close(&l);
    return code;
}

/* ---- words ----------------------------------------------------------------------------------- */

/* Conversations through the model's own words and through those that were written. */
static int compare_words(ft_receipt *out, ft_run *r, ft_source *written, ft_err *e)
{
    ft_chat own, other;
    ft_err none = { 0 };
    ft_buf a = { 0 }, b = { 0 };
    int code = 0;
    if (!written->gguf && !written->tokenizer_config && ft_source_tokenizer(written, &none))
        return 0; /* it has no words */
    if (ft_chat_open(&own, r->model.source, r->registry, &r->offer, &none)) return 0;
    code = ft_chat_open(&other, written, r->registry, &r->offer, e);
    for (int i = 0; i < N_TALKS && !code; i++) {
        code = talk(&own, i, &a, e);
        if (!code) code = talk(&other, i, &b, e);
        out->texts++;
        out->same_texts += a.n == b.n && (!a.n || !memcmp(a.p, b.p, a.n));
    }
    if (!code) ft_chat_close(&other);
    ft_chat_close(&own);
    ft_buf_free(&a);
    ft_buf_free(&b);
    return code;
}

/* ---- the receipt ----------------------------------------------------------------------------- */

static void say(const ft_receipt *x, const ft_run *r, const ft_stage *s)
{
    ft_log *log = &r->cli->log;
    const char *id = s->conf->id;
    if (x->worst > 0)
        ft_log_line(log, FT_INFO, id, "rounded to %s: by at most %.3g, %.3g of the weights' size",
                    x->form, x->worst, x->relative);
    ft_log_line(log, FT_INFO, id,
                "receipt: opened again as %s%s; logits within %.3g of %.3g at %lld places, KL %.3g "
                "nats (at most %.3g), the same likeliest token at %lld",
                x->form, x->lossy ? ", lossy" : "", x->max_difference, x->largest,
                (long long)x->positions, x->kl, x->max_kl, (long long)x->same_top);
    if (x->texts)
        ft_log_line(log, x->same_texts == x->texts ? FT_INFO : FT_WARN, id,
                    "receipt: the same token ids in %lld of %lld rendered conversations",
                    (long long)x->same_texts, (long long)x->texts);
}

static void put(ft_buf *b, const char *key, double v)
{
    ft_buf_printf(b, ", \"%s\": ", key);
    if (v == floor(v) && fabs(v) < 1e15) ft_buf_printf(b, "%lld", (long long)v);
    else ft_json_real(b, v);
}

static int write_receipt(const ft_receipt *x, const char *dir, ft_err *e)
{
    char path[4096];
    ft_buf b = { 0 };
    ft_buf_puts(&b, "{\"form\": ");
    ft_json_quote(&b, x->form, strlen(x->form));
    ft_buf_printf(&b, ", \"lossy\": %s", x->lossy ? "true" : "false");
    put(&b, "rounded_by_at_most", x->worst);
    put(&b, "rounded_relative", x->relative);
    put(&b, "positions", (double)x->positions);
    put(&b, "max_logit_difference", x->max_difference);
    put(&b, "largest_logit", x->largest);
    put(&b, "kl", x->kl);
    put(&b, "max_kl", x->max_kl);
    put(&b, "top1_agreement", (double)x->same_top / (double)x->positions);
    put(&b, "conversations", (double)x->texts);
    put(&b, "conversations_with_equal_ids", (double)x->same_texts);
    ft_buf_puts(&b, "}\n");
    int code = ft_path_join(path, sizeof path, dir, "receipt.json", e);
    if (!code) code = ft_file_write_buf(path, &b, e);
    ft_buf_free(&b);
    return code;
}

/* The written model's logits, and its words. */
static int ask_written(ft_receipt *out, ft_run *r, const ft_written *w, const rows *x,
                       float *logits, const char *dir, ft_err *e)
{
    ft_lm_run lm;
    char peft[4096];
    int code = 0;
    if (w->lora) code = ft_path_join(peft, sizeof peft, dir, ".peft", e);
    if (w->lora && !code) code = ft_lora_gguf_unpack(&r->model, r->scan.g, w->lora, peft, e);
    if (!code)
        code = ft_lm_open(&lm, r->registry, &r->offer, w->path, w->lora ? peft : NULL,
                          r->cli->threads, e);
    if (w->lora) ft_remove_tree(peft, NULL); /* what is mapped stays */
    if (code) return code;
    ft_asked a = ft_asked_lm(&lm, FT_F32);
    a.memory_limit = (uint64_t)r->config.memory_bytes;
    code = run_rows(&a, x, logits, e);
    if (!code && !w->lora) code = compare_words(out, r, lm.model.source, e);
    ft_lm_close(&lm);
    return code;
}

/* Rows that both models have positions for. */
static int find_longest(rows *x, ft_run *r, const char *path, ft_err *e)
{
    ft_model_run m;
    int code = ft_model_open(&m, path, r->registry, &r->offer, e);
    if (code) return code;
    x->longest = ROW;
    if (r->model.info.context < x->longest) x->longest = r->model.info.context;
    if (m.info.context < x->longest) x->longest = m.info.context;
    ft_model_close(&m);
    return 0;
}

int ft_receipt_make(ft_receipt *out, ft_run *r, const ft_stage *s, const ft_written *w,
                    const char *dir, ft_err *e)
{
    rows x = { .n = 0 };
    int64_t vocab = r->model.info.vocab;
    const ft_stage *tokens = ft_run_input(r, s, FT_TOKENS);
    int code = find_longest(&x, r, w->path, e);
    if (!code && tokens) code = rows_of_tokens(&x, tokens, vocab, e);
    if (!code && !x.n) code = rows_of_words(&x, r, e);
    if (code) return code;
    int64_t n = count_positions(&x);
    uint64_t bytes = (uint64_t)(n * vocab) * sizeof(float);
    float *trained = ft_region_new(bytes, "logits to compare", e),
          *written = trained ? ft_region_new(bytes, "logits to compare", e) : NULL;
    if (!written) code = e->code;
    if (!code) code = run_trained(r, s, &x, trained, e);
    if (!code) code = ask_written(out, r, w, &x, written, dir, e);
    if (!code) ft_receipt_compare(out, trained, written, n, vocab);
    ft_region_free(trained, bytes);
    ft_region_free(written, bytes);
    if (!code) say(out, r, s);
    if (!code) code = ft_receipt_judge(out, s->conf->id, e);
    return code ? code : write_receipt(out, dir, e);
}

/* ---- publishing ------------------------------------------------------------------------------ */

int ft_receipt_publish(ft_run *r, ft_err *e)
{
    ft_buf all = { 0 };
    char path[4096];
    int code = 0, n = 0;
    for (int i = 0; i < r->n_stages && !code; i++) {
        const ft_stage *s = &r->stage[i];
        if (s->kind->run != ft_stage_export && s->kind->run != ft_stage_merge) continue;
        code = ft_path_join(path, sizeof path, s->dir, "receipt.json", e);
        if (code || !ft_file_exists(path)) continue;
        ft_buf_puts(&all, n++ ? ",\n" : "{");
        ft_json_quote(&all, s->conf->id, strlen(s->conf->id));
        ft_buf_puts(&all, ": ");
        code = ft_file_read(&all, path, 1 << 20, e);
        while (all.n && all.p[all.n - 1] == '\n') all.n--;
    }
    ft_buf_puts(&all, "}\n");
    if (!code && n) code = ft_path_join(path, sizeof path, r->config.output_dir, "receipt.json", e);
    if (!code && n) code = ft_file_write_buf(path, &all, e);
    ft_buf_free(&all);
    return code;
}
