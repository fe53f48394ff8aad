/* unigram.h -- what the files of tokenizer-unigram share: pieces with scores. */
#ifndef UNIGRAM_H
#define UNIGRAM_H
#include "../tokenizer-common/load.h"

enum { UNIGRAM_MAX_PIECE = 1024 }; /* bytes; so a text costs at most so many steps a byte */

struct tok_model {
    double *score;          /* [t->v.n_id], of pieces */
    uint32_t *sorted;       /* [n] ids of the pieces that may be found in text, by their bytes */
    uint32_t n;
    uint32_t first[257];    /* sorted[first[b], first[b + 1]) begin with byte b */
    uint32_t unk;           /* TOK_NONE: there is none */
    double unk_score;
    bool byte_fallback;
    bool single;            /* scores are added in single precision, as SentencePiece does */
    uint32_t byte_id[256];  /* id of <0xXX>, or TOK_NONE */
};

/* A number of a tokenizer.json as serde_json reads it, which is not always the nearest double. */
double unigram_number(const char *s, size_t n);
int unigram_read_json(tok *t, const ft_json *model, const ft_json *added);
int unigram_read_pieces(tok *t, const tok_pieces *p);
int unigram_finish(tok *t);
bool unigram_put_model(const tok *t, ft_buf *b);
void unigram_done(tok *t);
int unigram_tokenize(tok_enc *e, const tok_text *x, bool bar); /* best.c */
#endif
