/* linear_dw.c -- linear_dw: W = dy^T x, summed over the rows of the batch.
 *
 * Rows are summed in blocks (ft_next_block), each from zero, added to the result in order.  The
 * wider of the two operands makes the panels, the narrower the left side of the tiles: with LoRA
 * that is the rank.  A product of two numbers does not depend on their order, so neither does the
 * result. */
#include "gemm.h"

/* Columns of the left operand an item takes at most; room for a panel of a block. */
enum { LEFT = 256, PANEL_BYTES = FT_TOKEN_BLOCK * GEMM_N * 4 };

/* ---- reference ------------------------------------------------------------------------------- */
#ifdef FT_ISA_plain
static void ref_linear_dw(const ft_call *k, int64_t b, int64_t e, void *s)
{
    const ft_arg *dy = &k->in[0], *x = &k->in[1];
    (void)b, (void)e, (void)s;
    for (int64_t n = 0; n < dy->cols; n++) {
        for (int64_t c = 0; c < x->cols; c++) {
            double sum = 0;
            for (int64_t t = 0; t < ft_rows(k, x); t++) sum += ft_get(dy, t, n) * ft_get(x, t, c);
            ft_sum_into(k, n, c, sum);
        }
    }
}
#endif

/* ---- fast ------------------------------------------------------------------------------------ */

typedef struct {
    const ft_arg *left, *right; /* left gives rows of the tile, right the panels */
    bool swapped;               /* left is x: the tile is the transpose of a part of W */
    int64_t chunks, panels, group; /* chunks of LEFT columns; panels an item, in pairs */
} split;

static split split_of(const ft_call *k)
{
    split s = { &k->in[0], &k->in[1], false, 0, 0, 1 };
    if (s.left->cols > s.right->cols) s = (split){ &k->in[1], &k->in[0], true, 0, 0, 1 };
    s.chunks = (s.left->cols + LEFT - 1) / LEFT;
    s.panels = (s.right->cols + GEMM_N - 1) / GEMM_N;
    s.group = s.panels * s.chunks / (8 * (int64_t)k->threads) / 2 * 2;
    if (s.group < 2) s.group = 2;
    return s;
}

static int64_t dw_items(const ft_call *k)
{
    split s = split_of(k);
    return s.chunks * ((s.panels + s.group - 1) / s.group);
}

typedef struct { char *left, *panel, *tmp; float *sum; size_t bytes; } layout;

static layout lay_out(void *scratch)
{
    enum { BLOCK = FT_TOKEN_BLOCK };
    layout l = { .left = (char *)scratch };
    l.panel = l.left + BLOCK * LEFT * 4;
    l.tmp = l.panel + 2 * PANEL_BYTES;
    l.sum = (float *)(void *)(l.tmp + (BLOCK + 1) * LEFT * 4);
    l.bytes = (size_t)((char *)(l.sum + LEFT * GEMM_WIDE) - (char *)scratch);
    return l;
}

static size_t dw_scratch(const ft_call *k)
{
    (void)k;
    return lay_out(NULL).bytes;
}

/* The left operand's columns c0 … for a block. */
static gemm_a pack_left(const layout *l, const ft_arg *a, ft_block b, int64_t c0, int64_t nc,
                        ft_dtype t)
{
    int64_t rows = b.end - b.begin;
    if (!a->packed && a->dtype == t) {
        const char *from = (const char *)a->data + (b.begin * a->ld + c0) * (t == FT_BF16 ? 2 : 4);
        return FT_NAME(gemm_pack_left)(l->left, from, a->ld, rows, nc, t);
    }
    FT_NAME(gemm_fetch)(l->tmp, nc, a, b.begin, rows, c0, nc, t);
    return FT_NAME(gemm_pack_left)(l->left, l->tmp, nc, rows, nc, t);
}

/* Adds the tile's sums to the gradient. */
static void add_sums(const ft_call *k, const layout *l, const split *s, int64_t c0, int64_t nc,
                     int64_t col)
{
    const ft_arg *w = &k->out[0];
    int64_t m = s->right->cols - col < GEMM_WIDE ? s->right->cols - col : GEMM_WIDE;
    for (int64_t i = 0; i < nc; i++) {
        const float *from = l->sum + i * GEMM_WIDE;
        if (!s->swapped) {
            float *to = (float *)w->data + (c0 + i) * w->ld + col;
            for (int64_t j = 0; j < m; j += 16)
                v_out(to, FT_F32, j, m - j, v_add(v_in(to, FT_F32, j, m - j), v_load(from + j)));
        } else {
            for (int64_t j = 0; j < m; j++)
                ((float *)w->data)[(col + j) * w->ld + c0 + i] += from[j];
        }
    }
}

/* The part of W that an item covers starts from zero unless the call accumulates. */
static void clear(const ft_call *k, const split *s, int64_t c0, int64_t nc, int64_t col, int64_t n)
{
    const ft_arg *w = &k->out[0];
    int64_t r0 = s->swapped ? col : c0, nr = s->swapped ? n : nc, f0 = s->swapped ? c0 : col,
            nf = s->swapped ? nc : n;
    for (int64_t r = 0; r < nr && !k->accumulate; r++)
        memset((float *)w->data + (r0 + r) * w->ld + f0, 0, (size_t)nf * 4);
}

__attribute__((always_inline)) static inline void linear_dw(const ft_call *k, int64_t begin,
                                                            int64_t end, void *scratch, ft_dtype t)
{
    layout l = lay_out(scratch);
    split s = split_of(k);
    int64_t groups = (s.panels + s.group - 1) / s.group;
    for (int64_t item = begin; item < end; item++) {
        int64_t c0 = item / groups * LEFT, p0 = item % groups * s.group;
        int64_t nc = s.left->cols - c0 < LEFT ? s.left->cols - c0 : LEFT;
        int64_t p1 = p0 + s.group < s.panels ? p0 + s.group : s.panels;
        int64_t last = p1 * GEMM_N < s.right->cols ? p1 * GEMM_N : s.right->cols;
        clear(k, &s, c0, nc, p0 * GEMM_N, last - p0 * GEMM_N);
        for (ft_block b = { 0 }; ft_next_block(k, s.left, &b);) {
            gemm_a a = pack_left(&l, s.left, b, c0, nc, t);
            for (int64_t p = p0; p < p1; p += 2) {
                int64_t col = p * GEMM_N, m = last - col < GEMM_WIDE ? last - col : GEMM_WIDE;
                for (int64_t j = 0; j < m; j += GEMM_N)
                    FT_NAME(gemm_pack_cols)(l.panel + j / GEMM_N * PANEL_BYTES, s.right, b.begin,
                        b.end - b.begin, col + j, t, l.tmp);
                FT_NAME(gemm_first)(l.sum, GEMM_WIDE, a, (gemm_b){ l.panel, PANEL_BYTES, m }, nc,
                    gemm_steps(t, b.end - b.begin), t);
                add_sums(k, &l, &s, c0, nc, col);
            }
        }
    }
}

static void linear_dw_f32(const ft_call *k, int64_t b, int64_t e, void *s)
{
    linear_dw(k, b, e, s, FT_F32);
}
static void linear_dw_bf16(const ft_call *k, int64_t b, int64_t e, void *s)
{
    linear_dw(k, b, e, s, FT_BF16);
}

static const ft_kernel kernels[] = {
    { .size = sizeof(ft_kernel),
      .op = "linear_dw",
      .dtype = FT_F32,
      .scratch = dw_scratch,
      .items = dw_items,
      .run = linear_dw_f32 },
    { .size = sizeof(ft_kernel),
      .op = "linear_dw",
      .dtype = FT_BF16,
      .scratch = dw_scratch,
      .items = dw_items,
      .run = linear_dw_bf16 },
};
FT_TABLE(linear_dw, kernels)

#ifdef FT_ISA_plain
static const ft_kernel references[] = {
    { .size = sizeof(ft_kernel),
      .op = "linear_dw",
      .dtype = FT_NO_DTYPE,
      .items = one_item,
      .run = ref_linear_dw },
};
FT_REFERENCE(linear_dw, references)
#endif
