/* adapter_file.c -- see adapter_file.h.  Layout: PEFT 0.21, peft/utils/save_and_load.py; keys of
 * adapter_config.json sorted, two blanks a level. */
#include "core/run/adapter_file.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/config/fill.h"
#include "core/io/safetensors_write.h"

/* ---- reading --------------------------------------------------------------------------------- */

ft_json_doc *ft_adapter_config(const char *dir, ft_err *e)
{
    char path[4096];
    ft_buf text = { 0 };
    ft_json_doc *doc = NULL;
    if (!ft_path_join(path, sizeof path, dir, "adapter_config.json", e) &&
        !ft_file_read(&text, path, 1 << 22, e))
        doc = ft_json_parse(path, text.p, text.n, e);
    ft_buf_free(&text);
    if (doc && ft_json_root(doc)->type != FT_JSON_OBJECT) {
        ft_errf(e, FT_EFORMAT, "%s is no object", path);
        ft_json_done(doc);
        return NULL;
    }
    return doc;
}

static bool truth(const ft_json *o, const char *key)
{
    const ft_json *v = ft_json_get(o, key);
    return v && v->type == FT_JSON_BOOL && v->truth;
}

const ft_loaded *ft_adapter_plugin(ft_registry *r, const ft_json *config, ft_err *e)
{
    const char *type = ft_json_str(config, "peft_type", "");
    const ft_listed *list;
    size_t n;
    if (ft_registry_list(r, &list, &n, e)) return NULL;
    for (size_t i = 0; i < n; i++) {
        const ft_loaded *p = list[i].plugin;
        if (!p || strcmp(p->desc.role, "ft.adapter/1")) continue;
        const ft_adapter *a = p->desc.vtable;
        bool dora = !strcmp(p->name, "dora");
        if (a->peft_type && !strcmp(a->peft_type, type) && dora == truth(config, "use_dora"))
            return p;
    }
    ft_errf(e, FT_EUNSUP, "no adapter plugin reads peft_type \"%s\"%s", type,
            truth(config, "use_dora") ? " with use_dora" : "");
    return NULL;
}

/* Keys that say nothing about what is computed. */
static bool is_about_nothing(const char *key)
{
    static const char *const keys[] = { "auto_mapping",      "base_model_name_or_path",
                                        "inference_mode",    "peft_type",
                                        "peft_version",      "revision",
                                        "task_type",         "use_dora",
                                        "megatron_core",     "qalora_group_size",
                                        "loftq_config",      "ensure_weight_tying",
                                        "init_lora_weights", "runtime_config",
                                        "save_projection",   "projection_prng_key" };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (!strcmp(keys[i], key)) return true;
    }
    return false;
}

/* null, false, "", [] and {} ask for nothing. */
static bool is_neutral(const ft_json *v)
{
    if (v->type == FT_JSON_NULL || (v->type == FT_JSON_BOOL && !v->truth)) return true;
    return (v->type == FT_JSON_STRING || v->type == FT_JSON_ARRAY || v->type == FT_JSON_OBJECT) &&
           v->len == 0;
}

static int refuse_unknown(const ft_loaded *p, const ft_json *config, const char *dir, ft_err *e)
{
    for (size_t i = 0; i < config->len; i++) {
        const ft_json *v = &config->item[i];
        const ft_param *row = p->params;
        while (row->key && strcmp(row->key, v->key)) row++;
        if (row->key || is_about_nothing(v->key) || is_neutral(v)) continue;
        return ft_errf(e, FT_EUNSUP,
                       "%s/adapter_config.json: \"%s\" is not supported by %s; remove it if it "
                       "means nothing here",
                       dir, v->key, p->name);
    }
    return 0;
}

int ft_adapter_fill(void *out, const ft_loaded *p, const ft_json *config, const char *dir,
                    ft_arena *arena, ft_err *e)
{
    ft_diags d = { .n = 0 };
    ft_buf text = { 0 };
    int code = refuse_unknown(p, config, dir, e);
    if (code) return code;
    ft_json_write(&text, config, 2);
    ft_config_file *f = ft_arena_alloc(arena, sizeof *f);
    char *copy = text.p ? ft_arena_strndup(arena, text.p, text.n) : NULL;
    ft_json_doc *doc = copy ? ft_json_parse("adapter_config.json", copy, text.n, e) : NULL;
    if (f && doc) {
        *f = (ft_config_file){ .name = ft_arena_printf(arena, "%s/adapter_config.json", dir),
                               .text = copy,
                               .n = text.n };
        ft_yaml *map = ft_yaml_from_json(arena, f, ft_json_root(doc));
        ft_fill_job job = { .arena = arena, .diags = &d, .who = p->name, .flags = FT_FILL_LENIENT };
        code = map ? ft_config_fill(out, p->params, map, (ft_mark){ f, 0, 0 }, &job) : FT_ENOMEM;
        if (code) ft_diags_to_err(&d, e);
    } else {
        code = ft_errf(e, FT_ENOMEM, "out of memory while reading %s", dir);
    }
    ft_json_done(doc);
    ft_buf_free(&text);
    ft_diags_free(&d);
    return code;
}

ft_tensors *ft_adapter_tensors(const char *dir, ft_err *e)
{
    char path[4096];
    if (ft_path_join(path, sizeof path, dir, "adapter_model.safetensors", e)) return NULL;
    return ft_tensors_open(path, e);
}

/* ---- writing --------------------------------------------------------------------------------- */

typedef struct { const char *key; ft_buf value; } member;

static int by_key(const void *a, const void *b)
{
    return strcmp(((const member *)a)->key, ((const member *)b)->key);
}

static void put_text(ft_buf *b, const char *s) { ft_json_quote(b, s, strlen(s)); }

static void put_list(ft_buf *b, const char *const *v, size_t n)
{
    if (n == 0) {
        ft_buf_puts(b, "null");
        return;
    }
    ft_buf_puts(b, "[");
    for (size_t i = 0; i < n; i++) {
        ft_buf_puts(b, i ? ",\n    " : "\n    ");
        put_text(b, v[i]);
    }
    ft_buf_puts(b, "\n  ]");
}

static void put_ints(ft_buf *b, const ft_ints *l)
{
    if (l->n == 0) ft_buf_puts(b, "null");
    for (size_t i = 0; i < l->n; i++)
        ft_buf_printf(b, "%s%lld", i ? ", " : "[", (long long)l->v[i]);
    if (l->n) ft_buf_puts(b, "]");
}

static void put_map(ft_buf *b, const ft_map *m)
{
    ft_buf_puts(b, "{");
    for (size_t i = 0; i < m->n; i++) {
        ft_buf_puts(b, i ? ",\n    " : "\n    ");
        put_text(b, m->key[i]);
        ft_buf_puts(b, ": ");
        ft_json_real(b, m->value[i]);
    }
    ft_buf_puts(b, m->n ? "\n  }" : "}");
}

/* The value of a row of the plugin's table, as PEFT types it. */
static void put_value(ft_buf *b, const ft_param *p, const void *config)
{
    const void *at = (const char *)config + p->offset;
    const char *s;
    switch (p->kind) {
    case FT_INT: ft_buf_printf(b, "%lld", (long long)*(const int64_t *)at); return;
    case FT_REAL: ft_json_real(b, *(const double *)at); return;
    case FT_BOOL: ft_buf_puts(b, *(const bool *)at ? "true" : "false"); return;
    case FT_INTS: put_ints(b, at); return;
    case FT_MAP: put_map(b, at); return;
    case FT_LIST: put_list(b, ((const ft_list *)at)->v, ((const ft_list *)at)->n); return;
    case FT_STR_OR_LIST:
        if (((const ft_list *)at)->one) put_text(b, ((const ft_list *)at)->v[0]);
        else put_list(b, ((const ft_list *)at)->v, ((const ft_list *)at)->n);
        return;
    case FT_STR: case FT_PATH:
        s = *(const char *const *)at;
        if (!strcmp(s, "true") || !strcmp(s, "false")) ft_buf_puts(b, s);
        else put_text(b, s);
        return;
    }
}

/* target_modules as what was chosen: the last names when they choose the same sites, else all
 * names.  Experts' tensors are no modules. */
static void put_targets(ft_buf *b, const ft_method *m)
{
    const ft_method_adapter *a = &m->adapter[0];
    const uint32_t kinds = a->vt->sites & ~(uint32_t)FT_SITE_GROUPED;
    const char *name[256];
    size_t n = 0;
    bool exact = true;
    for (uint32_t i = 0; i < m->model->n_site; i++) {
        const char *dot = strrchr(m->model->site[i].name, '.'),
                   *last = dot ? dot + 1 : m->model->site[i].name;
        size_t k = 0;
        while (k < n && strcmp(name[k], last)) k++;
        bool chosen = a->index[i] >= 0 && (kinds & m->model->site[i].kind);
        if (chosen && k == n && n < 256) name[n++] = last;
    }
    for (uint32_t i = 0; i < m->model->n_site; i++) {
        const ft_site *s = &m->model->site[i];
        const char *dot = strrchr(s->name, '.'), *last = dot ? dot + 1 : s->name;
        bool named = false;
        for (size_t k = 0; k < n; k++) named |= !strcmp(name[k], last);
        exact &= !named || a->index[i] >= 0 || !(kinds & s->kind);
    }
    if (n == 0) {
        ft_buf_puts(b, "[]"); /* null would let PEFT choose for itself */
        return;
    }
    if (exact) {
        put_list(b, name, n);
        return;
    }
    ft_buf_puts(b, "[");
    for (uint32_t i = 0, k = 0; i < m->model->n_site; i++) {
        if (a->index[i] < 0 || !(kinds & m->model->site[i].kind)) continue;
        ft_buf_puts(b, k++ ? ",\n    " : "\n    ");
        put_text(b, m->model->site[i].name);
    }
    ft_buf_puts(b, "\n  ]");
}

static void add_member(member *all, size_t *n, const char *key, const char *text)
{
    all[*n] = (member){ .key = key };
    ft_buf_puts(&all[(*n)++].value, text);
}

void ft_adapter_config_text(ft_buf *out, const ft_method *m, const ft_instance *adapter,
                            const char *base_model)
{
    const ft_loaded *p = ft_instance_plugin(adapter);
    const ft_adapter *vt = ft_instance_vtable(adapter);
    member all[96];
    size_t n = 0;
    ft_buf quoted = { 0 };
    put_text(&quoted, base_model);
    add_member(all, &n, "base_model_name_or_path", quoted.p ? quoted.p : "null");
    add_member(all, &n, "auto_mapping", "null");
    add_member(all, &n, "inference_mode", "true");
    add_member(all, &n, "revision", "null");
    add_member(all, &n, "layers_pattern", "null");
    add_member(all, &n, "task_type", "\"CAUSAL_LM\"");
    quoted.n = 0;
    put_text(&quoted, vt->peft_type ? vt->peft_type : p->name);
    add_member(all, &n, "peft_type", quoted.p ? quoted.p : "null");
    for (const ft_param *row = p->params; row->key && n < 90; row++) {
        if (!strcmp(row->key, "init_adapter")) continue;
        all[n] = (member){ .key = row->key };
        if (!strcmp(row->key, "target_modules")) put_targets(&all[n].value, m);
        else if (!strcmp(row->key, "exclude_modules") &&
                 ((const ft_list *)(const void *)((const char *)ft_instance_config(adapter) +
                                                  row->offset))
                         ->n == 0)
            ft_buf_puts(&all[n].value, "null");
        else put_value(&all[n].value, row, ft_instance_config(adapter));
        n++;
    }
    qsort(all, n, sizeof *all, by_key);
    const char *extra = vt->peft_extra ? vt->peft_extra(ft_instance_self(adapter)) : NULL;
    ft_buf_puts(out, "{");
    for (size_t i = 0; i < n; i++) {
        ft_buf_printf(out, "%s\n  \"%s\": %s", i ? "," : "", all[i].key,
                      all[i].value.p ? all[i].value.p : "null");
        out->oom |= all[i].value.oom;
        ft_buf_free(&all[i].value);
    }
    if (extra) ft_buf_printf(out, ",\n  %s", extra);
    ft_buf_puts(out, "\n}\n");
    ft_buf_free(&quoted);
}

static int write_config(const char *dir, const ft_method *m, const ft_instance *adapter,
                        const char *base_model, ft_err *err)
{
    char path[4096];
    ft_buf text = { 0 };
    ft_adapter_config_text(&text, m, adapter, base_model);
    int code = ft_path_join(path, sizeof path, dir, "adapter_config.json", err);
    if (!code) code = ft_file_write_buf(path, &text, err);
    ft_buf_free(&text);
    return code;
}

int ft_trained_save(const char *path, const ft_engine *e, ft_err *err)
{
    const ft_g *g = e->program[0]->g;
    ft_st_writer *w = ft_st_new(err);
    if (!w) return err->code;
    int code = ft_st_note(w, "format", "pt", err);
    for (uint32_t i = 0; i < g->n_param && !code; i++) {
        const g_param *p = &g->param[i];
        int64_t k = p->saved ? ft_st_declare(w, p->name, g_value_at(g, p->value)->desc.dtype,
                                             p->shape.dim, p->shape.ndim, err)
                             : 0;
        code = k < 0 ? (int)k : 0;
    }
    if (!code) code = ft_st_begin(w, path, 0, err);
    int64_t k = 0;
    for (uint32_t i = 0; i < g->n_param && !code; i++) {
        const g_param *p = &g->param[i];
        if (p->saved)
            code = ft_st_write(w, k++, ft_engine_param(e, i),
                               g_value_bytes(&g_value_at(g, p->value)->desc), err);
    }
    if (!code) code = ft_st_commit(w, err);
    ft_st_free(w);
    return code;
}

int ft_adapter_save(const char *dir, const ft_engine *e, const ft_method *m,
                    const ft_instance *adapter, const char *base_model, ft_err *err)
{
    char path[4096];
    int code = ft_make_dirs(dir, err);
    if (!code) code = ft_path_join(path, sizeof path, dir, "adapter_model.safetensors", err);
    if (!code) code = ft_trained_save(path, e, err);
    return code ? code : write_config(dir, m, adapter, base_model, err);
}
