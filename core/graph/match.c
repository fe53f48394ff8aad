/* match.c -- see match.h.  Patterns are Python's; PCRE2 reads what people write in them.  A pattern
 * that needs more than LIMIT steps is refused by name: it came from a file. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "core/graph/match.h"
#include <pcre2.h>
#include <stdio.h>
#include <string.h>

enum { LIMIT = 100000, LONGEST = 4096 };

static int match(const char *before, const char *pattern, const char *after, const char *name,
                 ft_err *e)
{
    char text[LONGEST + 32], why[128];
    int bad, code;
    PCRE2_SIZE at;
    if (strlen(pattern) > LONGEST)
        return ft_errf(e, FT_EINVAL, "pattern \"%.60s…\" is longer than %d bytes", pattern,
                       LONGEST);
    snprintf(text, sizeof text, "%s%s%s", before, pattern, after);
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, PCRE2_UTF, &bad, &at,
                                   NULL);
    if (!re) {
        pcre2_get_error_message(bad, (PCRE2_UCHAR *)why, sizeof why);
        return ft_errf(e, FT_EINVAL, "\"%s\" is no regular expression: %s", pattern, why);
    }
    pcre2_match_data *m = pcre2_match_data_create(1, NULL);
    pcre2_match_context *c = pcre2_match_context_create(NULL);
    if (!m || !c) {
        code = ft_errf(e, FT_ENOMEM, "out of memory while matching \"%s\"", pattern);
    } else {
        pcre2_set_match_limit(c, LIMIT);
        int r = pcre2_match(re, (PCRE2_SPTR)name, strlen(name), 0, 0, m, c);
        code = r >= 0 ? 1
               : r == PCRE2_ERROR_NOMATCH
                   ? 0
                   : ft_errf(e, FT_EINVAL, "\"%s\" takes too long to match against %s: simplify it",
                             pattern, name);
    }
    pcre2_match_data_free(m);
    pcre2_match_context_free(c);
    pcre2_code_free(re);
    return code;
}

int ft_match_end(const char *pattern, const char *name, ft_err *e)
{
    return match("^(.*\\.)?(", pattern, ")$", name, e);
}

int ft_match_whole(const char *pattern, const char *name, ft_err *e)
{
    return match("^(?:", pattern, ")$", name, e);
}

bool ft_match_module(const char *module, const char *name)
{
    size_t m = strlen(module), n = strlen(name);
    return m && n >= m && !strcmp(name + n - m, module) && (n == m || name[n - m - 1] == '.');
}
