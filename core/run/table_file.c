/* table_file.c -- see table_file.h: finds the plugin of the role "ft.table/1" that claims a file by
 * its first bytes, and reads the file through an instance of it. */
#include "core/run/table_file.h"
#include <stdlib.h>
#include <string.h>
#include "core/run/run.h"

enum { START = 16 };

struct ft_table_file {
    ft_instance *plugin;
    const ft_table *vt;
    ft_err err;
};

/* The first bytes of the file, START at most. */
static size_t first_bytes(char out[START], const char *path)
{
    FILE *f = fopen(path, "rbe");
    size_t n = f ? fread(out, 1, START, f) : 0;
    if (f) fclose(f);
    return n;
}

static const ft_loaded *find_plugin(const ft_host *h, ft_registry *r, const char *path,
                                    const char *kind, ft_err *e)
{
    char start[START];
    size_t n = first_bytes(start, path), n_list = 0;
    const ft_listed *list;
    if (r && ft_registry_list(r, &list, &n_list, e)) {
        h->fail(h, e->code, "%s", e->msg);
        return NULL;
    }
    for (size_t i = 0; i < n_list; i++) {
        const ft_loaded *p = list[i].plugin;
        if (p && !strcmp(p->desc.role, "ft.table/1") &&
            ((const ft_table *)p->desc.vtable)->claims(start, n))
            return p;
    }
    h->fail(h, FT_EUNSUP, "%s is a %s file, and no plugin that reads such files is installed: save "
            "it as JSONL, or build with the plugin for it (`make help`)", path, kind);
    return NULL;
}

/* The message without the stage and plugin before it: those of the caller are named anyway. */
static const char *own_words(const ft_err *e)
{
    const char *at = strstr(e->msg, "): ");
    return at ? at + 3 : e->msg;
}

static void close_rows(ft_table_file *f)
{
    if (!f) return;
    ft_instance_close(f->plugin);
    free(f);
}

static ft_table_file *open_rows(const ft_host *h, const char *path, const char *kind)
{
    const ft_run *run = ft_host_run(h);
    ft_err e = { 0 };
    const ft_loaded *p = find_plugin(h, run ? run->registry : NULL, path, kind, &e);
    ft_table_file *f = p ? calloc(1, sizeof *f) : NULL;
    if (!f) {
        if (p) h->fail(h, FT_ENOMEM, "out of memory");
        return NULL;
    }
    f->plugin = ft_instance_open(p, "rows", NULL, NULL, &f->err);
    int code = f->plugin ? 0 : f->err.code;
    if (!code) {
        f->vt = ft_instance_vtable(f->plugin);
        code = f->vt->begin(ft_instance_self(f->plugin), path);
        if (code) ft_instance_error(f->plugin, code, &f->err);
    }
    if (!code) return f;
    h->fail(h, code, "%s", own_words(&f->err));
    close_rows(f);
    return NULL;
}

static int next_row(ft_table_file *f, ft_bytes *row, const char **why)
{
    int got = f->vt->next(ft_instance_self(f->plugin), row);
    if (got >= 0) return got;
    f->err = (ft_err){ 0 };
    ft_instance_error(f->plugin, got, &f->err);
    *why = own_words(&f->err);
    return got;
}

const ft_table_api ft_table_interface = { sizeof(ft_table_api), open_rows, next_row, close_rows };
