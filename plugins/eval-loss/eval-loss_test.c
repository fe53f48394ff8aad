/* eval-loss_test.c -- the numbers of eval-loss against a computation by hand: loss, perplexity,
 * accuracy and bits per byte out of `score` logits, of the base and of the tuned model; which rows
 * are taken; the samples against `generate`. */
#include "tests/harness.h"
#include "tests/talker.h"

static const char adapt[] =
    "  - use: lora\n    with: { r: 4 }\n"
    "  - use: train-sft\n    with: { max_steps: 3, per_device_train_batch_size: 4, learning_rate: "
    "3e-2, compute_dtype: fp32 }\n";

/* ---- by hand --------------------------------------------------------------------------------- */

typedef struct { double nll; int64_t tokens, hits, bytes; } sums;

/* One conversation as training sees it, scored token by token. */
static void add_row(sums *s, const ft_json *row, const char *adapter)
{
    int32_t ids[128], labels[128];
    int64_t n = talker_ids(ft_json_get(row, "ids"), ids, 128);
    vectors v;
    ck_assert_int_eq(talker_ids(ft_json_get(row, "labels"), labels, 128), n);
    ft_tensor t = talker_logits(&v, talker_model(), adapter, ids, n);
    for (int64_t i = 1; i < n; i++) {
        if (labels[i] < 0) continue;
        s->nll += talker_nll(&t, i - 1, labels[i]);
        s->hits += talker_argmax(&t, i - 1) == labels[i];
        s->tokens++;
    }
    vectors_close(&v);
}

/* The rows of a file.  Trained is what the assistant says, and the token that ends it. */
static sums by_hand(const char *rows, const char *adapter)
{
    sums s = { 0 };
    ft_buf out = { 0 }, file = { 0 };
    ft_err e = { 0 };
    const char *argv[] = { "tokenize", "--model", talker_model(), "--chat", rows, NULL };
    talker_run(&out, argv);
    tiny_must(ft_file_read(&file, rows, 1 << 20, &e), &e);
    const char *line = out.p, *chat = file.p;
    for (; *line; line += strcspn(line, "\n") + 1, chat += strcspn(chat, "\n") + 1) {
        ft_json_doc *row = ft_json_parse("row", line, strcspn(line, "\n"), &e);
        ft_json_doc *said = ft_json_parse("chat", chat, strcspn(chat, "\n"), &e);
        ck_assert_msg(row && said, "%s", e.msg);
        add_row(&s, ft_json_root(row), adapter);
        s.bytes += (int64_t)ft_json_get(&ft_json_get(ft_json_root(said), "messages")->item[1],
                                        "content")
                       ->len +
                   7;
        ft_json_done(row);
        ft_json_done(said);
    }
    ft_buf_free(&out);
    ft_buf_free(&file);
    return s;
}

static void near(const ft_json *o, const char *name, const char *when, double want)
{
    char key[64];
    snprintf(key, sizeof key, "%s_%s", name, when);
    double have = talker_real(o, key);
    ck_assert_msg(fabs(have - want) <= 1e-5 * fabs(want), "%s: %.9g, by hand %.9g", key, have,
                  want);
}

static void check_numbers(const ft_json *o, const char *when, const sums *s)
{
    double loss = s->nll / (double)s->tokens;
    near(o, "loss", when, loss);
    near(o, "perplexity", when, exp(loss));
    near(o, "accuracy", when, (double)s->hits / (double)s->tokens);
    near(o, "bits_per_byte", when, s->nll / log(2) / (double)s->bytes);
}

/* Runs data, tokenizer and `more`; the numbers of its eval-loss stage. */
static ft_json_doc *evaluated(const char *out, const char *data, const char *more)
{
    ft_buf stages = { 0 }, said = { 0 };
    ft_buf_printf(&stages,
                  "  - use: data-chatml\n    with: { path: %s%s }\n  - use: tokenizer-bpe\n    "
                  "with: { max_length: 96 }\n%s",
                  tiny_path("train.jsonl"), data, more);
    int status = talker_pipeline(&said, talker_model(), out, stages.p);
    ck_assert_msg(status == 0, "%s", said.p);
    ft_buf_free(&stages);
    ft_buf_free(&said);
    return talker_json(tiny_path("%s/eval.json", out));
}

static void begin(void)
{
    tiny_begin();
    talker_chats(tiny_path("train.jsonl"), 0, 9);
    talker_chats(tiny_path("val.jsonl"), 9, 13);
}

/* ---- tests ----------------------------------------------------------------------------------- */

START_TEST(before_and_after)
{
    char more[1024], data[600];
    snprintf(data, sizeof data, ", val_path: %s", tiny_path("val.jsonl"));
    snprintf(more, sizeof more,
             "%s  - use: eval-loss\n    with: { samples: 0, compute_dtype: fp32 }\n", adapt);
    ft_json_doc *d = evaluated("tuned", data, more);
    const ft_json *o = ft_json_get(ft_json_root(d), "eval-loss");
    sums base = by_hand(tiny_path("val.jsonl"), NULL),
         tuned = by_hand(tiny_path("val.jsonl"), tiny_path("tuned/adapter"));
    check_numbers(o, "before", &base);
    check_numbers(o, "after", &tuned);
    ck_assert_double_eq(talker_real(o, "eval_tokens"), (double)base.tokens);
    ck_assert(!ft_json_get(o, "train_tokens") && fabs(base.nll - tuned.nll) > 0.01 * base.nll);
    ck_assert(!ft_file_exists(tiny_path("tuned/samples.jsonl")));
    ft_json_done(d);
}
END_TEST

/* Without rows kept apart those trained on are scored, and the numbers say so. */
START_TEST(rows_of_training)
{
    ft_json_doc *d =
        evaluated("base", "",
                  "  - use: eval-loss\n    with: { samples: 0, compute_dtype: fp32 }\n");
    const ft_json *o = ft_json_get(ft_json_root(d), "eval-loss");
    sums base = by_hand(tiny_path("train.jsonl"), NULL);
    check_numbers(o, "before", &base);
    ck_assert_double_eq(talker_real(o, "train_tokens"), (double)base.tokens);
    ck_assert(!ft_json_get(o, "eval_tokens") && !ft_json_get(o, "loss_after"));
    ft_json_done(d);
}
END_TEST

START_TEST(no_rows_to_score)
{
    char stages[1024];
    ft_buf said = { 0 };
    snprintf(stages, sizeof stages,
             "  - use: data-chatml\n    with: { path: %s }\n  - use: tokenizer-bpe\n"
             "  - use: eval-loss\n    with: { split: eval }\n",
             tiny_path("train.jsonl"));
    ck_assert_int_eq(talker_pipeline(&said, talker_model(), "none", stages), 1);
    ck_assert_msg(strstr(said.p, "there are no rows kept for evaluation; set val_size") != NULL,
                  "%s", said.p);
    ck_assert(!ft_file_exists(tiny_path("none/eval.json")));
    ft_buf_free(&said);
}
END_TEST

/* What `generate` makes of a prompt as it stands. */
static void check_answer(const char *prompt, const char *want, const char *adapter)
{
    const char *argv[] = { "generate",
                           "--model",
                           talker_model(),
                           "--raw",
                           "--json",
                           "--max-new-tokens",
                           "5",
                           "--prompt",
                           prompt,
                           adapter ? "--adapter" : NULL,
                           adapter,
                           NULL };
    ft_buf out = { 0 };
    ft_err e = { 0 };
    talker_run(&out, argv);
    ft_json_doc *d = ft_json_parse("answer", strchr(out.p, '{'), strlen(strchr(out.p, '{')), &e);
    ck_assert_msg(d != NULL, "%s", e.msg);
    ck_assert_str_eq(ft_json_str(ft_json_root(d), "text", "?"), want);
    ft_json_done(d);
    ft_buf_free(&out);
}

START_TEST(samples)
{
    char more[1024], data[600];
    ft_buf b = { 0 };
    ft_err e = { 0 };
    int lines = 0;
    snprintf(data, sizeof data, ", val_path: %s", tiny_path("val.jsonl"));
    snprintf(more, sizeof more,
             "%s  - use: eval-loss\n    with: { samples: 3, compute_dtype: fp32, max_new_tokens: 5 "
             "}\n",
             adapt);
    ft_json_done(evaluated("samples", data, more));
    tiny_must(ft_file_read(&b, tiny_path("samples/samples.jsonl"), 1 << 20, &e), &e);
    for (const char *p = b.p; *p; p += strcspn(p, "\n") + 1, lines++) {
        ft_json_doc *d = ft_json_parse("sample", p, strcspn(p, "\n"), &e);
        ck_assert_msg(d != NULL, "%s", e.msg);
        const char *prompt = ft_json_str(ft_json_root(d), "prompt", "?");
        ck_assert(!strncmp(prompt, "<|start|>user\n", 14) &&
                  strstr(prompt, "<|end|><|start|>assistant\n"));
        check_answer(prompt, ft_json_str(ft_json_root(d), "before", NULL), NULL);
        check_answer(prompt, ft_json_str(ft_json_root(d), "after", NULL),
                     tiny_path("samples/adapter"));
        ft_json_done(d);
    }
    ck_assert_int_eq(lines, 3);
    ft_buf_free(&b);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("eval-loss");
    TCase *t = tcase_create("eval-loss");
    tcase_set_timeout(t, 120);
    tcase_add_unchecked_fixture(t, begin, tiny_end);
    tcase_add_test(t, before_and_after);
    tcase_add_test(t, rows_of_training);
    tcase_add_test(t, no_rows_to_score);
    tcase_add_test(t, samples);
    suite_add_tcase(s, t);
    return s;
}
