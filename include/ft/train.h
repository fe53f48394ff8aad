/* ft/train.h -- roles "ft.trainer/1" (an objective), "ft.optimizer/1", "ft.schedule/1".
 *
 * The trainer plugin says what is minimized, as a graph, and which knobs its YAML has; the loop,
 * accumulation, clipping, evaluation, logs and checkpoints are the core's and the same for all. */
#ifndef FT_TRAIN_H
#define FT_TRAIN_H
#include "ft/graph.h"

/* Knobs every trainer has, in TRL's spelling and with its defaults. */
typedef struct {
    int64_t per_device_train_batch_size, gradient_accumulation_steps, max_steps, warmup_steps;
    int64_t eval_steps, save_steps, save_total_limit, early_stopping_patience, logging_steps;
    int64_t per_device_eval_batch_size;
    double learning_rate, warmup_ratio, num_train_epochs, max_grad_norm;
    const char *lr_scheduler_type, *optim, *compute_dtype, *gradient_checkpointing;
    ft_map lr_scheduler_kwargs, optim_args;
    double weight_decay, adam_beta1, adam_beta2, adam_epsilon;
    bool shuffle, decay_all;
    const char *weights_dtype;
} ft_train_args;
#define FT_TRAIN_PARAMS(config, m)                                                                \
    { "per_device_train_batch_size", FT_INT, offsetof(config, m.per_device_train_batch_size), "8", \
      1, 1e6, 0, "rows a micro-batch" },                                                          \
    { "gradient_accumulation_steps", FT_INT, offsetof(config, m.gradient_accumulation_steps), "1", \
      1, 1e6, 0,                                                                                   \
      "micro-batches an optimizer step; the loss is divided by the trained tokens of all" },       \
    { "num_train_epochs", FT_REAL, offsetof(config, m.num_train_epochs), "3", 0, 1e6, 0,           \
      "times through the data" },                                                                 \
    { "max_steps", FT_INT, offsetof(config, m.max_steps), "-1", -1, 1e12, 0,                       \
      "optimizer steps; -1: as num_train_epochs says" },                                          \
    { "learning_rate", FT_REAL, offsetof(config, m.learning_rate), "2e-5", 0, 1e3, 0,              \
      "highest learning rate" },                                                                  \
    { "lr_scheduler_type", FT_STR, offsetof(config, m.lr_scheduler_type), "linear", 0, 0, 0,       \
      "schedule of the learning rate: constant, linear, cosine, …" },                             \
    { "lr_scheduler_kwargs", FT_MAP, offsetof(config, m.lr_scheduler_kwargs), "", 0, 0, 0,         \
      "numbers that the schedule takes" },                                                        \
    { "warmup_ratio", FT_REAL, offsetof(config, m.warmup_ratio), "0", 0, 1, 0,                     \
      "part of the steps in which the rate rises from 0" },                                       \
    { "warmup_steps", FT_INT, offsetof(config, m.warmup_steps), "0", 0, 1e12, 0,                   \
      "the same as a number of steps; wins over warmup_ratio" },                                  \
    { "optim", FT_STR, offsetof(config, m.optim), "optim-adamw", 0, 0, 0, "optimizer plugin" },    \
    { "optim_args", FT_MAP, offsetof(config, m.optim_args), "", 0, 0, 0,                           \
      "further parameters of the optimizer plugin" },                                             \
    { "weight_decay", FT_REAL, offsetof(config, m.weight_decay), "0", 0, 1e3, 0,                   \
      "decoupled decay" },                                                                        \
    { "decay_all", FT_BOOL, offsetof(config, m.decay_all), "true", 0, 0, 0,                        \
      "false: biases and norms do not decay" },                                                   \
    { "adam_beta1", FT_REAL, offsetof(config, m.adam_beta1), "0.9", 0, 1, 0, "first decay rate" }, \
    { "adam_beta2", FT_REAL, offsetof(config, m.adam_beta2), "0.999", 0, 1, 0, "second" },         \
    { "adam_epsilon", FT_REAL, offsetof(config, m.adam_epsilon), "1e-8", 0, 1, 0, "epsilon" },     \
    { "max_grad_norm", FT_REAL, offsetof(config, m.max_grad_norm), "1", 0, 1e9, 0,                 \
      "gradients are scaled down to this norm; 0: never" },                                       \
    { "compute_dtype", FT_STR, offsetof(config, m.compute_dtype), "auto", 0, 0,                    \
      (const char *const[]){ "auto", "fp32", "bf16", "fp16", 0 },                                  \
      "dtype of activations; auto: bf16 where the machine has it, else fp32" },                   \
    { "gradient_checkpointing", FT_STR, offsetof(config, m.gradient_checkpointing), "auto", 0, 0,  \
      (const char *const[]){ "auto", "true", "false", 0 },                                         \
      "recompute activations in the backward pass; auto: as memory_limit asks" },                 \
    { "shuffle", FT_BOOL, offsetof(config, m.shuffle), "true", 0, 0, 0,                            \
      "a new order each epoch, from the seed" },                                                  \
    { "per_device_eval_batch_size", FT_INT, offsetof(config, m.per_device_eval_batch_size), "8",   \
      1, 1e6, 0, "rows a batch of the evaluation" },                                              \
    { "eval_steps", FT_INT, offsetof(config, m.eval_steps), "0", 0, 1e12, 0,                       \
      "evaluate every so many steps; 0: never" },                                                 \
    { "save_steps", FT_INT, offsetof(config, m.save_steps), "0", 0, 1e12, 0,                       \
      "checkpoint every so many steps; 0: on Ctrl-C alone" },                                     \
    { "save_total_limit", FT_INT, offsetof(config, m.save_total_limit), "2", 1, 1e6, 0,            \
      "checkpoints kept" },                                                                       \
    { "early_stopping_patience", FT_INT, offsetof(config, m.early_stopping_patience), "0", 0, 1e6, \
      0, "evaluations without a better loss before stopping; 0: never stop" },                    \
    { "logging_steps", FT_INT, offsetof(config, m.logging_steps), "1", 1, 1e9, 0,                  \
      "a line on the terminal every so many steps" },                                             \
    { "weights_dtype", FT_STR, offsetof(config, m.weights_dtype), "auto", 0, 0,                    \
      (const char *const[]){ "auto", "fp32", "bf16", 0 },                                          \
      "full fine-tuning: how the trained matrices are kept; auto: as compute_dtype" }

typedef struct {
    ft_val logits;   /* (T, vocab), symbolic */
    ft_val targets;  /* what each token's next one is, where it carries loss */
} ft_lm;

typedef struct {
    uint32_t size;
    size_t args;     /* offset of ft_train_args in the config struct */
    int32_t n_seq;   /* sequences a sample needs: 1, or 2 for preference pairs */
    /* The loss of each thing that counts, as a vector: of each trained token (the rows of
     * ft_logprob), or of each pair.  The core sums it over the whole optimizer step (all
     * micro-batches, all ranks) and divides by the count once. */
    ft_val (*loss)(void *self, ft_graph *, const ft_lm *);
} ft_trainer;

/* ---- role "ft.optimizer/1" ------------------------------------------------------------------- */
typedef struct {
    double lr, weight_decay; /* decay is 0 for tensors that do not decay */
    int64_t step;            /* from 1 */
    double grad_scale;       /* what clipping multiplies gradients with */
} ft_update;

typedef struct {
    uint32_t size;
    /* Numbers of fp32 state a parameter element has (AdamW: 2). */
    int (*states)(void *self);
    /* Updates n elements in place; state[i] points at the i-th state of the same elements.
     * Elementwise: any split into ranges gives the same numbers.  [any] */
    void (*update)(void *self, const ft_update *, int64_t n, float *p, const float *g,
                   float *const state[]);
} ft_optimizer;

/* ---- role "ft.schedule/1" -------------------------------------------------------------------- */
typedef struct {
    int64_t step, warmup, total; /* step from 0 */
    const ft_map *kwargs;        /* lr_scheduler_kwargs */
    double base;                 /* learning_rate */
} ft_schedule_at;

typedef struct {
    uint32_t size;
    const char *const *names;    /* lr_scheduler_type values it serves; NULL-terminated */
    const char *const *const *kwargs; /* for each: the kwargs it knows; NULL-terminated */
    /* What the base rate is multiplied with.  [any] */
    double (*factor)(const char *name, const ft_schedule_at *);
    /* Whether warmup, total, base and the values of kwargs make a schedule (their names have been
     * checked against `kwargs`); asked once, before the first step.  NULL: any do. */
    int (*check)(void *self, const char *name, const ft_schedule_at *);
} ft_schedule;
#endif
