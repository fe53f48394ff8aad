/* tokenizer-unigram_test.c -- the plugin against vectors: those of tests/data/tok, made by HF
 * tokenizers and SentencePiece (make.py there), and the shared goldens where they are present.
 * Then special tokens from data, wrong files, and models of other kinds. */
#define PLUGIN "tokenizer-unigram"
#include "plugins/tokenizer-common/test_golden.h"

START_TEST(own_vectors)
{
    ck_assert_int_eq(check_folders(DATA), 8);
}
END_TEST

START_TEST(shared_goldens)
{
    check_shared(1);
}
END_TEST

/* ---- special tokens -------------------------------------------------------------------------- */
/* "</s>" is a piece like any other: data that spells it must not get it. */
START_TEST(data_forges_no_piece)
{
    static const ft_span span = { .begin = 0, .end = 7, .turn = -1, .from = FT_FROM_DATA };
    const ft_text forged = { .text = "x </s>y", .len = 7, .span = &span, .n_span = 1 };
    test_tok *t = load_dir(DATA "unigram");
    int64_t end = t->vt->find(t->self, "</s>", 4);
    for (int allowed = 0; allowed < 2; allowed++) {
        ft_tokens k;
        int found = 0;
        unsigned flags = allowed ? FT_ENCODE_SPECIAL_IN_DATA : 0;
        ck_assert_int_eq(t->vt->encode(t->self, t->enc, &forged, flags, &k), 0);
        for (size_t i = 0; i < k.n; i++) found += k.id[i] == end;
        ck_assert_int_eq(found, allowed);
    }
    test_close(t);
}
END_TEST

/* ---- wrong files ----------------------------------------------------------------------------- */
static void refused(const char *json, const char *error)
{
    static test_tok t;
    opened(&t);
    ck_assert_msg(!test_load_text(&t, json, strlen(json)), "accepted: %s", json);
    ck_assert_msg(strstr(t.err.msg, error), "%s\n  said: %s", json, t.err.msg);
    test_close(&t);
}

START_TEST(wrong_files)
{
    static const struct { const char *model, *error; } bad[] = {
        { "\"vocab\":{}", "a list of" },
        { "\"byte_fallback\":false", "a list of" },
        { "\"vocab\":[[\"a\"]]", "piece 0 is not" },
        { "\"vocab\":[[\"a\",\"b\"]]", "piece 0 is not" },
        { "\"vocab\":[[\"a\",1e999]]", "piece 0 is not" },
        { "\"vocab\":[[\"a\",-1],[\"a\",-2]]", "two ids" },
        { "\"vocab\":[[\"a\",-1]],\"unk_id\":1", "unk_id" },
        { "\"vocab\":[[\"a\",-1]],\"unk_id\":-1", "unk_id" },
        { "\"vocab\":[[\"a\",-1]],\"byte_fallback\":1", "byte_fallback" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char json[512];
        snprintf(json, sizeof json, "{\"model\":{\"type\":\"Unigram\",%s}}", bad[i].model);
        refused(json, bad[i].error);
    }
    char json[2048] = "{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"";
    size_t n = strlen(json);
    memset(json + n, 'x', 1025);
    strcpy(json + n + 1025, "\",-1]]}}");
    refused(json, "1025 bytes");
}
END_TEST

START_TEST(no_unknown_token)
{
    static const char json[] = "{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",-1]]}}";
    static test_tok t;
    const ft_text text = { .text = "ab", .len = 2 };
    ft_tokens k;
    opened(&t);
    ck_assert(test_load_text(&t, json, sizeof json - 1));
    ck_assert_int_lt(t.vt->encode(t.self, t.enc, &text, 0, &k), 0);
    ck_assert_ptr_nonnull(strstr(t.err.msg, "no unk_id"));
    test_close(&t);
}
END_TEST

/* A model of another kind is refused by the name of its plugin. */
START_TEST(names_the_right_plugin)
{
    refused("{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}", "use: tokenizer-bpe");
    refused("{\"model\":{\"type\":\"WordPiece\",\"vocab\":{}}}", "use: tokenizer-wordpiece");
    refused("{\"model\":{\"type\":\"WordLevel\",\"vocab\":{}}}", "\"WordLevel\", which no plugin");
}
END_TEST

/* ---- SentencePiece files --------------------------------------------------------------------- */
/* Every prefix of a model, and the model with one byte changed: an error or a tokenizer, and no
 * sanitizer has anything to say. */
START_TEST(broken_models)
{
    static test_tok t;
    ft_buf whole = { 0 };
    ck_assert_int_eq(ft_file_read(&whole, DATA "spm-unigram/tokenizer.model", 1 << 20, NULL), 0);
    size_t loaded = 0, tried = 0;
    for (size_t i = 0; i < 2 * whole.n; i += i < 600 || i > whole.n - 600 ? 1 : 37, tried++) {
        size_t n = i < whole.n ? i : whole.n, at = i - n;
        char *copy = malloc(n + 1); /* its end is the sanitizer's */
        memcpy(copy, whole.p, n);
        copy = realloc(copy, n ? n : 1);
        if (i >= whole.n) copy[at] = (char)(copy[at] ^ (1 << i % 8));
        opened(&t);
        if (test_load_spm(&t, copy, n)) {
            const ft_text text = { .text = "The little ferry caf\xC3\xA9", .len = 21 };
            ft_tokens k;
            loaded++;
            (void)t.vt->encode(t.self, t.enc, &text, 0, &k);
        } else {
            ck_assert_int_lt(t.err.code, 0);
        }
        test_close(&t);
        free(copy);
    }
    printf("%zu broken models, %zu of them are tokenizers\n", tried, loaded);
    ft_buf_free(&whole);
}
END_TEST

/* A field of a protocol buffer: bytes, or a number below 128. */
static void put_bytes(ft_buf *b, int number, const void *p, size_t n)
{
    ft_buf_putc(b, (char)(number << 3 | 2));
    for (size_t v = n;; v >>= 7) {
        ft_buf_putc(b, (char)(v < 128 ? v : (v & 127) | 128));
        if (v < 128) break;
    }
    ft_buf_add(b, p, n);
}

static void put_number(ft_buf *b, int number, int v)
{
    if (number > 15) ft_buf_putc(b, (char)((number << 3 & 127) | 128));
    ft_buf_putc(b, (char)(number > 15 ? number >> 4 : number << 3));
    ft_buf_putc(b, (char)v);
}

/* A model of the pieces "<unk>" and one more, and what departs from a good one. */
static const struct {
    const char *piece, *config, *error;
    size_t length;             /* of the piece, which is said again as often as needed */
    int type, trainer, normalizer; /* a field of trainer_spec that is 1; of the other, 0 */
    bool no_score;
} models[] = {
    { "a", NULL, NULL, 1, 1, 0, 0, false },
    { "\xFF", NULL, "token 1 is not valid UTF-8", 1, 1, 0, 0, false },
    { "a", NULL, "token 1 has 1025 bytes; at most 1024", 1025, 3, 0, 0, false },
    { "a", NULL, "piece 1 is broken", 1, 9, 0, 0, false },
    { "a", NULL, "the score of token 1 is no number", 1, 1, 0, 0, true },
    { "a", NULL, "treat_whitespace_as_suffix", 1, 1, 24, 0, false },
    { "a", NULL, "escape_whitespaces: false", 1, 1, 0, 5, false },
    { "a", "{\"2\":{\"content\":\"x\"}}", NULL, 1, 1, 0, 0, false },
    { "a", "{\"1\":{\"content\":\"a\"}}", NULL, 1, 1, 0, 0, false },
    { "a", "{\"x\":{\"content\":\"x\"}}", "needs an id as its key", 1, 1, 0, 0, false },
    { "a", "{\"2\":{\"content\":5}}", "a \"content\" of 1 to 1024", 1, 1, 0, 0, false },
    { "a", "{\"2\":{\"content\":\"\"}}", "a \"content\" of 1 to 1024", 1, 1, 0, 0, false },
    { "a", "{\"1\":{\"content\":\"x\"}}", "has another token there", 1, 1, 0, 0, false },
    { "a", "{\"2\":{\"content\":\"a\"}}", "another id for it", 1, 1, 0, 0, false },
};

START_TEST(wrong_models)
{
    static test_tok t;
    ft_buf m = { 0 }, part = { 0 }, text = { 0 }, config = { 0 };
    const float score = models[_i].no_score ? 0.0f / 0.0f : -1.0f;
    put_bytes(&part, 1, "<unk>", 5);
    put_number(&part, 3, 2);
    put_bytes(&m, 1, part.p, part.n);
    part.n = 0;
    for (size_t i = 0; i < models[_i].length; i++) ft_buf_puts(&text, models[_i].piece);
    put_bytes(&part, 1, text.p, text.n);
    ft_buf_putc(&part, 2 << 3 | 5);
    ft_buf_add(&part, &score, 4);
    put_number(&part, 3, models[_i].type);
    put_bytes(&m, 1, part.p, part.n);
    part.n = 0;
    put_number(&part, 3, 1);
    if (models[_i].trainer) put_number(&part, models[_i].trainer, 1);
    put_bytes(&m, 2, part.p, part.n);
    part.n = 0;
    if (models[_i].normalizer) put_number(&part, models[_i].normalizer, 0);
    put_bytes(&m, 3, part.n ? part.p : "", part.n);
    opened(&t);
    if (models[_i].config) {
        ft_buf_printf(&config, "{\"added_tokens_decoder\":%s}", models[_i].config);
        t.config = ft_json_parse("tokenizer_config.json", config.p, config.n, &t.err);
        t.source.tokenizer_config = ft_json_root(t.config);
    }
    bool fine = test_load_spm(&t, m.p, m.n);
    ck_assert_msg(fine == !models[_i].error, "%d: %s", _i, t.err.msg);
    if (!fine) ck_assert_msg(strstr(t.err.msg, models[_i].error), "%d: %s", _i, t.err.msg);
    test_close(&t);
    ft_buf_free(&m);
    ft_buf_free(&part);
    ft_buf_free(&text);
    ft_buf_free(&config);
}
END_TEST

START_TEST(too_many_pieces)
{
    static test_tok t;
    ft_buf m = { 0 };
    for (int i = 0; i < (1 << 20) + 1; i++) put_bytes(&m, 1, "", 0);
    opened(&t);
    ck_assert(!test_load_spm(&t, m.p, m.n));
    ck_assert_msg(strstr(t.err.msg, "1048577 pieces; at most 1048576"), "%s", t.err.msg);
    test_close(&t);
    ft_buf_free(&m);
}
END_TEST

/* GGUF: what a list may be instead of what it must be. */
static const struct { const char *key; ft_meta wrong; const char *error; } keys[] = {
    { "tokenizer.ggml.scores", { .key = "gone", .n = 1 }, "there is no tokenizer.ggml.scores" },
    { "tokenizer.ggml.precompiled_charsmap", { .type = FT_META_STRING, .item = FT_META_U8, .n = 1 },
      "must be a list of bytes" },
    { "tokenizer.ggml.precompiled_charsmap",
      { .type = FT_META_ARRAY, .item = FT_META_BOOL, .n = 1 }, "must be a list of bytes" },
};

START_TEST(wrong_gguf)
{
    static test_tok t;
    opened(&t);
    ck_assert_msg(test_load_gguf(&t, DATA "gguf-t5/tokenizer.gguf"), "%s", t.err.msg);
    t.vt->encoder_done(t.self, t.enc);
    t.enc = NULL;
    t.plugin->close(t.self);
    memset(t.self, 0, t.plugin->instance_size);
    ck_assert_int_eq(t.plugin->open(t.self, &t.h, NULL), 0);
    size_t at = 0;
    while (at < t.source.n_meta && strcmp(t.meta[at].key, keys[_i].key)) at++;
    t.meta[at] = keys[_i].wrong;
    if (!t.meta[at].key) t.meta[at].key = keys[_i].key;
    t.meta[at].data = "\0";
    if (at == t.source.n_meta) t.source.n_meta++;
    ck_assert(!test_load(&t));
    ck_assert_msg(strstr(t.err.msg, keys[_i].error), "%s", t.err.msg);
    test_close(&t);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("tokenizer-unigram");
    TCase *c = tcase_create("all");
    tcase_set_timeout(c, 120);
    tcase_add_test(c, own_vectors);
    tcase_add_test(c, shared_goldens);
    tcase_add_test(c, data_forges_no_piece);
    tcase_add_test(c, wrong_files);
    tcase_add_test(c, no_unknown_token);
    tcase_add_test(c, names_the_right_plugin);
    tcase_add_test(c, broken_models);
    tcase_add_loop_test(c, wrong_models, 0, sizeof models / sizeof *models);
    tcase_add_test(c, too_many_pieces);
    tcase_add_loop_test(c, wrong_gguf, 0, sizeof keys / sizeof *keys);
    suite_add_tcase(s, c);
    return s;
}
