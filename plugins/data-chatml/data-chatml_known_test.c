/* data-chatml_known_test.c -- what is trained under the chat templates of known models, where the
 * shared goldens are present. */
#include "plugins/data-chatml/test_host.h"

typedef struct { int rows, spans, refused; } tally;

static size_t byte_offset(const char *s, int64_t chars)
{
    size_t at = 0;
    for (; chars > 0 && s[at]; chars--)
        for (at++; (s[at] & 0xC0) == 0x80; at++) {}
    return at;
}

static bool all_trained(const ft_text *t, size_t from, size_t to)
{
    for (size_t i = 0; i < t->n_span; i++) {
        if (t->span[i].end > from && t->span[i].begin < to && !t->span[i].train) return false;
    }
    return true;
}

/* Golden spans are what must at least be trained, and what {% generation %} marks exactly that. */
static void check_golden(const ft_json *golden, const ft_json *conv, tally *sum)
{
    char template[700];
    bench b;
    ft_sample s;
    ft_buf row = { 0 };
    const char *name = ft_json_str(golden, "template", "?");
    snprintf(template, sizeof template, "%s/templates/%s.jinja", test_goldens(), name);
    ft_json_write(&row, conv, -1);
    write_rows(row_path, row.p);
    setup(&b, "", ft_json_str(golden, "eos_token", ""), "path", row_path, "chat_template", template,
          NULL);
    b.source.bos_token = ft_json_str(golden, "bos_token", "");
    ck_assert_msg(!open_bench(&b), "%s: %s", name, b.failed);
    int got = b.format->next(b.self, &s);
    const ft_json *want = ft_json_get(golden, "rendered"),
                  *spans = ft_json_get(golden, "assistant_spans");
    size_t trained = 0, generated = 0;
    if (got != 1) {
        sum->refused++;
        ck_assert_msg(!want || strstr(b.failed, "nothing to train"), "%s, %s: %s", name,
                      ft_json_str(conv, "id", ""), b.failed);
    } else {
        ck_assert_str_eq(s.seq[0].text, want->text);
        for (size_t i = 0; i < s.seq[0].n_span; i++) {
            const ft_span *p = &s.seq[0].span[i];
            ck_assert_msg(!p->train || p->role == FT_ROLE_ASSISTANT,
                          "%s, %s: trained outside of replies", name, ft_json_str(conv, "id", ""));
            if (p->train) trained += p->end - p->begin;
            if (p->marked) generated += p->end - p->begin;
        }
        for (size_t i = 0; spans && i < spans->len; i++, sum->spans++) {
            int64_t from = 0, to = 0;
            ft_json_as_int(&spans->item[i].item[0], &from);
            ft_json_as_int(&spans->item[i].item[1], &to);
            ck_assert_msg(
                all_trained(&s.seq[0], byte_offset(want->text, from), byte_offset(want->text, to)),
                "%s, %s: reply %zu is not trained", name, ft_json_str(conv, "id", ""), i);
        }
        if (!strcmp(ft_json_str(golden, "spans_by", ""), "generation"))
            ck_assert_uint_eq(trained, generated);
        sum->rows++;
    }
    teardown(&b);
    ft_buf_free(&row);
}

static ft_json_doc *read_lines(const char *name, ft_buf *text)
{
    char path[700];
    ft_err e = { 0 };
    ft_buf array = { 0 };
    snprintf(path, sizeof path, "%s/templates/%s", test_goldens(), name);
    ck_assert_msg(!ft_file_read(text, path, 64 << 20, &e), "%s", e.msg);
    ft_buf_puts(&array, "[");
    for (char *p = text->p, *end; *p; p = end + 1) {
        end = strchr(p, '\n');
        if (array.n > 1) ft_buf_puts(&array, ",");
        ft_buf_add(&array, p, (size_t)(end - p));
    }
    ft_buf_puts(&array, "]");
    ft_json_doc *d = ft_json_parse(name, array.p, array.n, &e);
    ck_assert_msg(d != NULL, "%s", e.msg);
    ft_buf_free(&array);
    return d;
}

START_TEST(known_templates)
{
    tally sum = { 0 };
    if (!test_goldens()) {
        printf(
            "not run: masks under the chat templates of known models (no shared goldens here)\n");
        return;
    }
    setenv("SOURCE_DATE_EPOCH", "1741064767", 1);
    ft_buf t1 = { 0 }, t2 = { 0 };
    ft_json_doc *goldens = read_lines("golden.jsonl", &t1),
                *convs = read_lines("conversations.jsonl", &t2);
    const ft_json *g = ft_json_root(goldens), *c = ft_json_root(convs);
    for (size_t i = 0; i < g->len; i++) {
        const ft_json *golden = &g->item[i], *conv = NULL;
        if (ft_json_get(golden, "add_generation_prompt")->truth) continue;
        for (size_t k = 0; k < c->len; k++) {
            if (!strcmp(ft_json_str(&c->item[k], "id", ""), ft_json_str(golden, "conv", "?")))
                conv = &c->item[k];
        }
        check_golden(golden, conv, &sum);
    }
    printf("goldens: %d rows, %d replies trained, %d rows refused or without a reply\n", sum.rows,
           sum.spans, sum.refused);
    ck_assert_int_gt(sum.spans, 200);
    ft_json_done(goldens);
    ft_json_done(convs);
    ft_buf_free(&t1);
    ft_buf_free(&t2);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("data-chatml_known");
    TCase *c = tcase_create("known");
    tcase_add_checked_fixture(c, make_paths, remove_paths);
    tcase_set_timeout(c, 120);
    tcase_add_test(c, known_templates);
    suite_add_tcase(s, c);
    return s;
}
