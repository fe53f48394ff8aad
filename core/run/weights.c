/* weights.c -- see weights.h. */
#include "core/run/weights.h"
#include <stdio.h>
#include <string.h>
#include "ft/half.h"
#include "core/graph/plan.h"
#include "core/graph/rules.h"
#include "core/io/blocks.h"
#include "core/io/dtype.h"
#include "core/run/pieces.h"

/* ---- block formats and interleaved rows as packed numbers ------------------------------------ */

typedef struct {
    ft_packed pub; /* first */
    const ft_block_format *format;
    ft_block_decoder *decode;
    ft_block_rounder *round;
    const char *data;
    int64_t heads; /* rows of each of so many heads are interleaved in the file; 0: not */
} blocks;

/* The row of the file that holds row r (ft_gguf_name.interleaved_heads). */
static int64_t file_row(const blocks *b, int64_t r)
{
    if (!b->heads) return r;
    int64_t size = b->pub.rows / b->heads, in = r % size, half = size / 2;
    return r - in + in % half * 2 + in / half;
}

static void decode_tile(const ft_packed *p, int64_t r0, int64_t nr, int64_t c0, int64_t nc,
                        ft_dtype to, void *dst, int64_t ld)
{
    const blocks *b = (const blocks *)(const void *)p;
    if (!b->heads && nc == p->cols && ld == nc) { /* one run of blocks */
        nc *= nr;
        nr = nr > 0;
    }
    for (int64_t r = 0; r < nr; r++) {
        uint64_t at = (uint64_t)(file_row(b, r0 + r) * p->cols + c0), n = (uint64_t)nc;
        if (to == FT_F32)
            ft_block_decode((float *)dst + r * ld, b->format, b->decode, b->data, at, n);
        else
            ft_block_decode_bf16((uint16_t *)dst + r * ld, b->format, b->decode, b->round, b->data,
                                 at, n);
    }
}

static int open_blocks(ft_weights *w, const ft_tensor *t, int64_t heads, ft_arg *out, ft_err *e)
{
    blocks *b = ft_arena_alloc(&w->arena, sizeof *b);
    const ft_block_format *f = ft_block_of(t);
    if (!b) return ft_errf(e, FT_ENOMEM, "out of memory while opening weights");
    if (!f || !f->decode)
        return ft_errf(e, FT_EUNSUP, "%s: tensor %s has format %s, whose numbers cannot be decoded",
                       w->path, t->name, t->scheme ? t->scheme : ft_dtype_name(t->dtype));
    *b = (blocks){ .pub = { .tile = decode_tile, .rows = out->rows, .cols = out->cols },
                   .format = f,
                   .decode = ft_block_wide(f, FT_MOST_LANES),
                   .round = ft_block_short(f),
                   .data = t->data,
                   .heads = heads };
    out->packed = &b->pub;
    return 0;
}

/* ---- the quantizer's parts ------------------------------------------------------------------- */

/* The name of a part: the weight's and its suffix (ft_part.suffix). */
static void part_name(char out[512], const char *weight, const char *suffix)
{
    const char *dot = strrchr(weight, '.');
    bool instead = *suffix == '/' && dot;
    if (instead) snprintf(out, 512, "%.*s.%s", (int)(dot - weight), weight, suffix + 1);
    else snprintf(out, 512, "%s%s", weight, suffix);
}

/* 1 when the packed set has this weight, 0 when not, or an error. */
static int open_packed(ft_weights *w, const char *name, const ft_shape *s, ft_arg *out, ft_err *e)
{
    ft_part part[FT_MAX_PARTS];
    ft_tensor t[FT_MAX_PARTS] = { { .name = NULL } };
    char key[512];
    if (!w->packed || s->ndim < 2) return 0;
    int n = w->quantizer->parts(w->quantizer_self, s->dim, s->ndim, part);
    for (int i = 0; i < n; i++) {
        part_name(key, name, part[i].suffix);
        const ft_tensor *found = ft_tensors_find(w->packed, key);
        if (i == 0 && (!found || found->dtype != part[0].dtype)) return 0;
        if (found) t[i] = *found;
    }
    if (n <= 0) return 0;
    ft_packed *p = ft_arena_alloc(&w->arena, sizeof *p);
    if (!p) return ft_errf(e, FT_ENOMEM, "out of memory while opening weights");
    int code = w->quantizer->open(w->quantizer_self, s->dim, s->ndim, t, p);
    if (code) return ft_instance_error(w->quantizer_plugin, code, e);
    p->rows = out->rows;
    p->cols = out->cols;
    out->packed = p;
    return 1;
}

/* ---- plain tensors --------------------------------------------------------------------------- */

static int wrong_shape(const ft_weights *w, const char *name, const ft_tensor *t, const ft_shape *s,
                       ft_err *e)
{
    ft_desc want = { .shape = *s }, have = { .shape = { .ndim = t->ndim < 4 ? t->ndim : 4 } };
    char text[80];
    for (int i = 0; i < have.shape.ndim; i++) have.shape.dim[i] = t->dim[i];
    snprintf(text, sizeof text, "%s", g_shape_text(&have));
    return ft_errf(e, FT_EFORMAT, "%s: tensor %s has shape %s where the model needs %s (%s)",
                   w->path, t->name, text, g_shape_text(&want), name);
}

static bool same_shape(const ft_tensor *t, const ft_shape *s)
{
    if (t->ndim != s->ndim) return false;
    for (int i = 0; i < s->ndim; i++) {
        if (t->dim[i] != s->dim[i]) return false;
    }
    return true;
}

/* A plain tensor is read in place; when it is not aligned for its dtype, from a copy. */
static int open_plain(ft_weights *w, const ft_tensor *t, ft_arg *out, ft_err *e)
{
    out->data = (void *)(uintptr_t)t->data;
    out->dtype = t->dtype;
    if ((uintptr_t)t->data % (uintptr_t)g_dtype_bytes(t->dtype) == 0) return 0;
    out->data = ft_arena_alloc(&w->arena, t->bytes);
    if (!out->data) return ft_errf(e, FT_ENOMEM, "out of memory while copying tensor %s", t->name);
    memcpy(out->data, t->data, t->bytes);
    return 0;
}

/* A vector with interleaved heads (a query or key bias), or with numbers that are shifted, is put
 * in order once. */
static int open_vector(ft_weights *w, const ft_tensor *t, const ft_gguf_name *in_gguf, ft_arg *out,
                       ft_err *e)
{
    int code = open_blocks(w, t, 0, out, e);
    if (code) return code;
    blocks order = { .pub = { .rows = out->cols }, .heads = in_gguf->interleaved_heads };
    float *v = ft_arena_array(&w->arena, (size_t)out->cols, sizeof *v);
    if (!v) return ft_errf(e, FT_ENOMEM, "out of memory while copying tensor %s", t->name);
    for (int64_t i = 0; i < out->cols; i++) {
        out->packed->tile(out->packed, 0, 1, file_row(&order, i), 1, FT_F32, &v[i], 1);
        v[i] = (float)((double)v[i] - in_gguf->shift);
    }
    out->packed = NULL;
    out->data = v;
    out->dtype = FT_F32;
    return 0;
}

static bool is_plain(const ft_tensor *t)
{
    return !t->scheme && (t->dtype == FT_F32 || t->dtype == FT_BF16 || t->dtype == FT_F16);
}

int ft_weights_tensor(ft_weights *w, const ft_tensor *t, int64_t heads, ft_arg *out, ft_err *e)
{
    return is_plain(t) && !heads ? open_plain(w, t, out, e) : open_blocks(w, t, heads, out, e);
}

/* Bytes that a weight will take packed, or 0. */
static uint64_t planned_bytes(const ft_weights *w, const char *name)
{
    for (uint32_t i = 0; w->planned && i < w->planned_for->n_weight; i++) {
        if (!strcmp(w->planned_for->weight[i].name, name)) return w->planned[i];
    }
    return 0;
}

/* The checkpoint's tensor for a weight; NULL and *e when it has none. */
static const ft_tensor *in_file(const ft_weights *w, const char *name, ft_gguf_name *in_gguf,
                                ft_err *e)
{
    const char *key = name;
    if (w->gguf) {
        int code = w->model->gguf_name ? w->model->gguf_name(w->model_self, name, in_gguf) : 0;
        if (!w->model->gguf_name)
            ft_errf(e, FT_EUNSUP, "%s: this model cannot be read from GGUF", w->path);
        else if (code)
            ft_errf(e, code, "%s: weight %s has no name in GGUF files", w->path, name);
        if (!w->model->gguf_name || code) return NULL;
        key = in_gguf->name;
    }
    const ft_tensor *t = ft_tensors_find(w->base, key);
    if (!t) ft_errf(e, FT_EFORMAT, "%s: tensor %s is missing", w->path, key);
    return t;
}

int ft_weights_find(ft_weights *w, const char *name, const ft_shape *s, ft_arg *out, ft_err *e)
{
    ft_gguf_name in_gguf = { .interleaved_heads = 0 };
    ft_desc d = { .shape = *s };
    *out = (ft_arg){ .rows = g_rows(&d), .cols = g_cols(&d), .ld = g_cols(&d), .dtype = FT_F32 };
    static const ft_packed to_come; /* a packed weight without numbers */
    if (planned_bytes(w, name)) {
        out->packed = &to_come;
        return 0;
    }
    int code = open_packed(w, name, s, out, e);
    if (!code) code = ft_pieces_open(w, name, s, out, e);
    if (code) return code < 0 ? code : 0;
    const ft_tensor *t = in_file(w, name, &in_gguf, e);
    if (!t) return e->code;
    if (!same_shape(t, s)) return wrong_shape(w, name, t, s, e);
    bool as_is = !in_gguf.interleaved_heads && in_gguf.shift == 0;
    if (s->ndim < 2 && (!as_is || !is_plain(t))) return open_vector(w, t, &in_gguf, out, e);
    return ft_weights_tensor(w, t, in_gguf.interleaved_heads, out, e);
}

int ft_weights_bind(ft_weights *w, const ft_g *g, ft_arg *out, ft_err *e)
{
    char missing[600] = "";
    size_t at = 0, n = 0;
    int code = 0;
    for (uint32_t i = 0; i < g->n_weight; i++) {
        ft_err one = { 0 };
        if (!ft_weights_find(w, g->weight[i].name, &g->weight[i].shape, &out[i], &one)) continue;
        if (n++ == 0) code = one.code;
        if (n <= 4)
            at += (size_t)snprintf(missing + at, sizeof missing - at, "%s%.120s", n > 1 ? "; " : "",
                                   one.msg);
    }
    if (!n) return 0;
    if (n > 4) return ft_errf(e, code, "%s; and %zu more", missing, n - 4);
    return ft_errf(e, code, "%s", missing);
}

void ft_weights_run(const ft_arg *a, int64_t r, int64_t c, int64_t n, float *out)
{
    int64_t at = r * a->ld + c;
    if (a->packed) {
        a->packed->tile(a->packed, r, 1, c, n, FT_F32, out, n);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        if (a->dtype == FT_BF16) out[i] = ft_bf16_to_float(((const uint16_t *)a->data)[at + i]);
        else if (a->dtype == FT_F16) out[i] = ft_half_to_float(((const uint16_t *)a->data)[at + i]);
        else out[i] = ((const float *)a->data)[at + i];
    }
}

void ft_weights_rows(const ft_arg *a, int64_t r0, int64_t nr, float *out)
{
    if (a->packed) a->packed->tile(a->packed, r0, nr, 0, a->cols, FT_F32, out, a->cols);
    for (int64_t r = 0; r < nr && !a->packed; r++)
        ft_weights_run(a, r0 + r, 0, a->cols, out + r * a->cols);
}

/* Parts of experts' weights, whose names go on without a dot: the suffixes of any such weight. */
static int experts_parts(const ft_weights *w, const char *name, ft_weight_part part[FT_MAX_PARTS])
{
    ft_part of[FT_MAX_PARTS];
    char key[512];
    int k = 0;
    int n = w->packed ? w->quantizer->parts(w->quantizer_self, (int64_t[]){ 1, 32, 32 }, 3, of) : 0;
    for (int i = 0; i < n; i++) {
        part_name(key, name, of[i].suffix);
        const ft_tensor *t = ft_tensors_find(w->packed, key);
        if (t) part[k++] = (ft_weight_part){ t->data, t->bytes };
    }
    return k;
}

int ft_weights_parts(ft_weights *w, const char *name, ft_weight_part part[FT_MAX_PARTS])
{
    ft_gguf_name in_gguf = { .interleaved_heads = 0 };
    ft_err e = { 0 };
    size_t n = strlen(name), count = w->packed ? ft_tensors_count(w->packed) : 0;
    int k = experts_parts(w, name, part);
    if (k) return k;
    for (size_t i = 0; i < count && k < FT_MAX_PARTS; i++) { /* NAME and NAME.suffix */
        const ft_tensor *t = ft_tensors_at(w->packed, i);
        if (!strncmp(t->name, name, n) && (t->name[n] == 0 || t->name[n] == '.'))
            part[k++] = (ft_weight_part){ t->data, t->bytes };
    }
    if (ft_pieces_bytes(w, name)) return k; /* too many to be let go one by one */
    const ft_tensor *t = k ? NULL : in_file(w, name, &in_gguf, &e);
    if (t) part[k++] = (ft_weight_part){ t->data, t->bytes };
    return k;
}

void ft_weights_let_go(const ft_weights *w, const ft_weight_part *part)
{
    if (w->packed) ft_tensors_forget_part(w->packed, part->at, part->n);
    ft_tensors_forget_part(w->base, part->at, part->n);
}

uint64_t ft_weights_bytes(ft_weights *w, const char *name)
{
    ft_weight_part part[FT_MAX_PARTS];
    uint64_t bytes = planned_bytes(w, name);
    if (!bytes) bytes = ft_pieces_bytes(w, name);
    int n = bytes ? 0 : ft_weights_parts(w, name, part);
    for (int i = 0; i < n; i++) bytes += part[i].n;
    return bytes;
}

int ft_weights_finite(ft_weights *w, const char *name, ft_err *e)
{
    ft_gguf_name in_gguf = { .interleaved_heads = 0 };
    uint64_t count = 0;
    ft_weight_part part[FT_MAX_PARTS];
    if (w->packed && w->packed != w->base && ft_tensors_find(w->packed, name)) return 0;
    if (experts_parts(w, name, part)) return 0;
    const ft_tensor *t = ft_pieces_nonfinite(w, name, &count);
    if (!t && ft_pieces_bytes(w, name)) return 0;
    if (!t) t = in_file(w, name, &in_gguf, e);
    if (!t) return e->code;
    if (!count && !ft_tensor_nonfinite(t, &count)) return 0;
    if (!count) return 0;
    return ft_errf(e, FT_EFORMAT,
                   "%s: tensor %s has %llu numbers that are not finite (NaN or infinity): the "
                   "checkpoint is damaged or was diverging when it was saved; use another one",
                   w->path, t->name, (unsigned long long)count);
}

void ft_weights_forget(ft_weights *w, const char *name, int64_t end, int64_t rows)
{
    ft_gguf_name in_gguf = { .interleaved_heads = 0 };
    ft_err e = { 0 };
    const ft_tensor *t = in_file(w, name, &in_gguf, &e);
    if (!t || rows <= 0) return;
    ft_tensors_forget_part(w->base, t->data, t->bytes / (uint64_t)rows * (uint64_t)end);
}

void ft_weights_unbind(ft_weights *w)
{
    ft_arena_free(&w->arena);
    w->piece_name = NULL;
    w->piece = NULL;
}

void ft_weights_free(ft_weights *w)
{
    ft_weights_unbind(w);
    ft_arena_free(&w->plan);
    *w = (ft_weights){ .base = NULL };
}
