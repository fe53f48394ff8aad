/* profile.c -- see profile.h. */
#include "core/run/profile.h"
#include <stdlib.h>
#include <string.h>
#include "core/base/file.h"
#include "core/base/json.h"

static int slowest_first(const void *a, const void *b)
{
    const g_profile *x = a, *y = b;
    return x->seconds != y->seconds ? (x->seconds < y->seconds ? 1 : -1) : strcmp(x->op, y->op);
}

static double rate(double n, double seconds) { return seconds > 0 ? n / seconds * 1e-9 : 0; }

static void write_table(const g_profile *r, size_t n, double total, FILE *to)
{
    fprintf(to, "%-20s %10s %12s %7s %10s %9s\n", "op", "calls", "ms", "%", "GFLOP/s", "GB/s");
    for (size_t i = 0; i < n; i++) {
        fprintf(to, "%-20s %10llu %12.1f %7.2f ", r[i].op, (unsigned long long)r[i].calls,
                1e3 * r[i].seconds, total > 0 ? 100 * r[i].seconds / total : 0);
        if (r[i].flops > 0) fprintf(to, "%10.1f ", rate(r[i].flops, r[i].seconds));
        else fprintf(to, "%10s ", "");
        fprintf(to, "%9.2f\n", rate((double)r[i].bytes, r[i].seconds));
    }
    fprintf(to, "%-20s %10s %12.1f %7.2f\n", "all", "", 1e3 * total, total > 0 ? 100.0 : 0.0);
}

static void write_json(ft_buf *b, const g_profile *r, size_t n, double total)
{
    ft_buf_putc(b, '[');
    for (size_t i = 0; i < n; i++) {
        ft_buf_printf(b, "%s\n  {\"op\": ", i ? "," : "");
        ft_json_quote(b, r[i].op, strlen(r[i].op));
        ft_buf_printf(b, ", \"calls\": %llu, \"seconds\": ", (unsigned long long)r[i].calls);
        ft_json_real(b, r[i].seconds);
        ft_buf_puts(b, ", \"percent\": ");
        ft_json_real(b, total > 0 ? 100 * r[i].seconds / total : 0);
        ft_buf_printf(b, ", \"bytes\": %llu", (unsigned long long)r[i].bytes);
        if (r[i].flops > 0) {
            ft_buf_puts(b, ", \"gflops_per_s\": ");
            ft_json_real(b, rate(r[i].flops, r[i].seconds));
        }
        ft_buf_putc(b, '}');
    }
    ft_buf_puts(b, "\n]\n");
}

int ft_profile_write(const g_exec *x, const char *dir, FILE *to, ft_err *e)
{
    const g_profile *rows;
    size_t n = g_exec_profile_rows(x, &rows);
    char path[4096];
    ft_buf b = { 0 };
    double total = 0;
    g_profile *r = malloc((n + 1) * sizeof *r);
    if (!r) return ft_errf(e, FT_ENOMEM, "out of memory for the profile");
    memcpy(r, rows, n * sizeof *r);
    qsort(r, n, sizeof *r, slowest_first);
    for (size_t i = 0; i < n; i++) total += r[i].seconds;
    write_table(r, n, total, to);
    write_json(&b, r, n, total);
    free(r);
    int code = ft_path_join(path, sizeof path, dir, "profile.json", e);
    if (!code) code = ft_file_write_buf(path, &b, e);
    ft_buf_free(&b);
    return code;
}
