/* optim-adamw.c -- plugin "optim-adamw": Adam with decoupled weight decay (Loshchilov and Hutter,
 * 2019), operation by operation as torch.optim.AdamW does it:
 *
 *   p = p * (1 - lr * weight_decay)
 *   m = fma(1 - beta1, g - m, m)                   (for beta1 <= 0.5: m = fma(-beta1, g - m, g))
 *   v = fma((1 - beta2) * g, g, v * beta2)
 *   p = p - (lr / (1 - beta1^t)) * m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon)
 *
 * Scalars are computed in double and rounded to fp32 once.  The moments come out as torch's do, to
 * the bit; p may differ by a unit where torch's square root is not correctly rounded.  Every line
 * is elementwise, without instructions that only some machines have and without approximations,
 * so that the bits do not depend on how a tensor is split or on the instruction set.  Chunks of a
 * constant size, with pointers that do not overlap, are what the compiler turns into vectors; the
 * work is bound by memory long before it is bound by arithmetic.
 * Left out: AMSGrad, maximize, states in 8 bits.  Checked against torch's own trajectories. */
#include <math.h>
#include "ft/train.h"

enum { CHUNK = 16 };

typedef struct {
    double beta1, beta2, epsilon;
} config;

typedef struct {
    const config *cfg;
} instance;

static const ft_param params[] = {
    { "adam_beta1", FT_REAL, offsetof(config, beta1), "0.9", 0, 1, 0,
      "decay rate of the mean of gradients; below 1" },
    { "adam_beta2", FT_REAL, offsetof(config, beta2), "0.999", 0, 1, 0,
      "decay rate of the mean of squared gradients; below 1" },
    { "adam_epsilon", FT_REAL, offsetof(config, epsilon), "1e-8", 0, 1, 0,
      "added to the denominator" },
    { 0 },
};

/* One step's constants, named after what they are multiplied with or added to. */
typedef struct {
    float grad_scale, keep, mean, square_keep, square, root, epsilon, step;
    bool near; /* the mean moves less than half the way to the gradient */
} factors;

/* weight is what the mean moves towards the gradient; from half the way on torch interpolates from
 * the gradient's end, which loses nothing when the mean forgets all (beta1 = 0). */
static factors factors_of(const config *c, const ft_update *u)
{
    double correct1 = 1 - pow(c->beta1, (double)u->step);
    double correct2 = 1 - pow(c->beta2, (double)u->step);
    float weight = (float)(1 - c->beta1);
    bool near = weight < 0.5f;
    return (factors){
        .grad_scale = (float)u->grad_scale,
        .keep = (float)(1 - u->lr * u->weight_decay),
        .mean = near ? weight : weight - 1.0f,
        .near = near,
        .square_keep = (float)c->beta2,
        .square = (float)(1 - c->beta2),
        .root = (float)sqrt(correct2),
        .epsilon = (float)c->epsilon,
        .step = (float)(u->lr / correct1),
    };
}

/* a * b + c, rounded once: the product of two floats is exact in double.  (The sum may round twice,
 * once in 2^29 cases: the same on every machine, unlike a missing instruction.) */
static inline float fused(float a, float b, float c)
{
    return (float)((double)a * (double)b + (double)c);
}

/* n elements; for n = CHUNK, n and near are constants. */
static inline __attribute__((always_inline)) void
update_some(const factors f, bool near, int n, float *restrict p, const float *restrict g,
            float *restrict m, float *restrict v)
{
    for (int i = 0; i < n; i++) {
        float grad = g[i] * f.grad_scale, last = m[i];
        float mean = fused(f.mean, grad - last, near ? last : grad);
        float square = fused(f.square * grad, grad, v[i] * f.square_keep);
        float below = sqrtf(square) / f.root + f.epsilon;
        m[i] = mean;
        v[i] = square;
        p[i] = p[i] * f.keep - f.step * mean / below;
    }
}

/* Its own function, with two loops of constant length, for the compiler. */
static void update_chunk(const factors *f, float *restrict p, const float *restrict g,
                         float *restrict m, float *restrict v)
{
    if (f->near) update_some(*f, true, CHUNK, p, g, m, v);
    else update_some(*f, false, CHUNK, p, g, m, v);
}

/* ft_optimizer.update: state[0] is the mean of gradients, state[1] that of their squares. */
static void update(void *me, const ft_update *u, int64_t n, float *p, const float *g,
                   float *const state[])
{
    const factors f = factors_of(((const instance *)me)->cfg, u);
    float *m = state[0], *v = state[1];
    int64_t i = 0;
    for (; i + CHUNK <= n; i += CHUNK) update_chunk(&f, p + i, g + i, m + i, v + i);
    for (; i < n; i++) update_some(f, f.near, 1, p + i, g + i, m + i, v + i);
}

static int states(void *me)
{
    (void)me;
    return 2;
}

static int open_instance(void *me, const ft_host *host, const void *cfg)
{
    const config *c = cfg;
    if (c->beta1 >= 1 || c->beta2 >= 1) {
        return host->fail(host, FT_EINVAL, "adam_beta%d = 1 would never forget and never start: "
                          "it must be below 1 (usual: 0.9 and 0.999)", c->beta1 >= 1 ? 1 : 2);
    }
    ((instance *)me)->cfg = c;
    return 0;
}

static const ft_optimizer optimizer = {
    .size = sizeof optimizer,
    .states = states,
    .update = update,
};

static const ft_plugin plugin = {
    .abi = FT_ABI_INIT,
    .role = "ft.optimizer/1",
    .name = "optim-adamw",
    .version = "1.0",
    .summary = "Adam with decoupled weight decay",
    .params = params,
    .config_size = sizeof(config),
    .instance_size = sizeof(instance),
    .open = open_instance,
    .vtable = &optimizer,
};

FT_PLUGIN(plugin, "optim-adamw");
