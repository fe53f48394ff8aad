/* stage_rows.c -- the stages between a format and the tokenizer: filters, which pass over rows, and
 * mixers, which make one set of several. */
#include <stdlib.h>
#include "core/run/row_count.h"
#include "core/run/samples.h"

static int open_samples(ft_samples *in, const ft_stage *from, ft_err *e)
{
    char path[4096];
    int code = ft_path_join(path, sizeof path, from->dir, "samples.bin", e);
    return code ? code : ft_samples_open(in, path, e);
}

static int step(ft_run *r, uint64_t done, uint64_t total, ft_err *e)
{
    ft_progress_update(&r->progress, "rows", (int64_t)done, (int64_t)total);
    return ft_cancelled() ? ft_errf(e, FT_ECANCEL, "stopped on request") : 0;
}

/* Closes the file that is being written, and tells what became of the rows. */
static int finish(ft_run *r, const ft_stage *s, ft_samples_writer *w, ft_row_count *c,
                  const char *dir, int code, ft_err *e)
{
    int64_t leaked = 0;
    if (!code && !c->kept)
        code = ft_errf(e, FT_EFORMAT, "%s: no row is left: %s", s->conf->id,
                       c->n ? c->reason[0].text : "there were none");
    if (code) ft_samples_drop(w);
    else code = ft_samples_finish(w, 0, &leaked, e);
    c->kept -= leaked;
    ft_row_count_drop(c, "the question is asked in evaluation as well", leaked);
    return code ? code : ft_row_count_tell(c, r, s, dir, e);
}

static int create(ft_samples_writer *w, const char *dir, ft_err *e)
{
    char path[4096];
    int code = ft_path_join(path, sizeof path, dir, "samples.bin", e);
    return code ? code : ft_samples_create(w, path, e);
}

/* ---- filters --------------------------------------------------------------------------------- */

static int filter_rows(ft_run *r, ft_instance *i, ft_samples *in, ft_samples_writer *w,
                       ft_row_count *c, ft_err *e)
{
    const ft_filter *f = ft_instance_vtable(i);
    for (uint64_t k = 0; k < in->n; k++) {
        const char *reason = "no reason was given";
        ft_sample s;
        int code = ft_samples_get(in, k, &s, e);
        if (code) return code;
        int keep = f->keep(ft_instance_self(i), &s, &reason);
        if (keep < 0) return ft_instance_error(i, keep, e);
        if (!keep) ft_row_count_drop(c, reason, 1);
        else c->kept++;
        if (keep && (code = ft_samples_add(w, &s, e))) return code;
        if ((code = step(r, k + 1, in->n, e))) return code;
    }
    return 0;
}

int ft_stage_filter(ft_run *r, ft_stage *s, const char *dir, ft_err *e)
{
    ft_samples in = { .n = 0 };
    ft_samples_writer w;
    ft_row_count c = { .kept = 0 };
    int code = open_samples(&in, ft_run_input(r, s, FT_SAMPLES), e);
    if (code) return code;
    ft_instance *i = ft_run_instance(r, s, e);
    code = i ? create(&w, dir, e) : e->code;
    if (!code) {
        code = filter_rows(r, i, &in, &w, &c, e);
        code = finish(r, s, &w, &c, dir, code, e);
    }
    ft_instance_close(i);
    ft_samples_close(&in);
    return code;
}

/* ---- mixers ---------------------------------------------------------------------------------- */

typedef struct {
    ft_samples in;
    uint64_t *train; /* [n] places of its training rows */
    int64_t n;
} set;

/* Opens a set; its evaluation rows go to the mix at once, every one a single time. */
static int open_set(set *x, const ft_stage *from, ft_samples_writer *w, ft_row_count *c, ft_err *e)
{
    int code = open_samples(&x->in, from, e);
    if (code) return code;
    x->train = malloc((size_t)(x->in.n + 1) * sizeof *x->train);
    if (!x->train)
        return ft_errf(e, FT_ENOMEM, "out of memory for %llu samples", (unsigned long long)x->in.n);
    for (uint64_t k = 0; k < x->in.n && !code; k++) {
        ft_sample s;
        code = ft_samples_get(&x->in, k, &s, e);
        if (code) break;
        if (s.split == FT_SPLIT_VAL) {
            c->kept++;
            code = ft_samples_add(w, &s, e);
        } else {
            x->train[x->n++] = k;
        }
    }
    if (!code && !x->n)
        code = ft_errf(e, FT_EFORMAT, "%s has no training rows to mix", from->conf->id);
    return code;
}

static int mix_rows(ft_run *r, ft_instance *i, set *x, size_t n, ft_samples_writer *w,
                    ft_row_count *c, ft_err *e)
{
    const ft_mixer *m = ft_instance_vtable(i);
    int64_t rows[FT_CONFIG_STAGES], row;
    size_t from;
    for (size_t k = 0; k < n; k++) rows[k] = x[k].n;
    int code = m->begin(ft_instance_self(i), n, rows);
    while (!code && (code = m->next(ft_instance_self(i), &from, &row)) > 0) {
        ft_sample s;
        if (from >= n || row < 0 || row >= x[from].n)
            return ft_errf(e, FT_EINVAL, "the mixer asked for a row that there is not");
        code = ft_samples_get(&x[from].in, x[from].train[row], &s, e);
        if (!code) code = ft_samples_add(w, &s, e);
        if (!code) code = step(r, (uint64_t)++c->kept, 0, e);
        if (code) return code;
    }
    return code ? ft_instance_error(i, code, e) : 0;
}

int ft_stage_mix(ft_run *r, ft_stage *s, const char *dir, ft_err *e)
{
    set *x = calloc((size_t)s->n_sets + 1, sizeof *x);
    ft_samples_writer w;
    ft_row_count c = { .kept = 0 };
    ft_instance *i = x ? ft_run_instance(r, s, e) : NULL;
    int code = i   ? create(&w, dir, e)
               : x ? e->code
                   : ft_errf(e, FT_ENOMEM, "out of memory while mixing");
    if (!code) {
        for (int k = 0; k < s->n_sets && !code; k++)
            code = open_set(&x[k], &r->stage[s->set[k]], &w, &c, e);
        if (!code) code = mix_rows(r, i, x, (size_t)s->n_sets, &w, &c, e);
        code = finish(r, s, &w, &c, dir, code, e);
    }
    for (int k = 0; x && k < s->n_sets; k++) {
        free(x[k].train);
        if (x[k].in.map.p) ft_samples_close(&x[k].in);
    }
    free(x);
    ft_instance_close(i);
    return code;
}
