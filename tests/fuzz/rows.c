/* rows.c -- fuzzes data-chatml: files of rows of every format.  The first byte says what the file
 * is called and how its rows are taken; the others are the file. */
#include "tests/fuzz/fuzz.h"

static const ft_source model = { .size = sizeof model, .path = "model", .bos_token = "<s>",
                                 .eos_token = "</s>" };
static const ft_source *model_of(const ft_host *h) { return h ? &model : NULL; }
static const ft_source_api source = { sizeof source, model_of };

static const struct { const char *name, *key, *value, *on_bad_row; } ways[] = {
    { "r.jsonl", "type", "auto", "skip" },
    { "r.jsonl", "type", "auto", "error" },
    { "r.csv", "type", "auto", "skip" },
    { "r.txt", "sample_by", "line", "skip" },
    { "r.txt", "sample_by", "paragraph", "skip" },
    { "r.txt", "sample_by", "document", "skip" },
    { "r.json", "tree", "all", "skip" },
    { "r.jsonl", "train_on", "last", "skip" },
};
enum { N_WAYS = sizeof ways / sizeof *ways, MAX_ROWS = 2000 };

static void check_spans(const ft_text *t)
{
    uint32_t at = 0;
    for (size_t i = 0; i < t->n_span; i++) {
        fuzz_must(t->span[i].begin == at && t->span[i].end > at, "spans leave a hole");
        at = t->span[i].end;
    }
    fuzz_must(at == t->len, "spans do not cover the text");
}

static void read_rows(ft_instance *i)
{
    const ft_format *f = ft_instance_vtable(i);
    ft_sample s;
    int got = 1;
    for (int k = 0; k < MAX_ROWS && (got = f->next(ft_instance_self(i), &s)) == 1; k++) {
        for (int q = 0; q < s.n_seq; q++) check_spans(&s.seq[q]);
    }
    if (got < 0) fuzz_plugin_refused(i, got);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static ft_service services[4];
    static ft_offer offer;
    if (!offer.n_services) {
        size_t core;
        const ft_service *s = ft_core_services(&core);
        services[offer.n_services++] = s[0];
        services[offer.n_services++] = (ft_service){ "ft.template/1", &ft_template_interface };
        services[offer.n_services++] = (ft_service){ "ft.source/1", &source };
        offer.service = services;
    }
    if (n < 1) return 0;
    size_t w = data[0] % N_WAYS;
    const char *const given[] = { "path", fuzz_file(ways[w].name, data + 1, n - 1), ways[w].key,
                                  ways[w].value, "on_bad_row", ways[w].on_bad_row, NULL };
    ft_err e = { 0 };
    void *config = fuzz_config(fuzz_plugin(), given);
    ft_instance *i = ft_instance_open(fuzz_plugin(), "rows", config, &offer, &e);
    if (i) read_rows(i);
    else fuzz_refused(&e);
    ft_instance_close(i);
    free(config);
    return 0;
}
