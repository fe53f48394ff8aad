/* test_shards.c -- checkpoints of several files and their index; the writer: what it writes reads
 * back to the byte, in one file and in shards, and nothing is left of what fails; and the
 * interface that plugins read tensors through. */
#include "folder.h"
#include "harness.h"
#include "safetensors_rules.h"
#include <inttypes.h>
#include <dirent.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include "core/io/dtype.h"
#include "core/io/safetensors_write.h"
#include "core/io/tensors.h"

/* ---- shards --------------------------------------------------------------------------------- */

static void put(const char *name, const ft_buf *b)
{
    ft_err e = { 0 };
    ck_assert_msg(ft_file_write_buf(in_dir(name), b, &e) == 0, "%s", e.msg);
}

static void put_text(const char *name, const char *text)
{
    ft_buf b = { 0 };
    ft_buf_puts(&b, text);
    put(name, &b);
    ft_buf_free(&b);
}

/* A shard with F32[1] tensors of these one-letter names. */
static void put_shard(const char *name, const char *letters)
{
    ft_buf h = { 0 };
    ft_buf_putc(&h, '{');
    for (size_t i = 0; letters[i]; i++)
        ft_buf_printf(&h, "%s\"%c\":" F32("[1]", "[%zu,%zu]"), i ? "," : "", letters[i], 4 * i,
                      4 * i + 4);
    ft_buf_putc(&h, '}');
    ft_buf b = file_of(h.p, h.n, 4 * strlen(letters), -1);
    put(name, &b);
    ft_buf_free(&b);
    ft_buf_free(&h);
}

#define X64 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
typedef struct { const char *index, *says; } index_case;
static const index_case indexes[] = {
    { "{\"metadata\":{\"total_size\":12},\"weight_map\":{\"a\":\"1.safetensors\","
      "\"c\":\"2.safetensors\","
      "\"b\":\"1.safetensors\"}}",
      NULL },
    { "{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\"}}", "does not hold it" },
    { "{\"weight_map\":{\"a\":\"1.safetensors\",\"x\":\"1.safetensors\"}}", "does not hold it" },
    { "{\"weight_map\":{\"a\":\"1.safetensors\",\"a\":\"1.safetensors\"}}", "twice" },
    { "{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"3.safetensors\"}}",
      "twice" }, /* a in 1 and 3 */
    { "{\"weight_map\":{\"a\":\"../1.safetensors\"}}", "plain name" },
    { "{\"weight_map\":{\"a\":\"/tmp/1.safetensors\"}}", "plain name" },
    { "{\"weight_map\":{\"a\":\"sub/1.safetensors\"}}", "plain name" },
    { "{\"weight_map\":{\"a\":\"..\"}}", "plain name" },
    { "{\"weight_map\":{\"a\":\"\"}}", "plain name" },
    { "{\"weight_map\":{\"a\":\".safetensors\"}}", "plain name" },
    { "{\"weight_map\":{\"a\":\"" X64 X64 X64 X64 ".safetensors\"}}", "plain name" },
    { "{\"weight_map\":{\"a\":\"1.safetensors\\u0000x.safetensors\"}}", "plain name" },
    { "{\"weight_map\":{\"a\":\"pytorch_model.bin\"}}", "plain name" },
    { "{\"weight_map\":{\"a\":7}}", "plain name" },
    { "{\"weight_map\":{\"\":\"1.safetensors\"}}", "is empty" },
    { "{\"weight_map\":{\"a\":\"9.safetensors\"}}", "is missing" },
    { "{\"weight_map\":{}}", "missing or empty" },
    { "{\"metadata\":{}}", "missing or empty" },
    { "{\"weight_map\":[]}", "object must stand" },
    { "{\"weight_map\":{\"a\":\"1.safetensors\"},\"weight_map\":{\"b\":\"1.safetensors\"}}",
      "duplicate" },
    { "[]", "object must stand" },
    { "", "object must stand" },
};

START_TEST(test_index)
{
    const index_case *x = &indexes[_i];
    ft_err e = { 0 };
    put_shard("1.safetensors", "ab");
    put_shard("2.safetensors", "c");
    put_shard("3.safetensors", "ba");
    put_text("model.safetensors.index.json", x->index);
    ft_tensors *s = ft_tensors_open_with(dir, FT_TENSORS_STRICT, &e);
    ck_assert_msg((s != NULL) == !x->says, "%s: %s", x->index, e.msg);
    if (x->says) {
        ck_assert_msg(strstr(e.msg, x->says) != NULL, "%s: %s", x->index, e.msg);
        return;
    }
    ck_assert_uint_eq(ft_tensors_count(s), 3);
    ck_assert_str_eq(ft_tensors_at(s, 2)->name, "c");
    ck_assert(((const unsigned char *)ft_tensors_find(s, "b")->data)[3] == 7);
    ft_tensors_close(s);
    s = ft_tensors_open(in_dir("model.safetensors.index.json"), &e);
    ck_assert_msg(s != NULL, "%s", e.msg);
    ft_tensors_close(s);
    /* model.safetensors wins, as in transformers. */
    put_shard("model.safetensors", "q");
    s = ft_tensors_open(dir, &e);
    ck_assert_uint_eq(ft_tensors_count(s), 1);
    ft_tensors_close(s);
}
END_TEST

/* More tensors, and more shards, than are allowed. */
START_TEST(test_large_index)
{
    bool shards = _i == 1;
    ft_err e = { 0 };
    ft_buf b = { 0 };
    char first[4096];
    put_shard("0.safetensors", "a");
    snprintf(first, sizeof first, "%s", in_dir("0.safetensors"));
    ft_buf_puts(&b, "{\"weight_map\":{\"-\":\"0.safetensors\"");
    for (int i = 1; i <= (shards ? 4096 : FT_MAX_TENSORS); i++) {
        char name[32];
        snprintf(name, sizeof name, "%d.safetensors", shards ? i : 0);
        if (shards) ck_assert_int_eq(link(first, in_dir(name)), 0);
        ft_buf_printf(&b, ",\"%d\":\"%s\"", i, name);
    }
    ft_buf_puts(&b, "}}");
    put("model.safetensors.index.json", &b);
    ck_assert_ptr_null(ft_tensors_open(dir, &e));
    ck_assert_msg(strstr(e.msg, shards ? "more than 4096 shards" : "more than the 1048576 tensors"),
                  "%s", e.msg);
    ft_buf_free(&b);
}
END_TEST

START_TEST(test_unlisted_tensor)
{
    ft_err e = { 0 };
    size_t n;
    put_shard("1.safetensors", "ab");
    put_text("model.safetensors.index.json", "{\"weight_map\":{\"a\":\"1.safetensors\"}}");
    ft_tensors *s = ft_tensors_open(dir, &e);
    ck_assert_msg(s != NULL, "%s", e.msg);
    const char *const *w = ft_tensors_warnings(s, &n);
    ck_assert(n == 1 && strstr(w[0], "does not name"));
    ft_tensors_close(s);
    ck_assert_ptr_null(ft_tensors_open_with(dir, FT_TENSORS_STRICT, &e));
    /* A damaged shard is named. */
    put_text("1.safetensors", "12345678");
    e = (ft_err){ 0 };
    ck_assert_ptr_null(ft_tensors_open(dir, &e));
    ck_assert_ptr_nonnull(strstr(e.msg, "/1.safetensors"));
}
END_TEST

/* ---- writing -------------------------------------------------------------------------------- */

/* Contents of byte k of tensor i. */
static unsigned char content(int64_t i, uint64_t k)
{
    return (unsigned char)(k * 7 + (uint64_t)i * 31);
}

/* Writes n bytes of tensor i from byte `from` on. */
static int fill(ft_st_writer *w, int64_t i, uint64_t from, uint64_t n, ft_err *e)
{
    unsigned char p[4096];
    ck_assert_uint_le(n, sizeof p);
    for (uint64_t k = 0; k < n; k++) p[k] = content(i, from + k);
    return ft_st_write(w, i, p, n, e);
}

static const struct {
    const char *name;
    ft_dtype dtype;
    int ndim;
    int64_t dim[3];
} wanted[] = {
    { "odd", FT_U8, 1, { 3 } },
    { "x.weight", FT_F32, 2, { 5, 7 } },
    { "half", FT_F16, 1, { 9 } },
    { "scalar", FT_I64, 0, { 0 } },
    { "empty", FT_F32, 2, { 0, 4 } },
    { "four", FT_F4_E2M1, 1, { 6 } },
    { "name \"q\"\n\xc3\xa9", FT_BF16, 3, { 2, 1, 2 } },
    { "c", FT_C64, 1, { 2 } },
};
enum { N_WANTED = sizeof wanted / sizeof *wanted };

static ft_st_writer *declare_all(ft_err *e)
{
    ft_st_writer *w = ft_st_new(e);
    ck_assert_int_eq(ft_st_note(w, "format", "pt", e), 0);
    ck_assert_int_eq(ft_st_note(w, "quote", "a \"b\"", e), 0);
    for (int64_t i = 0; i < N_WANTED; i++)
        ck_assert_int_eq(
            ft_st_declare(w, wanted[i].name, wanted[i].dtype, wanted[i].dim, wanted[i].ndim, e), i);
    return w;
}

/* All bytes, in pieces, tensors interleaved. */
static void write_all(ft_st_writer *w, ft_err *e)
{
    uint64_t done[N_WANTED] = { 0 };
    for (bool more = true; more;) {
        more = false;
        for (int64_t i = 0; i < N_WANTED; i++) {
            uint64_t bytes, k;
            ck_assert_ptr_null(
                ft_plain_bytes(&bytes, wanted[i].dtype, wanted[i].dim, wanted[i].ndim));
            k = bytes - done[i] < 5 ? bytes - done[i] : 5;
            ck_assert_msg(fill(w, i, done[i], k, e) == 0, "%s", e->msg);
            done[i] += k;
            if (done[i] < bytes) more = true;
        }
    }
}

static void check_all(const char *path)
{
    ft_err e = { 0 };
    ft_tensors *s = ft_tensors_open_with(path, FT_TENSORS_STRICT, &e);
    ck_assert_msg(s != NULL, "%s", e.msg);
    ck_assert_uint_eq(ft_tensors_count(s), N_WANTED);
    ck_assert_str_eq(ft_tensors_note(s, "quote"), "a \"b\"");
    for (int64_t i = 0; i < N_WANTED; i++) {
        const ft_tensor *t = ft_tensors_find(s, wanted[i].name);
        ck_assert(t && t->dtype == wanted[i].dtype && t->ndim == wanted[i].ndim);
        for (int d = 0; d < t->ndim; d++) ck_assert_int_eq(t->dim[d], wanted[i].dim[d]);
        for (uint64_t k = 0; k < t->bytes; k++)
            ck_assert_uint_eq(((const unsigned char *)t->data)[k], content(i, k));
        unsigned align = ft_dtype_bits(t->dtype) / 8; /* files are mapped at pages */
        if (align) ck_assert_uint_eq((uintptr_t)t->data % align, 0);
    }
    ft_tensors_close(s);
}

START_TEST(test_round_trip)
{
    ft_err e = { 0 };
    ft_st_writer *w = declare_all(&e);
    ck_assert_msg(ft_st_begin(w, in_dir("model.safetensors"), 0, &e) == 0, "%s", e.msg);
    ck_assert(!ft_file_exists(in_dir("model.safetensors"))); /* only when it is whole */
    write_all(w, &e);
    ck_assert_msg(ft_st_commit(w, &e) == 0, "%s", e.msg);
    ft_st_free(w);
    check_all(dir);
    ft_buf b = read_whole(in_dir("model.safetensors"));
    uint64_t header;
    memcpy(&header, b.p, 8);
    ck_assert(header % 8 == 0 && b.p[8] == '{');
    ft_buf_free(&b);
}
END_TEST

static int files_in_dir(void)
{
    char command[128];
    int n = -1;
    snprintf(command, sizeof command, "ls -A %s | wc -l", dir);
    FILE *f = popen(command, "r");
    ck_assert_int_eq(fscanf(f, "%d", &n), 1);
    pclose(f);
    return n;
}

START_TEST(test_shards_written)
{
    ft_err e = { 0 };
    put_shard("model.safetensors", "q"); /* of an earlier save: must not win */
    ft_st_writer *w = declare_all(&e);
    ck_assert_msg(ft_st_begin(w, in_dir("model.safetensors"), 64, &e) == 0, "%s", e.msg);
    write_all(w, &e);
    ck_assert_msg(ft_st_commit(w, &e) == 0, "%s", e.msg);
    ft_st_free(w);
    /* odd | x.weight (140 alone) | half scalar empty four bf16 c: 18+8+3+8+16 = 53 */
    ck_assert_int_eq(files_in_dir(), 4);
    ck_assert(ft_file_exists(in_dir("model-00003-of-00003.safetensors")));
    ck_assert(ft_file_exists(in_dir("model.safetensors.index.json")));
    check_all(dir);
}
END_TEST

/* Writing onto the file that the data is mapped from (it must not be emptied first). */
START_TEST(test_rewrite_in_place)
{
    ft_err e = { 0 };
    const char *path = in_dir("a.safetensors");
    put_shard("a.safetensors", "abc");
    for (int round = 0; round < 2; round++) {
        ft_tensors *s = ft_tensors_open(path, &e);
        ft_st_writer *w = ft_st_new(&e);
        for (size_t i = 0; i < 3; i++) {
            const ft_tensor *t = ft_tensors_at(s, i);
            ck_assert_int_eq(ft_st_declare(w, t->name, t->dtype, t->dim, t->ndim, &e), (int64_t)i);
        }
        ck_assert_int_eq(ft_st_begin(w, path, 0, &e), 0);
        for (size_t i = 0; i < 3; i++)
            ck_assert_int_eq(ft_st_write(w, (int64_t)i, ft_tensors_at(s, i)->data, 4, &e), 0);
        ck_assert_msg(ft_st_commit(w, &e) == 0, "%s", e.msg);
        ft_st_free(w);
        /* The old file still stands behind its mapping. */
        ck_assert(((const char *)ft_tensors_find(s, "c")->data)[3] == 11);
        ft_tensors_close(s);
    }
    ft_tensors *s = ft_tensors_open(path, &e);
    ck_assert(((const char *)ft_tensors_find(s, "c")->data)[3] == 11);
    ft_tensors_close(s);
}
END_TEST

START_TEST(test_writer_refusals)
{
    ft_err e = { 0 };
    int64_t d[9] = { 1, 1, 1, 1, 1, 1, 1, 1, 1 }, negative = -1, three = 3,
            huge[2] = { INT64_MAX, 4 };
    ft_st_writer *w = ft_st_new(&e);
    ck_assert_int_lt(ft_st_declare(w, "", FT_F32, d, 1, &e), 0);
    ck_assert_int_lt(ft_st_declare(w, "\xff", FT_F32, d, 1, NULL), 0);
    ck_assert_int_lt(ft_st_declare(w, "__metadata__", FT_F32, d, 1, NULL), 0);
    ck_assert_int_lt(ft_st_declare(w, "a", FT_F32, d, 9, NULL), 0);
    ck_assert_int_lt(ft_st_declare(w, "a", FT_NO_DTYPE, d, 1, NULL), 0);
    e = (ft_err){ 0 };
    ck_assert_int_lt(ft_st_declare(w, "a", FT_F32, &negative, 1, &e), 0);
    ck_assert_ptr_nonnull(strstr(e.msg, "a dimension is negative"));
    ck_assert_int_lt(ft_st_declare(w, "a", FT_F4_E2M1, &three, 1, NULL), 0);
    ck_assert_int_lt(ft_st_declare(w, "a", FT_F32, huge, 2, NULL), 0);
    ck_assert_int_eq(ft_st_note(w, "k", "v", NULL), 0);
    ck_assert_int_lt(ft_st_note(w, "k", "w", NULL), 0);
    ck_assert_int_lt(ft_st_commit(w, NULL), 0);
    ck_assert_int_lt(ft_st_write(w, 0, "", 0, NULL), 0);
    ck_assert_int_eq(ft_st_declare(w, "a", FT_F32, d, 1, NULL), 0);
    ck_assert_int_eq(ft_st_declare(w, "b", FT_F32, d, 1, NULL), 1);
    e = (ft_err){ 0 };
    ck_assert_int_eq(ft_st_begin(w, in_dir("x.safetensors"), 0, &e), 0);
    ck_assert_int_lt(ft_st_declare(w, "c", FT_F32, d, 1, NULL), 0);
    ck_assert_int_lt(ft_st_write(w, 2, "1234", 4, NULL), 0);
    ck_assert_int_lt(ft_st_write(w, 0, "12345", 5, NULL), 0);
    ck_assert_int_eq(ft_st_write(w, 0, "1234", 4, NULL), 0);
    ck_assert_int_lt(ft_st_write(w, 0, "1", 1, NULL), 0);
    ck_assert_int_lt(ft_st_commit(w, &e), 0);
    ck_assert_ptr_nonnull(strstr(e.msg, "only 0 of 4 bytes of tensor \"b\""));
    ft_st_free(w);
    ck_assert_int_eq(files_in_dir(), 0); /* nothing is left */
    w = ft_st_new(&e);
    ft_st_declare(w, "a", FT_F32, d, 1, NULL);
    ft_st_declare(w, "a", FT_F32, d, 1, NULL);
    e = (ft_err){ 0 };
    ck_assert_int_lt(ft_st_begin(w, in_dir("x.safetensors"), 0, &e), 0);
    ck_assert_ptr_nonnull(strstr(e.msg, "twice"));
    ft_st_free(w);
    w = ft_st_new(&e);
    ft_st_declare(w, "a", FT_F32, d, 1, NULL);
    ft_st_declare(w, "b", FT_F32, d, 1, NULL);
    ck_assert_int_lt(ft_st_begin(w, in_dir("x.bin"), 4, NULL), 0);
    ft_st_free(w);
    ck_assert_int_eq(files_in_dir(), 0);
}
END_TEST

/* A disk that is too small is refused before the first byte of data */
START_TEST(test_no_room)
{
    ft_err e = { 0 };
    int64_t n = (int64_t)1 << 60;
    ft_st_writer *w = ft_st_new(&e);
    ck_assert_int_eq(ft_st_declare(w, "a", FT_U8, &n, 1, &e), 0);
    ck_assert_int_lt(ft_st_begin(w, in_dir("x.safetensors"), 0, &e), 0);
    ck_assert_msg(strstr(e.msg, "do not fit on the disk") != NULL, "%s", e.msg);
    ft_st_free(w);
    ck_assert_int_eq(files_in_dir(), 0);
}
END_TEST

/* ---- the interface for plugins --------------------------------------------------------------- */

static int failed_with;
static char failed_text[256];
static int warned;

__attribute__((format(printf, 3, 4)))
static int host_fail(const ft_host *h, int code, const char *fmt, ...)
{
    (void)h;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(failed_text, sizeof failed_text, fmt, ap);
    va_end(ap);
    return failed_with = code;
}

__attribute__((format(printf, 3, 4)))
static void host_log(const ft_host *h, ft_level level, const char *fmt, ...)
{
    (void)h;
    (void)fmt;
    warned += level == FT_WARN;
}

START_TEST(test_interface)
{
    const ft_tensors_api *api = &ft_tensors_interface;
    ft_host host = { .size = sizeof host, .fail = host_fail, .log = host_log };
    ck_assert_ptr_null(api->open(&host, "/nonexistent"));
    ck_assert(failed_with == FT_EIO && strstr(failed_text, "/nonexistent"));
    put_shard("1.safetensors", "ab");
    put_text("model.safetensors.index.json", "{\"weight_map\":{\"a\":\"1.safetensors\"}}");
    ft_tensors *s = api->open(&host, dir);
    ck_assert_int_eq(warned, 1);
    ck_assert(api->count(s) == 2 && api->at(s, 0) == api->find(s, "a"));
    ck_assert(!api->note(s, "x") && !api->meta(s, "x") && !api->find(s, "x"));
    api->close(s);
    api->close(NULL);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("shards");
    TCase *f = tcase_create("files");
    tcase_set_timeout(f, 300);
    tcase_add_checked_fixture(f, make_dir, remove_dir);
    tcase_add_loop_test(f, test_index, 0, sizeof indexes / sizeof *indexes);
    tcase_add_loop_test(f, test_large_index, 0, 2);
    tcase_add_test(f, test_unlisted_tensor);
    tcase_add_test(f, test_round_trip);
    tcase_add_test(f, test_shards_written);
    tcase_add_test(f, test_rewrite_in_place);
    tcase_add_test(f, test_writer_refusals);
    tcase_add_test(f, test_no_room);
    tcase_add_test(f, test_interface);
    suite_add_tcase(s, f);
    return s;
}
