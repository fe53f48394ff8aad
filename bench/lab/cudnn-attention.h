/* cudnn-attention.h -- test data for cudnn-attention.c and the graphs of attention, forward and
 * backward.
 *
 * The graphs follow the composite form that cuDNN's documentation gives for flash attention; what
 * may not be changed in it: strides of log-sum-exp and of the workspaces (wrong ones are accepted
 * and corrupt gradients), the turned k and v, the type of p where it enters a matmul (that of the
 * inputs).  And, seen with 9.19: over ragged rows, dq and its float sum must lie as q does (same
 * pitch, same offsets), or dq is wrong without an error; only the form without that sum ("fixed")
 * takes another place. */
#ifndef CUDNN_ATTENTION_H
#define CUDNN_ATTENTION_H
#include <cuda_runtime_api.h>
#include <stdint.h>
#include "cudnn-graph.h"

enum { BF16 = CUDNN_DATA_BFLOAT16, F32 = CUDNN_DATA_FLOAT, I32 = CUDNN_DATA_INT32,
       BOOL = CUDNN_DATA_BOOLEAN, RUNS = 30, MOST_DOCS = 64 };
enum { DENSE, PADDED, RAGGED }; // whole rows; rows with lengths; documents end to end
static const char *const LAYOUT[] = {"dense", "padded", "ragged"};
enum { TOGETHER, KEYS_APART, APART }; // gradients side by side in rows like q, k, v; or not
static const char *const GRADIENTS[] = {"", ", dk dv apart", ", dq dk dv apart"};

typedef struct {
    const char *name;
    int layout, b, hq, hk, s, d;                 // b rows or documents of at most s tokens
    int apart, mean;                             // mean length of a document; 0: s
    bool timed;
} test;

static const test TESTS[] = {
    {"smol",      DENSE,  2,  9,  3, 512,  64,  TOGETHER,   0,   false},
    {"llama",     DENSE,  2,  8,  2, 256,  128, TOGETHER,   0,   false},
    {"odd",       DENSE,  2,  4,  2, 200,  64,  TOGETHER,   0,   false},
    {"mha",       DENSE,  2,  4,  4, 256,  128, TOGETHER,   0,   false},
    {"padded",    PADDED, 3,  8,  2, 256,  128, TOGETHER,   100, false},
    {"docs-64",   RAGGED, 12, 9,  3, 512,  64,  TOGETHER,   120, false},
    {"docs-64k",  RAGGED, 12, 9,  3, 512,  64,  KEYS_APART, 120, false},
    {"docs-64a",  RAGGED, 12, 9,  3, 512,  64,  APART,      120, false},
    {"docs-128",  RAGGED, 12, 8,  2, 512,  128, TOGETHER,   150, false},
    {"docs-128k", RAGGED, 12, 8,  2, 512,  128, KEYS_APART, 150, false},
    {"docs-128a", RAGGED, 12, 8,  2, 512,  128, APART,      150, false},
    {"docs-mha",  RAGGED, 12, 4,  4, 512,  128, TOGETHER,   150, false},
    {"8b",        DENSE,  8,  32, 8, 2048, 128, TOGETHER,   0,   true},
    {"8b-full",   RAGGED, 8,  32, 8, 2048, 128, KEYS_APART, 0,   true},
    {"8b-docs",   RAGGED, 48, 32, 8, 2048, 128, KEYS_APART, 400, true},
    {"8b-docs1k", RAGGED, 48, 32, 8, 1024, 128, KEYS_APART, 400, true},
    {"8b-docst",  RAGGED, 48, 32, 8, 2048, 128, TOGETHER,   400, true},
    {"smol-512",  DENSE,  8,  9,  3, 512,  64,  TOGETHER,   0,   true},
    {"smol-2k",   DENSE,  8,  9,  3, 2048, 64,  TOGETHER,   0,   true},
    {"smol-docs", RAGGED, 48, 9,  3, 512,  64,  KEYS_APART, 90,  true},
};

/* ---- layout ---------------------------------------------------------------------------------- */

typedef struct {
    const test *t;
    int length[MOST_DOCS], first[MOST_DOCS + 1]; // of each document, in tokens
    int64_t tokens, pitch, dq_pitch, dk_pitch;   // rows of all; elements from one row to the next
    uint16_t *host_qkv, *host_do;                // bf16: rows of (hq + 2 hk) d; of hq d
    uint16_t *qkv, *o, *dout, *dqkv, *dk, *dv;   // on the device; dk, dv inside dqkv unless apart
    float *stats, *sum, *dq_sum;
    char *dk_full, *dv_full; // bf16 of every query head, for grouped ragged rows
    int *lengths, *at_qkv, *at_o, *at_stats, *at_dq, *at_dk;
    size_t dqkv_bytes, dk_bytes, full_bytes;
} data;

static void must(cudaError_t e, const char *what)
{
    if (e == cudaSuccess) return;
    fprintf(stderr, "cudnn-attention: %s: %s\n", what, cudaGetErrorString(e));
    exit(1);
}

static void *device(size_t bytes)
{
    void *p;
    must(cudaMalloc(&p, bytes), "memory");
    must(cudaMemset(p, 0xff, bytes), "fill");    // NaN in bf16 and in float
    return p;
}

static void *upload(const void *from, size_t bytes)
{
    void *p = device(bytes);
    must(cudaMemcpy(p, from, bytes, cudaMemcpyHostToDevice), "copy");
    return p;
}

static uint64_t random64(uint64_t *s)
{
    *s ^= *s << 13; *s ^= *s >> 7; *s ^= *s << 17;
    return *s;
}

/* Nearly normal bf16 numbers of deviation 1: sums of four uniform ones. */
static uint16_t *random_rows(int64_t n, uint64_t seed)
{
    uint16_t *x = malloc((size_t)n * sizeof *x);
    uint64_t s = seed * 0x9e3779b97f4a7c15u + 1;
    for (int64_t i = 0; i < n; i++) {
        uint64_t r = random64(&s);
        int sum = (int)(r & 0xffff) + (int)(r >> 16 & 0xffff) + (int)(r >> 32 & 0xffff) +
                  (int)(r >> 48);
        float f = ((float)sum - 131070.f) / 37837.f;
        uint32_t u;
        memcpy(&u, &f, sizeof u);
        x[i] = (uint16_t)((u + 0x8000) >> 16);
    }
    return x;
}

/* Lengths: all s, or random around the mean (one of a token, the last quarter empty when
 * ragged). */
static void lay_out(data *x, const test *t)
{
    uint64_t seed = 7;
    memset(x, 0, sizeof *x);
    x->t = t;
    for (int i = 0; i < t->b; i++) {
        int n = t->s, left = t->layout == RAGGED ? t->b * 3 / 4 : t->b;
        if (t->mean) n = 1 + (int)(random64(&seed) % (uint64_t)(2 * t->mean));
        if (t->mean && i == 1) n = 1;
        if (i >= left) n = 0;
        x->length[i] = n < t->s ? n : t->s;
        x->first[i] = t->layout == RAGGED ? (int)x->tokens : i * t->s;
        x->tokens = x->first[i] + (t->layout == RAGGED ? x->length[i] : t->s);
    }
    x->first[t->b] = (int)x->tokens;
    x->pitch = (t->hq + 2 * t->hk) * t->d;
    x->dq_pitch = t->apart == APART ? t->hq * t->d : x->pitch;
    x->dk_pitch = t->apart ? t->hk * t->d : x->pitch;
    x->dqkv_bytes = (size_t)(x->tokens * x->dq_pitch) * 2;
    x->dk_bytes = (size_t)(x->tokens * x->dk_pitch) * 2;
}

static int *offsets(const data *x, int64_t pitch)
{
    int at[MOST_DOCS + 1];
    for (int i = 0; i <= x->t->b; i++) at[i] = (int)(x->first[i] * pitch);
    return upload(at, (size_t)(x->t->b + 1) * sizeof *at);
}

static void allocate(data *x)
{
    const test *t = x->t;
    int64_t n = x->tokens, o = t->hq * t->d, group = t->hq / t->hk;
    x->host_qkv = random_rows(n * x->pitch, 1);
    x->host_do = random_rows(n * o, 2);
    x->qkv = upload(x->host_qkv, (size_t)(n * x->pitch) * 2);
    x->dout = upload(x->host_do, (size_t)(n * o) * 2);
    x->o = device((size_t)(n * o) * 2);
    x->dqkv = device(x->dqkv_bytes);
    x->dk = t->apart ? device(x->dk_bytes) : x->dqkv + t->hq * t->d;
    x->dv = t->apart ? device(x->dk_bytes) : x->dk + t->hk * t->d;
    x->stats = device((size_t)(n * t->hq) * 4);
    x->sum = device((size_t)(n * t->hq) * 4);
    x->dq_sum = device((size_t)(n * (t->layout == RAGGED ? x->pitch : o)) * 4);
    if (t->layout == RAGGED && group > 1) {
        x->full_bytes = (size_t)(n * x->dk_pitch * group) * 2;
        x->dk_full = device(2 * x->full_bytes);  // the second half must stay as it is
        x->dv_full = device(2 * x->full_bytes);
    }
    x->lengths = upload(x->length, (size_t)t->b * sizeof(int));
    x->at_qkv = offsets(x, x->pitch);
    x->at_o = offsets(x, o);
    x->at_stats = offsets(x, t->hq);
    x->at_dq = offsets(x, x->dq_pitch);
    x->at_dk = offsets(x, x->dk_pitch);
}

/* ---- graphs ---------------------------------------------------------------------------------- */

static int real(cg *g, int type, int64_t b, int64_t h, int64_t s, int64_t d,
                const int64_t stride[4], int ragged, void *pointer)
{
    int t = cg_tensor(g, (cudnnDataType_t)type, (int64_t[]){b, h, s, d}, stride, CG_REAL, ragged);
    g->pointer[t] = pointer;
    return t;
}

/* Rows of `pitch` elements that hold h heads of d; where `turned`, the last two axes change
 * places. */
static int rows(cg *g, const test *t, int h, int64_t pitch, bool turned, int ragged, void *pointer)
{
    int64_t s = t->s, d = t->d;
    if (turned)
        return real(g, BF16, t->b, h, d, s, (int64_t[]){ s * pitch, d, 1, pitch }, ragged, pointer);
    return real(g, BF16, t->b, h, s, d, (int64_t[]){s * pitch, d, pitch, 1}, ragged, pointer);
}

/* One float for each query: end to end by document, head fastest, when ragged. */
static int per_query(cg *g, const test *t, int ragged, void *pointer)
{
    int64_t s = t->s, h = t->hq;
    int64_t stride[2][4] = {{h * s, s, 1, 1}, {h * s, 1, h, 1}};
    return real(g, F32, t->b, h, s, 1, stride[ragged >= 0], ragged, pointer);
}

static int integers(cg *g, int n, int *pointer)
{
    return real(g, I32, n, 1, 1, 1, (int64_t[]){1, 1, 1, 1}, -1, pointer);
}

/* Values inside the graph: scores (b, hq, s, s), one per query (b, hq, s, 1). */
static int scores(cg *g, const test *t, int type)
{
    return cg_packed(g, (cudnnDataType_t)type, (int64_t[]){t->b, t->hq, t->s, t->s}, CG_VIRTUAL);
}

static int column(cg *g, const test *t)
{
    return cg_packed(g, CUDNN_DATA_FLOAT, (int64_t[]){t->b, t->hq, t->s, 1}, CG_VIRTUAL);
}

static int unary(cg *g, const test *t, cudnnPointwiseMode_t mode, int x)
{
    return cg_pointwise(g, mode, CUDNN_DATA_FLOAT, -1, x, -1, -1, scores(g, t, F32));
}

static int binary(cg *g, const test *t, cudnnPointwiseMode_t mode, int x, int b)
{
    return cg_pointwise(g, mode, CUDNN_DATA_FLOAT, -1, x, b, -1, scores(g, t, F32));
}

static int compare(cg *g, const test *t, cudnnPointwiseMode_t mode, int x, int b)
{
    return cg_pointwise(g, mode, CUDNN_DATA_BOOLEAN, -1, x, b, -1, scores(g, t, BOOL));
}

static float minus_infinity, scale, one = 1;

/* Scores where key and query lie inside the document, else -inf. */
static int mask_padding(cg *g, const test *t, int x, int lengths)
{
    int row = cg_pointwise(g, CUDNN_POINTWISE_GEN_INDEX, CUDNN_DATA_INT32, 2, x, -1, -1,
                           scores(g, t, I32));
    int col = cg_pointwise(g, CUDNN_POINTWISE_GEN_INDEX, CUDNN_DATA_INT32, 3, x, -1, -1,
                           scores(g, t, I32));
    int in_row = compare(g, t, CUDNN_POINTWISE_CMP_LT, row, lengths);
    int in_col = compare(g, t, CUDNN_POINTWISE_CMP_LT, col, lengths);
    int in = compare(g, t, CUDNN_POINTWISE_LOGICAL_AND, in_row, in_col);
    return cg_pointwise(g, CUDNN_POINTWISE_BINARY_SELECT, CUDNN_DATA_FLOAT, -1, x,
                        cg_scalar(g, &minus_infinity), in, scores(g, t, F32));
}

static int mask_causal(cg *g, const test *t, int x)
{
    int row = cg_pointwise(g, CUDNN_POINTWISE_GEN_INDEX, CUDNN_DATA_FLOAT, 2, x, -1, -1,
                           scores(g, t, I32));
    int col = cg_pointwise(g, CUDNN_POINTWISE_GEN_INDEX, CUDNN_DATA_FLOAT, 3, x, -1, -1,
                           scores(g, t, I32));
    int seen = compare(g, t, CUDNN_POINTWISE_CMP_GE, row, col);
    return cg_pointwise(g, CUDNN_POINTWISE_BINARY_SELECT, CUDNN_DATA_FLOAT, -1, x,
                        cg_scalar(g, &minus_infinity), seen, scores(g, t, F32));
}

static int lengths_of(cg *g, const data *x)
{
    return x->t->layout == DENSE ? -1 : integers(g, x->t->b, x->lengths);
}

static int ragged_of(cg *g, const data *x, int *offset)
{
    return x->t->layout == RAGGED ? integers(g, x->t->b + 1, offset) : -1;
}

/* o = softmax(mask(scale q k^T)) v, stats = log-sum-exp of each query. */
static void forward(cg *g, const data *x)
{
    const test *t = x->t;
    int at = ragged_of(g, x, x->at_qkv), len = lengths_of(g, x);
    int q = rows(g, t, t->hq, x->pitch, false, at, x->qkv);
    int k = rows(g, t, t->hk, x->pitch, true, at, x->qkv + t->hq * t->d);
    int v = rows(g, t, t->hk, x->pitch, false, at, x->qkv + (t->hq + t->hk) * t->d);
    int s = cg_matmul(g, q, k, len, len, -1, scores(g, t, F32));
    s = binary(g, t, CUDNN_POINTWISE_MUL, s, cg_scalar(g, &scale));
    if (len >= 0) s = mask_padding(g, t, s, len);
    s = mask_causal(g, t, s);
    int most = cg_reduce(g, CUDNN_REDUCE_TENSOR_MAX, s, column(g, t));
    int e = unary(g, t, CUDNN_POINTWISE_EXP, binary(g, t, CUDNN_POINTWISE_SUB, s, most));
    int sum = cg_reduce(g, CUDNN_REDUCE_TENSOR_ADD, e, column(g, t));
    int log = cg_pointwise(g, CUDNN_POINTWISE_LOG, CUDNN_DATA_FLOAT, -1, sum, -1, -1, column(g, t));
    cg_pointwise(g, CUDNN_POINTWISE_ADD, CUDNN_DATA_FLOAT, -1, most, log, -1,
                 per_query(g, t, ragged_of(g, x, x->at_stats), x->stats));
    int p = cg_pointwise(g, CUDNN_POINTWISE_DIV, CUDNN_DATA_FLOAT, -1, e, sum, -1,
                         scores(g, t, BF16));
    cg_matmul(g, p, v, len, -1, len,
              rows(g, t, t->hq, t->hq * t->d, false, ragged_of(g, x, x->at_o), x->o));
}

/* dk or dv: turned scores times rows, summed over the query heads of a group. */
static void key_gradient(cg *g, const data *x, int p, int by, int len, int at, void *full,
                         void *out)
{
    const test *t = x->t;
    int64_t group = t->hq / t->hk, pitch = x->dk_pitch * group, s = t->s, d = t->d;
    int64_t turned[4] = {t->hq * s * s, s * s, 1, s};
    int pt = cg_tensor(g, CUDNN_DATA_BFLOAT16, (int64_t[]){ t->b, t->hq, s, s }, turned, CG_VIRTUAL,
                       -1);
    int y = rows(g, t, t->hk, x->dk_pitch, false, at, out);
    cg_reshape(g, p, pt);
    if (group == 1) {
        cg_matmul(g, pt, by, len, -1, len, y);
        return;
    }
    int whole = at >= 0 ? rows(g, t, t->hq, pitch, false, at, full)
                        : cg_packed(g, CUDNN_DATA_BFLOAT16, (int64_t[]){ t->b, t->hq, s, d },
                                    CG_VIRTUAL);
    cg_reduce(g, CUDNN_REDUCE_TENSOR_ADD, cg_matmul(g, pt, by, len, -1, len, whole), y);
}

/* dq, dk, dv from do, o and the log-sum-exp.  `fixed`: dq is not added up with atomics. */
static void backward(cg *g, const data *x, bool fixed)
{
    const test *t = x->t;
    int64_t s = t->s, d = t->d, o_pitch = t->hq * t->d;
    int at = ragged_of(g, x, x->at_qkv), at_o = ragged_of(g, x, x->at_o), len = lengths_of(g, x);
    int at_stats = ragged_of(g, x, x->at_stats);
    int at_dq = ragged_of(g, x, x->at_dq), at_dk = ragged_of(g, x, x->at_dk);
    int q = rows(g, t, t->hq, x->pitch, false, at, x->qkv);
    int k = rows(g, t, t->hk, x->pitch, true, at, x->qkv + t->hq * t->d);
    int v = rows(g, t, t->hk, x->pitch, true, at, x->qkv + (t->hq + t->hk) * t->d);
    int o = rows(g, t, t->hq, o_pitch, false, at_o, x->o);
    int dout = rows(g, t, t->hq, o_pitch, false, at_o, x->dout);
    int stats = per_query(g, t, at_stats, x->stats);
    int64_t shape[4] = {t->b, t->hq, s, d};
    int product = cg_tensor(g, CUDNN_DATA_FLOAT, shape, (int64_t[]){o_pitch * s, s * d, o_pitch, 1},
                            CG_VIRTUAL, -1);
    cg_pointwise(g, CUDNN_POINTWISE_MUL, CUDNN_DATA_FLOAT, -1, dout, o, -1, product);
    int dot = cg_reduce(g, CUDNN_REDUCE_TENSOR_ADD, product, column(g, t));
    int sum = cg_pointwise(g, CUDNN_POINTWISE_MUL, CUDNN_DATA_FLOAT, -1, dot, cg_scalar(g, &one),
                           -1, per_query(g, t, at_stats, x->sum));

    int p = cg_matmul(g, q, k, len, len, -1, scores(g, t, F32));
    p = binary(g, t, CUDNN_POINTWISE_MUL, p, cg_scalar(g, &scale));
    if (len >= 0) p = mask_padding(g, t, p, len);
    p = mask_causal(g, t, binary(g, t, CUDNN_POINTWISE_SUB, p, stats));
    p = unary(g, t, CUDNN_POINTWISE_EXP, p);
    key_gradient(g, x, p, dout, len, at_dk, x->dv_full, x->dv);

    int ds = cg_matmul(g, dout, v, len, len, -1, scores(g, t, F32));
    ds = binary(g, t, CUDNN_POINTWISE_SUB, ds, sum);
    ds = binary(g, t, CUDNN_POINTWISE_MUL, ds, p);
    ds = binary(g, t, CUDNN_POINTWISE_MUL, ds, cg_scalar(g, &scale));
    key_gradient(g, x, ds, q, len, at_dk, x->dk_full, x->dk);

    int straight = cg_tensor(g, CUDNN_DATA_FLOAT, (int64_t[]){t->b, t->hk, s, d},
                             (int64_t[]){s * x->pitch, d, x->pitch, 1}, CG_VIRTUAL, at);
    int dq = rows(g, t, t->hq, x->dq_pitch, false, at_dq, x->dqkv);
    cg_reshape(g, k, straight);
    if (fixed) {
        cg_matmul(g, ds, straight, len, -1, len, dq);
        return;
    }
    int64_t flat[4] = {o_pitch * s, s * d, d, 1}, like_q[4] = {s * x->pitch, d, x->pitch, 1};
    int total = real(g, F32, t->b, t->hq, s, d, at >= 0 ? like_q : flat, at, x->dq_sum);
    cg_matmul(g, ds, straight, len, -1, len, total);
    cg_pointwise(g, CUDNN_POINTWISE_IDENTITY, CUDNN_DATA_FLOAT, -1, total, -1, -1, dq);
}
#endif
