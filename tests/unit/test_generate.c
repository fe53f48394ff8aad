/* test_generate.c -- continuing prompts: greedy answers against the likeliest token of `score`
 * logits, token by token; cached against uncached; prompts together against each alone; stop
 * tokens, limits, seeds; and `pipeline generate` with and without the chat template. */
#include "harness.h"
#include "tests/asking.h"
#include "tests/talker.h"

enum { NEW = 12, MOST = 40, PROMPTS = 21 }; /* more than there are slots */

/* ---- prompts --------------------------------------------------------------------------------- */

typedef struct {
    int32_t prompt[PROMPTS][MOST], out[PROMPTS][MOST];
    ft_continuation text[PROMPTS];
} prompts;

/* Prompts of 1 to 24 ids below 96. */
static void make_prompts(prompts *p)
{
    for (int i = 0; i < PROMPTS; i++) {
        int64_t n = 1 + (int64_t)(tiny_number(3, (uint64_t)i) % 24);
        for (int64_t k = 0; k < n; k++)
            p->prompt[i][k] = (int32_t)(3 + tiny_number((uint64_t)i, (uint64_t)k) % 93);
        p->text[i] = (ft_continuation){ .prompt = p->prompt[i], .n_prompt = n, .out = p->out[i] };
    }
}

static void generate(asking *a, const ft_generate_args *g, ft_continuation *t, int64_t n)
{
    ft_err e = { 0 };
    tiny_must(ft_generate(&a->asked, g, 128, t, n, NULL, &e), &e);
}

static void same_text(const ft_continuation *a, const ft_continuation *b, const char *what, int i)
{
    ck_assert_msg(a->n_out == b->n_out && a->stopped == b->stopped,
                  "%s, prompt %d: %lld tokens, not %lld", what, i, (long long)a->n_out,
                  (long long)b->n_out);
    ck_assert_msg(!memcmp(a->out, b->out, (size_t)a->n_out * sizeof *a->out),
                  "%s, prompt %d: other tokens", what, i);
}

/* ---- tests ----------------------------------------------------------------------------------- */

/* Every new token is the likeliest after all that stand before it. */
static void check_greedy(const char *model, const char *adapter)
{
    static prompts p;
    asking a;
    ft_generate_args g = { .max_new_tokens = NEW, .top_p = 1 };
    make_prompts(&p);
    ask_open(&a, model, adapter, 2);
    generate(&a, &g, p.text, PROMPTS);
    for (int i = 0; i < PROMPTS; i += 5) {
        int32_t all[2 * MOST];
        int64_t n = p.text[i].n_prompt;
        vectors v;
        ck_assert_int_eq(p.text[i].n_out, NEW);
        memcpy(all, p.prompt[i], (size_t)n * sizeof *all);
        memcpy(all + n, p.out[i], NEW * sizeof *all);
        ft_tensor logits = talker_logits(&v, model, adapter, all, n + NEW);
        for (int64_t k = 0; k < NEW; k++)
            ck_assert_msg(talker_argmax(&logits, n + k - 1) == all[n + k],
                          "prompt %d, token %lld: %d, not %d", i, (long long)k, all[n + k],
                          talker_argmax(&logits, n + k - 1));
        vectors_close(&v);
    }
    ask_close(&a);
}

START_TEST(greedy_is_the_likeliest) { check_greedy(tiny_model("untied"), NULL); }
END_TEST

START_TEST(greedy_with_an_adapter) { check_greedy(tiny_model("tied"), TINY "/lora/adapter_final"); }
END_TEST

/* A token at a time with the whole text as the prompt, which reads nothing from a cache. */
START_TEST(cached_equals_uncached)
{
    static prompts p;
    asking a;
    ft_generate_args g = { .max_new_tokens = NEW, .top_p = 1 },
                     one = { .max_new_tokens = 1, .top_p = 1 };
    make_prompts(&p);
    ask_open(&a, tiny_model("tied"), NULL, 2);
    generate(&a, &g, p.text, PROMPTS);
    for (int i = 0; i < 3; i++) {
        int32_t all[2 * MOST], next;
        ft_continuation t = { .prompt = all, .n_prompt = p.text[i].n_prompt, .out = &next };
        memcpy(all, p.prompt[i], (size_t)t.n_prompt * sizeof *all);
        for (int64_t k = 0; k < NEW; k++) {
            generate(&a, &one, &t, 1);
            ck_assert_int_eq(t.n_out, 1);
            ck_assert_msg(next == p.out[i][k], "prompt %d, token %lld: %d, cached %d", i,
                          (long long)k, next, p.out[i][k]);
            all[t.n_prompt++] = next;
        }
    }
    ask_close(&a);
}
END_TEST

START_TEST(together_equals_alone)
{
    static prompts p, q;
    asking a;
    ft_generate_args g = { .max_new_tokens = NEW, .top_p = 1 };
    make_prompts(&p);
    make_prompts(&q);
    ask_open(&a, tiny_model("tied"), NULL, 2);
    generate(&a, &g, p.text, PROMPTS);
    for (int i = 0; i < PROMPTS; i++) generate(&a, &g, &q.text[i], 1);
    for (int i = 0; i < PROMPTS; i++) same_text(&p.text[i], &q.text[i], "alone", i);
    ask_close(&a);
    make_prompts(&q);
    ask_open(&a, tiny_model("tied"), NULL, 1);
    generate(&a, &g, q.text, PROMPTS);
    for (int i = 0; i < PROMPTS; i++) same_text(&p.text[i], &q.text[i], "one thread", i);
    ask_close(&a);
}
END_TEST

/* A stop token ends a text where it first stands and is not part of it; the others go on. */
START_TEST(stop_tokens)
{
    static prompts p, q;
    asking a;
    ft_generate_args g = { .max_new_tokens = NEW, .top_p = 1 };
    make_prompts(&p);
    make_prompts(&q);
    ask_open(&a, tiny_model("tied"), NULL, 2);
    generate(&a, &g, p.text, PROMPTS);
    const int32_t stop[] = { p.out[0][NEW / 2], p.out[1][0] };
    g.stop = stop;
    g.n_stop = 2;
    generate(&a, &g, q.text, PROMPTS);
    for (int i = 0; i < PROMPTS; i++) {
        int64_t n = 0;
        while (n < NEW && p.out[i][n] != stop[0] && p.out[i][n] != stop[1]) n++;
        ck_assert_msg(q.text[i].n_out == n && q.text[i].stopped == (n < NEW),
                      "prompt %d: %lld tokens, not %lld", i, (long long)q.text[i].n_out,
                      (long long)n);
        ck_assert_int_eq(memcmp(p.out[i], q.out[i], (size_t)n * sizeof(int32_t)), 0);
    }
    ck_assert(q.text[0].stopped && q.text[1].stopped && q.text[1].n_out == 0);
    ask_close(&a);
}
END_TEST

START_TEST(limits)
{
    static prompts p;
    asking a;
    ft_err e = { 0 };
    ft_generate_args g = { .max_new_tokens = NEW, .top_p = 1 };
    make_prompts(&p);
    ask_open(&a, tiny_model("tied"), NULL, 2);
    int64_t n = p.text[1].n_prompt;
    ck_assert_int_eq(ft_generate(&a.asked, &g, n + NEW, p.text + 1, 1, NULL, &e), 0);
    ck_assert_int_ne(ft_generate(&a.asked, &g, n + NEW - 1, p.text + 1, 1, NULL, &e), 0);
    ck_assert_msg(strstr(e.msg, "more than the model's context of") != NULL, "%s", e.msg);
    p.text[1].n_prompt = 0;
    e = (ft_err){ 0 };
    ck_assert_int_ne(ft_generate(&a.asked, &g, 128, p.text, 2, NULL, &e), 0);
    ck_assert_msg(strstr(e.msg, "prompt 2 is empty") != NULL, "%s", e.msg);
    g.max_new_tokens = 0;
    generate(&a, &g, p.text, 1);
    ck_assert_int_eq(p.text[0].n_out, 0);
    ask_close(&a);
}
END_TEST

/* A seed gives the same again, however many threads; another one does not.  What top_k and top_p
 * leave alone is the greedy text. */
START_TEST(seeds)
{
    static prompts p, q;
    asking a;
    ft_generate_args g = { .max_new_tokens = NEW, .temperature = 1.5, .top_p = 1, .seed = 9 };
    int differ = 0;
    make_prompts(&p);
    make_prompts(&q);
    ask_open(&a, tiny_model("tied"), NULL, 2);
    generate(&a, &g, p.text, PROMPTS);
    generate(&a, &g, q.text, PROMPTS);
    for (int i = 0; i < PROMPTS; i++) same_text(&p.text[i], &q.text[i], "the same seed", i);
    g.seed = 10;
    generate(&a, &g, q.text, PROMPTS);
    for (int i = 0; i < PROMPTS; i++)
        differ += memcmp(p.out[i], q.out[i], NEW * sizeof(int32_t)) != 0;
    ck_assert_int_gt(differ, PROMPTS / 2);
    generate(&a, &(ft_generate_args){ .max_new_tokens = NEW, .top_p = 1 }, p.text, PROMPTS);
    g.top_k = 1;
    generate(&a, &g, q.text, PROMPTS);
    for (int i = 0; i < PROMPTS; i++) same_text(&p.text[i], &q.text[i], "top_k 1", i);
    g.top_k = 0;
    g.top_p = 1e-9;
    generate(&a, &g, q.text, PROMPTS);
    for (int i = 0; i < PROMPTS; i++) same_text(&p.text[i], &q.text[i], "top_p 1e-9", i);
    ask_close(&a);
}
END_TEST

/* ---- the command ----------------------------------------------------------------------------- */

/* `pipeline generate --json` with up to four more arguments; ids of prompt and answer. */
static int64_t command(const char *a, const char *b, const char *c, const char *d, int32_t *prompt,
                       int64_t *n_prompt, int32_t *ids)
{
    const char *argv[] = { "generate",
                           "--model",
                           talker_model(),
                           "--prompt",
                           "Hé y",
                           "--json",
                           "--max-new-tokens",
                           "6",
                           a,
                           b,
                           c,
                           d,
                           NULL };
    ft_buf out = { 0 };
    ft_err e = { 0 };
    talker_run(&out, argv);
    ft_json_doc *doc = ft_json_parse("generate", strchr(out.p, '{'), strlen(strchr(out.p, '{')),
                                     &e);
    ck_assert_msg(doc != NULL, "%s:\n%s", e.msg, out.p);
    *n_prompt = talker_ids(ft_json_get(ft_json_root(doc), "prompt_ids"), prompt, MOST);
    int64_t n = talker_ids(ft_json_get(ft_json_root(doc), "ids"), ids, MOST);
    ck_assert_int_le(n, 6);
    ft_json_done(doc);
    ft_buf_free(&out);
    return n;
}

/* The ids that `pipeline tokenize` gives for a text. */
static int64_t tokenize(const char *text, const char *option, int32_t *ids)
{
    const char *argv[] = { "tokenize", "--model", talker_model(), text, option, NULL };
    ft_buf out = { 0 };
    ft_err e = { 0 };
    talker_run(&out, argv);
    ft_json_doc *doc = ft_json_parse("tokenize", out.p, out.n, &e);
    ck_assert_msg(doc != NULL, "%s", e.msg);
    int64_t n = talker_ids(ft_json_root(doc), ids, MOST);
    ft_json_done(doc);
    ft_buf_free(&out);
    return n;
}

static void same_ids(const int32_t *a, int64_t n, const int32_t *b, int64_t m)
{
    ck_assert_int_eq(n, m);
    ck_assert_int_eq(memcmp(a, b, (size_t)n * sizeof *a), 0);
}

START_TEST(raw_and_template)
{
    int32_t prompt[MOST], ids[MOST], want[MOST];
    int64_t n_prompt, n = command("--raw", NULL, NULL, NULL, prompt, &n_prompt, ids);
    vectors v;
    same_ids(prompt, n_prompt, want, tokenize("Hé y", NULL, want));
    ft_tensor logits = talker_logits(&v, talker_model(), NULL, prompt, n_prompt);
    ck_assert_int_gt(n, 0);
    ck_assert_int_eq(ids[0], talker_argmax(&logits, n_prompt - 1));
    vectors_close(&v);
    n = command(NULL, NULL, NULL, NULL, prompt, &n_prompt, ids);
    same_ids(prompt, n_prompt, want, tokenize("Hé y", "--chat", want));
    same_ids(prompt, n_prompt, want,
             tokenize("<|start|>user\nHé y<|end|><|start|>assistant\n", NULL, want));
    logits = talker_logits(&v, talker_model(), NULL, prompt, n_prompt);
    int32_t likeliest = talker_argmax(&logits, n_prompt - 1);
    ck_assert(n ? ids[0] == likeliest : likeliest == TALKER_END || likeliest == 0);
    vectors_close(&v);
}
END_TEST

START_TEST(sampling_by_options)
{
    int32_t prompt[MOST], a[MOST], b[MOST];
    int64_t np, n = command("--temperature", "2", "--seed", "4", prompt, &np, a), differ = 0;
    same_ids(a, n, b, command("--temperature", "2", "--seed", "4", prompt, &np, b));
    for (int i = 5; i < 8; i++) {
        char seed[8];
        snprintf(seed, sizeof seed, "%d", i);
        int64_t m = command("--temperature", "2", "--seed", seed, prompt, &np, b);
        differ += m != n || memcmp(a, b, (size_t)n * sizeof *a);
    }
    ck_assert_int_gt(differ, 0);
    n = command(NULL, NULL, NULL, NULL, prompt, &np, a);
    same_ids(a, n, b, command("--temperature", "2", "--top-k", "1", prompt, &np, b));
}
END_TEST

/* Answers in the order of the prompts; wrong options and files are named. */
START_TEST(calls)
{
    const char *file = tiny_file(tiny_path("prompts.jsonl"), "\"Hé y\"\n{\"prompt\": \"Hé y\"}\n"
        "{\"messages\": [{\"role\": \"user\", \"content\": \"Hé y\"}]}\n");
    const char *argv[] = { "generate",         "--model", talker_model(),
                           "--prompts",        file,      "--json",
                           "--max-new-tokens", "3",       NULL };
    ft_buf out = { 0 };
    talker_run(&out, argv);
    const char *first = strchr(out.p, '{');
    size_t line = strcspn(first, "\n") + 1;
    ck_assert_uint_ge(strlen(first), 3 * line);
    ck_assert(!strncmp(first, first + line, line) && !strncmp(first, first + 2 * line, line));
    static const struct { const char *option, *value, *says; int status;
    } bad[] = {
        { "--top-p", "0", "--top-p 0: above 0, at most 1", 2 },
        { "--temperature", "-1", "--temperature -1: 0 to 100", 2 },
        { "--max-new-tokens", "0", "--max-new-tokens 0: 1 to 1048576", 2 },
        { "--seed", "x", "--seed x: a whole number", 2 },
        { "--dtype", "int8", "--dtype int8: auto, fp32 or bf16", 2 },
        { "--top-k", "-2", "--top-k -2: 0 (all) or more", 2 },
        { "--max-new-tokens", "128", "model's context of 128", 1 },
        { "--prompts", "/nonexistent", "/nonexistent", 1 },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *call[] = { "generate", "--model",     talker_model(), "--prompt",
                               "H",        bad[i].option, bad[i].value,   NULL };
        ck_assert_int_eq(tiny_run(&out, call), bad[i].status);
        ck_assert_msg(strstr(out.p, bad[i].says) != NULL, "%s", out.p);
    }
    ft_buf_free(&out);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("generate");
    TCase *t = tcase_create("generate");
    tcase_set_timeout(t, 120);
    tcase_add_unchecked_fixture(t, tiny_begin, tiny_end);
    tcase_add_test(t, greedy_is_the_likeliest);
    tcase_add_test(t, greedy_with_an_adapter);
    tcase_add_test(t, cached_equals_uncached);
    tcase_add_test(t, together_equals_alone);
    tcase_add_test(t, stop_tokens);
    tcase_add_test(t, limits);
    tcase_add_test(t, seeds);
    tcase_add_test(t, raw_and_template);
    tcase_add_test(t, sampling_by_options);
    tcase_add_test(t, calls);
    suite_add_tcase(s, t);
    return s;
}
