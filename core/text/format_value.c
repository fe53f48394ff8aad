/* format_value.c -- one value by a format specification: integers in bases 2, 8, 10 and 16, floats
 * by C's printf (whose %e, %f and %g are Python's), strings cut and padded.  Left out, and refused:
 * a precision without a type for floats, grouping with zero padding, the type n. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "core/text/format.h"

/* Digits of a row's number are data. */
static ftj_piece history(ftj_run *run, ftj_val v)
{
    return (ftj_piece){ .turn = run->turn, .origin = v.origin,
                        .from = v.data ? FT_FROM_DATA : FT_FROM_TEMPLATE };
}

/* n times the fill character. */
static void put_fill(ftj_run *run, ftj_out *out, const ftj_spec *spec, int64_t n)
{
    const ftj_piece *like = ftj_here(run);
    for (; n > 0; n--) ftj_put_char(run, out, spec->fill ? spec->fill : ' ', like);
}

void ftj_put_padded(ftj_run *run, ftj_out *out, const ftj_str *s, const ftj_spec *spec, char align)
{
    if (spec->precision >= 0)
        s = ftj_sub(run, s, 0, ftj_char_offset(run, s, (size_t)spec->precision));
    int64_t more = spec->width - (int64_t)ftj_chars(run, s), left = 0;
    if (more < 0) more = 0;
    if (spec->align) align = spec->align;
    if (align == '>') left = more;
    if (align == '^') left = more / 2;
    put_fill(run, out, spec, left);
    ftj_put_str(run, out, s);
    put_fill(run, out, spec, more - left);
}

/* A number as sign, prefix and digits, padded; '=' pads between sign and digits. */
static void put_number(ftj_run *run, ftj_out *out, ftj_val v, const ftj_spec *spec, bool minus,
                       const char *prefix, const char *digits)
{
    ftj_piece like = history(run, v);
    char head[8];
    char sign = minus ? '-' : spec->sign;
    snprintf(head, sizeof head, "%.*s%s", sign != 0, &sign, prefix);
    ftj_spec pad = *spec;
    pad.precision = -1;
    if (spec->align != '=') {
        const char *text = ftj_printf(run, "%s%s", head, digits);
        ftj_put_padded(run, out, ftj_str_new(run, text, strlen(text), &like), &pad, '>');
        return;
    }
    ftj_put(run, out, head, strlen(head), &like);
    put_fill(run, out, spec, spec->width - (int64_t)(strlen(head) + strlen(digits)));
    ftj_put(run, out, digits, strlen(digits), &like);
}

/* Puts the separator before every third (fourth, for other bases) digit from the right. */
static const char *group_digits(ftj_run *run, const char *digits, const ftj_spec *spec,
                                size_t every)
{
    if (!spec->group) return digits;
    if (spec->align == '=' && spec->fill == '0' && spec->width > 0)
        ftj_fail_code(run, FT_EUNSUP, "format: grouping together with zero padding");
    size_t n = strspn(digits, "0123456789abcdefABCDEF"), rest = strlen(digits) - n, k = 0;
    char *out = ftj_alloc(run, 2 * n + rest + 1);
    for (size_t i = 0; i < n; i++) {
        if (i && (n - i) % every == 0) out[k++] = spec->group;
        out[k++] = digits[i];
    }
    memcpy(out + k, digits + n, rest);
    return out;
}

/* Digits of u, zero-terminated. */
static const char *integer_digits(ftj_run *run, uint64_t u, unsigned base, bool upper)
{
    const char *digit = upper ? "0123456789ABCDEF" : "0123456789abcdef";
    char *end = (char *)ftj_alloc(run, 72) + 70;
    do {
        *--end = digit[u % base];
        u /= base;
    } while (u);
    return end;
}

/* Type b, d, o, x or X; of 64 bits, or longer in base 10. */
static void put_integer(ftj_run *run, ftj_out *out, ftj_val v, const ftj_spec *spec)
{
    char t = spec->type ? spec->type : 'd';
    unsigned base = t == 'x' || t == 'X' ? 16 : t == 'o' ? 8 : t == 'b' ? 2 : 10;
    const char *prefix = !spec->alternate ? "" : t == 'x' ? "0x" : t == 'X' ? "0X" : t == 'o' ? "0o"
                       : t == 'b' ? "0b" : "";
    if (v.type == FTJ_BIG) {
        if (base != 10) ftj_fail_code(run, FT_EUNSUP, "formats an integer beyond 64 bits");
        bool less = v.s->p[0] == '-';
        const char *text = ftj_printf(run, "%.*s", (int)v.s->n - less, v.s->p + less);
        put_number(run, out, v, spec, less, prefix, group_digits(run, text, spec, 3));
        return;
    }
    int64_t i = ftj_int_of(v);
    uint64_t u = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    const char *digits = integer_digits(run, u, base, t == 'X');
    if (spec->precision > (int64_t)strlen(digits)) /* of `%` alone: that many digits */
        digits = ftj_printf(run, "%.*d%s", (int)spec->precision - (int)strlen(digits), 0, digits);
    put_number(run, out, v, spec, i < 0, prefix,
               group_digits(run, digits, spec, base == 10 ? 3 : 4));
}

/* Type e, f, g or %, or repr() without one. */
static void put_float(ftj_run *run, ftj_out *out, ftj_val v, const ftj_spec *spec)
{
    double f = ftj_real_of(v);
    char text[64];
    bool minus = signbit(f) && f == f;
    f = fabs(f);
    const char *digits = text;
    if (!spec->type && spec->precision < 0) {
        ftj_float_text(text, f);
    } else if (!spec->type) {
        ftj_fail_code(run, FT_EUNSUP, "format: a precision without a type (use .%dg or .%df)",
                      (int)spec->precision, (int)spec->precision);
    } else {
        char printf_spec[16];
        bool percent = spec->type == '%';
        int places = spec->precision < 0 ? 6 : (int)spec->precision;
        snprintf(printf_spec, sizeof printf_spec, "%%%s.*%c%s", spec->alternate ? "#" : "",
                 percent ? 'f' : spec->type, percent ? "%%" : "");
        char *room = ftj_alloc(run, FTJ_MAX_WIDTH + 400);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(room, FTJ_MAX_WIDTH + 400, printf_spec, places, percent ? f * 100 : f);
#pragma GCC diagnostic pop
        digits = room;
    }
    put_number(run, out, v, spec, minus, "", group_digits(run, digits, spec, 3));
}

static _Noreturn void unknown_type(ftj_run *run, ftj_val v, char type)
{
    ftj_fail(run, "Unknown format code '%c' for object of type '%s'", type, ftj_type_name(v));
}

static bool is_float_type(char t) { return t && strchr("eEfFgG%", t); }

void ftj_put_formatted(ftj_run *run, ftj_out *out, ftj_val v, const ftj_spec *spec)
{
    char t = spec->type;
    if (spec->width > FTJ_MAX_WIDTH || spec->precision > FTJ_MAX_WIDTH)
        ftj_fail(run, "format: width or precision exceeds %d", FTJ_MAX_WIDTH);
    if (v.type == FTJ_STR) {
        if (t && t != 's') unknown_type(run, v, t);
        if (spec->align == '=')
            ftj_fail(run, "'=' alignment not allowed in string format specifier");
        if (spec->sign) ftj_fail(run, "Sign not allowed in string format specifier");
        if (spec->group) ftj_fail(run, "Cannot specify '%c' with 's'.", spec->group);
        if (spec->alternate)
            ftj_fail(run, "Alternate form (#) not allowed in string format specifier");
        ftj_put_padded(run, out, v.s, spec, '<');
    } else if (v.type == FTJ_FLOAT || (ftj_is_int(v) && is_float_type(t))) {
        if (t && !is_float_type(t)) unknown_type(run, v, t);
        put_float(run, out, v, spec);
    } else if (ftj_is_number(v) && t == 'c' && ftj_is_int(v)) {
        int64_t c = ftj_int_of(v);
        if (c < 0 || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000))
            ftj_fail(run, "%%c arg not in range(0x110000)");
        ftj_piece like = history(run, v);
        ftj_put_char(run, out, (uint32_t)c, &like);
    } else if (ftj_is_number(v)) {
        if (t && !strchr("bdoxX", t)) unknown_type(run, v, t);
        put_integer(run, out, v, spec);
    } else {
        ftj_fail(run, "unsupported format string passed to %s.__format__", ftj_type_name(v));
    }
}
