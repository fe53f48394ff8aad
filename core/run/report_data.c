/* report_data.c -- see report_data.h. */
#include "core/run/report_data.h"
#include <math.h>
#include <stdio.h>
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/config/yaml.h"

enum { MOST_LOCK = 1 << 20, MOST_LINE = 1 << 20, MOST_POINTS = 4 << 20 };

int64_t ft_report_lines(const char *dir, const char *name,
                        bool (*on)(void *ctx, const ft_json *row), void *ctx)
{
    char path[4096];
    ft_map_file f;
    int64_t bad = 0;
    bool more = true;
    if (ft_path_join(path, sizeof path, dir, name, NULL) || !ft_file_exists(path) ||
        ft_file_map(&f, path, NULL))
        return 0;
    for (size_t at = 0, end; at < f.n && more; at = end + 1) {
        const char *newline = memchr(f.p + at, '\n', f.n - at);
        end = newline ? (size_t)(newline - f.p) : f.n;
        if (end == at) continue;
        ft_json_doc *doc = end - at <= MOST_LINE ? ft_json_parse(name, f.p + at, end - at, NULL)
                                                 : NULL;
        if (doc && ft_json_root(doc)->type == FT_JSON_OBJECT) more = on(ctx, ft_json_root(doc));
        else bad++;
        ft_json_done(doc);
    }
    ft_file_unmap(&f);
    return bad;
}

/* ---- metrics --------------------------------------------------------------------------------- */

static void add_point(ft_series *s, double x, const ft_json *row, const char *key, double *last)
{
    ft_point p = { .x = x };
    if (!ft_json_as_real(ft_json_get(row, key), &p.y) || ft_series_n(s) >= MOST_POINTS) return;
    ft_buf_add(&s->points, &p, sizeof p);
    *last = p.y;
}

static bool on_metrics(void *ctx, const ft_json *row)
{
    ft_report_data *d = ctx;
    double step, ignored;
    int64_t n = 0;
    if (!ft_json_as_real(ft_json_get(row, "step"), &step)) return true;
    add_point(&d->loss, step, row, "loss", &d->last_loss);
    add_point(&d->rate, step, row, "learning_rate", &ignored);
    add_point(&d->eval, step, row, "eval_loss", &d->last_eval);
    if (ft_json_as_int(ft_json_get(row, "tokens"), &n) && n > 0 && n < INT64_MAX - d->seen_tokens)
        d->seen_tokens += n;
    if (ft_json_get(row, "loss") && step > (double)d->steps && step < 1e15)
        d->steps = (int64_t)step;
    return true;
}

static bool on_timing(void *ctx, const ft_json *row)
{
    ft_report_data *d = ctx;
    double s;
    int64_t peak;
    if (ft_json_as_real(ft_json_get(row, "seconds"), &s) && s > 0) d->seconds += s;
    if (ft_json_as_int(ft_json_get(row, "peak_bytes"), &peak) && peak > (int64_t)d->peak_bytes)
        d->peak_bytes = (uint64_t)peak;
    return true;
}

static void take_int(const ft_json *o, const char *key, int64_t *to)
{
    int64_t v;
    if (ft_json_as_int(ft_json_get(o, key), &v) && v > 0) *to = v;
}

static bool on_summary(void *ctx, const ft_json *row)
{
    ft_report_data *d = ctx;
    take_int(row, "steps", &d->planned_steps);
    take_int(row, "trainable", &d->trainable);
    take_int(row, "parameters", &d->parameters);
    take_int(row, "planned_peak_rss_bytes", &d->planned_bytes);
    return false;
}

/* ---- run.lock.yaml --------------------------------------------------------------------------- */

static const char *kept(ft_arena *a, const ft_yaml *map, const char *key)
{
    const ft_yaml *v = map && map->type == FT_YAML_MAP ? ft_yaml_get(map, key) : NULL;
    const char *text = v ? ft_yaml_text(v) : NULL;
    char *copy = text ? ft_arena_strndup(a, text, strlen(text)) : NULL;
    return copy ? copy : "";
}

/* "lora → train-sft": what the stages use, in order. */
static const char *method_of(ft_arena *a, const ft_yaml *root)
{
    const ft_yaml *list = root && root->type == FT_YAML_MAP ? ft_yaml_get(root, "stages") : NULL;
    ft_buf b = { 0 };
    for (const ft_yaml *s = list && list->type == FT_YAML_LIST ? list->first : NULL; s; s = s->next)
        ft_buf_printf(&b, "%s%s", b.n ? " → " : "", kept(a, s, "use"));
    char *copy = b.n ? ft_arena_strndup(a, b.p, b.n) : NULL;
    ft_buf_free(&b);
    return copy ? copy : "";
}

/* The artifact of a line "# stage ID: … key HEX", where it is a name that a run may have made. */
static bool artifact_name(char out[128], const char *line, size_t n)
{
    static const char head[] = "# stage ", key[] = ", key ";
    const char *colon = n > sizeof head ? memchr(line, ':', n) : NULL;
    if (!colon || memcmp(line, head, sizeof head - 1)) return false;
    const char *id = line + sizeof head - 1, *at = NULL;
    for (size_t i = 0; i + sizeof key - 1 <= n; i++) {
        if (!memcmp(line + i, key, sizeof key - 1)) at = line + i + sizeof key - 1;
    }
    size_t n_id = (size_t)(colon - id);
    if (!at || n_id == 0 || n_id > 64 || (size_t)(line + n - at) < 16 || memchr(id, '/', n_id) ||
        *id == '.')
        return false;
    if (strspn(at, "0123456789abcdef") < 16) return false;
    snprintf(out, 128, "%.*s-%.16s", (int)n_id, id, at);
    return true;
}

/* Looks for what the report shows in one artifact. */
static void look_into(ft_report_data *d, const char *name)
{
    char folder[4096], path[4096];
    const char *cache = getenv("PIPELINE_CACHE");
    int code = cache && *cache ? ft_path_join(folder, sizeof folder, cache, name, NULL)
                               : ft_path_join(path, sizeof path, d->dir, "artifacts", NULL) ||
                                     ft_path_join(folder, sizeof folder, path, name, NULL);
    if (code || !ft_is_dir(folder)) return;
    ft_report_lines(folder, "trained.json", on_summary, d);
    if (d->n_rows < FT_REPORT_STAGES &&
        !ft_path_join(path, sizeof path, folder, "rows.json", NULL) && ft_file_exists(path)) {
        d->rows[d->n_rows] = ft_arena_strndup(&d->arena, folder, strlen(folder));
        d->n_rows += d->rows[d->n_rows] != NULL;
    }
    if (!ft_path_join(path, sizeof path, folder, "tokens.safetensors", NULL) &&
        ft_file_exists(path))
        d->tokens = ft_arena_strndup(&d->arena, path, strlen(path));
}

static int read_lock(ft_report_data *d, ft_err *e)
{
    char path[4096], name[128];
    ft_diags diags = { .n = 0 };
    ft_yaml *root = NULL;
    size_t events = 0;
    int code = ft_path_join(path, sizeof path, d->dir, "run.lock.yaml", e);
    if (!code && !ft_file_exists(path))
        code = ft_errf(e, FT_EINVAL, "%s is no output folder of a run: it has no run.lock.yaml",
                       d->dir);
    if (!code) code = ft_file_read(&d->lock, path, MOST_LOCK, e);
    if (code) return code;
    ft_buf_puts(&d->lock, "");
    ft_config_file f = { .name = path, .text = d->lock.p, .n = d->lock.n };
    if (ft_yaml_parse(&root, &d->arena, &f, &events, &diags)) root = NULL;
    d->name = kept(&d->arena, root, "name");
    d->model = kept(&d->arena, root, "model");
    d->method = method_of(&d->arena, root);
    ft_diags_free(&diags);
    for (size_t at = 0, end; at < d->lock.n; at = end + 1) {
        end = at + strcspn(d->lock.p + at, "\n");
        if (artifact_name(name, d->lock.p + at, end - at)) look_into(d, name);
    }
    return 0;
}

int ft_report_read(ft_report_data *d, const char *dir, ft_err *e)
{
    *d = (ft_report_data){ .dir = dir, .last_loss = NAN, .last_eval = NAN };
    int code = read_lock(d, e);
    if (code) return code;
    d->bad_lines = ft_report_lines(dir, "metrics.jsonl", on_metrics, d);
    d->bad_lines += ft_report_lines(dir, "timing.jsonl", on_timing, d);
    bool oom = d->loss.points.oom || d->eval.points.oom || d->rate.points.oom || d->lock.oom;
    return oom ? ft_errf(e, FT_ENOMEM, "out of memory for the report of %s", dir) : 0;
}

void ft_report_data_free(ft_report_data *d)
{
    ft_buf_free(&d->loss.points);
    ft_buf_free(&d->eval.points);
    ft_buf_free(&d->rate.points);
    ft_buf_free(&d->lock);
    ft_arena_free(&d->arena);
}
