/* test_json.c -- the JSON reader: what it refuses and where, what it keeps that other readers lose,
 * member by member reading, and the bound on its memory. */
#include "harness.h"
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
#include "core/base/json.h"

/* The text, without a zero byte, in front of a page that cannot be read: valid until the next
 * call. */
static const char *guarded(const char *text, size_t n)
{
    static char *room;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), size = 16 * page;
    if (!room) {
        room = mmap(NULL, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        ck_assert(room != MAP_FAILED && !mprotect(room + size, page, PROT_NONE));
    }
    ck_assert_uint_le(n, size);
    return memcpy(room + size - n, text, n);
}

static ft_json_doc *parse(const char *text, ft_err *e)
{
    size_t n = strlen(text);
    *e = (ft_err){ 0 };
    return ft_json_parse("x", n < 4096 ? guarded(text, n) : text, n, e);
}

/* ---- refusals: each by a rule of its own ----------------------------------------------------- */

static const struct { const char *text, *says; } bad[] = {
    { "", "x:1:1: the text ends where a value must stand" },
    { " \n ", "x:2:2: the text ends" },
    { "nul", "x:1:1: a JSON value must stand here" },
    { "NaN", "x:1:1: a JSON value must stand here" },
    { "Infinity", "a JSON value must stand here" },
    { "'a'", "a JSON value must stand here" },
    { "// c\n1", "a JSON value must stand here" },
    { "1 2", "x:1:3: nothing may follow" },
    { "{}\n}", "x:2:1: nothing may follow" },
    { "-", "a number needs a digit" },
    { "+1", "a JSON value must stand here" },
    { "01", "a number may not start with 0" },
    { "-01", "a number may not start with 0" },
    { "1.", "a digit must follow the decimal point" },
    { ".5", "a JSON value must stand here" },
    { "1e", "a digit must follow the exponent" },
    { "1e+", "a digit must follow the exponent" },
    { "0x10", "nothing may follow" },
    { "\"a", "x:1:1: string does not end" },
    { "\"a\\", "string does not end" },
    { "\"\t\"", "control character" },
    { "\"\n\"", "control character" },
    { "\"\\x\"", "unknown escape" },
    { "\"\\u12\"", "four hexadecimal digits" },
    { "\"\\u12G4\"", "four hexadecimal digits" },
    { "\"\\ud800\"", "lone high surrogate" },
    { "\"\\ud800\\u0041\"", "lone high surrogate" },
    { "\"\\ud800\\n\"", "lone high surrogate" },
    { "\"\\ud800", "lone high surrogate" },
    { "\"\\ud800\\", "lone high surrogate" },
    { "\"\\ud800/udc00\"", "lone high surrogate" },
    { "\"\\ud800\\ndc00\"", "lone high surrogate" },
    { "\"\\ud800\\udc0g\"", "lone high surrogate" },
    { "\"\\ud800\\ue000\"", "lone high surrogate" },
    { "{\"a\":1, ", "a key in quotes must stand here" },
    { "\"\\udc00\"", "lone low surrogate" },
    { "\"\xff\"", "invalid UTF-8" },
    { "\"\xc0\xaf\"", "invalid UTF-8" },
    { "\"\xed\xa0\x80\"", "invalid UTF-8" },
    { "\"\xf4\x90\x80\x80\"", "invalid UTF-8" },
    { "[", "x:1:2: the text ends" },
    { "[1", "array does not end" },
    { "[1,]", "x:1:4: a JSON value must stand here" },
    { "[1 2]", "x:1:4: ',' or the end must stand here" },
    { "[,1]", "a JSON value must stand here" },
    { "[1}", "',' or the end must stand here" },
    { "{", "x:1:2: a key in quotes must stand here" },
    { "{\"a\"", "':' must follow a key" },
    { "{\"a\" 1}", "':' must follow a key" },
    { "{\"a\":1", "object does not end" },
    { "{\"a\":1,}", "a key in quotes must stand here" },
    { "{a:1}", "a key in quotes must stand here" },
    { "{1:1}", "a key in quotes must stand here" },
    { "{\"a\":1,\n \"b\":2,\n \"a\":3}", "x:3:6: duplicate key \"a\"" },
    { "{\"a\":1,\"\\u0061\":3}", "duplicate key \"a\"" },
    { "{\"\\n\":1,\"b\":{\"k\":[{\"\\u000a\":1,\"\\n\":3}]}}", "duplicate key \"\n\"" },
    { "{\"\":1,\"\":1}", "duplicate key \"\"" },
};

START_TEST(test_refused)
{
    ft_err e;
    ft_json_doc *d = parse(bad[_i].text, &e);
    ck_assert_msg(!d, "%s is accepted", bad[_i].text);
    ck_assert_msg(e.code == FT_EFORMAT && strstr(e.msg, bad[_i].says), "%s:\n%s\nnot: %s",
                  bad[_i].text, e.msg, bad[_i].says);
    /* A text of its own is refused in the same words. */
    ft_buf b = { 0 };
    ft_err own = { 0 };
    ft_buf_puts(&b, bad[_i].text);
    ck_assert(!ft_json_parse_buf("x", &b, &own) && !b.p);
    ck_assert_str_eq(own.msg, e.msg);
}
END_TEST

/* Byte order mark and bytes behind a zero are no white space. */
START_TEST(test_refused_bytes)
{
    ft_err e = { 0 };
    ck_assert(!ft_json_parse("x", "\xef\xbb\xbf{}", 5, &e));
    e = (ft_err){ 0 };
    ck_assert(!ft_json_parse("x", "{}\0", 3, &e) && strstr(e.msg, "nothing may follow"));
    e = (ft_err){ 0 };
    ck_assert(!ft_json_parse("x", "[1\0,2]", 6, &e));
    e = (ft_err){ 0 };
    ck_assert(!ft_json_parse("x", "\"a\0b\"", 5, &e) && strstr(e.msg, "control character"));
    e = (ft_err){ 0 };
    ck_assert(!ft_json_parse("x", "\"\\\0\"", 4, &e) && strstr(e.msg, "unknown escape"));
}
END_TEST

static int none(void *ctx, const ft_json *m, ft_err *e)
{
    (void)ctx, (void)m, (void)e;
    return 0;
}

/* Places are 32 bit numbers: a longer text is refused before it is looked at. */
START_TEST(test_too_long)
{
    ft_err e = { 0 };
    ck_assert(!ft_json_parse("x", guarded("{}", 2), UINT32_MAX, &e));
    ck_assert_ptr_nonnull(strstr(e.msg, "longer than 4 GiB"));
    e = (ft_err){ 0 };
    ck_assert_int_lt(
        ft_json_each("x", guarded("{}", 2), UINT32_MAX, NULL, 1 << 20, none, NULL, &e), 0);
    ck_assert_ptr_nonnull(strstr(e.msg, "longer than 4 GiB"));
    /* The text of a member counts. */
    static const char text[] = "{\"a\": \"0123456789012345678901234567890123456789\"}";
    for (size_t limit = 30; limit <= 60; limit += 30) {
        e = (ft_err){ 0 };
        int code = ft_json_each("x", text, sizeof text - 1, NULL, limit, none, NULL, &e);
        ck_assert_msg((code == 0) == (limit == 60), "%s", e.msg);
        if (code) ck_assert_ptr_nonnull(strstr(e.msg, "more parts than are allowed"));
    }
}
END_TEST

START_TEST(test_depth)
{
    ft_err e;
    for (int deep = 512; deep <= 513; deep++) {
        ft_buf b = { 0 };
        for (int i = 0; i < deep; i++) ft_buf_puts(&b, i % 2 ? "{\"a\":" : "[");
        ft_buf_puts(&b, "1");
        for (int i = deep; i-- > 0;) ft_buf_puts(&b, i % 2 ? "}" : "]");
        ft_json_doc *d = parse(b.p, &e);
        ck_assert_msg((d != NULL) == (deep == 512), "%s", e.msg);
        if (!d) ck_assert_ptr_nonnull(strstr(e.msg, "nested deeper than 512"));
        ft_json_done(d);
        ft_buf_free(&b);
    }
}
END_TEST

/* ---- what is kept ---------------------------------------------------------------------------- */

static const struct { const char *text, *same; /* NULL: as `text` */ } good[] = {
    { "null", NULL },
    { " true ", "true" },
    { "9007199254740993", NULL },
    { "-0", NULL },
    { "1.0", NULL },
    { "1e999", NULL },
    { "12345678901234567890.5E-3", NULL },
    { "\"\"", NULL },
    { "\"a\\u0000b\"", NULL },
    { "\"\\ud83d\\ude00\\/\\b\\f\\n\\r\\t\\\"\\\\\"",
      "\"\xf0\x9f\x98\x80/\\b\\f\\n\\r\\t\\\"\\\\\"" },
    { "\"\\u00e9\\u20ac\\u007f\"", "\"\xc3\xa9\xe2\x82\xac\x7f\"" },
    { "[]", NULL },
    { "{}", NULL },
    { "[[], {}, [[1]], [2, 3]]", NULL },
    { "\r\n{\t\"a\" :1 ,\"b\":[ 1,2 ],\n\"c\":{\"d\":-1e+5,\"e\":\"f\"}}",
      "{\"a\": 1, \"b\": [1, 2], \"c\": {\"d\": -1e+5, \"e\": \"f\"}}" },
    { "{\"\\\"k\\u0000\": {\"\\\\\": 1, \"x\": 2}, \"z\": 0}",
      "{\"\\\"k\\u0000\": {\"\\\\\": 1, \"x\": 2}, \"z\": 0}" },
    { "{\"z\": 1, \"a\": 2}", NULL }, /* the order of keys */
};

START_TEST(test_kept)
{
    const char *want = good[_i].same ? good[_i].same : good[_i].text;
    for (int own = 0; own < 2; own++) {
        ft_err e = { 0 };
        ft_buf out = { 0 }, b = { 0 };
        ft_buf_puts(&b, good[_i].text);
        ft_json_doc *d = own ? ft_json_parse_buf("x", &b, &e) : parse(good[_i].text, &e);
        ck_assert_msg(d != NULL, "%s: %s", good[_i].text, e.msg);
        ft_json_write(&out, ft_json_root(d), -1);
        ck_assert_str_eq(out.p, want);
        ft_json_done(d);
        ft_buf_free(&out);
        ft_buf_free(&b);
    }
}
END_TEST

START_TEST(test_places_and_ends)
{
    ft_err e;
    ft_json_doc *d = parse(" [12,{\"key\":\"va\\nlue\"}, true]", &e);
    const ft_json *v = ft_json_root(d);
    ck_assert(v->at == 1 && v->len == 3 && v->item[0].at == 2 && v->item[1].item[0].at == 12);
    ck_assert_str_eq(v->item[0].text, "12");
    ck_assert_str_eq(v->item[1].item[0].key, "key");
    ck_assert_str_eq(v->item[1].item[0].text, "va\nlue");
    ck_assert(v->item[2].truth && v->item[1].item[0].len == 6);
    ft_json_done(d);
}
END_TEST

START_TEST(test_prefix)
{
    ft_err e = { 0 };
    size_t used = 0;
    ft_json_doc *d = ft_json_parse_prefix("x", " [1] [2]", 8, &used, &e);
    ck_assert(d && used == 5 && ft_json_root(d)->len == 1 && ft_json_root(d)->at == 1);
    ft_json_done(d);
    ck_assert(!ft_json_parse_prefix("x", "[1 [2]", 6, &used, &e));
}
END_TEST

/* ---- member by member ------------------------------------------------------------------------ */

static int note(void *ctx, const ft_json *m, ft_err *e)
{
    ft_buf *b = ctx;
    if (!strcmp(m->key, "stop")) return ft_errf(e, FT_EINVAL, "told to stop");
    ft_buf_printf(b, "%s@%u=", m->key, m->at);
    ft_json_write(b, m, -1);
    ft_buf_putc(b, ';');
    return 0;
}

static const struct { const char *text, *inside, *want; /* NULL: refused with … */ const char *says;
} members[] = {
    { "{}", NULL, "", NULL },
    { " {\"a\":1, \"b\" : {\"c\":[2]} } ", NULL, "a@6=1;b@15={\"c\": [2]};", NULL },
    { "{\"\\u0061\":1,\"a\":2}", NULL, "a@10=1;a@16=2;", NULL }, /* left for on() */
    { "{\"a\":{\"x\":1},\"m\":{\"y\":2,\"z\":3}}", "m", "y@22=2;z@28=3;", NULL },
    { "{\"a\":1}", "m", "", NULL },
    { "{\"\\u006d\":{\"y\":2}}", "m", "y@15=2;", NULL },
    { "{\"m\":{},\"\\u006d\":{}}", "m", NULL, "duplicate key" },
    { "{\"m\":[]}", "m", NULL, "an object must stand here" },
    { "{\"a\":{\"x\":1,\"x\":2}}", NULL, NULL, "x:1:17: duplicate key \"x\"" },
    { "{\"a\":01,\"m\":{}}", "m", NULL, "start with 0" },
    { "", NULL, NULL, "x:1:1: an object must stand here" },
    { "{\"m\":", "m", NULL, "an object must stand here" },
    { "[]", NULL, NULL, "x:1:1: an object must stand here" },
    { "{}{}", NULL, NULL, "x:1:3: nothing may follow" },
    { "{\"a\":1", NULL, NULL, "object does not end" },
    { "{\"a\":1 \"b\":2}", NULL, NULL, "',' or the end" },
    { "{\"a\":1,}", NULL, NULL, "a key in quotes" },
    { "{\"stop\":1,\"a\":}", NULL, NULL, "told to stop" },
};

START_TEST(test_members)
{
    ft_err e = { 0 };
    ft_buf b = { 0 };
    ft_buf_puts(&b, "");
    size_t n = strlen(members[_i].text);
    int code = ft_json_each("x", guarded(members[_i].text, n), n, members[_i].inside, 1 << 20, note,
                            &b, &e);
    ck_assert_msg((code == 0) == (members[_i].want != NULL), "%s: %s", members[_i].text, e.msg);
    if (members[_i].want) ck_assert_str_eq(b.p, members[_i].want);
    else ck_assert_msg(strstr(e.msg, members[_i].says) != NULL, "%s", e.msg);
    ft_buf_free(&b);
}
END_TEST

/* ---- memory ---------------------------------------------------------------------------------- */

static long peak_kib(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_maxrss;
}

/* Texts of the most values a byte: `start`, then `part` again and again, then `end`. */
static const struct { const char *start, *part, *end; size_t bytes; bool fits; } large[] = {
    { "[1", ",1", "]", 60 << 20, false },
    { "[[]", ",[]", "]", 60 << 20, false },
    { "[[1]", ",[1]", "]", 60 << 20, false },
    { "[{}", ",{}", "]", 60 << 20, false },
    { "{\"a\":{\"\":0}", ",\"b\":{\"\":0}", "}", 60 << 20, false },
    { "[\"\"", ",\"\"", "]", 60 << 20, false },
    { "[1", ",1", "]", 4000000, true },
    { "[\"some text of a usual length\"", ",\"some text of a usual length\"", "]", 40 << 20, true },
};

START_TEST(test_memory)
{
    ft_buf b = { 0 };
    ft_err e = { 0 };
    ck_assert(ft_buf_room(&b, large[_i].bytes + 100));
    ft_buf_puts(&b, large[_i].start);
    while (b.n < large[_i].bytes) ft_buf_puts(&b, large[_i].part);
    ft_buf_puts(&b, large[_i].end);
    long before = peak_kib();
    ft_json_doc *d = ft_json_parse_buf("x", &b, &e);
    ck_assert_msg((d != NULL) == large[_i].fits, "%s", e.msg);
    if (!d) ck_assert_msg(strstr(e.msg, "more parts than are allowed") != NULL, "%s", e.msg);
    ck_assert_int_lt(peak_kib() - before, 64 << 10);
    ft_json_done(d);
}
END_TEST

/* The keys of one object: sorting them is counted too. */
START_TEST(test_memory_of_keys)
{
    ft_buf b = { 0 };
    ft_err e = { 0 };
    ck_assert(ft_buf_room(&b, 32 << 20));
    ft_buf_puts(&b, "{\"k\":0");
    for (int i = 0; i < _i * 1000000; i++) ft_buf_printf(&b, ",\"%d\":0", i);
    ft_buf_puts(&b, "}");
    long before = peak_kib();
    ft_json_doc *d = ft_json_parse_buf("x", &b, &e);
    ck_assert_msg((d != NULL) == (_i == 1), "%s", e.msg);
    ck_assert_int_lt(peak_kib() - before, 64 << 10);
    ft_json_done(d);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("json");
    TCase *t = tcase_create("json");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, test_refused, 0, sizeof bad / sizeof *bad);
    tcase_add_test(t, test_refused_bytes);
    tcase_add_test(t, test_too_long);
    tcase_add_test(t, test_depth);
    tcase_add_loop_test(t, test_kept, 0, sizeof good / sizeof *good);
    tcase_add_test(t, test_places_and_ends);
    tcase_add_test(t, test_prefix);
    tcase_add_loop_test(t, test_members, 0, sizeof members / sizeof *members);
    tcase_add_loop_test(t, test_memory, 0, sizeof large / sizeof *large);
    tcase_add_loop_test(t, test_memory_of_keys, 1, 3);
    suite_add_tcase(s, t);
    return s;
}
