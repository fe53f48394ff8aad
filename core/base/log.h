/* log.h -- lines for the user's terminal (standard error).
 *
 * Standard output belongs to results.  Lines are written whole, from any thread.  While a progress
 * bar stands on the terminal's last line (progress.h), a line takes its place and the bar is drawn
 * again below. */
#ifndef FT_CORE_LOG_H
#define FT_CORE_LOG_H
#include <pthread.h>
#include <stdio.h>
#include "core/base/err.h"

typedef struct ft_log {
    pthread_mutex_t lock;
    FILE *to;      /* usually stderr */
    ft_level min;  /* what is below is not shown */
    bool terminal; /* `to` is one: bars are drawn */
    bool color;    /* a terminal, and NO_COLOR is not set */
    bool bar;      /* a bar stands on the last line */
} ft_log;

/* A log to an open stream, FT_INFO and above. */
void ft_log_init(ft_log *l, FILE *to);
/* One line; who ("lora") stands before it unless NULL.  [any thread] */
void ft_log_line(ft_log *l, ft_level level, const char *who, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void ft_log_vline(ft_log *l, ft_level level, const char *who, const char *fmt, va_list ap)
    __attribute__((format(printf, 4, 0)));
/* Not the stream. */
void ft_log_close(ft_log *l);

/* With l->lock held: takes the bar off the last line. */
void ft_log_clear_bar(ft_log *l);
#endif
