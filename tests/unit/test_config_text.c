/* test_config_text.c -- configuration as text: the canonical form, numbers, JSON and JSON schema;
 * texts made to exhaust memory or time; random bytes. */
#include "config_test.h"
#include "harness.h"
#include <dirent.h>
#include <time.h>

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
    Suite *s = suite_create("config-text");
    TCase *t = tcase_create("config-text");
    tcase_set_timeout(t, 120);
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
