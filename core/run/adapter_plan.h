/* adapter_plan.h -- an adapter's files before it is trained: what its adapter_config.json will say,
 * and the names and shapes of its tensors.  An exporter that writes the adapter by itself is held
 * against them before anything runs. */
#ifndef FT_CORE_ADAPTER_PLAN_H
#define FT_CORE_ADAPTER_PLAN_H
#include "core/base/json.h"
#include "core/run/stage_train.h"

typedef struct {
    ft_lineup lineup;
    ft_program program;
    ft_json_doc *config;
    ft_tensor *tensor;     /* without data */
    size_t n;
} ft_adapter_plan;

/* Of the adapter that training stage s trains.  *p is empty at first, and closed after an error
 * too. */
int ft_adapter_plan_open(ft_adapter_plan *p, ft_run *r, const ft_stage *s, ft_err *e);
void ft_adapter_plan_close(ft_adapter_plan *p);
#endif
