/* registry.h -- finding plugins in trusted folders and loading them.
 *
 * YAML names a plugin, never a path.  Folders come from --plugin-dir, from PIPELINE_PLUGIN_PATH
 * (absolute folders with ':' between; ignored in set-uid programs) and from where the program
 * itself lies, searched in this order; the first that holds NAME.so decides, even if that one is
 * refused.  A file is opened once: owner and mode are checked on that descriptor, its ELF note is
 * read through it, and it is what is loaded, so nothing can be exchanged in between.  Refusals name
 * file, field, both values and the remedy; nothing of a refused file has run, unless its note and
 * its descriptor contradict each other.
 *
 * Plugins are never unloaded.  Not for several threads at once. */
#ifndef FT_CORE_REGISTRY_H
#define FT_CORE_REGISTRY_H
#include "core/base/arena.h"
#include "core/base/err.h"
#include "core/config/diag.h"

typedef struct ft_loaded {
    const char *name, *path;
    ft_plugin desc;         /* a copy; fields that an older, smaller struct lacks are zero */
    const ft_param *params; /* a copy of the table: never NULL, ends with key NULL */
    char sha256[65];        /* of the file */
    char build_id[65];      /* GNU's, or "" */
} ft_loaded;

typedef struct ft_registry ft_registry;

ft_registry *ft_registry_new(ft_err *e);
/* The descriptors and mappings of loaded plugins stay. */
void ft_registry_free(ft_registry *r);

/* Adds a folder behind those that are there.  from: who named it ("--plugin-dir"), for messages.
 * An error when it does not exist or a folder on the way to it may be written by everybody. */
int ft_registry_add(ft_registry *r, const char *dir, const char *from, ft_err *e);
/* Adds the folders of PIPELINE_PLUGIN_PATH, then BIN/plugins and BIN/../lib/pipeline as far as
 * they exist, BIN being the folder of the running program. */
int ft_registry_add_defaults(ft_registry *r, ft_err *e);

/* The plugin of that name, loaded at the first call.  FT_EINVAL: no such plugin (the message has
 * near names and the folders searched). */
const ft_loaded *ft_registry_get(ft_registry *r, const char *name, ft_err *e);

/* What lies in the folders, for `pipeline list`: every *.so, loaded or with the reason why not. */
typedef struct {
    const char *name, *path;
    const ft_loaded *plugin; /* NULL: refused or hidden */
    const char *why;         /* then: the reason */
    bool hidden;             /* the same name lies in an earlier folder */
    int folder;              /* in order of search */
} ft_listed;

/* Sorted by name, earlier folders first; *out lives as long as r. */
int ft_registry_list(ft_registry *r, const ft_listed **out, size_t *n, ft_err *e);
#endif
