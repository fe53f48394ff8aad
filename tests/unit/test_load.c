/* test_load.c -- the plugin loader: what is loaded, and what is refused with which words.  Plugins
 * are those of tests/data/plugins; files that no compiler makes are cut and patched from good.so.
 * Plugins that misbehave when they run: test_isolate.c. */
#include "load_test.h"
#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/base/sha256.h"
#include "core/load/bind.h"
#include "core/load/check.h"
#include "core/load/elf.h"
#include "core/load/instance.h"
#include "ft/data.h"

static void read_good(ft_buf *b)
{
    char path[4200];
    ft_err e = { 0 };
    snprintf(path, sizeof path, "%s/good.so", so_dir);
    ck_assert_msg(!ft_file_read(b, path, 64 << 20, &e), "%s", e.msg);
}

/* Asks for NAME in a folder and expects a refusal that says `want`, after the file's path when
 * with_path. */
static void refuse(const char *folder, const char *name, bool with_path, const char *want)
{
    char real[4096], start[9000] = "";
    ft_err e = { 0 };
    ft_registry *r = registry(folder);
    ck_assert_msg(ft_registry_get(r, name, &e) == NULL, "%s: loaded", name);
    ck_assert_ptr_nonnull(realpath(folder, real));
    if (with_path) snprintf(start, sizeof start, "%s/%s.so: ", real, name);
    ck_assert_msg(!strncmp(e.msg, start, strlen(start)) && strstr(e.msg, want),
        "%s: \"%s\" instead of "
                  "\"%s…%s\"", name, e.msg, start, want);
    ft_registry_free(r);
}

/* ---- loading -------------------------------------------------------------------------------- */
START_TEST(good)
{
    ft_err e = { 0 };
    ft_buf file = { 0 };
    char want[65];
    ft_registry *r = registry(so_dir);
    const ft_loaded *l = ft_registry_get(r, "good", &e);
    ck_assert_msg(l != NULL, "%s", e.msg);
    ck_assert_ptr_eq(l, ft_registry_get(r, "good", &e));
    ck_assert_str_eq(l->desc.role, "ft.tokens/1");
    ck_assert_str_eq(l->desc.version, "1.2.3");
    ck_assert(l->params[8].key && !l->params[9].key);
    read_good(&file);
    ft_sha256 s;
    ft_sha256_init(&s);
    ft_sha256_add(&s, file.p, file.n);
    ft_sha256_hex(&s, want);
    ck_assert_str_eq(l->sha256, want);
    ck_assert_uint_eq(strlen(l->build_id) % 2, 0);
    ft_buf_free(&file);
    ft_registry_free(r);
}
END_TEST

/* Every plugin of this build passes: the list has no refusal. */
START_TEST(own_plugins)
{
    ft_err e = { 0 };
    const ft_listed *all;
    size_t n;
    char path[4096];
    snprintf(path, sizeof path, "%s/plugins", test_build());
    if (!ft_is_dir(path)) {
        puts("not run: the build has no plugins yet");
        return;
    }
    ft_registry *r = registry(path);
    ck_assert_int_eq(ft_registry_list(r, &all, &n, &e), 0);
    for (size_t i = 0; i < n; i++) ck_assert_msg(all[i].plugin != NULL, "%s", all[i].why);
    ft_registry_free(r);
}
END_TEST

/* Compiled plugins that are wrong in one point each.  Those refused by their note abort in a
 * constructor, so that loading them would end this test. */
START_TEST(hostile)
{
    static const struct { const char *name, *want; } cases[] = {
        { "no-note", "it has no section .note.ftabi; write FT_PLUGIN(descriptor, \"name\")" },
        { "newer-major", "built for plugin ABI 2.0, this program has 1.0; use a newer program" },
        { "newer-minor", "built for plugin ABI 1.1, this program has 1.0; use a newer program" },
        { "larger-struct",
          "its ft_plugin has 112 bytes, this program reads 104 to 104; build the plugin" },
        { "note-name",
          "its note says name \"lora\", the file says \"note-name\"; rename the file" },
        { "descriptor-name",
          "its descriptor says name \"other\", the file says \"descriptor-name\"" },
        { "other-abi",
          "its descriptor says ABI 1.0 with sizes 64, 56, 112, its note 1.0 with 64, 56, 104" },
        { "null-function", "member shape of its vtable for ft.tokens/1 is NULL; it is required" },
        { "null-vtable", "vtable is NULL; role ft.tokens/1 needs one" },
        { "large-vtable", "its vtable for ft.tokens/1 says 32 bytes, this program reads 24 to 24" },
        { "unknown-role",
          "role \"ft.token/1\" is not known to this program; did you mean \"ft.tokens/1\"?" },
        { "bad-offset",
          "parameter \"far\" lies outside of the config struct (kind 3, offset 8, config_size 8)" },
        { "bad-default",
          "the default \"0\" of its parameter \"r\" is not valid: default: r = 0 is below the "
          "limit 1" },
        { "undefined-symbol",
          "cannot be loaded: undefined symbol: nobody_has_this; a plugin is linked with" },
        { "no-entry",
          "does not export ft_plugin_entry_1; write FT_PLUGIN(descriptor, \"name\") once" },
        { "null-entry", "ft_plugin_entry_1 gave NULL" },
        { "bad-list",
          "its vtable for ft.quantizer/1 names offset 8 of the config struct as a list, where no "
          "list is; write (size_t)-1" },
        { "no-shared",
          "role ft.format/1 needs parameter \"val_size\", a number, at offset 0 of the config "
          "struct, where no such row is" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refuse(so_dir, cases[i].name, true, cases[i].want);
}
END_TEST

START_TEST(names)
{
    char longest[301] = { 0 };
    memset(longest, 'a', 300);
    const char *const bad[] = { "../tests/so/good", "/bin/sh", "", ".", "good.so", "Good", "-good",
        "go od", "gööd",
                                longest, "good\n", "a/b" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refuse(so_dir, bad[i], false,
            "is not a plugin's name (a-z, 0-9 and '-', at most 64; never a path)");
    refuse(so_dir, "godo", false, "no plugin \"godo\"; did you mean \"good\"? (searched /");
    refuse(so_dir, "something-else", false, "no plugin \"something-else\" (searched /");
}
END_TEST

/* A file that ends too early: at every header, inside of it, and one byte before its end. */
START_TEST(truncated)
{
    ft_buf b = { 0 };
    Elf64_Ehdr h;
    read_good(&b);
    memcpy(&h, b.p, sizeof h);
    size_t table = (size_t)h.e_shnum * sizeof(Elf64_Shdr);
    const size_t at[] = { 0, 1, 3, 4, 16, 20, 63, 64, 65, 600, b.n / 2, h.e_shoff - 1, h.e_shoff,
        h.e_shoff + 1,
                          h.e_shoff + 64, h.e_shoff + table / 2, h.e_shoff + table - 1 };
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        put("good.so", b.p, at[i]);
        refuse(dir, "good", true,
            at[i] < 4 ? "is no shared object: it has " : "reaches past the file's end at ");
    }
    ft_buf_free(&b);
}
END_TEST

/* One field of the ELF header or of the note is changed. */
START_TEST(patched)
{
    static const struct { size_t at, n; unsigned value; const char *want; } cases[] = {
        { 0, 1, 'M', "starts with 4d 45 4c 46 instead of 7f 45 4c 46" },
        { EI_CLASS, 1, ELFCLASS32, "ELF class is 1, this program needs 2" },
        { EI_DATA, 1, ELFDATA2MSB, "ELF byte order is 2, this program needs 1" },
        { offsetof(Elf64_Ehdr, e_type), 2, ET_EXEC,
          "ELF type (3: shared object) is 2, this program needs 3" },
        { offsetof(Elf64_Ehdr, e_machine), 2, EM_S390, "ELF machine is 22, this program needs " },
        { offsetof(Elf64_Ehdr, e_shentsize), 2, 40,
          "ELF section header size is 40, this program needs 64" },
        { offsetof(Elf64_Ehdr, e_shnum), 2, 0, "has 0 sections" },
        { offsetof(Elf64_Ehdr, e_shnum), 2, 65535, "has 65535 sections" },
        { offsetof(Elf64_Ehdr, e_shstrndx), 2, 60000, "names in the 60000th" },
        { offsetof(Elf64_Ehdr, e_shoff) + 7, 1, 0xFF, "the section table at byte " },
        { offsetof(Elf64_Ehdr, e_shoff) + 3, 1, 0x7F, "the section table at byte " },
    };
    ft_buf b = { 0 };
    read_good(&b);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *copy = malloc(b.n);
        memcpy(copy, b.p, b.n);
        memcpy(copy + cases[i].at, &cases[i].value, cases[i].n);
        put("good.so", copy, b.n);
        free(copy);
        refuse(dir, "good", true, cases[i].want);
    }
    ft_buf_free(&b);
}
END_TEST

/* The same for the note, found by its bytes. */
START_TEST(patched_note)
{
    static const struct { size_t at; uint32_t value; const char *want; } cases[] = {
        { offsetof(ft_note, namesz), 5, "is no note of owner \"ft\"" },
        { offsetof(ft_note, descsz), 1u << 31, "is no note of owner \"ft\"" },
        { offsetof(ft_note, type), 2, "is no note of owner \"ft\"" },
        { offsetof(ft_note, owner), 0x54465446, "is no note of owner \"ft\"" },
        { offsetof(ft_note, major), 0,
          "built for plugin ABI 0.0, this program has 1.0; build the plugin" },
        { offsetof(ft_note, param), 8, "its ft_param has 8 bytes, this program reads " },
        { offsetof(ft_note, host), 1000, "its ft_host has 1000 bytes, this program reads " },
    };
    ft_buf b = { 0 };
    static const char mark[] = "\4\0\0\0\x54\0\0\0\1\0\0\0ft";
    read_good(&b);
    char *note = memmem(b.p, b.n, mark, sizeof mark);
    ck_assert_ptr_nonnull(note);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t old;
        memcpy(&old, note + cases[i].at, 4);
        memcpy(note + cases[i].at, &cases[i].value, 4);
        put("good.so", b.p, b.n);
        refuse(dir, "good", true, cases[i].want);
        memcpy(note + cases[i].at, &old, 4);
    }
    memset(note + offsetof(ft_note, name), 'x', 64);
    put("good.so", b.p, b.n);
    refuse(dir, "good", true, "the name in .note.ftabi has no end");
    ft_buf_free(&b);
}
END_TEST

/* Random damage to headers: read or refused, never outside the file (sanitizers watch). */
START_TEST(damaged)
{
    ft_buf b = { 0 };
    Elf64_Ehdr h;
    uint32_t s = 99;
    read_good(&b);
    memcpy(&h, b.p, sizeof h);
    int fd = memfd_create("elf", 0);
    size_t table = (size_t)h.e_shnum * sizeof(Elf64_Shdr);
    for (int round = 0; round < 2000; round++) {
        ck_assert_int_eq(pwrite(fd, b.p, b.n, 0), (ssize_t)b.n);
        for (int k = 0; k < 3; k++) {
            s = s * 1664525 + 1013904223;
            size_t at = round % 2 ? (s >> 8) % sizeof h : h.e_shoff + (s >> 8) % table;
            char c = (char)(s >> 3);
            ck_assert_int_eq(pwrite(fd, &c, 1, (off_t)at), 1);
        }
        ft_elf_info info;
        ft_err e = { 0 };
        int code = ft_elf_read(&info, fd, b.n, "damaged", &e);
        ck_assert_msg(code == 0 || e.code == code, "no message");
    }
    close(fd);
    ft_buf_free(&b);
}
END_TEST

/* Things that are no plain file of ours. */
START_TEST(files)
{
    ft_buf b = { 0 };
    char target[4200], path[4096];
    read_good(&b);
    put("script.so", "#!/bin/sh\nexit 0\n", 17);
    refuse(dir, "script", true, "is no shared object: it starts with 23 21 2f 62");
    ck_assert_ptr_nonnull(realpath(so_dir, path));
    snprintf(target, sizeof target, "%s/good.so", path);
    ck_assert_int_eq(symlink(target, in_dir("good.so")), 0);
    refuse(dir, "good", true, "is a symbolic link; put the file itself there");
    ck_assert_int_eq(mkfifo(in_dir("pipe.so"), 0644), 0);
    refuse(dir, "pipe", true, "is not a regular file");
    ck_assert_int_eq(mkdir(in_dir("folder.so"), 0755), 0);
    refuse(dir, "folder", true, "is not a regular file");
    unlink(in_dir("good.so"));
    put("good.so", b.p, b.n);
    ck_assert_int_eq(chmod(in_dir("good.so"), 0757), 0);
    refuse(dir, "good", true, "has mode 0757: others than its owner may write to it. chmod go-w ");
    ck_assert_int_eq(chmod(in_dir("good.so"), 0775), 0);
    refuse(dir, "good", true, "has mode 0775: others than its owner may write to it. chmod go-w ");
    ck_assert_int_eq(chmod(in_dir("good.so"), 0755), 0);
    if (geteuid() == 0) {
        ck_assert_int_eq(chown(in_dir("good.so"), 65534, 65534), 0);
        refuse(dir, "good", true,
            "belongs to user 65534; a plugin must belong to root or to user 0");
        ck_assert_int_eq(chown(in_dir("good.so"), 0, 0), 0);
    } else {
        puts("not run: another owner (needs root)");
    }
    ft_registry *r = registry(dir);
    ft_err e = { 0 };
    ck_assert_msg(ft_registry_get(r, "good", &e) != NULL, "%s", e.msg);
    ft_registry_free(r);
    ft_buf_free(&b);
}
END_TEST

START_TEST(folders)
{
    ft_err e = { 0 };
    ft_registry *r = ft_registry_new(&e);
    ck_assert_int_lt(ft_registry_add(r, in_dir("none"), "--plugin-dir", &e), 0);
    ck_assert_ptr_nonnull(strstr(e.msg, "--plugin-dir: plugin folder "));
    e.code = 0;
    ck_assert_int_eq(mkdir(in_dir("open"), 0755), 0);
    ck_assert_int_eq(mkdir(in_dir("open/below"), 0755), 0);
    ck_assert_int_eq(chmod(in_dir("open"), 0777), 0);
    ck_assert_int_lt(ft_registry_add(r, in_dir("open"), "--plugin-dir", &e), 0);
    ck_assert_ptr_nonnull(strstr(e.msg, "/open has mode 0777: everybody may write to it"));
    e.code = 0;
    ck_assert_int_lt(ft_registry_add(r, in_dir("open/below"), "--plugin-dir", &e), 0);
    ck_assert_ptr_nonnull(strstr(e.msg, "/open has mode 0777: everybody may write to it"));
    e.code = 0;
    ck_assert_int_eq(chmod(in_dir("open"), 01777), 0); /* sticky, as /tmp is */
    ck_assert_msg(!ft_registry_add(r, in_dir("open/below"), "--plugin-dir", &e), "%s", e.msg);
    ft_registry_free(r);

    /* The environment: absolute folders only. */
    setenv("PIPELINE_PLUGIN_PATH", "build/tests/so", 1);
    r = ft_registry_new(&e);
    ck_assert_int_lt(ft_registry_add_defaults(r, &e), 0);
    ck_assert_str_eq(e.msg, "PIPELINE_PLUGIN_PATH: \"build/tests/so\" is no absolute path");
    e.code = 0;
    ft_registry_free(r);
    char real[4096], list[9000];
    ck_assert_ptr_nonnull(realpath(so_dir, real));
    snprintf(list, sizeof list, ":%s::%s/open/below:", real, dir);
    setenv("PIPELINE_PLUGIN_PATH", list, 1);
    r = ft_registry_new(&e);
    ck_assert_msg(!ft_registry_add_defaults(r, &e), "%s", e.msg);
    ck_assert_ptr_nonnull(ft_registry_get(r, "good", &e));
    ft_registry_free(r);
}
END_TEST

/* The first folder decides, also when what it holds is refused; the list says what is hidden. */
START_TEST(listing)
{
    ft_buf b = { 0 };
    ft_err e = { 0 };
    const ft_listed *all;
    size_t n;
    read_good(&b);
    put("good.so", b.p, b.n);
    put("broken.so", "x", 1);
    put("b\033[31m.so", "x", 1);
    put("README", "x", 1);
    ft_registry *r = registry(dir);
    ck_assert_int_eq(ft_registry_add(r, so_dir, "--plugin-dir", &e), 0);
    ck_assert_int_eq(ft_registry_add(r, dir, "--plugin-dir", &e), 0); /* counts once */
    ck_assert_msg(!ft_registry_list(r, &all, &n, &e), "%s", e.msg);
    size_t good_at = 0;
    for (size_t i = 0; i < n; i++) {
        if (!strcmp(all[i].name, "good")) good_at = i; /* the last of that name */
        if (i) ck_assert_int_le(strcmp(all[i - 1].name, all[i].name), 0);
        ck_assert(!all[i].plugin == (all[i].why != NULL));
    }
    ck_assert_str_eq(all[0].name, "b?[31m");
    ck_assert(all[good_at].hidden && !all[good_at - 1].hidden);
    ck_assert_ptr_nonnull(all[good_at - 1].plugin);
    ck_assert_ptr_nonnull(strstr(all[good_at].why, "hidden by /tmp/ft-load-"));
    ft_registry_free(r);

    put("good.so", "x", 1);
    r = registry(dir);
    ft_registry_add(r, so_dir, "--plugin-dir", &e);
    ck_assert_ptr_null(ft_registry_get(r, "good", &e));
    ck_assert_ptr_nonnull(strstr(e.msg, "is no shared object"));
    ft_registry_free(r);
    ft_buf_free(&b);
}
END_TEST

/* A program that has grown since: older plugins are read. */
START_TEST(older_plugins)
{
    ft_abi_numbers grown = ft_abi_ours, theirs = ft_abi_first;
    ft_err e = { 0 };
    grown.minor = 3;
    grown.param += 16;
    grown.host += 8;
    grown.plugin += 24;
    ck_assert_int_eq(ft_abi_check(&theirs, &grown, &ft_abi_first, "old.so", &e), 0);
    theirs.minor = 2;
    theirs.host += 8;
    ck_assert_int_eq(ft_abi_check(&theirs, &grown, &ft_abi_first, "old.so", &e), 0);
    theirs.param -= 8;
    ck_assert_int_eq(ft_abi_check(&theirs, &grown, &ft_abi_first, "old.so", &e), FT_EUNSUP);
}
END_TEST

/* ---- parameter tables ------------------------------------------------------------------------ */
typedef struct {
    int64_t a; double b; bool c; const char *d; ft_list e; ft_ints f; ft_map g;
} config;
static const char *const none[] = { NULL };
static const char *const two[] = { "x", "y", NULL };

START_TEST(tables)
{
    static const struct { ft_param row; const char *want; } cases[] = {
        { { "9a", FT_INT, 0, "1", 0, 0, 0, "h" },
          "the key of row 2 of its parameter table is none" },
        { { "", FT_INT, 0, "1", 0, 0, 0, "h" }, "the key of row 2 of its parameter table is none" },
        { { "a-b", FT_INT, 0, "1", 0, 0, 0, "h" },
          "the key of row 2 of its parameter table is none" },
        { { "first", FT_REAL, 8, "1", 0, 0, 0, "h" },
          "parameter \"first\" stands twice in the table" },
        { { "a", (ft_kind)9, 8, "1", 0, 0, 0, "h" }, "parameter \"a\" has an unknown kind" },
        { { "a", (ft_kind)-1, 8, "1", 0, 0, 0, "h" }, "parameter \"a\" has an unknown kind" },
        { { "a", FT_INT, sizeof(config), "1", 0, 0, 0, "h" }, "lies outside of the config struct" },
        { { "a", FT_INT, SIZE_MAX - 3, "1", 0, 0, 0, "h" }, "lies outside of the config struct" },
        { { "a", FT_MAP, sizeof(config) - 16, "", 0, 0, 0, "h" },
          "lies outside of the config struct" },
        { { "a", FT_INT, 12, "1", 0, 0, 0, "h" }, "has an offset that is not aligned" },
        { { "a", FT_BOOL, 3, "true", 0, 0, 0, "h" }, "shares its place in the config struct" },
        { { "a", FT_INT, 8, "1", 2, 1, 0, "h" }, "has min above max" },
        { { "a", FT_STR, 8, "x", 0, 1, 0, "h" }, "is no number and has a range" },
        { { "a", FT_INT, 8, "1", 0, 0, two, "h" }, "is no text and has choices" },
        { { "a", FT_STR, 8, "x", 0, 0, none, "h" }, "has choices, but none" },
        { { "a", FT_INT, 8, "1", 0, 0, 0, NULL }, "has no help text" },
        { { "a", FT_INT, 8, "one", 0, 0, 0, "h" },
          "the default \"one\" of its parameter \"a\" is not valid: " },
        { { "a", FT_INT, 8, "", 0, 0, 0, "h" },
          "the default \"\" of its parameter \"a\" is not valid: it is empty" },
        { { "a", FT_STR, 8, "~", 0, 0, 0, "h" },
          "the default \"~\" of its parameter \"a\" is not valid: it is empty" },
        { { "a", FT_STR, 8, "z", 0, 0, two, "h" }, "z is not one of x, y" },
        { { "a", FT_LIST, 8, "[x, z]", 0, 0, two, "h" }, "z is not one of x, y" },
        { { "a", FT_LIST, 8, "[x", 0, 0, 0, "h" }, "not YAML" },
        { { "a", FT_BOOL, 8, "yes", 0, 0, 0, "h" }, "must be true or false; write true" },
        { { "a", FT_STR, 8, "\xFF", 0, 0, 0, "h" }, "has a default that is not UTF-8" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const ft_param rows[] = { { "first", FT_INT, 0, NULL, 0, 0, 0, "h" }, cases[i].row,
            { 0 } }, *taken;
        ft_plugin p = { .params = rows, .config_size = sizeof(config) };
        ft_arena a = { 0 };
        ft_err e = { 0 };
        ck_assert_int_lt(ft_params_take(&taken, &a, &p, sizeof *rows, "t.so", &e), 0);
        ck_assert_msg(!strncmp(e.msg, "t.so: ", 6) && strstr(e.msg, cases[i].want),
            "%zu: \"%s\" instead of \"%s\"",
                      i, e.msg, cases[i].want);
        ft_arena_free(&a);
    }
    /* A table without an end. */
    static ft_param endless[300];
    static char key[300][16];
    for (int i = 0; i < 300; i++) {
        snprintf(key[i], sizeof key[i], "k%d", i);
        endless[i] = (ft_param){ key[i], FT_INT, 8 * (size_t)i, "1", 0, 0, 0, "h" };
    }
    ft_plugin p = { .params = endless, .config_size = 300 * 8 };
    const ft_param *taken;
    ft_arena a = { 0 };
    ft_err e = { 0 };
    ck_assert_int_eq(ft_params_take(&taken, &a, &p, sizeof *endless, "t.so", &e), FT_EINVAL);
    ck_assert_ptr_nonnull(strstr(e.msg, "more than 256 parameters, or no row { 0 } at the end"));
    ft_arena_free(&a);
}
END_TEST

/* Rows of a smaller, older ft_param: what they lack is zero. */
START_TEST(older_rows)
{
    struct { ft_param now; char more[24]; } rows[3] = {
        { { "first", FT_INT, 0, "1", 0, 0, 0, "h" }, "x" }, { { "second", FT_REAL, 8, "1", 0, 0, 0,
          "h" }, "y" },
    };
    const ft_param *taken;
    ft_plugin p = { .params = &rows[0].now, .config_size = sizeof(config) };
    ft_arena a = { 0 };
    ft_err e = { 0 };
    ck_assert_msg(!ft_params_take(&taken, &a, &p, sizeof *rows, "t.so", &e), "%s", e.msg);
    ck_assert_ptr_null(taken[2].key);
    ck_assert_str_eq(taken[1].key, "second");
    ft_arena_free(&a);
}
END_TEST

/* ---- a whole file ---------------------------------------------------------------------------- */
START_TEST(bound)
{
    static const char text[] =
        "version: 1\nstages:\n  - use: good\n    with: { rows: 9, ranks: { k: 3 }, whta: log }\n"
        "  - use: godo\n  - use: no-note\n";
    ft_config c = { 0 };
    ft_diags d = { 0 };
    ft_buf out = { 0 };
    put("t.yaml", text, strlen(text));
    ft_registry *r = registry(so_dir);
    ck_assert_int_eq(ft_config_open(&c, r, in_dir("t.yaml"), NULL, 0, 0, &d), FT_EINVAL);
    ft_diags_write(&out, &d);
    ck_assert_uint_eq(d.n, 3);
    ck_assert_ptr_nonnull(strstr(out.p,
        "t.yaml:4:39: unknown key \"whta\" for good; did you mean \"what\"?\n"));
    ck_assert_ptr_nonnull(strstr(out.p,
        "t.yaml:5:10: no plugin \"godo\"; did you mean \"good\"? (searched /"));
    ck_assert_ptr_nonnull(strstr(out.p, "t.yaml:6:10: /"));
    ft_diags_free(&d);
    ft_buf_free(&out);
    ft_config_free(&c);

    static const char *const over[] = { "~godo", "~no-note", "~good.whta", "good.what=fail" };
    ft_err e = { 0 };
    ck_assert_int_eq(ft_config_open(&c, r, in_dir("t.yaml"), over, 4, 0, &d), 0);
    ck_assert_str_eq(c.stage[0].plugin->name, "good");
    ft_instance *i = ft_instance_open(c.stage[0].plugin, c.stage[0].id, c.stage[0].config, NULL,
        &e);
    ck_assert_msg(i != NULL, "%s", e.msg);
    const ft_token_source *t = ft_instance_vtable(i);
    int64_t x[3];
    int code = t->shape(ft_instance_self(i), &x[0], &x[1], &x[2]);
    ck_assert_int_eq(x[0], 9);
    ck_assert_int_eq(ft_instance_error(i, code, &e), FT_EINVAL);
    ck_assert_str_eq(e.msg,
        "stage 'good' (plugin good): rows = 7 exceeds 6"); /* the first message */
    ft_instance_close(i);
    ft_config_free(&c);
    ft_diags_free(&d);
    ft_registry_free(r);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("load");
    TCase *t = tcase_create("load");
    tcase_add_checked_fixture(t, make_dir, remove_dir);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, good);
    tcase_add_test(t, own_plugins);
    tcase_add_test(t, hostile);
    tcase_add_test(t, names);
    tcase_add_test(t, truncated);
    tcase_add_test(t, patched);
    tcase_add_test(t, patched_note);
    tcase_add_test(t, damaged);
    tcase_add_test(t, files);
    tcase_add_test(t, folders);
    tcase_add_test(t, listing);
    tcase_add_test(t, older_plugins);
    tcase_add_test(t, tables);
    tcase_add_test(t, older_rows);
    tcase_add_test(t, bound);
    suite_add_tcase(s, t);
    return s;
}
