/* merge.h -- the weights of a model as they are after training: base, adapter and whatever was
 * trained whole made one, tensor by tensor.
 *
 * The merged weight of an adapted linear site is found by running the site's own graph, without
 * dropout and in fp32, on the rows of the identity: row j of what comes out is column j of the
 * weight.  So every adapter that stays linear merges without code of its own, and one that does not
 * is refused.  An embedding's rows are what its site gives for each id.  Memory: one adapted tensor
 * in fp32; everything else goes by in pieces. */
#ifndef FT_CORE_MERGE_H
#define FT_CORE_MERGE_H
#include "core/run/stage_train.h"

typedef enum {
    FT_MERGE_BASE,    /* as the base has it */
    FT_MERGE_TRAINED, /* trained whole: from the trained artifact */
    FT_MERGE_SITE,    /* weight or bias of an adapted site */
} ft_merge_way;

typedef struct {
    const char *name;    /* as the Hugging Face folder has it */
    const char *from;    /* name to look it up under */
    ft_shape shape;
    ft_dtype dtype;      /* that keeps it exactly */
    ft_merge_way way;
    const ft_site *site;
    bool bias;           /* SITE: its bias, not its weight */
    ft_shape whole;      /* of a piece of an experts' weight: that weight's; else of no axis */
    int64_t row;         /* of a piece in a Hugging Face folder: its first row there */
    const ft_piece *lines; /* of a piece in a GGUF: its lines of every expert's matrix; else NULL */
} ft_merge_item;

/* How ft_merge_open goes about it. */
enum {
    FT_MERGE_ONTO_ORIGINAL = 1, /* packed weights are left alone */
    FT_MERGE_FOR_GGUF = 2,      /* experts' weights in the pieces of a GGUF, under its names */
};

/* What a tensor of the adapter has gone into: a module or a weight; another one is the same error
 * as none. */
typedef struct { const char *into, *also; } ft_merge_use;

typedef struct {
    ft_run *run;
    ft_lineup lineup;
    ft_weights trained;      /* looks into what training saved */
    ft_tensors *merged;      /* the merged model of an earlier stage, or NULL */
    ft_json_doc *config;     /* config.json of the model */
    ft_program scan;         /* the adapted build, shapes alone */
    ft_merge_item *item;
    size_t n;
    ft_merge_use *use;       /* of each tensor of lineup.init; NULL: nothing is merged here */
    bool gguf;               /* FT_MERGE_FOR_GGUF */
    bool untied;             /* the head has weights of its own now */
    ft_arena arena;
} ft_merge;

/* For a stage that takes PACKED, ADAPTER, TRAINED and perhaps MERGED: takes the newest of the last
 * two, else the plain model. */
int ft_merge_open(ft_merge *m, ft_run *r, const ft_stage *s, unsigned flags, ft_err *e);
void ft_merge_close(ft_merge *m);

/* Whether this merge stage departs from what was trained: it merges onto the model as it was before
 * its weights were packed. */
bool ft_merge_departs(const ft_stage *merge);

/* The dtype of the model's first matrix; FT_NO_DTYPE: it is quantized. */
ft_dtype ft_merge_own_dtype(ft_run *r);

/* Hands over item i as fp32, from its first element to its last, in runs of n numbers. */
typedef int (*ft_merge_sink)(void *ctx, const float *v, int64_t n, ft_err *e);
int ft_merge_values(ft_merge *m, size_t i, ft_merge_sink sink, void *ctx, ft_err *e);

/* Notes that the adapter's tensor `name` went into something.  Several times into the same is
 * once. */
void ft_merge_used(ft_merge *m, const char *name, const char *into);
/* An error unless every tensor of the adapter has gone into one thing. */
int ft_merge_check_uses(const ft_merge *m, ft_err *e);
#endif
