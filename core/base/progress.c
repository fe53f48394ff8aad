/* progress.c -- see progress.h. */
#include "core/base/progress.h"
#include "core/base/clock.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <sys/ioctl.h>

static const double REDRAW = 0.1, LINE_EVERY = 10, SAMPLE = 0.05, MEMORY = 10; /* seconds */
enum { BAR_MAX = 30, BAR_MIN = 8 };

void ft_progress_start(ft_progress *p, ft_log *log, const char *label)
{
    *p = (ft_progress){ .log = log, .label = label, .now = ft_seconds, .drawn = -1, .speed = -1 };
    p->started = p->seen_at = p->now();
}

/* h:mm:ss or m:ss */
static void write_time(ft_buf *out, double seconds)
{
    int64_t s = seconds < 1e8 ? (int64_t)(seconds + 0.5) : 99999999;
    if (s >= 3600) ft_buf_printf(out, "%" PRId64 ":%02d:%02d", s / 3600, (int)(s / 60 % 60),
                                 (int)(s % 60));
    else ft_buf_printf(out, "%d:%02d", (int)(s / 60), (int)(s % 60));
}

/* "  12.3 rows/s", with about three digits. */
static void write_speed(ft_buf *out, double speed, const char *unit)
{
    ft_buf_printf(out, "  %.*f %s/s", speed < 10 ? 2 : speed < 100 ? 1 : 0, speed, unit);
}

/* What stands behind the bar. */
static void write_numbers(ft_buf *out, const ft_progress *p)
{
    ft_buf_printf(out, "%" PRId64, p->done);
    if (p->total > 0) ft_buf_printf(out, "/%" PRId64, p->total);
    ft_buf_printf(out, " %s", p->unit);
    if (p->speed > 0) write_speed(out, p->speed, p->unit);
    if (p->speed > 0 && p->total > p->done) {
        ft_buf_puts(out, "  ETA ");
        write_time(out, (double)(p->total - p->done) / p->speed);
    }
    if (*p->note) ft_buf_printf(out, "  %s", p->note);
}

/* " [=====>    ]" with `width` places between the brackets. */
static void write_bar(ft_buf *out, const ft_progress *p, int width)
{
    double part = p->done >= p->total ? 1 : p->done > 0 ? (double)p->done / (double)p->total : 0;
    int full = (int)(part * width);
    ft_buf_puts(out, " [");
    for (int i = 0; i < width; i++) ft_buf_putc(out, i < full ? '=' : i == full ? '>' : ' ');
    ft_buf_putc(out, ']');
}

/* The numbers come first: what room they leave is the bar's, if it is enough for one. */
void ft_progress_write(ft_buf *out, const ft_progress *p, int columns)
{
    ft_buf numbers = { 0 };
    size_t start = out->n;
    write_numbers(&numbers, p);
    ft_buf_puts(out, p->label);
    int left = columns - 1 - (int)(out->n - start) - 4 - (int)numbers.n;
    if (columns && p->total > 0 && left >= BAR_MIN)
        write_bar(out, p, left < BAR_MAX ? left : BAR_MAX);
    ft_buf_putc(out, ' ');
    ft_buf_add(out, numbers.p ? numbers.p : "", numbers.n);
    /* The last column stays empty: writing into it would scroll some terminals. */
    if (columns && out->n - start > (size_t)columns - 1 && !out->oom) {
        out->n = start + (size_t)columns - 1;
        out->p[out->n] = 0;
    }
    out->oom |= numbers.oom;
    ft_buf_free(&numbers);
}

/* Asked anew at every drawing, so that a resized window needs no signal handler. */
static int columns_of(const ft_log *l)
{
    struct winsize w;
    if (ioctl(fileno(l->to), TIOCGWINSZ, &w) == 0 && w.ws_col > 1) return w.ws_col;
    const char *text = getenv("COLUMNS");
    long n = text ? strtol(text, NULL, 10) : 0;
    return n > 1 && n < 10000 ? (int)n : 80;
}

/* Shows the line as it stands: in place of the old bar, or as a line of the log. */
static void draw(ft_progress *p, double now)
{
    ft_buf line = { 0 };
    ft_log *l = p->log;
    p->drawn = now;
    p->shown = true;
    ft_progress_write(&line, p, l->terminal ? columns_of(l) : 0);
    if (l->terminal && line.p) {
        pthread_mutex_lock(&l->lock);
        ft_log_clear_bar(l);
        fputs(line.p, l->to);
        fflush(l->to);
        l->bar = true;
        pthread_mutex_unlock(&l->lock);
    } else if (line.p) {
        ft_log_line(l, FT_INFO, NULL, "%s", line.p);
    }
    ft_buf_free(&line);
}

/* Exponential average with a memory of about MEMORY seconds; at first, the plain average. */
static void measure(ft_progress *p, double now)
{
    double dt = now - p->seen_at, age = now - p->started;
    if (dt < SAMPLE) return;
    double speed = (double)(p->done - p->seen) / dt;
    double weight = age < MEMORY ? dt / age : 1 - exp(-dt / MEMORY);
    p->speed = p->speed < 0 ? speed : p->speed + weight * (speed - p->speed);
    p->seen = p->done;
    p->seen_at = now;
}

/* Another unit, or fewer done than before, means that other work has begun: speed and time start
 * anew. */
void ft_progress_update(ft_progress *p, const char *unit, int64_t done, int64_t total)
{
    double now = p->now();
    if (strcmp(unit, p->unit) || done < p->done) { /* another kind of work begins */
        snprintf(p->unit, sizeof p->unit, "%s", unit);
        p->started = p->seen_at = now;
        p->seen = done;
        p->speed = -1;
        p->drawn = p->log->terminal ? -1 : now;
    }
    p->done = done;
    p->total = total;
    measure(p, now);
    double every = p->log->terminal ? REDRAW : LINE_EVERY;
    if (p->drawn < 0 || now - p->drawn >= every) draw(p, now);
}

void ft_progress_note(ft_progress *p, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(p->note, sizeof p->note, fmt, ap);
    va_end(ap);
}

void ft_progress_end(ft_progress *p)
{
    pthread_mutex_lock(&p->log->lock);
    ft_log_clear_bar(p->log);
    fflush(p->log->to);
    pthread_mutex_unlock(&p->log->lock);
    if (!p->shown) return;
    ft_buf line = { 0 };
    double seconds = p->now() - p->started;
    ft_buf_printf(&line, "%" PRId64 " %s in ", p->done, p->unit);
    write_time(&line, seconds);
    if (seconds > 0) write_speed(&line, (double)p->done / seconds, p->unit);
    if (*p->note) ft_buf_printf(&line, "  %s", p->note);
    ft_log_line(p->log, FT_INFO, p->label, "%s", line.p ? line.p : "done");
    ft_buf_free(&line);
    p->shown = false;
}
