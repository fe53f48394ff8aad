/* tokens.c -- see tokens.h. */
#include "core/run/tokens.h"
#include <stdlib.h>
#include <string.h>
#include "core/io/safetensors_write.h"

enum { NO_LABEL = -100 };

/* ---- building -------------------------------------------------------------------------------- */

int ft_tokens_add(ft_token_builder *b, const int32_t *ids, const int32_t *labels, int64_t n,
                  int split)
{
    int64_t at = (int64_t)(b->ids.n / sizeof *ids);
    uint8_t s = (uint8_t)split;
    ft_buf_add(&b->start, &at, sizeof at);
    ft_buf_add(&b->ids, ids, (size_t)n * sizeof *ids);
    ft_buf_add(&b->labels, labels, (size_t)n * sizeof *labels);
    ft_buf_add(&b->split, &s, 1);
    if (n > b->longest) b->longest = n;
    return b->start.oom || b->ids.oom || b->labels.oom || b->split.oom ? FT_ENOMEM : 0;
}

const char *ft_tokens_kind(const ft_token_set *s)
{
    for (int64_t d = 0; s->answer && d < s->n_docs; d++) {
        if (s->answer[d] != FT_ANSWER_PLAIN)
            return s->answer[d] <= FT_ANSWER_REJECTED ? "preference pairs" : "KTO rows";
    }
    return NULL;
}

int ft_tokens_end_row(ft_token_builder *b)
{
    int64_t docs = (int64_t)b->split.n, first = 0;
    if (!b->row.n) ft_buf_add(&b->row, &first, sizeof first);
    ft_buf_add(&b->row, &docs, sizeof docs);
    return b->row.oom ? FT_ENOMEM : 0;
}

int ft_tokens_seal(ft_token_builder *b, ft_token_set *s, ft_err *e)
{
    int64_t n = (int64_t)(b->ids.n / sizeof(int32_t));
    ft_buf_add(&b->start, &n, sizeof n);
    if (b->start.oom || b->ids.oom || b->labels.oom || b->split.oom || b->row.oom) {
        ft_tokens_builder_free(b);
        return ft_errf(e, FT_ENOMEM, "out of memory for %lld tokens", (long long)n);
    }
    *s = (ft_token_set){ .n_docs = (int64_t)b->split.n,
                         .n_tokens = n,
                         .start = (const int64_t *)(const void *)b->start.p,
                         .ids = (const int32_t *)(const void *)b->ids.p,
                         .labels = (const int32_t *)(const void *)b->labels.p,
                         .split = (const uint8_t *)b->split.p,
                         .n_rows = b->row.n ? (int64_t)(b->row.n / sizeof(int64_t)) - 1 : 0,
                         .row = (const int64_t *)(const void *)b->row.p,
                         .memory = { b->start, b->ids, b->labels, b->split, b->row } };
    *b = (ft_token_builder){ .longest = 0 };
    return 0;
}

void ft_tokens_builder_free(ft_token_builder *b)
{
    ft_buf_free(&b->start);
    ft_buf_free(&b->ids);
    ft_buf_free(&b->labels);
    ft_buf_free(&b->split);
    ft_buf_free(&b->row);
}

void ft_tokens_free(ft_token_set *s)
{
    ft_tensors_close(s->file);
    for (size_t i = 0; i < sizeof s->memory / sizeof *s->memory; i++) ft_buf_free(&s->memory[i]);
    *s = (ft_token_set){ .n_docs = 0 };
}

/* ---- ready rows ------------------------------------------------------------------------------ */

static int bad_row(ft_err *e, int64_t row, int64_t at, const char *what, int64_t value)
{
    return ft_errf(e, FT_EFORMAT, "row %lld, token %lld: %s %lld", (long long)row, (long long)at,
                   what, (long long)value);
}

/* One document of a row: tokens from … to-1.  Its first label has nothing that predicts it. */
static int add_document(ft_token_builder *b, const ft_token_row *r, int64_t row, int64_t from,
                        int64_t to, ft_buf *tmp, ft_err *e)
{
    tmp->n = 0;
    int32_t *v = ft_buf_grow(tmp, (size_t)(to - from) * 2 * sizeof *v);
    if (!v) return ft_errf(e, FT_ENOMEM, "out of memory for the rows");
    int32_t *labels = v + (to - from);
    for (int64_t i = from; i < to; i++) {
        int64_t label = r->labels ? r->labels[i] : r->ids[i];
        if (r->ids[i] < 0 || r->ids[i] > INT32_MAX)
            return bad_row(e, row, i, "input_ids has", r->ids[i]);
        if (label != NO_LABEL && (label < 0 || label > INT32_MAX))
            return bad_row(e, row, i, "labels has", label);
        v[i - from] = (int32_t)r->ids[i];
        labels[i - from] = i == from ? NO_LABEL : (int32_t)label;
    }
    return ft_tokens_add(b, v, labels, to - from, FT_SPLIT_TRAIN)
               ? ft_errf(e, FT_ENOMEM, "out of memory for the rows")
               : 0;
}

static int add_row(ft_token_builder *b, const ft_token_row *r, int64_t row, ft_buf *tmp, ft_err *e)
{
    int64_t from = 0;
    for (int64_t i = 1; i <= r->n; i++) {
        if (i < r->n && (!r->seq_ids || r->seq_ids[i] == r->seq_ids[i - 1])) continue;
        int code = add_document(b, r, row, from, i, tmp, e);
        if (code) return code;
        from = i;
    }
    return ft_tokens_end_row(b) ? ft_errf(e, FT_ENOMEM, "out of memory for the rows") : 0;
}

int ft_tokens_from_rows(ft_token_set *s, const ft_token_source *source, void *self, ft_err *e)
{
    int64_t batches, per_batch, length;
    ft_token_builder b = { .longest = 0 };
    ft_token_row r;
    ft_buf tmp = { 0 };
    int code = source->shape(self, &batches, &per_batch, &length);
    int64_t rows = batches * (per_batch ? per_batch : 1);
    for (int64_t i = 0; i < rows && !code; i++) {
        code = source->row(self, i, &r);
        if (!code) code = add_row(&b, &r, i, &tmp, e);
    }
    ft_buf_free(&tmp);
    if (!code) code = ft_tokens_seal(&b, s, e);
    if (code) {
        ft_tokens_builder_free(&b);
        return code;
    }
    s->rows_per_batch = per_batch;
    s->max_length = length;
    return 0;
}

/* ---- files ----------------------------------------------------------------------------------- */

int ft_tokens_save(const ft_token_set *s, const char *path, ft_err *e)
{
    char number[3][32];
    const struct { const char *name; ft_dtype t; const void *p; int64_t n; size_t size; } part[] = {
        { "start", FT_I64, s->start, s->n_docs + 1, 8 }, { "ids", FT_I32, s->ids, s->n_tokens, 4 },
        { "labels", FT_I32, s->labels, s->n_tokens, 4 }, { "split", FT_U8, s->split, s->n_docs, 1 },
        { "row", FT_I64, s->row, s->n_rows ? s->n_rows + 1 : 0, 8 },
    };
    ft_st_writer *w = ft_st_new(e);
    if (!w) return e->code;
    snprintf(number[0], sizeof number[0], "%lld", (long long)s->max_length);
    snprintf(number[1], sizeof number[1], "%lld", (long long)s->rows_per_batch);
    snprintf(number[2], sizeof number[2], "%d", s->packing);
    int code = ft_st_note(w, "max_length", number[0], e);
    if (!code) code = ft_st_note(w, "rows_per_batch", number[1], e);
    if (!code) code = ft_st_note(w, "packing", number[2], e);
    for (size_t i = 0; i < 5 && !code; i++) {
        int64_t k = ft_st_declare(w, part[i].name, part[i].t, &part[i].n, 1, e);
        code = k < 0 ? (int)k : 0;
    }
    if (!code) code = ft_st_begin(w, path, 0, e);
    for (size_t i = 0; i < 5 && !code; i++)
        code = ft_st_write(w, (int64_t)i, part[i].p, (size_t)part[i].n * part[i].size, e);
    if (!code) code = ft_st_commit(w, e);
    ft_st_free(w);
    return code;
}

static const void *part_of(const ft_tensors *f, const char *name, ft_dtype t, int64_t *n)
{
    const ft_tensor *x = ft_tensors_find(f, name);
    if (!x || x->dtype != t || x->ndim != 1) return NULL;
    *n = x->dim[0];
    return x->data;
}

static int64_t note_of(const ft_tensors *f, const char *key)
{
    const char *v = ft_tensors_note(f, key);
    return v ? strtoll(v, NULL, 10) : 0;
}

/* Offsets ascend from 0 to n.  They are read once here, so their pages go back. */
static bool ascends(const ft_tensors *f, const int64_t *v, int64_t count, int64_t n)
{
    enum { PART = 1 << 17 };
    if (count < 1 || v[0] != 0 || v[count - 1] != n) return false;
    for (int64_t i = 1; i < count; i++) {
        if (v[i] < v[i - 1]) return false;
        if (i % PART == 0) ft_tensors_forget_part(f, v + i - PART, PART * sizeof *v);
    }
    return true;
}

int ft_tokens_open(ft_token_set *s, const char *path, ft_err *e)
{
    int64_t starts = 0, labels = 0, rows = 0, origins = 0, answers = 0;
    *s = (ft_token_set){ .file = ft_tensors_open(path, e) };
    if (!s->file) return e->code;
    s->start = part_of(s->file, "start", FT_I64, &starts);
    s->ids = part_of(s->file, "ids", FT_I32, &s->n_tokens);
    s->labels = part_of(s->file, "labels", FT_I32, &labels);
    s->split = part_of(s->file, "split", FT_U8, &s->n_docs);
    s->row = part_of(s->file, "row", FT_I64, &rows);
    s->origin = part_of(s->file, "origin", FT_U8, &origins);
    s->answer = part_of(s->file, "answer", FT_U8, &answers);
    s->n_rows = rows ? rows - 1 : 0;
    s->max_length = note_of(s->file, "max_length");
    s->rows_per_batch = note_of(s->file, "rows_per_batch");
    s->packing = note_of(s->file, "packing") != 0;
    bool good = s->start && s->ids && s->labels && s->split && s->row && labels == s->n_tokens &&
                starts == s->n_docs + 1 && ascends(s->file, s->start, starts, s->n_tokens) &&
                (!rows || ascends(s->file, s->row, rows, s->n_docs)) && s->max_length > 0 &&
                (!s->origin || origins == s->n_tokens) && (!s->answer || answers == s->n_docs);
    if (good) return 0;
    ft_tokens_free(s);
    return ft_errf(e, FT_EFORMAT, "%s is no file of tokens; run its stage again", path);
}

ft_token_counts ft_tokens_count(const ft_token_set *s, int split)
{
    enum { MOST = 4 << 20 };
    ft_token_counts c = { 0 };
    int64_t read = 0; /* tokens and documents whose pages may be in memory */
    for (int64_t d = 0; d < s->n_docs; d++) {
        int64_t n = s->start[d + 1] - s->start[d];
        if ((read += n + 2) > MOST && s->file) {
            ft_tensors_forget(s->file);
            read = 0;
        }
        if (s->split[d] != split) continue;
        c.docs++;
        c.tokens += n;
        if (n > c.longest) c.longest = n;
        for (int64_t i = s->start[d] + 1; i < s->start[d + 1]; i++)
            c.trained += s->labels[i] != NO_LABEL;
    }
    return c;
}
