/* report.c -- see report.h.  The page has no script, loads nothing, and everything that comes from
 * data goes through ft_html_text. */
#include "core/run/report.h"
#include <math.h>
#include "core/base/file.h"
#include "core/base/html.h"
#include "core/base/json.h"
#include "core/run/report_plot.h"
#include "core/run/report_tokens.h"

enum { MOST_SAMPLES = 20, MOST_TEXT = 4000, MOST_EVAL = 1 << 20, MOST_KEYS = 200, EVAL_DEPTH = 4 };

/* Colours are chosen so that they stand out on white and on near-black alike. */
static const char head[] =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
    "'unsafe-inline'\">\n"
    "<meta name=\"color-scheme\" content=\"light dark\">\n<style>\n"
    ":root { --ink: #1b1f24; --soft: #5d6670; --page: #fff; --line: #d5dae0; --box: #f5f7f9; "
    "--trained: #bfe8c8; --special: #8a4fbf; --frame: #2f7f91; }\n"
    "@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --soft: #9aa5b1; --page: "
    "#14171b; --line: #353c44; --box: #1d2228; "
    "--trained: #1f5a30; --special: #c79bf0; --frame: #6cc0d2; } }\n"
    "body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); "
    "max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }\n"
    "h1, h2 { line-height: 1.2; } h2 { margin-top: 2rem; }\n"
    "table { border-collapse: collapse; width: 100%; } td, th { border-bottom: 1px solid "
    "var(--line); padding: .3rem .6rem; text-align: left; "
    "vertical-align: top; white-space: pre-wrap; overflow-wrap: anywhere; } th { font-weight: 600; "
    "}\n"
    "table.pairs th { width: 14rem; color: var(--soft); }\n"
    "pre, .tokens { background: var(--box); border: 1px solid var(--line); padding: .7rem; font: "
    "13px/1.6 ui-monospace, monospace; "
    "white-space: pre-wrap; overflow-wrap: anywhere; }\n"
    ".tokens span { border-left: 1px solid var(--line); } .t { background: var(--trained); } .f { "
    "color: var(--frame); } .s { color: var(--special); font-weight: 600; }\n"
    ".note { color: var(--soft); } svg { width: 100%; height: auto; } svg text { fill: "
    "var(--soft); font: 12px system-ui, sans-serif; }\n"
    "svg .grid { stroke: var(--line); } svg .axis { stroke: var(--soft); fill: none; }\n"
    "svg polyline, svg line.c1, svg line.c2, svg line.c3 { fill: none; stroke-width: 1.6; }\n"
    "svg .c1 { stroke: #7da7d9; } svg .c2 { stroke: #1f6fc4; } svg .c3 { stroke: #d9772b; }\n"
    "@media (prefers-color-scheme: dark) { svg .c1 { stroke: #47658a; } svg .c2 { stroke: #63a8f2; "
    "} }\n"
    "svg circle.c1 { fill: #7da7d9; } svg circle.c2 { fill: #1f6fc4; } svg circle.c3 { fill: "
    "#d9772b; }\n"
    "</style>\n";

static void heading(ft_buf *b, const char *text) { ft_buf_printf(b, "<h2>%s</h2>\n", text); }

/* ---- summary --------------------------------------------------------------------------------- */

static void pair(ft_buf *b, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void pair(ft_buf *b, const char *key, const char *fmt, ...)
{
    ft_buf v = { 0 };
    va_list ap;
    va_start(ap, fmt);
    ft_buf_vprintf(&v, fmt, ap);
    va_end(ap);
    ft_buf_printf(b, "<tr><th>%s</th><td>", key);
    ft_html_text(b, v.p ? v.p : "", v.n);
    ft_buf_puts(b, "</td></tr>\n");
    b->oom |= v.oom;
    ft_buf_free(&v);
}

static double mib(uint64_t bytes) { return (double)bytes / (1 << 20); }

static void summary(ft_buf *b, const ft_report_data *d)
{
    ft_buf_puts(b, "<table class=\"pairs\">\n");
    pair(b, "model", "%s", *d->model ? d->model : "none");
    pair(b, "method", "%s", *d->method ? d->method : "not known");
    if (d->parameters)
        pair(b, "trainable", "%.4f %% (%lld of %lld parameters)",
             100.0 * (double)d->trainable / (double)d->parameters, (long long)d->trainable,
             (long long)d->parameters);
    if (d->planned_steps && d->planned_steps != d->steps)
        pair(b, "steps", "%lld of %lld", (long long)d->steps, (long long)d->planned_steps);
    else pair(b, "steps", "%lld", (long long)d->steps);
    pair(b, "tokens", "%lld", (long long)d->seen_tokens);
    pair(b, "seconds", "%.1f", d->seconds);
    if (d->seconds > 0) pair(b, "tokens/s", "%.1f", (double)d->seen_tokens / d->seconds);
    if (isfinite(d->last_loss)) pair(b, "last training loss", "%.4f", d->last_loss);
    if (isfinite(d->last_eval)) pair(b, "last evaluation loss", "%.4f", d->last_eval);
    if (d->planned_bytes)
        pair(b, "planned peak memory", "%.1f MiB", mib((uint64_t)d->planned_bytes));
    if (d->peak_bytes) pair(b, "measured peak memory", "%.1f MiB", mib(d->peak_bytes));
    ft_buf_puts(b, "</table>\n");
    if (d->bad_lines)
        ft_buf_printf(b,
                      "<p class=\"note\">%lld lines of the metrics could not be read and were left "
                      "out.</p>\n",
                      (long long)d->bad_lines);
}

/* ---- plots ----------------------------------------------------------------------------------- */

static void plots(ft_buf *b, const ft_report_data *d)
{
    ft_series mean = { { 0 } };
    ft_moving_average(&mean, &d->loss);
    const ft_curve loss[] = {
        { &d->loss, "c1", "training loss", false },
        { &mean, "c2", "moving average", false },
        { &d->eval, "c3", "evaluation loss", true },
    };
    const ft_curve rate[] = { { &d->rate, "c2", "learning rate", false } };
    if (ft_series_n(&d->loss) + ft_series_n(&d->eval)) {
        heading(b, "Loss");
        ft_plot_svg(b, "loss by step", "loss", loss, 3);
    }
    if (ft_series_n(&d->rate)) {
        heading(b, "Learning rate");
        ft_plot_svg(b, "learning rate by step", "learning rate", rate, 1);
    }
    b->oom |= mean.points.oom;
    ft_buf_free(&mean.points);
}

/* ---- samples --------------------------------------------------------------------------------- */

typedef struct { ft_buf *b; int n; } samples;

static void cell(ft_buf *b, const ft_json *row, const char *key)
{
    const ft_json *v = ft_json_get(row, key);
    ft_buf_puts(b, "<td>");
    if (v && v->type == FT_JSON_STRING) ft_html_cut(b, v->text, v->len, MOST_TEXT);
    ft_buf_puts(b, "</td>");
}

static bool on_sample(void *ctx, const ft_json *row)
{
    samples *s = ctx;
    if (s->n == 0) {
        heading(s->b, "Samples before and after");
        ft_buf_puts(s->b, "<table>\n<tr><th>prompt</th><th>before</th><th>after</th></tr>\n");
    }
    ft_buf_puts(s->b, "<tr>");
    cell(s->b, row, "prompt");
    cell(s->b, row, "before");
    cell(s->b, row, "after");
    ft_buf_puts(s->b, "</tr>\n");
    return ++s->n < MOST_SAMPLES;
}

static void put_samples(ft_buf *b, const char *dir)
{
    samples s = { b, 0 };
    ft_report_lines(dir, "samples.jsonl", on_sample, &s);
    if (s.n) ft_buf_puts(b, "</table>\n");
    if (s.n == MOST_SAMPLES)
        ft_buf_printf(b, "<p class=\"note\">The first %d of samples.jsonl.</p>\n", s.n);
}

/* ---- evaluation ------------------------------------------------------------------------------ */

/* Members of an object, those of objects inside as "outer.inner". */
static void put_members(ft_buf *b, const ft_json *o, const char *before, int depth, int *left)
{
    for (size_t i = 0; i < o->len && *left > 0; i++) {
        const ft_json *v = &o->item[i];
        ft_buf name = { 0 }, text = { 0 };
        ft_buf_printf(&name, "%s%s%s", before, *before ? "." : "", v->key);
        if (v->type == FT_JSON_OBJECT && depth < EVAL_DEPTH) {
            put_members(b, v, name.p ? name.p : "", depth + 1, left);
        } else {
            if (v->type == FT_JSON_STRING) ft_buf_add(&text, v->text, v->len);
            else ft_json_write(&text, v, -1);
            ft_buf_puts(b, "<tr><th>");
            ft_html_cut(b, name.p ? name.p : "", name.n, 200);
            ft_buf_puts(b, "</th><td>");
            ft_html_cut(b, text.p ? text.p : "", text.n, MOST_TEXT);
            ft_buf_puts(b, "</td></tr>\n");
            --*left;
        }
        b->oom |= name.oom | text.oom;
        ft_buf_free(&name);
        ft_buf_free(&text);
    }
}

/* A table of what stands in DIR/name, where there is such a file. */
static void put_numbers(ft_buf *b, const char *dir, const char *name, const char *title)
{
    char path[4096];
    ft_buf text = { 0 };
    int left = MOST_KEYS;
    if (ft_path_join(path, sizeof path, dir, name, NULL) || !ft_file_exists(path)) return;
    ft_json_doc *doc = ft_file_read(&text, path, MOST_EVAL, NULL)
                           ? NULL
                           : ft_json_parse(name, text.p ? text.p : "", text.n, NULL);
    heading(b, title);
    if (doc && ft_json_root(doc)->type == FT_JSON_OBJECT) {
        ft_buf_puts(b, "<table class=\"pairs\">\n");
        put_members(b, ft_json_root(doc), "", 0, &left);
        ft_buf_puts(b, "</table>\n");
    } else {
        ft_buf_printf(b, "<p class=\"note\">%s could not be read.</p>\n", name);
    }
    ft_json_done(doc);
    ft_buf_free(&text);
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* "12 (length), 3 (repetition)" */
static void put_reasons(ft_buf *b, const ft_json *reasons)
{
    for (size_t i = 0; reasons && reasons->type == FT_JSON_OBJECT && i < reasons->len; i++) {
        const ft_json *v = &reasons->item[i];
        if (i) ft_buf_putc(b, '\n');
        if (v->type == FT_JSON_NUMBER) ft_html_cut(b, v->text, v->len, 30);
        ft_buf_puts(b, ": ");
        ft_html_cut(b, v->key, v->key_len, 200);
    }
}

static bool on_rows(void *ctx, const ft_json *row)
{
    static const char *const keys[] = { "rows", "dropped" };
    ft_buf *b = ctx;
    ft_buf_puts(b, "<tr><th>");
    ft_html_cut(b, ft_json_str(row, "stage", "?"), strlen(ft_json_str(row, "stage", "?")), 100);
    ft_buf_puts(b, "</th>");
    for (int i = 0; i < 2; i++) {
        const ft_json *v = ft_json_get(row, keys[i]);
        ft_buf_puts(b, "<td>");
        if (v && v->type == FT_JSON_NUMBER) ft_html_cut(b, v->text, v->len, 30);
        ft_buf_puts(b, "</td>");
    }
    ft_buf_puts(b, "<td>");
    put_reasons(b, ft_json_get(row, "reasons"));
    ft_buf_puts(b, "</td></tr>\n");
    return false;
}

static void put_rows(ft_buf *b, const ft_report_data *d)
{
    if (!d->n_rows) return;
    heading(b, "Rows");
    ft_buf_puts(b, "<table>\n<tr><th>stage</th><th>rows</th><th>left out</th><th>why</th></tr>\n");
    for (int i = 0; i < d->n_rows; i++) ft_report_lines(d->rows[i], "rows.json", on_rows, b);
    ft_buf_puts(b, "</table>\n");
}

/* ---- tokens ---------------------------------------------------------------------------------- */

static void put_tokens(ft_buf *b, const ft_report_data *d, ft_registry *r, const ft_offer *offer)
{
    ft_token_set set = { .n_docs = 0 };
    ft_tokenizer_run tok;
    ft_err e = { 0 };
    if (!d->tokens) return;
    if (ft_tokens_open(&set, d->tokens, &e)) {
        ft_buf_puts(b, "<p class=\"note\">");
        ft_html_puts(b, e.msg);
        ft_buf_puts(b, "</p>\n");
        return;
    }
    bool text = r && *d->model && !ft_tokenizer_open(&tok, d->model, r, offer, &e);
    ft_token_counts n = ft_tokens_count(&set, FT_SPLIT_TRAIN);
    heading(b, "What was trained on");
    ft_buf_printf(b,
                  "<p>%lld documents, %lld tokens, %.1f %% of them trained. The first documents, a "
                  "box a document, a mark "
                  "between tokens: <span class=\"t\">trained</span>, context from the rows, <span "
                  "class=\"f\">written by the template</span>, "
                  "<span class=\"s\">special token</span>.%s</p>\n",
                  (long long)n.docs, (long long)n.tokens,
                  n.tokens ? 100.0 * (double)n.trained / (double)n.tokens : 0,
                  text ? "" : " The tokenizer could not be opened, so the ids are shown.");
    ft_report_tokens(b, &set, text ? &tok : NULL);
    if (text) ft_tokenizer_close(&tok);
    ft_tokens_free(&set);
}

/* ---- the page -------------------------------------------------------------------------------- */

static void page(ft_buf *b, const ft_report_data *d, ft_registry *r, const ft_offer *offer)
{
    const char *name = *d->name ? d->name : "run";
    ft_buf_puts(b, head);
    ft_buf_puts(b, "<title>");
    ft_html_puts(b, name);
    ft_buf_puts(b, "</title>\n</head>\n<body>\n<h1>");
    ft_html_puts(b, name);
    ft_buf_puts(b, "</h1>\n");
    summary(b, d);
    plots(b, d);
    put_numbers(b, d->dir, "eval.json", "Evaluation");
    put_numbers(b, d->dir, "receipt.json", "Receipts");
    put_samples(b, d->dir);
    put_rows(b, d);
    put_tokens(b, d, r, offer);
    heading(b, "Configuration");
    ft_buf_puts(b, "<pre>");
    ft_html_text(b, d->lock.p, d->lock.n);
    ft_buf_puts(b, "</pre>\n</body>\n</html>\n");
}

int ft_report_write(const char *dir, const char *out, ft_registry *r, const ft_offer *offer,
                    ft_err *e)
{
    ft_report_data d;
    ft_buf b = { 0 };
    char path[4096];
    int code = ft_report_read(&d, dir, e);
    if (!code && !out) code = ft_path_join(path, sizeof path, dir, "report.html", e);
    if (!code) {
        page(&b, &d, r, offer);
        code = ft_file_write_buf(out ? out : path, &b, e);
    }
    ft_buf_free(&b);
    ft_report_data_free(&d);
    return code;
}
