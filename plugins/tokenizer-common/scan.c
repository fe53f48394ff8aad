/* scan.c -- the regular expressions of well-known tokenizers, by hand.
 *
 * Each scanner finds the first match at or after *b, exactly as the expression would by
 * leftmost, first-alternative, greedy matching; the expressions stand above them.  They are
 * chosen by the exact text of the expression, and are tested against PCRE2 running that text on
 * random strings (tokenizer-bpe_test.c).  \s is White_Space, as Oniguruma has it. */
#include "tok.h"

/* Class bits and length of the character at s[i]. */
static inline uint8_t class_at(const uint8_t *cls, const char *s, uint32_t i, uint32_t *len)
{
    uint32_t c = tok_char(s, i, len);
    return c < 0x10000 ? cls[c] : tok_class_of(c);
}

/* The end of the run from i on of characters that have one of the bits `in`. */
static inline uint32_t run_of(const uint8_t *cls, const char *s, uint32_t n, uint32_t i, uint8_t in)
{
    uint32_t len;
    while (i < n && (class_at(cls, s, i, &len) & in)) i += len;
    return i;
}

/* The same for characters that have none of the bits. */
static inline uint32_t run_without(const uint8_t *cls, const char *s, uint32_t n, uint32_t i,
                                   uint8_t out)
{
    uint32_t len;
    while (i < n && !(class_at(cls, s, i, &len) & out)) i += len;
    return i;
}

static inline bool newline_at(const char *s, uint32_t n, uint32_t i)
{
    return i < n && (s[i] == '\r' || s[i] == '\n');
}

/* \s+(?!\S)|\s+ with white space at i: all of a run, but the last character is left to a word
 * that follows.  With `lines`, \s*[\r\n]+ comes first: up to the last line end of the run. */
static uint32_t white_space(const uint8_t *cls, const char *s, uint32_t n, uint32_t i, bool lines)
{
    uint32_t last = i, at = i, line = 0, len;
    while (at < n && (class_at(cls, s, at, &len) & TOK_WS)) {
        if (newline_at(s, n, at)) line = at + 1;
        last = at;
        at += len;
    }
    if (lines && line) return line;
    return at < n && last > i ? last : at;
}

/* Length of 's 't 're 've 'm 'll 'd at i, or 0. */
static uint32_t contraction(const char *s, uint32_t n, uint32_t i)
{
    char a = i + 1 < n ? s[i + 1] : 0, b = i + 2 < n ? s[i + 2] : 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

/* The same in any case; s has a third form, U+017F. */
static uint32_t contraction_any_case(const char *s, uint32_t n, uint32_t i)
{
    char low[3] = { s[i] };
    if (i + 2 < n && s[i + 1] == '\xC5' && s[i + 2] == '\xBF') return 3;
    for (uint32_t k = 1; k < 3 && i + k < n; k++) {
        char c = s[i + k];
        low[k] = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
    }
    return contraction(low, n - i < 3 ? n - i : 3, 0);
}

/* GPT-2: 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
bool tok_scan_gpt2(const uint8_t *cls, const char *s, uint32_t n, uint32_t *b, uint32_t *e)
{
    uint32_t i = *b, len, k;
    if (i >= n) return false;
    if (s[i] == '\'' && (k = contraction(s, n, i))) {
        *e = i + k;
        return true;
    }
    uint32_t j = i + (s[i] == ' ');
    uint8_t c = j < n ? class_at(cls, s, j, &len) : TOK_WS;
    if (c & TOK_WS) *e = white_space(cls, s, n, i, false);
    else if (c & TOK_L) *e = run_of(cls, s, n, j + len, TOK_L);
    else if (c & TOK_N) *e = run_of(cls, s, n, j + len, TOK_N);
    else *e = run_without(cls, s, n, j + len, TOK_WS | TOK_L | TOK_N);
    return true;
}

/* Up to `most` characters \p{N} from i on. */
static uint32_t digits(const uint8_t *cls, const char *s, uint32_t n, uint32_t i, int most)
{
    uint32_t len;
    while (i < n && most-- > 0 && (class_at(cls, s, i, &len) & TOK_N)) i += len;
    return i;
}

/* What the expressions of Llama 3, Qwen2 and o200k share behind their words, at i, where the
 * character has class c and `len` bytes:
 *   \p{N}{1,most}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
 * with `slash`: [\r\n/]* instead. */
static uint32_t not_a_word(const uint8_t *cls, const char *s, uint32_t n, uint32_t i, uint8_t c,
                           uint32_t len, int most, bool slash)
{
    if (c & TOK_N) return digits(cls, s, n, i, most);
    uint32_t j = i + (s[i] == ' '), next;
    if (j > i && j < n && !(class_at(cls, s, j, &next) & (TOK_WS | TOK_L | TOK_N))) len += next;
    else if (c & TOK_WS) return white_space(cls, s, n, i, true);
    j = run_without(cls, s, n, i + len, TOK_WS | TOK_L | TOK_N);
    while (newline_at(s, n, j) || (slash && j < n && s[j] == '/')) j++;
    return j;
}

/* Llama 3 (most 3) and Qwen2 (most 1):
 *   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+| and not_a_word */
static inline bool llama3(const uint8_t *cls, const char *s, uint32_t n, uint32_t *b, uint32_t *e,
                          int most)
{
    uint32_t i = *b, len, next, k;
    if (i >= n) return false;
    if (s[i] == '\'' && (k = contraction_any_case(s, n, i))) {
        *e = i + k;
        return true;
    }
    uint8_t c = class_at(cls, s, i, &len);
    if (c & TOK_L) {
        *e = run_of(cls, s, n, i + len, TOK_L);
    } else if (!(c & TOK_N) && !newline_at(s, n, i) && i + len < n &&
               (class_at(cls, s, i + len, &next) & TOK_L)) {
        *e = run_of(cls, s, n, i + len + next, TOK_L);
    } else {
        *e = not_a_word(cls, s, n, i, c, len, most, false);
    }
    return true;
}

static bool scan_llama3(const uint8_t *cls, const char *s, uint32_t n, uint32_t *b, uint32_t *e)
{
    return llama3(cls, s, n, b, e, 3);
}

static bool scan_qwen2(const uint8_t *cls, const char *s, uint32_t n, uint32_t *b, uint32_t *e)
{
    return llama3(cls, s, n, b, e, 1);
}

/* [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+ from i on; 0: no match.  When the
 * front has swallowed all, it gives back up to its last character that may also be in the rest. */
static uint32_t word_with_rest(const uint8_t *cls, const char *s, uint32_t n, uint32_t i)
{
    uint32_t at = i, back = 0, len;
    uint8_t c;
    while (at < n && ((c = class_at(cls, s, at, &len)) & TOK_UP)) {
        at += len;
        if (c & TOK_LOW) back = at;
    }
    uint32_t end = run_of(cls, s, n, at, TOK_LOW);
    return end > at ? end : back;
}

/* [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]* from i on; 0: no match. */
static uint32_t word_with_front(const uint8_t *cls, const char *s, uint32_t n, uint32_t i)
{
    uint32_t at = run_of(cls, s, n, i, TOK_UP);
    return at > i ? run_of(cls, s, n, at, TOK_LOW) : 0;
}

/* o200k: [^\r\n\p{L}\p{N}]?FRONT*REST+CON?|[^\r\n\p{L}\p{N}]?FRONT+REST*CON?|
 * and not_a_word with a slash; Tekken: the same without contractions, single digits. */
static inline bool o200k(const uint8_t *cls, const char *s, uint32_t n, uint32_t *b, uint32_t *e,
                         int most, bool contractions)
{
    uint32_t i = *b, len, end = 0;
    if (i >= n) return false;
    uint8_t c = class_at(cls, s, i, &len);
    bool lead = !(c & (TOK_L | TOK_N)) && !newline_at(s, n, i) && i + len < n;
    if (lead) end = word_with_rest(cls, s, n, i + len);
    if (!end && (c & (TOK_L | TOK_M))) end = word_with_rest(cls, s, n, i);
    if (!end && lead) end = word_with_front(cls, s, n, i + len);
    if (!end && (c & (TOK_L | TOK_M))) end = word_with_front(cls, s, n, i);
    if (!end) *e = not_a_word(cls, s, n, i, c, len, most, true);
    else if (contractions && end < n && s[end] == '\'') *e = end + contraction_any_case(s, n, end);
    else *e = end;
    return true;
}

static bool scan_o200k(const uint8_t *cls, const char *s, uint32_t n, uint32_t *b, uint32_t *e)
{
    return o200k(cls, s, n, b, e, 3, true);
}

static bool scan_tekken(const uint8_t *cls, const char *s, uint32_t n, uint32_t *b, uint32_t *e)
{
    return o200k(cls, s, n, b, e, 1, false);
}

static bool ascii_letter(char c) { return (c | 0x20) >= 'a' && (c | 0x20) <= 'z'; }

/* DeepSeek-V3's third expression at i; returns the end, or 0 where nothing matches:
 *   [ASCII punctuation][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|
 *   \s*[\r\n]+|\s+(?!\S)|\s+ */
static uint32_t deepseek_at(const uint8_t *cls, const char *s, uint32_t n, uint32_t i)
{
    uint32_t len, next, j;
    uint8_t c = class_at(cls, s, i, &len);
    bool ascii = (unsigned char)s[i] < 0x80;
    if (ascii && (c & (TOK_P | TOK_S)) && i + 1 < n && ascii_letter(s[i + 1])) {
        for (j = i + 2; j < n && ascii_letter(s[j]); j++) continue;
        return j;
    }
    if (c & (TOK_L | TOK_M)) return run_of(cls, s, n, i, TOK_L | TOK_M);
    if (!(c & (TOK_P | TOK_S)) && !newline_at(s, n, i) && i + len < n &&
        (class_at(cls, s, i + len, &next) & (TOK_L | TOK_M)))
        return run_of(cls, s, n, i + len, TOK_L | TOK_M);
    j = run_of(cls, s, n, i + (s[i] == ' '), TOK_P | TOK_S);
    if (j > i + (s[i] == ' ')) {
        while (newline_at(s, n, j)) j++;
        return j;
    }
    return c & TOK_WS ? white_space(cls, s, n, i, true) : 0;
}

static bool scan_deepseek(const uint8_t *cls, const char *s, uint32_t n, uint32_t *b, uint32_t *e)
{
    uint32_t len;
    for (uint32_t i = *b; i < n; i += len) {
        uint32_t end = deepseek_at(cls, s, n, i);
        if (end) {
            *b = i;
            *e = end;
            return true;
        }
        tok_char(s, i, &len);
    }
    return false;
}

/* [一-龥぀-ゟ゠-ヿ]+ */
static bool scan_cjk(const uint8_t *cls, const char *s, uint32_t n, uint32_t *b, uint32_t *e)
{
    uint32_t i = *b, len;
    bool open = false;
    (void)cls;
    for (; i < n; i += len) {
        uint32_t c = tok_char(s, i, &len);
        bool in = (c >= 0x4E00 && c <= 0x9FA5) || (c >= 0x3040 && c <= 0x30FF);
        if (open && !in) break;
        if (!open && in) *b = i;
        open = open || in;
    }
    *e = i;
    return open;
}

/* The first character, from *b on, whose class has the bit `in`. */
static inline bool one_of(const uint8_t *cls, const char *s, uint32_t n, uint32_t *b, uint32_t *e,
                          uint8_t in)
{
    uint32_t len = 0, i = *b;
    while (i < n && !(class_at(cls, s, i, &len) & in)) i += len;
    *b = i;
    *e = i + len;
    return i < n;
}

/* \p{N}{1,3} */
static bool scan_digits3(const uint8_t *cls, const char *s, uint32_t n, uint32_t *b, uint32_t *e)
{
    if (!one_of(cls, s, n, b, e, TOK_N)) return false;
    *e = digits(cls, s, n, *b, 3);
    return true;
}

bool tok_scan_digit(const uint8_t *cls, const char *s, uint32_t n, uint32_t *b, uint32_t *e)
{
    return one_of(cls, s, n, b, e, TOK_N);
}

bool tok_scan_space(const uint8_t *cls, const char *s, uint32_t n, uint32_t *b, uint32_t *e)
{
    return one_of(cls, s, n, b, e, TOK_WS);
}

bool tok_scan_punct(const uint8_t *cls, const char *s, uint32_t n, uint32_t *b, uint32_t *e)
{
    uint32_t len = 0, i = *b;
    (void)cls;
    while (i < n && !tok_is_punct(tok_char(s, i, &len))) i += len;
    *b = i;
    *e = i + len;
    return i < n;
}

/* \w+|[^\w\s]+ in Rust's sense (the Whitespace pre-tokenizer) */
bool tok_scan_word(const uint8_t *cls, const char *s, uint32_t n, uint32_t *b, uint32_t *e)
{
    uint32_t len, i = run_of(cls, s, n, *b, TOK_WS);
    *b = i;
    if (i >= n) return false;
    bool word = tok_is_word(tok_char(s, i, &len));
    for (i += len; i < n; i += len) {
        if (class_at(cls, s, i, &len) & TOK_WS) break;
        if (tok_is_word(tok_char(s, i, &len)) != word) break;
    }
    *e = i;
    return true;
}

/* \u2581*[^\u2581]+ or a last run of \u2581: a word of SentencePiece with its blanks. */
bool tok_scan_blanks(const uint8_t *cls, const char *s, uint32_t n, uint32_t *b, uint32_t *e)
{
    uint32_t i = *b;
    (void)cls;
    if (i >= n) return false;
    while (n - i >= 3 && !memcmp(s + i, "\xE2\x96\x81", 3)) i += 3;
    for (i += i < n; i < n && (s[i] != '\xE2' || memcmp(s + i, "\xE2\x96\x81", 3)); i++) continue;
    *e = i;
    return true;
}

tok_scan tok_scan_known(const char *pattern, size_t n)
{
    static const struct { const char *pattern; tok_scan scan; } known[] = {
        { TOK_RE_GPT2, tok_scan_gpt2 },
        { TOK_RE_LLAMA3, scan_llama3 },
        { TOK_RE_QWEN2, scan_qwen2 },
        { TOK_RE_O200K, scan_o200k },
        { TOK_RE_TEKKEN, scan_tekken },
        { TOK_RE_DEEPSEEK, scan_deepseek },
        { TOK_RE_CJK, scan_cjk },
        { "\\p{N}{1,3}", scan_digits3 },
        { "\\p{N}", tok_scan_digit },
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strlen(known[i].pattern) == n && !memcmp(known[i].pattern, pattern, n))
            return known[i].scan;
    }
    return NULL;
}
