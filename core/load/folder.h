/* folder.h -- a folder that plugins may come from, and opening a file in it. */
#ifndef FT_CORE_FOLDER_H
#define FT_CORE_FOLDER_H
#include <sys/stat.h>
#include "core/base/err.h"

/* Opens a folder and checks it and every folder above it: one that everybody may write to (and
 * that is not sticky, as /tmp is) would let anybody exchange what is in it.  real: receives its
 * path without links, PATH_MAX bytes.  Returns a descriptor or FT_E*. */
int ft_folder_open(char *real, const char *path, ft_err *e);

/* Opens NAME.so in it for reading and checks the descriptor: a regular file, no link, owned by
 * root or by who runs this, writable by its owner alone.  path: for messages.  FT_EINVAL without a
 * message when there is no such file. */
int ft_folder_plugin(struct stat *st, int folder, const char *file, const char *path, ft_err *e);
#endif
