/* folder.h -- a fresh folder for each test of a program, and paths in it. */
#ifndef FT_TESTS_FOLDER_H
#define FT_TESTS_FOLDER_H
#include <unistd.h>
#include "tests/harness.h"

static char dir[64]; /* a folder for this test */

static inline void make_dir(void)
{
    snprintf(dir, sizeof dir, "/tmp/ft-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static inline void remove_dir(void) { ck_assert_int_eq(ft_remove_tree(dir, NULL), 0); }

/* Valid for the next four calls. */
static inline const char *in_dir(const char *name)
{
    static char path[4][256];
    static int next;
    next = (next + 1) % 4;
    snprintf(path[next], sizeof path[next], "%s/%s", dir, name);
    return path[next];
}

static inline ft_buf read_whole(const char *path)
{
    ft_buf b = { 0 };
    ft_err e = { 0 };
    ck_assert_msg(ft_file_read(&b, path, 1 << 20, &e) == 0, "%s", e.msg);
    return b;
}
#endif
