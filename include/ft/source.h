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
    const ft_tensor *tensor;            /* the GGUF's tensors; NULL for a folder */
    size_t n_tensor;
} ft_source;

static inline const ft_meta *ft_source_meta(const ft_source *s, const char *key)
{
    for (size_t i = 0; i < s->n_meta; i++) {
        if (!strcmp(s->meta[i].key, key)) return &s->meta[i];
    }
    return NULL;
}

static inline const ft_tensor *ft_source_tensor(const ft_source *s, const char *name)
{
    for (size_t i = 0; i < s->n_tensor; i++) {
        if (!strcmp(s->tensor[i].name, name)) return &s->tensor[i];
    }
    return NULL;
}

/* A number of the GGUF as an integer or a real; false when the key is absent or no single number. */
static inline bool ft_source_real(const ft_source *s, const char *key, double *out)
{
    const ft_meta *m = ft_source_meta(s, key);
    union { uint8_t u8; int8_t i8; uint16_t u16; int16_t i16; uint32_t u32; int32_t i32; float f32;
            uint64_t u64; int64_t i64; double f64; } v;
    static const uint8_t size[] = { 1, 1, 2, 2, 4, 4, 4, 0, 0, 0, 8, 8, 8 };
    if (!m || m->type > FT_META_F64 || !size[m->type]) return false;
    memcpy(&v, m->data, size[m->type]);
    switch (m->type) {
    case FT_META_U8: *out = v.u8; return true;
    case FT_META_I8: *out = v.i8; return true;
    case FT_META_U16: *out = v.u16; return true;
    case FT_META_I16: *out = v.i16; return true;
    case FT_META_U32: *out = v.u32; return true;
    case FT_META_I32: *out = v.i32; return true;
    case FT_META_F32: *out = (double)v.f32; return true;
    case FT_META_U64: *out = (double)v.u64; return true;
    case FT_META_I64: *out = (double)v.i64; return true;
    default: *out = v.f64; return true;
    }
}

static inline bool ft_source_int(const ft_source *s, const char *key, int64_t *out)
{
    double d;
    if (!ft_source_real(s, key, &d) || d < -0x1p53 || d > 0x1p53 || d != (double)(int64_t)d) return false;
    *out = (int64_t)d;
    return true;
}

/* Interface "ft.source/1": the model of this run (NULL after host->fail() when it cannot be read). */
typedef struct {
    uint32_t size;
    const ft_source *(*model)(const ft_host *);
} ft_source_api;
#endif
