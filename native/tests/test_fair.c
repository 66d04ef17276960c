/*
 * The fair queue: packets of a flow keep their order, flows take turns by bytes, a quiet flow goes first, a blocked one
 * stands aside, and the heaviest pays. The last test plays a random game and keeps the accounts itself.
 */
#include "check.h"
#include "fair.h"

static struct fair_queue queue;

/* A UDP packet of one of 256 flows; its number lies behind the ports. */
static void push(uint8_t flow, uint32_t number, size_t size)
{
    struct fair_packet *packet = calloc(1, sizeof *packet);
    CHECK(packet && size >= IPV6_HEADER_SIZE + 8);
    packet->room = size + 5;
    packet->start = 5;
    packet->size = size;
    packet->memory = calloc(1, packet->room);
    CHECK(packet->memory);
    uint8_t *bytes = packet->memory + packet->start;
    bytes[0] = 0x60;
    bytes[6] = 17;
    bytes[IPV6_HEADER_SIZE] = flow;
    memcpy(bytes + IPV6_HEADER_SIZE + 4, &number, sizeof number);
    fair_push(&queue, packet);
}

struct seen {
    uint8_t flow;
    uint32_t number;
    bool fresh;
};

static struct seen look(const struct fair_packet *packet, bool fresh)
{
    struct seen seen = {.flow = packet->memory[packet->start + IPV6_HEADER_SIZE], .fresh = fresh};
    memcpy(&seen.number, packet->memory + packet->start + IPV6_HEADER_SIZE + 4, sizeof seen.number);
    return seen;
}

static struct seen pop(void)
{
    bool fresh;
    const struct fair_packet *shown = fair_peek(&queue, &fresh);
    CHECK(shown);
    struct fair_packet *packet = fair_pop(&queue);
    CHECK(packet == shown);
    struct seen seen = look(packet, fresh);
    fair_packet_free(packet);
    return seen;
}

static void expect_empty(void)
{
    bool fresh;
    CHECK(!fair_peek(&queue, &fresh) && fair_is_empty(&queue) && !queue.bytes);
    for (int place = 0; place < FAIR_PLACES; place++)
        CHECK(!queue.lists[place].first);
}

/* Flows that do not share a bucket with one another. */
static uint8_t other_than(const uint8_t *flows, size_t count)
{
    for (uint8_t flow = 1; flow; flow++) {
        fair_clear(&queue);
        for (size_t i = 0; i < count; i++)
            push(flows[i], 0, 100);
        push(flow, 0, 100);
        size_t used = 0;
        for (size_t i = 0; i < FAIR_FLOWS; i++)
            used += queue.flows[i].first != NULL;
        fair_clear(&queue);
        if (used == count + 1)
            return flow;
    }
    CHECK(!"there are flows enough");
    return 0;
}

static void test_turns(const uint8_t flows[3])
{
    /* Large packets and small ones: after a while each flow has had as many bytes. */
    size_t bytes[256] = {0};
    for (uint32_t i = 0; i < 40; i++)
        push(flows[0], i, 64000);
    for (uint32_t i = 0; i < 4000; i++)
        push(flows[1], i, 1400);
    for (uint32_t i = 0; i < 4000; i++)
        push(flows[2], i, 400);
    uint32_t next[256] = {0};
    for (int i = 0; i < 2500; i++) {
        struct seen seen = pop();
        CHECK(seen.number == next[seen.flow]++);
        bytes[seen.flow] += seen.flow == flows[0] ? 64000 : seen.flow == flows[1] ? 1400 : 400;
    }
    for (int i = 1; i < 3; i++)
        CHECK(labs((long)bytes[flows[i]] - (long)bytes[flows[0]]) <= 64000 + FAIR_QUANTUM);
    fair_clear(&queue);
    expect_empty();
}

static void test_quiet_flow_first(const uint8_t flows[3])
{
    for (uint32_t i = 0; i < 20; i++)
        push(flows[0], i, 64000);
    for (int i = 0; i < 3; i++) /* its first turn is over */
        pop();
    push(flows[1], 7, 100);
    struct seen seen = pop();
    CHECK(seen.flow == flows[1] && seen.fresh && seen.number == 7);
    seen = pop();
    CHECK(seen.flow == flows[0] && !seen.fresh && seen.number == 3);
    /* One that comes again and again has no more than its share. */
    int turns = 0;
    for (int i = 0; i < 100; i++) {
        push(flows[1], 0, 8000);
        push(flows[1], 1, 8000);
        for (int j = 0; j < 3 && !fair_is_empty(&queue); j++)
            turns += pop().flow == flows[0];
    }
    CHECK(turns >= 15); /* all that the other flow had left */
    fair_clear(&queue);
}

static void test_block(const uint8_t flows[3])
{
    for (uint32_t i = 0; i < 3; i++)
        for (int flow = 0; flow < 3; flow++)
            push(flows[flow], i, 9000);
    bool fresh;
    const struct fair_packet *shown = fair_peek(&queue, &fresh);
    CHECK(look(shown, fresh).flow == flows[0]);
    fair_block(&queue);
    shown = fair_peek(&queue, &fresh);
    CHECK(look(shown, fresh).flow == flows[1]);
    fair_block(&queue);
    for (uint32_t i = 0; i < 3; i++) {
        struct seen seen = pop();
        CHECK(seen.flow == flows[2] && seen.number == i);
    }
    CHECK(!fair_peek(&queue, &fresh) && queue.count == 6);
    push(flows[0], 3, 100); /* does not bring it back */
    CHECK(!fair_peek(&queue, &fresh));
    fair_unblock(&queue);
    struct seen seen = pop();
    CHECK(seen.flow == flows[0] && seen.number == 0 && seen.fresh);
    /* A blocked flow may lose all it has. */
    fair_peek(&queue, &fresh);
    while (queue.count) {
        while (fair_peek(&queue, &fresh))
            fair_block(&queue);
        fair_drop(&queue);
    }
    CHECK(queue.dropped == 6);
    fair_unblock(&queue);
    expect_empty();
    fair_drop(&queue);
    CHECK(queue.dropped == 6);
}

static void test_drop(const uint8_t flows[3])
{
    uint64_t before = queue.dropped;
    push(flows[0], 0, 5000);
    push(flows[1], 0, 3000);
    push(flows[1], 1, 3000);
    fair_drop(&queue);
    fair_drop(&queue);
    CHECK(queue.dropped == before + 2 && queue.count == 1);
    struct seen seen = pop();
    CHECK(seen.flow == flows[1] && seen.number == 1);
    expect_empty();
}

static void test_odd_packets(void)
{
    /* Shorter than a header, and of no protocol with ports: they find a place like any other. */
    for (size_t size = 1; size < 48; size++) {
        struct fair_packet *packet = calloc(1, sizeof *packet);
        CHECK(packet && (packet->memory = calloc(1, size)));
        packet->room = packet->size = size;
        if (size > 6)
            packet->memory[6] = 17;
        fair_push(&queue, packet);
    }
    bool fresh;
    while (fair_peek(&queue, &fresh))
        fair_packet_free(fair_pop(&queue));
    expect_empty();
}

static void test_game(void)
{
    size_t waiting = 0;
    uint32_t pushed[256] = {0}, seen_last[256] = {0};
    uint64_t dropped = queue.dropped;
    for (int step = 0; step < 200000; step++) {
        bool fresh;
        const struct fair_packet *shown;
        uint8_t flow = (uint8_t)random_below(200);
        switch (random_below(8)) {
        case 0:
        case 1:
        case 2:
            push(flow, ++pushed[flow], 48 + random_below(random_below(9) ? 1500 : 65000));
            waiting++;
            break;
        case 3:
            if (fair_peek(&queue, &fresh))
                fair_block(&queue);
            break;
        case 4:
            fair_unblock(&queue);
            break;
        case 5:
            if (queue.count > 300) {
                fair_drop(&queue);
                waiting--;
                dropped++;
            }
            break;
        default:
            if (!(shown = fair_peek(&queue, &fresh)))
                break;
            struct seen seen = look(shown, fresh);
            CHECK(seen.number > seen_last[seen.flow]);
            seen_last[seen.flow] = seen.number;
            fair_packet_free(fair_pop(&queue));
            waiting--;
        }
        CHECK(queue.count == waiting && queue.dropped == dropped);
        size_t bytes = 0, listed = 0;
        for (int i = 0; i < FAIR_FLOWS && step % 64 == 0; i++) {
            bytes += queue.flows[i].bytes;
            listed += queue.flows[i].place == FAIR_IDLE && queue.flows[i].first;
        }
        CHECK(step % 64 || (bytes == queue.bytes && !listed));
    }
    fair_unblock(&queue);
    for (bool fresh; fair_peek(&queue, &fresh); waiting--)
        fair_packet_free(fair_pop(&queue));
    CHECK(!waiting);
    expect_empty();
}

int main(void)
{
    uint8_t flows[3];
    for (size_t i = 0; i < 3; i++)
        flows[i] = other_than(flows, i);
    test_turns(flows);
    test_quiet_flow_first(flows);
    test_block(flows);
    test_drop(flows);
    test_odd_packets();
    test_game();
    return 0;
}
