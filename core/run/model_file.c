/* model_file.c -- see model_file.h. */
#include "core/run/model_file.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/io/safetensors_write.h"
#include "ft/half.h"

/* ---- numbers --------------------------------------------------------------------------------- */

typedef struct {
    const ft_model_form *form;
    ft_st_writer *w;
    ft_merge *m;
    int64_t index;             /* of the part that is written next */
    const ft_merge_item *item;
    ft_dtype to;
    ft_rounding *rounding;
    bool gather;               /* the tensor is to be packed: */
    ft_buf whole;              /* it is put together here, rounded */
    ft_buf parts;
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
    ft_rounding *r = s->rounding;
    uint16_t h = s->to == FT_BF16 ? ft_float_to_bf16(v) : ft_float_to_half(v);
    double d = fabs((double)(s->to == FT_BF16 ? ft_bf16_to_float(h) : ft_half_to_float(h)) -
                    (double)v);
    if (d > r->worst) r->worst = d;
    r->moved += d * d;
    r->all += (double)v * (double)v;
    return h;
}

/* The next bytes of the tensor: to the file, or to where it is packed from. */
static int put(saving *s, const void *p, size_t n, ft_err *e)
{
    if (!s->gather) return ft_st_write(s->w, s->index, p, n, e);
    ft_buf_add(&s->whole, p, n);
    return s->whole.oom ? ft_errf(e, FT_ENOMEM, "out of memory while packing %s", s->item->name)
                        : 0;
}

static int save_values(void *ctx, const float *v, int64_t n, ft_err *e)
{
    saving *s = ctx;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(v[i]) || (s->to == FT_F16 && fabsf(v[i]) >= 65520))
            return not_finite(s, v[i], e);
    }
    if (s->to == FT_F32) return put(s, v, (size_t)n * sizeof *v, e);
    int code = 0;
    for (int64_t at = 0; at < n && !code; at += 4096) {
        int64_t k = n - at < 4096 ? n - at : 4096;
        for (int64_t i = 0; i < k; i++) s->half[i] = narrow(s, v[at + i]);
        code = put(s, s->half, (size_t)k * sizeof *s->half, e);
    }
    return code;
}

/* ---- tensors and their parts ----------------------------------------------------------------- */

static ft_dtype dtype_for(const ft_merge_item *i, ft_dtype dtype)
{
    if (dtype != FT_NO_DTYPE) return dtype;
    return i->dtype == FT_BF16 || i->dtype == FT_F16 ? i->dtype : FT_F32;
}

/* The parts that item i is packed into; 0: it is written as it is. */
static int parts_of(const saving *s, const ft_merge_item *i, ft_part part[FT_MAX_PARTS])
{
    if (!s->form->pack) return 0;
    return ft_quantize_parts(s->form->pack, s->m->run->scan.g, i->name, &i->shape, part);
}

static int declare(saving *s, ft_err *e)
{
    int code = ft_st_note(s->w, "format", "pt", e);
    for (size_t i = 0; i < s->m->n && !code; i++) {
        const ft_merge_item *t = &s->m->item[i];
        ft_part part[FT_MAX_PARTS];
        int n = parts_of(s, t, part);
        int64_t k = n ? ft_quantize_declare(s->w, t->name, part, n, e)
                      : ft_st_declare(s->w, t->name, dtype_for(t, s->form->dtype), t->shape.dim,
                                      t->shape.ndim, e);
        code = k < 0 ? (int)k : 0;
    }
    return code;
}

/* Item number i of the model: as it is, or gathered and packed. */
static int save_item(saving *s, size_t i, ft_err *e)
{
    ft_part part[FT_MAX_PARTS];
    s->item = &s->m->item[i];
    s->to = dtype_for(s->item, s->form->dtype);
    int n = parts_of(s, s->item, part);
    s->gather = n > 0;
    s->whole.n = 0;
    int code = ft_merge_values(s->m, i, save_values, s, e);
    if (n && !code) {
        ft_tensor t = { .name = s->item->name, .dtype = s->to, .ndim = s->item->shape.ndim,
                        .data = s->whole.p, .bytes = s->whole.n };
        memcpy(t.dim, s->item->shape.dim, (size_t)t.ndim * sizeof *t.dim);
        code = ft_quantize_write(s->form->pack, s->form->packer, &t, part, n, s->w, &s->index,
                                 &s->parts, e);
    } else {
        s->index++;
    }
    return code;
}

static int save_all(saving *s, ft_err *e)
{
    char path[4096];
    int code = declare(s, e);
    if (!code) code = ft_path_join(path, sizeof path, s->form->dir, "model.safetensors", e);
    if (!code) code = ft_st_begin(s->w, path, s->form->max_shard, e);
    for (size_t i = 0; i < s->m->n && !code; i++) {
        code = save_item(s, i, e);
        ft_progress_update(&s->m->run->progress, "tensors", (int64_t)i + 1, (int64_t)s->m->n);
        if (!code && ft_cancelled()) code = ft_errf(e, FT_ECANCEL, "stopped on request");
    }
    return code ? code : ft_st_commit(s->w, e);
}

int ft_model_save(ft_merge *m, const ft_model_form *form, ft_rounding *rounding, ft_err *e)
{
    saving s = { .form = form, .m = m, .rounding = rounding, .w = ft_st_new(e) };
    int code = s.w ? save_all(&s, e) : e->code;
    ft_st_free(s.w);
    ft_buf_free(&s.whole);
    ft_buf_free(&s.parts);
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
int ft_model_save_config(const ft_merge *m, const ft_model_form *form, ft_dtype dtype, ft_err *e)
{
    const ft_json *c = ft_json_root(m->config);
    const char *key = ft_json_get(c, "dtype") ? "dtype" : "torch_dtype";
    const char *text = dtype == FT_BF16 ? "bfloat16" : dtype == FT_F16 ? "float16" : "float32";
    char path[4096];
    size_t n = 0;
    ft_buf b = { 0 };
    if (c->type != FT_JSON_OBJECT)
        return ft_errf(e, FT_EFORMAT, "config.json of %s is no object", m->run->config.model);
    ft_json_doc *packed = NULL;
    if (form->pack && FT_HAS(form->pack->vt, config) && form->pack->vt->config) {
        const char *json = form->pack->vt->config(form->pack->self);
        packed = json ? ft_json_parse("quantization_config", json, strlen(json), e) : NULL;
        if (json && !packed) return e->code;
    }
    ft_json *item = calloc(c->len + 3, sizeof *item);
    if (!item) return ft_errf(e, FT_ENOMEM, "out of memory while writing config.json");
    for (size_t i = 0; i < c->len; i++) {
        if (!is_ours(m, c->item[i].key)) item[n++] = c->item[i];
    }
    item[n++] = (ft_json){ .type = FT_JSON_STRING,
                           .text = text,
                           .len = (uint32_t)strlen(text),
                           .key = key,
                           .key_len = (uint32_t)strlen(key) };
    if (m->untied)
        item[n++] = (ft_json){ .type = FT_JSON_BOOL, .key = "tie_word_embeddings", .key_len = 19 };
    if (packed) {
        item[n] = *ft_json_root(packed);
        item[n].key = "quantization_config";
        item[n++].key_len = 19;
    }
    ft_json_write(&b, &(ft_json){ .type = FT_JSON_OBJECT, .len = (uint32_t)n, .item = item }, 2);
    ft_buf_putc(&b, '\n');
    int code = ft_path_join(path, sizeof path, form->dir, "config.json", e);
    if (!code) code = ft_file_write_buf(path, &b, e);
    ft_buf_free(&b);
    ft_json_done(packed);
    free(item);
    return code;
}
