/* encode.h -- numbers into the block formats of GGUF. */
#ifndef EXPORT_GGUF_ENCODE_H
#define EXPORT_GGUF_ENCODE_H
#include <stddef.h>
#include <stdint.h>
#include "ft/plugin.h"

typedef struct {
    const char *name;         /* as `type:` and ft_tensor.scheme write it: "q8_0" */
    uint32_t ggml;            /* the number of the type in GGUF files */
    uint32_t file_type;       /* general.file_type of a model of mostly this type */
    uint32_t elements, bytes; /* of a block */
    /* n whole blocks; nothing is aligned on the side of the bytes. */
    void (*encode)(uint8_t *restrict out, const float *restrict x, size_t n);
} gguf_type;

/* By name; NULL: there is none. */
FT_EXPORT const gguf_type *gguf_type_find(const char *name);
#endif
