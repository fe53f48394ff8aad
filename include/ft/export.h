/* ft/export.h -- what is done with a trained model: roles "ft.merger/1" and "ft.exporter/1".
 *
 * Merging is the core's: it runs each adapted site's own graph on the identity, so that every
 * adapter merges without code of its own.  A merger names the choices a user has.  An exporter lays
 * out a folder as another program expects it; the core hands it the model tensor by tensor, or
 * writes weights and configuration itself.  What was written is then opened again by the core and
 * held against the model that was trained: the receipt. */
#ifndef FT_EXPORT_H
#define FT_EXPORT_H
#include "ft/data.h"
#include "ft/model.h"

/* ---- role "ft.merger/1" ---------------------------------------------------------------------- */

/* Embed in the config struct; FT_MERGE_PARAMS(config, member) adds its row to the table. */
typedef struct { const char *base; } ft_merge_args;
#define FT_MERGE_PARAMS(config, m)                                                                \
    { "base", FT_STR, offsetof(config, m.base), "trained", 0, 0,                                   \
      (const char *const[]){ "trained", "original", 0 },                                           \
      "what is merged onto: the weights that were trained on (packed ones as their numbers), or "  \
      "the model as it was before quantization" }

typedef struct {
    uint32_t size;
    size_t args; /* offset of ft_merge_args in the config struct */
} ft_merger;

/* ---- role "ft.exporter/1" -------------------------------------------------------------------- */

/* Embed in the config struct; FT_EXPORT_PARAMS(config, member) adds its row to the table. */
typedef struct { bool lossy; } ft_export_args;
#define FT_EXPORT_PARAMS(config, m)                                                               \
    { "lossy", FT_BOOL, offsetof(config, m.lossy), "false", 0, 0, 0,                               \
      "accept a form that keeps less than the model's own numbers do" }

/* A tensor of the model as it is after training. */
typedef struct {
    const char *name;    /* as a Hugging Face folder has it; pieces of experts for an exporter of
                            GGUF: as a GGUF has it */
    int32_t ndim;
    int64_t dim[4];
} ft_export_tensor;

/* Takes the next n numbers of a tensor: whole rows.  An error ends the tensor. */
typedef int (*ft_export_sink)(void *ctx, const float *v, int64_t n);

/* One export, and what the host does for it.  The folder is new and empty; when write() fails,
 * nothing of it remains.  check() sees the same, but for the functions that write and values(). */
typedef struct ft_export ft_export;
struct ft_export {
    uint32_t size;
    void *ctx;                      /* the host's own */
    const ft_source *source;        /* the model as `model:` names it */
    int64_t context;                /* longest sequence */
    const ft_tokenizer *tokenizer;  /* loaded, where the exporter asks for it or the model came */
    void *tokenizer_self;           /* from GGUF; else NULL */
    const ft_vocab *vocab;          /* likewise */
    /* Writes a whole file of that name. */
    int (*put)(const ft_export *, const char *name, const void *p, size_t n);
    /* Copies a file of the source's folder; one that is not there is passed over. */
    int (*copy)(const ft_export *, const char *name);
    /* Writes config.json and the weights as safetensors: model.safetensors, or shards of at most
     * max_shard bytes (0: no limit) and their index.  FT_NO_DTYPE: the model's own dtype (BF16 for
     * a model whose matrices were quantized). */
    int (*model)(const ft_export *, ft_dtype dtype, uint64_t max_shard);
    /* The same with the matrices of linear layers packed by a quantizer plugin, which is opened
     * with the parameters of a JSON object; its quantization_config goes into config.json. */
    int (*model_packed)(const ft_export *, ft_dtype dtype, uint64_t max_shard,
                        const char *quantizer, const char *parameters);
    const ft_json *config;          /* config.json of the model that is written */
    ft_dtype own;                   /* of the model's matrices; BF16 where they were quantized */
    size_t n_tensors;
    void (*tensor)(const ft_export *, size_t i, ft_export_tensor *out);
    int (*values)(const ft_export *, size_t i, ft_export_sink, void *ctx);
    /* What the model's plugin calls a weight in GGUF; a name that is GGUF's own stays. */
    int (*gguf_name)(const ft_export *, const char *name, ft_gguf_name *out);
    /* What the tokenizer's plugin makes of its words for GGUF (ft_tokenizer.gguf). */
    int (*gguf_words)(const ft_export *, uint64_t rows, ft_bytes *keys, uint64_t *n_keys);
    /* A file in pieces: begun aside, it gets its name by end(). */
    int (*begin)(const ft_export *, const char *name);
    int (*append)(const ft_export *, const void *p, size_t n);
    int (*end)(const ft_export *);
    /* The adapter by itself: its plugin ("lora"; NULL: there is none), and its files as PEFT names
     * them: adapter_config.json (NULL: nothing is trained, or it has been merged) and tensors.
     * check() sees them when opens() asks for an adapter: as they will be, tensors without data. */
    const char *adapter;
    const ft_json *adapter_config;
    size_t n_adapter;
    const ft_tensor *(*adapter_tensor)(const ft_export *, size_t i);
};

typedef struct {
    uint32_t size;
    int (*write)(void *self, const ft_export *);
    size_t args;         /* offset of ft_export_args in the config struct */
    const char *folder;  /* of the run's folder that it fills: "model" */
    /* The file in it that is opened for the receipt; *adapter: it is a GGUF of a LoRA for the model
     * that `model:` names.  NULL: the folder is the model. */
    const char *(*opens)(void *self, bool *adapter);
    bool words;          /* wants the tokenizer loaded, whatever the model came from */
    /* What the weights become ("BF16"), and whether that keeps less than numbers of dtype `own` do:
     * then it takes `lossy: true`. */
    const char *(*form)(void *self, ft_dtype own, bool *lossy);
    /* Whether this model can be written; asked before anything runs.  NULL: any can. */
    int (*check)(void *self, const ft_export *);
    bool gguf;           /* wants experts' weights in the pieces that GGUF files have */
} ft_exporter;
#endif
