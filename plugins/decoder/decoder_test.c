/* decoder_test.c -- what model plugins share: rotary tables against transformers' own; every family
 * adapted on all its linear layers, merged, exported and read again, as a folder and as GGUF and
 * back; parameters counted from config.json alone.  Logits and gradients of the families:
 * tests/unit/test_model.c; what is refused: decoder_refused_test.c. */
#include "ft/rope.h"
#include "tests/talker.h"
#include "tests/training.h"

/* ---- rotary tables --------------------------------------------------------------------------- */

/* An entry of rope_extra.json as a configuration; to be closed. */
static ft_json_doc *config_of(const ft_json *entry)
{
    ft_buf b = { 0 };
    ft_err e = { 0 };
    ft_buf_puts(&b, "{\"rope_parameters\": ");
    ft_json_write(&b, ft_json_get(entry, "rope"), -1);
    ft_buf_puts(&b, "}");
    ft_json_doc *d = ft_json_parse("rope", b.p, b.n, &e);
    ck_assert_msg(d != NULL, "%s", e.msg);
    ft_buf_free(&b);
    return d;
}

static void check_table(const ft_json *entry)
{
    static ft_rope_spec r;
    float f[FT_ROPE_MAX];
    double scale, want;
    int64_t dim = 0, context = 0;
    const char *label = ft_json_str(entry, "label", "");
    const ft_json *freq = ft_json_get(entry, "inv_freq");
    ft_json_doc *d = config_of(entry);
    ft_json_as_int(ft_json_get(entry, "head_dim"), &dim);
    ft_json_as_int(ft_json_get(entry, "max_position_embeddings"), &context);
    ck_assert_msg(ft_rope_read(&r, ft_json_root(d), NULL, 10000) &&
                      ft_rope_frequencies(&r, dim, context, f, &scale),
                  "%s: %s", label, r.why);
    ck_assert_int_eq((int64_t)freq->len, dim / 2);
    for (int64_t i = 0; i < dim / 2; i++) {
        ck_assert(ft_json_as_real(&freq->item[i], &want));
        ck_assert_msg(fabs((double)f[i] - want) <= 2e-6 * want, "%s: frequency %d is %g, not %g",
                      label, (int)i, (double)f[i], want);
    }
    ck_assert(ft_json_as_real(ft_json_get(entry, "attention_factor"), &want));
    ck_assert_msg(fabs(scale - want) <= 1e-9, "%s: scale %.9g, not %.9g", label, scale, want);
    ft_json_done(d);
}

/* Of real sizes; those for rows beyond what ft_rope_limit allows are not computed. */
START_TEST(rotary_tables)
{
    char path[600];
    int held = 0;
    if (!test_goldens()) {
        printf("not run: shared rotary tables (../shared is not present)\n");
        return;
    }
    snprintf(path, sizeof path, "%s/models/rope_extra.json", test_goldens());
    ft_json_doc *d = talker_json(path);
    const ft_json *all = ft_json_root(d);
    for (size_t i = 0; i < all->len; i++) {
        int64_t length = 0, original = 0;
        const ft_json *e = &all->item[i];
        ft_json_as_int(ft_json_get(e, "seq_len"), &length);
        ft_json_as_int(ft_json_get(ft_json_get(e, "rope"), "original_max_position_embeddings"),
                       &original);
        if (length > original) continue;
        check_table(e);
        held++;
    }
    ck_assert_int_ge(held, 6);
    ft_json_done(d);
}
END_TEST

/* ---- long rows ------------------------------------------------------------------------------- */

/* Longrope's short_factor holds up to the original context, 64 here. */
START_TEST(rows_that_are_too_long)
{
    for (int n = 64; n <= 65; n++) {
        const char *rows = tiny_rows(tiny_path("rows.safetensors"), 1, n, 1, 1);
        const char *argv[] = { "score", "--model", tiny_model("phi3"), "--tokens", rows, NULL };
        ft_buf said = { 0 };
        int status = tiny_run(&said, argv);
        ck_assert_msg(status == (n > 64), "%d tokens: status %d: %s", n, status, said.p);
        if (status) ck_assert_msg(strstr(said.p, "context is 64") != NULL, "%s", said.p);
        ft_buf_free(&said);
    }
}
END_TEST

/* ---- adapters, merging, export --------------------------------------------------------------- */

static const char *const families[] = { "tied",  "mistral", "qwen2",  "qwen3",
                                        "phi3",  "gemma2",  "gemma3" };

/* The largest difference of two models' logits on the rows, against the largest logit. */
static double apart(const char *a, const char *adapter, const char *b, const char *rows)
{
    vectors v;
    const char *argv[] = { "score", "--model", b, "--tokens", rows, "--out",
                           tiny_path("want.safetensors"), NULL };
    ft_buf said = { 0 };
    talker_run(&said, argv);
    ft_buf_free(&said);
    vectors_open(&v, tiny_dir, "want.safetensors");
    double most = 1, d = score_difference(a, adapter, rows, &v, "logits");
    ft_tensor t = vectors_get(&v, "", "logits");
    for (uint64_t i = 0; i < t.bytes / 4; i++) {
        float f;
        memcpy(&f, (const char *)t.data + 4 * i, 4);
        most = fmax(most, fabs((double)f));
    }
    vectors_close(&v);
    return d / most;
}

/* LoRA on every linear layer, fused ones too; what is exported is base and adapter in one. */
START_TEST(adapted_and_merged)
{
    char stages[1024], out[64];
    const char *rows = tiny_rows(tiny_path("rows.safetensors"), 4, 24, 2, 3);
    const char *model = tiny_model(families[_i]);
    ft_buf said = { 0 };
    snprintf(out, sizeof out, "out-%s", families[_i]);
    snprintf(stages, sizeof stages,
             "  - { use: data-tokens, with: { path: %s } }\n"
             "  - { use: lora, with: { r: 2, target_modules: all-linear } }\n"
             "  - { use: train-sft, with: { max_steps: 3, learning_rate: 1e-2, compute_dtype: fp32 "
             "} }\n  - use: merge\n  - use: export-hf\n",
             rows);
    ck_assert_msg(talker_pipeline(&said, model, out, stages) == 0, "%s", said.p);
    double merged = apart(model, tiny_path("%s/adapter", out), tiny_path("%s/model", out), rows);
    double learned = apart(model, NULL, tiny_path("%s/model", out), rows);
    ck_assert_msg(merged < 1e-5 && learned > 1e-3, "%s: merged within %g; learned %g",
                  families[_i], merged, learned);
    ft_buf_free(&said);
}
END_TEST

/* ---- parameters ------------------------------------------------------------------------------ */

/* Published counts: of the model, and of LoRA with r = 8 on seven modules. */
static const struct {
    const char *type;
    int width, inner, layers, heads, kv_heads, head_dim, vocab;
    double parameters, lora;
} counts[] = {
    { "llama", 4096, 11008, 32, 32, 32, 128, 32000, 6738415616, 19988480 },    /* Llama-2-7B */
    { "mistral", 4096, 14336, 32, 32, 8, 128, 32000, 7241732096, 20971520 },   /* Mistral-7B-v0.1 */
    { "llama", 4096, 14336, 32, 32, 8, 128, 128256, 8030261248, 20971520 },    /* Llama-3-8B */
    { "gemma3_text", 640, 2048, 18, 4, 1, 256, 262144, 268098176, 1898496 },   /* gemma-3-270m */
};

static void write_bare_config(const char *path, int i)
{
    tiny_file(path,
              "{\"model_type\": \"%s\", \"hidden_size\": %d, \"intermediate_size\": %d, "
              "\"num_hidden_layers\": %d, \"num_attention_heads\": %d, "
              "\"num_key_value_heads\": %d, \"head_dim\": %d, \"vocab_size\": %d, "
              "\"max_position_embeddings\": 4096, \"torch_dtype\": \"bfloat16\"}",
              counts[i].type, counts[i].width, counts[i].inner, counts[i].layers, counts[i].heads,
              counts[i].kv_heads, counts[i].head_dim, counts[i].vocab);
}

/* `pipeline check` on a folder with config.json alone. */
START_TEST(counted_from_the_configuration)
{
    ft_buf said = { 0 };
    ft_err e = { 0 };
    const char *dir = tiny_path("bare-%d", _i);
    tiny_must(ft_make_dirs(dir, &e), &e);
    write_bare_config(tiny_path("bare-%d/config.json", _i), _i);
    const char *rows = tiny_rows(tiny_path("rows.safetensors"), 2, 16, 1, 3);
    const char *yaml = tiny_file(tiny_path("bare.yaml"),
                                 "version: 1\nmodel: %s\noutput_dir: %s/bare-out\nstages:\n"
                                 "  - { use: data-tokens, with: { path: %s } }\n"
                                 "  - { use: lora, with: { r: 8, target_modules: [q_proj, k_proj, "
                                 "v_proj, o_proj, gate_proj, up_proj, down_proj] } }\n"
                                 "  - { use: train-sft, with: { max_steps: 1 } }\n",
                                 dir, tiny_dir, rows);
    const char *check[] = { "check", "--json", yaml, NULL }, *run[] = { "run", yaml, NULL };
    talker_run(&said, check);
    const char *json = strchr(said.p, '{');
    ck_assert_ptr_nonnull(json);
    ft_json_doc *d = ft_json_parse("check", json, strlen(json), &e);
    ck_assert_msg(d != NULL, "%s: %s", e.msg, said.p);
    double all = talker_real(ft_json_root(d), "parameters");
    double trained = talker_real(ft_json_root(d), "trainable");
    ck_assert_msg(all == counts[_i].parameters + counts[_i].lora && trained == counts[_i].lora,
                  "%.0f parameters, %.0f trained", all, trained);
    ft_json_done(d);
    ck_assert_int_eq(tiny_run(&said, run), 1);
    ck_assert_msg(strstr(said.p, "holds no weights") != NULL, "%s", said.p);
    ft_buf_free(&said);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("decoder");
    TCase *t = tcase_create("decoder");
    tcase_set_timeout(t, 300);
    tcase_add_unchecked_fixture(t, tiny_begin, tiny_end);
    tcase_add_test(t, rotary_tables);
    tcase_add_test(t, rows_that_are_too_long);
    tcase_add_loop_test(t, adapted_and_merged, 0, sizeof families / sizeof *families);
    tcase_add_loop_test(t, counted_from_the_configuration, 0, sizeof counts / sizeof *counts);
    suite_add_tcase(s, t);
    return s;
}
