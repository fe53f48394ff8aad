/* parse.h -- a template's tokens into the tree of jinja.h. */
#ifndef FT_TEXT_PARSE_H
#define FT_TEXT_PARSE_H
#include "core/text/lexer.h"

typedef struct {
    ftj_run *run;
    const ftj_tokens *tokens;
    const ftj_token *now;   /* the token at hand */
    const char *const *ends; /* the tags that may end the innermost block, NULL-terminated */
    const char *tag;        /* innermost block that is open, for messages */
    int loops;              /* loops around, within the function at hand */
    int fors;               /* loops around, also across functions */
    bool soft;              /* an unknown filter here is an error only when it is reached */
    bool marks;             /* a {% generation %} was seen */
    ftj_node *macro;        /* innermost macro */
} ftj_parser;

typedef struct {
    ftj_node **body;
    uint32_t n;
    bool marks;
} ftj_program;

/* Parses a whole template; fails with line and column. */
ftj_program ftj_parse(ftj_run *run, const char *source, size_t n);

/* ---- shared by parse.c, parse_expr.c and parse_atom.c --------------------------------------- */
ftj_node *ftj_node_new(ftj_parser *p, ftj_kind kind);
void ftj_node_add(ftj_parser *p, ftj_node ***v, uint32_t *n, ftj_node *child);
_Noreturn void ftj_parse_fail(ftj_parser *p, const ftj_token *at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
bool ftj_token_is(const ftj_token *t, const char *name);
bool ftj_skip_name(ftj_parser *p, const char *name);
bool ftj_skip(ftj_parser *p, int type);
const ftj_token *ftj_expect(ftj_parser *p, int type, const char *what);
const char *ftj_token_name(ftj_parser *p, const ftj_token *t); /* interned */

ftj_node *ftj_parse_expression(ftj_parser *p, bool with_cond);
enum { FTJ_TUPLE_COND = 1, FTJ_TUPLE_PARENS = 2, FTJ_TUPLE_SIMPLE = 4, FTJ_TUPLE_SPACE = 8 };
/* An expression, or a tuple where commas follow; `end`: a name that ends it. */
ftj_node *ftj_parse_tuple(ftj_parser *p, unsigned how, const char *end);
ftj_node *ftj_parse_primary(ftj_parser *p, bool with_space);
/* "(…)" after a callee; ".name", "[…]" and "(…)" as many as follow; "[not] name …" after `is`. */
ftj_node *ftj_parse_call(ftj_parser *p, ftj_node *callee);
ftj_node *ftj_parse_postfix(ftj_parser *p, ftj_node *node);
ftj_node *ftj_parse_test(ftj_parser *p, ftj_node *of);
/* The filters from here on, applied to node; the first one without its '|' when `inline_first`. */
ftj_node *ftj_parse_filters(ftj_parser *p, ftj_node *node, bool inline_first);
#endif
