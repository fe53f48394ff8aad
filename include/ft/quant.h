/* ft/quant.h -- role "ft.quantizer/1": packed weights.
 *
 * A packed weight is a property of a tensor (a scheme and its parts), not another code path: the
 * same `linear` reads it tile by tile while packing its panels.  Parts are stored as plain tensors
 * named WEIGHT + suffix, so that other programs can open the file.  Every array of parts below is
 * in the order of parts(). */
#ifndef FT_QUANT_H
#define FT_QUANT_H
#include "ft/kernel.h"
#include "ft/source.h"

enum { FT_MAX_PARTS = 6 };

typedef struct {
    char suffix[48];           /* appended to the weight's name: "", ".absmax"; one that begins with
                                  '/' stands in place of the last part: X.weight, "/SCB" → X.SCB */
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
    /* Every part that a weight of this shape may have, in files of others too, and how many;
     * FT_EUNSUP where it cannot be packed.  Those that encode() does not make have FT_NO_DTYPE. */
    int (*parts)(void *self, const int64_t *dim, int ndim, ft_part out[FT_MAX_PARTS]);
    /* Fills the parts (each of the size that parts() gave, NULL where it gave none) from a plain
     * F32, BF16 or F16 tensor.  NULL: a read-only format. */
    int (*encode)(void *self, const ft_tensor *w, void *const part[]);
    /* Makes packed numbers of parts that lie in memory or in a mapped file (data NULL: the file
     * has no such part): checks them and fills *out, tile() included.  `out` lives no longer than
     * the parts and the instance.  What a file holds decides, not what encode() would make. */
    int (*open)(void *self, const int64_t *dim, int ndim, const ft_tensor part[], ft_packed *out);
    /* "quantization_config" of config.json for a model saved in this form; NULL: none. */
    const char *(*config)(void *self);
    /* Offset in the config struct of an ft_list: modules that stay as they are, besides
     * embeddings and head; (size_t)-1: the plugin has no such parameter. */
    size_t skip_modules;
    /* Whether the weights of this folder are packed as this plugin reads them (config.json's
     * quantization_config); a folder is opened with the defaults.  NULL: it is asked for none. */
    bool (*claims)(const ft_source *);
} ft_quantizer;
#endif
