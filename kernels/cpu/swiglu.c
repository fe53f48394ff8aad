/* swiglu.c -- the gated activation of one joined projection, slot by slot.
 *
 *   swiglu(x; slots, interleaved, alpha, limit, plus)   x (T, slots * 2n) → (T, slots * n)
 *     g, u   halves of each slot's 2n features, or with `interleaved` even and odd ones
 *     limit  not 0: g is cut to at most limit, u to [-limit, limit]
 *     y = (u + plus) g sigmoid(alpha g)
 *   swiglu_dx(dy, x; …)   dx; cut numbers have no gradient, those at the limit have
 *
 * SwiGLU (Shazeer 2020, arXiv:2002.05202) is alpha 1, plus 0; gpt-oss has alpha 1.702, limit 7,
 * plus 1, interleaved. */
#include "vec.h"

enum { SLOTS, INTERLEAVED, ALPHA, LIMIT, PLUS };

/* Column of gate (which 0) or up (which 1) number i of slot j. */
static int64_t column(const ft_call *k, int64_t n, int64_t j, int64_t i, int which)
{
    return 2 * n * j + (k->attr[INTERLEAVED] != 0 ? 2 * i + which : n * which + i);
}

/* ---- reference ------------------------------------------------------------------------------- */
#ifdef FT_ISA_plain
static double cut(double x, double low, double high) { return fmin(fmax(x, low), high); }

static void ref_swiglu(const ft_call *k, int64_t b, int64_t e, void *s)
{
    const ft_arg *x = &k->in[0], *y = &k->out[0];
    int64_t slots = (int64_t)k->attr[SLOTS], n = y->cols / slots;
    double limit = k->attr[LIMIT] != 0 ? k->attr[LIMIT] : INFINITY;
    (void)b, (void)e, (void)s;
    for (int64_t t = 0; t < ft_rows(k, y); t++) {
        for (int64_t c = 0; c < y->cols; c++) {
            double g = cut(ft_get(x, t, column(k, n, c / n, c % n, 0)), -INFINITY, limit);
            double u = cut(ft_get(x, t, column(k, n, c / n, c % n, 1)), -limit, limit);
            ft_put(y, t, c, (u + k->attr[PLUS]) * g / (1 + exp(-k->attr[ALPHA] * g)));
        }
    }
}

static void ref_swiglu_dx(const ft_call *k, int64_t b, int64_t e, void *s)
{
    const ft_arg *dy = &k->in[0], *x = &k->in[1], *dx = &k->out[0];
    int64_t slots = (int64_t)k->attr[SLOTS], n = dy->cols / slots;
    double limit = k->attr[LIMIT] != 0 ? k->attr[LIMIT] : INFINITY, alpha = k->attr[ALPHA];
    (void)b, (void)e, (void)s;
    for (int64_t t = 0; t < ft_rows(k, dy); t++) {
        for (int64_t c = 0; c < dy->cols; c++) {
            int64_t cg = column(k, n, c / n, c % n, 0), cu = column(k, n, c / n, c % n, 1);
            double xg = ft_get(x, t, cg), xu = ft_get(x, t, cu), d = ft_get(dy, t, c);
            double g = cut(xg, -INFINITY, limit), u = cut(xu, -limit, limit);
            double sig = 1 / (1 + exp(-alpha * g));
            double dg = d * (u + k->attr[PLUS]) * sig * (1 + alpha * g * (1 - sig));
            ft_put(dx, t, cg, xg <= limit ? dg : 0);
            ft_put(dx, t, cu, fabs(xu) <= limit ? d * g * sig : 0);
        }
    }
}
#endif

/* ---- fast ------------------------------------------------------------------------------------ */

typedef struct { v16 g, u; } pair;

/* Gate and up numbers i … i + 15 (m are there) of slot j. */
static pair load_pair(const ft_call *k, const ft_arg *x, int64_t t, int64_t n, int64_t j, int64_t i,
                      int64_t m)
{
    const void *row = ft_row(x, t);
    if (k->attr[INTERLEAVED] == 0)
        return (pair){ v_in(row, x->dtype, column(k, n, j, i, 0), m),
                       v_in(row, x->dtype, column(k, n, j, i, 1), m) };
    float both[32] = { 0 }, g[16], u[16];
    int64_t c = column(k, n, j, i, 0), left = 2 * m;
    v_store(both, v_in(row, x->dtype, c, left));
    if (left > 16) v_store(both + 16, v_in(row, x->dtype, c + 16, left - 16));
    for (int q = 0; q < 16; q++) g[q] = both[2 * q], u[q] = both[2 * q + 1];
    return (pair){ v_load(g), v_load(u) };
}

static void store_pair(const ft_call *k, const ft_arg *x, int64_t t, int64_t n, int64_t j,
                       int64_t i, int64_t m, pair p)
{
    void *row = ft_row(x, t);
    if (k->attr[INTERLEAVED] == 0) {
        v_out(row, x->dtype, column(k, n, j, i, 0), m, p.g);
        v_out(row, x->dtype, column(k, n, j, i, 1), m, p.u);
        return;
    }
    float both[32], g[16], u[16];
    int64_t c = column(k, n, j, i, 0), left = 2 * m;
    v_store(g, p.g);
    v_store(u, p.u);
    for (int q = 0; q < 16; q++) both[2 * q] = g[q], both[2 * q + 1] = u[q];
    v_out(row, x->dtype, c, left, v_load(both));
    if (left > 16) v_out(row, x->dtype, c + 16, left - 16, v_load(both + 16));
}

static v16 limit_of(const ft_call *k)
{
    return v_set(k->attr[LIMIT] != 0 ? (float)k->attr[LIMIT] : INFINITY);
}

static pair cut_pair(pair p, v16 limit)
{
    return (pair){ v_min(p.g, limit), v_max(v_min(p.u, limit), v_sub(v_zero(), limit)) };
}

static void run_swiglu(const ft_call *k, int64_t begin, int64_t end, void *scratch)
{
    const ft_arg *x = &k->in[0], *y = &k->out[0];
    int64_t slots = (int64_t)k->attr[SLOTS], n = y->cols / slots;
    v16 limit = limit_of(k), alpha = v_set((float)k->attr[ALPHA]);
    v16 plus = v_set((float)k->attr[PLUS]);
    (void)scratch;
    for (int64_t t = begin * FT_ITEM_ROWS; t < row_stop(k, end); t++) {
        for (int64_t j = 0; j < slots; j++) {
            for (int64_t i = 0; i < n; i += 16) {
                pair p = cut_pair(load_pair(k, x, t, n, j, i, n - i), limit);
                v16 s = v_sigmoid(v_mul(alpha, p.g));
                v_out(ft_row(y, t), y->dtype, j * n + i, n - i,
                      v_mul(v_add(p.u, plus), v_mul(p.g, s)));
            }
        }
    }
}

static void run_swiglu_dx(const ft_call *k, int64_t begin, int64_t end, void *scratch)
{
    const ft_arg *dy = &k->in[0], *x = &k->in[1];
    int64_t slots = (int64_t)k->attr[SLOTS], n = dy->cols / slots;
    v16 limit = limit_of(k), alpha = v_set((float)k->attr[ALPHA]);
    v16 plus = v_set((float)k->attr[PLUS]);
    (void)scratch;
    for (int64_t t = begin * FT_ITEM_ROWS; t < row_stop(k, end); t++) {
        for (int64_t j = 0; j < slots; j++) {
            for (int64_t i = 0; i < n; i += 16) {
                pair raw = load_pair(k, x, t, n, j, i, n - i), p = cut_pair(raw, limit), d;
                v16 y = v_in(ft_row(dy, t), dy->dtype, j * n + i, n - i);
                v16 s = v_sigmoid(v_mul(alpha, p.g)), rest = v_sub(v_set(1), s);
                v16 slope = v_mul(s, v_fma(v_mul(alpha, p.g), rest, v_set(1)));
                d.g = v_mul(v_mul(y, v_add(p.u, plus)), slope);
                d.u = v_mul(y, v_mul(p.g, s));
                d.g = v_less(limit, raw.g, v_zero(), d.g);
                d.u = v_less(limit, v_abs(raw.u), v_zero(), d.u);
                store_pair(k, &k->out[0], t, n, j, i, n - i, d);
            }
        }
    }
}

#define ROW(name, t, fn) \
    { .size = sizeof(ft_kernel), .op = name, .dtype = t, .items = row_items, .run = fn }
static const ft_kernel kernels[] = {
    ROW("swiglu", FT_F32, run_swiglu),       ROW("swiglu", FT_BF16, run_swiglu),
    ROW("swiglu_dx", FT_F32, run_swiglu_dx), ROW("swiglu_dx", FT_BF16, run_swiglu_dx),
};
FT_TABLE(swiglu, kernels)

#ifdef FT_ISA_plain
#define REF(name, fn) { .size = sizeof(ft_kernel), .op = name, .items = one_item, .run = fn }
static const ft_kernel references[] = {
    REF("swiglu", ref_swiglu),
    REF("swiglu_dx", ref_swiglu_dx),
};
FT_REFERENCE(swiglu, references)
#endif
