/* cmd_list.c -- `pipeline list`: every plugin in the folders, loaded, refused or hidden. */
#include "core/base/json.h"
#include "core/cli/cli.h"

/* One member of an object: `before`, then "key": "value". */
static void write_member(ft_buf *out, const char *before, const char *key, const char *value)
{
    ft_buf_printf(out, "%s\"%s\": ", before, key);
    ft_json_quote(out, value, strlen(value));
}

/* An array with one object a file; a refused one has "refused", a hidden one "hidden". */
static void write_json(ft_buf *out, const ft_listed *all, size_t n)
{
    ft_buf_puts(out, "[");
    for (size_t i = 0; i < n; i++) {
        const ft_loaded *p = all[i].plugin;
        write_member(out, i ? ",\n  {" : "\n  {", "name", all[i].name);
        write_member(out, ", ", "file", all[i].path);
        if (p) {
            write_member(out, ", ", "role", p->desc.role);
            write_member(out, ", ", "version", p->desc.version);
            write_member(out, ", ", "summary", p->desc.summary);
            write_member(out, ", ", "sha256", p->sha256);
            write_member(out, ", ", "build_id", p->build_id);
        } else {
            write_member(out, ", ", all[i].hidden ? "hidden" : "refused", all[i].why);
        }
        ft_buf_putc(out, '}');
    }
    ft_buf_puts(out, n ? "\n]\n" : "]\n");
}

/* One line a file, names and roles in columns. */
static void write_table(ft_buf *out, const ft_listed *all, size_t n)
{
    int name = 4, role = 4;
    for (size_t i = 0; i < n; i++) {
        int k = (int)strlen(all[i].name);
        int m = all[i].plugin ? (int)strlen(all[i].plugin->desc.role) : 0;
        if (k > name && k <= 64) name = k;
        if (m > role) role = m;
    }
    for (size_t i = 0; i < n; i++) {
        const ft_loaded *p = all[i].plugin;
        ft_buf_printf(out, "%-*s  ", name, all[i].name);
        if (p) ft_buf_printf(out, "%-*s  %-7s  %s  (%s)\n", role, p->desc.role, p->desc.version,
                             p->desc.summary, p->path);
        else if (all[i].hidden) ft_buf_printf(out, "%s, %s\n", all[i].path, all[i].why);
        else ft_buf_printf(out, "refused: %s\n", all[i].why);
    }
    if (!n) ft_buf_puts(out, "no plugins\n");
}

int cmd_list(ft_cli *cli, int argc, char **argv)
{
    bool json = argc == 2 && !strcmp(argv[1], "--json");
    if (argc > 1 && !json) return ft_cli_usage(cli, "list");
    ft_err e = { 0 };
    const ft_listed *all;
    size_t n;
    ft_buf out = { 0 };
    ft_registry *r = ft_cli_plugins(cli, &e);
    if (!r || ft_registry_list(r, &all, &n, &e)) return ft_cli_fail(FT_EXIT_USAGE, "%s", e.msg);
    if (json) write_json(&out, all, n);
    else write_table(&out, all, n);
    return ft_cli_put(&out);
}
