/* pieces.c -- a tokenizer from a vocabulary of pieces, which gguf.c or spm.c has read. */
#include "load.h"

/* A piece as the vocabulary has it.  Gemma's runs of blanks in GGUF are written in its own blank;
 * a word of BERT's begins with a blank, and what continues one with nothing, where HF has nothing
 * and ##. */
static void spelling(ft_buf *b, const tok_pieces *ps, uint64_t id)
{
    const tok_piece *x = &ps->piece[id];
    bool blanks = ps->style == TOK_SENTENCE && x->type == TOK_NORMAL && x->n > 1;
    bool mark = x->n >= 3 && !memcmp(x->p, "\xE2\x96\x81", 3);
    bool named = x->type != TOK_NORMAL || (x->n > 1 && x->p[0] == '[' && x->p[x->n - 1] == ']');
    for (uint64_t i = 0; blanks && i < x->n; i++) blanks = x->p[i] == ' ';
    b->n = 0;
    if (!x->n) {
        ft_buf_printf(b, "[EMPTY_%llu]", (unsigned long long)id); /* llama.cpp's name for it */
    } else if (blanks) {
        for (uint64_t i = 0; i < x->n; i++) ft_buf_puts(b, "\xE2\x96\x81");
    } else if (ps->style == TOK_BERT && !named) {
        if (!mark) ft_buf_puts(b, "##");
        ft_buf_add(b, x->p + (mark ? 3 : 0), x->n - (mark ? 3 : 0));
    } else {
        ft_buf_add(b, x->p, x->n);
    }
}

/* A piece that is looked for in text before anything else. */
static int add_matched(tok *t, const tok_pieces *ps, const ft_buf *b, uint64_t id)
{
    if (b->n > TOK_MAX_ADDED_LEN)
        return t->h->fail(t->h, FT_EFORMAT, "%s: token %llu has %zu bytes; at most %d can be "
                          "matched in text", ps->file, (unsigned long long)id, b->n,
                          TOK_MAX_ADDED_LEN);
    bool special = ps->piece[id].type != TOK_USER_DEFINED;
    tok_str str = tok_vocab_mark(&t->v, b->p, b->n, special ? TOK_ADDED | TOK_SPECIAL : TOK_ADDED);
    t->added[t->n_added++] = (tok_added){ .content = str, .pattern = str, .id = (uint32_t)id,
                                          .special = special };
    return 0;
}

static int put_pieces(tok *t, const tok_pieces *ps)
{
    ft_buf b = { 0 };
    size_t bad;
    int code = 0;
    for (uint64_t i = 0; !code && i < ps->n; i++) {
        int32_t type = ps->piece[i].type;
        if (!tok_utf8_valid(ps->piece[i].p, ps->piece[i].n, &bad))
            code = t->h->fail(t->h, FT_EFORMAT, "%s: token %llu is not valid UTF-8", ps->file,
                              (unsigned long long)i);
        if (code) break;
        spelling(&b, ps, i);
        code = b.oom ? tok_no_memory(t->h) : tok_vocab_put(&t->v, t->h, i, b.p, b.n, TOK_MODEL);
        if (!code && (type == TOK_CONTROL || type == TOK_USER_DEFINED || type == TOK_UNKNOWN))
            code = add_matched(t, ps, &b, i);
    }
    ft_buf_free(&b);
    return code;
}

/* ---- added_tokens_decoder -------------------------------------------------------------------- */
/* The id that a member's key writes; false: it is none. */
static bool key_id(const ft_json *member, uint64_t *id)
{
    ft_json number = { .type = FT_JSON_NUMBER, .text = member->key, .len = member->key_len };
    return member->key_len && tok_read_id(&number, id);
}

static bool truth(const ft_json *o, const char *key)
{
    const ft_json *v = ft_json_get(o, key);
    return v && v->type == FT_JSON_BOOL && v->truth;
}

/* The added token of that id, or a new one at the end. */
static tok_added *added_of(tok *t, uint32_t id)
{
    for (uint32_t i = 0; i < t->n_added; i++) {
        if (t->added[i].id == id) return &t->added[i];
    }
    return &t->added[t->n_added++];
}

/* One token of tokenizer_config.json, which may be a piece or stand behind them. */
static int put_decoder_token(tok *t, const tok_pieces *ps, const ft_json *j)
{
    const ft_json *content = ft_json_get(j, "content");
    uint64_t id = 0;
    bool known = key_id(j, &id) && content && content->type == FT_JSON_STRING && content->len &&
                 content->len <= TOK_MAX_ADDED_LEN;
    if (!known)
        return t->h->fail(t->h, FT_EFORMAT,
                          "tokenizer_config.json: added_tokens_decoder: \"%.60s\" "
                          "needs an id as its key and a \"content\" of 1 to %d bytes",
                          j->key, TOK_MAX_ADDED_LEN);
    uint32_t have = tok_vocab_find(&t->v, content->text, content->len, TOK_MODEL | TOK_ADDED);
    if (have != id && (have != TOK_NONE || id < ps->n))
        return t->h->fail(t->h, FT_EFORMAT, "tokenizer_config.json: added_tokens_decoder: token "
                          "\"%.100s\" has id %llu, but tokenizer.model has another token there or "
                          "another id for it", content->text, (unsigned long long)id);
    int code = have == id ? 0 : tok_vocab_put(&t->v, t->h, id, content->text, content->len,
                                              TOK_ADDED);
    if (code) return code;
    bool special = truth(j, "special");
    tok_str str = tok_vocab_mark(&t->v, content->text, content->len,
                                 special ? TOK_ADDED | TOK_SPECIAL : TOK_ADDED);
    *added_of(t, (uint32_t)id) = (tok_added){
        .content = str, .pattern = str, .id = (uint32_t)id, .special = special,
        .lstrip = truth(j, "lstrip"), .rstrip = truth(j, "rstrip"),
        .single_word = truth(j, "single_word"), .normalized = truth(j, "normalized") && !special };
    return 0;
}

/* Room for the pieces and the tokens behind them; then both. */
static int put_all(tok *t, const tok_pieces *ps)
{
    uint64_t n_id = ps->n, id;
    size_t more = ps->added && ps->added->type == FT_JSON_OBJECT ? ps->added->len : 0;
    for (size_t i = 0; i < more; i++) {
        if (key_id(&ps->added->item[i], &id) && id >= n_id) n_id = id + 1;
    }
    int code = tok_vocab_begin(&t->v, t->h, n_id, ps->n + more);
    if (!code && !(t->added = calloc(ps->n + more + 1, sizeof *t->added)))
        code = tok_no_memory(t->h);
    if (!code) code = put_pieces(t, ps);
    for (size_t i = 0; !code && i < more; i++)
        code = put_decoder_token(t, ps, &ps->added->item[i]);
    return code;
}

/* Names of tokenizer_config.json win over the model's ids. */
static void name_ids(const tok *t, const ft_source *s, ft_vocab *out)
{
    int64_t bos = tok_named_id(t, s->tokenizer_config, "bos_token", s->bos_token);
    int64_t eos = tok_named_id(t, s->tokenizer_config, "eos_token", s->eos_token);
    int64_t pad = tok_named_id(t, s->tokenizer_config, "pad_token", NULL);
    if (bos >= 0) out->bos = bos;
    if (eos >= 0) out->eos = eos;
    if (pad >= 0) out->pad = pad;
}

/* ---- the whole ------------------------------------------------------------------------------- */
/* Reads the shell as a tokenizer.json is read. */
static int read_shell(tok *t, const tok_pieces *ps)
{
    ft_buf whole = { 0 };
    ft_buf_printf(&whole, "{%s\"model\":null}", t->shell);
    ft_json_doc *doc = whole.oom ? NULL : t->json->parse(t->h, ps->file, whole.p, whole.n);
    const ft_json *root = doc ? t->json->root(doc) : NULL;
    int code = whole.oom ? tok_no_memory(t->h) : doc ? 0 : FT_EFORMAT;
    if (!code) code = tok_read_normalizer(t, ft_json_get(root, "normalizer"));
    for (int i = 0; i < t->n_norm; i++) t->norm[i].longest = true; /* SentencePiece's own rule */
    if (!code) code = tok_finish_added(t);
    if (!code) code = tok_read_pre(t, ft_json_get(root, "pre_tokenizer"));
    if (!code) code = tok_read_decoder(t, ft_json_get(root, "decoder"));
    if (!code) code = tok_read_post(t, ft_json_get(root, "post_processor"));
    t->json->done(doc);
    ft_buf_free(&whole);
    return code;
}

int tok_load_pieces(tok *t, const tok_pieces *ps, ft_vocab *out)
{
    ft_buf b = { 0 };
    int code = tok_begin(t);
    t->unk = "";
    if (!code) code = put_all(t, ps);
    if (!code && ps->names) name_ids(t, ps->names, out);
    if (!code && ps->style != TOK_BYTE_LEVEL && out->unk >= 0) {
        tok_str s = t->v.str[out->unk];
        t->unk = tok_keep(t, t->v.text.p + s.at, s.len);
        if (!t->unk) return FT_ENOMEM;
    }
    if (!code) code = tok_this.read_pieces(t, ps);
    if (code) return code;
    tok_put_shell(t, &b, ps, out);
    t->shell = b.oom ? NULL : tok_keep(t, b.p, b.n);
    ft_buf_free(&b);
    if (!t->shell) return tok_no_memory(t->h);
    code = read_shell(t, ps);
    if (!code) code = tok_this.finish(t);
    if (!code) tok_describe(t, out);
    return code;
}
