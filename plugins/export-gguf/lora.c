/* lora.c -- a LoRA by itself as a GGUF file, for llama.cpp's --lora and Ollama's ADAPTER.
 *
 *   general.architecture, general.type adapter, adapter.type lora, adapter.lora.alpha
 *   NAME.lora_a F32 (r, in), NAME.lora_b F32 (out, r)       NAME: the weight's name in GGUF
 *
 * llama.cpp adds alpha / r B A x.  One alpha serves all: with rank-stabilized scaling, and where
 * ranks differ, what is left of a layer's own factor goes into its B.  Rows of B lie as those of
 * the weight do.  Left out, refused by name before anything runs: DoRA and other adapters,
 * embeddings and heads that share their weight, experts, modules and biases trained whole,
 * alpha_pattern. */
#include <math.h>
#include "ft/ck.h"
#include "ft/half.h"
#include "gguf.h"

enum { MOST = 8192 };

/* One tensor of the adapter. */
typedef struct {
    const ft_tensor *t;
    ft_gguf_name name;    /* of the weight */
    bool b;
    float factor;
} piece;

typedef struct {
    exporter *e;
    const ft_export *x;
    double alpha;         /* of the file */
    bool stabilized;
    piece *piece;
    ft_buf numbers, rows;
} lora;

static int no_memory(const lora *l)
{
    return l->e->host->fail(l->e->host, FT_ENOMEM, "out of memory while writing a LoRA");
}

/* ---- what is written ------------------------------------------------------------------------- */

static bool is_empty(const ft_json *v)
{
    return !v || v->type == FT_JSON_NULL || v->len == 0;
}

static int read_config(lora *l)
{
    const ft_host *h = l->e->host;
    const ft_json *c = l->x->adapter_config, *rs = ft_json_get(c, "use_rslora");
    if (!c)
        return h->fail(h, FT_EINVAL, "adapter: none is handed on to this stage: put a training "
                                     "stage before it, and a merge stage behind it");
    if (!is_empty(ft_json_get(c, "alpha_pattern")))
        return h->fail(h, FT_EUNSUP, "adapter: alpha_pattern has no form in GGUF; leave `adapter` "
                                     "out to merge and export the whole model");
    l->stabilized = rs && rs->type == FT_JSON_BOOL && rs->truth;
    if (ft_json_as_real(ft_json_get(c, "lora_alpha"), &l->alpha)) return 0;
    return h->fail(h, FT_EFORMAT, "adapter_config.json has no lora_alpha");
}

/* A matrix of the model, no piece of experts. */
static bool has_matrix(const ft_export *x, const char *name)
{
    for (size_t i = 0; i < x->n_tensors; i++) {
        ft_export_tensor t;
        x->tensor(x, i, &t);
        if (t.ndim == 2 && !strcmp(t.name, name)) return true;
    }
    return false;
}

/* "base_model.model." MODULE ".lora_A.weight" as the weight's name in GGUF, or an error. */
static int place(lora *l, piece *p)
{
    static const char head[] = "base_model.model.";
    const char *name = p->t->name, *end = strstr(name, ".lora_");
    char weight[300];
    bool right = !strncmp(name, head, sizeof head - 1) && end &&
                 (!strcmp(end, ".lora_A.weight") || !strcmp(end, ".lora_B.weight"));
    if (right)
        snprintf(weight, sizeof weight, "%.*s.weight", (int)(end - name) - (int)(sizeof head - 1),
                 name + sizeof head - 1);
    if (!right || !has_matrix(l->x, weight))
        return l->e->host->fail(l->e->host, FT_EUNSUP,
                                "adapter: tensor %s has no form in GGUF; leave `adapter` out to "
                                "merge and export the whole model",
                                name);
    p->b = end[6] == 'B';
    return l->x->gguf_name(l->x, weight, &p->name);
}

static int64_t rank_of(const piece *p) { return p->t->dim[p->b ? 1 : 0]; }

/* alpha / r of PEFT, or alpha / sqrt(r), as (file's alpha) / r * factor. */
static int plan(lora *l)
{
    size_t n = l->x->n_adapter;
    int code = read_config(l);
    if (!code && n > MOST)
        code = l->e->host->fail(l->e->host, FT_EUNSUP,
                                "adapter: %zu tensors; at most %d are written", n, MOST);
    if (!code && !(l->piece = calloc(n + 1, sizeof *l->piece))) code = no_memory(l);
    for (size_t i = 0; i < n && !code; i++) {
        l->piece[i].t = l->x->adapter_tensor(l->x, i);
        code = place(l, &l->piece[i]);
    }
    if (code || n == 0) return code;
    double asked = l->alpha;
    if (l->stabilized) l->alpha *= sqrt((double)rank_of(&l->piece[0]));
    for (size_t i = 0; i < n; i++) {
        piece *p = &l->piece[i];
        double own = l->stabilized ? asked * sqrt((double)rank_of(p)) : asked;
        p->factor = p->b && l->alpha != 0 ? (float)(own / l->alpha) : 1;
    }
    return 0;
}

int gguf_check_lora(exporter *e, const ft_export *x)
{
    lora l = { .e = e, .x = x };
    if (!x->adapter || strcmp(x->adapter, "lora"))
        return e->host->fail(e->host, FT_EUNSUP,
                             "adapter: GGUF holds LoRA alone, and %s%s; leave `adapter` out to "
                             "merge and export the whole model",
                             x->adapter ? "the adapter is " : "there is none",
                             x->adapter ? x->adapter : "");
    int code = plan(&l);
    free(l.piece);
    return code;
}

/* ---- the file -------------------------------------------------------------------------------- */

static int make_keys(lora *l)
{
    ft_gguf_keys *k = &l->e->keys;
    const char *arch = gguf_arch(l->e, l->x);
    if (!arch) return FT_EUNSUP;
    k->bytes.n = 0;
    k->n = 0;
    ft_gguf_put_text(k, "general.architecture", arch, strlen(arch));
    ft_gguf_put_text(k, "general.type", "adapter", 7);
    ft_gguf_put_u32(k, "general.file_type", 0);
    ft_gguf_put_text(k, "adapter.type", "lora", 4);
    ft_gguf_put_f32(k, "adapter.lora.alpha", (float)l->alpha);
    return k->bytes.oom ? no_memory(l) : 0;
}

/* The numbers as fp32. */
static float *widen(lora *l, const piece *p, uint64_t n)
{
    l->numbers.n = 0;
    float *v = ft_buf_grow(&l->numbers, n * sizeof *v);
    const char *from = p->t->data;
    for (uint64_t i = 0; v && i < n; i++) {
        uint16_t h;
        if (p->t->dtype == FT_F32) {
            memcpy(&v[i], from + 4 * i, 4);
        } else {
            memcpy(&h, from + 2 * i, 2);
            v[i] = p->t->dtype == FT_BF16 ? ft_bf16_to_float(h) : ft_half_to_float(h);
        }
        v[i] *= p->factor;
    }
    return v;
}

static int put_piece(lora *l, const piece *p)
{
    static const char zeros[GGUF_ALIGN];
    uint64_t n;
    if (!ck_numel(&n, p->t->dim, 2)) return no_memory(l);
    const float *v = widen(l, p, n);
    if (v && p->b && p->name.interleaved_heads)
        v = gguf_interleave(&l->rows, v, p->t->dim[0], p->t->dim[1], p->name.interleaved_heads);
    if (!v) return no_memory(l);
    size_t bytes = n * sizeof *v, over = bytes % GGUF_ALIGN;
    int code = l->x->append(l->x, v, bytes);
    return code || !over ? code : l->x->append(l->x, zeros, GGUF_ALIGN - over);
}

static int put_header(lora *l)
{
    ft_buf b = { 0 };
    uint64_t offset = 0;
    gguf_put_head(&b, l->x->n_adapter, &l->e->keys);
    for (size_t i = 0; i < l->x->n_adapter; i++) {
        char name[160];
        const piece *p = &l->piece[i];
        snprintf(name, sizeof name, "%s.lora_%c", p->name.name, p->b ? 'b' : 'a');
        gguf_put_info(&b, name, p->t->dim, 2, 0, &offset,
                      (uint64_t)(p->t->dim[0] * p->t->dim[1]) * sizeof(float));
    }
    while (b.n % GGUF_ALIGN && !b.oom) ft_buf_putc(&b, 0);
    int code = b.oom ? no_memory(l) : l->x->append(l->x, b.p, b.n);
    ft_buf_free(&b);
    return code;
}

int gguf_write_lora(exporter *e, const ft_export *x, const char *name)
{
    lora l = { .e = e, .x = x };
    int code = plan(&l);
    if (!code) code = make_keys(&l);
    if (!code) code = x->begin(x, name);
    if (!code) code = put_header(&l);
    for (size_t i = 0; i < x->n_adapter && !code; i++) code = put_piece(&l, &l.piece[i]);
    if (!code) code = x->end(x);
    free(l.piece);
    ft_buf_free(&l.numbers);
    ft_buf_free(&l.rows);
    return code;
}
