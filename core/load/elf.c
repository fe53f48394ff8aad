/* elf.c -- see elf.h.  Format: System V ABI, "Object Files"; ELF-64 as <elf.h> has it.
 *
 * Sections are looked up by name, because gcc gives a variable placed in .note.ftabi the type
 * PROGBITS, so that no PT_NOTE segment would lead to it. */
#include "core/load/elf.h"
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "ft/ck.h"

#if defined(__x86_64__)
enum { MACHINE = EM_X86_64 };
#elif defined(__aarch64__)
enum { MACHINE = EM_AARCH64 };
#else
#error "name this machine's ELF number here"
#endif

enum { SECTIONS_MAX = 4096, NAMES_MAX = 1 << 20, BUILD_ID_MAX = 32 };

typedef struct {
    int fd;
    uint64_t size;
    const char *what;
    ft_err *e;
    Elf64_Ehdr head;
    Elf64_Shdr *section; /* [head.e_shnum], malloc */
    char *names;         /* section names, zero-terminated, malloc */
    uint64_t names_n;
} elf;

/* n bytes at `at`, all of which lie in the file. */
static int read_at(elf *f, void *out, uint64_t at, uint64_t n, const char *part)
{
    uint64_t end;
    if (!ck_add(&end, at, n) || end > f->size)
        return ft_errf(f->e, FT_EFORMAT, "%s: %s at byte %llu with %llu bytes reaches past the "
                       "file's end at %llu; the file is cut off or damaged", f->what, part,
                       (unsigned long long)at, (unsigned long long)n, (unsigned long long)f->size);
    for (char *p = out; n;) {
        ssize_t k = pread(f->fd, p, n, (off_t)at);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0)
            return ft_errf(f->e, FT_EIO, "%s: cannot read %s: %s", f->what, part,
                           k ? ft_errno_text(errno) : "the file became shorter");
        p += k;
        at += (uint64_t)k;
        n -= (uint64_t)k;
    }
    return 0;
}

/* Magic first, so that a script is called what it is; then the fields in order. */
static int check_head(elf *f)
{
    const Elf64_Ehdr *h = &f->head;
    if (f->size < SELFMAG)
        return ft_errf(f->e, FT_EFORMAT, "%s: is no shared object: it has %llu bytes", f->what,
                       (unsigned long long)f->size);
    int code = read_at(f, &f->head, 0, SELFMAG, "the ELF magic");
    if (code) return code;
    if (memcmp(h->e_ident, ELFMAG, SELFMAG))
        return ft_errf(f->e, FT_EFORMAT, "%s: is no shared object: it starts with %02x %02x %02x "
                       "%02x instead of 7f 45 4c 46", f->what, h->e_ident[0], h->e_ident[1],
                       h->e_ident[2], h->e_ident[3]);
    if ((code = read_at(f, &f->head, 0, sizeof f->head, "the ELF header"))) return code;
    const struct { const char *field; unsigned long long value, want; } checks[] = {
        { "class", h->e_ident[EI_CLASS], ELFCLASS64 },
        { "byte order", h->e_ident[EI_DATA], ELFDATA2LSB },
        { "version", h->e_version, EV_CURRENT },
        { "type (3: shared object)", h->e_type, ET_DYN },
        { "machine", h->e_machine, MACHINE },
        { "section header size", h->e_shentsize, sizeof(Elf64_Shdr) },
    };
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
        if (checks[i].value != checks[i].want)
            return ft_errf(f->e, FT_EFORMAT, "%s: ELF %s is %llu, this program needs %llu; build "
                           "the plugin on this machine", f->what, checks[i].field, checks[i].value,
                           checks[i].want);
    }
    if (h->e_shnum == 0 || h->e_shnum > SECTIONS_MAX || h->e_shstrndx >= h->e_shnum)
        return ft_errf(f->e, FT_EFORMAT, "%s: has %u sections with names in the %uth; 1 to %d are "
                       "read, and names must be in one of them", f->what, h->e_shnum,
                       h->e_shstrndx, SECTIONS_MAX);
    return 0;
}

/* The section table and the section names, both within the file and bounded. */
static int read_sections(elf *f)
{
    uint64_t bytes = (uint64_t)f->head.e_shnum * sizeof *f->section;
    f->section = malloc(bytes);
    if (!f->section) return ft_errf(f->e, FT_ENOMEM, "%s: out of memory", f->what);
    int code = read_at(f, f->section, f->head.e_shoff, bytes, "the section table");
    if (code) return code;
    const Elf64_Shdr *names = &f->section[f->head.e_shstrndx];
    f->names_n = names->sh_size;
    if (f->names_n == 0 || f->names_n > NAMES_MAX || names->sh_type != SHT_STRTAB)
        return ft_errf(f->e, FT_EFORMAT, "%s: section names take %llu bytes of type %u; up to %d "
                       "of type %d are read", f->what, (unsigned long long)f->names_n,
                       names->sh_type, NAMES_MAX, SHT_STRTAB);
    f->names = malloc(f->names_n + 1);
    if (!f->names) return ft_errf(f->e, FT_ENOMEM, "%s: out of memory", f->what);
    f->names[f->names_n] = 0;
    return read_at(f, f->names, names->sh_offset, f->names_n, "the section names");
}

/* The first section of that name, or NULL. */
static const Elf64_Shdr *find(const elf *f, const char *name)
{
    for (unsigned i = 0; i < f->head.e_shnum; i++) {
        const Elf64_Shdr *s = &f->section[i];
        if (s->sh_name < f->names_n && !strcmp(f->names + s->sh_name, name)) return s;
    }
    return NULL;
}

/* ft/plugin.h's note; that its numbers fit is for the caller to judge. */
static int read_note(elf *f, ft_note *out)
{
    const Elf64_Shdr *s = find(f, ".note.ftabi");
    if (!s || (s->sh_type != SHT_NOTE && s->sh_type != SHT_PROGBITS))
        return ft_errf(f->e, FT_EFORMAT, "%s: is no plugin of this program: it has no section "
                       ".note.ftabi; write FT_PLUGIN(descriptor, \"name\") once in its source",
                       f->what);
    /* What follows the note is padding: clang's AddressSanitizer puts some behind every global. */
    if (s->sh_size < sizeof *out)
        return ft_errf(f->e, FT_EFORMAT, "%s: .note.ftabi has %llu bytes, a note has %zu", f->what,
                       (unsigned long long)s->sh_size, sizeof *out);
    int code = read_at(f, out, s->sh_offset, sizeof *out, ".note.ftabi");
    if (code) return code;
    if (out->namesz != 4 || out->type != 1 || out->descsz != sizeof *out - 16 ||
        memcmp(out->owner, "ft\0", 4))
        return ft_errf(f->e, FT_EFORMAT, "%s: .note.ftabi is no note of owner \"ft\", type 1, with "
                       "%zu bytes", f->what, sizeof *out - 16);
    if (!memchr(out->name, 0, sizeof out->name))
        return ft_errf(f->e, FT_EFORMAT, "%s: the name in .note.ftabi has no end", f->what);
    return 0;
}

/* GNU's note: three 32-bit sizes, "GNU\0", the id.  A file without one is as good. */
static int read_build_id(elf *f, char out[65])
{
    struct { uint32_t namesz, descsz, type; char owner[4]; unsigned char id[BUILD_ID_MAX]; } n;
    const Elf64_Shdr *s = find(f, ".note.gnu.build-id");
    out[0] = 0;
    if (!s || s->sh_size < 16 || s->sh_size > sizeof n) return 0;
    int code = read_at(f, &n, s->sh_offset, s->sh_size, ".note.gnu.build-id");
    if (code) return code;
    if (n.namesz != 4 || memcmp(n.owner, "GNU", 4) || n.descsz > s->sh_size - 16) return 0;
    for (uint32_t i = 0; i < n.descsz; i++) snprintf(out + 2 * i, 3, "%02x", n.id[i]);
    return 0;
}

int ft_elf_read(ft_elf_info *out, int fd, uint64_t size, const char *what, ft_err *e)
{
    elf f = { .fd = fd, .size = size, .what = what, .e = e };
    *out = (ft_elf_info){ 0 };
    int code = check_head(&f);
    if (!code) code = read_sections(&f);
    if (!code) code = read_note(&f, &out->note);
    if (!code) code = read_build_id(&f, out->build_id);
    free(f.section);
    free(f.names);
    return code;
}
