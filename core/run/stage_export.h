/* stage_export.h -- what is asked of an export stage before anything runs. */
#ifndef FT_CORE_STAGE_EXPORT_H
#define FT_CORE_STAGE_EXPORT_H
#include "core/run/run.h"

/* The plugin can write this model, and a form that keeps less than the model's own numbers do has
 * been asked for with `lossy: true`. */
int ft_export_check(ft_run *r, ft_stage *s, ft_instance *plugin, ft_err *e);
/* Name of the folder that an export stage's plugin fills. */
const char *ft_export_folder(const ft_stage *s);
#endif
