/* template.c -- see template.h: the engine's entrances, and its pieces turned into spans. */
#include "core/text/template.h"
#include <stdlib.h>
#include <string.h>
#include "core/base/utf8.h"
#include "core/text/parse.h"

/* What a model without a template is taught to talk: OpenAI's ChatML, spelled out once. */
static const char chatml[] =
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\\n' }}"
    "{% if message.content is string %}{{ message.content }}"
    "{% elif message.content %}"
    "{% for part in message.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% "
    "endfor %}"
    "{% endif %}"
    "{% for call in message.tool_calls or [] %}"
    "{% set function = call.function or call %}"
    "{{ '\\n<tool_call>\\n' + {'name': function.name, 'arguments': function.arguments}|tojson "
    "+ '\\n</tool_call>' }}"
    "{% endfor %}"
    "{{ '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

struct ft_template {
    ft_arena code, work;  /* of the tree; of the last rendering */
    ftj_names names;
    ftj_program program;
    char what[80];
    ft_span *span;        /* in `work`, as all below */
    size_t n_span;
    ft_extent *generated;
    size_t n_generated;
    const ftj_piece *piece;
    size_t n_piece;
    uint8_t *role;        /* of each message */
    int32_t n_role;
};

/* ---- compiling ------------------------------------------------------------------------------ */

typedef struct { ft_template *t; const char *source; size_t n; } compile_job;

/* What may fail of compiling. */
static void compile_guarded(ftj_run *run, void *arg)
{
    compile_job *job = arg;
    size_t bad;
    if (job->n > FTJ_MAX_SOURCE) {
        ftj_fail(run, "its %zu bytes exceed the limit of %d MiB", job->n, FTJ_MAX_SOURCE >> 20);
    }
    if (!ft_utf8_valid(job->source, job->n, &bad)) ftj_fail(run, "invalid UTF-8 at byte %zu", bad);
    job->t->program = ftj_parse(run, job->source, job->n);
}

ft_template *ft_template_compile(const char *what, const char *source, size_t n, ft_err *e)
{
    ft_err local = { 0 };
    ft_template *t = calloc(1, sizeof *t);
    if (!t) {
        ft_errf(e, FT_ENOMEM, "%s: out of memory", what);
        return NULL;
    }
    strncpy(t->what, what, sizeof t->what - 1);
    compile_job job = { t, source ? source : chatml, source ? n : sizeof chatml - 1 };
    ftj_run run = { .err = &local, .arena = &t->code, .names = &t->names, .what = t->what,
                    .line = 1, .turn = -1, .set_turn = -1 };
    if (!ftj_guard(&run, compile_guarded, &job)) return t;
    ft_errf(e, local.code, "%s", local.msg);
    ft_template_done(t);
    return NULL;
}

void ft_template_done(ft_template *t)
{
    if (!t) return;
    ft_arena_free(&t->code);
    ft_arena_free(&t->work);
    free(t);
}

bool ft_template_marks(const ft_template *t) { return t->program.marks; }

/* ---- spans ---------------------------------------------------------------------------------- */

uint8_t ft_role_of(const char *name, size_t n)
{
    static const struct { const char *name; uint8_t role;
    } roles[] = {
        { "system", FT_ROLE_SYSTEM },       { "developer", FT_ROLE_SYSTEM },
        { "user", FT_ROLE_USER },           { "human", FT_ROLE_USER },
        { "assistant", FT_ROLE_ASSISTANT }, { "model", FT_ROLE_ASSISTANT },
        { "gpt", FT_ROLE_ASSISTANT },       { "tool", FT_ROLE_TOOL },
        { "function", FT_ROLE_TOOL },       { "ipython", FT_ROLE_TOOL },
        { "observation", FT_ROLE_TOOL },
    };
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        if (strlen(roles[i].name) == n && !memcmp(roles[i].name, name, n)) return roles[i].role;
    }
    return FT_ROLE_NONE;
}

/* Remembers the role of each message. */
static void read_roles(ftj_run *run, ft_template *t, const ft_json *vars)
{
    const ft_json *m = ft_json_get(vars, "messages");
    size_t n = m && m->type == FT_JSON_ARRAY && m->len < INT32_MAX ? m->len : 0;
    t->role = ftj_array(run, n, sizeof *t->role);
    t->n_role = (int32_t)n;
    for (size_t i = 0; i < n; i++) {
        const ft_json *role = ft_json_get(&m->item[i], "role");
        if (role && role->type == FT_JSON_STRING) t->role[i] = ft_role_of(role->text, role->len);
    }
}

/* FT_ROLE_* of a message. */
static uint8_t role_of_turn(const ft_template *t, int32_t turn)
{
    return turn >= 0 && turn < t->n_role ? t->role[turn] : FT_ROLE_NONE;
}

/* A byte's turn: the message at work when it came into being or was written, else the one that it
 * comes from. */
static void make_spans(ftj_run *run, ft_template *t, const ftj_out *out)
{
    t->span = ftj_array(run, out->n_piece, sizeof *t->span);
    t->n_span = 0;
    uint32_t at = 0;
    for (size_t i = 0; i < out->n_piece; i++) {
        const ftj_piece *p = &out->piece[i];
        ft_span s = { .begin = at, .end = at + p->n, .turn = p->turn >= 0 ? p->turn : p->origin,
                      .from = p->from, .marked = p->mark != 0 };
        s.role = role_of_turn(t, s.turn);
        at = s.end;
        ft_span *last = t->n_span ? &t->span[t->n_span - 1] : NULL;
        if (last && last->turn == s.turn && last->from == s.from && last->marked == s.marked)
            last->end = s.end;
        else t->span[t->n_span++] = s;
    }
}

/* A block is a run of pieces with one mark; blocks that wrote nothing lie between. */
static void make_generated(ftj_run *run, ft_template *t, const ftj_out *out)
{
    ft_extent *g = t->generated = ftj_array(run, out->n_piece + run->n_empty, sizeof *g);
    size_t n = 0, at = 0;
    uint32_t mark = 0, empty = 0;
    for (size_t i = 0; i <= out->n_piece; i++) {
        for (; empty < run->n_empty && run->empty_mark[empty] <= at; empty++) {
            mark = 0;
            g[n++] = (ft_extent){ run->empty_mark[empty], run->empty_mark[empty] };
        }
        if (i == out->n_piece) break;
        size_t end = at + out->piece[i].n;
        if (out->piece[i].mark && out->piece[i].mark == mark) g[n - 1].end = end;
        else if (out->piece[i].mark) g[n++] = (ft_extent){ at, end };
        mark = out->piece[i].mark;
        at = end;
    }
    t->n_generated = n;
}

size_t ft_template_generated(const ft_template *t, const ft_extent **out)
{
    *out = t->generated;
    return t->n_generated;
}

size_t ft_template_contents(const ft_template *t, int role, const ft_extent **out)
{
    size_t n = 0, at = 0;
    int32_t last = -1;
    ft_extent *v = ft_arena_array(&((ft_template *)(uintptr_t)t)->work, t->n_piece, sizeof *v);
    for (size_t i = 0; v && i < t->n_piece; i++) {
        const ftj_piece *p = &t->piece[i];
        bool wanted = p->content && p->from == FT_FROM_DATA && role_of_turn(t, p->origin) == role;
        if (wanted && n && v[n - 1].end == at && last == p->origin) v[n - 1].end = at + p->n;
        else if (wanted) v[n++] = (ft_extent){ at, at + p->n };
        last = p->origin;
        at += p->n;
    }
    *out = v;
    return n;
}

/* ---- rendering ------------------------------------------------------------------------------ */

typedef struct { ft_template *t; const ft_json *vars; ft_text *out; } render_job;

/* What may fail of rendering. */
static void render_guarded(ftj_run *run, void *arg)
{
    render_job *job = arg;
    ft_template *t = job->t;
    ftj_out root = { 0 };
    if (!job->vars || job->vars->type != FT_JSON_OBJECT)
        ftj_fail(run, "the variables must be a JSON object");
    run->globals = ftj_new_scope(run, NULL);
    run->scope = ftj_new_scope(run, run->globals);
    run->out = run->root = &root;
    ftj_load_vars(run, job->vars);
    ftj_exec(run, t->program.body, t->program.n);
    read_roles(run, t, job->vars);
    make_spans(run, t, &root);
    make_generated(run, t, &root);
    t->piece = root.piece;
    t->n_piece = root.n_piece;
    char *text = ftj_alloc(run, root.n + 1);
    if (root.n) memcpy(text, root.p, root.n);
    *job->out = (ft_text){ text, root.n, t->span, t->n_span };
}

int ft_template_render(ft_template *t, const ft_json *vars, ft_text *out, ft_err *e)
{
    ft_err local = { 0 };
    render_job job = { t, vars, out };
    ft_arena_free(&t->work);
    t->n_span = t->n_generated = t->n_piece = 0;
    *out = (ft_text){ 0 };
    ftj_run run = { .err = &local, .arena = &t->work, .names = &t->names, .what = t->what,
                    .line = 1, .turn = -1, .set_turn = -1 };
    if (ftj_guard(&run, render_guarded, &job)) return ft_errf(e, local.code, "%s", local.msg);
    return FT_OK;
}

/* ---- interface "ft.template/1" -------------------------------------------------------------- */

static ft_template *api_compile(const ft_host *host, const char *source, size_t n)
{
    ft_err e = { 0 };
    ft_template *t = ft_template_compile("chat template", source, n, &e);
    if (!t) host->fail(host, e.code, "%s", e.msg);
    return t;
}

static int api_render(const ft_host *host, ft_template *t, const ft_json *vars, ft_text *out)
{
    ft_err e = { 0 };
    if (ft_template_render(t, vars, out, &e)) return host->fail(host, e.code, "%s", e.msg);
    return FT_OK;
}

const ft_template_api ft_template_interface = {
    sizeof(ft_template_api), api_compile, api_render, ft_template_marks, ft_template_done,
};
