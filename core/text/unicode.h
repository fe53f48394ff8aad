/* unicode.h -- characters as Python's str methods see them. */
#ifndef FT_TEXT_UNICODE_H
#define FT_TEXT_UNICODE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FTJ_UPPER, FTJ_TITLE, FTJ_LOWER };

/* The full case mapping of c (FTJ_UPPER, …) into out; returns how many characters, 1 to 3.  The
 * final sigma is the caller's matter. */
size_t ftj_char_case(uint32_t c, int form, uint32_t out[3]);

bool ftj_char_lower(uint32_t c);     /* str.islower of one character */
bool ftj_char_upper(uint32_t c);
bool ftj_char_title(uint32_t c);     /* a titlecase letter such as U+01C5 */
bool ftj_char_cased(uint32_t c);
bool ftj_char_ignorable(uint32_t c); /* a final sigma looks through it */
bool ftj_char_alpha(uint32_t c);
bool ftj_char_decimal(uint32_t c);
bool ftj_char_digit(uint32_t c);
bool ftj_char_numeric(uint32_t c);
bool ftj_char_space(uint32_t c);
bool ftj_char_newline(uint32_t c);   /* where str.splitlines splits */
bool ftj_char_printable(uint32_t c); /* repr() leaves it as it is */
bool ftj_char_name(uint32_t c, bool first); /* may start, or go on with, an identifier */
#endif
