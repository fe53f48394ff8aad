/* ft/kernel.h -- role "ft.backend/1": kernels, and what a kernel sees when it runs.
 *
 * A kernel computes one op for one compute dtype.  The host owns the threads: it asks for the
 * number of items, and lets threads run ranges of them in any order.  What the items of a round
 * compute together, and the order of every sum in it, depends on the data alone, never on ranges or
 * threads: that is what makes results the same on any number of threads.  Items may be pieces of
 * the result, or workers that share it out among themselves, of which the first would do it all
 * alone: one may wait for what another has begun, never for one that has not begun.  A kernel
 * cannot fail.
 *
 * Numerics (docs/architecture.md has the whole contract): inputs are widened to fp32, outputs are
 * rounded once to the compute dtype (to nearest, ties to even); sums run in ascending order with
 * fused multiply-add; sums over tokens run over blocks of 256 positions of a row, each from zero,
 * added in order; denormals are zero.  Compute dtype F64 is the reference: plain loops in double
 * precision that the fast kernels and the gradient checks are held against. */
#ifndef FT_KERNEL_H
#define FT_KERNEL_H
#include "ft/plugin.h"
#include "ft/tensor.h"

enum { FT_TOKEN_BLOCK = 256 };

/* Attribute `kind` of the ops unary, unary_dx, glu, glu_dx and binary. */
enum { FT_SILU, FT_GELU, FT_GELU_TANH, FT_RELU, FT_SIGMOID, FT_TANH, FT_SQRT, FT_LOG_SIGMOID,
       FT_N_UNARY };
enum { FT_ADD, FT_SUB, FT_MUL, FT_DIV, FT_N_BINARY };

/* Numbers in packed form: tile() gives rows r0 … r0+nr-1, columns c0 … c0+nc-1 as fp32 or bf16,
 * row-major with ld elements between rows.  Exact, without allocation, from any thread. */
typedef struct ft_packed ft_packed;
struct ft_packed {
    void (*tile)(const ft_packed *, int64_t r0, int64_t nr, int64_t c0, int64_t nc, ft_dtype to,
                 void *dst, int64_t ld);
    int64_t rows, cols;
    const void *part[4];       /* codes, absmax …: the quantizer's own */
    const void *info;          /* likewise */
    double number[2];          /* likewise */
};

/* A value as a matrix: rows by cols, `ld` elements from row to row.  A vector is one row, a scalar
 * 1 by 1.  rows is the bound; the rows present are in the batch. */
typedef struct {
    void *data;                /* NULL when packed */
    const ft_packed *packed;
    int64_t rows, cols, ld;
    ft_dtype dtype;
    uint8_t axis;              /* ft_axis: what the rows count */
} ft_arg;

/* The micro-batch: documents one after the other, without padding. */
typedef struct {
    int64_t n_tokens, n_rows, n_docs, n_trained;
    const int32_t *ids;        /* [n_tokens] -1 … -n: virtual tokens */
    const int32_t *position;   /* [n_tokens] counted from the document's start */
    const int32_t *row_start;  /* [n_rows + 1] */
    const int32_t *doc_start;  /* [n_docs + 1]; no document crosses a row's end */
    const int32_t *trained;    /* [n_trained] tokens whose next token carries loss, ascending */
    const int32_t *target;     /* [n_trained] that next token */
    uint64_t seed;
    int64_t step;              /* optimizer step, from 1 */
    int64_t first_row;         /* number of the first row within the step */
    int64_t row_tokens;        /* tokens a row may have */
    float loss_scale;          /* what the gradient of the loss starts from */
    /* Generation: where each document's keys and values are kept, and how many are there already */
    const int32_t *slot;       /* [n_docs] or NULL */
    const int32_t *cached;     /* [n_docs] */
    int64_t slot_tokens;       /* tokens a slot may have */
    bool one_more;             /* every document is one more token of a text under way */
} ft_batch;

typedef struct {
    const ft_arg *in, *out;
    int n_in, n_out;
    const double *attr;        /* in the order of the op's attributes */
    uint64_t key;              /* logical site and ordinal: for random numbers */
    const ft_batch *batch;
    bool accumulate;           /* out[0] += instead of = : gradients of parameters */
    int threads;               /* how many may share the items: for their size, never for results */
    int64_t round;             /* see ft_kernel.rounds */
    void *shared;              /* memory of this call, kept over its rounds; 64-byte aligned */
} ft_call;

/* Rows of an argument that are present in this batch. */
static inline int64_t ft_rows(const ft_call *c, const ft_arg *a)
{
    return a->axis == 1 ? c->batch->n_tokens : a->axis == 2 ? c->batch->n_trained : a->rows;
}

typedef struct {
    uint32_t size;
    const char *op;
    ft_dtype dtype;            /* compute dtype: F32, BF16, F64 */
    /* Bytes of scratch a thread needs at most, with every bound reached; NULL: none. */
    size_t (*scratch)(const ft_call *);
    int64_t (*items)(const ft_call *);
    /* scratch: 64-byte aligned, this thread's own. */
    void (*run)(const ft_call *, int64_t begin, int64_t end, void *scratch);
    /* A kernel of several rounds: call.round counts them from 0, and every item of one is done
     * before the next begins.  NULL: one round. */
    int64_t (*rounds)(const ft_call *);
    size_t (*shared)(const ft_call *); /* bytes of call.shared at most; NULL: none */
} ft_kernel;

typedef struct {
    uint32_t size;
    /* The instruction sets this machine can run, best first (avx512, avx512fma, avx2, plain). */
    const char *const *(*variants)(void);
    /* The kernels of one of them, or NULL for a name that it does not have. */
    const ft_kernel *(*kernels)(const char *variant, size_t *n);
    /* Sets the floating-point state of the calling thread (round to nearest, denormals are
     * zero). */
    void (*enter)(void);
    /* Whether the variant keeps the numerics contract on this machine, by running it. */
    bool (*self_test)(const char *variant);
} ft_backend;
#endif
