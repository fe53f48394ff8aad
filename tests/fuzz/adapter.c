/* adapter.c -- fuzzes the reading of a saved adapter's configuration into the parameters of the
 * lora plugin. */
#include "core/base/arena.h"
#include "core/base/json.h"
#include "core/run/adapter_file.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const ft_loaded *p = fuzz_plugin();
    ft_err e = { 0 };
    ft_arena arena = { 0 };
    fuzz_file("adapter_config.json", data, n);
    ft_json_doc *doc = ft_adapter_config(fuzz_dir(), &e);
    void *config = ft_arena_alloc(&arena, p->desc.config_size);
    int code = doc ? ft_adapter_fill(config, p, ft_json_root(doc), fuzz_dir(), &arena, &e) : -1;
    if (code) fuzz_refused(&e);
    ft_json_done(doc);
    ft_arena_free(&arena);
    return 0;
}
