/* show.h -- tokens as pictures: a run of tokens cut into pieces of whole characters, each with the
 * class of its colour.  The report makes HTML of them, `pipeline tokenize --show` a coloured
 * terminal. */
#ifndef FT_CORE_RUN_SHOW_H
#define FT_CORE_RUN_SHOW_H
#include "core/run/tokenizer.h"

typedef enum {
    FT_SHOW_CONTEXT,  /* what the rows say, seen but not trained */
    FT_SHOW_TEMPLATE, /* what the template wrote around it, not trained */
    FT_SHOW_TRAINED,  /* carries loss */
} ft_show_class;

typedef struct {
    const char *text;    /* what the tokens add to the text before them; any bytes */
    size_t n;
    const int32_t *id;   /* [n_ids] */
    int64_t n_ids;
    ft_show_class what;
    bool special;
} ft_shown;

/* Calls put() for each piece of id[0 … most), n being the length of the document.  label: -100 or
 * below: no loss.  origin: FT_FROM_* of each token, NULL: not known.  tok NULL: ids as text. */
void ft_show_tokens(ft_tokenizer_run *tok, const int32_t *id, const int32_t *label,
                    const uint8_t *origin, int64_t n, int64_t most,
                    void (*put)(void *ctx, const ft_shown *piece), void *ctx);

/* Appends a piece for a terminal: in colours, or, without, trained text between « and », the
 * template's between ‹ and ›.  *last is the class of the piece before, -1 at the start of a row.
 * Control characters other than line break and tab are written as \x1b, so that no text can steer
 * the terminal.  ft_show_end closes what is open. */
void ft_show_terminal(ft_buf *out, const ft_shown *piece, bool color, int *last);
void ft_show_end(ft_buf *out, bool color, int *last);
#endif
