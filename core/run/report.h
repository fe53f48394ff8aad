/* report.h -- report.html: what a run did, in one file that needs nothing else. */
#ifndef FT_CORE_RUN_REPORT_H
#define FT_CORE_RUN_REPORT_H
#include "core/load/instance.h"

/* Reads an output folder and writes the report to `out`, or to DIR/report.html when that is NULL.
 *
 * From run.lock.yaml (needed), metrics.jsonl, timing.jsonl, the artifacts; samples.jsonl, objects
 * {"prompt", "before", "after"}; eval.json, an object.  What is missing is left out.  r, offer: for
 * the tokenizer of the model; r NULL: token ids are shown instead of text. */
int ft_report_write(const char *dir, const char *out, ft_registry *r, const ft_offer *offer,
                    ft_err *e);
#endif
