/* test_isolate.c -- plugins that run: instances and their errors, what they log, and stages in a
 * process of their own that fail, crash, are stopped or killed. */
#include "load_test.h"
#include <signal.h>
#include <unistd.h>
#include "core/load/bind.h"
#include "core/load/crash.h"
#include "core/load/instance.h"
#include "core/load/isolate.h"
#include "ft/data.h"

/* ---- instances ------------------------------------------------------------------------------- */
/* An instance of good.so that does `what`, in an offer. */
static ft_instance *open_good(ft_registry *r, ft_config *c, const char *what,
    const ft_offer *offer, ft_err *e)
{
    ft_diags d = { 0 };
    char over[64];
    const char *const args[] = { over };
    snprintf(over, sizeof over, "s.what=%s", what);
    static const char text[] = "version: 1\nstages: [{ id: s, use: good }]\n";
    put("t.yaml", text, strlen(text));
    ck_assert_int_eq(ft_config_open(c, r, in_dir("t.yaml"), args, 1, 0, &d), 0);
    ft_diags_free(&d);
    return ft_instance_open(c->stage[0].plugin, c->stage[0].id, c->stage[0].config, offer, e);
}

static int do_shape(ft_instance *i, ft_err *e)
{
    const ft_token_source *t = ft_instance_vtable(i);
    int64_t x[3];
    int code = t->shape(ft_instance_self(i), &x[0], &x[1], &x[2]);
    return code ? ft_instance_error(i, code, e) : 0;
}

START_TEST(instances)
{
    ft_registry *r = registry(so_dir);
    ft_config c = { 0 };
    ft_err e = { 0 };
    ft_token_row out;
    size_t n;
    const ft_service *services = ft_core_services(&n);
    ft_offer offer = { .service = services, .n_services = n };
    ck_assert_ptr_null(open_good(r, &c, "open", NULL, &e));
    ck_assert_str_eq(e.msg, "stage 's' (plugin good): rows = 3 is odd");
    ck_assert_int_eq(e.code, FT_EFORMAT);
    ft_config_free(&c);
    e.code = 0;
    ft_instance *i = open_good(r, &c, "silent", &offer, &e);
    ck_assert_int_eq(do_shape(i, &e), FT_EIO);
    ck_assert_str_eq(e.msg, "stage 's' (plugin good): failed with code -6 and gave no reason");
    e.code = 0;
    const ft_token_source *t = ft_instance_vtable(i);
    ck_assert_int_eq(t->row(ft_instance_self(i), 0, &out), 0);
    ck_assert_int_eq(out.ids[0], 7); /* by ft.json/1 */
    ck_assert_int_eq(ft_instance_error(i, t->row(ft_instance_self(i), 1, &out), &e), FT_EFORMAT);
    ck_assert_str_eq(e.msg,
        "stage 's' (plugin good): row:1:2: the text ends where a value must stand");
    ft_instance_close(i);
    ft_config_free(&c);

    /* Without a file: the defaults. */
    e.code = 0;
    i = ft_instance_open(ft_registry_get(r, "good", &e), "tool", NULL, &offer, &e);
    ck_assert_msg(i != NULL, "%s", e.msg);
    ck_assert_int_eq(do_shape(i, &e), 0);
    ft_instance_close(i);
    ft_registry_free(r);
}
END_TEST

START_TEST(logged)
{
    ft_registry *r = registry(so_dir);
    ft_config c = { 0 };
    ft_err e = { 0 };
    ft_log log;
    char *text = NULL;
    size_t n = 0;
    FILE *f = fopen(in_dir("log"), "w+");
    ck_assert_ptr_nonnull(f);
    ft_log_init(&log, f);
    ft_offer offer = { .log = &log };
    ft_instance *i = open_good(r, &c, "log", &offer, &e);
    ck_assert_int_eq(do_shape(i, &e), 0);
    rewind(f);
    ck_assert_int_gt((int)getline(&text, &n, f), 0);
    ck_assert_str_eq(text, "warning: s: 3 rows\n");
    free(text);
    ft_instance_close(i);
    ft_log_close(&log);
    fclose(f);
    ft_config_free(&c);
    ft_registry_free(r);
}
END_TEST

/* ---- processes ------------------------------------------------------------------------------- */
static int run_shape(void *arg, ft_err *e)
{
    if (!freopen("/dev/null", "w", stderr)) return FT_EIO; /* the crash line is in the result */
    return do_shape(arg, e);
}

/* What comes back from a child that does `what`. */
static int isolate(const char *what, ft_isolated *out, ft_err *e)
{
    ft_registry *r = registry(so_dir);
    ft_config c = { 0 };
    ft_instance *i = open_good(r, &c, what, NULL, e);
    ck_assert_ptr_nonnull(i);
    int code = ft_isolate("s", run_shape, i, out, e);
    ft_instance_close(i);
    ft_config_free(&c);
    ft_registry_free(r);
    return code;
}

START_TEST(isolated)
{
    ft_isolated out;
    ft_err e = { 0 };
    ck_assert_int_eq(isolate("nothing", &out, &e), 0);
    ck_assert(out.signal == 0 && out.exit_status == 0 && out.code == 0 && e.code == 0);
    uint64_t small = out.peak_rss_bytes;
    ck_assert_uint_gt(small, 100 << 10);
    ck_assert_int_eq(isolate("fail", &out, &e), FT_EINVAL);
    ck_assert_str_eq(e.msg, "stage 's' (plugin good): rows = 7 exceeds 6");
    e.code = 0;
    ck_assert_int_eq(isolate("memory", &out, &e), 0);
    ck_assert_uint_ge(out.peak_rss_bytes, 64 << 20);
    ck_assert_int_eq(isolate("exit", &out, &e), FT_EUNSUP);
    ck_assert_ptr_nonnull(strstr(e.msg, "stage 's' left the program with status "));
    ck_assert_ptr_nonnull(strstr(e.msg, "a plugin must return instead"));
}
END_TEST

START_TEST(crashes)
{
    static const struct { const char *what, *name; int sig; const char *where; } cases[] = {
        { "segv", "SIGSEGV", SIGSEGV, " at good.so+0x" },
        { "abort", "SIGABRT", SIGABRT, ", called from good.so+0x" },
        { "fpe", "SIGFPE", SIGFPE, ", called from good.so+0x" },
        { "ill", "SIGILL", SIGILL, " at good.so+0x" },
        { "null-call", "SIGSEGV", SIGSEGV, "called from good.so+0x" },
        { "libc", "SIGSEGV", SIGSEGV, "good.so+0x" },
        { "stack", "SIGSEGV", SIGSEGV, " at good.so+0x" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ft_isolated out;
        ft_err e = { 0 };
        char start[64];
        ck_assert_int_eq(isolate(cases[i].what, &out, &e), FT_EUNSUP);
        ck_assert_msg(out.signal == cases[i].sig, "%s: signal %d", cases[i].what, out.signal);
        snprintf(start, sizeof start, "pipeline: stage 's' died of %s at ", cases[i].name);
        ck_assert_msg(!strncmp(out.crash, start, strlen(start)), "%s: %s", cases[i].what,
            out.crash);
        ck_assert_msg(strstr(out.crash, cases[i].where) && strstr(out.crash, "/tests/so/good.so"),
            "%s: %s",
                      cases[i].what, out.crash);
        snprintf(start, sizeof start, "stage 's' died of %s; pipeline: ", cases[i].name);
        ck_assert_msg(!strncmp(e.msg, start, strlen(start)), "%s", e.msg);
    }
}
END_TEST

#if defined(__SANITIZE_THREAD__)
enum { THREAD_SANITIZER = 1 };
#elif defined(__has_feature)
enum { THREAD_SANITIZER = __has_feature(thread_sanitizer) };
#else
enum { THREAD_SANITIZER = 0 };
#endif

/* ThreadSanitizer holds signals back while a process waits for another. */
static bool signals_wait(void)
{
    if (THREAD_SANITIZER) puts("not run: signals while waiting (ThreadSanitizer holds them back)");
    return THREAD_SANITIZER;
}

/* Sends this process SIGINT in 0.3 s, and, `times` in all, every 0.5 s from then on. */
static void interrupt(int times)
{
    pid_t me = getpid();
    if (fork() != 0) return;
    for (int i = 0; i < times; i++) {
        usleep(i == 0 ? 300000 : 500000);
        kill(me, SIGINT);
    }
    _exit(0);
}

/* Ctrl-C sent to this process alone is passed on; the plugin sees it through host->progress. */
START_TEST(stopped)
{
    if (signals_wait()) return;
    ft_isolated out;
    ft_err e = { 0 };
    interrupt(1);
    ck_assert_int_eq(isolate("wait", &out, &e), FT_ECANCEL);
    ck_assert_str_eq(e.msg, "stage 's' (plugin good): stopped");
    ck_assert_int_eq(out.signal, 0);
}
END_TEST

static int sleep_long(void *arg, ft_err *e)
{
    (void)arg, (void)e;
    for (;;) pause();
    return 0;
}

/* A stage that does not look is ended by the second one, a killed one is reported. */
START_TEST(killed)
{
    if (signals_wait()) return;
    ft_isolated out;
    ft_err e = { 0 };
    interrupt(2);
    ck_assert_int_eq(ft_isolate("s", sleep_long, NULL, &out, &e), FT_ECANCEL);
    ck_assert_str_eq(e.msg, "stage 's' was stopped");
    ck_assert_int_eq(out.signal, SIGINT);
}
END_TEST

static int kill_me(void *arg, ft_err *e)
{
    (void)arg, (void)e;
    return kill(getpid(), SIGKILL);
}

START_TEST(out_of_memory_killer)
{
    ft_isolated out;
    ft_err e = { 0 };
    ck_assert_int_eq(ft_isolate("s", kill_me, NULL, &out, &e), FT_EUNSUP);
    ck_assert_ptr_nonnull(strstr(e.msg, "stage 's' was killed (SIGKILL) at "));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("isolate");
    TCase *t = tcase_create("isolate");
    tcase_add_checked_fixture(t, make_dir, remove_dir);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, instances);
    tcase_add_test(t, logged);
    tcase_add_test(t, isolated);
    tcase_add_test(t, crashes);
    tcase_add_test(t, stopped);
    tcase_add_test(t, killed);
    tcase_add_test(t, out_of_memory_killer);
    suite_add_tcase(s, t);
    return s;
}
