/* check.c -- see check.h. */
#include "core/load/check.h"
#include <stddef.h>
#include <string.h>
#include "core/base/suggest.h"
#include "core/base/utf8.h"
#include "core/config/config.h"
#include "core/load/roles.h"

const ft_abi_numbers ft_abi_ours = { FT_ABI_MAJOR, FT_ABI_MINOR, sizeof(ft_param), sizeof(ft_host),
                                     sizeof(ft_plugin) };
const ft_abi_numbers ft_abi_first = {
    FT_ABI_MAJOR, 0,
    offsetof(ft_param, help) + sizeof(char *),
    offsetof(ft_host, get) + sizeof(void *),
    offsetof(ft_plugin, vtable) + sizeof(void *),
};

enum { PARAMS_MAX = 256, STRUCT_MAX = 1 << 20, TEXT_MAX = 4096 };

/* ---- ABI ----------------------------------------------------------------------------------- */

int ft_abi_check(const ft_abi_numbers *theirs, const ft_abi_numbers *ours,
                 const ft_abi_numbers *first, const char *what, ft_err *e)
{
    if (theirs->major != ours->major || theirs->minor > ours->minor)
        return ft_errf(e, FT_EUNSUP, "%s: built for plugin ABI %u.%u, this program has %u.%u; %s",
                       what, theirs->major, theirs->minor, ours->major, ours->minor,
                       theirs->major < ours->major
                           ? "build the plugin against this program's headers"
                           : "use a newer program, or build the plugin against this one's headers");
    const struct { const char *name; uint32_t theirs, ours, first; } sizes[] = {
        { "ft_param", theirs->param, ours->param, first->param },
        { "ft_host", theirs->host, ours->host, first->host },
        { "ft_plugin", theirs->plugin, ours->plugin, first->plugin },
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if (sizes[i].theirs > sizes[i].ours || sizes[i].theirs < sizes[i].first)
            return ft_errf(e, FT_EUNSUP, "%s: its %s has %u bytes, this program reads %u to %u; "
                           "build the plugin against this program's headers", what, sizes[i].name,
                           sizes[i].theirs, sizes[i].first, sizes[i].ours);
    }
    return 0;
}

/* ---- descriptor ---------------------------------------------------------------------------- */

/* A terminated, not too long text in UTF-8; NULL is none. */
static bool is_text(const char *s)
{
    size_t n = s ? strnlen(s, TEXT_MAX) : TEXT_MAX;
    return n < TEXT_MAX && ft_utf8_valid(s, n, NULL);
}

/* With the nearest role that is known: a plugin of another revision is told which one this is. */
static int unknown_role(const ft_plugin *p, const char *what, ft_err *e)
{
    ft_suggestion s;
    ft_suggest_start(&s, p->role);
    for (size_t i = 0; ft_role_at(i); i++) ft_suggest_offer(&s, ft_role_at(i)->name);
    return ft_errf(e, FT_EUNSUP, "%s: role \"%.64s\" is not known to this program%s%s%s", what,
                   p->role, s.best ? "; did you mean \"" : "", s.best ? s.best : "",
                   s.best ? "\"?" : "");
}

/* Size, then the functions that the role cannot do without. */
static int check_vtable(const ft_plugin *p, const ft_role *r, const char *what, ft_err *e)
{
    uint32_t size;
    if (!p->vtable)
        return ft_errf(e, FT_EINVAL, "%s: vtable is NULL; role %s needs one", what, r->name);
    memcpy(&size, p->vtable, sizeof size);
    if (size < r->first || size > r->size)
        return ft_errf(e, FT_EINVAL, "%s: its vtable for %s says %u bytes, this program reads %zu "
                       "to %zu; set .size to sizeof of the struct", what, r->name, size, r->first,
                       r->size);
    for (const ft_role_member *m = r->required; m->name; m++) {
        void *at;
        memcpy(&at, (const char *)p->vtable + m->offset, sizeof at);
        if (!at) return ft_errf(e, FT_EINVAL, "%s: member %s of its vtable for %s is NULL; it is "
                                "required", what, m->name, r->name);
    }
    return 0;
}

int ft_descriptor_check(const ft_plugin *p, const char *name, const char *what, ft_err *e)
{
    const struct { const char *field, *text; } texts[] = {
        { "role", p->role }, { "name", p->name }, { "version", p->version },
        { "summary", p->summary },
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (!is_text(texts[i].text))
            return ft_errf(e, FT_EINVAL, "%s: %s of its descriptor is %s", what, texts[i].field,
                           texts[i].text ? "not UTF-8 or endless" : "NULL");
    }
    if (strcmp(p->name, name))
        return ft_errf(e, FT_EINVAL, "%s: its descriptor says name \"%.64s\", the file says "
                       "\"%s\"; they must be the same", what, p->name, name);
    if (p->config_size > STRUCT_MAX || p->instance_size > STRUCT_MAX)
        return ft_errf(e, FT_EINVAL, "%s: config_size %zu or instance_size %zu exceeds %d bytes; "
                       "ask host->alloc for more", what, p->config_size, p->instance_size,
                       STRUCT_MAX);
    const ft_role *r = ft_role_find(p->role);
    return r ? check_vtable(p, r, what, e) : unknown_role(p, what, e);
}

/* ---- parameter table ----------------------------------------------------------------------- */

/* What may stand before the ':' in YAML and behind the '.' in an override. */
static bool is_key(const char *s)
{
    size_t n = s ? strnlen(s, 65) : 0;
    if (n == 0 || n > 64 || (*s >= '0' && *s <= '9')) return false;
    for (; *s; s++) {
        bool letter = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z');
        if (!letter && !(*s >= '0' && *s <= '9') && *s != '_') return false;
    }
    return true;
}

/* What is wrong with the row's own fields, or NULL. */
static const char *row_fault(const ft_param *row, size_t config_size)
{
    size_t size = ft_kind_size(row->kind);
    size_t align = size > 8 ? 8 : size;
    if (!size) return "has an unknown kind";
    if (row->offset > config_size || size > config_size - row->offset)
        return "lies outside of the config struct";
    if (row->offset % align) return "has an offset that is not aligned";
    if (!(row->min <= row->max)) return "has min above max";
    if (ft_param_ranged(row) && !ft_kind_is_number(row->kind))
        return "is no number and has a range";
    if (row->choices && !ft_kind_is_text(row->kind)) return "is no text and has choices";
    if (row->choices && !row->choices[0]) return "has choices, but none";
    if (!is_text(row->help)) return "has no help text";
    if (row->def && !is_text(row->def)) return "has a default that is not UTF-8 or endless";
    return NULL;
}

/* A second row with the same key or the same place. */
static const char *clash(const ft_param *rows, size_t n)
{
    const ft_param *a = &rows[n];
    size_t a_end = a->offset + ft_kind_size(a->kind);
    for (size_t i = 0; i < n; i++) {
        const ft_param *b = &rows[i];
        if (!strcmp(a->key, b->key)) return "stands twice in the table";
        if (a->offset < b->offset + ft_kind_size(b->kind) && b->offset < a_end)
            return "shares its place in the config struct with another row";
    }
    return NULL;
}

/* Whether the default is a value of the row, by the way that defaults take. */
static int check_default(const ft_param *row, const char *what, ft_err *e)
{
    ft_arena a = { 0 };
    ft_diags d = { 0 };
    ft_err why = { 0 };
    ft_fill_job job = { .arena = &a, .diags = &d, .flags = FT_FILL_NO_PATHS };
    ft_param here = *row;
    _Alignas(max_align_t) char config[64] = { 0 };
    here.offset = 0;
    int code = row->def ? ft_config_fill_default(config, &here, &job) : 0;
    if (code) {
        ft_diags_to_err(&d, &why);
        ft_errf(e, code, "%s: the default \"%.64s\" of its parameter \"%s\" is not valid: %s", what,
                row->def, row->key, why.code ? why.msg : "it is empty");
    }
    ft_diags_free(&d);
    ft_arena_free(&a);
    return code;
}

int ft_params_take(const ft_param **out, ft_arena *a, const ft_plugin *p, size_t stride,
                   const char *what, ft_err *e)
{
    ft_param *rows = ft_arena_array(a, PARAMS_MAX + 1, sizeof *rows);
    size_t copy = stride < sizeof *rows ? stride : sizeof *rows;
    if (!rows) return ft_errf(e, FT_ENOMEM, "%s: out of memory", what);
    for (size_t n = 0; p->params; n++) {
        const char *fault = NULL;
        ft_param *row = &rows[n];
        memcpy(row, (const char *)p->params + n * stride, copy);
        if (!row->key) break;
        if (n == PARAMS_MAX)
            return ft_errf(e, FT_EINVAL, "%s: more than %d parameters, or no row { 0 } at the end "
                           "of its table", what, PARAMS_MAX);
        if (!is_key(row->key))
            return ft_errf(e, FT_EINVAL, "%s: the key of row %zu of its parameter table is none: "
                           "letters, digits and '_', at most 64", what, n + 1);
        fault = row_fault(row, p->config_size);
        if (!fault) fault = clash(rows, n);
        if (fault) return ft_errf(e, FT_EINVAL, "%s: parameter \"%s\" %s (kind %d, offset %zu, "
                                  "config_size %zu)", what, row->key, fault, (int)row->kind,
                                  row->offset, p->config_size);
        int code = check_default(row, what, e);
        if (code) return code;
    }
    *out = rows;
    return 0;
}

/* Whether a row of that kind lies at an offset of the config struct; key NULL: any key. */
static bool has_row(const ft_param *params, const char *key, ft_kind kind, size_t offset)
{
    for (const ft_param *row = params; row->key; row++) {
        if (row->offset == offset && row->kind == kind && (!key || !strcmp(row->key, key)))
            return true;
    }
    return false;
}

int ft_shared_check(const ft_plugin *p, const ft_param *params, const char *what, ft_err *e)
{
    const ft_role *r = ft_role_find(p->role);
    size_t args = 0, list = (size_t)-1;
    if (r->args_at) memcpy(&args, (const char *)p->vtable + r->args_at, sizeof args);
    if (r->list_at) memcpy(&list, (const char *)p->vtable + r->list_at, sizeof list);
    for (const ft_role_argument *a = r->shared; a && a->key; a++) {
        if (!has_row(params, a->key, a->kind, args + a->offset))
            return ft_errf(e, FT_EINVAL, "%s: role %s needs parameter \"%s\", %s, at offset %zu of "
                           "the config struct, where no such row is; let its vtable name the "
                           "offset of the shared struct, and add that struct's rows (FT_…_PARAMS)",
                           what, r->name, a->key, ft_kind_name(a->kind), args + a->offset);
    }
    if (list == (size_t)-1 || has_row(params, NULL, FT_LIST, list) ||
        has_row(params, NULL, FT_STR_OR_LIST, list))
        return 0;
    return ft_errf(e, FT_EINVAL, "%s: its vtable for %s names offset %zu of the config struct as a "
                   "list, where no list is; write (size_t)-1 if it has none", what, r->name, list);
}
