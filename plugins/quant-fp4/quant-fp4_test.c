/* quant-fp4_test.c -- codes, levels and scales as numbers, parts that are refused, and what
 * bitsandbytes made where the shared goldens are present. */
#include "tests/plugin_host.h"
#include <math.h>
#include "tests/vectors.h"

enum { ROWS = 3, COLS = 50, COUNT = ROWS * COLS, BLOCKS = 3 };
enum { CODES, ABSMAX, LEVELS, NESTED, MAP, STATE, N_PARTS };

static plugin_host host;
static const ft_quantizer *quant;
static const int64_t shape[2] = { ROWS, COLS };
static uint8_t codes[COUNT / 2];
static float absmax[BLOCKS] = { 0.5f, 3, 0.01f }, levels[16];
static char state[256];
static ft_tensor part[FT_MAX_PARTS];

static void set_state(const char *type, int size, int rows)
{
    snprintf(state, sizeof state,
             "{\"quant_type\": \"%s\", \"blocksize\": %d, \"dtype\": \"float32\", \"shape\": [%d, "
             "%d]}",
             type, size, rows, COLS);
    part[STATE] = (ft_tensor){ .dtype = FT_U8, .data = state, .bytes = strlen(state) };
}

static void start(void)
{
    if (host.plugin) plugin_close(&host);
    ck_assert_int_eq(plugin_open(&host, "quant-fp4", NULL), 0);
    quant = host.plugin->vtable;
    memset(part, 0, sizeof part);
    for (int i = 0; i < COUNT / 2; i++) codes[i] = (uint8_t)(i * 73);
    for (int i = 0; i < 16; i++) levels[i] = (float)(i - 7) / 8;
    part[CODES] = (ft_tensor){ .name = "w", .dtype = FT_U8, .data = codes, .bytes = sizeof codes };
    part[ABSMAX] = (ft_tensor){ .dtype = FT_F32, .data = absmax, .bytes = sizeof absmax };
    part[LEVELS] = (ft_tensor){ .dtype = FT_F32, .data = levels, .bytes = sizeof levels };
    set_state("fp4", 64, ROWS);
}

START_TEST(numbers)
{
    ft_packed p;
    float got[COUNT];
    start();
    ck_assert_msg(quant->open(host.self, shape, 2, part, &p) == 0, "%s", host.err.msg);
    p.tile(&p, 0, ROWS, 0, COLS, FT_F32, got, COLS);
    for (int i = 0; i < COUNT; i++) {
        int code = i % 2 ? codes[i / 2] & 15 : codes[i / 2] >> 4;
        ck_assert(got[i] == levels[code] * absmax[i / 64]);
    }
    float some[2][7]; /* a rectangle that starts at an odd place */
    p.tile(&p, 1, 2, 13, 7, FT_F32, some, 7);
    ck_assert(some[0][0] == got[COLS + 13] && some[1][6] == got[2 * COLS + 19]);
    plugin_close(&host);
}
END_TEST

static void check_refused(const char *word)
{
    ft_packed p;
    host.err = (ft_err){ 0 };
    ck_assert_int_eq(quant->open(host.self, shape, 2, part, &p), FT_EFORMAT);
    ck_assert_msg(strstr(host.err.msg, word) != NULL, "no %s in: %s", word, host.err.msg);
}

/* With a second level of scales: what stands behind the shape, and the parts of that level. */
static uint8_t scale_codes[BLOCKS];
static float scales[1] = { 2 }, map[256];

static void start_nested(const char *more)
{
    start();
    snprintf(state, sizeof state,
             "{\"quant_type\": \"fp4\", \"blocksize\": 64, \"shape\": [%d, %d]%s}", ROWS, COLS,
             more);
    part[STATE].bytes = strlen(state);
    part[ABSMAX] = (ft_tensor){ .dtype = FT_U8, .data = scale_codes, .bytes = sizeof scale_codes };
    part[NESTED] = (ft_tensor){ .dtype = FT_F32, .data = scales, .bytes = sizeof scales };
    part[MAP] = (ft_tensor){ .dtype = FT_F32, .data = map, .bytes = sizeof map };
}

#define SECOND ", \"nested_blocksize\": 256, \"nested_offset\": 0.5"

START_TEST(refused_states)
{
    static const struct { const char *state, *says;
    } plain[] = {
        { "\"quant_type\": \"fp4\"", "\"blocksize\"" },
        { "\"quant_type\": \"fp4\", \"blocksize\": 32, \"shape\": [3, 50]", "\"blocksize\"" },
        { "\"quant_type\": \"fp4\", \"blocksize\": 96, \"shape\": [3, 50]", "\"blocksize\"" },
        { "\"quant_type\": \"fp4\", \"blocksize\": 8192, \"shape\": [3, 50]", "\"blocksize\"" },
        { "\"quant_type\": \"fp4\", \"blocksize\": 64", "\"shape\"" },
        { "\"quant_type\": \"fp4\", \"blocksize\": 64, \"shape\": {\"a\": 3, \"b\": 50}",
          "\"shape\"" },
        { "\"quant_type\": \"fp4\", \"blocksize\": 64, \"shape\": [3, 50, 1]", "\"shape\"" },
        { "\"quant_type\": \"fp4\", \"blocksize\": 64, \"shape\": [3, \"50\"]", "\"shape\"" },
        { "\"quant_type\": \"fp4\", \"blocksize\": 64, \"shape\": [3, 51]", "\"shape\"" },
    };
    static const char *const second[][2] = {
        { "", "nested_blocksize" },
        { ", \"nested_blocksize\": 128, \"nested_offset\": 0.5", "nested_blocksize" },
        { ", \"nested_blocksize\": 256", "nested_offset" },
        { ", \"nested_blocksize\": 256, \"nested_offset\": 1e300", "nested_offset" },
    };
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        start();
        snprintf(state, sizeof state, "{%s}", plain[i].state);
        part[STATE].bytes = strlen(state);
        check_refused(plain[i].says);
        plugin_close(&host);
    }
    for (size_t i = 0; i < sizeof second / sizeof *second; i++) {
        start_nested(second[i][0]);
        check_refused(second[i][1]);
        plugin_close(&host);
    }
}
END_TEST

START_TEST(refused_parts)
{
    static char long_state[(64 << 10) + 1];
    static const int64_t wide[2] = { INT64_MAX, 2 }, large[2] = { (int64_t)1 << 40, 1 << 21 };
    ft_packed p;
    ft_part of[FT_MAX_PARTS];
    start();
    ck_assert_int_eq(quant->parts(host.self, shape, 3, of), FT_EUNSUP);
    ck_assert_int_eq(quant->open(host.self, wide, 2, part, &p), FT_EFORMAT);
    ck_assert_msg(strstr(host.err.msg, "is too large") != NULL, "%s", host.err.msg);
    ck_assert_int_eq(quant->open(host.self, large, 2, part, &p), FT_EFORMAT);
    ck_assert_msg(strstr(host.err.msg, "is too large") != NULL, "%s", host.err.msg);
    memset(long_state, ' ', sizeof long_state);
    memcpy(long_state, state, strlen(state));
    part[STATE].data = long_state;
    part[STATE].bytes = sizeof long_state;
    check_refused("larger than 64 KiB");
    set_state("fp4", 64, ROWS);
    part[STATE].data = NULL;
    check_refused("is not in the file");
    set_state("fp4", 64, ROWS);
    host.lacks = "ft.json/1";
    check_refused("is not in the file");
    host.lacks = NULL;
    part[CODES].bytes--;
    check_refused("is not of the size that its shape needs");
    part[CODES].bytes++;
    part[ABSMAX].dtype = FT_BF16;
    check_refused(".absmax");
    plugin_close(&host);
    for (int i = 0; i < 3; i++) {
        start_nested(SECOND);
        ck_assert_msg(!quant->open(host.self, shape, 2, part, &p), "%s", host.err.msg);
        if (i == 0) part[ABSMAX].data = NULL;
        if (i == 1) part[ABSMAX].dtype = FT_I8;
        if (i == 2) part[ABSMAX].bytes--;
        check_refused("is not of the size that its blocks need");
        plugin_close(&host);
    }
}
END_TEST

START_TEST(refused)
{
    start();
    set_state("nf4", 64, ROWS);
    check_refused("quant_type");
    set_state("fp4", 60, ROWS);
    check_refused("blocksize");
    set_state("fp4", 64, ROWS + 1);
    check_refused("shape");
    set_state("fp4", 64, ROWS);
    part[ABSMAX].bytes -= 4;
    check_refused(".absmax");
    start();
    absmax[1] = NAN;
    check_refused("finite");
    absmax[1] = 3;
    start();
    part[LEVELS].data = NULL;
    check_refused(".quant_map");
    part[NESTED].data = absmax;
    check_refused("nested");
    plugin_close(&host);
}
END_TEST

/* Matrices that bitsandbytes packed, with and without double quantization, in two block sizes. */
static void check_golden(const vectors *v, int64_t size, bool nested)
{
    static const char *const names[N_PARTS] = { "codes", "absmax", NULL, "nested_absmax" };
    char prefix[40];
    ft_packed p;
    vectors tables;
    char dir[4096];
    snprintf(dir, sizeof dir, "%s/quant", test_goldens());
    vectors_open(&tables, dir, "tables.safetensors");
    snprintf(prefix, sizeof prefix, "fp4.%d.%s", (int)size, nested ? "dq." : "");
    ft_tensor want = vectors_get(v, prefix, "dequant"), w = vectors_get(v, "", "weight");
    for (int i = 0; i < N_PARTS; i++) {
        if (names[i] && (i != NESTED || nested)) part[i] = vectors_get(v, prefix, names[i]);
    }
    part[LEVELS] = vectors_get(&tables, "", "fp4_code");
    if (nested) part[MAP] = vectors_get(&tables, "", "dynamic_code");
    float offset = 0;
    if (nested) memcpy(&offset, vectors_get(v, prefix, "offset").data, 4);
    snprintf(state, sizeof state,
             "{\"quant_type\": \"fp4\", \"blocksize\": %d, \"shape\": [%d, %d], "
             "\"nested_blocksize\": "
             "256, \"nested_offset\": %.17g}",
             (int)size, (int)w.dim[0], (int)w.dim[1], (double)offset);
    part[STATE].data = state;
    part[STATE].bytes = strlen(state);
    ck_assert_msg(quant->open(host.self, w.dim, 2, part, &p) == 0, "%s", host.err.msg);
    float *got = malloc(want.bytes);
    p.tile(&p, 0, w.dim[0], 0, w.dim[1], FT_F32, got, w.dim[1]);
    ck_assert_int_eq(memcmp(got, want.data, want.bytes), 0);
    free(got);
    vectors_close(&tables);
}

START_TEST(bitsandbytes)
{
    static const char *const files[] = { "square", "wide", "outlier", "one_row", "bf16" };
    char dir[4096], name[64];
    if (!test_goldens()) {
        printf("not run: bitsandbytes: no shared goldens\n");
        return;
    }
    snprintf(dir, sizeof dir, "%s/quant", test_goldens());
    for (size_t i = 0; i < 4 * (sizeof files / sizeof *files); i++) {
        vectors v;
        start();
        snprintf(name, sizeof name, "4bit_%s.safetensors", files[i / 4]);
        vectors_open(&v, dir, name);
        check_golden(&v, i % 2 ? 128 : 64, i / 2 % 2);
        vectors_close(&v);
        plugin_close(&host);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("quant-fp4");
    TCase *t = tcase_create("quant-fp4");
    tcase_add_test(t, numbers);
    tcase_add_test(t, refused);
    tcase_add_test(t, refused_states);
    tcase_add_test(t, refused_parts);
    tcase_add_test(t, bitsandbytes);
    suite_add_tcase(s, t);
    return s;
}
