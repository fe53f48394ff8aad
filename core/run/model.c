/* model.c -- see model.h. */
#include "core/run/model.h"
#include <stdio.h>
#include <string.h>
#include "core/run/claim.h"
#include "ft/quant.h"

/* "model_type \"x\"" or the GGUF's architecture, for messages. */
static void describe(char out[160], const ft_source *s)
{
    uint64_t n;
    const char *arch = ft_meta_str(ft_source_meta(s, "general.architecture"), &n);
    if (s->gguf)
        snprintf(out, 160, "general.architecture \"%.*s\"", (int)(arch && n < 80 ? n : 0),
                 arch ? arch : "");
    else snprintf(out, 160, "model_type \"%.80s\"", ft_json_str(s->config, "model_type", ""));
}

static int nobody_claims(const ft_source *s, const char *asked, ft_err *e)
{
    char what[160];
    describe(what, s);
    return ft_errf(e, FT_EUNSUP, "%s: no plugin knows %s; asked: %s", s->path, what,
                   *asked ? asked : "none is installed");
}

static const ft_loaded *find_plugin(ft_registry *r, const ft_source *s, ft_err *e)
{
    char asked[400];
    const ft_loaded *p = ft_claimant(r, "ft.model/1", offsetof(ft_model, claims), s, asked, e);
    if (!p && !e->code) nobody_claims(s, asked, e);
    return p;
}

/* The quantizer for a folder that was saved with packed weights. */
static int open_quantizer(ft_model_run *m, ft_registry *r, const ft_offer *offer, ft_err *e)
{
    char asked[400];
    const ft_json *q = ft_json_get(m->source->config, "quantization_config");
    if (!q || q->type != FT_JSON_OBJECT) return 0;
    const ft_loaded *p = ft_claimant(r, "ft.quantizer/1", offsetof(ft_quantizer, claims), m->source,
                                     asked, e);
    if (p) m->quantizer = ft_instance_open(p, p->name, NULL, offer, e);
    if (m->quantizer) return 0;
    if (p || (e && e->code)) return e ? e->code : FT_ENOMEM;
    return ft_errf(e, FT_EUNSUP,
                   "%s: no plugin reads weights of quant_method \"%.80s\"; asked: %s; use the "
                   "model "
                   "that was quantized",
                   m->source->path, ft_json_str(q, "quant_method", ""),
                   *asked ? asked : "none is installed");
}

int ft_model_open(ft_model_run *m, const char *path, ft_registry *r, const ft_offer *offer,
                  ft_err *e)
{
    *m = (ft_model_run){ .source = ft_source_open(path, FT_NEED_CONFIG, e) };
    const ft_loaded *p = m->source ? find_plugin(r, m->source, e) : NULL;
    if (p) m->plugin = ft_instance_open(p, p->name, NULL, offer, e);
    if (m->plugin) {
        m->vt = ft_instance_vtable(m->plugin);
        m->self = ft_instance_self(m->plugin);
        int code = m->vt->load(m->self, m->source, &m->info);
        if (code) ft_instance_error(m->plugin, code, e);
        else if (!open_quantizer(m, r, offer, e)) return 0;
    }
    ft_model_close(m);
    return e->code;
}

int ft_model_open_weights(ft_model_run *m, ft_weights *w, ft_err *e)
{
    if (!m->tensors) m->tensors = ft_tensors_open(m->source->path, e);
    if (!m->tensors) return e->code;
    *w = (ft_weights){ .base = m->tensors,
                       .gguf = m->source->gguf,
                       .model = m->vt,
                       .model_self = m->self,
                       .path = m->source->path,
                       .planned = m->planned,
                       .planned_for = m->planned_for };
    if (!m->quantizer) return 0;
    w->packed = m->tensors;
    w->quantizer_plugin = m->quantizer;
    w->quantizer = ft_instance_vtable(m->quantizer);
    w->quantizer_self = ft_instance_self(m->quantizer);
    return 0;
}

void ft_model_close(ft_model_run *m)
{
    ft_instance_close(m->plugin);
    ft_instance_close(m->quantizer);
    ft_tensors_close(m->tensors);
    ft_source_close(m->source);
    *m = (ft_model_run){ .source = NULL };
}
