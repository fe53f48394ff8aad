/* safetensors.c -- fuzzes the safetensors reader: what it accepts can be found and touched, and
 * lies inside the file, each byte of the data once. */
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    ft_err e = { 0 };
    ft_tensors *s = ft_tensors_parse("x.safetensors", data, n, 0, &e);
    if (!s) {
        fuzz_refused(&e);
        return 0;
    }
    uint64_t sum = 0, nonfinite;
    volatile uint8_t last = 0;
    for (size_t i = 0; i < ft_tensors_count(s); i++) {
        const ft_tensor *t = ft_tensors_at(s, i);
        fuzz_must(ft_tensors_find(s, t->name) == t, "a tensor is not found by its name");
        sum += t->bytes;
        for (uint64_t k = 0; k < t->bytes; k++) last = ((const uint8_t *)t->data)[k];
        ft_tensor_nonfinite(t, &nonfinite);
    }
    (void)last;
    fuzz_must(ft_tensors_is_gguf(s) || sum < n, "more bytes of data than the file has");
    ft_tensors_close(s);
    return 0;
}
