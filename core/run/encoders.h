/* encoders.h -- one tokenizer on several threads: rows are encoded side by side, each thread in an
 * encoder of its own.  What a row becomes does not depend on the thread. */
#ifndef FT_CORE_RUN_ENCODERS_H
#define FT_CORE_RUN_ENCODERS_H
#include "core/base/pool.h"
#include "ft/data.h"

typedef struct {
    const ft_tokenizer *vt;
    void *self;
    int n;           /* threads */
    void **encoder;  /* [n] */
    ft_pool *pool;   /* NULL: one thread */
} ft_encoders;

/* self: a loaded tokenizer, which outlives *x; threads 0: as many as there are processors. */
int ft_encoders_open(ft_encoders *x, const ft_tokenizer *vt, void *self, int threads, ft_err *e);
void ft_encoders_close(ft_encoders *x);
/* Calls row(arg, i, encoder) once for each i in [0, n), on all threads, in any order. */
void ft_encoders_run(const ft_encoders *x, size_t n,
                     void (*row)(void *arg, size_t i, void *encoder), void *arg);
#endif
