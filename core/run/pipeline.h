/* pipeline.h -- running the stages of an open pipeline, and checking one without running it. */
#ifndef FT_CORE_PIPELINE_H
#define FT_CORE_PIPELINE_H
#include "core/run/run.h"
#include "core/run/train.h"

/* Opens every plugin with its parameters, and finds the weights, targets, optimizer and schedule
 * that the stages need.  Reads no number of the model and writes nothing.  FT_EINVAL: the pipeline
 * file asks for what cannot be. */
int ft_pipeline_try(ft_run *r, ft_err *e);

/* The number of the stage that an option names, or -1. */
int ft_pipeline_stage(const ft_run *r, const char *option, const char *id, ft_err *e);

/* Runs every stage whose artifact is missing or stale; after ft_pipeline_try.  first: this one and
 * those after it again, n_stages: none; just: this one alone, again, -1: all. */
int ft_pipeline_run(ft_run *r, int first, int just, ft_err *e);

/* Plans every training stage, after ft_pipeline_try; the last one's plan is in *plan.  Reads no
 * weight and writes nothing under the output folder.  print: tables to the log. */
int ft_pipeline_check(ft_run *r, ft_train_plan *plan, bool print, ft_err *e);
#endif
