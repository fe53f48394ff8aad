/* test_gguf.c -- the GGUF reader: bad files by the names that llama.cpp's test-gguf.cpp gives them
 * and by the classes of overflow that readers of this format had; every truncation and every
 * flipped bit of a header; every allocation failing; what gguf-py and llama.cpp's tools wrote. */
#include "harness.h"
#include "gguf_plans.h"
#include <inttypes.h>
#include <sys/resource.h>
#include "ft/half.h"
#include "core/io/blocks.h"
#include "core/io/tensors.h"

/* ---- every allocation fails once (not under a sanitizer, which brings its own malloc) -------- */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OWN_MALLOC 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define OWN_MALLOC 0
#endif
#endif
#ifndef OWN_MALLOC
#define OWN_MALLOC 1
#endif

#if OWN_MALLOC
void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
/* Allocations that still succeed; negative: all do.  Volatile: compilers know what malloc reads. */
static volatile int64_t until_failure = -1;

static bool fails_now(void)
{
    int64_t left = until_failure;
    if (left >= 0) until_failure = left - 1;
    return left == 0;
}

void *malloc(size_t n) { return fails_now() ? NULL : __libc_malloc(n); }
void *calloc(size_t n, size_t size) { return fails_now() ? NULL : __libc_calloc(n, size); }
void *realloc(void *p, size_t n) { return fails_now() ? NULL : __libc_realloc(p, n); }
#endif

/* ---- files made here ----------------------------------------------------------------------- */

/* Opens from a block of exactly n bytes, touches all that was promised; whether it was accepted. */
static bool opens(const void *p, size_t n, ft_err *e)
{
    char *exact = malloc(n ? n : 1);
    if (n) memcpy(exact, p, n);
    *e = (ft_err){ 0 };
    ft_tensors *s = ft_tensors_parse("x.gguf", exact, n, 0, e);
    volatile char sum = 0;
    for (size_t i = 0; s && i < ft_tensors_count(s); i++) {
        const ft_tensor *t = ft_tensors_at(s, i);
        for (uint64_t k = 0; k < t->bytes; k++) sum = (char)(sum + ((const char *)t->data)[k]);
    }
    size_t n_meta = 0;
    const ft_meta *m = s ? ft_tensors_metas(s, &n_meta) : NULL;
    for (size_t i = 0; i < n_meta; i++) {
        const void *cursor = m[i].data;
        const char *str = "";
        uint64_t len = 0;
        bool strings = m[i].type == FT_META_STRING ||
                       (m[i].type == FT_META_ARRAY && m[i].item == FT_META_STRING);
        for (uint64_t k = 0; strings && k < m[i].n; k++) {
            ft_meta_next_str(&cursor, &str, &len);
            if (len) sum = (char)(sum + str[len - 1]);
        }
    }
    bool open = s != NULL;
    ft_tensors_close(s);
    free(exact);
    return open;
}

START_TEST(test_plans)
{
    const plan *p = &plans[_i];
    ft_err e;
    ft_buf b = build(p);
    bool open = opens(b.p, b.n, &e);
    ck_assert_msg(open == !p->says, "%s: %s", p->test, open ? "accepted" : e.msg);
    if (p->says)
        ck_assert_msg(strstr(e.msg, p->says) && e.code < 0 && strstr(e.msg, "x.gguf"), "%s: %s",
                      p->test, e.msg);
    ft_buf_free(&b);
}
END_TEST

START_TEST(test_header_empty)
{
    ft_err e;
    ft_buf b = { 0 };
    ft_buf_puts(&b, "GGUF");
    u32(&b, 3);
    u64(&b, 0);
    u64(&b, 0);
    ck_assert_msg(opens(b.p, b.n, &e), "%s", e.msg); /* with and without padding */
    pad(&b, 32);
    ck_assert_msg(opens(b.p, b.n, &e), "%s", e.msg);
    for (size_t n = 0; n < 24; n++) {
        ck_assert(!opens(b.p, n, &e));
        ck_assert_msg(strstr(e.msg, n < 4 ? "not a GGUF" : "ends inside its header"), "%s", e.msg);
    }
    ft_buf_free(&b);
}
END_TEST

/* The file ends inside of the value of its only key, which no tensor follows. */
START_TEST(test_cut_value)
{
    ft_err e;
    plan p = { .n_tensors = ZERO };
    ft_buf b = build(&p);
    const size_t key = 24 + 8 + 1 + 4;
    ck_assert_msg(opens(b.p, key + 4, &e), "%s", e.msg);
    ck_assert(!opens(b.p, key + 3, &e) && strstr(e.msg, "ends inside its header"));
    ft_buf_free(&b);
}
END_TEST

/* Sizes that fit alone, and whose sum does not: the next offset, and its padding. */
START_TEST(test_sum_of_sizes)
{
    static const int64_t size[2][4] = {
        { (int64_t)1 << 62, (int64_t)1 << 62, (int64_t)1 << 62, (int64_t)1 << 62 },
        { BIG - 31, BIG - 31, 63, 1 },
    };
    ft_err e;
    ft_buf b = bytes_only(size[_i], 4);
    ck_assert(!opens(b.p, b.n, &e));
    ck_assert_msg(strstr(e.msg, "does not fit into 64 bits"), "%s", e.msg);
    ft_buf_free(&b);
}
END_TEST

/* Dimensions turned around, plain and block tensors, values in their places. */
START_TEST(test_contents)
{
    ft_err e = { 0 };
    plan p = { .dims = { 4, 2 } };
    ft_buf b = build(&p);
    ft_tensors *s = ft_tensors_parse("x.gguf", b.p, b.n, 0, &e);
    ck_assert_msg(s != NULL, "%s", e.msg);
    const ft_tensor *a = ft_tensors_find(s, "a"), *q = ft_tensors_find(s, "b");
    ck_assert(a->ndim == 2 && a->dim[0] == 2 && a->dim[1] == 4 && a->dtype == FT_F32 && !a->scheme);
    ck_assert(a->bytes == 32 && ((const char *)a->data)[5] == 5);
    ck_assert(q->ndim == 1 && q->dim[0] == 32 && q->bytes == 34 && q->dtype == FT_U8);
    ck_assert_str_eq(q->scheme, "q8_0");
    ck_assert(((const char *)q->data)[0] == 32);
    int64_t k = 0;
    ck_assert(ft_meta_int(ft_tensors_meta(s, "k"), &k) && k == 7);
    ck_assert_str_eq(ft_tensors_note(s, "k"), "7");
    ft_tensors_close(s);
    ft_buf_free(&b);
}
END_TEST

/* ---- memory and time ------------------------------------------------------------------------- */

static long peak_kib(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_maxrss;
}

/* 64 MiB of the smallest entries: refused or read with at most 64 MiB more. */
START_TEST(test_memory)
{
    ft_err e = { 0 };
    ft_buf b = { 0 };
    bool tensors = _i == 1 || _i == 3;
    int64_t n = _i == 2 ? 2000000 : _i == 3 ? 65537 : 65536;
    ft_buf_puts(&b, "GGUF");
    u32(&b, 3);
    u64(&b, tensors ? n : 0);
    u64(&b, tensors ? 0 : n);
    for (int64_t i = 0; i < n; i++) {
        char name[64];
        snprintf(name, sizeof name, tensors ? "%063d" : "%d", (int)i);
        text(&b, name, 0);
        u32(&b, tensors ? 1 : FT_META_STRING); /* n_dims, or a string */
        if (tensors) {
            u64(&b, 0);
            u32(&b, F32);
            u64(&b, 0);
        } else {
            text(&b, "0123456789abcdef0123456789abcdef", 0);
        }
    }
    long before = peak_kib();
    ft_tensors *s = ft_tensors_parse("x.gguf", b.p, b.n, 0, &e);
    ck_assert_msg((s != NULL) == (_i < 2), "%s", e.msg);
    ck_assert_int_lt(peak_kib() - before, 64 << 10);
    if (_i == 1)
        ck_assert_ptr_nonnull(
            ft_tensors_find(s, "000000000000000000000000000000000000000000000000000000000065535"));
    ft_tensors_close(s);
    ft_buf_free(&b);
}
END_TEST

/* A string as large as the file is not copied; a long key is refused. */
START_TEST(test_large_strings)
{
    ft_err e = { 0 };
    ft_buf b = { 0 };
    ft_buf_puts(&b, "GGUF");
    u32(&b, 3);
    u64(&b, 0);
    u64(&b, 1);
    text(&b, _i ? "k" : "", _i ? 0 : 100000);
    if (_i) u32(&b, FT_META_STRING);
    if (_i) u64(&b, 128 << 20);
    ck_assert_ptr_nonnull(ft_buf_grow(&b, 128 << 20));
    long before = peak_kib();
    memset(b.p + 100, 'x', 1000);
    ft_tensors *s = ft_tensors_parse("x.gguf", b.p, b.n, 0, &e);
    ck_assert_msg((s != NULL) == _i, "%s", e.msg);
    ck_assert_int_lt(peak_kib() - before, 8 << 10);
    if (s) ck_assert(!ft_tensors_note(s, "k") && ft_tensors_meta(s, "k"));
    ft_tensors_close(s);
    ft_buf_free(&b);
}
END_TEST

#if OWN_MALLOC
static void check_each_allocation(const char *path)
{
    int64_t n = 0;
    for (bool open = false; !open; n++) {
        ft_err e = { 0 };
        until_failure = n;
        ft_tensors *s = ft_tensors_open(path, &e);
        until_failure = -1;
        open = s != NULL;
        ck_assert_msg(open || e.code == FT_ENOMEM, "allocation %d: %s", (int)n, e.msg);
        ft_tensors_close(s);
    }
    ck_assert_int_gt(n, 5);
}

START_TEST(test_every_allocation_fails)
{
    until_failure = 0;
    void *volatile p = malloc(1); /* or the compiler leaves it out */
    until_failure = -1;
    free(p);
    if (p) {
        printf("not run: failing allocations (the tool that runs this replaces malloc)\n");
        return;
    }
    check_each_allocation("tests/data/io/small.gguf");
    check_each_allocation("tests/data/io/small.safetensors");
}
END_TEST
#endif

/* ---- damage -------------------------------------------------------------------------------- */

static ft_buf valid_file(int which)
{
    ft_buf b = { 0 };
    static const plan p = { .kv_type = FT_META_STRING, .align = 8 };
    if (which) return build(&p);
    ck_assert_int_eq(ft_file_read(&b, "tests/data/io/small.gguf", 1 << 20, NULL), 0);
    return b;
}

/* What follows the last tensor's numbers is padding, which readers do not need. */
START_TEST(test_every_truncation)
{
    ft_buf b = valid_file(_i);
    ft_err e = { 0 };
    ft_tensors *s = ft_tensors_parse("x.gguf", b.p, b.n, 0, &e);
    ck_assert_msg(s != NULL, "%s", e.msg);
    const ft_tensor *last = ft_tensors_at(s, ft_tensors_count(s) - 1);
    size_t end = (size_t)((const char *)last->data - b.p) + last->bytes;
    ft_tensors_close(s);
    for (size_t n = 0; n <= b.n; n++) {
        bool open = opens(b.p, n, &e);
        ck_assert_msg(open == (n >= end), "%d bytes: %s", (int)n, e.msg);
        ck_assert(open || (e.code < 0 && strlen(e.msg) > 15));
    }
    ft_buf_free(&b);
}
END_TEST

START_TEST(test_every_flip)
{
    ft_buf b = valid_file(_i);
    int refused = 0;
    ft_err e = { 0 };
    ft_tensors *s = ft_tensors_parse("x.gguf", b.p, b.n, 0, &e);
    size_t header = (size_t)((const char *)ft_tensors_at(s, 0)->data - b.p);
    ft_tensors_close(s);
    for (size_t at = 0; at < header; at++) {
        for (int bit = 0; bit < 8; bit++) {
            b.p[at] = (char)(b.p[at] ^ 1 << bit);
            bool open = opens(b.p, b.n, &e);
            ck_assert(open || (e.code < 0 && strlen(e.msg) > 15));
            refused += !open;
            b.p[at] = (char)(b.p[at] ^ 1 << bit);
        }
    }
    ck_assert_int_gt(refused, 500);
    ft_buf_free(&b);
}
END_TEST

/* ---- what other programs wrote --------------------------------------------------------------- */

static const ft_meta *meta(const ft_tensors *s, const char *key, ft_meta_type type)
{
    const ft_meta *m = ft_tensors_meta(s, key);
    ck_assert_msg(m && m->type == type, "%s", key);
    return m;
}

START_TEST(test_written_by_gguf_py)
{
    static const struct {
        const char *key;
        ft_meta_type type;
        int64_t value;
        const char *note;
    } ints[] = {
        { "t.u8", FT_META_U8, 200, "200" },
        { "t.i8", FT_META_I8, -100, "-100" },
        { "t.u16", FT_META_U16, 60000, "60000" },
        { "t.i16", FT_META_I16, -30000, "-30000" },
        { "t.u32", FT_META_U32, 4000000000, "4000000000" },
        { "t.i32", FT_META_I32, -2000000000, "-2000000000" },
        { "t.bool", FT_META_BOOL, 1, "true" },
        { "t.i64", FT_META_I64, -((int64_t)1 << 62), "-4611686018427387904" },
    };
    ft_err e = { 0 };
    ft_tensors *s = ft_tensors_open("tests/data/io/small.gguf", &e);
    ck_assert_msg(s != NULL, "%s", e.msg);
    ck_assert(ft_tensors_is_gguf(s));
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) {
        int64_t v = 0;
        double d = 0;
        const ft_meta *m = meta(s, ints[i].key, ints[i].type);
        ck_assert(ft_meta_int(m, &v) && v == ints[i].value && ft_meta_real(m, &d) &&
                  d == (double)v);
        ck_assert_str_eq(ft_tensors_note(s, ints[i].key), ints[i].note);
    }
    int64_t v;
    double d = 0;
    uint64_t len = 0;
    ck_assert(!ft_meta_int(meta(s, "t.u64", FT_META_U64), &v)); /* past INT64_MAX */
    ck_assert(!ft_meta_int(meta(s, "t.f32", FT_META_F32), &v) && !ft_meta_int(NULL, &v));
    ck_assert(!ft_meta_int(meta(s, "t.ints", FT_META_ARRAY), &v));
    ck_assert(ft_meta_real(meta(s, "t.f32", FT_META_F32), &d) && d == 1.5);
    ck_assert(ft_meta_real(meta(s, "t.f64", FT_META_F64), &d) && d == 0.1);
    ck_assert(!ft_meta_real(meta(s, "t.string", FT_META_STRING), &d));
    ck_assert(!memcmp(ft_meta_str(meta(s, "t.string", FT_META_STRING), &len), "größe", 7) &&
              len == 7);
    ck_assert_ptr_null(ft_meta_str(meta(s, "t.u8", FT_META_U8), &len));
    ck_assert_str_eq(ft_tensors_note(s, "t.string"), "größe");
    ck_assert_str_eq(ft_tensors_note(s, "general.architecture"), "llama");
    ck_assert_str_eq(ft_tensors_note(s, "t.f64"), "0.10000000000000001");
    ck_assert_ptr_null(ft_tensors_note(s, "t.ints"));
    const ft_meta *tokens = meta(s, "tokenizer.ggml.tokens", FT_META_ARRAY);
    ck_assert(tokens->item == FT_META_STRING && tokens->n == 4);
    ck_assert_uint_eq(ft_tensors_count(s), 3);
    const ft_tensor *q = ft_tensors_find(s, "blocks.weight");
    ck_assert(q->dim[0] == 2 && q->dim[1] == 64 && q->bytes == 136);
    float x[128];
    ft_block_decode(x, ft_block_of(q), ft_block_of(q)->decode, q->data, 0, 128);
    ck_assert(x[0] > -1.01f && x[0] < -0.99f && x[127] > 0.99f && x[127] < 1.01f);
    ft_tensors_close(s);
}
END_TEST

/* The tiny llama of the goldens: its f16 tensors are the HF checkpoint's, q/k rows apart. */
START_TEST(test_goldens_gguf)
{
    char path[512];
    ft_err e = { 0 };
    if (!test_goldens()) {
        printf("not run: tiny GGUF models (../shared is not present)\n");
        return;
    }
    snprintf(path, sizeof path, "%s/gguf/hf", test_goldens());
    ft_tensors *hf = ft_tensors_open(path, &e);
    ck_assert_msg(hf != NULL, "%s", e.msg);
    static const char *const names[][2] = {
        { "token_embd.weight", "model.embed_tokens.weight" },
        { "output.weight", "lm_head.weight" },
        { "blk.1.ffn_down.weight", "model.layers.1.mlp.down_proj.weight" },
        { "blk.0.attn_v.weight", "model.layers.0.self_attn.v_proj.weight" }
    };
    for (int q = 0; q < 2; q++) {
        snprintf(path, sizeof path, "%s/gguf/tiny_%s.gguf", test_goldens(), q ? "q8_0" : "f16");
        ft_tensors *s = ft_tensors_open(path, &e);
        ck_assert_msg(s != NULL, "%s", e.msg);
        ck_assert_uint_eq(ft_tensors_count(s), ft_tensors_count(hf));
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            const ft_tensor *a = ft_tensors_find(s, names[i][0]),
                            *b = ft_tensors_find(hf, names[i][1]);
            ck_assert(a && b && a->ndim == 2 && a->dim[0] == b->dim[0] && a->dim[1] == b->dim[1]);
            if (!q) ck_assert(a->bytes == b->bytes && !memcmp(a->data, b->data, a->bytes));
            else ck_assert_str_eq(a->scheme, "q8_0");
        }
        ft_tensors_close(s);
    }
    ft_tensors_close(hf);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("gguf");
    TCase *t = tcase_create("gguf");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, test_plans, 0, N_PLANS);
    tcase_add_test(t, test_header_empty);
    tcase_add_test(t, test_cut_value);
    tcase_add_loop_test(t, test_sum_of_sizes, 0, 2);
    tcase_add_test(t, test_contents);
    tcase_add_loop_test(t, test_memory, 0, 4);
    tcase_add_loop_test(t, test_large_strings, 0, 2);
#if OWN_MALLOC
    tcase_add_test(t, test_every_allocation_fails);
#endif
    tcase_add_loop_test(t, test_every_truncation, 0, 2);
    tcase_add_loop_test(t, test_every_flip, 0, 2);
    tcase_add_test(t, test_written_by_gguf_py);
    tcase_add_test(t, test_goldens_gguf);
    suite_add_tcase(s, t);
    return s;
}
