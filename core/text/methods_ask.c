/* methods_ask.c -- the methods of strings that answer yes or no: isalpha, isdigit, istitle … */
#include "core/text/jinja.h"
#include "core/text/textops.h"
#include "core/text/unicode.h"

/* At least one character, and every one of the kind. */
static ftj_val all_are(ftj_run *run, ftj_val self, bool (*kind)(uint32_t))
{
    const ftj_str *s = ftj_flat(run, self.s);
    for (size_t at = 0; at < s->n;) {
        if (!kind(ftj_next_char(s, &at))) return ftj_bool(false);
    }
    ftj_work(run, s->n / 16);
    return ftj_bool(s->n > 0);
}

static bool alnum(uint32_t c) { return ftj_char_alpha(c) || ftj_char_numeric(c); }
static bool ascii(uint32_t c) { return c < 0x80; }

static ftj_val m_isalnum(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    return all_are(run, self, alnum);
}

static ftj_val m_isalpha(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    return all_are(run, self, ftj_char_alpha);
}

static ftj_val m_isascii(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    return self.s->n ? all_are(run, self, ascii) : ftj_bool(true);
}

static ftj_val m_isdecimal(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    return all_are(run, self, ftj_char_decimal);
}

static ftj_val m_isdigit(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    return all_are(run, self, ftj_char_digit);
}

static ftj_val m_isnumeric(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    return all_are(run, self, ftj_char_numeric);
}

static ftj_val m_isspace(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    return all_are(run, self, ftj_char_space);
}

static ftj_val m_isprintable(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    return self.s->n ? all_are(run, self, ftj_char_printable) : ftj_bool(true);
}

static ftj_val m_islower(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    return ftj_apply(run, ftj_find(ftj_tests, "lower", 5), self, &(ftj_args){ 0 });
}

static ftj_val m_isupper(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    return ftj_apply(run, ftj_find(ftj_tests, "upper", 5), self, &(ftj_args){ 0 });
}

/* Words that begin with an upper- or titlecase letter and go on in lower case. */
static ftj_val m_istitle(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    const ftj_str *s = ftj_flat(run, self.s);
    bool any = false, word = false;
    for (size_t at = 0; at < s->n;) {
        uint32_t c = ftj_next_char(s, &at);
        bool starts = ftj_char_upper(c) || ftj_char_title(c), goes_on = ftj_char_lower(c);
        if ((starts && word) || (goes_on && !word)) return ftj_bool(false);
        word = starts || goes_on;
        any = any || word;
    }
    ftj_work(run, s->n / 16);
    return ftj_bool(any);
}

const ftj_builtin ftj_ask_methods[] = {
    { "isalnum", m_isalnum, "/", 0 },
    { "isalpha", m_isalpha, "/", 0 },
    { "isascii", m_isascii, "/", 0 },
    { "isdecimal", m_isdecimal, "/", 0 },
    { "isdigit", m_isdigit, "/", 0 },
    { "islower", m_islower, "/", 0 },
    { "isnumeric", m_isnumeric, "/", 0 },
    { "isprintable", m_isprintable, "/", 0 },
    { "isspace", m_isspace, "/", 0 },
    { "istitle", m_istitle, "/", 0 },
    { "isupper", m_isupper, "/", 0 },
    { "isidentifier", NULL, NULL, 0 }, /* Python has it; no chat template needs it */
    { 0 },
};
