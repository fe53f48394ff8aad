/* score.c -- see score.h. */
#include "core/run/score.h"
#include <math.h>
#include "core/load/isolate.h"

int ft_score_rows(ft_engine *e, int which, const ft_row_plan *r, const ft_token_set *t,
                  int64_t virtual_tokens, ft_score *s, ft_err *err)
{
    ft_program *p = e->program[which];
    ft_micro *m = &e->micro[which];
    g_exec_begin(p->x);
    for (int64_t row = 0; row < r->n_rows;) {
        row = ft_micro_fill(m, r, t, row, r->n_rows, virtual_tokens);
        g_exec_micro(p->x, &m->b);
        for (int64_t i = 0; i < m->b.n_trained; i++) {
            s->nll -= ft_program_number(p, p->logprob, i);
            s->hits += ft_program_number(p, p->hit, i) > 0.5;
        }
        s->tokens += m->b.n_trained;
        if (ft_cancelled()) return ft_errf(err, FT_ECANCEL, "stopped on request");
    }
    return 0;
}

double ft_score_loss(const ft_score *s) { return s->tokens ? s->nll / (double)s->tokens : NAN; }

void ft_score_bounds(const ft_row_plan *r, const ft_token_set *t, int64_t virtual_tokens,
                     int64_t most, int64_t *max_tokens, int64_t *max_trained)
{
    int64_t total = 0;
    *max_tokens = 1;
    for (int64_t i = 0; i < r->n_rows; i++) {
        int64_t n = ft_rows_tokens(r, t, i, virtual_tokens);
        total += n;
        if (n > *max_tokens) *max_tokens = n;
    }
    int64_t enough = total < most ? total : most;
    if (enough > *max_tokens) *max_tokens = enough;
    *max_trained = *max_tokens;
}

int ft_score_split(const ft_asked *a, const ft_token_set *t, int split, ft_score *s, ft_err *err)
{
    ft_program program = { .x = NULL };
    ft_engine engine = { .n_programs = 0 };
    ft_program_args p = a->program;
    ft_row_plan rows;
    ft_rows_args ra = { .split = split,
                        .virtual_tokens = p.method ? ft_method_virtual_tokens(p.method) : 0 };
    if (ft_rows_make(&rows, t, &ra)) return ft_errf(err, FT_ENOMEM, "out of memory for the rows");
    p.purpose = FT_FOR_SCORING;
    ft_score_bounds(&rows, t, ra.virtual_tokens, 512, &p.max_tokens, &p.max_trained);
    int code = ft_program_plan(&program, &p, a->weights, &a->machine->kernels, a->machine->threads,
                               err);
    if (!code) engine = ft_asked_engine(a, &program);
    if (!code) code = ft_engine_start(&engine, err);
    if (!code) code = ft_engine_fill(&engine, a->weights, a->seed, a->adapter, err);
    if (!code) code = ft_score_rows(&engine, 0, &rows, t, ra.virtual_tokens, s, err);
    ft_program_free(&program);
    ft_engine_stop(&engine);
    ft_rows_free(&rows);
    return code;
}
