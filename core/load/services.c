/* services.c -- the interfaces of the core that need no run (instance.h). */
#include "core/base/json.h"
#include "core/load/instance.h"

/* The reader's error becomes the instance's. */
static ft_json_doc *json_parse(const ft_host *h, const char *what, const char *text, size_t n)
{
    ft_err e = { 0 };
    ft_json_doc *doc = ft_json_parse(what, text, n, &e);
    if (!doc) h->fail(h, e.code, "%s", e.msg);
    return doc;
}

static const ft_json_api json = {
    sizeof(ft_json_api), json_parse, ft_json_root, ft_json_done, ft_json_as_int, ft_json_as_real,
};

const ft_service *ft_core_services(size_t *n)
{
    static const ft_service services[] = { { "ft.json/1", &json } };
    *n = sizeof services / sizeof *services;
    return services;
}
