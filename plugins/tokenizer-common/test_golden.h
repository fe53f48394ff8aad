/* test_golden.h -- vectors for a tokenizer plugin: a line a string in golden.jsonl, beside the
 * tokenizer's files.  A test program defines PLUGIN before it includes this. */
#ifndef TOK_TEST_GOLDEN_H
#define TOK_TEST_GOLDEN_H
#include <dirent.h>
#include "plugins/tokenizer-common/test_host.h"
#include "tests/harness.h"

#define DATA "tests/data/tok/"

static void opened(test_tok *t)
{
    ck_assert_msg(test_open(t, test_build(), PLUGIN), "%s", t->err.msg);
}

/* Loads the tokenizer of a folder: tokenizer.gguf, tokenizer.json or tokenizer.model.  NULL: the
 * plugin does not claim it. */
static test_tok *load_claimed(const char *dir)
{
    static test_tok t;
    char gguf[6000];
    opened(&t);
    snprintf(gguf, sizeof gguf, "%s/tokenizer.gguf", dir);
    bool fine = ft_file_exists(gguf) ? test_load_gguf(&t, gguf) : test_load_dir(&t, dir);
    if (!fine && !t.vt->claims(&t.source)) {
        test_close(&t);
        return NULL;
    }
    ck_assert_msg(fine, "%s: %s", dir, t.err.msg);
    return &t;
}

static inline test_tok *load_dir(const char *dir)
{
    test_tok *t = load_claimed(dir);
    ck_assert_msg(t != NULL, "%s: not claimed", dir);
    return t;
}

static inline ft_tokens encode(test_tok *t, const char *s, unsigned flags)
{
    ft_tokens out = { 0 };
    ft_text text = { .text = s, .len = strlen(s) };
    ck_assert_msg(!t->vt->encode(t->self, t->enc, &text, flags, &out), "%s", t->err.msg);
    return out;
}

/* ---- vectors --------------------------------------------------------------------------------- */
/* True when the list in j is a and, where b is given, a[0] b[0] a[1] b[1] … */
static bool same_list(const ft_json *j, const uint32_t *a, const uint32_t *b, size_t n)
{
    if (!j || j->len != (b ? 2 * n : n)) return false;
    for (size_t i = 0; i < j->len; i++) {
        int64_t v = -1;
        ft_json_as_int(&j->item[i], &v);
        if (v != (b ? (i % 2 ? b[i / 2] : a[i / 2]) : a[i])) return false;
    }
    return true;
}

static bool same_text(const ft_json *j, ft_bytes d)
{
    return j && j->len == d.n && !memcmp(j->text, d.p, d.n);
}

/* Compares one line of golden.jsonl; names the first thing that differs, or NULL.  SentencePiece's
 * lines have ids, and decoded text where nothing is unknown. */
static const char *check_row(test_tok *t, const ft_json *row)
{
    const ft_json *s = ft_json_get(row, "text");
    ft_text text = { .text = s->text, .len = s->len };
    ft_tokens k = { 0 };
    ft_bytes d = { 0 };
    if (t->vt->encode(t->self, t->enc, &text, 0, &k)) return t->err.msg;
    if (!same_list(ft_json_get(row, "ids"), k.id, NULL, k.n)) return "ids";
    bool all = ft_json_get(row, "byte_offsets") != NULL;
    if (all && !same_list(ft_json_get(row, "byte_offsets"), k.begin, k.end, k.n))
        return "byte_offsets";
    if (t->vt->decode(t->self, t->enc, k.id, k.n, 0, &d)) return t->err.msg;
    const ft_json *decoded = ft_json_get(row, "decoded");
    if ((all || decoded) && !same_text(decoded, d)) return "decoded";
    if (!all) return NULL;
    if (t->vt->encode(t->self, t->enc, &text, FT_ENCODE_ADD_SPECIAL, &k)) return t->err.msg;
    if (!same_list(ft_json_get(row, "ids_special"), k.id, NULL, k.n)) return "ids_special";
    if (t->vt->decode(t->self, t->enc, k.id, k.n, FT_DECODE_SKIP_SPECIAL, &d)) return t->err.msg;
    return same_text(ft_json_get(row, "decoded_skip"), d) ? NULL : "decoded_skip";
}

/* Checks every line of DIR/golden.jsonl; returns how many there are. */
static int check_golden(test_tok *t, const char *dir)
{
    char path[6000];
    ft_buf b = { 0 };
    int rows = 0;
    snprintf(path, sizeof path, "%s/golden.jsonl", dir);
    ck_assert_int_eq(ft_file_read(&b, path, 1 << 26, NULL), 0);
    for (char *line = b.p, *end; line < b.p + b.n; line = end + 1, rows++) {
        end = strchr(line, '\n');
        ft_json_doc *doc = ft_json_parse(path, line, (size_t)(end - line), &t->err);
        ck_assert_msg(doc != NULL, "%s", t->err.msg);
        const char *wrong = check_row(t, ft_json_root(doc));
        ck_assert_msg(!wrong, "%s line %d: %s", path, rows + 1, wrong);
        ft_json_done(doc);
    }
    ft_buf_free(&b);
    return rows;
}

/* All folders in `dir` that hold a tokenizer which the plugin claims. */
static int check_folders(const char *dir)
{
    DIR *d = opendir(dir);
    int kinds = 0;
    ck_assert_msg(d != NULL, "%s: cannot be opened", dir);
    for (struct dirent *f; (f = readdir(d));) {
        char path[5000], file[6000];
        snprintf(path, sizeof path, "%s/%s", dir, f->d_name);
        snprintf(file, sizeof file, "%s/golden.jsonl", path);
        if (f->d_name[0] == '.' || !ft_file_exists(file)) continue;
        test_tok *t = load_claimed(path);
        if (!t) continue;
        ck_assert_int_gt(check_golden(t, path), 50);
        test_close(t);
        kinds++;
    }
    closedir(d);
    return kinds;
}

/* The shared goldens of this plugin's kinds, where they are present. */
static inline void check_shared(int at_least)
{
    char path[6000];
    const char *g = test_goldens();
    if (!g) {
        printf("not run: shared_goldens (../shared/goldens is not here)\n");
        return;
    }
    snprintf(path, sizeof path, "%s/tokenizers", g);
    ck_assert_int_ge(check_folders(path), at_least);
}
#endif
