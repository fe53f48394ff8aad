/* options.h -- options of a command, declared in a table. */
#ifndef FT_CORE_OPTIONS_H
#define FT_CORE_OPTIONS_H
#include "core/cli/cli.h"

typedef struct {
    const char *name;    /* "--model"; table ends with NULL */
    const char **value;  /* receives the argument; for a switch, the option's own name */
    bool required;
    bool is_switch;      /* takes no argument */
} ft_option;

/* Reads argv[1] …; what is no option goes to rest[max_rest] (the unused stay NULL).  0, or an exit
 * status after the message. */
int ft_options(const ft_cli *cli, int argc, char **argv, const ft_option *table, const char **rest,
               int max_rest);
#endif
