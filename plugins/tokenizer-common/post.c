/* post.c -- what happens to tokens after the model: trim_offsets, and the special tokens that a
 * post-processor puts around a single sequence.
 *
 * trim_offsets counts in characters of the original text, as HF tokenizers' Python side sees it:
 * blanks at either end of a token's spelling are taken off its offsets, except for the one blank
 * that add_prefix_space may have put before the first token. */
#include "tok.h"

/* Blanks (or their byte-level spelling, U+0120) at the ends of a spelling. */
static void blanks(const char *s, uint32_t n, uint32_t *lead, uint32_t *trail)
{
    uint32_t len, run = 0;
    bool start = true;
    *lead = 0;
    for (uint32_t i = 0; i < n; i += len) {
        uint32_t c = tok_char(s, i, &len);
        bool blank = c == 0x120 || (tok_class_of(c) & TOK_WS);
        run = blank ? run + 1 : 0;
        start = start && blank;
        if (start) *lead = run;
    }
    *trail = run;
}

static uint32_t forward(const tok_enc *e, uint32_t at, uint32_t chars, uint32_t limit)
{
    while (chars-- && at < limit) {
        for (at++; at < limit && tok_inside(e->text.p[at]);) at++;
    }
    return at;
}

/* Goes back; not at all when the text has fewer characters before `at`. */
static uint32_t backward(const tok_enc *e, uint32_t at, uint32_t chars, uint32_t limit)
{
    uint32_t to = at;
    while (chars--) {
        if (!to) return at;
        for (to--; to && tok_inside(e->text.p[to]);) to--;
    }
    return to > limit ? to : limit;
}

void tok_trim_offsets(tok_enc *e)
{
    const tok *t = e->t;
    const uint32_t *note = (const uint32_t *)(const void *)e->trims.p;
    size_t n_note = e->trims.n / (3 * sizeof *note);
    for (size_t i = 0; i < e->n; i++) {
        uint32_t lead, trail;
        if (n_note && note[0] == i) { /* an added token: what stood there, not its spelling */
            lead = note[1];
            trail = note[2];
            note += 3;
            n_note--;
        } else {
            tok_str s = t->v.str[e->id[i]];
            blanks(t->v.text.p + s.at, s.len, &lead, &trail);
        }
        if (lead == 1 && t->trim_prefix && (i == 0 || e->lo[i] == 0)) lead = 0;
        if (lead) e->lo[i] = forward(e, e->lo[i], lead, e->hi[i]);
        if (trail) e->hi[i] = backward(e, e->hi[i], trail, e->lo[i]);
    }
}

int tok_add_specials(tok_enc *e)
{
    const tok *t = e->t;
    size_t b = t->n_before;
    if (!tok_emit_room(e, b + t->n_after + 1)) return tok_no_memory(t->h);
    memmove(e->id + b, e->id, e->n * sizeof *e->id);
    memmove(e->lo + b, e->lo, e->n * sizeof *e->lo);
    memmove(e->hi + b, e->hi, e->n * sizeof *e->hi);
    e->n += b;
    for (size_t i = 0; i < b; i++) {
        e->id[i] = t->around[i];
        e->lo[i] = e->hi[i] = 0;
    }
    for (size_t i = 0; i < t->n_after; i++) {
        int code = tok_emit(e, t->around[b + i], 0, 0);
        if (code) return code;
    }
    return 0;
}
