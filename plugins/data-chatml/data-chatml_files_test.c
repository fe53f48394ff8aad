/* data-chatml_files_test.c -- files of every kind behind the built plugin: CSV, text, gzip,
 * Zstandard, damaged and hostile ones; and the kinds of rows that are not conversations as they
 * stand: KTO, OpenAssistant trees, texts with a common beginning.
 *
 * Packed files: tests/data/rows, made by make.py there. */
#include "plugins/data-chatml/test_host.h"
#include <sys/resource.h>

#define PACKED "tests/data/rows/"

/* Everything ends with [mark], so that a reply has an end. */
static const char plain[] = "{% for m in messages %}<{{ m.role[0] }}>{{ m.content }}{% if m.role "
                            "== 'assistant' %}[e]{% endif %}{% endfor %}"
                            "{% if add_generation_prompt %}<a>{% endif %}";

/* The rows of a file as read_all writes them, or what failed; status of the last next(). */
static void read_file_rows(ft_buf *got, char failed[2048], const char *path, const char *key,
                           const char *value, const char *bad)
{
    bench b;
    setup(&b, plain, "[e]", "path", path, "on_bad_row", bad, key, value, NULL);
    got->n = 0;
    ft_buf_puts(got, "");
    if (!open_bench(&b)) {
        read_all(&b, got);
        teardown(&b);
    } else {
        free(b.self);
        free(b.config);
    }
    snprintf(failed, 2048, "%s", b.failed);
}

/* A file of that name's ending. */
static void write_as(char path[300], const char *ending, const void *p, size_t n)
{
    ft_err e = { 0 };
    const char *dir = getenv("TMPDIR");
    snprintf(path, 300, "%s/chatml-files-%d%s", dir ? dir : "/tmp", (int)getpid(), ending);
    ck_assert_msg(!ft_file_write(path, p, n, &e), "%s", e.msg);
}

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

/* ---- packed files ---------------------------------------------------------------------------- */

/* What the plain rows of make.py are, read through the plugin. */
static void wanted(ft_buf *out)
{
    for (int i = 0; i < 200; i++) {
        ft_buf_printf(out, "%s{{row %d ", i ? "\n---\n" : "", i);
        for (int k = 0; k < i % 9; k++) ft_buf_printf(out, "x%d ", i * 7919 % 1000);
        ft_buf_puts(out, "[e]}}");
    }
}

START_TEST(packed_files)
{
    static const char *const files[] = { "rows.jsonl.gz", "rows.jsonl.zst", "members.gz",
                                         "frames.zst" };
    char path[300], failed[2048];
    ft_buf got = { 0 }, want = { 0 };
    wanted(&want);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, PACKED "%s", files[i]);
        read_file_rows(&got, failed, path, "type", "auto", "error");
        ck_assert_msg(!*failed, "%s: %s", files[i], failed);
        ck_assert_str_eq(got.p, want.p);
    }
    ft_buf_free(&got);
    ft_buf_free(&want);
}
END_TEST

/* Cut anywhere, or with a byte changed anywhere, a packed file gives its rows or says what is
 * wrong: it never gives other rows as the last word. */
START_TEST(damaged_packed_files)
{
    static const char *const files[] = { "rows.jsonl.gz", "rows.jsonl.zst", "members.gz",
                                         "frames.zst" };
    ft_buf file = { 0 }, got = { 0 }, want = { 0 };
    char path[300], from[300], failed[2048];
    ft_err e = { 0 };
    wanted(&want);
    snprintf(from, sizeof from, PACKED "%s", files[_i]);
    ck_assert_msg(!ft_file_read(&file, from, 1 << 20, &e), "%s", e.msg);
    for (size_t n = 1; n < file.n; n++) {
        write_as(path, ".bin", file.p, n);
        read_file_rows(&got, failed, path, "type", "auto", "error");
        /* A file that ends where a member ends is a whole file of fewer rows. */
        bool whole = strstr(files[_i], "s.") != NULL && !*failed &&
                     !strncmp(got.p, want.p, got.n) && got.n;
        ck_assert_msg(*failed || whole, "%s: cut at %zu is accepted", files[_i], n);
    }
    for (size_t k = 0; k < file.n; k++) {
        file.p[k] ^= (char)(1 << k % 8);
        write_as(path, ".bin", file.p, file.n);
        read_file_rows(&got, failed, path, "type", "auto", "error");
        ck_assert_msg(*failed || !strcmp(got.p, want.p), "%s: byte %zu changed gives other rows",
                      files[_i], k);
        file.p[k] ^= (char)(1 << k % 8);
    }
    unlink(path);
    ft_buf_free(&file);
    ft_buf_free(&got);
    ft_buf_free(&want);
}
END_TEST

START_TEST(hostile_packed_files)
{
    static const struct { const char *file, *says; } cases[] = {
        { "window.zst", "wants a window above 32 MiB; pack it with zstd -19 or below" },
        { "blank.gz", "more than 16 MiB of white space" },
        { "blank.zst", "more than 16 MiB of white space" },
        { "long.zst", ":1: a row is longer than 1 GiB" },
    };
    char path[300], failed[2048];
    ft_buf got = { 0 };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(path, sizeof path, PACKED "%s", cases[i].file);
        read_file_rows(&got, failed, path, "type", "auto", "skip");
        ck_assert_msg(strstr(failed, cases[i].says) != NULL, "%s: %s", cases[i].file, failed);
    }
    ft_buf_free(&got);
}
END_TEST

#if defined(__SANITIZE_ADDRESS__)
enum { ALL_MEMORY_IS_KEPT = 1 }; /* freed blocks are held back to find what still uses them */
#else
enum { ALL_MEMORY_IS_KEPT = 0 };
#endif

/* A file ten times as long takes no more memory. */
START_TEST(constant_memory)
{
    if (ALL_MEMORY_IS_KEPT) {
        printf("not run: constant memory (the sanitizer keeps what is freed)\n");
        return;
    }
    struct rusage before, after;
    char path[300];
    ft_buf rows = { 0 };
    for (int i = 0; i < 4000; i++)
        ft_buf_printf(&rows, "{\"instruction\": \"question %d\", \"output\": \"%0900d\"}\n", i, i);
    for (int round = 0; round < 2; round++) {
        bench b;
        ft_sample s;
        int n = 0;
        write_as(path, ".jsonl", rows.p, rows.n);
        for (int k = 0; round && k < 9; k++) {
            FILE *f = fopen(path, "ab");
            ck_assert_uint_eq(fwrite(rows.p, 1, rows.n, f), rows.n);
            ck_assert_int_eq(fclose(f), 0);
        }
        if (round) getrusage(RUSAGE_SELF, &before);
        setup(&b, plain, "[e]", "path", path, NULL);
        ck_assert_int_eq(open_bench(&b), 0);
        while (b.format->next(b.self, &s) == 1) n++;
        ck_assert_int_eq(n, round ? 40000 : 4000);
        teardown(&b);
    }
    getrusage(RUSAGE_SELF, &after);
    ck_assert_int_le(after.ru_maxrss - before.ru_maxrss, 2 << 10); /* KiB */
    unlink(path);
    ft_buf_free(&rows);
}
END_TEST

/* gzip with one block that is stored as it is and says to be longer than it is: the file is cut. */
static void write_cut_gzip(char path[300], const char *ending, const char *text)
{
    ft_buf b = { 0 };
    ft_buf_add(&b, "\x1F\x8B\x08\0\0\0\0\0\0\3\1\xE8\x03\x17\xFC", 15); /* 1000 bytes */
    ft_buf_puts(&b, text);
    write_as(path, ending, b.p, b.n);
    ft_buf_free(&b);
}

static const struct { const char *ending, *text; } cut[] = {
    { ".jsonl", "{\"text\": \"a\"}\n" }, { ".jsonl", "{\"text\": \"a\"}\n{\"te" },
    { ".jsonl", "[{\"text\": \"a\"}]" },  { ".csv", "te" },
    { ".csv", "text\na\nb" },             { ".csv", "text,x\na,\"b" },
    { ".txt", "a\nb" },                   { ".txt", "a\n" },
};

START_TEST(files_cut_while_packed)
{
    char path[300], failed[2048];
    ft_buf got = { 0 };
    write_cut_gzip(path, cut[_i].ending, cut[_i].text);
    read_file_rows(&got, failed, path, "type", "auto", "error");
    ck_assert_msg(strstr(failed, "ends in the middle of its packed data") != NULL, "%s: %s",
                  cut[_i].text, failed);
    unlink(path);
    ft_buf_free(&got);
}
END_TEST

START_TEST(files_that_cannot_be_read)
{
    char path[300], failed[2048];
    ft_buf got = { 0 };
    read_file_rows(&got, failed, "tests/data", "type", "auto", "error");
    ck_assert_msg(strstr(failed, "tests/data: cannot be read: Is a directory") != NULL, "%s",
                  failed);
    write_as(path, ".jsonl", "\x1F\x8B\x08\0\0\0\0\0\0\3\xFF", 11);
    read_file_rows(&got, failed, path, "type", "auto", "error");
    ck_assert_msg(strstr(failed, "the gzip data is damaged: ") != NULL, "%s", failed);
    unlink(path);
    ft_buf_free(&got);
}
END_TEST

/* A file that begins with `head` and goes on with one of the packed files: Zstandard frames may
 * stand one after the other, and this one holds its few bytes as they are. */
static void write_behind(char path[300], const char *head, const char *ending, const char *packed)
{
    ft_buf b = { 0 };
    ft_err e = { 0 };
    char from[300];
    const char n = (char)strlen(head), frame[] = { 0x28, (char)0xB5, 0x2F, (char)0xFD, 0x20, n,
                                                   (char)(n << 3 | 1), 0, 0 };
    ft_buf_add(&b, frame, sizeof frame);
    ft_buf_puts(&b, head);
    snprintf(from, sizeof from, PACKED "%s", packed);
    ck_assert_msg(!ft_file_read(&b, from, 1 << 20, &e), "%s", e.msg);
    write_as(path, ending, b.p, b.n);
    ft_buf_free(&b);
}

static const struct { const char *head, *ending, *packed, *says; } long_rows[] = {
    { "[", ".jsonl", "long.zst", ":1: a row is longer than 1 GiB" },
    { "a\n", ".csv", "long.zst", ":2: a row is longer than 1 GiB" },
    { "a\n", ".txt", "long.zst", "a row is longer than 1 GiB" },
    { "", ".txt", "blank.zst", "more than 16 MiB of white space" },
    { "[", ".jsonl", "blank.zst", "a row must stand here" },
    { "a,b\n", ".csv", "blank.zst", "more than 8 million blank lines" },
};

START_TEST(rows_beyond_all_bounds)
{
    char path[300], failed[2048];
    ft_buf got = { 0 };
    write_behind(path, long_rows[_i].head, long_rows[_i].ending, long_rows[_i].packed);
    read_file_rows(&got, failed, path, "type", "auto", "skip");
    ck_assert_msg(strstr(failed, long_rows[_i].says) != NULL, "%s: %s", long_rows[_i].says, failed);
    unlink(path);
    ft_buf_free(&got);
}
END_TEST

/* Columns without number, and names and fields that do not end. */
START_TEST(csv_beyond_bounds)
{
    static const char *const says[] = { ":1: more than 1000 columns",
                                        ":1: the names of the columns are longer than 16 MiB",
                                        ":2: the row is longer than 16 MiB" };
    char path[300], failed[2048];
    ft_buf b = { 0 }, got = { 0 };
    for (int i = 0; _i == 0 && i < 1001; i++) ft_buf_printf(&b, "%sc%d", i ? "," : "", i);
    if (_i == 2) ft_buf_puts(&b, "a\n");
    for (int i = 0; _i && i < (16 << 20) + 1; i++) ft_buf_putc(&b, 'x');
    ft_buf_puts(&b, "\n");
    write_as(path, ".csv", b.p, b.n);
    read_file_rows(&got, failed, path, "type", "auto", "error");
    ck_assert_msg(strstr(failed, says[_i]) != NULL, "%s", failed);
    unlink(path);
    ft_buf_free(&b);
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
    tcase_add_test(t, packed_files);
    tcase_add_loop_test(t, damaged_packed_files, 0, 4);
    tcase_add_test(t, hostile_packed_files);
    tcase_add_loop_test(t, files_cut_while_packed, 0, sizeof cut / sizeof *cut);
    tcase_add_test(t, files_that_cannot_be_read);
    tcase_add_loop_test(t, rows_beyond_all_bounds, 0, sizeof long_rows / sizeof *long_rows);
    tcase_add_loop_test(t, csv_beyond_bounds, 0, 3);
    tcase_add_test(t, constant_memory);
    tcase_add_loop_test(t, other_kinds, 0, sizeof kinds / sizeof *kinds);
    tcase_add_loop_test(t, rows_of_other_kinds_that_are_bad, 0,
                        sizeof bad_kinds / sizeof *bad_kinds);
    tcase_add_test(t, labels_and_groups);
    tcase_add_test(t, trees_beyond_bounds);
    suite_add_tcase(s, t);
    return s;
}
