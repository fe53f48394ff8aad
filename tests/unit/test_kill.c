/* test_kill.c -- a run that is killed: SIGKILL at random moments, to the program alone or to its
 * stage as well, leaves every finished artifact whole; the next run goes on after the last finished
 * stage and ends with the bytes of a run that nobody disturbed.  Ctrl-C leaves a checkpoint and
 * status 130; --resume ends with the same bytes, and so does a run killed among its checkpoints.
 *
 * Seeded: FT_SEED chooses other moments, FT_KILLS their number. */
#include "harness.h"
#include "tiny.h"

enum { KILLS = 12 };

/* What decides whether two runs made the same: all but the clock. */
static const char *const results[] = { "adapter/adapter_model.safetensors",
                                       "adapter/adapter_config.json", "metrics.jsonl" };
enum { N_RESULTS = sizeof results / sizeof *results };

static double undisturbed_seconds;
static char whole[N_RESULTS][65];

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void pause_for(double seconds)
{
    struct timespec t = { (time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9) };
    while (nanosleep(&t, &t) < 0 && errno == EINTR) continue;
}

/* Five stages that make artifacts: rows, packed weights, and two trainings one after the other. */
static const char *write_yaml(const char *out)
{
    return tiny_file(tiny_path("%s.yaml", out),
                     "version: 1\nmodel: %s\noutput_dir: %s\nseed: 3\nstages:\n"
                     "  - { use: data-tokens, with: { path: %s } }\n"
                     "  - { use: quant-nf4, with: { double_quant: true } }\n"
                     "  - { use: lora, with: { r: 8, lora_dropout: 0.05, target_modules: "
                     "all-linear } }\n"
                     "  - { use: train-sft, id: first, with: { per_device_train_batch_size: 4, "
                     "max_steps: 16, learning_rate: 1e-3, save_steps: 7 } }\n"
                     "  - { use: train-sft, id: second, with: { per_device_train_batch_size: 4, "
                     "max_steps: 16, learning_rate: 5e-4, save_steps: 5 } }\n",
                     tiny_model("untied"), tiny_path("%s", out), tiny_path("rows.safetensors"));
}

static void hashes(char sha[N_RESULTS][65], const char *dir)
{
    char path[900];
    for (int i = 0; i < N_RESULTS; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, results[i]);
        tiny_sha(sha[i], path);
    }
}

static void expect_whole(const char *dir, const char *when)
{
    char sha[N_RESULTS][65];
    hashes(sha, dir);
    for (int i = 0; i < N_RESULTS; i++)
        ck_assert_msg(!strcmp(sha[i], whole[i]), "%s: %s differs from the undisturbed run's", when,
                      results[i]);
}

/* Every folder in out/artifacts with a final name is the same as the undisturbed run's of that name
 * (whose last stage was `second`); returns how many there are. */
static int finished_are_whole(const char *out, const char *when)
{
    static const char *const file[] = { "tokens.safetensors", "packed.safetensors",
                                        "adapter/adapter_model.safetensors",
                                        "adapter/adapter_config.json", "metrics.jsonl" };
    int n = 0;
    DIR *d = opendir(tiny_path("%s/artifacts", out));
    for (struct dirent *x; d && (x = readdir(d));) {
        if (x->d_name[0] == '.' || strstr(x->d_name, ".last")) continue;
        int same = 0;
        for (size_t i = 0; i < sizeof file / sizeof *file; i++) {
            char want[900], got[900];
            snprintf(want, sizeof want, "%s/whole/artifacts/%s/%s", tiny_dir, x->d_name, file[i]);
            snprintf(got, sizeof got, "%s/%s/artifacts/%s/%s", tiny_dir, out, x->d_name, file[i]);
            ck_assert_msg(ft_file_exists(want) == ft_file_exists(got),
                          "%s: %s in %s is one run's alone", when, file[i], x->d_name);
            if (!ft_file_exists(want)) continue;
            ck_assert_msg(tiny_same(want, got), "%s: %s of %s is damaged", when, file[i],
                          x->d_name);
            same++;
        }
        ck_assert_msg(same > 0, "%s: %s is no artifact of the undisturbed run", when, x->d_name);
        n++;
    }
    if (d) closedir(d);
    return n;
}

static int must_run(const char *yaml, const char *option)
{
    const char *argv[] = { "run", yaml, "--threads", "1", option, NULL };
    ft_buf said = { 0 };
    int status = tiny_run(&said, argv), reused = 0;
    ck_assert_msg(status == 0, "status %d: %s", status, said.p);
    for (const char *p = said.p; (p = strstr(p, "reused, nothing has changed")); p++) reused++;
    ft_buf_free(&said);
    return reused;
}

static void begin(void)
{
    tiny_begin();
    tiny_rows(tiny_path("rows.safetensors"), 24, 96, 2, 21);
    const char *yaml = write_yaml("whole");
    double start = now();
    ck_assert_int_eq(must_run(yaml, NULL), 0);
    undisturbed_seconds = now() - start;
    hashes(whole, tiny_path("whole"));
}

/* Starts a run and kills it after a time: the whole group, or the program alone (its stage then
 * dies of that). */
static bool kill_after(const char *yaml, const char *option, double seconds, bool group)
{
    const char *argv[] = { "run", yaml, "--threads", "1", option, NULL };
    pid_t pid = tiny_start(argv, tiny_path("killed.log"));
    pause_for(seconds);
    kill(group ? -pid : pid, SIGKILL);
    int status = tiny_wait(pid);
    return WIFSIGNALED(status);
}

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
    const char *v = getenv(name);
    return v && *v ? strtoull(v, NULL, 10) : otherwise;
}

START_TEST(killed)
{
    uint64_t seed = from_environment("FT_SEED", 1), n = from_environment("FT_KILLS", KILLS);
    int hit = 0, found[6] = { 0 };
    for (uint64_t i = 0; i < n; i++) {
        char when[128];
        /* squared: short stages come first */
        double u = (double)(tiny_number(seed, i) >> 11) * 0x1p-53;
        double at = u * u * 0.9 * undisturbed_seconds;
        bool resume = i % 4 == 3;
        snprintf(when, sizeof when, "seed %llu, kill %llu after %.3f s", (unsigned long long)seed,
                 (unsigned long long)i, at);
        const char *yaml = write_yaml("victim");
        hit += kill_after(yaml, NULL, at, i % 2);
        int done = finished_are_whole("victim", when);
        /* Half of them are killed a second time on their way on. */
        if (i % 2) hit += kill_after(yaml, resume ? "--resume" : NULL, at / 3, true);
        int later = finished_are_whole("victim", when);
        ck_assert_int_ge(later, done);
        int reused = must_run(yaml, resume ? "--resume" : NULL);
        ck_assert_msg(reused == later, "%s: %d finished stages, %d reused", when, later, reused);
        ck_assert_int_eq(finished_are_whole("victim", when), 4);
        expect_whole(tiny_path("victim"), when);
        found[later < 5 ? later : 5]++;
        ck_assert_int_eq(ft_remove_tree(tiny_path("victim"), NULL), 0);
    }
    printf("%d kills; finished stages found: 0 x %d, 1 x %d, 2 x %d, 3 x %d, 4 x %d\n", hit,
           found[0], found[1], found[2], found[3], found[4]);
    ck_assert_int_ge(hit, (int)(n < 20 ? n / 2 : 10));
}
END_TEST

/* Whether the training has written at least n lines of metrics since it was started. */
static bool has_lines(const char *out, int n)
{
    ft_buf b = { 0 };
    int lines = 0;
    char path[512];
    /* asked too often for tiny_path */
    snprintf(path, sizeof path, "%s/%s/metrics.jsonl", tiny_dir, out);
    if (!ft_file_read(&b, path, 1 << 20, NULL)) {
        for (size_t i = 0; i < b.n; i++) lines += b.p[i] == '\n';
    }
    ft_buf_free(&b);
    return lines >= n;
}

static const char *one_stage(const char *out, int64_t save_steps)
{
    return tiny_file(tiny_path("%s.yaml", out),
                     "version: 1\nmodel: %s\noutput_dir: %s\nseed: 3\nstages:\n"
                     "  - { use: data-tokens, with: { path: %s } }\n"
                     "  - { use: dora, with: { r: 8, lora_dropout: 0.05, target_modules: "
                     "all-linear } }\n"
                     "  - { use: train-sft, with: { per_device_train_batch_size: 4, max_steps: "
                     "120, learning_rate: 1e-3, save_steps: %lld } }\n",
                     tiny_model("untied"), tiny_path("%s", out), tiny_path("rows.safetensors"),
                     (long long)save_steps);
}

/* Ctrl-C at any moment: the run stops, and what is finished is whole. */
START_TEST(interrupted_anywhere)
{
    const char *yaml = write_yaml("stopped");
    int n_stopped = 0;
    for (uint64_t i = 0; i < 8; i++) {
        char when[64];
        double u = (double)(tiny_number(99, i) >> 11) * 0x1p-53,
               at = u * u * 0.5 * undisturbed_seconds;
        const char *argv[] = { "run", yaml, "--threads", "1", NULL };
        pid_t pid = tiny_start(argv, tiny_path("stopped.log"));
        pause_for(at);
        kill(-pid, SIGINT);
        int status = tiny_wait(pid);
        snprintf(when, sizeof when, "Ctrl-C after %.3f s", at);
        int done = finished_are_whole("stopped", when);
        /* Status 130; or, while there is nothing to finish, the signal itself; 0 when it came too
         * late. */
        bool stopped = WIFEXITED(status) ? WEXITSTATUS(status) == 130 : WTERMSIG(status) == SIGINT;
        ck_assert_msg(stopped || (status == 0 && done == 4), "%s: status %x, %d stages finished",
                      when, (unsigned)status, done);
        n_stopped += stopped;
        if (i % 2) ck_assert_int_eq(ft_remove_tree(tiny_path("stopped"), NULL), 0);
    }
    ck_assert_int_ge(n_stopped, 4);
    must_run(yaml, "--resume");
    expect_whole(tiny_path("stopped"), "after 8 times Ctrl-C");
}
END_TEST

static int newest_checkpoint(const char *out)
{
    int newest = 0, step;
    DIR *d = opendir(tiny_path("%s/checkpoints", out));
    for (struct dirent *x; d && (x = readdir(d));) {
        if (sscanf(x->d_name, "step-%d", &step) == 1 && step > newest) newest = step;
    }
    if (d) closedir(d);
    return newest;
}

/* Ctrl-C twice on the way, each followed by --resume. */
START_TEST(interrupted)
{
    const char *calm = one_stage("calm", _i ? 20 : 0), *yaml = one_stage("cut", _i ? 20 : 0),
               *file[] = { results[0], results[2] };
    int last = 0;
    must_run(calm, NULL);
    for (int k = 0; k < 2; k++) {
        const char *argv[] = { "run", yaml, "--threads", "1", k ? "--resume" : NULL, NULL };
        pid_t pid = tiny_start(argv, tiny_path("cut.log"));
        double start = now();
        while (!has_lines("cut", last + 10) && now() - start < 120) pause_for(0.001);
        kill(_i ? -pid : pid, SIGINT);
        int status = tiny_wait(pid);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 130, "status %x",
                      (unsigned)status);
        int step = newest_checkpoint("cut");
        ck_assert_int_gt(step, last);
        ck_assert(!ft_is_dir(tiny_path("cut/adapter")));
        last = step;
    }
    must_run(yaml, "--resume");
    for (size_t i = 0; i < sizeof file / sizeof *file; i++)
        ck_assert_msg(tiny_same(tiny_path("calm/%s", file[i]), tiny_path("cut/%s", file[i])),
                      "%s differs after --resume", file[i]);
    ck_assert_int_eq(ft_remove_tree(tiny_path("cut"), NULL) |
                         ft_remove_tree(tiny_path("calm"), NULL),
                     0);
}
END_TEST

/* A damaged newest checkpoint is passed over for the one before it. */
START_TEST(damaged_checkpoint)
{
    const char *yaml = one_stage("hurt", 5),
               *argv[] = { "run", yaml, "--threads", "1", "--resume", NULL };
    ft_buf b = { 0 }, said = { 0 };
    ft_err e = { 0 };
    pid_t pid = tiny_start(argv, tiny_path("hurt.log"));
    double start = now();
    while (!has_lines("hurt", 22) && now() - start < 120) pause_for(0.001);
    kill(-pid, SIGKILL);
    tiny_wait(pid);
    pause_for(0.05);
    const char *state = tiny_path("hurt/checkpoints/step-%d/state.safetensors",
                                  newest_checkpoint("hurt"));
    tiny_must(ft_file_read(&b, state, (size_t)1 << 28, &e), &e);
    b.p[b.n / 2] ^= 1;
    tiny_must(ft_file_write_buf(state, &b, &e), &e);
    ck_assert_int_eq(tiny_run(&said, argv), 0);
    ck_assert_msg(strstr(said.p, "damaged") && strstr(said.p, "continuing after step"), "%s",
                  said.p);
    must_run(one_stage("calm", 0), NULL);
    ck_assert(tiny_same(tiny_path("calm/%s", results[0]), tiny_path("hurt/%s", results[0])));
    ck_assert(tiny_same(tiny_path("calm/%s", results[2]), tiny_path("hurt/%s", results[2])));
    ft_buf_free(&b);
    ft_buf_free(&said);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("kill");
    TCase *t = tcase_create("kill");
    tcase_set_timeout(t, 600);
    tcase_add_unchecked_fixture(t, begin, tiny_end);
    tcase_add_test(t, killed);
    tcase_add_loop_test(t, interrupted, 0, 2);
    tcase_add_test(t, damaged_checkpoint);
    tcase_add_test(t, interrupted_anywhere);
    suite_add_tcase(s, t);
    return s;
}
