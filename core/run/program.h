/* program.h -- a model's graph for one purpose, from building to running.
 *
 *   ft_program_plan    builds the graph, derives, recomputes, plans: sizes are exact from here on,
 *                      and no weight has been read
 *   ft_program_bind    binds it to memory and kernels
 *
 * Several programs (training, evaluation) may share trained parameters and the work region. */
#ifndef FT_CORE_PROGRAM_H
#define FT_CORE_PROGRAM_H
#include "core/graph/exec.h"
#include "core/run/method.h"
#include "core/run/weights.h"
#include "ft/train.h"

typedef enum {
    FT_FOR_TRAINING,   /* loss and gradients */
    FT_FOR_SCORING,    /* log-probabilities of the trained rows */
    FT_FOR_LOGITS,     /* logits of chosen rows */
    FT_FOR_GENERATION, /* the same, with the keys and values of earlier tokens kept */
    FT_FOR_VALUE       /* what the model's build returns, as it is: merging */
} ft_purpose;

typedef struct {
    ft_purpose purpose;
    const ft_model *model;
    void *model_self;
    ft_method *method;           /* NULL: the base alone */
    const ft_trainer *trainer;   /* TRAINING: the objective */
    void *trainer_self;
    ft_dtype compute;
    int64_t max_tokens, max_trained;
    int64_t slot_tokens;         /* GENERATION: tokens of all slots together */
    g_remat remat;
    int32_t recompute_layers;
} ft_program_args;

typedef struct {
    ft_program_args args;
    ft_g *g;
    g_plan plan;
    g_scratch scratch;
    ft_arg *weight;              /* [g->n_weight] */
    ft_val loss, logprob, hit, logits;
    g_exec *x;
} ft_program;

/* weights NULL: shapes alone, for graphs that are only looked at (no scratch sizes).  On error *p
 * is empty. */
int ft_program_plan(ft_program *p, const ft_program_args *a, ft_weights *weights,
                    const g_kernels *k, int threads, ft_err *e);
int ft_program_bind(ft_program *p, const g_kernels *k, const g_memory *m, ft_pool *pool, ft_err *e);
void ft_program_free(ft_program *p);

/* Element i of a vector that the last micro-batch made. */
double ft_program_number(const ft_program *p, ft_val v, int64_t i);
/* An anonymous region of n bytes, 64-byte aligned, zero; NULL after an error. */
void *ft_region_new(uint64_t n, const char *what, ft_err *e);
void ft_region_free(void *p, uint64_t n);
/* Takes all of a region's memory now; what stands in it stays. */
void ft_region_touch(void *p, uint64_t n);
#endif
