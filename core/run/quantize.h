/* quantize.h -- what a quantizer stage packs, for the stage itself and for planning without it. */
#ifndef FT_CORE_QUANTIZE_H
#define FT_CORE_QUANTIZE_H
#include "core/io/safetensors_write.h"
#include "core/run/run.h"

typedef struct {
    const ft_quantizer *vt;
    void *self;
    const ft_list *skip; /* modules to leave alone, or NULL */
} ft_quantizing;

/* An opened quantizer, with the modules that its parameters leave alone. */
ft_quantizing ft_quantize_open(const ft_instance *i);
/* A quantizer that no stage names, with the parameters of a JSON object, which live in `arena`.
 * NULL after an error. */
ft_instance *ft_quantizer_by_name(ft_run *r, const ft_stage *s, const char *name, const char *json,
                                  ft_arena *arena, ft_err *e);
/* The parts of the weight of this name and shape in a plain build; 0: it is not packed. */
int ft_quantize_parts(const ft_quantizing *q, const ft_g *g, const char *weight,
                      const ft_shape *shape, ft_part part[FT_MAX_PARTS]);
/* Announces the parts that are made to *w; a negative code on errors. */
int64_t ft_quantize_declare(ft_st_writer *w, const char *weight, const ft_part *part, int n,
                            ft_err *e);
/* Packs the plain tensor and writes its parts as number *index on; room: scratch, kept by the
 * caller.  i: the quantizer's instance, for its errors. */
int ft_quantize_write(const ft_quantizing *q, ft_instance *i, const ft_tensor *t,
                      const ft_part *part, int n, ft_st_writer *w, int64_t *index,
                      ft_buf *room, ft_err *e);
uint64_t ft_part_bytes(const ft_part *p);
/* Lets *w answer as if the quantizer had run on the plain build g: shapes and bytes, no numbers. */
int ft_quantize_plan(ft_weights *w, const ft_g *g, const ft_quantizing *q, ft_err *e);
#endif
