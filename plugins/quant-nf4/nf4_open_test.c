/* nf4_open_test.c -- the parts of NF4 and everything that is refused: shapes, weights that are not
 * numbers, damaged or foreign parts.  (The numbers themselves: quant-nf4_test.c.) */
#include "tests/plugin_host.h"
#include <math.h>

enum { ROWS = 70, COLS = 33, COUNT = ROWS * COLS, BLOCKS = 37 };
enum { CODES, ABSMAX, MAP, NESTED_ABSMAX, NESTED_MAP, STATE, N_PARTS };

static plugin_host host;
static const ft_quantizer *quant;
static const int64_t shape[2] = { ROWS, COLS };
static float weight[COUNT];
static char store[N_PARTS][4096];
static ft_tensor part[N_PARTS];

static ft_tensor tensor(ft_dtype dtype, const void *data, size_t bytes)
{
    return (ft_tensor){ .name = "layers.3.q_proj.weight", .dtype = dtype, .ndim = 2,
                        .dim = { ROWS, COLS }, .data = data, .bytes = bytes };
}

static void start(const char *double_quant, const char *skip)
{
    plugin_text with[] = { { "double_quant", double_quant }, { "skip_modules", skip }, { 0 } };
    host = (plugin_host){ 0 };
    ck_assert_int_eq(plugin_open(&host, "quant-nf4", with), 0);
    quant = host.plugin->vtable;
}

/* Packs `weight` into store and part. */
static int pack(void)
{
    ft_part size[FT_MAX_PARTS];
    void *into[FT_MAX_PARTS];
    ck_assert_int_eq(quant->parts(host.self, shape, 2, size), N_PARTS);
    for (int i = 0; i < N_PARTS; i++) {
        int64_t bytes = size[i].dim[0] * (size[i].dtype == FT_F32 ? 4 : 1);
        bool made = size[i].dtype != FT_NO_DTYPE;
        ck_assert_int_le(bytes, (int64_t)sizeof store[i]);
        into[i] = made ? store[i] : NULL;
        part[i] = (ft_tensor){ .name = i ? size[i].suffix : "q_proj.weight", .data = into[i],
                               .dtype = size[i].dtype, .bytes = (uint64_t)bytes };
    }
    part[ABSMAX].name = part[MAP].name = part[STATE].name = "part";
    part[NESTED_ABSMAX].name = part[NESTED_MAP].name = "part";
    ft_tensor w = tensor(FT_F32, weight, sizeof weight);
    return quant->encode(host.self, &w, into);
}

static void fresh(const char *double_quant)
{
    start(double_quant, "");
    for (int i = 0; i < COUNT; i++) weight[i] = sinf((float)i * 1.7f);
    ck_assert_int_eq(pack(), 0);
}

/* open() says `code` and a message with `word` in it; 0: it opens. */
static void check_open(int code, const char *word)
{
    ft_packed p = { 0 };
    int rc = quant->open(host.self, shape, 2, part, &p);
    ck_assert_msg(rc == code, "%d, not %d: %s", rc, code, host.err.msg);
    if (code) ck_assert_msg(strstr(host.err.msg, word) != NULL, "%s", host.err.msg);
    else ck_assert_int_eq(p.rows * p.cols, COUNT);
}

/* ---- parts ----------------------------------------------------------------------------------- */
START_TEST(sizes)
{
    static const char *const suffix[] = { "", ".absmax", ".quant_map", ".nested_absmax",
        ".nested_quant_map", ".quant_state.bitsandbytes__nf4" };
    static const int64_t bytes[2][N_PARTS] = { { 1155, BLOCKS, 16, 0, 0, 0 },
                                               { 1155, BLOCKS, 16, 1, 256, 0 } };
    static const ft_dtype dtype[2][N_PARTS] = {
        { FT_U8, FT_F32, FT_F32, FT_NO_DTYPE, FT_NO_DTYPE, FT_U8 },
        { FT_U8, FT_U8, FT_F32, FT_F32, FT_F32, FT_U8 } };
    for (int nested = 0; nested < 2; nested++) {
        ft_part out[FT_MAX_PARTS];
        start(nested ? "true" : "false", "");
        ck_assert_str_eq(quant->scheme, "nf4");
        ck_assert_int_eq(quant->parts(host.self, shape, 2, out), N_PARTS);
        for (int i = 0; i < N_PARTS; i++) {
            ck_assert_str_eq(out[i].suffix, suffix[i]);
            ck_assert_int_eq(out[i].dtype, dtype[nested][i]);
            if (i != STATE) ck_assert_int_eq(out[i].dim[0], bytes[nested][i]);
        }
        ck_assert(out[CODES].ndim == 2 && out[CODES].dim[1] == 1);
        plugin_close(&host);
    }
}
END_TEST

/* The JSON is what bitsandbytes writes, but for the blanks after it, and fits for any shape. */
START_TEST(state_text)
{
    fresh("true");
    ft_err e = { 0 };
    ft_json_doc *d = ft_json_parse("state", store[STATE], (size_t)part[STATE].bytes, &e);
    ck_assert_msg(d != NULL, "%s", e.msg);
    static const char want[] =
        "{\"quant_type\": \"nf4\", \"blocksize\": 64, \"dtype\": \"float32\", \"shape\": [70, 33], "
        "\"nested_blocksize\": 256, \"nested_dtype\": \"float32\", \"nested_offset\": ";
    ck_assert_int_eq(memcmp(store[STATE], want, sizeof want - 1), 0);
    ck_assert_int_eq(store[STATE][part[STATE].bytes - 1], ' ');
    ft_json_done(d);
    ft_part out[FT_MAX_PARTS];
    int64_t many[FT_MAX_DIMS] = { 100, 100, 100, 100, 100, 100, 100, 100 };
    ck_assert_int_eq(quant->parts(host.self, many, 8, out), N_PARTS);
    ck_assert_int_ge(out[STATE].dim[0], (int64_t)sizeof want + 24 + 6 * 5);
    plugin_close(&host);
}
END_TEST

START_TEST(shapes_refused)
{
    static const struct { int64_t dim[9]; int ndim; } bad[] = {
        { { 64 }, 1 }, { { 0 }, 0 }, { { 4, 0 }, 2 }, { { -4, 4 }, 2 }, { { -4, -4 }, 2 },
        { { INT64_MAX, 2 }, 2 }, { { INT64_MAX, INT64_MAX }, 2 }, { { 1, INT64_MAX }, 2 },
        { { 1, 1, 1, 1, 1, 1, 1, 1, 1 }, 9 },
    };
    ft_part out[FT_MAX_PARTS];
    start("true", "");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_int_eq(quant->parts(host.self, bad[i].dim, bad[i].ndim, out), FT_EUNSUP);
        ck_assert_str_ne(host.err.msg, "");
    }
    plugin_close(&host);
}
END_TEST

/* ---- what encode() refuses ------------------------------------------------------------------- */
START_TEST(not_finite)
{
    static const struct { int at; float x; const char *says; } bad[] = {
        { 0, NAN, "row 0, column 0 is nan" }, { 5 * COLS + 7, INFINITY, "row 5, column 7 is inf" },
        { COUNT - 1, -INFINITY, "row 69, column 32 is -inf" }, // in the short block
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        fresh("true");
        weight[bad[i].at] = bad[i].x;
        ck_assert_int_eq(pack(), FT_EINVAL);
        ck_assert_msg(strstr(host.err.msg, bad[i].says) != NULL, "%s", host.err.msg);
        ck_assert_ptr_nonnull(strstr(host.err.msg, "layers.3.q_proj.weight"));
        plugin_close(&host);
    }
    fresh("false");
    weight[3 * COLS] = NAN;
    weight[64 * COLS] = NAN; // the first is named
    ck_assert_int_eq(pack(), FT_EINVAL);
    ck_assert_ptr_nonnull(strstr(host.err.msg, "row 3, column 0"));
    plugin_close(&host);
}
END_TEST

/* Scales whose sum is beyond fp32 can be kept as they are, but have no mean. */
START_TEST(too_large_for_nesting)
{
    fresh("false");
    for (int i = 0; i < COUNT; i++) weight[i] = 3e38f;
    ck_assert_int_eq(pack(), 0);
    check_open(0, "");
    plugin_close(&host);
    fresh("true");
    for (int i = 0; i < COUNT; i++) weight[i] = 3e38f;
    ck_assert_int_eq(pack(), FT_EINVAL);
    ck_assert_ptr_nonnull(strstr(host.err.msg, "double_quant: false"));
    plugin_close(&host);
}
END_TEST

START_TEST(input_refused)
{
    void *into[FT_MAX_PARTS];
    fresh("true");
    for (int i = 0; i < N_PARTS; i++) into[i] = store[i];
    ft_tensor w = tensor(FT_F64, weight, sizeof weight);
    ck_assert_int_eq(quant->encode(host.self, &w, into), FT_EDTYPE);
    w = tensor(FT_F32, weight, sizeof weight - 4);
    ck_assert_int_eq(quant->encode(host.self, &w, into), FT_ESHAPE);
    w = tensor(FT_BF16, weight, sizeof weight);
    ck_assert_int_eq(quant->encode(host.self, &w, into), FT_ESHAPE);
    w = tensor(FT_U8, weight, sizeof weight);
    w.scheme = "q4_0";
    ck_assert_int_eq(quant->encode(host.self, &w, into), FT_EDTYPE);
    plugin_close(&host);
}
END_TEST

/* ---- what open() refuses --------------------------------------------------------------------- */
START_TEST(parts_missing_or_cut)
{
    for (int nested = 0; nested < 2; nested++) {
        fresh(nested ? "true" : "false");
        check_open(0, "");
        for (int i = 0; i < N_PARTS; i++) {
            if (!part[i].data) continue;
            ft_tensor whole = part[i];
            part[i].data = NULL, part[i].bytes = 0;
            check_open(FT_EFORMAT, "");
            part[i] = whole;
            part[i].bytes -= i == STATE ? 150 : 1; // the state ends in blanks
            check_open(FT_EFORMAT, "");
            part[i] = whole;
            part[i].bytes += 1;
            if (i != STATE) check_open(FT_EFORMAT, "bytes");
            part[i] = whole;
            part[i].dtype = FT_F16;
            // Codes may be stored as any dtype (bnb_4bit_quant_storage); the state is bytes.
            if (i != CODES && i != STATE) check_open(FT_EFORMAT, "dtype");
            part[i] = whole;
        }
        check_open(0, "");
        plugin_close(&host);
    }
}
END_TEST

/* Parts of the one form do not open as the other. */
START_TEST(half_nested)
{
    fresh("true");
    part[NESTED_ABSMAX].data = NULL;
    check_open(FT_EFORMAT, ".nested_absmax");
    part[NESTED_MAP].data = NULL;
    check_open(FT_EFORMAT, "dtype");
    plugin_close(&host);
}
END_TEST

/* Puts a text in the place of the state: its ' become ", its @ the nested keys. */
static void set_state(const char *text)
{
    char *out = store[STATE];
    for (; *text; text++) {
        const char *add = *text == '\'' ? "\"" : *text == '@' ? ",\"nested_blocksize\":256,"
            "\"nested_dtype\":\"float32\",\"nested_offset\":0.5" : NULL;
        if (add) out = stpcpy(out, add);
        else *out++ = *text;
    }
    part[STATE].bytes = (uint64_t)(out - store[STATE]);
}

START_TEST(states)
{
    static const struct { const char *text, *word; } cases[] = {
        { "{'quant_type':'nf4','blocksize':64,'dtype':'bfloat16','shape':[70,33]@}", NULL },
        { "{'shape':[70,33],'quant_type':'nf4','blocksize':64@}  ", NULL },
        { "{'quant_type':'fp4','blocksize':64,'shape':[70,33]@}", "quant_type" },
        { "{'blocksize':64,'shape':[70,33]@}", "quant_type" },
        { "{'quant_type':'nf4','blocksize':128,'shape':[70,33]@}", "blocksize" },
        { "{'quant_type':'nf4','blocksize':'64','shape':[70,33]@}", "blocksize" },
        { "{'quant_type':'nf4','blocksize':64,'shape':[33,70]@}", "shape" },
        { "{'quant_type':'nf4','blocksize':64,'shape':[2310]@}", "shape" },
        { "{'quant_type':'nf4','blocksize':64,'shape':null@}", "shape" },
        { "{'quant_type':'nf4','blocksize':64,'shape':[70,33]}", "nested_blocksize" },
        { "{'quant_type':'nf4','blocksize':64,'shape':[70,33],'nested_blocksize':256,"
          "'nested_dtype':'float16','nested_offset':0.5}", "nested_dtype" },
        { "{'quant_type':'nf4','blocksize':64,'shape':[70,33],'nested_blocksize':256,"
          "'nested_dtype':'float32','nested_offset':1e39}", "nested_offset" },
        { "{'quant_type':'nf4','blocksize':64,'shape':[70,33],'nested_blocksize':256,"
          "'nested_dtype':'float32','nested_offset':'0'}", "nested_offset" },
        { "{'quant_type':'nf4','blocksize':64,'shape':[70,33],'nested_blocksize':256,"
          "'nested_dtype':'float32'}", "nested_offset" },
        { "[1]", "object" }, { "", "" }, { "{'quant_type':'nf4'", "" }, { "{} x", "" },
    };
    fresh("true");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        set_state(cases[i].text);
        check_open(cases[i].word ? FT_EFORMAT : 0, cases[i].word);
    }
    char *big = malloc(100000);
    memset(big, ' ', 100000);
    part[STATE].data = big, part[STATE].bytes = 100000;
    check_open(FT_EFORMAT, "64 KiB");
    host.lacks = "ft.json/1";
    check_open(FT_EUNSUP, "does not offer ft.json/1");
    free(big);
    plugin_close(&host);
}
END_TEST

/* Numbers in parts that would decode to what is not a number. */
START_TEST(numbers_damaged)
{
    static const float bad[] = { NAN, INFINITY, -INFINITY };
    for (size_t k = 0; k < 3; k++) {
        fresh("false");
        memcpy(store[ABSMAX] + 4 * (BLOCKS - 1), &bad[k], 4);
        check_open(FT_EFORMAT, "finite");
        plugin_close(&host);
        fresh("true");
        memcpy(store[NESTED_ABSMAX], &bad[k], 4);
        check_open(FT_EFORMAT, "finite");
        plugin_close(&host);
        fresh("true");
        memcpy(store[NESTED_MAP] + 4 * 17, &bad[k], 4);
        check_open(FT_EFORMAT, "finite");
        plugin_close(&host);
    }
    fresh("true"); // finite each, too large together
    float big = 3e38f, two = 2;
    memcpy(store[NESTED_ABSMAX], &big, 4);
    memcpy(store[NESTED_MAP], &two, 4);
    check_open(FT_EFORMAT, "finite");
    plugin_close(&host);
    fresh("false");
    store[MAP][21] ^= 1;
    check_open(FT_EFORMAT, "levels");
    plugin_close(&host);
}
END_TEST

/* ---- the rest -------------------------------------------------------------------------------- */
static const char *config_text(const char *double_quant, const char *skip)
{
    start(double_quant, skip);
    return quant->config(host.self);
}

START_TEST(quantization_config)
{
    ft_err e = { 0 };
    const char *text = config_text("false", "");
    ft_json_doc *d = ft_json_parse("config", text, strlen(text), &e);
    ck_assert_msg(d != NULL, "%s", e.msg);
    const ft_json *c = ft_json_root(d);
    ck_assert_str_eq(ft_json_str(c, "quant_method", ""), "bitsandbytes");
    ck_assert_str_eq(ft_json_str(c, "bnb_4bit_quant_type", ""), "nf4");
    ck_assert(ft_json_get(c, "load_in_4bit")->truth);
    ck_assert(!ft_json_get(c, "bnb_4bit_use_double_quant")->truth);
    ck_assert_int_eq(ft_json_get(c, "llm_int8_skip_modules")->type, FT_JSON_NULL);
    ft_json_done(d);
    plugin_close(&host);

    text = config_text("true", "o_proj,a\"b\\c");
    d = ft_json_parse("config", text, strlen(text), &e);
    ck_assert_msg(d != NULL, "%s", e.msg);
    const ft_json *skip = ft_json_get(ft_json_root(d), "llm_int8_skip_modules");
    ck_assert(ft_json_get(ft_json_root(d), "bnb_4bit_use_double_quant")->truth);
    ck_assert_uint_eq(skip->len, 3);
    ck_assert_str_eq(skip->item[0].text, "lm_head");
    ck_assert_str_eq(skip->item[1].text, "o_proj");
    ck_assert_str_eq(skip->item[2].text, "a\"b\\c");
    const ft_list *list = (const void *)((const char *)host.config + quant->skip_modules);
    ck_assert_uint_eq(list->n, 2);
    ck_assert_str_eq(list->v[0], "o_proj");
    ft_json_done(d);
    plugin_close(&host);
}
END_TEST

START_TEST(no_memory)
{
    host = (plugin_host){ .no_memory = true };
    ck_assert_int_eq(plugin_open(&host, "quant-nf4", NULL), FT_ENOMEM);
    plugin_close(&host);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("nf4-open");
    TCase *c = tcase_create("parts");
    tcase_add_test(c, sizes);
    tcase_add_test(c, state_text);
    tcase_add_test(c, shapes_refused);
    tcase_add_test(c, not_finite);
    tcase_add_test(c, too_large_for_nesting);
    tcase_add_test(c, input_refused);
    tcase_add_test(c, parts_missing_or_cut);
    tcase_add_test(c, half_nested);
    tcase_add_test(c, states);
    tcase_add_test(c, numbers_damaged);
    tcase_add_test(c, quantization_config);
    tcase_add_test(c, no_memory);
    suite_add_tcase(s, c);
    return s;
}
