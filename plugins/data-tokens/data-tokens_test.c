/* data-tokens_test.c -- ready rows: shapes [N, S] and [N, B, S], I64 and I32, documents within a
 * row (their losses as if each stood alone, nothing from the last token of one to the first of the
 * next), batches taken in order, and every wrong file by name. */
#include "tests/plugin_host.h"
#include "tests/talker.h"

enum { N = 4, S = 12 };

typedef struct {
    const char *name;
    ft_dtype dtype;
    int ndim;
    int64_t dim[3];
    const int64_t *v;
} column;

/* A file of these tensors; v NULL: 5, 6, 7 … */
static const char *make(const char *name, const column *c, int n)
{
    ft_err e = { 0 };
    const char *path = tiny_path("%s", name);
    ft_st_writer *w = ft_st_new(&e);
    for (int i = 0; i < n; i++)
        ck_assert_int_ge(ft_st_declare(w, c[i].name, c[i].dtype, c[i].dim, c[i].ndim, &e), 0);
    tiny_must(ft_st_begin(w, path, 0, &e), &e);
    for (int i = 0; i < n; i++) {
        int64_t count = 1;
        for (int k = 0; k < c[i].ndim; k++) count *= c[i].dim[k];
        char *p = malloc((size_t)count * 8 + 1);
        for (int64_t k = 0; k < count; k++) {
            int64_t v = c[i].v ? c[i].v[k] : 5 + k % 80;
            if (c[i].dtype == FT_I64) memcpy(p + 8 * k, &v, 8);
            else memcpy(p + 4 * k, &(int32_t){ (int32_t)v }, 4);
        }
        tiny_must(ft_st_write(w, i, p, (size_t)count * (c[i].dtype == FT_I64 ? 8 : 4), &e), &e);
        free(p);
    }
    tiny_must(ft_st_commit(w, &e), &e);
    ft_st_free(w);
    return path;
}

typedef struct { double nll; int64_t tokens; } sums;

/* `pipeline score` of a file; G: where the logits go, or NULL. */
static sums score(const char *path, const char *g)
{
    const char *argv[] = { "score",    "--model", tiny_model("tied"),
                           "--tokens", path,      g ? "--out" : NULL,
                           g,          NULL };
    ft_buf out = { 0 };
    ft_err e = { 0 };
    talker_run(&out, argv);
    ft_json_doc *d = ft_json_parse("score", strchr(out.p, '{'), strcspn(strchr(out.p, '{'), "\n"),
                                   &e);
    ck_assert_msg(d != NULL, "%s: %s", e.msg, out.p);
    sums s = { 0, (int64_t)talker_real(ft_json_root(d), "tokens") };
    s.nll = s.tokens ? talker_real(ft_json_root(d), "loss") * (double)s.tokens : 0;
    ft_json_done(d);
    ft_buf_free(&out);
    return s;
}

static void fill(int64_t *ids, int64_t *labels, int64_t *docs)
{
    for (int64_t i = 0; i < N * S; i++) {
        ids[i] = (int64_t)(3 + tiny_number(2, (uint64_t)i) % 93);
        labels[i] = tiny_number(4, (uint64_t)i) % 3 ? ids[i] : -100;
        docs[i] = i % S < 5 ? 9 : i % S < 6 ? 2 : 4; /* any numbers; 5, 1 and 6 tokens */
    }
}

/* ---- tests ----------------------------------------------------------------------------------- */

START_TEST(dtypes_and_labels)
{
    int64_t ids[N * S], labels[N * S], docs[N * S];
    fill(ids, labels, docs);
    const column wide[] = { { "input_ids", FT_I64, 2, { N, S, 0 }, ids },
                            { "labels", FT_I64, 2, { N, S, 0 }, labels } };
    const column narrow[] = { { "input_ids", FT_I32, 2, { N, S, 0 }, ids },
                              { "labels", FT_I32, 2, { N, S, 0 }, labels } };
    const column same[] = { wide[0], { "labels", FT_I32, 2, { N, S, 0 }, ids } };
    sums a = score(make("a", wide, 2), NULL), b = score(make("b", narrow, 2), NULL);
    ck_assert(a.nll == b.nll && a.tokens == b.tokens);
    int64_t trained = 0;
    /* nothing predicts the first */
    for (int64_t i = 0; i < N * S; i++) trained += i % S > 0 && labels[i] >= 0;
    ck_assert_int_eq(a.tokens, trained);
    a = score(make("c", same, 2), NULL);
    b = score(make("d", wide, 1), NULL); /* without labels every token is one */
    ck_assert(a.nll == b.nll && a.tokens == N * (S - 1) && b.tokens == a.tokens);
}
END_TEST

/* Documents of a row against rows of their own. */
START_TEST(documents)
{
    static const struct { int64_t from, n; } part[] = { { 0, 5 }, { 5, 1 }, { 6, 6 } };
    int64_t ids[N * S], labels[N * S], docs[N * S];
    fill(ids, labels, docs);
    const column c[] = { { "input_ids", FT_I64, 2, { N, S, 0 }, ids },
                         { "labels", FT_I64, 2, { N, S, 0 }, labels },
                         { "seq_ids", FT_I32, 2, { N, S, 0 }, docs } };
    sums all = score(make("e", c, 3), NULL), parts = { 0, 0 };
    for (int k = 0; k < 3; k++) {
        int64_t x[N * S], y[N * S], n = part[k].n;
        for (int64_t i = 0; i < N * n; i++) {
            x[i] = ids[i / n * S + part[k].from + i % n];
            y[i] = labels[i / n * S + part[k].from + i % n];
        }
        const column alone[] = { { "input_ids", FT_I64, 2, { N, n, 0 }, x },
                                 { "labels", FT_I64, 2, { N, n, 0 }, y } };
        if (n == 1) continue; /* a document of one token has no loss */
        sums s = score(make("f", alone, 2), NULL);
        parts.nll += s.nll;
        parts.tokens += s.tokens;
    }
    ck_assert_int_eq(all.tokens, parts.tokens);
    ck_assert_msg(fabs(all.nll - parts.nll) < 1e-9 * all.nll, "%.12g together, %.12g alone",
                  all.nll, parts.nll);
    sums without = score(make("g", c, 2), NULL);
    ck_assert(without.tokens > all.tokens && fabs(without.nll - all.nll) > 1e-3);
}
END_TEST

/* [N, B, S] is the same rows; the logits have its shape. */
START_TEST(batches)
{
    int64_t ids[N * S], labels[N * S], docs[N * S];
    fill(ids, labels, docs);
    const column flat[] = { { "input_ids", FT_I64, 2, { N, S, 0 }, ids },
                            { "labels", FT_I64, 2, { N, S, 0 }, labels },
                            { "seq_ids", FT_I64, 2, { N, S, 0 }, docs } };
    const column deep[] = { { "input_ids", FT_I64, 3, { 2, N / 2, S }, ids },
                            { "labels", FT_I64, 3, { 2, N / 2, S }, labels },
                            { "seq_ids", FT_I64, 3, { 2, N / 2, S }, docs } };
    sums a = score(make("h", flat, 3), tiny_path("flat.safetensors")),
         b = score(make("i", deep, 3), tiny_path("deep.safetensors"));
    vectors v, w;
    ck_assert(a.nll == b.nll && a.tokens == b.tokens);
    vectors_open(&v, tiny_dir, "flat.safetensors");
    vectors_open(&w, tiny_dir, "deep.safetensors");
    ft_tensor x = vectors_get(&v, "", "logits"), y = vectors_get(&w, "", "logits");
    ck_assert(x.ndim == 3 && x.dim[0] == N && x.dim[1] == S && x.dim[2] == 96);
    ck_assert(y.ndim == 4 && y.dim[0] == 2 && y.dim[1] == N / 2 && y.dim[2] == S && y.dim[3] == 96);
    ck_assert(x.bytes == y.bytes && !memcmp(x.data, y.data, x.bytes));
    vectors_close(&v);
    vectors_close(&w);
}
END_TEST

/* The batches of a file are the micro-batches, in order whatever shuffle says:
 * the first step's loss is that of the first batch. */
START_TEST(steps_in_order)
{
    int64_t ids[N * S], labels[N * S], docs[N * S];
    ft_buf said = { 0 }, b = { 0 };
    ft_err e = { 0 };
    fill(ids, labels, docs);
    const column c[] = { { "input_ids", FT_I64, 3, { 2, N / 2, S }, ids },
                         { "labels", FT_I64, 3, { 2, N / 2, S }, labels } };
    const column first[] = { { "input_ids", FT_I64, 2, { N / 2, S, 0 }, ids },
                             { "labels", FT_I64, 2, { N / 2, S, 0 }, labels } };
    char stages[512];
    snprintf(stages, sizeof stages,
             "  - use: data-tokens\n    with: { path: %s }\n  - use: lora\n    with: { r: 2 }\n"
             "  - use: train-sft\n    with: { num_train_epochs: 1, shuffle: true, compute_dtype: "
             "fp32 }\n",
             make("j", c, 2));
    ck_assert_msg(talker_pipeline(&said, tiny_model("tied"), "steps", stages) == 0, "%s", said.p);
    tiny_must(ft_file_read(&b, tiny_path("steps/metrics.jsonl"), 1 << 20, &e), &e);
    ft_json_doc *d = ft_json_parse("metrics", b.p, strcspn(b.p, "\n"), &e);
    sums want = score(make("k", first, 2), NULL);
    double loss = talker_real(ft_json_root(d), "loss"), mean = want.nll / (double)want.tokens;
    ck_assert_msg(fabs(loss - mean) < 1e-6 * mean, "%.9g, not %.9g", loss, mean);
    int lines = 0;
    for (const char *p = b.p; (p = strchr(p, '\n')); p++) lines++;
    ck_assert_int_eq(lines, 2);
    ft_json_done(d);
    ft_buf_free(&said);
    ft_buf_free(&b);
}
END_TEST

START_TEST(wrong_files)
{
    static const int64_t negative[] = { 5, 6, -1, 7 }, large[] = { 5, 6, 7, 1000 },
                         wide[] = { 5, 6, (int64_t)1 << 31, 7 },
                         odd[] = { -100, 6, -5, 7 };
    static const struct { const char *says; column c[3];
    } cases[] = {
        { "input_ids is missing", { { "labels", FT_I64, 2, { 1, 4, 0 }, NULL } } },
        { "input_ids must be I64 or I32", { { "input_ids", FT_F32, 2, { 1, 4, 0 }, NULL } } },
        { "input_ids must have shape [N, S] or [N, B, S]",
          { { "input_ids", FT_I64, 1, { 4, 0, 0 }, NULL } } },
        { "input_ids has no rows or no tokens", { { "input_ids", FT_I64, 2, { 0, 4, 0 }, NULL } } },
        { "labels must have the shape of input_ids",
          { { "input_ids", FT_I64, 2, { 1, 4, 0 }, NULL },
            { "labels", FT_I64, 2, { 4, 1, 0 }, NULL } } },
        { "labels must have the shape of input_ids",
          { { "input_ids", FT_I64, 2, { 1, 4, 0 }, NULL },
            { "labels", FT_I64, 3, { 1, 1, 4 }, NULL } } },
        { "seq_ids must be I64 or I32",
          { { "input_ids", FT_I64, 2, { 1, 4, 0 }, NULL },
            { "seq_ids", FT_F32, 2, { 1, 4, 0 }, NULL } } },
        { "row 0, token 2: input_ids has -1",
          { { "input_ids", FT_I64, 2, { 1, 4, 0 }, negative } } },
        { "row 0, token 2: input_ids has 2147483648",
          { { "input_ids", FT_I64, 2, { 1, 4, 0 }, wide } } },
        { "token id 1000 is outside of the model's vocabulary of 96",
          { { "input_ids", FT_I64, 2, { 1, 4, 0 }, large } } },
        { "row 0, token 2: labels has -5",
          { { "input_ids", FT_I64, 2, { 1, 4, 0 }, NULL },
            { "labels", FT_I64, 2, { 1, 4, 0 }, odd } } },
    };
    ft_buf out = { 0 };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int n = 0;
        while (n < 3 && cases[i].c[n].name) n++;
        const char *argv[] = {
            "score", "--model", tiny_model("tied"), "--tokens", make("bad", cases[i].c, n), NULL
        };
        ck_assert_msg(tiny_run(&out, argv) == 1, "case %zu: %s", i, out.p);
        ck_assert_msg(strstr(out.p, cases[i].says) != NULL, "no \"%s\": %s", cases[i].says, out.p);
    }
    ft_buf_free(&out);
}
END_TEST

START_TEST(a_host_without_files)
{
    plugin_host h = { .lacks = "ft.tensors/1" };
    ck_assert_int_eq(plugin_open(&h, "data-tokens", NULL), FT_EUNSUP);
    ck_assert_str_eq(h.err.msg, "this host cannot open tensor files");
    ft_arena_free(&h.arena);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("data-tokens");
    TCase *t = tcase_create("data-tokens");
    tcase_set_timeout(t, 120);
    tcase_add_unchecked_fixture(t, tiny_begin, tiny_end);
    tcase_add_test(t, dtypes_and_labels);
    tcase_add_test(t, documents);
    tcase_add_test(t, batches);
    tcase_add_test(t, steps_in_order);
    tcase_add_test(t, wrong_files);
    tcase_add_test(t, a_host_without_files);
    suite_add_tcase(s, t);
    return s;
}
