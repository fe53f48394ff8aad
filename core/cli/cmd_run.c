/* cmd_run.c -- `pipeline run` and `pipeline check`. */
#include "core/base/json.h"
#include "core/cli/options.h"
#include "core/run/pipeline.h"
#include "core/run/shapes.h"

enum { MOST_OVERRIDES = 256 };

static int exit_status(int code)
{
    return code == FT_ECANCEL ? FT_EXIT_STOPPED : FT_EXIT_FAILED;
}

/* Whether everything that the file names is there.  What it asks for and cannot be is a mistake in
 * the file; the rest is one in what it names. */
static int try_pipeline(ft_run *r, ft_err *e)
{
    int code = ft_pipeline_try(r, e);
    return code == FT_EINVAL ? FT_EXIT_USAGE : code ? exit_status(code) : 0;
}

/* --from and --only as numbers of stages. */
static int choose_stages(const ft_run *r, const char *from, const char *only, int *first, int *just,
                         ft_err *e)
{
    *first = from ? ft_pipeline_stage(r, "--from", from, e) : r->n_stages;
    *just = only && *first >= 0 ? ft_pipeline_stage(r, "--only", only, e) : -1;
    return *first < 0 || (only && *just < 0) ? FT_EXIT_USAGE : 0;
}

/* "k=v" overrides and "~k" removals follow the file. */
static size_t overrides(const char **rest)
{
    size_t n = 0;
    while (n + 1 < MOST_OVERRIDES && rest[n + 1]) n++;
    return n;
}

int cmd_run(ft_cli *cli, int argc, char **argv)
{
    const char *rest[MOST_OVERRIDES] = { NULL }, *from = NULL, *only = NULL, *resume = NULL,
               *profile = NULL;
    const ft_option table[] = {
        { .name = "--from", .value = &from }, { .name = "--only", .value = &only },
        { .name = "--resume", .value = &resume, .is_switch = true },
        { .name = "--profile", .value = &profile, .is_switch = true },
        { .name = NULL },
    };
    ft_run r;
    ft_err e = { 0 };
    int first, just, status = ft_options(cli, argc, argv, table, rest, MOST_OVERRIDES);
    if (status) return status;
    if (!rest[0]) return ft_cli_usage(cli, "run");
    status = ft_run_open(&r, cli, rest[0], rest + 1, overrides(rest), &e);
    r.resume = resume != NULL;
    r.profile = profile != NULL;
    if (!status) status = choose_stages(&r, from, only, &first, &just, &e);
    if (!status) status = try_pipeline(&r, &e);
    if (!status) {
        int code = ft_pipeline_run(&r, first, just, &e);
        if (code) status = exit_status(code);
    }
    if (e.code) ft_cli_fail(status, "%s", e.msg);
    ft_run_close(&r);
    return status;
}

static void put(ft_buf *b, const char *key, uint64_t v)
{
    ft_buf_printf(b, "%s\"%s\":%llu", b->n > 1 ? "," : "", key, (unsigned long long)v);
}

static int print_plan(const ft_train_plan *p)
{
    ft_buf b = { 0 };
    ft_buf_putc(&b, '{');
    put(&b, "parameters", (uint64_t)p->parameters);
    put(&b, "trainable", (uint64_t)p->trainable);
    put(&b, "rows", (uint64_t)p->rows);
    put(&b, "tokens", (uint64_t)p->tokens);
    put(&b, "trained_tokens", (uint64_t)p->trained_tokens);
    put(&b, "steps", (uint64_t)p->steps);
    put(&b, "arena_bytes", p->arena_bytes);
    put(&b, "peak_rss_bytes", p->peak_rss_bytes);
    ft_buf_puts(&b, "}\n");
    return ft_cli_put(&b);
}

/* Lets a model without weights be planned from its configuration. */
static int without_weights(ft_run *r, ft_shapes *s, ft_err *e)
{
    if (!r->model.source || !ft_shapes_wanted(r->model.source->path)) return 0;
    ft_log_line(&r->cli->log, FT_INFO, NULL, "%s has no weights: counted from its config.json",
                r->model.source->path);
    return ft_shapes_open(s, &r->model, r->scan.g, e);
}

int cmd_check(ft_cli *cli, int argc, char **argv)
{
    const char *rest[MOST_OVERRIDES] = { NULL }, *json = NULL, *profile = NULL;
    const ft_option table[] = { { .name = "--json", .value = &json, .is_switch = true },
                                { .name = "--profile", .value = &profile, .is_switch = true },
                                { .name = NULL } };
    ft_run r;
    ft_err e = { 0 };
    ft_train_plan plan;
    ft_shapes shapes = { .map = NULL };
    int status = ft_options(cli, argc, argv, table, rest, MOST_OVERRIDES);
    if (status) return status;
    if (!rest[0]) return ft_cli_usage(cli, "check");
    status = ft_run_open(&r, cli, rest[0], rest + 1, overrides(rest), &e);
    r.profile = profile != NULL;
    if (!status && without_weights(&r, &shapes, &e)) status = exit_status(e.code);
    if (!status) status = try_pipeline(&r, &e);
    if (!status) {
        int code = ft_pipeline_check(&r, &plan, !json, &e);
        status = code ? exit_status(code) : json ? print_plan(&plan) : 0;
    }
    if (e.code) ft_cli_fail(status, "%s", e.msg);
    ft_run_close(&r);
    ft_shapes_close(&shapes);
    return status;
}
