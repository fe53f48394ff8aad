/* harness.h -- what every test program shares: a main that runs the suite and prints Check's
 * closing line, and the folders that tests use. */
#ifndef FT_TESTS_HARNESS_H
#define FT_TESTS_HARNESS_H
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include "core/base/err.h"
#include "core/base/file.h"

/* Defined by the test program. */
static Suite *suite(void);

/* The folder of the build under test, "build" unless BUILD says otherwise. */
static inline const char *test_build(void)
{
    const char *b = getenv("BUILD");
    return b && *b ? b : "build";
}

/* Where the shared goldens lie, or NULL where they are not present (tests then print "not run:
 * …"). */
static inline const char *test_goldens(void)
{
    const char *g = getenv("FT_GOLDENS");
    if (!g || !*g) g = "../shared/goldens";
    return ft_is_dir(g) ? g : NULL;
}

int main(void)
{
    SRunner *r = srunner_create(suite());
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
#endif
