/* clock.h -- seconds that only go forward, for measuring. */
#ifndef FT_CORE_CLOCK_H
#define FT_CORE_CLOCK_H
#include <time.h>

/* Since some fixed moment.  May be called in a signal handler. */
static inline double ft_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
#endif
