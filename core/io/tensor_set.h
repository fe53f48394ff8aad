/* tensor_set.h -- the set that the readers of core/io fill (their side of tensors.h).
 *
 * Readers add tensors, notes, metas and warnings; then the set is sealed: names are sorted for
 * look-up, and a name that occurs twice is refused.  Memory for a set of n tensors is about
 * 150 bytes each and their names. */
#ifndef FT_CORE_TENSOR_SET_H
#define FT_CORE_TENSOR_SET_H
#include "core/base/arena.h"
#include "core/base/file.h"
#include "core/io/tensors.h"

typedef struct { const char *key, *value; } ft_note_pair;

struct ft_tensors {
    ft_arena arena;            /* names, keys, texts */
    ft_buf maps;               /* ft_map_file: what the data points into */
    ft_buf items;              /* ft_tensor, by place; fixed once sealed */
    ft_buf notes;              /* ft_note_pair */
    ft_buf metas;              /* ft_meta */
    ft_buf warnings;           /* const char * */
    const ft_tensor **by_name; /* sorted; NULL until sealed */
    unsigned flags;
    bool gguf;
};

static inline size_t ft_set_count(const ft_tensors *s) { return s->items.n / sizeof(ft_tensor); }
static inline ft_tensor *ft_set_items(const ft_tensors *s)
{
    return (ft_tensor *)(void *)s->items.p;
}

/* Appends a tensor whose name is copied; refuses more than FT_MAX_TENSORS. */
int ft_set_add(ft_tensors *s, const char *what, const ft_tensor *t, ft_err *e);
/* Appends a note: the key lives in s->arena, the value is copied. */
int ft_set_note(ft_tensors *s, const char *key, const char *value, size_t len, ft_err *e);
/* Records an oddity; an error when the set is strict.  Only the first few are kept. */
int ft_set_warn(ft_tensors *s, ft_err *e, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Maps a file for as long as the set lives. */
int ft_set_map(ft_tensors *s, ft_map_file *out, const char *path, ft_err *e);
/* Ends the filling: sorts the names; the items do not move any more. */
int ft_set_seal(ft_tensors *s, const char *what, ft_err *e);
/* Why a name from a file is refused (empty, a zero byte inside, not UTF-8), or NULL. */
const char *ft_bad_name(const char *name, size_t len);

/* The readers: add what n bytes at p hold.  `what` names the file in messages. */
int ft_safetensors_read(ft_tensors *s, const char *what, const char *p, size_t n, ft_err *e);
int ft_gguf_read(ft_tensors *s, const char *what, const char *p, size_t n, ft_err *e);
/* The same for the shards that an index file names, and the sealing. */
int ft_shards_read(ft_tensors *s, const char *index_path, ft_err *e);
#endif
