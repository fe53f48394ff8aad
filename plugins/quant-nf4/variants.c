/* variants.c -- which instruction sets there are, and the best that runs here.
 *
 * A table instead of the linker's ifunc, so that the test can run each row against the last. */
#include "nf4.h"

/* Whether a variant runs on this machine; the answer covers the operating system's part, too. */
static bool always(void) { return true; }

#ifdef __x86_64__
static bool has_avx2(void) { return __builtin_cpu_supports("avx2"); }

static bool has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

const nf4_variant nf4_variants[] = {
#ifdef __x86_64__
    { "avx512", has_avx512, nf4_encode_avx512, nf4_f32_avx512, nf4_bf16_avx512 },
    { "avx2", has_avx2, nf4_encode_avx2, nf4_f32_avx2, nf4_bf16_avx2 },
#endif
    { "plain", always, nf4_encode_plain, nf4_f32_plain, nf4_bf16_plain },
    { NULL, NULL, NULL, NULL, NULL },
};

const nf4_variant *nf4_best_variant(void)
{
    const nf4_variant *v = nf4_variants;
    while (!v->runs_here()) v++;
    return v;
}
