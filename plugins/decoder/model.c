/* model.c -- which family a source belongs to, and the checks that both kinds of source share. */
#include "decoder.h"

static const decoder_family *family_of(const ft_source *s)
{
    uint64_t n = 0;
    const char *arch = s->gguf ? ft_meta_str(ft_source_meta(s, "general.architecture"), &n)
                               : ft_json_str(s->config, "model_type", NULL);
    if (!arch) return NULL;
    if (!s->gguf) n = strlen(arch);
    for (const decoder_family *f = decoder_families; f->model_type; f++) {
        const char *name = s->gguf ? f->gguf : f->model_type;
        if (name && strlen(name) == n && !memcmp(name, arch, n)) return f;
    }
    return NULL;
}

static bool claims(const ft_source *s) { return family_of(s) != NULL; }

int decoder_check_sizes(const decoder *m, const char *path)
{
    if (m->heads % m->kv_heads)
        return m->host->fail(m->host, FT_EFORMAT,
                             "%s: %lld attention heads are no multiple of %lld key-value heads",
                             path, (long long)m->heads, (long long)m->kv_heads);
    if (m->layers > DECODER_MAX_LAYERS)
        return m->host->fail(m->host, FT_EUNSUP, "%s: %lld layers; at most %d are supported", path,
                             (long long)m->layers, DECODER_MAX_LAYERS);
    return 0;
}

/* Frequencies of one kind of layer, and the longest row that they hold for. */
static int make_rope(decoder *m, int i, const char *path)
{
    ft_rope_spec *r = &m->rope[i];
    int64_t dim = ft_rope_dim(r, m->head_dim);
    if (dim != m->head_dim && !decoder_is(m, DECODER_PARTIAL_ROPE))
        return m->host->fail(m->host, FT_EUNSUP,
                             "%s: %lld of the %lld features of a head are rotated; models of type "
                             "%s rotate all",
                             path, (long long)dim, (long long)m->head_dim, m->family->model_type);
    if (!ft_rope_frequencies(r, dim, m->context, m->freq[i], &m->rope_scale[i]))
        return m->host->fail(m->host, FT_EUNSUP, "%s: %s", path, r->why);
    int64_t limit = ft_rope_limit(r, m->context);
    if (limit < m->longest)
        m->host->log(m->host, FT_INFO,
                     "rows of at most %lld tokens: the long_factor of longrope, which longer ones "
                     "need, is not supported",
                     (long long)limit);
    if (limit < m->longest) m->longest = limit;
    return 0;
}

static int load(void *self, const ft_source *s, ft_model_info *out)
{
    decoder *m = self;
    m->family = family_of(s);
    int e = s->gguf ? decoder_read_gguf(m, s) : decoder_read_config(m, s);
    m->longest = m->context;
    for (int i = 0; i < (decoder_is(m, DECODER_LOCAL_ROPE) ? 2 : 1) && !e; i++)
        e = make_rope(m, i, s->path);
    if (e) return e;
    *out = (ft_model_info){ sizeof *out,
                            m->family->model_type,
                            m->vocab,
                            m->width,
                            m->layers,
                            m->longest,
                            m->tied };
    return 0;
}

int decoder_open(void *self, const ft_host *host, const void *unused)
{
    decoder *m = self;
    (void)unused;
    m->host = host;
    m->bos = m->eos = m->pad = -1;
    return 0;
}

void decoder_close(void *self)
{
    decoder *m = self;
    ft_buf_free(&m->json);
}

const ft_model decoder_model = {
    .size = sizeof decoder_model,
    .claims = claims,
    .load = load,
    .build = decoder_build,
    .gguf_name = decoder_gguf_name,
    .config = decoder_config,
    .piece = decoder_piece,
};
