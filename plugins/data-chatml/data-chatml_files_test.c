/* data-chatml_files_test.c -- CSV and text behind the built plugin, and the kinds of rows that are
 * not conversations as they stand: KTO, OpenAssistant trees, texts with a common beginning. */
#include "plugins/data-chatml/test_host.h"

/* ---- CSV and text ---------------------------------------------------------------------------- */

static const struct { const char *ending, *key, *value, *text, *want;
} good[] = {
    { ".csv", "type", "auto", "instruction,output\na,b\n", "<u>a<a>{{b[e]}}" },
    { ".csv", "type", "auto", "instruction,output\r\na,b\r\nc,d",
      "<u>a<a>{{b[e]}}\n---\n<u>c<a>{{d[e]}}" },
    { ".csv", "type", "auto",
      "\xEF\xBB\xBFoutput,instruction\n\"b \"\"q\"\", c\",\"two\r\nlines\"\n",
      "<u>two\r\nlines<a>{{b \"q\", c[e]}}" },
    { ".csv", "type", "auto", "instruction,input,output\na,,b\na,x,b\n\n",
      "<u>a<a>{{b[e]}}\n---\n<u>a\nx<a>{{b[e]}}" },
    { ".csv", "type", "auto", "text\n\"\\ \t\x01\"\n", "{{\\ \t\x01[e]}}" },
    { ".csv", "type", "auto", "text\n\"\"\nx\n", "x" }, /* an empty text: see below */
    { ".csv", "type", "auto",
      "id,messages\n7,\"[{\"\"role\"\": \"\"user\"\", \"\"content\"\": \"\"a\"\"}, {\"\"role\"\": "
      "\"\"assistant\"\", \"\"content\"\": \"\"b\"\"}]\"\n",
      "<u>a<a>{{b[e]}}" },
    { ".csv", "type", "auto", "prompt,completion,label\na,b,True\n", "a{{b[e]}}" },
    { ".csv", "type", "auto", "text\n[1] is no list\n", "{{[1] is no list[e]}}" },
    { ".txt", "type", "auto", "one\n\n  two \r\nthree",
      "{{one[e]}}\n---\n{{  two [e]}}\n---\n{{three[e]}}" },
    { ".txt", "sample_by", "paragraph", "\n\na\nb\n\n \nc\n", "{{a\nb[e]}}\n---\n{{c[e]}}" },
    { ".md", "sample_by", "document", "# a\n\n\"b\"\n", "{{# a\n\n\"b\"\n[e]}}" },
    { ".md", "format", "json", "{\"text\": \"a\"}", "{{a[e]}}" },
    { ".dat", "format", "csv", "text\na\n", "{{a[e]}}" },
    { ".dat", "format", "text", "{}", "{{{}[e]}}" },
};

START_TEST(csv_and_text)
{
    char path[300], failed[2048];
    ft_buf got = { 0 };
    write_as(path, good[_i].ending, good[_i].text, strlen(good[_i].text));
    read_file_rows(&got, failed, path, good[_i].key, good[_i].value, "skip");
    ck_assert_msg(!*failed, "%s", failed);
    ck_assert_msg(strstr(got.p, good[_i].want) != NULL, "of %s:\n%s\nwanted %s", good[_i].text,
                  got.p, good[_i].want);
    unlink(path);
    ft_buf_free(&got);
}
END_TEST

static const struct { const char *ending, *text, *says;
} bad[] = {
    { ".csv", "text\na\nb\"c\nd\n", ":3: a quote stands inside a field that has none around it" },
    { ".csv", "text\n\"a\"b\n", ":2: text follows the closing quote of a field" },
    { ".csv", "text\na\rb\n", ":2: a carriage return stands inside a field without quotes" },
    { ".csv", "instruction,output\na\n",
      ":2: the row has 1 fields, the first line names 2 columns" },
    { ".csv", "instruction,output\na,b,c\n",
      ":2: the row has 3 fields, the first line names 2 columns" },
    { ".csv", "text\n\"a\nb\n", ":2: a quote is opened and never closed" },
    { ".csv", "text\n\"a\"b\"c\nd\n", ":2: a quote is opened and never closed" },
    { ".csv", "te\"xt\na\n", ":1: a quote stands inside" },
    { ".csv", "\"text\n", "a quote is opened and never closed" },
    { ".csv", "a,,b\n", ":1: a column has no name" },
    { ".csv", "a,b,a\n", ":1: two columns have the same name" },
    { ".csv", "text\n\xFF\n", ":2: " },
    { ".csv", "messages\n\"[{\"\n", ":2: " },
    { ".csv", "question\na\n", ":2: its keys are those of no known type" },
    { ".csv", "prompt,completion,label\na,b,maybe\n", "" },
    { ".txt", "good\n\xC3(\n", ":2: " },
    { ".jsonl", "{\"text\": \"a\"}\n{\"text\": \"\xED\xA0\x80\"}\n", ":2: " },
    { ".parquet", "PAR1\x15\x04",
      "this host has no ft.table/1" },
};

START_TEST(bad_csv_and_text)
{
    char path[300], failed[2048];
    ft_buf got = { 0 };
    write_as(path, bad[_i].ending, bad[_i].text, strlen(bad[_i].text));
    read_file_rows(&got, failed, path, "type", "auto", "error");
    ck_assert_msg(strstr(failed, bad[_i].says) != NULL, "wanted %s\ngot    %s", bad[_i].says,
                  failed);
    if (*bad[_i].says) ck_assert_msg(strstr(failed, path) != NULL, "%s names no file", failed);
    unlink(path);
    ft_buf_free(&got);
}
END_TEST

/* A bad record is passed over and the next one is whole; reasons are counted apart. */
START_TEST(reasons_are_counted)
{
    static const char text[] = "text\na\"\nb\n\"c\"x\nd,e\nf\ng,h,i\n";
    static const struct { const char *why; int64_t rows;
    } want[] = {
        { "a quote stands inside a field that has none around it", 1 },
        { "text follows the closing quote of a field", 1 },
        { "the row has # fields, the first line names # columns", 2 },
    };
    char path[300];
    const char *why;
    int64_t rows;
    bench b;
    ft_buf got = { 0 };
    write_as(path, ".csv", text, strlen(text));
    setup(&b, plain, "[e]", "path", path, "on_bad_row", "skip", NULL);
    ck_assert_msg(!open_bench(&b), "%s", b.failed);
    read_all(&b, &got);
    ck_assert_str_eq(got.p, "{{b[e]}}\n---\n{{f[e]}}");
    ck_assert_int_eq(b.format->skipped(b.self), 4);
    for (size_t i = 0; i < 3; i++) {
        ck_assert(b.format->skip_reason(b.self, i, &why, &rows));
        ck_assert_str_eq(why, want[i].why);
        ck_assert_int_eq(rows, want[i].rows);
    }
    ck_assert(!b.format->skip_reason(b.self, 3, &why, &rows));
    teardown(&b);
    unlink(path);
    ft_buf_free(&got);
}
END_TEST

/* ---- KTO, trees, implicit prompts ------------------------------------------------------------ */

#define NODE(role, text, more) \
    "{\"role\": \"" role "\", \"text\": \"" text "\", \"replies\": [" more "]}"
#define RANKED(role, text, rank, more)                                                             \
    "{\"role\": \"" role "\", \"text\": \"" text "\", \"rank\": " rank ", \"replies\": [" more "]" \
                                                                                               "}"
#define TREE(root) "{\"message_tree_id\": \"x\", \"prompt\": " root "}"
#define BRANCHY                                                                                    \
    TREE(NODE("prompter", "Q",                                                                     \
              RANKED("assistant", "A1", "1",                                                       \
                     NODE("prompter", "R", NODE("assistant", "B1", "")) "," NODE(                  \
                         "prompter", "S",                                                          \
                         "")) "," RANKED("assistant", "A0", "0",                                   \
                                         NODE("prompter", "T", "") "," NODE(                       \
                                             "prompter", "U",                                      \
                                             NODE("assistant", "C",                                \
                                                  ""))) ",{\"role\": \"assistant\", \"text\": "    \
                                                        "\"gone\", \"rank\": -1, \"deleted\": "    \
                                                        "true}," RANKED("assistant", "A2", "null", \
                                                                        "")))

static const struct { const char *key, *value, *row, *want;
} kinds[] = {
    { "type", "auto", "{\"prompt\": \"a\", \"completion\": \"b\", \"label\": true}", "a{{b[e]}}" },
    { "type", "kto",
      "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", "
      "\"content\": \"b\"}], \"label\": false}",
      "<u>a<a>{{b[e]}}" },
    { "type", "auto", "{\"prompt\": \"a\", \"completion\": \"b\", \"label\": \"science\"}",
      "a{{b[e]}}" },
    { "type", "auto",
      "{\"chosen\": \"Human: hi Assistant: yes\", \"rejected\": \"Human: hi Assistant: no\"}",
      "Human: hi Assistant:{{ yes[e]}} ### Human: hi Assistant:{{ no[e]}}" },
    /* see bad_kinds */
    { "type", "auto",
      "{\"chosen\": \"\xC3\xA9"
      "a\", \"rejected\": \"\xC3\xA9\"}",
      "" },
    { "type", "auto", "{\"chosen\": \"q\xC3\xA9x\", \"rejected\": \"q\xC3\xA8x\"}",
      "q{{\xC3\xA9x[e]}} ### q{{\xC3\xA8x[e]}}" },
    { "tree", "best", BRANCHY, "<u>Q<a>{{A0[e]}}<u>U<a>{{C[e]}}" },
    { "tree", "all", BRANCHY,
      "<u>Q<a>{{A1[e]}}<u>R<a>{{B1[e]}}\n---\n<u>Q<a>{{A0[e]}}<u>U<a>{{C[e]}}\n---\n<u>Q<a>{{A2[e]}"
      "}" },
    { "tree", "all", BRANCHY "\n" TREE(NODE("prompter", "Z", NODE("assistant", "z", ""))),
      "<u>Q<a>{{A2[e]}}\n---\n<u>Z<a>{{z[e]}}" },
};

START_TEST(other_kinds)
{
    char failed[2048];
    ft_buf got = { 0 };
    write_rows(row_path, kinds[_i].row);
    read_file_rows(&got, failed, row_path, kinds[_i].key, kinds[_i].value, "skip");
    ck_assert_msg(!*failed, "%s", failed);
    ck_assert_msg(strstr(got.p, kinds[_i].want) != NULL, "%s\ngave %s", kinds[_i].row, got.p);
    ft_buf_free(&got);
}
END_TEST

static const struct { const char *type, *row, *says;
} bad_kinds[] = {
    { "kto", "{\"prompt\": \"a\", \"completion\": \"b\"}",
      "label is missing or neither true nor false" },
    { "kto", "{\"prompt\": \"a\", \"completion\": \"b\", \"label\": 1}",
      "label is missing or neither true nor false" },
    { "kto", "{\"prompt\": \"a\", \"label\": true}", "prompt and completion must be two texts" },
    { "auto", "{\"chosen\": \"\xC3\xA9\", \"rejected\": \"\xC3\xA8\"}",
      "begin with nothing in common" },
    { "auto", TREE("5"), "prompt is not the root of a tree" },
    { "auto", TREE(NODE("assistant", "a", "")), "the tree's root is no prompt" },
    { "auto", TREE(NODE("prompter", "a", NODE("prompter", "b", ""))),
      "the tree has no reply of the assistant" },
    { "auto", TREE(NODE("prompter", "a", "{\"role\": \"assistant\"}")),
      "message 1 of the tree has no text" },
    { "auto", "{\"message_id\": \"a\", \"parent_id\": null, \"text\": \"x\"}", "" },
    { "oasst", "{\"message_id\": \"a\", \"parent_id\": null, \"text\": \"x\"}",
      "flat form; use the file of trees" },
};

START_TEST(rows_of_other_kinds_that_are_bad)
{
    char failed[2048];
    ft_buf got = { 0 };
    write_rows(row_path, bad_kinds[_i].row);
    read_file_rows(&got, failed, row_path, "type", bad_kinds[_i].type, "error");
    ck_assert_msg(strstr(failed, bad_kinds[_i].says) != NULL, "wanted %s\ngot    %s",
                  bad_kinds[_i].says, failed);
    if (*bad_kinds[_i].says) ck_assert_msg(strstr(failed, ":1: ") != NULL, "%s", failed);
    ft_buf_free(&got);
}
END_TEST

/* Labels reach the sample; the branches of a tree share their question. */
START_TEST(labels_and_groups)
{
    bench b;
    ft_sample s;
    uint64_t group;
    write_rows(row_path,
               "{\"prompt\": \"a\", \"completion\": \"b\", \"label\": true}\n{\"prompt\": \"a\", "
               "\"completion\": \"b\", \"label\": false}\n" BRANCHY
               "\n{\"prompt\": \"a\", \"completion\": \"b\"}\n");
    setup(&b, plain, "[e]", "path", row_path, "tree", "all", NULL);
    ck_assert_int_eq(open_bench(&b), 0);
    ck_assert(b.format->next(b.self, &s) == 1 && s.label == FT_LABEL_GOOD && s.n_seq == 1);
    ck_assert(b.format->next(b.self, &s) == 1 && s.label == FT_LABEL_BAD);
    ck_assert(b.format->next(b.self, &s) == 1 && s.label == FT_LABEL_NONE && s.line == 3);
    group = s.group;
    for (int i = 0; i < 2; i++)
        ck_assert(b.format->next(b.self, &s) == 1 && s.group == group && s.line == 3);
    ck_assert(b.format->next(b.self, &s) == 1 && s.label == FT_LABEL_NONE && s.line == 4);
    ck_assert_int_eq(b.format->next(b.self, &s), 0);
    teardown(&b);
}
END_TEST

/* A tree that is too broad, and one that is too deep, are refused by name. */
START_TEST(trees_beyond_bounds)
{
    char failed[2048];
    ft_buf row = { 0 }, got = { 0 };
    ft_buf_puts(&row, "{\"message_tree_id\": 1, \"prompt\": {\"role\": \"prompter\", \"text\": "
                      "\"q\", \"replies\": [");
    for (int i = 0; i < 257; i++)
        ft_buf_printf(&row, "%s" NODE("assistant", "a", ""), i ? "," : "");
    ft_buf_puts(&row, "]}}");
    write_rows(row_path, row.p);
    read_file_rows(&got, failed, row_path, "tree", "all", "error");
    ck_assert_msg(strstr(failed, "the tree has more than 256 conversations") != NULL, "%s", failed);
    read_file_rows(&got, failed, row_path, "tree", "best", "error");
    ck_assert_str_eq(failed, "");
    static const struct { int messages; const char *says; } deep[] = {
        { 250, "" },
        { 252, "a path of the tree has more than 250 messages" },
        { 300, "nested deeper" },
    };
    for (int k = 0; k < 3; k++) {
        row.n = 0;
        ft_buf_puts(&row, "{\"message_tree_id\": 1, \"prompt\": ");
        for (int i = 0; i < deep[k].messages; i++)
            ft_buf_printf(&row, "{\"role\": \"%s\", \"text\": \"q\", \"replies\": [",
                          i % 2 ? "assistant" : "prompter");
        for (int i = 0; i < deep[k].messages; i++) ft_buf_puts(&row, "]}");
        ft_buf_puts(&row, "}");
        write_rows(row_path, row.p);
        read_file_rows(&got, failed, row_path, "tree", "all", "error");
        ck_assert_msg(*deep[k].says ? strstr(failed, deep[k].says) != NULL : !*failed, "%s",
                      failed);
    }
    ft_buf_free(&row);
    ft_buf_free(&got);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("data-chatml_files");
    TCase *t = tcase_create("files");
    tcase_add_checked_fixture(t, make_paths, remove_paths);
    tcase_set_timeout(t, 300);
    tcase_add_loop_test(t, csv_and_text, 0, sizeof good / sizeof *good);
    tcase_add_loop_test(t, bad_csv_and_text, 0, sizeof bad / sizeof *bad);
    tcase_add_test(t, reasons_are_counted);
    tcase_add_loop_test(t, other_kinds, 0, sizeof kinds / sizeof *kinds);
    tcase_add_loop_test(t, rows_of_other_kinds_that_are_bad, 0,
                        sizeof bad_kinds / sizeof *bad_kinds);
    tcase_add_test(t, labels_and_groups);
    tcase_add_test(t, trees_beyond_bounds);
    suite_add_tcase(s, t);
    return s;
}
