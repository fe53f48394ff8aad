/* ft/plugin.h -- everything a plugin may know about its host.
 *
 * A plugin is one shared object that describes one method: a parameter table, a role, and a table
 * of functions for that role (ft/adapter.h, ft/model.h, ft/data.h, …).  It is compiled against
 * the headers in this folder alone and links against nothing of the program: everything it needs
 * reaches it through tables of function pointers.  These rules hold unless a comment says
 * otherwise:
 *   - Structs that can grow start with `size`; fields are only ever appended (use FT_HAS).
 *   - Arguments are borrowed for the call.  What a plugin returns by pointer stays its own and is
 *     read before the next call into the same instance.
 *   - One instance is never entered by two threads at once; [any] marks exceptions.
 *   - int functions return 0, or a negative FT_E* after host->fail() has said why.
 *   - A plugin never exits, never asserts on input and never prints. */
#ifndef FT_PLUGIN_H
#define FT_PLUGIN_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FT_ABI_MAJOR 1
#define FT_ABI_MINOR 0
#define FT_HAS(p, field) ((p)->size >= offsetof(__typeof__(*(p)), field) + sizeof (p)->field)

/* ---- errors ------------------------------------------------------------------------------ */
enum {
    FT_OK = 0,
    FT_EINVAL = -1,  /* an argument or a configuration value is wrong */
    FT_ESHAPE = -2,  /* shapes do not fit */
    FT_EDTYPE = -3,  /* a dtype is not supported here */
    FT_EFORMAT = -4, /* a file or row is malformed */
    FT_ENOMEM = -5,
    FT_EIO = -6,
    FT_ECANCEL = -7, /* the user asked to stop */
    FT_EUNSUP = -8,  /* well-formed, but not supported */
};

/* ---- parameters: one row per YAML key, stored straight into the plugin's config struct ----
 * The table is the one source for parsing, validation, did-you-mean, `pipeline help NAME`, the
 * docs and the JSON schema.  It ends with a row whose key is NULL. */
typedef enum {
    FT_INT,         /* int64_t */
    FT_REAL,        /* double */
    FT_BOOL,        /* bool */
    FT_STR,         /* const char *, never NULL */
    FT_PATH,        /* const char *: an input file or folder.  Must exist unless empty; its content
                       is part of the stage's identity */
    FT_LIST,        /* ft_list of strings */
    FT_STR_OR_LIST, /* ft_list; `one` tells a plain string from a list of one */
    FT_INTS,        /* ft_ints */
    FT_MAP,         /* ft_map: string -> real */
} ft_kind;

typedef struct { size_t n; const char *const *v; bool one; } ft_list;
typedef struct { size_t n; const int64_t *v; } ft_ints;
typedef struct { size_t n; const char *const *key; const double *value; } ft_map;

typedef struct {
    const char *key;
    ft_kind kind;
    size_t offset;              /* into the config struct */
    const char *def;            /* as written in YAML; NULL: required; "": empty text, list, map */
    /* inclusive, for INT, REAL, INTS and the values of MAP; both 0: any */
    double min, max;
    const char *const *choices; /* NULL-terminated, or NULL for any; text kinds only */
    const char *help;           /* one line */
} ft_param;

/* ---- host: one table per plugin instance, so that an error knows who failed ---------------- */
typedef enum { FT_DEBUG, FT_INFO, FT_WARN } ft_level;

typedef struct ft_host ft_host;
struct ft_host {
    uint32_t size;
    void *ctx; /* the host's own */
    /* [any] Keeps the first message (the host adds stage and plugin); returns code. */
    int (*fail)(const ft_host *, int code, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
    /* [any] A line for the user's terminal and the run's log. */
    void (*log)(const ft_host *, ft_level, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
    /* Reports work done; total 0: unknown.  FT_ECANCEL when the user pressed Ctrl-C. */
    int (*progress)(const ft_host *, const char *unit, int64_t done, int64_t total);
    /* [any] Zeroed memory that lives as long as the instance; NULL when there is none. */
    void *(*alloc)(const ft_host *, size_t n);
    /* [any] A further interface by name ("ft.json/1"), or NULL when this host has none. */
    const void *(*get)(const ft_host *, const char *iface);
};

/* ---- the plugin --------------------------------------------------------------------------- */
typedef struct {
    uint32_t size, major, minor;  /* of this struct; FT_ABI_* as built */
    uint32_t param, host, plugin; /* sizeof of ft_param, ft_host, ft_plugin as built */
} ft_abi;

typedef struct {
    ft_abi abi;                         /* compared before anything below is read */
    const char *role;                   /* "ft.adapter/1": which struct `vtable` is */
    const char *name;                   /* what YAML says after `use:`; the file is NAME.so */
    const char *version, *summary;
    const ft_param *params;             /* NULL: takes no parameters */
    size_t config_size, instance_size;  /* the host allocates both, zeroed */
    /* self: instance_size zeroed bytes.  config: filled and validated, lives as long as self. */
    int (*open)(void *self, const ft_host *, const void *config); /* NULL: nothing to do */
    void (*close)(void *self); /* NULL: nothing to do.  Not called when open failed */
    const void *vtable;
} ft_plugin;

#define FT_ABI_INIT { sizeof(ft_abi), FT_ABI_MAJOR, FT_ABI_MINOR, \
                      sizeof(ft_param), sizeof(ft_host), sizeof(ft_plugin) }

/* ---- what the loader reads from the file before it runs a byte of it ------------------------
 * An ELF note in section .note.ftabi: owner "ft", type 1, this descriptor. */
typedef struct {
    uint32_t namesz, descsz, type;
    char owner[4];                 /* "ft" */
    uint32_t major, minor;         /* FT_ABI_* as built */
    uint32_t param, host, plugin;  /* struct sizes as built */
    char name[64];                 /* the plugin's name, zero-padded */
} ft_note;

#define FT_EXPORT __attribute__((visibility("default")))

/* Put once in a plugin, after its descriptor:  FT_PLUGIN(plugin, "vera") */
#define FT_PLUGIN(descriptor, NAME)                                                         \
    __attribute__((used, section(".note.ftabi"), aligned(4)))                               \
    static const ft_note ft_note_ = { 4, sizeof(ft_note) - 16, 1, "ft", FT_ABI_MAJOR,        \
        FT_ABI_MINOR, sizeof(ft_param), sizeof(ft_host), sizeof(ft_plugin), NAME };          \
    FT_EXPORT const ft_plugin *ft_plugin_entry_1(void);                                      \
    const ft_plugin *ft_plugin_entry_1(void) { return &(descriptor); }                       \
    _Static_assert(sizeof NAME <= 64, "plugin name too long");

#endif
