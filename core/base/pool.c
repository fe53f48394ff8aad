/* pool.c -- see pool.h. */
#include "core/base/pool.h"
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SPIN = 4000 }; /* 20 to 200 microseconds, by processor */

struct ft_pool {
    int n, spin;
    void (*enter)(void);
    pthread_t *thread; /* [n - 1] */
    void (*fn)(void *, int, int64_t, int64_t);
    void *arg;
    int64_t items, chunk;
    _Alignas(64) _Atomic uint32_t turn;   /* grows with every call; odd values are not special */
    _Alignas(64) _Atomic int64_t next;    /* first item not handed out */
    _Alignas(64) _Atomic int32_t running; /* helpers that are not done with this turn */
    _Alignas(64) _Atomic int32_t asleep;  /* threads that wait in the kernel, or are about to */
    _Atomic bool stop;
};

typedef struct { ft_pool *pool; int index; } worker;

/* The kernel is asked to wake threads only when there may be some: a thread counts itself before it
 * looks at *at for the last time, who changes *at looks at the count afterwards. */
static void futex_wait(ft_pool *p, _Atomic uint32_t *at, uint32_t value)
{
    atomic_fetch_add(&p->asleep, 1);
    syscall(SYS_futex, at, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
    atomic_fetch_sub(&p->asleep, 1);
}

static void futex_wake_all(ft_pool *p, _Atomic uint32_t *at)
{
    if (atomic_load(&p->asleep)) syscall(SYS_futex, at, FUTEX_WAKE_PRIVATE, 1 << 30, NULL, NULL, 0);
}

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void work(ft_pool *p, int thread)
{
    for (;;) {
        int64_t begin = atomic_fetch_add_explicit(&p->next, p->chunk, memory_order_relaxed);
        if (begin >= p->items) return;
        int64_t end = begin + p->chunk < p->items ? begin + p->chunk : p->items;
        p->fn(p->arg, thread, begin, end);
    }
}

static void *run_worker(void *arg)
{
    worker w = *(worker *)arg;
    ft_pool *p = w.pool;
    uint32_t seen = 0;
    free(arg);
    if (p->enter) p->enter();
    for (;;) {
        for (int i = 0; i < p->spin && atomic_load_explicit(&p->turn, memory_order_acquire) == seen;
             i++)
            relax();
        while (atomic_load_explicit(&p->turn, memory_order_acquire) == seen)
            futex_wait(p, &p->turn, seen);
        seen++;
        if (atomic_load(&p->stop)) return NULL;
        work(p, w.index);
        if (atomic_fetch_sub(&p->running, 1) == 1)
            futex_wake_all(p, (_Atomic uint32_t *)(void *)&p->running);
    }
}

static void start_turn(ft_pool *p)
{
    atomic_store_explicit(&p->running, p->n - 1, memory_order_relaxed);
    atomic_fetch_add(&p->turn, 1);
    futex_wake_all(p, &p->turn);
}

void ft_pool_run(ft_pool *p, int64_t items, void (*fn)(void *, int, int64_t, int64_t), void *arg)
{
    if (items <= 0) return;
    if (p->n == 1 || items == 1) {
        fn(arg, 0, 0, items);
        return;
    }
    p->fn = fn;
    p->arg = arg;
    p->items = items;
    p->chunk = items / (p->n * 8) > 1 ? items / (p->n * 8) : 1;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    start_turn(p);
    work(p, 0);
    for (int i = 0; i < p->spin && atomic_load_explicit(&p->running, memory_order_acquire); i++)
        relax();
    for (int32_t left; (left = atomic_load_explicit(&p->running, memory_order_acquire)) != 0;)
        futex_wait(p, (_Atomic uint32_t *)(void *)&p->running, (uint32_t)left);
}

int ft_cpu_count(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int)n : 1;
}

/* Starts helper i; signals stay with the main thread. */
static int start_worker(ft_pool *p, int i)
{
    sigset_t all, old;
    worker *w = malloc(sizeof *w);
    if (!w) return ENOMEM;
    *w = (worker){ p, i };
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int code = pthread_create(&p->thread[i - 1], NULL, run_worker, w);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (code) free(w);
    return code;
}

ft_pool *ft_pool_new(int n, void (*enter)(void), ft_err *e)
{
    ft_pool *p = NULL;
    if (n < 1) n = 1;
    if (posix_memalign((void **)&p, 64, sizeof *p)) {
        ft_errf(e, FT_ENOMEM, "out of memory for %d threads", n);
        return NULL;
    }
    *p = (ft_pool){ .n = n, .enter = enter, .spin = n <= ft_cpu_count() ? SPIN : 0 };
    p->thread = calloc((size_t)n, sizeof *p->thread);
    int made = 1, code = p->thread ? 0 : ENOMEM;
    for (; !code && made < n; made += !code) code = start_worker(p, made);
    if (!code) {
        if (enter) enter();
        return p;
    }
    p->n = made;
    ft_pool_free(p);
    ft_errf(e, FT_ENOMEM, "cannot start %d threads: %s", n, ft_errno_text(code));
    return NULL;
}

void ft_pool_free(ft_pool *p)
{
    if (!p) return;
    atomic_store(&p->stop, true);
    if (p->thread && p->n > 1) start_turn(p);
    for (int i = 1; p->thread && i < p->n; i++) pthread_join(p->thread[i - 1], NULL);
    free(p->thread);
    free(p);
}

int ft_pool_threads(const ft_pool *p) { return p->n; }
