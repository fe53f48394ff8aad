/* stage_data.c -- the stages that make rows: format, ready rows, tokenize. */
#include <stdlib.h>
#include <string.h>
#include "core/run/encoders.h"
#include "core/run/row_count.h"
#include "core/run/samples.h"
#include "core/run/token_writer.h"
#include "core/run/tokenizer.h"

static int file_in(char out[4096], const char *dir, const char *name, ft_err *e)
{
    return ft_path_join(out, 4096, dir, name, e);
}

/* ---- format ---------------------------------------------------------------------------------- */

/* Why rows were skipped, as the plugin has counted. */
static void take_skipped(ft_row_count *c, const ft_format *f, void *self)
{
    int64_t skipped = f->skipped ? f->skipped(self) : 0, told = 0, rows;
    const char *reason;
    for (size_t i = 0;
         FT_HAS(f, skip_reason) && f->skip_reason && f->skip_reason(self, i, &reason, &rows); i++) {
        ft_row_count_drop(c, reason, rows);
        told += rows;
    }
    ft_row_count_drop(c, "bad rows", skipped - told);
}

static int copy_samples(ft_run *r, ft_stage *s, ft_instance *i, ft_samples_writer *w,
                        ft_row_count *c, ft_err *e)
{
    const ft_format *f = ft_instance_vtable(i);
    ft_sample sample;
    int code;
    while ((code = f->next(ft_instance_self(i), &sample)) > 0) {
        if ((code = ft_samples_add(w, &sample, e))) return code;
        ft_progress_update(&r->progress, "rows", ++c->kept, 0);
        if (ft_cancelled()) return ft_errf(e, FT_ECANCEL, "stopped on request");
    }
    if (code < 0) return ft_instance_error(i, code, e);
    take_skipped(c, f, ft_instance_self(i));
    if (c->kept == 0)
        return ft_errf(e, FT_EFORMAT, "%s: the data has no rows%s", s->conf->id,
                       c->dropped ? ": all were skipped" : "");
    return 0;
}

int ft_stage_format(ft_run *r, ft_stage *s, const char *dir, ft_err *e)
{
    ft_samples_writer w;
    ft_row_count c = { .kept = 0 };
    int64_t leaked = 0;
    char path[4096];
    ft_instance *i = ft_run_instance(r, s, e);
    if (!i) return e->code;
    const ft_format *f = ft_instance_vtable(i);
    const ft_data_args *a = (const ft_data_args *)(const void *)((const char *)s->conf->config +
                                                                 f->args);
    int code = file_in(path, dir, "samples.bin", e);
    if (!code) code = ft_samples_create(&w, path, e);
    if (!code) {
        code = copy_samples(r, s, i, &w, &c, e);
        if (code) ft_samples_drop(&w);
        else code = ft_samples_finish(&w, a->val_size, &leaked, e);
    }
    ft_instance_close(i);
    c.kept -= leaked;
    ft_row_count_drop(&c, "the question is asked in evaluation as well", leaked);
    return code ? code : ft_row_count_tell(&c, r, s, dir, e);
}

/* ---- ready rows ------------------------------------------------------------------------------ */

int ft_stage_rows(ft_run *r, ft_stage *s, const char *dir, ft_err *e)
{
    ft_token_set set = { .n_docs = 0 };
    char path[4096];
    ft_instance *i = ft_run_instance(r, s, e);
    if (!i) return e->code;
    int code = ft_tokens_from_rows(&set, ft_instance_vtable(i), ft_instance_self(i), e);
    if (code) ft_instance_error(i, code, e);
    if (!code) code = file_in(path, dir, "tokens.safetensors", e);
    if (!code) code = ft_tokens_save(&set, path, e);
    ft_tokens_free(&set);
    ft_instance_close(i);
    return code;
}

/* ---- tokenize -------------------------------------------------------------------------------- */

/* What is counted on the way, for one line at the end. */
typedef struct { int64_t rows, dropped, truncated, straddling, unstopped; } tally;

/* A document on the way. */
typedef struct {
    ft_buf ids, labels, origin;
    size_t n;
    bool stops;
} sequence;

/* A row on the way. */
typedef struct {
    ft_sample s;
    sequence seq[2];
    tally count;
    int code; /* 0, 1: the row is to be left out, or an error */
} row;

/* Rows are encoded side by side, so many at once or as many as have this many bytes of text, and
 * written in order. */
enum { BATCH = 256, BATCH_BYTES = 4 << 20 };

typedef struct {
    ft_run *r;
    ft_stage *s;
    ft_instance *i;
    const ft_tokenizer *vt;
    const ft_tokenizer_args *args;
    ft_vocab vocab;
    ft_encoders encoders;
    ft_token_writer out;
    row *row; /* [BATCH] */
    tally count;
} tokenizing;

static int bad_row(const tokenizing *t, const ft_sample *s, int code, ft_err *e, const char *what)
{
    return ft_errf(e, code, "%s: row at line %lld %s", t->s->conf->id, (long long)s->line, what);
}

static bool has_label(const int32_t *labels, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        if (labels[i] >= 0) return true;
    }
    return false;
}

/* Cuts a row to max_length, but leaves a trained special token at its end, so that the model still
 * learns to stop. */
static void cut(const tokenizing *t, int32_t *ids, int32_t *labels, size_t *n)
{
    size_t last = *n - 1, keep = (size_t)t->args->max_length;
    if (labels[last] >= 0 && t->vt->special(ft_instance_self(t->i), (uint32_t)ids[last])) {
        ids[keep - 1] = ids[last];
        labels[keep - 1] = labels[last];
    }
    *n = keep;
}

/* 1: the row is to be left out. */
static int check_length(const tokenizing *t, row *x, int32_t *ids, int32_t *labels, size_t *n,
                        ft_err *e)
{
    char text[200];
    if (*n <= (size_t)t->args->max_length) return 0;
    if (!strcmp(t->args->on_overlong, "drop")) {
        x->count.dropped++;
        return 1;
    }
    if (!strcmp(t->args->on_overlong, "truncate")) {
        x->count.truncated++;
        cut(t, ids, labels, n);
        return 0;
    }
    snprintf(text, sizeof text,
             "has %zu tokens, more than max_length %lld; raise max_length, or set on_overlong: "
             "drop or truncate",
             *n, (long long)t->args->max_length);
    return bad_row(t, &x->s, FT_EFORMAT, e, text);
}

static int check_bos(const tokenizing *t, const ft_sample *s, const int32_t *ids, size_t n,
                     ft_err *e)
{
    if (t->vocab.bos < 0 || n < 2 || ids[0] != t->vocab.bos || ids[1] != t->vocab.bos ||
        t->args->allow_double_bos)
        return 0;
    return bad_row(t, s, FT_EFORMAT, e,
                   "starts with two BOS tokens; the template writes one and so does the data "
                   "(allow_double_bos: true accepts it)");
}

/* Whether the last trained token ends the turn. */
static bool stops(const tokenizing *t, const int32_t *labels, size_t n)
{
    while (n && labels[n - 1] < 0) n--;
    return n && t->vt->special(ft_instance_self(t->i), (uint32_t)labels[n - 1]);
}

/* One of a row's sequences.  1: the row is to be left out. */
static int tokenize_sequence(const tokenizing *t, row *r, int which, void *encoder, ft_err *e)
{
    const ft_text *text = &r->s.seq[which];
    sequence *x = &r->seq[which];
    ft_tokens k;
    unsigned flags = t->args->allow_special_in_data ? FT_ENCODE_SPECIAL_IN_DATA : 0;
    int code = t->vt->encode(ft_instance_self(t->i), encoder, text, flags, &k);
    if (code) return ft_instance_error(t->i, code, e);
    x->ids.n = x->labels.n = x->origin.n = 0;
    int32_t *ids = ft_buf_grow(&x->ids, k.n * sizeof *ids),
            *labels = ft_buf_grow(&x->labels, k.n * sizeof *labels);
    uint8_t *origin = ft_buf_grow(&x->origin, k.n);
    if (!ids || !labels || !origin) return ft_errf(e, FT_ENOMEM, "out of memory while tokenizing");
    for (size_t i = 0; i < k.n; i++) ids[i] = (int32_t)k.id[i];
    r->count.straddling += ft_tokens_label(text, &k, labels);
    ft_tokens_origin(text, &k, origin);
    x->n = k.n;
    code = check_length(t, r, ids, labels, &x->n, e);
    if (code) return code;
    /* the end was kept */
    if (x->n < k.n && ids[x->n - 1] == (int32_t)k.id[k.n - 1]) origin[x->n - 1] = origin[k.n - 1];
    code = check_bos(t, &r->s, ids, x->n, e);
    if (code) return code;
    if (!has_label(labels, x->n))
        return bad_row(t, &r->s, FT_EFORMAT, e,
                       "has nothing to train on: no token of it carries loss");
    x->stops = stops(t, labels, x->n);
    return 0;
}

static int n_sequences(const row *r) { return r->s.n_seq < 2 ? r->s.n_seq : 2; }

/* One document, or the two of a preference pair. */
static int tokenize_row(const tokenizing *t, row *r, void *encoder, ft_err *e)
{
    r->count = (tally){ .rows = 0 };
    r->code = 0;
    for (int i = 0; i < n_sequences(r) && !r->code; i++)
        r->code = tokenize_sequence(t, r, i, encoder, e);
    return r->code;
}

static void tokenize_side_by_side(void *arg, size_t i, void *encoder)
{
    const tokenizing *t = arg;
    tokenize_row(t, &t->row[i], encoder, NULL);
}

/* Writes what a row has become, and counts it. */
static int put_row(tokenizing *t, const row *r, ft_err *e)
{
    static const int answers[] = { [FT_LABEL_NONE] = FT_ANSWER_PLAIN,
                                   [FT_LABEL_GOOD] = FT_ANSWER_GOOD,
                                   [FT_LABEL_BAD] = FT_ANSWER_BAD };
    int n = n_sequences(r), code = 0;
    t->count.dropped += r->count.dropped;
    t->count.truncated += r->count.truncated;
    t->count.straddling += r->count.straddling;
    for (int i = 0; i < n && !code && !r->code; i++) {
        const sequence *x = &r->seq[i];
        int answer = n == 2 ? FT_ANSWER_CHOSEN + i
                            : answers[r->s.label <= FT_LABEL_BAD ? r->s.label : FT_LABEL_NONE];
        t->count.unstopped += !x->stops;
        const ft_token_doc d = { (const int32_t *)(const void *)x->ids.p,
                                 (const int32_t *)(const void *)x->labels.p,
                                 (const uint8_t *)x->origin.p,
                                 (int64_t)x->n,
                                 r->s.split,
                                 (uint8_t)answer };
        code = ft_token_writer_add(&t->out, &d, e);
    }
    t->count.rows += !r->code;
    return code;
}

/* Samples from `at` on into t->row; how many. */
static int take_batch(tokenizing *t, ft_samples *in, uint64_t at, size_t *n, ft_err *e)
{
    size_t bytes = 0;
    for (*n = 0; *n < BATCH && at + *n < in->n && bytes < BATCH_BYTES; ++*n) {
        ft_sample *s = &t->row[*n].s;
        int code = ft_samples_get(in, at + *n, s, e);
        if (code) return code;
        bytes += s->seq[0].len + (s->n_seq > 1 ? s->seq[1].len : 0);
    }
    return 0;
}

static int tokenize_all(tokenizing *t, ft_samples *in, ft_err *e)
{
    size_t n;
    for (uint64_t at = 0; at < in->n; at += n) {
        int code = take_batch(t, in, at, &n, e);
        if (code) return code;
        ft_encoders_run(&t->encoders, n, tokenize_side_by_side, t);
        for (size_t i = 0; i < n && !code; i++) {
            row *r = &t->row[i]; /* a row that failed does so again, and says why */
            code = r->code < 0 ? tokenize_row(t, r, t->encoders.encoder[0], e) : put_row(t, r, e);
        }
        if (code) return code;
        ft_progress_update(&t->r->progress, "rows", (int64_t)(at + n), (int64_t)in->n);
        if (ft_cancelled()) return ft_errf(e, FT_ECANCEL, "stopped on request");
    }
    if (t->count.rows == 0)
        return ft_errf(e, FT_EFORMAT, "%s: no row is left: all are longer than max_length",
                       t->s->conf->id);
    return 0;
}

static void report(const tokenizing *t)
{
    ft_log *log = &t->r->cli->log;
    const char *id = t->s->conf->id;
    if (t->count.dropped)
        ft_log_line(log, FT_WARN, id, "%lld rows longer than max_length were dropped",
                    (long long)t->count.dropped);
    if (t->count.truncated)
        ft_log_line(log, FT_WARN, id, "%lld rows were truncated to max_length",
                    (long long)t->count.truncated);
    if (t->count.straddling)
        ft_log_line(log, FT_INFO, id,
                    "%lld tokens lie across the border of what is trained and carry no loss",
                    (long long)t->count.straddling);
    if (t->count.unstopped)
        ft_log_line(log, FT_WARN, id,
                    "%lld of %lld rows do not end in a trained end-of-turn token: the model may "
                    "not learn to stop",
                    (long long)t->count.unstopped, (long long)t->count.rows);
}

/* Loads the tokenizer, and makes room for the rows. */
static int begin(tokenizing *t, ft_err *e)
{
    t->i = ft_run_instance(t->r, t->s, e);
    t->row = calloc(BATCH, sizeof *t->row);
    if (!t->i || !t->row) return t->i ? ft_errf(e, FT_ENOMEM, "out of memory") : e->code;
    t->vt = ft_instance_vtable(t->i);
    t->args = (const ft_tokenizer_args *)(const void *)((const char *)t->s->conf->config +
                                                        t->vt->args);
    int code = t->vt->load(ft_instance_self(t->i), t->r->model.source, &t->vocab);
    if (code) return ft_instance_error(t->i, code, e);
    return ft_encoders_open(&t->encoders, t->vt, ft_instance_self(t->i), t->r->cli->threads, e);
}

static void end(tokenizing *t)
{
    for (size_t k = 0; t->row && k < 2 * BATCH; k++) {
        sequence *x = &t->row[k / 2].seq[k % 2];
        ft_buf_free(&x->ids);
        ft_buf_free(&x->labels);
        ft_buf_free(&x->origin);
    }
    free(t->row);
    ft_encoders_close(&t->encoders);
    ft_token_writer_free(&t->out);
    ft_instance_close(t->i);
}

int ft_stage_tokenize(ft_run *r, ft_stage *s, const char *dir, ft_err *e)
{
    tokenizing t = { .r = r, .s = s, .out = { .dir = dir } };
    ft_samples in = { .n = 0 };
    char path[4096];
    int code = ft_source_tokenizer(r->model.source, e);
    if (!code) code = file_in(path, ft_run_input(r, s, FT_SAMPLES)->dir, "samples.bin", e);
    if (!code) code = ft_samples_open(&in, path, e);
    if (code) return code;
    code = begin(&t, e);
    if (!code) code = tokenize_all(&t, &in, e);
    if (!code) report(&t);
    if (!code) code = ft_token_writer_save(&t.out, t.args->max_length, t.args->packing, e);
    end(&t);
    ft_samples_close(&in);
    return code;
}
