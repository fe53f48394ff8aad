/* norm.c -- rms_norm, rms_norm_dx, rms_norm_dw.
 *
 *   r = 1 / sqrt(mean(x^2) + eps)      y = (x r) (w + plus)         over groups of n = |w| features
 *   dx = r w' dy - x r^3 mean(w' dy x)         dw = sum over rows and groups of dy x r,   w' = w +
 *   plus
 *
 * Zhang and Sennrich 2019, arXiv:1910.07467.  One pass over a group for the sum, one for the
 * result. */
#include "vec.h"

/* ---- reference ------------------------------------------------------------------------------- */
#ifdef FT_ISA_plain
static void ref_rms_norm(const ft_call *k, int64_t b, int64_t e, void *s)
{
    const ft_arg *x = &k->in[0], *w = &k->in[1];
    int64_t n = w->cols, groups = x->cols / n;
    (void)b, (void)e, (void)s;
    for (int64_t t = 0; t < ft_rows(k, x); t++) {
        for (int64_t g = 0; g < groups; g++) {
            double sum = 0;
            for (int64_t i = 0; i < n; i++)
                sum += ft_get(x, t, g * n + i) * ft_get(x, t, g * n + i);
            double r = 1 / sqrt(sum / (double)n + k->attr[0]);
            for (int64_t i = 0; i < n; i++)
                ft_put(&k->out[0], t, g * n + i,
                       ft_get(x, t, g * n + i) * r * (ft_get(w, 0, i) + k->attr[1]));
            ft_put(&k->out[1], t, g, r);
        }
    }
}

static void ref_rms_norm_dx(const ft_call *k, int64_t b, int64_t e, void *s)
{
    const ft_arg *dy = &k->in[0], *x = &k->in[1], *w = &k->in[2];
    int64_t n = w->cols, groups = x->cols / n;
    (void)b, (void)e, (void)s;
    for (int64_t t = 0; t < ft_rows(k, x); t++) {
        for (int64_t g = 0; g < groups; g++) {
            double r = ft_get(&k->in[3], t, g), dot = 0;
            for (int64_t i = 0; i < n; i++)
                dot += (ft_get(w, 0, i) + k->attr[0]) * ft_get(dy, t, g * n + i) *
                       ft_get(x, t, g * n + i);
            for (int64_t i = 0; i < n; i++)
                ft_put(&k->out[0], t, g * n + i,
                       r * (ft_get(w, 0, i) + k->attr[0]) * ft_get(dy, t, g * n + i) -
                           ft_get(x, t, g * n + i) * r * r * r * dot / (double)n);
        }
    }
}

static void ref_rms_norm_dw(const ft_call *k, int64_t b, int64_t e, void *s)
{
    const ft_arg *dy = &k->in[0], *x = &k->in[1];
    int64_t n = k->out[0].cols, groups = x->cols / n;
    (void)b, (void)e, (void)s;
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int64_t t = 0; t < ft_rows(k, x); t++) {
            for (int64_t g = 0; g < groups; g++)
                sum += ft_get(dy, t, g * n + i) * ft_get(x, t, g * n + i) * ft_get(&k->in[2], t, g);
        }
        ft_sum_into(k, 0, i, sum);
    }
}
#endif

/* ---- fast ------------------------------------------------------------------------------------ */

static inline float norm_group(void *y, const void *x, const float *w, ft_dtype t, int64_t from,
                               int64_t n, double eps, float plus)
{
    v16 sum = v_zero();
    for (int64_t i = 0; i < n; i += 16) {
        v16 a = v_in(x, t, from + i, n - i);
        sum = v_fma(a, a, sum);
    }
    float r = 1 / sqrtf(v_sum(sum) / (float)n + (float)eps);
    for (int64_t i = 0; i < n; i += 16) {
        v16 a = v_mul(v_in(x, t, from + i, n - i), v_set(r));
        v_out(y, t, from + i, n - i, v_mul(a, v_add(v_in(w, FT_F32, i, n - i), v_set(plus))));
    }
    return r;
}

__attribute__((always_inline))
static inline void rms_norm(const ft_call *k, int64_t begin, int64_t end, ft_dtype t)
{
    int64_t n = k->in[1].cols, groups = k->in[0].cols / n;
    const float *w = (const float *)k->in[1].data;
    for (int64_t r = begin * FT_ITEM_ROWS; r < row_stop(k, end); r++) {
        float *rs = (float *)ft_row(&k->out[1], r);
        for (int64_t g = 0; g < groups; g++)
            rs[g] = norm_group(ft_row(&k->out[0], r), ft_row(&k->in[0], r), w, t, g * n, n,
                               k->attr[0], (float)k->attr[1]);
    }
}

/* dx may take dy's place: an element is read before it is written, and the sum comes first. */
static inline void norm_group_dx(void *dx, const void *dy, const void *x, const float *w,
                                 ft_dtype t, int64_t from, int64_t n, float r, float plus)
{
    v16 sum = v_zero();
    for (int64_t i = 0; i < n; i += 16) {
        v16 d = v_mul(v_in(dy, t, from + i, n - i), v_add(v_in(w, FT_F32, i, n - i), v_set(plus)));
        sum = v_fma(d, v_in(x, t, from + i, n - i), sum);
    }
    v16 c = v_set(-(r * r * r * (v_sum(sum) / (float)n)));
    for (int64_t i = 0; i < n; i += 16) {
        v16 d = v_mul(v_in(dy, t, from + i, n - i), v_add(v_in(w, FT_F32, i, n - i), v_set(plus)));
        v_out(dx, t, from + i, n - i, v_fma(c, v_in(x, t, from + i, n - i), v_mul(v_set(r), d)));
    }
}

__attribute__((always_inline))
static inline void rms_norm_dx(const ft_call *k, int64_t begin, int64_t end, ft_dtype t)
{
    int64_t n = k->in[2].cols, groups = k->in[1].cols / n;
    const float *w = (const float *)k->in[2].data;
    for (int64_t r = begin * FT_ITEM_ROWS; r < row_stop(k, end); r++) {
        const float *rs = (const float *)ft_row(&k->in[3], r);
        for (int64_t g = 0; g < groups; g++)
            norm_group_dx(ft_row(&k->out[0], r), ft_row(&k->in[0], r), ft_row(&k->in[1], r), w, t,
                          g * n, n, rs[g], (float)k->attr[0]);
    }
}

/* Items are 16 features. */
static int64_t feature_items(const ft_call *k)
{
    return (k->out[0].cols + 15) / 16;
}

__attribute__((always_inline))
static inline void rms_norm_dw(const ft_call *k, int64_t begin, int64_t end, ft_dtype t)
{
    int64_t n = k->out[0].cols, groups = k->in[0].cols / n;
    for (int64_t i = begin * 16; i < end * 16 && i < n; i += 16) {
        float *dw = (float *)k->out[0].data + i;
        v16 total = k->accumulate ? v_in(dw, FT_F32, 0, n - i) : v_zero();
        for (ft_block b = { 0 }; ft_next_block(k, &k->in[0], &b);) {
            v16 sum = v_zero();
            for (int64_t r = b.begin; r < b.end; r++) {
                const float *rs = (const float *)ft_row(&k->in[2], r);
                for (int64_t g = 0; g < groups; g++) {
                    v16 x = v_mul(v_in(ft_row(&k->in[1], r), t, g * n + i, n - i), v_set(rs[g]));
                    sum = v_fma(v_in(ft_row(&k->in[0], r), t, g * n + i, n - i), x, sum);
                }
            }
            total = v_add(total, sum);
        }
        v_out(dw, FT_F32, 0, n - i, total);
    }
}

static void rms_norm_f32(const ft_call *k, int64_t b, int64_t e, void *s)
{
    (void)s;
    rms_norm(k, b, e, FT_F32);
}
static void rms_norm_bf16(const ft_call *k, int64_t b, int64_t e, void *s)
{
    (void)s;
    rms_norm(k, b, e, FT_BF16);
}
static void rms_norm_dx_f32(const ft_call *k, int64_t b, int64_t e, void *s)
{
    (void)s;
    rms_norm_dx(k, b, e, FT_F32);
}
static void rms_norm_dx_bf16(const ft_call *k, int64_t b, int64_t e, void *s)
{
    (void)s;
    rms_norm_dx(k, b, e, FT_BF16);
}
static void rms_norm_dw_f32(const ft_call *k, int64_t b, int64_t e, void *s)
{
    (void)s;
    rms_norm_dw(k, b, e, FT_F32);
}
static void rms_norm_dw_bf16(const ft_call *k, int64_t b, int64_t e, void *s)
{
    (void)s;
    rms_norm_dw(k, b, e, FT_BF16);
}

static const ft_kernel kernels[] = {
    { .size = sizeof(ft_kernel),
      .op = "rms_norm",
      .dtype = FT_F32,
      .items = row_items,
      .run = rms_norm_f32 },
    { .size = sizeof(ft_kernel),
      .op = "rms_norm",
      .dtype = FT_BF16,
      .items = row_items,
      .run = rms_norm_bf16 },
    { .size = sizeof(ft_kernel),
      .op = "rms_norm_dx",
      .dtype = FT_F32,
      .items = row_items,
      .run = rms_norm_dx_f32 },
    { .size = sizeof(ft_kernel),
      .op = "rms_norm_dx",
      .dtype = FT_BF16,
      .items = row_items,
      .run = rms_norm_dx_bf16 },
    { .size = sizeof(ft_kernel),
      .op = "rms_norm_dw",
      .dtype = FT_F32,
      .items = feature_items,
      .run = rms_norm_dw_f32 },
    { .size = sizeof(ft_kernel),
      .op = "rms_norm_dw",
      .dtype = FT_BF16,
      .items = feature_items,
      .run = rms_norm_dw_bf16 },
};
FT_TABLE(norm, kernels)

#ifdef FT_ISA_plain
static const ft_kernel references[] = {
    { .size = sizeof(ft_kernel),
      .op = "rms_norm",
      .dtype = FT_NO_DTYPE,
      .items = one_item,
      .run = ref_rms_norm },
    { .size = sizeof(ft_kernel),
      .op = "rms_norm_dx",
      .dtype = FT_NO_DTYPE,
      .items = one_item,
      .run = ref_rms_norm_dx },
    { .size = sizeof(ft_kernel),
      .op = "rms_norm_dw",
      .dtype = FT_NO_DTYPE,
      .items = one_item,
      .run = ref_rms_norm_dw },
};
FT_REFERENCE(norm, references)
#endif
