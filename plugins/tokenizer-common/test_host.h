/* test_host.h -- a host for one tokenizer plugin alone: errors are kept, JSON comes from core/base,
 * and a model's source is filled from a folder, a text or the metadata of a GGUF file. */
#ifndef TOK_TEST_HOST_H
#define TOK_TEST_HOST_H
#include <dlfcn.h>
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/utf8.h"
#include "ft/data.h"

typedef struct {
    ft_host h;
    ft_err err;
    void *lib, *self, *enc;
    const ft_plugin *plugin;
    const ft_tokenizer *vt;
    ft_vocab vocab;
    ft_source source;
    ft_json_doc *doc, *config;
    ft_buf file;             /* GGUF, SentencePiece: the file, which the source points into */
    ft_meta meta[256];
    char key[256][128];
} test_tok;

static int test_fail(const ft_host *h, int code, const char *fmt, ...)
{
    test_tok *t = h->ctx;
    va_list ap;
    va_start(ap, fmt);
    ft_verrf(&t->err, code, fmt, ap);
    va_end(ap);
    return code;
}

static void test_log(const ft_host *h, ft_level level, const char *fmt, ...)
{
    (void)h;
    (void)level;
    (void)fmt;
}

static ft_json_doc *test_parse(const ft_host *h, const char *what, const char *text, size_t n)
{
    return ft_json_parse(what, text, n, &((test_tok *)h->ctx)->err);
}

static const void *test_get(const ft_host *h, const char *iface)
{
    static const ft_json_api json = { sizeof json, test_parse, ft_json_root, ft_json_done,
                                      ft_json_as_int, ft_json_as_real };
    (void)h;
    return strcmp(iface, "ft.json/1") ? NULL : &json;
}

/* Loads build/plugins/PLUGIN.so and opens an instance; false: t->err says why. */
static bool test_open(test_tok *t, const char *build, const char *plugin)
{
    char path[6000];
    memset(t, 0, sizeof *t);
    t->h = (ft_host){ .size = sizeof t->h, .ctx = t, .fail = test_fail, .log = test_log,
                      .get = test_get };
    snprintf(path, sizeof path, "%s/plugins/%s.so", build, plugin);
    t->lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!t->lib) {
        ft_errf(&t->err, FT_EIO, "%s", dlerror());
        return false;
    }
    const ft_plugin *(*entry)(void);
    *(void **)&entry = dlsym(t->lib, "ft_plugin_entry_1");
    t->plugin = entry();
    t->vt = t->plugin->vtable;
    t->self = calloc(1, t->plugin->instance_size);
    t->source.size = sizeof t->source;
    t->source.bos_token = t->source.eos_token = "";
    t->vocab.size = sizeof t->vocab;
    return t->plugin->open(t->self, &t->h, NULL) == 0;
}

static bool test_load(test_tok *t)
{
    if (t->vt->load(t->self, &t->source, &t->vocab)) return false;
    t->enc = t->vt->encoder(t->self);
    return t->enc != NULL;
}

/* Loads a tokenizer.json given as text. */
static bool test_load_text(test_tok *t, const char *text, size_t n)
{
    ft_buf b = { 0 };
    ft_buf_add(&b, text, n);
    t->doc = ft_json_parse_buf("tokenizer.json", &b, &t->err);
    if (!t->doc) return false;
    t->source.tokenizer = ft_json_root(t->doc);
    return test_load(t);
}

/* Loads a SentencePiece model given as bytes. */
static bool test_load_spm(test_tok *t, const char *p, size_t n)
{
    t->source.tokenizer_model = p;
    t->source.tokenizer_model_size = n;
    return test_load(t);
}

/* Loads DIR/tokenizer.json, else DIR/tokenizer.model, with DIR/tokenizer_config.json where there is
 * one. */
static bool test_load_dir(test_tok *t, const char *dir)
{
    char path[6000];
    ft_buf b = { 0 };
    snprintf(path, sizeof path, "%s/tokenizer_config.json", dir);
    if (ft_file_exists(path) && !ft_file_read(&b, path, 1 << 26, &t->err))
        t->config = ft_json_parse(path, b.p, b.n, &t->err);
    if (t->config) t->source.tokenizer_config = ft_json_root(t->config);
    b.n = 0;
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    if (!ft_file_exists(path)) {
        ft_buf_free(&b);
        snprintf(path, sizeof path, "%s/tokenizer.model", dir);
        return !ft_file_read(&t->file, path, 1 << 26, &t->err) &&
               test_load_spm(t, t->file.p, t->file.n);
    }
    bool fine = !ft_file_read(&b, path, 1 << 28, &t->err) && test_load_text(t, b.p, b.n);
    ft_buf_free(&b);
    return fine;
}

static void test_close(test_tok *t)
{
    if (t->enc) t->vt->encoder_done(t->self, t->enc);
    if (t->self) t->plugin->close(t->self);
    free(t->self);
    ft_json_done(t->doc);
    ft_json_done(t->config);
    ft_buf_free(&t->file);
}

/* Bytes that a value of this type takes at p. */
static size_t test_meta_size(ft_meta_type type, const char *p)
{
    static const size_t size[] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };
    uint64_t n;
    if (type != FT_META_STRING) return size[type];
    memcpy(&n, p, 8);
    return 8 + n;
}

/* Reads the key-values of a GGUF file that is known to be good, and loads its tokenizer. */
static bool test_load_gguf(test_tok *t, const char *path)
{
    uint64_t n_kv, n;
    uint32_t type, item;
    if (ft_file_read(&t->file, path, (size_t)1 << 31, &t->err)) return false;
    memcpy(&n_kv, t->file.p + 16, 8);
    const char *p = t->file.p + 24;
    for (uint64_t i = 0; i < n_kv && i < 256; i++) {
        ft_meta *m = &t->meta[i];
        memcpy(&n, p, 8);
        snprintf(t->key[i], sizeof t->key[i], "%.*s", (int)n, p + 8);
        memcpy(&type, p + 8 + n, 4);
        p += 12 + n;
        *m = (ft_meta){ .key = t->key[i], .type = (ft_meta_type)type, .n = 1, .data = p };
        if (m->type == FT_META_ARRAY) {
            memcpy(&item, p, 4);
            memcpy(&m->n, p + 4, 8);
            m->item = (ft_meta_type)item;
            m->data = p += 12;
            for (uint64_t k = 0; k < m->n; k++) p += test_meta_size(m->item, p);
        } else {
            p += test_meta_size(m->type, p);
        }
    }
    t->source.gguf = true;
    t->source.meta = t->meta;
    t->source.n_meta = (size_t)n_kv;
    return test_load(t);
}
#endif
