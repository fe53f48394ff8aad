/* load.h -- building a tokenizer from its files: tokenizer.json (load.c, steps.c, steps_out.c),
 * GGUF metadata (gguf.c) or a SentencePiece model (spm.c).
 *
 * The last two are vocabularies of pieces, and name or imply the rest, which shell.c writes as the
 * parts of a tokenizer.json: so all kinds of files run on the same code, and export.c can write the
 * whole. */
#ifndef TOK_LOAD_H
#define TOK_LOAD_H
#include "tok.h"

/* A copy of s that lives as long as the tokenizer; NULL after fail(). */
char *tok_keep(tok *t, const char *s, size_t n);
void tok_free(tok *t);
/* The vocabulary's special ids go to out. */
int tok_load_json(tok *t, const ft_source *s, ft_vocab *out);
int tok_load_gguf(tok *t, const ft_source *s, ft_vocab *out);
int tok_load_spm(tok *t, const ft_source *s, ft_vocab *out);
/* What kind of tokenizer s has: model.type, tokenizer.ggml.model or "SentencePiece …"; NULL: none.
 * *plugin: the plugin that reads it, or NULL; *ours: whether that is this one. */
const char *tok_kind_of(const ft_source *s, const char **plugin, bool *ours);
/* model_type of a SentencePiece model; 0: it is none. */
int tok_spm_type(const ft_source *s);

/* Pieces of loading, in this order; behind tok_begin the vocabulary is filled, normalizers are read
 * before tok_finish_added. */
int tok_begin(tok *t);
/* A vocabulary that is an object of spellings and ids; added: the list of added tokens or NULL. */
int tok_read_vocab(tok *t, const ft_json *vocab, const ft_json *added);
/* One more than the largest id of added tokens, or *n_id where that is more. */
int tok_count_added(tok *t, const ft_json *added, uint64_t *n_id);
bool tok_read_id(const ft_json *v, uint64_t *id);
/* A text or null; "" and absent are the same. */
int tok_model_text(tok *t, const ft_json *model, const char *key, const char **out);
int tok_model_flag(tok *t, const ft_json *model, const char *key, bool *out);
int tok_wrong_json(tok *t, const char *what);
int tok_finish_added(tok *t);
/* Whether the vocabulary of the model itself has a special token. */
bool tok_has_special(const tok *t);
/* The id of a token that tokenizer_config.json names, as text or as an object; -1: none. */
int64_t tok_named_id(const tok *t, const ft_json *config, const char *key, const char *other);
void tok_describe(const tok *t, ft_vocab *out);

/* Reading steps (fields.c).  Each says what is wrong with a field, naming step and key. */
typedef struct {
    const char *type;                      /* NULL: the end of a table */
    int (*read)(tok *, const ft_json *);
} tok_reader;
int tok_wrong_field(tok *t, const ft_json *o, const char *key, const char *want);
int tok_get_bool(tok *t, const ft_json *o, const char *key, bool other, bool *out);
int tok_get_text(tok *t, const ft_json *o, const char *key, const char **s, uint32_t *n);
int tok_get_char(tok *t, const ft_json *o, const char *key, const char **s, uint32_t *n);
int tok_get_count(tok *t, const ft_json *o, const char *key, uint32_t *out);
int tok_get_pattern(tok *t, const ft_json *o, tok_pattern *p);
tok_pattern tok_literal(const char *s, size_t n);
int tok_too_many(tok *t, const char *what);
/* Reads step j by its type, and the members under key `list` where it is a Sequence. */
int tok_read_steps(tok *t, const ft_json *j, int depth, const char *what, const char *list,
                   const tok_reader *known);
/* The four lists (steps.c, steps_out.c); j may be NULL. */
int tok_read_normalizer(tok *t, const ft_json *j);
int tok_read_pre(tok *t, const ft_json *j);
int tok_read_decoder(tok *t, const ft_json *j);
int tok_read_post(tok *t, const ft_json *j);
/* Checks a precompiled normalizer of n bytes and keeps it in *s (charsmap.c). */
int tok_charsmap_read(tok *t, tok_norm *s, const char *p, size_t n);
bool tok_base64(ft_buf *out, const char *s, size_t n);
void tok_put_base64(ft_buf *out, const char *p, size_t n);

/* ---- pieces ---------------------------------------------------------------------------------- */
enum { /* both tokenizer.ggml.token_type and SentencePiece's types */
    TOK_NORMAL = 1, TOK_UNKNOWN, TOK_CONTROL, TOK_USER_DEFINED, TOK_UNUSED, TOK_BYTE
};
typedef struct { const char *p; uint64_t n; float score; int32_t type; } tok_piece;

/* What `tokenizer.ggml.pre` of a GGUF stands for (shell.c). */
typedef struct {
    const char *pre;     /* names, a blank before and behind each */
    const char *cut[5];  /* expressions, one after the other */
    bool bos, whole;     /* puts bos before a text unless told otherwise; ignore_merges */
    bool nfc;            /* the models of this name normalize */
} tok_recipe;

typedef enum { TOK_BYTE_LEVEL, TOK_SENTENCE, TOK_BERT } tok_style;

struct tok_pieces {
    const char *file;        /* "GGUF", "tokenizer.model": for messages */
    tok_piece *piece;        /* [n], owned */
    uint64_t n;
    bool scored;             /* the scores count */
    bool single;             /* scores are added in single precision, as SentencePiece does */
    bool gemma;              /* the order of merges is that of the tokens */
    const ft_meta *merges;   /* a list of texts, or NULL */
    const ft_json *added;    /* added_tokens_decoder of tokenizer_config.json, or NULL */
    const ft_source *names;  /* its bos_token … win over the ids of the pieces; NULL: none */

    tok_style style;
    const tok_recipe *recipe;   /* BYTE_LEVEL */
    bool prefix, every;         /* SENTENCE: a blank before a text; before every stretch of it */
    bool squeeze;               /* SENTENCE: blanks at the ends and second ones go */
    const char *charsmap;       /* SENTENCE: the precompiled normalizer; NULL: none */
    size_t n_charsmap;
};

/* Builds the tokenizer; out has the special ids and add_bos, add_eos. */
int tok_load_pieces(tok *t, const tok_pieces *p, ft_vocab *out);
/* The recipe for the file's `pre`; NULL after fail(). */
const tok_recipe *tok_find_recipe(tok *t, const ft_source *s);
/* The recipe that cuts by these n expressions; NULL: none. */
const tok_recipe *tok_match_recipe(const char *const *cut, int n, bool whole, bool nfc);
/* The members of a tokenizer.json without "added_tokens" and "model", each followed by a comma. */
void tok_put_shell(const tok *t, ft_buf *b, const tok_pieces *p, const ft_vocab *v);
void tok_put_token(const tok *t, ft_buf *b, uint32_t id);
/* "vocab":{…} with all tokens, so that added ones keep their numbers (export.c). */
void tok_put_vocab(const tok *t, ft_buf *b);
/* Writes tokenizer.json for a tokenizer that came from pieces (export.c). */
int tok_export_json(tok *t, ft_bytes *out);

/* The functions of role ft.tokenizer/1 (plugin.c); a plugin's descriptor points to them. */
typedef struct { ft_tokenizer_args args; } tok_config;
extern const ft_tokenizer tok_vtable;
extern const ft_param tok_params[];
int tok_open(void *self, const ft_host *h, const void *config);
void tok_close(void *self);
#endif
