/* stage_train.h -- a training stage's inputs put together: the model with its packed weights, the
 * adapter on it, the tokens.  Used to run it, to plan it (`check`), and by the stages after it. */
#ifndef FT_CORE_STAGE_TRAIN_H
#define FT_CORE_STAGE_TRAIN_H
#include "core/run/quantize.h"
#include "core/run/train.h"

typedef struct {
    ft_machine machine;
    ft_weights weights;
    ft_instance *quantizer, *adapter, *trainer;
    ft_tensors *packed, *init;
    ft_method method;
    ft_token_set tokens;
    ft_arena arena;
} ft_lineup;

enum {
    FT_LINEUP_PLAN = 1,    /* artifacts that are not there yet are planned for: packed weights */
    FT_LINEUP_TOKENS = 2,  /* open the tokens */
    FT_LINEUP_TRAINED = 4, /* start from what the training stage in FT_TRAINED made */
};

/* For stage s of any kind that takes FT_PACKED, FT_ADAPTER, FT_TRAINED, FT_TOKENS.  tokens_dir:
 * where the tokens lie when not in their artifact (check), or NULL. */
int ft_lineup_open(ft_lineup *l, ft_run *r, const ft_stage *s, unsigned flags,
                   const char *tokens_dir, ft_err *e);
void ft_lineup_close(ft_lineup *l);

/* The stage's training, planned. */
int ft_lineup_training(ft_training *t, ft_lineup *l, ft_run *r, const ft_stage *s, const char *dir,
                       ft_err *e);
/* The table of what is trained, to the log. */
void ft_lineup_print(const ft_run *r, const ft_training *t, const char *id);
#endif
