/* test_determinism.c -- the same bytes: on 1 to 16 threads, with each instruction set, with
 * activations kept and recomputed, with a step's rows together and one at a time, with weights paged
 * and the optimizer's state in a mapped file, what was trained and the metrics are identical.
 *
 * And the loss: each token's is the same to the bit, packed or alone; a step's is the sum over its
 * trained tokens divided by their number, however unequally its micro-batches hold them. */
#include "harness.h"
#include "training.h"

/* ---- the same bytes -------------------------------------------------------------------------- */

typedef struct { const char *name, *stages, *dtype; int64_t length; } method;

#define LORA                                                                                       \
    "  - { use: lora, with: { r: 4, lora_alpha: 8, lora_dropout: 0.1, target_modules: all-linear " \
    "} }\n"
static const method methods[] = {
    { "lora fp32", LORA, "fp32", 240 },
    { "lora bf16", LORA, "bf16", 240 },
    { "lora fp32, rows over a block", LORA, "fp32", 300 },
    { "dora fp32",
      "  - { use: dora, with: { r: 3, lora_alpha: 6, lora_dropout: 0.1, target_modules: [q_proj, "
      "v_proj, down_proj] } }\n",
      "fp32", 240 },
    { "dora bf16",
      "  - { use: dora, with: { r: 3, lora_alpha: 6, target_modules: [q_proj, v_proj, down_proj] } "
      "}\n",
      "bf16", 300 },
    { "qlora bf16", "  - { use: quant-nf4, with: { double_quant: true } }\n" LORA, "bf16", 240 },
    { "qlora fp32", "  - { use: quant-nf4, with: { double_quant: true } }\n" LORA, "fp32", 300 },
    { "saved head fp32",
      "  - { use: lora, with: { r: 2, target_modules: [o_proj, embed_tokens], modules_to_save: "
      "[lm_head] } }\n",
      "fp32", 240 },
    { "full fp32", "", "fp32", 240 },
    { "full bf16", "", "bf16", 300 },
};
enum { N_METHODS = sizeof methods / sizeof *methods };

static const char *write_yaml(const method *m)
{
    const char *rows = tiny_rows(tiny_path("rows.safetensors"), 10, m->length, 3, 7);
    return tiny_file(tiny_path("run.yaml"),
                     "version: 1\nmodel: %s\noutput_dir: %s/out\nseed: 5\nstages:\n"
                     "  - { use: data-tokens, with: { path: %s } }\n%s"
                     "  - { use: train-sft, with: { per_device_train_batch_size: 4, "
                     "num_train_epochs: 2, learning_rate: 1e-3,\n"
                     "      gradient_checkpointing: false, compute_dtype: %s } }\n",
                     tiny_model("untied"), tiny_dir, rows, m->stages, m->dtype);
}

/* The planned peak, in bytes, with some threads. */
static int64_t planned_peak(const char *yaml, const char *threads)
{
    const char *argv[] = { "check", "--json", yaml, "--threads", threads, NULL };
    ft_buf said = { 0 };
    int64_t peak = 0;
    ck_assert_int_eq(tiny_run(&said, argv), 0);
    const char *at = strstr(said.p, "\"peak_rss_bytes\":");
    ck_assert_ptr_nonnull(at);
    peak = strtoll(at + 17, NULL, 10);
    ft_buf_free(&said);
    return peak;
}

static bool accepts(const char *yaml, int64_t limit)
{
    char text[64];
    snprintf(text, sizeof text, "memory_limit=%lld", (long long)limit);
    const char *argv[] = { "check", yaml, "--threads", "2", text, NULL };
    return tiny_run(NULL, argv) == 0;
}

/* About the least memory_limit that is accepted: a refusal names it in whole MiB. */
static void least_limit(char out[64], const char *yaml)
{
    const char *argv[] = { "check", yaml, "--threads", "2", "memory_limit=1MiB", NULL };
    ft_buf said = { 0 };
    ck_assert_int_eq(tiny_run(&said, argv), 1);
    const char *at = strstr(said.p, "(1) memory_limit: ");
    ck_assert_msg(at != NULL, "%s", said.p);
    int64_t limit = strtoll(at + 18, NULL, 10) << 20, step = 1 << 14;
    ft_buf_free(&said);
    while (accepts(yaml, limit - step)) limit -= step;
    snprintf(out, 64, "memory_limit=%lld", (long long)limit);
}

/* What a run trained: its adapter, or in full fine-tuning the stage's weights. */
static const char *trained_file(void)
{
    const char *adapter = tiny_path("out/adapter/adapter_model.safetensors");
    const char *dir = tiny_path("out/artifacts"), *found = NULL;
    if (ft_file_exists(adapter)) return adapter;
    DIR *d = opendir(dir);
    ck_assert_ptr_nonnull(d);
    for (struct dirent *x; (x = readdir(d));) {
        const char *file = tiny_path("out/artifacts/%.200s/model.safetensors", x->d_name);
        if (!strncmp(x->d_name, "train-sft-", 10) && ft_file_exists(file)) found = file;
    }
    closedir(d);
    ck_assert_ptr_nonnull(found);
    return found;
}

static void lock_names(const char *isa)
{
    char line[80];
    ft_buf b = { 0 };
    snprintf(line, sizeof line, "# instruction set: %s\n", isa);
    ck_assert_int_eq(ft_file_read(&b, tiny_path("out/run.lock.yaml"), 1 << 20, NULL), 0);
    ck_assert_msg(strstr(b.p, line) != NULL, "no %s in %s", line, b.p);
    ft_buf_free(&b);
}

/* Runs with overrides; hashes of what was trained and of the metrics into sha. */
static void run(char sha[2][65], const char *yaml, const char *threads, const char *more,
                const char *must_say)
{
    const char *argv[] = { "run", yaml, "--threads", threads, more, NULL };
    ft_buf said = { 0 };
    int status = tiny_run(&said, argv);
    ck_assert_msg(status == 0, "status %d: %s", status, said.p);
    ck_assert_msg(strstr(said.p, must_say) != NULL, "no \"%s\" in:\n%s", must_say, said.p);
    tiny_sha(sha[0], trained_file());
    tiny_sha(sha[1], tiny_path("out/metrics.jsonl"));
    if (getenv("PIPELINE_ISA")) lock_names(getenv("PIPELINE_ISA"));
    ck_assert_int_eq(ft_remove_tree(tiny_path("out"), NULL), 0);
    ft_buf_free(&said);
}

/* Whether the machine has the instruction set. */
static bool has_isa(const char *yaml, const char *isa)
{
    const char *argv[] = { "check", yaml, NULL };
    if (!isa) return true;
    setenv("PIPELINE_ISA", isa, 1);
    return tiny_run(NULL, argv) == 0;
}

START_TEST(same_bytes)
{
    const method *m = &methods[_i];
    char base[2][65], sha[2][65], limit[64], one_row[64], least[64];
    const char *yaml = write_yaml(m);
    snprintf(limit, sizeof limit, "memory_limit=%lld", (long long)planned_peak(yaml, "2") - 1);
    snprintf(one_row, sizeof one_row, " %lld tokens a micro-batch", (long long)m->length);
    least_limit(least, yaml);
    const struct { const char *threads, *isa, *more, *say; } variant[] = {
        { "1", NULL, NULL, "1 threads" },
        { "3", NULL, NULL, "3 threads" },
        { "4", NULL, NULL, "4 threads" },
        { "8", NULL, NULL, "8 threads" },
        { "16", NULL, NULL, "16 threads" },
        { "2", "avx512", NULL, "avx512 kernels" },
        { "2", "avx2", NULL, "avx2 kernels" },
        { "3", "plain", NULL, "plain kernels" },
        { "2", NULL, "train-sft.gradient_checkpointing=true", "layers recomputed" },
        { "2", NULL, limit, one_row },
        { "2", NULL, least, " is kept for about " },
        { "3", NULL, "train-sft.gradient_checkpointing=true", "layers recomputed" },
    };
    run(base, yaml, "2", NULL,
        " 512 tokens a micro-batch");
    for (size_t i = 0; i < sizeof variant / sizeof *variant; i++) {
        bool has = has_isa(yaml, variant[i].isa);
        if (has) run(sha, yaml, variant[i].threads, variant[i].more, variant[i].say);
        else printf("not run: %s kernels, which this machine lacks\n", variant[i].isa);
        unsetenv("PIPELINE_ISA");
        for (int k = 0; k < 2 && has; k++)
            ck_assert_msg(!strcmp(base[k], sha[k]), "%s: %s differs with %s threads %s %s", m->name,
                          k ? "metrics" : "what was trained", variant[i].threads,
                          variant[i].isa ? variant[i].isa : "",
                          variant[i].more ? variant[i].more : "");
    }
    /* Another seed gives other bytes: the comparison can fail. */
    run(sha, yaml, "2", "seed=6", "threads");
    ck_assert_str_ne(base[0], sha[0]);
}
END_TEST

/* ---- packed or alone ------------------------------------------------------------------------- */

enum { DOCS = 14, LONGEST = 100 };

/* Documents of many lengths: all in one row, or each at the start of a row of its own, padded. */
static const char *documents(const char *path, bool packed)
{
    static const char *const name[] = { "input_ids", "labels", "seq_ids" };
    static int32_t x[3][DOCS * LONGEST];
    int64_t n = 0;
    ft_err e = { 0 };
    for (int64_t d = 0; d < DOCS; d++) {
        int64_t length = 2 + (int64_t)(tiny_number(3, (uint64_t)d) % (LONGEST - 2));
        for (int64_t i = 0; i < (packed ? length : LONGEST); i++, n++) {
            uint64_t z = tiny_number(100 + (uint64_t)d, (uint64_t)i);
            x[0][n] = (int32_t)(z % 96);
            x[1][n] = i < length && (z >> 32) % 3 ? x[0][n] : -100;
            x[2][n] = packed ? (int32_t)d : i >= length;
        }
    }
    int64_t dim[2] = { packed ? 1 : DOCS, packed ? n : LONGEST };
    ft_st_writer *w = ft_st_new(&e);
    for (int k = 0; k < 3; k++) ft_st_declare(w, name[k], FT_I32, dim, 2, &e);
    tiny_must(ft_st_begin(w, path, 0, &e), &e);
    for (int k = 0; k < 3; k++) tiny_must(ft_st_write(w, k, x[k], (size_t)n * 4, &e), &e);
    tiny_must(ft_st_commit(w, &e), &e);
    ft_st_free(w);
    return path;
}

static const char *train_yaml(const char *rows, const char *dtype)
{
    return tiny_file(tiny_path("train.yaml"),
                     "version: 1\nmodel: %s\noutput_dir: %s/out\nstages:\n"
                     "  - { use: data-tokens, with: { path: %s } }\n"
                     "  - { use: lora, with: { r: 4, target_modules: all-linear } }\n"
                     "  - { use: train-sft, with: { per_device_train_batch_size: 14, max_steps: 1, "
                     "shuffle: false, compute_dtype: %s } }\n",
                     tiny_model("biased"), tiny_dir, rows, dtype);
}

START_TEST(packed_or_alone)
{
    static double together[DOCS * LONGEST], alone[DOCS * LONGEST];
    const char *dtype = _i ? "bf16" : "fp32";
    training x;
    training_open(&x, train_yaml(documents(tiny_path("packed.safetensors"), true), dtype));
    ck_assert_int_eq(x.rows.n_rows, 1);
    training_step(&x, 0, 1, 1, together);
    int64_t n = ft_rows_trained(&x.rows, &x.lineup.tokens, 0);
    training_close(&x);
    training_open(&x, train_yaml(documents(tiny_path("alone.safetensors"), false), dtype));
    ck_assert_int_eq(x.rows.n_rows, DOCS);
    for (int64_t at_once = 1; at_once <= 7; at_once += 3) {
        training_step(&x, 0, DOCS, at_once, alone);
        for (int64_t i = 0; i < n; i++)
            ck_assert_msg(together[i] == alone[i],
                          "%s: token %d, %d rows at once: %.9g packed, %.9g alone", dtype, (int)i,
                          (int)at_once, together[i], alone[i]);
    }
    training_close(&x);
    ck_assert_int_gt(n, 200);
}
END_TEST

/* ---- unequal micro-batches ------------------------------------------------------------------- */

static double metric(const char *file, const char *key)
{
    ft_buf b = { 0 };
    ft_err e = { 0 };
    double v = 0;
    tiny_must(ft_file_read(&b, file, 1 << 20, &e), &e);
    size_t n = (size_t)((char *)memchr(b.p, '\n', b.n) - b.p);
    ft_json_doc *d = ft_json_parse(file, b.p, n, &e);
    ck_assert(d && ft_json_as_real(ft_json_get(ft_json_root(d), key), &v));
    ft_json_done(d);
    ft_buf_free(&b);
    return v;
}

/* Row by row: the sum of losses, their number, and the mean of the rows' means, which is wrong. */
static void formula(const char *yaml, double *right, double *wrong)
{
    training x;
    double sum = 0, means = 0;
    int64_t count = 0;
    training_open(&x, yaml);
    for (int64_t i = 0; i < x.rows.n_rows; i++) {
        int64_t n = ft_rows_trained(&x.rows, &x.lineup.tokens, i);
        double mean = training_step(&x, i, i + 1, 1, NULL);
        sum += mean * (double)n;
        means += mean / (double)x.rows.n_rows;
        count += n;
    }
    training_close(&x);
    *right = sum / (double)count;
    *wrong = means;
}

START_TEST(unequal)
{
    char sha[3][2][65];
    double right, wrong;
    const char *rows = tiny_rows(tiny_path("unequal.safetensors"), 6, 40, 1, 11);
    const char *yaml = tiny_file(tiny_path("unequal.yaml"),
                                 "version: 1\nmodel: %s\noutput_dir: %s/out\nstages:\n"
                                 "  - { use: data-tokens, with: { path: %s } }\n"
                                 "  - { use: lora, with: { r: 4, target_modules: all-linear } }\n"
                                 "  - { use: train-sft, with: { per_device_train_batch_size: 6, "
                                 "max_steps: 3, shuffle: false, compute_dtype: fp32 } }\n",
                                 tiny_model("tied"), tiny_dir, rows);
    formula(yaml, &right, &wrong);
    ck_assert_double_gt(fabs(right - wrong), 1e-3);
    static const char *const split[][2] = { { "6", "1" }, { "1", "6" }, { "2", "3" } };
    for (int i = 0; i < 3; i++) {
        char a[96], b[96];
        snprintf(a, sizeof a, "train-sft.per_device_train_batch_size=%s", split[i][0]);
        snprintf(b, sizeof b, "train-sft.gradient_accumulation_steps=%s", split[i][1]);
        const char *argv[] = { "run", yaml, a, b, NULL };
        ft_buf said = { 0 };
        int status = tiny_run(&said, argv);
        ck_assert_msg(status == 0, "status %d: %s", status, said.p);
        double loss = metric(tiny_path("out/metrics.jsonl"), "loss");
        ck_assert_msg(fabs(loss - right) <= 1e-9 * right, "%s: loss %.12g, the formula %.12g", a,
                      loss, right);
        tiny_sha(sha[i][0], tiny_path("out/adapter/adapter_model.safetensors"));
        tiny_sha(sha[i][1], tiny_path("out/metrics.jsonl"));
        ck_assert_int_eq(ft_remove_tree(tiny_path("out"), NULL), 0);
        ft_buf_free(&said);
        for (int k = 0; k < 2; k++) ck_assert_str_eq(sha[0][k], sha[i][k]);
    }
    /* The scoring program says the same. */
    const char *argv[] = { "score", "--model", tiny_model("tied"), "--tokens", rows, NULL };
    ft_buf said = { 0 };
    ck_assert_int_eq(tiny_run(&said, argv), 0);
    double scored = strtod(strchr(said.p, ':') + 1, NULL);
    ck_assert_msg(fabs(scored - right) <= 1e-6 * right, "score says %.9g, the formula %.9g", scored,
                  right);
    ft_buf_free(&said);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("determinism");
    TCase *t = tcase_create("determinism");
    tcase_set_timeout(t, 600);
    tcase_add_unchecked_fixture(t, tiny_begin, tiny_end);
    tcase_add_loop_test(t, same_bytes, 0, N_METHODS);
    tcase_add_loop_test(t, packed_or_alone, 0, 2);
    tcase_add_test(t, unequal);
    suite_add_tcase(s, t);
    return s;
}
