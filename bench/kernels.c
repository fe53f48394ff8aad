/* kernels.c -- what single kernels reach, in this process: matrix products as a share of the most
 * that the registers give, NF4 in bytes a second, and what sums cost whose order does not depend on
 * the number of threads.
 *
 *   kernels BUILD THREADS gemm      {"shape", "dtype", "gflops", "peak", "share"} a line
 *   kernels BUILD THREADS nf4 RUNS  {"quantize_gb_s", "dequantize_gb_s"}: 4096 x 4096 bf16, double
 *   quant
 *   kernels BUILD THREADS split     {"op", "work", "time"} a line: how much more work the split for
 *   THREADS is than the one for one thread, both done by one; and how much longer than a THREADS-th
 *   of that it takes.  The first is the price of a fixed order, the second that of all else, too.
 *
 * peak is measured: accumulators in registers are multiplied and added without any load, fp32 by
 * fused multiply-add, bf16 by that or by vdpbf16ps, whichever is faster.  A product is `linear` of
 * the kernels that a run would take, its panels packed inside of the time.  Medians of turns, each
 * with a peak before and after it.  Bytes of NF4 are those of the bf16 matrix. */
#include <immintrin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/clock.h"
#include "core/base/pool.h"
#include "core/load/instance.h"
#include "core/run/machine.h"
#include "ft/quant.h"

enum { TOKENS = 2048, SIDE = 4096, REPEAT = 15, MOST_RUNS = 64 };

static ft_machine machine;
static ft_registry *registry;

static int stop_with(const ft_err *e)
{
    fprintf(stderr, "kernels: %s\n", e->msg);
    return 1;
}

/* ---- the most that registers give ------------------------------------------------------------ */

typedef struct { void (*run)(void); } peak_job;
enum { TURNS = 1 << 20, TILE = 12 };

/* 12 chains, more than the latency of an addition can hide, in assembler: a compiler would see that
 * their results are wanted by nobody. */
#define TWELVE(op, a, b, v)                                                                       \
    op " %%" v a ",%%" v b ",%%" v "0\n" op " %%" v a ",%%" v b ",%%" v "1\n"                      \
    op " %%" v a ",%%" v b ",%%" v "2\n" op " %%" v a ",%%" v b ",%%" v "3\n"                      \
    op " %%" v a ",%%" v b ",%%" v "4\n" op " %%" v a ",%%" v b ",%%" v "5\n"                      \
    op " %%" v a ",%%" v b ",%%" v "6\n" op " %%" v a ",%%" v b ",%%" v "7\n"                      \
    op " %%" v a ",%%" v b ",%%" v "8\n" op " %%" v a ",%%" v b ",%%" v "9\n"                      \
    op " %%" v a ",%%" v b ",%%" v "10\n" op " %%" v a ",%%" v b ",%%" v "11\n"
#define TURN(name, op, v)                                                                         \
    static void name(void)                                                                        \
    {                                                                                             \
        __asm__ volatile("vzeroall" ::: "memory");                                                \
        for (int n = 0; n < TURNS; n++)                                                           \
            __asm__ volatile(TWELVE(op, "14", "15", v)::                                          \
                                 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",         \
                                   "xmm7", "xmm8", "xmm9", "xmm10", "xmm11");                     \
    }
TURN(turn_bf16, "vdpbf16ps", "zmm")
TURN(turn_512, "vfmadd231ps", "zmm")
TURN(turn_256, "vfmadd231ps", "ymm")

static void turn(void *arg, int thread, int64_t begin, int64_t end)
{
    (void)thread, (void)begin, (void)end;
    ((peak_job *)arg)->run();
}

/* GFLOP/s of all threads together, once; pairs: by vdpbf16ps. */
static double peak_by(bool pairs)
{
    bool wide = !strncmp(machine.kernels.variant, "avx512", 6);
    peak_job j = { .run = pairs ? turn_bf16 : wide ? turn_512 : turn_256 };
    double from = ft_seconds();
    ft_pool_run(machine.pool, machine.threads, turn, &j);
    return (pairs ? 4 : 2) * (wide ? 16 : 8) * TILE * (double)TURNS * machine.threads /
           (ft_seconds() - from) * 1e-9;
}

/* bf16: by whichever way is faster; processors differ. */
static double peak(ft_dtype t)
{
    double fma = peak_by(false), pairs = 0;
    if (t == FT_BF16 && !strncmp(machine.kernels.variant, "avx512", 6)) pairs = peak_by(true);
    return pairs > fma ? pairs : fma;
}

/* ---- products -------------------------------------------------------------------------------- */

typedef struct { const ft_kernel *k; const ft_call *c; char *scratch; size_t each; } product;

static void some_items(void *arg, int thread, int64_t begin, int64_t end)
{
    const product *p = arg;
    p->k->run(p->c, begin, end, p->scratch + (size_t)thread * p->each);
}

static const ft_kernel *kernel_of(const char *op, ft_dtype t)
{
    for (size_t i = 0; i < machine.kernels.n; i++) {
        const ft_kernel *k = &machine.kernels.kernel[i];
        if (k->dtype == t && !strcmp(k->op, op)) return k;
    }
    return NULL;
}

static void *random_numbers(int64_t n, ft_dtype t)
{
    char *p = aligned_alloc(64, (size_t)(n * 4 + 63) / 64 * 64);
    uint32_t s = 1;
    for (int64_t i = 0; p && i < n; i++) {
        s = s * 1664525 + 1013904223;
        float f = (float)(s >> 8) / (1 << 24) - 0.5f;
        if (t == FT_BF16) memcpy(p + 2 * i, (char *)&f + 2, 2); /* the upper half */
        else memcpy(p + 4 * i, &f, 4);
    }
    return p;
}

static ft_arg matrix(int64_t rows, int64_t cols, ft_dtype t)
{
    return (ft_arg){ .data = random_numbers(rows * cols, t), .rows = rows, .cols = cols, .ld = cols,
                     .dtype = t };
}

/* Of one product: GFLOP/s, the registers' peak beside it, and the share; medians of REPEAT turns. */
typedef struct { double rate[REPEAT], peak[REPEAT], share[REPEAT]; } figures;

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x, int n)
{
    qsort(x, (size_t)n, sizeof *x, ascending);
    return x[n / 2];
}

/* Seconds of a call split for `threads`, done by as many, or all by this one.  room: scratch of
 * every thread, and what they share. */
static double timed(const ft_kernel *k, ft_call *c, int threads, bool together, char *const room[2])
{
    c->threads = threads;
    c->shared = room[1];
    product p = { k, c, room[0], k->scratch(c) / 64 * 64 + 64 };
    int64_t rounds = k->rounds ? k->rounds(c) : 1;
    double from = ft_seconds();
    for (c->round = 0; c->round < rounds; c->round++) {
        if (together) ft_pool_run(machine.pool, k->items(c), some_items, &p);
        else k->run(c, 0, k->items(c), p.scratch);
    }
    return ft_seconds() - from;
}

/* n bytes that are there. */
static char *touched(size_t n)
{
    char *p = aligned_alloc(64, n / 64 * 64 + 64);
    if (!p) abort();
    return memset(p, 0, n);
}

/* What timed wants of a call that is split for all threads. */
static void make_room(char *room[2], const ft_kernel *k, ft_call *c)
{
    c->threads = machine.threads;
    room[0] = touched((k->scratch(c) + 64) * (size_t)machine.threads);
    room[1] = touched(k->shared ? k->shared(c) : 0);
}

/* y (TOKENS, out) = x (TOKENS, in) W^T.  The speed of a shared processor changes from second to
 * second, so each turn has a peak of its own: the mean of before and after. */
static void measure(figures *f, int64_t in, int64_t out, ft_dtype t)
{
    ft_arg a[2] = { matrix(TOKENS, in, t), matrix(out, in, t) }, y = matrix(TOKENS, out, t);
    const double one = 1;
    ft_batch batch = { .n_tokens = TOKENS };
    ft_call c = { .in = a, .out = &y, .n_in = 2, .n_out = 1, .attr = &one, .batch = &batch,
                  .threads = machine.threads };
    const ft_kernel *k = kernel_of("linear", t);
    char *room[2];
    make_room(room, k, &c);
    for (int i = 0; i < REPEAT; i++) {
        double before = peak(t), spent = timed(k, &c, machine.threads, true, room);
        f->rate[i] = 2.0 * TOKENS * (double)in * (double)out / spent * 1e-9;
        f->peak[i] = (before + peak(t)) / 2;
        f->share[i] = f->rate[i] / f->peak[i];
    }
    free(room[0]);
    free(room[1]);
    free(a[0].data);
    free(a[1].data);
    free(y.data);
}

static int gemm(void)
{
    static const struct { const char *name; int64_t in, out;
    } shape[] = {
        { "q, o: 576 to 576", 576, 576 },
        { "k, v: 576 to 192", 576, 192 },
        { "gate, up: 576 to 1536", 576, 1536 },
        { "down: 1536 to 576", 1536, 576 },
        { "1.24B, q, o: 2048 to 2048", 2048, 2048 },
        { "1.24B, gate, up: 2048 to 8192", 2048, 8192 },
    };
    for (int k = 0; k < 2; k++) {
        ft_dtype t = k ? FT_F32 : FT_BF16;
        for (size_t i = 0; i < sizeof shape / sizeof *shape; i++) {
            figures f = { { 0 }, { 0 }, { 0 } };
            measure(&f, shape[i].in, shape[i].out, t);
            printf("{\"shape\": \"%s\", \"dtype\": \"%s\", \"gflops\": %.1f, \"peak\": %.1f, "
                   "\"share\": %.3f}\n", shape[i].name, k ? "fp32" : "bf16",
                   median(f.rate, REPEAT), median(f.peak, REPEAT), median(f.share, REPEAT));
        }
    }
    return 0;
}

/* ---- NF4 ------------------------------------------------------------------------------------- */

typedef struct { void (*fn)(void *, int64_t); void *arg; } each_job;

static void each_range(void *arg, int thread, int64_t begin, int64_t end)
{
    const each_job *j = arg;
    (void)thread;
    for (int64_t i = begin; i < end; i++) j->fn(j->arg, i);
}

static void each(const ft_host *h, int64_t n, void (*fn)(void *, int64_t), void *arg)
{
    each_job j = { fn, arg };
    (void)h;
    ft_pool_run(machine.pool, n, each_range, &j);
}

static ft_instance *open_nf4(ft_err *e)
{
    static const ft_threads_api threads = { sizeof threads, each };
    static ft_service service[8] = { { "ft.threads/1", &threads } };
    static ft_offer offer = { .service = service, .n_services = 1 };
    size_t n;
    const ft_service *core = ft_core_services(&n);
    for (size_t k = 0; k < n && offer.n_services < 8; k++) service[offer.n_services++] = core[k];
    const ft_loaded *p = ft_registry_get(registry, "quant-nf4", e);
    ft_instance *i = p ? ft_instance_open(p, "quant-nf4", NULL, &offer, e) : NULL;
    for (const ft_param *row = i ? p->params : NULL; row && row->key; row++) {
        if (!strcmp(row->key, "double_quant"))
            *(bool *)(void *)((char *)(uintptr_t)ft_instance_config(i) + row->offset) = true;
    }
    return i;
}

typedef struct { const ft_packed *p; uint16_t *out; } decode_job;

static void decode_rows(void *arg, int thread, int64_t begin, int64_t end)
{
    const decode_job *j = arg;
    (void)thread;
    j->p->tile(j->p, begin, end - begin, 0, SIDE, FT_BF16, j->out + begin * SIDE, SIDE);
}

static uint64_t part_bytes(const ft_part *p)
{
    uint64_t n = p->dtype == FT_F32 ? 4 : p->dtype == FT_NO_DTYPE ? 0 : 1;
    for (int i = 0; i < p->ndim; i++) n *= (uint64_t)p->dim[i];
    return n;
}

static int nf4(int runs, ft_err *e)
{
    ft_instance *i = open_nf4(e);
    if (!i) return stop_with(e);
    const ft_quantizer *q = ft_instance_vtable(i);
    const int64_t dim[2] = { SIDE, SIDE };
    const uint64_t bytes = (uint64_t)SIDE * SIDE * 2;
    ft_tensor w = { .name = "w", .dtype = FT_BF16, .ndim = 2, .dim = { SIDE, SIDE },
                    .data = random_numbers(SIDE * SIDE, FT_BF16), .bytes = bytes };
    ft_part size[FT_MAX_PARTS];
    ft_tensor part[FT_MAX_PARTS] = { { .name = NULL } };
    void *at[FT_MAX_PARTS] = { NULL };
    ft_packed packed = { .rows = SIDE, .cols = SIDE };
    decode_job j = { &packed, random_numbers(SIDE * SIDE, FT_BF16) };
    int n = q->parts(ft_instance_self(i), dim, 2, size);
    for (int k = 0; k < n; k++) {
        part[k] = (ft_tensor){ .name = "w", .dtype = size[k].dtype, .bytes = part_bytes(&size[k]) };
        if (part[k].bytes) part[k].data = at[k] = aligned_alloc(64, part[k].bytes / 64 * 64 + 64);
    }
    double encode[MOST_RUNS], decode[MOST_RUNS];
    for (int r = 0; r < runs; r++) {
        double from = ft_seconds();
        int code = q->encode(ft_instance_self(i), &w, at);
        if (code) return ft_instance_error(i, code, e), stop_with(e);
        encode[r] = ft_seconds() - from;
    }
    int code = q->open(ft_instance_self(i), dim, 2, part, &packed);
    if (code) return ft_instance_error(i, code, e), stop_with(e);
    packed.rows = packed.cols = SIDE;
    for (int r = 0; r < runs; r++) {
        double from = ft_seconds();
        ft_pool_run(machine.pool, SIDE, decode_rows, &j);
        decode[r] = ft_seconds() - from;
    }
    printf("{\"quantize_gb_s\": %.3f, \"dequantize_gb_s\": %.3f}\n",
           (double)bytes / median(encode, runs) * 1e-9, (double)bytes / median(decode, runs) * 1e-9);
    return 0;
}

/* ---- sums in a fixed order ------------------------------------------------------------------- */

enum { ROWS = 512, HEADS = 9, KV_HEADS = 3, HEAD_DIM = 64, ROUNDS = 31 };

/* Medians of ROUNDS turns, all three ways one after the other. */
static void price(const char *name, const char *op, ft_dtype t, ft_call *c)
{
    const ft_kernel *k = kernel_of(op, t);
    double work[ROUNDS], time[ROUNDS];
    char *room[2];
    make_room(room, k, c);
    for (int i = 0; i < ROUNDS; i++) {
        double one = timed(k, c, 1, false, room), split = timed(k, c, machine.threads, false, room),
               all = timed(k, c, machine.threads, true, room);
        work[i] = split / one - 1;
        time[i] = all * machine.threads / one - 1;
    }
    free(room[0]);
    free(room[1]);
    printf("{\"op\": \"%s\", \"work\": %.3f, \"time\": %.3f}\n", name, median(work, ROUNDS),
           median(time, ROUNDS));
}

static void price_of_dw(const char *name, int64_t out, int64_t in, const ft_batch *batch)
{
    ft_arg a[2] = { matrix(ROWS, out, FT_BF16), matrix(ROWS, in, FT_BF16) },
           w = matrix(out, in, FT_F32);
    ft_call c = { .in = a, .out = &w, .n_in = 2, .n_out = 1, .batch = batch };
    price(name, "linear_dw", FT_BF16, &c);
}

static int split(void)
{
    const int32_t document[2] = { 0, ROWS };
    const ft_batch batch = { .n_tokens = ROWS, .n_docs = 1, .doc_start = document };
    const double attr[6] = { HEADS, KV_HEADS, 0, 0.125, 0, 0 };
    int64_t wide = HEADS * HEAD_DIM, narrow = KV_HEADS * HEAD_DIM;
    ft_arg in[6] = { matrix(ROWS, wide, FT_BF16),   matrix(ROWS, wide, FT_BF16),
                     matrix(ROWS, narrow, FT_BF16), matrix(ROWS, narrow, FT_BF16),
                     matrix(ROWS, wide, FT_BF16),   matrix(ROWS, HEADS, FT_F32) },
           out[3] = { matrix(ROWS, wide, FT_BF16), matrix(ROWS, narrow, FT_BF16),
                      matrix(ROWS, narrow, FT_BF16) };
    ft_call c = { .in = in, .out = out, .n_in = 6, .n_out = 3, .attr = attr, .batch = &batch };
    price_of_dw("linear_dw, 16 x 576 from 512 rows", 16, 576, &batch);
    price_of_dw("linear_dw, 1536 x 576 from 512 rows", 1536, 576, &batch);
    price("attention_dx, 512 tokens, 9 heads of 64", "attention_dx", FT_BF16, &c);
    return 0;
}

int main(int argc, char **argv)
{
    ft_err e = { 0 };
    char dir[4096];
    if (argc < 4) {
        fprintf(stderr, "usage: kernels BUILD THREADS gemm | nf4 RUNS | split\n");
        return 2;
    }
    snprintf(dir, sizeof dir, "%s/plugins", argv[1]);
    registry = ft_registry_new(&e);
    if (!registry || ft_registry_add(registry, dir, "BUILD", &e)) return stop_with(&e);
    if (ft_machine_open(&machine, registry, atoi(argv[2]), &e) || ft_machine_start(&machine, &e))
        return stop_with(&e);
    if (!strcmp(argv[3], "gemm")) return gemm();
    if (!strcmp(argv[3], "split")) return split();
    int runs = argc > 4 ? atoi(argv[4]) : 5;
    return nf4(runs < 1 ? 1 : runs > MOST_RUNS ? MOST_RUNS : runs, &e);
}
