/* test_adapter_refused.c -- adapters that do not fit: a configuration that is none, tensors of
 * other types and shapes, and LoRAs in GGUF, each wrong in one point. */
#include "harness.h"
#include "core/io/tensors.h"
#include "core/run/lora_gguf.h"
#include "gguf_write.h"
#include "training.h"

/* ---- PEFT's folder --------------------------------------------------------------------------- */

/* The adapter of tests/data/tiny/lora, its tensors of this type and `more` longer in one axis. */
static const char *adapter(const char *config, ft_dtype type, int64_t more)
{
    static const char zeros[1 << 16];
    ft_err e = { 0 };
    int64_t at[64];
    const char *dir = tiny_path("odd");
    ft_tensors *t = ft_tensors_open(TINY "/lora/adapter_final/adapter_model.safetensors", &e);
    ft_st_writer *w = ft_st_new(&e);
    ck_assert_msg(t && w && ft_tensors_count(t) <= 64, "%s", e.msg);
    tiny_must(ft_make_dirs(dir, &e), &e);
    if (config) tiny_file(tiny_path("odd/adapter_config.json"), "%s", config);
    else tiny_copy(TINY "/lora/adapter_final/adapter_config.json",
                   tiny_path("odd/adapter_config.json"));
    for (size_t i = 0; i < ft_tensors_count(t); i++) {
        ft_tensor x = *ft_tensors_at(t, i);
        if (i == 0) x.dim[0] += more;
        at[i] = ft_st_declare(w, x.name, type, x.dim, x.ndim, &e);
    }
    tiny_must(ft_st_begin(w, tiny_path("odd/adapter_model.safetensors"), 0, &e), &e);
    for (size_t i = 0; i < ft_tensors_count(t); i++) {
        const ft_tensor *x = ft_tensors_at(t, i);
        uint64_t n = (uint64_t)(x->dim[1] * (x->dim[0] + (i ? 0 : more)));
        tiny_must(ft_st_write(w, at[i], zeros, n * (type == FT_F64 ? 8 : 4), &e), &e);
    }
    tiny_must(ft_st_commit(w, &e), &e);
    ft_st_free(w);
    ft_tensors_close(t);
    return dir;
}

static const struct { const char *config; ft_dtype type; int64_t more; const char *says;
} folders[] = {
    { "[]", FT_F32, 0, "adapter_config.json is no object" },
    { "{\"peft_type\": \"IA3\"}", FT_F32, 0, "no adapter plugin reads peft_type \"IA3\"" },
    { "{\"peft_type\": \"LORA\", \"r\": 8, \"target_modules\": [\"q_proj\"], \"lora_bias\": true}",
      FT_F32, 0, "\"lora_bias\" is not supported by lora" },
    { NULL, FT_I32, 0, "must be F32, BF16 or F16" },
    { NULL, FT_F64, 0, "must be F32, BF16 or F16" },
    { NULL, FT_F32, 1, "has another shape than this model and configuration need" },
};

START_TEST(wrong_folders)
{
    const char *dir = adapter(folders[_i].config, folders[_i].type, folders[_i].more);
    const char *rows = tiny_rows(tiny_path("rows.safetensors"), 1, 8, 1, 1);
    const char *argv[] = { "score", "--model", tiny_model("tied"), "--adapter", dir, "--tokens",
                           rows, NULL };
    ft_buf said = { 0 };
    int status = tiny_run(&said, argv);
    ck_assert_msg(status == 1 && strstr(said.p, folders[_i].says), "status %d: %s", status, said.p);
    ft_buf_free(&said);
}
END_TEST

/* ---- a LoRA in GGUF -------------------------------------------------------------------------- */

static const char q_a[] = "blk.0.attn_q.weight.lora_a", q_b[] = "blk.0.attn_q.weight.lora_b";

/* Of q_proj (64 to 64) with r = 2, and a third tensor where it has a name. */
static const struct { gguf_tensor t[3]; const char *alpha, *says; } ggufs[] = {
    { { { q_a, { 2, 64 }, 0, 0 }, { q_b, { 64, 2 }, 0, 0 } }, "8", NULL },
    { { { q_a, { 2, 64 }, 1, 0 }, { q_b, { 64, 2 }, 0, 0 } }, "8", "are no F32 update of" },
    { { { q_a, { 2, 64, 3 }, 0, 0 }, { q_b, { 64, 2 }, 0, 0 } }, "8", "are no F32 update of" },
    { { { q_a, { 2, 64 }, 0, 0 }, { q_b, { 64, 2 }, 1, 0 } }, "8", "are no F32 update of" },
    { { { q_a, { 2, 64 }, 0, 0 }, { q_b, { 64, 2, 3 }, 0, 0 } }, "8", "are no F32 update of" },
    { { { q_a, { 2, 32 }, 0, 0 }, { q_b, { 64, 2 }, 0, 0 } }, "8", "are no F32 update of" },
    { { { q_a, { 2, 64 }, 0, 0 }, { q_b, { 32, 2 }, 0, 0 } }, "8", "are no F32 update of" },
    { { { q_a, { 2, 64 }, 0, 0 }, { q_b, { 64, 4 }, 0, 0 } }, "8", "are no F32 update of" },
    { { { q_a, { 2, 64 }, 0, 0 }, { q_b, { 64, 2 }, 0, 0 }, { "more", { 2, 2 }, 0, 0 } }, "8",
      "has 3 tensors, of which 2 belong to linear layers" },
    { { { q_a, { 2, 64 }, 0, 0 }, { q_b, { 64, 2 }, 0, 0 } }, NULL, "has no adapter.lora.alpha" },
    { { { q_a, { 2, 64 }, 0, 0 }, { q_b, { 64, 2 }, 0, 0 } }, "much", "has no adapter.lora.alpha" },
};

static void write_gguf(const char *path, int i)
{
    ft_gguf_keys k = { .n = 0 };
    const char *alpha = ggufs[i].alpha;
    ft_gguf_put_text(&k, "general.architecture", "llama", 5);
    if (alpha && *alpha == '8') ft_gguf_put_f32(&k, "adapter.lora.alpha", 8);
    else if (alpha) ft_gguf_put_text(&k, "adapter.lora.alpha", alpha, strlen(alpha));
    gguf_write(path, &k, ggufs[i].t, ggufs[i].t[2].name ? 3 : 2);
    ft_buf_free(&k.bytes);
}

START_TEST(wrong_ggufs)
{
    training x;
    ft_err e = { 0 };
    const char *file = tiny_path("lora.gguf");
    const char *yaml = tiny_file(tiny_path("plain.yaml"),
                                 "version: 1\nmodel: %s\noutput_dir: %s/plain\nstages:\n"
                                 "  - { use: data-tokens, with: { path: %s } }\n"
                                 "  - { use: train-sft, with: { max_steps: 1 } }\n",
                                 tiny_model("tied"), tiny_dir,
                                 tiny_rows(tiny_path("rows.safetensors"), 2, 16, 1, 3));
    write_gguf(file, _i);
    training_open(&x, yaml);
    int code = ft_lora_gguf_unpack(&x.run.model, x.run.scan.g, file, tiny_path("peft"), &e);
    const char *says = ggufs[_i].says;
    ck_assert_msg(says ? code && strstr(e.msg, says) : !code, "%d: %s", code, e.msg);
    training_close(&x);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("adapter-refused");
    TCase *t = tcase_create("adapter-refused");
    tcase_set_timeout(t, 120);
    tcase_add_unchecked_fixture(t, tiny_begin, tiny_end);
    tcase_add_loop_test(t, wrong_folders, 0, sizeof folders / sizeof *folders);
    tcase_add_loop_test(t, wrong_ggufs, 0, sizeof ggufs / sizeof *ggufs);
    suite_add_tcase(s, t);
    return s;
}
