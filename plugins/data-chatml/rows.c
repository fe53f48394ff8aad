/* rows.c -- which type a row is, chat messages, and what the types share.
 *
 * A row that is not exactly of a type is refused with the reason; nothing is guessed, because a
 * guess shows only in what the model has learnt. */
#include "rows.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int row_fail(row_reader *r, int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(r->error, sizeof r->error, fmt, ap);
    va_end(ap);
    return code;
}

bool is_text(const ft_json *v) { return v && v->type == FT_JSON_STRING; }
bool is_given(const ft_json *v) { return v && v->type != FT_JSON_NULL; }

/* FNV-1a with its weak low bits mixed in; equal questions are what matters. */
uint64_t hash_text(uint64_t h, const char *p, size_t n)
{
    if (h == HASH_START) h = 1469598103934665603u;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)p[i]) * 1099511628211u;
    return h ^ h >> 32;
}

const ft_json *parse_inner(row_reader *r, const char *what, const ft_json *text)
{
    if (r->n_doc == r->cap_doc) {
        size_t cap = r->cap_doc ? r->cap_doc * 2 : 8;
        ft_json_doc **more = realloc(r->doc, cap * sizeof *more);
        if (!more) {
            row_fail(r, FT_ENOMEM, "out of memory");
            return NULL;
        }
        r->doc = more;
        r->cap_doc = cap;
    }
    ft_json_doc *d = r->json->parse(r->host, what, text->text, text->len);
    if (!d) return NULL; /* the host's fail has put the reason into r->error */
    r->doc[r->n_doc++] = d;
    return r->json->root(d);
}

void row_done(row_reader *r)
{
    for (size_t i = 0; i < r->n_doc; i++) r->json->done(r->doc[i]);
    r->n_doc = 0;
}

/* ---- messages ------------------------------------------------------------------------------- */

/* Appends to the list. */
static int push(row_reader *r, message_list *l, const ft_json *m)
{
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 8;
        ft_json *more = pool_get(r->mem, cap * sizeof *more);
        if (!more) return row_fail(r, FT_ENOMEM, "out of memory");
        if (l->n) memcpy(more, l->v, l->n * sizeof *more);
        l->v = more;
        l->cap = cap;
    }
    l->v[l->n++] = *m;
    return FT_OK;
}

int add_text_message(row_reader *r, message_list *l, const char *role, const ft_json *content)
{
    ft_json item[2] = { json_text("role", role, strlen(role)), json_named("content", content) };
    ft_json m = json_object(r->mem, NULL, item, 2);
    return r->mem->oom ? row_fail(r, FT_ENOMEM, "out of memory") : push(r, l, &m);
}

int add_message(row_reader *r, message_list *l, const ft_json *m)
{
    if (m->type != FT_JSON_OBJECT)
        return row_fail(r, FT_EFORMAT, "message %zu is not an object", l->n);
    const ft_json *role = ft_json_get(m, "role"), *content = ft_json_get(m, "content");
    if (!is_text(role)) return row_fail(r, FT_EFORMAT, "message %zu has no role", l->n);
    if (content && (content->type == FT_JSON_NUMBER || content->type == FT_JSON_BOOL))
        return row_fail(r, FT_EFORMAT, "content of message %zu is neither text nor a list", l->n);
    if (!is_given(content) && !is_given(ft_json_get(m, "tool_calls")))
        return row_fail(r, FT_EFORMAT, "message %zu has neither content nor tool_calls", l->n);
    return push(r, l, m);
}

int add_messages(row_reader *r, message_list *l, const ft_json *array)
{
    int code = FT_OK;
    if (!array || array->type != FT_JSON_ARRAY)
        return row_fail(r, FT_EFORMAT, "a list of messages is missing");
    for (size_t i = 0; i < array->len && !code; i++) code = add_message(r, l, &array->item[i]);
    return code;
}

/* Whether a message has the role. */
static bool has_role(const ft_json *m, const char *role)
{
    const ft_json *v = ft_json_get(m, "role");
    return is_text(v) && v->len == strlen(role) && !memcmp(v->text, role, v->len);
}

/* What `train` or `weight` of a message says; true when neither is there. */
static int wants_training(row_reader *r, const ft_json *m, size_t i, bool *yes)
{
    const ft_json *train = ft_json_get(m, "train"), *weight = ft_json_get(m, "weight");
    double w = 1;
    *yes = true;
    if (is_given(train)) {
        if (train->type != FT_JSON_BOOL)
            return row_fail(r, FT_EFORMAT, "train of message %zu is neither true nor false", i);
        *yes = train->truth;
    }
    if (is_given(weight)) {
        if (!r->json->to_real(weight, &w) || (w != 0 && w != 1))
            return row_fail(r, FT_EFORMAT, "weight of message %zu is neither 0 nor 1", i);
        *yes = *yes && w == 1;
    }
    return FT_OK;
}

/* The message as the template is to see it: without what is meant for us. */
static ft_json without_marks(row_reader *r, const ft_json *m)
{
    if (!ft_json_get(m, "train") && !ft_json_get(m, "weight")) return *m;
    ft_json *item = pool_get(r->mem, m->len * sizeof *item);
    size_t n = 0;
    for (size_t i = 0; item && i < m->len; i++) {
        if (strcmp(m->item[i].key, "train") && strcmp(m->item[i].key, "weight"))
            item[n++] = m->item[i];
    }
    ft_json out = *m;
    out.item = item;
    out.len = (uint32_t)n;
    return out;
}

int finish_dialog(row_reader *r, message_list *l, size_t first, dialog *out)
{
    bool add = *r->system && !(l->n && (has_role(l->v, "system") || has_role(l->v, "developer")));
    size_t n = l->n + add;
    if (!l->n) return row_fail(r, FT_EFORMAT, "the conversation is empty");
    ft_json *m = pool_get(r->mem, n * sizeof *m);
    out->learn = pool_get(r->mem, n * sizeof *out->learn);
    if (!m || !out->learn) return row_fail(r, FT_ENOMEM, "out of memory");
    if (add) {
        ft_json item[2] = { json_text("role", "system", 6),
                            json_text("content", r->system, strlen(r->system)) };
        m[0] = json_object(r->mem, NULL, item, 2);
    }
    for (size_t i = 0; i < l->n; i++) {
        bool yes;
        int code = wants_training(r, &l->v[i], i, &yes);
        if (code) return code;
        m[i + add] = without_marks(r, &l->v[i]);
        out->learn[i + add] = yes && i >= first && has_role(&l->v[i], "assistant");
    }
    out->message = m;
    out->n = n;
    return r->mem->oom ? row_fail(r, FT_ENOMEM, "out of memory") : FT_OK;
}

/* ---- what goes with a row ------------------------------------------------------------------- */

/* Tools as a list of {"type": "function", "function": {…}}; also as a string of JSON, and bare
 * functions. */
int read_tools(row_reader *r, const ft_json *v, data_row *out)
{
    const ft_json *tools = ft_json_get(v, "tools");
    if (is_text(tools)) {
        size_t blank = strspn(tools->text, " \t\r\n");
        if (blank == tools->len) return FT_OK; /* ShareGPT writes "" for none */
        tools = parse_inner(r, "tools", tools);
        if (!tools) return FT_EFORMAT;
    }
    if (!is_given(tools) || (tools->type == FT_JSON_ARRAY && !tools->len)) return FT_OK;
    if (tools->type != FT_JSON_ARRAY) return row_fail(r, FT_EFORMAT, "tools is not a list");
    ft_json *item = pool_get(r->mem, tools->len * sizeof *item);
    for (size_t i = 0; item && i < tools->len; i++) {
        item[i] = tools->item[i];
        if (item[i].type != FT_JSON_OBJECT)
            return row_fail(r, FT_EFORMAT, "tool %zu is not an object", i);
        if (ft_json_get(&item[i], "function") || !ft_json_get(&item[i], "name")) continue;
        ft_json wrapped[2] = { json_text("type", "function", 8), json_named("function", &item[i]) };
        item[i] = json_object(r->mem, NULL, wrapped, 2);
    }
    out->tools = json_array(r->mem, "tools", item, item ? tools->len : 0);
    return r->mem->oom ? row_fail(r, FT_ENOMEM, "out of memory") : FT_OK;
}

/* Variables that a row may not set: they are the row's own parts or the tokenizer's. */
static int check_kwargs(row_reader *r, const ft_json *kwargs)
{
    static const char *const taken[] = { "messages", "tools", "documents", "add_generation_prompt",
                                         "bos_token", "eos_token", "pad_token", "unk_token",
                                         "sep_token", "cls_token", "mask_token" };
    for (size_t i = 0; i < kwargs->len; i++) {
        for (size_t k = 0; k < sizeof taken / sizeof *taken; k++) {
            if (!strcmp(kwargs->item[i].key, taken[k]))
                return row_fail(r, FT_EFORMAT, "kwargs may not set %s", taken[k]);
        }
    }
    return FT_OK;
}

/* tools, documents and kwargs of a row. */
static int read_extras(row_reader *r, const ft_json *v, data_row *out)
{
    const ft_json *documents = ft_json_get(v, "documents"), *kwargs = ft_json_get(v, "kwargs");
    if (!kwargs) kwargs = ft_json_get(v, "chat_template_kwargs");
    int code = read_tools(r, v, out);
    if (code) return code;
    if (is_given(documents)) out->documents = json_named("documents", documents);
    if (!is_given(kwargs)) return FT_OK;
    if (kwargs->type != FT_JSON_OBJECT) return row_fail(r, FT_EFORMAT, "kwargs is not an object");
    out->kwargs = *kwargs;
    return check_kwargs(r, kwargs);
}

/* The question: the first message of the user, with its text parts together. */
static uint64_t question_of(const dialog *d)
{
    uint64_t h = HASH_START;
    if (!d->message) {
        const ft_json *q = d->prompt.len ? &d->prompt : &d->completion;
        return hash_text(h, q->text, q->len);
    }
    for (size_t i = 0; i < d->n; i++) {
        const ft_json *c = ft_json_get(&d->message[i], "content");
        bool user = has_role(&d->message[i], "user");
        if (user && is_text(c)) return hash_text(h, c->text, c->len);
        for (size_t k = 0; user && c && c->type == FT_JSON_ARRAY && k < c->len; k++) {
            const ft_json *t = ft_json_get(&c->item[k], "text");
            if (is_text(t)) h = hash_text(h, t->text, t->len);
        }
        if (user && h != HASH_START) return h;
    }
    return hash_text(h, "", 0);
}

/* ---- types ---------------------------------------------------------------------------------- */

/* {"messages": […]} */
int row_messages(row_reader *r, const ft_json *v, data_row *out)
{
    message_list l = { 0 };
    int code = add_messages(r, &l, ft_json_get(v, "messages"));
    out->n = 1;
    return code ? code : finish_dialog(r, &l, 0, &out->d[0]);
}

static const struct {
    const char *name;
    const char *keys[2];  /* a row that has both is of the type; the first that fits wins */
    int (*read)(row_reader *, const ft_json *, data_row *);
} types[] = {
    { "preference", { "chosen", "rejected" }, row_preference },
    { "messages", { "messages", NULL }, row_messages },
    { "sharegpt", { "conversations", NULL }, row_sharegpt },
    { "alpaca", { "instruction", "output" }, row_alpaca },
    { "prompt_completion", { "prompt", "completion" }, row_prompt_completion },
    { "text", { "text", NULL }, row_text },
    { "oasst", { "message_tree_id", "prompt" }, row_oasst },
    { "oasst", { "parent_id", "message_id" }, row_oasst },
    { "kto", { "label", NULL }, row_kto }, /* last: seen by its label alone */
};

const char *const row_types[] = { "auto", "messages",   "alpaca", "sharegpt", "prompt_completion",
                                  "text", "preference", "kto",    "oasst",    NULL };

enum { N_TYPES = sizeof types / sizeof *types };

/* Whether the row has the keys of type i. */
static bool has_keys(const ft_json *v, int i)
{
    const char *const *k = types[i].keys;
    return ft_json_get(v, k[0]) && (!k[1] || ft_json_get(v, k[1]));
}

/* A row that says true or false of its answer must not be trained on as if it said nothing. */
static int labelled_type(row_reader *r, const ft_json *v, int i)
{
    if (ft_json_get(v, "completion") || ft_json_get(v, "messages")) return N_TYPES - 1;
    return row_fail(r, FT_EFORMAT,
                    "a row with a label (KTO) must have prompt and completion, or messages; "
                    "`type: %s` trains on all such rows whatever their label",
                    types[i].name);
}

/* Index in `types`, or FT_E*. */
static int find_type(row_reader *r, const ft_json *v, const char *name)
{
    const ft_json *label = ft_json_get(v, "label");
    bool detect = !strcmp(name, "auto"), labelled = label && label->type == FT_JSON_BOOL;
    for (int i = 0; i < N_TYPES; i++) {
        if (detect ? i == N_TYPES - 1 || !has_keys(v, i) : strcmp(types[i].name, name) != 0)
            continue;
        return detect && i > 0 && labelled ? labelled_type(r, v, i) : i;
    }
    return row_fail(r, FT_EFORMAT,
                    "its keys are those of no known type: messages; instruction, output; "
                    "conversations; prompt, completion; text; chosen, rejected; prompt, "
                    "completion, "
                    "label; message_tree_id, prompt");
}

int row_read(row_reader *r, const ft_json *v, const char *type, data_row *out)
{
    *out = (data_row){ .branches = 1 };
    if (v->type != FT_JSON_OBJECT) return row_fail(r, FT_EFORMAT, "a row must be a JSON object");
    int i = find_type(r, v, type);
    if (i < 0) return i;
    int code = types[i].read(r, v, out);
    if (!code) code = read_extras(r, v, out);
    if (code) return code;
    out->group = question_of(&out->d[0]);
    return FT_OK;
}
