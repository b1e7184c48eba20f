#include "worker/model/printable.h"

#include <string.h>

const char *printable(char out[PRINTABLE_SIZE], const char *text)
{
    size_t used = 0;
    while (text[used] != '\0' && used < PRINTABLE_SIZE - 1) {
        out[used] = text[used] >= 0x20 && text[used] < 0x7f ? text[used] : '?';
        used++;
    }
    if (text[used] != '\0') memcpy(out + used - 3, "...", 3);
    out[used] = '\0';
    return out;
}
