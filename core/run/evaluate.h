/* evaluate.h -- the stage that asks the base and the tuned model, and the interface "ft.lm/1"
 * through which its plugin does.
 *
 * Artifact: eval.json (the numbers reported), samples.jsonl ({"prompt", "before", "after"}), and
 * files of the plugin's own. */
#ifndef FT_CORE_EVALUATE_H
#define FT_CORE_EVALUATE_H
#include "core/run/run.h"
#include "ft/evaluate.h"

int ft_stage_evaluate(ft_run *r, ft_stage *s, const char *dir, ft_err *e);
extern const ft_lm_api ft_lm_interface;

/* Puts what the evaluation stages made into the output folder: one eval.json (an object a stage),
 * one samples.jsonl, and their own files. */
int ft_evaluation_publish(ft_run *r, ft_err *e);
#endif
