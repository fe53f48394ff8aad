/* pipeline.h -- running the stages of an open pipeline, and checking one without running it. */
#ifndef FT_CORE_PIPELINE_H
#define FT_CORE_PIPELINE_H
#include "core/run/run.h"
#include "core/run/train.h"

/* Runs every stage whose artifact is missing or stale.  from: this one and those after it again;
 * only: this one alone, again. */
int ft_pipeline_run(ft_run *r, const char *from, const char *only, ft_err *e);

/* Opens every plugin with its parameters and plans every training stage; the last one's plan is in
 * *plan.  Reads no weight and writes nothing under the output folder.  print: tables to the log. */
int ft_pipeline_check(ft_run *r, ft_train_plan *plan, bool print, ft_err *e);
#endif
