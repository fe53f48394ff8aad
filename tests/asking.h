/* asking.h -- a model opened inside a test, as `pipeline generate` opens it. */
#ifndef FT_TESTS_ASKING_H
#define FT_TESTS_ASKING_H
#include "core/run/generate.h"
#include "core/run/services.h"
#include "tests/tiny.h"

typedef struct {
    ft_log log;
    ft_registry *registry;
    ft_offer offer;
    ft_lm_run lm;
    ft_asked asked;
} asking;

static inline void ask_open(asking *a, const char *model, const char *adapter, int threads)
{
    char folder[512];
    ft_err e = { 0 };
    *a = (asking){ .registry = ft_registry_new(&e) };
    ft_log_init(&a->log, stderr);
    snprintf(folder, sizeof folder, "%s/plugins", test_build());
    tiny_must(ft_registry_add(a->registry, folder, "test", &e), &e);
    a->offer = ft_run_offer(&a->log);
    tiny_must(ft_lm_open(&a->lm, a->registry, &a->offer, model, adapter, threads, &e), &e);
    a->asked = ft_asked_lm(&a->lm, FT_F32);
}

static inline void ask_close(asking *a)
{
    ft_lm_close(&a->lm);
    ft_registry_free(a->registry);
    ft_log_close(&a->log);
}
#endif
