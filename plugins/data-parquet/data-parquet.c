/* data-parquet.c -- rows of Apache Parquet files as JSON, for the format plugins: what the field's
 * data sets are kept in.
 *
 * Reads flat and nested schemas (structs, lists, maps of texts), PLAIN and dictionary encoding,
 * data pages of both versions, Snappy, gzip and Zstandard.  Left out, refused by name: encryption,
 * files in several pieces, Brotli, LZ4 and LZO, delta encodings.
 *
 * Memory: the footer (16 MiB at most), a page and a dictionary of each column, which together may
 * take no more than the file's size and 32 MiB, and a row of 16 MiB.  Time: a file may have 1024
 * values for each of its bytes (and a million); so no few bytes stand for billions of rows. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "parquet.h"

typedef struct {
    const ft_host *host;
    file f;
    footer m;
    column *c;          /* [m.columns] */
    int64_t group, row; /* being read; row: in it */
    int64_t number;     /* of the row in the file, from 1 */
    ft_buf out;
    bool opened, done;
} self_t;

static int fail(self_t *s, int code)
{
    s->done = true;
    return s->host->fail(s->host, code, "%s: %s", s->f.path, s->f.error);
}

static bool claims(const void *start, size_t n)
{
    return n >= 4 && (!memcmp(start, "PAR1", 4) || !memcmp(start, "PARE", 4));
}

/* ---- row groups ------------------------------------------------------------------------------ */

/* The columns of the schema, in order, at the start of row group s->group. */
static void start_group(self_t *s)
{
    const node *n = (const node *)(const void *)s->m.node.p;
    const chunk *k = (const chunk *)(const void *)s->m.chunk.p + s->group * s->m.columns;
    for (size_t i = 0; i < s->m.node.n / sizeof *n; i++) {
        if (!n[i].children) column_start(&s->c[n[i].column], &s->f, &n[i], &k[n[i].column]);
    }
    s->row = 0;
}

/* At the end of a row group nothing may be left in its columns. */
static int end_group(self_t *s)
{
    for (int i = 0; i < s->m.columns; i++) {
        int got = column_look(&s->c[i]);
        if (got < 0) return -1;
        if (got) return file_fail(&s->f, "row group %lld has more values than rows",
                                  (long long)s->group + 1);
    }
    return 0;
}

/* ---- the role -------------------------------------------------------------------------------- */

static int open_file(self_t *s, const char *path)
{
    struct stat st;
    s->f = (file){ .path = path, .fd = open(path, O_RDONLY | O_CLOEXEC) };
    if (s->f.fd < 0 || fstat(s->f.fd, &st)) {
        file_fail(&s->f, "%s", strerror(errno));
        return fail(s, FT_EIO);
    }
    s->f.size = (uint64_t)st.st_size;
    s->f.most = s->f.size + (32u << 20);
    s->f.entries = (1u << 20) + s->f.size * 1024;
    return 0;
}

static int begin(void *self, const char *path)
{
    self_t *s = self;
    s->opened = true;
    int code = open_file(s, path);
    if (code) return code;
    if (footer_read(&s->f, &s->m)) return fail(s, FT_EFORMAT);
    s->c = calloc((size_t)s->m.columns, sizeof *s->c);
    if (!s->c) return s->host->fail(s->host, FT_ENOMEM, "%s: out of memory", path);
    s->group = -1;
    return 0;
}

/* Moves to the next row; 0 when there is none. */
static int advance(self_t *s)
{
    const int64_t *rows = (const int64_t *)(const void *)s->m.rows.p;
    while (s->group < 0 || s->row == rows[s->group]) {
        if (s->group >= 0 && end_group(s)) return -1;
        if (++s->group >= s->m.groups) return 0;
        start_group(s);
    }
    s->row++;
    s->number++;
    return 1;
}

static int next(void *self, ft_bytes *row)
{
    self_t *s = self;
    int got = s->done ? 0 : advance(s);
    if (got == 0) s->done = true;
    s->out.n = 0;
    if (got == 1 && row_write(&s->out, &s->f, &s->m, s->c)) got = -1;
    if (got < 0) return fail(s, FT_EFORMAT);
    if (got == 0) return 0;
    if (s->out.oom) return s->host->fail(s->host, FT_ENOMEM, "out of memory");
    if (s->out.n > MAX_ROW)
        return s->host->fail(s->host, FT_EUNSUP, "the row is longer than %d MiB", MAX_ROW >> 20);
    *row = (ft_bytes){ s->out.p, s->out.n };
    return 1;
}

static int open_(void *self, const ft_host *host, const void *config)
{
    (void)config;
    ((self_t *)self)->host = host;
    return 0;
}

static void close_(void *self)
{
    self_t *s = self;
    for (int i = 0; s->c && i < s->m.columns; i++) column_free(&s->c[i]);
    free(s->c);
    footer_free(&s->m);
    ft_buf_free(&s->out);
    if (s->opened && s->f.fd >= 0) close(s->f.fd);
}

static const ft_table rows = { sizeof(ft_table), claims, begin, next };

static const ft_plugin plugin = {
    .abi = FT_ABI_INIT,
    .role = "ft.table/1",
    .name = "data-parquet",
    .version = "1.0.0",
    .summary = "rows of Apache Parquet files, for data-chatml and other formats",
    .instance_size = sizeof(self_t),
    .open = open_,
    .close = close_,
    .vtable = &rows,
};
FT_PLUGIN(plugin, "data-parquet");
