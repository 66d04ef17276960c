/*
 * The fair queue between the TUN and the links: what a bulk transfer has sent ahead waits here, and others pass it.
 *
 * A TCP flow sends as much ahead as its window allows, megabytes, whatever the links take. In one line with that, a ping
 * or a keystroke waits for all of it. So packets wait flow by flow and leave in turns of FAIR_QUANTUM bytes (deficit
 * round robin); a flow that had nothing waiting comes first for one turn, as in FQ-CoDel (RFC 8290). Nothing is dropped
 * for its age: the TUN is read no further when the queue is full, and only when that has lasted is there a drop, from
 * the flow that holds most.
 *
 * Flows are told apart by a hash of addresses, protocol and ports; flows that share a bucket share its turn.
 */
#ifndef YGGPY_FAIR_H
#define YGGPY_FAIR_H

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    FAIR_FLOWS = 64,             /* buckets */
    FAIR_QUANTUM = 1 << 13,      /* bytes of one turn */
    MAX_FAIR_BYTES = 6 << 20,    /* memory of all that waits, at which the TUN is read no further */
    FAIR_OVERHEAD = 128,         /* bytes that a waiting packet takes besides its memory */
};

/* A packet (or super-packet) as tun_read gave it: at memory + start, `size` bytes. */
struct fair_packet {
    struct fair_packet *next;
    struct virtio_net_hdr header;
    uint8_t *memory; /* malloc'd */
    size_t room, start, size;
};

enum fair_place { FAIR_IDLE, FAIR_FRESH, FAIR_OLD, FAIR_BLOCKED, FAIR_PLACES };

struct fair_flow {
    struct fair_packet *first, *last;
    size_t bytes;
    long deficit;
    enum fair_place place;
    enum fair_place came_from; /* while it is blocked: where it goes back to */
    struct fair_flow *next; /* in the list of its place */
};

struct fair_list {
    struct fair_flow *first, *last;
};

struct fair_queue {
    struct fair_flow flows[FAIR_FLOWS];
    struct fair_list lists[FAIR_PLACES];
    size_t bytes, count;
    uint64_t dropped;
};

static inline bool fair_is_empty(const struct fair_queue *queue)
{
    return !queue->count;
}

static inline bool fair_is_full(const struct fair_queue *queue)
{
    return queue->bytes >= MAX_FAIR_BYTES;
}

/* Adds a packet, whose record and memory (both malloc'd) are the queue's from now on. */
void fair_push(struct fair_queue *queue, struct fair_packet *packet);

/*
 * The packet whose turn it is; NULL when none may go. *fresh: its flow had nothing waiting and has its first turn.
 * Nothing is taken out.
 */
const struct fair_packet *fair_peek(struct fair_queue *queue, bool *fresh);

/* Takes out what fair_peek has just shown; the caller frees it. */
struct fair_packet *fair_pop(struct fair_queue *queue);

/* The packet that fair_peek has just shown cannot go now: its flow stands aside until fair_unblock. */
void fair_block(struct fair_queue *queue);
void fair_unblock(struct fair_queue *queue);

/* Drops the oldest packet of the flow that holds most. */
void fair_drop(struct fair_queue *queue);

void fair_packet_free(struct fair_packet *packet);
void fair_clear(struct fair_queue *queue);

#endif
