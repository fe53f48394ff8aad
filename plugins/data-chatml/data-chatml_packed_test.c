/* data-chatml_packed_test.c -- gzip and Zstandard files behind the built plugin: damaged ones, ones
 * that are cut, ones that unpack to more than is taken; memory that stays constant.
 *
 * The files: tests/data/rows, made by make.py there. */
#include "plugins/data-chatml/test_host.h"
#include <sys/resource.h>

#define PACKED "tests/data/rows/"

/* ---- packed files ---------------------------------------------------------------------------- */

/* What the plain rows of make.py are, read through the plugin. */
static void wanted(ft_buf *out)
{
    for (int i = 0; i < 200; i++) {
        ft_buf_printf(out, "%s{{row %d ", i ? "\n---\n" : "", i);
        for (int k = 0; k < i % 9; k++) ft_buf_printf(out, "x%d ", i * 7919 % 1000);
        ft_buf_puts(out, "[e]}}");
    }
}

START_TEST(packed_files)
{
    static const char *const files[] = { "rows.jsonl.gz", "rows.jsonl.zst", "members.gz",
                                         "frames.zst" };
    char path[300], failed[2048];
    ft_buf got = { 0 }, want = { 0 };
    wanted(&want);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, PACKED "%s", files[i]);
        read_file_rows(&got, failed, path, "type", "auto", "error");
        ck_assert_msg(!*failed, "%s: %s", files[i], failed);
        ck_assert_str_eq(got.p, want.p);
    }
    ft_buf_free(&got);
    ft_buf_free(&want);
}
END_TEST

/* Cut anywhere, or with a byte changed anywhere, a packed file gives its rows or says what is
 * wrong: it never gives other rows as the last word. */
START_TEST(damaged_packed_files)
{
    static const char *const files[] = { "rows.jsonl.gz", "rows.jsonl.zst", "members.gz",
                                         "frames.zst" };
    ft_buf file = { 0 }, got = { 0 }, want = { 0 };
    char path[300], from[300], failed[2048];
    ft_err e = { 0 };
    wanted(&want);
    snprintf(from, sizeof from, PACKED "%s", files[_i]);
    ck_assert_msg(!ft_file_read(&file, from, 1 << 20, &e), "%s", e.msg);
    for (size_t n = 1; n < file.n; n++) {
        write_as(path, ".bin", file.p, n);
        read_file_rows(&got, failed, path, "type", "auto", "error");
        /* A file that ends where a member ends is a whole file of fewer rows. */
        bool whole = strstr(files[_i], "s.") != NULL && !*failed &&
                     !strncmp(got.p, want.p, got.n) && got.n;
        ck_assert_msg(*failed || whole, "%s: cut at %zu is accepted", files[_i], n);
    }
    for (size_t k = 0; k < file.n; k++) {
        file.p[k] ^= (char)(1 << k % 8);
        write_as(path, ".bin", file.p, file.n);
        read_file_rows(&got, failed, path, "type", "auto", "error");
        ck_assert_msg(*failed || !strcmp(got.p, want.p), "%s: byte %zu changed gives other rows",
                      files[_i], k);
        file.p[k] ^= (char)(1 << k % 8);
    }
    unlink(path);
    ft_buf_free(&file);
    ft_buf_free(&got);
    ft_buf_free(&want);
}
END_TEST

START_TEST(hostile_packed_files)
{
    static const struct { const char *file, *says; } cases[] = {
        { "window.zst", "wants a window above 32 MiB; pack it with zstd -19 or below" },
        { "blank.gz", "more than 16 MiB of white space" },
        { "blank.zst", "more than 16 MiB of white space" },
        { "long.zst", ":1: a row is longer than 1 GiB" },
    };
    char path[300], failed[2048];
    ft_buf got = { 0 };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(path, sizeof path, PACKED "%s", cases[i].file);
        read_file_rows(&got, failed, path, "type", "auto", "skip");
        ck_assert_msg(strstr(failed, cases[i].says) != NULL, "%s: %s", cases[i].file, failed);
    }
    ft_buf_free(&got);
}
END_TEST

#if defined(__SANITIZE_ADDRESS__)
enum { ALL_MEMORY_IS_KEPT = 1 }; /* freed blocks are held back to find what still uses them */
#else
enum { ALL_MEMORY_IS_KEPT = 0 };
#endif

/* A file ten times as long takes no more memory. */
START_TEST(constant_memory)
{
    if (ALL_MEMORY_IS_KEPT) {
        printf("not run: constant memory (the sanitizer keeps what is freed)\n");
        return;
    }
    struct rusage before, after;
    char path[300];
    ft_buf rows = { 0 };
    for (int i = 0; i < 4000; i++)
        ft_buf_printf(&rows, "{\"instruction\": \"question %d\", \"output\": \"%0900d\"}\n", i, i);
    for (int round = 0; round < 2; round++) {
        bench b;
        ft_sample s;
        int n = 0;
        write_as(path, ".jsonl", rows.p, rows.n);
        for (int k = 0; round && k < 9; k++) {
            FILE *f = fopen(path, "ab");
            ck_assert_uint_eq(fwrite(rows.p, 1, rows.n, f), rows.n);
            ck_assert_int_eq(fclose(f), 0);
        }
        if (round) getrusage(RUSAGE_SELF, &before);
        setup(&b, plain, "[e]", "path", path, NULL);
        ck_assert_int_eq(open_bench(&b), 0);
        while (b.format->next(b.self, &s) == 1) n++;
        ck_assert_int_eq(n, round ? 40000 : 4000);
        teardown(&b);
    }
    getrusage(RUSAGE_SELF, &after);
    ck_assert_int_le(after.ru_maxrss - before.ru_maxrss, 2 << 10); /* KiB */
    unlink(path);
    ft_buf_free(&rows);
}
END_TEST

/* A block that is stored as it is. */
static void put_stored(ft_buf *b, const char *text)
{
    uint16_t n = (uint16_t)strlen(text), inverse = (uint16_t)~n;
    ft_buf_putc(b, 0);
    ft_buf_add(b, &n, sizeof n);
    ft_buf_add(b, &inverse, sizeof inverse);
    ft_buf_puts(b, text);
}

/* gzip of stored blocks: head, `repeated` many times, then one of `text`, which says to be longer
 * than it is: the file is cut. */
static void write_cut_gzip(char path[300], const char *ending, const char *head,
                           const char *repeated, const char *text)
{
    ft_buf b = { 0 };
    ft_buf_add(&b, "\x1F\x8B\x08\0\0\0\0\0\0\3", 10);
    if (*head) put_stored(&b, head);
    for (int i = 0; *repeated && i < 30000; i++) put_stored(&b, repeated);
    ft_buf_add(&b, "\1\xE8\x03\x17\xFC", 5); /* 1000 bytes */
    ft_buf_puts(&b, text);
    write_as(path, ending, b.p, b.n);
    ft_buf_free(&b);
}

/* Cut in what is looked at to open the file, and far behind that. */
static const struct { const char *ending, *head, *repeated, *text; } cut[] = {
    { ".jsonl", "", "", "{\"text\": \"a\"}\n" },
    { ".jsonl", "", "", "{\"text\": \"a\"}\n{\"te" },
    { ".jsonl", "", "", "[{\"text\": \"a\"}]" },
    { ".csv", "", "", "te" },
    { ".csv", "", "", "text\na\nb" },
    { ".csv", "", "", "text,x\na,\"b" },
    { ".txt", "", "", "a\nb" },
    { ".txt", "", "", "a\n" },
    { ".jsonl", "", "{\"text\": \"some words\"}\n", "" },
    { ".jsonl", "", "{\"text\": \"some words\"}\n", "{\"te" },
    { ".jsonl", "", "{\"text\": \"some words\"}\n\n\n", "\n" },
    { ".jsonl", "[{\"text\": \"a\"}]", "      ", " " },
    { ".csv", "", "textisalongcolumn", "te" },
    { ".csv", "", "textisalongcolumn", ",\"te" },
    { ".csv", "", "text\n", "a" },
    { ".csv", "", "text\n", "\"a" },
    { ".txt", "", "some words\n", "b" },
    { ".txt", "", "some words\n", "" },
};

START_TEST(files_cut_while_packed)
{
    char path[300], failed[2048], row[100];
    ft_buf got = { 0 };
    write_cut_gzip(path, cut[_i].ending, cut[_i].head, cut[_i].repeated, cut[_i].text);
    read_file_rows(&got, failed, path, "type", "auto", "error");
    ck_assert_msg(strstr(failed, "ends in the middle of its packed data") != NULL, "%s: %s",
                  cut[_i].text, failed);
    snprintf(row, sizeof row, "{{%s[e]}}", cut[_i].text);
    ck_assert_msg(!strstr(got.p, row), "a row that is cut is handed over: %s", row);
    unlink(path);
    ft_buf_free(&got);
}
END_TEST

START_TEST(files_that_cannot_be_read)
{
    char path[300], failed[2048];
    ft_buf got = { 0 };
    read_file_rows(&got, failed, "tests/data", "type", "auto", "error");
    ck_assert_msg(strstr(failed, "tests/data: cannot be read: Is a directory") != NULL, "%s",
                  failed);
    write_as(path, ".jsonl", "\x1F\x8B\x08\0\0\0\0\0\0\3\xFF", 11);
    read_file_rows(&got, failed, path, "type", "auto", "error");
    ck_assert_msg(strstr(failed, "the gzip data is damaged: ") != NULL, "%s", failed);
    unlink(path);
    ft_buf_free(&got);
}
END_TEST

/* Every interface that the plugin wants of its host. */
START_TEST(hosts_that_lack_something)
{
    static const char *const wanted[] = { "ft.json/1", "ft.source/1", "ft.template/1" };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        char says[60], failed[2048];
        ft_buf got = { 0 };
        not_there = wanted[i];
        write_rows(row_path, "{\"text\": \"a\"}\n");
        read_file_rows(&got, failed, row_path, "type", "auto", "error");
        snprintf(says, sizeof says, "this host has no %s", wanted[i]);
        ck_assert_msg(strstr(failed, says) != NULL, "%s: %s", says, failed);
        ft_buf_free(&got);
    }
    not_there = NULL;
}
END_TEST

/* A file that begins with `head` and goes on with one of the packed files: Zstandard frames may
 * stand one after the other, and this one holds its few bytes as they are. */
static void write_behind(char path[300], const char *head, const char *ending, const char *packed)
{
    ft_buf b = { 0 };
    ft_err e = { 0 };
    char from[300];
    const char n = (char)strlen(head), frame[] = { 0x28, (char)0xB5, 0x2F, (char)0xFD, 0x20, n,
                                                   (char)(n << 3 | 1), 0, 0 };
    ft_buf_add(&b, frame, sizeof frame);
    ft_buf_puts(&b, head);
    snprintf(from, sizeof from, PACKED "%s", packed);
    ck_assert_msg(!ft_file_read(&b, from, 1 << 20, &e), "%s", e.msg);
    write_as(path, ending, b.p, b.n);
    ft_buf_free(&b);
}

static const struct { const char *head, *ending, *packed, *says; } long_rows[] = {
    { "[", ".jsonl", "long.zst", ":1: a row is longer than 1 GiB" },
    { "a\n", ".csv", "long.zst", ":2: a row is longer than 1 GiB" },
    { "a\n", ".txt", "long.zst", "a row is longer than 1 GiB" },
    { "{\"text\": \"a\"}\n", ".jsonl", "blank.zst", "more than 16 MiB of white space" },
    { "", ".txt", "blank.zst", "more than 16 MiB of white space" },
    { "[", ".jsonl", "blank.zst", "a row must stand here" },
    { "a,b\n", ".csv", "blank.zst", "more than 8 million blank lines" },
};

START_TEST(rows_beyond_all_bounds)
{
    char path[300], failed[2048];
    ft_buf got = { 0 };
    write_behind(path, long_rows[_i].head, long_rows[_i].ending, long_rows[_i].packed);
    read_file_rows(&got, failed, path, "type", "auto", "skip");
    ck_assert_msg(strstr(failed, long_rows[_i].says) != NULL, "%s: %s", long_rows[_i].says, failed);
    unlink(path);
    ft_buf_free(&got);
}
END_TEST

/* Columns without number, and names and fields that do not end. */
START_TEST(csv_beyond_bounds)
{
    static const char *const says[] = { ":1: more than 1000 columns",
                                        ":1: the names of the columns are longer than 16 MiB",
                                        ":2: the row is longer than 16 MiB" };
    char path[300], failed[2048];
    ft_buf b = { 0 }, got = { 0 };
    for (int i = 0; _i == 0 && i < 1001; i++) ft_buf_printf(&b, "%sc%d", i ? "," : "", i);
    if (_i == 2) ft_buf_puts(&b, "a\n");
    for (int i = 0; _i && i < (16 << 20) + 1; i++) ft_buf_putc(&b, 'x');
    ft_buf_puts(&b, "\n");
    write_as(path, ".csv", b.p, b.n);
    read_file_rows(&got, failed, path, "type", "auto", "error");
    ck_assert_msg(strstr(failed, says[_i]) != NULL, "%s", failed);
    unlink(path);
    ft_buf_free(&b);
    ft_buf_free(&got);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("data-chatml_packed");
    TCase *t = tcase_create("files");
    tcase_add_checked_fixture(t, make_paths, remove_paths);
    tcase_set_timeout(t, 300);
    tcase_add_test(t, packed_files);
    tcase_add_loop_test(t, damaged_packed_files, 0, 4);
    tcase_add_test(t, hostile_packed_files);
    tcase_add_loop_test(t, files_cut_while_packed, 0, sizeof cut / sizeof *cut);
    tcase_add_test(t, files_that_cannot_be_read);
    tcase_add_test(t, hosts_that_lack_something);
    tcase_add_loop_test(t, rows_beyond_all_bounds, 0, sizeof long_rows / sizeof *long_rows);
    tcase_add_loop_test(t, csv_beyond_bounds, 0, 3);
    tcase_add_test(t, constant_memory);
    suite_add_tcase(s, t);
    return s;
}
