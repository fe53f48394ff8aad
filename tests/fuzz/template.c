/* template.c -- fuzzes the chat template engine.  Input: a template, and behind a zero byte the
 * variables as JSON; without them a conversation of ours.  Spans cover the text once, whatever was
 * rendered. */
#include "core/base/json.h"
#include "core/base/utf8.h"
#include "tests/fuzz/fuzz.h"

static const char talk[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \"be <b>brief</b>\"}, {\"role\": "
    "\"user\", \"content\": \"a\\u00e9\\n\"}, {\"role\": \"assistant\", \"content\": "
    "\"<think>\\nx\\n</think>\\n\\ny\", \"tool_calls\": [{\"function\": {\"name\": \"f\", "
    "\"arguments\": {\"x\": 1.5, \"y\": [null, true]}}}]}], \"tools\": null, \"n\": 7, "
    "\"add_generation_prompt\": true, \"bos_token\": \"<s>\", \"eos_token\": \"</s>\"}";

static void check_spans(const ft_text *t)
{
    uint32_t at = 0;
    for (size_t i = 0; i < t->n_span; i++) {
        fuzz_must(t->span[i].begin == at && t->span[i].end > at, "spans leave a hole");
        at = t->span[i].end;
    }
    fuzz_must(at == t->len, "spans do not cover the text");
}

static void render(ft_template *t, const char *vars, size_t n)
{
    ft_err e = { 0 };
    ft_text out;
    ft_json_doc *doc = ft_json_parse("vars", vars, n, &e);
    if (!doc) return;
    for (int i = 0; i < 2; i++) { /* a second rendering finds the template as it was */
        e = (ft_err){ 0 };
        if (!ft_template_render(t, ft_json_root(doc), &out, &e)) check_spans(&out);
        else fuzz_must(e.code < 0, "refused without a code");
    }
    ft_json_done(doc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    ft_err e = { 0 };
    const char *zero = n ? memchr(data, 0, n) : NULL, *text = (const char *)data;
    size_t k = zero ? (size_t)(zero - text) : n;
    ft_template *t = ft_template_compile("chat template", n ? text : "", k, &e);
    if (!t) {
        fuzz_refused(&e);
        return 0;
    }
    if (zero) render(t, zero + 1, n - k - 1);
    else render(t, talk, sizeof talk - 1);
    ft_template_done(t);
    return 0;
}
