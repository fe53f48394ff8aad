/* test_checkpoint.c -- checkpoints that are read back: a whole one is; one that is damaged, of
 * another run or of other sizes is passed over with the reason, and nothing is taken of it. */
#include "core/run/checkpoint.h"
#include "harness.h"
#include "training.h"

enum { STEP = 3 };
static const ft_checkpoint kept = { .run = "mine", .step = STEP, .metrics_bytes = 5, .best = 0.5 };

static const char *of_step(const char *name)
{
    return tiny_path("training/checkpoints/step-%d/%s", STEP, name);
}

/* The state with tensors of so many bytes; 0: without it. */
static void write_state(int64_t parameters, int64_t optimizer)
{
    ft_err e = { 0 };
    const int64_t dim[2] = { parameters, optimizer };
    static const char *const name[2] = { "parameters", "optimizer" };
    char *zeros = calloc(1, (size_t)(parameters + optimizer) + 1);
    int64_t at[2];
    ft_st_writer *w = ft_st_new(&e);
    for (int i = 0; i < 2; i++)
        at[i] = dim[i] ? ft_st_declare(w, name[i], FT_U8, &dim[i], 1, &e) : 0;
    tiny_must(ft_st_begin(w, of_step("state.safetensors"), 0, &e), &e);
    for (int i = 0; i < 2; i++)
        if (dim[i]) tiny_must(ft_st_write(w, at[i], zeros, (size_t)dim[i], &e), &e);
    tiny_must(ft_st_commit(w, &e), &e);
    ft_st_free(w);
    free(zeros);
}

/* What loading says; what was saved is taken, or nothing. */
static void check_load(training *x, const char *run, const char *says)
{
    char *text = NULL;
    size_t n = 0;
    ft_log log;
    ft_err e = { 0 };
    FILE *to = open_memstream(&text, &n);
    ft_checkpoint c = { .run = run };
    ft_log_init(&log, to);
    ck_assert_int_eq(ft_checkpoint_load(tiny_path("training"), &c, &x->t.engine, &log, &e), 0);
    ft_log_close(&log);
    ck_assert_int_eq(fclose(to), 0);
    ck_assert_msg(strstr(text, says) != NULL, "no \"%s\" in: %s", says, text);
    bool whole = strstr(says, "continuing") != NULL;
    ck_assert_int_eq(c.step, whole ? STEP : 0);
    ck_assert(whole || strstr(text, "there is no whole checkpoint"));
    free(text);
}

static const char *yaml(void)
{
    return tiny_file(tiny_path("run.yaml"),
                     "version: 1\nmodel: %s\noutput_dir: %s/out\nstages:\n"
                     "  - { use: data-tokens, with: { path: %s } }\n"
                     "  - { use: lora, with: { r: 2, target_modules: [q_proj] } }\n"
                     "  - { use: train-sft, with: { max_steps: 2 } }\n",
                     tiny_model("tied"), tiny_dir,
                     tiny_rows(tiny_path("rows.safetensors"), 4, 16, 2, 3));
}

START_TEST(read_back)
{
    static const char *const manifests[] = {
        "{}", "{\"run\": \"mine\", \"step\": 3, \"metrics_bytes\": 0, \"timing_bytes\": 0, "
              "\"since_best\": 0, \"sha256\": \"abc\"}",
    };
    training x;
    ft_err e = { 0 };
    training_open(&x, yaml());
    int64_t np = (int64_t)x.t.engine.program[0]->plan.param_bytes;
    int64_t ns = (int64_t)x.t.engine.state_bytes;
    const struct { int64_t parameters, optimizer; const char *says; } states[] = {
        { 0, ns, "state.safetensors belongs to another run" },
        { np, 0, "state.safetensors belongs to another run" },
        { np + 1, ns, "state.safetensors belongs to another run" },
        { np, ns + 4, "state.safetensors belongs to another run" },
        { np, ns, "state.safetensors is damaged: its hash is not the one in its manifest" },
    };
    tiny_must(ft_checkpoint_save(tiny_path("training"), &kept, &x.t.engine, 2, &e), &e);
    check_load(&x, "mine", "continuing after step 3");
    check_load(&x, "yours", "step-3 belongs to another run");
    for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
        write_state(states[i].parameters, states[i].optimizer);
        check_load(&x, "mine", states[i].says);
    }
    for (size_t i = 0; i < sizeof manifests / sizeof *manifests; i++) {
        tiny_file(of_step("manifest.json"), "%s", manifests[i]);
        check_load(&x, "mine", "manifest.json is no manifest of a checkpoint");
    }
    training_close(&x);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("checkpoint");
    TCase *t = tcase_create("checkpoint");
    tcase_set_timeout(t, 60);
    tcase_add_unchecked_fixture(t, tiny_begin, tiny_end);
    tcase_add_test(t, read_back);
    suite_add_tcase(s, t);
    return s;
}
