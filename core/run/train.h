/* train.h -- a training run: planned before anything large is read, then step after step.
 *
 * An optimizer step takes a fixed number of rows.  They are cut into micro-batches by room, not by
 * number: gradients of a step are the same to the bit however its rows are grouped, so how many
 * tokens a micro-batch holds is a matter of memory and speed alone. */
#ifndef FT_CORE_TRAIN_H
#define FT_CORE_TRAIN_H
#include "core/run/lm.h"
#include "core/run/optim.h"
#include "core/run/score.h"

/* What a training stage is given. */
typedef struct {
    const ft_train_args *args;
    ft_instance *trainer;
    ft_registry *registry;
    const ft_offer *offer;
    ft_log *log;
    ft_machine *machine;
    ft_model_run *model;
    ft_weights *weights;
    ft_method *method;
    ft_instance *adapter;         /* NULL: full fine-tuning */
    const ft_tensors *init;       /* first values of the adapter, or NULL */
    const ft_token_set *tokens;
    uint64_t seed;
    uint64_t memory_limit;        /* bytes; 0: none */
    const char *base_model;       /* as adapter_config.json names it */
    const char *key;              /* the stage's: checkpoints of another are not continued */
    const char *dir;              /* where metrics, checkpoints and the adapter go */
    bool resume;
    bool profile;
} ft_train_setup;

/* What is known before the first step. */
typedef struct {
    int64_t rows, steps, steps_per_epoch, rows_per_step;
    int64_t tokens, trained_tokens;    /* of the training documents, once */
    int64_t eval_tokens;
    int64_t parameters, trainable;
    int64_t micro_tokens, micro_trained; /* room of a micro-batch */
    int32_t recomputed_layers;
    bool page_weights;                 /* weights are let go each time they have been read */
    bool map_state;                    /* the optimizer's state lies in a mapped file */
    double extra_work;                 /* that the memory limit costs, as a part of a step's */
    ft_dtype compute;
    uint64_t arena_bytes;              /* the run's one region */
    uint64_t weights_bytes;            /* of weights that are mapped at a time */
    uint64_t paged_bytes;              /* of weights that a micro-batch maps anew */
    uint64_t process_bytes;            /* what a process has anyway */
    uint64_t peak_rss_bytes;           /* all three */
} ft_train_plan;

typedef struct {
    ft_train_setup setup;
    ft_train_plan plan;
    ft_program train, eval;
    ft_engine engine;
    ft_optim optim;
    ft_arena arena;
    int64_t virtual_tokens;
    double seconds;              /* spent in steps so far */
} ft_training;

/* Parameters of a training stage that cannot be together. */
int ft_train_args_check(const ft_train_args *a, ft_err *e);

/* Builds and plans; reads no weight.  Errors: shapes that do not fit, nothing to train, a memory
 * limit that no plan keeps. */
int ft_training_open(ft_training *t, const ft_train_setup *s, ft_err *e);
/* Runs all steps.  FT_ECANCEL after Ctrl-C, with a checkpoint written. */
int ft_training_run(ft_training *t, ft_err *e);
void ft_training_close(ft_training *t);
#endif
