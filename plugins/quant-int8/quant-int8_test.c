/* quant-int8_test.c -- codes and row scales as numbers, parts that are refused, and a checkpoint of
 * bitsandbytes where the shared goldens are present. */
#include "tests/plugin_host.h"
#include <math.h>
#include "tests/talker.h"

enum { ROWS = 3, COLS = 5 };

static plugin_host host;
static const ft_quantizer *quant;
static const int64_t shape[2] = { ROWS, COLS };
static int8_t codes[ROWS * COLS];
static float scale[ROWS] = { 1.5f, 0.25f, 90 };
static uint8_t format;
static ft_tensor part[FT_MAX_PARTS];

static void start(void)
{
    if (host.plugin) plugin_close(&host);
    ck_assert_int_eq(plugin_open(&host, "quant-int8", NULL), 0);
    quant = host.plugin->vtable;
    for (int i = 0; i < ROWS * COLS; i++) codes[i] = (int8_t)(i * 37 % 255 - 127);
    part[0] = (ft_tensor){ "w", FT_I8, 2, { ROWS, COLS }, NULL, codes, sizeof codes };
    part[1] = (ft_tensor){ "SCB", FT_F32, 1, { ROWS }, NULL, scale, sizeof scale };
    part[2] = (ft_tensor){ "weight_format", FT_U8, 0, { 0 }, NULL, &format, 1 };
    format = 0;
}

START_TEST(numbers)
{
    ft_packed p;
    float got[2][3];
    start();
    ck_assert_int_eq(quant->open(host.self, shape, 2, part, &p), 0);
    p.tile(&p, 1, 2, 2, 3, FT_F32, got, 3);
    for (int r = 0; r < 2; r++) {
        for (int c = 0; c < 3; c++) {
            float want = (float)codes[(r + 1) * COLS + c + 2] * scale[r + 1] * (float)(1 / 127.0);
            ck_assert(got[r][c] == want);
        }
    }
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

START_TEST(refused)
{
    ft_part of[FT_MAX_PARTS];
    start();
    ck_assert_int_eq(quant->parts(host.self, shape, 1, of), FT_EUNSUP);
    ck_assert_msg(strstr(host.err.msg, "1 dimensions") != NULL, "%s", host.err.msg);
    part[0].bytes--;
    check_refused("shape");
    start();
    part[0].ndim = 3;
    part[0].dim[2] = 1;
    check_refused("shape");
    start();
    part[0].dim[0] = COLS;
    part[0].dim[1] = ROWS;
    check_refused("shape");
    start();
    part[1].dtype = FT_BF16;
    check_refused("SCB");
    start();
    part[1].bytes -= 4;
    check_refused("SCB");
    start();
    part[1].data = NULL;
    check_refused("SCB");
    start();
    format = 2;
    check_refused("weight_format");
    start();
    scale[1] = INFINITY;
    check_refused("finite");
    scale[1] = 0.25f;
    plugin_close(&host);
}
END_TEST

/* Logits of the folder are those of a plain product with bitsandbytes' own dequantized weights, and
 * an adapter trains on it, merges and is exported as plain numbers. */
START_TEST(checkpoint)
{
    char dir[4096], stages[600];
    vectors g, got;
    ft_buf said = { 0 };
    if (!test_goldens()) {
        printf("not run: checkpoint: no shared goldens\n");
        return;
    }
    snprintf(dir, sizeof dir, "%s/quant/bnb8", test_goldens());
    vectors_open(&g, dir, "golden.safetensors");
    ft_tensor ids = vectors_get(&g, "", "input_ids"), want = vectors_get(&g, "", "logits_dequant");
    int32_t row[64];
    int64_t n = ids.dim[1], vocab = want.dim[2];
    for (int64_t i = 0; i < n; i++) row[i] = (int32_t)((const int64_t *)ids.data)[i];
    ft_tensor x = talker_logits(&got, dir, NULL, row, n);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t k = 0; k < vocab; k++)
            ck_assert_double_le(fabs((double)talker_logit(&x, i, k) -
                                     (double)talker_logit(&want, i, k)), 1e-4);
    }
    snprintf(stages, sizeof stages,
             "  - use: data-tokens\n    with: { path: %s }\n  - use: lora\n    with: { r: 2 }\n  - "
             "use: "
             "train-sft\n    with: { max_steps: 2, compute_dtype: fp32 }\n  - use: merge\n",
             talker_rows(tiny_path("rows.safetensors"), row, NULL, 1, n));
    ck_assert_msg(talker_pipeline(&said, dir, "int8", stages) == 0, "%s", said.p);
    ck_assert_int_ne(talker_pipeline(&said, dir, "twice", "  - use: quant-nf4\n"), 0);
    ck_assert_msg(strstr(said.p, "packed already (read by quant-int8)") != NULL, "%s", said.p);
    vectors_close(&g);
    vectors_close(&got);
    ft_buf_free(&said);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("quant-int8");
    TCase *t = tcase_create("quant-int8");
    tcase_set_timeout(t, 120);
    tcase_add_unchecked_fixture(t, tiny_begin, tiny_end);
    tcase_add_test(t, numbers);
    tcase_add_test(t, refused);
    tcase_add_test(t, checkpoint);
    suite_add_tcase(s, t);
    return s;
}
