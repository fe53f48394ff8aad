/* ft/evaluate.h -- role "ft.evaluator/1": what a model is worth, before and after.
 *
 * An evaluator is handed the model through the interface "ft.lm/1": it asks for losses and for
 * answers, of the base and of the tuned model, and reports numbers.  It neither knows how the model
 * was tuned nor where its files lie. */
#ifndef FT_EVALUATE_H
#define FT_EVALUATE_H
#include "ft/data.h"

enum { FT_LM_BASE, FT_LM_TUNED };

/* Parameters every evaluator has: embed and add FT_EVALUATE_PARAMS(config, member). */
typedef struct {
    int64_t max_new_tokens;
    const char *compute_dtype;
} ft_evaluate_args;
#define FT_EVALUATE_PARAMS(config, m, new_tokens)                                                 \
    { "max_new_tokens", FT_INT, offsetof(config, m.max_new_tokens), new_tokens, 1, 1 << 20, 0,     \
      "tokens an answer may have" },                                                              \
    { "compute_dtype", FT_STR, offsetof(config, m.compute_dtype), "auto", 0, 0,                    \
      (const char *const[]){ "auto", "fp32", "bf16", 0 },                                         \
      "dtype of activations; auto: bf16 where the machine has it, else fp32" }

typedef struct {
    uint32_t size;
    size_t args;                /* offset of ft_evaluate_args in the config struct */
    /* Everything; 0 or FT_E*. */
    int (*run)(void *self);
} ft_evaluator;

/* Sums over the trained tokens of a split (FT_SPLIT_*). */
typedef struct {
    double nll;                 /* natural log */
    int64_t tokens, hits;       /* hits: the label was the likeliest token */
    int64_t bytes;              /* UTF-8 bytes that these tokens stand for */
    int64_t documents;
} ft_lm_score;

typedef struct {
    const int32_t *prompt_ids;  /* [n_prompt] what the model was asked */
    int64_t n_prompt;
    const char *text;           /* the answer, special tokens left out; zero-terminated */
    size_t len;
    int64_t n_tokens;
    bool stopped;               /* by a token that ends an answer, not by max_new_tokens */
} ft_lm_answer;

/* Interface "ft.lm/1" of ft_host.get; one thread. */
typedef struct {
    uint32_t size;
    /* Whether there is a tuned model beside the base. */
    bool (*tuned)(const ft_host *);
    /* Losses of the documents of a split under one of the two. */
    int (*score)(const ft_host *, int which, int split, ft_lm_score *out);
    /* Documents of a split; their ids and labels (-100: no loss).  Valid until the stage ends. */
    int64_t (*documents)(const ft_host *, int split);
    int (*document)(const ft_host *, int split, int64_t i, const int32_t **ids,
                    const int32_t **labels, int64_t *n);
    /* Greedy answers to n conversations (arrays of messages), through the model's chat template.
     * out [n] is valid until the next call. */
    int (*answer)(const ft_host *, int which, const ft_json *const *messages, int64_t n,
                  ft_lm_answer *out);
    /* The same for prompts that are token ids already. */
    int (*continue_)(const ft_host *, int which, const int32_t *const *ids, const int64_t *n_ids,
                     int64_t n, ft_lm_answer *out);
    /* Text of token ids, special tokens left out or (raw) shown; valid until the next call. */
    int (*text)(const ft_host *, const int32_t *ids, int64_t n, bool raw, const char **out,
                size_t *len);
    /* A number for eval.json and the report: "eval_loss", "before" … */
    int (*report)(const ft_host *, const char *name, double value);
    /* A sample for the report: prompt, and answers of the base and the tuned model (NULL: none). */
    int (*sample)(const ft_host *, const char *prompt, const char *before, const char *after);
    /* A file in the output folder, written whole. */
    int (*write)(const ft_host *, const char *name, const char *p, size_t n);
    /* A number of the training stage before: "train_seconds", "steps" …; NAN when there is none. */
    double (*trained)(const ft_host *, const char *name);
} ft_lm_api;
#endif
