/* data-chatml.c -- rows of JSON, JSONL, CSV or text into rendered text whose every byte is
 * accounted for: the format plugin for chat messages, Alpaca, ShareGPT, prompt/completion, plain
 * text, preference pairs, KTO rows and OpenAssistant trees (rows.c, rows_other.c, rows_more.c),
 * rendered with the model's own chat template (mask.c). */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "ft/data.h"
#include "mask.h"
#include "reader.h"
#include "reasons.h"

typedef struct {
    ft_data_args data;
    const char *path, *val_path, *type, *train_on, *chat_template, *system, *on_bad_row;
    const char *format, *sample_by, *tree;
} config;

typedef struct {
    const ft_host *host;
    const config *config;
    ft_host inner;            /* what template and JSON reader report to: the row's error */
    char inner_error[1024];
    const ft_json_api *json;
    renderer render;
    row_reader rows;
    pool mem;
    reader file;
    bool opened, second;      /* second: val_path is being read */
    int64_t read, skipped;
    reasons why;              /* rows were skipped */
    const ft_json *row;       /* being read; NULL: take the next of the file */
    rendered seq[2];
    bool told_stop;
} self_t;

/* ---- errors of a row ------------------------------------------------------------------------ */

/* host->fail keeps the first error for good; a bad row may be one of many. */
static int inner_fail(const ft_host *host, int code, const char *fmt, ...)
{
    self_t *s = host->ctx;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(s->inner_error, sizeof s->inner_error, fmt, ap);
    va_end(ap);
    memcpy(s->rows.error, s->inner_error, sizeof s->rows.error);
    return code;
}

/* The file being read. */
static const char *path_now(const self_t *s)
{
    return s->second ? s->config->val_path : s->config->path;
}

/* The JSON reader counts lines from the row's first; true when the text begins with a place. */
static bool split_place(const char *text, long long *line, int *used)
{
    int column;
    *used = 0;
    return sscanf(text, "row:%lld:%d:%n", line, &column, used) == 2 && *used > 0;
}

/* The row at hand is bad: passed over and counted, or the end of the run. */
static int bad_row(self_t *s, int code)
{
    const char *why = s->rows.error;
    long long line = 1;
    int used;
    if (code == FT_ENOMEM || code == FT_ECANCEL || code == FT_EIO)
        return s->host->fail(s->host, code, "%s", why);
    if (split_place(why, &line, &used)) why += used + (why[used] == ' ');
    if (!strcmp(s->config->on_bad_row, "skip")) {
        s->skipped++;
        reasons_add(&s->why, why);
        s->host->log(s->host, FT_DEBUG, "skipped %s:%lld: %s", path_now(s),
                     (long long)s->file.row_line + line - 1, why);
        return FT_OK;
    }
    return s->host->fail(s->host, code, "%s:%lld: %s", path_now(s),
                         (long long)s->file.row_line + line - 1, why);
}

/* ---- the template --------------------------------------------------------------------------- */

/* The file of chat_template. */
static int read_template(self_t *s, ft_buf *out)
{
    enum { LIMIT = 8 << 20 };
    char part[4096];
    size_t n;
    FILE *f = fopen(s->config->chat_template, "rbe");
    if (!f) return s->host->fail(s->host, FT_EIO, "%s: cannot be opened", s->config->chat_template);
    while (out->n <= LIMIT && (n = fread(part, 1, sizeof part, f)) > 0) ft_buf_add(out, part, n);
    bool bad = ferror(f);
    fclose(f);
    if (bad || out->n > LIMIT)
        return s->host->fail(s->host, FT_EIO, "%s: %s", s->config->chat_template,
                             bad ? "cannot be read" : "longer than 8 MiB");
    return out->oom ? s->host->fail(s->host, FT_ENOMEM, "out of memory") : FT_OK;
}

/* The template of the configuration, else the model's, else ChatML. */
static int compile_template(self_t *s, const ft_source *model)
{
    ft_buf own = { 0 };
    const char *text = model->chat_template;
    size_t n = text ? strlen(text) : 0;
    if (*s->config->chat_template) {
        int code = read_template(s, &own);
        if (code) {
            ft_buf_free(&own);
            return code;
        }
        text = own.p ? own.p : "";
        n = own.n;
    } else if (!text) {
        s->host->log(s->host, FT_INFO,
                     "the model has no chat template: conversations are written as ChatML");
    }
    s->render.template = s->render.api->compile(s->host, text, n);
    ft_buf_free(&own);
    return s->render.template ? FT_OK : FT_EINVAL;
}

/* ---- opening -------------------------------------------------------------------------------- */

/* An interface of the host; NULL after its fail(). */
static const void *need(const ft_host *host, const char *iface)
{
    const void *p = host->get(host, iface);
    if (!p) host->fail(host, FT_EUNSUP, "this host has no %s", iface);
    return p;
}

/* Opens the file at hand. */
static int open_file(self_t *s)
{
    if (reader_is_table(path_now(s))) {
        int code = reader_open_table(&s->file, s->host, path_now(s));
        s->opened = !code;
        return code;
    }
    if (!reader_open(&s->file, path_now(s), s->config->format, s->config->sample_by))
        return s->host->fail(s->host, FT_EIO, "%s: %s", path_now(s), s->file.error);
    s->opened = true;
    return FT_OK;
}

static void close_(void *self)
{
    self_t *s = self;
    if (s->json) row_done(&s->rows);
    free(s->rows.doc);
    if (s->render.template) s->render.api->done(s->render.template);
    if (s->opened) reader_close(&s->file);
    for (int i = 0; i < 2; i++) rendered_free(&s->seq[i]);
    pool_free(&s->mem);
    *s = (self_t){ 0 };
}

/* Finds the model's template and tokens, opens the rows. */
static int open_(void *self, const ft_host *host, const void *cfg)
{
    self_t *s = self;
    const config *c = cfg;
    s->host = host;
    s->config = c;
    s->inner = (ft_host){ .size = sizeof s->inner, .ctx = s, .fail = inner_fail };
    const ft_source_api *source = need(host, "ft.source/1");
    s->json = source ? need(host, "ft.json/1") : NULL;
    s->render.api = s->json ? need(host, "ft.template/1") : NULL;
    if (!s->render.api) return FT_EUNSUP;
    const ft_source *model = source->model(host);
    if (!model) return FT_EINVAL;
    s->render.host = &s->inner;
    s->render.mem = &s->mem;
    s->render.bos = model->bos_token ? model->bos_token : "";
    s->render.eos = model->eos_token ? model->eos_token : "";
    s->render.train_on = !strcmp(c->train_on, "all")    ? TRAIN_ALL
                         : !strcmp(c->train_on, "last") ? TRAIN_LAST
                                                        : TRAIN_ASSISTANT;
    s->rows = (row_reader){
        .host = &s->inner, .json = s->json, .mem = &s->mem, .system = c->system,
        .tree = c->tree
    };
    int code = compile_template(s, model);
    if (!code) code = open_file(s);
    if (code) close_(s);
    return code;
}

/* ---- rows ----------------------------------------------------------------------------------- */

/* Parses s->file.row into s->row. */
static int parse_row(self_t *s)
{
    row_done(&s->rows);
    s->rows.branch = 0;
    if (s->file.row.oom) return row_fail(&s->rows, FT_ENOMEM, "out of memory");
    ft_json line = json_text(NULL, s->file.row.p ? s->file.row.p : "", s->file.row.n);
    s->row = parse_inner(&s->rows, "row", &line);
    return s->row ? FT_OK : FT_EFORMAT;
}

/* The row at hand, or of a tree the next conversation, into *out: 0, or FT_E* with the reason in
 * s->rows.error. */
static int read_row(self_t *s, ft_sample *out)
{
    data_row row;
    pool_reset(&s->mem);
    int code = s->row ? FT_OK : parse_row(s);
    if (code) return code;
    const ft_json *v = s->row;
    code = row_read(&s->rows, v, s->config->type, &row);
    s->row = !code && ++s->rows.branch < row.branches && row.branches > 1 ? v : NULL;
    for (int i = 0; i < row.n && !code; i++)
        code = render_dialog(&s->render, &row, &row.d[i], &s->seq[i]);
    if (code) return code;
    *out = (ft_sample){ .file = path_now(s), .line = s->file.row_line, .group = row.group,
                        .n_seq = (uint8_t)row.n, .label = row.label };
    out->split = s->second ? FT_SPLIT_VAL : *s->config->val_path ? FT_SPLIT_TRAIN : FT_SPLIT_AUTO;
    for (int i = 0; i < row.n; i++) out->seq[i] = s->seq[i].out;
    return FT_OK;
}

/* The next row of either file into s->file.row: 1, 0 at the end, or FT_E* . */
static int fetch(self_t *s)
{
    for (;;) {
        int got = reader_next(&s->file);
        if (got == 1) return 1;
        if (got == -1)
            return s->host->fail(s->host, FT_EFORMAT, "%s:%lld: %s", path_now(s),
                                 (long long)s->file.row_line, s->file.error);
        if (got == -2) {
            row_fail(&s->rows, FT_EFORMAT, "%s", s->file.error);
            int code = bad_row(s, FT_EFORMAT);
            if (code) return code;
            continue;
        }
        if (s->second || !*s->config->val_path) return 0;
        reader_close(&s->file);
        s->opened = false;
        s->second = true;
        int code = open_file(s);
        if (code) return code;
    }
}

/* Says once that the model cannot learn to stop. */
static void warn_of_stop(self_t *s)
{
    if (!s->render.no_stop || s->told_stop) return;
    s->told_stop = true;
    s->host->log(s->host, FT_WARN,
                 "%s:%lld: nothing marks the end of what is trained (no end-of-turn text, no eos "
                 "token): the model will not learn to stop",
                 path_now(s), (long long)s->file.row_line);
}

/* The next good row. */
static int next(void *self, ft_sample *out)
{
    self_t *s = self;
    for (;;) {
        int got = s->row ? 1 : fetch(s);
        if (got != 1) return got;
        if (++s->read % 256 == 0 && s->host->progress) {
            int code = s->host->progress(s->host, "rows", s->read, 0);
            if (code) return code;
        }
        int code = read_row(s, out);
        if (!code) {
            warn_of_stop(s);
            return 1;
        }
        code = bad_row(s, code);
        if (code) return code;
    }
}

static int64_t skipped(void *self) { return ((self_t *)self)->skipped; }

static bool skip_reason(void *self, size_t i, const char **reason, int64_t *rows)
{
    const reasons *r = &((self_t *)self)->why;
    if (i >= (size_t)r->n) return false;
    *reason = r->text[i];
    *rows = r->rows[i];
    return true;
}

/* ---- descriptor ----------------------------------------------------------------------------- */

static const char *const train_choices[] = { "assistant", "all", "last", NULL };
static const char *const format_choices[] = { "auto", "json", "csv", "text", NULL };
static const char *const sample_choices[] = { "line", "paragraph", "document", NULL };
static const char *const tree_choices[] = { "best", "all", NULL };
static const char *const bad_choices[] = { "error", "skip", NULL };

static const ft_param params[] = {
    { "path", FT_PATH, offsetof(config, path), NULL, 0, 0, NULL,
      "rows: a file of JSONL, JSON (one array), CSV or text, as it is or packed as .gz or .zst, or "
      "of Parquet" },
    { "val_path", FT_PATH, offsetof(config, val_path), "", 0, 0, NULL,
      "rows for evaluation, from a file of their own" },
    FT_DATA_PARAMS(config, data),
    { "type", FT_STR, offsetof(config, type), "auto", 0, 0, row_types,
      "what the rows are; auto looks at their keys" },
    { "format", FT_STR, offsetof(config, format), "auto", 0, 0, format_choices,
      "what the file is; auto goes by its name: .csv, .txt and .md, else JSON or JSONL" },
    { "sample_by", FT_STR, offsetof(config, sample_by), "line", 0, 0, sample_choices,
      "what a row of a text file is: a line, a paragraph (up to a blank line), the whole file" },
    { "tree", FT_STR, offsetof(config, tree), "best", 0, 0, tree_choices,
      "of an OpenAssistant tree the best ranked conversation, or all, each a row of its own" },
    { "train_on", FT_STR, offsetof(config, train_on), "assistant", 0, 0, train_choices,
      "which text carries loss: all replies of the assistant, everything, or the last reply" },
    { "chat_template", FT_PATH, offsetof(config, chat_template), "", 0, 0, NULL,
      "a Jinja file to use instead of the model's own template" },
    { "system", FT_STR, offsetof(config, system), "", 0, 0, NULL,
      "system message for conversations that have none" },
    { "on_bad_row", FT_STR, offsetof(config, on_bad_row), "error", 0, 0, bad_choices,
      "stop at a row that cannot be used, or pass it over and count it" },
    { 0 },
};

static const ft_format format = { sizeof(ft_format), offsetof(config, data), next, skipped,
                                  skip_reason };

static const ft_plugin plugin = {
    .abi = FT_ABI_INIT,
    .role = "ft.format/1",
    .name = "data-chatml",
    .version = "1.0.0",
    .summary =
        "chat messages, Alpaca, ShareGPT, prompt/completion, text, preference pairs, KTO and "
        "trees from JSON, CSV and text",
    .params = params,
    .config_size = sizeof(config),
    .instance_size = sizeof(self_t),
    .open = open_,
    .close = close_,
    .vtable = &format,
};
FT_PLUGIN(plugin, "data-chatml");
