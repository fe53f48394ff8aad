/* tree.c -- the nodes of yaml.h: building, finding, replacing.  Items are a linked list in the
 * order of the file; maps are small (FT_YAML_KEYS), and where two large ones meet they are
 * sorted first. */
#include <stdlib.h>
#include <string.h>
#include "core/config/yaml.h"

ft_yaml *ft_yaml_new(ft_arena *a, ft_yaml_type type, ft_mark at)
{
    ft_yaml *v = ft_arena_alloc(a, sizeof *v);
    if (!v) return NULL;
    v->type = type;
    v->at = at;
    return v;
}

ft_yaml *ft_yaml_new_text(ft_arena *a, const char *text, ft_mark at)
{
    ft_yaml *v = ft_yaml_new(a, FT_YAML_SCALAR, at);
    if (!v) return NULL;
    v->text = text;
    v->len = strlen(text);
    return v;
}

void ft_yaml_append(ft_yaml *to, ft_yaml *v)
{
    v->next = NULL;
    if (to->last) to->last->next = v;
    else to->first = v;
    to->last = v;
    to->n++;
}

bool ft_yaml_is_null(const ft_yaml *v)
{
    static const char *const words[] = { "", "~", "null", "Null", "NULL" };
    if (v->type != FT_YAML_SCALAR || v->quoted) return false;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strlen(words[i]) == v->len && !memcmp(words[i], v->text, v->len)) return true;
    }
    return false;
}

const char *ft_yaml_type_name(const ft_yaml *v)
{
    static const char *const names[] = { "text", "a list", "a map", "a broken value" };
    return names[v->type];
}

ft_yaml *ft_yaml_get(const ft_yaml *map, const char *key)
{
    if (!map || map->type != FT_YAML_MAP) return NULL;
    for (ft_yaml *v = map->first; v; v = v->next) {
        if (!strcmp(v->key, key)) return v;
    }
    return NULL;
}

const char *ft_yaml_text(const ft_yaml *v)
{
    if (!v || v->type != FT_YAML_SCALAR || strlen(v->text) != v->len) return NULL;
    return v->text;
}

/* Puts `with` where *link points to `old` (with NULL: takes it out). */
static void relink(ft_yaml *map, ft_yaml **link, ft_yaml *with)
{
    ft_yaml *old = *link;
    if (with) with->next = old->next;
    *link = with ? with : old->next;
    if (map->last == old) {
        map->last = map->first;
        while (map->last && map->last->next) map->last = map->last->next;
    }
    if (!with) map->n--;
    old->next = NULL;
}

/* The link that points to the item of that key, or the last one, which holds NULL. */
static ft_yaml **link_of(ft_yaml *map, const char *key)
{
    ft_yaml **link = &map->first;
    while (*link && strcmp((*link)->key, key)) link = &(*link)->next;
    return link;
}

ft_yaml *ft_yaml_remove(ft_yaml *map, const char *key)
{
    ft_yaml **link = link_of(map, key), *old = *link;
    if (old) relink(map, link, NULL);
    return old;
}

void ft_yaml_set(ft_yaml *map, ft_yaml *v)
{
    ft_yaml **link = link_of(map, v->key);
    if (*link) relink(map, link, v);
    else ft_yaml_append(map, v);
}

/* By key; equal keys by place, so that the second of them is the duplicate. */
static int compare(const void *a, const void *b)
{
    const ft_yaml *x = *(ft_yaml *const *)a, *y = *(ft_yaml *const *)b;
    int c = strcmp(x->key, y->key);
    if (c) return c;
    if (x->key_at.line != y->key_at.line) return x->key_at.line < y->key_at.line ? -1 : 1;
    return x->key_at.col < y->key_at.col ? -1 : x->key_at.col > y->key_at.col;
}

ft_yaml **ft_yaml_sorted(const ft_yaml *map)
{
    ft_yaml **p = malloc((map->n ? map->n : 1) * sizeof *p);
    size_t i = 0;
    if (!p) return NULL;
    for (ft_yaml *v = map->first; v; v = v->next) p[i++] = v;
    qsort(p, map->n, sizeof *p, compare);
    return p;
}

/* For bsearch in an array of ft_yaml_sorted. */
static int compare_key(const void *key, const void *item)
{
    return strcmp(key, (*(ft_yaml *const *)item)->key);
}

ft_yaml *ft_yaml_find(ft_yaml *const *sorted, size_t n, const char *key)
{
    ft_yaml *const *hit = n ? bsearch(key, sorted, n, sizeof *sorted, compare_key) : NULL;
    return hit ? *hit : NULL;
}
