/* folder.c -- see folder.h.  After OpenPAM and sudo: check the descriptor, not the name. */
#include "core/load/folder.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One folder on the way; a sticky one lets nobody rename or remove what belongs to others. */
static int check_one(const char *path, ft_err *e)
{
    struct stat st;
    if (lstat(path, &st) < 0)
        return ft_errf(e, FT_EIO, "cannot look at %s: %s", path, ft_errno_text(errno));
    if (!(st.st_mode & S_IWOTH) || (st.st_mode & S_ISVTX)) return 0;
    return ft_errf(e, FT_EINVAL, "folder %s has mode %04o: everybody may write to it; plugins are "
                   "not read from below it. chmod o-w %s", path, st.st_mode & 07777u, path);
}

int ft_folder_open(char *real, const char *path, ft_err *e)
{
    char up[PATH_MAX];
    if (!realpath(path, real))
        return ft_errf(e, FT_EIO, "plugin folder %s: %s", path, ft_errno_text(errno));
    memcpy(up, real, sizeof up);
    for (;;) {
        int code = check_one(up, e);
        if (code) return code;
        char *slash = strrchr(up, '/');
        if (!slash || !up[1]) break;
        slash[slash == up] = 0;
    }
    int fd = open(real, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return ft_errf(e, FT_EIO, "plugin folder %s: %s", path, ft_errno_text(errno));
    return fd;
}

/* What is wrong with the opened file, if anything. */
static int check_file(const struct stat *st, const char *path, ft_err *e)
{
    uid_t me = geteuid();
    if (!S_ISREG(st->st_mode))
        return ft_errf(e, FT_EINVAL, "%s: is not a regular file", path);
    if (st->st_uid != 0 && st->st_uid != me)
        return ft_errf(e, FT_EINVAL, "%s: belongs to user %u; a plugin must belong to root or to "
                       "user %u, who runs this. chown %u %s", path, (unsigned)st->st_uid,
                       (unsigned)me, (unsigned)me, path);
    if (st->st_mode & (S_IWGRP | S_IWOTH))
        return ft_errf(e, FT_EINVAL, "%s: has mode %04o: others than its owner may write to it. "
                       "chmod go-w %s", path, st->st_mode & 07777u, path);
    return 0;
}

int ft_folder_plugin(struct stat *st, int folder, const char *file, const char *path, ft_err *e)
{
    /* O_NONBLOCK: opening a pipe must not wait for its other end. */
    int fd = openat(folder, file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT) return FT_EINVAL;
    if (fd < 0 && errno == ELOOP)
        return ft_errf(e, FT_EIO, "%s: is a symbolic link; put the file itself there", path);
    if (fd < 0) return ft_errf(e, FT_EIO, "%s: cannot open: %s", path, ft_errno_text(errno));
    int code = fstat(fd, st) < 0 ? ft_errf(e, FT_EIO, "%s: %s", path, ft_errno_text(errno))
                                 : check_file(st, path, e);
    if (!code) return fd;
    close(fd);
    return code;
}
