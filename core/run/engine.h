/* engine.h -- the memory of a run: one region that holds everything the programs need.
 *
 * Layout: trained parameters, their gradients, the optimizer's state, what each program keeps, the
 * work region and the scratch that programs share (they run one after the other), keys and values
 * for generation, micro-batches.  Its size is known when the programs are planned. */
#ifndef FT_CORE_ENGINE_H
#define FT_CORE_ENGINE_H
#include "core/run/machine.h"
#include "core/run/program.h"
#include "core/run/rows.h"

enum { FT_ENGINE_PROGRAMS = 4 };

/* Where each matrix of a program's weights lies in files: [n_weight][FT_MAX_PARTS]. */
typedef struct { const ft_weights *weights; ft_weight_part *part; } ft_pages;

typedef struct {
    ft_machine *machine;
    ft_program *program[FT_ENGINE_PROGRAMS]; /* the first owns the parameters */
    int n_programs;
    int optimizer_states;          /* fp32 numbers a trained parameter element has besides itself */
    ft_micro micro[FT_ENGINE_PROGRAMS]; /* room for a micro-batch of each program */
    /* Not NULL: matrices of these weights are let go each time a node has read one. */
    ft_weights *paged;
    /* Not NULL: the optimizer's state lies in a file of this folder that has no name, mapped, and
     * not in the region. */
    const char *state_dir;
    /* after ft_engine_size */
    uint64_t bytes;
    /* after ft_engine_start */
    char *region;
    void *param, *grad, *state;  /* grad: NULL when no program trains */
    uint64_t state_bytes;
    ft_pages pages[FT_ENGINE_PROGRAMS];
    ft_arena arena;
    bool trains;
    uint64_t at[FT_ENGINE_PROGRAMS][2], param_at, grad_at, state_at, work_at, scratch_at, slots_at;
} ft_engine;

/* Computes the layout, for plans that are not started; e->machine and the planned programs are
 * set. */
void ft_engine_size(ft_engine *e);
/* Computes the layout, gets the memory, starts the threads and binds the programs. */
int ft_engine_start(ft_engine *e, ft_err *err);
void ft_engine_stop(ft_engine *e);
/* The bytes of the state from `from` on have been used: where it is a mapped file, their memory is
 * given back. */
void ft_engine_let_state_go(const ft_engine *e, uint64_t from, uint64_t n);

/* First values of the parameters: from the checkpoint, from an adapter's file where it has them
 * (adapter may be NULL), else as they were declared, keyed by seed and name.  Then the CONST nodes
 * of all programs are run.  Every tensor of the adapter must be used, and every saved parameter be
 * there. */
int ft_engine_fill(ft_engine *e, ft_weights *w, uint64_t seed, const ft_tensors *adapter,
                   ft_err *err);
/* The same for programs that are a part of the model: further tensors of the adapter are no
 * error. */
int ft_engine_fill_part(ft_engine *e, ft_weights *w, uint64_t seed, const ft_tensors *adapter,
                        ft_err *err);

/* 0 when every tensor of an adapter's file has a parameter of its name and shape in g, and every
 * trained parameter that is saved has a tensor. */
int ft_engine_adapter_fits(const ft_g *g, const ft_tensors *adapter, ft_err *err);

/* A parameter's numbers: trained ones in the flat array, frozen ones in what the program keeps. */
void *ft_engine_param(const ft_engine *e, uint32_t param);
#endif
