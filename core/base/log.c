/* log.c -- see log.h. */
#include "core/base/log.h"
#include <stdlib.h>
#include <unistd.h>
#include "ft/buf.h"

void ft_log_init(ft_log *l, FILE *to)
{
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
    *l = (ft_log){ .to = to, .min = FT_INFO, .terminal = isatty(fileno(to)) };
    if (term && !strcmp(term, "dumb")) l->terminal = false;
    l->color = l->terminal && !(no_color && *no_color);
    pthread_mutex_init(&l->lock, NULL);
}

void ft_log_clear_bar(ft_log *l)
{
    if (l->bar) fputs("\r\033[K", l->to); /* to the line's start, and clear to its end */
    l->bar = false;
}

/* The text is put together before the lock is taken, and written in one go. */
void ft_log_vline(ft_log *l, ft_level level, const char *who, const char *fmt, va_list ap)
{
    static const char *const names[] = { "debug: ", "", "warning: " };
    static const char *const colors[] = { "\033[2m", "", "\033[33m" };
    ft_buf text = { 0 };
    ft_buf_puts(&text, names[level]);
    if (who) ft_buf_printf(&text, "%s: ", who);
    ft_buf_vprintf(&text, fmt, ap);
    const char *s = text.p ? text.p : "out of memory";
    bool colored = l->color && level != FT_INFO;
    pthread_mutex_lock(&l->lock);
    if (level >= l->min) {
        ft_log_clear_bar(l);
        fprintf(l->to, "%s%s%s\n", colored ? colors[level] : "", s, colored ? "\033[0m" : "");
        fflush(l->to);
    }
    pthread_mutex_unlock(&l->lock);
    ft_buf_free(&text);
}

void ft_log_line(ft_log *l, ft_level level, const char *who, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    ft_log_vline(l, level, who, fmt, ap);
    va_end(ap);
}

void ft_log_close(ft_log *l)
{
    pthread_mutex_destroy(&l->lock);
}
