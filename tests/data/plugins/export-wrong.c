/* export-wrong.c -- an exporter that leaves things out: every tensor but one, the training, turns
 * of conversations; or that has an adapter's tensor go into two. */
#include <string.h>
#include "ft/export.h"

typedef struct { const char *what; ft_export_args args; } config;
typedef struct { const config *c; } self_t;

static const char *const ways[] = { "tensor", "training", "turns", "twice", NULL };
static const ft_param params[] = {
    { "what", FT_STR, offsetof(config, what), "tensor", 0, 0, ways, "is wrong" },
    FT_EXPORT_PARAMS(config, args),
    { 0 }
};

static int open_(void *self, const ft_host *host, const void *cfg)
{
    (void)host;
    ((self_t *)self)->c = cfg;
    return 0;
}

static int drop(void *ctx, const float *v, int64_t n)
{
    (void)ctx, (void)v, (void)n;
    return 0;
}

/* The words with a template that knows nothing of who speaks. */
static int put_words(const ft_export *x)
{
    static const char words[] =
        "{\"tokenizer_class\": \"PreTrainedTokenizerFast\", \"eos_token\": \"<|end|>\", "
        "\"chat_template\": \"{% for m in messages %}{{ m.content }}{% endfor %}\"}";
    int code = x->put(x, "tokenizer_config.json", words, sizeof words - 1);
    return code ? code : x->copy(x, "tokenizer.json");
}

/* The model as it was before, whatever has been read. */
static int write_(void *self, const ft_export *x)
{
    const char *what = ((const self_t *)self)->c->what;
    bool all = strcmp(what, "tensor");
    int code = 0;
    if (!strcmp(what, "turns")) code = put_words(x);
    if (!strcmp(what, "twice")) x->adapter_tensor(x, 0);
    for (size_t i = 0; i < x->n_tensors && !code; i++) {
        ft_export_tensor t;
        x->tensor(x, i, &t);
        if (all || !strstr(t.name, "layers.1.mlp.up_proj")) code = x->values(x, i, drop, NULL);
    }
    if (!code) code = x->copy(x, "model.safetensors");
    return code ? code : x->copy(x, "config.json");
}

static const char *form(void *self, ft_dtype own, bool *lossy)
{
    (void)self, (void)own;
    *lossy = false;
    return "F32";
}

static const ft_exporter vtable = {
    .size = sizeof vtable, .write = write_, .args = offsetof(config, args), .form = form,
};
static const ft_plugin plugin = {
    .abi = FT_ABI_INIT, .role = "ft.exporter/1", .name = "export-wrong", .version = "0.1.0",
    .summary = "for the tests of exports", .params = params, .config_size = sizeof(config),
    .instance_size = sizeof(self_t), .open = open_, .vtable = &vtable,
};
FT_PLUGIN(plugin, "export-wrong")
