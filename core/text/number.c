/* number.c -- Python's numbers: reading, writing and reckoning with them.
 *
 * Integers have 64 bits.  Longer ones, as they may stand in a row, are carried along as text (BIG),
 * so that they come out as they went in; reckoning with them is refused.  Floats are written as
 * repr() does: the shortest decimal that reads back the same, with an exponent below 1e-4 and from
 * 1e16 on. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/text/jinja.h"
#include "core/text/unicode.h"

/* ---- writing -------------------------------------------------------------------------------- */

/* Shortest digits of f (no point) and the exponent of the first one. */
static int shortest(double f, char digits[32], int *exponent)
{
    char text[40];
    for (int places = 0; places < 17; places++) {
        snprintf(text, sizeof text, "%.*e", places, f);
        if (strtod(text, NULL) == f) break;
    }
    int n = 0;
    const char *p = text;
    for (; *p && *p != 'e'; p++) {
        if (isdigit((unsigned char)*p)) digits[n++] = *p;
    }
    *exponent = *p ? atoi(p + 1) : 0;
    while (n > 1 && digits[n - 1] == '0') n--;
    digits[n] = 0;
    return n;
}

void ftj_float_text(char out[64], double f)
{
    char digits[32];
    int e;
    if (!isfinite(f)) {
        strcpy(out, isnan(f) ? "nan" : f < 0 ? "-inf" : "inf");
        return;
    }
    const char *sign = signbit(f) ? "-" : "";
    int n = shortest(fabs(f), digits, &e);
    if (e < -4 || e >= 16) {
        snprintf(out, 64, "%s%c%s%.*se%c%02d", sign, digits[0], n > 1 ? "." : "", n - 1, digits + 1,
                 e < 0 ? '-' : '+', abs(e));
    } else if (e < 0) {
        snprintf(out, 64, "%s0.%.*s%s", sign, -e - 1, "000", digits);
    } else if (n <= e + 1) {
        snprintf(out, 64, "%s%s%.*s.0", sign, digits, e + 1 - n, "0000000000000000");
    } else {
        snprintf(out, 64, "%s%.*s.%s", sign, e + 1, digits, digits + e + 1);
    }
}

/* ---- reading -------------------------------------------------------------------------------- */

/* The text without the white space around it and the underscores between digits, in the arena;
 * NULL where an underscore stands elsewhere, and for characters beyond ASCII. */
static char *clean_digits(ftj_run *run, const ftj_str *s)
{
    s = ftj_flat(run, s);
    size_t from = 0, to = s->n, n = 0;
    while (from < to && isspace((unsigned char)s->p[from])) from++;
    while (to > from && isspace((unsigned char)s->p[to - 1])) to--;
    char *out = ftj_alloc(run, to - from + 1);
    for (size_t i = from; i < to; i++) {
        char c = s->p[i];
        if (c == '_') {
            bool between = i > from && i + 1 < to && isalnum((unsigned char)s->p[i - 1]) &&
                           isalnum((unsigned char)s->p[i + 1]);
            if (!between) return NULL;
        } else if (c & 0x80 || c == 0) {
            return NULL;
        } else {
            out[n++] = c;
        }
    }
    return out;
}

/* Value of a digit in bases up to 36; 99 for other characters. */
static int digit_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'z' ? c - 'a' + 10 : 99;
}

/* Skips "0x" and the like when it fits the base; base 0 takes the base from it. */
static const char *skip_prefix(const char *p, int64_t *base)
{
    char c = (char)tolower((unsigned char)p[1]);
    int64_t says = p[0] != '0' ? 0 : c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 0;
    if (says && (*base == 0 || *base == says)) {
        *base = says;
        return p + 2;
    }
    if (*base == 0) *base = 10;
    return p;
}

bool ftj_parse_int(ftj_run *run, const ftj_str *s, int64_t base, ftj_val *out)
{
    const ftj_piece *like = ftj_flat(run, s)->n_piece ? &s->piece[0] : ftj_here(run);
    const char *p = clean_digits(run, s);
    if (!p) return false;
    bool minus = *p == '-', over = false;
    if (*p == '-' || *p == '+') p++;
    p = skip_prefix(p, &base);
    if (!*p) return false;
    int64_t value = 0;
    for (const char *q = p; *q; q++) {
        int d = digit_value(*q);
        if (d >= base) return false;
        over = over || __builtin_mul_overflow(value, base, &value) ||
               __builtin_sub_overflow(value, d, &value); /* kept negative: -2^63 fits */
    }
    if (!over && !minus) over = __builtin_sub_overflow((int64_t)0, value, &value);
    if (!over) {
        *out = ftj_int(value);
        return true;
    }
    if (base != 10)
        ftj_fail_code(run, FT_EUNSUP, "integer of more than 64 bits in base %d", (int)base);
    while (*p == '0') p++;
    const char *digits = ftj_printf(run, "%s%s", minus ? "-" : "", p);
    *out = ftj_of_str(ftj_str_new(run, digits, strlen(digits), like));
    out->type = FTJ_BIG;
    return true;
}

bool ftj_parse_float(ftj_run *run, const ftj_str *s, double *out)
{
    const char *p = clean_digits(run, s);
    char *end;
    if (!p || !*p) return false;
    size_t sign = *p == '-' || *p == '+';
    if (p[sign] == '0' && tolower((unsigned char)p[sign + 1]) == 'x') return false; /* C alone */
    if (strchr(p, '(')) return false;                                                /* nan(…) */
    *out = strtod(p, &end);
    return end != p && !*end;
}

/* ---- reckoning ------------------------------------------------------------------------------ */

static ftj_val integer_arith(ftj_run *run, ftj_op op, int64_t a, int64_t b);

/* The one thing BIG integers cannot do. */
static _Noreturn void too_big(ftj_run *run)
{
    ftj_fail_code(run, FT_EUNSUP, "reckons with integers beyond 64 bits");
}

/* a to the n by squaring, n >= 0. */
static ftj_val integer_power(ftj_run *run, int64_t a, int64_t n)
{
    int64_t r = 1;
    for (; n > 0; n >>= 1) {
        if (n & 1 && __builtin_mul_overflow(r, a, &r)) too_big(run);
        if (n > 1 && __builtin_mul_overflow(a, a, &a)) too_big(run);
    }
    return ftj_int(r);
}

/* pow() with Python's refusals. */
static ftj_val float_power(ftj_run *run, double a, double b)
{
    if (a == 0 && b < 0) ftj_fail(run, "0.0 cannot be raised to a negative power");
    if (a < 0 && b != floor(b) && isfinite(b)) ftj_fail(run, "the power is a complex number");
    double r = pow(a, b);
    if (isinf(r) && isfinite(a) && isfinite(b))
        ftj_fail(run, "(34, 'Numerical result out of range')");
    return ftj_float(r);
}

/* Quotient rounded down and the remainder that goes with it, as float.__divmod__ has them. */
static double float_divmod(double a, double b, double *mod)
{
    double m = fmod(a, b), d = (a - m) / b;
    if (m != 0) {
        if ((b < 0) != (m < 0)) {
            m += b;
            d -= 1;
        }
    } else {
        m = copysign(0, b);
    }
    *mod = m;
    if (d == 0) return copysign(0, a / b);
    double whole = floor(d);
    return d - whole > 0.5 ? whole + 1 : whole;
}

/* Two floats. */
static ftj_val float_arith(ftj_run *run, ftj_op op, double a, double b)
{
    double mod, whole;
    switch (op) {
    case FTJ_ADD: return ftj_float(a + b);
    case FTJ_SUB: return ftj_float(a - b);
    case FTJ_MUL: return ftj_float(a * b);
    case FTJ_POW: return float_power(run, a, b);
    default: break;
    }
    if (b == 0) {
        ftj_fail(run, op == FTJ_DIV ? "float division by zero" : op == FTJ_MOD ? "float modulo"
                                                               : "float floor division by zero");
    }
    if (op == FTJ_DIV) return ftj_float(a / b);
    whole = float_divmod(a, b, &mod);
    return ftj_float(op == FTJ_MOD ? mod : whole);
}

/* /, // and %, of which the last two round down. */
static ftj_val integer_divide(ftj_run *run, ftj_op op, int64_t a, int64_t b)
{
    if (b == 0) {
        ftj_fail(run, op == FTJ_DIV ? "division by zero"
                                    : "integer division or modulo by zero");
    }
    if (op == FTJ_DIV) return ftj_float((double)((long double)a / (long double)b));
    if (b == -1) return op == FTJ_MOD ? ftj_int(0) : integer_arith(run, FTJ_SUB, 0, a);
    int64_t q = a / b, r = a % b;
    if (r && (r < 0) != (b < 0)) {
        r += b;
        q--;
    }
    return ftj_int(op == FTJ_MOD ? r : q);
}

/* Two integers of 64 bits. */
static ftj_val integer_arith(ftj_run *run, ftj_op op, int64_t a, int64_t b)
{
    int64_t r = 0;
    bool over = false;
    switch (op) {
    case FTJ_ADD: over = __builtin_add_overflow(a, b, &r); break;
    case FTJ_SUB: over = __builtin_sub_overflow(a, b, &r); break;
    case FTJ_MUL: over = __builtin_mul_overflow(a, b, &r); break;
    case FTJ_POW:
        return b < 0 ? float_power(run, (double)a, (double)b) : integer_power(run, a, b);
    default: return integer_divide(run, op, a, b);
    }
    if (over) too_big(run);
    return ftj_int(r);
}

ftj_val ftj_arith(ftj_run *run, ftj_op op, ftj_val a, ftj_val b)
{
    if (a.type == FTJ_BIG || b.type == FTJ_BIG) too_big(run);
    if (a.type == FTJ_FLOAT || b.type == FTJ_FLOAT)
        return float_arith(run, op, ftj_real_of(a), ftj_real_of(b));
    return integer_arith(run, op, ftj_int_of(a), ftj_int_of(b));
}

ftj_val ftj_from_float(ftj_run *run, double f)
{
    if (isnan(f)) ftj_fail(run, "cannot convert float NaN to integer");
    if (isinf(f)) ftj_fail(run, "cannot convert float infinity to integer");
    if (fabs(f) < 9.2e18) return ftj_int((int64_t)f);
    const char *digits = ftj_printf(run, "%.0f", f);
    ftj_val v = ftj_text(run, digits);
    v.type = FTJ_BIG;
    return v;
}

/* Rounds to a power of ten above 1, ties to even. */
static ftj_val round_integer(ftj_run *run, int64_t i, int64_t digits)
{
    int64_t unit = 1;
    for (; digits < 0; digits++) {
        if (__builtin_mul_overflow(unit, 10, &unit)) return ftj_int(0);
    }
    int64_t down = integer_divide(run, FTJ_FLOORDIV, i, unit).i, rest = i - down * unit;
    bool up = rest > unit - rest || (rest == unit - rest && down & 1);
    return integer_arith(run, FTJ_MUL, down + up, unit);
}

ftj_val ftj_round(ftj_run *run, ftj_val v, int64_t digits)
{
    if (v.type == FTJ_BIG && digits >= 0) return v;
    if (v.type == FTJ_BIG) too_big(run);
    if (ftj_is_int(v))
        return digits >= 0 ? ftj_int(ftj_int_of(v)) : round_integer(run, ftj_int_of(v), digits);
    if (!isfinite(v.f) || digits > 323) return v;
    if (digits < -308) return ftj_float(v.f * 0);
    char text[700];
    if (digits >= 0) {
        snprintf(text, sizeof text, "%.*f", (int)digits, v.f); /* exact, ties to even */
        return ftj_float(strtod(text, NULL));
    }
    snprintf(text, sizeof text, "%.17e", v.f);
    int64_t exponent = atoi(strchr(text, 'e') + 1), kept = exponent + 1 + digits;
    if (kept < 0) return ftj_float(v.f * 0);
    double ten = pow(10, (double)(exponent + 1));
    if (kept == 0) return ftj_float(copysign(fabs(v.f) > ten / 2 ? ten : 0, v.f));
    snprintf(text, sizeof text, "%.*e", (int)kept - 1, v.f);
    return ftj_float(strtod(text, NULL));
}
