/* model_file.h -- a model as a Hugging Face folder: weights as safetensors, and config.json.
 *
 * The weights stream: one tensor after the other is computed as fp32, rounded to the dtype it is
 * written in, perhaps packed, and appended to its shard.  Numbers that are not finite, and numbers
 * that fp16 cannot hold, are errors. */
#ifndef FT_CORE_MODEL_FILE_H
#define FT_CORE_MODEL_FILE_H
#include "core/run/merge.h"

typedef struct {
    const char *dir;
    ft_dtype dtype;             /* of every tensor; FT_NO_DTYPE: of each the one that keeps it */
    uint64_t max_shard;         /* bytes of a file; 0: no limit */
    const ft_quantizing *pack;  /* packs the matrices of linear layers; NULL: none is packed */
    ft_instance *packer;        /* its plugin */
} ft_model_form;

/* What rounding did, packing not counted. */
typedef struct {
    double worst;       /* largest change of a number */
    double moved, all;  /* sums of squares of changes and numbers */
} ft_rounding;

int ft_model_save(ft_merge *m, const ft_model_form *form, ft_rounding *rounding, ft_err *e);
/* dtype: what config.json says of the weights. */
int ft_model_save_config(const ft_merge *m, const ft_model_form *form, ft_dtype dtype, ft_err *e);
#endif
