/* encode.c -- the whole way from text to tokens, and the scratch memory that it takes. */
#include "tok.h"

tok_enc *tok_enc_new(const tok *t)
{
    tok_enc *e = calloc(1, sizeof *e);
    if (!e) return NULL;
    e->t = t;
    e->cache = aligned_alloc(64, TOK_CACHE * sizeof *e->cache);
    if (!e->cache) {
        free(e);
        return NULL;
    }
    memset(e->cache, 0, TOK_CACHE * sizeof *e->cache);
    return e;
}

/* Gives back all buffers: at the end, and after one of them could not grow. */
static void clear(tok_enc *e)
{
    ft_buf *const all[] = { &e->text, &e->trims, &e->changes, &e->chars, &e->sym, &e->work[0],
                            &e->work[1], &e->spell, &e->list[0], &e->list[1], &e->ends[0],
                            &e->ends[1] };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) ft_buf_free(all[i]);
    tok_build_free(&e->norm[0]);
    tok_build_free(&e->norm[1]);
    for (int i = 0; i < TOK_MAX_STEPS; i++) tok_build_free(&e->step[i]);
}

int tok_ended(tok_enc *e, int code)
{
    if (code == FT_ENOMEM) clear(e);
    return code;
}

void tok_enc_free(tok_enc *e)
{
    if (!e) return;
    clear(e);
    tok_regex_done(e);
    free(e->cache);
    free(e->id);
    free(e->lo);
    free(e->hi);
    free(e);
}

static int between_tokens(tok_enc *e, const tok_text *x) { return tok_split(e, 0, x); }

/* A stretch between the added tokens of the original text. */
static int stretch(tok_enc *e, const tok_text *x)
{
    tok_text y = *x;
    int code = tok_normalize(e, &y);
    if (code || !y.n) return code;
    return e->t->trie[1].n ? tok_find_added(e, &y, 1, between_tokens) : tok_split(e, 0, &y);
}

/* Copies the text behind which TOK_PAD bytes can be read, and checks it. */
static int take_text(tok_enc *e, const ft_text *in)
{
    const ft_host *h = e->t->h;
    size_t bad;
    if (in->len > UINT32_MAX / 4)
        return h->fail(h, FT_EINVAL, "tokenizer: a text has %zu bytes; at most %u can be encoded "
                       "at once", in->len, UINT32_MAX / 4);
    if (!tok_utf8_valid(in->text, in->len, &bad))
        return h->fail(h, FT_EFORMAT, "tokenizer: the text is not valid UTF-8 at byte %zu", bad);
    e->text.n = 0;
    ft_buf_add(&e->text, in->text, in->len);
    ft_buf_grow(&e->text, TOK_PAD);
    if (e->text.oom) return tok_no_memory(h);
    e->text.n = in->len;
    return 0;
}

static bool has_data(const ft_text *in)
{
    for (size_t i = 0; i < in->n_span; i++) {
        if (in->span[i].from == FT_FROM_DATA) return true;
    }
    return false;
}

int tok_encode(tok_enc *e, const ft_text *in, unsigned flags, ft_tokens *out)
{
    int code = take_text(e, in);
    if (code) return tok_ended(e, code);
    e->in = in;
    e->bar = !(flags & FT_ENCODE_SPECIAL_IN_DATA) && has_data(in);
    e->n = e->trims.n = 0;
    e->cpu_start = e->cpu_bytes = e->cpu_count = 0;
    tok_text x = { .p = e->text.p, .n = (uint32_t)e->text.n };
    if (x.n) code = tok_find_added(e, &x, 0, stretch);
    if (!code && e->t->trim) tok_trim_offsets(e);
    if (!code && (flags & FT_ENCODE_ADD_SPECIAL)) code = tok_add_specials(e);
    e->in = NULL;
    if (!code) *out = (ft_tokens){ e->id, e->lo, e->hi, e->n };
    return tok_ended(e, code);
}
