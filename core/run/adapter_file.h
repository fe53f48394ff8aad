/* adapter_file.h -- an adapter's folder in PEFT's layout: adapter_config.json and
 * adapter_model.safetensors. */
#ifndef FT_CORE_ADAPTER_FILE_H
#define FT_CORE_ADAPTER_FILE_H
#include "core/load/instance.h"
#include "core/run/engine.h"

/* The configuration of a saved adapter, parsed; free with ft_json_done. */
ft_json_doc *ft_adapter_config(const char *dir, ft_err *e);
/* The adapter plugin that knows a saved configuration (by peft_type; DoRA by use_dora).  NULL after
 * an error that names the type. */
const ft_loaded *ft_adapter_plugin(ft_registry *r, const ft_json *config, ft_err *e);
/* Fills a plugin's config struct from it (arena owns the texts).  Keys that the plugin does not
 * have are refused when they say something it would not do. */
int ft_adapter_fill(void *out, const ft_loaded *p, const ft_json *config, const char *dir,
                    ft_arena *arena, ft_err *e);
/* The tensors of the folder. */
ft_tensors *ft_adapter_tensors(const char *dir, ft_err *e);

/* Its configuration as it is written. */
void ft_adapter_config_text(ft_buf *out, const ft_method *m, const ft_instance *adapter,
                            const char *base_model);
/* Writes the trained parameters (and frozen ones an adapter made) of a run with one adapter.  The
 * folder is made; files are written aside and renamed, the configuration last. */
int ft_adapter_save(const char *dir, const ft_engine *e, const ft_method *m,
                    const ft_instance *adapter, const char *base_model, ft_err *err);
/* Its tensors alone, as one file: also what full fine-tuning trained. */
int ft_trained_save(const char *path, const ft_engine *e, ft_err *err);
#endif
