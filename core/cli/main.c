/* main.c -- the program `pipeline`: global options, then one of the commands. */
#include <stdlib.h>
#include "core/base/suggest.h"
#include "core/cli/cli.h"
#include "core/cli/cmd_render.h"
#include "core/config/value.h"
#include "core/load/crash.h"

static int run_render(ft_cli *cli, int argc, char **argv)
{
    (void)cli;
    return ft_cmd_render(argc, argv);
}

static const ft_command commands[] = {
    { "run", cmd_run,
      "FILE [stage.key=value …] [~stage.key] [--from ID] [--only ID] [--resume] [--profile]",
      "run a pipeline: plan, run what has changed, report" },
    { "check", cmd_check, "FILE [stage.key=value …] [--json] [--profile]",
      "validate and plan a pipeline without loading weights" },
    { "score", cmd_score,
      "--model DIR_OR_GGUF [--adapter DIR] --tokens F.safetensors [--out G.safetensors] [--dtype "
      "fp32|bf16]",
      "loss and logits of token rows" },
    { "generate", cmd_generate,
      "--model DIR_OR_GGUF [--adapter DIR] [--prompt TEXT] [--prompts F.jsonl] [--max-new-tokens "
      "N] [--temperature T] [--top-k K] "
      "[--top-p P] [--seed N] [--dtype auto|fp32|bf16] [--raw] [--json] [PROMPT …]",
      "what a model answers" },
    { "tokenize", cmd_tokenize,
      "--model DIR_OR_GGUF [--chat] [--offsets] [--decode] [--add-special] [TEXT | FILE.jsonl | < "
      "stdin]",
      "text or chats to token ids, and back" },
    { "render", run_render, "[--template T.jinja] ROWS.jsonl",
      "what a chat template makes of rows of messages" },
    { "report", cmd_report, "OUTPUT_DIR [--out F.html]", "build report.html of a run again" },
    { "doctor", cmd_doctor, "[--json]",
      "look at the machine: what is there, what is missing, what to do about it" },
    { "list", cmd_list, "[--json]", "the plugins there are, and those refused with the reason" },
    { "help", cmd_help, "[COMMAND | PLUGIN [--json]]", "this list, or one command's or plugin's" },
    { 0 },
};

/* The value of option `name` at argv[*i] ("--x V" or "--x=V"), NULL when it is another argument.
 * *i moves to the last argument used; *missing: no value follows. */
static const char *option(int argc, char **argv, int *i, const char *name, bool *missing)
{
    size_t n = strlen(name);
    if (strncmp(argv[*i], name, n)) return NULL;
    if (argv[*i][n] == '=') return argv[*i] + n + 1;
    if (argv[*i][n]) return NULL;
    if (*i + 1 < argc) return argv[++*i];
    *missing = true;
    return NULL;
}

/* from: the option or variable that said so, for the message. */
static int set_threads(ft_cli *cli, const char *text, const char *from)
{
    int64_t n;
    if (ft_text_to_int(&n, text) || n < 1 || n > 4096)
        return ft_cli_fail(FT_EXIT_USAGE, "%s: \"%s\" is no number of threads; 1 to 4096", from,
                           text);
    cli->threads = (int)n;
    return 0;
}

/* Takes the global options out of argv, wherever they stand before a "--". */
static int global_options(ft_cli *cli, int *argc, char **argv)
{
    int kept = 1, status = 0;
    bool missing = false, end = false;
    for (int i = 1; i < *argc && !status && !missing; i++) {
        const char *v = NULL;
        if (!strcmp(argv[i], "--")) end = true;
        if (!end && (v = option(*argc, argv, &i, "--plugin-dir", &missing)))
            cli->plugin_dir[cli->n_plugin_dirs++] = v;
        else if (!end && !missing && (v = option(*argc, argv, &i, "--threads", &missing)))
            status = set_threads(cli, v, "--threads");
        else
            argv[kept++] = argv[i];
    }
    if (missing) status = ft_cli_fail(FT_EXIT_USAGE, "%s needs a value", argv[*argc - 1]);
    argv[kept] = NULL;
    *argc = kept;
    return status;
}

/* An unknown command, with the nearest one. */
static int no_command(const char *name)
{
    ft_suggestion s;
    ft_suggest_start(&s, name);
    for (const ft_command *c = commands; c->name; c++) ft_suggest_offer(&s, c->name);
    return ft_cli_fail(FT_EXIT_USAGE, "no command \"%.64s\"%s%s%s", name,
                       s.best ? "; did you mean \"" : "; `pipeline help` lists them",
                       s.best ? s.best : "", s.best ? "\"?" : "");
}

/* Whether --help stands among a command's arguments. */
static bool wants_help(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--"); i++) {
        if (!strcmp(argv[i], "--help")) return true;
    }
    return false;
}

/* Options, then the command; returns the exit status. */
static int run(ft_cli *cli, int argc, char **argv)
{
    const char *env = getenv("PIPELINE_THREADS");
    int status = env && *env ? set_threads(cli, env, "PIPELINE_THREADS") : 0;
    if (!status) status = global_options(cli, &argc, argv);
    if (status) return status;
    char *help[] = { (char[]){ "help" }, argc > 1 ? argv[1] : NULL, NULL };
    if (argc < 2 || !strcmp(argv[1], "--help")) return cmd_help(cli, 1, help);
    if (!strcmp(argv[1], "--version")) {
        printf("pipeline %s (plugin ABI %d.%d)\n", FT_VERSION, FT_ABI_MAJOR, FT_ABI_MINOR);
        return ft_cli_flush();
    }
    const ft_command *c = ft_cli_command(cli, argv[1]);
    if (!c) return no_command(argv[1]);
    if (wants_help(argc - 1, argv + 1)) return cmd_help(cli, 2, help);
    return c->run(cli, argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
    ft_cli cli = { .commands = commands };
    cli.plugin_dir = calloc((size_t)argc + 1, sizeof *cli.plugin_dir);
    if (!cli.plugin_dir) return ft_cli_fail(FT_EXIT_FAILED, "out of memory");
    ft_log_init(&cli.log, stderr);
    ft_crash_install();
    int status = run(&cli, argc, argv);
    ft_registry_free(cli.registry);
    ft_log_close(&cli.log);
    free(cli.plugin_dir);
    return status;
}
