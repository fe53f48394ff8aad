/* canon.h -- a filled configuration as text: for hashing, for run.lock.yaml, for help.
 *
 * The text depends on the values alone: rows in table order, defaults written out, strings always
 * in double quotes, reals shortest round-trip.  It is YAML that reads back as the same values. */
#ifndef FT_CORE_CANON_H
#define FT_CORE_CANON_H
#include "ft/buf.h"
#include "ft/plugin.h"

/* Appends one line a row, "key: value", each after `indent` blanks. */
void ft_canon_params(ft_buf *out, const ft_param *params, const void *config, int indent);
/* Appends the value of one row. */
void ft_canon_value(ft_buf *out, const ft_param *row, const void *config);
/* Appends s in double quotes, so that YAML and ${…} expansion give it back. */
void ft_canon_text(ft_buf *out, const char *s);

/* A JSON schema (draft 2020-12) of a table, for editors: types, defaults, ranges, choices. */
void ft_schema_write(ft_buf *out, const char *title, const char *summary, const ft_param *params);
#endif
