/* quant-nf4_test.c -- the numbers of NF4: bitsandbytes' own results, ties, every variant against
 * every other, rectangles, threads, and floating-point modes.  (Parts and refusals:
 * nf4_open_test.c.)  Vectors: tests/data/quant, and the shared goldens where they are present. */
#include "tests/plugin_host.h"
#include <math.h>
#include "plugins/quant-nf4/nf4.h"
#include "tests/vectors.h"

static const char data_dir[] = "tests/data/quant";
static plugin_host host;
static const ft_quantizer *quant;

static void start(bool double_quant, int threads)
{
    plugin_text with[] = { { "double_quant", double_quant ? "true" : "false" }, { 0 } };
    host = (plugin_host){ .threads = threads };
    ck_assert_int_eq(plugin_open(&host, "quant-nf4", with), 0);
    quant = host.plugin->vtable;
}

/* ---- a weight packed by the plugin, each part in memory of its exact size ------------------- */
typedef struct {
    ft_part size[FT_MAX_PARTS];
    ft_tensor part[FT_MAX_PARTS];
    ft_packed packed;
} packed;

static void pack(packed *p, const ft_tensor *w)
{
    void *into[FT_MAX_PARTS];
    int n = quant->parts(host.self, w->dim, w->ndim, p->size);
    ck_assert_msg(n == NF4_PARTS, "%s", host.err.msg);
    for (int i = 0; i < n; i++) {
        const ft_part *s = &p->size[i];
        p->part[i] = (ft_tensor){ .name = w->name, .dtype = s->dtype };
        into[i] = NULL;
        if (s->dtype == FT_NO_DTYPE) continue;
        p->part[i].bytes = (uint64_t)(s->dim[0] * (s->dtype == FT_F32 ? 4 : 1));
        p->part[i].data = into[i] = malloc((size_t)p->part[i].bytes);
    }
    ck_assert_msg(quant->encode(host.self, w, into) == 0, "%s", host.err.msg);
    ck_assert_msg(quant->open(host.self, w->dim, w->ndim, p->part, &p->packed) == 0, "%s",
                  host.err.msg);
}

static void drop(packed *p)
{
    for (int i = 0; i < NF4_PARTS; i++) free((void *)(uintptr_t)p->part[i].data);
}

static float f32_at(const void *p, int64_t i)
{
    float f;
    memcpy(&f, (const char *)p + i * 4, 4);
    return f;
}

/* The definition of rounding to bf16, in integers of another shape than the plugin's. */
static uint16_t bf16_of(float f)
{
    uint32_t b;
    memcpy(&b, &f, 4);
    uint32_t down = b >> 16, rest = b & 0xffff;
    if (rest > 0x8000 || (rest == 0x8000 && down % 2)) down++;
    return (uint16_t)down;
}

/* tile() of the whole matrix is `want`, to the bit; in bf16 it is `want` rounded. */
static void check_whole(const ft_packed *p, const void *want)
{
    int64_t n = p->rows * p->cols;
    float *f = malloc((size_t)n * 4);
    uint16_t *h = malloc((size_t)n * 2);
    p->tile(p, 0, p->rows, 0, p->cols, FT_F32, f, p->cols);
    p->tile(p, 0, p->rows, 0, p->cols, FT_BF16, h, p->cols);
    ck_assert_int_eq(memcmp(f, want, (size_t)n * 4), 0);
    for (int64_t i = 0; i < n; i++) ck_assert_uint_eq(h[i], bf16_of(f[i]));
    free(f);
    free(h);
}

static void check_bytes(const packed *p, int part, ft_tensor want)
{
    ck_assert_uint_eq(p->part[part].bytes, want.bytes);
    ck_assert_msg(memcmp(p->part[part].data, want.data, (size_t)want.bytes) == 0, "%s", want.name);
}

/* ---- against bitsandbytes -------------------------------------------------------------------- */
/* prefix: of the vectors with and without double quantization. */
static void check_case(const vectors *v, const char *weight, const char *plain, const char *nested)
{
    ft_tensor w = vectors_get(v, weight, "weight"), t;
    char name[128];
    packed p;
    snprintf(name, sizeof name, "%scodes", plain);
    if (vectors_find(v, &t, name)) {
        start(false, 2);
        pack(&p, &w);
        check_bytes(&p, NF4_CODES, t);
        check_bytes(&p, NF4_ABSMAX, vectors_get(v, plain, "absmax"));
        snprintf(name, sizeof name, "%sdequant", plain);
        if (vectors_find(v, &t, name)) check_whole(&p.packed, t.data);
        drop(&p);
        plugin_close(&host);
    }
    start(true, 2);
    pack(&p, &w);
    check_bytes(&p, NF4_ABSMAX, vectors_get(v, nested, "absmax"));
    check_bytes(&p, NF4_NESTED_ABSMAX, vectors_get(v, nested, "nested_absmax"));
    float offset = f32_at(vectors_get(v, nested, "offset").data, 0);
    ck_assert_msg(p.packed.number[0] == (double)offset, "%s: offset", weight);
    snprintf(name, sizeof name, "%sdequant", nested);
    if (vectors_find(v, &t, name)) check_whole(&p.packed, t.data);
    drop(&p);
    plugin_close(&host);
}

START_TEST(repository_vectors)
{
    static const char *const names[] = { "odd", "bf16", "fp16", "nest", "full", "tiny", "stack",
                                         "short", "divided", "divided_scales" };
    vectors v;
    vectors_open(&v, data_dir, "nf4.safetensors");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char plain[64], nested[64];
        snprintf(plain, sizeof plain, "%s.", names[i]);
        snprintf(nested, sizeof nested, "%s.dq.", names[i]);
        check_case(&v, plain, plain, nested);
    }
    start(true, 0);
    packed p;
    ft_tensor w = vectors_get(&v, "nest.", "weight");
    pack(&p, &w);
    check_bytes(&p, NF4_NESTED_MAP, vectors_get(&v, "", "dynamic_map"));
    drop(&p);
    plugin_close(&host);
    vectors_close(&v);
}
END_TEST

/* The mean of scales, and what hangs on it, for counts that its order of addition treats apart. */
START_TEST(means)
{
    vectors v;
    vectors_open(&v, data_dir, "nf4.safetensors");
    ft_tensor blocks = vectors_get(&v, "mean.", "blocks");
    start(true, 2);
    for (int64_t i = 0; i < blocks.dim[0]; i++) {
        int32_t n;
        memcpy(&n, (const char *)blocks.data + i * 4, 4);
        float *w = calloc((size_t)n, NF4_BLOCK * sizeof *w);
        uint32_t x = 7 + (uint32_t)i;
        for (int32_t b = 0; b < n; b++) {
            x = x * 1664525u + 1013904223u;
            w[b * NF4_BLOCK + b % NF4_BLOCK] = 1.0f / (float)((x >> 20) + 1);
        }
        packed p;
        ft_tensor t = { .name = "w", .dtype = FT_F32, .ndim = 2, .dim = { n, NF4_BLOCK },
                        .data = w, .bytes = (uint64_t)n * NF4_BLOCK * 4 };
        pack(&p, &t);
        float offset = f32_at(vectors_get(&v, "mean.", "offset").data, i);
        ck_assert_msg(p.packed.number[0] == (double)offset, "offset of %d", n);
        ck_assert(f32_at(p.part[NF4_NESTED_ABSMAX].data, (n - 1) / NF4_NEST) ==
                  f32_at(vectors_get(&v, "mean.", "last").data, i));
        drop(&p);
        free(w);
    }
    plugin_close(&host);
    vectors_close(&v);
}
END_TEST

START_TEST(goldens)
{
    static const char *const names[] = { "square", "wide", "tall_odd", "tail", "zero_block",
        "outlier", "nested", "bf16", "fp16", "tiny_values", "one_row", "uniform" };
    if (!test_goldens()) {
        printf("not run: NF4 goldens (no shared goldens here)\n");
        return;
    }
    char dir[4096], file[64];
    snprintf(dir, sizeof dir, "%s/quant", test_goldens());
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        vectors v;
        snprintf(file, sizeof file, "4bit_%s.safetensors", names[i]);
        vectors_open(&v, dir, file);
        check_case(&v, "", "nf4.64.", "nf4.64.dq.");
        vectors_close(&v);
    }
}
END_TEST

/* A checkpoint that transformers saved: parts as they lie in the file, its own JSON. */
START_TEST(checkpoint)
{
    static const char *const modules[] = { "model.layers.0.self_attn.q_proj",
                                           "model.layers.1.mlp.down_proj" };
    if (!test_goldens()) {
        printf("not run: a bitsandbytes checkpoint (no shared goldens here)\n");
        return;
    }
    char dir[4096], name[512];
    vectors v, g;
    snprintf(dir, sizeof dir, "%s/quant/bnb4", test_goldens());
    vectors_open(&v, dir, "model.safetensors");
    vectors_open(&g, dir, "golden.safetensors");
    start(false, 0); // what the file holds decides
    for (int m = 0; m < 2; m++) {
        ft_tensor want = vectors_get(&g, modules[m], ".dequant"), part[FT_MAX_PARTS] = { 0 };
        ft_part size[FT_MAX_PARTS];
        ft_packed p;
        int n = quant->parts(host.self, want.dim, want.ndim, size);
        for (int i = 0; i < n; i++) {
            snprintf(name, sizeof name, "%s.weight%s", modules[m], size[i].suffix);
            vectors_find(&v, &part[i], name);
        }
        ck_assert_msg(quant->open(host.self, want.dim, want.ndim, part, &p) == 0, "%s",
                      host.err.msg);
        check_whole(&p, want.data);
    }
    plugin_close(&host);
    vectors_close(&v);
    vectors_close(&g);
}
END_TEST

/* ---- ties ------------------------------------------------------------------------------------ */
/* The code of x in a block whose absmax is 1, by each variant that runs here. */
static void check_code(const nf4_variant *v, float x, unsigned want)
{
    float block[NF4_BLOCK] = { x, 1.0f }, absmax;
    uint8_t codes[NF4_BLOCK / 2];
    for (; v->name; v++) {
        if (!v->runs_here()) continue;
        ck_assert_int_eq(v->encode(block, FT_F32, 1, codes, &absmax), 1);
        ck_assert_msg(codes[0] >> 4 == (int)want && (codes[0] & 15) == 15 && codes[1] == 0x77,
                      "%s: %.9g gives %d, not %u", v->name, (double)x, codes[0] >> 4, want);
    }
}

/* All of the shared ties.json. */
static void golden_ties(const nf4_variant *v)
{
    char path[4096];
    ft_buf text = { 0 };
    ft_err e = { 0 };
    snprintf(path, sizeof path, "%s/quant/ties.json", test_goldens());
    ck_assert_int_eq(ft_file_read(&text, path, 1 << 20, &e), 0);
    ft_json_doc *doc = ft_json_parse(path, text.p, text.n, &e);
    const ft_json *all = ft_json_root(doc);
    int seen = 0;
    for (size_t i = 0; i < all->len; i++) {
        if (strcmp(ft_json_str(&all->item[i], "type", ""), "nf4") != 0) continue;
        uint32_t bits = (uint32_t)strtoul(ft_json_str(&all->item[i], "bits", ""), NULL, 16);
        int64_t code = -1;
        float x;
        ft_json_as_int(ft_json_get(&all->item[i], "code"), &code);
        memcpy(&x, &bits, 4);
        check_code(v, x, (unsigned)code);
        seen++;
    }
    ck_assert_int_eq(seen, 45);
    ft_json_done(doc);
    ft_buf_free(&text);
}

START_TEST(ties)
{
    start(false, 0);
    const nf4_variant *v = dlsym(host.so, "nf4_variants");
    vectors f;
    vectors_open(&f, data_dir, "nf4.safetensors");
    packed p;
    ft_tensor w = vectors_get(&f, "short.", "weight");
    pack(&p, &w);
    const float *level = p.part[NF4_QUANT_MAP].data;
    for (unsigned i = 0; i < 15; i++) {
        float mid = (level[i] + level[i + 1]) / 2.0f;
        check_code(v, nextafterf(mid, -2.0f), i);
        check_code(v, mid, i);
        check_code(v, nextafterf(mid, 2.0f), i + 1);
        check_code(v, level[i], i);
    }
    drop(&p);
    vectors_close(&f);
    if (test_goldens()) golden_ties(v);
    else printf("not run: golden ties (no shared goldens here)\n");
    plugin_close(&host);
}
END_TEST

/* ---- variants, rectangles, threads ----------------------------------------------------------- */
static uint64_t seed = 7;
static uint32_t draw(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33);
}

static int64_t below(int64_t n) { return (int64_t)(draw() % (uint64_t)n); }

/* Random bits of the dtype, finite, over the whole range or near 1. */
static ft_tensor random_weight(ft_dtype dtype, int64_t rows, int64_t cols, bool wild)
{
    size_t n = (size_t)(rows * cols), width = dtype == FT_F32 ? 4 : 2;
    char *p = malloc(n * width);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = draw() << 1 ^ draw();
        if (!wild || dtype == FT_F16) bits = (bits & 0xbfffffff) & ~0x04000000u;
        if ((bits & 0x7f800000) == 0x7f800000) bits &= ~0x00800000u;
        if (width == 4) memcpy(p + i * 4, &bits, 4);
        else memcpy(p + i * 2, (char *)&bits + 2, 2);
    }
    return (ft_tensor){ .name = "w", .dtype = dtype, .ndim = 2, .dim = { rows, cols }, .data = p,
                        .bytes = n * width };
}

START_TEST(variants_agree)
{
    static const ft_dtype dtypes[] = { FT_F32, FT_BF16, FT_F16 };
    enum { N = 96, COUNT = N * NF4_BLOCK };
    for (int round = 0; round < 60; round++) {
        start(round % 2 == 0, 0); // wild weights have no mean
        const nf4_variant *all = dlsym(host.so, "nf4_variants"), *plain = all;
        ck_assert_ptr_nonnull(all);
        while (plain[1].name) plain++;
        ft_tensor w = random_weight(dtypes[round % 3], N, NF4_BLOCK, round % 2);
        packed p;
        pack(&p, &w); // by the best variant
        float want_f[COUNT], got_f[COUNT + 1];
        uint16_t want_h[COUNT], got_h[COUNT + 1];
        for (const nf4_variant *v = all; v->name; v++) {
            if (!v->runs_here()) {
                if (!round) printf("not run: variant %s (not on this machine)\n", v->name);
                continue;
            }
            uint8_t codes[COUNT / 2];
            float absmax[N];
            ck_assert_int_eq(v->encode(w.data, w.dtype, N, codes, absmax), N);
            ck_assert_int_eq(memcmp(codes, p.part[NF4_CODES].data, sizeof codes), 0);
            if (p.part[NF4_ABSMAX].dtype == FT_F32) {
                ck_assert_int_eq(memcmp(absmax, p.part[NF4_ABSMAX].data, sizeof absmax), 0);
            }
            for (int k = 0; k < 40; k++) {
                int64_t at = below(COUNT), n = 1 + below(k % 2 ? COUNT - at : 80);
                if (n > COUNT - at) n = COUNT - at;
                memset(want_f, 1, sizeof want_f), memset(got_f, 1, sizeof got_f);
                memset(want_h, 1, sizeof want_h), memset(got_h, 1, sizeof got_h);
                plain->to_f32(&p.packed, at, n, want_f);
                plain->to_bf16(&p.packed, at, n, want_h);
                v->to_f32(&p.packed, at, n, got_f);
                v->to_bf16(&p.packed, at, n, got_h);
                ck_assert_msg(memcmp(want_f, got_f, sizeof want_f) == 0, "%s", v->name);
                ck_assert_msg(memcmp(want_h, got_h, sizeof want_h) == 0, "%s", v->name);
            }
        }
        drop(&p);
        free((void *)(uintptr_t)w.data);
        plugin_close(&host);
    }
}
END_TEST

/* Number i by the definition, from the parts alone. */
static float number(const packed *p, int64_t i)
{
    const uint8_t *codes = p->part[NF4_CODES].data;
    int code = i % 2 ? codes[i / 2] & 15 : codes[i / 2] >> 4;
    float level = f32_at(p->part[NF4_QUANT_MAP].data, code);
    if (!p->part[NF4_NESTED_MAP].data) return level * f32_at(p->part[NF4_ABSMAX].data, i / 64);
    uint8_t c = ((const uint8_t *)p->part[NF4_ABSMAX].data)[i / 64];
    float a = f32_at(p->part[NF4_NESTED_MAP].data, c);
    a *= f32_at(p->part[NF4_NESTED_ABSMAX].data, i / 64 / 256);
    a += (float)p->packed.number[0];
    return level * a;
}

START_TEST(rectangles)
{
    static const int64_t shape[][2] = { { 1, 1 }, { 3, 5 }, { 40, 64 }, { 37, 91 }, { 50, 130 },
                                        { 9, 2049 }, { 130, 66 } };
    for (size_t s = 0; s < sizeof shape / sizeof *shape; s++) {
        start(s % 2, 0);
        int64_t rows = shape[s][0], cols = shape[s][1];
        ft_tensor w = random_weight(FT_F32, rows, cols, false);
        packed p;
        pack(&p, &w);
        for (int k = 0; k < 200; k++) {
            int64_t r0 = below(rows), c0 = below(cols), nr = 1 + below(rows - r0);
            int64_t nc = 1 + below(cols - c0), ld = nc + below(5);
            size_t n = (size_t)(nr * ld);
            float *f = malloc(n * 4);
            uint16_t *h = malloc(n * 2);
            memset(f, 0xab, n * 4), memset(h, 0xab, n * 2);
            p.packed.tile(&p.packed, r0, nr, c0, nc, FT_F32, f, ld);
            p.packed.tile(&p.packed, r0, nr, c0, nc, FT_BF16, h, ld);
            for (int64_t i = 0; i < (int64_t)n; i++) {
                if (i % ld >= nc) { // between the rows nothing is written
                    ck_assert_uint_eq(h[i], 0xabab);
                    ck_assert_int_eq(memcmp(&f[i], "\xab\xab\xab\xab", 4), 0);
                    continue;
                }
                float want = number(&p, (r0 + i / ld) * cols + c0 + i % ld);
                ck_assert_int_eq(memcmp(&f[i], &want, 4), 0);
                ck_assert_uint_eq(h[i], bf16_of(want));
            }
            free(f);
            free(h);
        }
        drop(&p);
        free((void *)(uintptr_t)w.data);
        plugin_close(&host);
    }
}
END_TEST

START_TEST(threads_change_nothing)
{
    ft_tensor w = random_weight(FT_BF16, 301, 6007, false); // 28253 blocks, 111 nested
    packed one, many;
    start(true, 0);
    pack(&one, &w);
    for (int n = 1; n <= 3; n += 2) {
        host.threads = n;
        pack(&many, &w);
        for (int i = 0; i < NF4_PARTS; i++) check_bytes(&many, i, one.part[i]);
        drop(&many);
    }
    // Of several weights that are not finite the first is named, whichever thread found which.
    void *into[FT_MAX_PARTS];
    for (int i = 0; i < NF4_PARTS; i++) into[i] = (void *)(uintptr_t)one.part[i].data;
    for (int row = 290; row > 3; row -= 41) {
        memcpy((char *)(uintptr_t)w.data + (row * 6007 + 11) * 2, "\xff\xff", 2);
        ck_assert_int_eq(quant->encode(host.self, &w, into), FT_EINVAL);
        char says[64];
        snprintf(says, sizeof says, "row %d, column 11 is", row);
        ck_assert_msg(strstr(host.err.msg, says) != NULL, "%s", host.err.msg);
    }
    drop(&one);
    free((void *)(uintptr_t)w.data);
    plugin_close(&host);
}
END_TEST

/* Kernel threads flush denormals; the format does not, and gives the caller its mode back. */
START_TEST(denormals_flushed_by_caller)
{
#ifdef __x86_64__
    vectors v;
    vectors_open(&v, data_dir, "nf4.safetensors");
    ft_tensor w = vectors_get(&v, "tiny.", "weight"), want = vectors_get(&v, "tiny.", "dequant");
    packed p;
    start(false, 0);
    unsigned was = __builtin_ia32_stmxcsr(), flush = was | 0x8040;
    __builtin_ia32_ldmxcsr(flush);
    if (__builtin_ia32_stmxcsr() != flush) {
        printf("not run: flushed denormals (valgrind does not flush them)\n");
        flush = was;
    }
    pack(&p, &w);
    float got[6 * 48];
    p.packed.tile(&p.packed, 0, 6, 0, 48, FT_F32, got, 48);
    unsigned now = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(was);
    ck_assert_uint_eq(now & ~0x3fu, flush & ~0x3fu);
    check_bytes(&p, NF4_CODES, vectors_get(&v, "tiny.", "codes"));
    check_bytes(&p, NF4_ABSMAX, vectors_get(&v, "tiny.", "absmax"));
    ck_assert_int_eq(memcmp(got, want.data, sizeof got), 0);
    drop(&p);
    plugin_close(&host);
    vectors_close(&v);
#else
    printf("not run: flushed denormals (x86-64 only)\n");
#endif
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("quant-nf4");
    TCase *c = tcase_create("numbers");
    tcase_set_timeout(c, 120);
    tcase_add_test(c, repository_vectors);
    tcase_add_test(c, means);
    tcase_add_test(c, goldens);
    tcase_add_test(c, checkpoint);
    tcase_add_test(c, ties);
    tcase_add_test(c, variants_agree);
    tcase_add_test(c, rectangles);
    tcase_add_test(c, threads_change_nothing);
    tcase_add_test(c, denormals_flushed_by_caller);
    suite_add_tcase(s, c);
    return s;
}
