/* test_progress.c -- the progress line and the log, on a clock of the test's own, into a file and
 * onto a pseudo-terminal. */
#include "harness.h"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "core/base/progress.h"

static double clock_now;
static double test_clock(void) { return clock_now; }

static void begin(ft_progress *p, ft_log *log, const char *label)
{
    clock_now = 100;
    ft_progress_start(p, log, label);
    p->now = test_clock;
    p->started = p->seen_at = clock_now;
}

/* Everything that was written to f. */
static char *contents(FILE *f)
{
    static char text[1 << 16];
    fflush(f);
    ck_assert_int_ge((int)lseek(fileno(f), 0, SEEK_SET), 0);
    ssize_t n = read(fileno(f), text, sizeof text - 1);
    ck_assert_int_ge((int)n, 0);
    text[n] = 0;
    return text;
}

static size_t lines(const char *s)
{
    size_t n = 0;
    for (; *s; s++) n += *s == '\n';
    return n;
}

/* A file gets a line every ten seconds, with the speed and the time left. */
START_TEST(into_a_file)
{
    ft_log log;
    ft_progress p;
    FILE *f = tmpfile();
    ft_log_init(&log, f);
    ck_assert(!log.terminal && !log.color);
    begin(&p, &log, "train");
    for (int i = 0; i <= 640; i++) { /* 16 steps a second for 40 s */
        clock_now = 100 + i * 0.0625;
        ft_progress_update(&p, "steps", i, 1280);
    }
    char *text = contents(f);
    ck_assert_uint_eq(lines(text), 4);
    ck_assert_ptr_nonnull(strstr(text, "train 640/1280 steps  16.0 steps/s  ETA 0:40\n"));
    ck_assert_ptr_null(strchr(text, '\033'));
    ft_progress_note(&p, "loss %.2f", 1.5);
    ft_progress_end(&p);
    ck_assert_ptr_nonnull(strstr(contents(f),
        "train: 640 steps in 0:40  16.0 steps/s  loss 1.50\n"));
    ft_log_close(&log);
    fclose(f);
}
END_TEST

/* Work that ends at once says nothing. */
START_TEST(short_work)
{
    ft_log log;
    ft_progress p;
    FILE *f = tmpfile();
    ft_log_init(&log, f);
    begin(&p, &log, "data");
    for (int i = 0; i < 100; i++) ft_progress_update(&p, "rows", i, 100);
    ft_progress_end(&p);
    ck_assert_str_eq(contents(f), "");
    ft_log_close(&log);
    fclose(f);
}
END_TEST

START_TEST(the_line)
{
    ft_log log;
    ft_progress p;
    ft_buf out = { 0 };
    FILE *f = tmpfile();
    ft_log_init(&log, f);
    begin(&p, &log, "train-sft");
    ft_progress_update(&p, "steps", 0, 256);
    for (int columns = 2; columns < 200; columns++) {
        clock_now += 0.2;
        ft_progress_update(&p, "steps", columns - 1, 256);
        ft_progress_note(&p, "loss 1.%03d", columns);
        out.n = 0;
        ft_progress_write(&out, &p, columns);
        ck_assert_uint_lt(out.n, (size_t)columns);
        ck_assert(columns < 80 || (strchr(out.p, '[') && strchr(out.p, '>') && strchr(out.p, ']')));
    }
    ck_assert_ptr_nonnull(strstr(out.p, "198/256 steps  5.00 steps/s  ETA 0:12  loss 1.199"));
    ft_progress_update(&p, "steps", 256, 256);
    out.n = 0;
    ft_progress_write(&out, &p, 100);
    ck_assert_ptr_nonnull(strstr(out.p, "[==============================] 256/256 steps"));
    ck_assert_ptr_null(strstr(out.p, "ETA"));
    /* An unknown total, and hours. */
    ft_progress_update(&p, "tokens", 5, 0);
    out.n = 0;
    ft_progress_write(&out, &p, 100);
    ck_assert_str_eq(out.p, "train-sft 5 tokens  loss 1.199");
    clock_now += 1;
    ft_progress_update(&p, "tokens", 6, 7206);
    out.n = 0;
    ft_progress_write(&out, &p, 100);
    ck_assert_ptr_nonnull(strstr(out.p, "6/7206 tokens  1.00 tokens/s  ETA 2:00:00"));
    ft_buf_free(&out);
    ft_log_close(&log);
    fclose(f);
}
END_TEST

/* A change of speed is followed within some ten seconds. */
START_TEST(speed)
{
    ft_log log;
    ft_progress p;
    FILE *f = tmpfile();
    int64_t done = 0;
    ft_log_init(&log, f);
    begin(&p, &log, "x");
    for (int i = 0; i < 1000; i++, clock_now += 0.1) ft_progress_update(&p, "rows", done += 10, 0);
    ck_assert_double_eq_tol(p.speed, 100, 3);
    for (int i = 0; i < 100; i++, clock_now += 0.1) ft_progress_update(&p, "rows", done += 1, 0);
    ck_assert_double_eq_tol(p.speed, 10 + 90 / 2.718, 3);
    for (int i = 0; i < 400; i++, clock_now += 0.1) ft_progress_update(&p, "rows", done += 1, 0);
    ck_assert_double_eq_tol(p.speed, 10, 1);
    ft_log_close(&log);
    fclose(f);
}
END_TEST

/* On a terminal: a bar at most ten times a second, taken away for a line of the log. */
START_TEST(terminal)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) || unlockpt(master)) {
        puts("not run: terminal (no pseudo-terminals here)");
        return;
    }
    static char text[1 << 16];
    struct winsize w = { .ws_col = 60 };
    FILE *f = fopen(ptsname(master), "r+");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(ioctl(master, TIOCSWINSZ, &w), 0);
    ft_log log;
    ft_progress p;
    setenv("NO_COLOR", "1", 1);
    setenv("TERM", "xterm", 1);
    ft_log_init(&log, f);
    ck_assert(log.terminal && !log.color);
    begin(&p, &log, "train");
    for (int i = 0; i < 1000; i++, clock_now += 0.001) ft_progress_update(&p, "steps", i, 1000);
    ft_log_line(&log, FT_WARN, "train", "a word");
    ft_progress_end(&p);
    ft_log_close(&log);
    fclose(f); /* reading then ends with an error */
    for (ssize_t n, at = 0; (n = read(master, text + at,
        sizeof text - 1 - (size_t)at)) > 0;) at += n;
    int bars = 0;
    for (char *s = text; (s = strchr(s, '[')); s++) bars += s == text || s[-1] != '\033';
    ck_assert_int_ge(bars, 9);
    ck_assert_int_le(bars, 11);
    ck_assert_ptr_nonnull(strstr(text, "\r\033[Kwarning: train: a word\r\n"));
    ck_assert_ptr_null(strstr(text, "\033[33m"));
    close(master);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("progress");
    TCase *t = tcase_create("progress");
    tcase_add_test(t, into_a_file);
    tcase_add_test(t, short_work);
    tcase_add_test(t, the_line);
    tcase_add_test(t, speed);
    tcase_add_test(t, terminal);
    suite_add_tcase(s, t);
    return s;
}
