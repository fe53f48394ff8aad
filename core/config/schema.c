/* schema.c -- a parameter table as JSON schema (see canon.h). */
#include <stdlib.h>
#include "core/base/json.h"
#include "core/config/canon.h"
#include "core/config/fill.h"

static void write_text(ft_buf *out, const char *s) { ft_json_quote(out, s, strlen(s)); }

/* ", name: v"; a whole number without a point. */
static void write_limit(ft_buf *out, const char *name, double v)
{
    ft_buf_printf(out, ", \"%s\": ", name);
    ft_json_real(out, v);
}

/* The members of one scalar's schema, without braces. */
static void write_scalar(ft_buf *out, const char *type, const ft_param *row)
{
    ft_buf_printf(out, "\"type\": \"%s\"", type);
    if (ft_kind_is_number(row->kind) && ft_param_ranged(row)) {
        write_limit(out, "minimum", row->min);
        write_limit(out, "maximum", row->max);
    }
    if (!row->choices) return;
    ft_buf_puts(out, ", \"enum\": [");
    for (size_t i = 0; row->choices[i]; i++) {
        if (i) ft_buf_puts(out, ", ");
        write_text(out, row->choices[i]);
    }
    ft_buf_putc(out, ']');
}

/* The type of a row: its scalar's schema, in an array or object where the kind is one. */
static void write_type(ft_buf *out, const ft_param *row)
{
    /* {} stands for the scalar's schema. */
    static const struct { const char *before, *scalar, *after; } types[] = {
        [FT_INT] = { "", "integer", "" },
        [FT_REAL] = { "", "number", "" },
        [FT_BOOL] = { "", "boolean", "" },
        [FT_STR] = { "", "string", "" },
        [FT_PATH] = { "", "string", "" },
        [FT_LIST] = { "\"type\": \"array\", \"items\": {", "string", "}" },
        [FT_INTS] = { "\"type\": \"array\", \"items\": {", "integer", "}" },
        [FT_MAP] = { "\"type\": \"object\", \"additionalProperties\": {", "number", "}" },
    };
    if (row->kind == FT_STR_OR_LIST) {
        ft_buf_puts(out, "\"anyOf\": [{");
        write_scalar(out, "string", row);
        ft_buf_puts(out, "}, {\"type\": \"array\", \"items\": {");
        write_scalar(out, "string", row);
        ft_buf_puts(out, "}}]");
        return;
    }
    ft_buf_puts(out, types[row->kind].before);
    write_scalar(out, types[row->kind].scalar, row);
    ft_buf_puts(out, types[row->kind].after);
}

/* The default as JSON.  Canonical text is JSON already, but for escaped dollars, which a schema
 * shows as they are written. */
static void write_default(ft_buf *out, const ft_param *row)
{
    ft_arena a = { 0 };
    ft_diags d = { 0 };
    ft_fill_job job = { .arena = &a, .diags = &d, .flags = FT_FILL_NO_PATHS };
    ft_param here = *row;
    _Alignas(max_align_t) char config[64] = { 0 }; /* the largest kind has 24 bytes */
    here.offset = 0;
    if (row->def && ft_config_fill_default(config, &here, &job) == 0) {
        ft_buf_puts(out, ", \"default\": ");
        ft_canon_value(out, &here, config);
    }
    out->oom |= a.oom;
    ft_arena_free(&a);
    ft_diags_free(&d);
}

void ft_schema_write(ft_buf *out, const char *title, const char *summary, const ft_param *params)
{
    bool first = true;
    ft_buf_puts(out, "{\n  \"$schema\": \"https://json-schema.org/draft/2020-12/schema\",\n"
                     "  \"title\": ");
    write_text(out, title);
    ft_buf_puts(out, ",\n  \"description\": ");
    write_text(out, summary);
    ft_buf_puts(out, ",\n  \"type\": \"object\",\n  \"additionalProperties\": false,\n"
                     "  \"properties\": {");
    for (const ft_param *row = params; row && row->key; row++) {
        ft_buf_puts(out, row == params ? "\n    " : ",\n    ");
        write_text(out, row->key);
        ft_buf_puts(out, ": {");
        write_type(out, row);
        write_default(out, row);
        ft_buf_puts(out, ", \"description\": ");
        write_text(out, row->help);
        ft_buf_putc(out, '}');
    }
    ft_buf_puts(out, "\n  },\n  \"required\": [");
    for (const ft_param *row = params; row && row->key; row++) {
        if (row->def) continue;
        if (!first) ft_buf_puts(out, ", ");
        write_text(out, row->key);
        first = false;
    }
    ft_buf_puts(out, "]\n}\n");
}
