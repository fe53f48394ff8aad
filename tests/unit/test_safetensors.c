/* test_safetensors.c -- the safetensors reader against one file for every rule of the format, every
 * truncation and every flipped bit of a header; shards; and the writer. */
#include "folder.h"
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
    suite_add_tcase(s, f);
    return s;
}
