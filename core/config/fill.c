/* fill.c -- see fill.h.  One row of `kinds` below is all that is known of a kind; values go
 * through its `store`, wherever they came from. */
#include "core/config/fill.h"
#include <string.h>
#include "core/base/file.h"
#include "core/base/suggest.h"
#include "core/config/unknown.h"
#include "core/config/value.h"

typedef struct {
    const ft_fill_job *job;
    const ft_param *row;
} ctx;

/* A null at the top of a value is its default and never comes here. */
static const char not_given[] = "says \"not given\", which has no place in a list or map";

/* ---- messages ------------------------------------------------------------------------------ */

static const char *who(const ctx *c) { return c->job->who ? c->job->who : ""; }
static const char *colon(const ctx *c) { return c->job->who ? ": " : ""; }

/* Notes it for the caller of the fill; returns the code. */
static int no_memory(const ctx *c)
{
    c->job->diags->no_memory = true;
    return FT_ENOMEM;
}

/* "lora: r = TEXT <complaint>"; an entry of a map as "rank_pattern.q_proj". */
static int complain(const ctx *c, const ft_yaml *v, const char *complaint)
{
    const char *q = v->quoted ? "\"" : "", *entry = c->row->kind == FT_MAP ? v->key : NULL;
    ft_diag(c->job->diags, v->at, "%s%s%s%s%.64s = %s%.80s%s %s", who(c), colon(c), c->row->key,
            entry ? "." : "", entry ? entry : "", q, v->text, q, complaint);
    return FT_EINVAL;
}

/* "lora: r must be an integer, not a list". */
static int wrong_type(const ctx *c, const ft_yaml *v)
{
    ft_diag(c->job->diags, v->at, "%s%s%s must be %s, not %s", who(c), colon(c), c->row->key,
            ft_kind_name(c->row->kind), ft_yaml_type_name(v));
    return FT_EINVAL;
}

/* Whether v lies within the row's range. */
static int check_range(const ctx *c, const ft_yaml *v, double x)
{
    const ft_param *p = c->row;
    ft_buf text = { 0 };
    if (!ft_param_ranged(p) || (x >= p->min && x <= p->max)) return 0;
    double limit = x < p->min ? p->min : p->max;
    ft_buf_puts(&text, p->min == p->max ? "must be " : x < p->min ? "is below the limit "
                                                                  : "is above the limit ");
    if (p->kind == FT_INT || p->kind == FT_INTS) ft_buf_printf(&text, "%.0f", limit);
    else ft_buf_printf(&text, "%.17g", limit);
    int code = text.oom ? no_memory(c) : complain(c, v, text.p);
    ft_buf_free(&text);
    return code;
}

/* Whether text is one of the row's choices, if it has any. */
static int check_choice(const ctx *c, const ft_yaml *v, const char *text)
{
    size_t n = 0;
    const char *const *choice = c->row->choices;
    if (!choice) return 0;
    for (; choice[n]; n++) {
        if (!strcmp(choice[n], text)) return 0;
    }
    ft_buf msg = { 0 };
    const char *near = ft_suggest(text, choice, n);
    ft_buf_puts(&msg, "is not one of ");
    for (size_t i = 0; i < n; i++) ft_buf_printf(&msg, "%s%s", i ? ", " : "", choice[i]);
    if (near) ft_buf_printf(&msg, "; did you mean %s?", near);
    int code = msg.oom ? no_memory(c) : complain(c, v, msg.p);
    ft_buf_free(&msg);
    return code;
}

/* ---- scalars ------------------------------------------------------------------------------- */

/* The text of a scalar that must not be in quotes, or NULL after a complaint. */
static const char *plain(const ctx *c, const ft_yaml *v)
{
    const char *text = ft_yaml_text(v);
    if (v->type != FT_YAML_SCALAR) wrong_type(c, v);
    else if (v->quoted) complain(c, v, "is text because of its quotes; leave them away");
    else if (ft_yaml_is_null(v)) complain(c, v, not_given);
    else if (!text) complain(c, v, "holds a zero byte");
    else return text;
    return NULL;
}

/* An integer within the row's range. */
static int one_int(const ctx *c, const ft_yaml *v, int64_t *out)
{
    const char *text = plain(c, v);
    const char *why = text ? ft_text_to_int(out, text) : NULL;
    if (!text) return FT_EINVAL;
    return why ? complain(c, v, why) : check_range(c, v, (double)*out);
}

/* A number within the row's range. */
static int one_real(const ctx *c, const ft_yaml *v, double *out)
{
    const char *text = plain(c, v);
    const char *why = text ? ft_text_to_real(out, text) : NULL;
    if (!text) return FT_EINVAL;
    return why ? complain(c, v, why) : check_range(c, v, *out);
}

/* A text without zero bytes, of the row's choices.  It stays where the tree has it. */
static int one_text(const ctx *c, const ft_yaml *v, const char **out)
{
    if (v->type != FT_YAML_SCALAR) return wrong_type(c, v);
    if (ft_yaml_is_null(v)) return complain(c, v, not_given);
    *out = ft_yaml_text(v);
    if (!*out) return complain(c, v, "holds a zero byte");
    return check_choice(c, v, *out);
}

static int store_int(const ctx *c, const ft_yaml *v, void *at) { return one_int(c, v, at); }
static int store_real(const ctx *c, const ft_yaml *v, void *at) { return one_real(c, v, at); }

/* true or false, and nothing else: YAML 1.1's yes and on are answered with the remedy. */
static int store_bool(const ctx *c, const ft_yaml *v, void *at)
{
    const char *text = plain(c, v);
    const char *why = text ? ft_text_to_bool(at, text) : NULL;
    if (!text) return FT_EINVAL;
    return why ? complain(c, v, why) : 0;
}

static int store_text(const ctx *c, const ft_yaml *v, void *at) { return one_text(c, v, at); }

/* An input: empty, or there. */
static int store_path(const ctx *c, const ft_yaml *v, void *at)
{
    const char **out = at;
    int code = one_text(c, v, out);
    if (code || !**out || (c->job->flags & FT_FILL_NO_PATHS) || ft_file_exists(*out)) return code;
    return complain(c, v, "does not exist; paths are relative to the folder the program runs in");
}

/* ---- lists and maps ------------------------------------------------------------------------ */

/* LIST and STR_OR_LIST. */
static int store_list(const ctx *c, const ft_yaml *v, void *at)
{
    ft_list *out = at;
    bool lone = v->type == FT_YAML_SCALAR;
    if (lone && c->row->kind != FT_STR_OR_LIST) {
        /* The default "" is an empty list. */
        return v->len ? complain(c, v, "must be a list; write it in brackets") : 0;
    }
    if (!lone && v->type != FT_YAML_LIST) return wrong_type(c, v);
    const char **item = ft_arena_array(c->job->arena, lone ? 1 : v->n, sizeof *item);
    if (!item) return no_memory(c);
    int code = lone ? one_text(c, v, item) : 0;
    size_t i = 0;
    for (const ft_yaml *x = lone ? NULL : v->first; x; x = x->next, i++) {
        int one = one_text(c, x, &item[i]);
        if (one) code = one;
    }
    *out = (ft_list){ lone ? 1 : v->n, item, lone };
    return code;
}

/* A list of integers, or a single one. */
static int store_ints(const ctx *c, const ft_yaml *v, void *at)
{
    ft_ints *out = at;
    bool lone = v->type == FT_YAML_SCALAR;
    if (lone && v->len == 0) return 0;
    if (!lone && v->type != FT_YAML_LIST) return wrong_type(c, v);
    int64_t *item = ft_arena_array(c->job->arena, lone ? 1 : v->n, sizeof *item);
    if (!item) return no_memory(c);
    int code = lone ? one_int(c, v, item) : 0;
    size_t i = 0;
    for (const ft_yaml *x = lone ? NULL : v->first; x; x = x->next, i++) {
        int one = one_int(c, x, &item[i]);
        if (one) code = one;
    }
    *out = (ft_ints){ lone ? 1 : v->n, item };
    return code;
}

/* Keys are names of the user's; values are numbers within the row's range. */
static int store_map(const ctx *c, const ft_yaml *v, void *at)
{
    ft_map *out = at;
    if (v->type == FT_YAML_SCALAR && v->len == 0) return 0;
    if (v->type != FT_YAML_MAP) return wrong_type(c, v);
    const char **key = ft_arena_array(c->job->arena, v->n, sizeof *key);
    double *value = ft_arena_array(c->job->arena, v->n, sizeof *value);
    if (!key || !value) return no_memory(c);
    int code = 0;
    size_t i = 0;
    for (const ft_yaml *x = v->first; x; x = x->next, i++) {
        key[i] = x->key;
        int one = one_real(c, x, &value[i]);
        if (one) code = one;
    }
    *out = (ft_map){ v->n, key, value };
    return code;
}

/* ---- kinds --------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    size_t size;
    bool text, number;
    int (*store)(const ctx *, const ft_yaml *, void *at);
} kinds[] = {
    [FT_INT] = { "an integer", sizeof(int64_t), false, true, store_int },
    [FT_REAL] = { "a number", sizeof(double), false, true, store_real },
    [FT_BOOL] = { "true or false", sizeof(bool), false, false, store_bool },
    [FT_STR] = { "text", sizeof(char *), true, false, store_text },
    [FT_PATH] = { "a path", sizeof(char *), true, false, store_path },
    [FT_LIST] = { "a list", sizeof(ft_list), true, false, store_list },
    [FT_STR_OR_LIST] = { "text or a list", sizeof(ft_list), true, false, store_list },
    [FT_INTS] = { "a list of integers", sizeof(ft_ints), false, true, store_ints },
    [FT_MAP] = { "a map of numbers", sizeof(ft_map), false, true, store_map },
};

static bool known(ft_kind kind) { return (size_t)kind < sizeof kinds / sizeof *kinds; }
size_t ft_kind_size(ft_kind kind) { return known(kind) ? kinds[kind].size : 0; }
bool ft_kind_is_text(ft_kind kind) { return known(kind) && kinds[kind].text; }
bool ft_kind_is_number(ft_kind kind) { return known(kind) && kinds[kind].number; }
const char *ft_kind_name(ft_kind kind) { return known(kind) ? kinds[kind].name : "unknown"; }

/* ---- a table ------------------------------------------------------------------------------- */

/* A given value into the row's place. */
static int store(const ctx *c, const ft_yaml *v, void *config)
{
    if (v->type == FT_YAML_BAD) return FT_EINVAL; /* reported when it was read */
    return kinds[c->row->kind].store(c, v, (char *)config + c->row->offset);
}

int ft_config_fill_default(void *config, const ft_param *row, const ft_fill_job *job)
{
    ctx c = { job, row };
    void *at = (char *)config + row->offset;
    if (row->def && !*row->def) { /* the empty value of its kind; a number has none */
        if (row->kind == FT_STR || row->kind == FT_PATH) *(const char **)at = "";
        else if (!ft_kind_is_text(row->kind) && row->kind != FT_INTS && row->kind != FT_MAP)
            return FT_EINVAL;
        return 0;
    }
    if (!row->def) return FT_EINVAL;
    ft_config_file *f = ft_arena_alloc(job->arena, sizeof *f);
    ft_yaml *v;
    if (!f) return no_memory(&c);
    *f = (ft_config_file){ "default", row->def, strlen(row->def), 0, true };
    int code = ft_yaml_parse_value(&v, job->arena, f, 1, job->diags);
    if (code) return code;
    if (ft_yaml_is_null(v)) return FT_EINVAL;
    return store(&c, v, config);
}

/* The row of a key, or NULL. */
static const ft_param *row_of(const ft_param *params, const char *key)
{
    for (; params && params->key; params++) {
        if (!strcmp(params->key, key)) return params;
    }
    return NULL;
}

/* Reports every key of the map that neither the table nor job->also has. */
static int check_keys(const ft_param *params, const ft_yaml *map, const ft_fill_job *job)
{
    int code = 0;
    if (job->flags & FT_FILL_LENIENT) return 0;
    for (const ft_yaml *v = map ? map->first : NULL; v; v = v->next) {
        const char *const *a = job->also;
        while (a && *a && strcmp(*a, v->key)) a++;
        if ((a && *a) || row_of(params, v->key)) continue;
        ft_report_unknown(params, v, job);
        code = FT_EINVAL;
    }
    return code;
}

/* What the map has for the row, or its default; at: where to report that it is missing. */
static int fill_row(void *config, const ft_param *row, const ft_yaml *map, ft_mark at,
                    const ft_fill_job *job)
{
    ctx c = { job, row };
    const ft_yaml *v = ft_yaml_get(map, row->key);
    if (v && !ft_yaml_is_null(v)) return store(&c, v, config);
    if (row->def) return ft_config_fill_default(config, row, job);
    ft_diag(job->diags, v ? v->at : at, "%s%skey \"%s\" is required (%s)", who(&c), colon(&c),
            row->key, row->help ? row->help : "");
    return FT_EINVAL;
}

int ft_config_fill(void *config, const ft_param *params, const ft_yaml *map, ft_mark at,
                   const ft_fill_job *job)
{
    int code = check_keys(params, map, job);
    for (const ft_param *row = params; row && row->key; row++) {
        int one = fill_row(config, row, map, at, job);
        if (one && code != FT_ENOMEM) code = one;
    }
    return code;
}
