/* head.h -- what the head's files share: one call, opened, and how its rounds lie in memory
 * (head.c). */
#ifndef FT_CPU_HEAD_H
#define FT_CPU_HEAD_H
#include "gemm.h"

enum { TERMS, BIAS, CAP, COEF, TERM };
enum { GROUP = FT_TOKEN_BLOCK, CHUNK = 1024, PAD = 32, STRIP = 2 * GEMM_STRIP, LEFT = 256 };
/* Panels at a time, at most, and their columns: all meet a strip of x, or a chunk of z. */
enum { PANELS = 4, WIDTH = PANELS * GEMM_N };

static inline int terms_of(const ft_call *k) { return (int)k->attr[TERMS]; }

enum { LOGPROB, XENT, LOGPROB_DX, LOGPROB_DW };
enum { LOGITS, ROWS, DX, DW, N_PHASES };

typedef struct { float greatest, sum; } stat; /* of one row in one chunk */

/* One call, opened: its inputs, its group of rows in this round, and its shared memory. */
typedef struct {
    const ft_call *k;
    const ft_arg *in, *bias, *dlp, *lse;
    int terms;
    ft_dtype t;
    int64_t vocab, chunks, size; /* size: bytes of a logit */
    ft_block rows;               /* the group */
    int phase;
    char *logits;
    stat *stats;                 /* [GROUP][chunks] */
} engine;

static inline int64_t chunk_bytes(int64_t size) { return GROUP * (CHUNK + PAD) * size; }
static inline int64_t n_rows(const engine *e) { return e->rows.end - e->rows.begin; }
static inline int64_t columns_of(const engine *e, int64_t chunk)
{
    return e->vocab - chunk * CHUNK < CHUNK ? e->vocab - chunk * CHUNK : CHUNK;
}
static inline char *logit_row(const engine *e, int64_t chunk, int64_t row)
{
    return e->logits + chunk * chunk_bytes(e->size) + row * (CHUNK + PAD) * e->size;
}

/* Scratch: PANELS panels of all terms, `panels` bytes each (of CHUNK steps for dx), room for
 * packing, a strip or group of sums. */
typedef struct { char *panel, *tmp, *left; float *sum; int64_t panels; size_t bytes; } layout;

/* Round 2: the columns of dx of an item.  Round 3: the rows of one dW of an item. */
int64_t FT_NAME(head_dx_items)(const engine *e);
void FT_NAME(head_dx)(const engine *e, const layout *l, int op, int64_t item);
int64_t FT_NAME(head_dw_items)(const engine *e, int op);
void FT_NAME(head_dw)(const engine *e, const layout *l, int op, int64_t item);
#endif
