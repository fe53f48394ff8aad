/* checkpoint.h -- the state of a training run between two steps, on disk.
 *
 * checkpoints/step-N/ holds state.safetensors (parameters and optimizer state as flat arrays) and
 * manifest.json (step, the run it belongs to, sizes of the metrics files, SHA-256 of the state).  A
 * checkpoint is written under a hidden name, fsynced and renamed; older ones are removed last; one
 * whose hash does not fit is skipped with the reason. */
#ifndef FT_CORE_CHECKPOINT_H
#define FT_CORE_CHECKPOINT_H
#include "core/base/log.h"
#include "core/run/engine.h"

typedef struct {
    const char *run;        /* the stage's key: another run's checkpoint is never continued */
    int64_t step;           /* steps that are done */
    int64_t metrics_bytes, timing_bytes;
    double best;            /* evaluation: best loss, and evaluations since */
    int64_t since_best;
} ft_checkpoint;

/* Writes dir/checkpoints/step-N; removes all but the newest `keep`, and later steps, which an
 * earlier run left. */
int ft_checkpoint_save(const char *dir, const ft_checkpoint *c, const ft_engine *e, int64_t keep,
                       ft_err *err);
/* Loads the newest whole checkpoint of c->run; leaves *c alone when there is none. */
int ft_checkpoint_load(const char *dir, ft_checkpoint *c, ft_engine *e, ft_log *log, ft_err *err);
#endif
