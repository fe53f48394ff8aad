/* cli.c -- see cli.h. */
#include "core/cli/cli.h"
#include <errno.h>

ft_registry *ft_cli_plugins(ft_cli *cli, ft_err *e)
{
    if (cli->registry) return cli->registry;
    ft_registry *r = ft_registry_new(e);
    int code = r ? 0 : FT_ENOMEM;
    for (int i = 0; !code && i < cli->n_plugin_dirs; i++)
        code = ft_registry_add(r, cli->plugin_dir[i], "--plugin-dir", e);
    if (!code) code = ft_registry_add_defaults(r, e);
    if (code) {
        ft_registry_free(r);
        return NULL;
    }
    return cli->registry = r;
}

int ft_cli_fail(int status, const char *fmt, ...)
{
    ft_buf text = { 0 };
    va_list ap;
    va_start(ap, fmt);
    ft_buf_vprintf(&text, fmt, ap);
    va_end(ap);
    fprintf(stderr, "pipeline: %s\n", text.p ? text.p : "out of memory");
    ft_buf_free(&text);
    return status;
}

const ft_command *ft_cli_command(const ft_cli *cli, const char *name)
{
    for (const ft_command *c = cli->commands; c->name; c++) {
        if (!strcmp(c->name, name)) return c;
    }
    return NULL;
}

int ft_cli_usage(const ft_cli *cli, const char *command)
{
    const ft_command *c = ft_cli_command(cli, command);
    if (c) fprintf(stderr, "usage: pipeline %s%s%s\n", c->name, *c->args ? " " : "", c->args);
    return FT_EXIT_USAGE;
}

void ft_cli_write_usage(ft_buf *out, const ft_cli *cli)
{
    ft_buf_puts(out, "usage: pipeline COMMAND …\n\n");
    for (const ft_command *c = cli->commands; c->name; c++)
        ft_buf_printf(out, "  %-10s %s\n", c->name, c->help);
    ft_buf_puts(out, "\npipeline help COMMAND|PLUGIN  its arguments or parameters\n"
                     "pipeline --version\n\n"
                     "  --plugin-dir DIR  look for plugins there first; may be repeated\n"
                     "  --threads N       threads to compute with (or PIPELINE_THREADS)\n");
}

int ft_cli_flush(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) return FT_EXIT_OK;
    return ft_cli_fail(FT_EXIT_FAILED, "cannot write to standard output: %s", ft_errno_text(errno));
}

int ft_cli_put(ft_buf *b)
{
    int status = FT_EXIT_FAILED;
    if (b->oom) ft_cli_fail(status, "out of memory");
    else if (b->n == 0 || fwrite(b->p, 1, b->n, stdout) == b->n) status = ft_cli_flush();
    else ft_cli_flush();
    ft_buf_free(b);
    return status;
}
