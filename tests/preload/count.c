/* count.c -- counts allocations between two steps of a training run (test_step.c, LD_PRELOAD).
 *
 * A step has written its last line with the "peak_bytes" of timing.jsonl, and the next is over when
 * its "grad_norm" goes to metrics.jsonl.  For each such stretch a line "step allocations" is
 * appended to the file FT_COUNT_TO.  Calls are passed on to glibc's own functions. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);

static _Atomic long count;
static long step;

void *malloc(size_t n)
{
    count++;
    return __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
    count++;
    return __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
    count++;
    return __libc_realloc(p, n);
}

void *aligned_alloc(size_t align, size_t n)
{
    count++;
    return __libc_memalign(align, n);
}

int posix_memalign(void **p, size_t align, size_t n)
{
    count++;
    *p = __libc_memalign(align, n);
    return *p ? 0 : ENOMEM;
}

static void report(long allocations)
{
    char line[64];
    const char *to = getenv("FT_COUNT_TO");
    int n = snprintf(line, sizeof line, "%ld %ld\n", ++step, allocations);
    long fd = to ? syscall(SYS_openat, AT_FDCWD, to, O_WRONLY | O_CREAT | O_APPEND, 0600) : -1;
    if (fd < 0) return;
    syscall(SYS_write, fd, line, n);
    syscall(SYS_close, fd);
}

static int has(const void *p, size_t n, const char *word) { return memmem(p, n, word, strlen(word)) != NULL; }

ssize_t write(int fd, const void *p, size_t n)
{
    long before = count;
    if (has(p, n, "\"grad_norm\"")) report(before);
    ssize_t k = syscall(SYS_write, fd, p, n);
    if (has(p, n, "\"peak_bytes\"")) count = 0;
    return k;
}
