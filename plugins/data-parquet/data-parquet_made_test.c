/* data-parquet_made_test.c -- Parquet files of the test's own making, a footer and pages in
 * Thrift's compact protocol: each departs from a good one in one point, and few bytes may not stand
 * for many. */
#include "plugins/data-parquet/test_files.h"
#include <fcntl.h>

static void varint(ft_buf *b, uint64_t v)
{
    for (; v >= 128; v >>= 7) ft_buf_putc(b, (char)(v | 128));
    ft_buf_putc(b, (char)v);
}

/* Field `id` (after `last`) as an i64; returns id. */
static int put_int(ft_buf *b, int last, int id, int64_t v)
{
    ft_buf_putc(b, (char)((id - last) << 4 | 6));
    varint(b, (uint64_t)v << 1 ^ (uint64_t)(v >> 63));
    return id;
}

static void put_name(ft_buf *b, int last, const char *s)
{
    ft_buf_putc(b, (char)((4 - last) << 4 | 8));
    varint(b, strlen(s));
    ft_buf_puts(b, s);
}

static void put_list(ft_buf *b, int last, int id, size_t n)
{
    ft_buf_putc(b, (char)((id - last) << 4 | 9));
    ft_buf_putc(b, (char)((n < 15 ? n : 15) << 4 | 12));
    if (n >= 15) varint(b, n);
}

enum { BOOLEAN = -1, GROUP = -2 }; /* a type whose number is 0; none */

/* One optional text column "text": what departs from a good file. */
typedef struct {
    const char *what, *says; /* says NULL: good */
    const char *name;
    int64_t columns, type, rep, length, below, children; /* of the schema; 0: right ones */
    int64_t rows, values, packed, unpacked, page_values, at, size, codec, encoding;
    int64_t chunks, dictionary, crc; /* dictionary: words that the page says to have, less one */
    int64_t def_encoding, def_bytes, rep_bytes, pages; /* a page of version 2 has def_bytes */
    bool elsewhere;
    const char *page;        /* instead of the good one */
    int page_n;
    size_t groups;
    int64_t footer;          /* its length, as written behind it */
} made;

/* Two rows, null and "ab": 4 bytes and levels 0, 1 (one packed group), then the text. */
static const char good_page[] = "\2\0\0\0\3\2\2\0\0\0ab";
enum { GOOD_PAGE = sizeof good_page - 1 };

static int64_t given(int64_t v, int64_t usual) { return v ? v : usual; }

static void put_page(ft_buf *b, const made *m)
{
    const char *page = m->page ? m->page : good_page;
    int n = m->page ? m->page_n : GOOD_PAGE;
    int last = put_int(b, 0, 1, m->dictionary ? 2 : m->def_bytes ? 3 : 0);
    last = put_int(b, last, 2, given(m->unpacked, n));
    last = put_int(b, last, 3, given(m->packed, n));
    if (m->crc) last = put_int(b, last, 4, m->crc);
    ft_buf_putc(b, (char)(((m->dictionary ? 7 : m->def_bytes ? 8 : 5) - last) << 4 | 12));
    last = put_int(b, 0, 1, m->dictionary ? m->dictionary - 1
                                          : given(m->page_values, given(m->rows, 2)));
    if (m->def_bytes) {
        last = put_int(b, last, 4, m->encoding);
        last = put_int(b, last, 5, m->def_bytes);
        put_int(b, last, 6, m->rep_bytes);
    } else {
        last = put_int(b, last, 2, m->encoding);
        last = put_int(b, last, 3, given(m->def_encoding, 3));
        put_int(b, last, 4, 3);
    }
    ft_buf_putc(b, 0);
    ft_buf_putc(b, 0);
    ft_buf_add(b, page, (size_t)n);
}

static void put_schema(ft_buf *b, const made *m)
{
    int last = put_int(b, 0, 1, 1);
    put_list(b, last, 2, 1 + (size_t)given(m->columns, 1));
    put_name(b, 0, "schema");
    put_int(b, 4, 5, given(m->children, given(m->columns, 1)));
    ft_buf_putc(b, 0);
    for (int64_t i = 0; i < given(m->columns, 1); i++) {
        last = m->type == GROUP ? 0 : put_int(b, 0, 1, m->type == BOOLEAN ? 0 : given(m->type, 6));
        if (m->length) last = put_int(b, last, 2, m->length);
        last = put_int(b, last, 3, given(m->rep, 1));
        put_name(b, last, m->name ? m->name : "text");
        last = m->below ? put_int(b, 4, 5, m->below) : 4;
        put_int(b, last, 6, 0);
        ft_buf_putc(b, 0);
    }
}

static void put_chunk(ft_buf *b, const made *m, size_t page_bytes)
{
    if (m->elsewhere) ft_buf_add(b, "\x18\1x", 3);
    ft_buf_putc(b, (char)((m->elsewhere ? 2 : 3) << 4 | 12)); /* a column chunk's meta data */
    int last = put_int(b, 0, 1, 6);
    last = put_int(b, last, 4, m->codec);
    last = put_int(b, last, 5, given(m->values, given(m->rows, 2)));
    last = put_int(b, last, 7, given(m->size, (int64_t)page_bytes));
    put_int(b, last, 9, given(m->at, 4));
    ft_buf_putc(b, 0);
    ft_buf_putc(b, 0);
}

static void put_group(ft_buf *b, const made *m, size_t page_bytes)
{
    put_list(b, 0, 1, (size_t)given(m->chunks, 1));
    for (int64_t i = 0; i < given(m->chunks, 1); i++) put_chunk(b, m, page_bytes);
    put_int(b, 1, 3, given(m->rows, 2));
    ft_buf_putc(b, 0);
}

static ft_buf make_file(const made *m)
{
    ft_buf b = { 0 };
    size_t groups = m->groups ? m->groups : 1;
    ft_buf_puts(&b, "PAR1");
    for (int64_t i = 0; i < given(m->pages, 1); i++) put_page(&b, m);
    size_t page_bytes = b.n - 4, from = b.n;
    put_schema(&b, m);
    int last = put_int(&b, 2, 3, given(m->rows, 2));
    put_list(&b, last, 4, groups);
    for (size_t i = 0; i < groups; i++) put_group(&b, m, page_bytes);
    ft_buf_putc(&b, 0);
    uint32_t n = (uint32_t)given(m->footer, (int64_t)(b.n - from));
    ft_buf_add(&b, &n, 4);
    ft_buf_puts(&b, "PAR1");
    return b;
}

#define PAGE(text) .page = text, .page_n = sizeof text - 1
static const char long_name[] =
    "a name of more than the 512 bytes that a column's name may have, said again and again: "
    "a name of more than the 512 bytes that a column's name may have, said again and again: "
    "a name of more than the 512 bytes that a column's name may have, said again and again: "
    "a name of more than the 512 bytes that a column's name may have, said again and again: "
    "a name of more than the 512 bytes that a column's name may have, said again and again: "
    "a name of more than the 512 bytes that a column's name may have, said again and again";
enum { CRC = 476886435 }; /* of good_page */
#define MUCH ((int64_t)1 << 40)
static const made cases[] = {
    { .what = "good" },
    { .what = "groups", .groups = 3 },
    { .what = "required", .rep = -1, .says = "schema that is wrong" },
    { .what = "repeated more than that", .rep = 3, .says = "schema that is wrong" },
    { .what = "children of a column", .below = 1, .says = "schema that is wrong" },
    { .what = "negative children", .children = -1, .says = "schema that is wrong" },
    { .what = "children beyond all columns", .children = 10001, .says = "schema that is wrong" },
    { .what = "negative length", .length = -1, .says = "schema that is wrong" },
    { .what = "length beyond a row", .length = (16 << 20) + 1, .says = "schema that is wrong" },
    { .what = "a group of nothing", .type = GROUP, .says = "an empty group" },
    { .what = "columns elsewhere", .elsewhere = true, .says = "lie in other files" },
    { .what = "column at the file's start", .at = 3, .says = "exceeds the file" },
    { .what = "column of a negative size", .size = -1, .says = "exceeds the file" },
    { .what = "column of negative values", .values = -1, .says = "exceeds the file" },
    { .what = "levels of old", .def_encoding = 4, .says = "packed in a way of old" },
    { .what = "version 2", .def_bytes = 2, PAGE("\3\2\2\0\0\0ab") },
    { .what = "negative bytes of repetitions", .rep_bytes = -1, .def_bytes = 3,
      .says = "a page's header is wrong" },
    { .what = "negative bytes of definitions", .rep_bytes = 3, .def_bytes = -1,
      .says = "a page's header is wrong" },
    { .what = "levels longer than the page", .def_bytes = 100, .unpacked = 200,
      .says = "a page's header is wrong" },
    { .what = "levels longer than it unpacks to", .def_bytes = 6, .unpacked = 2,
      .says = "a page's header is wrong" },
    { .what = "two dictionaries", .dictionary = 2, .pages = 2, PAGE("\1\0\0\0a"),
      .says = "two dictionaries" },
    { .what = "indices of 33 bits", .encoding = 8, PAGE("\2\0\0\0\3\2\41"),
      .says = "more than 32 bits" },
    { .what = "repetitions missing", .rep = 2, PAGE("\0\0\0\0\2\0\0\0\3\2\2\0\0\0ab"),
      .says = "levels are damaged" },
    { .what = "a row that begins in a list", .rep = 2,
      PAGE("\2\0\0\0\3\3\2\0\0\0\3\2\2\0\0\0ab"), .says = "do not agree on where" },
    { .what = "codec before the first", .codec = -1, .says = "not known" },
    { .what = "page unpacks to more than 32 bits", .unpacked = (int64_t)1 << 33,
      .says = "exceeds its column" },
    { .what = "unknown type", .type = 8, .says = "schema that is wrong" },
    { .what = "long name", .name = long_name, .says = "schema that is wrong" },
    { .what = "many columns", .columns = 10000, .says = "schema that is wrong" },
    { .what = "two roots", .columns = 2, .children = 1, .says = "two roots" },
    { .what = "fewer columns", .children = 2, .says = "schema ends too early" },
    { .what = "columns of a group", .columns = 2, .says = "has 1 columns where the schema has 2" },
    { .what = "column before the file", .at = -8, .says = "exceeds the file" },
    { .what = "column past the file", .at = MUCH, .says = "exceeds the file" },
    { .what = "column longer than the file", .size = MUCH, .says = "exceeds the file" },
    { .what = "column size wraps", .size = INT64_MAX, .says = "exceeds the file" },
    { .what = "column ends inside its page", .size = 20, .says = "" },
    { .what = "rows without values", .rows = 3, .values = 2, .page_values = 2,
      .says = "do not agree on where rows" },
    { .what = "values without rows", .rows = 1, .values = 2, .page_values = 2,
      .says = "more values than rows" },
    { .what = "pages with more values", .values = 1, .page_values = 2, .says = "more values than" },
    { .what = "pages with fewer values", .values = 3, .rows = 3, .page_values = 2,
      .says = "fewer values than it says" },
    { .what = "billions of rows", .rows = MUCH, PAGE("\7\0\0\0\200\200\200\200\200\100\0"),
      .says = "more values than a file of" },
    { .what = "negative rows", .rows = -1, .says = "without a number of rows" },
    { .what = "page unpacks to much", .codec = 1, .unpacked = 1 << 30, .says = "MiB that a file" },
    { .what = "page longer than its column", .packed = MUCH, .says = "exceeds its column" },
    { .what = "negative page", .packed = -5, .says = "exceeds its column" },
    { .what = "page's header cut", .size = 5, .says = "page's header is malformed" },
    { .what = "negative size unpacked", .unpacked = -5, .says = "exceeds its column" },
    { .what = "check sum", .crc = CRC },
    { .what = "another check sum", .crc = CRC + 1, .says = "check sum is wrong" },
    { .what = "dictionary alone", .dictionary = 1, .says = "fewer values than it says" },
    { .what = "dictionary of booleans", .type = BOOLEAN, .dictionary = 2,
      .says = "dictionary is damaged" },
    { .what = "dictionary of too many", .dictionary = 4, .says = "dictionary is damaged" },
    { .what = "dictionary with a negative number", .dictionary = -5,
      .says = "dictionary is damaged" },
    { .what = "dictionary's word past its end", .dictionary = 2, PAGE("\5\0\0\0abcd"),
      .says = "dictionary is damaged" },
    { .what = "sizes differ", .unpacked = 5, .says = "has two sizes" },
    { .what = "codec", .codec = 8, .says = "not known" },
    { .what = "LZO", .codec = 3, .says = "LZO" },
    { .what = "snappy damaged", .codec = 1, .says = "Snappy data is damaged" },
    { .what = "gzip damaged", .codec = 2, .says = "gzip data is damaged" },
    { .what = "zstd damaged", .codec = 6, .says = "Zstandard data is damaged" },
    { .what = "encoding", .encoding = 9, .says = "encoding 9 is not supported" },
    { .what = "dictionary that is not there", .encoding = 8, .says = "values are damaged" },
    { .what = "levels past the page", PAGE("\377\0\0\0\3\2\2\0\0\0ab"), .says = "ends too early" },
    { .what = "levels cut", PAGE("\2\0"), .says = "ends too early" },
    { .what = "level above the most", PAGE("\2\0\0\0\4\5"), .says = "levels are damaged" },
    { .what = "level missing", PAGE("\0\0\0\0\2\0\0\0ab"), .says = "levels are damaged" },
    { .what = "text past the page", PAGE("\2\0\0\0\3\2\3\0\0\0ab"), .says = "values are damaged" },
    { .what = "text length wraps", PAGE("\2\0\0\0\3\2\377\377\377\377ab"),
      .says = "values are damaged" },
    { .what = "text missing", PAGE("\2\0\0\0\3\2"), .says = "values are damaged" },
    { .what = "footer longer than the file", .footer = 10000, .says = "exceeds the file" },
    { .what = "footer of nothing", .footer = 1, .says = "no schema" },
    { .what = "footer cut", .footer = 20, .says = "" },
};
enum { N_CASES = sizeof cases / sizeof *cases };

START_TEST(made_here)
{
    const made *m = &cases[_i];
    char path[200], failed[2048];
    ft_buf got = { 0 }, b = make_file(m);
    write_file(path, &b);
    bool good = reads(&got, failed, path);
    ck_assert_msg(good == !m->says, "%s: %s", m->what, good ? got.p : failed);
    if (m->says) ck_assert_msg(strstr(failed, m->says) != NULL, "%s: %s", m->what, failed);
    static const char two[] = "{\"text\": null}\n{\"text\": \"ab\"}\n";
    if (!m->says) ck_assert_msg(!strncmp(got.p, two, sizeof two - 1), "%s", got.p);
    unlink(path);
    ft_buf_free(&got);
    ft_buf_free(&b);
}
END_TEST

/* A page that says to have 2^32 bytes, in a file that has them: a hole. */
START_TEST(page_beyond_32_bits)
{
    const int64_t hole = (int64_t)1 << 32;
    const made m = { .packed = hole, .size = hole + 100 };
    char path[200], failed[2048];
    uint32_t n;
    ft_buf got = { 0 }, b = make_file(&m);
    write_file(path, &b);
    memcpy(&n, b.p + b.n - 8, sizeof n);
    int fd = open(path, O_WRONLY);
    ck_assert_int_eq(pwrite(fd, b.p + b.n - 8 - n, n + 8, hole + 200), n + 8);
    ck_assert_int_eq(close(fd), 0);
    ck_assert(!reads(&got, failed, path));
    ck_assert_msg(strstr(failed, "a page exceeds its column") != NULL, "%s", failed);
    unlink(path);
    ft_buf_free(&got);
    ft_buf_free(&b);
}
END_TEST

/* Footers, and whole files, that are these bytes. */
static const struct { const char *bytes; size_t n; const char *says; } raw[] = {
#define RAW(text) text, sizeof text - 1
    { RAW("\x29\x15\2\0"), "has a list of a wrong type" },
    { RAW("\x29\xFC\xFF\x7F\0"), "has a list that exceeds it" },
    { RAW("\x29\x1C\x48\x7F\0\0"), "has a text that exceeds it" },
    { RAW("\xFB\x7F\x88\0"), "has a map that exceeds it" },
    { RAW("\x25\2\0"), "has a field of a wrong type" },
    { RAW("\xF7\0\0\0\0\0\0\0"), "ends too early" },
    { RAW("\xFC\x1C\x1C\x1C\x1C\x1C\x1C\x1C\x1C\x1C\x1C\x1C\x1C\x1C\x1C\x1C\x1C\x1C\x1C\x1C\x1C"
          "\x1C\x1C\x1C\x1C\x1C\x1C\x1C\x1C\x1C\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
      "is nested too deep" },
    { RAW("\x8C\0\0"), "it is encrypted" },
    { RAW("\x29\x1C\x15\x0C\0\0"), "its schema has no columns" },
};

START_TEST(footers)
{
    char path[200], failed[2048];
    ft_buf got = { 0 }, b = { 0 };
    const uint32_t n = (uint32_t)raw[_i].n;
    ft_buf_puts(&b, "PAR1");
    ft_buf_add(&b, raw[_i].bytes, n);
    ft_buf_add(&b, &n, 4);
    ft_buf_puts(&b, "PAR1");
    write_file(path, &b);
    ck_assert(!reads(&got, failed, path));
    ck_assert_msg(strstr(failed, raw[_i].says) != NULL, "%d: %s", _i, failed);
    unlink(path);
    ft_buf_free(&b);
    ft_buf_free(&got);
}
END_TEST

/* Groups within groups, 33 deep. */
START_TEST(schema_that_is_deep)
{
    char path[200], failed[2048];
    ft_buf got = { 0 }, b = { 0 };
    ft_buf_puts(&b, "PAR1");
    put_list(&b, 0, 2, 35);
    for (int i = 0; i < 35; i++) {
        if (i < 34) put_int(&b, 0, 5, 1);
        else put_int(&b, 0, 1, 6);
        ft_buf_putc(&b, 0);
    }
    ft_buf_putc(&b, 0);
    const uint32_t n = (uint32_t)(b.n - 4);
    ft_buf_add(&b, &n, 4);
    ft_buf_puts(&b, "PAR1");
    write_file(path, &b);
    ck_assert(!reads(&got, failed, path));
    ck_assert_msg(strstr(failed, "nested too deep") != NULL, "%s", failed);
    unlink(path);
    ft_buf_free(&b);
    ft_buf_free(&got);
}
END_TEST

/* Ends of files: too short, encrypted, a footer above 16 MiB in a file that could hold it; and a
 * folder, which opens and cannot be read. */
START_TEST(files_by_their_end)
{
    static const struct { int zeros; const char *end; const char *says; } ends[] = {
        { 0, "PAR1PAR1", "8 bytes are too few" },
        { 20, "\1\1\1\1PARE", "it is encrypted" },
        { 18 << 20, "\1\1\1\1PAR1", "exceeds 16 MiB" },
    };
    char path[200], failed[2048];
    ft_buf got = { 0 };
    for (size_t i = 0; i < 3; i++) {
        ft_buf b = { 0 };
        ck_assert_ptr_nonnull(ft_buf_grow(&b, (size_t)ends[i].zeros));
        if (b.n) memset(b.p, 0, b.n);
        ft_buf_puts(&b, ends[i].end);
        write_file(path, &b);
        ck_assert(!reads(&got, failed, path));
        ck_assert_msg(strstr(failed, ends[i].says) != NULL, "%s", failed);
        ft_buf_free(&b);
    }
    unlink(path);
    ck_assert(!reads(&got, failed, "tests/data"));
    ck_assert_msg(strstr(failed, "cannot be read: Is a directory") != NULL, "%s", failed);
    ft_buf_free(&got);
}
END_TEST

/* A text of 17 MiB, packed. */
START_TEST(a_row_that_is_long)
{
    enum { TEXT = 17 << 20, HEAD = 11 };
    const uint32_t length = TEXT;
    char path[200], failed[2048], head[HEAD] = "\2\0\0\0\3\2....a";
    ft_buf got = { 0 }, page = { 0 };
    memcpy(head + 6, &length, 4);
    varint(&page, TEXT + HEAD - 1);
    ft_buf_putc(&page, (HEAD - 1) << 2);
    ft_buf_add(&page, head, HEAD);
    for (int n, left = TEXT - 1; left; left -= n) {
        n = left < 64 ? left : 64;
        ft_buf_putc(&page, (char)((n - 1) << 2 | 2));
        ft_buf_add(&page, "\1", 2);
    }
    made m = { .codec = 1, .unpacked = TEXT + HEAD - 1, .page = page.p, .page_n = (int)page.n };
    ft_buf b = make_file(&m);
    write_file(path, &b);
    ck_assert(!reads(&got, failed, path));
    ck_assert_msg(strstr(failed, "the row is longer than 16 MiB") != NULL, "%s", failed);
    unlink(path);
    ft_buf_free(&b);
    ft_buf_free(&page);
    ft_buf_free(&got);
}
END_TEST

/* Two columns whose pages unpack to 20 MiB each: one page may stand in memory, both may not. */
START_TEST(pages_that_are_large_together)
{
    enum { LARGE = 20 << 20 };
    char path[200], failed[2048];
    ft_buf got = { 0 }, page = { 0 };
    varint(&page, LARGE);
    ft_buf_putc(&page, (GOOD_PAGE - 1) << 2); /* Snappy: that many bytes, then 64 or less again */
    ft_buf_add(&page, good_page, GOOD_PAGE);
    for (int n, left = LARGE - GOOD_PAGE; left; left -= n) {
        n = left < 64 ? left : 64;
        ft_buf_putc(&page, (char)((n - 1) << 2 | 2));
        ft_buf_add(&page, "\1", 2);
    }
    for (int columns = 1; columns <= 2; columns++) {
        made m = { .columns = columns, .chunks = columns, .codec = 1, .unpacked = LARGE,
                   .page = page.p, .page_n = (int)page.n };
        ft_buf b = make_file(&m);
        write_file(path, &b);
        bool good = reads(&got, failed, path);
        ck_assert_msg(good == (columns == 1), "%s", good ? got.p : failed);
        if (!good) ck_assert_msg(strstr(failed, "MiB that a file") != NULL, "%s", failed);
        ft_buf_free(&b);
    }
    unlink(path);
    ft_buf_free(&got);
    ft_buf_free(&page);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("data-parquet_made");
    TCase *t = tcase_create("parquet");
    tcase_set_timeout(t, 300);
    tcase_add_loop_test(t, made_here, 0, N_CASES);
    tcase_add_test(t, page_beyond_32_bits);
    tcase_add_loop_test(t, footers, 0, sizeof raw / sizeof *raw);
    tcase_add_test(t, schema_that_is_deep);
    tcase_add_test(t, files_by_their_end);
    tcase_add_test(t, a_row_that_is_long);
    tcase_add_test(t, pages_that_are_large_together);
    suite_add_tcase(s, t);
    return s;
}
