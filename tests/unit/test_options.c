/* test_options.c -- what the options of a pipeline file do, seen from outside: which modules an
 * adapter takes and what its file then holds, evaluation and checkpoints during training, rows that
 * are too long, packed rows, and which stages run again and why. */
#include "harness.h"
#include "training.h"
#include "talker.h"

static const char *yaml_of(const char *model, const char *out, const char *stages)
{
    return tiny_file(tiny_path("%s.yaml", out),
                     "version: 1\nmodel: %s\noutput_dir: %s\nseed: 3\nstages:\n%s", model,
                     tiny_path("%s", out), stages);
}

static int run(ft_buf *said, const char *yaml, const char *a, const char *b)
{
    const char *argv[] = { "run", yaml, "--threads", "1", a, b, NULL };
    if (!a) argv[4] = NULL;
    return tiny_run(said, argv);
}

static void says(const ft_buf *said, const char *what)
{
    ck_assert_msg(strstr(said->p, what) != NULL, "no \"%s\" in:\n%s", what, said->p);
}

/* How many lines of a text hold `what`. */
static int lines_with(const char *text, const char *what)
{
    int n = 0;
    for (const char *p = text; (p = strstr(p, what)); n++) {
        p = strchr(p, '\n');
        if (!p) return n + 1;
    }
    return n;
}

static void read_text(ft_buf *b, const char *path)
{
    ft_err e = { 0 };
    b->n = 0;
    tiny_must(ft_file_read(b, path, 1 << 24, &e), &e);
    ft_buf_putc(b, 0);
    b->n--;
}

/* ---- adapters -------------------------------------------------------------------------------- */

typedef struct {
    const char *model, *options;
    const char *want[4];   /* in what is said */
    const char *tensor[4]; /* "name rows columns" of the adapter's file */
    int tensors;           /* there are */
    const char *config[3]; /* in adapter_config.json */
} adapter_case;

#define LAYER "base_model.model.model.layers."
static const adapter_case adapters[] = {
    { "untied",
      "r: 4, target_modules: [q_proj, down_proj]",
      { "q_proj           x 2", "down_proj        x 2" },
      { LAYER "0.self_attn.q_proj.lora_A.weight 4 64", LAYER "1.mlp.down_proj.lora_B.weight 64 4" },
      8,
      { "\"r\": 4,", "\"use_rslora\": false" } },
    { "untied",
      "r: 4, target_modules: '.*self_attn\\.(q|k)_proj'",
      { "q_proj           x 2", "k_proj           x 2" },
      { LAYER "0.self_attn.k_proj.lora_A.weight 4 64" },
      8,
      { NULL } },
    { "untied",
      "r: 4, target_modules: all-linear, exclude_modules: [q_proj, up_proj, lm_head]",
      { "k_proj           x 2", "gate_proj        x 2" },
      { LAYER "1.self_attn.o_proj.lora_A.weight 4 32" },
      20,
      { NULL } },
    { "untied",
      "r: 4, lora_alpha: 6, target_modules: [q_proj, v_proj], use_rslora: true, "
      "rank_pattern: { q_proj: 2, 'layers.1.self_attn.v_proj': 6 }, alpha_pattern: { v_proj: 12 }",
      { "q_proj           x 2", "v_proj           x 2" },
      { LAYER "1.self_attn.q_proj.lora_A.weight 2 64",
        LAYER "0.self_attn.v_proj.lora_A.weight 4 64",
        LAYER "1.self_attn.v_proj.lora_A.weight 6 64" },
      8,
      { "\"q_proj\": 2,", "\"v_proj\": 12", "\"use_rslora\": true" } },
    { "untied",
      "r: 4, target_modules: [q_proj], layers_to_transform: [1], modules_to_save: [lm_head]",
      { "q_proj           x 1", "lm_head.weight   x 1" },
      { LAYER "1.self_attn.q_proj.lora_A.weight 4 64", "base_model.model.lm_head.weight 96 64" },
      3,
      { "\"layers_to_transform\": [1]", "\"lm_head\"" } },
    { "biased",
      "r: 4, target_modules: [q_proj], bias: lora_only",
      { "q_proj           x 2" },
      { LAYER "0.self_attn.q_proj.base_layer.bias 64 0",
        LAYER "1.self_attn.q_proj.lora_A.weight 4 64" },
      6,
      { "\"bias\": \"lora_only\"" } },
    { "biased",
      "r: 4, target_modules: [q_proj], bias: all",
      { "q_proj           x 2" },
      { LAYER "0.self_attn.q_proj.base_layer.bias 64 0", LAYER "0.mlp.up_proj.bias 48 0" },
      18,
      { "\"bias\": \"all\"" } },
};
enum { N_ADAPTERS = sizeof adapters / sizeof *adapters };

static void check_tensor(const vectors *v, const char *law)
{
    char name[200];
    long long rows, columns;
    ck_assert_int_eq(sscanf(law, "%199s %lld %lld", name, &rows, &columns), 3);
    ft_tensor t = vectors_get(v, "", name);
    ck_assert_int_eq(t.dim[0], rows);
    ck_assert_msg(t.ndim == (columns ? 2 : 1) && (!columns || t.dim[1] == columns), "%s", name);
}

static int count_tensors(const vectors *v)
{
    const ft_json *o = ft_json_root(v->doc);
    int n = 0;
    for (size_t i = 0; i < o->len; i++) n += strcmp(o->item[i].key, "__metadata__") != 0;
    return n;
}

static const char *train_stages(const char *adapter, const char *options, const char *train)
{
    static char text[2048];
    snprintf(text, sizeof text,
             "  - { use: data-tokens, with: { path: %s } }\n  - { use: %s, with: { %s } }\n"
             "  - { use: train-sft, with: { %s } }\n",
             tiny_rows(tiny_path("rows.safetensors"), 8, 24, 2, 11), adapter, options, train);
    return text;
}

START_TEST(adapter_options)
{
    const adapter_case *c = &adapters[_i];
    ft_buf said = { 0 }, config = { 0 };
    vectors v;
    const char *out = tiny_path("adapter-%d", _i) + strlen(tiny_dir) + 1;
    const char *stages = train_stages("lora", c->options, "max_steps: 1");
    int status = run(&said, yaml_of(tiny_model(c->model), out, stages), NULL, NULL);
    ck_assert_msg(status == 0, "%s", said.p);
    for (int k = 0; k < 4 && c->want[k]; k++) says(&said, c->want[k]);
    vectors_open(&v, tiny_path("%s/adapter", out), "adapter_model.safetensors");
    for (int k = 0; k < 4 && c->tensor[k]; k++) check_tensor(&v, c->tensor[k]);
    ck_assert_int_eq(count_tensors(&v), c->tensors);
    read_text(&config, tiny_path("%s/adapter/adapter_config.json", out));
    for (int k = 0; k < 3 && c->config[k]; k++) says(&config, c->config[k]);
    vectors_close(&v);
    ft_buf_free(&config);
    ft_buf_free(&said);
}
END_TEST

/* What cannot be is refused before anything runs, with what would do. */
START_TEST(refused_options)
{
    static const struct { const char *adapter, *train, *want;
        int status;
    } cases[] = {
        { "target_modules: [q_prj]", "max_steps: 1",
          "\"q_prj\" matches no module; did you mean \"q_proj\"?", 2 },
        { "target_modules: [q_proj], layers_to_transform: [7]", "max_steps: 1", "7", 2 },
        { "target_modules: [q_proj], exclude_modules: [q_proj]", "max_steps: 1", "q_proj", 2 },
        { "target_modules: [q_proj], modules_to_save: [lm_had]", "max_steps: 1", "lm_had", 2 },
        { "r: 2", "eval_steps: 2, max_steps: 4", "no rows are kept for evaluation", 1 },
        { "r: 2", "early_stopping_patience: 2, max_steps: 4", "eval_steps is 0", 2 },
        { "r: 2", "optim: optim-adam, max_steps: 4", "did you mean \"optim-adamw\"?", 2 },
        { "r: 2", "lr_scheduler_type: cosin, max_steps: 4", "cosin", 2 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ft_buf said = { 0 };
        const char *out = tiny_path("refused-%zu", i) + strlen(tiny_dir) + 1;
        const char *stages = train_stages("lora", cases[i].adapter, cases[i].train);
        int status = run(&said, yaml_of(tiny_model("untied"), out, stages), NULL, NULL);
        ck_assert_msg(status == cases[i].status, "case %zu: status %d: %s", i, status, said.p);
        says(&said, cases[i].want);
        if (status == 2) ck_assert(!ft_is_dir(tiny_path("%s", out)));
        ft_buf_free(&said);
    }
}
END_TEST

/* ---- training -------------------------------------------------------------------------------- */

static const char *chat_rows(void)
{
    ft_buf b = { 0 };
    ft_err e = { 0 };
    for (int i = 0; i < 12; i++)
        ft_buf_printf(&b,
                      "{\"messages\": [{\"role\": \"user\", \"content\": \"say %d\"}, "
                      "{\"role\": \"assistant\", \"content\": \"%.*s\"}]}\n",
                      i, 2 + 4 * i,
                      "one two three four five six seven eight nine ten eleven twelve");
    tiny_must(ft_file_write_buf(tiny_path("chat.jsonl"), &b, &e), &e);
    ft_buf_free(&b);
    return tiny_path("chat.jsonl");
}

static const char *chat_stages(const char *data, const char *tokenizer, const char *train)
{
    static char text[2048];
    snprintf(text, sizeof text,
             "  - { use: data-chatml, with: { path: %s%s } }\n"
             "  - { use: tokenizer-bpe, with: { %s } }\n  - { use: lora, with: { r: 2 } }\n"
             "  - { use: train-sft, with: { per_device_train_batch_size: 2, %s } }\n",
             chat_rows(), data, tokenizer, train);
    return text;
}

START_TEST(evaluation)
{
    ft_buf said = { 0 }, metrics = { 0 };
    const char *yaml = yaml_of(talker_model(), "eval",
                               chat_stages(", val_size: 3", "max_length: 100",
                                           "max_steps: 9, eval_steps: 2, logging_steps: 4"));
    ck_assert_msg(run(&said, yaml, NULL, NULL) == 0, "%s", said.p);
    ck_assert_int_eq(lines_with(said.p, "eval_loss"), 4);
    read_text(&metrics, tiny_path("eval/metrics.jsonl"));
    ck_assert_int_eq(lines_with(metrics.p, "\"loss\""), 9);
    ck_assert_int_eq(lines_with(metrics.p, "\"eval_loss\""), 4);
    ck_assert_int_eq(lines_with(metrics.p, "\"eval_perplexity\""), 4);
    /* Nothing is learned: the first evaluation stays the best, and the third ends it. */
    ck_assert_msg(run(&said, yaml, "train-sft.early_stopping_patience=2",
                      "train-sft.learning_rate=0") == 0, "%s", said.p);
    read_text(&metrics, tiny_path("eval/metrics.jsonl"));
    ck_assert_int_eq(lines_with(metrics.p, "\"eval_loss\""), 3);
    ck_assert_int_eq(lines_with(metrics.p, "\"loss\""), 6);
    ft_buf_free(&said);
    ft_buf_free(&metrics);
}
END_TEST

/* ---- rows that are too long ------------------------------------------------------------------ */

START_TEST(overlong)
{
    ft_buf said = { 0 };
    const char *yaml = yaml_of(talker_model(), "long",
                               chat_stages("", "max_length: 34", "num_train_epochs: 1"));
    ck_assert_int_eq(run(&said, yaml, NULL, NULL), 1);
    says(&said, "row at line 6 has 38 tokens, more than max_length 34");
    ck_assert_msg(run(&said, yaml, "tokenizer-bpe.on_overlong=drop", NULL) == 0, "%s", said.p);
    says(&said, "train-sft: 5 rows");
    ck_assert_msg(run(&said, yaml, "tokenizer-bpe.on_overlong=truncate", NULL) == 0, "%s", said.p);
    says(&said, "train-sft: 12 rows");
    ft_buf_free(&said);
}
END_TEST

/* ---- packing --------------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Losses of all trained tokens, sorted; their number. */
static int64_t token_losses(const char *yaml, double *loss, int64_t most, int64_t *rows)
{
    training x;
    int64_t n = 0;
    training_open(&x, yaml);
    *rows = x.rows.n_rows;
    for (int64_t i = 0; i < x.rows.n_rows; i++) n += ft_rows_trained(&x.rows, &x.lineup.tokens, i);
    ck_assert_int_le(n, most);
    training_step(&x, 0, x.rows.n_rows, x.rows.n_rows, loss);
    training_close(&x);
    qsort(loss, (size_t)n, sizeof *loss, by_size);
    return n;
}

/* Each token's loss is the same bits, packed by the tokenizer stage or a row of its own. */
START_TEST(packed)
{
    enum { MOST = 2000 };
    static double alone[MOST], together[MOST];
    int64_t rows[2];
    for (int bf16 = 0; bf16 < 2; bf16++) {
        const char *train = bf16 ? "max_steps: 1, shuffle: false, compute_dtype: bf16"
                                 : "max_steps: 1, compute_dtype: fp32";
        const char *one = yaml_of(talker_model(), "one", chat_stages("", "max_length: 128", train));
        int64_t n = token_losses(one, alone, MOST, &rows[0]);
        const char *all = yaml_of(talker_model(), "all",
                                  chat_stages("", "max_length: 128, packing: true", train));
        ck_assert_int_eq(token_losses(all, together, MOST, &rows[1]), n);
        ck_assert_int_eq(rows[0], 12);
        ck_assert_int_lt(rows[1], 6);
        ck_assert_int_eq(memcmp(alone, together, (size_t)n * sizeof *alone), 0);
    }
}
END_TEST

/* ---- again ----------------------------------------------------------------------------------- */

START_TEST(again)
{
    ft_buf said = { 0 };
    const char *yaml = yaml_of(tiny_model("untied"), "again",
                               train_stages("lora", "r: 2", "max_steps: 1"));
    static const struct { const char *a, *b, *want[2];
    } cases[] = {
        { NULL, NULL, { "data-tokens: runs: it has not run yet", "train-sft: runs: it has not" } },
        { NULL, NULL, { "data-tokens: reused, nothing has changed", "train-sft: reused" } },
        { "train-sft.max_steps=2", NULL, { "train-sft: runs: max_steps was 1, is 2" } },
        { "train-sft.max_steps=2",
          "lora.r=3",
          { "data-tokens: reused", "train-sft: runs: adapter of lora changed" } },
        { "--from", "train-sft", { "data-tokens: reused", "train-sft: runs: asked for" } },
        { "--from", "data-tokens", { "data-tokens: runs: asked for", "train-sft: runs: " } },
        { "--only", "data-tokens", { "data-tokens: runs: asked for" } },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int status = run(&said, yaml, cases[i].a, cases[i].b);
        ck_assert_msg(status == 0, "case %zu: %s", i, said.p);
        for (int k = 0; k < 2 && cases[i].want[k]; k++) says(&said, cases[i].want[k]);
    }
    ck_assert_msg(!strstr(said.p, "train-sft: "), "%s", said.p);
    ck_assert_int_eq(run(&said, yaml, "--from", "train-sf"), 2);
    says(&said, "did you mean train-sft?");
    ft_buf_free(&said);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("options");
    TCase *t = tcase_create("options");
    tcase_set_timeout(t, 300);
    tcase_add_unchecked_fixture(t, tiny_begin, tiny_end);
    tcase_add_loop_test(t, adapter_options, 0, N_ADAPTERS);
    tcase_add_test(t, refused_options);
    tcase_add_test(t, evaluation);
    tcase_add_test(t, overlong);
    tcase_add_test(t, packed);
    tcase_add_test(t, again);
    suite_add_tcase(s, t);
    return s;
}
