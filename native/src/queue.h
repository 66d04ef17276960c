/*
 * The packet queue of one link (protocol section 3.4): what waits while the socket does not take more.
 *
 * Packets leave in the order in which they came, whatever flow they belong to. When the queue is over its cap, the flow
 * that fills it pays: of the destination with the most queued bytes, the source with the most queued bytes loses its
 * oldest packet. So a bulk transfer that overruns a link cannot push out somebody else's few packets.
 *
 * A frame that waits is copied into memory of its own; that is the one allocation for a packet in the data plane, and
 * only a link that is full pays it.
 */
#ifndef YGGPY_QUEUE_H
#define YGGPY_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire.h"

enum {
    MAX_QUEUED_BYTES = 131070, /* cap of one queue, in payload bytes (peerMaxMessageSize) */
    MAX_QUEUED_FLOWS = 64,     /* flows that are told apart; beyond that some share the fate of others */
};

struct queued_packet {
    struct queued_packet *next_arrival, *previous_arrival;
    struct queued_packet *next_in_flow;
    struct queue_flow *flow;
    uint64_t order;
    size_t payload_size; /* by which flows are judged */
    size_t frame_size;
    uint8_t frame[];
};

struct packet_queue {
    struct queued_packet *first, *last; /* in order of arrival */
    struct queue_dest *dests;
    size_t size;  /* payload bytes of all that waits */
    size_t count; /* packets */
    size_t flow_count;
    uint64_t next_order;
    uint64_t dropped;
};

/* Adds a copy of a frame, then drops down to the cap: possibly this very frame. False: out of memory, it is dropped. */
bool queue_push(struct packet_queue *queue, const uint8_t *frame, size_t frame_size, size_t payload_size,
                const uint8_t source[KEY_SIZE], const uint8_t dest[KEY_SIZE]);

/* Takes out the packet that came first; NULL when nothing waits. The caller frees it. */
struct queued_packet *queue_pop(struct packet_queue *queue);

/* Frees all that waits. */
void queue_clear(struct packet_queue *queue);

#endif
