/* cli.h -- what the commands of `pipeline` share.  Each command is one file cmd_NAME.c with one
 * function, and one row in main.c. */
#ifndef FT_CORE_CLI_H
#define FT_CORE_CLI_H
#include "core/base/log.h"
#include "core/load/registry.h"

#define FT_VERSION "0.1.0"

/* Exit statuses. */
enum {
    FT_EXIT_OK = 0,
    FT_EXIT_FAILED = 1,     /* the work could not be done; the reason is on standard error */
    FT_EXIT_USAGE = 2,      /* the command line or the configuration is wrong */
    FT_EXIT_CRASHED = 3,    /* a plugin died */
    FT_EXIT_STOPPED = 130,  /* Ctrl-C */
};

typedef struct ft_cli ft_cli;

typedef struct {
    const char *name;
    /* argv[0] is the command's name; global options are taken out.  Returns an exit status. */
    int (*run)(ft_cli *cli, int argc, char **argv);
    const char *args; /* "FILE [key=value …]" */
    const char *help; /* one line */
} ft_command;

struct ft_cli {
    const ft_command *commands; /* ends with name NULL */
    const char **plugin_dir;    /* of --plugin-dir, in order */
    int n_plugin_dirs;
    int threads;                /* of --threads or PIPELINE_THREADS; 0: not given */
    ft_registry *registry;      /* see ft_cli_plugins */
    ft_log log;                 /* to standard error */
};

/* The plugins, with all folders; opened at the first call.  NULL after an error. */
ft_registry *ft_cli_plugins(ft_cli *cli, ft_err *e);

/* "pipeline: MESSAGE" on standard error; returns status. */
int ft_cli_fail(int status, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* How a command is called, on standard error; returns FT_EXIT_USAGE. */
int ft_cli_usage(const ft_cli *cli, const char *command);
/* Flushes standard output: FT_EXIT_OK, or FT_EXIT_FAILED (said) when it could not be written. */
int ft_cli_flush(void);
/* Writes b to standard output, flushes, frees it. */
int ft_cli_put(ft_buf *b);

const ft_command *ft_cli_command(const ft_cli *cli, const char *name);
/* The list of commands and global options. */
void ft_cli_write_usage(ft_buf *out, const ft_cli *cli);

int cmd_help(ft_cli *cli, int argc, char **argv);
int cmd_list(ft_cli *cli, int argc, char **argv);
int cmd_run(ft_cli *cli, int argc, char **argv);
int cmd_check(ft_cli *cli, int argc, char **argv);
int cmd_generate(ft_cli *cli, int argc, char **argv);
int cmd_score(ft_cli *cli, int argc, char **argv);
#endif
