/* test_step.c -- inside of a step nothing is allocated and the kernel is asked for nothing but
 * futexes: the program runs with an interposed malloc, and, where strace may be used, is traced.
 *
 * A step is over when its line goes to metrics.jsonl; what the program does after that (the lines,
 * progress) belongs to no step.  The first step is left out: what is kept is made in it. */
#include <unistd.h>
#include "harness.h"
#include "tiny.h"

enum { STEPS = 6 };

static const struct { const char *name, *stages; } method[] = {
    { "lora", "  - { use: lora, with: { r: 4, target_modules: all-linear, lora_dropout: 0.1 } }\n" },
    { "qlora", "  - { use: quant-nf4, with: { double_quant: true } }\n"
               "  - { use: lora, with: { r: 4, target_modules: all-linear } }\n" },
    { "dora", "  - { use: dora, with: { r: 4, target_modules: all-linear } }\n" },
    { "full", "" },
};

/* A run of its own: what an earlier one left is removed. */
static const char *write_yaml(int i)
{
    ft_remove_tree(tiny_path("out"), NULL);
    const char *rows = tiny_rows(tiny_path("rows.safetensors"), 4 * STEPS, 300, 3, 7);
    return tiny_file(tiny_path("run.yaml"),
                     "version: 1\nmodel: %s\noutput_dir: %s/out\nseed: 5\nstages:\n"
                     "  - { use: data-tokens, with: { path: %s } }\n%s"
                     "  - { use: train-sft, with: { per_device_train_batch_size: 4, "
                     "num_train_epochs: 1, compute_dtype: bf16 } }\n",
                     tiny_model("untied"), tiny_dir, rows, method[i].stages);
}

START_TEST(no_allocation)
{
    char so[600];
    const char *counts = tiny_path("counts-%d", _i), *yaml = write_yaml(_i);
    const char *argv[] = { "run", yaml, "--threads", "3", NULL };
    ft_buf said = { 0 };
    long step, n;
    int lines = 0;
    snprintf(so, sizeof so, "%s/tests/preload/count.so", test_build());
    char *full = realpath(so, NULL);
    ck_assert_msg(full != NULL, "%s is not there", so);
    setenv("LD_PRELOAD", full, 1);
    setenv("FT_COUNT_TO", counts, 1);
    int status = tiny_run(&said, argv);
    unsetenv("LD_PRELOAD");
    ck_assert_msg(status == 0, "status %d: %s", status, said.p);
    FILE *f = fopen(counts, "r");
    ck_assert_ptr_nonnull(f);
    for (; fscanf(f, "%ld %ld", &step, &n) == 2; lines++)
        ck_assert_msg(step == 1 || n == 0, "%s: %ld allocations in step %ld", method[_i].name, n,
                      step);
    fclose(f);
    ck_assert_int_eq(lines, STEPS);
    ft_buf_free(&said);
    free(full);
}
END_TEST

/* ---- strace ---------------------------------------------------------------------------------- */

static bool can_trace(void)
{
    return system("strace -f -o /dev/null true >/dev/null 2>&1") == 0;
}

/* A line of the trace that is of no consequence: futexes, signs of interruption, ends of calls. */
static bool harmless(const char *line)
{
    static const char *const known[] = { "futex", "write(2,", "--- SIG", "restart_syscall" };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strstr(line, known[i])) return true;
    }
    return false;
}

START_TEST(no_system_call)
{
    char command[2000], line[4096];
    const char *yaml = write_yaml(_i), *trace = tiny_path("trace");
    bool inside = false;
    int seen = 0;
    snprintf(command, sizeof command, "strace -f -s 200 -o %s %s/pipeline run %s --threads 3 "
             ">%s/said 2>&1", trace, test_build(), yaml, tiny_dir);
    ck_assert_int_eq(system(command), 0);
    FILE *f = fopen(trace, "r");
    ck_assert_ptr_nonnull(f);
    while (fgets(line, sizeof line, f)) {
        if (strstr(line, "grad_norm\\\"")) inside = false, seen++;
        ck_assert_msg(!inside || harmless(line), "%s: in step %d: %s", method[_i].name, seen + 1,
                      line);
        if (strstr(line, "peak_bytes\\\"")) inside = seen > 0 && seen < STEPS;
    }
    fclose(f);
    ck_assert_int_ge(seen, STEPS);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("step");
    TCase *t = tcase_create("step");
    int n = sizeof method / sizeof *method;
    tcase_set_timeout(t, 300);
    tcase_add_unchecked_fixture(t, tiny_begin, tiny_end);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    printf("not run: allocations and system calls, which a sanitizer has of its own\n");
#else
    tcase_add_loop_test(t, no_allocation, 0, n);
    if (can_trace()) tcase_add_loop_test(t, no_system_call, 0, n);
    else printf("not run: system calls in a step: strace is missing or may not trace\n");
#endif
    suite_add_tcase(s, t);
    return s;
}
