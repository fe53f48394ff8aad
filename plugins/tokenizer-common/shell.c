/* shell.c -- what a vocabulary of pieces only implies, written as the parts of a tokenizer.json.
 *
 * `tokenizer.ggml.pre` stands for the expressions that cut text into words; the names and their
 * expressions are llama.cpp's, except that o200k, Tekken and GPT-2 are written in the original form
 * which their models were trained with (llama.cpp approximates the first two).  A name that is not
 * in the table is refused: another expression would give other tokens. */
#include "load.h"

static const tok_recipe recipes[] = {
    { " gpt-2 phi-2 mpt olmo jais jina-es jina-de jina-v2-es jina-v2-de gigachat mellum trillion ",
      { TOK_RE_GPT2 }, 0, 0, 0 },
    { " llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano ",
      { TOK_RE_LLAMA3 }, 1, 1, 0 },
    { " dbrx smaug-bpe ", { TOK_RE_LLAMA3 }, 0, 0, 0 },
    { " qwen2 deepseek-r1-qwen megrez kormo f2llmv2 ", { TOK_RE_QWEN2 }, 0, 0, 1 },
    { " smollm starcoder refact command-r codeshell exaone minerva-7b ",
      { "\\p{N}", TOK_RE_GPT2 }, 0, 0, 0 },
    { " gpt-4o llama4 kanana2 ", { TOK_RE_O200K }, 0, 0, 0 },
    { " tekken ", { TOK_RE_TEKKEN }, 1, 1, 0 },
    { " deepseek-v3 ", { "\\p{N}{1,3}", TOK_RE_CJK, TOK_RE_DEEPSEEK }, 0, 0, 0 },
    { " deepseek-coder ", { "[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+",
      "[\xE4\xB8\x80-\xE9\xBE\xA5\xE0\xA0\x80-\xE4\xB8\x80\xEA\xB0\x80-\xED\x9F\xBF]+", "\\p{N}" },
      0, 0, 0 },
    { " falcon ", { "[\\p{P}\\$\\+<=>\\^~\\|`]+", TOK_RE_GPT2, "[0-9][0-9][0-9]" }, 0, 0, 0 },
    { " default ", { "[\\p{P}\\$\\+<=>\\^~\\|]+", TOK_RE_GPT2, "\\p{N}+", "[0-9][0-9][0-9]" },
      0, 0, 0 },
};

/* The recipe for the file's `pre`; NULL after fail(). */
const tok_recipe *tok_find_recipe(tok *t, const ft_source *s)
{
    const ft_meta *m = ft_source_meta(s, "tokenizer.ggml.pre");
    const size_t n = sizeof recipes / sizeof *recipes;
    char name[64] = " default ";
    const char *p = "";
    uint64_t len = 0;
    if (!m) t->h->log(t->h, FT_WARN, "GGUF: tokenizer.ggml.pre is absent; \"default\" is taken, "
                      "which may not be how this model cuts words");
    if (m && m->type == FT_META_STRING) {
        const void *at = m->data;
        ft_meta_next_str(&at, &p, &len);
        snprintf(name, sizeof name, " %.*s ", (int)(len < 60 ? len : 60), p);
    }
    for (size_t i = 0; i < n; i++) {
        if (strlen(name) > 2 && !strchr(name + 1, ' ')[1] && strstr(recipes[i].pre, name))
            return &recipes[i];
    }
    ft_buf known = { 0 };
    for (size_t i = 0; i < n; i++) ft_buf_puts(&known, recipes[i].pre + 1);
    t->h->fail(t->h, FT_EUNSUP, "GGUF: tokenizer.ggml.pre \"%.*s\" is not known; known are: %s",
               (int)(len < 60 ? len : 60), p, known.p ? known.p : "");
    ft_buf_free(&known);
    return NULL;
}

const tok_recipe *tok_match_recipe(const char *const *cut, int n, bool whole, bool nfc)
{
    for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++) {
        const tok_recipe *r = &recipes[i];
        int same = 0;
        while (same < n && r->cut[same] && !strcmp(r->cut[same], cut[same])) same++;
        bool all = same == n && (n == 5 || !r->cut[n]);
        if (all && r->whole == whole && r->nfc == nfc) return r;
    }
    return NULL;
}

static void put_template(const tok *t, ft_buf *b, int64_t bos, int64_t eos)
{
    const int64_t id[2] = { bos, eos };
    ft_buf_puts(b, "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[");
    for (int i = 0; i < 3; i++) {
        if (i == 1) {
            ft_buf_puts(b, "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}");
        } else if (id[i / 2] >= 0) {
            if (i) ft_buf_putc(b, ',');
            ft_buf_printf(b, "{\"SpecialToken\":{\"id\":\"%d\",\"type_id\":0}}%s", i / 2,
                          i ? "" : ",");
        }
    }
    ft_buf_puts(b, "],\"pair\":[{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},"
                   "{\"Sequence\":{\"id\":\"B\",\"type_id\":1}}],\"special_tokens\":{");
    for (int i = 0, first = 1; i < 2; i++) {
        if (id[i] < 0) continue;
        tok_str s = t->v.str[id[i]];
        ft_buf_printf(b, "%s\"%d\":{\"id\":\"%d\",\"ids\":[%lld],\"tokens\":[",
                      first ? "" : ",", i, i, (long long)id[i]);
        ft_json_quote(b, t->v.text.p + s.at, s.len);
        ft_buf_puts(b, "]}");
        first = 0;
    }
    ft_buf_puts(b, "}},");
}

/* Everything but the vocabulary for a byte-level model, as members of a tokenizer.json. */
static void byte_level_shell(ft_buf *b, const tok_recipe *r)
{
    ft_buf_printf(b, "\"normalizer\":%s,\"pre_tokenizer\":{\"type\":\"Sequence\","
                  "\"pretokenizers\":[", r->nfc ? "{\"type\":\"NFC\"}" : "null");
    for (int i = 0; i < 5 && r->cut[i]; i++) {
        ft_buf_puts(b, "{\"type\":\"Split\",\"pattern\":{\"Regex\":");
        ft_json_quote(b, r->cut[i], strlen(r->cut[i]));
        ft_buf_puts(b, "},\"behavior\":\"Isolated\",\"invert\":false},");
    }
    ft_buf_puts(b, "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,"
                   "\"use_regex\":false}]},\"decoder\":{\"type\":\"ByteLevel\","
                   "\"add_prefix_space\":true,\"trim_offsets\":true,\"use_regex\":true},");
}

/* Blanks at both ends go, and of several together all but the first; SentencePiece takes its own
 * blank for one at the end. */
#define SQUEEZE "\\A +|[ \xE2\x96\x81]+\\z|(?<= ) +"

/* The same for SentencePiece: a blank before every stretch of text, or before the whole. */
static void sentence_shell(ft_buf *b, const tok_pieces *p)
{
    ft_buf_puts(b, "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[");
    if (p->charsmap) {
        ft_buf_puts(b, "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"");
        tok_put_base64(b, p->charsmap, p->n_charsmap);
        ft_buf_puts(b, "\"},");
    }
    if (p->squeeze) {
        ft_buf_puts(b, "{\"type\":\"Replace\",\"pattern\":{\"Regex\":");
        ft_json_quote(b, SQUEEZE, strlen(SQUEEZE));
        ft_buf_puts(b, "},\"content\":\"\"},");
    }
    if (p->prefix && p->every)
        ft_buf_puts(b, "{\"type\":\"Prepend\",\"prepend\":\"\xE2\x96\x81\"},");
    ft_buf_puts(b, "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},"
                   "\"content\":\"\xE2\x96\x81\"}]},\"pre_tokenizer\":");
    if (p->prefix && !p->every)
        ft_buf_puts(b, "{\"type\":\"Metaspace\",\"replacement\":\"\xE2\x96\x81\","
                       "\"prepend_scheme\":\"first\",\"split\":false}");
    else
        ft_buf_puts(b, "null");
    ft_buf_puts(b, ",\"decoder\":{\"type\":\"Sequence\",\"decoders\":["
                   "{\"type\":\"Replace\",\"pattern\":{\"String\":\"\xE2\x96\x81\"},"
                   "\"content\":\" \"},"
                   "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}");
    if (p->prefix || p->squeeze) /* without doubled blanks all that lead the text are marks */
        ft_buf_printf(b, ",{\"type\":\"Strip\",\"content\":\" \",\"start\":%d,\"stop\":0}",
                      p->squeeze ? 1000 : 1);
    ft_buf_puts(b, "]},");
}

/* BERT's, in lower case without accents: a GGUF does not say whether its model is cased. */
static void bert_shell(ft_buf *b)
{
    ft_buf_puts(b, "\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,"
                   "\"handle_chinese_chars\":true,\"strip_accents\":null,\"lowercase\":true},"
                   "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"
                   "\"decoder\":{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":true},");
}

void tok_put_shell(const tok *t, ft_buf *b, const tok_pieces *p, const ft_vocab *v)
{
    if (p->style == TOK_BYTE_LEVEL) byte_level_shell(b, p->recipe);
    else if (p->style == TOK_SENTENCE) sentence_shell(b, p);
    else bert_shell(b);
    put_template(t, b, v->add_bos ? v->bos : -1, v->add_eos ? v->eos : -1);
}
