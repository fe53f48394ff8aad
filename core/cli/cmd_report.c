/* cmd_report.c -- `pipeline report OUTPUT_DIR [--out F.html]`: the report of a run, built again
 * from what lies in its output folder. */
#include "core/cli/options.h"
#include "core/run/report.h"
#include "core/run/services.h"

int cmd_report(ft_cli *cli, int argc, char **argv)
{
    const char *dir = NULL, *out = NULL;
    const ft_option table[] = { { .name = "--out", .value = &out }, { .name = NULL } };
    ft_err e = { 0 };
    int status = ft_options(cli, argc, argv, table, &dir, 1);
    if (status) return status;
    if (!dir) return ft_cli_usage(cli, "report");
    ft_registry *r = ft_cli_plugins(cli, &e);
    ft_offer offer = ft_run_offer(&cli->log);
    if (!r || ft_report_write(dir, out, r, &offer, &e))
        return ft_cli_fail(FT_EXIT_FAILED, "%s", e.msg);
    ft_log_line(&cli->log, FT_INFO, NULL, "wrote %s%s", out ? out : dir, out ? "" : "/report.html");
    return FT_EXIT_OK;
}
