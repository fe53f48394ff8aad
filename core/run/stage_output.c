/* stage_output.c -- the stages that write models: merge and export.
 *
 * Both stream: one tensor after the other is computed as fp32, rounded to the dtype it is written
 * in, and appended to its shard.  Numbers that are not finite, and numbers that fp16 cannot hold,
 * are errors; what rounding did is said in one line. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/file.h"
#include "core/base/half.h"
#include "core/base/json.h"
#include "core/io/dtype.h"
#include "core/io/safetensors_write.h"
#include "core/run/chat.h"
#include "core/run/merge.h"
#include "ft/export.h"

/* ---- weights --------------------------------------------------------------------------------- */

typedef struct {
    ft_st_writer *w;
    int64_t index;
    const ft_merge_item *item;
    ft_dtype to;
    /* rounding: largest |change|, sums of squares of changes and weights */
    double worst, moved, all;
    uint16_t half[4096];
} saving;

static int not_finite(const saving *s, float v, ft_err *e)
{
    if (isfinite(v))
        return ft_errf(e, FT_EINVAL,
                       "%s holds %g, above the limit of fp16, 65504; export with dtype: bf16 or "
                       "fp32",
                       s->item->name, (double)v);
    return ft_errf(e, FT_EFORMAT,
                   "%s holds numbers that are not finite; the training went astray: look at its "
                   "metrics and lower learning_rate",
                   s->item->name);
}

/* Rounds v, notes by how much, and gives the 16 bits. */
static uint16_t narrow(saving *s, float v)
{
    uint16_t h = s->to == FT_BF16 ? ft_float_to_bf16(v) : ft_float_to_half(v);
    double d = fabs((double)(s->to == FT_BF16 ? ft_bf16_to_float(h) : ft_half_to_float(h)) -
                    (double)v);
    if (d > s->worst) s->worst = d;
    s->moved += d * d;
    s->all += (double)v * (double)v;
    return h;
}

static int save_values(void *ctx, const float *v, int64_t n, ft_err *e)
{
    saving *s = ctx;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(v[i]) || (s->to == FT_F16 && fabsf(v[i]) >= 65520))
            return not_finite(s, v[i], e);
    }
    if (s->to == FT_F32) return ft_st_write(s->w, s->index, v, (size_t)n * sizeof *v, e);
    int code = 0;
    for (int64_t at = 0; at < n && !code; at += 4096) {
        int64_t k = n - at < 4096 ? n - at : 4096;
        for (int64_t i = 0; i < k; i++) s->half[i] = narrow(s, v[at + i]);
        code = ft_st_write(s->w, s->index, s->half, (size_t)k * sizeof *s->half, e);
    }
    return code;
}

/* dtype FT_NO_DTYPE: each tensor in the one that keeps it exactly. */
static ft_dtype dtype_for(const ft_merge_item *i, ft_dtype dtype)
{
    if (dtype != FT_NO_DTYPE) return dtype;
    return i->dtype == FT_BF16 || i->dtype == FT_F16 ? i->dtype : FT_F32;
}

static int declare(ft_st_writer *w, const ft_merge *m, ft_dtype dtype, ft_err *e)
{
    int code = ft_st_note(w, "format", "pt", e);
    for (size_t i = 0; i < m->n && !code; i++) {
        const ft_merge_item *t = &m->item[i];
        int64_t k = ft_st_declare(w, t->name, dtype_for(t, dtype), t->shape.dim, t->shape.ndim, e);
        code = k < 0 ? (int)k : 0;
    }
    return code;
}

/* model.safetensors, or shards of it, in dir. */
static int save_weights(ft_merge *m, const char *dir, ft_dtype dtype, uint64_t max_shard, saving *s,
                        ft_err *e)
{
    char path[4096];
    s->w = ft_st_new(e);
    if (!s->w) return e->code;
    int code = declare(s->w, m, dtype, e);
    if (!code) code = ft_path_join(path, sizeof path, dir, "model.safetensors", e);
    if (!code) code = ft_st_begin(s->w, path, max_shard, e);
    for (size_t i = 0; i < m->n && !code; i++) {
        s->index = (int64_t)i;
        s->item = &m->item[i];
        s->to = dtype_for(s->item, dtype);
        code = ft_merge_values(m, i, save_values, s, e);
        ft_progress_update(&m->run->progress, "tensors", (int64_t)i + 1, (int64_t)m->n);
        if (!code && ft_cancelled()) code = ft_errf(e, FT_ECANCEL, "stopped on request");
    }
    if (!code) code = ft_st_commit(s->w, e);
    ft_st_free(s->w);
    return code;
}

/* ---- config.json ----------------------------------------------------------------------------- */

/* Keys whose values an export decides itself. */
static bool is_ours(const ft_merge *m, const char *key)
{
    if (!strcmp(key, "tie_word_embeddings")) return m->untied;
    return !strcmp(key, "dtype") || !strcmp(key, "torch_dtype") ||
           !strcmp(key, "quantization_config");
}

/* The configuration with the dtype of the weights, and without what no longer holds. */
static int save_config(const ft_merge *m, const char *dir, ft_dtype dtype, ft_err *e)
{
    const ft_json *c = ft_json_root(m->config);
    const char *key = ft_json_get(c, "dtype") ? "dtype" : "torch_dtype";
    const char *text = dtype == FT_BF16 ? "bfloat16" : dtype == FT_F16 ? "float16" : "float32";
    char path[4096];
    size_t n = 0;
    ft_buf b = { 0 };
    if (c->type != FT_JSON_OBJECT)
        return ft_errf(e, FT_EFORMAT, "config.json of %s is no object", m->run->config.model);
    ft_json *item = calloc(c->len + 2, sizeof *item);
    if (!item) return ft_errf(e, FT_ENOMEM, "out of memory while writing config.json");
    for (size_t i = 0; i < c->len; i++) {
        if (!is_ours(m, c->item[i].key)) item[n++] = c->item[i];
    }
    item[n++] = (ft_json){ .type = FT_JSON_STRING,
                           .text = text,
                           .len = strlen(text),
                           .key = key,
                           .key_len = strlen(key) };
    if (m->untied)
        item[n++] = (ft_json){ .type = FT_JSON_BOOL, .key = "tie_word_embeddings", .key_len = 19 };
    ft_json_write(&b, &(ft_json){ .type = FT_JSON_OBJECT, .len = n, .item = item }, 2);
    ft_buf_putc(&b, '\n');
    int code = ft_path_join(path, sizeof path, dir, "config.json", e);
    if (!code) code = ft_file_write_buf(path, &b, e);
    ft_buf_free(&b);
    free(item);
    return code;
}

/* ---- merge ----------------------------------------------------------------------------------- */

static void say_merged(const ft_run *r, const ft_stage *s, const ft_merge *m, bool original)
{
    size_t merged = 0, trained = 0;
    for (size_t i = 0; i < m->n; i++) {
        merged += m->item[i].way == FT_MERGE_SITE;
        trained += m->item[i].way == FT_MERGE_TRAINED;
    }
    ft_log_line(&r->cli->log, FT_INFO, s->conf->id,
                "%zu tensors merged, %zu trained whole, %zu as they were%s%s", merged, trained,
                m->n - merged - trained,
                original ? "; onto the original weights, not those that were trained on" : "",
                m->untied ? "; the head has weights of its own now" : "");
}

int ft_stage_merge(ft_run *r, ft_stage *s, const char *dir, ft_err *e)
{
    const ft_merger *vt = s->conf->plugin->desc.vtable;
    const ft_merge_args *a = (const ft_merge_args *)(const void *)((const char *)s->conf->config +
                                                                   vt->args);
    bool original = !strcmp(a->base, "original");
    ft_merge m;
    saving save = { .w = NULL };
    int code = ft_merge_open(&m, r, s, original, e);
    if (!code) {
        code = save_weights(&m, dir, FT_NO_DTYPE, (uint64_t)5000000000, &save, e);
        if (!code) code = save_config(&m, dir, FT_F32, e);
        if (!code) say_merged(r, s, &m, original);
        ft_merge_close(&m);
    }
    return code;
}

/* ---- export ---------------------------------------------------------------------------------- */

typedef struct {
    ft_export pub; /* first */
    ft_run *run;
    ft_stage *stage;
    ft_instance *plugin;
    ft_merge merge;
    ft_chat chat;
    char dir[4096];
} exporting;

/* The first error of a service goes to the plugin's instance, which adds stage and plugin. */
static int failed(const exporting *x, int code, const ft_err *e)
{
    const ft_host *h = ft_instance_host(x->plugin);
    return code ? h->fail(h, code, "%s", e->msg) : 0;
}

static int api_put(const ft_export *pub, const char *name, const void *p, size_t n)
{
    const exporting *x = pub->ctx;
    ft_err e = { 0 };
    char path[4096];
    int code = strchr(name, '/') || *name == '.'
                   ? ft_errf(&e, FT_EINVAL, "%s is no plain file name", name)
                   : 0;
    if (!code) code = ft_path_join(path, sizeof path, x->dir, name, &e);
    if (!code) code = ft_file_write(path, p, n, &e);
    return failed(x, code, &e);
}

static int api_copy(const ft_export *pub, const char *name)
{
    const exporting *x = pub->ctx;
    ft_err e = { 0 };
    char from[4096];
    ft_map_file m;
    int code = strchr(name, '/') ? ft_errf(&e, FT_EINVAL, "%s is no plain file name", name) : 0;
    if (!code) code = ft_path_join(from, sizeof from, pub->source->path, name, &e);
    if (code || !ft_file_exists(from)) return failed(x, code, &e);
    code = ft_file_map(&m, from, &e);
    if (code) return failed(x, code, &e);
    code = api_put(pub, name, m.p, m.n);
    ft_file_unmap(&m);
    return code;
}

static int api_model(const ft_export *pub, ft_dtype dtype, uint64_t max_shard)
{
    exporting *x = pub->ctx;
    ft_err e = { 0 };
    saving save = { .w = NULL };
    if (dtype == FT_NO_DTYPE) dtype = x->merge.own == FT_NO_DTYPE ? FT_BF16 : x->merge.own;
    if (dtype != FT_F32 && dtype != FT_BF16 && dtype != FT_F16)
        return failed(x,
                      ft_errf(&e, FT_EDTYPE,
                              "weights cannot be written as %s; F32, BF16 and F16 can",
                              ft_dtype_name(dtype)),
                      &e);
    int code = save_weights(&x->merge, x->dir, dtype, max_shard, &save, &e);
    if (!code) code = save_config(&x->merge, x->dir, dtype, &e);
    if (!code && save.worst > 0)
        ft_log_line(&x->run->cli->log, FT_INFO, x->stage->conf->id,
                    "rounded to %s: by at most %.3g, %.3g of the weights' size",
                    ft_dtype_name(dtype), save.worst, sqrt(save.moved / save.all));
    return failed(x, code, &e);
}

static int open_export(exporting *x, const char *dir, ft_err *e)
{
    ft_run *r = x->run;
    int code = ft_path_join(x->dir, sizeof x->dir, dir, "model", e);
    if (!code) code = ft_make_dirs(x->dir, e);
    if (!code && r->model.source->gguf)
        code = ft_chat_open(&x->chat, r->model.source, r->registry, &r->offer, e);
    x->pub = (ft_export){ .size = sizeof x->pub,
                          .ctx = x,
                          .source = r->model.source,
                          .context = r->model.info.context,
                          .put = api_put,
                          .copy = api_copy,
                          .model = api_model };
    if (x->chat.tok.vt) {
        x->pub.tokenizer = x->chat.tok.vt;
        x->pub.tokenizer_self = x->chat.tok.self;
        x->pub.vocab = &x->chat.tok.vocab;
    }
    return code;
}

static int run_export(exporting *x, const char *dir, ft_err *e)
{
    const ft_exporter *vt = ft_instance_vtable(x->plugin);
    int code = ft_merge_open(&x->merge, x->run, x->stage, false, e);
    if (code) return code;
    code = open_export(x, dir, e);
    if (!code) {
        code = vt->write(ft_instance_self(x->plugin), &x->pub);
        if (code) ft_instance_error(x->plugin, code, e);
    }
    ft_chat_close(&x->chat);
    ft_merge_close(&x->merge);
    return code;
}

int ft_stage_export(ft_run *r, ft_stage *s, const char *dir, ft_err *e)
{
    exporting *x = calloc(1, sizeof *x);
    if (!x) return ft_errf(e, FT_ENOMEM, "out of memory while exporting");
    x->run = r;
    x->stage = s;
    x->plugin = ft_run_instance(r, s, e);
    int code = x->plugin ? run_export(x, dir, e) : e->code;
    ft_instance_close(x->plugin);
    free(x);
    return code;
}
