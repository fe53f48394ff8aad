/* stage_export.c -- the export stage: what ft/export.h promises to an exporter.
 *
 * The plugin fills a folder of the artifact; when it is whole, the core opens what was written and
 * holds it against what was trained (receipt.h). */
#include "core/run/stage_export.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "core/io/dtype.h"
#include "core/run/adapter_file.h"
#include "core/run/exporting.h"

/* ---- tensors --------------------------------------------------------------------------------- */

static void api_tensor(const ft_export *pub, size_t i, ft_export_tensor *out)
{
    const ft_exporting *x = pub->ctx;
    const g_weight *w = x->run->scan.g->weight;
    const ft_shape *s = x->merge.item ? &x->merge.item[i].shape : &w[i].shape;
    *out = (ft_export_tensor){ .name = x->merge.item ? x->merge.item[i].name : w[i].name,
                               .ndim = s->ndim };
    memcpy(out->dim, s->dim, sizeof out->dim);
}

typedef struct { ft_export_sink sink; void *ctx; ft_exporting *x; } handing;

/* The plugin's own error is kept by its instance. */
static int hand_over(void *ctx, const float *v, int64_t n, ft_err *e)
{
    handing *h = ctx;
    int code = h->sink(h->ctx, v, n);
    return code ? ft_instance_error(h->x->plugin, code, e) : 0;
}

static int api_values(const ft_export *pub, size_t i, ft_export_sink sink, void *ctx)
{
    ft_exporting *x = pub->ctx;
    handing h = { sink, ctx, x };
    ft_err e = { 0 };
    int code = ft_merge_values(&x->merge, i, hand_over, &h, &e);
    ft_progress_update(&x->run->progress, "tensors", (int64_t)i + 1, (int64_t)pub->n_tensors);
    if (!code && ft_cancelled()) code = ft_errf(&e, FT_ECANCEL, "stopped on request");
    return ft_exporting_failed(x, code, &e);
}

/* A piece of an experts' weight, or, before there are pieces, that weight. */
static bool is_piece(const ft_exporting *x, const char *name, ft_gguf_name *out)
{
    const ft_model_run *m = &x->run->model;
    ft_piece p;
    bool found = !x->merge.item && FT_HAS(m->vt, piece) && m->vt->piece &&
                 m->vt->piece(m->self, name, true, 0, &p);
    for (size_t i = 0; i < x->merge.n && !found; i++)
        found = x->merge.item[i].lines && !strcmp(x->merge.item[i].name, name);
    if (found) *out = (ft_gguf_name){ .interleaved_heads = 0 };
    if (found) snprintf(out->name, sizeof out->name, "%s", x->merge.item ? name : p.name);
    return found;
}

static int api_gguf_name(const ft_export *pub, const char *name, ft_gguf_name *out)
{
    const ft_exporting *x = pub->ctx;
    const ft_model_run *m = &x->run->model;
    ft_err e = { 0 };
    if (is_piece(x, name, out)) return 0;
    int code = m->vt->gguf_name ? m->vt->gguf_name(m->self, name, out)
                                : ft_errf(&e, FT_EUNSUP, "models of family %s have no GGUF form",
                                          m->info.family);
    if (code && m->vt->gguf_name) ft_instance_error(m->plugin, code, &e);
    return ft_exporting_failed(x, code, &e);
}

static int api_gguf_words(const ft_export *pub, uint64_t rows, ft_bytes *keys, uint64_t *n_keys)
{
    const ft_exporting *x = pub->ctx;
    const ft_tokenizer *vt = pub->tokenizer;
    ft_err e = { 0 };
    if (!vt || !FT_HAS(vt, gguf) || !vt->gguf)
        return ft_exporting_failed(x,
                                   ft_errf(&e, FT_EUNSUP,
                                           "the tokenizer of %s has no form in GGUF; export "
                                           "it with export-hf",
                                           pub->source->path),
                                   &e);
    int code = vt->gguf(pub->tokenizer_self, pub->source, rows, keys, n_keys);
    if (code) ft_instance_error(x->chat.tok.plugin, code, &e);
    return ft_exporting_failed(x, code, &e);
}

static const ft_tensor *api_adapter_tensor(const ft_export *pub, size_t i)
{
    ft_exporting *x = pub->ctx;
    if (x->plan.n) return &x->plan.tensor[i];
    const ft_tensor *t = ft_tensors_at(x->merge.lineup.init, i);
    ft_merge_used(&x->merge, t->name, "an adapter by itself");
    return t;
}

/* ---- the whole model ------------------------------------------------------------------------- */

static int save_model(ft_exporting *x, ft_model_form *form, ft_err *e)
{
    form->dir = x->dir;
    if (form->dtype == FT_NO_DTYPE) form->dtype = x->pub.own;
    if (form->dtype != FT_F32 && form->dtype != FT_BF16 && form->dtype != FT_F16)
        return ft_errf(e, FT_EDTYPE, "weights cannot be written as %s; F32, BF16 and F16 can",
                       ft_dtype_name(form->dtype));
    int code = ft_model_save(&x->merge, form, &x->rounding, e);
    return code ? code : ft_model_save_config(&x->merge, form, form->dtype, e);
}

static int api_model(const ft_export *pub, ft_dtype dtype, uint64_t max_shard)
{
    ft_exporting *x = pub->ctx;
    ft_err e = { 0 };
    ft_model_form form = { .dtype = dtype, .max_shard = max_shard };
    int code = save_model(x, &form, &e);
    return ft_exporting_failed(x, code, &e);
}

static int api_model_packed(const ft_export *pub, ft_dtype dtype, uint64_t max_shard,
                            const char *quantizer, const char *parameters)
{
    ft_exporting *x = pub->ctx;
    ft_err e = { 0 };
    ft_arena arena = { 0 };
    ft_model_form form = { .dtype = dtype, .max_shard = max_shard };
    form.packer = ft_quantizer_by_name(x->run, x->stage, quantizer, parameters, &arena, &e);
    int code = form.packer ? 0 : e.code;
    if (!code) {
        const ft_quantizing q = ft_quantize_open(form.packer);
        form.pack = &q;
        code = q.vt->encode ? save_model(x, &form, &e)
                            : ft_errf(&e, FT_EUNSUP, "%s only reads its format", quantizer);
    }
    ft_instance_close(form.packer);
    ft_arena_free(&arena);
    return ft_exporting_failed(x, code, &e);
}

/* ---- opening --------------------------------------------------------------------------------- */

const char *ft_export_folder(const ft_stage *s)
{
    const ft_exporter *vt = s->conf->plugin->desc.vtable;
    return FT_HAS(vt, folder) && vt->folder ? vt->folder : "model";
}

static int open_words(ft_exporting *x, const ft_exporter *vt, ft_err *e)
{
    ft_run *r = x->run;
    if (!r->model.source->gguf && !(FT_HAS(vt, words) && vt->words)) return 0;
    int code = ft_chat_open(&x->chat, r->model.source, r->registry, &r->offer, e);
    if (code) return code;
    x->pub.tokenizer = x->chat.tok.vt;
    x->pub.tokenizer_self = x->chat.tok.self;
    x->pub.vocab = &x->chat.tok.vocab;
    return 0;
}

/* While checking: the adapter that will be trained, for an exporter that writes it by itself. */
static int plan_adapter(ft_exporting *x, const ft_exporter *vt, const ft_stage *trained, ft_err *e)
{
    bool alone = false;
    if (FT_HAS(vt, opens) && vt->opens) vt->opens(ft_instance_self(x->plugin), &alone);
    if (!alone || x->stage->input[FT_MERGED] > x->stage->input[FT_TRAINED]) return 0;
    int code = ft_adapter_plan_open(&x->plan, x->run, trained, e);
    if (code) return code;
    x->pub.adapter_config = ft_json_root(x->plan.config);
    x->pub.n_adapter = x->plan.n;
    return 0;
}

/* The adapter that was trained, or will be. */
static int open_adapter(ft_exporting *x, const ft_exporter *vt, ft_err *e)
{
    ft_run *r = x->run;
    char dir[4096];
    const ft_stage *a = ft_run_input(r, x->stage, FT_ADAPTER),
                   *trained = ft_run_input(r, x->stage, FT_TRAINED);
    if (!a) return 0;
    x->pub.adapter = a->conf->plugin->name;
    x->pub.adapter_tensor = api_adapter_tensor;
    bool checking = !x->merge.run;
    if (checking && trained) return plan_adapter(x, vt, trained, e);
    if (!trained || !x->merge.lineup.init) return 0;
    int code = ft_path_join(dir, sizeof dir, trained->dir, "adapter", e);
    if (!code) x->adapter = ft_adapter_config(dir, e);
    if (!x->adapter) return e->code;
    x->pub.adapter_config = ft_json_root(x->adapter);
    x->pub.n_adapter = ft_tensors_count(x->merge.lineup.init);
    return 0;
}

/* Everything but the files, for check() and write() alike. */
static int open_export(ft_exporting *x, const ft_exporter *vt, ft_err *e)
{
    ft_run *r = x->run;
    ft_dtype own = ft_merge_own_dtype(r);
    x->pub = (ft_export){ .size = sizeof x->pub,
                          .ctx = x,
                          .source = r->model.source,
                          .context = r->model.info.context,
                          .model = api_model,
                          .model_packed = api_model_packed,
                          .own = own == FT_NO_DTYPE ? FT_BF16 : own,
                          .tensor = api_tensor,
                          .values = api_values,
                          .gguf_name = api_gguf_name,
                          .gguf_words = api_gguf_words };
    ft_exporting_offer_files(&x->pub);
    x->pub.n_tensors = x->merge.item ? x->merge.n : r->scan.g->n_weight;
    x->pub.config = x->merge.config ? ft_json_root(x->merge.config) : r->model.source->config;
    int code = open_adapter(x, vt, e);
    return code ? code : open_words(x, vt, e);
}

static void close_export(ft_exporting *x)
{
    if (x->open) ft_aside_drop(&x->file);
    ft_chat_close(&x->chat);
    ft_merge_close(&x->merge);
    ft_adapter_plan_close(&x->plan);
    ft_json_done(x->adapter);
    free(x);
}

/* ---- before anything runs -------------------------------------------------------------------- */

/* The form that is asked for; an error when it is lossy and nobody has said so. */
static int form_of(ft_receipt *out, const ft_exporting *x, const ft_exporter *vt, ft_err *e)
{
    const char *config = x->stage->conf->config;
    *out = (ft_receipt){ .form = ft_dtype_name(x->pub.own) };
    if (!FT_HAS(vt, form) || !vt->form) return 0;
    out->form = vt->form(ft_instance_self(x->plugin), x->pub.own, &out->lossy);
    const ft_export_args *a = (const ft_export_args *)(const void *)(config + vt->args);
    out->accepted = a->lossy;
    if (!out->lossy || a->lossy) return 0;
    return ft_errf(e, FT_EINVAL,
                   "%s: %s keeps less than the model's own %s does; write `lossy: true` to accept "
                   "that (the receipt says what it costs), or choose a form that keeps it",
                   x->stage->conf->id, out->form, ft_dtype_name(x->pub.own));
}

int ft_export_check(ft_run *r, ft_stage *s, ft_instance *plugin, ft_err *e)
{
    const ft_exporter *vt = ft_instance_vtable(plugin);
    ft_receipt form;
    ft_exporting *x = calloc(1, sizeof *x);
    if (!x) return ft_errf(e, FT_ENOMEM, "out of memory while exporting");
    x->run = r;
    x->stage = s;
    x->plugin = plugin;
    int code = open_export(x, vt, e);
    if (!code) code = form_of(&form, x, vt, e);
    if (!code && FT_HAS(vt, check) && vt->check) {
        code = vt->check(ft_instance_self(plugin), &x->pub);
        if (code) ft_instance_error(plugin, code, e);
    }
    close_export(x);
    return code;
}

/* ---- the stage ------------------------------------------------------------------------------- */

static int make_receipt(ft_exporting *x, const ft_exporter *vt, ft_receipt *receipt,
                        const char *dir, ft_err *e)
{
    char path[4096];
    bool adapter = false;
    const char *opens = FT_HAS(vt, opens) && vt->opens
                            ? vt->opens(ft_instance_self(x->plugin), &adapter)
                            : NULL;
    const ft_stage *merged = ft_run_input(x->run, x->stage, FT_MERGED);
    bool departs = adapter ? x->stage->input[FT_PACKED] >= 0 : merged && ft_merge_departs(merged);
    bool kept = adapter || (x->rounding.all > 0 && x->rounding.worst <= 0) ||
                !strcasecmp(receipt->form, "f32");
    receipt->exact = kept && !departs && !receipt->accepted;
    receipt->worst = x->rounding.worst;
    if (x->rounding.all > 0) receipt->relative = sqrt(x->rounding.moved / x->rounding.all);
    ft_merge_close(&x->merge); /* its memory is wanted */
    int code = opens ? ft_path_join(path, sizeof path, x->dir, opens, e) : 0;
    if (code) return code;
    const ft_written written = { .path = adapter ? x->run->config.model : opens ? path : x->dir,
                                 .lora = adapter ? path : NULL };
    return ft_receipt_make(receipt, x->run, x->stage, &written, dir, e);
}

static int run_export(ft_exporting *x, const char *dir, ft_err *e)
{
    const ft_exporter *vt = ft_instance_vtable(x->plugin);
    ft_receipt receipt;
    bool gguf = FT_HAS(vt, gguf) && vt->gguf;
    int code = ft_merge_open(&x->merge, x->run, x->stage, gguf ? FT_MERGE_FOR_GGUF : 0, e);
    if (!code) code = ft_path_join(x->dir, sizeof x->dir, dir, ft_export_folder(x->stage), e);
    if (!code) code = open_export(x, vt, e);
    if (!code) code = form_of(&receipt, x, vt, e);
    if (!code) code = ft_make_dirs(x->dir, e);
    if (code) return code;
    code = vt->write(ft_instance_self(x->plugin), &x->pub);
    if (code) return ft_instance_error(x->plugin, code, e);
    code = ft_merge_check_uses(&x->merge, e);
    return code ? code : make_receipt(x, vt, &receipt, dir, e);
}

int ft_stage_export(ft_run *r, ft_stage *s, const char *dir, ft_err *e)
{
    ft_exporting *x = calloc(1, sizeof *x);
    if (!x) return ft_errf(e, FT_ENOMEM, "out of memory while exporting");
    x->run = r;
    x->stage = s;
    x->plugin = ft_run_instance(r, s, e);
    int code = x->plugin ? run_export(x, dir, e) : e->code;
    ft_instance *plugin = x->plugin;
    close_export(x);
    ft_instance_close(plugin);
    return code;
}
