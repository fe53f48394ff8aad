/* pieces.c -- see pieces.h.
 *
 * A weight (experts, R, C) is a table of sources, `parts` of them for each expert.  A row (with
 * `columns`: a column) of an expert's matrix belongs to the part whose from + i * step it is; its
 * numbers are line i of that part's source. */
#include "core/run/pieces.h"
#include <stdio.h>
#include <string.h>
#include "core/io/dtype.h"
#include "ft/half.h"

enum { MOST_PARTS = 4, RUN = 256 };

typedef struct { ft_arg a; int64_t row; } source; /* the expert's lines start at that row */

typedef struct {
    ft_packed pub; /* first */
    int64_t experts, rows, cols; /* of each expert's matrix */
    int parts;
    bool columns;
    int64_t from[MOST_PARTS], step[MOST_PARTS], lines[MOST_PARTS];
    source *of;    /* [experts * parts] */
} pieces;

/* ---- reading --------------------------------------------------------------------------------- */

/* n numbers of line number `line` of expert e, from its number c on. */
static void read_line(const pieces *p, int64_t e, int64_t line, int64_t c, int64_t n, float *out)
{
    for (int k = 0; k < p->parts; k++) {
        int64_t d = line - p->from[k], i = d / p->step[k];
        if (d < 0 || d % p->step[k] || i >= p->lines[k]) continue;
        const source *s = &p->of[e * p->parts + k];
        ft_weights_run(&s->a, s->row + i, c, n, out);
        return;
    }
}

static void store(void *dst, ft_dtype to, int64_t at, int64_t step, const float *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++, at += step) {
        if (to == FT_BF16) ((uint16_t *)dst)[at] = ft_float_to_bf16(v[i]);
        else ((float *)dst)[at] = v[i];
    }
}

/* Rows r … r + nr - 1 of one expert. */
static void expert_tile(const pieces *p, int64_t e, int64_t r, int64_t nr, int64_t c0, int64_t nc,
                        ft_dtype to, void *dst, int64_t at, int64_t ld)
{
    float run[RUN];
    int64_t lines = p->columns ? nc : nr, length = p->columns ? nr : nc;
    for (int64_t i = 0; i < lines; i++) {
        for (int64_t j = 0; j < length; j += RUN) {
            int64_t n = length - j < RUN ? length - j : RUN;
            if (p->columns) {
                read_line(p, e, c0 + i, r + j, n, run);
                store(dst, to, at + j * ld + i, ld, run, n);
            } else {
                read_line(p, e, r + i, c0 + j, n, run);
                store(dst, to, at + i * ld + j, 1, run, n);
            }
        }
    }
}

static void tile(const ft_packed *x, int64_t r0, int64_t nr, int64_t c0, int64_t nc, ft_dtype to,
                 void *dst, int64_t ld)
{
    const pieces *p = (const pieces *)(const void *)x;
    for (int64_t r = r0, n; r < r0 + nr; r += n) {
        int64_t e = r / p->rows, in = r % p->rows;
        n = p->rows - in < r0 + nr - r ? p->rows - in : r0 + nr - r;
        expert_tile(p, e, in, n, c0, nc, to, dst, (r - r0) * ld, ld);
    }
}

/* ---- opening --------------------------------------------------------------------------------- */

static bool piece_at(const ft_weights *w, const char *name, int64_t i, ft_piece *out)
{
    return w->model && FT_HAS(w->model, piece) && w->model->piece &&
           !ft_tensors_find(w->base, name) && w->model->piece(w->model_self, name, w->gguf, i, out);
}

static int misfit(const ft_weights *w, const char *tensor, const char *name, ft_err *e)
{
    return ft_errf(e, FT_EFORMAT, "%s: tensor %s does not fit into the experts' weight %s", w->path,
                   tensor, name);
}

/* Lines of one expert in a tensor, and numbers in a line; false where it cannot be a piece. */
static bool measure(const pieces *p, const ft_piece *x, const ft_tensor *t, int64_t *lines)
{
    int64_t length = p->columns ? p->rows : p->cols, all = x->expert < 0 ? p->experts : 1, n = 1;
    for (int i = 0; i < t->ndim; i++) n *= t->dim[i];
    if (x->expert >= p->experts || length <= 0 || n % (all * length) || t->ndim < 1) return false;
    if (length > 1 && t->dim[t->ndim - 1] != length) return false;
    if (all > 1 && t->dim[0] != all) return false;
    *lines = n / (all * length);
    return true;
}

static int open_piece(ft_weights *w, pieces *p, const ft_piece *x, int k, const char *name,
                      ft_err *e)
{
    const ft_tensor *t = ft_tensors_find(w->base, x->name);
    int64_t lines = 0, length = p->columns ? p->rows : p->cols;
    if (!t) return ft_errf(e, FT_EFORMAT, "%s: tensor %s is missing", w->path, x->name);
    bool first = x->expert <= 0;
    if (!measure(p, x, t, &lines) || x->step <= 0 || x->from < 0 ||
        x->from + (lines - 1) * x->step >= (p->columns ? p->cols : p->rows) ||
        (!first && lines != p->lines[k]))
        return misfit(w, x->name, name, e);
    p->from[k] = x->from;
    p->step[k] = x->step;
    p->lines[k] = lines;
    ft_arg a = { .rows = lines * (x->expert < 0 ? p->experts : 1),
                 .cols = length,
                 .ld = length,
                 .dtype = FT_F32 };
    int code = ft_weights_tensor(w, t, 0, &a, e);
    for (int64_t i = 0; i < p->experts && !code; i++) {
        if (x->expert < 0 || x->expert == i)
            p->of[i * p->parts + k] = (source){ a, x->expert < 0 ? i * lines : 0 };
    }
    return code;
}

/* How many tensors hold each expert, or 0 where the plugin's list is no whole one. */
static int count_parts(const ft_weights *w, const char *name, int64_t experts, bool *columns)
{
    ft_piece x;
    int64_t n = 0, single = 0;
    for (; piece_at(w, name, n, &x); n++) {
        single += x.expert >= 0;
        *columns = x.columns;
    }
    int64_t parts = single ? n / experts : n;
    return (single && (single != n || n % experts)) || parts > MOST_PARTS ? 0 : (int)parts;
}

static int open_all(ft_weights *w, pieces *p, const char *name, ft_err *e)
{
    ft_piece x;
    int64_t covered = 0;
    for (int64_t i = 0; piece_at(w, name, i, &x); i++) {
        int code = open_piece(w, p, &x, (int)(i % p->parts), name, e);
        if (code) return code;
    }
    for (int k = 0; k < p->parts; k++) covered += p->lines[k];
    for (int64_t i = 0; i < p->experts * p->parts; i++) {
        if (!p->of[i].a.packed && !p->of[i].a.data) return misfit(w, name, name, e);
    }
    return covered == (p->columns ? p->cols : p->rows) ? 0 : misfit(w, name, name, e);
}

int ft_pieces_open(ft_weights *w, const char *name, const ft_shape *s, ft_arg *out, ft_err *e)
{
    ft_piece x;
    if (s->ndim < 2 || s->ndim > 3 || !piece_at(w, name, 0, &x)) return 0;
    if (w->piece_name && !strcmp(w->piece_name, name)) {
        out->packed = w->piece;
        return 1;
    }
    pieces *p = ft_arena_alloc(&w->arena, sizeof *p);
    if (!p) return ft_errf(e, FT_ENOMEM, "out of memory while opening weights");
    *p = (pieces){ .pub = { .tile = tile, .rows = out->rows, .cols = out->cols },
                   .experts = s->dim[0],
                   .rows = s->ndim == 3 ? s->dim[1] : 1,
                   .cols = s->dim[s->ndim - 1] };
    p->parts = count_parts(w, name, p->experts, &p->columns);
    if (!p->parts) return misfit(w, x.name, name, e);
    p->of = ft_arena_array(&w->arena, (size_t)(p->experts * p->parts), sizeof *p->of);
    if (!p->of) return ft_errf(e, FT_ENOMEM, "out of memory while opening weights");
    int code = open_all(w, p, name, e);
    if (code) return code;
    out->packed = w->piece = &p->pub;
    w->piece_name = ft_arena_strdup(&w->arena, name);
    return 1;
}

uint64_t ft_pieces_bytes(const ft_weights *w, const char *name)
{
    ft_piece x;
    uint64_t bytes = 0;
    for (int64_t i = 0; piece_at(w, name, i, &x); i++) {
        const ft_tensor *t = ft_tensors_find(w->base, x.name);
        bytes += t ? t->bytes : 0;
    }
    return bytes;
}

const ft_tensor *ft_pieces_nonfinite(const ft_weights *w, const char *name, uint64_t *count)
{
    ft_piece x;
    for (int64_t i = 0; piece_at(w, name, i, &x); i++) {
        const ft_tensor *t = ft_tensors_find(w->base, x.name);
        if (t && ft_tensor_nonfinite(t, count) && *count) return t;
    }
    return NULL;
}
