/* crash.c -- see crash.h.  Async-signal-safe throughout: no allocation, no stdio, no locks. */
#include "core/load/crash.h"
#include <dlfcn.h>
#include <link.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

enum { LIBRARIES = 320, ALT_STACK = 64 << 10, PAGE = 4096, PAGES = 4 };

typedef struct {
    uintptr_t low, high; /* of its mapped segments */
    char path[256], build_id[65];
    bool plugin;
} library;

static library libraries[LIBRARIES];
static volatile int n_libraries;
static char stage[80];
static char *copy_to;
static size_t copy_n;

static const struct { int sig; const char *name; } signals[] = {
    { SIGSEGV, "SIGSEGV" }, { SIGBUS, "SIGBUS" }, { SIGFPE, "SIGFPE" }, { SIGILL, "SIGILL" },
    { SIGABRT, "SIGABRT" }, { SIGKILL, "SIGKILL" }, { SIGTERM, "SIGTERM" }, { SIGINT, "SIGINT" },
    { SIGPIPE, "SIGPIPE" }, { SIGXCPU, "SIGXCPU" }, { SIGSYS, "SIGSYS" }, { SIGHUP, "SIGHUP" },
};
enum { CAUGHT = 5 }; /* the first of them */

const char *ft_signal_name(int sig)
{
    static _Thread_local char other[24];
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        if (signals[i].sig == sig) return signals[i].name;
    }
    snprintf(other, sizeof other, "signal %d", sig);
    return other;
}

/* ---- the line ------------------------------------------------------------------------------ */

typedef struct { char text[1024]; size_t n; } line;

/* Appends a text as far as there is room; the last two bytes stay free. */
static void put(line *l, const char *s)
{
    while (*s && l->n + 2 < sizeof l->text) l->text[l->n++] = *s++;
}

/* Appends 0x and the digits. */
static void put_hex(line *l, uintptr_t v)
{
    char digits[17];
    size_t i = sizeof digits - 1;
    digits[i] = 0;
    do digits[--i] = "0123456789abcdef"[v & 15];
    while (v >>= 4);
    put(l, "0x");
    put(l, digits + i);
}

/* The known library that holds an address, or NULL. */
static const library *library_of(uintptr_t address)
{
    for (int i = 0; i < n_libraries; i++) {
        if (address >= libraries[i].low && address < libraries[i].high) return &libraries[i];
    }
    return NULL;
}

/* "lora.so+0x1a2b" */
static void put_place(line *l, const library *lib, uintptr_t address)
{
    if (!lib) {
        put(l, "code of no library");
        return;
    }
    const char *slash = strrchr(lib->path, '/');
    put(l, slash ? slash + 1 : lib->path);
    put(l, "+");
    put_hex(l, address - lib->low);
}

/* The nearest return address into a plugin above sp, 0 when there is none.  A word that merely
 * looks like one may be met: good enough to know where to look.  The kernel copies, page by page,
 * so that the stack's end is no second crash. */
static uintptr_t nearest_plugin(uintptr_t sp)
{
    static uintptr_t word[PAGES * PAGE / sizeof(uintptr_t)];
    struct iovec to = { word, sizeof word }, from[PAGES];
    uintptr_t at = sp;
    for (int i = 0; i < PAGES; i++) {
        uintptr_t end = (at / PAGE + 1) * PAGE;
        from[i] = (struct iovec){ (void *)at, end - at };
        at = end;
    }
    ssize_t n = process_vm_readv(getpid(), &to, 1, from, PAGES, 0);
    for (size_t i = 0; n > 0 && i < (size_t)n / sizeof *word; i++) {
        const library *lib = library_of(word[i]);
        if (lib && lib->plugin) return word[i];
    }
    return 0;
}

/* Program counter and stack pointer at the time of the signal. */
static void registers(const void *context, uintptr_t *pc, uintptr_t *sp)
{
    const ucontext_t *u = context;
#if defined(__x86_64__)
    *pc = (uintptr_t)u->uc_mcontext.gregs[REG_RIP];
    *sp = (uintptr_t)u->uc_mcontext.gregs[REG_RSP];
#elif defined(__aarch64__)
    *pc = u->uc_mcontext.pc;
    *sp = u->uc_mcontext.sp;
#endif
}

/* The whole line: stage, signal, place, the plugin that called, file and build id. */
static void describe(line *l, int sig, const siginfo_t *info, const void *context)
{
    uintptr_t pc, sp;
    registers(context, &pc, &sp);
    const library *lib = library_of(pc);
    uintptr_t caller = lib && lib->plugin ? 0 : nearest_plugin(sp);
    put(l, "pipeline: ");
    if (*stage) {
        put(l, "stage '");
        put(l, stage);
        put(l, "' ");
    }
    put(l, "died of ");
    for (int i = 0; i < CAUGHT; i++) {
        if (signals[i].sig == sig) put(l, signals[i].name);
    }
    put(l, " at ");
    put_place(l, lib, pc);
    if (caller) {
        lib = library_of(caller);
        put(l, ", called from ");
        put_place(l, lib, caller);
    }
    if (lib) {
        put(l, " (");
        put(l, lib->path);
        put(l, *lib->build_id ? ", build id " : "");
        put(l, lib->build_id);
        put(l, ")");
    }
    if (sig == SIGSEGV || sig == SIGBUS) {
        put(l, ", address ");
        put_hex(l, (uintptr_t)info->si_addr);
    }
}

/* The signal handler. */
static void handle(int sig, siginfo_t *info, void *context)
{
    static line l; /* the stack may be what is broken */
    l.n = 0;
    describe(&l, sig, info, context);
    if (copy_to) {
        size_t n = l.n < copy_n ? l.n : copy_n - 1;
        memcpy(copy_to, l.text, n);
        copy_to[n] = 0;
    }
    l.text[l.n++] = '\n';
    if (!copy_to && write(STDERR_FILENO, l.text, l.n) < 0) l.n = 0; /* nothing else can be done */
    signal(sig, SIG_DFL);
    raise(sig); /* delivered when this handler returns */
}

/* ---- what is known beforehand -------------------------------------------------------------- */

typedef struct {
    uintptr_t address; /* what to look for; 0: everything */
    const char *path, *build_id;
} wanted;

/* Adds one loaded object to the table; called by dl_iterate_phdr. */
static int add_library(struct dl_phdr_info *o, size_t size, void *arg)
{
    const wanted *w = arg;
    uintptr_t low = o->dlpi_addr, high = low;
    (void)size;
    for (int i = 0; i < o->dlpi_phnum; i++) {
        uintptr_t end = low + o->dlpi_phdr[i].p_vaddr + o->dlpi_phdr[i].p_memsz;
        if (o->dlpi_phdr[i].p_type == PT_LOAD && end > high) high = end;
    }
    if (w->address && (w->address < low || w->address >= high)) return 0;
    int at = 0;
    while (at < n_libraries && libraries[at].low != low) at++;
    if (at == LIBRARIES) return 1;
    library *lib = &libraries[at];
    const char *path = w->path ? w->path : *o->dlpi_name ? o->dlpi_name : "pipeline";
    if (at == n_libraries || w->path) {
        snprintf(lib->path, sizeof lib->path, "%s", path);
        snprintf(lib->build_id, sizeof lib->build_id, "%s", w->build_id ? w->build_id : "");
        lib->plugin = w->path != NULL;
        lib->low = low;
        lib->high = high;
    }
    if (at == n_libraries) n_libraries = at + 1;
    return w->address != 0;
}

void ft_crash_library(const void *address, const char *path, const char *build_id)
{
    wanted w = { (uintptr_t)address, path, build_id };
    dl_iterate_phdr(add_library, &w);
}

void ft_crash_stage(const char *id) { snprintf(stage, sizeof stage, "%s", id ? id : ""); }

void ft_crash_copy_to(char *text, size_t n)
{
    copy_to = text;
    copy_n = n;
}

void ft_crash_install(void)
{
    static char alternative[ALT_STACK];
    stack_t s = { .ss_sp = alternative, .ss_size = sizeof alternative };
    struct sigaction a = { .sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_ONSTACK };
    wanted all = { 0, NULL, NULL };
    dl_iterate_phdr(add_library, &all);
    sigemptyset(&a.sa_mask);
    sigaltstack(&s, NULL);
    for (int i = 0; i < CAUGHT; i++) sigaction(signals[i].sig, &a, NULL);
}
