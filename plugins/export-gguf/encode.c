/* encode.c -- see encode.h.
 *
 * The rules are those of ggml's reference quantizers (quantize_row_*_ref of ggml-quants.c), in
 * fp32, operation by operation, so that a file has the bytes that llama.cpp's own converter writes.
 * a: the largest magnitude of a block, e: the element that has it, with its sign.
 *
 *   q8_0  d = a / 127            q = round(x / d), halves away from zero
 *   q4_0  d = e / -8             q = min(15, floor(x / d + 8.5))
 *   q4_1  d = (max - min) / 15   q = min(15, floor((x - min) / d + 0.5))
 *   q5_0  d = e / -16            q = min(31, floor(x / d + 16.5))
 *   q5_1  d = (max - min) / 31   q = min(31, floor((x - min) / d + 0.5))
 *   q4_k  8 groups of 32, each x ≈ s q - m with q in 0 … 15, s and m in six bits of their own
 *
 * 1/d is what is multiplied by, computed before d is rounded to binary16; 0 where d is 0.  For q4_k
 * s and m of a group are the best of 22 tries under weights of (root mean square + |x|), see fit();
 * codes are then chosen anew for s and m as they are stored, unless s became 0.
 * Left out: the importance matrices of llama-quantize.  Checked byte for byte against gguf-py and
 * against libggml (export-gguf_test.c). */
#include "encode.h"
#include <math.h>
#include <string.h>
#include "ft/half.h"

/* ---- plain numbers --------------------------------------------------------------------------- */

static void encode_f32(uint8_t *restrict out, const float *restrict x, size_t n)
{
    memcpy(out, x, n * sizeof *x);
}

static void put_half(uint8_t *out, float f)
{
    uint16_t h = ft_float_to_half(f);
    memcpy(out, &h, 2);
}

static void encode_f16(uint8_t *restrict out, const float *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++) put_half(out + 2 * i, x[i]);
}

static void encode_bf16(uint8_t *restrict out, const float *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t h = ft_float_to_bf16(x[i]);
        memcpy(out + 2 * i, &h, 2);
    }
}

/* ---- blocks of 32 ---------------------------------------------------------------------------- */

static float inverse(float d) { return d != 0 ? 1.0f / d : 0.0f; }

/* The first element of the largest magnitude. */
static float extreme(const float *x)
{
    float most = 0, e = 0;
    for (int i = 0; i < 32; i++) {
        if (most < fabsf(x[i])) {
            most = fabsf(x[i]);
            e = x[i];
        }
    }
    return e;
}

static void encode_q8_0(uint8_t *restrict out, const float *restrict x, size_t n)
{
    for (; n--; out += 34, x += 32) {
        float d = fabsf(extreme(x)) / 127, by = inverse(d);
        put_half(out, d);
        for (int i = 0; i < 32; i++) out[2 + i] = (uint8_t)(int8_t)roundf(x[i] * by);
    }
}

/* (x - low) / d + half as a code of 0 … top; a code never is negative. */
static unsigned code(float x, float low, float by, float half, int top)
{
    int q = (int)((x - low) * by + half);
    return (unsigned)(q < top ? q : top);
}

/* Codes of 32 elements: nibbles of the first half low, of the second high; fifth bits to *high. */
static void put_codes(uint8_t *nibble, uint32_t *high, const float *x, float low, float by,
                      float half, int top)
{
    *high = 0;
    for (int i = 0; i < 16; i++) {
        unsigned a = code(x[i], low, by, half, top), b = code(x[i + 16], low, by, half, top);
        nibble[i] = (uint8_t)((a & 15) | (b & 15) << 4);
        *high |= (a >> 4) << i | (b >> 4) << (i + 16);
    }
}

/* Around zero: q4_0 (levels 8) and q5_0 (16). */
static void encode_signed(uint8_t *restrict out, const float *restrict x, size_t n, int levels)
{
    for (; n--; x += 32) {
        float d = extreme(x) / (float)-levels;
        uint32_t high;
        uint8_t *nibble = out + (levels == 8 ? 2 : 6);
        put_half(out, d);
        put_codes(nibble, &high, x, 0, inverse(d), (float)levels + 0.5f, 2 * levels - 1);
        if (levels == 16) memcpy(out + 2, &high, 4);
        out = nibble + 16;
    }
}

/* Between least and greatest: q4_1 (top 15) and q5_1 (31). */
static void encode_ranged(uint8_t *restrict out, const float *restrict x, size_t n, int top)
{
    for (; n--; x += 32) {
        float min = x[0], max = x[0];
        uint32_t high;
        for (int i = 1; i < 32; i++) {
            if (x[i] < min) min = x[i];
            if (x[i] > max) max = x[i];
        }
        float d = (max - min) / (float)top;
        uint8_t *nibble = out + (top == 15 ? 4 : 8);
        put_half(out, d);
        put_half(out + 2, min);
        put_codes(nibble, &high, x, min, inverse(d), 0.5f, top);
        if (top == 31) memcpy(out + 4, &high, 4);
        out = nibble + 16;
    }
}

static void encode_q4_0(uint8_t *restrict out, const float *restrict x, size_t n)
{
    encode_signed(out, x, n, 8);
}
static void encode_q5_0(uint8_t *restrict out, const float *restrict x, size_t n)
{
    encode_signed(out, x, n, 16);
}
static void encode_q4_1(uint8_t *restrict out, const float *restrict x, size_t n)
{
    encode_ranged(out, x, n, 15);
}
static void encode_q5_1(uint8_t *restrict out, const float *restrict x, size_t n)
{
    encode_ranged(out, x, n, 31);
}

/* ---- q4_k ------------------------------------------------------------------------------------ */

enum { GROUP = 32, TOP = 15, TRIES = 21 };

/* To the nearest whole number, ties to even, within 0 … most. */
static int nearest(float f, int most)
{
    int q = (int)rintf(f);
    return q < 0 ? 0 : q < most ? q : most;
}

/* A group of numbers x, weighted by w, and what holds for all tries. */
typedef struct {
    const float *x, *w;
    float min, max, sum_w, sum_x;
} group;

static group group_of(const float *x, const float *w)
{
    group g = { x, w, x[0], x[0], w[0], w[0] * x[0] };
    for (int i = 1; i < GROUP; i++) {
        if (x[i] < g.min) g.min = x[i];
        if (x[i] > g.max) g.max = x[i];
        g.sum_w += w[i];
        g.sum_x += w[i] * x[i];
    }
    if (g.min > 0) g.min = 0;
    return g;
}

/* Codes by the inverse scale `by`, and Σ w (scale q + min - x)² for them. */
static void codes_of(int *q, const group *g, float by)
{
    for (int i = 0; i < GROUP; i++) q[i] = nearest(by * (g->x[i] - g->min), TOP);
}

static float error_of(const int *q, const group *g, float scale, float min)
{
    float error = 0;
    for (int i = 0; i < GROUP; i++) {
        float d = scale * (float)q[i] + min - g->x[i];
        error += g->w[i] * (d * d);
    }
    return error;
}

/* The scale and minimum (never above 0) that fit these codes best: weighted least squares. */
static int solve(float *scale, float *min, const int *q, const group *g)
{
    float l = 0, l2 = 0, xl = 0;
    for (int i = 0; i < GROUP; i++) {
        float wq = g->w[i] * (float)q[i];
        l += wq;
        l2 += wq * (float)q[i];
        xl += wq * g->x[i];
    }
    float det = g->sum_w * l2 - l * l;
    if (!(det > 0)) return 0;
    *scale = (g->sum_w * xl - g->sum_x * l) / det;
    *min = (l2 * g->sum_x - l * xl) / det;
    if (*min > 0) {
        *min = 0;
        *scale = xl / l2;
    }
    return 1;
}

/* x ≈ scale code - *least: starts from the range of x, then tries codes by 21 nearby scales and
 * keeps the fit of the smallest error.  The tries after one that was kept count from its
 * minimum. */
static float fit(int *code, float *least, const float *x, const float *w)
{
    int q[GROUP];
    group g = group_of(x, w);
    memset(code, 0, GROUP * sizeof *code);
    *least = -g.min;
    if (g.max == g.min) return 0;
    float by = (float)TOP / (g.max - g.min), scale = 1 / by;
    codes_of(code, &g, by);
    float best = error_of(code, &g, scale, g.min);
    for (int t = 0; t < TRIES; t++) {
        float s, m;
        codes_of(q, &g, (-1.0f + 0.1f * (float)t + (float)TOP) / (g.max - g.min));
        if (!solve(&s, &m, q, &g)) continue;
        float error = error_of(q, &g, s, m);
        if (!(error < best)) continue;
        best = error;
        scale = s;
        g.min = m;
        memcpy(code, q, sizeof q);
    }
    *least = -g.min;
    return scale;
}

/* Codes, and the scale and minimum of each group, as numbers. */
static void fit_groups(int *q, float *scale, float *least, const float *x)
{
    for (int g = 0; g < 8; g++) {
        float w[GROUP], squares = 0;
        const float *v = x + GROUP * g;
        for (int i = 0; i < GROUP; i++) squares += v[i] * v[i];
        float rms = sqrtf(squares / GROUP);
        for (int i = 0; i < GROUP; i++) w[i] = rms + fabsf(v[i]);
        scale[g] = fit(q + GROUP * g, &least[g], v, w);
    }
}

static float largest(const float *v)
{
    float most = 0;
    for (int i = 0; i < 8; i++) {
        if (v[i] > most) most = v[i];
    }
    return most;
}

/* Eight scales and eight minima of six bits in twelve bytes. */
static void put_scales(uint8_t *out, const int *s, const int *m)
{
    for (int g = 0; g < 4; g++) {
        out[g] = (uint8_t)(s[g] | (s[g + 4] >> 4) << 6);
        out[g + 4] = (uint8_t)(m[g] | (m[g + 4] >> 4) << 6);
        out[g + 8] = (uint8_t)((s[g + 4] & 15) | (m[g + 4] & 15) << 4);
    }
}

static void encode_q4_k(uint8_t *restrict out, const float *restrict x, size_t n)
{
    for (; n--; out += 144, x += 256) {
        float scale[8], least[8];
        int s[8], m[8], q[256];
        fit_groups(q, scale, least, x);
        float top_s = largest(scale), top_m = largest(least);
        float by_s = top_s > 0 ? 63.0f / top_s : 0, by_m = top_m > 0 ? 63.0f / top_m : 0;
        put_half(out, top_s / 63.0f);
        put_half(out + 2, top_m / 63.0f);
        float d = ft_half_to_float(ft_float_to_half(top_s / 63.0f));
        float dm = ft_half_to_float(ft_float_to_half(top_m / 63.0f));
        for (int g = 0; g < 8; g++) {
            s[g] = nearest(by_s * scale[g], 63);
            m[g] = nearest(by_m * least[g], 63);
            float ds = d * (float)s[g], low = dm * (float)m[g];
            for (int i = GROUP * g; i < GROUP * (g + 1); i++)
                if (ds != 0) q[i] = nearest((x[i] + low) / ds, TOP);
        }
        put_scales(out + 4, s, m);
        for (int i = 0; i < 128; i++) {
            const int *at = q + i / 32 * 64 + i % 32;
            out[16 + i] = (uint8_t)(at[0] | at[32] << 4);
        }
    }
}

/* ---- the table ------------------------------------------------------------------------------- */
static const gguf_type types[] = {
    { "f32", 0, 0, 1, 4, encode_f32 },       { "f16", 1, 1, 1, 2, encode_f16 },
    { "bf16", 30, 32, 1, 2, encode_bf16 },   { "q8_0", 8, 7, 32, 34, encode_q8_0 },
    { "q4_0", 2, 2, 32, 18, encode_q4_0 },   { "q4_1", 3, 3, 32, 20, encode_q4_1 },
    { "q5_0", 6, 8, 32, 22, encode_q5_0 },   { "q5_1", 7, 9, 32, 24, encode_q5_1 },
    { "q4_k", 12, 14, 256, 144, encode_q4_k },
};

const gguf_type *gguf_type_find(const char *name)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (!strcmp(types[i].name, name)) return &types[i];
    }
    return NULL;
}
