/* experts.c -- grouped: the linear layer of each expert, for the tokens that chose it.
 *
 *   y_j = x_j M_e + b_e   for each slot j of a token, e = ids[t][j]
 *
 *   x (T, in) for all slots or (T, slots * in), W (experts, out, in) with M = W^T, or with the
 *   attribute by_in (experts, in, out) with M = W; b (experts, out); y (T, slots * out)
 *
 * Items: an expert that has tokens by 32 columns of y; the panel is packed once (decoding packed
 * weights while it is) and the rows are gathered and scattered a strip at a time.  A row's sums are
 * those of `linear`, whatever other rows share its expert.  Its gradient for x is the same op with
 * the other by_in. */
#include "experts.h"

enum { STRIP = 56 };
enum { X, IDS, W, BIAS };

typedef struct { int64_t experts, slots, in, out; bool by_in; } sizes;

static sizes sizes_of(const ft_call *k)
{
    sizes s = { .slots = k->in[IDS].cols, .by_in = k->attr[1] != 0 };
    s.experts = (int64_t)k->attr[0];
    int64_t middle = k->in[W].rows / s.experts, last = k->in[W].cols;
    s.in = s.by_in ? middle : last;
    s.out = s.by_in ? last : middle;
    return s;
}

/* ---- reference ------------------------------------------------------------------------------- */
#ifdef FT_ISA_plain
static double ref_element(const ft_call *k, const sizes *s, int64_t t, int64_t j, int64_t c)
{
    const ft_arg *x = &k->in[X], *w = &k->in[W];
    int64_t e = ((const int32_t *)k->in[IDS].data)[t * s->slots + j];
    int64_t from = x->cols == s->in ? 0 : j * s->in;
    double sum = k->n_in > BIAS ? ft_get(&k->in[BIAS], e, c) : 0;
    for (int64_t i = 0; i < s->in; i++)
        sum += ft_get(x, t, from + i) *
               (s->by_in ? ft_get(w, e * s->in + i, c) : ft_get(w, e * s->out + c, i));
    return sum;
}

static void ref_grouped(const ft_call *k, int64_t b, int64_t e, void *scratch)
{
    sizes s = sizes_of(k);
    (void)b, (void)e, (void)scratch;
    for (int64_t t = 0; t < ft_rows(k, &k->out[0]); t++) {
        for (int64_t j = 0; j < s.slots; j++) {
            for (int64_t c = 0; c < s.out; c++)
                ft_put(&k->out[0], t, j * s.out + c, ref_element(k, &s, t, j, c));
        }
    }
}
#endif

/* ---- fast ------------------------------------------------------------------------------------ */

typedef struct { char *panel, *tmp, *left; float *sum; size_t bytes; } layout;

static layout lay_out(const sizes *s, ft_dtype t, void *scratch)
{
    layout l = { .panel = (char *)scratch };
    l.tmp = l.panel + gemm_panel_bytes(t, s->in);
    l.left = l.tmp + (gemm_pack_bytes(s->in) + 63) / 64 * 64;
    l.sum = (float *)(void *)(l.left + (STRIP * (s->in + 1) * 4 + 63) / 64 * 64);
    l.bytes = (size_t)((char *)(l.sum + STRIP * GEMM_N) - (char *)scratch);
    return l;
}

static size_t scratch_f32(const ft_call *k)
{
    sizes s = sizes_of(k);
    return lay_out(&s, FT_F32, NULL).bytes;
}
static size_t scratch_bf16(const ft_call *k)
{
    sizes s = sizes_of(k);
    return lay_out(&s, FT_BF16, NULL).bytes;
}

static size_t shared_bytes(const ft_call *k)
{
    return expert_index_bytes(&k->in[IDS], (int64_t)k->attr[0]);
}

static int64_t panels_of(const sizes *s) { return (s->out + GEMM_N - 1) / GEMM_N; }

static int64_t grouped_items(const ft_call *k)
{
    sizes s = sizes_of(k);
    return k->round == 0 ? 1 : *expert_index_at(k, s.experts).n_hit * panels_of(&s);
}

static void pack_panel(const ft_call *k, const sizes *s, const layout *l, int64_t e, int64_t col,
                       ft_dtype t)
{
    ft_arg w = k->in[W]; /* up to the end of this expert's rows */
    w.rows = (e + 1) * (s->by_in ? s->in : s->out);
    if (s->by_in) FT_NAME(gemm_pack_cols)(l->panel, &w, e * s->in, s->in, col, t, l->tmp);
    else FT_NAME(gemm_pack_rows)(l->panel, &w, e * s->out + col, 0, s->in, t, l->tmp);
}

/* What enters the expert for n rows, as whole steps of dtype t. */
static gemm_a gather(const ft_call *k, const sizes *s, const layout *l, const int32_t *row,
                     int64_t n, ft_dtype t)
{
    int64_t size = t == FT_BF16 ? 2 : 4, ld = s->in + (t == FT_BF16 && s->in % 2);
    for (int64_t i = 0; i < n; i++) {
        char *to = l->left + i * ld * size;
        expert_fetch(to, &k->in[X], s->slots, s->in, row[i], 0, s->in, t);
        if (ld > s->in) memset(to + s->in * size, 0, (size_t)size);
    }
    return (gemm_a){ l->left, ld * size, 4 };
}

/* Rounds n rows of sums to their places in the output, with the bias. */
static void scatter(const ft_call *k, const sizes *s, const layout *l, const int32_t *row,
                    int64_t n, int64_t e, int64_t col, ft_dtype t)
{
    float buf[GEMM_N];
    int64_t m = s->out - col < GEMM_N ? s->out - col : GEMM_N;
    const float *bias = k->n_in > BIAS ? ft_row_floats(&k->in[BIAS], e, col, m, buf) : NULL;
    for (int64_t j = 0; j < m; j += 16) {
        v16 b = bias ? v_in(bias, FT_F32, j, m - j) : v_zero();
        for (int64_t i = 0; i < n; i++) {
            v16 x = v_load(l->sum + i * GEMM_N + j);
            void *to = ft_row(&k->out[0], row[i] / s->slots);
            v_out(to, t, row[i] % s->slots * s->out + col + j, m - j, bias ? v_add(x, b) : x);
        }
    }
}

__attribute__((always_inline)) static inline void grouped(const ft_call *k, int64_t begin,
                                                          int64_t end, void *scratch, ft_dtype t)
{
    sizes s = sizes_of(k);
    layout l = lay_out(&s, t, scratch);
    expert_index x = expert_index_at(k, s.experts);
    if (k->round == 0) expert_index_make(k, &k->in[IDS], s.experts);
    for (int64_t item = begin; k->round && item < end; item++) {
        int64_t e = x.hit[item / panels_of(&s)], col = item % panels_of(&s) * GEMM_N;
        pack_panel(k, &s, &l, e, col, t);
        for (int64_t i = x.start[e], n; i < x.start[e + 1]; i += n) {
            n = x.start[e + 1] - i < STRIP ? x.start[e + 1] - i : STRIP;
            gemm_a a = gather(k, &s, &l, x.row + i, n, t);
            memset(l.sum, 0, (size_t)n * GEMM_N * sizeof *l.sum);
            FT_NAME(gemm_tile)(l.sum, GEMM_N, a, gemm_one(l.panel), n, gemm_steps(t, s.in), t);
            scatter(k, &s, &l, x.row + i, n, e, col, t);
        }
    }
}

static void grouped_f32(const ft_call *k, int64_t b, int64_t e, void *s)
{
    grouped(k, b, e, s, FT_F32);
}
static void grouped_bf16(const ft_call *k, int64_t b, int64_t e, void *s)
{
    grouped(k, b, e, s, FT_BF16);
}

static const ft_kernel kernels[] = {
    { .size = sizeof(ft_kernel),
      .op = "grouped",
      .dtype = FT_F32,
      .scratch = scratch_f32,
      .items = grouped_items,
      .run = grouped_f32,
      .rounds = two_rounds,
      .shared = shared_bytes },
    { .size = sizeof(ft_kernel),
      .op = "grouped",
      .dtype = FT_BF16,
      .scratch = scratch_bf16,
      .items = grouped_items,
      .run = grouped_bf16,
      .rounds = two_rounds,
      .shared = shared_bytes },
};
FT_TABLE(experts, kernels)

#ifdef FT_ISA_plain
static const ft_kernel references[] = {
    { .size = sizeof(ft_kernel),
      .op = "grouped",
      .dtype = FT_NO_DTYPE,
      .items = one_item,
      .run = ref_grouped },
};
FT_REFERENCE(experts, references)
#endif
