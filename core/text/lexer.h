/* lexer.h -- tokens of a template. */
#ifndef FT_TEXT_LEXER_H
#define FT_TEXT_LEXER_H
#include "core/text/jinja.h"

/* Operators stand for themselves by their first character; those of two have names. */
typedef enum {
    FTJ_T_EOF, FTJ_T_DATA, FTJ_T_VARIABLE_BEGIN, FTJ_T_VARIABLE_END, FTJ_T_BLOCK_BEGIN,
    FTJ_T_BLOCK_END, FTJ_T_NAME, FTJ_T_STRING, FTJ_T_INTEGER, FTJ_T_FLOAT,
    FTJ_T_FLOORDIV, FTJ_T_POW, FTJ_T_EQ, FTJ_T_NE, FTJ_T_GE, FTJ_T_LE
} ftj_token_type;

typedef struct {
    int type;        /* FTJ_T_*, or the character of an operator */
    uint32_t line;
    size_t at;       /* where it starts in the normalised source */
    const char *p;   /* DATA, STRING: the text;  NAME, INTEGER, FLOAT: as written */
    size_t n;
} ftj_token;

typedef struct {
    const char *source; /* line ends are \n, one at the very end is gone */
    size_t source_len;
    ftj_token *token;   /* the last one is EOF */
    size_t n;
} ftj_tokens;

/* Splits a template; the source is copied.  Environment: trim_blocks, lstrip_blocks, no
 * keep_trailing_newline. */
ftj_tokens *ftj_tokenize(ftj_run *run, const char *source, size_t n);
/* Fails with line and column of source byte `at`. */
_Noreturn void ftj_fail_at(ftj_run *run, const ftj_tokens *t, size_t at, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
#endif
