/* half.h -- see ft/half.h. */
#include "ft/half.h"
