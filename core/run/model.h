/* model.h -- the model of a run: its files, and the plugin that knows its architecture. */
#ifndef FT_CORE_RUN_MODEL_H
#define FT_CORE_RUN_MODEL_H
#include "core/io/source.h"
#include "core/load/instance.h"
#include "core/run/program.h"

typedef struct {
    ft_source *source;
    ft_tensors *tensors;   /* NULL until ft_model_open_weights */
    ft_instance *plugin;
    const ft_model *vt;
    void *self;
    ft_model_info info;
    ft_instance *quantizer; /* reads a folder whose weights are packed, or NULL */
    const uint64_t *planned; /* without weights: bytes that weight i of the build planned_for has */
    const ft_g *planned_for; /* packed, 0: it is plain (ft_weights) */
} ft_model_run;

/* Opens the configuration and finds the model plugin that claims it, and the quantizer that claims
 * its quantization_config.  No weight is read. */
int ft_model_open(ft_model_run *m, const char *path, ft_registry *r, const ft_offer *offer,
                  ft_err *e);
/* Maps the weight files and points *w at them. */
int ft_model_open_weights(ft_model_run *m, ft_weights *w, ft_err *e);
void ft_model_close(ft_model_run *m);
#endif
