/* See events.h. */
#include "events.h"

#include <string.h>
#include <unistd.h>

/* Questions are asked again by the next packet, so those that find no room are not missed. */
static bool is_question(enum event_type type)
{
    switch (type) {
    case EVENT_SESSION_MISMATCH:
    case EVENT_SESSION_UNKNOWN:
    case EVENT_SESSION_RATCHET:
    case EVENT_NONCE_EXHAUSTED:
    case EVENT_SESSION_MISSING:
    case EVENT_PATH_MISSING:
    case EVENT_TRAFFIC_UNROUTABLE:
    case EVENT_DESTINATION_UNKNOWN:
    case EVENT_SOURCE_LEARNED:
        return true;
    default:
        return false;
    }
}

bool events_push(struct events *events, struct event event, const uint8_t *data, size_t size)
{
    bool question = is_question(event.type);
    if (question && events->asking + size + sizeof event > EVENTS_ASK_BYTES) {
        events->dropped++;
        return false;
    }
    uint8_t *place = buffer_reserve(&events->queue, sizeof event + size);
    if (!place) {
        events->dropped++;
        return false;
    }
    event.size = (uint32_t)size;
    memcpy(place, &event, sizeof event);
    if (size)
        memcpy(place + sizeof event, data, size);
    events->queue.end += sizeof event + size;
    if (question)
        events->asking += sizeof event + size;
    return true;
}

void events_wake(struct events *events)
{
    if (events->wake < 0 || events->woken || !buffer_size(&events->queue))
        return;
    uint64_t one = 1;
    events->woken = write(events->wake, &one, sizeof one) == (ssize_t)sizeof one;
}

void events_take(struct events *events, struct buffer *batch)
{
    *batch = events->queue;
    events->queue = (struct buffer){0};
    events->asking = 0;
    if (events->woken) {
        uint64_t count;
        events->woken = read(events->wake, &count, sizeof count) != (ssize_t)sizeof count;
    }
}

bool events_next(struct buffer *batch, struct event *event, const uint8_t **data)
{
    if (buffer_size(batch) < sizeof *event)
        return false;
    memcpy(event, buffer_bytes(batch), sizeof *event);
    batch->start += sizeof *event;
    *data = buffer_bytes(batch);
    batch->start += event->size;
    return true;
}
