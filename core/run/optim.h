/* optim.h -- the optimizer step: gradient norm, clipping, schedule, update. */
#ifndef FT_CORE_OPTIM_H
#define FT_CORE_OPTIM_H
#include "core/load/instance.h"
#include "core/run/engine.h"

typedef struct {
    const ft_train_args *args;
    ft_instance *optimizer, *schedule;
    const ft_optimizer *vt;
    const ft_schedule *schedule_vt;
    int64_t warmup, total; /* steps */
} ft_optim;

/* Opens the optimizer plugin (with the trainer's values for keys of the same name) and the schedule
 * that serves lr_scheduler_type. */
int ft_optim_open(ft_optim *o, const ft_train_args *args, ft_registry *r, const ft_offer *offer,
                  ft_arena *arena, ft_err *e);
/* The run's length is known: warmup follows, and the schedule checks its arguments. */
int ft_optim_length(ft_optim *o, int64_t total, ft_err *e);
void ft_optim_close(ft_optim *o);

/* Learning rate of step `step` (from 1). */
double ft_optim_rate(const ft_optim *o, int64_t step);
/* Euclidean norm of all gradients: sums of squares of fixed blocks in double, added in order.  Not
 * finite when any gradient is not. */
double ft_optim_norm(ft_engine *e);
/* Name of the first parameter with a gradient that is not finite, or NULL. */
const char *ft_optim_bad(const ft_engine *e);
/* Bytes of state in use at a time, where it lies in a mapped file. */
uint64_t ft_optim_paged_bytes(const ft_engine *e);
/* Lets the kernel map no more than that at a time (ft_file_apart). */
void ft_optim_apart(const ft_engine *e);
/* Updates every trained parameter; norm as ft_optim_norm gave it. */
void ft_optim_step(ft_optim *o, ft_engine *e, int64_t step, double norm);
#endif
