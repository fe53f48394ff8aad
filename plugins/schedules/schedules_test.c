/* schedules_test.c -- every schedule against transformers.get_scheduler, and what is refused.
 * Vectors: tests/data/optim/schedules.json, shared goldens where they are present. */
#include "tests/plugin_host.h"
#include <math.h>
#include "ft/train.h"

static plugin_host host;
static const ft_schedule *schedule;

static void start(void)
{
    host = (plugin_host){ 0 };
    ck_assert_int_eq(plugin_open(&host, "schedules", NULL), 0);
    schedule = host.plugin->vtable;
}

/* A row of either file, as we would write it. */
typedef struct {
    char name[64];
    const char *key[8];
    double value[8];
    ft_map kwargs;
    ft_schedule_at at;
} row;

static bool knows(const char *name, const char *key)
{
    for (size_t i = 0; schedule->names[i]; i++) {
        if (strcmp(schedule->names[i], name) != 0) continue;
        for (const char *const *k = schedule->kwargs[i]; *k; k++) {
            if (strcmp(*k, key) == 0) return true;
        }
    }
    return false;
}

/* "cosine" -> "cosine_", but "" for the word that is the default. */
static void word(char *out, const ft_json *kwargs, const char *key, const char *usual)
{
    const char *w = ft_json_str(kwargs, key, usual);
    snprintf(out, 32, "%s%s", strcmp(w, usual) == 0 ? "" : w, strcmp(w, usual) == 0 ? "" : "_");
}

static double real(const ft_json *o, const char *key)
{
    double v = NAN;
    ck_assert_msg(ft_json_as_real(ft_json_get(o, key), &v), "%s", key);
    return v;
}

/* r->at.kwargs points into r. */
static void read_row(row *r, const ft_json *o, const ft_json *args, const ft_json *kwargs,
                     const char *warmup, const char *total, const char *base)
{
    const char *name = ft_json_str(o, "name", "");
    *r = (row){ 0 };
    snprintf(r->name, sizeof r->name, "%s", name);
    if (strcmp(name, "warmup_stable_decay") == 0) {
        char up[32], down[32];
        word(up, kwargs, "warmup_type", "linear");
        word(down, kwargs, "decay_type", "cosine");
        snprintf(r->name, sizeof r->name, "%.20swarmup_stable_%.20sdecay", up, down);
    }
    for (size_t i = 0; i < kwargs->len; i++) {
        if (kwargs->item[i].type == FT_JSON_STRING) continue;
        r->key[r->kwargs.n] = kwargs->item[i].key;
        ft_json_as_real(&kwargs->item[i], &r->value[r->kwargs.n++]);
    }
    r->kwargs.key = r->key;
    r->kwargs.value = r->value;
    r->at = (ft_schedule_at){ .warmup = (int64_t)real(args, warmup), .base = real(o, base),
                              .total = (int64_t)real(args, total), .kwargs = &r->kwargs };
}

/* want: one number every `stride` steps, to be divided by `unit`. */
static void check_row(row *r, const ft_json *want, int64_t stride, double unit)
{
    for (size_t i = 0; i < r->kwargs.n; i++) ck_assert(knows(r->name, r->key[i]));
    ck_assert_msg(schedule->check(host.self, r->name, &r->at) == 0, "%s", host.err.msg);
    ck_assert_uint_gt(want->len, 5);
    for (size_t i = 0; i < want->len; i++) {
        double w = NAN;
        ck_assert(ft_json_as_real(&want->item[i], &w));
        r->at.step = (int64_t)i * stride;
        double got = schedule->factor(r->name, &r->at);
        ck_assert_msg(fabs(got - w / unit) <= 1e-9, "%s, step %d of %d: %.12g, not %.12g", r->name,
                      (int)r->at.step, (int)r->at.total, got, w / unit);
    }
}

static ft_json_doc *load(const char *path)
{
    ft_buf text = { 0 };
    ft_err e = { 0 };
    ck_assert_msg(ft_file_read(&text, path, 1 << 24, &e) == 0, "%s", e.msg);
    ft_json_doc *d = ft_json_parse(path, text.p, text.n, &e);
    ck_assert_msg(d != NULL, "%s", e.msg);
    ft_buf_free(&text);
    return d;
}

START_TEST(transformers)
{
    start();
    ft_json_doc *d = load("tests/data/optim/schedules.json");
    const ft_json *all = ft_json_root(d);
    bool seen[32] = { false };
    for (size_t i = 0; i < all->len; i++) {
        const ft_json *o = &all->item[i];
        row r;
        read_row(&r, o, o, ft_json_get(o, "kwargs"), "warmup", "total", "base");
        check_row(&r, ft_json_get(o, "factor"), 3, 1);
        for (size_t k = 0; schedule->names[k]; k++) {
            if (strcmp(schedule->names[k], r.name) == 0) seen[k] = true;
        }
    }
    for (size_t k = 0; schedule->names[k]; k++) ck_assert_msg(seen[k], "%s", schedule->names[k]);
    ft_json_done(d);
    plugin_close(&host);
}
END_TEST

START_TEST(goldens)
{
    if (!test_goldens()) {
        printf("not run: schedule goldens (no shared goldens here)\n");
        return;
    }
    char path[4096];
    start();
    snprintf(path, sizeof path, "%s/optim/schedules.json", test_goldens());
    ft_json_doc *d = load(path);
    const ft_json *all = ft_json_root(d);
    for (size_t i = 0; i < all->len; i++) {
        const ft_json *o = &all->item[i], *args = ft_json_get(o, "args");
        row r;
        read_row(&r, o, args, ft_json_get(args, "scheduler_specific_kwargs"), "num_warmup_steps",
                 "num_training_steps", "base_lr");
        check_row(&r, ft_json_get(o, "lr"), 1, r.at.base);
    }
    ft_json_done(d);
    plugin_close(&host);
}
END_TEST

/* Names and kwargs are two lists of the same length; a number not known is not listed. */
START_TEST(tables)
{
    start();
    size_t n = 0;
    for (; schedule->names[n]; n++) {
        ck_assert_ptr_nonnull(schedule->kwargs[n]);
        for (size_t i = 0; i < n; i++) ck_assert_str_ne(schedule->names[i], schedule->names[n]);
    }
    ck_assert_uint_eq(n, 18);
    ck_assert_ptr_null(schedule->kwargs[n]);
    ck_assert(knows("cosine", "num_cycles") && !knows("cosine", "power"));
    ck_assert(!knows("linear", "num_cycles") && !knows("constant", "warmup"));
    plugin_close(&host);
}
END_TEST

START_TEST(refusals)
{
    static const struct {
        const char *name, *key[2];
        double value[2], base;
        const char *says;
    } bad[] = {
        { "polynomial", { "lr_end" }, { 1e-3 }, 1e-4, "below learning_rate" },
        { "polynomial", { 0 }, { 0 }, 1e-8, "lr_end" },
        { "polynomial", { "power" }, { -1 }, 1e-4, "power" },
        { "inverse_sqrt", { "timescale" }, { 0 }, 1e-4, "timescale" },
        { "cosine", { "num_cycles" }, { NAN }, 1e-4, "num_cycles" },
        { "cosine", { "num_cycles" }, { INFINITY }, 1e-4, "num_cycles" },
        { "cosine_with_min_lr", { 0 }, { 0 }, 1e-4, "one of min_lr" },
        { "cosine_with_min_lr", { "min_lr", "min_lr_rate" }, { 1e-5, 0.1 }, 1e-4, "not both" },
        { "cosine_warmup_with_min_lr", { 0 }, { 0 }, 1e-4, "one of min_lr" },
        { "cosine_with_min_lr", { "min_lr" }, { 1e-5 }, 0, "above 0" },
        { "warmup_stable_decay", { 0 }, { 0 }, 1e-4, "num_decay_steps" },
        { "1-sqrt_warmup_stable_linear_decay", { 0 }, { 0 }, 1e-4, "num_decay_steps" },
        { "warmup_stable_decay", { "num_decay_steps" }, { -1 }, 1e-4, "num_decay_steps" },
        { "staircase", { 0 }, { 0 }, 1e-4, "staircase" },
    };
    start();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ft_map kwargs = { 0, bad[i].key, bad[i].value };
        while (kwargs.n < 2 && bad[i].key[kwargs.n]) kwargs.n++;
        ft_schedule_at at = { .total = 10, .kwargs = &kwargs, .base = bad[i].base };
        ck_assert_int_eq(schedule->check(host.self, bad[i].name, &at), FT_EINVAL);
        ck_assert_msg(strstr(host.err.msg, bad[i].says) != NULL, "%s", host.err.msg);
    }
    plugin_close(&host);
}
END_TEST

/* No warm-up, no steps, more warm-up than steps, far past the end: always a number in [0, 1]. */
START_TEST(degenerate)
{
    static const int64_t cases[][2] = { { 0, 0 }, { 0, 1 }, { 5, 5 }, { 9, 3 }, { 1, 1 } };
    start();
    for (size_t k = 0; schedule->names[k]; k++) {
        for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
            for (int64_t step = 0; step < 30; step++) {
                ft_schedule_at at = { step, cases[c][0], cases[c][1], NULL, 1e-3 };
                double f = schedule->factor(schedule->names[k], &at);
                ck_assert_msg(f >= 0 && f <= 1 + 1e-12, "%s: %g", schedule->names[k], f);
            }
        }
    }
    plugin_close(&host);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("schedules");
    TCase *c = tcase_create("factors");
    tcase_add_test(c, transformers);
    tcase_add_test(c, goldens);
    tcase_add_test(c, tables);
    tcase_add_test(c, refusals);
    tcase_add_test(c, degenerate);
    suite_add_tcase(s, c);
    return s;
}
