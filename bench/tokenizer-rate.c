/* tokenizer-rate.c -- how long a tokenizer plugin takes for the lines of a text, for
 * bench/tokenizer.
 *
 *   tokenizer-rate BUILD PLUGIN DIR TEXT THREADS
 * Standard input: a line for each pass that is wanted; standard output: its seconds.  The tokenizer
 * is loaded once; the lines are encoded side by side, as the tokenizer stage does it. */
#include <time.h>
#include "core/run/encoders.h"
#include "plugins/tokenizer-common/test_host.h"

typedef struct { const test_tok *t; ft_text *row; size_t n; } work;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void encode(void *arg, size_t i, void *encoder)
{
    const work *w = arg;
    ft_tokens k;
    w->t->vt->encode(w->t->self, encoder, &w->row[i], 0, &k);
}

/* The lines of the text that are not empty. */
static void cut(work *w, const ft_buf *text)
{
    ft_buf rows = { 0 };
    for (size_t at = 0, end; at < text->n; at = end + 1) {
        const char *newline = memchr(text->p + at, '\n', text->n - at);
        end = newline ? (size_t)(newline - text->p) : text->n;
        ft_text row = { .text = text->p + at, .len = end - at };
        if (end > at) ft_buf_add(&rows, &row, sizeof row);
    }
    w->row = (ft_text *)(void *)rows.p;
    w->n = rows.n / sizeof(ft_text);
}

int main(int argc, char **argv)
{
    static test_tok t;
    ft_encoders x;
    ft_buf text = { 0 };
    work w = { .t = &t };
    if (argc != 6 || !test_open(&t, argv[1], argv[2]) || !test_load_dir(&t, argv[3]) ||
        ft_file_read(&text, argv[4], (size_t)1 << 32, &t.err) ||
        ft_encoders_open(&x, t.vt, t.self, atoi(argv[5]), &t.err)) {
        fprintf(stderr, "%s\n", t.err.msg);
        return 1;
    }
    cut(&w, &text);
    for (int c; (c = getchar()) != EOF;) {
        if (c != '\n') continue;
        double from = now();
        ft_encoders_run(&x, w.n, encode, &w);
        printf("%.9f\n", now() - from);
        fflush(stdout);
    }
    free(w.row);
    ft_buf_free(&text);
    ft_encoders_close(&x);
    test_close(&t);
    return 0;
}
