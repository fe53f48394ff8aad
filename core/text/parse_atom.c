/* parse_atom.c -- the parts of expressions: names, literals, tuples, calls, filters, tests and
 * subscripts.  Their combination by operators is in parse_expr.c. */
#include <string.h>
#include "core/text/parse.h"

/* ---- primaries ------------------------------------------------------------------------------ */

/* A literal. */
static ftj_node *constant(ftj_parser *p, ftj_val v)
{
    ftj_node *n = ftj_node_new(p, FTJ_N_CONST);
    n->value = v;
    return n;
}

/* A variable or one of the words for true, false and none; ns.name where a namespace may be
 * set. */
static ftj_node *parse_name(ftj_parser *p, bool with_space)
{
    const ftj_token *t = p->now++;
    if (ftj_token_is(t, "true") || ftj_token_is(t, "True")) return constant(p, ftj_bool(true));
    if (ftj_token_is(t, "false") || ftj_token_is(t, "False")) return constant(p, ftj_bool(false));
    if (ftj_token_is(t, "none") || ftj_token_is(t, "None")) return constant(p, ftj_none());
    ftj_node *n = ftj_node_new(p, FTJ_N_NAME);
    n->line = t->line;
    n->name = ftj_token_name(p, t);
    if (with_space && ftj_skip(p, '.')) {
        n->kind = FTJ_N_SPACE_REF;
        t = ftj_expect(p, FTJ_T_NAME, "a name");
        n->b = constant(p, ftj_of_str(ftj_str_text(p->run, t->p, t->n)));
    }
    if (p->macro && ftj_token_is(t, "varargs")) p->macro->flag = true;
    if (p->macro && ftj_token_is(t, "kwargs")) p->macro->flag2 = true;
    return n;
}

/* String literals that follow each other are one. */
static ftj_node *parse_string(ftj_parser *p)
{
    ftj_node *n = ftj_node_new(p, FTJ_N_CONST);
    const ftj_str *s = ftj_str_text(p->run, p->now->p, p->now->n);
    for (p->now++; p->now->type == FTJ_T_STRING; p->now++)
        s = ftj_concat(p->run, s, ftj_str_text(p->run, p->now->p, p->now->n));
    n->value = ftj_of_str(ftj_flat(p->run, s));
    return n;
}

/* Integers keep all their digits.  The lexer has seen to it that this is a number. */
static ftj_node *parse_number(ftj_parser *p)
{
    const ftj_token *t = p->now++;
    const ftj_str *s = ftj_str_text(p->run, t->p, t->n);
    ftj_val v = ftj_none();
    double f = 0;
    if (t->type == FTJ_T_INTEGER) ftj_parse_int(p->run, s, 0, &v);
    else if (ftj_parse_float(p->run, s, &f)) v = ftj_float(f);
    ftj_node *n = constant(p, v);
    n->line = t->line;
    return n;
}

/* "[a, b]" */
static ftj_node *parse_list(ftj_parser *p)
{
    ftj_node *n = ftj_node_new(p, FTJ_N_LIST);
    p->now++;
    while (p->now->type != ']') {
        if (n->n_v) ftj_expect(p, ',', "','");
        if (p->now->type == ']') break;
        ftj_node_add(p, &n->v, &n->n_v, ftj_parse_expression(p, true));
    }
    p->now++;
    return n;
}

/* "{a: b}" */
static ftj_node *parse_dict(ftj_parser *p)
{
    ftj_node *n = ftj_node_new(p, FTJ_N_DICT);
    p->now++;
    while (p->now->type != '}') {
        if (n->n_v) ftj_expect(p, ',', "','");
        if (p->now->type == '}') break;
        ftj_node *pair = ftj_node_new(p, FTJ_N_PAIR);
        pair->a = ftj_parse_expression(p, true);
        ftj_expect(p, ':', "':'");
        pair->b = ftj_parse_expression(p, true);
        ftj_node_add(p, &n->v, &n->n_v, pair);
    }
    p->now++;
    return n;
}

ftj_node *ftj_parse_primary(ftj_parser *p, bool with_space)
{
    switch (p->now->type) {
    case FTJ_T_NAME: return parse_name(p, with_space);
    case FTJ_T_STRING: return parse_string(p);
    case FTJ_T_INTEGER: case FTJ_T_FLOAT: return parse_number(p);
    case '[': return parse_list(p);
    case '{': return parse_dict(p);
    case '(': {
        p->now++;
        ftj_node *n = ftj_parse_tuple(p, FTJ_TUPLE_COND | FTJ_TUPLE_PARENS, NULL);
        ftj_expect(p, ')', "')'");
        return n;
    }
    default: ftj_parse_fail(p, p->now, "an expression must stand here");
    }
}

/* Whether a tuple may end here. */
static bool tuple_ends(const ftj_parser *p, const char *end)
{
    int t = p->now->type;
    return t == FTJ_T_VARIABLE_END || t == FTJ_T_BLOCK_END || t == ')' ||
           (end && ftj_token_is(p->now, end));
}

ftj_node *ftj_parse_tuple(ftj_parser *p, unsigned how, const char *end)
{
    ftj_node *tuple = ftj_node_new(p, FTJ_N_TUPLE);
    bool commas = false;
    for (;;) {
        if (tuple->n_v) ftj_expect(p, ',', "','");
        if (tuple_ends(p, end)) break;
        ftj_node *item = how & FTJ_TUPLE_SIMPLE
                             ? ftj_parse_primary(p, how & FTJ_TUPLE_SPACE)
                             : ftj_parse_expression(p, how & FTJ_TUPLE_COND);
        ftj_node_add(p, &tuple->v, &tuple->n_v, item);
        if (p->now->type != ',') break;
        commas = true;
    }
    if (commas) return tuple;
    if (tuple->n_v) return tuple->v[0];
    if (!(how & FTJ_TUPLE_PARENS)) ftj_parse_fail(p, p->now, "an expression must stand here");
    return tuple;
}

/* ---- calls ---------------------------------------------------------------------------------- */

/* "(a, b=c, *d, **e)" into v, w, b and c of the node; p stands on the bracket. */
static void parse_arguments(ftj_parser *p, ftj_node *n)
{
    const ftj_token *open = p->now++;
    bool more = false;
    while (p->now->type != ')') {
        if (more) ftj_expect(p, ',', "','");
        if (p->now->type == ')') break;
        more = true;
        bool bad;
        if (ftj_skip(p, '*')) {
            bad = n->b || n->c;
            n->b = ftj_parse_expression(p, true);
        } else if (ftj_skip(p, FTJ_T_POW)) {
            bad = n->c != NULL;
            n->c = ftj_parse_expression(p, true);
        } else if (p->now->type == FTJ_T_NAME && p->now[1].type == '=') {
            bad = n->c != NULL;
            ftj_node *kw = ftj_node_new(p, FTJ_N_KEYWORD);
            kw->name = ftj_token_name(p, p->now);
            for (uint32_t i = 0; i < n->n_w; i++) bad = bad || n->w[i]->name == kw->name;
            p->now += 2;
            kw->a = ftj_parse_expression(p, true);
            ftj_node_add(p, &n->w, &n->n_w, kw);
        } else {
            bad = n->b || n->c || n->n_w;
            ftj_node_add(p, &n->v, &n->n_v, ftj_parse_expression(p, true));
        }
        if (bad) ftj_parse_fail(p, open, "invalid syntax for function call expression");
    }
    p->now++;
}

ftj_node *ftj_parse_call(ftj_parser *p, ftj_node *callee)
{
    ftj_node *n = ftj_node_new(p, FTJ_N_CALL);
    n->a = callee;
    parse_arguments(p, n);
    return n;
}

/* "name" or "name.name"; def is NULL when there is none of the name and that is no error yet. */
static ftj_node *parse_named(ftj_parser *p, ftj_kind kind, ftj_node *of)
{
    const ftj_token *t = ftj_expect(p, FTJ_T_NAME, "a name");
    ftj_node *n = ftj_node_new(p, kind);
    const char *name = ftj_token_name(p, t);
    while (ftj_skip(p, '.')) {
        const ftj_token *part = ftj_expect(p, FTJ_T_NAME, "a name");
        name = ftj_printf(p->run, "%s.%.*s", name, (int)part->n, part->p);
    }
    n->a = of;
    n->name = name;
    n->line = t->line;
    n->def = kind == FTJ_N_FILTER ? ftj_find_filter(name, strlen(name))
                                  : ftj_find(ftj_tests, name, strlen(name));
    if (!n->def && !p->soft)
        ftj_parse_fail(p, t, "No %s named '%s'.", kind == FTJ_N_FILTER ? "filter" : "test", name);
    return n;
}

ftj_node *ftj_parse_filters(ftj_parser *p, ftj_node *node, bool inline_first)
{
    while (inline_first || ftj_skip(p, '|')) {
        inline_first = false;
        node = parse_named(p, FTJ_N_FILTER, node);
        if (p->now->type == '(') parse_arguments(p, node);
    }
    return node;
}

/* "is [not] name [argument]"; p stands behind `is`. */
ftj_node *ftj_parse_test(ftj_parser *p, ftj_node *of)
{
    bool negated = ftj_skip_name(p, "not");
    ftj_node *n = parse_named(p, FTJ_N_TEST, of);
    int t = p->now->type;
    bool argument = t == FTJ_T_NAME || t == FTJ_T_STRING || t == FTJ_T_INTEGER ||
                    t == FTJ_T_FLOAT || t == '[' || t == '{';
    bool word = ftj_token_is(p->now, "else") || ftj_token_is(p->now, "or") ||
                ftj_token_is(p->now, "and");
    if (t == '(') {
        parse_arguments(p, n);
    } else if (argument && !word) {
        if (ftj_token_is(p->now, "is"))
            ftj_parse_fail(p, p->now, "You cannot chain multiple tests with is");
        ftj_node_add(p, &n->v, &n->n_v, ftj_parse_postfix(p, ftj_parse_primary(p, false)));
    }
    if (!negated) return n;
    ftj_node *not = ftj_node_new(p, FTJ_N_NOT);
    not->a = n;
    return not;
}

/* ---- subscripts ----------------------------------------------------------------------------- */

/* What stands in brackets: an expression or a slice. */
static ftj_node *parse_subscribed(ftj_parser *p)
{
    ftj_node *part[3] = { NULL, NULL, NULL };
    if (p->now->type != ':') {
        part[0] = ftj_parse_expression(p, true);
        if (p->now->type != ':') return part[0];
    }
    p->now++;
    for (int i = 1; i < 3; i++) {
        int t = p->now->type;
        if (t != ':' && t != ']' && t != ',') part[i] = ftj_parse_expression(p, true);
        if (i == 2 || !ftj_skip(p, ':')) break;
    }
    ftj_node *n = ftj_node_new(p, FTJ_N_SLICE);
    n->a = part[0];
    n->b = part[1];
    n->c = part[2];
    return n;
}

/* ".name", ".0" or "[…]" */
static ftj_node *parse_subscript(ftj_parser *p, ftj_node *of)
{
    const ftj_token *t = p->now++;
    ftj_node *n = ftj_node_new(p, FTJ_N_ITEM);
    n->a = of;
    n->line = t->line;
    if (t->type == '.') {
        if (p->now->type == FTJ_T_NAME) {
            n->kind = FTJ_N_ATTR;
            n->name = ftj_token_name(p, p->now++);
        } else if (p->now->type == FTJ_T_INTEGER) {
            n->b = parse_number(p);
        } else {
            ftj_parse_fail(p, p->now, "expected name or number");
        }
        return n;
    }
    ftj_node *tuple = ftj_node_new(p, FTJ_N_TUPLE);
    while (p->now->type != ']') {
        if (tuple->n_v) ftj_expect(p, ',', "','");
        ftj_node_add(p, &tuple->v, &tuple->n_v, parse_subscribed(p));
    }
    p->now++;
    n->b = tuple->n_v == 1 ? tuple->v[0] : tuple;
    for (uint32_t i = 0; tuple->n_v != 1 && i < tuple->n_v; i++) {
        if (tuple->v[i]->kind == FTJ_N_SLICE)
            ftj_parse_fail(p, t, "a slice within a tuple of keys");
    }
    return n;
}

ftj_node *ftj_parse_postfix(ftj_parser *p, ftj_node *node)
{
    for (;;) {
        int t = p->now->type;
        if (t == '.' || t == '[') node = parse_subscript(p, node);
        else if (t == '(') node = ftj_parse_call(p, node);
        else return node;
    }
}
