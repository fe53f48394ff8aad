/* spool.c -- see spool.h. */
#include "core/base/spool.h"
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include "core/base/file.h"

enum { PIECE = 1 << 20 };

/* A file in dir that has no name and goes with its descriptor; -1 with errno. */
static int nameless(const char *dir)
{
    char path[4096];
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)) return fd;
    if (ft_path_join(path, sizeof path, dir, ".spool-XXXXXX", NULL)) return -1;
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0) unlink(path);
    return fd;
}

static int spill(ft_spool *s, const char *dir, ft_err *e)
{
    if (!s->spilled && (s->fd = nameless(dir)) < 0)
        return ft_errf(e, FT_EIO, "cannot make a file in %s: %s", dir, ft_errno_text(errno));
    for (size_t at = 0; at < s->pending.n;) {
        ssize_t k = pwrite(s->fd, s->pending.p + at, s->pending.n - at, (off_t)s->spilled);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) {
            int code = ft_errf(e, FT_EIO, "cannot write a file in %s: %s", dir,
                               ft_errno_text(errno));
            if (!s->spilled) close(s->fd);
            return code;
        }
        at += (size_t)k;
        s->spilled += (uint64_t)k;
    }
    s->pending.n = 0;
    return 0;
}

int ft_spool_add(ft_spool *s, const char *dir, const void *p, size_t n, ft_err *e)
{
    ft_buf_add(&s->pending, p, n);
    if (s->pending.oom) return ft_errf(e, FT_ENOMEM, "out of memory for %zu bytes", n);
    s->n += n;
    return s->pending.n > PIECE ? spill(s, dir, e) : 0;
}

/* Exactly n bytes of the file from `at` on. */
static int read_back(const ft_spool *s, char *p, size_t n, uint64_t at, ft_err *e)
{
    while (n) {
        ssize_t k = pread(s->fd, p, n, (off_t)at);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0)
            return ft_errf(e, FT_EIO, "cannot read a file back: %s",
                           k ? ft_errno_text(errno) : "it has become shorter");
        p += k;
        n -= (size_t)k;
        at += (uint64_t)k;
    }
    return 0;
}

int ft_spool_each(ft_spool *s, size_t unit, int (*fn)(void *ctx, char *p, size_t n, ft_err *e),
                  void *ctx, ft_err *e)
{
    size_t most = unit < PIECE ? PIECE / unit * unit : unit;
    char *piece = malloc(most);
    int code = piece ? 0 : ft_errf(e, FT_ENOMEM, "out of memory for %zu bytes", most);
    for (uint64_t at = 0; at < s->n && !code;) {
        size_t n = s->n - at < most ? (size_t)(s->n - at) : most, filed = 0;
        if (at < s->spilled) filed = s->spilled - at < n ? (size_t)(s->spilled - at) : n;
        if (filed) code = read_back(s, piece, filed, at, e);
        if (filed < n) memcpy(piece + filed, s->pending.p + (at + filed - s->spilled), n - filed);
        if (!code) code = fn(ctx, piece, n, e);
        at += n;
    }
    free(piece);
    return code;
}

static int append(void *ctx, char *p, size_t n, ft_err *e)
{
    ft_buf *out = ctx;
    ft_buf_add(out, p, n);
    return out->oom ? ft_errf(e, FT_ENOMEM, "out of memory for %zu bytes", out->n + n) : 0;
}

int ft_spool_all(ft_spool *s, ft_buf *out, ft_err *e)
{
    return ft_spool_each(s, 1, append, out, e);
}

void ft_spool_free(ft_spool *s)
{
    if (s->spilled) close(s->fd);
    ft_buf_free(&s->pending);
    *s = (ft_spool){ .n = 0 };
}
