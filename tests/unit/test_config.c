/* test_config.c -- pipeline files: what is accepted, what is refused and with which words.
 *
 * tests/data/config/NAME.yaml with a NAME.txt beside it is wrong, and NAME.txt is all that the
 * program prints for it.  After a deliberate change of words: FT_REWRITE=1 writes what is printed
 * now; read the difference before it is kept. */
#include "config_test.h"
#include "harness.h"
#include <dirent.h>
#include <time.h>

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

/* Values of a wrong kind, each alone in a file: what the first error says. */
START_TEST(wrong_values)
{
    static const struct { const char *text, *want; } cases[] = {
        { "version: 1\nstages:\n  - { id: x, use: ~ }\n", "stage \"x\" needs use:" },
        { "version: 1\nstages:\n  - use: ~\n", "a stage needs use: and the name of a plugin" },
        { "version: 1\nvars: { n: 4 }\nname: \"${vars}\"\nstages:\n  - use: lora\n",
          "${vars} is a map; only a single value" },
        { "version: 1\nstages:\n  - use: lora\n    with: { target_modules: [[q_proj]] }\n",
          "target_modules must be text or a list, not a list" },
        { "version: 1\nstages:\n  - use: lora\n    with: { layers_to_transform: { a: 1 } }\n",
          "layers_to_transform must be a list of integers, not a map" },
        { "version: 1\nstages:\n  - use: lora\n    with: { use_rslora: no }\n",
          "use_rslora = no must be true or false; write false" },
        { "version: 1\nmemory_limit: MiB\nstages:\n  - use: lora\n", "MiB is not a size" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ft_config c;
        ft_buf out = { 0 };
        open_text(&c, &out, cases[i].text, NULL, 0);
        ck_assert_msg(strstr(out.p, cases[i].want) != NULL, "%s\ngave: %s", cases[i].text, out.p);
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
    tcase_add_test(t, wrong_values);
    tcase_add_test(t, expansion);
    suite_add_tcase(s, t);
    return s;
}
