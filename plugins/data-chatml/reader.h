/* reader.h -- rows of a file, one at a time, as JSON texts: JSON, JSONL, CSV or plain text, each
 * plain or packed (bytes.h), or a table that another plugin reads (Parquet). */
#ifndef CHATML_READER_H
#define CHATML_READER_H
#include "bytes.h"
#include "ft/buf.h"
#include "ft/data.h"

enum { MAX_ROW = 16 << 20, MAX_COLUMNS = 1000 };

typedef enum { READ_JSON, READ_CSV, READ_LINES, READ_PARAGRAPHS, READ_DOCUMENT,
               READ_TABLE } read_as;

typedef struct {
    bytes *in; /* NULL for a table */
    const ft_table_api *tables;
    ft_table_file *table;
    read_as as;
    bool array;    /* the file is one JSON array; else one row a line */
    bool started, ended;
    int64_t line;  /* being read, from 1; of a table the row */
    ft_buf row;    /* text of the row: JSON */
    int64_t row_line; /* where it starts */
    ft_buf cell;   /* of CSV; a paragraph of text */
    ft_buf names;  /* the CSV's columns, as JSON strings, each with a zero byte behind it */
    size_t columns;
    char error[400];
} reader;

/* format: "auto" (by the name's ending before .gz or .zst), "json", "csv" or "text"; sample_by, for
 * text: "line", "paragraph" or "document".  False with r->error. */
bool reader_open(reader *r, const char *path, const char *format, const char *sample_by);
/* Whether the file is a table, and opening such a one: 0, or FT_E* after host->fail(). */
bool reader_is_table(const char *path);
int reader_open_table(reader *r, const ft_host *host, const char *path);
void reader_close(reader *r);
/* 1: r->row holds a row; 0: the end; -1: r->error says what is wrong with the file at r->row_line,
 * and nothing can follow; -2: r->error says what is wrong with the row, which was passed over. */
int reader_next(reader *r);

/* For csv.c: the next byte, counting lines; taking it back; the file is at fault; the row is. */
int reader_get(reader *r);
void reader_back(reader *r, int c);
int reader_fail(reader *r, const char *what);
int reader_bad(reader *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Appends bytes as a JSON string; what is no UTF-8 is for the JSON reader to refuse. */
void reader_quote(ft_buf *out, const char *p, size_t n);
int csv_next(reader *r);
#endif
