/* test_blocks.c -- block formats against gguf-py's numbers (tests/data/io/blocks and the goldens),
 * decoding that starts and ends anywhere, and the 16-bit floats. */
#include "harness.h"
#include <math.h>
#include "ft/half.h"
#include "core/io/blocks.h"
#include "core/io/tensors.h"

static const char *const types[] = { "F32",  "F16",    "BF16",   "Q4_0", "Q4_1", "Q5_0",
                                     "Q5_1", "Q8_0",   "Q2_K",   "Q3_K", "Q4_K", "Q5_K",
                                     "Q6_K", "IQ4_NL", "IQ4_XS", "MXFP4" };
enum { N_TYPES = sizeof types / sizeof *types };

static const ft_block_format *format_of(const char *type)
{
    char name[16] = { 0 };
    for (int i = 0; type[i]; i++)
        name[i] = (char)(type[i] >= 'A' && type[i] <= 'Z' ? type[i] + 32 : type[i]);
    return ft_block_info(name);
}

/* True when the n floats are the same bits; NaNs only need to be NaNs. */
static bool same(const float *a, const void *b, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        float y;
        memcpy(&y, (const char *)b + 4 * i, 4);
        if (ft_float_bits(a[i]) != ft_float_bits(y) && !(isnan(a[i]) && isnan(y))) return false;
    }
    return true;
}

/* The n numbers from first on, straight to bf16, are those of want, rounded. */
static void check_bf16(const ft_block_format *b, const uint8_t *raw, const void *want,
                       uint64_t first, uint64_t n)
{
    uint16_t *out = malloc((n + 1) * sizeof *out);
    out[n] = 0x1234;
    ft_block_decode_bf16(out, b, b->decode, ft_block_short(b), raw, first, n);
    for (uint64_t i = 0; i < n; i++) {
        float x;
        memcpy(&x, (const char *)want + 4 * (first + i), 4);
        if (isnan(x)) ck_assert(isnan(ft_bf16_to_float(out[i])));
        else ck_assert_msg(out[i] == ft_float_to_bf16(x), "%s, bf16: element %d of %d from %d on",
                           b->name, (int)i, (int)n, (int)first);
    }
    ck_assert_uint_eq(out[n], 0x1234);
    free(out);
}

/* Decodes all, and then many stretches, of one pair of tensors with vectors of that many lanes. */
static void check_lanes(const ft_tensors *f, const char *type, const char *raw, const char *numbers,
                        int lanes)
{
    const ft_tensor *r = ft_tensors_find(f, raw), *d = ft_tensors_find(f, numbers);
    const ft_block_format *b = format_of(type);
    ck_assert_msg(r && d && b && b->decode, "%s", type);
    ft_block_decoder *decode = ft_block_wide(b, lanes);
    uint64_t n = d->bytes / 4;
    ck_assert_uint_eq(r->bytes * b->elements, n * b->bytes);
    float *out = malloc((n + 1) * sizeof *out);
    uint8_t *shifted = malloc(r->bytes + 1); /* nothing may rely on alignment */
    memcpy(shifted + 1, r->data, r->bytes);
    ft_block_decode(out, b, decode, shifted + 1, 0, n);
    ck_assert_msg(same(out, d->data, n), "%s %s", type, raw);
    for (uint64_t first = 0; first < n && first < 600; first++) {
        for (uint64_t count = first % 7; first + count <= n; count += 29 + count / 3) {
            out[count] = 12345.0f;
            ft_block_decode(out, b, decode, shifted + 1, first, count);
            ck_assert_msg(same(out, (const char *)d->data + 4 * first, count), "%s [%d, +%d)", type,
                          (int)first, (int)count);
            ck_assert(out[count] == 12345.0f);
            if (lanes == 0 && first % 11 == 3) check_bf16(b, shifted + 1, d->data, first, count);
        }
    }
    free(shifted);
    free(out);
}

static void check_pair(const ft_tensors *f, const char *type, const char *raw, const char *numbers)
{
    for (int lanes = 0; lanes <= FT_MOST_LANES; lanes += 8)
        check_lanes(f, type, raw, numbers, lanes);
}

static void check_folder(const char *dir, bool must)
{
    for (int i = 0; i < N_TYPES; i++) {
        char path[512];
        ft_err e = { 0 };
        snprintf(path, sizeof path, "%s/%s.safetensors", dir, types[i]);
        if (!must && !ft_file_exists(path)) continue;
        ft_tensors *f = ft_tensors_open(path, &e);
        ck_assert_msg(f != NULL, "%s", e.msg);
        check_pair(f, types[i], "raw", "dequant");
        if (ft_tensors_find(f, "q_raw")) check_pair(f, types[i], "q_raw", "q_dequant");
        ft_tensors_close(f);
    }
}

START_TEST(test_own_vectors) { check_folder("tests/data/io/blocks", false); }
END_TEST

START_TEST(test_goldens_gguf)
{
    char path[512];
    if (!test_goldens()) {
        printf("not run: block formats of the goldens (../shared is not present)\n");
        return;
    }
    snprintf(path, sizeof path, "%s/gguf", test_goldens());
    check_folder(path, true);
}
END_TEST

/* Every pattern of the upper half with some of the lower ones: rounded in vectors and one by
 * one. */
START_TEST(test_rounding)
{
    static const uint16_t low[] = { 0, 1, 0x7fff, 0x8000, 0x8001, 0xffff, 0x1234, 0xabcd, 0x7ffe };
    enum { N = sizeof low / sizeof *low };
    for (uint32_t top = 0; top < 1 << 16; top++) {
        float x[N];
        uint16_t y[N];
        for (int i = 0; i < N; i++) x[i] = ft_bits_float(top << 16 | low[i]);
        ft_round_to_bf16(y, x, N);
        for (int i = 0; i < N; i++) ck_assert_uint_eq(y[i], ft_float_to_bf16(x[i]));
    }
}
END_TEST

/* The formats by hand, so that an error in the vectors' maker would show as well. */
START_TEST(test_by_hand)
{
    float out[32];
    uint8_t q4[18] = { 0x00, 0x40 }; /* d = 2 */
    q4[2] = 0xf3;                    /* element 0: 3, element 16: 15 */
    ft_block_decode(out, ft_block_info("q4_0"), ft_block_info("q4_0")->decode, q4, 0, 32);
    ck_assert(out[0] == -10.0f && out[16] == 14.0f && out[1] == -16.0f);
    uint8_t q8[34] = { 0x00, 0x38, 0x81, 0x7f }; /* d = 0.5 */
    ft_block_decode(out, ft_block_info("q8_0"), ft_block_info("q8_0")->decode, q8, 0, 32);
    ck_assert(out[0] == -63.5f && out[1] == 63.5f && out[2] == 0.0f);
    uint8_t mx[17] = { 128, 0x9e }; /* 2^(128-127) times e2m1 code 14 (-4) and 9 (-0.5) */
    ft_block_decode(out, ft_block_info("mxfp4"), ft_block_info("mxfp4")->decode, mx, 0, 32);
    ck_assert(out[0] == -8.0f && out[16] == -1.0f);
}
END_TEST

/* Every scale that is a number, with every code. */
START_TEST(test_all_scales)
{
    static const char *const names[] = { "q4_0", "q4_1", "q8_0" };
    for (int i = 0; i < 3; i++) {
        const ft_block_format *f = ft_block_info(names[i]);
        for (uint32_t h = 0; h < 1 << 16; h++) {
            float x[32];
            uint16_t m = (uint16_t)(h * 40503u), d = (uint16_t)h;
            uint8_t block[34];
            for (int j = 0; j < 34; j++) block[j] = (uint8_t)(j * 7 + (int)h);
            memcpy(block, &d, 2);
            if (f->bytes == 20) memcpy(block + 2, &m, 2);
            f->decode(x, block, 1);
            check_bf16(f, block, x, 0, 32);
        }
    }
}
END_TEST

START_TEST(test_look_up)
{
    ck_assert_ptr_null(ft_block_info("q9_9"));
    ck_assert_ptr_null(ft_block_info(""));
    ck_assert_ptr_null(ft_block_ggml(4)); /* q4_2, removed from ggml */
    ck_assert_ptr_null(ft_block_ggml(UINT32_MAX));
    ck_assert_str_eq(ft_block_ggml(12)->name, "q4_k");
    ck_assert_ptr_null(ft_block_info("iq2_xs")->decode);
    ft_tensor bf16 = { .dtype = FT_BF16 }, u8 = { .dtype = FT_U8 },
              q = { .dtype = FT_U8, .scheme = "q6_k" };
    ck_assert_str_eq(ft_block_of(&bf16)->name, "bf16");
    ck_assert_ptr_null(ft_block_of(&u8));
    ck_assert_str_eq(ft_block_of(&q)->name, "q6_k");
}
END_TEST

/* What a binary16 means, from its definition. */
static double half_value(unsigned h)
{
    int e = h >> 10 & 31, f = h & 1023;
    double v = e == 0 ? ldexp(f, -24) : e == 31 ? (f ? NAN : INFINITY) : ldexp(1024 + f, e - 25);
    return h & 0x8000 ? -v : v;
}

START_TEST(test_half_exact)
{
    for (unsigned h = 0; h < 65536; h++) {
        double v = half_value(h);
        float f = ft_half_to_float((uint16_t)h), b = ft_bf16_to_float((uint16_t)h);
        if (isnan(v)) {
            ck_assert(isnan(f) && isnan(ft_half_to_float(ft_float_to_half(f))));
        } else {
            ck_assert((double)f == v && !signbit(f) == !signbit(v));
            ck_assert_uint_eq(ft_float_to_half(f), h);
        }
        ck_assert_uint_eq(ft_float_bits(b), h << 16);
        if (isnan(b)) ck_assert(isnan(ft_bf16_to_float(ft_float_to_bf16(b))));
        else ck_assert_uint_eq(ft_float_to_bf16(b), h);
    }
}
END_TEST

/* Between two neighbours: the nearer one, on the middle the even one. */
START_TEST(test_half_rounding)
{
    for (unsigned h = 0; h < 0x7c00; h++) {
        double low = half_value(h), high = h == 0x7bff ? 65536.0 : half_value(h + 1);
        float middle = (float)((low + high) / 2); /* exact: 12 bits suffice */
        float below = nextafterf(middle, 0), above = nextafterf(middle, INFINITY);
        unsigned even = h & 1 ? h + 1 : h;
        ck_assert_uint_eq(ft_float_to_half(below), h);
        ck_assert_uint_eq(ft_float_to_half(middle), even);
        ck_assert_uint_eq(ft_float_to_half(above), h + 1);
        ck_assert_uint_eq(ft_float_to_half(-middle), even | 0x8000);
    }
    ck_assert_uint_eq(ft_float_to_half(INFINITY), 0x7c00);
    ck_assert_uint_eq(ft_float_to_half(1e30f), 0x7c00);
    ck_assert_uint_eq(ft_float_to_half(1e-30f), 0);
    for (unsigned b = 0; b < 0x7f80; b++) {
        unsigned even = b & 1 ? b + 1 : b;
        ck_assert_uint_eq(ft_float_to_bf16(ft_bits_float(b << 16 | 0x7fff)), b);
        ck_assert_uint_eq(ft_float_to_bf16(ft_bits_float(b << 16 | 0x8000)), even);
        ck_assert_uint_eq(ft_float_to_bf16(ft_bits_float(b << 16 | 0x8001)), b + 1);
    }
    ck_assert(isnan(ft_bf16_to_float(ft_float_to_bf16(ft_bits_float(0x7f800001)))));
    ck_assert(isnan(ft_half_to_float(ft_float_to_half(ft_bits_float(0xff800001)))));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("blocks");
    TCase *t = tcase_create("blocks");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, test_own_vectors);
    tcase_add_test(t, test_goldens_gguf);
    tcase_add_test(t, test_by_hand);
    tcase_add_test(t, test_rounding);
    tcase_add_test(t, test_all_scales);
    tcase_add_test(t, test_look_up);
    tcase_add_test(t, test_half_exact);
    tcase_add_test(t, test_half_rounding);
    suite_add_tcase(s, t);
    return s;
}
