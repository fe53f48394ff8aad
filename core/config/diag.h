/* diag.h -- what is wrong with a configuration: every error with its place, printed at once.
 *
 *   sft.yaml:23:7: unknown key "lora_alhpa" for lora; did you mean "lora_alpha"?
 *       lora_alhpa: 16
 *       ^
 *
 * Errors are collected while reading, merging, typing and checking; then sorted by file (in the
 * order in which files were read), line and column.  The collector is open to later checks, such
 * as the order of stages.  At most FT_DIAGS_MAX are kept; the rest are counted. */
#ifndef FT_CORE_DIAG_H
#define FT_CORE_DIAG_H
#include <stdint.h>
#include <stdio.h>
#include "core/base/arena.h"
#include "core/base/err.h"
#include "ft/buf.h"

/* A text that marks point into.  It must live until the errors are printed. */
typedef struct {
    const char *name; /* as the user wrote it; "command line" for an override */
    const char *text;
    size_t n;
    int order;        /* files are listed in ascending order */
    bool is_argument; /* a command-line argument: its place is given without line and column */
} ft_config_file;

/* A place: line and column from 1, columns in code points; line 0: the file as a whole.  file
 * NULL: nowhere. */
typedef struct {
    const ft_config_file *file;
    uint32_t line, col;
} ft_mark;

enum { FT_DIAGS_MAX = 100 };

typedef struct {
    ft_mark at;
    const char *msg;
    size_t seq;
} ft_diag_entry;

typedef struct {
    ft_arena arena;
    ft_diag_entry entry[FT_DIAGS_MAX];
    size_t n;     /* errors found, also those past FT_DIAGS_MAX */
    bool no_memory;
} ft_diags;

void ft_diag(ft_diags *d, ft_mark at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* True when further errors are only counted: callers may then save themselves suggestions. */
static inline bool ft_diags_full(const ft_diags *d) { return d->n >= FT_DIAGS_MAX; }
static inline bool ft_diags_any(const ft_diags *d) { return d->n > 0 || d->no_memory; }

/* Appends all errors, sorted, each with its source line and a caret.  Control characters from
 * hostile files come out as '?', so that no message drives a terminal. */
void ft_diags_write(ft_buf *out, ft_diags *d);
void ft_diags_print(FILE *to, ft_diags *d);
/* Records the first error, in sorted order and with its place but no caret, as *e. */
int ft_diags_to_err(ft_diags *d, ft_err *e);
void ft_diags_free(ft_diags *d);
#endif
