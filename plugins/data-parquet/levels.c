/* levels.c -- Parquet's hybrid of run lengths and packed numbers (Encodings.md, "RLE"), for levels,
 * indices into dictionaries and booleans:
 *
 *   run: varint header; even: header/2 times the number behind it, in (width+7)/8 bytes;
 *        odd: header/2 times eight numbers of `width` bits, the lowest bit first */
#include "parquet.h"

/* The header of a run; false when it is malformed or there is none. */
static bool next_run(runs *r)
{
    uint64_t header = 0;
    int shift = 0;
    do {
        if (r->p >= r->end || shift > 63) return false;
        header |= (uint64_t)(*r->p & 0x7f) << shift;
        shift += 7;
    } while (*r->p++ & 0x80);
    uint64_t left = (uint64_t)(r->end - r->p), size;
    r->packed = header & 1;
    r->left = header >> 1;
    if (r->packed) {
        if (!ck_mul(&size, r->left, (uint64_t)r->width)) return false;
        if (size > left) size = left; /* the last eight may be cut short */
        r->run = r->p;
        r->bit = 0;
        if (!ck_mul(&r->left, r->left, 8)) return false;
    } else {
        size = (uint64_t)(r->width + 7) / 8;
        if (size > left) return false;
        r->value = 0;
        for (uint64_t i = 0; i < size; i++) r->value |= (uint32_t)r->p[i] << 8 * i;
    }
    r->p += size;
    return true;
}

/* `width` bits from r->bit on; false past the end. */
static bool next_packed(runs *r, uint32_t *out)
{
    uint64_t v = 0, first = r->bit / 8, last = (r->bit + (uint64_t)r->width + 7) / 8;
    if (last > (uint64_t)(r->p - r->run)) return false;
    for (uint64_t i = first; i < last; i++) v |= (uint64_t)r->run[i] << 8 * (i - first);
    *out = (uint32_t)(v >> r->bit % 8 & (((uint64_t)1 << r->width) - 1));
    r->bit += (uint64_t)r->width;
    return true;
}

bool runs_next(runs *r, uint32_t *out)
{
    while (r->left == 0) {
        if (!next_run(r)) return false;
    }
    r->left--;
    if (r->packed) return next_packed(r, out);
    *out = r->value;
    return true;
}
