/* test_host.h -- what the tests of data-chatml share: a host of their own, files of rows, and a
 * picture of what is trained. */
#ifndef CHATML_TEST_HOST_H
#define CHATML_TEST_HOST_H
#include "tests/harness.h"
#include <dlfcn.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>
#include "core/base/json.h"
#include "core/text/template.h"

/* ---- a host --------------------------------------------------------------------------------- */

/* An interface that the host does not have, or NULL. */
static const char *not_there;

typedef struct {
    const ft_plugin *plugin;
    const ft_format *format;
    ft_host host;
    ft_source source;
    void *self, *config;
    char failed[2048], logged[4096];
    int progressed;
} bench;

static inline int host_fail(const ft_host *h, int code, const char *fmt, ...)
{
    bench *b = h->ctx;
    va_list ap;
    va_start(ap, fmt);
    if (!*b->failed) vsnprintf(b->failed, sizeof b->failed, fmt, ap);
    va_end(ap);
    return code;
}

static inline void host_log(const ft_host *h, ft_level level, const char *fmt, ...)
{
    bench *b = h->ctx;
    size_t n = strlen(b->logged);
    va_list ap;
    (void)level;
    va_start(ap, fmt);
    vsnprintf(b->logged + n, sizeof b->logged - n, fmt, ap);
    va_end(ap);
}

static inline int host_progress(const ft_host *h, const char *unit, int64_t done, int64_t total)
{
    (void)unit, (void)done, (void)total;
    ((bench *)h->ctx)->progressed++;
    return FT_OK;
}

static inline ft_json_doc *api_parse(const ft_host *h, const char *what, const char *text, size_t n)
{
    ft_err e = { 0 };
    ft_json_doc *d = ft_json_parse(what, text, n, &e);
    if (!d) (h->fail)(h, e.code, "%s", e.msg);
    return d;
}

static inline const ft_source *api_model(const ft_host *h) { return &((bench *)h->ctx)->source; }

static inline const void *host_get(const ft_host *h, const char *iface)
{
    static const ft_json_api json = { sizeof json,  api_parse,      ft_json_root,
                                      ft_json_done, ft_json_as_int, ft_json_as_real };
    static const ft_source_api source = { sizeof source, api_model };
    (void)h;
    if (not_there && !strcmp(iface, not_there)) return NULL;
    return !strcmp(iface, "ft.json/1") ? (const void *)&json
         : !strcmp(iface, "ft.source/1") ? (const void *)&source
         : !strcmp(iface, "ft.template/1") ? (const void *)&ft_template_interface : NULL;
}

static inline void set_value(const bench *b, const ft_param *p, const char *text)
{
    char *at = (char *)b->config + p->offset;
    double real = strtod(text, NULL);
    if (p->kind == FT_REAL) memcpy(at, &real, sizeof real);
    else memcpy(at, &text, sizeof text);
}

/* Parameters as "key", "value", …, NULL; the others keep their defaults. */
static inline void setup(bench *b, const char *template, const char *eos, ...)
{
    char path[600];
    va_list ap;
    *b = (bench){ .host = { .size = sizeof b->host, .ctx = b, .fail = host_fail, .log = host_log,
                            .progress = host_progress, .get = host_get } };
    snprintf(path, sizeof path, "%s/plugins/data-chatml.so", test_build());
    void *so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    ck_assert_msg(so != NULL, "%s", dlerror());
    const ft_plugin *(*entry)(void);
    *(void **)&entry = dlsym(so, "ft_plugin_entry_1");
    b->plugin = entry();
    b->format = b->plugin->vtable;
    b->source = (ft_source){ .size = sizeof b->source, .path = "model", .chat_template = template,
                             .bos_token = "<s>", .eos_token = eos };
    b->self = calloc(1, b->plugin->instance_size);
    b->config = calloc(1, b->plugin->config_size);
    for (const ft_param *p = b->plugin->params; p->key; p++) set_value(b, p, p->def ? p->def : "");
    va_start(ap, eos);
    for (const char *key; (key = va_arg(ap, const char *)) != NULL;) {
        const char *value = va_arg(ap, const char *);
        const ft_param *p = b->plugin->params;
        while (p->key && strcmp(p->key, key)) p++;
        ck_assert_msg(p->key != NULL, "no parameter %s", key);
        set_value(b, p, value);
    }
    va_end(ap);
}

static inline int open_bench(bench *b) { return b->plugin->open(b->self, &b->host, b->config); }

static inline void teardown(bench *b)
{
    b->plugin->close(b->self);
    free(b->self);
    free(b->config);
}

/* ---- files of rows -------------------------------------------------------------------------- */

static char row_path[300], other_path[300];

static inline void make_paths(void)
{
    const char *dir = getenv("TMPDIR");
    snprintf(row_path, sizeof row_path, "%s/chatml-%d.jsonl", dir ? dir : "/tmp", (int)getpid());
    snprintf(other_path, sizeof other_path, "%s/chatml-%d.jinja", dir ? dir : "/tmp",
             (int)getpid());
}

static inline void remove_paths(void)
{
    unlink(row_path);
    unlink(other_path);
}

static inline void write_rows(const char *path, const char *text)
{
    ft_err e = { 0 };
    ck_assert_msg(!ft_file_write(path, text, strlen(text), &e), "%s", e.msg);
}

/* The text with "{{" and "}}" around what is trained; checks the spans' order on the way. */
static inline void put_trained(ft_buf *out, const ft_text *t)
{
    uint32_t at = 0;
    bool inside = false;
    for (size_t i = 0; i < t->n_span; i++) {
        const ft_span *s = &t->span[i];
        ck_assert_uint_eq(s->begin, at);
        ck_assert_uint_lt(s->begin, s->end);
        at = s->end;
        if ((s->train != 0) != inside) ft_buf_puts(out, inside ? "}}" : "{{");
        inside = s->train;
        ft_buf_add(out, t->text + s->begin, s->end - s->begin);
    }
    ck_assert_uint_eq(at, t->len);
    if (inside) ft_buf_puts(out, "}}");
}

/* All rows of the file, each as "text" or "chosen ### rejected", with a line between. */
static inline void read_all(bench *b, ft_buf *out)
{
    ft_sample s;
    int got;
    while ((got = b->format->next(b->self, &s)) == 1) {
        if (out->n) ft_buf_puts(out, "\n---\n");
        put_trained(out, &s.seq[0]);
        if (s.n_seq == 2) {
            ft_buf_puts(out, " ### ");
            put_trained(out, &s.seq[1]);
        }
    }
    ck_assert_msg(got == 0 || *b->failed, "next gave %d and no reason", got);
}

static inline void check_row(const char *template, const char *eos, const char *key,
                             const char *value, const char *row, const char *want)
{
    bench b;
    ft_buf got = { 0 };
    write_rows(row_path, row);
    setup(&b, template, eos, "path", row_path, key, value, NULL);
    ck_assert_msg(!open_bench(&b), "%s", b.failed);
    read_all(&b, &got);
    ck_assert_msg(!*b.failed, "%s\nof %s", b.failed, row);
    ck_assert_str_eq(got.p ? got.p : "", want);
    ft_buf_free(&got);
    teardown(&b);
}

/* ---- files of other kinds -------------------------------------------------------------------- */

/* Everything ends with [mark], so that a reply has an end. */
static const char plain[] = "{% for m in messages %}<{{ m.role[0] }}>{{ m.content }}{% if m.role "
                            "== 'assistant' %}[e]{% endif %}{% endfor %}"
                            "{% if add_generation_prompt %}<a>{% endif %}";

/* The rows of a file as read_all writes them, or what failed; status of the last next(). */
static inline void read_file_rows(ft_buf *got, char failed[2048], const char *path, const char *key,
                           const char *value, const char *bad)
{
    bench b;
    setup(&b, plain, "[e]", "path", path, "on_bad_row", bad, key, value, NULL);
    got->n = 0;
    ft_buf_puts(got, "");
    if (!open_bench(&b)) {
        read_all(&b, got);
        teardown(&b);
    } else {
        free(b.self);
        free(b.config);
    }
    snprintf(failed, 2048, "%s", b.failed);
}

/* A file of that name's ending. */
static inline void write_as(char path[300], const char *ending, const void *p, size_t n)
{
    ft_err e = { 0 };
    const char *dir = getenv("TMPDIR");
    snprintf(path, 300, "%s/chatml-files-%d%s", dir ? dir : "/tmp", (int)getpid(), ending);
    ck_assert_msg(!ft_file_write(path, p, n, &e), "%s", e.msg);
}
#endif
