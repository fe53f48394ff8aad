/* model.c -- pieces and their scores: read from tokenizer.json, GGUF or SentencePiece, and
 * written. */
#include <math.h>
#include "unigram.h"

static int make(tok *t)
{
    t->model = calloc(1, sizeof *t->model);
    if (!t->model) return tok_no_memory(t->h);
    t->model->unk = TOK_NONE;
    t->model->score = calloc((size_t)t->v.n_id + 1, sizeof *t->model->score);
    t->model->sorted = calloc((size_t)t->v.n_id + 1, sizeof *t->model->sorted);
    return t->model->score && t->model->sorted ? 0 : tok_no_memory(t->h);
}

void unigram_done(tok *t)
{
    if (!t->model) return;
    free(t->model->score);
    free(t->model->sorted);
    free(t->model);
}

/* A piece that may be found in text. */
static int add_piece(tok *t, uint32_t id)
{
    uint32_t n = t->v.str[id].len;
    if (n > UNIGRAM_MAX_PIECE)
        return t->h->fail(t->h, FT_EFORMAT, "tokenizer: piece %u has %u bytes; at most %d are "
                          "looked for in text", id, n, UNIGRAM_MAX_PIECE);
    if (n) t->model->sorted[t->model->n++] = id;
    return 0;
}

/* ---- tokenizer.json -------------------------------------------------------------------------- */
static int wrong_piece(tok *t, size_t i)
{
    return t->h->fail(t->h, FT_EFORMAT, "tokenizer.json: piece %zu is not [\"text\", score]", i);
}

static int put_texts(tok *t, const ft_json *vocab, const ft_json *added)
{
    uint64_t n_id = vocab->len;
    int code = tok_count_added(t, added, &n_id);
    if (!code) code = tok_vocab_begin(&t->v, t->h, n_id, vocab->len + (added ? added->len : 0));
    for (size_t i = 0; !code && i < vocab->len; i++) {
        const ft_json *x = &vocab->item[i];
        bool good = x->type == FT_JSON_ARRAY && x->len == 2 &&
                    x->item[0].type == FT_JSON_STRING && x->item[1].type == FT_JSON_NUMBER;
        code = good ? tok_vocab_put(&t->v, t->h, i, x->item[0].text, x->item[0].len, TOK_MODEL)
                    : wrong_piece(t, i);
    }
    return code;
}

/* unk_id: a piece, or null. */
static int read_unk(tok *t, const ft_json *model, size_t n)
{
    const ft_json *v = ft_json_get(model, "unk_id");
    uint64_t id;
    if (!v || v->type == FT_JSON_NULL) return 0;
    if (!tok_read_id(v, &id) || id >= n)
        return tok_wrong_json(t, "model.unk_id must be the place of a piece, or null");
    t->model->unk = (uint32_t)id;
    tok_str s = t->v.str[id];
    t->unk = tok_keep(t, t->v.text.p + s.at, s.len);
    return t->unk ? 0 : FT_ENOMEM;
}

int unigram_read_json(tok *t, const ft_json *model, const ft_json *added)
{
    const ft_json *vocab = ft_json_get(model, "vocab");
    double low = INFINITY;
    if (!vocab || vocab->type != FT_JSON_ARRAY)
        return tok_wrong_json(t, "a Unigram model needs \"vocab\", a list of [\"text\", score]");
    int code = put_texts(t, vocab, added);
    if (!code) code = make(t);
    if (!code) code = read_unk(t, model, vocab->len);
    if (!code) code = tok_model_flag(t, model, "byte_fallback", &t->model->byte_fallback);
    for (uint32_t i = 0; !code && i < vocab->len; i++) {
        const ft_json *score = &vocab->item[i].item[1];
        double v = t->model->score[i] = unigram_number(score->text, score->len);
        if (!isfinite(v)) return wrong_piece(t, i);
        low = v < low ? v : low;
        code = add_piece(t, i);
    }
    if (!code) t->model->unk_score = low - 10;
    return code;
}

/* ---- pieces ---------------------------------------------------------------------------------- */
int unigram_read_pieces(tok *t, const tok_pieces *ps)
{
    float low = INFINITY;
    if (!ps->scored)
        return t->h->fail(t->h, FT_EFORMAT, "%s: there is no tokenizer.ggml.scores", ps->file);
    int code = make(t);
    for (uint32_t i = 0; !code && i < ps->n; i++) {
        const tok_piece *x = &ps->piece[i];
        t->model->score[i] = x->type == TOK_USER_DEFINED ? 0 : x->score;
        if (!isfinite(x->score))
            return t->h->fail(t->h, FT_EFORMAT, "%s: the score of token %u is no number", ps->file,
                              i);
        if (x->type == TOK_UNKNOWN && t->model->unk == TOK_NONE) t->model->unk = i;
        if (x->type == TOK_BYTE) t->model->byte_fallback = true;
        if (x->type == TOK_NORMAL && x->score < low) low = x->score;
        if (x->type == TOK_NORMAL || x->type == TOK_USER_DEFINED) code = add_piece(t, i);
    }
    if (code) return code;
    t->model->single = ps->single;
    t->model->unk_score = ps->single ? low - 10 : (double)low - 10;
    return 0;
}

/* ---- both ------------------------------------------------------------------------------------ */
static int by_bytes(const void *a, const void *b, void *ctx)
{
    const tok_vocab *v = ctx;
    tok_str x = v->str[*(const uint32_t *)a], y = v->str[*(const uint32_t *)b];
    int order = memcmp(v->text.p + x.at, v->text.p + y.at, x.len < y.len ? x.len : y.len);
    return order ? order : x.len < y.len ? -1 : x.len > y.len;
}

int unigram_finish(tok *t)
{
    tok_model *m = t->model;
    if (m->n) qsort_r(m->sorted, m->n, sizeof *m->sorted, by_bytes, &t->v);
    for (uint32_t i = 0; i < m->n; i++)
        m->first[(unsigned char)t->v.text.p[t->v.str[m->sorted[i]].at] + 1]++;
    for (unsigned b = 0; b < 256; b++) m->first[b + 1] += m->first[b];
    for (unsigned b = 0; b < 256; b++) {
        char s[8];
        snprintf(s, sizeof s, "<0x%02X>", b);
        m->byte_id[b] = tok_vocab_find(&t->v, s, 6, TOK_MODEL);
    }
    t->special_by_model = tok_has_special(t);
    return 0;
}

bool unigram_put_model(const tok *t, ft_buf *b)
{
    const tok_model *m = t->model;
    ft_buf_puts(b, "{\"type\":\"Unigram\",\"unk_id\":");
    if (m->unk == TOK_NONE) ft_buf_puts(b, "null");
    else ft_buf_printf(b, "%u", m->unk);
    ft_buf_puts(b, ",\"vocab\":[");
    for (uint32_t id = 0; id < t->v.n_id; id++) {
        ft_buf_puts(b, id ? ",\n[" : "\n[");
        tok_put_token(t, b, id);
        ft_buf_printf(b, ",%.17g]", m->score[id]);
    }
    ft_buf_printf(b, "],\"byte_fallback\":%s}", m->byte_fallback ? "true" : "false");
    return true;
}
