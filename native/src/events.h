/*
 * What the engine tells the control plane: a batch queue of events, and one wake-up for many of them.
 *
 * Events are copied into one growing block, which is handed over whole; the descriptor `wake` becomes readable when the
 * first one arrives. What a stranger can cause without limit is bounded here (EVENTS_ASK_BYTES) or by not reading the
 * link that it comes from (link.h).
 */
#ifndef YGGPY_EVENTS_H
#define YGGPY_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buffer.h"
#include "wire.h"

enum { EVENTS_ASK_BYTES = 1 << 20 }; /* bytes of questions that may wait for an answer; more of them are dropped */

enum event_type {
    EVENT_PROTOCOL_FRAME,     /* link_id, number: frame type, when, data: payload */
    EVENT_LINK_ENDED,         /* link_id, number: enum link_reason, detail: errno, data: text */
    EVENT_LINK_OUTPUT,        /* link_id, data: bytes for the carrier of a feed */
    EVENT_SESSION_MESSAGE,    /* key, data: payload */
    EVENT_SESSION_MISMATCH,   /* key, data: the packet, to be tried again (plane_open_again) */
    EVENT_SESSION_UNKNOWN,    /* key, data: the same */
    EVENT_SESSION_RATCHET,    /* key, number: nonce, detail: case, generation, data: next public key */
    EVENT_NONCE_EXHAUSTED,    /* key, data: the message that could not be sealed */
    EVENT_SESSION_MISSING,    /* key, data: message */
    EVENT_PATH_MISSING,       /* key, data: payload */
    EVENT_TRAFFIC_UNROUTABLE, /* data: payload of the frame */
    EVENT_DESTINATION_UNKNOWN,/* data: IPv6 packet */
    EVENT_SOURCE_LEARNED,     /* key */
    EVENT_IPV6_RECEIVED,      /* key, data: packet */
    EVENT_MESSAGE_RECEIVED,   /* key, data: message with its type byte */
    EVENT_TUN_FAILED,         /* number: errno, detail: which TUN */
};

struct event {
    enum event_type type;
    uint32_t size; /* of the data that follows */
    uint64_t link_id;
    uint64_t number;
    uint64_t detail;
    uint64_t generation;
    double when; /* seconds, see the engine's clock */
    uint8_t key[KEY_SIZE];
};

struct events {
    struct buffer queue;
    size_t asking; /* bytes of questions in it */
    uint64_t dropped;
    int wake; /* an eventfd, or -1 */
    bool woken;
};

/* Adds an event with `size` bytes of data. False: out of memory, or too many questions wait. */
bool events_push(struct events *events, struct event event, const uint8_t *data, size_t size);

/* Makes the descriptor readable if anything waits. Call once for each batch of input. */
void events_wake(struct events *events);

/* Hands all that waits over to `batch`, which the caller frees. */
void events_take(struct events *events, struct buffer *batch);

/* Steps through a batch: returns the next event and its data, or false at the end. */
bool events_next(struct buffer *batch, struct event *event, const uint8_t **data);

#endif
