/* quant-nf4.c -- plugin "quant-nf4": weights in 4-bit NormalFloat, bit-exact with bitsandbytes.
 *
 * What QLoRA trains on: each weight in 4.5 bits, or 4.127 with double quantization.  Numbers of
 * the format: nf4.h; rule of encoding: encode.c, nest.c; names and checks of the parts: state.c;
 * the hot path: decode.c.  This file is the plugin's face, and encoding a whole weight on all
 * threads: runs of blocks are independent, so that the bytes cannot depend on the threads.
 * Checked by quant-nf4_test.c against bitsandbytes' own results. */
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include "ft/json.h"
#include "nf4.h"
#include "quant-common/reader.h"

enum {
    RUN = 512,        /* blocks a thread takes at a time: 64 KiB of bf16 */
    NEST_RUN = 64,    /* nested blocks */
};

typedef struct {
    bool double_quant;
    ft_list skip_modules;
} config;

typedef struct {
    const ft_host *host;
    const config *cfg;
    const char *json;  /* quantization_config */
} instance;

static const ft_param params[] = {
    { "double_quant", FT_BOOL, offsetof(config, double_quant), "false", 0, 0, 0,
      "quantize the block scales too, to 8 bits: 4.127 instead of 4.5 bits a weight" },
    { "skip_modules", FT_LIST, offsetof(config, skip_modules), "", 0, 0, 0,
      "modules that stay as they are, besides embeddings and head" },
    { 0 },
};

/* ---- quantization_config --------------------------------------------------------------------- */
/* As transformers' BitsAndBytesConfig writes it.  It leaves the head alone by itself only while
 * llm_int8_skip_modules is null. */
static int make_json(instance *self)
{
    const ft_list *skip = &self->cfg->skip_modules;
    ft_buf b = { 0 };
    ft_buf_printf(&b, "{\"quant_method\": \"bitsandbytes\", \"load_in_4bit\": true, "
                  "\"bnb_4bit_quant_type\": \"nf4\", \"bnb_4bit_use_double_quant\": %s, "
                  "\"bnb_4bit_quant_storage\": \"uint8\", \"llm_int8_skip_modules\": ",
                  self->cfg->double_quant ? "true" : "false");
    ft_buf_puts(&b, skip->n ? "[\"lm_head\"" : "null");
    for (size_t i = 0; i < skip->n; i++) {
        ft_buf_puts(&b, ", ");
        ft_json_quote(&b, skip->v[i], strlen(skip->v[i]));
    }
    ft_buf_puts(&b, skip->n ? "]}" : "}");
    char *copy = b.oom ? NULL : self->host->alloc(self->host, b.n + 1);
    if (copy) memcpy(copy, b.p, b.n + 1);
    ft_buf_free(&b);
    self->json = copy;
    return copy ? 0 : self->host->fail(self->host, FT_ENOMEM, "out of memory");
}

/* ---- encoding -------------------------------------------------------------------------------- */
/* One weight being encoded: read by all threads, each of which writes the places of its own run. */
typedef struct {
    const ft_tensor *w;
    const nf4_variant *variant;
    int64_t numel, blocks;
    size_t width;              /* bytes of a number */
    uint8_t *codes;
    char *absmax;              /* fp32, unaligned */
    _Atomic int64_t bad;       /* first block with a number that is not finite, or INT64_MAX */
    // double quantization
    const float *scale;        /* absmax again, aligned */
    const nf4_nest_tables *tables;
    float offset;
    uint8_t *nested_codes;
    char *nested_absmax;       /* fp32, unaligned */
} job;

/* Keeps the smallest, so that the message does not depend on the threads. */
static void note_bad(job *j, int64_t block)
{
    int64_t was = atomic_load(&j->bad);
    while (block < was && !atomic_compare_exchange_weak(&j->bad, &was, block)) {}
}

/* Run i of the blocks; the last run has the short block, if there is one. */
static void encode_run(void *arg, int64_t i)
{
    job *j = arg;
    int64_t first = i * RUN, full = j->numel / NF4_BLOCK, end = first + RUN;
    const char *w = (const char *)j->w->data + (size_t)first * NF4_BLOCK * j->width;
    nf4_fp was = nf4_fp_ieee();
    int64_t n = (end < full ? end : full) - first;
    int64_t done = j->variant->encode(w, j->w->dtype, n, j->codes + first * (NF4_BLOCK / 2),
                                      j->absmax + first * 4);
    if (done < n) note_bad(j, first + done);
    int tail = (int)(j->numel % NF4_BLOCK);
    if (tail && full < end && done == n &&
        !nf4_encode_tail(w + (size_t)n * NF4_BLOCK * j->width, j->w->dtype, tail,
                         j->codes + full * (NF4_BLOCK / 2), j->absmax + full * 4)) {
        note_bad(j, full);
    }
    nf4_fp_restore(was);
}

/* Run i of the nested blocks: scales to 8-bit codes. */
static void nest_run(void *arg, int64_t i)
{
    job *j = arg;
    nf4_fp was = nf4_fp_ieee();
    for (int64_t b = i * NEST_RUN; b < (i + 1) * NEST_RUN && b * NF4_NEST < j->blocks; b++) {
        int64_t at = b * NF4_NEST, left = j->blocks - at;
        int n = (int)(left < NF4_NEST ? left : NF4_NEST);
        float top = nf4_nest_block(j->tables, j->scale + at, n, j->offset, j->nested_codes + at);
        memcpy(j->nested_absmax + b * 4, &top, 4);
    }
    nf4_fp_restore(was);
}

/* All items, on the host's threads where it has some. */
static void each(const ft_host *h, int64_t n, void (*fn)(void *, int64_t), void *arg)
{
    const ft_threads_api *threads = h->get(h, "ft.threads/1");
    if (threads) {
        threads->each(h, n, fn, arg);
        return;
    }
    for (int64_t i = 0; i < n; i++) fn(arg, i);
}

/* Names the first number of the block that is not finite. */
static int refuse(const ft_host *h, const job *j)
{
    int64_t at = j->bad * NF4_BLOCK, left = j->numel - at;
    float x[NF4_BLOCK];
    int n = (int)(left < NF4_BLOCK ? left : NF4_BLOCK), i = 0;
    nf4_widen(x, (const char *)j->w->data + (size_t)at * j->width, j->w->dtype, n);
    while (i + 1 < n && isfinite(x[i])) i++;
    int64_t cols = j->w->dim[j->w->ndim - 1];
    return h->fail(h, FT_EINVAL, "%s: row %lld, column %lld is %g: a weight that is not finite "
                   "cannot be quantized; repair the model, or name the module in skip_modules",
                   j->w->name ? j->w->name : "weight", (long long)((at + i) / cols),
                   (long long)((at + i) % cols), (double)x[i]);
}

/* The tensor is plain, of a dtype that we read, and as large as its shape says; fills *j. */
static int check_input(const ft_host *h, const ft_tensor *w, job *j)
{
    uint64_t n, bytes;
    const char *name = w->name ? w->name : "weight";
    if (w->dtype != FT_F32 && w->dtype != FT_BF16 && w->dtype != FT_F16) {
        return h->fail(h, FT_EDTYPE, "%s: only plain F32, BF16 and F16 weights are quantized",
                       name);
    }
    j->width = w->dtype == FT_F32 ? 4 : 2;
    if (!(ck_numel(&n, w->dim, w->ndim) && ck_mul(&bytes, n, j->width) && bytes == w->bytes)) {
        return h->fail(h, FT_ESHAPE, "%s: %llu bytes do not fit its shape", name,
                       (unsigned long long)w->bytes);
    }
    *j = (job){ .w = w, .variant = nf4_best_variant(), .numel = (int64_t)n, .width = j->width,
                .blocks = (int64_t)(n / NF4_BLOCK + (n % NF4_BLOCK != 0)), .bad = INT64_MAX };
    return 0;
}

/* The second stage: j->scale to the nested parts. */
static int nest(const ft_host *h, job *j, void *const part[])
{
    nf4_nest_tables tables;
    nf4_fp was = nf4_fp_ieee();
    j->offset = nf4_nest_offset(j->scale, j->blocks);
    if (!isfinite(j->offset)) {
        nf4_fp_restore(was);
        return h->fail(h, FT_EINVAL, "%s: the sum of its block scales is beyond fp32: such weights "
                       "need double_quant: false", j->w->name ? j->w->name : "weight");
    }
    nf4_nest_prepare(&tables);
    j->tables = &tables;
    j->nested_codes = part[NF4_ABSMAX];
    j->nested_absmax = part[NF4_NESTED_ABSMAX];
    each(h, (j->blocks + NF4_NEST * NEST_RUN - 1) / (NF4_NEST * NEST_RUN), nest_run, j);
    memcpy(part[NF4_NESTED_MAP], tables.map, sizeof tables.map);
    nf4_fp_restore(was);
    return 0;
}

/* The quantization map and the JSON, with blanks up to the part's size. */
static void write_state(const instance *self, const job *j, void *const part[],
                        const ft_part *size)
{
    const ft_tensor *w = j->w;
    const char *half = w->dtype == FT_BF16 ? "bfloat16" : "float16";
    const char *dtype = w->dtype == FT_F32 ? "float32" : half;
    char text[1024], offset[32];
    snprintf(offset, sizeof offset, "%.17g", (double)j->offset);
    size_t n = nf4_state_text(text, sizeof text, w->dim, w->ndim, dtype,
                              self->cfg->double_quant ? offset : NULL);
    memcpy(part[NF4_QUANT_MAP], nf4_code, sizeof nf4_code);
    memset(part[NF4_STATE], ' ', (size_t)size[NF4_STATE].dim[0]);
    memcpy(part[NF4_STATE], text, n);
}

/* ft_quantizer.encode: all blocks, then all nested blocks, which need the mean of all scales. */
static int encode(void *me, const ft_tensor *w, void *const part[])
{
    const instance *self = me;
    const ft_host *h = self->host;
    ft_part size[FT_MAX_PARTS];
    float *scale = NULL;
    job j;
    int rc = nf4_parts(h, self->cfg->double_quant, w->dim, w->ndim, size);
    if (rc >= 0) rc = check_input(h, w, &j);
    if (rc < 0) return rc;
    if (self->cfg->double_quant) {
        scale = malloc((size_t)j.blocks * sizeof *scale);
        if (!scale) return h->fail(h, FT_ENOMEM, "no memory for %lld block scales",
                                   (long long)j.blocks);
    }
    j.codes = part[NF4_CODES];
    j.absmax = scale ? (char *)scale : part[NF4_ABSMAX];
    j.scale = scale;
    each(h, (j.blocks + RUN - 1) / RUN, encode_run, &j);
    rc = j.bad != INT64_MAX ? refuse(h, &j) : scale ? nest(h, &j, part) : 0;
    if (!rc) write_state(self, &j, part, size);
    free(scale);
    return rc;
}

/* ---- the plugin: the table of ft/quant.h ----------------------------------------------------- */
static int parts(void *me, const int64_t *dim, int ndim, ft_part out[FT_MAX_PARTS])
{
    const instance *self = me;
    return nf4_parts(self->host, self->cfg->double_quant, dim, ndim, out);
}

static int open_parts(void *me, const int64_t *dim, int ndim, const ft_tensor part[],
                      ft_packed *out)
{
    return nf4_open(((const instance *)me)->host, dim, ndim, part, out);
}

static const char *quantization_config(void *me) { return ((const instance *)me)->json; }

/* What bitsandbytes saved in 4 bits as NF4. */
static bool claims(const ft_source *s) { return quant_is_bnb(s, "load_in_4bit", "nf4", ""); }

static int open_instance(void *me, const ft_host *host, const void *cfg)
{
    instance *self = me;
    *self = (instance){ .host = host, .cfg = cfg };
    return make_json(self);
}

static const ft_quantizer quantizer = {
    .size = sizeof quantizer,
    .scheme = "nf4",
    .parts = parts,
    .encode = encode,
    .open = open_parts,
    .config = quantization_config,
    .skip_modules = offsetof(config, skip_modules),
    .claims = claims,
};

static const ft_plugin plugin = {
    .abi = FT_ABI_INIT,
    .role = "ft.quantizer/1",
    .name = "quant-nf4",
    .version = "1.0",
    .summary = "4-bit NormalFloat weights, bit-exact with bitsandbytes",
    .params = params,
    .config_size = sizeof(config),
    .instance_size = sizeof(instance),
    .open = open_instance,
    .vtable = &quantizer,
};

FT_PLUGIN(plugin, "quant-nf4");
