/* safetensors_write.c -- see safetensors_write.h.
 *
 * Layout of a file: header length, header padded with blanks so that data begins on a multiple of
 * 8, data without holes.  Within a file the tensors with the widest numbers come first: then each
 * one is aligned for its dtype, which torch needs to open it without a copy.  Shards are filled in
 * order of declaration.  Checked: read back by our reader, by safetensors and by transformers. */
#include "core/io/safetensors_write.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>
#include "core/base/arena.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/io/dtype.h"
#include "core/io/tensor_set.h"

enum { MAX_HEADER = 100000000 };

typedef struct {
    ft_tensor t;    /* data unused */
    size_t index;   /* order of declaration */
    size_t shard;
    uint64_t at;    /* where its data begins in the file */
    uint64_t done;  /* bytes written so far */
} slot;

typedef struct { const char *key, *value; } note;

typedef struct {
    ft_aside file;  /* fd < 0: not open */
    uint64_t bytes; /* of data */
} shard;

struct ft_st_writer {
    ft_arena arena;   /* names */
    ft_buf slots;     /* slot */
    ft_buf notes;     /* note */
    uint64_t total;
    const char *path; /* as given to begin; NULL before */
    shard *shards;
    size_t n_shards;
};

static int no_memory(ft_err *e)
{
    return ft_errf(e, FT_ENOMEM, "out of memory while writing tensors");
}
/* The buffer's bytes as what they are. */
static slot *slots(const ft_st_writer *w) { return (slot *)(void *)w->slots.p; }
static size_t count(const ft_st_writer *w) { return w->slots.n / sizeof(slot); }

ft_st_writer *ft_st_new(ft_err *e)
{
    ft_st_writer *w = calloc(1, sizeof *w);
    if (!w) no_memory(e);
    return w;
}

void ft_st_free(ft_st_writer *w)
{
    if (!w) return;
    for (size_t i = 0; i < w->n_shards; i++) ft_aside_drop(&w->shards[i].file);
    free(w->shards);
    ft_buf_free(&w->slots);
    ft_buf_free(&w->notes);
    ft_arena_free(&w->arena);
    free(w);
}

/* ---- declaring ----------------------------------------------------------------------------- */

int ft_st_note(ft_st_writer *w, const char *key, const char *value, ft_err *e)
{
    note x = { ft_arena_strdup(&w->arena, key), ft_arena_strdup(&w->arena, value) };
    const note *old = (const note *)(void *)w->notes.p;
    for (size_t i = 0; i < w->notes.n / sizeof x; i++) {
        if (!strcmp(old[i].key, key))
            return ft_errf(e, FT_EINVAL, "metadata \"%s\" is written twice", key);
    }
    ft_buf_add(&w->notes, &x, sizeof x);
    return x.key && x.value && !w->notes.oom ? 0 : no_memory(e);
}

int64_t ft_st_declare(ft_st_writer *w, const char *name, ft_dtype dtype, const int64_t *dim,
                      int ndim, ft_err *e)
{
    slot s = { .t = { .dtype = dtype, .ndim = ndim }, .index = count(w) };
    const char *why = NULL;
    if (w->path) why = "the header has been written already";
    if (ft_bad_name(name, strlen(name)) || !strcmp(name, "__metadata__"))
        why = "this cannot be a name";
    if (ndim < 0 || ndim > FT_MAX_DIMS) why = "it has too many dimensions";
    if (!ft_dtype_bits(dtype)) why = "it has no dtype";
    if (!why) why = ft_plain_bytes(&s.t.bytes, dtype, dim, ndim);
    if (!why && !ck_add(&w->total, w->total, s.t.bytes)) why = "it makes the model too large";
    if (why) return ft_errf(e, FT_EINVAL, "cannot write tensor \"%.200s\": %s", name, why);
    for (int i = 0; i < ndim; i++) s.t.dim[i] = dim[i];
    s.t.name = ft_arena_strdup(&w->arena, name);
    ft_buf_add(&w->slots, &s, sizeof s);
    return s.t.name && !w->slots.oom ? (int64_t)s.index : no_memory(e);
}


/* ---- layout and header --------------------------------------------------------------------- */

/* For finding duplicates, and the order of the index. */
static int by_name(const void *a, const void *b)
{
    return strcmp((*(slot *const *)a)->t.name, (*(slot *const *)b)->t.name);
}

/* The order of data in the files: by shard, widest numbers first, else as declared. */
static int by_width(const void *a, const void *b)
{
    const slot *x = *(slot *const *)a, *y = *(slot *const *)b;
    if (x->shard != y->shard) return x->shard < y->shard ? -1 : 1;
    unsigned p = ft_dtype_bits(x->t.dtype), q = ft_dtype_bits(y->t.dtype);
    if (p != q) return p > q ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

/* All slots in an order; NULL when there is no memory.  The caller frees it. */
static slot **sorted(const ft_st_writer *w, int (*order)(const void *, const void *), ft_err *e)
{
    slot **p = calloc(count(w) + 1, sizeof *p);
    if (!p) {
        no_memory(e);
        return NULL;
    }
    for (size_t i = 0; i < count(w); i++) p[i] = &slots(w)[i];
    qsort(p, count(w), sizeof *p, order);
    return p;
}

/* Our own reader would refuse the file, and others would lose one of the two. */
static int refuse_duplicates(const ft_st_writer *w, ft_err *e)
{
    int code = 0;
    slot **p = sorted(w, by_name, e);
    if (!p) return FT_ENOMEM;
    for (size_t i = 1; i < count(w) && !code; i++) {
        if (!strcmp(p[i - 1]->t.name, p[i]->t.name))
            code = ft_errf(e, FT_EINVAL, "tensor \"%.200s\" is to be written twice", p[i]->t.name);
    }
    free(p);
    return code;
}

/* Gives every slot its shard and makes the shards. */
static int fill_shards(ft_st_writer *w, uint64_t max_shard, ft_err *e)
{
    uint64_t bytes = 0;
    size_t n = 1;
    for (size_t i = 0; i < count(w); i++) {
        slot *s = &slots(w)[i];
        bool full = max_shard && bytes && (bytes >= max_shard || s->t.bytes > max_shard - bytes);
        if (full) {
            n++;
            bytes = 0;
        }
        s->shard = n - 1;
        bytes += s->t.bytes;
    }
    w->shards = calloc(n, sizeof *w->shards);
    if (!w->shards) return no_memory(e);
    w->n_shards = n;
    for (size_t i = 0; i < n; i++) w->shards[i].file.fd = -1;
    for (size_t i = 0; i < count(w); i++) w->shards[slots(w)[i].shard].bytes += slots(w)[i].t.bytes;
    return 0;
}

/* "__metadata__": {…}, or nothing when there are no notes. */
static void print_notes(ft_buf *b, const ft_st_writer *w)
{
    const note *x = (const note *)(void *)w->notes.p;
    size_t n = w->notes.n / sizeof *x;
    if (n) ft_buf_puts(b, "\"__metadata__\":{");
    for (size_t i = 0; i < n; i++) {
        if (i) ft_buf_putc(b, ',');
        ft_json_quote(b, x[i].key, strlen(x[i].key));
        ft_buf_putc(b, ':');
        ft_json_quote(b, x[i].value, strlen(x[i].value));
    }
    if (n) ft_buf_putc(b, '}');
}

/* One entry of the header; data begins at byte `at` of the file's data. */
static void print_entry(ft_buf *b, const slot *s, uint64_t at)
{
    if (b->p[b->n - 1] != '{') ft_buf_putc(b, ',');
    ft_json_quote(b, s->t.name, strlen(s->t.name));
    ft_buf_printf(b, ":{\"dtype\":\"%s\",\"shape\":[", ft_dtype_name(s->t.dtype));
    for (int i = 0; i < s->t.ndim; i++) ft_buf_printf(b, "%s%" PRId64, i ? "," : "", s->t.dim[i]);
    ft_buf_printf(b, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", at, at + s->t.bytes);
}

/* The first bytes of a file, up to its data: n slots that lie in it, in their order. */
static void print_header(ft_buf *b, const ft_st_writer *w, slot *const *s, size_t n)
{
    uint64_t at = 0;
    ft_buf_grow(b, 8);
    ft_buf_putc(b, '{');
    print_notes(b, w);
    for (size_t i = 0; i < n && !b->oom; i++) {
        print_entry(b, s[i], at);
        at += s[i]->t.bytes;
    }
    ft_buf_putc(b, '}');
    while (b->n % 8 && !b->oom) ft_buf_putc(b, ' ');
    uint64_t length = b->n - 8;
    if (!b->oom) memcpy(b->p, &length, 8);
}

/* ---- files --------------------------------------------------------------------------------- */

/* Path of shard i, or of the index (i < 0). */
static int shard_path(char *out, size_t size, const ft_st_writer *w, int64_t i, ft_err *e)
{
    int stem = (int)(strlen(w->path) - strlen(".safetensors")), n;
    if (i < 0) n = snprintf(out, size, "%s.index.json", w->path);
    else if (w->n_shards == 1) n = snprintf(out, size, "%s", w->path);
    else
        n = snprintf(out, size, "%.*s-%05" PRId64 "-of-%05zu.safetensors", stem, w->path, i + 1,
                     w->n_shards);
    if (n >= 0 && (size_t)n < size) return 0;
    return ft_errf(e, FT_EINVAL, "path %.80s… is too long", w->path);
}

/* Opens shard i, takes its room on the disk, and writes its header; s[n]: its slots in order. */
static int start_shard(ft_st_writer *w, size_t i, slot **s, size_t n, ft_err *e)
{
    char path[4096];
    ft_buf b = { 0 };
    shard *x = &w->shards[i];
    int code = shard_path(path, sizeof path, w, (int64_t)i, e);
    if (!code) code = ft_aside_open(&x->file, path, e);
    print_header(&b, w, s, n);
    uint64_t at = b.n, whole = b.n + x->bytes;
    if (!code && b.oom) code = no_memory(e);
    if (!code && b.n > MAX_HEADER + 8)
        code = ft_errf(e, FT_EINVAL,
                       "%s: the names of its tensors make a header of more than %d bytes", path,
                       MAX_HEADER);
    /* The whole room now, not an hour of writing later; file systems without fallocate go on. */
    if (!code && fallocate(x->file.fd, 0, 0, (off_t)whole) < 0 &&
        (errno == ENOSPC || errno == EFBIG))
        code = ft_errf(e, FT_EIO, "cannot write %s: its %" PRIu64 " bytes do not fit on the disk",
                       path, whole);
    if (!code) code = ft_aside_write(&x->file, b.p, b.n, e);
    for (size_t k = 0; k < n; k++) {
        s[k]->at = at;
        at += s[k]->t.bytes;
    }
    ft_buf_free(&b);
    return code;
}

/* After an error the writer can only be freed. */
int ft_st_begin(ft_st_writer *w, const char *path, uint64_t max_shard, ft_err *e)
{
    size_t n = strlen(path), k = strlen(".safetensors");
    if (w->path) return ft_errf(e, FT_EINVAL, "%s: begun twice", path);
    bool split = max_shard && w->total > max_shard;
    if (split && (n <= k || strcmp(path + n - k, ".safetensors")))
        return ft_errf(e, FT_EINVAL, "%s cannot be split: its name does not end with .safetensors",
                       path);
    w->path = ft_arena_strdup(&w->arena, path);
    int code = w->path ? refuse_duplicates(w, e) : no_memory(e);
    if (!code) code = fill_shards(w, split ? max_shard : 0, e);
    slot **s = code ? NULL : sorted(w, by_width, e);
    if (!s) return code ? code : FT_ENOMEM;
    for (size_t i = 0, from = 0, to; i < w->n_shards && !code; i++, from = to) {
        for (to = from; to < count(w) && s[to]->shard == i;) to++;
        code = start_shard(w, i, s + from, to - from, e);
    }
    free(s);
    return code;
}

/* At its own place in the file (pwrite), so that tensors may be written in any order and pieces
 * of several may alternate. */
int ft_st_write(ft_st_writer *w, int64_t i, const void *p, size_t n, ft_err *e)
{
    if (!w->n_shards || i < 0 || (uint64_t)i >= count(w))
        return ft_errf(e, FT_EINVAL, "there is no tensor %" PRId64 " to write to", i);
    slot *s = &slots(w)[i];
    if (n > s->t.bytes - s->done)
        return ft_errf(e, FT_EINVAL, "tensor \"%s\": more than its %" PRIu64 " bytes are written",
                       s->t.name, s->t.bytes);
    shard *x = &w->shards[s->shard];
    for (const char *from = p; n;) {
        size_t piece = n < (1u << 30) ? n : 1u << 30;
        ssize_t k = pwrite(x->file.fd, from, piece, (off_t)(s->at + s->done));
        if (k < 0 && errno == EINTR) continue;
        if (k < 0)
            return ft_errf(e, FT_EIO, "cannot write %s: %s", x->file.path, ft_errno_text(errno));
        from += k;
        n -= (size_t)k;
        s->done += (uint64_t)k;
    }
    return 0;
}

/* The index of a sharded model, names sorted as save_pretrained does it. */
static int write_index(ft_st_writer *w, ft_err *e)
{
    char path[4096];
    ft_buf b = { 0 };
    slot **s = sorted(w, by_name, e);
    if (!s) return FT_ENOMEM;
    ft_buf_printf(&b, "{\n  \"metadata\": {\n    \"total_size\": %" PRIu64 "\n  },\n", w->total);
    ft_buf_puts(&b, "  \"weight_map\": {");
    for (size_t i = 0; i < count(w); i++) {
        const char *name = w->shards[s[i]->shard].file.path, *slash = strrchr(name, '/');
        name = slash ? slash + 1 : name;
        ft_buf_puts(&b, i ? ",\n    " : "\n    ");
        ft_json_quote(&b, s[i]->t.name, strlen(s[i]->t.name));
        ft_buf_puts(&b, ": ");
        ft_json_quote(&b, name, strlen(name));
    }
    ft_buf_puts(&b, "\n  }\n}\n");
    free(s);
    int code = shard_path(path, sizeof path, w, -1, e);
    if (!code) code = ft_file_write_buf(path, &b, e);
    ft_buf_free(&b);
    return code;
}

/* Removes a single file that an earlier save left at `path`, once the shards and index stand. */
static int remove_single(const char *path, ft_err *e)
{
    char dir[4096];
    const char *slash = strrchr(path, '/');
    int gone = unlink(path);
    if (gone < 0 && errno == ENOENT) return 0;
    if (gone < 0)
        return ft_errf(e, FT_EIO, "cannot remove %s: %s", path, ft_errno_text(errno));
    snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
    return ft_sync_dir(dir, e);
}

/* Shards first and the index last: until it stands, readers find the earlier save or nothing. */
int ft_st_commit(ft_st_writer *w, ft_err *e)
{
    int code = w->n_shards ? 0 : ft_errf(e, FT_EINVAL, "commit comes before begin");
    for (size_t i = 0; i < count(w) && !code; i++) {
        const slot *s = &slots(w)[i];
        if (s->done < s->t.bytes)
            code = ft_errf(e, FT_EINVAL,
                           "%s: only %" PRIu64 " of %" PRIu64 " bytes of tensor \"%s\" have been "
                           "written",
                           w->path, s->done, s->t.bytes, s->t.name);
    }
    for (size_t i = 0; i < w->n_shards && !code; i++) code = ft_aside_commit(&w->shards[i].file, e);
    if (code || w->n_shards == 1) return code;
    code = write_index(w, e);
    return code ? code : remove_single(w->path, e);
}
