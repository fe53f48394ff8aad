/* test_cmd_tokenize.c -- `pipeline tokenize` from its command line to what it prints, against the
 * vectors of tests/data/tok (made by HF tokenizers). */
#include "harness.h"
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/base/json.h"

/* Runs `pipeline tokenize ARGS` with a shell and that standard input; output and errors in out. */
static int run(ft_buf *out, const char *input, const char *args)
{
    char cmd[1024], block[4096], path[200];
    size_t n;
    ft_err e = { 0 };
    const char *tmp = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/tokenize-%d.in", tmp && *tmp ? tmp : "/tmp", (int)getpid());
    ck_assert_msg(!ft_file_write(path, input, strlen(input), &e), "%s", e.msg);
    snprintf(cmd, sizeof cmd, "unset PIPELINE_PLUGIN_PATH; %s/pipeline tokenize %s < %s 2>&1",
             test_build(), args, path);
    FILE *f = popen(cmd, "r");
    ck_assert_ptr_nonnull(f);
    out->n = 0;
    ft_buf_puts(out, "");
    while ((n = fread(block, 1, sizeof block, f))) ft_buf_add(out, block, n);
    int status = pclose(f);
    unlink(path);
    ck_assert_msg(WIFEXITED(status), "%s was killed", args);
    return WEXITSTATUS(status);
}

static bool same(const ft_json *a, const ft_json *b)
{
    if (!a || !b || a->type != b->type || a->len != b->len) return false;
    if (a->type == FT_JSON_STRING || a->type == FT_JSON_NUMBER)
        return !memcmp(a->text, b->text, a->len);
    for (size_t i = 0; i < a->len; i++) {
        if (!same(&a->item[i], &b->item[i])) return false;
    }
    return true;
}

/* Line by line, `got_key` of the output is `want_key` of the vectors; returns the number of
 * lines. */
static int compare(const ft_buf *out, const ft_buf *golden, const char *got_key,
                   const char *want_key)
{
    const char *a = out->p, *b = golden->p;
    int lines = 0;
    for (; *b; lines++) {
        size_t na = strcspn(a, "\n"), nb = strcspn(b, "\n");
        ft_err e = { 0 };
        ft_json_doc *got = ft_json_parse("output", a, na, &e),
                    *want = ft_json_parse("vectors", b, nb, &e);
        ck_assert_msg(got && want, "%s: %.*s", e.msg, (int)na, a);
        ck_assert_msg(same(ft_json_get(ft_json_root(got), got_key),
                           ft_json_get(ft_json_root(want), want_key)),
                      "%s of line %d: %.*s", want_key, lines + 1, (int)na, a);
        ft_json_done(got);
        ft_json_done(want);
        a += na + (a[na] == '\n');
        b += nb + (b[nb] == '\n');
    }
    ck_assert_str_eq(a, "");
    return lines;
}

START_TEST(files_of_rows)
{
    static const char *const dirs[] = { "smollm2", "llama3",    "gpt2",      "qwen2",
                                        "llama2",  "metaspace", "gguf-llama",
                                        "unigram", "wordpiece", "gguf-bert" };
    static const struct { const char *option, *got, *want;
    } cases[] = {
        { "", "ids", "ids" },
        { "--add-special", "ids", "ids_special" },
        { "--decode", "text", "decoded" },
    };
    ft_buf out = { 0 }, golden = { 0 };
    for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++) {
        char path[200], args[500];
        ft_err e = { 0 };
        snprintf(path, sizeof path, "tests/data/tok/%s/golden.jsonl", dirs[i]);
        golden.n = 0;
        ck_assert_msg(!ft_file_read(&golden, path, 1 << 24, &e), "%s", e.msg);
        for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
            snprintf(args, sizeof args, "%s --model tests/data/tok/%s%s %s", cases[k].option,
                     dirs[i], strncmp(dirs[i], "gguf", 4) ? "" : "/tokenizer.gguf", path);
            ck_assert_msg(run(&out, "", args) == 0, "%s: %.300s", args, out.p);
            ck_assert_int_gt(compare(&out, &golden, cases[k].got, cases[k].want), 10);
        }
    }
    ft_buf_free(&out);
    ft_buf_free(&golden);
}
END_TEST

#define MODEL "--model tests/data/tok/smollm2 "

/* Lines are encoded side by side and written in order; the first wrong one is named. */
START_TEST(many_lines)
{
    ft_buf rows = { 0 }, one = { 0 }, many = { 0 };
    char path[200], args[500];
    ft_err e = { 0 };
    for (int i = 0; i < 1000; i++)
        ft_buf_printf(&rows, i % 7 ? "\"row %d, caf\u00e9\"\n" : "{\"text\": \"text %d\"}\n", i);
    snprintf(path, sizeof path, "/tmp/tokenize-%d.jsonl", (int)getpid());
    ck_assert_msg(!ft_file_write_buf(path, &rows, &e), "%s", e.msg);
    snprintf(args, sizeof args, MODEL "--offsets --threads 1 %s", path);
    ck_assert_msg(run(&one, "", args) == 0, "%s", one.p);
    snprintf(args, sizeof args, MODEL "--offsets --threads 5 %s", path);
    ck_assert_msg(run(&many, "", args) == 0, "%s", many.p);
    ck_assert_str_eq(one.p, many.p);
    ft_buf_puts(&rows, "\n[1]\nno JSON\n");
    ck_assert_msg(!ft_file_write_buf(path, &rows, &e), "%s", e.msg);
    ck_assert_int_eq(run(&many, "", args), 1);
    ck_assert_ptr_nonnull(strstr(many.p, "line 1002: a row is a JSON string"));
    unlink(path);
    ft_buf_free(&rows);
    ft_buf_free(&one);
    ft_buf_free(&many);
}
END_TEST

START_TEST(texts)
{
    static const struct { const char *args, *input, *want; int status;
    } cases[] = {
        { MODEL "'H\xC3\xA9 y'", "", "[40, 128, 103, 221, 89]\n", 0 },
        { MODEL, "H\xC3\xA9 y", "[40, 128, 103, 221, 89]\n", 0 },
        { MODEL, "", "[]\n", 0 },
        { MODEL "--offsets", "H\xC3\xA9",
          "40\t0\t1\t\"H\"\n128\t1\t3\t\"\xC3\xA9\"\n103\t1\t3\t\"\xC3\xA9\"\n", 0 },
        { MODEL "--decode '[40, 128, 103, 221, 89]'", "", "H\xC3\xA9 y\n", 0 },
        { MODEL "--decode", "[40]\n{\"ids\": [89]}\n", "H\ny\n", 0 },
        { MODEL "--decode '[999999]'", "",
          "pipeline: token id 999999 is outside of the vocabulary of ", 1 },
        { MODEL "--decode '[-1]'", "", "pipeline: place 0 of the ids is no token id", 1 },
        { MODEL "--decode '[1.5]'", "", "pipeline: place 0 of the ids is no token id", 1 },
        { MODEL "--decode '{}'", "", "pipeline: --decode wants [1, 2", 1 },
        { MODEL "--decode --chat x", "", "pipeline: --decode goes with none of", 2 },
        { MODEL, "\xFF", "pipeline: the text is no UTF-8: byte 0", 1 },
        { MODEL "nothing.jsonl", "", "pipeline: cannot open nothing.jsonl", 1 },
        { "x", "", "pipeline: tokenize: --model is needed", 2 },
        { "--model /nonexistent x", "", "pipeline: ", 1 },
        { MODEL "a b", "", "usage: pipeline tokenize", 2 },
        { MODEL "--ofsets a", "", "pipeline: unknown option --ofsets; did you mean --offsets?", 2 },
    };
    ft_buf out = { 0 };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int status = run(&out, cases[i].input, cases[i].args);
        ck_assert_msg(status == cases[i].status, "%s: status %d\n%s", cases[i].args, status, out.p);
        ck_assert_msg(cases[i].status ? strstr(out.p, cases[i].want) != NULL
                                      : !strcmp(out.p, cases[i].want),
                      "%s:\n%s", cases[i].args, out.p);
    }
    ft_buf_free(&out);
}
END_TEST

/* A chat comes back as the template wrote it (ChatML, as this folder has no template). */
static void chat(const char *input, const char *want)
{
    ft_buf ids = { 0 }, text = { 0 };
    ck_assert_msg(run(&ids, input, MODEL "--chat") == 0, "%s", ids.p);
    ck_assert_msg(run(&text, ids.p, MODEL "--decode") == 0, "%s", text.p);
    ck_assert_str_eq(text.p, want);
    ft_buf_free(&ids);
    ft_buf_free(&text);
}

START_TEST(chats)
{
    chat("hi", "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n\n");
    chat("[1, 2]", "<|im_start|>user\n[1, 2]<|im_end|>\n<|im_start|>assistant\n\n");
    chat("[{\"role\": \"user\", \"content\": \"a\"}]",
         "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n\n");
    chat("[{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": "
         "\"b\"}]",
         "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n\n");
    ft_buf out = { 0 };
    ck_assert_int_eq(run(&out, "[{\"role\": \"user\", \"content\": }]", MODEL "--chat"), 1);
    ck_assert_ptr_nonnull(strstr(out.p, "pipeline: messages:1:30: "));
    ft_buf_free(&out);
}
END_TEST

/* Rows of data: ids, text, and labels that train the reply alone. */
START_TEST(rows_of_chats)
{
    static const char row[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, "
                              "{\"role\": \"assistant\", \"content\": \"yes\"}]}\n";
    char path[200], args[500];
    ft_buf out = { 0 }, reply = { 0 };
    ft_err e = { 0 };
    const char *tmp = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/tokenize-%d.jsonl", tmp && *tmp ? tmp : "/tmp", (int)getpid());
    ck_assert_msg(!ft_file_write(path, row, strlen(row), &e), "%s", e.msg);
    snprintf(args, sizeof args, MODEL "--chat --offsets %s", path);
    int status = run(&out, "", args);
    unlink(path);
    ck_assert_msg(status == 0, "%s", out.p);
    const char *line = strchr(out.p, '{'); /* after the word that there is no template */
    ck_assert_ptr_nonnull(line);
    ft_json_doc *d = ft_json_parse("output", line, strlen(line), &e);
    ck_assert_msg(d != NULL, "%s", e.msg);
    const ft_json *ids = ft_json_get(ft_json_root(d), "ids"),
                  *labels = ft_json_get(ft_json_root(d), "labels");
    ck_assert_str_eq(ft_json_str(ft_json_root(d), "text", ""),
                     "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n");
    ck_assert_uint_eq(ids->len, labels->len);
    ck_assert_uint_eq(ft_json_get(ft_json_root(d), "offsets")->len, ids->len);
    ft_buf_putc(&reply, '[');
    for (size_t i = 0; i < labels->len; i++) {
        int64_t label, id;
        ck_assert(ft_json_as_int(&labels->item[i], &label) && ft_json_as_int(&ids->item[i], &id));
        ck_assert(label == -100 || label == id);
        if (label >= 0) ft_buf_printf(&reply, "%s%lld", reply.n > 1 ? "," : "", (long long)label);
    }
    ft_buf_puts(&reply, "]");
    ck_assert_int_eq(run(&out, reply.p, MODEL "--decode"), 0);
    ck_assert_str_eq(out.p, "yes<|im_end|>\n");
    ft_json_done(d);
    ft_buf_free(&out);
    ft_buf_free(&reply);
}
END_TEST

static const char *row_file(const char *ending, const char *text)
{
    static char path[200];
    ft_err e = { 0 };
    const char *tmp = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/tokenize-%d%s", tmp && *tmp ? tmp : "/tmp", (int)getpid(),
             ending);
    ck_assert_msg(!ft_file_write(path, text, strlen(text), &e), "%s", e.msg);
    return path;
}

/* --show: trained, context and template apart; what could steer a terminal is spelled out. */
START_TEST(shown_rows)
{
    static const char rows[] =
        "{\"messages\": [{\"role\": \"user\", \"content\": \"a\\u001b[31m\\u009b\"}, "
        "{\"role\": \"assistant\", \"content\": \"\xC3\xA9s\"}]}\n"
        "{\"prompt\": \"q\", \"chosen\": \"yes\", \"rejected\": \"no\"}\n"
        "{\"prompt\": \"q\", \"completion\": \"w\", \"label\": false}\n";
    char args[500];
    ft_buf out = { 0 };
    const char *path = row_file(".jsonl", rows);
    snprintf(args, sizeof args, MODEL "--chat --show %s", path);
    ck_assert_int_eq(run(&out, "", args), 0);
    ck_assert_msg(strstr(out.p, "context  ‹template›  «trained»\n") != NULL, "%s", out.p);
    ck_assert_msg(strstr(out.p, "‹<|im_start|>user\n›a\\x1b[31m\\x9b‹<|im_end|>\n<|im_start|>"
                                "assistant\n›«\xC3\xA9s<|im_end|>»‹\n›\n") != NULL,
                  "%s", out.p);
    ck_assert_msg(strstr(out.p, "line 2, chosen: ") && strstr(out.p, "line 2, rejected: ") &&
                      strstr(out.p, "line 3, bad: "),
                  "%s", out.p);
    ck_assert_ptr_nonnull(strstr(out.p, "q«yes"));
    snprintf(args, sizeof args, MODEL "--chat %s", path);
    ck_assert_int_eq(run(&out, "", args), 0);
    ck_assert_ptr_nonnull(strstr(out.p, "{\"answer\": \"rejected\", \"ids\": ["));
    ck_assert_ptr_nonnull(strstr(out.p, "{\"answer\": \"bad\", \"ids\": ["));
    setenv("CLICOLOR_FORCE", "1", 1);
    snprintf(args, sizeof args, MODEL "--chat --show %s", path);
    ck_assert_int_eq(run(&out, "", args), 0);
    ck_assert_ptr_nonnull(strstr(out.p, "\x1b[30;42m\xC3\xA9s<|im_end|>\x1b[0m"));
    ck_assert_ptr_nonnull(strstr(out.p, "\x1b[2;36m<|im_start|>user⏎\x1b[0m\n"));
    setenv("NO_COLOR", "1", 1);
    ck_assert_int_eq(run(&out, "", args), 0);
    ck_assert_ptr_null(strchr(out.p, 0x1b));
    unsetenv("CLICOLOR_FORCE");
    unsetenv("NO_COLOR");
    unlink(path);
    ck_assert_int_eq(run(&out, "", MODEL "--show x"), 2);
    ck_assert_int_eq(run(&out, "", MODEL "--chat --show --offsets x"), 2);
    ck_assert_int_eq(run(&out, "", MODEL "--allow-special-in-data x"), 2);
    ft_buf_free(&out);
}
END_TEST

static bool has_id(const ft_buf *out, const char *id)
{
    const char *ids = strstr(out->p, "\"ids\": [");
    char one[40];
    snprintf(one, sizeof one, " %s,", id);
    return ids && strstr(ids, one) && strstr(ids, one) < strchr(ids, ']');
}

/* Special tokens spelled in the data: text, unless it is asked for.  <|end|> is id 421 there. */
START_TEST(special_tokens_in_data)
{
    static const char row[] = "instruction,output\nsay <|end|> now,it ends with <|end|> there\n";
    char args[500];
    ft_buf out = { 0 };
    const char *path = row_file(".csv", row);
    snprintf(args, sizeof args, MODEL "--chat %s", path);
    ck_assert_int_eq(run(&out, "", args), 0);
    ck_assert_msg(!has_id(&out, "421"), "%s", out.p);
    snprintf(args, sizeof args, MODEL "--chat --allow-special-in-data %s", path);
    ck_assert_int_eq(run(&out, "", args), 0);
    ck_assert_msg(has_id(&out, "421"), "%s", out.p);
    unlink(path);
    ft_buf_free(&out);
}
END_TEST

/* A Parquet file gives what the same rows give as JSON lines, and a cut one is refused. */
START_TEST(rows_of_parquet)
{
    static const char rows[] =
        "{\"messages\": [{\"role\": \"user\", \"content\": \"question 0\"}, {\"role\": "
        "\"assistant\", \"content\": \"answer 0\"}]}\n"
        "{\"messages\": [{\"role\": \"user\", \"content\": \"question 1\"}, {\"role\": "
        "\"assistant\", \"content\": \"answer 1\"}]}\n"
        "{\"messages\": [{\"role\": \"user\", \"content\": \"question 2\"}, {\"role\": "
        "\"assistant\", \"content\": \"answer 2\"}]}\n";
    char args[500], plugin[500];
    ft_buf out = { 0 }, want = { 0 };
    snprintf(plugin, sizeof plugin, "%s/plugins/data-parquet.so", test_build());
    if (!ft_file_exists(plugin)) {
        printf("not run: rows of Parquet (built without data-parquet)\n");
        return;
    }
    const char *path = row_file(".jsonl", rows);
    snprintf(args, sizeof args, MODEL "--chat %s", path);
    ck_assert_int_eq(run(&want, "", args), 0);
    ck_assert_int_eq(run(&out, "", MODEL "--chat tests/data/parquet/messages.parquet"), 0);
    ck_assert_str_eq(out.p, want.p);
    unlink(path);
    path = row_file(".parquet", "PAR1 and no more");
    snprintf(args, sizeof args, MODEL "--chat %s 2>&1", path);
    ck_assert_int_eq(run(&out, "", args), 1);
    ck_assert_msg(strstr(out.p, "does not end as a Parquet file") != NULL, "%s", out.p);
    unlink(path);
    ft_buf_free(&out);
    ft_buf_free(&want);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("cmd_tokenize");
    TCase *t = tcase_create("tokenize");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, files_of_rows);
    tcase_add_test(t, many_lines);
    tcase_add_test(t, texts);
    tcase_add_test(t, chats);
    tcase_add_test(t, rows_of_chats);
    tcase_add_test(t, shown_rows);
    tcase_add_test(t, special_tokens_in_data);
    tcase_add_test(t, rows_of_parquet);
    suite_add_tcase(s, t);
    return s;
}
