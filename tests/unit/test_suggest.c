/* test_suggest.c -- edit distance against a table and its own laws, and "did you mean". */
#include "harness.h"
#include <stdint.h>
#include <string.h>
#include "core/base/suggest.h"

START_TEST(distances)
{
    static const struct { const char *a, *b; size_t d; } cases[] = {
        { "", "", 0 }, { "", "abc", 3 }, { "abc", "abc", 0 }, { "abc", "acb", 1 }, { "abc", "ab",
          1 },
        { "abc", "abcd", 1 }, { "abc", "xbc", 1 }, { "lora_alhpa", "lora_alpha", 1 }, { "kitten",
          "sitting", 3 },
        { "ca", "abc", 3 }, /* each place is edited once */
        { "learning_rte", "learning_rate", 1 }, { "shuffel", "shuffle", 1 }, { "ab", "ba", 1 },
        { "abcdef", "badcfe", 3 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ck_assert_uint_eq(ft_edit_distance(cases[i].a, cases[i].b), cases[i].d);
        ck_assert_uint_eq(ft_edit_distance(cases[i].b, cases[i].a), cases[i].d);
    }
}
END_TEST

/* One random edit changes the distance by at most one, and never leaves it at zero. */
START_TEST(laws)
{
    uint32_t s = 7;
    for (int round = 0; round < 5000; round++) {
        char a[20], b[21];
        size_t n = 1 + (size_t)(round % 15);
        for (size_t i = 0; i < n; i++) {
            s = s * 1664525 + 1013904223;
            a[i] = (char)('a' + (s >> 16) % 4);
        }
        a[n] = 0;
        memcpy(b, a, sizeof a);
        size_t at = (s >> 8) % n;
        b[at] = b[at] == 'z' ? 'y' : 'z';
        ck_assert_uint_eq(ft_edit_distance(a, b), 1);
        memcpy(b, a, sizeof a);
        memmove(b + at, b + at + 1, n - at);
        ck_assert_uint_eq(ft_edit_distance(a, b), 1);
        if (n < 2 || at + 1 >= n) continue;
        memcpy(b, a, sizeof a);
        b[at] = a[at + 1];
        b[at + 1] = a[at];
        ck_assert_uint_eq(ft_edit_distance(a, b), a[at] != a[at + 1]);
    }
}
END_TEST

START_TEST(bounded)
{
    static char longest[1 << 20];
    memset(longest, 'a', sizeof longest - 1);
    ck_assert_uint_eq(ft_edit_distance(longest, "a"), SIZE_MAX);
    ck_assert_uint_eq(ft_edit_distance("a", longest), SIZE_MAX);
    longest[65] = 0;
    ck_assert_uint_eq(ft_edit_distance(longest, "a"), SIZE_MAX);
    longest[64] = 0;
    ck_assert_uint_eq(ft_edit_distance(longest, "a"), 63);
}
END_TEST

START_TEST(nearest)
{
    static const char *const names[] = { "r", "lora_alpha", "lora_dropout", "bias",
        "target_modules" };
    static const struct { const char *word, *want; } cases[] = {
        { "lora_alhpa", "lora_alpha" }, { "lora_dropuot", "lora_dropout" }, { "target_module",
          "target_modules" },
        { "bais", "bias" }, { "x", NULL }, { "", NULL }, { "rr", "r" }, { "completely_else", NULL },
        { "alpha", NULL }, { "loraalpha", "lora_alpha" }, { "targetmodules", "target_modules" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *got = ft_suggest(cases[i].word, names, 5);
        ck_assert_msg(got == cases[i].want || (got && cases[i].want && !strcmp(got,
            cases[i].want)), "%s: %s",
                      cases[i].word, got ? got : "nothing");
    }
    /* Of names equally near the first wins. */
    ck_assert_str_eq(ft_suggest("bat", (const char *const[]){ "cat", "hat" }, 2), "cat");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("suggest");
    TCase *t = tcase_create("suggest");
    tcase_add_test(t, distances);
    tcase_add_test(t, laws);
    tcase_add_test(t, bounded);
    tcase_add_test(t, nearest);
    suite_add_tcase(s, t);
    return s;
}
