#include <stdio.h>
int main(void) { puts("pipeline"); return 0; }
