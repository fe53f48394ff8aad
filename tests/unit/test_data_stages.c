/* test_data_stages.c -- the data stages as a pipeline runs them: the recipe of
 * pipelines/sft-mixed.yaml, what rows.json and the report say of rows that were left out, questions
 * that never stand on both sides, sets that nobody takes, and pairs that train-sft refuses. */
#include "harness.h"
#include "core/run/samples.h"
#include "core/run/tokens.h"
#include "tiny.h"

enum { VOCAB = 512 };

static const char template[] =
    "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}";

/* The tiny model with a vocabulary that the small tokenizer of tests/data/tok fits in. */
static const char *model_with_words(void)
{
    tiny_tensor t[64];
    int64_t at[64];
    ft_err e = { 0 };
    ft_buf config = { 0 };
    const char *dir = tiny_path("model"), *weights = tiny_path("model/model.safetensors");
    if (ft_file_exists(weights)) return dir;
    tiny_must(ft_make_dirs(dir, &e), &e);
    int n = tiny_list(t, 64, "untied");
    ft_st_writer *w = ft_st_new(&e);
    for (int i = 0; i < n; i++) {
        if (t[i].dim[0] == 96) t[i].dim[0] = VOCAB;
        at[i] = ft_st_declare(w, t[i].name, FT_F32, t[i].dim, t[i].ndim, &e);
    }
    tiny_must(ft_st_begin(w, weights, 0, &e), &e);
    for (int i = 0; i < n; i++) tiny_write_tensor(w, at[i], &t[i]);
    tiny_must(ft_st_commit(w, &e), &e);
    ft_st_free(w);
    tiny_must(ft_file_read(&config, TINY "/untied/config.json", 1 << 16, &e), &e);
    memcpy(strstr(config.p, "\"vocab_size\": 96"), "\"vocab_size\":512", 16);
    memcpy(strstr(config.p, "embeddings\": 128"), "embeddings\":2048", 16);
    tiny_must(ft_file_write_buf(tiny_path("model/config.json"), &config, &e), &e);
    tiny_copy("tests/data/tok/smollm2/tokenizer.json", tiny_path("model/tokenizer.json"));
    tiny_file(tiny_path("model/tokenizer_config.json"), "{\"eos_token\": \"<|end|>\"}");
    tiny_file(tiny_path("model/chat_template.jinja"), "%s", template);
    ft_buf_free(&config);
    return dir;
}

/* Runs `pipeline VERB FILE`, with overrides; what it said is in *out. */
static int pipeline(ft_buf *out, const char *verb, const char *file, const char *a, const char *b,
                    const char *c)
{
    const char *argv[] = { verb, file, a, b, c, NULL };
    return tiny_run(out, argv);
}

static void says(const ft_buf *out, const char *what)
{
    ck_assert_msg(strstr(out->p, what) != NULL, "no \"%s\" in:\n%s", what, out->p);
}

/* A pipeline of these stages. */
static const char *yaml_of(const char *name, const char *stages)
{
    return tiny_file(tiny_path("%s.yaml", name),
                     "version: 1\nmodel: %s\noutput_dir: %s/%s\nstages:\n%s", model_with_words(),
                     tiny_dir, name, stages);
}

/* The only artifact of a stage: its file. */
static const char *artifact(const char *run, const char *stage, const char *file)
{
    const char *dir = tiny_path("%s/artifacts", run), *found = NULL;
    DIR *d = opendir(dir);
    ck_assert_ptr_nonnull(d);
    size_t n = strlen(stage);
    for (struct dirent *x; (x = readdir(d));) {
        if (!strncmp(x->d_name, stage, n) && x->d_name[n] == '-' && strlen(x->d_name) == n + 17)
            found = tiny_path("%s/artifacts/%s/%s", run, x->d_name, file);
    }
    closedir(d);
    ck_assert_msg(found != NULL, "%s left nothing", stage);
    return found;
}

static void file_says(const char *path, const char *what)
{
    ft_buf b = { 0 };
    ft_err e = { 0 };
    tiny_must(ft_file_read(&b, path, 1 << 24, &e), &e);
    ck_assert_msg(strstr(b.p, what) != NULL, "no %s in %s:\n%.3000s", what, path, b.p);
    ft_buf_free(&b);
}

/* ---- the recipe ------------------------------------------------------------------------------ */

START_TEST(the_recipe)
{
    char model[600], out_dir[600];
    ft_buf out = { 0 };
    snprintf(model, sizeof model, "model=%s", model_with_words());
    snprintf(out_dir, sizeof out_dir, "output_dir=%s/mixed", tiny_dir);
    const char *argv[] = { "run",   "pipelines/sft-mixed.yaml",      model,
                           out_dir, "tokenizer-bpe.max_length=2000", "train-sft.max_steps=1",
                           NULL };
    int status = tiny_run(&out, argv);
    ck_assert_msg(status == 0, "%s", out.p);
    says(&out, "clean-facts: 2 of 24 rows were left out:");
    says(&out, "clean-facts:   1: a refusal");
    says(&out, "clean-facts:   1: an empty reply");
    says(&out, "data-dedup:   1: exact duplicate of an earlier row");
    file_says(artifact("mixed", "clean-facts", "rows.json"),
              "{\"stage\": \"clean-facts\", \"rows\": 22, \"dropped\": 2, \"reasons\": {\"a "
              "refusal\": 1, \"an empty reply\": 1}}");
    file_says(tiny_path("mixed/report.html"), "<h2>Rows</h2>");
    file_says(tiny_path("mixed/report.html"), "<tr><th>clean-facts</th><td>22</td><td>2</td><td>1: "
                                              "a refusal\n1: an empty reply</td></tr>");
    file_says(tiny_path("mixed/report.html"), "<span class=\"f");
    file_says(tiny_path("mixed/report.html"), "<span class=\"t");
    ck_assert_int_eq(tiny_run(&out, argv), 0);
    says(&out, "data-mix: reused, nothing has changed");
    says(&out, "data-dedup: reused, nothing has changed");
    ft_buf_free(&out);
}
END_TEST

/* ---- both sides ------------------------------------------------------------------------------ */

/* Counts rows by side; fails when a question stands on both. */
static void check_sides(const char *path, int count[3])
{
    ft_samples s;
    ft_err e = { 0 };
    ft_sample x, y;
    tiny_must(ft_samples_open(&s, path, &e), &e);
    count[FT_SPLIT_TRAIN] = count[FT_SPLIT_VAL] = 0;
    for (uint64_t i = 0; i < s.n; i++) {
        tiny_must(ft_samples_get(&s, i, &x, &e), &e);
        count[x.split]++;
        for (uint64_t k = 0; k < i; k++) {
            tiny_must(ft_samples_get(&s, k, &y, &e), &e);
            ck_assert_msg(x.group != y.group || x.split == y.split,
                          "rows %d and %d ask the same on both sides", (int)k, (int)i);
        }
    }
    ft_samples_close(&s);
}

static const char *qa_file(const char *name, int from, int to, const char *answer)
{
    ft_buf b = { 0 };
    ft_err e = { 0 };
    const char *path = tiny_path("%s", name);
    for (int i = from; i < to; i++)
        ft_buf_printf(&b, "{\"instruction\": \"question %d\", \"output\": \"%s %d\"}\n", i, answer,
                      i);
    tiny_must(ft_file_write_buf(path, &b, &e), &e);
    ft_buf_free(&b);
    return path;
}

START_TEST(a_question_is_on_one_side)
{
    char stages[3000];
    int n[3];
    ft_buf out = { 0 };
    const char *a = qa_file("a.jsonl", 0, 60, "first"), *b = qa_file("b.jsonl", 0, 60, "second"),
               *v = qa_file("v.jsonl", 50, 60, "third");
    snprintf(stages, sizeof stages,
             "  - { id: own, use: data-chatml, with: { path: %s, val_path: %s } }\n  - use: "
             "tokenizer-bpe\n",
             a, v);
    ck_assert_msg(pipeline(&out, "run", yaml_of("own", stages), NULL, NULL, NULL) == 0, "%s",
                  out.p);
    says(&out, "own:   10: the question is asked in evaluation as well");
    check_sides(artifact("own", "own", "samples.bin"), n);
    ck_assert(n[FT_SPLIT_TRAIN] == 50 && n[FT_SPLIT_VAL] == 10);
    file_says(artifact("own", "own", "rows.json"), "\"rows\": 60, \"dropped\": 10");
    snprintf(stages, sizeof stages,
             "  - { id: a, use: data-chatml, with: { path: %s, val_size: 6 } }\n"
             "  - { id: b, use: data-chatml, with: { path: %s, val_size: 0.3 } }\n"
             "  - { use: data-mix, with: { weights: { a: 1, b: 2 }, until: longest } }\n  - use: "
             "tokenizer-bpe\n",
             a, b);
    ck_assert_msg(pipeline(&out, "run", yaml_of("two", stages), NULL, NULL, NULL) == 0, "%s",
                  out.p);
    says(&out, "the question is asked in evaluation as well");
    check_sides(artifact("two", "data-mix", "samples.bin"), n);
    /* each a single time, however often training rows are repeated */
    ck_assert_int_eq(n[FT_SPLIT_VAL], 6 + 18);
    ck_assert_int_gt(n[FT_SPLIT_TRAIN], 60);
    ft_buf_free(&out);
}
END_TEST

/* A change in one set makes the mix again; --only wants all of them. */
START_TEST(a_mix_depends_on_its_sets)
{
    char stages[3000];
    ft_buf out = { 0 };
    const char *a = qa_file("a.jsonl", 0, 20, "x"), *b = qa_file("b.jsonl", 20, 40, "y");
    snprintf(stages, sizeof stages,
             "  - { id: a, use: data-chatml, with: { path: %s } }\n  - { id: b, use: data-chatml, "
             "with: { path: %s } }\n"
             "  - { use: data-mix, with: { weights: { a: 1, b: 1 } } }\n  - use: tokenizer-bpe\n",
             a, b);
    const char *yaml = yaml_of("dep", stages);
    ck_assert_msg(pipeline(&out, "run", yaml, "--only", "data-mix", NULL) == 1, "%s", out.p);
    says(&out, "data-mix needs the samples of a, which has not run; leave out --only");
    ck_assert_msg(pipeline(&out, "run", yaml, NULL, NULL, NULL) == 0, "%s", out.p);
    says(&out, "data-mix: 40 rows");
    qa_file("a.jsonl", 0, 21, "x");
    ck_assert_int_eq(pipeline(&out, "run", yaml, NULL, NULL, NULL), 0);
    says(&out, "b: reused");
    says(&out, "data-mix: runs: set a changed");
    ft_buf_free(&out);
}
END_TEST

/* ---- what is refused ------------------------------------------------------------------------- */

START_TEST(wrong_mixes)
{
    static const struct { const char *mix, *says;
    } cases[] = {
        { "{ weights: { a: 1, c: 1 } }",
          "data-mix: weights names \"c\", but no stage before it with this id makes samples" },
        { "{ weights: { a: 1, bb: 1 } }", "did you mean \"b\"?" },
        { "{ weights: { a: 1 } }", "the rows of b are used by no stage: name it in the weights of "
                                   "a data-mix after data-mix" },
        { "{ weights: {} }", "data-mix: weights is empty" },
        { "{ weights: { a: 0, b: 1 } }", "below the limit" },
        { "{ until: longest }", "weights" },
    };
    ft_buf out = { 0 };
    const char *a = qa_file("a.jsonl", 0, 20, "x");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char stages[3000];
        snprintf(stages, sizeof stages,
                 "  - { id: a, use: data-chatml, with: { path: %s } }\n  - { id: b, use: "
                 "data-chatml, with: { path: %s } }\n"
                 "  - { use: data-mix, with: %s }\n  - use: tokenizer-bpe\n",
                 a, a, cases[i].mix);
        ck_assert_msg(pipeline(&out, "check", yaml_of("wrong", stages), NULL, NULL, NULL) == 2,
                      "%s: %s", cases[i].mix, out.p);
        says(&out, cases[i].says);
    }
    char stages[3000];
    snprintf(stages, sizeof stages,
             "  - { id: a, use: data-chatml, with: { path: %s } }\n  - { id: b, use: data-chatml, "
             "with: { path: %s } }\n"
             "  - use: tokenizer-bpe\n",
             a, a);
    ck_assert_int_eq(pipeline(&out, "check", yaml_of("lost", stages), NULL, NULL, NULL), 2);
    says(&out, "the rows of a are used by no stage: name it in the weights of a data-mix after b");
    ck_assert_int_eq(pipeline(&out, "check", yaml_of("bare", "  - use: data-filter\n"), NULL, NULL,
                              NULL),
                     2);
    says(&out, "data-filter needs samples: put a data stage such as data-chatml before it");
    ft_buf_free(&out);
}
END_TEST

START_TEST(nothing_is_left)
{
    char stages[2000];
    ft_buf out = { 0 };
    snprintf(stages, sizeof stages,
             "  - { id: a, use: data-chatml, with: { path: %s } }\n  - { use: data-filter, with: { "
             "min_chars: 9999 } }\n"
             "  - use: tokenizer-bpe\n",
             qa_file("a.jsonl", 0, 5, "x"));
    ck_assert_int_eq(pipeline(&out, "run", yaml_of("none", stages), NULL, NULL, NULL), 1);
    says(&out, "data-filter: no row is left: shorter than min_chars");
    ft_buf_free(&out);
}
END_TEST

/* Pairs and KTO rows go through the data stages, are shown by check, and train-sft does not take
 * them. */
START_TEST(pairs_are_refused_by_name)
{
    static const struct { const char *row, *kind; int docs; uint8_t first;
    } cases[] = {
        { "{\"prompt\": \"q%d\", \"chosen\": \"good\", \"rejected\": \"bad answer\"}\n",
          "preference pairs", 12, FT_ANSWER_CHOSEN },
        { "{\"prompt\": \"q%d\", \"completion\": \"so so\", \"label\": true}\n", "KTO rows", 6,
          FT_ANSWER_GOOD },
    };
    for (size_t i = 0; i < 2; i++) {
        char stages[2000], want[200];
        ft_buf out = { 0 }, rows = { 0 };
        ft_err e = { 0 };
        ft_token_set set;
        const char *path = tiny_path("pairs%zu.jsonl", i);
        for (int k = 0; k < 6; k++)
            ft_buf_printf(&rows,
                          i ? "{\"prompt\": \"q%d\", \"completion\": \"so so\", \"label\": true}\n"
                            : "{\"prompt\": \"q%d\", \"chosen\": \"good\", \"rejected\": \"bad "
                              "answer\"}\n",
                          k);
        tiny_must(ft_file_write_buf(path, &rows, &e), &e);
        snprintf(stages, sizeof stages,
                 "  - { use: data-chatml, with: { path: %s } }\n  - use: data-filter\n  - use: "
                 "tokenizer-bpe\n",
                 path);
        const char *yaml = yaml_of("pairs", stages);
        ck_assert_msg(pipeline(&out, "check", yaml, NULL, NULL, NULL) == 0, "%s", out.p);
        snprintf(want, sizeof want, "tokenizer-bpe: training: %d documents of %s, ", cases[i].docs,
                 cases[i].kind);
        says(&out, want);
        ck_assert_msg(pipeline(&out, "run", yaml, NULL, NULL, NULL) == 0, "%s", out.p);
        tiny_must(ft_tokens_open(&set, artifact("pairs", "tokenizer-bpe", "tokens.safetensors"),
                                 &e),
                  &e);
        ck_assert_int_eq(set.n_docs, cases[i].docs);
        ck_assert_ptr_nonnull(set.answer);
        ck_assert_ptr_nonnull(set.origin);
        ck_assert_uint_eq(set.answer[0], cases[i].first);
        ck_assert_uint_eq(set.answer[1], i ? FT_ANSWER_GOOD : FT_ANSWER_REJECTED);
        ft_tokens_free(&set);
        ft_remove_tree(tiny_path("pairs"), NULL);
        snprintf(stages + strlen(stages), sizeof stages - strlen(stages),
                 "  - { use: lora }\n  - { use: train-sft }\n");
        ck_assert_int_eq(pipeline(&out, "check", yaml_of("pairs", stages), NULL, NULL, NULL), 1);
        snprintf(want, sizeof want,
                 "train-sft: the rows of tokenizer-bpe are %s, train-sft takes single answers",
                 cases[i].kind);
        says(&out, want);
        ft_buf_free(&out);
        ft_buf_free(&rows);
    }
}
END_TEST

START_TEST(skipped_rows_are_counted)
{
    char stages[2000];
    ft_buf out = { 0 };
    const char *path = tiny_file(tiny_path("bad.csv"),
                                 "instruction,output\na,b\nc\nd,e\nf,g,h\n\"i\"j,k\n");
    snprintf(stages, sizeof stages,
             "  - { use: data-chatml, with: { path: %s, on_bad_row: skip } }\n  - use: "
             "tokenizer-bpe\n",
             path);
    ck_assert_msg(pipeline(&out, "run", yaml_of("skip", stages), NULL, NULL, NULL) == 0, "%s",
                  out.p);
    says(&out, "data-chatml: 3 of 5 rows were left out:");
    file_says(artifact("skip", "data-chatml", "rows.json"),
              "\"reasons\": {\"the row has # fields, the first line names # columns\": 2, "
              "\"text follows the closing quote of a field\": 1}");
    snprintf(stages, sizeof stages,
             "  - { use: data-chatml, with: { path: %s } }\n  - use: tokenizer-bpe\n", path);
    ck_assert_int_eq(pipeline(&out, "run", yaml_of("stop", stages), NULL, NULL, NULL), 1);
    says(&out, "bad.csv:3: the row has 1 fields, the first line names 2 columns");
    ft_buf_free(&out);
}
END_TEST

/* A tokenizer stage of another kind than the model's: said before any row is read. */
START_TEST(the_right_tokenizer_is_named)
{
    ft_buf out = { 0 };
    char stages[1000];
    snprintf(stages, sizeof stages,
             "  - { use: data-chatml, with: { path: %s } }\n  - use: tokenizer-wordpiece\n",
             tiny_file(tiny_path("no-rows.jsonl"), "no row at all\n"));
    ck_assert_int_eq(pipeline(&out, "run", yaml_of("kind", stages), NULL, NULL, NULL), 2);
    says(&out, "tokenizer-wordpiece does not read the tokenizer of ");
    says(&out, "write `use: tokenizer-bpe`");
    ft_buf_free(&out);
}
END_TEST

/* Rows are encoded side by side: the same file on any number of threads. */
START_TEST(the_same_tokens_on_any_threads)
{
    static const char *const threads[] = { "1", "3", "8" };
    char stages[2000];
    ft_buf out = { 0 }, first = { 0 }, again = { 0 };
    ft_err e = { 0 };
    const char *rows = qa_file("many.jsonl", 0, 1000, "an answer of some words");
    snprintf(stages, sizeof stages,
             "  - { use: data-chatml, with: { path: %s } }\n  - use: tokenizer-bpe\n", rows);
    for (int i = 0; i < 3; i++) {
        char name[20];
        snprintf(name, sizeof name, "threads%s", threads[i]);
        ck_assert_msg(pipeline(&out, "run", yaml_of(name, stages), "--threads", threads[i],
                               NULL) == 0,
                      "%s", out.p);
        ft_buf *to = i ? &again : &first;
        to->n = 0;
        tiny_must(ft_file_read(to, artifact(name, "tokenizer-bpe", "tokens.safetensors"), 1 << 24,
                               &e),
                  &e);
        if (i) ck_assert(to->n == first.n && !memcmp(to->p, first.p, first.n));
    }
    ft_buf_free(&out);
    ft_buf_free(&first);
    ft_buf_free(&again);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("data_stages");
    TCase *t = tcase_create("data stages");
    tcase_set_timeout(t, 300);
    tcase_add_unchecked_fixture(t, tiny_begin, tiny_end);
    tcase_add_test(t, the_recipe);
    tcase_add_test(t, a_question_is_on_one_side);
    tcase_add_test(t, a_mix_depends_on_its_sets);
    tcase_add_test(t, wrong_mixes);
    tcase_add_test(t, nothing_is_left);
    tcase_add_test(t, pairs_are_refused_by_name);
    tcase_add_test(t, skipped_rows_are_counted);
    tcase_add_test(t, the_right_tokenizer_is_named);
    tcase_add_test(t, the_same_tokens_on_any_threads);
    suite_add_tcase(s, t);
    return s;
}
