/*
 * Events: they come out whole and in order, one wake-up stands for many, and questions, which strangers can cause
 * without limit, are bounded while everything else is not.
 */
#include <sys/eventfd.h>
#include <unistd.h>

#include "check.h"
#include "events.h"

static bool is_awake(int wake)
{
    uint64_t count;
    if (read(wake, &count, sizeof count) != (ssize_t)sizeof count)
        return false;
    CHECK(count == 1);
    CHECK(write(wake, &count, sizeof count) == (ssize_t)sizeof count);
    return true;
}

static void test_order(void)
{
    enum { COUNT = 3000 };
    struct events events = {.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    CHECK(events.wake >= 0);
    static uint8_t data[3000];
    for (int round = 0; round < 3; round++) {
        events_wake(&events); /* nothing waits */
        CHECK(!is_awake(events.wake));
        for (uint32_t i = 0; i < COUNT; i++) {
            struct event event = {.type = EVENT_LINK_OUTPUT, .link_id = i, .number = 2 * i, .detail = 3};
            event.when = 0.5 * i;
            event.generation = UINT64_MAX - i;
            make_key(event.key, i);
            pattern(data, i % sizeof data, i);
            CHECK(events_push(&events, event, data, i % sizeof data));
        }
        CHECK(!is_awake(events.wake));
        events_wake(&events);
        events_wake(&events);
        CHECK(is_awake(events.wake) && events.woken);
        struct buffer batch;
        events_take(&events, &batch);
        CHECK(!is_awake(events.wake) && !events.woken && !buffer_size(&events.queue));
        struct event event;
        const uint8_t *found;
        for (uint32_t i = 0; i < COUNT; i++) {
            uint8_t key[KEY_SIZE];
            make_key(key, i);
            pattern(data, i % sizeof data, i);
            CHECK(events_next(&batch, &event, &found) && event.size == i % sizeof data);
            CHECK(event.link_id == i && event.number == 2 * i && event.detail == 3 && event.when == 0.5 * i);
            CHECK(event.generation == UINT64_MAX - i && !memcmp(event.key, key, KEY_SIZE));
            CHECK(!memcmp(found, data, event.size));
        }
        CHECK(!events_next(&batch, &event, &found));
        buffer_free(&batch);
    }
    close(events.wake);
}

static void test_bound(void)
{
    static const enum event_type QUESTIONS[] = {
        EVENT_SESSION_MISMATCH, EVENT_SESSION_UNKNOWN,    EVENT_SESSION_RATCHET,     EVENT_NONCE_EXHAUSTED,
        EVENT_SESSION_MISSING,  EVENT_PATH_MISSING,       EVENT_TRAFFIC_UNROUTABLE,  EVENT_DESTINATION_UNKNOWN,
        EVENT_SOURCE_LEARNED,
    };
    enum { SIZE = 1000, FIT = EVENTS_ASK_BYTES / (SIZE + sizeof(struct event)) };
    struct events events = {.wake = -1};
    uint8_t data[SIZE] = {0};
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < FIT; i++)
            CHECK(events_push(&events, (struct event){.type = QUESTIONS[i % 9]}, data, SIZE));
        uint64_t before = events.dropped;
        for (size_t i = 0; i < 9; i++)
            CHECK(!events_push(&events, (struct event){.type = QUESTIONS[i]}, data, SIZE));
        CHECK(events.dropped == before + 9);
        /* What must not be lost still finds room. */
        CHECK(events_push(&events, (struct event){.type = EVENT_LINK_ENDED}, data, 10));
        CHECK(events_push(&events, (struct event){.type = EVENT_PROTOCOL_FRAME}, data, SIZE));
        CHECK(events_push(&events, (struct event){.type = EVENT_MESSAGE_RECEIVED}, data, SIZE));
        events_wake(&events); /* without a descriptor: nothing happens */
        struct buffer batch;
        events_take(&events, &batch);
        size_t count = 0;
        struct event event;
        const uint8_t *found;
        while (events_next(&batch, &event, &found))
            count++;
        CHECK(count == FIT + 3);
        buffer_free(&batch);
    }
    /* Nothing waits: an empty batch. */
    struct buffer batch;
    struct event event;
    const uint8_t *found;
    events_take(&events, &batch);
    CHECK(!events_next(&batch, &event, &found));
    buffer_free(&batch);
}

int main(void)
{
    test_order();
    test_bound();
    return 0;
}
