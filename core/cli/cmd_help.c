/* cmd_help.c -- `pipeline help`: the commands; one command; one plugin's parameters, from its own
 * table. */
#include <inttypes.h>
#include "core/cli/cli.h"
#include "core/config/canon.h"
#include "core/config/fill.h"

/* ", 1 to 4096" or ": none, all" */
static void write_limits(ft_buf *out, const ft_param *row)
{
    if (ft_param_ranged(row)) ft_buf_printf(out, ", %.15g to %.15g", row->min, row->max);
    for (size_t i = 0; row->choices && row->choices[i]; i++)
        ft_buf_printf(out, "%s%s", i ? " | " : ": ", row->choices[i]);
}

/* "  key = default        kind, limits" and the help text below. */
static void write_row(ft_buf *out, const ft_param *row)
{
    size_t start = out->n;
    ft_buf_printf(out, "  %s", row->key);
    if (!row->def) ft_buf_puts(out, " (required)");
    else ft_buf_printf(out, " = %s", *row->def ? row->def : "\"\"");
    int pad = 40 - (int)(out->n - start);
    ft_buf_printf(out, "%*s%s", pad > 2 ? pad : 2, "", ft_kind_name(row->kind));
    write_limits(out, row);
    ft_buf_printf(out, "\n      %s\n", row->help);
}

/* A plugin's table for people, or as JSON schema. */
static int help_plugin(const ft_loaded *p, bool json)
{
    ft_buf out = { 0 };
    if (json) {
        ft_schema_write(&out, p->name, p->desc.summary, p->params);
        return ft_cli_put(&out);
    }
    ft_buf_printf(&out, "%s %s (%s): %s\n%s\n\n", p->name, p->desc.version, p->desc.role,
                  p->desc.summary, p->path);
    if (!p->params->key) ft_buf_puts(&out, "  takes no parameters\n");
    for (const ft_param *row = p->params; row->key; row++) write_row(&out, row);
    return ft_cli_put(&out);
}

/* How one command is called. */
static int help_command(const ft_command *c)
{
    ft_buf out = { 0 };
    ft_buf_printf(&out, "usage: pipeline %s%s%s\n%s\n", c->name, *c->args ? " " : "", c->args,
                  c->help);
    return ft_cli_put(&out);
}

int cmd_help(ft_cli *cli, int argc, char **argv)
{
    const char *name = NULL;
    bool json = false;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--json")) json = true;
        else if (name || *argv[i] == '-') return ft_cli_usage(cli, "help");
        else name = argv[i];
    }
    if (!name) {
        ft_buf out = { 0 };
        if (json) return ft_cli_usage(cli, "help");
        ft_cli_write_usage(&out, cli);
        return ft_cli_put(&out);
    }
    const ft_command *c = ft_cli_command(cli, name);
    if (c && !json) return help_command(c);
    ft_err e = { 0 };
    ft_registry *r = ft_cli_plugins(cli, &e);
    const ft_loaded *p = r ? ft_registry_get(r, name, &e) : NULL;
    return p ? help_plugin(p, json) : ft_cli_fail(FT_EXIT_USAGE, "%s", e.msg);
}
