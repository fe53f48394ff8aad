/* wordpiece.c -- fuzzes tokenizer-wordpiece: see tokenizer.h. */
#include "tests/fuzz/tokenizer.h"
