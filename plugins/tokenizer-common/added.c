/* added.c -- added tokens: found in the text before anything else is done to it.
 *
 * The rules of HF tokenizers' AddedVocabulary: leftmost, longest; single_word discards a match that
 * touches a word character (and goes on behind it); lstrip and rstrip take the white space around
 * into the token.  Ours in addition: a special token does not exist where data supplied any of its
 * bytes, unless the caller allows it, so that no row can forge a turn of the conversation. */
#include "tok.h"

int tok_trie_add(tok_trie *t, const ft_host *h, const char *s, uint32_t n, uint32_t value)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint8_t b = (uint8_t)s[i];
        uint32_t k = at ? t->node[at].child : t->first[b];
        while (k && t->node[k].byte != b) k = t->node[k].sibling;
        if (!k) {
            if (t->n + 1 >= t->cap) {
                uint32_t cap = t->cap ? 2 * t->cap : 64;
                tok_node *p = realloc(t->node, cap * sizeof *p);
                if (!p) return tok_no_memory(h);
                t->node = p;
                t->cap = cap;
            }
            if (!t->n) t->n = 1; /* node 0 is the root */
            k = t->n++;
            t->node[k] = (tok_node){ .byte = b };
            if (at) {
                t->node[k].sibling = t->node[at].child;
                t->node[at].child = k;
            } else {
                t->first[b] = k;
            }
        }
        at = k;
    }
    if (!n || t->node[at].value1)
        return h->fail(h, FT_EFORMAT, n ? "tokenizer: two added tokens are looked for as \"%.*s\""
                       : "tokenizer: an added token is looked for as the empty text%.*s",
                       (int)(n < 100 ? n : 100), s);
    t->node[at].value1 = value + 1;
    return 0;
}

bool tok_from_data(const tok_enc *e, uint32_t lo, uint32_t hi)
{
    const ft_text *in = e->in;
    size_t a = 0, b = in->n_span;
    while (a < b) { /* the first span that ends behind lo */
        size_t mid = a + (b - a) / 2;
        if (in->span[mid].end > lo) b = mid;
        else a = mid + 1;
    }
    for (; a < in->n_span && in->span[a].begin < hi; a++) {
        if (in->span[a].from == FT_FROM_DATA) return true;
    }
    return false;
}

/* The longest added token at x[at] that may stand there, or NULL; *end receives its end. */
static const tok_added *longest(tok_enc *e, const tok_text *x, const tok_trie *t, uint32_t at,
                                uint32_t *end)
{
    const tok_added *best = NULL;
    uint32_t k = t->first[(uint8_t)x->p[at]], i = at + 1, lo, hi;
    while (k) {
        if (t->node[k].value1) {
            const tok_added *a = &e->t->added[t->node[k].value1 - 1];
            bool barred = false;
            if (a->special && e->bar) {
                tok_origin(x, at, i, &lo, &hi);
                barred = tok_from_data(e, lo, hi);
            }
            if (!barred) {
                best = a;
                *end = i;
            }
        }
        if (i >= x->n) break;
        k = t->node[k].child;
        while (k && t->node[k].byte != (uint8_t)x->p[i]) k = t->node[k].sibling;
        i++;
    }
    return best;
}

static uint32_t char_before(const tok_text *x, uint32_t at, uint32_t *begin)
{
    uint32_t len;
    while (tok_inside(x->p[--at])) continue;
    *begin = at;
    return tok_char(x->p, at, &len);
}

static bool touches_word(const tok_text *x, uint32_t start, uint32_t stop)
{
    uint32_t at;
    return (start > 0 && tok_is_word(char_before(x, start, &at))) ||
           (stop < x->n && tok_is_word(tok_char(x->p, stop, &at)));
}

static uint32_t space_before(const tok_text *x, uint32_t at)
{
    uint32_t begin;
    while (at > 0 && (tok_class_of(char_before(x, at, &begin)) & TOK_WS)) at = begin;
    return at;
}

static uint32_t space_behind(const tok_text *x, uint32_t at)
{
    uint32_t len;
    while (at < x->n && (tok_class_of(tok_char(x->p, at, &len)) & TOK_WS)) at += len;
    return at;
}

/* Puts the token for x[start, stop) out, with what trim_offsets needs to know of its text: how
 * many characters at either end are blanks (or their byte-level spelling). */
static int emit(tok_enc *e, const tok_text *x, const tok_added *a, uint32_t start, uint32_t stop)
{
    uint32_t lo, hi, i, at, len, lead = 0, trail = 0;
    tok_origin(x, start, stop, &lo, &hi);
    if (!e->t->trim) return tok_emit(e, a->id, lo, hi);
    for (i = start; i < stop; i += len, lead++) {
        uint32_t c = tok_char(x->p, i, &len);
        if (c != 0x120 && !(tok_class_of(c) & TOK_WS)) break;
    }
    for (i = stop; i > start; i = at, trail++) {
        uint32_t c = char_before(x, i, &at);
        if (c != 0x120 && !(tok_class_of(c) & TOK_WS)) break;
    }
    uint32_t note[3] = { (uint32_t)e->n, lead, trail };
    ft_buf_add(&e->trims, note, sizeof note);
    return e->trims.oom ? tok_no_memory(e->t->h) : tok_emit(e, a->id, lo, hi);
}

int tok_find_added(tok_enc *e, const tok_text *x, int which,
                   int (*rest)(tok_enc *, const tok_text *))
{
    const tok_trie *t = &e->t->trie[which];
    uint32_t done = 0, i = 0, stop = 0;
    int code = 0;
    while (i < x->n && !code) {
        if (!t->n) break;
        while (i < x->n && !t->first[(uint8_t)x->p[i]]) i++;
        if (i >= x->n) break;
        const tok_added *a = longest(e, x, t, i, &stop);
        if (!a) {
            i++;
            continue;
        }
        uint32_t start = i;
        i = stop;
        if (a->single_word && touches_word(x, start, stop)) continue;
        if (a->lstrip) start = space_before(x, start);
        if (a->lstrip && start < done) start = done;
        if (a->rstrip) stop = space_behind(x, stop);
        if (done < start) {
            tok_text y = tok_cut(x, done, start);
            code = rest(e, &y);
        }
        if (!code) code = emit(e, x, a, start, stop);
        done = stop;
    }
    if (code || done == x->n) return code;
    tok_text y = tok_cut(x, done, x->n);
    return rest(e, &y);
}
