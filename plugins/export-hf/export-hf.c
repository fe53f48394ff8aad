/* export-hf.c -- a model folder as transformers reads and writes it.
 *
 *   config.json, model.safetensors (or shards and their index)   by the core
 *   tokenizer.json, tokenizer_config.json, special_tokens_map.json, chat_template.jinja,
 *   generation_config.json                                       copied from a Hugging Face folder,
 *                                                                made anew for a GGUF
 *
 * The tokenizer that was trained with is the one that is written.  Left out: model cards. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "ft/json.h"
#include "ft/export.h"

typedef struct {
    const char *dtype, *max_shard_size, *quantization;
    ft_export_args args;
} config;
typedef struct { const ft_host *host; const config *c; } exporter;

static const char *const packings[] = { "none", "nf4", "nf4-double", NULL };
static const char *const dtypes[] = { "auto", "bf16", "fp16", "fp32", NULL };
static const ft_param params[] = {
    { "dtype", FT_STR, offsetof(config, dtype), "auto", 0, 0, dtypes,
      "of the weights; auto: the model's own, bf16 where it was quantized" },
    FT_EXPORT_PARAMS(config, args),
    { "quantization", FT_STR, offsetof(config, quantization), "none", 0, 0, packings,
      "of linear layers, as bitsandbytes saves it: nf4, or nf4-double (scales in 8 bits too)" },
    { "max_shard_size", FT_STR, offsetof(config, max_shard_size), "5GB", 0, 0, NULL,
      "largest file of weights: a number with KB, MB or GB" },
    { 0 }
};

/* ---- parameters ------------------------------------------------------------------------------ */

static ft_dtype dtype_of(const char *s)
{
    if (!strcmp(s, "bf16")) return FT_BF16;
    if (!strcmp(s, "fp16")) return FT_F16;
    return strcmp(s, "fp32") ? FT_NO_DTYPE : FT_F32;
}

/* "5GB" in bytes (units of 1000, as transformers counts them); 0: it is no size. */
static uint64_t bytes_of(const char *s)
{
    static const struct { const char *unit; uint64_t n; } units[] = {
        { "KB", 1000 }, { "MB", 1000000 }, { "GB", 1000000000 }, { "TB", 1000000000000 }, { "", 1 },
    };
    char *end;
    if (*s < '0' || *s > '9') return 0;
    errno = 0;
    unsigned long long n = strtoull(s, &end, 10);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        uint64_t all;
        if (!strcmp(end, units[i].unit) && !errno &&
            !__builtin_mul_overflow((uint64_t)n, units[i].n, &all))
            return all;
    }
    return 0;
}

static int open_(void *self, const ft_host *host, const void *cfg)
{
    exporter *x = self;
    x->host = host;
    x->c = cfg;
    if (bytes_of(x->c->max_shard_size)) return 0;
    return host->fail(host, FT_EINVAL,
                      "max_shard_size \"%s\" is no size; write a whole number above 0 with KB, MB "
                      "or GB, such as 5GB",
                      x->c->max_shard_size);
}

/* ---- files for a model that came from GGUF --------------------------------------------------- */

/* "  "bos_token": "<s>"," for each special token that the vocabulary has. */
static void put_specials(const ft_export *x, ft_buf *b, const char *before)
{
    const ft_vocab *v = x->vocab;
    const struct { const char *key; int64_t id;
    } all[] = {
        { "bos_token", v->bos },
        { "eos_token", v->eos },
        { "pad_token", v->pad },
        { "unk_token", v->unk },
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        size_t n;
        const char *s = all[i].id < 0
                            ? NULL
                            : x->tokenizer->token(x->tokenizer_self, (uint32_t)all[i].id, &n);
        if (!s) continue;
        ft_buf_printf(b, "%s\n  \"%s\": ", before, all[i].key);
        ft_json_quote(b, s, n);
        before = ",";
    }
}

static int put_buf(exporter *e, const ft_export *x, const char *name, ft_buf *b)
{
    int code = b->oom ? e->host->fail(e->host, FT_ENOMEM, "out of memory while writing %s", name)
                      : x->put(x, name, b->p, b->n);
    ft_buf_free(b);
    return code;
}

static int put_tokenizer_config(exporter *e, const ft_export *x)
{
    ft_buf b = { 0 };
    const char *t = x->source->chat_template;
    ft_buf_printf(&b,
                  "{\n  \"add_bos_token\": %s,\n  \"add_eos_token\": %s,\n  "
                  "\"clean_up_tokenization_spaces\": false,\n"
                  "  \"model_max_length\": %lld,\n  \"tokenizer_class\": "
                  "\"PreTrainedTokenizerFast\"",
                  x->vocab->add_bos ? "true" : "false", x->vocab->add_eos ? "true" : "false",
                  (long long)x->context);
    put_specials(x, &b, ",");
    if (t) {
        ft_buf_puts(&b, ",\n  \"chat_template\": ");
        ft_json_quote(&b, t, strlen(t));
    }
    ft_buf_puts(&b, "\n}\n");
    return put_buf(e, x, "tokenizer_config.json", &b);
}

static int put_special_tokens(exporter *e, const ft_export *x)
{
    ft_buf b = { 0 };
    ft_buf_puts(&b, "{");
    put_specials(x, &b, "");
    ft_buf_puts(&b, "\n}\n");
    return put_buf(e, x, "special_tokens_map.json", &b);
}

static int put_generation(exporter *e, const ft_export *x)
{
    const ft_vocab *v = x->vocab;
    ft_buf b = { 0 };
    ft_buf_puts(&b, "{\n  \"_from_model_config\": true");
    if (v->bos >= 0) ft_buf_printf(&b, ",\n  \"bos_token_id\": %lld", (long long)v->bos);
    if (v->eos >= 0) ft_buf_printf(&b, ",\n  \"eos_token_id\": %lld", (long long)v->eos);
    if (v->pad >= 0) ft_buf_printf(&b, ",\n  \"pad_token_id\": %lld", (long long)v->pad);
    ft_buf_puts(&b, "\n}\n");
    return put_buf(e, x, "generation_config.json", &b);
}

static int make_files(exporter *e, const ft_export *x)
{
    ft_bytes json;
    const char *t = x->source->chat_template;
    if (!x->tokenizer || !FT_HAS(x->tokenizer, json) || !x->tokenizer->json)
        return e->host->fail(e->host, FT_EUNSUP,
                             "the tokenizer of %s cannot be written as tokenizer.json; "
                             "train from the Hugging Face folder instead",
                             x->source->path);
    int code = x->tokenizer->json(x->tokenizer_self, &json);
    if (code)
        return e->host->fail(e->host, code,
                             "the tokenizer of %s cannot be written as tokenizer.json",
                             x->source->path);
    code = x->put(x, "tokenizer.json", json.p, json.n);
    if (!code) code = put_tokenizer_config(e, x);
    if (!code) code = put_special_tokens(e, x);
    if (!code && t) code = x->put(x, "chat_template.jinja", t, strlen(t));
    return code ? code : put_generation(e, x);
}

/* ---- the export ------------------------------------------------------------------------------ */

static int copy_files(const ft_export *x)
{
    static const char *const files[] = { "tokenizer.json",
                                         "tokenizer_config.json",
                                         "special_tokens_map.json",
                                         "tokenizer.model",
                                         "vocab.json",
                                         "merges.txt",
                                         "added_tokens.json",
                                         "chat_template.jinja",
                                         "generation_config.json" };
    int code = 0;
    for (size_t i = 0; i < sizeof files / sizeof *files && !code; i++) code = x->copy(x, files[i]);
    return code;
}

static int write_(void *self, const ft_export *x)
{
    exporter *e = self;
    const char *packed = e->c->quantization;
    ft_dtype dtype = dtype_of(e->c->dtype);
    uint64_t shard = bytes_of(e->c->max_shard_size);
    int code = x->source->gguf ? make_files(e, x) : copy_files(x);
    if (code || !strcmp(packed, "none")) return code ? code : x->model(x, dtype, shard);
    return x->model_packed(x, dtype, shard, "quant-nf4",
                           strcmp(packed, "nf4") ? "{\"double_quant\": true}" : "{}");
}

/* The model's own dtype and fp32 keep every number that it had. */
static const char *form(void *self, ft_dtype own, bool *lossy)
{
    static const char *const name[] = { [FT_F32] = "F32", [FT_BF16] = "BF16", [FT_F16] = "F16" };
    const exporter *e = self;
    ft_dtype asked = dtype_of(e->c->dtype), to = asked == FT_NO_DTYPE ? own : asked;
    bool packed = strcmp(e->c->quantization, "none") != 0;
    *lossy = packed || (to != own && to != FT_F32);
    return packed ? e->c->quantization : name[to];
}

static const ft_exporter vtable = {
    .size = sizeof vtable,
    .write = write_,
    .args = offsetof(config, args),
    .folder = "model",
    .form = form,
};
static const ft_plugin plugin = {
    .abi = FT_ABI_INIT,
    .role = "ft.exporter/1",
    .name = "export-hf",
    .version = "0.1.0",
    .summary = "a model folder that transformers opens",
    .params = params,
    .config_size = sizeof(config),
    .instance_size = sizeof(exporter),
    .open = open_,
    .vtable = &vtable,
};
FT_PLUGIN(plugin, "export-hf")
