/* reader.c -- see reader.h.  A file whose first character is '[' is a JSON array and is cut into
 * its items by counting brackets outside of strings; anything else is taken line by line.  So
 * either is read in the memory of its longest row.  What a row holds is for the strict JSON reader
 * to judge.  A table comes row by row
 * from the plugin that reads it.  Plain text becomes {"text": …}: a line, a paragraph (up to a
 * blank line) or the whole file a row.  CSV: csv.c.
 *
 * Bounds: a row of more than 16 MiB is passed over, one of more than 1 GiB ends the reading, and
 * so do 16 MiB of nothing but white space: a packed file of a few kilobytes may unpack to
 * either. */
#include "reader.h"
#include <stdarg.h>
#include <string.h>

enum { MAX_SKIP = 1 << 30, MAX_BLANK = 16 << 20 };

/* ---- opening --------------------------------------------------------------------------------- */

/* Whether the name, without .gz or .zst, ends so. */
static bool ends_in(const char *path, const char *end)
{
    size_t n = strlen(path), k = strlen(end);
    if (n > 3 && !strcmp(path + n - 3, ".gz")) n -= 3;
    else if (n > 4 && !strcmp(path + n - 4, ".zst")) n -= 4;
    return n > k && !strncmp(path + n - k, end, k);
}

static read_as kind_of(const char *path, const char *format, const char *sample_by)
{
    bool by_name = !strcmp(format, "auto");
    if (by_name ? ends_in(path, ".csv") : !strcmp(format, "csv")) return READ_CSV;
    bool text = ends_in(path, ".txt") || ends_in(path, ".text") || ends_in(path, ".md");
    if (by_name ? !text : strcmp(format, "text") != 0) return READ_JSON;
    return !strcmp(sample_by, "document")  ? READ_DOCUMENT
         : !strcmp(sample_by, "paragraph") ? READ_PARAGRAPHS : READ_LINES;
}

bool reader_open(reader *r, const char *path, const char *format, const char *sample_by)
{
    *r = (reader){ .line = 1, .as = kind_of(path, format, sample_by) };
    r->in = bytes_open(path, r->error, sizeof r->error);
    return r->in != NULL;
}

bool reader_is_table(const char *path)
{
    char start[4] = { 0 };
    FILE *f = fopen(path, "rbe");
    bool table = f && fread(start, 1, 4, f) == 4 &&
                 (!memcmp(start, "PAR1", 4) || !memcmp(start, "PARE", 4));
    if (f) fclose(f);
    return table;
}

int reader_open_table(reader *r, const ft_host *host, const char *path)
{
    *r = (reader){ .as = READ_TABLE, .tables = host->get(host, "ft.table/1") };
    if (!r->tables) return host->fail(host, FT_EUNSUP, "%s: this host has no ft.table/1", path);
    r->table = r->tables->open(host, path, "Parquet");
    return r->table ? FT_OK : FT_EUNSUP;
}

void reader_close(reader *r)
{
    bytes_close(r->in);
    if (r->table) r->tables->close(r->table);
    ft_buf_free(&r->row);
    ft_buf_free(&r->cell);
    ft_buf_free(&r->names);
    *r = (reader){ 0 };
}

/* ---- bytes and errors ------------------------------------------------------------------------ */

int reader_get(reader *r)
{
    int c = bytes_get(r->in);
    if (c == '\n') r->line++;
    return c;
}

void reader_back(reader *r, int c)
{
    if (c == '\n') r->line--;
    if (c >= 0) bytes_back(r->in);
}

int reader_fail(reader *r, const char *what)
{
    const char *of_file = bytes_error(r->in);
    r->ended = true;
    r->row_line = r->line;
    snprintf(r->error, sizeof r->error, "%s", of_file ? of_file : what);
    return -1;
}

int reader_bad(reader *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(r->error, sizeof r->error, fmt, ap);
    va_end(ap);
    return -2;
}

static int too_long(reader *r)
{
    return reader_bad(r, "the row is longer than %d MiB", MAX_ROW >> 20);
}

/* The end of the file: 0, unless it is no end but an error. */
static int at_end(reader *r)
{
    r->ended = true;
    return bytes_error(r->in) ? reader_fail(r, "") : 0;
}

static bool is_blank(int c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

/* The next character that is not white space; -1 at the end, -2 where there is too much of it. */
static int next_visible(reader *r)
{
    for (size_t n = 0; n < MAX_BLANK; n++) {
        int c = reader_get(r);
        if (!is_blank(c)) return c;
    }
    return -2;
}

/* Adds c to the row, whose bytes so far *size counts; false when it is beyond all bounds. */
static bool keep(reader *r, int c, size_t *size)
{
    if (++*size <= MAX_ROW) ft_buf_putc(&r->row, (char)c);
    return *size <= MAX_SKIP;
}

/* ---- JSON lines ------------------------------------------------------------------------------ */

/* The next line that is not blank. */
static int next_line(reader *r)
{
    for (size_t blanks = 0;;) {
        size_t size = 0;
        bool blank = true;
        int c;
        r->row.n = 0;
        r->row_line = r->line;
        while ((c = reader_get(r)) >= 0 && c != '\n') {
            if (!keep(r, c, &size)) return reader_fail(r, "a row is longer than 1 GiB");
            blank = blank && is_blank(c);
        }
        if (c < 0 && bytes_error(r->in)) return reader_fail(r, "");
        if (c < 0 && blank) return at_end(r);
        if (size > MAX_ROW) return too_long(r);
        if (!blank) return 1;
        if ((blanks += size + 1) > MAX_BLANK)
            return reader_fail(r, "more than 16 MiB of white space");
    }
}

/* ---- a JSON array ---------------------------------------------------------------------------- */

/* One item of the array, whose first character is c; ends before the ',' or ']' behind it. */
static int read_item(reader *r, int c)
{
    size_t size = 0, depth = 0;
    bool text = false;
    r->row.n = 0;
    r->row_line = r->line;
    for (; c >= 0; c = reader_get(r)) {
        if (!text && depth == 0 && (c == ',' || c == ']')) {
            reader_back(r, c);
            return size > MAX_ROW ? too_long(r) : 1;
        }
        if (!keep(r, c, &size)) return reader_fail(r, "a row is longer than 1 GiB");
        if (text && c == '\\') {
            c = reader_get(r);
            if (c >= 0) keep(r, c, &size);
        } else if (c == '"') {
            text = !text;
        } else if (!text) {
            depth += c == '{' || c == '[';
            depth -= (c == '}' || c == ']') && depth;
        }
    }
    return reader_fail(r, "the array does not end");
}

/* After an item or the opening bracket. */
static int next_item(reader *r, bool first)
{
    int c = next_visible(r);
    if (c == ']') {
        if (next_visible(r) != -1) return reader_fail(r, "nothing may follow the array");
        return at_end(r);
    }
    if (!first) c = next_visible(r); /* behind the ',': an item ends before it or the ']' alone */
    if (c < 0 || c == ',' || c == ']') return reader_fail(r, "a row must stand here");
    return read_item(r, c);
}

/* Sees what kind of JSON file this is. */
static int start_json(reader *r)
{
    int c = next_visible(r);
    if (c == -2) return reader_fail(r, "more than 16 MiB of white space");
    r->array = c == '[';
    /* A line that begins with white space is read without it; columns are of no use there. */
    if (!r->array) reader_back(r, c);
    return 0;
}

/* ---- plain text ------------------------------------------------------------------------------ */

void reader_quote(ft_buf *out, const char *p, size_t n)
{
    ft_buf_putc(out, '"');
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];
        if (c == '"' || c == '\\') ft_buf_putc(out, '\\');
        if (c < 0x20) ft_buf_printf(out, "\\u%04x", c);
        else ft_buf_putc(out, (char)c);
    }
    ft_buf_putc(out, '"');
}

/* Appends a line with its end to the cell, as far as it fits; false at the end of the file. */
static bool take_line(reader *r, size_t *size, bool *blank)
{
    int c;
    size_t before = *size;
    *blank = true;
    while (*size <= MAX_SKIP && (c = reader_get(r)) >= 0) {
        if (++*size <= MAX_ROW) ft_buf_putc(&r->cell, (char)c);
        *blank = *blank && is_blank(c);
        if (c == '\n') return true;
    }
    return *size > before;
}

/* The next line, paragraph or file that is not blank.  A paragraph ends at a blank line; the line
 * breaks at its end, and at the end of a line, are not part of it. */
static int next_text(reader *r)
{
    size_t size = 0, blanks = 0;
    bool blank, any = false;
    r->cell.n = 0;
    for (;;) {
        size_t before = size, kept = r->cell.n;
        if (!any) r->row_line = r->line;
        if (!take_line(r, &size, &blank)) break;
        if (size > MAX_SKIP) return reader_fail(r, "a row is longer than 1 GiB");
        if (blank && r->as != READ_DOCUMENT) {
            if ((blanks += size - before) > MAX_BLANK)
                return reader_fail(r, "more than 16 MiB of white space");
            size = before;
            r->cell.n = kept;
            if (any) break;
            continue;
        }
        any = any || !blank;
        if (any && r->as == READ_LINES) break;
    }
    if (bytes_error(r->in)) return reader_fail(r, "");
    if (!any) return at_end(r);
    if (size > MAX_ROW) return too_long(r);
    size_t n = r->cell.n;
    while (r->as != READ_DOCUMENT && n && (r->cell.p[n - 1] == '\n' || r->cell.p[n - 1] == '\r'))
        n--;
    r->row.n = 0;
    ft_buf_puts(&r->row, "{\"text\": ");
    reader_quote(&r->row, r->cell.p, n);
    ft_buf_putc(&r->row, '}');
    r->row.oom |= r->cell.oom;
    return 1;
}

/* ---- a table --------------------------------------------------------------------------------- */

static int next_of_table(reader *r)
{
    ft_bytes row;
    const char *why = "";
    int got = r->tables->next(r->table, &row, &why);
    r->row_line = ++r->line;
    r->row.n = 0;
    r->ended = got != 1 && got != FT_EUNSUP;
    if (got == 1) ft_buf_add(&r->row, row.p, row.n);
    if (got >= 0) return got;
    reader_bad(r, "%s", why);
    return got == FT_EUNSUP ? -2 : -1;
}

int reader_next(reader *r)
{
    bool first = !r->started;
    if (r->ended) return 0;
    r->started = true;
    if (r->as == READ_TABLE) return next_of_table(r);
    if (r->as == READ_CSV) return csv_next(r);
    if (r->as != READ_JSON) return next_text(r);
    if (first && start_json(r)) return -1;
    return r->array ? next_item(r, first) : next_line(r);
}
