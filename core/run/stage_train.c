/* stage_train.c -- see stage_train.h; and the training stage itself. */
#include "core/run/stage_train.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/run/profile.h"

/* ---- the lineup ------------------------------------------------------------------------------ */

static int open_packed(ft_lineup *l, ft_run *r, const ft_stage *s, unsigned flags, ft_err *e)
{
    ft_stage *q = ft_run_input(r, s, FT_PACKED);
    char path[4096];
    if (!q) return 0;
    l->quantizer = ft_run_instance(r, q, e);
    if (!l->quantizer) return e->code;
    l->weights.quantizer_plugin = l->quantizer;
    l->weights.quantizer = ft_instance_vtable(l->quantizer);
    l->weights.quantizer_self = ft_instance_self(l->quantizer);
    if ((flags & FT_LINEUP_PLAN) && !ft_artifact_whole(r, q)) {
        ft_quantizing z = ft_quantize_open(l->quantizer);
        return ft_quantize_plan(&l->weights, r->scan.g, &z, e);
    }
    int code = ft_path_join(path, sizeof path, q->dir, "packed.safetensors", e);
    l->packed = code ? NULL : ft_tensors_open(path, e);
    l->weights.packed = l->packed;
    return l->packed ? 0 : e->code;
}

/* With init_adapter the adapter's own configuration wins over the stage's. */
static int adapter_config(ft_lineup *l, const ft_stage *a, const void **config, const char **init,
                          ft_err *e)
{
    const ft_loaded *p = a->conf->plugin;
    const ft_adapter *vt = p->desc.vtable;
    const ft_targets *t = (const ft_targets *)(const void *)((const char *)a->conf->config +
                                                             vt->targets);
    *config = a->conf->config;
    *init = *t->init_adapter ? t->init_adapter : NULL;
    if (!*init) return 0;
    ft_json_doc *doc = ft_adapter_config(*init, e);
    void *own = doc ? ft_arena_alloc(&l->arena, p->desc.config_size) : NULL;
    int code = own ? 0 : doc ? ft_errf(e, FT_ENOMEM, "out of memory for the adapter") : e->code;
    if (!code && vt->peft_type &&
        strcmp(ft_json_str(ft_json_root(doc), "peft_type", ""), vt->peft_type))
        code = ft_errf(e, FT_EFORMAT, "init_adapter: %s is of type %s, %s makes %s", *init,
                       ft_json_str(ft_json_root(doc), "peft_type", "?"), p->name, vt->peft_type);
    if (!code) code = ft_adapter_fill(own, p, ft_json_root(doc), *init, &l->arena, e);
    if (code == FT_EINVAL) code = e->code = FT_EFORMAT; /* the adapter is wrong, not the pipeline */
    ft_json_done(doc);
    *config = own;
    return code;
}

/* Every weight is trained; a training stage after another goes on where that one ended. */
static int open_full(ft_lineup *l, ft_run *r, const ft_stage *before, unsigned flags, ft_err *e)
{
    char path[4096];
    l->method.full = true;
    int code = ft_method_choose(&l->method, r->scan.g, e);
    if (code || !before || ((flags & FT_LINEUP_PLAN) && !ft_artifact_whole(r, before))) return code;
    code = ft_path_join(path, sizeof path, before->dir, "model.safetensors", e);
    l->init = code ? NULL : ft_tensors_open(path, e);
    return l->init ? 0 : e->code;
}

static int open_adapter(ft_lineup *l, ft_run *r, const ft_stage *s, unsigned flags, ft_err *e)
{
    const ft_stage *a = ft_run_input(r, s, FT_ADAPTER), *before = ft_run_input(r, s, FT_TRAINED);
    const void *config = NULL;
    const char *init = NULL;
    char trained[4096];
    if (!a && s->kind->gives == FT_TRAINED && l->quantizer)
        return ft_errf(e, FT_EINVAL,
                       "%s would train the quantized weights of %s, which cannot be: put an "
                       "adapter stage such as lora "
                       "before it, or leave %s out to train all weights",
                       s->conf->id, ft_run_input(r, s, FT_PACKED)->conf->id,
                       ft_run_input(r, s, FT_PACKED)->conf->id);
    if (!a && s->kind->gives == FT_TRAINED && r->model.quantizer)
        return ft_errf(e, FT_EINVAL,
                       "%s would train the quantized weights of %s, which cannot be: put an "
                       "adapter "
                       "stage such as lora before it",
                       s->conf->id, r->config.model);
    if (!a) return open_full(l, r, before, flags, e);
    int code = adapter_config(l, a, &config, &init, e);
    if (code) return code;
    l->adapter = ft_instance_open(a->conf->plugin, a->conf->id, config, &r->offer, e);
    if (!l->adapter) return e->code;
    const ft_adapter *vt = ft_instance_vtable(l->adapter);
    l->method.n_adapters = 1;
    l->method.adapter[0] = (ft_method_adapter){
        .plugin = a->conf->id,
        .vt = vt,
        .self = ft_instance_self(l->adapter),
        .targets = (const ft_targets *)(const void *)((const char *)config + vt->targets)
    };
    code = ft_method_choose(&l->method, r->scan.g, e);
    if (!code && before && (!(flags & FT_LINEUP_PLAN) || ft_artifact_whole(r, before))) {
        code = ft_path_join(trained, sizeof trained, before->dir, "adapter", e);
        init = trained;
    }
    if (code || !init) return code;
    l->init = ft_adapter_tensors(init, e);
    return l->init ? 0 : e->code;
}

static int open_tokens(ft_lineup *l, ft_run *r, const ft_stage *s, const char *dir, ft_err *e)
{
    char path[4096];
    const ft_stage *t = ft_run_input(r, s, FT_TOKENS);
    if (!t) return 0;
    int code = ft_path_join(path, sizeof path, dir ? dir : t->dir, "tokens.safetensors", e);
    if (!code) code = ft_tokens_open(&l->tokens, path, e);
    const char *kind = code ? NULL : ft_tokens_kind(&l->tokens);
    if (kind)
        code = ft_errf(e, FT_EUNSUP,
                       "%s: the rows of %s are %s, %s takes single answers; only a preference "
                       "trainer learns from them",
                       s->conf->id, t->conf->id, kind, s->conf->plugin->name);
    return code;
}

static void set_apart(const ft_lineup *l)
{
    const ft_tensors *set[] = { l->weights.base, l->packed, l->init };
    for (size_t i = 0; i < sizeof set / sizeof *set; i++) {
        if (set[i]) ft_tensors_apart(set[i]);
    }
}

int ft_lineup_open(ft_lineup *l, ft_run *r, const ft_stage *s, unsigned flags,
                   const char *tokens_dir, ft_err *e)
{
    *l = (ft_lineup){ .adapter = NULL };
    int code = ft_machine_open(&l->machine, r->registry, r->cli->threads, e);
    if (!code) code = ft_model_open_weights(&r->model, &l->weights, e);
    if (!code) code = open_packed(l, r, s, flags, e);
    if (!code) code = open_adapter(l, r, s, flags, e);
    if (!code && (flags & FT_LINEUP_TOKENS)) code = open_tokens(l, r, s, tokens_dir, e);
    if (!code && !(flags & FT_LINEUP_PLAN)) set_apart(l);
    if (code) ft_lineup_close(l);
    return code;
}

void ft_lineup_close(ft_lineup *l)
{
    ft_method_free(&l->method);
    ft_instance_close(l->trainer);
    ft_instance_close(l->adapter);
    ft_instance_close(l->quantizer);
    ft_tokens_free(&l->tokens);
    ft_tensors_close(l->packed);
    ft_tensors_close(l->init);
    ft_weights_free(&l->weights);
    ft_machine_close(&l->machine);
    ft_arena_free(&l->arena);
    *l = (ft_lineup){ .adapter = NULL };
}

/* ---- training -------------------------------------------------------------------------------- */

int ft_lineup_training(ft_training *t, ft_lineup *l, ft_run *r, const ft_stage *s, const char *dir,
                       ft_err *e)
{
    const ft_trainer *vt = s->conf->plugin->desc.vtable;
    if (!l->trainer) l->trainer = ft_run_instance(r, s, e);
    if (!l->trainer) return e->code;
    ft_train_setup setup = {
        .args = (const ft_train_args *)(const void *)((const char *)s->conf->config + vt->args),
        .trainer = l->trainer,
        .registry = r->registry,
        .offer = &r->offer,
        .log = &r->cli->log,
        .machine = &l->machine,
        .model = &r->model,
        .weights = &l->weights,
        .method = &l->method,
        .adapter = l->adapter,
        .init = l->init,
        .tokens = &l->tokens,
        .seed = (uint64_t)r->config.seed,
        .memory_limit = (uint64_t)r->config.memory_bytes,
        .base_model = r->config.model,
        .key = s->key,
        .dir = dir,
        .resume = r->resume,
        .profile = r->profile,
    };
    return ft_training_open(t, &setup, e);
}

void ft_lineup_print(const ft_run *r, const ft_training *t, const char *id)
{
    ft_method_row rows[64];
    int64_t trained, total;
    ft_log *log = &r->cli->log;
    const ft_train_plan *p = &t->plan;
    int n = ft_method_table(t->train.g, rows, 64, &trained, &total);
    for (int i = 0; i < n; i++)
        ft_log_line(log, FT_INFO, id, "  %-16s x %-4lld %12lld parameters", rows[i].name,
                    (long long)rows[i].count, (long long)rows[i].parameters);
    ft_log_line(log, FT_INFO, id, "trainable %lld of %lld parameters (%.4f %%)", (long long)trained,
                (long long)total, 100.0 * (double)trained / (double)total);
    ft_log_line(log, FT_INFO, id,
                "%lld rows, %lld tokens, %.1f %% trained; %lld steps of %lld rows",
                (long long)p->rows, (long long)p->tokens,
                p->tokens ? 100.0 * (double)p->trained_tokens / (double)p->tokens : 0,
                (long long)p->steps, (long long)p->rows_per_step);
    ft_log_line(log, FT_INFO, id,
                "%s, %s kernels, %d threads; planned peak %.1f MiB (arena %.1f MiB, %lld tokens a "
                "micro-batch)",
                p->compute == FT_BF16 ? "bf16" : "fp32", t->setup.machine->kernels.variant,
                t->setup.machine->threads, (double)p->peak_rss_bytes / (1 << 20),
                (double)p->arena_bytes / (1 << 20), (long long)p->micro_tokens);
    if (p->recomputed_layers)
        ft_log_line(log, FT_INFO, id, "%d of %d layers recomputed", p->recomputed_layers,
                    (int)r->model.info.layers);
    if (p->page_weights) ft_log_line(log, FT_INFO, id, "weights are let go after each use");
    if (p->map_state) ft_log_line(log, FT_INFO, id, "the optimizer's state is in a mapped file");
    if (t->setup.memory_limit)
        ft_log_line(log, FT_INFO, id, "memory_limit %.0f MiB is kept for about %.1f %% more work",
                    (double)t->setup.memory_limit / (1 << 20), 100 * p->extra_work);
}

/* A run's files also stand in the output folder under their usual names: as further links to the
 * artifact's, or copies where links are not possible. */
static int copy_file(const char *from, const char *to, ft_err *e)
{
    ft_map_file m;
    int code = ft_file_map(&m, from, e);
    if (code) return code;
    code = ft_file_write(to, m.p, m.n, e);
    ft_file_unmap(&m);
    return code;
}

static int publish_file(const char *from, const char *to, ft_err *e)
{
    char temp[4200];
    snprintf(temp, sizeof temp, "%s.new", to);
    unlink(temp);
    if (link(from, temp) < 0) return copy_file(from, to, e);
    if (rename(temp, to) < 0)
        return ft_errf(e, FT_EIO, "cannot rename %s: %s", temp, ft_errno_text(errno));
    unlink(temp); /* rename leaves it when both are the same file already */
    return 0;
}

int ft_run_publish(const char *dir, const char *out, const char *const *name, ft_err *e)
{
    int code = 0;
    for (; *name && !code; name++) {
        char from[4096], to[4096];
        code = ft_path_join(from, sizeof from, dir, *name, e);
        if (!code) code = ft_path_join(to, sizeof to, out, *name, e);
        const char *slash = strrchr(*name, '/');
        if (!code && slash) {
            char folder[4096];
            snprintf(folder, sizeof folder, "%s/%.*s", out, (int)(slash - *name), *name);
            code = ft_make_dirs(folder, e);
        }
        if (!code && ft_file_exists(from)) code = publish_file(from, to, e);
    }
    return code;
}

/* Files of a folder, no deeper, into another that is made. */
static int publish_files(const char *from, const char *to, ft_err *e)
{
    int code = ft_make_dirs(to, e);
    DIR *d = code ? NULL : opendir(from);
    if (!code && !d)
        code = ft_errf(e, FT_EIO, "cannot read folder %s: %s", from, ft_errno_text(errno));
    for (struct dirent *x; d && !code && (x = readdir(d));) {
        char a[4096], b[4096];
        if (x->d_name[0] == '.') continue;
        code = ft_path_join(a, sizeof a, from, x->d_name, e);
        if (!code) code = ft_path_join(b, sizeof b, to, x->d_name, e);
        if (!code) code = publish_file(a, b, e);
    }
    if (d) closedir(d);
    return code ? code : ft_sync_dir(to, e);
}

/* RENAME_EXCHANGE leaves no moment without either folder, and the old one under the name `temp`; a
 * file system that has no such thing (EINVAL) gets the old one moved away first. */
static int put_in_place(const char *temp, const char *to, ft_err *e)
{
    char old[4200];
    if (renameat2(AT_FDCWD, temp, AT_FDCWD, to, RENAME_EXCHANGE) == 0) return 0;
    snprintf(old, sizeof old, "%s.old", temp);
    bool moved = rename(to, old) == 0;
    if (rename(temp, to) == 0) return moved ? ft_remove_tree(old, e) : 0;
    int why = errno;
    if (moved && rename(old, to) < 0)
        return ft_errf(e, FT_EIO, "cannot rename %s to %s: %s; the folder that was there is now %s",
                       temp, to, ft_errno_text(why), old);
    return ft_errf(e, FT_EIO, "cannot rename %s to %s: %s", temp, to, ft_errno_text(why));
}

/* The new folder is made beside the old one. */
int ft_run_publish_folder(const char *dir, const char *out, const char *name, ft_err *e)
{
    char from[4096], to[4096], temp[4096], hidden[300];
    snprintf(hidden, sizeof hidden, ".%.200s.%ld", name, (long)getpid());
    int code = ft_path_join(from, sizeof from, dir, name, e);
    if (!code) code = ft_path_join(to, sizeof to, out, name, e);
    if (!code) code = ft_path_join(temp, sizeof temp, out, hidden, e);
    if (!code) code = ft_remove_tree(temp, e);
    if (!code) code = publish_files(from, temp, e);
    if (!code) code = put_in_place(temp, to, e);
    int gone = ft_remove_tree(temp, code ? NULL : e);
    return code ? code : gone ? gone : ft_sync_dir(out, e);
}

static int write_summary(const ft_training *t, const char *dir, double seconds, ft_err *e)
{
    char path[4096];
    ft_buf b = { 0 };
    const ft_train_plan *p = &t->plan;
    ft_buf_printf(&b,
                  "{\"steps\": %lld, \"tokens\": %lld, \"trainable\": %lld, \"parameters\": %lld, "
                  "\"arena_bytes\": %llu, "
                  "\"planned_peak_rss_bytes\": %llu, \"train_seconds\": ",
                  (long long)p->steps, (long long)p->tokens, (long long)p->trainable,
                  (long long)p->parameters, (unsigned long long)p->arena_bytes,
                  (unsigned long long)p->peak_rss_bytes);
    ft_json_real(&b, seconds);
    ft_buf_puts(&b, "}\n");
    int code = ft_path_join(path, sizeof path, dir, "trained.json", e);
    if (!code) code = ft_file_write_buf(path, &b, e);
    ft_buf_free(&b);
    return code;
}

/* No number of the weights that this run reads from the checkpoint is NaN or infinite. */
static int finite_weights(ft_lineup *l, const ft_g *g, ft_err *e)
{
    int code = 0;
    for (uint32_t i = 0; i < g->n_weight && !code; i++) {
        code = ft_weights_finite(&l->weights, g->weight[i].name, e);
        ft_weights_forget(&l->weights, g->weight[i].name, 1, 1);
    }
    return code;
}

int ft_stage_train(ft_run *r, ft_stage *s, const char *dir, ft_err *e)
{
    static const char *const files[] = { "metrics.jsonl", "timing.jsonl", NULL };
    ft_lineup l;
    ft_training t = { .virtual_tokens = 0 };
    char path[4096];
    int code = ft_lineup_open(&l, r, s, FT_LINEUP_TOKENS, NULL, e);
    if (code) return code;
    code = finite_weights(&l, r->scan.g, e);
    if (!code) code = ft_lineup_training(&t, &l, r, s, r->config.output_dir, e);
    if (!code) {
        ft_lineup_print(r, &t, s->conf->id);
        code = ft_training_run(&t, e);
    }
    if (!code) code = ft_run_publish(r->config.output_dir, dir, files, e);
    if (!code)
        code = ft_path_join(path, sizeof path, dir, l.adapter ? "adapter" : "model.safetensors", e);
    if (!code && !l.adapter) code = ft_trained_save(path, &t.engine, e);
    if (!code && l.adapter)
        code = ft_adapter_save(path, &t.engine, &l.method, l.adapter, r->config.model, e);
    if (!code && r->profile) code = ft_profile_write(t.train.x, dir, stderr, e);
    if (!code) code = write_summary(&t, dir, t.seconds, e);
    ft_training_close(&t);
    ft_lineup_close(&l);
    return code;
}
