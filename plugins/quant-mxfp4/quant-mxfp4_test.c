/* quant-mxfp4_test.c -- numbers by the format's definition, parts that are refused, a model with
 * packed experts against its plain twin; transformers' numbers where the shared goldens are
 * present. */
#include "tests/plugin_host.h"
#include <math.h>
#include "tests/talker.h"

enum { EXPERTS = 2, IN = 64, OUT = 5, GROUPS = IN / 32 };

static plugin_host host;
static const ft_quantizer *quant;
static const int64_t shape[3] = { EXPERTS, IN, OUT };
static uint8_t blocks[EXPERTS * OUT * GROUPS * 16], scales[EXPERTS * OUT * GROUPS];
static ft_tensor part[FT_MAX_PARTS];

static void start(void)
{
    host = (plugin_host){ 0 };
    ck_assert_int_eq(plugin_open(&host, "quant-mxfp4", NULL), 0);
    quant = host.plugin->vtable;
    for (size_t i = 0; i < sizeof blocks; i++) blocks[i] = (uint8_t)(tiny_number(1, i) >> 20);
    for (size_t i = 0; i < sizeof scales; i++) scales[i] = (uint8_t)(i * 13); /* 0 … 247 */
    part[0] = (ft_tensor){ "X_blocks", FT_U8, 4, { EXPERTS, OUT, GROUPS, 16 }, NULL, blocks,
                           sizeof blocks };
    part[1] = (ft_tensor){ "X_scales", FT_U8, 3, { EXPERTS, OUT, GROUPS }, NULL, scales,
                           sizeof scales };
}

/* X[e][i][o] by the definition. */
static double defined(const uint8_t *b, const uint8_t *s, int64_t in, int64_t out, int64_t e,
                      int64_t i, int64_t o)
{
    static const double e2m1[16] = { 0,   .5,  1,  1.5,  2,  3,  4,  6,
                                     -0., -.5, -1, -1.5, -2, -3, -4, -6 };
    int64_t line = e * out + o;
    int code = b[line * in / 2 + i / 2] >> (i % 2 ? 4 : 0) & 15;
    return ldexp(e2m1[code], s[line * in / 32 + i / 32] - 127);
}

START_TEST(numbers)
{
    ft_packed p;
    float got[EXPERTS * IN][OUT], some[40][2];
    uint16_t half[40][2];
    start();
    ck_assert_int_eq(quant->open(host.self, shape, 3, part, &p), 0);
    ck_assert_int_eq(p.rows, EXPERTS * IN);
    ck_assert_int_eq(p.cols, OUT);
    p.tile(&p, 0, EXPERTS * IN, 0, OUT, FT_F32, got, OUT);
    for (int64_t r = 0; r < EXPERTS * IN; r++) {
        for (int64_t o = 0; o < OUT; o++)
            ck_assert((double)got[r][o] == defined(blocks, scales, IN, OUT, r / IN, r % IN, o));
    }
    p.tile(&p, 50, 40, 3, 2, FT_F32, some, 2); /* across experts, from the middle of a block */
    p.tile(&p, 50, 40, 3, 2, FT_BF16, half, 2);
    for (int r = 0; r < 40; r++) {
        for (int o = 0; o < 2; o++) {
            uint32_t bits = (uint32_t)half[r][o] << 16;
            ck_assert(some[r][o] == got[50 + r][3 + o] && !memcmp(&bits, &some[r][o], 4));
        }
    }
    plugin_close(&host);
}
END_TEST

static void check_refused(const char *word)
{
    ft_packed p;
    host.err = (ft_err){ 0 };
    ck_assert_int_eq(quant->open(host.self, shape, 3, part, &p), FT_EFORMAT);
    ck_assert_msg(strstr(host.err.msg, word) != NULL, "no %s in: %s", word, host.err.msg);
    plugin_close(&host);
}

static void check_shape_refused(const int64_t *dim, int ndim)
{
    ft_packed p;
    ft_part of[FT_MAX_PARTS];
    start();
    ck_assert_int_eq(quant->open(host.self, dim, ndim, part, &p), FT_EFORMAT);
    ck_assert_msg(strstr(host.err.msg, "belongs to no experts' weight") != NULL, "%s",
                  host.err.msg);
    ck_assert_int_eq(quant->parts(host.self, dim, ndim, of), FT_EUNSUP);
    ck_assert_msg(strstr(host.err.msg, "only experts' weights whose inputs are") != NULL, "%s",
                  host.err.msg);
    plugin_close(&host);
}

START_TEST(refused)
{
    static const int64_t uneven[3] = { EXPERTS, IN + 1, OUT };
    check_shape_refused(shape, 2);
    check_shape_refused(uneven, 3);
    start();
    part[0].bytes--;
    check_refused("X_blocks");
    start();
    part[0].dim[1] = OUT + 1;
    check_refused("shape");
    start();
    part[1].data = NULL;
    check_refused("X_scales");
    start();
    scales[3] = 253;
    check_refused("finite");
}
END_TEST

/* ---- a model --------------------------------------------------------------------------------- */

enum { VOCAB = 96, WIDTH = 64, INNER = 32, N = 4 };

typedef struct { const char *name; int ndim; int64_t dim[4]; } tensor;

static void put(ft_st_writer *w, int64_t k, const tensor *t, const char *name)
{
    ft_err e = { 0 };
    int64_t n = 1;
    for (int i = 0; i < t->ndim; i++) n *= t->dim[i];
    float *x = malloc((size_t)n * 4);
    uint8_t *b = malloc((size_t)n);
    bool bytes = strstr(name, "_blocks") || strstr(name, "_scales");
    for (int64_t i = 0; i < n; i++) {
        x[i] = tiny_weight(name, (uint64_t)i);
        b[i] = (uint8_t)(tiny_number(tiny_key(name), (uint64_t)i) >> 24);
        if (strstr(name, "_scales")) b[i] = (uint8_t)(122 + b[i] % 4);
    }
    size_t size = (size_t)n * (bytes ? 1 : 4);
    tiny_must(ft_st_write(w, k, bytes ? (void *)b : (void *)x, size, &e), &e);
    free(x);
    free(b);
}

/* The numbers of packed X, plain (experts, in, out). */
static void put_plain(ft_st_writer *w, int64_t k, const char *name, int64_t in, int64_t out)
{
    char b[160], s[160];
    ft_err e = { 0 };
    snprintf(b, sizeof b, "%s_blocks", name);
    snprintf(s, sizeof s, "%s_scales", name);
    float *x = malloc((size_t)(N * in * out) * 4);
    uint8_t *codes = malloc((size_t)(N * in * out)), *scale = malloc((size_t)(N * in * out));
    for (int64_t i = 0; i < N * in * out / 2; i++)
        codes[i] = (uint8_t)(tiny_number(tiny_key(b), (uint64_t)i) >> 24);
    for (int64_t i = 0; i < N * in * out / 32; i++)
        scale[i] = (uint8_t)(122 + (uint8_t)(tiny_number(tiny_key(s), (uint64_t)i) >> 24) % 4);
    for (int64_t i = 0; i < N * in * out; i++)
        x[i] = (float)defined(codes, scale, in, out, i / (in * out), i / out % in, i % out);
    tiny_must(ft_st_write(w, k, x, (size_t)(N * in * out) * 4, &e), &e);
    free(x);
    free(codes);
    free(scale);
}

static const char *make_model(const char *name, bool packed)
{
    static const tensor all[] = {
        { "model.embed_tokens.weight", 2, { VOCAB, WIDTH } },
        { "lm_head.weight", 2, { VOCAB, WIDTH } },
        { "model.norm.weight", 1, { WIDTH } },
        { "model.layers.0.input_layernorm.weight", 1, { WIDTH } },
        { "model.layers.0.post_attention_layernorm.weight", 1, { WIDTH } },
        { "model.layers.0.self_attn.q_proj.weight", 2, { 32, WIDTH } },
        { "model.layers.0.self_attn.q_proj.bias", 1, { 32 } },
        { "model.layers.0.self_attn.k_proj.weight", 2, { 16, WIDTH } },
        { "model.layers.0.self_attn.k_proj.bias", 1, { 16 } },
        { "model.layers.0.self_attn.v_proj.weight", 2, { 16, WIDTH } },
        { "model.layers.0.self_attn.v_proj.bias", 1, { 16 } },
        { "model.layers.0.self_attn.o_proj.weight", 2, { WIDTH, 32 } },
        { "model.layers.0.self_attn.o_proj.bias", 1, { WIDTH } },
        { "model.layers.0.self_attn.sinks", 1, { 4 } },
        { "model.layers.0.mlp.router.weight", 2, { N, WIDTH } },
        { "model.layers.0.mlp.router.bias", 1, { N } },
        { "model.layers.0.mlp.experts.gate_up_proj_bias", 2, { N, 2 * INNER } },
        { "model.layers.0.mlp.experts.down_proj_bias", 2, { N, WIDTH } },
        { "model.layers.0.mlp.experts.gate_up_proj_blocks", 4, { N, 2 * INNER, WIDTH / 32, 16 } },
        { "model.layers.0.mlp.experts.gate_up_proj_scales", 3, { N, 2 * INNER, WIDTH / 32 } },
        { "model.layers.0.mlp.experts.down_proj_blocks", 4, { N, WIDTH, INNER / 32, 16 } },
        { "model.layers.0.mlp.experts.down_proj_scales", 3, { N, WIDTH, INNER / 32 } },
    };
    static const tensor plain[] = {
        { "model.layers.0.mlp.experts.gate_up_proj", 3, { N, WIDTH, 2 * INNER } },
        { "model.layers.0.mlp.experts.down_proj", 3, { N, INNER, WIDTH } },
    };
    ft_err e = { 0 };
    int n = (int)(sizeof all / sizeof *all) - (packed ? 0 : 4);
    ft_st_writer *w = ft_st_new(&e);
    tiny_must(ft_make_dirs(tiny_path("%s", name), &e), &e);
    for (int i = 0; i < n; i++) {
        bool bytes = all[i].ndim > 2;
        ft_st_declare(w, all[i].name, bytes ? FT_U8 : FT_F32, all[i].dim, all[i].ndim, &e);
    }
    for (int i = 0; i < 2 && !packed; i++)
        ft_st_declare(w, plain[i].name, FT_F32, plain[i].dim, 3, &e);
    tiny_must(ft_st_begin(w, tiny_path("%s/model.safetensors", name), 0, &e), &e);
    for (int i = 0; i < n; i++) put(w, i, &all[i], all[i].name);
    for (int i = 0; i < 2 && !packed; i++)
        put_plain(w, n + i, plain[i].name, plain[i].dim[1], plain[i].dim[2]);
    tiny_must(ft_st_commit(w, &e), &e);
    ft_st_free(w);
    tiny_file(tiny_path("%s/config.json", name),
              "{\"model_type\": \"gpt_oss\", \"vocab_size\": 96, \"hidden_size\": 64, "
              "\"intermediate_size\": 32, \"num_hidden_layers\": 1, \"num_attention_heads\": 4, "
              "\"num_key_value_heads\": 2, \"head_dim\": 8, \"num_local_experts\": 4, "
              "\"num_experts_per_tok\": 2, \"max_position_embeddings\": 128, \"rope_theta\": 1e4, "
              "\"torch_dtype\": \"bfloat16\"%s}",
              packed ? ", \"quantization_config\": {\"quant_method\": \"mxfp4\"}" : "");
    return tiny_path("%s", name);
}

static void same_logits(const char *a, const char *b, const char *adapter)
{
    int32_t row[20];
    vectors va, vb;
    for (int i = 0; i < 20; i++) row[i] = 3 + i * 7 % 90;
    ft_tensor x = talker_logits(&va, a, adapter, row, 20), y = talker_logits(&vb, b, NULL, row, 20);
    ck_assert_uint_eq(x.bytes, y.bytes);
    for (int64_t i = 0; i < 20; i++) {
        for (int64_t k = 0; k < VOCAB; k++) {
            double d = fabs((double)talker_logit(&x, i, k) - (double)talker_logit(&y, i, k));
            ck_assert_msg(adapter ? d < 2e-4 : d == 0, "row %d, %d: off by %g", (int)i, (int)k, d);
        }
    }
    vectors_close(&va);
    vectors_close(&vb);
}

/* Packed and plain give the same bytes; LoRA on the packed experts trains, and merged and exported
 * in fp32 the model gives what adapter and base give. */
START_TEST(model)
{
    char stages[800], base[512];
    ft_buf said = { 0 };
    int32_t row[20];
    for (int i = 0; i < 20; i++) row[i] = 3 + i * 11 % 90;
    snprintf(base, sizeof base, "%s", make_model("packed", true));
    same_logits(base, make_model("plain", false), NULL);
    snprintf(stages, sizeof stages,
             "  - use: data-tokens\n    with: { path: %s }\n  - use: lora\n    with: { r: 2, "
             "target_parameters: [mlp.experts.gate_up_proj, mlp.experts.down_proj] }\n  - use: "
             "train-sft\n    with: { max_steps: 3, learning_rate: 1e-2, compute_dtype: fp32 }\n"
             "  - use: merge\n  - use: export-hf\n    with: { dtype: fp32 }\n",
             talker_rows(tiny_path("rows.safetensors"), row, NULL, 1, 20));
    ck_assert_msg(talker_pipeline(&said, base, "mx", stages) == 0, "%s", said.p);
    same_logits(base, tiny_path("mx/model"), tiny_path("mx/adapter"));
    ft_buf_free(&said);
}
END_TEST

/* Peak memory that `pipeline check` plans for LoRA on the model. */
static double planned(const char *dir)
{
    ft_buf said = { 0 };
    int32_t row[20];
    for (int i = 0; i < 20; i++) row[i] = 3 + i;
    const char *rows = talker_rows(tiny_path("rows.safetensors"), row, NULL, 1, 20);
    const char *yaml = tiny_file(tiny_path("check.yaml"),
                                 "version: 1\nmodel: %s\noutput_dir: %s/check\nstages:\n"
                                 "  - { use: data-tokens, with: { path: %s } }\n"
                                 "  - { use: lora, with: { r: 2 } }\n"
                                 "  - { use: train-sft, with: { max_steps: 1 } }\n",
                                 dir, tiny_dir, rows);
    const char *check[] = { "check", "--json", yaml, NULL };
    ck_assert_msg(tiny_run(&said, check) == 0, "%s", said.p);
    ft_err e = { 0 };
    const char *json = strchr(said.p, '{');
    ft_json_doc *d = json ? ft_json_parse("check", json, strlen(json), &e) : NULL;
    ck_assert_msg(d != NULL, "%s: %s", e.msg, said.p);
    double bytes = talker_real(ft_json_root(d), "peak_rss_bytes");
    ft_json_done(d);
    ft_buf_free(&said);
    return bytes;
}

/* config.json alone: the experts are counted as packed, as with their file. */
START_TEST(planned_without_weights)
{
    ft_err e = { 0 };
    const char *with = make_model("whole", true);
    double whole = planned(with);
    tiny_must(ft_make_dirs(tiny_path("bare"), &e), &e);
    tiny_copy(tiny_path("whole/config.json"), tiny_path("bare/config.json"));
    double bare = planned(tiny_path("bare")), plain = planned(make_model("plain2", false));
    /* experts: 4 * 64 * 64 + 4 * 32 * 64 numbers; the whole file has fp32 in its other tensors */
    double others = 2 * (2 * 96 * 64 + 32 * 64 * 2 + 2 * 16 * 64 + 4 * 64);
    ck_assert_msg(fabs(whole - bare - others) < 4096, "%.0f with weights, %.0f without", whole,
                  bare);
    ck_assert_msg(plain - whole > 24576, "%.0f plain, %.0f packed", plain, whole);
}
END_TEST

START_TEST(goldens)
{
    static const char *const name[] = { "gate_up_proj", "down_proj" };
    char dir[4096];
    vectors v;
    if (!test_goldens()) {
        printf("not run: goldens: no shared goldens\n");
        return;
    }
    start();
    snprintf(dir, sizeof dir, "%s/quant", test_goldens());
    vectors_open(&v, dir, "mxfp4.safetensors");
    for (int k = 0; k < 2; k++) {
        ft_packed p;
        char key[64];
        snprintf(key, sizeof key, "%s_", name[k]);
        ft_tensor x[FT_MAX_PARTS] = { vectors_get(&v, key, "blocks"),
                                      vectors_get(&v, key, "scales") };
        ft_tensor want = vectors_get(&v, key, "dequant");
        ck_assert_int_eq(quant->open(host.self, want.dim, 3, x, &p), 0);
        uint16_t *got = malloc((size_t)want.bytes);
        p.tile(&p, 0, p.rows, 0, p.cols, FT_BF16, got, p.cols);
        for (uint64_t i = 0; i < want.bytes / 2; i++) { /* -0 and 0 are one number here */
            uint16_t w;
            memcpy(&w, (const char *)want.data + 2 * i, 2);
            ck_assert_msg(got[i] == w || ((got[i] | w) & 0x7FFF) == 0, "%s[%d]", name[k], (int)i);
        }
        free(got);
    }
    vectors_close(&v);
    plugin_close(&host);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("quant-mxfp4");
    TCase *t = tcase_create("quant-mxfp4");
    tcase_set_timeout(t, 120);
    tcase_add_unchecked_fixture(t, tiny_begin, tiny_end);
    tcase_add_test(t, numbers);
    tcase_add_test(t, refused);
    tcase_add_test(t, model);
    tcase_add_test(t, planned_without_weights);
    tcase_add_test(t, goldens);
    suite_add_tcase(s, t);
    return s;
}
