/* bert.c -- normalizers that work character by character: the parts of BertNormalizer (clean_text,
 * handle_chinese_chars, strip_accents), StripAccents and Nmt of HF tokenizers.
 *
 * What is dropped belongs to the character before it, as in NormalizedString::filter; at the start
 * of a text to nothing.  HF asks tables of Unicode 8 and 9: `newer` are the characters of 14 that
 * are something else there, found by running HF on every character. */
#include <utf8proc.h>
#include "tok.h"

static bool is_chinese(uint32_t c)
{
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
           (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B81F) ||
           (c >= 0x2B920 && c <= 0x2CEAF) || (c >= 0xF900 && c <= 0xFAFF) ||
           (c >= 0x2F800 && c <= 0x2FA1F);
}

/* Control, format and private characters, but for the three that are blanks. */
static bool is_control(uint32_t c)
{
    static const tok_range newer[] = { { 0x890, 0x891 }, { 0x8E2, 0x8E2 }, { 0x110CD, 0x110CD },
                                       { 0x13430, 0x13438 } };
    if (c == '\t' || c == '\n' || c == '\r') return false;
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CO: return !tok_in_ranges(newer, sizeof newer / sizeof *newer, c);
    default: return false;
    }
}

/* A mark without width (Mn) of Unicode 8. */
static bool is_accent(uint32_t c)
{
    static const tok_range newer[] = {
        { 0x7FD, 0x7FD }, { 0x898, 0x8E1 }, { 0x9FE, 0x9FE }, { 0xAFA, 0xAFF }, { 0xB55, 0xB55 },
        { 0xC04, 0xC3C }, { 0xD00, 0xD00 }, { 0xD3B, 0xD3C }, { 0xD81, 0xD81 }, { 0xEBA, 0xEBA },
        { 0x180F, 0x1886 }, { 0x1ABF, 0x1ACE }, { 0x1DF6, 0x1DFB }, { 0xA82C, 0xA82C },
        { 0xA8C5, 0xA8C5 }, { 0xA8FF, 0xA8FF }, { 0xA9BD, 0xA9BD }, { 0x10D24, 0x10F85 },
        { 0x11070, 0x11074 }, { 0x110C2, 0x110C2 }, { 0x111C9, 0x111C9 }, { 0x111CF, 0x111CF },
        { 0x1123E, 0x1123E }, { 0x1133B, 0x1133B }, { 0x11438, 0x1145E }, { 0x1182F, 0x11EF4 },
        { 0x16F4F, 0x16F4F }, { 0x16FE4, 0x16FE4 }, { 0x1CF00, 0x1CF46 }, { 0x1E000, 0x1E2EF },
        { 0x1E944, 0x1E94A },
    };
    bool mark = utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_MN;
    return c == 0x1734 || (mark && !tok_in_ranges(newer, sizeof newer / sizeof *newer, c));
}

/* A mark (M) of Unicode 9 as StripAccents has it. */
static bool is_mark(uint32_t c)
{
    static const tok_range newer[] = {
        { 0x7FD, 0x7FD }, { 0x898, 0x8D3 }, { 0x9FE, 0x9FE }, { 0xAFA, 0xAFF }, { 0xB55, 0xB55 },
        { 0xC04, 0xC3C }, { 0xD00, 0xD00 }, { 0xD3B, 0xD3C }, { 0xD81, 0xD81 }, { 0xEBA, 0xEBA },
        { 0x1715, 0x1715 }, { 0x180F, 0x180F }, { 0x1ABF, 0x1ACE }, { 0x1CF7, 0x1CF7 },
        { 0x1DF6, 0x1DFA }, { 0xA82C, 0xA82C }, { 0xA8FF, 0xA8FF }, { 0x10D24, 0x10F85 },
        { 0x11070, 0x11074 }, { 0x110C2, 0x110C2 }, { 0x11145, 0x11146 }, { 0x111C9, 0x111C9 },
        { 0x111CE, 0x111CF }, { 0x1133B, 0x1133B }, { 0x1145E, 0x1145E }, { 0x1182C, 0x11A99 },
        { 0x11D31, 0x11EF6 }, { 0x16F4F, 0x16F4F }, { 0x16F7F, 0x16F87 }, { 0x16FE4, 0x16FF1 },
        { 0x1CF00, 0x1CF46 }, { 0x1E130, 0x1E2EF },
    };
    return c == 0x1CF2 || c == 0x1CF3 ||
           ((tok_class_of(c) & TOK_M) && !tok_in_ranges(newer, sizeof newer / sizeof *newer, c));
}

static bool nmt_drops(uint32_t c)
{
    return (c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F ||
           c == 0x9F;
}

static bool nmt_blanks(uint32_t c)
{
    return c == 9 || c == 10 || c == 12 || c == 13 || c == 0x1680 || (c >= 0x200B && c <= 0x200F) ||
           c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
}

/* What becomes of c: itself, a blank, or TOK_NONE: it goes. */
static uint32_t mapped(uint32_t c, tok_norm_kind kind)
{
    switch (kind) {
    case TOK_CLEAN:
        if (c == 0 || c == 0xFFFD || is_control(c)) return TOK_NONE;
        return tok_class_of(c) & TOK_WS ? ' ' : c;
    case TOK_DROP_MN:
        return is_accent(c) ? TOK_NONE : c;
    case TOK_DROP_M: return is_mark(c) ? TOK_NONE : c;
    case TOK_NMT: return nmt_drops(c) ? TOK_NONE : nmt_blanks(c) ? ' ' : c;
    default: return c;
    }
}

bool tok_bert_needed(const tok_text *x, tok_norm_kind kind)
{
    uint32_t len;
    for (uint32_t i = 0; i < x->n; i += len) {
        uint32_t c = tok_char(x->p, i, &len);
        if (c >= ' ' && c < 0x7F) continue;
        if (kind == TOK_CHINESE ? is_chinese(c) : mapped(c, kind) != c) return true;
    }
    return false;
}

/* A blank before and behind each ideograph. */
static void around_ideographs(ft_buf *b, const tok_text *x)
{
    uint32_t len;
    for (uint32_t i = 0; i < x->n; i += len) {
        uint32_t c = tok_char(x->p, i, &len);
        const tok_change three[] = { { ' ', 0 }, { c, 1 }, { ' ', 1 } }, one = { c, 0 };
        if (is_chinese(c)) ft_buf_add(b, three, sizeof three);
        else ft_buf_add(b, &one, sizeof one);
    }
}

/* Returns where the first character that stays begins. */
static uint32_t map_or_drop(ft_buf *b, const tok_text *x, tok_norm_kind kind)
{
    uint32_t len, start = x->n;
    for (uint32_t i = 0; i < x->n; i += len) {
        tok_change k = { mapped(tok_char(x->p, i, &len), kind), 0 };
        if (k.cp != TOK_NONE) {
            if (!b->n) start = i;
            ft_buf_add(b, &k, sizeof k);
        } else if (b->n) {
            tok_change *last = (tok_change *)(void *)(b->p + b->n) - 1;
            last->change--;
        }
    }
    return start;
}

int tok_bert(tok_enc *e, tok_build *o, const tok_text *x, tok_norm_kind kind)
{
    ft_buf *b = &e->changes;
    uint32_t start = 0;
    b->n = 0;
    if (kind == TOK_CHINESE) around_ideographs(b, x);
    else start = map_or_drop(b, x, kind);
    if (b->oom) return tok_no_memory(e->t->h);
    tok_text y = tok_cut(x, start, x->n);
    tok_build_changes(o, &y, (const tok_change *)(const void *)b->p, b->n / sizeof(tok_change));
    return o->oom ? tok_no_memory(e->t->h) : 0;
}
