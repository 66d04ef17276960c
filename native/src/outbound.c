/* The way out of this node, see plane.h: find the remote, seal in place, put the headers in front, choose the link. */
#include <stdlib.h>
#include <string.h>

#include "plane.h"

static void send_frame(struct plane *plane, uint64_t link_id, const uint8_t *frame, size_t size, size_t payload_size,
                       const uint8_t *dest)
{
    struct link *link = plane_link(plane, link_id);
    if (link)
        link_send_queued(link, frame, size, payload_size, plane->own_key, dest, plane->now);
}

/* Our own packet ends here: addressed to ourselves, or nobody is nearer to where it should go. */
static void arrived(struct plane *plane, struct remote *remote, uint8_t *payload, size_t size)
{
    if (memcmp(remote->key, plane->own_key, KEY_SIZE) == 0) {
        plane_deliver(plane, remote->key, payload, size);
        tun_flush(&plane->tun); /* the payload's memory is about to be used again */
        return;
    }
    size_t own_size;
    const uint8_t *own_path = fib_self_path(plane->fib, &own_size);
    struct buffer traffic = {0};
    uint8_t mark[MAX_UVARINT_SIZE];
    size_t mark_size = uvarint_put(mark, MAX_WATERMARK);
    if (buffer_append(&traffic, remote->path, remote->path_size) && buffer_append(&traffic, own_path, own_size) &&
        buffer_append(&traffic, plane->own_key, KEY_SIZE) && buffer_append(&traffic, remote->key, KEY_SIZE) &&
        buffer_append(&traffic, mark, mark_size) && buffer_append(&traffic, payload, size))
        plane_tell_unroutable(plane, true, remote->path_size + own_size, buffer_bytes(&traffic), buffer_size(&traffic));
    buffer_free(&traffic);
}

/* Sends a payload in front of which there are HEADROOM bytes for what comes before; the remote has a path. */
static void send_along_path(struct plane *plane, struct remote *remote, uint8_t *payload, size_t size)
{
    if (size > MAX_TRAFFIC_PAYLOAD)
        return;
    struct fib_hop hop = fib_find(plane->fib, remote->path, remote->path_size);
    if (!hop.link_id || hop.distance == MAX_WATERMARK) {
        arrived(plane, remote, payload, size);
        return;
    }
    size_t own_size;
    const uint8_t *own_path = fib_self_path(plane->fib, &own_size);
    uint8_t mark[MAX_UVARINT_SIZE];
    size_t mark_size = uvarint_put(mark, hop.distance);
    size_t traffic = remote->path_size + own_size + 2 * KEY_SIZE + mark_size + size; /* payload of the frame */
    if (traffic + 1 > MAX_FRAME_SIZE)
        return; /* only when the two nodes lie very deep in the tree */
    size_t head = uvarint_size(traffic + 1) + 1 + traffic - size;
    uint8_t *memory = NULL;
    uint8_t *frame = payload - head;
    if (head > HEADROOM - SESSION_MAX_HEAD - 1) {
        memory = malloc(head + size);
        if (!memory)
            return;
        memcpy(memory + head, payload, size);
        frame = memory;
    }
    uint8_t *at = frame;
    at += uvarint_put(at, traffic + 1);
    *at++ = FRAME_TRAFFIC;
    memcpy(at, remote->path, remote->path_size);
    at += remote->path_size;
    memcpy(at, own_path, own_size);
    at += own_size;
    memcpy(at, plane->own_key, KEY_SIZE);
    at += KEY_SIZE;
    memcpy(at, remote->key, KEY_SIZE);
    at += KEY_SIZE;
    memcpy(at, mark, mark_size);
    send_frame(plane, hop.link_id, frame, head + size, traffic, remote->key);
    free(memory);
}

/*
 * Seals a message in place and sends it. Returns the bytes that its session header has put in front of it; 0 when it
 * did not come to that. HEADROOM bytes in front of the message are free.
 */
static size_t seal_and_send(struct plane *plane, struct remote *remote, uint8_t *message, size_t size)
{
    struct session *session = &remote->session;
    size_t head = session_head_size(session);
    struct event question = {0};
    memcpy(question.key, remote->key, KEY_SIZE);
    if (!head) {
        question.type = EVENT_NONCE_EXHAUSTED;
        plane_tell(plane, question, message, size);
        return 0;
    }
    session_seal(session, plane->box, message, size);
    remote->bytes_sent += size;
    plane->counters.session_sent += size;
    remote->last_session_use = plane->now;
    if (remote->has_path) {
        send_along_path(plane, remote, message - head, head + size);
        return head;
    }
    question.type = EVENT_PATH_MISSING;
    plane_tell(plane, question, message - head, head + size);
    return 0;
}

static void session_missing(struct plane *plane, const uint8_t *dest, const uint8_t *message, size_t size)
{
    struct event question = {.type = EVENT_SESSION_MISSING};
    memcpy(question.key, dest, KEY_SIZE);
    plane_tell(plane, question, message, size);
}

/* ---- what comes from above ---- */

void plane_send_payload(struct plane *plane, const uint8_t dest[KEY_SIZE], const uint8_t *payload, size_t size)
{
    if (size > MAX_TRAFFIC_PAYLOAD)
        return;
    struct remote *remote = remote_get(&plane->remotes, dest);
    if (!remote || !remote->has_path) {
        struct event question = {.type = EVENT_PATH_MISSING};
        memcpy(question.key, dest, KEY_SIZE);
        plane_tell(plane, question, payload, size);
        return;
    }
    remote_keep(&plane->remotes, remote, payload, size);
    uint8_t *memory = malloc(HEADROOM + size + 1);
    if (!memory)
        return;
    memcpy(memory + HEADROOM, payload, size);
    send_along_path(plane, remote, memory + HEADROOM, size);
    free(memory);
}

void plane_send_kept(struct plane *plane, struct remote *remote)
{
    uint8_t *memory = malloc(HEADROOM + remote->kept_size + 1);
    if (!memory)
        return;
    memcpy(memory + HEADROOM, remote->kept + remote->kept_start, remote->kept_size);
    send_along_path(plane, remote, memory + HEADROOM, remote->kept_size);
    free(memory);
}

void plane_send_message(struct plane *plane, const uint8_t dest[KEY_SIZE], const uint8_t *message, size_t size)
{
    if (size > MAX_MESSAGE)
        return;
    struct remote *remote = remote_get(&plane->remotes, dest);
    if (!remote || !remote->has_session) {
        session_missing(plane, dest, message, size);
        return;
    }
    uint8_t *memory = malloc(HEADROOM + size + 1);
    if (!memory)
        return;
    memcpy(memory + HEADROOM, message, size);
    size_t head = seal_and_send(plane, remote, memory + HEADROOM, size);
    if (head)
        remote_keep(&plane->remotes, remote, memory + HEADROOM - head, head + size);
    free(memory);
}

struct remote *plane_find_remote(const struct plane *plane, const uint8_t *packet, size_t size, bool *lawful)
{
    *lawful = false;
    if (size < IPV6_HEADER_SIZE || packet[0] >> 4 != 6)
        return NULL;
    const uint8_t *source = packet + 8, *dest = packet + 24;
    if (memcmp(source, plane->own_address, ADDRESS_SIZE) != 0 && memcmp(source, plane->own_subnet, SUBNET_SIZE) != 0)
        return NULL;
    *lawful = dest[0] == NODE_PREFIX || dest[0] == SUBNET_PREFIX;
    if (dest[0] == NODE_PREFIX)
        return table_get(&plane->remotes.by_address, dest);
    return dest[0] == SUBNET_PREFIX ? table_get(&plane->remotes.by_subnet, dest) : NULL;
}

struct remote *plane_find_or_ask(struct plane *plane, const uint8_t *packet, size_t size)
{
    bool lawful;
    struct remote *remote = plane_find_remote(plane, packet, size, &lawful);
    if (lawful && plane->firewall)
        firewall_outbound(plane->firewall, packet, size, plane->now);
    if (lawful && !remote)
        plane_tell(plane, (struct event){.type = EVENT_DESTINATION_UNKNOWN}, packet, size);
    if (remote)
        remote->last_used = plane->now;
    return remote;
}

size_t plane_send_packet(struct plane *plane, struct remote *remote, uint8_t *packet, size_t size)
{
    uint8_t *message = packet - 1;
    *message = INNER_TRAFFIC;
    if (!remote->has_session) {
        session_missing(plane, remote->key, message, size + 1);
        return 0;
    }
    return seal_and_send(plane, remote, message, size + 1);
}

void plane_send_ipv6(struct plane *plane, const uint8_t *packet, size_t size)
{
    struct remote *remote = size < MAX_MESSAGE ? plane_find_or_ask(plane, packet, size) : NULL;
    uint8_t *memory = remote ? malloc(HEADROOM + 1 + size) : NULL;
    if (!memory)
        return;
    uint8_t *copy = memory + HEADROOM + 1;
    memcpy(copy, packet, size);
    size_t head = plane_send_packet(plane, remote, copy, size);
    if (head)
        remote_keep(&plane->remotes, remote, copy - 1 - head, head + 1 + size);
    free(memory);
}
