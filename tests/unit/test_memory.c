/* test_memory.c -- the plan is the run: in twelve configurations the region that a training takes
 * is the planned one to the byte, the process's peak is within 3 % of the planned, and a memory
 * limit is kept or refused.  (That a limit changes no byte of the result: test_determinism.)
 *
 * The model is larger than those of other tests, so that 3 % is more than what the C library and
 * the loader take now and then. */
#include <math.h>
#include "harness.h"
#include "tiny.h"

enum { WIDE = 512, INNER = 1536, LAYERS = 4, VOCAB = 8192, LENGTH = 384 };

/* ---- a model of 16 million numbers, from their names ----------------------------------------- */

static int add(tiny_tensor *t, int n, int layer, const char *name, int64_t rows, int64_t cols)
{
    char prefix[32] = "";
    if (layer >= 0) snprintf(prefix, sizeof prefix, "layers.%d.", layer);
    snprintf(t[n].name, sizeof t[n].name, "model.%s%s", prefix, name);
    t[n].dim[0] = rows, t[n].dim[1] = cols, t[n].ndim = cols ? 2 : 1;
    return n + 1;
}

static const char *model(void)
{
    static const struct { const char *name; int64_t rows, cols; } part[] = {
        { "input_layernorm.weight", WIDE, 0 },
        { "post_attention_layernorm.weight", WIDE, 0 },
        { "self_attn.q_proj.weight", WIDE, WIDE },
        { "self_attn.k_proj.weight", WIDE / 2, WIDE },
        { "self_attn.v_proj.weight", WIDE / 2, WIDE },
        { "self_attn.o_proj.weight", WIDE, WIDE },
        { "mlp.gate_proj.weight", INNER, WIDE },       { "mlp.up_proj.weight", INNER, WIDE },
        { "mlp.down_proj.weight", WIDE, INNER },
    };
    tiny_tensor t[64];
    const char *dir = tiny_path("model");
    ft_err e = { 0 };
    int n = add(t, 0, -1, "embed_tokens.weight", VOCAB, WIDE);
    n = add(t, n, -1, "norm.weight", WIDE, 0);
    for (int i = 0; i < LAYERS; i++) {
        for (size_t k = 0; k < sizeof part / sizeof *part; k++)
            n = add(t, n, i, part[k].name, part[k].rows, part[k].cols);
    }
    tiny_must(ft_make_dirs(dir, &e), &e);
    tiny_write(dir, t, n);
    tiny_file(tiny_path("model/config.json"),
              "{\"model_type\": \"llama\", \"architectures\": [\"LlamaForCausalLM\"], "
              "\"hidden_size\": %d, \"intermediate_size\": %d, \"num_hidden_layers\": %d, "
              "\"num_attention_heads\": 8, \"num_key_value_heads\": 4, \"head_dim\": %d, "
              "\"vocab_size\": %d, \"rms_norm_eps\": 1e-5, \"rope_theta\": 10000.0, "
              "\"max_position_embeddings\": 1024, \"tie_word_embeddings\": true, "
              "\"hidden_act\": \"silu\"}\n", WIDE, INNER, LAYERS, WIDE / 8, VOCAB);
    return dir;
}

/* ---- configurations -------------------------------------------------------------------------- */

#define LORA(more) "  - { use: lora, with: { r: 16, target_modules: all-linear" more " } }\n"
#define DORA "  - { use: dora, with: { r: 16, target_modules: all-linear } }\n"
#define NF4 "  - { use: quant-nf4, with: { double_quant: true } }\n"

/* limit: per cent of the peak without one, or 0 */
static const struct { const char *name, *stages, *train; int docs, limit; } config[] = {
    { "lora bf16", LORA(""), "compute_dtype: bf16", 1, 0 },
    { "lora fp32", LORA(""), "compute_dtype: fp32", 1, 0 },
    { "lora, dropout, packed rows", LORA(", lora_dropout: 0.1"), "compute_dtype: bf16", 5, 0 },
    { "lora, recomputed", LORA(""), "gradient_checkpointing: true", 1, 0 },
    { "lora, less memory", LORA(""), "compute_dtype: bf16", 3, 80 },
    { "lora, little memory", LORA(""), "compute_dtype: bf16", 1, 49 },
    { "qlora bf16", NF4 LORA(""), "compute_dtype: bf16", 1, 0 },
    { "qlora, less memory", NF4 LORA(""), "compute_dtype: fp32", 1, 80 },
    { "dora bf16", DORA, "compute_dtype: bf16", 1, 0 },
    { "dora, less memory", DORA, "compute_dtype: fp32", 1, 70 },
    { "full bf16", "", "compute_dtype: bf16", 1, 0 },
    { "full fp32, less memory", "", "compute_dtype: fp32", 2, 70 },
};
enum { N = sizeof config / sizeof *config, LEAST = 8 }; /* with and without an adapter */

static double number_after(const char *text, const char *word)
{
    const char *at = strstr(text, word);
    ck_assert_msg(at != NULL, "no \"%s\" in:\n%s", word, text);
    return strtod(at + strlen(word), NULL);
}

/* What `pipeline check` says of the region and the peak under a limit; its exit status. */
static int plan(const char *yaml, const char *limit, double *arena, double *peak, ft_buf *said)
{
    const char *argv[] = { "check", "--json", yaml, "--threads", "2", limit, NULL };
    int status = tiny_run(said, argv);
    if (status) return status;
    *arena = number_after(said->p, "\"arena_bytes\":");
    *peak = number_after(said->p, "\"peak_rss_bytes\":");
    return 0;
}

/* What the run's own summary has for its region. */
static double arena_of_run(void)
{
    double arena = 0;
    DIR *d = opendir(tiny_path("out/artifacts"));
    ck_assert_ptr_nonnull(d);
    for (struct dirent *x; (x = readdir(d));) {
        ft_buf b = { 0 };
        const char *file = tiny_path("out/artifacts/%.200s/trained.json", x->d_name);
        if (ft_file_exists(file) && !ft_file_read(&b, file, 1 << 16, NULL))
            arena = number_after(b.p, "\"arena_bytes\": ");
        ft_buf_free(&b);
    }
    closedir(d);
    return arena;
}

static const char *pipeline_of(int i)
{
    const char *rows = tiny_rows(tiny_path("rows-%d.safetensors", config[i].docs), 4, LENGTH,
                                 config[i].docs, 7);
    return tiny_file(tiny_path("run.yaml"),
                     "version: 1\nmodel: %s\noutput_dir: %s/out\nstages:\n"
                     "  - { use: data-tokens, with: { path: %s } }\n%s"
                     "  - { use: train-sft, with: { per_device_train_batch_size: 2, "
                     "max_steps: 2, %s } }\n",
                     tiny_path("model"), tiny_dir, rows, config[i].stages, config[i].train);
}

/* Runs it anew; the peak of the training stage's process.  A sanitizer multiplies that: then 0. */
static double peak_of_run(const char *name, const char *yaml, const char *limit)
{
    const char *argv[] = { "run", yaml, "--threads", "2", limit, NULL };
    ft_buf said = { 0 };
    ft_remove_tree(tiny_path("out"), NULL);
    int status = tiny_run(&said, argv);
    ck_assert_msg(status == 0, "%s: status %d: %s", name, status, said.p);
    double taken = number_after(said.p, "train-sft: done, peak memory ") * (1 << 20);
    ft_buf_free(&said);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    taken = 0;
    printf("not run: peak of the process, which a sanitizer multiplies\n");
#endif
    return taken;
}

static void runs_as_planned(const char *name, const char *yaml, const char *limit, double bytes)
{
    double arena, peak, taken;
    ft_buf said = { 0 };
    int status = plan(yaml, limit, &arena, &peak, &said);
    ck_assert_msg(status == 0, "%s: status %d: %s", name, status, said.p);
    ft_buf_free(&said);
    ck_assert_msg(peak <= bytes, "%s: %.0f planned, %.0f allowed", name, peak, bytes);
    taken = peak_of_run(name, yaml, limit);
    ck_assert_msg(arena_of_run() == arena, "%s: region of %.0f bytes, %.0f planned", name,
                  arena_of_run(), arena);
    printf("%-28s region %6.1f MiB, peak %6.1f MiB, planned %6.1f (%+.2f %%)\n", name,
           arena / (1 << 20), taken / (1 << 20), peak / (1 << 20), 100 * (taken / peak - 1));
    ck_assert_msg(taken == 0 || fabs(taken / peak - 1) <= 0.03,
                  "%s: peak of %.1f MiB, %.1f planned", name, taken / (1 << 20), peak / (1 << 20));
    ck_assert_msg(taken <= bytes, "%s: peak of %.0f bytes, %.0f allowed", name, taken, bytes);
}

START_TEST(as_planned)
{
    char limit[64] = "seed=3"; /* where there is none */
    double arena, peak, bytes = INFINITY;
    ft_buf said = { 0 };
    const char *yaml = pipeline_of(_i);
    if (config[_i].limit) {
        ck_assert_int_eq(plan(yaml, limit, &arena, &peak, &said), 0);
        bytes = floor(peak * config[_i].limit / 100);
        snprintf(limit, sizeof limit, "memory_limit=%.0f", bytes);
    }
    runs_as_planned(config[_i].name, yaml, limit, bytes);
    ft_buf_free(&said);
}
END_TEST

/* What cannot be met is refused with three ways out; the least that it names can be met. */
START_TEST(the_least_is_enough)
{
    double arena, peak;
    char limit[64];
    ft_buf said = { 0 };
    const char *yaml = pipeline_of(_i);
    int status = plan(yaml, "memory_limit=20MiB", &arena, &peak, &said);
    ck_assert_msg(status == 1, "%s: status %d: %s", config[_i].name, status, said.p);
    double least = number_after(said.p, "(1) memory_limit: ");
    ck_assert_msg(strstr(said.p, "(2) max_length: ") && strstr(said.p, "(3) "), "%s", said.p);
    snprintf(limit, sizeof limit, "memory_limit=%.0fMiB", least - 1);
    ck_assert_msg(plan(yaml, limit, &arena, &peak, &said) == 1, "%s: %s, accepted with %.0f as the "
                  "least", config[_i].name, limit, least);
    snprintf(limit, sizeof limit, "memory_limit=%.0fMiB", least);
    runs_as_planned(config[_i].name, yaml, limit, least * (1 << 20));
    ft_buf_free(&said);
}
END_TEST

static void begin(void)
{
    tiny_begin();
    model();
}

static Suite *suite(void)
{
    Suite *s = suite_create("memory");
    TCase *t = tcase_create("memory");
    tcase_set_timeout(t, 300);
    tcase_add_unchecked_fixture(t, begin, tiny_end);
    tcase_add_loop_test(t, as_planned, 0, N);
    tcase_add_loop_test(t, the_least_is_enough, LEAST, N);
    suite_add_tcase(s, t);
    return s;
}
