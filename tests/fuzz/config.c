/* config.c -- fuzzes the reader of pipeline files: YAML, what is expanded in it, its stages, and
 * the typing of the top level.  Input: a file; lines before "---8<---" are overrides. */
#include "core/config/config.h"
#include "tests/fuzz/fuzz.h"

enum { MAX_OVERRIDES = 8 };

/* Takes the overrides off the front of the copy `text`; returns where the file begins in it. */
static size_t split(char *text, const char **override, size_t *n)
{
    char *cut = strstr(text, "---8<---\n"), *rest = NULL;
    *n = 0;
    if (!cut) return 0;
    *cut = 0;
    for (char *line = strtok_r(text, "\n", &rest); line && *n < MAX_OVERRIDES;
         line = strtok_r(NULL, "\n", &rest))
        override[(*n)++] = line;
    return (size_t)(cut - text) + 9;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const char *override[MAX_OVERRIDES];
    size_t n_override;
    ft_config c = { 0 };
    ft_diags d = { 0 };
    ft_buf out = { 0 };
    char *copy = calloc(1, n + 1);
    fuzz_must(copy != NULL, "no memory");
    if (n) memcpy(copy, data, n);
    size_t from = split(copy, override, &n_override);
    const char *path = fuzz_file("f.yaml", copy + from, n - from);
    int code = ft_config_load(&c, path, override, n_override, &d);
    if (!code) code = ft_config_type(&c, FT_FILL_NO_PATHS, &d);
    if (!code) ft_config_write(&out, &c);
    fuzz_must((code != 0) == (ft_diags_any(&d) || d.no_memory), "refused without a reason");
    ft_buf_free(&out);
    ft_diags_free(&d);
    ft_config_free(&c);
    free(copy);
    return 0;
}
