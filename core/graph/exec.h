/* exec.h -- a plan bound to memory and kernels, and run. */
#ifndef FT_CORE_EXEC_H
#define FT_CORE_EXEC_H
#include "core/base/pool.h"
#include "core/graph/plan.h"

/* Kernels of one variant of a backend. */
typedef struct { const ft_kernel *kernel; size_t n; const char *variant; } g_kernels;

/* Where the plan's regions lie; all 64-byte aligned, all outlive the g_exec. */
typedef struct {
    void *keep, *work, *state;
    void *param;            /* [param_bytes] */
    void *grad;             /* [grad_count] fp32 (reference: fp64) */
    const ft_arg *weight;   /* [g->n_weight] matrices as they lie; vectors may be any plain dtype */
    void *scratch;          /* [threads * g_scratch.thread + g_scratch.shared] */
    /* Told of a matrix of the checkpoint when a node has read it; NULL: they stay. */
    void (*let_go)(void *ctx, uint32_t weight);
    void *ctx;
} g_memory;

typedef struct g_exec g_exec;

/* Scratch that the kernels of this plan need: of each thread, and one for all; and what a
 * micro-batch with every bound reached multiplies and adds in matrix products. */
typedef struct { uint64_t thread, shared; double flops; } g_scratch;

/* weight: shapes, dtypes and packed-ness count, data may be NULL.  An error when a kernel is
 * missing. */
int g_scratch_sizes(const g_plan *, const g_kernels *, const ft_arg *weight, int threads,
                    g_scratch *out, ft_err *e);

/* Binds the plan.  The vectors of the checkpoint and the tables are copied into keep. */
g_exec *g_exec_new(const g_plan *, const g_kernels *, const g_memory *, ft_pool *, ft_err *e);
void g_exec_free(g_exec *);

/* CONST nodes, once, after parameters that they read are there. */
void g_exec_const(g_exec *);
/* Zeroes the sums of gradients and computes STEP values. */
void g_exec_begin(g_exec *);
/* Forward and backward of one micro-batch, whose arrays stay in place for the call. */
void g_exec_micro(g_exec *, const ft_batch *);
/* Sends the gradients of STEP values on to the parameters. */
void g_exec_end(g_exec *);

/* Where a value lies; valid while its buffer lives. */
void *g_exec_data(const g_exec *, ft_val);
/* Debugging: buffers are filled with NaN patterns when their last reader has run. */
void g_exec_poison(g_exec *, bool on);

/* Time spent by op, in the order of first use; for --profile.  flops: of matrix products, 0 for the
 * others. */
typedef struct {
    const char *op;
    uint64_t calls;
    double seconds;
    uint64_t bytes;
    double flops;
} g_profile;
void g_exec_profile(g_exec *, bool on);
size_t g_exec_profile_rows(const g_exec *, const g_profile **rows);
#endif
