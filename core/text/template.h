/* template.h -- chat templates: compile once, render many rows.
 *
 * The engine is Jinja as transformers configures it (ImmutableSandboxedEnvironment, trim_blocks,
 * lstrip_blocks, loop controls, {% generation %}).  What sets it apart is that it knows for every
 * byte it writes whether the template or the row wrote it and whose message was being rendered; so
 * loss masks and the tokenizer's special tokens need no searching in the text. */
#ifndef FT_TEXT_TEMPLATE_H
#define FT_TEXT_TEMPLATE_H
#include "core/base/err.h"
#include "ft/data.h"

/* `what` stands in messages ("chat template").  source NULL: ChatML, for models that have none.
 * NULL on errors, with line and column. */
ft_template *ft_template_compile(const char *what, const char *source, size_t n, ft_err *e);
/* As render of ft_template_api.  Errors of the template's own raise_exception are its words alone,
 * all others say the line.  Nothing of `vars` is kept. */
int ft_template_render(ft_template *t, const ft_json *vars, ft_text *out, ft_err *e);
bool ft_template_marks(const ft_template *t); /* has a {% generation %} block */
void ft_template_done(ft_template *t);        /* NULL is fine */

typedef struct { size_t begin, end; } ft_extent;
/* The {% generation %} blocks of the last rendering, ascending, also empty ones. */
size_t ft_template_generated(const ft_template *t, const ft_extent **out);
/* The bytes of the last rendering that came from the `content` of messages of the role (FT_ROLE_*),
 * ascending; neighbours are one when they come from the same message. */
size_t ft_template_contents(const ft_template *t, int role, const ft_extent **out);

/* FT_ROLE_* of the name of a role: "assistant", "model", "gpt" … */
uint8_t ft_role_of(const char *name, size_t n);

extern const ft_template_api ft_template_interface; /* "ft.template/1" */
#endif
