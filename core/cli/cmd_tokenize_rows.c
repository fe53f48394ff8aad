/* cmd_tokenize_rows.c -- `pipeline tokenize` for files: a line a row, encoded on all threads. */
#include <stdlib.h>
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/cli/cmd_tokenize.h"
#include "core/run/encoders.h"

/* A text as {"ids": …}; `chat`: what answer it is, "" for none. */
static int write_row(const ft_tokenizing *t, ft_buf *out, const ft_text *text, const char *chat,
                     void *encoder, ft_err *e)
{
    ft_tokens k;
    int code = t->tok.vt->encode(t->tok.self, encoder, text, ft_tokenize_encode_flags(t), &k);
    if (code) return ft_instance_error(t->tok.plugin, code, e);
    if (*chat) ft_buf_printf(out, "{\"answer\": \"%s\", \"ids\": ", chat);
    else ft_buf_puts(out, "{\"ids\": ");
    ft_tokenize_write_ids(out, &k);
    if (t->o->offsets) ft_tokenize_write_offsets(out, &k);
    if (t->o->chat) {
        int32_t *labels = malloc((k.n + 1) * sizeof *labels);
        if (!labels) return ft_errf(e, FT_ENOMEM, "out of memory");
        ft_tokens_label(text, &k, labels);
        ft_buf_puts(out, ", \"text\": ");
        ft_tokenize_quote(out, text->text, text->len);
        ft_buf_puts(out, ", \"labels\": [");
        for (size_t i = 0; i < k.n; i++) ft_buf_printf(out, "%s%d", i ? ", " : "", labels[i]);
        ft_buf_putc(out, ']');
        free(labels);
    }
    ft_buf_puts(out, "}\n");
    return out->oom ? ft_errf(e, FT_ENOMEM, "out of memory") : 0;
}

/* A line of a file on the way: what it says, and what becomes of it. */
typedef struct {
    const char *p;
    size_t n;
    int64_t number;
    ft_buf out;
    int code;
} line;

/* Lines are encoded side by side, so many at once or as many as have this many bytes, and written
 * in order. */
enum { BATCH = 256, BATCH_BYTES = 4 << 20 };
/* The kernel maps up to so many bytes before one that is read. */
enum { AROUND = 2 << 20 };

typedef struct { ft_tokenizing *t; const char *path; line *line; } lines;

/* A JSON string or {"text": …}. */
static int one_line(const lines *l, line *x, void *encoder, ft_err *e)
{
    char place[4200];
    x->out.n = 0;
    snprintf(place, sizeof place, "%s line %lld", l->path, (long long)x->number);
    if (x->n > FT_MOST_JSON)
        return x->code = ft_errf(e, FT_EFORMAT, "%s: longer than %d MiB", place,
                                 FT_MOST_JSON >> 20);
    ft_json_doc *doc = ft_json_parse(place, x->p, x->n, e);
    if (!doc) return x->code = FT_EFORMAT;
    const ft_json *root = ft_json_root(doc),
                  *v = root->type == FT_JSON_OBJECT ? ft_json_get(root, "text") : root;
    if (!v || v->type != FT_JSON_STRING) {
        x->code = ft_errf(e, FT_EFORMAT, "%s: a row is a JSON string or {\"text\": …}", place);
    } else {
        ft_text text = { .text = v->text, .len = v->len };
        x->code = write_row(l->t, &x->out, &text, "", encoder, e);
    }
    ft_json_done(doc);
    return x->code;
}

static void line_side_by_side(void *arg, size_t i, void *encoder)
{
    const lines *l = arg;
    one_line(l, &l->line[i], encoder, NULL);
}

static int encode_batch(lines *l, const ft_encoders *x, size_t n, ft_err *e)
{
    int code = 0;
    ft_encoders_run(x, n, line_side_by_side, l);
    for (size_t i = 0; i < n && !code; i++) {
        line *k = &l->line[i]; /* a line that failed does so again, and says why */
        code = k->code ? one_line(l, k, x->encoder[0], e) : 0;
        ft_buf_add(&l->t->out, k->out.p, k->out.n);
        if (!code) code = ft_tokenize_flush(l->t, false, e);
    }
    return code;
}

/* Lines with ids, one after the other. */
static int decode_batch(const lines *l, size_t n, ft_err *e)
{
    int code = 0;
    for (size_t i = 0; i < n && !code; i++) {
        char place[4200];
        const line *x = &l->line[i];
        snprintf(place, sizeof place, "%s line %lld", l->path, (long long)x->number);
        if (x->n > FT_MOST_JSON)
            return ft_errf(e, FT_EFORMAT, "%s: longer than %d MiB", place, FT_MOST_JSON >> 20);
        ft_json_doc *doc = ft_json_parse(place, x->p, x->n, e);
        code = doc ? ft_tokenize_decode_value(l->t, ft_json_root(doc), true, e) : e->code;
        ft_json_done(doc);
    }
    return code;
}

/* The next lines of f that are not blank; *at and *number go on. */
static size_t take_lines(line *to, const ft_map_file *f, size_t *at, int64_t *number)
{
    size_t n = 0, bytes = 0;
    while (n < BATCH && bytes < BATCH_BYTES && *at < f->n) {
        const char *newline = memchr(f->p + *at, '\n', f->n - *at);
        size_t end = newline ? (size_t)(newline - f->p) : f->n, blank = *at;
        while (blank < end && strchr(" \t\r", f->p[blank]) && f->p[blank]) blank++;
        if (blank < end) {
            to[n].p = f->p + *at;
            to[n].n = end - *at;
            to[n++].number = *number;
            bytes += end - *at;
        }
        *at = end + 1;
        ++*number;
    }
    return n;
}

int ft_tokenize_each_line(ft_tokenizing *t, const char *path, ft_err *e)
{
    ft_map_file f;
    ft_encoders x = { .n = 0 };
    lines l = { t, path, calloc(BATCH, sizeof(line)) };
    int64_t number = 1;
    size_t at = 0, done = 0, n;
    int code = l.line ? ft_file_map(&f, path, e) : ft_errf(e, FT_ENOMEM, "out of memory");
    bool mapped = !code;
    if (!code && !t->o->decode)
        code = ft_encoders_open(&x, t->tok.vt, t->tok.self, t->threads, e);
    while (!code && (n = take_lines(l.line, &f, &at, &number))) {
        code = t->o->decode ? decode_batch(&l, n, e) : encode_batch(&l, &x, n, e);
        const size_t again = done < AROUND ? done : AROUND;
        ft_file_forget(&f, done - again, at - done + again);
        done = at;
    }
    ft_encoders_close(&x);
    if (mapped) ft_file_unmap(&f);
    for (size_t i = 0; l.line && i < BATCH; i++) ft_buf_free(&l.line[i].out);
    free(l.line);
    return code;
}

/* One answer of a row. */
static int put_sample(ft_tokenizing *t, const ft_sample *s, int k, ft_err *e)
{
    static const char *const labels[] = {
        [FT_LABEL_NONE] = "", [FT_LABEL_GOOD] = "good", [FT_LABEL_BAD] = "bad"
    };
    const char *answer = s->n_seq == 2 ? (k ? "rejected" : "chosen")
                                       : labels[s->label <= FT_LABEL_BAD ? s->label : 0];
    ft_tokens tokens;
    char name[100];
    if (!t->o->show) {
        int code = write_row(t, &t->out, &s->seq[k], answer, t->tok.encoder, e);
        return code ? code : ft_tokenize_flush(t, false, e);
    }
    int code = ft_tokenizer_encode(&t->tok, &s->seq[k], ft_tokenize_encode_flags(t), &tokens, e);
    snprintf(name, sizeof name, "line %lld%s%s", (long long)s->line, *answer ? ", " : "", answer);
    return code ? code : ft_tokenize_show_text(t, &s->seq[k], &tokens, name, e);
}

int ft_tokenize_each_chat(ft_tokenizing *t, const char *path, ft_err *e)
{
    ft_sample s;
    ft_run run = { .current = -1, .registry = t->registry, .model = { .source = t->tok.source } };
    ft_offer offer = t->offer;
    offer.run = &run;
    const ft_loaded *p = ft_registry_get(t->registry, "data-chatml", e);
    ft_instance *i = p ? ft_instance_open_path(p, "tokenize", path, &offer, e) : NULL;
    int code = i ? 1 : e->code;
    while (code > 0) {
        const ft_format *f = ft_instance_vtable(i);
        code = f->next(ft_instance_self(i), &s);
        if (code < 0) ft_instance_error(i, code, e);
        for (int k = 0; code > 0 && k < s.n_seq; k++) {
            int bad = put_sample(t, &s, k, e);
            if (bad) code = bad;
        }
    }
    ft_instance_close(i);
    return code;
}
