/* tokenizer.h -- fuzzes the tokenizer plugin that is linked in: a GGUF file or a tokenizer.json
 * where the input begins as one, else a SentencePiece model.  What loads encodes a few texts into
 * ids of its vocabulary, and decodes any of them. */
#ifndef FT_TESTS_FUZZ_TOKENIZER_H
#define FT_TESTS_FUZZ_TOKENIZER_H
#include "core/io/source.h"
#include "tests/fuzz/fuzz.h"

static const char *const texts[] = {
    "", "Hello world, it's 2024!", "  x\n\n\ty \xED\x95\x9C\xEA\xB5\xAD\xEC\x96\xB4",
    "<|im_start|>user\ne\xCC\x81\xF0\x9F\x98\x80<s>", "aaaaaaaaaaaaaaaaaaaaaaaa!",
};

static void use(ft_instance *i, const ft_vocab *v)
{
    const ft_tokenizer *t = ft_instance_vtable(i);
    void *self = ft_instance_self(i), *enc = t->encoder(self);
    fuzz_must(enc != NULL, "no encoder");
    for (size_t k = 0; k < sizeof texts / sizeof *texts; k++) {
        ft_text text = { .text = texts[k], .len = strlen(texts[k]) };
        ft_tokens ids;
        ft_bytes bytes;
        if (t->encode(self, enc, &text, k & 1, &ids)) continue;
        for (size_t j = 0; j < ids.n; j++) {
            fuzz_must(ids.id[j] < v->vocab_size, "an id outside of the vocabulary");
            fuzz_must(ids.begin[j] <= ids.end[j] && ids.end[j] <= text.len, "a wrong offset");
        }
        t->decode(self, enc, ids.id, ids.n, 0, &bytes);
    }
    for (uint32_t id = 0; id < v->vocab_size && id < 300; id++) {
        size_t len = 0;
        ft_bytes bytes;
        const char *s = t->token(self, id, &len);
        if (s && len) t->find(self, s, len);
        t->special(self, id);
        t->decode(self, enc, &id, 1, FT_DECODE_SKIP_SPECIAL, &bytes);
    }
    t->encoder_done(self, enc);
}

static void load(const ft_source *s)
{
    size_t n;
    const ft_service *services = ft_core_services(&n);
    ft_offer offer = { .service = services, .n_services = n };
    ft_err e = { 0 };
    const ft_tokenizer *t = fuzz_plugin()->desc.vtable;
    if (!t->claims(s)) return;
    ft_instance *i = ft_instance_open(fuzz_plugin(), "tokenizer", NULL, &offer, &e);
    fuzz_must(i != NULL, "the plugin does not open");
    ft_vocab v = { .size = sizeof v };
    ft_bytes json;
    int code = t->load(ft_instance_self(i), s, &v);
    if (!code) use(i, &v);
    if (!code && t->json) code = t->json(ft_instance_self(i), &json);
    if (code) fuzz_plugin_refused(i, code);
    ft_instance_close(i);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    bool gguf = n > 4 && !memcmp(data, "GGUF", 4);
    const char *name = gguf ? "x.gguf" : n && *data == '{' ? "tokenizer.json" : "tokenizer.model";
    const char *path = fuzz_file(name, data, n);
    ft_err e = { 0 };
    ft_source *s = ft_source_open(gguf ? path : fuzz_dir(), 0, &e);
    if (s && !ft_source_tokenizer(s, &e)) load(s);
    else fuzz_refused(&e);
    ft_source_close(s);
    unlink(path);
    return 0;
}
#endif
