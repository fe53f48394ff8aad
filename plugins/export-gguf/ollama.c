/* ollama.c -- a Modelfile for `ollama create`, with the chat template in Go's language.
 *
 *   FROM ./model.gguf          or the base model, and ADAPTER ./adapter.gguf
 *   SYSTEM """…"""             what the template says where a conversation has no system message
 *   TEMPLATE """{{ range .Messages }}OPEN{{ .Role }}MIDDLE{{ .Content }}CLOSE{{ end
 *   }}OPENassistantMIDDLE""" PARAMETER stop "…"
 *
 * The four texts are found by rendering: a template that writes every message as OPEN role MIDDLE
 * content CLOSE (ChatML, Llama 3 and others) gives them away, and what was found is held against
 * two further conversations.  Any other template is refused by name: Ollama would take the template
 * that the GGUF itself holds, which it knows in part.  Format: Ollama's docs/modelfile. */
#include <ctype.h>
#include "gguf.h"

enum { TEXT = 4096 };

typedef struct {
    const exporter *e;
    const ft_export *x;
    const ft_template_api *api;
    ft_template *template;
    char open[TEXT], middle[TEXT], close[TEXT], system[TEXT];
} finding;

typedef struct { const char *role, *content; } message;

static int refuse(const finding *f, const char *why)
{
    return f->e->host->fail(f->e->host, FT_EUNSUP,
                            "ollama: the chat template of %s has no form in a Modelfile: %s; leave "
                            "`ollama` out and write TEMPLATE by hand",
                            f->x->source->path, why);
}

static ft_json text_of(const char *key, const char *s)
{
    return (ft_json){ .type = FT_JSON_STRING, .key = key, .key_len = (uint32_t)strlen(key),
                      .text = s, .len = (uint32_t)strlen(s) };
}

/* The conversation as the model's template writes it, up to where the assistant speaks. */
static int render(finding *f, const message *m, size_t n, char out[TEXT])
{
    ft_json part[8][2], list[8];
    ft_text text;
    for (size_t i = 0; i < n; i++) {
        part[i][0] = text_of("role", m[i].role);
        part[i][1] = text_of("content", m[i].content);
        list[i] = (ft_json){ .type = FT_JSON_OBJECT, .item = part[i], .len = 2 };
    }
    const ft_json vars[] = {
        { .type = FT_JSON_ARRAY, .key = "messages", .key_len = 8, .item = list, .len = (uint32_t)n },
        { .type = FT_JSON_BOOL, .truth = true, .key = "add_generation_prompt", .key_len = 21 },
        text_of("bos_token", f->x->source->bos_token),
        text_of("eos_token", f->x->source->eos_token),
    };
    const ft_json all = { .type = FT_JSON_OBJECT, .item = vars, .len = 4 };
    int code = f->api->render(f->e->host, f->template, &all, &text);
    if (code) return code;
    if (text.len >= TEXT || memchr(text.text, 0, text.len))
        return refuse(f, "it writes more than 4 KiB around a word");
    memcpy(out, text.text, text.len);
    out[text.len] = 0;
    return 0;
}

/* ---- finding the four texts ------------------------------------------------------------------ */

/* The text between two words of s; NULL: they do not follow each other. */
static char *between(const char *s, const char *from, const char *to, char out[TEXT])
{
    const char *a = strstr(s, from), *b = a ? strstr(a + strlen(from), to) : NULL;
    if (!b) return NULL;
    a += strlen(from);
    snprintf(out, TEXT, "%.*s", (int)(b - a), a);
    return out;
}

/* Behind a beginning-of-text token, which llama.cpp puts by itself. */
static const char *behind_bos(const finding *f, const char *s)
{
    size_t n = strlen(f->x->source->bos_token);
    return n && !strncmp(s, f->x->source->bos_token, n) ? s + n : s;
}

static int find(finding *f)
{
    static const message talk[] = { { "system", "Qsys1" }, { "user", "Quser2" },
                                    { "assistant", "Qanswer3" }, { "user", "Quser4" } };
    char s[TEXT], first[TEXT], second[TEXT];
    int code = render(f, talk, 4, s);
    if (code) return code;
    const char *from = behind_bos(f, s), *role = strstr(from, "system"), *sys = strstr(s, "Qsys1");
    if (!role || !sys || role > sys)
        return refuse(f, "the word system is not in front of its text");
    snprintf(f->open, TEXT, "%.*s", (int)(role - from), from);
    snprintf(f->middle, TEXT, "%.*s", (int)(sys - role - 6), role + 6);
    if (!between(s, "Qsys1", "Quser2", first) || !between(s, "Quser2", "Qanswer3", second))
        return refuse(f, "messages do not follow each other");
    char tail[3 * TEXT];
    snprintf(tail, sizeof tail, "%suser%s", f->open, f->middle);
    size_t n = strlen(first), k = strlen(tail);
    if (n < k || strcmp(first + n - k, tail))
        return refuse(f, "messages of the system and the user are not written alike");
    snprintf(f->close, TEXT, "%.*s", (int)(n - k), first);
    return *f->close ? 0 : refuse(f, "nothing stands behind a message");
}

/* What the Modelfile's template gives for a conversation. */
static void ours(const finding *f, const message *m, size_t n, ft_buf *b)
{
    for (size_t i = 0; i < n; i++)
        ft_buf_printf(b, "%s%s%s%s%s", f->open, m[i].role, f->middle, m[i].content, f->close);
    ft_buf_printf(b, "%sassistant%s", f->open, f->middle);
}

static int check_talk(finding *f, const message *m, size_t n)
{
    char s[TEXT];
    ft_buf b = { 0 };
    int code = render(f, m, n, s);
    ours(f, m, n, &b);
    bool same = !code && !b.oom && !strcmp(behind_bos(f, s), b.p ? b.p : "");
    ft_buf_free(&b);
    return code ? code : same ? 0 : refuse(f, "it is not a row of role, text and end alike");
}

/* The system message that the template writes by itself. */
static int find_system(finding *f)
{
    static const message talk[] = { { "user", "Quser1" } };
    char s[TEXT], want[3 * TEXT];
    int code = render(f, talk, 1, s);
    if (code) return code;
    const char *from = behind_bos(f, s);
    snprintf(want, sizeof want, "%ssystem%s", f->open, f->middle);
    if (!strncmp(from, want, strlen(want)) && !between(from, want, f->close, f->system))
        return refuse(f, "its own system message does not end");
    const message whole[] = { { "system", f->system }, { "user", "Quser1" } };
    ft_buf b = { 0 };
    ours(f, *f->system ? whole : whole + 1, *f->system ? 2 : 1, &b);
    bool same = !b.oom && !strcmp(from, b.p ? b.p : "");
    ft_buf_free(&b);
    return same ? 0 : refuse(f, "it is not a row of role, text and end alike");
}

/* ---- the file -------------------------------------------------------------------------------- */

/* The first special token of the end of a message, else what stands there without blanks. */
static void put_stop(const finding *f, ft_buf *b)
{
    const char *s = f->close;
    size_t n = strlen(s);
    while (n && isspace((unsigned char)*s)) s++, n--;
    while (n && isspace((unsigned char)s[n - 1])) n--;
    ft_buf_puts(b, "PARAMETER stop ");
    ft_json_quote(b, s, n);
    ft_buf_putc(b, '\n');
}

static void put_file(const finding *f, const char *file, ft_buf *b)
{
    bool adapter = f->e->c->adapter;
    ft_buf_printf(b, "FROM %s\n", adapter ? f->x->source->path : "./model.gguf");
    if (adapter) ft_buf_printf(b, "ADAPTER ./%s\n", file);
    if (*f->system) ft_buf_printf(b, "SYSTEM \"\"\"%s\"\"\"\n", f->system);
    ft_buf_printf(b,
                  "TEMPLATE \"\"\"{{ range .Messages }}%s{{ .Role }}%s{{ .Content }}%s{{ end }}"
                  "%sassistant%s\"\"\"\n",
                  f->open, f->middle, f->close, f->open, f->middle);
    put_stop(f, b);
}

static bool is_quotable(const finding *f)
{
    const char *all[] = { f->open, f->middle, f->close, f->system };
    for (size_t i = 0; i < 4; i++) {
        if (strstr(all[i], "\"\"\"") || strstr(all[i], "{{")) return false;
    }
    return true;
}

static int make(finding *f, const char *file, ft_buf *out)
{
    static const message talks[][4] = {
        { { "system", "A b" }, { "user", "c" } },
        { { "system", "x" }, { "user", "1 2" }, { "assistant", "y z" }, { "user", "w" } },
    };
    int code = find(f);
    if (!code) code = check_talk(f, talks[0], 2);
    if (!code) code = check_talk(f, talks[1], 4);
    if (!code) code = find_system(f);
    if (!code && !is_quotable(f)) code = refuse(f, "it writes {{ or three quotes");
    if (!code) put_file(f, file, out);
    return code || !out->oom
               ? code
               : f->e->host->fail(f->e->host, FT_ENOMEM, "out of memory for the Modelfile");
}

int gguf_make_modelfile(const exporter *e, const ft_export *x, const char *file, ft_buf *out)
{
    const char *source = x->source->chat_template;
    finding *f = calloc(1, sizeof *f);
    if (!f) return e->host->fail(e->host, FT_ENOMEM, "out of memory for the Modelfile");
    f->e = e;
    f->x = x;
    f->api = e->host->get(e->host, "ft.template/1");
    f->template = f->api ? f->api->compile(e->host, source, source ? strlen(source) : 0) : NULL;
    int code = f->template ? make(f, file, out)
                           : e->host->fail(e->host, FT_EUNSUP, "ollama: the chat template cannot "
                                                               "be read");
    if (f->template) f->api->done(f->template);
    free(f);
    return code;
}
