/* instance.c -- see instance.h. */
#include "core/load/instance.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "core/config/fill.h"
#include "core/load/isolate.h"

struct ft_instance {
    ft_host host; /* host.ctx is this instance */
    const ft_loaded *plugin;
    const ft_offer *offer;
    const char *stage;
    void *self;
    const void *config;
    pthread_mutex_t lock; /* of arena and err: plugins may fail and allocate from any thread */
    ft_arena arena;
    ft_err err;
};

/* ---- the host table ------------------------------------------------------------------------ */

/* Keeps the first message: what follows is mostly its consequence. */
static int host_fail(const ft_host *h, int code, const char *fmt, ...)
{
    ft_instance *i = h->ctx;
    va_list ap;
    if (code >= 0) code = FT_EINVAL; /* a failure may not look like success */
    va_start(ap, fmt);
    pthread_mutex_lock(&i->lock);
    ft_verrf(&i->err, code, fmt, ap);
    pthread_mutex_unlock(&i->lock);
    va_end(ap);
    return code;
}

/* A plugin that was built for more levels than there are is not heard. */
static void host_log(const ft_host *h, ft_level level, const char *fmt, ...)
{
    ft_instance *i = h->ctx;
    va_list ap;
    if (!i->offer->log || level < FT_DEBUG || level > FT_WARN) return;
    va_start(ap, fmt);
    ft_log_vline(i->offer->log, level, i->stage, fmt, ap);
    va_end(ap);
}

/* The place where a plugin learns of Ctrl-C. */
static int host_progress(const ft_host *h, const char *unit, int64_t done, int64_t total)
{
    ft_instance *i = h->ctx;
    if (i->offer->progress) ft_progress_update(i->offer->progress, unit, done, total);
    return ft_cancelled() ? host_fail(h, FT_ECANCEL, "stopped") : 0;
}

/* Given back as a whole when the instance is closed. */
static void *host_alloc(const ft_host *h, size_t n)
{
    ft_instance *i = h->ctx;
    pthread_mutex_lock(&i->lock);
    void *p = ft_arena_alloc(&i->arena, n);
    pthread_mutex_unlock(&i->lock);
    return p;
}

/* By name, in the offer's table. */
static const void *host_get(const ft_host *h, const char *iface)
{
    const ft_offer *o = ((const ft_instance *)h->ctx)->offer;
    for (size_t k = 0; k < o->n_services; k++) {
        if (!strcmp(o->service[k].name, iface)) return o->service[k].iface;
    }
    return NULL;
}

void *ft_host_run(const ft_host *h) { return ((const ft_instance *)h->ctx)->offer->run; }

/* ---- open and close ------------------------------------------------------------------------ */

/* {path: PATH}, or NULL where there is no path. */
static int path_alone(ft_yaml **map, ft_instance *i, const char *path, ft_config_file *f, ft_err *e)
{
    if (!path) return 0;
    ft_mark at = { f, 0, 0 };
    ft_yaml *v = ft_yaml_new_text(&i->arena, path, at);
    *map = ft_yaml_new(&i->arena, FT_YAML_MAP, at);
    if (!*map || !v) return ft_errf(e, FT_ENOMEM, "out of memory");
    v->key = "path";
    v->quoted = true;
    ft_yaml_append(*map, v);
    return 0;
}

/* The config of a plugin that is used without a pipeline file: every row's default, and `path`
 * unless it is NULL. */
static const void *default_config(ft_instance *i, const char *path, ft_err *e)
{
    ft_diags d = { 0 };
    ft_config_file file = { .name = i->stage, .text = "", .n = 0 };
    ft_fill_job job = { .arena = &i->arena, .diags = &d, .who = i->plugin->name };
    ft_yaml *map = NULL;
    void *config = ft_arena_alloc(&i->arena, i->plugin->desc.config_size);
    int code = config ? path_alone(&map, i, path, &file, e)
                      : ft_errf(e, FT_ENOMEM, "out of memory");
    if (!code)
        code = ft_config_fill(config, i->plugin->params, map, (ft_mark){ &file, 0, 0 }, &job);
    ft_diags_to_err(&d, e);
    ft_diags_free(&d);
    return code ? NULL : config;
}

/* Memory and config, then the plugin's own open. */
static int prepare(ft_instance *i, const char *stage, const void *config, const char *path,
                   ft_err *e)
{
    const ft_plugin *p = &i->plugin->desc;
    i->stage = ft_arena_strdup(&i->arena, stage);
    i->self = ft_arena_alloc(&i->arena, p->instance_size);
    if (!i->stage || !i->self) return ft_errf(e, FT_ENOMEM, "stage '%s': out of memory", stage);
    i->config = config ? config : default_config(i, path, e);
    if (!i->config) return e && e->code ? e->code : FT_EINVAL;
    if (!p->open) return 0;
    int code = p->open(i->self, &i->host, i->config);
    return code ? ft_instance_error(i, code, e) : 0;
}

/* Everything but the plugin's own close. */
static void release(ft_instance *i)
{
    pthread_mutex_destroy(&i->lock);
    ft_arena_free(&i->arena);
    free(i);
}

static ft_instance *open_with(const ft_loaded *p, const char *stage, const void *config,
                              const char *path, const ft_offer *offer, ft_err *e)
{
    static const ft_offer nothing;
    ft_instance *i = calloc(1, sizeof *i);
    if (!i) {
        ft_errf(e, FT_ENOMEM, "stage '%s': out of memory", stage);
        return NULL;
    }
    i->host = (ft_host){ sizeof(ft_host), i, host_fail, host_log, host_progress, host_alloc,
                         host_get };
    i->plugin = p;
    i->offer = offer ? offer : &nothing;
    pthread_mutex_init(&i->lock, NULL);
    if (!prepare(i, stage, config, path, e)) return i;
    release(i);
    return NULL;
}

ft_instance *ft_instance_open(const ft_loaded *p, const char *stage, const void *config,
                              const ft_offer *offer, ft_err *e)
{
    return open_with(p, stage, config, NULL, offer, e);
}

ft_instance *ft_instance_open_path(const ft_loaded *p, const char *stage, const char *path,
                                   const ft_offer *offer, ft_err *e)
{
    return open_with(p, stage, NULL, path, offer, e);
}

void ft_instance_close(ft_instance *i)
{
    if (!i) return;
    if (i->plugin->desc.close) i->plugin->desc.close(i->self);
    release(i);
}

int ft_instance_error(ft_instance *i, int code, ft_err *e)
{
    if (code >= 0) code = FT_EINVAL;
    pthread_mutex_lock(&i->lock);
    if (i->err.code)
        ft_errf(e, code, "stage '%s' (plugin %s): %s", i->stage, i->plugin->name, i->err.msg);
    else
        ft_errf(e, code, "stage '%s' (plugin %s): failed with code %d and gave no reason", i->stage,
                i->plugin->name, code);
    i->err.code = 0;
    pthread_mutex_unlock(&i->lock);
    return code;
}

void *ft_instance_self(const ft_instance *i) { return i->self; }
const void *ft_instance_config(const ft_instance *i) { return i->config; }
const void *ft_instance_vtable(const ft_instance *i) { return i->plugin->desc.vtable; }
const ft_loaded *ft_instance_plugin(const ft_instance *i) { return i->plugin; }
const ft_host *ft_instance_host(const ft_instance *i) { return &i->host; }
