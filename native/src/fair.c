/* See fair.h. */
#include "fair.h"

#include <stdlib.h>
#include <string.h>

#include "wire.h"

enum { PROTOCOL_TCP = 6, PROTOCOL_UDP = 17, PORTS_SIZE = 4 };

static uint64_t mix(uint64_t hash, const uint8_t *data)
{
    uint64_t word;
    memcpy(&word, data, sizeof word);
    hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 29;
}

static struct fair_flow *flow_of(struct fair_queue *queue, const uint8_t *packet, size_t size)
{
    if (size < IPV6_HEADER_SIZE)
        return &queue->flows[0];
    uint64_t hash = 0;
    for (size_t at = 8; at < IPV6_HEADER_SIZE; at += sizeof hash) /* both addresses */
        hash = mix(hash, packet + at);
    uint8_t rest[sizeof hash] = {packet[6]};
    if ((packet[6] == PROTOCOL_TCP || packet[6] == PROTOCOL_UDP) && size >= IPV6_HEADER_SIZE + PORTS_SIZE)
        memcpy(rest + 1, packet + IPV6_HEADER_SIZE, PORTS_SIZE);
    return &queue->flows[(mix(hash, rest) >> 32) % FAIR_FLOWS];
}

static size_t cost_of(const struct fair_packet *packet)
{
    return packet->room + FAIR_OVERHEAD;
}

/* ---- lists ---- */

static void append(struct fair_queue *queue, enum fair_place place, struct fair_flow *flow)
{
    struct fair_list *list = &queue->lists[place];
    flow->place = place;
    flow->next = NULL;
    if (list->first)
        list->last->next = flow;
    else
        list->first = flow;
    list->last = flow;
}

static void leave(struct fair_queue *queue, struct fair_flow *flow)
{
    struct fair_list *list = &queue->lists[flow->place];
    struct fair_flow *previous = NULL;
    for (struct fair_flow *other = list->first; other != flow; other = other->next)
        previous = other;
    if (previous)
        previous->next = flow->next;
    else
        list->first = flow->next;
    if (list->last == flow)
        list->last = previous;
    flow->place = FAIR_IDLE;
}

/* The flow whose turn it is, or NULL. */
static struct fair_flow *current(const struct fair_queue *queue)
{
    struct fair_flow *fresh = queue->lists[FAIR_FRESH].first;
    return fresh ? fresh : queue->lists[FAIR_OLD].first;
}

/* ---- packets ---- */

void fair_push(struct fair_queue *queue, struct fair_packet *packet)
{
    struct fair_flow *flow = flow_of(queue, packet->memory + packet->start, packet->size);
    packet->next = NULL;
    if (flow->first)
        flow->last->next = packet;
    else
        flow->first = packet;
    flow->last = packet;
    flow->bytes += cost_of(packet);
    queue->bytes += cost_of(packet);
    queue->count++;
    if (flow->place == FAIR_IDLE) {
        flow->deficit = FAIR_QUANTUM;
        append(queue, FAIR_FRESH, flow);
    }
}

const struct fair_packet *fair_peek(struct fair_queue *queue, bool *fresh)
{
    struct fair_flow *flow;
    while ((flow = current(queue))) {
        bool was_fresh = flow->place == FAIR_FRESH;
        if (flow->first && flow->deficit > 0) {
            *fresh = was_fresh;
            return flow->first;
        }
        leave(queue, flow);
        if (flow->first) {
            flow->deficit += FAIR_QUANTUM;
            append(queue, FAIR_OLD, flow);
        } else if (was_fresh) {
            append(queue, FAIR_OLD, flow); /* one more round, or a trickle would always be fresh and starve the old */
        }
    }
    return NULL;
}

static struct fair_packet *take(struct fair_queue *queue, struct fair_flow *flow)
{
    struct fair_packet *packet = flow->first;
    flow->first = packet->next;
    flow->bytes -= cost_of(packet);
    queue->bytes -= cost_of(packet);
    queue->count--;
    return packet;
}

struct fair_packet *fair_pop(struct fair_queue *queue)
{
    struct fair_flow *flow = current(queue);
    struct fair_packet *packet = take(queue, flow);
    flow->deficit -= (long)packet->size;
    return packet;
}

void fair_block(struct fair_queue *queue)
{
    struct fair_flow *flow = current(queue);
    flow->came_from = flow->place;
    leave(queue, flow);
    append(queue, FAIR_BLOCKED, flow);
}

void fair_unblock(struct fair_queue *queue)
{
    struct fair_flow *flow = queue->lists[FAIR_BLOCKED].first;
    queue->lists[FAIR_BLOCKED] = (struct fair_list){0};
    while (flow) {
        struct fair_flow *next = flow->next;
        append(queue, flow->came_from, flow);
        flow = next;
    }
}

void fair_drop(struct fair_queue *queue)
{
    struct fair_flow *payer = &queue->flows[0];
    for (struct fair_flow *flow = queue->flows + 1; flow < queue->flows + FAIR_FLOWS; flow++)
        if (flow->bytes > payer->bytes)
            payer = flow;
    if (!payer->first)
        return;
    fair_packet_free(take(queue, payer));
    queue->dropped++;
}

void fair_packet_free(struct fair_packet *packet)
{
    free(packet->memory);
    free(packet);
}

void fair_clear(struct fair_queue *queue)
{
    for (struct fair_flow *flow = queue->flows; flow < queue->flows + FAIR_FLOWS; flow++)
        while (flow->first)
            fair_packet_free(take(queue, flow));
    memset(queue, 0, sizeof *queue);
}
