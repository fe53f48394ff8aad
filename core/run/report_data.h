/* report_data.h -- what an output folder tells about its run, for the report: numbers of
 * metrics.jsonl and timing.jsonl, the summary of the training stage, the stages of run.lock.yaml
 * and their artifacts.  Whatever is missing or damaged is left out: a report of half a run is still
 * one. */
#ifndef FT_CORE_RUN_REPORT_DATA_H
#define FT_CORE_RUN_REPORT_DATA_H
#include "core/base/arena.h"
#include "core/base/err.h"
#include "ft/buf.h"
#include "ft/json.h"

enum { FT_REPORT_STAGES = 64 };

typedef struct { double x, y; } ft_point;

/* Points in the order of the file. */
typedef struct { ft_buf points; } ft_series;
static inline size_t ft_series_n(const ft_series *s) { return s->points.n / sizeof(ft_point); }
static inline const ft_point *ft_series_at(const ft_series *s)
{
    return (const ft_point *)(const void *)s->points.p;
}

typedef struct {
    ft_arena arena;
    const char *dir;
    ft_buf lock;                       /* run.lock.yaml as it is */
    const char *name, *model, *method; /* of it; "" where not known.  method: "lora → train-sft" */
    /* artifacts of data stages, in their order: folders with rows.json */
    const char *rows[FT_REPORT_STAGES];
    int n_rows;
    const char *tokens;                /* path of the tokens artifact, or NULL */
    /* metrics.jsonl and timing.jsonl */
    ft_series loss, eval, rate;
    int64_t steps, seen_tokens, bad_lines;
    double last_loss, last_eval;       /* NAN: none */
    double seconds;
    uint64_t peak_bytes;               /* 0: not known */
    /* trained.json; 0: not known */
    int64_t planned_steps, trainable, parameters, planned_bytes;
} ft_report_data;

/* dir lives as long as d.  An error only where dir is no output folder (no run.lock.yaml). */
int ft_report_read(ft_report_data *d, const char *dir, ft_err *e);
void ft_report_data_free(ft_report_data *d);

/* Calls on() for each line of DIR/name that is a JSON object, stopping when it returns false;
 * returns the number of lines that were none, 0 where there is no such file. */
int64_t ft_report_lines(const char *dir, const char *name,
                        bool (*on)(void *ctx, const ft_json *row), void *ctx);
#endif
