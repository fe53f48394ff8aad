/* artifacts.c -- keys, whole and unfinished artifacts, and the reasons why a stage runs again. */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/base/file.h"
#include "core/base/sha256.h"
#include "core/config/canon.h"
#include "core/io/hash_cache.h"
#include "core/run/run.h"

/* ---- hashes of files ------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int add_file(ft_sha256 *h, const char *name, const char *path, const char *cache, ft_err *e)
{
    char hex[65];
    int code = ft_hash_file(hex, path, cache, NULL, e);
    if (code) return code;
    ft_sha256_text(h, name);
    ft_sha256_text(h, hex);
    return 0;
}

/* Files of a folder, one level, in order of their names. */
static int add_folder(ft_sha256 *h, const char *path, const char *cache, ft_err *e)
{
    ft_arena names = { 0 };
    const char *name[4096];
    size_t n = 0;
    int code = 0;
    DIR *d = opendir(path);
    if (!d) return ft_errf(e, FT_EIO, "cannot read folder %s: %s", path, ft_errno_text(errno));
    for (struct dirent *x; n < 4096 && (x = readdir(d));) {
        if (x->d_name[0] != '.' && (name[n] = ft_arena_strdup(&names, x->d_name))) n++;
    }
    closedir(d);
    qsort(name, n, sizeof *name, by_name);
    for (size_t i = 0; i < n && !code; i++) {
        char file[4096];
        code = ft_path_join(file, sizeof file, path, name[i], e);
        if (!code && !ft_is_dir(file)) code = add_file(h, name[i], file, cache, e);
    }
    ft_arena_free(&names);
    return code;
}

int ft_hash_path(char out[65], const char *path, const char *cache, ft_err *e)
{
    ft_sha256 h;
    ft_sha256_init(&h);
    int code = ft_is_dir(path) ? add_folder(&h, path, cache, e) : add_file(&h, "", path, cache, e);
    ft_sha256_hex(&h, out);
    return code;
}

static int hashes_path(const ft_run *r, char out[4096], ft_err *e)
{
    return ft_path_join(out, 4096, r->artifacts, ".hashes", e);
}

static int copy_text(const char *to, const char *from, ft_err *e)
{
    ft_buf b = { 0 };
    int code = ft_file_read(&b, from, (size_t)1 << 28, e);
    if (!code) code = ft_file_write_buf(to, &b, e);
    ft_buf_free(&b);
    return code;
}

/* Without a place for the copy files are simply read again. */
static void borrow_hashes(ft_run *r)
{
    char path[4096];
    const char *tmp = getenv("TMPDIR");
    int n = snprintf(r->hashes, sizeof r->hashes, "%s/pipeline-hashes-XXXXXX",
                     tmp && *tmp ? tmp : "/tmp");
    int fd = n < (int)sizeof r->hashes ? mkstemp(r->hashes) : -1;
    if (fd < 0) {
        *r->hashes = 0;
        return;
    }
    close(fd);
    if (!hashes_path(r, path, NULL) && ft_file_exists(path)) copy_text(r->hashes, path, NULL);
}

int ft_run_keep_hashes(ft_run *r, ft_err *e)
{
    char path[4096];
    if (!*r->hashes) return 0;
    int code = hashes_path(r, path, e);
    if (!code) code = copy_text(path, r->hashes, e);
    ft_run_drop_hashes(r);
    return code;
}

void ft_run_drop_hashes(ft_run *r)
{
    if (*r->hashes) unlink(r->hashes);
    *r->hashes = 0;
}

const char *ft_run_hash_cache(const ft_run *r, char out[4096])
{
    if (*r->hashes) return r->hashes;
    if (!ft_is_dir(r->artifacts) || hashes_path(r, out, NULL)) return NULL;
    return out;
}

/* ---- what a stage is made of: "name value" lines, hashed and kept ---------------------------- */

static int add_paths(ft_buf *b, const ft_run *r, const ft_stage *s, ft_err *e)
{
    char cache[4096], hex[65];
    for (const ft_param *p = s->conf->params; p && p->key; p++) {
        if (p->kind != FT_PATH) continue;
        const char *path = *(const char *const *)(const void *)((const char *)s->conf->config +
                                                                p->offset);
        if (!*path) continue;
        int code = ft_hash_path(hex, path, ft_run_hash_cache(r, cache), e);
        if (code) return code;
        ft_buf_printf(b, "content of %s: %s\n", p->key, hex);
    }
    return 0;
}

/* Plugins that decide what a stage makes, beside its own. */
static void add_plugin(ft_buf *b, const ft_run *r, const char *name)
{
    ft_err e = { 0 };
    const ft_loaded *p = ft_registry_get(r->registry, name, &e);
    if (p) ft_buf_printf(b, "plugin %s: %s\n", name, p->sha256);
}

static int describe(ft_buf *b, const ft_run *r, const ft_stage *s, ft_err *e)
{
    const ft_loaded *p = s->conf->plugin;
    ft_buf_printf(b, "program: %s\nplugin %s: %s\n", FT_VERSION, p->name, p->sha256);
    ft_canon_params(b, p->params, s->conf->config, 0);
    int code = add_paths(b, r, s, e);
    if (code) return code;
    ft_buf_printf(b, "seed: %lld\n", (long long)r->config.seed);
    if (s->kind->model) ft_buf_printf(b, "model: %s\n", r->model_hash);
    if (s->kind->gives >= FT_TRAINED || s->kind->gives < 0) {
        add_plugin(b, r, "kernels-cpu");
        if (r->model.plugin) add_plugin(b, r, ft_instance_plugin(r->model.plugin)->name);
    }
    for (int i = 0; i < FT_N_PORTS; i++) {
        if (s->input[i] >= 0)
            ft_buf_printf(b, "%s of %s: %s\n", ft_port_name((ft_port)i),
                          r->stage[s->input[i]].conf->id, r->stage[s->input[i]].key);
    }
    for (int i = 0; i < s->n_sets; i++)
        ft_buf_printf(b, "set %s: %s\n", r->stage[s->set[i]].conf->id, r->stage[s->set[i]].key);
    return b->oom ? ft_errf(e, FT_ENOMEM, "out of memory while hashing stages") : 0;
}

int ft_run_place(ft_run *r, ft_err *e)
{
    const char *shared = getenv("PIPELINE_CACHE");
    int code = shared && *shared ? ft_path_join(r->artifacts, sizeof r->artifacts, shared, "", e)
                                 : ft_path_join(r->artifacts, sizeof r->artifacts,
                                                r->config.output_dir, "artifacts", e);
    if (!code) borrow_hashes(r);
    return code;
}

int ft_run_keys(ft_run *r, ft_err *e)
{
    int code = 0;
    for (int i = 0; i < r->n_stages && !code; i++) {
        ft_stage *s = &r->stage[i];
        ft_buf b = { 0 };
        ft_sha256 h;
        char name[128];
        code = describe(&b, r, s, e);
        ft_sha256_init(&h);
        ft_sha256_field(&h, b.p, b.n);
        ft_sha256_hex(&h, s->key);
        ft_buf_free(&b);
        snprintf(name, sizeof name, "%.64s-%.16s", s->conf->id, s->key);
        if (!code) code = ft_path_join(s->dir, sizeof s->dir, r->artifacts, name, e);
    }
    return code;
}

/* ---- whole or not ---------------------------------------------------------------------------- */

bool ft_artifact_whole(const ft_run *r, const ft_stage *s)
{
    char path[4096];
    (void)r;
    if (!s->kind->run) return true;
    return !ft_path_join(path, sizeof path, s->dir, s->kind->makes, NULL) && ft_file_exists(path);
}

static int last_path(const ft_run *r, const ft_stage *s, char out[4096], ft_err *e)
{
    char name[96];
    snprintf(name, sizeof name, "%.64s.last", s->conf->id);
    return ft_path_join(out, 4096, r->artifacts, name, e);
}

/* The first line of b that a does not have, as "changed: …" */
static void first_difference(const ft_buf *old, const ft_buf *new, char *out, size_t size)
{
    const char *a = old->p, *b = new->p;
    while (a && b && *b) {
        size_t na = strcspn(a, "\n"), nb = strcspn(b, "\n");
        if (na != nb || memcmp(a, b, nb)) {
            const char *colon = memchr(b, ':', nb);
            size_t key = colon ? (size_t)(colon - b) : nb;
            bool hashed = nb - key > 50, same = na > key && !memcmp(a, b, key);
            if (hashed) snprintf(out, size, "%.*s changed", (int)key, b);
            else if (same)
                snprintf(out, size, "%.*s was %.*s, is %.*s", (int)key, b,
                         (int)(na - key > 2 ? na - key - 2 : 0), a + key + 2,
                         (int)(nb - key > 2 ? nb - key - 2 : 0), b + key + 2);
            else snprintf(out, size, "%.*s is new", (int)key, b);
            return;
        }
        a += na + (a[na] == '\n');
        b += nb + (b[nb] == '\n');
    }
    snprintf(out, size, "its artifact is gone");
}

void ft_artifact_why(const ft_run *r, const ft_stage *s, char *out, size_t size)
{
    char path[4096];
    ft_buf old = { 0 }, new = { 0 };
    if (last_path(r, s, path, NULL) || ft_file_read(&old, path, 1 << 22, NULL) ||
        describe(&new, r, s, NULL))
        snprintf(out, size, "it has not run yet");
    else first_difference(&old, &new, out, size);
    ft_buf_free(&old);
    ft_buf_free(&new);
}

/* ---- making ---------------------------------------------------------------------------------- */

int ft_artifact_begin(const ft_run *r, const ft_stage *s, char *temp, ft_err *e)
{
    char name[160];
    int code = ft_make_dirs(r->artifacts, e);
    snprintf(name, sizeof name, ".%.64s-%.16s.%ld", s->conf->id, s->key, (long)getpid());
    if (!code) code = ft_path_join(temp, 4096, r->artifacts, name, e);
    if (!code) code = ft_remove_tree(temp, e);
    return code ? code : ft_make_dirs(temp, e);
}

int ft_artifact_finish(const ft_run *r, const ft_stage *s, const char *temp, ft_err *e)
{
    char path[4096];
    ft_buf b = { 0 };
    int code = ft_sync_dir(temp, e);
    if (!code) code = ft_remove_tree(s->dir, e);
    if (!code && rename(temp, s->dir) < 0)
        code = ft_errf(e, FT_EIO, "cannot rename %s: %s", temp, ft_errno_text(errno));
    if (!code) code = ft_sync_dir(r->artifacts, e);
    if (!code) code = describe(&b, r, s, e);
    if (!code) code = last_path(r, s, path, e);
    if (!code) code = ft_file_write_buf(path, &b, e);
    ft_buf_free(&b);
    return code;
}

void ft_artifact_sweep(const ft_run *r)
{
    DIR *d = opendir(r->artifacts);
    for (struct dirent *x; d && (x = readdir(d));) {
        char path[4096];
        const char *dot = strrchr(x->d_name, '.');
        long pid = x->d_name[0] == '.' && dot > x->d_name ? strtol(dot + 1, NULL, 10) : 0;
        if (pid <= 0 || (kill((pid_t)pid, 0) == 0 || errno != ESRCH)) continue;
        if (!ft_path_join(path, sizeof path, r->artifacts, x->d_name, NULL))
            ft_remove_tree(path, NULL);
    }
    if (d) closedir(d);
}
