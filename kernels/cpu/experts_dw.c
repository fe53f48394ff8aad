/* experts_dw.c -- gradients of what each expert owns, summed over the tokens that chose it.
 *
 *   grouped_dw(dy, x, ids; experts, by_in)   W_e = sum dy_j^T x_j (out, in); by_in: its transpose
 *   grouped_db(dy, ids; experts)             b_e = sum dy_j
 *
 * Tokens are summed in the blocks of linear_dw (ft_next_block): of each block those that chose the
 * expert, from zero, added in order.  So the sums depend on the rows of the batch alone. */
#include "experts.h"

enum { LEFT = 128 }; /* rows of the result an item makes at most */
enum { DY, X, IDS };

typedef struct {
    const ft_arg *ids;
    int64_t experts, slots, rows, cols;
    const ft_arg *left, *right; /* what gives rows and columns of the result */
} sizes;

static sizes sizes_of(const ft_call *k)
{
    const ft_arg *w = &k->out[0];
    sizes s = { .ids = &k->in[IDS], .slots = k->in[IDS].cols, .cols = w->cols };
    bool by_in = k->attr[1] != 0;
    s.experts = (int64_t)k->attr[0];
    s.rows = w->rows / s.experts;
    s.left = &k->in[by_in ? X : DY];
    s.right = &k->in[by_in ? DY : X];
    return s;
}

/* ---- reference ------------------------------------------------------------------------------- */
#ifdef FT_ISA_plain
static double ref_at(const ft_arg *x, int64_t width, int64_t t, int64_t j, int64_t c)
{
    return ft_get(x, t, x->cols == width ? c : j * width + c);
}

static double ref_sum(const ft_call *k, const sizes *s, int64_t e, int64_t r, int64_t c)
{
    const int32_t *id = s->ids->data;
    double sum = 0;
    for (int64_t t = 0; t < ft_rows(k, s->ids); t++) {
        for (int64_t j = 0; j < s->slots; j++) {
            if (id[t * s->slots + j] == e)
                sum += ref_at(s->left, s->rows, t, j, r) * ref_at(s->right, s->cols, t, j, c);
        }
    }
    return sum;
}

static void ref_grouped_dw(const ft_call *k, int64_t b, int64_t e, void *scratch)
{
    sizes s = sizes_of(k);
    (void)b, (void)e, (void)scratch;
    for (int64_t r = 0; r < s.experts * s.rows; r++) {
        for (int64_t c = 0; c < s.cols; c++)
            ft_sum_into(k, r, c, ref_sum(k, &s, r / s.rows, r % s.rows, c));
    }
}

static void ref_grouped_db(const ft_call *k, int64_t b, int64_t e, void *scratch)
{
    const ft_arg *ids = &k->in[1], *w = &k->out[0];
    const int32_t *id = ids->data;
    (void)b, (void)e, (void)scratch;
    for (int64_t r = 0; r < w->rows; r++) {
        for (int64_t c = 0; c < w->cols; c++) {
            double sum = 0;
            for (int64_t i = 0; i < ft_rows(k, ids) * ids->cols; i++) {
                if (id[i] == r)
                    sum += ft_get(&k->in[0], i / ids->cols, i % ids->cols * w->cols + c);
            }
            ft_sum_into(k, r, c, sum);
        }
    }
}
#endif

/* ---- weights --------------------------------------------------------------------------------- */

typedef struct { char *rows, *left, *panel, *part, *tmp; float *sum; size_t bytes; } layout;

static layout lay_out(void *scratch)
{
    enum { BLOCK = FT_TOKEN_BLOCK };
    layout l = { .rows = (char *)scratch };
    l.left = l.rows + BLOCK * LEFT * 4;
    l.panel = l.left + (BLOCK + 1) * LEFT * 4;
    l.part = l.panel + BLOCK * GEMM_N * 4;
    l.tmp = l.part + BLOCK * GEMM_N * 4;
    l.sum = (float *)(void *)(l.tmp + BLOCK * GEMM_N * 4);
    l.bytes = (size_t)((char *)(l.sum + LEFT * GEMM_N) - (char *)scratch);
    return l;
}

static size_t dw_scratch(const ft_call *k)
{
    (void)k;
    return lay_out(NULL).bytes;
}

static size_t dw_shared(const ft_call *k)
{
    return expert_index_bytes(&k->in[IDS], (int64_t)k->attr[0]);
}

static int64_t chunks_of(const sizes *s) { return (s->rows + LEFT - 1) / LEFT; }

static int64_t dw_items(const ft_call *k)
{
    sizes s = sizes_of(k);
    return k->round == 0 ? 1 : s.experts * chunks_of(&s);
}

/* Columns c … c + n - 1 of m rows, one after the other. */
static void gather(char *to, const ft_arg *x, const sizes *s, int64_t width, const int32_t *row,
                   int64_t m, int64_t c, int64_t n, ft_dtype t)
{
    for (int64_t i = 0; i < m; i++)
        expert_fetch(to + i * n * (t == FT_BF16 ? 2 : 4), x, s->slots, width, row[i], c, n, t);
}

static void add_sums(float *to, const sizes *s, const float *sum, int64_t nr, int64_t n)
{
    for (int64_t i = 0; i < nr; i++, to += s->cols, sum += GEMM_N) {
        for (int64_t j = 0; j < n; j += 16)
            v_out(to, FT_F32, j, n - j, v_add(v_in(to, FT_F32, j, n - j), v_load(sum + j)));
    }
}

/* Adds the sums over m rows of one block to rows r0 … r0 + nr - 1 of the expert, which start at
 * to. */
__attribute__((always_inline)) static inline void add_block(float *to, const sizes *s,
                                                            const layout *l, const int32_t *row,
                                                            int64_t m, int64_t r0, int64_t nr,
                                                            ft_dtype t)
{
    gather(l->rows, s->left, s, s->rows, row, m, r0, nr, t);
    gemm_a a = FT_NAME(gemm_pack_left)(l->left, l->rows, nr, m, nr, t);
    for (int64_t c = 0; c < s->cols; c += GEMM_N) {
        int64_t n = s->cols - c < GEMM_N ? s->cols - c : GEMM_N;
        gather(l->part, s->right, s, s->cols, row, m, c, n, t);
        ft_arg part = { .data = l->part, .rows = m, .cols = n, .ld = n, .dtype = t };
        FT_NAME(gemm_pack_cols)(l->panel, &part, 0, m, 0, t, l->tmp);
        memset(l->sum, 0, (size_t)nr * GEMM_N * sizeof *l->sum);
        FT_NAME(gemm_tile)(l->sum, GEMM_N, a, gemm_one(l->panel), nr, gemm_steps(t, m), t);
        add_sums(to + c, s, l->sum, nr, n);
    }
}

__attribute__((always_inline)) static inline void grouped_dw(const ft_call *k, int64_t begin,
                                                             int64_t end, void *scratch, ft_dtype t)
{
    sizes s = sizes_of(k);
    layout l = lay_out(scratch);
    expert_index x = expert_index_at(k, s.experts);
    if (k->round == 0) expert_index_make(k, s.ids, s.experts);
    for (int64_t item = begin; k->round && item < end; item++) {
        int64_t e = item / chunks_of(&s), r0 = item % chunks_of(&s) * LEFT;
        int64_t nr = s.rows - r0 < LEFT ? s.rows - r0 : LEFT;
        float *to = (float *)k->out[0].data + (e * s.rows + r0) * s.cols;
        if (!k->accumulate) memset(to, 0, (size_t)(nr * s.cols) * sizeof *to);
        int64_t i = x.start[e], last = x.start[e + 1];
        for (ft_block b = { 0 }; i < last && ft_next_block(k, s.ids, &b);) {
            while (i < last && x.row[i] < b.end * s.slots) {
                int64_t m = 0; /* no more than the tokens of a block: a token has an expert once */
                while (i + m < last && m < FT_TOKEN_BLOCK && x.row[i + m] < b.end * s.slots) m++;
                add_block(to, &s, &l, x.row + i, m, r0, nr, t);
                i += m;
            }
        }
    }
}

static void grouped_dw_f32(const ft_call *k, int64_t b, int64_t e, void *s)
{
    grouped_dw(k, b, e, s, FT_F32);
}
static void grouped_dw_bf16(const ft_call *k, int64_t b, int64_t e, void *s)
{
    grouped_dw(k, b, e, s, FT_BF16);
}

/* ---- biases: items are 16 columns ------------------------------------------------------------ */

static int64_t db_items(const ft_call *k)
{
    return (k->out[0].cols + 15) / 16;
}

static size_t db_scratch(const ft_call *k) { return (size_t)k->out[0].rows * 16 * sizeof(float); }

static void run_grouped_db(const ft_call *k, int64_t begin, int64_t end, void *scratch)
{
    const ft_arg *dy = &k->in[0], *ids = &k->in[1], *w = &k->out[0];
    const int32_t *id = ids->data;
    float *sum = scratch;
    for (int64_t c = begin * 16; c < end * 16 && c < w->cols; c += 16) {
        int64_t n = w->cols - c;
        float *to = (float *)w->data + c;
        for (int64_t e = 0; e < w->rows && !k->accumulate; e++)
            v_out(to + e * w->ld, FT_F32, 0, n, v_zero());
        for (ft_block b = { 0 }; ft_next_block(k, ids, &b);) {
            memset(sum, 0, (size_t)w->rows * 16 * sizeof *sum);
            for (int64_t i = b.begin * ids->cols; i < b.end * ids->cols; i++) {
                v16 d = v_in(ft_row(dy, i / ids->cols), dy->dtype, i % ids->cols * w->cols + c, n);
                v_store(sum + 16 * id[i], v_add(v_load(sum + 16 * id[i]), d));
            }
            for (int64_t e = 0; e < w->rows; e++)
                v_out(to + e * w->ld, FT_F32, 0, n,
                      v_add(v_in(to + e * w->ld, FT_F32, 0, n), v_load(sum + 16 * e)));
        }
    }
}

#define DW(t, fn)                                                                          \
    {                                                                                      \
        .size = sizeof(ft_kernel), .op = "grouped_dw", .dtype = t, .scratch = dw_scratch,  \
        .items = dw_items, .run = fn, .rounds = two_rounds, .shared = dw_shared            \
    }
static const ft_kernel kernels[] = {
    DW(FT_F32, grouped_dw_f32),
    DW(FT_BF16, grouped_dw_bf16),
    { .size = sizeof(ft_kernel),
      .op = "grouped_db",
      .dtype = FT_NO_DTYPE,
      .scratch = db_scratch,
      .items = db_items,
      .run = run_grouped_db },
};
FT_TABLE(experts_dw, kernels)

#ifdef FT_ISA_plain
static const ft_kernel references[] = {
    { .size = sizeof(ft_kernel), .op = "grouped_dw", .items = one_item, .run = ref_grouped_dw },
    { .size = sizeof(ft_kernel), .op = "grouped_db", .items = one_item, .run = ref_grouped_db },
};
FT_REFERENCE(experts_dw, references)
#endif
