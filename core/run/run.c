/* run.c -- opening a pipeline file: plugins, parameters, the wiring of stages (see run.h). */
#include "core/run/run.h"
#include <stdio.h>
#include <string.h>
#include "core/io/hash_cache.h"
#include "core/load/bind.h"
#include "core/run/evaluate.h"
#include "core/run/services.h"
#include "core/base/suggest.h"
#include "ft/data.h"

static const char *const port_names[FT_N_PORTS] = { "samples", "tokens",          "packed weights",
                                                    "adapter", "trained adapter", "merged model" };
const char *ft_port_name(ft_port p) { return port_names[p]; }

enum {
    SAMPLES = 1 << FT_SAMPLES,
    TOKENS = 1 << FT_TOKENS,
    PACKED = 1 << FT_PACKED,
    ADAPTER = 1 << FT_ADAPTER,
    TRAINED = 1 << FT_TRAINED,
    MERGED = 1 << FT_MERGED
};

static const ft_stage_kind kinds[] = {
    { "ft.format/1", 0, 0, FT_SAMPLES, true, ft_stage_format, "samples.bin", 0 },
    { "ft.filter/1", SAMPLES, 0, FT_SAMPLES, false, ft_stage_filter, "samples.bin", 0 },
    { "ft.mixer/1", SAMPLES, 0, FT_SAMPLES, false, ft_stage_mix, "samples.bin", 0 },
    { "ft.tokens/1", 0, 0, FT_TOKENS, false, ft_stage_rows, "tokens.safetensors", 0 },
    { "ft.tokenizer/1", SAMPLES, 0, FT_TOKENS, true, ft_stage_tokenize, "tokens.safetensors", 0 },
    { "ft.quantizer/1", 0, 0, FT_PACKED, true, ft_stage_quantize, "packed.safetensors", 0 },
    { "ft.adapter/1", 0, PACKED, FT_ADAPTER, true, NULL, NULL, 0 },
    { "ft.trainer/1", TOKENS, PACKED | ADAPTER | TRAINED, FT_TRAINED, true, ft_stage_train,
      "trained.json", 0 },
    { "ft.evaluator/1", 0, TOKENS | PACKED | ADAPTER | TRAINED, -1, true, ft_stage_evaluate,
      "eval.json", 0 },
    { "ft.merger/1", 0, TOKENS | PACKED | ADAPTER | TRAINED, FT_MERGED, true, ft_stage_merge,
      "receipt.json", ADAPTER | TRAINED },
    { "ft.exporter/1", 0, TOKENS | PACKED | ADAPTER | TRAINED | MERGED, -1, true, ft_stage_export,
      "receipt.json", 0 },
};

const ft_stage_kind *ft_stage_kind_of(const char *role)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (!strcmp(kinds[i].role, role)) return &kinds[i];
    }
    return NULL;
}

/* ---- wiring ---------------------------------------------------------------------------------- */

/* Which role makes a port, for the remedy. */
static const char *maker_of(int port)
{
    static const char *const remedy[FT_N_PORTS] = {
        "a data stage such as data-chatml",
        "a tokenizer stage such as tokenizer-bpe, or data-tokens",
        "a quantizer stage such as quant-nf4",
        "an adapter stage such as lora",
        "a training stage such as train-sft",
        "a merge stage",
    };
    return remedy[port];
}

/* A stage that takes one of several things must have one of them. */
static void check_any(const ft_stage *s, const int have[FT_N_PORTS], ft_diags *d)
{
    unsigned any = s->kind ? s->kind->any : 0;
    int last = -1;
    for (int p = 0; p < FT_N_PORTS; p++) {
        if (!(any & 1u << p)) continue;
        if (have[p] >= 0) return;
        last = p;
    }
    if (last >= 0)
        ft_diag(d, s->conf->use_at, "%s has nothing to work on: put %s before it", s->conf->id,
                maker_of(last));
}

/* The stage before stage i that gives samples under this id, or -1. */
static int set_named(const ft_run *r, int i, const char *id, ft_diags *d)
{
    const char *ids[FT_CONFIG_STAGES];
    size_t n = 0;
    for (int k = 0; k < i; k++) {
        if (!r->stage[k].kind || r->stage[k].kind->gives != FT_SAMPLES) continue;
        if (!strcmp(r->stage[k].conf->id, id)) return k;
        ids[n++] = r->stage[k].conf->id;
    }
    const char *near = ft_suggest(id, ids, n);
    ft_diag(d, r->stage[i].conf->use_at,
            "%s: weights names \"%s\", but no stage before it with this id makes samples%s%s%s",
            r->stage[i].conf->id, id, near ? "; did you mean \"" : "", near ? near : "",
            near ? "\"?" : "");
    return -1;
}

/* A mixer takes the sets that its weights name. */
static void wire_sets(ft_run *r, int i, bool used[FT_CONFIG_STAGES], ft_diags *d)
{
    ft_stage *s = &r->stage[i];
    const ft_mixer *vt = s->conf->plugin->desc.vtable;
    if (!s->conf->config) return; /* its parameters are wrong, and that has been said */
    const ft_mix_args *a = (const ft_mix_args *)(const void *)((const char *)s->conf->config +
                                                               vt->args);
    int *set = ft_arena_array(&r->arena, a->weights.n + 1, sizeof *set);
    if (!a->weights.n)
        ft_diag(d, s->conf->use_at,
                "%s: weights is empty: name the sets to mix, as { id: share, … }", s->conf->id);
    for (size_t k = 0; set && k < a->weights.n; k++) {
        int from = set_named(r, i, a->weights.key[k], d);
        if (from < 0) return;
        used[from] = true;
        set[s->n_sets++] = from;
    }
    s->set = set;
}

/* Samples that no stage takes: rows that somebody thinks are trained on. */
static void check_unused(const ft_run *r, const bool used[FT_CONFIG_STAGES], ft_diags *d)
{
    int last = -1;
    for (int i = 0; i < r->n_stages; i++) {
        if (!r->stage[i].kind || r->stage[i].kind->gives != FT_SAMPLES) continue;
        if (last >= 0 && !used[last])
            ft_diag(d, r->stage[last].conf->use_at,
                    "the rows of %s are used by no stage: name it in the weights of a data-mix "
                    "after %s",
                    r->stage[last].conf->id, r->stage[i].conf->id);
        last = i;
    }
}

static void wire(ft_run *r, ft_diags *d)
{
    bool used[FT_CONFIG_STAGES] = { false };
    int have[FT_N_PORTS];
    for (int p = 0; p < FT_N_PORTS; p++) have[p] = -1;
    for (int i = 0; i < r->n_stages; i++) {
        ft_stage *s = &r->stage[i];
        for (int p = 0; p < FT_N_PORTS; p++) {
            unsigned bit = 1u << p;
            s->input[p] = s->kind && (s->kind->needs | s->kind->uses) & bit ? have[p] : -1;
            if (s->kind && (s->kind->needs & bit) && have[p] < 0)
                ft_diag(d, s->conf->use_at, "%s needs %s: put %s before it", s->conf->id,
                        ft_port_name((ft_port)p), maker_of(p));
        }
        if (s->input[FT_SAMPLES] >= 0 && s->kind->run != ft_stage_mix)
            used[s->input[FT_SAMPLES]] = true;
        if (s->kind && s->kind->run == ft_stage_mix) wire_sets(r, i, used, d);
        check_any(s, have, d);
        if (s->kind && s->kind->gives >= 0) have[s->kind->gives] = i;
        if (s->kind && s->kind->gives == FT_ADAPTER) have[FT_TRAINED] = -1;
    }
    check_unused(r, used, d);
}

static void find_kinds(ft_run *r, ft_diags *d)
{
    for (int i = 0; i < r->n_stages; i++) {
        ft_stage *s = &r->stage[i];
        s->conf = &r->config.stage[i];
        if (!s->conf->plugin) continue;
        s->kind = ft_stage_kind_of(s->conf->plugin->desc.role);
        if (!s->kind)
            ft_diag(d, s->conf->use_at,
                    "%s is no stage: plugins of role %s are chosen by other stages", s->conf->use,
                    s->conf->plugin->desc.role);
        else if (s->kind->model && !*r->config.model)
            ft_diag(d, s->conf->use_at,
                    "%s needs a model: set `model:` to a Hugging Face folder or a .gguf file",
                    s->conf->id);
    }
}

/* ---- opening --------------------------------------------------------------------------------- */

static int configure(ft_run *r, const char *file, const char *const *override, size_t n, ft_err *e)
{
    ft_diags d = { .n = 0 };
    int status = 0;
    int code = ft_config_open(&r->config, r->registry, file, override, n, 0, &d);
    r->n_stages = (int)r->config.n_stages;
    r->stage = ft_arena_array(&r->arena, r->config.n_stages + 1, sizeof *r->stage);
    if (!r->stage) return ft_errf(e, FT_ENOMEM, "out of memory while reading %s", file), 1;
    find_kinds(r, &d);
    if (!code) wire(r, &d);
    if (!code && r->n_stages == 0 && !ft_diags_any(&d))
        ft_diag(&d, (ft_mark){ .file = NULL },
                "%s: `stages:` is missing or empty; a pipeline is a list of `- use: PLUGIN`", file);
    if (ft_diags_any(&d)) {
        ft_diags_print(stderr, &d);
        status = 2;
    }
    ft_diags_free(&d);
    return status;
}

static int open_model(ft_run *r, ft_err *e)
{
    char cache[4096];
    if (!*r->config.model) return 0;
    int code = ft_model_open(&r->model, r->config.model, r->registry, &r->offer, e);
    if (!code) code = ft_lm_scan(&r->scan, &r->model, e);
    if (code) return code;
    return ft_hash_model(r->model_hash, r->config.model, ft_run_hash_cache(r, cache), NULL, e);
}

int ft_run_open(ft_run *r, ft_cli *cli, const char *file, const char *const *override, size_t n,
                ft_err *e)
{
    *r = (ft_run){ .cli = cli, .current = -1, .registry = ft_cli_plugins(cli, e) };
    if (!r->registry) return 1;
    r->offer = ft_run_offer(&cli->log);
    r->offer.run = r;
    r->offer.progress = &r->progress;
    int status = configure(r, file, override, n, e);
    if (status) return status;
    if (r->config.threads && !cli->threads) cli->threads = (int)r->config.threads;
    if (!strcmp(r->config.device, "cuda"))
        return ft_errf(e, FT_EUNSUP,
                       "device: cuda: this build has no CUDA kernels; use cpu or auto"),
               1;
    if (ft_run_place(r, e) || open_model(r, e) || ft_run_keys(r, e)) return 1;
    return 0;
}

void ft_run_close(ft_run *r)
{
    ft_run_drop_hashes(r);
    ft_program_free(&r->scan);
    ft_model_close(&r->model);
    ft_config_free(&r->config);
    ft_arena_free(&r->arena);
}

ft_stage *ft_run_input(const ft_run *r, const ft_stage *s, ft_port port)
{
    return s->input[port] >= 0 ? &r->stage[s->input[port]] : NULL;
}

ft_instance *ft_run_instance(ft_run *r, const ft_stage *s, ft_err *e)
{
    return ft_instance_open(s->conf->plugin, s->conf->id, s->conf->config, &r->offer, e);
}
