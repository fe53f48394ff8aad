/* samples.c -- see samples.h. */
#include "core/run/samples.h"
#include <math.h>
#include <stdlib.h>

static const char magic[8] = "FTSAMP1\n";

typedef struct { int64_t line; uint32_t n_seq, label; uint32_t n_span[2]; uint64_t len[2]; } header;
typedef struct { uint64_t at, group; uint32_t split, pad; } record;
typedef struct { uint64_t index, n; char magic[8]; } footer;

enum { FLUSH = 1 << 20 };

/* ---- writing --------------------------------------------------------------------------------- */

static int flush(ft_samples_writer *w, ft_err *e)
{
    if (w->pending.oom) return ft_errf(e, FT_ENOMEM, "out of memory while writing samples");
    int code = ft_aside_write(&w->out, w->pending.p, w->pending.n, e);
    w->at += w->pending.n;
    w->pending.n = 0;
    return code;
}

int ft_samples_create(ft_samples_writer *w, const char *path, ft_err *e)
{
    *w = (ft_samples_writer){ .at = 0 };
    const char *slash = strrchr(path, '/');
    int code = ft_aside_open(&w->out, path, e);
    snprintf(w->dir, sizeof w->dir, "%.*s", slash > path ? (int)(slash - path) : 1,
             slash ? path : ".");
    if (!code) ft_buf_add(&w->pending, magic, sizeof magic);
    return code;
}

static void pad(ft_buf *b)
{
    while (b->n % 8) ft_buf_putc(b, 0);
}

int ft_samples_add(ft_samples_writer *w, const ft_sample *s, ft_err *e)
{
    record r = { .at = w->at + w->pending.n, .group = s->group, .split = s->split };
    header h = { .line = s->line, .n_seq = s->n_seq, .label = s->label };
    for (int i = 0; i < s->n_seq && i < 2; i++)
        h.n_span[i] = (uint32_t)s->seq[i].n_span, h.len[i] = s->seq[i].len;
    ft_buf_add(&w->pending, &h, sizeof h);
    for (int i = 0; i < s->n_seq && i < 2; i++) {
        ft_buf_add(&w->pending, s->seq[i].span, s->seq[i].n_span * sizeof(ft_span));
        ft_buf_add(&w->pending, s->seq[i].text, s->seq[i].len);
        pad(&w->pending);
    }
    w->n_auto += s->split == FT_SPLIT_AUTO;
    int code = ft_spool_add(&w->index, w->dir, &r, sizeof r, e);
    if (code) return code;
    return w->pending.n > FLUSH || w->pending.oom ? flush(w, e) : 0;
}

/* ---- the two sides ------------------------------------------------------------------------- */

/* The index is read once for each of the passes below, from its spool. */
typedef struct {
    ft_samples_writer *w;
    uint64_t cutoff;     /* groups up to this one are for evaluation, where `some` are */
    bool some;
    uint64_t *seen;      /* a pass of select_group */
    int shift;
    ft_buf asked;        /* uint64_t: groups that stand in evaluation, sorted */
    uint64_t n;          /* samples written */
} sides;

enum { DIGIT = 16, DIGITS = 1 << DIGIT };

/* Counts the groups that agree with the cutoff above the digit at x->shift, by that digit. */
static int count_digit(void *ctx, char *p, size_t n, ft_err *e)
{
    sides *x = ctx;
    const record *r = (const record *)(void *)p;
    (void)e;
    for (size_t i = 0; i < n / sizeof *r; i++) {
        if (r[i].split != FT_SPLIT_AUTO) continue;
        if (x->shift + DIGIT < 64 && (r[i].group ^ x->cutoff) >> (x->shift + DIGIT)) continue;
        x->seen[r[i].group >> x->shift & (DIGITS - 1)]++;
    }
    return 0;
}

/* x->cutoff = the group of the want-th row by group, want from 1 on: a digit a pass. */
static int select_group(sides *x, uint64_t want, ft_err *e)
{
    int code = 0;
    x->seen = malloc(DIGITS * sizeof *x->seen);
    if (!x->seen) return ft_errf(e, FT_ENOMEM, "out of memory for the rows of evaluation");
    x->cutoff = 0;
    for (x->shift = 64 - DIGIT; x->shift >= 0 && !code; x->shift -= DIGIT) {
        uint64_t digit = 0;
        memset(x->seen, 0, DIGITS * sizeof *x->seen);
        code = ft_spool_each(&x->w->index, sizeof(record), count_digit, x, e);
        while (!code && want > x->seen[digit]) want -= x->seen[digit++];
        x->cutoff |= digit << x->shift;
    }
    free(x->seen);
    return code;
}

/* Splits what is left to the host: whole groups, the smallest hashes first, until enough rows are
 * kept apart. */
static int decide_split(sides *x, double val_size, ft_err *e)
{
    uint64_t m = x->w->n_auto;
    double want = val_size < 1 ? ceil(val_size * (double)m) : val_size;
    if (m == 0 || want <= 0) return 0;
    if (want >= (double)m)
        return ft_errf(e, FT_EINVAL, "val_size %g would keep all %llu rows for evaluation",
                       val_size, (unsigned long long)m);
    x->some = true;
    return select_group(x, (uint64_t)ceil(want), e);
}

static uint32_t side_of(const sides *x, const record *r)
{
    if (r->split != FT_SPLIT_AUTO) return r->split;
    return x->some && r->group <= x->cutoff ? FT_SPLIT_VAL : FT_SPLIT_TRAIN;
}

static int collect_asked(void *ctx, char *p, size_t n, ft_err *e)
{
    sides *x = ctx;
    const record *r = (const record *)(void *)p;
    for (size_t i = 0; i < n / sizeof *r; i++) {
        if (side_of(x, &r[i]) == FT_SPLIT_VAL) ft_buf_add(&x->asked, &r[i].group, 8);
    }
    return x->asked.oom ? ft_errf(e, FT_ENOMEM, "out of memory for the rows of evaluation") : 0;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* A piece of the index with the sides chosen, without training rows whose question stands in
 * evaluation. */
static int write_piece(void *ctx, char *p, size_t n, ft_err *e)
{
    sides *x = ctx;
    record *r = (record *)(void *)p;
    size_t kept = 0, asked = x->asked.n / 8;
    for (size_t i = 0; i < n / sizeof *r; i++) {
        r[i].split = side_of(x, &r[i]);
        if (r[i].split == FT_SPLIT_VAL || !asked ||
            !bsearch(&r[i].group, x->asked.p, asked, 8, by_number))
            r[kept++] = r[i];
    }
    x->n += kept;
    return ft_aside_write(&x->w->out, r, kept * sizeof *r, e);
}

/* The index with the sides chosen; *n: samples in it.  Where the host chose all sides, no question
 * can stand on both. */
static int write_index(ft_samples_writer *w, double val_size, int64_t *leaked, uint64_t *n,
                       ft_err *e)
{
    sides x = { .w = w };
    uint64_t all = w->index.n / sizeof(record);
    int code = decide_split(&x, val_size, e);
    if (!code && w->n_auto < all) {
        code = ft_spool_each(&w->index, sizeof(record), collect_asked, &x, e);
        if (!code && x.asked.n) qsort(x.asked.p, x.asked.n / 8, 8, by_number);
    }
    if (!code) code = ft_spool_each(&w->index, sizeof(record), write_piece, &x, e);
    *n = x.n;
    *leaked = (int64_t)(all - x.n);
    ft_buf_free(&x.asked);
    return code;
}

int ft_samples_finish(ft_samples_writer *w, double val_size, int64_t *leaked, ft_err *e)
{
    *leaked = 0;
    int code = flush(w, e);
    footer f = { .index = w->at };
    memcpy(f.magic, magic, sizeof magic);
    if (!code) code = write_index(w, val_size, leaked, &f.n, e);
    if (!code) code = ft_aside_write(&w->out, &f, sizeof f, e);
    if (!code) code = ft_aside_commit(&w->out, e);
    ft_samples_drop(w);
    return code;
}

void ft_samples_drop(ft_samples_writer *w)
{
    ft_aside_drop(&w->out);
    ft_buf_free(&w->pending);
    ft_spool_free(&w->index);
}

/* ---- reading --------------------------------------------------------------------------------- */

static int damaged(ft_err *e)
{
    return ft_errf(e, FT_EFORMAT, "the samples file is damaged; run its stage again with --from");
}

int ft_samples_open(ft_samples *s, const char *path, ft_err *e)
{
    footer f;
    int code = ft_file_map(&s->map, path, e);
    if (code) return code;
    bool good = s->map.n >= sizeof magic + sizeof f && !memcmp(s->map.p, magic, sizeof magic);
    if (good) {
        memcpy(&f, s->map.p + s->map.n - sizeof f, sizeof f);
        good = !memcmp(f.magic, magic, sizeof magic) && f.n < UINT64_MAX / sizeof(record) &&
               f.index <= s->map.n && f.index + f.n * sizeof(record) + sizeof f == s->map.n;
    }
    if (!good) {
        ft_file_unmap(&s->map);
        return damaged(e);
    }
    s->n = f.n;
    s->index = f.index;
    return 0;
}

void ft_samples_close(ft_samples *s) { ft_file_unmap(&s->map); }

/* The map is of a file: what is dropped is read again when it is wanted. */
static void give_back(ft_samples *s)
{
    enum { MOST = 8 << 20 };
    if (s->read > MOST) {
        ft_file_forget(&s->map, 0, s->map.n);
        s->read = 0;
    }
    s->read += 4096; /* a page of the index where samples are read out of order */
}

int ft_samples_get(ft_samples *s, uint64_t i, ft_sample *out, ft_err *e)
{
    record r;
    header h;
    give_back(s);
    memcpy(&r, s->map.p + s->index + i * sizeof r, sizeof r);
    if (r.at > s->index || s->index - r.at < sizeof h) return damaged(e);
    memcpy(&h, s->map.p + r.at, sizeof h);
    *out = (ft_sample){ .file = "",
                        .line = h.line,
                        .group = r.group,
                        .split = (uint8_t)r.split,
                        .n_seq = (uint8_t)h.n_seq,
                        .label = (uint8_t)h.label };
    uint64_t at = r.at + sizeof h;
    for (uint32_t k = 0; k < h.n_seq && k < 2; k++) {
        uint64_t spans = (uint64_t)h.n_span[k] * sizeof(ft_span);
        if (spans > s->index - at || h.len[k] > s->index - at - spans) return damaged(e);
        out->seq[k] = (ft_text){ s->map.p + at + spans, h.len[k],
                                 (const ft_span *)(const void *)(s->map.p + at), h.n_span[k] };
        at = (at + spans + h.len[k] + 7) / 8 * 8;
    }
    s->read += at - r.at;
    return 0;
}
