/* data-tokens.c -- ready rows of tokens from a safetensors file.
 *
 *   input_ids  I64 or I32 [N, S] or [N, B, S]    N batches of B rows, taken in order
 *   labels     the same shape, not shifted, -100 where there is no loss; without it every token is
 *   one seq_ids    the same shape: documents within a row.  Positions restart, no attention across,
 *   no
 *              loss from the last token of one to the first of the next
 *
 * What any other trainer was fed with, so that a run can be held against it step by step. */
#include "ft/data.h"
#include "ft/plugin.h"

typedef struct { const char *path; } config;

typedef struct {
    const ft_host *host;
    const config *c;
    const ft_tensors_api *api;
    ft_tensors *file;
    const ft_tensor *ids, *labels, *seq_ids;
    int64_t batches, per_batch, length;
    int64_t *row[3]; /* [length] each: copies, since a file's data need not be aligned */
} rows;

static const ft_param params[] = { { "path", FT_PATH, offsetof(config, path), NULL, 0, 0, NULL,
                                     "safetensors file with input_ids, labels, seq_ids" },
                                   { 0 } };

static int fail(const rows *r, const char *name, const char *what)
{
    return r->host->fail(r->host, FT_EFORMAT, "%s: %s %s", r->c->path, name, what);
}

/* A tensor of whole numbers with the shape of input_ids (or any shape of 2 or 3 axes, for that). */
static int take(const rows *r, const char *name, bool needed, const ft_tensor **out)
{
    const ft_tensor *t = *out = r->api->find(r->file, name);
    if (!t) return needed ? fail(r, name, "is missing") : 0;
    if (t->dtype != FT_I64 && t->dtype != FT_I32) return fail(r, name, "must be I64 or I32");
    if (t->ndim != 2 && t->ndim != 3) return fail(r, name, "must have shape [N, S] or [N, B, S]");
    for (int i = 0; i < t->ndim; i++) {
        if (t->dim[i] <= 0) return fail(r, name, "has no rows or no tokens");
        if (r->ids && (t->ndim != r->ids->ndim || t->dim[i] != r->ids->dim[i]))
            return fail(r, name, "must have the shape of input_ids");
    }
    return 0;
}

static int open_(void *self, const ft_host *host, const void *cfg)
{
    rows *r = self;
    r->host = host;
    r->c = cfg;
    r->api = host->get(host, "ft.tensors/1");
    if (!r->api) return host->fail(host, FT_EUNSUP, "this host cannot open tensor files");
    r->file = r->api->open(host, r->c->path);
    if (!r->file) return FT_EIO;
    int e = take(r, "input_ids", true, &r->ids);
    if (!e) e = take(r, "labels", false, &r->labels);
    if (!e) e = take(r, "seq_ids", false, &r->seq_ids);
    if (e) return e;
    bool batched = r->ids->ndim == 3;
    r->batches = r->ids->dim[0];
    r->per_batch = batched ? r->ids->dim[1] : 0;
    r->length = r->ids->dim[batched ? 2 : 1];
    for (int i = 0; i < 3; i++) {
        r->row[i] = host->alloc(host, (size_t)r->length * sizeof(int64_t));
        if (!r->row[i])
            return host->fail(host, FT_ENOMEM, "out of memory for a row of %lld tokens",
                              (long long)r->length);
    }
    return 0;
}

static void close_(void *self)
{
    rows *r = self;
    if (r->api) r->api->close(r->file);
}

static int shape(void *self, int64_t *batches, int64_t *per_batch, int64_t *length)
{
    const rows *r = self;
    *batches = r->batches;
    *per_batch = r->per_batch;
    *length = r->length;
    return 0;
}

static const int64_t *copy_row(const rows *r, const ft_tensor *t, int64_t i, int64_t *out)
{
    if (!t) return NULL;
    if (t->dtype == FT_I64) {
        memcpy(out, (const char *)t->data + (size_t)(i * r->length) * 8, (size_t)r->length * 8);
        return out;
    }
    for (int64_t k = 0; k < r->length; k++) {
        int32_t v;
        memcpy(&v, (const char *)t->data + (size_t)(i * r->length + k) * 4, 4);
        out[k] = v;
    }
    return out;
}

static int row(void *self, int64_t i, ft_token_row *out)
{
    rows *r = self;
    *out = (ft_token_row){ r->length, copy_row(r, r->ids, i, r->row[0]),
                           copy_row(r, r->labels, i, r->row[1]),
                           copy_row(r, r->seq_ids, i, r->row[2]) };
    return 0;
}

static const ft_token_source source = { .size = sizeof source, .shape = shape, .row = row };
static const ft_plugin plugin = {
    .abi = FT_ABI_INIT,
    .role = "ft.tokens/1",
    .name = "data-tokens",
    .version = "0.1.0",
    .summary = "ready rows of token ids and labels from a safetensors file",
    .params = params,
    .config_size = sizeof(config),
    .instance_size = sizeof(rows),
    .open = open_,
    .close = close_,
    .vtable = &source,
};
FT_PLUGIN(plugin, "data-tokens")
