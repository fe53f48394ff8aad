/* bytes.h -- a file as a stream of bytes, whether it lies there plain, as .gz or as .zst. */
#ifndef CHATML_BYTES_H
#define CHATML_BYTES_H
#include <stdbool.h>
#include <stddef.h>

typedef struct bytes bytes;
struct bytes {
    const unsigned char *p, *end; /* what has been unpacked and not been taken */
};

/* NULL with the reason in error[size]. */
bytes *bytes_open(const char *path, char *error, size_t size);
void bytes_close(bytes *b); /* NULL is fine */
/* More bytes: the next of them, or -1 at the end and after an error. */
int bytes_more(bytes *b);
/* What went wrong, or NULL. */
const char *bytes_error(const bytes *b);

/* The next byte, or -1. */
static inline int bytes_get(bytes *b) { return b->p < b->end ? *b->p++ : bytes_more(b); }
/* Takes back the byte that bytes_get returned last. */
static inline void bytes_back(bytes *b) { b->p--; }
#endif
