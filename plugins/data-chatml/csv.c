/* csv.c -- rows of a CSV file (RFC 4180) as JSON objects, one at a time.
 *
 * The first record names the columns.  Fields are parted by commas, records by CRLF or LF; a field
 * in quotes may hold commas, line breaks and "" for a quote.  Refused, with the line: a quote
 * inside a field that has none around it, text behind a closing quote, a record with another number
 * of fields than the first, a column named twice or not at all, a quote that is never closed.
 *
 * Every field is a text, but for columns that hold something else in all kinds of rows: messages,
 * conversations, tools, documents and kwargs hold JSON (empty: null), label holds true or false
 * (or 1 or 0).  Prompt, chosen, rejected and completion are JSON where they begin with [{ . */
#include <string.h>
#include <strings.h>
#include "reader.h"

enum { MAX_SKIP = 1 << 30, MAX_BLANK = 8 << 20 };

/* How a field ended. */
typedef enum { NEXT_FIELD, END_OF_RECORD, END_OF_FILE, BROKEN, TOO_LONG } ending;

/* The file is at fault in the record that began at r->row_line. */
static int record_fail(reader *r, const char *what)
{
    int64_t at = r->row_line;
    int code = reader_fail(r, what);
    r->row_line = at;
    return code;
}

/* Passes over the rest of a record that cannot be used, with what is in quotes as a whole. */
static int skip_record(reader *r, bool quoted)
{
    size_t n = 0;
    for (int c; n < MAX_SKIP && (c = reader_get(r)) >= 0; n++) {
        if (c == '"') quoted = !quoted;
        if (c == '\n' && !quoted) return 0;
    }
    if (n >= MAX_SKIP) return record_fail(r, "a row is longer than 1 GiB");
    return quoted ? record_fail(r, "a quote is opened and never closed") : 0;
}

/* Behind a field: a comma, a line break or the end. */
static ending field_end(reader *r, int c)
{
    if (c == '\r') {
        c = reader_get(r);
        if (c != '\n' && c >= 0) return reader_back(r, c), BROKEN;
    }
    return c == ',' ? NEXT_FIELD : c == '\n' ? END_OF_RECORD : c < 0 ? END_OF_FILE : BROKEN;
}

/* A field in quotes, whose first one has been read, into r->cell. */
static ending quoted_field(reader *r, size_t *size, bool *open)
{
    *open = true;
    for (int c; (c = reader_get(r)) >= 0;) {
        if (c == '"') {
            c = reader_get(r);
            if (c != '"') {
                *open = false;
                return field_end(r, c);
            }
        }
        if (++*size > MAX_ROW) return TOO_LONG;
        ft_buf_putc(&r->cell, (char)c);
    }
    return END_OF_FILE;
}

/* The next field into r->cell.  BROKEN: r->error. */
static ending next_field(reader *r, size_t *size, bool *open)
{
    int c = reader_get(r);
    r->cell.n = 0;
    *open = false;
    if (c == '"') {
        ending how = quoted_field(r, size, open);
        if (how == BROKEN) reader_bad(r, "text follows the closing quote of a field");
        return how;
    }
    for (; c >= 0 && c != ',' && c != '\n' && c != '\r'; c = reader_get(r)) {
        if (c == '"') {
            reader_bad(r, "a quote stands inside a field that has none around it");
            return BROKEN;
        }
        if (++*size > MAX_ROW) return TOO_LONG;
        ft_buf_putc(&r->cell, (char)c);
    }
    ending how = field_end(r, c);
    if (how == BROKEN) reader_bad(r, "a carriage return stands inside a field without quotes");
    return how;
}

/* ---- the columns ----------------------------------------------------------------------------- */

/* The i-th name, as a JSON string. */
static const char *column(const reader *r, size_t i)
{
    const char *p = r->names.p;
    while (i--) p += strlen(p) + 1;
    return p;
}

static bool has_column(const reader *r, const char *name)
{
    for (size_t i = 0; i < r->columns; i++) {
        if (!strcmp(column(r, i), name)) return true;
    }
    return false;
}

/* The first record. */
static int read_columns(reader *r)
{
    ending how;
    size_t size = 0;
    bool open;
    r->row_line = r->line;
    do {
        how = next_field(r, &size, &open);
        if (how == BROKEN) {
            r->ended = true;
            return -1;
        }
        if (how == TOO_LONG)
            return record_fail(r, "the names of the columns are longer than 16 MiB");
        if (how == END_OF_FILE && open) return record_fail(r, "a quote is opened and never closed");
        if (r->columns == MAX_COLUMNS) return record_fail(r, "more than 1000 columns");
        r->row.n = 0;
        reader_quote(&r->row, r->cell.p ? r->cell.p : "", r->cell.n);
        if (r->row.oom) return record_fail(r, "out of memory");
        if (r->cell.n == 0)
            return record_fail(r, "a column has no name: the first line names them");
        if (has_column(r, r->row.p)) return record_fail(r, "two columns have the same name");
        ft_buf_add(&r->names, r->row.p, r->row.n + 1);
        if (r->names.oom) return record_fail(r, "out of memory");
        r->columns++;
    } while (how == NEXT_FIELD);
    return 0;
}

/* ---- records --------------------------------------------------------------------------------- */

static bool is_one_of(const char *name, const char *const *list)
{
    for (; *list; list++) {
        if (!strcmp(name, *list)) return true;
    }
    return false;
}

/* The field in r->cell as the value of column `name`. */
static void put_value(reader *r, const char *name)
{
    static const char *const json[] = { "\"messages\"", "\"conversations\"", "\"tools\"",
                                        "\"documents\"", "\"kwargs\"", NULL };
    static const char *const either[] = { "\"prompt\"", "\"chosen\"", "\"rejected\"",
                                          "\"completion\"", NULL };
    const char *text = r->cell.n ? r->cell.p : "";
    bool list = r->cell.n > 1 && text[0] == '[' && text[1] == '{';
    if (!strcmp(name, "\"label\"") && (!strcasecmp(text, "true") || !strcmp(text, "1")))
        ft_buf_puts(&r->row, "true");
    else if (!strcmp(name, "\"label\"") && (!strcasecmp(text, "false") || !strcmp(text, "0")))
        ft_buf_puts(&r->row, "false");
    else if (is_one_of(name, json) && r->cell.n == 0)
        ft_buf_puts(&r->row, "null");
    else if (is_one_of(name, json) || (list && is_one_of(name, either)))
        ft_buf_add(&r->row, text, r->cell.n);
    else
        reader_quote(&r->row, text, r->cell.n);
}

/* One record into r->row; 1, 0 at the end, -1, -2; 2: a blank line. */
static int read_record(reader *r)
{
    ending how = NEXT_FIELD;
    size_t size = 0, n = 0;
    bool open = false;
    const char *name = r->names.p;
    r->row.n = 0;
    r->row_line = r->line;
    for (; how == NEXT_FIELD; n++) {
        how = next_field(r, &size, &open);
        if (bytes_error(r->in)) return record_fail(r, "");
        if (how == END_OF_FILE && open) return record_fail(r, "a quote is opened and never closed");
        if (how == END_OF_FILE && n == 0 && r->cell.n == 0 && size == 0) return 0;
        if (how == BROKEN || how == TOO_LONG) {
            if (how == TOO_LONG) reader_bad(r, "the row is longer than %d MiB", MAX_ROW >> 20);
            return skip_record(r, open) ? -1 : -2;
        }
        if (how == END_OF_RECORD && n == 0 && r->cell.n == 0 && r->columns > 1) return 2;
        if (n >= r->columns) continue;
        ft_buf_printf(&r->row, "%s%s: ", n ? ", " : "{", name);
        put_value(r, name);
        name += strlen(name) + 1;
    }
    ft_buf_putc(&r->row, '}');
    r->row.oom |= r->cell.oom;
    if (n != r->columns)
        return reader_bad(r, "the row has %zu fields, the first line names %zu columns", n,
                          r->columns);
    return 1;
}

int csv_next(reader *r)
{
    int got = r->columns ? 0 : read_columns(r);
    if (got) return got;
    for (int blank = 0; (got = read_record(r)) == 2; blank++) {
        if (blank == MAX_BLANK) return record_fail(r, "more than 8 million blank lines");
    }
    if (got == 0) r->ended = true;
    return got;
}
