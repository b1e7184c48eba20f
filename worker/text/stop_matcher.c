/* An Aho-Corasick automaton over the stop strings. Its state is the longest end of the text that
 * begins some stop string; exactly that end is held back, and as it is a prefix of a stop string
 * it need not be kept anywhere else.
 *
 * The text ends at the first byte that completes a stop string. When it completes several at once,
 * the longest counts. Both depend on the text alone, not on how it was cut into pieces. */
#include "worker/text/stop_matcher.h"

#include <string.h>

#include "common/check.h"

#define NO_MATCH UINT16_MAX

typedef struct stop_node {
    uint16_t child, sibling; /* 0: none (node 0 is the root) */
    uint16_t fail;           /* the longest proper end of this node's text that is a node */
    uint16_t depth;          /* how many bytes of text it stands for ... */
    uint16_t string;         /* ... and a string that begins with them */
    uint16_t match;          /* the longest string that ends here, or NO_MATCH */
    uint8_t byte;
} stop_node;

_Static_assert(LIMIT_STOP_STRINGS *LIMIT_STOP_STRING_BYTES + 1 < UINT16_MAX, "nodes fit");

struct stop_matcher {
    stop_node *nodes;
    char *strings[LIMIT_STOP_STRINGS];
    size_t sizes[LIMIT_STOP_STRINGS];
    size_t count;
    uint16_t state;
    bool done;
    uint16_t matched; /* when done */
    bool begins[256]; /* some string begins with this byte */
};

static uint16_t child_of(const stop_matcher *m, uint16_t node, uint8_t byte)
{
    uint16_t child = m->nodes[node].child;
    while (child != 0 && m->nodes[child].byte != byte)
        child = m->nodes[child].sibling;
    return child;
}

/* The state after `byte`: amortized O(1), as each step down the fail links undoes one up. */
static uint16_t next_state(const stop_matcher *m, uint16_t state, uint8_t byte)
{
    for (;;) {
        uint16_t child = child_of(m, state, byte);
        if (child != 0 || state == 0) return child;
        state = m->nodes[state].fail;
    }
}

static void add_string(stop_matcher *m, uint16_t *node_count, uint16_t string, size_t size)
{
    uint16_t node = 0;
    for (size_t i = 0; i < size; i++) {
        uint8_t byte = (uint8_t)m->strings[string][i];
        uint16_t child = child_of(m, node, byte);
        if (child == 0) {
            child = (*node_count)++;
            m->nodes[child] = (stop_node){.sibling = m->nodes[node].child,
                                          .depth = (uint16_t)(i + 1),
                                          .string = string,
                                          .match = NO_MATCH,
                                          .byte = byte};
            m->nodes[node].child = child;
        }
        node = child;
    }
    if (m->nodes[node].match == NO_MATCH) m->nodes[node].match = string;
}

/* Breadth first: a node's fail link is shorter than the node. */
static void link_nodes(stop_matcher *m, uint16_t node_count)
{
    uint16_t *queue = mem_alloc(node_count * sizeof *queue);
    size_t head = 0, tail = 0;
    queue[tail++] = 0;
    while (head < tail) {
        uint16_t parent = queue[head++];
        for (uint16_t node = m->nodes[parent].child; node != 0; node = m->nodes[node].sibling) {
            uint16_t fail = 0;
            if (parent != 0) fail = next_state(m, m->nodes[parent].fail, m->nodes[node].byte);
            m->nodes[node].fail = fail;
            if (m->nodes[node].match == NO_MATCH) m->nodes[node].match = m->nodes[fail].match;
            queue[tail++] = node;
        }
    }
    mem_free(queue);
}

stop_matcher *stop_matcher_create(const char *const *strings, const size_t *sizes, size_t count)
{
    CHECK(count <= LIMIT_STOP_STRINGS);
    size_t nodes_max = 1;
    for (size_t i = 0; i < count; i++) {
        CHECK(sizes[i] >= 1 && sizes[i] <= LIMIT_STOP_STRING_BYTES);
        nodes_max += sizes[i];
    }
    stop_matcher *m = mem_calloc(1, sizeof *m);
    m->nodes = mem_calloc(nodes_max, sizeof *m->nodes);
    m->nodes[0].match = NO_MATCH;
    m->count = count;
    uint16_t node_count = 1;
    for (size_t i = 0; i < count; i++) {
        m->strings[i] = mem_copy(strings[i], sizes[i]);
        m->sizes[i] = sizes[i];
        m->begins[(uint8_t)strings[i][0]] = true;
        add_string(m, &node_count, (uint16_t)i, sizes[i]);
    }
    link_nodes(m, node_count);
    return m;
}

void stop_matcher_destroy(stop_matcher *m)
{
    if (m == NULL) return;
    for (size_t i = 0; i < m->count; i++)
        mem_free(m->strings[i]);
    mem_free(m->nodes);
    mem_free(m);
}

bool stop_matcher_push(stop_matcher *m, const void *text, size_t size, buffer *safe)
{
    CHECK(!m->done);
    const uint8_t *bytes = text;
    size_t at = 0;
    while (at < size) {
        if (m->state == 0) {
            size_t start = at;
            while (at < size && !m->begins[bytes[at]])
                at++;
            buffer_append(safe, bytes + start, at - start);
            if (at == size) break;
        }
        const stop_node *before = &m->nodes[m->state];
        m->state = next_state(m, m->state, bytes[at]);
        const stop_node *now = &m->nodes[m->state];
        /* What was held, and this byte, less what is held now. */
        size_t let_go = (size_t)before->depth + 1 - now->depth;
        size_t from_held = let_go <= before->depth ? let_go : before->depth;
        buffer_append(safe, m->strings[before->string], from_held);
        if (let_go > from_held) buffer_append(safe, bytes + at, 1);
        at++;
        if (now->match != NO_MATCH) {
            /* The string may be shorter than what is held. */
            buffer_append(safe, m->strings[now->string], now->depth - m->sizes[now->match]);
            m->matched = now->match;
            m->done = true;
            return true;
        }
    }
    return false;
}

void stop_matcher_finish(stop_matcher *m, buffer *safe)
{
    if (m->done || m->count == 0) return;
    const stop_node *held = &m->nodes[m->state];
    buffer_append(safe, m->strings[held->string], held->depth);
    m->state = 0;
}

size_t stop_matcher_matched(const stop_matcher *m)
{
    CHECK(m->done);
    return m->matched;
}
