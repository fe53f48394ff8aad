/* test_report.c -- the report of a run: its numbers, its plots, and that no data becomes markup. */
#include "harness.h"
#include <math.h>
#include <string.h>
#include <unistd.h>
#include "core/base/html.h"
#include "core/load/registry.h"
#include "core/run/report.h"
#include "core/run/report_plot.h"
#include "core/run/services.h"
#include "core/run/tokens.h"

static char dir[300];
static ft_log test_log;

static void start(void)
{
    const char *tmp = getenv("TMPDIR");
    ft_err e = { 0 };
    unsetenv("PIPELINE_CACHE");
    snprintf(dir, sizeof dir, "%s/report-%d", tmp && *tmp ? tmp : "/tmp", (int)getpid());
    ck_assert_msg(!ft_make_dirs(dir, &e), "%s", e.msg);
    ft_log_init(&test_log, stderr);
}

static void stop(void) { ft_remove_tree(dir, NULL); }

static void put(const char *name, const char *text)
{
    char path[600], folder[600];
    ft_err e = { 0 };
    snprintf(path, sizeof path, "%s/%s", dir, name);
    snprintf(folder, sizeof folder, "%s", path);
    *strrchr(folder, '/') = 0;
    ck_assert_msg(!ft_make_dirs(folder, &e) && !ft_file_write(path, text, strlen(text), &e), "%s",
                  e.msg);
}

#define EVIL "<script>alert(1)</script>\\\" onload='x' &amp; ]]><!--"
#define KEY "0123456789abcdef0123456789abcdef"

static const char lock[] =
    "version: 1\nname: \"<b>my&run\"\nmodel: \"tests/data/tok/smollm2\"\n# "
    "<script>evil()</script>\nstages:\n"
    "  - id: \"tok\"\n    use: \"tokenizer-bpe\"\n  - id: \"train\"\n    use: \"<i>train-sft\"\n"
    "# stage tok: plugin tokenizer-bpe 1, key " KEY "\n# stage train: plugin x 1, key " KEY
    "\n# stage ../..: plugin x, key " KEY "\n";

/* Ids of "H", two halves of "é", " ", "y", "ou" in tests/data/tok/smollm2. */
static void put_tokens(void)
{
    static const int32_t ids[] = { 40, 128, 103, 221, 89, 306 },
                         labels[] = { 40, -100, -100, 221, -100, 306 };
    static const int32_t held[] = { 89, 89 };
    ft_token_builder b = { .longest = 0 };
    ft_token_set set = { .n_docs = 0 };
    ft_err e = { 0 };
    char path[600];
    put("artifacts/tok-0123456789abcdef/x", "");
    snprintf(path, sizeof path, "%s/artifacts/tok-0123456789abcdef/tokens.safetensors", dir);
    ck_assert_int_eq(ft_tokens_add(&b, held, held, 2, FT_SPLIT_VAL), 0);
    ck_assert_int_eq(ft_tokens_add(&b, ids, labels, 6, FT_SPLIT_TRAIN), 0);
    ck_assert_msg(!ft_tokens_seal(&b, &set, &e), "%s", e.msg);
    set.max_length = 8;
    ck_assert_msg(!ft_tokens_save(&set, path, &e), "%s", e.msg);
    ft_tokens_free(&set);
    ft_tokens_builder_free(&b);
}

static void put_run(void)
{
    put("run.lock.yaml", lock);
    put("metrics.jsonl",
        "{\"step\": 1, \"loss\": 4.5, \"learning_rate\": 0.001, \"tokens\": 100}\n"
        "{\"step\": 2, \"loss\": \"nan\", \"learning_rate\": 0.002, \"tokens\": 50}\n"
        "{\"step\": 2, \"eval_loss\": 3.25}\n{\"step\": 3, \"loss\": 3.5, \"learning_rate\": "
        "0.003, \"tokens\": 50}\n"
        "<script>broken\n{\"step\": 4, \"lo");
    put("timing.jsonl", "{\"step\": 1, \"seconds\": 1.5, \"peak_bytes\": 1048576}\n{\"step\": 2, "
                        "\"seconds\": 2.5, \"peak_bytes\": 3145728}\n");
    put("artifacts/train-0123456789abcdef/trained.json",
        "{\"steps\": 8, \"trainable\": 25, \"parameters\": 1000, \"planned_peak_rss_bytes\": "
        "4194304}\n");
    put("samples.jsonl",
        "{\"prompt\": \"" EVIL "\", \"before\": \"<img src=x>\", \"after\": "
                               "\"\\u0000\\u001b[31m\\u202e한국\"}\n{\"prompt\": 5}\n");
    put("eval.json",
        "{\"loss\": 1.25, \"" EVIL "\": \"<b>\", \"inner\": {\"deep\": [1, \"<u>\"]}}");
    put_tokens();
}

/* Writes the report and reads it back. */
static void make(ft_buf *page, bool plugins)
{
    char folder[400], path[600];
    ft_err e = { 0 };
    ft_registry *r = plugins ? ft_registry_new(&e) : NULL;
    ft_offer offer = ft_run_offer(&test_log);
    snprintf(folder, sizeof folder, "%s/plugins", test_build());
    snprintf(path, sizeof path, "%s/report.html", dir);
    if (r) ck_assert_msg(!ft_registry_add(r, folder, "test", &e), "%s", e.msg);
    ck_assert_msg(!ft_report_write(dir, NULL, r, &offer, &e), "%s", e.msg);
    page->n = 0;
    ck_assert_msg(!ft_file_read(page, path, 1 << 24, &e), "%s", e.msg);
    ft_registry_free(r);
}

static void has(const ft_buf *page, const char *text)
{
    ck_assert_msg(strstr(page->p, text) != NULL, "missing: %s\n%s", text, page->p);
}

/* Every '<' begins a tag that the report itself writes. */
static void only_our_tags(const ft_buf *page)
{
    static const char *const tags[] = { "!DOCTYPE", "html", "head",     "meta",  "style", "title",
                                        "body",     "h1",   "h2",       "table", "tr",    "th",
                                        "td",       "p",    "pre",      "span",  "svg",   "line",
                                        "text",     "path", "polyline", "circle" };
    for (const char *p = page->p; (p = strchr(p, '<')); p++) {
        const char *name = p + 1 + (p[1] == '/');
        size_t n = strcspn(name, " >\n/"), i = 0;
        while (i < sizeof tags / sizeof *tags && (strlen(tags[i]) != n || memcmp(tags[i], name, n)))
            i++;
        ck_assert_msg(i < sizeof tags / sizeof *tags, "a foreign tag: %.60s", p);
    }
}

START_TEST(whole_report)
{
    ft_buf page = { 0 };
    put_run();
    make(&page, true);
    only_our_tags(&page);
    has(&page, "<h1>&lt;b&gt;my&amp;run</h1>");
    has(&page, "<tr><th>method</th><td>tokenizer-bpe → &lt;i&gt;train-sft</td></tr>");
    has(&page, "2.5000 % (25 of 1000 parameters)");
    has(&page, "<tr><th>steps</th><td>3 of 8</td></tr>");
    has(&page, "<tr><th>tokens</th><td>200</td></tr>");
    has(&page, "<tr><th>seconds</th><td>4.0</td></tr>");
    has(&page, "<tr><th>tokens/s</th><td>50.0</td></tr>");
    has(&page, "<tr><th>planned peak memory</th><td>4.0 MiB</td></tr>");
    has(&page, "<tr><th>measured peak memory</th><td>3.0 MiB</td></tr>");
    has(&page, "2 lines of the metrics could not be read");
    has(&page,
        "&lt;script&gt;alert(1)&lt;/script&gt;&quot; onload=&#39;x&#39; &amp;amp; ]]&gt;&lt;!--");
    has(&page, "\xEF\xBF\xBD\xEF\xBF\xBD[31m\xEF\xBF\xBD한국");
    has(&page, "<tr><th>inner.deep</th><td>[1, &quot;&lt;u&gt;&quot;]</td></tr>");
    has(&page, "# &lt;script&gt;evil()&lt;/script&gt;");
    has(&page, "evaluation loss</text>");
    ck_assert_ptr_null(strstr(page.p, "http:"));
    ck_assert_ptr_null(strstr(page.p, "https:"));
    ft_buf_free(&page);
}
END_TEST

START_TEST(picture_of_tokens)
{
    ft_buf page = { 0 };
    put_run();
    make(&page, true);
    /* the held-out one does not count */
    has(&page, "<p>1 documents, 6 tokens, 33.3 % of them trained.");
    has(&page, "<p class=\"tokens\"><span class=\"d\" title=\"40\">H</span><span class=\"d\" "
               "title=\"128 103\">é</span>"
               "<span class=\"t\" title=\"221\"> </span><span class=\"d\" "
               "title=\"89\">y</span><span class=\"t\" title=\"306\">ou</span></p>");
    make(&page, false);
    only_our_tags(&page);
    has(&page, "so the ids are shown");
    has(&page, "<span class=\"t\" title=\"306\">306 </span></p>");
    ft_buf_free(&page);
}
END_TEST

/* Half a run, and what is no run. */
START_TEST(what_is_missing)
{
    ft_buf page = { 0 };
    ft_err e = { 0 };
    put("run.lock.yaml", "{{{ no yaml <");
    make(&page, false);
    only_our_tags(&page);
    has(&page, "<h1>run</h1>");
    has(&page, "{{{ no yaml &lt;");
    ck_assert_ptr_null(strstr(page.p, "<svg"));
    put("eval.json", "[1");
    put("metrics.jsonl", "{\"step\": 1, \"loss\": 2}\n");
    put("samples.jsonl", "");
    make(&page, false);
    has(&page, "eval.json could not be read");
    has(&page, "<circle class=\"c1\"");
    stop();
    start();
    ck_assert_int_ne(ft_report_write(dir, NULL, NULL, NULL, &e), 0);
    ck_assert_ptr_nonnull(strstr(e.msg, "is no output folder of a run"));
    ft_buf_free(&page);
}
END_TEST

/* Numbers at the edges of doubles make no page without end and no place that is no number. */
START_TEST(strange_numbers)
{
    static const char *const rows[] = {
        "{\"step\":1,\"loss\":1e308}\n{\"step\":2,\"loss\":-1e308}\n",
        "{\"step\":1e300,\"loss\":1}\n{\"step\":-1e300,\"loss\":2}\n",
        "{\"step\":1,\"loss\":0}\n{\"step\":1,\"loss\":0}\n",
        "{\"step\":1,\"loss\":5e-324}\n{\"step\":2,\"loss\":0}\n",
        "{\"step\":1,\"loss\":1e400}\n",
        "{\"step\":1,\"loss\":1,\"tokens\":9223372036854775807}\n{\"step\":2,\"tokens\":9}\n"
    };
    ft_buf page = { 0 };
    put("run.lock.yaml", "version: 1\n");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        put("metrics.jsonl", rows[i]);
        make(&page, false);
        const char *svg = strstr(page.p, "<svg");
        ck_assert_msg(page.n < 20000, "case %zu: %zu bytes", i, page.n);
        ck_assert_msg(!svg || (!strstr(svg, "nan") && !strstr(svg, "inf")), "case %zu: %.2000s", i,
                      svg);
    }
    ft_buf_free(&page);
}
END_TEST

START_TEST(ticks_and_means)
{
    static const struct { double lo, hi, first, step;
    } cases[] = {
        { 0, 10, 0, 2 },      { 0.3, 4.7, 1, 1 }, { -1, 1, -1, 0.5 }, { 1e-5, 2e-4, 5e-5, 5e-5 },
        { 100, 130, 100, 5 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double step, first = ft_plot_ticks(cases[i].lo, cases[i].hi, 6, &step);
        ck_assert_msg(fabs(step - cases[i].step) < 1e-9 * step &&
                          fabs(first - cases[i].first) < 1e-6 * step,
                      "case %zu: %g by %g", i, first, step);
    }
    ft_series in = { { 0 } }, out = { { 0 } };
    for (int i = 0; i < 12; i++) ft_buf_add(&in.points, &(ft_point){ i, i * i }, sizeof(ft_point));
    ft_moving_average(&out, &in);
    ck_assert_uint_eq(ft_series_n(&out), 8);
    for (int i = 4; i < 12; i++) {
        ck_assert_double_eq(ft_series_at(&out)[i - 4].x, i);
        ck_assert_double_eq_tol(ft_series_at(&out)[i - 4].y,
                                (i * i + (i - 1) * (i - 1) + (i - 2) * (i - 2) + (i - 3) * (i - 3) +
                                 (i - 4) * (i - 4)) /
                                    5.0,
                                1e-12);
    }
    ft_buf_free(&in.points);
    ft_buf_free(&out.points);
}
END_TEST

/* A long series is thinned, and its one spike is still there. */
START_TEST(long_series)
{
    ft_series s = { { 0 } };
    ft_buf svg = { 0 };
    for (int i = 0; i < 100000; i++)
        ft_buf_add(&s.points, &(ft_point){ i, i == 54321 ? 100 : 1 }, sizeof(ft_point));
    const ft_curve c = { &s, "c1", "x", false };
    ft_plot_svg(&svg, "t", "y", &c, 1);
    ck_assert_uint_lt(svg.n, 40000);
    ck_assert_ptr_nonnull(strstr(svg.p, ",40.7 ")); /* 100 of 0 … 104.95 between 256 and 30 */
    ft_buf_free(&s.points);
    ft_buf_free(&svg);
}
END_TEST

START_TEST(html)
{
    ft_buf b = { 0 };
    ft_html_text(&b, "a<&>\"'\n\t\r\x7f\xff\xc3\xa9", 13);
    ck_assert_str_eq(b.p,
                     "a&lt;&amp;&gt;&quot;&#39;\n\t\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xC3\xA9");
    b.n = 0;
    ft_html_cut(&b, "a\xC3\xA9z", 4, 2); /* never inside of a character */
    ck_assert_str_eq(b.p, "a …");
    ft_buf_free(&b);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("report");
    TCase *t = tcase_create("report");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, start, stop);
    tcase_add_test(t, whole_report);
    tcase_add_test(t, picture_of_tokens);
    tcase_add_test(t, what_is_missing);
    tcase_add_test(t, strange_numbers);
    tcase_add_test(t, ticks_and_means);
    tcase_add_test(t, long_series);
    tcase_add_test(t, html);
    suite_add_tcase(s, t);
    return s;
}
