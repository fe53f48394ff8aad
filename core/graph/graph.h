/* graph.h -- the graph as the core sees it: values, nodes, ops, and what the passes do to them.
 *
 * The way of a graph:
 *   build    model, adapters and loss call ft_op (graph.c, site.c); small rewrites happen as nodes
 *            are made (rewrite.c): sums of linears become one many-term linear, log-probabilities
 *            of a linear become linear_logprob on the trained rows
 *   derive   reverse-mode nodes are appended (derive.c, the rules beside their ops: ops_*.c)
 *   remat    values that are not kept are computed again in the backward pass (remat.c)
 *   plan     dead nodes go, every buffer gets an offset in one arena (plan.c)
 *   exec     kernels are bound and run (exec.c) */
#ifndef FT_CORE_GRAPH_H
#define FT_CORE_GRAPH_H
#include "core/base/arena.h"
#include "core/base/err.h"
#include "ft/adapter.h"
#include "ft/graph.h"
#include "ft/kernel.h"

enum { G_MAX_ATTR = 6, G_MAX_OUT = 10, G_CHUNK = 1024, G_MAX_CHUNKS = 4096 };

/* Where a value comes from. */
typedef enum {
    G_NODE,     /* an output of a node */
    G_INPUT,    /* data of the batch: G_IDS … */
    G_WEIGHT,   /* a frozen weight of the checkpoint; index into weights */
    G_PARAM,    /* a trained (or frozen adapter) parameter; index into params */
    G_TABLE,    /* a constant that a model plugin computed; index into tables */
    G_ACC,      /* gradient of a STEP value, summed over the micro-batches; index = that value */
    G_SEED,     /* the gradient that the loss vector starts with: loss_scale everywhere */
    G_STATE     /* keys or values of earlier tokens (generation); index counts them */
} g_source;

enum { G_IDS, G_POSITIONS, G_TARGETS, G_N_INPUTS };

typedef struct {
    ft_desc desc;
    g_source source;
    uint32_t node;     /* G_NODE: who makes it */
    uint32_t index;    /* see g_source; G_NODE: which output */
    bool grad;         /* a trained parameter is among its ancestors */
    uint32_t uses;     /* nodes that have read it so far */
    uint32_t acc;      /* STEP values: the G_ACC value that sums its gradient, or 0 */
} g_value;

typedef struct g_op g_op;

/* Which pass made a node, and so where it may run. */
typedef enum { G_FORWARD, G_BACKWARD } g_side;

typedef struct {
    const g_op *op;
    double attr[G_MAX_ATTR];
    uint32_t *in;
    uint32_t out[G_MAX_OUT];
    int n_in, n_out;
    g_side side;
    ft_lifetime life;
    bool accumulate;   /* out[0] is a G_ACC value and is added to */
    bool dead;
    uint64_t key;      /* dropout: logical site and ordinal; kept by recomputed copies */
    int32_t layer;
} g_node;

typedef struct ft_g ft_g;

/* One op: how to check and shape it, and its backward rule. */
struct g_op {
    const char *name;
    int min_in, max_in;
    const char *attr[G_MAX_ATTR]; /* names, in order */
    /* Sets n_out and the shape and axis of each output (dtype and life are filled; change the dtype
     * where it differs).  0, or -1 after g_fail. */
    int (*shape)(ft_g *, g_node *, ft_desc *out);
    /* dy[i]: gradient of output i or 0.  Sets dx[i] for each input whose g_value.grad is set (0: no
     * gradient flows).  For an input of shorter life than the node (a parameter met by activations)
     * dx must come from an op with `reduces`. */
    void (*backward)(ft_g *, const g_node *, const ft_val *dy, ft_val *dx);
    bool follows;      /* computes in the dtype of its first input, else in the graph's */
    bool raw;          /* reads weights of the checkpoint as they lie, packed or 16 bits wide */
    bool reduces;      /* sums over the rows of the batch, and can add to its output */
    bool cheap;        /* worth recomputing rather than keeping */
    int inplace[2];    /* for outputs 0 and 1: input whose buffer it may take over, +1; 0: none */
    uint32_t linear;   /* bit i: linear in input i (merging) */
};

typedef struct { const char *name; ft_shape shape; uint32_t value; bool trained; } g_weight;

typedef struct {
    const char *name;  /* as in files: "base_model.model.….lora_A.weight" or a weight's own name */
    const char *site;  /* module path; NULL: shared */
    ft_shape shape;
    unsigned flags;    /* FT_FROZEN, FT_NO_DECAY */
    ft_init init;
    uint32_t value;
    bool weight;       /* a trained weight of the checkpoint: initial value from there */
    bool saved;        /* part of the adapter's file */
} g_param;

typedef struct { const char *name; ft_shape shape; const float *data; uint32_t value; } g_table;

/* Decides what is adapted and trained; filled by the stage before a build. */
typedef struct {
    /* The adapter for a site, or NULL.  Fills in the site's index among the adapter's, all and
     * saved_as. */
    const ft_adapter *(*adapter)(void *ctx, ft_site *, void **self, const char **plugin);
    /* Whether a weight of the checkpoint is trained, and the name it is saved under. */
    bool (*trained)(void *ctx, const char *weight, const char **saved_as);
    void *ctx;
    ft_dtype matrices; /* of trained weights: FT_BF16, or FT_NO_DTYPE for fp32 */
} g_method;

struct ft_g {
    ft_graph pub;          /* first: an ft_graph * is an ft_g * */
    ft_arena arena;
    ft_err err;            /* the first error; everything after is void */
    ft_dtype compute;      /* F32, BF16, F64 */
    int64_t max_tokens, max_trained; /* bounds of the axes */
    bool cached;           /* attention reads keys and values of earlier tokens */
    bool train;            /* dropout is on */
    /* what positions are counted from: 0 unless an adapter says otherwise */
    int64_t first_position;
    const g_method *method; /* NULL: nothing adapted, nothing trained */

    g_value **value_chunk; /* values and nodes never move: chunks of G_CHUNK */
    g_node **node_chunk;
    uint32_t n_value, n_node; /* value 0 is void */
    g_weight *weight;
    uint32_t n_weight, cap_weight;
    g_param *param;
    uint32_t n_param, cap_param;
    g_table *table;
    uint32_t n_table, cap_table;
    uint32_t n_state;
    ft_site *site;         /* every site that was met, in order */
    uint32_t n_site, cap_site;
    uint32_t input[G_N_INPUTS];
    uint32_t *boundary;    /* residual stream at the start of each layer */
    uint32_t n_boundary, cap_boundary;

    g_side side;
    int32_t layer;
    const char *plugin;    /* adapter being asked, for messages */
    const ft_site *at;     /* site being asked */
    uint32_t at_weight, at_bias, at_ids;
    uint32_t extra_k, extra_v;
    uint32_t dropouts;     /* at this site so far */
    uint32_t penalty;      /* sum of penalties, a STEP scalar, or 0 */
    uint32_t loss;         /* the loss vector */
    uint32_t seed;         /* its gradient */
};

/* ---- graph.c --------------------------------------------------------------------------------- */
ft_g *g_new(ft_dtype compute, int64_t max_tokens, int64_t max_trained, const g_method *);
void g_free(ft_g *);
/* Records the first error with plugin and site; returns a void value. */
ft_val g_fail(ft_g *, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
ft_val g_make(ft_g *, const char *op, const double *attr, int n_attr, const ft_val *in, int n_in);
/* The dtype a node computes in. */
ft_dtype g_node_dtype(const ft_g *, const g_node *);
/* Output i of the node that makes v. */
ft_val g_out(ft_g *, ft_val v, int i);
ft_val g_leaf(ft_g *, g_source, uint32_t index, ft_desc, bool grad);
uint32_t g_add_value(ft_g *, g_value);
g_weight *g_add_weight(ft_g *); /* zeroed; NULL: out of memory, reported */
g_param *g_add_param(ft_g *);
g_table *g_add_table(ft_g *);
ft_site *g_add_site(ft_g *);
void g_add_boundary(ft_g *, ft_val);
g_node *g_producer(const ft_g *, ft_val v); /* NULL: not made by a node */
static inline g_value *g_value_at(const ft_g *g, uint32_t i)
{
    return &g->value_chunk[i / G_CHUNK][i % G_CHUNK];
}
static inline g_node *g_node_at(const ft_g *g, uint32_t i)
{
    return &g->node_chunk[i / G_CHUNK][i % G_CHUNK];
}
static inline g_value *g_val(const ft_g *g, ft_val v) { return g_value_at(g, v.id); }
static inline const ft_desc *g_desc(const ft_g *g, ft_val v) { return &g_val(g, v)->desc; }
/* Rows and columns of a value seen as a matrix: the last axis is columns; a vector is one row,
 * unless its axis is data (then one column). */
int64_t g_rows(const ft_desc *);
int64_t g_cols(const ft_desc *);
uint64_t g_hash(const char *text, uint64_t seed);
/* Value of the batch input G_IDS …, made when first asked for. */
ft_val g_input(ft_g *, int which);

/* ---- ops: ops.c has the table; ops_*.c the rules --------------------------------------------- */
const g_op *g_op_find(const char *name);
extern const g_op g_ops_linear[], g_ops_elementwise[], g_ops_model[], g_ops_shape[],
    g_ops_experts[];

/* ---- rewrite.c: called by g_make before a node is made; a non-zero result replaces it -------- */
ft_val g_rewrite(ft_g *, const g_op *, const double *attr, const ft_val *in, int n_in);

/* ---- api.c, site.c: the public functions behind ft_graph_api --------------------------------- */
extern const ft_graph_api g_api;
ft_val g_api_op(ft_graph *, const char *op, const ft_attr *, int n_attr, const ft_val *in, int n);
ft_val g_api_fail(ft_graph *, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The rows of symbolic logits that the batch's `trained` list names, in fp32 (trained rows,
 * vocab). */
ft_val g_logits(ft_g *, ft_val logits);
static inline ft_g *g_of(ft_graph *p) { return (ft_g *)(void *)p; }

/* ---- derive.c -------------------------------------------------------------------------------- */
/* Appends the backward pass of the loss vector; afterwards the gradient of trained parameter p is
 * the G_ACC value acc of its value. */
int g_derive(ft_g *, ft_val loss);
/* Gradient accumulator of a STEP value. */
ft_val g_acc(ft_g *, ft_val v);

/* ---- remat.c --------------------------------------------------------------------------------- */
typedef enum {
    G_KEEP,      /* keep what is dear, recompute what is cheap */
    G_RECOMPUTE, /* in layers below `layers`, keep the residual stream at their start alone */
    G_KEEP_ALL   /* recompute nothing */
} g_remat;
/* Drops what neither `wanted` values nor gradients need, and fills *order (malloc) with the nodes
 * to run, recomputed copies included.  Once a graph. */
int g_rematerialize(ft_g *, g_remat, int32_t layers, const ft_val *wanted, int n_wanted,
                    uint32_t **order, uint32_t *n);
#endif
