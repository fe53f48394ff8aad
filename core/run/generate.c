/* generate.c -- see generate.h. */
#include "core/run/generate.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "core/load/isolate.h"
#include "core/run/sample.h"

enum { SLOTS = 16 };

/* A slot: the text in it (-1: none), and how many of its tokens have been read. */
typedef struct { int64_t text, cached; } slot;

typedef struct {
    const ft_generate_args *args;
    ft_continuation *text;
    int64_t n, next, done;
    int64_t n_virtual;
    ft_program program;
    ft_engine engine;
    slot slot[SLOTS];
    int32_t doc_slot[SLOTS], doc_cached[SLOTS], doc_of[SLOTS];
    ft_sampler sampler;
} generation;

/* ---- sizes ----------------------------------------------------------------------------------- */

static int64_t longest_prompt(const generation *g)
{
    int64_t most = 1;
    for (int64_t i = 0; i < g->n; i++) {
        if (g->text[i].n_prompt > most) most = g->text[i].n_prompt;
    }
    return most + g->n_virtual;
}

static int check_lengths(const generation *g, int64_t context, ft_err *e)
{
    for (int64_t i = 0; i < g->n; i++) {
        int64_t n = g->text[i].n_prompt;
        if (n == 0)
            return ft_errf(e, FT_EINVAL, "prompt %lld is empty: there is no token to continue",
                           (long long)i + 1);
        if (n + g->n_virtual + g->args->max_new_tokens > context)
            return ft_errf(e, FT_EINVAL,
                           "prompt %lld has %lld tokens, with %lld new ones more than the model's "
                           "context of %lld; "
                           "ask for fewer new tokens",
                           (long long)i + 1, (long long)n, (long long)g->args->max_new_tokens,
                           (long long)context);
    }
    return 0;
}

static int start(generation *g, const ft_asked *a, ft_err *e)
{
    ft_program_args p = a->program;
    int64_t slots = g->n < SLOTS ? g->n : SLOTS, longest = longest_prompt(g);
    p.purpose = FT_FOR_GENERATION;
    p.max_trained = slots;
    p.max_tokens = longest + slots > 256 ? longest + slots : 256;
    p.slot_tokens = slots * (longest + g->args->max_new_tokens);
    int code = ft_program_plan(&g->program, &p, a->weights, &a->machine->kernels,
                               a->machine->threads, e);
    if (code) return code;
    g->engine = ft_asked_engine(a, &g->program);
    code = ft_engine_start(&g->engine, e);
    if (!code) code = ft_engine_fill(&g->engine, a->weights, a->seed, a->adapter, e);
    if (code) return code;
    ft_batch *b = &g->engine.micro[0].b;
    b->slot = g->doc_slot;
    b->cached = g->doc_cached;
    b->slot_tokens = longest + g->args->max_new_tokens;
    b->row_tokens = p.max_tokens;
    for (int i = 0; i < SLOTS; i++) g->slot[i].text = i < slots ? -1 : -2;
    g_exec_begin(g->program.x);
    return 0;
}

/* ---- one pass -------------------------------------------------------------------------------- */

/* Appends the tokens of a document, the text in slot s: its logits are wanted after the last. */
static void put(generation *g, int s, int64_t n_virtual, const int32_t *ids, int64_t n)
{
    ft_micro *m = &g->engine.micro[0];
    ft_batch *b = &m->b;
    m->doc_start[b->n_docs] = m->row_start[b->n_docs] = (int32_t)b->n_tokens;
    g->doc_slot[b->n_docs] = s;
    g->doc_of[b->n_docs] = s;
    g->doc_cached[b->n_docs++] = (int32_t)g->slot[s].cached;
    for (int64_t i = -n_virtual; i < n; i++) {
        m->ids[b->n_tokens] = i < 0 ? (int32_t)(-1 - (i + n_virtual)) : ids[i];
        m->position[b->n_tokens++] = (int32_t)g->slot[s].cached++;
    }
    m->target[b->n_trained] = 0;
    m->trained[b->n_trained++] = (int32_t)b->n_tokens - 1;
}

/* New texts into free slots, or else those under way by one token: never both, so that a token is
 * computed the same way whatever other texts there are (linear_few.c). */
static void gather(generation *g)
{
    ft_micro *m = &g->engine.micro[0];
    ft_batch *b = &m->b;
    b->n_tokens = b->n_docs = b->n_trained = 0;
    for (int s = 0; s < SLOTS && g->next < g->n; s++) {
        const ft_continuation *t = &g->text[g->next];
        if (g->slot[s].text != -1) continue;
        if (b->n_tokens + t->n_prompt + g->n_virtual > m->max_tokens) break;
        g->slot[s] = (slot){ g->next++, 0 };
        put(g, s, g->n_virtual, t->prompt, t->n_prompt);
    }
    b->one_more = b->n_docs == 0;
    for (int s = 0; s < SLOTS && b->one_more; s++) {
        if (g->slot[s].text < 0) continue;
        const ft_continuation *t = &g->text[g->slot[s].text];
        put(g, s, 0, t->out + t->n_out - 1, 1);
    }
    b->n_rows = b->n_docs;
    m->doc_start[b->n_docs] = m->row_start[b->n_docs] = (int32_t)b->n_tokens;
}

static bool is_stop(const ft_generate_args *a, int32_t id)
{
    for (int i = 0; i < a->n_stop; i++) {
        if (a->stop[i] == id) return true;
    }
    return false;
}

/* Takes the next token of every document of the pass. */
static void take(generation *g)
{
    const ft_batch *b = &g->engine.micro[0].b;
    int64_t vocab = g_cols(g_desc(g->program.g, g->program.logits));
    const float *logits = g_exec_data(g->program.x, g->program.logits);
    for (int64_t d = 0; d < b->n_docs; d++) {
        slot *s = &g->slot[g->doc_of[d]];
        ft_continuation *t = &g->text[s->text];
        uint64_t key = ft_sample_key(g->args->seed, (uint64_t)s->text, (uint64_t)t->n_out);
        int32_t id = ft_sample_token(&g->sampler, logits + d * vocab, vocab, key);
        t->stopped = is_stop(g->args, id);
        if (!t->stopped) t->out[t->n_out++] = id;
        if (!t->stopped && t->n_out < g->args->max_new_tokens) continue;
        s->text = -1;
        g->done++;
    }
}

static int run(generation *g, ft_progress *progress, ft_err *e)
{
    while (g->done < g->n) {
        gather(g);
        g_exec_micro(g->program.x, &g->engine.micro[0].b);
        take(g);
        if (progress) ft_progress_update(progress, "texts", g->done, g->n);
        if (ft_cancelled()) return ft_errf(e, FT_ECANCEL, "stopped on request");
    }
    return 0;
}

int ft_generate(const ft_asked *a, const ft_generate_args *args, int64_t context,
                ft_continuation *text, int64_t n, ft_progress *progress, ft_err *e)
{
    generation g = { .args = args, .text = text, .n = n };
    if (a->program.method) g.n_virtual = ft_method_virtual_tokens(a->program.method);
    for (int64_t i = 0; i < n; i++) text[i].n_out = 0, text[i].stopped = false;
    if (n == 0 || args->max_new_tokens <= 0) return 0;
    int code = check_lengths(&g, context, e);
    if (!code) code = start(&g, a, e);
    if (!code) {
        int64_t vocab = g_cols(g_desc(g.program.g, g.program.logits));
        code = ft_sampler_open(&g.sampler, args->temperature, args->top_k, args->top_p, vocab, e);
    }
    if (!code) code = run(&g, progress, e);
    ft_sampler_close(&g.sampler);
    ft_program_free(&g.program);
    ft_engine_stop(&g.engine);
    return code;
}
