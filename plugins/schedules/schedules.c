/* schedules.c -- plugin "schedules": how the learning rate goes, step by step.
 *
 * The formulas, names, numbers and defaults are those of transformers.get_scheduler (5.23,
 * optimization.py); the factor of step 0 is the first optimizer step's.  With w warm-up steps of
 * n, and t = (step - w) / (n - w):
 *   constant                   1
 *   constant_with_warmup       step / w, then 1                    (this rise is that of all below)
 *   linear                     1 - t
 *   cosine                     (1 + cos(2 pi num_cycles t)) / 2
 *   cosine_with_restarts       (1 + cos(pi frac(num_cycles t))) / 2, 0 at the end
 *   polynomial                 from 1 to lr_end / rate as (1 - t)^power
 *   inverse_sqrt               1 / sqrt((step - w + timescale) / timescale)
 *   cosine_with_min_lr         cosine from 1 to min_lr_rate (or min_lr / rate)
 *   cosine_warmup_with_min_lr  the same, counted from step 1, rising from 1 / w or warmup_lr_rate
 *   warmup_stable_decay        a rise, num_stable_steps of 1, a fall of num_decay_steps
 * kwargs are numbers, and transformers' decay_type and warmup_type are words: here they are part
 * of the name, [cosine_|1-sqrt_]warmup_stable_[linear_|1-sqrt_]decay; the plain name is the one
 * with transformers' defaults.  Left out: reduce_lr_on_plateau and greedy, which are not functions
 * of the step.  Checked against get_scheduler. */
#include <math.h>
#include <string.h>
#include "ft/train.h"

enum { CONSTANT, CONSTANT_WITH_WARMUP, LINEAR, COSINE, COSINE_WITH_RESTARTS, POLYNOMIAL,
       INVERSE_SQRT, COSINE_WITH_MIN_LR, COSINE_WARMUP_WITH_MIN_LR, STABLE, N = STABLE + 9 };

static const char *const names[N + 1] = {
    [CONSTANT] = "constant",
    [CONSTANT_WITH_WARMUP] = "constant_with_warmup",
    [LINEAR] = "linear",
    [COSINE] = "cosine",
    [COSINE_WITH_RESTARTS] = "cosine_with_restarts",
    [POLYNOMIAL] = "polynomial",
    [INVERSE_SQRT] = "inverse_sqrt",
    [COSINE_WITH_MIN_LR] = "cosine_with_min_lr",
    [COSINE_WARMUP_WITH_MIN_LR] = "cosine_warmup_with_min_lr",
    // 3 * rise + fall; rise: linear, cosine, 1-sqrt; fall: cosine, linear, 1-sqrt
    [STABLE] = "warmup_stable_decay",
    "warmup_stable_linear_decay",
    "warmup_stable_1-sqrt_decay",
    "cosine_warmup_stable_decay",
    "cosine_warmup_stable_linear_decay",
    "cosine_warmup_stable_1-sqrt_decay",
    "1-sqrt_warmup_stable_decay",
    "1-sqrt_warmup_stable_linear_decay",
    "1-sqrt_warmup_stable_1-sqrt_decay",
};

/* The numbers each knows, as transformers spells them. */
static const char *const none[] = { NULL };
static const char *const for_cosine[] = { "num_cycles", NULL };
static const char *const for_polynomial[] = { "power", "lr_end", NULL };
static const char *const for_inverse_sqrt[] = { "timescale", NULL };
static const char *const for_min_lr[] = { "num_cycles", "min_lr", "min_lr_rate", NULL };
static const char *const for_warmup_min_lr[] = { "num_cycles", "min_lr", "min_lr_rate",
                                                 "warmup_lr_rate", NULL };
static const char *const for_stable[] = { "num_decay_steps", "num_stable_steps", "min_lr_ratio",
                                          "num_cycles", NULL };

static const char *const *const kwargs[N + 1] = {
    [CONSTANT] = none,
    [CONSTANT_WITH_WARMUP] = none,
    [LINEAR] = none,
    [COSINE] = for_cosine,
    [COSINE_WITH_RESTARTS] = for_cosine,
    [POLYNOMIAL] = for_polynomial,
    [INVERSE_SQRT] = for_inverse_sqrt,
    [COSINE_WITH_MIN_LR] = for_min_lr,
    [COSINE_WARMUP_WITH_MIN_LR] = for_warmup_min_lr,
    [STABLE ... N - 1] = for_stable,
};

/* The smallest value of each; none may be infinite. */
static const struct { const char *key; double min; } limits[] = {
    { "num_cycles", 0 }, { "power", 0 }, { "lr_end", 0 }, { "timescale", 1 }, { "min_lr", 0 },
    { "min_lr_rate", 0 }, { "warmup_lr_rate", 0 }, { "num_decay_steps", 0 },
    { "num_stable_steps", 0 }, { "min_lr_ratio", 0 },
};

/* ---- arithmetic that the shapes share -------------------------------------------------------- */
static const double pi = 3.14159265358979323846;

/* The number given for `key`, or NULL. */
static const double *given(const ft_schedule_at *at, const char *key)
{
    for (size_t i = 0; at->kwargs && i < at->kwargs->n; i++) {
        if (strcmp(at->kwargs->key[i], key) == 0) return &at->kwargs->value[i];
    }
    return NULL;
}

static double number(const ft_schedule_at *at, const char *key, double other)
{
    const double *v = given(at, key);
    return v ? *v : other;
}

/* The larger; min where v is not a number. */
static double at_least(double min, double v) { return v > min ? v : min; }

/* part of whole, where a whole of less than one step counts as one. */
static double share(double part, double whole) { return part / at_least(1, whole); }

/* A wave from 1 down to 0 and back, `cycles` times while t goes from 0 to 1. */
static double cosine(double cycles, double t) { return 0.5 * (1 + cos(pi * cycles * 2 * t)); }

/* v in [0, 1] moved into [floor, 1]. */
static double from_floor(double floor, double v) { return at_least(0, v * (1 - floor) + floor); }

/* ---- one function a shape; step, w and n as doubles, which hold any count of steps ---------- */
typedef struct {
    const ft_schedule_at *at;
    double step, w, n;
    int which;                 /* index into names */
} query;

/* constant, constant_with_warmup */
static double constant(const query *q)
{
    if (q->which == CONSTANT_WITH_WARMUP && q->step < q->w) return share(q->step, q->w);
    return 1;
}

static double linear(const query *q)
{
    if (q->step < q->w) return share(q->step, q->w);
    return at_least(0, share(q->n - q->step, q->n - q->w));
}

/* Every cycle falls from 1 to 0 and jumps back; the end stays at 0. */
static double cosine_with_restarts(const query *q)
{
    if (q->step < q->w) return share(q->step, q->w);
    double t = share(q->step - q->w, q->n - q->w);
    if (t >= 1) return 0;
    return at_least(0, cosine(0.5, fmod(number(q->at, "num_cycles", 1) * t, 1)));
}

/* Beyond the last step, and where warm-up takes all steps, the rate is lr_end. */
static double polynomial(const query *q)
{
    if (q->step < q->w) return share(q->step, q->w);
    double base = q->at->base, end = number(q->at, "lr_end", 1e-7);
    if (q->step > q->n || q->n <= q->w) return end / base;
    double left = 1 - (q->step - q->w) / (q->n - q->w);
    return ((base - end) * pow(left, number(q->at, "power", 1)) + end) / base;
}

/* timescale: after so many steps the factor is 1 / sqrt(2); as long as the warm-up by default. */
static double inverse_sqrt(const query *q)
{
    if (q->step < q->w) return share(q->step, q->w);
    double scale = number(q->at, "timescale", q->w > 0 ? q->w : 10000);
    return 1 / sqrt((q->step + (scale - q->w)) / scale);
}

/* The lowest factor, given as such or as a rate. */
static double min_rate(const query *q)
{
    const double *rate = given(q->at, "min_lr");
    return rate ? *rate / q->at->base : number(q->at, "min_lr_rate", 0);
}

/* cosine, cosine_with_min_lr */
static double cosine_to_floor(const query *q)
{
    if (q->step < q->w) return share(q->step, q->w);
    double t = share(q->step - q->w, q->n - q->w);
    return from_floor(min_rate(q), cosine(number(q->at, "num_cycles", 0.5), t));
}

/* Counts steps from 1, so that neither the first nor the last has rate 0. */
static double cosine_warmup_with_min_lr(const query *q)
{
    const double *low = given(q->at, "warmup_lr_rate");
    if (q->step < q->w) {
        return low ? *low + (1 - *low) * share(q->step, q->w - 1) : share(q->step + 1, q->w);
    }
    double t = share(q->step - q->w + 1, q->n - q->w);
    return from_floor(min_rate(q), cosine(number(q->at, "num_cycles", 0.5), t));
}

/* The two ramps of warmup_stable_decay, t from 0 to 1; kinds as in the order of names. */
static double rising(int kind, double t)
{
    return kind == 0 ? t : kind == 1 ? 0.5 * (1 - cos(pi * t)) : 1 - sqrt(1 - t);
}

static double falling(int kind, double t, double cycles)
{
    return kind == 0 ? cosine(cycles, t) : kind == 1 ? 1 - t : 1 - sqrt(t);
}

/* num_stable_steps is what warm-up and decay leave, unless given; since: steps into the decay. */
static double stable(const query *q)
{
    double floor = number(q->at, "min_lr_ratio", 0), fall = number(q->at, "num_decay_steps", 0);
    double flat = number(q->at, "num_stable_steps", q->n - q->w - fall);
    double since = q->step - q->w - flat;
    int kind = q->which - STABLE;
    if (q->step < q->w) return from_floor(floor, rising(kind / 3, share(q->step, q->w)));
    if (since < 0) return 1;
    if (since >= fall) return floor;
    double t = share(since, fall);
    return from_floor(floor, falling(kind % 3, t, number(q->at, "num_cycles", 0.5)));
}

static double (*const shape[N])(const query *) = {
    [CONSTANT] = constant,
    [CONSTANT_WITH_WARMUP] = constant,
    [LINEAR] = linear,
    [COSINE] = cosine_to_floor,
    [COSINE_WITH_RESTARTS] = cosine_with_restarts,
    [POLYNOMIAL] = polynomial,
    [INVERSE_SQRT] = inverse_sqrt,
    [COSINE_WITH_MIN_LR] = cosine_to_floor,
    [COSINE_WARMUP_WITH_MIN_LR] = cosine_warmup_with_min_lr,
    [STABLE ... N - 1] = stable,
};

/* ---- the plugin ------------------------------------------------------------------------------ */
/* Index into names, or N. */
static int find(const char *name)
{
    int i = 0;
    while (i < N && strcmp(names[i], name) != 0) i++;
    return i;
}

static double factor(const char *name, const ft_schedule_at *at)
{
    int i = find(name);
    query q = { at, (double)at->step, (double)at->warmup, (double)at->total, i };
    return i < N ? shape[i](&q) : (double)NAN;
}

typedef struct {
    const ft_host *host;
} instance;

/* Each number is within its limits. */
static int check_limits(const ft_host *h, const char *name, const ft_schedule_at *at)
{
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        const double *v = given(at, limits[i].key);
        if (!v || (isfinite(*v) && *v >= limits[i].min)) continue;
        return h->fail(h, FT_EINVAL, "%s: %s = %g must be a finite number of at least %g", name,
                       limits[i].key, *v, limits[i].min);
    }
    return 0;
}

/* What transformers raises an error for. */
static int check(void *me, const char *name, const ft_schedule_at *at)
{
    const ft_host *h = ((const instance *)me)->host;
    int i = find(name), rc = check_limits(h, name, at);
    bool floor = given(at, "min_lr"), rate = given(at, "min_lr_rate");
    double end = number(at, "lr_end", 1e-7);
    if (rc) return rc;
    if (i == N) return h->fail(h, FT_EINVAL, "%s: no schedule of this name", name);
    if (i == POLYNOMIAL && !(end < at->base)) {
        return h->fail(h, FT_EINVAL, "%s: lr_end = %g must be below learning_rate = %g", name, end,
                       at->base);
    }
    if ((i == COSINE_WITH_MIN_LR || i == COSINE_WARMUP_WITH_MIN_LR) && floor == rate) {
        return h->fail(h, FT_EINVAL, "%s: give one of min_lr and min_lr_rate in "
                       "lr_scheduler_kwargs%s", name, floor ? ", not both" : "");
    }
    if (floor && !(at->base > 0)) {
        return h->fail(h, FT_EINVAL, "%s: min_lr needs a learning_rate above 0", name);
    }
    if (i >= STABLE && !given(at, "num_decay_steps")) {
        return h->fail(h, FT_EINVAL, "%s: give num_decay_steps in lr_scheduler_kwargs", name);
    }
    return 0;
}

static int open_instance(void *me, const ft_host *host, const void *cfg)
{
    (void)cfg;
    ((instance *)me)->host = host;
    return 0;
}

static const ft_schedule schedule = {
    .size = sizeof schedule,
    .names = names,
    .kwargs = kwargs,
    .factor = factor,
    .check = check,
};

static const ft_plugin plugin = {
    .abi = FT_ABI_INIT,
    .role = "ft.schedule/1",
    .name = "schedules",
    .version = "1.0",
    .summary = "learning-rate schedules: constant, linear, cosine and their kin",
    .instance_size = sizeof(instance),
    .open = open_instance,
    .vtable = &schedule,
};

FT_PLUGIN(plugin, "schedules");
