/*
 * The packet queue of a link: what waits leaves in the order in which it came, the cap holds, and who pays for it is
 * the heaviest source of the heaviest destination, with its oldest packet. The last test plays the same random game
 * with a model that is written as the rule reads.
 */
#include "check.h"
#include "queue.h"

static struct packet_queue queue;

static void push(uint32_t number, size_t size, uint8_t source, uint8_t dest)
{
    uint8_t from[KEY_SIZE] = {source}, to[KEY_SIZE] = {[KEY_SIZE - 1] = dest};
    CHECK(queue_push(&queue, (const uint8_t *)&number, sizeof number, size, from, to));
}

static uint32_t pop(void)
{
    struct queued_packet *packet = queue_pop(&queue);
    CHECK(packet && packet->frame_size == sizeof(uint32_t));
    uint32_t number;
    memcpy(&number, packet->frame, sizeof number);
    free(packet);
    return number;
}

static void expect_empty(void)
{
    CHECK(!queue_pop(&queue) && !queue.size && !queue.count && !queue.first && !queue.last && !queue.dests);
}

static void test_order(void)
{
    for (uint32_t i = 0; i < 100; i++)
        push(i, 10 + i, (uint8_t)(i % 7), (uint8_t)(i % 3));
    CHECK(queue.count == 100 && queue.size == 1000 + 4950);
    for (uint32_t i = 0; i < 100; i++)
        CHECK(pop() == i);
    expect_empty();
    CHECK(queue.dropped == 0);
}

static void test_cap(void)
{
    /* Exactly the cap may wait; one byte more costs the oldest packet of the one flow there is. */
    push(1, MAX_QUEUED_BYTES / 2, 1, 1);
    push(2, MAX_QUEUED_BYTES / 2, 1, 1);
    CHECK(queue.size == MAX_QUEUED_BYTES && queue.dropped == 0);
    push(3, 1, 1, 1);
    CHECK(queue.dropped == 1 && queue.count == 2);
    CHECK(pop() == 2 && pop() == 3);
    expect_empty();
    /* A packet larger than all is its own victim, but only after its flow's older ones. */
    push(4, 5, 2, 2);
    push(5, 7, 1, 1);
    push(6, MAX_QUEUED_BYTES + 1, 1, 1);
    CHECK(queue.dropped == 3 && queue.count == 1);
    CHECK(pop() == 4);
    expect_empty();
    /* An empty payload takes no room and waits its turn. */
    push(7, 0, 1, 1);
    push(8, MAX_QUEUED_BYTES, 1, 1);
    push(9, 0, 1, 1);
    CHECK(queue.count == 3 && pop() == 7 && pop() == 8 && pop() == 9);
    expect_empty();
}

static void test_who_pays(void)
{
    /* A bulk transfer cannot push out somebody else's few packets. */
    uint64_t before = queue.dropped;
    for (uint32_t i = 0; i < 10; i++)
        push(i, 100, 1, 1);
    for (uint32_t i = 0; i < 1000; i++)
        push(1000 + i, 1000, 2, 2);
    CHECK(queue.size <= MAX_QUEUED_BYTES && queue.size > MAX_QUEUED_BYTES - 1000);
    for (uint32_t i = 0; i < 10; i++)
        CHECK(pop() == i);
    uint32_t first = pop(); /* the newest ones of the bulk are left */
    CHECK(first == 1000 + (queue.dropped - before));
    queue_clear(&queue);
    expect_empty();

    /* First the destination is judged: its sources together weigh more than the one with the heaviest source. */
    push(1, 60000, 1, 1);
    push(2, 40000, 2, 2);
    push(3, 30000, 3, 2);
    push(4, 2000, 4, 3);
    CHECK(pop() == 1 && pop() == 3 && pop() == 4);
    expect_empty();

    /* Among equals the one pays that has waited longest. */
    push(1, 60000, 1, 2);
    push(2, 60000, 1, 1);
    push(3, 20000, 1, 3);
    CHECK(pop() == 2 && pop() == 3);
    push(1, 30000, 2, 1);
    push(2, 30000, 1, 1);
    push(3, 30000, 1, 2);
    push(4, 30000, 2, 2);
    push(5, 20000, 3, 3);
    CHECK(pop() == 2 && pop() == 3 && pop() == 4 && pop() == 5);
    expect_empty();

    /* One packet may cost several. */
    before = queue.dropped;
    for (uint32_t i = 0; i < 13; i++)
        push(i, 10000, 1, 1);
    push(13, 9999, 2, 2);
    push(14, 31000, 2, 2);
    CHECK(queue.dropped == before + 4 && queue.size <= MAX_QUEUED_BYTES);
    queue_clear(&queue);
    expect_empty();
}

static void test_many_flows(void)
{
    /* More flows than are told apart: some share their fate with others, but order, accounts and cap hold. */
    uint64_t before = queue.dropped;
    for (uint32_t i = 0; i < 1000; i++)
        push(i, 100, (uint8_t)i, (uint8_t)(i / 4));
    CHECK(queue.flow_count == MAX_QUEUED_FLOWS && queue.count == 1000 && queue.size == 100000);
    for (uint32_t i = 0; i < 500; i++)
        CHECK(pop() == i);
    for (uint32_t i = 1000; i < 3000; i++) /* flows that end make room for new ones */
        push(i, 200, (uint8_t)(i * 7), (uint8_t)(i / 3));
    CHECK(queue.flow_count <= MAX_QUEUED_FLOWS && queue.size <= MAX_QUEUED_BYTES);
    CHECK(queue.dropped - before == 2500 - queue.count);
    uint32_t last = 0;
    for (size_t left = queue.count; left; left--) {
        uint32_t number = pop();
        CHECK(number > last);
        last = number;
    }
    CHECK(last == 2999 && !queue.flow_count);
    expect_empty();
}

/* ---- the model ---- */

enum { MODEL_ROOM = 4000 };

static struct {
    uint32_t number;
    size_t size;
    uint8_t source, dest;
} model[MODEL_ROOM];
static size_t model_count, model_size;

static void model_remove(size_t at)
{
    model_size -= model[at].size;
    memmove(&model[at], &model[at + 1], (model_count - at - 1) * sizeof model[0]);
    model_count--;
}

static void model_drop(void)
{
    /* What is reached first, walking from the oldest, wins among equals. */
    size_t victim = 0, heaviest_dest = 0, heaviest_source = 0;
    for (size_t i = 0; i < model_count; i++) {
        size_t dest = 0, source = 0;
        for (size_t j = 0; j < model_count; j++) {
            dest += model[j].dest == model[i].dest ? model[j].size : 0;
            source += model[j].dest == model[i].dest && model[j].source == model[i].source ? model[j].size : 0;
        }
        if (i && (dest < heaviest_dest || (dest == heaviest_dest && model[i].dest != model[victim].dest)))
            continue;
        if (i && dest == heaviest_dest && source <= heaviest_source)
            continue;
        victim = i;
        heaviest_dest = dest;
        heaviest_source = source;
    }
    model_remove(victim);
}

static void test_against_model(void)
{
    uint64_t drops = 0, before = queue.dropped;
    for (uint32_t i = 0; i < 6000; i++) {
        if (random_below(100) < 55 || !model_count) {
            size_t size = random_below(4) ? 500 * random_below(4) + 500 : random_below(20000) + 1;
            uint8_t source = (uint8_t)random_below(4), dest = (uint8_t)random_below(4);
            push(i, size, source, dest);
            CHECK(model_count < MODEL_ROOM);
            model[model_count].number = i;
            model[model_count].size = size;
            model[model_count].source = source;
            model[model_count++].dest = dest;
            model_size += size;
            while (model_size > MAX_QUEUED_BYTES) {
                model_drop();
                drops++;
            }
        } else {
            CHECK(pop() == model[0].number);
            model_remove(0);
        }
        CHECK(queue.size == model_size && queue.count == model_count && queue.dropped - before == drops);
    }
    CHECK(drops > 100);
    while (model_count) {
        CHECK(pop() == model[0].number);
        model_remove(0);
    }
    expect_empty();
}

int main(void)
{
    test_order();
    test_cap();
    test_who_pays();
    test_many_flows();
    test_against_model();
    return 0;
}
