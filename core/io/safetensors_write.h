/* safetensors_write.h -- writes safetensors files of any size in constant memory.
 *
 *     w = ft_st_new(&e);
 *     ft_st_note(w, "format", "pt", &e);
 *     a = ft_st_declare(w, "x.weight", FT_F32, dim, 2, &e);    every tensor, before any byte
 *     ft_st_begin(w, "out/model.safetensors", max_shard, &e);
 *     ft_st_write(w, a, p, n, &e);                             in pieces, tensors in any order
 *     ft_st_commit(w, &e);
 *     ft_st_free(w);                                           before commit: nothing is left
 *
 * Files are written aside, fsynced and renamed (core/base/file.h), so that writing onto the file
 * that the data is being read from is safe. */
#ifndef FT_CORE_SAFETENSORS_WRITE_H
#define FT_CORE_SAFETENSORS_WRITE_H
#include "core/base/err.h"
#include "ft/tensor.h"

typedef struct ft_st_writer ft_st_writer;

ft_st_writer *ft_st_new(ft_err *e); /* NULL after an error */
void ft_st_free(ft_st_writer *w);   /* NULL is fine */

/* An entry of "__metadata__"; a key may stand there once. */
int ft_st_note(ft_st_writer *w, const char *key, const char *value, ft_err *e);
/* Announces a tensor; returns its index (0, 1, …) or a negative code. */
int64_t ft_st_declare(ft_st_writer *w, const char *name, ft_dtype dtype, const int64_t *dim,
                      int ndim, ft_err *e);

/* Makes room for the file and writes its header.  When the tensors take more than max_shard bytes
 * (0: no limit), they go, in the order of declaration, into path's folder as
 * STEM-00001-of-0000N.safetensors with an index STEM.safetensors.index.json; path must then end
 * with ".safetensors".  A tensor larger than max_shard gets a shard of its own. */
int ft_st_begin(ft_st_writer *w, const char *path, uint64_t max_shard, ft_err *e);
/* Appends the next n bytes of tensor i. */
int ft_st_write(ft_st_writer *w, int64_t i, const void *p, size_t n, ft_err *e);
/* Refuses while bytes are missing; else the files get their names, the index last.  A single file
 * of an earlier save, which readers would prefer to the shards, is removed. */
int ft_st_commit(ft_st_writer *w, ft_err *e);
#endif
