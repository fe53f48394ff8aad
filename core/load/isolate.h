/* isolate.h -- a stage in a process of its own: whatever a plugin does, the program lives to say
 * what happened, and a stage's peak memory is its own.
 *
 * Stages hand each other files, so nothing else has to cross.  Call it before any thread is
 * started: only the calling thread lives on in the child. */
#ifndef FT_CORE_ISOLATE_H
#define FT_CORE_ISOLATE_H
#include <signal.h>
#include "core/base/err.h"

typedef struct {
    int code;                /* what fn returned; FT_EUNSUP when the child did not get that far */
    int signal;              /* that killed the child; 0: none */
    int exit_status;         /* when it ended by itself; nonzero without an error: a plugin
                                called exit */
    uint64_t peak_rss_bytes; /* of the child, mapped pages counted */
    char crash[512];         /* where a crash was (crash.h), or "" */
} ft_isolated;

/* Runs fn(arg, e) in a child process and waits for it.  Returns what fn returned with its message
 * in *e, or FT_EUNSUP with a message about how the child died.  Ctrl-C: the terminal sends it to
 * the child as well, which sees ft_cancelled() and ends in its own time; a second one kills it; a
 * signal sent to this process alone is passed on.  If this process dies, so does the child. */
int ft_isolate(const char *stage, int (*fn)(void *arg, ft_err *e), void *arg, ft_isolated *out,
               ft_err *e);

/* True after SIGINT or SIGTERM asked the stage to stop.  [any thread] */
bool ft_cancelled(void);
/* Makes SIGINT and SIGTERM set that flag; a second one has its usual effect. */
void ft_cancel_install(void);
#endif
