/* shapes.c -- see shapes.h. */
#include "core/run/shapes.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "core/base/file.h"
#include "core/graph/match.h"
#include "core/run/quantize.h"
#include "ft/ck.h"

static const struct { const char *config, *file; uint64_t bytes; } dtypes[] = {
    { "bfloat16", "BF16", 2 }, { "float16", "F16", 2 }, { "float32", "F32", 4 },
};

static int dtype_of(const ft_json *config)
{
    const char *name = ft_json_str(config, "dtype", ft_json_str(config, "torch_dtype", ""));
    for (int i = 0; i < (int)(sizeof dtypes / sizeof *dtypes); i++) {
        if (!strcmp(name, dtypes[i].config)) return i;
    }
    return 0;
}

bool ft_shapes_wanted(const char *path)
{
    static const char *const names[] = { "model.safetensors", "model.safetensors.index.json" };
    char file[4096];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!ft_path_join(file, sizeof file, path, names[i], NULL) && ft_file_exists(file))
            return false;
    }
    return ft_is_dir(path);
}

/* The header of the file; *end: bytes of its data. */
static int make_header(ft_buf *b, uint64_t *end, const ft_g *g, int dtype, ft_err *e)
{
    *end = 0;
    ft_buf_putc(b, '{');
    for (uint32_t i = 0; i < g->n_weight; i++) {
        const g_weight *w = &g->weight[i];
        uint64_t n = dtypes[dtype].bytes, begin = *end;
        ft_buf_printf(b, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", i ? "," : "", w->name,
                      dtypes[dtype].file);
        for (int d = 0; d < w->shape.ndim; d++) {
            ft_buf_printf(b, "%s%lld", d ? "," : "", (long long)w->shape.dim[d]);
            if (!ck_mul(&n, n, (uint64_t)w->shape.dim[d])) n = UINT64_MAX;
        }
        if (n > (uint64_t)1 << 46 || !ck_add(end, begin, n))
            return ft_errf(e, FT_EFORMAT, "weight %s would have more than 2^46 bytes", w->name);
        ft_buf_printf(b, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)begin,
                      (unsigned long long)*end);
    }
    ft_buf_putc(b, '}');
    while (b->n % 64) ft_buf_putc(b, ' '); /* 8 + n is then a multiple of 8 */
    return b->oom ? ft_errf(e, FT_ENOMEM, "out of memory for the model's shapes") : 0;
}

/* ---- packed weights -------------------------------------------------------------------------- */

/* Whether quantization_config leaves this module as it is. */
static bool is_skipped(const ft_json *quantization, const char *module)
{
    static const char *const keys[] = { "llm_int8_skip_modules", "modules_to_not_convert" };
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
        const ft_json *list = ft_json_get(quantization, keys[k]);
        for (size_t i = 0; list && list->type == FT_JSON_ARRAY && i < list->len; i++) {
            const ft_json *v = &list->item[i];
            if (ft_json_is_text(v) && ft_match_module(v->text, module)) return true;
        }
    }
    return false;
}

/* Bytes of a weight in the parts that the quantizer reads; 0: it is plain.  Of experts' weights
 * only formats that are made for them have parts: these are named without a dot. */
static uint64_t packed_bytes(const ft_quantizing *q, const ft_json *config, const ft_g *g,
                             const g_weight *w)
{
    ft_part part[FT_MAX_PARTS];
    uint64_t bytes = 0;
    char module[512];
    int n = ft_quantize_parts(q, g, w->name, &w->shape, part);
    snprintf(module, sizeof module, "%.*s", (int)strlen(w->name) - (n ? 7 : 0), w->name);
    if (n && is_skipped(ft_json_get(config, "quantization_config"), module)) return 0;
    if (!n && w->shape.ndim == 3) n = q->vt->parts(q->self, w->shape.dim, 3, part);
    if (n > 0 && w->shape.ndim == 3 && part[0].suffix[0] != '_') n = 0;
    for (int k = 0; k < n; k++) bytes += ft_part_bytes(&part[k]);
    return bytes;
}

static int plan_packed(ft_shapes *s, ft_model_run *m, const ft_g *g, ft_err *e)
{
    if (!m->quantizer) return 0;
    const ft_quantizing q = { .vt = ft_instance_vtable(m->quantizer),
                              .self = ft_instance_self(m->quantizer) };
    s->packed = calloc(g->n_weight + 1, sizeof *s->packed);
    if (!s->packed) return ft_errf(e, FT_ENOMEM, "out of memory for the model's shapes");
    for (uint32_t i = 0; i < g->n_weight; i++)
        s->packed[i] = packed_bytes(&q, m->source->config, g, &g->weight[i]);
    m->planned = s->packed;
    m->planned_for = g;
    return 0;
}

/* ---- the shapes ------------------------------------------------------------------------------ */

int ft_shapes_open(ft_shapes *s, ft_model_run *m, const ft_g *g, ft_err *e)
{
    ft_buf header = { 0 };
    uint64_t data = 0;
    *s = (ft_shapes){ .map = NULL };
    int code = make_header(&header, &data, g, dtype_of(m->source->config), e);
    uint64_t n = header.n;
    s->bytes = 8 + n + data;
    void *p = code ? NULL
                   : mmap(NULL, s->bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        code = ft_errf(e, FT_ENOMEM, "cannot reserve %llu MiB for the model's shapes",
                       (unsigned long long)(s->bytes >> 20));
    else if (!code) {
        s->map = p;
        memcpy(p, &n, 8);
        memcpy((char *)p + 8, header.p, header.n);
        mprotect(p, s->bytes, PROT_READ);
        m->tensors = ft_tensors_parse(m->source->path, p, s->bytes, 0, e);
        if (!m->tensors) code = e->code;
    }
    if (!code) code = plan_packed(s, m, g, e);
    ft_buf_free(&header);
    if (code) ft_shapes_close(s);
    return code;
}

void ft_shapes_close(ft_shapes *s)
{
    if (s->map) munmap(s->map, s->bytes);
    free(s->packed);
    *s = (ft_shapes){ .map = NULL };
}
