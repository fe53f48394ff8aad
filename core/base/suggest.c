/* suggest.c -- see suggest.h.  Optimal string alignment over three rows: d[i][j] is the least of
 * d[i-1][j] + 1, d[i][j-1] + 1, d[i-1][j-1] + (a_i ≠ b_j), and, where the last two letters are
 * exchanged, d[i-2][j-2] + 1.  Bytes, not code points: keys and plugin names are ASCII. */
#include "core/base/suggest.h"
#include <stdint.h>
#include <string.h>

enum { LONGEST = 64 };

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* Three rows of the table are alive at a time: the exchange looks two rows back. */
size_t ft_edit_distance(const char *a, const char *b)
{
    size_t na = strnlen(a, LONGEST + 1), nb = strnlen(b, LONGEST + 1);
    size_t rows[3][LONGEST + 1], *before = rows[0], *last = rows[1], *row = rows[2];
    if (na > LONGEST || nb > LONGEST) return SIZE_MAX;
    for (size_t j = 0; j <= nb; j++) last[j] = j;
    memset(before, 0, sizeof rows[0]); /* read only from the second row on */
    for (size_t i = 1; i <= na; i++) {
        row[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            row[j] = least(least(last[j], row[j - 1]) + 1, last[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = least(row[j], before[j - 2] + 1);
        }
        size_t *free_row = before;
        before = last;
        last = row;
        row = free_row;
    }
    return last[nb];
}

void ft_suggest_start(ft_suggestion *s, const char *word)
{
    size_t n = strnlen(word, LONGEST + 1), limit = n / 3 ? n / 3 : 1;
    /* One more than allowed: an offer must beat it. */
    *s = (ft_suggestion){ .word = word, .distance = least(limit + 1, n) };
}

void ft_suggest_offer(ft_suggestion *s, const char *name)
{
    size_t d = name ? ft_edit_distance(s->word, name) : SIZE_MAX;
    if (d >= s->distance) return;
    s->distance = d;
    s->best = name;
}

const char *ft_suggest(const char *word, const char *const *name, size_t n)
{
    ft_suggestion s;
    ft_suggest_start(&s, word);
    for (size_t i = 0; i < n; i++) ft_suggest_offer(&s, name[i]);
    return s.best;
}
