/* chat.c -- see chat.h. */
#include "core/run/chat.h"
#include <string.h>

/* ---- opening --------------------------------------------------------------------------------- */

static void add_stop(ft_chat *c, int64_t id)
{
    if (id < 0 || c->n_stop == FT_CHAT_STOPS) return;
    for (int i = 0; i < c->n_stop; i++) {
        if (c->stop[i] == id) return;
    }
    c->stop[c->n_stop++] = (int32_t)id;
}

/* eos_token_id is a number or a list of them. */
static void add_stops_of(ft_chat *c, const ft_json *config)
{
    const ft_json *v = ft_json_get(config, "eos_token_id");
    int64_t id;
    if (ft_json_as_int(v, &id)) add_stop(c, id);
    for (size_t i = 0; v && v->type == FT_JSON_ARRAY && i < v->len; i++) {
        if (ft_json_as_int(&v->item[i], &id)) add_stop(c, id);
    }
}

/* What ends an answer: eos wherever it is named, and the ends of turns of the known chat formats,
 * as far as the vocabulary has them as special tokens. */
static void find_stops(ft_chat *c)
{
    static const char *const ends[] = { "<|im_end|>",    "<|eot_id|>",    "<|end_of_turn|>",
                                        "<end_of_turn>", "<|endoftext|>", "<|end|>",
                                        "<|return|>" };
    add_stops_of(c, c->tok.source->generation_config);
    add_stops_of(c, c->tok.source->config);
    add_stop(c, c->tok.vocab.eos);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        int64_t id = c->tok.vt->find(c->tok.self, ends[i], strlen(ends[i]));
        if (id >= 0 && c->tok.vt->special(c->tok.self, (uint32_t)id)) add_stop(c, id);
    }
}

int ft_chat_open(ft_chat *c, ft_source *source, ft_registry *r, const ft_offer *offer, ft_err *e)
{
    const char *text = source->chat_template;
    *c = (ft_chat){ .template = NULL };
    int code = ft_tokenizer_attach(&c->tok, source, r, offer, e);
    if (!code &&
        !(c->template = ft_template_compile("chat template", text, text ? strlen(text) : 0, e)))
        code = e->code;
    if (code) ft_chat_close(c);
    else find_stops(c);
    return code;
}

void ft_chat_close(ft_chat *c)
{
    ft_template_done(c->template);
    ft_tokenizer_close(&c->tok);
    *c = (ft_chat){ .template = NULL };
}

/* ---- text and ids ---------------------------------------------------------------------------- */

static int encode(ft_chat *c, const ft_text *text, unsigned flags, ft_buf *ids, ft_err *e)
{
    ft_tokens k;
    int code = ft_tokenizer_encode(&c->tok, text, flags, &k, e);
    if (code) return code;
    for (size_t i = 0; i < k.n; i++) {
        int32_t id = (int32_t)k.id[i];
        ft_buf_add(ids, &id, sizeof id);
    }
    return ids->oom ? ft_errf(e, FT_ENOMEM, "out of memory while tokenizing") : 0;
}

int ft_chat_prompt(ft_chat *c, const ft_json *messages, ft_buf *ids, ft_err *e)
{
    const ft_source *s = c->tok.source;
    ft_text text;
    const ft_json member[] = {
        { .type = FT_JSON_ARRAY,
          .key = "messages",
          .key_len = 8,
          .item = messages->item,
          .len = messages->len },
        { .type = FT_JSON_BOOL, .truth = true, .key = "add_generation_prompt", .key_len = 21 },
        { .type = FT_JSON_STRING,
          .text = s->bos_token,
          .len = (uint32_t)strlen(s->bos_token),
          .key = "bos_token",
          .key_len = 9 },
        { .type = FT_JSON_STRING,
          .text = s->eos_token,
          .len = (uint32_t)strlen(s->eos_token),
          .key = "eos_token",
          .key_len = 9 },
    };
    const ft_json vars = { .type = FT_JSON_OBJECT,
                           .item = member,
                           .len = sizeof member / sizeof *member };
    if (messages->type != FT_JSON_ARRAY)
        return ft_errf(e, FT_EINVAL, "a conversation must be a list of messages");
    int code = ft_template_render(c->template, &vars, &text, e);
    return code ? code : encode(c, &text, 0, ids, e);
}

int ft_chat_raw(ft_chat *c, const char *text, size_t n, unsigned flags, ft_buf *ids, ft_err *e)
{
    const ft_text t = { .text = text, .len = n };
    return encode(c, &t, flags, ids, e);
}

int ft_chat_text(ft_chat *c, const int32_t *ids, int64_t n, bool raw, ft_buf *text, ft_err *e)
{
    ft_bytes b;
    int code = ft_tokenizer_decode(&c->tok, (const uint32_t *)(const void *)ids, (size_t)n,
                                   raw ? 0 : FT_DECODE_SKIP_SPECIAL, &b, e);
    if (code) return code;
    ft_buf_add(text, b.p, b.n);
    return text->oom ? ft_errf(e, FT_ENOMEM, "out of memory while decoding") : 0;
}
