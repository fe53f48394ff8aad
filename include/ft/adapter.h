/* ft/adapter.h -- role "ft.adapter/1": a method that rewrites sites of a frozen model.
 *
 * An adapter is one function: given a site and the value that enters it, return what leaves it.
 * It calls the base itself (ft_base), so scaling an input (IA3), a second pass (DoRA with dropout)
 * and an addition (LoRA) are the same kind of thing.  Gradients, merging and the files follow. */
#ifndef FT_ADAPTER_H
#define FT_ADAPTER_H
#include "ft/graph.h"

/* Which modules: PEFT's meaning and spelling.  Embed and add FT_TARGET_PARAMS(config, member). */
typedef struct {
    ft_list target_modules;      /* list: exact names or ends after a dot; string: a regular
                                    expression for the whole name, or "all-linear" */
    ft_list exclude_modules;     /* likewise */
    ft_ints layers_to_transform; /* empty: all layers */
    ft_list modules_to_save;     /* trained whole, beside the adapter */
    ft_list target_parameters;   /* experts' tensors (FT_SITE_GROUPED), likewise by names or ends;
                                    layers_to_transform does not concern them */
    const char *bias;            /* none | all | lora_only: which biases of the base are trained */
    const char *init_adapter;    /* a PEFT folder to start from: weights and configuration */
} ft_targets;
#define FT_TARGET_PARAMS(config, m)                                                               \
    { "target_modules", FT_STR_OR_LIST, offsetof(config, m.target_modules), "all-linear", 0, 0, 0, \
      "modules to adapt: names, a regular expression, or all-linear" },                           \
    { "exclude_modules", FT_STR_OR_LIST, offsetof(config, m.exclude_modules), "", 0, 0, 0,         \
      "modules to leave out: names or a regular expression" },                                    \
    { "layers_to_transform", FT_INTS, offsetof(config, m.layers_to_transform), "", 0, 1e6, 0,      \
      "numbers of the layers to adapt; empty: all" },                                             \
    { "modules_to_save", FT_LIST, offsetof(config, m.modules_to_save), "", 0, 0, 0,                \
      "modules that are trained whole and saved with the adapter" },                              \
    { "target_parameters", FT_LIST, offsetof(config, m.target_parameters), "", 0, 0, 0,            \
      "experts' tensors to adapt: names, or their ends, such as mlp.experts.gate_up_proj" },       \
    { "bias", FT_STR, offsetof(config, m.bias), "none", 0, 0,                                      \
      (const char *const[]){ "none", "all", "lora_only", 0 }, "biases of the base to train" },    \
    { "init_adapter", FT_PATH, offsetof(config, m.init_adapter), "", 0, 0, 0,                      \
      "PEFT adapter folder to start from; its configuration wins" }

typedef struct {
    uint32_t size;
    uint32_t sites;        /* FT_SITE_* it rewrites */
    size_t targets;        /* offset of ft_targets in the config struct */
    const char *peft_type; /* adapter_config.json: "LORA" */
    ft_val (*apply)(void *self, ft_graph *, const ft_site *, ft_val x);
    /* Keys of adapter_config.json that the config struct's own table does not give: JSON members
     * without braces ("\"use_dora\": true"); NULL: none. */
    const char *(*peft_extra)(void *self);
    int64_t (*virtual_tokens)(void *self); /* prompt tuning: ids -1 … -n in front; NULL: 0 */
    int64_t (*first_position)(void *self); /* prefix tuning: position of the first token; NULL: 0 */
} ft_adapter;
#endif
