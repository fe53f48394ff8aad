/* metrics.c -- see metrics.h.  A line is written with one write, so that a killed run leaves whole
 * lines but for the last. */
#include "core/run/metrics.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/base/file.h"
#include "core/base/json.h"

/* A finished stage's artifact may be another name of the same file: what is written from here on
 * goes into a copy, so that an artifact never changes. */
static int unshare(const char *path, int64_t keep, ft_err *e)
{
    struct stat st;
    ft_buf b = { 0 };
    if (stat(path, &st) < 0 || st.st_nlink < 2) return 0;
    int code = ft_file_read(&b, path, (size_t)1 << 30, e);
    if (!code) code = ft_file_write(path, b.p, b.n < (size_t)keep ? b.n : (size_t)keep, e);
    ft_buf_free(&b);
    return code;
}

static int open_at(const char *dir, const char *name, int64_t keep, ft_err *e)
{
    char path[4096];
    if (ft_path_join(path, sizeof path, dir, name, e) || unshare(path, keep, e)) return -1;
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd >= 0 && ftruncate(fd, keep) == 0 && lseek(fd, keep, SEEK_SET) == keep) return fd;
    ft_errf(e, FT_EIO, "cannot open %s: %s", path, ft_errno_text(errno));
    if (fd >= 0) close(fd);
    return -1;
}

int ft_metrics_open(ft_metrics *m, const char *dir, int64_t metrics_bytes, int64_t timing_bytes,
                    ft_err *e)
{
    *m = (ft_metrics){ .metrics = -1, .timing = -1, .metrics_bytes = metrics_bytes,
                       .timing_bytes = timing_bytes };
    m->metrics = open_at(dir, "metrics.jsonl", metrics_bytes, e);
    if (m->metrics >= 0) m->timing = open_at(dir, "timing.jsonl", timing_bytes, e);
    if (m->timing >= 0) return 0;
    ft_metrics_close(m);
    return FT_EIO;
}

void ft_metrics_close(ft_metrics *m)
{
    if (m->metrics >= 0) close(m->metrics);
    if (m->timing >= 0) close(m->timing);
    m->metrics = m->timing = -1;
    ft_buf_free(&m->line);
}

int ft_metrics_sync(ft_metrics *m, ft_err *e)
{
    if (fsync(m->metrics) == 0 && fsync(m->timing) == 0) return 0;
    return ft_errf(e, FT_EIO, "cannot write metrics to disk: %s", ft_errno_text(errno));
}

static void put_number(ft_buf *b, const char *key, double v)
{
    ft_buf_printf(b, "%s\"%s\": ", b->n > 1 ? ", " : "", key);
    if (isfinite(v)) ft_json_real(b, v);
    else ft_buf_puts(b, isnan(v) ? "\"nan\"" : v > 0 ? "\"inf\"" : "\"-inf\"");
}

static void put_int(ft_buf *b, const char *key, int64_t v)
{
    ft_buf_printf(b, "%s\"%s\": %lld", b->n > 1 ? ", " : "", key, (long long)v);
}

/* The line, begun anew. */
static ft_buf *begin_line(ft_metrics *m)
{
    m->line.n = 0;
    ft_buf_putc(&m->line, '{');
    return &m->line;
}

/* Ends the object and appends it to the file. */
static int write_line(int fd, int64_t *bytes, ft_buf *b, ft_err *e)
{
    ft_buf_puts(b, "}\n");
    size_t at = 0;
    int code = b->oom ? ft_errf(e, FT_ENOMEM, "out of memory for a line of metrics") : 0;
    while (!code && at < b->n) {
        ssize_t k = write(fd, b->p + at, b->n - at);
        if (k < 0 && errno != EINTR)
            code = ft_errf(e, FT_EIO, "cannot write metrics: %s", ft_errno_text(errno));
        if (k > 0) at += (size_t)k;
    }
    *bytes += (int64_t)b->n;
    return code;
}

int ft_metrics_step(ft_metrics *m, const ft_metrics_row *r, ft_err *e)
{
    ft_buf *b = begin_line(m);
    put_int(b, "step", r->step);
    put_number(b, "epoch", r->epoch);
    put_number(b, "loss", r->loss);
    put_number(b, "accuracy", r->accuracy);
    put_number(b, "grad_norm", r->grad_norm);
    put_number(b, "learning_rate", r->learning_rate);
    put_int(b, "tokens", r->tokens);
    return write_line(m->metrics, &m->metrics_bytes, b, e);
}

int ft_metrics_eval(ft_metrics *m, int64_t step, double loss, double accuracy, ft_err *e)
{
    ft_buf *b = begin_line(m);
    put_int(b, "step", step);
    put_number(b, "eval_loss", loss);
    put_number(b, "eval_perplexity", exp(loss));
    put_number(b, "eval_accuracy", accuracy);
    return write_line(m->metrics, &m->metrics_bytes, b, e);
}

int ft_metrics_time(ft_metrics *m, int64_t step, double seconds, double tokens_per_s,
                    uint64_t peak_bytes, ft_err *e)
{
    ft_buf *b = begin_line(m);
    put_int(b, "step", step);
    put_number(b, "seconds", seconds);
    put_number(b, "tokens_per_s", tokens_per_s);
    put_int(b, "peak_bytes", (int64_t)peak_bytes);
    return write_line(m->timing, &m->timing_bytes, b, e);
}
