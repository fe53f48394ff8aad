/* thrift.c -- see thrift.h.  Protocol: thrift/doc/specs/thrift-compact-protocol.md.  Every length
 * is held against the bytes that are left; nothing is allocated; depth is at most DEEPEST. */
#include "thrift.h"

enum { STOP, TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT };
enum { DEEPEST = 24 };

static void fail(thrift *t, const char *why)
{
    if (!t->bad) t->bad = why;
    t->p = t->end;
}

static uint8_t byte_of(thrift *t)
{
    if (t->p < t->end) return *t->p++;
    fail(t, "ends too early");
    return 0;
}

static uint64_t varint(thrift *t)
{
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        uint8_t b = byte_of(t);
        v |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80)) return v;
    }
    fail(t, "has an integer of more than 64 bits");
    return 0;
}

static int64_t zigzag(thrift *t)
{
    uint64_t v = varint(t);
    return (int64_t)(v >> 1 ^ (0 - (v & 1)));
}

static bytes binary(thrift *t)
{
    uint64_t n = varint(t);
    if (n > (uint64_t)(t->end - t->p)) {
        fail(t, "has a text that exceeds it");
        return (bytes){ "", 0 };
    }
    bytes b = { (const char *)t->p, (size_t)n };
    t->p += n;
    return b;
}

/* Header of a list or set. */
static uint64_t list_header(thrift *t, int *type)
{
    uint8_t b = byte_of(t);
    uint64_t n = b >> 4;
    *type = b & 15;
    if (n == 15) n = varint(t);
    /* An item takes a byte at least. */
    if (n > (uint64_t)(t->end - t->p)) fail(t, "has a list that exceeds it");
    return t->bad ? 0 : n;
}

static void skip(thrift *t, int type, int depth);

/* The header of a field; false at the end of the struct. */
static bool next_field(thrift *t, int *id, int *type)
{
    uint8_t b = byte_of(t);
    if (t->bad || b == STOP) return false;
    *type = b & 15;
    *id = b >> 4 ? *id + (b >> 4) : (int)(int16_t)zigzag(t);
    return !t->bad;
}

static void skip_map(thrift *t, int depth)
{
    uint64_t n = varint(t);
    if (n == 0) return;
    uint8_t types = byte_of(t);
    if (n > (uint64_t)(t->end - t->p)) fail(t, "has a map that exceeds it");
    for (uint64_t i = 0; i < n && !t->bad; i++) {
        skip(t, types >> 4, depth);
        skip(t, types & 15, depth);
    }
}

/* In lists a boolean takes a byte, as the value of a field none. */
static void skip_item(thrift *t, int type, int depth)
{
    if (type == TRUE || type == FALSE) byte_of(t);
    else skip(t, type, depth);
}

static void skip_list(thrift *t, int depth)
{
    int type;
    uint64_t n = list_header(t, &type);
    for (uint64_t i = 0; i < n && !t->bad; i++) skip_item(t, type, depth);
}

static void skip(thrift *t, int type, int depth)
{
    int id = 0, inner;
    if (depth > DEEPEST) fail(t, "is nested too deep");
    switch (type) {
    case TRUE: case FALSE: return;
    case BYTE: byte_of(t); return;
    case I16: case I32: case I64: varint(t); return;
    case DOUBLE:
        for (int i = 0; i < 8; i++) byte_of(t);
        return;
    case BINARY: binary(t); return;
    case LIST: case SET: skip_list(t, depth + 1); return;
    case MAP: skip_map(t, depth + 1); return;
    case STRUCT:
        while (next_field(t, &id, &inner)) skip(t, inner, depth + 1);
        return;
    default: fail(t, "has a field of an unknown type"); return;
    }
}

static int64_t integer(thrift *t, int type)
{
    if (type == TRUE || type == FALSE) return type == TRUE;
    return type == BYTE ? (int64_t)(int8_t)byte_of(t) : zigzag(t);
}

/* The value of a field that the table has. */
static void read_value(thrift *t, const thrift_field *f, int type, void *out)
{
    char *at = (char *)out + f->offset;
    static const uint16_t fits[] = {
        [T_INT] = 1 << TRUE | 1 << FALSE | 1 << BYTE | 1 << I16 | 1 << I32 | 1 << I64,
        [T_BYTES] = 1 << BINARY, [T_HAS] = 1 << STRUCT, [T_STRUCT] = 1 << STRUCT,
        [T_LIST] = 1 << LIST,
    };
    int of;
    if (!(fits[f->kind] >> type & 1)) {
        fail(t, "has a field of a wrong type");
        return;
    }
    if (f->kind == T_INT) *(int64_t *)(void *)at = integer(t, type);
    if (f->kind == T_BYTES) *(bytes *)(void *)at = binary(t);
    if (f->kind == T_STRUCT) thrift_read(t, f->sub, at);
    if (f->kind == T_HAS) {
        *(int64_t *)(void *)at = 1;
        skip(t, type, 0);
    }
    if (f->kind != T_LIST) return;
    uint64_t n = list_header(t, &of);
    for (uint64_t i = 0; i < n && !t->bad; i++) f->item(t, of, out);
}

void thrift_read(thrift *t, const thrift_field *table, void *out)
{
    int id = 0, type;
    while (next_field(t, &id, &type)) {
        const thrift_field *f = table;
        while (f->id && f->id != id) f++;
        if (f->id) read_value(t, f, type, out);
        else skip(t, type, 0);
    }
}
