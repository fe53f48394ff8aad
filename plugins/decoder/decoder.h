/* decoder.h -- what decoder-only language models have in common.  A model plugin is a table of
 * families; the rest of it is here, compiled into each: no plugin's code is another's copy.
 *
 *   x = embed(ids) [* sqrt(width)]
 *   each layer:  x += [norm] o(attention(rope([norm] q h), rope([norm] k h), v h)),  h = norm(x)
 *                x += [norm] down(act(gate h) * (up h)),                             h = norm(x)
 *                or, with experts, x += sum_j w_j down_e(swiglu(gate_up_e h)), e = the j-th chosen
 *   logits = [cap] head(norm(x)),  the head tied to the embedding or not
 *
 *   config.c   config.json, in both spellings, into a decoder
 *   gguf.c     the keys of a GGUF likewise; its names of tensors
 *   build.c    the graph
 *   experts.c  mixtures of experts: their configuration, their part of the graph, their tensors
 *   export.c   config.json of a model that came from GGUF
 *   model.c    the plugin's functions
 *
 * What config.json says and nobody here computes is an error that names it.  Values that
 * transformers does not read for a model_type are not read here. */
#ifndef DECODER_H
#define DECODER_H
#include "ft/buf.h"
#include "ft/model.h"
#include "ft/rope.h"

enum { DECODER_MAX_LAYERS = 1024 };

/* In what a family departs from the plainest member. */
enum {
    DECODER_ATTENTION_BIAS = 1,  /* config.json's attention_bias: q, k, v and o have biases */
    DECODER_MLP_BIAS = 2,        /* likewise mlp_bias */
    DECODER_QKV_BIAS = 4,        /* q, k and v always have biases, o never */
    DECODER_HEAD_NORMS = 8,      /* q and k are normed head by head */
    DECODER_FUSED = 16,          /* qkv_proj and gate_up_proj */
    DECODER_GEMMA = 32,          /* four norms of 1 + w, scaled embedding, query_pre_attn_scalar */
    DECODER_SCORE_CAP = 64,      /* attention scores are softcapped */
    DECODER_LOCAL_ROPE = 128,    /* sliding layers have rotary positions of their own */
    DECODER_PARTIAL_ROPE = 256,  /* partial_rotary_factor is known */
    DECODER_TIED = 512,          /* tie_word_embeddings where config.json lacks it */
    DECODER_INTERLEAVED = 1024,  /* in GGUF files the rows of q and k are interleaved */
    DECODER_SINKS = 2048         /* a sink for each head of attention */
};

/* Which layers see a window only. */
typedef enum {
    DECODER_NO_WINDOW,
    DECODER_ALL_LAYERS,      /* sliding_window, where it is not null */
    DECODER_ALL_IF_USED,     /* likewise, where use_sliding_window is true */
    DECODER_UPPER_LAYERS,    /* use_sliding_window: from max_window_layers on, or layer_types */
    DECODER_ALTERNATING      /* all but every n-th, or layer_types */
} decoder_windows;

/* How a family's experts are named and computed. */
typedef struct {
    const char *router;          /* module of the router: "mlp.router" */
    bool router_bias;
    unsigned flags;              /* FT_BIAS, FT_BY_IN of their weights */
    bool joined;                 /* gate_up_proj is one tensor in Hugging Face folders; else each
                                    expert's gate_proj, up_proj and down_proj are */
    const char *inner;           /* config.json's key for the size of an expert */
    bool normed;                 /* weights sum to 1 where config.json does not speak of it */
    ft_swiglu_args act;
} decoder_experts;

typedef struct {
    const char *model_type;      /* of config.json */
    const char *hf_class;        /* its "architectures" */
    const char *gguf;            /* general.architecture; NULL: it has no GGUF form */
    unsigned traits;
    decoder_windows windows;
    int64_t window, every;       /* sliding_window where it is absent; the n of ALTERNATING */
    int64_t head_dim;            /* where config.json has none; 0: hidden_size / heads */
    int64_t big;                 /* layers of the one size whose scores are scaled by
                                    (width/heads)^-0.5: GGUF files do not say so; 0: none */
    double eps, theta;           /* rms_norm_eps and rope_theta where they are absent */
    const decoder_experts *experts; /* NULL: every layer's MLP is dense */
} decoder_family;

/* The plugin's own; ends with an empty row. */
extern const decoder_family decoder_families[];

typedef struct {
    const ft_host *host;
    const decoder_family *family;
    int64_t vocab, width, inner, layers, heads, kv_heads, head_dim, context, window;
    int64_t longest;             /* row that the rotary positions hold for, at most the context */
    double eps, query_scale, score_cap, logit_cap;
    bool tied, qkv_bias, out_bias, mlp_bias;
    const char *act;             /* as config.json spells it */
    const char *act_op;          /* the op */
    bool slides[DECODER_MAX_LAYERS];
    int64_t experts, chosen, expert_inner; /* with family->experts */
    bool normed, dense[DECODER_MAX_LAYERS];
    ft_swiglu_args swiglu;
    ft_rope_spec rope[2];        /* of full and of sliding layers (LOCAL_ROPE) */
    float freq[2][FT_ROPE_MAX];
    double rope_scale[2];
    int64_t bos, eos, pad;       /* of a GGUF; -1: none */
    ft_buf json;
} decoder;

static inline bool decoder_is(const decoder *m, unsigned trait)
{
    return (m->family->traits & trait) != 0;
}

/* Fill the sizes and switches from config.json, or from the keys of a GGUF. */
int decoder_read_config(decoder *, const ft_source *);
int decoder_read_gguf(decoder *, const ft_source *);
/* What both check of their sizes before anything is made of them (model.c). */
int decoder_check_sizes(const decoder *, const char *path);
/* Values of config.json (config.c).  decoder_value: NULL for what is absent or null.  The others
 * leave *out as it is then, and say what is wrong: a whole number from `least` to 2^31 - 1, a
 * number above 0, a truth value. */
const ft_json *decoder_value(const ft_json *config, const char *key);
int decoder_wrong(decoder *, const char *key, const ft_json *value, const char *must);
int decoder_int(decoder *, const ft_json *config, const char *key, int64_t least, int64_t *out);
int decoder_real(decoder *, const ft_json *config, const char *key, double *out);
int decoder_flag(decoder *, const ft_json *config, const char *key, bool *out);
/* Likewise of a GGUF: architecture.name, from 1, and above 0 (gguf.c). */
int decoder_meta_int(decoder *, const ft_source *, const char *name, int64_t *out);
int decoder_meta_real(decoder *, const ft_source *, const char *name, double *out);
/* Layers that slide by the family's rule: `from` of UPPER_LAYERS, `every` of ALTERNATING. */
void decoder_set_windows(decoder *, int64_t from, int64_t every);
/* The op behind an activation's name in configurations; false after an error. */
bool decoder_activation(decoder *, const char *name);

/* experts.c: what config.json and a GGUF say of experts; what they add in layer l for the normed
 * h. */
int decoder_read_experts(decoder *, const ft_json *config);
int decoder_read_gguf_experts(decoder *, const ft_source *);
ft_val decoder_build_experts(const decoder *, ft_graph *, int64_t l, ft_val h);

/* The functions of ft_model. */
ft_val decoder_build(void *self, ft_graph *, const ft_model_inputs *);
int decoder_gguf_name(void *self, const char *name, ft_gguf_name *out);
int decoder_config(void *self, const char **json, size_t *n);
bool decoder_piece(void *self, const char *name, bool gguf, int64_t i, ft_piece *out);

/* A plugin's descriptor refers to these. */
extern const ft_model decoder_model;
int decoder_open(void *self, const ft_host *, const void *config);
void decoder_close(void *self);
#endif
