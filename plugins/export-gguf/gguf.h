/* gguf.h -- what the files of export-gguf share.
 *
 *   encode.c       numbers into block formats
 *   keys.c         key-values: what the model is, how it rotates, its words
 *   rope.c         rotary scaling as GGUF says it
 *   fits.c         what llama.cpp takes for granted
 *   file.c         the file: header, list of tensors, data
 *   lora.c         an adapter by itself
 *   ollama.c       a Modelfile
 *   export-gguf.c  the plugin */
#ifndef EXPORT_GGUF_H
#define EXPORT_GGUF_H
#include "encode.h"
#include "ft/export.h"
#include "ft/gguf.h"

enum { GGUF_ALIGN = 32, GGUF_EXTRAS = 2, GGUF_MAX_FREQ = 512 };

typedef struct {
    const char *type, *name;
    bool adapter, ollama;
    ft_export_args args;
} gguf_config;

/* A short F32 vector beside the model's weights: divisors of rotary frequencies. */
typedef struct {
    const char *name;
    int64_t n;
    float v[GGUF_MAX_FREQ];
} gguf_extra;

typedef struct {
    const ft_host *host;
    const gguf_config *c;
    ft_gguf_keys keys;
    gguf_extra extra[GGUF_EXTRAS];
    int n_extra;
} exporter;

/* Fills e->keys and e->extra.  An error says what GGUF has no form for. */
int gguf_make_keys(exporter *e, const ft_export *x, const gguf_type *type);
/* The keys "ARCH.rope.…" and the vectors that say how positions rotate. */
int gguf_make_rope(exporter *e, const char *arch, const ft_json *config, int64_t head_dim);
/* An error where config.json says something else than llama.cpp takes for granted. */
int gguf_check_fit(const exporter *e, const char *arch, const ft_json *config);
/* Whether GGUF has a sliding window for the architecture. */
bool gguf_slides(const char *arch);
/* Longest row that llama.cpp computes as this model does. */
int64_t gguf_context(const char *arch, const ft_json *config, int64_t context);
/* The type of matrices that `type:` asks for, in a model whose own dtype is this. */
const gguf_type *gguf_type_asked(const gguf_config *c, ft_dtype own);
/* Writes the file through x->begin, append and end. */
int gguf_write_file(exporter *e, const ft_export *x, const char *name, const gguf_type *type);
/* Likewise the adapter alone; checked before it runs. */
int gguf_check_lora(exporter *e, const ft_export *x);
int gguf_write_lora(exporter *e, const ft_export *x, const char *name);
/* The Modelfile for the file that is written; an error where it has no form for the template. */
int gguf_make_modelfile(const exporter *e, const ft_export *x, const char *file, ft_buf *out);
/* The architecture that llama.cpp runs the model as; NULL after an error. */
const char *gguf_arch(exporter *e, const ft_export *x);

/* ---- pieces of a file ------------------------------------------------------------------------ */
/* Magic, version, counts and keys. */
void gguf_put_head(ft_buf *b, uint64_t tensors, const ft_gguf_keys *keys);
/* A tensor's entry; *offset goes on to the next one's. */
void gguf_put_info(ft_buf *b, const char *name, const int64_t *dim, int ndim, uint32_t type,
                   uint64_t *offset, uint64_t bytes);
/* The rows of v (rows, cols) as llama.cpp wants those of q and k, in `to`; NULL: no memory. */
const float *gguf_interleave(ft_buf *to, const float *v, int64_t rows, int64_t cols, int64_t heads);
#endif
