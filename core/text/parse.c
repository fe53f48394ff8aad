/* parse.c -- statements: if, for, set, macro, with, filter, print, generation, break, continue.
 * What would need other templates (include, import, extends) or is of no use in a chat template
 * (call, block, autoescape, recursive loops) is refused by name. */
#include "core/text/parse.h"
#include <stdio.h>
#include <string.h>

static void parse_body(ftj_parser *p, ftj_node ***v, uint32_t *n, const char *const *ends);

/* ---- tokens and nodes ----------------------------------------------------------------------- */

ftj_node *ftj_node_new(ftj_parser *p, ftj_kind kind)
{
    ftj_node *n = ftj_alloc(p->run, sizeof *n);
    n->kind = (uint8_t)kind;
    n->line = p->now->line;
    return n;
}

/* Arrays of nodes have room for a power of two. */
void ftj_node_add(ftj_parser *p, ftj_node ***v, uint32_t *n, ftj_node *child)
{
    if ((*n & (*n - 1)) == 0) {
        ftj_node **more = ftj_array(p->run, *n ? (size_t)*n * 2 : 1, sizeof *more);
        if (*n) memcpy(more, *v, *n * sizeof *more);
        *v = more;
    }
    (*v)[(*n)++] = child;
}

_Noreturn void ftj_parse_fail(ftj_parser *p, const ftj_token *at, const char *fmt, ...)
{
    char text[500];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    const char *got = at->type == FTJ_T_EOF ? "the end of the template"
                    : at->type == FTJ_T_BLOCK_END || at->type == FTJ_T_VARIABLE_END
                        ? "the end of the tag" : NULL;
    if (got) ftj_fail_at(p->run, p->tokens, at->at, "%s; got %s", text, got);
    int n = at->n > 40 ? 40 : (int)at->n;
    ftj_fail_at(p->run, p->tokens, at->at, "%s; got '%.*s'", text, n, at->p);
}

bool ftj_token_is(const ftj_token *t, const char *name)
{
    return t->type == FTJ_T_NAME && strlen(name) == t->n && !memcmp(t->p, name, t->n);
}

bool ftj_skip_name(ftj_parser *p, const char *name)
{
    bool yes = ftj_token_is(p->now, name);
    p->now += yes;
    return yes;
}

bool ftj_skip(ftj_parser *p, int type)
{
    bool yes = p->now->type == type;
    p->now += yes;
    return yes;
}

const ftj_token *ftj_expect(ftj_parser *p, int type, const char *what)
{
    if (p->now->type != type) ftj_parse_fail(p, p->now, "%s must stand here", what);
    return p->now++;
}

const char *ftj_token_name(ftj_parser *p, const ftj_token *t)
{
    return ftj_intern(p->run, t->p, t->n, true);
}

/* ---- targets -------------------------------------------------------------------------------- */

/* What may stand to the left of `=`: names, tuples of them, and in `set` ns.name. */
static void check_target(ftj_parser *p, const ftj_node *t, const ftj_token *at, bool space)
{
    bool name = t->kind == FTJ_N_NAME, ref = t->kind == FTJ_N_SPACE_REF && space;
    if (name && p->fors && !strcmp(t->name, "loop"))
        ftj_parse_fail(p, at, "Can't assign to special loop variable in for-loop target");
    if (t->kind == FTJ_N_TUPLE) {
        for (uint32_t i = 0; i < t->n_v; i++) check_target(p, t->v[i], at, space);
    } else if (!name && !ref) {
        ftj_parse_fail(p, at, "can't assign to this");
    }
}

/* A target; `end`: the name that ends it (`in`). */
static ftj_node *parse_target(ftj_parser *p, const char *end, bool space)
{
    const ftj_token *at = p->now;
    ftj_node *t = ftj_parse_tuple(p, FTJ_TUPLE_SIMPLE | (space ? FTJ_TUPLE_SPACE : 0), end);
    check_target(p, t, at, space);
    return t;
}

/* One name. */
static ftj_node *parse_name_target(ftj_parser *p)
{
    const ftj_token *t = ftj_expect(p, FTJ_T_NAME, "a name");
    ftj_node *n = ftj_node_new(p, FTJ_N_NAME);
    n->name = ftj_token_name(p, t);
    check_target(p, n, t, false);
    return n;
}

/* ---- statements ----------------------------------------------------------------------------- */

/* A body in which an unknown filter is an error at once again. */
static void parse_hard_body(ftj_parser *p, ftj_node ***v, uint32_t *n, const char *const *ends)
{
    bool soft = p->soft;
    p->soft = false;
    parse_body(p, v, n, ends);
    p->soft = soft;
}

/* An elif is an if of its own in the else of the one before it. */
static ftj_node *parse_if(ftj_parser *p)
{
    static const char *const ends[] = { "elif", "else", "endif", NULL };
    static const char *const last[] = { "endif", NULL };
    bool soft = p->soft;
    p->soft = true;
    ftj_node *first = ftj_node_new(p, FTJ_N_IF), *n = first;
    for (;;) {
        n->a = ftj_parse_tuple(p, 0, NULL);
        parse_body(p, &n->v, &n->n_v, ends);
        if (!ftj_skip_name(p, "elif")) break;
        ftj_node *next = ftj_node_new(p, FTJ_N_IF);
        ftj_node_add(p, &n->w, &n->n_w, next);
        n = next;
    }
    if (ftj_skip_name(p, "else")) parse_body(p, &n->w, &n->n_w, last);
    ftj_skip_name(p, "endif");
    p->soft = soft;
    return first;
}

/* for target in iter [if test] */
static ftj_node *parse_for(ftj_parser *p)
{
    static const char *const ends[] = { "endfor", "else", NULL };
    static const char *const last[] = { "endfor", NULL };
    ftj_node *n = ftj_node_new(p, FTJ_N_FOR);
    p->fors++;
    n->a = parse_target(p, "in", false);
    if (!ftj_skip_name(p, "in")) ftj_parse_fail(p, p->now, "'in' must stand here");
    n->b = ftj_parse_tuple(p, 0, "recursive");
    bool soft = p->soft;
    p->soft = false;
    if (ftj_skip_name(p, "if")) n->c = ftj_parse_expression(p, true);
    if (ftj_token_is(p->now, "recursive"))
        ftj_parse_fail(p, p->now, "recursive loops are not supported");
    p->loops++;
    parse_body(p, &n->v, &n->n_v, ends);
    p->loops--;
    if (ftj_skip_name(p, "else")) parse_body(p, &n->w, &n->n_w, last);
    ftj_skip_name(p, "endfor");
    p->soft = soft;
    p->fors--;
    return n;
}

/* set target = value, or set target [| filters] … endset */
static ftj_node *parse_set(ftj_parser *p)
{
    static const char *const ends[] = { "endset", NULL };
    ftj_node *n = ftj_node_new(p, FTJ_N_SET);
    n->a = parse_target(p, NULL, true);
    if (ftj_skip(p, '=')) {
        n->b = ftj_parse_tuple(p, FTJ_TUPLE_COND, NULL);
        return n;
    }
    n->kind = FTJ_N_SET_BLOCK;
    bool soft = p->soft;
    p->soft = false;
    if (p->now->type == '|') n->b = ftj_parse_filters(p, ftj_node_new(p, FTJ_N_HOLE), false);
    parse_body(p, &n->v, &n->n_v, ends);
    p->soft = soft;
    p->now++;
    return n;
}

/* "(a, b=1)": NAME nodes with the default in `a`. */
static void parse_parameters(ftj_parser *p, ftj_node *macro)
{
    ftj_expect(p, '(', "'('");
    bool defaults = false;
    while (p->now->type != ')') {
        if (macro->n_w) ftj_expect(p, ',', "','");
        ftj_node *param = parse_name_target(p);
        if (ftj_skip(p, '=')) {
            param->a = ftj_parse_expression(p, true);
            defaults = true;
        } else if (defaults) {
            ftj_parse_fail(p, p->now, "non-default argument follows default argument");
        }
        ftj_node_add(p, &macro->w, &macro->n_w, param);
    }
    p->now++;
}

/* A macro is a function: loops around it do not count inside. */
static ftj_node *parse_macro(ftj_parser *p)
{
    static const char *const ends[] = { "endmacro", NULL };
    ftj_node *n = ftj_node_new(p, FTJ_N_MACRO), *outer = p->macro;
    int loops = p->loops, fors = p->fors;
    n->name = parse_name_target(p)->name;
    p->loops = p->fors = 0;
    parse_parameters(p, n);
    p->macro = n;
    parse_hard_body(p, &n->v, &n->n_v, ends);
    p->macro = outer;
    p->loops = loops;
    p->fors = fors;
    p->now++;
    return n;
}

/* {% generation %} takes no arguments. */
static ftj_node *parse_generation(ftj_parser *p)
{
    static const char *const ends[] = { "endgeneration", NULL };
    ftj_node *n = ftj_node_new(p, FTJ_N_GENERATION);
    int loops = p->loops;
    p->loops = 0; /* a function of its own in Jinja: no break out of it */
    p->marks = true;
    parse_hard_body(p, &n->v, &n->n_v, ends);
    p->loops = loops;
    p->now++;
    return n;
}

/* with a = 1, b = 2 */
static ftj_node *parse_with(ftj_parser *p)
{
    static const char *const ends[] = { "endwith", NULL };
    ftj_node *n = ftj_node_new(p, FTJ_N_WITH);
    while (p->now->type != FTJ_T_BLOCK_END) {
        if (n->n_w) ftj_expect(p, ',', "','");
        ftj_node *pair = ftj_node_new(p, FTJ_N_SET);
        pair->a = ftj_parse_primary(p, false);
        check_target(p, pair->a, p->now, false);
        ftj_expect(p, '=', "'='");
        pair->b = ftj_parse_expression(p, true);
        ftj_node_add(p, &n->w, &n->n_w, pair);
    }
    parse_hard_body(p, &n->v, &n->n_v, ends);
    p->now++;
    return n;
}

/* filter name | name(…) */
static ftj_node *parse_filter_block(ftj_parser *p)
{
    static const char *const ends[] = { "endfilter", NULL };
    ftj_node *n = ftj_node_new(p, FTJ_N_FILTER_BLOCK);
    bool soft = p->soft;
    p->soft = false;
    n->a = ftj_parse_filters(p, ftj_node_new(p, FTJ_N_HOLE), true);
    parse_body(p, &n->v, &n->n_v, ends);
    p->soft = soft;
    p->now++;
    return n;
}

/* print a, b */
static ftj_node *parse_print(ftj_parser *p)
{
    ftj_node *n = ftj_node_new(p, FTJ_N_OUTPUT);
    while (p->now->type != FTJ_T_BLOCK_END) {
        if (n->n_v) ftj_expect(p, ',', "','");
        ftj_node_add(p, &n->v, &n->n_v, ftj_parse_expression(p, true));
    }
    return n;
}

/* break and continue, where there is a loop to leave. */
static ftj_node *parse_jump(ftj_parser *p)
{
    const ftj_token *t = p->now - 1;
    bool leaves = ftj_token_is(t, "break");
    if (!p->loops) ftj_parse_fail(p, t, "'%s' outside loop", leaves ? "break" : "continue");
    return ftj_node_new(p, leaves ? FTJ_N_BREAK : FTJ_N_CONTINUE);
}

/* What Jinja has and a chat template has no use for. */
static ftj_node *refuse(ftj_parser *p)
{
    const ftj_token *t = p->now - 1;
    ftj_parse_fail(p, t, "this statement is not supported in chat templates");
}

static const struct { const char *name; ftj_node *(*parse)(ftj_parser *); } statements[] = {
    { "if", parse_if }, { "for", parse_for }, { "set", parse_set }, { "macro", parse_macro },
    { "generation", parse_generation }, { "with", parse_with }, { "filter", parse_filter_block },
    { "print", parse_print }, { "break", parse_jump }, { "continue", parse_jump },
    { "call", refuse }, { "block", refuse }, { "extends", refuse }, { "include", refuse },
    { "import", refuse }, { "from", refuse }, { "autoescape", refuse },
};

/* A tag that is none, or one too few at the end. */
_Noreturn static void unknown_tag(ftj_parser *p, const ftj_token *t)
{
    const char *end = p->ends ? p->ends[0] : NULL;
    for (const char *const *e = p->ends; e && *e; e++) end = *e;
    if (!end) ftj_parse_fail(p, t, "Encountered unknown tag");
    if (t->type == FTJ_T_EOF) {
        ftj_parse_fail(p, t, "'%s' is missing; the innermost block that needs to be closed is '%s'",
                       end, p->tag);
    }
    ftj_parse_fail(p, t, "Encountered unknown tag; looking for '%s' of the block '%s'", end,
                   p->tag);
}

/* The statement whose name is at hand. */
static ftj_node *parse_statement(ftj_parser *p)
{
    const ftj_token *t = p->now;
    if (t->type != FTJ_T_NAME) ftj_parse_fail(p, t, "tag name expected");
    const char *outer = p->tag;
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        if (!ftj_token_is(t, statements[i].name)) continue;
        p->tag = statements[i].name;
        p->now++;
        ftj_enter(p->run);
        ftj_node *n = statements[i].parse(p);
        ftj_leave(p->run);
        p->tag = outer;
        return n;
    }
    unknown_tag(p, t);
}

/* ---- bodies --------------------------------------------------------------------------------- */

/* Joins neighbouring text and {{ … }} in one node. */
static void add_output(ftj_parser *p, ftj_node ***v, uint32_t *n, ftj_node *child)
{
    ftj_node *last = *n ? (*v)[*n - 1] : NULL;
    if (!last || last->kind != FTJ_N_OUTPUT) {
        last = ftj_node_new(p, FTJ_N_OUTPUT);
        ftj_node_add(p, v, n, last);
    }
    ftj_node_add(p, &last->v, &last->n_v, child);
}

/* Text between tags. */
static void parse_text(ftj_parser *p, ftj_node ***v, uint32_t *n)
{
    ftj_node *data = ftj_node_new(p, FTJ_N_DATA);
    data->value = ftj_of_str(ftj_str_text(p->run, p->now->p, p->now->n));
    p->now++;
    add_output(p, v, n, data);
}

/* Whether the name at hand is one of the end tags. */
static bool at_end(const ftj_parser *p, const char *const *ends)
{
    for (; ends && *ends; ends++) {
        if (ftj_token_is(p->now, *ends)) return true;
    }
    return false;
}

/* Statements up to one of the end tags, on whose name p is left; up to the end of the template
 * when `ends` is NULL. */
static void parse_content(ftj_parser *p, ftj_node ***v, uint32_t *n, const char *const *ends)
{
    while (p->now->type != FTJ_T_EOF) {
        if (p->now->type == FTJ_T_DATA) {
            parse_text(p, v, n);
        } else if (ftj_skip(p, FTJ_T_VARIABLE_BEGIN)) {
            add_output(p, v, n, ftj_parse_tuple(p, FTJ_TUPLE_COND, NULL));
            ftj_expect(p, FTJ_T_VARIABLE_END, "'}}'");
        } else {
            ftj_expect(p, FTJ_T_BLOCK_BEGIN, "a tag");
            if (at_end(p, ends)) return;
            ftj_node *child = parse_statement(p);
            ftj_node_add(p, v, n, child);
            ftj_expect(p, FTJ_T_BLOCK_END, "'%}'");
        }
    }
    if (ends) unknown_tag(p, p->now);
}

/* From the end of the opening tag on. */
static void parse_body(ftj_parser *p, ftj_node ***v, uint32_t *n, const char *const *ends)
{
    const char *const *outer = p->ends;
    p->ends = ends;
    ftj_skip(p, ':');
    ftj_expect(p, FTJ_T_BLOCK_END, "'%}'");
    parse_content(p, v, n, ends);
    p->ends = outer;
}

ftj_program ftj_parse(ftj_run *run, const char *source, size_t n)
{
    ftj_program out = { 0 };
    ftj_parser p = { .run = run, .tokens = ftj_tokenize(run, source, n) };
    p.now = p.tokens->token;
    ftj_intern(run, "loop", 4, true);
    ftj_intern(run, "varargs", 7, true);
    ftj_intern(run, "kwargs", 6, true);
    parse_content(&p, &out.body, &out.n, NULL);
    out.marks = p.marks;
    return out;
}
