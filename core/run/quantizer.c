/* quantizer.c -- a quantizer that no stage names: an export packs with it. */
#include <string.h>
#include "core/base/json.h"
#include "core/config/fill.h"
#include "core/run/quantize.h"

/* The plugin's config struct out of the JSON object; NULL after an error. */
static void *read_config(const ft_loaded *p, const char *json, ft_arena *arena, ft_err *e)
{
    ft_diags d = { .n = 0 };
    ft_config_file *f = ft_arena_alloc(arena, sizeof *f);
    void *config = ft_arena_alloc(arena, p->desc.config_size + 1);
    ft_json_doc *doc = f && config ? ft_json_parse(p->name, json, strlen(json), e) : NULL;
    if (!doc) {
        if (!e->code) ft_errf(e, FT_ENOMEM, "out of memory for %s", p->name);
        return NULL;
    }
    *f = (ft_config_file){ .name = p->name, .text = json, .n = strlen(json) };
    ft_yaml *map = ft_yaml_from_json(arena, f, ft_json_root(doc));
    ft_fill_job job = { .arena = arena, .diags = &d, .who = p->name };
    int code = map ? ft_config_fill(config, p->params, map, (ft_mark){ f, 0, 0 }, &job)
                   : ft_errf(e, FT_ENOMEM, "out of memory for %s", p->name);
    if (code && map) ft_diags_to_err(&d, e);
    ft_diags_free(&d);
    ft_json_done(doc);
    return code ? NULL : config;
}

ft_instance *ft_quantizer_by_name(ft_run *r, const ft_stage *s, const char *name, const char *json,
                                  ft_arena *arena, ft_err *e)
{
    const ft_loaded *p = ft_registry_get(r->registry, name, e);
    if (!p) return NULL;
    if (strcmp(p->desc.role, "ft.quantizer/1")) {
        ft_errf(e, FT_EINVAL, "%s is no quantizer but %s", name, p->desc.role);
        return NULL;
    }
    void *config = read_config(p, json, arena, e);
    return config ? ft_instance_open(p, s->conf->id, config, &r->offer, e) : NULL;
}
