/* test_source.c -- opening a model by its path (HF folder, GGUF), the errors that a user meets
 * there, and the remembered hashes of files and models. */
#include "folder.h"
#include "gguf_plans.h"
#include "harness.h"
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/base/sha256.h"
#include "core/io/hash_cache.h"
#include "core/io/source.h"

static void put_bytes(const char *name, const char *p, size_t n)
{
    ft_err e = { 0 };
    ck_assert_msg(ft_file_write(in_dir(name), p, n, &e) == 0, "%s", e.msg);
}

static void put(const char *name, const char *text) { put_bytes(name, text, strlen(text)); }

static ft_source *open_ok(const char *path, unsigned need)
{
    ft_err e = { 0 };
    ft_source *s = ft_source_open(path, need, &e);
    ck_assert_msg(s != NULL, "%s", e.msg);
    ck_assert_uint_eq(s->size, sizeof *s);
    return s;
}

static void refused(const char *path, unsigned need, const char *says)
{
    ft_err e = { 0 };
    ck_assert_ptr_null(ft_source_open(path, need, &e));
    ck_assert_msg(e.code < 0 && strstr(e.msg, says), "wanted \"%s\": %s", says, e.msg);
}

/* ---- folders ------------------------------------------------------------------------------- */

START_TEST(test_folder)
{
    put("config.json", "{\"model_type\":\"llama\"}");
    put("generation_config.json", "{\"temperature\":0.6}");
    put("tokenizer_config.json",
        "{\"bos_token\":\"<s>\",\"eos_token\":{\"content\":\"</s>\",\"lstrip\":false},"
        "\"chat_template\":\"{{ a }}\"}");
    put("tokenizer.json", "{\"version\":\"1.0\"}");
    ft_source *s = open_ok(dir, FT_NEED_CONFIG);
    ck_assert(!s->gguf && !s->meta && s->n_meta == 0);
    ck_assert_str_eq(s->path, dir);
    ck_assert_str_eq(ft_json_str(s->config, "model_type", ""), "llama");
    ck_assert_str_eq(ft_json_get(s->generation_config, "temperature")->text, "0.6");
    ck_assert_str_eq(s->bos_token, "<s>");
    ck_assert_str_eq(s->eos_token, "</s>");
    ck_assert_str_eq(s->chat_template, "{{ a }}");
    ck_assert_ptr_null(s->tokenizer);
    ck_assert_int_eq(ft_source_tokenizer(s, NULL), 0);
    ck_assert_str_eq(ft_json_str(s->tokenizer, "version", ""), "1.0");
    const ft_json *before = s->tokenizer;
    ck_assert_int_eq(ft_source_tokenizer(s, NULL), 0);
    ck_assert_ptr_eq(s->tokenizer, before);
    ft_source_close(s);
    ft_source_close(NULL);
}
END_TEST

/* Only tokenizer files: enough unless the configuration is needed. */
START_TEST(test_tokenizer_alone)
{
    put("tokenizer.json", "{}");
    ft_source *s = open_ok(dir, 0);
    ck_assert(!s->config && !s->tokenizer_config && !s->chat_template);
    ck_assert_str_eq(s->bos_token, "");
    ck_assert_int_eq(ft_source_tokenizer(s, NULL), 0);
    ft_source_close(s);
    refused(dir, FT_NEED_CONFIG, "has no config.json");
}
END_TEST

START_TEST(test_template_choice)
{
    static const struct { const char *config, *wanted;
    } all[] = {
        { "{\"chat_template\":\"one\"}", "one" },
        { "{\"chat_template\":null}", NULL },
        { "{}", NULL },
        { "{\"chat_template\":[]}", "" }, /* refused */
        { "{\"chat_template\":[{\"name\":\"tool_use\",\"template\":\"t\"},"
          "{\"name\":\"default\",\"template\":\"d\"}]}",
          "d" },
        { "{\"chat_template\":[{\"name\":\"rag\",\"template\":\"r\"}]}", "r" },
        { "{\"chat_template\":{\"default\":\"d\"}}", "" },
        { "{\"chat_template\":[{\"name\":\"default\"}]}", "" },
        { "{\"chat_template\":[\"x\"]}", "" },
        { "{\"chat_template\":\"a\\u0000b\"}", "" },
    };
    put("config.json", "{}");
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        put("tokenizer_config.json", all[i].config);
        if (all[i].wanted && !*all[i].wanted) {
            refused(dir, 0, "chat_template is neither");
            continue;
        }
        ft_source *s = open_ok(dir, 0);
        if (all[i].wanted) ck_assert_str_eq(s->chat_template, all[i].wanted);
        else ck_assert_ptr_null(s->chat_template);
        ft_source_close(s);
    }
    put("tokenizer_config.json", "{\"chat_template\":\"one\"}");
    put("chat_template.jinja", "{{ x }}\r\n\ry\r");
    ft_source *s = open_ok(dir, 0);
    /* The file wins; line ends as Python reads them. */
    ck_assert_str_eq(s->chat_template, "{{ x }}\n\ny\n");
    ft_source_close(s);
    put("chat_template.jinja", "");
    s = open_ok(dir, 0);
    ck_assert_str_eq(s->chat_template, "");
    ft_source_close(s);
    put_bytes("chat_template.jinja", "a\0b", 3);
    refused(dir, 0, "chat_template.jinja holds a zero byte");
    put("chat_template.jinja", "ab\xff");
    refused(dir, 0, "chat_template.jinja is not valid UTF-8 at byte 2");
}
END_TEST

START_TEST(test_special_tokens)
{
    static const struct { const char *config, *map, *bos, *eos; } all[] = {
        { "{}", "{\"bos_token\":{\"content\":\"B\"},\"eos_token\":\"E\"}", "B", "E" },
        { "{\"bos_token\":null,\"eos_token\":\"e\"}", "{\"bos_token\":\"B\"}", "", "e" },
        { "{\"bos_token\":\"b\"}", "{\"bos_token\":\"B\",\"eos_token\":\"E\"}", "b", "E" },
        { "{\"bos_token\":7,\"eos_token\":{\"content\":null}}", NULL, "", "" },
        { "{\"bos_token\":\"a\\u0000\",\"eos_token\":\"\"}", NULL, "", "" },
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        put("tokenizer_config.json", all[i].config);
        if (all[i].map) put("special_tokens_map.json", all[i].map);
        ft_source *s = open_ok(dir, 0);
        ck_assert_str_eq(s->bos_token, all[i].bos);
        ck_assert_str_eq(s->eos_token, all[i].eos);
        ft_source_close(s);
        if (all[i].map) unlink(in_dir("special_tokens_map.json"));
    }
}
END_TEST

/* What a user gets wrong, and what the program says. */
START_TEST(test_errors)
{
    refused("/nonexistent/model", 0, "does not exist: give a Hugging Face folder");
    refused(dir, 0, "is not a model folder: it has no config.json");
    put("adapter_config.json", "{}");
    refused(dir, 0, "It is an adapter");
    unlink(in_dir("adapter_config.json"));
    put("model-q4.gguf", "x");
    refused(dir, 0, "It holds model-q4.gguf: name that file");
    refused(in_dir("model-q4.gguf"), 0, "not a GGUF file");
    put("config.json", "{\"a\":1,}");
    refused(dir, 0, "config.json:1:8:");
    put("config.json", "[1]");
    refused(dir, 0, "something else than a JSON object");
    put("config.json", "");
    refused(dir, 0, "config.json:1:1:");
    put("config.json", "{}");
    put("note.txt", "hello, this is a text\n");
    refused(in_dir("note.txt"), 0, "safetensors or GGUF");
    refused("tests/data/io/small.safetensors", 0, "give the folder");
    ck_assert_int_eq(mkdir(in_dir("generation_config.json"), 0700), 0);
    refused(dir, 0, "generation_config.json is not a regular file");
    rmdir(in_dir("generation_config.json"));
    ft_err e = { 0 };
    ft_source *s = open_ok(dir, FT_NEED_CONFIG);
    ck_assert_int_lt(ft_source_tokenizer(s, &e), 0);
    ck_assert_ptr_nonnull(strstr(e.msg, "neither tokenizer.json nor tokenizer.model"));
    put("tokenizer.model", "x");
    ck_assert_int_eq(ft_source_tokenizer(s, NULL), 0);
    ck_assert_ptr_null(s->tokenizer);
    ft_source_close(s);
    s = open_ok(dir, FT_NEED_CONFIG);
    put("tokenizer.json", "7");
    e = (ft_err){ 0 };
    ck_assert_int_lt(ft_source_tokenizer(s, &e), 0);
    ck_assert_ptr_null(s->tokenizer);
    for (int i = 0; i < 9; i++) ck_assert_int_lt(ft_source_tokenizer(s, NULL), 0);
    ft_source_close(s);
}
END_TEST

/* Forms that only transformers turns into a tokenizer.json are refused by name. */
START_TEST(test_older_tokenizers)
{
    static const struct { const char *file[2], *config, *says; } all[] = {
        { { "vocab.json", "merges.txt" }, "{}", "as vocab.json and merges.txt, which is not read" },
        { { "vocab.txt", NULL }, "{}", "as vocab.txt, which is not read" },
        { { "vocab.json", NULL }, "{}", "neither tokenizer.json nor tokenizer.model" },
        { { "tokenizer.model", "added_tokens.json" }, "{}",
          "as tokenizer.model and added_tokens.json, which is not read: write a tokenizer.json" },
        { { "tokenizer.model", "added_tokens.json" }, "{\"added_tokens_decoder\":{}}", NULL },
        { { "tokenizer.json", "added_tokens.json" }, "{}", NULL },
    };
    put("config.json", "{}");
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        ft_err e = { 0 };
        for (int k = 0; k < 2 && all[i].file[k]; k++) put(all[i].file[k], "{}");
        put("tokenizer_config.json", all[i].config);
        ft_source *s = open_ok(dir, 0);
        int code = ft_source_tokenizer(s, &e);
        ck_assert_msg((code == 0) == !all[i].says, "%zu: %s", i, e.msg);
        if (code) ck_assert_msg(strstr(e.msg, all[i].says) != NULL, "%s", e.msg);
        ft_source_close(s);
        for (int k = 0; k < 2 && all[i].file[k]; k++) unlink(in_dir(all[i].file[k]));
    }
}
END_TEST

/* A file one byte over its cap is refused, at its cap accepted. */
START_TEST(test_caps)
{
    static const struct { const char *name; size_t cap; bool json; } all[] = {
        { "config.json", 4 << 20, true }, { "generation_config.json", 4 << 20, true },
        { "tokenizer_config.json", 4 << 20, true }, { "chat_template.jinja", 1 << 20, false },
    };
    put("config.json", "{}");
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        ft_buf b = { 0 };
        ft_buf_puts(&b, "{}");
        while (b.n < all[i].cap) ft_buf_putc(&b, ' ');
        put_bytes(all[i].name, b.p, b.n);
        ft_source_close(open_ok(dir, 0));
        ft_buf_putc(&b, ' ');
        put_bytes(all[i].name, b.p, b.n);
        refused(dir, 0, "is larger than");
        put(all[i].name, all[i].json ? "{}" : "");
        ft_buf_free(&b);
    }
    ft_buf t = { 0 }; /* a template inside of another file */
    ft_buf_puts(&t, "{\"chat_template\":\"");
    while (t.n < (1 << 20) + 30) ft_buf_putc(&t, 'x');
    ft_buf_puts(&t, "\"}");
    put_bytes("tokenizer_config.json", t.p, t.n);
    unlink(in_dir("chat_template.jinja"));
    refused(dir, 0, "at most 1048576 are allowed");
    put("tokenizer_config.json", "{}");
    ft_buf_free(&t);
    ft_source *s = open_ok(dir, 0);
    ck_assert_int_eq(truncate(in_dir("config.json"), 0), 0);
    put("tokenizer.json", "{}");
    /* A hole: no disk is used. */
    ck_assert_int_eq(truncate(in_dir("tokenizer.json"), (64 << 20) + 1), 0);
    ft_err e = { 0 };
    ck_assert_int_lt(ft_source_tokenizer(s, &e), 0);
    ck_assert_ptr_nonnull(strstr(e.msg, "is larger than"));
    ft_source_close(s);
}
END_TEST

/* ---- GGUF ---------------------------------------------------------------------------------- */

START_TEST(test_gguf)
{
    int64_t v = 0;
    ft_source *s = open_ok("tests/data/io/small.gguf", FT_NEED_CONFIG);
    ck_assert(s->gguf && !s->config && !s->tokenizer_config);
    ck_assert_str_eq(s->chat_template, "{{ messages[0].content }}");
    ck_assert_str_eq(s->bos_token, "<s>");
    ck_assert_str_eq(s->eos_token, "</s>");
    ck_assert(s->n_meta == 18 && ft_meta_int(ft_source_meta(s, "t.u16"), &v) && v == 60000);
    ck_assert_int_eq(ft_source_tokenizer(s, NULL), 0);
    ft_source_close(s);
}
END_TEST

/* The same file with other values in its keys. */
START_TEST(test_gguf_damage)
{
    static const struct { const char *key; uint32_t value; const char *says; } all[] = {
        { "tokenizer.ggml.bos_token_id", 4, "bos_token_id is not the id of one of the 4 tokens" },
        { "tokenizer.ggml.eos_token_id", UINT32_MAX, "eos_token_id is not the id" },
        { "tokenizer.ggml.bos_token_id", 3, NULL }, /* an empty token */
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        ft_buf b = { 0 };
        ck_assert_int_eq(ft_file_read(&b, "tests/data/io/small.gguf", 1 << 20, NULL), 0);
        char *at = memmem(b.p, b.n, all[i].key, strlen(all[i].key));
        memcpy(at + strlen(all[i].key) + 4, &all[i].value, 4);
        put_bytes("m.gguf", b.p, b.n);
        if (all[i].says) {
            refused(in_dir("m.gguf"), 0, all[i].says);
        } else {
            ft_source *s = open_ok(in_dir("m.gguf"), 0);
            ck_assert_str_eq(s->bos_token, "");
            ft_source_close(s);
        }
        ft_buf_free(&b);
    }
    ft_buf b = { 0 };
    ck_assert_int_eq(ft_file_read(&b, "tests/data/io/small.gguf", 1 << 20, NULL), 0);
    memcpy(memmem(b.p, b.n, "{{ messages", 11), "{{ mess\xff ges", 11);
    put_bytes("m.gguf", b.p, b.n);
    refused(in_dir("m.gguf"), 0, "tokenizer.chat_template is not valid UTF-8");
    ft_buf_free(&b);
}
END_TEST

/* A GGUF of two keys: the tokens and the id of one of them, or a template. */
static const struct {
    int tokens, item, id; /* types of tokenizer.ggml.tokens, of its items, of the id */
    uint32_t value;
    const char *says;
} token_keys[] = {
    { FT_META_ARRAY, FT_META_STRING, FT_META_I32, 1, NULL },
    { FT_META_ARRAY, FT_META_STRING, FT_META_I32, UINT32_MAX, "not the id of one of the 2" },
    { FT_META_ARRAY, FT_META_STRING, FT_META_F32, 1, "not the id of one of the 2" },
    { FT_META_ARRAY, FT_META_U64, FT_META_I32, 1, "not a list of strings" },
    { FT_META_STRING, FT_META_STRING, FT_META_I32, 0, "not a list of strings" },
};

START_TEST(test_gguf_tokens)
{
    ft_buf b = { 0 };
    ft_buf_puts(&b, "GGUF");
    u32(&b, 3);
    u64(&b, 0);
    u64(&b, 2);
    text(&b, "tokenizer.ggml.tokens", 0);
    u32(&b, token_keys[_i].tokens);
    if (token_keys[_i].tokens == FT_META_ARRAY) {
        u32(&b, token_keys[_i].item);
        u64(&b, 2);
        u64(&b, 0); /* "", or a number, twice */
        u64(&b, 0);
    } else {
        text(&b, "a", 0);
    }
    text(&b, "tokenizer.ggml.eos_token_id", 0);
    u32(&b, token_keys[_i].id);
    u32(&b, token_keys[_i].value);
    put_bytes("m.gguf", b.p, b.n);
    if (token_keys[_i].says) refused(in_dir("m.gguf"), 0, token_keys[_i].says);
    else ft_source_close(open_ok(in_dir("m.gguf"), 0));
    ft_buf_free(&b);
}
END_TEST

/* A template of the most bytes that one may have, and of one more. */
START_TEST(test_gguf_template)
{
    ft_buf b = { 0 };
    ft_buf_puts(&b, "GGUF");
    u32(&b, 3);
    u64(&b, 0);
    u64(&b, 1);
    text(&b, "tokenizer.chat_template", 0);
    u32(&b, FT_META_STRING);
    u64(&b, (1 << 20) + _i);
    for (int i = 0; i < (1 << 20) + _i; i++) ft_buf_putc(&b, 'x');
    put_bytes("m.gguf", b.p, b.n);
    if (_i) refused(in_dir("m.gguf"), 0, "at most 1048576 are allowed");
    else ft_source_close(open_ok(in_dir("m.gguf"), 0));
    ft_buf_free(&b);
}
END_TEST

START_TEST(test_goldens_sources)
{
    char path[512];
    if (!test_goldens()) {
        printf("not run: model sources of the goldens (../shared is not present)\n");
        return;
    }
    snprintf(path, sizeof path, "%s/gguf/tiny_q8_0.gguf", test_goldens());
    ft_source *s = open_ok(path, FT_NEED_CONFIG);
    ck_assert_str_eq(s->bos_token, "<|begin_of_text|>");
    ck_assert_str_eq(s->eos_token, "<|im_end|>");
    ck_assert(!strncmp(s->chat_template, "{% for message in messages %}", 29));
    ft_source_close(s);
    snprintf(path, sizeof path, "%s/models/llama", test_goldens());
    s = open_ok(path, FT_NEED_CONFIG);
    ck_assert_str_eq(ft_json_str(s->config, "model_type", ""), "llama");
    ft_source_close(s);
}
END_TEST

/* ---- hashes -------------------------------------------------------------------------------- */

static void sha_of(char out[65], const char *p, size_t n)
{
    ft_sha256 s;
    ft_sha256_init(&s);
    ft_sha256_add(&s, p, n);
    ft_sha256_hex(&s, out);
}

/* Hashes, checks the result, returns the bytes that were read for it. */
static uint64_t hash(const char *name, const char *content, const char *cache)
{
    char got[65], wanted[65];
    uint64_t bytes = 0;
    ft_err e = { 0 };
    ck_assert_msg(ft_hash_file(got, in_dir(name), cache, &bytes, &e) == 0, "%s", e.msg);
    sha_of(wanted, content, strlen(content));
    ck_assert_str_eq(got, wanted);
    return bytes;
}

static void settle(void) { usleep(2100000); }

START_TEST(test_hash_remembered)
{
    char cache[256];
    snprintf(cache, sizeof cache, "%s", in_dir("hashes"));
    put("a", "hello");
    put("b", "world!");
    ck_assert_uint_eq(hash("a", "hello", NULL), 5);
    ck_assert_uint_eq(hash("a", "hello", cache), 5);
    ck_assert_uint_eq(hash("a", "hello", cache), 5); /* too fresh to be remembered */
    settle();
    ck_assert_uint_eq(hash("a", "hello", cache), 5);
    ck_assert_uint_eq(hash("a", "hello", cache), 0);
    ck_assert_uint_eq(hash("b", "world!", cache), 6);
    ck_assert_uint_eq(hash("b", "world!", cache), 0);
    ck_assert_uint_eq(hash("a", "hello", cache), 0);
    /* The same size and, put back by hand, the same time of change: the status change tells. */
    struct stat st;
    int fd = open(in_dir("a"), O_WRONLY);
    ck_assert(fstat(fd, &st) == 0 && pwrite(fd, "jello", 5, 0) == 5);
    struct timespec times[2] = { st.st_atim, st.st_mtim };
    ck_assert_int_eq(futimens(fd, times), 0);
    close(fd);
    ck_assert_uint_eq(hash("a", "jello", cache), 5);
    put("b", "other!"); /* replaced by rename: another inode */
    ck_assert_uint_eq(hash("b", "other!", cache), 6);
}
END_TEST

/* Every damage to the memory leads to reading again, never to a wrong hash. */
START_TEST(test_hash_damaged_memory)
{
    char cache[256];
    ft_buf good = { 0 };
    snprintf(cache, sizeof cache, "%s", in_dir("hashes"));
    put("a", "hello");
    settle();
    hash("a", "hello", cache);
    ck_assert_int_eq(ft_file_read(&good, cache, 4096, NULL), 0);
    for (size_t i = 0; i < good.n; i++) {
        char keep = good.p[i];
        good.p[i] = (char)(keep ^ (1 << i % 7));
        put_bytes("hashes", good.p, good.n);
        ck_assert_uint_eq(hash("a", "hello", cache), 5);
        good.p[i] = keep;
        put_bytes("hashes", good.p, i); /* cut off */
        ck_assert_uint_eq(hash("a", "hello", cache), 5);
    }
    ft_buf more = { 0 }; /* rubbish around a good line does no harm */
    ft_buf_puts(&more, "\n\nrubbish\n");
    ft_buf_add(&more, good.p, good.n);
    ft_buf_puts(&more, "half a line");
    put_bytes("hashes", more.p, more.n);
    ck_assert_uint_eq(hash("a", "hello", cache), 0);
    while (more.n <= 1 << 20) ft_buf_puts(&more, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n");
    put_bytes("hashes", more.p, more.n); /* too large: as if it were not there */
    ck_assert_uint_eq(hash("a", "hello", cache), 5);
    ck_assert_uint_eq(hash("a", "hello", cache), 0);
    ck_assert_uint_eq(hash("a", "hello", "/nonexistent/hashes"), 5); /* not writable: no error */
    ck_assert_uint_eq(hash("a", "hello", dir), 5);
    ft_buf_free(&more);
    ft_buf_free(&good);
}
END_TEST

/* Eight processes with one memory. */
START_TEST(test_hash_at_once)
{
    char cache[256], name[16], content[32];
    snprintf(cache, sizeof cache, "%s", in_dir("hashes"));
    for (int i = 0; i < 8; i++) {
        snprintf(name, sizeof name, "f%d", i);
        snprintf(content, sizeof content, "content %d", i);
        put(name, content);
    }
    settle();
    for (int p = 0; p < 8; p++) {
        if (fork()) continue;
        for (int i = 0; i < 80; i++) {
            char got[65], wanted[65];
            snprintf(name, sizeof name, "f%d", (i + p) % 8);
            snprintf(content, sizeof content, "content %d", (i + p) % 8);
            sha_of(wanted, content, strlen(content));
            if (ft_hash_file(got, in_dir(name), cache, NULL, NULL) || strcmp(got, wanted)) _exit(1);
        }
        _exit(0);
    }
    for (int p = 0, status; p < 8; p++) ck_assert(wait(&status) > 0 && status == 0);
    for (int i = 0; i < 8; i++) {
        snprintf(name, sizeof name, "f%d", i);
        snprintf(content, sizeof content, "content %d", i);
        hash(name, content, cache);
        ck_assert_uint_eq(hash(name, content, cache), 0);
    }
}
END_TEST

static void model_hash(char out[65], const char *path)
{
    ft_err e = { 0 };
    ck_assert_msg(ft_hash_model(out, path, NULL, NULL, &e) == 0, "%s", e.msg);
}

/* A model's hash changes with each file that matters, and with no other. */
START_TEST(test_hash_model)
{
    static const char *const files[] = { "config.json",         "generation_config.json",
                                         "tokenizer.json",      "tokenizer_config.json",
                                         "tokenizer.model",     "special_tokens_map.json",
                                         "chat_template.jinja", "1.safetensors",
                                         "2.safetensors" };
    char last[65], now[65];
    ft_err e = { 0 };
    ck_assert_int_lt(ft_hash_model(now, dir, NULL, NULL, &e), 0);
    ck_assert_ptr_nonnull(strstr(e.msg, "no files of a model"));
    put("model.safetensors.index.json",
        "{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\","
        "\"c\":\"1.safetensors\"}}");
    model_hash(last, dir);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        for (int round = 0; round < 2; round++) { /* appears, changes */
            put(files[i], round ? "one" : "two");
            model_hash(now, dir);
            ck_assert_str_ne(now, last);
            memcpy(last, now, 65);
        }
    }
    put("README.md", "x");
    put("3.safetensors", "x");
    model_hash(now, dir);
    ck_assert_str_eq(now, last);
    put("model.safetensors", "x"); /* wins over the shards */
    model_hash(now, dir);
    ck_assert_str_ne(now, last);
    memcpy(last, now, 65);
    put("1.safetensors", "three");
    model_hash(now, dir);
    ck_assert_str_eq(now, last);
    unlink(in_dir("model.safetensors"));
    put("model.safetensors.index.json", "{\"weight_map\":{\"a\":\"../1.safetensors\"}}");
    e = (ft_err){ 0 };
    ck_assert_int_lt(ft_hash_model(now, dir, NULL, NULL, &e), 0);
    ck_assert_ptr_nonnull(strstr(e.msg, "plain file name"));
    /* A GGUF is one file. */
    uint64_t bytes = 0;
    char one[65];
    model_hash(now, "tests/data/io/small.gguf");
    ck_assert_int_eq(ft_hash_file(one, "tests/data/io/small.gguf", NULL, &bytes, NULL), 0);
    ck_assert(!strcmp(one, now) && bytes == 992);
    ck_assert_int_lt(ft_hash_file(one, "/nonexistent", NULL, NULL, NULL), 0);
    ck_assert_int_lt(ft_hash_file(one, dir, NULL, NULL, NULL), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("source");
    TCase *t = tcase_create("source");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, make_dir, remove_dir);
    tcase_add_test(t, test_folder);
    tcase_add_test(t, test_tokenizer_alone);
    tcase_add_test(t, test_template_choice);
    tcase_add_test(t, test_special_tokens);
    tcase_add_test(t, test_errors);
    tcase_add_test(t, test_older_tokenizers);
    tcase_add_test(t, test_caps);
    tcase_add_test(t, test_gguf);
    tcase_add_test(t, test_gguf_damage);
    tcase_add_loop_test(t, test_gguf_tokens, 0, 5);
    tcase_add_loop_test(t, test_gguf_template, 0, 2);
    tcase_add_test(t, test_goldens_sources);
    tcase_add_test(t, test_hash_remembered);
    tcase_add_test(t, test_hash_damaged_memory);
    tcase_add_test(t, test_hash_at_once);
    tcase_add_test(t, test_hash_model);
    suite_add_tcase(s, t);
    return s;
}
