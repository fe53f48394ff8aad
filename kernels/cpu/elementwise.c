/* elementwise.c -- binary, unary, unary_dx, glu, glu_dx, scale, shift, dropout.
 *
 * Items are runs of rows.  Each element is widened to fp32, computed, and rounded once; glu also
 * rounds act(a) before the product, because it stands for two nodes. */
#include "philox.h"
#include "vec.h"

/* ---- reference ------------------------------------------------------------------------------- */
#ifdef FT_ISA_plain
static double sigmoid_d(double x) { return 1 / (1 + exp(-x)); }

static double unary_d(int kind, double x)
{
    switch (kind) {
    case FT_SILU: return x * sigmoid_d(x);
    case FT_GELU: return 0.5 * x * (1 + erf(x * M_SQRT1_2));
    case FT_GELU_TANH: return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case FT_RELU: return x > 0 ? x : 0;
    case FT_SIGMOID: return sigmoid_d(x);
    case FT_TANH: return tanh(x);
    case FT_SQRT: return sqrt(x);
    default: return x < 0 ? x - log1p(exp(x)) : -log1p(exp(-x)); /* FT_LOG_SIGMOID */
    }
}

static double unary_slope_d(int kind, double x)
{
    double s = sigmoid_d(x), t, u;
    switch (kind) {
    case FT_SILU: return s * (1 + x * (1 - s));
    case FT_GELU: return 0.5 * (1 + erf(x * M_SQRT1_2)) + x * exp(-0.5 * x * x) / sqrt(2 * M_PI);
    case FT_GELU_TANH:
        u = sqrt(2 / M_PI) * (1 + 3 * 0.044715 * x * x);
        t = tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x));
        return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * u;
    case FT_RELU: return x > 0;
    case FT_SIGMOID: return s * (1 - s);
    case FT_TANH: return 1 - tanh(x) * tanh(x);
    case FT_SQRT: return 0.5 / sqrt(x);
    default: return 1 - s;
    }
}

static double binary_d(int kind, double a, double b)
{
    return kind == FT_ADD ? a + b : kind == FT_SUB ? a - b : kind == FT_MUL ? a * b : a / b;
}

/* Element of b that meets element (r, c) of a. */
static double spread_d(const ft_call *k, int64_t r, int64_t c)
{
    const ft_arg *a = &k->in[0], *b = &k->in[1];
    bool row = b->rows == 1 && a->rows != 1 && b->axis == 0, column = b->cols == 1;
    return ft_get(b, row ? 0 : r < b->rows ? r : 0, column ? 0 : c);
}

static double round_as(const ft_arg *a, double v)
{
    return a->dtype == FT_BF16 ? bf16_get(bf16_round((float)v)) : v;
}

/* Calls f for every element; x holds the inputs' elements, b's spread over a's. */
static void each_element(const ft_call *k, double (*f)(const ft_call *, const double *x))
{
    for (int64_t r = 0; r < ft_rows(k, &k->in[0]); r++) {
        for (int64_t c = 0; c < k->in[0].cols; c++) {
            double x[2] = { ft_get(&k->in[0], r, c), k->n_in > 1 ? spread_d(k, r, c) : 0 };
            ft_put(&k->out[0], r, c, f(k, x));
        }
    }
}

static int kind_of(const ft_call *k) { return (int)k->attr[0]; }
static double f_binary(const ft_call *k, const double *x)
{
    return binary_d(kind_of(k), x[0], x[1]);
}
static double f_unary(const ft_call *k, const double *x) { return unary_d(kind_of(k), x[0]); }
static double f_unary_dx(const ft_call *k, const double *x)
{
    return x[0] * unary_slope_d(kind_of(k), x[1]);
}
static double f_glu(const ft_call *k, const double *x)
{
    return round_as(&k->in[0], unary_d(kind_of(k), x[0])) * x[1];
}
static double f_scale(const ft_call *k, const double *x) { return x[0] * k->attr[0]; }
static double f_shift(const ft_call *k, const double *x) { return x[0] + k->attr[0]; }

static void ref_binary(const ft_call *k, int64_t b, int64_t e, void *s)
{
    (void)b, (void)e, (void)s;
    each_element(k, f_binary);
}
static void ref_unary(const ft_call *k, int64_t b, int64_t e, void *s)
{
    (void)b, (void)e, (void)s;
    each_element(k, f_unary);
}
static void ref_unary_dx(const ft_call *k, int64_t b, int64_t e, void *s)
{
    (void)b, (void)e, (void)s;
    each_element(k, f_unary_dx);
}
static void ref_glu(const ft_call *k, int64_t b, int64_t e, void *s)
{
    (void)b, (void)e, (void)s;
    each_element(k, f_glu);
}
static void ref_scale(const ft_call *k, int64_t b, int64_t e, void *s)
{
    (void)b, (void)e, (void)s;
    each_element(k, f_scale);
}
static void ref_shift(const ft_call *k, int64_t b, int64_t e, void *s)
{
    (void)b, (void)e, (void)s;
    each_element(k, f_shift);
}

static void ref_glu_dx(const ft_call *k, int64_t i0, int64_t i1, void *scratch)
{
    int kind = (int)k->attr[0];
    (void)i0, (void)i1, (void)scratch;
    for (int64_t r = 0; r < ft_rows(k, &k->in[0]); r++) {
        for (int64_t c = 0; c < k->in[0].cols; c++) {
            double dy = ft_get(&k->in[0], r, c), a = ft_get(&k->in[1], r, c),
                   b = ft_get(&k->in[2], r, c);
            double s = round_as(&k->in[0], unary_d(kind, a)), ds = round_as(&k->in[0], dy * b);
            ft_put(&k->out[0], r, c, ds * unary_slope_d(kind, a));
            ft_put(&k->out[1], r, c, dy * s);
        }
    }
}
#endif

/* ---- dropout: one text for the reference and the fast kernels -------------------------------- */

/* Row r of the batch, counted over the whole optimizer step with `row_tokens` places a row. */
static uint64_t token_in_step(const ft_batch *b, int64_t token, int64_t *row)
{
    while (*row + 1 < b->n_rows && b->row_start[*row + 1] <= token) ++*row;
    return (uint64_t)((b->first_row + *row) * b->row_tokens + token - b->row_start[*row]);
}

static void run_dropout(const ft_call *k, int64_t begin, int64_t end, void *scratch)
{
    const ft_arg *x = &k->in[0];
    double p = k->attr[0];
    uint32_t below = (uint32_t)(p * 65536 + 0.5); /* 16 random bits below this: dropped */
    double scale = below < 65536 ? 65536.0 / (65536.0 - below) : 0;
    uint64_t key = philox_key(k->batch->seed, k->batch->step);
    uint16_t bits[PHILOX_COLUMNS];
    int64_t row = 0;
    (void)scratch;
    for (int64_t t = begin; t < end; t++) {
        uint64_t token = token_in_step(k->batch, t, &row);
        for (int64_t c0 = 0; c0 < x->cols; c0 += PHILOX_COLUMNS) {
            int64_t n = x->cols - c0 < PHILOX_COLUMNS ? x->cols - c0 : PHILOX_COLUMNS;
            philox_fill(bits, key, k->key, token, (uint32_t)c0);
            if (x->dtype == FT_BF16) {
                const uint16_t *from = (const uint16_t *)x->data + t * x->ld + c0;
                uint16_t *to = (uint16_t *)k->out[0].data + t * k->out[0].ld + c0;
                for (int64_t i = 0; i < n; i++)
                    to[i] = bits[i] < below ? 0 : bf16_round(bf16_get(from[i]) * (float)scale);
            } else if (x->dtype == FT_F32) {
                const float *from = (const float *)x->data + t * x->ld + c0;
                float *to = (float *)k->out[0].data + t * k->out[0].ld + c0;
                for (int64_t i = 0; i < n; i++)
                    to[i] = bits[i] < below ? 0 : from[i] * (float)scale;
            } else {
                for (int64_t i = 0; i < n; i++)
                    ft_put(&k->out[0], t, c0 + i,
                           bits[i] < below ? 0 : ft_get(x, t, c0 + i) * scale);
            }
        }
    }
}

static int64_t token_items(const ft_call *k)
{
    return ft_rows(k, &k->in[0]);
}

/* ---- fast ------------------------------------------------------------------------------------ */

static inline v16 v_unary(int kind, v16 x)
{
    v16 one = v_set(1), half = v_set(0.5f), u;
    switch (kind) {
    case FT_SILU: return v_mul(x, v_sigmoid(x));
    case FT_GELU: return v_mul(v_mul(half, x), v_add(one, v_erf(v_mul(x, v_set(0.707106781f)))));
    case FT_GELU_TANH:
        u = v_mul(v_set(0.797884561f), v_fma(v_mul(v_set(0.044715f), x), v_mul(x, x), x));
        return v_mul(v_mul(half, x), v_add(one, v_tanh(u)));
    case FT_RELU: return v_max(x, v_zero());
    case FT_SIGMOID: return v_sigmoid(x);
    case FT_TANH: return v_tanh(x);
    case FT_SQRT: return v_sqrt(x);
    default: /* log sigmoid: min(x, 0) - log(1 + e^-|x|) */
        u = v_exp(v_sub(v_zero(), v_abs(x)));
        return v_sub(v_min(x, v_zero()), v_log(v_add(one, u)));
    }
}

static inline v16 v_slope(int kind, v16 x)
{
    v16 one = v_set(1), half = v_set(0.5f), s, t, u;
    switch (kind) {
    case FT_SILU:
        s = v_sigmoid(x);
        return v_mul(s, v_fma(x, v_sub(one, s), one));
    case FT_GELU:
        t = v_mul(half, v_add(one, v_erf(v_mul(x, v_set(0.707106781f)))));
        u = v_exp(v_mul(v_mul(x, x), v_set(-0.5f)));
        return v_fma(v_mul(x, u), v_set(0.398942280f), t);
    case FT_GELU_TANH:
        t = v_tanh(v_mul(v_set(0.797884561f), v_fma(v_mul(v_set(0.044715f), x), v_mul(x, x), x)));
        u = v_mul(v_set(0.797884561f), v_fma(v_set(0.134145f), v_mul(x, x), one));
        s = v_mul(v_mul(half, x), v_mul(v_fma(v_sub(v_zero(), t), t, one), u));
        return v_fma(half, v_add(one, t), s);
    case FT_RELU: return v_less(v_zero(), x, one, v_zero());
    case FT_SIGMOID:
        s = v_sigmoid(x);
        return v_mul(s, v_sub(one, s));
    case FT_TANH:
        t = v_tanh(x);
        return v_fma(v_sub(v_zero(), t), t, one);
    case FT_SQRT: return v_div(half, v_sqrt(x));
    default: return v_sub(one, v_sigmoid(x));
    }
}

static inline v16 v_binary(int kind, v16 a, v16 b)
{
    return kind == FT_ADD   ? v_add(a, b)
           : kind == FT_SUB ? v_sub(a, b)
           : kind == FT_MUL ? v_mul(a, b)
                            : v_div(a, b);
}

/* The value behind a rounding to t. */
static inline v16 v_as(ft_dtype t, v16 x) { return t == FT_BF16 ? v_round_bf16(x) : x; }

/* One row: what it reads and writes. */
typedef struct { const void *a, *b, *c; void *y, *z; int kind; ft_dtype tb; float by; } line;

/* Bodies: m elements from i on, 16 in all rounds but the last; inlined with t and m constant. */
static inline void do_same(const line *l, ft_dtype t, int64_t i, int64_t m)
{
    v_out(l->y, t, i, m, v_binary(l->kind, v_in(l->a, t, i, m), v_in(l->b, l->tb, i, m)));
}
static inline void do_scalar(const line *l, ft_dtype t, int64_t i, int64_t m)
{
    v_out(l->y, t, i, m, v_binary(l->kind, v_in(l->a, t, i, m), v_set(l->by)));
}
static inline void do_unary(const line *l, ft_dtype t, int64_t i, int64_t m)
{
    v_out(l->y, t, i, m, v_unary(l->kind, v_in(l->a, t, i, m)));
}
static inline void do_unary_dx(const line *l, ft_dtype t, int64_t i, int64_t m)
{
    v_out(l->y, t, i, m, v_mul(v_in(l->a, t, i, m), v_slope(l->kind, v_in(l->b, t, i, m))));
}
static inline void do_glu(const line *l, ft_dtype t, int64_t i, int64_t m)
{
    v16 s = v_as(t, v_unary(l->kind, v_in(l->a, t, i, m)));
    v_out(l->y, t, i, m, v_mul(s, v_in(l->b, t, i, m)));
}
static inline void do_glu_dx(const line *l, ft_dtype t, int64_t i, int64_t m)
{
    v16 dy = v_in(l->a, t, i, m), a = v_in(l->b, t, i, m), b = v_in(l->c, t, i, m);
    v16 s = v_as(t, v_unary(l->kind, a)), ds = v_as(t, v_mul(dy, b));
    v_out(l->y, t, i, m, v_mul(ds, v_slope(l->kind, a)));
    v_out(l->z, t, i, m, v_mul(dy, s));
}

static inline float scalar_at(const ft_arg *a, int64_t r)
{
    return (float)ft_get(a, a->rows == 1 ? 0 : r, 0);
}

/* Runs body over the rows of an item.  The second input, if it is a column or a scalar, is in
 * by. */
__attribute__((always_inline))
static inline void each_row(const ft_call *k, int64_t begin, int64_t end, ft_dtype t, line l,
                            void (*body)(const line *, ft_dtype, int64_t, int64_t))
{
    int64_t to = row_stop(k, end), n = k->in[0].cols;
    bool column = k->n_in == 2 && k->in[1].cols != n;
    for (int64_t r = begin * FT_ITEM_ROWS; r < to; r++) {
        l.a = ft_row(&k->in[0], r);
        if (column) l.by = scalar_at(&k->in[1], r);
        else l.b = k->n_in > 1 ? ft_row(&k->in[1], r) : NULL;
        l.c = k->n_in > 2 ? ft_row(&k->in[2], r) : NULL;
        l.y = ft_row(&k->out[0], r);
        l.z = k->n_out > 1 ? ft_row(&k->out[1], r) : NULL;
        int64_t i = 0;
        for (; i + 16 <= n; i += 16) body(&l, t, i, 16);
        if (i < n) body(&l, t, i, n - i);
    }
}

__attribute__((always_inline))
static inline void binary_rows(const ft_call *k, int64_t begin, int64_t end, ft_dtype t)
{
    line l = { .kind = (int)k->attr[0], .tb = k->in[1].dtype };
    if (k->in[1].cols == k->in[0].cols) each_row(k, begin, end, t, l, do_same);
    else each_row(k, begin, end, t, l, do_scalar);
}

static inline line with_kind(const ft_call *k) { return (line){ .kind = (int)k->attr[0] }; }
static inline line with_constant(const ft_call *k, int kind)
{
    return (line){ .kind = kind, .by = (float)k->attr[0] };
}

/* A kernel for each dtype, so that the loops are made for it. */
#define BOTH(name, call)                                                     \
    static void name##_f32(const ft_call *k, int64_t b, int64_t e, void *s)  \
    {                                                                        \
        const ft_dtype t = FT_F32;                                           \
        (void)s;                                                             \
        call;                                                                \
    }                                                                        \
    static void name##_bf16(const ft_call *k, int64_t b, int64_t e, void *s) \
    {                                                                        \
        const ft_dtype t = FT_BF16;                                          \
        (void)s;                                                             \
        call;                                                                \
    }
BOTH(binary, binary_rows(k, b, e, t))
BOTH(unary, each_row(k, b, e, t, with_kind(k), do_unary))
BOTH(unary_dx, each_row(k, b, e, t, with_kind(k), do_unary_dx))
BOTH(glu, each_row(k, b, e, t, with_kind(k), do_glu))
BOTH(glu_dx, each_row(k, b, e, t, with_kind(k), do_glu_dx))
BOTH(scale, each_row(k, b, e, t, with_constant(k, FT_MUL), do_scalar))
BOTH(shift, each_row(k, b, e, t, with_constant(k, FT_ADD), do_scalar))

#define ROW(name)                                                                     \
    { .size = sizeof(ft_kernel),                                                      \
      .op = #name,                                                                    \
      .dtype = FT_F32,                                                                \
      .items = row_items,                                                             \
      .run = name##_f32 },                                                            \
    {                                                                                 \
        .size = sizeof(ft_kernel), .op = #name, .dtype = FT_BF16, .items = row_items, \
        .run = name##_bf16                                                            \
    }
static const ft_kernel kernels[] = {
    ROW(binary),
    ROW(unary),
    ROW(unary_dx),
    ROW(glu),
    ROW(glu_dx),
    ROW(scale),
    ROW(shift),
    { .size = sizeof(ft_kernel),
      .op = "dropout",
      .dtype = FT_NO_DTYPE,
      .items = token_items,
      .run = run_dropout },
};
FT_TABLE(elementwise, kernels)

#ifdef FT_ISA_plain
#define REF(name) { .size = sizeof(ft_kernel), .op = #name, .items = one_item, .run = ref_##name }
static const ft_kernel references[] = {
    REF(binary),
    REF(unary),
    REF(unary_dx),
    REF(glu),
    REF(glu_dx),
    REF(scale),
    REF(shift),
    { .size = sizeof(ft_kernel),
      .op = "dropout",
      .dtype = FT_NO_DTYPE,
      .items = token_items,
      .run = run_dropout },
};
FT_REFERENCE(elementwise, references)
#endif
