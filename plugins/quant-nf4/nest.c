/* nest.c -- double quantization: absmax itself, in 8 bits a block.
 *
 * offset = mean(absmax); the rest is quantized blockwise, 256 at a time, by the same rule as the
 * weights (encode.c) with the signed dynamic map: x = v * (1 / max(top, 1e-38)), code = number of
 * midpoints strictly below x; the short block at the end divides and stores the clamped top.
 *
 * The order in which the mean adds is not part of the format, but its last bit depends on it, and
 * with that bit all nested numbers.  Here it is that of PyTorch's fp32 sum on one thread, the same
 * on all its machines: 32 running sums, kept on four levels so that small and large are not added
 * (up to 32767 blocks, 2 million weights, PyTorch uses that order with any number of threads).
 * Checked against bitsandbytes: codes, nested absmax and offset exact. */
#include "nf4.h"
#include <math.h>

void nf4_nest_prepare(nf4_nest_tables *t)
{
    nf4_dynamic_map(t->map);
    nf4_midpoints(t->midpoint, t->map, NF4_MAP);
}

enum { LEVELS = 4, WIDTH = 32 };

/* sum += v, elementwise. */
static void add(float *sum, const float *v, int n)
{
    for (int i = 0; i < n; i++) sum[i] += v[i];
}

/* Adds `rows` rows of `width` numbers.  Each 2^power rows a level is emptied into the next. */
static void cascade(float *out, const float *v, int64_t rows, int width)
{
    float sum[LEVELS][WIDTH] = { 0 };
    int power = rows > 65536 ? (64 - __builtin_clzll((uint64_t)rows - 1)) / LEVELS : 4;
    int64_t step = (int64_t)1 << power, i = 0;
    while (i + step <= rows) {
        for (int64_t end = i + step; i < end; i++) add(sum[0], v + i * width, width);
        for (int level = 1; level < LEVELS; level++) {
            add(sum[level], sum[level - 1], width);
            memset(sum[level - 1], 0, sizeof sum[0]);
            if (i & (step - 1) << (level * power)) break;
        }
    }
    for (; i < rows; i++) add(sum[0], v + i * width, width);
    for (int level = 1; level < LEVELS; level++) add(sum[0], sum[level], width);
    memcpy(out, sum[0], sizeof sum[0]);
}

/* Eight lanes (one for fewer than eight values), four vectors at a time; the vectors that are left
 * go to the first, and the values that are left come before the lanes are added up. */
float nf4_nest_offset(const float *absmax, int64_t n)
{
    int lanes = n < 8 ? 1 : 8;
    int64_t vectors = n / lanes, i = vectors / 4 * 4;
    float sum[WIDTH], total = 0;
    cascade(sum, absmax, vectors / 4, 4 * lanes);
    for (; i < vectors; i++) add(sum, absmax + i * lanes, lanes);
    for (int k = 1; k < 4; k++) add(sum, sum + k * lanes, lanes);
    for (i = vectors * lanes; i < n; i++) total += absmax[i];
    for (int k = 0; k < lanes; k++) total += sum[k];
    return total / (float)n;
}

/* Number of midpoints strictly below x: a binary search over 255. */
static uint8_t code_of(const float *midpoint, float x)
{
    int c = 0;
    for (int step = 128; step; step /= 2) {
        if (x > midpoint[c + step - 1]) c += step;
    }
    return (uint8_t)c;
}

float nf4_nest_block(const nf4_nest_tables *t, const float *absmax, int n, float offset,
                     uint8_t *codes)
{
    float top = 0;
    for (int i = 0; i < n; i++) {
        float a = fabsf(absmax[i] - offset);
        top = a > top ? a : top;
    }
    float safe = top > 1e-38f ? top : 1e-38f, scale = 1.0f / safe;
    for (int i = 0; i < n; i++) {
        float v = absmax[i] - offset;
        codes[i] = code_of(t->midpoint, n == NF4_NEST ? v * scale : v / safe);
    }
    return n == NF4_NEST ? top : safe;
}
