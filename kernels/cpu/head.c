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
#include "head.h"

/* The phases of an op, and whether dlp and lse are given. */
typedef struct { const char *op; bool given; int n; int phase[N_PHASES]; } recipe;
static const recipe recipes[] = {
    { "linear_logprob", false, 2, { LOGITS, ROWS } },
    { "linear_xent", false, 4, { LOGITS, ROWS, DX, DW } },
    { "linear_logprob_dx", true, 3, { LOGITS, ROWS, DX } },
    { "linear_logprob_dw", true, 3, { LOGITS, ROWS, DW } },
};

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

static layout lay_out(const ft_call *k, int op, ft_dtype t, void *scratch)
{
    layout l = { .panel = (char *)scratch };
    int64_t longest = CHUNK;
    for (int i = 0; i < terms_of(k); i++) {
        int64_t c = inputs_of(k, op)[2 * i].cols;
        l.panels += gemm_panel_bytes(t, c);
        if (c > longest) longest = c;
    }
    if (l.panels < gemm_panel_bytes(t, CHUNK)) l.panels = gemm_panel_bytes(t, CHUNK);
    l.tmp = l.panel + PANELS * l.panels;
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

/* Sums of PANELS panels become logits: bias, softcap, rounding. */
static void store_logits(const engine *e, const layout *l, int64_t r, int64_t n, int64_t chunk,
                         int64_t col)
{
    float cap = (float)e->k->attr[CAP];
    int64_t m = columns_of(e, chunk) - col;
    for (int64_t j = 0; j < WIDTH && j < m; j += 16) {
        v16 b = e->bias ? v_in((const float *)e->bias->data + chunk * CHUNK + col, FT_F32, j, m - j)
                        : v_zero();
        for (int64_t i = 0; i < n; i++) {
            v16 x = v_add(v_load(l->sum + i * WIDTH + j), b);
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

/* Packs a panel of every term: columns col … of the chunk. */
static void pack_terms(const engine *e, const layout *l, char *panel, int64_t chunk, int64_t col)
{
    for (int i = 0; i < e->terms; i++) {
        const ft_arg *w = &e->in[2 * i + 1];
        FT_NAME(gemm_pack_rows)(panel, w, chunk * CHUNK + col, 0, w->cols, e->t, l->tmp);
        panel += gemm_panel_bytes(e->t, w->cols);
    }
}

static void make_logits(const engine *e, const layout *l, int64_t chunk)
{
    for (int64_t col = 0, nc = columns_of(e, chunk); col < nc; col += WIDTH) {
        int64_t width = nc - col < WIDTH ? nc - col : WIDTH;
        for (int64_t j = 0; j < width; j += GEMM_N)
            pack_terms(e, l, l->panel + j / GEMM_N * l->panels, chunk, col + j);
        for (int64_t r = 0, n; r < n_rows(e); r += n) {
            gemm_b b = { l->panel, l->panels, width };
            n = n_rows(e) - r < STRIP ? n_rows(e) - r : STRIP;
            for (int i = 0; i < e->terms; i++) {
                int64_t c = e->in[2 * i].cols, steps = gemm_steps(e->t, c);
                gemm_a a = left_rows(e, l, i, e->rows.begin + r, n);
                if (i == 0) FT_NAME(gemm_first)(l->sum, WIDTH, a, b, n, steps, e->t);
                else FT_NAME(gemm_tile)(l->sum, WIDTH, a, b, n, steps, e->t);
                b.panel = (const char *)b.panel + gemm_panel_bytes(e->t, c);
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

/* ---- the rounds ------------------------------------------------------------------------------ */

static int64_t items_of(const ft_call *k, int op, ft_dtype t)
{
    engine e = open_engine(k, op, t);
    return e.phase == LOGITS ? e.chunks
           : e.phase == ROWS ? n_rows(&e)
           : e.phase == DX   ? FT_NAME(head_dx_items)(&e)
                             : FT_NAME(head_dw_items)(&e, op);
}

__attribute__((always_inline)) static inline void run(const ft_call *k, int64_t begin, int64_t end,
                                                      void *scratch, int op, ft_dtype t)
{
    engine e = open_engine(k, op, t);
    layout l = lay_out(k, op, t, scratch);
    for (int64_t i = begin; i < end; i++) {
        if (e.phase == LOGITS) make_logits(&e, &l, i);
        else if (e.phase == ROWS) finish_row(&e, op, i);
        else if (e.phase == DX) FT_NAME(head_dx)(&e, &l, op, i);
        else FT_NAME(head_dw)(&e, &l, op, i);
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
