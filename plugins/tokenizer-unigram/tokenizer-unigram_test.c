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
    suite_add_tcase(s, c);
    return s;
}
