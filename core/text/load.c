/* load.c -- the variables of a rendering from JSON, with what transformers does to them first:
 * tools and documents are none when they are not given, and a message's reasoning is found under
 * `reasoning_content` and `thinking` whichever name it came by.
 *
 * Everything that comes from here is data, with two exceptions, which name things and hold no text
 * of a row: the tokenizer's own tokens (bos_token …) and the role of a message when it is one of
 * those that chat formats know (some templates write '<|' + role + '|>'). */
#include <string.h>
#include "core/text/jinja.h"

typedef struct {
    ftj_run *run;
    int32_t msg;  /* index of the message being read, -1 */
    bool content; /* inside its `content` */
    uint8_t from;
} reader;

/* Whether the NULL-terminated list has the name. */
static bool is_one_of(const char *const *list, const char *p, size_t n)
{
    for (; *list; list++) {
        if (strlen(*list) == n && !memcmp(*list, p, n)) return true;
    }
    return false;
}

/* A string with the history of what is being read. */
static ftj_val read_text(const reader *r, const char *p, size_t n)
{
    ftj_piece like = { .turn = -1, .origin = r->msg, .from = r->from, .content = r->content };
    return ftj_of_str(ftj_str_new(r->run, p, n, &like));
}

/* With a point or exponent a float, else an integer of any length. */
static ftj_val read_number(const reader *r, const ft_json *v)
{
    const ftj_str *s = read_text(r, v->text, v->len).s;
    ftj_val out;
    double f = 0;
    if (strpbrk(v->text, ".eE")) {
        ftj_parse_float(r->run, s, &f);
        out = ftj_float(f);
    } else if (!ftj_parse_int(r->run, s, 10, &out)) {
        out = ftj_int(0); /* cannot be: the reader checked the digits */
    }
    return out;
}

static ftj_val read_value(reader *r, const ft_json *v);

/* An object; its keys are data too. */
static ftj_dict *read_object(reader *r, const ft_json *v)
{
    ftj_dict *d = ftj_new_dict(r->run, v->len);
    d->data = true;
    for (size_t i = 0; i < v->len; i++) {
        ftj_val key = read_text(r, v->item[i].key, v->item[i].key_len);
        d->e[d->n++] = (ftj_pair){ key, read_value(r, &v->item[i]) };
    }
    return d;
}

/* An array of a row. */
static ftj_list *read_array(reader *r, const ft_json *v)
{
    ftj_list *l = ftj_new_list(r->run, v->len);
    l->data = true;
    for (size_t i = 0; i < v->len; i++) ftj_add(r->run, l, read_value(r, &v->item[i]));
    return l;
}

/* Any value, all of it data of the message at hand. */
static ftj_val read_value(reader *r, const ft_json *v)
{
    ftj_val out = ftj_none();
    ftj_work(r->run, 1);
    ftj_enter(r->run);
    switch (v->type) {
    case FT_JSON_NULL: break;
    case FT_JSON_BOOL: out = ftj_bool(v->truth); break;
    case FT_JSON_NUMBER: out = read_number(r, v); break;
    case FT_JSON_STRING: out = read_text(r, v->text, v->len); break;
    case FT_JSON_ARRAY: out = ftj_of_list(read_array(r, v)); break;
    case FT_JSON_OBJECT: out = ftj_of_dict(read_object(r, v)); break;
    }
    out.data = true;
    out.origin = r->msg;
    ftj_leave(r->run);
    return out;
}

/* ---- messages ------------------------------------------------------------------------------- */

/* One of the known roles is a name, not text. */
static ftj_val read_role(reader *r, const ft_json *v)
{
    static const char *const known[] = { "system", "user", "assistant", "tool", "developer",
                                         "function", "model", "ipython", "observation", NULL };
    bool plain = v->type == FT_JSON_STRING && is_one_of(known, v->text, v->len);
    r->from = plain ? FT_FROM_TEMPLATE : FT_FROM_DATA;
    ftj_val out = read_value(r, v);
    r->from = FT_FROM_DATA;
    return out;
}

/* {"thinking": x, …the message…, "reasoning_content": x}, where x is the reasoning it has. */
static ftj_val alias_reasoning(reader *r, ftj_dict *d)
{
    static const char *const names[] = { "reasoning_content", "thinking", "reasoning" };
    ftj_val found = ftj_none();
    for (size_t i = 0; i < 3 && (found.type == FTJ_NONE || found.type == FTJ_MISSING); i++)
        found = ftj_dict_find(r->run, d, names[i], strlen(names[i]));
    ftj_dict *out = d;
    if (found.type != FTJ_NONE && found.type != FTJ_MISSING) {
        out = ftj_new_dict(r->run, d->n + 2);
        ftj_dict_set(r->run, out, read_text(r, "thinking", 8), found);
        for (size_t i = 0; i < d->n; i++) ftj_dict_set(r->run, out, d->e[i].k, d->e[i].v);
        ftj_dict_set(r->run, out, read_text(r, "reasoning_content", 17), found);
        out->data = true;
    }
    out->msg = r->msg;
    return ftj_of_dict(out);
}

/* A message remembers its index. */
static ftj_val read_message(reader *r, const ft_json *v)
{
    if (v->type != FT_JSON_OBJECT) return read_value(r, v);
    ftj_dict *d = ftj_new_dict(r->run, v->len);
    d->data = true;
    for (size_t i = 0; i < v->len; i++) {
        const ft_json *item = &v->item[i];
        ftj_val key = read_text(r, item->key, item->key_len);
        r->content = !strcmp(item->key, "content");
        bool role = !strcmp(item->key, "role");
        d->e[d->n++] = (ftj_pair){ key, role ? read_role(r, item) : read_value(r, item) };
        r->content = false;
    }
    return alias_reasoning(r, d);
}

/* The variable `messages`. */
static ftj_val read_messages(reader *r, const ft_json *v)
{
    if (v->type != FT_JSON_ARRAY) return read_value(r, v);
    ftj_list *l = ftj_new_list(r->run, v->len);
    l->data = true;
    for (size_t i = 0; i < v->len && i < INT32_MAX; i++) {
        r->msg = (int32_t)i;
        ftj_add(r->run, l, read_message(r, &v->item[i]));
    }
    r->msg = -1;
    return ftj_of_list(l);
}

/* ---- variables ------------------------------------------------------------------------------ */

/* Gives the template a variable that it names. */
static void set_if_used(ftj_run *run, const char *name, ftj_val v)
{
    const char *used = ftj_intern(run, name, strlen(name), false);
    if (used) ftj_set_var(run, run->globals, used, v);
}

/* Only what the template names is read at all. */
void ftj_load_vars(ftj_run *run, const ft_json *vars)
{
    static const char *const tokens[] = { "bos_token", "eos_token", "pad_token", "unk_token",
                                          "sep_token", "cls_token", "mask_token", NULL };
    set_if_used(run, "tools", ftj_none());
    set_if_used(run, "documents", ftj_none());
    set_if_used(run, "add_generation_prompt", ftj_bool(false));
    for (size_t i = 0; i < vars->len; i++) {
        const ft_json *v = &vars->item[i];
        const char *name = ftj_intern(run, v->key, v->key_len, false);
        bool token = is_one_of(tokens, v->key, v->key_len);
        if (!name || (token && v->type == FT_JSON_NULL)) continue; /* a tokenizer without it */
        reader r = { .run = run, .msg = -1, .from = token ? FT_FROM_TEMPLATE : FT_FROM_DATA };
        ftj_set_var(run, run->globals, name,
                    !strcmp(name, "messages") ? read_messages(&r, v) : read_value(&r, v));
    }
}
