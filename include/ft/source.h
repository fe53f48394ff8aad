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
    const ft_json *tokenizer;           /* tokenizer.json or NULL.  Filled when a tokenizer is asked */
    const ft_json *tokenizer_config;    /* tokenizer_config.json or NULL */
    const char *chat_template;          /* chat_template.jinja, else tokenizer_config's, else the
                                           GGUF's tokenizer.chat_template; NULL: the model has none */
    const char *bos_token, *eos_token;  /* as text, "" where there is none: what templates see */
    const ft_meta *meta;                /* the GGUF's key-values; NULL for a folder */
    size_t n_meta;
} ft_source;

static inline const ft_meta *ft_source_meta(const ft_source *s, const char *key)
{
    for (size_t i = 0; i < s->n_meta; i++) {
        if (!strcmp(s->meta[i].key, key)) return &s->meta[i];
    }
    return NULL;
}

/* Interface "ft.source/1": the model of this run (NULL after host->fail() when it cannot be read). */
typedef struct {
    uint32_t size;
    const ft_source *(*model)(const ft_host *);
} ft_source_api;
#endif
