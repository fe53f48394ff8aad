/* footer.c -- the footer of a Parquet file: schema and row groups, checked against the file.
 *
 * Files in more than one piece (file_path) and encrypted ones are refused by name. */
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>
#include "parquet.h"

int file_fail(file *f, const char *fmt, ...)
{
    va_list ap;
    if (*f->error) return -1;
    va_start(ap, fmt);
    vsnprintf(f->error, sizeof f->error, fmt, ap);
    va_end(ap);
    return -1;
}

int file_read(file *f, void *out, uint64_t at, size_t n)
{
    char *to = out;
    while (n) {
        ssize_t got = pread(f->fd, to, n, (off_t)at);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0)
            return file_fail(f, "cannot be read: %s", got ? strerror(errno) : "it became shorter");
        to += got;
        at += (uint64_t)got;
        n -= (size_t)got;
    }
    return 0;
}

/* ---- what stands in it ----------------------------------------------------------------------- */

typedef struct {
    int64_t type, length, rep, children, converted;
    int64_t string, map, list, enumeration, decimal, json, float16, uuid;
    bytes name;
} element;

static const thrift_field logical_fields[] = {
    { 1, T_HAS, offsetof(element, string), NULL, NULL },
    { 2, T_HAS, offsetof(element, map), NULL, NULL },
    { 3, T_HAS, offsetof(element, list), NULL, NULL },
    { 4, T_HAS, offsetof(element, enumeration), NULL, NULL },
    { 5, T_HAS, offsetof(element, decimal), NULL, NULL },
    { 12, T_HAS, offsetof(element, json), NULL, NULL },
    { 0, T_INT, 0, NULL, NULL },
};

static const thrift_field element_fields[] = {
    { 1, T_INT, offsetof(element, type), NULL, NULL },
    { 2, T_INT, offsetof(element, length), NULL, NULL },
    { 3, T_INT, offsetof(element, rep), NULL, NULL },
    { 4, T_BYTES, offsetof(element, name), NULL, NULL },
    { 5, T_INT, offsetof(element, children), NULL, NULL },
    { 6, T_INT, offsetof(element, converted), NULL, NULL },
    { 10, T_STRUCT, 0, logical_fields, NULL },
    { 0, T_INT, 0, NULL, NULL },
};

/* A column chunk, and what says that it is elsewhere. */
typedef struct {
    chunk k;
    int64_t type;
    bytes elsewhere;
} chunk_entry;

static const thrift_field column_fields[] = {
    { 1, T_INT, offsetof(chunk_entry, type), NULL, NULL },
    { 4, T_INT, offsetof(chunk_entry, k.codec), NULL, NULL },
    { 5, T_INT, offsetof(chunk_entry, k.values), NULL, NULL },
    { 7, T_INT, offsetof(chunk_entry, k.size), NULL, NULL },
    { 9, T_INT, offsetof(chunk_entry, k.data_at), NULL, NULL },
    { 11, T_INT, offsetof(chunk_entry, k.dictionary_at), NULL, NULL },
    { 0, T_INT, 0, NULL, NULL },
};
static const thrift_field chunk_fields[] = {
    { 1, T_BYTES, offsetof(chunk_entry, elsewhere), NULL, NULL },
    { 3, T_STRUCT, 0, column_fields, NULL },
    { 0, T_INT, 0, NULL, NULL },
};

/* The whole, while it is read. */
typedef struct {
    footer *m;
    file *f;
    int64_t encrypted, group_rows;
    size_t group_columns;
} whole;

/* Passes over an item that is no struct: malformed. */
static bool is_struct(thrift *t, int type)
{
    if (type != THRIFT_STRUCT && !t->bad) t->bad = "has a list of a wrong type";
    return type == THRIFT_STRUCT && !t->bad;
}

static writing leaf_writing(const element *e)
{
    enum { UTF8 = 0, ENUM = 4, DECIMAL = 5, UINT_8 = 11, UINT_64 = 14, JSON = 19 };
    if (e->decimal || e->converted == DECIMAL || e->type == INT96 || e->type == FIXED)
        return AS_NULL;
    if (e->type != BYTE_ARRAY)
        return e->converted >= UINT_8 && e->converted <= UINT_64 ? AS_UNSIGNED : AS_NUMBER;
    bool text = e->string || e->enumeration || e->json || e->converted == UTF8 ||
                e->converted == ENUM || e->converted == JSON;
    return text ? AS_TEXT : AS_BYTES;
}

static writing group_writing(const element *e)
{
    enum { MAP = 1, MAP_KEY_VALUE = 2, LIST = 3 };
    if (e->list || e->converted == LIST) return AS_LIST;
    return e->map || e->converted == MAP || e->converted == MAP_KEY_VALUE ? AS_MAP : AS_STRUCT;
}

static void read_element(thrift *t, int type, void *out)
{
    whole *w = out;
    element e = { .type = -1, .rep = REQUIRED, .converted = -1, .name = { "", 0 } };
    if (!is_struct(t, type)) return;
    thrift_read(t, element_fields, &e);
    bool leaf = e.type >= 0;
    if (e.type >= N_PHYSICAL || e.rep < REQUIRED || e.rep > REPEATED || e.children < 0 ||
        e.children > MAX_NODES || (leaf && e.children) || e.length < 0 || e.length > MAX_ROW ||
        e.name.n > MAX_NAME ||
        w->m->node.n / sizeof(node) >= MAX_NODES) {
        if (!t->bad) t->bad = "has a schema that is wrong or too large";
        return;
    }
    node n = { .name = e.name, .rep = (repetition)e.rep, .type = (physical)(leaf ? e.type : 0),
               .length = e.length, .children = (int)e.children, .column = leaf ? 0 : -1,
               .as = leaf ? leaf_writing(&e) : group_writing(&e) };
    ft_buf_add(&w->m->node, &n, sizeof n);
}

static void read_chunk(thrift *t, int type, void *out)
{
    whole *w = out;
    chunk_entry e = { .k = { .codec = -1, .values = -1, .size = -1, .data_at = -1 }, .type = -1 };
    if (!is_struct(t, type)) return;
    thrift_read(t, chunk_fields, &e);
    if (e.elsewhere.n) file_fail(w->f, "its columns lie in other files, which is not supported");
    w->group_columns++;
    ft_buf_add(&w->m->chunk, &e.k, sizeof e.k);
}

static const thrift_field group_fields[] = {
    { 1, T_LIST, 0, NULL, read_chunk },
    { 3, T_INT, offsetof(whole, group_rows), NULL, NULL },
    { 0, T_INT, 0, NULL, NULL },
};

static void read_group(thrift *t, int type, void *out)
{
    whole *w = out;
    if (!is_struct(t, type)) return;
    w->group_columns = 0;
    w->group_rows = -1;
    thrift_read(t, group_fields, w);
    if (w->group_rows < 0 && !t->bad) t->bad = "has a row group without a number of rows";
    if (!t->bad && w->group_columns != (size_t)w->m->columns)
        file_fail(w->f, "row group %lld has %zu columns where the schema has %d",
                  (long long)w->m->groups + 1, w->group_columns, w->m->columns);
    ft_buf_add(&w->m->rows, &w->group_rows, sizeof w->group_rows);
    w->m->groups++;
}

/* ---- the schema ------------------------------------------------------------------------------ */

/* Levels, columns and ends of node i and all below it; the node behind them, or -1. */
static int place(file *f, footer *m, int i, int rep, int def, int depth)
{
    int n = (int)(m->node.n / sizeof(node));
    node *x = (node *)(void *)m->node.p + i;
    if (i >= n || depth > MAX_DEPTH)
        return file_fail(f, i >= n ? "its schema ends too early" : "its schema is nested too deep");
    bool leaf = x->column == 0;
    x->max_rep = rep += x->rep == REPEATED;
    x->max_def = def += x->rep != REQUIRED;
    x->column = m->columns;
    if (leaf) m->columns++;
    else if (x->children == 0) return file_fail(f, "its schema has an empty group");
    int at = i + 1;
    for (int k = 0; k < x->children && at > 0; k++) at = place(f, m, at, rep, def, depth + 1);
    return x->end = at;
}

/* A list or map that is not built as the format says is written as the struct that it is. */
static void check_groups(footer *m)
{
    node *x = (node *)(void *)m->node.p;
    for (size_t i = 0; i < m->node.n / sizeof *x; i++) {
        bool list = x[i].as == AS_LIST && x[i].children == 1 && x[i + 1].rep == REPEATED;
        bool map = x[i].as == AS_MAP && x[i].children == 1 && x[i + 1].rep == REPEATED &&
                   x[i + 1].children == 2 && x[i + 2].as == AS_TEXT && x[i + 2].rep == REQUIRED;
        if ((x[i].as == AS_LIST && !list) || (x[i].as == AS_MAP && !map)) x[i].as = AS_STRUCT;
    }
}

static int place_schema(whole *w)
{
    footer *m = w->m;
    node *root = (node *)(void *)m->node.p;
    if (!root) return file_fail(w->f, "its footer has no schema");
    if (root->column == 0) return file_fail(w->f, "its schema has no columns");
    root->rep = REQUIRED;
    root->as = AS_STRUCT;
    int end = place(w->f, m, 0, 0, 0, 0);
    if (end < 0) return -1;
    if ((size_t)end != m->node.n / sizeof(node)) return file_fail(w->f, "its schema has two roots");
    check_groups(m);
    return 0;
}

/* ---- the file -------------------------------------------------------------------------------- */

/* Every chunk that has values lies inside the file. */
static int check_chunks(file *f, const footer *m)
{
    const chunk *k = (const chunk *)(const void *)m->chunk.p;
    for (size_t i = 0; i < m->chunk.n / sizeof *k; i++) {
        bool first = k[i].dictionary_at > 0 && k[i].dictionary_at < k[i].data_at;
        int64_t at = first ? k[i].dictionary_at : k[i].data_at;
        if (k[i].values == 0) continue; /* nothing of it is read */
        if (at < 4 || k[i].values < 0 || (uint64_t)at > f->size ||
            (uint64_t)k[i].size > f->size - (uint64_t)at)
            return file_fail(f, "a column of row group %zu exceeds the file (cut off?)",
                             i / (size_t)m->columns + 1);
    }
    return 0;
}

/* Two readings of the footer: the schema first, as it says how many columns a row group has. */
static int read_footer(file *f, footer *m)
{
    static const thrift_field schema[] = {
        { 2, T_LIST, 0, NULL, read_element },
        { 8, T_HAS, offsetof(whole, encrypted), NULL, NULL },
        { 0, T_INT, 0, NULL, NULL },
    };
    static const thrift_field groups[] = {
        { 4, T_LIST, 0, NULL, read_group },
        { 0, T_INT, 0, NULL, NULL },
    };
    const uint8_t *p = (const uint8_t *)m->text.p;
    whole w = { .m = m, .f = f };
    thrift t = { p, p + m->text.n, NULL };
    thrift_read(&t, schema, &w);
    if (!t.bad && w.encrypted) return file_fail(f, "it is encrypted, which is not supported");
    if (!t.bad && !m->node.oom && place_schema(&w)) return -1;
    thrift again = { p, p + m->text.n, NULL };
    if (!t.bad) thrift_read(&again, groups, &w);
    const char *bad = t.bad ? t.bad : again.bad;
    if (bad) return file_fail(f, "its footer %s", bad);
    if (m->node.oom || m->chunk.oom || m->rows.oom) return file_fail(f, "out of memory");
    return *f->error ? -1 : check_chunks(f, m);
}

int footer_read(file *f, footer *m)
{
    uint8_t tail[8];
    uint32_t n;
    if (f->size < 12) return file_fail(f, "%llu bytes are too few for a Parquet file",
                                       (unsigned long long)f->size);
    if (file_read(f, tail, f->size - 8, 8)) return -1;
    memcpy(&n, tail, 4);
    if (!memcmp(tail + 4, "PARE", 4))
        return file_fail(f, "it is encrypted, which is not supported");
    if (memcmp(tail + 4, "PAR1", 4)) return file_fail(f, "it does not end as a Parquet file "
                                                         "(cut off?)");
    if (n > f->size - 12 || n > MAX_FOOTER)
        return file_fail(f, "its footer of %u bytes exceeds %s", n,
                         n > MAX_FOOTER ? "16 MiB" : "the file");
    char *at = ft_buf_grow(&m->text, n);
    if (!at) return file_fail(f, "out of memory");
    return file_read(f, at, f->size - 8 - n, n) ? -1 : read_footer(f, m);
}

void footer_free(footer *m)
{
    ft_buf_free(&m->text);
    ft_buf_free(&m->node);
    ft_buf_free(&m->chunk);
    ft_buf_free(&m->rows);
}
