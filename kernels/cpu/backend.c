/* backend.c -- kernels-cpu: which instruction sets this machine runs, and their kernels.
 *
 * avx512 and avx512fma (gemm_tile.c; whichever is faster here comes first) need AVX-512 F, BW, VL,
 * DQ and BF16; avx2 needs AVX2 and FMA; plain runs anywhere; reference is plain loops in double
 * precision for tests.  All but the last give the same bytes. */
#include "tables.h"
#ifdef FT_ISA_plain
#if defined(__x86_64__)
#include <immintrin.h>
#endif

static bool has(const char *isa)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!strcmp(isa, "avx512") || !strcmp(isa, "avx512fma"))
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512bf16");
    if (!strcmp(isa, "avx2"))
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return !strcmp(isa, "plain") || !strcmp(isa, "reference");
}

static const char *const *variants(void)
{
    static const char *const known[] = { "avx512", "avx512fma", "avx2", "plain", "reference" };
    static const char *list[6];
    int n = 0;
    if (list[0]) return list; /* the first call is made before there are threads */
    for (int i = 0; i < 5; i++) {
        if (has(known[i])) list[n++] = known[i];
    }
#if defined(__x86_64__)
    if (has("avx512fma") && gemm_fma_is_faster()) list[0] = known[1], list[1] = known[0];
#endif
    return list;
}

static const ft_kernel *kernels(const char *variant, size_t *n)
{
    if (!has(variant)) return NULL;
#if defined(__x86_64__)
    if (!strcmp(variant, "avx512")) return all_kernels_avx512(n);
    if (!strcmp(variant, "avx512fma")) return all_kernels_avx512fma(n);
    if (!strcmp(variant, "avx2")) return all_kernels_avx2(n);
#endif
    return !strcmp(variant, "reference") ? all_kernels_reference(n) : all_kernels_plain(n);
}

/* Round to nearest; denormal inputs and results are zero, as vdpbf16ps has them anyway. */
static void enter(void)
{
#if defined(__x86_64__)
    _mm_setcsr((_mm_getcsr() & ~0x6000u) | 0x8040u);
#endif
}

static bool self_test(const char *variant)
{
    enter();
#if defined(__x86_64__)
    if (!strcmp(variant, "avx512")) return has(variant) && gemm_keeps_order_avx512();
    if (!strcmp(variant, "avx512fma")) return has(variant) && gemm_keeps_order_avx512fma();
    if (!strcmp(variant, "avx2")) return has(variant) && gemm_keeps_order_avx2();
#endif
    return gemm_keeps_order_plain();
}

static const ft_backend backend = {
    .size = sizeof backend,
    .variants = variants,
    .kernels = kernels,
    .enter = enter,
    .self_test = self_test,
};
static const ft_plugin plugin = {
    .abi = FT_ABI_INIT, .role = "ft.backend/1", .name = "kernels-cpu", .version = "0.1.0",
    .summary = "CPU kernels: AVX-512-BF16, AVX2, plain C", .vtable = &backend,
};
FT_PLUGIN(plugin, "kernels-cpu")
#endif
