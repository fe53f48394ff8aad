/* shapes.c -- see shapes.h. */
#include "core/run/shapes.h"
#include <string.h>
#include <sys/mman.h>
#include "core/base/file.h"
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
    ft_buf_free(&header);
    if (code) ft_shapes_close(s);
    return code;
}

void ft_shapes_close(ft_shapes *s)
{
    if (s->map) munmap(s->map, s->bytes);
    *s = (ft_shapes){ .map = NULL };
}
