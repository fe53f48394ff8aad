/* elf.h -- what a shared object says of itself, read from its file before a byte of it runs.
 *
 * Only what is needed: that it is a 64-bit shared object for this machine, its note section
 * .note.ftabi (ft/plugin.h) and GNU's build id.  Every offset and size is checked against the
 * file; nothing is read that lies outside of it. */
#ifndef FT_CORE_ELF_H
#define FT_CORE_ELF_H
#include <stdint.h>
#include "core/base/err.h"

typedef struct {
    ft_note note;
    char build_id[65]; /* hexadecimal; "" where the linker wrote none */
} ft_elf_info;

/* fd: a regular file of `size` bytes; what: its name for messages.  FT_EFORMAT names the header
 * field, its value and what it should be. */
int ft_elf_read(ft_elf_info *out, int fd, uint64_t size, const char *what, ft_err *e);
#endif
