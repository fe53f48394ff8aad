/* attention_ref.c -- attention, attention_dx, attention_dsinks, attention_dek, attention_dev,
 * attention_cached as plain loops in double precision: what attention.c, attention_dx.c and
 * attention_sums.c are held against.  The formulas stand in attention.h.  Each score is computed anew wherever it is
 * needed. */
#include "attention.h"
#ifdef FT_ISA_plain

/* One query of one head: which keys it sees, and how to find them. */
typedef struct {
    const ft_call *k;
    const ft_arg *q, *key, *value, *ek, *ev, *sinks;
    int64_t t, h, kv, hd, first, last, n_extra; /* keys first … last are tokens of the document */
} query;

static void open_query(query *x, const ft_call *k, int base, int extras, int64_t t, int64_t h)
{
    int options = (int)k->attr[OPTIONS], at = extras;
    int64_t heads = (int64_t)k->attr[HEADS], doc = 0;
    *x = (query){ .k = k,
                  .q = &k->in[base],
                  .key = &k->in[base + 1],
                  .value = &k->in[base + 2],
                  .t = t,
                  .h = h };
    if (options & SINKS) x->sinks = &k->in[at++];
    if (options & EXTRA) {
        x->ek = &k->in[at];
        x->ev = &k->in[at + 1];
        x->n_extra = x->ek->rows;
    }
    x->hd = x->q->cols / heads;
    x->kv = h / (heads / (int64_t)k->attr[KV_HEADS]);
    while (k->batch->doc_start[doc + 1] <= t) doc++;
    x->first = k->batch->doc_start[doc];
    int64_t window = (int64_t)k->attr[WINDOW];
    if (window > 0 && t - window + 1 > x->first) x->first = t - window + 1;
    x->last = t;
}

/* Key or value j of the query: the extra ones come first. */
static double element(const query *x, const ft_arg *token, const ft_arg *extra, int64_t j,
                      int64_t c)
{
    int64_t col = x->kv * x->hd + c;
    return j < x->n_extra ? ft_get(extra, j, col) : ft_get(token, x->first + j - x->n_extra, col);
}
static double key_of(const query *x, int64_t j, int64_t c)
{
    return element(x, x->key, x->ek, j, c);
}
static double value_of(const query *x, int64_t j, int64_t c)
{
    return element(x, x->value, x->ev, j, c);
}
static int64_t n_keys(const query *x) { return x->n_extra + x->last - x->first + 1; }

/* Score, and its slope before the softcap. */
static double score(const query *x, int64_t j, double *slope)
{
    double s = 0, cap = x->k->attr[CAP];
    for (int64_t c = 0; c < x->hd; c++) s += ft_get(x->q, x->t, x->h * x->hd + c) * key_of(x, j, c);
    s *= x->k->attr[SCALE];
    double u = cap > 0 ? tanh(s / cap) : 0;
    if (slope) *slope = cap > 0 ? 1 - u * u : 1;
    return cap > 0 ? cap * u : s;
}

static double log_sum(const query *x)
{
    double m = x->sinks ? ft_get(x->sinks, 0, x->h) : -INFINITY, sum = 0;
    if (x->sinks) sum = 1;
    for (int64_t j = 0; j < n_keys(x); j++) {
        double v = score(x, j, NULL);
        sum = v > m ? sum * exp(m - v) + 1 : sum + exp(v - m);
        m = fmax(m, v);
    }
    return m + log(sum);
}

/* Row t of the output: sum over the keys of p_j v_j. */
static void put_output(const query *x, double lse)
{
    enum { PART = 64 };
    for (int64_t c0 = 0; c0 < x->hd; c0 += PART) {
        int64_t n = x->hd - c0 < PART ? x->hd - c0 : PART;
        double o[PART] = { 0 };
        for (int64_t j = 0; j < n_keys(x); j++) {
            double p = exp(score(x, j, NULL) - lse);
            for (int64_t c = 0; c < n; c++) o[c] += p * value_of(x, j, c0 + c);
        }
        for (int64_t c = 0; c < n; c++) ft_put(&x->k->out[0], x->t, x->h * x->hd + c0 + c, o[c]);
    }
}

static void ref_attention(const ft_call *k, int64_t b, int64_t e, void *s)
{
    query x;
    (void)b, (void)e, (void)s;
    for (int64_t t = 0; t < k->batch->n_tokens; t++) {
        for (int64_t h = 0; h < (int64_t)k->attr[HEADS]; h++) {
            open_query(&x, k, 0, 3, t, h);
            double lse = log_sum(&x);
            put_output(&x, lse);
            ft_put(&k->out[1], t, h, lse);
        }
    }
}

/* What every gradient needs of one query: p_j, ds_j and D.  Inputs: do, q, k, v, o, lse, …. */
static double output_dot(const query *x)
{
    double d = 0;
    for (int64_t c = 0; c < x->hd; c++)
        d += ft_get(&x->k->in[0], x->t, x->h * x->hd + c) *
             ft_get(&x->k->in[4], x->t, x->h * x->hd + c);
    return d;
}

static double weight(const query *x, int64_t j, double *ds)
{
    double slope, p = exp(score(x, j, &slope) - ft_get(&x->k->in[5], x->t, x->h)), dp = 0;
    for (int64_t c = 0; c < x->hd; c++)
        dp += ft_get(&x->k->in[0], x->t, x->h * x->hd + c) * value_of(x, j, c);
    *ds = p * (dp - output_dot(x)) * slope * x->k->attr[SCALE];
    return p;
}

static void zero(const ft_call *k, const ft_arg *a)
{
    for (int64_t r = 0; r < ft_rows(k, a); r++) {
        for (int64_t c = 0; c < a->cols; c++) ft_put(a, r, c, 0);
    }
}

static void add(const ft_arg *a, int64_t r, int64_t c, double v)
{
    ft_put(a, r, c, ft_get(a, r, c) + v);
}

/* Adds the gradients of every query's keys and values: of tokens (extra false) or of the extra
 * ones. */
static void send_back(const ft_call *k, const ft_arg *dq, const ft_arg *dk, const ft_arg *dv,
                      bool extra)
{
    query x;
    for (int64_t t = 0; t < k->batch->n_tokens; t++) {
        for (int64_t h = 0; h < (int64_t)k->attr[HEADS]; h++) {
            open_query(&x, k, 1, 6, t, h);
            for (int64_t j = 0; j < n_keys(&x); j++) {
                double ds, p = weight(&x, j, &ds);
                bool here = (j < x.n_extra) == extra;
                int64_t row = extra ? j : x.first + j - x.n_extra;
                for (int64_t c = 0; c < x.hd; c++) {
                    if (dq) add(dq, t, h * x.hd + c, ds * key_of(&x, j, c));
                    if (dk && here)
                        add(dk, row, x.kv * x.hd + c, ds * ft_get(x.q, t, h * x.hd + c));
                    if (dv && here)
                        add(dv, row, x.kv * x.hd + c, p * ft_get(&k->in[0], t, h * x.hd + c));
                }
            }
        }
    }
}

static void ref_attention_dx(const ft_call *k, int64_t b, int64_t e, void *s)
{
    (void)b, (void)e, (void)s;
    for (int i = 0; i < 3; i++) zero(k, &k->out[i]);
    send_back(k, &k->out[0], &k->out[1], &k->out[2], false);
}

static void ref_attention_dek(const ft_call *k, int64_t b, int64_t e, void *s)
{
    (void)b, (void)e, (void)s;
    if (!k->accumulate) zero(k, &k->out[0]);
    send_back(k, NULL, &k->out[0], NULL, true);
}

static void ref_attention_dev(const ft_call *k, int64_t b, int64_t e, void *s)
{
    (void)b, (void)e, (void)s;
    if (!k->accumulate) zero(k, &k->out[0]);
    send_back(k, NULL, NULL, &k->out[0], true);
}

static void ref_attention_dsinks(const ft_call *k, int64_t b, int64_t e, void *s)
{
    query x;
    (void)b, (void)e, (void)s;
    if (!k->accumulate) zero(k, &k->out[0]);
    for (int64_t t = 0; t < k->batch->n_tokens; t++) {
        for (int64_t h = 0; h < (int64_t)k->attr[HEADS]; h++) {
            open_query(&x, k, 1, 6, t, h);
            double p = exp(ft_get(x.sinks, 0, h) - ft_get(&k->in[5], t, h));
            add(&k->out[0], 0, h, -p * output_dot(&x));
        }
    }
}

/* Generation: the keys and values of a document lie in its slot; those of this batch are there
 * already (cache).  Inputs: q, k, v, K, V, …. */
static void ref_attention_cached(const ft_call *k, int64_t b, int64_t e, void *s)
{
    const ft_batch *bt = k->batch;
    query x;
    (void)b, (void)e, (void)s;
    for (int64_t d = 0; d < bt->n_docs; d++) {
        for (int64_t t = bt->doc_start[d]; t < bt->doc_start[d + 1]; t++) {
            for (int64_t h = 0; h < (int64_t)k->attr[HEADS]; h++) {
                open_query(&x, k, 0, 5, t, h);
                int64_t slot = bt->slot[d] * bt->slot_tokens, window = (int64_t)k->attr[WINDOW];
                x.key = &k->in[3];
                x.value = &k->in[4];
                x.last = slot + bt->cached[d] + t - bt->doc_start[d];
                x.first = window > 0 && x.last - window + 1 > slot ? x.last - window + 1 : slot;
                put_output(&x, log_sum(&x));
            }
        }
    }
}

#define REF(name, fn) { .size = sizeof(ft_kernel), .op = name, .items = one_item, .run = fn }
static const ft_kernel references[] = {
    REF("attention", ref_attention), REF("attention_dx", ref_attention_dx),
    REF("attention_dsinks", ref_attention_dsinks), REF("attention_dek", ref_attention_dek),
    REF("attention_dev", ref_attention_dev), REF("attention_cached", ref_attention_cached),
};
FT_REFERENCE(attention, references)
#endif
