/* Which workers had a part in which answer: the truth that Finish.approximate is held against.
 *
 * A token may be made several times, by a worker that was given up and by the one that went on, and
 * it is not known which of them reached the client. So of each token all its makers are kept; the
 * two questions asked are answered with yes only where there is no doubt. */
#include <string.h>

#include "common/check.h"
#include "tests/sim/sim.h"

enum { ANSWERS_MAX = 64, TOKENS_MAX = 640, KNOWN = (1 << SIM_NUMERICS) - 1 };

typedef struct answer_parts {
    uint64_t hash; /* of its question */
    uint8_t placed;
    uint8_t made[TOKENS_MAX];
} answer_parts;

static answer_parts answers[ANSWERS_MAX];
static uint32_t answer_count;

static const char *const names[SIM_NUMERICS] = {"simulated", "simulated otherwise"};

uint32_t sim_parts_maker(uint32_t worker, uint32_t numerics)
{
    return numerics < SIM_NUMERICS ? 1u << numerics : 1u << (SIM_NUMERICS + worker);
}

const char *sim_parts_numerics(uint32_t maker)
{
    for (uint32_t i = 0; i < SIM_NUMERICS; i++)
        if (maker == 1u << i) return names[i];
    return "";
}

uint32_t sim_parts_maker_of(text_view numerics)
{
    for (uint32_t i = 0; i < SIM_NUMERICS; i++)
        if (text_equal(numerics, text_of(names[i]))) return 1u << i;
    return 0;
}

void sim_parts_begin(void)
{
    answer_count = 0;
}

static answer_parts *find(const sim_question *q)
{
    for (uint32_t i = 0; i < answer_count; i++)
        if (answers[i].hash == q->hash) return &answers[i];
    return NULL;
}

static answer_parts *get(const sim_question *q)
{
    answer_parts *a = find(q);
    if (a != NULL) return a;
    CHECK(answer_count < ANSWERS_MAX);
    a = &answers[answer_count++];
    memset(a, 0, sizeof *a);
    a->hash = q->hash;
    return a;
}

void sim_parts_placed(const sim_question *q, uint32_t maker)
{
    /* Of those without known numerics it does not matter which. */
    get(q)->placed |= (uint8_t)(maker != 0 ? maker : 1u << SIM_NUMERICS);
}

void sim_parts_made(const sim_question *q, uint32_t index, uint32_t maker)
{
    CHECK(index < TOKENS_MAX);
    get(q)->made[index] |= (uint8_t)maker;
}

bool sim_parts_are_mixed(const sim_question *q, uint32_t total)
{
    const answer_parts *a = find(q);
    uint8_t common = UINT8_MAX;
    for (uint32_t i = 0; i < total; i++)
        common &= a->made[i];
    return common == 0;
}

bool sim_parts_are_equal(const sim_question *q)
{
    const answer_parts *a = find(q);
    return a == NULL || a->placed == 0 ||
           ((a->placed & (a->placed - 1)) == 0 && a->placed <= KNOWN);
}
