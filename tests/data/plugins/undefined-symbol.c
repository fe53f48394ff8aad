/* undefined-symbol.c -- needs a function that nobody has. */
#define NAME "undefined-symbol"
#include "base.h"
void nobody_has_this(void);
FT_EXPORT void needs_it(void);
void needs_it(void) { nobody_has_this(); }
