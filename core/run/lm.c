/* lm.c -- see lm.h. */
#include "core/run/lm.h"
#include "core/base/json.h"

int ft_lm_scan(ft_program *p, const ft_model_run *m, ft_err *e)
{
    ft_program_args a = { .purpose = FT_FOR_LOGITS,
                          .model = m->vt,
                          .model_self = m->self,
                          .compute = FT_F32,
                          .max_tokens = 16,
                          .max_trained = 16 };
    return ft_program_plan(p, &a, NULL, NULL, 1, e);
}

static int open_adapter(ft_lm_run *lm, ft_registry *r, const ft_offer *offer, const char *dir,
                        ft_err *e)
{
    ft_json_doc *doc = ft_adapter_config(dir, e);
    const ft_loaded *p = doc ? ft_adapter_plugin(r, ft_json_root(doc), e) : NULL;
    void *config = p ? ft_arena_alloc(&lm->arena, p->desc.config_size) : NULL;
    int code = !p ? e->code : !config ? ft_errf(e, FT_ENOMEM, "out of memory for the adapter")
             : ft_adapter_fill(config, p, ft_json_root(doc), dir, &lm->arena, e);
    ft_json_done(doc);
    if (code) return code;
    lm->adapter = ft_instance_open(p, p->name, config, offer, e);
    lm->adapter_tensors = lm->adapter ? ft_adapter_tensors(dir, e) : NULL;
    if (!lm->adapter_tensors) return e->code;
    const ft_adapter *vt = ft_instance_vtable(lm->adapter);
    lm->method.n_adapters = 1;
    lm->method.adapter[0] = (ft_method_adapter){
        .plugin = p->name,
        .vt = vt,
        .self = ft_instance_self(lm->adapter),
        .targets = (const ft_targets *)(const void *)((const char *)config + vt->targets)
    };
    return ft_method_choose(&lm->method, lm->scan.g, e);
}

int ft_lm_open(ft_lm_run *lm, ft_registry *r, const ft_offer *offer, const char *model,
               const char *adapter_dir, int threads, ft_err *e)
{
    *lm = (ft_lm_run){ .adapter = NULL };
    int code = ft_machine_open(&lm->machine, r, threads, e);
    if (!code) code = ft_model_open(&lm->model, model, r, offer, e);
    if (!code) code = ft_model_open_weights(&lm->model, &lm->weights, e);
    if (!code) code = ft_lm_scan(&lm->scan, &lm->model, e);
    if (!code && adapter_dir) code = open_adapter(lm, r, offer, adapter_dir, e);
    if (code) ft_lm_close(lm);
    return code;
}

void ft_lm_close(ft_lm_run *lm)
{
    ft_method_free(&lm->method);
    ft_instance_close(lm->adapter);
    ft_tensors_close(lm->adapter_tensors);
    ft_program_free(&lm->scan);
    ft_weights_free(&lm->weights);
    ft_model_close(&lm->model);
    ft_machine_close(&lm->machine);
    ft_arena_free(&lm->arena);
    *lm = (ft_lm_run){ .adapter = NULL };
}

ft_program_args ft_lm_args(ft_lm_run *lm)
{
    return (ft_program_args){ .model = lm->model.vt,
                              .model_self = lm->model.self,
                              .compute = FT_F32,
                              .method = lm->method.n_adapters ? &lm->method : NULL };
}

ft_asked ft_asked_lm(ft_lm_run *lm, ft_dtype compute)
{
    ft_asked a = { .machine = &lm->machine,
                   .program = ft_lm_args(lm),
                   .weights = &lm->weights,
                   .adapter = lm->adapter_tensors };
    a.program.compute = compute;
    return a;
}

ft_engine ft_asked_engine(const ft_asked *a, ft_program *p)
{
    enum { PROCESS = 12 << 20 }; /* program, libraries, tables */
    ft_engine e = { .machine = a->machine, .program = { p }, .n_programs = 1 };
    if (!a->memory_limit) return e;
    ft_engine_size(&e);
    uint64_t need = e.bytes + PROCESS;
    for (uint32_t i = 0; i < p->g->n_weight; i++) {
        if (p->g->weight[i].shape.ndim >= 2)
            need += ft_weights_bytes(a->weights, p->g->weight[i].name);
    }
    if (need <= a->memory_limit) return e;
    ft_tensors_apart(a->weights->base);
    e.paged = a->weights;
    return e;
}
