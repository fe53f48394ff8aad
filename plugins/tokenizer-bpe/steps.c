/* steps.c -- normalizer, pre_tokenizer, post_processor and decoder of tokenizer.json become lists
 * of steps.
 *
 * One reader for each type, found by name in a table; Sequence goes down into its members.  A type
 * that is not in the table is refused by its name, since leaving it out would give other tokens.
 * Defaults of absent fields are HF tokenizers'. */
#include "tok.h"

enum { DEPTH = 16 }; /* sequences within sequences */

/* ---- fields --------------------------------------------------------------------------------- */
static int wrong_field(tok *t, const ft_json *o, const char *key, const char *want)
{
    return t->h->fail(t->h, FT_EFORMAT, "tokenizer.json: %s needs \"%s\": %s",
                      ft_json_str(o, "type", "a step"), key, want);
}

/* Stays at `other` when absent or null. */
static int get_bool(tok *t, const ft_json *o, const char *key, bool other, bool *out)
{
    const ft_json *v = ft_json_get(o, key);
    *out = v && v->type == FT_JSON_BOOL ? v->truth : other;
    if (!v || v->type == FT_JSON_NULL || v->type == FT_JSON_BOOL) return 0;
    return wrong_field(t, o, key, "true or false");
}

static int get_text(tok *t, const ft_json *o, const char *key, const char **s, uint32_t *n)
{
    const ft_json *v = ft_json_get(o, key);
    if (!v || v->type != FT_JSON_STRING || v->len > TOK_MAX_PATTERN)
        return wrong_field(t, o, key, "a text of at most 64 KiB");
    *s = tok_keep(t, v->text, v->len);
    *n = (uint32_t)v->len;
    return *s ? 0 : FT_ENOMEM;
}

/* A text of one character. */
static int get_char(tok *t, const ft_json *o, const char *key, const char **s, uint32_t *n)
{
    uint32_t len = 0;
    int code = get_text(t, o, key, s, n);
    if (!code && *n) tok_char(*s, 0, &len);
    return code || (*n && len == *n) ? code : wrong_field(t, o, key, "one character");
}

static int get_count(tok *t, const ft_json *o, const char *key, uint32_t *out)
{
    int64_t v = 0;
    const ft_json *j = ft_json_get(o, key);
    if (!j || !t->json->to_int(j, &v) || v < 0 || v > UINT32_MAX / 2)
        return wrong_field(t, o, key, "a number");
    *out = (uint32_t)v;
    return 0;
}

static tok_pattern of_scan(tok_scan scan)
{
    return (tok_pattern){ .kind = TOK_SCAN, .scan = scan };
}

static tok_pattern of_literal(const char *s, size_t n)
{
    return (tok_pattern){ .kind = TOK_LITERAL, .s = s, .n = n };
}

/* {"String": …} or {"Regex": …} of key "pattern". */
static int get_pattern(tok *t, const ft_json *o, tok_pattern *p)
{
    const ft_json *v = ft_json_get(o, "pattern");
    bool regex = ft_json_get(v, "Regex") != NULL;
    const char *s;
    uint32_t n;
    int code = get_text(t, v, regex ? "Regex" : "String", &s, &n);
    if (code) return code;
    if (!n) return wrong_field(t, o, "pattern", "an expression that is not empty");
    if (regex) return tok_regex_compile(p, t->h, s, n, true);
    *p = of_literal(s, n);
    return 0;
}

/* ---- reading lists -------------------------------------------------------------------------- */
typedef struct {
    const char *type;
    int (*read)(tok *, const ft_json *);
} reader;

/* Reads step j by its type; `list` is the key of a Sequence's members. */
static int read_step(tok *t, const ft_json *j, int depth, const char *what, const char *list,
                     const reader *known)
{
    if (!j || j->type == FT_JSON_NULL) return 0;
    const char *type = ft_json_str(j, "type", NULL);
    if (!type || depth > DEPTH)
        return t->h->fail(t->h, FT_EFORMAT, type ? "tokenizer.json: %s: sequences are nested deeper "
                          "than 16" : "tokenizer.json: %s has no \"type\"", what);
    if (!strcmp(type, "Sequence")) {
        const ft_json *a = ft_json_get(j, list);
        int code = a && a->type == FT_JSON_ARRAY ? 0 : wrong_field(t, j, list, "a list");
        for (size_t i = 0; !code && i < a->len; i++)
            code = read_step(t, &a->item[i], depth + 1, what, list, known);
        return code;
    }
    for (; known->type; known++) {
        if (!strcmp(known->type, type)) return known->read(t, j);
    }
    return t->h->fail(t->h, FT_EUNSUP, "tokenizer.json: %s \"%.100s\" is not supported by "
                      "tokenizer-bpe", what, type);
}

static int too_many(tok *t, const char *what)
{
    return t->h->fail(t->h, FT_EFORMAT, "tokenizer.json: more than %d %s", TOK_MAX_STEPS, what);
}

/* ---- normalizers ---------------------------------------------------------------------------- */
/* A further step, its memory zeroed; NULL after fail(). */
static tok_norm *add_norm(tok *t, tok_norm_kind kind)
{
    if (t->n_norm == TOK_MAX_STEPS) {
        too_many(t, "normalizers");
        return NULL;
    }
    tok_norm *s = &t->norm[t->n_norm++];
    s->kind = kind;
    return s;
}

static int normal_form(tok *t, tok_norm_kind kind)
{
    return add_norm(t, kind) ? tok_nf_prepare(t, kind) : FT_EFORMAT;
}

static int read_nfc(tok *t, const ft_json *j) { (void)j; return normal_form(t, TOK_NFC); }
static int read_nfd(tok *t, const ft_json *j) { (void)j; return normal_form(t, TOK_NFD); }
static int read_nfkc(tok *t, const ft_json *j) { (void)j; return normal_form(t, TOK_NFKC); }
static int read_nfkd(tok *t, const ft_json *j) { (void)j; return normal_form(t, TOK_NFKD); }

static int read_lowercase(tok *t, const ft_json *j)
{
    (void)j;
    return add_norm(t, TOK_LOWERCASE) ? 0 : FT_EFORMAT;
}

static int read_norm_bytes(tok *t, const ft_json *j)
{
    (void)j;
    return add_norm(t, TOK_MAP_BYTES) ? 0 : FT_EFORMAT;
}

static int read_norm_strip(tok *t, const ft_json *j)
{
    tok_norm *s = add_norm(t, TOK_STRIP);
    if (!s) return FT_EFORMAT;
    int code = get_bool(t, j, "strip_left", true, &s->left);
    return code ? code : get_bool(t, j, "strip_right", true, &s->right);
}

static int read_prepend(tok *t, const ft_json *j)
{
    tok_norm *s = add_norm(t, TOK_PREPEND);
    return s ? get_text(t, j, "prepend", &s->s, &s->n) : FT_EFORMAT;
}

static int read_norm_replace(tok *t, const ft_json *j)
{
    tok_norm *s = add_norm(t, TOK_REPLACE);
    if (!s) return FT_EFORMAT;
    int code = get_pattern(t, j, &s->pattern);
    return code ? code : get_text(t, j, "content", &s->s, &s->n);
}

int tok_read_normalizer(tok *t, const ft_json *j)
{
    static const reader known[] = {
        { "NFC", read_nfc }, { "NFD", read_nfd }, { "NFKC", read_nfkc }, { "NFKD", read_nfkd },
        { "Lowercase", read_lowercase }, { "Strip", read_norm_strip }, { "Prepend", read_prepend },
        { "Replace", read_norm_replace }, { "ByteLevel", read_norm_bytes }, { 0 } };
    return read_step(t, j, 0, "normalizer", "normalizers", known);
}

/* ---- pre-tokenizers ------------------------------------------------------------------------- */
static int add_pre(tok *t, tok_pre s)
{
    if (t->n_pre == TOK_MAX_STEPS) {
        tok_pattern_free(&s.pattern);
        return too_many(t, "pre-tokenizers");
    }
    t->pre[t->n_pre++] = s;
    return 0;
}

static int add_split(tok *t, tok_pattern p, tok_behavior how, bool invert)
{
    return add_pre(t, (tok_pre){ .kind = TOK_SPLIT, .pattern = p, .behavior = how,
                                 .invert = invert });
}

static int get_behavior(tok *t, const ft_json *j, const char *other, tok_behavior *out)
{
    static const char *const names[] = { "Removed", "Isolated", "Contiguous", "MergedWithPrevious",
                                         "MergedWithNext" };
    const char *s = ft_json_str(j, "behavior", other);
    for (int i = 0; i < 5; i++) {
        if (s && !strcmp(s, names[i])) {
            *out = (tok_behavior)i;
            return 0;
        }
    }
    return wrong_field(t, j, "behavior",
                       "Removed, Isolated, Contiguous, MergedWithPrevious or MergedWithNext");
}

static int read_split(tok *t, const ft_json *j)
{
    tok_pattern p = { 0 };
    tok_behavior how;
    bool invert;
    int code = get_behavior(t, j, NULL, &how);
    if (!code) code = get_bool(t, j, "invert", false, &invert);
    if (!code) code = get_pattern(t, j, &p);
    return code ? code : add_split(t, p, how, invert);
}

static int read_pre_bytes(tok *t, const ft_json *j)
{
    bool space, regex;
    int code = get_bool(t, j, "add_prefix_space", true, &space);
    if (!code) code = get_bool(t, j, "use_regex", true, &regex);
    if (!code && space) code = add_pre(t, (tok_pre){ .kind = TOK_PREFIX_SPACE });
    if (!code && regex) code = add_split(t, of_scan(tok_scan_gpt2), TOK_ISOLATED, false);
    return code ? code : add_pre(t, (tok_pre){ .kind = TOK_BYTES });
}

static int read_digits(tok *t, const ft_json *j)
{
    bool each;
    int code = get_bool(t, j, "individual_digits", false, &each);
    if (code) return code;
    return add_split(t, of_scan(tok_scan_digit), each ? TOK_ISOLATED : TOK_CONTIGUOUS, false);
}

static int read_punctuation(tok *t, const ft_json *j)
{
    tok_behavior how;
    int code = get_behavior(t, j, "Isolated", &how);
    return code ? code : add_split(t, of_scan(tok_scan_punct), how, false);
}

static int read_whitespace(tok *t, const ft_json *j)
{
    (void)j;
    return add_split(t, of_scan(tok_scan_word), TOK_REMOVED, true);
}

static int read_whitespace_split(tok *t, const ft_json *j)
{
    (void)j;
    return add_split(t, of_scan(tok_scan_space), TOK_REMOVED, false);
}

static int read_bert(tok *t, const ft_json *j)
{
    int code = read_whitespace_split(t, j);
    return code ? code : add_split(t, of_scan(tok_scan_punct), TOK_ISOLATED, false);
}

static int read_pre_metaspace(tok *t, const ft_json *j)
{
    static const char *const schemes[] = { "always", "first", "never" };
    tok_pre s = { .kind = TOK_METASPACE, .pattern = of_literal(" ", 1), .prepend = -1 };
    const char *rep, *scheme = ft_json_str(j, "prepend_scheme", "always");
    uint32_t n;
    bool prefix, split;
    int code = get_char(t, j, "replacement", &rep, &n);
    if (!code) code = get_bool(t, j, "add_prefix_space", true, &prefix);
    if (!code) code = get_bool(t, j, "split", true, &split);
    if (code) return code;
    for (int i = 0; i < 3; i++) {
        if (!strcmp(scheme, schemes[i])) s.prepend = i;
    }
    if (s.prepend < 0) return wrong_field(t, j, "prepend_scheme", "always, first or never");
    if (!prefix) s.prepend = TOK_NEVER;
    memcpy(s.rep, rep, n);
    code = add_pre(t, s);
    return code || !split ? code : add_split(t, of_literal(rep, n), TOK_MERGED_NEXT, false);
}

int tok_read_pre(tok *t, const ft_json *j)
{
    static const reader known[] = {
        { "Split", read_split }, { "ByteLevel", read_pre_bytes }, { "Digits", read_digits },
        { "Punctuation", read_punctuation }, { "Whitespace", read_whitespace },
        { "WhitespaceSplit", read_whitespace_split }, { "BertPreTokenizer", read_bert },
        { "Metaspace", read_pre_metaspace }, { 0 } };
    return read_step(t, j, 0, "pre_tokenizer", "pretokenizers", known);
}

/* ---- decoders ------------------------------------------------------------------------------- */
static tok_dec *add_dec(tok *t, tok_dec_kind kind)
{
    if (t->n_dec == TOK_MAX_STEPS) {
        too_many(t, "decoders");
        return NULL;
    }
    tok_dec *s = &t->dec[t->n_dec++];
    s->kind = kind;
    return s;
}

static int plain_decoder(tok *t, tok_dec_kind kind) { return add_dec(t, kind) ? 0 : FT_EFORMAT; }
static int read_dec_bytes(tok *t, const ft_json *j) { (void)j; return plain_decoder(t, TOK_D_BYTES); }
static int read_fuse(tok *t, const ft_json *j) { (void)j; return plain_decoder(t, TOK_D_FUSE); }

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
    int code = get_bool(t, j, "add_prefix_space", true, &prefix);
    s->prepend = prefix && strcmp(ft_json_str(j, "prepend_scheme", "always"), "never");
    return code ? code : get_char(t, j, "replacement", &s->s, &s->n);
}

static int read_dec_replace(tok *t, const ft_json *j)
{
    tok_dec *s = add_dec(t, TOK_D_REPLACE);
    if (!s) return FT_EFORMAT;
    int code = get_pattern(t, j, &s->pattern);
    return code ? code : get_text(t, j, "content", &s->s, &s->n);
}

static int read_dec_strip(tok *t, const ft_json *j)
{
    tok_dec *s = add_dec(t, TOK_D_STRIP);
    if (!s) return FT_EFORMAT;
    int code = get_char(t, j, "content", &s->s, &s->n);
    if (!code) code = get_count(t, j, "start", &s->start);
    return code ? code : get_count(t, j, "stop", &s->stop);
}

/* BPEDecoder: the suffix becomes a blank, in the last token nothing. */
static int read_suffix(tok *t, const ft_json *j)
{
    tok_dec *s = add_dec(t, TOK_D_SUFFIX);
    const char *suffix;
    uint32_t n;
    if (!s) return FT_EFORMAT;
    int code = get_text(t, j, "suffix", &suffix, &n);
    if (!code && !n) code = wrong_field(t, j, "suffix", "a text that is not empty");
    if (!code) s->pattern = of_literal(suffix, n);
    s->s = " ";
    s->n = 1;
    return code;
}

int tok_read_decoder(tok *t, const ft_json *j)
{
    static const reader known[] = {
        { "ByteLevel", read_dec_bytes }, { "Metaspace", read_dec_metaspace },
        { "Replace", read_dec_replace }, { "ByteFallback", read_fallback }, { "Fuse", read_fuse },
        { "Strip", read_dec_strip }, { "BPEDecoder", read_suffix }, { 0 } };
    return read_step(t, j, 0, "decoder", "decoders", known);
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
    int code = get_bool(t, j, "trim_offsets", true, &trim);
    if (!code) code = get_bool(t, j, "add_prefix_space", true, &space);
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
    if (!single || single->type != FT_JSON_ARRAY) return wrong_field(t, j, "single", "a list");
    int code = only_one(t, t->templated);
    t->templated = true;
    for (size_t i = 0; !code && i < single->len; i++) {
        const ft_json *seq = ft_json_get(&single->item[i], "Sequence");
        const ft_json *token = ft_json_get(&single->item[i], "SpecialToken");
        const ft_json *ids = ft_json_get(ft_json_get(table, ft_json_str(token, "id", "")), "ids");
        if (seq && (seen || strcmp(ft_json_str(seq, "id", ""), "A")))
            return wrong_field(t, j, "single", "the sequence A once");
        seen = seen || seq;
        if (seq) continue;
        if (!ids || ids->type != FT_JSON_ARRAY)
            return wrong_field(t, j, "special_tokens", "ids for every special token");
        for (size_t k = 0; !code && k < ids->len; k++) code = add_special(t, j, &ids->item[k], seen);
    }
    return code || seen ? code : wrong_field(t, j, "single", "the sequence A");
}

/* BertProcessing: cls and sep, each ["spelling", id], around the sequence. */
static int read_cls_sep(tok *t, const ft_json *j)
{
    const ft_json *cls = ft_json_get(j, "cls"), *sep = ft_json_get(j, "sep");
    bool good = cls && sep && cls->type == FT_JSON_ARRAY && sep->type == FT_JSON_ARRAY &&
                cls->len == 2 && sep->len == 2;
    int code = good ? only_one(t, t->templated) : wrong_field(t, j, "cls", "[spelling, id]");
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
    static const reader known[] = {
        { "ByteLevel", read_post_bytes }, { "TemplateProcessing", read_template },
        { "BertProcessing", read_cls_sep }, { "RobertaProcessing", read_roberta }, { 0 } };
    return read_step(t, j, 0, "post_processor", "processors", known);
}
