/* stage_data.c -- the stages that make rows: format, ready rows, tokenize. */
#include <stdlib.h>
#include <string.h>
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

typedef struct {
    ft_run *r;
    ft_stage *s;
    ft_instance *i;
    const ft_tokenizer *vt;
    const ft_tokenizer_args *args;
    ft_vocab vocab;
    void *encoder;
    ft_token_writer out;
    sequence seq[2];
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
static int check_length(tokenizing *t, const ft_sample *s, int32_t *ids, int32_t *labels, size_t *n,
                        ft_err *e)
{
    char text[200];
    if (*n <= (size_t)t->args->max_length) return 0;
    if (!strcmp(t->args->on_overlong, "drop")) {
        t->count.dropped++;
        return 1;
    }
    if (!strcmp(t->args->on_overlong, "truncate")) {
        t->count.truncated++;
        cut(t, ids, labels, n);
        return 0;
    }
    snprintf(text, sizeof text,
             "has %zu tokens, more than max_length %lld; raise max_length, or set on_overlong: "
             "drop or truncate",
             *n, (long long)t->args->max_length);
    return bad_row(t, s, FT_EFORMAT, e, text);
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

/* One of a row's sequences into x.  1: the row is to be left out. */
static int tokenize_sequence(tokenizing *t, const ft_sample *s, const ft_text *text, sequence *x,
                             ft_err *e)
{
    ft_tokens k;
    unsigned flags = t->args->allow_special_in_data ? FT_ENCODE_SPECIAL_IN_DATA : 0;
    int code = t->vt->encode(ft_instance_self(t->i), t->encoder, text, flags, &k);
    if (code) return ft_instance_error(t->i, code, e);
    x->ids.n = x->labels.n = x->origin.n = 0;
    int32_t *ids = ft_buf_grow(&x->ids, k.n * sizeof *ids),
            *labels = ft_buf_grow(&x->labels, k.n * sizeof *labels);
    uint8_t *origin = ft_buf_grow(&x->origin, k.n);
    if (!ids || !labels || !origin) return ft_errf(e, FT_ENOMEM, "out of memory while tokenizing");
    for (size_t i = 0; i < k.n; i++) ids[i] = (int32_t)k.id[i];
    t->count.straddling += ft_tokens_label(text, &k, labels);
    ft_tokens_origin(text, &k, origin);
    x->n = k.n;
    code = check_length(t, s, ids, labels, &x->n, e);
    if (code) return code;
    /* the end was kept */
    if (x->n < k.n && ids[x->n - 1] == (int32_t)k.id[k.n - 1]) origin[x->n - 1] = origin[k.n - 1];
    code = check_bos(t, s, ids, x->n, e);
    if (code) return code;
    if (!has_label(labels, x->n))
        return bad_row(t, s, FT_EFORMAT, e, "has nothing to train on: no token of it carries loss");
    x->stops = stops(t, labels, x->n);
    return 0;
}

/* A row: one document, or the two of a preference pair. */
static int tokenize_one(tokenizing *t, const ft_sample *s, ft_err *e)
{
    static const int answers[] = { [FT_LABEL_NONE] = FT_ANSWER_PLAIN,
                                   [FT_LABEL_GOOD] = FT_ANSWER_GOOD,
                                   [FT_LABEL_BAD] = FT_ANSWER_BAD };
    int n = s->n_seq < 2 ? s->n_seq : 2, code = 0;
    for (int i = 0; i < n && !code; i++) code = tokenize_sequence(t, s, &s->seq[i], &t->seq[i], e);
    if (code) return code > 0 ? 0 : code;
    for (int i = 0; i < n && !code; i++) {
        const sequence *x = &t->seq[i];
        int answer = n == 2 ? FT_ANSWER_CHOSEN + i
                            : answers[s->label <= FT_LABEL_BAD ? s->label : FT_LABEL_NONE];
        t->count.unstopped += !x->stops;
        const ft_token_doc d = { (const int32_t *)(const void *)x->ids.p,
                                 (const int32_t *)(const void *)x->labels.p,
                                 (const uint8_t *)x->origin.p,
                                 (int64_t)x->n,
                                 s->split,
                                 (uint8_t)answer };
        code = ft_token_writer_add(&t->out, &d, e);
    }
    t->count.rows++;
    return code;
}

static int tokenize_all(tokenizing *t, ft_samples *in, ft_err *e)
{
    for (uint64_t i = 0; i < in->n; i++) {
        ft_sample s;
        int code = ft_samples_get(in, i, &s, e);
        if (!code) code = tokenize_one(t, &s, e);
        if (code) return code;
        ft_progress_update(&t->r->progress, "rows", (int64_t)i + 1, (int64_t)in->n);
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

int ft_stage_tokenize(ft_run *r, ft_stage *s, const char *dir, ft_err *e)
{
    tokenizing t = { .r = r, .s = s, .out = { .dir = dir } };
    ft_samples in = { .n = 0 };
    char path[4096];
    int code = ft_source_tokenizer(r->model.source, e);
    if (!code) code = file_in(path, ft_run_input(r, s, FT_SAMPLES)->dir, "samples.bin", e);
    if (!code) code = ft_samples_open(&in, path, e);
    if (code) return code;
    t.i = ft_run_instance(r, s, e);
    if (t.i) {
        t.vt = ft_instance_vtable(t.i);
        t.args = (const ft_tokenizer_args *)(const void *)((const char *)s->conf->config +
                                                           t.vt->args);
        code = t.vt->load(ft_instance_self(t.i), r->model.source, &t.vocab);
        if (code) ft_instance_error(t.i, code, e);
        t.encoder = code ? NULL : t.vt->encoder(ft_instance_self(t.i));
        if (!code && !t.encoder) code = ft_errf(e, FT_ENOMEM, "out of memory while tokenizing");
    } else {
        code = e->code;
    }
    if (!code) code = tokenize_all(&t, &in, e);
    if (!code) report(&t);
    if (!code) code = ft_token_writer_save(&t.out, t.args->max_length, t.args->packing, e);
    if (t.encoder) t.vt->encoder_done(ft_instance_self(t.i), t.encoder);
    ft_token_writer_free(&t.out);
    for (int i = 0; i < 2; i++) {
        ft_buf_free(&t.seq[i].ids);
        ft_buf_free(&t.seq[i].labels);
        ft_buf_free(&t.seq[i].origin);
    }
    ft_instance_close(t.i);
    ft_samples_close(&in);
    return code;
}
