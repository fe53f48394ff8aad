/* value.c -- see value.h. */
#include "core/config/value.h"
#include <errno.h>
#include <math.h>
#include <strings.h>
#include "core/base/json.h"

typedef struct {
    bool number, integer; /* follows the grammar; has neither point nor exponent */
    size_t len;           /* bytes of the number */
} shape;

static bool digit(char c) { return c >= '0' && c <= '9'; }

/* The number at the start of s. */
static shape scan(const char *s)
{
    size_t i = s[0] == '+' || s[0] == '-', from = i;
    while (digit(s[i])) i++;
    size_t digits = i - from;
    bool zero_first = digits > 1 && s[from] == '0', integer = true;
    if (s[i] == '.') {
        size_t point = i++;
        while (digit(s[i])) i++;
        digits += i - point - 1;
        integer = false;
    }
    if (digits && (s[i] == 'e' || s[i] == 'E')) {
        size_t e = i + 1;
        if (s[e] == '+' || s[e] == '-') e++;
        if (digit(s[e])) {
            while (digit(s[e])) e++;
            i = e;
            integer = false;
        }
    }
    return (shape){ digits && !zero_first, integer, i };
}

const char *ft_text_to_real(double *out, const char *text)
{
    shape n = scan(text);
    if (!n.number || text[n.len]) return "is not a number";
    double v = strtod(text, NULL);
    if (!isfinite(v)) return "is too large for a number";
    *out = v;
    return NULL;
}

/* Without point and exponent the digits are read as they are; else by way of a double, which is
 * exact up to 2^53. */
const char *ft_text_to_int(int64_t *out, const char *text)
{
    shape n = scan(text);
    if (!n.number || text[n.len]) return "is not an integer";
    if (n.integer) {
        errno = 0;
        long long v = strtoll(text, NULL, 10);
        if (errno) return "is too large for an integer";
        *out = v;
        return NULL;
    }
    double v = strtod(text, NULL);
    if (!(fabs(v) <= 9007199254740992.0)) return "is too large for an integer";
    if (v != floor(v)) return "is not an integer";
    *out = (int64_t)v;
    return NULL;
}

const char *ft_text_to_bool(bool *out, const char *text)
{
    static const char *const yes[] = { "yes", "on", "y", "true", "1" };
    static const char *const no[] = { "no", "off", "n", "false", "0" };
    bool is_true = !strcmp(text, "true");
    if (is_true || !strcmp(text, "false")) {
        *out = is_true;
        return NULL;
    }
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) {
        if (!strcasecmp(text, yes[i])) return "must be true or false; write true";
        if (!strcasecmp(text, no[i])) return "must be true or false; write false";
    }
    return "must be true or false";
}

const char *ft_text_to_bytes(int64_t *out, const char *text)
{
    static const struct { const char *name; double bytes; } units[] = {
        { "", 1 }, { "B", 1 },
        { "KB", 1e3 }, { "MB", 1e6 }, { "GB", 1e9 }, { "TB", 1e12 },
        { "KiB", 0x1p10 }, { "MiB", 0x1p20 }, { "GiB", 0x1p30 }, { "TiB", 0x1p40 },
    };
    shape n = scan(text);
    if (!n.number) return "is not a size; write a number and a unit, such as 600MiB";
    const char *unit = text + n.len;
    while (*unit == ' ') unit++;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (strcmp(unit, units[i].name)) continue;
        double v = strtod(text, NULL) * units[i].bytes;
        if (!(v >= 1 && v <= 0x1p62)) return "is no possible size";
        *out = (int64_t)v;
        return NULL;
    }
    return "has an unknown unit; units are B, KB, MB, GB, TB, KiB, MiB, GiB, TiB";
}

void ft_real_write(ft_buf *out, double v)
{
    ft_buf text = { 0 };
    ft_json_real(&text, v);
    const char *s = text.p ? text.p : "0", *e = strchr(s, 'e');
    size_t mantissa = e ? (size_t)(e - s) : strlen(s);
    ft_buf_add(out, s, mantissa);
    if (!memchr(s, '.', mantissa)) ft_buf_puts(out, ".0");
    ft_buf_puts(out, s + mantissa);
    out->oom |= text.oom;
    ft_buf_free(&text);
}
