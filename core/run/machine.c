/* machine.c -- see machine.h. */
#include "core/run/machine.h"
#include <stdlib.h>
#include <string.h>

static const char *choose_variant(const ft_machine *m, ft_err *e)
{
    const char *wanted = getenv("PIPELINE_ISA");
    const char *const *v = m->backend->variants();
    bool named = wanted && *wanted;
    for (; *v; v++) {
        if (named ? !strcmp(*v, wanted) : m->backend->self_test(*v)) return *v;
    }
    if (!named) return "plain";
    ft_errf(e, FT_EINVAL, "PIPELINE_ISA=%s: this machine or build has no such kernels", wanted);
    return NULL;
}

int ft_machine_open(ft_machine *m, ft_registry *r, int threads, ft_err *e)
{
    *m = (ft_machine){ .threads = threads > 0 ? threads : ft_cpu_count() };
    const ft_loaded *p = ft_registry_get(r, "kernels-cpu", e);
    if (!p) return e->code;
    m->backend = p->desc.vtable;
    m->kernels.variant = choose_variant(m, e);
    if (!m->kernels.variant) return e->code;
    m->kernels.kernel = m->backend->kernels(m->kernels.variant, &m->kernels.n);
    m->exact = m->backend->self_test(m->kernels.variant);
    return m->kernels.kernel
               ? 0
               : ft_errf(e, FT_EUNSUP, "%s has no %s kernels", p->path, m->kernels.variant);
}

int ft_machine_start(ft_machine *m, ft_err *e)
{
    if (!m->pool) m->pool = ft_pool_new(m->threads, m->backend->enter, e);
    return m->pool ? 0 : e->code;
}

void ft_machine_close(ft_machine *m)
{
    ft_pool_free(m->pool);
    *m = (ft_machine){ .threads = 0 };
}

ft_dtype ft_machine_compute(const ft_machine *m, const char *name)
{
    bool has_bf16 = !strncmp(m->kernels.variant, "avx512", 6);
    return !strcmp(name, "bf16") || (!strcmp(name, "auto") && has_bf16) ? FT_BF16 : FT_F32;
}
