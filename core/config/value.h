/* value.h -- text into numbers, the one grammar for YAML, JSON, overrides and defaults.
 *
 * Numbers are decimal: [+-] digits [. digits] [e [+-] digits].  Neither a leading zero (octal in
 * YAML 1.1), hexadecimal, '_' between digits, inf nor nan is a number here.  An integer may be
 * written as a real that is one (1e3, 16.0). */
#ifndef FT_CORE_VALUE_H
#define FT_CORE_VALUE_H
#include <stdbool.h>
#include <stdint.h>
#include "ft/buf.h"

/* Each returns NULL and stores the value, or says why not ("is not a number", …): the message
 * continues `KEY = TEXT `. */
const char *ft_text_to_int(int64_t *out, const char *text);
const char *ft_text_to_real(double *out, const char *text);
const char *ft_text_to_bool(bool *out, const char *text);
/* A size: bytes, or a number with B, KB, MB, GB, TB (powers of 1000) or KiB, MiB, GiB, TiB (powers
 * of 1024), blanks allowed before the unit. */
const char *ft_text_to_bytes(int64_t *out, const char *text);

/* Appends v as the shortest text that reads back as v and that every YAML and JSON reader takes
 * for a real: 1.0, 0.05, 2.0e-05. */
void ft_real_write(ft_buf *out, double v);
#endif
