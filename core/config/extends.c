/* extends.c -- a file and what it extends, as one tree.
 *
 *   extends: base.yaml              # or a list; relative to the file that says it
 *
 * The later wins: the bases in order, then the file itself.  Maps merge key by key, stages by id
 * (a new id is appended), everything else replaces.  Every node keeps its own place, so an error
 * points into the file that made it.  Bounded in depth and in files; circles are found by device
 * and inode, so that links do not hide them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "core/base/file.h"
#include "core/config/parts.h"

enum { DEPTH = 16, FILES = 64 };

typedef struct {
    ft_config *c;
    ft_diags *d;
    size_t events; /* over all files */
    int files;
    struct { dev_t dev; ino_t ino; } open[DEPTH + 1]; /* being read now, outermost first */
} reader;

/* ---- merging ------------------------------------------------------------------------------- */

static ft_yaml *merge(reader *r, ft_yaml *base, ft_yaml *over);

/* Puts item into `to` under the name and place it had as `named`. */
static void put(ft_yaml *to, ft_yaml *item, const ft_yaml *named)
{
    item->key = named->key;
    item->key_at = named->key_at;
    ft_yaml_append(to, item);
}

/* Stages of the same id become one, at the base's place in the order; new ones follow.  A merged
 * stage stands where the later file has it: there a missing key would be added. */
static ft_yaml *merge_stages(reader *r, ft_yaml *base, ft_yaml *over)
{
    ft_yaml out = *base;
    out.first = out.last = NULL;
    out.n = 0;
    for (ft_yaml *s = base->first, *next; s; s = next) {
        next = s->next;
        ft_yaml *mine = ft_stage_find(over, ft_stage_id(s));
        ft_mark at = mine ? mine->at : s->at;
        ft_yaml *both = mine ? merge(r, s, mine) : s;
        both->at = at;
        ft_yaml_append(&out, both);
    }
    for (ft_yaml *s = over->first, *next; s; s = next) {
        next = s->next;
        if (!ft_stage_find(&out, ft_stage_id(s))) ft_yaml_append(&out, s);
    }
    if (out.n > FT_CONFIG_STAGES) ft_diag(r->d, over->at, "more than %d stages", FT_CONFIG_STAGES);
    *base = out;
    return base;
}

/* Keeps the base's order, then the new keys.  Sorted arrays of both keep it linear but for the
 * sorting. */
static ft_yaml *merge_maps(reader *r, ft_yaml *base, ft_yaml *over)
{
    ft_yaml **old = ft_yaml_sorted(base), **new = ft_yaml_sorted(over), fresh = { 0 };
    size_t n_new = over->n;
    ft_yaml *list = base->first;
    if (!old || !new) {
        r->d->no_memory = true;
        goto out;
    }
    /* First what base lacks, while over's list is whole: an item is in one list at a time. */
    for (ft_yaml *v = over->first, *next; v; v = next) {
        next = v->next;
        if (!ft_yaml_find(old, base->n, v->key)) ft_yaml_append(&fresh, v);
    }
    base->first = base->last = NULL;
    base->n = 0;
    base->at = over->at;
    for (ft_yaml *v = list, *next; v; v = next) {
        next = v->next;
        ft_yaml *mine = ft_yaml_find(new, n_new, v->key);
        put(base, mine ? merge(r, v, mine) : v, mine ? mine : v);
    }
    for (ft_yaml *v = fresh.first, *next; v; v = next) {
        next = v->next;
        put(base, v, v);
    }
out:
    free(old);
    free(new);
    return base;
}

/* Base and over become one; both are used up. */
static ft_yaml *merge(reader *r, ft_yaml *base, ft_yaml *over)
{
    bool maps = base->type == FT_YAML_MAP && over->type == FT_YAML_MAP;
    return maps ? merge_maps(r, base, over) : over;
}

/* As merge, but for the list of stages. */
static ft_yaml *merge_files(reader *r, ft_yaml *base, ft_yaml *over)
{
    ft_yaml *mine = ft_yaml_get(over, "stages"), *old = ft_yaml_get(base, "stages");
    if (mine && old && mine->type == FT_YAML_LIST && old->type == FT_YAML_LIST) {
        ft_yaml_remove(over, "stages");
        merge_stages(r, old, mine);
    }
    return merge(r, base, over);
}

/* ---- reading ------------------------------------------------------------------------------- */

/* The file's text, ready for marks; NULL after an error at `by`. */
static ft_config_file *read_text(reader *r, const char *path, ft_mark by)
{
    ft_buf text = { 0 };
    ft_err e = { 0 };
    ft_config_file *f = ft_arena_alloc(&r->c->arena, sizeof *f);
    if (ft_file_read(&text, path, FT_YAML_BYTES, &e)) {
        ft_diag(r->d, by, "%s", e.msg);
        f = NULL;
    }
    if (f) {
        size_t bom = text.n >= 3 && !memcmp(text.p, "\xEF\xBB\xBF", 3) ? 3 : 0;
        f->name = path;
        f->n = text.n - bom;
        f->text = ft_arena_strndup(&r->c->arena, text.n ? text.p + bom : "", f->n);
        f->order = r->files;
        if (!f->text) f = NULL;
    }
    ft_buf_free(&text);
    return f;
}

/* Notes the file as being read; false (reported at `by`) when that must not be. */
static bool enter(reader *r, const char *path, ft_mark by, int depth)
{
    struct stat st = { 0 };
    if (depth > DEPTH) {
        ft_diag(r->d, by, "extends: goes more than %d files deep", DEPTH);
        return false;
    }
    if (++r->files > FILES) {
        ft_diag(r->d, by, "extends: reads more than %d files", FILES);
        return false;
    }
    stat(path, &st); /* what is not there is told of when it is read */
    for (int i = 0; i < depth; i++) {
        if (r->open[i].dev != st.st_dev || r->open[i].ino != st.st_ino) continue;
        ft_diag(r->d, by, "extends: goes round in a circle: %s is being read already", path);
        return false;
    }
    r->open[depth].dev = st.st_dev;
    r->open[depth].ino = st.st_ino;
    return true;
}

static ft_yaml *read_file(reader *r, const char *path, ft_mark by, int depth);

/* `name` as seen from the folder of `from`. */
static const char *beside(reader *r, const char *from, const char *name)
{
    const char *slash = strrchr(from, '/');
    if (*name == '/' || !slash) return name;
    return ft_arena_printf(&r->c->arena, "%.*s/%s", (int)(slash - from), from, name);
}

/* Reads one file that `path` extends, and puts it over what it extended before (base, may be
 * NULL). */
static ft_yaml *extend(reader *r, const char *path, ft_yaml *base, const ft_yaml *name, int depth)
{
    const char *text = ft_yaml_text(name);
    if (!text || !*text) {
        if (name->type != FT_YAML_BAD)
            ft_diag(r->d, name->at, "extends: must be a file or a list of files, not %s",
                    text ? "nothing" : ft_yaml_type_name(name));
        return base;
    }
    const char *other = beside(r, path, text);
    ft_yaml *tree = other ? read_file(r, other, name->at, depth + 1) : NULL;
    if (!tree) return base;
    return base ? merge_files(r, base, tree) : tree;
}

/* One file with all that it extends.  by: the extends: that named it.  NULL: nothing usable. */
static ft_yaml *read_file(reader *r, const char *path, ft_mark by, int depth)
{
    ft_yaml *root, *base = NULL;
    if (!enter(r, path, by, depth)) return NULL;
    ft_config_file *f = read_text(r, path, by);
    if (!f) return NULL;
    ft_mark start = { f, 0, 0 };
    if (depth == 0) r->c->at = start;
    if (ft_yaml_parse(&root, &r->c->arena, f, &r->events, r->d)) return NULL;
    if (!root) root = ft_yaml_new(&r->c->arena, FT_YAML_MAP, start);
    if (!root) return NULL;
    if (root->type != FT_YAML_MAP) {
        if (root->type != FT_YAML_BAD)
            ft_diag(r->d, root->at, "a pipeline file is a map with version: and stages:, not %s",
                    ft_yaml_type_name(root));
        return NULL;
    }
    ft_config_shape(r->c, root, r->d);
    ft_yaml *extends = ft_yaml_remove(root, "extends");
    if (extends && extends->type == FT_YAML_LIST) {
        for (ft_yaml *x = extends->first; x; x = x->next) base = extend(r, path, base, x, depth);
    } else if (extends && !ft_yaml_is_null(extends)) {
        base = extend(r, path, base, extends, depth);
    }
    return base ? merge_files(r, base, root) : root;
}

ft_yaml *ft_config_read(ft_config *c, const char *path, ft_diags *d)
{
    reader r = { .c = c, .d = d };
    return read_file(&r, path, (ft_mark){ 0 }, 0);
}
