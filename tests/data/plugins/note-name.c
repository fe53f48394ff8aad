/* note-name.c -- its note has the name of another plugin. */
#define NAME "lora"
#define ABORT_ON_LOAD
#include "base.h"
