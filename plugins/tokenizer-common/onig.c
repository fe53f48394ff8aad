/* onig.c -- a regular expression of Oniguruma, which HF tokenizers runs, in PCRE2's syntax.
 *
 * The two differ in what a tokenizer.json may well contain; each difference was looked up by
 * running HF tokenizers:
 *   \s \w \d \h      other sets of characters (PCRE2's \s has U+180E, its \w lacks marks; \h is
 *                    a hexadecimal digit in Oniguruma, whose \w has the superscripts and
 *                    fractions of Latin-1 outside of sets alone)
 *   \p{Han}          a script, not PCRE2's script extension
 *   \b               follows from \w
 *   \v \uHHHH        a vertical tab; a character
 *   (?m:             is PCRE2's (?s:
 *   a(?i)b|c         the option opens a group: a(?i:b|c)
 *   a{2}+ a{2}?      a quantified quantifier: (?:a{2})+, (?:a{2})?
 *   a{,2}            a{0,2}
 * ^ $ . are alike with PCRE2_MULTILINE.  Groups do not capture here.  What cannot be carried over
 * is a named error: back-references, nested sets and && in a set, POSIX brackets, \W in a set,
 * classes and letters with longer case foldings (ss, st, ff …) where case is ignored. */
#include "tok.h"

#define ONIG_SPACE \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}" \
    "\\x{202f}\\x{205f}\\x{3000}"
#define ONIG_NOT_SPACE \
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}" \
    "\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}" \
    "\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}"
#define ONIG_WORD_IN_SET \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}" \
    "\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}"
#define ONIG_WORD ONIG_WORD_IN_SET "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}"

enum { DEPTH = 250 };

typedef struct {
    const ft_host *h;
    const char *s;
    size_t n, at;
    ft_buf *out;
    size_t atom;          /* where the last element begins in out; SIZE_MAX: nothing to repeat */
    char before;          /* the letter before, where case is ignored; 0: none */
    int depth;
    struct { size_t from; int extra; bool caseless; } group[DEPTH + 1];
} reader;

static int refuse(reader *r, const char *what)
{
    return r->h->fail(r->h, FT_EUNSUP, "tokenizer: regular expression \"%.200s\": %s (at byte %zu) "
                      "is not supported", r->s, what, r->at);
}

static bool more(const reader *r) { return r->at < r->n; }
static char peek(const reader *r, size_t k) { return r->at + k < r->n ? r->s[r->at + k] : 0; }
static bool letter(char c) { return (c | 0x20) >= 'a' && (c | 0x20) <= 'z'; }
static bool digit(char c) { return c >= '0' && c <= '9'; }
static void begin_atom(reader *r) { r->atom = r->out->n; }

/* A literal character; everything ASCII that might mean something is escaped. */
static void put_char(reader *r, uint32_t c)
{
    char u[4];
    if (c < 0x80 && !letter((char)c) && !digit((char)c)) ft_buf_printf(r->out, "\\x{%x}", c);
    else ft_buf_add(r->out, u, tok_utf8_put(c, u));
}

/* Up to `most` hexadecimal digits; false when there is none or the value is no character. */
static bool hex(reader *r, int most, uint32_t *out)
{
    uint32_t v = 0;
    int k = 0;
    for (; k < most && more(r); k++, r->at++) {
        char c = r->s[r->at], low = (char)(c | 0x20);
        if (!digit(c) && !(low >= 'a' && low <= 'f')) break;
        v = v * 16 + (uint32_t)(digit(c) ? c - '0' : low - 'a' + 10);
    }
    *out = v;
    return k && v <= 0x10FFFF && !(v >= 0xD800 && v <= 0xDFFF);
}

/* An escape that stands for one character, r->at behind the backslash: 1, 0 (it does not), or an
 * error. */
static int escaped_char(reader *r, bool in_set, uint32_t *c)
{
    static const char from[] = "ntrfvae", to[] = "\n\t\r\f\v\a\x1B";
    char k = peek(r, 0);
    const char *p = k ? strchr(from, k) : NULL;
    if (!k) return refuse(r, "a backslash at the end");
    if (p) {
        *c = (uint32_t)to[p - from];
    } else if (in_set && k == 'b') {
        *c = '\b';
    } else if (k == 'x' || k == 'u') {
        bool braces = k == 'x' && peek(r, 1) == '{';
        r->at += braces ? 2 : 1;
        if (!hex(r, braces ? 6 : k == 'u' ? 4 : 2, c) || (!braces && k == 'x' && *c > 0x7F) ||
            (braces && peek(r, 0) != '}'))
            return refuse(r, "this character number");
        r->at += braces;
        return 1;
    } else if (letter(k) || digit(k)) {
        return 0;
    } else {
        uint32_t len;
        *c = tok_char(r->s, (uint32_t)r->at, &len);
        r->at += len;
        return 1;
    }
    r->at++;
    return 1;
}

static bool one_of(const char *const *list, const char *s, size_t n)
{
    for (; *list; list++) {
        if (strlen(*list) == n && !memcmp(*list, s, n)) return true;
    }
    return false;
}

/* \p{…}, r->at on the brace: categories and scripts by the names that both know. */
static int property(reader *r, bool negated)
{
    static const char *const categories[] = {
        "L", "Lu", "Ll", "Lt", "Lm", "Lo", "M", "Mn", "Mc", "Me", "N", "Nd", "Nl", "No", "P", "Pc",
        "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S", "Sm", "Sc", "Sk", "So", "Z", "Zs", "Zl", "Zp",
        "C", "Cc", "Cf", "Cn", "Co", "Cs", "Any", "Alphabetic", "White_Space", NULL };
    static const char *const scripts[] = {
        "Han", "Hiragana", "Katakana", "Hangul", "Latin", "Greek", "Cyrillic", "Arabic", "Hebrew",
        "Thai", "Devanagari", "Bengali", "Tamil", "Telugu", "Gujarati", "Gurmukhi", "Kannada",
        "Malayalam", "Sinhala", "Lao", "Tibetan", "Myanmar", "Georgian", "Ethiopic", "Khmer",
        "Mongolian", "Armenian", "Bopomofo", "Common", "Inherited", NULL };
    if (peek(r, 0) != '{') return refuse(r, "\\p without braces");
    r->at++;
    if (peek(r, 0) == '^') {
        negated = !negated;
        r->at++;
    }
    const char *name = r->s + r->at, *end = memchr(name, '}', r->n - r->at);
    size_t n = end ? (size_t)(end - name) : 0;
    bool script = one_of(scripts, name, n);
    if (!script && !one_of(categories, name, n)) return refuse(r, "this property");
    ft_buf_printf(r->out, "\\%c{%s%.*s}", negated ? 'P' : 'p', script ? "sc:" : "", (int)n, name);
    r->at += n + 1;
    return 0;
}

/* \s \w \d \h \p and their opposites, r->at on the letter: 1, 0 (something else), or an error.
 * In a set they are written as members of it. */
static int class_escape(reader *r, bool in_set)
{
    static const struct { char name; const char *alone, *in_set, *not_in_set; } known[] = {
        { 's', ONIG_SPACE, ONIG_SPACE, ONIG_NOT_SPACE },
        { 'w', ONIG_WORD, ONIG_WORD_IN_SET, NULL },
        { 'd', "\\p{Nd}", "\\p{Nd}", "\\P{Nd}" },
        { 'h', "0-9A-Fa-f", "0-9A-Fa-f", NULL },
    };
    char k = peek(r, 0);
    if (k == 'p' || k == 'P') {
        if (r->group[r->depth].caseless) return refuse(r, "a class where case is ignored");
        r->at++;
        int code = property(r, k == 'P');
        return code ? code : 1;
    }
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        bool not = k == (known[i].name & ~0x20);
        if (k != known[i].name && !not) continue;
        if (r->group[r->depth].caseless) return refuse(r, "a class where case is ignored");
        if (in_set && not && !known[i].not_in_set) return refuse(r, "this class in a set");
        if (in_set) ft_buf_puts(r->out, not ? known[i].not_in_set : known[i].in_set);
        else ft_buf_printf(r->out, "[%s%s]", not ? "^" : "", known[i].alone);
        r->at++;
        return 1;
    }
    return 0;
}

/* A member of a set that is one character, r->at on it: 1 and *c, 0 (a class, written), or an
 * error. */
static int set_char(reader *r, uint32_t *c)
{
    uint32_t len;
    if (r->s[r->at] == '[' || (r->s[r->at] == '&' && peek(r, 1) == '&'))
        return refuse(r, "a set in a set");
    if (r->s[r->at] != '\\') {
        *c = tok_char(r->s, (uint32_t)r->at, &len);
        r->at += len;
        return 1;
    }
    r->at++;
    int code = class_escape(r, true);
    if (code) return code < 0 ? code : 0;
    code = escaped_char(r, true, c);
    return code ? code : refuse(r, "this escape");
}

static int set(reader *r)
{
    bool first = true;
    begin_atom(r);
    ft_buf_putc(r->out, '[');
    if (peek(r, 1) == '^') {
        ft_buf_putc(r->out, '^');
        r->at++;
    }
    for (r->at++; more(r) && (first || r->s[r->at] != ']'); first = false) {
        uint32_t c, last;
        int code = set_char(r, &c);
        if (code < 0) return code;
        if (!code) continue;
        if (c > 0x7F && r->group[r->depth].caseless)
            return refuse(r, "this set where case is ignored");
        put_char(r, c);
        if (peek(r, 0) != '-' || peek(r, 1) == ']' || !peek(r, 1)) continue;
        r->at++;
        ft_buf_putc(r->out, '-');
        code = set_char(r, &last);
        if (code <= 0) return code ? code : refuse(r, "a range that ends in a class");
        put_char(r, last);
    }
    if (!more(r)) return refuse(r, "a set without its end");
    ft_buf_putc(r->out, ']');
    r->at++;
    return 0;
}

/* A literal character as an element of its own. */
static int literal(reader *r, uint32_t c)
{
    static const char *const folds[] = { "ss", "st", "ff", "fi", "fl", NULL };
    begin_atom(r);
    if (r->group[r->depth].caseless) {
        char pair[2] = { r->before, (char)(c | 0x20) };
        if (c > 0x7F || one_of(folds, pair, 2))
            return refuse(r, "these letters where case is ignored");
        r->before = letter((char)c) ? pair[1] : 0;
    }
    put_char(r, c);
    return 0;
}

static int escape(reader *r)
{
    uint32_t c;
    char k = peek(r, 1);
    r->at++;
    begin_atom(r);
    if (k == 'A' || k == 'z' || k == 'Z') {
        ft_buf_printf(r->out, "\\%c", k);
        r->at++;
        return 0;
    }
    if (k == 'b' || k == 'B') {
        ft_buf_puts(r->out, k == 'b' ? "(?:(?<=[" ONIG_WORD "])(?![" ONIG_WORD "])|(?<![" ONIG_WORD
                    "])(?=[" ONIG_WORD "]))" : "(?:(?<=[" ONIG_WORD "])(?=[" ONIG_WORD "])|(?<!["
                    ONIG_WORD "])(?![" ONIG_WORD "]))");
        r->at++;
        return 0;
    }
    int code = class_escape(r, false);
    if (code) return code < 0 ? code : 0;
    code = escaped_char(r, false, &c);
    if (code > 0) return literal(r, c);
    return code ? code : refuse(r, "this escape");
}

/* (?imx-imx) and (?imx-imx: with r->at behind the question mark. */
static int options(reader *r)
{
    bool off = false, caseless = r->group[r->depth - 1].caseless;
    ft_buf_puts(r->out, "(?");
    for (; more(r) && r->s[r->at] != ':' && r->s[r->at] != ')'; r->at++) {
        char c = r->s[r->at];
        if (c == '-') off = true;
        else if (c == 'i') caseless = !off;
        else if (c != 'm') return refuse(r, "this option");
        ft_buf_putc(r->out, c == 'm' ? 's' : c);
    }
    if (!more(r)) return refuse(r, "a group without its end");
    ft_buf_putc(r->out, ':');
    if (r->s[r->at++] == ':') {
        r->group[r->depth].caseless = caseless;
    } else { /* to the end of the group around it */
        r->depth--;
        r->group[r->depth].extra++;
        r->group[r->depth].caseless = caseless;
        r->atom = SIZE_MAX;
    }
    return 0;
}

static int open_group(reader *r)
{
    static const char *const kinds[] = { ":", "=", "!", ">", "<=", "<!" };
    if (r->depth >= DEPTH) return refuse(r, "nesting this deep");
    r->depth++;
    r->group[r->depth].from = r->out->n;
    r->group[r->depth].extra = 0;
    r->group[r->depth].caseless = r->group[r->depth - 1].caseless;
    r->atom = SIZE_MAX;
    r->at++;
    if (peek(r, 0) != '?') {
        ft_buf_puts(r->out, "(?:");
        return 0;
    }
    r->at++;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        size_t k = strlen(kinds[i]);
        if (r->n - r->at < k || memcmp(r->s + r->at, kinds[i], k)) continue;
        ft_buf_printf(r->out, "(?%s", kinds[i]);
        r->at += k;
        return 0;
    }
    return options(r);
}

static int close_group(reader *r)
{
    if (r->depth == 0) return refuse(r, "a ) without its (");
    for (int i = 0; i <= r->group[r->depth].extra; i++) ft_buf_putc(r->out, ')');
    r->atom = r->group[r->depth--].from;
    r->at++;
    return 0;
}

/* Puts "(?:" before the last element and ")" behind it. */
static void wrap(reader *r)
{
    size_t from = r->atom, n = r->out->n - from;
    ft_buf_grow(r->out, 4);
    if (r->out->oom) return;
    memmove(r->out->p + from + 3, r->out->p + from, n);
    memcpy(r->out->p + from, "(?:", 3);
    r->out->p[from + 3 + n] = ')';
}

/* {n} {n,} {n,m} {,m} with r->at on the brace: 1 when it is one and has been written, else 0. */
static int counted(reader *r)
{
    size_t i = r->at + 1, a = i, b, c;
    while (i < r->n && digit(r->s[i])) i++;
    b = i;
    bool comma = i < r->n && r->s[i] == ',';
    c = i += comma;
    while (i < r->n && digit(r->s[i])) i++;
    if (i >= r->n || r->s[i] != '}' || (a == b && c == i) || (!comma && a == b)) return 0;
    ft_buf_printf(r->out, "{%.*s%s", (int)(b - a), r->s + a, a == b ? "0" : "");
    ft_buf_printf(r->out, "%s%.*s}", comma ? "," : "", (int)(i - c), r->s + c);
    r->at = i + 1;
    if (peek(r, 0) == '+' || (peek(r, 0) == '?' && !comma)) wrap(r);
    return 1;
}

static int quantifier(reader *r)
{
    if (r->atom == SIZE_MAX) return refuse(r, "a quantifier with nothing to repeat");
    if (r->s[r->at] == '{') {
        if (!counted(r)) return literal(r, (unsigned char)r->s[r->at++]);
    } else {
        ft_buf_putc(r->out, r->s[r->at++]);
    }
    if (peek(r, 0) == '?' || peek(r, 0) == '+') ft_buf_putc(r->out, r->s[r->at++]);
    char next = peek(r, 0);
    if (next == '*' || next == '+' || next == '?') return refuse(r, "a third quantifier");
    return 0;
}

static int element(reader *r)
{
    uint32_t len, c = tok_char(r->s, (uint32_t)r->at, &len);
    if (c != '\\' && !letter((char)c)) r->before = 0;
    switch (c) {
    case '\\': return escape(r);
    case '[': return set(r);
    case '(': return open_group(r);
    case ')': return close_group(r);
    case '*': case '+': case '?': return quantifier(r);
    case '{':
        if (r->atom != SIZE_MAX) return quantifier(r);
        break;
    case '|': case '^':
        r->atom = SIZE_MAX;
        ft_buf_putc(r->out, (char)c);
        r->at++;
        return 0;
    case '$': case '.':
        begin_atom(r);
        ft_buf_putc(r->out, (char)c);
        r->at++;
        return 0;
    default: break;
    }
    r->at += len;
    return literal(r, c);
}

int tok_onig_translate(ft_buf *out, const ft_host *h, const char *s, size_t n)
{
    reader *r = calloc(1, sizeof *r);
    if (!r) return tok_no_memory(h);
    *r = (reader){ .h = h, .s = s, .n = n, .out = out, .atom = SIZE_MAX };
    int code = 0;
    while (more(r) && !code) code = element(r);
    if (!code && r->depth) code = refuse(r, "a ( without its )");
    for (int i = 0; i < r->group[0].extra; i++) ft_buf_putc(out, ')');
    free(r);
    if (!code && !out->n) ft_buf_puts(out, "(?:)");
    return !code && out->oom ? tok_no_memory(h) : code;
}
