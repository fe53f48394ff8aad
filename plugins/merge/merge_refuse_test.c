/* merge_refuse_test.c -- what cannot be merged is refused by name and leaves nothing; a quantized
 * base is merged onto the numbers that were trained on, `base: original` onto the unquantized
 * ones. */
#include "core/io/safetensors_write.h"
#include "core/io/tensors.h"
#include "tests/harness.h"
#include "tests/talker.h"
#include "tests/training.h"

static const char rows_and[] =
    "  - use: data-tokens\n    with: { path: %s }\n%s"
    "  - use: train-sft\n    with: { max_steps: 2, per_device_train_batch_size: 2, learning_rate: "
    "1e-2, compute_dtype: fp32 }\n%s";

/* Runs rows, these stages before and after the training; the exit status. */
static int run_with(ft_buf *said, const char *out, const char *before, const char *after)
{
    char so[600];
    ft_buf stages = { 0 };
    ft_buf_printf(&stages, rows_and, tiny_rows(tiny_path("rows.safetensors"), 4, 16, 2, 3), before,
                  after);
    const char *yaml = tiny_file(tiny_path("%s.yaml", out),
                                 "version: 1\nmodel: %s\noutput_dir: %s\nstages:\n%s",
                                 tiny_model("tied"), tiny_path("%s", out), stages.p);
    snprintf(so, sizeof so, "--plugin-dir=%s/tests/so", test_build());
    const char *argv[] = { so, "run", yaml, NULL };
    ft_buf_free(&stages);
    return tiny_run(said, argv);
}

/* ---- refusals -------------------------------------------------------------------------------- */

START_TEST(refusals)
{
    static const struct { const char *use, *with, *says;
    } cases[] = {
        { "no-merge", "what: square, target_modules: [up_proj]",
          "no-merge cannot be merged: at model.layers.0.mlp.up_proj "
          "it computes something that is not linear in its input" },
        { "no-merge", "what: constant, target_modules: [q_proj]",
          "no-merge cannot be merged: at model.layers.0.self_attn.q_proj "
          "it adds a constant, and the module has no bias to take it" },
        { "no-merge-between", "",
          "no-merge-between cannot be merged: it changes what passes between modules" },
        { "no-merge-prompt", "target_modules: [embed_tokens]",
          "no-merge-prompt cannot be merged: it puts tokens of its own in front" },
    };
    static const char *const ends[] = { "  - use: merge\n", "  - use: export-hf\n" };
    ft_buf said = { 0 };
    for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
        char stage[256], out[32];
        snprintf(stage, sizeof stage, "  - use: %s\n    with: { %s }\n", cases[i / 2].use,
                 cases[i / 2].with);
        /* the second time the training is there already */
        snprintf(out, sizeof out, "refused-%zu", i / 2);
        ck_assert_msg(run_with(&said, out, stage, ends[i % 2]) == 1, "%s:\n%s", cases[i / 2].says,
                      said.p);
        ck_assert_msg(strstr(said.p, cases[i / 2].says) != NULL, "%s:\n%s", cases[i / 2].says,
                      said.p);
        ck_assert_msg(strstr(said.p, "use the adapter as it is") != NULL, "%s", said.p);
        ck_assert(!ft_is_dir(tiny_path("%s/model", out)));
    }
    ft_buf_free(&said);
}
END_TEST

/* ---- what is lost on the way out ------------------------------------------------------------- */

/* An exporter that does not ask for a tensor, and one that writes the model as it was. */
START_TEST(nothing_is_lost)
{
    static const char lora[] = "  - use: lora\n    with: { r: 2, lora_alpha: 8 }\n";
    static const struct { const char *what, *says;
    } cases[] = {
        { "tensor", "adapter tensor base_model.model.model.layers.1.mlp.up_proj.lora_A.weight has "
                    "gone into no weight" },
        { "training", "what was written is not what was trained: logits differ" },
        { "twice",
          "adapter tensor base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight has "
          "gone into an adapter by itself and into model.layers.0.self_attn.q_proj" },
    };
    ft_buf said = { 0 };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char stage[128];
        snprintf(stage, sizeof stage, "  - use: export-wrong\n    with: { what: %s }\n",
                 cases[i].what);
        ck_assert_int_eq(run_with(&said, "lost", lora, stage), 1);
        ck_assert_msg(strstr(said.p, cases[i].says) != NULL, "no \"%s\" in:\n%s", cases[i].says,
                      said.p);
        ck_assert(!ft_is_dir(tiny_path("lost/model")));
    }
    /* accepted by name */
    ck_assert_int_eq(run_with(&said, "lost", lora,
                              "  - use: export-wrong\n    with: { what: training, lossy: true }\n"),
                     0);
    ft_buf_free(&said);
}
END_TEST

/* A template that leaves out who speaks, beside weights as they were: other ids than the model's
 * own. */
START_TEST(words_are_kept)
{
    static const char *const with[] = { "what: turns", "what: turns, lossy: true" };
    ft_buf said = { 0 };
    char so[600], model[600];
    snprintf(model, sizeof model, "%s", talker_model());
    snprintf(so, sizeof so, "--plugin-dir=%s/tests/so", test_build());
    for (int i = 0; i < 2; i++) {
        const char *yaml = tiny_file(tiny_path("words.yaml"),
                                     "version: 1\nmodel: %s\noutput_dir: %s/words\nstages:\n"
                                     "  - use: export-wrong\n    with: { %s }\n",
                                     model, tiny_dir, with[i]);
        const char *argv[] = { so, "run", yaml, NULL };
        ck_assert_msg(tiny_run(&said, argv) == !i, "%s", said.p);
        ck_assert_msg(strstr(said.p, i ? "the same token ids in 0 of 6 rendered conversations"
                                       : "export-wrong: the words that were written give other "
                                         "token ids in 6 of 6 rendered conversations; write "
                                         "`lossy: true` to accept that"),
                      "%s", said.p);
        ck_assert(ft_is_dir(tiny_path("words/model")) == i);
    }
    ft_buf_free(&said);
}
END_TEST

/* The adapter of tests/data/tiny/lora with a tensor more, or without its last one. */
static const char *other_adapter(const char *name, bool more)
{
    ft_err e = { 0 };
    const int64_t dim[2] = { 2, 8 };
    const float v[16] = { 0 };
    ft_tensors *t = ft_tensors_open(TINY "/lora/adapter_final/adapter_model.safetensors", &e);
    ft_st_writer *w = ft_st_new(&e);
    ck_assert_msg(t && w, "%s", e.msg);
    size_t n = ft_tensors_count(t) - (more ? 0 : 1);
    tiny_must(ft_make_dirs(tiny_path("%s", name), &e), &e);
    tiny_copy(TINY "/lora/adapter_final/adapter_config.json",
              tiny_path("%s/adapter_config.json", name));
    for (size_t i = 0; i < n; i++) {
        const ft_tensor *x = ft_tensors_at(t, i);
        ft_st_declare(w, x->name, x->dtype, x->dim, x->ndim, &e);
    }
    if (more) ft_st_declare(w, "base_model.model.model.odd.lora_A.weight", FT_F32, dim, 2, &e);
    tiny_must(ft_st_begin(w, tiny_path("%s/adapter_model.safetensors", name), 0, &e), &e);
    for (size_t i = 0; i < n; i++)
        tiny_must(ft_st_write(w, (int64_t)i, ft_tensors_at(t, i)->data,
                              ft_tensors_at(t, i)->bytes, &e), &e);
    if (more) tiny_must(ft_st_write(w, (int64_t)n, v, sizeof v, &e), &e);
    tiny_must(ft_st_commit(w, &e), &e);
    ft_st_free(w);
    ft_tensors_close(t);
    return tiny_path("%s", name);
}

/* Every tensor of an adapter has its place, every place its tensor. */
START_TEST(every_tensor_is_used)
{
    static const char *const says[] = { "the adapter has no tensor",
                                        "base_model.model.model.odd.lora_A.weight: fits no" };
    ft_buf said = { 0 };
    for (int more = 0; more < 2; more++) {
        char stage[700];
        snprintf(stage, sizeof stage, "  - use: lora\n    with: { init_adapter: %s }\n",
                 other_adapter(more ? "more" : "less", more));
        ck_assert_int_ne(run_with(&said, "used", stage, "  - use: merge\n"), 0);
        ck_assert_msg(strstr(said.p, says[more]) != NULL, "no \"%s\" in:\n%s", says[more], said.p);
        ck_assert(!ft_is_dir(tiny_path("used")));
    }
    ft_buf_free(&said);
}
END_TEST

/* ---- onto a quantized base ------------------------------------------------------------------- */

static float at(const ft_tensor *t, int64_t i)
{
    float f;
    memcpy(&f, (const char *)t->data + 4 * i, 4);
    return f;
}

/* The nearest of the 16 levels of NF4 (Dettmers et al. 2023), times the block's largest |w|. */
static double nf4(const ft_tensor *w, int64_t i)
{
    static const double level[16] = {
        -1,
        -0.6961928009986877,
        -0.5250730514526367,
        -0.39491748809814453,
        -0.28444138169288635,
        -0.18477343022823334,
        -0.09105003625154495,
        0,
        0.07958029955625534,
        0.16093020141124725,
        0.24611230194568634,
        0.33791524171829224,
        0.44070982933044434,
        0.5626170039176941,
        0.7229568362236023,
        1,
    };
    double most = 0, best = 0;
    for (int64_t k = i / 64 * 64; k < i / 64 * 64 + 64; k++)
        most = fmax(most, fabs((double)at(w, k)));
    for (int k = 0; k < 16; k++) {
        if (k == 0 || fabs(level[k] * most - (double)at(w, i)) < fabs(best - (double)at(w, i)))
            best = level[k] * most;
    }
    return best;
}

/* OUT/model against base + B A * 2, the base as it is or as NF4 holds it. */
static void check_merged(const char *out, bool original)
{
    ft_err e = { 0 };
    ft_tensors *m = ft_tensors_open(tiny_path("%s/model", out), &e),
               *w = ft_tensors_open(tiny_model("tied"), &e);
    ft_tensors *a = ft_tensors_open(tiny_path("%s/adapter/adapter_model.safetensors", out), &e);
    int seen = 0;
    ck_assert_msg(m && w && a, "%s", e.msg);
    for (size_t k = 0; k < ft_tensors_count(w); k++) {
        const ft_tensor *base = ft_tensors_at(w, k), *have = ft_tensors_find(m, base->name);
        char name[200];
        int stem = (int)strlen(base->name) - 7;
        snprintf(name, sizeof name, "base_model.model.%.*s.lora_A.weight", stem, base->name);
        const ft_tensor *A = ft_tensors_find(a, name);
        snprintf(name, sizeof name, "base_model.model.%.*s.lora_B.weight", stem, base->name);
        const ft_tensor *B = ft_tensors_find(a, name);
        ck_assert_msg(have && have->bytes == base->bytes && !A == !B, "%s", base->name);
        bool packed = A && !original;
        int64_t cols = base->dim[base->ndim - 1], r = A ? A->dim[0] : 0;
        for (int64_t i = 0; i < (int64_t)base->bytes / 4; i++) {
            double want = packed ? nf4(base, i) : (double)at(base, i);
            for (int64_t j = 0; j < r; j++)
                want += 2 * (double)at(B, i / cols * r + j) * (double)at(A, j * cols + i % cols);
            ck_assert_msg(fabs((double)at(have, i) - want) < 1e-6, "%s[%lld]: %g, not %g",
                          base->name, (long long)i, (double)at(have, i), want);
        }
        seen += A != NULL;
    }
    ck_assert_int_eq(seen, 14); /* seven linear modules of two layers */
    ft_tensors_close(m);
    ft_tensors_close(w);
    ft_tensors_close(a);
}

static const char packed_lora[] =
    "  - use: quant-nf4\n  - use: lora\n    with: { r: 4, lora_alpha: 8 }\n";
static const char receipt[] = "14 tensors merged, 0 trained whole, 6 as they were; onto the "
                              "original weights, not those that were trained on";

START_TEST(onto_what_was_trained)
{
    ft_buf said = { 0 };
    ck_assert_msg(run_with(&said, "packed", packed_lora,
                           "  - use: merge\n  - use: export-hf\n    with: { dtype: fp32 }\n") == 0,
                  "%s", said.p);
    ck_assert_msg(!strstr(said.p, "original"), "%s", said.p);
    check_merged("packed", false);
    /* an export without a merge stage does the same */
    ck_assert_msg(run_with(&said, "packed2", packed_lora,
                           "  - use: export-hf\n    with: { dtype: fp32 }\n") == 0,
                  "%s", said.p);
    ck_assert(tiny_same(tiny_path("packed/model/model.safetensors"),
                        tiny_path("packed2/model/model.safetensors")));
    ft_buf_free(&said);
}
END_TEST

START_TEST(onto_the_original)
{
    ft_buf said = { 0 };
    ck_assert_msg(run_with(&said, "original", packed_lora,
                           "  - use: merge\n    with: { base: original }\n"
                           "  - use: export-hf\n    with: { dtype: fp32 }\n") == 0,
                  "%s", said.p);
    ck_assert_msg(strstr(said.p, receipt) != NULL, "%s", said.p);
    check_merged("original", true);
    ft_buf_free(&said);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("merge-refuse");
    TCase *t = tcase_create("merge-refuse");
    tcase_set_timeout(t, 120);
    tcase_add_unchecked_fixture(t, tiny_begin, tiny_end);
    tcase_add_test(t, refusals);
    tcase_add_test(t, nothing_is_lost);
    tcase_add_test(t, words_are_kept);
    tcase_add_test(t, every_tensor_is_used);
    tcase_add_test(t, onto_what_was_trained);
    tcase_add_test(t, onto_the_original);
    suite_add_tcase(s, t);
    return s;
}
