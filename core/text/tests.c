/* tests.c -- what may stand after `is`: is defined, is none, is string, is divisibleby(3) … */
#include <string.h>
#include "core/text/jinja.h"
#include "core/text/textops.h"
#include "core/text/unicode.h"

static ftj_val t_defined(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)run, (void)a, (void)args;
    return ftj_bool(self.type != FTJ_UNDEF);
}

static ftj_val t_undefined(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)run, (void)a, (void)args;
    return ftj_bool(self.type == FTJ_UNDEF);
}

static ftj_val t_none(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)run, (void)a, (void)args;
    return ftj_bool(self.type == FTJ_NONE);
}

static ftj_val t_boolean(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)run, (void)a, (void)args;
    return ftj_bool(self.type == FTJ_BOOL);
}

static ftj_val t_true(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)run, (void)a, (void)args;
    return ftj_bool(self.type == FTJ_BOOL && self.b);
}

static ftj_val t_false(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)run, (void)a, (void)args;
    return ftj_bool(self.type == FTJ_BOOL && !self.b);
}

static ftj_val t_integer(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)run, (void)a, (void)args;
    return ftj_bool(self.type == FTJ_INT || self.type == FTJ_BIG);
}

static ftj_val t_float(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)run, (void)a, (void)args;
    return ftj_bool(self.type == FTJ_FLOAT);
}

static ftj_val t_number(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)run, (void)a, (void)args;
    return ftj_bool(ftj_is_number(self));
}

static ftj_val t_string(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)run, (void)a, (void)args;
    return ftj_bool(self.type == FTJ_STR);
}

static ftj_val t_mapping(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)run, (void)a, (void)args;
    return ftj_bool(self.type == FTJ_DICT);
}

static ftj_val t_iterable(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)run, (void)a, (void)args;
    return ftj_bool(ftj_is_iterable(self) || self.type == FTJ_LOOP);
}

/* Has a length and takes subscripts, as Undefined does. */
static ftj_val t_sequence(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)run, (void)a, (void)args;
    bool yes = self.type == FTJ_UNDEF || self.type == FTJ_STR || self.type == FTJ_LIST ||
               self.type == FTJ_TUPLE || self.type == FTJ_DICT || self.type == FTJ_RANGE;
    return ftj_bool(yes);
}

static ftj_val t_callable(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)run, (void)a, (void)args;
    return ftj_bool(self.type == FTJ_MACRO || self.type == FTJ_METHOD || self.type == FTJ_GLOBAL ||
                    self.type == FTJ_LOOP || self.type == FTJ_UNDEF);
}

static ftj_val t_escaped(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)run, (void)a, (void)args;
    return ftj_bool(self.type == FTJ_STR && self.s->markup);
}

/* self % by, where Python would do it. */
static ftj_val remainder_of(ftj_run *run, ftj_val self, ftj_val by)
{
    return ftj_binary(run, FTJ_MOD, self, by);
}

static ftj_val t_odd(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    return ftj_bool(ftj_equal(run, remainder_of(run, self, ftj_int(2)), ftj_int(1)));
}

static ftj_val t_even(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    return ftj_bool(ftj_equal(run, remainder_of(run, self, ftj_int(2)), ftj_int(0)));
}

static ftj_val t_divisibleby(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    return ftj_bool(ftj_equal(run, remainder_of(run, self, a[0]), ftj_int(0)));
}

/* str.islower and str.isupper: at least one letter of the case and none of the other. */
static bool all_of_case(ftj_run *run, const ftj_str *s, bool upper)
{
    bool any = false;
    s = ftj_flat(run, s);
    for (size_t at = 0; at < s->n;) {
        uint32_t c = ftj_next_char(s, &at);
        if (ftj_char_title(c) || (upper ? ftj_char_lower(c) : ftj_char_upper(c))) return false;
        any = any || (upper ? ftj_char_upper(c) : ftj_char_lower(c));
    }
    return any;
}

static ftj_val t_lower(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    return ftj_bool(all_of_case(run, ftj_to_str(run, self), false));
}

static ftj_val t_upper(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    return ftj_bool(all_of_case(run, ftj_to_str(run, self), true));
}

/* Identity; for values without one, as small numbers and strings, sameness of type and value. */
static ftj_val t_sameas(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    if (self.type != a[0].type) return ftj_bool(false);
    bool object = self.type >= FTJ_LIST && self.type != FTJ_METHOD;
    return ftj_bool(object ? self.d == a[0].d : ftj_equal(run, self, a[0]));
}

static ftj_val t_in(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    return ftj_bool(ftj_contains(run, self, a[0]));
}

static ftj_val t_filter(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    ftj_need_hash(run, self);
    const ftj_str *s = self.type == FTJ_STR ? ftj_flat(run, self.s) : NULL;
    return ftj_bool(s && ftj_find_filter(s->p, s->n));
}

static ftj_val t_test(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    ftj_need_hash(run, self);
    const ftj_str *s = self.type == FTJ_STR ? ftj_flat(run, self.s) : NULL;
    return ftj_bool(s && ftj_find(ftj_tests, s->p, s->n));
}

static ftj_val t_eq(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    return ftj_bool(ftj_equal(run, self, a[0]));
}

static ftj_val t_ne(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    return ftj_bool(!ftj_equal(run, self, a[0]));
}

static ftj_val t_lt(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    return ftj_bool(ftj_order(run, FTJ_LT, self, a[0]));
}

static ftj_val t_le(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    return ftj_bool(ftj_order(run, FTJ_LE, self, a[0]));
}

static ftj_val t_gt(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    return ftj_bool(ftj_order(run, FTJ_GT, self, a[0]));
}

static ftj_val t_ge(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    return ftj_bool(ftj_order(run, FTJ_GE, self, a[0]));
}

const ftj_builtin ftj_tests[] = {
    { "defined", t_defined, "", 0 }, { "undefined", t_undefined, "", 0 },
    { "none", t_none, "", 0 }, { "boolean", t_boolean, "", 0 },
    { "true", t_true, "", 0 }, { "false", t_false, "", 0 },
    { "integer", t_integer, "", 0 }, { "float", t_float, "", 0 },
    { "number", t_number, "", 0 }, { "string", t_string, "", 0 },
    { "mapping", t_mapping, "", 0 }, { "iterable", t_iterable, "", 0 },
    { "sequence", t_sequence, "", 0 }, { "callable", t_callable, "", 0 },
    { "escaped", t_escaped, "", 0 }, { "odd", t_odd, "", 0 },
    { "even", t_even, "", 0 }, { "divisibleby", t_divisibleby, "num", 1 },
    { "lower", t_lower, "", 0 }, { "upper", t_upper, "", 0 },
    { "sameas", t_sameas, "other", 1 }, { "in", t_in, "seq", 1 },
    { "filter", t_filter, "", 0 }, { "test", t_test, "", 0 },
    { "==", t_eq, "/b", 1 }, { "eq", t_eq, "/b", 1 }, { "equalto", t_eq, "/b", 1 },
    { "!=", t_ne, "/b", 1 }, { "ne", t_ne, "/b", 1 },
    { "<", t_lt, "/b", 1 }, { "lt", t_lt, "/b", 1 }, { "lessthan", t_lt, "/b", 1 },
    { "<=", t_le, "/b", 1 }, { "le", t_le, "/b", 1 },
    { ">", t_gt, "/b", 1 }, { "gt", t_gt, "/b", 1 }, { "greaterthan", t_gt, "/b", 1 },
    { ">=", t_ge, "/b", 1 }, { "ge", t_ge, "/b", 1 },
    { 0 },
};
