/* crash.h -- a crash that names its place.
 *
 *   pipeline: stage 'lora' died of SIGSEGV at lora.so+0x1a2b (/usr/lib/pipeline/lora.so, build id
 *   3f2a…), address 0x0
 *
 * `addr2line -e FILE 0x1a2b` gives the line.  A crash inside libc (abort, memcpy) also names the
 * nearest plugin on the stack.  Everything that the handler needs is put into static memory
 * beforehand: signal handlers are per process, so this is the one place that has such state. */
#ifndef FT_CORE_CRASH_H
#define FT_CORE_CRASH_H
#include <stdbool.h>
#include <stddef.h>

/* Handlers for SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT, on a stack of their own: they write the
 * line to standard error, or where ft_crash_copy_to says, and let the signal end the process as it
 * would have. */
void ft_crash_install(void);
/* The stage that runs now; NULL or "": none. */
void ft_crash_stage(const char *id);
/* Makes the shared object known that holds `address`. */
void ft_crash_library(const void *address, const char *path, const char *build_id);
/* Where the line (up to n bytes, zero-terminated) is left instead of being written, for the one who
 * reads it there to report; NULL: nowhere. */
void ft_crash_copy_to(char *text, size_t n);
/* "SIGSEGV", or "signal 42". */
const char *ft_signal_name(int sig);
#endif
