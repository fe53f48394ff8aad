/* load.c -- tokenizer.json: what is alike for every model, and its added tokens.
 *
 * Read with the strict JSON reader; here every id and special token is checked against the
 * vocabulary.  An added token gets the id that HF tokenizers would give it (its id in the model,
 * else the next free number); a file that says otherwise is refused, since HF would silently use
 * other ids than the file names. */
#include "load.h"

char *tok_keep(tok *t, const char *s, size_t n)
{
    struct tok_kept *k = malloc(sizeof *k + n + 1);
    if (!k) {
        tok_no_memory(t->h);
        return NULL;
    }
    if (n) memcpy(k->s, s, n);
    k->s[n] = 0;
    k->next = t->kept;
    t->kept = k;
    return k->s;
}

void tok_free(tok *t)
{
    for (int i = 0; i < t->n_norm; i++) tok_pattern_free(&t->norm[i].pattern);
    for (int i = 0; i < t->n_pre; i++) tok_pattern_free(&t->pre[i].pattern);
    for (int i = 0; i < t->n_dec; i++) tok_pattern_free(&t->dec[i].pattern);
    for (struct tok_kept *k = t->kept, *next; k; k = next) {
        next = k->next;
        free(k);
    }
    for (int i = 0; i < 4; i++) free(t->inert[i]);
    tok_vocab_free(&t->v);
    tok_this.done(t);
    free(t->cls);
    free(t->added);
    free(t->trie[0].node);
    free(t->trie[1].node);
    ft_buf_free(&t->exported);
}

int tok_wrong_json(tok *t, const char *what)
{
    return t->h->fail(t->h, FT_EFORMAT, "tokenizer.json: %s", what);
}

/* A JSON number that is a plain id; false for anything else. */
bool tok_read_id(const ft_json *v, uint64_t *id)
{
    if (!v || v->type != FT_JSON_NUMBER || v->len > 10) return false;
    *id = 0;
    for (size_t i = 0; i < v->len; i++) {
        if (v->text[i] < '0' || v->text[i] > '9') return false;
        *id = *id * 10 + (uint64_t)(v->text[i] - '0');
    }
    return true;
}

/* ---- what models share ---------------------------------------------------------------------- */
int tok_count_added(tok *t, const ft_json *added, uint64_t *n_id)
{
    uint64_t id;
    for (size_t i = 0; added && i < added->len; i++) {
        if (!tok_read_id(ft_json_get(&added->item[i], "id"), &id))
            return tok_wrong_json(t, "an added token has no id: a whole number must stand there");
        if (id >= *n_id) *n_id = id + 1;
    }
    return 0;
}

int tok_read_vocab(tok *t, const ft_json *vocab, const ft_json *added)
{
    uint64_t n_id = 0, id = 0;
    if (!vocab || vocab->type != FT_JSON_OBJECT)
        return t->h->fail(t->h, FT_EFORMAT, "tokenizer.json: a %s model needs \"vocab\", an object",
                          tok_this.type);
    for (size_t i = 0; i < vocab->len; i++) {
        if (!tok_read_id(&vocab->item[i], &id))
            return t->h->fail(t->h, FT_EFORMAT, "tokenizer.json: token \"%.100s\" has no id: a "
                              "whole number must stand there", vocab->item[i].key);
        if (id >= n_id) n_id = id + 1;
    }
    int code = tok_count_added(t, added, &n_id);
    if (!code) code = tok_vocab_begin(&t->v, t->h, n_id, vocab->len + (added ? added->len : 0));
    for (size_t i = 0; !code && i < vocab->len; i++) {
        tok_read_id(&vocab->item[i], &id);
        code = tok_vocab_put(&t->v, t->h, id, vocab->item[i].key, vocab->item[i].key_len,
                             TOK_MODEL);
    }
    return code;
}

int tok_model_text(tok *t, const ft_json *model, const char *key, const char **out)
{
    const ft_json *v = ft_json_get(model, key);
    *out = "";
    if (!v || v->type == FT_JSON_NULL) return 0;
    if (!ft_json_is_text(v))
        return t->h->fail(t->h, FT_EFORMAT, "tokenizer.json: model.%s must be a text", key);
    *out = tok_keep(t, v->text, v->len);
    return *out ? 0 : FT_ENOMEM;
}

int tok_model_flag(tok *t, const ft_json *model, const char *key, bool *out)
{
    const ft_json *v = ft_json_get(model, key);
    *out = v && v->type == FT_JSON_BOOL && v->truth;
    if (!v || v->type == FT_JSON_NULL || v->type == FT_JSON_BOOL) return 0;
    return t->h->fail(t->h, FT_EFORMAT, "tokenizer.json: model.%s must be true or false", key);
}

bool tok_has_special(const tok *t)
{
    for (uint32_t id = 0; id < t->v.n_id; id++) {
        if ((t->v.flag[id] & TOK_SPECIAL) && (t->v.flag[id] & TOK_MODEL)) return true;
    }
    return false;
}

/* ---- added tokens --------------------------------------------------------------------------- */
/* What a token is looked for as: its content as the normalizers leave it.  Appended to the
 * spellings, which later ones may move. */
static int normalized_pattern(tok *t, tok_enc *e, tok_added *a)
{
    ft_buf copy = { 0 };
    ft_buf_add(&copy, t->v.text.p + a->content.at, a->content.len);
    ft_buf_grow(&copy, TOK_PAD);
    tok_text x = { .p = copy.p, .n = a->content.len };
    int code = copy.oom ? tok_no_memory(t->h) : tok_normalize(e, &x);
    if (!code && (x.n != a->content.len || memcmp(x.p, copy.p, x.n))) {
        a->pattern = (tok_str){ (uint32_t)t->v.text.n, x.n };
        ft_buf_add(&t->v.text, x.p, x.n);
        ft_buf_putc(&t->v.text, 0);
        if (t->v.text.oom || t->v.text.n > UINT32_MAX / 2) code = tok_no_memory(t->h);
    }
    ft_buf_free(&copy);
    return code;
}

static bool flag_of(const ft_json *o, const char *key, bool other)
{
    const ft_json *v = ft_json_get(o, key);
    return v && v->type == FT_JSON_BOOL ? v->truth : other;
}

/* Adds one token; *next is the id that the next one new to the model gets. */
static int add_token(tok *t, const ft_json *j, uint64_t *next)
{
    const ft_json *content = ft_json_get(j, "content");
    uint64_t id = 0;
    if (!content || content->type != FT_JSON_STRING || content->len > TOK_MAX_ADDED_LEN)
        return tok_wrong_json(t, "an added token has no \"content\" of at most 1024 bytes");
    tok_read_id(ft_json_get(j, "id"), &id);
    if (!content->len) return 0; /* as HF has it */
    uint32_t known = tok_vocab_find(&t->v, content->text, content->len, TOK_MODEL);
    if (tok_vocab_find(&t->v, content->text, content->len, TOK_ADDED) != TOK_NONE)
        return t->h->fail(t->h, FT_EFORMAT, "tokenizer.json: added token \"%.100s\" is there twice",
                          content->text);
    uint64_t want = known != TOK_NONE ? known : (*next)++;
    if (want != id)
        return t->h->fail(t->h, FT_EFORMAT, "tokenizer.json: added token \"%.100s\" has id %llu, "
                          "but would get %llu (its id in the model, or the next free one)",
                          content->text, (unsigned long long)id, (unsigned long long)want);
    if (known == TOK_NONE) {
        int code = tok_vocab_put(&t->v, t->h, id, content->text, content->len, TOK_ADDED);
        if (code) return code;
    }
    bool special = flag_of(j, "special", false);
    tok_str str = tok_vocab_mark(&t->v, content->text, content->len,
                                 special ? TOK_ADDED | TOK_SPECIAL : TOK_ADDED);
    t->added[t->n_added++] = (tok_added){
        .content = str, .pattern = str, .id = (uint32_t)id, .special = special,
        .lstrip = flag_of(j, "lstrip", false), .rstrip = flag_of(j, "rstrip", false),
        .single_word = flag_of(j, "single_word", false),
        .normalized = flag_of(j, "normalized", !special) };
    return 0;
}

static int by_id(const void *a, const void *b)
{
    uint32_t x = ((const tok_added *)a)->id, y = ((const tok_added *)b)->id;
    return x < y ? -1 : x > y;
}

/* Sorts the added tokens and builds the two tries. */
int tok_finish_added(tok *t)
{
    tok_enc *e = t->n_norm && t->n_added ? tok_enc_new(t) : NULL;
    int code = t->n_norm && t->n_added && !e ? tok_no_memory(t->h) : 0;
    if (t->n_added) qsort(t->added, t->n_added, sizeof *t->added, by_id);
    for (uint32_t i = 0; !code && i < t->n_added; i++) {
        tok_added *a = &t->added[i];
        if (a->normalized && e) code = normalized_pattern(t, e, a);
        if (!code) code = tok_trie_add(&t->trie[a->normalized], t->h, t->v.text.p + a->pattern.at,
                                       a->pattern.len, i);
    }
    tok_enc_free(e);
    return code;
}

static int read_added(tok *t, const ft_json *added)
{
    uint64_t next = t->v.n_model;
    int code = 0;
    if (added && added->len && !(t->added = calloc(added->len, sizeof *t->added)))
        return tok_no_memory(t->h);
    for (size_t i = 0; !code && added && i < added->len; i++)
        code = add_token(t, &added->item[i], &next);
    return code ? code : tok_finish_added(t);
}

const char *tok_spelling(const tok *t, uint32_t id, size_t *len)
{
    if (id >= t->v.n_id || !t->v.flag[id]) return NULL;
    tok_str s = t->v.str[id];
    if (t->v.flag[id] & TOK_ADDED) {
        tok_added key = { .id = id };
        const tok_added *a = bsearch(&key, t->added, t->n_added, sizeof key, by_id);
        if (a) s = a->pattern;
    }
    *len = s.len;
    return t->v.text.p + s.at;
}

/* ---- what the rest of the program asks for --------------------------------------------------- */
int64_t tok_named_id(const tok *t, const ft_json *config, const char *key, const char *other)
{
    const ft_json *v = ft_json_get(config, key);
    const char *s = v && v->type == FT_JSON_OBJECT ? ft_json_str(v, "content", "")
                                                   : ft_json_str(config, key, other);
    uint32_t id = s && *s ? tok_vocab_find(&t->v, s, strlen(s), TOK_MODEL | TOK_ADDED) : TOK_NONE;
    return id == TOK_NONE ? -1 : (int64_t)id;
}

/* bos and eos are what the post-processor puts around a text, where nothing else names them. */
void tok_describe(const tok *t, ft_vocab *out)
{
    const uint32_t *after = t->around + t->n_before;
    if (out->bos < 0 && t->n_before) out->bos = t->around[0];
    if (out->eos < 0 && t->n_after) out->eos = after[t->n_after - 1];
    out->vocab_size = t->v.n_id;
    out->add_bos = out->add_eos = false;
    for (uint32_t i = 0; i < t->n_before; i++) out->add_bos |= t->around[i] == out->bos;
    for (uint32_t i = 0; i < t->n_after; i++) out->add_eos |= after[i] == out->eos;
}

int tok_begin(tok *t)
{
    t->cls = malloc(0x10000);
    if (!t->cls) return tok_no_memory(t->h);
    for (uint32_t c = 0; c < 0x10000; c++) t->cls[c] = tok_class_of(c);
    return 0;
}

int tok_load_json(tok *t, const ft_source *s, ft_vocab *out)
{
    const ft_json *root = s->tokenizer, *model = ft_json_get(root, "model");
    const ft_json *added = ft_json_get(root, "added_tokens"), *config = s->tokenizer_config;
    if (strcmp(ft_json_str(root, "version", "1.0"), "1.0"))
        return tok_wrong_json(t, "version must be \"1.0\"");
    if (added && added->type != FT_JSON_ARRAY)
        return tok_wrong_json(t, "added_tokens must be a list");
    int code = tok_begin(t);
    t->unk = "";
    if (!code) code = tok_this.read_json(t, model, added);
    if (!code) code = tok_read_normalizer(t, ft_json_get(root, "normalizer"));
    if (!code) code = read_added(t, added);
    if (!code) code = tok_read_pre(t, ft_json_get(root, "pre_tokenizer"));
    if (!code) code = tok_read_decoder(t, ft_json_get(root, "decoder"));
    if (!code) code = tok_read_post(t, ft_json_get(root, "post_processor"));
    if (!code) code = tok_this.finish(t);
    if (code) return code;
    out->bos = tok_named_id(t, config, "bos_token", s->bos_token);
    out->eos = tok_named_id(t, config, "eos_token", s->eos_token);
    out->pad = tok_named_id(t, config, "pad_token", NULL);
    out->unk = tok_named_id(t, config, "unk_token", t->unk);
    tok_describe(t, out);
    return 0;
}
