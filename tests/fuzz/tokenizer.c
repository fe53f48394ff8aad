/* tokenizer.c -- fuzzes tokenizer-bpe: see tokenizer.h. */
#include "tests/fuzz/tokenizer.h"
