/* test_pieces.c -- an experts' weight that lies in several tensors: pieces that do not make it up
 * are refused, each wrong in one point. */
#include "core/run/weights.h"
#include "harness.h"
#include "tiny.h"

/* A weight of two experts, (4, 3) each. */
static const ft_shape whole = { 3, { 2, 4, 3 } };

typedef struct { const char *tensor; int64_t expert, from, step; } piece;
static const struct {
    piece of[3];
    int64_t lines[2], length; /* of tensors a and b, and numbers in a line */
    const char *says;         /* NULL: it is whole */
} cases[] = {
    { { { "a", 0, 0, 1 }, { "b", 1, 0, 1 } }, { 4, 4 }, 3, NULL },
    { { { "a", 0, 0, 1 }, { "c", 1, 0, 1 } }, { 4, 4 }, 3, "tensor c is missing" },
    { { { "a", 0, 0, 1 }, { "b", 1, 0, 1 } }, { 4, 4 }, 6, "tensor a does not fit" },
    { { { "a", 0, 0, 0 }, { "b", 1, 0, 1 } }, { 4, 4 }, 3, "tensor a does not fit" },
    { { { "a", 0, -1, 1 }, { "b", 1, 0, 1 } }, { 4, 4 }, 3, "tensor a does not fit" },
    { { { "a", 0, 1, 1 }, { "b", 1, 0, 1 } }, { 4, 4 }, 3, "tensor a does not fit" },
    { { { "a", 0, 0, 1 }, { "b", 1, 0, 1 } }, { 4, 3 }, 3, "tensor b does not fit" },
    { { { "a", 0, 0, 1 }, { "b", 1, 0, 1 }, { "a", 1, 0, 1 } }, { 4, 4 }, 3,
      "tensor a does not fit" },
    { { { "a", 0, 0, 1 }, { "b", 0, 0, 1 } }, { 4, 4 }, 3, "tensor experts does not fit" },
    { { { "a", 0, 0, 1 }, { "b", 1, 0, 1 } }, { 3, 3 }, 3, "tensor experts does not fit" },
};

static bool piece_of(void *self, const char *weight, bool gguf, int64_t i, ft_piece *out)
{
    const piece *p = self;
    (void)gguf;
    if (strcmp(weight, "experts") || i >= 3 || !p[i].tensor) return false;
    *out = (ft_piece){ .expert = p[i].expert, .from = p[i].from, .step = p[i].step };
    snprintf(out->name, sizeof out->name, "%s", p[i].tensor);
    return true;
}

static ft_tensors *write_tensors(int i)
{
    static const char *const name[2] = { "a", "b" };
    static const float zeros[64];
    ft_err e = { 0 };
    ft_st_writer *w = ft_st_new(&e);
    for (int k = 0; k < 2; k++) {
        const int64_t dim[2] = { cases[i].lines[k], cases[i].length };
        ft_st_declare(w, name[k], FT_F32, dim, 2, &e);
    }
    tiny_must(ft_st_begin(w, tiny_path("pieces.safetensors"), 0, &e), &e);
    for (int k = 0; k < 2; k++)
        tiny_must(ft_st_write(w, k, zeros, (size_t)(cases[i].lines[k] * cases[i].length) * 4, &e),
                  &e);
    tiny_must(ft_st_commit(w, &e), &e);
    ft_st_free(w);
    ft_tensors *t = ft_tensors_open(tiny_path("pieces.safetensors"), &e);
    ck_assert_msg(t != NULL, "%s", e.msg);
    return t;
}

START_TEST(pieces)
{
    static const ft_model model = { .size = sizeof model, .piece = piece_of };
    piece of[3];
    ft_arg a;
    ft_err e = { 0 };
    memcpy(of, cases[_i].of, sizeof of);
    ft_tensors *t = write_tensors(_i);
    ft_weights w = { .base = t, .model = &model, .model_self = of, .path = "x" };
    int code = ft_weights_find(&w, "experts", &whole, &a, &e);
    const char *says = cases[_i].says;
    ck_assert_msg(says ? code == FT_EFORMAT && strstr(e.msg, says) : !code && a.packed, "%d: %s",
                  code, e.msg);
    ft_weights_free(&w);
    ft_tensors_close(t);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("pieces");
    TCase *t = tcase_create("pieces");
    tcase_add_unchecked_fixture(t, tiny_begin, tiny_end);
    tcase_add_loop_test(t, pieces, 0, sizeof cases / sizeof *cases);
    suite_add_tcase(s, t);
    return s;
}
