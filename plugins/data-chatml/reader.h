/* reader.h -- rows of a JSONL or JSON file, one at a time. */
#ifndef CHATML_READER_H
#define CHATML_READER_H
#include <stdio.h>
#include "ft/buf.h"

enum { MAX_ROW = 16 << 20 };

typedef struct {
    FILE *f;
    bool array;    /* the file is one JSON array; else one row a line */
    bool started, ended;
    int64_t line;  /* being read, from 1 */
    ft_buf row;    /* text of the row */
    int64_t row_line; /* where it starts */
    char error[160];
} reader;

/* 0, or an errno value. */
int reader_open(reader *r, const char *path);
void reader_close(reader *r);
/* 1: r->row holds a row; 0: the end; -1: r->error says what is wrong with the file at r->row_line,
 * and nothing can follow; -2: a row is too long and was passed over. */
int reader_next(reader *r);
#endif
