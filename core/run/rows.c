/* rows.c -- see rows.h. */
#include "core/run/rows.h"
#include <stdlib.h>
#include <string.h>
#include "core/base/random.h"

/* ---- order ----------------------------------------------------------------------------------- */

/* Uniform in [0, n): numbers above the largest multiple of n are drawn again. */
static uint64_t below(uint64_t *state, uint64_t n)
{
    uint64_t limit = UINT64_MAX - UINT64_MAX % n, x;
    do x = ft_random(state);
    while (x >= limit);
    return x % n;
}

void ft_permute(int64_t *v, int64_t n, uint64_t key)
{
    for (int64_t i = 0; i < n; i++) v[i] = i;
    for (int64_t i = n - 1; i > 0; i--) { /* Fisher and Yates */
        int64_t j = (int64_t)below(&key, (uint64_t)i + 1), t = v[i];
        v[i] = v[j];
        v[j] = t;
    }
}

static uint64_t key_of(const ft_rows_args *a, uint64_t what)
{
    uint64_t s = a->seed ^ (what << 56), k = ft_random(&s) ^ (uint64_t)a->epoch;
    return ft_random(&k);
}

/* ---- packing --------------------------------------------------------------------------------- */

static int64_t doc_tokens(const ft_token_set *s, int64_t d, int64_t extra)
{
    return s->start[d + 1] - s->start[d] + extra;
}

typedef struct { int64_t doc, tokens, order; } item;

static int longer_first(const void *x, const void *y)
{
    const item *a = x, *b = y;
    if (a->tokens != b->tokens) return a->tokens > b->tokens ? -1 : 1;
    return a->order < b->order ? -1 : a->order > b->order;
}

/* Assigns each item a row: the fullest that still has room.  Rows with r free tokens form a stack
 * head[r]; a search goes up from the tokens needed. */
static int64_t best_fit(const item *it, int64_t n, int64_t room, int64_t *row_of, int64_t *head,
                        int64_t *next)
{
    int64_t rows = 0;
    for (int64_t i = 0; i <= room; i++) head[i] = -1;
    for (int64_t i = 0; i < n; i++) {
        int64_t r = it[i].tokens, row = -1;
        while (r <= room && head[r] < 0) r++;
        if (r <= room) {
            row = head[r];
            head[r] = next[row];
        } else {
            row = rows++;
            r = room;
        }
        row_of[i] = row;
        int64_t left = r - it[i].tokens;
        next[row] = head[left];
        head[left] = row;
    }
    return rows;
}

/* Documents in their order, a new row when the next does not fit. */
static int64_t in_order(const item *it, int64_t n, int64_t room, int64_t *row_of)
{
    int64_t rows = 0, left = 0;
    for (int64_t i = 0; i < n; i++) {
        if (it[i].tokens > left) rows++, left = room;
        left -= it[i].tokens;
        row_of[i] = rows - 1;
    }
    return rows;
}

/* Puts the items into rows in the order that place[] gives to rows. */
static void lay_out(ft_row_plan *r, const item *it, const int64_t *row_of, const int64_t *place)
{
    memset(r->row, 0, (size_t)(r->n_rows + 1) * sizeof *r->row);
    for (int64_t i = 0; i < r->n_docs; i++) r->row[place[row_of[i]] + 1]++;
    for (int64_t i = 0; i < r->n_rows; i++) r->row[i + 1] += r->row[i];
    for (int64_t i = 0; i < r->n_docs; i++) r->doc[r->row[place[row_of[i]]]++] = it[i].doc;
    for (int64_t i = r->n_rows; i > 0; i--) r->row[i] = r->row[i - 1];
    r->row[0] = 0;
}

typedef struct { item *it; int64_t *row_of, *head, *next, *order; } work;

static bool get_work(work *w, int64_t n, int64_t room)
{
    w->it = malloc((size_t)(n + 1) * sizeof *w->it);
    w->row_of = malloc((size_t)(n + 1) * sizeof *w->row_of);
    w->head = malloc((size_t)(room + 1) * sizeof *w->head);
    w->next = malloc((size_t)(n + 1) * sizeof *w->next);
    w->order = malloc((size_t)(n + 1) * sizeof *w->order);
    return w->it && w->row_of && w->head && w->next && w->order;
}

static void free_work(work *w)
{
    free(w->it);
    free(w->row_of);
    free(w->head);
    free(w->next);
    free(w->order);
}

static int pack(ft_row_plan *r, const ft_token_set *s, const ft_rows_args *a, work *w)
{
    int64_t n = 0, room = s->max_length + a->virtual_tokens;
    if (a->shuffle) ft_permute(w->order, s->n_docs, key_of(a, 1));
    for (int64_t i = 0; i < s->n_docs; i++) {
        int64_t d = a->shuffle ? w->order[i] : i;
        if (s->split[d] == a->split)
            w->it[n] = (item){ d, doc_tokens(s, d, a->virtual_tokens), n }, n++;
    }
    r->n_docs = n;
    if (s->packing && a->shuffle) qsort(w->it, (size_t)n, sizeof *w->it, longer_first);
    if (!s->packing) {
        for (int64_t i = 0; i < n; i++) w->row_of[i] = i;
        r->n_rows = n;
    } else if (a->shuffle) {
        r->n_rows = best_fit(w->it, n, room, w->row_of, w->head, w->next);
    } else {
        r->n_rows = in_order(w->it, n, room, w->row_of);
    }
    r->row = malloc((size_t)(r->n_rows + 1) * sizeof *r->row);
    r->doc = malloc((size_t)(n + 1) * sizeof *r->doc);
    if (!r->row || !r->doc) return FT_ENOMEM;
    for (int64_t i = 0; i < r->n_rows; i++) w->order[i] = i;
    if (s->packing && a->shuffle) ft_permute(w->order, r->n_rows, key_of(a, 2));
    lay_out(r, w->it, w->row_of, w->order);
    return 0;
}

/* Rows that the file has, whole. */
static int fixed_rows(ft_row_plan *r, const ft_token_set *s, const ft_rows_args *a)
{
    int64_t *order = malloc((size_t)(s->n_rows + 1) * sizeof *order), at = 0;
    r->row = malloc((size_t)(s->n_rows + 1) * sizeof *r->row);
    r->doc = malloc((size_t)(s->n_docs + 1) * sizeof *r->doc);
    if (order && r->row && r->doc) {
        for (int64_t i = 0; i < s->n_rows; i++) order[i] = i;
        if (a->shuffle) ft_permute(order, s->n_rows, key_of(a, 1));
        for (int64_t i = 0; i < s->n_rows; i++) {
            int64_t from = s->row[order[i]], to = s->row[order[i] + 1];
            if (from == to || s->split[from] != a->split) continue;
            r->row[r->n_rows++] = at;
            for (int64_t d = from; d < to; d++) r->doc[at++] = d;
        }
        r->row[r->n_rows] = at;
        r->n_docs = at;
    }
    bool good = order && r->row && r->doc;
    free(order);
    return good ? 0 : FT_ENOMEM;
}

int ft_rows_make(ft_row_plan *r, const ft_token_set *s, const ft_rows_args *a)
{
    work w = { .row_of = NULL };
    int code = FT_ENOMEM;
    *r = (ft_row_plan){ .n_rows = 0 };
    if (s->n_rows) code = fixed_rows(r, s, a);
    else if (get_work(&w, s->n_docs, s->max_length + a->virtual_tokens)) code = pack(r, s, a, &w);
    free_work(&w);
    if (code) ft_rows_free(r);
    return code;
}

void ft_rows_free(ft_row_plan *r)
{
    free(r->row);
    free(r->doc);
    *r = (ft_row_plan){ .n_rows = 0 };
}

int64_t ft_rows_tokens(const ft_row_plan *r, const ft_token_set *s, int64_t i,
                       int64_t virtual_tokens)
{
    int64_t n = 0;
    for (int64_t k = r->row[i]; k < r->row[i + 1]; k++)
        n += doc_tokens(s, r->doc[k], virtual_tokens);
    return n;
}

int64_t ft_rows_trained(const ft_row_plan *r, const ft_token_set *s, int64_t i)
{
    int64_t n = 0;
    for (int64_t k = r->row[i]; k < r->row[i + 1]; k++) {
        for (int64_t t = s->start[r->doc[k]] + 1; t < s->start[r->doc[k] + 1]; t++)
            n += s->labels[t] >= 0;
    }
    return n;
}

/* ---- micro-batches --------------------------------------------------------------------------- */

uint64_t ft_micro_bytes(int64_t max_tokens, int64_t max_trained)
{
    return (uint64_t)(4 * max_tokens + 2 * max_trained + 4) * sizeof(int32_t);
}

void ft_micro_init(ft_micro *m, void *memory, int64_t max_tokens, int64_t max_trained)
{
    int32_t *p = memory;
    *m = (ft_micro){ .max_tokens = max_tokens, .max_trained = max_trained };
    m->ids = p;
    m->position = m->ids + max_tokens;
    m->row_start = m->position + max_tokens;
    m->doc_start = m->row_start + max_tokens + 1;
    m->trained = m->doc_start + max_tokens + 1;
    m->target = m->trained + max_trained;
    m->b = (ft_batch){ .ids = m->ids, .position = m->position, .row_start = m->row_start,
                       .doc_start = m->doc_start, .trained = m->trained, .target = m->target };
}

/* Appends one document: virtual tokens, then its own; a token is trained when the next has a
 * label. */
static void put_document(ft_micro *m, const ft_token_set *s, int64_t d, int64_t virtual_tokens)
{
    ft_batch *b = &m->b;
    int64_t from = s->start[d], n = s->start[d + 1] - from;
    m->doc_start[b->n_docs++] = (int32_t)b->n_tokens;
    for (int64_t i = -virtual_tokens; i < n; i++) {
        int64_t t = b->n_tokens++;
        m->ids[t] = i < 0 ? (int32_t)(-1 - (i + virtual_tokens)) : s->ids[from + i];
        m->position[t] = (int32_t)(i + virtual_tokens);
        if (i + 1 >= n || i + 1 < (virtual_tokens ? 0 : 1) || s->labels[from + i + 1] < 0) continue;
        m->trained[b->n_trained] = (int32_t)t;
        m->target[b->n_trained++] = s->labels[from + i + 1];
    }
}

int64_t ft_micro_fill(ft_micro *m, const ft_row_plan *r, const ft_token_set *s, int64_t row,
                      int64_t end, int64_t virtual_tokens)
{
    ft_batch *b = &m->b;
    b->n_tokens = b->n_rows = b->n_docs = b->n_trained = 0;
    for (; row < end; row++) {
        int64_t n = ft_rows_tokens(r, s, row, virtual_tokens);
        if (b->n_rows && (b->n_tokens + n > m->max_tokens ||
                          b->n_trained + ft_rows_trained(r, s, row) > m->max_trained))
            break;
        m->row_start[b->n_rows++] = (int32_t)b->n_tokens;
        for (int64_t k = r->row[row]; k < r->row[row + 1]; k++)
            put_document(m, s, r->doc[k], virtual_tokens);
    }
    m->row_start[b->n_rows] = (int32_t)b->n_tokens;
    m->doc_start[b->n_docs] = (int32_t)b->n_tokens;
    return row;
}
