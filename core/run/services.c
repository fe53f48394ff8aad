/* services.c -- see services.h. */
#include "core/run/services.h"
#include "core/io/tensors.h"
#include "core/run/evaluate.h"
#include "core/run/table_file.h"
#include "core/text/template.h"

/* ---- ft.threads/1 ---------------------------------------------------------------------------- */

typedef struct { void (*fn)(void *, int64_t); void *arg; } each_job;

static void each_range(void *arg, int thread, int64_t begin, int64_t end)
{
    const each_job *j = arg;
    (void)thread;
    for (int64_t i = begin; i < end; i++) j->fn(j->arg, i);
}

static void threads_each(const ft_host *h, int64_t n, void (*fn)(void *, int64_t), void *arg)
{
    const ft_run *r = ft_host_run(h);
    each_job j = { fn, arg };
    if (r && r->machine && r->machine->pool) ft_pool_run(r->machine->pool, n, each_range, &j);
    else each_range(&j, 0, 0, n);
}

/* ---- ft.source/1 ----------------------------------------------------------------------------- */

static const ft_source *source_model(const ft_host *h)
{
    const ft_run *r = ft_host_run(h);
    if (r && r->model.source) return r->model.source;
    h->fail(h, FT_EINVAL, "there is no model; set `model:`");
    return NULL;
}

static const ft_threads_api threads = { sizeof threads, threads_each };
static const ft_source_api source = { sizeof source, source_model };

ft_offer ft_run_offer(ft_log *log)
{
    static ft_service all[16];
    static size_t n;
    if (!n) {
        size_t core;
        const ft_service *s = ft_core_services(&core);
        for (; n < core; n++) all[n] = s[n];
        all[n++] = (ft_service){ "ft.tensors/1", &ft_tensors_interface };
        all[n++] = (ft_service){ "ft.threads/1", &threads };
        all[n++] = (ft_service){ "ft.source/1", &source };
        all[n++] = (ft_service){ "ft.template/1", &ft_template_interface };
        all[n++] = (ft_service){ "ft.table/1", &ft_table_interface };
        all[n++] = (ft_service){ "ft.lm/1", &ft_lm_interface };
    }
    return (ft_offer){ .service = all, .n_services = n, .log = log };
}
