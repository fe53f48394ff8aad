/* unigram.c -- fuzzes tokenizer-unigram: see tokenizer.h. */
#include "tests/fuzz/tokenizer.h"
