/* yaml.h -- YAML as the project reads it: a tree of scalars, lists and maps whose every part
 * knows its place.
 *
 * Scalars keep their text; what they mean is decided by the parameter table that types them, never
 * here (so `2e-4` is a number where a number is asked for).  Refused by name: anchors, aliases,
 * tags, several documents, duplicate keys, keys that are not scalars, tabs as indentation, bytes
 * that are not UTF-8.  Bounded: FT_YAML_BYTES a file, depth, keys a map, items a list,
 * and parser events over all files that share a counter. */
#ifndef FT_CORE_YAML_H
#define FT_CORE_YAML_H
#include "core/base/arena.h"
#include "core/config/diag.h"

enum {
    FT_YAML_BYTES = 1 << 20,
    FT_YAML_DEPTH = 64,
    FT_YAML_EVENTS = 200000,
    FT_YAML_KEYS = 4096,   /* in one map */
    FT_YAML_ITEMS = 16384, /* in one list */
};

typedef enum {
    FT_YAML_SCALAR,
    FT_YAML_LIST,
    FT_YAML_MAP,
    FT_YAML_BAD, /* an error has been reported here: typing skips it */
} ft_yaml_type;

typedef struct ft_yaml ft_yaml;
struct ft_yaml {
    ft_yaml_type type;
    bool quoted;       /* SCALAR: in quotes or a block scalar: text, whatever it says */
    char visit;        /* interpolation: 0 not yet, 1 under way, 2 done */
    const char *text;  /* SCALAR: zero-terminated; may hold zero bytes */
    size_t len;        /* bytes of text */
    ft_yaml *first, *last, *next; /* LIST, MAP: the items; next: the sibling */
    size_t n;          /* number of items */
    const char *key;   /* inside a map; without zero bytes */
    ft_mark at, key_at;
};

/* Parses a file's text into *root (NULL: an empty document).  Errors go to d; a syntax error
 * gives FT_EFORMAT and no tree, any other error a tree with BAD nodes.  *events counts over
 * several files. */
int ft_yaml_parse(ft_yaml **root, ft_arena *a, const ft_config_file *f, size_t *events,
                  ft_diags *d);

/* Parses the value of a `key=value` argument or a default: one scalar or a list or map in
 * brackets.  It starts at column `col` of f's first line. */
int ft_yaml_parse_value(ft_yaml **value, ft_arena *a, const ft_config_file *f, uint32_t col,
                        ft_diags *d);

/* A plain scalar that says "not given": empty, ~ or null. */
bool ft_yaml_is_null(const ft_yaml *v);
/* "text", "a list", "a map" for messages. */
const char *ft_yaml_type_name(const ft_yaml *v);

ft_yaml *ft_yaml_get(const ft_yaml *map, const char *key);
/* The text of a scalar without zero bytes inside, else NULL. */
const char *ft_yaml_text(const ft_yaml *v);

/* A new node; NULL when there is no memory (a->oom is set). */
ft_yaml *ft_yaml_new(ft_arena *a, ft_yaml_type type, ft_mark at);
ft_yaml *ft_yaml_new_text(ft_arena *a, const char *text, ft_mark at);
/* Appends v to a list or, with v->key set, to a map. */
void ft_yaml_append(ft_yaml *to, ft_yaml *v);
/* Takes `key` out of a map and returns it, or NULL. */
ft_yaml *ft_yaml_remove(ft_yaml *map, const char *key);
/* Sets map[v->key] = v, in the old one's place where there is one. */
void ft_yaml_set(ft_yaml *map, ft_yaml *v);

/* Items of a map sorted by key, then by place (malloc, n pointers); NULL when there is no memory.
 * ft_yaml_find looks a key up in such an array. */
ft_yaml **ft_yaml_sorted(const ft_yaml *map);
ft_yaml *ft_yaml_find(ft_yaml *const *sorted, size_t n, const char *key);
#endif
