/* CRC-32C over token ids: the SSE4.2 instruction where the processor has it, else a table that
 * takes one id (four bytes) a step. */
#include <threads.h>

#include "proto/envelope.h"

#define POLYNOMIAL 0x82f63b78u /* Castagnoli's, reflected */

/* table[k][b]: what byte b does to the register when k more bytes follow it. */
static uint32_t table[4][256];
static once_flag table_once = ONCE_FLAG_INIT;

static void table_fill(void)
{
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t crc = b;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (crc & 1 ? POLYNOMIAL : 0);
        table[0][b] = crc;
    }
    for (uint32_t b = 0; b < 256; b++)
        for (int k = 1; k < 4; k++)
            table[k][b] = (table[k - 1][b] >> 8) ^ table[0][table[k - 1][b] & 255];
}

uint32_t ids_crc32c_table(uint32_t crc, const uint32_t *ids, size_t count)
{
    call_once(&table_once, table_fill);
    crc = ~crc;
    for (size_t i = 0; i < count; i++) {
        crc ^= ids[i];
        crc = table[3][crc & 255] ^ table[2][(crc >> 8) & 255] ^ table[1][(crc >> 16) & 255] ^
              table[0][crc >> 24];
    }
    return ~crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t ids_crc32c_sse42(uint32_t crc,
                                                                   const uint32_t *ids,
                                                                   size_t count)
{
    crc = ~crc;
    for (size_t i = 0; i < count; i++)
        crc = __builtin_ia32_crc32si(crc, ids[i]);
    return ~crc;
}
#endif

uint32_t ids_crc32c(uint32_t crc, const uint32_t *ids, size_t count)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2")) return ids_crc32c_sse42(crc, ids, count);
#endif
    return ids_crc32c_table(crc, ids, count);
}
