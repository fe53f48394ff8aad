/* cmd_tokenize.c -- `pipeline tokenize`: text or chats to token ids, and back.
 *
 *   TEXT, or standard input as one text     [ids]; with --offsets a line a token: id, begin, end
 *                                           (bytes), text; with --chat a JSON array of messages, or
 *                                           else one user message to be answered
 *   FILE (an argument that ends in .json or .jsonl, or names a file)
 *                                           a line a row: {"ids": […]}; with --offsets "offsets",
 *                                           with --chat "text" and "labels" as training has them.
 *                                           A row: a JSON string, {"text": …}; with --chat a data
 *                                           row
 *   --show, with --chat                     text and not numbers, coloured: trained, context (what
 *   the
 *                                           rows say), template; without colours (NO_COLOR, or no
 *                                           terminal) «trained», ‹template›.  CLICOLOR_FORCE=1:
 *                                           always
 *   --allow-special-in-data                 with --chat: special tokens in the rows' own text are
 *                                           taken for what they say
 *   --decode                                ids ([…] or {"ids": […]}) to text: as it is, for a FILE
 *                                           as {"text": …}
 *
 * Special tokens are recognised in plain text, as Hugging Face does; in chats only where the
 * template wrote them.  Not here: padding, truncation. */
#include <unistd.h>
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/utf8.h"
#include "core/cli/cmd_tokenize.h"
#include "core/cli/options.h"
#include "core/run/run.h"
#include "core/run/services.h"
#include "core/run/show.h"
#include "core/run/tokenizer.h"
#include "core/text/template.h"

enum { MOST_INPUT = 1 << 30 };

unsigned ft_tokenize_encode_flags(const ft_tokenizing *t)
{
    return (t->o->special ? FT_ENCODE_ADD_SPECIAL : 0u) |
           (t->o->allow ? FT_ENCODE_SPECIAL_IN_DATA : 0u);
}

/* ---- writing --------------------------------------------------------------------------------- */

void ft_tokenize_quote(ft_buf *out, const char *p, size_t n)
{
    ft_buf clean = { 0 };
    for (size_t i = 0, k; i < n; i += k) {
        k = ft_utf8_length(p + i, n - i);
        if (k) ft_buf_add(&clean, p + i, k);
        else ft_buf_puts(&clean, "\xEF\xBF\xBD"), k = 1;
    }
    ft_json_quote(out, clean.p ? clean.p : "", clean.n);
    out->oom |= clean.oom;
    ft_buf_free(&clean);
}

/* A number in decimal; there are too many of them for printf. */
static void write_number(ft_buf *out, uint32_t v)
{
    char text[10];
    size_t at = sizeof text;
    do {
        text[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    ft_buf_add(out, text + at, sizeof text - at);
}

void ft_tokenize_write_ids(ft_buf *out, const ft_tokens *k)
{
    ft_buf_putc(out, '[');
    for (size_t i = 0; i < k->n; i++) {
        if (i) ft_buf_add(out, ", ", 2);
        write_number(out, k->id[i]);
    }
    ft_buf_putc(out, ']');
}

void ft_tokenize_write_offsets(ft_buf *out, const ft_tokens *k)
{
    ft_buf_puts(out, ", \"offsets\": [");
    for (size_t i = 0; i < k->n; i++) {
        ft_buf_puts(out, i ? ", [" : "[");
        write_number(out, k->begin[i]);
        ft_buf_add(out, ", ", 2);
        write_number(out, k->end[i]);
        ft_buf_putc(out, ']');
    }
    ft_buf_putc(out, ']');
}

/* One token a line. */
static void write_lines(ft_buf *out, const ft_text *text, const ft_tokens *k)
{
    for (size_t i = 0; i < k->n; i++) {
        size_t end = k->end[i] <= text->len ? k->end[i] : text->len,
               begin = k->begin[i] <= end ? k->begin[i] : end;
        ft_buf_printf(out, "%u\t%u\t%u\t", k->id[i], k->begin[i], k->end[i]);
        ft_tokenize_quote(out, text->text + begin, end - begin);
        ft_buf_putc(out, '\n');
    }
}

/* Writes what has gathered, when it is much or `all`. */
int ft_tokenize_flush(ft_tokenizing *t, bool all, ft_err *e)
{
    if (t->out.oom) return ft_errf(e, FT_ENOMEM, "out of memory");
    if (!all && t->out.n < 1 << 16) return 0;
    bool good = t->out.n == 0 || fwrite(t->out.p, 1, t->out.n, stdout) == t->out.n;
    t->out.n = 0;
    return good ? 0 : ft_errf(e, FT_EIO, "cannot write to standard output");
}

/* ---- --show ---------------------------------------------------------------------------------- */

/* Colours for a terminal, unless the environment says otherwise (no-color.org,
 * bixense.com/clicolors). */
static bool wants_color(void)
{
    const char *never = getenv("NO_COLOR"), *always = getenv("CLICOLOR_FORCE");
    if (never && *never) return false;
    return (always && *always && strcmp(always, "0")) || isatty(STDOUT_FILENO);
}

typedef struct { ft_buf *out; bool color; int last; } terminal;

static void put_piece(void *ctx, const ft_shown *piece)
{
    terminal *to = ctx;
    ft_show_terminal(to->out, piece, to->color, &to->last);
}

/* What the colours mean, in them. */
static void put_legend(terminal *to)
{
    static const char *const words[] = { "context", "template", "trained" };
    for (int i = FT_SHOW_CONTEXT; i <= FT_SHOW_TRAINED; i++) {
        ft_shown piece = { .text = words[i], .n = strlen(words[i]), .what = (ft_show_class)i };
        put_piece(to, &piece);
        ft_show_end(to->out, to->color, &to->last);
        ft_buf_puts(to->out, i < FT_SHOW_TRAINED ? "  " : "\n");
    }
}

int ft_tokenize_show_text(ft_tokenizing *t, const ft_text *text, const ft_tokens *k,
                          const char *name, ft_err *e)
{
    terminal to = { &t->out, t->color, -1 };
    int64_t trained = 0;
    t->ids.n = t->origin.n = 0;
    int32_t *ids = ft_buf_grow(&t->ids, 2 * k->n * sizeof *ids);
    uint8_t *origin = ft_buf_grow(&t->origin, k->n);
    if (!ids || !origin) return ft_errf(e, FT_ENOMEM, "out of memory");
    int32_t *labels = ids + k->n;
    for (size_t i = 0; i < k->n; i++) ids[i] = (int32_t)k->id[i];
    ft_tokens_label(text, k, labels);
    ft_tokens_origin(text, k, origin);
    for (size_t i = 1; i < k->n; i++) trained += labels[i] >= 0;
    if (t->shown++ == 0) put_legend(&to);
    ft_buf_printf(&t->out, "\n%s: %zu tokens, %lld trained\n", name, k->n, (long long)trained);
    ft_show_tokens(&t->tok, ids, labels, origin, (int64_t)k->n, INT64_MAX, put_piece, &to);
    ft_show_end(&t->out, t->color, &to.last);
    ft_buf_putc(&t->out, '\n');
    return ft_tokenize_flush(t, false, e);
}

/* ---- one text -------------------------------------------------------------------------------- */

/* A text that was given alone. */
static int put_text(ft_tokenizing *t, const ft_text *text, unsigned flags, ft_err *e)
{
    ft_tokens k;
    int code = ft_tokenizer_encode(&t->tok, text, flags, &k, e);
    if (code) return code;
    if (t->o->show) return ft_tokenize_show_text(t, text, &k, "the conversation", e);
    if (t->o->offsets) {
        write_lines(&t->out, text, &k);
    } else {
        ft_tokenize_write_ids(&t->out, &k);
        ft_buf_putc(&t->out, '\n');
    }
    return ft_tokenize_flush(t, false, e);
}

/* Member i of the variables that a template sees. */
static ft_json named(ft_json v, const char *key)
{
    v.key = key;
    v.key_len = (uint32_t)strlen(key);
    return v;
}

static ft_json text_value(const char *p, size_t n)
{
    return (ft_json){ .type = FT_JSON_STRING, .text = p, .len = (uint32_t)n };
}

/* messages: an array.  A conversation that does not end with the assistant is to be answered. */
static int put_chat(ft_tokenizing *t, ft_json messages, ft_err *e)
{
    const ft_source *s = t->tok.source;
    const ft_json *last = messages.len ? &messages.item[messages.len - 1] : NULL;
    bool answered = last && !strcmp(ft_json_str(last, "role", ""), "assistant");
    ft_json member[] = {
        named(messages, "messages"),
        named((ft_json){ .type = FT_JSON_BOOL, .truth = !answered }, "add_generation_prompt"),
        named(text_value(s->bos_token, strlen(s->bos_token)), "bos_token"),
        named(text_value(s->eos_token, strlen(s->eos_token)), "eos_token"),
    };
    ft_json vars = { .type = FT_JSON_OBJECT,
                     .item = member,
                     .len = sizeof member / sizeof *member };
    ft_text text;
    ft_template *made = ft_template_compile("chat template", s->chat_template,
                                            s->chat_template ? strlen(s->chat_template) : 0, e);
    int code = made ? ft_template_render(made, &vars, &text, e) : e->code;
    if (!code) code = put_text(t, &text, ft_tokenize_encode_flags(t), e);
    ft_template_done(made);
    return code;
}

/* A JSON array of objects is a conversation; anything else is what a user says. */
static int chat_of(ft_tokenizing *t, const char *p, size_t n, ft_err *e)
{
    ft_err not_json = { 0 };
    size_t at = 0;
    while (at < n && strchr(" \t\r\n", p[at]) && p[at]) at++;
    if (at < n && p[at] == '[' && n <= FT_MOST_JSON) {
        ft_json_doc *doc = ft_json_parse("messages", p, n, &not_json);
        const ft_json *root = doc ? ft_json_root(doc) : NULL;
        bool chat = root && root->len && root->item[0].type == FT_JSON_OBJECT;
        int code = chat ? put_chat(t, *root, e) : 0;
        ft_json_done(doc);
        if (chat) return code;
        if (at + 1 < n && strchr("{ \n", p[at + 1]) && not_json.code)
            return ft_errf(e, FT_EFORMAT, "%s", not_json.msg);
    }
    ft_json part[] = { named(text_value("user", 4), "role"), named(text_value(p, n), "content") };
    ft_json user = { .type = FT_JSON_OBJECT, .item = part, .len = 2 };
    return put_chat(t, (ft_json){ .type = FT_JSON_ARRAY, .item = &user, .len = 1 }, e);
}

/* The ids of [ … ] or {"ids": [ … ]} into t->ids. */
static int read_ids(ft_tokenizing *t, const ft_json *v, ft_err *e)
{
    if (v->type == FT_JSON_OBJECT) v = ft_json_get(v, "ids");
    if (!v || v->type != FT_JSON_ARRAY)
        return ft_errf(e, FT_EFORMAT, "--decode wants [1, 2, …] or {\"ids\": [1, 2, …]}");
    t->ids.n = 0;
    for (size_t i = 0; i < v->len; i++) {
        int64_t id;
        if (!ft_json_as_int(&v->item[i], &id) || id < 0 || id > UINT32_MAX)
            return ft_errf(e, FT_EFORMAT, "place %zu of the ids is no token id", i);
        uint32_t one = (uint32_t)id;
        ft_buf_add(&t->ids, &one, sizeof one);
    }
    return t->ids.oom ? ft_errf(e, FT_ENOMEM, "out of memory") : 0;
}

int ft_tokenize_decode_value(ft_tokenizing *t, const ft_json *v, bool row, ft_err *e)
{
    static const uint32_t none;
    ft_bytes text;
    int code = read_ids(t, v, e);
    if (!code)
        code = ft_tokenizer_decode(&t->tok,
                                   t->ids.n ? (const uint32_t *)(const void *)t->ids.p : &none,
                                   t->ids.n / sizeof(uint32_t), 0, &text, e);
    if (code) return code;
    if (row) {
        ft_buf_puts(&t->out, "{\"text\": ");
        ft_tokenize_quote(&t->out, text.p, text.n);
        ft_buf_puts(&t->out, "}\n");
    } else {
        ft_buf_add(&t->out, text.p, text.n);
        ft_buf_putc(&t->out, '\n');
    }
    return ft_tokenize_flush(t, false, e);
}

/* ---- the command ----------------------------------------------------------------------------- */

static bool ends_in(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n > k && !strcmp(s + n - k, end);
}

static bool is_file(const char *s)
{
    return ends_in(s, ".jsonl") || ends_in(s, ".json") || (ft_file_exists(s) && !ft_is_dir(s));
}

static int read_input(ft_buf *in, const char *text, ft_err *e)
{
    char part[1 << 14];
    ssize_t n = 0;
    if (text) ft_buf_puts(in, text);
    while (!text && in->n <= MOST_INPUT && (n = read(0, part, sizeof part)) > 0)
        ft_buf_add(in, part, (size_t)n);
    if (n < 0) return ft_errf(e, FT_EIO, "cannot read standard input");
    if (in->n > MOST_INPUT)
        return ft_errf(e, FT_EINVAL, "the text is longer than %d MiB; give a FILE.jsonl",
                       MOST_INPUT >> 20);
    ft_buf_puts(in, "");
    return in->oom ? ft_errf(e, FT_ENOMEM, "out of memory") : 0;
}

/* A text alone: the argument or standard input. */
static int one_text(ft_tokenizing *t, ft_err *e)
{
    ft_buf in = { 0 };
    size_t bad;
    int code = read_input(&in, t->o->text, e);
    if (!code && !ft_utf8_valid(in.p, in.n, &bad))
        code = ft_errf(e, FT_EFORMAT, "the text is no UTF-8: byte %zu", bad);
    if (!code && t->o->decode) {
        for (size_t at = 0, used; at < in.n && !code; at += used) { /* arrays one after the other */
            while (at < in.n && strchr(" \t\r\n", in.p[at])) at++;
            if (at == in.n) break;
            ft_json_doc *doc = ft_json_parse_prefix("ids", in.p + at, in.n - at, &used, e);
            code = doc ? ft_tokenize_decode_value(t, ft_json_root(doc), false, e) : e->code;
            ft_json_done(doc);
        }
    } else if (!code && t->o->chat) {
        code = chat_of(t, in.p, in.n, e);
    } else if (!code) {
        ft_text text = { .text = in.p, .len = in.n };
        code = put_text(t, &text, ft_tokenize_encode_flags(t), e);
    }
    ft_buf_free(&in);
    return code;
}

int cmd_tokenize(ft_cli *cli, int argc, char **argv)
{
    ft_tokenize_options o = { .model = NULL };
    const ft_option table[] = {
        { .name = "--model", .value = &o.model, .required = true },
        { .name = "--chat", .value = &o.chat, .is_switch = true },
        { .name = "--offsets", .value = &o.offsets, .is_switch = true },
        { .name = "--decode", .value = &o.decode, .is_switch = true },
        { .name = "--add-special", .value = &o.special, .is_switch = true },
        { .name = "--show", .value = &o.show, .is_switch = true },
        { .name = "--allow-special-in-data", .value = &o.allow, .is_switch = true },
        { .name = NULL },
    };
    ft_err e = { 0 };
    int status = ft_options(cli, argc, argv, table, &o.text, 1);
    if (status) return status;
    if (o.decode && (o.chat || o.offsets || o.special))
        return ft_cli_fail(FT_EXIT_USAGE,
                           "--decode goes with none of --chat, --offsets, --add-special");
    if ((o.show || o.allow) && !o.chat)
        return ft_cli_fail(FT_EXIT_USAGE, "%s goes with --chat alone",
                           o.show ? "--show" : "--allow-special-in-data");
    if (o.show && o.offsets) return ft_cli_fail(FT_EXIT_USAGE, "--show does not go with --offsets");
    ft_tokenizing t = { .o = &o,
                     .color = wants_color(),
                     .threads = cli->threads,
                     .registry = ft_cli_plugins(cli, &e),
                     .offer = ft_run_offer(&cli->log) };
    int code = t.registry ? ft_tokenizer_open(&t.tok, o.model, t.registry, &t.offer, &e) : e.code;
    if (!code) {
        bool rows = o.text && is_file(o.text);
        code = !rows    ? one_text(&t, &e)
               : o.chat ? ft_tokenize_each_chat(&t, o.text, &e)
                        : ft_tokenize_each_line(&t, o.text, &e);
    }
    if (!code) code = ft_tokenize_flush(&t, true, &e);
    ft_tokenizer_close(&t.tok);
    ft_buf_free(&t.out);
    ft_buf_free(&t.ids);
    ft_buf_free(&t.origin);
    return code ? ft_cli_fail(FT_EXIT_FAILED, "%s", e.msg) : ft_cli_flush();
}
