/* json_check.h -- the grammar of JSON: whether a text obeys it, and how large its tree will be. */
#ifndef FT_CORE_JSON_CHECK_H
#define FT_CORE_JSON_CHECK_H
#include "core/base/err.h"
#include "ft/json.h"

enum { FT_JSON_DEPTH = 512 };

typedef struct {
    const char *what, *s; /* a name for messages, and the text */
    size_t n, at;
    ft_err *err;
    size_t values;        /* below the one being checked, itself not counted */
    size_t widest;        /* keys of the largest object */
    size_t escaped_keys;  /* bytes of keys that hold escapes, each with a zero behind it */
    ft_buf counts;        /* uint32_t: the items of each array and object, in the order of their
                             opening brackets */
    size_t limit;         /* most bytes of the tree (ft_json_tree_bytes) */
} ft_json_check;

/* Checks one value from r->at on, which is then behind it. */
int ft_json_check_value(ft_json_check *r, int depth);
/* Checks `"key" :` from r->at on; the key's text, still escaped, is [*from, *from + *n). */
int ft_json_check_key(ft_json_check *r, size_t *from, size_t *n);
void ft_json_skip_space(ft_json_check *r);
/* Bytes that making the tree of what was checked so far takes, beside the text itself. */
size_t ft_json_tree_bytes(const ft_json_check *r);

/* FT_EFORMAT with "WHAT:LINE:COLUMN: msg"; columns are bytes, from 1. */
int ft_json_fail_at(const ft_json_check *r, size_t at, const char *msg);

/* Unescapes n bytes of a string that was checked, in place or to another place; returns the bytes
 * left. */
size_t ft_json_unescape(char *to, const char *from, size_t n);
#endif
