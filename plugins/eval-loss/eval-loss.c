/* eval-loss.c -- how well the base and the tuned model predict the rows, and what they say.
 *
 *   loss          mean of -ln p over the trained tokens of the split
 *   perplexity    exp(loss): per trained token, so not comparable between tokenizers
 *   accuracy      share of the trained tokens that were the likeliest
 *   bits_per_byte sum of -log2 p over the UTF-8 bytes of the trained text (special tokens spelled
 *                 out): the number to compare between tokenizers and languages
 *
 * Rows kept for evaluation (val_size, val_path) are taken, else those trained on, and the numbers
 * say which.  The first rows are also continued from where their first trained token stands. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "ft/buf.h"
#include "ft/evaluate.h"

typedef struct { ft_evaluate_args args; int64_t samples; const char *split; } config;

static const char *const splits[] = { "auto", "eval", "train", NULL };
static const ft_param params[] = { { "samples", FT_INT, offsetof(config, samples), "4", 0, 1000,
                                     NULL, "rows whose continuation is shown, before and after" },
                                   { "split", FT_STR, offsetof(config, split), "auto", 0, 0, splits,
                                     "rows that are scored; auto: those kept for evaluation where "
                                     "there are some, else those trained on" },
                                   FT_EVALUATE_PARAMS(config, args, "64"),
                                   { 0 } };

typedef struct { const ft_host *host; const config *c; const ft_lm_api *lm; int split; } self_t;

static int open_(void *self, const ft_host *host, const void *cfg)
{
    self_t *s = self;
    s->host = host;
    s->c = cfg;
    s->lm = host->get(host, "ft.lm/1");
    return s->lm ? 0 : host->fail(host, FT_EUNSUP, "this program does not offer ft.lm/1");
}

/* ---- losses ---------------------------------------------------------------------------------- */

static int choose_split(self_t *s)
{
    bool has = s->lm->documents(s->host, FT_SPLIT_VAL) > 0;
    s->split = !strcmp(s->c->split, "eval") || (!strcmp(s->c->split, "auto") && has)
                   ? FT_SPLIT_VAL
                   : FT_SPLIT_TRAIN;
    if (s->lm->documents(s->host, s->split) > 0) return 0;
    return s->host
        ->fail(s->host, FT_EINVAL,
               s->split == FT_SPLIT_VAL
                   ? "there are no rows kept for evaluation; set val_size in the data stage"
                   : "there are no rows; put a data and a tokenizer stage before this one");
}

static int report(const self_t *s, const char *name, const char *when, double value)
{
    char key[64];
    snprintf(key, sizeof key, "%s_%s", name, when);
    return s->lm->report(s->host, key, value);
}

static int score(self_t *s, int which, const char *when)
{
    ft_lm_score r;
    int code = s->lm->score(s->host, which, s->split, &r);
    if (code) return code;
    if (r.tokens == 0) return s->host->fail(s->host, FT_EFORMAT, "the rows have no trained token");
    double loss = r.nll / (double)r.tokens;
    code = report(s, "loss", when, loss);
    if (!code) code = report(s, "perplexity", when, exp(loss));
    if (!code) code = report(s, "accuracy", when, (double)r.hits / (double)r.tokens);
    if (!code && r.bytes > 0)
        code = report(s, "bits_per_byte", when, r.nll / log(2) / (double)r.bytes);
    if (!code && which == FT_LM_BASE)
        code = s->lm->report(s->host, s->split == FT_SPLIT_VAL ? "eval_tokens" : "train_tokens",
                             (double)r.tokens);
    return code;
}

/* ---- samples --------------------------------------------------------------------------------- */

typedef struct { const int32_t **ids; int64_t *n, count; } prompts;

/* Each document up to its first trained token. */
static int find_prompts(const self_t *s, prompts *p)
{
    for (int64_t i = 0; i < p->count; i++) {
        const int32_t *labels;
        int64_t n;
        int code = s->lm->document(s->host, s->split, i, &p->ids[i], &labels, &n);
        if (code) return code;
        p->n[i] = 1;
        while (p->n[i] < n && labels[p->n[i]] < 0) p->n[i]++;
    }
    return 0;
}

/* Answers are valid until the next question only. */
static int ask(const self_t *s, int which, const prompts *p, ft_lm_answer *a, char **kept)
{
    int code = s->lm->continue_(s->host, which, p->ids, p->n, p->count, a);
    for (int64_t i = 0; i < p->count && !code; i++) {
        kept[i] = strdup(a[i].text);
        if (!kept[i]) code = s->host->fail(s->host, FT_ENOMEM, "out of memory for the samples");
    }
    return code;
}

static int show(const self_t *s, const prompts *p, char **before, char **after)
{
    int code = 0;
    for (int64_t i = 0; i < p->count && !code; i++) {
        const char *text;
        size_t len;
        code = s->lm->text(s->host, p->ids[i], p->n[i], true, &text, &len);
        if (!code) code = s->lm->sample(s->host, text, before[i], after ? after[i] : NULL);
    }
    return code;
}

static int samples(self_t *s)
{
    int64_t have = s->lm->documents(s->host, s->split),
            n = s->c->samples < have ? s->c->samples : have;
    prompts p = { .ids = calloc((size_t)n + 1, sizeof *p.ids),
                  .n = calloc((size_t)n + 1, sizeof *p.n),
                  .count = n };
    ft_lm_answer *a = calloc((size_t)n + 1, sizeof *a);
    char **kept = calloc(2 * (size_t)n + 1, sizeof *kept);
    bool tuned = s->lm->tuned(s->host);
    int code = p.ids && p.n && a && kept
                   ? 0
                   : s->host->fail(s->host, FT_ENOMEM, "out of memory for the samples");
    if (!code) code = find_prompts(s, &p);
    if (!code) code = ask(s, FT_LM_BASE, &p, a, kept);
    if (!code && tuned) code = ask(s, FT_LM_TUNED, &p, a, kept + n);
    if (!code) code = show(s, &p, kept, tuned ? kept + n : NULL);
    for (int64_t i = 0; kept && i < 2 * n; i++) free(kept[i]);
    free(kept);
    free(a);
    free(p.ids);
    free(p.n);
    return code;
}

static int run(void *self)
{
    self_t *s = self;
    int code = choose_split(s);
    if (!code) code = score(s, FT_LM_BASE, "before");
    if (!code && s->lm->tuned(s->host)) code = score(s, FT_LM_TUNED, "after");
    return code ? code : s->c->samples ? samples(s) : 0;
}

static const ft_evaluator evaluator = { .size = sizeof evaluator,
                                        .args = offsetof(config, args),
                                        .run = run };
static const ft_plugin plugin = {
    .abi = FT_ABI_INIT,
    .role = "ft.evaluator/1",
    .name = "eval-loss",
    .version = "0.1.0",
    .summary = "loss, perplexity, accuracy and bits per byte, before and after, with samples",
    .params = params,
    .config_size = sizeof(config),
    .instance_size = sizeof(self_t),
    .open = open_,
    .vtable = &evaluator,
};
FT_PLUGIN(plugin, "eval-loss")
