/* test_derive.c -- every op's backward rule against finite differences, in double precision with
 * the reference kernels, through the whole machinery: derivation, recomputation, planning with
 * freed buffers poisoned, execution.
 *
 * Each case is a small network of parameters alone; the derivative of the loss with respect to
 * every parameter element is compared with a central difference. */
#include "tests/graph_test.h"

enum { VOCAB = 11, D = 8, HEADS = 2 };

static ft_val P(ft_graph *g, const char *name, int64_t rows, int64_t cols)
{
    return ft_shared(g, name, rows ? ft_2d(rows, cols) : ft_1d(cols), FT_TRAIN, ft_normal(0.7));
}

static ft_val embed(ft_graph *g, ft_val ids)
{
    return ft_embedding(g, ids, P(g, "embed", VOCAB, D));
}

static ft_val finish(ft_graph *g, ft_val x, ft_val targets)
{
    ft_val logits = ft_linear(g, x, P(g, "head", VOCAB, ft_describe(g, x)->shape.dim[1]));
    return ft_scale(g, ft_logprob(g, logits, targets), -1);
}

static ft_val c_linear(ft_graph *g, ft_val ids, ft_val pos, ft_val t)
{
    (void)pos;
    ft_val x = embed(g, ids), h = ft_linear(g, x, P(g, "a", 3, D));
    ft_val y = ft_add(g, ft_add(g, ft_linear(g, x, P(g, "w", D, D)), P(g, "bias", 0, D)),
                      ft_scale(g, ft_linear(g, h, P(g, "b", D, 3)), 1.7));
    return finish(g, ft_add(g, x, y), t);
}

static ft_val c_unary(ft_graph *g, ft_val ids, ft_val pos, ft_val t)
{
    (void)pos;
    ft_val x = embed(g, ids), y = ft_silu(g, x);
    y = ft_add(g, y, ft_gelu(g, ft_scale(g, x, 0.9)));
    y = ft_add(g, y, ft_gelu_tanh(g, ft_scale(g, x, 1.1)));
    y = ft_add(g, y, ft_tanh(g, x));
    y = ft_add(g, y, ft_sigmoid(g, x));
    y = ft_add(g, y, ft_relu(g, ft_shift(g, x, 0.3)));
    y = ft_add(g, y, ft_log_sigmoid(g, x));
    y = ft_add(g, y, ft_sqrt(g, ft_shift(g, ft_mul(g, x, x), 0.5)));
    return finish(g, y, t);
}

static ft_val c_binary(ft_graph *g, ft_val ids, ft_val pos, ft_val t)
{
    (void)pos;
    ft_val x = embed(g, ids), z = ft_linear(g, x, P(g, "w", D, D)), v = P(g, "v", 0, D);
    ft_val y = ft_mul(g, x, z);
    y = ft_sub(g, y, ft_div(g, z, ft_shift(g, ft_mul(g, x, x), 1)));
    y = ft_add(g, ft_mul(g, y, v), ft_div(g, x, ft_shift(g, ft_mul(g, v, v), 0.6)));
    y = ft_sub(g, y, v);
    ft_val s = ft_sum(g, ft_mul(g, v, v)); /* scalar */
    y = ft_add(g, ft_mul(g, y, s), ft_div(g, x, ft_shift(g, s, 1)));
    ft_val column = ft_reshape(g, ft_row_sum(g, x),
                               (ft_shape){ 2, { ft_describe(g, x)->shape.dim[0], 1 } });
    y = ft_add(g, ft_mul(g, y, column), column);
    return finish(g, ft_div(g, y, ft_shift(g, ft_mul(g, column, column), 2)), t);
}

static ft_val c_glu(ft_graph *g, ft_val ids, ft_val pos, ft_val t)
{
    (void)pos;
    ft_val x = embed(g, ids), gate = ft_linear(g, x, P(g, "gate", 6, D)),
           up = ft_linear(g, x, P(g, "up", 6, D));
    ft_val y = ft_add(g, ft_glu(g, "silu", gate, up), ft_glu(g, "gelu_tanh", up, gate));
    return finish(g, ft_linear(g, y, P(g, "down", D, 6)), t);
}

static ft_val c_norm(ft_graph *g, ft_val ids, ft_val pos, ft_val t)
{
    (void)pos;
    ft_val x = embed(g, ids), y = ft_rms_norm(g, x, P(g, "n1", 0, D), 1e-5, 0);
    y = ft_add(g, y,
               ft_rms_norm(g, ft_linear(g, x, P(g, "w", D, D)), P(g, "n2", 0, D / HEADS), 1e-6, 1));
    return finish(g, y, t);
}

static ft_val attend(ft_graph *g, ft_val ids, ft_val pos, const ft_attention_args *a, bool sinks)
{
    static const float freq[2] = { 1.0f, 0.1f };
    ft_val x = embed(g, ids), f = ft_constant(g, "freq", ft_1d(2), freq);
    ft_val q = ft_linear(g, x, P(g, "q", a->heads * a->head_dim, D));
    ft_val k = ft_linear(g, x, P(g, "k", a->kv_heads * a->head_dim, D)),
           v = ft_linear(g, x, P(g, "v", a->kv_heads * a->head_dim, D));
    q = ft_rope_part(g, q, pos, f, 1.2, a->head_dim);
    k = ft_rope_part(g, k, pos, f, 1.2, a->head_dim);
    ft_val o = ft_attention(g, "attn", q, k, v, a,
                            sinks ? P(g, "sinks", 0, a->heads) : (ft_val){ 0 });
    return ft_linear(g, o, P(g, "o", D, a->heads * a->head_dim));
}

static ft_val c_attention(ft_graph *g, ft_val ids, ft_val pos, ft_val t)
{
    ft_attention_args a = { .heads = 4, .kv_heads = 2, .head_dim = 4 };
    return finish(g, attend(g, ids, pos, &a, false), t);
}

static ft_val c_attention_more(ft_graph *g, ft_val ids, ft_val pos, ft_val t)
{
    ft_attention_args a = {
        .heads = 4, .kv_heads = 1, .head_dim = 6, .window = 3, .scale = 0.8, .softcap = 1.5
    };
    return finish(g, attend(g, ids, pos, &a, true), t);
}

static ft_val c_shape(ft_graph *g, ft_val ids, ft_val pos, ft_val t)
{
    (void)pos;
    ft_val x = embed(g, ids), w = P(g, "w", D, D);
    ft_val top = ft_slice(g, w, 0, 0, 3), left = ft_slice(g, w, 1, 2, D);
    ft_val y = ft_linear(g, ft_linear(g, x, top), ft_transpose(g, top)); /* W^T W x */
    ft_val z = ft_slice(g, x, 1, 2, D);
    y = ft_add(g, y, ft_linear(g, z, left));
    ft_val c = ft_concat(g, ft_slice(g, y, 1, 0, 4), ft_slice(g, x, 1, 4, D), 1);
    ft_val both = ft_concat(g, ft_slice(g, w, 0, 0, 4), ft_slice(g, w, 0, 4, D), 0);
    return finish(g, ft_linear(g, c, both), t);
}

/* STEP values: DoRA's norm without the detach, and a value shared by two sites. */
static ft_val c_step(ft_graph *g, ft_val ids, ft_val pos, ft_val t)
{
    (void)pos;
    ft_val x = embed(g, ids), A = P(g, "A", 3, D), B = P(g, "B", D, 3), W = P(g, "W", D, D);
    ft_val n2 = ft_add(g, ft_row_dot(g, W, W),
                       ft_scale(g, ft_row_dot(g, ft_linear(g, W, A), B), 2));
    n2 = ft_add(g, n2, ft_row_dot(g, ft_linear(g, B, ft_linear(g, A, A)), B));
    ft_val scale = ft_div(g, P(g, "m", 0, D), ft_sqrt(g, ft_shift(g, n2, 0.5)));
    ft_val y = ft_add(g, ft_linear(g, x, W), ft_linear(g, ft_linear(g, x, A), B));
    y = ft_mul(g, y, scale);
    return finish(g, ft_add(g, y, ft_mul(g, x, scale)), t);
}

static ft_val c_layers(ft_graph *g, ft_val ids, ft_val pos, ft_val t)
{
    static const float freq[2] = { 1.0f, 0.1f };
    ft_attention_args a = { .heads = 2, .kv_heads = 1, .head_dim = 4 };
    ft_val x = embed(g, ids), f = ft_constant(g, "freq", ft_1d(2), freq);
    for (int i = 0; i < 3; i++) {
        char n[8][32];
        for (int k = 0; k < 8; k++) snprintf(n[k], sizeof n[k], "l%d.%d", i, k);
        x = ft_layer(g, i, x);
        ft_val h = ft_rms_norm(g, x, P(g, n[0], 0, D), 1e-5, 0);
        ft_val q = ft_rope(g, ft_linear(g, h, P(g, n[1], 8, D)), pos, f, 1),
               k = ft_rope(g, ft_linear(g, h, P(g, n[2], 4, D)), pos, f, 1);
        ft_val o = ft_attention(g, n[3], q, k, ft_linear(g, h, P(g, n[3], 4, D)), &a,
                                (ft_val){ 0 });
        x = ft_add(g, x, ft_dropout(g, ft_linear(g, o, P(g, n[4], D, 8)), 0.25));
        h = ft_rms_norm(g, x, P(g, n[5], 0, D), 1e-5, 0);
        x = ft_add(g, x,
                   ft_linear(g,
                             ft_glu(g, "silu", ft_linear(g, h, P(g, n[6], 6, D)),
                                    ft_linear(g, h, P(g, n[7], 6, D))),
                             P(g, n[6] + 1, D, 6)));
    }
    return finish(g, ft_rms_norm(g, ft_layer(g, -1, x), P(g, "norm", 0, D), 1e-5, 0), t);
}

/* A head whose rows have weights of their own: the general rule instead of the fused one;
 * softcap. */
static ft_val c_head(ft_graph *g, ft_val ids, ft_val pos, ft_val t)
{
    (void)pos;
    ft_val x = embed(g, ids), h = ft_linear(g, x, P(g, "A", 3, D));
    ft_val l = ft_add(g, ft_linear(g, x, P(g, "head", VOCAB, D)),
                      ft_linear(g, h, P(g, "B", VOCAB, 3)));
    l = ft_add(g, l, P(g, "hb", 0, VOCAB));
    l = ft_scale(g, ft_tanh(g, ft_scale(g, l, 0.5)), 2);
    return ft_scale(g, ft_log_sigmoid(g, ft_shift(g, ft_logprob(g, l, t), 1)), -1);
}

/* The same, fused, with bias and two terms. */
static ft_val c_head_fused(ft_graph *g, ft_val ids, ft_val pos, ft_val t)
{
    (void)pos;
    ft_val x = embed(g, ids), h = ft_linear(g, x, P(g, "A", 3, D));
    ft_val l = ft_add(g, ft_linear(g, x, P(g, "embed", VOCAB, D)),
                      ft_linear(g, h, P(g, "B", VOCAB, 3)));
    l = ft_add(g, l, P(g, "hb", 0, VOCAB));
    l = ft_scale(g, ft_tanh(g, ft_scale(g, l, 0.5)), 2);
    return ft_scale(g, ft_logprob(g, l, t), -1);
}

/* Experts' weights (n, a, b). */
static ft_val stack(ft_graph *g, const char *name, int64_t n, int64_t a, int64_t b)
{
    return ft_shared(g, name, ft_3d(n, a, b), FT_TRAIN, ft_normal(0.7));
}

static ft_val grouped(ft_graph *g, ft_val x, ft_val ids, ft_val w, ft_val bias, bool by_in)
{
    return ft_op(g, "grouped", (ft_attr[]){ { "by_in", by_in } }, 1,
                 (ft_val[]){ x, ids, w, bias }, bias.id ? 4 : 3);
}

/* Both layouts, with and without biases, weights over the chosen and over all. */
static ft_val c_experts(ft_graph *g, ft_val ids, ft_val pos, ft_val t)
{
    enum { N = 5, K = 2, IN = 6 };
    static const ft_swiglu_args clamped = { true, 1.702, 1.1, 1 }, plain = { false, 1, 0, 0 };
    ft_val x = embed(g, ids), none = { 0 };
    (void)pos;
    ft_routing r = ft_route(g, ft_add(g, ft_linear(g, x, P(g, "router", N, D)), P(g, "rb", 0, N)),
                            K, false);
    ft_val h = grouped(g, x, r.ids, stack(g, "up", N, D, 2 * IN), P(g, "ub", N, 2 * IN), true);
    h = ft_swiglu(g, h, K, &clamped);
    h = grouped(g, h, r.ids, stack(g, "down", N, IN, D), P(g, "db", N, D), true);
    x = ft_add(g, x, ft_combine(g, h, r.weights, K));
    r = ft_route(g, ft_linear(g, x, P(g, "router2", N, D)), 3, true);
    h = ft_swiglu(g, grouped(g, x, r.ids, stack(g, "up2", N, 2 * IN, D), none, false), 3, &plain);
    h = grouped(g, h, r.ids, stack(g, "down2", N, D, IN), none, false);
    return finish(g, ft_add(g, x, ft_combine(g, h, r.weights, 3)), t);
}

static const struct { const char *name; test_build_fn build;
} cases[] = {
    { "linear", c_linear },
    { "unary", c_unary },
    { "binary", c_binary },
    { "glu", c_glu },
    { "norm", c_norm },
    { "attention", c_attention },
    { "attention with window, softcap and sinks", c_attention_more },
    { "shape", c_shape },
    { "step values", c_step },
    { "layers", c_layers },
    { "head", c_head },
    { "fused head", c_head_fused },
    { "experts", c_experts },
};
enum { N_CASES = sizeof cases / sizeof *cases };

static const int docs_a[] = { 5, 3, 0, 7, 0, -1 }, docs_b[] = { 2, 6, 0, -1 };

START_TEST(gradient_equals_difference)
{
    test_run r;
    static test_batch a, b;
    const ft_batch *both[2] = { &a.b, &b.b };
    test_batch_fill(&a, docs_a, VOCAB, 4, 11);
    test_batch_fill(&b, docs_b, VOCAB, 0, 12);
    b.b.first_row = a.b.n_rows;
    test_open(&r, cases[_i].build, NULL, FT_F64, "reference", G_KEEP, 1, true, 99);
    test_differences(&r, cases[_i].name, both, 1e-3);
    test_close(&r);
}
END_TEST

/* Kept, partly recomputed, wholly recomputed: the same bits. */
START_TEST(recomputing_changes_nothing)
{
    static const g_remat modes[] = { G_KEEP_ALL, G_KEEP, G_RECOMPUTE };
    static const ft_dtype types[] = { FT_F32, FT_BF16 };
    static test_batch a, b;
    const ft_batch *both[2] = { &a.b, &b.b };
    test_batch_fill(&a, docs_a, VOCAB, 4, 11);
    test_batch_fill(&b, docs_b, VOCAB, 0, 12);
    b.b.first_row = a.b.n_rows;
    for (int t = 0; t < 2; t++) {
        void *first = NULL;
        for (int m = 0; m < 3; m++) {
            test_run r;
            test_open(&r, cases[_i].build, NULL, types[t], test_backend()->variants()[0], modes[m],
                      1 + m, true, 99);
            double loss = test_step(&r, both, 2);
            ck_assert(isfinite(loss));
            if (!first)
                first = memcpy(malloc(r.plan.grad_count * 4), r.mem.grad, r.plan.grad_count * 4);
            else
                ck_assert_msg(!memcmp(first, r.mem.grad, r.plan.grad_count * 4),
                              "%s: mode %d differs", cases[_i].name, m);
            test_close(&r);
        }
        free(first);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("derive");
    TCase *t = tcase_create("derive");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, gradient_equals_difference, 0, N_CASES);
    tcase_add_loop_test(t, recomputing_changes_nothing, 0, N_CASES);
    suite_add_tcase(s, t);
    return s;
}
