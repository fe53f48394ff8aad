/* export-gguf_test.c -- bytes of the block formats against ggml's own; an exported file opened
 * again: the same logits, ids and template as the folder it was made of; forms that lose something;
 * models and tokenizers that have no form. */
#include <dlfcn.h>
#include "core/io/tensors.h"
#include "plugins/export-gguf/encode.h"
#include "tests/harness.h"
#include "tests/talker.h"

static const int32_t ids[] = { 40, 128, 103, 221, 89, 306, 12, 7 };
enum { N_IDS = sizeof ids / sizeof *ids };

/* ---- blocks ---------------------------------------------------------------------------------- */

typedef const gguf_type *find_type(const char *name);

static find_type *types(void)
{
    char path[512];
    find_type *f;
    snprintf(path, sizeof path, "%s/plugins/export-gguf.so", test_build());
    void *so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    ck_assert_msg(so != NULL, "%s", dlerror());
    *(void **)&f = dlsym(so, "gguf_type_find");
    ck_assert_ptr_nonnull((void *)f);
    return f;
}

/* The blocks of all numbers of x are `want`, to the byte. */
static void check_blocks(const gguf_type *t, const ft_tensor *x, const ft_tensor *want)
{
    size_t n = x->bytes / 4, bytes = n / t->elements * t->bytes;
    uint8_t *got = malloc(bytes);
    float *in = malloc(x->bytes);
    memcpy(in, x->data, x->bytes);
    ck_assert_uint_eq(want->bytes, bytes);
    t->encode(got, in, n / t->elements);
    for (size_t i = 0; i < bytes; i++)
        ck_assert_msg(got[i] == ((const uint8_t *)want->data)[i], "%s: byte %zu of block %zu",
                      t->name, i % t->bytes, i / t->bytes);
    free(in);
    free(got);
}

START_TEST(blocks_are_ggmls)
{
    static const char *const names[] = { "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q4_k" };
    find_type *find = types();
    vectors v;
    vectors_open(&v, "tests/data/quant", "gguf.safetensors");
    ft_tensor x = vectors_get(&v, "", "x");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        ft_tensor want = vectors_get(&v, "", names[i]);
        check_blocks(find(names[i]), &x, &want);
    }
    vectors_close(&v);
    ck_assert_ptr_null(find("q9_9"));
}
END_TEST

/* gguf-py's results for other numbers. */
START_TEST(blocks_are_gguf_pys)
{
    static const char *const names[][2] = { { "F16", "f16" },   { "BF16", "bf16" },
                                            { "Q4_0", "q4_0" }, { "Q4_1", "q4_1" },
                                            { "Q5_0", "q5_0" }, { "Q5_1", "q5_1" },
                                            { "Q8_0", "q8_0" } };
    char dir[4096], file[64];
    find_type *find = types();
    if (!test_goldens()) {
        printf("not run: blocks_are_gguf_pys: no shared goldens\n");
        return;
    }
    snprintf(dir, sizeof dir, "%s/gguf", test_goldens());
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        vectors v;
        ft_tensor want, x;
        snprintf(file, sizeof file, "%s.safetensors", names[i][0]);
        vectors_open(&v, dir, file);
        x = vectors_get(&v, "", "q_input");
        if (!vectors_find(&v, &want, "q_raw")) want = vectors_get(&v, "", "raw");
        check_blocks(find(names[i][1]), &x, &want);
        vectors_close(&v);
    }
}
END_TEST

/* ---- files ----------------------------------------------------------------------------------- */

/* A copy of the talker with one text of one of its files replaced. */
static const char *changed(const char *model, const char *name, const char *file, const char *from,
                           const char *until, const char *to)
{
    static const char *const files[] = { "config.json", "tokenizer.json", "tokenizer_config.json",
                                         "model.safetensors" };
    ft_err e = { 0 };
    ft_buf text = { 0 };
    tiny_must(ft_make_dirs(tiny_path("%s", name), &e), &e);
    for (size_t i = 0; i < 4; i++) {
        char path[600];
        snprintf(path, sizeof path, "%s/%s", model, files[i]);
        tiny_copy(path, tiny_path("%s/%s", name, files[i]));
    }
    tiny_must(ft_file_read(&text, tiny_path("%s/%s", name, file), 1 << 24, &e), &e);
    const char *at = strstr(text.p, from), *rest = at ? strstr(at, until) : NULL;
    ck_assert_msg(rest != NULL, "no %s … %s in %s", from, until, file);
    tiny_file(tiny_path("%s/%s", name, file), "%.*s%s%s", (int)(at - text.p), text.p, to, rest);
    ft_buf_free(&text);
    return tiny_path("%s", name);
}

/* The talker without the added tokens that it has no embeddings for. */
static const char *model(void)
{
    const char *dir = tiny_path("speaker");
    if (ft_is_dir(dir)) return dir;
    return changed(talker_model(), "speaker", "tokenizer.json", ",{\"id\":422", "],\"normalizer\"",
                   "");
}

static void export(ft_buf *said, const char *out, const char *with)
{
    char stages[256];
    snprintf(stages, sizeof stages, "  - use: export-gguf\n%s", with);
    int status = talker_pipeline(said, model(), out, stages);
    ck_assert_msg(status == 0, "%s", said->p);
}

static void tokenize(ft_buf *out, const char *model, const char *rows)
{
    const char *argv[] = { "tokenize", "--model", model, "--chat", rows, NULL };
    talker_run(out, argv);
}

static bool note_is(const ft_tensors *t, const char *key, const char *want)
{
    const char *have = ft_tensors_note(t, key);
    return have && !strcmp(have, want);
}

START_TEST(the_same_model)
{
    ft_buf said = { 0 }, a = { 0 }, b = { 0 };
    ft_err e = { 0 };
    export(&said, "plain", "");
    const char *file = tiny_path("plain/gguf/model.gguf");
    ck_assert_msg(talker_apart(model(), NULL, file, ids, N_IDS) == 0, "%s", said.p);
    talker_chats(tiny_path("chats.jsonl"), 0, 12);
    tokenize(&a, model(), tiny_path("chats.jsonl"));
    tokenize(&b, file, tiny_path("chats.jsonl"));
    ck_assert_uint_gt(a.n, 100);
    ck_assert_str_eq(a.p, b.p);
    ft_tensors *t = ft_tensors_open_with(file, FT_TENSORS_STRICT, &e);
    ck_assert_msg(t != NULL, "%s", e.msg);
    ck_assert(note_is(t, "general.architecture", "llama"));
    ck_assert(note_is(t, "general.name", "speaker"));
    ck_assert(note_is(t, "general.file_type", "0"));
    ck_assert(note_is(t, "llama.attention.head_count_kv", "2"));
    ck_assert(note_is(t, "llama.rope.freq_base", "10000"));
    ck_assert(note_is(t, "tokenizer.ggml.pre", "smollm"));
    ck_assert(note_is(t, "tokenizer.ggml.eos_token_id", "421"));
    ck_assert_ptr_null(ft_tensors_find(t, "output.weight")); /* the head is the embedding */
    ft_tensors_close(t);
    ft_buf_free(&said);
    ft_buf_free(&a);
    ft_buf_free(&b);
}
END_TEST

/* A GGUF out of a GGUF: tensors and words as they were. */
START_TEST(again)
{
    ft_buf said = { 0 };
    ft_err e = { 0 };
    export(&said, "first", "");
    int status = talker_pipeline(&said, tiny_path("first/gguf/model.gguf"), "second",
                                 "  - use: export-gguf\n    with: { name: speaker }\n");
    ck_assert_msg(status == 0, "%s", said.p);
    ft_tensors *a = ft_tensors_open(tiny_path("first/gguf/model.gguf"), &e),
               *b = ft_tensors_open(tiny_path("second/gguf/model.gguf"), &e);
    ck_assert_msg(a && b && ft_tensors_count(a) == ft_tensors_count(b), "%s", e.msg);
    for (size_t i = 0; i < ft_tensors_count(a); i++) {
        const ft_tensor *x = ft_tensors_at(a, i), *y = ft_tensors_find(b, x->name);
        ck_assert_msg(y && x->bytes == y->bytes && !memcmp(x->data, y->data, x->bytes), "%s",
                      x->name);
    }
    size_t n, m;
    const ft_meta *k = ft_tensors_metas(a, &n);
    ft_tensors_metas(b, &m);
    ck_assert_uint_eq(n, m);
    for (size_t i = 0; i < n; i++) ck_assert_ptr_nonnull(ft_tensors_meta(b, k[i].key));
    ft_tensors_close(a);
    ft_tensors_close(b);
    ft_buf_free(&said);
}
END_TEST

/* What was tuned, merged on the way. */
START_TEST(tuned)
{
    char stages[1024];
    ft_buf said = { 0 };
    talker_chats(tiny_path("train.jsonl"), 0, 8);
    snprintf(stages, sizeof stages,
             "  - use: data-chatml\n    with: { path: %s }\n  - use: tokenizer-bpe\n  - use: "
             "lora\n    with: { r: 4 }\n"
             "  - use: train-sft\n    with: { max_steps: 3, learning_rate: 1e-2, compute_dtype: "
             "fp32 }\n  - use: export-gguf\n",
             tiny_path("train.jsonl"));
    ck_assert_msg(talker_pipeline(&said, model(), "tuned", stages) == 0, "%s", said.p);
    const char *file = tiny_path("tuned/gguf/model.gguf");
    double merged = talker_apart(model(), tiny_path("tuned/adapter"), file, ids, N_IDS);
    double learned = talker_apart(model(), NULL, file, ids, N_IDS);
    ck_assert_msg(merged < 1e-4 && learned > 0.1, "merged: within %g; learned: %g", merged,
                  learned);
    ft_buf_free(&said);
}
END_TEST

/* ---- what is lost ---------------------------------------------------------------------------- */

/* The stage's object in receipt.json of a run. */
static double receipt(const char *out, const char *key)
{
    ft_json_doc *d = talker_json(tiny_path("%s/receipt.json", out));
    double v = talker_real(ft_json_get(ft_json_root(d), "export-gguf"), key);
    ft_json_done(d);
    return v;
}

/* Types of blocks: named, refused without `lossy`, and what they cost told. */
START_TEST(lossy)
{
    static const struct { const char *type; double most; } all[] = {
        { "f16", 0.05 }, { "bf16", 0.3 }, { "q8_0", 0.3 }, { "q4_0", 4 }, { "q4_k", 4 },
    };
    ft_buf said = { 0 };
    ck_assert_int_ne(talker_pipeline(&said, model(), "refused",
                                     "  - use: export-gguf\n    with: { type: q8_0 }\n"), 0);
    ck_assert_msg(strstr(said.p, "q8_0 keeps less than the model's own F32") &&
                      strstr(said.p, "lossy: true"), "%s", said.p);
    ck_assert(!ft_file_exists(tiny_path("refused")));
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char with[100];
        snprintf(with, sizeof with, "    with: { type: %s, lossy: true }\n", all[i].type);
        export(&said, all[i].type, with);
        double off = talker_apart(model(), NULL, tiny_path("%s/gguf/model.gguf", all[i].type), ids,
                                  N_IDS);
        ck_assert_msg(off > 0 && off < all[i].most, "%s: logits differ by %g", all[i].type, off);
        ck_assert_double_gt(receipt(all[i].type, "kl"), 0);
        ck_assert_double_gt(receipt(all[i].type, "max_logit_difference"), 0);
        ck_assert_double_eq(receipt(all[i].type, "conversations_with_equal_ids"),
                            receipt(all[i].type, "conversations"));
    }
    ck_assert(strstr(said.p, "opened again as q4_k, lossy") != NULL);
    ft_buf_free(&said);
}
END_TEST

/* An exact export: nothing differs, and the report shows it. */
START_TEST(exact)
{
    ft_buf said = { 0 }, page = { 0 };
    ft_err e = { 0 };
    export(&said, "exact", "    with: { type: f32 }\n");
    ck_assert_double_eq(receipt("exact", "max_logit_difference"), 0);
    ck_assert_double_eq(receipt("exact", "kl"), 0);
    ck_assert_double_eq(receipt("exact", "top1_agreement"), 1);
    ck_assert_double_eq(receipt("exact", "conversations"), 6);
    tiny_must(ft_file_read(&page, tiny_path("exact/report.html"), 1 << 24, &e), &e);
    ck_assert(strstr(page.p, "Receipts") && strstr(page.p, "export-gguf.top1_agreement"));
    ft_buf_free(&said);
    ft_buf_free(&page);
}
END_TEST

/* pipelines/export-gguf.yaml with this model and rows of our own. */
START_TEST(recipe)
{
    ft_buf said = { 0 };
    char data[600], out[600], model_is[600];
    snprintf(model_is, sizeof model_is, "model=%s", model());
    snprintf(out, sizeof out, "output_dir=%s", tiny_path("recipe"));
    snprintf(data, sizeof data, "data-chatml.path=%s",
             talker_chats(tiny_path("recipe.jsonl"), 0, 12));
    const char *argv[] = { "run", "pipelines/export-gguf.yaml", model_is, out, data,
                           "tokenizer-bpe.max_length=64", "train-sft.eval_steps=0", NULL };
    talker_run(&said, argv);
    double moved = talker_apart(model(), tiny_path("recipe/adapter"),
                                tiny_path("recipe/gguf/model.gguf"), ids, N_IDS);
    ck_assert_msg(moved > 0 && moved < 0.5, "logits differ by %g", moved);
    ck_assert_double_gt(receipt("recipe", "positions"), 0);
    ft_buf_free(&said);
}
END_TEST

/* ---- an adapter by itself -------------------------------------------------------------------- */

static int train_and_export(ft_buf *said, const char *out, const char *adapter, const char *with)
{
    char stages[1200];
    talker_chats(tiny_path("train.jsonl"), 0, 8);
    snprintf(stages, sizeof stages,
             "  - use: data-chatml\n    with: { path: %s }\n  - use: tokenizer-bpe\n%s"
             "  - use: train-sft\n    with: { max_steps: 3, learning_rate: 1e-2, compute_dtype: "
             "fp32 }\n  - use: export-gguf\n    with: { %s }\n",
             tiny_path("train.jsonl"), adapter, with);
    return talker_pipeline(said, model(), out, stages);
}

/* Scales of their own for each layer, ranks that differ: what is read back is what was trained. */
START_TEST(lora_alone)
{
    static const char *const adapters[] = {
        "  - use: lora\n    with: { r: 4, lora_alpha: 6, target_modules: all-linear }\n",
        "  - use: lora\n    with: { r: 4, lora_alpha: 3, use_rslora: true, target_modules: "
        "[q_proj, "
        "k_proj, up_proj], rank_pattern: { up_proj: 2 } }\n",
    };
    ft_err e = { 0 };
    for (int i = 0; i < 2; i++) {
        ft_buf said = { 0 };
        char out[20];
        snprintf(out, sizeof out, "lora%d", i);
        int status = train_and_export(&said, out, adapters[i], "adapter: true, ollama: true");
        ck_assert_msg(status == 0, "%s", said.p);
        ck_assert_msg(receipt(out, "max_logit_difference") < 1e-4, "%s", said.p);
        ft_tensors *a = ft_tensors_open(tiny_path("%s/adapter/adapter_model.safetensors", out), &e),
                   *b = ft_tensors_open_with(tiny_path("%s/gguf/adapter.gguf", out),
                                             FT_TENSORS_STRICT, &e);
        ck_assert_msg(a && b, "%s", e.msg);
        ck_assert_uint_eq(ft_tensors_count(a), ft_tensors_count(b));
        ck_assert(note_is(b, "general.type", "adapter") && note_is(b, "adapter.type", "lora"));
        ck_assert(note_is(b, "adapter.lora.alpha", i ? "6" : "6"));
        const ft_tensor *q = ft_tensors_find(b, "blk.1.attn_q.weight.lora_b");
        ck_assert(q && q->ndim == 2 && q->dim[0] == 64 && q->dim[1] == 4);
        ft_tensors_close(a);
        ft_tensors_close(b);
        ck_assert(!ft_file_exists(tiny_path("%s/gguf/model.gguf", out)));
        ft_buf_free(&said);
    }
}
END_TEST

START_TEST(modelfile)
{
    ft_buf said = { 0 }, file = { 0 };
    ft_err e = { 0 };
    int status = train_and_export(&said, "ollama", "  - use: lora\n", "ollama: true");
    ck_assert_msg(status == 0, "%s", said.p);
    tiny_must(ft_file_read(&file, tiny_path("ollama/gguf/Modelfile"), 1 << 16, &e), &e);
    ck_assert_str_eq(file.p, "FROM ./model.gguf\n"
                             "TEMPLATE \"\"\"{{ range .Messages }}<|start|>{{ .Role }}\n"
                             "{{ .Content }}<|end|>{{ end }}<|start|>assistant\n\"\"\"\n"
                             "PARAMETER stop \"<|end|>\"\n");
    ck_assert_int_ne(train_and_export(&said, "dora", "  - use: dora\n", "adapter: true"), 0);
    ck_assert_msg(strstr(said.p, "GGUF holds LoRA alone, and the adapter is dora"), "%s", said.p);
    ck_assert(!ft_file_exists(tiny_path("dora")));
    ft_buf_free(&said);
    ft_buf_free(&file);
}
END_TEST

/* Refused before anything is trained. */
START_TEST(not_alone)
{
    static const struct { const char *lora, *says; } cases[] = {
        { "alpha_pattern: { q_proj: 3 }", "alpha_pattern has no form in GGUF" },
        { "modules_to_save: [down_proj]", "mlp.down_proj.weight has no form in GGUF" },
        { "target_modules: [embed_tokens]", "embed_tokens.lora_embedding_A has no form in GGUF" },
        { "target_modules: [lm_head]", "lm_head.lora_A.weight has no form in GGUF" },
    };
    ft_buf said = { 0 };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char lora[200];
        snprintf(lora, sizeof lora, "  - use: lora\n    with: { %s }\n", cases[i].lora);
        ck_assert_msg(train_and_export(&said, "alone", lora, "adapter: true"), "%s", lora);
        ck_assert_msg(strstr(said.p, cases[i].says) != NULL, "%s", said.p);
        ck_assert(!ft_file_exists(tiny_path("alone")));
    }
    static const char *const before[] = { "", "  - use: lora\n  - use: merge\n" };
    for (int i = 0; i < 2; i++) {
        char stages[200];
        snprintf(stages, sizeof stages, "%s  - use: export-gguf\n    with: { adapter: true }\n",
                 before[i]);
        ck_assert_int_ne(talker_pipeline(&said, model(), "alone", stages), 0);
        ck_assert_msg(strstr(said.p, i ? "none is handed on to this stage" : "there is none"), "%s",
                      said.p);
        ck_assert(!ft_file_exists(tiny_path("alone")));
    }
    ft_buf_free(&said);
}
END_TEST

/* ---- what has no form ------------------------------------------------------------------------ */

/* Instead of what stands from `from` to before `until`: `to`. */
static void check_refused(const char *name, const char *file, const char *from, const char *until,
                          const char *to, const char *says)
{
    ft_buf said = { 0 };
    const char *wrong = changed(model(), name, file, from, until, to);
    ck_assert_int_ne(talker_pipeline(&said, wrong, "out",
                                     "  - use: export-gguf\n    with: { ollama: true }\n"), 0);
    ck_assert_msg(strstr(said.p, says) != NULL, "no \"%s\" in\n%s", says, said.p);
    ck_assert(!ft_file_exists(tiny_path("out")));
    ft_buf_free(&said);
}

START_TEST(refused)
{
    check_refused("pre", "tokenizer.json", "\"individual_digits\":true", "}",
                  "\"individual_digits\":false", "no name for its pre_tokenizer");
    check_refused("form", "tokenizer.json", "null,\"pre_tokenizer\"", ",\"pre_tokenizer\"",
                  "{\"type\":\"Lowercase\"}", "another than NFC");
    check_refused("yarn", "config.json", "\"rope_theta\": 10000.0", ", \"hidden_act\"",
                  "\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4, \"mscale\": 1}",
                  "no form in GGUF: mscale");
    check_refused("words", "tokenizer_config.json", "<|end|>{% endif %}", "{% endfor %}",
                  "<|finish|>{% endif %}", "has no form in a Modelfile");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("export-gguf");
    TCase *t = tcase_create("export-gguf");
    tcase_set_timeout(t, 240);
    tcase_add_unchecked_fixture(t, tiny_begin, tiny_end);
    tcase_add_test(t, blocks_are_ggmls);
    tcase_add_test(t, blocks_are_gguf_pys);
    tcase_add_test(t, the_same_model);
    tcase_add_test(t, again);
    tcase_add_test(t, tuned);
    tcase_add_test(t, lossy);
    tcase_add_test(t, exact);
    tcase_add_test(t, recipe);
    tcase_add_test(t, lora_alone);
    tcase_add_test(t, not_alone);
    tcase_add_test(t, modelfile);
    tcase_add_test(t, refused);
    suite_add_tcase(s, t);
    return s;
}
