/* tables.c -- the levels that codes stand for.
 *
 * NF4: 16 levels, quantiles of a normal distribution scaled to [-1, 1] (QLoRA, Dettmers et al.
 * 2023, appendix E); the decimals are those that every NF4 file is written with.
 *
 * Dynamic map (8-bit Approximations for Parallelism in Deep Learning, Dettmers 2016): for each
 * exponent e = 0 … 6 the means of neighbours among 2^e + 1 evenly spaced points from 0.1 to 1,
 * times 10^(e - 6), with both signs; 0; and 1.  Bit-exactness hangs on how the points are rounded:
 * in fp32, from the nearer end, with one fused multiply-add each, as PyTorch's linspace does.
 *
 * Checked against shared goldens tables.safetensors and a checksum in the test. */
#include "nf4.h"
#include <math.h>
#include <stdlib.h>

const float nf4_code[16] = {
    -1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f,
    -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.0f,
    0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f,
    0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f,
};

/* Point k of n + 1 evenly spaced ones from 0.1 to 1. */
static float spaced(int k, int n)
{
    float step = (1.0f - 0.1f) / (float)n;
    if (k < (n + 1) / 2) return fmaf(step, (float)k, 0.1f);
    return fmaf(-step, (float)(n - k), 1.0f);
}

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

void nf4_dynamic_map(float map[NF4_MAP])
{
    static const float scale[7] = { 1e-6f, 1e-5f, 1e-4f, 1e-3f, 1e-2f, 1e-1f, 1.0f };
    int n = 0;
    for (int e = 0; e < 7; e++) {
        for (int i = 0; i < 1 << e; i++) {
            float mean = (spaced(i, 1 << e) + spaced(i + 1, 1 << e)) / 2.0f;
            map[n++] = scale[e] * mean;
            map[n++] = -(scale[e] * mean);
        }
    }
    map[n++] = 0.0f;
    map[n++] = 1.0f;
    qsort(map, (size_t)n, sizeof *map, ascending);
}

void nf4_midpoints(float *out, const float *level, int n)
{
    for (int i = 0; i + 1 < n; i++) out[i] = (level[i] + level[i + 1]) / 2.0f;
}
