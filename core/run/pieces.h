/* pieces.h -- experts' weights that files keep in pieces (ft_piece), seen as one.
 *
 * Qwen3-MoE's folders have a tensor for each expert's gate, up and down; GGUF files have one tensor
 * for all gates, one for all ups.  The graph has gate_up_proj and down_proj.  Nothing is copied:
 * numbers are gathered as they are read. */
#ifndef FT_CORE_PIECES_H
#define FT_CORE_PIECES_H
#include "core/run/weights.h"

/* 1 and *out when the weight is in pieces, 0 when not, or an error. */
int ft_pieces_open(ft_weights *w, const char *name, const ft_shape *s, ft_arg *out, ft_err *e);
/* Bytes of all pieces in the file; 0: it is not in pieces. */
uint64_t ft_pieces_bytes(const ft_weights *w, const char *name);
/* The first piece that holds numbers which are not finite, and how many; NULL: none does. */
const ft_tensor *ft_pieces_nonfinite(const ft_weights *w, const char *name, uint64_t *count);
#endif
