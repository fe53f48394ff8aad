/* tiny.h -- what tests of whole runs share: folders, the program as a child, hashes of what it
 * left, and tiny checkpoints whose weights follow from their names.
 *
 * The law of the weights is written in tests/tools/make-tiny-model.py; nothing of a checkpoint but
 * its config.json and the names and shapes in weights.txt is stored. */
#ifndef FT_TESTS_TINY_H
#define FT_TESTS_TINY_H
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "core/base/json.h"
#include "core/base/sha256.h"
#include "core/io/safetensors_write.h"
#include "tests/vectors.h"

#define TINY "tests/data/tiny"
enum { TINY_TENSORS = 128 };

/* ---- folders --------------------------------------------------------------------------------- */

static char tiny_dir[64];

/* A fresh folder for the test program; checked fixtures, so that forked tests share it. */
static inline void tiny_begin(void)
{
    snprintf(tiny_dir, sizeof tiny_dir, "/tmp/ft-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(tiny_dir));
}

static inline void tiny_end(void) { ck_assert_int_eq(ft_remove_tree(tiny_dir, NULL), 0); }

/* A path in the folder; valid for the next 1024 calls. */
__attribute__((format(printf, 1, 2))) static inline const char *tiny_path(const char *fmt, ...)
{
    static char path[1024][512];
    static unsigned next;
    char *p = path[next++ % 1024];
    va_list ap;
    int n = snprintf(p, 512, "%s/", tiny_dir);
    va_start(ap, fmt);
    vsnprintf(p + n, 512 - (size_t)n, fmt, ap);
    va_end(ap);
    return p;
}

static inline void tiny_must(int code, const ft_err *e) { ck_assert_msg(code == 0, "%s", e->msg); }

/* Makes a file of the folder; its path. */
__attribute__((format(printf, 2, 3))) static inline const char *tiny_file(const char *path,
                                                                          const char *fmt, ...)
{
    ft_buf b = { 0 };
    ft_err e = { 0 };
    va_list ap;
    va_start(ap, fmt);
    ft_buf_vprintf(&b, fmt, ap);
    va_end(ap);
    tiny_must(ft_file_write_buf(path, &b, &e), &e);
    ft_buf_free(&b);
    return path;
}

static inline void tiny_copy(const char *from, const char *to)
{
    ft_buf b = { 0 };
    ft_err e = { 0 };
    tiny_must(ft_file_read(&b, from, (size_t)1 << 28, &e), &e);
    tiny_must(ft_file_write_buf(to, &b, &e), &e);
    ft_buf_free(&b);
}

/* ---- numbers from names ---------------------------------------------------------------------- */

static inline uint64_t tiny_key(const char *name)
{
    uint64_t h = 0xCBF29CE484222325u;
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 0x100000001B3u;
    return h;
}

/* The i-th number of a key: SplitMix64. */
static inline uint64_t tiny_number(uint64_t key, uint64_t i)
{
    uint64_t z = key + (i + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static inline float tiny_weight(const char *name, uint64_t i)
{
    double u = ((double)(tiny_number(tiny_key(name), i) >> 40) / (1 << 24) - 0.5) / 2;
    return (float)(u + (strstr(name, "norm") != NULL));
}

/* ---- checkpoints ----------------------------------------------------------------------------- */

typedef struct { char name[128]; int64_t dim[3]; int ndim; } tiny_tensor;

static inline int tiny_list(tiny_tensor *t, int max, const char *kind)
{
    char path[256], line[256];
    long long d[3];
    int n = 0;
    snprintf(path, sizeof path, TINY "/%s/weights.txt", kind);
    FILE *f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    while (n < max && fgets(line, sizeof line, f)) {
        t[n].ndim = sscanf(line, "%127s %lld %lld %lld", t[n].name, &d[0], &d[1], &d[2]) - 1;
        ck_assert_int_gt(t[n].ndim, 0);
        for (int i = 0; i < t[n].ndim; i++) t[n].dim[i] = d[i];
        n++;
    }
    fclose(f);
    return n;
}

static inline void tiny_write_tensor(ft_st_writer *w, int64_t at, const tiny_tensor *t)
{
    ft_err e = { 0 };
    int64_t n = 1;
    for (int i = 0; i < t->ndim; i++) n *= t->dim[i];
    float *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++) x[i] = tiny_weight(t->name, (uint64_t)i);
    tiny_must(ft_st_write(w, at, x, (size_t)n * sizeof *x, &e), &e);
    free(x);
}

/* dir/model.safetensors of these n tensors. */
static inline void tiny_write(const char *dir, const tiny_tensor *t, int n)
{
    char file[600];
    int64_t at[TINY_TENSORS];
    ft_err e = { 0 };
    ft_st_writer *w = ft_st_new(&e);
    snprintf(file, sizeof file, "%s/model.safetensors", dir);
    for (int i = 0; i < n; i++)
        at[i] = ft_st_declare(w, t[i].name, FT_F32, t[i].dim, t[i].ndim, &e);
    tiny_must(ft_st_begin(w, file, 0, &e), &e);
    for (int i = 0; i < n; i++) tiny_write_tensor(w, at[i], &t[i]);
    tiny_must(ft_st_commit(w, &e), &e);
    ft_st_free(w);
}

/* The checkpoint TINY/kind as a folder that the program opens: its path. */
static inline const char *tiny_model(const char *kind)
{
    tiny_tensor t[TINY_TENSORS];
    char from[256], file[600];
    ft_err e = { 0 };
    const char *dir = tiny_path("model-%s", kind);
    snprintf(file, sizeof file, "%s/model.safetensors", dir);
    if (ft_file_exists(file)) return dir;
    tiny_must(ft_make_dirs(dir, &e), &e);
    tiny_write(dir, t, tiny_list(t, TINY_TENSORS, kind));
    snprintf(from, sizeof from, TINY "/%s/config.json", kind);
    snprintf(file, sizeof file, "%s/config.json", dir);
    tiny_copy(from, file);
    return dir;
}

/* Rows of random ids for data-tokens, [n, length]; docs documents a row, each with loss on another
 * share of its tokens. */
static inline const char *tiny_rows(const char *path, int64_t n, int64_t length, int64_t docs,
                                    uint64_t seed)
{
    static const char *const name[] = { "input_ids", "labels", "seq_ids" };
    ft_err e = { 0 };
    int64_t dim[2] = { n, length };
    size_t bytes = (size_t)(n * length) * sizeof(int32_t);
    int32_t *x = malloc(3 * bytes), *y = x + n * length, *d = y + n * length;
    for (int64_t i = 0; i < n * length; i++) {
        uint64_t z = tiny_number(seed, (uint64_t)i);
        x[i] = (int32_t)(3 + z % 93);
        y[i] = (int64_t)(z >> 40) % 8 < 1 + i * docs / length % 7 ? x[i] : -100;
        d[i] = (int32_t)(i % length * docs / length);
    }
    ft_st_writer *w = ft_st_new(&e);
    for (int k = 0; k < 3; k++) ft_st_declare(w, name[k], FT_I32, dim, 2, &e);
    tiny_must(ft_st_begin(w, path, 0, &e), &e);
    for (int k = 0; k < 3; k++)
        tiny_must(ft_st_write(w, k, k == 0 ? x : k == 1 ? y : d, bytes, &e), &e);
    tiny_must(ft_st_commit(w, &e), &e);
    ft_st_free(w);
    free(x);
    return path;
}

/* ---- the program ----------------------------------------------------------------------------- */

/* Starts the program, its own process group, standard output and error into the file log. */
static inline pid_t tiny_start(const char *const *argv, const char *log)
{
    sigset_t held, before;
    sigemptyset(&held);
    sigaddset(&held, SIGINT); /* Check's own handler would end the test from the child */
    fflush(NULL);
    sigprocmask(SIG_BLOCK, &held, &before);
    pid_t pid = fork();
    if (pid > 0) setpgid(pid, pid); /* by both, so that it is done before either goes on */
    else signal(SIGINT, SIG_DFL);
    sigprocmask(SIG_SETMASK, &before, NULL);
    ck_assert_int_ge(pid, 0);
    if (pid) return pid;
    char exe[512];
    const char *all[64] = { exe };
    snprintf(exe, sizeof exe, "%s/pipeline", test_build());
    for (int i = 0; argv[i] && i < 62; i++) all[i + 1] = argv[i];
    setpgid(0, 0);
    unsetenv("PIPELINE_PLUGIN_PATH");
    unsetenv("PIPELINE_CACHE");
    if (!freopen(log, "w", stdout) || dup2(1, 2) < 0) _exit(126);
    execv(exe, (char *const *)(const void *)all);
    _exit(127);
}

static inline int tiny_wait(pid_t pid)
{
    int status;
    while (waitpid(pid, &status, 0) < 0) ck_assert_int_eq(errno, EINTR);
    return status;
}

/* Runs it to its end: the exit status, or 256 + the signal it died of.  What it said is in *out,
 * which may be NULL. */
static inline int tiny_run(ft_buf *out, const char *const *argv)
{
    char log[600];
    snprintf(log, sizeof log, "%s/log-%ld", tiny_dir, (long)getpid());
    int status = tiny_wait(tiny_start(argv, log));
    if (out) {
        out->n = 0;
        ft_buf_puts(out, "");
        ck_assert_int_eq(ft_file_read(out, log, 1 << 24, NULL), 0);
        ft_buf_putc(out, 0);
        out->n--;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

/* ---- what a run left ------------------------------------------------------------------------- */

static inline void tiny_sha(char hex[65], const char *path)
{
    ft_sha256 h;
    ft_buf b = { 0 };
    ft_err e = { 0 };
    tiny_must(ft_file_read(&b, path, (size_t)1 << 28, &e), &e);
    ft_sha256_init(&h);
    ft_sha256_add(&h, b.p, b.n);
    ft_sha256_hex(&h, hex);
    ft_buf_free(&b);
}

static inline bool tiny_same(const char *a, const char *b)
{
    char x[65], y[65];
    tiny_sha(x, a);
    tiny_sha(y, b);
    return !strcmp(x, y);
}
#endif
