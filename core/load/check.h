/* check.h -- whether a plugin fits this program: ABI numbers, descriptor, role, parameter table.
 *
 * Rules for structs (ft/plugin.h): same major; fields are only appended.  A struct that is as large
 * as ours or smaller, down to its first release, is read; what it lacks counts as zero.  A larger
 * one, or a newer minor, belongs to a newer program and is refused. */
#ifndef FT_CORE_CHECK_H
#define FT_CORE_CHECK_H
#include "core/base/arena.h"
#include "core/base/err.h"

/* The numbers that the note and the descriptor's ABI block both carry. */
typedef struct { uint32_t major, minor, param, host, plugin; } ft_abi_numbers;

/* This program's, and the smallest sizes there ever were with this major. */
extern const ft_abi_numbers ft_abi_ours, ft_abi_first;

/* what: the file.  The message names the field, both values and the remedy. */
int ft_abi_check(const ft_abi_numbers *theirs, const ft_abi_numbers *ours,
                 const ft_abi_numbers *first, const char *what, ft_err *e);

/* Checks a descriptor whose ABI block has passed: name, texts, sizes, role, vtable.  name: as
 * asked for. */
int ft_descriptor_check(const ft_plugin *p, const char *name, const char *what, ft_err *e);

/* Copies a table of rows that are `stride` bytes apart into ours (never NULL, ends with a row
 * without key) and checks it: keys, kinds, offsets inside the config struct, ranges, choices, and
 * that each default is a value of its own row. */
int ft_params_take(const ft_param **out, ft_arena *a, const ft_plugin *p, size_t stride,
                   const char *what, ft_err *e);

/* Whether the parameters that the host reads itself (ft_role.shared) lie where the vtable says. */
int ft_shared_check(const ft_plugin *p, const ft_param *params, const char *what, ft_err *e);
#endif
