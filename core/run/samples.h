/* samples.h -- rendered rows between the format and the tokenizer stage: one file, written and read
 * from front to back in constant memory (where sides were chosen before, 8 bytes for each sample of
 * evaluation).
 *
 * File: "FTSAMP1\n"; for each sample a header (samples.c), then for each sequence its spans and its
 * text; an index (offset and split of every sample) and its place at the end.  The split is decided
 * when all rows are known: the rows whose groups have the smallest hashes are kept for evaluation,
 * so equal questions never stand on both sides and the choice does not depend on their order.
 * Where the sides were chosen before (a file of its own for evaluation, sets that were split one by
 * one), a training row whose question is also asked in evaluation is left out. */
#ifndef FT_CORE_SAMPLES_H
#define FT_CORE_SAMPLES_H
#include "core/base/file.h"
#include "core/base/spool.h"
#include "ft/data.h"

typedef struct {
    ft_aside out;
    ft_buf pending;  /* bytes not written yet */
    ft_spool index;  /* records of the index */
    uint64_t at;
    uint64_t n_auto; /* samples whose side is the host's to choose */
    char dir[4096];
} ft_samples_writer;

int ft_samples_create(ft_samples_writer *w, const char *path, ft_err *e);
int ft_samples_add(ft_samples_writer *w, const ft_sample *s, ft_err *e);
/* val_size: a fraction below 1, or a number of rows.  *leaked: training rows left out because their
 * question is asked in evaluation. */
int ft_samples_finish(ft_samples_writer *w, double val_size, int64_t *leaked, ft_err *e);
void ft_samples_drop(ft_samples_writer *w);

typedef struct {
    ft_map_file map;
    uint64_t n, index;
    size_t read; /* bytes of samples that may be in memory */
} ft_samples;

int ft_samples_open(ft_samples *s, const char *path, ft_err *e);
void ft_samples_close(ft_samples *s);
/* Sample i; spans and texts lie in the map, `file` is "" (the line stands in it alone).  The
 * pages of what was read go back to the system from time to time. */
int ft_samples_get(ft_samples *s, uint64_t i, ft_sample *out, ft_err *e);
#endif
