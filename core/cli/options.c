/* options.c -- see options.h. */
#include "core/cli/options.h"
#include "core/base/suggest.h"

static int unknown(const char *arg, const ft_option *table)
{
    ft_suggestion s;
    ft_suggest_start(&s, arg);
    for (const ft_option *o = table; o->name; o++) ft_suggest_offer(&s, o->name);
    return ft_cli_fail(FT_EXIT_USAGE, "unknown option %s%s%s%s", arg,
                       s.best ? "; did you mean " : "", s.best ? s.best : "", s.best ? "?" : "");
}

/* The option that argv[i] names, with "--x=V" as well as "--x V"; *text: what follows '='. */
static const ft_option *find(const char *arg, const ft_option *table, const char **text)
{
    for (const ft_option *o = table; o->name; o++) {
        size_t n = strlen(o->name);
        if (strncmp(arg, o->name, n) || (arg[n] && arg[n] != '=')) continue;
        *text = arg[n] == '=' ? arg + n + 1 : NULL;
        return o;
    }
    return NULL;
}

int ft_options(const ft_cli *cli, int argc, char **argv, const ft_option *table, const char **rest,
               int max_rest)
{
    int n_rest = 0;
    bool end = false;
    for (int i = 1; i < argc; i++) {
        const char *text = NULL;
        if (!end && !strcmp(argv[i], "--")) {
            end = true;
            continue;
        }
        if (end || argv[i][0] != '-' || !argv[i][1]) {
            if (n_rest == max_rest) return ft_cli_usage(cli, argv[0]);
            rest[n_rest++] = argv[i];
            continue;
        }
        const ft_option *o = find(argv[i], table, &text);
        if (!o) return unknown(argv[i], table);
        if (o->is_switch) *o->value = o->name;
        else if (text) *o->value = text;
        else if (i + 1 < argc) *o->value = argv[++i];
        else return ft_cli_fail(FT_EXIT_USAGE, "%s needs a value", o->name);
    }
    for (const ft_option *o = table; o->name; o++) {
        if (o->required && !*o->value)
            return ft_cli_fail(FT_EXIT_USAGE, "%s: %s is needed", argv[0], o->name);
    }
    return 0;
}
