/* export-gguf_experts_test.c -- mixtures of experts as GGUF: an adapter on the experts merged, each
 * weight cut into the pieces that GGUF files have, and read back; what llama.cpp takes for
 * granted. */
#include "core/io/tensors.h"
#include "tests/harness.h"
#include "tests/talker.h"

static const int32_t ids[] = { 40, 128, 103, 221, 89, 306, 12, 7 };
enum { N_IDS = sizeof ids / sizeof *ids };

/* ---- models ---------------------------------------------------------------------------------- */

#define SIZES                                                                         \
    "\"hidden_size\": 40, \"num_hidden_layers\": 3, \"num_attention_heads\": 4, "     \
    "\"num_key_value_heads\": 2, \"head_dim\": 8, \"max_position_embeddings\": 128, " \
    "\"rms_norm_eps\": 1e-5, \"vocab_size\": 424, \"eos_token_id\": 421, \"dtype\": \"float32\", "

static const struct { const char *kind, *tiny, *config, *down, *router;
} models[] = {
    { "oss", "oss",
      "{\"model_type\": \"gpt_oss\", \"architectures\": [\"GptOssForCausalLM\"], " SIZES
      "\"intermediate_size\": 20, \"num_local_experts\": 6, \"num_experts_per_tok\": 3, "
      "\"sliding_window\": 5, \"rope_theta\": 500.0, \"tie_word_embeddings\": false}",
      "blk.1.ffn_down_exps.weight", "blk.1.ffn_gate_inp.weight" },
    { "moe", "mixture",
      "{\"model_type\": \"qwen3_moe\", \"architectures\": [\"Qwen3MoeForCausalLM\"], " SIZES
      "\"intermediate_size\": 48, \"moe_intermediate_size\": 12, \"num_experts\": 5, "
      "\"num_experts_per_tok\": 2, \"norm_topk_prob\": true, \"rope_theta\": 500.0, "
      "\"tie_word_embeddings\": true}",
      "blk.2.ffn_down_exps.weight", "blk.0.ffn_gate_inp.weight" },
};

/* The tensors of tests/data/tiny, with layer 1's experts in every layer and rows for all words. */
static int list(tiny_tensor *t, const char *kind)
{
    tiny_tensor all[TINY_TENSORS];
    int n = tiny_list(all, TINY_TENSORS, kind), k = 0;
    for (int i = 0; i < n; i++) {
        int layer = -1, at = 0;
        sscanf(all[i].name, "model.layers.%d.mlp.%n", &layer, &at);
        if (strstr(all[i].name, "embed_tokens") || strstr(all[i].name, "lm_head"))
            all[i].dim[0] = TALKER_VOCAB;
        if (!at) t[k++] = all[i];
        for (int l = 0; at && layer == 1 && l < 3; l++) {
            ck_assert_int_lt(k, TINY_TENSORS);
            t[k] = all[i];
            snprintf(t[k++].name, sizeof t->name, "model.layers.%d.mlp.%s", l, all[i].name + at);
        }
    }
    return k;
}

static const char *model(int i)
{
    tiny_tensor t[TINY_TENSORS];
    ft_err e = { 0 };
    const char *kind = models[i].kind, *more = ",{\"id\":422", *until = "],\"normal";
    ft_buf words = { 0 };
    if (ft_is_dir(tiny_path("%s", kind))) return tiny_path("%s", kind);
    talker_model();
    tiny_must(ft_make_dirs(tiny_path("%s", kind), &e), &e);
    tiny_write(tiny_path("%s", kind), t, list(t, models[i].tiny));
    tiny_file(tiny_path("%s/config.json", kind), "%s", models[i].config);
    tiny_copy(tiny_path("talker/tokenizer_config.json"),
              tiny_path("%s/tokenizer_config.json", kind));
    tiny_must(ft_file_read(&words, tiny_path("talker/tokenizer.json"), 1 << 24, &e), &e);
    const char *from = strstr(words.p, more), *to = from ? strstr(from, until) : NULL;
    ck_assert_ptr_nonnull(to);
    tiny_file(tiny_path("%s/tokenizer.json", kind), "%.*s%s", (int)(from - words.p), words.p, to);
    ft_buf_free(&words);
    return tiny_path("%s", kind);
}

/* ---- tests ----------------------------------------------------------------------------------- */

/* Exact in f32, and exact again as the folder that is made of the file. */
START_TEST(the_same_model)
{
    ft_buf said = { 0 };
    char base[600], out[40], back[40];
    snprintf(base, sizeof base, "%s", model(_i));
    snprintf(out, sizeof out, "%s-plain", models[_i].kind);
    snprintf(back, sizeof back, "%s-back", models[_i].kind);
    ck_assert_msg(!talker_pipeline(&said, base, out, "  - use: export-gguf\n"), "%s", said.p);
    ck_assert(talker_apart(base, NULL, tiny_path("%s/gguf/model.gguf", out), ids, N_IDS) == 0);
    ck_assert_msg(!talker_pipeline(&said, tiny_path("%s/gguf/model.gguf", out), back,
                                   "  - use: export-hf\n"),
                  "%s", said.p);
    ck_assert(talker_apart(base, NULL, tiny_path("%s/model", back), ids, N_IDS) == 0);
    ft_buf_free(&said);
}
END_TEST

/* An adapter on attention and experts: straight to a GGUF, and by way of a merged model. */
START_TEST(tuned)
{
    static const char *const ways[] = { "", "  - use: merge\n" };
    ft_buf said = { 0 };
    char base[600], stages[900], out[40];
    int32_t row[24];
    for (int i = 0; i < 24; i++) row[i] = 3 + i * 17 % 400;
    snprintf(base, sizeof base, "%s", model(_i));
    const char *rows = talker_rows(tiny_path("rows.safetensors"), row, NULL, 1, 24);
    for (int k = 0; k < 2; k++) {
        snprintf(out, sizeof out, "%s-tuned-%d", models[_i].kind, k);
        snprintf(stages, sizeof stages,
                 "  - use: data-tokens\n    with: { path: %s }\n  - use: lora\n    with: { r: 2, "
                 "target_modules: [q_proj, o_proj], target_parameters: [mlp.experts.gate_up_proj, "
                 "mlp.experts.down_proj] }\n  - use: train-sft\n    with: { max_steps: 3, "
                 "learning_rate: 1e-2, compute_dtype: fp32 }\n%s  - use: export-gguf\n",
                 rows, ways[k]);
        ck_assert_msg(!talker_pipeline(&said, base, out, stages), "%s", said.p);
        const char *file = tiny_path("%s/gguf/model.gguf", out);
        double merged = talker_apart(base, tiny_path("%s/adapter", out), file, ids, N_IDS);
        double learned = talker_apart(base, NULL, file, ids, N_IDS);
        ck_assert_msg(merged < 1e-4 && learned > 0.1, "merged: within %g; learned: %g", merged,
                      learned);
    }
    ft_buf_free(&said);
}
END_TEST

/* Experts take the type that was asked for, routers and biases stay f32. */
START_TEST(blocks)
{
    ft_buf said = { 0 };
    ft_err e = { 0 };
    char out[40];
    snprintf(out, sizeof out, "%s-f16", models[_i].kind);
    ck_assert_msg(!talker_pipeline(&said, model(_i), out,
                                   "  - use: export-gguf\n    with: { type: f16, lossy: true }\n"),
                  "%s", said.p);
    ft_tensors *t = ft_tensors_open(tiny_path("%s/gguf/model.gguf", out), &e);
    ck_assert_msg(t != NULL, "%s", e.msg);
    const ft_tensor *down = ft_tensors_find(t, models[_i].down),
                    *router = ft_tensors_find(t, models[_i].router),
                    *bias = ft_tensors_find(t, "blk.0.ffn_up_exps.bias");
    ck_assert(down && down->ndim == 3 && down->dtype == FT_F16);
    ck_assert(router && router->dtype == FT_F32);
    ck_assert(_i == 1 || (bias && bias->ndim == 2 && bias->dtype == FT_F32));
    ft_tensors_close(t);
    ft_buf_free(&said);
}
END_TEST

/* In place of `from` in the configuration: refused by this name. */
START_TEST(refused)
{
    static const struct { int model; const char *from, *to, *says;
    } cases[] = {
        { 0, "\"sliding_window\": 5", "\"sliding_window\": 5, \"swiglu_limit\": 6",
          "swiglu_limit" },
        { 0, "\"rope_theta\": 500.0",
          "\"rope_theta\": 500.0, \"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4, "
          "\"original_max_position_embeddings\": 32, \"truncate\": false}",
          "truncate: false" },
        { 1, "\"norm_topk_prob\": true", "\"norm_topk_prob\": false", "norm_topk_prob" },
        { 1, "\"rope_theta\": 500.0",
          "\"rope_theta\": 500.0, \"hidden_act\": \"silu\", "
          "\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 4, \"low_freq_factor\": 1, "
          "\"high_freq_factor\": 4, \"original_max_position_embeddings\": 32}",
          "llama3" },
    };
    ft_buf said = { 0 };
    char file[600];
    snprintf(file, sizeof file, "%s/config.json", model(cases[_i].model));
    const char *text = models[cases[_i].model].config, *at = strstr(text, cases[_i].from);
    ck_assert_ptr_nonnull(at);
    tiny_file(file, "%.*s%s%s", (int)(at - text), text, cases[_i].to, at + strlen(cases[_i].from));
    int status = talker_pipeline(&said, model(cases[_i].model), "out", "  - use: export-gguf\n");
    ck_assert_msg(status != 0 && strstr(said.p, cases[_i].says), "%s", said.p);
    ck_assert(!ft_file_exists(tiny_path("out")));
    if (_i == 1) { /* rounded where that is accepted */
        status = talker_pipeline(&said, model(0), "rounded",
                                 "  - use: export-gguf\n    with: { lossy: true }\n");
        ck_assert_msg(status == 0, "%s", said.p);
    }
    tiny_file(file, "%s", text);
    ft_buf_free(&said);
}
END_TEST

/* A LoRA by itself: an adapter on experts is refused before anything runs. */
START_TEST(adapter_alone)
{
    ft_buf said = { 0 };
    char base[600], stages[700];
    int32_t row[24];
    for (int i = 0; i < 24; i++) row[i] = 3 + i * 17 % 400;
    snprintf(base, sizeof base, "%s", model(_i));
    snprintf(stages, sizeof stages,
             "  - use: data-tokens\n    with: { path: %s }\n  - use: lora\n    with: { r: 2, "
             "target_modules: [q_proj], target_parameters: [mlp.experts.down_proj] }\n"
             "  - use: train-sft\n    with: { max_steps: 1 }\n"
             "  - use: export-gguf\n    with: { adapter: true }\n",
             talker_rows(tiny_path("rows.safetensors"), row, NULL, 1, 24));
    ck_assert_int_ne(talker_pipeline(&said, base, "alone", stages), 0);
    ck_assert_msg(strstr(said.p, "mlp.experts.lora_A.weight has no form in GGUF") != NULL, "%s",
                  said.p);
    ck_assert(!ft_file_exists(tiny_path("alone")));
    ft_buf_free(&said);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("export-gguf-experts");
    TCase *t = tcase_create("export-gguf-experts");
    tcase_set_timeout(t, 240);
    tcase_add_unchecked_fixture(t, tiny_begin, tiny_end);
    tcase_add_loop_test(t, the_same_model, 0, 2);
    tcase_add_loop_test(t, tuned, 0, 2);
    tcase_add_loop_test(t, blocks, 0, 2);
    tcase_add_loop_test(t, refused, 0, 4);
    tcase_add_loop_test(t, adapter_alone, 0, 2);
    suite_add_tcase(s, t);
    return s;
}
