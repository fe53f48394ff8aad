/* text.c -- see filter.h. */
#include <string.h>
#include "filter.h"

/* The next character of UTF-8 that is known to be valid; *i moves behind it. */
static uint32_t next_char(const char *p, size_t n, size_t *i)
{
    unsigned char c = (unsigned char)p[(*i)++];
    uint32_t v = c < 0x80 ? c : c < 0xE0 ? c & 0x1Fu : c < 0xF0 ? c & 0x0Fu : c & 0x07u;
    while (*i < n && ((unsigned char)p[*i] & 0xC0) == 0x80)
        v = v << 6 | ((unsigned char)p[(*i)++] & 0x3Fu);
    return v;
}

size_t filter_chars(const char *p, size_t n)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++) k += ((unsigned char)p[i] & 0xC0) != 0x80;
    return k;
}

/* ---- scripts --------------------------------------------------------------------------------- */

/* Blocks of Unicode that hold a script's letters (and little else). */
static const struct { const char *name; uint32_t first, last;
} scripts[] = {
    { "latin", 'A', 'Z' },          { "latin", 'a', 'z' },        { "latin", 0xC0, 0xD6 },
    { "latin", 0xD8, 0xF6 },        { "latin", 0xF8, 0x24F },     { "latin", 0x1E00, 0x1EFF },
    { "greek", 0x370, 0x3FF },      { "greek", 0x1F00, 0x1FFF },  { "cyrillic", 0x400, 0x52F },
    { "armenian", 0x531, 0x58A },   { "hebrew", 0x5D0, 0x5F4 },   { "arabic", 0x620, 0x64A },
    { "arabic", 0x66E, 0x6D3 },     { "arabic", 0x750, 0x77F },   { "devanagari", 0x900, 0x97F },
    { "bengali", 0x980, 0x9FF },    { "gurmukhi", 0xA00, 0xA7F }, { "gujarati", 0xA80, 0xAFF },
    { "tamil", 0xB80, 0xBFF },      { "telugu", 0xC00, 0xC7F },   { "kannada", 0xC80, 0xCFF },
    { "malayalam", 0xD00, 0xD7F },  { "thai", 0xE01, 0xE4E },     { "georgian", 0x10A0, 0x10FF },
    { "hangul", 0x1100, 0x11FF },   { "hangul", 0x3131, 0x318E }, { "hangul", 0xAC00, 0xD7A3 },
    { "ethiopic", 0x1200, 0x137F }, { "khmer", 0x1780, 0x17DC },  { "kana", 0x3041, 0x30FF },
    { "kana", 0xFF66, 0xFF9F },     { "han", 0x3400, 0x4DBF },    { "han", 0x4E00, 0x9FFF },
    { "han", 0xF900, 0xFAFF },      { "han", 0x20000, 0x323AF },
};
enum { N_SCRIPTS = sizeof scripts / sizeof *scripts };

const char filter_scripts[] =
    "latin, greek, cyrillic, armenian, hebrew, arabic, devanagari, bengali, gurmukhi, gujarati, "
    "tamil, "
    "telugu, kannada, malayalam, thai, georgian, hangul, ethiopic, khmer, kana, han";

bool filter_script(const char *name)
{
    for (size_t i = 0; i < N_SCRIPTS; i++) {
        if (!strcmp(scripts[i].name, name)) return true;
    }
    return false;
}

static const char *script_of(uint32_t c)
{
    for (size_t i = 0; i < N_SCRIPTS; i++) {
        if (c >= scripts[i].first && c <= scripts[i].last) return scripts[i].name;
    }
    return NULL;
}

double filter_script_share(const char *p, size_t n, const ft_list *wanted)
{
    size_t letters = 0, good = 0;
    for (size_t i = 0; i < n;) {
        const char *name = script_of(next_char(p, n, &i));
        letters += name != NULL;
        for (size_t k = 0; name && k < wanted->n; k++) {
            if (strcmp(wanted->v[k], name)) continue;
            good++;
            break;
        }
    }
    return letters ? (double)good / (double)letters : 1;
}

/* ---- repetition ------------------------------------------------------------------------------ */

static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static bool is_blank(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

/* Hashes of the words, or of the characters other than blanks, into *out. */
static void units(ft_buf *out, const char *p, size_t n, bool words)
{
    out->n = 0;
    for (size_t i = 0; i < n;) {
        uint64_t h = 1469598103934665603u;
        if (is_blank(p[i])) {
            i++;
            continue;
        }
        if (!words) h = next_char(p, n, &i);
        else for (; i < n && !is_blank(p[i]); i++) h = (h ^ (unsigned char)p[i]) * 1099511628211u;
        h = mix(h);
        ft_buf_add(out, &h, sizeof h);
    }
}

/* Part of the runs of `run` units that stood before. */
static double repeated(ft_buf *b, size_t run)
{
    size_t n = b->n / sizeof(uint64_t), runs = n - run + 1, cap = 16, again = 0, at = b->n;
    while (cap < runs * 2) cap *= 2;
    if (!ft_buf_grow(b, cap * sizeof(uint64_t))) return 0;
    const uint64_t *u = (const uint64_t *)(const void *)b->p;
    uint64_t *seen = (uint64_t *)(void *)(b->p + at);
    for (size_t i = 0; i < runs; i++) {
        uint64_t x = 1;
        for (size_t k = 0; k < run; k++) x = mix(x * 31 + u[i + k]);
        x += !x;
        size_t s = (size_t)x & (cap - 1);
        while (seen[s] && seen[s] != x) s = (s + 1) & (cap - 1);
        again += seen[s] == x;
        seen[s] = x;
    }
    return (double)again / (double)runs;
}

double filter_repetition(const char *p, size_t n, ft_buf *grams)
{
    enum { WORDS = 20, WORD_RUN = 5, CHARS = 60, CHAR_RUN = 10 };
    units(grams, p, n, true);
    if (grams->n / sizeof(uint64_t) >= WORDS) return repeated(grams, WORD_RUN);
    units(grams, p, n, false);
    return grams->n / sizeof(uint64_t) >= CHARS ? repeated(grams, CHAR_RUN) : 0;
}

/* ---- refusals, broken text ------------------------------------------------------------------- */

/* The beginning of a reply in small letters, with one kind of apostrophe and single blanks. */
static void plain_start(char *out, size_t size, const char *p, size_t n)
{
    size_t k = 0;
    for (size_t i = 0; i < n && k + 1 < size; i++) {
        char c = p[i] >= 'A' && p[i] <= 'Z' ? (char)(p[i] + 32) : is_blank(p[i]) ? ' ' : p[i];
        if (n - i >= 3 && !memcmp(p + i, "\xE2\x80\x99", 3)) c = '\'', i += 2;
        if (c == ' ' && (k == 0 || out[k - 1] == ' ')) continue;
        out[k++] = c ? c : ' ';
    }
    out[k] = 0;
}

bool filter_refuses(const char *p, size_t n, const ft_list *phrases)
{
    static const char *const usual[] = {
        "i'm sorry, but i can",
        "i am sorry, but i can",
        "sorry, but i can",
        "i cannot assist",
        "i can't assist",
        "i cannot help with",
        "i can't help with",
        "i cannot fulfill",
        "i can't fulfill",
        "i cannot provide",
        "i can't provide",
        "i'm unable to",
        "i am unable to",
        "i'm not able to",
        "i am not able to",
        "as an ai language model",
        "as a large language model",
        "i apologize, but i can",
        "i must decline",
        "i won't be able to",
    };
    char start[201], other[201];
    plain_start(start, sizeof start, p, n);
    for (size_t i = 0; !phrases->n && i < sizeof usual / sizeof *usual; i++) {
        if (strstr(start, usual[i])) return true;
    }
    for (size_t i = 0; i < phrases->n; i++) {
        plain_start(other, sizeof other, phrases->v[i], strlen(phrases->v[i]));
        if (*other && strstr(start, other)) return true;
    }
    return false;
}

bool filter_broken(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];
        if ((c < 0x20 && c != '\n' && c != '\t' && c != '\r') || c == 0x7F) return true;
        if (c == 0xEF && n - i >= 3 && !memcmp(p + i, "\xEF\xBF\xBD", 3)) return true;
    }
    return false;
}
