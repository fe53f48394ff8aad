/* file.h -- reading whole files, mapping them, and writing them so that no crash leaves half.
 *
 * Nothing on disk is overwritten in place: a file is written aside under a name that starts with
 * '.', fsynced, renamed over the target, and its folder is fsynced.  After a failed fsync the file
 * is removed and never fsynced again (the kernel may have dropped the pages). */
#ifndef FT_CORE_FILE_H
#define FT_CORE_FILE_H
#include <sys/types.h>
#include "core/base/err.h"
#include "ft/buf.h"

/* A file mapped read-only, private.  n may be 0, then p is not NULL but points at nothing. */
typedef struct {
    const char *p;
    size_t n;
    dev_t dev;
    ino_t ino;
    int64_t mtime_ns;
} ft_map_file;

int ft_file_map(ft_map_file *out, const char *path, ft_err *e);
void ft_file_unmap(ft_map_file *m);
/* Gives the pages that bytes from … from + n - 1 lie on back to the system, which reads them again
 * when they are wanted. */
void ft_file_forget(const ft_map_file *m, size_t from, size_t n);
/* Ends at `at` what the kernel maps at once: a page that is read brings those with it that are
 * cached in one piece with it (2 MiB, say), and these count as memory of the process.  No more is
 * mapped across the page that holds `at`, which lies in a mapped file. */
void ft_file_apart(const void *at);

/* Appends the whole file to *out; refuses one larger than cap bytes. */
int ft_file_read(ft_buf *out, const char *path, size_t cap, ft_err *e);

bool ft_file_exists(const char *path);
bool ft_is_dir(const char *path);
/* mkdir -p; an existing folder is fine. */
int ft_make_dirs(const char *path, ft_err *e);
/* rm -r, without following links; what is already gone is fine. */
int ft_remove_tree(const char *path, ft_err *e);
/* "dir/name" into out; an error when it does not fit. */
int ft_path_join(char *out, size_t size, const char *dir, const char *name, ft_err *e);
/* fsyncs a folder, so that the names in it survive a power cut. */
int ft_sync_dir(const char *path, ft_err *e);

/* A file being written aside.  ft_aside_open; write to fd, or ft_aside_write; then either
 * ft_aside_commit (fsync, rename, fsync of the folder) or ft_aside_drop. */
typedef struct {
    int fd;
    char path[4096], temp[4096];
} ft_aside;

int ft_aside_open(ft_aside *a, const char *path, ft_err *e);
/* All n bytes, continued after short writes and EINTR. */
int ft_aside_write(ft_aside *a, const void *p, size_t n, ft_err *e);
int ft_aside_commit(ft_aside *a, ft_err *e);
void ft_aside_drop(ft_aside *a);

/* Writes the whole file at once through ft_aside. */
int ft_file_write(const char *path, const void *p, size_t n, ft_err *e);
/* As above from a buffer; an out-of-memory buffer is an error. */
int ft_file_write_buf(const char *path, const ft_buf *b, ft_err *e);
#endif
