/* tokenizer-helper.c -- a tokenizer plugin behind a pipe, for tokenizer-diff.py.
 *
 *   tokenizer-helper BUILD PLUGIN json DIR | BUILD PLUGIN gguf FILE
 * Standard input: records of uint32 n and n bytes of text.  For each one, standard output gets
 *   int32 code; where it is not 0: uint32 n, n bytes of message
 *   uint32 n, ids, begins, ends (uint32 [n] each); uint32 m, ids with special tokens around
 *   uint32 k, the first ids decoded; uint32 k, the second ids decoded without special tokens
 * n = 0xFFFFFFFF asks for tokenizer.json instead: uint32 k and its bytes.  n = 0xFFFFFFFE and a
 * record: only encodes it 5 times and gives the shortest time in nanoseconds as uint64.
 * n = 0xFFFFFFFD and a record of ids (uint32 each): uint32 k, the ids decoded; the same without
 * special tokens. */
#include <time.h>
#include <unistd.h>
#include "plugins/tokenizer-common/test_host.h"

static void put(const void *p, size_t n) { fwrite(p, 1, n, stdout); }
static void put_u32(size_t v) { put(&(uint32_t){ (uint32_t)v }, 4); }

static void put_bytes(const void *p, size_t n)
{
    put_u32(n);
    put(p, n);
}

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void answer(test_tok *t, const ft_text *text)
{
    ft_tokens a, b;
    ft_bytes d;
    t->err.code = 0;
    int32_t code = t->vt->encode(t->self, t->enc, text, 0, &a);
    put(&code, 4);
    if (code) {
        put_bytes(t->err.msg, strlen(t->err.msg));
        return;
    }
    put_u32(a.n);
    put(a.id, 4 * a.n);
    put(a.begin, 4 * a.n);
    put(a.end, 4 * a.n);
    uint32_t *keep = malloc(4 * a.n + 4);
    memcpy(keep, a.id, 4 * a.n);
    size_t n = a.n;
    t->vt->encode(t->self, t->enc, text, FT_ENCODE_ADD_SPECIAL, &b);
    put_bytes(b.id, 4 * b.n);
    t->vt->decode(t->self, t->enc, keep, n, 0, &d);
    put_bytes(d.p, d.n);
    t->vt->decode(t->self, t->enc, b.id, b.n, FT_DECODE_SKIP_SPECIAL, &d);
    put_bytes(d.p, d.n);
    free(keep);
}

static void decode_both(test_tok *t, const char *p, size_t n)
{
    uint32_t *id = malloc(n + 4);
    ft_bytes d;
    memcpy(id, p, n);
    t->vt->decode(t->self, t->enc, id, n / 4, 0, &d);
    put_bytes(d.p, d.n);
    t->vt->decode(t->self, t->enc, id, n / 4, FT_DECODE_SKIP_SPECIAL, &d);
    put_bytes(d.p, d.n);
    free(id);
}

static void time_it(test_tok *t, const ft_text *text)
{
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < 5; i++) {
        ft_tokens a;
        uint64_t from = now();
        t->vt->encode(t->self, t->enc, text, 0, &a);
        uint64_t took = now() - from;
        if (took < best) best = took;
    }
    put(&best, 8);
}

int main(int argc, char **argv)
{
    static test_tok t;
    uint64_t from = now();
    if (argc != 5 || !test_open(&t, argv[1], argv[2]) ||
        !(strcmp(argv[3], "gguf") ? test_load_dir(&t, argv[4]) : test_load_gguf(&t, argv[4]))) {
        fprintf(stderr, "%s\n", t.err.msg);
        return 1;
    }
    fprintf(stderr, "loaded in %.1f ms\n", (double)(now() - from) / 1e6);
    ft_buf b = { 0 };
    uint32_t n;
    while (fread(&n, 4, 1, stdin) == 1) {
        uint32_t ask = n;
        if (n == UINT32_MAX) {
            ft_bytes j = { 0 };
            t.vt->json(t.self, &j);
            put_bytes(j.p, j.n);
            fflush(stdout);
            continue;
        }
        if (n >= UINT32_MAX - 2 && fread(&n, 4, 1, stdin) != 1) break;
        b.n = 0;
        char *p = ft_buf_grow(&b, n);
        if (n && fread(p, 1, n, stdin) != n) break;
        ft_text text = { .text = p, .len = n };
        if (ask == n) answer(&t, &text);
        else if (ask == UINT32_MAX - 1) time_it(&t, &text);
        else decode_both(&t, p, n);
        fflush(stdout);
    }
    ft_buf_free(&b);
    test_close(&t);
    return 0;
}
