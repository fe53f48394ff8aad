/* other-abi.c -- its descriptor and its note disagree. */
#define NAME "other-abi"
#define ABI { sizeof(ft_abi), 1, 0, sizeof(ft_param), sizeof(ft_host), sizeof(ft_plugin) + 8 }
#include "base.h"
