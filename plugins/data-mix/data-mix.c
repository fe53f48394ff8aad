/* data-mix.c -- the order in which rows of several sets follow each other.
 *
 * With shares p_i (weights divided by their sum), the row at place t comes from the set whose share
 * is furthest behind: the largest p_i (t + 1) - taken_i, the first of equal ones.  So every stretch
 * of the mix holds the sets as the weights say, to within one row.  Within a set rows are drawn in
 * a random order that depends on the seed, the set's place and the pass alone: a set that is used
 * up is begun again in another order.
 *
 * Checked by the counts of the mix and by running it twice (data-mix_test.c). */
#include <string.h>
#include "ft/data.h"

typedef struct {
    ft_mix_args mix;
    const char *until;
    int64_t rows, seed;
} config;

typedef struct {
    double share;
    int64_t n, taken, pass; /* pass: how often the order was made */
    int64_t *order;         /* [n] */
} set;

typedef struct {
    const ft_host *host;
    const config *c;
    set *set;
    size_t n;
    int64_t made;
} mixing;

/* SplitMix64 (Steele, Lea and Flood 2014). */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/* A new order of the set's rows (Fisher and Yates). */
static void shuffle(mixing *m, size_t i)
{
    set *s = &m->set[i];
    uint64_t state = (uint64_t)m->c->seed,
             key = next_random(&state) ^ (uint64_t)i << 32 ^ (uint64_t)s->pass++;
    for (int64_t k = 0; k < s->n; k++) s->order[k] = k;
    for (int64_t k = s->n - 1; k > 0; k--) {
        int64_t j = (int64_t)(next_random(&key) % (uint64_t)(k + 1)), t = s->order[k];
        s->order[k] = s->order[j];
        s->order[j] = t;
    }
}

static int open_(void *self, const ft_host *host, const void *cfg)
{
    mixing *m = self;
    m->host = host;
    m->c = cfg;
    if (m->c->rows && strcmp(m->c->until, "shortest"))
        return host
            ->fail(host, FT_EINVAL,
                   "rows = %lld says how long the mix is, and so does until: %s; leave one out",
                   (long long)m->c->rows, m->c->until);
    return 0;
}

static int begin(void *self, size_t n, const int64_t *rows)
{
    mixing *m = self;
    double sum = 0;
    m->n = n;
    m->made = 0;
    m->set = m->host->alloc(m->host, (n + 1) * sizeof *m->set);
    if (!m->set) return m->host->fail(m->host, FT_ENOMEM, "out of memory for %zu sets", n);
    for (size_t i = 0; i < n; i++) sum += m->c->mix.weights.value[i];
    for (size_t i = 0; i < n; i++) {
        m->set[i] = (set){ .share = m->c->mix.weights.value[i] / sum, .n = rows[i] };
        m->set[i].order = m->host->alloc(m->host, (size_t)rows[i] * sizeof(int64_t) + 1);
        if (!m->set[i].order)
            return m->host->fail(m->host, FT_ENOMEM, "out of memory for the order of %lld rows",
                                 (long long)rows[i]);
        shuffle(m, i);
    }
    return 0;
}

/* Whether every set has been used up once. */
static bool all_used(const mixing *m)
{
    for (size_t i = 0; i < m->n; i++) {
        if (m->set[i].taken < m->set[i].n) return false;
    }
    return true;
}

static int next(void *self, size_t *from, int64_t *row)
{
    mixing *m = self;
    size_t best = 0;
    double most = -1e300;
    bool longest = !strcmp(m->c->until, "longest");
    if (m->c->rows ? m->made == m->c->rows : longest && all_used(m)) return 0;
    for (size_t i = 0; i < m->n; i++) {
        double behind = m->set[i].share * (double)(m->made + 1) - (double)m->set[i].taken;
        if (behind > most) most = behind, best = i;
    }
    set *s = &m->set[best];
    if (s->taken && s->taken % s->n == 0) {
        if (!m->c->rows && !longest) return 0;
        shuffle(m, best);
    }
    *from = best;
    *row = s->order[s->taken++ % s->n];
    m->made++;
    return 1;
}

static const char *const until_choices[] = { "shortest", "longest", NULL };
static const ft_param params[] = {
    FT_MIX_PARAMS(config, mix),
    { "until", FT_STR, offsetof(config, until), "shortest", 0, 0, until_choices,
      "the mix ends when a set is used up (no row twice), or when all are (short ones are "
      "repeated)" },
    { "rows", FT_INT, offsetof(config, rows), "0", 0, 1e12, NULL,
      "this many training rows, repeating what is too short; 0: as until says" },
    { "seed", FT_INT, offsetof(config, seed), "0", 0, 9e15, NULL, "of the order within each set" },
    { 0 }
};

static const ft_mixer mixer = { sizeof mixer, offsetof(config, mix), begin, next };
static const ft_plugin plugin = {
    .abi = FT_ABI_INIT, .role = "ft.mixer/1", .name = "data-mix", .version = "1.0.0",
    .summary = "several sets of rows into one, each with its share", .params = params,
    .config_size = sizeof(config), .instance_size = sizeof(mixing), .open = open_, .vtable = &mixer,
};
FT_PLUGIN(plugin, "data-mix");
