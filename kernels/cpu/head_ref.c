/* head_ref.c -- linear_logprob, linear_xent, linear_logprob_dx and linear_logprob_dw as plain loops
 * in double precision: what head.c and head_dx.c are held against.  The formulas stand in head.c;
 * each logit is computed anew wherever it is needed. */
#include "head.h"
#ifdef FT_ISA_plain

/* Which inputs and outputs an op of this file has. */
typedef struct {
    const ft_call *k;
    const ft_arg *in;        /* x1, W1, …[, bias], t */
    const ft_arg *dlp, *lse; /* of linear_logprob_dx and _dw, else NULL */
    int64_t vocab;
} head;

static head ref_open(const ft_call *k, bool given)
{
    head h = { .k = k, .in = k->in + (given ? 2 : 0) };
    if (given) h.dlp = &k->in[0], h.lse = &k->in[1];
    h.vocab = h.in[1].rows;
    return h;
}

static double ref_logit(const head *h, int64_t r, int64_t v)
{
    int terms = terms_of(h->k);
    double l = h->k->attr[BIAS] != 0 ? ft_get(&h->in[2 * terms], 0, v) : 0, cap = h->k->attr[CAP];
    for (int i = 0; i < terms; i++) {
        for (int64_t c = 0; c < h->in[2 * i].cols; c++)
            l += ft_get(&h->in[2 * i], r, c) * ft_get(&h->in[2 * i + 1], v, c);
    }
    return cap > 0 ? cap * tanh(l / cap) : l;
}

static double ref_lse(const head *h, int64_t r, double *greatest)
{
    double m = -INFINITY, s = 0;
    for (int64_t v = 0; v < h->vocab; v++) m = fmax(m, ref_logit(h, r, v));
    *greatest = m;
    for (int64_t v = 0; v < h->vocab; v++) s += exp(ref_logit(h, r, v) - m);
    return m + log(s);
}

static double ref_z(const head *h, int64_t r, int64_t v, double lse)
{
    double l = ref_logit(h, r, v), cap = h->k->attr[CAP];
    double c = h->dlp ? -ft_get(h->dlp, r, 0) : -h->k->attr[COEF] * (double)h->k->batch->loss_scale;
    return c * (exp(l - lse) - (v == h->k->batch->target[r])) *
           (cap > 0 ? 1 - l / cap * (l / cap) : 1);
}

static void ref_dx(const head *h, int64_t r, double lse, const ft_arg *const *dx)
{
    enum { PART = 64 };
    for (int i = 0; i < terms_of(h->k); i++) {
        int64_t cols = h->in[2 * i].cols;
        for (int64_t c0 = 0; c0 < cols; c0 += PART) {
            int64_t n = cols - c0 < PART ? cols - c0 : PART;
            double sum[PART] = { 0 };
            for (int64_t v = 0; v < h->vocab; v++) {
                double z = ref_z(h, r, v, lse);
                for (int64_t c = 0; c < n; c++) sum[c] += z * ft_get(&h->in[2 * i + 1], v, c0 + c);
            }
            for (int64_t c = 0; c < n; c++) ft_put(dx[i], r, c0 + c, sum[c]);
        }
    }
}

/* Adds row r to the gradient of weight i, or of the bias when i is the number of terms. */
static void ref_dw(const head *h, int64_t r, double lse, int i, const ft_arg *dw)
{
    bool bias = i == terms_of(h->k);
    for (int64_t v = 0; v < h->vocab; v++) {
        double z = ref_z(h, r, v, lse);
        if (bias) ft_put(dw, 0, v, ft_get(dw, 0, v) + z);
        for (int64_t c = 0; !bias && c < dw->cols; c++)
            ft_put(dw, v, c, ft_get(dw, v, c) + z * ft_get(&h->in[2 * i], r, c));
    }
}

/* log p, hit and lse of row r into outputs 0 and 1; returns lse. */
static double ref_outputs(const head *h, int64_t r)
{
    const ft_call *k = h->k;
    double greatest, lse = ref_lse(h, r, &greatest), l = ref_logit(h, r, k->batch->target[r]);
    ft_put(&k->out[0], r, 0, l - lse);
    ft_put(&k->out[1], r, 0, l >= greatest);
    return lse;
}

static void ref_logprob(const ft_call *k, int64_t b, int64_t e, void *s)
{
    head h = ref_open(k, false);
    (void)b, (void)e, (void)s;
    for (int64_t r = 0; r < k->batch->n_trained; r++) ft_put(&k->out[2], r, 0, ref_outputs(&h, r));
}

static void ref_xent(const ft_call *k, int64_t b, int64_t e, void *s)
{
    head h = ref_open(k, false);
    const ft_arg *dx[GEMM_MAX_TERMS];
    (void)b, (void)e, (void)s;
    for (int i = 0; i < terms_of(k); i++) dx[i] = &k->out[2 + i];
    for (int64_t r = 0; r < k->batch->n_trained; r++) {
        int at = 2 + terms_of(k);
        double lse = ref_outputs(&h, r);
        ref_dx(&h, r, lse, dx);
        for (int i = 0; i <= terms_of(k); i++) {
            if ((int)k->attr[TERM] >> i & 1) ref_dw(&h, r, lse, i, &k->out[at++]);
        }
    }
}

static void ref_logprob_dx(const ft_call *k, int64_t b, int64_t e, void *s)
{
    head h = ref_open(k, true);
    const ft_arg *dx[GEMM_MAX_TERMS];
    (void)b, (void)e, (void)s;
    for (int i = 0; i < terms_of(k); i++) dx[i] = &k->out[i];
    for (int64_t r = 0; r < k->batch->n_trained; r++) ref_dx(&h, r, ft_get(h.lse, r, 0), dx);
}

static void ref_logprob_dw(const ft_call *k, int64_t b, int64_t e, void *s)
{
    head h = ref_open(k, true);
    (void)b, (void)e, (void)s;
    for (int64_t r = 0; r < k->out[0].rows && !k->accumulate; r++) {
        for (int64_t c = 0; c < k->out[0].cols; c++) ft_put(&k->out[0], r, c, 0);
    }
    for (int64_t r = 0; r < k->batch->n_trained; r++)
        ref_dw(&h, r, ft_get(h.lse, r, 0), (int)k->attr[TERM], &k->out[0]);
}

static const ft_kernel references[] = {
    { .size = sizeof(ft_kernel), .op = "linear_logprob", .items = one_item, .run = ref_logprob },
    { .size = sizeof(ft_kernel), .op = "linear_xent", .items = one_item, .run = ref_xent },
    { .size = sizeof(ft_kernel),
      .op = "linear_logprob_dx",
      .items = one_item,
      .run = ref_logprob_dx },
    { .size = sizeof(ft_kernel),
      .op = "linear_logprob_dw",
      .items = one_item,
      .run = ref_logprob_dw },
};
FT_REFERENCE(head, references)
#endif
