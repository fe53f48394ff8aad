/* run.h -- a pipeline file in motion: its stages, what they hand to each other, and whether they
 * have to run.
 *
 * Every stage takes artifacts and makes one: a folder named after the stage and its key, the hash
 * of everything that decides what is in it (plugin, parameters, seed, model, and the keys of what
 * it takes).  A folder is made under a hidden name and renamed when it is whole, so an unchanged
 * stage is never run twice and a killed one leaves nothing that looks finished.
 *
 *   OUTPUT_DIR/artifacts/ID-KEY/    or PIPELINE_CACHE/ID-KEY/
 *   OUTPUT_DIR/artifacts/ID.last    what the stage's last run was made of: why it runs again */
#ifndef FT_CORE_RUN_H
#define FT_CORE_RUN_H
#include "core/cli/cli.h"
#include "core/config/config.h"
#include "core/load/isolate.h"
#include "core/run/lm.h"
#include "core/run/tokens.h"

/* What stages hand to each other. */
typedef enum {
    FT_SAMPLES,
    FT_TOKENS,
    FT_PACKED,
    FT_ADAPTER,
    FT_TRAINED,
    FT_MERGED,
    FT_N_PORTS
} ft_port;

typedef struct ft_run ft_run;
typedef struct ft_stage ft_stage;

/* What the core does for a role. */
typedef struct {
    const char *role;
    unsigned needs, uses;      /* ports it must have; ports it takes when they are there */
    int gives;                 /* port, or -1 */
    bool model;                /* needs `model:` */
    /* Makes the artifact in dir; runs in a process of its own.  NULL: nothing to run. */
    int (*run)(ft_run *r, ft_stage *s, const char *dir, ft_err *e);
    const char *makes;         /* a file that a finished artifact has */
    unsigned any;              /* ports of which it must have one at least; 0: none */
} ft_stage_kind;

struct ft_stage {
    const ft_config_stage *conf;
    const ft_stage_kind *kind;
    int input[FT_N_PORTS];     /* stage that gives each port it takes, or -1 */
    /* [n_sets] stages whose samples a mixer takes, in the order of its weights */
    const int *set;
    int n_sets;
    char key[65];
    char dir[4096];            /* its artifact */
    bool reused;
    ft_isolated result;
};

struct ft_run {
    ft_cli *cli;
    ft_config config;
    ft_registry *registry;
    ft_offer offer;
    ft_progress progress;
    ft_arena arena;
    ft_stage *stage;           /* [config.n_stages] */
    int n_stages;
    char model_hash[65];       /* "" when there is no model */
    ft_model_run model;        /* open when model_hash is not empty */
    ft_program scan;           /* the model's plain build */
    char artifacts[4096];
    /* copy of the remembered hashes while nothing may be written yet, or "" */
    char hashes[64];
    bool resume, profile;
    int current;               /* stage being run, in its process */
    ft_machine *machine;       /* threads of the stage being run, or NULL */
    struct ft_evaluation *evaluation; /* evaluate.c: while such a stage runs */
};

/* Reads the file, finds plugins, types parameters, wires stages.  2 when the configuration is wrong
 * (all errors are on standard error), 1 for what else fails, 0. */
int ft_run_open(ft_run *r, ft_cli *cli, const char *file, const char *const *override, size_t n,
                ft_err *e);
void ft_run_close(ft_run *r);

/* The stage that gives a port to stage s, or NULL. */
ft_stage *ft_run_input(const ft_run *r, const ft_stage *s, ft_port port);
/* Instance of a stage's plugin with its parameters. */
ft_instance *ft_run_instance(ft_run *r, const ft_stage *s, ft_err *e);
/* The kind for a role, or NULL. */
const ft_stage_kind *ft_stage_kind_of(const char *role);
const char *ft_port_name(ft_port p);

/* artifacts.c: where artifacts lie (r->artifacts); the file that remembers hashes, or NULL; keys of
 * all stages, from their parts. */
int ft_run_place(ft_run *r, ft_err *e);
const char *ft_run_hash_cache(const ft_run *r, char out[4096]);
/* From here on hashes are remembered beside the artifacts; before, in a copy that ft_run_close
 * drops, so that a run that is refused changes no file. */
int ft_run_keep_hashes(ft_run *r, ft_err *e);
void ft_run_drop_hashes(ft_run *r);
int ft_run_keys(ft_run *r, ft_err *e);
/* True when the stage's artifact is there and whole. */
bool ft_artifact_whole(const ft_run *r, const ft_stage *s);
/* Why the stage has to run, compared with its last run. */
void ft_artifact_why(const ft_run *r, const ft_stage *s, char *out, size_t size);
/* A fresh hidden folder for the artifact; its path into temp[4096]. */
int ft_artifact_begin(const ft_run *r, const ft_stage *s, char *temp, ft_err *e);
/* Gives it its name, and notes what it was made of. */
int ft_artifact_finish(const ft_run *r, const ft_stage *s, const char *temp, ft_err *e);
/* Removes hidden folders of processes that are gone. */
void ft_artifact_sweep(const ft_run *r);
/* SHA-256 of a file or of all files of a folder (names and contents). */
int ft_hash_path(char out[65], const char *path, const char *cache, ft_err *e);

/* ---- the stages: stage_*.c ------------------------------------------------------------------- */
int ft_stage_format(ft_run *r, ft_stage *s, const char *dir, ft_err *e);
int ft_stage_filter(ft_run *r, ft_stage *s, const char *dir, ft_err *e);
int ft_stage_mix(ft_run *r, ft_stage *s, const char *dir, ft_err *e);
int ft_stage_rows(ft_run *r, ft_stage *s, const char *dir, ft_err *e);
int ft_stage_tokenize(ft_run *r, ft_stage *s, const char *dir, ft_err *e);
int ft_stage_quantize(ft_run *r, ft_stage *s, const char *dir, ft_err *e);
int ft_stage_train(ft_run *r, ft_stage *s, const char *dir, ft_err *e);
int ft_stage_merge(ft_run *r, ft_stage *s, const char *dir, ft_err *e);
int ft_stage_export(ft_run *r, ft_stage *s, const char *dir, ft_err *e);

/* Puts files of an artifact under their usual names into the output folder, as links where
 * possible; names are relative, NULL-terminated; those that are not there are passed over. */
int ft_run_publish(const char *dir, const char *out, const char *const *name, ft_err *e);
/* The same for all files of folder dir/name at once: out/name is exchanged for the new one
 * whole. */
int ft_run_publish_folder(const char *dir, const char *out, const char *name, ft_err *e);
#endif
