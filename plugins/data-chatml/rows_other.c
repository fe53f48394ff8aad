/* rows_other.c -- Alpaca, ShareGPT, prompt/completion, plain text and preference pairs.
 *
 * Alpaca: the user says instruction and, on the next line, input, as LLaMA-Factory has it; history
 * is a list of [question, answer].  ShareGPT: from is human, gpt, system, function_call,
 * observation or a name for one of these; a function_call holds {"name", "arguments"} or a list of
 * them.  Preference: prompt, chosen, rejected as texts or messages; the prompt may be left out when
 * both begin with the same messages, or texts with the same words; or a ShareGPT conversation or
 * Alpaca instruction with two answers. */
#include <stdio.h>
#include <string.h>
#include "rows.h"

/* The string of a key that must be there. */
static int need_text(row_reader *r, const ft_json *v, const char *key, const ft_json **out)
{
    *out = ft_json_get(v, key);
    return is_text(*out) ? FT_OK : row_fail(r, FT_EFORMAT, "%s is missing or not a text", key);
}

/* ---- Alpaca --------------------------------------------------------------------------------- */

/* [[question, answer], …] */
static int add_history(row_reader *r, message_list *l, const ft_json *history)
{
    int code = FT_OK;
    if (!is_given(history)) return FT_OK;
    if (history->type != FT_JSON_ARRAY) return row_fail(r, FT_EFORMAT, "history is not a list");
    for (size_t i = 0; i < history->len && !code; i++) {
        const ft_json *pair = &history->item[i];
        bool good = pair->type == FT_JSON_ARRAY && pair->len == 2 && is_text(&pair->item[0]) &&
                    is_text(&pair->item[1]);
        if (!good) return row_fail(r, FT_EFORMAT, "history %zu is not [question, answer]", i);
        code = add_text_message(r, l, "user", &pair->item[0]);
        if (!code) code = add_text_message(r, l, "assistant", &pair->item[1]);
    }
    return code;
}

int add_instruction(row_reader *r, message_list *l, const ft_json *v)
{
    const ft_json *input = ft_json_get(v, "input"), *system = ft_json_get(v, "system");
    const ft_json *instruction;
    int code = need_text(r, v, "instruction", &instruction);
    if (code) return code;
    if (is_given(input) && !is_text(input)) return row_fail(r, FT_EFORMAT, "input is not a text");
    if (is_given(system) && !is_text(system))
        return row_fail(r, FT_EFORMAT, "system is not a text");
    if (is_given(system) && system->len) code = add_text_message(r, l, "system", system);
    if (!code) code = add_history(r, l, ft_json_get(v, "history"));
    if (code) return code;
    ft_json question = *instruction;
    if (is_given(input) && input->len) {
        size_t n;
        const char *text = pool_join(r->mem, instruction, instruction->len ? "\n" : "", input, &n);
        question = json_text(NULL, text, n);
    }
    return add_text_message(r, l, "user", &question);
}

int row_alpaca(row_reader *r, const ft_json *v, data_row *out)
{
    const ft_json *output;
    message_list l = { 0 };
    int code = need_text(r, v, "output", &output);
    if (!code) code = add_instruction(r, &l, v);
    if (!code) code = add_text_message(r, &l, "assistant", output);
    out->n = 1;
    return code ? code : finish_dialog(r, &l, 0, &out->d[0]);
}

/* ---- ShareGPT ------------------------------------------------------------------------------- */

static const struct { const char *from, *role; } names[] = {
    { "human", "user" },          { "user", "user" },       { "gpt", "assistant" },
    { "assistant", "assistant" }, { "model", "assistant" }, { "chatgpt", "assistant" },
    { "bing", "assistant" },      { "bard", "assistant" },  { "system", "system" },
    { "observation", "tool" },    { "tool", "tool" },       { "function_response", "tool" },
    { "function_call", NULL },
};

/* {"type": "function", "function": call} */
static ft_json one_call(row_reader *r, const ft_json *call)
{
    ft_json item[2] = { json_text("type", "function", 8), json_named("function", call) };
    return json_object(r->mem, NULL, item, 2);
}

/* {"role": "assistant", "content": "", "tool_calls": […]} */
static int add_call(row_reader *r, message_list *l, const ft_json *value)
{
    const ft_json *call = parse_inner(r, "function_call", value);
    if (!call) return FT_EFORMAT;
    size_t n = call->type == FT_JSON_ARRAY ? call->len : 1;
    ft_json *item = pool_get(r->mem, n * sizeof *item);
    for (size_t i = 0; item && i < n; i++) {
        const ft_json *one = call->type == FT_JSON_ARRAY ? &call->item[i] : call;
        if (!is_text(ft_json_get(one, "name")))
            return row_fail(r, FT_EFORMAT, "turn %zu: function_call has no name", l->n);
        item[i] = one_call(r, one);
    }
    if (!item || !n)
        return row_fail(r, item ? FT_EFORMAT : FT_ENOMEM, "turn %zu: no call in it", l->n);
    ft_json m[3] = { json_text("role", "assistant", 9), json_text("content", "", 0),
                     json_array(r->mem, "tool_calls", item, n) };
    ft_json message = json_object(r->mem, NULL, m, 3);
    return r->mem->oom ? row_fail(r, FT_ENOMEM, "out of memory") : add_message(r, l, &message);
}

int add_turn(row_reader *r, message_list *l, const ft_json *turn)
{
    const ft_json *from = ft_json_get(turn, "from"), *value = ft_json_get(turn, "value");
    if (!is_text(from)) return row_fail(r, FT_EFORMAT, "turn %zu has no `from`", l->n);
    if (!is_text(value)) return row_fail(r, FT_EFORMAT, "turn %zu has no `value`", l->n);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strlen(names[i].from) != from->len || memcmp(names[i].from, from->text, from->len))
            continue;
        return names[i].role ? add_text_message(r, l, names[i].role, value) : add_call(r, l, value);
    }
    return row_fail(r, FT_EFORMAT,
                    "turn %zu is from \"%.40s\", not from human, gpt, system, function_call, "
                    "observation or tool",
                    l->n, from->text);
}

/* A ShareGPT conversation with its system text. */
static int add_turns(row_reader *r, message_list *l, const ft_json *v)
{
    const ft_json *turns = ft_json_get(v, "conversations"), *system = ft_json_get(v, "system");
    int code = FT_OK;
    if (!turns || turns->type != FT_JSON_ARRAY)
        return row_fail(r, FT_EFORMAT, "conversations is not a list");
    if (is_given(system) && !is_text(system))
        return row_fail(r, FT_EFORMAT, "system is not a text");
    if (is_given(system) && system->len) code = add_text_message(r, l, "system", system);
    for (size_t i = 0; i < turns->len && !code; i++) code = add_turn(r, l, &turns->item[i]);
    return code;
}

int row_sharegpt(row_reader *r, const ft_json *v, data_row *out)
{
    message_list l = { 0 };
    int code = add_turns(r, &l, v);
    out->n = 1;
    return code ? code : finish_dialog(r, &l, 0, &out->d[0]);
}

/* ---- prompt and completion; text ------------------------------------------------------------ */

int row_prompt_completion(row_reader *r, const ft_json *v, data_row *out)
{
    const ft_json *prompt = ft_json_get(v, "prompt"), *completion = ft_json_get(v, "completion");
    out->n = 1;
    if (is_text(prompt) && is_text(completion)) {
        out->d[0].prompt = *prompt;
        out->d[0].completion = *completion;
        return FT_OK;
    }
    message_list l = { 0 };
    if (!prompt || !completion || prompt->type != FT_JSON_ARRAY ||
        completion->type != FT_JSON_ARRAY)
        return row_fail(r, FT_EFORMAT,
                        "prompt and completion must be two texts or two lists of messages");
    int code = add_messages(r, &l, prompt);
    size_t first = l.n;
    if (!code) code = add_messages(r, &l, completion);
    return code ? code : finish_dialog(r, &l, first, &out->d[0]);
}

int row_text(row_reader *r, const ft_json *v, data_row *out)
{
    const ft_json *text;
    int code = need_text(r, v, "text", &text);
    if (code) return code;
    out->n = 1;
    out->d[0].prompt = json_text(NULL, "", 0);
    out->d[0].completion = *text;
    return FT_OK;
}

/* ---- preference pairs ----------------------------------------------------------------------- */

/* Deep equality; keys in the same order. */
static bool same_json(const ft_json *a, const ft_json *b)
{
    if (a->type != b->type || a->len != b->len) return false;
    if (a->type == FT_JSON_BOOL) return a->truth == b->truth;
    if (a->type == FT_JSON_STRING || a->type == FT_JSON_NUMBER)
        return !memcmp(a->text, b->text, a->len);
    for (size_t i = 0; a->type >= FT_JSON_ARRAY && i < a->len; i++) {
        const ft_json *x = &a->item[i], *y = &b->item[i];
        if (a->type == FT_JSON_OBJECT &&
            (x->key_len != y->key_len || memcmp(x->key, y->key, x->key_len)))
            return false;
        if (!same_json(x, y)) return false;
    }
    return true;
}

/* An answer of whatever kind, added to the messages: a text, a turn, a message or a list. */
static int add_answer(row_reader *r, message_list *l, const ft_json *answer)
{
    if (is_text(answer)) return add_text_message(r, l, "assistant", answer);
    if (answer->type == FT_JSON_ARRAY) return add_messages(r, l, answer);
    return ft_json_get(answer, "from") ? add_turn(r, l, answer) : add_message(r, l, answer);
}

/* Messages that both lists begin with; the last of either is an answer all the same. */
static size_t common_start(const ft_json *a, const ft_json *b)
{
    size_t n = 0;
    if (a->type != FT_JSON_ARRAY || b->type != FT_JSON_ARRAY) return 0;
    while (n + 1 < a->len && n + 1 < b->len && same_json(&a->item[n], &b->item[n])) n++;
    return n;
}

/* Bytes that two texts begin with alike, up to a whole character, without a blank at the end (which
 * belongs to the answer's first token, as in TRL) and so that something is left of either. */
static size_t common_text(const ft_json *a, const ft_json *b)
{
    size_t n = 0, least = a->len < b->len ? a->len : b->len;
    while (n + 1 < least && a->text[n] == b->text[n]) n++;
    while (n && ((unsigned char)a->text[n] & 0xC0) == 0x80) n--;
    return n && a->text[n - 1] == ' ' ? n - 1 : n;
}

/* Two texts without a prompt of their own: what they share is it. */
static int split_texts(row_reader *r, const ft_json *const answer[2], data_row *out)
{
    size_t n = common_text(answer[0], answer[1]);
    if (!n)
        return row_fail(r, FT_EFORMAT,
                        "prompt is missing, and chosen and rejected begin with nothing in common");
    for (int i = 0; i < 2; i++) {
        out->d[i].prompt = json_text(NULL, answer[i]->text, n);
        out->d[i].completion = json_text(NULL, answer[i]->text + n, answer[i]->len - n);
    }
    return FT_OK;
}

/* What both answers of a pair reply to. */
static int add_question(row_reader *r, message_list *l, const ft_json *v)
{
    const ft_json *prompt = ft_json_get(v, "prompt"), *messages = ft_json_get(v, "messages");
    if (ft_json_get(v, "conversations")) return add_turns(r, l, v);
    if (ft_json_get(v, "instruction")) return add_instruction(r, l, v);
    if (is_given(prompt) && is_text(prompt)) return add_text_message(r, l, "user", prompt);
    if (is_given(prompt)) return add_messages(r, l, prompt);
    return is_given(messages) ? add_messages(r, l, messages) : FT_OK;
}

int row_preference(row_reader *r, const ft_json *v, data_row *out)
{
    const ft_json *answer[2] = { ft_json_get(v, "chosen"), ft_json_get(v, "rejected") };
    const ft_json *prompt = ft_json_get(v, "prompt");
    bool chat = ft_json_get(v, "conversations") || ft_json_get(v, "instruction") ||
                ft_json_get(v, "messages");
    if (!is_given(answer[0]) || !is_given(answer[1]))
        return row_fail(r, FT_EFORMAT, "chosen and rejected must both be there");
    out->n = 2;
    if (!is_given(prompt) && !chat && is_text(answer[0]) && is_text(answer[1]))
        return split_texts(r, answer, out);
    bool plain = is_text(prompt) && is_text(answer[0]) && is_text(answer[1]) && !chat;
    size_t shared = prompt || chat ? 0 : common_start(answer[0], answer[1]);
    if (!plain && !chat && !is_given(prompt) && !shared)
        return row_fail(r, FT_EFORMAT,
                        "prompt is missing, and chosen and rejected begin with no common message");
    for (int i = 0; i < 2; i++) {
        message_list l = { 0 };
        if (plain) {
            out->d[i].prompt = *prompt;
            out->d[i].completion = *answer[i];
            continue;
        }
        int code = add_question(r, &l, v);
        size_t first = l.n + shared;
        if (!code) code = add_answer(r, &l, answer[i]);
        if (!code) code = finish_dialog(r, &l, first, &out->d[i]);
        if (code) return code;
    }
    return FT_OK;
}
