/* test_adapters.c -- adapters against PEFT: logits and gradients at the start; ten AdamW steps of
 * the program from the same first values (init_adapter) on the same rows: losses within 1e-4,
 * gradient norms within 1e-3 relative, the adapter at the end within 1e-3 of the way it went.
 *
 * A case is a folder as ../shared/goldens/adapters has them; own ones (LoRA, rsLoRA, DoRA, trained
 * biases) are made by tests/tools/make-tiny-model.py. */
#include "harness.h"
#include "training.h"

typedef struct {
    char dir[512], model[512], plugin[16];
    ft_json_doc *doc;
    const ft_json *about;
    vectors batches, first;
} adapter_case;

static bool says_yes(const ft_json *o, const char *key)
{
    const ft_json *v = ft_json_get(o, key);
    return v && v->type == FT_JSON_BOOL && v->truth;
}

static ft_json_doc *json_of(const char *path, ft_buf *text)
{
    ft_err e = { 0 };
    tiny_must(ft_file_read(text, path, 1 << 20, &e), &e);
    ft_json_doc *d = ft_json_parse(path, text->p, text->n, &e);
    ck_assert_msg(d != NULL, "%s", e.msg);
    return d;
}

static void case_open(adapter_case *c, ft_buf *text, const char *root, const char *models,
                      const char *name)
{
    char path[600];
    ft_buf more = { 0 };
    snprintf(c->dir, sizeof c->dir, "%s/%s", root, name);
    snprintf(path, sizeof path, "%s/case.json", c->dir);
    c->doc = json_of(path, text);
    c->about = ft_json_root(c->doc);
    const char *base = ft_json_str(c->about, "base", "");
    if (models) snprintf(c->model, sizeof c->model, "%s/%s", models, base);
    else snprintf(c->model, sizeof c->model, "%s", tiny_model(base));
    snprintf(path, sizeof path, "%s/adapter_init/adapter_config.json", c->dir);
    ft_json_doc *config = json_of(path, &more);
    snprintf(c->plugin, sizeof c->plugin, "%s",
             says_yes(ft_json_root(config), "use_dora") ? "dora" : "lora");
    ft_json_done(config);
    ft_buf_free(&more);
    vectors_open(&c->batches, c->dir, "batches.safetensors");
    vectors_open(&c->first, c->dir, "first.safetensors");
}

static void case_close(adapter_case *c, ft_buf *text)
{
    vectors_close(&c->batches);
    vectors_close(&c->first);
    ft_json_done(c->doc);
    ft_buf_free(text);
}

static const char *write_yaml(const adapter_case *c)
{
    bool packed = says_yes(c->about, "quantized_base");
    return tiny_file(tiny_path("run.yaml"),
                     "version: 1\nmodel: %s\noutput_dir: %s/out\nstages:\n"
                     "  - { use: data-tokens, with: { path: %s/batches.safetensors } }\n"
                     "%s"
                     "  - { use: %s, with: { init_adapter: %s/adapter_init } }\n"
                     "  - { use: train-sft, with: { shuffle: false, num_train_epochs: 1, "
                     "learning_rate: 1e-3, weight_decay: 0.01,\n"
                     "      max_grad_norm: 1, lr_scheduler_type: constant, compute_dtype: fp32 } "
                     "}\n",
                     c->model, tiny_dir, c->dir,
                     packed ? "  - { use: quant-nf4, with: { double_quant: true } }\n" : "",
                     c->plugin, c->dir);
}

/* ---- the start: logits (where the base is not packed) and gradients of the first batch ------- */

static double check_gradients(const adapter_case *c, const char *yaml)
{
    training x;
    double worst = 0;
    int n_grads = 0;
    training_open(&x, yaml);
    training_step(&x, 0, x.lineup.tokens.rows_per_batch, 8, NULL);
    for (uint32_t i = 0; i < x.t.train.g->n_param; i++) {
        int64_t n;
        const float *g = training_grad(&x, i, &n);
        if (!g) continue;
        ft_tensor t = vectors_get(&c->first, "grad.", x.t.train.g->param[i].name);
        ck_assert_uint_eq(t.bytes, (uint64_t)n * 4);
        float *want = malloc((size_t)t.bytes);
        memcpy(want, t.data, (size_t)t.bytes);
        double error = relative(g, want, n);
        free(want);
        ck_assert_msg(error <= 1e-3, "%s: gradient of %s is off by %g", c->dir, t.name, error);
        if (error > worst) worst = error;
        n_grads++;
    }
    const ft_json *o = ft_json_root(c->first.doc);
    for (size_t i = 0; i < o->len; i++) n_grads -= !strncmp(o->item[i].key, "grad.", 5);
    ck_assert_int_eq(n_grads, 0);
    training_close(&x);
    return worst;
}

/* ---- ten steps ------------------------------------------------------------------------------- */

static double check_losses(const adapter_case *c)
{
    ft_buf text = { 0 };
    ft_err e = { 0 };
    double worst = 0;
    const ft_json *losses = ft_json_get(c->about, "losses"),
                  *norms = ft_json_get(c->about, "grad_norms");
    tiny_must(ft_file_read(&text, tiny_path("out/metrics.jsonl"), 1 << 20, &e), &e);
    char *line = text.p;
    for (size_t i = 0; i < losses->len; i++) {
        char *end = memchr(line, '\n', text.n - (size_t)(line - text.p));
        ck_assert_ptr_nonnull(end);
        ft_json_doc *d = ft_json_parse("metrics", line, (size_t)(end - line), &e);
        double loss = 0, norm = 0, want = 0, want_norm = 0;
        ck_assert(d && ft_json_as_real(ft_json_get(ft_json_root(d), "loss"), &loss) &&
                  ft_json_as_real(ft_json_get(ft_json_root(d), "grad_norm"), &norm) &&
                  ft_json_as_real(&losses->item[i], &want) &&
                  ft_json_as_real(&norms->item[i], &want_norm));
        ft_json_done(d);
        double off = fabs(loss - want);
        ck_assert_msg(off <= 1e-4, "%s: loss of step %d is %.7f, not %.7f", c->dir, (int)i + 1,
                      loss, want);
        ck_assert_msg(fabs(norm - want_norm) <= 1e-3 * want_norm,
                      "%s: norm of step %d is %.7f, not %.7f", c->dir, (int)i + 1, norm, want_norm);
        if (off > worst) worst = off;
        line = end + 1;
    }
    ft_buf_free(&text);
    return worst;
}

/* Element i of an adapter's tensor, as it is stored. */
static double element(const ft_tensor *t, uint64_t i)
{
    uint32_t bits = 0;
    float f;
    if (t->dtype == FT_BF16) memcpy((char *)&bits + 2, (const char *)t->data + 2 * i, 2);
    else memcpy(&bits, (const char *)t->data + 4 * i, 4);
    memcpy(&f, &bits, 4);
    return (double)f;
}

/* ||ours - theirs|| / ||theirs - start|| over all tensors together, and of the worst one. */
static double check_final(const adapter_case *c)
{
    char dir[600];
    vectors ours, theirs, start;
    double diff = 0, way = 0;
    size_t n = 0;
    vectors_open(&ours, tiny_path("out/adapter"), "adapter_model.safetensors");
    snprintf(dir, sizeof dir, "%s/adapter_final", c->dir);
    vectors_open(&theirs, dir, "adapter_model.safetensors");
    snprintf(dir, sizeof dir, "%s/adapter_init", c->dir);
    vectors_open(&start, dir, "adapter_model.safetensors");
    const ft_json *o = ft_json_root(theirs.doc);
    for (size_t i = 0; i < o->len; i++) {
        if (!strcmp(o->item[i].key, "__metadata__")) continue;
        ft_tensor a = vectors_get(&ours, "", o->item[i].key),
                  b = vectors_get(&theirs, "", o->item[i].key),
                  s = vectors_get(&start, "", o->item[i].key);
        ck_assert_uint_eq(a.bytes, b.bytes);
        for (uint64_t k = 0; k < b.bytes / 4; k++) {
            double x = element(&a, k) - element(&b, k), y = element(&b, k) - element(&s, k);
            diff += x * x;
            way += y * y;
        }
        n++;
    }
    const ft_json *all = ft_json_root(ours.doc);
    ck_assert_uint_eq(all->len - (ft_json_get(all, "__metadata__") != NULL), n);
    vectors_close(&ours);
    vectors_close(&theirs);
    vectors_close(&start);
    ck_assert_msg(diff <= 1e-6 * way, "%s: the adapter is off by %g of its way", c->dir,
                  sqrt(diff / way));
    return sqrt(diff / way);
}

/* Logits of the adapter that PEFT trained, where the case has them. */
static void check_final_logits(const adapter_case *c, const char *first_rows)
{
    char path[600], adapter[600];
    vectors v;
    snprintf(path, sizeof path, "%s/final.safetensors", c->dir);
    snprintf(adapter, sizeof adapter, "%s/adapter_final", c->dir);
    if (!ft_file_exists(path)) return;
    vectors_open(&v, c->dir, "final.safetensors");
    double most = score_difference(c->model, adapter, first_rows, &v, "logits");
    ck_assert_msg(most <= 1e-4, "%s: logits after training differ by %g", c->dir, most);
    vectors_close(&v);
}

/* The first batch as a file of rows. */
static const char *first_rows(const adapter_case *c)
{
    ft_err e = { 0 };
    ft_tensor t = vectors_get(&c->batches, "", "input_ids");
    const char *path = tiny_path("first.safetensors");
    ft_st_writer *w = ft_st_new(&e);
    ft_st_declare(w, "input_ids", t.dtype, t.dim + 1, 2, &e);
    tiny_must(ft_st_begin(w, path, 0, &e), &e);
    tiny_must(ft_st_write(w, 0, t.data, (size_t)t.bytes / (size_t)t.dim[0], &e), &e);
    tiny_must(ft_st_commit(w, &e), &e);
    ft_st_free(w);
    return path;
}

static void hold(const char *root, const char *models, const char *name)
{
    adapter_case c;
    ft_buf text = { 0 }, said = { 0 };
    char adapter[600];
    case_open(&c, &text, root, models, name);
    const char *yaml = write_yaml(&c), *rows = first_rows(&c), *argv[] = { "run", yaml, NULL };
    bool packed = says_yes(c.about, "quantized_base");
    snprintf(adapter, sizeof adapter, "%s/adapter_init", c.dir);
    if (!packed) {
        double logits = score_difference(c.model, adapter, rows, &c.first, "logits");
        ck_assert_msg(logits <= 1e-4, "%s: logits differ by %g", name, logits);
    }
    double grads = check_gradients(&c, yaml);
    int status = tiny_run(&said, argv);
    ck_assert_msg(status == 0, "%s: status %d: %s", name, status, said.p);
    double losses = check_losses(&c), final = check_final(&c);
    if (!packed) check_final_logits(&c, rows);
    printf("%s: gradients %.1e, losses %.1e, adapter %.1e\n", name, grads, losses, final);
    ft_buf_free(&said);
    case_close(&c, &text);
    ck_assert_int_eq(ft_remove_tree(tiny_path("out"), NULL), 0);
}

static const char *const own[] = { "lora", "rslora", "dora", "bias", "experts", "experts_down" };

START_TEST(own_cases)
{
    hold(TINY, NULL, own[_i]);
}
END_TEST

/* Merged and exported the model is what base and adapter are together; experts are where files have
 * them. */
START_TEST(exported)
{
    static const char *const names[] = { "lora", "experts", "experts_down" };
    adapter_case c;
    ft_buf text = { 0 }, said = { 0 };
    vectors v;
    case_open(&c, &text, TINY, NULL, names[_i]);
    const char *rows = first_rows(&c);
    const char *yaml = tiny_file(tiny_path("export.yaml"),
                                 "version: 1\nmodel: %s\noutput_dir: %s/merged\nstages:\n"
                                 "  - { use: data-tokens, with: { path: "
                                 "%s/batches.safetensors } }\n"
                                 "  - { use: lora, with: { init_adapter: %s/adapter_init } }\n"
                                 "  - { use: train-sft, with: { max_steps: 2, "
                                 "compute_dtype: fp32 } }\n  - { use: merge }\n"
                                 "  - { use: export-hf }\n",
                                 c.model, tiny_dir, c.dir, c.dir);
    const char *run[] = { "run", yaml, NULL };
    const char *out = tiny_path("want.safetensors"),
               *score[] = { "score",    "--model", c.model, "--tokens", rows,
                            "--out",    out,       "--adapter", tiny_path("merged/adapter"), NULL };
    ck_assert_msg(tiny_run(&said, run) == 0, "%s", said.p);
    ck_assert_msg(tiny_run(&said, score) == 0, "%s", said.p);
    vectors_open(&v, tiny_dir, "want.safetensors");
    double most = score_difference(tiny_path("merged/model"), NULL, rows, &v, "logits");
    ck_assert_msg(most <= 1e-4, "%s: logits differ by %g", names[_i], most);
    vectors_close(&v);
    vectors_open(&v, tiny_path("merged/model"), "model.safetensors");
    ft_tensor t;
    ck_assert(_i != 2 || vectors_find(&v, &t, "model.layers.1.mlp.experts.3.up_proj.weight"));
    vectors_close(&v);
    ft_buf_free(&said);
    case_close(&c, &text);
    ck_assert_int_eq(ft_remove_tree(tiny_path("merged"), NULL), 0);
}
END_TEST

/* Of the shared cases: every LoRA or DoRA one whose base a model plugin knows. */
static const char *const shared[] = { "lora",           "lora_rslora", "lora_pattern",
                                      "lora_dora",      "qlora",       "qdora",
                                      "lora_save_head", "qwen2_lora",  "qwen2_dora" };

START_TEST(shared_cases)
{
    char root[512];
    if (!test_goldens()) {
        if (_i == 0) printf("not run: shared adapters (../shared is not present)\n");
        return;
    }
    snprintf(root, sizeof root, "%s/adapters", test_goldens());
    hold(root, test_goldens(), shared[_i]);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("adapters");
    TCase *t = tcase_create("adapters");
    tcase_set_timeout(t, 300);
    tcase_add_unchecked_fixture(t, tiny_begin, tiny_end);
    tcase_add_loop_test(t, own_cases, 0, sizeof own / sizeof *own);
    tcase_add_loop_test(t, exported, 0, 3);
    tcase_add_loop_test(t, shared_cases, 0, sizeof shared / sizeof *shared);
    suite_add_tcase(s, t);
    return s;
}
