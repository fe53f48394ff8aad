/* config.h -- a pipeline file: read, extended, overridden, expanded, and typed.
 *
 *   ft_config_load   file and what it extends → merged → overrides → ${…} → list of stages
 *   (somebody sets each stage's params and config_size: ft_bind_stages of core/load)
 *   ft_config_type   every value into its struct, by its table
 *
 * All errors are collected in one ft_diags; a caller prints them and exits with status 2. */
#ifndef FT_CORE_CONFIG_H
#define FT_CORE_CONFIG_H
#include "core/config/fill.h"

typedef struct {
    const char *id;       /* unique; as written, or the plugin's name */
    const char *use;      /* the plugin's name */
    const ft_yaml *with;  /* its parameters as written: a map, or NULL */
    ft_mark at, use_at;   /* where the stage stands, and its plugin's name */
    /* Set before ft_config_type; a stage without them is not typed. */
    const ft_param *params;
    size_t config_size;
    const struct ft_loaded *plugin; /* core/load/registry.h */
    void *config;         /* filled by ft_config_type */
} ft_config_stage;

typedef struct {
    ft_arena arena;         /* owns everything below */
    const ft_yaml *root;    /* the merged and expanded tree */
    const char *path;       /* of the file, as given */
    ft_mark at;             /* the start of the file */
    /* The top level, valid after ft_config_type. */
    int64_t version, seed;
    const char *name;       /* default: the file's name without its ending */
    const char *model;      /* path of a folder or .gguf; "" when no stage needs one */
    const char *output_dir; /* default: runs/NAME */
    const char *memory_limit;
    int64_t memory_bytes;   /* memory_limit in bytes; 0: none */
    int64_t threads;        /* 0: as many as the machine has */
    const char *device;     /* cpu | cuda | auto */
    ft_config_stage *stage;
    size_t n_stages;
} ft_config;

enum { FT_CONFIG_STAGES = 256 };

/* Reads `path`.  An override is "stage.key=value", "stage.use=other", "key=value", "vars.x=value",
 * "~stage.key", "~stage" or "~key"; they apply in order.  *c must be zeroed, and be freed also
 * after an error. */
int ft_config_load(ft_config *c, const char *path, const char *const *override, size_t n_override,
                   ft_diags *d);
/* flags: FT_FILL_NO_PATHS. */
int ft_config_type(ft_config *c, unsigned flags, ft_diags *d);
/* The typed configuration as YAML with every default written out: it reads back as the same
 * configuration, whatever it extended or took from the command line. */
void ft_config_write(ft_buf *out, const ft_config *c);
void ft_config_free(ft_config *c);

/* The table of the top level's scalars, relative to ft_config. */
extern const ft_param ft_config_params[];
/* Keys of the top level that are no scalars: vars, extends, stages; NULL-terminated. */
extern const char *const ft_config_parts[];
/* True for [a-z0-9][a-z0-9-]{0,63}: what may name a plugin. */
bool ft_is_plugin_name(const char *s);
#endif
