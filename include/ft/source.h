/* ft/source.h -- the model that `model:` names, before anything is loaded: its configuration, its
 * tokenizer's files and its chat template, from a Hugging Face folder or a GGUF file. */
#ifndef FT_SOURCE_H
#define FT_SOURCE_H
#include "ft/tensor.h"

typedef struct {
    uint32_t size;
    const char *path;                   /* as `model:` wrote it */
    bool gguf;                          /* else a Hugging Face folder */
    const ft_json *config;              /* config.json; NULL for GGUF */
    const ft_json *generation_config;   /* generation_config.json or NULL */
    /* tokenizer.json or NULL.  Filled when a tokenizer is asked */
    const ft_json *tokenizer;
    const ft_json *tokenizer_config;    /* tokenizer_config.json or NULL */
    const char *chat_template;          /* chat_template.jinja, else tokenizer_config's, else
                                           the GGUF's tokenizer.chat_template; NULL: none */
    const char *bos_token, *eos_token;  /* as text, "" where there is none: what templates see */
    const ft_meta *meta;                /* the GGUF's key-values; NULL for a folder */
    size_t n_meta;
    const ft_tensor *(*tensor)(const void *file, const char *name); /* ft_source_tensor */
    const void *file;                   /* the GGUF; NULL for a folder */
    const char *tokenizer_model;        /* tokenizer.model of a folder without tokenizer.json, or
                                           NULL.  Filled when a tokenizer is asked */
    size_t tokenizer_model_size;        /* its bytes */
} ft_source;

static inline const ft_meta *ft_source_meta(const ft_source *s, const char *key)
{
    for (size_t i = 0; i < s->n_meta; i++) {
        if (!strcmp(s->meta[i].key, key)) return &s->meta[i];
    }
    return NULL;
}

/* A tensor of the GGUF by name, for its shape; NULL when there is none, or for a folder. */
static inline const ft_tensor *ft_source_tensor(const ft_source *s, const char *name)
{
    return s->file ? s->tensor(s->file, name) : NULL;
}

/* A number of the GGUF; false when the key is absent or holds something else. */
static inline bool ft_source_int(const ft_source *s, const char *key, int64_t *out)
{
    return ft_meta_int(ft_source_meta(s, key), out);
}
static inline bool ft_source_real(const ft_source *s, const char *key, double *out)
{
    return ft_meta_real(ft_source_meta(s, key), out);
}

/* Interface "ft.source/1": the model of this run (NULL after host->fail() when it cannot be
 * read). */
typedef struct {
    uint32_t size;
    const ft_source *(*model)(const ft_host *);
} ft_source_api;
#endif
