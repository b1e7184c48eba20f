/* gaggle-bench-tokenizer DIR FILE: how fast the tokenizer of model folder DIR encodes and decodes
 * FILE on one core, how long it takes to load, and what memory it keeps.
 *
 * Encodes the whole file as one text (a long prompt) and in pieces of about 1 KiB (chat messages),
 * each several times, and prints the fastest. Times are of the processor, not of the wall: it is
 * one thread, and other processes shall not count. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "common/json.h"
#include "common/limits.h"
#include "common/mem.h"
#include "worker/text/tokenizer.h"

#define RUNS          5
#define MESSAGE_BYTES 1024u

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double encode_s(const tokenizer *t, const char *text, size_t size, size_t piece,
                       token_list *out)
{
    double best = 1e9;
    for (int run = 0; run < RUNS; run++) {
        out->count = 0;
        double start = now_s();
        for (size_t at = 0, end; at < size; at = end) {
            end = size - at > piece ? at + piece : size;
            while (end < size && ((unsigned char)text[end] & 0xC0) == 0x80)
                end++;
            tokenizer_encode(t, text + at, end - at, 0, out);
        }
        double took = now_s() - start;
        if (took < best) best = took;
    }
    return best;
}

static double decode_s(const tokenizer *t, const token_list *ids)
{
    double best = 1e9;
    for (int run = 0; run < RUNS; run++) {
        size_t size;
        double start = now_s();
        mem_free(tokenizer_decode(t, ids->ids, ids->count, true, &size));
        double took = now_s() - start;
        if (took < best) best = took;
    }
    return best;
}

int main(int argc, char **argv)
{
    error err = {0};
    tokenizer *t;
    char *text;
    size_t size;
    if (argc != 3) {
        fprintf(stderr, "usage: %s MODEL_DIR TEXT_FILE\n", argv[0]);
        return 2;
    }
    double start = now_s();
    if (tokenizer_load(&t, argv[1], &err) != ST_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    double load_s = now_s() - start;
    size_t kept_bytes = mallinfo2().uordblks + mallinfo2().hblkhd;
    if (file_read(&text, &size, argv[2], 1024u * LIMIT_MIB, &err) != ST_OK) {
        fprintf(stderr, "%s\n", err.text);
        tokenizer_destroy(t);
        return 1;
    }
    double mb = (double)size / 1e6;
    token_list whole = {0}, messages = {0};
    double whole_s = encode_s(t, text, size, size, &whole);
    double messages_s = encode_s(t, text, size, MESSAGE_BYTES, &messages);
    double back_s = decode_s(t, &whole);
    printf("%s: load %.0f ms, keeps %.1f MB; %.2f MB in %zu tokens\n", argv[1], load_s * 1e3,
           (double)kept_bytes / 1e6, mb, whole.count);
    printf("  encode %.1f MB/s a core as one text, %.1f MB/s as messages of %u bytes; "
           "decode %.1f MB/s\n",
           mb / whole_s, mb / messages_s, MESSAGE_BYTES, mb / back_s);
    token_list_free(&whole);
    token_list_free(&messages);
    mem_free(text);
    tokenizer_destroy(t);
    return 0;
}
