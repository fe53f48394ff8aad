/* override.c -- values from the command line.
 *
 *   train-sft.learning_rate=1e-4   lora.use=dora   seed=7   vars.n=3   ~lora.r   ~eval-loss   ~seed
 *
 * What stands after '=' is read as YAML, so lora.target_modules=[q_proj,v_proj] is a list.  A
 * stage keeps its id when its plugin changes.  The argument itself is the text that marks point
 * into, so that a later error about the value shows it. */
#include <string.h>
#include "core/base/suggest.h"
#include "core/config/parts.h"

typedef struct {
    ft_config *c;
    ft_yaml *root;
    ft_diags *d;
    ft_config_file *file; /* the argument */
    const char *head, *tail; /* of the name: "lora", "r"; tail NULL without a '.' */
    uint32_t tail_col;
} change;

static ft_mark place(const change *o, uint32_t col) { return (ft_mark){ o->file, 1, col }; }

/* Where the name starts: after a '~'. */
static uint32_t first_col(const change *o) { return o->file->text[0] == '~' ? 2 : 1; }

/* Adds "; did you mean …" for the nearest of the names in s. */
static void unknown(const change *o, uint32_t col, const char *what, const ft_suggestion *s)
{
    ft_diag(o->d, place(o, col), "no %s \"%.64s\"%s%s%s", what, s->word,
            s->best ? "; did you mean \"" : "", s->best ? s->best : "", s->best ? "\"?" : "");
}

/* What stands before the '.' is no stage of this file; or, without a '.', no key either. */
static void unknown_head(const change *o)
{
    ft_suggestion s;
    const ft_yaml *stages = ft_yaml_get(o->root, "stages");
    ft_suggest_start(&s, o->head);
    for (ft_yaml *v = stages ? stages->first : NULL; v; v = v->next)
        ft_suggest_offer(&s, ft_stage_id(v));
    if (!o->tail) {
        for (const ft_param *p = ft_config_params; p->key; p++) ft_suggest_offer(&s, p->key);
    }
    unknown(o, first_col(o), o->tail ? "stage" : "stage or top-level key", &s);
}

/* The map that the name's last part is a key of, made where it is missing; NULL after an error.
 * *col: where that key stands in the argument. */
static ft_yaml *find_map(change *o, const char **key, uint32_t *col)
{
    *key = o->tail ? o->tail : o->head;
    *col = o->tail ? o->tail_col : first_col(o);
    if (!o->tail) return o->root;
    bool vars = !strcmp(o->head, "vars");
    ft_yaml *owner = vars ? o->root : ft_stage_find(ft_yaml_get(o->root, "stages"), o->head);
    const char *name = vars ? "vars" : "with";
    if (!owner) {
        unknown_head(o);
        return NULL;
    }
    if (!vars && !strcmp(o->tail, "id")) {
        ft_diag(o->d, place(o, *col), "a stage's id cannot be changed here");
        return NULL;
    }
    if (!vars && !strcmp(o->tail, "use")) return owner;
    ft_yaml *map = ft_yaml_get(owner, name);
    if (map && map->type == FT_YAML_MAP) return map;
    map = ft_yaml_new(&o->c->arena, FT_YAML_MAP, place(o, 1));
    if (!map) return NULL;
    map->key = name;
    map->key_at = map->at;
    ft_yaml_set(owner, map);
    return map;
}

/* Whether the top level's table has the key. */
static bool is_scalar_key(const char *key)
{
    const ft_param *p = ft_config_params;
    while (p->key && strcmp(p->key, key)) p++;
    return p->key != NULL;
}

/* Top-level names other than scalars are refused by name. */
static bool check_top(const change *o, const char *key)
{
    if (o->tail || is_scalar_key(key)) return true;
    for (const char *const *p = ft_config_parts; *p; p++) {
        if (strcmp(*p, key)) continue;
        ft_diag(o->d, place(o, 1), "%s cannot be set as a whole here; write stage.key=value or "
                "vars.NAME=value", key);
        return false;
    }
    unknown_head(o);
    return false;
}

/* KEY=VALUE, the value starting at a column of the argument. */
static void set(change *o, uint32_t value_col)
{
    const char *key;
    uint32_t col;
    ft_yaml *v, *map = find_map(o, &key, &col);
    if (!map || !check_top(o, key)) return;
    if (ft_yaml_parse_value(&v, &o->c->arena, o->file, value_col, o->d)) return;
    v->key = key;
    v->key_at = place(o, col);
    ft_yaml_set(map, v);
}

/* ~STAGE */
static void remove_stage(change *o)
{
    ft_yaml *stages = ft_yaml_get(o->root, "stages"), *gone;
    gone = stages ? ft_stage_find(stages, o->head) : NULL;
    if (!gone) {
        unknown_head(o);
        return;
    }
    ft_yaml kept = *stages;
    kept.first = kept.last = NULL;
    kept.n = 0;
    for (ft_yaml *s = stages->first, *next; s; s = next) {
        next = s->next;
        if (s != gone) ft_yaml_append(&kept, s);
    }
    *stages = kept;
}

/* ~STAGE.KEY, ~KEY or ~STAGE.  What is not there is an error: it is a slip more often than not. */
static void take_out(change *o)
{
    const char *key;
    uint32_t col;
    if (!o->tail && !is_scalar_key(o->head)) {
        remove_stage(o);
        return;
    }
    ft_yaml *map = find_map(o, &key, &col);
    if (!map) return;
    if (o->tail && !strcmp(key, "use")) {
        ft_diag(o->d, place(o, col), "a stage needs its use:; write ~%s to leave the stage out",
                o->head);
        return;
    }
    if (ft_yaml_remove(map, key)) return;
    ft_suggestion s;
    ft_suggest_start(&s, key);
    for (ft_yaml *v = map->first; v; v = v->next) ft_suggest_offer(&s, v->key);
    unknown(o, col, "key to take out", &s);
}

void ft_config_override(ft_config *c, ft_yaml *root, const char *arg, int n, ft_diags *d)
{
    ft_config_file *f = ft_arena_alloc(&c->arena, sizeof *f);
    if (!f) return;
    *f = (ft_config_file){ "command line", arg, strlen(arg), 1 << 16 | n, true };
    change o = { .c = c, .root = root, .d = d, .file = f };
    bool out = *arg == '~';
    const char *name = arg + out;
    size_t len = out ? strlen(name) : strcspn(name, "=");
    const char *dot = memchr(name, '.', len);
    size_t head = dot ? (size_t)(dot - name) : len;
    if ((!out && name[len] != '=') || head == 0 || (dot && head + 1 == len)) {
        ft_diag(d, place(&o, 1), "write stage.key=value, key=value, ~stage.key or ~stage");
        return;
    }
    o.head = ft_arena_strndup(&c->arena, name, head);
    o.tail = dot ? ft_arena_strndup(&c->arena, dot + 1, len - head - 1) : NULL;
    if (!o.head || (dot && !o.tail)) return;
    o.tail_col = (uint32_t)(out + head + 2);
    if (out) take_out(&o);
    else set(&o, (uint32_t)len + 2);
}
