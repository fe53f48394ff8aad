/* pipeline.c -- running the stages of an open pipeline, and checking one without running it. */
#include "core/run/pipeline.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core/base/file.h"
#include "core/base/suggest.h"
#include "core/base/json.h"
#include "core/config/canon.h"
#include "core/run/stage_train.h"

/* ---- one stage ------------------------------------------------------------------------------------- */

typedef struct { ft_run *r; ft_stage *s; const char *dir; } stage_job;

static int run_job(void *arg, ft_err *e)
{
    stage_job *j = arg;
    j->r->current = (int)(j->s - j->r->stage);
    ft_progress_start(&j->r->progress, &j->r->cli->log, j->s->conf->id);
    int code = j->s->kind->run(j->r, j->s, j->dir, e);
    ft_progress_end(&j->r->progress);
    return code;
}

static int run_stage(ft_run *r, ft_stage *s, ft_err *e)
{
    char temp[4096];
    stage_job j = { r, s, temp };
    int code = ft_artifact_begin(r, s, temp, e);
    if (code) return code;
    code = ft_isolate(s->conf->id, run_job, &j, &s->result, e);
    if (!code) code = ft_artifact_finish(r, s, temp, e);
    if (code) ft_remove_tree(temp, NULL);
    if (!code)
        ft_log_line(&r->cli->log, FT_INFO, s->conf->id, "done, peak memory %.1f MiB", (double)s->result.peak_rss_bytes / (1 << 20));
    return code;
}

/* ---- which stages ---------------------------------------------------------------------------------- */

static int find_stage(const ft_run *r, const char *option, const char *id, ft_err *e)
{
    const char *ids[FT_CONFIG_STAGES];
    for (int i = 0; i < r->n_stages; i++) {
        ids[i] = r->stage[i].conf->id;
        if (!strcmp(ids[i], id)) return i;
    }
    const char *near = ft_suggest(id, ids, (size_t)r->n_stages);
    ft_errf(e, FT_EINVAL, "%s %s: there is no such stage%s%s%s", option, id, near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    return -1;
}

/* What a stage takes must be there when only a later one is run. */
static int check_inputs(const ft_run *r, const ft_stage *s, ft_err *e)
{
    for (int p = 0; p < FT_N_PORTS; p++) {
        const ft_stage *in = ft_run_input(r, s, (ft_port)p);
        if (in && !ft_artifact_whole(r, in))
            return ft_errf(e, FT_EINVAL, "%s needs the %s of %s, which has not run; leave out --only", s->conf->id, ft_port_name((ft_port)p), in->conf->id);
    }
    return 0;
}

static int go(ft_run *r, int i, bool again, ft_err *e)
{
    ft_stage *s = &r->stage[i];
    char why[300];
    if (!s->kind->run) return 0;
    if (!again && ft_artifact_whole(r, s)) {
        s->reused = true;
        ft_log_line(&r->cli->log, FT_INFO, s->conf->id, "reused, nothing has changed");
        return 0;
    }
    if (again) snprintf(why, sizeof why, "asked for");
    else ft_artifact_why(r, s, why, sizeof why);
    ft_log_line(&r->cli->log, FT_INFO, s->conf->id, "runs: %s", why);
    return run_stage(r, s, e);
}

/* ---- run.lock.yaml ---------------------------------------------------------------------------------- */

static int write_lock(ft_run *r, ft_err *e)
{
    ft_machine m;
    ft_buf b = { 0 };
    char path[4096];
    int code = ft_machine_open(&m, r->registry, r->cli->threads, e);
    if (code) return code;
    ft_buf_printf(&b, "# what this run was made of; itself a pipeline file\n");
    ft_config_write(&b, &r->config);
    ft_buf_printf(&b, "# program: %s\n# threads: %d\n# instruction set: %s\n# numerics contract: %s\n", FT_VERSION, m.threads,
                  m.kernels.variant, m.exact ? "kept: the same bytes on any number of threads" : "not kept on this machine");
    if (*r->model_hash) ft_buf_printf(&b, "# model: %s sha256 %s\n", r->config.model, r->model_hash);
    for (int i = 0; i < r->n_stages; i++) {
        const ft_loaded *p = r->stage[i].conf->plugin;
        ft_buf_printf(&b, "# stage %s: plugin %s %s, build id %s, sha256 %s, key %s\n", r->stage[i].conf->id, p->name, p->desc.version,
                      *p->build_id ? p->build_id : "none", p->sha256, r->stage[i].key);
    }
    code = ft_path_join(path, sizeof path, r->config.output_dir, "run.lock.yaml", e);
    if (!code) code = ft_file_write_buf(path, &b, e);
    ft_buf_free(&b);
    ft_machine_close(&m);
    return code;
}

/* ---- the finished run -------------------------------------------------------------------------------- */

static int publish(ft_run *r, ft_err *e)
{
    static const char *const trained[] = { "adapter/adapter_model.safetensors", "adapter/adapter_config.json", "metrics.jsonl",
                                           "timing.jsonl", NULL };
    int code = 0;
    for (int i = 0; i < r->n_stages && !code; i++) {
        if (r->stage[i].kind->gives == FT_TRAINED && ft_artifact_whole(r, &r->stage[i]))
            code = ft_run_publish(r->stage[i].dir, r->config.output_dir, trained, e);
        if (!code && r->stage[i].kind->run == ft_stage_export && ft_artifact_whole(r, &r->stage[i]))
            code = ft_run_publish_folder(r->stage[i].dir, r->config.output_dir, "model", e);
    }
    return code;
}

int ft_pipeline_run(ft_run *r, const char *from, const char *only, ft_err *e)
{
    int first = from ? find_stage(r, "--from", from, e) : r->n_stages, just = only ? find_stage(r, "--only", only, e) : -1;
    if (first < 0 || (only && just < 0)) return e->code;
    int code = ft_make_dirs(r->config.output_dir, e);
    if (!code) code = ft_make_dirs(r->artifacts, e);
    if (code) return code;
    ft_artifact_sweep(r);
    code = write_lock(r, e);
    for (int i = 0; i < r->n_stages && !code; i++) {
        if (only && i != just) continue;
        if (only) code = check_inputs(r, &r->stage[i], e);
        if (!code) code = go(r, i, i >= first || only, e);
    }
    return code ? code : publish(r, e);
}

/* ---- check ------------------------------------------------------------------------------------------- */

/* Tokens for planning: from their artifact, or made in a folder of their own that is removed again. */
static int tokens_for(ft_run *r, const ft_stage *train, char dir[4096], bool *made, ft_err *e)
{
    ft_stage *t = ft_run_input(r, train, FT_TOKENS);
    *made = false;
    snprintf(dir, 4096, "%s", t->dir);
    if (ft_artifact_whole(r, t)) return 0;
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, 4096, "%s/pipeline-check-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(dir)) return ft_errf(e, FT_EIO, "cannot make a temporary folder %s", dir);
    *made = true;
    ft_stage *samples = ft_run_input(r, t, FT_SAMPLES);
    int code = 0;
    if (samples && !ft_artifact_whole(r, samples)) {
        snprintf(samples->dir, sizeof samples->dir, "%s", dir);
        code = samples->kind->run(r, samples, dir, e);
    }
    return code ? code : t->kind->run(r, t, dir, e);
}

static int plan_training(ft_run *r, const ft_stage *s, ft_train_plan *plan, bool print, ft_err *e)
{
    ft_lineup l;
    ft_training t = { .virtual_tokens = 0 };
    char dir[4096];
    bool made = false;
    int code = tokens_for(r, s, dir, &made, e);
    if (!code) {
        code = ft_lineup_open(&l, r, s, FT_LINEUP_TOKENS | FT_LINEUP_PLAN, dir, e);
        if (!code) {
            code = ft_lineup_training(&t, &l, r, s, r->config.output_dir, e);
            if (!code) *plan = t.plan;
            if (!code && print) ft_lineup_print(r, &t, s->conf->id);
            ft_training_close(&t);
            ft_lineup_close(&l);
        }
    }
    if (made) ft_remove_tree(dir, NULL);
    return code;
}

int ft_pipeline_check(ft_run *r, ft_train_plan *plan, bool print, ft_err *e)
{
    *plan = (ft_train_plan){ .rows = 0 };
    for (int i = 0; i < r->n_stages; i++) {
        const ft_stage *s = &r->stage[i];
        ft_instance *probe = ft_run_instance(r, s, e);
        if (!probe) return e->code;
        ft_instance_close(probe);
        if (s->kind->gives != FT_TRAINED) continue;
        int code = plan_training(r, s, plan, print, e);
        if (code) return code;
    }
    return 0;
}
