/* tokenizer.c -- see tokenizer.h. */
#include "core/run/tokenizer.h"
#include "core/run/claim.h"

static const ft_loaded *find_plugin(ft_registry *r, const ft_source *s, ft_err *e)
{
    char asked[400];
    const ft_loaded *p = ft_claimant(r, "ft.tokenizer/1", offsetof(ft_tokenizer, claims), s, asked,
                                     e);
    if (!p && !e->code)
        ft_errf(e, FT_EUNSUP, "%s: no plugin reads its tokenizer; asked: %s", s->path,
                *asked ? asked : "none is installed");
    return p;
}

int ft_tokenizer_fits(const ft_loaded *p, ft_source *source, ft_registry *r, ft_err *e)
{
    const ft_tokenizer *vt = p->desc.vtable;
    int code = ft_source_tokenizer(source, e);
    if (code || vt->claims(source)) return code;
    const ft_loaded *other = find_plugin(r, source, e);
    if (!other) return e->code;
    return ft_errf(e, FT_EINVAL, "%s does not read the tokenizer of %s; write `use: %s`", p->name,
                   source->path, other->name);
}

/* The plugin for t->source, loaded; closes *t on errors. */
static int load(ft_tokenizer_run *t, ft_registry *r, const ft_offer *offer, ft_err *e)
{
    const ft_loaded *p = ft_source_tokenizer(t->source, e) ? NULL : find_plugin(r, t->source, e);
    if (p) t->plugin = ft_instance_open(p, p->name, NULL, offer, e);
    if (t->plugin) {
        t->vt = ft_instance_vtable(t->plugin);
        t->self = ft_instance_self(t->plugin);
        int code = t->vt->load(t->self, t->source, &t->vocab);
        if (code) ft_instance_error(t->plugin, code, e);
        else t->encoder = t->vt->encoder(t->self);
        if (!code && !t->encoder)
            ft_errf(e, FT_ENOMEM, "%s: out of memory for the tokenizer", t->source->path);
    }
    if (t->encoder) return 0;
    ft_tokenizer_close(t);
    return e->code;
}

int ft_tokenizer_open(ft_tokenizer_run *t, const char *path, ft_registry *r, const ft_offer *offer,
                      ft_err *e)
{
    *t = (ft_tokenizer_run){ .source = ft_source_open(path, 0, e) };
    return t->source ? load(t, r, offer, e) : e->code;
}

int ft_tokenizer_attach(ft_tokenizer_run *t, ft_source *source, ft_registry *r,
                        const ft_offer *offer, ft_err *e)
{
    *t = (ft_tokenizer_run){ .source = source, .borrowed = true };
    return load(t, r, offer, e);
}

void ft_tokenizer_close(ft_tokenizer_run *t)
{
    if (t->encoder) t->vt->encoder_done(t->self, t->encoder);
    ft_instance_close(t->plugin);
    if (!t->borrowed) ft_source_close(t->source);
    *t = (ft_tokenizer_run){ .source = NULL };
}

int ft_tokenizer_encode(ft_tokenizer_run *t, const ft_text *text, unsigned flags, ft_tokens *out,
                        ft_err *e)
{
    int code = t->vt->encode(t->self, t->encoder, text, flags, out);
    return code ? ft_instance_error(t->plugin, code, e) : 0;
}

int ft_tokenizer_decode(ft_tokenizer_run *t, const uint32_t *id, size_t n, unsigned flags,
                        ft_bytes *out, ft_err *e)
{
    for (size_t i = 0; i < n; i++) {
        if (id[i] >= t->vocab.vocab_size)
            return ft_errf(e, FT_EINVAL, "token id %u is outside of the vocabulary of %u", id[i],
                           t->vocab.vocab_size);
    }
    int code = t->vt->decode(t->self, t->encoder, id, n, flags, out);
    return code ? ft_instance_error(t->plugin, code, e) : 0;
}

int64_t ft_tokens_label(const ft_text *text, const ft_tokens *k, int32_t *labels)
{
    size_t span = 0;
    int64_t straddling = 0;
    for (size_t i = 0; i < k->n; i++) {
        bool all = true, any = false;
        while (span + 1 < text->n_span && text->span[span].end <= k->begin[i]) span++;
        for (size_t j = span; j < text->n_span && text->span[j].begin < k->end[i]; j++) {
            if (text->span[j].train) any = true;
            else all = false;
        }
        bool empty = k->begin[i] >= k->end[i];
        labels[i] = any && all && !empty ? (int32_t)k->id[i] : -100;
        straddling += any && !all;
    }
    return straddling;
}

void ft_tokens_origin(const ft_text *text, const ft_tokens *k, uint8_t *origin)
{
    size_t span = 0;
    for (size_t i = 0; i < k->n; i++) {
        while (span + 1 < text->n_span && text->span[span].end <= k->begin[i]) span++;
        origin[i] = text->n_span ? text->span[span].from : FT_FROM_TEMPLATE;
    }
}
