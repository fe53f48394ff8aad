/* tokenizer-wordpiece_test.c -- the plugin against vectors: those of tests/data/tok, made by HF
 * tokenizers (make.py there), and the shared goldens where they are present.  Then long words and
 * wrong files. */
#define PLUGIN "tokenizer-wordpiece"
#include "plugins/tokenizer-common/test_golden.h"

START_TEST(own_vectors)
{
    ck_assert_int_eq(check_folders(DATA), 4);
}
END_TEST

START_TEST(shared_goldens)
{
    check_shared(1);
}
END_TEST

static test_tok *load_text(const char *json)
{
    static test_tok t;
    opened(&t);
    ck_assert_msg(test_load_text(&t, json, strlen(json)), "%s", t.err.msg);
    return &t;
}

/* A word that cannot be spelled, or is too long, is one unknown token. */
START_TEST(unknown_words)
{
    test_tok *t = load_text("{\"pre_tokenizer\":{\"type\":\"WhitespaceSplit\"},\"model\":{\"type\":"
                            "\"WordPiece\",\"unk_token\":\"?\",\"max_input_chars_per_word\":3,"
                            "\"vocab\":{\"?\":0,\"a\":1,\"##b\":2,\"##bb\":3}}}");
    ft_tokens k = encode(t, "a ab abb abbb ax \xC3\xA9", 0);
    static const uint32_t want[] = { 1, 1, 2, 1, 3, 0, 0, 0 };
    ck_assert_uint_eq(k.n, 8);
    ck_assert_mem_eq(k.id, want, sizeof want);
    ck_assert(k.begin[5] == 9 && k.end[5] == 13);
    test_close(t);
}
END_TEST

START_TEST(no_unknown_token)
{
    test_tok *t = load_text("{\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"?\",\"vocab\":{"
                            "\"a\":0}}}");
    const ft_text text = { .text = "b", .len = 1 };
    ft_tokens k;
    ck_assert_int_lt(t->vt->encode(t->self, t->enc, &text, 0, &k), 0);
    ck_assert_ptr_nonnull(strstr(t->err.msg, "unk_token \"?\""));
    test_close(t);
}
END_TEST

START_TEST(wrong_files)
{
    static const struct { const char *json, *error; } bad[] = {
        { "{\"model\":{\"type\":\"WordPiece\"}}", "\"vocab\", an object" },
        { "{\"model\":{\"type\":\"WordPiece\",\"vocab\":[]}}", "\"vocab\", an object" },
        { "{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":-1}}}", "\"a\" has no id" },
        { "{\"model\":{\"type\":\"WordPiece\",\"vocab\":{},\"max_input_chars_per_word\":-1}}",
          "max_input_chars_per_word" },
        { "{\"model\":{\"type\":\"WordPiece\",\"vocab\":{},\"unk_token\":5}}", "unk_token" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}", "use: tokenizer-bpe" },
        { "{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}", "use: tokenizer-unigram" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        static test_tok t;
        opened(&t);
        ck_assert_msg(!test_load_text(&t, bad[i].json, strlen(bad[i].json)), "%s", bad[i].json);
        ck_assert_msg(strstr(t.err.msg, bad[i].error), "%s: %s", bad[i].json, t.err.msg);
        test_close(&t);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("tokenizer-wordpiece");
    TCase *c = tcase_create("all");
    tcase_set_timeout(c, 120);
    tcase_add_test(c, own_vectors);
    tcase_add_test(c, shared_goldens);
    tcase_add_test(c, unknown_words);
    tcase_add_test(c, no_unknown_token);
    tcase_add_test(c, wrong_files);
    suite_add_tcase(s, c);
    return s;
}
