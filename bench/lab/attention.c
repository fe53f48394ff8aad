/* attention.c -- how fast attention and attention_dx run, as a share of what `linear` reaches.
 *
 *   make && gcc -O2 -D_GNU_SOURCE -Iinclude bench/lab/attention.c -o build/bench-attention -ldl -lm
 *   build/bench-attention [VARIANT [THREADS]]      (default: the best there is, 1 thread)
 *
 * Prints GFLOP/s, best of several runs: forward 4, backward 10 operations for each query, key that it
 * sees, and feature of a head; linear 2 m n k, on 2048 x 576 x 576.  Numbers are random. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "ft/kernel.h"

enum { RUNS = 15, MAX_THREADS = 64 };

static const ft_backend *backend;
static const ft_kernel *kernels;
static size_t n_kernels;
static int threads = 1;

typedef struct { const ft_kernel *k; ft_call *c; _Atomic int64_t next; int64_t items; } job;

static void *work(void *arg)
{
    job *j = arg;
    size_t bytes = j->k->scratch ? j->k->scratch(j->c) : 0;
    void *scratch = aligned_alloc(64, (bytes + 127) / 64 * 64);
    backend->enter();
    for (int64_t i; (i = j->next++) < j->items;) j->k->run(j->c, i, i + 1, scratch);
    free(scratch);
    return NULL;
}

/* One thread: processor time, so that others on the machine disturb less. */
static double now(void)
{
    struct timespec t;
    clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double run_once(const ft_kernel *k, ft_call *c)
{
    double t = now();
    int64_t rounds = k->rounds ? k->rounds(c) : 1;
    for (c->round = 0; c->round < rounds; c->round++) {
        job j = { .k = k, .c = c, .items = k->items(c) };
        pthread_t other[MAX_THREADS];
        for (int i = 1; i < threads; i++) pthread_create(&other[i], NULL, work, &j);
        work(&j);
        for (int i = 1; i < threads; i++) pthread_join(other[i], NULL);
    }
    return now() - t;
}

/* GFLOP/s of the op at its best. */
static double rate(const char *op, ft_dtype t, ft_call *c, double flop)
{
    const ft_kernel *k = NULL;
    for (size_t i = 0; i < n_kernels; i++) {
        if (!strcmp(kernels[i].op, op) && kernels[i].dtype == t) k = &kernels[i];
    }
    if (!k) return 0;
    c->threads = threads;
    c->shared = k->shared ? aligned_alloc(64, (k->shared(c) + 127) / 64 * 64) : NULL;
    double best = 1e9;
    for (int i = 0; i < RUNS; i++) {
        double s = run_once(k, c);
        if (s < best) best = s;
    }
    free(c->shared);
    return flop / best * 1e-9;
}

/* A matrix of random numbers in (-1, 1), its rows counted by axis. */
static ft_arg matrix(int64_t rows, int64_t cols, ft_dtype t, uint8_t axis)
{
    static uint32_t x = 1;
    ft_arg a = { .rows = rows, .cols = cols, .ld = cols, .dtype = t, .axis = axis };
    a.data = aligned_alloc(64, ((size_t)(rows * cols) * 4 + 127) / 64 * 64);
    for (int64_t i = 0; i < rows * cols; i++) {
        x = x * 1664525u + 1013904223u;
        float f = (float)(int32_t)x * 0x1p-31f;
        uint32_t u;
        memcpy(&u, &f, 4);
        if (t == FT_BF16) ((uint16_t *)a.data)[i] = (uint16_t)(u >> 16);
        else ((float *)a.data)[i] = f;
    }
    return a;
}

static double rate_linear(ft_dtype t)
{
    ft_batch b = { .n_tokens = 2048 };
    ft_arg in[2] = { matrix(2048, 576, t, 1), matrix(576, 576, t, 0) }, out = matrix(2048, 576, t, 1);
    ft_call c = { .in = in, .out = &out, .n_in = 2, .n_out = 1, .attr = (double[]){ 1 }, .batch = &b };
    double r = rate("linear", t, &c, 2.0 * 2048 * 576 * 576);
    free(in[0].data), free(in[1].data), free(out.data);
    return r;
}

typedef struct { int64_t docs, length, heads, kv, hd, window; } shape;

static void measure(const shape *s, ft_dtype t, double gemm)
{
    int64_t n = s->docs * s->length, q = s->heads * s->hd, kv = s->kv * s->hd;
    int32_t *start = malloc(((size_t)s->docs + 1) * 4);
    for (int64_t i = 0; i <= s->docs; i++) start[i] = (int32_t)(i * s->length);
    ft_batch b = { .n_tokens = n, .n_rows = s->docs, .n_docs = s->docs, .row_start = start, .doc_start = start };
    double attr[6] = { (double)s->heads, (double)s->kv, (double)s->window, 0.125, 0, 0 };
    ft_arg x[9] = { matrix(n, q, t, 1), matrix(n, q, t, 1), matrix(n, kv, t, 1), matrix(n, kv, t, 1), matrix(n, q, t, 1),
                    matrix(n, s->heads, FT_F32, 1), matrix(n, q, t, 1), matrix(n, kv, t, 1), matrix(n, kv, t, 1) };
    ft_call f = { .in = x + 1, .out = x + 4, .n_in = 3, .n_out = 2, .attr = attr, .batch = &b };
    ft_call r = { .in = x, .out = x + 6, .n_in = 6, .n_out = 3, .attr = attr, .batch = &b };
    double pairs = 0;
    for (int64_t i = 1; i <= s->length; i++) pairs += (double)(s->window && i > s->window ? s->window : i);
    pairs *= (double)(s->docs * s->heads * s->hd);
    double fast = rate("attention", t, &f, 4 * pairs), back = rate("attention_dx", t, &r, 10 * pairs);
    double both = fast > 0 && back > 0 ? 14 / (4 / fast + 10 / back) : 0;
    printf("%lld x %-5lld heads %lld/%lld dim %-3lld window %-4lld %s  forward %6.1f  backward %6.1f  both %6.1f = %3.0f %% of linear\n",
           (long long)s->docs, (long long)s->length, (long long)s->heads, (long long)s->kv, (long long)s->hd,
           (long long)s->window, t == FT_BF16 ? "bf16" : "fp32", fast, back, both, 100 * both / gemm);
    for (int i = 0; i < 9; i++) free(x[i].data);
    free(start);
}

int main(int argc, char **argv)
{
    static const shape shapes[] = {
        { 4, 512, 9, 3, 64, 0 }, { 1, 4096, 9, 3, 64, 0 }, { 1, 4096, 9, 3, 64, 512 }, { 40, 50, 9, 3, 64, 0 },
        { 4, 512, 32, 8, 128, 0 }, { 4, 512, 4, 1, 256, 0 }, { 4, 512, 16, 16, 16, 0 }, { 4, 512, 12, 12, 80, 0 },
    };
    void *so = dlopen("build/plugins/kernels-cpu.so", RTLD_NOW);
    const ft_plugin *(*entry)(void) = so ? (const ft_plugin *(*)(void))dlsym(so, "ft_plugin_entry_1") : NULL;
    if (!entry) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    backend = entry()->vtable;
    const char *variant = argc > 1 ? argv[1] : backend->variants()[0];
    if (argc > 2) threads = atoi(argv[2]);
    if (threads < 1 || threads > MAX_THREADS) threads = 1;
    kernels = backend->kernels(variant, &n_kernels);
    if (!kernels) {
        fprintf(stderr, "this machine has no %s\n", variant);
        return 1;
    }
    for (int i = 0; i < 2; i++) {
        ft_dtype t = i ? FT_F32 : FT_BF16;
        double gemm = rate_linear(t);
        printf("%s, %d threads, %s: linear %.1f GFLOP/s\n", variant, threads, i ? "fp32" : "bf16", gemm);
        for (size_t j = 0; j < sizeof shapes / sizeof *shapes; j++) measure(&shapes[j], t, gemm);
    }
    return 0;
}
