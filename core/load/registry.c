/* registry.c -- see registry.h. */
#include "core/load/registry.h"
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>
#include "core/base/file.h"
#include "core/base/sha256.h"
#include "core/base/suggest.h"
#include "core/config/config.h"
#include "core/load/check.h"
#include "core/load/crash.h"
#include "core/load/elf.h"
#include "core/load/folder.h"

enum { FOLDERS = 32, PLUGINS = 256, FILES = 1024 };

typedef struct { const char *path; int fd; } folder;

struct ft_registry {
    ft_arena arena;
    folder folder[FOLDERS];
    size_t n_folders;
    ft_loaded *plugin[PLUGINS];
    size_t n_plugins;
};

ft_registry *ft_registry_new(ft_err *e)
{
    ft_registry *r = calloc(1, sizeof *r);
    if (!r) ft_errf(e, FT_ENOMEM, "out of memory");
    return r;
}

void ft_registry_free(ft_registry *r)
{
    if (!r) return;
    for (size_t i = 0; i < r->n_folders; i++) close(r->folder[i].fd);
    ft_arena_free(&r->arena);
    free(r);
}

/* ---- folders ------------------------------------------------------------------------------- */

int ft_registry_add(ft_registry *r, const char *dir, const char *from, ft_err *e)
{
    char real[PATH_MAX];
    if (r->n_folders == FOLDERS)
        return ft_errf(e, FT_EINVAL, "%s %s: more than %d plugin folders", from, dir, FOLDERS);
    int fd = ft_folder_open(real, dir, e);
    if (fd < 0) {
        ft_err_prefix(e, "%s", from);
        return fd;
    }
    for (size_t i = 0; i < r->n_folders; i++) {
        if (strcmp(r->folder[i].path, real)) continue;
        close(fd); /* is there already, and counts in the first place */
        return 0;
    }
    const char *path = ft_arena_strdup(&r->arena, real);
    if (!path) {
        close(fd);
        return ft_errf(e, FT_ENOMEM, "out of memory");
    }
    r->folder[r->n_folders++] = (folder){ path, fd };
    return 0;
}

/* A path that is not absolute would depend on where the program is started: refused. */
static int add_from_environment(ft_registry *r, ft_err *e)
{
    static const char variable[] = "PIPELINE_PLUGIN_PATH";
    const char *list = getauxval(AT_SECURE) ? NULL : getenv(variable);
    char *copy = ft_arena_strdup(&r->arena, list ? list : ""), *rest = NULL;
    if (!copy) return ft_errf(e, FT_ENOMEM, "out of memory");
    for (char *dir = strtok_r(copy, ":", &rest); dir; dir = strtok_r(NULL, ":", &rest)) {
        if (*dir != '/')
            return ft_errf(e, FT_EINVAL, "%s: \"%s\" is no absolute path", variable, dir);
        int code = ft_registry_add(r, dir, variable, e);
        if (code) return code;
    }
    return 0;
}

int ft_registry_add_defaults(ft_registry *r, ft_err *e)
{
    static const char *const beside[] = { "plugins", "../lib/pipeline" };
    char exe[PATH_MAX], dir[PATH_MAX];
    int code = add_from_environment(r, e);
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (code) return code;
    if (n < 0) return ft_errf(e, FT_EIO, "/proc/self/exe: %s", ft_errno_text(errno));
    exe[n] = 0;
    *strrchr(exe, '/') = 0;
    for (size_t i = 0; !code && i < sizeof beside / sizeof *beside; i++) {
        code = ft_path_join(dir, sizeof dir, exe, beside[i], e);
        if (!code && ft_is_dir(dir)) code = ft_registry_add(r, dir, "the program's own plugins", e);
    }
    return code;
}

/* ---- loading ------------------------------------------------------------------------------- */

/* SHA-256 of the whole file, read through the descriptor that will be loaded. */
static int hash_file(char out[65], int fd, const char *path, ft_err *e)
{
    enum { CHUNK = 1 << 16 };
    ft_sha256 s;
    off_t at = 0;
    ssize_t k;
    char *buf = malloc(CHUNK);
    if (!buf) return ft_errf(e, FT_ENOMEM, "%s: out of memory", path);
    ft_sha256_init(&s);
    while ((k = pread(fd, buf, CHUNK, at)) > 0) {
        ft_sha256_add(&s, buf, (size_t)k);
        at += k;
    }
    free(buf);
    if (k < 0) return ft_errf(e, FT_EIO, "%s: %s", path, ft_errno_text(errno));
    ft_sha256_hex(&s, out);
    return 0;
}

/* The checks before loading. */
static int check_note(ft_elf_info *info, int fd, uint64_t size, const char *name, const char *path,
                      ft_err *e)
{
    int code = ft_elf_read(info, fd, size, path, e);
    if (code) return code;
    const ft_note *n = &info->note;
    ft_abi_numbers theirs = { n->major, n->minor, n->param, n->host, n->plugin };
    if ((code = ft_abi_check(&theirs, &ft_abi_ours, &ft_abi_first, path, e))) return code;
    if (strcmp(n->name, name))
        return ft_errf(e, FT_EINVAL, "%s: its note says name \"%.64s\", the file says \"%s\"; "
                       "rename the file, or FT_PLUGIN's second argument", path, n->name, name);
    return 0;
}

/* dlopen names the file by its descriptor; messages should name it by its path. */
static int load_error(const char *path, ft_err *e)
{
    const char *why = dlerror(), *colon = why ? strstr(why, ": ") : NULL;
    if (why && colon && !strncmp(why, "/proc/self/fd/", 14)) why = colon + 2;
    return ft_errf(e, FT_EINVAL, "%s: cannot be loaded: %s; a plugin is linked with what it uses",
                   path, why ? why : "no reason given");
}

/* Loads the descriptor and finds the entry.  glibc knows a library by the name it was opened by,
 * so a number must not come back for another file: after dlopen succeeded, fd stays open. */
static int open_library(const ft_plugin **desc, int fd, const char *path, const char *build_id,
                        ft_err *e)
{
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    void *lib = dlopen(link, RTLD_NOW | RTLD_LOCAL);
    if (!lib) {
        load_error(path, e);
        close(fd);
        return FT_EINVAL;
    }
    const ft_plugin *(*entry)(void);
    void *symbol = dlsym(lib, "ft_plugin_entry_1");
    memcpy(&entry, &symbol, sizeof entry);
    if (!symbol)
        return ft_errf(e, FT_EINVAL, "%s: does not export ft_plugin_entry_1; write "
                       "FT_PLUGIN(descriptor, \"name\") once in its source", path);
    ft_crash_library(symbol, path, build_id);
    *desc = entry();
    return *desc ? 0 : ft_errf(e, FT_EINVAL, "%s: ft_plugin_entry_1 gave NULL", path);
}

/* The checks after loading; the copies of descriptor and table. */
static int take_descriptor(ft_registry *r, ft_loaded *out, const ft_plugin *desc,
                           const ft_note *note, ft_err *e)
{
    const ft_abi *a = &desc->abi;
    ft_abi_numbers theirs = { a->major, a->minor, a->param, a->host, a->plugin };
    ft_abi_numbers noted = { note->major, note->minor, note->param, note->host, note->plugin };
    if (a->size < sizeof *a || memcmp(&theirs, &noted, sizeof theirs))
        return ft_errf(e, FT_EINVAL, "%s: its descriptor says ABI %u.%u with sizes %u, %u, %u, its "
                       "note %u.%u with %u, %u, %u; start the descriptor with FT_ABI_INIT",
                       out->path, a->major, a->minor, a->param, a->host, a->plugin, noted.major,
                       noted.minor, noted.param, noted.host, noted.plugin);
    memcpy(&out->desc, desc, a->plugin < sizeof out->desc ? a->plugin : sizeof out->desc);
    int code = ft_descriptor_check(&out->desc, out->name, out->path, e);
    if (!code) code = ft_params_take(&out->params, &r->arena, &out->desc, a->param, out->path, e);
    if (!code) code = ft_shared_check(&out->desc, out->params, out->path, e);
    return code;
}

/* Opens, checks and loads one file of a folder.  FT_EINVAL without a message: no such file. */
static int load_file(ft_registry *r, const folder *f, const char *name, ft_loaded **out, ft_err *e)
{
    struct stat st;
    ft_elf_info info;
    const ft_plugin *desc = NULL;
    ft_loaded *l = ft_arena_alloc(&r->arena, sizeof *l);
    char *path = ft_arena_printf(&r->arena, "%s/%s.so", f->path, name);
    if (!l || !path) return ft_errf(e, FT_ENOMEM, "out of memory");
    l->path = path;
    l->name = ft_arena_strdup(&r->arena, name);
    int fd = ft_folder_plugin(&st, f->fd, path + strlen(f->path) + 1, path, e);
    if (fd < 0) return fd;
    int code = l->name ? check_note(&info, fd, (uint64_t)st.st_size, name, path, e)
                       : ft_errf(e, FT_ENOMEM, "out of memory");
    if (!code) code = hash_file(l->sha256, fd, path, e);
    if (code) {
        close(fd);
        return code;
    }
    memcpy(l->build_id, info.build_id, sizeof l->build_id);
    code = open_library(&desc, fd, path, l->build_id, e);
    if (!code) code = take_descriptor(r, l, desc, &info.note, e);
    if (!code) *out = l;
    return code;
}

/* ---- finding ------------------------------------------------------------------------------- */

/* NAME of "NAME.so", copied; NULL for other files.  What a terminal or JSON could not take becomes
 * '?', which no plugin's name has either. */
static const char *plugin_of_file(ft_registry *r, const char *file)
{
    size_t n = strlen(file);
    if (n <= 3 || strcmp(file + n - 3, ".so")) return NULL;
    char *name = ft_arena_strndup(&r->arena, file, n - 3);
    for (char *c = name; c && *c; c++) {
        if ((unsigned char)*c < 0x20 || (unsigned char)*c >= 0x7F) *c = '?';
    }
    return name;
}

/* Calls see(name) for every *.so of a folder, at most FILES. */
static void each_file(ft_registry *r, const folder *f,
                      void (*see)(void *, const folder *, const char *name), void *arg)
{
    int fd = openat(f->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), left = FILES;
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d && fd >= 0) close(fd);
    for (struct dirent *x; d && left && (x = readdir(d));) {
        const char *name = plugin_of_file(r, x->d_name);
        if (!name) continue;
        see(arg, f, name);
        left--;
    }
    if (d) closedir(d);
}

/* For each_file: a name that might have been meant. */
static void offer(void *suggestion, const folder *f, const char *name)
{
    (void)f;
    ft_suggest_offer(suggestion, name);
}

/* Near names and all folders, so that a wrong --plugin-dir is seen at once. */
static void not_found(ft_registry *r, const char *name, ft_err *e)
{
    ft_suggestion s;
    ft_buf msg = { 0 };
    ft_suggest_start(&s, name);
    for (size_t i = 0; i < r->n_folders; i++) each_file(r, &r->folder[i], offer, &s);
    ft_buf_printf(&msg, "no plugin \"%s\"", name);
    if (s.best) ft_buf_printf(&msg, "; did you mean \"%s\"?", s.best);
    ft_buf_puts(&msg, r->n_folders ? " (searched" : " (no plugin folder to search");
    for (size_t i = 0; i < r->n_folders; i++)
        ft_buf_printf(&msg, "%s %s", i ? "," : "", r->folder[i].path);
    ft_errf(e, FT_EINVAL, "%s)", msg.p ? msg.p : name);
    ft_buf_free(&msg);
}

const ft_loaded *ft_registry_get(ft_registry *r, const char *name, ft_err *e)
{
    ft_loaded *l = NULL;
    if (!ft_is_plugin_name(name)) {
        ft_errf(e, FT_EINVAL, "\"%.80s\" is not a plugin's name (a-z, 0-9 and '-', at most 64; "
                "never a path)", name);
        return NULL;
    }
    for (size_t i = 0; i < r->n_plugins; i++) {
        if (!strcmp(r->plugin[i]->name, name)) return r->plugin[i];
    }
    if (r->n_plugins == PLUGINS) {
        ft_errf(e, FT_EINVAL, "more than %d plugins", PLUGINS);
        return NULL;
    }
    for (size_t i = 0; i < r->n_folders; i++) {
        ft_err why = { 0 };
        int code = load_file(r, &r->folder[i], name, &l, &why);
        if (!code) return r->plugin[r->n_plugins++] = l;
        if (!why.code) continue; /* not in this folder */
        ft_errf(e, code, "%s", why.msg);
        return NULL;
    }
    not_found(r, name, e);
    return NULL;
}

/* ---- listing ------------------------------------------------------------------------------- */

typedef struct {
    ft_registry *r;
    ft_buf found; /* ft_listed */
} listing;

/* For each_file: collects a file into a listing. */
static void note_file(void *arg, const folder *f, const char *name)
{
    listing *l = arg;
    ft_listed item = { .name = name, .folder = (int)(f - l->r->folder) };
    item.path = ft_arena_printf(&l->r->arena, "%s/%s.so", f->path, name);
    if (item.path) ft_buf_add(&l->found, &item, sizeof item);
}

/* By name, then in order of search. */
static int compare(const void *a, const void *b)
{
    const ft_listed *x = a, *y = b;
    int c = strcmp(x->name, y->name);
    return c ? c : x->folder - y->folder;
}

/* Loads what stands at i, unless an earlier folder has the name. */
static void list_one(ft_registry *r, ft_listed *all, size_t i)
{
    ft_err why = { 0 };
    const char *first = i && !strcmp(all[i - 1].name, all[i].name) ? all[i - 1].path : NULL;
    if (first) {
        all[i].hidden = true;
        all[i].why = ft_arena_printf(&r->arena, "hidden by %s", first);
        return;
    }
    all[i].plugin = ft_registry_get(r, all[i].name, &why);
    if (!all[i].plugin) all[i].why = ft_arena_strdup(&r->arena, why.msg);
}

int ft_registry_list(ft_registry *r, const ft_listed **out, size_t *n, ft_err *e)
{
    listing l = { .r = r };
    for (size_t i = 0; i < r->n_folders; i++) each_file(r, &r->folder[i], note_file, &l);
    *n = l.found.n / sizeof(ft_listed);
    ft_listed *all = ft_arena_array(&r->arena, *n, sizeof *all);
    if (!all || l.found.oom) {
        ft_buf_free(&l.found);
        return ft_errf(e, FT_ENOMEM, "out of memory");
    }
    if (*n) memcpy(all, l.found.p, l.found.n);
    ft_buf_free(&l.found);
    qsort(all, *n, sizeof *all, compare);
    for (size_t i = 0; i < *n; i++) list_one(r, all, i);
    *out = all;
    return 0;
}
