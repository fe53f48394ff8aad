/* lora_gguf.c -- see lora_gguf.h.
 *
 *   general.type adapter, adapter.type lora, adapter.lora.alpha
 *   NAME.lora_a F32 (r, in), NAME.lora_b F32 (out, r)     NAME: the weight's name in GGUF
 *
 * llama.cpp adds alpha / r B A x to what a weight gives (llama-adapter.cpp); where the rows of a
 * weight are interleaved, those of B are.  Ranks may differ, so they go into rank_pattern. */
#include "core/run/lora_gguf.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/io/safetensors_write.h"

typedef struct {
    const ft_model_run *m;
    const ft_g *plain;
    const ft_tensors *from;
    ft_st_writer *to;
    ft_buf ranks;        /* of rank_pattern */
    ft_buf modules;      /* of target_modules */
    ft_buf rows;         /* B in its own order */
    size_t used;
    int64_t index;
} unpacking;

/* The two tensors of a site, and how its rows lie; false: it has none. */
static bool find_pair(const unpacking *u, const ft_site *s, const ft_tensor *pair[2],
                      ft_gguf_name *in_gguf)
{
    char weight[300], name[300];
    if (s->kind != FT_SITE_LINEAR || !u->m->vt->gguf_name) return false;
    snprintf(weight, sizeof weight, "%s.weight", s->name);
    if (u->m->vt->gguf_name(u->m->self, weight, in_gguf)) return false;
    for (int k = 0; k < 2; k++) {
        snprintf(name, sizeof name, "%s.lora_%c", in_gguf->name, 'a' + k);
        pair[k] = ft_tensors_find(u->from, name);
    }
    return pair[0] && pair[1];
}

static int check_pair(const ft_site *s, const ft_tensor *const pair[2], ft_err *e)
{
    const ft_tensor *a = pair[0], *b = pair[1];
    if (a->dtype != FT_F32 || a->ndim != 2 || b->dtype != FT_F32 || b->ndim != 2 ||
        a->dim[1] != s->in || b->dim[0] != s->out || a->dim[0] != b->dim[1])
        return ft_errf(e, FT_EFORMAT, "%s and %s are no F32 update of %s", a->name, b->name,
                       s->name);
    return 0;
}

static int declare(unpacking *u, const ft_site *s, const ft_tensor *const pair[2], ft_err *e)
{
    char name[400];
    for (int k = 0; k < 2; k++) {
        snprintf(name, sizeof name, "base_model.model.%s.lora_%c.weight", s->name, 'A' + k);
        int64_t i = ft_st_declare(u->to, name, FT_F32, pair[k]->dim, 2, e);
        if (i < 0) return (int)i;
    }
    const char *comma = u->used ? ", " : "";
    ft_buf_printf(&u->ranks, "%s\"%s\": %lld", comma, s->name, (long long)pair[0]->dim[0]);
    ft_buf_printf(&u->modules, "%s\"%s\"", comma, s->name);
    u->used += 2;
    return 0;
}

/* Row 2i + p of each head back to p * half + i. */
static int write_pair(unpacking *u, const ft_tensor *const pair[2], int64_t heads, ft_err *e)
{
    const ft_tensor *b = pair[1];
    const char *from = b->data;
    int code = ft_st_write(u->to, u->index++, pair[0]->data, pair[0]->bytes, e);
    if (code) return code;
    if (heads) {
        size_t row = (size_t)b->dim[1] * sizeof(float);
        int64_t size = b->dim[0] / heads, half = size / 2;
        u->rows.n = 0;
        char *to = ft_buf_grow(&u->rows, b->bytes);
        if (!to) return ft_errf(e, FT_ENOMEM, "out of memory while reading an adapter");
        for (int64_t r = 0; r < b->dim[0]; r++) {
            int64_t in = r % size, at = r - in + in % half * 2 + in / half;
            memcpy(to + (size_t)r * row, from + (size_t)at * row, row);
        }
        from = to;
    }
    return ft_st_write(u->to, u->index++, from, b->bytes, e);
}

/* All sites in order: once to announce, once to write. */
static int each_pair(unpacking *u, bool write, ft_err *e)
{
    int code = 0;
    for (uint32_t i = 0; i < u->plain->n_site && !code; i++) {
        const ft_site *s = &u->plain->site[i];
        const ft_tensor *pair[2];
        ft_gguf_name name;
        if (!find_pair(u, s, pair, &name)) continue;
        code = write ? write_pair(u, pair, name.interleaved_heads, e) : check_pair(s, pair, e);
        if (!code && !write) code = declare(u, s, pair, e);
    }
    if (!code && !write && u->used != ft_tensors_count(u->from))
        return ft_errf(e, FT_EFORMAT,
                       "the LoRA in GGUF has %zu tensors, of which %zu belong to linear layers",
                       ft_tensors_count(u->from), u->used);
    return code;
}

static int write_config(const unpacking *u, const char *peft, ft_err *e)
{
    char path[4096];
    double alpha;
    ft_buf b = { 0 };
    if (!ft_meta_real(ft_tensors_meta(u->from, "adapter.lora.alpha"), &alpha))
        return ft_errf(e, FT_EFORMAT, "the LoRA in GGUF has no adapter.lora.alpha");
    ft_buf_puts(&b, "{\"peft_type\": \"LORA\", \"r\": 1, \"lora_alpha\": ");
    ft_json_real(&b, alpha);
    ft_buf_printf(&b, ", \"rank_pattern\": {%s}, \"target_modules\": [%s]}\n", u->ranks.p,
                  u->modules.p);
    int code = ft_path_join(path, sizeof path, peft, "adapter_config.json", e);
    if (!code) code = ft_file_write_buf(path, &b, e);
    ft_buf_free(&b);
    return code;
}

static int unpack(unpacking *u, const char *peft, ft_err *e)
{
    char path[4096];
    int code = ft_make_dirs(peft, e);
    if (!code) code = ft_path_join(path, sizeof path, peft, "adapter_model.safetensors", e);
    if (!code) code = each_pair(u, false, e);
    if (!code) code = ft_st_begin(u->to, path, 0, e);
    if (!code) code = each_pair(u, true, e);
    if (!code) code = ft_st_commit(u->to, e);
    return code ? code : write_config(u, peft, e);
}

int ft_lora_gguf_unpack(const ft_model_run *m, const ft_g *plain, const char *gguf,
                        const char *peft, ft_err *e)
{
    ft_tensors *from = ft_tensors_open(gguf, e);
    if (!from) return e->code;
    unpacking u = { .m = m, .plain = plain, .from = from, .to = ft_st_new(e) };
    int code = u.to ? unpack(&u, peft, e) : e->code;
    ft_st_free(u.to);
    ft_tensors_close(from);
    ft_buf_free(&u.ranks);
    ft_buf_free(&u.modules);
    ft_buf_free(&u.rows);
    return code;
}
