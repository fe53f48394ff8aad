/* parse_expr.c -- expressions, by recursive descent; one function a level of precedence, lowest
 * first, as Jinja has them:  x if c else y;  or;  and;  not;  comparisons, in, not in;  + -;  ~;
 * * / // %;  **;  unary + -;  postfix . [] ();  filters and tests.  A filter takes the signed
 * value: -x|abs is (-x)|abs.  ** associates to the left. */
#include "core/text/parse.h"

/* A node with two operands, on the line of the first. */
static ftj_node *binary(ftj_parser *p, ftj_kind kind, ftj_op op, ftj_node *a, ftj_node *b)
{
    ftj_node *n = ftj_node_new(p, kind);
    n->op = (uint8_t)op;
    n->line = a->line;
    n->a = a;
    n->b = b;
    return n;
}

/* Signs, then everything that binds tighter. */
static ftj_node *parse_unary(ftj_parser *p, bool with_filters)
{
    ftj_node *n;
    ftj_enter(p->run);
    if (p->now->type == '-' || p->now->type == '+') {
        n = ftj_node_new(p, p->now->type == '-' ? FTJ_N_NEG : FTJ_N_POS);
        p->now++;
        n->a = parse_unary(p, false);
    } else {
        n = ftj_parse_primary(p, false);
    }
    n = ftj_parse_postfix(p, n);
    while (with_filters) {
        if (p->now->type == '|') n = ftj_parse_filters(p, n, false);
        else if (ftj_skip_name(p, "is")) n = ftj_parse_test(p, n);
        else if (p->now->type == '(') n = ftj_parse_call(p, n);
        else break;
    }
    ftj_leave(p->run);
    return n;
}

static ftj_node *parse_power(ftj_parser *p)
{
    ftj_node *n = parse_unary(p, true);
    while (ftj_skip(p, FTJ_T_POW)) n = binary(p, FTJ_N_BINARY, FTJ_POW, n, parse_unary(p, true));
    return n;
}

static ftj_node *parse_product(ftj_parser *p)
{
    ftj_node *n = parse_power(p);
    for (;;) {
        int t = p->now->type;
        if (t != '*' && t != '/' && t != '%' && t != FTJ_T_FLOORDIV) return n;
        ftj_op op = t == '*' ? FTJ_MUL : t == '/' ? FTJ_DIV : t == '%' ? FTJ_MOD : FTJ_FLOORDIV;
        p->now++;
        n = binary(p, FTJ_N_BINARY, op, n, parse_power(p));
    }
}

static ftj_node *parse_concat(ftj_parser *p)
{
    ftj_node *first = parse_product(p);
    if (p->now->type != '~') return first;
    ftj_node *n = ftj_node_new(p, FTJ_N_CONCAT);
    ftj_node_add(p, &n->v, &n->n_v, first);
    while (ftj_skip(p, '~')) ftj_node_add(p, &n->v, &n->n_v, parse_product(p));
    return n;
}

static ftj_node *parse_sum(ftj_parser *p)
{
    ftj_node *n = parse_concat(p);
    for (;;) {
        int t = p->now->type;
        if (t != '+' && t != '-') return n;
        p->now++;
        n = binary(p, FTJ_N_BINARY, t == '+' ? FTJ_ADD : FTJ_SUB, n, parse_concat(p));
    }
}

/* The comparison at hand, or -1; p moves past it. */
static int comparison(ftj_parser *p)
{
    static const struct { int type; ftj_op op; } signs[] = {
        { FTJ_T_EQ, FTJ_EQ }, { FTJ_T_NE, FTJ_NE }, { '<', FTJ_LT }, { FTJ_T_LE, FTJ_LE },
        { '>', FTJ_GT }, { FTJ_T_GE, FTJ_GE },
    };
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++) {
        if (ftj_skip(p, signs[i].type)) return (int)signs[i].op;
    }
    if (ftj_skip_name(p, "in")) return FTJ_IN;
    if (!ftj_token_is(p->now, "not") || !ftj_token_is(p->now + 1, "in")) return -1;
    p->now += 2;
    return FTJ_NOT_IN;
}

static ftj_node *parse_comparison(ftj_parser *p)
{
    ftj_node *first = parse_sum(p), *n = NULL;
    for (int op; (op = comparison(p)) >= 0;) {
        if (!n) {
            n = ftj_node_new(p, FTJ_N_COMPARE);
            n->a = first;
        }
        ftj_node *operand = ftj_node_new(p, FTJ_N_OPERAND);
        operand->op = (uint8_t)op;
        operand->a = parse_sum(p);
        ftj_node_add(p, &n->v, &n->n_v, operand);
    }
    return n ? n : first;
}

static ftj_node *parse_not(ftj_parser *p)
{
    if (!ftj_token_is(p->now, "not")) return parse_comparison(p);
    ftj_enter(p->run);
    ftj_node *n = ftj_node_new(p, FTJ_N_NOT);
    p->now++;
    n->a = parse_not(p);
    ftj_leave(p->run);
    return n;
}

static ftj_node *parse_and(ftj_parser *p)
{
    ftj_node *n = parse_not(p);
    while (ftj_skip_name(p, "and")) n = binary(p, FTJ_N_AND, 0, n, parse_not(p));
    return n;
}

static ftj_node *parse_or(ftj_parser *p)
{
    ftj_node *n = parse_and(p);
    while (ftj_skip_name(p, "or")) n = binary(p, FTJ_N_OR, 0, n, parse_and(p));
    return n;
}

/* Filters within a condition may be unknown as long as they are not reached. */
static bool goes_soft(ftj_parser *p, const ftj_token *from)
{
    int depth = 0;
    for (const ftj_token *t = from;; t++) {
        if (t->type == FTJ_T_EOF || t->type == FTJ_T_BLOCK_END || t->type == FTJ_T_VARIABLE_END)
            return false;
        if (t->type == '(' || t->type == '[' || t->type == '{') depth++;
        if (t->type == ')' || t->type == ']' || t->type == '}') depth--;
        if (depth < 0 || (depth == 0 && (t->type == ',' || t->type == ':'))) return false;
        if (depth == 0 && ftj_token_is(t, "if")) return t > p->now;
    }
}

ftj_node *ftj_parse_expression(ftj_parser *p, bool with_cond)
{
    bool soft = p->soft;
    if (with_cond && !soft) p->soft = goes_soft(p, p->now);
    ftj_enter(p->run);
    ftj_node *n = parse_or(p);
    while (with_cond && ftj_skip_name(p, "if")) {
        ftj_node *cond = ftj_node_new(p, FTJ_N_COND);
        cond->line = n->line;
        cond->b = n;
        cond->a = parse_or(p);
        if (ftj_skip_name(p, "else")) cond->c = ftj_parse_expression(p, true);
        n = cond;
    }
    ftj_leave(p->run);
    p->soft = soft;
    return n;
}
