/* test_model.c -- whole models against transformers: logits within 1e-4 (of the largest logit where
 * that is above 1), the loss, and the gradient of every weight within 1e-3 relative; packed rows;
 * configurations in both spellings; greedy continuations with a window on the cache.
 *
 * Own checkpoints (tests/tools/make-tiny-model.py) hold gradients as sketches: products with 32
 * vectors of signs.  The mean square of a difference's products is the square of its norm. */
#include "harness.h"
#include "asking.h"
#include "training.h"

enum { SKETCH = 32 };

static double loss_of(const vectors *v)
{
    float f;
    ft_tensor t = vectors_get(v, "", "loss");
    memcpy(&f, t.data, 4);
    return (double)f;
}

static void sketch_of(float *out, const float *g, int64_t n, const char *name)
{
    for (int k = 0; k < SKETCH; k++) {
        char label[300];
        snprintf(label, sizeof label, "sketch %d %s", k, name);
        uint64_t key = tiny_key(label);
        double sum = 0;
        for (int64_t i = 0; i < n; i++)
            sum += tiny_number(key, (uint64_t)i) >> 63 ? -(double)g[i] : (double)g[i];
        out[k] = (float)sum;
    }
}

/* The relative error of one gradient, against "grad.NAME" or "sketch.NAME". */
static double grad_error(const vectors *v, const char *name, const float *g, int64_t n)
{
    char key[300];
    ft_tensor t;
    float sketch[SKETCH];
    float *want = NULL;
    snprintf(key, sizeof key, "grad.%s", name);
    bool whole = vectors_find(v, &t, key);
    if (!whole) {
        t = vectors_get(v, "sketch.", name);
        sketch_of(sketch, g, n, name);
        g = sketch, n = SKETCH;
    }
    ck_assert_uint_eq(t.bytes, (uint64_t)n * 4);
    want = malloc((size_t)t.bytes);
    memcpy(want, t.data, (size_t)t.bytes);
    double error = relative(g, want, n);
    free(want);
    return error;
}

static int count(const vectors *v)
{
    int n = 0;
    const ft_json *o = ft_json_root(v->doc);
    for (size_t i = 0; i < o->len; i++)
        n += !strncmp(o->item[i].key, "grad.", 5) || !strncmp(o->item[i].key, "sketch.", 7);
    return n;
}

/* What logits may differ by: 1e-4, or that of the largest. */
static double allowed(const vectors *v, const char *name)
{
    ft_tensor t = vectors_get(v, "", name);
    double most = 1;
    for (uint64_t i = 0; i < t.bytes / 4; i++) {
        float f;
        memcpy(&f, (const char *)t.data + 4 * i, 4);
        most = fmax(most, fabs((double)f));
    }
    return 1e-4 * most;
}

/* dir: of the checkpoint; golden: folder and file of what is right. */
static void hold(const char *dir, const char *golden_dir, const char *name)
{
    vectors v;
    training x;
    double worst = 0;
    int grads = 0;
    vectors_open(&v, golden_dir, "golden.safetensors");
    char rows[600];
    snprintf(rows, sizeof rows, "%s/golden.safetensors", golden_dir);
    double logits = score_difference(dir, NULL, rows, &v, "logits");
    ck_assert_msg(logits <= allowed(&v, "logits"), "%s: logits differ by %g", name, logits);
    const char *yaml = tiny_file(tiny_path("full.yaml"),
                                 "version: 1\nmodel: %s\noutput_dir: %s/out\nstages:\n"
                                 "  - { use: data-tokens, with: { path: %s } }\n"
                                 "  - { use: train-sft, with: { max_steps: 1, shuffle: false, "
                                 "compute_dtype: fp32 } }\n",
                                 dir, tiny_dir, rows);
    training_open(&x, yaml);
    double loss = training_step(&x, 0, x.rows.n_rows, 8, NULL);
    ck_assert_msg(fabs(loss - loss_of(&v)) <= 1e-5 * fabs(loss), "%s: loss %.8f, not %.8f", name,
                  loss, loss_of(&v));
    for (uint32_t i = 0; i < x.t.train.g->n_param; i++) {
        int64_t n;
        const g_param *p = &x.t.train.g->param[i];
        const float *g = training_grad(&x, i, &n);
        ck_assert_ptr_nonnull(g);
        double error = grad_error(&v, p->name, g, n);
        ck_assert_msg(error <= 1e-3, "%s: gradient of %s is off by %g", name, p->name, error);
        if (error > worst) worst = error;
        grads++;
    }
    ck_assert_int_eq(grads, count(&v));
    printf("%s: logits %.1e, %d gradients %.1e\n", name, logits, grads, worst);
    training_close(&x);
    vectors_close(&v);
}

static const char *const own[] = { "tied", "untied", "biased", "mistral", "qwen2",  "qwen3",
                                   "phi3", "gemma2", "gemma3", "oss",     "mixture" };

START_TEST(own_models)
{
    char golden[256];
    snprintf(golden, sizeof golden, TINY "/%s", own[_i]);
    hold(tiny_model(own[_i]), golden, own[_i]);
}
END_TEST

/* Every folder of FT_MODELS, which tests/tools/model-diff.py makes: other seeds and shapes. */
START_TEST(given_models)
{
    const char *root = getenv("FT_MODELS");
    DIR *d = root && *root ? opendir(root) : NULL;
    int n = 0;
    for (struct dirent *x; d && (x = readdir(d));) {
        char dir[600];
        snprintf(dir, sizeof dir, "%s/%s", root, x->d_name);
        if (x->d_name[0] == '.') continue;
        hold(dir, dir, x->d_name);
        n++;
    }
    if (d) closedir(d);
    if (root && *root) ck_assert_msg(n > 0, "%s holds no models", root);
}
END_TEST

/* The shared goldens whose model_type a plugin claims. */
static const char *const shared[] = { "llama", "llama3rope", "mistral", "qwen2",   "qwen3",
                                      "phi3",  "gemma2",     "gemma3",  "gpt_oss", "qwen3_moe" };

/* The folder of shared[i]; NULL, said once, where they are not present. */
static const char *shared_model(int i, const char *what)
{
    static char dir[512];
    if (!test_goldens()) {
        if (i == 0) printf("not run: %s (../shared is not present)\n", what);
        return NULL;
    }
    snprintf(dir, sizeof dir, "%s/models/%s", test_goldens(), shared[i]);
    return dir;
}

START_TEST(goldens)
{
    const char *dir = shared_model(_i, "shared models");
    if (dir) hold(dir, dir, shared[_i]);
}
END_TEST

/* The same model with its configuration as most files on the Hub spell it. */
START_TEST(older_spelling)
{
    const char *dir = shared_model(_i, "shared configurations");
    char from[600], rows[600];
    vectors v;
    ft_err e = { 0 };
    if (!dir) return;
    const char *to = tiny_path("hub-%s", shared[_i]);
    tiny_must(ft_make_dirs(to, &e), &e);
    snprintf(from, sizeof from, "%s/config_hub.json", dir);
    tiny_copy(from, tiny_path("hub-%s/config.json", shared[_i]));
    snprintf(from, sizeof from, "%s/model.safetensors", dir);
    tiny_copy(from, tiny_path("hub-%s/model.safetensors", shared[_i]));
    snprintf(rows, sizeof rows, "%s/golden.safetensors", dir);
    vectors_open(&v, dir, "golden.safetensors");
    double most = score_difference(to, NULL, rows, &v, "logits");
    ck_assert_msg(most <= allowed(&v, "logits"), "%s: logits differ by %g", shared[_i], most);
    vectors_close(&v);
}
END_TEST

/* The packed rows of a golden as a file that data-tokens reads. */
static const char *packed_rows(const vectors *v)
{
    static const char *const key[][2] = { { "packed_input_ids", "input_ids" },
                                          { "packed_labels", "labels" },
                                          { "packed_seq_ids", "seq_ids" } };
    ft_err e = { 0 };
    const char *rows = tiny_path("packed.safetensors");
    ft_st_writer *w = ft_st_new(&e);
    for (int k = 0; k < 3; k++) {
        ft_tensor t = vectors_get(v, "", key[k][0]);
        ft_st_declare(w, key[k][1], t.dtype, t.dim, t.ndim, &e);
    }
    tiny_must(ft_st_begin(w, rows, 0, &e), &e);
    for (int k = 0; k < 3; k++) {
        ft_tensor t = vectors_get(v, "", key[k][0]);
        tiny_must(ft_st_write(w, k, t.data, (size_t)t.bytes, &e), &e);
    }
    tiny_must(ft_st_commit(w, &e), &e);
    ft_st_free(w);
    return rows;
}

/* Documents do not see each other, positions and windows restart. */
START_TEST(packed)
{
    const char *dir = shared_model(_i, "shared packed rows");
    vectors v;
    if (!dir) return;
    vectors_open(&v, dir, "golden.safetensors");
    double most = score_difference(dir, NULL, packed_rows(&v), &v, "packed_logits");
    ck_assert_msg(most <= allowed(&v, "packed_logits"), "%s: packed logits differ by %g",
                  shared[_i], most);
    vectors_close(&v);
}
END_TEST

/* gen_ids: the likeliest tokens after gen_prompt, with keys and values kept. */
START_TEST(continued)
{
    enum { MOST = 64 };
    const char *dir = shared_model(_i, "shared continuations");
    int32_t id[MOST], out[MOST];
    vectors v;
    asking a;
    ft_err e = { 0 };
    if (!dir) return;
    vectors_open(&v, dir, "golden.safetensors");
    ft_tensor prompt = vectors_get(&v, "", "gen_prompt"), all = vectors_get(&v, "", "gen_ids");
    ck_assert_int_le(all.dim[1], MOST);
    for (int64_t i = 0; i < all.dim[1]; i++) {
        int64_t k;
        memcpy(&k, (const char *)all.data + 8 * i, 8);
        id[i] = (int32_t)k;
    }
    ask_open(&a, dir, NULL, 2);
    ft_generate_args g = { .max_new_tokens = all.dim[1] - prompt.dim[1], .top_p = 1 };
    ft_continuation t = { .prompt = id, .n_prompt = prompt.dim[1], .out = out };
    tiny_must(ft_generate(&a.asked, &g, 256, &t, 1, NULL, &e), &e);
    ck_assert_int_eq(t.n_out, g.max_new_tokens);
    for (int64_t i = 0; i < t.n_out; i++)
        ck_assert_msg(out[i] == id[t.n_prompt + i], "%s: token %d is %d, not %d", shared[_i],
                      (int)i, out[i], id[t.n_prompt + i]);
    ask_close(&a);
    vectors_close(&v);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("model");
    TCase *t = tcase_create("model");
    tcase_set_timeout(t, 300);
    tcase_add_unchecked_fixture(t, tiny_begin, tiny_end);
    tcase_add_loop_test(t, own_models, 0, sizeof own / sizeof *own);
    enum { N_SHARED = sizeof shared / sizeof *shared };
    tcase_add_loop_test(t, goldens, 0, N_SHARED);
    tcase_add_loop_test(t, older_spelling, 0, N_SHARED);
    tcase_add_loop_test(t, packed, 0, N_SHARED);
    tcase_add_loop_test(t, continued, 0, N_SHARED);
    suite_add_tcase(s, t);
    t = tcase_create("given");
    tcase_set_timeout(t, 3000);
    tcase_add_unchecked_fixture(t, tiny_begin, tiny_end);
    tcase_add_test(t, given_models);
    suite_add_tcase(s, t);
    return s;
}
