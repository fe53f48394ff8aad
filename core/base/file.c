/* file.c -- see file.h. */
#include "core/base/file.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int io_error(ft_err *e, const char *verb, const char *path)
{
    return ft_errf(e, FT_EIO, "cannot %s %s: %s", verb, path, ft_errno_text(errno));
}

/* Opens a regular file for reading; a folder or device is refused by name. */
static int open_regular(const char *path, struct stat *st, ft_err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return io_error(e, "open", path);
    if (fstat(fd, st) < 0) {
        io_error(e, "stat", path);
    } else if (!S_ISREG(st->st_mode)) {
        ft_errf(e, FT_EIO, "%s is not a regular file", path);
    } else {
        return fd;
    }
    close(fd);
    return FT_EIO;
}

/* Maps n bytes one page beside a multiple of 2 MiB.  The kernel then cannot map 2 MiB at once
 * around each small tensor of a file that it caches in large pieces (it does so in spite of
 * MADV_NOHUGEPAGE): what is never read takes no memory, and the plan of a run counts on that. */
static void *map_pages(int fd, size_t n)
{
    const size_t huge = (size_t)2 << 20, page = (size_t)sysconf(_SC_PAGESIZE);
    if (n < huge || n > SIZE_MAX - 2 * huge) return mmap(NULL, n, PROT_READ, MAP_PRIVATE, fd, 0);
    const size_t room = (n + page - 1) / page * page + huge;
    char *at = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return at;
    const size_t before = (huge + page - (uintptr_t)at % huge) % huge;
    void *p = mmap(at + before, n, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0);
    if (p == MAP_FAILED) {
        const int cause = errno;
        munmap(at, room);
        errno = cause;
        return p;
    }
    if (before) munmap(at, before);
    if (before < huge) munmap(at + room - huge + before, huge - before);
    return p;
}

int ft_file_map(ft_map_file *out, const char *path, ft_err *e)
{
    struct stat st;
    int fd = open_regular(path, &st, e);
    if (fd < 0) return fd;
    *out = (ft_map_file){ .p = "", .n = (size_t)st.st_size, .dev = st.st_dev, .ino = st.st_ino,
        .mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec };
    if (out->n) {
        void *p = map_pages(fd, out->n);
        if (p == MAP_FAILED) {
            int code = io_error(e, "map", path);
            close(fd);
            return code;
        }
        out->p = p;
    }
    close(fd);
    return 0;
}

void ft_file_unmap(ft_map_file *m)
{
    if (m->n) munmap((void *)(uintptr_t)m->p, m->n);
    *m = (ft_map_file){ 0 };
}

void ft_file_forget(const ft_map_file *m, size_t from, size_t n)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), first = from / page * page;
    if (n) madvise((void *)(uintptr_t)(m->p + first), from + n - first, MADV_DONTNEED);
}

/* By a flag of that page alone, which makes a mapping of its own of it; that a dump of the process
 * leaves it out is of no matter, as it leaves out files anyway.  Without the flag nothing is lost
 * but the exactness. */
void ft_file_apart(const void *at)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    madvise((void *)((uintptr_t)at / page * page), page, MADV_DONTDUMP);
}

int ft_file_read(ft_buf *out, const char *path, size_t cap, ft_err *e)
{
    struct stat st;
    int fd = open_regular(path, &st, e), code = 0;
    if (fd < 0) return fd;
    size_t total = 0;
    while (!code) {
        if (!ft_buf_room(out, 65536)) {
            code = ft_errf(e, FT_ENOMEM, "out of memory while reading %s", path);
            break;
        }
        ssize_t k = read(fd, out->p + out->n, 65536);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) code = io_error(e, "read", path);
        if (k <= 0) break;
        out->n += (size_t)k;
        total += (size_t)k;
        if (total > cap)
            code = ft_errf(e, FT_EFORMAT, "%s is larger than the %zu bytes allowed here", path,
                           cap);
    }
    if (out->p) out->p[out->n] = 0;
    close(fd);
    return code;
}

bool ft_file_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

bool ft_is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int ft_make_dirs(const char *path, ft_err *e)
{
    char p[4096];
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof p)
        return ft_errf(e, FT_EINVAL, "folder name \"%.60s…\" is empty or too long", path);
    memcpy(p, path, n + 1);
    for (char *s = p + 1;; s++) {
        if (*s != '/' && *s != 0) continue;
        char keep = *s;
        *s = 0;
        if (mkdir(p, 0777) < 0 && errno != EEXIST) return io_error(e, "create folder", p);
        *s = keep;
        if (!keep) break;
    }
    return ft_is_dir(path) ? 0 : ft_errf(e, FT_EIO, "%s is not a folder", path);
}

static int remove_inside(int dir_fd, const char *path, ft_err *e);

static int remove_entry(int dir_fd, const char *name, const char *path, ft_err *e)
{
    if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT) return 0;
    if (errno != EISDIR && errno != EPERM) return io_error(e, "remove", path);
    int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return io_error(e, "open folder", path);
    int code = remove_inside(fd, path, e);
    if (!code && unlinkat(dir_fd, name, AT_REMOVEDIR) < 0)
        code = io_error(e, "remove folder", path);
    return code;
}

/* Empties the folder behind dir_fd, which is closed. */
static int remove_inside(int dir_fd, const char *path, ft_err *e)
{
    int code = 0;
    DIR *d = fdopendir(dir_fd);
    if (!d) {
        code = io_error(e, "read folder", path);
        close(dir_fd);
        return code;
    }
    for (struct dirent *x; !code && (x = readdir(d));) {
        if (strcmp(x->d_name, ".") && strcmp(x->d_name, ".."))
            code = remove_entry(dirfd(d), x->d_name, x->d_name, e);
    }
    closedir(d);
    return code;
}

int ft_remove_tree(const char *path, ft_err *e) { return remove_entry(AT_FDCWD, path, path, e); }

int ft_path_join(char *out, size_t size, const char *dir, const char *name, ft_err *e)
{
    int n = snprintf(out, size, "%s%s%s", dir, *dir && dir[strlen(dir) - 1] != '/' ? "/" : "",
                     name);
    if (n >= 0 && (size_t)n < size) return 0;
    return ft_errf(e, FT_EINVAL, "path %.80s…/%.80s is longer than %zu bytes", dir, name, size - 1);
}

int ft_sync_dir(const char *path, ft_err *e)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return io_error(e, "open folder", path);
    int code = fsync(fd) < 0 ? io_error(e, "fsync folder", path) : 0;
    close(fd);
    return code;
}

/* The folder part of path ("." when there is none). */
static void dir_of(char *out, size_t size, const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash) snprintf(out, size, ".");
    else if (slash == path) snprintf(out, size, "/");
    else snprintf(out, size, "%.*s", (int)(slash - path), path);
}

int ft_aside_open(ft_aside *a, const char *path, ft_err *e)
{
    static _Atomic unsigned serial;
    char dir[4096];
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    a->fd = -1;
    dir_of(dir, sizeof dir, path);
    int n = snprintf(a->temp, sizeof a->temp, "%s/.%s.%ld.%u", dir, name, (long)getpid(),
                     atomic_fetch_add(&serial, 1));
    if (strlen(path) >= sizeof a->path || n < 0 || (size_t)n >= sizeof a->temp)
        return ft_errf(e, FT_EINVAL, "path %.80s… is too long", path);
    snprintf(a->path, sizeof a->path, "%s", path);
    a->fd = open(a->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    return a->fd < 0 ? io_error(e, "create", a->temp) : 0;
}

int ft_aside_write(ft_aside *a, const void *p, size_t n, ft_err *e)
{
    const char *s = p;
    while (n) {
        ssize_t k = write(a->fd, s, n < (1u << 30) ? n : 1u << 30);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return io_error(e, "write", a->path);
        s += k;
        n -= (size_t)k;
    }
    return 0;
}

void ft_aside_drop(ft_aside *a)
{
    if (a->fd >= 0) {
        close(a->fd);
        unlink(a->temp);
    }
    a->fd = -1;
}

int ft_aside_commit(ft_aside *a, ft_err *e)
{
    char dir[4096];
    int code = fsync(a->fd) < 0 ? io_error(e, "fsync", a->path) : 0;
    if (close(a->fd) < 0 && !code) code = io_error(e, "close", a->path);
    a->fd = -1;
    if (!code && rename(a->temp, a->path) < 0) code = io_error(e, "rename onto", a->path);
    if (code) {
        unlink(a->temp);
        return code;
    }
    dir_of(dir, sizeof dir, a->path);
    return ft_sync_dir(dir, e);
}

int ft_file_write(const char *path, const void *p, size_t n, ft_err *e)
{
    ft_aside a;
    int code = ft_aside_open(&a, path, e);
    if (code) return code;
    code = ft_aside_write(&a, p, n, e);
    if (code) {
        ft_aside_drop(&a);
        return code;
    }
    return ft_aside_commit(&a, e);
}

int ft_file_write_buf(const char *path, const ft_buf *b, ft_err *e)
{
    if (b->oom) return ft_errf(e, FT_ENOMEM, "out of memory while preparing %s", path);
    return ft_file_write(path, b->p, b->n, e);
}
