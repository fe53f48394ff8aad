/* score.h -- log-probabilities of token rows, summed as every report needs them. */
#ifndef FT_CORE_SCORE_H
#define FT_CORE_SCORE_H
#include "core/run/lm.h"

typedef struct {
    double nll;      /* sum of -log p over the trained tokens, in double, in their order */
    int64_t tokens;  /* trained tokens */
    int64_t hits;    /* of them: the most likely token was right */
} ft_score;

/* Runs program `which` (FOR_SCORING) of a started engine over the rows and adds to *s.  Stops with
 * FT_ECANCEL when the user asked.  Progress may be NULL. */
int ft_score_rows(ft_engine *e, int which, const ft_row_plan *r, const ft_token_set *t,
                  int64_t virtual_tokens, ft_score *s, ft_err *err);
/* Mean loss and its exponential; 0 tokens give NaN. */
double ft_score_loss(const ft_score *s);
/* Bounds of a micro-batch: at least the longest row, at most `most` tokens. */
void ft_score_bounds(const ft_row_plan *r, const ft_token_set *t, int64_t virtual_tokens,
                     int64_t most, int64_t *max_tokens, int64_t *max_trained);
/* The documents of a split (FT_SPLIT_*) under a model, in a run of their own. */
int ft_score_split(const ft_asked *a, const ft_token_set *t, int split, ft_score *s, ft_err *err);
#endif
