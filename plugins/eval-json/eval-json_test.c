/* eval-json_test.c -- what counts as an answer: the plugin itself, asking a model whose answers the
 * test writes.  Order of keys, strict JSON, keys that must be equal, the key that is counted apart;
 * a string that is always the same; the files it writes; wrong questions. */
#include "ft/evaluate.h"
#include "tests/plugin_host.h"

enum { MOST = 64 };

/* ---- a model that says what it is told ------------------------------------------------------- */

typedef struct {
    bool tuned;
    const char *base[MOST], *answer[MOST];
    int64_t asked;                          /* questions of the last call */
    struct { char name[32]; double value; } number[8];
    int n_numbers, n_samples;
    ft_buf result, heldout;                 /* what was written */
} script;

static script told;

static bool s_tuned(const ft_host *h) { (void)h; return told.tuned; }

static int s_answer(const ft_host *h, int which, const ft_json *const *messages, int64_t n,
                    ft_lm_answer *out)
{
    static const int32_t ids[] = { 7, 8 };
    (void)h;
    told.asked = n;
    for (int64_t i = 0; i < n; i++) {
        ck_assert(messages[i]->type == FT_JSON_ARRAY);
        const char *text = which == FT_LM_TUNED ? told.answer[i] : told.base[i] ? told.base[i] : "";
        out[i] =
            (ft_lm_answer){ .prompt_ids = ids, .n_prompt = 2, .text = text, .len = strlen(text) };
    }
    return 0;
}

static int s_report(const ft_host *h, const char *name, double value)
{
    (void)h;
    snprintf(told.number[told.n_numbers].name, sizeof told.number->name, "%s", name);
    told.number[told.n_numbers++].value = value;
    return 0;
}

static int s_sample(const ft_host *h, const char *prompt, const char *before, const char *after)
{
    (void)h;
    told.n_samples++;
    ck_assert(prompt && before && !!after == told.tuned);
    return 0;
}

static int s_write(const ft_host *h, const char *name, const char *p, size_t n)
{
    (void)h;
    ck_assert(!strcmp(name, "result.json") || !strcmp(name, "heldout.jsonl"));
    ft_buf_add(*name == 'r' ? &told.result : &told.heldout, p, n);
    return 0;
}

static double s_trained(const ft_host *h, const char *name)
{
    (void)h;
    ck_assert_str_eq(name, "train_seconds");
    return told.tuned ? 12.34 : (double)__builtin_nan("");
}

static const ft_lm_api lm = { .size = sizeof lm,
                              .tuned = s_tuned,
                              .answer = s_answer,
                              .report = s_report,
                              .sample = s_sample,
                              .write = s_write,
                              .trained = s_trained };

/* ---- running --------------------------------------------------------------------------------- */

static char dir[64];

static void setup(void)
{
    snprintf(dir, sizeof dir, "/tmp/ft-eval-json-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    told = (script){ .tuned = true };
}

static void teardown(void)
{
    ft_buf_free(&told.result);
    ft_buf_free(&told.heldout);
    ft_remove_tree(dir, NULL);
}

/* Runs the plugin on a file of questions; its error is in p->err. */
static int evaluate(plugin_host *p, const char *path, const char *equal, const char *apart)
{
    const plugin_text given[] = {
        { "path", path }, { "equal", equal }, { "apart", apart }, { NULL, NULL }
    };
    *p = (plugin_host){ .offer = "ft.lm/1", .offered = &lm };
    ck_assert_int_eq(plugin_open(p, "eval-json", given), 0);
    return ((const ft_evaluator *)p->plugin->vtable)->run(p->self);
}

static int evaluate_text(plugin_host *p, const char *questions)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/questions.jsonl", dir);
    ck_assert_int_eq(ft_file_write(path, questions, strlen(questions), NULL), 0);
    return evaluate(p, path, "lang", "subject");
}

static double number(const char *name)
{
    for (int i = 0; i < told.n_numbers; i++) {
        if (!strcmp(told.number[i].name, name)) return told.number[i].value;
    }
    ck_abort_msg("no number %s was reported", name);
}

/* One question, one answer: does it count, and does what is counted apart? */
static void check_one(const char *expected, const char *answer, int right, int apart)
{
    plugin_host p;
    char question[1024];
    snprintf(question, sizeof question,
             "{\"messages\": [{\"role\": \"user\", \"content\": \"q\"}], \"expected\": %s}\n",
             expected);
    told.n_numbers = 0;
    told.answer[0] = answer;
    ck_assert_msg(evaluate_text(&p, question) == 0, "%s", p.err.msg);
    plugin_close(&p);
    ck_assert_msg((int)number("right_after") == right && (int)number("apart_after") == apart,
                  "%s: %g right, %g apart", answer, number("right_after"), number("apart_after"));
}

/* ---- tests ----------------------------------------------------------------------------------- */

START_TEST(what_counts)
{
    static const char want[] =
        "{\"lang\": \"en\", \"type\": \"how\", \"subject\": \"bees \\uac00\"}";
    static const struct { const char *answer; int right, apart;
    } cases[] = {
        { "{\"lang\":\"en\",\"type\":\"how\",\"subject\":\"bees 가\"}", 1, 1 },
        { " \n{ \"lang\" : \"\\u0065n\", \"type\": \"x\", \"subject\": \"bees \\uAC00\" }\t\r\n", 1,
          1 },
        /* the subject is counted apart */
        { "{\"lang\":\"en\",\"type\":5,\"subject\":\"wasps\"}", 1, 0 },
        { "{\"lang\":\"en\",\"type\":null,\"subject\":null}", 1, 0 },
        { "{\"lang\":\"en\",\"type\":null,\"subject\":[\"bees 가\"]}", 1, 0 },
        /* apart only where right */
        { "{\"lang\":\"ko\",\"type\":\"how\",\"subject\":\"bees 가\"}", 0, 0 },
        { "{\"lang\":\"EN\",\"type\":\"how\",\"subject\":\"bees 가\"}", 0, 0 },
        { "{\"lang\":[\"en\"],\"type\":\"how\",\"subject\":\"bees 가\"}", 0, 0 },
        { "{\"type\":\"how\",\"lang\":\"en\",\"subject\":\"bees 가\"}", 0, 0 }, /* order */
        { "{\"lang\":\"en\",\"subject\":\"bees 가\",\"type\":\"how\"}", 0, 0 },
        /* a key missing, one too many */
        { "{\"lang\":\"en\",\"type\":\"how\"}", 0, 0 },
        { "{\"lang\":\"en\",\"type\":\"how\",\"subject\":\"bees 가\",\"x\":1}", 0, 0 },
        { "{\"lang\":\"en\",\"type\":\"how\",\"Subject\":\"bees 가\"}", 0, 0 },
        /* JSON to the letter */
        { "{\"lang\":\"en\",\"lang\":\"en\",\"subject\":\"bees 가\"}", 0, 0 },
        { "{\"lang\":\"en\",\"type\":\"how\",\"subject\":\"bees 가\",}", 0, 0 },
        { "{'lang':'en','type':'how','subject':'bees 가'}", 0, 0 },
        { "{\"lang\":\"en\",\"type\":\"how\",\"subject\":\"bees", 0, 0 },
        { "{\"lang\":\"en\",\"type\":\"how\",\"subject\":\"bees 가\"} Done.", 0, 0 },
        { "Sure: {\"lang\":\"en\",\"type\":\"how\",\"subject\":\"bees 가\"}", 0, 0 },
        { "```json\n{\"lang\":\"en\",\"type\":\"how\",\"subject\":\"bees 가\"}\n```", 0, 0 },
        { "[{\"lang\":\"en\",\"type\":\"how\",\"subject\":\"bees 가\"}]", 0, 0 },
        { "\"en\"", 0, 0 },
        { "", 0, 0 },
        { "{}", 0, 0 },
        { "null", 0, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_one(want, cases[i].answer, cases[i].right, cases[i].apart);
    check_one("{\"lang\": true, \"subject\": 10}", "{\"lang\":true,\"subject\":10}", 1, 1);
    check_one("{\"lang\": true, \"subject\": 10}", "{\"lang\":false,\"subject\":10}", 0, 0);
    check_one("{\"lang\": 1, \"subject\": 10}", "{\"lang\":\"1\",\"subject\":10}", 0, 0);
    check_one("{\"lang\": 1, \"subject\": 10}", "{\"lang\":1,\"subject\":\"10\"}", 1, 0);
    check_one("{\"lang\": null}", "{\"lang\":null}", 1, 0);
}
END_TEST

/* The demo's questions answered with one and the same string, whichever it is, are far from all
 * right. */
START_TEST(a_constant_string_fails)
{
    static const char *const constant[] = {
        "{\"lang\":\"en\",\"type\":\"question\",\"subject\":\"bees\"}",
        "{\"lang\":\"ko\",\"type\":\"question\",\"subject\":\"bees\"}",
    };
    double right = 0;
    for (int k = 0; k < 2; k++) {
        plugin_host p;
        told.n_numbers = 0;
        for (int i = 0; i < MOST; i++) told.answer[i] = told.base[i] = constant[k];
        ck_assert_msg(evaluate(&p, "data/demo/heldout.jsonl", "lang", "subject") == 0, "%s",
                      p.err.msg);
        plugin_close(&p);
        ck_assert_double_eq(number("questions"), 50);
        ck_assert_double_lt(number("right_after"), 40);
        ck_assert_double_le(number("apart_after"), 1);
        ck_assert_double_eq(number("right_before"), number("right_after"));
        right += number("right_after");
    }
    ck_assert_double_eq(right, 50); /* each question has one of the two languages */
}
END_TEST

static const char two[] = "{\"messages\": [{\"role\": \"system\", \"content\": \"s\"}, {\"role\": "
                          "\"user\", \"content\": \"a \\\"q\\\"\\n\"}],"
                          " \"expected\": {\"lang\": \"en\"}}\n\n   \n{\"messages\": [{\"role\": "
                          "\"user\", \"content\": \"b\"}], \"expected\": {\"lang\": \"ko\"}}";

START_TEST(files)
{
    plugin_host p;
    told.answer[0] = told.answer[1] = "{\"lang\":\"en\"}";
    told.base[0] = "x\t\x01";
    told.base[1] = "{\"lang\":\"ko\"}";
    ck_assert_msg(evaluate_text(&p, two) == 0, "%s", p.err.msg);
    plugin_close(&p);
    ck_assert_int_eq(told.asked, 2);
    ck_assert_int_eq(told.n_samples, 2);
    ck_assert_str_eq(told.result.p, "{\"questions\":2,\"base\":1,\"tuned\":1,\"subjects\":0,"
                                    "\"train_seconds\":12.3}\n");
    ck_assert_str_eq(told.heldout.p,
                     "{\"question\": \"a \\\"q\\\"\\n\", \"prompt_ids\": [7, 8], \"base\": "
                     "\"x\\t\\u0001\", \"tuned\": \"{\\\"lang\\\":\\\"en\\\"}\"}\n"
                     "{\"question\": \"b\", \"prompt_ids\": [7, 8], \"base\": "
                     "\"{\\\"lang\\\":\\\"ko\\\"}\", \"tuned\": \"{\\\"lang\\\":\\\"en\\\"}\"}\n");
}
END_TEST

/* Without a training stage there is nothing to say of a tuned model. */
START_TEST(the_base_alone)
{
    plugin_host p;
    told.tuned = false;
    told.base[0] = told.base[1] = "{\"lang\":\"en\"}";
    ck_assert_msg(evaluate_text(&p, two) == 0, "%s", p.err.msg);
    plugin_close(&p);
    ck_assert_str_eq(told.result.p, "{\"questions\":2,\"base\":1}\n");
    ck_assert_ptr_null(strstr(told.heldout.p, "tuned"));
    ck_assert_int_eq(told.n_numbers, 2);
}
END_TEST

START_TEST(wrong_questions)
{
    static const struct { const char *text, *says;
    } cases[] = {
        { "", "there are no questions" },
        { "{\"messages\": [], \"expected\": {}}", "questions.jsonl:1: a question has `messages`" },
        { "{\"messages\": [{}], \"expected\": {\"a\": 1}}\n{\"messages\": [{}]}",
          "questions.jsonl:2: a question has" },
        { "{\"messages\": \"q\", \"expected\": {}}", "a question has" },
        { "{\"messages\": [{}], \"expected\": [1]}", "a question has" },
        { "not JSON", "questions.jsonl:1" },
    };
    plugin_host p;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ck_assert_int_ne(evaluate_text(&p, cases[i].text), 0);
        ck_assert_msg(strstr(p.err.msg, cases[i].says) != NULL, "case %zu: %s", i, p.err.msg);
        plugin_close(&p);
    }
    ck_assert_int_ne(evaluate(&p, "/nonexistent/questions", "", ""), 0);
    ck_assert_ptr_nonnull(strstr(p.err.msg, "cannot be opened"));
    plugin_close(&p);
    ck_assert(told.result.n == 0 && told.heldout.n == 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("eval-json");
    TCase *t = tcase_create("eval-json");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, what_counts);
    tcase_add_test(t, a_constant_string_fails);
    tcase_add_test(t, files);
    tcase_add_test(t, the_base_alone);
    tcase_add_test(t, wrong_questions);
    suite_add_tcase(s, t);
    return s;
}
