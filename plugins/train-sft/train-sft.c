/* train-sft.c -- supervised fine-tuning: the cross-entropy of every trained token.
 *
 *   loss = - sum log p(next token | tokens before) / number of trained tokens of the optimizer step
 *
 * Which tokens are trained is decided where the data is rendered; the division is the core's, over
 * all micro-batches of a step, so that accumulation and packing change nothing. */
#include "ft/train.h"

typedef struct { ft_train_args args; } config;

static const ft_param params[] = {
    FT_TRAIN_PARAMS(config, args),
    { 0 }
};

static ft_val loss(void *self, ft_graph *g, const ft_lm *lm)
{
    (void)self;
    return ft_scale(g, ft_logprob(g, lm->logits, lm->targets), -1);
}

static const ft_trainer trainer = {
    .size = sizeof trainer, .args = offsetof(config, args), .n_seq = 1, .loss = loss,
};
static const ft_plugin plugin = {
    .abi = FT_ABI_INIT, .role = "ft.trainer/1", .name = "train-sft", .version = "0.1.0",
    .summary = "supervised fine-tuning on the trained tokens of each row", .params = params,
    .config_size = sizeof(config), .vtable = &trainer,
};
FT_PLUGIN(plugin, "train-sft")
