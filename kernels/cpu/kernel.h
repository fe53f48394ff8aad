/* kernel.h -- what the kernel files share.
 *
 * Every file is compiled once for each instruction set (FT_ISA is avx512, avx2 or plain) and
 * exports one table of kernels under FT_NAME(…).  A file is one group of ops: first the reference,
 * plain loops in double precision over any dtype (compiled once, with the plain set), which says
 * what the op means; then the fast kernel, written in vectors of 16 floats (vec.h), so that the
 * three instruction sets do the same operations in the same order. */
#ifndef FT_CPU_KERNEL_H
#define FT_CPU_KERNEL_H
#include <math.h>
#include <string.h>
#include "ft/kernel.h"

#define FT_PASTE2(a, b) a##_##b
#define FT_PASTE(a, b) FT_PASTE2(a, b)
#define FT_NAME(x) FT_PASTE(x, FT_ISA)

typedef struct { const ft_kernel *kernel; size_t n; } ft_table;
#define FT_TABLE(name, array)                              \
    ft_table FT_NAME(name)(void);                          \
    ft_table FT_NAME(name)(void) { return (ft_table){ array, sizeof array / sizeof *array }; }
#define FT_REFERENCE(name, array)                          \
    ft_table reference_##name(void);                       \
    ft_table reference_##name(void) { return (ft_table){ array, sizeof array / sizeof *array }; }

/* ---- for the references: any element as a double --------------------------------------------- */

static inline float bf16_get(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

/* Nearest bf16, ties to even; denormals become zero, as the processor's own instruction does. */
static inline uint16_t bf16_round(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    if ((u & 0x7F800000u) == 0) return (uint16_t)(u >> 16 & 0x8000u);
    if ((u & 0x7FFFFFFFu) > 0x7F800000u) return (uint16_t)(u >> 16 | 0x40u);
    return (uint16_t)((u + 0x7FFFu + (u >> 16 & 1u)) >> 16);
}

static inline float f16_get(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, e = h >> 10 & 31u, m = h & 1023u;
    if (e == 0) return (sign ? -1.0f : 1.0f) * (float)m * 0x1p-24f;
    uint32_t u = sign | (e == 31 ? 0x7F800000u : (e + 112u) << 23) | m << 13;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static inline double ft_get(const ft_arg *a, int64_t r, int64_t c)
{
    if (a->packed) {
        float f;
        a->packed->tile(a->packed, r, 1, c, 1, FT_F32, &f, 1);
        return (double)f;
    }
    int64_t i = r * a->ld + c;
    switch (a->dtype) {
    case FT_F64: return ((const double *)a->data)[i];
    case FT_BF16: return (double)bf16_get(((const uint16_t *)a->data)[i]);
    case FT_F16: return (double)f16_get(((const uint16_t *)a->data)[i]);
    case FT_I32: return (double)((const int32_t *)a->data)[i];
    default: return (double)((const float *)a->data)[i];
    }
}

static inline void ft_put(const ft_arg *a, int64_t r, int64_t c, double v)
{
    int64_t i = r * a->ld + c;
    if (a->dtype == FT_F64) ((double *)a->data)[i] = v;
    else if (a->dtype == FT_BF16) ((uint16_t *)a->data)[i] = bf16_round((float)v);
    else ((float *)a->data)[i] = (float)v;
}

/* Stores v, or adds it where the call accumulates. */
static inline void ft_sum_into(const ft_call *c, int64_t r, int64_t col, double v)
{
    ft_put(&c->out[0], r, col, c->accumulate ? v + ft_get(&c->out[0], r, col) : v);
}

/* ---- sums over rows
 * ------------------------------------------------------------------------------- Rows are visited
 * in blocks: a block is at most FT_TOKEN_BLOCK rows; for tokens it starts at a multiple of that
 * from the row's first token and does not cross the row's end, for trained rows it holds those
 * whose tokens lie in such a block.  So what is added to what depends on the rows of the batch
 * alone, not on how many rows share a micro-batch. */
typedef struct { int64_t begin, end, row; } ft_block;

static inline int64_t ft_token_of(const ft_call *k, const ft_arg *a, int64_t i)
{
    return a->axis == 2 ? k->batch->trained[i] : i;
}

/* The next block of a's rows after *b (start with zeros); false at the end. */
static inline bool ft_next_block(const ft_call *k, const ft_arg *a, ft_block *b)
{
    int64_t n = ft_rows(k, a), i = b->end;
    if (i >= n) return false;
    b->begin = i;
    if (a->axis == 0) {
        b->end = i + FT_TOKEN_BLOCK < n ? i + FT_TOKEN_BLOCK : n;
        return true;
    }
    const int32_t *start = k->batch->row_start;
    int64_t token = ft_token_of(k, a, i);
    while (start[b->row + 1] <= token) b->row++;
    int64_t stop = start[b->row] + ((token - start[b->row]) / FT_TOKEN_BLOCK + 1) * FT_TOKEN_BLOCK;
    if (stop > start[b->row + 1]) stop = start[b->row + 1];
    if (a->axis == 1) {
        b->end = stop;
    } else {
        while (i < n && k->batch->trained[i] < stop) i++;
        b->end = i;
    }
    return true;
}

/* n numbers of row r from column c on as floats: in place where they lie so, else put into buf. */
static inline const float *ft_row_floats(const ft_arg *a, int64_t r, int64_t c, int64_t n,
                                         float *buf)
{
    int64_t i = r * a->ld + c;
    if (a->packed) {
        a->packed->tile(a->packed, r, 1, c, n, FT_F32, buf, n);
        return buf;
    }
    if (a->dtype == FT_F32) return (const float *)a->data + i;
    for (int64_t j = 0; j < n; j++)
        buf[j] = a->dtype == FT_BF16 ? bf16_get(((const uint16_t *)a->data)[i + j])
                                     : f16_get(((const uint16_t *)a->data)[i + j]);
    return buf;
}

/* Items of eight rows of the first input. */
enum { FT_ITEM_ROWS = 8 };
static inline int64_t row_items(const ft_call *k)
{
    return (ft_rows(k, &k->in[0]) + FT_ITEM_ROWS - 1) / FT_ITEM_ROWS;
}
static inline int64_t row_stop(const ft_call *k, int64_t end)
{
    int64_t rows = ft_rows(k, &k->in[0]);
    return end * FT_ITEM_ROWS < rows ? end * FT_ITEM_ROWS : rows;
}

/* Where row r of a plain fp32 or bf16 argument starts; a single row serves all. */
static inline void *ft_row(const ft_arg *a, int64_t r)
{
    return (char *)a->data + (a->rows == 1 ? 0 : r) * a->ld * (a->dtype == FT_BF16 ? 2 : 4);
}

/* A kernel that does everything in one item. */
static inline int64_t one_item(const ft_call *c)
{
    (void)c;
    return 1;
}
#endif
