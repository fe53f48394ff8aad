/* sample.h -- the next token out of logits: the likeliest, or drawn from the likely ones.
 *
 * Order of the steps as in transformers: temperature, top_k, top_p, softmax, draw.  Random numbers
 * are counter-based: a text draws the same whatever is generated beside it. */
#ifndef FT_CORE_SAMPLE_H
#define FT_CORE_SAMPLE_H
#include "core/base/err.h"

typedef struct { float logit; int32_t id; } ft_candidate;

typedef struct {
    double temperature, top_p;
    int64_t top_k;
    ft_candidate *candidate;   /* [vocab]; NULL when temperature is 0 */
} ft_sampler;

int ft_sampler_open(ft_sampler *s, double temperature, int64_t top_k, double top_p, int64_t vocab,
                    ft_err *e);
void ft_sampler_close(ft_sampler *s);

uint64_t ft_sample_key(uint64_t seed, uint64_t text, uint64_t position);
/* Temperature 0: the greatest logit, the lowest id of equals. */
int32_t ft_sample_token(const ft_sampler *s, const float *logits, int64_t vocab, uint64_t key);
#endif
