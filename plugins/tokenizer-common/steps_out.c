/* steps_out.c -- decoder and post_processor of tokenizer.json: what is done behind the model. */
#include "load.h"

/* ---- decoders ------------------------------------------------------------------------------- */
static tok_dec *add_dec(tok *t, tok_dec_kind kind)
{
    if (t->n_dec == TOK_MAX_STEPS) {
        tok_too_many(t, "decoders");
        return NULL;
    }
    tok_dec *s = &t->dec[t->n_dec++];
    s->kind = kind;
    return s;
}

static int plain_decoder(tok *t, tok_dec_kind kind) { return add_dec(t, kind) ? 0 : FT_EFORMAT; }

static int read_dec_bytes(tok *t, const ft_json *j)
{
    (void)j;
    return plain_decoder(t, TOK_D_BYTES);
}

static int read_fuse(tok *t, const ft_json *j)
{
    (void)j;
    return plain_decoder(t, TOK_D_FUSE);
}

static int read_fallback(tok *t, const ft_json *j)
{
    (void)j;
    return plain_decoder(t, TOK_D_FALLBACK);
}

static int read_dec_metaspace(tok *t, const ft_json *j)
{
    tok_dec *s = add_dec(t, TOK_D_METASPACE);
    bool prefix;
    if (!s) return FT_EFORMAT;
    int code = tok_get_bool(t, j, "add_prefix_space", true, &prefix);
    s->prepend = prefix && strcmp(ft_json_str(j, "prepend_scheme", "always"), "never");
    return code ? code : tok_get_char(t, j, "replacement", &s->s, &s->n);
}

static int read_dec_replace(tok *t, const ft_json *j)
{
    tok_dec *s = add_dec(t, TOK_D_REPLACE);
    if (!s) return FT_EFORMAT;
    int code = tok_get_pattern(t, j, &s->pattern);
    return code ? code : tok_get_text(t, j, "content", &s->s, &s->n);
}

static int read_dec_strip(tok *t, const ft_json *j)
{
    tok_dec *s = add_dec(t, TOK_D_STRIP);
    if (!s) return FT_EFORMAT;
    int code = tok_get_char(t, j, "content", &s->s, &s->n);
    if (!code) code = tok_get_count(t, j, "start", &s->start);
    return code ? code : tok_get_count(t, j, "stop", &s->stop);
}

/* BPEDecoder: the suffix becomes a blank, in the last token nothing. */
static int read_suffix(tok *t, const ft_json *j)
{
    tok_dec *s = add_dec(t, TOK_D_SUFFIX);
    const char *suffix;
    uint32_t n;
    if (!s) return FT_EFORMAT;
    int code = tok_get_text(t, j, "suffix", &suffix, &n);
    if (!code && !n) code = tok_wrong_field(t, j, "suffix", "a text that is not empty");
    if (!code) s->pattern = tok_literal(suffix, n);
    s->s = " ";
    s->n = 1;
    return code;
}

static int read_wordpiece(tok *t, const ft_json *j)
{
    tok_dec *s = add_dec(t, TOK_D_WORDPIECE);
    if (!s) return FT_EFORMAT;
    int code = tok_get_text(t, j, "prefix", &s->s, &s->n);
    return code ? code : tok_get_bool(t, j, "cleanup", true, &s->cleanup);
}

int tok_read_decoder(tok *t, const ft_json *j)
{
    static const tok_reader known[] = {
        { "ByteLevel", read_dec_bytes }, { "Metaspace", read_dec_metaspace },
        { "Replace", read_dec_replace }, { "ByteFallback", read_fallback }, { "Fuse", read_fuse },
        { "Strip", read_dec_strip }, { "BPEDecoder", read_suffix },
        { "WordPiece", read_wordpiece }, { 0 } };
    return tok_read_steps(t, j, 0, "decoder", "decoders", known);
}

/* ---- post-processors ------------------------------------------------------------------------ */
static int no_token(tok *t, const ft_json *j, int64_t id)
{
    return t->h->fail(t->h, FT_EFORMAT, "tokenizer.json: %s names id %lld, which no token has",
                      ft_json_str(j, "type", "post_processor"), (long long)id);
}

/* Appends an id to t->around, before or behind the sequence. */
static int add_special(tok *t, const ft_json *j, const ft_json *id, bool behind)
{
    int64_t v = -1;
    if (!id || !t->json->to_int(id, &v) || v < 0 || v >= t->v.n_id || !t->v.flag[v])
        return no_token(t, j, v);
    if (t->n_before + t->n_after == TOK_MAX_AROUND)
        return t->h->fail(t->h, FT_EFORMAT, "tokenizer.json: more than %d special tokens around a "
                          "sequence", TOK_MAX_AROUND);
    t->around[t->n_before + t->n_after] = (uint32_t)v;
    t->n_before += !behind;
    t->n_after += behind;
    return 0;
}

static int only_one(tok *t, bool again)
{
    if (!again) return 0;
    return t->h->fail(t->h, FT_EUNSUP, "tokenizer.json: two post-processors of one kind are not "
                      "supported");
}

static int read_post_bytes(tok *t, const ft_json *j)
{
    bool trim, space;
    int code = tok_get_bool(t, j, "trim_offsets", true, &trim);
    if (!code) code = tok_get_bool(t, j, "add_prefix_space", true, &space);
    if (code || !trim) return code;
    code = only_one(t, t->trim);
    t->trim = true;
    t->trim_prefix = space;
    return code;
}

/* Template, for a single sequence: pieces before and behind {"Sequence": {"id": "A"}}. */
static int read_template(tok *t, const ft_json *j)
{
    const ft_json *single = ft_json_get(j, "single"), *table = ft_json_get(j, "special_tokens");
    bool seen = false;
    if (!single || single->type != FT_JSON_ARRAY) return tok_wrong_field(t, j, "single", "a list");
    int code = only_one(t, t->templated);
    t->templated = true;
    for (size_t i = 0; !code && i < single->len; i++) {
        const ft_json *seq = ft_json_get(&single->item[i], "Sequence");
        const ft_json *token = ft_json_get(&single->item[i], "SpecialToken");
        const ft_json *ids = ft_json_get(ft_json_get(table, ft_json_str(token, "id", "")), "ids");
        if (seq && (seen || strcmp(ft_json_str(seq, "id", ""), "A")))
            return tok_wrong_field(t, j, "single", "the sequence A once");
        seen = seen || seq;
        if (seq) continue;
        if (!ids || ids->type != FT_JSON_ARRAY)
            return tok_wrong_field(t, j, "special_tokens", "ids for every special token");
        for (size_t k = 0; !code && k < ids->len; k++)
            code = add_special(t, j, &ids->item[k], seen);
    }
    return code || seen ? code : tok_wrong_field(t, j, "single", "the sequence A");
}

/* BertProcessing: cls and sep, each ["spelling", id], around the sequence. */
static int read_cls_sep(tok *t, const ft_json *j)
{
    const ft_json *cls = ft_json_get(j, "cls"), *sep = ft_json_get(j, "sep");
    bool good = cls && sep && cls->type == FT_JSON_ARRAY && sep->type == FT_JSON_ARRAY &&
                cls->len == 2 && sep->len == 2;
    int code = good ? only_one(t, t->templated) : tok_wrong_field(t, j, "cls", "[spelling, id]");
    t->templated = true;
    if (!code) code = add_special(t, j, &cls->item[1], false);
    return code ? code : add_special(t, j, &sep->item[1], true);
}

static int read_roberta(tok *t, const ft_json *j)
{
    int code = read_post_bytes(t, j);
    return code ? code : read_cls_sep(t, j);
}

int tok_read_post(tok *t, const ft_json *j)
{
    static const tok_reader known[] = {
        { "ByteLevel", read_post_bytes }, { "TemplateProcessing", read_template },
        { "BertProcessing", read_cls_sep }, { "RobertaProcessing", read_roberta }, { 0 } };
    return tok_read_steps(t, j, 0, "post_processor", "processors", known);
}
