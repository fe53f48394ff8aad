/* data-filter_test.c -- every rule of data-filter from both of its sides. */
#include "tests/plugin_host.h"
#include "tests/samples.h"

#define WORDS20 "a b c d e f g h i j k l m n o p q r s t"
#define SAID "one two three four five six "

static const struct { const char *key, *value, *turns[6], *why;
} cases[] = {
    /* length: characters, not bytes; of what the row says, not of the template's words */
    { "min_chars", "4", { "u:ab", "a:cd" }, NULL },
    { "min_chars", "5", { "u:ab", "a:cd" }, "shorter than min_chars" },
    { "min_chars", "5", { "u:\xC3\xA9\xC3\xA9", "a:\xC3\xA9\xC3\xA9" }, "shorter than min_chars" },
    { "max_chars", "4", { "u:ab", "a:cd" }, NULL },
    { "max_chars", "3", { "u:ab", "a:cd" }, "longer than max_chars" },
    { "max_chars", "4", { "u:\xE6\x97\xA5\xE6\x97\xA5", "a:cd" }, NULL },
    { "min_reply_chars", "2", { "u:abcd", "a:cd" }, NULL },
    { "min_reply_chars", "3", { "u:abcd", "a:cd" }, "a reply shorter than min_reply_chars" },
    { "max_reply_chars", "2", { "u:abcd", "a:cd" }, NULL },
    { "max_reply_chars", "1", { "u:abcd", "a:cd" }, "a reply longer than max_reply_chars" },
    /* scripts */
    { "scripts",
      "latin",
      { "u:Was ist \xC3\xBC"
        "blich?",
        "a:42, 43." },
      NULL },
    { "scripts",
      "latin",
      { "u:\xD0\xBF\xD1\x80\xD0\xB8\xD0\xB2\xD0\xB5\xD1\x82", "a:hi" },
      "another script" },
    { "scripts",
      "cyrillic,latin",
      { "u:\xD0\xBF\xD1\x80\xD0\xB8\xD0\xB2\xD0\xB5\xD1\x82", "a:hi" },
      NULL },
    { "scripts",
      "han,kana",
      { "u:\xE6\x97\xA5\xE6\x9C\xAC\xE3\x81\xAE", "a:\xE3\x82\xAB\xE3\x83\x8A" },
      NULL },
    { "scripts",
      "hangul",
      { "u:\xED\x95\x9C\xEA\xB5\xAD", "a:\xE6\x97\xA5\xE6\x9C\xAC" },
      "another script" },
    { "scripts", "greek", { "u:1 + 1", "a:2" }, NULL }, /* no letters */
    /* repetition */
    { "max_repetition", "0", { "u:q", "a:" WORDS20 }, NULL },
    { "max_repetition", "0.3", { "u:q", "a:" SAID SAID SAID SAID }, "repetition" },
    /* only replies count */
    { "max_repetition", "0.3", { "u:" SAID SAID SAID SAID, "a:fine" }, NULL },
    { "max_repetition",
      "0.3",
      { "u:q", "a:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" },
      "repetition" },
    { "max_repetition",
      "0.3",
      { "u:q", "a:abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;" },
      NULL },
    { "max_repetition", "0.3", { "u:q", "a:ha ha ha ha ha" }, NULL }, /* too short to judge */
    /* refusals */
    { "drop_refusals",
      "true",
      { "u:q", "a:I\xE2\x80\x99m  SORRY, but\nI can't do that." },
      "a refusal" },
    { "drop_refusals",
      "true",
      { "u:As an AI language model, what are you?", "a:A program." },
      NULL },
    { "drop_refusals", "false", { "u:q", "a:I cannot assist with that." }, NULL },
    { "drop_refusals", "true", { "u:q", "a:I cannot assist with that." }, "a refusal" },
    { "drop_refusals",
      "true",
      { "u:q", "a:fine", "u:r", "a:As an AI language model I do not know." },
      "a refusal" },
    /* malformed turns */
    { "drop_malformed", "true", { "s:be good", "u:q", "a:x", "t:tool", "a:y" }, NULL },
    { "drop_malformed", "true", { "u:q", "a: \n" }, "an empty reply" },
    { "drop_malformed", "true", { "u:\t", "a:x" }, "an empty message of the user" },
    { "drop_malformed", "true", { "u:q", "u:r", "a:x" }, "two turns of the same role in a row" },
    { "drop_malformed", "true", { "u:q", "a:x", "a:y" }, "two turns of the same role in a row" },
    { "drop_malformed", "true", { "s:s", "a:x" }, "no message of the user" },
    { "drop_malformed", "true", { "u:q", "a:x", "u:r" }, "the last turn is not the assistant's" },
    { "drop_malformed",
      "true",
      { "u:q", "a:x\xEF\xBF\xBD" },
      "broken characters (U+FFFD or control characters)" },
    { "drop_malformed",
      "true",
      { "u:q\x1b[1m", "a:x" },
      "broken characters (U+FFFD or control characters)" },
    { "drop_malformed", "true", { "u:q\t\r\n", "a:x" }, NULL },
    { "drop_malformed", "false", { "u:q", "u:\x02", "a:" }, NULL },
};

START_TEST(rules)
{
    plugin_host p = { .threads = 0 };
    made_sample m = { 0 };
    const char *why = NULL;
    const plugin_text given[] = { { cases[_i].key, cases[_i].value }, { 0 } };
    ck_assert_msg(plugin_open(&p, "data-filter", given) == 0, "%s", p.err.msg);
    int keep =
        ((const ft_filter *)p.plugin->vtable)->keep(p.self, make_sample(&m, cases[_i].turns), &why);
    ck_assert_msg(keep == (cases[_i].why == NULL), "case %d (%s, %s): kept %d, %s", _i,
                  cases[_i].key, cases[_i].turns[1], keep, why);
    if (!keep) ck_assert_str_eq(why, cases[_i].why);
    free_sample(&m);
    plugin_close(&p);
}
END_TEST

/* Other phrases take the place of the usual ones. */
START_TEST(phrases)
{
    plugin_host p = { .threads = 0 };
    made_sample m = { 0 };
    const char *why;
    const plugin_text given[] = { { "drop_refusals", "true" },
                                  { "refusal_phrases", "Das kann ich nicht,Leider" },
                                  { 0 } };
    ck_assert_int_eq(plugin_open(&p, "data-filter", given), 0);
    const ft_filter *f = p.plugin->vtable;
    ck_assert_int_eq(f->keep(p.self,
                             make_sample(&m, (const char *const[]){ "u:q", "a:leider nein", NULL }),
                             &why),
                     0);
    ck_assert_int_eq(f->keep(p.self,
                             make_sample(&m,
                                         (const char *const[]){ "u:q", "a:I cannot assist", NULL }),
                             &why),
                     1);
    free_sample(&m);
    plugin_close(&p);
}
END_TEST

/* Pairs: both answers must be sound; only the chosen one must not refuse.  Text has no turns. */
START_TEST(pairs_and_text)
{
    plugin_host p = { .threads = 0 };
    made_sample m = { 0 }, r = { 0 }, t = { 0 };
    const char *why;
    const plugin_text given[] = { { "drop_refusals", "true" }, { "min_reply_chars", "2" }, { 0 } };
    ck_assert_int_eq(plugin_open(&p, "data-filter", given), 0);
    const ft_filter *f = p.plugin->vtable;
    ft_sample pair = *make_sample(&m, (const char *const[]){ "u:q", "a:yes", NULL });
    pair.seq[1] =
        make_sample(&r, (const char *const[]){ "u:q", "a:I cannot assist with it", NULL })->seq[0];
    pair.n_seq = 2;
    ck_assert_int_eq(f->keep(p.self, &pair, &why), 1);
    pair.seq[1] = make_sample(&r, (const char *const[]){ "u:q", "a:n", NULL })->seq[0];
    ck_assert_int_eq(f->keep(p.self, &pair, &why), 0);
    ck_assert_str_eq(why, "a reply shorter than min_reply_chars");
    made_span(&t, "text as it stands", -1, FT_ROLE_NONE, FT_FROM_DATA, true);
    ft_sample text = {
        .n_seq = 1, .seq[0] = { t.text.p, t.text.n, (const ft_span *)(const void *)t.span.p, 1 }
    };
    ck_assert_int_eq(f->keep(p.self, &text, &why), 1);
    free_sample(&m);
    free_sample(&r);
    free_sample(&t);
    plugin_close(&p);
}
END_TEST

START_TEST(an_unknown_script)
{
    plugin_host p = { .threads = 0 };
    const plugin_text given[] = { { "scripts", "latin,klingon" }, { 0 } };
    ck_assert_int_eq(plugin_open(&p, "data-filter", given), FT_EINVAL);
    ck_assert_ptr_nonnull(strstr(p.err.msg,
                                 "scripts: \"klingon\" is not known; there are latin, greek"));
    plugin_close(&p);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("data-filter");
    TCase *t = tcase_create("filter");
    tcase_add_loop_test(t, rules, 0, sizeof cases / sizeof *cases);
    tcase_add_test(t, phrases);
    tcase_add_test(t, pairs_and_text);
    tcase_add_test(t, an_unknown_script);
    suite_add_tcase(s, t);
    return s;
}
