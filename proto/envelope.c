#include "proto/envelope.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "common/check.h"

text_view text_of(const char *nul_terminated)
{
    if (nul_terminated == NULL) return (text_view){0};
    return (text_view){nul_terminated, strlen(nul_terminated)};
}

bool text_equal(text_view a, text_view b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

char *text_dup(text_view text)
{
    return mem_strndup(text.data, text.size);
}

/* Eight bytes at once: all ASCII and none of them NUL. */
static bool plain_ascii(const uint8_t *bytes)
{
    const uint64_t low = 0x0101010101010101u;
    const uint64_t high = 0x8080808080808080u;
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    return ((word | (word - low)) & high) == 0;
}

size_t text_character_size(text_view text, size_t at)
{
    const uint8_t *b = (const uint8_t *)text.data + at;
    size_t left = text.size - at;
    if (left == 0 || b[0] == 0) return 0;
    if (b[0] < 0x80) return 1;

    size_t size = b[0] >= 0xf0 ? 4 : b[0] >= 0xe0 ? 3 : 2;
    if (b[0] < 0xc2 || b[0] > 0xf4 || left < size) return 0;
    for (size_t i = 1; i < size; i++)
        if ((b[i] & 0xc0) != 0x80) return 0;
    /* Overlong forms, surrogates and numbers past U+10FFFF show in the second byte. */
    if (b[0] == 0xe0 && b[1] < 0xa0) return 0;
    if (b[0] == 0xed && b[1] > 0x9f) return 0;
    if (b[0] == 0xf0 && b[1] < 0x90) return 0;
    if (b[0] == 0xf4 && b[1] > 0x8f) return 0;
    return size;
}

size_t text_valid_size(text_view text)
{
    size_t at = 0;
    while (at < text.size) {
        if (text.size - at >= 8 && plain_ascii((const uint8_t *)text.data + at)) {
            at += 8;
            continue;
        }
        size_t size = text_character_size(text, at);
        if (size == 0) break;
        at += size;
    }
    return at;
}

bool id128_equal(const id128 *a, const id128 *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

bool id128_is_zero(const id128 *id)
{
    static const id128 zero;
    return id128_equal(id, &zero);
}

char *id128_hex(const id128 *id, char out[33])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < sizeof id->bytes; i++) {
        out[2 * i] = digits[id->bytes[i] >> 4];
        out[2 * i + 1] = digits[id->bytes[i] & 15];
    }
    out[32] = '\0';
    return out;
}

id128 id128_random(void)
{
    id128 id;
    ssize_t got;
    do {
        got = getrandom(id.bytes, sizeof id.bytes, 0);
    } while (got < 0 && errno == EINTR);
    CHECK(got == (ssize_t)sizeof id.bytes);
    return id;
}

const char *finish_reason_name(finish_reason reason)
{
    switch (reason) {
    case FINISH_STOP:
        return "stop";
    case FINISH_LENGTH:
        return "length";
    case FINISH_CANCELLED:
        return "cancelled";
    case FINISH_DEADLINE:
        return "deadline";
    case FINISH_SLOW_CONSUMER:
        return "slow_consumer";
    case FINISH_FAILED:
        return "failed";
    }
    return "unknown";
}

const char *envelope_kind_name(envelope_kind kind)
{
    static const char *const names[] = {
        [ENVELOPE_HELLO] = "Hello",       [ENVELOPE_WELCOME] = "Welcome",
        [ENVELOPE_REGISTER] = "Register", [ENVELOPE_ADOPT] = "Adopt",
        [ENVELOPE_LOAD] = "Load",         [ENVELOPE_SUBMIT] = "Submit",
        [ENVELOPE_ACCEPTED] = "Accepted", [ENVELOPE_TOKENS] = "Tokens",
        [ENVELOPE_FINISH] = "Finish",     [ENVELOPE_ACK] = "Ack",
        [ENVELOPE_CANCEL] = "Cancel",     [ENVELOPE_RESUME] = "Resume",
        [ENVELOPE_PING] = "Ping",         [ENVELOPE_PONG] = "Pong",
        [ENVELOPE_DRAIN] = "Drain",       [ENVELOPE_ERROR] = "Error",
        [ENVELOPE_BYE] = "Bye",           [ENVELOPE_QUERY] = "Query",
        [ENVELOPE_REPORT] = "Report",
    };
    if ((size_t)kind >= sizeof names / sizeof names[0] || names[kind] == NULL) return "none";
    return names[kind];
}
