/* attention_sums.c -- attention_dek, attention_dev, attention_dsinks: the gradients of extra keys
 * and values and of sinks (attention_block.h), sums over tokens.
 *
 * They run over blocks (ft_next_block), each from zero, added in order. */
#include "attention_block.h"

/* Items are blocks of extra keys of one key head. */
static int64_t extra_items(const ft_call *k)
{
    ft_attention a = open_call(k);
    return a.kv_heads * ((a.n_extra + KEYS - 1) / KEYS);
}

/* Sums of a block of tokens, in l->dk or l->dv, into the output. */
static void add_extra(const ft_attention *a, const float *sum, int64_t kv, int64_t row, int64_t n,
                      float by)
{
    for (int64_t i = 0; i < n; i++) {
        float *to = (float *)a->k->out[0].data + (row + i) * a->k->out[0].ld + kv * a->hd;
        for (int64_t c = 0; c < a->hd; c += 16)
            v_out(to, FT_F32, c, a->hd - c,
                  v_add(v_in(to, FT_F32, c, a->hd - c),
                        v_mul(v_load(sum + i * a->wide + c), v_set(by))));
    }
}

__attribute__((always_inline)) static inline void extra(const ft_call *k, int64_t begin,
                                                        int64_t end, void *scratch, bool of_values,
                                                        ft_dtype t)
{
    ft_attention a = open_call(k);
    layout l = lay_out(&a, t, scratch);
    int64_t blocks = (a.n_extra + KEYS - 1) / KEYS;
    float *sum = of_values ? l.dv : l.dk;
    for (int64_t item = begin; item < end; item++) {
        int64_t kv = item / blocks, row = item % blocks * KEYS,
                n = att_least(KEYS, a.n_extra - row);
        for (int64_t i = 0; i < n && !k->accumulate; i++)
            memset((float *)k->out[0].data + (row + i) * k->out[0].ld + kv * a.hd, 0,
                   (size_t)a.hd * sizeof(float));
        for (ft_block b = { 0 }; ft_next_block(k, a.q, &b);) {
            memset(sum, 0, (size_t)(n * a.wide) * sizeof(float));
            for (int64_t i = b.begin; i < b.end; i += QUERIES) {
                for (int64_t h = kv * a.group; h < (kv + 1) * a.group; h++) {
                    queries q = { h, kv, i, att_least(QUERIES, b.end - i), 0 };
                    open_queries(&a, &l, &q, t);
                    do_block(&a, &l, &q,
                             (block){ a.ek, a.ev, row, n, 0, true, NULL, of_values ? NULL : sum,
                                      of_values ? sum : NULL },
                             t);
                }
            }
            add_extra(&a, sum, kv, row, n, of_values ? 1 : a.scale);
        }
    }
}

static int64_t sink_items(const ft_call *k) { return (int64_t)k->attr[HEADS]; }

/* Tokens of a block go to 16 lanes in turn. */
__attribute__((always_inline))
static inline void sinks(const ft_call *k, int64_t begin, int64_t end, ft_dtype t)
{
    ft_attention a = open_call(k);
    const ft_arg *lse = &k->in[5];
    for (int64_t h = begin; h < end; h++) {
        float *out = (float *)k->out[0].data + h, total = k->accumulate ? *out : 0;
        for (ft_block b = { 0 }; ft_next_block(k, a.q, &b);) {
            v16 sum = v_zero();
            for (int64_t i = b.begin; i < b.end; i += 16) {
                float e[16], d[16];
                for (int64_t j = 0; j < 16; j++) {
                    bool there = i + j < b.end;
                    e[j] = there ? ((const float *)lse->data)[(i + j) * lse->ld + h] : INFINITY;
                    d[j] = there ? output_dot(&a, i + j, h, t) : 0;
                }
                sum = v_fma(v_exp(v_sub(v_set((float)ft_get(a.sinks, 0, h)), v_load(e))), v_load(d),
                            sum);
            }
            total -= v_sum(sum);
        }
        *out = total;
    }
}

static void dek_f32(const ft_call *k, int64_t b, int64_t e, void *s)
{
    extra(k, b, e, s, false, FT_F32);
}
static void dek_bf16(const ft_call *k, int64_t b, int64_t e, void *s)
{
    extra(k, b, e, s, false, FT_BF16);
}
static void dev_f32(const ft_call *k, int64_t b, int64_t e, void *s)
{
    extra(k, b, e, s, true, FT_F32);
}
static void dev_bf16(const ft_call *k, int64_t b, int64_t e, void *s)
{
    extra(k, b, e, s, true, FT_BF16);
}
static void dsinks_f32(const ft_call *k, int64_t b, int64_t e, void *s)
{
    (void)s;
    sinks(k, b, e, FT_F32);
}
static void dsinks_bf16(const ft_call *k, int64_t b, int64_t e, void *s)
{
    (void)s;
    sinks(k, b, e, FT_BF16);
}

#define ROW(name, t, room, count, fn)                                                       \
    {                                                                                       \
        .size = sizeof(ft_kernel), .op = name, .dtype = t, .scratch = room, .items = count, \
        .run = fn                                                                           \
    }
static const ft_kernel kernels[] = {
    ROW("attention_dek", FT_F32, scratch_f32, extra_items, dek_f32),
    ROW("attention_dek", FT_BF16, scratch_bf16, extra_items, dek_bf16),
    ROW("attention_dev", FT_F32, scratch_f32, extra_items, dev_f32),
    ROW("attention_dev", FT_BF16, scratch_bf16, extra_items, dev_bf16),
    ROW("attention_dsinks", FT_F32, NULL, sink_items, dsinks_f32),
    ROW("attention_dsinks", FT_BF16, NULL, sink_items, dsinks_bf16),
};
FT_TABLE(attention_sums, kernels)
