/* nest.c -- double quantization: absmax itself, in 8 bits a block.
 *
 * offset = mean(absmax); the rest is quantized blockwise, 256 at a time, by the same rule as the
 * weights (encode.c) with the signed dynamic map: x = v * (1 / max(top, 1e-38)), code = number of
 * midpoints strictly below x; the short block at the end divides and stores the clamped top.
 *
 * The order in which the mean adds is not part of the format (PyTorch's differs between machines);
 * here it adds in double precision in ascending order and rounds once, which is within one unit of
 * any fp32 order and cannot overflow.  Checked against goldens: codes exact, offset one unit. */
#include "nf4.h"
#include <math.h>

void nf4_nest_prepare(nf4_nest_tables *t)
{
    nf4_dynamic_map(t->map);
    nf4_midpoints(t->midpoint, t->map, NF4_MAP);
}

float nf4_nest_offset(const float *absmax, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)absmax[i];
    return (float)(sum / (double)n);
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
