/* fields.c -- reading the steps of a tokenizer.json: their fields, and lists of them.
 *
 * Every step is read by the reader that a table has for its type; Sequence goes down into its
 * members.  A type that is not in the table is refused by its name, since leaving it out would give
 * other tokens.  Defaults of absent fields are HF tokenizers'. */
#include "load.h"

enum { DEPTH = 16 }; /* sequences within sequences */

int tok_wrong_field(tok *t, const ft_json *o, const char *key, const char *want)
{
    return t->h->fail(t->h, FT_EFORMAT, "tokenizer.json: %s needs \"%s\": %s",
                      ft_json_str(o, "type", "a step"), key, want);
}

/* Stays at `other` when absent or null. */
int tok_get_bool(tok *t, const ft_json *o, const char *key, bool other, bool *out)
{
    const ft_json *v = ft_json_get(o, key);
    *out = v && v->type == FT_JSON_BOOL ? v->truth : other;
    if (!v || v->type == FT_JSON_NULL || v->type == FT_JSON_BOOL) return 0;
    return tok_wrong_field(t, o, key, "true or false");
}

int tok_get_text(tok *t, const ft_json *o, const char *key, const char **s, uint32_t *n)
{
    const ft_json *v = ft_json_get(o, key);
    if (!v || v->type != FT_JSON_STRING || v->len > TOK_MAX_TEXT)
        return tok_wrong_field(t, o, key, "a text of at most 64 KiB");
    *s = tok_keep(t, v->text, v->len);
    *n = (uint32_t)v->len;
    return *s ? 0 : FT_ENOMEM;
}

/* A text of one character. */
int tok_get_char(tok *t, const ft_json *o, const char *key, const char **s, uint32_t *n)
{
    uint32_t len = 0;
    int code = tok_get_text(t, o, key, s, n);
    if (!code && *n) tok_char(*s, 0, &len);
    return code || (*n && len == *n) ? code : tok_wrong_field(t, o, key, "one character");
}

int tok_get_count(tok *t, const ft_json *o, const char *key, uint32_t *out)
{
    int64_t v = 0;
    const ft_json *j = ft_json_get(o, key);
    if (!t->json->to_int(j, &v) || v < 0 || v > UINT32_MAX / 2)
        return tok_wrong_field(t, o, key, "a number");
    *out = (uint32_t)v;
    return 0;
}

tok_pattern tok_literal(const char *s, size_t n)
{
    return (tok_pattern){ .kind = TOK_LITERAL, .s = s, .n = n };
}

/* {"String": …} or {"Regex": …} of key "pattern". */
int tok_get_pattern(tok *t, const ft_json *o, tok_pattern *p)
{
    const ft_json *v = ft_json_get(o, "pattern");
    bool regex = ft_json_get(v, "Regex") != NULL;
    const char *s;
    uint32_t n;
    int code = tok_get_text(t, v, regex ? "Regex" : "String", &s, &n);
    if (code) return code;
    if (!n) return tok_wrong_field(t, o, "pattern", "an expression that is not empty");
    t->n_regex += regex ? n : 0;
    if (t->n_regex > TOK_MAX_PATTERNS)
        return t->h->fail(t->h, FT_EFORMAT,
                          "tokenizer.json: its regular expressions have more than "
                          "%d bytes together",
                          TOK_MAX_PATTERNS);
    if (regex) return tok_regex_compile(p, t->h, s, n, true);
    *p = tok_literal(s, n);
    return 0;
}

/* ---- reading lists -------------------------------------------------------------------------- */
/* Reads step j by its type; `list` is the key of a Sequence's members. */
int tok_read_steps(tok *t, const ft_json *j, int depth, const char *what, const char *list,
                     const tok_reader *known)
{
    if (!j || j->type == FT_JSON_NULL) return 0;
    const char *type = ft_json_str(j, "type", NULL);
    if (!type || depth > DEPTH)
        return t->h->fail(t->h, FT_EFORMAT, type
                          ? "tokenizer.json: %s: sequences are nested deeper than 16"
                          : "tokenizer.json: %s has no \"type\"", what);
    if (!strcmp(type, "Sequence")) {
        const ft_json *a = ft_json_get(j, list);
        int code = a && a->type == FT_JSON_ARRAY ? 0 : tok_wrong_field(t, j, list, "a list");
        for (size_t i = 0; !code && i < a->len; i++)
            code = tok_read_steps(t, &a->item[i], depth + 1, what, list, known);
        return code;
    }
    for (; known->type; known++) {
        if (!strcmp(known->type, type)) return known->read(t, j);
    }
    return t->h->fail(t->h, FT_EUNSUP, "tokenizer.json: %s \"%.100s\" is not supported", what,
                      type);
}

int tok_too_many(tok *t, const char *what)
{
    return t->h->fail(t->h, FT_EFORMAT, "tokenizer.json: more than %d %s", TOK_MAX_STEPS, what);
}
