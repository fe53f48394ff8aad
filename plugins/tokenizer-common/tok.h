/* tok.h -- what tokenizers of every kind share: the way of a text.
 *
 *   added.c      finds added tokens in the text as it stands
 *   normalize.c  rewrites what lies between them (nfc.c: Unicode normal forms; bert.c, charsmap.c),
 *                then added.c finds the added tokens that are matched after normalization
 *   split.c      cuts the rest into words (scan.c: the known patterns by hand; regex.c: others)
 *   word.c       turns a word into ids by the plugin's model, through a cache
 *   post.c       puts special tokens around, trims offsets;  decode.c: the way back
 *
 * These files are compiled once and linked into each tokenizer plugin, which adds the model: byte
 * pair encoding, Unigram, WordPiece; it defines tok_this (below).  A tok is built by what load.h
 * declares, and never changes afterwards; a tok_enc is one thread's scratch memory.  Text that a
 * step has rewritten carries for every byte the range of the original text that it stands for, as
 * HF tokenizers' NormalizedString does. */
#ifndef TOK_H
#define TOK_H
#include "ft/ck.h"
#include "ft/json.h"
#include "ft/data.h"

#define TOK_NONE UINT32_MAX
enum {
    TOK_MAX_ID = 1 << 22,      /* ids are below this */
    TOK_MAX_STEPS = 64,        /* normalizers, pre-tokenizers, decoders: each */
    TOK_MAX_ADDED_LEN = 1024,  /* bytes of an added token */
    TOK_MAX_TEXT = 1 << 16,    /* bytes of a text in a step */
    TOK_MAX_PATTERNS = 1 << 14, /* bytes of all regular expressions */
    TOK_MAX_AROUND = 64,       /* special tokens around a text */
    TOK_MAX_CHARSMAP = 1 << 24, /* bytes of a precompiled normalizer */
    TOK_PAD = 32,              /* readable bytes behind a text */
};

/* ---- characters (unicode.c) ---------------------------------------------------------------- */
enum { /* classes of a character, as bits */
    TOK_L = 1, TOK_N = 2, TOK_WS = 4, TOK_M = 8, TOK_P = 16, TOK_S = 32, /* \p{L} … ; WS: \s */
    TOK_UP = 64,   /* Lu Lt Lm Lo M: what o200k takes for the front of a word */
    TOK_LOW = 128, /* Ll Lm Lo M: and for its rest */
};
typedef struct { uint32_t from, to; } tok_range; /* both included */
bool tok_in_ranges(const tok_range *r, size_t n, uint32_t cp); /* sorted */
uint8_t tok_class_of(uint32_t cp);    /* from utf8proc's table: Unicode 14 */
bool tok_is_word(uint32_t cp);        /* \w of Rust's regex crate */
bool tok_is_punct(uint32_t cp);       /* Punctuation pre-tokenizer: ASCII's, and P of Unicode 8 */
uint32_t tok_byte_char(uint8_t b);    /* GPT-2's printable character for a byte */
int tok_char_byte(uint32_t cp);       /* and back; -1: none */
size_t tok_utf8_put(uint32_t cp, char out[4]);
/* True when all n bytes are well-formed; else *bad is the first wrong one. */
bool tok_utf8_valid(const char *s, size_t n, size_t *bad);

/* The character at s[i] of valid UTF-8, and its number of bytes. */
static inline uint32_t tok_char(const char *s, uint32_t i, uint32_t *len)
{
    const unsigned char *p = (const unsigned char *)s + i;
    if (p[0] < 0x80) {
        *len = 1;
        return p[0];
    }
    if (p[0] < 0xE0) {
        *len = 2;
        return (p[0] & 0x1Fu) << 6 | (p[1] & 0x3Fu);
    }
    if (p[0] < 0xF0) {
        *len = 3;
        return (p[0] & 0x0Fu) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3Fu);
    }
    *len = 4;
    return (p[0] & 0x07u) << 18 | (p[1] & 0x3Fu) << 12 | (p[2] & 0x3Fu) << 6 | (p[3] & 0x3Fu);
}

/* True for the second and later bytes of a character. */
static inline bool tok_inside(char c) { return ((unsigned char)c & 0xC0) == 0x80; }

/* ---- the vocabulary (vocab.c) --------------------------------------------------------------- */
enum { TOK_MODEL = 1, TOK_ADDED = 2, TOK_SPECIAL = 4 }; /* flags of a spelling or an id */

typedef struct { uint32_t at, len; } tok_str; /* bytes of tok_vocab.text */
typedef struct { tok_str s; uint32_t id, flags; } tok_entry; /* a spelling and its id */
typedef struct { uint32_t tag, at1; } tok_slot; /* hash, index of the entry + 1; at1 0: free */

typedef struct {
    ft_buf text;        /* all spellings, each with a zero behind it */
    tok_entry *entry;   /* [n_entry] */
    uint32_t n_entry;
    tok_str *str;       /* [n_id] the model's spelling of an id, else the added token's */
    uint8_t *flag;      /* [n_id] TOK_MODEL | …; 0: no such id */
    uint32_t n_id, n_model;
    tok_slot *slot;     /* [slot_mask + 1] */
    uint64_t seed, slot_mask;
} tok_vocab;

/* A power of two that leaves n entries at most half of it. */
uint64_t tok_table_size(uint64_t n);
/* Room for ids below n_id and n_strings spellings. */
int tok_vocab_begin(tok_vocab *v, const ft_host *h, uint64_t n_id, uint64_t n_strings);
/* Adds a token of the model or an added one.  A spelling that is there already is an error, and
 * so is an id; but an added token may have the id of a model's token, as HF tokenizers lets it
 * happen where the model's ids have gaps. */
int tok_vocab_put(tok_vocab *v, const ft_host *h, uint64_t id, const char *s, size_t n,
                  uint8_t flag);
/* The id of a spelling that has one of `flags`, or TOK_NONE. */
uint32_t tok_vocab_find(const tok_vocab *v, const char *s, size_t n, uint8_t flags);
/* Marks a spelling that is there, and its id; returns where it is kept. */
tok_str tok_vocab_mark(tok_vocab *v, const char *s, size_t n, uint8_t flags);
void tok_vocab_free(tok_vocab *v);

/* ---- patterns (scan.c, regex.c) -------------------------------------------------------------- */
/* Finds the first match at or after *b in s[0, n): true and [*b, *e), or false. */
typedef bool (*tok_scan)(const uint8_t *cls, const char *s, uint32_t n, uint32_t *b, uint32_t *e);

typedef enum { TOK_LITERAL, TOK_SCAN, TOK_REGEX } tok_pattern_kind;
typedef struct {
    tok_pattern_kind kind;
    const char *s;      /* LITERAL; the source of a REGEX */
    size_t n;
    tok_scan scan;      /* SCAN */
    void *code;         /* REGEX: pcre2_code, owned */
} tok_pattern;

typedef struct tok tok;
typedef struct tok_enc tok_enc;

/* Well-known expressions: the ones that scan.c knows, and that GGUF's `pre` names. */
#define TOK_RE_CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define TOK_RE_LEAD "[^\\r\\n\\p{L}\\p{N}]?"
#define TOK_RE_FRONT "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define TOK_RE_REST "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define TOK_RE_BLANKS "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define TOK_RE_OTHERS "| ?[^\\s\\p{L}\\p{N}]+"
#define TOK_RE_GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+" TOK_RE_OTHERS "|\\s+(?!\\S)|\\s+"
#define TOK_RE_LLAMA3 TOK_RE_CONTRACTIONS "|" TOK_RE_LEAD "\\p{L}+|\\p{N}{1,3}" TOK_RE_OTHERS \
    "[\\r\\n]*" TOK_RE_BLANKS
#define TOK_RE_QWEN2 TOK_RE_CONTRACTIONS "|" TOK_RE_LEAD "\\p{L}+|\\p{N}" TOK_RE_OTHERS \
    "[\\r\\n]*" TOK_RE_BLANKS
#define TOK_RE_O200K TOK_RE_LEAD TOK_RE_FRONT "*" TOK_RE_REST "+" TOK_RE_CONTRACTIONS "?|" \
    TOK_RE_LEAD TOK_RE_FRONT "+" TOK_RE_REST "*" TOK_RE_CONTRACTIONS "?|\\p{N}{1,3}" \
    TOK_RE_OTHERS "[\\r\\n/]*" TOK_RE_BLANKS
#define TOK_RE_TEKKEN TOK_RE_LEAD TOK_RE_FRONT "*" TOK_RE_REST "+|" TOK_RE_LEAD TOK_RE_FRONT "+" \
    TOK_RE_REST "*|\\p{N}" TOK_RE_OTHERS "[\\r\\n/]*" TOK_RE_BLANKS
#define TOK_RE_CJK "[\xE4\xB8\x80-\xE9\xBE\xA5\xE3\x81\x80-\xE3\x82\x9F\xE3\x82\xA0-\xE3\x83\xBF]+"
#define TOK_RE_DEEPSEEK "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|" \
    "[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*" \
    "|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"

/* The scanner for one of these, or NULL. */
tok_scan tok_scan_known(const char *pattern, size_t n);
bool tok_scan_gpt2(const uint8_t *, const char *, uint32_t, uint32_t *, uint32_t *);
bool tok_scan_digit(const uint8_t *, const char *, uint32_t, uint32_t *, uint32_t *);
bool tok_scan_space(const uint8_t *, const char *, uint32_t, uint32_t *, uint32_t *);
bool tok_scan_punct(const uint8_t *, const char *, uint32_t, uint32_t *, uint32_t *);
bool tok_scan_blanks(const uint8_t *, const char *, uint32_t, uint32_t *, uint32_t *);
bool tok_scan_word(const uint8_t *, const char *, uint32_t, uint32_t *, uint32_t *);

/* Fills *p from a regular expression in Oniguruma's syntax; `fast`: known ones by hand. */
int tok_regex_compile(tok_pattern *p, const ft_host *h, const char *s, size_t n, bool fast);
void tok_pattern_free(tok_pattern *p);
/* The same expression in PCRE2's syntax (onig.c); an error names what cannot be carried over. */
int tok_onig_translate(ft_buf *out, const ft_host *h, const char *s, size_t n);

/* Walks over the matches of p in s[0, n), as Oniguruma's iterator does. */
typedef struct {
    const tok_pattern *p;
    const char *s;
    uint32_t n, at, last; /* where to go on; end of the last match, or TOK_NONE */
} tok_matches;
/* 1 and [*b, *e), 0 at the end, or a negative error. */
int tok_next_match(tok_enc *e, tok_matches *m, uint32_t *b, uint32_t *end);

/* ---- text with its origin (text.c) ----------------------------------------------------------- */
typedef struct {
    const char *p;
    uint32_t n;
    const uint32_t *lo, *hi; /* [n] bytes of the original each byte stands for; NULL: itself */
    uint32_t base;           /* where lo is NULL: the place of p[0] in the original */
} tok_text;

typedef struct { /* text being rewritten */
    char *p;
    uint32_t *lo, *hi;
    uint32_t n, cap;
    bool oom;
} tok_build;

/* The original range [*lo, *hi) that bytes [a, b) of x stand for; a < b. */
void tok_origin(const tok_text *x, uint32_t a, uint32_t b, uint32_t *lo, uint32_t *hi);
tok_text tok_cut(const tok_text *x, uint32_t a, uint32_t b);
void tok_build_put(tok_build *o, const char *s, uint32_t n, uint32_t lo, uint32_t hi);
void tok_build_copy(tok_build *o, const tok_text *x, uint32_t a, uint32_t b);
tok_text tok_built(tok_build *o);
void tok_build_free(tok_build *o);
/* Puts s in front: it stands for what the first character of x stands for. */
void tok_build_prefix(tok_build *o, const tok_text *x, const char *s, uint32_t n);
/* Replaces every match of p by s. */
int tok_build_replace(tok_enc *e, tok_build *o, const tok_text *x, const tok_pattern *p,
                      const char *s, uint32_t n);

/* One character of a rewritten text: change 0: stands for the next old character; -k: for it and
 * the k behind it; above 0: is new, and stands for what the one before it stands for. */
typedef struct { uint32_t cp; int32_t change; } tok_change;
void tok_build_changes(tok_build *o, const tok_text *x, const tok_change *c, size_t n);

/* ---- steps ---------------------------------------------------------------------------------- */
typedef enum { TOK_NFC, TOK_NFD, TOK_NFKC, TOK_NFKD, TOK_LOWERCASE, TOK_STRIP, TOK_PREPEND,
               TOK_REPLACE, TOK_MAP_BYTES, TOK_CLEAN, TOK_CHINESE, TOK_DROP_MN, TOK_DROP_M, TOK_NMT,
               TOK_CHARSMAP } tok_norm_kind;
typedef struct {
    tok_norm_kind kind;
    tok_pattern pattern;    /* REPLACE */
    const char *s;          /* PREPEND, REPLACE: what to put; CHARSMAP: texts, each with a zero */
    uint32_t n;
    bool left, right;       /* STRIP */
    const uint32_t *trie;   /* CHARSMAP: a double array */
    uint32_t n_trie;
    bool longest;           /* CHARSMAP: the longest match, as SentencePiece has it */
} tok_norm;

typedef enum { TOK_REMOVED, TOK_ISOLATED, TOK_CONTIGUOUS, TOK_MERGED_PREVIOUS,
               TOK_MERGED_NEXT } tok_behavior;
typedef enum { TOK_SPLIT, TOK_PREFIX_SPACE, TOK_METASPACE, TOK_BYTES } tok_pre_kind;
enum { TOK_ALWAYS, TOK_FIRST, TOK_NEVER };
typedef struct {
    tok_pre_kind kind;
    tok_pattern pattern;    /* SPLIT; METASPACE: a blank */
    tok_behavior behavior;
    bool invert;
    char rep[5];            /* METASPACE: the character for a blank */
    int prepend;            /* METASPACE: TOK_ALWAYS, … */
} tok_pre;

typedef enum { TOK_D_BYTES, TOK_D_METASPACE, TOK_D_REPLACE, TOK_D_FALLBACK, TOK_D_FUSE,
               TOK_D_STRIP, TOK_D_SUFFIX, TOK_D_WORDPIECE } tok_dec_kind;
typedef struct {
    tok_dec_kind kind;
    tok_pattern pattern;    /* REPLACE, SUFFIX */
    const char *s;          /* REPLACE: what to put; METASPACE, STRIP: the character; WORDPIECE:
                               what continuing tokens begin with */
    uint32_t n;
    uint32_t start, stop;   /* STRIP */
    bool prepend;           /* METASPACE: the first token lost a blank */
    bool cleanup;           /* WORDPIECE: blanks before punctuation go */
} tok_dec;

typedef struct {
    tok_str content;        /* in tok_vocab.text */
    tok_str pattern;        /* what is looked for: the content, normalized where it says so */
    uint32_t id;
    bool special, lstrip, rstrip, single_word, normalized;
} tok_added;

typedef struct { uint32_t child, sibling, value1; uint8_t byte; } tok_node;
typedef struct {            /* a trie of added tokens; node 0 is the root */
    tok_node *node;
    uint32_t n, cap;
    uint32_t first[256];    /* child of the root by byte; 0: none */
} tok_trie;

/* ---- the tokenizer -------------------------------------------------------------------------- */
typedef struct tok_model tok_model; /* defined by the plugin */

struct tok {
    const ft_host *h;
    const ft_json_api *json;
    tok_vocab v;
    uint8_t *cls;           /* [65536] classes of the basic plane */
    struct tok_kept { struct tok_kept *next; char s[]; } *kept; /* what tok_keep copied */
    uint8_t *inert[4];      /* by TOK_NFC …: a bit a character of the basic plane, or NULL */

    tok_norm norm[TOK_MAX_STEPS];
    tok_pre pre[TOK_MAX_STEPS];
    tok_dec dec[TOK_MAX_STEPS];
    int n_norm, n_pre, n_dec;
    size_t n_regex;         /* bytes of all regular expressions */

    tok_added *added;       /* [n_added] by id */
    uint32_t n_added;
    tok_trie trie[2];       /* matched in the original text; in the normalized text */

    tok_model *model;       /* the plugin's own */
    bool special_by_model;  /* the model itself may give a special id */
    const char *unk;        /* "": none */

    uint32_t around[TOK_MAX_AROUND]; /* special tokens that add_special_tokens puts */
    uint32_t n_before, n_after; /* before the text, then behind it */
    bool templated;         /* a post-processor has filled `around` */
    bool trim, trim_prefix; /* ByteLevel's trim_offsets; its add_prefix_space */

    const char *shell;      /* not from a tokenizer.json: one without a model, for json() */
    ft_buf exported;
};

/* ---- encoding ------------------------------------------------------------------------------- */
enum { TOK_CACHE = 1 << 15, TOK_CACHED = 6 };
typedef struct { /* a word of up to 32 bytes and its tokens; 64 bytes */
    uint8_t len, n, tok_len[TOK_CACHED]; /* len 0: empty */
    uint64_t key[4];
    uint32_t id[TOK_CACHED];
} tok_cached;

typedef struct { uint32_t id, len; } tok_sym; /* a token, and the bytes of the word it stands for */

struct tok_enc {
    const tok *t;
    tok_cached *cache;      /* [TOK_CACHE] */
    ft_buf text;            /* the text, padded */
    const ft_text *in;
    bool bar;               /* data bytes may not become special tokens */

    uint32_t *id, *lo, *hi; /* the result */
    size_t n, cap;
    ft_buf trims;           /* uint32_t [3] each: index of an added token, blanks at its ends */

    tok_build norm[2];      /* normalizers write these in turn */
    tok_build step[TOK_MAX_STEPS]; /* a pre-tokenizer's rewritten piece */
    ft_buf changes, chars;  /* nfc.c */
    ft_buf sym;             /* tok_sym each: the tokens of a word */
    ft_buf spell, work[2];  /* the model's */
    ft_buf list[2], ends[2]; /* decode.c */
    void *match, *match_ctx, *jit; /* regex.c */
    uint64_t cpu_start, cpu_bytes; /* regex.c: thread CPU time of the first search; bytes behind */
    uint32_t cpu_count;
};

int tok_encode(tok_enc *e, const ft_text *in, unsigned flags, ft_tokens *out);
int tok_decode(tok_enc *e, const uint32_t *id, size_t n, unsigned flags, ft_bytes *out);
/* Returns code; after "out of memory" the buffers start anew. */
int tok_ended(tok_enc *e, int code);
tok_enc *tok_enc_new(const tok *t);
void tok_enc_free(tok_enc *e);

int tok_no_memory(const ft_host *h);
/* Adds a token of the model or an added one to the result. */
int tok_emit(tok_enc *e, uint32_t id, uint32_t lo, uint32_t hi);
bool tok_emit_room(tok_enc *e, size_t more);
/* True when any byte of original [lo, hi) came from data. */
bool tok_from_data(const tok_enc *e, uint32_t lo, uint32_t hi);

int tok_trie_add(tok_trie *t, const ft_host *h, const char *s, uint32_t n, uint32_t value);
/* Finds added tokens of trie `which` in x; calls `rest` for what lies between. */
int tok_find_added(tok_enc *e, const tok_text *x, int which,
                   int (*rest)(tok_enc *, const tok_text *));
/* Rewrites *x; the result lives until the next call. */
int tok_normalize(tok_enc *e, tok_text *x);
int tok_nf(tok_enc *e, tok_build *o, const tok_text *x, tok_norm_kind kind);
/* Finds out, once, which characters a normal form always leaves alone. */
int tok_nf_prepare(tok *t, tok_norm_kind kind);
/* False when a normal form would leave x as it is. */
bool tok_nf_needed(const tok *t, const tok_text *x, tok_norm_kind kind);
/* Drops or maps characters, puts blanks around ideographs (bert.c); needed: false when nothing
 * would change. */
bool tok_bert_needed(const tok_text *x, tok_norm_kind kind);
int tok_bert(tok_enc *e, tok_build *o, const tok_text *x, tok_norm_kind kind);
/* A precompiled normalizer of SentencePiece (charsmap.c). */
int tok_charsmap(tok_enc *e, tok_build *o, const tok_text *x, const tok_norm *s);
/* Spells every byte of x as a character (ByteLevel). */
void tok_map_bytes(tok_build *o, const tok_text *x);
void tok_regex_done(tok_enc *e);
/* Runs pre-tokenizer k and those behind it on x. */
int tok_split(tok_enc *e, int k, const tok_text *x);
/* Turns a word into tokens (word.c). */
int tok_word(tok_enc *e, const tok_text *x);
/* Puts the tokens of e->sym out, which stand for x piece by piece. */
int tok_put_symbols(tok_enc *e, const tok_text *x);
void tok_trim_offsets(tok_enc *e);
int tok_add_specials(tok_enc *e);
/* The spelling of an id as decoding sees it, or NULL. */
const char *tok_spelling(const tok *t, uint32_t id, size_t *len);

/* ---- the model ------------------------------------------------------------------------------ */
typedef struct tok_pieces tok_pieces;
typedef struct {
    const char *plugin;     /* "tokenizer-bpe" */
    const char *type;       /* model.type of a tokenizer.json */
    bool (*untyped)(const ft_json *model); /* whether a model that does not say its type is ours */
    /* Fills t->v and t->model from tokenizer.json; tok_read_vocab is there for the usual form. */
    int (*read_json)(tok *t, const ft_json *model, const ft_json *added);
    /* The same from pieces, which are in t->v already (load.h). */
    int (*read_pieces)(tok *t, const tok_pieces *p);
    /* Vocabulary and steps are known. */
    int (*finish)(tok *t);
    /* Leaves the tokens of a word in e->sym: 0; or puts them out itself: 1; or an error.  bar: a
     * special token must not come out. */
    int (*tokenize)(tok_enc *e, const tok_text *x, bool bar);
    /* Appends the value of "model" of a tokenizer.json; false: out of memory. */
    bool (*put_model)(const tok *t, ft_buf *b);
    /* ft_tokenizer's gguf; NULL: this kind is not written as GGUF. */
    int (*put_gguf)(tok *t, const ft_source *s, uint64_t rows, ft_bytes *out, uint64_t *n_keys);
    void (*done)(tok *t);   /* frees t->model, which may be NULL */
} tok_kind;
extern const tok_kind tok_this;
#endif
