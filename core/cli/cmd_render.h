/* cmd_render.h -- `pipeline render [--template T.jinja] ROWS.jsonl`. */
#ifndef FT_CLI_CMD_RENDER_H
#define FT_CLI_CMD_RENDER_H

/* argv[0] is "render".  Prints one JSON line a row to standard output and returns the exit status:
 * 0 also when rows had errors (their lines say so), 1 when a file or the template is at fault, 2
 * for a wrong command line. */
int ft_cmd_render(int argc, char **argv);
#endif
