/* stage_merge.c -- the merge stage: base and adapter made one, as an artifact for the stages after
 * it.  Every number keeps the dtype that holds it exactly. */
#include <string.h>
#include "core/run/model_file.h"
#include "core/run/receipt.h"
#include "ft/export.h"

static void say_merged(const ft_run *r, const ft_stage *s, const ft_merge *m, bool original)
{
    size_t merged = 0, trained = 0;
    for (size_t i = 0; i < m->n; i++) {
        merged += m->item[i].way == FT_MERGE_SITE;
        trained += m->item[i].way == FT_MERGE_TRAINED;
    }
    ft_log_line(&r->cli->log, FT_INFO, s->conf->id,
                "%zu tensors merged, %zu trained whole, %zu as they were%s%s", merged, trained,
                m->n - merged - trained,
                original ? "; onto the original weights, not those that were trained on" : "",
                m->untied ? "; the head has weights of its own now" : "");
}

bool ft_merge_departs(const ft_stage *s)
{
    const ft_merger *vt = s->conf->plugin->desc.vtable;
    const char *config = s->conf->config;
    const ft_merge_args *a = (const ft_merge_args *)(const void *)(config + vt->args);
    return s->input[FT_PACKED] >= 0 && !strcmp(a->base, "original");
}

int ft_stage_merge(ft_run *r, ft_stage *s, const char *dir, ft_err *e)
{
    bool original = ft_merge_departs(s);
    const ft_model_form form = { .dir = dir, .max_shard = 5000000000 };
    ft_rounding rounding = { .worst = 0 };
    ft_receipt receipt = { .form = "merged, in fp32 where it changed",
                           .exact = !original };
    ft_merge m;
    int code = ft_merge_open(&m, r, s, original ? FT_MERGE_ONTO_ORIGINAL : 0, e);
    if (code) return code;
    code = ft_model_save(&m, &form, &rounding, e);
    if (!code) code = ft_merge_check_uses(&m, e);
    if (!code) code = ft_model_save_config(&m, &form, FT_F32, e);
    if (!code) say_merged(r, s, &m, original);
    ft_merge_close(&m);
    const ft_written written = { .path = dir };
    return code ? code : ft_receipt_make(&receipt, r, s, &written, dir, e);
}
