/* generate.h -- continuing prompts: continuous batching over a fixed number of slots.
 *
 * Every slot keeps the keys and values of one text.  A pass takes one token of every text that is
 * under way and as many new prompts as there is room for; a text that ends gives its slot to the
 * next prompt.  What a text becomes does not depend on which others are beside it: every kernel
 * computes a token the same way in any batch. */
#ifndef FT_CORE_GENERATE_H
#define FT_CORE_GENERATE_H
#include "core/base/progress.h"
#include "core/run/lm.h"

/* One prompt and what follows it. */
typedef struct {
    const int32_t *prompt; /* [n_prompt] at least one */
    int64_t n_prompt;
    int32_t *out;          /* [max_new_tokens] the caller's */
    int64_t n_out;
    bool stopped;          /* a stop token, which is not in out, ended it */
} ft_continuation;

typedef struct {
    int64_t max_new_tokens;
    const int32_t *stop;   /* [n_stop] */
    int n_stop;
    double temperature;    /* 0: the likeliest token, the lowest id of equals */
    int64_t top_k;         /* 0: all */
    double top_p;          /* 1: all */
    /* text i draws from its own numbers, keyed by seed, i and the position */
    uint64_t seed;
} ft_generate_args;

/* Fills out, n_out and stopped of the n texts.  context: tokens the model has positions for.
 * Errors: a prompt that with max_new_tokens is longer than that. */
int ft_generate(const ft_asked *a, const ft_generate_args *g, int64_t context,
                ft_continuation *text, int64_t n, ft_progress *progress, ft_err *e);
#endif
