/* Goal: a name that stands for several addresses becomes as many routers, one for each, with the
 * name still on their certificates; what it no longer stands for goes once its link is gone; other
 * URLs stay whole.
 * Method: router_link_names.c between a scripted resolver and a list of peers, all played here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>

#include "common/clock.h"
#include "common/mem.h"
#include "worker/router_link_internal.h"

enum { ANSWERS_MAX = 4 };

static struct {
    uv_getaddrinfo_t *asked[ANSWERS_MAX];
    uv_getaddrinfo_cb callbacks[ANSWERS_MAX];
    const char *names[ANSWERS_MAX];
    uint32_t asked_count;
    struct addrinfo found[ANSWERS_MAX];
    struct sockaddr_in v4[ANSWERS_MAX];
    struct sockaddr_in6 v6[ANSWERS_MAX];
    const router_peer *up; /* its link is up */
} world;

/* -- what is played ------------------------------------------------------------------ */

int uv_getaddrinfo(uv_loop_t *loop, uv_getaddrinfo_t *request, uv_getaddrinfo_cb callback,
                   const char *node, const char *service, const struct addrinfo *hints)
{
    (void)loop;
    (void)service;
    (void)hints;
    world.asked[world.asked_count] = request;
    world.callbacks[world.asked_count] = callback;
    world.names[world.asked_count++] = node;
    return 0;
}

void uv_freeaddrinfo(struct addrinfo *found)
{
    (void)found;
}

bool session_is_up(const session *s)
{
    return world.up != NULL && s == world.up->session;
}

void router_link_finish_closing(router_link *l)
{
    (void)l;
}

status peers_add(router_link *l, const char *url, const char *server_name, uint32_t name,
                 error *err)
{
    (void)err;
    router_peer *p = mem_calloc(1, sizeof *p);
    p->link = l;
    p->url = mem_strdup(url);
    if (server_name != NULL) p->server_name = mem_strdup(server_name);
    p->name = name;
    p->is_listed = true;
    p->session = (session *)(void *)p; /* never looked into */
    l->peers[l->peer_count++] = p;
    return ST_OK;
}

void peers_remove(router_link *l, router_peer *p)
{
    for (uint32_t i = 0; i < l->peer_count; i++) {
        if (l->peers[i] != p) continue;
        l->peer_count--;
        memmove(&l->peers[i], &l->peers[i + 1], (l->peer_count - i) * sizeof(router_peer *));
    }
    mem_free(p->url);
    mem_free(p->server_name);
    mem_free(p);
}

/* -- the script ------------------------------------------------------------------------ */

static void start(router_link *l, const char *const *urls, size_t count)
{
    *l = (router_link){.options.dial = {.urls = urls, .url_count = count}};
    memset(&world, 0, sizeof world);
    error err;
    assert_int_equal(names_start(l, &err), ST_OK);
}

static void finish(router_link *l)
{
    while (l->peer_count > 0)
        peers_remove(l, l->peers[0]);
    names_destroy(l);
}

/* The oldest question's answer; NULL ends the addresses. */
static void answer(const char *const *addresses)
{
    uint32_t count = 0;
    for (; addresses[count] != NULL; count++) {
        struct addrinfo *a = &world.found[count];
        *a = (struct addrinfo){.ai_family = AF_INET};
        if (strchr(addresses[count], ':') != NULL) {
            a->ai_family = AF_INET6;
            world.v6[count] = (struct sockaddr_in6){.sin6_family = AF_INET6};
            assert_int_equal(inet_pton(AF_INET6, addresses[count], &world.v6[count].sin6_addr), 1);
            a->ai_addr = (struct sockaddr *)(void *)&world.v6[count];
        } else {
            world.v4[count] = (struct sockaddr_in){.sin_family = AF_INET};
            assert_int_equal(inet_pton(AF_INET, addresses[count], &world.v4[count].sin_addr), 1);
            a->ai_addr = (struct sockaddr *)(void *)&world.v4[count];
        }
        if (count > 0) world.found[count - 1].ai_next = a;
    }
    uv_getaddrinfo_t *request = world.asked[0];
    uv_getaddrinfo_cb callback = world.callbacks[0];
    world.asked_count--;
    memmove(world.asked, world.asked + 1, world.asked_count * sizeof world.asked[0]);
    memmove(world.callbacks, world.callbacks + 1, world.asked_count * sizeof world.callbacks[0]);
    callback(request, count > 0 ? 0 : UV_EAI_NONAME, count > 0 ? world.found : NULL);
}

static void ask_again(router_link *l)
{
    l->resolve_at_ms = 0;
    names_tick(l);
    assert_int_equal(world.asked_count, 1);
}

static router_peer *peer(const router_link *l, const char *url)
{
    for (uint32_t i = 0; i < l->peer_count; i++)
        if (strcmp(l->peers[i]->url, url) == 0) return l->peers[i];
    return NULL;
}

static void test_what_is_no_tcp_name_is_one_router(void **state)
{
    (void)state;
    router_link l;
    start(&l,
          (const char *const[]){"tcp://10.0.0.1:7410", "tls+tcp://[fd00::1]:7411",
                                "wss://fleet.example:7444/worker", "ipc:///run/gaggle.sock",
                                "tcp://10.0.0.1:7410"},
          5);
    assert_int_equal(l.peer_count, 4); /* one was named twice */
    assert_int_equal(world.asked_count, 0);
    finish(&l);
}

static void test_every_address_of_a_name_is_dialled(void **state)
{
    (void)state;
    router_link l;
    start(&l, (const char *const[]){"tls+tcp://fleet.example:7411"}, 1);
    assert_string_equal(world.names[0], "fleet.example");
    assert_int_equal(l.peer_count, 1); /* not waiting for an answer */
    answer((const char *const[]){"10.0.0.1", "fd00::2", NULL});
    assert_int_equal(l.peer_count, 2);
    assert_null(peer(&l, "tls+tcp://fleet.example:7411"));
    assert_non_null(peer(&l, "tls+tcp://10.0.0.1:7411"));
    assert_non_null(peer(&l, "tls+tcp://[fd00::2]:7411"));
    assert_string_equal(peer(&l, "tls+tcp://10.0.0.1:7411")->server_name, "fleet.example");

    /* Asked again in time, not before. */
    names_tick(&l);
    assert_int_equal(world.asked_count, 0);
    assert_true(l.resolve_at_ms > clock_now_ms());
    assert_true(l.resolve_at_ms <= clock_now_ms() + LIMIT_RESOLVE_INTERVAL_MS);

    /* One address goes, one comes; the one that goes is still in use. */
    world.up = peer(&l, "tls+tcp://10.0.0.1:7411");
    ask_again(&l);
    answer((const char *const[]){"fd00::2", "10.0.0.3", NULL});
    assert_int_equal(l.peer_count, 3);
    world.up = NULL;
    ask_again(&l);
    answer((const char *const[]){"fd00::2", "10.0.0.3", NULL});
    assert_int_equal(l.peer_count, 2);
    assert_null(peer(&l, "tls+tcp://10.0.0.1:7411"));

    /* No answer changes nothing; one address alone is still an address. */
    ask_again(&l);
    answer((const char *const[]){NULL});
    assert_int_equal(l.peer_count, 2);
    ask_again(&l);
    answer((const char *const[]){"10.0.0.3", NULL});
    assert_int_equal(l.peer_count, 1);
    assert_non_null(peer(&l, "tls+tcp://10.0.0.3:7411"));
    finish(&l);
}

static void test_a_name_of_one_address_stays_a_name(void **state)
{
    (void)state;
    router_link l;
    start(&l, (const char *const[]){"tcp://home.example:7410"}, 1);
    answer((const char *const[]){"10.0.0.1", NULL});
    assert_int_equal(l.peer_count, 1);
    assert_non_null(peer(&l, "tcp://home.example:7410"));
    finish(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_no_tcp_name_is_one_router),
        cmocka_unit_test(test_every_address_of_a_name_is_dialled),
        cmocka_unit_test(test_a_name_of_one_address_stays_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
