/* export-gguf.c -- a model as one GGUF file, for llama.cpp and what is built on it.
 *
 *   gguf/model.gguf    weights, sizes, tokenizer and chat template
 *   gguf/adapter.gguf  instead: a LoRA by itself
 *   gguf/Modelfile     beside either, for `ollama create`
 *
 * Left out: vision parts, models split over several files, importance matrices. */
#include "gguf.h"

static const char *const types[] = { "auto", "f32",  "f16",  "bf16", "q8_0", "q5_1",
                                     "q5_0", "q4_1", "q4_0", "q4_k", NULL };
static const ft_param params[] = {
    { "type", FT_STR, offsetof(gguf_config, type), "auto", 0, 0, types,
      "of matrices; auto: the model's own dtype, bf16 where it was quantized" },
    { "name", FT_STR, offsetof(gguf_config, name), "", 0, 0, NULL,
      "general.name of the file; empty: the model's folder or file" },
    { "adapter", FT_BOOL, offsetof(gguf_config, adapter), "false", 0, 0, NULL,
      "write the LoRA by itself, for the model that it was trained on" },
    { "ollama", FT_BOOL, offsetof(gguf_config, ollama), "false", 0, 0, NULL,
      "write a Modelfile too, with the chat template in Ollama's language" },
    FT_EXPORT_PARAMS(gguf_config, args),
    { 0 }
};

const gguf_type *gguf_type_asked(const gguf_config *c, ft_dtype own)
{
    const char *plain = own == FT_F32 ? "f32" : own == FT_F16 ? "f16" : "bf16";
    return gguf_type_find(strcmp(c->type, "auto") ? c->type : plain);
}

static int open_(void *self, const ft_host *host, const void *cfg)
{
    exporter *e = self;
    e->host = host;
    e->c = cfg;
    return 0;
}

static void close_(void *self)
{
    exporter *e = self;
    ft_buf_free(&e->keys.bytes);
}

/* Only fp32 and the model's own dtype keep every number it had. */
static const char *form(void *self, ft_dtype own, bool *lossy)
{
    const exporter *e = self;
    const gguf_type *asked = gguf_type_asked(e->c, own);
    static const gguf_config as_it_is = { .type = "auto" };
    *lossy = !e->c->adapter && asked != gguf_type_asked(&as_it_is, own) && asked->ggml != 0;
    return e->c->adapter ? "a LoRA for the model as it was" : asked->name;
}

static const char *opens(void *self, bool *adapter)
{
    const exporter *e = self;
    *adapter = e->c->adapter;
    return e->c->adapter ? "adapter.gguf" : "model.gguf";
}

static int put_modelfile(const exporter *e, const ft_export *x, const char *file, bool check)
{
    ft_buf b = { 0 };
    int code = e->c->ollama ? gguf_make_modelfile(e, x, file, &b) : 0;
    if (!code && b.n && !check) code = x->put(x, "Modelfile", b.p, b.n);
    ft_buf_free(&b);
    return code;
}

/* Every weight has a name, and the words have a form. */
static int check(void *self, const ft_export *x)
{
    exporter *e = self;
    bool adapter;
    int code = e->c->adapter ? gguf_check_lora(e, x)
                             : gguf_make_keys(e, x, gguf_type_asked(e->c, x->own));
    for (size_t i = 0; i < x->n_tensors && !code; i++) {
        ft_export_tensor t;
        ft_gguf_name name;
        x->tensor(x, i, &t);
        code = x->gguf_name(x, t.name, &name);
    }
    return code ? code : put_modelfile(e, x, opens(self, &adapter), true);
}

static int write_(void *self, const ft_export *x)
{
    exporter *e = self;
    bool adapter;
    const char *file = opens(self, &adapter);
    const gguf_type *type = gguf_type_asked(e->c, x->own);
    int code = adapter ? gguf_write_lora(e, x, file) : gguf_make_keys(e, x, type);
    if (!code && !adapter) code = gguf_write_file(e, x, file, type);
    return code ? code : put_modelfile(e, x, file, false);
}

static const ft_exporter vtable = {
    .size = sizeof vtable,
    .write = write_,
    .args = offsetof(gguf_config, args),
    .folder = "gguf",
    .opens = opens,
    .words = true,
    .gguf = true,
    .form = form,
    .check = check,
};
static const ft_plugin plugin = {
    .abi = FT_ABI_INIT,
    .role = "ft.exporter/1",
    .name = "export-gguf",
    .version = "0.1.0",
    .summary = "one GGUF file, for llama.cpp, Ollama and others",
    .params = params,
    .config_size = sizeof(gguf_config),
    .instance_size = sizeof(exporter),
    .open = open_,
    .close = close_,
    .vtable = &vtable,
};
FT_PLUGIN(plugin, "export-gguf")
