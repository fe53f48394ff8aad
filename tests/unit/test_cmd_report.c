/* test_cmd_report.c -- `pipeline report`: the page of a real run, made again from its folder to the
 * byte, to another place, and after files of the run are gone. */
#include "harness.h"
#include "tests/talker.h"

static void begin(void)
{
    char stages[1024];
    ft_buf said = { 0 };
    tiny_begin();
    talker_chats(tiny_path("train.jsonl"), 0, 8);
    snprintf(stages, sizeof stages,
             "  - use: data-chatml\n    with: { path: %s, val_size: 2 }\n  - use: tokenizer-bpe\n"
             "  - use: lora\n    with: { r: 2 }\n  - use: train-sft\n    with: { max_steps: 3, "
             "per_device_train_batch_size: 2 }\n"
             "  - use: eval-loss\n    with: { max_new_tokens: 4 }\n",
             tiny_path("train.jsonl"));
    ck_assert_msg(talker_pipeline(&said, talker_model(), "out", stages) == 0, "%s", said.p);
    ft_buf_free(&said);
}

/* `pipeline report ARGS`; what it printed is not kept. */
static int report(const char *dir, const char *option, const char *value)
{
    const char *argv[] = { "report", dir, option, value, NULL };
    return tiny_run(NULL, argv);
}

START_TEST(the_same_page_again)
{
    const char *page = tiny_path("out/report.html"), *kept = tiny_path("kept.html"),
               *other = tiny_path("other.html");
    ft_buf b = { 0 };
    ft_err e = { 0 };
    tiny_copy(page, kept);
    ck_assert_int_eq(unlink(page), 0);
    ck_assert_int_eq(report(tiny_path("out"), NULL, NULL), 0);
    ck_assert(tiny_same(page, kept));
    ck_assert_int_eq(report(tiny_path("out"), "--out", other), 0);
    ck_assert(tiny_same(other, kept));
    tiny_must(ft_file_read(&b, kept, 1 << 24, &e), &e);
    static const char *const has[] = { "<tr><th>steps</th><td>3</td></tr>",
                                       "data-chatml → tokenizer-bpe → lora → train-sft",
                                       "<svg",
                                       "class=\"tokens\"",
                                       "eval-loss.loss_after",
                                       "output_dir:" };
    for (size_t i = 0; i < sizeof has / sizeof *has; i++)
        ck_assert_msg(strstr(b.p, has[i]) != NULL, "no \"%s\"", has[i]);
    ft_buf_free(&b);
}
END_TEST

/* What is left of a run is still shown; what is no run is refused and nothing written. */
START_TEST(what_is_left)
{
    ck_assert_int_eq(unlink(tiny_path("out/metrics.jsonl")), 0);
    ck_assert_int_eq(report(tiny_path("out"), NULL, NULL), 0);
    ck_assert_int_eq(report(tiny_dir, NULL, NULL), 1);
    ck_assert(!ft_file_exists(tiny_path("report.html")));
    ck_assert_int_eq(report(tiny_path("out"), "--out", "/nonexistent/folder/x.html"), 1);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("cmd-report");
    TCase *t = tcase_create("cmd-report");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, begin, tiny_end);
    tcase_add_test(t, the_same_page_again);
    tcase_add_test(t, what_is_left);
    suite_add_tcase(s, t);
    return s;
}
