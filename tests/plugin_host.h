/* plugin_host.h -- opening a plugin in a test, without the loader: dlopen, parameters from a table
 * of texts, and a small host whose error message, threads and memory the test controls. */
#ifndef FT_TESTS_PLUGIN_HOST_H
#define FT_TESTS_PLUGIN_HOST_H
#include <dlfcn.h>
#include <pthread.h>
#include "core/base/arena.h"
#include "core/base/json.h"
#include "ft/quant.h"
#include "tests/harness.h"

typedef struct { const char *key, *text; } plugin_text; /* ends with a NULL key */

typedef struct {
    ft_host host;
    void *so, *self, *config;
    const ft_plugin *plugin;
    ft_err err;          /* what fail() was told last */
    ft_arena arena;
    int threads;         /* 0: the host offers no "ft.threads/1" */
    bool no_memory;      /* host->alloc gives NULL */
    const char *lacks;   /* an interface that the host does not offer, or NULL */
    const char *offer;   /* a further interface that the test offers, by name, or NULL */
    const void *offered;
} plugin_host;

/* ---- the host -------------------------------------------------------------------------------- */
__attribute__((format(printf, 3, 4)))
static inline int ph_fail(const ft_host *h, int code, const char *fmt, ...)
{
    plugin_host *p = h->ctx;
    va_list ap;
    va_start(ap, fmt);
    p->err = (ft_err){ 0 };
    ft_verrf(&p->err, code, fmt, ap);
    va_end(ap);
    return code;
}

__attribute__((format(printf, 3, 4)))
static inline void ph_log(const ft_host *h, ft_level level, const char *fmt, ...)
{
    (void)h, (void)level, (void)fmt;
}

static inline int ph_progress(const ft_host *h, const char *unit, int64_t done, int64_t total)
{
    (void)h, (void)unit, (void)done, (void)total;
    return 0;
}

static inline void *ph_alloc(const ft_host *h, size_t n)
{
    plugin_host *p = h->ctx;
    return p->no_memory ? NULL : ft_arena_alloc(&p->arena, n);
}

static inline ft_json_doc *ph_parse(const ft_host *h, const char *what, const char *s, size_t n)
{
    ft_err e = { 0 };
    ft_json_doc *d = ft_json_parse(what, s, n, &e);
    if (!d) ph_fail(h, e.code, "%s", e.msg);
    return d;
}

/* Thread t of `threads` takes every threads-th item, backwards, so that order shows. */
typedef struct { int64_t n, t, threads; void (*fn)(void *, int64_t); void *arg; } ph_share;
static inline void *ph_work(void *arg)
{
    ph_share *s = arg;
    for (int64_t i = s->n - 1 - s->t; i >= 0; i -= s->threads) s->fn(s->arg, i);
    return NULL;
}

static inline void ph_each(const ft_host *h, int64_t n, void (*fn)(void *, int64_t), void *arg)
{
    plugin_host *p = h->ctx;
    pthread_t id[16];
    ph_share share[16];
    for (int t = 0; t < p->threads; t++) {
        share[t] = (ph_share){ n, t, p->threads, fn, arg };
        ck_assert_int_eq(pthread_create(&id[t], NULL, ph_work, &share[t]), 0);
    }
    for (int t = 0; t < p->threads; t++) pthread_join(id[t], NULL);
}

static inline const void *ph_get(const ft_host *h, const char *iface)
{
    static const ft_json_api json = { sizeof json, ph_parse, ft_json_root, ft_json_done,
                                      ft_json_as_int, ft_json_as_real };
    static const ft_threads_api threads = { sizeof threads, ph_each };
    const plugin_host *p = h->ctx;
    if (p->lacks && !strcmp(iface, p->lacks)) return NULL;
    if (strcmp(iface, "ft.json/1") == 0) return &json;
    if (p->offer && !strcmp(iface, p->offer)) return p->offered;
    bool some = p->threads > 0;
    return some && strcmp(iface, "ft.threads/1") == 0 ? &threads : NULL;
}

/* ---- parameters ------------------------------------------------------------------------------ */
/* Words between commas. */
static inline ft_list ph_list(plugin_host *p, const char *text)
{
    const char **v = ft_arena_array(&p->arena, strlen(text) + 1, sizeof *v);
    ft_list list = { 0, v, false };
    char *rest = ft_arena_strdup(&p->arena, text);
    for (char *w; (w = strsep(&rest, ",")) != NULL;) {
        if (*w) v[list.n++] = w;
    }
    return list;
}

/* "name=number" between commas. */
static inline ft_map ph_map(plugin_host *p, const char *text)
{
    ft_list list = ph_list(p, text);
    const char **key = ft_arena_array(&p->arena, list.n + 1, sizeof *key);
    double *value = ft_arena_array(&p->arena, list.n + 1, sizeof *value);
    for (size_t i = 0; i < list.n; i++) {
        char *copy = ft_arena_strdup(&p->arena, list.v[i]), *equals = strchr(copy, '=');
        ck_assert_ptr_nonnull(equals);
        *equals = 0;
        key[i] = copy;
        value[i] = strtod(equals + 1, NULL);
    }
    return (ft_map){ list.n, key, value };
}

static inline void ph_store(plugin_host *p, const ft_param *row, const char *text)
{
    void *at = (char *)p->config + row->offset;
    switch (row->kind) {
    case FT_INT: *(int64_t *)at = strtoll(text, NULL, 10); return;
    case FT_REAL: *(double *)at = strtod(text, NULL); return;
    case FT_BOOL: *(bool *)at = strcmp(text, "true") == 0; return;
    case FT_STR:
    case FT_PATH: *(const char **)at = text; return;
    case FT_LIST: *(ft_list *)at = ph_list(p, text); return;
    case FT_MAP: *(ft_map *)at = ph_map(p, text); return;
    default: ck_abort_msg("%s: a kind that plugin_host.h does not know", row->key);
    }
}

/* ---- open and close -------------------------------------------------------------------------- */
/* Opens build/plugins/NAME.so with defaults and the given texts; returns what its open() said. */
static inline int plugin_open(plugin_host *p, const char *name, const plugin_text *given)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/plugins/%s.so", test_build(), name);
    p->host = (ft_host){ sizeof(ft_host), p, ph_fail, ph_log, ph_progress, ph_alloc, ph_get };
    p->so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    ck_assert_msg(p->so != NULL, "%s", dlerror());
    const ft_plugin *(*entry)(void);
    *(void **)&entry = dlsym(p->so, "ft_plugin_entry_1");
    ck_assert_ptr_nonnull(entry);
    p->plugin = entry();
    ck_assert_str_eq(p->plugin->name, name);
    p->config = ft_arena_alloc(&p->arena, p->plugin->config_size + 1);
    p->self = ft_arena_alloc(&p->arena, p->plugin->instance_size + 1);
    for (const ft_param *r = p->plugin->params; r && r->key; r++) {
        const char *text = r->def ? r->def : "";
        for (const plugin_text *t = given; t && t->key; t++) {
            if (strcmp(t->key, r->key) == 0) text = t->text;
        }
        ph_store(p, r, text);
    }
    return p->plugin->open ? p->plugin->open(p->self, &p->host, p->config) : 0;
}

static inline void plugin_close(plugin_host *p)
{
    if (p->plugin->close) p->plugin->close(p->self);
    ft_arena_free(&p->arena);
    *p = (plugin_host){ 0 };
}
#endif
