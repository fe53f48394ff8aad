/* unicode.c -- what tokenizers need to know of a character.
 *
 * Categories come from utf8proc (2.8: Unicode 15; equality with HF tokenizers is promised for the
 * characters of 14, which PCRE2 has as well).  HF takes its tables from several libraries of
 * different ages; where an older one decides (Punctuation: Unicode 8) the difference is a table
 * here.  Compared with HF on every character: tests/tools/tokenizer-diff.py --classes, with and
 * without --borders. */
#include <utf8proc.h>
#include "tok.h"

uint8_t tok_class_of(uint32_t cp)
{
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT: return TOK_L | TOK_UP;
    case UTF8PROC_CATEGORY_LL: return TOK_L | TOK_LOW;
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO: return TOK_L | TOK_UP | TOK_LOW;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME: return TOK_M | TOK_UP | TOK_LOW;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO: return TOK_N;
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO: return TOK_P;
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SC:
    case UTF8PROC_CATEGORY_SK:
    case UTF8PROC_CATEGORY_SO: return TOK_S;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP: return TOK_WS;
    default: return (cp >= 9 && cp <= 13) || cp == 0x85 ? TOK_WS : 0;
    }
}

bool tok_in_ranges(const tok_range *r, size_t n, uint32_t cp)
{
    for (size_t i = 0; i < n && r[i].from <= cp; i++) {
        if (cp <= r[i].to) return true;
    }
    return false;
}

bool tok_is_word(uint32_t cp)
{
    /* Alphabetic without being a letter, mark or number; and the joiners. */
    static const tok_range more[] = { { 0x200C, 0x200D }, { 0x24B6, 0x24E9 }, { 0x1F130, 0x1F149 },
                                  { 0x1F150, 0x1F169 }, { 0x1F170, 0x1F189 } };
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return true;
    default: break;
    }
    return (tok_class_of(cp) & (TOK_L | TOK_M)) ||
           tok_in_ranges(more, sizeof more / sizeof *more, cp);
}

bool tok_is_punct(uint32_t cp)
{
    static const tok_range newer[] = { /* P in Unicode 14, not yet in 8 */
        { 0x61D, 0x61D }, { 0x9FD, 0x9FD }, { 0xA76, 0xA76 }, { 0xC77, 0xC77 }, { 0xC84, 0xC84 },
        { 0x1B7D, 0x1B7E }, { 0x2E43, 0x2E4F }, { 0x2E52, 0x2E5D }, { 0x10EAD, 0x10EAD },
        { 0x10F55, 0x10F59 }, { 0x10F86, 0x10F89 }, { 0x1144B, 0x1144F }, { 0x1145A, 0x1145D },
        { 0x11660, 0x1166C }, { 0x116B9, 0x116B9 }, { 0x1183B, 0x1183B }, { 0x11944, 0x11946 },
        { 0x119E2, 0x119E2 }, { 0x11A3F, 0x11A46 }, { 0x11A9A, 0x11AA2 }, { 0x11C41, 0x11C45 },
        { 0x11C70, 0x11C71 }, { 0x11EF7, 0x11EF8 }, { 0x11FFF, 0x11FFF }, { 0x12FF1, 0x12FF2 },
        { 0x16E97, 0x16E9A }, { 0x16FE2, 0x16FE2 }, { 0x1E95E, 0x1E95F },
    };
    if (cp < 0x80) return (cp > 32 && cp < 48) || (cp > 57 && cp < 65) || (cp > 90 && cp < 97) ||
                          (cp > 122 && cp < 127);
    if (cp == 0x166D || cp == 0x111C9) return true; /* P in 8, no longer in 14 */
    return (tok_class_of(cp) & TOK_P) && !tok_in_ranges(newer, sizeof newer / sizeof *newer, cp);
}

/* GPT-2 spells printable bytes as themselves and the 68 others, in order, from U+0100 on. */
static bool plain_byte(uint32_t b)
{
    return (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF);
}

uint32_t tok_byte_char(uint8_t b)
{
    if (plain_byte(b)) return b;
    if (b <= 32) return 0x100u + b;
    return b == 0xAD ? 0x143u : 0x100u + 33 + (b - 127u);
}

int tok_char_byte(uint32_t cp)
{
    if (cp < 0x100) return plain_byte(cp) ? (int)cp : -1;
    if (cp <= 0x120) return (int)(cp - 0x100);
    if (cp < 0x143) return (int)(cp - 0x121 + 127);
    return cp == 0x143 ? 0xAD : -1;
}

size_t tok_utf8_put(uint32_t cp, char out[4])
{
    return (size_t)utf8proc_encode_char((utf8proc_int32_t)cp, (utf8proc_uint8_t *)out);
}

bool tok_utf8_valid(const char *s, size_t n, size_t *bad)
{
    size_t i = 0;
    while (i < n) {
        uint64_t w;
        if (n - i >= 8 && (memcpy(&w, s + i, 8), !(w & 0x8080808080808080u))) {
            i += 8;
        } else if (!((unsigned char)s[i] & 0x80)) {
            i++;
        } else {
            utf8proc_int32_t cp;
            utf8proc_ssize_t left = n - i > 4 ? 4 : (utf8proc_ssize_t)(n - i);
            utf8proc_ssize_t k = utf8proc_iterate((const utf8proc_uint8_t *)s + i, left, &cp);
            if (k <= 0) {
                *bad = i;
                return false;
            }
            i += (size_t)k;
        }
    }
    return true;
}
