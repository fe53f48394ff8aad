/* tokenizer-bpe_test.c -- the plugin against vectors: those of tests/data/tok, made by HF
 * tokenizers and SentencePiece (make.py there), and the shared goldens where they are present.
 * Then what vectors cannot show: where special tokens may come from, that the hand-written
 * expressions are the expressions, GGUF and its export, threads. */
#include <pthread.h>
#define PLUGIN "tokenizer-bpe"
#include "plugins/tokenizer-common/test_golden.h"

START_TEST(own_vectors)
{
    ck_assert_int_ge(check_folders(DATA), 34);
}
END_TEST

START_TEST(shared_goldens)
{
    check_shared(10);
}
END_TEST

/* A tiny GGUF file of the goldens: the ids that HF gives (llama.cpp's are the same).  One row is
 * left out: the file has <|im_start|> under another name, and llama.cpp ran without specials. */
START_TEST(shared_gguf)
{
    static test_tok t;
    char path[4096];
    ft_buf b = { 0 };
    const char *g = test_goldens();
    if (!g) {
        printf("not run: shared_gguf (../shared/goldens is not here)\n");
        return;
    }
    opened(&t);
    snprintf(path, sizeof path, "%s/gguf/tiny_f16.gguf", g);
    ck_assert_msg(test_load_gguf(&t, path), "%s", t.err.msg);
    snprintf(path, sizeof path, "%s/gguf/tokens.jsonl", g);
    ck_assert_int_eq(ft_file_read(&b, path, 1 << 20, NULL), 0);
    for (char *line = b.p, *end; line < b.p + b.n; line = end + 1) {
        end = strchr(line, '\n');
        ft_json_doc *doc = ft_json_parse(path, line, (size_t)(end - line), &t.err);
        const ft_json *row = ft_json_root(doc);
        ft_tokens k = encode(&t, ft_json_str(row, "text", ""), 0);
        ck_assert_msg(strstr(line, "<|im_start|>") || same_list(ft_json_get(row, "hf_ids"), k.id,
            NULL, k.n), "%.*s",
                      (int)(end - line), line);
        ft_json_done(doc);
    }
    ck_assert(t.vocab.add_bos && !t.vocab.add_eos && t.vocab.bos == 0);
    ft_buf_free(&b);
    test_close(&t);
}
END_TEST

/* ---- description ----------------------------------------------------------------------------- */
START_TEST(describes_itself)
{
    test_tok *t = load_dir(DATA "llama3");
    size_t n;
    int64_t end = t->vt->find(t->self, "<|end|>", 7);
    ck_assert_str_eq(t->plugin->role, "ft.tokenizer/1");
    ck_assert_int_ge(end, 0);
    ck_assert(t->vt->special(t->self, (uint32_t)end));
    ck_assert_str_eq(t->vt->token(t->self, (uint32_t)end, &n), "<|end|>");
    ck_assert_uint_eq(n, 7);
    ck_assert(!t->vt->special(t->self, (uint32_t)t->vt->find(t->self, "red fox", 7)));
    ck_assert_int_eq(t->vt->find(t->self, "nowhere to be found", 19), -1);
    ck_assert_ptr_null(t->vt->token(t->self, t->vocab.vocab_size, &n));
    ck_assert_uint_eq(t->vocab.vocab_size, 431);
    ck_assert_int_eq(t->vocab.bos, t->vt->find(t->self, "<|bos|>", 7));
    ck_assert(t->vocab.add_bos && !t->vocab.add_eos);
    ck_assert_int_eq(t->vocab.eos, -1);
    ft_bytes j;
    ck_assert_int_eq(t->vt->json(t->self, &j), FT_EUNSUP); /* it came from a tokenizer.json */
    test_close(t);
}
END_TEST

START_TEST(claims_bpe_alone)
{
    static test_tok t;
    static const struct { const char *json; bool ours; } cases[] = {
        { "{\"model\":{\"type\":\"BPE\"}}", true }, { "{\"model\":{\"type\":\"Unigram\"}}", false },
        { "{\"model\":{\"type\":\"WordPiece\"}}", false }, { "{\"model\":{\"merges\":[]}}", true },
        { "{\"model\":{\"vocab\":{}}}", false }, { "{}", false }, { "[]", false },
    };
    opened(&t);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ft_json_doc *d = ft_json_parse("x", cases[i].json, strlen(cases[i].json), &t.err);
        t.source.tokenizer = ft_json_root(d);
        ck_assert_msg(t.vt->claims(&t.source) == cases[i].ours, "%s", cases[i].json);
        ft_json_done(d);
    }
    t.source.tokenizer = NULL;
    ck_assert(!t.vt->claims(&t.source));
    ck_assert_int_lt(t.vt->load(t.self, &t.source, &t.vocab), 0);
    test_close(&t);
}
END_TEST

/* Bytes that are no text: each maximal part of a character becomes one U+FFFD. */
START_TEST(decodes_any_bytes)
{
    static const struct { const char *bytes, *text; } cases[] = {
        { "a\xC3", "a\uFFFD" }, { "\xC3\xA9", "\u00E9" }, { "\xE2\x82" "A", "\uFFFDA" },
        { "\xE0\x80\xAF", "\uFFFD\uFFFD\uFFFD" }, { "\xE0\xA0", "\uFFFD" }, { "\x80x", "\uFFFDx" },
        { "\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD" }, { "\xF0\x90\x8D", "\uFFFD" },
        { "\xF0\x8F\xBF", "\uFFFD\uFFFD\uFFFD" }, { "\xF4\x8F\xBF\xBF", "\U0010FFFF" },
        { "\xF4\x90\x80", "\uFFFD\uFFFD\uFFFD" }, { "\xC0\xAF", "\uFFFD\uFFFD" },
        { "\xF5z\xFF", "\uFFFDz\uFFFD" },
    };
    test_tok *t = load_dir(DATA "gpt2");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t id[8], n = 0;
        ft_bytes d;
        for (const char *p = cases[i].bytes; *p; p++) { /* bytes spelled as GPT-2 does */
            char u[4];
            unsigned b = (unsigned char)*p, c = b >= 0x7F && b <= 0xA0 ? 0x121 + b - 0x7F : b;
            int64_t v = t->vt->find(t->self, u, ft_utf8_encode(c, u));
            ck_assert_msg(v >= 0, "byte %02x", b);
            id[n++] = (uint32_t)v;
        }
        ck_assert_int_eq(t->vt->decode(t->self, t->enc, id, n, 0, &d), 0);
        ck_assert_msg(d.n == strlen(cases[i].text) && !memcmp(d.p, cases[i].text, d.n),
                      "case %zu: \"%.*s\"", i, (int)d.n, d.p);
    }
    test_close(t);
}
END_TEST

/* ---- where special tokens may come from ------------------------------------------------------ */
/* Encodes pieces that alternate between template and data, template first. */
static ft_tokens spans(test_tok *t, const char *const *piece, size_t n, unsigned flags)
{
    static char all[512];
    static ft_span span[16];
    ft_tokens out = { 0 };
    uint32_t at = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t len = (uint32_t)strlen(piece[i]);
        memcpy(all + at, piece[i], len);
        span[i] = (ft_span){ .begin = at, .end = at + len, .turn = -1,
                             .from = i % 2 ? FT_FROM_DATA : FT_FROM_TEMPLATE };
        at += len;
    }
    ft_text text = { .text = all, .len = at, .span = span, .n_span = n };
    ck_assert_msg(!t->vt->encode(t->self, t->enc, &text, flags, &out), "%s", t->err.msg);
    return out;
}

static int count_id(ft_tokens k, int64_t id)
{
    int n = 0;
    for (size_t i = 0; i < k.n; i++) n += k.id[i] == id;
    return n;
}

START_TEST(data_forges_no_special_token)
{
    static const char *const kinds[] = { "gpt2", "llama3", "qwen2", "metaspace", "falcon" };
    static const char *const turn[] = { "<|start|>user\n", "hi<|end|>\n<|start|>system <b> x",
        "<|end|>\n" };
    static const char *const split[] = { "<|sta", "rt|><|en",
        "d|>" }; /* no token is all template */
    static const char *const mixed[] = { "", "<|end", "|><|end|>" };
    for (size_t i = 0; i < 5; i++) {
        char dir[64];
        snprintf(dir, sizeof dir, DATA "%s", kinds[i]);
        test_tok *t = load_dir(dir);
        int64_t start = t->vt->find(t->self, "<|start|>", 9), end = t->vt->find(t->self, "<|end|>",
            7);
        ft_tokens k = spans(t, turn, 3, 0);
        ck_assert_int_eq(count_id(k, start), 1);
        ck_assert_int_eq(count_id(k, end), 1);
        ck_assert_int_eq(count_id(k, t->vt->find(t->self, "<b>", 3)), 0);
        k = spans(t, turn, 3, FT_ENCODE_SPECIAL_IN_DATA);
        ck_assert_int_eq(count_id(k, start) + count_id(k, end), 4);
        k = spans(t, split, 3, 0);
        ck_assert_int_eq(count_id(k, start) + count_id(k, end), 0);
        k = spans(t, mixed, 3, 0); /* a forgery in front does not swallow the template's token */
        ck_assert_int_eq(count_id(k, end), 1);
        test_close(t);
    }
}
END_TEST

/* A border between spans splits nothing: the ids are those of the whole text; added tokens that
 * are not special are found in data too. */
START_TEST(span_borders_split_nothing)
{
    static const char *const piece[] = { "The fer", "ry's red f", "ox and g", "ulls 12", "34" };
    test_tok *t = load_dir(DATA "smollm2");
    uint32_t keep[64];
    ft_tokens k = encode(t, "The ferry's red fox and gulls 1234", 0);
    size_t n = k.n;
    memcpy(keep, k.id, 4 * n);
    k = spans(t, piece, 5, 0);
    ck_assert_uint_eq(k.n, n);
    ck_assert_mem_eq(k.id, keep, 4 * n);
    ck_assert_int_eq(count_id(k, t->vt->find(t->self, "red fox", 7)), 1);
    test_close(t);
}
END_TEST

/* A vocabulary whose merges, or whole words, spell out a special token. */
START_TEST(merges_forge_no_special_token)
{
    static const char *const json[] = {
        "{\"added_tokens\":[{\"id\":3,\"content\":\"ab\",\"special\":true}],\"model\":{\"type\":"
          "\"BPE\","
        "\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"ab\":3,\"abc\":4},\"merges\":[\"a b\",\"ab c\"]}}",
        "{\"added_tokens\":[{\"id\":3,\"content\":\"ab\",\"special\":true}],\"model\":{\"type\":"
          "\"BPE\","
        "\"ignore_merges\":true,\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"ab\":3},\"merges\":[]}}" };
    static const char *const data[] = { "", "ab" }, *const template[] = { "ab" };
    for (int i = 0; i < 2; i++) {
        static test_tok t;
        opened(&t);
        ck_assert_msg(test_load_text(&t, json[i], strlen(json[i])), "%s", t.err.msg);
        for (int again = 0; again < 2; again++) { /* with the cache cold and warm */
            ck_assert_int_eq(count_id(spans(&t, template, 1, 0), 3), 1);
            ft_tokens k = spans(&t, data, 2, 0);
            ck_assert(k.n == 2 && k.id[0] == 0 && k.id[1] == 1);
            ck_assert_int_eq(count_id(spans(&t, data, 2, FT_ENCODE_SPECIAL_IN_DATA), 3), 1);
        }
        test_close(&t);
    }
}
END_TEST

/* ---- hand-written expressions ---------------------------------------------------------------- */
static uint64_t random_state = 88172645463325252u;
static uint32_t below(uint32_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 33) % n;
}

/* True for characters that came with Unicode 15,
    which utf8proc 2.8 knows and PCRE2 10.42 does not. */
static bool too_new(uint32_t c)
{
    static const struct { uint32_t from, to; } newer[] = {
        { 0xCF3, 0xCF3 }, { 0xECE, 0xECE }, { 0x10EFD, 0x10EFF }, { 0x1123F, 0x11241 }, { 0x11B00,
          0x11B09 },
        { 0x11F00, 0x11F59 }, { 0x1342F, 0x1342F }, { 0x13439, 0x13455 }, { 0x1B132, 0x1B132 },
          { 0x1B155, 0x1B155 },
        { 0x1D2C0, 0x1D2D3 }, { 0x1DF25, 0x1DF2A }, { 0x1E030, 0x1E06D }, { 0x1E08F, 0x1E08F },
          { 0x1E4D0, 0x1E4F9 },
        { 0x1F6DC, 0x1F6DC }, { 0x1F774, 0x1F776 }, { 0x1F77B, 0x1F77F }, { 0x1F7D9, 0x1F7D9 },
          { 0x1FA75, 0x1FA77 },
        { 0x1FA87, 0x1FA88 }, { 0x1FAAD, 0x1FAAF }, { 0x1FABB, 0x1FABF }, { 0x1FACE, 0x1FACF },
          { 0x1FADA, 0x1FADB },
        { 0x1FAE8, 0x1FAE8 }, { 0x1FAF7, 0x1FAF8 }, { 0x31350, 0x323AF } };
    for (size_t i = 0; i < sizeof newer / sizeof *newer; i++) {
        if (c >= newer[i].from && c <= newer[i].to) return true;
    }
    return false;
}

/* A random text of what the expressions tell apart: letters of all cases, marks, digits, blanks,
 * line ends, apostrophes, punctuation, other scripts, and any code point. */
static void random_text(ft_buf *b)
{
    static const char *const part[] = {
        "a", "b", "Z", "Q", "'", "'s", "'S", "'T", "'re", "'Ve", "'lL", "'d", "'\xC5\xBF", " ",
        " ", "  ",
        "\n", "\r", "\r\n", "\t", "\xC2\xA0", "\xE3\x80\x80", "\xE1\xA0\x8E", "\xE2\x80\xA8",
        "\xC2\x85", "1", "23", "4567",
        "\xD9\xA3", "\xC2\xBD", "\xE2\x85\xA7", "\xE1\x9B\xAE", ".", ",", "!", "/", "//", "_", "$",
        "-", "\xE2\x80\x94",
        "\xE2\x82\xAC", "\xCC\x81", "\xCC\xA3", "\xE0\xA5\x8D", "\xE2\x83\x9D", "\xC7\x85",
        "\xCA\xB0", "\xC3\x9F", "\xC4\xB0",
        "\xEA\xB0\x80", "\xE4\xB8\x80", "\xE9\xBE\xA5", "\xE9\xBE\xA6", "\xE3\x81\x82",
        "\xE3\x82\xA0", "\xE3\x84\x80", "\xD0\x96",
        "\xD0\xB6", "\xF0\x9F\x98\x80", "\xF0\x9D\x94\xB8", "\xF0\x9D\x9F\x98", "\xE2\x80\x8D",
        "\xEF\xBF\xBD", "\x01", "\x7F" };
    b->n = 0;
    for (uint32_t n = below(24); n; n--) {
        if (below(6)) {
            ft_buf_puts(b, part[below(sizeof part / sizeof *part)]);
        } else {
            char u[4];
            uint32_t c = below(2) ? below(0x3000) : below(0x110000);
            if (!(c >= 0xD800 && c <= 0xDFFF) && !too_new(c)) ft_buf_add(b, u, ft_utf8_encode(c,
                u));
        }
    }
}

/* A tokenizer that cuts by `expression` and whose tokens are the bytes of a text, others for the
 * last byte of a word: its ids show where words end. */
static void load_borders(test_tok *t, const char *expression)
{
    ft_buf b = { 0 };
    ft_buf_puts(&b, "{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":"
      "\"Split\","
                    "\"pattern\":{\"Regex\":");
    ft_json_quote(&b, expression, strlen(expression));
    ft_buf_puts(&b, "},\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\","
      "\"add_prefix_space\":"
                    "false,\"use_regex\":false}]},\"model\":{\"type\":\"BPE\","
                      "\"end_of_word_suffix\":\"|\",\"vocab\":{");
    for (uint32_t i = 0, c = 33; i < 512; c++) { /* a superset of the 256 byte characters */
        char u[8];
        size_t k = ft_utf8_encode(c, u);
        if (c == 0x7F) continue;
        if (c > 0x143) break;
        for (int end = 0; end < 2; end++) {
            u[k] = '|';
            ft_buf_puts(&b, i ? "," : "");
            ft_json_quote(&b, u, k + (size_t)end);
            ft_buf_printf(&b, ":%u", i++);
        }
    }
    ft_buf_puts(&b, "},\"merges\":[]}}");
    opened(t);
    ck_assert_msg(test_load_text(t, b.p, b.n), "%s", t->err.msg);
    ft_buf_free(&b);
}

#define CON "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define BLANKS "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define FRONT "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define REST "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define LEAD "[^\\r\\n\\p{L}\\p{N}]?"
#define OTHERS "| ?[^\\s\\p{L}\\p{N}]+"
#define DEEPSEEK "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+" \
                 "|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*" \
                 "|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"
#define CJK "[\xE4\xB8\x80-\xE9\xBE\xA5\xE3\x81\x80-\xE3\x82\x9F\xE3\x82\xA0-\xE3\x83\xBF]+"
static const char *const expressions[] = {
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
    CON "|" LEAD "\\p{L}+|\\p{N}{1,3}" OTHERS "[\\r\\n]*" BLANKS,
    CON "|" LEAD "\\p{L}+|\\p{N}" OTHERS "[\\r\\n]*" BLANKS,
    LEAD FRONT "*" REST "+" CON "?|" LEAD FRONT "+" REST "*" CON "?|\\p{N}{1,3}"
    OTHERS "[\\r\\n/]*" BLANKS,
    LEAD FRONT "*" REST "+|" LEAD FRONT "+" REST "*|\\p{N}" OTHERS "[\\r\\n/]*" BLANKS,
    DEEPSEEK,
    "\\p{N}{1,3}", "\\p{N}", CJK,
};

/* In a group the text of an expression is unknown, so that PCRE2 runs it. */
START_TEST(known_expressions_by_hand_and_by_pcre2)
{
    static test_tok fast, slow;
    char grouped[1024];
    ft_buf b = { 0 };
    snprintf(grouped, sizeof grouped, "(?:%s)", expressions[_i]);
    load_borders(&fast, expressions[_i]);
    load_borders(&slow, grouped);
    for (int i = 0; i < 20000; i++) {
        random_text(&b);
        ft_text text = { .text = b.p ? b.p : "", .len = b.n };
        ft_tokens x = { 0 }, y = { 0 };
        ck_assert_msg(!fast.vt->encode(fast.self, fast.enc, &text, 0, &x), "%s", fast.err.msg);
        ck_assert_msg(!slow.vt->encode(slow.self, slow.enc, &text, 0, &y), "%s", slow.err.msg);
        ck_assert_msg(x.n == y.n && !memcmp(x.id, y.id, 4 * x.n), "expression %d, text \"%s\"", _i,
            b.p);
    }
    ft_buf_free(&b);
    test_close(&fast);
    test_close(&slow);
}
END_TEST

/* ---- GGUF ------------------------------------------------------------------------------------ */
START_TEST(gguf_writes_a_tokenizer_json)
{
    static const char *const kinds[] = { DATA "gguf-smollm", DATA "gguf-llama" };
    for (int i = 0; i < 2; i++) {
        static test_tok again;
        test_tok *t = load_dir(kinds[i]);
        ft_bytes j;
        ck_assert_int_eq(t->vt->json(t->self, &j), 0);
        opened(&again);
        ck_assert_msg(test_load_text(&again, j.p, j.n), "%s", again.err.msg);
        ck_assert_int_eq(check_golden(&again, kinds[i]), check_golden(t, kinds[i]));
        ck_assert_uint_eq(again.vocab.vocab_size, t->vocab.vocab_size);
        ck_assert(again.vocab.add_bos == t->vocab.add_bos);
        ck_assert(again.vocab.add_eos == t->vocab.add_eos);
        test_close(&again);
        test_close(t);
    }
}
END_TEST

/* ---- threads, long words --------------------------------------------------------------------- */
static void *encode_often(void *arg)
{
    test_tok *t = arg;
    void *enc = t->vt->encoder(t->self);
    size_t n = 0;
    for (int i = 0; i < 300; i++) {
        ft_tokens k = { 0 };
        char s[64];
        snprintf(s, sizeof s, "The little ferry %d crosses caf\xC3\xA9 e\xCC\x81 <|end|>", i % 7);
        ft_text text = { .text = s, .len = strlen(s) };
        if (t->vt->encode(t->self, enc, &text, 0, &k)) break;
        n += k.n;
    }
    t->vt->encoder_done(t->self, enc);
    return (void *)n;
}

START_TEST(encoders_run_side_by_side)
{
    static const char *const kinds[] = { DATA "qwen2", DATA "cl100k" };
    for (int i = 0; i < 2; i++) {
        test_tok *t = load_dir(kinds[i]);
        pthread_t id[4];
        void *n[4];
        for (int k = 0; k < 4; k++) ck_assert_int_eq(pthread_create(&id[k], NULL, encode_often, t),
            0);
        for (int k = 0; k < 4; k++) pthread_join(id[k], &n[k]);
        for (int k = 0; k < 4; k++) ck_assert(n[k] == n[0] && n[0] != NULL);
        test_close(t);
    }
}
END_TEST

/* Words without an end are n log n: 200,000 bytes take no time that anyone would notice. */
START_TEST(long_words)
{
    static const char *const kinds[] = { DATA "gpt2", DATA "llama2", DATA "gemma", DATA "cl100k" };
    const size_t n = 200000;
    char *s = malloc(n + 1);
    for (int i = 0; i < 4; i++) {
        test_tok *t = load_dir(kinds[i]);
        for (size_t k = 0; k < n; k++) s[k] = i % 2 ? "the"[k % 3] : (char)('a' + below(26));
        s[n] = 0;
        uint32_t *keep = malloc(4 * n);
        ft_tokens k = encode(t, s, 0);
        ft_bytes d;
        memcpy(keep, k.id, 4 * k.n);
        ck_assert_uint_lt(k.n, n);
        ck_assert_uint_eq(k.end[k.n - 1], n);
        ck_assert_int_eq(t->vt->decode(t->self, t->enc, keep, k.n, 0, &d), 0);
        ck_assert(d.n == n && !memcmp(d.p, s, n));
        free(keep);
        test_close(t);
    }
    free(s);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("tokenizer-bpe");
    TCase *c = tcase_create("all");
    tcase_set_timeout(c, 120);
    tcase_add_test(c, own_vectors);
    tcase_add_test(c, shared_goldens);
    tcase_add_test(c, shared_gguf);
    tcase_add_test(c, describes_itself);
    tcase_add_test(c, claims_bpe_alone);
    tcase_add_test(c, decodes_any_bytes);
    tcase_add_test(c, data_forges_no_special_token);
    tcase_add_test(c, span_borders_split_nothing);
    tcase_add_test(c, merges_forge_no_special_token);
    tcase_add_loop_test(c, known_expressions_by_hand_and_by_pcre2, 0,
                        (int)(sizeof expressions / sizeof *expressions));
    tcase_add_test(c, gguf_writes_a_tokenizer_json);
    tcase_add_test(c, encoders_run_side_by_side);
    tcase_add_test(c, long_words);
    suite_add_tcase(s, c);
    return s;
}
