/* cudnn-attention.c -- is cuDNN's attention right, the same each time, fast enough to build on?
 *
 * Forward and backward are written as the graph of matmuls, pointwise steps and reductions that
 * cuDNN knows as flash attention (its single SDPA node has no backward engine on sm_90 in 9.19):
 * bf16 in and out, causal, grouped heads, q, k and v side by side in the rows of one buffer, as a
 * merged projection leaves them.  Packed documents are ragged tensors: their lengths and offsets
 * are data.
 *
 *   CU=/usr/local/cuda
 *   gcc -std=gnu11 -O3 -march=x86-64-v3 -fopenmp -Wall -Wextra -Wshadow -Wconversion \
 *     -isystem $CU/include bench/lab/cudnn-attention.c -o build/cudnn-attention \
 *     -L$CU/lib -lcudnn -lcudart_static -lpthread -ldl -lrt -lm -Wl,-rpath,$CU/lib
 *   build/cudnn-attention [NAME …]   checks against float64 and times: all of TESTS, or those named
 *   build/cudnn-attention plans      without a GPU: does cuDNN take each graph for an H200, and how
 *                                    much workspace does it want?  (libcuda.so.1 must be found; the
 *                                    toolkit's stub of it will do)
 *
 * Checked: relative error ||a - b|| / ||b|| of o, dq, dk, dv below 1e-2 (bf16 rounding alone gives
 * 1.7e-3), log-sum-exp within 1e-3; outputs are filled with NaN before each run, inputs are random.
 * "same": five runs of the backward pass gave the same bytes.  "fixed": the form that is meant to.
 * Operations counted: forward 4, backward 10 for each query head, visible key and feature. */
#include <math.h>
#include <time.h>
#include "cudnn-attention.h"

enum { O, DQ, DK, DV, STATS, PARTS };
static const char *const PART[] = {"o", "dq", "dk", "dv", "lse"};

typedef struct { double off[PARTS], whole[PARTS]; } errors;

static float number(uint16_t bf16)
{
    uint32_t u = (uint32_t)bf16 << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static double dot(const float *a, const double *b, int n)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static void add(double *y, double a, const float *x, int n)
{
    for (int i = 0; i < n; i++) y[i] += a * x[i];
}

/* ---- reference ------------------------------------------------------------------------------- */

/* One query: probabilities p of the keys 0 … i and o; with them what dq, dk and dv gain. */
typedef struct { float *q, *k, *v, *dout; double *o, *dq, *dk, *dv, *p, lse; int d; } query;

static void one_query(query *x, int i)
{
    int d = x->d;
    double most = -INFINITY, sum = 0, q[256], g[256];
    for (int c = 0; c < d; c++)
        q[c] = x->q[c] * (double)scale, g[c] = x->dout[c], x->o[c] = 0, x->dq[c] = 0;
    for (int j = 0; j <= i; j++) most = fmax(most, x->p[j] = dot(x->k + j * d, q, d));
    for (int j = 0; j <= i; j++) sum += x->p[j] = exp(x->p[j] - most);
    x->lse = most + log(sum);
    for (int j = 0; j <= i; j++) add(x->o, x->p[j] /= sum, x->v + j * d, d);
    double kept = dot(x->dout, x->o, d);
    for (int j = 0; j <= i; j++) {
        double ds = x->p[j] * (dot(x->v + j * d, g, d) - kept) * (double)scale;
        add(x->dq, ds, x->k + j * d, d);
        add(x->dk + j * d, ds, x->q, d);
        add(x->dv + j * d, x->p[j], x->dout, d);
    }
}

typedef struct { uint16_t *o, *dq, *dk, *dv; float *stats; } result;

static void compare_row(errors *e, int part, const uint16_t *got, const double *want, int d)
{
    for (int c = 0; c < d; c++) {
        double off = number(got[c]) - want[c];
        e->off[part] += isfinite(off) ? off * off : INFINITY;
        e->whole[part] += want[c] * want[c];
    }
}

static float *rows_of(const uint16_t *from, int64_t pitch, int n, int d)
{
    float *x = malloc(sizeof *x * (size_t)n * (size_t)d);
    for (int i = 0; i < n; i++)
        for (int c = 0; c < d; c++) x[i * d + c] = number(from[i * pitch + c]);
    return x;
}

/* Document i, key head h with its group of query heads, against float64. */
static void check_group(errors *e, const data *x, const result *r, int i, int h)
{
    const test *t = x->t;
    int n = x->length[i], d = t->d, group = t->hq / t->hk;
    int64_t row = x->first[i], pitch = x->pitch, o_pitch = t->hq * d;
    const uint16_t *qkv = x->host_qkv + row * pitch;
    double *dk = calloc((size_t)(n * d), 8), *dv = calloc((size_t)(n * d), 8);
    double *p = malloc((size_t)n * 8), o[256], dq[256];
    float *k = rows_of(qkv + (t->hq + h) * d, pitch, n, d);
    float *v = rows_of(qkv + (t->hq + t->hk + h) * d, pitch, n, d);
    for (int head = h * group; head < (h + 1) * group; head++) {
        float *q = rows_of(qkv + head * d, pitch, n, d);
        float *dout = rows_of(x->host_do + row * o_pitch + head * d, o_pitch, n, d);
        for (int j = 0; j < n; j++) {
            query y = {q + j * d, k, v, dout + j * d, o, dq, dk, dv, p, 0, d};
            one_query(&y, j);
            compare_row(e, O, r->o + (row + j) * o_pitch + head * d, o, d);
            compare_row(e, DQ, r->dq + (row + j) * x->dq_pitch + head * d, dq, d);
            int64_t at = t->layout == RAGGED ? (row + j) * t->hq + head
                                             : ((int64_t)i * t->hq + head) * t->s + j;
            double off = fabs((double)r->stats[at] - y.lse);
            e->off[STATS] = isfinite(off) ? fmax(e->off[STATS], off) : INFINITY;
        }
        free(q);
        free(dout);
    }
    for (int j = 0; j < n; j++) {
        compare_row(e, DK, r->dk + (row + j) * x->dk_pitch + h * d, dk + j * d, d);
        compare_row(e, DV, r->dv + (row + j) * x->dk_pitch + h * d, dv + j * d, d);
    }
    free(k); free(v); free(p); free(dk); free(dv);
}

static void *download(const void *from, size_t bytes)
{
    void *p = malloc(bytes);
    must(cudaMemcpy(p, from, bytes, cudaMemcpyDeviceToHost), "copy back");
    return p;
}

/* All of a small case; of a timed one two documents and two key heads. */
static errors check(const data *x)
{
    const test *t = x->t;
    size_t rows_bytes = (size_t)(x->tokens * t->hq * t->d) * 2;
    uint16_t *dqkv = download(x->dqkv, x->dqkv_bytes);
    result r = { download(x->o, rows_bytes), dqkv, dqkv + t->hq * t->d,
                 dqkv + (t->hq + t->hk) * t->d,
                 download(x->stats, (size_t)(x->tokens * t->hq) * 4) };
    if (t->apart) r.dk = download(x->dk, x->dk_bytes), r.dv = download(x->dv, x->dk_bytes);
    errors sum = {0};
    int docs = t->timed ? 2 : t->b, heads = t->timed ? 2 : t->hk;
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (int i = 0; i < docs; i++)
        for (int h = 0; h < heads; h++) {
            errors e = {0};
            if (x->length[i]) check_group(&e, x, &r, i, h);
#pragma omp critical
            for (int part = 0; part < PARTS; part++) {
                sum.off[part] = part == STATS ? fmax(sum.off[part], e.off[part])
                                              : sum.off[part] + e.off[part];
                sum.whole[part] += e.whole[part];
            }
        }
    if (t->apart) free(r.dk), free(r.dv);
    free(r.o); free(dqkv); free(r.stats);
    for (int part = 0; part < STATS; part++) sum.off[part] = sqrt(sum.off[part] / sum.whole[part]);
    return sum;
}

/* ---- runs ------------------------------------------------------------------------------------ */

static cudaStream_t stream;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    return (*(const float *)a > *(const float *)b) - (*(const float *)a < *(const float *)b);
}

/* Milliseconds on the GPU, median of RUNS replays of a captured run, and the spread p10 … p90. */
static float measure(cg *g, float *low, float *high)
{
    cudaGraph_t graph;
    cudaGraphExec_t replay;
    cudaEvent_t from, to;
    float ms[RUNS];
    cudaEventCreate(&from);
    cudaEventCreate(&to);
    must(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
    cg_run(g);
    must(cudaStreamEndCapture(stream, &graph), "capture");
    must(cudaGraphInstantiate(&replay, graph, 0), "graph");
    for (int i = -3; i < RUNS; i++) {
        cudaEventRecord(from, stream);
        cudaGraphLaunch(replay, stream);
        cudaEventRecord(to, stream);
        must(cudaEventSynchronize(to), "replay");
        if (i >= 0) cudaEventElapsedTime(ms + i, from, to);
    }
    qsort(ms, RUNS, sizeof *ms, by_value);
    *low = ms[RUNS / 10], *high = ms[RUNS - 1 - RUNS / 10];
    return ms[RUNS / 2];
}

static bool same_each_time(cg *g, const data *x)
{
    const test *t = x->t;
    bool same = true;
    void *first[3] = {0};
    for (int run = 0; run < 5; run++) {
        cg_run(g);
        must(cudaStreamSynchronize(stream), "run");
        void *now_[3] = { download(x->dqkv, x->dqkv_bytes),
                          t->apart ? download(x->dk, x->dk_bytes) : NULL,
                          t->apart ? download(x->dv, x->dk_bytes) : NULL };
        size_t bytes[3] = {x->dqkv_bytes, x->dk_bytes, x->dk_bytes};
        for (int i = 0; i < 3; i++) {
            if (run && now_[i]) same &= !memcmp(first[i], now_[i], bytes[i]);
            if (run) free(now_[i]);
            else first[i] = now_[i];
        }
    }
    for (int i = 0; i < 3; i++) free(first[i]);
    return same;
}

static double operations(const data *x)
{
    double sum = 0;
    for (int i = 0; i < x->t->b; i++) sum += 0.5 * x->length[i] * (x->length[i] + 1.0);
    return sum * x->t->hq * x->t->d;
}

static void report_time(cg *g, const char *what, double work)
{
    float low, high, ms = measure(g, &low, &high);
    double start = now();
    for (int i = 0; i < 20; i++) cg_run(g);
    double host = (now() - start) / 20;
    must(cudaStreamSynchronize(stream), "run");
    printf("    %-14s %8.3f ms (%.3f - %.3f)  %6.1f TFLOP/s   host %4.0f us a call\n", what,
           (double)ms, (double)low, (double)high, work / ms * 1e-9, host * 1e6);
}

/* A plan and its memory; NULL memory where cuDNN would not have the graph. */
static void *plan(cg *g, const data *x, const char *what, bool fixed)
{
    double start = now();
    cg_build(g, fixed);
    printf("    %-14s %s  workspace %.1f MiB, plan made in %.2f s, %d engine(s), %d noted "
           "nondeterministic\n",
           what, g->error[0] ? g->error : "ok", (double)g->workspace / 1048576, now() - start,
           g->engines, g->nondeterministic);
    if (g->error[0] || !g->handle) return NULL;
    void *workspace = device((size_t)g->workspace + 16);
    cg_bind(g, workspace);
    if (x->t->layout != DENSE) must(cudaMemset(x->dqkv, 0xff, x->dqkv_bytes), "fill");
    return workspace;
}

/* Nothing was written behind the workspaces of grouped ragged rows. */
static bool kept_inside(const data *x)
{
    bool inside = true;
    for (int i = 0; i < 2 && x->full_bytes; i++) {
        char *tail = download((i ? x->dv_full : x->dk_full) + x->full_bytes, x->full_bytes);
        for (size_t at = 0; at < x->full_bytes; at++) inside &= tail[at] == (char)0xff;
        free(tail);
    }
    return inside;
}

static bool report_errors(const data *x, const char *what)
{
    errors e = check(x);
    bool good = true;
    printf("    %-14s", what);
    for (int part = 0; part < PARTS; part++) {
        printf(" %s %.1e", PART[part], e.off[part]);
        good &= e.off[part] < (part == STATS ? 1e-3 : 1e-2);
    }
    good &= kept_inside(x);
    printf("  %s\n", good ? "right" : "WRONG");
    return good;
}

static bool run_test(const test *t, cudnnHandle_t handle)
{
    static cg f, b;
    data x;
    bool good = true;
    lay_out(&x, t);
    if (handle) allocate(&x);
    scale = 1 / sqrtf((float)t->d);
    printf("%s: %s, %d x %d, %lld tokens, heads %d/%d, d %d%s\n", t->name, LAYOUT[t->layout], t->b,
           t->s, (long long)x.tokens, t->hq, t->hk, t->d, GRADIENTS[t->apart]);
    cg_init(&f, handle);
    forward(&f, &x);
    void *space = plan(&f, &x, "forward", false);
    if (space) cg_run(&f);
    if (space && t->timed) report_time(&f, "forward", 4 * operations(&x));
    bool fixed_only = t->layout == RAGGED && t->apart == APART;    // see cudnn-attention.h
    for (int fixed = fixed_only; fixed < 2; fixed++) {
        const char *what = fixed ? "backward fixed" : "backward";
        cg_init(&b, handle);
        backward(&b, &x, fixed);
        void *more = plan(&b, &x, what, fixed);
        if (!space || !more) continue;
        must(cudaMemset(x.dqkv, 0xff, x.dqkv_bytes), "fill");
        if (t->apart)
            must(cudaMemset(x.dk, 0xff, x.dk_bytes), "fill"),
                must(cudaMemset(x.dv, 0xff, x.dk_bytes), "fill");
        cg_run(&b);
        must(cudaStreamSynchronize(stream), "run");
        if (b.error[0]) printf("    %s\n", b.error);
        good &= report_errors(&x, what);
        printf("    %-14s %s\n", what, same_each_time(&b, &x) ? "same" : "differs from run to run");
        if (t->timed) report_time(&b, what, 10 * operations(&x));
        cudaFree(more);
    }
    cudaFree(space);
    if (f.error[0]) printf("    %s\n", f.error);
    return good && !f.error[0] && !b.error[0];
}

int main(int argc, char **argv)
{
    cudnnHandle_t handle = NULL;
    bool good = true;
    minus_infinity = -INFINITY;
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("cuDNN %zu\n", cudnnGetVersion());
    if (argc < 2 || strcmp(argv[1], "plans")) {
        struct cudaDeviceProp p;
        must(cudaGetDeviceProperties(&p, 0), "no GPU");
        must(cudaStreamCreate(&stream), "stream");
        if (cudnnCreate(&handle) || cudnnSetStream(handle, stream)) return 1;
        printf("%s, %d multiprocessors\n", p.name, p.multiProcessorCount);
    }
    for (size_t i = 0; i < sizeof TESTS / sizeof *TESTS; i++) {
        bool wanted = argc < 2 || !handle;
        for (int a = 1; a < argc; a++) wanted |= !strcmp(argv[a], TESTS[i].name);
        if (wanted) good &= run_test(&TESTS[i], handle);
    }
    return good ? 0 : 1;
}
