/* test_config.c -- pipeline files: what is accepted, what is refused and with which words.
 *
 * tests/data/config/NAME.yaml with a NAME.txt beside it is wrong, and NAME.txt is all that the
 * program prints for it.  After a deliberate change of words: FT_REWRITE=1 writes what is printed
 * now; read the difference before it is kept. */
#include "harness.h"
#include <dirent.h>
#include <math.h>
#include <time.h>
#include <unistd.h>
#include "core/base/json.h"
#include "core/config/canon.h"
#include "core/config/config.h"
#include "core/config/value.h"

#define DATA "tests/data/config/"

/* ---- tables in the manner of real plugins --------------------------------------------------- */
typedef struct {
    int64_t r, lora_alpha;
    double lora_dropout;
    ft_list target_modules, modules_to_save;
    const char *bias, *init_adapter;
    bool use_rslora;
    ft_ints layers_to_transform;
    ft_map rank_pattern;
} lora;
static const ft_param lora_params[] = {
    { "r", FT_INT, offsetof(lora, r), "8", 1, 65536, 0, "rank" },
    { "lora_alpha", FT_INT, offsetof(lora, lora_alpha), "8", 1, 1e6, 0, "scale times rank" },
    { "lora_dropout", FT_REAL, offsetof(lora, lora_dropout), "0.0", 0, 1, 0, "dropout" },
    { "target_modules", FT_STR_OR_LIST, offsetof(lora, target_modules), "all-linear", 0, 0, 0,
      "where" },
    { "modules_to_save", FT_LIST, offsetof(lora, modules_to_save), "", 0, 0, 0, "trained whole" },
    { "bias", FT_STR, offsetof(lora, bias), "none", 0, 0,
      (const char *const[]){ "none", "all", "lora_only", 0 }, "biases" },
    { "init_adapter", FT_PATH, offsetof(lora, init_adapter), "", 0, 0, 0, "start" },
    { "use_rslora", FT_BOOL, offsetof(lora, use_rslora), "false", 0, 0, 0, "scale by sqrt(r)" },
    { "layers_to_transform", FT_INTS, offsetof(lora, layers_to_transform), "", 0, 4096, 0,
      "layers" },
    { "rank_pattern", FT_MAP, offsetof(lora, rank_pattern), "", 0, 65536, 0, "ranks by name" },
    { 0 },
};
typedef struct {
    int64_t max_steps, per_device_train_batch_size;
    double learning_rate, num_train_epochs, weight_decay;
    const char *lr_scheduler_type, *gradient_checkpointing, *note;
    bool shuffle;
} train;
static const ft_param train_params[] = {
    { "per_device_train_batch_size", FT_INT, offsetof(train, per_device_train_batch_size), "8", 1,
      4096, 0, "rows" },
    { "max_steps", FT_INT, offsetof(train, max_steps), "-1", -1, 1e15, 0, "steps" },
    { "learning_rate", FT_REAL, offsetof(train, learning_rate), "2e-5", 0, 1e3, 0, "rate" },
    { "num_train_epochs", FT_REAL, offsetof(train, num_train_epochs), "3", 0, 1e6, 0, "epochs" },
    { "weight_decay", FT_REAL, offsetof(train, weight_decay), "0", 0, 1e3, 0, "decay" },
    { "lr_scheduler_type", FT_STR, offsetof(train, lr_scheduler_type), "linear", 0, 0,
      (const char *const[]){ "constant", "linear", "cosine", 0 }, "schedule" },
    { "gradient_checkpointing", FT_STR, offsetof(train, gradient_checkpointing), "auto", 0, 0,
      (const char *const[]){ "auto", "true", "false", 0 }, "recompute" },
    { "note", FT_STR, offsetof(train, note), "", 0, 0, 0, "free text" },
    { "shuffle", FT_BOOL, offsetof(train, shuffle), "true", 0, 0, 0, "order" },
    { 0 },
};
typedef struct { const char *path; } data;
static const ft_param data_params[] = {
    { "path", FT_PATH, offsetof(data, path), NULL, 0, 0, 0, "the rows" },
    { 0 },
};
static const struct { const char *name; const ft_param *params; size_t size; } plugins[] = {
    { "lora", lora_params, sizeof(lora) },
    { "train-sft", train_params, sizeof(train) },
    { "data-chatml", data_params, sizeof(data) },
};

/* What ft_bind_stages does, without shared objects. */
static void bind(ft_config *c, ft_diags *d)
{
    for (size_t i = 0; i < c->n_stages; i++) {
        for (size_t k = 0; k < 3; k++) {
            if (strcmp(plugins[k].name, c->stage[i].use)) continue;
            c->stage[i].params = plugins[k].params;
            c->stage[i].config_size = plugins[k].size;
        }
        if (!c->stage[i].params) ft_diag(d, c->stage[i].use_at, "no plugin \"%s\"",
            c->stage[i].use);
    }
}

static int open_with(ft_config *c, const char *path, const char *const *over, size_t n, ft_diags *d)
{
    *c = (ft_config){ 0 };
    ft_config_load(c, path, over, n, d);
    bind(c, d);
    return ft_config_type(c, 0, d);
}

/* Writes text to a file of the given name in a fresh folder, and returns the path. */
static const char *temp_file(const char *name, const char *text, size_t n)
{
    static char path[4200], dir[64];
    snprintf(dir, sizeof dir, "/tmp/ft-config-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/%s", dir, name);
    ft_err e = { 0 };
    ck_assert_msg(!ft_file_write(path, text, n, &e), "%s", e.msg);
    return path;
}
static void temp_done(const char *path)
{
    char dir[4200];
    snprintf(dir, sizeof dir, "%s", path);
    *strrchr(dir, '/') = 0;
    ft_remove_tree(dir, NULL);
}

/* Opens `text` as a file with overrides; the printed errors ("" when there are none) in out. */
static void open_text(ft_config *c, ft_buf *out, const char *text, const char *const *over,
    size_t n)
{
    ft_diags d = { 0 };
    const char *path = temp_file("t.yaml", text, strlen(text));
    open_with(c, path, over, n, &d);
    ft_buf_puts(out, "");
    ft_diags_write(out, &d);
    ft_diags_free(&d);
    temp_done(path);
}

/* ---- wrong files ---------------------------------------------------------------------------- */
static void check_wrong(const char *name)
{
    char yaml[512], txt[512];
    ft_config c;
    ft_diags d = { 0 };
    ft_buf got = { 0 }, want = { 0 };
    ft_err e = { 0 };
    snprintf(yaml, sizeof yaml, DATA "%s.yaml", name);
    snprintf(txt, sizeof txt, DATA "%s.txt", name);
    ck_assert_msg(open_with(&c, yaml, NULL, 0, &d) != 0, "%s: accepted", name);
    ft_diags_write(&got, &d);
    if (getenv("FT_REWRITE")) ck_assert_int_eq(ft_file_write_buf(txt, &got, &e), 0);
    ck_assert_msg(!ft_file_read(&want, txt, 1 << 16, &e), "%s", e.msg);
    ck_assert_msg(got.p && want.p && !strcmp(got.p, want.p), "%s: printed\n%s\ninstead of\n%s",
        name,
                  got.p, want.p);
    ft_buf_free(&got);
    ft_buf_free(&want);
    ft_diags_free(&d);
    ft_config_free(&c);
}

START_TEST(wrong_files)
{
    int n = 0;
    unsetenv("FT_TEST_NOT_SET");
    DIR *dir = opendir(DATA);
    ck_assert_ptr_nonnull(dir);
    for (struct dirent *x; (x = readdir(dir));) {
        size_t k = strlen(x->d_name);
        if (k < 5 || strcmp(x->d_name + k - 4, ".txt")) continue;
        x->d_name[k - 4] = 0;
        check_wrong(x->d_name);
        n++;
    }
    closedir(dir);
    ck_assert_int_ge(n, 40);
}
END_TEST

/* ---- what is accepted ----------------------------------------------------------------------- */
static const ft_config_stage *stage(const ft_config *c, const char *id)
{
    for (size_t i = 0; i < c->n_stages; i++) {
        if (!strcmp(c->stage[i].id, id)) return &c->stage[i];
    }
    ck_abort_msg("no stage %s", id);
    return NULL;
}

START_TEST(typed_by_schema)
{
    ft_config c;
    ft_buf out = { 0 };
    open_text(&c, &out,
              "version: 1\nname: 12\nmemory_limit: 1.5 GiB\nstages:\n"
              "  - use: lora\n    with:\n      r: 1e2\n      lora_alpha: +16.0\n"
              "      lora_dropout: 5e-2\n"
              "      target_modules: '.*\\.q_proj$'\n      modules_to_save: [lm_head, 12, true]\n"
              "      layers_to_transform: 3\n      rank_pattern: { q_proj: 4, \"k.*\": 1e1 }\n"
              "      bias:\n      use_rslora: true\n"
              "  - use: train-sft\n"
              "    with: { learning_rate: 2e-4, note: yes, max_steps: ~, shuffle: false,\n"
              "            gradient_checkpointing: true, num_train_epochs: .5 }\n", NULL, 0);
    ck_assert_str_eq(out.p, "");
    ck_assert_str_eq(c.name, "12");
    ck_assert_str_eq(c.output_dir, "runs/12");
    ck_assert_int_eq(c.seed, 42);
    ck_assert_int_eq(c.memory_bytes, 1610612736);
    const lora *l = stage(&c, "lora")->config;
    ck_assert_int_eq(l->r, 100);
    ck_assert_int_eq(l->lora_alpha, 16);
    ck_assert_double_eq(l->lora_dropout, 0.05);
    ck_assert(l->target_modules.one && l->target_modules.n == 1);
    ck_assert_str_eq(l->target_modules.v[0], ".*\\.q_proj$");
    ck_assert_uint_eq(l->modules_to_save.n, 3);
    ck_assert_str_eq(l->modules_to_save.v[1], "12");
    ck_assert_str_eq(l->modules_to_save.v[2], "true");
    ck_assert(l->layers_to_transform.n == 1 && l->layers_to_transform.v[0] == 3);
    ck_assert(l->rank_pattern.n == 2 && l->rank_pattern.value[1] == 10);
    ck_assert_str_eq(l->rank_pattern.key[1], "k.*");
    ck_assert_str_eq(l->bias, "none");
    ck_assert_str_eq(l->init_adapter, "");
    ck_assert(l->use_rslora);
    const train *t = stage(&c, "train-sft")->config;
    ck_assert_double_eq(t->learning_rate, 2e-4);
    ck_assert_str_eq(t->note, "yes");
    ck_assert_int_eq(t->max_steps, -1);
    ck_assert(!t->shuffle);
    ck_assert_str_eq(t->gradient_checkpointing, "true");
    ck_assert_double_eq(t->num_train_epochs, 0.5);
    ft_buf_free(&out);
    ft_config_free(&c);
}
END_TEST

START_TEST(extends)
{
    ft_config c;
    ft_diags d = { 0 };
    ck_assert_int_eq(open_with(&c, DATA "ok-child.yaml", NULL, 0, &d), 0);
    ck_assert_str_eq(c.name, "child");
    ck_assert_str_eq(c.output_dir, "runs/child-16");
    ck_assert_int_eq(c.seed, 5);
    static const char *const order[] = { "data-chatml", "lora", "train-sft", "again" };
    ck_assert_uint_eq(c.n_stages, 4);
    for (size_t i = 0; i < 4; i++) ck_assert_str_eq(c.stage[i].id, order[i]);
    const lora *l = c.stage[1].config;
    ck_assert_int_eq(l->r, 16);       /* the child's variable in the base's reference */
    ck_assert_int_eq(l->lora_alpha, 20);
    ck_assert_uint_eq(l->rank_pattern.n, 2); /* maps merge */
    ck_assert(l->target_modules.one);        /* lists are replaced */
    const train *t = c.stage[2].config;
    ck_assert_double_eq(t->learning_rate, 1e-4);
    ck_assert_int_eq(t->max_steps, 1000);
    ft_config_free(&c);

    /* Places stay in the file that said it. */
    ck_assert_int_ne(open_with(&c, DATA "extends-wrong-base.yaml", NULL, 0, &d), 0);
    ck_assert_uint_eq(d.n, 2);
    ft_buf out = { 0 };
    ft_diags_write(&out, &d);
    ck_assert_ptr_nonnull(strstr(out.p,
        "config/extends-wrong-base.yaml:4:13: unknown key \"weight_decya\""));
    ck_assert_ptr_nonnull(strstr(out.p, "config/wrong-base.yaml:4:13: unknown key \"lora_alhpa\""));
    ft_buf_free(&out);
    ft_diags_free(&d);
    ft_config_free(&c);
}
END_TEST

/* A list of bases: the later wins, the file wins over all. */
START_TEST(extends_list)
{
    ft_config c;
    ft_diags d = { 0 };
    ft_err e = { 0 };
    char dir[] = "/tmp/ft-config-XXXXXX", path[3][128];
    static const char *const text[] = {
        "version: 1\nseed: 1\nthreads: 1\nname: a\n", "seed: 2\nthreads: 2\n",
        "extends: [0.yaml, 1.yaml]\nthreads: 3\n",
    };
    ck_assert_ptr_nonnull(mkdtemp(dir));
    for (int i = 0; i < 3; i++) {
        snprintf(path[i], sizeof path[i], "%s/%d.yaml", dir, i);
        ck_assert_int_eq(ft_file_write(path[i], text[i], strlen(text[i]), &e), 0);
    }
    ck_assert_int_eq(open_with(&c, path[2], NULL, 0, &d), 0);
    ck_assert(c.seed == 2 && c.threads == 3);
    ck_assert_str_eq(c.name, "a");
    ft_config_free(&c);
    ft_diags_free(&d);
    ft_remove_tree(dir, NULL);
}
END_TEST

/* 17 files in a row, and a file that doubles at each level. */
START_TEST(extends_bounds)
{
    ft_config c;
    ft_err e = { 0 };
    for (int wide = 0; wide < 2; wide++) {
        char dir[] = "/tmp/ft-config-XXXXXX", path[128], text[128];
        ck_assert_ptr_nonnull(mkdtemp(dir));
        for (int i = 0; i < 20; i++) {
            snprintf(path, sizeof path, "%s/%d.yaml", dir, i);
            snprintf(text, sizeof text, wide && i > 10 ? "version: 1\n" : wide
                     ? "version: 1\nextends: [%d.yaml, %d.yaml, %d.yaml]\n"
                     : "version: 1\nextends: %d.yaml\n", i + 1, i + 1, i + 1);
            ck_assert_int_eq(ft_file_write(path, text, strlen(text), &e), 0);
        }
        ft_diags d = { 0 };
        ft_buf out = { 0 };
        snprintf(path, sizeof path, "%s/0.yaml", dir);
        ck_assert_int_ne(open_with(&c, path, NULL, 0, &d), 0);
        ft_diags_write(&out, &d);
        ck_assert_ptr_nonnull(strstr(out.p,
            wide ? "reads more than 64 files" : "more than 16 files deep"));
        ft_buf_free(&out);
        ft_diags_free(&d);
        ft_config_free(&c);
        ft_remove_tree(dir, NULL);
    }
}
END_TEST

static const char base[] =
    "version: 1\nseed: 3\nvars: { n: 4 }\nstages:\n  - use: lora\n"
    "    with: { r: \"${vars.n}\", bias: all }\n"
    "  - use: train-sft\n";

START_TEST(overrides)
{
    static const char *const over[] = {
        "lora.target_modules=[q_proj,v_proj]", "train-sft.learning_rate=1e-4", "vars.n=64",
            "seed=7",
        "~lora.bias", "lora.rank_pattern={q_proj: 2}", "train-sft.note=a=b", "name=\"x y\"",
        "train-sft.max_steps=", "lora.init_adapter=tests/data/config",
    };
    ft_config c;
    ft_buf out = { 0 };
    open_text(&c, &out, base, over, sizeof over / sizeof *over);
    ck_assert_str_eq(out.p, "");
    ck_assert_int_eq(c.seed, 7);
    ck_assert_str_eq(c.name, "x y");
    const lora *l = stage(&c, "lora")->config;
    ck_assert_uint_eq(l->target_modules.n, 2);
    ck_assert_str_eq(l->target_modules.v[1], "v_proj");
    ck_assert_int_eq(l->r, 64);
    ck_assert_str_eq(l->bias, "none");
    ck_assert_double_eq(l->rank_pattern.value[0], 2);
    const train *t = stage(&c, "train-sft")->config;
    ck_assert_double_eq(t->learning_rate, 1e-4);
    ck_assert_str_eq(t->note, "a=b");
    ft_config_free(&c);

    /* Another plugin keeps the id; a stage can be left out. */
    static const char *const other[] = { "train-sft.use=lora", "~lora", "~seed", "train-sft.r=5" };
    open_text(&c, &out, base, other, 4);
    ck_assert_str_eq(out.p, "");
    ck_assert_uint_eq(c.n_stages, 1);
    ck_assert_str_eq(c.stage[0].id, "train-sft");
    ck_assert_str_eq(c.stage[0].use, "lora");
    ck_assert_int_eq(((const lora *)c.stage[0].config)->r, 5);
    ck_assert_int_eq(c.seed, 42);
    ft_buf_free(&out);
    ft_config_free(&c);
}
END_TEST

START_TEST(wrong_overrides)
{
    static const struct { const char *arg, *want; } cases[] = {
        { "lora.lora_alhpa=16",
          "command line: unknown key \"lora_alhpa\" for lora; did you mean \"lora_alpha\"?\n"
          "lora.lora_alhpa=16\n     ^\n" },
        { "lora.r=many",
          "command line: lora: r = many is not an integer\nlora.r=many\n       ^\n" },
        { "lorra.r=1", "command line: no stage \"lorra\"; did you mean \"lora\"?\nlorra.r=1\n^\n" },
        { "sede=1",
          "command line: no stage or top-level key \"sede\"; did you mean \"seed\"?\nsede=1\n^\n" },
        { "stages=[]",
          "command line: stages cannot be set as a whole here; write stage.key=value or "
          "vars.NAME=value\nstages=[]\n^\n" },
        { "extends=x.yaml",
          "command line: extends cannot be set as a whole here; write stage.key=value or "
          "vars.NAME=value\nextends=x.yaml\n^\n" },
        { "nothing",
          "command line: write stage.key=value, key=value, ~stage.key or ~stage\nnothing\n^\n" },
        { "~", "command line: write stage.key=value, key=value, ~stage.key or ~stage\n~\n^\n" },
        { "lora.=1",
          "command line: write stage.key=value, key=value, ~stage.key or ~stage\nlora.=1\n^\n" },
        { "~lora.alpha", "command line: no key to take out \"alpha\"\n~lora.alpha\n      ^\n" },
        { "~lora.bais",
          "command line: no key to take out \"bais\"; did you mean \"bias\"?\n~lora.bais\n"
          "      ^\n" },
        { "~train", "command line: no stage or top-level key \"train\"\n~train\n ^\n" },
        { "~lora.use", "command line: a stage needs its use:; write ~lora to leave the stage out\n"
          "~lora.use\n      ^\n" },
        { "lora.id=x", "command line: a stage's id cannot be changed here\nlora.id=x\n     ^\n" },
        { "lora.use=../x",
          "command line: use: \"../x\" is not a plugin's name (a-z, 0-9 and '-', at most 64; "
          "never a path)\nlora.use=../x\n         ^\n" },
        { "lora.bias=[",
          "command line: not YAML: did not find expected node content while parsing a flow node\n"
          "lora.bias=[\n           ^\n" },
        { "lora.bias=- a",
          "command line: write a list as [a, b] and a map as {k: v} here; text that looks like one "
          "goes in quotes\nlora.bias=- a\n          ^\n" },
        { "lora.bias=${vars.x}",
          "command line: ${vars.x} is not in the file; only what is written in it can be "
          "referred to\n"
          "lora.bias=${vars.x}\n          ^\n" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ft_config c;
        ft_buf out = { 0 };
        open_text(&c, &out, base, &cases[i].arg, 1);
        ck_assert_str_eq(out.p, cases[i].want);
        ft_buf_free(&out);
        ft_config_free(&c);
    }
}
END_TEST

START_TEST(expansion)
{
    ft_config c;
    ft_buf out = { 0 };
    setenv("FT_TEST_SET", "from env", 1);
    unsetenv("FT_TEST_NOT_SET");
    open_text(&c, &out,
              "version: 1\nvars: { a: \"${vars.b}/${seed}\", b: x, q: \"16\" }\n"
              "output_dir: ${vars.a}-${name}-${device}\n"
              "stages:\n  - use: train-sft\n"
              "    with: { note: \"${env:FT_TEST_SET} ${env:FT_TEST_NOT_SET:-d:-e} "
              "$${x} $$ $ ^a$ ${lora.r}\" }\n"
              "  - use: lora\n    with: { r: \"${vars.q}\" }\n"
              "  - id: swapped\n    use: \"${vars.method}\"\n",
                  (const char *const[]){ "vars.method=lora" }, 1);
    ck_assert_str_eq(out.p, "");
    ck_assert_str_eq(c.output_dir, "x/42-t-auto");
    ck_assert_str_eq(((const train *)c.stage[0].config)->note, "from env d:-e ${x} $ $ ^a$ 16");
    ck_assert_int_eq(((const lora *)c.stage[1].config)->r, 16);
    ck_assert_str_eq(stage(&c, "swapped")->use, "lora");
    ft_config_free(&c);
    setenv("FT_TEST_SET", "\xFF", 1);
    open_text(&c, &out, "version: 1\nname: ${env:FT_TEST_SET}\n", NULL, 0);
    ck_assert_ptr_nonnull(strstr(out.p, "2:7: environment variable FT_TEST_SET is not UTF-8"));
    ft_buf_free(&out);
    ft_config_free(&c);
}
END_TEST

/* ---- canonical text ------------------------------------------------------------------------- */
static void write_again(const char *text, ft_buf *canon)
{
    ft_config c;
    ft_buf out = { 0 };
    open_text(&c, &out, text, NULL, 0);
    ck_assert_str_eq(out.p, "");
    ft_config_write(canon, &c);
    ck_assert(!canon->oom);
    ft_buf_free(&out);
    ft_config_free(&c);
}

/* What is written reads back as the same, also where texts are odd. */
START_TEST(canonical)
{
    ft_buf one = { 0 }, two = { 0 };
    write_again("version: 1\nname: \"n \\\"\\\\ \\n \\t \\x7f \\u2028 \\ufeff 학습 $${x} $$$$\"\n"
                "output_dir: 'null'\nstages:\n"
                "  - use: lora\n"
                "    with: { r: 4, lora_dropout: 0.1, target_modules: [\"\", '~', \"a, b\"],\n"
                "      layers_to_transform: [0, 2], rank_pattern: { \"${k}\": 1e-5, 'a: b': 3 }, "
                "modules_to_save: [] }\n"
                "  - use: train-sft\n"
                "    with: { learning_rate: 1e-7, weight_decay: 1e-300, note: '' }\n", &one);
    write_again(one.p, &two);
    ck_assert_str_eq(one.p, two.p);
    ck_assert_ptr_nonnull(strstr(one.p, "learning_rate: 1.0e-07\n"));
    ck_assert_ptr_nonnull(strstr(one.p, "lora_dropout: 0.1\n"));
    ck_assert_ptr_nonnull(strstr(one.p, "target_modules: [\"\", \"~\", \"a, b\"]\n"));
    ck_assert_ptr_nonnull(strstr(one.p,
        "name: \"n \\\"\\\\ \\n \\t \\u007f \\u2028 \\ufeff 학습 $${x} $$$\"\n"));
    /* The order and the spelling of the file do not matter, defaults neither. */
    ft_buf a = { 0 }, b = { 0 };
    write_again("version: 1\nname: a\nstages:\n  - use: lora\n"
                "    with: { r: 8, lora_alpha: 16 }\n", &a);
    write_again("stages: [{ with: { lora_alpha: 1.6e1, bias: none }, use: lora }]\nname: 'a'\n"
                "version: 1\n", &b);
    ck_assert_str_eq(a.p, b.p);
    ft_buf_free(&one);
    ft_buf_free(&two);
    ft_buf_free(&a);
    ft_buf_free(&b);
}
END_TEST

START_TEST(reals)
{
    static const struct { double v; const char *text; } cases[] = {
        { 0, "0.0" }, { 1, "1.0" }, { -0.5, "-0.5" }, { 2e-5, "2.0e-05" }, { 0.1, "0.1" },
        { 1.0 / 3, "0.3333333333333333" }, { 1e22, "1.0e+22" }, { 5e-324, "5.0e-324" },
        { 123456789, "123456789.0" }, { 1.5e300, "1.5e+300" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ft_buf out = { 0 };
        double back;
        ft_real_write(&out, cases[i].v);
        ck_assert_str_eq(out.p, cases[i].text);
        ck_assert_ptr_null(ft_text_to_real(&back, out.p));
        ck_assert_double_eq(back, cases[i].v);
        ft_buf_free(&out);
    }
}
END_TEST

START_TEST(numbers)
{
    static const struct { const char *text; bool is_int, is_real; } cases[] = {
        { "0", 1, 1 }, { "-0", 1, 1 }, { "+7", 1, 1 }, { "1e3", 1, 1 }, { "1.0", 1, 1 }, { "1.5",
          0, 1 },
        { "1.", 1, 1 }, { ".5", 0, 1 }, { ".", 0, 0 }, { "", 0, 0 }, { "-", 0, 0 }, { "1e", 0, 0 },
          { "e5", 0, 0 },
        { "1e+2", 1, 1 }, { "010", 0, 0 }, { "0x10", 0, 0 }, { "1_000", 0, 0 }, { "inf", 0, 0 },
          { "nan", 0, 0 },
        { ".inf", 0, 0 }, { "1 ", 0, 0 }, { " 1", 0, 0 }, { "9223372036854775807", 1, 1 },
        { "9223372036854775808", 0, 1 }, { "-9223372036854775808", 1, 1 }, { "1e16", 0, 1 },
          { "1e400", 0, 0 },
        { "1e-400", 1, 1 }, { "0.5e1", 1, 1 }, { "12:30", 0, 0 }, { "--1", 0, 0 }, { "1.2.3", 0,
          0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t n;
        double v;
        ck_assert_msg((ft_text_to_int(&n, cases[i].text) == NULL) == cases[i].is_int, "int %s",
            cases[i].text);
        ck_assert_msg((ft_text_to_real(&v, cases[i].text) == NULL) == cases[i].is_real, "real %s",
            cases[i].text);
    }
}
END_TEST

START_TEST(sizes)
{
    static const struct { const char *text; int64_t want; } cases[] = {
        { "600MiB", 629145600 }, { "2GiB", 2147483648 }, { "1.5 GB", 1500000000 }, { "1024",
          1024 }, { "1e3KB", 1000000 },
        { "7B", 7 }, { "600M", -1 }, { "MiB", -1 }, { "-1GiB", -1 }, { "0", -1 }, { "9e99TiB",
          -1 }, { "1 GiB x", -1 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t n = -1;
        const char *why = ft_text_to_bytes(&n, cases[i].text);
        ck_assert_msg((why == NULL) == (cases[i].want > 0), "%s: %s", cases[i].text,
            why ? why : "accepted");
        ck_assert_msg(n == cases[i].want, "%s: %lld", cases[i].text, (long long)n);
    }
}
END_TEST

/* ---- JSON ------------------------------------------------------------------------------------ */
START_TEST(json)
{
    static const char text[] =
        "{\n  \"r\": 4, \"lora_alpha\": 8.0, \"target_modules\": [\"q_proj\"],\n"
        "  \"peft_type\": \"LORA\","
        " \"modules_to_save\": null, \"use_rslora\": true, \"rank_pattern\": {\"q\": 2},\n"
        "  \"lora_dropout\": \"high\" }";
    ft_arena a = { 0 };
    ft_diags d = { 0 };
    ft_err e = { 0 };
    lora l = { 0 };
    ft_config_file f = { "adapter_config.json", text, strlen(text), 0, false };
    ft_json_doc *doc = ft_json_parse(f.name, text, f.n, &e);
    ck_assert_ptr_nonnull(doc);
    ft_yaml *tree = ft_yaml_from_json(&a, &f, ft_json_root(doc));
    ft_json_done(doc);
    ck_assert_ptr_nonnull(tree);
    ft_fill_job job = { .arena = &a, .diags = &d, .who = "lora", .flags = FT_FILL_LENIENT };
    ck_assert_int_eq(ft_config_fill(&l, lora_params, tree, (ft_mark){ &f, 0, 0 }, &job), FT_EINVAL);
    ft_buf out = { 0 };
    ft_diags_write(&out, &d);
    ck_assert_str_eq(out.p,
        "adapter_config.json:4:19: lora: lora_dropout = \"high\" is text because of its quotes; "
                     "leave them away\n  \"lora_dropout\": \"high\" }\n                  ^\n");
    ck_assert(l.r == 4 && l.lora_alpha == 8 && l.use_rslora && l.rank_pattern.value[0] == 2);
    ck_assert(l.target_modules.n == 1 && !l.target_modules.one && l.modules_to_save.n == 0);
    ft_buf_free(&out);
    ft_diags_free(&d);
    ft_arena_free(&a);
}
END_TEST

START_TEST(schema)
{
    ft_buf out = { 0 };
    ft_err e = { 0 };
    ft_schema_write(&out, "lora", "says \"low rank\"", lora_params);
    ft_json_doc *doc = ft_json_parse("schema", out.p, out.n, &e);
    ck_assert_msg(doc != NULL, "%s", e.msg);
    const ft_json *p = ft_json_get(ft_json_root(doc), "properties"), *r = ft_json_get(p, "r");
    ck_assert_uint_eq(p->len, 10);
    ck_assert_str_eq(ft_json_str(r, "type", ""), "integer");
    ck_assert_str_eq(ft_json_get(r, "maximum")->text, "65536");
    ck_assert_str_eq(ft_json_get(r, "default")->text, "8");
    ck_assert_uint_eq(ft_json_get(ft_json_get(p, "bias"), "enum")->len, 3);
    ck_assert_uint_eq(ft_json_get(ft_json_get(p, "target_modules"), "anyOf")->len, 2);
    ck_assert_str_eq(ft_json_str(ft_json_get(p, "target_modules"), "default", ""), "all-linear");
    ck_assert_str_eq(ft_json_str(ft_json_get(ft_json_get(p, "rank_pattern"),
        "additionalProperties"), "type", ""),
                     "number");
    ck_assert_uint_eq(ft_json_get(ft_json_root(doc), "required")->len, 0);
    ft_json_done(doc);
    ft_buf_free(&out);
    ft_schema_write(&out, "data", "rows", data_params);
    doc = ft_json_parse("schema", out.p, out.n, &e);
    ck_assert_str_eq(ft_json_get(ft_json_root(doc), "required")->item[0].text, "path");
    ft_json_done(doc);
    ft_buf_free(&out);
}
END_TEST

/* ---- bombs: each a named error in less than 50 ms of CPU time -------------------------------- */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SLOWER = 10 };
#elif defined(__has_feature)
enum { SLOWER = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ? 10 : 1 };
#else
enum { SLOWER = 1 };
#endif

static void repeat(ft_buf *b, const char *fmt, int n)
{
    for (int i = 0; i < n; i++) {
        if (strchr(fmt, '%')) ft_buf_printf(b, fmt, i, i + 1,
            i + 1); /* NOLINT: formats of this file */
        else ft_buf_puts(b, fmt);
    }
}

static void bomb(const char *what, ft_buf *text, const char *want)
{
    const char *path = temp_file("bomb.yaml", text->p, text->n);
    double ms = 1e9;
    for (int i = 0; i < 3 && ms >= 50 * SLOWER; i++) { /* again, should the machine have stumbled */
        ft_config c;
        ft_diags d = { 0 };
        ft_buf out = { 0 };
        clock_t start = clock();
        ck_assert_int_ne(open_with(&c, path, NULL, 0, &d), 0);
        ms = 1e3 * (double)(clock() - start) / CLOCKS_PER_SEC;
        ft_diags_write(&out, &d);
        ck_assert_msg(strstr(out.p, want) != NULL, "%s: \"%s\" is not in\n%.400s", what, want,
            out.p);
        ft_buf_free(&out);
        ft_diags_free(&d);
        ft_config_free(&c);
    }
    ck_assert_msg(ms < 50 * SLOWER, "%s took %.1f ms", what, ms);
    ft_buf_free(text);
    temp_done(path);
}

START_TEST(bombs)
{
    ft_buf b = { 0 };
    repeat(&b, "[", 500000);
    bomb("brackets", &b, "nested deeper than 64");
    ft_buf_puts(&b, "vars:\n");
    for (int i = 1; i < 80; i++) ft_buf_printf(&b, "%*sa:\n", i, "");
    bomb("indented maps", &b, "nested deeper than 64");
    ft_buf_puts(&b, "a: &a [x]\n");
    for (char k = 'b'; k <= 'j'; k++)
        ft_buf_printf(&b, "%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n", k, k, k - 1, k - 1,
            k - 1, k - 1,
                      k - 1, k - 1, k - 1, k - 1, k - 1);
    bomb("aliases", &b, "anchor &a");
    ft_buf_puts(&b, "&a [*a]\n");
    bomb("alias of itself", &b, "anchor &a");
    repeat(&b, "k%d: 1\n", 90000);
    bomb("keys", &b, "a map has more than 4096 keys");
    repeat(&b, "k: 1\n", 4000);
    bomb("one key", &b, "duplicate key \"k\"");
    ft_buf_puts(&b, "vars: [");
    repeat(&b, "a,", 400000);
    bomb("items", &b, "a list has more than 16384 items");
    ft_buf_puts(&b, "stages: [");
    repeat(&b, "{use: s%d},", 60000);
    bomb("stages", &b, "a list has more than 16384 items");
    for (int i = 0; i < 20; i++) {
        ft_buf_printf(&b, "k%d: [", i);
        repeat(&b, "[],", 10000);
        ft_buf_puts(&b, "]\n");
    }
    bomb("events", &b, "more than 200000 keys, values and brackets");
    ft_buf_puts(&b, "version: 1\nstages:\n");
    repeat(&b, "  - {use: s%d}\n", 10000);
    bomb("many stages", &b, "more than 256 stages");
    ft_buf_puts(&b, "version: 1\nvars:\n  a0: \"");
    repeat(&b, "x", 1000);
    ft_buf_puts(&b, "\"\n");
    for (int i = 1; i < 30; i++) ft_buf_printf(&b, "  a%d: \"${vars.a%d}${vars.a%d}\"\n", i, i - 1,
        i - 1);
    bomb("doubling text", &b, "the expanded text is longer than");
    ft_buf_puts(&b, "version: 1\nvars:\n");
    repeat(&b, "  a%d: \"x${vars.a%d}\"\n", 4000);
    bomb("chain", &b, "references go more than 32 deep");
    ft_buf_puts(&b, "version: 1\nvars:\n");
    for (int i = 0; i < 4090; i++) ft_buf_printf(&b, "  a%d: \"${vars.a0}${vars.z%d}\"\n", i, i);
    bomb("references", &b, "goes round in a circle");
    ft_buf_puts(&b, "version: 1\n");
    repeat(&b, "learning_rte_learning_rte_learning_rte%d: 1\n", 4000);
    bomb("misspelt keys", &b, "unknown key");
    repeat(&b, "y", 1 << 20);
    bomb("one word", &b, "is a map with version: and stages:");
    repeat(&b, "y", (1 << 20) + 1);
    bomb("too large", &b, "larger than the 1048576 bytes");
    ft_buf_puts(&b, "version: 1\n\"");
    repeat(&b, "y", 1000000);
    ft_buf_puts(&b, "\": 1\n");
    bomb("long key", &b, "");
}
END_TEST

/* More errors than are kept are counted. */
START_TEST(many_errors)
{
    ft_config c;
    ft_buf text = { 0 }, out = { 0 };
    ft_buf_puts(&text, "version: 1\n");
    repeat(&text, "k%d: 1\n", 250);
    open_text(&c, &out, text.p, NULL, 0);
    ck_assert_ptr_nonnull(strstr(out.p, "\nand 150 more errors\n"));
    ck_assert_ptr_nonnull(strstr(out.p, "t.yaml:2:1: unknown key \"k0\""));
    ft_buf_free(&text);
    ft_buf_free(&out);
    ft_config_free(&c);
}
END_TEST

/* Bytes of all kinds: no crash, no hang; sanitizers watch. */
START_TEST(random_bytes)
{
    static const char alphabet[] = "ab:- \n\t[]{},'\"&*!|>%@`#?~${}.=\\0123vx\xC3\xA9\xFF";
    uint32_t s = 12345;
    for (int round = 0; round < 3000; round++) {
        char text[120];
        size_t n = 0;
        int len = 1 + (int)(round % 110);
        if (round % 2) n = (size_t)snprintf(text, sizeof text,
            "version: 1\nstages:\n - use: lora\n");
        for (; n < sizeof text - 1 && (int)n < len; n++) {
            s = s * 1664525 + 1013904223;
            text[n] = alphabet[(s >> 16) % (sizeof alphabet - 1)];
        }
        ft_config c = { 0 };
        ft_arena a = { 0 };
        ft_diags d = { 0 };
        ft_yaml *root;
        ft_buf out = { 0 };
        size_t events = 0;
        text[n] = 0;
        ft_config_file f = { "random", text, n, 0, false };
        if (!ft_yaml_parse(&root, &a, &f, &events, &d) && root) ck_assert_uint_le(root->n, n);
        ft_yaml_parse_value(&root, &a, &f, 1, &d);
        ft_diags_write(&out, &d);
        ft_buf_free(&out);
        ft_diags_free(&d);
        ft_arena_free(&a);
        ft_config_free(&c);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("config");
    TCase *t = tcase_create("config");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, wrong_files);
    tcase_add_test(t, typed_by_schema);
    tcase_add_test(t, extends);
    tcase_add_test(t, extends_list);
    tcase_add_test(t, extends_bounds);
    tcase_add_test(t, overrides);
    tcase_add_test(t, wrong_overrides);
    tcase_add_test(t, expansion);
    tcase_add_test(t, canonical);
    tcase_add_test(t, reals);
    tcase_add_test(t, numbers);
    tcase_add_test(t, sizes);
    tcase_add_test(t, json);
    tcase_add_test(t, schema);
    tcase_add_test(t, bombs);
    tcase_add_test(t, many_errors);
    tcase_add_test(t, random_bytes);
    suite_add_tcase(s, t);
    return s;
}
