/* isolate.c -- see isolate.h.  The child's error and crash line come back through a page that both
 * share: it is there before the child is, and writing to it is safe in a signal handler. */
#include "core/load/isolate.h"
#include "core/base/clock.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/load/crash.h"

typedef struct {
    ft_err err;
    int code;
    int finished; /* fn returned */
    char crash[512];
} shared;

static volatile sig_atomic_t cancelled;
static volatile pid_t child;

bool ft_cancelled(void) { return cancelled != 0; }

/* The first asks; a later one ends.  What comes within SAME is the same wish, sent to the whole
 * process group and passed on by the parent as well. */
static void on_cancel(int sig)
{
    static const double SAME = 0.3;
    static double first;
    if (!cancelled) {
        first = ft_seconds();
        cancelled = 1;
    } else if (ft_seconds() - first > SAME) {
        signal(sig, SIG_DFL);
        raise(sig);
    }
}

void ft_cancel_install(void)
{
    struct sigaction a = { .sa_handler = on_cancel, .sa_flags = SA_RESTART };
    cancelled = 0;
    sigemptyset(&a.sa_mask);
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
}

/* In the parent: what the terminal sends, the child has got too; what a process sends is passed
 * on.  Remembered, for a child that is done before it looks. */
static void pass_on(int sig, siginfo_t *info, void *context)
{
    (void)context;
    cancelled = 1;
    if (info->si_code <= 0 && child > 0) kill(child, sig);
}

/* Blocks (or unblocks) the two signals, so that none is lost while handlers change. */
static void hold(bool on)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigprocmask(on ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}

/* The child: handlers, the work, the end.  _exit, because what the parent registered with atexit
 * is the parent's to do. */
_Noreturn static void run_child(shared *s, pid_t parent, const char *stage,
                                int (*fn)(void *, ft_err *), void *arg)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1); /* it died before that */
    ft_cancel_install();
    hold(false);
    ft_crash_install();
    ft_crash_stage(stage);
    ft_crash_copy_to(s->crash, sizeof s->crash);
    s->code = fn(arg, &s->err);
    s->finished = 1;
    fflush(NULL);
    _exit(s->code ? 1 : 0);
}

/* Waits for the child; its peak memory and its end go into *out. */
static int wait_for(ft_isolated *out, ft_err *e)
{
    struct rusage usage;
    int status;
    pid_t got;
    do got = wait4(child, &status, 0, &usage);
    while (got < 0 && errno == EINTR);
    if (got < 0) return ft_errf(e, FT_EIO, "cannot wait for the stage: %s", ft_errno_text(errno));
    out->peak_rss_bytes = (uint64_t)usage.ru_maxrss * 1024;
    if (WIFSIGNALED(status)) out->signal = WTERMSIG(status);
    else out->exit_status = WEXITSTATUS(status);
    return 0;
}

/* Puts the child's end into words. */
static int report(const char *stage, const shared *s, ft_isolated *out, ft_err *e)
{
    snprintf(out->crash, sizeof out->crash, "%s", s->crash);
    out->code = s->finished ? s->code : FT_EUNSUP;
    if (s->finished && !out->signal) {
        if (s->code) ft_errf(e, s->code, "%s", s->err.code ? s->err.msg : "failed without a word");
        return s->code;
    }
    if (out->signal == SIGINT || out->signal == SIGTERM)
        return out->code = ft_errf(e, FT_ECANCEL, "stage '%s' was stopped", stage);
    if (out->signal == SIGKILL)
        return ft_errf(e, FT_EUNSUP, "stage '%s' was killed (SIGKILL) at %.0f MiB: by hand, or for "
                       "lack of memory; memory_limit: keeps it below a size", stage,
                       (double)out->peak_rss_bytes / (1 << 20));
    if (out->signal)
        return ft_errf(e, FT_EUNSUP, "stage '%s' died of %s%s%s", stage,
                       ft_signal_name(out->signal), *out->crash ? "; " : "", out->crash);
    return ft_errf(e, FT_EUNSUP, "stage '%s' left the program with status %d; a plugin must return "
                   "instead", stage, out->exit_status);
}

int ft_isolate(const char *stage, int (*fn)(void *, ft_err *), void *arg, ft_isolated *out,
               ft_err *e)
{
    struct sigaction a = { .sa_sigaction = pass_on, .sa_flags = SA_SIGINFO | SA_RESTART };
    struct sigaction old_int, old_term;
    pid_t me = getpid();
    *out = (ft_isolated){ 0 };
    shared *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (s == MAP_FAILED) return ft_errf(e, FT_ENOMEM, "stage '%s': out of memory", stage);
    fflush(NULL); /* or the child would write it again */
    sigemptyset(&a.sa_mask);
    hold(true);
    sigaction(SIGINT, &a, &old_int);
    sigaction(SIGTERM, &a, &old_term);
    child = fork();
    if (child == 0) run_child(s, me, stage, fn, arg);
    hold(false);
    int code = child < 0 ? ft_errf(e, FT_ENOMEM, "stage '%s': cannot start a process: %s", stage,
                                   ft_errno_text(errno))
                         : wait_for(out, e);
    child = 0;
    sigaction(SIGINT, &old_int, NULL);
    sigaction(SIGTERM, &old_term, NULL);
    if (!code) code = report(stage, s, out, e);
    munmap(s, sizeof *s);
    return code;
}
