/* steps.c -- normalizer and pre_tokenizer of tokenizer.json become lists of steps: what is done to
 * text before the model sees it. */
#include "load.h"

static tok_pattern of_scan(tok_scan scan)
{
    return (tok_pattern){ .kind = TOK_SCAN, .scan = scan };
}

/* ---- normalizers ---------------------------------------------------------------------------- */
/* A further step, its memory zeroed; NULL after fail(). */
static tok_norm *add_norm(tok *t, tok_norm_kind kind)
{
    if (t->n_norm == TOK_MAX_STEPS) {
        tok_too_many(t, "normalizers");
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
    int code = tok_get_bool(t, j, "strip_left", true, &s->left);
    return code ? code : tok_get_bool(t, j, "strip_right", true, &s->right);
}

static int read_prepend(tok *t, const ft_json *j)
{
    tok_norm *s = add_norm(t, TOK_PREPEND);
    return s ? tok_get_text(t, j, "prepend", &s->s, &s->n) : FT_EFORMAT;
}

static int read_norm_replace(tok *t, const ft_json *j)
{
    tok_norm *s = add_norm(t, TOK_REPLACE);
    if (!s) return FT_EFORMAT;
    int code = tok_get_pattern(t, j, &s->pattern);
    return code ? code : tok_get_text(t, j, "content", &s->s, &s->n);
}

static int add_plain(tok *t, tok_norm_kind kind) { return add_norm(t, kind) ? 0 : FT_EFORMAT; }

static int read_strip_accents(tok *t, const ft_json *j)
{
    (void)j;
    return add_plain(t, TOK_DROP_M);
}

static int read_nmt(tok *t, const ft_json *j)
{
    (void)j;
    return add_plain(t, TOK_NMT);
}

/* Its parts, one after the other; accents go with the capitals where nothing is said of them. */
static int read_norm_bert(tok *t, const ft_json *j)
{
    bool clean, chinese, lower, strip;
    int code = tok_get_bool(t, j, "clean_text", true, &clean);
    if (!code) code = tok_get_bool(t, j, "handle_chinese_chars", true, &chinese);
    if (!code) code = tok_get_bool(t, j, "lowercase", true, &lower);
    if (!code) code = tok_get_bool(t, j, "strip_accents", lower, &strip);
    if (!code && clean) code = add_plain(t, TOK_CLEAN);
    if (!code && chinese) code = add_plain(t, TOK_CHINESE);
    if (!code && strip) code = normal_form(t, TOK_NFD);
    if (!code && strip) code = add_plain(t, TOK_DROP_MN);
    return !code && lower ? add_plain(t, TOK_LOWERCASE) : code;
}

static int read_precompiled(tok *t, const ft_json *j)
{
    const ft_json *map = ft_json_get(j, "precompiled_charsmap");
    ft_buf b = { 0 };
    if (!map || map->type == FT_JSON_NULL) return 0; /* as HF has it */
    tok_norm *s = add_norm(t, TOK_CHARSMAP);
    if (!s) return FT_EFORMAT;
    if (map->type != FT_JSON_STRING || map->len / 4 * 3 > TOK_MAX_CHARSMAP ||
        !tok_base64(&b, map->text, map->len)) {
        ft_buf_free(&b);
        return tok_wrong_field(t, j, "precompiled_charsmap", "base64 of at most 16 MiB");
    }
    int code = b.oom ? tok_no_memory(t->h) : tok_charsmap_read(t, s, b.p ? b.p : "", b.n);
    ft_buf_free(&b);
    return code;
}

int tok_read_normalizer(tok *t, const ft_json *j)
{
    static const tok_reader known[] = {
        { "NFC", read_nfc }, { "NFD", read_nfd }, { "NFKC", read_nfkc }, { "NFKD", read_nfkd },
        { "Lowercase", read_lowercase }, { "Strip", read_norm_strip }, { "Prepend", read_prepend },
        { "Replace", read_norm_replace }, { "ByteLevel", read_norm_bytes },
        { "BertNormalizer", read_norm_bert }, { "StripAccents", read_strip_accents },
        { "Nmt", read_nmt }, { "Precompiled", read_precompiled }, { 0 } };
    return tok_read_steps(t, j, 0, "normalizer", "normalizers", known);
}

/* ---- pre-tokenizers ------------------------------------------------------------------------- */
static int add_pre(tok *t, tok_pre s)
{
    if (t->n_pre == TOK_MAX_STEPS) {
        tok_pattern_free(&s.pattern);
        return tok_too_many(t, "pre-tokenizers");
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
    return tok_wrong_field(t, j, "behavior",
                       "Removed, Isolated, Contiguous, MergedWithPrevious or MergedWithNext");
}

static int read_split(tok *t, const ft_json *j)
{
    tok_pattern p = { 0 };
    tok_behavior how;
    bool invert;
    int code = get_behavior(t, j, NULL, &how);
    if (!code) code = tok_get_bool(t, j, "invert", false, &invert);
    if (!code) code = tok_get_pattern(t, j, &p);
    return code ? code : add_split(t, p, how, invert);
}

static int read_pre_bytes(tok *t, const ft_json *j)
{
    bool space, regex;
    int code = tok_get_bool(t, j, "add_prefix_space", true, &space);
    if (!code) code = tok_get_bool(t, j, "use_regex", true, &regex);
    if (!code && space) code = add_pre(t, (tok_pre){ .kind = TOK_PREFIX_SPACE });
    if (!code && regex) code = add_split(t, of_scan(tok_scan_gpt2), TOK_ISOLATED, false);
    return code ? code : add_pre(t, (tok_pre){ .kind = TOK_BYTES });
}

static int read_digits(tok *t, const ft_json *j)
{
    bool each;
    int code = tok_get_bool(t, j, "individual_digits", false, &each);
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
    tok_pre s = { .kind = TOK_METASPACE, .pattern = tok_literal(" ", 1), .prepend = -1 };
    const char *rep, *scheme = ft_json_str(j, "prepend_scheme", "always");
    uint32_t n;
    bool prefix, split;
    int code = tok_get_char(t, j, "replacement", &rep, &n);
    if (!code) code = tok_get_bool(t, j, "add_prefix_space", true, &prefix);
    if (!code) code = tok_get_bool(t, j, "split", true, &split);
    if (code) return code;
    for (int i = 0; i < 3; i++) {
        if (!strcmp(scheme, schemes[i])) s.prepend = i;
    }
    if (s.prepend < 0) return tok_wrong_field(t, j, "prepend_scheme", "always, first or never");
    if (!prefix) s.prepend = TOK_NEVER;
    memcpy(s.rep, rep, n);
    code = add_pre(t, s);
    return code || !split ? code : add_split(t, tok_literal(rep, n), TOK_MERGED_NEXT, false);
}

int tok_read_pre(tok *t, const ft_json *j)
{
    static const tok_reader known[] = {
        { "Split", read_split }, { "ByteLevel", read_pre_bytes }, { "Digits", read_digits },
        { "Punctuation", read_punctuation }, { "Whitespace", read_whitespace },
        { "WhitespaceSplit", read_whitespace_split }, { "BertPreTokenizer", read_bert },
        { "Metaspace", read_pre_metaspace }, { 0 } };
    return tok_read_steps(t, j, 0, "pre_tokenizer", "pretokenizers", known);
}
