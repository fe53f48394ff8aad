/* blocks.h -- numbers as they lie in files, turned into fp32: plain ones, and the block formats of
 * GGUF ("q4_0" … "q6_k", "iq4_nl", "iq4_xs", "mxfp4").
 *
 * A block is a fixed number of consecutive elements of the flat, row-major tensor, in a fixed
 * number of bytes.  A format that GGUF knows but that cannot be decoded here has decode == NULL:
 * a file with such a tensor opens; the tensor is refused by name where its numbers are wanted. */
#ifndef FT_CORE_BLOCKS_H
#define FT_CORE_BLOCKS_H
#include "ft/tensor.h"

enum { FT_MAX_BLOCK = 256 };

/* n whole blocks to out[n * elements]; nothing is aligned. */
typedef void ft_block_decoder(float *restrict out, const uint8_t *restrict block, size_t n);

/* The same numbers as the nearest bf16, ties to even. */
typedef void ft_block_rounder(uint16_t *restrict out, const uint8_t *restrict block, size_t n);

typedef struct {
    const char *name;         /* "q4_0"; what ft_tensor.scheme says */
    uint32_t ggml;            /* the number of the type in GGUF files */
    uint32_t elements, bytes; /* of one block; a plain number is a block of one element */
    ft_dtype plain;           /* the dtype where the tensor is plain, else FT_NO_DTYPE */
    ft_block_decoder *decode;
} ft_block_format;

/* By scheme name, by GGUF's number, for a tensor; NULL when there is none. */
const ft_block_format *ft_block_info(const char *scheme);
const ft_block_format *ft_block_ggml(uint32_t type);
const ft_block_format *ft_block_of(const ft_tensor *t);

/* The fastest decoder of the format that this processor has with vectors of at most `lanes` floats
 * (16: AVX-512, 8: AVX2; else f->decode); all give the same numbers. */
enum { FT_MOST_LANES = 16 };
ft_block_decoder *ft_block_wide(const ft_block_format *f, int lanes);

/* What decodes a format straight to bf16 on this processor; NULL: round what a decoder gives. */
ft_block_rounder *ft_block_short(const ft_block_format *f);

/* Each of n floats as the nearest bf16, ties to even; a NaN stays one. */
void ft_round_to_bf16(uint16_t *out, const float *in, size_t n);

/* out[n] = elements first … first+n-1 of the run of blocks at data, which may start and end in
 * the middle of a block.  `decode`: f->decode or ft_block_wide(f), not NULL; the caller knows that
 * the run is that long. */
void ft_block_decode(float *out, const ft_block_format *f, ft_block_decoder *decode,
                     const void *data, uint64_t first, uint64_t n);

/* The same in bf16; `round` may be NULL. */
void ft_block_decode_bf16(uint16_t *out, const ft_block_format *f, ft_block_decoder *decode,
                          ft_block_rounder *round, const void *data, uint64_t first, uint64_t n);
#endif
