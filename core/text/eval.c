/* eval.c -- the value of an expression. */
#include <string.h>
#include "core/text/jinja.h"

/* ---- variables ------------------------------------------------------------------------------ */

/* A string of the row that no message's rendering has touched belongs to the one at work now. */
static ftj_val touch(ftj_run *run, ftj_val v)
{
    if (v.type != FTJ_STR || run->turn < 0 || !v.s->p || v.s->n_piece != 1) return v;
    if (v.s->piece[0].turn >= 0) return v;
    ftj_piece piece = v.s->piece[0];
    piece.turn = run->turn;
    v.s = ftj_markup(run, ftj_str_new(run, v.s->p, v.s->n, &piece), v.s->markup);
    return v;
}

/* The innermost variable of the name, else the global function. */
static ftj_val eval_name(ftj_run *run, const ftj_node *node)
{
    for (const ftj_scope *s = run->scope; s; s = s->outer) {
        for (uint32_t i = 0; i < s->n; i++) {
            if (s->var[i].name != node->name) continue;
            if (s->var[i].v.type == FTJ_MISSING) return ftj_undefined_name(run, node->name);
            return touch(run, s->var[i].v);
        }
    }
    const ftj_builtin *global = ftj_find(ftj_globals, node->name, strlen(node->name));
    if (!global) return ftj_undefined_name(run, node->name);
    ftj_val v = { .type = FTJ_GLOBAL, .origin = -1 };
    v.global = global;
    return v;
}

/* A literal: a string is written anew each time, by the template and in this turn. */
static ftj_val eval_const(ftj_run *run, const ftj_node *node)
{
    if (node->value.type != FTJ_STR) return node->value;
    return ftj_of_str(ftj_str_text(run, node->value.s->p, node->value.s->n));
}

/* ---- operators ------------------------------------------------------------------------------ */

/* `and`, `or`: one of the operands, the second only when it is needed. */
static ftj_val eval_logic(ftj_run *run, const ftj_node *node)
{
    ftj_val v = ftj_eval(run, node->a);
    return ftj_truth(run, v) == (node->kind == FTJ_N_OR) ? v : ftj_eval(run, node->b);
}

/* a < b < c: each operand once, up to the first comparison that fails. */
static ftj_val eval_compare(ftj_run *run, const ftj_node *node)
{
    ftj_val left = ftj_eval(run, node->a);
    for (uint32_t i = 0; i < node->n_v; i++) {
        ftj_val right = ftj_eval(run, node->v[i]->a);
        run->line = node->line;
        if (!ftj_compare(run, node->v[i]->op, left, right)) return ftj_bool(false);
        left = right;
    }
    return ftj_bool(true);
}

static ftj_val eval_binary(ftj_run *run, const ftj_node *node)
{
    ftj_val a = ftj_eval(run, node->a), b = ftj_eval(run, node->b);
    run->line = node->line;
    return ftj_binary(run, node->op, a, b);
}

/* Unary + and -. */
static ftj_val eval_sign(ftj_run *run, const ftj_node *node)
{
    ftj_val v = ftj_eval(run, node->a);
    if (node->kind == FTJ_N_NEG) return ftj_negate(run, v);
    if (v.type == FTJ_UNDEF) ftj_fail_undefined(run, v);
    if (!ftj_is_number(v)) ftj_fail(run, "bad operand type for unary +: '%s'", ftj_type_name(v));
    return v.type == FTJ_BOOL ? ftj_int(v.b) : v;
}

/* a ~ b ~ c: str() of each. */
static ftj_val eval_concat(ftj_run *run, const ftj_node *node)
{
    const ftj_str *s = ftj_str_text(run, "", 0);
    for (uint32_t i = 0; i < node->n_v; i++)
        s = ftj_concat(run, s, ftj_to_str(run, ftj_eval(run, node->v[i])));
    return ftj_of_str(s);
}

/* Without an else the value is undefined, and says where. */
static ftj_val eval_cond(ftj_run *run, const ftj_node *node)
{
    if (ftj_truth(run, ftj_eval(run, node->a))) return ftj_eval(run, node->b);
    if (node->c) return ftj_eval(run, node->c);
    return ftj_undefined_hint(run, ftj_printf(run, "the inline if-expression on line %u evaluated "
                              "to false and no else section was defined.", node->line));
}

/* ---- containers and parts ------------------------------------------------------------------- */

/* A list or tuple. */
static ftj_val eval_list(ftj_run *run, const ftj_node *node)
{
    ftj_list *l = ftj_new_list(run, node->n_v);
    for (uint32_t i = 0; i < node->n_v; i++) ftj_add(run, l, ftj_eval(run, node->v[i]));
    return node->kind == FTJ_N_LIST ? ftj_of_list(l) : ftj_of_tuple(l);
}

/* A dict; a later key replaces an equal one. */
static ftj_val eval_dict(ftj_run *run, const ftj_node *node)
{
    ftj_dict *d = ftj_new_dict(run, node->n_v);
    for (uint32_t i = 0; i < node->n_v; i++) {
        ftj_val key = ftj_eval(run, node->v[i]->a);
        ftj_dict_set(run, d, key, ftj_eval(run, node->v[i]->b));
    }
    return ftj_of_dict(d);
}

/* A bound of a slice that may be left out. */
static ftj_val eval_bound(ftj_run *run, const ftj_node *node)
{
    return node ? ftj_eval(run, node) : ftj_none();
}

/* a[b] and a[b:c:d]. */
static ftj_val eval_item(ftj_run *run, const ftj_node *node)
{
    ftj_val of = ftj_eval(run, node->a);
    if (node->b->kind == FTJ_N_SLICE) {
        ftj_val start = eval_bound(run, node->b->a), stop = eval_bound(run, node->b->b);
        ftj_val step = eval_bound(run, node->b->c);
        run->line = node->line;
        return ftj_slice(run, of, start, stop, step);
    }
    ftj_val key = ftj_eval(run, node->b);
    run->line = node->line;
    return touch(run, ftj_get_item(run, of, key));
}

static ftj_val eval_attr(ftj_run *run, const ftj_node *node)
{
    ftj_val of = ftj_eval(run, node->a);
    run->line = node->line;
    return touch(run, ftj_get_attr(run, of, node->name, strlen(node->name)));
}

/* ---- calls ---------------------------------------------------------------------------------- */

/* How many keywords a call passes; *more: the mapping behind `**`. */
static size_t count_keywords(ftj_run *run, const ftj_node *node, ftj_val *more)
{
    *more = node->c ? ftj_eval(run, node->c) : ftj_none();
    if (!node->c) return node->n_w;
    if (more->type != FTJ_DICT)
        ftj_fail(run, "argument after ** must be a mapping, not %s", ftj_type_name(*more));
    return node->n_w + more->d->n;
}

/* All arguments of a call, filter or test, in the order they are written. */
static ftj_args eval_arguments(ftj_run *run, const ftj_node *node)
{
    ftj_list *l = ftj_new_list(run, node->n_v);
    for (uint32_t i = 0; i < node->n_v; i++) ftj_add(run, l, ftj_eval(run, node->v[i]));
    ftj_keyword *kw = ftj_array(run, node->n_w, sizeof *kw);
    for (uint32_t i = 0; i < node->n_w; i++)
        kw[i] = (ftj_keyword){ node->w[i]->name, ftj_eval(run, node->w[i]->a) };
    if (node->b) {
        const ftj_list *more = ftj_items(run, ftj_eval(run, node->b));
        for (size_t i = 0; i < more->n; i++) ftj_add(run, l, more->v[i]);
    }
    ftj_val more;
    size_t n = count_keywords(run, node, &more);
    if (n > node->n_w) {
        ftj_keyword *all = ftj_array(run, n, sizeof *all);
        memcpy(all, kw, node->n_w * sizeof *kw);
        for (size_t i = 0; i < more.d->n; i++) {
            const ftj_str *key = ftj_want_str(run, more.d->e[i].k, "keywords");
            all[node->n_w + i] = (ftj_keyword){ ftj_printf(run, "%.*s", (int)key->n, key->p),
                                                more.d->e[i].v };
        }
        kw = all;
    }
    return (ftj_args){ l->v, l->n, kw, n };
}

static ftj_val eval_call(ftj_run *run, const ftj_node *node)
{
    ftj_val callee = ftj_eval(run, node->a);
    ftj_args args = eval_arguments(run, node);
    run->line = node->line;
    return touch(run, ftj_call(run, callee, &args));
}

/* A filter or test; one that does not exist is an error only here. */
static ftj_val eval_named(ftj_run *run, const ftj_node *node)
{
    bool filter = node->kind == FTJ_N_FILTER;
    if (!node->def) {
        run->line = node->line;
        ftj_fail(run, "No %s named '%s' found.", filter ? "filter" : "test", node->name);
    }
    ftj_val self = ftj_eval(run, node->a);
    ftj_args args = eval_arguments(run, node);
    run->line = node->line;
    return touch(run, ftj_apply(run, node->def, self, &args));
}

static ftj_val eval_not(ftj_run *run, const ftj_node *node)
{
    return ftj_bool(!ftj_truth(run, ftj_eval(run, node->a)));
}

/* What a {% filter %} or {% set x | … %} block wrote. */
static ftj_val eval_hole(ftj_run *run, const ftj_node *node)
{
    (void)node;
    return ftj_of_str(run->filtered);
}

ftj_val ftj_eval(ftj_run *run, const ftj_node *node)
{
    static ftj_val (*const table[FTJ_N_COUNT])(ftj_run *, const ftj_node *) = {
        [FTJ_N_CONST] = eval_const, [FTJ_N_NAME] = eval_name, [FTJ_N_TUPLE] = eval_list,
        [FTJ_N_LIST] = eval_list, [FTJ_N_DICT] = eval_dict, [FTJ_N_AND] = eval_logic,
        [FTJ_N_OR] = eval_logic, [FTJ_N_NOT] = eval_not, [FTJ_N_NEG] = eval_sign,
        [FTJ_N_POS] = eval_sign, [FTJ_N_BINARY] = eval_binary, [FTJ_N_CONCAT] = eval_concat,
        [FTJ_N_COMPARE] = eval_compare, [FTJ_N_COND] = eval_cond, [FTJ_N_ATTR] = eval_attr,
        [FTJ_N_ITEM] = eval_item, [FTJ_N_CALL] = eval_call, [FTJ_N_FILTER] = eval_named,
        [FTJ_N_TEST] = eval_named, [FTJ_N_HOLE] = eval_hole,
    };
    ftj_work(run, 1);
    ftj_enter(run);
    ftj_val v = table[node->kind](run, node);
    ftj_leave(run);
    return v;
}
