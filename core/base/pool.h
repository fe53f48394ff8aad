/* pool.h -- the threads.  The host owns them; a kernel is called with ranges of items.
 *
 * Ranges are handed out by a counter, so a slow thread gets fewer: which thread runs an item never
 * changes the results.  Between calls the threads wait: a short while spinning (calls
 * follow each other within microseconds inside a step), then on a futex. */
#ifndef FT_CORE_POOL_H
#define FT_CORE_POOL_H
#include <stdint.h>
#include "core/base/err.h"

typedef struct ft_pool ft_pool;

/* A pool of n threads, the caller's being one of them.  enter, if not NULL, is called once on each
 * (floating-point state).  NULL after an error. */
ft_pool *ft_pool_new(int n, void (*enter)(void), ft_err *e);
void ft_pool_free(ft_pool *);
int ft_pool_threads(const ft_pool *);

/* Calls fn(arg, thread, begin, end) for ranges that cover [0, items), on all threads; returns when
 * every one is done.  thread is in [0, n).  Only from the thread that made the pool. */
void ft_pool_run(ft_pool *, int64_t items,
                 void (*fn)(void *arg, int thread, int64_t begin, int64_t end), void *arg);

/* Processors this process may run on. */
int ft_cpu_count(void);
#endif
