/* spm.c -- a SentencePiece model, tokenizer.model: a protocol buffer (sentencepiece_model.proto).
 *
 *   ModelProto      1: pieces (repeated)  2: trainer_spec  3: normalizer_spec
 *   SentencePiece   1: piece, text  2: score, float  3: type, 1 to 6 (default 1)
 *   TrainerSpec     3: model_type (default 1)  24: treat_whitespace_as_suffix
 *                   40 … 43: unk_id, bos_id, eos_id, pad_id (defaults 0, 1, 2, -1)
 *   NormalizerSpec  2: precompiled_charsmap  3: add_dummy_prefix  4: remove_extra_whitespaces
 *                   5: escape_whitespaces (defaults true)
 *
 * Wire format: a key (number << 3 | type) as a varint, then by type a varint, 8 bytes, a length and
 * as many bytes, or 4 bytes.  Every length is checked against what is left; other fields are passed
 * over.  Tokens that the folder adds stand in tokenizer_config.json (added_tokens_decoder), as do
 * add_bos_token, add_eos_token and legacy.  Left out: models of type word and char, blanks as
 * suffixes, denormalizers. */
#include "load.h"

enum { MAX_PIECES = 1 << 20 };

typedef struct { const char *p, *end; } wire;
typedef struct { uint64_t number, value, n; const char *p; } field; /* p: bytes, or NULL */

static bool varint(wire *w, uint64_t *out)
{
    *out = 0;
    for (unsigned shift = 0; shift < 64 && w->p < w->end; shift += 7) {
        unsigned char c = (unsigned char)*w->p++;
        *out |= (uint64_t)(c & 0x7F) << shift;
        if (!(c & 0x80)) return true;
    }
    return false;
}

/* The next field: 1; the end: 0; broken: -1. */
static int next(wire *w, field *f)
{
    uint64_t key, fixed = 0;
    *f = (field){ 0 };
    if (w->p == w->end) return 0;
    if (!varint(w, &key)) return -1;
    f->number = key >> 3;
    switch (key & 7) {
    case 0: return varint(w, &f->value) ? 1 : -1;
    case 1: fixed = 8; break;
    case 5: fixed = 4; break;
    case 2:
        if (!varint(w, &f->n) || f->n > (uint64_t)(w->end - w->p)) return -1;
        f->p = w->p;
        w->p += f->n;
        return 1;
    default: return -1;
    }
    if (fixed > (uint64_t)(w->end - w->p)) return -1;
    memcpy(&f->value, w->p, fixed);
    w->p += fixed;
    return 1;
}

/* What a model says of itself. */
typedef struct {
    uint64_t n_pieces, type;
    int64_t unk, bos, eos, pad;
    bool suffix, prefix, squeeze, escape;
    const char *charsmap;
    uint64_t n_charsmap;
} spec;

static bool read_trainer(spec *m, wire w)
{
    field f;
    int more;
    while ((more = next(&w, &f)) > 0) {
        int64_t v = (int64_t)f.value;
        switch (f.number) {
        case 3: m->type = f.value; break;
        case 24: m->suffix = v != 0; break;
        case 40: m->unk = v; break;
        case 41: m->bos = v; break;
        case 42: m->eos = v; break;
        case 43: m->pad = v; break;
        default: break;
        }
    }
    return more == 0;
}

static bool read_normalizer(spec *m, wire w)
{
    field f;
    int more;
    while ((more = next(&w, &f)) > 0) {
        if (f.number == 2 && f.p) {
            m->charsmap = f.n ? f.p : NULL;
            m->n_charsmap = f.n;
        }
        if (f.number == 3) m->prefix = f.value != 0;
        if (f.number == 4) m->squeeze = f.value != 0;
        if (f.number == 5) m->escape = f.value != 0;
    }
    return more == 0;
}

/* Everything but the pieces, which are only counted; false: broken. */
static bool read_spec(spec *m, wire w)
{
    field f;
    int more;
    *m = (spec){ .type = 1, .bos = 1, .eos = 2, .pad = -1, .prefix = true, .squeeze = true,
                 .escape = true };
    while ((more = next(&w, &f)) > 0) {
        wire in = { f.p, f.p ? f.p + f.n : NULL };
        if (f.number >= 1 && f.number <= 3 && !f.p) return false;
        if (f.number == 1) m->n_pieces++;
        if (f.number == 2 && !read_trainer(m, in)) return false;
        if (f.number == 3 && !read_normalizer(m, in)) return false;
    }
    return more == 0 && m->n_pieces;
}

static wire whole(const ft_source *s)
{
    return (wire){ s->tokenizer_model, s->tokenizer_model + s->tokenizer_model_size };
}

int tok_spm_type(const ft_source *s)
{
    spec m;
    if (!FT_HAS(s, tokenizer_model_size) || !s->tokenizer_model) return 0;
    return read_spec(&m, whole(s)) && m.type >= 1 && m.type <= 4 ? (int)m.type : 0;
}

static bool read_piece(tok_piece *x, wire w)
{
    field f;
    int more;
    *x = (tok_piece){ .p = "", .type = TOK_NORMAL };
    while ((more = next(&w, &f)) > 0) {
        uint32_t bits = (uint32_t)f.value;
        if (f.number == 1 && f.p) {
            x->p = f.p;
            x->n = f.n;
        }
        if (f.number == 2) memcpy(&x->score, &bits, 4);
        if (f.number == 3) x->type = f.value <= TOK_BYTE ? (int32_t)f.value : 0;
    }
    return more == 0 && x->type;
}

static int read_pieces(tok *t, tok_pieces *ps, uint64_t n, wire w)
{
    field f;
    if (n > MAX_PIECES)
        return t->h->fail(t->h, FT_EFORMAT, "tokenizer.model: %llu pieces; at most %d are read",
                          (unsigned long long)n, MAX_PIECES);
    ps->piece = calloc(n, sizeof *ps->piece);
    if (!ps->piece) return tok_no_memory(t->h);
    while (next(&w, &f) > 0) {
        wire in = { f.p, f.p ? f.p + f.n : NULL };
        if (f.number == 1 && !read_piece(&ps->piece[ps->n++], in))
            return t->h->fail(t->h, FT_EFORMAT, "tokenizer.model: piece %llu is broken",
                              (unsigned long long)ps->n - 1);
    }
    return 0;
}

static bool setting(const ft_source *s, const char *key, bool other)
{
    const ft_json *v = ft_json_get(s->tokenizer_config, key);
    return v && v->type == FT_JSON_BOOL ? v->truth : other;
}

/* An id of the model, or -1 where it has no such token. */
static int64_t id_below(int64_t id, uint64_t n)
{
    int32_t v = (int32_t)id; /* negative ones are written with 64 bits */
    return v >= 0 && (uint64_t)v < n ? v : -1;
}

int tok_load_spm(tok *t, const ft_source *s, ft_vocab *out)
{
    spec m;
    read_spec(&m, whole(s)); /* claimed: it is whole */
    bool bpe = m.type == 2;
    if (m.suffix || !m.escape)
        return t->h->fail(t->h, FT_EUNSUP, "tokenizer.model: %s is not supported", m.suffix
                          ? "treat_whitespace_as_suffix" : "escape_whitespaces: false");
    tok_pieces ps = { .file = "tokenizer.model", .style = TOK_SENTENCE, .scored = true,
                      .single = true, .prefix = m.prefix, .squeeze = m.squeeze,
                      .every = !bpe || setting(s, "legacy", true), .charsmap = m.charsmap,
                      .n_charsmap = m.n_charsmap,
                      .names = s,
                      .added = ft_json_get(s->tokenizer_config, "added_tokens_decoder") };
    int code = read_pieces(t, &ps, m.n_pieces, whole(s));
    *out = (ft_vocab){ .size = out->size,
                       .bos = id_below(m.bos, ps.n),
                       .eos = id_below(m.eos, ps.n),
                       .pad = id_below(m.pad, ps.n),
                       .unk = id_below(m.unk, ps.n) };
    out->add_bos = setting(s, "add_bos_token", bpe);
    out->add_eos = setting(s, "add_eos_token", !bpe);
    if (!code) code = tok_load_pieces(t, &ps, out);
    free(ps.piece);
    return code;
}
