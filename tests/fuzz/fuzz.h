/* fuzz.h -- what the fuzzing harnesses share.
 *
 * A harness is one file that defines LLVMFuzzerTestOneInput for one reader.  `make fuzz` links it
 * with libFuzzer under AddressSanitizer and UBSan; `make check` links the same file with replay.c,
 * which gives it the seeds, cut and damaged, so that no harness can rot.  A plugin under test is
 * linked in as it is, and opened by the program's own host (core/load/instance.h). */
#ifndef FT_TESTS_FUZZ_H
#define FT_TESTS_FUZZ_H
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core/base/file.h"
#include "core/io/tensors.h"
#include "core/load/instance.h"
#include "core/text/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* What may never happen ends the process, which libFuzzer reports with its input. */
static inline void fuzz_must(bool holds, const char *what)
{
    if (holds) return;
    fprintf(stderr, "fuzz: %s\n", what);
    abort();
}

/* Every refusal has a code and words. */
static inline void fuzz_refused(const ft_err *e)
{
    fuzz_must(e->code < 0 && strlen(e->msg) > 4, "refused without a reason");
}

/* The plugin refused with this code and said why.  What the host says for one that did not stands
 * at the message's beginning; further on it may be the file that is quoted. */
static inline void fuzz_plugin_refused(ft_instance *i, int code)
{
    ft_err e = { 0 };
    ft_instance_error(i, code, &e);
    fuzz_refused(&e);
    const char *said = strstr(e.msg, "): ");
    fuzz_must(said && strncmp(said, "): failed with code ", 20), "refused without a reason");
}

/* ---- files: readers that take paths ---------------------------------------------------------- */

enum { FUZZ_FILES = 8 };
static char fuzz_path[FUZZ_FILES][128]; /* what was written; removed at the end */

/* The folder of this process, in memory where the system has such a file system. */
static const char *fuzz_dir(void);

static inline void fuzz_remove(void)
{
    for (int i = 0; i < FUZZ_FILES; i++) {
        if (*fuzz_path[i]) unlink(fuzz_path[i]);
    }
    rmdir(fuzz_dir());
}

static inline const char *fuzz_dir(void)
{
    static char dir[64];
    if (*dir) return dir;
    snprintf(dir, sizeof dir, "%s/fuzz-%d", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm",
             (int)getpid());
    fuzz_must(!ft_make_dirs(dir, NULL), "no folder for files");
    atexit(fuzz_remove);
    return dir;
}

/* The path of DIR/NAME, which now holds these bytes; FUZZ_FILES names at most. */
static inline const char *fuzz_file(const char *name, const void *p, size_t n)
{
    char path[128];
    int i = 0;
    snprintf(path, sizeof path, "%s/%s", fuzz_dir(), name);
    while (i < FUZZ_FILES && *fuzz_path[i] && strcmp(fuzz_path[i], path)) i++;
    fuzz_must(i < FUZZ_FILES, "too many files");
    memcpy(fuzz_path[i], path, sizeof path);
    FILE *f = fopen(path, "wbe");
    fuzz_must(f && fwrite(p, 1, n, f) == n && !fclose(f), "a file cannot be written");
    return fuzz_path[i];
}

/* ---- a plugin that is linked in -------------------------------------------------------------- */

const ft_plugin *ft_plugin_entry_1(void);

static inline const ft_loaded *fuzz_plugin(void)
{
    static ft_loaded p;
    static const ft_param none[1];
    if (p.name) return &p;
    p.desc = *ft_plugin_entry_1();
    p.name = p.desc.name;
    p.path = "linked";
    p.params = p.desc.params ? p.desc.params : none;
    return &p;
}

/* Config of the defaults with the given texts instead, "key", "value", …, NULL; parameters of the
 * kinds that such plugins have.  Free it. */
static inline void *fuzz_config(const ft_loaded *p, const char *const *given)
{
    char *config = calloc(1, p->desc.config_size);
    fuzz_must(config != NULL, "no memory");
    for (const ft_param *r = p->params; r->key; r++) {
        const char *text = r->def ? r->def : "";
        for (size_t i = 0; given[i]; i += 2) {
            if (!strcmp(given[i], r->key)) text = given[i + 1];
        }
        char *at = config + r->offset;
        if (r->kind == FT_REAL) *(double *)(void *)at = strtod(text, NULL);
        else if (r->kind == FT_INT) *(int64_t *)(void *)at = strtoll(text, NULL, 10);
        else if (r->kind == FT_BOOL) *(bool *)(void *)at = !strcmp(text, "true");
        else if (r->kind == FT_STR || r->kind == FT_PATH) *(const char **)(void *)at = text;
    }
    return config;
}
#endif
