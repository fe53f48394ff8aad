/* export_files.c -- the files of an export: whole ones, copies of the source's, one in pieces. */
#include <string.h>
#include "core/run/exporting.h"

int ft_exporting_failed(const ft_exporting *x, int code, const ft_err *e)
{
    const ft_host *h = ft_instance_host(x->plugin);
    return code ? h->fail(h, code, "%s", e->msg) : 0;
}

static int path_of(const ft_exporting *x, char out[4096], const char *name, ft_err *e)
{
    if (strchr(name, '/') || *name == '.' || !*name)
        return ft_errf(e, FT_EINVAL, "\"%s\" is no plain file name", name);
    return ft_path_join(out, 4096, x->dir, name, e);
}

static int api_put(const ft_export *pub, const char *name, const void *p, size_t n)
{
    const ft_exporting *x = pub->ctx;
    ft_err e = { 0 };
    char path[4096];
    int code = path_of(x, path, name, &e);
    if (!code) code = ft_file_write(path, p, n, &e);
    return ft_exporting_failed(x, code, &e);
}

static int api_copy(const ft_export *pub, const char *name)
{
    const ft_exporting *x = pub->ctx;
    ft_err e = { 0 };
    char from[4096];
    ft_map_file m;
    int code = strchr(name, '/') ? ft_errf(&e, FT_EINVAL, "%s is no plain file name", name) : 0;
    if (!code) code = ft_path_join(from, sizeof from, pub->source->path, name, &e);
    if (code || !ft_file_exists(from)) return ft_exporting_failed(x, code, &e);
    code = ft_file_map(&m, from, &e);
    if (code) return ft_exporting_failed(x, code, &e);
    code = api_put(pub, name, m.p, m.n);
    ft_file_unmap(&m);
    return code;
}

static int api_begin(const ft_export *pub, const char *name)
{
    ft_exporting *x = pub->ctx;
    ft_err e = { 0 };
    char path[4096];
    int code = x->open ? ft_errf(&e, FT_EINVAL, "%s is begun while another file is open", name)
                       : path_of(x, path, name, &e);
    if (!code) code = ft_aside_open(&x->file, path, &e);
    if (!code) x->open = true;
    return ft_exporting_failed(x, code, &e);
}

static int api_append(const ft_export *pub, const void *p, size_t n)
{
    ft_exporting *x = pub->ctx;
    ft_err e = { 0 };
    int code = x->open ? ft_aside_write(&x->file, p, n, &e)
                       : ft_errf(&e, FT_EINVAL, "no file has been begun");
    return ft_exporting_failed(x, code, &e);
}

static int api_end(const ft_export *pub)
{
    ft_exporting *x = pub->ctx;
    ft_err e = { 0 };
    int code = x->open ? ft_aside_commit(&x->file, &e)
                       : ft_errf(&e, FT_EINVAL, "no file has been begun");
    x->open = false;
    return ft_exporting_failed(x, code, &e);
}

void ft_exporting_offer_files(ft_export *pub)
{
    pub->put = api_put;
    pub->copy = api_copy;
    pub->begin = api_begin;
    pub->append = api_append;
    pub->end = api_end;
}
