/* row_count.h -- how many rows a data stage kept and why it left the others out: for the log, and
 * as rows.json in its artifact, from which the report takes it. */
#ifndef FT_CORE_RUN_ROW_COUNT_H
#define FT_CORE_RUN_ROW_COUNT_H
#include "core/run/run.h"

enum { FT_MOST_REASONS = 64 };

typedef struct {
    int64_t kept, dropped;
    int n;
    /* the last takes what is too many */
    struct { char text[160]; int64_t rows; } reason[FT_MOST_REASONS];
} ft_row_count;

/* `rows` rows were left out for this reason. */
void ft_row_count_drop(ft_row_count *c, const char *reason, int64_t rows);
/* Says it in the log and writes dir/rows.json. */
int ft_row_count_tell(const ft_row_count *c, ft_run *r, const ft_stage *s, const char *dir,
                      ft_err *e);
#endif
