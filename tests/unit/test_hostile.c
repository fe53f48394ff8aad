/* test_hostile.c -- wrong inputs through the program: each ends with a named error and the right
 * status (2: the configuration, 1: all else), by `check` and by `run`, no signal, and nothing in
 * the output folder of an earlier, good run is created or changed.
 *
 * Wrong YAML files, safetensors files as a model and as rows, GGUF files, saved adapters, and
 * plugins that are refused, fail, crash or leave. */
#include "harness.h"
#include "gguf_plans.h"
#include "safetensors_rules.h"
#include "tiny.h"

static const char *good_yaml, *good_rows;

/* ---- what lies in a folder: names, sizes, times and contents --------------------------------- */

static void add_tree(ft_sha256 *h, const char *dir)
{
    struct dirent **x;
    int n = scandir(dir, &x, NULL, alphasort);
    ck_assert_int_ge(n, 0);
    for (int i = 0; i < n; i++) {
        char path[2000];
        struct stat st;
        ft_buf b = { 0 };
        snprintf(path, sizeof path, "%s/%s", dir, x[i]->d_name);
        bool skip = !strcmp(x[i]->d_name, ".") || !strcmp(x[i]->d_name, "..");
        free(x[i]);
        if (skip) continue;
        ck_assert_int_eq(lstat(path, &st), 0);
        ft_sha256_text(h, path);
        if (S_ISDIR(st.st_mode)) {
            add_tree(h, path);
            continue;
        }
        ck_assert_int_eq(ft_file_read(&b, path, (size_t)1 << 28, NULL), 0);
        ft_sha256_add(h, &st.st_mtim, sizeof st.st_mtim);
        ft_sha256_field(h, b.p, b.n);
        ft_buf_free(&b);
    }
    free(x);
}

static void tree(char hex[65], const char *dir)
{
    ft_sha256 h;
    ft_sha256_init(&h);
    if (ft_is_dir(dir)) add_tree(&h, dir);
    ft_sha256_hex(&h, hex);
}

/* ---- a call that must be refused ------------------------------------------------------------- */

/* The program with these arguments ends with `status` and words that hold `says`; the output folder
 * is as before. */
static void refuse(const char *what, const char *const *argv, int status, const char *says)
{
    char before[65], after[65];
    ft_buf said = { 0 };
    tree(before, tiny_path("out"));
    int got = tiny_run(&said, argv);
    tree(after, tiny_path("out"));
    ck_assert_msg(got == status, "%s, %s: status %d, not %d:\n%s", argv[0], what, got, status,
                  said.p);
    ck_assert_msg(strstr(said.p, says) != NULL, "%s, %s: does not say \"%s\":\n%s", argv[0], what,
                  says, said.p);
    ck_assert_msg(!strstr(said.p, "Sanitizer") && !strstr(said.p, "runtime error"), "%s, %s:\n%s",
                  argv[0], what, said.p);
    ck_assert_msg(!strcmp(before, after), "%s, %s: changed the output folder", argv[0], what);
    ft_buf_free(&said);
}

static void refuse_both(const char *what, const char *yaml, const char *more, const char *more2,
                        int status, const char *says)
{
    static const char *const command[] = { "check", "run" };
    for (int i = 0; i < 2; i++) {
        const char *argv[] = { command[i], yaml, more, more2, NULL };
        refuse(what, argv, status, says);
    }
}

static void begin(void)
{
    tiny_begin();
    good_rows = tiny_rows(tiny_path("rows.safetensors"), 4, 24, 1, 5);
    good_yaml = tiny_file(tiny_path("good.yaml"),
                          "version: 1\nmodel: %s\noutput_dir: %s/out\nstages:\n"
                          "  - { use: data-tokens, with: { path: %s } }\n"
                          "  - { use: lora, with: { r: 2, target_modules: [q_proj] } }\n"
                          "  - { use: train-sft, with: { max_steps: 1 } }\n",
                          tiny_model("tied"), tiny_dir, good_rows);
    const char *argv[] = { "run", good_yaml, NULL };
    ft_buf said = { 0 };
    int status = tiny_run(&said, argv);
    ck_assert_msg(status == 0, "status %d: %s", status, said.p);
    ft_buf_free(&said);
}

/* ---- YAML ------------------------------------------------------------------------------------ */

/* $ stands for the good head: version, model, output_dir; @ for the path of the rows. */
static const struct { const char *text, *says; int status;
} yaml[] = {
    { "", "", 2 },
    { "version: 1\nstages: []\n", "is missing or empty", 2 },
    { "$", "is missing or empty", 2 },
    { "$stages:\n  - { use: lora }\n  - { use: train-sft }\n", "train-sft needs tokens", 2 },
    { "$stages:\n  - { use: data-tokens, with: { path: @ } }\n  - { use: lorra }\n", "did you mean",
      2 },
    { "$stages:\n  - { use: data-tokens, with: { path: @ } }\n  - { use: lora, with: { r: 0 } }\n",
      "below the limit 1", 2 },
    { "$stages:\n  - { use: data-tokens, with: { path: @ } }\n  - { use: lora, with: { r: two } "
      "}\n",
      "lora", 2 },
    { "$stages:\n  - { use: data-tokens, with: { path: @ } }\n  - { use: lora, with: { rank: 2 } "
      "}\n",
      "rank", 2 },
    { "$stages:\n  - { use: data-tokens, with: { path: @ } }\n  - { use: lora, with: { r: 2, r: 3 "
      "} }\n",
      "r", 2 },
    { "$stages:\n  - { use: data-tokens }\n", "path", 2 },
    { "$stages:\n  - { use: data-tokens, with: { path: @ } }\n  - { use: lora, with: { "
      "target_modules: { a: 1 } } }\n",
      "target_modules", 2 },
    { "$stages:\n  - { use: data-tokens, with: { path: @ } }\n  - { use: train-sft, with: { "
      "learning_rate: fast } }\n",
      "learning_rate", 2 },
    { "$stages:\n  - { use: data-tokens, with: { path: @ } }\n  - { use: train-sft, with: { "
      "compute_dtype: fp8 } }\n",
      "fp8", 2 },
    { "$stages:\n  - { use: data-tokens, with: { path: @ } }\n  - { use: optim-adamw }\n",
      "is no stage", 2 },
    { "$stages:\n  - { use: ../../etc/passwd }\n", "passwd", 2 },
    { "$stages:\n  - { use: /bin/true }\n", "true", 2 },
    { "$stages:\n  - { use: data-tokens, with: { path: @ } }\n  - { use: data-tokens, with: { "
      "path: @ } }\n",
      "data-tokens", 2 },
    { "$stages: [ [ [ { use: data-tokens\n", "", 2 },
    { "$stages: &a [ *a ]\n", "", 2 },
    { "$stages: !!python/object:os.system [ls]\n", "", 2 },
    { "$memory_limit: lots\nstages:\n  - { use: data-tokens, with: { path: @ } }\n", "memory_limit",
      2 },
    { "$seed: 1.5\nstages:\n  - { use: data-tokens, with: { path: @ } }\n", "seed", 2 },
    { "$stages:\n  - { use: quant-nf4, with: { block_size: 100 } }\n  - { use: data-tokens, with: "
      "{ path: @ } }\n",
      "block_size", 2 },
    { "version: 1\noutput_dir: OUT\nstages:\n  - { use: data-tokens, with: { path: @ } }\n  - { "
      "use: train-sft }\n",
      "model", 2 },
    { "version: 2\nstages:\n  - { use: data-tokens, with: { path: @ } }\n", "version", 2 },
    /* Right in form, and wrong for this model or these files. */
    { "$stages:\n  - { use: data-tokens, with: { path: /no/such/rows } }\n  - { use: train-sft }\n",
      "/no/such/rows", 2 },
    { "$stages:\n  - { use: data-tokens, with: { path: @ } }\n  - { use: lora, with: { "
      "target_modules: [q_prj] } }\n  - { use: train-sft }\n",
      "q_proj", 2 },
    { "$stages:\n  - { use: data-tokens, with: { path: @ } }\n  - { use: lora, with: { r: 65 } }\n "
      " - { use: train-sft, with: { optim: optim-adamx } }\n",
      "optim-adam", 2 },
    { "$stages:\n  - { use: data-tokens, with: { path: @ } }\n  - { use: lora }\n  - { use: "
      "train-sft, with: { lr_scheduler_type: sine } }\n",
      "sine", 2 },
    { "$stages:\n  - { use: data-tokens, with: { path: @ } }\n  - { use: lora, with: { "
      "init_adapter: /no/such } }\n  - { use: train-sft }\n",
      "/no/such", 2 },
};
enum { N_YAML = sizeof yaml / sizeof *yaml };

START_TEST(wrong_yaml)
{
    ft_buf b = { 0 };
    ft_err e = { 0 };
    for (const char *p = yaml[_i].text; *p; p++) {
        if (*p == '$')
            ft_buf_printf(&b, "version: 1\nmodel: %s\noutput_dir: %s/out\n", tiny_model("tied"),
                          tiny_dir);
        else if (*p == '@') ft_buf_puts(&b, good_rows);
        else ft_buf_putc(&b, *p);
    }
    const char *path = tiny_path("wrong.yaml");
    tiny_must(ft_file_write(path, b.p ? b.p : "", b.n, &e), &e);
    refuse_both(yaml[_i].text, path, NULL, NULL, yaml[_i].status, yaml[_i].says);
    ft_buf_free(&b);
}
END_TEST

/* A limit that no plan keeps, with what would do, before any stage is run. */
START_TEST(no_memory)
{
    static const char *const says[] = { "the least that this run needs is", "(1) memory_limit: ",
                                        "(2) max_length: ", "(3) half the r" };
    for (int i = 0; i < 4; i++)
        refuse_both("memory_limit", good_yaml, "memory_limit=1MiB", "train-sft.max_steps=2", 1,
                    says[i]);
}
END_TEST

/* The files of test_config, whose words are checked there. */
START_TEST(config_files)
{
    struct dirent **x;
    int n = scandir("tests/data/config", &x, NULL, alphasort), tried = 0;
    for (int i = 0; i < n; i++) {
        char path[600], txt[600];
        size_t k = strlen(x[i]->d_name);
        snprintf(path, sizeof path, "tests/data/config/%s", x[i]->d_name);
        snprintf(txt, sizeof txt, "tests/data/config/%.*s.txt", (int)(k > 5 ? k - 5 : 0),
                 x[i]->d_name);
        if (k > 5 && !strcmp(x[i]->d_name + k - 5, ".yaml") && ft_file_exists(txt)) {
            refuse_both(path, path, NULL, NULL, 2, "");
            tried++;
        }
        free(x[i]);
    }
    free(x);
    ck_assert_int_ge(tried, 20);
}
END_TEST

/* ---- safetensors ----------------------------------------------------------------------------- */

static ft_buf rule_file(const rule *r)
{
    ft_buf b = file_of(r->header, strlen(r->header), r->data, -1);
    char *zero = memmem(b.p, b.n, "\\0", 2);
    if (zero && !strncmp(r->rule, "5 a zero", 8)) memcpy(zero, "\0 ", 2);
    return b;
}

/* What the rules accept is read, and then lacks what a model or rows must have. */
START_TEST(safetensors)
{
    ft_err e = { 0 };
    char config[600], over[600];
    const char *model = tiny_path("bad-model"), *file = tiny_path("bad-model/model.safetensors");
    tiny_must(ft_make_dirs(model, &e), &e);
    snprintf(config, sizeof config, "%s/config.json", tiny_model("tied"));
    tiny_copy(config, tiny_path("bad-model/config.json"));
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        const rule *r = &rules[i];
        ft_buf b = rule_file(r);
        tiny_must(ft_file_write_buf(file, &b, &e), &e);
        snprintf(over, sizeof over, "model=%s", model);
        refuse_both(r->rule, good_yaml, over, NULL, 1,
                    r->says ? r->says : "model.embed_tokens.weight");
        snprintf(over, sizeof over, "data-tokens.path=%s", file);
        const char *argv[] = { "run", good_yaml, over, NULL };
        refuse(r->rule, argv, 1, r->says ? r->says : "input_ids is missing");
        ft_buf_free(&b);
    }
    ft_remove_tree(model, NULL);
}
END_TEST

/* The first bytes alone: too short, and lengths that do not fit. */
START_TEST(safetensors_start)
{
    static const struct { const char *bytes; size_t n; const char *says; } start[] = {
        { "", 0, "" },
        { "\1\0\0\0", 4, "" },
        { "\xff\xff\xff\xff\xff\xff\xff\x7f{}", 10, "" },
        { "\xff\xff\xff\xff\xff\xff\xff\xff{}", 10, "" },
        { "\3\0\0\0\0\0\0\0{}", 10, "" },
        { "\1\xe1\xf5\5\0\0\0\0{}", 10, "" },
    };
    ft_err e = { 0 };
    char over[600];
    const char *file = tiny_path("start.safetensors");
    for (size_t i = 0; i < sizeof start / sizeof *start; i++) {
        tiny_must(ft_file_write(file, start[i].bytes, start[i].n, &e), &e);
        snprintf(over, sizeof over, "data-tokens.path=%s", file);
        refuse_both("a start", good_yaml, over, NULL, 1, "start.safetensors");
    }
}
END_TEST

/* ---- GGUF ------------------------------------------------------------------------------------ */

START_TEST(gguf)
{
    ft_err e = { 0 };
    char over[600];
    const char *file = tiny_path("bad.gguf");
    int bad = 0;
    snprintf(over, sizeof over, "model=%s", file);
    for (size_t i = 0; i < sizeof plans / sizeof *plans; i++) {
        ft_buf b = build(&plans[i]);
        tiny_must(ft_file_write_buf(file, &b, &e), &e);
        refuse_both(plans[i].test, good_yaml, over, NULL, 1,
                    plans[i].says ? plans[i].says : "bad.gguf");
        bad += plans[i].says != NULL;
        ft_buf_free(&b);
    }
    ck_assert_int_ge(bad, 20);
}
END_TEST

/* ---- saved adapters -------------------------------------------------------------------------- */

START_TEST(adapters)
{
    static const struct {
        const char *config, *says;
        int status; /* 2: what it names is for the pipeline's stage, which cannot do it */
    } bad[] = {
        { "", "", 1 },
        { "[]", "", 1 },
        { "{\"peft_type\": \"LOHA\", \"r\": 2}", "LOHA", 1 },
        { "{\"peft_type\": \"LORA\", \"r\": 0}", "r", 1 },
        { "{\"peft_type\": \"LORA\", \"r\": 1e99}", "r", 1 },
        { "{\"peft_type\": \"LORA\", \"r\": 2, \"target_modules\": [\"nothing\"]}", "nothing", 2 },
        { "{\"peft_type\": \"LORA\", \"r\": 2, \"target_modules\": [\"q_proj\"], \"r\": 3}", "r", 1 },
        { "{\"peft_type\": \"LORA\", \"r\": 3, \"target_modules\": [\"q_proj\"]}", "shape", 1 },
        { "{\"peft_type\": \"LORA\", \"r\": 2, \"target_modules\": [\"q_proj\", \"v_proj\"]}",
          "v_proj", 1 },
        { "{\"peft_type\": \"LORA\", \"r\": 2, \"target_modules\": \"(a+)+$\"}", "", 2 },
    };
    ft_err e = { 0 };
    char over[600], over2[] = "~lora.target_modules";
    tiny_must(ft_make_dirs(tiny_path("bad-adapter"), &e), &e);
    tiny_copy(tiny_path("out/adapter/adapter_model.safetensors"),
              tiny_path("bad-adapter/adapter_model.safetensors"));
    snprintf(over, sizeof over, "lora.init_adapter=%s", tiny_path("bad-adapter"));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        tiny_file(tiny_path("bad-adapter/adapter_config.json"), "%s", bad[i].config);
        const char *argv[] = { "run", good_yaml, over, over2, NULL };
        refuse(bad[i].config, argv, bad[i].status, bad[i].says);
    }
}
END_TEST

/* ---- plugins --------------------------------------------------------------------------------- */

static const char *plugin_folder(void)
{
    static char path[512];
    snprintf(path, sizeof path, "--plugin-dir=%s/tests/so", test_build());
    return path;
}

static const char *plugin_yaml(const char *name, const char *what)
{
    return tiny_file(tiny_path("plugin.yaml"),
                     "version: 1\nmodel: %s\noutput_dir: %s/out\nstages:\n"
                     "  - { use: %s%s%s%s }\n  - { use: lora, with: { r: 2 } }\n  - { use: "
                     "train-sft, with: { max_steps: 1 } }\n",
                     tiny_model("tied"), tiny_dir, name, what ? ", with: { what: " : "",
                     what ? what : "", what ? " }" : "");
}

START_TEST(refused_plugins)
{
    static const char *const name[] = { "no-note",       "newer-major",      "newer-minor",
                                        "larger-struct", "note-name",        "descriptor-name",
                                        "other-abi",     "null-function",    "null-vtable",
                                        "large-vtable",  "unknown-role",     "bad-offset",
                                        "bad-default",   "undefined-symbol", "no-entry",
                                        "null-entry",    "bad-list",         "no-shared" };
    for (size_t i = 0; i < sizeof name / sizeof *name; i++)
        refuse_both(name[i], plugin_yaml(name[i], NULL), plugin_folder(), NULL, 2, name[i]);
}
END_TEST

START_TEST(crashing_plugins)
{
    static const struct { const char *what, *says; } bad[] = {
        { "fail", "stage 'good' (plugin good): rows = 7 exceeds 6" },
        { "silent", "stage 'good' (plugin good): failed with code" },
        { "open", "stage 'good' (plugin good): rows = 3 is odd" },
        { "segv", "stage 'good' died of SIGSEGV at good.so+0x" },
        { "abort", "stage 'good' died of SIGABRT" },
        { "fpe", "stage 'good' died of SIGFPE" },
        { "ill", "stage 'good' died of SIGILL" },
        { "null-call", "stage 'good' died of SIGSEGV" },
        { "libc", "stage 'good' died of SIGSEGV" },
        { "exit", "stage 'good' left the program with status 0" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refuse_both(bad[i].what, plugin_yaml("good", bad[i].what), plugin_folder(), NULL, 1,
                    bad[i].says);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("hostile");
    TCase *t = tcase_create("hostile");
    tcase_set_timeout(t, 600);
    tcase_add_unchecked_fixture(t, begin, tiny_end);
    tcase_add_loop_test(t, wrong_yaml, 0, N_YAML);
    tcase_add_test(t, no_memory);
    tcase_add_test(t, config_files);
    tcase_add_test(t, safetensors);
    tcase_add_test(t, safetensors_start);
    tcase_add_test(t, gguf);
    tcase_add_test(t, adapters);
    tcase_add_test(t, refused_plugins);
    tcase_add_test(t, crashing_plugins);
    suite_add_tcase(s, t);
    return s;
}
