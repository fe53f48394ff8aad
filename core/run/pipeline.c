/* pipeline.c -- running the stages of an open pipeline, and checking one without running it. */
#include "core/run/pipeline.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>
#include "core/base/file.h"
#include "core/base/suggest.h"
#include "core/base/json.h"
#include "core/config/canon.h"
#include "core/run/evaluate.h"
#include "core/run/memory_table.h"
#include "core/run/receipt.h"
#include "core/run/report.h"
#include "core/run/stage_export.h"
#include "core/run/stage_train.h"
#include "core/run/tokenizer.h"

/* ---- one stage ------------------------------------------------------------------------------- */

typedef struct { ft_run *r; ft_stage *s; const char *dir; } stage_job;

/* The stage's work, in this process: fills dir. */
static int work(ft_run *r, ft_stage *s, const char *dir, ft_err *e)
{
    r->current = (int)(s - r->stage);
    ft_progress_start(&r->progress, &r->cli->log, s->conf->id);
    int code = s->kind->run(r, s, dir, e);
    ft_progress_end(&r->progress);
    return code;
}

static int run_job(void *arg, ft_err *e)
{
    const stage_job *j = arg;
    return work(j->r, j->s, j->dir, e);
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
        ft_log_line(&r->cli->log, FT_INFO, s->conf->id, "done, peak memory %.1f MiB",
                    (double)s->result.peak_rss_bytes / (1 << 20));
    return code;
}

/* ---- before anything is written -------------------------------------------------------------- */

/* A training stage: its adapter finds its targets, its first values fit, its optimizer and schedule
 * are there. */
static int try_training(ft_run *r, const ft_stage *s, ft_err *e)
{
    const ft_trainer *vt = s->conf->plugin->desc.vtable;
    const ft_train_args *args =
        (const ft_train_args *)(const void *)((const char *)s->conf->config + vt->args);
    ft_arena arena = { 0 };
    ft_optim optim = { .args = NULL };
    ft_program p = { .x = NULL };
    ft_lineup l;
    int code = ft_train_args_check(args, e);
    if (!code) code = ft_lineup_open(&l, r, s, FT_LINEUP_PLAN, NULL, e);
    if (code) return code;
    ft_program_args a = { .purpose = FT_FOR_SCORING,
                          .model = r->model.vt,
                          .model_self = r->model.self,
                          .method = &l.method,
                          .compute = FT_F32,
                          .max_tokens = 16,
                          .max_trained = 16 };
    if (l.init) code = ft_program_plan(&p, &a, NULL, NULL, 1, e);
    if (!code && l.init) code = ft_engine_adapter_fits(p.g, l.init, e);
    if (!code) code = ft_optim_open(&optim, args, r->registry, &r->offer, &arena, e);
    ft_optim_close(&optim);
    ft_program_free(&p);
    ft_lineup_close(&l);
    ft_arena_free(&arena);
    return code;
}

/* The stage's plugin takes its parameters and opens its inputs. */
static int try_stage(void *arg, ft_err *e)
{
    stage_job *j = arg;
    if (j->s->kind->gives == FT_PACKED && j->r->model.quantizer)
        return ft_errf(e, FT_EINVAL,
                       "%s: the weights of %s are packed already (read by %s); leave %s out",
                       j->s->conf->id, j->r->config.model,
                       ft_instance_plugin(j->r->model.quantizer)->name, j->s->conf->id);
    ft_instance *probe = ft_run_instance(j->r, j->s, e);
    if (!probe) return e->code;
    int code = j->s->kind->run == ft_stage_export ? ft_export_check(j->r, j->s, probe, e) : 0;
    ft_instance_close(probe);
    if (!code && j->s->kind->run == ft_stage_tokenize && !ft_artifact_whole(j->r, j->s))
        code = ft_tokenizer_fits(j->s->conf->plugin, j->r->model.source, j->r->registry, e);
    return !code && j->s->kind->gives == FT_TRAINED ? try_training(j->r, j->s, e) : code;
}

/* Every weight of the model is there with its shape; no number is read. */
static int try_weights(ft_run *r, ft_err *e)
{
    ft_weights w = { .base = NULL };
    if (!*r->model_hash) return 0;
    ft_arg *all = calloc(r->scan.g->n_weight + 1, sizeof *all);
    int code = all ? ft_model_open_weights(&r->model, &w, e)
                   : ft_errf(e, FT_ENOMEM, "out of memory while opening the model");
    if (!code) code = ft_weights_bind(&w, r->scan.g, all, e);
    ft_weights_free(&w);
    free(all);
    return code;
}

/* Each in a process of its own, so that a plugin that crashes is named. */
int ft_pipeline_try(ft_run *r, ft_err *e)
{
    int code = try_weights(r, e);
    for (int i = 0; i < r->n_stages && !code; i++) {
        stage_job j = { r, &r->stage[i], NULL };
        code = ft_isolate(r->stage[i].conf->id, try_stage, &j, &r->stage[i].result, e);
    }
    return code;
}

/* ---- plans ----------------------------------------------------------------------------------- */

/* A data stage in a folder of its own under root, after those it takes, unless its artifact is
 * there. */
static int make_aside(ft_run *r, ft_stage *s, const char *root, ft_err *e)
{
    char dir[4096];
    if (ft_artifact_whole(r, s)) return 0;
    ft_stage *in = ft_run_input(r, s, FT_SAMPLES);
    int code = in ? make_aside(r, in, root, e) : 0;
    for (int k = 0; k < s->n_sets && !code; k++)
        code = make_aside(r, &r->stage[s->set[k]], root, e);
    if (!code) code = ft_path_join(dir, sizeof dir, root, s->conf->id, e);
    if (!code) code = ft_make_dirs(dir, e);
    if (code) return code;
    memcpy(s->dir, dir, sizeof dir);
    stage_job j = { r, s, s->dir };
    return ft_isolate(s->conf->id, run_job, &j, &s->result, e);
}

/* Tokens for planning: from their artifact, or made in a folder of their own that is to be removed
 * again (*made); their folder is then the stage's. */
static int make_tokens(ft_run *r, ft_stage *t, char root[4096], bool *made, ft_err *e)
{
    *made = false;
    if (ft_artifact_whole(r, t)) return 0;
    const char *tmp = getenv("TMPDIR");
    snprintf(root, 4096, "%s/pipeline-check-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(root)) return ft_errf(e, FT_EIO, "cannot make a temporary folder %s", root);
    *made = true;
    return make_aside(r, t, root, e);
}

static int plan_training(ft_run *r, const ft_stage *s, ft_train_plan *plan, bool print, ft_err *e)
{
    ft_lineup l;
    ft_training t = { .virtual_tokens = 0 };
    char dir[4096];
    bool made = false;
    ft_stage *tokens = ft_run_input(r, s, FT_TOKENS);
    int code = make_tokens(r, tokens, dir, &made, e);
    if (!code) {
        code = ft_lineup_open(&l, r, s, FT_LINEUP_TOKENS | FT_LINEUP_PLAN, tokens->dir, e);
        if (!code) {
            code = ft_lineup_training(&t, &l, r, s, r->config.output_dir, e);
            if (!code) *plan = t.plan;
            if (!code && print) ft_lineup_print(r, &t, s->conf->id);
            if (!code && r->profile) ft_memory_table(&t, &r->cli->log, s->conf->id);
            ft_training_close(&t);
            ft_lineup_close(&l);
        }
    }
    if (made) ft_remove_tree(dir, NULL);
    return code;
}

static int plan_job(void *arg, ft_err *e)
{
    const stage_job *j = arg;
    ft_train_plan plan;
    j->r->cli->log.min = FT_WARN; /* data stages will tell the rest when they are run */
    return plan_training(j->r, j->s, &plan, false, e);
}

/* A memory limit that cannot be kept is refused before any stage is run: the rows, which a plan
 * needs, are made aside. */
static int try_limit(ft_run *r, ft_err *e)
{
    int code = 0;
    for (int i = 0; i < r->n_stages && !code && r->config.memory_bytes; i++) {
        stage_job j = { r, &r->stage[i], NULL };
        if (j.s->kind->gives == FT_TRAINED && !ft_artifact_whole(r, j.s))
            code = ft_isolate(j.s->conf->id, plan_job, &j, &j.s->result, e);
    }
    return code;
}

/* ---- which stages ---------------------------------------------------------------------------- */

int ft_pipeline_stage(const ft_run *r, const char *option, const char *id, ft_err *e)
{
    const char *ids[FT_CONFIG_STAGES];
    for (int i = 0; i < r->n_stages; i++) {
        ids[i] = r->stage[i].conf->id;
        if (!strcmp(ids[i], id)) return i;
    }
    const char *near = ft_suggest(id, ids, (size_t)r->n_stages);
    ft_errf(e, FT_EINVAL, "%s %s: there is no such stage%s%s%s", option, id,
            near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    return -1;
}

/* What a stage takes must be there when only a later one is run. */
static int check_inputs(const ft_run *r, const ft_stage *s, ft_err *e)
{
    for (int k = 0; k < s->n_sets; k++) {
        if (!ft_artifact_whole(r, &r->stage[s->set[k]]))
            return ft_errf(e, FT_EINVAL,
                           "%s needs the samples of %s, which has not run; leave out --only",
                           s->conf->id, r->stage[s->set[k]].conf->id);
    }
    for (int p = 0; p < FT_N_PORTS; p++) {
        const ft_stage *in = ft_run_input(r, s, (ft_port)p);
        if (in && !ft_artifact_whole(r, in))
            return ft_errf(e, FT_EINVAL,
                           "%s needs the %s of %s, which has not run; leave out --only",
                           s->conf->id, ft_port_name((ft_port)p), in->conf->id);
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

/* ---- run.lock.yaml --------------------------------------------------------------------------- */

static int write_lock(ft_run *r, ft_err *e)
{
    ft_machine m;
    ft_buf b = { 0 };
    char path[4096];
    int code = ft_machine_open(&m, r->registry, r->cli->threads, e);
    if (code) return code;
    ft_buf_printf(&b, "# what this run was made of; itself a pipeline file\n");
    ft_config_write(&b, &r->config);
    ft_buf_printf(&b,
                  "# program: %s\n# threads: %d\n# instruction set: %s\n# numerics contract: %s\n",
                  FT_VERSION, m.threads, m.kernels.variant,
                  m.exact ? "kept: the same bytes on any number of threads"
                          : "not kept on this machine");
    if (*r->model_hash)
        ft_buf_printf(&b, "# model: %s sha256 %s\n", r->config.model, r->model_hash);
    for (int i = 0; i < r->n_stages; i++) {
        const ft_loaded *p = r->stage[i].conf->plugin;
        ft_buf_printf(&b, "# stage %s: plugin %s %s, build id %s, sha256 %s, key %s\n",
                      r->stage[i].conf->id, p->name, p->desc.version,
                      *p->build_id ? p->build_id : "none", p->sha256, r->stage[i].key);
    }
    code = ft_path_join(path, sizeof path, r->config.output_dir, "run.lock.yaml", e);
    if (!code) code = ft_file_write_buf(path, &b, e);
    ft_buf_free(&b);
    ft_machine_close(&m);
    return code;
}

/* ---- the finished run ------------------------------------------------------------------------ */

static int publish(ft_run *r, ft_err *e)
{
    static const char *const trained[] = { "adapter/adapter_model.safetensors",
                                           "adapter/adapter_config.json", "metrics.jsonl",
                                           "timing.jsonl", NULL };
    int code = 0;
    for (int i = 0; i < r->n_stages && !code; i++) {
        if (r->stage[i].kind->gives == FT_TRAINED && ft_artifact_whole(r, &r->stage[i]))
            code = ft_run_publish(r->stage[i].dir, r->config.output_dir, trained, e);
        if (!code && r->stage[i].kind->run == ft_stage_export && ft_artifact_whole(r, &r->stage[i]))
            code = ft_run_publish_folder(r->stage[i].dir, r->config.output_dir,
                                         ft_export_folder(&r->stage[i]), e);
    }
    if (!code) code = ft_receipt_publish(r, e);
    return code ? code : ft_evaluation_publish(r, e);
}

static int report_job(void *arg, ft_err *e)
{
    ft_run *r = arg;
    return ft_report_write(r->config.output_dir, NULL, r->registry, &r->offer, e);
}

/* In a process of its own, as a tokenizer plugin has a part in it.  The run is what counts: a
 * report that cannot be written is a warning. */
static void report(ft_run *r)
{
    ft_isolated result;
    ft_err e = { 0 };
    if (ft_isolate("report", report_job, r, &result, &e))
        ft_log_line(&r->cli->log, FT_WARN, "report", "%s", e.msg);
    else ft_log_line(&r->cli->log, FT_INFO, "report", "%s/report.html", r->config.output_dir);
}

/* The output folder belongs to one run at a time; the lock goes with the descriptor, so a killed
 * run leaves none.  A file system without locks is used without.  -1 and *e when it cannot be
 * had. */
static int lock_folder(const char *dir, ft_err *e)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        ft_errf(e, FT_EIO, "cannot open folder %s: %s", dir, ft_errno_text(errno));
    } else if (flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK) {
        ft_errf(e, FT_EINVAL,
                "output_dir %s: another run is writing there; wait for it, or give this one a "
                "folder of its own",
                dir);
        close(fd);
        fd = -1;
    }
    return fd;
}

/* The stages in order, from `first` on anew; `just` alone when it is not -1. */
static int run_stages(ft_run *r, int first, int just, ft_err *e)
{
    bool noted = false;
    int code = 0;
    for (int i = 0; i < r->n_stages && !code; i++) {
        if (ft_cancelled())
            return ft_errf(e, FT_ECANCEL, "stopped before stage '%s'", r->stage[i].conf->id);
        if (just >= 0 && i != just) continue;
        if (just >= 0) code = check_inputs(r, &r->stage[i], e);
        if (!code) code = go(r, i, i >= first || just >= 0, e);
        if (!code && !noted && r->stage[i].kind->run) {
            noted = true; /* nothing is left when the first stage fails */
            code = ft_run_keep_hashes(r, e);
            if (!code) code = write_lock(r, e);
        }
    }
    return code;
}

int ft_pipeline_run(ft_run *r, int first, int just, ft_err *e)
{
    int code = try_limit(r, e);
    if (!code) code = ft_make_dirs(r->config.output_dir, e);
    int lock = code ? -1 : lock_folder(r->config.output_dir, e);
    if (lock < 0) return e->code;
    code = ft_make_dirs(r->artifacts, e);
    if (!code) {
        ft_artifact_sweep(r);
        code = run_stages(r, first, just, e);
        /* what is finished is the user's, whatever became of the stages after it */
        ft_err later = { 0 };
        int published = publish(r, code ? &later : e);
        if (!code) code = published;
        if (!code || code == FT_ECANCEL) report(r);
    }
    close(lock);
    return code;
}

/* ---- check ----------------------------------------------------------------------------------- */

/* What the last tokens of a pipeline without training are. */
static int show_tokens(ft_run *r, ft_stage *t, ft_err *e)
{
    ft_token_set set = { .n_docs = 0 };
    char root[4096], path[4096];
    bool made;
    int code = make_tokens(r, t, root, &made, e);
    if (!code) code = ft_path_join(path, sizeof path, t->dir, "tokens.safetensors", e);
    if (!code) code = ft_tokens_open(&set, path, e);
    for (int split = FT_SPLIT_TRAIN; split <= FT_SPLIT_VAL && !code; split++) {
        ft_token_counts n = ft_tokens_count(&set, split);
        const char *kind = ft_tokens_kind(&set);
        if (split == FT_SPLIT_VAL && !n.docs) break;
        ft_log_line(&r->cli->log, FT_INFO, t->conf->id,
                    "%s: %lld documents%s%s, %lld tokens, %.1f %% trained, the longest has %lld",
                    split == FT_SPLIT_TRAIN ? "training" : "evaluation", (long long)n.docs,
                    kind ? " of " : "", kind ? kind : "", (long long)n.tokens,
                    n.tokens ? 100.0 * (double)n.trained / (double)n.tokens : 0,
                    (long long)n.longest);
    }
    ft_tokens_free(&set);
    if (made) ft_remove_tree(root, NULL);
    return code;
}

int ft_pipeline_check(ft_run *r, ft_train_plan *plan, bool print, ft_err *e)
{
    *plan = (ft_train_plan){ .rows = 0 };
    ft_stage *tokens = NULL;
    bool trains = false;
    for (int i = 0; i < r->n_stages; i++) {
        ft_stage *s = &r->stage[i];
        if (s->kind->gives == FT_TOKENS) tokens = s;
        if (s->kind->gives != FT_TRAINED) continue;
        trains = true;
        int code = plan_training(r, s, plan, print, e);
        if (code) return code;
    }
    return trains || !tokens || !print ? 0 : show_tokens(r, tokens, e);
}
