/* merge_test.c -- merge and export-hf, by running pipelines on a small random model: merged weights
 * against W + s B A computed here, shared embeddings, dtypes and shards, full fine-tuning, and
 * errors that leave nothing; with the goldens present, against PEFT's merged weights. */
#include <dirent.h>
#include <math.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "ft/half.h"
#include "core/base/json.h"
#include "core/io/safetensors_write.h"
#include "core/io/tensors.h"
#include "tests/harness.h"

enum { VOCAB = 40, WIDTH = 16, INNER = 24, LAYERS = 2 };

static char root[64]; /* a fresh folder for each test */
static const char *path_of(const char *name)
{
    static char text[8][512];
    static int k;
    char *out = text[k++ % 8];
    snprintf(out, 512, "%s/%s", root, name);
    return out;
}

static void put_text(const char *name, const char *text)
{
    ck_assert_int_eq(ft_file_write(path_of(name), text, strlen(text), NULL), 0);
}

/* ---- a model and rows ------------------------------------------------------------------------ */

static uint32_t state;
static float random_value(void)
{
    state = state * 1664525u + 1013904223u;
    return ((float)(state >> 8) / 16777216.0f - 0.5f) * 0.4f;
}

static void add_tensor(ft_st_writer *w, const char *name, int64_t rows, int64_t cols)
{
    int64_t dim[2] = { rows ? rows : cols, cols };
    ck_assert_int_ge(ft_st_declare(w, name, FT_F32, dim, rows ? 2 : 1, NULL), 0);
}

static void declare_model(ft_st_writer *w)
{
    static const struct { const char *name; int64_t rows, cols;
    } inside[] = {
        { "input_layernorm", 0, WIDTH },   { "post_attention_layernorm", 0, WIDTH },
        { "self_attn.q_proj", 16, WIDTH }, { "self_attn.k_proj", 8, WIDTH },
        { "self_attn.v_proj", 8, WIDTH },  { "self_attn.o_proj", WIDTH, 16 },
        { "mlp.gate_proj", INNER, WIDTH }, { "mlp.up_proj", INNER, WIDTH },
        { "mlp.down_proj", WIDTH, INNER },
    };
    add_tensor(w, "model.embed_tokens.weight", VOCAB, WIDTH);
    add_tensor(w, "model.norm.weight", 0, WIDTH);
    for (int l = 0; l < LAYERS; l++) {
        for (size_t i = 0; i < sizeof inside / sizeof *inside; i++) {
            char name[96];
            snprintf(name, sizeof name, "model.layers.%d.%s.weight", l, inside[i].name);
            add_tensor(w, name, inside[i].rows, inside[i].cols);
        }
    }
}

/* scale: what the last tensor is multiplied with. */
static void make_model(float scale)
{
    ck_assert_int_eq(ft_make_dirs(path_of("base"), NULL), 0);
    put_text("base/config.json",
             "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", "
             "\"vocab_size\": 40, "
             "\"hidden_size\": 16, \"intermediate_size\": 24, \"num_hidden_layers\": 2, "
             "\"num_attention_heads\": 2, "
             "\"num_key_value_heads\": 1, \"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-5, "
             "\"rope_theta\": 10000.0, "
             "\"hidden_act\": \"silu\", \"tie_word_embeddings\": true, \"dtype\": \"float32\"}");
    put_text("base/tokenizer_config.json", "{\"tokenizer_class\": \"PreTrainedTokenizerFast\"}");
    ft_st_writer *w = ft_st_new(NULL);
    declare_model(w);
    ck_assert_int_eq(ft_st_begin(w, path_of("base/model.safetensors"), 0, NULL), 0);
    static const int64_t size[] = { WIDTH, WIDTH, 256, 128, 128, 256, 384, 384, 384 };
    for (int64_t i = 0; i < 2 + 9 * LAYERS; i++) {
        int64_t n = i == 0 ? VOCAB * WIDTH : i == 1 ? WIDTH : size[(i - 2) % 9];
        float v[VOCAB * WIDTH];
        for (int64_t k = 0; k < n; k++) v[k] = random_value() + (n == WIDTH ? 1 : 0);
        if (i == 1 + 9 * LAYERS) v[0] *= scale;
        ck_assert_int_eq(ft_st_write(w, i, v, (size_t)n * 4, NULL), 0);
    }
    ck_assert_int_eq(ft_st_commit(w, NULL), 0);
    ft_st_free(w);
}

static void make_rows(void)
{
    int64_t dim[2] = { 4, 12 }, v[48];
    ft_st_writer *w = ft_st_new(NULL);
    ft_st_declare(w, "input_ids", FT_I64, dim, 2, NULL);
    ft_st_declare(w, "labels", FT_I64, dim, 2, NULL);
    for (int i = 0; i < 48; i++) v[i] = (i * 7 + i * i) % VOCAB;
    ck_assert_int_eq(ft_st_begin(w, path_of("rows.safetensors"), 0, NULL), 0);
    for (int k = 0; k < 2; k++) ck_assert_int_eq(ft_st_write(w, k, v, sizeof v, NULL), 0);
    ck_assert_int_eq(ft_st_commit(w, NULL), 0);
    ft_st_free(w);
}

static void setup(void)
{
    snprintf(root, sizeof root, "/tmp/merge-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(root));
    state = 7;
    make_model(1);
    make_rows();
}

static void teardown(void) { ft_remove_tree(root, NULL); }

/* ---- running --------------------------------------------------------------------------------- */

/* Runs a pipeline with these stages; its output is in ROOT/log.  Returns the exit status. */
static int run_on(const char *model, const char *stages)
{
    ft_buf b = { 0 };
    char command[1024];
    ft_buf_printf(&b, "version: 1\nmodel: %s\noutput_dir: %s\nstages:\n%s", model, path_of("out"),
                  stages);
    ck_assert_int_eq(ft_file_write(path_of("run.yaml"), b.p, b.n, NULL), 0);
    ft_buf_free(&b);
    snprintf(command, sizeof command, "PIPELINE_CACHE= %s/pipeline run %s > %s 2>&1", test_build(),
             path_of("run.yaml"), path_of("log"));
    int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int run_stages(const char *stages) { return run_on(path_of("base"), stages); }

static void check_log(const char *want)
{
    ft_buf b = { 0 };
    ck_assert_int_eq(ft_file_read(&b, path_of("log"), 1 << 20, NULL), 0);
    ck_assert_msg(strstr(b.p ? b.p : "", want), "no \"%s\" in:\n%s", want, b.p);
    ft_buf_free(&b);
}

static const char train[] = "  - use: train-sft\n    with: { max_steps: 2, "
                            "per_device_train_batch_size: 2, gradient_accumulation_steps: 1,"
                            " learning_rate: 1e-2, compute_dtype: fp32 }\n";

/* rows, `adapter`, training, `after`. */
static int train_and(const char *adapter, const char *after)
{
    char text[2048];
    snprintf(text, sizeof text, "  - use: data-tokens\n    with: { path: %s }\n%s%s%s",
             path_of("rows.safetensors"), adapter, train, after);
    return run_stages(text);
}

static ft_tensors *open_tensors(const char *name)
{
    ft_err e = { 0 };
    ft_tensors *t = ft_tensors_open(path_of(name), &e);
    ck_assert_msg(t != NULL, "%s", e.msg);
    return t;
}

static float at(const ft_tensor *t, int64_t i)
{
    float f;
    uint16_t h;
    if (t->dtype == FT_F32) return memcpy(&f, (const char *)t->data + 4 * i, 4), f;
    memcpy(&h, (const char *)t->data + 2 * i, 2);
    return t->dtype == FT_BF16 ? ft_bf16_to_float(h) : ft_half_to_float(h);
}

/* ROOT/out/model against W + s B A (for an embedding: W + s (B A)^T), within eps of the weight's
 * size. */
static void check_merged(double s, ft_dtype dtype, double eps)
{
    ft_tensors *m = open_tensors("out/model"), *w = open_tensors("base/model.safetensors");
    ft_tensors *a = open_tensors("out/adapter/adapter_model.safetensors");
    int adapted = 0;
    for (size_t k = 0; k < ft_tensors_count(w); k++) {
        const ft_tensor *base = ft_tensors_at(w, k), *have = ft_tensors_find(m, base->name);
        char name[200];
        int64_t cols = base->dim[base->ndim - 1], n = (int64_t)base->bytes / 4;
        int stem = (int)strlen(base->name) - 7;
        bool embed = strstr(base->name, "embed") != NULL;
        snprintf(name, sizeof name, "base_model.model.%.*s.%s", stem, base->name,
                 embed ? "lora_embedding_A" : "lora_A.weight");
        const ft_tensor *A = ft_tensors_find(a, name);
        snprintf(name, sizeof name, "base_model.model.%.*s.%s", stem, base->name,
                 embed ? "lora_embedding_B" : "lora_B.weight");
        const ft_tensor *B = ft_tensors_find(a, name);
        ck_assert_msg(have && have->dtype == dtype && have->ndim == base->ndim, "%s", base->name);
        adapted += A != NULL;
        for (int64_t i = 0; i < n; i++) {
            double want = (double)at(base, i);
            int64_t r = A ? A->dim[0] : 0, o = embed ? i % cols : i / cols,
                    in = embed ? i / cols : i % cols;
            for (int64_t j = 0; j < r; j++)
                want += s * (double)at(B, o * r + j) * (double)at(A, j * A->dim[1] + in);
            ck_assert_msg(fabs((double)at(have, i) - want) <= eps * (fabs(want) + 0.1),
                          "%s[%lld]: %g, not %g", base->name, (long long)i, (double)at(have, i),
                          want);
        }
    }
    ck_assert_int_gt(adapted, 0);
    ft_tensors_close(m);
    ft_tensors_close(w);
    ft_tensors_close(a);
}

static const char *config_of(char out[8192])
{
    ft_buf b = { 0 };
    ck_assert_int_eq(ft_file_read(&b, path_of("out/model/config.json"), 8000, NULL), 0);
    snprintf(out, 8192, "%s", b.p);
    ft_buf_free(&b);
    return out;
}

/* ---- tests ----------------------------------------------------------------------------------- */

START_TEST(merge_is_the_base_and_the_update)
{
    char text[8192];
    ck_assert_int_eq(train_and("  - use: lora\n    with: { r: 4, lora_alpha: 12, lora_dropout: 0.3 "
                               "}\n",
                               "  - use: merge\n  - use: export-hf\n    with: { dtype: fp32 }\n"),
                     0);
    check_merged(3, FT_F32, 2e-6);
    ck_assert(strstr(config_of(text), "\"dtype\": \"float32\"") &&
              strstr(text, "\"tie_word_embeddings\": true"));
    ck_assert(ft_file_exists(path_of("out/model/tokenizer_config.json")));
    ck_assert(!ft_file_exists(path_of("out/model/lm_head.weight")));
}
END_TEST

START_TEST(export_merges_by_itself_rounds_and_shards)
{
    char text[8192];
    ck_assert_int_eq(train_and("  - use: lora\n    with: { use_rslora: true, r: 4, lora_alpha: 4, "
                               "target_modules: [q_proj, down_proj] }\n",
                               "  - use: export-hf\n    with: { dtype: bf16, lossy: true, max_shard_size: 2KB "
                               "}\n"),
                     0);
    check_log("rounded to BF16");
    check_merged(2, FT_BF16, 0x1p-8);
    ck_assert(strstr(config_of(text), "\"dtype\": \"bfloat16\""));
    ck_assert(ft_file_exists(path_of("out/model/model.safetensors.index.json")));
    /* another export takes the place of the first one whole */
    ck_assert_int_eq(train_and("  - use: lora\n    with: { use_rslora: true, r: 4, lora_alpha: 4, "
                               "target_modules: [q_proj, down_proj] }\n",
                               "  - use: export-hf\n    with: { dtype: fp16, lossy: true }\n"),
                     0);
    check_merged(2, FT_F16, 0x1p-10);
    ck_assert(!ft_file_exists(path_of("out/model/model.safetensors.index.json")));
}
END_TEST

START_TEST(an_adapted_embedding_unties_the_head)
{
    char text[8192];
    ck_assert_int_eq(train_and("  - use: lora\n    with: { r: 2, lora_alpha: 2, target_modules: "
                               "[embed_tokens, v_proj] }\n",
                               "  - use: merge\n  - use: export-hf\n"),
                     0);
    check_merged(1, FT_F32, 2e-6);
    ck_assert(strstr(config_of(text), "\"tie_word_embeddings\": false"));
    ft_tensors *m = open_tensors("out/model"), *w = open_tensors("base/model.safetensors");
    const ft_tensor *head = ft_tensors_find(m, "lm_head.weight"),
                    *embed = ft_tensors_find(w, "model.embed_tokens.weight");
    ck_assert(head && head->bytes == embed->bytes &&
              !memcmp(head->data, embed->data, embed->bytes));
    ft_tensors_close(m);
    ft_tensors_close(w);
}
END_TEST

START_TEST(full_fine_tuning_replaces_the_weights)
{
    ck_assert_int_eq(train_and("", "  - use: merge\n  - use: export-hf\n"), 0);
    check_log("20 trained whole");
    ft_tensors *m = open_tensors("out/model"), *w = open_tensors("base/model.safetensors");
    for (size_t k = 0; k < ft_tensors_count(w); k++) {
        const ft_tensor *a = ft_tensors_at(w, k), *b = ft_tensors_find(m, a->name);
        ck_assert(b && b->bytes == a->bytes && memcmp(a->data, b->data, a->bytes));
    }
    ft_tensors_close(m);
    ft_tensors_close(w);
}
END_TEST

START_TEST(the_plain_model_comes_out_to_the_bit)
{
    ck_assert_int_eq(run_stages("  - use: export-hf\n"), 0);
    ft_tensors *m = open_tensors("out/model"), *w = open_tensors("base/model.safetensors");
    ck_assert_uint_eq(ft_tensors_count(m), ft_tensors_count(w));
    for (size_t k = 0; k < ft_tensors_count(w); k++) {
        const ft_tensor *a = ft_tensors_at(w, k), *b = ft_tensors_find(m, a->name);
        ck_assert(b && b->bytes == a->bytes && !memcmp(a->data, b->data, a->bytes));
    }
    ft_tensors_close(m);
    ft_tensors_close(w);
}
END_TEST

START_TEST(errors_name_the_thing_and_leave_nothing)
{
    ck_assert_int_eq(run_stages("  - use: merge\n"), 2);
    check_log("merge has nothing to work on");
    ck_assert_int_ne(run_stages("  - use: export-hf\n    with: { max_shard_size: 5XB }\n"), 0);
    check_log("max_shard_size \"5XB\" is no size");
    make_model(1e7f);
    ck_assert_int_ne(run_stages("  - use: export-hf\n    with: { dtype: fp16, lossy: true }\n"), 0);
    check_log("above the limit of fp16");
    make_model(INFINITY);
    ck_assert_int_ne(run_stages("  - use: export-hf\n"), 0);
    check_log("not finite");
    ck_assert(!ft_file_exists(path_of("out/model")));
    DIR *d = opendir(path_of("out/artifacts"));
    for (struct dirent *x; d && (x = readdir(d));)
        ck_assert_msg(!strstr(x->d_name, "export-hf-"), "%s is left", x->d_name);
    if (d) closedir(d);
}
END_TEST

/* The merged artifact of the golden's final adapter against PEFT's merged weights. */
static void check_golden(const char *goldens, const char *name, const char *base, const char *use)
{
    char text[1024], model[512], file[600];
    snprintf(text, sizeof text,
             "  - use: %s\n    with: { init_adapter: %s/adapters/%s/adapter_final }\n  - use: "
             "merge\n"
             "  - use: export-hf\n    with: { dtype: fp32 }\n",
             use, goldens, name);
    snprintf(model, sizeof model, "%s/models/%s", goldens, base);
    snprintf(file, sizeof file, "%s/adapters/%s/merged.safetensors", goldens, name);
    ck_assert_int_eq(run_on(model, text), 0);
    ft_tensors *want = ft_tensors_open(file, NULL), *have = open_tensors("out/model");
    double worst = 0;
    ck_assert_ptr_nonnull(want);
    for (size_t k = 0; k < ft_tensors_count(want); k++) {
        const ft_tensor *a = ft_tensors_at(want, k), *b = ft_tensors_find(have, a->name);
        ck_assert(b && b->bytes == a->bytes);
        for (int64_t i = 0; i < (int64_t)a->bytes / 4; i++)
            worst = fmax(worst, fabs((double)at(a, i) - (double)at(b, i)));
    }
    printf("%s: merged weights within %.2g\n", name, worst);
    ck_assert_double_le(worst, 1e-5);
    ft_tensors_close(want);
    ft_tensors_close(have);
}

START_TEST(goldens)
{
    static const struct { const char *name, *base, *use;
    } cases[] = {
        { "lora", "llama", "lora" },         { "lora_rslora", "llama", "lora" },
        { "lora_pattern", "llama", "lora" }, { "lora_save_head", "llama3rope", "lora" },
        { "lora_dora", "llama", "dora" },
    };
    const char *g = test_goldens();
    if (!g) {
        printf("not run: merged weights against PEFT's (no goldens)\n");
        return;
    }
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_golden(g, cases[i].name, cases[i].base, cases[i].use);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("merge");
    TCase *c = tcase_create("merge");
    tcase_set_timeout(c, 120);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, merge_is_the_base_and_the_update);
    tcase_add_test(c, export_merges_by_itself_rounds_and_shards);
    tcase_add_test(c, an_adapted_embedding_unties_the_head);
    tcase_add_test(c, full_fine_tuning_replaces_the_weights);
    tcase_add_test(c, the_plain_model_comes_out_to_the_bit);
    tcase_add_test(c, errors_name_the_thing_and_leave_nothing);
    tcase_add_test(c, goldens);
    suite_add_tcase(s, c);
    return s;
}
