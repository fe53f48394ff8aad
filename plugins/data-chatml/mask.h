/* mask.h -- a row rendered, with what is trained of it. */
#ifndef CHATML_MASK_H
#define CHATML_MASK_H
#include "ft/buf.h"
#include "ft/data.h"
#include "rows.h"

enum { TRAIN_ASSISTANT, TRAIN_ALL, TRAIN_LAST };

typedef struct {
    const ft_host *host;
    const ft_template_api *api;
    ft_template *template;
    const char *bos, *eos; /* as text, "" for none */
    int train_on;
    pool *mem;
    const char *error;     /* where host->fail puts its words */
    bool no_stop;          /* some reply had nothing after it that could end it */
} renderer;

/* A rendered sequence: text, spans and what it lies in, reused from row to row. */
typedef struct {
    ft_buf text, span;
    ft_text out;
} rendered;

/* Renders dialog d of the row and sets `train` of its spans.  0, or FT_E* after host->fail(). */
int render_dialog(renderer *r, const data_row *row, const dialog *d, rendered *out);
void rendered_free(rendered *r);
#endif
