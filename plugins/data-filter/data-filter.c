/* data-filter.c -- passes over rows by rules that can be said in a sentence: length, script,
 * repetition, refusals, malformed turns.  Every row that goes is counted under the rule that it
 * broke first, in the order of this file.
 *
 * The rules look at what the rows say (spans of origin data), never at the template's words.
 * Language is judged by script alone: it tells Russian from English, not German from English.  A
 * preference pair goes when either answer breaks a rule, but for refusals, where the chosen one
 * alone counts. */
#include <string.h>
#include "filter.h"

typedef struct {
    int64_t min_chars, max_chars, min_reply_chars, max_reply_chars;
    ft_list scripts, refusal_phrases;
    double min_script_share, max_repetition;
    bool drop_refusals, drop_malformed;
} config;

typedef struct {
    uint8_t role;
    bool there, text; /* shown by the template; has something other than white space */
} turn;

typedef struct {
    const ft_host *host;
    const config *c;
    ft_buf all, reply, turns, grams; /* of the row at hand: all that it says, what is trained */
} filter;

enum { MOST_TURNS = 1 << 20 };

/* ---- the row --------------------------------------------------------------------------------- */

static bool has_text(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!strchr(" \t\r\n", p[i]) || !p[i]) return true;
    }
    return false;
}

/* The turn of a span, made when it is new; NULL outside of turns. */
static turn *turn_of(filter *f, const ft_span *s)
{
    if (s->turn < 0 || s->turn >= MOST_TURNS) return NULL;
    size_t need = ((size_t)s->turn + 1) * sizeof(turn);
    if (f->turns.n < need && !ft_buf_grow(&f->turns, need - f->turns.n)) return NULL;
    turn *t = (turn *)(void *)f->turns.p + s->turn;
    t->there = true;
    t->role = s->role;
    return t;
}

/* Takes a sequence apart. */
static void take(filter *f, const ft_text *t)
{
    f->all.n = f->reply.n = f->turns.n = 0;
    for (size_t i = 0; i < t->n_span; i++) {
        const ft_span *s = &t->span[i];
        const char *p = t->text + s->begin;
        size_t n = s->end - s->begin;
        turn *x = turn_of(f, s);
        if (s->from != FT_FROM_DATA) continue;
        if (x) x->text |= has_text(p, n);
        ft_buf_add(&f->all, p, n);
        if (s->train) ft_buf_add(&f->reply, p, n);
    }
}

/* ---- rules: NULL, or what is wrong ----------------------------------------------------------- */

static const char *wrong_length(const config *c, const filter *f)
{
    int64_t all = (int64_t)filter_chars(f->all.p, f->all.n),
            reply = (int64_t)filter_chars(f->reply.p, f->reply.n);
    if (all < c->min_chars) return "shorter than min_chars";
    if (c->max_chars && all > c->max_chars) return "longer than max_chars";
    if (reply < c->min_reply_chars) return "a reply shorter than min_reply_chars";
    if (c->max_reply_chars && reply > c->max_reply_chars)
        return "a reply longer than max_reply_chars";
    return NULL;
}

static const char *malformed(const filter *f)
{
    const turn *t = (const turn *)(const void *)f->turns.p, *last = NULL;
    bool user = false;
    if (filter_broken(f->all.p, f->all.n))
        return "broken characters (U+FFFD or control characters)";
    for (size_t i = 0; i < f->turns.n / sizeof *t; i++) {
        if (!t[i].there) continue;
        bool talks = t[i].role == FT_ROLE_USER || t[i].role == FT_ROLE_ASSISTANT;
        if (talks && !t[i].text)
            return t[i].role == FT_ROLE_USER ? "an empty message of the user" : "an empty reply";
        if (talks && last && last->role == t[i].role) return "two turns of the same role in a row";
        user |= t[i].role == FT_ROLE_USER;
        last = &t[i];
    }
    if (last && !user) return "no message of the user";
    return last && last->role != FT_ROLE_ASSISTANT ? "the last turn is not the assistant's" : NULL;
}

/* Whether some reply of the sequence refuses. */
static bool refuses(const config *c, const ft_text *t)
{
    for (size_t i = 0; i < t->n_span; i++) {
        const ft_span *s = &t->span[i];
        if (s->train && s->from == FT_FROM_DATA &&
            filter_refuses(t->text + s->begin, s->end - s->begin, &c->refusal_phrases))
            return true;
    }
    return false;
}

static const char *wrong(filter *f, const ft_sample *s, int k)
{
    const config *c = f->c;
    const char *what = c->drop_malformed ? malformed(f) : NULL;
    if (!what) what = wrong_length(c, f);
    if (!what && c->scripts.n &&
        filter_script_share(f->all.p, f->all.n, &c->scripts) < c->min_script_share)
        what = "another script";
    if (!what && c->max_repetition < 1 &&
        filter_repetition(f->reply.p, f->reply.n, &f->grams) > c->max_repetition)
        what = "repetition";
    if (!what && c->drop_refusals && k == 0 && s->label != FT_LABEL_BAD && refuses(c, &s->seq[0]))
        what = "a refusal";
    return what;
}

static int keep(void *self, const ft_sample *s, const char **reason)
{
    filter *f = self;
    for (int k = 0; k < s->n_seq && k < 2; k++) {
        take(f, &s->seq[k]);
        const char *what = wrong(f, s, k);
        if (f->all.oom || f->reply.oom || f->turns.oom || f->grams.oom)
            return f->host->fail(f->host, FT_ENOMEM, "out of memory for a row of %zu bytes",
                                 s->seq[k].len);
        if (!what) continue;
        *reason = what;
        return 0;
    }
    return 1;
}

/* ---- descriptor ------------------------------------------------------------------------------ */

static int open_(void *self, const ft_host *host, const void *cfg)
{
    filter *f = self;
    f->host = host;
    f->c = cfg;
    for (size_t i = 0; i < f->c->scripts.n; i++) {
        if (!filter_script(f->c->scripts.v[i]))
            return host->fail(host, FT_EINVAL, "scripts: \"%s\" is not known; there are %s",
                              f->c->scripts.v[i], filter_scripts);
    }
    return 0;
}

static void close_(void *self)
{
    filter *f = self;
    ft_buf_free(&f->all);
    ft_buf_free(&f->reply);
    ft_buf_free(&f->turns);
    ft_buf_free(&f->grams);
}

static const ft_param params[] = {
    { "min_chars", FT_INT, offsetof(config, min_chars), "0", 0, 1e9, NULL,
      "least characters that a row says" },
    { "max_chars", FT_INT, offsetof(config, max_chars), "0", 0, 1e9, NULL, "most; 0: any" },
    { "min_reply_chars", FT_INT, offsetof(config, min_reply_chars), "0", 0, 1e9, NULL,
      "least characters of what is trained" },
    { "max_reply_chars", FT_INT, offsetof(config, max_reply_chars), "0", 0, 1e9, NULL,
      "most; 0: any" },
    { "scripts", FT_LIST, offsetof(config, scripts), "", 0, 0, NULL,
      "scripts that rows are to be written in, such as latin, cyrillic, han; empty: any" },
    { "min_script_share", FT_REAL, offsetof(config, min_script_share), "0.7", 0, 1, NULL,
      "least part of a row's letters that are of these scripts" },
    { "max_repetition", FT_REAL, offsetof(config, max_repetition), "1", 0, 1, NULL,
      "most part of a reply's runs of 5 words (10 characters) that stood in it before; 1: any" },
    { "drop_refusals", FT_BOOL, offsetof(config, drop_refusals), "false", 0, 0, NULL,
      "pass over rows whose reply begins as refusals do" },
    { "refusal_phrases", FT_LIST, offsetof(config, refusal_phrases), "", 0, 0, NULL,
      "what refusals say in their first 200 characters, instead of the usual English phrases" },
    { "drop_malformed", FT_BOOL, offsetof(config, drop_malformed), "true", 0, 0, NULL,
      "pass over empty turns, turns out of order, broken characters" },
    { 0 }
};

static const ft_filter vtable = { sizeof vtable, keep };
static const ft_plugin plugin = {
    .abi = FT_ABI_INIT,
    .role = "ft.filter/1",
    .name = "data-filter",
    .version = "1.0.0",
    .summary = "passes over rows by length, script, repetition, refusals and malformed turns",
    .params = params,
    .config_size = sizeof(config),
    .instance_size = sizeof(filter),
    .open = open_,
    .close = close_,
    .vtable = &vtable,
};
FT_PLUGIN(plugin, "data-filter");
