/* head.c -- the head of a language model: linear_logprob, linear_xent, linear_logprob_dx,
 * linear_logprob_dw.
 *
 *   l = sum_i x_i W_i^T + bias, softcapped, rounded to the compute dtype        (rows, vocab)
 *   lse = log sum e^l     logprob = l_target - lse     hit = (no logit is greater than l_target)
 *   z = c (e^(l - lse) - onehot) (1 - (l/cap)^2),   c = -coef * loss_scale, or the row's own -dlp
 *   dx_i = z W_i          dW_i = z^T x_i          dbias = sum of z
 *
 * The logits never exist whole: rows are taken in groups of whole blocks (ft_next_block), at most
 * GROUP rows, and for each group the rounds are
 *   0  logits of CHUNK columns an item, with their maximum and sum of exponentials
 *   1  a row an item: lse, outputs, and z in place of the logits
 *   2  dx: PANELS times 32 columns an item at most       3  dW: LEFT rows of W an item
 * A group's logits lie chunk by chunk, each row of a chunk padded so that rows do not share cache
 * sets.  Sums over the vocabulary run over chunks in order. */
#include "gemm.h"

enum { TERMS, BIAS, CAP, COEF, TERM };
enum { GROUP = FT_TOKEN_BLOCK, CHUNK = 1024, PAD = 32, STRIP = 56, LEFT = 256 };
/* Panels of dx in an item at most: they meet a chunk of z while it is in the second-level cache. */
enum { PANELS = 4 };

static int terms_of(const ft_call *k) { return (int)k->attr[TERMS]; }

/* ---- reference ------------------------------------------------------------------------------- */
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

/* ---- fast ------------------------------------------------------------------------------------ */

typedef struct { float greatest, sum; } stat; /* of one row in one chunk */

/* One call, opened: its inputs, its group of rows in this round, and its shared memory. */
typedef struct {
    const ft_call *k;
    const ft_arg *in, *bias, *dlp, *lse;
    int terms;
    ft_dtype t;
    int64_t vocab, chunks, size; /* size: bytes of a logit */
    ft_block rows;               /* the group */
    int phase;
    char *logits;
    stat *stats;                 /* [GROUP][chunks] */
} engine;

enum { LOGITS, ROWS, DX, DW, N_PHASES };

/* The phases of an op, and whether dlp and lse are given. */
typedef struct { const char *op; bool given; int n; int phase[N_PHASES]; } recipe;
static const recipe recipes[] = {
    { "linear_logprob", false, 2, { LOGITS, ROWS } },
    { "linear_xent", false, 4, { LOGITS, ROWS, DX, DW } },
    { "linear_logprob_dx", true, 3, { LOGITS, ROWS, DX } },
    { "linear_logprob_dw", true, 3, { LOGITS, ROWS, DW } },
};
enum { LOGPROB, XENT, LOGPROB_DX, LOGPROB_DW };

static const ft_arg *inputs_of(const ft_call *k, int op)
{
    return k->in + (recipes[op].given ? 2 : 0);
}

/* The rows of group g: whole blocks, at most GROUP rows; false when there are fewer groups. */
static bool group_at(const ft_call *k, const ft_arg *x, int64_t g, ft_block *out)
{
    ft_block b = { 0 }, ahead;
    for (int64_t i = -1; i < g; i++) {
        ahead = b;
        if (!ft_next_block(k, x, &ahead)) return false;
        int64_t begin = ahead.begin;
        do b = ahead;
        while (ft_next_block(k, x, &ahead) && ahead.end - begin <= GROUP);
        *out = (ft_block){ begin, b.end, 0 };
    }
    return true;
}

/* Where no row is trained, dW is still cleared. */
static int64_t rounds_of(const ft_call *k, int op)
{
    ft_block b;
    int64_t n = 0;
    while (group_at(k, &inputs_of(k, op)[0], n, &b)) n++;
    if (n == 0 && op == LOGPROB_DW) n = 1;
    return n * recipes[op].n;
}

static int64_t chunk_bytes(int64_t size) { return GROUP * (CHUNK + PAD) * size; }

static size_t shared_bytes(const ft_call *k, int op, ft_dtype t)
{
    int64_t chunks = (inputs_of(k, op)[1].rows + CHUNK - 1) / CHUNK;
    return (size_t)(chunks * chunk_bytes(t == FT_BF16 ? 2 : 4) +
                    GROUP * chunks * (int64_t)sizeof(stat));
}

static engine open_engine(const ft_call *k, int op, ft_dtype t)
{
    const recipe *r = &recipes[op];
    engine e = {
        .k = k, .in = inputs_of(k, op), .terms = terms_of(k), .t = t, .size = t == FT_BF16 ? 2 : 4
    };
    if (r->given) e.dlp = &k->in[0], e.lse = &k->in[1];
    if (k->attr[BIAS] != 0) e.bias = &e.in[2 * e.terms];
    e.vocab = e.in[1].rows;
    e.chunks = (e.vocab + CHUNK - 1) / CHUNK;
    e.phase = r->phase[k->round % r->n];
    e.logits = (char *)k->shared;
    e.stats = (stat *)(void *)(e.logits + e.chunks * chunk_bytes(e.size));
    group_at(k, &e.in[0], k->round / r->n, &e.rows);
    return e;
}

static int64_t n_rows(const engine *e) { return e->rows.end - e->rows.begin; }
static int64_t columns_of(const engine *e, int64_t chunk)
{
    return e->vocab - chunk * CHUNK < CHUNK ? e->vocab - chunk * CHUNK : CHUNK;
}
static char *logit_row(const engine *e, int64_t chunk, int64_t row)
{
    return e->logits + chunk * chunk_bytes(e->size) + row * (CHUNK + PAD) * e->size;
}

/* Scratch: panels of all terms (of CHUNK steps for dx), room for packing, a strip or group of
 * sums. */
typedef struct { char *panel, *tmp, *left; float *sum; size_t bytes; } layout;

static layout lay_out(const ft_call *k, int op, ft_dtype t, void *scratch)
{
    layout l = { .panel = (char *)scratch };
    int64_t panels = 0, longest = CHUNK;
    for (int i = 0; i < terms_of(k); i++) {
        int64_t c = inputs_of(k, op)[2 * i].cols;
        panels += gemm_panel_bytes(t, c);
        if (c > longest) longest = c;
    }
    if (panels < gemm_panel_bytes(t, CHUNK)) panels = gemm_panel_bytes(t, CHUNK);
    l.tmp = l.panel + panels;
    l.left = l.tmp + gemm_pack_bytes(longest);
    int64_t left = FT_TOKEN_BLOCK * LEFT * 4, strip = STRIP * (longest + 1) * 4;
    l.sum = (float *)(void *)(l.left + ((left > strip ? left : strip) + 63) / 64 * 64);
    l.bytes = (size_t)((char *)(l.sum + PANELS * GROUP * GEMM_N) - (char *)scratch);
    return l;
}

/* ---- round 0: logits of one chunk ------------------------------------------------------------ */

/* n rows of x from r on as steps of the compute dtype. */
static gemm_a left_rows(const engine *e, const layout *l, int i, int64_t r, int64_t n)
{
    const ft_arg *x = &e->in[2 * i];
    bool odd = e->t == FT_BF16 && x->cols % 2;
    if (!odd) return (gemm_a){ (const char *)x->data + r * x->ld * e->size, x->ld * e->size, 4 };
    FT_NAME(gemm_fetch)(l->left, x->cols + 1, x, r, n, 0, x->cols, e->t);
    for (int64_t j = 0; j < n; j++) ((uint16_t *)(void *)l->left)[j * (x->cols + 1) + x->cols] = 0;
    return (gemm_a){ l->left, (x->cols + 1) * 2, 4 };
}

/* Sums of one panel become logits: bias, softcap, rounding. */
static void store_logits(const engine *e, const layout *l, int64_t r, int64_t n, int64_t chunk,
                         int64_t col)
{
    float cap = (float)e->k->attr[CAP];
    int64_t m = columns_of(e, chunk) - col;
    for (int64_t j = 0; j < GEMM_N && j < m; j += 16) {
        v16 b = e->bias ? v_in((const float *)e->bias->data + chunk * CHUNK + col, FT_F32, j, m - j)
                        : v_zero();
        for (int64_t i = 0; i < n; i++) {
            v16 x = v_add(v_load(l->sum + i * GEMM_N + j), b);
            if (cap > 0) x = v_mul(v_set(cap), v_tanh(v_div(x, v_set(cap))));
            v_out(logit_row(e, chunk, r + i), e->t, col + j, m - j, x);
        }
    }
}

/* Columns past the vocabulary up to a whole vector count as minus infinity. */
static void measure_row(const engine *e, int64_t chunk, int64_t row)
{
    char *p = logit_row(e, chunk, row);
    int64_t n = columns_of(e, chunk);
    for (int64_t i = n; i % 16; i++) v_put_n(p, e->t, i, v_set(-INFINITY), 1);
    v16 m = v_set(-INFINITY), s = v_zero();
    for (int64_t i = 0; i < n; i += 16) m = v_max(m, v_get(p, e->t, i));
    float greatest = v_greatest(m);
    for (int64_t i = 0; i < n; i += 16)
        s = v_add(s, v_exp(v_sub(v_get(p, e->t, i), v_set(greatest))));
    e->stats[row * e->chunks + chunk] = (stat){ greatest, v_sum(s) };
}

static void make_logits(const engine *e, const layout *l, int64_t chunk)
{
    for (int64_t col = 0; col < columns_of(e, chunk); col += GEMM_N) {
        char *panel = l->panel;
        for (int i = 0; i < e->terms; i++) {
            const ft_arg *w = &e->in[2 * i + 1];
            FT_NAME(gemm_pack_rows)(panel, w, chunk * CHUNK + col, 0, w->cols, e->t, l->tmp);
            panel += gemm_panel_bytes(e->t, w->cols);
        }
        for (int64_t r = 0, n; r < n_rows(e); r += n) {
            n = n_rows(e) - r < STRIP ? n_rows(e) - r : STRIP;
            memset(l->sum, 0, (size_t)n * GEMM_N * sizeof *l->sum);
            panel = l->panel;
            for (int i = 0; i < e->terms; i++) {
                int64_t c = e->in[2 * i].cols;
                FT_NAME(gemm_tile)(l->sum, GEMM_N, left_rows(e, l, i, e->rows.begin + r, n), panel,
                    n,
                 gemm_steps(e->t, c), e->t);
                panel += gemm_panel_bytes(e->t, c);
            }
            store_logits(e, l, r, n, chunk, col);
        }
    }
    for (int64_t r = 0; r < n_rows(e); r++) measure_row(e, chunk, r);
}

/* ---- round 1: one row ------------------------------------------------------------------------ */

static float one_log(float x)
{
    float y[16];
    v_store(y, v_log(v_set(x)));
    return y[0];
}

static float one_exp(float x)
{
    float y[16];
    v_store(y, v_exp(v_set(x)));
    return y[0];
}

static float row_lse(const engine *e, int64_t row, float *greatest)
{
    const stat *s = e->stats + row * e->chunks;
    float m = s[0].greatest, sum = 0;
    for (int64_t c = 1; c < e->chunks; c++) m = s[c].greatest > m ? s[c].greatest : m;
    for (int64_t c = 0; c < e->chunks; c++) sum += s[c].sum * one_exp(s[c].greatest - m);
    *greatest = m;
    return m + one_log(sum);
}

static float logit_of(const engine *e, int64_t row, int64_t v)
{
    ft_arg a = {
        .data = logit_row(e, v / CHUNK, row), .rows = 1, .cols = CHUNK, .ld = CHUNK, .dtype = e->t
    };
    return (float)ft_get(&a, 0, v % CHUNK);
}

/* z of one chunk of a row in place of its logits; an odd last column is followed by a zero. */
static void make_z(const engine *e, int64_t chunk, int64_t row, float lse, float c, int64_t target)
{
    char *p = logit_row(e, chunk, row);
    int64_t n = columns_of(e, chunk), hot = target - chunk * CHUNK;
    float cap = (float)e->k->attr[CAP], lane[16];
    for (int64_t i = 0; i < n; i += 16) {
        v16 l = v_get(p, e->t, i), prob = v_exp(v_sub(l, v_set(lse))), slope = v_set(1);
        if (cap > 0) {
            v16 u = v_div(l, v_set(cap));
            slope = v_fma(v_sub(v_zero(), u), u, slope);
        }
        if (hot >= i && hot < i + 16) {
            v_store(lane, prob);
            lane[hot - i] -= 1;
            prob = v_load(lane);
        }
        if (cap > 0 && i + 16 > n) { /* minus infinity has no slope */
            v_store(lane, v_mul(prob, slope));
            for (int64_t j = n - i; j < 16; j++) lane[j] = 0;
            v_put(p, e->t, i, v_mul(v_set(c), v_load(lane)));
        } else {
            v_put(p, e->t, i, v_mul(v_set(c), v_mul(prob, slope)));
        }
    }
}

static void finish_row(const engine *e, int op, int64_t row)
{
    const ft_call *k = e->k;
    int64_t r = e->rows.begin + row, target = k->batch->target[r];
    float greatest = 0,
          lse = e->lse ? ((const float *)e->lse->data)[r] : row_lse(e, row, &greatest);
    if (!e->lse) {
        float l = logit_of(e, row, target);
        ((float *)k->out[0].data)[r] = l - lse;
        ((float *)k->out[1].data)[r] = l >= greatest;
        if (op == LOGPROB) ((float *)k->out[2].data)[r] = lse;
    }
    if (op == LOGPROB) return;
    float c = e->dlp ? -((const float *)e->dlp->data)[r]
                     : -(float)k->attr[COEF] * k->batch->loss_scale;
    for (int64_t chunk = 0; chunk < e->chunks; chunk++) make_z(e, chunk, row, lse, c, target);
}

/* ---- round 2: columns of dx ------------------------------------------------------------------ */

static int64_t dx_panels(const engine *e, int i)
{
    return (e->in[2 * i].cols + GEMM_N - 1) / GEMM_N;
}

/* Items of term i: few enough panels each that every thread has some. */
static int64_t dx_groups(const engine *e, int i)
{
    int64_t n = dx_panels(e, i), group = n / (3 * (int64_t)e->k->threads);
    group = group > PANELS ? PANELS : group < 1 ? 1 : group;
    return (n + group - 1) / group;
}

static int64_t dx_items(const engine *e)
{
    int64_t n = 0;
    for (int i = 0; i < e->terms; i++) n += dx_groups(e, i);
    return n;
}

/* Panels first … last-1 of term i. */
typedef struct { int i; int64_t first, last; } dx_part;

static dx_part dx_part_of(const engine *e, int64_t item)
{
    int i = 0;
    for (; item >= dx_groups(e, i); i++) item -= dx_groups(e, i);
    int64_t groups = dx_groups(e, i), n = dx_panels(e, i);
    return (dx_part){ i, item * n / groups, (item + 1) * n / groups };
}

/* Sums of the panels lie one after the other, each for the rows of the group. */
static void make_dx(const engine *e, const layout *l, int op, int64_t item)
{
    dx_part part = dx_part_of(e, item);
    int64_t rows = n_rows(e), size = rows * GEMM_N;
    const ft_arg *dx = &e->k->out[op == XENT ? 2 + part.i : part.i];
    memset(l->sum, 0, (size_t)((part.last - part.first) * size) * sizeof *l->sum);
    for (int64_t chunk = 0; chunk < e->chunks; chunk++) {
        int64_t n = columns_of(e, chunk);
        gemm_a z = { logit_row(e, chunk, 0), (CHUNK + PAD) * e->size, 4 };
        for (int64_t p = part.first; p < part.last; p++) {
            FT_NAME(gemm_pack_cols)(l->panel, &e->in[2 * part.i + 1], chunk * CHUNK, n, p * GEMM_N,
                e->t, l->tmp);
            FT_NAME(gemm_tile)(l->sum + (p - part.first) * size, GEMM_N, z, l->panel, rows,
                gemm_steps(e->t, n), e->t);
        }
    }
    for (int64_t p = part.first; p < part.last; p++) {
        const float *sum = l->sum + (p - part.first) * size;
        int64_t col = p * GEMM_N, m = dx->cols - col;
        for (int64_t r = 0; r < rows; r++) {
            for (int64_t j = 0; j < GEMM_N && j < m; j += 16)
                v_out(ft_row(dx, e->rows.begin + r), e->t, col + j, m - j,
                      v_load(sum + r * GEMM_N + j));
        }
    }
}

/* ---- round 3: LEFT rows of one dW ------------------------------------------------------------ */

/* Index of the n-th trained weight (terms, then the bias), or -1. */
static int trained_weight(const engine *e, int op, int n)
{
    if (op == LOGPROB_DW) return n == 0 ? (int)e->k->attr[TERM] : -1;
    for (int i = 0; i <= e->terms; i++) {
        if (((int)e->k->attr[TERM] >> i & 1) && n-- == 0) return i;
    }
    return -1;
}

static int64_t dw_items(const engine *e, int op)
{
    int n = 0;
    while (trained_weight(e, op, n) >= 0) n++;
    return n * ((e->vocab + LEFT - 1) / LEFT);
}

static void add_bias_gradient(const engine *e, const ft_arg *dw, ft_block b, int64_t v0, int64_t nv)
{
    for (int64_t j = 0; j < nv; j += 16) {
        float *to = (float *)dw->data + v0 + j;
        v16 sum = v_zero();
        for (int64_t r = b.begin; r < b.end; r++)
            sum = v_add(sum, v_in(logit_row(e, v0 / CHUNK, r - e->rows.begin), e->t, v0 % CHUNK + j,
                                  nv - j));
        v_out(to, FT_F32, 0, nv - j, v_add(v_in(to, FT_F32, 0, nv - j), sum));
    }
}

static void make_dw(const engine *e, const layout *l, int op, int64_t item)
{
    int64_t parts = (e->vocab + LEFT - 1) / LEFT, v0 = item % parts * LEFT,
            nv = e->vocab - v0 < LEFT ? e->vocab - v0 : LEFT;
    int n = (int)(item / parts), i = trained_weight(e, op, n);
    const ft_arg *dw = &e->k->out[op == XENT ? 2 + e->terms + n : 0], *x = &e->in[2 * i];
    bool clear = op == LOGPROB_DW && !e->k->accumulate && e->rows.begin == 0;
    for (int64_t r = 0; clear && r < (i == e->terms ? 1 : nv); r++)
        memset((float *)dw->data + (i == e->terms ? v0 : (v0 + r) * dw->ld), 0,
               (size_t)(i == e->terms ? nv : dw->cols) * 4);
    ft_block b = { 0 };
    while (ft_next_block(e->k, &e->in[0], &b)) {
        if (b.begin < e->rows.begin || b.begin >= e->rows.end) continue;
        if (i == e->terms) {
            add_bias_gradient(e, dw, b, v0, nv);
            continue;
        }
        const char *z = logit_row(e, v0 / CHUNK, b.begin - e->rows.begin) + v0 % CHUNK * e->size;
        gemm_a a = FT_NAME(gemm_pack_left)(l->left, z, CHUNK + PAD, b.end - b.begin, nv, e->t);
        for (int64_t col = 0; col < dw->cols; col += GEMM_N) {
            int64_t m = dw->cols - col;
            FT_NAME(gemm_pack_cols)(l->panel, x, b.begin, b.end - b.begin, col, e->t, l->tmp);
            memset(l->sum, 0, (size_t)nv * GEMM_N * sizeof *l->sum);
            FT_NAME(gemm_tile)(l->sum, GEMM_N, a, l->panel, nv, gemm_steps(e->t, b.end - b.begin),
                e->t);
            for (int64_t v = 0; v < nv; v++) {
                float *to = (float *)dw->data + (v0 + v) * dw->ld + col;
                for (int64_t j = 0; j < GEMM_N && j < m; j += 16)
                    v_out(to, FT_F32, j, m - j,
                          v_add(v_in(to, FT_F32, j, m - j), v_load(l->sum + v * GEMM_N + j)));
            }
        }
    }
}

/* ---- the rounds ------------------------------------------------------------------------------ */

static int64_t items_of(const ft_call *k, int op, ft_dtype t)
{
    engine e = open_engine(k, op, t);
    return e.phase == LOGITS ? e.chunks
           : e.phase == ROWS ? n_rows(&e)
           : e.phase == DX   ? dx_items(&e)
                             : dw_items(&e, op);
}

__attribute__((always_inline)) static inline void run(const ft_call *k, int64_t begin, int64_t end,
                                                      void *scratch, int op, ft_dtype t)
{
    engine e = open_engine(k, op, t);
    layout l = lay_out(k, op, t, scratch);
    for (int64_t i = begin; i < end; i++) {
        if (e.phase == LOGITS) make_logits(&e, &l, i);
        else if (e.phase == ROWS) finish_row(&e, op, i);
        else if (e.phase == DX) make_dx(&e, &l, op, i);
        else make_dw(&e, &l, op, i);
    }
}

#define OP(name, op, suffix, t)                                                           \
    static void name##_run_##suffix(const ft_call *k, int64_t b, int64_t e, void *s)      \
    {                                                                                     \
        run(k, b, e, s, op, t);                                                           \
    }                                                                                     \
    static int64_t name##_items_##suffix(const ft_call *k) { return items_of(k, op, t); } \
    static size_t name##_scratch_##suffix(const ft_call *k)                               \
    {                                                                                     \
        return lay_out(k, op, t, NULL).bytes;                                             \
    }                                                                                     \
    static size_t name##_shared_##suffix(const ft_call *k) { return shared_bytes(k, op, t); }
#define OPS(name, op)                                                             \
    OP(name, op, f32, FT_F32)                                                     \
    OP(name, op, bf16, FT_BF16)                                                   \
    static int64_t name##_rounds(const ft_call *k) { return rounds_of(k, op); }
OPS(logprob, LOGPROB)
OPS(xent, XENT)
OPS(logprob_dx, LOGPROB_DX)
OPS(logprob_dw, LOGPROB_DW)

#define ENTRY(name, text, suffix, t)                                                \
    {                                                                               \
        sizeof(ft_kernel), text, t, name##_scratch_##suffix, name##_items_##suffix, \
            name##_run_##suffix, name##_rounds, name##_shared_##suffix              \
    }
#define ENTRIES(name, text) ENTRY(name, text, f32, FT_F32), ENTRY(name, text, bf16, FT_BF16)
static const ft_kernel kernels[] = {
    ENTRIES(logprob, "linear_logprob"), ENTRIES(xent, "linear_xent"),
    ENTRIES(logprob_dx, "linear_logprob_dx"), ENTRIES(logprob_dw, "linear_logprob_dw"),
};
FT_TABLE(head, kernels)
