/* exec.c -- statements, and output.
 *
 * Whose turn a byte belongs to is settled here: while a loop goes over messages it is the message
 * at hand (loop.c); a macro that is given a message renders that one; and what an expression
 * outside of all that writes belongs to the only message it quotes, if there is one.
 *
 * Variables are found at run time, from the innermost scope outwards.  Jinja settles them when it
 * compiles; that shows in one corner alone: a name that is both a variable of the row and set at
 * the top of the template, read before the `set` by a loop or macro, is undefined there. */
#include <string.h>
#include "core/text/jinja.h"

/* ---- scopes --------------------------------------------------------------------------------- */

ftj_scope *ftj_new_scope(ftj_run *run, ftj_scope *outer)
{
    ftj_scope *s = ftj_alloc(run, sizeof *s);
    s->outer = outer;
    return s;
}

void ftj_set_var(ftj_run *run, ftj_scope *scope, const char *name, ftj_val v)
{
    for (uint32_t i = 0; i < scope->n; i++) {
        if (scope->var[i].name != name) continue;
        scope->var[i].v = v;
        return;
    }
    scope->var = ftj_grow(run, scope->var, scope->n, &scope->cap, sizeof *scope->var);
    scope->var[scope->n++] = (ftj_var){ name, v };
}

/* The innermost variable of the name, MISSING when there is none. */
static ftj_val find_var(const ftj_run *run, const char *name)
{
    for (const ftj_scope *s = run->scope; s; s = s->outer) {
        for (uint32_t i = 0; i < s->n; i++) {
            if (s->var[i].name == name) return s->var[i].v;
        }
    }
    return (ftj_val){ .type = FTJ_MISSING };
}

/* `set ns.name`: of namespaces alone. */
static void assign_attribute(ftj_run *run, const ftj_node *target, ftj_val v)
{
    ftj_val space = find_var(run, target->name);
    if (space.type != FTJ_SPACE) ftj_fail(run, "cannot assign attribute on non-namespace object");
    const ftj_str *name = target->b->value.s;
    if (name->n && name->p[0] == '_') {
        ftj_fail(run, "a namespace cannot hold the attribute '%.*s': it starts with an underscore",
                 (int)name->n, name->p);
    }
    ftj_dict_set(run, space.d, target->b->value, v);
}

/* `a, b = v`: as many items as names. */
static void unpack(ftj_run *run, const ftj_node *target, ftj_val v)
{
    if (!ftj_is_iterable(v))
        ftj_fail(run, "cannot unpack non-iterable %s object", ftj_type_name(v));
    const ftj_list *l = ftj_items(run, v);
    if (l->n > target->n_v) ftj_fail(run, "too many values to unpack (expected %u)", target->n_v);
    if (l->n < target->n_v)
        ftj_fail(run, "not enough values to unpack (expected %u, got %zu)", target->n_v, l->n);
    for (uint32_t i = 0; i < target->n_v; i++) ftj_assign(run, target->v[i], l->v[i]);
}

void ftj_assign(ftj_run *run, const ftj_node *target, ftj_val v)
{
    if (target->kind == FTJ_N_TUPLE) {
        unpack(run, target, v);
    } else if (target->kind == FTJ_N_SPACE_REF) {
        assign_attribute(run, target, v);
    } else {
        if (v.type == FTJ_DICT && v.d->msg >= 0 && run->set_turn < 0) run->set_turn = v.d->msg;
        ftj_set_var(run, run->scope, target->name, v);
    }
}

/* ---- output --------------------------------------------------------------------------------- */

int32_t ftj_sole_origin(const ftj_piece *piece, size_t n)
{
    int32_t sole = -1;
    for (size_t i = 0; i < n; i++) {
        if (piece[i].origin < 0 || piece[i].origin == sole) continue;
        if (sole >= 0) return -2;
        sole = piece[i].origin;
    }
    return sole;
}

void ftj_emit(ftj_run *run, const ftj_str *s)
{
    s = ftj_flat(run, s);
    int32_t turn = run->turn >= 0 ? run->turn : ftj_sole_origin(s->piece, s->n_piece);
    size_t at = 0;
    for (uint32_t i = 0; i < s->n_piece; at += s->piece[i++].n) {
        ftj_piece piece = s->piece[i];
        if (piece.turn < 0 && turn >= 0) piece.turn = turn;
        if (!piece.mark) piece.mark = run->mark;
        ftj_put(run, run->out, s->p + at, piece.n, &piece);
    }
}

const ftj_str *ftj_capture(ftj_run *run, ftj_node *const *v, uint32_t n, ftj_flow *flow)
{
    ftj_out out = { 0 }, *outer = run->out;
    run->out = &out;
    *flow = ftj_exec(run, v, n);
    run->out = outer;
    return ftj_out_done(run, &out);
}

/* Text and {{ … }}. */
static ftj_flow exec_output(ftj_run *run, const ftj_node *node)
{
    for (uint32_t i = 0; i < node->n_v; i++) {
        const ftj_node *child = node->v[i];
        run->line = child->line;
        if (child->kind == FTJ_N_DATA) ftj_emit(run, child->value.s);
        else ftj_emit(run, ftj_to_str(run, ftj_eval(run, child)));
    }
    return FTJ_DONE;
}

/* ---- statements ----------------------------------------------------------------------------- */

/* An `elif` is the only statement of the `else` before it: followed in a loop, not by recursion. */
static ftj_flow exec_if(ftj_run *run, const ftj_node *node)
{
    while (!ftj_truth(run, ftj_eval(run, node->a))) {
        if (node->n_w != 1 || node->w[0]->kind != FTJ_N_IF)
            return ftj_exec(run, node->w, node->n_w);
        node = node->w[0];
        run->line = node->line;
    }
    return ftj_exec(run, node->v, node->n_v);
}

static ftj_flow exec_set(ftj_run *run, const ftj_node *node)
{
    ftj_val v = ftj_eval(run, node->b);
    run->line = node->line;
    ftj_assign(run, node->a, v);
    return FTJ_DONE;
}

/* {% set x %}…{% endset %}: the text becomes a value; a break leaves x alone. */
static ftj_flow exec_set_block(ftj_run *run, const ftj_node *node)
{
    ftj_scope *outer = run->scope;
    ftj_flow flow;
    run->scope = ftj_new_scope(run, outer);
    const ftj_str *s = ftj_capture(run, node->v, node->n_v, &flow);
    ftj_val v = ftj_of_str(s);
    if (node->b && flow == FTJ_DONE) {
        run->filtered = s;
        v = ftj_eval(run, node->b);
    }
    run->scope = outer;
    if (flow == FTJ_DONE) ftj_assign(run, node->a, v);
    return flow;
}

/* {% filter f %}…{% endfilter %}. */
static ftj_flow exec_filter_block(ftj_run *run, const ftj_node *node)
{
    ftj_scope *outer = run->scope;
    ftj_flow flow;
    run->scope = ftj_new_scope(run, outer);
    const ftj_str *s = ftj_capture(run, node->v, node->n_v, &flow);
    run->filtered = s;
    if (flow == FTJ_DONE) ftj_emit(run, ftj_to_str(run, ftj_eval(run, node->a)));
    run->scope = outer;
    return flow;
}

/* A macro is a variable that remembers the scope it was written in. */
static ftj_flow exec_macro(ftj_run *run, const ftj_node *node)
{
    ftj_val v = { .type = FTJ_MACRO, .origin = -1 };
    v.macro = ftj_alloc(run, sizeof *v.macro);
    *v.macro = (ftj_macro){ node, run->scope };
    ftj_set_var(run, run->scope, node->name, v);
    return FTJ_DONE;
}

/* {% generation %}: a scope of its own, as a call block has in Jinja, and a mark on what it
 * writes. */
static ftj_flow exec_generation(ftj_run *run, const ftj_node *node)
{
    ftj_scope *outer = run->scope;
    uint32_t mark = run->mark;
    size_t from = run->out->n;
    run->scope = ftj_new_scope(run, outer);
    run->mark = ++run->n_mark;
    ftj_flow flow = ftj_exec(run, node->v, node->n_v);
    run->mark = mark;
    run->scope = outer;
    if (run->out == run->root && run->out->n == from) {
        run->empty_mark = ftj_grow(run, run->empty_mark, run->n_empty, &run->cap_empty,
                                   sizeof *run->empty_mark);
        run->empty_mark[run->n_empty++] = (uint32_t)from;
    }
    return flow;
}

/* The values are worked out before any of the names is set. */
static ftj_flow exec_with(ftj_run *run, const ftj_node *node)
{
    ftj_scope *outer = run->scope, *inner = ftj_new_scope(run, outer);
    for (uint32_t i = 0; i < node->n_w; i++) {
        run->scope = outer;
        ftj_val v = ftj_eval(run, node->w[i]->b);
        run->scope = inner;
        ftj_assign(run, node->w[i]->a, v);
    }
    run->scope = inner;
    ftj_flow flow = ftj_exec(run, node->v, node->n_v);
    run->scope = outer;
    return flow;
}

/* break and continue. */
static ftj_flow exec_break(ftj_run *run, const ftj_node *node)
{
    (void)run;
    return node->kind == FTJ_N_BREAK ? FTJ_BROKE : FTJ_CONTINUED;
}

ftj_flow ftj_exec(ftj_run *run, ftj_node *const *v, uint32_t n)
{
    static ftj_flow (*const table[FTJ_N_COUNT])(ftj_run *, const ftj_node *) = {
        [FTJ_N_OUTPUT] = exec_output, [FTJ_N_IF] = exec_if, [FTJ_N_FOR] = ftj_exec_for,
        [FTJ_N_SET] = exec_set, [FTJ_N_SET_BLOCK] = exec_set_block, [FTJ_N_MACRO] = exec_macro,
        [FTJ_N_GENERATION] = exec_generation, [FTJ_N_WITH] = exec_with,
        [FTJ_N_FILTER_BLOCK] = exec_filter_block, [FTJ_N_BREAK] = exec_break,
        [FTJ_N_CONTINUE] = exec_break,
    };
    ftj_flow flow = FTJ_DONE;
    ftj_enter(run);
    for (uint32_t i = 0; i < n && flow == FTJ_DONE; i++) {
        run->line = v[i]->line;
        ftj_work(run, 1);
        flow = table[v[i]->kind](run, v[i]);
    }
    ftj_leave(run);
    return flow;
}

/* ---- macros --------------------------------------------------------------------------------- */

/* The keyword argument of the name, or NULL. */
static const ftj_val *find_keyword(const ftj_args *args, const char *name)
{
    for (size_t i = 0; i < args->n_kw; i++) {
        if (!strcmp(args->kw[i].name, name)) return &args->kw[i].v;
    }
    return NULL;
}

/* Keywords that name no parameter: the macro's kwargs, or an error. */
static void bind_rest(ftj_run *run, const ftj_node *def, const ftj_args *args)
{
    ftj_list *more = ftj_new_list(run, 0);
    ftj_dict *named = ftj_new_dict(run, 0);
    for (size_t i = def->n_w; i < args->n; i++) ftj_add(run, more, args->v[i]);
    for (size_t k = 0; k < args->n_kw; k++) {
        bool used = false;
        for (uint32_t i = (uint32_t)args->n; i < def->n_w; i++)
            used = used || !strcmp(def->w[i]->name, args->kw[k].name);
        if (used) continue;
        if (!def->flag2)
            ftj_fail(run, "macro '%s' takes no keyword argument '%s'", def->name, args->kw[k].name);
        ftj_dict_set(run, named, ftj_text(run, args->kw[k].name), args->kw[k].v);
    }
    if (more->n && !def->flag)
        ftj_fail(run, "macro '%s' takes not more than %u argument(s)", def->name, def->n_w);
    if (def->flag)
        ftj_set_var(run, run->scope, ftj_intern(run, "varargs", 7, true), ftj_of_tuple(more));
    if (def->flag2)
        ftj_set_var(run, run->scope, ftj_intern(run, "kwargs", 6, true), ftj_of_dict(named));
}

/* Parameters into the scope at hand: first all without a value, so that a default can see those
 * before it and no outer variable of the same name. */
static void bind_parameters(ftj_run *run, const ftj_node *def, const ftj_args *args)
{
    for (uint32_t i = 0; i < def->n_w; i++) {
        const ftj_val *kw = i < args->n ? &args->v[i] : find_keyword(args, def->w[i]->name);
        ftj_set_var(run, run->scope, def->w[i]->name, kw ? *kw : (ftj_val){ .type = FTJ_MISSING });
    }
    bind_rest(run, def, args);
    for (uint32_t i = 0; i < def->n_w; i++) {
        const ftj_node *param = def->w[i];
        if (find_var(run, param->name).type != FTJ_MISSING) continue;
        ftj_val v = param->a ? ftj_eval(run, param->a)
                             : ftj_undefined_hint(run, ftj_printf(run, "parameter '%s' was not "
                                                                  "provided", param->name));
        ftj_set_var(run, run->scope, param->name, v);
    }
}

ftj_val ftj_call_macro(ftj_run *run, const ftj_macro *macro, const ftj_args *args)
{
    const ftj_node *def = macro->def;
    ftj_scope *outer = run->scope;
    int32_t turn = run->turn, set_turn = run->set_turn;
    ftj_flow flow;
    ftj_enter(run);
    for (size_t i = 0; i < args->n && run->turn < 0; i++) {
        if (args->v[i].type == FTJ_DICT) run->turn = args->v[i].d->msg;
    }
    run->scope = ftj_new_scope(run, macro->scope);
    bind_parameters(run, def, args);
    const ftj_str *s = ftj_capture(run, def->v, def->n_v, &flow);
    run->scope = outer;
    run->turn = turn;
    run->set_turn = set_turn;
    ftj_leave(run);
    return ftj_of_str(s);
}
