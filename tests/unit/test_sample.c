/* test_sample.c -- core/run/sample.c: the likeliest token, and how often drawn ones come, against
 * the probabilities that temperature, top_k and top_p leave. */
#include "harness.h"
#include <math.h>
#include <string.h>
#include "core/run/sample.h"

enum { VOCAB = 7, DRAWS = 40000 };
static const float logits[VOCAB] = { 0.5f, 2, -1, 2, 1, -30, 0 };

/* How often each id is drawn. */
static void draw(int64_t *count, double temperature, int64_t top_k, double top_p)
{
    ft_sampler s;
    ck_assert_int_eq(ft_sampler_open(&s, temperature, top_k, top_p, VOCAB, NULL), 0);
    memset(count, 0, VOCAB * sizeof *count);
    for (uint64_t i = 0; i < DRAWS; i++)
        count[ft_sample_token(&s, logits, VOCAB, ft_sample_key(5, 0, i))]++;
    ft_sampler_close(&s);
}

/* The shares that ids in `kept` (a bit each) should have; five standard deviations are allowed. */
static void expect(const int64_t *count, double temperature, unsigned kept)
{
    double p[VOCAB], sum = 0;
    for (int i = 0; i < VOCAB; i++)
        sum += p[i] = kept >> i & 1 ? exp((double)logits[i] / temperature) : 0;
    for (int i = 0; i < VOCAB; i++) {
        double want = p[i] / sum * DRAWS, spread = sqrt(want * (1 - p[i] / sum));
        ck_assert_msg(fabs((double)count[i] - want) <= 5 * spread + (p[i] > 0),
                      "id %d: %lld times, not %.0f", i, (long long)count[i], want);
    }
}

START_TEST(greedy)
{
    ft_sampler s;
    ck_assert_int_eq(ft_sampler_open(&s, 0, 0, 1, VOCAB, NULL), 0);
    /* not 3 */
    for (uint64_t key = 0; key < 10; key++)
        ck_assert_int_eq(ft_sample_token(&s, logits, VOCAB, key << 60), 1);
    ck_assert_int_eq(ft_sample_token(&s, logits + 2, VOCAB - 2, 0), 1);
    ft_sampler_close(&s);
}
END_TEST

START_TEST(shares)
{
    int64_t n[VOCAB];
    draw(n, 1, 0, 1);
    expect(n, 1, 0x7F);
    draw(n, 2.5, 0, 1);
    expect(n, 2.5, 0x7F);
    draw(n, 1, 3, 1); /* 1, 3, 4 */
    expect(n, 1, 0x1A);
    draw(n, 1, 1, 1);
    ck_assert_int_eq(n[1], DRAWS);
    draw(n, 1, 100, 1);
    expect(n, 1, 0x7F);
}
END_TEST

/* p at temperature 1: 0.360 0.360 0.133 0.080 0.049 0.018 …; the one that crosses top_p stays. */
START_TEST(nucleus)
{
    int64_t n[VOCAB];
    draw(n, 1, 0, 0.3);
    ck_assert_int_eq(n[1], DRAWS);
    draw(n, 1, 0, 0.5);
    expect(n, 1, 0x0A);
    draw(n, 1, 0, 0.75);
    expect(n, 1, 0x1A);
    draw(n, 1, 2, 0.7); /* shares of what top_k leaves: half and half */
    expect(n, 1, 0x0A);
    draw(n, 1, 2, 0.4);
    ck_assert_int_eq(n[1], DRAWS);
}
END_TEST

/* Every seed, text and place has numbers of its own. */
START_TEST(keys)
{
    uint64_t key[64];
    int n = 0;
    for (uint64_t seed = 0; seed < 4; seed++)
        for (uint64_t text = 0; text < 4; text++)
            for (uint64_t at = 0; at < 4; at++) key[n++] = ft_sample_key(seed, text, at);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < i; k++) ck_assert_uint_ne(key[i], key[k]);
    ck_assert_uint_eq(ft_sample_key(1, 2, 3), ft_sample_key(1, 2, 3));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("sample");
    TCase *t = tcase_create("sample");
    tcase_add_test(t, greedy);
    tcase_add_test(t, shares);
    tcase_add_test(t, nucleus);
    tcase_add_test(t, keys);
    suite_add_tcase(s, t);
    return s;
}
