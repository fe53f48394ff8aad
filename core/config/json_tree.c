/* json_tree.c -- a JSON value as the tree of yaml.h, so that adapter_config.json is typed by the
 * same rows as YAML.  Places are found with one pass over the text, as values come in its order. */
#include <string.h>
#include "core/config/fill.h"

typedef struct {
    ft_arena *arena;
    const ft_config_file *file;
    size_t at;          /* bytes passed so far */
    uint32_t line, col; /* of that byte */
} walker;

/* The place of a byte at or after the last one asked for. */
static ft_mark mark_of(walker *w, size_t byte)
{
    for (; w->at < byte && w->at < w->file->n; w->at++) {
        char c = w->file->text[w->at];
        if (c == '\n') {
            w->line++;
            w->col = 1;
        } else if ((c & 0xC0) != 0x80) {
            w->col++;
        }
    }
    return (ft_mark){ w->file, w->line, w->col };
}

/* Recursion is bounded by the JSON reader's depth of 512. */
static ft_yaml *convert(walker *w, const ft_json *v)
{
    static const ft_yaml_type types[] = {
        [FT_JSON_NULL] = FT_YAML_SCALAR, [FT_JSON_BOOL] = FT_YAML_SCALAR,
        [FT_JSON_NUMBER] = FT_YAML_SCALAR, [FT_JSON_STRING] = FT_YAML_SCALAR,
        [FT_JSON_ARRAY] = FT_YAML_LIST, [FT_JSON_OBJECT] = FT_YAML_MAP,
    };
    ft_yaml *out = ft_yaml_new(w->arena, types[v->type], mark_of(w, v->at));
    if (!out) return NULL;
    out->key_at = out->at;
    out->quoted = v->type == FT_JSON_STRING;
    if (v->type == FT_JSON_NULL) out->text = "null";
    if (v->type == FT_JSON_BOOL) out->text = v->truth ? "true" : "false";
    if (out->text) out->len = strlen(out->text);
    if (v->type == FT_JSON_NUMBER || v->type == FT_JSON_STRING) {
        out->text = ft_arena_strndup(w->arena, v->text, v->len);
        out->len = v->len;
        return out->text ? out : NULL;
    }
    for (size_t i = 0; out->type != FT_YAML_SCALAR && i < v->len; i++) {
        ft_yaml *item = convert(w, &v->item[i]);
        if (!item) return NULL;
        if (v->type == FT_JSON_OBJECT &&
            !(item->key = ft_arena_strndup(w->arena, v->item[i].key, v->item[i].key_len)))
            return NULL;
        ft_yaml_append(out, item);
    }
    return out;
}

ft_yaml *ft_yaml_from_json(ft_arena *a, const ft_config_file *f, const ft_json *v)
{
    walker w = { .arena = a, .file = f, .line = 1, .col = 1 };
    return convert(&w, v);
}
