/* data-dedup.c -- leaves out rows that have been there: the same to the byte, or nearly.
 *
 * Near duplicates: MinHash (Broder 1997) with locality-sensitive hashing.  The text, letters A-Z
 * made small and cut at white space, is the set of its runs of `shingle` words (of characters,
 * where it has fewer than one word for every 20 bytes: scripts without blanks).  A signature holds,
 * for each of num_perm random functions (a x + b) >> 32, the least value over the set; two
 * signatures agree in a part of their places that estimates the Jaccard similarity of the sets
 * (standard error at most 0.5 / sqrt(num_perm): 0.044 at 128).  Signatures are cut into b bands of
 * r numbers; rows that agree in a whole band are compared, and the later one goes when the estimate
 * reaches `threshold`.  r is the largest with (1/b)^(1/r) at most threshold - 0.1: a pair at the
 * threshold is compared with a probability of 1 - (1 - s^r)^b, 0.99 or more for the default.
 *
 * Memory for each row that stays: 4 num_perm + 12 b bytes or so (1 KiB at the defaults).  At most
 * 64 rows of a band are compared, the latest first, so that no file takes quadratic time. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "ft/buf.h"
#include "ft/data.h"

enum { MOST_PERM = 512, MOST_COMPARED = 64 };

typedef struct {
    const char *of;
    bool near;
    double threshold;
    int64_t num_perm, shingle;
} config;

typedef struct { uint64_t key; uint32_t row; } slot; /* row + 1; 0: empty */

/* A hash table that grows: the latest row with each key. */
typedef struct {
    slot *v;
    size_t n, cap;
} table;

typedef struct {
    const ft_host *host;
    const config *c;
    uint64_t a[MOST_PERM], b[MOST_PERM];
    size_t bands, band_rows;
    table exact, near;
    ft_buf signatures;  /* uint32_t [rows][num_perm] */
    ft_buf before;      /* uint32_t [rows][bands]: the row + 1 with this band before it, or 0 */
    ft_buf text, words; /* of the row at hand; words: uint64_t hashes of its words or characters */
    uint32_t rows, sig[MOST_PERM];
} dedup;

static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/* FNV-1a, mixed. */
static uint64_t hash(uint64_t h, const void *p, size_t n)
{
    const unsigned char *c = p;
    for (size_t i = 0; i < n; i++) h = (h ^ c[i]) * 1099511628211u;
    return mix(h);
}

/* ---- the table ------------------------------------------------------------------------------- */

static slot *find(const table *t, uint64_t key)
{
    size_t i = (size_t)key & (t->cap - 1);
    while (t->v[i].row && t->v[i].key != key) i = (i + 1) & (t->cap - 1);
    return &t->v[i];
}

/* Room for one more key; false when there is no memory. */
static bool room(table *t)
{
    if (t->cap && t->n < t->cap / 2) return true;
    table bigger = { .cap = t->cap ? t->cap * 2 : 1024, .n = t->n };
    bigger.v = calloc(bigger.cap, sizeof *bigger.v);
    if (!bigger.v) return false;
    for (size_t i = 0; i < t->cap; i++) {
        if (t->v[i].row) *find(&bigger, t->v[i].key) = t->v[i];
    }
    free(t->v);
    *t = bigger;
    return true;
}

/* ---- the text of a row ----------------------------------------------------------------------- */

/* Whether a span belongs to what is compared. */
static bool is_part(const dedup *d, const ft_span *s)
{
    if (s->from != FT_FROM_DATA) return false;
    if (!strcmp(d->c->of, "question"))
        return s->train == 0 && s->role != FT_ROLE_ASSISTANT && s->role != FT_ROLE_SYSTEM;
    return strcmp(d->c->of, "reply") ? true : s->train != 0;
}

/* The row's own bytes; turns and answers are kept apart by a zero byte. */
static void take_text(dedup *d, const ft_sample *s)
{
    d->text.n = 0;
    for (int k = 0; k < s->n_seq && k < 2; k++) {
        const ft_text *t = &s->seq[k];
        for (size_t i = 0; i < t->n_span; i++) {
            if (!is_part(d, &t->span[i])) continue;
            if (i && t->span[i].turn != t->span[i - 1].turn) ft_buf_putc(&d->text, 0);
            ft_buf_add(&d->text, t->text + t->span[i].begin, t->span[i].end - t->span[i].begin);
        }
        ft_buf_putc(&d->text, 0);
    }
}

static bool is_blank(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == 0; }

/* Hashes of the words; letters A-Z are made small in d->text itself. */
static void take_words(dedup *d)
{
    char *p = d->text.p;
    size_t n = d->text.n;
    d->words.n = 0;
    for (size_t i = 0; i < n; i++) p[i] = p[i] >= 'A' && p[i] <= 'Z' ? (char)(p[i] + 32) : p[i];
    for (size_t i = 0, k; i < n; i = k) {
        while (i < n && is_blank(p[i])) i++;
        for (k = i; k < n && !is_blank(p[k]);) k++;
        uint64_t h = hash(0, p + i, k - i);
        if (k > i) ft_buf_add(&d->words, &h, sizeof h);
    }
    if (d->words.n / sizeof(uint64_t) * 20 >= n) return;
    d->words.n = 0; /* no blanks: characters instead */
    for (size_t i = 0, k; i < n; i = k) {
        for (k = i + 1; k < n && ((unsigned char)p[k] & 0xC0) == 0x80;) k++;
        uint64_t h = hash(1, p + i, k - i);
        if (!is_blank(p[i])) ft_buf_add(&d->words, &h, sizeof h);
    }
}

/* ---- signatures ------------------------------------------------------------------------------ */

/* The signature of the words; false when there are none. */
static bool sign(dedup *d)
{
    const uint64_t *w = (const uint64_t *)(const void *)d->words.p;
    size_t n = d->words.n / sizeof *w, run = (size_t)d->c->shingle < n ? (size_t)d->c->shingle : n;
    memset(d->sig, 0xFF, sizeof d->sig);
    for (size_t i = 0; n && i + run <= n; i++) {
        uint64_t x = 0;
        for (size_t k = 0; k < run; k++) x = mix(x * 31 + w[i + k]);
        for (int64_t k = 0; k < d->c->num_perm; k++) {
            uint32_t y = (uint32_t)((d->a[k] * x + d->b[k]) >> 32);
            if (y < d->sig[k]) d->sig[k] = y;
        }
    }
    return n > 0;
}

/* Whether a row's signature agrees with the one at hand as far as the threshold asks. */
static bool is_near(const dedup *d, uint32_t row)
{
    const uint32_t *s = (const uint32_t *)(const void *)d->signatures.p +
                        (size_t)row * (size_t)d->c->num_perm;
    int64_t same = 0;
    for (int64_t k = 0; k < d->c->num_perm; k++) same += s[k] == d->sig[k];
    return (double)same >= d->c->threshold * (double)d->c->num_perm;
}

static uint64_t band_key(const dedup *d, size_t band)
{
    return hash(band + 1, d->sig + band * d->band_rows, d->band_rows * sizeof *d->sig);
}

/* Whether a row that stays is near: those that share a band are compared. */
static bool seen_near(const dedup *d)
{
    const uint32_t *before = (const uint32_t *)(const void *)d->before.p;
    for (size_t band = 0; d->near.cap && band < d->bands; band++) {
        uint32_t row = find(&d->near, band_key(d, band))->row;
        for (int i = 0; row && i < MOST_COMPARED; i++) {
            if (is_near(d, row - 1)) return true;
            row = before[(size_t)(row - 1) * d->bands + band];
        }
    }
    return false;
}

/* Remembers the row at hand. */
static bool remember(dedup *d)
{
    ft_buf_add(&d->signatures, d->sig, (size_t)d->c->num_perm * sizeof *d->sig);
    for (size_t band = 0; band < d->bands; band++) {
        if (!room(&d->near)) return false;
        uint64_t key = band_key(d, band);
        slot *s = find(&d->near, key);
        ft_buf_add(&d->before, &s->row, sizeof s->row);
        d->near.n += !s->row;
        *s = (slot){ key, d->rows + 1 };
    }
    d->rows++;
    return !d->signatures.oom && !d->before.oom;
}

/* ---- the filter ------------------------------------------------------------------------------ */

static int no_memory(const dedup *d)
{
    return d->host
        ->fail(d->host, FT_ENOMEM,
               "out of memory for the signatures of %u rows; a smaller num_perm needs less",
               d->rows);
}

static int keep(void *self, const ft_sample *s, const char **reason)
{
    dedup *d = self;
    take_text(d, s);
    if (d->text.oom || !room(&d->exact) || d->rows == UINT32_MAX - 1) return no_memory(d);
    uint64_t h = hash(7, d->text.p, d->text.n) ^ (uint64_t)s->label << 62;
    slot *at = find(&d->exact, h);
    if (at->row) {
        *reason = "exact duplicate of an earlier row";
        return 0;
    }
    *at = (slot){ h, 1 };
    d->exact.n++;
    if (!d->c->near) return 1;
    take_words(d);
    if (d->words.oom) return no_memory(d);
    if (!sign(d)) return 1;
    if (seen_near(d)) {
        *reason = "near duplicate of an earlier row";
        return 0;
    }
    return remember(d) ? 1 : no_memory(d);
}

/* The largest number of rows a band with which pairs at the threshold are still met. */
static void choose_bands(dedup *d)
{
    double most = d->c->threshold - 0.1;
    size_t n = (size_t)d->c->num_perm;
    d->band_rows = 1;
    for (size_t r = 2; r <= n; r++) {
        if (pow(1.0 / (double)(n / r), 1.0 / (double)r) <= most) d->band_rows = r;
    }
    d->bands = n / d->band_rows;
}

static int open_(void *self, const ft_host *host, const void *cfg)
{
    dedup *d = self;
    uint64_t state = 0;
    d->host = host;
    d->c = cfg;
    choose_bands(d);
    for (int i = 0; i < MOST_PERM; i++) {
        d->a[i] = mix(state += 0x9E3779B97F4A7C15u) | 1;
        d->b[i] = mix(state += 0x9E3779B97F4A7C15u);
    }
    if (d->c->near)
        host->log(host, FT_DEBUG, "%zu bands of %zu numbers; runs of %lld words", d->bands,
                  d->band_rows, (long long)d->c->shingle);
    return 0;
}

static void close_(void *self)
{
    dedup *d = self;
    free(d->exact.v);
    free(d->near.v);
    ft_buf_free(&d->signatures);
    ft_buf_free(&d->before);
    ft_buf_free(&d->text);
    ft_buf_free(&d->words);
}

static const char *const of_choices[] = { "row", "question", "reply", NULL };
static const ft_param params[] = {
    { "of", FT_STR, offsetof(config, of), "row", 0, 0, of_choices,
      "what must differ: the whole row, what the user says, or what is trained" },
    { "near", FT_BOOL, offsetof(config, near), "true", 0, 0, NULL,
      "near duplicates as well (MinHash)" },
    { "threshold", FT_REAL, offsetof(config, threshold), "0.8", 0.2, 1, NULL,
      "rows are near duplicates from this Jaccard similarity of their runs of words on" },
    { "num_perm", FT_INT, offsetof(config, num_perm), "128", 16, MOST_PERM, NULL,
      "numbers in a signature: more are more exact and take more time and memory" },
    { "shingle", FT_INT, offsetof(config, shingle), "5", 1, 50, NULL, "words in a run" },
    { 0 }
};

static const ft_filter filter = { sizeof filter, keep };
static const ft_plugin plugin = {
    .abi = FT_ABI_INIT,
    .role = "ft.filter/1",
    .name = "data-dedup",
    .version = "1.0.0",
    .summary = "leaves out rows that are the same as, or nearly, an earlier one",
    .params = params,
    .config_size = sizeof(config),
    .instance_size = sizeof(dedup),
    .open = open_,
    .close = close_,
    .vtable = &filter,
};
FT_PLUGIN(plugin, "data-dedup");
