/* expand.c -- ${…} in scalars.
 *
 *   ${name}            a scalar of the top level, its default where the file has none
 *   ${vars.NAME}       a scalar under vars:
 *   ${STAGE.KEY}       a scalar under a stage's with:
 *   ${env:VAR}         an environment variable, which must be set
 *   ${env:VAR:-text}   the same, or text
 *   $$                 a dollar sign; a lone $ is one too, so that regular expressions stay whole
 *
 * Nothing else is expanded, and keys are not.  A scalar with a reference in it is typed by what it
 * became, also where YAML needed quotes around it.  Each scalar is expanded once, so the work is
 * linear; a text that grows by doubling meets TEXT or TOTAL. */
#include <stdlib.h>
#include <string.h>
#include "core/base/suggest.h"
#include "core/base/utf8.h"
#include "core/config/parts.h"

enum { DEPTH = 32, TEXT = 64 << 10, TOTAL = 4 << 20, REFERENCES = 4096 };

typedef struct {
    ft_config *c;
    ft_yaml *root;
    ft_diags *d;
    size_t total, references;
    const char *chain[DEPTH]; /* the references under way, for the message about a circle */
    int depth;
} expander;

static void expand_scalar(expander *x, ft_yaml *v);

/* Reports that `name` has no value, with the nearest of the items of `among` by key or, for
 * stages, by id. */
static void no_value(expander *x, const ft_yaml *at, const char *name, const char *word,
                     const ft_yaml *among)
{
    ft_suggestion s;
    bool stages = among && among->type == FT_YAML_LIST;
    ft_suggest_start(&s, word);
    for (ft_yaml *i = among && (stages || among->type == FT_YAML_MAP) ? among->first : NULL; i;
         i = i->next)
        ft_suggest_offer(&s, stages ? ft_stage_id(i) : i->key);
    if (s.best) ft_diag(x->d, at->at, "${%.80s} is not in the file; did you mean \"%s\"?", name,
                        s.best);
    else ft_diag(x->d, at->at, "${%.80s} is not in the file; only what is written in it can be "
                 "referred to", name);
}

/* A key of the top level, or its default. */
static ft_yaml *find_top(expander *x, const ft_yaml *at, const char *name)
{
    ft_yaml *v = ft_yaml_get(x->root, name);
    if (v) return v;
    for (const ft_param *p = ft_config_params; p->key; p++) {
        if (!strcmp(p->key, name) && p->def)
            return ft_yaml_new_text(&x->c->arena, p->def, at->at);
    }
    no_value(x, at, name, name, x->root);
    return NULL;
}

/* The node that NAME or HEAD.TAIL stands for, or NULL after an error. */
static ft_yaml *find(expander *x, const ft_yaml *at, const char *name)
{
    const char *dot = strchr(name, '.');
    if (!dot) return find_top(x, at, name);
    char *head = ft_arena_strndup(&x->c->arena, name, (size_t)(dot - name));
    if (!head) return NULL;
    bool vars = !strcmp(head, "vars");
    ft_yaml *stages = ft_yaml_get(x->root, "stages"), *stage = ft_stage_find(stages, head);
    ft_yaml *map = vars ? ft_yaml_get(x->root, "vars") : ft_yaml_get(stage, "with");
    ft_yaml *v = ft_yaml_get(map, dot + 1);
    if (v) return v;
    if (vars || stage) no_value(x, at, name, dot + 1, map);
    else no_value(x, at, name, head, stages);
    return NULL;
}

/* Whether the reference would lead back to itself, or too far. */
static bool refuse_chain(expander *x, const ft_yaml *at, const ft_yaml *target, const char *name)
{
    if (target->visit != 1 && x->depth < DEPTH) return false;
    ft_buf path = { 0 };
    for (int i = 0; i < x->depth && i < 8; i++) ft_buf_printf(&path, "%.40s → ", x->chain[i]);
    if (target->visit == 1)
        ft_diag(x->d, at->at, "${%.80s} goes round in a circle: %s%.80s", name,
                path.p ? path.p : "", name);
    else ft_diag(x->d, at->at, "${%.80s}: references go more than %d deep", name, DEPTH);
    ft_buf_free(&path);
    return true;
}

/* The expanded text of a reference; NULL after an error. */
static const char *refer(expander *x, const ft_yaml *at, const char *name)
{
    ft_yaml *target = find(x, at, name);
    if (!target || refuse_chain(x, at, target, name)) return NULL;
    if (target->type == FT_YAML_LIST || target->type == FT_YAML_MAP) {
        ft_diag(x->d, at->at, "${%.80s} is %s; only a single value can be referred to", name,
                ft_yaml_type_name(target));
        return NULL;
    }
    x->chain[x->depth++] = name;
    expand_scalar(x, target);
    x->depth--;
    if (target->type == FT_YAML_BAD) return NULL;
    if (!ft_yaml_text(target)) ft_diag(x->d, at->at, "${%.80s} holds a zero byte", name);
    return ft_yaml_text(target);
}

/* name: "VAR" or "VAR:-text". */
static const char *environment(expander *x, const ft_yaml *at, const char *name)
{
    const char *or = strstr(name, ":-");
    size_t n = or ? (size_t)(or - name) : strlen(name);
    char *var = ft_arena_strndup(&x->c->arena, name, n);
    const char *value = var ? getenv(var) : NULL;
    if (value && ft_utf8_valid(value, strlen(value), NULL)) return value;
    if (value) ft_diag(x->d, at->at, "environment variable %.64s is not UTF-8", var);
    else if (or) return or + 2;
    else if (var) ft_diag(x->d, at->at, "environment variable %.64s is not set; write "
                          "${env:%.64s:-text} to give a default", var, var);
    return NULL;
}

/* Appends what the reference at s ("${…") stands for; returns its bytes, 0 after an error. */
static size_t add_reference(expander *x, const ft_yaml *at, ft_buf *out, const char *s, size_t n)
{
    const char *end = memchr(s, '}', n);
    if (!end || end == s + 2) {
        ft_diag(x->d, at->at, end ? "${} names nothing" : "${ has no closing }; write $${ for the "
                "two characters themselves");
        return 0;
    }
    if (++x->references > REFERENCES) {
        ft_diag(x->d, at->at, "more than %d references", REFERENCES);
        return 0;
    }
    const char *name = ft_arena_strndup(&x->c->arena, s + 2, (size_t)(end - s) - 2);
    if (!name) return 0;
    const char *text = strncmp(name, "env:", 4) ? refer(x, at, name)
                                                : environment(x, at, name + 4);
    if (!text) return 0;
    ft_buf_puts(out, text);
    return (size_t)(end - s) + 1;
}

/* Appends the expanded text of v; false after an error. */
static bool write_expanded(expander *x, const ft_yaml *v, ft_buf *out, bool *referred)
{
    for (size_t i = 0; i < v->len;) {
        size_t left = v->len - i;
        const char *dollar = memchr(v->text + i, '$', left);
        size_t plain = dollar ? (size_t)(dollar - v->text) - i : left;
        ft_buf_add(out, v->text + i, plain);
        i += plain;
        left -= plain;
        if (left >= 2 && dollar[1] == '{') {
            size_t k = add_reference(x, v, out, dollar, left);
            if (!k) return false;
            *referred = true;
            i += k;
        } else if (left) {
            ft_buf_putc(out, '$');
            i += left >= 2 && dollar[1] == '$' ? 2 : 1;
        }
        if (out->n > TEXT) {
            ft_diag(x->d, v->at, "the expanded text is longer than %d bytes", TEXT);
            return false;
        }
    }
    return true;
}

static void expand_scalar(expander *x, ft_yaml *v)
{
    if (v->visit || v->type != FT_YAML_SCALAR) return;
    v->visit = 1;
    if (v->len && memchr(v->text, '$', v->len)) {
        ft_buf out = { 0 };
        bool referred = false;
        if (!write_expanded(x, v, &out, &referred)) {
            v->type = FT_YAML_BAD;
        } else if ((x->total += out.n) > TOTAL) {
            ft_diag(x->d, v->at, "all expanded texts are longer than %d bytes together", TOTAL);
            v->type = FT_YAML_BAD;
        } else {
            v->text = ft_arena_strndup(&x->c->arena, out.p ? out.p : "", out.n);
            v->len = out.n;
            if (referred) v->quoted = false;
            if (!v->text || out.oom) {
                x->d->no_memory = true;
                v->type = FT_YAML_BAD;
            }
        }
        ft_buf_free(&out);
    }
    v->visit = 2;
}

/* Every scalar below v; recursion is bounded by the reader's FT_YAML_DEPTH. */
static void walk(expander *x, ft_yaml *v)
{
    if (v->type == FT_YAML_SCALAR) expand_scalar(x, v);
    if (v->type != FT_YAML_LIST && v->type != FT_YAML_MAP) return;
    for (ft_yaml *i = v->first; i; i = i->next) walk(x, i);
}

void ft_config_expand(ft_config *c, ft_yaml *root, ft_diags *d)
{
    expander x = { .c = c, .root = root, .d = d };
    walk(&x, root);
}
