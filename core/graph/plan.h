/* plan.h -- where every value lies and when every node runs: known before anything is allocated.
 *
 * Phases of a run, in this order: CONST once; then for each optimizer step BEGIN (STEP nodes),
 * MICRO for each micro-batch (forward and backward), END (STEP nodes that need gradients).  A
 * buffer lives from the node that fills it to the last that reads it; buffers whose lives do not
 * meet share memory.  Two regions: `keep` holds what outlives a step (constants, vectors of the
 * checkpoint, inputs), `work` everything else; another plan may use the same work region between
 * steps. */
#ifndef FT_CORE_PLAN_H
#define FT_CORE_PLAN_H
#include "core/graph/graph.h"

typedef enum { P_CONST, P_BEGIN, P_MICRO, P_END, P_N_PHASES } p_phase;

/* Where a value's bytes are. */
typedef enum { P_NOWHERE, P_KEEP, P_WORK, P_PARAM, P_GRAD, P_WEIGHT, P_BATCH, P_STATE } p_place;

typedef struct {
    p_place place;
    uint64_t offset; /* KEEP, WORK, STATE, PARAM: bytes; GRAD: elements; WEIGHT, BATCH: index */
} p_value;

typedef struct {
    uint64_t size, offset;
    uint32_t first, last; /* times: indexes into g_plan.node */
    uint32_t value;       /* that it was made for */
    p_place place;        /* KEEP or WORK */
} p_buffer;

typedef struct {
    ft_g *g;
    uint32_t *node;       /* [start[P_N_PHASES]] nodes in the order they run */
    uint32_t start[P_N_PHASES + 1];
    p_value *value;       /* [n_value] */
    uint32_t n_value;
    p_buffer *buffer;     /* [n_buffer] */
    uint32_t n_buffer;
    uint64_t keep_bytes, work_bytes, state_bytes;
    /* [g->n_param] where a trained parameter's gradient starts, in elements */
    uint64_t *grad_at;
    uint64_t param_bytes;  /* size of the array of trained parameters … */
    uint64_t grad_count;   /* … and of gradients, in elements (fp32; the reference: fp64) */
} g_plan;

/* Plans the nodes that g_rematerialize ordered.  read[i]: values that the host reads after each
 * micro-batch.  slot_tokens: generation: tokens that all slots together hold, else 0.  On error
 * *p is empty and the graph's err says why. */
int g_plan_make(g_plan *p, ft_g *g, const uint32_t *order, uint32_t n, const ft_val *read,
                int n_read, int64_t slot_tokens);
void g_plan_free(g_plan *p);
/* Bytes of one element, and of a value with every bound reached. */
int64_t g_dtype_bytes(ft_dtype);
uint64_t g_value_bytes(const ft_desc *);
/* Whether the node only gives a buffer another shape or name, so that nothing runs for it. */
bool g_is_alias(const g_node *);
#endif
