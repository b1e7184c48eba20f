/* Goal: a worker is told one salt for all of a tenant's requests, another for each other tenant and
 * for each salt that a client adds, and none where there are no tenants; whoever goes on with an
 * answer is told the same.
 * Method: the salts alone; then clients and workers of the core, spoken for by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "common/log.h"
#include "router/cache_salt.h"
#include "router/core.h"

/* -- the salts -------------------------------------------------------------------------------- */

static void test_every_tenant_and_every_salt_within_it_is_another(void **state)
{
    (void)state;
    enum { TENANTS = 5, OWN = 4, ALL = TENANTS * OWN };
    const id128 tenants[TENANTS] = {{{0}},
                                    cache_salt_of_tenant("default"),
                                    cache_salt_of_tenant("api-token-1"),
                                    cache_salt_of_tenant("api-token-11"),
                                    cache_salt_of_tenant("")};
    /* What another tenant's salt is can be computed by anybody: it is of no use as one's own. */
    const text_view own[OWN] = {
        {0}, text_of("a"), text_of("b"), {(const char *)tenants[1].bytes, sizeof(id128)}};
    id128 salts[ALL];
    for (size_t i = 0; i < ALL; i++) {
        salts[i] = cache_salt_join(&tenants[i / OWN], own[i % OWN]);
        assert_int_equal(id128_is_zero(&salts[i]), i == 0);
        for (size_t j = 0; j < i; j++)
            assert_false(id128_equal(&salts[i], &salts[j]));
    }
}

/* Other routers, and this one after a restart, must make the same: these are SHA-256's bytes. */
static void test_salts_are_the_same_everywhere(void **state)
{
    (void)state;
    char hex[33];
    const id128 tenant = cache_salt_of_tenant("research");
    assert_string_equal(id128_hex(&tenant, hex), "1cfd12fdb22c82f3d3260724af7ae7c8");
    const id128 joined = cache_salt_join(&tenant, text_of("user-7"));
    assert_string_equal(id128_hex(&joined, hex), "3dcbce590f99f18e2fd4ec26151db48d");
}

static void test_the_longest_salt_counts_to_its_end(void **state)
{
    (void)state;
    char long_salt[LIMIT_CACHE_SALT_BYTES];
    memset(long_salt, 'x', sizeof long_salt);
    const id128 tenant = cache_salt_of_tenant("t");
    const id128 a = cache_salt_join(&tenant, (text_view){long_salt, sizeof long_salt});
    long_salt[sizeof long_salt - 1] = '\0';
    const id128 b = cache_salt_join(&tenant, (text_view){long_salt, sizeof long_salt});
    assert_false(id128_equal(&a, &b));
}

/* -- what workers are told ----------------------------------------------------------------------
 */

enum { TOLD_MAX = 16 };

typedef struct told {
    uint8_t request;
    size_t size;
    id128 salt;
} told;

static core *router;
static uint64_t now_ms;
static told submits[TOLD_MAX];
static uint32_t submit_count;

static void io_send(void *ctx, void *handle, const envelope *e)
{
    (void)ctx;
    (void)handle;
    if (e->kind != ENVELOPE_SUBMIT) return;
    assert_true(submit_count < TOLD_MAX);
    told *t = &submits[submit_count++];
    *t = (told){.request = e->submit.request_id.bytes[0], .size = e->submit.cache_salt.size};
    assert_true(t->size == 0 || t->size == sizeof t->salt);
    if (t->size > 0) memcpy(t->salt.bytes, e->submit.cache_salt.data, t->size);
}

static bool io_is_idle(void *ctx, void *handle)
{
    (void)ctx;
    (void)handle;
    return true;
}

static void io_close(void *ctx, void *handle, const char *reason)
{
    (void)ctx;
    (void)handle;
    (void)reason;
}

static int set_up(void **state)
{
    (void)state;
    log_init("test", LOG_ERROR);
    now_ms = 1000000;
    submit_count = 0;
    core_options o = core_options_default();
    o.seed = 1;
    const core_io io = {.send = io_send, .is_idle = io_is_idle, .close = io_close};
    router = core_create(&o, &io, now_ms);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    core_verify(router);
    core_destroy(router);
    return 0;
}

static core_link *connect_peer(role what, const core_tenant *tenant)
{
    static uint8_t processes;
    const id128 instance = {{(uint8_t)what, ++processes}};
    return core_link_up(router, NULL, what, tenant, &instance, "peer", now_ms);
}

static core_link *start_worker(const char *name)
{
    const core_tenant nobody = {0};
    core_link *l = connect_peer(ROLE_WORKER, &nobody);
    const msg_model m = {.name = text_of("m"), .revision = text_of("r"), .context_max = 100000};
    const envelope e = {.kind = ENVELOPE_REGISTER,
                        .reg = {.worker_id = text_of(name),
                                .models = &m,
                                .model_count = 1,
                                .slots = 16,
                                .kv_blocks = 1000,
                                .kv_block_tokens = 16}};
    core_envelope(router, l, &e, NULL, now_ms);
    return l;
}

static core_link *start_client(uint32_t number, const char *tenant)
{
    core_tenant whose = {.number = number, .owner = number};
    if (tenant != NULL) whose.cache_salt = cache_salt_of_tenant(tenant);
    return connect_peer(ROLE_CLIENT, &whose);
}

/* The Submit that a worker got for it. */
static const told *ask(core_link *client, uint8_t number, const char *own)
{
    const envelope e = {.kind = ENVELOPE_SUBMIT,
                        .submit = {.stream = number,
                                   .request_id = {{number}},
                                   .has_text = true,
                                   .text = text_of("hello"),
                                   .max_tokens = 8,
                                   .logprobs = LOGPROBS_NONE,
                                   .cache_salt = text_of(own)}};
    uint32_t before = submit_count;
    core_envelope(router, client, &e, NULL, now_ms);
    assert_int_equal(submit_count, before + 1);
    assert_int_equal(submits[before].request, number);
    return &submits[before];
}

static void test_a_worker_hears_one_salt_for_each_tenant(void **state)
{
    (void)state;
    start_worker("w0");
    core_link *ada = start_client(1, "ada"), *ada_too = start_client(1, "ada");
    core_link *bob = start_client(2, "bob");
    const told *first = ask(ada, 1, NULL), *again = ask(ada, 2, NULL);
    const told *elsewhere = ask(ada_too, 3, NULL), *other = ask(bob, 4, NULL);
    const id128 expected = cache_salt_of_tenant("ada");
    assert_int_equal(first->size, sizeof(id128));
    assert_true(id128_equal(&first->salt, &expected));
    assert_true(id128_equal(&first->salt, &again->salt));
    assert_true(id128_equal(&first->salt, &elsewhere->salt));
    assert_int_equal(other->size, sizeof(id128));
    assert_false(id128_equal(&first->salt, &other->salt));

    const told *own = ask(ada, 5, "user"), *own_again = ask(ada_too, 6, "user");
    const told *others_own = ask(bob, 7, "user");
    assert_true(id128_equal(&own->salt, &own_again->salt));
    assert_false(id128_equal(&own->salt, &first->salt));
    assert_false(id128_equal(&own->salt, &others_own->salt));
}

static void test_without_tenants_the_cache_is_shared_but_for_salts_of_clients(void **state)
{
    (void)state;
    start_worker("w0");
    core_link *client = start_client(0, NULL);
    assert_int_equal(ask(client, 1, NULL)->size, 0);
    assert_int_equal(ask(client, 2, "user")->size, sizeof(id128));
}

static void test_the_next_worker_hears_the_same_salt(void **state)
{
    (void)state;
    core_link *first = start_worker("w0");
    const id128 salt = ask(start_client(1, "ada"), 1, "user")->salt;
    core_link_down(router, first, true, now_ms);
    start_worker("w1");
    for (uint64_t end_ms = now_ms + 2 * LIMIT_WORKER_GRACE_MS_DEFAULT; now_ms < end_ms;) {
        now_ms += LIMIT_TICK_MS;
        core_tick(router, now_ms);
    }
    assert_int_equal(submit_count, 2);
    assert_int_equal(submits[1].request, 1);
    assert_true(id128_equal(&submits[1].salt, &salt));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_tenant_and_every_salt_within_it_is_another),
        cmocka_unit_test(test_salts_are_the_same_everywhere),
        cmocka_unit_test(test_the_longest_salt_counts_to_its_end),
        cmocka_unit_test_setup_teardown(test_a_worker_hears_one_salt_for_each_tenant, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(
            test_without_tenants_the_cache_is_shared_but_for_salts_of_clients, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_next_worker_hears_the_same_salt, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
