/* eval-json.c -- whether a model answers in one strict JSON form.
 *
 * path: JSON lines {"messages": […], "expected": {…}}.  An answer counts when it is one JSON object
 * (RFC 8259, nothing around it but white space), its keys are those of `expected` in the same
 * order, and the values of the keys in `equal` are the expected ones.  The key `apart` is counted
 * apart.
 *
 * Writes result.json {"questions", "base", "tuned", "subjects", "train_seconds"} and heldout.jsonl
 * with question, prompt_ids, base, tuned for each. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "ft/evaluate.h"
#include "ft/json.h"

typedef struct { ft_evaluate_args args; const char *path, *apart; ft_list equal; } config;

static const ft_param params[] = {
    { "path", FT_PATH, offsetof(config, path), NULL, 0, 0, NULL,
      "questions: JSON lines with messages and expected" },
    { "equal", FT_LIST, offsetof(config, equal), "", 0, 0, NULL,
      "keys whose values must be as expected for an answer to count" },
    { "apart", FT_STR, offsetof(config, apart), "", 0, 0, NULL,
      "a key whose value is counted apart" },
    FT_EVALUATE_PARAMS(config, args, "64"),
    { 0 }
};

typedef struct {
    const ft_host *host;
    ft_host quiet;              /* an answer that is no JSON is no error */
    const config *c;
    const ft_lm_api *lm;
    const ft_json_api *json;
    ft_buf docs;                /* ft_json_doc * of each question */
    int64_t n;
} self_t;

static int say_nothing(const ft_host *h, int code, const char *fmt, ...)
{
    (void)h, (void)fmt;
    return code;
}

static int open_(void *self, const ft_host *host, const void *cfg)
{
    self_t *s = self;
    *s = (self_t){ .host = host,
                   .quiet = *host,
                   .c = cfg,
                   .lm = host->get(host, "ft.lm/1"),
                   .json = host->get(host, "ft.json/1") };
    s->quiet.fail = say_nothing;
    return s->lm && s->json
               ? 0
               : host->fail(host, FT_EUNSUP, "this program does not offer ft.lm/1 and ft.json/1");
}

static ft_json_doc *doc_at(const self_t *s, int64_t i)
{
    return ((ft_json_doc *const *)(const void *)s->docs.p)[i];
}

static void close_(void *self)
{
    self_t *s = self;
    for (int64_t i = 0; i < s->n; i++) s->json->done(doc_at(s, i));
    ft_buf_free(&s->docs);
}

/* ---- questions ------------------------------------------------------------------------------- */

static int add_question(self_t *s, const char *line, size_t n, int64_t number)
{
    char place[4200];
    snprintf(place, sizeof place, "%s:%lld", s->c->path, (long long)number);
    ft_json_doc *doc = s->json->parse(s->host, place, line, n);
    if (!doc) return FT_EFORMAT;
    const ft_json *root = s->json->root(doc), *m = ft_json_get(root, "messages"),
                  *x = ft_json_get(root, "expected");
    if (!m || m->type != FT_JSON_ARRAY || m->len == 0 || !x || x->type != FT_JSON_OBJECT) {
        s->json->done(doc);
        return s->host->fail(s->host, FT_EFORMAT,
                             "%s: a question has `messages`, a list, and `expected`, an object",
                             place);
    }
    ft_buf_add(&s->docs, &doc, sizeof doc);
    if (s->docs.oom) {
        s->json->done(doc);
        return s->host->fail(s->host, FT_ENOMEM, "out of memory for the questions");
    }
    s->n++;
    return 0;
}

static int read_questions(self_t *s)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t n;
    int code = 0;
    FILE *f = fopen(s->c->path, "rbe");
    if (!f) return s->host->fail(s->host, FT_EIO, "%s: cannot be opened", s->c->path);
    for (int64_t number = 1; !code && (n = getline(&line, &room, f)) >= 0; number++) {
        if ((size_t)n > strspn(line, " \t\r\n")) code = add_question(s, line, (size_t)n, number);
    }
    if (!code && ferror(f)) code = s->host->fail(s->host, FT_EIO, "%s: cannot be read", s->c->path);
    free(line);
    fclose(f);
    if (!code && s->n == 0)
        code = s->host->fail(s->host, FT_EFORMAT, "%s: there are no questions", s->c->path);
    return code;
}

/* ---- marks ----------------------------------------------------------------------------------- */

static bool same_text(const ft_json *a, const ft_json *b)
{
    return a && b && a->type == b->type && a->truth == b->truth && a->len == b->len &&
           (a->type == FT_JSON_STRING || a->type == FT_JSON_NUMBER
                ? !memcmp(a->text, b->text, a->len)
                : a->len == 0);
}

static bool same_keys(const ft_json *a, const ft_json *b)
{
    if (a->type != FT_JSON_OBJECT || a->len != b->len) return false;
    for (size_t i = 0; i < a->len; i++) {
        if (a->item[i].key_len != b->item[i].key_len ||
            memcmp(a->item[i].key, b->item[i].key, a->item[i].key_len))
            return false;
    }
    return true;
}

typedef struct { bool right, apart; } mark;

static mark mark_answer(const self_t *s, const ft_lm_answer *a, const ft_json *expected)
{
    mark m = { false, false };
    ft_json_doc *doc = s->json->parse(&s->quiet, "answer", a->text, a->len);
    const ft_json *v = doc ? s->json->root(doc) : NULL;
    if (v && same_keys(v, expected)) {
        m.right = true;
        for (size_t i = 0; i < s->c->equal.n; i++)
            m.right &= same_text(ft_json_get(v, s->c->equal.v[i]),
                                 ft_json_get(expected, s->c->equal.v[i]));
        m.apart = *s->c->apart &&
                  same_text(ft_json_get(v, s->c->apart), ft_json_get(expected, s->c->apart));
    }
    s->json->done(doc);
    return m;
}

/* ---- the run --------------------------------------------------------------------------------- */

typedef struct { int64_t right, apart; } counts;

static const ft_json *messages_of(const self_t *s, int64_t i)
{
    return ft_json_get(s->json->root(doc_at(s, i)), "messages");
}
static const ft_json *expected_of(const self_t *s, int64_t i)
{
    return ft_json_get(s->json->root(doc_at(s, i)), "expected");
}

/* Answers of one model: counted, and kept. */
static int ask(const self_t *s, int which, ft_lm_answer *a, char **kept, counts *c)
{
    const ft_json **m = calloc((size_t)s->n, sizeof *m);
    for (int64_t i = 0; m && i < s->n; i++) m[i] = messages_of(s, i);
    int code = m ? s->lm->answer(s->host, which, m, s->n, a)
                 : s->host->fail(s->host, FT_ENOMEM, "out of memory for the answers");
    for (int64_t i = 0; i < s->n && !code; i++) {
        mark k = mark_answer(s, &a[i], expected_of(s, i));
        c->right += k.right;
        c->apart += k.right && k.apart;
        kept[i] = strdup(a[i].text);
        if (!kept[i]) code = s->host->fail(s->host, FT_ENOMEM, "out of memory for the answers");
    }
    free(m);
    return code;
}

/* The last thing that was said to the model. */
static const ft_json *question_of(const self_t *s, int64_t i)
{
    const ft_json *m = messages_of(s, i), *v = ft_json_get(&m->item[m->len - 1], "content");
    return v && v->type == FT_JSON_STRING ? v : NULL;
}

static void put_line(const self_t *s, ft_buf *b, int64_t i, const ft_lm_answer *a, const char *base,
                     const char *tuned)
{
    const ft_json *q = question_of(s, i);
    ft_buf_puts(b, "{\"question\": ");
    ft_json_quote(b, q ? q->text : "", q ? q->len : 0);
    ft_buf_puts(b, ", \"prompt_ids\": [");
    for (int64_t k = 0; k < a->n_prompt; k++)
        ft_buf_printf(b, "%s%d", k ? ", " : "", a->prompt_ids[k]);
    ft_buf_puts(b, "], \"base\": ");
    ft_json_quote(b, base, strlen(base));
    if (tuned) {
        ft_buf_puts(b, ", \"tuned\": ");
        ft_json_quote(b, tuned, strlen(tuned));
    }
    ft_buf_puts(b, "}\n");
}

static int write_answers(const self_t *s, const ft_lm_answer *a, char **base, char **tuned)
{
    ft_buf b = { 0 };
    int code = 0;
    for (int64_t i = 0; i < s->n && !code; i++) {
        const ft_json *q = question_of(s, i);
        put_line(s, &b, i, &a[i], base[i], tuned ? tuned[i] : NULL);
        if (q && i < 8) code = s->lm->sample(s->host, q->text, base[i], tuned ? tuned[i] : NULL);
    }
    if (!code && b.oom) code = s->host->fail(s->host, FT_ENOMEM, "out of memory for the answers");
    if (!code) code = s->lm->write(s->host, "heldout.jsonl", b.p, b.n);
    ft_buf_free(&b);
    return code;
}

static int write_result(const self_t *s, counts base, counts tuned, bool has_tuned)
{
    ft_buf b = { 0 };
    double seconds = s->lm->trained(s->host, "train_seconds");
    ft_buf_printf(&b, "{\"questions\":%lld,\"base\":%lld", (long long)s->n, (long long)base.right);
    if (has_tuned)
        ft_buf_printf(&b, ",\"tuned\":%lld,\"subjects\":%lld", (long long)tuned.right,
                      (long long)tuned.apart);
    if (seconds == seconds) ft_buf_printf(&b, ",\"train_seconds\":%.1f", seconds);
    ft_buf_puts(&b, "}\n");
    int code = b.oom ? s->host->fail(s->host, FT_ENOMEM, "out of memory for the result")
                     : s->lm->write(s->host, "result.json", b.p, b.n);
    ft_buf_free(&b);
    if (!code) code = s->lm->report(s->host, "questions", (double)s->n);
    if (!code) code = s->lm->report(s->host, "right_before", (double)base.right);
    if (!code && has_tuned) code = s->lm->report(s->host, "right_after", (double)tuned.right);
    if (!code && has_tuned && *s->c->apart)
        code = s->lm->report(s->host, "apart_after", (double)tuned.apart);
    return code;
}

static int run(void *self)
{
    self_t *s = self;
    counts base = { 0, 0 }, tuned = { 0, 0 };
    int code = read_questions(s);
    if (code) return code;
    bool has = s->lm->tuned(s->host);
    ft_lm_answer *a = calloc((size_t)s->n, sizeof *a);
    char **kept = calloc(2 * (size_t)s->n, sizeof *kept);
    if (!a || !kept) code = s->host->fail(s->host, FT_ENOMEM, "out of memory for the answers");
    if (!code) code = ask(s, FT_LM_BASE, a, kept, &base);
    if (!code && has) code = ask(s, FT_LM_TUNED, a, kept + s->n, &tuned);
    if (!code) code = write_answers(s, a, kept, has ? kept + s->n : NULL);
    if (!code) code = write_result(s, base, tuned, has);
    for (int64_t i = 0; kept && i < 2 * s->n; i++) free(kept[i]);
    free(kept);
    free(a);
    return code;
}

static const ft_evaluator evaluator = { .size = sizeof evaluator,
                                        .args = offsetof(config, args),
                                        .run = run };
static const ft_plugin plugin = {
    .abi = FT_ABI_INIT,
    .role = "ft.evaluator/1",
    .name = "eval-json",
    .version = "0.1.0",
    .summary = "how many answers keep a strict JSON form, before and after",
    .params = params,
    .config_size = sizeof(config),
    .instance_size = sizeof(self_t),
    .open = open_,
    .close = close_,
    .vtable = &evaluator,
};
FT_PLUGIN(plugin, "eval-json")
