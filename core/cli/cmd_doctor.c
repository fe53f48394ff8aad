#include "core/cli/cli.h"
int cmd_doctor(ft_cli *cli, int argc, char **argv){(void)cli;(void)argc;(void)argv;return 1;}
