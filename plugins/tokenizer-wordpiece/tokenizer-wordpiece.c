/* tokenizer-wordpiece.c -- the plugin: WordPiece, BERT's tokenizer.
 *
 * A word is cut from the left: the longest spelling of the vocabulary each time, where what goes on
 * is spelled with a prefix ("##"); when nothing fits, or the word has more than
 * max_input_chars_per_word characters, the whole word is unk_token.  Reads tokenizer.json with a
 * WordPiece model and the "bert" tokenizers of GGUF files, whose models are taken for uncased.
 * Ids, offsets and decoded text equal HF tokenizers'.  Left out: pairs of sequences, vocab.txt. */
#include "../tokenizer-common/load.h"

struct tok_model {
    const char *prefix;     /* of what continues a word */
    uint32_t n_prefix;
    uint32_t most;          /* characters of a word */
    uint32_t longest;       /* bytes of a spelling */
    uint32_t unk;           /* TOK_NONE: there is none */
};

static int make(tok *t)
{
    t->model = calloc(1, sizeof *t->model);
    if (!t->model) return tok_no_memory(t->h);
    *t->model = (tok_model){ .prefix = "##", .most = 100, .unk = TOK_NONE };
    return 0;
}

static void done(tok *t) { free(t->model); }

static int read_json(tok *t, const ft_json *model, const ft_json *added)
{
    const ft_json *most = ft_json_get(model, "max_input_chars_per_word");
    uint64_t n = 100;
    int code = make(t);
    if (!code && most && (!tok_read_id(most, &n) || n > UINT32_MAX))
        return tok_wrong_json(t, "model.max_input_chars_per_word must be a whole number");
    if (!code) code = tok_model_text(t, model, "unk_token", &t->unk);
    if (!code && ft_json_get(model, "continuing_subword_prefix"))
        code = tok_model_text(t, model, "continuing_subword_prefix", &t->model->prefix);
    if (!code) t->model->most = (uint32_t)n;
    return code ? code : tok_read_vocab(t, ft_json_get(model, "vocab"), added);
}

static int read_pieces(tok *t, const tok_pieces *p)
{
    (void)p; /* the spellings are all */
    return make(t);
}

static int finish(tok *t)
{
    tok_model *m = t->model;
    m->n_prefix = (uint32_t)strlen(m->prefix);
    m->unk = tok_vocab_find(&t->v, t->unk, strlen(t->unk), TOK_MODEL);
    for (uint32_t id = 0; id < t->v.n_id; id++) {
        if (t->v.str[id].len > m->longest) m->longest = t->v.str[id].len;
    }
    t->special_by_model = tok_has_special(t);
    return 0;
}

/* The longest spelling that x[at, n) begins with, or TOK_NONE; *end: where it ends. */
static uint32_t longest(tok_enc *e, const tok_text *x, uint32_t at, bool bar, uint32_t *end)
{
    const tok *t = e->t;
    const tok_model *m = t->model;
    uint32_t before = at ? m->n_prefix : 0;
    uint32_t most = m->longest > before ? m->longest - before : 0;
    uint32_t to = x->n - at > most ? at + most : x->n;
    e->spell.n = 0;
    ft_buf_add(&e->spell, m->prefix, before);
    ft_buf_add(&e->spell, x->p + at, to - at);
    if (e->spell.oom) return TOK_NONE;
    for (; to > at; to--) {
        if (to < x->n && tok_inside(x->p[to])) continue;
        uint32_t id = tok_vocab_find(&t->v, e->spell.p, before + to - at, TOK_MODEL);
        *end = to;
        if (id != TOK_NONE && !(bar && (t->v.flag[id] & TOK_SPECIAL))) return id;
    }
    return TOK_NONE;
}

/* The whole word is one unknown token. */
static int unknown(tok_enc *e, const tok_text *x)
{
    const tok *t = e->t;
    tok_sym s = { t->model->unk, x->n };
    if (s.id == TOK_NONE)
        return t->h->fail(t->h, FT_EFORMAT, "tokenizer: the text has a word that the vocabulary "
                          "cannot spell, and unk_token \"%.100s\" is not in it either", t->unk);
    e->sym.n = 0;
    ft_buf_add(&e->sym, &s, sizeof s);
    return e->sym.oom ? tok_no_memory(t->h) : 0;
}

static int tokenize(tok_enc *e, const tok_text *x, bool bar)
{
    uint32_t chars = 0, end = 0;
    for (uint32_t i = 0; i < x->n; i++) chars += !tok_inside(x->p[i]);
    if (chars > e->t->model->most) return unknown(e, x);
    for (uint32_t at = 0; at < x->n; at = end) {
        uint32_t id = longest(e, x, at, bar, &end);
        if (e->spell.oom) return tok_no_memory(e->t->h);
        if (id == TOK_NONE) return unknown(e, x);
        tok_sym s = { id, end - at };
        ft_buf_add(&e->sym, &s, sizeof s);
    }
    return e->sym.oom ? tok_no_memory(e->t->h) : 0;
}

static bool put_model(const tok *t, ft_buf *b)
{
    ft_buf_puts(b, "{\"type\":\"WordPiece\",\"unk_token\":");
    ft_json_quote(b, t->unk, strlen(t->unk));
    ft_buf_puts(b, ",\"continuing_subword_prefix\":");
    ft_json_quote(b, t->model->prefix, t->model->n_prefix);
    ft_buf_printf(b, ",\"max_input_chars_per_word\":%u,", t->model->most);
    tok_put_vocab(t, b);
    ft_buf_putc(b, '}');
    return true;
}

/* A vocabulary without merges and scores. */
static bool has_words(const ft_json *model)
{
    const ft_json *vocab = ft_json_get(model, "vocab");
    return vocab && vocab->type == FT_JSON_OBJECT && !ft_json_get(model, "merges") &&
           ft_json_get(model, "continuing_subword_prefix");
}

const tok_kind tok_this = {
    .plugin = "tokenizer-wordpiece", .type = "WordPiece", .untyped = has_words,
    .read_json = read_json, .read_pieces = read_pieces, .finish = finish, .tokenize = tokenize,
    .put_model = put_model, .done = done,
};

static const ft_plugin plugin = {
    .abi = FT_ABI_INIT, .role = "ft.tokenizer/1", .name = "tokenizer-wordpiece",
    .version = "0.2.0",
    .summary = "WordPiece (BERT) from tokenizer.json or GGUF, exact with HF tokenizers",
    .params = tok_params, .config_size = sizeof(tok_config), .instance_size = sizeof(tok),
    .open = tok_open, .close = tok_close, .vtable = &tok_vtable,
};

FT_PLUGIN(plugin, "tokenizer-wordpiece");
