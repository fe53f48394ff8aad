/* receipt_compare.c -- two models' logits held against each other, and what follows from it. */
#include <math.h>
#include "core/run/receipt.h"

/* Of the largest logit: what fp32 sums in another order come to. */
static const double TOLERANCE = 1e-3;

static int64_t likeliest(const float *v, int64_t n)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++) {
        if (v[i] > v[best]) best = i;
    }
    return best;
}

/* ln of the sum of exp, and what it is measured from. */
static double log_sum(const float *v, int64_t n)
{
    double top = (double)v[likeliest(v, n)], sum = 0;
    for (int64_t i = 0; i < n; i++) sum += exp((double)v[i] - top);
    return top + log(sum);
}

/* KL(p || q) = Σ p (ln p − ln q) of one position. */
static double divergence(const float *p, const float *q, int64_t n)
{
    double zp = log_sum(p, n), zq = log_sum(q, n), kl = 0;
    for (int64_t i = 0; i < n; i++) {
        double lp = (double)p[i] - zp;
        kl += exp(lp) * (lp - ((double)q[i] - zq));
    }
    return kl > 0 ? kl : 0; /* rounding can make a zero negative */
}

static double largest(const float *v, int64_t n)
{
    double most = 0;
    for (int64_t i = 0; i < n; i++) most = fmax(most, fabs((double)v[i]));
    return most;
}

/* What is no number is as far apart as can be. */
static double difference(const float *p, const float *q, int64_t n)
{
    double most = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)p[i] - (double)q[i]);
        if (!(d <= most)) most = d - d == 0 ? d : INFINITY;
    }
    return most;
}

void ft_receipt_compare(ft_receipt *out, const float *p, const float *q, int64_t positions,
                        int64_t vocab)
{
    out->positions = positions;
    out->largest = largest(p, positions * vocab);
    for (int64_t k = 0; k < positions; k++, p += vocab, q += vocab) {
        double kl = divergence(p, q, vocab), d = difference(p, q, vocab);
        out->max_difference = fmax(out->max_difference, d);
        out->apart += d > TOLERANCE * fmax(1, out->largest);
        out->kl += kl / (double)positions;
        out->max_kl = fmax(out->max_kl, kl);
        out->same_top += likeliest(p, vocab) == likeliest(q, vocab);
    }
}

/* A place or two may be ties of experts, which rounding can turn. */
int ft_receipt_judge(const ft_receipt *x, const char *id, ft_err *e)
{
    if (x->exact && x->apart > x->positions / 4)
        return ft_errf(e, FT_EFORMAT,
                       "%s: what was written is not what was trained: logits differ by up to %.3g "
                       "of %.3g at %lld of %lld places, though %s keeps every number; nothing is "
                       "kept of it. This is a fault of the program: please report it",
                       id, x->max_difference, x->largest, (long long)x->apart,
                       (long long)x->positions, x->form);
    if (!x->accepted && x->same_texts != x->texts)
        return ft_errf(e, FT_EUNSUP,
                       "%s: the words that were written give other token ids in %lld of %lld "
                       "rendered conversations; write `lossy: true` to accept that",
                       id, (long long)(x->texts - x->same_texts), (long long)x->texts);
    return 0;
}
