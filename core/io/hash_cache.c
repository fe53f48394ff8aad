/* hash_cache.c -- see hash_cache.h.
 *
 * One line a file:   device inode size mtime_ns ctime_ns sha256 check
 * in decimal and hexadecimal, `check` being the first 16 digits of the SHA-256 of what stands
 * before it: a line that a crash or an editor damaged is skipped.  The file is replaced as a whole
 * (written aside, renamed); of two processes that write at once the later one wins, and what the
 * other knew is hashed again some day.  A file that was changed within the last two seconds is not
 * remembered: a second change within the same tick of the clock would go unnoticed. */
#include "core/io/hash_cache.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "core/base/arena.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/sha256.h"

enum { MAX_CACHE = 1 << 20, MAX_LINES = 2048, LINE = 256, SETTLED_NS = 2000000000, PIECE = 1 << 20,
       MAX_INDEX = 128 << 20 };

typedef struct {
    uint64_t dev, ino, size;
    int64_t mtime, ctime; /* ns */
} identity;

/* A timespec as nanoseconds. */
static int64_t ns(struct timespec t) { return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec; }

/* What stat says of an open file: the file that is read is the one that is remembered. */
static int identify(identity *id, int fd, const char *path, ft_err *e)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return ft_errf(e, FT_EIO, "cannot stat %s: %s", path, ft_errno_text(errno));
    if (!S_ISREG(st.st_mode)) return ft_errf(e, FT_EIO, "%s is not a regular file", path);
    *id = (identity){ st.st_dev, st.st_ino, (uint64_t)st.st_size, ns(st.st_mtim), ns(st.st_ctim) };
    return 0;
}

/* Field by field: padding bytes do not count. */
static bool same(const identity *a, const identity *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->size == b->size && a->mtime == b->mtime &&
           a->ctime == b->ctime;
}

/* ---- the memory ---------------------------------------------------------------------------- */

/* The first five words of a line, with a blank behind; returns their length. */
static int print_identity(char *line, const identity *id)
{
    return snprintf(line, LINE, "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRId64 " %" PRId64 " ",
                    id->dev, id->ino, id->size, id->mtime, id->ctime);
}

/* Completes a line that holds identity and hash with its check; returns its length. */
static size_t finish_line(char *line, size_t n)
{
    ft_sha256 s;
    char hex[65];
    ft_sha256_init(&s);
    ft_sha256_add(&s, line, n);
    ft_sha256_hex(&s, hex);
    return n + (size_t)snprintf(line + n, LINE - n, " %.16s\n", hex);
}

/* Length of the whole, undamaged line at p, or 0. */
static size_t good_line(const char *p, size_t left)
{
    char copy[LINE];
    const char *end = memchr(p, '\n', left < LINE - 1 ? left : LINE - 1);
    size_t n = end ? (size_t)(end - p) : 0;
    if (n < 18) return 0;
    memcpy(copy, p, n - 17);
    if (finish_line(copy, n - 17) != n + 1 || memcmp(copy, p, n + 1)) return 0;
    return n + 1;
}

/* The line after the one at `at`. */
static size_t next_line(const ft_buf *b, size_t at)
{
    const char *end = memchr(b->p + at, '\n', b->n - at);
    return end ? (size_t)(end - b->p) + 1 : b->n;
}

/* Looks for an undamaged line of this very file state; out receives its 64 digits. */
static bool recall(char out[65], const ft_buf *b, const identity *id)
{
    char start[LINE];
    size_t n = (size_t)print_identity(start, id);
    for (size_t at = 0; at < b->n; at = next_line(b, at)) {
        size_t len = good_line(b->p + at, b->n - at);
        if (len != n + 64 + 18 || memcmp(b->p + at, start, n)) continue;
        memcpy(out, b->p + at + n, 64);
        out[64] = 0;
        return true;
    }
    return false;
}

/* Writes the memory anew: this hash first, then the newest of the good lines of other files. */
static void remember(const char *cache, const ft_buf *old, const identity *id, const char hash[65])
{
    char line[LINE], file[64];
    ft_buf b = { 0 };
    int n = print_identity(line, id),
        k = snprintf(file, sizeof file, "%" PRIu64 " %" PRIu64 " ", id->dev, id->ino);
    n += snprintf(line + n, LINE - (size_t)n, "%s", hash);
    ft_buf_add(&b, line, finish_line(line, (size_t)n));
    size_t lines = 1;
    for (size_t at = 0; at < old->n && lines < MAX_LINES; at = next_line(old, at)) {
        size_t len = good_line(old->p + at, old->n - at);
        if (!len || !strncmp(old->p + at, file, (size_t)k)) continue;
        ft_buf_add(&b, old->p + at, len);
        lines++;
    }
    (void)ft_file_write_buf(cache, &b, NULL); /* a cache that cannot be written is no error */
    ft_buf_free(&b);
}

/* ---- hashing ------------------------------------------------------------------------------- */

/* SHA-256 of what can be read from fd; *bytes grows by it. */
static int hash_contents(char out[65], int fd, const char *path, uint64_t *bytes, ft_err *e)
{
    ft_sha256 s;
    char *piece = malloc(PIECE);
    if (!piece) return ft_errf(e, FT_ENOMEM, "out of memory while hashing %s", path);
    ft_sha256_init(&s);
    ssize_t k;
    while ((k = read(fd, piece, PIECE)) != 0) {
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) break;
        ft_sha256_add(&s, piece, (size_t)k);
        *bytes += (uint64_t)k;
    }
    free(piece);
    if (k < 0) return ft_errf(e, FT_EIO, "cannot read %s: %s", path, ft_errno_text(errno));
    ft_sha256_hex(&s, out);
    return 0;
}

/* Unchanged while it was hashed, and long enough before. */
static bool settled(const identity *before, const identity *after)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t latest = after->mtime > after->ctime ? after->mtime : after->ctime;
    return same(before, after) && ns(now) - latest > SETTLED_NS;
}

/* From memory, or from the file; then into memory when it may be. */
static int hash_open_file(char out[65], int fd, const char *path, const char *cache,
                          uint64_t *bytes, ft_err *e)
{
    identity before, after;
    ft_buf memory = { 0 };
    int code = identify(&before, fd, path, e);
    if (code) return code;
    if (cache && ft_file_read(&memory, cache, MAX_CACHE, NULL)) memory.n = 0;
    if (!recall(out, &memory, &before)) {
        code = hash_contents(out, fd, path, bytes, e);
        if (!code) code = identify(&after, fd, path, e);
        if (!code && cache && settled(&before, &after)) remember(cache, &memory, &after, out);
    }
    ft_buf_free(&memory);
    return code;
}

int ft_hash_file(char out[65], const char *path, const char *cache, uint64_t *bytes, ft_err *e)
{
    uint64_t ignored = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return ft_errf(e, FT_EIO, "cannot open %s: %s", path, ft_errno_text(errno));
    int code = hash_open_file(out, fd, path, cache, bytes ? bytes : &ignored, e);
    close(fd);
    return code;
}

/* ---- a model ------------------------------------------------------------------------------- */

typedef struct {
    ft_sha256 sum;
    const char *dir, *cache;
    uint64_t *bytes;
    ft_arena arena; /* names of shards */
    ft_buf shards;  /* const char *, as the index names them, neighbours made one */
    int files;
} model;

/* Adds a file of the folder by name and content; one that is missing counts as missing. */
static int add_file(model *m, const char *name, ft_err *e)
{
    char path[4096], hex[65];
    int code = ft_path_join(path, sizeof path, m->dir, name, e);
    if (code || !ft_file_exists(path)) return code;
    code = ft_hash_file(hex, path, m->cache, m->bytes, e);
    if (code) return code;
    ft_sha256_text(&m->sum, name);
    ft_sha256_text(&m->sum, hex);
    m->files++;
    return 0;
}

/* A member of weight_map: TENSOR: SHARD. */
static int add_shard_name(void *ctx, const ft_json *v, ft_err *e)
{
    model *m = ctx;
    size_t n = m->shards.n / sizeof(char *);
    if (!ft_json_is_text(v) || strchr(v->text, '/'))
        return ft_errf(e, FT_EFORMAT, "%s: weight_map names a shard that is no plain file name",
                       m->dir);
    if (n && !strcmp(((const char **)(void *)m->shards.p)[n - 1], v->text)) return 0;
    const char *name = ft_arena_strdup(&m->arena, v->text);
    ft_buf_add(&m->shards, &name, sizeof name);
    return name && !m->shards.oom ? 0 : ft_errf(e, FT_ENOMEM, "%s: out of memory", m->dir);
}

/* qsort: pointers to texts. */
static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Adds every shard of the index once, sorted by name. */
static int add_shards(model *m, const char *index, ft_err *e)
{
    char path[4096];
    ft_buf b = { 0 };
    int code = ft_path_join(path, sizeof path, m->dir, index, e);
    if (!code) code = ft_file_read(&b, path, MAX_INDEX, e);
    if (!code)
        code = ft_json_each(path, b.p ? b.p : "", b.n, "weight_map", 1 << 20, add_shard_name, m, e);
    ft_buf_free(&b);
    const char **name = (const char **)(void *)m->shards.p;
    size_t n = m->shards.n / sizeof *name;
    if (n) qsort(name, n, sizeof *name, by_text);
    for (size_t i = 0; i < n && !code; i++) {
        if (!i || strcmp(name[i], name[i - 1])) code = add_file(m, name[i], e);
    }
    return code;
}

/* The files that ft_source_open and ft_tensors_open would read, in a fixed order. */
static int hash_folder(model *m, ft_err *e)
{
    static const char *const names[] = {
        "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
        "tokenizer.model", "special_tokens_map.json", "chat_template.jinja",
    };
    char path[4096];
    int code = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names && !code; i++)
        code = add_file(m, names[i], e);
    if (!code) code = ft_path_join(path, sizeof path, m->dir, "model.safetensors", e);
    if (code) return code;
    if (ft_file_exists(path)) return add_file(m, "model.safetensors", e);
    int before = m->files;
    code = add_file(m, "model.safetensors.index.json", e);
    return code || m->files == before ? code : add_shards(m, "model.safetensors.index.json", e);
}

int ft_hash_model(char out[65], const char *path, const char *cache, uint64_t *bytes, ft_err *e)
{
    uint64_t ignored = 0;
    if (!ft_is_dir(path)) return ft_hash_file(out, path, cache, bytes, e);
    model m = { .dir = path, .cache = cache, .bytes = bytes ? bytes : &ignored };
    ft_sha256_init(&m.sum);
    int code = hash_folder(&m, e);
    if (!code && !m.files) code = ft_errf(e, FT_EIO, "%s holds no files of a model", path);
    if (!code) ft_sha256_hex(&m.sum, out);
    ft_buf_free(&m.shards);
    ft_arena_free(&m.arena);
    return code;
}
