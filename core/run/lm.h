/* lm.h -- a model, and perhaps a saved adapter on it, ready to be asked: what `score` and
 * `generate` start from. */
#ifndef FT_CORE_LM_H
#define FT_CORE_LM_H
#include "core/run/adapter_file.h"
#include "core/run/model.h"

typedef struct {
    ft_machine machine;
    ft_model_run model;
    ft_weights weights;
    ft_program scan;             /* the plain build */
    ft_method method;            /* n_adapters 0: the base alone */
    ft_instance *adapter;
    ft_tensors *adapter_tensors; /* NULL: none */
    ft_arena arena;
} ft_lm_run;

/* adapter_dir NULL: the base alone.  threads 0: all. */
int ft_lm_open(ft_lm_run *lm, ft_registry *r, const ft_offer *offer, const char *model,
               const char *adapter_dir, int threads, ft_err *e);
void ft_lm_close(ft_lm_run *lm);

/* The plain build of a model: its sites and weights, shapes alone. */
int ft_lm_scan(ft_program *p, const ft_model_run *m, ft_err *e);
/* Arguments of a program on this model with this adapter; purpose and sizes are left to the
 * caller. */
ft_program_args ft_lm_args(ft_lm_run *lm);

/* What a model is asked with: the purpose and sizes of its program are filled in here. */
typedef struct {
    ft_machine *machine;
    ft_program_args program;
    ft_weights *weights;
    const ft_tensors *adapter;  /* values of the method's parameters, or NULL */
    uint64_t seed, memory_limit; /* the limit in bytes, or 0 */
} ft_asked;

/* As *lm has it. */
ft_asked ft_asked_lm(ft_lm_run *lm, ft_dtype compute);
/* The engine of a program that was planned for it, not started.  Weights that do not fit into the
 * limit beside its region are let go after each use. */
ft_engine ft_asked_engine(const ft_asked *a, ft_program *p);
#endif
