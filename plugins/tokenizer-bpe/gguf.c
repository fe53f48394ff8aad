/* gguf.c -- a tokenizer from the metadata of a GGUF file.
 *
 * A GGUF has the tokens and either merges (model "gpt2", byte-level BPE) or scores (model "llama",
 * SentencePiece BPE), and names the rest, which gguf_shell.c writes as the parts of a
 * tokenizer.json: so both kinds of file run on the same code, and export.c can write the whole.
 * Merges that follow from scores: every way to cut a token into two others, best score first, then
 * the longer left half (as transformers' generate_merges); Gemma's scores are not in its merge
 * order, its tokens are.  A value of another type or count than it must have is an error. */
#include "tok.h"

enum { NORMAL = 1, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE }; /* tokenizer.ggml.token_type */
enum { MAX_PIECE = 256 }; /* bytes of a token that merges are looked for in */

/* ---- typed metadata ------------------------------------------------------------------------- */
static int wrong_type(tok *t, const char *key, const char *want)
{
    return t->h->fail(t->h, FT_EFORMAT, "GGUF: %s must be %s", key, want);
}

/* An id below n; -1 when the key is absent. */
static int get_id(tok *t, const ft_source *s, const char *key, uint64_t n, int64_t *out)
{
    const ft_meta *m = ft_source_meta(s, key);
    uint64_t v = 0;
    *out = -1;
    if (!m) return 0;
    size_t size = m->type == FT_META_U64 || m->type == FT_META_I64 ? 8
                : m->type == FT_META_U32 || m->type == FT_META_I32 ? 4 : 0;
    if (!size) return wrong_type(t, key, "a 32 or 64 bit integer");
    memcpy(&v, m->data, size);
    if (v >= n)
        return t->h->fail(t->h, FT_EFORMAT, "GGUF: %s = %llu, but there are %llu tokens", key,
                          (unsigned long long)v, (unsigned long long)n);
    *out = (int64_t)v;
    return 0;
}

static int get_flag(tok *t, const ft_source *s, const char *key, bool other, bool *out)
{
    const ft_meta *m = ft_source_meta(s, key);
    *out = other;
    if (!m) return 0;
    if (m->type != FT_META_BOOL) return wrong_type(t, key, "a truth value");
    *out = *(const uint8_t *)m->data != 0;
    return 0;
}

/* Compares the text value of a key; false when it is absent or no text. */
static bool text_is(const ft_source *s, const char *key, const char *want)
{
    const ft_meta *m = ft_source_meta(s, key);
    const void *at = m ? m->data : NULL;
    const char *p;
    uint64_t n;
    if (!m || m->type != FT_META_STRING) return false;
    ft_meta_next_str(&at, &p, &n);
    return n == strlen(want) && !memcmp(p, want, n);
}

/* An array of `n` items (0: any number), or NULL: absent or, with *code set, wrong. */
static const ft_meta *get_array(tok *t, const ft_source *s, const char *key, ft_meta_type item,
                                uint64_t n, int *code)
{
    const ft_meta *m = ft_source_meta(s, key);
    if (!m || *code) return NULL;
    bool integers = item == FT_META_I32 && m->item == FT_META_U32;
    if (m->type != FT_META_ARRAY || (m->item != item && !integers)) {
        *code = wrong_type(t, key, item == FT_META_STRING ? "a list of texts"
                           : item == FT_META_F32 ? "a list of floats"
                           : "a list of 32 bit integers");
        return NULL;
    }
    if (n && m->n != n) {
        *code = t->h->fail(t->h, FT_EFORMAT, "GGUF: %s has %llu items, but there are %llu tokens",
                           key, (unsigned long long)m->n, (unsigned long long)n);
        return NULL;
    }
    return m;
}

/* ---- tokens --------------------------------------------------------------------------------- */
/* A token as the vocabulary has it: Gemma's runs of blanks are written in its own blank. */
static void spelling(ft_buf *b, const char *s, uint64_t n, uint64_t id, bool pieces)
{
    bool blanks = pieces && n > 1;
    for (uint64_t i = 0; blanks && i < n; i++) blanks = s[i] == ' ';
    b->n = 0;
    if (!n) ft_buf_printf(b, "[EMPTY_%llu]", (unsigned long long)id); /* llama.cpp's name for it */
    for (uint64_t i = 0; blanks && i < n; i++) ft_buf_puts(b, "\xE2\x96\x81");
    if (!blanks) ft_buf_add(b, s, n);
}

static int32_t type_of(const ft_meta *types, uint64_t i)
{
    int32_t v = NORMAL;
    if (types) memcpy(&v, (const char *)types->data + 4 * i, 4);
    return v;
}

static int read_tokens(tok *t, const ft_meta *tokens, const ft_meta *types, bool pieces)
{
    const void *at = tokens->data;
    ft_buf b = { 0 };
    size_t bad;
    int code = tok_vocab_begin(&t->v, t->h, tokens->n, tokens->n);
    if (!code && tokens->n && !(t->added = calloc(tokens->n, sizeof *t->added)))
        code = tok_no_memory(t->h);
    for (uint64_t i = 0; !code && i < tokens->n; i++) {
        const char *s;
        uint64_t n;
        ft_meta_next_str(&at, &s, &n);
        if (!tok_utf8_valid(s, n, &bad)) {
            code = t->h->fail(t->h, FT_EFORMAT, "GGUF: token %llu is not valid UTF-8",
                              (unsigned long long)i);
            break;
        }
        int32_t type = type_of(types, i);
        spelling(&b, s, n, i, pieces && type == NORMAL);
        code = b.oom ? tok_no_memory(t->h) : tok_vocab_put(&t->v, t->h, i, b.p, b.n, TOK_MODEL);
        if (code || (type != CONTROL && type != USER_DEFINED && type != UNKNOWN)) continue;
        if (b.n > TOK_MAX_ADDED_LEN)
            code = t->h->fail(t->h, FT_EFORMAT, "GGUF: token %llu has %llu bytes; at most %d can "
                              "be matched in text", (unsigned long long)i, (unsigned long long)n,
                              TOK_MAX_ADDED_LEN);
        bool special = type != USER_DEFINED;
        tok_str str = tok_vocab_mark(&t->v, b.p, b.n,
                                     special ? TOK_ADDED | TOK_SPECIAL : TOK_ADDED);
        t->added[t->n_added++] = (tok_added){ .content = str, .pattern = str, .id = (uint32_t)i,
                                              .special = special };
    }
    ft_buf_free(&b);
    return code;
}

static int read_merges(tok *t, const ft_meta *merges)
{
    const void *at = merges->data;
    int code = tok_merges_begin(&t->v, t->h, merges->n);
    for (uint64_t i = 0; !code && i < merges->n; i++) {
        const char *s;
        uint64_t n;
        ft_meta_next_str(&at, &s, &n);
        const char *blank = n > 1 ? memchr(s + 1, ' ', n - 1) : NULL; /* the first may be a token */
        if (!blank)
            return t->h->fail(t->h, FT_EFORMAT, "GGUF: tokenizer.ggml.merges: item %llu is not "
                              "\"a b\"", (unsigned long long)i);
        code = tok_merges_put(&t->v, t->h, (uint32_t)i, s, (size_t)(blank - s), blank + 1,
                              n - (size_t)(blank - s) - 1, 0);
    }
    return code;
}

/* A token cut into two: `cut` in bytes, the halves' lengths in characters. */
typedef struct { float score; uint32_t id, cut, left, right; } way;

/* Best score first, then longer halves, then the order of the tokens. */
static int by_score(const void *a, const void *b)
{
    const way *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    if (x->left != y->left) return x->left > y->left ? -1 : 1;
    if (x->right != y->right) return x->right > y->right ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* All ways to cut token id into two normal tokens. */
static void add_ways(tok *t, ft_buf *b, const ft_meta *types, uint32_t id, float score)
{
    tok_str s = t->v.str[id];
    const char *p = t->v.text.p + s.at;
    uint32_t chars = 0, left = 0, len;
    for (uint32_t i = 0; i < s.len; i++) chars += !tok_inside(p[i]);
    for (uint32_t cut = 0; cut < s.len; cut += len, left++) {
        tok_char(p, cut, &len);
        if (!cut) continue;
        uint32_t a = tok_vocab_find(&t->v, p, cut, TOK_MODEL);
        if (a == TOK_NONE || type_of(types, a) != NORMAL) continue;
        uint32_t c = tok_vocab_find(&t->v, p + cut, s.len - cut, TOK_MODEL);
        if (c == TOK_NONE || type_of(types, c) != NORMAL) continue;
        way w = { score, id, cut, left, chars - left };
        ft_buf_add(b, &w, sizeof w);
    }
}

/* Merges from scores, or from the order of the tokens where scores is NULL. */
static int merges_from_scores(tok *t, const ft_meta *scores, const ft_meta *types)
{
    ft_buf b = { 0 };
    int code = 0;
    for (uint32_t id = 0; id < t->v.n_id; id++) {
        float score = -(float)id;
        if (scores) memcpy(&score, (const char *)scores->data + 4 * (size_t)id, 4);
        if (score != score)
            code = t->h->fail(t->h, FT_EFORMAT, "GGUF: tokenizer.ggml.scores: item %u is no number",
                              id);
        if (type_of(types, id) == NORMAL && t->v.str[id].len <= MAX_PIECE)
            add_ways(t, &b, types, id, score);
    }
    size_t n = b.n / sizeof(way);
    way *w = (way *)(void *)b.p;
    if (!code && b.oom) code = tok_no_memory(t->h);
    if (!code) code = tok_merges_begin(&t->v, t->h, n);
    if (!code && n) qsort(w, n, sizeof *w, by_score);
    for (size_t i = 0; !code && i < n; i++) {
        tok_str s = t->v.str[w[i].id];
        const char *p = t->v.text.p + s.at;
        code = tok_merges_put(&t->v, t->h, (uint32_t)i, p, w[i].cut, p + w[i].cut,
                              s.len - w[i].cut, 0);
    }
    ft_buf_free(&b);
    return code;
}

/* ---- loading -------------------------------------------------------------------------------- */
bool tok_gguf_claims(const ft_source *s)
{
    return text_is(s, "tokenizer.ggml.model", "gpt2") ||
           text_is(s, "tokenizer.ggml.model", "llama");
}

/* Parses the shell and reads it as a tokenizer.json is read. */
static int read_shell(tok *t, const ft_buf *b)
{
    ft_buf whole = { 0 };
    ft_buf_printf(&whole, "{%s}", b->p);
    ft_json_doc *doc = whole.oom ? NULL : t->json->parse(t->h, "GGUF tokenizer", whole.p, whole.n);
    const ft_json *root = doc ? t->json->root(doc) : NULL;
    int code = whole.oom ? tok_no_memory(t->h) : doc ? 0 : FT_EFORMAT;
    if (!code) code = tok_read_model_options(t, ft_json_get(root, "model"));
    if (!code) code = tok_read_normalizer(t, ft_json_get(root, "normalizer"));
    if (!code) code = tok_finish_added(t);
    if (!code) code = tok_read_pre(t, ft_json_get(root, "pre_tokenizer"));
    if (!code) code = tok_read_decoder(t, ft_json_get(root, "decoder"));
    if (!code) code = tok_read_post(t, ft_json_get(root, "post_processor"));
    t->json->done(doc);
    ft_buf_free(&whole);
    return code ? code : tok_finish(t);
}

static int read_ids(tok *t, const ft_source *s, ft_vocab *out)
{
    uint64_t n = t->v.n_id;
    int code = get_id(t, s, "tokenizer.ggml.bos_token_id", n, &out->bos);
    if (!code) code = get_id(t, s, "tokenizer.ggml.eos_token_id", n, &out->eos);
    if (!code) code = get_id(t, s, "tokenizer.ggml.padding_token_id", n, &out->pad);
    return code ? code : get_id(t, s, "tokenizer.ggml.unknown_token_id", n, &out->unk);
}

static int read_vocabulary(tok *t, const ft_source *s, bool pieces)
{
    int code = 0;
    const ft_meta *tokens = get_array(t, s, "tokenizer.ggml.tokens", FT_META_STRING, 0, &code);
    if (code) return code;
    if (!tokens || !tokens->n)
        return t->h->fail(t->h, FT_EFORMAT, "GGUF: tokenizer.ggml.tokens is absent or empty");
    const uint64_t n = tokens ? tokens->n : 0;
    const ft_meta *types = get_array(t, s, "tokenizer.ggml.token_type", FT_META_I32, n, &code);
    const ft_meta *scores = get_array(t, s, "tokenizer.ggml.scores", FT_META_F32, n, &code);
    const ft_meta *merges = get_array(t, s, "tokenizer.ggml.merges", FT_META_STRING, 0, &code);
    if (!code && !merges && (!pieces || !scores))
        code = t->h->fail(t->h, FT_EFORMAT, "GGUF: there is no tokenizer.ggml.%s",
                          pieces ? "scores" : "merges");
    bool gemma = text_is(s, "general.architecture", "gemma") ||
                 text_is(s, "general.architecture", "gemma2") ||
                 text_is(s, "general.architecture", "gemma3");
    if (!code) code = read_tokens(t, tokens, types, pieces);
    if (code) return code;
    return merges ? read_merges(t, merges) : merges_from_scores(t, gemma ? NULL : scores, types);
}

int tok_load_gguf(tok *t, const ft_source *s, ft_vocab *out)
{
    bool pieces = text_is(s, "tokenizer.ggml.model", "llama"), prefix;
    const tok_recipe *r = pieces ? NULL : tok_find_recipe(t, s);
    if (!pieces && !r) return FT_EUNSUP;
    bool bos = pieces || r->bos;
    int code = get_flag(t, s, "tokenizer.ggml.add_bos_token", bos, &out->add_bos);
    if (!code) code = get_flag(t, s, "tokenizer.ggml.add_eos_token", false, &out->add_eos);
    if (!code) code = get_flag(t, s, "tokenizer.ggml.add_space_prefix", true, &prefix);
    if (!code) code = tok_begin(t);
    if (!code) code = read_vocabulary(t, s, pieces);
    if (!code) code = read_ids(t, s, out);
    if (code) return code;
    ft_buf b = { 0 };
    tok_put_shell(t, &b, r, prefix, out);
    t->shell = b.oom ? NULL : tok_keep(t, b.p, b.n);
    code = t->shell ? read_shell(t, &b) : tok_no_memory(t->h);
    ft_buf_free(&b);
    if (!code) tok_describe(t, out);
    return code;
}
