/* ft/data.h -- the way of the data: rows of a file → rendered text whose every byte is accounted
 * for → tokens.  Roles "ft.format/1", "ft.table/1", "ft.tokens/1" and "ft.tokenizer/1", and the
 * chat template interface.
 *
 * What is trained on is decided by where a byte came from, never by searching for marker strings:
 * a format plugin renders a conversation once and says for each stretch of bytes whether the
 * template or the data wrote it, in whose turn, and whether it carries loss. */
#ifndef FT_DATA_H
#define FT_DATA_H
#include "ft/plugin.h"
#include "ft/source.h"

/* ---- text with provenance ------------------------------------------------------------------ */
enum { FT_FROM_TEMPLATE, FT_FROM_DATA };
enum { FT_ROLE_NONE, FT_ROLE_SYSTEM, FT_ROLE_USER, FT_ROLE_ASSISTANT, FT_ROLE_TOOL };

typedef struct {
    uint32_t begin, end; /* bytes of the text, end exclusive */
    int32_t turn;        /* index of the message being rendered; -1: outside of any */
    uint8_t role;        /* FT_ROLE_* of that message */
    uint8_t from;        /* FT_FROM_TEMPLATE, or FT_FROM_DATA: bytes that a row supplied */
    uint8_t marked;      /* 1: inside {% generation %} of the template */
    uint8_t train;       /* 1: tokens that start here carry loss; set by the format plugin */
} ft_span;

typedef struct {
    const char *text;     /* UTF-8, may hold zero bytes */
    size_t len;
    const ft_span *span;  /* contiguous, ascending, covering [0, len) */
    size_t n_span;
} ft_text;

/* ---- interface "ft.template/1": Jinja chat templates, as transformers runs them -------------- */
typedef struct ft_template ft_template;
typedef struct {
    uint32_t size;
    /* NULL after host->fail() with line and column of the template.  source NULL: ChatML, for
     * models that have no template. */
    ft_template *(*compile)(const ft_host *, const char *source, size_t n);
    /* vars: an object with messages, tools, add_generation_prompt, bos_token, eos_token and any
     * further variables.  *out is valid until the next render or done.  An error raised by the
     * template (raise_exception) is FT_EINVAL with the template's own words. */
    int (*render)(const ft_host *, ft_template *, const ft_json *vars, ft_text *out);
    /* True when the template has a {% generation %} block. */
    bool (*marks)(const ft_template *);
    void (*done)(ft_template *);
} ft_template_api;

/* ---- role "ft.format/1": rows → samples ------------------------------------------------------ */
enum { FT_SPLIT_AUTO, FT_SPLIT_TRAIN, FT_SPLIT_VAL };
enum { FT_LABEL_NONE, FT_LABEL_GOOD, FT_LABEL_BAD }; /* what a KTO row says of its answer */

typedef struct {
    const char *file;  /* where the row stands, for messages */
    int64_t line;      /* from 1 */
    uint64_t group;    /* hash of the question: rows with equal groups fall on the same side when
                          the host splits off a validation set */
    uint8_t split;     /* FT_SPLIT_*; AUTO: the host decides by `val_size` */
    uint8_t n_seq;     /* 1; 2 for preference pairs: chosen, rejected */
    uint8_t label;     /* FT_LABEL_* */
    ft_text seq[2];
} ft_sample;

/* Embed in the config struct; FT_DATA_PARAMS(config, member) adds its rows to the table. */
typedef struct { double val_size; } ft_data_args;
#define FT_DATA_PARAMS(config, m) \
    { "val_size", FT_REAL, offsetof(config, m.val_size), "0", 0, 1e9, 0, \
      "rows kept apart for evaluation: a fraction below 1, or a number of rows" }

typedef struct {
    uint32_t size;
    size_t args; /* offset of ft_data_args in the config struct */
    /* The next sample, valid until the next call: 1; at the end: 0; else FT_E*. */
    int (*next)(void *self, ft_sample *out);
    int64_t (*skipped)(void *self); /* rows left out so far by on_bad_row: skip; NULL: none */
    /* The i-th reason why rows were left out and how many, false after the last; NULL: not told. */
    bool (*skip_reason)(void *self, size_t i, const char **reason, int64_t *rows);
} ft_format;

/* ---- role "ft.table/1": files that are tables → rows as JSON texts --------------------------- */
typedef struct { const char *p; size_t n; } ft_bytes;

typedef struct {
    uint32_t size;
    /* Whether the plugin reads files that begin with these n bytes; may be called before begin. */
    bool (*claims)(const void *start, size_t n);
    int (*begin)(void *self, const char *path);
    /* The next row, valid until the next call: 1; at the end: 0; else FT_E*: FT_EUNSUP is of this
     * row alone, and the next call gives the one behind it. */
    int (*next)(void *self, ft_bytes *row);
} ft_table;

/* Interface "ft.table/1": such files, for format plugins, through the plugin that claims them. */
typedef struct ft_table_file ft_table_file;
typedef struct {
    uint32_t size;
    /* NULL after host->fail().  kind: what the file is ("Parquet"), for the message that no plugin
     * reads it. */
    ft_table_file *(*open)(const ft_host *, const char *path, const char *kind);
    /* As ft_table.next; after an error *why says what is wrong, and host->fail was not called. */
    int (*next)(ft_table_file *, ft_bytes *row, const char **why);
    void (*close)(ft_table_file *); /* NULL is fine */
} ft_table_api;

/* ---- role "ft.filter/1": samples → those of them that are kept ------------------------------- */
typedef struct {
    uint32_t size;
    /* Asked once for each sample, in order: 1: it stays; 0: it goes, and *reason says why, in words
     * that do not differ from row to row (they are counted); else FT_E*. */
    int (*keep)(void *self, const ft_sample *sample, const char **reason);
} ft_filter;

/* ---- role "ft.mixer/1": several sets of samples → one ---------------------------------------- */

/* Embed in the config struct; FT_MIX_PARAMS(config, member) adds its rows to the table. */
typedef struct { ft_map weights; } ft_mix_args;
#define FT_MIX_PARAMS(config, m) \
    { "weights", FT_MAP, offsetof(config, m.weights), NULL, 1e-6, 1e6, 0, \
      "the share of each set: the id of the stage that makes it, and a number" }

typedef struct {
    uint32_t size;
    size_t args; /* offset of ft_mix_args in the config struct */
    /* rows[i]: training rows of the i-th set of `weights`, 1 at least. */
    int (*begin)(void *self, size_t n, const int64_t *rows);
    /* The next training row of the mix: 1, with the set and the row in it; at the end: 0; else
     * FT_E*. */
    int (*next)(void *self, size_t *set, int64_t *row);
} ft_mixer;

/* ---- role "ft.tokens/1": a file of ready rows → batches ------------------------------------- */
typedef struct {
    int64_t n;              /* tokens in the row */
    const int64_t *ids;     /* [n] */
    const int64_t *labels;  /* [n], not shifted, -100: no loss; NULL: every token is a label */
    const int64_t *seq_ids; /* [n], a new document wherever the value changes; NULL: one document */
} ft_token_row;

typedef struct {
    uint32_t size;
    /* Number of batches and rows a batch; rows_per_batch 0: the trainer groups rows itself. */
    int (*shape)(void *self, int64_t *batches, int64_t *rows_per_batch, int64_t *row_tokens);
    /* Row i, 0 … batches * rows_per_batch - 1, valid until the next call. */
    int (*row)(void *self, int64_t i, ft_token_row *out);
} ft_token_source;

/* ---- role "ft.tokenizer/1": text ↔ token ids ------------------------------------------------- */
typedef struct {
    uint32_t size;
    uint32_t vocab_size;             /* ids are below this: vocabulary and added tokens */
    int64_t bos, eos, pad, unk;      /* -1: none */
    bool add_bos, add_eos;           /* what add_special_tokens=True does */
} ft_vocab;

enum {
    FT_ENCODE_ADD_SPECIAL = 1,       /* as HF encode(add_special_tokens=True) */
    FT_ENCODE_SPECIAL_IN_DATA = 2,   /* data spans may become special tokens */
};
enum { FT_DECODE_SKIP_SPECIAL = 1 };

typedef struct {
    const uint32_t *id;          /* [n] */
    const uint32_t *begin, *end; /* [n] bytes of the text that each token stands for */
    size_t n;
} ft_tokens;

/* Parameters every tokenizer stage has: embed and add FT_TOKENIZER_PARAMS(config, member). */
typedef struct {
    int64_t max_length;
    bool packing, allow_special_in_data, allow_double_bos;
    const char *on_overlong;
} ft_tokenizer_args;
#define FT_TOKENIZER_PARAMS(config, m)                                                            \
    { "max_length", FT_INT, offsetof(config, m.max_length), "1024", 8, 1 << 24, 0,                 \
      "tokens a row may have" },                                                                  \
    { "packing", FT_BOOL, offsetof(config, m.packing), "false", 0, 0, 0,                           \
      "put several documents into one row of max_length tokens; they never see each other" },     \
    { "on_overlong", FT_STR, offsetof(config, m.on_overlong), "error", 0, 0,                       \
      (const char *const[]){ "error", "drop", "truncate", 0 },                                    \
      "what to do with a row longer than max_length" },                                           \
    { "allow_special_in_data", FT_BOOL, offsetof(config, m.allow_special_in_data), "false", 0, 0,  \
      0, "let text of the rows become special tokens such as <|im_end|>" },                       \
    { "allow_double_bos", FT_BOOL, offsetof(config, m.allow_double_bos), "false", 0, 0, 0,         \
      "accept rows that start with two BOS tokens" }

typedef struct {
    uint32_t size;
    size_t args; /* offset of ft_tokenizer_args in the config struct */
    /* Whether this plugin reads the tokenizer of `source`; may be called before load. */
    bool (*claims)(const ft_source *source);
    int (*load)(void *self, const ft_source *source, ft_vocab *out);
    /* A place to encode in; one a thread.  NULL: out of memory. */
    void *(*encoder)(void *self);
    void (*encoder_done)(void *self, void *encoder);
    /* [any, one call an encoder]  Special tokens are recognised in template bytes, and in data
     * bytes only with FT_ENCODE_SPECIAL_IN_DATA; text without spans (n_span 0) counts as template.
     * The text is tokenized as a whole: a border between spans splits nothing else. */
    int (*encode)(void *self, void *encoder, const ft_text *text, unsigned flags, ft_tokens *out);
    /* [any, one call an encoder]  Bytes as HF decode() gives them (clean-up of spaces off). */
    int (*decode)(void *self, void *encoder, const uint32_t *id, size_t n, unsigned flags,
                  ft_bytes *out);
    /* [any]  The vocabulary's spelling of an id (NULL: none), and back (-1: none). */
    const char *(*token)(void *self, uint32_t id, size_t *len);
    int64_t (*find)(void *self, const char *token, size_t len);
    /* [any]  Whether the id is a special token. */
    bool (*special)(void *self, uint32_t id);
    /* tokenizer.json text for a tokenizer that came from elsewhere (GGUF); valid until close. */
    int (*json)(void *self, ft_bytes *out);
    /* The key-values of a GGUF file ("tokenizer.ggml.model", "….tokens", …; not the special ids)
     * for a tokenizer that came from files of `source`, for a model with so many rows of
     * embeddings; valid until the next call or close. */
    int (*gguf)(void *self, const ft_source *source, uint64_t rows, ft_bytes *keys,
                uint64_t *n_keys);
} ft_tokenizer;
#endif
