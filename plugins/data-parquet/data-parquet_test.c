/* data-parquet_test.c -- Parquet files behind the built plugin: what pyarrow wrote in every codec,
 * page version and encoding that is read, row by row; files cut anywhere and with any byte changed;
 * what is refused.  Files of the test's own making: data-parquet_made_test.c. */
#include "plugins/data-parquet/test_files.h"
#include <sys/resource.h>

static const char *const written[] = {
    "chat-none-1", "chat-none-2", "chat-snappy-1", "chat-snappy-2", "chat-gzip-1", "chat-gzip-2",
    "chat-zstd-1", "chat-zstd-2", "kinds-1", "kinds-2", "empty",
};
enum { N_WRITTEN = sizeof written / sizeof *written };

START_TEST(rows_as_pyarrow_has_them)
{
    char path[200], failed[2048];
    ft_buf got = { 0 }, want = { 0 };
    snprintf(path, sizeof path, FOLDER "%s.jsonl", written[_i]);
    read_whole(&want, path);
    snprintf(path, sizeof path, FOLDER "%s.parquet", written[_i]);
    ck_assert_msg(reads(&got, failed, path), "%s", failed);
    const char *a = got.p, *b = want.p ? want.p : "";
    for (int line = 1; *a || *b; line++) {
        size_t n = strcspn(a, "\n"), m = strcspn(b, "\n");
        ck_assert_msg(n == m && !memcmp(a, b, n), "%s, row %d:\n%.*s\nwanted\n%.*s", path, line,
                      (int)n, a, (int)m, b);
        a += n + (a[n] != 0);
        b += m + (b[m] != 0);
    }
    ft_buf_free(&got);
    ft_buf_free(&want);
}
END_TEST

START_TEST(long_runs)
{
    char failed[2048];
    ft_buf got = { 0 };
    ck_assert_msg(reads(&got, failed, FOLDER "long-run.parquet"), "%s", failed);
    static const char line[] = "{\"text\": \"same\", \"none\": null}\n";
    ck_assert_uint_eq(got.n, 5000 * (sizeof line - 1));
    for (size_t i = 0; i < got.n; i += sizeof line - 1)
        ck_assert(!memcmp(got.p + i, line, sizeof line - 1));
    ft_buf_free(&got);
}
END_TEST

/* ---- refusals -------------------------------------------------------------------------------- */

static const struct { const char *file, *says; } refused[] = {
    { "refused-brotli.parquet", "packed with Brotli, which is not supported" },
    { "refused-lz4.parquet", "packed with LZ4, which is not supported" },
    { "refused-delta.parquet", "its encoding 7 is not supported" },
    { "make.py", "does not end as a Parquet file" },
    { "no such file", "No such file" },
};

START_TEST(refused_by_name)
{
    char path[200], failed[2048];
    ft_buf got = { 0 };
    snprintf(path, sizeof path, FOLDER "%s", refused[_i].file);
    ck_assert(!reads(&got, failed, path));
    ck_assert_msg(strstr(failed, refused[_i].says) && strstr(failed, path), "%s", failed);
    ft_buf_free(&got);
}
END_TEST

START_TEST(claims_by_first_bytes)
{
    plugin_host h = { 0 };
    ck_assert_int_eq(plugin_open(&h, "data-parquet", NULL), 0);
    const ft_table *t = h.plugin->vtable;
    ck_assert(t->claims("PAR1", 4) && t->claims("PARE....", 8));
    ck_assert(!t->claims("PAR", 3) && !t->claims("{\"a\":1}", 7) && !t->claims("", 0));
    plugin_close(&h);
}
END_TEST

/* ---- damage ---------------------------------------------------------------------------------- */

static const char *const damaged[] = { "chat-none-1", "chat-snappy-2", "chat-zstd-1", "kinds-1",
                                       "chat-gzip-1" };

static long peak_kib(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_maxrss;
}

/* Cut it is refused; with a bit changed it is read or refused, in bounded memory. */
START_TEST(cut_and_changed)
{
    char path[200], failed[2048];
    ft_buf file = { 0 }, got = { 0 };
    snprintf(path, sizeof path, FOLDER "%s.parquet", damaged[_i]);
    read_whole(&file, path);
    size_t n = file.n;
    long before = peak_kib();
    for (file.n = 0; file.n < n; file.n += 1 + file.n / 50) {
        write_file(path, &file);
        ck_assert_msg(!reads(&got, failed, path), "accepted with %zu bytes", file.n);
    }
    file.n = n;
    for (size_t k = 0; k < n; k += 5) {
        file.p[k] ^= (char)(1 << k % 8);
        write_file(path, &file);
        reads(&got, failed, path);
        file.p[k] ^= (char)(1 << k % 8);
    }
#if defined(__SANITIZE_ADDRESS__)
    (void)before;
    printf("not run: memory of damaged files, which the sanitizer keeps after it is freed\n");
#else
    ck_assert_int_lt(peak_kib() - before, 64 << 10);
#endif
    unlink(path);
    ft_buf_free(&file);
    ft_buf_free(&got);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("data-parquet");
    TCase *t = tcase_create("parquet");
    tcase_set_timeout(t, 300);
    tcase_add_loop_test(t, rows_as_pyarrow_has_them, 0, N_WRITTEN);
    tcase_add_test(t, long_runs);
    tcase_add_loop_test(t, refused_by_name, 0, sizeof refused / sizeof *refused);
    tcase_add_test(t, claims_by_first_bytes);
    tcase_add_loop_test(t, cut_and_changed, 0, sizeof damaged / sizeof *damaged);
    suite_add_tcase(s, t);
    return s;
}
