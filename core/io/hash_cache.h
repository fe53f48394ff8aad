/* hash_cache.h -- SHA-256 of files, remembered, so that a start does not read gigabytes.
 *
 * A hash is remembered under (device, inode, size, time of change, time of status change) of the
 * file.  The memory is a small text file whose place the caller gives (in a folder that exists);
 * when it is missing, damaged or cannot be written, files are simply read again. */
#ifndef FT_CORE_HASH_CACHE_H
#define FT_CORE_HASH_CACHE_H
#include "core/base/err.h"

/* SHA-256 of a regular file as 64 hexadecimal digits.  `cache` is the memory's path, or NULL for
 * none.  *read, when not NULL, grows by the bytes that had to be read: 0 when remembered. */
int ft_hash_file(char out[65], const char *path, const char *cache, uint64_t *read, ft_err *e);

/* One hash of everything that a model consists of: the GGUF file, or the configuration, tokenizer,
 * template and weight files of a Hugging Face folder (names and contents; other files do not
 * count).  An error when there is nothing of the kind. */
int ft_hash_model(char out[65], const char *path, const char *cache, uint64_t *read, ft_err *e);
#endif
