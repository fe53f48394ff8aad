/* test_safetensors.c -- the safetensors reader against one file for every rule of the format, every
 * truncation and every flipped bit of a header; shards; and the writer. */
#include "harness.h"
#include "safetensors_rules.h"
#include <inttypes.h>
#include <math.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/io/dtype.h"
#include "core/io/safetensors_write.h"
#include "core/io/tensors.h"

static char dir[64]; /* a folder for this test */

static void make_dir(void)
{
    snprintf(dir, sizeof dir, "/tmp/ft-safetensors-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void remove_dir(void) { ck_assert_int_eq(ft_remove_tree(dir, NULL), 0); }

static const char *in_dir(const char *name)
{
    static char path[4][256];
    static int next;
    next = (next + 1) % 4;
    snprintf(path[next], sizeof path[next], "%s/%s", dir, name);
    return path[next];
}

/* ---- files made here ----------------------------------------------------------------------- */

/* Opens n bytes from a block of exactly that size, so that a byte read past it is caught. */
static ft_tensors *open_bytes(const void *p, size_t n, unsigned flags, ft_err *e)
{
    char *exact = malloc(n ? n : 1);
    if (n) memcpy(exact, p, n);
    *e = (ft_err){ 0 };
    ft_tensors *s = ft_tensors_parse("x.safetensors", exact, n, flags, e);
    /* Everything that was promised can be touched. */
    volatile char sum = 0;
    for (size_t i = 0; s && i < ft_tensors_count(s); i++) {
        const ft_tensor *t = ft_tensors_at(s, i);
        for (uint64_t k = 0; k < t->bytes; k++) sum = (char)(sum + ((const char *)t->data)[k]);
        ck_assert_ptr_eq(ft_tensors_find(s, t->name), t);
    }
    if (s) ft_tensors_close(s);
    free(exact);
    return s; /* only whether it is NULL */
}

START_TEST(test_rules)
{
    const rule *r = &rules[_i];
    ft_err e;
    ft_buf b = file_of(r->header, strlen(r->header), r->data, -1);
    /* "{} \0" stands for a real zero byte. */
    char *zero = memmem(b.p, b.n, "\\0", 2);
    if (zero && !strncmp(r->rule, "5 a zero", 8)) memcpy(zero, "\0 ", 2);
    bool open = open_bytes(b.p, b.n, 0, &e) != NULL;
    ck_assert_msg(open == !r->says, "rule %s: %s", r->rule, open ? "accepted" : e.msg);
    if (r->says) {
        ck_assert_msg(strstr(e.msg, r->says) && !strncmp(e.msg, "x.safetensors", 13), "rule %s: %s",
                      r->rule, e.msg);
        ck_assert_int_lt(e.code, 0);
    }
    ft_buf_free(&b);
}
END_TEST

/* Rules 1, 2, 3: the length field. */
START_TEST(test_rules_of_length)
{
    ft_err e;
    char small[8] = { 0 };
    for (size_t n = 0; n < 8; n++) {
        ck_assert(!open_bytes(small, n, 0, &e));
        ck_assert_ptr_nonnull(strstr(e.msg, "too few"));
    }
    static const struct { int64_t length; const char *says; } bad[] = {
        { 100000001, "exceeds the 100000000" }, { INT64_MAX, "exceeds the 100000000" },
        { 3, "exceeds the file" }, { 100000000, "exceeds the file" },
    };
    for (size_t i = 0; i < 4; i++) {
        ft_buf b = file_of("{}", 2, 0, bad[i].length);
        ck_assert(!open_bytes(b.p, b.n, 0, &e));
        ck_assert_msg(strstr(e.msg, bad[i].says) != NULL, "%s", e.msg);
        ft_buf_free(&b);
    }
    unsigned char all[10] = { 255, 255, 255, 255, 255, 255, 255, 255, '{', '}' };
    ck_assert(!open_bytes(all, 10, 0, &e)); /* N + 8 wraps */
}
END_TEST

/* Rule 12: a warning, an error when strict. */
START_TEST(test_strict)
{
    static const char h[] =
        "{\"a\":{\"dtype\":\"F32\",\"x\":{\"y\":[]},\"shape\":[1],\"data_offsets\":[0,4]}}";
    ft_err e = { 0 };
    size_t n;
    ft_buf b = file_of(h, sizeof h - 1, 4, -1);
    ft_tensors *s = ft_tensors_parse("f", b.p, b.n, 0, &e);
    ck_assert_ptr_nonnull(s);
    const char *const *w = ft_tensors_warnings(s, &n);
    ck_assert_uint_eq(n, 1);
    ck_assert_ptr_nonnull(strstr(w[0], "unknown field \"x\""));
    ft_tensors_close(s);
    ck_assert(!open_bytes(b.p, b.n, FT_TENSORS_STRICT, &e));
    ck_assert_ptr_nonnull(strstr(e.msg, "unknown field"));
    ft_buf_free(&b);
}
END_TEST

/* Rule 13: every dtype, with its size. */
START_TEST(test_dtypes)
{
    static const struct { const char *name; unsigned bits;
    } all[] = {
        { "BOOL", 8 },    { "F4", 4 },          { "F6_E2M3", 6 },     { "F6_E3M2", 6 },
        { "U8", 8 },      { "I8", 8 },          { "F8_E5M2", 8 },     { "F8_E4M3", 8 },
        { "F8_E8M0", 8 }, { "F8_E4M3FNUZ", 8 }, { "F8_E5M2FNUZ", 8 }, { "I16", 16 },
        { "U16", 16 },    { "F16", 16 },        { "BF16", 16 },       { "I32", 32 },
        { "U32", 32 },    { "F32", 32 },        { "C64", 64 },        { "F64", 64 },
        { "I64", 64 },    { "U64", 64 },
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char h[128];
        ft_err e;
        snprintf(h, sizeof h, "{\"a\":{\"dtype\":\"%s\",\"shape\":[8],\"data_offsets\":[0,%u]}}",
                 all[i].name, all[i].bits);
        ft_buf b = file_of(h, strlen(h), all[i].bits, -1);
        ck_assert_msg(open_bytes(b.p, b.n, FT_TENSORS_STRICT, &e) != NULL, "%s", e.msg);
        ck_assert_str_eq(ft_dtype_name(ft_dtype_find(all[i].name)), all[i].name);
        ft_buf_free(&b);
    }
    ck_assert_uint_eq(sizeof all / sizeof *all, FT_N_DTYPES - 1);
}
END_TEST

/* Rules 23 and 24: misaligned data is read, and NaNs are counted. */
START_TEST(test_misaligned_and_nan)
{
    static const char h[] = "{\"u\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                            "\"f\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[1,13]}}";
    float x[3] = { 1.0f, NAN, -INFINITY };
    uint64_t count = 0;
    ft_err e = { 0 };
    ft_buf b = file_of(h, sizeof h - 1, 1, -1);
    ft_buf_add(&b, x, sizeof x);
    ft_tensors *s = ft_tensors_parse("f", b.p, b.n, 0, &e);
    ck_assert_msg(s != NULL, "%s", e.msg);
    ck_assert(ft_tensor_nonfinite(ft_tensors_find(s, "f"), &count));
    ck_assert_uint_eq(count, 2);
    ck_assert(!ft_tensor_nonfinite(ft_tensors_find(s, "u"), &count));
    ft_tensors_close(s);
    ft_buf_free(&b);
}
END_TEST

/* ---- rule 27: bounded work ------------------------------------------------------------------ */

static long peak_kib(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_maxrss;
}

/* `n` empty tensors named by `name` (a format with one number). */
static ft_buf many(const char *name, int n)
{
    ft_buf h = { 0 };
    ft_buf_putc(&h, '{');
    for (int i = 0; i < n; i++) {
        ft_buf_puts(&h, i ? ",\"" : "\"");
        ft_buf_printf(&h, "%s%d", name, i);
        ft_buf_puts(&h, "\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}");
    }
    ft_buf_putc(&h, '}');
    return h;
}

START_TEST(test_many_tensors)
{
    ft_err e = { 0 };
    ft_buf h = many("n", 300000), b = file_of(h.p, h.n, 0, -1);
    ft_tensors *s = ft_tensors_parse("f", b.p, b.n, 0, &e);
    ck_assert_msg(s != NULL, "%s", e.msg);
    char name[32];
    for (int i = 0; i < 300000; i++) { /* a linear search would take minutes */
        snprintf(name, sizeof name, "n%d", i);
        ck_assert_str_eq(ft_tensors_find(s, name)->name, name);
    }
    ck_assert_ptr_null(ft_tensors_find(s, "n300000"));
    ft_tensors_close(s);
    ft_buf_free(&b);
    ft_buf_free(&h);
}
END_TEST

START_TEST(test_too_many_tensors)
{
    ft_err e;
    ft_buf h = many("", FT_MAX_TENSORS + 1), b = file_of(h.p, h.n, 0, -1);
    ck_assert(!open_bytes(b.p, b.n, 0, &e));
    ck_assert_msg(strstr(e.msg, "more than the 1048576 tensors") != NULL, "%s", e.msg);
    ft_buf_free(&b);
    ft_buf_free(&h);
}
END_TEST

/* 80 MB of "1,1,1,…" in one shape, and as deep brackets: refused with little memory. */
START_TEST(test_hostile_values)
{
    static const char *const start[] = { "{\"a\":{\"shape\":[1", "{\"__metadata__\":{\"a\":[1",
                                         "{\"a\":[[" };
    static const char *const repeat[] = { ",1", ",1", "[[" };
    for (int k = 0; k < 3; k++) {
        ft_buf b = { 0 };
        uint64_t n = 80000000;
        ft_err e = { 0 };
        ft_buf_add(&b, &n, 8);
        ft_buf_puts(&b, start[k]);
        while (b.n < n + 8) ft_buf_add(&b, repeat[k], 2);
        long before = peak_kib();
        ck_assert_ptr_null(ft_tensors_parse("f", b.p, b.n, 0, &e));
        ck_assert(strstr(e.msg, "more parts than are allowed") || strstr(e.msg, "nested deeper"));
        ck_assert_int_lt(peak_kib() - before, 256 << 10);
        ft_buf_free(&b);
    }
}
END_TEST

/* ---- damage -------------------------------------------------------------------------------- */

static ft_buf read_whole(const char *path)
{
    ft_buf b = { 0 };
    ft_err e = { 0 };
    ck_assert_msg(ft_file_read(&b, path, 1 << 20, &e) == 0, "%s", e.msg);
    return b;
}

/* Two small valid files: the library's, and one with everything in odd order. */
static ft_buf valid_file(int which)
{
    static const char h[] =
        " {\"b\":{\"shape\":[2,1],\"dtype\":\"I16\",\"data_offsets\":[1,5]},\"__metadata__\":"
        "{\"k\":\"\\u00e9\\n\"},\"\\ud83d\\ude00\":{\"dtype\":\"U8\","
        "\"data_offsets\":[0,1],\"shape\":[]},"
        "\"z\":{\"dtype\":\"F4\",\"shape\":[0,3],\"data_offsets\":[5,5]}}   ";
    return which ? file_of(h, sizeof h - 1, 5, -1) : read_whole("tests/data/io/small.safetensors");
}

START_TEST(test_every_truncation)
{
    ft_buf b = valid_file(_i);
    ft_err e;
    ck_assert_msg(open_bytes(b.p, b.n, 0, &e) != NULL, "%s", e.msg);
    for (size_t n = 0; n < b.n; n++) {
        ck_assert_msg(!open_bytes(b.p, n, 0, &e), "accepted with %d bytes", (int)n);
        ck_assert(e.code < 0 && strlen(e.msg) > 20);
    }
    ft_buf_free(&b);
}
END_TEST

START_TEST(test_every_flip)
{
    ft_buf b = valid_file(_i);
    int refused = 0;
    uint64_t header;
    memcpy(&header, b.p, 8);
    for (size_t at = 0; at < 8 + header; at++) {
        for (int bit = 0; bit < 8; bit++) {
            ft_err e;
            b.p[at] = (char)(b.p[at] ^ 1 << bit);
            bool open = open_bytes(b.p, b.n, 0, &e) != NULL;
            ck_assert(open || (e.code < 0 && strlen(e.msg) > 20));
            refused += !open;
            b.p[at] = (char)(b.p[at] ^ 1 << bit);
        }
    }
    ck_assert_int_gt(refused, 500);
    ft_buf_free(&b);
}
END_TEST

/* ---- what other programs wrote --------------------------------------------------------------- */

START_TEST(test_written_by_the_library)
{
    ft_err e = { 0 };
    ft_tensors *s = ft_tensors_open_with("tests/data/io/small.safetensors", FT_TENSORS_STRICT, &e);
    ck_assert_msg(s != NULL, "%s", e.msg);
    ck_assert_uint_eq(ft_tensors_count(s), 5);
    ck_assert_str_eq(ft_tensors_note(s, "format"), "pt");
    ck_assert_str_eq(ft_tensors_note(s, "note"), "größe \"1\"");
    ck_assert_ptr_null(ft_tensors_note(s, "none"));
    const ft_tensor *f = ft_tensors_find(s, "f32"), *i = ft_tensors_find(s, "i64"),
                    *z = ft_tensors_find(s, "none");
    ck_assert(f->ndim == 2 && f->dim[0] == 2 && f->dim[1] == 3 && f->bytes == 24 && !f->scheme);
    float x;
    int64_t k;
    memcpy(&x, (const char *)f->data + 20, 4);
    memcpy(&k, i->data, 8);
    ck_assert(x == 5.0f && k == -5 && i->ndim == 0);
    ck_assert(z->dim[0] == 0 && z->dim[1] == 4 && z->bytes == 0);
    for (size_t j = 1; j < 5; j++) /* by place */
        ck_assert((const char *)ft_tensors_at(s, j)->data >=
                  (const char *)ft_tensors_at(s, j - 1)->data);
    ck_assert_ptr_null(ft_tensors_at(s, 5));
    ft_tensors_close(s);
}
END_TEST

START_TEST(test_written_by_transformers)
{
    static const char *const names[] = { "gemma2",  "gemma3", "gpt_oss", "llama", "llama3rope",
                                         "mistral", "phi3",   "qwen2",   "qwen3", "qwen3_moe" };
    if (!test_goldens()) {
        printf("not run: files written by transformers (../shared is not present)\n");
        return;
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[512];
        ft_err e = { 0 };
        snprintf(path, sizeof path, "%s/models/%s", test_goldens(), names[i]);
        ft_tensors *s = ft_tensors_open_with(path, FT_TENSORS_STRICT, &e);
        ck_assert_msg(s != NULL, "%s", e.msg);
        ck_assert_uint_gt(ft_tensors_count(s), 10);
        ck_assert_str_eq(ft_tensors_note(s, "format"), "pt");
        ck_assert_ptr_nonnull(ft_tensors_find(s, "model.norm.weight"));
        ft_tensors_close(s);
    }
}
END_TEST

/* ---- other files, and paths ------------------------------------------------------------------ */

START_TEST(test_foreign_files)
{
    static const struct { const char *bytes; size_t n; const char *says; } all[] = {
        { "PK\3\4 and more", 13, "PyTorch" },
        { "\x80\2}q\0(X\1\0\0", 10, "pickle" },
        { "\x89HDF\r\n\x1a\n....", 12, "HDF5" },
        { "version https://git-lfs.github.com/spec/v1\n", 43, "git lfs pull" },
        { "just some text, no tensors", 26, "safetensors or GGUF" },
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        ft_err e;
        ck_assert(!open_bytes(all[i].bytes, all[i].n, 0, &e));
        ck_assert_msg(strstr(e.msg, all[i].says) != NULL, "%s", e.msg);
    }
    /* A header of 0x280 bytes looks like the start of a pickle and is none. */
    char h[0x280];
    ft_err e;
    memset(h, ' ', sizeof h);
    memcpy(h, "{}", 2);
    ft_buf b = file_of(h, sizeof h, 0, -1);
    ck_assert_msg(open_bytes(b.p, b.n, 0, &e) != NULL, "%s", e.msg);
    ft_buf_free(&b);
}
END_TEST

/* Names from files cannot command the terminal that a message is printed on. */
START_TEST(test_no_escape_sequences)
{
    static const char h[] = "{\"\\u001b[31m\":{\"dtype\":\"\\u0007\",\"shape\":[],"
                            "\"data_offsets\":[0,4]}}";
    ft_err e;
    ft_buf b = file_of(h, sizeof h - 1, 4, -1);
    ck_assert(!open_bytes(b.p, b.n, 0, &e));
    ck_assert_ptr_nonnull(strstr(e.msg, "tensor \"?[31m\": dtype \"?\""));
    ft_buf_free(&b);
}
END_TEST

START_TEST(test_missing_paths)
{
    ft_err e = { 0 };
    ck_assert_ptr_null(ft_tensors_open("/nonexistent/x.safetensors", &e));
    ck_assert_ptr_nonnull(strstr(e.msg, "/nonexistent/x.safetensors"));
    e = (ft_err){ 0 };
    ck_assert_ptr_null(ft_tensors_open(dir, &e));
    ck_assert_ptr_nonnull(
        strstr(e.msg, "neither model.safetensors nor model.safetensors.index.json"));
    e = (ft_err){ 0 };
    ck_assert_int_eq(mkfifo(in_dir("model.safetensors"), 0600), 0);
    ck_assert_ptr_null(ft_tensors_open(dir, &e)); /* and does not hang */
    ck_assert_ptr_nonnull(strstr(e.msg, "not a regular file"));
}
END_TEST

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
    ck_assert_int_lt(ft_st_declare(w, "a", FT_F32, &negative, 1, NULL), 0);
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
    Suite *s = suite_create("safetensors");
    TCase *t = tcase_create("reader"), *f = tcase_create("files");
    tcase_set_timeout(t, 300);
    tcase_add_loop_test(t, test_rules, 0, N_RULES);
    tcase_add_test(t, test_rules_of_length);
    tcase_add_test(t, test_strict);
    tcase_add_test(t, test_dtypes);
    tcase_add_test(t, test_misaligned_and_nan);
    tcase_add_test(t, test_many_tensors);
    tcase_add_test(t, test_too_many_tensors);
    tcase_add_test(t, test_hostile_values);
    tcase_add_loop_test(t, test_every_truncation, 0, 2);
    tcase_add_loop_test(t, test_every_flip, 0, 2);
    tcase_add_test(t, test_written_by_the_library);
    tcase_add_test(t, test_written_by_transformers);
    tcase_add_test(t, test_foreign_files);
    tcase_add_test(t, test_no_escape_sequences);
    suite_add_tcase(s, t);
    tcase_add_checked_fixture(f, make_dir, remove_dir);
    tcase_add_test(f, test_missing_paths);
    tcase_add_loop_test(f, test_index, 0, sizeof indexes / sizeof *indexes);
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
