/* export.c -- tokenizer.json for a tokenizer that came from GGUF or a SentencePiece model.
 *
 * Opened by HF tokenizers it gives the same ids: all tokens stand in the model's vocabulary, so
 * that added tokens keep their numbers. */
#include "load.h"

void tok_put_token(const tok *t, ft_buf *b, uint32_t id)
{
    ft_json_quote(b, t->v.text.p + t->v.str[id].at, t->v.str[id].len);
}

void tok_put_vocab(const tok *t, ft_buf *b)
{
    const char *comma = "";
    ft_buf_puts(b, "\"vocab\":{");
    for (uint32_t id = 0; id < t->v.n_id; id++) {
        if (!t->v.flag[id]) continue;
        ft_buf_printf(b, "%s\n", comma);
        tok_put_token(t, b, id);
        ft_buf_printf(b, ":%u", id);
        comma = ",";
    }
    ft_buf_putc(b, '}');
}

static void put_added(const tok *t, ft_buf *b)
{
    static const char *const word[] = { "false", "true" };
    ft_buf_puts(b, "\"added_tokens\":[");
    for (uint32_t i = 0; i < t->n_added; i++) {
        const tok_added *a = &t->added[i];
        ft_buf_printf(b, "%s\n{\"id\":%u,\"content\":", i ? "," : "", a->id);
        tok_put_token(t, b, a->id);
        ft_buf_printf(b, ",\"single_word\":%s,\"lstrip\":%s,\"rstrip\":%s,\"normalized\":%s,"
                      "\"special\":%s}", word[a->single_word], word[a->lstrip], word[a->rstrip],
                      word[a->normalized], word[a->special]);
    }
    ft_buf_puts(b, "],\n");
}

int tok_export_json(tok *t, ft_bytes *out)
{
    ft_buf *b = &t->exported;
    if (!t->shell)
        return t->h->fail(t->h, FT_EUNSUP,
                          "%s: this tokenizer was read from a tokenizer.json; copy "
                          "that file",
                          tok_this.plugin);
    b->n = 0;
    ft_buf_puts(b, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\n");
    put_added(t, b);
    ft_buf_puts(b, t->shell);
    ft_buf_puts(b, "\"model\":");
    bool fine = tok_this.put_model(t, b);
    ft_buf_puts(b, "}\n");
    if (!fine || b->oom) {
        ft_buf_free(b);
        return tok_no_memory(t->h);
    }
    *out = (ft_bytes){ b->p, b->n };
    return 0;
}
