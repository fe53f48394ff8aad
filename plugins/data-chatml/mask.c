/* mask.c -- which bytes of a rendered conversation the model is to learn.
 *
 * With {% generation %} in the template: what it marks, in the replies that are wanted.  Without:
 * of each reply, everything that the template and the row write in that turn after the generation
 * prompt, up to and with the text that ends the turn.  Both follow from one rendering of the whole
 * conversation, whose spans say whose turn each byte belongs to:
 *   - the generation prompt is what add_generation_prompt appends to the conversation before the
 *     first wanted reply (found by rendering that beginning with and without it);
 *   - a reply's turn begins with it; or else the conversation before the reply, rendered with its
 *     own prompt, is how the whole begins; or else the turn begins with a part of the prompt (some
 *     templates add an opening <think> that later turns do not show).  What follows is the model's;
 *   - a turn ends with the eos token if the template writes it there, else with the last thing it
 *     writes that is not white space: the line break after <|im_end|> is not for the model to say.
 * Left out: nothing is searched for in the row's own text. */
#include "mask.h"
#include <string.h>

void rendered_free(rendered *r)
{
    ft_buf_free(&r->text);
    ft_buf_free(&r->span);
    *r = (rendered){ 0 };
}

static int no_memory(const renderer *r)
{
    return r->host->fail(r->host, FT_ENOMEM, "out of memory");
}

/* ---- rendering ------------------------------------------------------------------------------ */

/* The first n messages, with or without the generation prompt; *out lives until the next call. */
static int render(renderer *r, const data_row *row, const dialog *d, size_t n, bool prompt,
                  ft_text *out)
{
    size_t k = 0, room = row->kwargs.len + 6;
    ft_json *v = pool_get(r->mem, room * sizeof *v);
    if (!v) return no_memory(r);
    for (size_t i = 0; i < row->kwargs.len; i++) v[k++] = row->kwargs.item[i];
    v[k++] = (ft_json){
        .type = FT_JSON_ARRAY, .key = "messages", .key_len = 8, .item = d->message,
        .len = (uint32_t)n
    };
    v[k++] = json_bool("add_generation_prompt", prompt);
    if (*r->bos) v[k++] = json_text("bos_token", r->bos, strlen(r->bos));
    if (*r->eos) v[k++] = json_text("eos_token", r->eos, strlen(r->eos));
    if (row->tools.key) v[k++] = row->tools;
    if (row->documents.key) v[k++] = row->documents;
    ft_json vars = { .type = FT_JSON_OBJECT, .item = v, .len = (uint32_t)k };
    return r->api->render(r->host, r->template, &vars, out);
}

/* Copies a rendering, which lives only until the next one. */
static int keep(renderer *r, rendered *to, const ft_text *from)
{
    to->text.n = to->span.n = 0;
    ft_buf_add(&to->text, from->text, from->len);
    ft_buf_add(&to->span, from->span, from->n_span * sizeof *from->span);
    return to->text.oom || to->span.oom ? no_memory(r) : FT_OK;
}

/* The spans under construction. */
static ft_span *spans(const rendered *x, size_t *n)
{
    *n = x->span.n / sizeof(ft_span);
    return (ft_span *)(void *)x->span.p;
}

/* Makes x->out of what lies in the buffers. */
static void finish(rendered *x)
{
    x->out = (ft_text){ x->text.p ? x->text.p : "", x->text.n, (const ft_span *)(void *)x->span.p,
                        x->span.n / sizeof(ft_span) };
}

/* Marks [from, to) as trained where it belongs to `turn`, cutting spans at its ends. */
static int train_range(renderer *r, rendered *x, int32_t turn, size_t from, size_t to)
{
    size_t n;
    const ft_span *old = spans(x, &n);
    ft_buf next = { 0 };
    for (size_t i = 0; i < n; i++) {
        size_t cut[4] = { old[i].begin, from, to, old[i].end };
        for (int k = 1; k < 3; k++) {
            if (cut[k] < old[i].begin) cut[k] = old[i].begin;
            if (cut[k] > old[i].end) cut[k] = old[i].end;
        }
        for (int k = 0; k < 3; k++) {
            ft_span s = old[i];
            s.begin = (uint32_t)cut[k];
            s.end = (uint32_t)cut[k + 1];
            if (k == 1 && s.turn == turn) s.train = 1;
            if (s.begin < s.end) ft_buf_add(&next, &s, sizeof s);
        }
    }
    if (next.oom) {
        ft_buf_free(&next);
        return no_memory(r);
    }
    ft_buf_free(&x->span);
    x->span = next;
    return FT_OK;
}

/* ---- the generation prompt ------------------------------------------------------------------ */

typedef struct { const char *p; size_t n; bool known; } prompt_text;

static bool starts_with(const char *p, size_t n, const char *x, size_t k)
{
    return n >= k && !memcmp(p, x, k);
}

/* Where the last run of bytes outside of any turn begins. */
static size_t outside_tail(const ft_text *t)
{
    size_t i = t->n_span;
    while (i > 0 && t->span[i - 1].turn < 0) i--;
    return i < t->n_span ? t->span[i].begin : t->len;
}

/* Whether a message is a reply. */
static bool is_assistant(const ft_json *m)
{
    const ft_json *role = ft_json_get(m, "role");
    return role && role->type == FT_JSON_STRING && role->len == 9 &&
           !memcmp(role->text, "assistant", 9);
}

/* The wanted reply before which to look: one that follows somebody else's message. */
static size_t reply_to_probe(const dialog *d, const bool *wanted)
{
    size_t found = 0;
    for (size_t i = d->n; i-- > 1;) {
        if (wanted[i] && (!found || !is_assistant(&d->message[i - 1]))) found = i;
    }
    return found;
}

/* Renders the beginning of the conversation with and without the prompt.  A template may refuse it
 * (messages in an order it does not like); then the prompt is not known. */
static int find_prompt(renderer *r, const data_row *row, const dialog *d, const bool *wanted,
                       prompt_text *out)
{
    size_t n = reply_to_probe(d, wanted);
    ft_text t;
    *out = (prompt_text){ .p = "" };
    if (!n) return FT_OK;
    int code = render(r, row, d, n, false, &t);
    if (code) return code == FT_ENOMEM ? code : FT_OK;
    size_t without = t.len;
    char *copy = pool_get(r->mem, t.len + 1);
    if (!copy) return no_memory(r);
    memcpy(copy, t.text, t.len);
    code = render(r, row, d, n, true, &t);
    if (code) return code == FT_ENOMEM ? code : FT_OK;
    size_t from = starts_with(t.text, t.len, copy, without) ? without : outside_tail(&t);
    char *text = pool_get(r->mem, t.len - from + 1);
    if (!text) return no_memory(r);
    memcpy(text, t.text + from, t.len - from);
    *out = (prompt_text){ text, t.len - from, true };
    return FT_OK;
}

/* ---- one reply ------------------------------------------------------------------------------ */

typedef struct {
    size_t begin, end;          /* first and last byte of the turn */
    size_t first_data, after_data; /* the row's own bytes in it; begin and 0 when there are none */
    bool any, data;
} turn_extent;

/* Where the bytes of a turn begin and end. */
static turn_extent find_turn(const rendered *x, int32_t turn)
{
    turn_extent e = { 0 };
    size_t n;
    const ft_span *s = spans(x, &n);
    for (size_t i = 0; i < n; i++) {
        if (s[i].turn != turn) continue;
        if (!e.any) e.begin = s[i].begin;
        e.any = true;
        e.end = s[i].end;
        if (s[i].from != FT_FROM_DATA) continue;
        if (!e.data) e.first_data = s[i].begin;
        e.data = true;
        e.after_data = s[i].end;
    }
    return e;
}

static bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

/* Past what the turn, from `at` on, has in common with the prompt; `at` when that is nothing.  A
 * part of the prompt counts up to its last bracket or line break, and only in the template's
 * bytes: half a special token is no border. */
static size_t match_prompt(const rendered *x, const turn_extent *e, size_t at, const prompt_text *g)
{
    const char *t = x->text.p;
    size_t limit = e->data ? e->first_data : e->end, k = 0, whole = 0;
    if (starts_with(t + at, e->end - at, g->p, g->n)) return at + g->n;
    for (; at + k < limit && k < g->n && t[at + k] == g->p[k]; k++) {
        if (strchr(">]}|\n", g->p[k]) && g->p[k]) whole = k + 1;
    }
    /* A '|' closes only what is not followed by '>' (as in "<|assistant|>" cut short). */
    while (whole && g->p[whole - 1] == '|') whole--;
    return at + whole;
}

/* Whether the conversation up to the reply, with its generation prompt, is how the whole begins:
 * then *start is where the reply starts, and that is beyond doubt. */
static int probe_start(renderer *r, const data_row *row, const dialog *d, const rendered *x,
                       const turn_extent *e, int32_t turn, size_t *start, bool *found)
{
    ft_text t;
    *found = false;
    int code = turn > 0 ? render(r, row, d, (size_t)turn, true, &t) : FT_EINVAL;
    if (code) return code == FT_ENOMEM ? code : FT_OK;
    *found = t.len >= e->begin && t.len <= e->end &&
             starts_with(x->text.p, x->text.n, t.text, t.len);
    if (*found) *start = t.len;
    return FT_OK;
}

/* Where the model's own words begin in a turn. */
static int reply_start(renderer *r, const data_row *row, const dialog *d, const rendered *x,
                       const turn_extent *e, int32_t turn, const prompt_text *g, size_t *start)
{
    bool found;
    size_t visible = e->begin;
    *start = e->begin + g->n;
    if (g->known && g->n && starts_with(x->text.p + e->begin, e->end - e->begin, g->p, g->n))
        return FT_OK;
    int code = probe_start(r, row, d, x, e, turn, start, &found);
    if (code || found) return code;
    *start = e->begin;
    if (g->known && !g->n) return FT_OK; /* the template adds nothing before a reply */
    while (visible < e->end && is_space(x->text.p[visible])) visible++;
    for (int i = 0; g->known && i < 2; i++) {
        size_t at = i ? visible : e->begin, past = match_prompt(x, e, at, g);
        *start = past;
        if (past > at) return FT_OK;
    }
    *start = e->data ? e->first_data : e->begin;
    return FT_OK;
}

/* The end of the turn, with the text that ends it. */
static size_t reply_end(renderer *r, const rendered *x, const turn_extent *e, size_t start)
{
    size_t tail = e->data && e->after_data > start ? e->after_data : start, end = e->end;
    size_t n = strlen(r->eos);
    const char *hit = n ? memmem(x->text.p + tail, end - tail, r->eos, n) : NULL;
    if (hit) return (size_t)(hit - x->text.p) + n;
    while (end > tail && is_space(x->text.p[end - 1])) end--;
    r->no_stop = r->no_stop || end == tail;
    return end;
}

static int train_reply(renderer *r, const data_row *row, const dialog *d, rendered *x, int32_t turn,
                       const prompt_text *g)
{
    turn_extent e = find_turn(x, turn);
    size_t start, end;
    if (!e.any) return FT_OK; /* the template leaves this reply out */
    int code = reply_start(r, row, d, x, &e, turn, g, &start);
    if (code) return code;
    if (start > e.end) start = e.end;
    end = reply_end(r, x, &e, start);
    return start < end ? train_range(r, x, turn, start, end) : FT_OK;
}

/* ---- conversations and plain text ----------------------------------------------------------- */

/* Which messages are to be trained: all replies that may be, or the last one. */
static bool *choose_replies(renderer *r, const dialog *d)
{
    bool *wanted = pool_get(r->mem, d->n * sizeof *wanted);
    for (size_t i = d->n; wanted && i-- > 0;) {
        wanted[i] = d->learn[i];
        if (wanted[i] && r->train_on == TRAIN_LAST) break;
    }
    return wanted;
}

/* What {% generation %} marks, in the replies that are wanted. */
static void train_marked(rendered *x, const dialog *d, const bool *wanted)
{
    size_t n;
    ft_span *s = spans(x, &n);
    for (size_t i = 0; i < n; i++) {
        bool of_reply = s[i].turn < 0 || (size_t)s[i].turn >= d->n || wanted[s[i].turn];
        s[i].train = s[i].marked && of_reply;
    }
}

/* train_on: all */
static void train_everything(rendered *x)
{
    size_t n;
    ft_span *s = spans(x, &n);
    for (size_t i = 0; i < n; i++) s[i].train = 1;
}

/* A conversation. */
static int render_chat(renderer *r, const data_row *row, const dialog *d, rendered *x)
{
    ft_text t;
    prompt_text g;
    int code = render(r, row, d, d->n, false, &t);
    if (!code) code = keep(r, x, &t);
    if (code) return code;
    bool *wanted = choose_replies(r, d);
    if (!wanted) return no_memory(r);
    if (r->train_on == TRAIN_ALL) {
        train_everything(x);
    } else if (r->api->marks(r->template)) {
        train_marked(x, d, wanted);
    } else {
        code = find_prompt(r, row, d, wanted, &g);
        for (size_t i = 0; i < d->n && !code; i++) {
            if (wanted[i]) code = train_reply(r, row, d, x, (int32_t)i, &g);
        }
    }
    return code;
}

/* Prompt and completion as they stand, then the eos token as TRL appends it: not twice.  That token
 * at the very end counts as the template's, so that it becomes the special token that it means. */
static int render_plain(renderer *r, const dialog *d, rendered *x)
{
    size_t eos = strlen(r->eos), body = d->completion.len;
    bool has = eos && body >= eos && !memcmp(d->completion.text + body - eos, r->eos, eos);
    size_t from[4] = { 0, d->prompt.len, d->prompt.len + body - (has ? eos : 0), 0 };
    x->text.n = x->span.n = 0;
    ft_buf_add(&x->text, d->prompt.text, d->prompt.len);
    ft_buf_add(&x->text, d->completion.text, body);
    if (!has) ft_buf_add(&x->text, r->eos, eos);
    from[3] = x->text.n;
    for (int i = 0; i < 3; i++) {
        ft_span s = { .begin = (uint32_t)from[i], .end = (uint32_t)from[i + 1], .turn = -1,
                      .from = i < 2 ? FT_FROM_DATA : FT_FROM_TEMPLATE,
                      .train = i > 0 || r->train_on == TRAIN_ALL };
        if (s.begin < s.end) ft_buf_add(&x->span, &s, sizeof s);
    }
    r->no_stop = r->no_stop || !eos;
    return x->text.oom || x->span.oom ? no_memory(r) : FT_OK;
}

int render_dialog(renderer *r, const data_row *row, const dialog *d, rendered *x)
{
    int code = d->message ? render_chat(r, row, d, x) : render_plain(r, d, x);
    if (code) return code;
    finish(x);
    for (size_t i = 0; i < x->out.n_span; i++) {
        if (x->out.span[i].train) return FT_OK;
    }
    return r->host->fail(r->host, FT_EFORMAT,
                         d->message ? "nothing to train: no reply of the assistant "
                                      "that the template shows and `train` allows"
                                    : "nothing to train: the text is empty");
}
