/* encoders.c -- see encoders.h. */
#include "core/run/encoders.h"
#include <stdlib.h>

int ft_encoders_open(ft_encoders *x, const ft_tokenizer *vt, void *self, int threads, ft_err *e)
{
    int n = threads > 0 ? threads : ft_cpu_count();
    *x = (ft_encoders){ .vt = vt, .self = self, .encoder = calloc((size_t)n, sizeof(void *)) };
    for (; x->encoder && x->n < n; x->n++) {
        if (!(x->encoder[x->n] = vt->encoder(self))) break;
    }
    int code = x->n == n ? 0 : ft_errf(e, FT_ENOMEM, "out of memory while tokenizing");
    if (!code && n > 1 && !(x->pool = ft_pool_new(n, NULL, e))) code = e ? e->code : FT_ENOMEM;
    if (code) ft_encoders_close(x);
    return code;
}

void ft_encoders_close(ft_encoders *x)
{
    for (int i = 0; i < x->n; i++) x->vt->encoder_done(x->self, x->encoder[i]);
    free(x->encoder);
    ft_pool_free(x->pool);
    *x = (ft_encoders){ .n = 0 };
}

typedef struct {
    const ft_encoders *x;
    void (*row)(void *arg, size_t i, void *encoder);
    void *arg;
} job;

static void rows(void *arg, int thread, int64_t begin, int64_t end)
{
    const job *j = arg;
    for (int64_t i = begin; i < end; i++) j->row(j->arg, (size_t)i, j->x->encoder[thread]);
}

void ft_encoders_run(const ft_encoders *x, size_t n,
                     void (*row)(void *arg, size_t i, void *encoder), void *arg)
{
    job j = { x, row, arg };
    if (x->pool) ft_pool_run(x->pool, (int64_t)n, rows, &j);
    else rows(&j, 0, 0, (int64_t)n);
}
