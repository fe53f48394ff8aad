/* spool.h -- bytes that are gathered in order and read back once: the first MiB in memory, what is
 * more in a file without a name, so that memory does not grow with them. */
#ifndef FT_CORE_SPOOL_H
#define FT_CORE_SPOOL_H
#include "core/base/err.h"
#include "ft/buf.h"

typedef struct {
    ft_buf pending;
    int fd;          /* valid when `spilled` is not 0 */
    uint64_t n;      /* bytes in all */
    uint64_t spilled; /* of them in the file */
} ft_spool;

/* dir: where the file goes when there has to be one. */
int ft_spool_add(ft_spool *s, const char *dir, const void *p, size_t n, ft_err *e);
/* Calls fn for all bytes in pieces of whole units (but the last, where n is no multiple of
 * unit). */
int ft_spool_each(ft_spool *s, size_t unit, int (*fn)(void *ctx, char *p, size_t n, ft_err *e),
                  void *ctx, ft_err *e);
/* The whole of it, appended to *out. */
int ft_spool_all(ft_spool *s, ft_buf *out, ft_err *e);
void ft_spool_free(ft_spool *s);
#endif
