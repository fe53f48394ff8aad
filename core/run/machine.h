/* machine.h -- the processor that a run uses: kernels of one instruction set, and threads. */
#ifndef FT_CORE_MACHINE_H
#define FT_CORE_MACHINE_H
#include "core/graph/exec.h"
#include "core/load/registry.h"

typedef struct {
    const ft_backend *backend;
    g_kernels kernels;
    ft_pool *pool;      /* NULL until ft_machine_start */
    int threads;
    bool exact;         /* the self-test found the numerics contract kept */
} ft_machine;

/* Chooses the best variant that passes its self-test, or the one that PIPELINE_ISA names; threads
 * 0: as many as processors. */
int ft_machine_open(ft_machine *m, ft_registry *r, int threads, ft_err *e);
/* Starts the threads; before that nothing runs beside the caller, so that a process may fork. */
int ft_machine_start(ft_machine *m, ft_err *e);
void ft_machine_close(ft_machine *m);

/* The dtype of activations that "auto", "fp32" or "bf16" means here; auto: bf16 where hardware has
 * it. */
ft_dtype ft_machine_compute(const ft_machine *m, const char *name);
#endif
