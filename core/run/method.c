/* method.c -- see method.h.  The rules of choosing are those of PEFT's BaseTuner: a list names
 * modules exactly or by what follows a dot, a string is a regular expression for the whole name,
 * "all-linear" is every linear layer but the head. */
#include "core/run/method.h"
#include <stdio.h>
#include <string.h>
#include "core/base/suggest.h"
#include "core/graph/match.h"

/* ---- names ----------------------------------------------------------------------------------- */

/* The part of a module path after its last dot. */
static const char *last_part(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot ? dot + 1 : name;
}

static bool is_head(const ft_site *s)
{
    return s->layer < 0 && !strcmp(last_part(s->name), "lm_head");
}

static bool in_list(const ft_list *l, const char *name)
{
    for (size_t i = 0; i < l->n; i++) {
        if (ft_match_module(l->v[i], name)) return true;
    }
    return false;
}

/* 1 when the list or string names the site, 0 when not, or an error. */
static int named(const ft_list *l, const ft_site *s, ft_err *e)
{
    if (l->one && !strcmp(l->v[0], "all-linear")) return s->kind == FT_SITE_LINEAR && !is_head(s);
    if (l->one) return ft_match_whole(l->v[0], s->name, e);
    return in_list(l, s->name);
}

static bool in_layers(const ft_ints *l, int32_t layer)
{
    for (size_t i = 0; i < l->n; i++) {
        if (l->v[i] == layer) return true;
    }
    return l->n == 0;
}

static int chooses(const ft_method_adapter *a, const ft_site *s, ft_err *e)
{
    const ft_targets *t = a->targets;
    if (s->kind == FT_SITE_GROUPED)
        return (a->vt->sites & s->kind) && in_list(&t->target_parameters, s->name);
    if (!(a->vt->sites & s->kind) || !in_layers(&t->layers_to_transform, s->layer)) return 0;
    if (t->exclude_modules.n) {
        int code = named(&t->exclude_modules, s, e);
        if (code) return code < 0 ? code : 0;
    }
    if (s->kind == FT_SITE_SUBLAYER || s->kind == FT_SITE_ATTENTION) return 1;
    return named(&t->target_modules, s, e);
}

/* ---- names that choose nothing --------------------------------------------------------------- */

/* The nearest of the last parts (or whole names) of the model's modules to a word. */
static const char *nearest(const ft_method *m, const char *word)
{
    ft_suggestion s;
    ft_suggest_start(&s, word);
    for (uint32_t i = 0; i < m->model->n_site; i++) {
        if (m->model->site[i].kind == FT_SITE_GROUPED) continue;
        ft_suggest_offer(&s, last_part(m->model->site[i].name));
        if (strchr(word, '.')) ft_suggest_offer(&s, m->model->site[i].name);
    }
    return s.best;
}

/* "q_proj, k_proj, …": every last part once, as far as there is room. */
static void list_modules(const ft_method *m, char *out, size_t size)
{
    size_t at = 0;
    out[0] = 0;
    for (uint32_t i = 0; i < m->model->n_site; i++) {
        const char *p = last_part(m->model->site[i].name);
        bool seen = m->model->site[i].kind != FT_SITE_LINEAR &&
                    m->model->site[i].kind != FT_SITE_EMBED;
        for (uint32_t k = 0; k < i && !seen; k++)
            seen = !strcmp(last_part(m->model->site[k].name), p);
        if (seen || at + strlen(p) + 3 >= size) continue;
        at += (size_t)snprintf(out + at, size - at, "%s%s", at ? ", " : "", p);
    }
}

/* What of a name follows the number of its layer. */
static const char *after_layer(const char *name)
{
    const char *p = name;
    for (const char *q = name; *q; q++) {
        if (q[0] >= '0' && q[0] <= '9' && q[1] == '.') p = q + 2;
    }
    return p;
}

/* "mlp.experts.gate_up_proj, …": experts' tensors, each once; empty where the model has none. */
static void list_experts(const ft_method *m, char *out, size_t size)
{
    size_t at = 0;
    out[0] = 0;
    for (uint32_t i = 0; i < m->model->n_site; i++) {
        const char *p = after_layer(m->model->site[i].name);
        bool seen = m->model->site[i].kind != FT_SITE_GROUPED;
        for (uint32_t k = 0; k < i && !seen; k++)
            seen = !strcmp(after_layer(m->model->site[k].name), p);
        if (seen || at + strlen(p) + 3 >= size) continue;
        at += (size_t)snprintf(out + at, size - at, "%s%s", at ? ", " : "", p);
    }
}

static int chose_nothing(const ft_method *m, const char *plugin, const char *key, const char *word,
                         ft_err *e)
{
    char all[400], experts[300];
    const char *near = nearest(m, word);
    list_modules(m, all, sizeof all);
    list_experts(m, experts, sizeof experts);
    return ft_errf(e, FT_EINVAL, "%s: %s \"%s\" matches no module%s%s%s; the model has %s%s%s",
                   plugin, key, word, near ? "; did you mean \"" : "", near ? near : "",
                   near ? "\"?" : "", all,
                   *experts ? "; its experts are fused tensors, which target_parameters names: "
                            : "",
                   experts);
}

/* Every name of target_parameters must match a tensor of experts. */
static int check_parameters(const ft_method *m, const ft_method_adapter *a, ft_err *e)
{
    const ft_list *l = &a->targets->target_parameters;
    char experts[300];
    list_experts(m, experts, sizeof experts);
    if (l->n && !(a->vt->sites & FT_SITE_GROUPED))
        return ft_errf(e, FT_EUNSUP,
                       "%s: target_parameters: this method does not adapt experts' tensors; use "
                       "lora, or leave it empty",
                       a->plugin);
    for (size_t i = 0; i < l->n; i++) {
        bool hit = false;
        for (uint32_t k = 0; k < m->model->n_site && !hit; k++)
            hit = m->model->site[k].kind == FT_SITE_GROUPED &&
                  ft_match_module(l->v[i], m->model->site[k].name);
        if (!hit)
            return ft_errf(e, FT_EINVAL,
                           "%s: target_parameters \"%s\" matches no tensor of experts; the model "
                           "has %s",
                           a->plugin, l->v[i], *experts ? experts : "none: use target_modules");
    }
    return 0;
}

/* Every name of the list must match some module of a kind the adapter can rewrite. */
static int check_names(const ft_method *m, const ft_method_adapter *a, ft_err *e)
{
    const ft_list *l = &a->targets->target_modules;
    if (!(a->vt->sites & (FT_SITE_LINEAR | FT_SITE_EMBED | FT_SITE_GROUPED))) return 0;
    if (l->n == 0 && a->targets->target_parameters.n == 0)
        return ft_errf(e, FT_EINVAL, "%s: target_modules is empty; name modules or use all-linear",
                       a->plugin);
    for (size_t i = 0; i < l->n && !l->one; i++) {
        bool hit = false;
        for (uint32_t k = 0; k < m->model->n_site && !hit; k++)
            hit = m->model->site[k].kind != FT_SITE_GROUPED &&
                  (a->vt->sites & m->model->site[k].kind) &&
                  ft_match_module(l->v[i], m->model->site[k].name);
        if (!hit) return chose_nothing(m, a->plugin, "target_modules", l->v[i], e);
    }
    return a->set.n ? 0 : chose_nothing(m, a->plugin, "target_modules", l->v[0], e);
}

static int check_layers(const ft_method *m, const ft_method_adapter *a, ft_err *e)
{
    int64_t layers = m->model->n_boundary ? m->model->n_boundary - 1 : 0;
    for (size_t i = 0; i < a->targets->layers_to_transform.n; i++) {
        int64_t l = a->targets->layers_to_transform.v[i];
        if (l >= layers) /* negative ones are below the parameter's limit */
            return ft_errf(e, FT_EINVAL,
                           "%s: layers_to_transform has %lld; the model has layers 0 to %lld",
                           a->plugin, (long long)l, (long long)layers - 1);
    }
    return 0;
}

/* ---- sites ----------------------------------------------------------------------------------- */

/* PEFT wraps the module that holds experts' tensors once for each tensor that it adapts, in the
 * order of the tensors: the first lies deepest.  The path in files of what is chosen after site
 * number `from`'s tensor, -1: below all of them. */
static const char *wrapped(ft_method *m, const ft_method_adapter *a, const char *tensor,
                           int64_t from)
{
    int module = (int)(last_part(tensor) - tensor) - 1;
    const char *path = ft_arena_printf(&m->arena, "%.*s", module, tensor);
    for (uint32_t i = 0; path && i < m->model->n_site; i++) {
        const ft_site *s = &m->model->site[i];
        if (s->kind == FT_SITE_GROUPED && (int64_t)i > from && a->index[i] >= 0 &&
            last_part(s->name) - s->name == module + 1 && !strncmp(s->name, tensor, (size_t)module))
            path = ft_arena_printf(&m->arena, "%s.base_layer", path);
    }
    return path;
}

static int choose_sites(ft_method *m, ft_method_adapter *a, ft_err *e)
{
    uint32_t n = m->model->n_site;
    a->index = ft_arena_array(&m->arena, n + 1, sizeof *a->index);
    a->saved_as = ft_arena_array(&m->arena, n + 1, sizeof *a->saved_as);
    if (!a->index || !a->saved_as)
        return ft_errf(e, FT_ENOMEM, "out of memory while choosing modules");
    a->set = (ft_site_set){ .layers = m->model->n_boundary ? m->model->n_boundary - 1 : 0 };
    for (uint32_t i = 0; i < n; i++) {
        const ft_site *s = &m->model->site[i];
        int code = chooses(a, s, e);
        if (code < 0) return code;
        a->index[i] = code ? (int32_t)a->set.n++ : -1;
        if (code && s->in > a->set.max_in) a->set.max_in = s->in;
        if (code && s->out > a->set.max_out) a->set.max_out = s->out;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (m->model->site[i].kind == FT_SITE_GROUPED)
            a->saved_as[i] = wrapped(m, a, m->model->site[i].name, i);
    }
    int code = check_layers(m, a, e);
    if (!code) code = check_parameters(m, a, e);
    return code ? code : check_names(m, a, e);
}

/* ---- weights that are trained whole ---------------------------------------------------------- */

/* The module of a weight ("….q_proj" of "….q_proj.weight") into out. */
static void module_of(char out[256], const char *weight)
{
    const char *dot = strrchr(weight, '.');
    snprintf(out, 256, "%.*s", (int)(dot ? dot - weight : 0), weight);
}

static const char *peft_name(ft_method *m, const char *weight)
{
    return ft_arena_printf(&m->arena, "base_model.model.%s", weight);
}

/* modules_to_save: all weights of the modules named. */
static int choose_saved(ft_method *m, const ft_method_adapter *a, ft_err *e)
{
    const ft_list *l = &a->targets->modules_to_save;
    for (size_t i = 0; i < l->n; i++) {
        bool hit = false;
        for (uint32_t k = 0; k < m->model->n_weight; k++) {
            char module[256];
            module_of(module, m->model->weight[k].name);
            if (!ft_match_module(l->v[i], module)) continue;
            m->saved_as[k] = peft_name(m, m->model->weight[k].name);
            hit = true;
        }
        if (!hit && !strcmp(l->v[i], "lm_head"))
            return ft_errf(e, FT_EINVAL,
                           "%s: modules_to_save: the model has no lm_head of its own, it is tied "
                           "to embed_tokens; save embed_tokens",
                           a->plugin);
        if (!hit) return chose_nothing(m, a->plugin, "modules_to_save", l->v[i], e);
    }
    return 0;
}

static bool adapted(const ft_method *m, const ft_method_adapter *a, const char *module)
{
    for (uint32_t i = 0; i < m->model->n_site; i++) {
        if (a->index[i] >= 0 && !strcmp(m->model->site[i].name, module)) return true;
    }
    return false;
}

/* bias: all biases, or those of adapted modules, which PEFT saves under its wrapped layer. */
static void choose_biases(ft_method *m, const ft_method_adapter *a)
{
    bool all = !strcmp(a->targets->bias, "all"), some = !strcmp(a->targets->bias, "lora_only");
    for (uint32_t k = 0; (all || some) && k < m->model->n_weight; k++) {
        const char *w = m->model->weight[k].name;
        char module[256];
        module_of(module, w);
        const char *experts = strstr(last_part(w), "_bias");
        if (experts && all)
            m->saved_as[k] = ft_arena_printf(&m->arena, "base_model.model.%s.%s",
                                             wrapped(m, a, w, -1), last_part(w));
        if (strcmp(last_part(w), "bias")) continue;
        if (adapted(m, a, module))
            m->saved_as[k] = ft_arena_printf(&m->arena, "base_model.model.%s.base_layer.bias",
                                             module);
        else if (all) m->saved_as[k] = peft_name(m, w);
    }
}

/* ---- the graph's questions ------------------------------------------------------------------- */

static int32_t site_number(const ft_method *m, const ft_site *s)
{
    for (uint32_t i = 0; i < m->model->n_site; i++) {
        if (m->model->site[i].kind == s->kind && !strcmp(m->model->site[i].name, s->name))
            return (int32_t)i;
    }
    return -1;
}

static const ft_adapter *adapter_of(void *ctx, ft_site *s, void **self, const char **plugin)
{
    ft_method *m = ctx;
    int32_t k = site_number(m, s);
    for (int i = 0; k >= 0 && i < m->n_adapters; i++) {
        ft_method_adapter *a = &m->adapter[i];
        if (a->index[k] < 0) continue;
        *self = a->self;
        s->index = a->index[k];
        s->all = &a->set;
        s->saved_as = a->saved_as[k];
        *plugin = a->plugin;
        return a->vt;
    }
    return NULL;
}

static bool trained_weight(void *ctx, const char *weight, const char **saved_as)
{
    const ft_method *m = ctx;
    if (m->full) return true;
    for (uint32_t i = 0; i < m->model->n_weight; i++) {
        if (strcmp(m->model->weight[i].name, weight)) continue;
        if (m->saved_as[i]) *saved_as = m->saved_as[i];
        return m->saved_as[i] != NULL;
    }
    return false;
}

int ft_method_choose(ft_method *m, const ft_g *model, ft_err *e)
{
    int code = 0;
    m->model = model;
    m->saved_as = ft_arena_array(&m->arena, model->n_weight + 1, sizeof *m->saved_as);
    if (!m->saved_as) return ft_errf(e, FT_ENOMEM, "out of memory while choosing modules");
    for (int i = 0; i < m->n_adapters && !code; i++) {
        code = choose_sites(m, &m->adapter[i], e);
        if (!code) code = choose_saved(m, &m->adapter[i], e);
        if (!code) choose_biases(m, &m->adapter[i]);
    }
    if (!code && m->arena.oom) code = ft_errf(e, FT_ENOMEM, "out of memory while choosing modules");
    m->answers = (g_method){ .adapter = adapter_of, .trained = trained_weight, .ctx = m };
    return code;
}

void ft_method_free(ft_method *m)
{
    ft_arena_free(&m->arena);
    *m = (ft_method){ .n_adapters = 0 };
}

/* ---- the table ------------------------------------------------------------------------------- */

static int64_t count_of(ft_shape s)
{
    int64_t n = 1;
    for (int i = 0; i < s.ndim; i++) n *= s.dim[i];
    return n;
}

/* "q_proj.weight" of a weight's name, which by itself would only say "weight". */
static const char *last_two_parts(const char *name)
{
    const char *p = name + strlen(name);
    for (int dots = 0; p > name; p--) {
        if (p[-1] == '.' && ++dots == 2) break;
    }
    return p;
}

static ft_method_row *row_for(ft_method_row *rows, int *n, int max, const char *name)
{
    for (int i = 0; i < *n; i++) {
        if (!strcmp(rows[i].name, name)) return &rows[i];
    }
    if (*n == max) return NULL;
    rows[*n] = (ft_method_row){ .name = name };
    return &rows[(*n)++];
}

int ft_method_table(const ft_g *g, ft_method_row *rows, int max, int64_t *trained, int64_t *total)
{
    int n = 0;
    *trained = *total = 0;
    for (uint32_t i = 0; i < g->n_weight; i++) *total += count_of(g->weight[i].shape);
    const char *before = "";
    for (uint32_t i = 0; i < g->n_param; i++) {
        const g_param *p = &g->param[i];
        int64_t k = count_of(p->shape);
        if (!p->weight) *total += k;
        if (p->flags & FT_FROZEN) continue;
        *trained += k;
        ft_method_row *r = row_for(rows, &n, max,
                                   !p->site    ? p->name
                                   : p->weight ? last_two_parts(p->site)
                                               : last_part(p->site));
        if (!r) continue;
        r->parameters += k;
        r->count += !p->site || strcmp(before, p->site) != 0;
        before = p->site ? p->site : "";
    }
    return n;
}

int64_t ft_method_virtual_tokens(const ft_method *m)
{
    for (int i = 0; i < m->n_adapters; i++) {
        const ft_adapter *a = m->adapter[i].vt;
        if (a->virtual_tokens) return a->virtual_tokens(m->adapter[i].self);
    }
    return 0;
}
