/*
 * One peered link: frames in and out of a byte stream, keep-alive, read deadline, packet queue.
 *
 * Outbound, a frame takes one of two ways (protocol sections 3.2 and 3.4). Direct frames (the tree's protocol) go to the
 * stream at once. Queued frames (traffic and path finding) go too while the kernel takes what we write; once it does not,
 * they wait in the packet queue, which knows what to drop. Frames of one batch of input leave together.
 *
 * Inbound, frames are parsed where they lie and handed up one by one; the first malformed one ends the link.
 *
 * Liveness (section 3.3): what we send must be answered within 3 s by anything at all; what we receive we answer within
 * 1 s, with a keep-alive if there is nothing else to say. Times are seconds; 0 means that nothing is due.
 */
#ifndef YGGPY_LINK_H
#define YGGPY_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pace.h"
#include "queue.h"
#include "stream.h"
#include "wire.h"

#define KEEPALIVE_DELAY 1.0 /* after a received frame, something must be sent back (peerKeepAliveDelay) */
#define READ_TIMEOUT 3.0    /* after a sent frame, something must arrive (peerTimeout) */
#define STALL_GRACE 0.5     /* a timer as late as this means that this process, not the peer, stood still */

enum {
    WRITE_AHEAD_LIMIT = 1 << 18,  /* bytes that may wait for the kernel before frames go to the packet queue; one batch */
    MAX_DIRECT_BACKLOG = 1 << 20, /* unsent bytes at which a peer that does not read is cut off */
    MAX_LINK_EVENTS = 1 << 18,    /* bytes that may wait for the control plane before the link is read no further */
    QUIET_ALLOWANCE = 1 << 13,    /* bytes of quiet flows that pass a link which has enough to do */
    MAX_FRAME_HEAD = MAX_UVARINT_SIZE + 1,
    LINK_ERROR_SIZE = 128,
};

/* As CloseReason in yggpy/datapath/base.py. */
enum link_reason { LINK_LOCAL, LINK_EOF, LINK_ERROR, LINK_READ_FAILED, LINK_WRITE_FAILED, LINK_TLS_FAILED };

struct link;

/* What a link asks of whoever owns it. */
struct link_owner {
    void *self;
    /* A frame that is not Dummy or KeepAlive. Its bytes, from `start` on, may be changed. NULL, or why it is refused. */
    const char *(*frame)(void *self, struct link *link, enum frame_type type, uint8_t *start, uint8_t *payload,
                         size_t size);
    /* The link has unwritten frames, or has ended: call link_flush, or let it go, when the current input has been handled. */
    void (*dirty)(void *self, struct link *link);
    /* What the link wants to be told of its descriptor has changed. */
    void (*watch)(void *self, struct link *link);
    /* Bytes for whoever carries a feed. */
    void (*output)(void *self, struct link *link, const uint8_t *data, size_t size);
    /* link->timer_at has become earlier. */
    void (*armed)(void *self, double at);
};

struct link {
    uint64_t id;
    uint8_t key[KEY_SIZE];
    struct stream stream;
    const struct link_owner *owner;
    struct buffer partial; /* the beginning of a frame whose end has not come */
    size_t wanted;         /* bytes that it takes before it is worth another look */
    struct packet_queue queue;
    struct pace pace;        /* of what comes from our TUN */
    size_t let_by;           /* quiet flows' bytes since it last took anything */
    uint64_t received, sent; /* bytes inside TLS */
    size_t handed;           /* feed: bytes that the carrier has not got rid of */
    size_t event_bytes;      /* of this link, which the control plane has not taken */
    double keepalive_at, read_by, timer_at;
    bool dirty, closed;
    bool holding; /* whole frames wait in `partial` until the control plane has taken its events */
    bool watching_output, watching_input;
    struct link *next_dirty, *next_dead;
    enum link_reason reason; /* why it is closed */
    int error;               /* errno, or 0 */
    char text[LINK_ERROR_SIZE];
};

/* Makes a link of a stream, which is moved into it. NULL: out of memory. */
struct link *link_new(uint64_t id, const uint8_t key[KEY_SIZE], struct stream *stream, const struct link_owner *owner);
void link_free(struct link *link);

/* What the descriptor should be watched for. */
bool link_wants_input(const struct link *link);
bool link_wants_output(const struct link *link);

/*
 * Reads and handles what has arrived (not what was read ahead), using `scratch` (STREAM_CIPHER_ROOM bytes) and `plain` (LINK_PLAIN_ROOM).
 * Whatever ends the link is noted in it: see link->closed.
 */
enum { LINK_PLAIN_ROOM = MAX_FRAME_SIZE + MAX_FRAME_HEAD + STREAM_CIPHER_ROOM + 64 };
void link_read(struct link *link, uint8_t *scratch, uint8_t *plain, double now);

/* Goes on with frames that were held up. */
void link_resume(struct link *link, uint8_t *plain, double now);

/* Handles bytes that somebody else has carried here, at most STREAM_READ_SIZE of them. */
void link_feed(struct link *link, const uint8_t *data, size_t size, uint8_t *plain, double now);

/* Sends a frame ahead of whatever is queued. */
void link_send_direct(struct link *link, enum frame_type type, const uint8_t *payload, size_t size, double now);

/* Sends an encoded frame in turn; payload_size as the queue judges it. False when it had to be queued. */
bool link_send_queued(struct link *link, const uint8_t *frame, size_t size, size_t payload_size,
                      const uint8_t source[KEY_SIZE], const uint8_t dest[KEY_SIZE], double now);

/*
 * Whether the link should be given `size` bytes more of what our own TUN has brought; not so while it is as busy as it
 * can be, but for the first QUIET_ALLOWANCE bytes of `quiet` flows. Call link_note_own with the size of what it was given
 * then. Frames sent in spite of it are sent or queued like any other.
 */
bool link_takes_own(struct link *link, size_t size, bool quiet, double now);
void link_note_own(struct link *link, size_t size);

/*
 * Writes what has been collected, then refills from the queue while the kernel takes it. Call it at the end of a batch,
 * and when the kernel, or the carrier of a feed, takes data again.
 */
void link_flush(struct link *link, double now);

/* Judges the deadlines; link->timer_at then tells when to call again (0: not before something happens). */
void link_timer(struct link *link, double now);

/* Notes the end; the first reason stands. text may be NULL. */
void link_close(struct link *link, enum link_reason reason, int error, const char *text);

#endif
