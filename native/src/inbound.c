/* The way into and through this node, see plane.h: route again, open in place, check, write. */
#include <string.h>

#include "icmp.h"
#include "plane.h"

/* ---- routing ---- */

/* Sends a frame on, in place: only the watermark changes, and as it falls at every hop it never takes more bytes. */
static void forward(struct plane *plane, struct fib_hop hop, uint8_t *payload, uint8_t *mark, uint8_t *body,
                    uint8_t *end)
{
    struct link *link = plane_link(plane, hop.link_id);
    if (!link)
        return;
    plane->counters.transit_packets++;
    plane->counters.transit_bytes += (size_t)(end - payload);
    uint8_t encoded[MAX_UVARINT_SIZE];
    size_t mark_size = uvarint_put(encoded, hop.distance);
    uint8_t *new_mark = body - mark_size;
    size_t shift = (size_t)(new_mark - mark);
    if (shift)
        memmove(payload + shift, payload, (size_t)(mark - payload));
    memcpy(new_mark, encoded, mark_size);
    payload += shift;
    size_t size = (size_t)(end - payload);
    uint8_t *frame = payload - 1 - uvarint_size(size + 1);
    payload[-1] = FRAME_TRAFFIC;
    uvarint_put(frame, size + 1);
    link_send_queued(link, frame, (size_t)(end - frame), size, new_mark - 2 * KEY_SIZE, new_mark - KEY_SIZE,
                     plane->now);
}

const char *plane_on_traffic(struct plane *plane, uint8_t *payload, size_t size)
{
    uint8_t *end = payload + size;
    ptrdiff_t path_size = path_measure(payload, size);
    if (path_size <= 0)
        return path_size ? "number overflows 64 bits" : "path without end";
    ptrdiff_t from_size = path_measure(payload + path_size, size - (size_t)path_size);
    if (from_size <= 0)
        return from_size ? "number overflows 64 bits" : "path without end";
    uint8_t *source = payload + path_size + from_size;
    if (end - source < 2 * KEY_SIZE + 1)
        return "number cut short";
    uint8_t *dest = source + KEY_SIZE, *mark = dest + KEY_SIZE;
    uint64_t watermark;
    int used = uvarint_get(mark, (size_t)(end - mark), &watermark);
    if (used <= 0)
        return used ? "number overflows 64 bits" : "number cut short";
    uint8_t *body = mark + used;
    struct fib_hop hop = fib_find(plane->fib, payload, (size_t)path_size);
    if (hop.distance >= watermark || !fib_transit(plane->fib))
        hop.link_id = 0; /* it is not nearer than it already was, or we are nobody's way */
    if (hop.link_id)
        forward(plane, hop, payload, mark, body, end);
    else if (memcmp(dest, plane->own_key, KEY_SIZE) == 0)
        plane_deliver(plane, source, body, (size_t)(end - body));
    else
        plane_tell_unroutable(plane, memcmp(source, plane->own_key, KEY_SIZE) == 0, (size_t)(path_size + from_size),
                              payload, size);
    return NULL;
}

/* ---- opening ---- */

static void tell_of(struct plane *plane, enum event_type type, const uint8_t *key, const uint8_t *data, size_t size)
{
    struct event event = {.type = type};
    memcpy(event.key, key, KEY_SIZE);
    plane_tell(plane, event, data, size);
}

/* Tells an IPv6 packet that is addressed to this node from an application's datagram. */
static bool is_ipv6_for_us(const struct plane *plane, const uint8_t *packet, size_t size)
{
    return size >= IPV6_HEADER_SIZE && packet[0] >> 4 == 6 &&
           (size_t)(packet[4] << 8 | packet[5]) + IPV6_HEADER_SIZE == size &&
           (memcmp(packet + 24, plane->own_address, ADDRESS_SIZE) == 0 ||
            memcmp(packet + 24, plane->own_subnet, SUBNET_SIZE) == 0);
}

static void deliver_ipv6(struct plane *plane, struct remote *remote, uint8_t *packet, size_t size)
{
    if (!remote->has_address && (remote->told_source < 0 || plane->now - remote->told_source > TELL_AGAIN)) {
        remote->told_source = plane->now;
        tell_of(plane, EVENT_SOURCE_LEARNED, remote->key, NULL, 0);
    }
    remote->last_used = plane->now;
    if (memcmp(packet + 8, remote->address, ADDRESS_SIZE) != 0 && memcmp(packet + 8, remote->subnet, SUBNET_SIZE) != 0)
        return;
    if (plane->firewall && !firewall_inbound(plane->firewall, remote->key, packet, size, plane->now))
        return;
    if (size > plane->tun.mtu) { /* only now, unlike Go: a forged source could send the answer anywhere */
        uint8_t answer[ICMP_MAX_SIZE];
        plane_send_ipv6(plane, answer, icmp_packet_too_big(packet, size, plane->tun.mtu, answer));
    } else if (plane->tun.fd < 0) {
        tell_of(plane, EVENT_IPV6_RECEIVED, remote->key, packet, size);
    } else {
        tun_write(&plane->tun, packet, size);
    }
}

/* Traffic under the sender's next key moves the session on; the control plane decides, and is not asked too often. */
static void ask_to_ratchet(struct plane *plane, struct remote *remote, const struct session_opened *opened)
{
    uint64_t generation = remote->session.generation;
    if (remote->told_generation == generation && remote->told_ratchet >= 0 &&
        plane->now - remote->told_ratchet < TELL_AGAIN)
        return;
    remote->told_generation = generation;
    remote->told_ratchet = plane->now;
    struct event event = {
        .type = EVENT_SESSION_RATCHET, .number = opened->nonce, .detail = opened->which, .generation = generation};
    memcpy(event.key, remote->key, KEY_SIZE);
    plane_tell(plane, event, opened->next_public, KEY_SIZE);
}

/*
 * Traffic that does not open may have come right behind the init or ack that explains it, which the control plane has not
 * read yet. So it goes up whole, behind that one, and comes back by plane_open_again. Anybody can name any source: these
 * questions are few in a batch, and do not count against the link that brings them.
 */
static void ask_about(struct plane *plane, enum event_type type, const uint8_t *source, const uint8_t *payload,
                      size_t size)
{
    if (plane->unopened++ >= MAX_UNOPENED)
        return;
    struct event event = {.type = type, .when = plane->now};
    memcpy(event.key, source, KEY_SIZE);
    events_push(&plane->events, event, payload, size);
}

static void deliver_opened(struct plane *plane, struct remote *remote, struct session_opened opened)
{
    remote->bytes_received += opened.size;
    plane->counters.session_received += opened.size;
    remote->last_session_use = plane->now;
    if (opened.which != SESSION_CURRENT)
        ask_to_ratchet(plane, remote, &opened);
    if (!opened.size)
        return;
    if (opened.message[0] == INNER_TRAFFIC && is_ipv6_for_us(plane, opened.message + 1, opened.size - 1))
        deliver_ipv6(plane, remote, opened.message + 1, opened.size - 1);
    else
        tell_of(plane, EVENT_MESSAGE_RECEIVED, remote->key, opened.message, opened.size);
}

static void open_traffic(struct plane *plane, const uint8_t *source, uint8_t *payload, size_t size)
{
    struct remote *remote = remote_get(&plane->remotes, source);
    struct session_opened opened;
    if (!remote || !remote->has_session) {
        ask_about(plane, EVENT_SESSION_UNKNOWN, source, payload, size);
        return;
    }
    enum session_verdict verdict = session_open(&remote->session, plane->box, payload, size, &opened);
    if (verdict == SESSION_OPENED)
        deliver_opened(plane, remote, opened);
    else if (verdict == SESSION_MISMATCH)
        ask_about(plane, EVENT_SESSION_MISMATCH, source, payload, size);
}

enum session_verdict plane_open_again(struct plane *plane, const uint8_t source[KEY_SIZE], uint8_t *payload, size_t size,
                                      bool *known)
{
    struct remote *remote = remote_get(&plane->remotes, source);
    struct session_opened opened;
    *known = remote && remote->has_session;
    if (!*known)
        return SESSION_MISMATCH;
    enum session_verdict verdict = session_open(&remote->session, plane->box, payload, size, &opened);
    if (verdict == SESSION_OPENED) {
        deliver_opened(plane, remote, opened);
        tun_flush(&plane->tun); /* the payload's memory is about to go */
    }
    return verdict;
}

void plane_deliver(struct plane *plane, const uint8_t source[KEY_SIZE], uint8_t *payload, size_t size)
{
    struct remote *remote = remote_get(&plane->remotes, source);
    if (remote && remote->has_path)
        remote->last_traffic = plane->now;
    if (!size)
        return;
    switch (payload[0]) {
    case MESSAGE_TRAFFIC:
        open_traffic(plane, source, payload, size);
        break;
    case MESSAGE_INIT:
    case MESSAGE_ACK:
        tell_of(plane, EVENT_SESSION_MESSAGE, source, payload, size);
        break;
    default:
        break;
    }
}
