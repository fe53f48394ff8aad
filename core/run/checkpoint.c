/* checkpoint.c -- see checkpoint.h. */
#include "core/run/checkpoint.h"
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/sha256.h"
#include "core/io/safetensors_write.h"
#include "core/io/tensors.h"

enum { MOST = 4096, BAND = 1 << 22 };

/* Bytes that are gone through in bands, so that what lies in a mapped file is let go behind. */
typedef struct {
    char *p;
    uint64_t n;
    const ft_engine *engine; /* whose state they are, … */
    const ft_tensors *file;  /* … or the file; both NULL: neither */
} bytes;

static bytes state_of(const ft_engine *e)
{
    return (bytes){ .p = e->state, .n = e->state_bytes, .engine = e };
}

/* The band from `from` on; its size. */
static uint64_t band(const bytes *b, uint64_t from)
{
    return b->n - from < BAND ? b->n - from : BAND;
}

/* All up to the end of that band: reading it may have brought what lies before it along. */
static void let_go(const bytes *b, uint64_t from)
{
    if (b->engine) ft_engine_let_state_go(b->engine, 0, from + band(b, from));
    if (b->file) ft_tensors_forget_part(b->file, b->p, from + band(b, from));
}

/* ---- writing --------------------------------------------------------------------------------- */

static int write_state(const char *path, const ft_engine *e, ft_err *err)
{
    bytes state = state_of(e);
    int64_t np = (int64_t)e->program[0]->plan.param_bytes, ns = (int64_t)state.n / 4;
    ft_st_writer *w = ft_st_new(err);
    if (!w) return err->code;
    int64_t p = ft_st_declare(w, "parameters", FT_U8, &np, 1, err),
            s = ft_st_declare(w, "optimizer", FT_F32, &ns, 1, err);
    int code = p < 0 ? (int)p : s < 0 ? (int)s : ft_st_begin(w, path, 0, err);
    if (!code) code = ft_st_write(w, p, e->param, (size_t)np, err);
    for (uint64_t i = 0; i < state.n && !code; i += BAND) {
        code = ft_st_write(w, s, state.p + i, (size_t)band(&state, i), err);
        let_go(&state, i);
    }
    if (!code) code = ft_st_commit(w, err);
    ft_st_free(w);
    return code;
}

static void hash_bytes(ft_sha256 *h, const bytes *b)
{
    ft_sha256_add(h, &b->n, sizeof b->n); /* as a field */
    for (uint64_t i = 0; i < b->n; i += BAND) {
        ft_sha256_add(h, b->p + i, band(b, i));
        let_go(b, i);
    }
}

static void hash_state(char hex[65], const bytes *param, const bytes *state)
{
    ft_sha256 h;
    ft_sha256_init(&h);
    hash_bytes(&h, param);
    hash_bytes(&h, state);
    ft_sha256_hex(&h, hex);
}

static void copy_bytes(const bytes *to, const bytes *from)
{
    for (uint64_t i = 0; i < to->n; i += BAND) {
        memcpy(to->p + i, from->p + i, band(to, i));
        let_go(to, i);
        let_go(from, i);
    }
}

static int write_manifest(const char *path, const ft_checkpoint *c, const ft_engine *e, ft_err *err)
{
    char hex[65];
    ft_buf b = { 0 };
    bytes param = { .p = e->param, .n = e->program[0]->plan.param_bytes }, state = state_of(e);
    hash_state(hex, &param, &state);
    ft_buf_printf(&b,
                  "{\"run\": \"%s\", \"step\": %lld, \"metrics_bytes\": %lld, \"timing_bytes\": "
                  "%lld, \"since_best\": %lld, \"best\": ",
                  c->run, (long long)c->step, (long long)c->metrics_bytes,
                  (long long)c->timing_bytes, (long long)c->since_best);
    ft_json_real(&b, c->best);
    ft_buf_printf(&b, ", \"sha256\": \"%s\"}\n", hex);
    int code = ft_file_write_buf(path, &b, err);
    ft_buf_free(&b);
    return code;
}

/* Steps of the checkpoints in dir, ascending; their number. */
static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static int list(const char *dir, int64_t *step)
{
    int n = 0;
    DIR *d = opendir(dir);
    for (struct dirent *x; d && n < MOST && (x = readdir(d));) {
        char *end;
        if (strncmp(x->d_name, "step-", 5)) continue;
        long long v = strtoll(x->d_name + 5, &end, 10);
        if (*end == 0 && v > 0) step[n++] = v;
    }
    if (d) closedir(d);
    qsort(step, (size_t)n, sizeof *step, by_value);
    return n;
}

/* The newest `keep` up to step `now` stay; those after it are of an earlier run. */
static int remove_old(const char *dir, int64_t now, int64_t keep, ft_err *err)
{
    static int64_t step[MOST];
    int n = list(dir, step), code = 0, past = 0;
    while (past < n && step[past] <= now) past++;
    for (int i = 0; i < n && !code; i++) {
        if (i + keep >= past && i < past) continue;
        char path[4200];
        snprintf(path, sizeof path, "%s/step-%lld", dir, (long long)step[i]);
        code = ft_remove_tree(path, err);
    }
    return code;
}

static int join(char *out, const char *dir, const char *name, ft_err *err)
{
    return ft_path_join(out, 4096, dir, name, err);
}

int ft_checkpoint_save(const char *dir, const ft_checkpoint *c, const ft_engine *e, int64_t keep,
                       ft_err *err)
{
    char all[4096], temp[4096], final[4096], path[4096], name[64];
    int code = join(all, dir, "checkpoints", err);
    if (!code) code = ft_make_dirs(all, err);
    snprintf(name, sizeof name, ".step-%lld.%ld", (long long)c->step, (long)getpid());
    if (!code) code = join(temp, all, name, err);
    snprintf(name, sizeof name, "step-%lld", (long long)c->step);
    if (!code) code = join(final, all, name, err);
    if (!code) code = ft_make_dirs(temp, err);
    if (!code) code = join(path, temp, "state.safetensors", err);
    if (!code) code = write_state(path, e, err);
    if (!code) code = join(path, temp, "manifest.json", err);
    if (!code) code = write_manifest(path, c, e, err);
    if (!code) code = ft_sync_dir(temp, err);
    if (!code) code = ft_remove_tree(final, err);
    if (!code && rename(temp, final) < 0)
        code = ft_errf(err, FT_EIO, "cannot rename %s: %s", temp, ft_errno_text(errno));
    if (!code) code = ft_sync_dir(all, err);
    if (code) ft_remove_tree(temp, NULL);
    return code ? code : remove_old(all, c->step, keep, err);
}

/* ---- reading --------------------------------------------------------------------------------- */

static int read_manifest(const char *dir, ft_checkpoint *c, char sha[65], ft_err *err)
{
    char path[4096];
    ft_buf b = { 0 };
    int code = join(path, dir, "manifest.json", err);
    if (!code) code = ft_file_read(&b, path, 1 << 16, err);
    ft_json_doc *doc = code ? NULL : ft_json_parse(path, b.p, b.n, err);
    const ft_json *o = doc ? ft_json_root(doc) : NULL;
    bool good = ft_json_as_int(ft_json_get(o, "step"), &c->step) &&
                ft_json_as_int(ft_json_get(o, "metrics_bytes"), &c->metrics_bytes) &&
                ft_json_as_int(ft_json_get(o, "timing_bytes"), &c->timing_bytes) &&
                ft_json_as_int(ft_json_get(o, "since_best"), &c->since_best) &&
                strlen(ft_json_str(o, "sha256", "")) == 64 && c->step > 0 &&
                c->metrics_bytes >= 0 && c->timing_bytes >= 0;
    if (good && !ft_json_as_real(ft_json_get(o, "best"), &c->best)) c->best = INFINITY;
    const char *run = ft_json_str(o, "run", "");
    int other = good && strcmp(run, c->run)
                    ? ft_errf(err, FT_EFORMAT, "%s belongs to another run", dir)
                    : 0;
    if (good) memcpy(sha, ft_json_str(o, "sha256", ""), 65);
    ft_json_done(doc);
    ft_buf_free(&b);
    if (other) return other;
    return good ? 0 : ft_errf(err, FT_EFORMAT, "%s is no manifest of a checkpoint", path);
}

static int read_state(const char *dir, const char *sha, ft_engine *e, ft_err *err)
{
    char path[4096], hex[65];
    bytes param = { .p = e->param, .n = e->program[0]->plan.param_bytes }, state = state_of(e);
    int code = join(path, dir, "state.safetensors", err);
    ft_tensors *f = code ? NULL : ft_tensors_open(path, err);
    if (!f) return FT_EIO;
    const ft_tensor *p = ft_tensors_find(f, "parameters"), *s = ft_tensors_find(f, "optimizer");
    if (!p || !s || p->bytes != param.n || s->bytes != state.n) {
        code = ft_errf(err, FT_EFORMAT, "%s belongs to another run", path);
    } else {
        bytes old = { .p = (char *)(uintptr_t)p->data, .n = param.n, .file = f },
              old_state = { .p = (char *)(uintptr_t)s->data, .n = state.n, .file = f };
        hash_state(hex, &old, &old_state);
        if (!strcmp(hex, sha)) {
            copy_bytes(&param, &old);
            copy_bytes(&state, &old_state);
        }
        if (strcmp(hex, sha))
            code = ft_errf(err, FT_EFORMAT,
                           "%s is damaged: its hash is not the one in its manifest", path);
    }
    ft_tensors_close(f);
    return code;
}

int ft_checkpoint_load(const char *dir, ft_checkpoint *c, ft_engine *e, ft_log *log, ft_err *err)
{
    static int64_t step[MOST];
    char all[4096], path[4200];
    int code = join(all, dir, "checkpoints", err);
    if (code) return code;
    for (int i = list(all, step); i-- > 0;) {
        char sha[65];
        ft_checkpoint found = { .run = c->run, .best = INFINITY };
        ft_err why = { 0 };
        snprintf(path, sizeof path, "%s/step-%lld", all, (long long)step[i]);
        if (!read_manifest(path, &found, sha, &why) && !read_state(path, sha, e, &why)) {
            *c = found;
            ft_log_line(log, FT_INFO, NULL, "continuing after step %lld", (long long)c->step);
            return 0;
        }
        ft_log_line(log, FT_WARN, NULL, "skipped a checkpoint: %s", why.msg);
    }
    ft_log_line(log, FT_INFO, NULL, "there is no whole checkpoint; starting from the beginning");
    return 0;
}
