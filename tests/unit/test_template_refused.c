/* test_template_refused.c -- templates that are wrong, each refused for its own reason, and
 * templates that mean harm: endless, deep, huge, without memory. */
#include "template_test.h"
#include "template_errors.h"
#include "core/text/jinja.h"

/* ---- running out of memory: the n-th allocation from now on fails --------------------------- */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { CAN_FAIL_ALLOCATIONS = 0 };
static long fail_after = -1;
#else
enum { CAN_FAIL_ALLOCATIONS = 1 };
static long fail_after = -1;
extern void *__libc_calloc(size_t n, size_t size);
void *calloc(size_t n, size_t size)
{
    if (fail_after >= 0 && fail_after-- == 0) return NULL;
    return __libc_calloc(n, size);
}
#endif

/* ---- errors --------------------------------------------------------------------------------- */

static const struct { const char *source, *says; } errors[] = {
    { "a\nb{{ 1 + }}", "chat template:2:9: an expression must stand here; got the end of the tag" },
    { "{% if x %}\n{{ 1 }}", "'endif' is missing" },
    { "\n\n{{ nothing.here }}", "chat template, line 3: 'nothing' is undefined" },
    { "{{ raise_exception('just this') }}", "just this" },
    { "{% include 'x' %}", "not supported" },
    { "{% for x in y recursive %}{% endfor %}", "recursive loops are not supported" },
    { "{{ 'x'|urlize }}", "urlize is not supported" },
    { "{{ 'x'.encode() }}", "encode is not supported" },
    { "{{ [1]|map('upper') }}", "add |list" },
    { "{{ 'x'.upper }}", "are parentheses missing" },
    { "{{ 9223372036854775807 + 1 }}", "beyond 64 bits" },
    { "{{ '\xff' }}", "invalid UTF-8" },
};

static void check_refused(const char *source, const char *says)
{
    ft_err e = { 0 };
    ft_text out;
    ft_template *t = render(source, "{}", &out, &e);
    ck_assert_msg(e.code != 0, "%.100s gave %.100s", source, out.text);
    ck_assert_msg(strstr(e.msg, says) != NULL, "%.100s\nsays %s", source, e.msg);
    ft_template_done(t);
}

START_TEST(error_messages)
{
    check_refused(errors[_i].source, errors[_i].says);
}
END_TEST

/* The message ends with the reason, or goes on with what stands there instead. */
static bool tells(const char *message, const char *reason)
{
    const char *at = strstr(message, reason);
    for (; at; at = strstr(at + 1, reason)) {
        const char *end = at + strlen(reason);
        if (!*end || !strncmp(end, "; got ", 6)) return true;
    }
    return false;
}

START_TEST(wrong_expression)
{
    ft_err e = { 0 };
    ft_text out;
    ft_template *t = render(wrong_expressions[_i].source, "{}", &out, &e);
    ck_assert_msg(e.code != 0, "%s gave %s", wrong_expressions[_i].source, out.text);
    ck_assert_msg(tells(e.msg, wrong_expressions[_i].says), "%s\nsays %s",
                  wrong_expressions[_i].source, e.msg);
    ft_template_done(t);
}
END_TEST

/* Templates that would take all time or memory, or overflow the stack: each is refused. */
static const struct { const char *source, *says;
} hostile[] = {
    { "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}", "" },
    { "{% for a in range(100000) %}{% set x = range(100000)|sum %}{% endfor %}", "steps" },
    { "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "nested deeper" },
    { "{{ 'a' * 10000000000 }}", "repeats something" },
    { "{{ [1] * 1000000000 }}", "repeats something" },
    { "{% set n = namespace(s='aaaaaaaaaaaaaaaa') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s "
      "%}{% endfor %}",
      "more than 16 MiB" },
    { "{% set n = namespace(s='ab') %}{% for i in range(24) %}{% set n.s = n.s.replace('a', 'aa') "
      "%}{% endfor %}",
      "" },
    { "{% set n = namespace(l=[1, 2]) %}{% for i in range(99) %}{% set n.l = n.l + n.l %}{% endfor "
      "%}",
      "memory" },
    { "{% set n = namespace(l=[]) %}{% for i in range(5000) %}{% set n.l = [n.l] %}{% endfor %}{{ "
      "n.l }}",
      "nested deeper" },
    { "{% set n = namespace(l=[]) %}{% for i in range(5000) %}{% set n.l = [n.l] %}{% endfor %}{{ "
      "n.l|tojson }}",
      "nested deeper" },
    { "{% set n = namespace(l=[], m=[]) %}{% for i in range(5000) %}{% set n.l = [n.l] %}{% set "
      "n.m = [n.m] %}"
      "{% endfor %}{{ n.l == n.m }}",
      "nested deeper" },
    { "{% set n = namespace(l=()) %}{% for i in range(5000) %}{% set n.l = (n.l,) %}{% endfor %}{{ "
      "{n.l: 1} }}",
      "nested deeper" },
    { "{% for i in range(100000) %}{{ 'x' * 1000 }}{% endfor %}", "writes more than 16 MiB" },
    { "{{ 'x'.ljust(100000000) }}", "pads to" },
    { "{{ '%999999999d' % 5 }}", "exceeds 4096" },
    { "{{ '{:>99999999}'.format(5) }}", "exceeds 4096" },
    { "{{ [1]|tojson(indent=999999999) }}", "exceeds" },
    { "{{ 'x'|indent(999999999) }}", "repeats something" },
    { "{{ 'x'|center(999999999) }}", "pads to" },
    { "{{ range(10000000) }}", "Range too big" },
    { "{{ range(-9223372036854775807, 9223372036854775807) }}", "Range" },
    { "{{ [1]|batch(1000000000, 0)|list }}", "" },
    { "{{ [1]|slice(1000000000)|list }}", "" },
    { "{{ 10 ** 10 ** 10 }}", "beyond 64 bits" },
    { "{{ 1e308 ** 9 }}", "out of range" },
    { "{{ 2 ** 9223372036854775807 }}", "beyond 64 bits" },
    { "{{ (-9223372036854775807 - 1) // -1 }}", "beyond 64 bits" },
    { "{{ -(-9223372036854775807 - 1) }}", "beyond 64 bits" },
    { "{{ 1|round(-9223372036854775807) ~ (1.5|round(400)) }}x{{ 1/0 }}", "division" },
    { "{% set n = namespace(d={}) %}{% for i in range(40000) %}{% set n.d = dict(n.d, **{i ~ '': "
      "i}) %}{% endfor %}",
      "" },
    { "{{ (('a' * 1000000) ~ 'b').split('')}}", "empty separator" },
    { "{{ ('a' * 4000000).replace('', 'b') }}{{ ('a' * 9000000).replace('', 'b') }}", "" },
    { "{% for i in range(100000) %}{% set x = messages|sort(attribute='a.b.c.d.e.f') %}{% endfor "
      "%}{{ 1/0 }}",
      "" },
    { "{{ 'x' is filter is test }}", "" },
    { "{{ strftime_now('%Y' * 5000) }}", "exceeds 4096" },
    { "{{ ('b' * 4000000).strip('a' * 4000000 ~ 'b') }}", "steps" },
};

START_TEST(hostile_templates)
{
    check_refused(hostile[_i].source, hostile[_i].says);
}
END_TEST

START_TEST(zero_byte)
{
    static const char source[] = "{{ \0 }}";
    ft_err e = { 0 };
    ck_assert_ptr_null(ft_template_compile("t", source, sizeof source - 1, &e));
    ck_assert_str_eq(e.msg, "t:1:4: unexpected character");
}
END_TEST

START_TEST(clock_that_is_none)
{
    static const char *const epochs[] = { "noon", "17h", "99999999999999999999",
                                          "9223372036854775807" };
    for (size_t i = 0; i < sizeof epochs / sizeof *epochs; i++) {
        ft_err e = { 0 };
        ft_text out;
        char says[100];
        setenv("SOURCE_DATE_EPOCH", epochs[i], 1);
        ft_template_done(render("{{ strftime_now('%Y') }}", "{}", &out, &e));
        snprintf(says, sizeof says, "SOURCE_DATE_EPOCH is '%s', not a number of seconds",
                 epochs[i]);
        ck_assert_msg(strstr(e.msg, says) != NULL, "%s", e.msg);
    }
    unsetenv("SOURCE_DATE_EPOCH");
}
END_TEST

START_TEST(variables)
{
    ft_err e = { 0 };
    ft_text out;
    ft_json_doc *list = parse("[1]", 3);
    ft_template *t = ft_template_compile("t", "{{ a }}", 7, &e);
    const ft_json *const wrong[] = { NULL, ft_json_root(list) };
    for (int i = 0; i < 2; i++) {
        e = (ft_err){ 0 };
        ck_assert_int_ne(ft_template_render(t, wrong[i], &out, &e), 0);
        ck_assert_msg(strstr(e.msg, "the variables must be a JSON object") != NULL, "%s", e.msg);
    }
    ft_json_done(list);
    ft_template_done(t);
}
END_TEST

/* One bracket more than are followed. */
START_TEST(brackets)
{
    ft_buf b = { 0 };
    ft_err e = { 0 };
    ft_buf_puts(&b, "{{ ");
    for (int i = 0; i <= FTJ_MAX_NEST; i++) ft_buf_putc(&b, '[');
    ck_assert_ptr_null(ft_template_compile("t", b.p, b.n, &e));
    ck_assert_msg(strstr(e.msg, "brackets nested deeper than 200") != NULL, "%s", e.msg);
    ft_buf_free(&b);
}
END_TEST

/* head, then `middle` n times, then tail: must be refused, not crash. */
static void check_repeated(const char *head, const char *middle, int n, const char *tail, bool good)
{
    ft_buf b = { 0 };
    ft_err e = { 0 };
    ft_text out;
    ft_buf_puts(&b, head);
    for (int i = 0; i < n; i++) ft_buf_puts(&b, middle);
    ft_buf_puts(&b, tail);
    ft_template *t = render(b.p, "{}", &out, &e);
    ck_assert_msg(good == !e.code, "%d times %s: %s", n, middle, e.msg);
    ft_template_done(t);
    ft_buf_free(&b);
}

START_TEST(deep_templates)
{
    check_repeated("{{ ", "(", 100000, "", false);
    check_repeated("{{ ", "[", 100000, "", false);
    check_repeated("{{ ", "not ", 100000, "1 }}", false);
    check_repeated("{{ ", "- ", 100000, "1 }}", false);
    check_repeated("{{ 1", " + 1", 100000, " }}", false);
    check_repeated("{{ 'a'", " ~ 'a'", 100000, " }}", true);
    check_repeated("{{ 'a'", "|upper", 100000, " }}", false);
    check_repeated("{{ x", ".a", 100000, " }}", false);
    check_repeated("{{ 1", " if 1 else 1", 100000, " }}", false);
    check_repeated("", "{% if 1 %}", 100000, "", false);
    check_repeated("", "{% for x in [1] %}", 100000, "", false);
    check_repeated("{% if 0 %}", "{% elif 0 %}", 100000, "{% else %}x{% endif %}", true);
    check_repeated("", "{{ 1 }}", 100000, "", true);
    check_repeated("{{ [", "1, ", 100000, "]|length }}", true);
    check_repeated("{{ 1", " < 2", 100000, " }}", true);
    check_repeated("{{ 'a'", " 'b'", 100000, " }}", true);
    check_repeated("", "{% set a = 1 %}", 100000, "", true);
    check_repeated("", "                                        ", 110000, "", false);
}
END_TEST

START_TEST(out_of_memory)
{
    static const char source[] =
        "{% macro f(a) %}{{ a|tojson }}{% endmacro %}{% for m in messages %}"
        "{{ f(m) }}{{ m.content.split(',')|sort|join(';') * 300 }}{% endfor %}";
    if (!CAN_FAIL_ALLOCATIONS) {
        printf("not run: failing allocations of templates (the sanitizer owns malloc)\n");
        return;
    }
    ft_json_doc *d = parse(two, strlen(two));
    int failures = 0;
    for (int n = 0; n < 200; n++) {
        ft_err e = { 0 };
        ft_text out;
        fail_after = n;
        ft_template *t = ft_template_compile("chat template", source, strlen(source), &e);
        if (t) ft_template_render(t, ft_json_root(d), &out, &e);
        fail_after = -1;
        if (e.code) ck_assert_int_eq(e.code, FT_ENOMEM);
        failures += e.code != 0;
        ft_template_done(t);
    }
    ck_assert_int_gt(failures, 5);
    ft_json_done(d);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("template-refused");
    TCase *c = tcase_create("template-refused");
    tcase_set_timeout(c, 120);
    tcase_add_loop_test(c, error_messages, 0, sizeof errors / sizeof *errors);
    tcase_add_loop_test(c, wrong_expression, 0,
                        sizeof wrong_expressions / sizeof *wrong_expressions);
    tcase_add_loop_test(c, hostile_templates, 0, sizeof hostile / sizeof *hostile);
    tcase_add_test(c, zero_byte);
    tcase_add_test(c, clock_that_is_none);
    tcase_add_test(c, variables);
    tcase_add_test(c, brackets);
    tcase_add_test(c, deep_templates);
    tcase_add_test(c, out_of_memory);
    suite_add_tcase(s, c);
    return s;
}
