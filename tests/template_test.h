/* template_test.h -- what the tests of chat templates share: rendering over variables in JSON. */
#ifndef FT_TESTS_TEMPLATE_TEST_H
#define FT_TESTS_TEMPLATE_TEST_H
#include "harness.h"
#include <string.h>
#include "core/base/json.h"
#include "core/text/template.h"

static inline ft_json_doc *parse(const char *text, size_t n)
{
    ft_err e = { 0 };
    ft_json_doc *d = ft_json_parse("test", text, n, &e);
    ck_assert_msg(d != NULL, "%s: %.200s", e.msg, text);
    return d;
}

/* A compiled template rendered over vars written as JSON; *e says what went wrong. */
static inline ft_template *render(const char *source, const char *vars, ft_text *out, ft_err *e)
{
    *out = (ft_text){ 0 };
    ft_template *t = ft_template_compile("chat template", source, strlen(source), e);
    if (!t) return NULL;
    ft_json_doc *d = parse(vars, strlen(vars));
    ft_template_render(t, ft_json_root(d), out, e);
    ft_json_done(d);
    return t;
}

static inline void check_text(const char *source, const char *vars, const char *want)
{
    ft_err e = { 0 };
    ft_text out;
    ft_template *t = render(source, vars, &out, &e);
    ck_assert_msg(!e.code, "%s\n%s", e.msg, source);
    ck_assert_str_eq(out.text, want);
    ft_template_done(t);
}

static const char two[] =
    "{\"messages\": [{\"role\": \"user\", \"content\": \"Q\"}, "
    "{\"role\": \"assistant\", \"content\": \"A\", \"x\": {\"k\": [1, \"v\"]}}], "
    "\"bos_token\": \"<s>\", \"extra\": \"E\"}";
#endif
