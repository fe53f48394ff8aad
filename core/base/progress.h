/* progress.h -- how far, how fast, how long still.
 *
 *   train-sft [=========>          ] 120/256 steps  1.8 steps/s  ETA 1:15  loss 1.234
 *
 * On a terminal a bar on the last line, drawn at most ten times a second and fitted to the width
 * it has then; elsewhere one line every ten seconds.  Speed is that of about the last ten seconds,
 * so that ETA follows a change but does not jump. */
#ifndef FT_CORE_PROGRESS_H
#define FT_CORE_PROGRESS_H
#include <stdint.h>
#include "core/base/log.h"
#include "ft/buf.h"

typedef struct {
    ft_log *log;
    const char *label;     /* the stage's id; lives as long as this */
    double (*now)(void);   /* seconds; tests put their own clock here */
    char unit[32], note[64];
    int64_t done, total;   /* total 0: unknown */
    double started, drawn; /* when; drawn < 0: not yet */
    double seen_at, speed; /* of the last sample; units a second, < 0: unknown */
    int64_t seen;
    bool shown;            /* anything at all was */
} ft_progress;

void ft_progress_start(ft_progress *p, ft_log *log, const char *label);
/* Work done so far.  Cheap: may be called for every row. */
void ft_progress_update(ft_progress *p, const char *unit, int64_t done, int64_t total);
/* A word for the end of the line, such as "loss 1.234". */
void ft_progress_note(ft_progress *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Takes the bar away; what was shown is followed by a line with the whole. */
void ft_progress_end(ft_progress *p);

/* Appends the line as it stands now, without newline; columns 0: no bar, no limit. */
void ft_progress_write(ft_buf *out, const ft_progress *p, int columns);
#endif
