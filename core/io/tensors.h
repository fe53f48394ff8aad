/* tensors.h -- tensor files opened for reading: safetensors (one file, or a folder with shards)
 * and GGUF, behind one view (ft_tensors_api in ft/tensor.h).
 *
 * Files are mapped; a tensor's data is read when somebody touches it.  Every rule of the formats is
 * checked on opening, so that what stands in an ft_tensor can be trusted: the data lies inside the
 * file, and the shape fits it. */
#ifndef FT_CORE_TENSORS_H
#define FT_CORE_TENSORS_H
#include "core/base/err.h"
#include "ft/tensor.h"

enum {
    FT_TENSORS_STRICT = 1, /* what would be a warning is an error */
    FT_MAX_TENSORS = 1 << 20,
};

/* `path`: a safetensors or GGUF file (told apart by content), a *.safetensors.index.json, or a
 * folder with model.safetensors or model.safetensors.index.json (in that order, as transformers
 * looks for them).  NULL after an error. */
ft_tensors *ft_tensors_open(const char *path, ft_err *e);
ft_tensors *ft_tensors_open_with(const char *path, unsigned flags, ft_err *e);
/* A whole safetensors or GGUF file that lies in memory and outlives the set; `what` names it. */
ft_tensors *ft_tensors_parse(const char *what, const void *p, size_t n, unsigned flags, ft_err *e);
void ft_tensors_close(ft_tensors *); /* NULL is fine */

/* Gives back the memory of pages that have been read; they are read again when they are needed.
 * Nothing happens to a set that was parsed from memory. */
void ft_tensors_forget(const ft_tensors *);
/* The same for the pages that n bytes of a tensor's data lie on. */
void ft_tensors_forget_part(const ft_tensors *, const void *data, uint64_t n);
/* Lets every tensor be mapped without its neighbours (ft_file_apart), up to MOST_APART of them as
 * the kernel has a limit, and forgets what has been read.  What a process has of the file is then
 * what it reads and no more. */
void ft_tensors_apart(const ft_tensors *);

size_t ft_tensors_count(const ft_tensors *);
const ft_tensor *ft_tensors_at(const ft_tensors *, size_t i); /* in the order of their data */
const ft_tensor *ft_tensors_find(const ft_tensors *, const char *name);
/* The text of "__metadata__" or of a GGUF key (numbers as text; not for arrays, strings with zero
 * bytes, strings over 1 MiB); NULL: none. */
const char *ft_tensors_note(const ft_tensors *, const char *key);
const ft_meta *ft_tensors_meta(const ft_tensors *, const char *key);
/* All of a GGUF's key-values, in file order. */
const ft_meta *ft_tensors_metas(const ft_tensors *, size_t *n);
/* What was odd but accepted; n sentences. */
const char *const *ft_tensors_warnings(const ft_tensors *, size_t *n);
bool ft_tensors_is_gguf(const ft_tensors *);

/* *count = the NaNs and infinities among its numbers: files may hold them, base weights may not.
 * False for a tensor whose numbers cannot be decoded (integers, unknown schemes). */
bool ft_tensor_nonfinite(const ft_tensor *t, uint64_t *count);

/* Interface "ft.tensors/1". */
extern const ft_tensors_api ft_tensors_interface;
#endif
