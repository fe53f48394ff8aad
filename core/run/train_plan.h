/* train_plan.h -- what the parts of a training run share: train_plan.c measures and plans,
 * train_fit.c keeps to a memory limit, train.c runs. */
#ifndef FT_CORE_TRAIN_PLAN_H
#define FT_CORE_TRAIN_PLAN_H
#include "core/run/train.h"

/* The largest row (also of those evaluated), and the most tokens and trained tokens of a step. */
typedef struct { int64_t row, row_trained, tokens, trained; } ft_train_extent;

/* Rows of an epoch. */
int ft_training_rows(const ft_training *t, ft_row_plan *r, int split, int64_t epoch, ft_err *e);
bool ft_training_evaluates(const ft_training *t);
int64_t ft_training_steps(int64_t rows, int64_t per_step);
/* Plans the programs anew, with what t->plan says of micro-batches, recomputation and paging; sizes
 * go into t->plan. */
int ft_training_replan(ft_training *t, ft_err *e);
/* Finds the plan with the least work that keeps to the memory limit; without one, keeps all that
 * gradient_checkpointing lets it. */
int ft_training_fit(ft_training *t, const ft_train_extent *x, ft_err *e);
#endif
