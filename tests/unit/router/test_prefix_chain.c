/* Goal: two prompts share hashes exactly as far as they share whole chunks, however they are cut
 * into messages, and nothing at all across cache salts, models and kinds.
 * Method: each rule alone; random prompts with a known common beginning. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "router/prefix_chain.h"
#include "tests/unit/worker/engine/test_random.h"

enum { TEXT_MAX = 20 * PREFIX_CHUNK_BYTES };

static msg_submit submit_of(const char *text, size_t size)
{
    return (msg_submit){.model = text_of("m"), .has_text = true, .text = {text, size}};
}

static prefix_chain *chain_of(const char *text, size_t size)
{
    const msg_submit s = submit_of(text, size);
    return prefix_chain_create(&s, 1);
}

static uint32_t shared_chunks(const prefix_chain *a, const prefix_chain *b)
{
    uint32_t i = 0;
    while (i < a->count && i < b->count && a->chunk[i] == b->chunk[i])
        i++;
    /* Once apart they stay apart. */
    for (uint32_t j = i; j < a->count && j < b->count; j++)
        assert_true(a->chunk[j] != b->chunk[j]);
    return i;
}

static void fill(test_random *random, char *out, size_t size)
{
    for (size_t i = 0; i < size; i++)
        out[i] = (char)('a' + random_below(random, 26));
}

static void test_equal_beginnings_share_their_whole_chunks(void **state)
{
    (void)state;
    static char a[TEXT_MAX], b[TEXT_MAX];
    test_random random = {3};
    for (int round = 0; round < 2000; round++) {
        size_t a_size = random_below(&random, TEXT_MAX), b_size = random_below(&random, TEXT_MAX);
        size_t common = random_below(&random, TEXT_MAX);
        fill(&random, a, a_size);
        fill(&random, b, b_size);
        if (common > a_size) common = a_size;
        if (common > b_size) common = b_size;
        memcpy(b, a, common);
        while (common < a_size && common < b_size && a[common] == b[common])
            common++;
        prefix_chain *first = chain_of(a, a_size), *second = chain_of(b, b_size);
        assert_int_equal(first->count, a_size / PREFIX_CHUNK_BYTES);
        assert_int_equal(first->text_bytes, a_size);
        assert_int_equal(first->ids, 0);
        assert_int_equal(shared_chunks(first, second), common / PREFIX_CHUNK_BYTES);
        mem_free(first);
        mem_free(second);
    }
}

static void test_a_prompt_of_one_byte_less_than_a_chunk_has_none(void **state)
{
    (void)state;
    char text[PREFIX_CHUNK_BYTES] = {0};
    const size_t sizes[] = {0, 1, PREFIX_CHUNK_BYTES - 1};
    for (size_t i = 0; i < 3; i++) {
        prefix_chain *chain = chain_of(text, sizes[i]);
        assert_int_equal(chain->count, 0);
        assert_int_equal(chain->text_bytes, sizes[i]);
        mem_free(chain);
    }
    const msg_submit nothing = {0};
    prefix_chain *chain = prefix_chain_create(&nothing, 1);
    assert_int_equal(chain->count, 0);
    mem_free(chain);
}

/* NUL separates what a chat consists of, so this content is what the other chat's bytes are. */
static void test_messages_are_one_row_of_bytes_however_they_lie(void **state)
{
    (void)state;
    static char content[TEXT_MAX];
    test_random random = {4};
    for (int round = 0; round < 500; round++) {
        fill(&random, content, sizeof content);
        msg_chat_message cut[4];
        size_t at = 0;
        for (size_t i = 0; i < 4; i++) {
            size_t name = random_below(&random, 8), size = random_below(&random, TEXT_MAX / 4 - 10);
            cut[i].role = (text_view){content + at, name};
            content[at + name] = '\0';
            cut[i].content = (text_view){content + at + name + 1, size};
            content[at + name + 1 + size] = '\0';
            at += name + size + 2;
        }
        const msg_chat_message whole = {cut[0].role, {cut[0].content.data, 0}};
        msg_chat_message joined = whole;
        joined.content.size = at - 1 - (size_t)(joined.content.data - content);
        const msg_submit pieces = {.model = text_of("m"), .messages = cut, .message_count = 4};
        const msg_submit one = {.model = text_of("m"), .messages = &joined, .message_count = 1};
        prefix_chain *a = prefix_chain_create(&pieces, 1), *b = prefix_chain_create(&one, 1);
        assert_int_equal(a->text_bytes, at);
        assert_int_equal(a->count, at / PREFIX_CHUNK_BYTES);
        assert_int_equal(b->count, a->count);
        assert_int_equal(shared_chunks(a, b), a->count);
        mem_free(a);
        mem_free(b);
    }
}

static void test_a_chat_that_goes_on_keeps_its_hashes(void **state)
{
    (void)state;
    static char text[6][2000];
    test_random random = {5};
    msg_chat_message messages[6];
    prefix_chain *before = NULL;
    for (size_t i = 0; i < 6; i++) {
        fill(&random, text[i], sizeof text[i]);
        messages[i] = (msg_chat_message){text_of(i % 2 == 0 ? "user" : "assistant"),
                                         {text[i], sizeof text[i]}};
        const msg_submit s = {.model = text_of("m"), .messages = messages, .message_count = i + 1};
        prefix_chain *now = prefix_chain_create(&s, 1);
        if (before != NULL) assert_int_equal(shared_chunks(before, now), before->count);
        mem_free(before);
        before = now;
    }
    /* The first role is in the first chunk. */
    messages[0].role = text_of("system");
    const msg_submit s = {.model = text_of("m"), .messages = messages, .message_count = 6};
    prefix_chain *other = prefix_chain_create(&s, 1);
    assert_int_equal(shared_chunks(before, other), 0);
    mem_free(before);
    mem_free(other);
}

static void test_ids_are_counted_and_hashed_as_they_are(void **state)
{
    (void)state;
    uint32_t ids[1000];
    for (uint32_t i = 0; i < 1000; i++)
        ids[i] = i * 7;
    const msg_submit s = {.model = text_of("m"), .ids = ids, .id_count = 1000};
    prefix_chain *a = prefix_chain_create(&s, 1);
    assert_int_equal(a->ids, 1000);
    assert_int_equal(a->text_bytes, 0);
    assert_int_equal(a->count, 1000 / 128);
    ids[300]++;
    prefix_chain *b = prefix_chain_create(&s, 1);
    assert_int_equal(shared_chunks(a, b), 300 / 128);
    mem_free(a);
    mem_free(b);
}

static void test_salts_models_and_kinds_share_nothing(void **state)
{
    (void)state;
    static char text[4 * PREFIX_CHUNK_BYTES];
    test_random random = {6};
    fill(&random, text, sizeof text);
    const msg_chat_message message = {text_of(""), {text, sizeof text}};
    uint32_t ids[sizeof text / 4];
    memcpy(ids, text, sizeof text);
    msg_submit kinds[6];
    for (size_t i = 0; i < 6; i++)
        kinds[i] = submit_of(text, sizeof text);
    kinds[1].model = text_of("n");
    kinds[2].raw = true;
    kinds[3] = (msg_submit){.model = text_of("m"), .messages = &message, .message_count = 1};
    kinds[4] = (msg_submit){.model = text_of("m"), .ids = ids, .id_count = sizeof ids / 4};
    kinds[5].model = text_of("");
    enum { SALTS = 4, ALL = 6 * SALTS };
    const uint64_t secrets[SALTS] = {1, 1, 2, 1};
    const text_view salts[SALTS] = {
        {0}, text_of("a tenant's salt!"), {0}, text_of("another's salt!!")};
    prefix_chain *chains[ALL];
    for (size_t i = 0; i < ALL; i++) {
        kinds[i / SALTS].cache_salt = salts[i % SALTS];
        chains[i] = prefix_chain_create(&kinds[i / SALTS], secrets[i % SALTS]);
    }
    for (size_t i = 0; i < ALL; i++)
        for (size_t j = 0; j < i; j++)
            assert_int_equal(shared_chunks(chains[i], chains[j]), 0);
    for (size_t i = 0; i < ALL; i++)
        mem_free(chains[i]);
}

static void test_the_first_chunks_of_a_huge_prompt_are_enough(void **state)
{
    (void)state;
    enum { SIZE = (LIMIT_PREFIX_CHUNKS + 2) * PREFIX_CHUNK_BYTES };
    char *text = mem_calloc(1, SIZE);
    prefix_chain *a = chain_of(text, SIZE);
    assert_int_equal(a->count, LIMIT_PREFIX_CHUNKS);
    assert_int_equal(a->text_bytes, SIZE);
    text[SIZE - PREFIX_CHUNK_BYTES - 1] = 'x';
    prefix_chain *b = chain_of(text, SIZE);
    assert_int_equal(shared_chunks(a, b), LIMIT_PREFIX_CHUNKS);
    const msg_chat_message halves[] = {{text_of("user"), {text, SIZE / 2}},
                                       {text_of("user"), {text, SIZE}}};
    const msg_submit chat = {.model = text_of("m"), .messages = halves, .message_count = 2};
    prefix_chain *c = prefix_chain_create(&chat, 1);
    assert_int_equal(c->count, LIMIT_PREFIX_CHUNKS);
    mem_free(a);
    mem_free(b);
    mem_free(c);
    mem_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal_beginnings_share_their_whole_chunks),
        cmocka_unit_test(test_a_prompt_of_one_byte_less_than_a_chunk_has_none),
        cmocka_unit_test(test_messages_are_one_row_of_bytes_however_they_lie),
        cmocka_unit_test(test_a_chat_that_goes_on_keeps_its_hashes),
        cmocka_unit_test(test_ids_are_counted_and_hashed_as_they_are),
        cmocka_unit_test(test_salts_models_and_kinds_share_nothing),
        cmocka_unit_test(test_the_first_chunks_of_a_huge_prompt_are_enough),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
