/* tables.h -- the kernel tables that table.c joins and backend.c offers. */
#ifndef FT_CPU_TABLES_H
#define FT_CPU_TABLES_H
#include "kernel.h"

#define FT_TABLES(set)                                                                            \
    ft_table FT_PASTE(attention, set)(void), FT_PASTE(attention_dx, set)(void),                   \
        FT_PASTE(attention_sums, set)(void), FT_PASTE(elementwise, set)(void),                    \
        FT_PASTE(experts, set)(void), FT_PASTE(experts_dw, set)(void),                            \
        FT_PASTE(head, set)(void), FT_PASTE(linear, set)(void),                                   \
        FT_PASTE(linear_dw, set)(void), FT_PASTE(norm, set)(void),                                \
        FT_PASTE(reduce, set)(void), FT_PASTE(rope, set)(void),                                   \
        FT_PASTE(routing, set)(void), FT_PASTE(rows, set)(void),                                  \
        FT_PASTE(shape, set)(void), FT_PASTE(swiglu, set)(void)
FT_TABLES(avx512);
FT_TABLES(avx512fma);
FT_TABLES(avx2);
FT_TABLES(plain);

ft_table reference_attention(void), reference_elementwise(void), reference_head(void),
    reference_linear(void), reference_linear_dw(void), reference_norm(void), reference_reduce(void),
    reference_rope(void), reference_rows(void), reference_shape(void), reference_experts(void),
    reference_experts_dw(void), reference_routing(void), reference_swiglu(void);

const ft_kernel *all_kernels_avx512(size_t *n);
const ft_kernel *all_kernels_avx512fma(size_t *n);
const ft_kernel *all_kernels_avx2(size_t *n);
const ft_kernel *all_kernels_plain(size_t *n);
const ft_kernel *all_kernels_reference(size_t *n);

/* Whether this instruction set's vdpbf16ps and fma keep the order of gemm.h on this machine. */
bool gemm_keeps_order_avx512(void);
bool gemm_keeps_order_avx512fma(void);
bool gemm_keeps_order_avx2(void);
bool gemm_keeps_order_plain(void);

/* Whether two fused multiply-adds take less time here than the vdpbf16ps that they stand for. */
bool gemm_fma_is_faster(void);
#endif
