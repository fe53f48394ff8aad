/* method.h -- what is trained: which sites adapters rewrite, and which weights are trained whole.
 *
 * A model is first built without a method, to learn its sites and weights; then each adapter's
 * targets choose among them by PEFT's rules, and every name that chooses nothing is an error with
 * the nearest names.  The result answers the graph's questions (g_method) in every later build. */
#ifndef FT_CORE_METHOD_H
#define FT_CORE_METHOD_H
#include "core/graph/graph.h"

typedef struct {
    const char *plugin;         /* for messages */
    const ft_adapter *vt;
    void *self;
    const ft_targets *targets;
    ft_site_set set;            /* filled by ft_method_choose */
    int32_t *index;             /* [n_site] index among this adapter's sites, or -1 */
    const char **saved_as;      /* [n_site] ft_site.saved_as */
} ft_method_adapter;

enum { FT_METHOD_ADAPTERS = 4 };

typedef struct {
    ft_arena arena;
    ft_method_adapter adapter[FT_METHOD_ADAPTERS];
    int n_adapters;
    bool full;                  /* no adapter: every weight is trained */
    const ft_g *model;          /* the plain build: its sites and weights */
    const char **saved_as;      /* [n_weight] name a trained weight is saved under, or NULL */
    g_method answers;           /* for g_new */
} ft_method;

/* Chooses sites and weights of `model`, a plain build that outlives *m.  adapter[], n_adapters and
 * full are set by the caller. */
int ft_method_choose(ft_method *m, const ft_g *model, ft_err *e);
void ft_method_free(ft_method *m);
/* Tokens that an adapter puts in front of every document. */
int64_t ft_method_virtual_tokens(const ft_method *m);

/* One line of the table that a run prints: modules of the same last name. */
typedef struct { const char *name; int64_t count, parameters; } ft_method_row;
/* Rows for the adapted build g; *trained and *total count parameters (a tied head once).  rows:
 * room for max; returns how many there are. */
int ft_method_table(const ft_g *g, ft_method_row *rows, int max, int64_t *trained, int64_t *total);
#endif
