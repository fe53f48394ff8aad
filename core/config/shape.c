/* shape.c -- what a `stages:` list must look like, checked file by file, before merging: only
 * here are the places those of the file that made the mistake.
 *
 *   stages:
 *     - id: tok             # [A-Za-z0-9][A-Za-z0-9_-]{0,63}; default: the plugin's name
 *       use: tokenizer-bpe
 *       with: { … } */
#include <string.h>
#include "core/base/suggest.h"
#include "core/config/parts.h"

/* ASCII only, whatever the locale. */
static bool letter_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* Ids name folders and stand before '.' in overrides and references. */
static bool is_id(const char *s)
{
    size_t n = strlen(s);
    if (n == 0 || n > 64 || !letter_or_digit(*s)) return false;
    for (; *s; s++) {
        if (!letter_or_digit(*s) && *s != '-' && *s != '_') return false;
    }
    return true;
}

bool ft_is_plugin_name(const char *s)
{
    size_t n = strnlen(s, 65);
    if (n == 0 || n > 64 || *s == '-') return false;
    for (; *s; s++) {
        if (!letter_or_digit(*s) && *s != '-') return false;
        if (*s >= 'A' && *s <= 'Z') return false;
    }
    return true;
}

/* Names that an override or a reference would take for something else. */
static bool is_reserved(const char *id)
{
    if (!strcmp(id, "env")) return true;
    for (const char *const *p = ft_config_parts; *p; p++) {
        if (!strcmp(id, *p)) return true;
    }
    for (const ft_param *p = ft_config_params; p->key; p++) {
        if (!strcmp(id, p->key)) return true;
    }
    return false;
}

const char *ft_stage_id(const ft_yaml *stage) { return ft_yaml_text(ft_yaml_get(stage, "id")); }

ft_yaml *ft_stage_find(const ft_yaml *stages, const char *id)
{
    for (ft_yaml *s = stages ? stages->first : NULL; s; s = s->next) {
        const char *other = ft_stage_id(s);
        if (other && !strcmp(other, id)) return s;
    }
    return NULL;
}

/* True when v is absent, null or of that type; else it is reported. */
static bool fits(const ft_yaml *v, ft_yaml_type type, const char *what, ft_diags *d)
{
    if (!v || v->type == type || ft_yaml_is_null(v) || v->type == FT_YAML_BAD) return true;
    ft_diag(d, v->at, "%s: must be %s, not %s", what,
            type == FT_YAML_MAP ? "a map" : type == FT_YAML_LIST ? "a list" : "text",
            ft_yaml_type_name(v));
    return false;
}

/* The keys of one stage; false when one that is known has a value that cannot be used. */
static bool check_keys(const ft_yaml *stage, ft_diags *d)
{
    static const char *const keys[] = { "id", "use", "with" };
    bool good = true;
    for (const ft_yaml *v = stage->first; v; v = v->next) {
        size_t i = 0;
        while (i < 3 && strcmp(keys[i], v->key)) i++;
        if (i < 3) {
            good &= fits(v, i == 2 ? FT_YAML_MAP : FT_YAML_SCALAR, v->key, d);
            continue;
        }
        const char *near = ft_suggest(v->key, keys, 3);
        if (near) ft_diag(d, v->key_at, "unknown key \"%.64s\" for a stage; did you mean \"%s\"?",
                          v->key, near);
        else ft_diag(d, v->key_at, "unknown key \"%.64s\" for a stage, which has id, use and with; "
                     "a plugin's parameters stand under with:", v->key);
    }
    return good;
}

/* Gives the stage its id; false when it can have none. */
static bool name_stage(ft_config *c, ft_yaml *stage, ft_diags *d)
{
    ft_yaml *id = ft_yaml_get(stage, "id");
    const ft_yaml *from = id && !ft_yaml_is_null(id) ? id : ft_yaml_get(stage, "use");
    const char *text = ft_yaml_text(from);
    if (from && from->type == FT_YAML_BAD) return false;
    if (!text || ft_yaml_is_null(from)) {
        ft_diag(d, stage->at, "a stage needs use: and the name of a plugin");
        return false;
    }
    if (!is_id(text) && from != id) {
        ft_diag(d, from->at, "use: \"%.80s\" is not a plugin's name (a-z, 0-9 and '-', at most 64; "
                "never a path)%s", text,
                strstr(text, "${") ? "; a stage whose use: is expanded needs an id:" : "");
        return false;
    }
    if (!is_id(text) || is_reserved(text)) {
        ft_diag(d, from->at, "id: \"%.80s\" %s", text, is_id(text)
                ? "is a key of the top level; give the stage another"
                : "is no id: letters, digits, '-' and '_', at most 64, a letter or digit first");
        return false;
    }
    if (id && from == id) return true;
    if (id) ft_yaml_remove(stage, "id");
    id = ft_yaml_new_text(&c->arena, text, from->at);
    if (!id) return false;
    id->key = "id";
    id->key_at = from->key_at;
    ft_yaml_append(stage, id);
    return true;
}

/* Whether the stage may stay; before: those that stay already. */
static bool check_stage(ft_config *c, ft_yaml *stage, const ft_yaml *before, ft_diags *d)
{
    if (stage->type == FT_YAML_BAD) return false;
    if (stage->type != FT_YAML_MAP) {
        ft_diag(d, stage->at, "a stage must be a map such as { use: lora }, not %s",
                ft_yaml_type_name(stage));
        return false;
    }
    if (!check_keys(stage, d) || !name_stage(c, stage, d)) return false;
    const ft_yaml *other = ft_stage_find(before, ft_stage_id(stage));
    if (!other) return true;
    ft_diag(d, ft_yaml_get(stage, "id")->at, "duplicate stage \"%s\"; line %u has it already. "
            "Give one of them another id:", ft_stage_id(stage), other->at.line);
    return false;
}

void ft_config_shape(ft_config *c, ft_yaml *root, ft_diags *d)
{
    ft_yaml *stages = ft_yaml_get(root, "stages"), good = { .type = FT_YAML_LIST };
    if (!stages || stages->type == FT_YAML_BAD) return;
    if (!fits(stages, FT_YAML_LIST, "stages", d) || stages->type != FT_YAML_LIST) {
        ft_yaml_remove(root, "stages");
        return;
    }
    for (ft_yaml *s = stages->first, *next; s; s = next) {
        next = s->next;
        if (good.n >= FT_CONFIG_STAGES) {
            ft_diag(d, s->at, "more than %d stages", FT_CONFIG_STAGES);
            break;
        }
        if (check_stage(c, s, &good, d)) ft_yaml_append(&good, s);
    }
    stages->first = good.first;
    stages->last = good.last;
    stages->n = good.n;
}
