/* ft/model.h -- role "ft.model/1": a family of architectures, as a builder of graphs.
 *
 * A model plugin claims `model_type` (config.json) or `general.architecture` (GGUF), reads the
 * hyper-parameters, and builds the forward pass for a batch of tokens.  Weight names and shapes
 * come from the build itself: there is no second list of them. */
#ifndef FT_MODEL_H
#define FT_MODEL_H
#include "ft/graph.h"
#include "ft/source.h"

typedef struct {
    uint32_t size;
    const char *family;                  /* "llama": for messages */
    int64_t vocab, width, layers;
    int64_t context;                     /* the longest row that may be run */
    bool tied;                           /* the head shares the embedding */
} ft_model_info;

typedef struct { ft_val ids, positions; } ft_model_inputs; /* (T) each */

/* How a GGUF tensor differs from the HF one.  With n > 0 heads, row 2i+p of each head there is row
 * p*head_dim/2 + i here (llama.cpp's interleaved rotary layout).  The numbers there are those here
 * plus `shift` (Gemma's norms: 1 + w); vectors only. */
typedef struct { char name[128]; int64_t interleaved_heads; double shift; } ft_gguf_name;

/* One tensor of a file that holds a part of an experts' weight (experts, rows, columns), or of its
 * bias (experts, columns).  Line i of the tensor is row from + i * step of the expert's matrix;
 * with `columns` it is that column.  All experts' lines lie one expert after the other, or the
 * tensor is one expert's. */
typedef struct {
    char name[128];
    int64_t expert;      /* -1: all */
    int64_t from, step;
    bool columns;
} ft_piece;

typedef struct {
    uint32_t size;
    bool (*claims)(const ft_source *);
    int (*load)(void *self, const ft_source *, ft_model_info *out);
    /* The logits (T, vocab), symbolic. */
    ft_val (*build)(void *self, ft_graph *, const ft_model_inputs *);
    /* The GGUF tensor that holds the HF weight `name`; NULL: this family has no GGUF form. */
    int (*gguf_name)(void *self, const char *name, ft_gguf_name *out);
    /* config.json as transformers reads it, for a model that came from GGUF; valid until close. */
    int (*config)(void *self, const char **json, size_t *n);
    /* Piece i of a weight that a GGUF (else a Hugging Face folder) keeps in pieces, expert by
     * expert, each expert's in the same order; false past the last, and for weights that are one
     * tensor.  NULL: all are. */
    bool (*piece)(void *self, const char *name, bool gguf, int64_t i, ft_piece *out);
} ft_model;
#endif
