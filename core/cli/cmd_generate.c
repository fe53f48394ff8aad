/* cmd_generate.c -- `pipeline generate`: what a model answers.
 *
 *   pipeline generate --model DIR_OR_GGUF [--adapter DIR] [--prompt TEXT] [--prompts F.jsonl]
 *   [--max-new-tokens 128]
 *                     [--temperature 0] [--top-k 0] [--top-p 1] [--seed 0] [--dtype fp32] [--raw]
 *                     [--json] [PROMPT …]
 *
 * A prompt is what a user says; the model's chat template is put around it, unless --raw.  A line
 * of F is a string, or an object with `messages` or `prompt`.  Without prompts, lines of standard
 * input are taken.  Answers go to standard output, one after the other; with --json as one object a
 * line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/cli/cli.h"
#include "core/cli/options.h"
#include "core/config/value.h"
#include "core/run/chat.h"
#include "core/run/generate.h"
#include "core/run/services.h"

enum { MOST_PROMPTS = 1024 };

typedef struct {
    const char *model, *adapter, *prompt, *prompts, *new_tokens, *temperature, *top_k, *top_p,
        *seed, *raw, *json, *dtype;
    const char *rest[MOST_PROMPTS + 1];
} options;

typedef struct {
    const options *o;
    ft_chat chat;
    ft_buf ids, at;        /* all prompts' ids; where each starts */
    ft_generate_args args;
    ft_continuation *text;
    int32_t *out;
    int64_t n;
} asking;

/* ---- prompts --------------------------------------------------------------------------------- */

/* What a user says, as a conversation of one message. */
static int add_text(asking *a, const char *text, size_t n, ft_err *e)
{
    const ft_json part[] = {
        { .type = FT_JSON_STRING, .text = "user", .len = 4, .key = "role", .key_len = 4 },
        { .type = FT_JSON_STRING, .text = text, .len = (uint32_t)n, .key = "content",
          .key_len = 7 },
    };
    const ft_json message = { .type = FT_JSON_OBJECT, .item = part, .len = 2 };
    const ft_json all = { .type = FT_JSON_ARRAY, .item = &message, .len = 1 };
    size_t at = a->ids.n;
    ft_buf_add(&a->at, &at, sizeof at);
    a->n++;
    if (a->o->raw) return ft_chat_raw(&a->chat, text, n, FT_ENCODE_ADD_SPECIAL, &a->ids, e);
    return ft_chat_prompt(&a->chat, &all, &a->ids, e);
}

static int add_row(asking *a, const ft_json *v, const char *place, ft_err *e)
{
    const ft_json *messages = ft_json_get(v, "messages"),
                  *prompt = v->type == FT_JSON_STRING ? v : ft_json_get(v, "prompt");
    if (prompt && prompt->type == FT_JSON_STRING) return add_text(a, prompt->text, prompt->len, e);
    if (!messages)
        return ft_errf(e, FT_EFORMAT,
                       "%s: a prompt is a string, or an object with `messages` or `prompt`", place);
    size_t at = a->ids.n;
    ft_buf_add(&a->at, &at, sizeof at);
    a->n++;
    return ft_chat_prompt(&a->chat, messages, &a->ids, e);
}

static int add_file(asking *a, const char *path, ft_err *e)
{
    ft_map_file f;
    int code = ft_file_map(&f, path, e);
    if (code) return code;
    int64_t line = 1;
    for (size_t at = 0, end; at < f.n && !code; at = end + 1, line++) {
        const char *newline = memchr(f.p + at, '\n', f.n - at);
        char place[4200];
        end = newline ? (size_t)(newline - f.p) : f.n;
        if (strspn(f.p + at, " \t\r") >= end - at) continue;
        snprintf(place, sizeof place, "%s:%lld", path, (long long)line);
        ft_json_doc *doc = ft_json_parse(place, f.p + at, end - at, e);
        code = doc ? add_row(a, ft_json_root(doc), place, e) : e->code;
        ft_json_done(doc);
    }
    ft_file_unmap(&f);
    return code;
}

static int add_input(asking *a, ft_err *e)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t n;
    int code = 0;
    while (!code && (n = getline(&line, &room, stdin)) >= 0) {
        if (n && line[n - 1] == '\n') n--;
        if (n) code = add_text(a, line, (size_t)n, e);
    }
    free(line);
    return code;
}

static int add_prompts(asking *a, ft_err *e)
{
    int code = 0;
    if (a->o->prompt) code = add_text(a, a->o->prompt, strlen(a->o->prompt), e);
    for (int i = 0; a->o->rest[i] && !code; i++)
        code = add_text(a, a->o->rest[i], strlen(a->o->rest[i]), e);
    if (!code && a->o->prompts) code = add_file(a, a->o->prompts, e);
    if (!code && !a->o->prompt && !a->o->rest[0] && !a->o->prompts) code = add_input(a, e);
    if (!code && a->n == 0) code = ft_errf(e, FT_EINVAL, "there is no prompt");
    return code;
}

/* ---- answers --------------------------------------------------------------------------------- */

static int lay_out(asking *a, ft_err *e)
{
    size_t most = (size_t)a->args.max_new_tokens;
    a->text = calloc((size_t)a->n, sizeof *a->text);
    a->out = calloc((size_t)a->n * most + 1, sizeof *a->out);
    if (!a->text || !a->out || a->at.oom)
        return ft_errf(e, FT_ENOMEM, "out of memory for the answers");
    const size_t *at = (const size_t *)(const void *)a->at.p;
    for (int64_t i = 0; i < a->n; i++) {
        size_t end = i + 1 < a->n ? at[i + 1] : a->ids.n;
        a->text[i] = (ft_continuation){ .prompt = (const int32_t *)(const void *)(a->ids.p + at[i]),
                                        .n_prompt = (int64_t)((end - at[i]) / 4),
                                        .out = a->out + (size_t)i * most };
    }
    return 0;
}

static void put_ids(ft_buf *b, const char *key, const int32_t *id, int64_t n)
{
    ft_buf_printf(b, "\"%s\": [", key);
    for (int64_t i = 0; i < n; i++) ft_buf_printf(b, "%s%d", i ? ", " : "", id[i]);
    ft_buf_puts(b, "]");
}

static int print_answers(asking *a, ft_err *e)
{
    ft_buf b = { 0 }, text = { 0 };
    int code = 0;
    for (int64_t i = 0; i < a->n && !code; i++) {
        const ft_continuation *t = &a->text[i];
        text.n = 0;
        code = ft_chat_text(&a->chat, t->out, t->n_out, false, &text, e);
        if (a->o->json) {
            ft_buf_puts(&b, "{\"text\": ");
            ft_json_quote(&b, text.p ? text.p : "", text.n);
            ft_buf_puts(&b, ", ");
            put_ids(&b, "prompt_ids", t->prompt, t->n_prompt);
            ft_buf_puts(&b, ", ");
            put_ids(&b, "ids", t->out, t->n_out);
            ft_buf_printf(&b, ", \"stopped\": %s}\n", t->stopped ? "true" : "false");
        } else {
            if (text.n) ft_buf_add(&b, text.p, text.n);
            ft_buf_puts(&b, i + 1 < a->n ? "\n\n" : "\n");
        }
    }
    ft_buf_free(&text);
    if (!code && ft_cli_put(&b)) code = ft_errf(e, FT_EIO, "cannot write the answers");
    else if (code) ft_buf_free(&b);
    return code;
}

static int run(ft_cli *cli, asking *a, ft_err *e)
{
    ft_lm_run lm = { .adapter = NULL };
    ft_progress progress;
    ft_registry *r = ft_cli_plugins(cli, e);
    ft_offer offer = ft_run_offer(&cli->log);
    int code = r ? ft_lm_open(&lm, r, &offer, a->o->model, a->o->adapter, cli->threads, e)
                 : e->code;
    if (!code) code = ft_chat_open(&a->chat, lm.model.source, r, &offer, e);
    if (!code) code = add_prompts(a, e);
    if (!code) code = lay_out(a, e);
    if (!code) {
        ft_asked asked = ft_asked_lm(&lm, ft_machine_compute(&lm.machine, a->o->dtype));
        a->args.stop = a->chat.stop;
        a->args.n_stop = a->chat.n_stop;
        ft_progress_start(&progress, &cli->log, "generate");
        code = ft_generate(&asked, &a->args, lm.model.info.context, a->text, a->n, &progress, e);
        ft_progress_end(&progress);
    }
    if (!code) code = print_answers(a, e);
    ft_chat_close(&a->chat);
    ft_lm_close(&lm);
    return code;
}

/* ---- the command ----------------------------------------------------------------------------- */

static bool read_number(const char *text, double least, double most, double *out)
{
    char *end;
    *out = strtod(text, &end);
    return *text && !*end && *out >= least && *out <= most;
}

/* The numbers among the options; 0, or an exit status after the message. */
static int read_numbers(const options *o, ft_generate_args *g)
{
    int64_t seed;
    double top_k, new_tokens;
    if (!read_number(o->new_tokens, 1, 1 << 20, &new_tokens))
        return ft_cli_fail(FT_EXIT_USAGE, "--max-new-tokens %s: 1 to 1048576", o->new_tokens);
    if (!read_number(o->temperature, 0, 100, &g->temperature))
        return ft_cli_fail(FT_EXIT_USAGE, "--temperature %s: 0 to 100", o->temperature);
    if (!read_number(o->top_k, 0, 1e9, &top_k))
        return ft_cli_fail(FT_EXIT_USAGE, "--top-k %s: 0 (all) or more", o->top_k);
    if (!read_number(o->top_p, 1e-9, 1, &g->top_p))
        return ft_cli_fail(FT_EXIT_USAGE, "--top-p %s: above 0, at most 1", o->top_p);
    if (ft_text_to_int(&seed, o->seed))
        return ft_cli_fail(FT_EXIT_USAGE, "--seed %s: a whole number", o->seed);
    if (strcmp(o->dtype, "fp32") && strcmp(o->dtype, "bf16") && strcmp(o->dtype, "auto"))
        return ft_cli_fail(FT_EXIT_USAGE, "--dtype %s: auto, fp32 or bf16", o->dtype);
    g->max_new_tokens = (int64_t)new_tokens;
    g->top_k = (int64_t)top_k;
    g->seed = (uint64_t)seed;
    return 0;
}

int cmd_generate(ft_cli *cli, int argc, char **argv)
{
    options o = { .new_tokens = "128",
                  .temperature = "0",
                  .top_k = "0",
                  .top_p = "1",
                  .seed = "0",
                  .dtype = "fp32" };
    asking a = { .o = &o };
    const ft_option table[] = {
        { .name = "--model", .value = &o.model, .required = true },
        { .name = "--adapter", .value = &o.adapter },
        { .name = "--prompt", .value = &o.prompt },
        { .name = "--prompts", .value = &o.prompts },
        { .name = "--max-new-tokens", .value = &o.new_tokens },
        { .name = "--temperature", .value = &o.temperature },
        { .name = "--top-k", .value = &o.top_k },
        { .name = "--top-p", .value = &o.top_p },
        { .name = "--seed", .value = &o.seed },
        { .name = "--dtype", .value = &o.dtype },
        { .name = "--raw", .value = &o.raw, .is_switch = true },
        { .name = "--json", .value = &o.json, .is_switch = true },
        { .name = NULL },
    };
    ft_err e = { 0 };
    int status = ft_options(cli, argc, argv, table, o.rest, MOST_PROMPTS);
    if (!status) status = read_numbers(&o, &a.args);
    if (status) return status;
    int code = run(cli, &a, &e);
    free(a.text);
    free(a.out);
    ft_buf_free(&a.ids);
    ft_buf_free(&a.at);
    return code ? ft_cli_fail(code == FT_ECANCEL ? FT_EXIT_STOPPED : FT_EXIT_FAILED, "%s", e.msg)
                : 0;
}
