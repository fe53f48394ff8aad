/* yaml.c -- libyaml's events into the tree of yaml.h.
 *
 * Only the event interface is used: it keeps line and column, and it builds nothing by itself, so
 * that an alias bomb (a few hundred bytes that unfold into 9^10 nodes) stays a few hundred events
 * and is refused at its first anchor.  The walk recurses at most FT_YAML_DEPTH deep.  libyaml
 * would take UTF-16 and ignore duplicate keys; both are dealt with here. */
#include "core/config/yaml.h"
#include <stdlib.h>
#include <string.h>
#include <yaml.h>
#include "core/base/utf8.h"

typedef struct {
    yaml_parser_t yaml;
    ft_arena *arena;
    const ft_config_file *file;
    const char *text;  /* of the parsed part */
    size_t n;
    uint32_t col_shift; /* added to columns of the first line */
    size_t *events;
    ft_diags *diags;
    bool flow_only;     /* a value: a list or map must be in brackets */
} reader;

/* libyaml counts from zero, and from the start of the parsed part. */
static ft_mark mark(const reader *r, yaml_mark_t m)
{
    uint32_t shift = m.line == 0 ? r->col_shift : 0;
    return (ft_mark){ r->file, (uint32_t)m.line + 1, (uint32_t)m.column + 1 + shift };
}

/* Place of byte `at` of the text. */
static ft_mark mark_of_byte(const reader *r, size_t at)
{
    yaml_mark_t m = { 0, 0, 0 };
    for (size_t i = 0; i < at && i < r->n; i++) {
        if (r->text[i] == '\n') {
            m.line++;
            m.column = 0;
        } else if ((r->text[i] & 0xC0) != 0x80) {
            m.column++;
        }
    }
    return mark(r, m);
}

/* The character at a place that libyaml reports; 0 past the end. */
static char char_at(const reader *r, yaml_mark_t m)
{
    size_t i = 0;
    for (size_t left = m.index; left && i < r->n; left--) {
        size_t k = ft_utf8_length(r->text + i, r->n - i);
        i += k ? k : 1;
    }
    return i < r->n ? r->text[i] : 0;
}

/* ---- errors -------------------------------------------------------------------------------- */

/* What a user can do about libyaml's complaints. */
static const char *remedy(const char *problem)
{
    static const char *const hints[][2] = {
        { "mapping values are not allowed", "put text that holds \": \" in quotes, or check the "
                                            "indentation" },
        { "did not find expected key", "keys of one map start in the same column" },
        { "did not find expected '-' indicator", "items of one list start in the same column" },
        { "could not find expected ':'", "a key needs a ':' and a blank after it" },
        { "did not find expected ',' or", "is a comma or a closing bracket missing? In brackets, "
                                          "${…} must stand in quotes" },
        { "found character that cannot start any token", "put the text in quotes" },
        { "found unexpected end of stream", "is a closing quote missing?" },
    };
    for (size_t i = 0; i < sizeof hints / sizeof *hints; i++) {
        if (strstr(problem, hints[i][0])) return hints[i][1];
    }
    return NULL;
}

/* Where to point: what is still open at the end is shown where it was opened, if that is not the
 * end itself. */
static ft_mark place_of_problem(const reader *r)
{
    const yaml_parser_t *y = &r->yaml;
    size_t end = r->n;
    if (char_at(r, y->problem_mark)) return mark(r, y->problem_mark);
    if (y->context && char_at(r, y->context_mark)) return mark(r, y->context_mark);
    while (end && strchr(" \t\r\n", r->text[end - 1])) end--;
    return mark_of_byte(r, end);
}

/* Reports what libyaml stumbled over. */
static int syntax_error(reader *r)
{
    yaml_parser_t *y = &r->yaml;
    const char *problem = y->problem ? y->problem : "cannot be read";
    if (y->error == YAML_MEMORY_ERROR) {
        r->diags->no_memory = true;
        return FT_ENOMEM;
    }
    if (y->error == YAML_READER_ERROR) {
        ft_diag(r->diags, mark_of_byte(r, y->problem_offset), "not YAML: %s (U+%04X)", problem,
                (unsigned)y->problem_value);
        return FT_EFORMAT;
    }
    if (char_at(r, y->problem_mark) == '\t') {
        ft_diag(r->diags, mark(r, y->problem_mark),
                "a tab stands where YAML takes only blanks; indent with blanks");
        return FT_EFORMAT;
    }
    const char *hint = remedy(problem);
    ft_diag(r->diags, place_of_problem(r), "not YAML: %s%s%s%s%s", problem,
            y->context ? " " : "", y->context ? y->context : "", hint ? "; " : "",
            hint ? hint : "");
    return FT_EFORMAT;
}

/* Notes it for the caller of the parse; returns the code. */
static int no_memory(reader *r)
{
    r->diags->no_memory = true;
    return FT_ENOMEM;
}

/* ---- events -------------------------------------------------------------------------------- */

/* The next event, which the caller deletes; counted over all files of a configuration. */
static int next(reader *r, yaml_event_t *e)
{
    if (++*r->events > FT_YAML_EVENTS) {
        ft_diag(r->diags, mark(r, r->yaml.mark),
                "more than %d keys, values and brackets; a configuration is smaller",
                FT_YAML_EVENTS);
        return FT_EFORMAT;
    }
    return yaml_parser_parse(&r->yaml, e) ? 0 : syntax_error(r);
}

/* True, and reported, when a node has either.  What it marks is read on, so that more errors than
 * this one come out. */
static bool refuse_anchor_or_tag(reader *r, ft_mark at, const yaml_char_t *anchor,
                                 const yaml_char_t *tag)
{
    if (anchor)
        ft_diag(r->diags, at, "anchor &%.64s: anchors and aliases are not read; use vars: and "
                "${vars.NAME}, or extends:", (const char *)anchor);
    if (tag)
        ft_diag(r->diags, at, "tag %.64s: tags are not read; types come from the parameter tables",
                (const char *)tag);
    return anchor || tag;
}

static int read_node(reader *r, yaml_event_t *e, int depth, ft_yaml **out);

/* Keeps the text and whether quotes or a block made it text. */
static int read_scalar(reader *r, const yaml_event_t *e, ft_yaml **out)
{
    bool plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    ft_yaml *v = ft_yaml_new(r->arena, FT_YAML_SCALAR, mark(r, e->start_mark));
    if (!v) return no_memory(r);
    v->quoted = !plain;
    v->len = e->data.scalar.length;
    v->text = ft_arena_strndup(r->arena, (const char *)e->data.scalar.value, v->len);
    if (!v->text) return no_memory(r);
    if (refuse_anchor_or_tag(r, v->at, e->data.scalar.anchor, e->data.scalar.tag))
        v->type = FT_YAML_BAD;
    *out = v;
    return 0;
}

/* Items up to the end of the list. */
static int read_list(reader *r, ft_yaml *list, int depth)
{
    for (;;) {
        yaml_event_t e;
        ft_yaml *item = NULL;
        int code = next(r, &e);
        if (code) return code;
        bool end = e.type == YAML_SEQUENCE_END_EVENT;
        if (!end && list->n >= FT_YAML_ITEMS) {
            ft_diag(r->diags, mark(r, e.start_mark), "a list has more than %d items",
                    FT_YAML_ITEMS);
            code = FT_EFORMAT;
        }
        if (!end && !code) code = read_node(r, &e, depth + 1, &item);
        yaml_event_delete(&e);
        if (code || end) return code;
        ft_yaml_append(list, item);
    }
}

/* The text of a key; *key NULL (and an error noted) when it is none. */
static int read_key(reader *r, const yaml_event_t *e, const char **key)
{
    ft_mark at = mark(r, e->start_mark);
    *key = NULL;
    if (e->type != YAML_SCALAR_EVENT) {
        ft_diag(r->diags, at, "a key must be a word, not a list, map or alias");
        return 0;
    }
    const char *s = (const char *)e->data.scalar.value;
    size_t n = e->data.scalar.length;
    if (refuse_anchor_or_tag(r, at, e->data.scalar.anchor, e->data.scalar.tag)) return 0;
    if (n == 0 || strlen(s) != n) {
        ft_diag(r->diags, at, n ? "a key holds a zero byte" : "a key is empty");
        return 0;
    }
    *key = ft_arena_strndup(r->arena, s, n);
    return *key ? 0 : no_memory(r);
}

/* Sorted, equal keys are neighbours: no square of the number of keys. */
static int refuse_duplicates(reader *r, const ft_yaml *map)
{
    if (map->n < 2) return 0;
    ft_yaml **p = ft_yaml_sorted(map);
    if (!p) return no_memory(r);
    for (size_t i = 1; i < map->n; i++) {
        if (!strcmp(p[i - 1]->key, p[i]->key))
            ft_diag(r->diags, p[i]->key_at, "duplicate key \"%.64s\"; line %u has it already",
                    p[i]->key, p[i - 1]->key_at.line);
    }
    free(p);
    return 0;
}

/* One `key: value`; the value of a refused key is read and dropped. */
static int read_member(reader *r, const yaml_event_t *key_event, ft_yaml *map, int depth)
{
    const char *key;
    yaml_event_t e;
    ft_yaml *v = NULL;
    ft_mark key_at = mark(r, key_event->start_mark);
    int code = read_key(r, key_event, &key);
    if (code) return code;
    if (!key && (key_event->type == YAML_MAPPING_START_EVENT ||
                 key_event->type == YAML_SEQUENCE_START_EVENT))
        return FT_EFORMAT; /* its inside would be taken for values: stop here */
    code = next(r, &e);
    if (code) return code;
    code = read_node(r, &e, depth + 1, &v);
    yaml_event_delete(&e);
    if (code || !key) return code;
    v->key = key;
    v->key_at = key_at;
    ft_yaml_append(map, v);
    return 0;
}

/* Members up to the end of the map. */
static int read_map(reader *r, ft_yaml *map, int depth)
{
    for (;;) {
        yaml_event_t e;
        int code = next(r, &e);
        if (code) return code;
        bool end = e.type == YAML_MAPPING_END_EVENT;
        if (!end && map->n >= FT_YAML_KEYS) {
            ft_diag(r->diags, mark(r, e.start_mark), "a map has more than %d keys", FT_YAML_KEYS);
            code = FT_EFORMAT;
        }
        if (!end && !code) code = read_member(r, &e, map, depth);
        yaml_event_delete(&e);
        if (code) return code;
        if (end) return refuse_duplicates(r, map);
    }
}

/* A list or map whose start event is e. */
static int read_items(reader *r, const yaml_event_t *e, int depth, ft_yaml **out)
{
    bool list = e->type == YAML_SEQUENCE_START_EVENT;
    ft_mark at = mark(r, e->start_mark);
    bool block = list ? e->data.sequence_start.style == YAML_BLOCK_SEQUENCE_STYLE
                      : e->data.mapping_start.style == YAML_BLOCK_MAPPING_STYLE;
    if (depth >= FT_YAML_DEPTH) {
        ft_diag(r->diags, at, "nested deeper than %d", FT_YAML_DEPTH);
        return FT_EFORMAT;
    }
    if (block && r->flow_only) {
        ft_diag(r->diags, at, "write a list as [a, b] and a map as {k: v} here; text that looks "
                "like one goes in quotes");
        return FT_EFORMAT;
    }
    ft_yaml *v = ft_yaml_new(r->arena, list ? FT_YAML_LIST : FT_YAML_MAP, at);
    if (!v) return no_memory(r);
    bool bad = list ? refuse_anchor_or_tag(r, at, e->data.sequence_start.anchor,
                                           e->data.sequence_start.tag)
                    : refuse_anchor_or_tag(r, at, e->data.mapping_start.anchor,
                                           e->data.mapping_start.tag);
    int code = list ? read_list(r, v, depth) : read_map(r, v, depth);
    if (bad) v->type = FT_YAML_BAD;
    *out = v;
    return code;
}

/* The node that starts with event e.  depth: how many lists and maps are open around it. */
static int read_node(reader *r, yaml_event_t *e, int depth, ft_yaml **out)
{
    if (e->type == YAML_SCALAR_EVENT) return read_scalar(r, e, out);
    if (e->type != YAML_ALIAS_EVENT) return read_items(r, e, depth, out);
    ft_mark at = mark(r, e->start_mark);
    ft_diag(r->diags, at, "alias *%.64s: anchors and aliases are not read; use vars: and "
            "${vars.NAME}, or extends:", (const char *)e->data.alias.anchor);
    *out = ft_yaml_new(r->arena, FT_YAML_BAD, at);
    return *out ? 0 : no_memory(r);
}

/* ---- documents ----------------------------------------------------------------------------- */

/* Stream start, one document, stream end. */
static int read_stream(reader *r, ft_yaml **root)
{
    for (bool seen = false;;) {
        yaml_event_t e;
        int code = next(r, &e);
        if (code) return code;
        bool end = e.type == YAML_STREAM_END_EVENT;
        if (e.type == YAML_DOCUMENT_START_EVENT && seen) {
            ft_diag(r->diags, mark(r, e.start_mark),
                    "a second document starts here; a file holds one");
            code = FT_EFORMAT;
        } else if (e.type == YAML_DOCUMENT_START_EVENT) {
            seen = true;
        } else if (!end && e.type != YAML_STREAM_START_EVENT &&
                   e.type != YAML_DOCUMENT_END_EVENT) {
            code = read_node(r, &e, 0, root);
        }
        yaml_event_delete(&e);
        if (code || end) return code;
    }
}

/* Checks the bytes, then parses them.  A document without content leaves *root NULL. */
static int run(reader *r, ft_yaml **root)
{
    size_t bad;
    *root = NULL;
    if (!ft_utf8_valid(r->text, r->n, &bad)) {
        ft_diag(r->diags, mark_of_byte(r, bad), "byte 0x%02X is not UTF-8; save the file as UTF-8",
                (unsigned)(unsigned char)r->text[bad]);
        return FT_EFORMAT;
    }
    if (!yaml_parser_initialize(&r->yaml)) return no_memory(r);
    yaml_parser_set_encoding(&r->yaml, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r->yaml, (const unsigned char *)r->text, r->n);
    int code = read_stream(r, root);
    yaml_parser_delete(&r->yaml);
    if (code) *root = NULL;
    return code;
}

int ft_yaml_parse(ft_yaml **root, ft_arena *a, const ft_config_file *f, size_t *events, ft_diags *d)
{
    reader r = { .arena = a, .file = f, .text = f->text, .n = f->n, .events = events, .diags = d };
    return run(&r, root);
}

int ft_yaml_parse_value(ft_yaml **value, ft_arena *a, const ft_config_file *f, uint32_t col,
                        ft_diags *d)
{
    size_t events = 0, skip = 0;
    for (uint32_t c = 1; c < col && skip < f->n; c++) {
        size_t k = ft_utf8_length(f->text + skip, f->n - skip);
        skip += k ? k : 1;
    }
    reader r = { .arena = a, .file = f, .text = f->text + skip, .n = f->n - skip,
                 .col_shift = col - 1, .events = &events, .diags = d, .flow_only = true };
    int code = run(&r, value);
    if (code || *value) return code;
    *value = ft_yaml_new_text(a, "", (ft_mark){ f, 1, col });
    return *value ? 0 : no_memory(&r);
}
