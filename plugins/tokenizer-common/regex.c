/* regex.c -- finding matches: literals, hand-written scanners, and PCRE2 for all other patterns.
 *
 * PCRE2 runs with UTF and UCP and its JIT.  A pattern comes from a file and may be hostile, so that
 * every search is bounded: match limit 400,000, heap 64 MiB, JIT stack 1 MiB, and CPU time in
 * proportion to the text that has been got through (a search that starts anew at each place may be
 * quadratic although each start stays below the limit).  A limit that is hit is a named error,
 * never other tokens, and comes within 50 ms; so does that of a pattern which cannot be compiled:
 * PCRE2 compiles to 64 KiB at most, and all expressions of a tokenizer have 16 KiB together.
 * Matches follow one another as in Oniguruma's iterator: an empty match right behind the last
 * match is passed over. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <time.h>
#include "tok.h"

#define OPTIONS (PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | \
                 PCRE2_USE_OFFSET_LIMIT)
enum { MATCH_LIMIT = 400000, HEAP_KIB = 65536, JIT_STACK = 1 << 20,
       STRIDE = 64,          /* places a search may start at before the clock is read */
       CLOCK_EVERY = 256,    /* matches between two readings */
       FREE_MS = 15, NS_A_BYTE = 2000 };

int tok_regex_compile(tok_pattern *p, const ft_host *h, const char *s, size_t n, bool fast)
{
    *p = (tok_pattern){ .s = s, .n = n };
    p->scan = fast ? tok_scan_known(s, n) : NULL;
    p->kind = p->scan ? TOK_SCAN : TOK_REGEX;
    if (p->scan) return 0;
    ft_buf b = { 0 };
    int code = tok_onig_translate(&b, h, s, n), number = 0;
    PCRE2_SIZE at = 0;
    if (!code) {
        p->code = pcre2_compile((PCRE2_SPTR)b.p, b.n, OPTIONS, &number, &at, NULL);
        if (!p->code) {
            PCRE2_UCHAR why[120];
            pcre2_get_error_message(number, why, sizeof why);
            code = h->fail(h, FT_EFORMAT, "tokenizer: regular expression \"%.200s\": %s", s,
                           (const char *)why);
        }
    }
    ft_buf_free(&b);
    if (p->code) pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE); /* without it: the interpreter */
    return code;
}

void tok_pattern_free(tok_pattern *p)
{
    pcre2_code_free(p->code);
    p->code = NULL;
}

static bool prepare(tok_enc *e)
{
    if (e->match) return true;
    e->match = pcre2_match_data_create(1, NULL);
    e->match_ctx = pcre2_match_context_create(NULL);
    e->jit = pcre2_jit_stack_create(32768, JIT_STACK, NULL);
    if (!e->match || !e->match_ctx || !e->jit) return false;
    pcre2_set_match_limit(e->match_ctx, MATCH_LIMIT);
    pcre2_set_heap_limit(e->match_ctx, HEAP_KIB);
    pcre2_jit_stack_assign(e->match_ctx, NULL, e->jit);
    return true;
}

void tok_regex_done(tok_enc *e)
{
    pcre2_match_data_free(e->match);
    pcre2_match_context_free(e->match_ctx);
    pcre2_jit_stack_free(e->jit);
}

static uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* False when the regular expressions have taken more time than the text behind them is worth. */
static bool in_time(tok_enc *e)
{
    uint64_t now = cpu_ns();
    if (!e->cpu_start) e->cpu_start = now;
    return now - e->cpu_start <= FREE_MS * 1000000ull + e->cpu_bytes * NS_A_BYTE;
}

static int gave_up(tok_enc *e, const tok_pattern *p, const char *why)
{
    const ft_host *h = e->t->h;
    return h->fail(h, FT_EFORMAT, "tokenizer: regular expression \"%.200s\" gave up on this text: "
                   "%s; it backtracks too much", p->s, why);
}

/* PCRE2's first match at or after `at`: 1, 0 or an error. */
static int search(tok_enc *e, const tok_matches *m, uint32_t at, uint32_t *b, uint32_t *end)
{
    if (!prepare(e)) return tok_no_memory(e->t->h);
    if (e->cpu_count++ % CLOCK_EVERY == 0 && !in_time(e)) return gave_up(e, m->p, "time");
    for (;;) {
        uint32_t stop = m->n - at > STRIDE ? at + STRIDE : m->n;
        pcre2_set_offset_limit(e->match_ctx, stop);
        int rc = pcre2_match(m->p->code, (PCRE2_SPTR)m->s, m->n, at, PCRE2_NO_UTF_CHECK, e->match,
                             e->match_ctx);
        if (rc >= 0) {
            const PCRE2_SIZE *o = pcre2_get_ovector_pointer(e->match);
            *b = (uint32_t)o[0];
            *end = (uint32_t)o[1];
            if (*end > at) e->cpu_bytes += *end - at;
            return 1;
        }
        if (rc != PCRE2_ERROR_NOMATCH) {
            PCRE2_UCHAR why[120];
            pcre2_get_error_message(rc, why, sizeof why);
            return gave_up(e, m->p, (const char *)why);
        }
        if (stop >= m->n) return 0;
        e->cpu_bytes += stop - at;
        if (!in_time(e)) return gave_up(e, m->p, "time");
        for (at = stop; at < m->n && tok_inside(m->s[at]);) at++;
    }
}

/* One match at or after `at`, by whatever the pattern is. */
static int find(tok_enc *e, const tok_matches *m, uint32_t at, uint32_t *b, uint32_t *end)
{
    const tok_pattern *p = m->p;
    if (p->kind == TOK_SCAN) {
        *b = at;
        return p->scan(e->t->cls, m->s, m->n, b, end);
    }
    if (p->kind == TOK_REGEX) return search(e, m, at, b, end);
    const char *q = memmem(m->s + at, m->n - at, p->s, p->n);
    if (!q) return 0;
    *b = (uint32_t)(q - m->s);
    *end = *b + (uint32_t)p->n;
    return 1;
}

int tok_next_match(tok_enc *e, tok_matches *m, uint32_t *b, uint32_t *end)
{
    while (m->at <= m->n) {
        int found = find(e, m, m->at, b, end);
        if (found <= 0) return found;
        if (*b == *end && m->last == *end) {
            uint32_t len = 1;
            if (m->at < m->n) tok_char(m->s, m->at, &len);
            m->at += len;
            continue;
        }
        m->at = m->last = *end;
        return 1;
    }
    return 0;
}
