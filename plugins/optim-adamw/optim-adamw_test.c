/* optim-adamw_test.c -- AdamW against torch.optim.AdamW's own trajectories, and the same bits
 * however a tensor is split.  Vectors: tests/data/optim, shared goldens where they are present. */
#include "tests/plugin_host.h"
#include <math.h>
#include "ft/train.h"
#include "tests/vectors.h"

static plugin_host host;
static const ft_optimizer *adamw;

static void start(const char *beta1, const char *beta2, const char *epsilon)
{
    plugin_text with[] = { { "adam_beta1", beta1 }, { "adam_beta2", beta2 },
                           { "adam_epsilon", epsilon }, { 0 } };
    host = (plugin_host){ 0 };
    ck_assert_msg(plugin_open(&host, "optim-adamw", with) == 0, "%s", host.err.msg);
    adamw = host.plugin->vtable;
    ck_assert_int_eq(adamw->states(host.self), 2);
}

/* A parameter with its two states. */
typedef struct { int64_t n; float *p, *state[2]; } trained;

static trained begin(ft_tensor p0)
{
    trained t = { .n = (int64_t)(p0.bytes / 4) };
    t.p = malloc(p0.bytes);
    memcpy(t.p, p0.data, p0.bytes);
    for (int i = 0; i < 2; i++) t.state[i] = calloc((size_t)t.n, 4);
    return t;
}

static void end(trained *t)
{
    free(t->p);
    free(t->state[0]);
    free(t->state[1]);
}

static void step(trained *t, const ft_update *u, const void *grad)
{
    float *g = malloc((size_t)t->n * 4); // aligned
    memcpy(g, grad, (size_t)t->n * 4);
    adamw->update(host.self, u, t->n, t->p, g, t->state);
    free(g);
}

/* Within 1e-5 of what torch has; where a parameter came near zero, 1e-5 of one step's way. */
static void check(const trained *t, const void *want, double lr, const char *where)
{
    for (int64_t i = 0; i < t->n; i++) {
        float w;
        memcpy(&w, (const char *)want + i * 4, 4);
        double room = 1e-5 * fmax(fabs((double)w), lr);
        ck_assert_msg(fabs((double)t->p[i] - (double)w) <= room, "%s: [%d] is %.9g, not %.9g",
                      where, (int)i, (double)t->p[i], (double)w);
    }
}

START_TEST(torch)
{
    static const struct {
        const char *name, *beta1, *beta2, *epsilon;
        double lr, decay, scale;
    } cases[] = { // as in make.py
        { "usual", "0.9", "0.999", "1e-8", 3e-3, 0.05, 1.0 },
        { "clipped", "0.9", "0.95", "1e-6", 1e-2, 0.0, 0.37 },
        { "short_memory", "0.3", "0.6", "1e-4", 2e-2, 0.5, 1.0 },
        { "no_memory", "0.0", "0.9", "1e-8", 1e-3, 0.01, 2.0 },
    };
    vectors v;
    vectors_open(&v, "tests/data/optim", "adamw.safetensors");
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        start(cases[c].beta1, cases[c].beta2, cases[c].epsilon);
        ft_tensor grad = vectors_get(&v, cases[c].name, ".grad");
        ft_tensor p = vectors_get(&v, cases[c].name, ".p");
        trained t = begin(vectors_get(&v, cases[c].name, ".p0"));
        for (int64_t k = 0; k < p.dim[0]; k++) {
            ft_update u = { cases[c].lr, cases[c].decay, k + 1, cases[c].scale };
            step(&t, &u, (const char *)grad.data + k * t.n * 4);
            check(&t, (const char *)p.data + k * t.n * 4, cases[c].lr, cases[c].name);
        }
        const char *const moment[] = { ".m", ".v" }; // after the last step, to the bit
        for (int i = 0; i < 2; i++) {
            const void *want = vectors_get(&v, cases[c].name, moment[i]).data;
            ck_assert_msg(memcmp(t.state[i], want, (size_t)t.n * 4) == 0, "%s", cases[c].name);
        }
        end(&t);
        plugin_close(&host);
    }
    vectors_close(&v);
}
END_TEST

/* The learning rate of a file of the goldens, as optim.json says. */
static double golden_rate(const char *dir, const char *name)
{
    char path[4200];
    ft_buf b = { 0 };
    ft_err e = { 0 };
    double rate = NAN;
    snprintf(path, sizeof path, "%s/optim.json", dir);
    ck_assert_msg(ft_file_read(&b, path, 1 << 20, &e) == 0, "%s", e.msg);
    ft_json_doc *d = ft_json_parse(path, b.p, b.n, &e);
    ck_assert_msg(d != NULL, "%s", e.msg);
    ck_assert(ft_json_as_real(ft_json_get(ft_json_get(ft_json_root(d), name), "lr"), &rate));
    ft_json_done(d);
    ft_buf_free(&b);
    return rate;
}

START_TEST(goldens)
{
    static const struct { const char *name, *beta2, *epsilon; double decay; } cases[] = {
        { "adamw", "0.999", "1e-8", 0.1 },
        { "adamw_beta95", "0.95", "1e-6", 0.0 },
    };
    if (!test_goldens()) {
        printf("not run: AdamW goldens (no shared goldens here)\n");
        return;
    }
    char dir[4096], name[64];
    vectors g, v;
    snprintf(dir, sizeof dir, "%s/optim", test_goldens());
    vectors_open(&g, dir, "grads.safetensors");
    int checked = 0;
    for (size_t c = 0; c < 2; c++) {
        double rate = golden_rate(dir, cases[c].name);
        start("0.9", cases[c].beta2, cases[c].epsilon);
        snprintf(name, sizeof name, "%s.safetensors", cases[c].name);
        vectors_open(&v, dir, name);
        for (int i = 0; i < 4; i++) {
            ft_tensor want;
            snprintf(name, sizeof name, "p0.%d", i);
            trained t = begin(vectors_get(&v, "", name));
            for (int k = 0; k < 10; k++) {
                ft_update u = { rate, cases[c].decay, k + 1, 1.0 };
                snprintf(name, sizeof name, "grad.%d.%d", k, i);
                step(&t, &u, vectors_get(&g, "", name).data);
                snprintf(name, sizeof name, "p.%d.%d", k, i);
                if (!vectors_find(&v, &want, name)) continue;
                check(&t, want.data, rate, name);
                checked++;
            }
            end(&t);
        }
        vectors_close(&v);
        plugin_close(&host);
    }
    ck_assert_int_eq(checked, 2 * (2 + 3 * 10));
    vectors_close(&g);
}
END_TEST

/* Chunks and what is left over give the same bits as one element at a time, from any start. */
START_TEST(any_split)
{
    enum { N = 333 };
    static const char *const beta1[] = { "0.9", "0.25" };
    for (int b = 0; b < 2; b++) {
        float p[2][N], g[N], m[2][N] = { 0 }, v[2][N] = { 0 };
        start(beta1[b], "0.99", "1e-8");
        for (int i = 0; i < N; i++) {
            p[0][i] = p[1][i] = sinf((float)i);
            g[i] = cosf((float)i * 3.1f);
        }
        for (int64_t k = 1; k <= 3; k++) {
            ft_update u = { 1e-2, 0.1, k, 0.7 };
            adamw->update(host.self, &u, N, p[0], g, (float *[]){ m[0], v[0] });
            for (int i = 0, n; i < N; i += n) {
                n = i % 7 == 0 ? 1 : i % 5 == 0 ? 50 : 17;
                if (n > N - i) n = N - i;
                adamw->update(host.self, &u, n, p[1] + i, g + i, (float *[]){ m[1] + i, v[1] + i });
            }
        }
        ck_assert_int_eq(memcmp(p[0], p[1], sizeof p[0]), 0);
        ck_assert_int_eq(memcmp(m[0], m[1], sizeof m[0]), 0);
        ck_assert_int_eq(memcmp(v[0], v[1], sizeof v[0]), 0);
        plugin_close(&host);
    }
}
END_TEST

/* Decay comes first and does not enter the moments: with a zero gradient it is all that happens. */
START_TEST(decay_alone)
{
    start("0.9", "0.999", "1e-8");
    float p[3] = { 1.0f, -2.0f, 0.0f }, g[3] = { 0 }, m[3] = { 0 }, v[3] = { 0 };
    ft_update u = { 0.1, 0.5, 1, 1.0 };
    adamw->update(host.self, &u, 3, p, g, (float *[]){ m, v });
    ck_assert(p[0] == 0.95f && p[1] == -1.9f && p[2] == 0.0f);
    ck_assert(m[0] == 0.0f && v[0] == 0.0f);
    plugin_close(&host);
}
END_TEST

START_TEST(refusals)
{
    plugin_text one[] = { { "adam_beta1", "1" }, { 0 } }, two[] = { { "adam_beta2", "1" }, { 0 } };
    host = (plugin_host){ 0 };
    ck_assert_int_eq(plugin_open(&host, "optim-adamw", one), FT_EINVAL);
    ck_assert_ptr_nonnull(strstr(host.err.msg, "adam_beta1"));
    plugin_close(&host);
    ck_assert_int_eq(plugin_open(&host, "optim-adamw", two), FT_EINVAL);
    ck_assert_ptr_nonnull(strstr(host.err.msg, "adam_beta2"));
    plugin_close(&host);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("optim-adamw");
    TCase *c = tcase_create("update");
    tcase_add_test(c, torch);
    tcase_add_test(c, goldens);
    tcase_add_test(c, any_split);
    tcase_add_test(c, decay_alone);
    tcase_add_test(c, refusals);
    suite_add_tcase(s, c);
    return s;
}
