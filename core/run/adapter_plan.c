/* adapter_plan.c -- see adapter_plan.h.  The parameters are those of a build for scoring: every
 * build declares the same. */
#include "core/run/adapter_plan.h"
#include <string.h>
#include "core/run/adapter_file.h"

static int plan_config(ft_adapter_plan *p, const ft_run *r, ft_err *e)
{
    ft_buf text = { 0 };
    ft_adapter_config_text(&text, &p->lineup.method, p->lineup.adapter, r->config.model);
    const char *kept = text.oom ? NULL : ft_arena_strndup(&p->lineup.arena, text.p, text.n);
    if (kept) p->config = ft_json_parse("adapter_config.json", kept, text.n, e);
    else ft_errf(e, FT_ENOMEM, "out of memory for the adapter");
    ft_buf_free(&text);
    return p->config ? 0 : e->code;
}

static int plan_tensors(ft_adapter_plan *p, ft_run *r, ft_err *e)
{
    const ft_program_args a = { .purpose = FT_FOR_SCORING,
                                .model = r->model.vt,
                                .model_self = r->model.self,
                                .method = &p->lineup.method,
                                .compute = FT_F32,
                                .max_tokens = 16,
                                .max_trained = 16 };
    int code = ft_program_plan(&p->program, &a, NULL, NULL, 1, e);
    if (code) return code;
    const ft_g *g = p->program.g;
    p->tensor = ft_arena_array(&p->lineup.arena, g->n_param, sizeof *p->tensor);
    if (!p->tensor) return ft_errf(e, FT_ENOMEM, "out of memory for the adapter");
    for (uint32_t i = 0; i < g->n_param; i++) {
        const g_param *from = &g->param[i];
        if (!from->saved) continue;
        ft_tensor *t = &p->tensor[p->n++];
        *t = (ft_tensor){ .name = from->name,
                          .dtype = g_value_at(g, from->value)->desc.dtype,
                          .ndim = from->shape.ndim };
        memcpy(t->dim, from->shape.dim, sizeof from->shape.dim);
    }
    return 0;
}

int ft_adapter_plan_open(ft_adapter_plan *p, ft_run *r, const ft_stage *s, ft_err *e)
{
    int code = ft_lineup_open(&p->lineup, r, s, FT_LINEUP_PLAN, NULL, e);
    if (!code) code = plan_config(p, r, e);
    return code ? code : plan_tensors(p, r, e);
}

void ft_adapter_plan_close(ft_adapter_plan *p)
{
    ft_program_free(&p->program);
    ft_json_done(p->config);
    ft_lineup_close(&p->lineup);
    *p = (ft_adapter_plan){ .n = 0 };
}
