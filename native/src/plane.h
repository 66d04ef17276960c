/*
 * The packet path: what yggpy/datapath/pure.py does, in C. It holds the tables that the control plane pushes, the links
 * and the TUN; it has no thread, no lock and no clock of its own (see engine.h for those).
 *
 * The way of one packet out of this node:
 *
 * 1. tun.c reads it; it waits in the fair queue if its link has enough to do (egress.c);
 * 2. version and source are checked, the remote is found by destination address or subnet, and it is sealed in place with the remote's session keys (outbound.c);
 * 3. our coordinates and the remote's go directly in front of it, and the frame to the link that the fib names;
 *
 * and in: a Traffic frame is routed again where it lies in the read buffer; if nobody is nearer and it is for us, it is
 * opened in place, checked and written to the TUN (inbound.c). Transit changes nothing but the watermark.
 *
 * What cannot be decided here goes up as an event. Nothing on the way is allocated for a packet.
 */
#ifndef YGGPY_PLANE_H
#define YGGPY_PLANE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "box.h"
#include "events.h"
#include "fair.h"
#include "fib.h"
#include "firewall.h"
#include "link.h"
#include "remote.h"
#include "table.h"
#include "tun.h"
#include "wire.h"

enum {
    DEFAULT_MTU = 1280,  /* of the IPv6 layer while there is no TUN */
    HEADROOM = 512,      /* bytes in front of a packet for all headers; longer paths take a slower way */
    MAX_UNOPENED = 96,   /* packets that do not open and are asked about in one batch of events */
    MAX_UNROUTABLE = 16, /* packets that cannot go on and are told of in one batch */
    MAX_TOLD_PATHS = 1024, /* bytes of coordinates in a packet that cannot go on and is told of; no tree is that deep */
    MAX_SPARES = 32,     /* large packets whose memory is kept while traffic goes on */
    PACKET_ROOM = HEADROOM + MAX_TUN_PACKET + 1 + 512, /* of a buffer that takes any packet of the TUN */
};

#define TUN_PAUSE_LIMIT 0.05 /* seconds for which a full fair queue may hold up the reading of the TUN */
#define EGRESS_RETRY 0.0001  /* seconds after which packets that no link would take are offered again, at the latest */
#define TELL_AGAIN 0.1       /* seconds after which a question about one remote is asked again */

/* Since the plane was made. Of links and sessions, what the ended ones had counted is in here, too. */
struct plane_counters {
    uint64_t received, sent, dropped;         /* bytes of links, packets of their queues; ended links only */
    uint64_t transit_packets, transit_bytes;  /* passed on for others */
    uint64_t session_received, session_sent;  /* bytes of messages */
    uint64_t tun_dropped;                     /* by fair queues of TUNs that are gone */
};

struct plane {
    uint8_t own_key[KEY_SIZE];
    uint8_t own_address[ADDRESS_SIZE];
    uint8_t own_subnet[SUBNET_SIZE];
    double now; /* seconds; whoever calls sets it first */
    struct events events;
    struct remotes remotes;
    struct fib *fib;
    struct table links; /* by id */
    double links_at;    /* no link's deadline is earlier; 0: none has one */
    struct link *dirty; /* have unwritten frames */
    struct link *dead;  /* closed, to be freed when nobody is inside them any more */
    struct link_owner owner;
    struct link *input;     /* the link whose frames are being handled, or NULL */
    struct box_context *box;
    struct tun tun;
    struct fair_queue fair; /* packets of the TUN that no link takes yet */
    double egress_at;       /* when to offer them again; 0: none waits */
    struct fair_packet *spare; /* large packets' memory to be used again, the last one first */
    size_t spares;
    struct firewall *firewall; /* NULL: everybody may send everything to this machine */
    struct plane_counters counters;
    uint64_t tun_serial;    /* counts TUNs, so that late news of one is not taken for news of the next */
    uint64_t generations;   /* counts installed session keys, over all remotes */
    size_t unopened;        /* packets that did not open, since events were taken */
    size_t unroutable[2];   /* packets that could not go on since events were taken: others', our own */
    uint8_t *packet;  /* PACKET_ROOM: what the TUN was read into */
    uint8_t *segment; /* PACKET_ROOM: a piece of it, and what comes from above */
    uint8_t *scratch; /* STREAM_CIPHER_ROOM */
    uint8_t *plain;   /* LINK_PLAIN_ROOM */
    void (*watch_link)(void *watcher, struct link *link);
    void (*watch_tun)(void *watcher, bool input);
    void *watcher;
};

/* NULL: out of memory. Keys and addresses are those of this node. */
struct plane *plane_new(const uint8_t key[KEY_SIZE], const uint8_t address[ADDRESS_SIZE],
                        const uint8_t subnet[SUBNET_SIZE]);
void plane_free(struct plane *plane);

/* Flushes what is dirty, tells of links that have ended and frees them. Call at the end of each batch of input. */
void plane_settle(struct plane *plane);

/* Judges deadlines; returns when to call again (0: nothing is due). */
double plane_timers(struct plane *plane);

/* When the next deadline is, without judging any (0: nothing is due). */
double plane_next_timer(const struct plane *plane);

/* ---- links (plane.c) ---- */

/* Takes over the stream. False: out of memory; the stream is then still the caller's. */
bool plane_add_link(struct plane *plane, uint64_t id, const uint8_t key[KEY_SIZE], struct stream *stream);
struct link *plane_link(const struct plane *plane, uint64_t id);
/* Reads what has arrived from its descriptor, or handles what somebody else has carried here. */
void plane_read_link(struct plane *plane, struct link *link);
void plane_feed_link(struct plane *plane, struct link *link, const uint8_t *data, size_t size);
/* If a call has ended the link: takes it away and tells the control plane. */
void plane_check_link(struct plane *plane, struct link *link);
/* Ends a link without an event: the control plane knows. */
void plane_close_link(struct plane *plane, uint64_t id);
/* All events so far have been taken: links that were held up go on. */
void plane_events_taken(struct plane *plane);

/* ---- tables (plane.c) ---- */

void plane_set_fib(struct plane *plane, struct fib *fib);
bool plane_set_path(struct plane *plane, const uint8_t dest[KEY_SIZE], const uint8_t *path, size_t size);
void plane_remove_path(struct plane *plane, const uint8_t dest[KEY_SIZE]);
bool plane_set_session(struct plane *plane, const uint8_t key[KEY_SIZE], const struct session_keys *keys,
                       uint64_t *generation);
void plane_remove_session(struct plane *plane, const uint8_t key[KEY_SIZE]);
bool plane_set_address(struct plane *plane, const uint8_t key[KEY_SIZE], const uint8_t address[ADDRESS_SIZE],
                       const uint8_t subnet[SUBNET_SIZE]);
void plane_remove_address(struct plane *plane, const uint8_t key[KEY_SIZE]);

/* ---- outbound (outbound.c); data is not changed unless said otherwise ---- */

void plane_send_payload(struct plane *plane, const uint8_t dest[KEY_SIZE], const uint8_t *payload, size_t size);
void plane_send_message(struct plane *plane, const uint8_t dest[KEY_SIZE], const uint8_t *message, size_t size);
void plane_send_ipv6(struct plane *plane, const uint8_t *packet, size_t size);

/* The remote that an IPv6 packet should go to: NULL and *lawful if its key is not known; not lawful: drop it. */
struct remote *plane_find_remote(const struct plane *plane, const uint8_t *packet, size_t size, bool *lawful);

/* As plane_find_remote; a packet to a node that is not known yet is asked about. NULL: nothing more to do. */
struct remote *plane_find_or_ask(struct plane *plane, const uint8_t *packet, size_t size);

/*
 * Seals and sends a packet that lies in memory with HEADROOM + 1 free bytes in front. Returns the bytes that its session
 * header takes there, in front of the one byte of its type; 0 when it did not come to that.
 */
size_t plane_send_packet(struct plane *plane, struct remote *remote, uint8_t *packet, size_t size);

/* Sends again what was last sent along a path that has changed. */
void plane_send_kept(struct plane *plane, struct remote *remote);

/* ---- what comes from the TUN (egress.c) ---- */

/* Reads a batch of packets from the TUN, and sends what the links take. */
void plane_read_tun(struct plane *plane);

/* Sends of what waits as much as the links take now. */
void plane_send_waiting(struct plane *plane);

/* Forgets what waits. */
void plane_forget_waiting(struct plane *plane);

/* Gives back the memory that has been kept for packets to come. */
void plane_free_spares(struct plane *plane);

/* ---- inbound (inbound.c) ---- */

/* A Traffic frame: NULL, or why it is refused. Its bytes, and those of the frame's head in front, may be changed. */
const char *plane_on_traffic(struct plane *plane, uint8_t *payload, size_t size);

/* A session-layer payload for this node; it may be changed in place. */
void plane_deliver(struct plane *plane, const uint8_t source[KEY_SIZE], uint8_t *payload, size_t size);

/* A packet that is not for us and cannot go on; path_sizes: bytes of both coordinates in it. own: we have sent it. */
void plane_tell_unroutable(struct plane *plane, bool own, size_t path_sizes, const uint8_t *traffic, size_t size);

/*
 * Tries once more to open traffic that was asked about; it may be changed in place. SESSION_MISMATCH: it still does not
 * open, and *known tells whether there is a session at all.
 */
enum session_verdict plane_open_again(struct plane *plane, const uint8_t source[KEY_SIZE], uint8_t *payload, size_t size,
                                      bool *known);

/* Adds an event that the link being read has caused. */
void plane_tell(struct plane *plane, struct event event, const uint8_t *data, size_t size);

#endif
