/* decoder_refused_test.c -- values of config.json, and keys and tensors of a GGUF, that model
 * plugins refuse: nobody computes them, or they make no model.  Each case is wrong in one point. */
#include "tests/asking.h"
#include "tests/gguf_write.h"
#include "tests/harness.h"

/* The model is opened to score a row: an error that says this. */
static void check_refused(const char *model, const char *says)
{
    const char *rows = tiny_rows(tiny_path("rows.safetensors"), 1, 8, 1, 1);
    const char *argv[] = { "score", "--model", model, "--tokens", rows, NULL };
    ft_buf said = { 0 };
    int status = tiny_run(&said, argv);
    ck_assert_msg(status == 1 && strstr(said.p, says), "status %d, no \"%s\" in %s", status, says,
                  said.p);
    ft_buf_free(&said);
}

/* ---- config.json ----------------------------------------------------------------------------- */

/* The tiny checkpoint `kind` as a folder of another name, with texts of its config.json replaced
 * (pairs, ended by NULL). */
static const char *changed(const char *kind, const char *name, const char *const *pair)
{
    ft_buf text = { 0 };
    ft_err e = { 0 };
    char from[600];
    const char *dir = tiny_path("%s", name), *model = tiny_model(kind);
    tiny_must(ft_make_dirs(dir, &e), &e);
    snprintf(from, sizeof from, "%s/model.safetensors", model);
    tiny_copy(from, tiny_path("%s/model.safetensors", name));
    snprintf(from, sizeof from, "%s/config.json", model);
    tiny_must(ft_file_read(&text, from, 1 << 20, &e), &e);
    for (; *pair; pair += 2) {
        ft_buf next = { 0 };
        ft_buf_putc(&text, 0);
        const char *at = strstr(text.p, pair[0]);
        ck_assert_msg(at != NULL, "no %s in the config.json of %s", pair[0], kind);
        ft_buf_add(&next, text.p, (size_t)(at - text.p));
        ft_buf_puts(&next, pair[1]);
        ft_buf_puts(&next, at + strlen(pair[0]));
        ft_buf_free(&text);
        text = next;
    }
    tiny_file(tiny_path("%s/config.json", name), "%.*s", (int)text.n, text.p);
    ft_buf_free(&text);
    return dir;
}

static const struct { const char *kind, *from, *to, *says;
} wrong[] = {
    { "tied", "\"silu\"", "\"mish\"", "activation \"mish\" is not supported" },
    { "tied", "\"silu\"", "7", "\"hidden_act\" is 7" },
    { "tied", "\"attention_dropout\": 0.0", "\"attention_dropout\": 0.1",
      "\"attention_dropout\" is 0.1" },
    { "tied", "\"hidden_size\": 64", "\"hidden_size\": \"64\"",
      "\"hidden_size\" is 64; it must be" },
    { "tied", "\"vocab_size\": 96", "\"vocab\": 96", "\"vocab_size\" is missing" },
    { "tied", "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3",
      "4 attention heads are no multiple of 3" },
    { "tied", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 2000", "at most 1024" },
    { "tied", "\"tie_word_embeddings\": true", "\"tie_word_embeddings\": 1",
      "it must be true or false" },
    { "tied", "\"default\"", "\"ntk\"", "rope_type \"ntk\" is not supported" },
    { "tied", "\"default\"", "\"linear\"", "\"linear\" needs factor, which is missing" },
    { "tied", "\"rope_type\": \"default\"", "\"partial_rotary_factor\": 0.5",
      "8 of the 16 features of a head are rotated" },
    { "tied", "\"rope_theta\": 10000.0", "\"rope_theta\": 0", "rope_theta is 0" },
    { "tied", "\"model_type\": \"llama\"", "\"model_type\": \"gemma3\"",
      "no plugin knows model_type \"gemma3\"" },
    { "qwen2", "\"sliding_attention\"", "\"chunked_attention\"", "\"layer_types\" is chunked_" },
    { "qwen2", "\"sliding_window\": 5", "\"sliding_window\": null", "there is no sliding_window" },
    { "phi3", "\"partial_rotary_factor\": 0.75", "\"partial_rotary_factor\": 1.5", "is above 1" },
    { "phi3", "\"partial_rotary_factor\": 0.75", "\"partial_rotary_factor\": 0.5",
      "have 6 numbers; the model has 4" },
    { "gemma3", "\"use_bidirectional_attention\": false", "\"use_bidirectional_attention\": true",
      "\"use_bidirectional_attention\" is true" },
    { "tied", "\"hidden_size\": 64", "\"hidden_size\": 0",
      "\"hidden_size\" is 0; it must be a whole number from 1 to 2147483647" },
    { "tied", "\"vocab_size\": 96", "\"vocab_size\": 2147483648", "\"vocab_size\" is 2147483648" },
    { "tied", "\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": 0", "it must be a number above 0" },
    { "tied", "\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": true",
      "\"rms_norm_eps\" is a truth value; it must be a number above 0" },
    { "tied", "\"head_dim\": 16", "\"head_dim\": 2048", "2048 features of a head are rotated" },
    { "qwen2", "\"layer_types\": [", "\"layer_types\": 50, \"was\": [", "\"layer_types\" is 50" },
    { "qwen2", "\"layer_types\": [", "\"layer_types\": [\"full_attention\", ",
      "\"layer_types\" is a list; it must be a list with an entry for each layer" },
    { "phi3", "\"partial_rotary_factor\": 0.75", "\"partial_rotary_factor\": 0.07",
      "1 features of a head are rotated; that must be an even number" },
    { "phi3", "\"partial_rotary_factor\": 0.75", "\"partial_rotary_factor\": 0.01",
      "0 features of a head are rotated; that must be an even number" },
    { "phi3", "\"short_factor\": [", "\"short_factor\": [0, ",
      "short_factor must be a list of positive numbers" },
    { "gemma3", "\"rope_theta\": 10000.0", "\"rope_theta\": \"far\"", "rope_theta is far" },
    { "oss", "\"silu\"", "\"gelu\"", "experts with the activation \"gelu\" are not supported" },
    { "oss", "\"num_experts_per_tok\": 3", "\"num_experts_per_tok\": 7",
      "a token cannot choose 7 of 6 experts" },
    { "oss", "\"num_local_experts\": 6", "\"experts\": 6", "a token cannot choose 3 of 0 experts" },
    { "mixture", "\"output_router_logits\": false", "\"output_router_logits\": true",
      "which adds a loss of the router's own" },
    { "mixture", "\"moe_intermediate_size\": 12", "\"inner\": 12",
      "\"moe_intermediate_size\" is missing" },
    { "mixture", "\"mlp_only_layers\": []", "\"mlp_only_layers\": 1",
      "\"mlp_only_layers\" is 1; it must be a list of layers" },
    { "mixture", "\"mlp_only_layers\": []", "\"mlp_only_layers\": [-1]",
      "\"mlp_only_layers\" is -1; it must be a number of a layer" },
    { "mixture", "\"mlp_only_layers\": []", "\"mlp_only_layers\": [1024]",
      "\"mlp_only_layers\" is 1024; it must be a number of a layer" },
    { "gemma3", "\"attn_logit_softcapping\": null", "\"attn_logit_softcapping\": 50.0",
      "\"attn_logit_softcapping\" is 50.0" },
};

START_TEST(wrong_configurations)
{
    const char *const pair[] = { wrong[_i].from, wrong[_i].to, NULL };
    check_refused(changed(wrong[_i].kind, "wrong", pair), wrong[_i].says);
}
END_TEST

/* A number that may be 0, of a family that has no list of layers. */
START_TEST(wrong_upper_layers)
{
    static const char *const pair[] = { "\"layer_types\"", "\"was\"", "\"max_window_layers\": 1",
                                        "\"max_window_layers\": \"all\"", NULL };
    check_refused(changed("qwen2", "wrong", pair),
                  "\"max_window_layers\" is all; it must be a whole number from 0 to 2147483647");
}
END_TEST

/* ---- GGUF ------------------------------------------------------------------------------------ */

/* A GGUF of keys and one tensor or two, without the weights that come after: whole but for these,
 * it is refused for blk.0. */
typedef struct {
    const char *arch;
    const char *key, *value; /* instead of, or beside, the usual keys.  value NULL: it is left out;
                                7, -7, 1.5, 'text'; [101] truth values, {12} numbers */
    const char *tensor;      /* beside the embedding */
    uint32_t type;           /* 0 F32, 1 F16 */
    int64_t dim[2];
    double fill;
    const char *says;
} gguf_case;

/* A value by its first character. */
static void put_value(ft_gguf_keys *k, const char *key, const char *v)
{
    size_t n = strlen(v);
    if (*v == '\'') ft_gguf_put_text(k, key, v + 1, n - 2);
    else if (*v == '[') {
        ft_gguf_put_list(k, key, FT_META_BOOL, n - 2);
        for (size_t i = 1; i < n - 1; i++) ft_buf_putc(&k->bytes, v[i] == '1');
    } else if (*v == '{') {
        ft_gguf_put_list(k, key, FT_META_U32, n - 2);
        for (size_t i = 1; i < n - 1; i++) ft_gguf_u32(&k->bytes, (uint32_t)(v[i] - '0'));
    } else if (strpbrk(v, ".in")) ft_gguf_put_f32(k, key, strtof(v, NULL));
    else {
        int64_t i = strtoll(v, NULL, 10);
        ft_gguf_key(k, key, FT_META_I64);
        ft_buf_add(&k->bytes, &i, sizeof i);
    }
}

static void put_keys(ft_gguf_keys *k, const gguf_case *c)
{
    static const char *const usual[][2] = {
        { "embedding_length", "64" },        { "feed_forward_length", "48" },
        { "block_count", "2" },              { "attention.head_count", "4" },
        { "attention.head_count_kv", "2" },  { "context_length", "128" },
        { "attention.key_length", "16" },    { "attention.value_length", "16" },
        { "expert_count", "0" },
    };
    char key[100];
    ft_gguf_put_text(k, "general.architecture", c->arch, strlen(c->arch));
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++) {
        if (c->key && !strcmp(usual[i][0], c->key)) continue;
        snprintf(key, sizeof key, "%s.%s", c->arch, usual[i][0]);
        put_value(k, key, usual[i][1]);
    }
    snprintf(key, sizeof key, "%s.%s", c->arch, c->key ? c->key : "");
    if (c->key && c->value) put_value(k, key, c->value);
}

/* The tensor "token_embd.weight" of the case takes the place of the usual one; an empty name leaves
 * it out. */
static const char *write_gguf(const gguf_case *c)
{
    gguf_tensor t[2] = { { .name = "token_embd.weight", .dim = { 96, 64 } },
                         { c->tensor, { c->dim[0], c->dim[1] }, c->type, c->fill } };
    ft_gguf_keys k = { .n = 0 };
    bool alone = c->tensor && (!*c->tensor || !strcmp(c->tensor, t[0].name));
    bool more = c->tensor && *c->tensor;
    const char *path = tiny_path("wrong.gguf");
    put_keys(&k, c);
    gguf_write(path, &k, alone ? t + 1 : t, (size_t)!alone + (size_t)more);
    ft_buf_free(&k.bytes);
    return path;
}

#define NOT_WHOLE " is no whole number from 1 to 2147483647"
static const gguf_case wrong_gguf[] = {
    { .arch = "llama", .says = "tensor blk.0.attn_norm.weight is missing" },
    { .arch = "llama", .says = " more" },
    { .arch = "llama", .tensor = "token_embd.weight", .type = 26, .dim = { 96, 64 },
      .says = "tensor token_embd.weight has format I32, whose numbers cannot be decoded" },
    { .arch = "llama", .tensor = "token_embd.weight", .dim = { 96, 65 },
      .says = "tensor token_embd.weight has shape (96, 65) where the model needs (96, 64)" },
    { .arch = "llama",
      .key = "embedding_length",
      .value = "'64'",
      .says = "\"llama.embedding_length\"" NOT_WHOLE },
    { .arch = "llama",
      .key = "block_count",
      .value = "0",
      .says = "\"llama.block_count\"" NOT_WHOLE },
    { .arch = "llama",
      .key = "block_count",
      .value = "2147483648",
      .says = "\"llama.block_count\"" NOT_WHOLE },
    { .arch = "llama", .key = "block_count", .value = "1025", .says = "1025 layers; at most 1024" },
    { .arch = "llama",
      .key = "attention.head_count",
      .value = NULL,
      .says = "\"llama.attention.head_count\" is missing" },
    { .arch = "llama",
      .key = "attention.head_count_kv",
      .value = "3",
      .says = "4 attention heads are no multiple of 3 key-value heads" },
    { .arch = "llama",
      .key = "attention.value_length",
      .value = "8",
      .says = "\"llama.attention.value_length\" differs from attention.key_length" },
    { .arch = "llama",
      .key = "attention.layer_norm_rms_epsilon",
      .value = "'small'",
      .says = "\"llama.attention.layer_norm_rms_epsilon\" is no number above 0" },
    { .arch = "llama",
      .key = "attention.layer_norm_rms_epsilon",
      .value = "0.0",
      .says = "\"llama.attention.layer_norm_rms_epsilon\" is no number above 0" },
    { .arch = "llama",
      .key = "rope.freq_base",
      .value = "inf",
      .says = "\"llama.rope.freq_base\" is no number above 0" },
    { .arch = "llama", .tensor = "", .says = "the matrix token_embd.weight is missing" },
    { .arch = "llama",
      .tensor = "token_embd.weight",
      .dim = { 96 },
      .says = "the matrix token_embd.weight is missing" },
    { .arch = "llama",
      .key = "logit_scale",
      .value = "2.0",
      .says = "\"llama.logit_scale\" says that this is another model" },
    { .arch = "llama",
      .key = "expert_count",
      .value = "8",
      .says = "\"llama.expert_count\" says that this is another model" },
    { .arch = "qwen2",
      .key = "attention.sliding_window",
      .value = "5",
      .says = "\"qwen2.attention.sliding_window\" is there, which nobody computes" },
    { .arch = "gemma3",
      .key = "attention.sliding_window_pattern",
      .value = "{11}",
      .says = "\"gemma3.attention.sliding_window_pattern\" is no list with a truth value" },
    { .arch = "gemma3",
      .key = "attention.sliding_window_pattern",
      .value = "[101]",
      .says = "\"gemma3.attention.sliding_window_pattern\" is no list with a truth value" },
    { .arch = "gpt-oss",
      .key = "expert_count",
      .value = "4",
      .says = "a token cannot choose 0 of 4 experts" },
    /* rotary positions */
    { .arch = "llama",
      .key = "rope.dimension_count",
      .value = "17",
      .says = "\"llama.rope.dimension_count\" is above the size of a head" },
    { .arch = "llama",
      .key = "rope.dimension_count",
      .value = "8",
      .says = "8 of the 16 features of a head are rotated; models of type llama rotate all" },
    { .arch = "llama",
      .key = "rope.scaling.type",
      .value = "'ntk'",
      .says = "\"llama.rope.scaling.type\" is neither none, linear nor yarn" },
    { .arch = "llama",
      .key = "rope.scaling.type",
      .value = "'linear'",
      .says = "\"llama.rope.scaling.factor\" is missing" },
    { .arch = "llama",
      .tensor = "rope_freqs.weight",
      .type = 1,
      .dim = { 8 },
      .fill = 1,
      .says = "tensor rope_freqs.weight is no list of 8 F32 numbers" },
    { .arch = "llama",
      .tensor = "rope_freqs.weight",
      .dim = { 8, 1 },
      .fill = 1,
      .says = "tensor rope_freqs.weight is no list of 8 F32 numbers" },
    { .arch = "llama",
      .tensor = "rope_freqs.weight",
      .dim = { 7 },
      .fill = 1,
      .says = "tensor rope_freqs.weight is no list of 8 F32 numbers" },
    { .arch = "llama",
      .tensor = "rope_freqs.weight",
      .dim = { 8 },
      .fill = 0,
      .says = "number 0 of tensor rope_freqs.weight is not above 0" },
    { .arch = "llama",
      .tensor = "rope_freqs.weight",
      .dim = { 8 },
      .fill = INFINITY,
      .says = "number 0 of tensor rope_freqs.weight is not above 0" },
    { .arch = "llama",
      .key = "rope.dimension_count",
      .value = "1",
      .tensor = "rope_freqs.weight",
      .dim = { 8 },
      .fill = 1,
      .says = "0 features of a head are rotated" },
    { .arch = "phi3",
      .tensor = "rope_factors_short.weight",
      .dim = { 8 },
      .fill = 1,
      .says = "rope_factors_long.weight is missing" },
    { .arch = "phi3",
      .tensor = "rope_factors_long.weight",
      .dim = { 8 },
      .fill = 1,
      .says = "rope_factors_short.weight is missing" },
};

START_TEST(wrong_ggufs)
{
    check_refused(write_gguf(&wrong_gguf[_i]), wrong_gguf[_i].says);
}
END_TEST

/* ---- names ----------------------------------------------------------------------------------- */

START_TEST(names_of_weights)
{
    asking a;
    ft_err e = { 0 };
    ft_gguf_name name;
    ask_open(&a, tiny_model("tied"), NULL, 1);
    const ft_model_run *m = &a.lm.model;
    ck_assert_int_eq(m->vt->gguf_name(m->self, "model.layers.1.mlp.up_proj.weight", &name), 0);
    ck_assert_str_eq(name.name, "blk.1.ffn_up.weight");
    int code = m->vt->gguf_name(m->self, "model.layers.1.mlp.side_proj.weight", &name);
    ck_assert_int_eq(code, FT_EUNSUP);
    ft_instance_error(m->plugin, code, &e);
    ck_assert_msg(strstr(e.msg, "weight model.layers.1.mlp.side_proj.weight has no name in a GGUF "
                                "of llama") != NULL,
                  "%s", e.msg);
    ask_close(&a);
}
END_TEST

static int nameless(void *self, const char *name, ft_gguf_name *out)
{
    (void)self, (void)name, (void)out;
    return FT_EUNSUP;
}

/* Models of others, which know no names in GGUF, or not this one. */
START_TEST(models_without_names)
{
    static const ft_model models[] = { { .size = sizeof *models },
                                       { .size = sizeof *models, .gguf_name = nameless } };
    static const char *const says[] = { "x.gguf: this model cannot be read from GGUF",
                                        "x.gguf: weight odd.weight has no name in GGUF files" };
    const ft_shape shape = ft_1d(4);
    for (int i = 0; i < 2; i++) {
        ft_weights w = { .model = &models[i], .gguf = true, .path = "x.gguf" };
        ft_arg a;
        ft_err e = { 0 };
        ck_assert_int_eq(ft_weights_find(&w, "odd.weight", &shape, &a, &e), FT_EUNSUP);
        ck_assert_str_eq(e.msg, says[i]);
    }
}
END_TEST

/* ---- weights --------------------------------------------------------------------------------- */

/* A folder whose embedding is of whole numbers. */
START_TEST(numbers_of_no_weight)
{
    static const char *const none[] = { NULL };
    static const uint64_t zeros[96 * 64];
    static const int64_t dim[2] = { 96, 64 };
    ft_err e = { 0 };
    const char *dir = changed("tied", "whole", none);
    ft_st_writer *w = ft_st_new(&e);
    ft_st_declare(w, "model.embed_tokens.weight", FT_U64, dim, 2, &e);
    tiny_must(ft_st_begin(w, tiny_path("whole/model.safetensors"), 0, &e), &e);
    tiny_must(ft_st_write(w, 0, zeros, sizeof zeros, &e), &e);
    tiny_must(ft_st_commit(w, &e), &e);
    ft_st_free(w);
    check_refused(dir, "model.embed_tokens.weight has format U64, whose numbers cannot be decoded");
}
END_TEST

/* A mixture's folder without the matrix of one expert, and with one of another shape. */
START_TEST(pieces_of_experts)
{
    static const char piece[] = "model.layers.1.mlp.experts.3.up_proj.weight";
    static const char *const none[] = { NULL };
    char says[2][160];
    snprintf(says[0], sizeof says[0], "tensor %s is missing", piece);
    snprintf(says[1], sizeof says[1], "tensor %s does not fit", piece);
    for (int shorter = 0; shorter < 2; shorter++) {
        tiny_tensor t[TINY_TENSORS];
        const char *dir = changed("mixture", "piece", none);
        int n = tiny_list(t, TINY_TENSORS, "mixture"), k = 0;
        while (k < n && strcmp(t[k].name, piece)) k++;
        ck_assert_int_lt(k, n);
        if (shorter) t[k].dim[0]--;
        else t[k] = t[--n];
        tiny_write(dir, t, n);
        check_refused(dir, says[shorter]);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("decoder-refused");
    TCase *t = tcase_create("decoder-refused");
    tcase_set_timeout(t, 120);
    tcase_add_unchecked_fixture(t, tiny_begin, tiny_end);
    tcase_add_loop_test(t, wrong_configurations, 0, sizeof wrong / sizeof *wrong);
    tcase_add_test(t, wrong_upper_layers);
    tcase_add_loop_test(t, wrong_ggufs, 0, sizeof wrong_gguf / sizeof *wrong_gguf);
    tcase_add_test(t, names_of_weights);
    tcase_add_test(t, models_without_names);
    tcase_add_test(t, numbers_of_no_weight);
    tcase_add_test(t, pieces_of_experts);
    suite_add_tcase(s, t);
    return s;
}
