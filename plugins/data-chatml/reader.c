/* reader.c -- see reader.h.  A file whose first character is '[' is a JSON array and is cut into
 * its items by counting brackets outside of strings; anything else is taken line by line.  So
 * either is read in the memory of its longest row.  What a row holds is for the strict JSON reader
 * to judge. */
#include "reader.h"
#include <errno.h>
#include <string.h>

int reader_open(reader *r, const char *path)
{
    *r = (reader){ .line = 1 };
    r->f = fopen(path, "rbe");
    return r->f ? 0 : errno;
}

void reader_close(reader *r)
{
    if (r->f) fclose(r->f);
    ft_buf_free(&r->row);
    *r = (reader){ 0 };
}

/* The next byte, counting lines. */
static int next_char(reader *r)
{
    int c = getc_unlocked(r->f);
    if (c == '\n') r->line++;
    return c;
}

/* Takes a byte back. */
static void put_back(reader *r, int c)
{
    if (c == '\n') r->line--;
    if (c != EOF) ungetc(c, r->f);
}

/* The next character that is not white space. */
static int next_visible(reader *r)
{
    int c;
    do c = next_char(r);
    while (c == ' ' || c == '\t' || c == '\n' || c == '\r');
    return c;
}

/* The file itself is at fault: nothing can follow. */
static int fail(reader *r, const char *what)
{
    r->ended = true;
    r->row_line = r->line;
    snprintf(r->error, sizeof r->error, "%s", ferror(r->f) ? "cannot be read" : what);
    return -1;
}

/* Skips a byte order mark and sees what kind of file this is. */
static void start(reader *r)
{
    r->started = true;
    int c = next_char(r);
    if (c == 0xEF) {
        int d = getc_unlocked(r->f), e = getc_unlocked(r->f);
        if (d != 0xBB || e != 0xBF) rewind(r->f);
    } else {
        put_back(r, c);
    }
    c = next_visible(r);
    r->array = c == '[';
    if (!r->array) {
        /* A line that begins with white space is read without it; columns are of no use there. */
        put_back(r, c);
    }
}

/* Adds c to the row; past the limit only counts on. */
static void keep(reader *r, int c, size_t *size)
{
    if (++*size <= MAX_ROW) ft_buf_putc(&r->row, (char)c);
}

/* The next line that is not blank. */
static int next_line(reader *r)
{
    for (;;) {
        size_t size = 0;
        bool blank = true;
        int c;
        r->row.n = 0;
        r->row_line = r->line;
        while ((c = next_char(r)) != EOF && c != '\n') {
            keep(r, c, &size);
            blank = blank && (c == ' ' || c == '\t' || c == '\r');
        }
        if (c == EOF && ferror(r->f)) return fail(r, "");
        if (c == EOF && blank) {
            r->ended = true;
            return 0;
        }
        if (size > MAX_ROW) return -2;
        if (!blank) return 1;
    }
}

/* One item of the array, whose first character is c; ends before the ',' or ']' behind it. */
static int read_item(reader *r, int c)
{
    size_t size = 0, depth = 0;
    bool text = false;
    r->row.n = 0;
    r->row_line = r->line;
    for (; c != EOF; c = next_char(r)) {
        if (text) {
            keep(r, c, &size);
            if (c == '\\') {
                c = next_char(r);
                if (c != EOF) keep(r, c, &size);
            } else if (c == '"') {
                text = false;
            }
            continue;
        }
        if (depth == 0 && (c == ',' || c == ']')) {
            put_back(r, c);
            return size > MAX_ROW ? -2 : 1;
        }
        keep(r, c, &size);
        if (c == '"') text = true;
        if (c == '{' || c == '[') depth++;
        if ((c == '}' || c == ']') && depth) depth--;
    }
    return fail(r, "the array does not end");
}

/* After an item or the opening bracket. */
static int next_item(reader *r, bool first)
{
    int c = next_visible(r);
    if (c == ']') {
        if (next_visible(r) != EOF) return fail(r, "nothing may follow the array");
        r->ended = true;
        return ferror(r->f) ? fail(r, "") : 0;
    }
    if (!first) {
        if (c != ',')
            return fail(r, c == EOF ? "the array does not end" : "',' must stand between rows");
        c = next_visible(r);
    }
    if (c == EOF || c == ',' || c == ']') return fail(r, "a row must stand here");
    return read_item(r, c);
}

int reader_next(reader *r)
{
    bool first = !r->started;
    if (r->ended) return 0;
    if (first) start(r);
    return r->array ? next_item(r, first) : next_line(r);
}
