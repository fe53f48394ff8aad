/* score.c -- see score.h. */
#include "core/run/score.h"
#include <math.h>
#include "core/load/isolate.h"

int ft_score_rows(ft_engine *e, int which, const ft_row_plan *r, const ft_token_set *t, int64_t virtual_tokens,
                  ft_score *s, ft_err *err)
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

void ft_score_bounds(const ft_row_plan *r, const ft_token_set *t, int64_t virtual_tokens, int64_t most,
                     int64_t *max_tokens, int64_t *max_trained)
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
