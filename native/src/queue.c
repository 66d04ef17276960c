/*
 * See queue.h. Destinations and their flows are found by walking lists, which MAX_QUEUED_FLOWS keeps short: a stranger
 * can invent a flow for every packet, and would else make each of them a walk over 2,000.
 */
#include "queue.h"

#include <stdlib.h>
#include <string.h>

/* The packets of one source to one destination. */
struct queue_flow {
    struct queue_flow *next;
    struct queue_dest *dest;
    uint8_t source[KEY_SIZE];
    size_t size;
    struct queued_packet *first, *last;
};

/* All flows to one destination. */
struct queue_dest {
    struct queue_dest *next;
    uint8_t key[KEY_SIZE];
    size_t size;
    struct queue_flow *flows;
};

static struct queue_flow *flow_of(struct packet_queue *queue, const uint8_t *source, const uint8_t *key)
{
    struct queue_dest *dest = queue->dests;
    while (dest && memcmp(dest->key, key, KEY_SIZE) != 0)
        dest = dest->next;
    struct queue_flow *flow = dest ? dest->flows : NULL;
    while (flow && memcmp(flow->source, source, KEY_SIZE) != 0)
        flow = flow->next;
    if (flow)
        return flow;
    if (queue->flow_count == MAX_QUEUED_FLOWS)
        return dest ? dest->flows : queue->dests->flows;
    flow = calloc(1, sizeof *flow);
    if (!flow)
        return NULL;
    if (!dest) {
        dest = calloc(1, sizeof *dest);
        if (!dest) {
            free(flow);
            return NULL;
        }
        memcpy(dest->key, key, KEY_SIZE);
        dest->next = queue->dests;
        queue->dests = dest;
    }
    memcpy(flow->source, source, KEY_SIZE);
    flow->dest = dest;
    flow->next = dest->flows;
    dest->flows = flow;
    queue->flow_count++;
    return flow;
}

static void forget_flow(struct packet_queue *queue, struct queue_flow *gone)
{
    struct queue_dest *dest = gone->dest;
    struct queue_flow **flow = &dest->flows;
    while (*flow != gone)
        flow = &(*flow)->next;
    *flow = gone->next;
    free(gone);
    queue->flow_count--;
    if (dest->flows)
        return;
    struct queue_dest **place = &queue->dests;
    while (*place != dest)
        place = &(*place)->next;
    *place = dest->next;
    free(dest);
}

/* Takes a packet, the first of its flow, out of all accounts. */
static void take_out(struct packet_queue *queue, struct queued_packet *packet)
{
    struct queue_flow *flow = packet->flow;
    flow->first = packet->next_in_flow;
    flow->size -= packet->payload_size;
    flow->dest->size -= packet->payload_size;
    if (packet->previous_arrival)
        packet->previous_arrival->next_arrival = packet->next_arrival;
    else
        queue->first = packet->next_arrival;
    if (packet->next_arrival)
        packet->next_arrival->previous_arrival = packet->previous_arrival;
    else
        queue->last = packet->previous_arrival;
    queue->size -= packet->payload_size;
    queue->count--;
    if (!flow->first)
        forget_flow(queue, flow);
}

/* How long the packet that has waited longest for this destination has: the smaller, the longer. */
static uint64_t oldest_of(const struct queue_dest *dest)
{
    uint64_t oldest = UINT64_MAX;
    for (const struct queue_flow *flow = dest->flows; flow; flow = flow->next)
        if (flow->first->order < oldest)
            oldest = flow->first->order;
    return oldest;
}

/* The flow that pays; among equals the one whose first packet has waited longest. */
static struct queue_flow *heaviest(const struct packet_queue *queue)
{
    const struct queue_dest *chosen = queue->dests;
    for (const struct queue_dest *dest = chosen->next; dest; dest = dest->next)
        if (dest->size > chosen->size || (dest->size == chosen->size && oldest_of(dest) < oldest_of(chosen)))
            chosen = dest;
    struct queue_flow *payer = chosen->flows;
    for (struct queue_flow *flow = payer->next; flow; flow = flow->next)
        if (flow->size > payer->size || (flow->size == payer->size && flow->first->order < payer->first->order))
            payer = flow;
    return payer;
}

static void drop_one(struct packet_queue *queue)
{
    struct queued_packet *victim = heaviest(queue)->first;
    take_out(queue, victim);
    free(victim);
    queue->dropped++;
}

bool queue_push(struct packet_queue *queue, const uint8_t *frame, size_t frame_size, size_t payload_size,
                const uint8_t source[KEY_SIZE], const uint8_t dest[KEY_SIZE])
{
    struct queued_packet *packet = malloc(sizeof *packet + frame_size);
    struct queue_flow *flow = packet ? flow_of(queue, source, dest) : NULL;
    if (!flow) {
        free(packet);
        queue->dropped++;
        return false;
    }
    *packet = (struct queued_packet){
        .flow = flow,
        .order = queue->next_order++,
        .payload_size = payload_size,
        .frame_size = frame_size,
        .previous_arrival = queue->last,
    };
    memcpy(packet->frame, frame, frame_size);
    if (flow->first)
        flow->last->next_in_flow = packet;
    else
        flow->first = packet;
    flow->last = packet;
    flow->size += payload_size;
    flow->dest->size += payload_size;
    if (queue->last)
        queue->last->next_arrival = packet;
    else
        queue->first = packet;
    queue->last = packet;
    queue->size += payload_size;
    queue->count++;
    while (queue->size > MAX_QUEUED_BYTES)
        drop_one(queue);
    return true;
}

struct queued_packet *queue_pop(struct packet_queue *queue)
{
    struct queued_packet *packet = queue->first; /* the oldest of all is the first of its flow too */
    if (packet)
        take_out(queue, packet);
    return packet;
}

void queue_clear(struct packet_queue *queue)
{
    struct queued_packet *packet;
    while ((packet = queue_pop(queue)))
        free(packet);
}
