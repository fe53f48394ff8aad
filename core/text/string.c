/* string.c -- strings that know who wrote them: pieces, ropes, slices, search and construction.
 *
 * Concatenation makes a rope, so that a template which appends to one variable in a loop costs what
 * it appends.  Slices share the bytes.  Every byte belongs to exactly one piece. */
#include <string.h>
#include "core/base/utf8.h"
#include "core/text/jinja.h"

enum { UNCOUNTED = -1 };

const ftj_piece *ftj_here(ftj_run *run)
{
    ftj_piece *p = ftj_alloc(run, sizeof *p);
    *p = (ftj_piece){ .turn = run->turn, .origin = -1, .from = FT_FROM_TEMPLATE };
    return p;
}

/* A string without a history yet. */
static ftj_str *make(ftj_run *run, const char *p, size_t n)
{
    if (n > FTJ_MAX_OUTPUT)
        ftj_fail(run, "makes a string of more than %d MiB", FTJ_MAX_OUTPUT >> 20);
    ftj_str *s = ftj_alloc(run, sizeof *s);
    s->p = p;
    s->n = (uint32_t)n;
    s->chars = (uint32_t)UNCOUNTED;
    return s;
}

/* A string of the n bytes at p, which are kept, with the history of `like`. */
const ftj_str *ftj_str_new(ftj_run *run, const char *p, size_t n, const ftj_piece *like)
{
    ftj_str *s = make(run, n ? p : "", n);
    ftj_piece *piece = ftj_alloc(run, sizeof *piece);
    *piece = *like;
    piece->n = (uint32_t)n;
    s->piece = piece;
    s->n_piece = 1;
    return s;
}

const ftj_str *ftj_str_text(ftj_run *run, const char *p, size_t n)
{
    return ftj_str_new(run, p, n, ftj_here(run));
}

const ftj_str *ftj_concat(ftj_run *run, const ftj_str *a, const ftj_str *b)
{
    if (a->markup != b->markup) {
        a = a->markup ? a : ftj_escape(run, a);
        b = b->markup ? b : ftj_escape(run, b);
    }
    ftj_str *s = make(run, NULL, (size_t)a->n + b->n);
    s->left = a;
    s->right = b;
    s->markup = a->markup;
    return s;
}

const ftj_str *ftj_flat(ftj_run *run, const ftj_str *s)
{
    if (s->p) return s;
    ftj_out out = { 0 };
    ftj_put_str(run, &out, s);
    const ftj_str *flat = ftj_out_done(run, &out);
    /* The rope becomes the string that it stands for; to its users nothing changes. */
    ftj_str *self = (ftj_str *)(uintptr_t)s;
    self->p = flat->p;
    self->piece = flat->piece;
    self->n_piece = flat->n_piece;
    self->left = self->right = NULL;
    return s;
}

const ftj_str *ftj_markup(ftj_run *run, const ftj_str *s, bool markup)
{
    if (s->markup == markup) return s;
    s = ftj_flat(run, s);
    ftj_str *copy = make(run, s->p, s->n);
    *copy = *s;
    copy->markup = markup;
    return copy;
}

const ftj_str *ftj_sub(ftj_run *run, const ftj_str *s, size_t from, size_t to)
{
    s = ftj_flat(run, s);
    if (from == 0 && to == s->n) return s;
    ftj_str *sub = make(run, s->p + from, to - from);
    sub->markup = s->markup;
    size_t i = 0, at = 0;
    while (i + 1 < s->n_piece && at + s->piece[i].n <= from) at += s->piece[i++].n;
    size_t first = i, start = at, count = s->n_piece ? 1 : 0;
    for (size_t end = s->n_piece ? at + s->piece[i].n : to; end < to; end += s->piece[++i].n)
        count++;
    ftj_piece *piece = ftj_array(run, count, sizeof *piece);
    for (i = 0, at = start; i < count; at += s->piece[first + i++].n) {
        size_t a = at < from ? from : at, b = at + s->piece[first + i].n;
        piece[i] = s->piece[first + i];
        piece[i].n = (uint32_t)((b > to ? to : b) - a);
    }
    sub->piece = piece;
    sub->n_piece = (uint32_t)count;
    return sub;
}

/* ---- characters ----------------------------------------------------------------------------- */

uint32_t ftj_next_char(const ftj_str *s, size_t *at)
{
    size_t k = ft_utf8_length(s->p + *at, s->n - *at);
    if (k == 0) k = 1; /* cannot be: strings hold valid UTF-8 */
    uint32_t c = ft_utf8_decode(s->p + *at, k);
    *at += k;
    return c;
}

size_t ftj_chars(ftj_run *run, const ftj_str *s)
{
    if (s->chars != (uint32_t)UNCOUNTED) return s->chars;
    s = ftj_flat(run, s);
    uint32_t n = 0;
    for (size_t i = 0; i < s->n; i++) n += (s->p[i] & 0xC0) != 0x80;
    ((ftj_str *)(uintptr_t)s)->chars = n;
    ftj_work(run, s->n / 256);
    return n;
}

size_t ftj_char_offset(ftj_run *run, const ftj_str *s, size_t index)
{
    s = ftj_flat(run, s);
    if (ftj_chars(run, s) == s->n) return index < s->n ? index : s->n;
    size_t at = 0;
    for (; index && at < s->n; index--) ftj_next_char(s, &at);
    ftj_work(run, at / 256);
    return at;
}

/* ---- comparison and search ------------------------------------------------------------------ */

bool ftj_str_equal(ftj_run *run, const ftj_str *a, const ftj_str *b)
{
    if (a->n != b->n) return false;
    ftj_work(run, a->n / 256);
    return memcmp(ftj_flat(run, a)->p, ftj_flat(run, b)->p, a->n) == 0;
}

int ftj_str_order(ftj_run *run, const ftj_str *a, const ftj_str *b)
{
    size_t n = a->n < b->n ? a->n : b->n;
    ftj_work(run, n / 256);
    int c = memcmp(ftj_flat(run, a)->p, ftj_flat(run, b)->p, n);
    if (c) return c < 0 ? -1 : 1;
    return a->n < b->n ? -1 : a->n > b->n;
}

bool ftj_str_is(ftj_run *run, ftj_val v, const char *text)
{
    size_t n = strlen(text);
    return v.type == FTJ_STR && v.s->n == n && !memcmp(ftj_flat(run, v.s)->p, text, n);
}

size_t ftj_str_find(ftj_run *run, const ftj_str *s, const ftj_str *what, size_t from, size_t to)
{
    s = ftj_flat(run, s);
    what = ftj_flat(run, what);
    if (from > to || what->n > to - from) return SIZE_MAX;
    if (what->n == 0) return from;
    ftj_work(run, (to - from) / 256);
    const char *p = memmem(s->p + from, to - from, what->p, what->n);
    return p ? (size_t)(p - s->p) : SIZE_MAX;
}

size_t ftj_str_rfind(ftj_run *run, const ftj_str *s, const ftj_str *what, size_t from, size_t to)
{
    s = ftj_flat(run, s);
    what = ftj_flat(run, what);
    if (from > to || what->n > to - from) return SIZE_MAX;
    for (size_t i = to - what->n + 1; i-- > from;) {
        if (!memcmp(s->p + i, what->p, what->n)) {
            ftj_work(run, (to - i) / 256);
            return i;
        }
    }
    ftj_work(run, (to - from) / 256);
    return SIZE_MAX;
}

/* ---- construction --------------------------------------------------------------------------- */

/* Room for n more bytes. */
static void make_room(ftj_run *run, ftj_out *out, size_t n)
{
    if (out->n + n > FTJ_MAX_OUTPUT)
        ftj_fail(run, "writes more than %d MiB", FTJ_MAX_OUTPUT >> 20);
    if (out->n + n <= out->cap) return;
    size_t cap = out->cap ? out->cap : 64;
    while (cap < out->n + n) cap *= 2;
    char *p = ftj_alloc(run, cap);
    if (out->n) memcpy(p, out->p, out->n);
    out->p = p;
    out->cap = cap;
}

/* Whether two pieces could be one. */
static bool same_history(const ftj_piece *a, const ftj_piece *b)
{
    return a->turn == b->turn && a->origin == b->origin && a->mark == b->mark &&
           a->from == b->from && a->content == b->content;
}

void ftj_put(ftj_run *run, ftj_out *out, const char *p, size_t n, const ftj_piece *like)
{
    if (n == 0) return;
    make_room(run, out, n);
    memcpy(out->p + out->n, p, n);
    out->n += n;
    ftj_work(run, n / 256);
    bool joins = !out->split && out->n_piece;
    out->split = false;
    if (joins && same_history(&out->piece[out->n_piece - 1], like)) {
        out->piece[out->n_piece - 1].n += (uint32_t)n;
        return;
    }
    if (out->n_piece == out->cap_piece) {
        size_t cap = out->cap_piece ? out->cap_piece * 2 : 4;
        ftj_piece *more = ftj_array(run, cap, sizeof *more);
        if (out->n_piece) memcpy(more, out->piece, out->n_piece * sizeof *more);
        out->piece = more;
        out->cap_piece = cap;
    }
    out->piece[out->n_piece] = *like;
    out->piece[out->n_piece++].n = (uint32_t)n;
}

/* Piece by piece. */
static void put_flat(ftj_run *run, ftj_out *out, const ftj_str *s)
{
    size_t at = 0;
    for (size_t i = 0; i < s->n_piece; at += s->piece[i++].n)
        ftj_put(run, out, s->p + at, s->piece[i].n, &s->piece[i]);
}

/* Walks a rope from left to right with a stack of its own: ropes are as deep as they are long. */
void ftj_put_str(ftj_run *run, ftj_out *out, const ftj_str *s)
{
    const ftj_str **stack = NULL;
    uint32_t cap = 0;
    size_t n = 0;
    for (;;) {
        while (!s->p) {
            stack = ftj_grow(run, stack, n, &cap, sizeof *stack);
            stack[n++] = s->right;
            s = s->left;
            ftj_work(run, 1);
        }
        put_flat(run, out, s);
        if (n == 0) return;
        s = stack[--n];
    }
}

void ftj_put_char(ftj_run *run, ftj_out *out, uint32_t c, const ftj_piece *like)
{
    char b[4];
    ftj_put(run, out, b, ft_utf8_encode(c, b), like);
}

const ftj_str *ftj_out_done(ftj_run *run, ftj_out *out)
{
    ftj_str *s = make(run, out->n ? out->p : "", out->n);
    s->piece = out->piece;
    s->n_piece = (uint32_t)out->n_piece;
    return s;
}
