/* cmd_render.c -- `pipeline render --template T.jinja ROWS.jsonl`: what a chat template makes of
 * rows, and which bytes of it the assistant said.
 *
 * A row: {"messages": […], "tools": […]?, "kwargs": {…}?, "add_generation_prompt": b?,
 * "bos_token": s?, "eos_token": s?}; kwargs are further template variables.  For each one line
 * {"text": …, "assistant_spans": [[from, to], …]} or {"error": …}; spans count bytes of the text:
 * what {% generation %} marks where the template has it, else the content of assistant messages.
 * Without --template the built-in ChatML is used. */
#include "core/cli/cmd_render.h"
#include <stdio.h>
#include <string.h>
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/text/template.h"

enum { MAX_TEMPLATE = 8 << 20, MAX_ROW = 16 << 20 };

/* The template's variables: those of kwargs, then those of the row itself.  `buf` holds them. */
static int row_vars(ft_buf *buf, const ft_json *row, ft_json *vars, ft_err *e)
{
    const ft_json *kwargs = ft_json_get(row, "kwargs");
    buf->n = 0;
    if (row->type != FT_JSON_OBJECT) return ft_errf(e, FT_EFORMAT, "a row must be a JSON object");
    if (kwargs && kwargs->type == FT_JSON_OBJECT)
        ft_buf_add(buf, kwargs->item, kwargs->len * sizeof *kwargs);
    for (size_t i = 0; i < row->len; i++) {
        if (&row->item[i] != kwargs) ft_buf_add(buf, &row->item[i], sizeof *row);
    }
    if (buf->oom) return ft_errf(e, FT_ENOMEM, "out of memory");
    *vars = (ft_json){ .type = FT_JSON_OBJECT, .item = (const ft_json *)(const void *)buf->p,
                       .len = (uint32_t)(buf->n / sizeof *row) };
    return FT_OK;
}

/* The second half of a line: the spans, and the end of the object. */
static void print_spans(ft_buf *out, const ft_template *t)
{
    const ft_extent *span;
    size_t n = ft_template_marks(t) ? ft_template_generated(t, &span)
                                    : ft_template_contents(t, FT_ROLE_ASSISTANT, &span);
    ft_buf_puts(out, ", \"assistant_spans\": [");
    for (size_t i = 0; i < n; i++)
        ft_buf_printf(out, "%s[%zu, %zu]", i ? ", " : "", span[i].begin, span[i].end);
    ft_buf_puts(out, "]}\n");
}

/* The JSON reader says "place:1:column", as a row is one line: the 1 is of no use. */
static void drop_line_one(ft_err *e, const char *place)
{
    size_t n = strlen(place);
    if (!strncmp(e->msg, place, n) && !strncmp(e->msg + n, ":1:", 3))
        memmove(e->msg + n, e->msg + n + 2, strlen(e->msg + n + 2) + 1);
}

/* One line of the file into one line of output. */
static void render_row(ft_buf *out, ft_buf *vars_buf, ft_template *t, const char *line, size_t n,
                       const char *place)
{
    ft_err e = { 0 };
    ft_json vars;
    ft_text text = { 0 };
    ft_json_doc *doc = NULL;
    if (n > MAX_ROW) ft_errf(&e, FT_EFORMAT, "%s: longer than %d MiB", place, MAX_ROW >> 20);
    else doc = ft_json_parse(place, line, n, &e);
    drop_line_one(&e, place);
    if (doc && !row_vars(vars_buf, ft_json_root(doc), &vars, &e))
        ft_template_render(t, &vars, &text, &e);
    if (e.code) {
        ft_buf_puts(out, "{\"error\": ");
        ft_json_quote(out, e.msg, strlen(e.msg));
        ft_buf_puts(out, "}\n");
    } else {
        ft_buf_puts(out, "{\"text\": ");
        ft_json_quote(out, text.text, text.len);
        print_spans(out, t);
    }
    ft_json_done(doc);
}

/* Nothing but white space. */
static bool is_blank(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!strchr(" \t\r", p[i]) || !p[i]) return false;
    }
    return true;
}

/* Every line of the file; stops at what is no fault of a row. */
static int render_file(ft_template *t, const char *path, ft_err *e)
{
    ft_map_file f = { 0 };
    ft_buf out = { 0 }, vars = { 0 };
    if (ft_file_map(&f, path, e)) return e->code;
    int64_t number = 1;
    for (size_t at = 0, end; at < f.n && !e->code; at = end + 1, number++) {
        const char *newline = memchr(f.p + at, '\n', f.n - at);
        char place[4200];
        end = newline ? (size_t)(newline - f.p) : f.n;
        if (is_blank(f.p + at, end - at)) continue;
        snprintf(place, sizeof place, "%s:%lld", path, (long long)number);
        out.n = 0;
        render_row(&out, &vars, t, f.p + at, end - at, place);
        if (out.oom) ft_errf(e, FT_ENOMEM, "%s: out of memory", place);
        else if (fwrite(out.p, 1, out.n, stdout) != out.n) ft_errf(e, FT_EIO, "cannot write");
    }
    if (!e->code && fflush(stdout)) ft_errf(e, FT_EIO, "cannot write the output");
    ft_buf_free(&out);
    ft_buf_free(&vars);
    ft_file_unmap(&f);
    return e->code;
}

/* The compiled template; NULL with the error recorded. */
static ft_template *read_template(const char *path, ft_err *e)
{
    ft_buf source = { 0 };
    ft_template *t = NULL;
    if (!path) return ft_template_compile("ChatML", NULL, 0, e);
    if (!ft_file_read(&source, path, MAX_TEMPLATE, e))
        t = ft_template_compile(path, source.p ? source.p : "", source.n, e);
    ft_buf_free(&source);
    return t;
}

int ft_cmd_render(int argc, char **argv)
{
    const char *template = NULL, *rows = NULL;
    bool wrong = false;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--template") && i + 1 < argc) template = argv[++i];
        else if (!strncmp(argv[i], "--template=", 11)) template = argv[i] + 11;
        else if (argv[i][0] == '-' && argv[i][1]) wrong = true;
        else if (!rows) rows = argv[i];
        else wrong = true;
    }
    if (wrong || !rows) {
        fprintf(stderr, "usage: pipeline render [--template T.jinja] ROWS.jsonl\n");
        return 2;
    }
    ft_err e = { 0 };
    ft_template *t = read_template(template, &e);
    if (t) render_file(t, rows, &e);
    ft_template_done(t);
    if (e.code) fprintf(stderr, "pipeline render: %s\n", e.msg);
    return e.code ? 1 : 0;
}
