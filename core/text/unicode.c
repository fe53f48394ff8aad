/* unicode.c -- see unicode.h.  Categories and one-to-one case mappings come from utf8proc; what
 * goes beyond them (Other_Lowercase and the like, SpecialCasing.txt without its conditions) from
 * case_table.h.  Checked in tests/unit/test_template.c: a digest over all characters of
 * Unicode 14, made by Python 3.11.  Left out: XID exceptions of identifiers (18 characters). */
#include "core/text/unicode.h"
#include <utf8proc.h>

typedef struct { uint32_t from, to; } range;
typedef struct { uint32_t c, form[3][3]; } special_case; /* upper, title, lower */
#include "core/text/case_table.h"

static const range spaces[] = {
    { 0x9, 0xd }, { 0x1c, 0x20 }, { 0x85, 0x85 }, { 0xa0, 0xa0 }, { 0x1680, 0x1680 },
    { 0x2000, 0x200a }, { 0x2028, 0x2029 }, { 0x202f, 0x202f }, { 0x205f, 0x205f },
    { 0x3000, 0x3000 }, { 0, 0 },
};
static const range newlines[] = {
    { 0xa, 0xd }, { 0x1c, 0x1e }, { 0x85, 0x85 }, { 0x2028, 0x2029 }, { 0, 0 },
};

/* r is sorted and ends with { 0, 0 }. */
static bool in_ranges(const range *r, uint32_t c)
{
    while (r->to && c > r->to) r++;
    return r->to && c >= r->from;
}

/* UTF8PROC_CATEGORY_* of c. */
static unsigned category(uint32_t c) { return (unsigned)utf8proc_category((utf8proc_int32_t)c); }

/* Whether the category of c is one of the bits in `set`. */
static bool is_of(uint32_t c, uint32_t set) { return set >> category(c) & 1; }

enum {
    LETTER = 1 << UTF8PROC_CATEGORY_LU | 1 << UTF8PROC_CATEGORY_LL | 1 << UTF8PROC_CATEGORY_LT |
             1 << UTF8PROC_CATEGORY_LM | 1 << UTF8PROC_CATEGORY_LO,
    NUMBER = 1 << UTF8PROC_CATEGORY_ND | 1 << UTF8PROC_CATEGORY_NL | 1 << UTF8PROC_CATEGORY_NO,
    IGNORABLE = 1 << UTF8PROC_CATEGORY_MN | 1 << UTF8PROC_CATEGORY_ME | 1 << UTF8PROC_CATEGORY_CF |
                1 << UTF8PROC_CATEGORY_LM | 1 << UTF8PROC_CATEGORY_SK,
    HIDDEN = 1 << UTF8PROC_CATEGORY_CC | 1 << UTF8PROC_CATEGORY_CF | 1 << UTF8PROC_CATEGORY_CS |
             1 << UTF8PROC_CATEGORY_CO | 1 << UTF8PROC_CATEGORY_CN | 1 << UTF8PROC_CATEGORY_ZL |
             1 << UTF8PROC_CATEGORY_ZP | 1 << UTF8PROC_CATEGORY_ZS,
    JOINED = 1 << UTF8PROC_CATEGORY_MN | 1 << UTF8PROC_CATEGORY_MC | 1 << UTF8PROC_CATEGORY_ND |
             1 << UTF8PROC_CATEGORY_PC,
};

/* The entry of c, or NULL. */
static const special_case *find_special(uint32_t c)
{
    size_t low = 0, n = sizeof special_cases / sizeof *special_cases;
    while (low < n) {
        size_t mid = low + (n - low) / 2;
        if (special_cases[mid].c == c) return &special_cases[mid];
        if (special_cases[mid].c < c) low = mid + 1;
        else n = mid;
    }
    return NULL;
}

size_t ftj_char_case(uint32_t c, int form, uint32_t out[3])
{
    const special_case *s = c < 0x80 ? NULL : find_special(c);
    if (s) {
        size_t n = 0;
        while (n < 3 && s->form[form][n]) {
            out[n] = s->form[form][n];
            n++;
        }
        return n;
    }
    utf8proc_int32_t x = (utf8proc_int32_t)c;
    x = form == FTJ_UPPER ? utf8proc_toupper(x) : form == FTJ_TITLE ? utf8proc_totitle(x)
                                                                   : utf8proc_tolower(x);
    out[0] = (uint32_t)x;
    return 1;
}

bool ftj_char_lower(uint32_t c)
{
    return is_of(c, 1u << UTF8PROC_CATEGORY_LL) || in_ranges(other_lower, c);
}

bool ftj_char_upper(uint32_t c)
{
    return is_of(c, 1u << UTF8PROC_CATEGORY_LU) || in_ranges(other_upper, c);
}

bool ftj_char_title(uint32_t c) { return is_of(c, 1u << UTF8PROC_CATEGORY_LT); }

bool ftj_char_cased(uint32_t c)
{
    return ftj_char_lower(c) || ftj_char_upper(c) || ftj_char_title(c);
}

bool ftj_char_ignorable(uint32_t c)
{
    if (ftj_char_cased(c)) return false;
    return is_of(c, IGNORABLE) || in_ranges(other_ignorable, c);
}

bool ftj_char_alpha(uint32_t c) { return is_of(c, LETTER); }
bool ftj_char_decimal(uint32_t c) { return is_of(c, 1u << UTF8PROC_CATEGORY_ND); }

bool ftj_char_digit(uint32_t c)
{
    return ftj_char_decimal(c) || in_ranges(other_digit, c);
}

bool ftj_char_numeric(uint32_t c)
{
    return is_of(c, NUMBER) || in_ranges(other_numeric, c);
}

bool ftj_char_space(uint32_t c) { return in_ranges(spaces, c); }
bool ftj_char_newline(uint32_t c) { return in_ranges(newlines, c); }
bool ftj_char_printable(uint32_t c) { return c == ' ' || !is_of(c, HIDDEN); }

bool ftj_char_name(uint32_t c, bool first)
{
    if (c == '_' || is_of(c, LETTER | 1u << UTF8PROC_CATEGORY_NL)) return true;
    return !first && is_of(c, JOINED);
}
