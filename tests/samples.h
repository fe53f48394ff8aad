/* samples.h -- samples made by hand for tests of filters: a conversation in few words. */
#ifndef FT_TESTS_SAMPLES_H
#define FT_TESTS_SAMPLES_H
#include "ft/buf.h"
#include "ft/data.h"

typedef struct {
    ft_buf text, span;
    ft_sample sample;
} made_sample;

static inline void made_span(made_sample *m, const char *text, int32_t turn, int role, int from,
                             bool train)
{
    ft_span s = { .begin = (uint32_t)m->text.n,
                  .turn = turn,
                  .role = (uint8_t)role,
                  .from = (uint8_t)from,
                  .train = train };
    ft_buf_puts(&m->text, text);
    s.end = (uint32_t)m->text.n;
    if (s.end > s.begin) ft_buf_add(&m->span, &s, sizeof s);
}

/* turns: "u:question", "a:answer", "s:system", "t:tool" one after the other, NULL at the end; each
 * is written as "<x>text<e>".  Valid until the next call with the same m. */
static inline const ft_sample *make_sample(made_sample *m, const char *const *turns)
{
    m->text.n = m->span.n = 0;
    for (int32_t i = 0; turns[i]; i++) {
        int role = *turns[i] == 'u'   ? FT_ROLE_USER
                   : *turns[i] == 'a' ? FT_ROLE_ASSISTANT
                   : *turns[i] == 's' ? FT_ROLE_SYSTEM
                                      : FT_ROLE_TOOL;
        bool train = role == FT_ROLE_ASSISTANT;
        made_span(m, "<x>", i, role, FT_FROM_TEMPLATE, false);
        made_span(m, turns[i] + 2, i, role, FT_FROM_DATA, train);
        made_span(m, "<e>", i, role, FT_FROM_TEMPLATE, train);
    }
    m->sample = (ft_sample){ .file = "", .line = 1, .n_seq = 1 };
    m->sample.seq[0] = (ft_text){ m->text.p ? m->text.p : "", m->text.n,
                                  (const ft_span *)(const void *)m->span.p,
                                  m->span.n / sizeof(ft_span) };
    return &m->sample;
}

static inline void free_sample(made_sample *m)
{
    ft_buf_free(&m->text);
    ft_buf_free(&m->span);
}
#endif
