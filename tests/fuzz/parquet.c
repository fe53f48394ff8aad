/* parquet.c -- fuzzes data-parquet: the rows of whatever it opens are JSON, or refused by name. */
#include "core/base/json.h"
#include "ft/data.h"
#include "tests/fuzz/fuzz.h"

enum { MOST_ROWS = 3000 };

/* Texts that say that they are UTF-8 and are not are for the JSON reader to find. */
static void check_row(const ft_bytes *row)
{
    ft_err e = { 0 };
    ft_json_doc *d = ft_json_parse("row", row->p, row->n, &e);
    bool known = strstr(e.msg, "UTF-8") || strstr(e.msg, "duplicate key") ||
                 strstr(e.msg, "more parts than");
    fuzz_must(d || known, "a row that is no JSON");
    ft_json_done(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    ft_err e = { 0 };
    ft_instance *i = ft_instance_open(fuzz_plugin(), "rows", NULL, NULL, &e);
    fuzz_must(i != NULL, "the plugin does not open");
    const ft_table *t = ft_instance_vtable(i);
    ft_bytes row;
    int got = t->begin(ft_instance_self(i), fuzz_file("x.parquet", data, n)), rows = 0;
    if (!got) {
        while ((got = t->next(ft_instance_self(i), &row)) == 1 && rows++ < MOST_ROWS)
            check_row(&row);
    }
    if (got < 0) fuzz_plugin_refused(i, got);
    ft_instance_close(i);
    return 0;
}
