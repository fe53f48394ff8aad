/* fill.h -- from a map of YAML (or JSON) into the config struct that a parameter table describes.
 *
 * The table (ft/plugin.h) is the one source of types, defaults, ranges and choices.  Values are
 * typed by their row alone; what is not given, or given as null, takes the row's default, which
 * goes the same way.  A value in quotes is text and fits no number or bool, unless ${…} was
 * expanded in it.  A single integer fits INTS as a list of one.  All errors are collected. */
#ifndef FT_CORE_FILL_H
#define FT_CORE_FILL_H
#include "core/config/yaml.h"
#include "ft/json.h"

/* Somebody's table, for "it belongs to train-sft". */
typedef struct {
    const char *id;
    const ft_param *params;
} ft_fill_home;

enum {
    FT_FILL_LENIENT = 1,  /* unknown keys are left alone (adapter_config.json has many) */
    FT_FILL_NO_PATHS = 2, /* files and folders need not exist yet */
};

typedef struct {
    ft_arena *arena;   /* owns what the struct points to, beside the texts of the tree */
    ft_diags *diags;
    const char *who;   /* the stage's id; NULL for the top level of the file */
    unsigned flags;
    const char *const *also;  /* further keys that are fine here, NULL-terminated; or NULL */
    const ft_fill_home *home; /* every stage of the file, and the top level with id NULL */
    size_t n_home;
} ft_fill_job;

/* config: zeroed, as large as the table says.  map: NULL is an empty one.  at: where a missing
 * key is reported.  FT_EINVAL after errors went to job->diags. */
int ft_config_fill(void *config, const ft_param *params, const ft_yaml *map, ft_mark at,
                   const ft_fill_job *job);

/* The default of one row into its place; FT_EINVAL when it is no value of that row or missing. */
int ft_config_fill_default(void *config, const ft_param *row, const ft_fill_job *job);

/* A JSON value as a tree with places in f, whose text it was parsed from: strings are text in
 * quotes, other scalars keep their spelling.  NULL: no memory. */
ft_yaml *ft_yaml_from_json(ft_arena *a, const ft_config_file *f, const ft_json *v);

/* What the core needs to know of a kind. */
size_t ft_kind_size(ft_kind kind);          /* bytes in the struct; 0: no such kind */
bool ft_kind_is_text(ft_kind kind);         /* may have choices */
bool ft_kind_is_number(ft_kind kind);       /* may have a range */
const char *ft_kind_name(ft_kind kind);     /* "an integer" */
/* True when the row limits the range of its numbers. */
static inline bool ft_param_ranged(const ft_param *p) { return p->min != 0 || p->max != 0; }
#endif
