/* row_count.c -- see row_count.h. */
#include "core/run/row_count.h"
#include <string.h>
#include "core/base/file.h"
#include "core/base/json.h"

void ft_row_count_drop(ft_row_count *c, const char *reason, int64_t rows)
{
    int i = 0;
    if (rows <= 0) return;
    c->dropped += rows;
    while (i < c->n && strncmp(c->reason[i].text, reason, sizeof c->reason[i].text - 1)) i++;
    if (i == FT_MOST_REASONS) i--;
    if (i == c->n) {
        c->n++;
        snprintf(c->reason[i].text, sizeof c->reason[i].text, "%s",
                 i == FT_MOST_REASONS - 1 ? "other reasons" : reason);
    }
    c->reason[i].rows += rows;
}

int ft_row_count_tell(const ft_row_count *c, ft_run *r, const ft_stage *s, const char *dir,
                      ft_err *e)
{
    const char *id = s->conf->id;
    ft_log *log = &r->cli->log;
    ft_buf b = { 0 };
    char path[4096];
    ft_log_line(log, FT_INFO, id, "%lld rows", (long long)c->kept);
    if (c->dropped)
        ft_log_line(log, FT_WARN, id, "%lld of %lld rows were left out:", (long long)c->dropped,
                    (long long)(c->kept + c->dropped));
    ft_buf_puts(&b, "{\"stage\": ");
    ft_json_quote(&b, id, strlen(id));
    ft_buf_printf(&b, ", \"rows\": %lld, \"dropped\": %lld, \"reasons\": {", (long long)c->kept,
                  (long long)c->dropped);
    for (int i = 0; i < c->n; i++) {
        ft_log_line(log, FT_WARN, id, "  %lld: %s", (long long)c->reason[i].rows,
                    c->reason[i].text);
        if (i) ft_buf_puts(&b, ", ");
        ft_json_quote(&b, c->reason[i].text, strlen(c->reason[i].text));
        ft_buf_printf(&b, ": %lld", (long long)c->reason[i].rows);
    }
    ft_buf_puts(&b, "}}\n");
    int code = ft_path_join(path, sizeof path, dir, "rows.json", e);
    if (!code) code = ft_file_write_buf(path, &b, e);
    ft_buf_free(&b);
    return code;
}
