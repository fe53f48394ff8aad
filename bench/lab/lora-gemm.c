/* lora-gemm.c -- does it pay to fold a low-rank update into the GEMM by extending K?
 *
 *   separate   y = x W^T, h = x A^T, y_i += h_i (sB_i)^T
 *              dx = dy W, g_i = dy_i (sB_i), dx += g A
 *   extended   h = x A^T into the tail of x's rows, then y = [x h] [W D]^T
 *              g = dy D into the tail of dy's rows, then dx = [dy g] [W; A]
 *
 * x (T, K), W (N, K); projections that read the same x are merged (q k v; gate up), each with its
 * own A_i (r, K) and B_i (n_i, r), R = r times their number; D (N, R) has the sB_i on its diagonal.
 * One buffer of N + R rows of K + R elements serves all four: W, D to its right, A below.
 * Three forms of it: "ext" as said; "pad" fills R up with zeros to 64; "pitch" pads the rows alone,
 * the products are of K + R.  "base" is x W^T and dy W, the floor.  bf16, float accumulation.
 *
 *   CU=/usr/local/cuda
 *   gcc -std=gnu11 -O2 -Wall -Wextra -Wshadow -Wconversion -isystem $CU/include \
 *     bench/lab/lora-gemm.c -o build/lora-gemm \
 *     -L$CU/lib -lcublasLt -lcudart_static -lpthread -ldl -lrt -lm -Wl,-rpath,$CU/lib
 *   build/lora-gemm
 *
 * Times: median of 41 replays of a CUDA graph that goes through several copies of the weights, so
 * that they come from memory as they do in training; the forms take turns.  Checked: random
 * elements against float64, below 2e-2 of their root mean square. */
#include "lt-product.h"

enum { RANK = 16, RUNS = 41, COPIES = 32, PROBES = 40 };
enum { BASE, SEPARATE, EXTENDED, PADDED, PITCHED, FORMS };
static const char *const FORM[] = {"base", "separate", "ext", "pad", "pitch"};

typedef struct { const char *name; int k, parts, n[3]; } site;
typedef struct { const char *name; int copies; site sites[4]; } model;

static const model MODELS[] = {
    {"8b", 2, {{"qkv", 4096, 3, {4096, 1024, 1024}}, {"o", 4096, 1, {4096}},
               {"gate_up", 4096, 2, {14336, 14336}}, {"down", 14336, 1, {4096}}}},
    {"smollm2", COPIES, {{"qkv", 576, 3, {576, 192, 192}}, {"o", 576, 1, {576}},
                         {"gate_up", 576, 2, {1536, 1536}}, {"down", 1536, 1, {576}}}},
};

/* ---- one site -------------------------------------------------------------------------------- */

typedef struct {
    const site *s;
    int64_t tokens, k, n, r, tail;               // r: all adapters; tail: columns set apart for it
    int64_t kp, np;                              // pitch of x and W, of dy
    int copies;
    bf16 *x, *dy, *y, *dx, *h, *w[COPIES], *a[COPIES], *b[COPIES];
} work;

/* W with D beside and A below (extended), or three buffers of their own, B_i one below the
 * other. */
static void make(work *w, const site *s, int64_t tokens, int copies, int form)
{
    *w = (work){.s = s, .tokens = tokens, .k = s->k, .copies = copies, .r = RANK * s->parts};
    for (int i = 0; i < s->parts; i++) w->n += s->n[i];
    bool together = form >= EXTENDED;
    w->tail = !together ? 0 : form == EXTENDED ? w->r : (w->r + 63) / 64 * 64;
    w->kp = w->k + w->tail, w->np = w->n + w->tail;
    w->x = device((size_t)(tokens * w->kp)), w->dx = device((size_t)(tokens * w->k));
    w->dy = device((size_t)(tokens * w->np)), w->y = device((size_t)(tokens * w->n));
    w->h = together ? NULL : device((size_t)(tokens * w->r));
    fill(w->x, w->kp, tokens, w->k, 1);
    fill(w->dy, w->np, tokens, w->n, 2);
    for (int c = 0; c < copies; c++) {
        w->w[c] = device((size_t)((w->n + w->tail) * w->kp));
        w->a[c] = together ? w->w[c] + w->n * w->kp : device((size_t)(w->r * w->k));
        w->b[c] = together ? w->w[c] + w->k : device((size_t)(w->n * RANK));
        fill(w->w[c], w->kp, w->n, w->k, 3);
        fill(w->a[c], w->kp, w->r, w->k, 4);
        int64_t pitch = together ? w->kp : RANK, row = 0;
        for (int i = 0; i < s->parts; row += s->n[i++])
            fill(w->b[c] + row * pitch + (together ? i * RANK : 0), pitch, s->n[i], RANK, 5 + i);
    }
}

static void unmake(work *w)
{
    for (int c = 0; c < w->copies; c++) {
        if (!w->tail) cudaFree(w->a[c]), cudaFree(w->b[c]);
        cudaFree(w->w[c]);
    }
    cudaFree(w->x), cudaFree(w->dy), cudaFree(w->y), cudaFree(w->dx), cudaFree(w->h);
}

/* The products of one pass; the right operand lies at right[copy of the weights] + at. */
typedef struct { product p; bf16 *const *right; bf16 *left, *out; int64_t at; } call;
typedef struct { call calls[8]; int n; } pass;

/* c = left op(right[copy] + at) + beta c */
static void add(pass *p, int64_t m, int64_t n, int64_t k, bool turned, float beta, bf16 *left,
                int64_t lda, bf16 *const *right, int64_t at, int64_t ldb, bf16 *out, int64_t ldc)
{
    call *s = &p->calls[p->n++];
    s->p = prepare(m, n, k, turned, beta, left, lda, right[0] + at, ldb, out, ldc);
    s->left = left, s->right = right, s->at = at, s->out = out;
}

static pass forward(const work *w, int form)
{
    pass p = {0};
    int64_t t = w->tokens, across = form == PITCHED ? w->r : w->tail, column = 0;
    if (form >= EXTENDED) {
        add(&p, t, across, w->k, true, 0, w->x, w->kp, w->a, 0, w->kp, w->x + w->k, w->kp);
        add(&p, t, w->n, w->k + across, true, 0, w->x, w->kp, w->w, 0, w->kp, w->y, w->n);
        return p;
    }
    add(&p, t, w->n, w->k, true, 0, w->x, w->k, w->w, 0, w->k, w->y, w->n);
    if (form == BASE) return p;
    add(&p, t, w->r, w->k, true, 0, w->x, w->k, w->a, 0, w->k, w->h, w->r);
    for (int i = 0; i < w->s->parts; column += w->s->n[i++])
        add(&p, t, w->s->n[i], RANK, true, 1, w->h + i * RANK, w->r, w->b, column * RANK, RANK,
            w->y + column, w->n);
    return p;
}

static pass backward(const work *w, int form)
{
    pass p = {0};
    int64_t t = w->tokens, across = form == PITCHED ? w->r : w->tail, column = 0;
    if (form >= EXTENDED) {
        add(&p, t, across, w->n, false, 0, w->dy, w->np, w->b, 0, w->kp, w->dy + w->n, w->np);
        add(&p, t, w->k, w->n + across, false, 0, w->dy, w->np, w->w, 0, w->kp, w->dx, w->k);
        return p;
    }
    add(&p, t, w->k, w->n, false, 0, w->dy, w->n, w->w, 0, w->k, w->dx, w->k);
    if (form == BASE) return p;
    for (int i = 0; i < w->s->parts; column += w->s->n[i++])
        add(&p, t, RANK, w->s->n[i], false, 0, w->dy + column, w->n, w->b, column * RANK, RANK,
            w->h + i * RANK, w->r);
    add(&p, t, w->k, w->r, false, 1, w->h, w->r, w->a, 0, w->k, w->dx, w->k);
    return p;
}

static unsigned run(const call *s, int copy)
{
    return multiply(&s->p, s->left, s->right[copy] + s->at, s->out);
}

static int by_value(const void *a, const void *b)
{
    return (*(const float *)a > *(const float *)b) - (*(const float *)a < *(const float *)b);
}

/* One pass over every copy of the weights, as a graph that can be replayed. */
static cudaGraphExec_t record(const pass *p, int copies)
{
    cudaGraph_t graph;
    cudaGraphExec_t replay;
    must(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
    for (int c = 0; c < copies; c++)
        for (int i = 0; i < p->n; i++) must(run(&p->calls[i], c), "matmul");
    must(cudaStreamEndCapture(stream, &graph), "capture");
    must(cudaGraphInstantiate(&replay, graph, 0), "graph");
    cudaGraphDestroy(graph);
    return replay;
}

/* Milliseconds of a pass over one copy, median, and the spread p10 … p90 over it.  The forms take
 * turns: under full load the card's clock moves by more than they differ. */
static void measure(cudaGraphExec_t replay[FORMS], int copies, float median[FORMS],
                    float spread[FORMS])
{
    cudaEvent_t from, to;
    float ms[FORMS][RUNS];
    cudaEventCreate(&from), cudaEventCreate(&to);
    for (int i = -3; i < RUNS; i++)
        for (int f = 0; f < FORMS; f++) {
            cudaEventRecord(from, stream);
            cudaGraphLaunch(replay[f], stream);
            cudaEventRecord(to, stream);
            must(cudaEventSynchronize(to), "replay");
            if (i >= 0) cudaEventElapsedTime(&ms[f][i], from, to);
        }
    for (int f = 0; f < FORMS; f++) {
        qsort(ms[f], RUNS, sizeof *ms[f], by_value);
        median[f] = ms[f][RUNS / 2] / (float)copies;
        spread[f] = (ms[f][RUNS - 1 - RUNS / 10] - ms[f][RUNS / 10]) / ms[f][RUNS / 2];
    }
}

/* ---- check ----------------------------------------------------------------------------------- */

/* y or dx at (t, j) in float64: the base product and, with `lora`, the update. */
static double exact(const work *w, bool back, bool lora, int64_t t, int64_t j)
{
    double sum = 0, row = 0;
    for (int64_t c = 0; c < (back ? w->n : w->k); c++)
        sum += back ? filled(t, c, w->n, 2) * filled(c, j, w->k, 3)
                    : filled(t, c, w->k, 1) * filled(j, c, w->k, 3);
    for (int i = 0; lora && i < w->s->parts; row += w->s->n[i++])
        for (int64_t q = 0; q < RANK; q++) {
            double h = 0, first = row, last = row + w->s->n[i];
            if (!back && ((double)j < first || (double)j >= last)) continue;
            if (back)
                for (int64_t c = 0; c < w->s->n[i]; c++)
                    h += filled(t, (int64_t)row + c, w->n, 2) * filled(c, q, RANK, 5 + i);
            else
                for (int64_t c = 0; c < w->k; c++)
                    h += filled(t, c, w->k, 1) * filled(i * RANK + q, c, w->k, 4);
            sum += h * (back ? filled(i * RANK + q, j, w->k, 4)
                             : filled(j - (int64_t)row, q, RANK, 5 + i));
        }
    return sum;
}

/* Relative error of PROBES random elements. */
static double error(const work *w, bool back, bool lora)
{
    double off = 0, whole = 0;
    int64_t columns = back ? w->k : w->n;
    uint32_t seed = 99;
    for (int i = 0; i < PROBES; i++) {
        seed = seed * 1664525u + 1013904223u;
        int64_t t = seed % w->tokens, j = (seed >> 7) % columns;
        bf16 got;
        cudaMemcpy(&got, (back ? w->dx : w->y) + t * columns + j, sizeof got,
                   cudaMemcpyDeviceToHost);
        double want = exact(w, back, lora, t, j), e = number(got) - want;
        off += isfinite(e) ? e * e : INFINITY, whole += want * want;
    }
    return sqrt(off / whole);
}

/* One pass of one site in all forms, milliseconds by form; false where an element was wrong. */
static bool run_site(const site *s, int64_t tokens, int copies, bool back, float ms[FORMS])
{
    bool good = true;
    work w[FORMS];
    pass p[FORMS];
    cudaGraphExec_t replay[FORMS];
    float spread[FORMS];
    for (int f = 0; f < FORMS; f++) {
        make(&w[f], s, tokens, copies, f);
        p[f] = back ? backward(&w[f], f) : forward(&w[f], f);
        replay[f] = record(&p[f], copies);
    }
    measure(replay, copies, ms, spread);
    printf("  %-8s %s", s->name, back ? "dx" : "y ");
    for (int f = 0; f < FORMS; f++) {
        double e = error(&w[f], back, f != BASE);
        good &= e < 2e-2;
        printf("  %s %.4f (%.0f%%, %.0e)", FORM[f], (double)ms[f], 100 * (double)spread[f], e);
        cudaGraphExecDestroy(replay[f]);
        for (int i = 0; i < p[f].n; i++) release(&p[f].calls[i].p);
        unmake(&w[f]);
    }
    printf("\n");
    return good;
}

/* All sites of a layer, y and dx, and their sums. */
static bool run_layer(const model *m, int64_t tokens)
{
    bool good = true;
    float sum[FORMS], ms[FORMS];
    printf("%s, %lld tokens\n", m->name, (long long)tokens);
    for (int back = 0; back < 2; back++) {
        memset(sum, 0, sizeof sum);
        for (int i = 0; i < 4; i++) {
            good &= run_site(&m->sites[i], tokens, m->copies, back, ms);
            for (int f = 0; f < FORMS; f++) sum[f] += ms[f];
        }
        printf("  layer    %s", back ? "dx" : "y ");
        for (int f = 0; f < FORMS; f++)
            printf("  %s %.3f (%.3f)", FORM[f], (double)sum[f], (double)(sum[f] / sum[BASE]));
        printf("\n");
    }
    return good;
}

int main(void)
{
    struct cudaDeviceProp d;
    bool good = true;
    setvbuf(stdout, NULL, _IOLBF, 0);
    must(cudaGetDeviceProperties(&d, 0), "no GPU");
    must(cudaStreamCreate(&stream), "stream");
    must((unsigned)cublasLtCreate(&lt), "cuBLASLt");
    must(cudaMalloc(&workspace, WORKSPACE), "memory");
    make_pool();
    printf("%s, cuBLASLt %zu, r %d; milliseconds (spread, error)\n", d.name, cublasLtGetVersion(),
           RANK);
    for (int m = 0; m < 2; m++)
        for (int64_t tokens = 4096; tokens <= 16384; tokens *= 4)
            good &= run_layer(&MODELS[m], tokens);
    printf(good ? "all right\n" : "WRONG\n");
    return good ? 0 : 1;
}
