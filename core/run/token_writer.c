/* token_writer.c -- see token_writer.h. */
#include "core/run/token_writer.h"
#include "core/base/file.h"
#include "core/io/safetensors_write.h"

/* The parts of the file, in its order. */
enum { START, IDS, LABELS, SPLIT, ORIGIN, ANSWER };
static const struct { const char *name; ft_dtype dtype; int64_t size;
} parts[FT_TOKEN_PARTS] = {
    [START] = { "start", FT_I64, 8 },   [IDS] = { "ids", FT_I32, 4 },
    [LABELS] = { "labels", FT_I32, 4 }, [SPLIT] = { "split", FT_U8, 1 },
    [ORIGIN] = { "origin", FT_U8, 1 },  [ANSWER] = { "answer", FT_U8, 1 },
};

int ft_token_writer_add(ft_token_writer *w, const ft_token_doc *d, ft_err *e)
{
    const struct { const void *p; int64_t n;
    } of[FT_TOKEN_PARTS] = {
        [START] = { &w->n_tokens, 1 },  [IDS] = { d->ids, d->n },
        [LABELS] = { d->labels, d->n }, [SPLIT] = { &d->split, 1 },
        [ORIGIN] = { d->origin, d->n }, [ANSWER] = { &d->answer, 1 },
    };
    int code = 0;
    for (int i = 0; i < FT_TOKEN_PARTS && !code; i++)
        code = ft_spool_add(&w->part[i], w->dir, of[i].p, (size_t)(of[i].n * parts[i].size), e);
    w->n_tokens += d->n;
    w->n_docs++;
    return code;
}

typedef struct { ft_st_writer *to; int64_t tensor; } target;

static int write_piece(void *ctx, char *p, size_t n, ft_err *e)
{
    const target *t = ctx;
    return ft_st_write(t->to, t->tensor, p, n, e);
}

static int write_parts(ft_token_writer *w, ft_st_writer *to, const char *path, ft_err *e)
{
    static const int64_t no_rows = 0;
    target t = { .to = to };
    int code = 0;
    for (int i = 0; i < FT_TOKEN_PARTS && !code; i++) {
        int64_t n = (int64_t)w->part[i].n / parts[i].size,
                k = ft_st_declare(to, parts[i].name, parts[i].dtype, &n, 1, e);
        code = k < 0 ? (int)k : 0;
    }
    int64_t row = code ? 0 : ft_st_declare(to, "row", FT_I64, &no_rows, 1, e);
    if (!code && row < 0) code = (int)row;
    if (!code) code = ft_st_begin(to, path, 0, e);
    for (int i = 0; i < FT_TOKEN_PARTS && !code; i++) {
        t.tensor = i;
        code = ft_spool_each(&w->part[i], 8, write_piece, &t, e);
    }
    return code ? code : ft_st_commit(to, e);
}

int ft_token_writer_save(ft_token_writer *w, int64_t max_length, bool packing, ft_err *e)
{
    char path[4096], length[32];
    ft_st_writer *to = ft_st_new(e);
    if (!to) return e->code;
    snprintf(length, sizeof length, "%lld", (long long)max_length);
    int code = ft_st_note(to, "max_length", length, e);
    if (!code) code = ft_st_note(to, "rows_per_batch", "0", e);
    if (!code) code = ft_st_note(to, "packing", packing ? "1" : "0", e);
    if (!code) code = ft_path_join(path, sizeof path, w->dir, "tokens.safetensors", e);
    if (!code) code = ft_spool_add(&w->part[START], w->dir, &w->n_tokens, sizeof w->n_tokens, e);
    if (!code) code = write_parts(w, to, path, e);
    ft_st_free(to);
    return code;
}

void ft_token_writer_free(ft_token_writer *w)
{
    for (int i = 0; i < FT_TOKEN_PARTS; i++) ft_spool_free(&w->part[i]);
    *w = (ft_token_writer){ .dir = NULL };
}
