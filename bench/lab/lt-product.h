/* lt-product.h -- bf16 products through cuBLASLt, and random numbers for them (lora-gemm.c).
 *
 * Matrices are rows of a pitch; cuBLAS stores columns, so it is asked for c^T = op(b)^T op(a)^T.
 * Each product is tried with the first CANDIDATES algorithms of cuBLASLt's heuristic; the fastest
 * stays. */
#ifndef LT_PRODUCT_H
#define LT_PRODUCT_H
#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CANDIDATES = 8 };
static const size_t WORKSPACE = 32u << 20;

typedef uint16_t bf16;

static cublasLtHandle_t lt;
static cudaStream_t stream;
static void *workspace;
static bf16 *pool, *host_pool;                   // random numbers, POOL of them
static const size_t POOL = 32u << 20;

static void must(unsigned status, const char *what)
{
    if (!status) return;
    fprintf(stderr, "lora-gemm: %s: status %u\n", what, status);
    exit(1);
}

static float number(bf16 x)
{
    uint32_t u = (uint32_t)x << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static void *device(size_t elements)
{
    void *p;
    must(cudaMalloc(&p, elements * sizeof(bf16)), "memory");
    must(cudaMemset(p, 0, elements * sizeof(bf16)), "fill");
    return p;
}

/* A (rows, columns) of random numbers into rows of `pitch`; the same `seed`, the same numbers. */
static void fill(bf16 *to, int64_t pitch, int64_t n_rows, int64_t columns, int seed)
{
    int64_t step = (int64_t)POOL / columns - 1;
    const bf16 *from = pool + (seed * 977 % columns);
    for (int64_t row = 0; row < n_rows; row += step) {
        int64_t n = n_rows - row < step ? n_rows - row : step;
        must(cudaMemcpy2D(to + row * pitch, (size_t)pitch * 2, from, (size_t)columns * 2,
                          (size_t)columns * 2, (size_t)n, cudaMemcpyDeviceToDevice), "fill");
    }
}

/* Nearly normal bf16 numbers of deviation 0.05. */
static void make_pool(void)
{
    uint64_t s = 0x9e3779b97f4a7c15u;
    host_pool = malloc(POOL * sizeof *host_pool);
    for (size_t i = 0; i < POOL; i++) {
        s ^= s << 13, s ^= s >> 7, s ^= s << 17;
        uint64_t sum = (s & 0xffff) + (s >> 16 & 0xffff) + (s >> 32 & 0xffff) + (s >> 48);
        float f = ((float)sum - 131070.f) / 756740.f;
        uint32_t u;
        memcpy(&u, &f, sizeof u);
        host_pool[i] = (bf16)((u + 0x8000) >> 16);
    }
    pool = device(POOL);
    must(cudaMemcpy(pool, host_pool, POOL * sizeof *pool, cudaMemcpyHostToDevice), "pool");
}

/* Element (row, column) of what fill() wrote. */
static double filled(int64_t row, int64_t column, int64_t columns, int seed)
{
    int64_t rows = (int64_t)POOL / columns - 1;
    return number(host_pool[seed * 977 % columns + row % rows * columns + column]);
}

/* ---- products -------------------------------------------------------------------------------- */

/* c (m, n) = op(a) op(b) + beta c, rows of lda, ldb, ldc elements; a turned: (k, m), b turned: (n,
 * k). */
typedef struct {
    cublasLtMatmulDesc_t op;
    cublasLtMatrixLayout_t a, b, c;
    cublasLtMatmulAlgo_t algorithm;
    float beta;
} product;

static cublasLtMatrixLayout_t layout(int64_t rows, int64_t columns, int64_t pitch)
{
    cublasLtMatrixLayout_t l;
    uint64_t width = (uint64_t)columns, height = (uint64_t)rows;
    must((unsigned)cublasLtMatrixLayoutCreate(&l, CUDA_R_16BF, width, height, pitch), "layout");
    return l;
}

static unsigned multiply(const product *p, const bf16 *a, const bf16 *b, bf16 *c)
{
    float one = 1;                               // cuBLAS stores columns: c^T = op(b)^T op(a)^T
    return (unsigned)cublasLtMatmul(lt, p->op, &one, b, p->b, a, p->a, &p->beta, c, p->c, c, p->c,
                               &p->algorithm, workspace, WORKSPACE, stream);
}

/* Time of five runs; infinite where the algorithm does not take these operands. */
static float try_out(const product *p, const bf16 *a, const bf16 *b, bf16 *c)
{
    static cudaEvent_t from, to;
    float ms;
    if (!from) cudaEventCreate(&from), cudaEventCreate(&to);
    if (multiply(p, a, b, c)) return INFINITY;
    cudaEventRecord(from, stream);
    for (int i = 0; i < 5; i++) multiply(p, a, b, c);
    cudaEventRecord(to, stream);
    must(cudaEventSynchronize(to), "timing");
    cudaEventElapsedTime(&ms, from, to);
    return ms;
}

static void align(cublasLtMatmulPreference_t wish, cublasLtMatmulPreferenceAttributes_t which,
                  const void *p)
{
    uint32_t bytes = 256;                        // what cuBLASLt takes for granted unless told
    while ((uintptr_t)p % bytes) bytes /= 2;
    cublasLtMatmulPreferenceSetAttribute(wish, which, &bytes, sizeof bytes);
}

static product prepare(int64_t m, int64_t n, int64_t k, bool turned_b, float beta, const bf16 *a,
                       int64_t lda, const bf16 *b, int64_t ldb, bf16 *c, int64_t ldc)
{
    product p = {.beta = beta};
    cublasOperation_t turn = turned_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasLtMatmulPreference_t wish;
    cublasLtMatmulHeuristicResult_t found[CANDIDATES];
    int n_found = 0, best = 0;
    float least = INFINITY;
    must((unsigned)cublasLtMatmulDescCreate(&p.op, CUBLAS_COMPUTE_32F, CUDA_R_32F), "operation");
    cublasLtMatmulDescSetAttribute(p.op, CUBLASLT_MATMUL_DESC_TRANSA, &turn, sizeof turn);
    p.a = layout(m, k, lda);
    p.b = turned_b ? layout(n, k, ldb) : layout(k, n, ldb);
    p.c = layout(m, n, ldc);
    cublasLtMatmulPreferenceCreate(&wish);
    cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &WORKSPACE,
                                         sizeof WORKSPACE);
    align(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, b);
    align(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, a);
    align(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, c);
    align(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, c);
    cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(lt, p.op, p.b, p.a, p.c, p.c, wish,
                                                           CANDIDATES, found, &n_found);
    must((unsigned)status, "heuristic");
    cublasLtMatmulPreferenceDestroy(wish);
    for (int i = 0; i < n_found; i++) {
        p.algorithm = found[i].algo;
        float ms = try_out(&p, a, b, c);
        if (ms < least) least = ms, best = i;
    }
    must(least == INFINITY, "no algorithm");
    p.algorithm = found[best].algo;
    return p;
}

static void release(product *p)
{
    cublasLtMatmulDescDestroy(p->op);
    cublasLtMatrixLayoutDestroy(p->a);
    cublasLtMatrixLayoutDestroy(p->b);
    cublasLtMatrixLayoutDestroy(p->c);
}
#endif
