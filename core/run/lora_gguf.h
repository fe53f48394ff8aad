/* lora_gguf.h -- a LoRA in a GGUF file, as llama.cpp loads it, turned back into PEFT's folder. */
#ifndef FT_CORE_LORA_GGUF_H
#define FT_CORE_LORA_GGUF_H
#include "core/run/model.h"

/* Writes adapter_config.json and adapter_model.safetensors into the folder `peft`, which is made.
 * plain: the model's plain build.  Every tensor of the file must belong to a linear site. */
int ft_lora_gguf_unpack(const ft_model_run *m, const ft_g *plain, const char *gguf,
                        const char *peft, ft_err *e);
#endif
