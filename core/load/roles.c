/* roles.c -- see roles.h.  A new role is a new row here, beside its header in include/ft. */
#include "core/load/roles.h"
#include <string.h>
#include "ft/data.h"

static const ft_role roles[] = {
    { "ft.format/1", sizeof(ft_format), sizeof(ft_format),
      { { "next", offsetof(ft_format, next) } },
      offsetof(ft_format, args),
      { { "val_size", FT_REAL, offsetof(ft_data_args, val_size) } } },
    { "ft.tokens/1", sizeof(ft_token_source), sizeof(ft_token_source),
      { { "shape", offsetof(ft_token_source, shape) }, { "row", offsetof(ft_token_source, row) } },
      0, { { 0 } } },
    { "ft.tokenizer/1", sizeof(ft_tokenizer), sizeof(ft_tokenizer),
      { { "claims", offsetof(ft_tokenizer, claims) },
        { "load", offsetof(ft_tokenizer, load) },
        { "encoder", offsetof(ft_tokenizer, encoder) },
        { "encoder_done", offsetof(ft_tokenizer, encoder_done) },
        { "encode", offsetof(ft_tokenizer, encode) },
        { "decode", offsetof(ft_tokenizer, decode) },
        { "token", offsetof(ft_tokenizer, token) },
        { "find", offsetof(ft_tokenizer, find) },
        { "special", offsetof(ft_tokenizer, special) } },
      offsetof(ft_tokenizer, args),
      { { "max_length", FT_INT, offsetof(ft_tokenizer_args, max_length) },
        { "packing", FT_BOOL, offsetof(ft_tokenizer_args, packing) },
        { "on_overlong", FT_STR, offsetof(ft_tokenizer_args, on_overlong) },
        { "allow_special_in_data", FT_BOOL, offsetof(ft_tokenizer_args, allow_special_in_data) },
        { "allow_double_bos", FT_BOOL, offsetof(ft_tokenizer_args, allow_double_bos) } } },
};

const ft_role *ft_role_at(size_t i) { return i < sizeof roles / sizeof *roles ? &roles[i] : NULL; }

const ft_role *ft_role_find(const char *name)
{
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        if (!strcmp(roles[i].name, name)) return &roles[i];
    }
    return NULL;
}
