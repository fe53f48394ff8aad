/* config.c -- see config.h: the steps in order, the top level's table, and the way back to YAML. */
#include "core/config/config.h"
#include <inttypes.h>
#include <stddef.h>
#include <string.h>
#include "core/config/canon.h"
#include "core/config/parts.h"
#include "core/config/value.h"

const ft_param ft_config_params[] = {
    { "version", FT_INT, offsetof(ft_config, version), NULL, 1, 1, 0,
      "form of this file: 1" },
    { "name", FT_STR, offsetof(ft_config, name), "", 0, 0, 0,
      "of the pipeline; default: the file's name without its ending" },
    { "model", FT_PATH, offsetof(ft_config, model), "", 0, 0, 0,
      "Hugging Face folder or .gguf file" },
    { "output_dir", FT_STR, offsetof(ft_config, output_dir), "", 0, 0, 0,
      "folder for everything that a run writes; default: runs/NAME" },
    { "seed", FT_INT, offsetof(ft_config, seed), "42", 0, 9007199254740992.0, 0,
      "of every random number" },
    { "memory_limit", FT_STR, offsetof(ft_config, memory_limit), "", 0, 0, 0,
      "most memory a run may take, such as 600MiB; empty: no limit" },
    { "threads", FT_INT, offsetof(ft_config, threads), "0", 0, 4096, 0,
      "0: as many as the machine has" },
    { "device", FT_STR, offsetof(ft_config, device), "auto", 0, 0,
      (const char *const[]){ "auto", "cpu", "cuda", NULL }, "where to compute" },
    { 0 },
};

const char *const ft_config_parts[] = { "vars", "extends", "stages", NULL };

/* ---- loading ------------------------------------------------------------------------------- */

/* Gives the top level a text that the file did not. */
static ft_yaml *add_default(ft_config *c, ft_yaml *root, const char *key, const char *text)
{
    const ft_yaml *old = ft_yaml_get(root, key);
    if (!text || (old && !ft_yaml_is_null(old))) return NULL;
    ft_yaml *v = ft_yaml_new_text(&c->arena, text, c->at);
    if (!v) return NULL;
    v->key = key;
    v->key_at = c->at;
    ft_yaml_set(root, v);
    return v;
}

/* Defaults that other values may refer to: the file's name, and a folder of that name. */
static void add_defaults(ft_config *c, ft_yaml *root)
{
    const char *slash = strrchr(c->path, '/'), *base = slash ? slash + 1 : c->path;
    const char *dot = strrchr(base, '.');
    size_t n = dot && dot > base ? (size_t)(dot - base) : strlen(base);
    ft_yaml *name = add_default(c, root, "name", ft_arena_strndup(&c->arena, base, n));
    if (name) {
        name->quoted = true; /* a file may be called null.yaml */
        name->visit = 2;     /* and its name is not expanded */
    }
    add_default(c, root, "output_dir", "runs/${name}");
}

/* vars: holds single values, so that every reference gives one. */
static void check_vars(const ft_yaml *root, ft_diags *d)
{
    const ft_yaml *vars = ft_yaml_get(root, "vars");
    if (!vars || vars->type == FT_YAML_BAD || ft_yaml_is_null(vars)) return;
    if (vars->type != FT_YAML_MAP) {
        ft_diag(d, vars->at, "vars: must be a map, not %s", ft_yaml_type_name(vars));
        return;
    }
    for (const ft_yaml *v = vars->first; v; v = v->next) {
        if (v->type == FT_YAML_LIST || v->type == FT_YAML_MAP)
            ft_diag(d, v->at, "vars: \"%.64s\" must be a single value, not %s", v->key,
                    ft_yaml_type_name(v));
    }
}

/* One stage of the finished tree; false after an error. */
static bool take_stage(ft_config_stage *out, const ft_yaml *s, ft_diags *d)
{
    const ft_yaml *use = ft_yaml_get(s, "use"), *with = ft_yaml_get(s, "with");
    const char *name = ft_yaml_text(use);
    *out = (ft_config_stage){ .id = ft_stage_id(s), .use = name, .at = s->at };
    if (with && with->type == FT_YAML_MAP) out->with = with;
    if (use && use->type == FT_YAML_BAD) return false;
    if (!use || ft_yaml_is_null(use)) {
        ft_diag(d, s->at, "stage \"%s\" needs use: and the name of a plugin", out->id);
        return false;
    }
    out->use_at = use->at;
    if (name && ft_is_plugin_name(name)) return true;
    ft_diag(d, use->at, "use: \"%.80s\" is not a plugin's name (a-z, 0-9 and '-', at most 64; "
            "never a path)", use->text ? use->text : "");
    return false;
}

/* The list of stages out of the finished tree; those with an error are left out. */
static int take_stages(ft_config *c, const ft_yaml *root, ft_diags *d)
{
    const ft_yaml *list = ft_yaml_get(root, "stages");
    if (!list || list->type != FT_YAML_LIST || !list->n) return 0;
    c->stage = ft_arena_array(&c->arena, list->n, sizeof *c->stage);
    if (!c->stage) return FT_ENOMEM;
    for (const ft_yaml *s = list->first; s; s = s->next) {
        if (take_stage(&c->stage[c->n_stages], s, d)) c->n_stages++;
    }
    return 0;
}

/* Goes on after errors as long as there is a tree, so that one call reports all of them. */
int ft_config_load(ft_config *c, const char *path, const char *const *override, size_t n_override,
                   ft_diags *d)
{
    c->path = ft_arena_strdup(&c->arena, path);
    ft_yaml *root = c->path ? ft_config_read(c, c->path, d) : NULL;
    for (size_t i = 0; root && i < n_override; i++) {
        const char *arg = ft_arena_strdup(&c->arena, override[i]);
        if (arg) ft_config_override(c, root, arg, (int)i, d);
    }
    if (root) {
        add_defaults(c, root);
        ft_config_expand(c, root, d);
        check_vars(root, d);
        take_stages(c, root, d);
        c->root = root;
    }
    if (c->arena.oom) d->no_memory = true;
    return d->no_memory ? FT_ENOMEM : ft_diags_any(d) ? FT_EINVAL : 0;
}

/* ---- typing -------------------------------------------------------------------------------- */

/* memory_limit: as bytes. */
static void type_memory_limit(ft_config *c, ft_diags *d)
{
    if (!c->memory_limit || !*c->memory_limit) return;
    const char *why = ft_text_to_bytes(&c->memory_bytes, c->memory_limit);
    const ft_yaml *v = ft_yaml_get(c->root, "memory_limit");
    if (why) ft_diag(d, v ? v->at : c->at, "memory_limit = %.40s %s", c->memory_limit, why);
}

/* job: by value, as each stage has its own name in it. */
static void type_stage(ft_config *c, ft_config_stage *s, ft_fill_job job)
{
    if (!s->params) return;
    s->config = ft_arena_alloc(&c->arena, s->config_size);
    if (!s->config) return;
    job.who = s->id;
    ft_config_fill(s->config, s->params, s->with, s->at, &job);
}

/* Every table is known to every fill, so that a key in the wrong place is told its right one. */
int ft_config_type(ft_config *c, unsigned flags, ft_diags *d)
{
    if (!c->root) return ft_diags_any(d) ? FT_EINVAL : 0;
    ft_fill_home *home = ft_arena_array(&c->arena, c->n_stages + 1, sizeof *home);
    if (!home) {
        d->no_memory = true;
        return FT_ENOMEM;
    }
    ft_fill_job job = { .arena = &c->arena, .diags = d, .flags = flags, .home = home };
    home[job.n_home++] = (ft_fill_home){ NULL, ft_config_params };
    for (size_t i = 0; i < c->n_stages; i++)
        home[job.n_home++] = (ft_fill_home){ c->stage[i].id, c->stage[i].params };
    ft_fill_job top = job;
    top.also = ft_config_parts;
    ft_config_fill(c, ft_config_params, c->root, c->at, &top);
    type_memory_limit(c, d);
    for (size_t i = 0; i < c->n_stages; i++) type_stage(c, &c->stage[i], job);
    if (c->arena.oom) d->no_memory = true;
    return d->no_memory ? FT_ENOMEM : ft_diags_any(d) ? FT_EINVAL : 0;
}

/* ---- back to YAML -------------------------------------------------------------------------- */

void ft_config_write(ft_buf *out, const ft_config *c)
{
    ft_canon_params(out, ft_config_params, c, 0);
    ft_buf_puts(out, c->n_stages ? "stages:\n" : "stages: []\n");
    for (size_t i = 0; i < c->n_stages; i++) {
        const ft_config_stage *s = &c->stage[i];
        ft_buf_puts(out, "  - id: ");
        ft_canon_text(out, s->id);
        ft_buf_puts(out, "\n    use: ");
        ft_canon_text(out, s->use);
        bool empty = !s->params || !s->params->key;
        ft_buf_puts(out, empty ? "\n    with: {}\n" : "\n    with:\n");
        if (!empty) ft_canon_params(out, s->params, s->config, 6);
    }
}

void ft_config_free(ft_config *c)
{
    ft_arena_free(&c->arena);
    *c = (ft_config){ 0 };
}
