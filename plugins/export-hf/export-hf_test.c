/* export-hf_test.c -- an exported folder opened again: the same tensors, logits, configuration and
 * tokenizer; a shared head once; what rounding did, as the receipt says it. */
#include "ft/half.h"
#include "core/io/tensors.h"
#include "tests/harness.h"
#include "tests/talker.h"

static const int32_t ids[] = { 40, 128, 103, 221, 89, 306, 12, 7 };
enum { N_IDS = sizeof ids / sizeof *ids };

static void export(ft_buf *said, const char *model, const char *out, const char *with)
{
    char stages[256];
    snprintf(stages, sizeof stages, "  - use: export-hf\n%s", with);
    int status = talker_pipeline(said, model, out, stages);
    ck_assert_msg(status == 0, "%s", said->p);
}

/* Both models give the same logits, within eps. */
static void same_logits(const char *a, const char *b, double eps)
{
    vectors v, w;
    ft_tensor x = talker_logits(&v, a, NULL, ids, N_IDS), y;
    y = talker_logits(&w, b, NULL, ids, N_IDS);
    double most = 0;
    ck_assert_uint_eq(x.bytes, y.bytes);
    for (int64_t i = 0; i < N_IDS * TALKER_VOCAB; i++)
        most = fmax(most, fabs((double)talker_logit(&x, 0, i) - (double)talker_logit(&y, 0, i)));
    ck_assert_msg(most <= eps, "logits differ by %g", most);
    vectors_close(&v);
    vectors_close(&w);
}

START_TEST(the_same_model)
{
    static const char *const files[] = { "tokenizer.json", "tokenizer_config.json" };
    ft_buf said = { 0 };
    ft_err e = { 0 };
    export(&said, talker_model(), "plain", "");
    const char *model = tiny_path("plain/model");
    ck_assert_msg(!strstr(said.p, "rounded"), "%s", said.p);
    ft_tensors *a = ft_tensors_open(talker_model(), &e), *b = ft_tensors_open(model, &e);
    ck_assert_msg(a && b, "%s", e.msg);
    ck_assert_uint_eq(ft_tensors_count(a), ft_tensors_count(b));
    for (size_t i = 0; i < ft_tensors_count(a); i++) {
        const ft_tensor *x = ft_tensors_at(a, i), *y = ft_tensors_find(b, x->name);
        ck_assert_msg(y && x->dtype == y->dtype && x->ndim == y->ndim && x->bytes == y->bytes &&
                          !memcmp(x->data, y->data, x->bytes),
                      "%s", x->name);
    }
    ck_assert_ptr_null(ft_tensors_find(b, "lm_head.weight")); /* the head is the embedding, once */
    ck_assert_str_eq(ft_tensors_note(b, "format"), "pt");
    ft_tensors_close(a);
    ft_tensors_close(b);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        ck_assert(tiny_same(tiny_path("plain/model/%s", files[i]),
                            tiny_path("talker/%s", files[i])));
    same_logits(talker_model(), model, 0);
    ft_buf_free(&said);
}
END_TEST

/* Every key of the source's config.json, with its value. */
START_TEST(configuration)
{
    ft_buf said = { 0 };
    export(&said, talker_model(), "config", "    with: { dtype: bf16, lossy: true }\n");
    ft_json_doc *a = talker_json(tiny_path("talker/config.json")),
                *b = talker_json(tiny_path("config/model/config.json"));
    const ft_json *x = ft_json_root(a), *y = ft_json_root(b);
    ck_assert_uint_eq(x->len, y->len);
    for (size_t i = 0; i < x->len; i++) {
        const ft_json *u = &x->item[i], *v = ft_json_get(y, u->key);
        ft_buf p = { 0 }, q = { 0 };
        ck_assert_msg(v != NULL, "%s is gone", u->key);
        ft_json_write(&p, u, -1);
        ft_json_write(&q, v, -1);
        ck_assert_str_eq(q.p, strcmp(u->key, "dtype") ? p.p : "\"bfloat16\"");
        ft_buf_free(&p);
        ft_buf_free(&q);
    }
    ft_json_done(a);
    ft_json_done(b);
    ft_buf_free(&said);
}
END_TEST

/* The line that says what rounding did, computed here from the weights. */
static void check_receipt(const char *with, const char *name, ft_dtype dtype, const char *out,
                          double eps)
{
    char want[200];
    double worst = 0, moved = 0, all = 0;
    ft_buf said = { 0 };
    ft_err e = { 0 };
    export(&said, talker_model(), out, with);
    ft_tensors *a = ft_tensors_open(talker_model(), &e),
               *b = ft_tensors_open(tiny_path("%s/model", out), &e);
    ck_assert_msg(a && b, "%s", e.msg);
    for (size_t i = 0; i < ft_tensors_count(a); i++) {
        const ft_tensor *x = ft_tensors_at(a, i), *y = ft_tensors_find(b, x->name);
        ck_assert_msg(y && y->dtype == dtype, "%s", x->name);
        for (uint64_t k = 0; k < x->bytes / 4; k++) {
            float f;
            uint16_t h;
            memcpy(&f, (const char *)x->data + 4 * k, 4);
            memcpy(&h, (const char *)y->data + 2 * k, 2);
            double d = fabs((double)f -
                            (double)(dtype == FT_BF16 ? ft_bf16_to_float(h) : ft_half_to_float(h)));
            worst = fmax(worst, d);
            moved += d * d;
            all += (double)f * (double)f;
            ck_assert_double_le(d,
                                fabs((double)f) * (dtype == FT_BF16 ? 0x1p-8 : 0x1p-11) + 0x1p-25);
        }
    }
    snprintf(want, sizeof want,
             "export-hf: rounded to %s: by at most %.3g, %.3g of the weights' size\n", name, worst,
             sqrt(moved / all));
    ck_assert_msg(strstr(said.p, want) != NULL, "no \"%s\" in\n%s", want, said.p);
    ft_tensors_close(a);
    ft_tensors_close(b);
    ft_buf_free(&said);
    same_logits(talker_model(), tiny_path("%s/model", out), eps);
}

START_TEST(rounded)
{
    check_receipt("    with: { dtype: bf16, lossy: true }\n", "BF16", FT_BF16, "bf16", 0.3);
    check_receipt("    with: { dtype: fp16, lossy: true }\n", "F16", FT_F16, "fp16", 0.04);
}
END_TEST

/* The tuned model as a folder says what the adapter on the base says. */
START_TEST(tuned)
{
    char stages[1024];
    ft_buf said = { 0 };
    talker_chats(tiny_path("train.jsonl"), 0, 8);
    snprintf(stages, sizeof stages,
             "  - use: data-chatml\n    with: { path: %s }\n  - use: tokenizer-bpe\n  - use: "
             "lora\n    with: { r: 4 }\n"
             "  - use: train-sft\n    with: { max_steps: 3, learning_rate: 1e-2, compute_dtype: "
             "fp32 }\n  - use: merge\n  - use: export-hf\n",
             tiny_path("train.jsonl"));
    ck_assert_msg(talker_pipeline(&said, talker_model(), "tuned", stages) == 0, "%s", said.p);
    vectors v, w;
    ft_tensor x = talker_logits(&v, talker_model(), tiny_path("tuned/adapter"), ids, N_IDS), y;
    vectors base;
    y = talker_logits(&w, tiny_path("tuned/model"), NULL, ids, N_IDS);
    ft_tensor z = talker_logits(&base, talker_model(), NULL, ids, N_IDS);
    double most = 0, learned = 0;
    for (int64_t i = 0; i < N_IDS * TALKER_VOCAB; i++) {
        most = fmax(most, fabs((double)talker_logit(&x, 0, i) - (double)talker_logit(&y, 0, i)));
        learned = fmax(learned,
                       fabs((double)talker_logit(&x, 0, i) - (double)talker_logit(&z, 0, i)));
    }
    ck_assert_msg(most < 1e-4 && learned > 0.1, "merged: within %g; learned: %g", most, learned);
    vectors_close(&v);
    vectors_close(&w);
    vectors_close(&base);
    ft_buf_free(&said);
}
END_TEST

/* Packed for bitsandbytes: named, refused without `lossy`, opened again as packed, and a second
 * time the same; embeddings stay as they are. */
START_TEST(packed)
{
    static const char *const forms[] = { "nf4", "nf4-double" };
    ft_buf said = { 0 };
    ft_err e = { 0 };
    ck_assert_int_ne(talker_pipeline(&said, talker_model(), "refused",
                                     "  - use: export-hf\n    with: { quantization: nf4 }\n"), 0);
    ck_assert_msg(strstr(said.p, "nf4 keeps less than the model's own F32") != NULL, "%s", said.p);
    ck_assert(!ft_file_exists(tiny_path("refused")));
    for (int i = 0; i < 2; i++) {
        char with[100];
        snprintf(with, sizeof with, "    with: { quantization: %s, lossy: true }\n", forms[i]);
        export(&said, talker_model(), forms[i], with);
        ck_assert(strstr(said.p, "lossy; logits within") != NULL);
        ft_tensors *t = ft_tensors_open(tiny_path("%s/model", forms[i]), &e);
        const ft_tensor *q = ft_tensors_find(t, "model.layers.0.self_attn.q_proj.weight"),
                        *embed = ft_tensors_find(t, "model.embed_tokens.weight");
        ck_assert(q && q->dtype == FT_U8 && q->bytes == 64 * 64 / 2);
        ck_assert(embed && embed->dtype == FT_F32);
        ck_assert((ft_tensors_find(t, "model.layers.0.self_attn.q_proj.weight.nested_absmax") !=
                   NULL) == (i == 1));
        ft_tensors_close(t);
        ft_json_doc *c = talker_json(tiny_path("%s/model/config.json", forms[i]));
        const ft_json *q4 = ft_json_get(ft_json_root(c), "quantization_config");
        ck_assert_str_eq(ft_json_str(q4, "bnb_4bit_quant_type", ""), "nf4");
        ft_json_done(c);
    }
    /* the packed model as plain numbers gives the same logits */
    const char *model = tiny_path("nf4/model");
    export(&said, model, "unpacked", "");
    ft_json_doc *c = talker_json(tiny_path("unpacked/model/config.json"));
    ck_assert_ptr_null(ft_json_get(ft_json_root(c), "quantization_config"));
    ft_json_done(c);
    same_logits(model, tiny_path("unpacked/model"), 1e-6);
    ft_buf_free(&said);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("export-hf");
    TCase *t = tcase_create("export-hf");
    tcase_set_timeout(t, 120);
    tcase_add_unchecked_fixture(t, tiny_begin, tiny_end);
    tcase_add_test(t, the_same_model);
    tcase_add_test(t, configuration);
    tcase_add_test(t, rounded);
    tcase_add_test(t, tuned);
    tcase_add_test(t, packed);
    suite_add_tcase(s, t);
    return s;
}
