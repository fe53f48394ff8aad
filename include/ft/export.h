/* ft/export.h -- what is done with a trained model: roles "ft.merger/1" and "ft.exporter/1".
 *
 * Merging is the core's: it runs each adapted site's own graph on the identity, so that every
 * adapter merges without code of its own.  A merger names the choices a user has.  An exporter lays
 * out a folder as another program expects it; the core writes weights and configuration into it,
 * one tensor at a time. */
#ifndef FT_EXPORT_H
#define FT_EXPORT_H
#include "ft/data.h"

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

/* One export, and what the host does for it.  The folder is new and empty; when write() fails,
 * nothing of it remains. */
typedef struct ft_export ft_export;
struct ft_export {
    uint32_t size;
    void *ctx;                      /* the host's own */
    const ft_source *source;        /* the model as `model:` names it */
    int64_t context;                /* longest sequence */
    const ft_tokenizer *tokenizer;  /* of a model that came from GGUF, loaded; else NULL */
    void *tokenizer_self;
    const ft_vocab *vocab;          /* likewise */
    /* Writes a whole file of that name. */
    int (*put)(const ft_export *, const char *name, const void *p, size_t n);
    /* Copies a file of the source's folder; one that is not there is passed over. */
    int (*copy)(const ft_export *, const char *name);
    /* Writes config.json and the weights as safetensors: model.safetensors, or shards of at most
     * max_shard bytes (0: no limit) and their index.  FT_NO_DTYPE: the model's own dtype (BF16 for
     * a model whose matrices were quantized). */
    int (*model)(const ft_export *, ft_dtype dtype, uint64_t max_shard);
};

typedef struct {
    uint32_t size;
    int (*write)(void *self, const ft_export *);
} ft_exporter;
#endif
