/* reasons.h -- why rows were left out, counted: reasons that differ in numbers and quoted text
 * alone are one. */
#ifndef CHATML_REASONS_H
#define CHATML_REASONS_H
#include <stdint.h>

enum { MAX_REASONS = 32 };

typedef struct {
    char text[MAX_REASONS][160]; /* the last is "other reasons" when there are too many */
    int64_t rows[MAX_REASONS];
    int n;
} reasons;

void reasons_add(reasons *r, const char *why);
#endif
