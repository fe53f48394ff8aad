/* descriptor-name.c -- its descriptor has another name than its note. */
#define NAME "descriptor-name"
#define DESCRIPTOR_NAME "other"
#include "base.h"
