/* roles.c -- see roles.h.  A new role is a new row here, beside its header in include/ft.
 *
 * Functions that their header calls optional are not listed.  `first` is the size of the vtable
 * when its role was first released: all are of this release, so it is the size now; when a member
 * is appended, the old size stays here as a number. */
#include "core/load/roles.h"
#include <string.h>
#include "ft/adapter.h"
#include "ft/data.h"
#include "ft/evaluate.h"
#include "ft/export.h"
#include "ft/kernel.h"
#include "ft/model.h"
#include "ft/quant.h"
#include "ft/train.h"

/* ---- what the host calls, and reads, without asking ------------------------------------------ */

static const ft_role_member format[] = { { "next", offsetof(ft_format, next) }, { 0 } };
static const ft_role_argument format_args[] = {
    { "val_size", FT_REAL, offsetof(ft_data_args, val_size) }, { 0 },
};

static const ft_role_member table[] = {
    { "claims", offsetof(ft_table, claims) },
    { "begin", offsetof(ft_table, begin) },
    { "next", offsetof(ft_table, next) },
    { 0 },
};

static const ft_role_member filter[] = { { "keep", offsetof(ft_filter, keep) }, { 0 } };

static const ft_role_member mixer[] = {
    { "begin", offsetof(ft_mixer, begin) }, { "next", offsetof(ft_mixer, next) }, { 0 },
};
static const ft_role_argument mixer_args[] = {
    { "weights", FT_MAP, offsetof(ft_mix_args, weights) }, { 0 },
};

static const ft_role_member tokens[] = {
    { "shape", offsetof(ft_token_source, shape) }, { "row", offsetof(ft_token_source, row) }, { 0 },
};

static const ft_role_member tokenizer[] = {
    { "claims", offsetof(ft_tokenizer, claims) },
    { "load", offsetof(ft_tokenizer, load) },
    { "encoder", offsetof(ft_tokenizer, encoder) },
    { "encoder_done", offsetof(ft_tokenizer, encoder_done) },
    { "encode", offsetof(ft_tokenizer, encode) },
    { "decode", offsetof(ft_tokenizer, decode) },
    { "token", offsetof(ft_tokenizer, token) },
    { "find", offsetof(ft_tokenizer, find) },
    { "special", offsetof(ft_tokenizer, special) },
    { 0 },
};
static const ft_role_argument tokenizer_args[] = {
    { "max_length", FT_INT, offsetof(ft_tokenizer_args, max_length) },
    { "packing", FT_BOOL, offsetof(ft_tokenizer_args, packing) },
    { "on_overlong", FT_STR, offsetof(ft_tokenizer_args, on_overlong) },
    { "allow_special_in_data", FT_BOOL, offsetof(ft_tokenizer_args, allow_special_in_data) },
    { "allow_double_bos", FT_BOOL, offsetof(ft_tokenizer_args, allow_double_bos) },
    { 0 },
};

static const ft_role_member model[] = {
    { "claims", offsetof(ft_model, claims) },
    { "load", offsetof(ft_model, load) },
    { "build", offsetof(ft_model, build) },
    { 0 },
};

static const ft_role_member adapter[] = {
    { "peft_type", offsetof(ft_adapter, peft_type) },
    { "apply", offsetof(ft_adapter, apply) },
    { 0 },
};
static const ft_role_argument adapter_args[] = {
    { "target_modules", FT_STR_OR_LIST, offsetof(ft_targets, target_modules) },
    { "exclude_modules", FT_STR_OR_LIST, offsetof(ft_targets, exclude_modules) },
    { "layers_to_transform", FT_INTS, offsetof(ft_targets, layers_to_transform) },
    { "modules_to_save", FT_LIST, offsetof(ft_targets, modules_to_save) },
    { "bias", FT_STR, offsetof(ft_targets, bias) },
    { "init_adapter", FT_PATH, offsetof(ft_targets, init_adapter) },
    { 0 },
};

static const ft_role_member quantizer[] = {
    { "scheme", offsetof(ft_quantizer, scheme) },
    { "parts", offsetof(ft_quantizer, parts) },
    { "open", offsetof(ft_quantizer, open) },
    { 0 },
};

static const ft_role_member trainer[] = { { "loss", offsetof(ft_trainer, loss) }, { 0 } };
static const ft_role_argument trainer_args[] = {
    { "per_device_train_batch_size", FT_INT, offsetof(ft_train_args, per_device_train_batch_size) },
    { "gradient_accumulation_steps", FT_INT, offsetof(ft_train_args, gradient_accumulation_steps) },
    { "num_train_epochs", FT_REAL, offsetof(ft_train_args, num_train_epochs) },
    { "max_steps", FT_INT, offsetof(ft_train_args, max_steps) },
    { "learning_rate", FT_REAL, offsetof(ft_train_args, learning_rate) },
    { "lr_scheduler_type", FT_STR, offsetof(ft_train_args, lr_scheduler_type) },
    { "lr_scheduler_kwargs", FT_MAP, offsetof(ft_train_args, lr_scheduler_kwargs) },
    { "warmup_ratio", FT_REAL, offsetof(ft_train_args, warmup_ratio) },
    { "warmup_steps", FT_INT, offsetof(ft_train_args, warmup_steps) },
    { "optim", FT_STR, offsetof(ft_train_args, optim) },
    { "optim_args", FT_MAP, offsetof(ft_train_args, optim_args) },
    { "weight_decay", FT_REAL, offsetof(ft_train_args, weight_decay) },
    { "decay_all", FT_BOOL, offsetof(ft_train_args, decay_all) },
    { "adam_beta1", FT_REAL, offsetof(ft_train_args, adam_beta1) },
    { "adam_beta2", FT_REAL, offsetof(ft_train_args, adam_beta2) },
    { "adam_epsilon", FT_REAL, offsetof(ft_train_args, adam_epsilon) },
    { "max_grad_norm", FT_REAL, offsetof(ft_train_args, max_grad_norm) },
    { "compute_dtype", FT_STR, offsetof(ft_train_args, compute_dtype) },
    { "gradient_checkpointing", FT_STR, offsetof(ft_train_args, gradient_checkpointing) },
    { "shuffle", FT_BOOL, offsetof(ft_train_args, shuffle) },
    { "per_device_eval_batch_size", FT_INT, offsetof(ft_train_args, per_device_eval_batch_size) },
    { "eval_steps", FT_INT, offsetof(ft_train_args, eval_steps) },
    { "save_steps", FT_INT, offsetof(ft_train_args, save_steps) },
    { "save_total_limit", FT_INT, offsetof(ft_train_args, save_total_limit) },
    { "early_stopping_patience", FT_INT, offsetof(ft_train_args, early_stopping_patience) },
    { "logging_steps", FT_INT, offsetof(ft_train_args, logging_steps) },
    { 0 },
};

static const ft_role_member evaluator[] = { { "run", offsetof(ft_evaluator, run) }, { 0 } };
static const ft_role_argument evaluator_args[] = {
    { "max_new_tokens", FT_INT, offsetof(ft_evaluate_args, max_new_tokens) },
    { "compute_dtype", FT_STR, offsetof(ft_evaluate_args, compute_dtype) },
    { 0 },
};

static const ft_role_member optimizer[] = {
    { "states", offsetof(ft_optimizer, states) },
    { "update", offsetof(ft_optimizer, update) },
    { 0 },
};

static const ft_role_member schedule[] = {
    { "names", offsetof(ft_schedule, names) },
    { "kwargs", offsetof(ft_schedule, kwargs) },
    { "factor", offsetof(ft_schedule, factor) },
    { 0 },
};

static const ft_role_member backend[] = {
    { "variants", offsetof(ft_backend, variants) },
    { "kernels", offsetof(ft_backend, kernels) },
    { "enter", offsetof(ft_backend, enter) },
    { "self_test", offsetof(ft_backend, self_test) },
    { 0 },
};

static const ft_role_member merger[] = { { 0 } };
static const ft_role_argument merger_args[] = { { "base", FT_STR, offsetof(ft_merge_args, base) },
                                                { 0 } };

static const ft_role_member exporter[] = { { "write", offsetof(ft_exporter, write) }, { 0 } };

/* ---- the roles ------------------------------------------------------------------------------- */

static const ft_role roles[] = {
    { "ft.format/1", sizeof(ft_format), 32, format, format_args, offsetof(ft_format, args), 0 },
    { "ft.table/1", sizeof(ft_table), sizeof(ft_table), table, NULL, 0, 0 },
    { "ft.filter/1", sizeof(ft_filter), sizeof(ft_filter), filter, NULL, 0, 0 },
    { "ft.mixer/1", sizeof(ft_mixer), sizeof(ft_mixer), mixer, mixer_args, offsetof(ft_mixer, args),
      0 },
    { "ft.tokens/1", sizeof(ft_token_source), sizeof(ft_token_source), tokens, NULL, 0, 0 },
    { "ft.tokenizer/1", sizeof(ft_tokenizer), sizeof(ft_tokenizer), tokenizer, tokenizer_args,
      offsetof(ft_tokenizer, args), 0 },
    { "ft.model/1", sizeof(ft_model), sizeof(ft_model), model, NULL, 0, 0 },
    { "ft.adapter/1", sizeof(ft_adapter), sizeof(ft_adapter), adapter, adapter_args,
      offsetof(ft_adapter, targets), 0 },
    { "ft.quantizer/1", sizeof(ft_quantizer), sizeof(ft_quantizer), quantizer, NULL, 0,
      offsetof(ft_quantizer, skip_modules) },
    { "ft.trainer/1", sizeof(ft_trainer), sizeof(ft_trainer), trainer, trainer_args,
      offsetof(ft_trainer, args), 0 },
    { "ft.evaluator/1", sizeof(ft_evaluator), sizeof(ft_evaluator), evaluator, evaluator_args,
      offsetof(ft_evaluator, args), 0 },
    { "ft.optimizer/1", sizeof(ft_optimizer), sizeof(ft_optimizer), optimizer, NULL, 0, 0 },
    { "ft.schedule/1", sizeof(ft_schedule), sizeof(ft_schedule), schedule, NULL, 0, 0 },
    { "ft.merger/1", sizeof(ft_merger), sizeof(ft_merger), merger, merger_args,
      offsetof(ft_merger, args), 0 },
    { "ft.exporter/1", sizeof(ft_exporter), sizeof(ft_exporter), exporter, NULL, 0, 0 },
    { "ft.backend/1", sizeof(ft_backend), sizeof(ft_backend), backend, NULL, 0, 0 },
};

const ft_role *ft_role_at(size_t i) { return i < sizeof roles / sizeof *roles ? &roles[i] : NULL; }

const ft_role *ft_role_find(const char *name)
{
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        if (!strcmp(roles[i].name, name)) return &roles[i];
    }
    return NULL;
}
