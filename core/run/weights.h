/* weights.h -- the numbers behind a graph's weights: found by name, checked against the shape that
 * the model declares, and seen as ft_arg without copying.
 *
 * A weight comes from the first place that has it: the packed set that a quantizer made, else the
 * checkpoint (under its HF name, or the GGUF name that the model plugin gives).  Plain tensors are
 * used where they lie in the mapped file; block formats become ft_packed and are decoded tile by
 * tile. */
#ifndef FT_CORE_WEIGHTS_H
#define FT_CORE_WEIGHTS_H
#include "core/base/arena.h"
#include "core/graph/graph.h"
#include "core/io/tensors.h"
#include "core/load/instance.h"
#include "ft/model.h"
#include "ft/quant.h"

typedef struct {
    const ft_tensors *base;        /* the checkpoint */
    bool gguf;
    const ft_model *model;         /* gives GGUF names */
    void *model_self;
    const char *path;              /* for messages */
    const ft_tensors *packed;      /* the quantizer's output, or NULL */
    const ft_quantizer *quantizer;
    void *quantizer_self;
    ft_instance *quantizer_plugin; /* for its errors */
    /* planning before the quantizer has run: bytes that weight i of */
    const uint64_t *planned;
    const ft_g *planned_for;       /* this plain build will take packed, 0: it stays; else NULL */
    const char *piece_name;        /* the weight in pieces that was opened last, and its numbers */
    const ft_packed *piece;
    ft_arena plan;                 /* `planned` */
    ft_arena arena;                /* packed headers and copies of unaligned tensors */
} ft_weights;

/* One weight.  FT_EFORMAT when it is missing or has another shape. */
int ft_weights_find(ft_weights *w, const char *name, const ft_shape *shape, ft_arg *out, ft_err *e);
/* All weights of a graph; out: [g->n_weight].  Missing ones are reported together. */
int ft_weights_bind(ft_weights *w, const ft_g *g, ft_arg *out, ft_err *e);
/* Rows r0 … of a weight as fp32, row-major; whatever form it has. */
void ft_weights_rows(const ft_arg *a, int64_t r0, int64_t nr, float *out);
/* n numbers of row r from column c on as fp32. */
void ft_weights_run(const ft_arg *a, int64_t r, int64_t c, int64_t n, float *out);
/* A tensor of a file as the (rows, cols) that *out says, decoded where it is packed; heads as in
 * ft_gguf_name. */
int ft_weights_tensor(ft_weights *w, const ft_tensor *t, int64_t heads, ft_arg *out, ft_err *e);
/* Bytes that the weight takes in the file where it is read; 0 when there is none. */
uint64_t ft_weights_bytes(ft_weights *w, const char *name);
/* Where the weight lies in mapped files, part by part; their number, at most FT_MAX_PARTS. */
typedef struct { const void *at; uint64_t n; } ft_weight_part;
int ft_weights_parts(ft_weights *w, const char *name, ft_weight_part part[FT_MAX_PARTS]);
/* Gives back the memory of pages that hold a part; reading it fetches them again. */
void ft_weights_let_go(const ft_weights *w, const ft_weight_part *part);
/* FT_EFORMAT when a number of the weight, as the checkpoint has it, is NaN or infinite: nothing can
 * be learnt on top of that.  What a quantizer has packed was looked at before. */
int ft_weights_finite(ft_weights *w, const char *name, ft_err *e);
/* Gives back the memory of the checkpoint's pages that hold the weight up to its row `end` of
 * `rows`; reading them fetches them again. */
void ft_weights_forget(ft_weights *w, const char *name, int64_t end, int64_t rows);
/* Ends all that ft_weights_find and ft_weights_bind have given out, for a plan anew. */
void ft_weights_unbind(ft_weights *w);
void ft_weights_free(ft_weights *w);
#endif
