/* instance.h -- a plugin at work: its memory, and the host table through which it speaks.
 *
 * An instance owns `self` and everything it took by host->alloc.  Its config lies with the
 * ft_config that filled it and outlives it.  What the plugin reports comes out with stage and
 * plugin before it:
 *   stage 'lora' (plugin lora): r = 512 exceeds in_features 256 of layers.0.self_attn.k_proj */
#ifndef FT_CORE_INSTANCE_H
#define FT_CORE_INSTANCE_H
#include "core/base/progress.h"
#include "core/load/registry.h"

/* An interface that host->get gives out by name. */
typedef struct {
    const char *name;
    const void *iface;
} ft_service;

/* What a run offers to its plugins; borrowed by every instance, may be shared by all. */
typedef struct {
    const ft_service *service;
    size_t n_services;
    ft_log *log;           /* NULL: host->log says nothing */
    ft_progress *progress; /* NULL: host->progress shows nothing */
    void *run;             /* for services that belong to a run: see ft_host_run */
} ft_offer;

typedef struct ft_instance ft_instance;

/* Allocates, fills the defaults when config is NULL, and opens.  stage: the id, copied.  offer:
 * lives as long as the instance; NULL: nothing.  NULL after an error. */
ft_instance *ft_instance_open(const ft_loaded *p, const char *stage, const void *config,
                              const ft_offer *offer, ft_err *e);
/* As above with the defaults and this `path`, for a command that reads one file through a
 * plugin. */
ft_instance *ft_instance_open_path(const ft_loaded *p, const char *stage, const char *path,
                                   const ft_offer *offer, ft_err *e);
/* Closes the plugin and frees everything; NULL is fine. */
void ft_instance_close(ft_instance *i);

void *ft_instance_self(const ft_instance *i);
const void *ft_instance_config(const ft_instance *i);
const void *ft_instance_vtable(const ft_instance *i);
const ft_loaded *ft_instance_plugin(const ft_instance *i);
/* For functions of a role that take a host. */
const ft_host *ft_instance_host(const ft_instance *i);

/* After a call into the plugin returned code < 0: moves the first message it reported into *e and
 * returns code.  The instance is then free for further calls. */
int ft_instance_error(ft_instance *i, int code, ft_err *e);

/* The offer's `run`, from inside a service. */
void *ft_host_run(const ft_host *h);

/* The services of the core that need no run: "ft.json/1". */
const ft_service *ft_core_services(size_t *n);
#endif
