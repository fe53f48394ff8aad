/* test_template.c -- the chat template engine against jinja2 (vectors by tests/tools/
 * template-vectors.py and, where they are present, the shared goldens), and what it says about who
 * wrote each byte.  The wide comparison with jinja2 is tests/tools/template-diff.py; what is
 * refused: test_template_refused.c. */
#include "template_test.h"
#include "core/base/sha256.h"
#include "core/base/utf8.h"
#include "core/text/unicode.h"

static const char folder[] = "tests/data/template";

static ft_buf read_file(const char *dir, const char *name)
{
    char path[600];
    ft_buf b = { 0 };
    ft_err e = { 0 };
    snprintf(path, sizeof path, "%s/%s", dir, name);
    ck_assert_msg(!ft_file_read(&b, path, 64 << 20, &e), "%s", e.msg);
    return b;
}

/* Calls fn for each line of a JSON lines file; returns how many there were. */
static int each_line(const char *dir, const char *name, void (*fn)(const ft_json *, void *),
                     void *arg)
{
    ft_buf b = read_file(dir, name);
    int n = 0;
    for (char *line = b.p, *end; line && *line; line = end + 1, n++) {
        end = strchr(line, '\n');
        ck_assert_ptr_nonnull(end);
        ft_json_doc *d = parse(line, (size_t)(end - line));
        fn(ft_json_root(d), arg);
        ft_json_done(d);
    }
    ft_buf_free(&b);
    return n;
}

enum { MAX_VARS = 64 };
typedef struct { ft_json item[MAX_VARS]; size_t n; } var_list;

static void add_all(var_list *v, const ft_json *o)
{
    for (size_t i = 0; o && o->type == FT_JSON_OBJECT && i < o->len; i++) {
        ck_assert_uint_lt(v->n, MAX_VARS);
        v->item[v->n++] = o->item[i];
    }
}

static void add_var(var_list *v, const char *key, const ft_json *value)
{
    if (!value) return;
    ck_assert_uint_lt(v->n, MAX_VARS);
    v->item[v->n] = *value;
    v->item[v->n].key = key;
    v->item[v->n++].key_len = (uint32_t)strlen(key);
}

static ft_json as_object(const var_list *v)
{
    return (ft_json){ .type = FT_JSON_OBJECT, .item = v->item, .len = (uint32_t)v->n };
}

/* ---- characters ----------------------------------------------------------------------------- */

static void put_case(ft_buf *b, uint32_t c, int form)
{
    uint32_t out[3];
    size_t n = ftj_char_case(c, form, out);
    for (size_t i = 0; i < n; i++) ft_buf_printf(b, "%s%x", i ? " " : "", out[i]);
    ft_buf_putc(b, '|');
}

static void put_character(ft_buf *b, uint32_t c)
{
    b->n = 0;
    put_case(b, c, FTJ_UPPER);
    put_case(b, c, FTJ_TITLE);
    put_case(b, c, FTJ_LOWER);
    ft_buf_printf(b, "%d%d%d%d%d%d%d%d%d\n", ftj_char_upper(c), ftj_char_lower(c),
                  ftj_char_alpha(c), ftj_char_decimal(c), ftj_char_digit(c), ftj_char_numeric(c),
                  ftj_char_space(c), ftj_char_printable(c), ftj_char_newline(c));
}

/* characters.txt: the digest, then the ranges that Unicode 14 does not assign. */
START_TEST(every_character_as_python_sees_it)
{
    ft_sha256 h;
    char hex[65];
    ft_buf b = { 0 }, file = read_file(folder, "characters.txt");
    char *p = file.p + 65;
    unsigned long from = strtoul(p, &p, 16), to = strtoul(p, &p, 16);
    ft_sha256_init(&h);
    for (uint32_t c = 0; c < 0x110000; c++) {
        if (c > to) {
            from = strtoul(p, &p, 16);
            to = strtoul(p, &p, 16);
            if (!to) from = to = 0x110000;
        }
        if ((c >= from && c <= to) || (c >= 0xD800 && c < 0xE000)) continue;
        put_character(&b, c);
        ft_sha256_add(&h, b.p, b.n);
    }
    ft_sha256_hex(&h, hex);
    file.p[64] = 0;
    ck_assert_str_eq(hex, file.p);
    ft_buf_free(&b);
    ft_buf_free(&file);
}
END_TEST

/* ---- vectors made by jinja2 ----------------------------------------------------------------- */

static void check_outcome(const char *what, const ft_json *want, const ft_text *out,
                          const ft_err *e)
{
    const ft_json *text = ft_json_get(want, "text"), *error = ft_json_get(want, "error");
    if (text) {
        ck_assert_msg(!e->code, "%s\nrefused: %s\nwanted: %s", what, e->msg, text->text);
        bool same = out->len == text->len && !memcmp(out->text, text->text, text->len);
        ck_assert_msg(same, "%s\nwanted: %s\ngot:    %s", what, text->text, out->text);
    } else {
        ck_assert_msg(e->code, "%s\nmust be refused, gave: %s", what, out->text);
        if (*error->text) ck_assert_str_eq(e->msg, error->text);
    }
}

static void check_spans(const char *what, const ft_template *t, const ft_json *want)
{
    const ft_extent *span;
    size_t n = ft_template_marks(t) ? ft_template_generated(t, &span)
                                    : ft_template_contents(t, FT_ROLE_ASSISTANT, &span);
    ck_assert_msg(n == want->len, "%s: %zu spans, not %u", what, n, want->len);
    for (size_t i = 0; i < n; i++) {
        int64_t begin = 0, end = 0;
        ck_assert(ft_json_as_int(&want->item[i].item[0], &begin));
        ck_assert(ft_json_as_int(&want->item[i].item[1], &end));
        ck_assert_msg(span[i].begin == (size_t)begin && span[i].end == (size_t)end,
                      "%s: span %zu is [%zu, %zu], not [%lld, %lld]", what, i, span[i].begin,
                      span[i].end, (long long)begin, (long long)end);
    }
}

static void one_case(const ft_json *row, void *arg)
{
    const ft_json *source = ft_json_get(row, "template");
    ft_err e = { 0 };
    ft_text out = { 0 };
    (void)arg;
    ft_template *t = ft_template_compile("chat template", source->text, source->len, &e);
    if (t) ft_template_render(t, ft_json_get(row, "vars"), &out, &e);
    check_outcome(source->text, row, &out, &e);
    ft_template_done(t);
}

START_TEST(single_templates)
{
    ck_assert_int_gt(each_line(folder, "cases.jsonl", one_case, NULL), 200);
}
END_TEST

typedef struct { ft_json_doc *row[64]; int n; } row_list;

static void keep_row(const ft_json *row, void *arg)
{
    row_list *rows = arg;
    ft_buf b = { 0 };
    ft_json_write(&b, row, -1);
    rows->row[rows->n++] = parse(b.p, b.n);
    ft_buf_free(&b);
}

static void one_expected(const ft_json *want, void *arg)
{
    const row_list *rows = arg;
    int64_t i;
    ck_assert(ft_json_as_int(ft_json_get(want, "row"), &i));
    static const ft_json bos = { .type = FT_JSON_STRING, .text = "<s>", .len = 3 };
    static const ft_json eos = { .type = FT_JSON_STRING, .text = "</s>", .len = 4 };
    var_list v = { .n = 0 };
    ft_err e = { 0 };
    ft_text out = { 0 };
    char what[200];
    add_var(&v, "bos_token", &bos);
    add_var(&v, "eos_token", &eos);
    add_all(&v, ft_json_root(rows->row[i]));
    add_var(&v, "add_generation_prompt", ft_json_get(want, "add_generation_prompt"));
    ft_json vars = as_object(&v);
    const char *name = ft_json_str(want, "template", "");
    ft_buf source = read_file(folder, name);
    ft_template *t = ft_template_compile(name, source.p, source.n, &e);
    ck_assert_msg(t != NULL, "%s", e.msg);
    ft_template_render(t, &vars, &out, &e);
    snprintf(what, sizeof what, "%s, row %d", name, (int)i);
    check_outcome(what, want, &out, &e);
    if (!e.code) check_spans(what, t, ft_json_get(want, "spans"));
    ft_template_done(t);
    ft_buf_free(&source);
}

START_TEST(our_templates)
{
    row_list rows = { .n = 0 };
    each_line(folder, "rows.jsonl", keep_row, &rows);
    ck_assert_int_eq(each_line(folder, "expected.jsonl", one_expected, &rows), 8 * 2 * rows.n);
    for (int i = 0; i < rows.n; i++) ft_json_done(rows.row[i]);
}
END_TEST

/* ---- the shared goldens --------------------------------------------------------------------- */

typedef struct {
    char dir[600], name[100];
    row_list convs;
    ft_template *t;
    int rendered, raised, refused, equal, subset;
} golden;

static size_t byte_offset(const char *s, int64_t chars)
{
    size_t at = 0;
    for (; chars > 0 && s[at]; chars--) at += ft_utf8_length(s + at, strlen(s + at));
    return at;
}

/* Golden spans count code points.  Those found by search leave out some replies (with <think> in
 * them, or empty); none of theirs may be missing from ours. */
static void check_golden_spans(golden *g, const ft_json *row, const ft_text *out)
{
    const ft_json *want = ft_json_get(row, "assistant_spans");
    const ft_extent *span;
    size_t n = ft_template_marks(g->t) ? ft_template_generated(g->t, &span)
                                       : ft_template_contents(g->t, FT_ROLE_ASSISTANT, &span),
           k = 0;
    for (size_t i = 0; i < want->len; i++) {
        int64_t begin = 0, end = 0;
        ft_json_as_int(&want->item[i].item[0], &begin);
        ft_json_as_int(&want->item[i].item[1], &end);
        size_t from = byte_offset(out->text, begin), to = byte_offset(out->text, end);
        while (k < n && (span[k].begin != from || span[k].end != to)) k++;
        ck_assert_msg(k < n, "%s, %s: no span [%zu, %zu]", g->name, ft_json_str(row, "conv", ""),
                      from, to);
    }
    if (n == want->len) g->equal++;
    else g->subset++;
    if (ft_template_marks(g->t)) ck_assert_uint_eq(n, want->len);
}

static void check_golden_error(golden *g, const ft_json *row, const ft_err *e, const ft_text *out)
{
    ck_assert_msg(e->code, "%s, %s must be refused, gave %s", g->name, ft_json_str(row, "conv", ""),
                  out->text);
    if (!strcmp(ft_json_str(row, "error_type", ""), "TemplateError")) {
        ck_assert_str_eq(e->msg, ft_json_str(row, "error", ""));
        g->raised++;
    } else {
        ck_assert_ptr_nonnull(strstr(e->msg, ft_json_str(row, "error", "?")));
        g->refused++;
    }
}

static void one_golden(const ft_json *row, void *arg)
{
    golden *g = arg;
    const char *name = ft_json_str(row, "template", "");
    ft_err e = { 0 };
    ft_text out = { 0 };
    if (strcmp(name, g->name)) {
        char file[120];
        snprintf(file, sizeof file, "%s.jinja", name);
        snprintf(g->name, sizeof g->name, "%s", name);
        ft_buf source = read_file(g->dir, file);
        ft_template_done(g->t);
        g->t = ft_template_compile(name, source.p, source.n, &e);
        ck_assert_msg(g->t != NULL, "%s", e.msg);
        ft_buf_free(&source);
    }
    const ft_json *conv = NULL;
    for (int i = 0; i < g->convs.n && !conv; i++) {
        const ft_json *c = ft_json_root(g->convs.row[i]);
        if (!strcmp(ft_json_str(c, "id", ""), ft_json_str(row, "conv", "?"))) conv = c;
    }
    ck_assert_ptr_nonnull(conv);
    var_list v = { .n = 0 };
    add_all(&v, ft_json_get(conv, "kwargs"));
    static const char *const of_conv[] = { "messages", "tools" };
    static const char *const of_row[] = { "add_generation_prompt", "bos_token", "eos_token" };
    for (int i = 0; i < 2; i++) add_var(&v, of_conv[i], ft_json_get(conv, of_conv[i]));
    for (int i = 0; i < 3; i++) add_var(&v, of_row[i], ft_json_get(row, of_row[i]));
    ft_json vars = as_object(&v);
    ft_template_render(g->t, &vars, &out, &e);
    const ft_json *want = ft_json_get(row, "rendered");
    if (!want) {
        check_golden_error(g, row, &e, &out);
        return;
    }
    ck_assert_msg(!e.code, "%s, %s: %s", name, ft_json_str(conv, "id", ""), e.msg);
    ck_assert_uint_eq(out.len, want->len);
    ck_assert_str_eq(out.text, want->text);
    g->rendered++;
    if (ft_json_get(row, "assistant_spans")) check_golden_spans(g, row, &out);
}

START_TEST(known_templates)
{
    golden g = { .rendered = 0 };
    if (!test_goldens()) {
        printf("not run: the chat templates of known models (no shared goldens here)\n");
        return;
    }
    snprintf(g.dir, sizeof g.dir, "%s/templates", test_goldens());
    each_line(g.dir, "conversations.jsonl", keep_row, &g.convs);
    int n = each_line(g.dir, "golden.jsonl", one_golden, &g);
    printf(
        "goldens: %d cases, %d rendered, %d raised, %d refused, spans of %d equal, of %d more than "
        "the golden's search found\n",
        n, g.rendered, g.raised, g.refused, g.equal, g.subset);
    ck_assert_int_eq(n, g.rendered + g.raised + g.refused);
    ft_template_done(g.t);
    for (int i = 0; i < g.convs.n; i++) ft_json_done(g.convs.row[i]);
}
END_TEST

/* ---- who wrote what ------------------------------------------------------------------------- */

/* The spans as text: from (T or D), turn, role, m when marked, and the bytes. */
static void check_history(const char *source, const char *vars, const char *want)
{
    ft_err e = { 0 };
    ft_text out;
    ft_buf got = { 0 };
    ft_template *t = render(source, vars, &out, &e);
    ck_assert_msg(!e.code, "%s", e.msg);
    uint32_t at = 0;
    for (size_t i = 0; i < out.n_span; i++) {
        const ft_span *s = &out.span[i];
        ck_assert_uint_eq(s->begin, at);
        ck_assert_uint_lt(s->begin, s->end);
        at = s->end;
        ft_buf_printf(&got, "%s%c%d%c%s:%.*s", i ? " " : "", s->from == FT_FROM_DATA ? 'D' : 'T',
                      s->turn, "-suat"[s->role], s -> marked ? "m" : "", (int)(s->end - s->begin),
                      out.text + s->begin);
    }
    ck_assert_uint_eq(at, out.len);
    ck_assert_str_eq(got.p ? got.p : "", want);
    ft_buf_free(&got);
    ft_template_done(t);
}

START_TEST(history_of_a_plain_loop)
{
    check_history(
        "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}.{% endfor %}end", two,
        "T-1-:<s> T0u:[user] D0u:Q T0u:. T1a:[assistant] D1a:A T1a:. T-1-:end");
    check_history("{% for m in messages[1:] %}{{ '(' + m.content + ')' }}{% endfor %}", two,
                  "T1a:( D1a:A T1a:)");
    check_history(
        "{% for m in messages|selectattr('role', 'eq', 'assistant') %}{{ m.content ~ extra }}"
        "{% endfor %}",
        two, "D1a:AE");
}
END_TEST

START_TEST(history_by_index)
{
    check_history(
        "{% for i in range(2) %}{% set m = messages[i] %}<{{ i }}>{{ m.content }}!{% endfor %}",
        two, "T0u:<0> D0u:Q T0u:! T1a:<1> D1a:A T1a:!");
    check_history("{% for i in range(messages|length) %}#{{ messages[i]['content'] }}#{% endfor %}",
                  two, "T0u:# D0u:Q T0u:# T1a:# D1a:A T1a:#");
    check_history("a{{ 'b' + messages[1].content + 'c' }}d", two,
                  "T-1-:a T1a:b D1a:A T1a:c T-1-:d");
    check_history(
        "{% macro f(m) %}<{{ m.content }}>{% endmacro %}{{ f(messages[1]) }}|{{ f(messages[0]) }}",
        two, "T1a:< D1a:A T1a:> T-1-:| T0u:< D0u:Q T0u:>");
}
END_TEST

START_TEST(history_through_text_operations)
{
    static const char one[] = "{\"messages\": [{\"role\": \"assistant\", \"content\": \" a-b \"}]}";
    check_history("{% for m in messages %}{{ m.content|trim|upper|replace('-', '+') }}{% endfor %}",
                  one, "D0a:A T0a:+ D0a:B");
    check_history("{% for m in messages %}{{ m.content.split('-')[1] ~ '|' ~ (m.content * 2)[1:4] "
                  "}}{% endfor %}",
                  one, "D0a:b  T0a:| D0a:a-b");
    check_history("{% set x %}<{{ messages[0].content[1] }}>{% endset %}{% for m in messages %}{{ "
                  "x * 2 }}{% endfor %}",
                  one, "T0a:< D0a:a T0a:>< D0a:a T0a:>");
    check_history("{{ ['x', messages[0].content.strip()]|join('/') }} {{ '%s:%s' % ('k', "
                  "messages[0].content[1:2]) }}",
                  one, "T0a:x/ D0a:a-b T-1-:  T0a:k: D0a:a");
}
END_TEST

START_TEST(history_of_json)
{
    check_history("{% for m in messages[1:] %}{{ m.x|tojson }}{% endfor %}", two,
                  "D1a:{\"k\": [1, \"v\"]}");
    check_history("{% for m in messages[1:] %}{{ {'c': m.content}|tojson }}{% endfor %}", two,
                  "T1a:{\"c\":  D1a:\"A\" T1a:}");
    check_history("{{ extra|tojson }}{{ [bos_token] }}", two, "D-1-:\"E\" T-1-:['<s>']");
}
END_TEST

START_TEST(history_of_generation)
{
    check_history(
        "{% for m in messages %}[{% generation %}{{ m.content }}!{% endgeneration %}]{% endfor %}",
        two, "T0u:[ D0um:Q T0um:! T0u:] T1a:[ D1am:A T1am:! T1a:]");
    ft_err e = { 0 };
    ft_text out;
    const ft_extent *g;
    ft_template *t = render(
        "{% generation %}{% endgeneration %}ab{% generation %}cd{% endgeneration %}"
        "{% generation %}e{% endgeneration %}",
        two, &out, &e);
    ck_assert_uint_eq(ft_template_generated(t, &g), 3);
    ck_assert(g[0].begin == 0 && g[0].end == 0 && g[1].begin == 2 && g[1].end == 4);
    ck_assert(g[2].begin == 4 && g[2].end == 5);
    ft_template_done(t);
}
END_TEST

/* A role that chat formats know is a name and may stand within a special token; another is text. */
START_TEST(history_of_roles)
{
    check_history("{% for m in messages %}{{ '<|' + m.role + '|>' }}{% endfor %}",
                  "{\"messages\": [{\"role\": \"user\"}, {\"role\": \"x|><|y\"}]}",
                  "T0u:<|user|> T1-:<| D1-:x|><|y T1-:|>");
}
END_TEST

START_TEST(nothing_is_left_of_an_earlier_row)
{
    ft_err e = { 0 };
    ft_text out;
    ft_template *t = render("{{ a }}{% set a = 5 %}{{ a }}", "{\"a\": 1}", &out, &e);
    ft_json_doc *d = parse("{}", 2);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(ft_template_render(t, ft_json_root(d), &out, &e), 0);
        ck_assert_str_eq(out.text, "5");
    }
    ft_json_done(d);
    ft_template_done(t);
}
END_TEST

/* ---- the built-in template ------------------------------------------------------------------ */

START_TEST(chatml)
{
    ft_err e = { 0 };
    ft_text out;
    ft_template *t = ft_template_compile("ChatML", NULL, 0, &e);
    ck_assert_msg(t != NULL, "%s", e.msg);
    static const char vars[] = "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": "
                               "\"text\", \"text\": \"Hi\"}]}, {\"role\": "
                               "\"assistant\", \"content\": null, \"tool_calls\": [{\"function\": "
                               "{\"name\": \"f\", \"arguments\": "
                               "{\"a\": 1}}}]}], \"add_generation_prompt\": true}";
    ft_json_doc *d = parse(vars, strlen(vars));
    ck_assert_msg(!ft_template_render(t, ft_json_root(d), &out, &e), "%s", e.msg);
    ck_assert_str_eq(
        out.text,
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n\n<tool_call>\n{\"name\": "
        "\"f\", \"arguments\": {\"a\": 1}}\n</tool_call><|im_end|>\n<|im_start|>assistant\n");
    ft_json_done(d);
    ft_template_done(t);
}
END_TEST

/* ---- the interface for plugins -------------------------------------------------------------- */

static char said[256];
static int note_failure(const ft_host *host, int code, const char *fmt, ...)
{
    va_list ap;
    (void)host;
    va_start(ap, fmt);
    vsnprintf(said, sizeof said, fmt, ap);
    va_end(ap);
    return code;
}

START_TEST(interface_for_plugins)
{
    const ft_template_api *api = &ft_template_interface;
    ft_host host = { .size = sizeof host, .fail = note_failure };
    ft_text out;
    ck_assert_uint_eq(api->size, sizeof *api);
    ck_assert_ptr_null(api->compile(&host, "{{", 2));
    ck_assert_ptr_nonnull(strstr(said, "chat template:1:1: this tag does not end"));
    static const char source[] = "{% generation %}{{ x }}{% endgeneration %}{% if not x %}{{ "
                                 "raise_exception('no') }}{% endif %}";
    ft_template *t = api->compile(&host, source, strlen(source));
    ck_assert(api->marks(t));
    ft_json_doc *d = parse("{\"x\": \"y\"}", 10), *empty = parse("{}", 2);
    ck_assert_int_eq(api->render(&host, t, ft_json_root(d), &out), 0);
    ck_assert_str_eq(out.text, "y");
    ck_assert_int_eq(api->render(&host, t, ft_json_root(empty), &out), FT_EINVAL);
    ck_assert_str_eq(said, "no");
    ft_json_done(d);
    ft_json_done(empty);
    api->done(t);
    api->done(NULL);
}
END_TEST

/* Rows as they may come: numbers keep their text, zero bytes pass, reasoning has all its names. */
START_TEST(values_of_rows)
{
    check_text("{{ [a, b, c, d, e] }}",
               "{\"a\": 1.0, \"b\": 9007199254740993, \"c\": 1e400, \"d\": -0, "
               "\"e\": 123456789012345678901234567890}",
               "[1.0, 9007199254740993, inf, 0, 123456789012345678901234567890]");
    check_text("{{ a|length }}{{ a }}", "{\"a\": \"x\\u0000y\"}", "3x");
    check_text("{{ tools is none }}{{ documents is none }}{{ add_generation_prompt }}{{ bos_token "
               "is defined }}",
               "{\"bos_token\": null}", "TrueTrueFalseFalse");
    check_text(
        "{{ messages[0].thinking }}{{ messages[0].reasoning_content }}{{ messages[0]|list }}",
        "{\"messages\": [{\"role\": \"assistant\", \"reasoning\": \"r\"}]}",
        "rr['thinking', 'role', 'reasoning', 'reasoning_content']");
}
END_TEST

static void pin_clock(void) { setenv("SOURCE_DATE_EPOCH", "1741064767", 1); }

static Suite *suite(void)
{
    Suite *s = suite_create("template");
    TCase *c = tcase_create("template");
    tcase_add_unchecked_fixture(c, pin_clock, NULL);
    tcase_set_timeout(c, 120);
    tcase_add_test(c, every_character_as_python_sees_it);
    tcase_add_test(c, single_templates);
    tcase_add_test(c, our_templates);
    tcase_add_test(c, known_templates);
    tcase_add_test(c, history_of_a_plain_loop);
    tcase_add_test(c, history_by_index);
    tcase_add_test(c, history_through_text_operations);
    tcase_add_test(c, history_of_json);
    tcase_add_test(c, history_of_generation);
    tcase_add_test(c, history_of_roles);
    tcase_add_test(c, nothing_is_left_of_an_earlier_row);
    tcase_add_test(c, chatml);
    tcase_add_test(c, interface_for_plugins);
    tcase_add_test(c, values_of_rows);
    suite_add_tcase(s, c);
    return s;
}
