/*
 * What comes from the TUN, see plane.h: read promptly, wait in the fair queue while the link is busy, cut to size, send.
 *
 * As long as nothing waits, a packet goes from where it was read straight to its link. Of packets that do wait, a few of
 * quiet flows (that had nothing here before) pass even a link that is as busy as it should be, see link_takes_own.
 */
#include <stdlib.h>
#include <string.h>

#include "plane.h"
#include "segment.h"

enum {
    WORTH_HANDING_ON = 1 << 13, /* bytes from which an exchange of buffers is cheaper than a copy */
    PACKET_START = HEADROOM + 1, /* where in a buffer a packet is read to */
};

/* ---- memory of packets that wait ---- */

/* Memory for a packet of `room` bytes that waits: what became free last, since the processor's cache still has that. */
static struct fair_packet *packet_new(struct plane *plane, size_t room)
{
    struct fair_packet *packet = room == PACKET_ROOM ? plane->spare : NULL;
    if (packet) {
        plane->spare = packet->next;
        plane->spares--;
        return packet;
    }
    packet = malloc(sizeof *packet);
    uint8_t *memory = malloc(room);
    if (!packet || !memory) {
        free(packet);
        free(memory);
        return NULL;
    }
    packet->memory = memory;
    packet->room = room;
    return packet;
}

static void packet_free(struct plane *plane, struct fair_packet *packet)
{
    if (packet->room != PACKET_ROOM || plane->spares == MAX_SPARES) {
        fair_packet_free(packet);
        return;
    }
    packet->next = plane->spare;
    plane->spare = packet;
    plane->spares++;
}

void plane_free_spares(struct plane *plane)
{
    struct fair_packet *packet;
    while ((packet = plane->spare)) {
        plane->spare = packet->next;
        fair_packet_free(packet);
    }
    plane->spares = 0;
}

/* ---- sending ---- */

/* Keeps the sealed packet that lies at `packet` inside *memory, which has PACKET_ROOM bytes if `whole` says so. */
static void keep_whole(struct plane *plane, struct remote *remote, uint8_t **memory, size_t room, const uint8_t *packet,
                       size_t head, size_t size)
{
    const uint8_t *payload = packet - 1 - head;
    size_t length = head + 1 + size;
    if (length < WORTH_HANDING_ON)
        remote_keep(&plane->remotes, remote, payload, length);
    else
        remote_keep_memory(&plane->remotes, remote, memory, room, (size_t)(payload - *memory), length);
}

static void send_segments(struct plane *plane, struct remote *remote, struct segmenter *segmenter)
{
    uint8_t *piece = plane->segment + PACKET_START;
    size_t size, last = 0, head = 0;
    while ((size = segmenter_next(segmenter, piece))) {
        head = plane_send_packet(plane, remote, piece, size);
        last = size;
        if (!remote->has_session)
            return; /* one question is enough */
    }
    if (head)
        remote_keep(&plane->remotes, remote, piece - 1 - head, head + 1 + last);
}

/* Sends a packet (or super-packet) that lies in *memory, which may be exchanged for other memory of the same room. */
static void send_read(struct plane *plane, const struct virtio_net_hdr *header, uint8_t **memory, size_t room,
                      size_t start, size_t size)
{
    uint8_t *packet = *memory + start;
    struct segmenter segmenter;
    if (!segmenter_init(&segmenter, header, packet, size))
        return;
    const uint8_t *place;
    if (segmenter_whole(&segmenter, &place, &size)) {
        uint8_t *whole = packet + (place - packet);
        struct remote *remote = plane_find_or_ask(plane, whole, size);
        size_t head = remote ? plane_send_packet(plane, remote, whole, size) : 0;
        if (head)
            keep_whole(plane, remote, memory, room, whole, head, size);
        return;
    }
    bool lawful;
    struct remote *remote = plane_find_remote(plane, packet, size, &lawful);
    if (lawful && plane->firewall)
        firewall_outbound(plane->firewall, packet, size, plane->now);
    if (remote) {
        remote->last_used = plane->now;
        send_segments(plane, remote, &segmenter);
    } else if (lawful) {
        size = segmenter_next(&segmenter, plane->segment + PACKET_START);
        plane_tell(plane, (struct event){.type = EVENT_DESTINATION_UNKNOWN}, plane->segment + PACKET_START, size);
    }
}

/* The link that a packet would leave by; NULL: none, its end is decided elsewhere. */
static struct link *link_for(const struct plane *plane, const uint8_t *packet, size_t size)
{
    bool lawful;
    const struct remote *remote = plane_find_remote(plane, packet, size, &lawful);
    if (!remote || !remote->has_path || !remote->has_session)
        return NULL;
    struct fib_hop hop = fib_find(plane->fib, remote->path, remote->path_size);
    return hop.link_id && hop.distance != MAX_WATERMARK ? plane_link(plane, hop.link_id) : NULL;
}

static void send_by(struct plane *plane, struct link *link, const struct virtio_net_hdr *header, uint8_t **memory,
                    size_t room, size_t start, size_t size)
{
    uint64_t before = link ? link->sent : 0;
    send_read(plane, header, memory, room, start, size);
    if (link)
        link_note_own(link, link->sent - before);
}

void plane_send_waiting(struct plane *plane)
{
    struct fair_queue *fair = &plane->fair;
    const struct fair_packet *shown;
    bool fresh;
    fair_unblock(fair);
    while ((shown = fair_peek(fair, &fresh))) {
        struct link *link = link_for(plane, shown->memory + shown->start, shown->size);
        if (link && !link_takes_own(link, shown->size, fresh, plane->now)) {
            fair_block(fair);
            continue;
        }
        struct fair_packet *packet = fair_pop(fair);
        send_by(plane, link, &packet->header, &packet->memory, packet->room, packet->start, packet->size);
        packet_free(plane, packet);
    }
    plane->egress_at = fair_is_empty(fair) ? 0 : plane->now + EGRESS_RETRY;
    if (plane->tun.paused_until != 0 && !fair_is_full(fair)) {
        plane->tun.paused_until = 0;
        plane->watch_tun(plane->watcher, true);
    }
}

void plane_forget_waiting(struct plane *plane)
{
    plane->counters.tun_dropped += plane->fair.dropped;
    fair_clear(&plane->fair);
    plane_free_spares(plane);
    plane->egress_at = 0;
}

/* ---- reading ---- */

/* Lets what was read into plane->packet wait: in a copy if it is small, else in that very memory. */
static void wait_fairly(struct plane *plane, const struct virtio_net_hdr *header, size_t size)
{
    bool copied = size < WORTH_HANDING_ON;
    struct fair_packet *packet = packet_new(plane, copied ? PACKET_START + size : PACKET_ROOM);
    if (!packet)
        return;
    packet->header = *header;
    packet->start = PACKET_START;
    packet->size = size;
    if (copied) {
        memcpy(packet->memory + PACKET_START, plane->packet + PACKET_START, size);
    } else {
        uint8_t *memory = packet->memory;
        packet->memory = plane->packet;
        plane->packet = memory;
    }
    while (fair_is_full(&plane->fair))
        fair_drop(&plane->fair);
    fair_push(&plane->fair, packet);
}

void plane_read_tun(struct plane *plane)
{
    struct tun *tun = &plane->tun;
    size_t bytes = 0;
    for (int i = 0; i < TUN_BATCH && bytes < TUN_BATCH_BYTES; i++) {
        struct virtio_net_hdr header;
        uint8_t *packet = plane->packet + PACKET_START;
        size_t size = tun_read(tun, packet, PACKET_ROOM - PACKET_START, &header);
        if (!size)
            break;
        struct link *link = fair_is_empty(&plane->fair) ? link_for(plane, packet, size) : NULL;
        if (fair_is_empty(&plane->fair) && (!link || link_takes_own(link, size, false, plane->now))) {
            send_by(plane, link, &header, &plane->packet, PACKET_ROOM, PACKET_START, size);
            bytes += size; /* what only waits costs next to nothing, and may hide a quiet flow's packet */
        } else {
            wait_fairly(plane, &header, size);
        }
    }
    if (!fair_is_empty(&plane->fair))
        plane_send_waiting(plane);
    if (fair_is_full(&plane->fair) && tun->fd >= 0) {
        tun->paused_until = plane->now + TUN_PAUSE_LIMIT;
        plane->watch_tun(plane->watcher, false);
    }
}
