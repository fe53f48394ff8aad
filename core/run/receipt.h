/* receipt.h -- what became of a model on its way out: the output is opened again and held against
 * the model that was trained.
 *
 * Both are asked, in fp32, for the logits of the same tokens: rows that were trained or evaluated
 * on where there are some, else conversations of our own, else ids of no meaning.  Where the output
 * has words, conversations are rendered and tokenized by the model's own template and tokenizer and
 * by those that were written.  Artifact: receipt.json; published together, an object a stage. */
#ifndef FT_CORE_RECEIPT_H
#define FT_CORE_RECEIPT_H
#include "core/run/run.h"

typedef struct {
    const char *form;                   /* "BF16": what the weights are written as */
    bool lossy;
    bool accepted;                      /* `lossy: true` is written */
    bool exact;                         /* every number was kept: logits must be the same */
    double worst, relative;             /* rounding: largest change; size of all changes */
    int64_t positions, same_top;        /* where logits were compared; same likeliest token */
    int64_t apart;                      /* where they differ by more than rounding in fp32 */
    double max_difference, largest;     /* of logits: difference; magnitude, as trained */
    double kl, max_kl;                  /* trained || written, in nats: mean and largest */
    int64_t texts, same_texts;          /* conversations; of equal ids */
} ft_receipt;

/* What was written. */
typedef struct {
    const char *path; /* the model */
    const char *lora; /* a GGUF with a LoRA for it, or NULL */
} ft_written;

/* Opens what was written and fills in everything below `exact` of *out; prints it and writes
 * DIR/receipt.json.  s takes PACKED, ADAPTER, TRAINED and TOKENS as far as there are any.  An error
 * also where what should be exact is not, and where words give other ids and nobody has accepted
 * that. */
int ft_receipt_make(ft_receipt *out, ft_run *r, const ft_stage *s, const ft_written *w,
                    const char *dir, ft_err *e);
/* Fills in what logits say: p (positions, vocab) as trained, q as written. */
void ft_receipt_compare(ft_receipt *out, const float *p, const float *q, int64_t positions,
                        int64_t vocab);
/* The errors that ft_receipt_make speaks of; id: the stage's. */
int ft_receipt_judge(const ft_receipt *x, const char *id, ft_err *e);
/* receipt.json in the output folder, of all stages that have one. */
int ft_receipt_publish(ft_run *r, ft_err *e);
#endif
