/* dtype.h -- the number types of tensor files: what they are called and how much room they take.
 *
 * Names are those of the safetensors format (its tensor.rs); they serve in messages everywhere. */
#ifndef FT_CORE_DTYPE_H
#define FT_CORE_DTYPE_H
#include "ft/ck.h"
#include "ft/tensor.h"

/* "F32", "BF16", …; "?" for a number that is no dtype. */
const char *ft_dtype_name(ft_dtype d);
/* Bits of one number (4 and 6 for the sub-byte types); 0 for what is no dtype. */
unsigned ft_dtype_bits(ft_dtype d);
/* The dtype of that name, or FT_NO_DTYPE. */
ft_dtype ft_dtype_find(const char *name);

/* *bytes = room of a plain tensor of this shape.  Returns NULL, or what is wrong: a negative
 * dimension, a product that does not fit (also beside a dimension of 0, so that the order of the
 * dimensions does not matter), a number of bits that does not fill whole bytes. */
const char *ft_plain_bytes(uint64_t *bytes, ft_dtype d, const int64_t *dim, int ndim);

/* As ck_numel of dimensions that are known not to be negative, but every 0 counts as 1: *out bounds
 * what any part of the shape spans.  *zero tells whether there was one. */
bool ft_shape_span(uint64_t *out, bool *zero, const int64_t *dim, int ndim);
#endif
