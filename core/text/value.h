/* value.h -- what can be done with the values of jinja.h; included by it.  Names follow Python,
 * whose behaviour each function has, down to the sentences of its errors. */
#ifndef FT_TEXT_VALUE_H
#define FT_TEXT_VALUE_H
#include "core/text/jinja.h"

/* ---- making values (value.c) ---------------------------------------------------------------- */
ftj_val ftj_none(void);
ftj_val ftj_bool(bool b);
ftj_val ftj_int(int64_t i);
ftj_val ftj_float(double f);
ftj_val ftj_of_str(const ftj_str *s);
ftj_val ftj_of_list(ftj_list *l);
ftj_val ftj_of_tuple(ftj_list *l);
ftj_val ftj_of_dict(ftj_dict *d);
ftj_val ftj_text(ftj_run *run, const char *text); /* a string of the template */
/* A generator over the items; `type` is what Python calls it. */
ftj_val ftj_of_iter(ftj_run *run, ftj_list *l, const char *type);
ftj_val ftj_undefined_hint(ftj_run *run, const char *hint);
ftj_val ftj_undefined_name(ftj_run *run, const char *name);
/* The value that `of` does not have under `key`. */
ftj_val ftj_undefined_of(ftj_run *run, ftj_val of, ftj_val key);
_Noreturn void ftj_fail_undefined(ftj_run *run, ftj_val v);

const char *ftj_type_name(ftj_val v); /* type(v).__name__ */
bool ftj_truth(ftj_run *run, ftj_val v);
bool ftj_is_number(ftj_val v);        /* int, float or bool */
bool ftj_is_int(ftj_val v);           /* an int or bool of 64 bits; ftj_int_of reads it */
int64_t ftj_int_of(ftj_val v);
double ftj_real_of(ftj_val v);        /* of a number */

ftj_list *ftj_new_list(ftj_run *run, size_t cap);
void ftj_add(ftj_run *run, ftj_list *l, ftj_val v);
ftj_val ftj_pair_of(ftj_run *run, ftj_val a, ftj_val b); /* a tuple of two */
ftj_dict *ftj_new_dict(ftj_run *run, size_t cap);
/* The value of key, or MISSING; fails on keys that Python cannot hash. */
ftj_val ftj_dict_get(ftj_run *run, const ftj_dict *d, ftj_val key);
ftj_val ftj_dict_find(ftj_run *run, const ftj_dict *d, const char *key, size_t n);
void ftj_dict_set(ftj_run *run, ftj_dict *d, ftj_val key, ftj_val v);
void ftj_need_hash(ftj_run *run, ftj_val key);

/* ---- strings (string.c) --------------------------------------------------------------------- */
const ftj_piece *ftj_here(ftj_run *run); /* a piece written by the template, now */
const ftj_str *ftj_str_new(ftj_run *run, const char *p, size_t n, const ftj_piece *like);
const ftj_str *ftj_str_text(ftj_run *run, const char *p, size_t n); /* the template's; p is kept */
const ftj_str *ftj_flat(ftj_run *run, const ftj_str *s);
const ftj_str *ftj_concat(ftj_run *run, const ftj_str *a, const ftj_str *b);
const ftj_str *ftj_sub(ftj_run *run, const ftj_str *s, size_t from, size_t to); /* bytes */
const ftj_str *ftj_markup(ftj_run *run, const ftj_str *s, bool markup);
size_t ftj_chars(ftj_run *run, const ftj_str *s);
size_t ftj_char_offset(ftj_run *run, const ftj_str *s, size_t index); /* n when past the end */
bool ftj_str_equal(ftj_run *run, const ftj_str *a, const ftj_str *b);
int ftj_str_order(ftj_run *run, const ftj_str *a, const ftj_str *b); /* -1, 0, 1 */
bool ftj_str_is(ftj_run *run, ftj_val v, const char *text);
/* Byte offset of the first (last) `what` in [from, to) of s, or SIZE_MAX. */
size_t ftj_str_find(ftj_run *run, const ftj_str *s, const ftj_str *what, size_t from, size_t to);
size_t ftj_str_rfind(ftj_run *run, const ftj_str *s, const ftj_str *what, size_t from, size_t to);
/* The code point at byte *at of a flat string; *at moves past it. */
uint32_t ftj_next_char(const ftj_str *s, size_t *at);

void ftj_put(ftj_run *run, ftj_out *out, const char *p, size_t n, const ftj_piece *like);
void ftj_put_str(ftj_run *run, ftj_out *out, const ftj_str *s);
void ftj_put_char(ftj_run *run, ftj_out *out, uint32_t c, const ftj_piece *like);
const ftj_str *ftj_out_done(ftj_run *run, ftj_out *out);

/* ---- numbers (number.c) --------------------------------------------------------------------- */
void ftj_float_text(char out[64], double f); /* repr() */
/* int(text, base) and float(text): false where Python raises ValueError.  An integer beyond 64
 * bits becomes a BIG of the given piece. */
bool ftj_parse_int(ftj_run *run, const ftj_str *s, int64_t base, ftj_val *out);
bool ftj_parse_float(ftj_run *run, const ftj_str *s, double *out);
ftj_val ftj_arith(ftj_run *run, ftj_op op, ftj_val a, ftj_val b); /* two numbers */
ftj_val ftj_round(ftj_run *run, ftj_val v, int64_t digits);
ftj_val ftj_from_float(ftj_run *run, double f); /* int(f) */

/* ---- operators (compare.c, operate.c) ------------------------------------------------------- */
bool ftj_equal(ftj_run *run, ftj_val a, ftj_val b);
bool ftj_order(ftj_run *run, ftj_op op, ftj_val a, ftj_val b); /* op: LT, LE, GT or GE */
bool ftj_contains(ftj_run *run, ftj_val item, ftj_val box);
bool ftj_compare(ftj_run *run, ftj_op op, ftj_val a, ftj_val b); /* any comparison */
ftj_val ftj_binary(ftj_run *run, ftj_op op, ftj_val a, ftj_val b);
ftj_val ftj_negate(ftj_run *run, ftj_val v);
const ftj_str *ftj_escape(ftj_run *run, const ftj_str *s); /* &, <, >, ', " for HTML */

/* ---- text of values (repr.c, tojson.c, format.c) -------------------------------------------- */
const ftj_str *ftj_to_str(ftj_run *run, ftj_val v); /* str(v) */
void ftj_repr(ftj_run *run, ftj_out *out, ftj_val v);
const char *ftj_show(ftj_run *run, ftj_val v);      /* repr for messages, cut at 200 bytes */
ftj_val ftj_tojson(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args);
ftj_val ftj_percent(ftj_run *run, const ftj_str *format, ftj_val args); /* format % args */
ftj_val ftj_format(ftj_run *run, const ftj_str *format, const ftj_args *args);
ftj_val ftj_strftime_now(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args);

/* ---- items (iterate.c, lookup.c) ------------------------------------------------------------ */
ftj_cursor ftj_iterate(ftj_run *run, ftj_val v); /* fails on what is not iterable */
bool ftj_is_iterable(ftj_val v);
bool ftj_next(ftj_run *run, ftj_cursor *c, ftj_val *out);
/* All items; the list of a list or tuple itself, so not to be changed. */
const ftj_list *ftj_items(ftj_run *run, ftj_val v);
int64_t ftj_length(ftj_run *run, ftj_val v); /* -1: has no len() */
ftj_val ftj_get_attr(ftj_run *run, ftj_val v, const char *name, size_t n);
ftj_val ftj_get_item(ftj_run *run, ftj_val v, ftj_val key);
ftj_val ftj_slice(ftj_run *run, ftj_val v, ftj_val start, ftj_val stop, ftj_val step);
/* The value at a path such as "function.name" or 0: what `attribute=` of filters means. */
ftj_val ftj_get_path(ftj_run *run, ftj_val v, ftj_val path, ftj_val otherwise);
ftj_list *ftj_sorted(ftj_run *run, const ftj_list *l, const ftj_val *key, bool reverse);

/* ---- calls (call.c) ------------------------------------------------------------------------- */
ftj_val ftj_call(ftj_run *run, ftj_val callee, const ftj_args *args);
ftj_val ftj_apply(ftj_run *run, const ftj_builtin *def, ftj_val self, const ftj_args *args);
const ftj_builtin *ftj_find(const ftj_builtin *table, const char *name, size_t n);
int64_t ftj_want_int(ftj_run *run, ftj_val v, const char *who);
const ftj_str *ftj_want_str(ftj_run *run, ftj_val v, const char *who); /* a str; flat */
extern const ftj_builtin ftj_filters[], ftj_text_filters[], ftj_tests[], ftj_globals[];
extern const ftj_builtin ftj_text_methods[], ftj_ask_methods[], ftj_dict_methods[],
    ftj_list_methods[], ftj_loop_methods[];
const ftj_builtin *ftj_find_filter(const char *name, size_t n);

/* ---- running the tree (eval.c, exec.c, loop.c) ---------------------------------------------- */
ftj_val ftj_eval(ftj_run *run, const ftj_node *node);
typedef enum { FTJ_DONE, FTJ_BROKE, FTJ_CONTINUED } ftj_flow;
ftj_flow ftj_exec(ftj_run *run, ftj_node *const *v, uint32_t n);
ftj_flow ftj_exec_for(ftj_run *run, const ftj_node *node);
void ftj_assign(ftj_run *run, const ftj_node *target, ftj_val v);
void ftj_set_var(ftj_run *run, ftj_scope *scope, const char *name, ftj_val v);
ftj_scope *ftj_new_scope(ftj_run *run, ftj_scope *outer);
void ftj_emit(ftj_run *run, const ftj_str *s);
/* The only message that pieces come from; -1: none, -2: several. */
int32_t ftj_sole_origin(const ftj_piece *piece, size_t n);
ftj_val ftj_loop_attr(ftj_run *run, ftj_loop *loop, const char *name, size_t n);
ftj_val ftj_call_macro(ftj_run *run, const ftj_macro *macro, const ftj_args *args);
/* Runs the body with output caught; *flow tells how it ended. */
const ftj_str *ftj_capture(ftj_run *run, ftj_node *const *v, uint32_t n, ftj_flow *flow);

/* ---- variables from JSON (load.c) ----------------------------------------------------------- */
void ftj_load_vars(ftj_run *run, const ft_json *vars);
#endif
