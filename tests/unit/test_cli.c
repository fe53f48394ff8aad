/* test_cli.c -- the program's outside: help, list, version, and the statuses of wrong calls. */
#include "harness.h"
#include <dirent.h>
#include <dlfcn.h>
#include <string.h>
#include <sys/wait.h>
#include "core/base/json.h"
#include "ft/plugin.h"

/* Runs the program with a shell; standard output and error together in out.  Returns its status. */
static int run(ft_buf *out, const char *args)
{
    char cmd[1024], block[4096];
    size_t n;
    snprintf(cmd, sizeof cmd, "unset PIPELINE_PLUGIN_PATH; %s/pipeline %s 2>&1", test_build(),
        args);
    FILE *f = popen(cmd, "r");
    ck_assert_ptr_nonnull(f);
    out->n = 0;
    ft_buf_puts(out, "");
    while ((n = fread(block, 1, sizeof block, f))) ft_buf_add(out, block, n);
    int status = pclose(f);
    ck_assert_msg(WIFEXITED(status), "%s was killed", args);
    return WEXITSTATUS(status);
}

START_TEST(calls)
{
    static const struct { const char *args; int status; const char *want;
    } cases[] = {
        { "", 0, "usage: pipeline COMMAND" },
        { "help", 0, "  list       the plugins there are" },
        { "--help", 0, "usage: pipeline COMMAND" },
        { "--version", 0, "pipeline 0.1.0 (plugin ABI 1.0)\n" },
        { "lst", 2, "pipeline: no command \"lst\"; did you mean \"list\"?\n" },
        { "frobnicate", 2, "pipeline: no command \"frobnicate\"; `pipeline help` lists them\n" },
        { "help list", 0, "usage: pipeline list [--json]\n" },
        { "list --help", 0, "usage: pipeline list [--json]\n" },
        { "list --jsn", 2, "usage: pipeline list [--json]\n" },
        { "tokenise", 2, "pipeline: no command \"tokenise\"; did you mean \"tokenize\"?\n" },
        { "help render", 0, "usage: pipeline render [--template T.jinja] ROWS.jsonl\n" },
        { "render", 2, "usage: pipeline render [--template T.jinja] ROWS.jsonl\n" },
        { "render /nonexistent/rows", 1, "pipeline render: " },
        { "report", 2, "usage: pipeline report OUTPUT_DIR [--out F.html]\n" },
        { "report /nonexistent", 1, "pipeline: /nonexistent is no output folder of a run" },
        { "doctor --jsn", 2, "pipeline: unknown option --jsn; did you mean --json?\n" },
        { "doctor --plugin-dir /nonexistent", 1,
          "\nbad   plugins          --plugin-dir: plugin folder /nonexistent" },
        { "help a b", 2, "usage: pipeline help " },
        { "help no-such-thing", 2, "pipeline: no plugin \"no-such-thing\"" },
        { "help ../x", 2, "is not a plugin's name" },
        { "list --plugin-dir", 2, "pipeline: --plugin-dir needs a value\n" },
        { "list --plugin-dir /no/such/folder", 2,
          "pipeline: --plugin-dir: plugin folder /no/such/folder: No such" },
        { "list --threads 0", 2,
          "pipeline: --threads: \"0\" is no number of threads; 1 to 4096\n" },
        { "--threads=x list", 2,
          "pipeline: --threads: \"x\" is no number of threads; 1 to 4096\n" },
    };
    ft_buf out = { 0 };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int status = run(&out, cases[i].args);
        ck_assert_msg(status == cases[i].status, "%s: status %d", cases[i].args, status);
        ck_assert_msg(strstr(out.p, cases[i].want) != NULL, "%s:\n%s", cases[i].args, out.p);
    }
    ft_buf_free(&out);
}
END_TEST

START_TEST(list)
{
    ft_buf out = { 0 };
    ft_err e = { 0 };
    char args[512];
    snprintf(args, sizeof args, "list --plugin-dir %s/tests/so", test_build());
    ck_assert_int_eq(run(&out, args), 0);
    ck_assert_ptr_nonnull(strstr(out.p, "  1.2.3    does what it is told  (/"));
    const char *line = strstr(out.p, "\nno-note ");
    ck_assert_ptr_nonnull(line);
    ck_assert_int_eq(strncmp(line + 8 + strspn(line + 8, " "), "refused: /", 10), 0);
    snprintf(args, sizeof args, "--plugin-dir=%s/tests/so list --json", test_build());
    ck_assert_int_eq(run(&out, args), 0);
    ft_json_doc *d = ft_json_parse("list", out.p, out.n, &e);
    ck_assert_msg(d != NULL, "%s", e.msg);
    const ft_json *all = ft_json_root(d);
    int good = 0, refused = 0;
    for (size_t i = 0; i < all->len; i++) {
        refused += ft_json_get(&all->item[i], "refused") != NULL;
        if (strcmp(ft_json_str(&all->item[i], "name", ""), "good")) continue;
        ck_assert_uint_eq(strlen(ft_json_str(&all->item[i], "sha256", "")), 64);
        good++;
    }
    ck_assert_int_eq(good, 1);
    ck_assert_int_ge(refused, 17);
    ft_json_done(d);
    ft_buf_free(&out);
}
END_TEST

START_TEST(help_plugin)
{
    ft_buf out = { 0 };
    ft_err e = { 0 };
    char args[512];
    snprintf(args, sizeof args, "help good --plugin-dir %s/tests/so", test_build());
    ck_assert_int_eq(run(&out, args), 0);
    ck_assert_ptr_nonnull(strstr(out.p, "good 1.2.3 (ft.tokens/1): does what it is told\n/"));
    ck_assert_ptr_nonnull(strstr(out.p,
        "\n  rows = 3                              an integer, 1 to 1000\n"
                                 "      rows there are\n"));
    ck_assert_ptr_nonnull(strstr(out.p, "text: nothing | fail | silent"));
    snprintf(args, sizeof args, "help good --json --plugin-dir %s/tests/so", test_build());
    ck_assert_int_eq(run(&out, args), 0);
    ft_json_doc *d = ft_json_parse("schema", out.p, out.n, &e);
    ck_assert_msg(d != NULL, "%s", e.msg);
    ck_assert_uint_eq(ft_json_get(ft_json_root(d), "properties")->len, 9);
    ft_json_done(d);
    /* A full disk is a failure, not silence. */
    ck_assert_int_eq(run(&out, "list > /dev/full"), 1);
    ft_buf_free(&out);
}
END_TEST

/* Every plugin that was built is listed, and `help` has every row of its own table: key, kind,
 * default and text; the JSON schema has the same keys. */
static void check_help(const char *name, const ft_plugin *p)
{
    ft_buf out = { 0 };
    ft_err e = { 0 };
    char args[512];
    size_t n = 0;
    snprintf(args, sizeof args, "help %s", name);
    ck_assert_int_eq(run(&out, args), 0);
    ck_assert_msg(strstr(out.p, p->summary) && strstr(out.p, p->role), "%s:\n%s", name, out.p);
    for (const ft_param *row = p->params; row && row->key; row++, n++) {
        char key[200], help[400];
        snprintf(key, sizeof key, "\n  %s %s", row->key, row->def ? "= " : "(required)");
        snprintf(help, sizeof help, "\n      %s\n", row->help);
        const char *at = strstr(out.p, key);
        ck_assert_msg(at && strstr(at, help), "%s: %s is not in\n%s", name, row->key, out.p);
        ck_assert_msg(strlen(row->help) > 3, "%s: %s says nothing", name, row->key);
    }
    snprintf(args, sizeof args, "help %s --json", name);
    ck_assert_int_eq(run(&out, args), 0);
    ft_json_doc *d = ft_json_parse("schema", out.p, out.n, &e);
    ck_assert_msg(d != NULL, "%s: %s", name, e.msg);
    const ft_json *keys = ft_json_get(ft_json_root(d), "properties");
    ck_assert_uint_eq(keys->len, n);
    for (size_t i = 0; i < n; i++) ck_assert_ptr_nonnull(ft_json_get(keys, p->params[i].key));
    ft_json_done(d);
    ft_buf_free(&out);
}

START_TEST(every_plugin)
{
    ft_buf out = { 0 };
    char folder[512], path[1200];
    int seen = 0;
    ck_assert_int_eq(run(&out, "list"), 0);
    ck_assert_ptr_null(strstr(out.p, "refused"));
    snprintf(folder, sizeof folder, "%s/plugins", test_build());
    DIR *d = opendir(folder);
    for (struct dirent *x; d && (x = readdir(d));) {
        char name[256], line[300];
        const ft_plugin *(*entry)(void);
        snprintf(name, sizeof name, "%s", x->d_name);
        char *dot = strstr(name, ".so");
        if (!dot || !strncmp(name, "kernels-", 8)) continue; /* a backend has no parameters */
        *dot = 0;
        snprintf(path, sizeof path, "%s/%s", folder, x->d_name);
        void *so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        ck_assert_msg(so != NULL, "%s", dlerror());
        *(void **)&entry = dlsym(so, "ft_plugin_entry_1");
        ck_assert_msg(entry != NULL, "%s has no entry", path);
        snprintf(line, sizeof line, "%s ", name);
        const char *at = strstr(out.p, line);
        ck_assert_msg(at && (at == out.p || at[-1] == '\n'), "%s is not listed:\n%s", name, out.p);
        check_help(name, entry());
        seen++;
    }
    if (d) closedir(d);
    ck_assert_int_ge(seen, 14);
    ft_buf_free(&out);
}
END_TEST

/* Every command of the first page has a page of its own. */
START_TEST(every_command)
{
    ft_buf all = { 0 }, out = { 0 };
    int seen = 0;
    ck_assert_int_eq(run(&all, "help"), 0);
    for (const char *p = strstr(all.p, "\n  "); p; p = strstr(p + 1, "\n  ")) {
        char args[100], want[100];
        int n = (int)strcspn(p + 3, " \n");
        if (n == 0 || p[3] == '-') continue;
        snprintf(args, sizeof args, "help %.*s", n, p + 3);
        snprintf(want, sizeof want, "usage: pipeline %.*s", n, p + 3);
        ck_assert_msg(run(&out, args) == 0 && strstr(out.p, want), "%s: %s", args, out.p);
        seen++;
    }
    ck_assert_int_ge(seen, 10);
    ft_buf_free(&all);
    ft_buf_free(&out);
}
END_TEST

/* A built tree has nothing bad, plugins that are refused are worth a word, wrong settings are
 * bad. */
START_TEST(doctor)
{
    ft_buf out = { 0 };
    ft_err e = { 0 };
    char args[512];
    int64_t bad = -1, warn = -1;
    ck_assert_msg(run(&out, "doctor") == 0, "%s", out.p);
    ck_assert_ptr_nonnull(strstr(out.p, "\nok    GPU              "));
    ck_assert_ptr_nonnull(strstr(out.p, " chosen, "));
    ck_assert_ptr_nonnull(strstr(out.p, "plain passes"));
    ck_assert_ptr_nonnull(strstr(out.p, " 0 bad\n"));
    setenv("CUDA_VISIBLE_DEVICES", "", 1); /* no GPU is nothing bad, on any machine */
    ck_assert_msg(run(&out, "doctor") == 0 && strstr(out.p, "\nok    GPU "), "%s", out.p);
    unsetenv("CUDA_VISIBLE_DEVICES");
    snprintf(args, sizeof args, "doctor --json --plugin-dir %s/tests/so", test_build());
    ck_assert_msg(run(&out, args) == 0, "%s", out.p);
    ft_json_doc *d = ft_json_parse("doctor", out.p, out.n, &e);
    ck_assert_msg(d != NULL, "%s", e.msg);
    ck_assert(ft_json_as_int(ft_json_get(ft_json_root(d), "bad"), &bad) &&
              ft_json_as_int(ft_json_get(ft_json_root(d), "warn"), &warn));
    ck_assert_int_eq(bad, 0);
    ck_assert_int_ge(warn, 17);
    ft_json_done(d);
    setenv("PIPELINE_ISA", "z80", 1);
    ck_assert_int_eq(run(&out, "doctor"), 1);
    ck_assert_ptr_nonnull(strstr(out.p, "\nbad   kernels          PIPELINE_ISA=z80: "));
    unsetenv("PIPELINE_ISA");
    setenv("PIPELINE_CACHE", "/nonexistent/cache", 1);
    ck_assert_int_eq(run(&out, "doctor"), 1);
    ck_assert_ptr_nonnull(strstr(out.p, "\nbad   PIPELINE_CACHE   /nonexistent/cache: "));
    unsetenv("PIPELINE_CACHE");
    ft_buf_free(&out);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("cli");
    TCase *t = tcase_create("cli");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, calls);
    tcase_add_test(t, list);
    tcase_add_test(t, help_plugin);
    tcase_add_test(t, every_plugin);
    tcase_add_test(t, every_command);
    tcase_add_test(t, doctor);
    suite_add_tcase(s, t);
    return s;
}
