/* err.c -- see err.h. */
#include "core/base/err.h"
#include <stdio.h>
#include <string.h>

/* Names from files stand in messages, and messages reach a terminal: no escape sequences. */
static void blank_controls(char *s)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f) *s = '?';
    }
}

int ft_verrf(ft_err *e, int code, const char *fmt, va_list ap)
{
    if (e && !e->code) {
        e->code = code;
        vsnprintf(e->msg, sizeof e->msg, fmt, ap);
        blank_controls(e->msg);
    }
    return code;
}

int ft_errf(ft_err *e, int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    ft_verrf(e, code, fmt, ap);
    va_end(ap);
    return code;
}

int ft_err_prefix(ft_err *e, const char *fmt, ...)
{
    if (!e || !e->code) return 0;
    char old[sizeof e->msg];
    memcpy(old, e->msg, sizeof old);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(e->msg, sizeof e->msg, fmt, ap);
    va_end(ap);
    size_t at = n < 0 ? 0 : (size_t)n < sizeof e->msg ? (size_t)n : sizeof e->msg - 1;
    snprintf(e->msg + at, sizeof e->msg - at, ": %.2000s", old);
    return e->code;
}

const char *ft_errno_text(int errnum)
{
    static _Thread_local char text[128];
    return strerror_r(errnum, text, sizeof text); /* GNU: may return a static string instead */
}
