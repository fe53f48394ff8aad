/* train_fit.c -- keeping to a memory limit with the least further work.
 *
 * In this order, each with all before it where that is needed:
 *   rows         the micro-batch is one row: costs nothing that could be measured
 *   weights      matrices of the checkpoint are let go when a node has read them: the pages are
 *                mapped again by the next
 *   state        the optimizer's numbers lie in a mapped file, in memory a band at a time
 *   layers       the fewest that are computed again in the backward pass
 * Weights and state in each combination, with the fewest layers that fit: the cheapest is taken.
 * None of it changes a bit of the result.  Prices are parts of a step's work, from the plan's own
 * count of multiplications and bytes and the usual speed of either. */
#include "core/run/train_plan.h"
#include <math.h>
#include <string.h>

/* Usual speeds, for prices alone: a thread's products, and bytes mapped again or from a disk. */
static const double FLOPS = 75e9, MAPPED = 5e9, DISK = 0.6e9;

static bool fits(const ft_training *t)
{
    return !t->setup.memory_limit || t->plan.peak_rss_bytes <= t->setup.memory_limit;
}

/* Seconds that a step would take, more or less. */
static double work(const ft_training *t, const ft_train_extent *x)
{
    const ft_train_plan *p = &t->plan;
    double micro = (double)x->tokens / (double)p->micro_tokens;
    double s = micro * t->train.scratch.flops / (FLOPS * t->setup.machine->threads);
    if (p->page_weights) s += ceil(micro) * (double)p->paged_bytes / MAPPED;
    if (p->map_state) s += 2 * (double)t->engine.state_bytes / DISK;
    return s;
}

static int plan_layers(ft_training *t, int32_t n, ft_err *e)
{
    t->plan.recomputed_layers = n;
    return ft_training_replan(t, e);
}

/* The fewest layers that must be recomputed, or those with which the peak is lowest.  More layers
 * need less memory, but for the last one: the backward pass begins with it, and finds as much of it
 * in memory when it was kept. */
static int fewest_layers(ft_training *t, int32_t layers, ft_err *e)
{
    int code = plan_layers(t, layers, e);
    const uint64_t all = t->plan.peak_rss_bytes;
    if (!code) code = plan_layers(t, layers - 1, e);
    if (code) return code;
    int32_t lo = 0, hi = t->plan.peak_rss_bytes < all ? layers - 1 : layers;
    while (lo < hi) {
        code = plan_layers(t, (lo + hi) / 2, e);
        if (code) return code;
        if (fits(t)) hi = t->plan.recomputed_layers;
        else lo = t->plan.recomputed_layers + 1;
    }
    return plan_layers(t, lo, e);
}

typedef struct {
    bool weights, state;
    int32_t layers;
    double work;
    uint64_t peak;
    bool fits;
} choice;

/* Less work of what fits, less memory of what does not. */
static bool better(const choice *a, const choice *b)
{
    if (a->fits != b->fits) return a->fits;
    return a->fits ? a->work < b->work : a->peak < b->peak;
}

static int plan_choice(ft_training *t, const choice *c, ft_err *e)
{
    t->plan.page_weights = c->weights;
    t->plan.map_state = c->state;
    return plan_layers(t, c->layers, e);
}

/* The cheapest plan of one row at a time that fits, or else the smallest. */
static int choose(ft_training *t, const ft_train_extent *x, ft_err *e)
{
    const char *mode = t->setup.args->gradient_checkpointing;
    const int32_t all = (int32_t)t->setup.model->info.layers,
                  least = strcmp(mode, "true") ? 0 : all, most = strcmp(mode, "false") ? all : 0;
    choice best = { .peak = UINT64_MAX };
    for (int k = 0; k < 4; k++) {
        choice c = { .weights = k & 1, .state = k & 2, .layers = least };
        int code = plan_choice(t, &c, e);
        if (!code && !fits(t) && most > least) code = fewest_layers(t, all, e);
        if (code) return code;
        c.layers = t->plan.recomputed_layers;
        c.work = work(t, x);
        c.peak = t->plan.peak_rss_bytes;
        c.fits = fits(t);
        if (better(&c, &best)) best = c;
    }
    return plan_choice(t, &best, e);
}

/* ---- refusing -------------------------------------------------------------------------------- */

static double mib(uint64_t n) { return ceil((double)n / (1 << 20)); }

/* How many documents for training are longer than n tokens. */
static int64_t longer(const ft_training *t, int64_t n)
{
    const ft_token_set *s = t->setup.tokens;
    int64_t k = 0;
    for (int64_t d = 0; d < s->n_docs; d++) k += s->start[d + 1] - s->start[d] > n;
    return k;
}

/* The longest of row / 2, row / 4, … tokens that fits, or the last; its peak. */
static int shorter_rows(ft_training *t, int64_t row, int64_t *length, uint64_t *peak, ft_err *e)
{
    int code = 0;
    for (*length = row / 2; *length >= 8 && !code; *length /= 2) {
        t->plan.micro_tokens = *length;
        if (t->plan.micro_trained > *length) t->plan.micro_trained = *length;
        code = ft_training_replan(t, e);
        *peak = t->plan.peak_rss_bytes;
        if (!code && (fits(t) || *length < 16)) break;
    }
    return code;
}

/* What is trained takes memory of its own: how much, and what would take less. */
static void less_trained(const ft_training *t, uint64_t least, char *out, size_t size)
{
    const ft_engine *n = &t->engine;
    uint64_t own = n->at[0][0] - n->param_at;
    if (t->setup.method->full)
        snprintf(out, size, "an adapter stage such as lora: without the %.0f MiB of trained "
                 "weights, gradients and state it needs less than %.0f MiB", mib(own),
                 mib(least - own + own / 10));
    else
        snprintf(out, size, "half the r or the target_modules: about %.0f MiB, and an adapter of "
                 "half the size", mib(least - own / 2));
}

static int refuse(ft_training *t, const ft_train_extent *x, double usual, ft_err *e)
{
    const uint64_t least = t->plan.peak_rss_bytes, limit = t->setup.memory_limit;
    const double extra = work(t, x) / usual - 1;
    int64_t length = x->row;
    uint64_t short_peak = least;
    char second[160], third[240];
    less_trained(t, least, third, sizeof third);
    int code = x->row >= 16 ? shorter_rows(t, x->row, &length, &short_peak, e) : 0;
    if (code) return code;
    snprintf(second, sizeof second, "max_length: %lld: %.0f MiB, %lld of %lld documents are longer",
             (long long)length, mib(short_peak), (long long)longer(t, length),
             (long long)t->setup.tokens->n_docs);
    if (short_peak > limit) strcat(second, ", and not enough alone");
    return ft_errf(e, FT_EINVAL,
                   "memory_limit %.0f MiB: the least that this run needs is %.0f MiB, one row of "
                   "%lld tokens at a time. What would do: (1) memory_limit: %.0fMiB, for about "
                   "%.0f %% more work than without a limit; (2) %s; (3) %s",
                   (double)limit / (1 << 20), mib(least), (long long)x->row, mib(least),
                   100 * extra, second, third);
}

int ft_training_fit(ft_training *t, const ft_train_extent *x, ft_err *e)
{
    bool must = !strcmp(t->setup.args->gradient_checkpointing, "true");
    t->plan.recomputed_layers = must ? (int32_t)t->setup.model->info.layers : 0;
    int code = ft_training_replan(t, e);
    if (code || fits(t)) return code;
    double usual = work(t, x);
    t->plan.micro_tokens = x->row;
    t->plan.micro_trained = x->row_trained;
    code = choose(t, x, e);
    if (code) return code;
    if (!fits(t)) return refuse(t, x, usual, e);
    t->plan.extra_work = work(t, x) / usual - 1;
    return 0;
}
