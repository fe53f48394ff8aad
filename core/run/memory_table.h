/* memory_table.h -- what a planned training holds in memory, and what is alive where the activations
 * take the most: `pipeline check --profile`. */
#ifndef FT_CORE_MEMORY_TABLE_H
#define FT_CORE_MEMORY_TABLE_H
#include "core/run/train.h"

/* A line a part of the run's region; then a line an op whose results are alive at the peak, the
 * largest first. */
void ft_memory_table(const ft_training *t, ft_log *log, const char *who);
#endif
