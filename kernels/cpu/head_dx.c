/* head_dx.c -- rounds 2 and 3 of the head (head.c): from the z of a group of rows to dx and dW. */
#include "head.h"

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

int64_t FT_NAME(head_dx_items)(const engine *e)
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

void FT_NAME(head_dx)(const engine *e, const layout *l, int op, int64_t item)
{
    dx_part part = dx_part_of(e, item);
    const ft_arg *dx = &e->k->out[op == XENT ? 2 + part.i : part.i], *w = &e->in[2 * part.i + 1];
    int64_t rows = n_rows(e), col = part.first * GEMM_N, ld = (part.last - part.first) * GEMM_N;
    gemm_b b = { l->panel, l->panels, dx->cols - col < ld ? dx->cols - col : ld };
    memset(l->sum, 0, (size_t)(rows * ld) * sizeof *l->sum);
    for (int64_t chunk = 0; chunk < e->chunks; chunk++) {
        int64_t n = columns_of(e, chunk);
        gemm_a z = { logit_row(e, chunk, 0), (CHUNK + PAD) * e->size, 4 };
        for (int64_t j = 0; j < b.n; j += GEMM_N)
            FT_NAME(gemm_pack_cols)(l->panel + j / GEMM_N * l->panels, w, chunk * CHUNK, n, col + j,
                e->t, l->tmp);
        FT_NAME(gemm_tile)(l->sum, ld, z, b, rows, gemm_steps(e->t, n), e->t);
    }
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t j = 0; j < b.n; j += 16)
            v_out(ft_row(dx, e->rows.begin + r), e->t, col + j, b.n - j,
                  v_load(l->sum + r * ld + j));
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

int64_t FT_NAME(head_dw_items)(const engine *e, int op)
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

void FT_NAME(head_dw)(const engine *e, const layout *l, int op, int64_t item)
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
        for (int64_t col = 0; col < dw->cols; col += WIDTH) {
            int64_t m = dw->cols - col < WIDTH ? dw->cols - col : WIDTH;
            for (int64_t j = 0; j < m; j += GEMM_N)
                FT_NAME(gemm_pack_cols)(l->panel + j / GEMM_N * l->panels, x, b.begin,
                    b.end - b.begin, col + j, e->t, l->tmp);
            FT_NAME(gemm_first)(l->sum, WIDTH, a, (gemm_b){ l->panel, l->panels, m }, nv,
                gemm_steps(e->t, b.end - b.begin), e->t);
            for (int64_t v = 0; v < nv; v++) {
                float *to = (float *)dw->data + (v0 + v) * dw->ld + col;
                for (int64_t j = 0; j < m; j += 16)
                    v_out(to, FT_F32, j, m - j,
                          v_add(v_in(to, FT_F32, j, m - j), v_load(l->sum + v * WIDTH + j)));
            }
        }
    }
}
