/* test_cmd_render.c -- `pipeline render` from its command line to what it prints. */
#include "harness.h"
#include <string.h>
#include <unistd.h>
#include "core/cli/cmd_render.h"

static char template_path[300], rows_path[300], out_path[300];

static void make_paths(void)
{
    const char *dir = getenv("TMPDIR");
    char *const path[] = { template_path, rows_path, out_path };
    for (int i = 0; i < 3; i++)
        snprintf(path[i], 300, "%s/render-%d.%d", dir ? dir : "/tmp", (int)getpid(), i);
}

static void remove_paths(void)
{
    unlink(template_path);
    unlink(rows_path);
    unlink(out_path);
}

static void write_text(const char *path, const char *text)
{
    ft_err e = { 0 };
    ck_assert_msg(!ft_file_write(path, text, strlen(text), &e), "%s", e.msg);
}

/* Runs the command with its output in a file and compares both status and output. */
static void check_command(int argc, const char **argv, int status, const char *want)
{
    ft_buf got = { 0 };
    ft_err e = { 0 };
    fflush(stdout);
    int kept = dup(1);
    ck_assert_ptr_nonnull(freopen(out_path, "w", stdout));
    int is = ft_cmd_render(argc, (char **)(uintptr_t)argv);
    fflush(stdout);
    dup2(kept, 1);
    close(kept);
    ck_assert_int_eq(is, status);
    ck_assert_msg(!ft_file_read(&got, out_path, 1 << 20, &e), "%s", e.msg);
    ck_assert_str_eq(got.p ? got.p : "", want);
    ft_buf_free(&got);
}

static const char rows[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"é\"}, {\"role\": "
                           "\"assistant\", \"content\": "
                           "\"two\"}], \"kwargs\": {\"k\": \"K\"}, \"eos_token\": \"</s>\"}\n\n"
                           "{\"messages\": [], \"add_generation_prompt\": true}\n"
                           "{\"messages\": 5}\n{\"messages\"\n[1]\n";

START_TEST(rows_with_a_template)
{
    char want[2000];
    write_text(template_path,
               "{{ k }}{% if messages is number %}{{ raise_exception('no') }}{% endif %}"
               "{% for m in messages %}<{{ m.content }}>{{ eos_token }}{% endfor %}"
               "{{ '!' if add_generation_prompt }}");
    write_text(rows_path, rows);
    snprintf(want, sizeof want,
             "{\"text\": \"K<é></s><two></s>\", \"assistant_spans\": [[10, 13]]}\n"
             "{\"text\": \"!\", \"assistant_spans\": []}\n{\"error\": \"no\"}\n"
             "{\"error\": \"%s:5:12: ':' must follow a key\"}\n"
             "{\"error\": \"a row must be a JSON object\"}\n", rows_path);
    const char *argv[] = { "render", "--template", template_path, rows_path };
    check_command(4, argv, 0, want);
}
END_TEST

START_TEST(rows_without_a_template)
{
    write_text(rows_path, "{\"messages\": [{\"role\": \"assistant\", \"content\": \"x\"}]}");
    const char *argv[] = { "render", rows_path };
    check_command(2, argv, 0, "{\"text\": \"<|im_start|>assistant\\nx<|im_end|>\\n\", "
                              "\"assistant_spans\": [[22, 23]]}\n");
}
END_TEST

START_TEST(what_the_template_marks)
{
    write_text(template_path, "a{% generation %}bc{% endgeneration %}");
    write_text(rows_path, "{}");
    const char *argv[] = { "render", "--template", template_path, rows_path };
    check_command(4, argv, 0, "{\"text\": \"abc\", \"assistant_spans\": [[1, 3]]}\n");
}
END_TEST

START_TEST(wrong_command_lines)
{
    const char *none[] = { "render" };
    const char *two[] = { "render", "a", "b" };
    const char *option[] = { "render", "--what", "b" };
    const char *missing[] = { "render", "/nonexistent/rows" };
    write_text(template_path, "{% if %}");
    const char *broken[] = { "render", "--template", template_path, "/nonexistent/rows" };
    ck_assert_ptr_nonnull(freopen("/dev/null", "w", stderr));
    check_command(1, none, 2, "");
    check_command(3, two, 2, "");
    check_command(3, option, 2, "");
    check_command(2, missing, 1, "");
    check_command(4, broken, 1, "");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("cmd_render");
    TCase *c = tcase_create("cmd_render");
    tcase_add_checked_fixture(c, make_paths, remove_paths);
    tcase_add_test(c, rows_with_a_template);
    tcase_add_test(c, rows_without_a_template);
    tcase_add_test(c, what_the_template_marks);
    tcase_add_test(c, wrong_command_lines);
    suite_add_tcase(s, c);
    return s;
}
