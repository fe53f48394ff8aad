/* vocab.c -- the spellings of tokens, found by hash.
 *
 * The table is open addressing at most half full, keyed with a random seed, so that no file can
 * choose its collisions.  Spellings lie in one buffer. */
#include <sys/random.h>
#include "tok.h"

int tok_no_memory(const ft_host *h)
{
    return h->fail(h, FT_ENOMEM, "%s: out of memory", tok_this.plugin);
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

uint64_t tok_table_size(uint64_t n)
{
    uint64_t size = 16;
    while (size < 2 * n) size *= 2;
    return size;
}

int tok_vocab_begin(tok_vocab *v, const ft_host *h, uint64_t n_id, uint64_t n_strings)
{
    if (n_id > TOK_MAX_ID)
        return h->fail(h, FT_EFORMAT, "tokenizer: %llu tokens with ids up to %llu; ids must be "
                       "below %d", (unsigned long long)n_strings, (unsigned long long)n_id - 1,
                       TOK_MAX_ID);
    if (getrandom(&v->seed, sizeof v->seed, GRND_NONBLOCK) != sizeof v->seed)
        v->seed = (uint64_t)(uintptr_t)v * 0x9E3779B97F4A7C15u;
    uint64_t size = tok_table_size(n_strings);
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

void tok_vocab_free(tok_vocab *v)
{
    ft_buf_free(&v->text);
    free(v->entry);
    free(v->str);
    free(v->flag);
    free(v->slot);
    *v = (tok_vocab){ 0 };
}
