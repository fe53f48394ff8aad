/* shapes.h -- a model of which only config.json is there: its weights as shapes, for `pipeline
 * check`.
 *
 * The shapes that the model plugin's build asks for are laid out as the safetensors file that would
 * hold them, in memory that is reserved and never written: the header is true, the numbers are
 * zeros that nobody has paid for.  So counting and planning are the same code as with weights.
 * Where quantization_config says that weights are packed, those take the bytes of their parts. */
#ifndef FT_CORE_SHAPES_H
#define FT_CORE_SHAPES_H
#include "core/run/model.h"

typedef struct { void *map; uint64_t bytes, *packed; } ft_shapes;

/* Whether `path` is a folder without weights. */
bool ft_shapes_wanted(const char *path);
/* Gives m the shapes of the graph g as its tensors, in the dtype that config.json names (bf16 where
 * it names none).  Close m first, then the shapes. */
int ft_shapes_open(ft_shapes *, ft_model_run *m, const ft_g *g, ft_err *e);
void ft_shapes_close(ft_shapes *);
#endif
