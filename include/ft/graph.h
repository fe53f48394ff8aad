/* ft/graph.h -- describe a computation; the core derives, plans and runs it.
 *
 * A graph is built once for a batch shape.  Its values are symbolic: a shape, a dtype, who made
 * them, how long they live -- never data.  Model plugins build the forward pass, adapters rewrite
 * sites of it, losses end it.  The backward pass, recomputation, fusion, memory and kernels are the
 * core's business: nothing here names a mode, a device or a thread.
 *
 * Values and errors.  An ft_val is an id; 0 means failed.  An op given a failed value returns a
 * failed value, and the first error is kept with plugin, site and reason, so neither NULL checks
 * nor clean-up are needed: build everything, return, and the core reports.
 *
 * Shapes.  Activations are (T, d): tokens of the micro-batch by features; T is a bound and the
 * tokens present are data.  Weights are (out, in), as PyTorch has them.
 *
 * Lifetimes are inferred: CONST (from frozen weights alone: computed once), STEP (from trained
 * parameters: computed once an optimizer step, its gradient summed over the micro-batches and sent
 * back once at the end), MICRO (depends on the batch).
 *
 * Dtypes.  MICRO values have the graph's compute dtype (fp32 or bf16), STEP and CONST values are
 * fp32.  A matrix that meets an activation in `linear` is rounded to the compute dtype first;
 * vectors and scalars are used in fp32.  Every value is rounded once, when it is made. */
#ifndef FT_GRAPH_H
#define FT_GRAPH_H
#include "ft/plugin.h"
#include "ft/tensor.h"

typedef struct ft_graph ft_graph;
typedef struct { uint32_t id; } ft_val;

typedef struct { int32_t ndim; int64_t dim[4]; } ft_shape;
static inline ft_shape ft_0d(void) { return (ft_shape){ 0, { 0 } }; }
static inline ft_shape ft_1d(int64_t a) { return (ft_shape){ 1, { a } }; }
static inline ft_shape ft_2d(int64_t a, int64_t b) { return (ft_shape){ 2, { a, b } }; }
static inline ft_shape ft_3d(int64_t a, int64_t b, int64_t c)
{
    return (ft_shape){ 3, { a, b, c } };
}

typedef enum { FT_LIFE_CONST, FT_LIFE_STEP, FT_LIFE_MICRO } ft_lifetime;

/* What the first axis counts, if its extent is data of the batch. */
typedef enum { FT_AXIS_FIXED, FT_AXIS_TOKENS, FT_AXIS_TRAINED } ft_axis;

typedef struct {
    ft_shape shape;
    ft_dtype dtype;
    ft_lifetime life;
    ft_axis axis;
} ft_desc;

typedef struct { const char *name; double v; } ft_attr; /* integers up to 2^53 are exact */

/* ---- parameters of an adapter: declared, not filled ------------------------------------------ */
enum { FT_TRAIN = 0, FT_FROZEN = 1, FT_NO_DECAY = 2 };

typedef enum { FT_INIT_FILL, FT_INIT_NORMAL, FT_INIT_UNIFORM, FT_INIT_VALUE } ft_init_kind;
typedef struct { ft_init_kind kind; double a, b; ft_val from; } ft_init;

static inline ft_init ft_fill(double c) { return (ft_init){ FT_INIT_FILL, c, 0, { 0 } }; }
static inline ft_init ft_normal(double std) { return (ft_init){ FT_INIT_NORMAL, 0, std, { 0 } }; }
static inline ft_init ft_uniform(double lo, double hi)
{
    return (ft_init){ FT_INIT_UNIFORM, lo, hi, { 0 } };
}
/* Starts as the value v has at step 0, which may depend on weights and on other parameters. */
static inline ft_init ft_init_value(ft_val v) { return (ft_init){ FT_INIT_VALUE, 0, 0, v }; }

/* ---- sites: the places of a model that an adapter may rewrite -------------------------------- */
enum {
    FT_SITE_LINEAR = 1,    /* y = x W^T (+ b); x (T, in) */
    FT_SITE_GROUPED = 2,   /* the same for each of the k experts of a token: x (T, in) for all of
                              them or (T, k*in), y (T, k*out) */
    FT_SITE_EMBED = 4,     /* rows of W (in, out) picked by ids; x: the ids */
    FT_SITE_SUBLAYER = 8,  /* what attention or MLP adds to the residual stream; x: that */
    FT_SITE_ATTENTION = 16 /* x: the queries after position encoding; ft_extra_kv may be called */
};

typedef struct {              /* what all sites that one adapter rewrites have in common */
    int64_t n, layers, max_in, max_out;
} ft_site_set;

typedef struct {
    uint32_t size, kind;      /* FT_SITE_* */
    const char *name;         /* HF module path: "model.layers.3.self_attn.q_proj" */
    int32_t layer, index;     /* -1 outside of layers; index among the adapter's sites */
    int64_t in, out;          /* EMBED: vocabulary, width */
    bool bias;                /* LINEAR: the base has one */
    int64_t experts;          /* GROUPED: how many */
    int64_t kv_heads, head_dim; /* ATTENTION */
    const ft_site_set *all;
    bool by_in;               /* GROUPED: the weight is (experts, in, out), else (…, out, in) */
    const char *saved_as;     /* its path in adapters' files where that is not its name, or NULL */
} ft_site;

/* What a router chose: ids (T, k) of experts, and their weights (T, k). */
typedef struct { ft_val ids, weights; } ft_routing;
/* Of ft_site_grouped. */
enum {
    FT_BIAS = 1,      /* there is a bias */
    FT_BY_IN = 2,     /* the weight is (experts, in, out) */
    FT_PER_EXPERT = 4 /* x is (T, k*in): a part for each expert of a token */
};

/* y = (up + plus) g sigmoid(alpha g) for a joined projection whose halves, or even and odd
 * features, are g and up; limit not 0: g is cut to at most limit, up to [-limit, limit]. */
typedef struct { bool interleaved; double alpha, limit, plus; } ft_swiglu_args;

/* Attributes of attention; 0 leaves a thing out (scale 0: head_dim^-0.5). */
typedef struct {
    int64_t heads, kv_heads, head_dim, window;
    double scale, softcap;
} ft_attention_args;

/* ---- the functions behind the wrappers below ------------------------------------------------- */
typedef struct {
    uint32_t size;
    ft_val (*op)(ft_graph *, const char *op, const ft_attr *attr, int n_attr, const ft_val *in,
                 int n);
    ft_val (*fail)(ft_graph *, int code, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
    const ft_desc *(*desc)(ft_graph *, ft_val); /* of a failed value: all zero */
    /* model plugins */
    ft_val (*weight)(ft_graph *, const char *name, ft_shape);
    ft_val (*site_linear)(ft_graph *, const char *name, ft_val x, int64_t out, bool bias, ft_val w);
    ft_val (*site_embed)(ft_graph *, const char *name, int64_t rows, int64_t width, ft_val ids);
    ft_val (*sublayer)(ft_graph *, const char *name, ft_val x);
    ft_val (*attention)(ft_graph *, const char *name, ft_val q, ft_val k, ft_val v,
                        const ft_attention_args *, ft_val sinks);
    ft_val (*layer)(ft_graph *, int32_t index, ft_val x);
    ft_val (*constant)(ft_graph *, const char *name, ft_shape, const float *data);
    /* adapters */
    ft_val (*base)(ft_graph *, const ft_site *, ft_val x);
    ft_val (*site_weight)(ft_graph *, const ft_site *, bool bias);
    ft_val (*param)(ft_graph *, const ft_site *, const char *key, ft_shape, unsigned flags,
                    ft_init);
    void (*extra_kv)(ft_graph *, const ft_site *, ft_val k, ft_val v);
    void (*penalty)(ft_graph *, ft_val scalar);
    double (*pattern)(ft_graph *, const ft_map *, const char *name, double otherwise);
    /* experts */
    ft_val (*site_grouped)(ft_graph *, const char *name, ft_val x, ft_val ids, int64_t experts,
                           int64_t out, unsigned flags);
    ft_val (*grouped)(ft_graph *, const ft_site *, ft_val x, ft_val w);
} ft_graph_api;

struct ft_graph { const ft_graph_api *api; /* the rest is the core's */ };

/* Any op by name (docs/ops.md lists them), also those that plugins bring. */
static inline ft_val ft_op(ft_graph *g, const char *op, const ft_attr *attr, int n_attr,
                           const ft_val *in, int n)
{
    return g->api->op(g, op, attr, n_attr, in, n);
}
#define ft_fail(g, code, ...) ((g)->api->fail((g), (code), __VA_ARGS__))
static inline const ft_desc *ft_describe(ft_graph *g, ft_val v) { return g->api->desc(g, v); }

static inline ft_val ft_op1(ft_graph *g, const char *op, ft_val x)
{
    return ft_op(g, op, 0, 0, &x, 1);
}
static inline ft_val ft_op2(ft_graph *g, const char *op, ft_val a, ft_val b)
{
    return ft_op(g, op, 0, 0, (ft_val[]){ a, b }, 2);
}

/* y = x w^T.  x (n, in), w (out, in) → (n, out).  Either may be a weight, packed or not. */
static inline ft_val ft_linear(ft_graph *g, ft_val x, ft_val w)
{
    return ft_op2(g, "linear", x, w);
}

/* Elementwise; b may also be a vector over the last axis, a column (n, 1), or a scalar. */
static inline ft_val ft_add(ft_graph *g, ft_val a, ft_val b) { return ft_op2(g, "add", a, b); }
static inline ft_val ft_sub(ft_graph *g, ft_val a, ft_val b) { return ft_op2(g, "sub", a, b); }
static inline ft_val ft_mul(ft_graph *g, ft_val a, ft_val b) { return ft_op2(g, "mul", a, b); }
static inline ft_val ft_div(ft_graph *g, ft_val a, ft_val b) { return ft_op2(g, "div", a, b); }
static inline ft_val ft_scale(ft_graph *g, ft_val x, double c)
{
    return ft_op(g, "scale", (ft_attr[]){ { "by", c } }, 1, &x, 1);
}
/* x + c, elementwise. */
static inline ft_val ft_shift(ft_graph *g, ft_val x, double c)
{
    return ft_op(g, "shift", (ft_attr[]){ { "by", c } }, 1, &x, 1);
}
static inline ft_val ft_sqrt(ft_graph *g, ft_val x) { return ft_op1(g, "sqrt", x); }
static inline ft_val ft_tanh(ft_graph *g, ft_val x) { return ft_op1(g, "tanh", x); }
static inline ft_val ft_silu(ft_graph *g, ft_val x) { return ft_op1(g, "silu", x); }
static inline ft_val ft_relu(ft_graph *g, ft_val x) { return ft_op1(g, "relu", x); }
/* erf */
static inline ft_val ft_gelu(ft_graph *g, ft_val x) { return ft_op1(g, "gelu", x); }
static inline ft_val ft_gelu_tanh(ft_graph *g, ft_val x) { return ft_op1(g, "gelu_tanh", x); }
static inline ft_val ft_sigmoid(ft_graph *g, ft_val x) { return ft_op1(g, "sigmoid", x); }
static inline ft_val ft_log_sigmoid(ft_graph *g, ft_val x) { return ft_op1(g, "log_sigmoid", x); }

/* act(gate) * up with act silu, gelu_tanh or gelu. */
static inline ft_val ft_glu(ft_graph *g, const char *act, ft_val gate, ft_val up)
{
    return ft_mul(g, ft_op1(g, act, gate), up);
}

/* Zero with probability p, else x / (1-p).  The mask depends on seed, step, site, how many
 * dropouts the site had before, token and column alone.  p = 0 gives x itself. */
static inline ft_val ft_dropout(ft_graph *g, ft_val x, double p)
{
    return ft_op(g, "dropout", (ft_attr[]){ { "p", p } }, 1, &x, 1);
}

/* The same value, through which no gradient flows. */
static inline ft_val ft_detach(ft_graph *g, ft_val x) { return ft_op1(g, "detach", x); }

/* Sum over everything → scalar; over each row → (n); dot of the rows of a and b → (n). */
static inline ft_val ft_sum(ft_graph *g, ft_val x) { return ft_op1(g, "sum", x); }
static inline ft_val ft_row_sum(ft_graph *g, ft_val x) { return ft_op1(g, "row_sum", x); }
static inline ft_val ft_row_dot(ft_graph *g, ft_val a, ft_val b)
{
    return ft_op2(g, "row_dot", a, b);
}

/* x[from:to] along an axis; (n, m) → (m, n); the same numbers in another shape. */
static inline ft_val ft_slice(ft_graph *g, ft_val x, int axis, int64_t from, int64_t to)
{
    return ft_op(g, "slice", (ft_attr[]){ { "axis", axis }, { "from", (double)from },
                 { "to", (double)to } }, 3, &x, 1);
}
static inline ft_val ft_transpose(ft_graph *g, ft_val x) { return ft_op1(g, "transpose", x); }
static inline ft_val ft_reshape(ft_graph *g, ft_val x, ft_shape s)
{
    ft_attr a[4];
    for (int i = 0; i < s.ndim; i++) a[i] = (ft_attr){ "dim", (double)s.dim[i] };
    return ft_op(g, "reshape", a, s.ndim, &x, 1);
}
/* a and b one after the other along an axis. */
static inline ft_val ft_concat(ft_graph *g, ft_val a, ft_val b, int axis)
{
    return ft_op(g, "concat", (ft_attr[]){ { "axis", axis } }, 1, (ft_val[]){ a, b }, 2);
}

/* Rows of w (n, d) picked by ids → (T, d). */
static inline ft_val ft_embedding(ft_graph *g, ft_val ids, ft_val w)
{
    return ft_op2(g, "embedding", ids, w);
}

/* x / sqrt(mean(x^2) + eps) * (w + plus), over groups of as many features as w has. */
static inline ft_val ft_rms_norm(ft_graph *g, ft_val x, ft_val w, double eps, double plus)
{
    return ft_op(g, "rms_norm", (ft_attr[]){ { "eps", eps }, { "plus", plus } }, 2,
                 (ft_val[]){ x, w }, 2);
}

/* Rotary positions on every head of x (T, heads*head_dim), halves rotated against each other:
 * angle = position * freq[i]; freq (head_dim/2); cos and sin are multiplied by `factor`. */
static inline ft_val ft_rope(ft_graph *g, ft_val x, ft_val positions, ft_val freq, double factor)
{
    return ft_op(g, "rope", (ft_attr[]){ { "factor", factor } }, 1,
                 (ft_val[]){ x, positions, freq }, 3);
}
/* The same on the first 2 * size of freq of each head_dim features; the others stay. */
static inline ft_val ft_rope_part(ft_graph *g, ft_val x, ft_val positions, ft_val freq,
                                  double factor, int64_t head_dim)
{
    return ft_op(g, "rope", (ft_attr[]){ { "factor", factor }, { "head_dim", (double)head_dim } },
                 2, (ft_val[]){ x, positions, freq }, 3);
}

/* log p(target) of each row of logits that has a target → (trained rows).  Logits that come from
 * `linear` are never made whole: the core computes them in pieces, for trained rows alone. */
static inline ft_val ft_logprob(ft_graph *g, ft_val logits, ft_val targets)
{
    return ft_op2(g, "logprob", logits, targets);
}

/* ---- experts --------------------------------------------------------------------------------- */

/* The k greatest of each row of logits (T, experts), and a softmax over them; `all`: over all
 * experts, so that the weights sum to less than 1. */
static inline ft_routing ft_route(ft_graph *g, ft_val logits, int64_t k, bool all)
{
    ft_val ids = ft_op(g, "top_k", (ft_attr[]){ { "k", (double)k } }, 1, &logits, 1);
    return (ft_routing){ ids, ft_op(g, "route", (ft_attr[]){ { "all", all } }, 1,
                                    (ft_val[]){ logits, ids }, 2) };
}
/* z (T, k*d): the answers of a token's experts → their weighted sum (T, d). */
static inline ft_val ft_combine(ft_graph *g, ft_val z, ft_val weights, int64_t k)
{
    return ft_op(g, "combine", (ft_attr[]){ { "slots", (double)k } }, 1, (ft_val[]){ z, weights },
                 2);
}
/* x (T, k*2n) → (T, k*n); k 1 for a layer without experts. */
static inline ft_val ft_swiglu(ft_graph *g, ft_val x, int64_t k, const ft_swiglu_args *a)
{
    return ft_op(g, "swiglu", (ft_attr[]){ { "slots", (double)k },
                 { "interleaved", a->interleaved }, { "alpha", a->alpha }, { "limit", a->limit },
                 { "plus", a->plus } }, 5, &x, 1);
}

/* ---- model plugins --------------------------------------------------------------------------- */

/* A weight of the checkpoint under its HF name. */
static inline ft_val ft_weight(ft_graph *g, const char *name, ft_shape s)
{
    return g->api->weight(g, name, s);
}

/* The site NAME with weight NAME.weight (out, in) and, if asked, NAME.bias (out).  With `tied` not
 * 0 that value is the weight instead (a head that shares the embedding). */
static inline ft_val ft_site_linear(ft_graph *g, const char *name, ft_val x, int64_t out, bool bias)
{
    return g->api->site_linear(g, name, x, out, bias, (ft_val){ 0 });
}
static inline ft_val ft_site_linear_tied(ft_graph *g, const char *name, ft_val x, int64_t out,
                                         ft_val w)
{
    return g->api->site_linear(g, name, x, out, false, w);
}
/* The experts' site NAME, whose weight has that very name: (experts, out, in), or with FT_BY_IN
 * (experts, in, out); FT_BIAS: NAME_bias (experts, out).  x (T, in), or with FT_PER_EXPERT
 * (T, k*in) → (T, k*out). */
static inline ft_val ft_site_grouped(ft_graph *g, const char *name, ft_val x, const ft_routing *r,
                                     int64_t experts, int64_t out, unsigned flags)
{
    return g->api->site_grouped(g, name, x, r->ids, experts, out, flags);
}
/* The site NAME with weight NAME.weight (rows, width), picked by ids. */
static inline ft_val ft_site_embed(ft_graph *g, const char *name, int64_t rows, int64_t width,
                                   ft_val ids)
{
    return g->api->site_embed(g, name, rows, width, ids);
}
/* What enters the residual addition, after any norm: NAME is the attention's or MLP's module. */
static inline ft_val ft_sublayer(ft_graph *g, const char *name, ft_val x)
{
    return g->api->sublayer(g, name, x);
}

/* Causal attention inside each document.  q (T, heads*head_dim), k and v (T, kv_heads*head_dim);
 * sinks (heads) or 0. */
static inline ft_val ft_attention(ft_graph *g, const char *name, ft_val q, ft_val k, ft_val v,
                                  const ft_attention_args *a, ft_val sinks)
{
    return g->api->attention(g, name, q, k, v, a, sinks);
}
/* Says that layer `index` starts with the residual stream x (T, d); returns it.  -1: layers end. */
static inline ft_val ft_layer(ft_graph *g, int32_t index, ft_val x)
{
    return g->api->layer(g, index, x);
}

/* A table that the plugin computes (rotary frequencies); data is copied. */
static inline ft_val ft_constant(ft_graph *g, const char *name, ft_shape s, const float *data)
{
    return g->api->constant(g, name, s, data);
}

/* ---- adapters -------------------------------------------------------------------------------- */

/* What the site computes without the adapter, for the input x (which need not be the site's
 * own). */
static inline ft_val ft_base(ft_graph *g, const ft_site *s, ft_val x)
{
    return g->api->base(g, s, x);
}
/* The site's frozen weight (out, in), packed or not, and its bias (out); EMBED: (in, out). */
static inline ft_val ft_site_weight(ft_graph *g, const ft_site *s)
{
    return g->api->site_weight(g, s, false);
}
static inline ft_val ft_site_bias(ft_graph *g, const ft_site *s)
{
    return g->api->site_weight(g, s, true);
}

/* GROUPED sites: w (experts, out, in), each token's rows by the matrices of its own experts.  x as
 * it enters the site, or (T, k*in). */
static inline ft_val ft_grouped(ft_graph *g, const ft_site *s, ft_val x, ft_val w)
{
    return g->api->grouped(g, s, x, w);
}

/* A parameter of this site; its name in files is "base_model.model." + site + "." + key (PEFT). */
static inline ft_val ft_parameter(ft_graph *g, const ft_site *s, const char *key, ft_shape shape,
                                  unsigned flags, ft_init init)
{
    return g->api->param(g, s, key, shape, flags, init);
}
/* One parameter for all sites, made by the first that asks; its name in files is the key alone. */
static inline ft_val ft_shared(ft_graph *g, const char *key, ft_shape shape, unsigned flags,
                               ft_init init)
{
    return g->api->param(g, NULL, key, shape, flags, init);
}
/* ATTENTION sites: n further keys and values (n, kv_heads*head_dim), without positions, that every
 * document sees first.  Positions of the tokens start at n. */
static inline void ft_extra_kv(ft_graph *g, const ft_site *s, ft_val k, ft_val v)
{
    g->api->extra_kv(g, s, k, v);
}
/* A scalar of STEP lifetime that is added to the loss once an optimizer step. */
static inline void ft_penalty(ft_graph *g, ft_val scalar) { g->api->penalty(g, scalar); }
/* The value that a map such as PEFT's rank_pattern has for the module `name`: keys are regular
 * expressions for the end of the name.  The first that matches wins. */
static inline double ft_pattern(ft_graph *g, const ft_map *m, const char *name, double otherwise)
{
    return g->api->pattern(g, m, name, otherwise);
}
#endif
