/* format.h -- one formatted value, as `%` and str.format both need it. */
#ifndef FT_TEXT_FORMAT_H
#define FT_TEXT_FORMAT_H
#include "core/text/jinja.h"

typedef struct {
    char align;       /* '<' '>' '^' '=', 0: the type's own */
    uint32_t fill;    /* character */
    char sign;        /* '+', ' ', or 0 */
    bool alternate;   /* '#' */
    char group;       /* ',' '_' or 0 */
    int64_t width, precision; /* -1: not given */
    char type;        /* 0: not given */
} ftj_spec;

enum { FTJ_MAX_WIDTH = 4096 };

/* Appends v formatted by spec; the type letters of strings, integers and floats. */
void ftj_put_formatted(ftj_run *run, ftj_out *out, ftj_val v, const ftj_spec *spec);
/* Appends s, cut and padded to the spec. */
void ftj_put_padded(ftj_run *run, ftj_out *out, const ftj_str *s, const ftj_spec *spec, char align);
#endif
