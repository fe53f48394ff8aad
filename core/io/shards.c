/* shards.c -- a model saved as several safetensors files and an index:
 *
 *   NAME.safetensors.index.json   { "metadata": {…}, "weight_map": { TENSOR: SHARD, … } }
 *
 * A shard is named by a plain file name and lies beside the index.  Every tensor of the map must be
 * in its shard, and no tensor in two; one that the map lacks is a warning. */
#include <inttypes.h>
#include "core/base/json.h"
#include "core/io/tensor_set.h"

enum { MAX_INDEX = 128 << 20, MAX_SHARDS = 4096, MAX_MEMBER = 1 << 20, MAX_NAME = 255 };

typedef struct { const char *shard, *tensor; } entry;

typedef struct {
    ft_tensors *set;
    const char *path;  /* of the index */
    ft_buf text;       /* its bytes */
    ft_buf entries;    /* entry, sorted by shard */
    ft_arena arena;    /* names */
    const char *shard; /* the name that came last: neighbours mostly share it */
} reader;

/* Out of memory; returns FT_ENOMEM. */
static int no_memory(const reader *r, ft_err *e)
{
    return ft_errf(e, FT_ENOMEM, "%s: out of memory while reading it", r->path);
}

/* True for "x.safetensors" in the same folder and nothing else. */
static bool plain_file_name(const ft_json *v)
{
    static const char end[] = ".safetensors";
    size_t k = sizeof end - 1;
    if (!ft_json_is_text(v) || v->len <= k || v->len > MAX_NAME) return false;
    return !strchr(v->text, '/') && !strcmp(v->text + v->len - k, end);
}

/* One line of weight_map.  The texts are gone after the call, so both are copied; a shard's name
 * only when it differs from the one before. */
static int on_member(void *ctx, const ft_json *m, ft_err *e)
{
    reader *r = ctx;
    const char *bad = ft_bad_name(m->key, m->key_len);
    if (bad) return ft_errf(e, FT_EFORMAT, "%s: the name of a tensor %s", r->path, bad);
    if (!plain_file_name(m))
        return ft_errf(e, FT_EFORMAT,
                       "%s: weight_map puts \"%.200s\" into %s%.200s%s, which is not the "
                       "plain name of a .safetensors file",
                       r->path, m->key, m->type == FT_JSON_STRING ? "\"" : "",
                       m->type == FT_JSON_STRING ? m->text : "something else than text",
                       m->type == FT_JSON_STRING ? "\"" : "");
    if (r->entries.n / sizeof(entry) >= FT_MAX_TENSORS)
        return ft_errf(e, FT_EFORMAT, "%s: more than the %d tensors that are allowed", r->path,
                       FT_MAX_TENSORS);
    if (!r->shard || strcmp(r->shard, m->text)) r->shard = ft_arena_strdup(&r->arena, m->text);
    entry x = { r->shard, ft_arena_strndup(&r->arena, m->key, m->key_len) };
    ft_buf_add(&r->entries, &x, sizeof x);
    return x.shard && x.tensor && !r->entries.oom ? 0 : no_memory(r, e);
}

/* By shard and then by tensor, so that a shard's entries stand together. */
static int by_shard(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    int c = strcmp(x->shard, y->shard);
    return c ? c : strcmp(x->tensor, y->tensor);
}

/* Maps and reads one shard, which lies beside the index. */
static int read_shard(reader *r, const char *name, ft_err *e)
{
    char path[4096 + MAX_NAME]; /* the index could be opened, so its path is below 4096 */
    ft_map_file m;
    const char *slash = strrchr(r->path, '/');
    snprintf(path, sizeof path, "%.*s%s", slash ? (int)(slash + 1 - r->path) : 0, r->path, name);
    if (!ft_file_exists(path))
        return ft_errf(e, FT_EIO, "%s is missing, but %s puts tensors into it", path, r->path);
    int code = ft_set_map(r->set, &m, path, e);
    return code ? code : ft_safetensors_read(r->set, path, m.p, m.n, e);
}

/* Reads every shard once; last[k] = the number of tensors in the set after shard k. */
static int read_all(reader *r, ft_buf *last, ft_err *e)
{
    entry *x = (entry *)(void *)r->entries.p;
    size_t n = r->entries.n / sizeof *x;
    int code = 0;
    if (n) qsort(x, n, sizeof *x, by_shard);
    for (size_t i = 0; i < n && !code; i++) {
        if (i && !strcmp(x[i].shard, x[i - 1].shard)) continue;
        if (last->n / sizeof(size_t) >= MAX_SHARDS)
            return ft_errf(e, FT_EFORMAT, "%s: more than %d shards", r->path, MAX_SHARDS);
        code = read_shard(r, x[i].shard, e);
        size_t count = ft_set_count(r->set);
        ft_buf_add(last, &count, sizeof count);
    }
    return code ? code : last->oom ? no_memory(r, e) : 0;
}

/* In the sealed set: every tensor of the map lies in the range of its shard. */
static int check_map(reader *r, const ft_buf *last, ft_err *e)
{
    const entry *x = (const entry *)(void *)r->entries.p;
    const size_t *end = (const size_t *)(void *)last->p;
    size_t n = r->entries.n / sizeof *x, shard = 0, begin = 0;
    for (size_t i = 0; i < n; i++) {
        if (i && strcmp(x[i].shard, x[i - 1].shard)) begin = end[shard++];
        else if (i && !strcmp(x[i].tensor, x[i - 1].tensor))
            return ft_errf(e, FT_EFORMAT, "%s: weight_map has \"%.200s\" twice", r->path,
                           x[i].tensor);
        const ft_tensor *t = ft_tensors_find(r->set, x[i].tensor);
        size_t at = t ? (size_t)(t - ft_set_items(r->set)) : SIZE_MAX;
        if (at < begin || at >= end[shard])
            return ft_errf(e, FT_EFORMAT,
                           "%s: weight_map puts \"%.200s\" into %s, which does not hold it",
                           r->path, x[i].tensor, x[i].shard);
    }
    size_t count = ft_set_count(r->set);
    if (count == n) return 0;
    return ft_set_warn(r->set, e, "%s: its shards hold %zu tensors that weight_map does not name",
                       r->path, count - n);
}

/* Shards are read in the order of their names.  The set is sealed before the map is checked: a
 * name in two shards is found there, and the check looks tensors up. */
int ft_shards_read(ft_tensors *s, const char *index_path, ft_err *e)
{
    reader r = { .set = s, .path = index_path };
    ft_buf last = { 0 };
    int code = ft_file_read(&r.text, index_path, MAX_INDEX, e);
    if (!code)
        code = ft_json_each(index_path, r.text.p ? r.text.p : "", r.text.n, "weight_map",
                            MAX_MEMBER, on_member, &r, e);
    if (!code && !r.entries.n)
        code = ft_errf(e, FT_EFORMAT, "%s: \"weight_map\" is missing or empty", index_path);
    if (!code) code = read_all(&r, &last, e);
    if (!code) code = ft_set_seal(s, index_path, e);
    if (!code) code = check_map(&r, &last, e);
    ft_buf_free(&last);
    ft_buf_free(&r.text);
    ft_buf_free(&r.entries);
    ft_arena_free(&r.arena);
    return code;
}
