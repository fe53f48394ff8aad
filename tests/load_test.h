/* load_test.h -- what the tests of the plugin loader share: the built test plugins, a folder of the
 * test's own, a registry. */
#ifndef FT_TESTS_LOAD_TEST_H
#define FT_TESTS_LOAD_TEST_H
#include <sys/stat.h>
#include "core/load/registry.h"
#include "harness.h"

static char so_dir[4096]; /* BUILD/tests/so */
static char dir[64];      /* a folder of this test */

static inline void make_dir(void)
{
    snprintf(so_dir, sizeof so_dir, "%s/tests/so", test_build());
    snprintf(dir, sizeof dir, "/tmp/ft-load-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    unsetenv("PIPELINE_PLUGIN_PATH");
}
static inline void remove_dir(void) { ft_remove_tree(dir, NULL); }

static inline const char *in_dir(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static inline void put(const char *name, const void *p, size_t n)
{
    ft_err e = { 0 };
    ck_assert_msg(!ft_file_write(in_dir(name), p, n, &e), "%s", e.msg);
    ck_assert_int_eq(chmod(in_dir(name), 0755), 0);
}

static inline ft_registry *registry(const char *folder)
{
    ft_err e = { 0 };
    ft_registry *r = ft_registry_new(&e);
    ck_assert_msg(!ft_registry_add(r, folder, "--plugin-dir", &e), "%s", e.msg);
    return r;
}
#endif
