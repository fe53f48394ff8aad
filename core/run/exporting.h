/* exporting.h -- an export under way: what the functions share that ft/export.h promises. */
#ifndef FT_CORE_EXPORTING_H
#define FT_CORE_EXPORTING_H
#include "core/base/file.h"
#include "core/run/adapter_plan.h"
#include "core/run/chat.h"
#include "core/run/model_file.h"
#include "core/run/receipt.h"
#include "ft/export.h"

typedef struct {
    ft_export pub; /* first */
    ft_run *run;
    ft_stage *stage;
    ft_instance *plugin;
    ft_merge merge;
    ft_chat chat;
    ft_rounding rounding;
    ft_json_doc *adapter;  /* adapter_config.json, or NULL */
    ft_adapter_plan plan;  /* while checking: what will be there */
    ft_aside file;         /* begun, not ended, when open */
    bool open;
    char dir[4096];
} ft_exporting;

/* The first error of a service goes to the plugin's instance, which adds stage and plugin. */
int ft_exporting_failed(const ft_exporting *x, int code, const ft_err *e);
/* Fills in put, copy, begin, append and end. */
void ft_exporting_offer_files(ft_export *pub);
#endif
