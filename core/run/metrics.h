/* metrics.h -- metrics.jsonl and timing.jsonl of a run.
 *
 * metrics.jsonl: one object a step, {"step","epoch","loss","accuracy","grad_norm","learning_rate",
 * "tokens"}, and a row for each evaluation, {"step","eval_loss","eval_perplexity","eval_accuracy"}:
 * the same bytes for the same run.  timing.jsonl: {"step","seconds","tokens_per_s","peak_bytes"}:
 * what differs from run to run.  Numbers that are not finite are written as strings ("nan"), so
 * that every line is strict JSON. */
#ifndef FT_CORE_METRICS_H
#define FT_CORE_METRICS_H
#include "core/base/err.h"
#include "ft/buf.h"

typedef struct {
    int metrics, timing; /* files, open for appending */
    int64_t metrics_bytes, timing_bytes;
    ft_buf line;         /* kept from line to line: a step allocates nothing */
} ft_metrics;

typedef struct {
    int64_t step, tokens;
    double epoch, loss, accuracy, grad_norm, learning_rate;
} ft_metrics_row;

/* Opens (and cuts back to the given sizes, for a resume) the two files in dir. */
int ft_metrics_open(ft_metrics *m, const char *dir, int64_t metrics_bytes, int64_t timing_bytes,
                    ft_err *e);
int ft_metrics_step(ft_metrics *m, const ft_metrics_row *r, ft_err *e);
int ft_metrics_eval(ft_metrics *m, int64_t step, double loss, double accuracy, ft_err *e);
int ft_metrics_time(ft_metrics *m, int64_t step, double seconds, double tokens_per_s,
                    uint64_t peak_bytes, ft_err *e);
/* Puts what is written on disk, before a checkpoint counts on it. */
int ft_metrics_sync(ft_metrics *m, ft_err *e);
void ft_metrics_close(ft_metrics *m);
#endif
