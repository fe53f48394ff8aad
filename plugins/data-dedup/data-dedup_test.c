/* data-dedup_test.c -- exact and near duplicates: what goes, what stays, and how well the estimate
 * keeps to the threshold on texts whose similarity is known. */
#include "tests/plugin_host.h"
#include "tests/samples.h"

static const ft_filter *open_dedup(plugin_host *p, const plugin_text *given)
{
    *p = (plugin_host){ .threads = 0 };
    ck_assert_msg(plugin_open(p, "data-dedup", given) == 0, "%s", p->err.msg);
    return p->plugin->vtable;
}

/* Whether the conversation stays; *why says why not. */
static int give(plugin_host *p, const char *question, const char *answer, const char **why)
{
    made_sample m = { 0 };
    char u[4000], a[4000];
    *why = "";
    snprintf(u, sizeof u, "u:%s", question);
    snprintf(a, sizeof a, "a:%s", answer);
    int keep = ((const ft_filter *)p->plugin->vtable)
                   ->keep(p->self, make_sample(&m, (const char *const[]){ u, a, NULL }), why);
    free_sample(&m);
    return keep;
}

#define LONG                                                                                    \
    "the quick brown fox jumps over the lazy dog while seven wizards quietly mix nine jars of " \
    "blue ink "

START_TEST(what_goes)
{
    plugin_host p;
    const char *why;
    open_dedup(&p, (plugin_text[]){ { 0 } });
    ck_assert_int_eq(give(&p, "q", LONG, &why), 1);
    ck_assert_int_eq(give(&p, "q", LONG, &why), 0);
    ck_assert_str_eq(why, "exact duplicate of an earlier row");
    ck_assert_int_eq(give(&p, "Q", "The  Quick" , &why), 1);
    /* letters and blanks do not count for near */
    ck_assert_int_eq(give(&p, "q", "the quick", &why), 0);
    ck_assert_str_eq(why, "near duplicate of an earlier row");
    ck_assert_int_eq(give(&p, "q", LONG LONG "and one more thing entirely of its own", &why), 1);
    ck_assert_int_eq(give(&p, "other", "words altogether", &why), 1);
    ck_assert_int_eq(give(&p, "", "", &why), 1); /* nothing to sign */
    plugin_close(&p);
    open_dedup(&p, (plugin_text[]){ { "near", "false" }, { 0 } });
    ck_assert_int_eq(give(&p, "q", LONG "x", &why), 1);
    ck_assert_int_eq(give(&p, "q", LONG "y", &why), 1);
    ck_assert_int_eq(give(&p, "q", LONG "y", &why), 0);
    plugin_close(&p);
}
END_TEST

START_TEST(what_is_compared)
{
    static const struct {
        const char *of;
        int same_question, same_reply;
    } want[] = { { "row", 1, 1 }, { "question", 0, 1 }, { "reply", 1, 0 } };
    for (size_t i = 0; i < 3; i++) {
        plugin_host p;
        const char *why;
        open_dedup(&p, (plugin_text[]){ { "of", want[i].of }, { 0 } });
        ck_assert_int_eq(give(&p, "what is it?", "an answer", &why), 1);
        ck_assert_int_eq(give(&p, "what is it?", "something else", &why), want[i].same_question);
        ck_assert_int_eq(give(&p, "and what is that?", "an answer", &why), want[i].same_reply);
        plugin_close(&p);
    }
}
END_TEST

/* A KTO row with the other label is another row; where a turn ends matters. */
START_TEST(labels_and_turns)
{
    plugin_host p;
    made_sample m = { 0 };
    const char *why;
    const ft_filter *f = open_dedup(&p, (plugin_text[]){ { "near", "false" }, { 0 } });
    ft_sample s = *make_sample(&m, (const char *const[]){ "u:ab", "a:c", NULL });
    s.label = FT_LABEL_GOOD;
    ck_assert_int_eq(f->keep(p.self, &s, &why), 1);
    s.label = FT_LABEL_BAD;
    ck_assert_int_eq(f->keep(p.self, &s, &why), 1);
    ck_assert_int_eq(f->keep(p.self, &s, &why), 0);
    ck_assert_int_eq(give(&p, "a", "bc", &why), 1);
    free_sample(&m);
    plugin_close(&p);
}
END_TEST

/* A text of n words out of a vocabulary of its own, of which the first `shared` are those of text
 * 0. */
static void words(char *out, size_t size, int text, int shared, int n)
{
    size_t at = 0;
    for (int i = 0; i < n; i++)
        at += (size_t)snprintf(out + at, size - at, "w%dx%d ", i < shared ? 0 : text, i);
}

/* With shingles of one word the similarity of two texts that share k of n words is k / (2 n - k):
 * far above the threshold nearly all go, far below nearly all stay. */
START_TEST(near_the_threshold)
{
    static const struct {
        int shared, least, most;
    } cases[] = { { 196, 100, 100 }, { 185, 95, 100 }, { 170, 0, 15 }, { 120, 0, 0 }, { 0, 0, 0 } };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        int gone = 0;
        for (int i = 0; i < 100; i++) {
            plugin_host p;
            char a[4000], b[4000];
            const char *why;
            open_dedup(&p, (plugin_text[]){ { "shingle", "1" }, { "of", "reply" }, { 0 } });
            words(a, sizeof a, 0, 200, 200);
            /* other words each time */
            for (size_t k = 0; a[k]; k++) a[k] = a[k] == 'w' ? (char)('A' + i % 26) : a[k];
            words(b, sizeof b, i + 1, cases[c].shared, 200);
            for (size_t k = 0; b[k]; k++) b[k] = b[k] == 'w' ? (char)('A' + i % 26) : b[k];
            ck_assert_int_eq(give(&p, "", a, &why), 1);
            gone += !give(&p, "", b, &why);
            plugin_close(&p);
        }
        ck_assert_msg(gone >= cases[c].least && gone <= cases[c].most,
                      "of 100 texts that share %d words %d went", cases[c].shared, gone);
    }
}
END_TEST

/* Scripts without blanks are cut into characters. */
START_TEST(text_without_blanks)
{
    plugin_host p;
    char a[4000], b[4000];
    const char *why;
    size_t n = 0;
    for (int i = 0; i < 200; i++)
        n += (size_t)snprintf(a + n, sizeof a - n, "%c%c%c", 0xE4 + i % 5, 0x80 + i * 7 % 64,
                              0x80 + i * 13 % 64);
    memcpy(b, a, sizeof a);
    b[300] = b[300] == (char)0xE4 ? (char)0xE5 : (char)0xE4;
    open_dedup(&p, (plugin_text[]){ { 0 } });
    ck_assert_int_eq(give(&p, "", a, &why), 1);
    ck_assert_int_eq(give(&p, "", b, &why), 0);
    ck_assert_str_eq(why, "near duplicate of an earlier row");
    plugin_close(&p);
}
END_TEST

/* Many rows that share a band take linear time: the tables grow, and few rows are compared. */
START_TEST(many_rows)
{
    plugin_host p;
    char text[400];
    const char *why;
    int kept = 0;
    open_dedup(&p, (plugin_text[]){
                       { "threshold", "1" }, { "num_perm", "32" }, { "shingle", "1" }, { 0 } });
    for (int i = 0; i < 20000; i++) {
        snprintf(text, sizeof text, "common words are here in every row of them all %d", i % 15000);
        kept += give(&p, "q", text, &why);
    }
    ck_assert_int_le(kept, 15000);
    ck_assert_int_ge(kept, 1000);
    plugin_close(&p);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("data-dedup");
    TCase *t = tcase_create("dedup");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, what_goes);
    tcase_add_test(t, what_is_compared);
    tcase_add_test(t, labels_and_turns);
    tcase_add_test(t, near_the_threshold);
    tcase_add_test(t, text_without_blanks);
    tcase_add_test(t, many_rows);
    suite_add_tcase(s, t);
    return s;
}
