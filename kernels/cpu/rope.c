/* rope.c -- rope: rotary position encoding, halves of each head rotated against each other.
 *
 *   a = (position + first) * freq[i], c = factor cos a, s = factor sin a
 *   y[i] = x[i] c - x[i + h] s       y[i + h] = x[i + h] c + x[i] s       i < h
 *
 * for h frequencies, in each head of head_dim features; those from 2 h on stay as they are.
 * reverse: s changes its sign, which is the gradient.  Su et al. 2021, arXiv:2104.09864; the halves
 * instead of neighbours are Hugging Face's layout.  The angle is rounded to fp32 as there; cosine
 * and sine are computed in double precision, by the functions below, so that no libm decides the
 * bits. */
#include "vec.h"

enum { FACTOR, REVERSE, FIRST, HEAD_DIM }; /* attributes */

static int64_t head_size(const ft_call *k)
{
    return k->attr[HEAD_DIM] > 0 ? (int64_t)k->attr[HEAD_DIM] : 2 * k->in[2].cols;
}

/* sin and cos of a, |a| < 2^30: a = q pi/2 + r with pi/2 in three parts (fdlibm), r in [-pi/4,
 * pi/4], then the Taylor-like polynomials of Cephes.  Error below 2^-50 relative to 1. */
static void sincos_d(double a, double *sine, double *cosine)
{
    double q = nearbyint(a * 0.63661977236758134308);
    double r = fma(q, -1.57079632673412561417, a);
    r = fma(q, -6.07710050630396597660e-11, r);
    r = fma(q, -2.02226624871116645580e-21, r);
    double z = r * r;
    double s = fma(z, 1.58962301576546568060e-10, -2.50507477628578072866e-8);
    s = fma(s, z, 2.75573136213857245213e-6);
    s = fma(s, z, -1.98412698295895385996e-4);
    s = fma(s, z, 8.33333333332211858878e-3);
    s = fma(s, z, -1.66666666666666307295e-1);
    s = fma(s * z, r, r);
    double c = fma(z, -1.13585365213876817300e-11, 2.08757008419747316778e-9);
    c = fma(c, z, -2.75573141792967388112e-7);
    c = fma(c, z, 2.48015872888517045348e-5);
    c = fma(c, z, -1.38888888888730564116e-3);
    c = fma(c, z, 4.16666666666665929218e-2);
    c = fma(c * z, z, fma(z, -0.5, 1));
    int64_t k = (int64_t)q & 3;
    double s2 = k & 1 ? c : s, c2 = k & 1 ? s : c;
    *sine = k & 2 ? -s2 : s2;
    *cosine = (k + 1) & 2 ? -c2 : c2;
}

/* ---- reference ------------------------------------------------------------------------------- */
#ifdef FT_ISA_plain
static void ref_rope(const ft_call *k, int64_t b, int64_t e, void *unused)
{
    const ft_arg *x = &k->in[0], *f = &k->in[2];
    int64_t h = f->cols, head = head_size(k);
    (void)b, (void)e, (void)unused;
    for (int64_t t = 0; t < ft_rows(k, x); t++) {
        for (int64_t from = 0; from < x->cols; from += head) {
            for (int64_t i = 2 * h; i < head; i++)
                ft_put(&k->out[0], t, from + i, ft_get(x, t, from + i));
            for (int64_t i = 0; i < h; i++) {
                double a = (ft_get(&k->in[1], t, 0) + k->attr[FIRST]) * ft_get(f, 0, i);
                if (x->dtype != FT_F64)
                    a = (double)((float)(ft_get(&k->in[1], t, 0) + k->attr[FIRST]) *
                                 (float)ft_get(f, 0, i));
                double c = k->attr[FACTOR] * cos(a),
                       s = k->attr[FACTOR] * sin(a) * (k->attr[REVERSE] != 0 ? -1 : 1);
                double u = ft_get(x, t, from + i), v = ft_get(x, t, from + h + i);
                ft_put(&k->out[0], t, from + i, u * c - v * s);
                ft_put(&k->out[0], t, from + h + i, v * c + u * s);
            }
        }
    }
}
#endif

/* ---- fast ------------------------------------------------------------------------------------ */

/* Cosines and sines of one position: 2 h floats of scratch. */
static size_t rope_scratch(const ft_call *k) { return (size_t)k->in[2].cols * 2 * sizeof(float); }

static void fill_angles(const ft_call *k, int32_t position, float *c, float *s)
{
    const float *freq = (const float *)k->in[2].data;
    float p = (float)(position + (int32_t)k->attr[FIRST]);
    for (int64_t i = 0; i < k->in[2].cols; i++) {
        double sine, cosine;
        sincos_d((double)(p * freq[i]), &sine, &cosine);
        c[i] = (float)(cosine * k->attr[FACTOR]);
        s[i] = (float)(sine * k->attr[FACTOR] * (k->attr[REVERSE] != 0 ? -1 : 1));
    }
}

__attribute__((always_inline))
static inline void rope(const ft_call *k, int64_t begin, int64_t end, void *scratch, ft_dtype t)
{
    int64_t h = k->in[2].cols, n = k->in[0].cols, head = head_size(k);
    const int32_t *position = (const int32_t *)k->in[1].data;
    float *c = (float *)scratch, *s = c + h;
    for (int64_t r = begin * FT_ITEM_ROWS; r < row_stop(k, end); r++) {
        const void *x = ft_row(&k->in[0], r);
        void *y = ft_row(&k->out[0], r);
        fill_angles(k, position[r], c, s);
        for (int64_t from = 0; from < n; from += head) {
            for (int64_t i = 2 * h; i < head; i += 16)
                v_out(y, t, from + i, head - i, v_in(x, t, from + i, head - i));
            for (int64_t i = 0; i < h; i += 16) {
                v16 u = v_in(x, t, from + i, h - i), v = v_in(x, t, from + h + i, h - i);
                v16 ci = v_in(c, FT_F32, i, h - i), si = v_in(s, FT_F32, i, h - i);
                v_out(y, t, from + i, h - i, v_fma(u, ci, v_sub(v_zero(), v_mul(v, si))));
                v_out(y, t, from + h + i, h - i, v_fma(v, ci, v_mul(u, si)));
            }
        }
    }
}

static void rope_f32(const ft_call *k, int64_t b, int64_t e, void *s) { rope(k, b, e, s, FT_F32); }
static void rope_bf16(const ft_call *k, int64_t b, int64_t e, void *s)
{
    rope(k, b, e, s, FT_BF16);
}

static const ft_kernel kernels[] = {
    { .size = sizeof(ft_kernel),
      .op = "rope",
      .dtype = FT_F32,
      .scratch = rope_scratch,
      .items = row_items,
      .run = rope_f32 },
    { .size = sizeof(ft_kernel),
      .op = "rope",
      .dtype = FT_BF16,
      .scratch = rope_scratch,
      .items = row_items,
      .run = rope_bf16 },
};
FT_TABLE(rope, kernels)

#ifdef FT_ISA_plain
static const ft_kernel references[] = {
    { .size = sizeof(ft_kernel),
      .op = "rope",
      .dtype = FT_NO_DTYPE,
      .items = one_item,
      .run = ref_rope },
};
FT_REFERENCE(rope, references)
#endif
