/* parquet.h -- a Parquet file as the parts of this plugin see it.
 *
 *   "PAR1" | row groups: for each column its pages | footer | u32 bytes of it | "PAR1"
 *
 * A row is taken apart into columns: for every entry of a column a repetition level (at which list
 * a new item begins; 0: a new row), a definition level (how much of the path to it is there), and,
 * where all of it is, a value.  So lists and structs are put together again from levels alone.
 * Format: apache/parquet-format (README.md, Encodings.md, parquet.thrift). */
#ifndef PARQUET_H
#define PARQUET_H
#include "ft/ck.h"
#include "ft/data.h"
#include "thrift.h"

enum { MAX_NODES = 10000, MAX_DEPTH = 32, MAX_FOOTER = 16 << 20, MAX_ROW = 16 << 20,
       MAX_NAME = 512 };

/* ---- footer.c: what the file holds ----------------------------------------------------------- */

typedef enum {
    BOOLEAN, INT32, INT64, INT96, FLOAT, DOUBLE, BYTE_ARRAY, FIXED, N_PHYSICAL
} physical;
typedef enum { REQUIRED, OPTIONAL, REPEATED } repetition;

/* What a value or group is written as. */
typedef enum {
    AS_NUMBER, AS_UNSIGNED, AS_TEXT, AS_BYTES, AS_NULL, /* columns */
    AS_STRUCT, AS_LIST, AS_MAP,                         /* groups */
} writing;

/* The schema, a node before those below it. */
typedef struct {
    bytes name;
    repetition rep;
    writing as;
    physical type;
    int64_t length;     /* of FIXED */
    int max_rep, max_def;
    int column;         /* its own, or of a group the first below it */
    int children, end;  /* number of them; the node behind all that are below */
} node;

typedef struct {
    int64_t codec, values, size, dictionary_at, data_at; /* dictionary_at 0: none */
} chunk;

typedef struct {
    ft_buf text;     /* the footer's bytes: names point into them */
    ft_buf node;     /* node */
    int columns;
    int64_t groups;
    ft_buf chunk;    /* chunk [groups][columns] */
    ft_buf rows;     /* int64_t [groups] */
} footer;

typedef struct {
    int fd;
    const char *path;
    uint64_t size, held, most; /* bytes of the file; of pages in memory, and how many may be */
    uint64_t entries;          /* that may still be read: a few bytes can stand for billions */
    char error[400];           /* "…", without the path */
} file;

/* -1 after an error.  footer_free also after that. */
int footer_read(file *f, footer *out);
void footer_free(footer *m);
/* Reads n bytes at `at`, which must lie inside the file. */
int file_read(file *f, void *out, uint64_t at, size_t n);
int file_fail(file *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- unpack.c -------------------------------------------------------------------------------- */

/* Unpacks exactly n bytes; NULL, or what is wrong. */
const char *unpack(int64_t codec, uint8_t *out, size_t n, const uint8_t *in, size_t n_in);

/* ---- levels.c: runs of equal numbers and packed ones ----------------------------------------- */

typedef struct {
    const uint8_t *p, *end;
    int width;          /* bits a number, 0 to 32 */
    uint64_t left;      /* of the run */
    bool packed;
    uint32_t value;     /* of a run of equal ones */
    uint64_t bit;       /* of the next packed one */
    const uint8_t *run; /* where the packed ones begin */
} runs;

/* The next number; false when there is none. */
bool runs_next(runs *r, uint32_t *out);

/* ---- column.c: the entries of a column ------------------------------------------------------- */

typedef struct {
    file *f;
    const node *n;
    int64_t codec;
    uint64_t at, end;         /* of the chunk in the file: the next page */
    uint64_t chunk_left;      /* entries of the chunk that no page has brought */
    uint64_t page_left;       /* entries of the page that were not looked at */
    bool loaded;              /* rep, def, value are of an entry that was not taken */
    uint32_t rep, def;
    bytes value;              /* when def is n->max_def: its bytes */
    uint8_t bit;              /* what a boolean's value points to */
    ft_buf page, dictionary, offset; /* offset: uint32_t [values + 1] into dictionary */
    size_t words;             /* of the dictionary */
    runs reps, defs, index;   /* index: of the dictionary, or booleans */
    int64_t encoding;
    const uint8_t *p, *p_end; /* PLAIN values */
    int plain_bit;
} column;

void column_start(column *c, file *f, const node *n, const chunk *k);
/* Looks at the next entry: 1; 0: the chunk has no more; -1: f->error. */
int column_look(column *c);
void column_free(column *c);

/* ---- rows.c ---------------------------------------------------------------------------------- */

/* Appends the next row as JSON; -1: f->error. */
int row_write(ft_buf *out, file *f, const footer *m, column *c);
#endif
