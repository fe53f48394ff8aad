/* reasons.c -- see reasons.h. */
#include "reasons.h"
#include <stdio.h>
#include <string.h>

/* Copies `why` with "#" for numbers and "…" for what is quoted. */
static void general(char *out, size_t size, const char *why)
{
    size_t n = 0;
    while (*why && n + 4 < size) {
        if (*why >= '0' && *why <= '9') {
            out[n++] = '#';
            while (*why >= '0' && *why <= '9') why++;
        } else if (*why == '"' && strchr(why + 1, '"')) {
            memcpy(out + n, "…", 3);
            n += 3;
            why = strchr(why + 1, '"') + 1;
        } else {
            out[n++] = *why++;
        }
    }
    while (n && (out[n - 1] & 0xC0) == 0x80 && *why) n--; /* no half character at a cut */
    if (n && *why && (out[n - 1] & 0x80)) n--;
    out[n] = 0;
}

void reasons_add(reasons *r, const char *why)
{
    char text[sizeof r->text[0]];
    general(text, sizeof text, why);
    for (int i = 0; i < r->n; i++) {
        if (!strcmp(r->text[i], text)) {
            r->rows[i]++;
            return;
        }
    }
    int at = r->n < MAX_REASONS ? r->n++ : MAX_REASONS - 1;
    snprintf(r->text[at], sizeof r->text[at], "%s", at == MAX_REASONS - 1 ? "other reasons" : text);
    r->rows[at]++;
}
