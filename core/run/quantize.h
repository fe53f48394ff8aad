/* quantize.h -- what a quantizer stage packs, for the stage itself and for planning without it. */
#ifndef FT_CORE_QUANTIZE_H
#define FT_CORE_QUANTIZE_H
#include "core/run/run.h"

typedef struct {
    const ft_quantizer *vt;
    void *self;
    const ft_list *skip; /* modules to leave alone, or NULL */
} ft_quantizing;

ft_quantizing ft_quantize_open(const ft_instance *i, const ft_config_stage *conf);
/* The parts of weight number `weight` of a plain build; 0: it is not packed. */
int ft_quantize_parts(const ft_quantizing *q, const ft_g *g, uint32_t weight,
                      ft_part part[FT_MAX_PARTS]);
uint64_t ft_part_bytes(const ft_part *p);
/* Lets *w answer as if the quantizer had run on the plain build g: shapes and bytes, no numbers. */
int ft_quantize_plan(ft_weights *w, const ft_g *g, const ft_quantizing *q, ft_err *e);
#endif
