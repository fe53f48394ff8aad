/* data-mix_test.c -- the order of a mix: shares to within a row, no row twice before all of its set
 * were used, both endings, and the seed. */
#include "tests/plugin_host.h"
#include "ft/data.h"

enum { MOST = 100000 };

typedef struct { size_t set; int64_t row; } pick;

/* Runs a mix to its end; the number of rows. */
static int64_t run(pick *out, const plugin_text *given, size_t n, const int64_t *rows)
{
    plugin_host p = { .threads = 0 };
    int64_t made = 0;
    int code;
    ck_assert_msg(plugin_open(&p, "data-mix", given) == 0, "%s", p.err.msg);
    const ft_mixer *m = p.plugin->vtable;
    ck_assert_int_eq(m->begin(p.self, n, rows), 0);
    while ((code = m->next(p.self, &out[made].set, &out[made].row)) > 0) {
        ck_assert_uint_lt(out[made].set, n);
        ck_assert(out[made].row >= 0 && out[made].row < rows[out[made].set]);
        ck_assert_int_lt(++made, MOST);
    }
    ck_assert_int_eq(code, 0);
    plugin_close(&p);
    return made;
}

/* In every beginning of the mix each set has its share to within a row. */
static void check_shares(const pick *v, int64_t made, const double *share, size_t n)
{
    double taken[8] = { 0 };
    for (int64_t i = 0; i < made; i++) {
        taken[v[i].set]++;
        for (size_t k = 0; k < n; k++)
            ck_assert_msg(taken[k] - share[k] * (double)(i + 1) < 1.0001 &&
                              share[k] * (double)(i + 1) - taken[k] < (double)n,
                          "set %zu has %g of %lld rows", k, taken[k], (long long)(i + 1));
    }
}

/* Rows of a set come in passes, each with every row once. */
static void check_passes(const pick *v, int64_t made, size_t set, int64_t rows)
{
    int seen[1000] = { 0 };
    int64_t n = 0;
    for (int64_t i = 0; i < made; i++) {
        if (v[i].set != set) continue;
        ck_assert_int_eq(seen[v[i].row], n / rows);
        seen[v[i].row]++;
        n++;
    }
}

START_TEST(until_the_shortest_is_used_up)
{
    static pick v[MOST];
    const int64_t rows[] = { 100, 90, 500 };
    const double share[] = { 0.5, 0.3, 0.2 };
    int64_t made = run(v, (plugin_text[]){ { "weights", "a=5,b=3,c=2" }, { 0 } }, 3, rows);
    ck_assert_int_ge(made, 199);
    ck_assert_int_le(made, 202); /* 100 / 0.5, to within a row of each set */
    check_shares(v, made, share, 3);
    for (size_t i = 0; i < 3; i++) check_passes(v, made, i, rows[i]);
    int64_t most[3] = { 0 };
    for (int64_t i = 0; i < made; i++) most[v[i].set]++;
    for (size_t i = 0; i < 3; i++) ck_assert_int_le(most[i], rows[i]); /* no row twice */
}
END_TEST

START_TEST(until_all_are_used_up)
{
    static pick v[MOST];
    const int64_t rows[] = { 7, 300 };
    const double share[] = { 0.25, 0.75 };
    int64_t made =
        run(v, (plugin_text[]){ { "weights", "a=1,b=3" }, { "until", "longest" }, { 0 } }, 2, rows);
    ck_assert_int_ge(made, 399);
    ck_assert_int_le(made, 402);
    check_shares(v, made, share, 2);
    for (size_t i = 0; i < 2; i++) check_passes(v, made, i, rows[i]);
}
END_TEST

START_TEST(a_number_of_rows_and_the_seed)
{
    static pick v[3][MOST];
    const int64_t rows[] = { 50, 10 };
    static const char *const seeds[] = { "3", "3", "4" };
    int same = 0;
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(run(v[i],
                             (plugin_text[]){ { "weights", "a=1,b=1" },
                                              { "rows", "137" },
                                              { "seed", seeds[i] },
                                              { 0 } },
                             2, rows),
                         137);
    for (int i = 0; i < 137; i++) {
        ck_assert(v[0][i].set == v[1][i].set && v[0][i].row == v[1][i].row);
        same += v[0][i].row == v[2][i].row;
    }
    ck_assert_int_lt(same, 60);
    check_passes(v[0], 137, 1, 10); /* 68 rows of 10: other orders in every pass */
    bool differs = false;
    int64_t before[2][10], n = 0;
    for (int i = 0; i < 137; i++) {
        if (v[0][i].set == 1 && n < 20) before[n / 10][n % 10] = v[0][i].row, n++;
    }
    for (int i = 0; i < 10; i++) differs |= before[0][i] != before[1][i];
    ck_assert(differs);
}
END_TEST

START_TEST(parameters_that_contradict)
{
    plugin_host p = { .threads = 0 };
    const plugin_text given[] = {
        { "weights", "a=1" }, { "rows", "5" }, { "until", "longest" }, { 0 }
    };
    ck_assert_int_eq(plugin_open(&p, "data-mix", given), FT_EINVAL);
    ck_assert_ptr_nonnull(strstr(p.err.msg,
                                 "rows = 5 says how long the mix is, and so does until: longest"));
    plugin_close(&p);
    p = (plugin_host){ .no_memory = true };
    const plugin_text fine[] = { { "weights", "a=1" }, { 0 } };
    ck_assert_int_eq(plugin_open(&p, "data-mix", fine), 0);
    ck_assert_int_eq(((const ft_mixer *)p.plugin->vtable)->begin(p.self, 1, (int64_t[]){ 5 }),
                     FT_ENOMEM);
    plugin_close(&p);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("data-mix");
    TCase *t = tcase_create("mix");
    tcase_add_test(t, until_the_shortest_is_used_up);
    tcase_add_test(t, until_all_are_used_up);
    tcase_add_test(t, a_number_of_rows_and_the_seed);
    tcase_add_test(t, parameters_that_contradict);
    suite_add_tcase(s, t);
    return s;
}
