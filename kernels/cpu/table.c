/* table.c -- all kernels of one instruction set in one array. */
#include "kernel.h"
#include "tables.h"

enum { MOST = 160 };

/* Appends the tables one after the other; returns their number of kernels. */
static size_t join(ft_kernel *all, ft_table (*const *part)(void), size_t parts)
{
    size_t n = 0;
    for (size_t i = 0; i < parts; i++) {
        ft_table t = part[i]();
        for (size_t k = 0; k < t.n && n < MOST; k++) all[n++] = t.kernel[k];
    }
    return n;
}

/* What avx512fma has no files of its own for. */
#if defined(FT_GEMM_FMA)
#define FT_COMMON(x) FT_PASTE(x, avx512)
#else
#define FT_COMMON(x) FT_NAME(x)
#endif

/* Filled at the first call, which the host makes before it starts threads. */
const ft_kernel *FT_NAME(all_kernels)(size_t *n)
{
    static ft_table (*const parts[])(void) = {
        FT_NAME(attention),     FT_NAME(attention_dx), FT_NAME(attention_sums),
        FT_COMMON(elementwise), FT_NAME(experts),      FT_NAME(experts_dw),
        FT_NAME(head),          FT_NAME(linear),       FT_NAME(linear_dw),
        FT_COMMON(norm),        FT_COMMON(reduce),     FT_COMMON(rope),
        FT_COMMON(routing),     FT_COMMON(rows),       FT_COMMON(shape),
        FT_COMMON(swiglu),
    };
    static ft_kernel all[MOST];
    static size_t count;
    if (!count) count = join(all, parts, sizeof parts / sizeof *parts);
    *n = count;
    return all;
}

#ifdef FT_ISA_plain
const ft_kernel *all_kernels_reference(size_t *n)
{
    static ft_table (*const parts[])(void) = {
        reference_attention, reference_elementwise, reference_head,   reference_linear,
        reference_linear_dw, reference_norm,        reference_reduce, reference_rope,
        reference_rows,      reference_shape,       reference_experts, reference_experts_dw,
        reference_routing,   reference_swiglu,
    };
    static ft_kernel all[MOST];
    static size_t count;
    if (!count) count = join(all, parts, sizeof parts / sizeof *parts);
    *n = count;
    return all;
}
#endif
