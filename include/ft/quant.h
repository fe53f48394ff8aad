/* ft/quant.h -- role "ft.quantizer/1": packed weights.
 *
 * A packed weight is a property of a tensor (a scheme and its parts), not another code path: the
 * same `linear` reads it tile by tile while packing its panels.  Parts are stored as plain tensors
 * named WEIGHT + suffix, so that other programs can open the file. */
#ifndef FT_QUANT_H
#define FT_QUANT_H
#include "ft/kernel.h"

enum { FT_MAX_PARTS = 6 };

typedef struct {
    char suffix[48];           /* appended to the weight's name: "", ".absmax" */
    ft_dtype dtype;
    int32_t ndim;
    int64_t dim[2];
} ft_part;

/* Interface "ft.threads/1": the host's threads. */
typedef struct {
    uint32_t size;
    /* Runs fn(arg, i) for i in [0, n), each once, on all threads; returns when all are done. */
    void (*each)(const ft_host *, int64_t n, void (*fn)(void *arg, int64_t i), void *arg);
} ft_threads_api;

typedef struct {
    uint32_t size;
    const char *scheme;
    /* The parts of a weight of this shape, and how many; FT_EUNSUP where it cannot be packed. */
    int (*parts)(void *self, const int64_t *dim, int ndim, ft_part out[FT_MAX_PARTS]);
    /* Fills the parts (in that order, each of the size it has) from a plain F32, BF16 or F16
     * tensor.  NULL: a read-only format. */
    int (*encode)(void *self, const ft_tensor *w, void *const part[]);
    /* Makes packed numbers of parts that lie in memory or in a mapped file: checks them and fills
     * *out, tile() included; `out` and the parts outlive each other. */
    int (*open)(void *self, const int64_t *dim, int ndim, const ft_tensor part[], ft_packed *out);
    /* "quantization_config" of config.json for a model saved in this form; NULL: none. */
    const char *(*config)(void *self);
} ft_quantizer;
#endif
