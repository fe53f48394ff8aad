/* suggest.h -- "did you mean": the nearest of a set of names to a word that is none of them. */
#ifndef FT_CORE_SUGGEST_H
#define FT_CORE_SUGGEST_H
#include <stddef.h>

/* Edits that turn a into b: insertion, deletion, replacement, exchange of two neighbours
 * (Damerau-Levenshtein, each place edited once).  Texts longer than 64 bytes count as SIZE_MAX
 * apart, so that hostile input costs nothing. */
size_t ft_edit_distance(const char *a, const char *b);

/* A search over names that come from several tables. */
typedef struct {
    const char *word;
    const char *best;  /* NULL: none is near enough */
    size_t distance;
} ft_suggestion;

void ft_suggest_start(ft_suggestion *s, const char *word);
/* Offers one name.  Near enough is at most max(1, length / 3) edits and fewer than the word has
 * letters; of names equally near, the first offered wins.  NULL offers nothing. */
void ft_suggest_offer(ft_suggestion *s, const char *name);

/* The nearest of n names, or NULL. */
const char *ft_suggest(const char *word, const char *const *name, size_t n);
#endif
