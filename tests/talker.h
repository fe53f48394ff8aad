/* talker.h -- a tiny model that can be talked to: the weights of tests/data/tiny/tied with the
 * vocabulary of the tokenizer in tests/data/tok/smollm2, a chat template, and the numbers that a
 * test recomputes from its logits. */
#ifndef FT_TESTS_TALKER_H
#define FT_TESTS_TALKER_H
#include <math.h>
#include "tests/tiny.h"

enum { TALKER_VOCAB = 424, TALKER_END = 421 }; /* "<|end|>" */

/* What a template with turns writes; the reply and its end are trained. */
#define TALKER_TEMPLATE                                                                           \
    "{% for m in messages %}<|start|>{{ m.role }}\\n{% if m.role == 'assistant' %}{% generation " \
    "%}"                                                                                          \
    "{{ m.content }}<|end|>{% endgeneration %}{% else %}{{ m.content }}<|end|>{% endif %}"        \
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant\\n{% endif %}"

/* The folder of the model; made by the first call. */
static inline const char *talker_model(void)
{
    tiny_tensor t[64];
    ft_err e = { 0 };
    const char *dir = tiny_path("talker");
    if (ft_is_dir(dir)) return dir;
    tiny_must(ft_make_dirs(dir, &e), &e);
    int n = tiny_list(t, 64, "tied");
    for (int i = 0; i < n; i++) {
        if (strstr(t[i].name, "embed_tokens")) t[i].dim[0] = TALKER_VOCAB;
    }
    tiny_write(dir, t, n);
    tiny_file(tiny_path("talker/config.json"),
              "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", "
              "\"vocab_size\": %d, "
              "\"hidden_size\": 64, \"intermediate_size\": 48, \"num_hidden_layers\": 2, "
              "\"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 16, "
              "\"max_position_embeddings\": 128, \"rms_norm_eps\": 1e-5, \"rope_theta\": 10000.0, "
              "\"hidden_act\": \"silu\", \"tie_word_embeddings\": true, \"eos_token_id\": %d, "
              "\"dtype\": \"float32\"}",
              TALKER_VOCAB, TALKER_END);
    tiny_file(tiny_path("talker/tokenizer_config.json"),
              "{\"tokenizer_class\": \"PreTrainedTokenizerFast\", \"eos_token\": \"<|end|>\", "
              "\"chat_template\": \"%s\"}", TALKER_TEMPLATE);
    tiny_copy("tests/data/tok/smollm2/tokenizer.json", tiny_path("talker/tokenizer.json"));
    return dir;
}

/* ---- JSON that the program wrote ------------------------------------------------------------- */

static inline ft_json_doc *talker_json(const char *path)
{
    ft_buf b = { 0 };
    ft_err e = { 0 };
    tiny_must(ft_file_read(&b, path, 1 << 24, &e), &e);
    ft_json_doc *d = ft_json_parse(path, b.p ? b.p : "", b.n, &e);
    ck_assert_msg(d != NULL, "%s", e.msg);
    ft_buf_free(&b);
    return d;
}

/* A number of an object; the test fails when there is none. */
static inline double talker_real(const ft_json *o, const char *key)
{
    double v = NAN;
    ck_assert_msg(ft_json_as_real(ft_json_get(o, key), &v), "no number \"%s\"", key);
    return v;
}

/* The ids in a JSON array; their number. */
static inline int64_t talker_ids(const ft_json *a, int32_t *id, int64_t most)
{
    ck_assert(a && a->type == FT_JSON_ARRAY && (int64_t)a->len <= most);
    for (size_t i = 0; i < a->len; i++) {
        int64_t v;
        ck_assert(ft_json_as_int(&a->item[i], &v));
        id[i] = (int32_t)v;
    }
    return (int64_t)a->len;
}

/* Runs the program, which must end well, and hands over what it printed. */
static inline void talker_run(ft_buf *out, const char *const *argv)
{
    int status = tiny_run(out, argv);
    ck_assert_msg(status == 0, "%s: status %d:\n%s", argv[0], status, out->p);
}

/* Runs the stages on the model; its output folder is tiny_path(out).  The exit status. */
static inline int talker_pipeline(ft_buf *said, const char *model, const char *out,
                                  const char *stages)
{
    const char *yaml = tiny_file(tiny_path("%s.yaml", out),
                                 "version: 1\nmodel: %s\noutput_dir: %s\nseed: 5\n"
                                 "stages:\n%s",
                                 model, tiny_path("%s", out), stages);
    const char *argv[] = { "run", yaml, NULL };
    return tiny_run(said, argv);
}

/* Some conversations: one a line, with a reply of another length. */
static inline const char *talker_chats(const char *path, int from, int to)
{
    static const char *const says[] = { "yes",     "no",        "Hé y", "a longer reply",
                                        "ab\\ncd", "It is so.", "한국" };
    ft_buf b = { 0 };
    for (int i = from; i < to; i++)
        ft_buf_printf(&b,
                      "{\"messages\": [{\"role\": \"user\", \"content\": \"%s %d\"}, {\"role\": "
                      "\"assistant\", "
                      "\"content\": \"%s\"}]}\n",
                      says[(i + 3) % 7], i, says[i % 7]);
    tiny_file(path, "%s", b.p);
    ft_buf_free(&b);
    return path;
}

/* ---- logits by `pipeline score` -------------------------------------------------------------- */

/* Writes n rows of `length` ids as data-tokens reads them; labels NULL: the ids. */
static inline const char *talker_rows(const char *path, const int32_t *ids, const int32_t *labels,
                                      int64_t n, int64_t length)
{
    ft_err e = { 0 };
    int64_t dim[2] = { n, length };
    size_t bytes = (size_t)(n * length) * sizeof *ids;
    ft_st_writer *w = ft_st_new(&e);
    ft_st_declare(w, "input_ids", FT_I32, dim, 2, &e);
    ft_st_declare(w, "labels", FT_I32, dim, 2, &e);
    tiny_must(ft_st_begin(w, path, 0, &e), &e);
    tiny_must(ft_st_write(w, 0, ids, bytes, &e), &e);
    tiny_must(ft_st_write(w, 1, labels ? labels : ids, bytes, &e), &e);
    tiny_must(ft_st_commit(w, &e), &e);
    ft_st_free(w);
    return path;
}

/* Logits (n, vocabulary) of one row of n ids; to be closed. */
static inline ft_tensor talker_logits(vectors *v, const char *model, const char *adapter,
                                      const int32_t *ids, int64_t n)
{
    const char *rows = talker_rows(tiny_path("ask-%ld.safetensors", (long)getpid()), ids, NULL, 1,
                                   n);
    const char *name = tiny_path("logits-%ld.safetensors", (long)getpid());
    const char *argv[] = { "score", "--model", model, "--tokens", rows, "--out", name,
                           adapter ? "--adapter" : NULL, adapter, NULL };
    ft_buf said = { 0 };
    talker_run(&said, argv);
    ft_buf_free(&said);
    vectors_open(v, tiny_dir, strrchr(name, '/') + 1);
    return vectors_get(v, "", "logits");
}

static inline float talker_logit(const ft_tensor *t, int64_t row, int64_t id)
{
    float f;
    memcpy(&f, (const char *)t->data + 4 * (row * t->dim[t->ndim - 1] + id), 4);
    return f;
}

/* The largest difference of two models' logits for n ids, the first with an adapter perhaps. */
static inline double talker_apart(const char *a, const char *adapter, const char *b,
                                  const int32_t *ids, int64_t n)
{
    vectors v, w;
    double most = 0;
    ft_tensor x = talker_logits(&v, a, adapter, ids, n), y = talker_logits(&w, b, NULL, ids, n);
    ck_assert_uint_eq(x.bytes, y.bytes);
    for (int64_t i = 0; i < n * TALKER_VOCAB; i++)
        most = fmax(most, fabs((double)talker_logit(&x, 0, i) - (double)talker_logit(&y, 0, i)));
    vectors_close(&v);
    vectors_close(&w);
    return most;
}

/* The likeliest id after a row of the logits, the lowest of equals. */
static inline int32_t talker_argmax(const ft_tensor *t, int64_t row)
{
    int32_t best = 0;
    for (int32_t i = 1; i < t->dim[t->ndim - 1]; i++) {
        if (talker_logit(t, row, i) > talker_logit(t, row, best)) best = i;
    }
    return best;
}

/* -ln p of an id after a row of the logits. */
static inline double talker_nll(const ft_tensor *t, int64_t row, int32_t id)
{
    double most = (double)talker_logit(t, row, talker_argmax(t, row)), sum = 0;
    for (int64_t i = 0; i < t->dim[t->ndim - 1]; i++)
        sum += exp((double)talker_logit(t, row, i) - most);
    return log(sum) + most - (double)talker_logit(t, row, id);
}
#endif
