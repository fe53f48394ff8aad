/* tables.c -- what is worked out once, when vocabulary and steps are known, so that encoding is
 * fast: the id of every byte or character, and which short cuts this tokenizer allows without any
 * token being another. */
#include "bpe.h"

/* Whether words can stay bytes: spelling them as characters is the last thing that happens.
 * *complete: every byte that UTF-8 may have has a token. */
static bool stays_bytes(tok *t, bool *complete)
{
    *complete = true;
    if (!t->n_pre || t->pre[t->n_pre - 1].kind != TOK_BYTES) return false;
    if (*t->model->prefix || *t->model->suffix) return false;
    for (int b = 0; b < 256; b++) {
        char u[4];
        size_t n = tok_utf8_put(tok_byte_char((uint8_t)b), u);
        t->model->byte_id[b] = tok_vocab_find(&t->v, u, n, TOK_MODEL);
        bool possible = b != 0xC0 && b != 0xC1 && b < 0xF5;
        if (possible && t->model->byte_id[b] == TOK_NONE) *complete = false;
    }
    return true;
}

static int character_tables(tok *t)
{
    uint32_t *char_id = t->model->char_id = malloc(0x10000 * sizeof *char_id);
    if (!char_id) return tok_no_memory(t->h);
    memset(char_id, 0xFF, 0x10000 * sizeof *char_id);
    for (uint32_t id = 0; id < t->v.n_id; id++) {
        tok_str s = t->v.str[id];
        uint32_t len;
        if (!(t->v.flag[id] & TOK_MODEL) || !s.len || s.len > 3) continue;
        uint32_t c = tok_char(t->v.text.p, s.at, &len);
        if (len == s.len) char_id[c] = id;
    }
    for (unsigned b = 0; b < 256; b++) {
        char s[8];
        snprintf(s, sizeof s, "<0x%02X>", b);
        t->model->fallback_id[b] = tok_vocab_find(&t->v, s, 6, TOK_MODEL);
    }
    return 0;
}

/* Whether merges, or whole words, lead to special tokens. */
static bool reaches_special(const tok *t)
{
    for (uint64_t i = 0; i <= t->model->mask; i++) {
        const bpe_merge *m = &t->model->merge[i];
        if (m->id != TOK_NONE && (t->v.flag[m->id] & TOK_SPECIAL)) return true;
    }
    for (uint32_t id = 0; t->model->ignore_merges && id < t->v.n_id; id++) {
        if ((t->v.flag[id] & TOK_SPECIAL) && (t->v.flag[id] & TOK_MODEL)) return true;
    }
    return false;
}

/* Whether no merge reaches across the border before a word's blank (U+2581), as in every
 * SentencePiece vocabulary whose tokens have blanks at their front alone.  Then a text may be cut
 * there, although its tokenizer does not: the tokens are the same, and short words are fast. */
static bool blanks_begin_words(const tok *t)
{
    const char *blank = "\xE2\x96\x81";
    if (*t->model->prefix || *t->model->suffix || t->model->ignore_merges ||
        t->n_pre == TOK_MAX_STEPS)
        return false;
    if (tok_vocab_find(&t->v, blank, 3, TOK_MODEL) == TOK_NONE) return false;
    /* A character that is dropped shifts the offsets of all that follow in its word. */
    for (int b = 0; b < 256 && !*t->unk; b++) {
        if (!t->model->byte_fallback || t->model->fallback_id[b] == TOK_NONE) return false;
    }
    for (uint64_t i = 0; i <= t->model->mask; i++) {
        const bpe_merge *m = &t->model->merge[i];
        if (m->id == TOK_NONE) continue;
        tok_str l = t->v.str[m->pair >> 32], r = t->v.str[(uint32_t)m->pair];
        const char *left = t->v.text.p + l.at, *right = t->v.text.p + r.at;
        if (r.len < 3 || memcmp(right, blank, 3)) continue;
        if (l.len < 3 || memcmp(left + l.len - 3, blank, 3)) return false;
    }
    return true;
}

int bpe_finish(tok *t)
{
    bool complete;
    t->special_by_model = reaches_special(t);
    t->model->byte_level = stays_bytes(t, &complete);
    if (t->model->byte_level) {
        t->n_pre--;
        return complete ? 0 : character_tables(t);
    }
    int code = character_tables(t);
    if (!code && blanks_begin_words(t))
        t->pre[t->n_pre++] = (tok_pre){ .kind = TOK_SPLIT, .behavior = TOK_ISOLATED,
            .pattern = { .kind = TOK_SCAN, .scan = tok_scan_blanks } };
    return code;
}
