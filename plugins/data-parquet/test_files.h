/* test_files.h -- what the tests of data-parquet share: reading a file through the built plugin. */
#ifndef PARQUET_TEST_FILES_H
#define PARQUET_TEST_FILES_H
#include "tests/plugin_host.h"
#include <unistd.h>
#include "ft/data.h"

#define FOLDER "tests/data/parquet/"

/* The rows of the file, a line each; the code of the last next(), or of begin(). */
static inline int read_rows(ft_buf *out, plugin_host *h, const char *path)
{
    ft_bytes row;
    int got = plugin_open(h, "data-parquet", NULL);
    ck_assert_int_eq(got, 0);
    const ft_table *t = h->plugin->vtable;
    out->n = 0;
    ft_buf_puts(out, "");
    got = t->begin(h->self, path);
    while (!got && (got = t->next(h->self, &row)) == 1) {
        ft_buf_add(out, row.p, row.n);
        ft_buf_puts(out, "\n");
        got = 0;
    }
    return got;
}

/* Whether all went well; what failed is in failed. */
static inline bool reads(ft_buf *out, char failed[2048], const char *path)
{
    plugin_host h = { 0 };
    int code = read_rows(out, &h, path);
    snprintf(failed, 2048, "%s", h.err.msg);
    ck_assert_msg((code != 0) == (h.err.code != 0), "code %d and %s", code, h.err.msg);
    plugin_close(&h);
    return !code;
}

static inline void read_whole(ft_buf *out, const char *path)
{
    ft_err e = { 0 };
    ck_assert_msg(!ft_file_read(out, path, 1 << 22, &e), "%s", e.msg);
}

static inline void write_file(char path[200], const ft_buf *b)
{
    ft_err e = { 0 };
    snprintf(path, 200, "/tmp/parquet-test-%d", (int)getpid());
    ck_assert_msg(!ft_file_write(path, b->p, b->n, &e), "%s", e.msg);
}
#endif
