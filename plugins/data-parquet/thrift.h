/* thrift.h -- structs in Thrift's compact protocol, which Parquet's footer and page headers are
 * written in, read by tables. */
#ifndef PARQUET_THRIFT_H
#define PARQUET_THRIFT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    const uint8_t *p, *end;
    const char *bad; /* the first thing that was wrong, or NULL */
} thrift;

typedef struct { const char *p; size_t n; } bytes;

typedef enum {
    T_INT,    /* any integer or a boolean into an int64_t */
    T_BYTES,  /* into a bytes, pointing into what is read */
    T_HAS,    /* a struct that need only be there: 1 into an int64_t */
    T_STRUCT, /* by the table `sub`, relative to this field's offset */
    T_LIST,   /* each item by calling `item` */
} thrift_kind;

typedef struct thrift_field thrift_field;
struct thrift_field {
    int id; /* 0 ends the table */
    thrift_kind kind;
    size_t offset;
    const thrift_field *sub;
    /* Reads one item of a list into out, the struct that the table is for; type: of the item. */
    void (*item)(thrift *t, int type, void *out);
};

enum { THRIFT_BINARY = 8, THRIFT_STRUCT = 12 };

/* Reads a struct up to its end; fields that the table does not have are passed over.  What is not
 * there leaves *out as it was.  t->bad is set by what is malformed. */
void thrift_read(thrift *t, const thrift_field *table, void *out);
#endif
