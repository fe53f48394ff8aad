/* sample.c -- see sample.h. */
#include "core/run/sample.h"
#include <math.h>
#include <stdlib.h>
#include "core/base/random.h"

int ft_sampler_open(ft_sampler *s, double temperature, int64_t top_k, double top_p, int64_t vocab,
                    ft_err *e)
{
    *s = (ft_sampler){ .temperature = temperature, .top_p = top_p, .top_k = top_k };
    if (temperature <= 0) return 0;
    s->candidate = malloc((size_t)vocab * sizeof *s->candidate);
    return s->candidate ? 0 : ft_errf(e, FT_ENOMEM, "out of memory for sampling");
}

void ft_sampler_close(ft_sampler *s)
{
    free(s->candidate);
    *s = (ft_sampler){ .top_k = 0 };
}

static uint64_t mix(uint64_t z) { return ft_random(&z); }

uint64_t ft_sample_key(uint64_t seed, uint64_t text, uint64_t position)
{
    return mix(mix(mix(seed) + text) + position);
}

static int32_t greatest(const float *logits, int64_t vocab)
{
    int64_t best = 0;
    for (int64_t i = 1; i < vocab; i++) {
        if (logits[i] > logits[best]) best = i;
    }
    return (int32_t)best;
}

/* From large to small, equal ones by id: a total order, so that sorting has one result. */
static int by_logit(const void *a, const void *b)
{
    const ft_candidate *x = a, *y = b;
    if (x->logit != y->logit) return x->logit < y->logit ? 1 : -1;
    return x->id < y->id ? -1 : 1;
}

int32_t ft_sample_token(const ft_sampler *s, const float *logits, int64_t vocab, uint64_t key)
{
    if (s->temperature <= 0) return greatest(logits, vocab);
    ft_candidate *c = s->candidate;
    int64_t n = s->top_k > 0 && s->top_k < vocab ? s->top_k : vocab, kept = 0;
    double all = 0, sum = 0;
    for (int64_t i = 0; i < vocab; i++) c[i] = (ft_candidate){ logits[i], (int32_t)i };
    qsort(c, (size_t)vocab, sizeof *c, by_logit);
    for (int64_t i = 0; i < n; i++)
        all += exp(((double)c[i].logit - (double)c[0].logit) / s->temperature);
    for (; kept < n && (kept == 0 || sum < s->top_p * all); kept++)
        sum += exp(((double)c[kept].logit - (double)c[0].logit) / s->temperature);
    double at = (double)(key >> 11) * 0x1p-53 * sum;
    for (int64_t i = 0; i < kept; i++) {
        at -= exp(((double)c[i].logit - (double)c[0].logit) / s->temperature);
        if (at < 0) return c[i].id;
    }
    return c[kept - 1].id;
}
