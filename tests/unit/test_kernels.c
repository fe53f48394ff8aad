/* test_kernels.c -- every op of kernels-cpu, from one table of cases, on every instruction set that
 * this machine has: against the reference, and the promises that ft/kernel.h makes to the bit. */
#include "kernel_test.h"

/* ---- cases ----------------------------------------------------------------------------------- */

/* Fills inputs with the results of another op. */
static void fill_with(kt_call *x, const char *op, const ft_arg *in, int n_in, const ft_arg *out,
                      int n_out)
{
    ft_call c = x->call;
    c.in = in, c.out = out, c.n_in = n_in, c.n_out = n_out;
    kt_run_op(kt_backend()->variants()[0], op, x->t, &c, KT_WHOLE, 1);
}

/* do, q, k, v, o, lse, …: o and lse are what attention gave. */
static void after_attention(kt_call *x)
{
    ft_arg in[KT_ARGS], out[2] = { x->in[4], x->in[5] };
    int n = 0;
    for (int i = 1; i < x->n_in; i++) {
        if (i < 4 || i > 5) in[n++] = x->in[i];
    }
    fill_with(x, "attention", in, n, out, 2);
}

/* dlp, lse, …: lse is what linear_logprob gave. */
static void after_logprob(kt_call *x)
{
    kt_buffer rest = kt_alloc((size_t)x->in[1].rows * 4, 4);
    ft_arg out[3] = { x->in[1], x->in[1], x->in[1] };
    out[0].data = out[1].data = rest.data;
    fill_with(x, "linear_logprob", x->in + 2, x->n_in - 2, out, 3);
    kt_free(&rest, "linear_logprob");
}

static void number_of_experts(kt_call *x) { x->attr[0] = (double)x->dim['x' - 'a']; }
static void number_of_slots(kt_call *x) { x->attr[0] = (double)x->dim['s' - 'a']; }

#define LINEAR "a1 b1 c1|a5 b16 c33|a64 b33 c2|a100 b5 c64|a576 b100 c5"
#define COLS "a1|a5|a16|a33|a64|a100|a576"
#define HEAD "a1 b3 n3|a5 b16 n2|a33 b2 n257|a64 b7 n1030|a16 b5 n2100"
#define NORM "g1 b1|g1 b5|g1 b33|g3 b16|g2 b100|g1 b576"
#define ROPE "h1 a1|h5 a3|h8 a2|h16 a1|h32 a9|h33 a2"
/* q has g a heads of d, k has a; e extra keys. */
#define HEADS                                                                                      \
    "g1 a1 d1 e1|g3 a1 d10 e3|g2 a2 d15 e130|g9 a1 d16 e5|g2 a2 d64 e2|g1 a2 d33 e129|g1 a1 d256 " \
    "e7"
#define ATT "T:gad T:ad T:ad"
#define ATT_CACHED "T:gad T:ad T:ad M:S:ad M:S:ad"
#define ATT_DX "T:gad T:gad T:ad T:ad T:gad t:ga"
/* s of x experts, a in, b out. */
#define GROUPED "x1 s1 a5 b3|x4 s2 a16 b33|x5 s3 a33 b8|x8 s4 a64 b40|x3 s2 a1 b100|x6 s2 a200 b2"
#define ROUTED "x1 s1|x4 s2|x8 s3|x33 s4|x128 s8"
#define JOINED "s1 a5|s2 a16|s3 a33|s4 a100"
#define SINKS " m:1:ga"
#define EXTRA " m:e:ad m:e:ad"

static const kt_case cases[] = {
    { .op = "linear", .in = "T:a W:b:a", .out = "T:b", .dims = LINEAR, .attr = { 1 } },
    { .op = "linear", .in = "R:a W:b:a m:1:b", .out = "R:b", .dims = LINEAR, .attr = { 1 } },
    { .op = "linear",
      .in = "T:a W:b:a T:c M:b:c m:1:b",
      .out = "T:b",
      .dims = LINEAR,
      .attr = { 2 } },
    { .op = "linear",
      .in = "M:3b:a W:c:a M:3b:c M:c:c",
      .out = "M:3b:c",
      .dims = LINEAR,
      .attr = { 2 } },
    { .op = "linear_dx", .in = "T:b W:b:a", .out = "T:a", .dims = LINEAR, .attr = { 1 } },
    { .op = "linear_dx",
      .in = "T:b W:b:a T:c M:c:a T:a W:a:a",
      .out = "T:a",
      .dims = LINEAR,
      .attr = { 3 } },
    { .op = "linear_dw",
      .in = "T:a T:b",
      .out = "m:a:b",
      .dims = LINEAR,
      .flags = KT_SUMS | KT_EXACT },
    { .op = "linear_dw",
      .in = "R:c R:b",
      .out = "m:c:b",
      .dims = LINEAR,
      .flags = KT_SUMS | KT_EXACT },
    { .op = "linear_logits",
      .in = "R:a W:b:a",
      .out = "r:b",
      .dims = LINEAR,
      .attr = { 1 },
      .flags = KT_EXACT },
    { .op = "linear_logits",
      .in = "T:a W:b:a T:c M:b:c m:1:b",
      .out = "t:b",
      .dims = LINEAR,
      .attr = { 2, 1, 3 },
      .flags = KT_EXACT },
    { .op = "linear_logprob",
      .in = "R:a W:n:a g",
      .out = "r:1 r:1 r:1",
      .dims = HEAD,
      .attr = { 1 } },
    { .op = "linear_logprob",
      .in = "R:a W:n:a R:b M:n:b m:1:n g",
      .out = "r:1 r:1 r:1",
      .dims = HEAD,
      .attr = { 2, 1, 4 } },
    { .op = "linear_xent",
      .in = "R:a W:n:a g",
      .out = "r:1 r:1 R:a",
      .dims = HEAD,
      .attr = { 1, 0, 0, 1.5 },
      .slack = 4 },
    { .op = "linear_xent",
      .in = "R:a W:n:a R:b M:n:b m:1:n g",
      .out = "r:1 r:1 R:a R:b A:n:b A:1:n",
      .dims = HEAD,
      .attr = { 2, 1, 4, 1, 6 },
      .slack = 4 },
    { .op = "linear_logprob_dx",
      .in = "r:1 r:1 R:a W:n:a R:b M:n:b g",
      .out = "R:a R:b",
      .dims = HEAD,
      .attr = { 2 },
      .prepare = after_logprob,
      .slack = 4 },
    { .op = "linear_logprob_dw",
      .in = "r:1 r:1 R:a M:n:a g",
      .out = "m:n:a",
      .dims = HEAD,
      .attr = { 1 },
      .flags = KT_SUMS,
      .prepare = after_logprob,
      .slack = 4 },
    { .op = "linear_logprob_dw",
      .in = "r:1 r:1 R:a M:n:a m:1:n g",
      .out = "m:1:n",
      .dims = HEAD,
      .attr = { 1, 1, 2, 0, 1 },
      .flags = KT_SUMS,
      .prepare = after_logprob,
      .slack = 4 },

    { .op = "binary",
      .in = "T:a T:a",
      .out = "T:a",
      .dims = COLS,
      .attr = { FT_ADD },
      .flags = KT_INPLACE },
    { .op = "binary",
      .in = "R:a m:1:a",
      .out = "R:a",
      .dims = COLS,
      .attr = { FT_SUB },
      .flags = KT_INPLACE },
    { .op = "binary",
      .in = "T:a t:1",
      .out = "T:a",
      .dims = COLS,
      .attr = { FT_MUL },
      .flags = KT_INPLACE },
    { .op = "binary",
      .in = "T:a P:1",
      .out = "T:a",
      .dims = COLS,
      .attr = { FT_DIV },
      .flags = KT_INPLACE },
    { .op = "binary",
      .in = "T:a m:1:1",
      .out = "T:a",
      .dims = COLS,
      .attr = { FT_MUL },
      .flags = KT_INPLACE },
    { .op = "binary",
      .in = "M:3:a M:3:a",
      .out = "M:3:a",
      .dims = COLS,
      .attr = { FT_MUL },
      .flags = KT_INPLACE },
    { .op = "binary",
      .in = "M:9:a M:9:1",
      .out = "M:9:a",
      .dims = COLS,
      .attr = { FT_ADD },
      .flags = KT_INPLACE },
    { .op = "binary",
      .in = "M:1:a m:1:1",
      .out = "M:1:a",
      .dims = COLS,
      .attr = { FT_SUB },
      .flags = KT_INPLACE },
#define UNARY(kind, x)                                                                       \
    { .op = "unary",                                                                         \
      .in = x ":a",                                                                          \
      .out = "T:a",                                                                          \
      .dims = COLS,                                                                          \
      .attr = { kind },                                                                      \
      .flags = KT_INPLACE },                                                                 \
    {                                                                                        \
        .op = "unary_dx", .in = "T:a " x ":a", .out = "T:a", .dims = COLS, .attr = { kind }, \
        .flags = KT_INPLACE                                                                  \
    }
    UNARY(FT_SILU, "T"),
    UNARY(FT_GELU, "T"),
    UNARY(FT_GELU_TANH, "T"),
    UNARY(FT_RELU, "T"),
    UNARY(FT_SIGMOID, "T"),
    UNARY(FT_TANH, "T"),
    UNARY(FT_SQRT, "P"),
    UNARY(FT_LOG_SIGMOID, "T"),
#define GLU(kind)                                                                              \
    { .op = "glu", .in = "T:a T:a", .out = "T:a", .dims = COLS, .attr = { kind } },            \
    {                                                                                          \
        .op = "glu_dx", .in = "T:a T:a T:a", .out = "T:a T:a", .dims = COLS, .attr = { kind }, \
        .flags = KT_INPLACE | KT_SHIFTED                                                       \
    }
    GLU(FT_SILU),
    GLU(FT_GELU),
    GLU(FT_GELU_TANH),
    GLU(FT_RELU),
    { .op = "scale",
      .in = "T:a",
      .out = "T:a",
      .dims = COLS,
      .attr = { 0.3 },
      .flags = KT_INPLACE },
    { .op = "shift",
      .in = "M:5:a",
      .out = "M:5:a",
      .dims = COLS,
      .attr = { -2.5 },
      .flags = KT_INPLACE },
    { .op = "dropout",
      .in = "T:a",
      .out = "T:a",
      .dims = COLS,
      .attr = { 0.25 },
      .flags = KT_PLACE | KT_RAW },

#define SUM(name, args, result, more)                                                   \
    {                                                                                   \
        .op = name, .in = args, .out = result, .dims = COLS, .flags = KT_EXACT | (more) \
    }
    SUM("sum", "T:a", "m:1:1", KT_SUMS),
    SUM("sum", "M:300:a", "m:1:1", 0),
    SUM("dot", "R:a R:a", "m:1:1", KT_SUMS),
    SUM("row_sum", "T:a", "t:1", 0),
    SUM("row_sum", "M:9:a", "m:1:9", 0),
    SUM("row_dot", "T:a t:a", "t:1", 0),
    SUM("col_sum", "T:a", "m:1:a", KT_SUMS),
    SUM("col_dot", "T:a T:a", "m:1:a", KT_SUMS),
    SUM("col_dot", "R:a r:a", "m:1:a", KT_SUMS),
    { .op = "expand", .in = "m:1:a T:a", .out = "T:a", .dims = COLS },
    { .op = "expand", .in = "m:1:1 T:a", .out = "T:a", .dims = COLS },
    { .op = "expand", .in = "t:1 T:a", .out = "T:a", .dims = COLS },
    { .op = "expand", .in = "m:1:9 M:9:a", .out = "M:9:a", .dims = COLS },

    { .op = "slice", .in = "T:aa", .out = "T:a", .dims = "a1|a5|a16", .attr = { 1, 0 } },
    { .op = "slice", .in = "M:9:a", .out = "M:4:a", .dims = COLS, .attr = { 0, 3 } },
    { .op = "unslice", .in = "T:a", .out = "T:3a", .dims = COLS, .attr = { 1, 1 } },
    { .op = "unslice", .in = "M:4:a", .out = "M:9:a", .dims = COLS, .attr = { 0, 2 } },
    { .op = "concat", .in = "T:a T:3a", .out = "T:4a", .dims = COLS, .attr = { 1 } },
    { .op = "concat", .in = "M:2:a M:5:a", .out = "M:7:a", .dims = COLS, .attr = { 0 } },
    { .op = "transpose", .in = "M:7:a", .out = "M:a:7", .dims = COLS },
    { .op = "copy", .in = "M:7:a", .out = "M:7:a", .dims = COLS },
    { .op = "copy", .in = "m:7:a", .out = "m:7:a", .dims = COLS, .flags = KT_ADDS },
    { .op = "widen", .in = "W:7:a", .out = "m:7:a", .dims = COLS },

    { .op = "embedding", .in = "i W:n:a", .out = "T:a", .dims = "n1 a1|n7 a33|n300 a64" },
    { .op = "embedding",
      .in = "i W:n:a m:k:a",
      .out = "T:a",
      .dims = "n1 k1 a5|n7 k5 a33|n300 k20 a64" },
    { .op = "embedding_dw",
      .in = "T:a i",
      .out = "m:n:a",
      .dims = "n1 k1 a5|n7 k5 a33|n300 k20 a100",
      .attr = { 0, 0 },
      .flags = KT_SUMS | KT_EXACT },
    { .op = "embedding_dw",
      .in = "T:a i",
      .out = "m:k:a",
      .dims = "n1 k1 a5|n7 k5 a33|n300 k20 a100",
      .attr = { 0, 1 },
      .flags = KT_SUMS | KT_EXACT },
    { .op = "rms_norm", .in = "T:gb m:1:b", .out = "T:gb t:g", .dims = NORM, .attr = { 1e-5, 0 } },
    { .op = "rms_norm", .in = "T:gb m:1:b", .out = "T:gb t:g", .dims = NORM, .attr = { 1e-6, 1 } },
    { .op = "rms_norm_dx",
      .in = "T:gb T:gb m:1:b p:g",
      .out = "T:gb",
      .dims = NORM,
      .attr = { 1 },
      .flags = KT_INPLACE },
    { .op = "rms_norm_dw",
      .in = "T:gb T:gb p:g",
      .out = "m:1:b",
      .dims = NORM,
      .flags = KT_SUMS | KT_EXACT },
    { .op = "rope",
      .in = "T:2ah o m:1:h",
      .out = "T:2ah",
      .dims = ROPE,
      .attr = { 1, 0, 0 },
      .flags = KT_INPLACE },
    { .op = "rope",
      .in = "T:2ah o m:1:h",
      .out = "T:2ah",
      .dims = ROPE,
      .attr = { 0.7, 1, 9 },
      .flags = KT_INPLACE },
    { .op = "rope", /* a part of each head */
      .in = "T:an o m:1:h",
      .out = "T:an",
      .dims = "a3 n50 h17",
      .attr = { 0.7, 0, 2, 50 },
      .flags = KT_INPLACE },
    { .op = "gather_rows", .in = "T:a", .out = "R:a", .dims = COLS },
    { .op = "scatter_rows", .in = "R:a", .out = "T:a", .dims = COLS },
    { .op = "cache", .in = "T:a", .out = "M:S:a", .dims = "a1|a33", .flags = KT_RAW },
    /* attr: experts (the core's: 0 here, see prepare), by_in */
#define EXPERTS(name, args, result, by_in, ...)                                        \
    {                                                                                  \
        .op = name, .in = args, .out = result, .dims = GROUPED, .attr = { 0, by_in },  \
        .prepare = number_of_experts, __VA_ARGS__                                      \
    }
    EXPERTS("grouped", "T:a e:s W:xb:a", "T:sb", 0, .flags = 0),
    EXPERTS("grouped", "T:sa e:s W:xb:a M:x:b", "T:sb", 0, .flags = 0),
    EXPERTS("grouped", "T:a e:s W:xa:b W:x:b", "T:sb", 1, .flags = 0),
    EXPERTS("grouped", "T:sa e:s W:xa:b", "T:sb", 1, .flags = 0),
    EXPERTS("grouped_dw", "T:sb T:a e:s", "m:xb:a", 0, .flags = KT_SUMS | KT_EXACT),
    EXPERTS("grouped_dw", "T:sb T:sa e:s", "m:xb:a", 0, .flags = KT_SUMS | KT_EXACT),
    EXPERTS("grouped_dw", "T:sb T:a e:s", "m:xa:b", 1, .flags = KT_SUMS | KT_EXACT),
    EXPERTS("grouped_dw", "T:sb T:sa e:s", "m:xa:b", 1, .flags = KT_SUMS | KT_EXACT),
    EXPERTS("grouped_db", "T:sb e:s", "m:x:b", 0, .flags = KT_SUMS | KT_EXACT),
    { .op = "top_k", .in = "T:x", .out = "e:s", .dims = ROUTED, .flags = KT_RAW },
    { .op = "route", .in = "T:x e:s", .out = "t:s", .dims = ROUTED, .attr = { 0 } },
    { .op = "route", .in = "T:x e:s", .out = "t:s", .dims = ROUTED, .attr = { 1 } },
    { .op = "route_dx", .in = "t:s p:s T:x e:s", .out = "T:x", .dims = ROUTED, .attr = { 0 } },
    { .op = "route_dx", .in = "t:s p:s T:x e:s", .out = "T:x", .dims = ROUTED, .attr = { 1 } },
    { .op = "combine", .in = "T:sa t:s", .out = "T:a", .dims = JOINED },
    { .op = "combine", .in = "T:sa", .out = "T:a", .dims = JOINED },
    { .op = "combine_dx", .in = "T:a t:s", .out = "T:sa", .dims = JOINED },
    { .op = "combine_dw", .in = "T:a T:sa", .out = "t:s", .dims = JOINED, .flags = KT_EXACT },
#define SWIGLU(...) .dims = JOINED, .attr = { __VA_ARGS__ }, .prepare = number_of_slots
    { .op = "swiglu", .in = "T:2sa", .out = "T:sa", SWIGLU(0, 0, 1, 0, 0) },
    { .op = "swiglu", .in = "T:2sa", .out = "T:sa", SWIGLU(0, 1, 1.702, 0.5, 1) },
    { .op = "swiglu_dx", .in = "T:sa T:2sa", .out = "T:2sa", SWIGLU(0, 0, 1, 0, 0) },
    { .op = "swiglu_dx", .in = "T:sa T:2sa", .out = "T:2sa", SWIGLU(0, 1, 1.702, 0.5, 1) },
    /* attr: heads, key heads, window, scale, softcap, options */
#define ATTENTION(...) .dims = HEADS, .attr = { 0, 0, __VA_ARGS__ }
    { .op = "attention",
      .in = ATT,
      .out = "T:gad t:ga",
      ATTENTION(0, 0.4, 0, 0),
      .flags = KT_HEADS },
    { .op = "attention",
      .in = ATT,
      .out = "T:gad t:ga",
      ATTENTION(5, 0.4, 0, 0),
      .flags = KT_HEADS },
    { .op = "attention",
      .in = ATT SINKS,
      .out = "T:gad t:ga",
      ATTENTION(150, 0.4, 2, 1),
      .flags = KT_HEADS },
    { .op = "attention",
      .in = ATT EXTRA,
      .out = "T:gad t:ga",
      ATTENTION(40, 0.7, 0, 2),
      .flags = KT_HEADS },
    { .op = "attention",
      .in = ATT SINKS EXTRA,
      .out = "T:gad t:ga",
      ATTENTION(0, 3, 5, 3),
      .flags = KT_HEADS },
    { .op = "attention_cached",
      .in = ATT_CACHED,
      .out = "T:gad",
      ATTENTION(0, 0.4, 0, 0),
      .flags = KT_HEADS },
    { .op = "attention_cached",
      .in = ATT_CACHED SINKS EXTRA,
      .out = "T:gad",
      ATTENTION(30, 0.4, 3, 3),
      .flags = KT_HEADS },
#define ATT_BACK .flags = KT_HEADS, .prepare = after_attention
#define ATT_SUMS .flags = KT_HEADS | KT_SUMS, .prepare = after_attention
    { .op = "attention_dx",
      .in = ATT_DX,
      .out = "T:gad T:ad T:ad",
      ATTENTION(0, 0.4, 0, 0),
      ATT_BACK },
    { .op = "attention_dx",
      .in = ATT_DX,
      .out = "T:gad T:ad T:ad",
      ATTENTION(5, 0.4, 0, 0),
      ATT_BACK },
    { .op = "attention_dx",
      .in = ATT_DX SINKS,
      .out = "T:gad T:ad T:ad",
      ATTENTION(150, 0.4, 2, 1),
      ATT_BACK },
    { .op = "attention_dx",
      .in = ATT_DX EXTRA,
      .out = "T:gad T:ad T:ad",
      ATTENTION(40, 0.7, 0, 2),
      ATT_BACK },
    { .op = "attention_dx",
      .in = ATT_DX SINKS EXTRA,
      .out = "T:gad T:ad T:ad",
      ATTENTION(0, 3, 5, 3),
      ATT_BACK },
    { .op = "attention_dsinks",
      .in = ATT_DX SINKS,
      .out = "m:1:ga",
      ATTENTION(40, 0.4, 2, 1),
      ATT_SUMS },
    { .op = "attention_dek",
      .in = ATT_DX EXTRA,
      .out = "m:e:ad",
      ATTENTION(0, 0.4, 0, 2),
      ATT_SUMS },
    { .op = "attention_dek",
      .in = ATT_DX SINKS EXTRA,
      .out = "m:e:ad",
      ATTENTION(40, 0.4, 2, 3),
      ATT_SUMS },
    { .op = "attention_dev",
      .in = ATT_DX EXTRA,
      .out = "m:e:ad",
      ATTENTION(0, 0.4, 0, 2),
      ATT_SUMS },
    { .op = "attention_dev",
      .in = ATT_DX SINKS EXTRA,
      .out = "m:e:ad",
      ATTENTION(40, 0.4, 2, 3),
      ATT_SUMS },
};
enum { N_CASES = sizeof cases / sizeof *cases };

/* ---- batches --------------------------------------------------------------------------------- */

static const kt_plan plans[] = {
    { { 1 }, KT_ALL },
    { { 1, 1 }, KT_SOME },
    { { 5, 0, 3, 5 }, KT_SOME },
    { { 57 }, KT_ALL },
    { { 20, 0, 30, 7 }, KT_NONE },
    { { 130, 140, 0, 30 }, KT_SOME },
    { { 300, 0, 260, 40 }, KT_ALL },
};
enum { N_PLANS = sizeof plans / sizeof *plans };

/* Calls check for case number i with all batches and sizes, half of the pairs in turn (of attention
 * a third), and both dtypes. */
static void each_call(int i, void (*check)(kt_call *))
{
    for (int plan = 0; plan < N_PLANS; plan++) {
        for (int which = 0;; which++) {
            for (int bf16 = 0; bf16 < 2; bf16++) {
                bool skip = (plan + which + i) % (cases[i].flags & KT_HEADS ? 3 : 2);
                kt_call *x = kt_call_new(&cases[i], &plans[plan], which, bf16 ? FT_BF16 : FT_F32,
                                         plan + which);
                if (!x) goto next;
                if (!skip) check(x);
                kt_call_free(x);
            }
        }
    next:;
    }
}

/* Where a check failed: op, dtype, tokens, sizes. */
static const char *name_of(const kt_call *x)
{
    static char text[200];
    int n = snprintf(text, sizeof text, "%s of %s, %s, %d tokens, %d trained", x->c->op, x->c->in,
                     x->t == FT_BF16 ? "bf16" : "fp32", (int)x->batch->b.n_tokens,
                     (int)x->batch->b.n_trained);
    for (int i = 0; i < 26; i++) {
        if (x->dim[i])
            n += snprintf(text + n, sizeof text - (size_t)n, " %c=%d", 'a' + i, (int)x->dim[i]);
    }
    return text;
}

/* ---- results --------------------------------------------------------------------------------- */

/* All results as one block of bytes. */
static char *snapshot(const kt_call *x, size_t *bytes)
{
    *bytes = 0;
    for (int i = 0; i < x->n_out; i++) *bytes += x->out_buffer[i].bytes;
    char *all = malloc(*bytes + 1), *to = all;
    for (int i = 0; i < x->n_out; i++) {
        memcpy(to, x->out_buffer[i].data, x->out_buffer[i].bytes);
        to += x->out_buffer[i].bytes;
    }
    return all;
}

static char *run_new(kt_call *x, const char *variant, kt_order order, int threads, size_t *bytes)
{
    kt_clear(x);
    kt_run(x, variant, order, threads);
    return snapshot(x, bytes);
}

/* The reference's results, in double precision where it can. */
static void run_reference(kt_call *x, double *want[KT_ARGS])
{
    ft_arg keep[KT_ARGS];
    memcpy(keep, x->out, sizeof keep);
    kt_clear(x);
    for (int i = 0; i < x->n_out && !(x->c->flags & KT_RAW); i++) {
        ft_arg *a = &x->out[i];
        int64_t n = a->rows * a->cols;
        want[i] = malloc((size_t)n * sizeof(double) + 1);
        for (int64_t j = 0; j < n; j++) want[i][j] = kt_get(a, 0, j);
        a->data = want[i], a->dtype = FT_F64;
    }
    kt_run(x, "reference", KT_WHOLE, 1);
    memcpy(x->out, keep, sizeof keep);
    for (int i = 0; i < x->n_out && (x->c->flags & KT_RAW); i++) {
        int64_t n = x->out[i].rows * x->out[i].cols;
        want[i] = malloc((size_t)n * sizeof(double) + 1);
        for (int64_t j = 0; j < n; j++) want[i][j] = kt_get(&x->out[i], 0, j);
    }
}

/* Errors are measured against the result and against the greatest result of the call, which stands
 * for what was summed; numbers are near 1.  fp32: 2e-5 and 5e-6.  bf16 (and fp32 results of what
 * was rounded to bf16 on the way): 2^-8, one rounding being 2^-9; 2^-11 is always granted to
 * attention, whose weighted values may cancel in a call of one number. */
static void compare(const kt_call *x, int i, const double *want, const char *variant)
{
    const ft_arg *a = &x->out[i];
    bool coarse = x->t == FT_BF16 && !((x->c->flags & KT_EXACT) && a->dtype == FT_F32);
    bool hit = i == 1 && (!strcmp(x->c->op, "linear_xent") || !strcmp(x->c->op, "linear_logprob"));
    double slack = x->c->slack > 0 ? x->c->slack : 1;
    double greatest = 0, rel = slack * (coarse ? 0x1p-8 : 2e-5),
           abs = slack * (coarse ? 0x1p-8 : 5e-6), floor = slack * 2e-6;
    if (coarse && !strncmp(x->c->op, "attention", 9)) floor = 0x1p-11;
    for (int64_t j = 0; j < kt_rows(x, a) * a->cols; j++)
        greatest = isnan(want[j]) ? greatest : fmax(greatest, fabs(want[j]));
    for (int64_t r = 0; r < a->rows; r++) {
        for (int64_t c = 0; c < a->cols; c++) {
            double got = kt_get(a, r, c), w = want[r * a->cols + c];
            if (isnan(w) && isnan(got) && (r >= kt_rows(x, a) || (x->c->flags & KT_RAW))) continue;
            if (coarse && hit && got == 1) continue; /* rounded logits tie */
            if (fabs(got - w) <= rel * fabs(w) + abs * greatest + floor) continue;
            ck_abort_msg("%s, %s: result %d (%d, %d) is %.9g, not %.9g (greatest %.3g)",
                          name_of(x), variant, i, (int)r, (int)c, got, w, greatest);
        }
    }
}

/* ---- (a) against the reference, and the same bytes on every instruction set ------------------ */

static void check_reference(kt_call *x)
{
    double *want[KT_ARGS];
    char *first = NULL;
    size_t bytes;
    run_reference(x, want);
    for (const char *const *v = kt_backend()->variants(); *v; v++) {
        if (!strcmp(*v, "reference")) continue;
        char *got = run_new(x, *v, KT_WHOLE, 1, &bytes);
        for (int i = 0; i < x->n_out; i++) compare(x, i, want[i], *v);
        ck_assert_msg(!first || !memcmp(first, got, bytes), "%s: %s and %s give other bytes",
                      name_of(x), kt_backend()->variants()[0], *v);
        if (first) free(got);
        else first = got;
    }
    free(first);
    for (int i = 0; i < x->n_out; i++) free(want[i]);
}

START_TEST(matches_reference_alike_on_all_sets)
{
    each_call(_i, check_reference);
}
END_TEST

/* ---- (c) whatever the ranges, their order and the threads ------------------------------------ */

static void check_order(kt_call *x)
{
    static const struct { kt_order order; int threads;
    } ways[] = {
        { KT_ONE_BY_ONE, 7 }, { KT_BACKWARDS, 2 }, { KT_WHOLE, 2 },
        { KT_BACKWARDS, 7 },  { KT_POOL, 3 }, { KT_POOL, 7 },
    };
    size_t bytes;
    for (const char *const *v = kt_backend()->variants(); *v; v++) {
        if (!strcmp(*v, "reference") ||
            (v != kt_backend()->variants() && x->batch->b.n_tokens != 57))
            continue;
        char *whole = run_new(x, *v, KT_WHOLE, 1, &bytes);
        for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
            char *got = run_new(x, *v, ways[i].order, ways[i].threads, &bytes);
            ck_assert_msg(!memcmp(whole, got, bytes), "%s, %s: way %d gives other bytes",
                          name_of(x), *v, (int)i);
            free(got);
        }
        free(whole);
    }
}

START_TEST(same_for_any_ranges_and_threads)
{
    each_call(_i, check_order);
}
END_TEST

/* ---- (d) accumulate adds --------------------------------------------------------------------- */

static void check_accumulate(kt_call *x)
{
    double *want[KT_ARGS];
    x->call.accumulate = true;
    run_reference(x, want);
    kt_clear(x);
    kt_run(x, kt_backend()->variants()[0], KT_WHOLE, 1);
    for (int i = 0; i < x->n_out; i++) {
        compare(x, i, want[i], "accumulate");
        free(want[i]);
    }
}

START_TEST(accumulate_adds)
{
    if (cases[_i].flags & KT_ADDS) each_call(_i, check_accumulate);
}
END_TEST

/* ---- (e), (f) rows and documents in other company -------------------------------------------- */

/* Runs documents docs[0 … n-1] alone and compares what belongs to their rows with x's results. */
static void check_part(kt_call *x, const int *docs, const int *rows, int n, bool add)
{
    int64_t *token = malloc((size_t)x->batch->b.n_tokens * 8),
            *trained = malloc((size_t)x->batch->b.n_tokens * 8);
    kt_call *y = kt_call_select(x, docs, rows, n, token, trained);
    y->call.accumulate = add;
    for (int i = 0; i < y->n_out; i++) {
        if (y->out[i].axis) memset(y->out_buffer[i].data, 0xFF, y->out_buffer[i].bytes);
    }
    kt_run(y, kt_backend()->variants()[0], KT_WHOLE, 1);
    for (int i = 0; i < y->n_out; i++) {
        size_t row = (size_t)y->out[i].cols * kt_size(y->out[i].dtype);
        const int64_t *from = y->out[i].axis == 1 ? token : trained;
        for (int64_t r = 0; y->out[i].axis && r < kt_rows(y, &y->out[i]); r++) {
            const char *alone = (char *)y->out[i].data + (size_t)r * row,
                       *among = (char *)x->out[i].data + (size_t)from[r] * row;
            if (memcmp(alone, among, row))
                ck_abort_msg("%s: result %d of row %d depends on other rows", name_of(x), i,
                             (int)from[r]);
        }
    }
    kt_call_free(y);
    free(token);
    free(trained);
}

static void check_rows_apart(kt_call *x)
{
    size_t bytes;
    char *whole = run_new(x, kt_backend()->variants()[0], KT_WHOLE, 1, &bytes);
    kt_clear(x);
    for (int row = 0, done = 0; row < x->batch->b.n_rows; row++) {
        int docs[KT_DOCS], rows[KT_DOCS] = { 0 }, n = 0;
        /* per-row results of x are compared, so they must be there; the sums start anew */
        while (done < x->batch->b.n_docs && x->batch->doc_row[done] == row) docs[n++] = done++;
        char *p = whole;
        for (int i = 0; i < x->n_out; i++) {
            if (x->out[i].axis) memcpy(x->out_buffer[i].data, p, x->out_buffer[i].bytes);
            p += x->out_buffer[i].bytes;
        }
        check_part(x, docs, rows, n, (x->c->flags & KT_SUMS) == KT_SUMS && row > 0);
    }
    char *parts = snapshot(x, &bytes);
    bool sums = (x->c->flags & KT_SUMS) == KT_SUMS || strchr(x->c->out, 'A');
    ck_assert_msg(!sums || !memcmp(whole, parts, bytes),
                  "%s: sums depend on how rows are split into calls", name_of(x));
    free(whole);
    free(parts);
}

START_TEST(same_for_rows_in_several_calls)
{
    each_call(_i, check_rows_apart);
}
END_TEST

static void check_documents_apart(kt_call *x)
{
    int backwards[KT_DOCS] = { 0 }, one_row[KT_DOCS] = { 0 }, own_row[KT_DOCS] = { 0 },
        n = (int)x->batch->b.n_docs;
    if (x->c->flags & KT_PLACE) return;
    kt_clear(x);
    kt_run(x, kt_backend()->variants()[0], KT_WHOLE, 1);
    for (int i = 0; i < n; i++) {
        backwards[i] = n - 1 - i;
        own_row[i] = i;
    }
    check_part(x, backwards, one_row, n, false);
    check_part(x, backwards, own_row, n, false);
    for (int i = 0; i < n; i++) check_part(x, &i, one_row, 1, false);
}

START_TEST(same_for_documents_packed_or_alone)
{
    each_call(_i, check_documents_apart);
}
END_TEST

/* ---- results in the place of inputs ---------------------------------------------------------- */

static void check_inplace(kt_call *x)
{
    int shift = x->c->flags & KT_SHIFTED ? 1 : 0;
    kt_clear(x);
    kt_run(x, kt_backend()->variants()[0], KT_WHOLE, 1);
    for (int i = 0; i < x->n_out; i++) {
        x->out[i].data = x->in[i + shift].data;
        ck_assert_uint_eq(x->out_buffer[i].bytes, x->in_buffer[i + shift].bytes);
    }
    kt_run(x, kt_backend()->variants()[0], KT_BACKWARDS, 2);
    for (int i = 0; i < x->n_out; i++)
        ck_assert_msg(!memcmp(x->out[i].data, x->out_buffer[i].data, x->out_buffer[i].bytes),
                      "%s: result %d in place differs", name_of(x), i);
}

START_TEST(inplace_is_the_same)
{
    if (cases[_i].flags & KT_INPLACE) each_call(_i, check_inplace);
}
END_TEST

/* ---- the table itself ------------------------------------------------------------------------ */

/* A kernel that no case names would go untested. */
START_TEST(every_kernel_has_a_case)
{
    for (const char *const *v = kt_backend()->variants(); *v; v++) {
        size_t n;
        const ft_kernel *k = kt_backend()->kernels(*v, &n);
        ck_assert_msg(kt_backend()->self_test(*v), "%s fails its self-test", *v);
        for (size_t i = 0; i < n; i++) {
            bool found = false;
            for (int c = 0; c < N_CASES; c++) found |= !strcmp(cases[c].op, k[i].op);
            ck_assert_msg(found, "no case for %s", k[i].op);
        }
    }
    ck_assert_ptr_null(kt_backend()->kernels("avx1024", &(size_t){ 0 }));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("kernels");
    TCase *t = tcase_create("ops");
    tcase_set_timeout(t, 300);
    tcase_add_test(t, every_kernel_has_a_case);
    tcase_add_loop_test(t, matches_reference_alike_on_all_sets, 0, N_CASES);
    tcase_add_loop_test(t, same_for_any_ranges_and_threads, 0, N_CASES);
    tcase_add_loop_test(t, accumulate_adds, 0, N_CASES);
    tcase_add_loop_test(t, same_for_rows_in_several_calls, 0, N_CASES);
    tcase_add_loop_test(t, same_for_documents_packed_or_alone, 0, N_CASES);
    tcase_add_loop_test(t, inplace_is_the_same, 0, N_CASES);
    suite_add_tcase(s, t);
    return s;
}
