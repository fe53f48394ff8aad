/* bpe.h -- what the files of tokenizer-bpe share: the model of byte pair encoding. */
#ifndef BPE_H
#define BPE_H
#include "../tokenizer-common/load.h"

typedef struct { uint64_t pair; uint32_t rank, id; } bpe_merge; /* left << 32 | right */

struct tok_model {
    bpe_merge *merge;       /* [mask + 1] by hash; id TOK_NONE: free */
    uint64_t seed, mask;
    uint32_t guess;         /* what the last merge made, while merges are read */
    bool byte_level;        /* a word is bytes, spelled by tok_byte_char */
    bool byte_fallback, fuse_unk, ignore_merges;
    const char *prefix, *suffix; /* continuing_subword_prefix, end_of_word_suffix; "": none */
    uint32_t byte_id[256];  /* byte_level: id of a byte, or TOK_NONE */
    uint32_t *char_id;      /* [65536] id of a character; NULL: words are bytes that all have one */
    uint32_t fallback_id[256]; /* beside char_id: id of <0xXX>, or TOK_NONE */
};

/* The merge of two ids, or NULL. */
static inline const bpe_merge *bpe_merge_of(const tok_model *m, uint32_t left, uint32_t right)
{
    uint64_t pair = (uint64_t)left << 32 | right;
    uint64_t h = (pair ^ m->seed) * 0x9E3779B97F4A7C15u;
    for (uint64_t i = (h ^ h >> 32) & m->mask;; i = (i + 1) & m->mask) {
        const bpe_merge *x = &m->merge[i];
        if (x->pair == pair && x->id != TOK_NONE) return x;
        if (x->id == TOK_NONE) return NULL;
    }
}

/* t->model with room for n merges (merges.c). */
int bpe_merges_begin(tok *t, uint64_t n_merges);
/* Adds the merge of a and b; `cut` bytes of b (a continuing-subword prefix) vanish in it. */
int bpe_merges_put(tok *t, uint32_t rank, const char *a, size_t a_len, const char *b, size_t b_len,
                   size_t cut);
/* From pieces that have scores and no merges (scores.c). */
int bpe_merges_from_scores(tok *t, const tok_pieces *p);

/* All merges by rank, to be freed; NULL: no memory. */
const bpe_merge **bpe_ranked_merges(const tok *t, size_t *n);
/* Writes GGUF's keys for a tokenizer that came from tokenizer.json (gguf_out.c). */
int bpe_export_gguf(tok *t, const ft_source *s, uint64_t rows, ft_bytes *out, uint64_t *n_keys);

int bpe_read_json(tok *t, const ft_json *model, const ft_json *added);
int bpe_read_pieces(tok *t, const tok_pieces *p);
bool bpe_put_model(const tok *t, ft_buf *b);
void bpe_done(tok *t);
int bpe_finish(tok *t);                                         /* tables.c */
int bpe_tokenize(tok_enc *e, const tok_text *x, bool bar);      /* merge.c */
#endif
