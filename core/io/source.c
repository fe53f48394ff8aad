/* source.c -- see source.h.
 *
 * From a folder: config.json, generation_config.json, tokenizer_config.json, tokenizer.json on
 * demand, and chat_template.jinja, which wins over tokenizer_config's "chat_template" (text, or a
 * list of { name, template } where "default" wins, else the first).  bos_token and eos_token are
 * text or an object with "content"; where tokenizer_config.json lacks them, older models have them
 * in special_tokens_map.json.  From a GGUF: its key-values, tokenizer.chat_template, and the text
 * of the tokens whose ids it names.  A tokenizer.model is mapped where there is no tokenizer.json;
 * it is for a plugin to read.  Left out: further chat templates; tokenizers of the older forms
 * (vocab.json and merges.txt, vocab.txt, added_tokens.json), which are refused by name. */
#include "core/io/source.h"
#include <dirent.h>
#include <inttypes.h>
#include "core/base/arena.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/utf8.h"
#include "core/io/tensors.h"

enum { MAX_CONFIG = 4 << 20, MAX_TOKENIZER = 64 << 20, MAX_TEMPLATE = 1 << 20, N_DOCS = 5 };

typedef struct {
    ft_source view; /* first: what callers hold points here */
    ft_arena arena; /* texts */
    ft_json_doc *doc[N_DOCS];
    int n_docs;
    ft_tensors *gguf;
    ft_map_file pieces; /* tokenizer.model */
} source;

/* Out of memory; returns FT_ENOMEM. */
static int no_memory(const source *s, ft_err *e)
{
    return ft_errf(e, FT_ENOMEM, "%s: out of memory while opening the model", s->view.path);
}

/* ---- files of a folder --------------------------------------------------------------------- */

/* Whether dir has something of that name (a folder counts: reading it then says what is wrong). */
static bool has_file(const char *dir, const char *name)
{
    char path[4096];
    return !ft_path_join(path, sizeof path, dir, name, NULL) && ft_file_exists(path);
}

/* Reads a JSON object of at most `cap` bytes; *out stays NULL when there is no such file. */
static int read_json(source *s, const ft_json **out, const char *name, size_t cap, ft_err *e)
{
    char path[4096];
    ft_buf text = { 0 };
    int code = ft_path_join(path, sizeof path, s->view.path, name, e);
    if (code || !ft_file_exists(path)) return code;
    code = ft_file_read(&text, path, cap, e);
    ft_json_doc *doc = code ? NULL : ft_json_parse_buf(path, &text, e);
    ft_buf_free(&text);
    if (!doc) return code ? code : e ? e->code : FT_EFORMAT;
    if (ft_json_root(doc)->type != FT_JSON_OBJECT) {
        ft_json_done(doc);
        return ft_errf(e, FT_EFORMAT, "%s holds something else than a JSON object", path);
    }
    s->doc[s->n_docs++] = doc;
    *out = ft_json_root(doc);
    return 0;
}

/* Checks text that is to be used as a C string. */
static int check_text(const char *what, const char *text, size_t n, size_t cap, ft_err *e)
{
    size_t bad;
    if (n > cap)
        return ft_errf(e, FT_EFORMAT, "%s has %zu bytes; at most %zu are allowed", what, n, cap);
    if (memchr(text, 0, n)) return ft_errf(e, FT_EFORMAT, "%s holds a zero byte", what);
    if (!ft_utf8_valid(text, n, &bad))
        return ft_errf(e, FT_EFORMAT, "%s is not valid UTF-8 at byte %zu", what, bad);
    return 0;
}

/* ---- chat template ------------------------------------------------------------------------- */

/* Line ends as Python reads text files: \r\n and \r become \n.  Returns the new length. */
static size_t universal_newlines(char *p, size_t n)
{
    size_t to = 0;
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '\r' && i + 1 < n && p[i + 1] == '\n') continue;
        p[to++] = p[i] == '\r' ? '\n' : p[i];
    }
    return to;
}

/* chat_template.jinja; leaves NULL when there is none. */
static int template_from_file(source *s, ft_err *e)
{
    char path[4096];
    ft_buf text = { 0 };
    int code = ft_path_join(path, sizeof path, s->view.path, "chat_template.jinja", e);
    if (code || !ft_file_exists(path)) return code;
    code = ft_file_read(&text, path, MAX_TEMPLATE, e);
    if (!code) code = check_text(path, text.p ? text.p : "", text.n, MAX_TEMPLATE, e);
    if (!code) {
        size_t n = text.p ? universal_newlines(text.p, text.n) : 0;
        s->view.chat_template = ft_arena_strndup(&s->arena, text.p ? text.p : "", n);
        if (!s->view.chat_template) code = no_memory(s, e);
    }
    ft_buf_free(&text);
    return code;
}

/* The template of a list of { name, template }: the one named "default", else the first. */
static const ft_json *pick_template(const ft_json *list)
{
    for (size_t i = 0; i < list->len; i++) {
        if (!strcmp(ft_json_str(&list->item[i], "name", ""), "default"))
            return ft_json_get(&list->item[i], "template");
    }
    return list->len ? ft_json_get(&list->item[0], "template") : NULL;
}

/* tokenizer_config.json's "chat_template"; null and absence are the same. */
static int template_from_config(source *s, ft_err *e)
{
    const ft_json *t = ft_json_get(s->view.tokenizer_config, "chat_template");
    if (!t || t->type == FT_JSON_NULL) return 0;
    if (t->type == FT_JSON_ARRAY) t = pick_template(t);
    if (!ft_json_is_text(t))
        return ft_errf(e, FT_EFORMAT,
                       "%s/tokenizer_config.json: chat_template is neither text nor a list of "
                       "objects with name and template",
                       s->view.path);
    if (t->len > MAX_TEMPLATE)
        return ft_errf(e, FT_EFORMAT,
                       "%s/tokenizer_config.json: chat_template has %u bytes; at most %d are "
                       "allowed",
                       s->view.path, t->len, MAX_TEMPLATE);
    s->view.chat_template = t->text;
    return 0;
}

/* ---- special tokens of a folder ------------------------------------------------------------- */

/* The text of a token entry: a string, or an object with "content"; NULL: none. */
static const char *token_text(const ft_json *o, const char *key)
{
    const ft_json *v = ft_json_get(o, key);
    if (v && v->type == FT_JSON_OBJECT) v = ft_json_get(v, "content");
    return ft_json_is_text(v) ? v->text : NULL;
}

/* bos_token and eos_token, never NULL; a null in tokenizer_config.json means: none. */
static int read_special_tokens(source *s, ft_err *e)
{
    const ft_json *map = NULL, *own = s->view.tokenizer_config;
    bool lacks = !ft_json_get(own, "bos_token") || !ft_json_get(own, "eos_token");
    int code = lacks ? read_json(s, &map, "special_tokens_map.json", MAX_CONFIG, e) : 0;
    const char *bos = token_text(ft_json_get(own, "bos_token") ? own : map, "bos_token");
    const char *eos = token_text(ft_json_get(own, "eos_token") ? own : map, "eos_token");
    s->view.bos_token = bos ? bos : "";
    s->view.eos_token = eos ? eos : "";
    return code;
}

/* ---- a folder ------------------------------------------------------------------------------ */

/* Says what the folder holds instead of a model, into `hint`. */
static void look_around(char *hint, size_t size, const char *path)
{
    DIR *d = opendir(path);
    hint[0] = 0;
    if (has_file(path, "adapter_config.json"))
        snprintf(hint, size, " It is an adapter: give its base model here and the adapter apart.");
    for (struct dirent *x; d && !*hint && (x = readdir(d));) {
        size_t n = strlen(x->d_name);
        if (n > 5 && !strcmp(x->d_name + n - 5, ".gguf"))
            snprintf(hint, size, " It holds %s: name that file.", x->d_name);
    }
    if (d) closedir(d);
}

/* Missing files are no error by themselves: `tokenize` needs no weights, a base model no
 * template. */
static int open_folder(source *s, unsigned need, ft_err *e)
{
    static const char looked[] =
        "config.json (with model.safetensors, or model.safetensors.index.json and "
        "its shards; tokenizer.json, tokenizer_config.json)";
    ft_source *v = &s->view;
    char hint[400];
    int code = read_json(s, &v->config, "config.json", MAX_CONFIG, e);
    if (!code) code = read_json(s, &v->generation_config, "generation_config.json", MAX_CONFIG, e);
    if (!code) code = read_json(s, &v->tokenizer_config, "tokenizer_config.json", MAX_CONFIG, e);
    if (!code) code = template_from_file(s, e);
    if (!code && !v->chat_template) code = template_from_config(s, e);
    if (!code) code = read_special_tokens(s, e);
    if (code) return code;
    bool any = v->config || v->tokenizer_config || has_file(v->path, "tokenizer.json") ||
               has_file(v->path, "tokenizer.model");
    if (any && (v->config || !(need & FT_NEED_CONFIG))) return 0;
    look_around(hint, sizeof hint, v->path);
    return ft_errf(e, FT_EIO, "%s is not a model folder: it has no %s.%s", v->path, looked, hint);
}

/* ---- a GGUF -------------------------------------------------------------------------------- */

/* The text of the token whose id stands under `key`; "" when the file names none. */
static int gguf_token(source *s, const char **out, const char *key, ft_err *e)
{
    const ft_meta *id_meta = ft_tensors_meta(s->gguf, key);
    const ft_meta *tokens = ft_tensors_meta(s->gguf, "tokenizer.ggml.tokens");
    int64_t id = -1;
    *out = "";
    if (!id_meta || !tokens) return 0;
    if (tokens->item != FT_META_STRING)
        return ft_errf(e, FT_EFORMAT, "%s: tokenizer.ggml.tokens is not a list of strings",
                       s->view.path);
    ft_meta_int(id_meta, &id);
    if ((uint64_t)id >= tokens->n)
        return ft_errf(e, FT_EFORMAT, "%s: %s is not the id of one of the %" PRIu64 " tokens",
                       s->view.path, key, tokens->n);
    const void *cursor = tokens->data;
    const char *text = "";
    uint64_t len = 0;
    for (int64_t i = 0; i <= id; i++) ft_meta_next_str(&cursor, &text, &len);
    int code = check_text(key, text, len, MAX_TEMPLATE, e);
    if (code) return code;
    *out = ft_arena_strndup(&s->arena, text, len);
    return *out ? 0 : no_memory(s, e);
}

static const ft_tensor *find_tensor(const void *file, const char *name)
{
    return ft_tensors_find(file, name);
}

/* Checks the file's header whole, so that later users of its keys meet no surprises. */
static int open_gguf(source *s, ft_err *e)
{
    ft_source *v = &s->view;
    v->gguf = true;
    s->gguf = ft_tensors_open(v->path, e);
    if (!s->gguf) return e ? e->code : FT_EFORMAT;
    if (!ft_tensors_is_gguf(s->gguf))
        return ft_errf(
            e, FT_EINVAL,
            "%s is a safetensors file: give the folder that holds it and its config.json", v->path);
    v->file = s->gguf;
    v->tensor = find_tensor;
    v->meta = ft_tensors_metas(s->gguf, &v->n_meta);
    int code = gguf_token(s, &v->bos_token, "tokenizer.ggml.bos_token_id", e);
    if (!code) code = gguf_token(s, &v->eos_token, "tokenizer.ggml.eos_token_id", e);
    uint64_t len;
    const char *text = ft_meta_str(ft_source_meta(v, "tokenizer.chat_template"), &len);
    if (code || !text) return code;
    code = check_text("tokenizer.chat_template", text, len, MAX_TEMPLATE, e);
    if (code) return code;
    v->chat_template = ft_arena_strndup(&s->arena, text, len);
    return v->chat_template ? 0 : no_memory(s, e);
}

/* ---- opening ------------------------------------------------------------------------------- */

ft_source *ft_source_open(const char *path, unsigned need, ft_err *e)
{
    source *s = calloc(1, sizeof *s);
    char *copy = s ? ft_arena_strdup(&s->arena, path) : NULL;
    int code = 0;
    if (!copy) {
        ft_errf(e, FT_ENOMEM, "%s: out of memory while opening the model", path);
        free(s);
        return NULL;
    }
    s->view = (ft_source){ .size = sizeof s->view, .path = copy, .bos_token = "", .eos_token = "" };
    if (ft_is_dir(path)) code = open_folder(s, need, e);
    else if (ft_file_exists(path)) code = open_gguf(s, e);
    else
        code = ft_errf(e, FT_EIO,
                       "model %s does not exist: give a Hugging Face folder (config.json, "
                       "model.safetensors, tokenizer.json) or a .gguf file",
                       path);
    if (!code) return &s->view;
    ft_source_close(&s->view);
    return NULL;
}

void ft_source_close(ft_source *v)
{
    source *s = (source *)(void *)v;
    if (!s) return;
    for (int i = 0; i < s->n_docs; i++) ft_json_done(s->doc[i]);
    ft_tensors_close(s->gguf);
    if (s->view.tokenizer_model) ft_file_unmap(&s->pieces);
    ft_arena_free(&s->arena);
    free(s);
}

/* Maps tokenizer.model. */
static int map_pieces(source *s, ft_err *e)
{
    char path[4096];
    int code = ft_path_join(path, sizeof path, s->view.path, "tokenizer.model", e);
    if (!code) code = ft_file_map(&s->pieces, path, e);
    if (code) return code;
    s->view.tokenizer_model = s->pieces.p;
    s->view.tokenizer_model_size = s->pieces.n;
    if (s->pieces.n && s->pieces.n <= MAX_TOKENIZER) return 0;
    return ft_errf(e, FT_EFORMAT, "%s has %zu bytes; 1 to %d are allowed", path, s->pieces.n,
                   MAX_TOKENIZER);
}

/* Whether tokens stand in added_tokens.json alone, as before transformers 4.34: what they are
 * besides their ids is said nowhere. */
static bool lost_tokens(const ft_source *v)
{
    return has_file(v->path, "added_tokens.json") &&
           !ft_json_get(v->tokenizer_config, "added_tokens_decoder");
}

/* The files of a tokenizer that only transformers turns into a tokenizer.json; NULL: none. */
static const char *older_form(const ft_source *v)
{
    if (has_file(v->path, "tokenizer.model")) return "tokenizer.model and added_tokens.json";
    if (has_file(v->path, "vocab.json") && has_file(v->path, "merges.txt"))
        return "vocab.json and merges.txt";
    return has_file(v->path, "vocab.txt") ? "vocab.txt" : NULL;
}

int ft_source_tokenizer(ft_source *v, ft_err *e)
{
    source *s = (source *)(void *)v;
    if (v->gguf || v->tokenizer || v->tokenizer_model) return 0;
    int code = read_json(s, &v->tokenizer, "tokenizer.json", MAX_TOKENIZER, e);
    if (code || v->tokenizer) return code;
    if (has_file(v->path, "tokenizer.model") && !lost_tokens(v)) return map_pieces(s, e);
    const char *old = older_form(v);
    if (old)
        return ft_errf(e, FT_EUNSUP,
                       "%s has its tokenizer as %s, which is not read: write a tokenizer.json with "
                       "AutoTokenizer.from_pretrained(\"%s\").save_pretrained(…) of transformers",
                       v->path, old, v->path);
    return ft_errf(e, FT_EIO,
                   "%s has no tokenizer: neither tokenizer.json nor tokenizer.model is there",
                   v->path);
}
