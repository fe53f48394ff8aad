/* vocab.c -- the spellings of tokens, found by hash, and the merges.
 *
 * Both tables are open addressing at most half full, keyed with a random seed, so that no file can
 * choose its collisions.  Spellings lie in one buffer.  A merge is found by its two ids; a pair
 * that a file lists twice keeps the later rank, as HF tokenizers has it. */
#include <sys/random.h>
#include "tok.h"

int tok_no_memory(const ft_host *h)
{
    return h->fail(h, FT_ENOMEM, "tokenizer-bpe: out of memory");
}

static uint64_t hash(uint64_t seed, const char *s, size_t n)
{
    uint64_t h = seed ^ n, w;
    for (; n >= 8; n -= 8, s += 8) {
        memcpy(&w, s, 8);
        h = (h ^ w) * 0x9E3779B97F4A7C15u;
        h ^= h >> 32;
    }
    w = 0;
    memcpy(&w, s, n);
    h = (h ^ w) * 0x9E3779B97F4A7C15u;
    h ^= h >> 29;
    h *= 0xBF58476D1CE4E5B9u;
    return h ^ h >> 32;
}

/* A power of two that leaves n entries at most half of it. */
static uint64_t table_size(uint64_t n)
{
    uint64_t size = 16;
    while (size < 2 * n) size *= 2;
    return size;
}

int tok_vocab_begin(tok_vocab *v, const ft_host *h, uint64_t n_id, uint64_t n_strings)
{
    if (n_id > TOK_MAX_ID || n_strings > TOK_MAX_ID)
        return h->fail(h, FT_EFORMAT, "tokenizer: %llu tokens with ids up to %llu; ids must be "
                       "below %d", (unsigned long long)n_strings, (unsigned long long)n_id - 1,
                       TOK_MAX_ID);
    if (getrandom(&v->seed, sizeof v->seed, GRND_NONBLOCK) != sizeof v->seed)
        v->seed = (uint64_t)(uintptr_t)v * 0x9E3779B97F4A7C15u;
    uint64_t size = table_size(n_strings);
    v->n_id = (uint32_t)n_id;
    v->entry = calloc(n_strings + 1, sizeof *v->entry);
    v->str = calloc(n_id + 1, sizeof *v->str);
    v->flag = calloc(n_id + 1, 1);
    v->slot = calloc(size, sizeof *v->slot);
    v->slot_mask = size - 1;
    return v->entry && v->str && v->flag && v->slot ? 0 : tok_no_memory(h);
}

/* The slot that holds s, or the free one where it would go. */
static tok_slot *slot_of(const tok_vocab *v, const char *s, size_t n, uint32_t *tag)
{
    uint64_t x = hash(v->seed, s, n);
    *tag = (uint32_t)(x >> 32);
    for (uint64_t i = x & v->slot_mask;; i = (i + 1) & v->slot_mask) {
        tok_slot *p = &v->slot[i];
        if (!p->at1) return p;
        if (p->tag != *tag) continue;
        tok_str q = v->entry[p->at1 - 1].s;
        if (q.len == n && !memcmp(v->text.p + q.at, s, n)) return p;
    }
}

int tok_vocab_put(tok_vocab *v, const ft_host *h, uint64_t id, const char *s, size_t n,
                  uint8_t flag)
{
    uint32_t tag;
    int shown = (int)(n < 100 ? n : 100);
    if (id >= v->n_id)
        return h->fail(h, FT_EFORMAT, "tokenizer: token \"%.*s\" has id %llu; ids must be below %u",
                       shown, s, (unsigned long long)id, v->n_id);
    if (v->flag[id] && (flag & TOK_MODEL || v->flag[id] & TOK_ADDED))
        return h->fail(h, FT_EFORMAT, "tokenizer: id %llu belongs to two tokens, \"%.100s\" and "
                       "\"%.*s\"", (unsigned long long)id, v->text.p + v->str[id].at, shown, s);
    tok_slot *p = slot_of(v, s, n, &tag);
    if (p->at1)
        return h->fail(h, FT_EFORMAT, "tokenizer: token \"%.*s\" has two ids, %u and %llu", shown,
                       s, v->entry[p->at1 - 1].id, (unsigned long long)id);
    if (n > UINT32_MAX / 2 - v->text.n) return tok_no_memory(h);
    tok_str str = { (uint32_t)v->text.n, (uint32_t)n };
    if (!v->flag[id]) v->str[id] = str;
    v->flag[id] |= flag;
    v->entry[v->n_entry++] = (tok_entry){ str, (uint32_t)id, flag };
    *p = (tok_slot){ tag, v->n_entry };
    if (flag & TOK_MODEL) v->n_model++;
    ft_buf_add(&v->text, s, n);
    ft_buf_putc(&v->text, 0);
    return v->text.oom ? tok_no_memory(h) : 0;
}

uint32_t tok_vocab_find(const tok_vocab *v, const char *s, size_t n, uint8_t flags)
{
    uint32_t tag;
    const tok_slot *p = slot_of(v, s, n, &tag);
    const tok_entry *e = p->at1 ? &v->entry[p->at1 - 1] : NULL;
    return e && (e->flags & flags) ? e->id : TOK_NONE;
}

tok_str tok_vocab_mark(tok_vocab *v, const char *s, size_t n, uint8_t flags)
{
    uint32_t tag;
    tok_entry *e = &v->entry[slot_of(v, s, n, &tag)->at1 - 1];
    e->flags |= flags;
    v->flag[e->id] |= flags;
    return e->s;
}

int tok_merges_begin(tok_vocab *v, const ft_host *h, uint64_t n_merges)
{
    if (n_merges >= UINT32_MAX / 4)
        return h->fail(h, FT_EFORMAT, "tokenizer: %llu merges are too many",
                       (unsigned long long)n_merges);
    uint64_t size = table_size(n_merges);
    v->merge = malloc(size * sizeof *v->merge);
    if (!v->merge) return tok_no_memory(h);
    v->merge_mask = size - 1;
    memset(v->merge, 0xFF, size * sizeof *v->merge); /* id = TOK_NONE: free */
    return 0;
}

/* The id of what a and b merge to, or TOK_NONE.  Files list merges in the order in which their
 * tokens were made, so that the token behind the last one is tried first. */
static uint32_t joined_id(tok_vocab *v, const char *a, size_t a_len, const char *b, size_t b_len)
{
    char text[2048], *j = text;
    uint32_t guess = v->guess + 1;
    if (guess < v->n_id && (v->flag[guess] & TOK_MODEL)) {
        tok_str s = v->str[guess];
        const char *p = v->text.p + s.at;
        if (s.len == a_len + b_len && !memcmp(p, a, a_len) && !memcmp(p + a_len, b, b_len))
            return guess;
    }
    if (a_len + b_len > sizeof text && !(j = malloc(a_len + b_len))) return TOK_NONE;
    memcpy(j, a, a_len);
    memcpy(j + a_len, b, b_len);
    uint32_t id = tok_vocab_find(v, j, a_len + b_len, TOK_MODEL);
    if (j != text) free(j);
    return id;
}

static int no_such_token(const ft_host *h, uint32_t rank, const char *how, const char *a,
                         size_t a_len, const char *b, size_t b_len)
{
    return h->fail(h, FT_EFORMAT, "tokenizer: merge %u %s \"%.*s%.*s\", which the vocabulary does "
                   "not have", rank, how, (int)(a_len < 100 ? a_len : 100), a,
                   (int)(b_len < 100 ? b_len : 100), b);
}

int tok_merges_put(tok_vocab *v, const ft_host *h, uint32_t rank, const char *a, size_t a_len,
                   const char *b, size_t b_len, size_t cut)
{
    uint32_t left = tok_vocab_find(v, a, a_len, TOK_MODEL);
    uint32_t right = tok_vocab_find(v, b, b_len, TOK_MODEL);
    if (left == TOK_NONE) return no_such_token(h, rank, "names", a, a_len, "", 0);
    if (right == TOK_NONE || b_len < cut) return no_such_token(h, rank, "names", b, b_len, "", 0);
    uint32_t id = joined_id(v, a, a_len, b + cut, b_len - cut);
    if (id == TOK_NONE) return no_such_token(h, rank, "makes", a, a_len, b + cut, b_len - cut);
    uint64_t pair = (uint64_t)left << 32 | right, x = (pair ^ v->seed) * 0x9E3779B97F4A7C15u;
    uint64_t i = (x ^ x >> 32) & v->merge_mask;
    while (v->merge[i].id != TOK_NONE && v->merge[i].pair != pair) i = (i + 1) & v->merge_mask;
    v->merge[i] = (tok_merge){ pair, rank, id };
    v->guess = id;
    return 0;
}

void tok_vocab_free(tok_vocab *v)
{
    ft_buf_free(&v->text);
    free(v->entry);
    free(v->str);
    free(v->flag);
    free(v->slot);
    free(v->merge);
    *v = (tok_vocab){ 0 };
}
