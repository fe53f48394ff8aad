/* test_contract.c -- does the adapter contract hold the methods of the field?  Each is written here
 * against the public header alone, as a plugin would, none naming a mode, a device or a thread; on
 * a small model each must start as the identity, have the gradient that differences give, and need
 * no memory of its own.  (lora, dora: the plugins themselves; VeRA: docs/examples/vera.c.) */
#include "ft/adapter.h"
#include "tests/graph_test.h"

enum { VOCAB = 11, D = 8, INNER = 6, LAYERS = 2, KV = 4 };

/* ---- the methods ----------------------------------------------------------------------------- */

/* LoRA with dropout, Hu et al. 2021. */
static ft_val lora(void *self, ft_graph *g, const ft_site *s, ft_val x)
{
    (void)self;
    ft_val A = ft_parameter(g, s, "lora_A", ft_2d(3, s->in), FT_TRAIN, ft_normal(0.5));
    ft_val B = ft_parameter(g, s, "lora_B", ft_2d(s->out, 3), FT_TRAIN, ft_fill(0));
    return ft_add(g, ft_base(g, s, x),
                  ft_scale(g, ft_linear(g, ft_linear(g, ft_dropout(g, x, 0.3), A), B), 2));
}

/* (IA)^3, Liu et al. 2022: outputs are scaled, and the input of the last MLP layer. */
static ft_val ia3(void *self, ft_graph *g, const ft_site *s, ft_val x)
{
    (void)self;
    bool input = strstr(s->name, "down") != NULL;
    ft_val l = ft_parameter(g, s, "ia3_l", ft_1d(input ? s->in : s->out), FT_TRAIN, ft_fill(1));
    return input ? ft_base(g, s, ft_mul(g, x, l)) : ft_mul(g, ft_base(g, s, x), l);
}

/* Bottleneck adapters, Houlsby et al. 2019: what a sublayer adds goes through down, gelu, up. */
static ft_val houlsby(void *self, ft_graph *g, const ft_site *s, ft_val x)
{
    (void)self;
    ft_val h = ft_linear(g, x,
                         ft_parameter(g, s, "down.weight", ft_2d(3, s->in), FT_TRAIN,
                                      ft_normal(0.5)));
    h = ft_gelu(g, ft_add(g, h, ft_parameter(g, s, "down.bias", ft_1d(3), FT_TRAIN, ft_fill(0))));
    h = ft_linear(g, h, ft_parameter(g, s, "up.weight", ft_2d(s->out, 3), FT_TRAIN, ft_fill(0)));
    return ft_add(g, x,
                  ft_add(g, h, ft_parameter(g, s, "up.bias", ft_1d(s->out), FT_TRAIN, ft_fill(0))));
}

/* Prefix tuning with its projection, Li and Liang 2021: keys and values from a small network. */
static ft_val prefix(void *self, ft_graph *g, const ft_site *s, ft_val q)
{
    (void)self;
    int64_t kv = s->kv_heads * s->head_dim, all = 2 * s->all->layers * kv, at = 2 * s->index * kv;
    ft_val e = ft_shared(g, "prompt_embeddings", ft_2d(3, 5), FT_TRAIN, ft_normal(0.5));
    ft_val h = ft_tanh(g, ft_linear(g, e,
                                    ft_shared(g, "mlp.0", ft_2d(4, 5), FT_TRAIN, ft_normal(0.5))));
    ft_val all_kv = ft_linear(g, h, ft_shared(g, "mlp.2", ft_2d(all, 4), FT_TRAIN, ft_normal(0.5)));
    ft_extra_kv(g, s, ft_slice(g, all_kv, 1, at, at + kv),
                ft_slice(g, all_kv, 1, at + kv, at + 2 * kv));
    return q;
}

/* Prompt tuning, Lester et al. 2021: rows for the virtual tokens that the packer puts in front. */
static ft_val prompt(void *self, ft_graph *g, const ft_site *s, ft_val ids)
{
    (void)self;
    ft_val P = ft_shared(g, "prompt_embeddings", ft_2d(2, s->out), FT_TRAIN, ft_normal(0.5));
    return ft_op(g, "embedding", NULL, 0, (ft_val[]){ ids, ft_site_weight(g, s), P }, 3);
}

/* AdaLoRA, Zhang et al. 2023: P E Q with a penalty that keeps P and Q orthogonal. */
static ft_val orthogonal(ft_graph *g, ft_val rows)
{
    ft_val gram = ft_linear(g, rows, rows), eye;
    float one[9] = { 1, 0, 0, 0, 1, 0, 0, 0, 1 };
    eye = ft_constant(g, "eye", ft_2d(3, 3), one);
    ft_val d = ft_sub(g, gram, eye);
    return ft_sqrt(g, ft_shift(g, ft_sum(g, ft_mul(g, d, d)), 1e-6));
}

static ft_val adalora(void *self, ft_graph *g, const ft_site *s, ft_val x)
{
    (void)self;
    ft_val A = ft_parameter(g, s, "lora_A", ft_2d(3, s->in), FT_TRAIN, ft_normal(0.5));
    ft_val B = ft_parameter(g, s, "lora_B", ft_2d(s->out, 3), FT_TRAIN, ft_normal(0.5));
    ft_val E = ft_parameter(g, s, "lora_E", ft_2d(3, 1), FT_TRAIN, ft_fill(0));
    ft_val delta = ft_linear(g, ft_linear(g, x, ft_mul(g, A, E)), B);
    ft_penalty(g, ft_scale(g, ft_add(g, orthogonal(g, A), orthogonal(g, ft_transpose(g, B))), 0.1));
    return ft_add(g, ft_base(g, s, x), ft_scale(g, delta, 0.7));
}

static const struct {
    const char *name;
    ft_adapter a;
    bool identity;          /* the adapted model starts equal to the base */
    bool has_virtual;
} methods[] = {
    { "lora", { .sites = FT_SITE_LINEAR, .apply = lora }, true, false },
    { "ia3", { .sites = FT_SITE_LINEAR, .apply = ia3 }, true, false },
    { "houlsby", { .sites = FT_SITE_SUBLAYER, .apply = houlsby }, true, false },
    { "prefix", { .sites = FT_SITE_ATTENTION, .apply = prefix }, false, false },
    { "prompt", { .sites = FT_SITE_EMBED, .apply = prompt }, false, true },
    { "adalora", { .sites = FT_SITE_LINEAR, .apply = adalora }, true, false },
};
enum { N_METHODS = sizeof methods / sizeof *methods };

/* ---- a small model, as a model plugin writes it ---------------------------------------------- */

static ft_val model(ft_graph *g, ft_val ids, ft_val pos, ft_val targets)
{
    static const float freq[2] = { 1.0f, 0.1f };
    ft_attention_args a = { .heads = 2, .kv_heads = 1, .head_dim = KV };
    ft_val f = ft_constant(g, "freq", ft_1d(2), freq), x = ft_site_embed(g, "embed", VOCAB, D, ids);
    for (int i = 0; i < LAYERS; i++) {
        char n[8][32];
        static const char *const part[8] = { "n1", "q", "k", "v", "o", "n2", "up", "down" };
        for (int k = 0; k < 8; k++) snprintf(n[k], sizeof n[k], "layers.%d.%s", i, part[k]);
        x = ft_layer(g, i, x);
        ft_val h = ft_rms_norm(g, x, ft_weight(g, n[0], ft_1d(D)), 1e-5, 0);
        ft_val q = ft_rope(g, ft_site_linear(g, n[1], h, 2 * KV, false), pos, f, 1);
        ft_val k = ft_rope(g, ft_site_linear(g, n[2], h, KV, true), pos, f, 1);
        ft_val o = ft_attention(g, n[3], q, k, ft_site_linear(g, n[3], h, KV, false), &a,
                                (ft_val){ 0 });
        x = ft_add(g, x, ft_sublayer(g, n[4], ft_site_linear(g, n[4], o, D, false)));
        h = ft_rms_norm(g, x, ft_weight(g, n[5], ft_1d(D)), 1e-5, 0);
        h = ft_silu(g, ft_site_linear(g, n[6], h, INNER, false));
        x = ft_add(g, x, ft_sublayer(g, n[7], ft_site_linear(g, n[7], h, D, false)));
    }
    ft_layer(g, -1, x);
    return ft_scale(g, ft_logprob(g, ft_site_linear(g, "lm_head", x, VOCAB, false), targets), -1);
}

/* The weights of the model: random, the same for every build. */
static double weights[64][VOCAB * D];

static void bind_weights(test_run *r)
{
    for (uint32_t i = 0; i < r->g->n_weight; i++) {
        ft_desc d = { .shape = r->g->weight[i].shape };
        int64_t n = g_rows(&d) * g_cols(&d);
        uint64_t seed = g_hash(r->g->weight[i].name, 5);
        for (int64_t k = 0; k < n; k++) weights[i][k] = test_random(&seed);
        r->weight[i] = (ft_arg){ .data = weights[i],
                                 .rows = g_rows(&d),
                                 .cols = g_cols(&d),
                                 .ld = g_cols(&d),
                                 .dtype = FT_F64 };
    }
}

/* ---- the method ------------------------------------------------------------------------------ */

typedef struct { const ft_adapter *a; int32_t next; ft_site_set set; } choice;

static const ft_adapter *choose(void *ctx, ft_site *s, void **self, const char **plugin)
{
    choice *c = ctx;
    *self = NULL;
    if (!(c->a->sites & s->kind) || (s->kind == FT_SITE_LINEAR && s->layer < 0)) return NULL;
    c->set = (ft_site_set){ LAYERS, LAYERS, VOCAB, VOCAB };
    s->index = c->next++;
    s->all = &c->set;
    *plugin = "test";
    return c->a;
}

static void open_run(test_run *r, choice *c, bool derive)
{
    g_method m = { .adapter = choose, .ctx = c };
    c->next = 0;
    test_open_with(r, model, c->a ? &m : NULL, FT_F64, "reference", G_KEEP, 1, derive, 3,
                   bind_weights);
}

static void set_params(test_run *r, bool perturb)
{
    uint64_t seed = 17;
    for (uint32_t i = 0; i < r->g->n_param; i++) {
        const g_param *p = &r->g->param[i];
        const ft_desc *d = &g_value_at(r->g, p->value)->desc;
        double *w = (double *)(void *)((char *)r->mem.param + r->plan.value[p->value].offset);
        for (int64_t j = 0; j < g_rows(d) * g_cols(d); j++) {
            double noise = test_random(&seed);
            w[j] = p->init.kind == FT_INIT_FILL ? p->init.a + (perturb ? 0.3 * noise : 0)
                                                : p->init.b * noise;
        }
    }
}

static const int docs[] = { 5, 4, 0, 6, 0, -1 };

/* The batch, with two virtual tokens in front of each document where the method has them. */
static void fill(test_batch *t, bool has_virtual)
{
    test_batch_fill(t, docs, VOCAB, 3, 11);
    if (!has_virtual) return;
    for (int64_t d = 0; d < t->b.n_docs; d++) t->ids[t->doc[d]] = -1, t->ids[t->doc[d] + 1] = -2;
}

START_TEST(starts_as_the_base)
{
    static test_batch b;
    const ft_batch *one[1] = { &b.b };
    choice with = { .a = &methods[_i].a }, without = { .a = NULL };
    test_run r, base;
    fill(&b, false);
    if (!methods[_i].identity) return; /* prefix and prompt tuning do not claim it */
    open_run(&r, &with, false);
    open_run(&base, &without, false);
    set_params(&r, false);
    double have = test_step(&r, one, 1), want = test_step(&base, one, 1);
    ck_assert_msg(fabs(have - want) < 1e-12, "%s: %.15g, the base %.15g", methods[_i].name, have,
                  want);
    ck_assert(r.g->n_param > 0);
    test_close(&r);
    test_close(&base);
}
END_TEST

START_TEST(gradient_equals_difference)
{
    static test_batch b;
    const ft_batch *twice[2] = { &b.b, &b.b };
    choice with = { .a = &methods[_i].a };
    test_run r;
    fill(&b, methods[_i].has_virtual);
    open_run(&r, &with, true);
    set_params(&r, true);
    test_differences(&r, methods[_i].name, twice, 1e-4);
    test_close(&r);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("contract");
    TCase *t = tcase_create("contract");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, starts_as_the_base, 0, N_METHODS);
    tcase_add_loop_test(t, gradient_equals_difference, 0, N_METHODS);
    suite_add_tcase(s, t);
    return s;
}
