/* unknown.c -- see unknown.h.
 *
 * Keys follow Hugging Face, PEFT and TRL.  People arrive with files of other tools; their
 * spellings are suggested, never accepted: one spelling for one thing. */
#include "core/config/unknown.h"
#include <string.h>
#include "core/base/suggest.h"

/* Axolotl, LLaMA-Factory, torchtune, mlx-lm and friends, against ours. */
static const char *const peers[][2] = {
    { "alpha", "lora_alpha" },
    { "dropout", "lora_dropout" },
    { "lora_r", "r" },
    { "lora_rank", "r" },
    { "rank", "r" },
    { "keys", "target_modules" },
    { "lora_attn_modules", "target_modules" },
    { "lora_target", "target_modules" },
    { "lora_target_linear", "target_modules" },
    { "lora_target_modules", "target_modules" },
    { "lora_modules_to_save", "modules_to_save" },
    { "additional_target", "modules_to_save" },
    { "adapter_path", "init_adapter" },
    { "adapter_name_or_path", "init_adapter" },
    { "lora_model_dir", "init_adapter" },
    { "resume_adapter_file", "init_adapter" },
    { "bnb_4bit_use_double_quant", "double_quant" },
    { "double_quantization", "double_quant" },
    { "cutoff_len", "max_length" },
    { "max_seq_len", "max_length" },
    { "max_seq_length", "max_length" },
    { "sequence_len", "max_length" },
    { "neat_packing", "packing" },
    { "packed", "packing" },
    { "sample_packing", "packing" },
    { "data_path", "path" },
    { "dataset", "path" },
    { "datasets", "path" },
    { "test_size", "val_size" },
    { "val_set_size", "val_size" },
    { "train_on_inputs", "train_on" },
    { "batch_size", "per_device_train_batch_size" },
    { "micro_batch_size", "per_device_train_batch_size" },
    { "train_batch_size", "per_device_train_batch_size" },
    { "grad_accumulation_steps", "gradient_accumulation_steps" },
    { "accumulation_steps", "gradient_accumulation_steps" },
    { "lr", "learning_rate" },
    { "lr_schedule", "lr_scheduler_type" },
    { "lr_scheduler", "lr_scheduler_type" },
    { "scheduler", "lr_scheduler_type" },
    { "num_warmup_steps", "warmup_steps" },
    { "warmup", "warmup_steps" },
    { "epochs", "num_train_epochs" },
    { "num_epochs", "num_train_epochs" },
    { "iters", "max_steps" },
    { "optimizer", "optim" },
    { "clip_grad_norm", "max_grad_norm" },
    { "gradient_clipping", "max_grad_norm" },
    { "enable_activation_checkpointing", "gradient_checkpointing" },
    { "grad_checkpoint", "gradient_checkpointing" },
    { "steps_per_eval", "eval_steps" },
    { "save_every", "save_steps" },
    { "log_every_n_steps", "logging_steps" },
    { "steps_per_report", "logging_steps" },
    { "base_model", "model" },
    { "model_name_or_path", "model" },
    { "pretrained_model_name_or_path", "model" },
    { "out_dir", "output_dir" },
    { "output", "output_dir" },
};

/* The row of a key, or NULL. */
static const ft_param *row_of(const ft_param *params, const char *key)
{
    for (; params && params->key; params++) {
        if (!strcmp(params->key, key)) return params;
    }
    return NULL;
}

/* Whether a NULL-terminated list (or NULL) has the key. */
static bool listed(const char *const *also, const char *key)
{
    for (; also && *also; also++) {
        if (!strcmp(*also, key)) return true;
    }
    return false;
}

/* Another stage (or the top level) whose table has the key; NULL: none. */
static const ft_fill_home *home_of(const ft_fill_job *job, const char *key)
{
    for (size_t i = 0; i < job->n_home; i++) {
        if (row_of(job->home[i].params, key)) return &job->home[i];
    }
    return NULL;
}

/* Our word for another tool's, or NULL. */
static const char *peer_spelling(const char *key)
{
    for (size_t i = 0; i < sizeof peers / sizeof *peers; i++) {
        if (!strcmp(peers[i][0], key)) return peers[i][1];
    }
    return NULL;
}

/* "belongs to train-sft" */
static void write_home(ft_buf *out, const ft_fill_home *home)
{
    if (home->id) ft_buf_printf(out, "belongs to %s", home->id);
    else ft_buf_puts(out, "belongs to the top level of the file");
}

/* What the key most likely means; nothing when there is no guess. */
static void write_guess(ft_buf *out, const ft_param *params, const char *key,
                        const ft_fill_job *job)
{
    const ft_fill_home *home = home_of(job, key);
    if (home) {
        ft_buf_puts(out, "; it ");
        write_home(out, home);
        return;
    }
    const char *ours = peer_spelling(key);
    if (ours && (row_of(params, ours) || listed(job->also, ours))) {
        ft_buf_printf(out, "; it is spelled \"%s\" here", ours);
        return;
    }
    if (ours && (home = home_of(job, ours))) {
        ft_buf_printf(out, "; it is spelled \"%s\" here and ", ours);
        write_home(out, home);
        return;
    }
    ft_suggestion s;
    ft_suggest_start(&s, key);
    for (const ft_param *p = params; p && p->key; p++) ft_suggest_offer(&s, p->key);
    for (const char *const *a = job->also; a && *a; a++) ft_suggest_offer(&s, *a);
    if (s.best) ft_buf_printf(out, "; did you mean \"%s\"?", s.best);
}

void ft_report_unknown(const ft_param *params, const ft_yaml *v, const ft_fill_job *job)
{
    ft_buf guess = { 0 };
    const char *who = job->who ? job->who : "the top level of the file";
    if (!ft_diags_full(job->diags)) write_guess(&guess, params, v->key, job);
    ft_diag(job->diags, v->key_at, "unknown key \"%.64s\" for %s%s", v->key, who,
            guess.p ? guess.p : "");
    ft_buf_free(&guess);
}
