#include "router/breaker.h"

#include "common/check.h"

_Static_assert(BREAKER_TRIP + BREAKER_FAULT <= UINT8_MAX, "the weight of faults fits its field");

bool breaker_allows(const breaker *b, uint64_t now_ms)
{
    switch ((breaker_state)b->state) {
    case BREAKER_CLOSED:
        return true;
    case BREAKER_OPEN:
        return now_ms - b->changed_ms >= b->open_ms;
    case BREAKER_PROBING:
        return false;
    }
    UNREACHABLE("a breaker's state");
}

void breaker_sent(breaker *b, uint32_t number, uint64_t now_ms)
{
    CHECK(breaker_allows(b, now_ms));
    if (b->state == BREAKER_CLOSED) return;
    b->state = BREAKER_PROBING;
    b->probe = number;
}

static void open_up(breaker *b, uint64_t now_ms)
{
    bool was_well = b->state == BREAKER_CLOSED && now_ms - b->changed_ms >= BREAKER_OPEN_MS_MAX;
    if (b->open_ms == 0 || was_well)
        b->open_ms = BREAKER_OPEN_MS_FIRST;
    else
        b->open_ms = b->open_ms < BREAKER_OPEN_MS_MAX / 2 ? 2 * b->open_ms : BREAKER_OPEN_MS_MAX;
    b->state = BREAKER_OPEN;
    b->changed_ms = now_ms;
    b->faults = 0;
}

static void probe_ended(breaker *b, breaker_outcome outcome, uint64_t now_ms)
{
    switch (outcome) {
    case BREAKER_OK:
        b->state = BREAKER_CLOSED;
        b->changed_ms = now_ms;
        return;
    case BREAKER_WORKER_FAULT:
        open_up(b, now_ms);
        return;
    case BREAKER_BUSY:
    case BREAKER_CLIENT_FAULT:
        b->state = BREAKER_OPEN; /* since changed_ms still: the next request may go at once */
        return;
    }
    UNREACHABLE("a breaker's outcome");
}

void breaker_heard(breaker *b, uint32_t number, breaker_outcome outcome, uint64_t now_ms)
{
    if (b->state == BREAKER_PROBING && b->probe == number) probe_ended(b, outcome, now_ms);
    if (b->state != BREAKER_CLOSED) return;
    if (outcome == BREAKER_OK && b->faults > 0) b->faults--;
    if (outcome != BREAKER_WORKER_FAULT) return;
    b->faults += BREAKER_FAULT;
    if (b->faults >= BREAKER_TRIP) open_up(b, now_ms);
}

const char *breaker_state_name(breaker_state state)
{
    static const char *const names[] = {"closed", "open", "probing"};
    return names[state];
}

void breaker_book_keep(breaker_book *book, uint64_t worker, const breaker *b)
{
    CHECK(b->state != BREAKER_PROBING);
    if (b->open_ms == 0 && b->faults == 0) return;
    book->workers[book->next] = worker;
    book->breakers[book->next] = *b;
    book->next = (book->next + 1) % BREAKER_BOOK_SIZE;
}

breaker breaker_book_take(breaker_book *book, uint64_t worker)
{
    for (uint32_t i = 0; i < BREAKER_BOOK_SIZE; i++) {
        if (book->workers[i] != worker) continue;
        book->workers[i] = 0;
        return book->breakers[i];
    }
    return (breaker){0};
}
