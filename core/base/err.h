/* err.h -- errors in the core: a code, and one sentence that a user can act on.
 *
 * A message gives thing, value, limit and remedy:
 *   lora: r = 512 exceeds in_features 256 of layers.0.self_attn.k_proj
 * Functions that can fail take an ft_err last, return 0 or the negative code, and keep the first
 * error: later ones do not overwrite it.  An ft_err may be NULL where only the code matters. */
#ifndef FT_CORE_ERR_H
#define FT_CORE_ERR_H
#include <stdarg.h>
#include "ft/plugin.h"

typedef struct {
    int code;         /* 0, or the FT_E* of the first error */
    char msg[2048];   /* without a newline at the end */
} ft_err;

/* Records the error unless one is there already; returns code. */
int ft_errf(ft_err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int ft_verrf(ft_err *e, int code, const char *fmt, va_list ap)
    __attribute__((format(printf, 3, 0)));

/* Puts "prefix: " before the message of a recorded error; returns its code. */
int ft_err_prefix(ft_err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Text of an errno value, thread-safe, valid until the thread's next call. */
const char *ft_errno_text(int errnum);
#endif
