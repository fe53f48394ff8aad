/* gguf_out.c -- the tokenizer of a tokenizer.json as a GGUF file has it: the way back of gguf.c.
 *
 * Byte-level BPE becomes model "gpt2": tokens, their types, merges, and the name of a recipe that
 * cuts words exactly as the pre-tokenizer does.  BPE with byte fallback becomes model "llama",
 * which has scores instead of merges: of two neighbours whose join is a token, those with the best
 * score are joined first.  That is the same only when every such pair has a merge, and all merges
 * that make one token stand together; scores then are minus the place of the first of them.  What
 * has no exact form is refused with what stands in the way.  Left out: lstrip, rstrip and
 * single_word of added tokens, which GGUF cannot say. */
#include "bpe.h"
#include "ft/gguf.h"

enum { MAX_CUTS = 5 };

static int refuse(tok *t, const char *why)
{
    return t->h->fail(t->h, FT_EUNSUP, "this tokenizer has no exact form in GGUF: %s; export it "
                      "with export-hf", why);
}

/* ---- how words are cut ----------------------------------------------------------------------- */

/* Expressions that a pre-tokenizer cuts by, one after the other. */
typedef struct { const char *cut[MAX_CUTS]; int n; bool bytes; } cuts;

static bool truth(const ft_json *o, const char *key, bool other)
{
    const ft_json *v = ft_json_get(o, key);
    return v && v->type == FT_JSON_BOOL ? v->truth : other;
}

/* One step; false: a recipe cannot say it. */
static bool read_cut(cuts *c, const ft_json *step)
{
    const char *type = ft_json_str(step, "type", "");
    const ft_json *regex = ft_json_get(ft_json_get(step, "pattern"), "Regex");
    const char *cut = NULL;
    if (c->bytes || c->n == MAX_CUTS) return false;
    if (!strcmp(type, "ByteLevel")) {
        c->bytes = true;
        if (truth(step, "add_prefix_space", true)) return false;
        if (!truth(step, "use_regex", true)) return true;
        cut = TOK_RE_GPT2;
    } else if (!strcmp(type, "Digits") && truth(step, "individual_digits", false)) {
        cut = "\\p{N}";
    } else if (!strcmp(type, "Split") && ft_json_is_text(regex) && !truth(step, "invert", false) &&
               !strcmp(ft_json_str(step, "behavior", ""), "Isolated")) {
        cut = regex->text;
    }
    if (cut) c->cut[c->n++] = cut;
    return cut != NULL;
}

static bool read_cuts(cuts *c, const ft_json *pre)
{
    const ft_json *list = ft_json_get(pre, "pretokenizers");
    if (!list) return read_cut(c, pre);
    for (size_t i = 0; i < list->len; i++) {
        if (!read_cut(c, &list->item[i])) return false;
    }
    return true;
}

/* 0: no normalizer; 1: NFC alone; -1: another. */
static int normalizer_of(const ft_json *n)
{
    const ft_json *list = ft_json_get(n, "normalizers");
    if (!n || n->type == FT_JSON_NULL || (list && !list->len)) return 0;
    if (list && list->len == 1) n = &list->item[0];
    return !strcmp(ft_json_str(n, "type", ""), "NFC") ? 1 : -1;
}

static int put_recipe(tok *t, const ft_json *json, ft_gguf_keys *k)
{
    cuts c = { .n = 0 };
    int nfc = normalizer_of(ft_json_get(json, "normalizer"));
    if (nfc < 0) return refuse(t, "its normalizer is another than NFC");
    const ft_json *pre = ft_json_get(json, "pre_tokenizer");
    const tok_recipe *r = read_cuts(&c, pre) && c.bytes
                              ? tok_match_recipe(c.cut, c.n, t->model->ignore_merges, nfc > 0)
                              : NULL;
    if (!r) return refuse(t, "tokenizer.ggml.pre has no name for its pre_tokenizer");
    ft_gguf_put_text(k, "tokenizer.ggml.model", "gpt2", 4);
    ft_gguf_put_text(k, "tokenizer.ggml.pre", r->pre + 1, strcspn(r->pre + 1, " "));
    return 0;
}

/* ---- tokens ---------------------------------------------------------------------------------- */

static bool is_byte(const tok *t, uint32_t id)
{
    unsigned b;
    tok_str s = t->v.str[id];
    return s.len == 6 && sscanf(t->v.text.p + s.at, "<0x%2X>", &b) == 1;
}

static int32_t type_of(const tok *t, uint32_t id)
{
    if (id >= t->v.n_id || !t->v.flag[id]) return TOK_UNUSED;
    size_t n = strlen(t->unk);
    tok_str s = t->v.str[id];
    if (!t->model->byte_level && n && n == s.len && !memcmp(t->v.text.p + s.at, t->unk, n))
        return TOK_UNKNOWN;
    if (t->v.flag[id] & TOK_ADDED)
        return t->v.flag[id] & TOK_SPECIAL ? TOK_CONTROL : TOK_USER_DEFINED;
    return !t->model->byte_level && is_byte(t, id) ? TOK_BYTE : TOK_NORMAL;
}

/* The spelling of an id: where HF tokenizers gave an added token the id of one of the model's, as
 * it does when the model's ids have gaps, the added one. */
static tok_str spelling(const tok *t, uint32_t id)
{
    uint32_t low = 0, high = t->n_added;
    while (low < high) { /* they lie by id */
        uint32_t mid = (low + high) / 2;
        if (t->added[mid].id < id) low = mid + 1;
        else high = mid;
    }
    bool added = low < t->n_added && t->added[low].id == id;
    return added ? t->added[low].content : t->v.str[id];
}

/* Rows of the model beyond the tokens get names of their own, as llama.cpp's converter gives. */
static void put_tokens(const tok *t, uint64_t rows, ft_gguf_keys *k)
{
    char text[32];
    ft_gguf_put_list(k, "tokenizer.ggml.tokens", FT_META_STRING, rows);
    for (uint32_t id = 0; id < rows; id++) {
        bool there = id < t->v.n_id && t->v.flag[id];
        tok_str s = there ? spelling(t, id) : (tok_str){ 0, 0 };
        int n = snprintf(text, sizeof text, "[PAD%u]", id);
        ft_gguf_text(&k->bytes, there ? t->v.text.p + s.at : text, there ? s.len : (size_t)n);
    }
    ft_gguf_put_list(k, "tokenizer.ggml.token_type", FT_META_I32, rows);
    for (uint32_t id = 0; id < rows; id++) ft_gguf_u32(&k->bytes, (uint32_t)type_of(t, id));
}

/* Drops merges that make a spelling which its id does not have in the file; the new number. */
static size_t drop_lost(const tok *t, const bpe_merge **m, size_t n)
{
    size_t kept = 0;
    uint32_t id = 0;
    for (size_t i = 0; i < n; i++) {
        bool lost = spelling(t, m[i]->id).at != t->v.str[m[i]->id].at;
        if (lost) id = m[i]->id;
        else m[kept++] = m[i];
    }
    if (kept == n) return n;
    tok_str a = t->v.str[id], b = spelling(t, id);
    t->h->log(t->h, FT_WARN,
              "id %u is both \"%.*s\" and the added token \"%.*s\": the GGUF file has "
              "the latter alone",
              id, (int)a.len, t->v.text.p + a.at, (int)b.len, t->v.text.p + b.at);
    return kept;
}

/* ---- merges ---------------------------------------------------------------------------------- */

static void put_merges(const tok *t, const bpe_merge *const *m, size_t n, ft_gguf_keys *k)
{
    ft_gguf_put_list(k, "tokenizer.ggml.merges", FT_META_STRING, n);
    for (size_t i = 0; i < n; i++) {
        tok_str a = t->v.str[m[i]->pair >> 32], b = t->v.str[(uint32_t)m[i]->pair];
        ft_gguf_u64(&k->bytes, (uint64_t)a.len + 1 + b.len);
        ft_buf_add(&k->bytes, t->v.text.p + a.at, a.len);
        ft_buf_putc(&k->bytes, ' ');
        ft_buf_add(&k->bytes, t->v.text.p + b.at, b.len);
    }
}

/* Every way to cut token id into two plain ones must be a merge. */
static int check_cuts(tok *t, uint32_t id)
{
    tok_str s = t->v.str[id];
    const char *p = t->v.text.p + s.at;
    for (uint32_t cut = 1; cut < s.len; cut++) {
        if (tok_inside(p[cut])) continue;
        uint32_t a = tok_vocab_find(&t->v, p, cut, TOK_MODEL);
        uint32_t b = a == TOK_NONE ? a
                                   : tok_vocab_find(&t->v, p + cut, s.len - cut, TOK_MODEL);
        if (b == TOK_NONE || type_of(t, a) != TOK_NORMAL || type_of(t, b) != TOK_NORMAL) continue;
        if (!bpe_merge_of(t->model, a, b))
            return t->h->fail(t->h, FT_EUNSUP,
                              "this tokenizer has no exact form in GGUF: llama.cpp would join "
                              "\"%.*s\" and \"%.*s\", which it has no merge for; export it with "
                              "export-hf",
                              (int)cut, p, (int)(s.len - cut), p + cut);
    }
    return 0;
}

/* Minus the place of the merge that first makes a token; what no merge makes comes last. */
static int put_scores(tok *t, const bpe_merge *const *m, size_t n, uint64_t rows, ft_gguf_keys *k)
{
    float *score = calloc(rows + 1, sizeof *score);
    int code = score ? 0 : tok_no_memory(t->h);
    for (uint64_t id = 0; id < rows && !code; id++) score[id] = -(float)(n + 1);
    for (size_t i = 0; i < n && !code; i++) {
        uint32_t id = m[i]->id;
        if (id >= rows || (i && m[i - 1]->id == id)) continue;
        if (score[id] > -(float)(n + 1))
            code = refuse(t, "merges that make one token do not stand together, so no score can "
                             "say their order");
        score[id] = -(float)i;
        if (!code) code = check_cuts(t, id);
    }
    if (!code) {
        ft_gguf_put_list(k, "tokenizer.ggml.scores", FT_META_F32, rows);
        ft_buf_add(&k->bytes, score, rows * sizeof *score);
    }
    free(score);
    return code;
}

/* ---- SentencePiece --------------------------------------------------------------------------- */

/* "Replace" of " " by "▁", perhaps behind a "Prepend" of "▁"; anything else is refused. */
static int put_blanks(tok *t, const ft_json *json, ft_gguf_keys *k)
{
    const ft_json *n = ft_json_get(json, "normalizer"), *list = ft_json_get(n, "normalizers");
    bool prepend = false, replace = false, other = false;
    for (size_t i = 0; i < (list ? list->len : n ? 1 : 0); i++) {
        const ft_json *step = list ? &list->item[i] : n;
        const char *type = ft_json_str(step, "type", "");
        if (!strcmp(type, "Prepend")) prepend = true;
        else if (!strcmp(type, "Replace")) replace = true;
        else other = true;
    }
    if (!replace || other)
        return refuse(t, "blanks become \"▁\" by another way than a normalizer");
    ft_gguf_put_text(k, "tokenizer.ggml.model", "llama", 5);
    ft_gguf_put_text(k, "tokenizer.ggml.pre", "default", 7);
    ft_gguf_put_bool(k, "tokenizer.ggml.add_space_prefix", prepend);
    return 0;
}

/* ---- the whole ------------------------------------------------------------------------------- */

int bpe_export_gguf(tok *t, const ft_source *s, uint64_t rows, ft_bytes *out, uint64_t *n_keys)
{
    ft_gguf_keys k = { .bytes = t->exported };
    size_t n;
    k.bytes.n = 0;
    if (!s->tokenizer || s->gguf) return refuse(t, "it was not read from a tokenizer.json");
    if (*t->model->prefix || *t->model->suffix)
        return refuse(t, "it marks the middle or the end of words");
    if (t->v.n_id > rows || rows > TOK_MAX_ID)
        return t->h->fail(t->h, FT_EINVAL, "the tokenizer has %u ids, the model %llu rows for them",
                          t->v.n_id, (unsigned long long)rows);
    int code = t->model->byte_level ? put_recipe(t, s->tokenizer, &k)
             : t->model->byte_fallback ? put_blanks(t, s->tokenizer, &k)
             : refuse(t, "it is neither byte-level nor has bytes to fall back on");
    const bpe_merge **m = code ? NULL : bpe_ranked_merges(t, &n);
    if (!code && !m) code = tok_no_memory(t->h);
    if (!code) n = drop_lost(t, m, n);
    if (!code) put_tokens(t, rows, &k);
    if (!code && t->model->byte_level) put_merges(t, m, n, &k);
    else if (!code) code = put_scores(t, m, n, rows, &k);
    free(m);
    t->exported = k.bytes;
    if (!code && k.bytes.oom) code = tok_no_memory(t->h);
    *out = (ft_bytes){ k.bytes.p, k.bytes.n };
    *n_keys = k.n;
    return code;
}
