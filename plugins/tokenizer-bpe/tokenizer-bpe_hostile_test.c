/* tokenizer-bpe_hostile_test.c -- files and texts that mean no good: each wrong tokenizer.json and
 * GGUF gets its own named error, expressions that backtrack give up in time, and every allocation
 * may fail. */
#include <time.h>
#include "tests/harness.h"
#include "plugins/tokenizer-common/test_host.h"

#define DATA "tests/data/tok/"

static void opened(test_tok *t)
{
    ck_assert_msg(test_open(t, test_build(), "tokenizer-bpe"), "%s", t->err.msg);
}

/* Whether times say something: not where a sanitizer works along. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { FAST = 0 };
#else
enum { FAST = 1 };
#endif

static double cpu_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* ---- tokenizer.json -------------------------------------------------------------------------- */
/* Members of a tokenizer.json beside, or instead of, MODEL; and what the error must say. */
#define VOCAB "\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"##b\":3}"
#define MODEL "\"model\":{\"type\":\"BPE\"," VOCAB ",\"merges\":[\"a b\"]}"
static const struct { const char *json, *error;
} bad[] = {
    { "\"version\":\"2.0\"," MODEL, "version" },
    { "\"model\":{\"type\":\"BPE\",\"merges\":[]}", "\"vocab\"" },
    { "\"model\":{\"type\":\"BPE\",\"vocab\":[],\"merges\":[]}", "\"vocab\"" },
    { "\"model\":{\"type\":\"BPE\",\"vocab\":{}}", "\"merges\"" },
    { "\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":{}}", "\"merges\", a list" },
    { "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}", "\"a\" has no id" },
    { "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1.0},\"merges\":[]}", "\"a\" has no id" },
    { "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":\"0\"},\"merges\":[]}", "\"a\" has no id" },
    { "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":4294967296},\"merges\":[]}",
      "ids must be below" },
    { "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":99999999999999999999},\"merges\":[]}",
      "\"a\" has no id" },
    { "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":4194304},\"merges\":[]}", "ids must be below" },
    { "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}",
      "id 0 belongs to two tokens" },
    { "\"model\":{\"type\":\"BPE\"," VOCAB ",\"merges\":[\"a c\"]}", "merge 0 names \"c\"" },
    { "\"model\":{\"type\":\"BPE\"," VOCAB ",\"merges\":[\"a b\",\"c b\"]}",
      "merge 1 names \"c\"" },
    { "\"model\":{\"type\":\"BPE\"," VOCAB ",\"merges\":[\"b a\"]}", "merge 0 makes \"ba\"" },
    { "\"model\":{\"type\":\"BPE\"," VOCAB ",\"merges\":[\"ab\"]}", "neither" },
    { "\"model\":{\"type\":\"BPE\"," VOCAB ",\"merges\":[\"a b c\"]}", "neither" },
    { "\"model\":{\"type\":\"BPE\"," VOCAB ",\"merges\":[[\"a\"]]}", "neither" },
    { "\"model\":{\"type\":\"BPE\"," VOCAB ",\"merges\":[[\"a\",1]]}", "neither" },
    { "\"model\":{\"type\":\"BPE\"," VOCAB ",\"merges\":[\"a b\",[\"a\",\"b\"]]}",
      "not written as the others" },
    { "\"model\":{\"type\":\"BPE\"," VOCAB ",\"merges\":[5]}", "neither" },
    { "\"model\":{\"type\":\"BPE\",\"dropout\":0.1," VOCAB ",\"merges\":[]}", "dropout" },
    { "\"model\":{\"type\":\"BPE\",\"unk_token\":1," VOCAB ",\"merges\":[]}", "unk_token" },
    { "\"model\":{\"type\":\"BPE\",\"unk_token\":\"a\\u0000\"," VOCAB ",\"merges\":[]}",
      "unk_token" },
    { "\"model\":{\"type\":\"BPE\",\"fuse_unk\":1," VOCAB ",\"merges\":[]}", "fuse_unk" },
    { "\"model\":{\"type\":\"BPE\",\"continuing_subword_prefix\":\"##\"," VOCAB ",\"merges\":"
      "[\"a b\"]}",
      "names \"b\"" },
    { "\"added_tokens\":{}," MODEL, "added_tokens must be a list" },
    { "\"added_tokens\":[{\"content\":\"x\"}]," MODEL, "added token has no id" },
    { "\"added_tokens\":[{\"id\":4}]," MODEL, "no \"content\"" },
    { "\"added_tokens\":[{\"id\":4,\"content\":5}]," MODEL, "no \"content\"" },
    { "\"added_tokens\":[{\"id\":9,\"content\":\"x\"}]," MODEL, "would get 4" },
    { "\"added_tokens\":[{\"id\":1,\"content\":\"x\"}]," MODEL, "would get 4" },
    { "\"added_tokens\":[{\"id\":4,\"content\":\"a\"}]," MODEL, "would get 0" },
    { "\"added_tokens\":[{\"id\":4,\"content\":\"x\"},{\"id\":4,\"content\":\"x\"}]," MODEL,
      "there twice" },
    { "\"normalizer\":{\"type\":\"Lowercase\"},\"added_tokens\":[{\"id\":4,\"content\":\"x\"},"
      "{\"id\":5,\"content\":\"X\"}]," MODEL,
      "looked for as \"x\"" },
    { "\"normalizer\":{\"type\":\"Strip\"},\"added_tokens\":[{\"id\":4,\"content\":\" \"}]," MODEL,
      "empty text" },
    { "\"normalizer\":{\"type\":\"Unheard\"}," MODEL, "normalizer \"Unheard\" is not supported" },
    { "\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":5}," MODEL, "base64" },
    { "\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":{}}," MODEL, "base64" },
    { "\"normalizer\":{\"type\":\"Prepend\",\"prepend\":5}," MODEL, "a text of at most" },
    { "\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAA\"}," MODEL,
      "base64" },
    { "\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AA==\"}," MODEL,
      "has no size" },
    { "\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"CAAAAAAA\"}," MODEL,
      "beyond its end" },
    { "\"normalizer\":{}," MODEL, "normalizer has no \"type\"" },
    { "\"normalizer\":7," MODEL, "normalizer has no \"type\"" },
    { "\"normalizer\":{\"type\":\"Sequence\"}," MODEL, "\"normalizers\"" },
    { "\"normalizer\":{\"type\":\"Prepend\"}," MODEL, "\"prepend\"" },
    { "\"normalizer\":{\"type\":\"Replace\",\"content\":\"x\"}," MODEL, "\"String\"" },
    { "\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"x\"},"
      "" MODEL,
      "not empty" },
    { "\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"x\"}}," MODEL,
      "\"content\"" },
    { "\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"}," MODEL,
      "pre_tokenizer \"UnicodeScripts\"" },
    { "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"x\"},\"invert\":false},"
      "" MODEL,
      "\"behavior\"" },
    { "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"x\"},\"behavior\":"
      "\"Cut\"}," MODEL,
      "MergedWithNext" },
    { "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"xy\"}," MODEL, "one character" },
    { "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":"
      "\"some\"}," MODEL,
      "always, first" },
    { "\"pre_tokenizer\":{\"type\":\"Digits\",\"individual_digits\":1}," MODEL, "true or false" },
    { "\"decoder\":{\"type\":\"CTC\"}," MODEL, "decoder \"CTC\"" },
    { "\"decoder\":{\"type\":\"Strip\",\"content\":\" \",\"start\":-1,\"stop\":0}," MODEL,
      "\"start\"" },
    { "\"decoder\":{\"type\":\"Strip\",\"content\":\" \",\"stop\":0}," MODEL,
      "\"start\": a number" },
    { "\"decoder\":{\"type\":\"Strip\",\"content\":\" \",\"start\":\"0\",\"stop\":0}," MODEL,
      "\"start\": a number" },
    { "\"decoder\":{\"type\":\"Strip\",\"content\":\" \",\"start\":0,\"stop\":2147483648}," MODEL,
      "\"stop\": a number" },
    { "\"decoder\":{\"type\":\"BPEDecoder\",\"suffix\":\"\"}," MODEL, "\"suffix\"" },
    { "\"post_processor\":{\"type\":\"TemplateProcessing\"}," MODEL, "\"single\"" },
    { "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":{}}," MODEL, "a list" },
    { "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{"
      "\"id\":\"x\"}}],\"special_tokens\":{\"x\":{\"ids\":0}}}," MODEL,
      "ids for every" },
    { "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[]}," MODEL,
      "the sequence A" },
    { "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":"
      "\"B\"}}]}," MODEL,
      "sequence A once" },
    { "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{"
      "\"id\":\"x\"}}]}," MODEL,
      "ids for every" },
    { "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{"
      "\"id\":\"x\"}},{\"Sequence\":{\"id\":\"A\"}}],"
      "\"special_tokens\":{\"x\":{\"ids\":[77]}}}," MODEL,
      "id 77" },
    { "\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"a\",0]}," MODEL, "\"cls\"" },
    { "\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"a\",0],\"cls\":[\"x\",-5]},"
      "" MODEL,
      "id -5" },
};

/* Expressions that cannot be carried over from Oniguruma, or are none. */
static const struct { const char *regex, *error; } bad_regex[] = {
    { "(", "without its )" }, { ")", "without its (" }, { "a)", "without its (" }, { "[a",
      "without its end" },
    { "*a", "nothing to repeat" }, { "(?<!a*)b", "lookbehind" }, { "\\\\", "at the end" },
      { "(a)\\\\1", "this escape" },
    { "\\\\k<x>", "this escape" }, { "\\\\p{Klingon}", "this property" }, { "\\\\p",
      "without braces" }, { "\\\\p{L", "this property" },
    { "[a[b]]", "a set in a set" }, { "[a&&b]", "a set in a set" }, { "[[:alpha:]]",
      "a set in a set" }, { "[\\\\W]", "this class in a set" },
    { "(?i:ss)", "where case is ignored" }, { "(?i:\\u00df)", "where case is ignored" },
      { "(?i:\\\\p{L})", "where case is ignored" },
    { "(?x:a)", "this option" }, { "(?~a)", "this option" }, { "\\\\x{110000}",
      "character number" }, { "\\\\x{d800}", "character number" },
    { "\\\\xff", "character number" }, { "a{2}{3}{4}", "" }, { "a+*?", "" }, { "[z-a]", "range" },
      { "[a-\\\\d]", "ends in a class" },
    { "a+?*", "a third quantifier" }, { "a+?+", "a third quantifier" },
    { "a+??", "a third quantifier" }, { "\\\\x{41", "character number" },
    { "(?i:\\\\d)", "a class where case" }, { "[\\\\k]", "this escape" },
    { "(?i:[\\u00e9])", "this set where case" },
    { "a{99999}", "" }, { "(?", "without its end" }, { "(?i", "without its end" }, { "\\\\C",
      "this escape" }, { "\\\\G", "this escape" },
};

static void refused(const char *json, const char *error)
{
    static test_tok t;
    opened(&t);
    bool fine = test_load_text(&t, json, strlen(json));
    ck_assert_msg(!fine, "accepted: %.300s", json);
    ck_assert_msg(t.err.code < 0 && strstr(t.err.msg, error), "%.300s\n  said: %s\n  not: %s", json,
                  t.err.msg, error);
    test_close(&t);
}

START_TEST(wrong_files)
{
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char json[2048];
        snprintf(json, sizeof json, "{%s}", bad[i].json);
        refused(json, bad[i].error);
    }
}
END_TEST

START_TEST(wrong_expressions)
{
    for (size_t i = 0; i < sizeof bad_regex / sizeof *bad_regex; i++) {
        char json[2048];
        snprintf(json, sizeof json, "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{"
          "\"Regex\":\"%s\"},"
                 "\"behavior\":\"Isolated\",\"invert\":false}," MODEL "}", bad_regex[i].regex);
        refused(json, bad_regex[i].error);
    }
}
END_TEST

/* Files that are too large in one way each: steps, sequences in sequences, an expression, an added
 * token, specials around a text. */
START_TEST(too_much)
{
    static const struct { const char *open, *more, *close, *error; int n; } cases[] = {
        { "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[", "{\"type\":\"NFC\"},",
          "{\"type\":\"NFC\"}]},", "more than 64", 64 },
        { "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[", "{\"type\":\"Digits\"},",
          "{\"type\":\"Digits\"}]},", "more than 64", 64 },
        { "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[", "{\"type\":\"Fuse\"},",
          "{\"type\":\"Fuse\"}]},", "more than 64", 64 },
        { "\"added_tokens\":[{\"id\":4,\"content\":\"", "x", "\"}],", "1024 bytes", 1025 },
        { "\"normalizer\":{\"type\":\"Prepend\",\"prepend\":\"", "x", "\"},", "64 KiB", 65537 },
        { "\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"", "AAAA", "\"},",
          "at most 16 MiB", 5592406 },
        { "\"post_processor\":{\"type\":\"TemplateProcessing\",\"special_tokens\":{\"x\":{\"ids\":"
          "[0]}},\"single\":[", "{\"SpecialToken\":{\"id\":\"x\"}},",
          "{\"Sequence\":{\"id\":\"A\"}}]},", "more than 64 special tokens", 65 },
        { "\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Removed\",\"pattern\":{"
          "\"Regex\":\"", "(", "\"}},", "nesting", 300 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ft_buf b = { 0 };
        ft_buf_puts(&b, "{");
        ft_buf_puts(&b, cases[i].open);
        for (int k = 0; k < cases[i].n; k++) ft_buf_puts(&b, cases[i].more);
        ft_buf_puts(&b, cases[i].close);
        ft_buf_puts(&b, MODEL "}");
        refused(b.p, cases[i].error);
        ft_buf_free(&b);
    }
    char deep[4096] = "{\"normalizer\":";
    for (int k = 0; k < 20; k++) strcat(deep, "{\"type\":\"Sequence\",\"normalizers\":[");
    strcat(deep, "null");
    for (int k = 0; k < 20; k++) strcat(deep, "]}");
    strcat(deep, "," MODEL "}");
    refused(deep, "nested deeper than 16");
}
END_TEST

/* ---- texts ----------------------------------------------------------------------------------- */
START_TEST(wrong_texts)
{
    static test_tok t;
    static const char *const wrong[] = { "a\xFF", "\xC3", "\xED\xA0\x80", "ab\xC0\xAF",
        "\xF4\x90\x80\x80", "\x80" };
    opened(&t);
    ck_assert(test_load_dir(&t, DATA "gpt2"));
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        ft_text text = { .text = wrong[i], .len = strlen(wrong[i]) };
        ft_tokens k;
        t.err.code = 0;
        ck_assert_int_eq(t.vt->encode(t.self, t.enc, &text, 0, &k), FT_EFORMAT);
        ck_assert_ptr_nonnull(strstr(t.err.msg, "not valid UTF-8"));
    }
    ft_text none = { 0 }, huge = { .text = "a", .len = UINT32_MAX / 4 + 1 };
    ft_tokens k;
    t.err.code = 0;
    ck_assert_int_eq(t.vt->encode(t.self, t.enc, &huge, 0, &k), FT_EINVAL);
    ck_assert_ptr_nonnull(strstr(t.err.msg, "can be encoded at once"));
    ck_assert_int_eq(t.vt->encode(t.self, t.enc, &none, 0, &k), 0);
    ck_assert_uint_eq(k.n, 0);
    test_close(&t);
}
END_TEST

/* A source that has no tokenizer, and a second tokenizer in one instance. */
START_TEST(nothing_to_load)
{
    static test_tok t;
    opened(&t);
    ck_assert(!test_load(&t));
    ck_assert_msg(strstr(t.err.msg, "has no tokenizer that is known"), "%s", t.err.msg);
    test_close(&t);
    opened(&t);
    ck_assert(test_load_dir(&t, DATA "gpt2"));
    ck_assert_int_lt(t.vt->load(t.self, &t.source, &t.vocab), 0);
    ck_assert_msg(strstr(t.err.msg, "loaded already"), "%s", t.err.msg);
    test_close(&t);
}
END_TEST

/* A character that neither the vocabulary nor unk_token can stand for. */
START_TEST(unknown_character)
{
    static test_tok t;
    static const char json[] = "{\"model\":{\"type\":\"BPE\",\"unk_token\":\"?\",\"vocab\":{"
      "\"a\":0},\"merges\":[]}}";
    opened(&t);
    ck_assert(test_load_text(&t, json, sizeof json - 1));
    ft_text text = { .text = "ab", .len = 2 };
    ft_tokens k;
    ck_assert_int_eq(t.vt->encode(t.self, t.enc, &text, 0, &k), FT_EFORMAT);
    ck_assert_ptr_nonnull(strstr(t.err.msg, "unk_token \"?\""));
    test_close(&t);
}
END_TEST

/* Expressions that backtrack without end: a named error, soon; and what can be matched, is. */
START_TEST(expressions_give_up)
{
    static const struct { const char *regex; int n; } cases[] = {
        { "(a+)+$", 24 }, { "(a+)+$", 5000 }, { "(a|aa)+$", 5000 }, { "(?:a*)*[bc]", 5000 },
          { "(a|a)*[bc]", 60 },
        { "a*a*a*a*a*a*[bc]", 3000 }, { "(?=(a+)+[bc])", 400 }, { "(a+)+$", 1000000 },
        { "a*[bc]", 1000000 }, { "(?:a?){300}[bc]", 100000 }, { "(?<!b)a*?[bc]", 1000000 } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        static test_tok t;
        char json[1024], *s = malloc((size_t)cases[i].n + 1);
        snprintf(json, sizeof json, "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{"
          "\"Regex\":\"%s\"},\"behavior\":"
                 "\"Isolated\",\"invert\":false},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,"
                   "\"!\":1},\"merges\":[]}}", cases[i].regex);
        memset(s, 'a', (size_t)cases[i].n);
        s[cases[i].n] = '!';
        opened(&t);
        ck_assert_msg(test_load_text(&t, json, strlen(json)), "%s", t.err.msg);
        ft_text text = { .text = s, .len = (size_t)cases[i].n + 1 };
        ft_tokens k;
        double from = cpu_ms();
        int code = t.vt->encode(t.self, t.enc, &text, 0, &k);
        double took = cpu_ms() - from;
        ck_assert_msg(code == FT_EFORMAT && strstr(t.err.msg, "gave up"), "%s: %d", cases[i].regex,
            code);
        printf("%s on %d bytes: %.1f ms\n", cases[i].regex, cases[i].n + 1, took);
        ck_assert_msg(took < (FAST ? 50 : 2000), "%s took %.0f ms", cases[i].regex, took);
        text.len = 1; /* the encoder goes on working */
        ck_assert_int_eq(t.vt->encode(t.self, t.enc, &text, 0, &k), 0);
        test_close(&t);
        free(s);
    }
}
END_TEST

/* Expressions that are hard to compile: long, deep, repeated; an error or a tokenizer, soon. */
START_TEST(expressions_that_are_large)
{
    static const struct { const char *open, *more, *close; int n; const char *error; } cases[] = {
        { "((((a{1,30}){1,30}){1,30}){1,30})", "", "", 0, "too large" },
        { "", "(?:", "", 251, "nesting this deep" },
        { "", "(?:a|b){0,2}", "", 2000, "16384 bytes" },
        { "(?:", "a|", "b){9}", 4000, "too large" },
        { "(?:", "a|", "b)*", 4000, "" },
        { "(?:a?){60000}", "", "", 0, "too large" },
        { "a{0,65536}", "", "", 0, "number too big" },
        { "", "a?", "", 8000, "" },
        { "", "(?<=a|bb|ccc)", "x", 1200, "lookbehind" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        static test_tok t;
        ft_buf b = { 0 };
        ft_buf_puts(&b, "{\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Removed\","
                        "\"pattern\":{\"Regex\":\"");
        ft_buf_puts(&b, cases[i].open);
        for (int k = 0; k < cases[i].n; k++) ft_buf_puts(&b, cases[i].more);
        ft_buf_puts(&b, cases[i].close);
        ft_buf_puts(&b, "\"}}," MODEL "}");
        opened(&t);
        double from = cpu_ms();
        bool fine = test_load_text(&t, b.p, b.n);
        double took = cpu_ms() - from;
        ck_assert_msg(fine == !*cases[i].error && strstr(t.err.msg, cases[i].error), "case %zu: %s",
                      i, t.err.msg);
        ck_assert_msg(took < (FAST ? 50 : 2000), "case %zu took %.0f ms", i, took);
        test_close(&t);
        ft_buf_free(&b);
    }
}
END_TEST

/* ---- GGUF ------------------------------------------------------------------------------------ */
/* One key of a good file becomes something else; NULL data: it goes; n EMPTY: a list of nothing. */
enum { EMPTY = 0x7FFFFFFF };
static void gguf_refused(const char *key, ft_meta wrong, const char *error)
{
    static test_tok t;
    opened(&t);
    bool llama = !strcmp(key, "tokenizer.ggml.scores") || !strcmp(key,
        "tokenizer.ggml.unknown_token_id");
    ck_assert(test_load_gguf(&t, llama ? DATA "gguf-llama/tokenizer.gguf"
                                       : DATA "gguf-smollm/tokenizer.gguf"));
    t.vt->encoder_done(t.self, t.enc);
    t.enc = NULL;
    t.plugin->close(t.self);
    memset(t.self, 0, t.plugin->instance_size);
    ck_assert_int_eq(t.plugin->open(t.self, &t.h, NULL), 0);
    for (size_t i = 0; i < t.source.n_meta; i++) {
        if (strcmp(t.meta[i].key, key)) continue;
        if (!wrong.n) wrong.n = t.meta[i].n;
        if (wrong.n == EMPTY) wrong.n = 0;
        if (!wrong.data) wrong.data = t.meta[i].data;
        wrong.key = wrong.type ? key : "gone";
        t.meta[i] = wrong;
    }
    ck_assert_msg(t.vt->load(t.self, &t.source, &t.vocab) < 0, "%s: accepted", key);
    ck_assert_msg(strstr(t.err.msg, error), "%s: %s", key, t.err.msg);
    test_close(&t);
}

static const char text_klingon[] = "\7\0\0\0\0\0\0\0klingon",
    text_one[] = "\2\0\0\0\0\0\0\0ab",
    text_two[] = "\3\0\0\0\0\0\0\0a b\1\0\0\0\0\0\0\0a";
static const uint32_t huge = 4000000000u;
static const float not_a_number[1024] = { 0.0f / 0.0f };

START_TEST(wrong_gguf)
{
#define T "tokenizer.ggml."
    gguf_refused(T "tokens", (ft_meta){ 0 }, "absent or empty");
    gguf_refused(T "tokens", (ft_meta){ .type = FT_META_STRING }, "must be a list of texts");
    gguf_refused(T "tokens", (ft_meta){ .type = FT_META_ARRAY, .item = FT_META_U8 },
        "must be a list of texts");
    gguf_refused(T "tokens", (ft_meta){ .type = FT_META_ARRAY, .item = FT_META_STRING, .n = 2,
        .data = text_two },
                 "token_type has");
    gguf_refused(T "tokens", (ft_meta){ .type = FT_META_STRING, .item = FT_META_STRING },
        "must be a list of texts");
    gguf_refused(T "tokens", (ft_meta){ .type = FT_META_ARRAY, .item = FT_META_STRING, .n = EMPTY },
        "absent or empty");
    gguf_refused(T "token_type", (ft_meta){ .type = FT_META_ARRAY, .item = FT_META_I8 },
        "must be a list of 32 bit integers");
    gguf_refused(T "token_type", (ft_meta){ .type = FT_META_ARRAY, .item = FT_META_I32, .n = 3 },
        "has 3 items");
    gguf_refused(T "scores", (ft_meta){ .type = FT_META_ARRAY, .item = FT_META_I8 },
        "must be a list of floats");
    gguf_refused(T "scores", (ft_meta){ .type = FT_META_ARRAY, .item = FT_META_F32, .n = 1 },
        "has 1 items");
    gguf_refused(T "scores", (ft_meta){ .type = FT_META_ARRAY, .item = FT_META_F32,
        .data = not_a_number }, "is no number");
    gguf_refused(T "scores", (ft_meta){ 0 }, "there is no tokenizer.ggml.scores");
    gguf_refused(T "merges", (ft_meta){ 0 }, "there is no tokenizer.ggml.merges");
    gguf_refused(T "merges", (ft_meta){ .type = FT_META_ARRAY, .item = FT_META_U64 },
        "must be a list of texts");
    gguf_refused(T "merges", (ft_meta){ .type = FT_META_ARRAY, .item = FT_META_STRING, .n = 2,
        .data = text_two },
                 "merge 0 makes \"ab\"");
    gguf_refused(T "merges", (ft_meta){ .type = FT_META_ARRAY, .item = FT_META_STRING, .n = 1,
        .data = text_one }, "item 0 is not \"a b\"");
    gguf_refused(T "merges", (ft_meta){ .type = FT_META_ARRAY, .item = FT_META_STRING,
        .n = UINT32_MAX / 4, .data = text_two }, "1073741823 merges are too many");
    gguf_refused(T "pre", (ft_meta){ .type = FT_META_STRING, .n = 1, .data = text_klingon },
        "pre \"klingon\" is not known");
    gguf_refused(T "bos_token_id", (ft_meta){ .type = FT_META_U32, .n = 1, .data = &huge },
        "bos_token_id = 4000000000");
    gguf_refused(T "bos_token_id", (ft_meta){ .type = FT_META_F32 },
        "must be a 32 or 64 bit integer");
    gguf_refused(T "add_bos_token", (ft_meta){ .type = FT_META_U32 }, "must be a truth value");
    gguf_refused(T "unknown_token_id", (ft_meta){ .type = FT_META_U32, .n = 1, .data = &huge },
        "unknown_token_id");
    gguf_refused(T "model", (ft_meta){ .type = FT_META_STRING, .n = 1, .data = text_klingon },
        "kind \"klingon\"");
}
END_TEST

/* ---- memory ---------------------------------------------------------------------------------- */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OWN_MALLOC 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define OWN_MALLOC 0
#endif
#endif
#ifndef OWN_MALLOC
#define OWN_MALLOC 1
#endif

#if OWN_MALLOC
/* The program's own allocation functions, which the plugin and its libraries use as well: the
 * n-th call from now on fails, and all behind it where `ever` is set. */
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
static long countdown = -1, calls;
static bool ever;

static bool fails(void)
{
    calls++;
    if (countdown < 0) return false;
    if (countdown > 0) {
        countdown--;
        return false;
    }
    if (!ever) countdown = -1;
    return true;
}

void *malloc(size_t n) { return fails() ? NULL : __libc_malloc(n); }
void *calloc(size_t k, size_t n) { return fails() ? NULL : __libc_calloc(k, n); }
void *realloc(void *p, size_t n) { return fails() ? NULL : __libc_realloc(p, n); }
void *aligned_alloc(size_t a, size_t n) { return fails() ? NULL : __libc_memalign(a, n); }

/* Loads, encodes, decodes and writes JSON; the code of the first error. */
static int everything(test_tok *t)
{
    static const char s[] = "  The caf\xC3\xA9 e\xCC\x81 <|end|> 123 it's \xEA\xB0\x80 "
                            "\xEF\xBC\xA1 red fox";
    ft_text text = { .text = s, .len = sizeof s - 1 };
    ft_tokens k;
    ft_bytes d;
    int code = t->vt->load(t->self, &t->source, &t->vocab);
    if (code) return code;
    t->enc = t->vt->encoder(t->self);
    if (!t->enc) return FT_ENOMEM;
    code = t->vt->encode(t->self, t->enc, &text, FT_ENCODE_ADD_SPECIAL, &k);
    static uint32_t id[256];
    if (!code) memcpy(id, k.id, 4 * k.n);
    if (!code) code = t->vt->decode(t->self, t->enc, id, k.n, 0, &d);
    if (!code && t->source.gguf) code = t->vt->json(t->self, &d);
    return code;
}

static void anew(test_tok *t)
{
    if (t->enc) t->vt->encoder_done(t->self, t->enc);
    t->enc = NULL;
    t->plugin->close(t->self);
    memset(t->self, 0, t->plugin->instance_size);
    t->err.code = 0;
    ck_assert_int_eq(t->plugin->open(t->self, &t->h, NULL), 0);
}

START_TEST(every_allocation_may_fail)
{
    static const char *const kinds[] = { DATA "qwen2", DATA "folded", DATA "hashes",
        DATA "metaspace", DATA "gguf-llama" };
    for (int i = 0; i < 10; i++) {
        static test_tok t;
        char gguf[256];
        opened(&t);
        snprintf(gguf, sizeof gguf, "%s/tokenizer.gguf", kinds[i / 2]);
        bool fine = ft_file_exists(gguf) ? test_load_gguf(&t, gguf) : test_load_dir(&t,
            kinds[i / 2]);
        ck_assert_msg(fine, "%s", t.err.msg);
        anew(&t);
        calls = 0;
        ck_assert_int_eq(everything(&t), 0);
        long n = calls, failed = 0;
        ever = i % 2;
        for (long k = 0; k < n; k += n > 2000 ? 7 : 1) {
            anew(&t);
            countdown = k;
            int code = everything(&t);
            countdown = -1;
            failed += code != 0;
            /* PCRE2 does without JIT, and a mark of ours may be an error of the reader's. */
            ck_assert_msg(!code || t.err.code < 0 || !t.enc, "%s, allocation %ld: %d",
                kinds[i / 2], k, code);
        }
        ck_assert_int_gt(failed, n / 20);
        printf("%s: %ld allocations, %ld of the failures reported\n", kinds[i / 2], n, failed);
        test_close(&t);
    }
}
END_TEST
#endif

static Suite *suite(void)
{
    Suite *s = suite_create("tokenizer-bpe, hostile");
    TCase *c = tcase_create("all");
    tcase_set_timeout(c, 300);
    tcase_add_test(c, wrong_files);
    tcase_add_test(c, wrong_expressions);
    tcase_add_test(c, too_much);
    tcase_add_test(c, wrong_texts);
    tcase_add_test(c, nothing_to_load);
    tcase_add_test(c, unknown_character);
    tcase_add_test(c, expressions_give_up);
    tcase_add_test(c, expressions_that_are_large);
    tcase_add_test(c, wrong_gguf);
#if OWN_MALLOC
    tcase_add_test(c, every_allocation_may_fail);
#else
    printf("not run: every_allocation_may_fail (a sanitizer has the allocation functions)\n");
#endif
    suite_add_tcase(s, c);
    return s;
}
