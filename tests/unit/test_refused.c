/* test_refused.c -- runs that cannot be: a second one in the same folder, a checkpoint with numbers
 * that are not finite, a disk that is full at any moment.  Each ends with a named error, and what
 * was finished before it stays whole.
 *
 * A full disk is played by a limit on the size of files: a write beyond it fails with EFBIG. */
#include "harness.h"
#include "core/io/tensors.h"
#include "tiny.h"

static const char *pipeline_yaml(const char *model, const char *out, const char *stages)
{
    return tiny_file(tiny_path("%s.yaml", out),
                     "version: 1\nmodel: %s\noutput_dir: %s\nseed: 3\nstages:\n"
                     "  - { use: data-tokens, with: { path: %s } }\n%s",
                     model, tiny_path("%s", out), tiny_path("rows.safetensors"), stages);
}

static const char *const adapter_stages =
    "  - { use: lora, with: { r: 8, target_modules: all-linear } }\n"
    "  - { use: train-sft, with: { per_device_train_batch_size: 4, max_steps: 6, save_steps: 2 } "
    "}\n"
    "  - { use: merge }\n";

static void begin(void)
{
    tiny_begin();
    tiny_rows(tiny_path("rows.safetensors"), 24, 96, 2, 21);
}

/* Status and what was said of one run. */
static int run(ft_buf *said, const char *yaml)
{
    const char *argv[] = { "run", yaml, "--threads", "1", NULL };
    said->n = 0;
    return tiny_run(said, argv);
}

/* ---- two at once ----------------------------------------------------------------------------- */

START_TEST(second_run)
{
    const char *yaml = pipeline_yaml(tiny_model("untied"), "shared",
                                     "  - { use: lora, with: { r: 2 } }\n"
                                     "  - { use: train-sft, with: { max_steps: 1000000 } }\n");
    const char *argv[] = { "run", yaml, "--threads", "1", NULL };
    ft_buf said = { 0 };
    char path[512];
    snprintf(path, sizeof path, "%s/shared/metrics.jsonl", tiny_dir);
    pid_t first = tiny_start(argv, tiny_path("first.log"));
    for (int i = 0; i < 2000 && !ft_file_exists(path); i++) usleep(10000);
    ck_assert(ft_file_exists(path));
    ck_assert_int_eq(run(&said, yaml), 1);
    ck_assert_msg(strstr(said.p, "another run is writing there") != NULL, "%s", said.p);
    kill(-first, SIGKILL);
    tiny_wait(first);
    /* the lock has gone with the one that held it */
    yaml = pipeline_yaml(tiny_model("untied"), "shared", adapter_stages);
    ck_assert_msg(run(&said, yaml) == 0, "%s", said.p);
    ft_buf_free(&said);
}
END_TEST

/* ---- numbers that are not finite ------------------------------------------------------------- */

/* The tiny model with one number of one tensor replaced. */
static const char *damaged_model(const char *tensor, uint32_t bits)
{
    char from[512], to[512];
    ft_err e = { 0 };
    ft_buf b = { 0 };
    const char *whole = tiny_model("untied"), *dir = tiny_path("damaged");
    tiny_must(ft_make_dirs(dir, &e), &e);
    snprintf(from, sizeof from, "%s/config.json", whole);
    snprintf(to, sizeof to, "%s/config.json", dir);
    tiny_copy(from, to);
    snprintf(from, sizeof from, "%s/model.safetensors", whole);
    snprintf(to, sizeof to, "%s/model.safetensors", dir);
    ft_tensors *s = ft_tensors_open(from, &e);
    ck_assert_msg(s != NULL, "%s", e.msg);
    const ft_tensor *t = ft_tensors_find(s, tensor);
    ck_assert(t && t->dtype == FT_F32);
    ft_buf tensor_bytes = { 0 };
    ft_buf_add(&tensor_bytes, t->data, t->bytes);
    ft_tensors_close(s);
    tiny_must(ft_file_read(&b, from, (size_t)1 << 28, &e), &e);
    char *at = memmem(b.p, b.n, tensor_bytes.p, tensor_bytes.n);
    ck_assert_ptr_nonnull(at);
    memcpy(at + 8, &bits, 4);
    tiny_must(ft_file_write_buf(to, &b, &e), &e);
    ft_buf_free(&tensor_bytes);
    ft_buf_free(&b);
    return dir;
}

START_TEST(not_finite)
{
    static const struct { const char *tensor; uint32_t bits; const char *quantizer; } cases[] = {
        { "model.layers.0.mlp.up_proj.weight", 0x7fc00000, "" },
        { "model.norm.weight", 0x7f800000, "" },
        { "model.layers.1.self_attn.q_proj.weight", 0xff800000, "  - { use: quant-nf4 }\n" },
        { "model.embed_tokens.weight", 0x7f800001, "  - { use: quant-nf4 }\n" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char stages[900];
        ft_buf said = { 0 };
        snprintf(stages, sizeof stages, "%s%s", cases[i].quantizer, adapter_stages);
        const char *model = damaged_model(cases[i].tensor, cases[i].bits);
        ck_assert_int_eq(run(&said, pipeline_yaml(model, "bad", stages)), 1);
        ck_assert_msg(strstr(said.p, cases[i].tensor) &&
                          strstr(said.p, "1 numbers that are not finite"),
                      "case %zu: %s", i, said.p);
        ck_assert(!ft_file_exists(tiny_path("bad/adapter/adapter_model.safetensors")));
        ft_buf_free(&said);
    }
}
END_TEST

/* ---- a full disk ----------------------------------------------------------------------------- */

/* A run of which no file may grow beyond so many blocks of 512 bytes. */
static int run_limited(ft_buf *said, const char *yaml, int blocks)
{
    char command[2000], log[512];
    snprintf(log, sizeof log, "%s/limited.log", tiny_dir);
    snprintf(command, sizeof command,
             "trap '' XFSZ; ulimit -S -f %d; exec %s/pipeline run %s --threads 1 >%s 2>&1", blocks,
             test_build(), yaml, log);
    int status = system(command);
    said->n = 0;
    ck_assert_int_eq(ft_file_read(said, log, 1 << 24, NULL), 0);
    ft_buf_putc(said, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

START_TEST(full_disk)
{
    static const int most[] = { 8, 40, 90, 160, 300, 500, 800 };
    const char *yaml = pipeline_yaml(tiny_model("untied"), "free", adapter_stages);
    ft_buf said = { 0 };
    int refused = 0;
    ck_assert_msg(run(&said, yaml) == 0, "%s", said.p);
    yaml = pipeline_yaml(tiny_model("untied"), "full", adapter_stages);
    for (size_t i = 0; i < sizeof most / sizeof *most; i++) {
        int status = run_limited(&said, yaml, most[i]);
        if (status == 0) continue;
        refused++;
        ck_assert_msg(status == 1, "%d blocks: status %d: %s", most[i], status, said.p);
        ck_assert_msg(strstr(said.p, "File too large") || strstr(said.p, "do not fit on the disk"),
                      "%d blocks: %s", most[i], said.p);
    }
    ck_assert_int_ge(refused, 4);
    ck_assert_msg(run(&said, yaml) == 0, "%s", said.p);
    static const char *const same[] = { "adapter/adapter_model.safetensors", "metrics.jsonl" };
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        ck_assert_msg(tiny_same(tiny_path("free/%s", same[i]), tiny_path("full/%s", same[i])),
                      "%s differs after the disk was full", same[i]);
    ft_buf_free(&said);
}
END_TEST

/* ---- what an adapter is asked to adapt ------------------------------------------------------- */

static const struct { const char *model, *method, *with, *says; } wrong_targets[] = {
    { "untied", "lora", "target_modules: []", "target_modules is empty" },
    { "untied", "lora", "target_modules: [q_proj, k_porj]", "target_modules \"k_porj\"" },
    { "untied", "lora", "target_modules: [q_proj], target_parameters: [experts.gate_up_proj]",
      "matches no tensor of experts; the model has none" },
    { "untied", "dora", "target_modules: [q_proj], target_parameters: [experts.gate_up_proj]",
      "this method does not adapt experts' tensors" },
    { "untied", "lora", "target_modules: [q_proj], layers_to_transform: [0, 99]",
      "layers_to_transform has 99" },
    { "untied", "lora", "target_modules: [q_proj], layers_to_transform: [-1]",
      "layers_to_transform = -1 is below the limit 0" },
    { "untied", "lora", "target_modules: [q_proj], modules_to_save: [lm_haed]",
      "modules_to_save \"lm_haed\"" },
    { "tied", "lora", "target_modules: [q_proj], modules_to_save: [lm_head]", "it is tied" },
};

START_TEST(targets)
{
    ft_buf said = { 0 };
    char stages[400];
    snprintf(stages, sizeof stages,
             "  - { use: %s, with: { %s } }\n  - { use: train-sft, with: { max_steps: 1 } }\n",
             wrong_targets[_i].method, wrong_targets[_i].with);
    const char *yaml = pipeline_yaml(tiny_model(wrong_targets[_i].model), "targets", stages);
    const char *argv[] = { "check", yaml, NULL };
    ck_assert_int_ne(tiny_run(&said, argv), 0);
    ck_assert_msg(strstr(said.p, wrong_targets[_i].says) != NULL, "%s", said.p);
    ft_buf_free(&said);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("refused");
    TCase *t = tcase_create("refused");
    tcase_set_timeout(t, 300);
    tcase_add_unchecked_fixture(t, begin, tiny_end);
    tcase_add_test(t, second_run);
    tcase_add_test(t, not_finite);
    tcase_add_test(t, full_disk);
    tcase_add_loop_test(t, targets, 0, sizeof wrong_targets / sizeof *wrong_targets);
    suite_add_tcase(s, t);
    return s;
}
