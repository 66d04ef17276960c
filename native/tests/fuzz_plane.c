/*
 * Random calls, packets and bytes for a few planes that are joined by feeds and sockets, with a TUN each. The same
 * numbers give the same run: fuzz_plane [rounds [seed]].
 *
 * Tables change at random, paths are short, long or very long, links come, go and stand still, frames arrive spoilt or
 * made up. Nothing in particular must get through; but what a link puts out are whole frames, and what comes out at an
 * end is what somebody sent: each message and packet consists of one byte, again and again. The rest is for sanitizers.
 */
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "check.h"
#include "checksum.h"
#include "offload.h"
#include "plane.h"

enum { NODES = 3, KEYS = 5, LINKS = 6, STEPS = 500, UDP_HEADERS = IPV6_HEADER_SIZE + UDP_HEADER_SIZE };

static uint64_t state;

static uint32_t roll(uint32_t sides)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32) % sides;
}

struct node {
    struct plane *plane;
    int tun; /* our end of its TUN, or -1 */
};

/* A link between two nodes, or of one node with nobody: then we are the peer. */
struct wire {
    struct node *ends[2]; /* [1] is NULL when we are the peer */
    uint64_t ids[2];
    int fds[2]; /* sockets: our end, when we are the peer; else the nodes' own */
    bool feed;
    struct buffer parsed; /* what [0] has put out and we have not yet looked at */
};

static uint8_t keys[KEYS][KEY_SIZE], addresses[KEYS][ADDRESS_SIZE], subnets[KEYS][SUBNET_SIZE];
static struct node nodes[NODES]; /* with the first of the keys; the other keys are strangers' */
static struct wire wires[LINKS];
static uint64_t next_id;
static size_t messages, packets, joined, frames;
static uint8_t memory[MAX_FRAME_SIZE + 100], captured[MAX_FRAME_SIZE];
static size_t captured_size;
static size_t depth; /* ports in front of all paths of this round */

static bool uniform(const uint8_t *data, size_t size)
{
    return size < 2 || memcmp(data, data + 1, size - 1) == 0;
}

/* ---- paths, keys, packets ---- */

static size_t roll_path(uint8_t *out, size_t most)
{
    size_t size = 0, ports = roll(3) ? roll(4) : roll(4) ? roll(300) : roll(30000);
    for (; ports && size + MAX_UVARINT_SIZE + 1 < most; ports--) {
        uint64_t port = 1 + roll(3);
        if (!roll(9))
            port += UINT64_MAX / 2 >> roll(63);
        size_t used = uvarint_put(out + size, port);
        for (uint32_t padding = roll(50) ? 0 : roll(5); padding && used < MAX_UVARINT_SIZE - 1; padding--) {
            out[size + used - 1] |= 0x80;
            out[size + used++] = 0;
        }
        size += used;
    }
    out[size++] = 0;
    return size;
}

/* Mostly where the node with this key lies in the tree of this round: "", "1", "1 2", "1 2 3" and "2", all far down. */
static size_t path_of(int key, uint8_t *out, size_t most)
{
    static const char *const places[KEYS] = {"", "\1", "\1\2", "\1\2\3", "\2"};
    if (!roll(8))
        return roll_path(out, most);
    size_t size = strlen(places[key]) + 1;
    memset(out, 5, depth);
    memcpy(out + depth, places[key], size);
    return depth + size;
}

/* Memory of exactly the size, for what must not be read beyond. */
static uint8_t *exact(const void *data, size_t size)
{
    uint8_t *copy = malloc(size + !size);
    CHECK(copy);
    if (size)
        memcpy(copy, data, size);
    return copy;
}

static size_t make_udp(uint8_t *out, int from, int to, size_t payload, bool begun)
{
    size_t rest = UDP_HEADER_SIZE + payload;
    memset(out, 0, UDP_HEADERS);
    out[0] = 0x60;
    put16(out + IPV6_PAYLOAD_SIZE, rest);
    out[IPV6_NEXT_HEADER] = PROTOCOL_UDP;
    out[IPV6_HOP_LIMIT] = 64;
    memcpy(out + IPV6_ADDRESSES, addresses[from], ADDRESS_SIZE);
    memcpy(out + IPV6_ADDRESSES + ADDRESS_SIZE, addresses[to], ADDRESS_SIZE);
    if (!roll(4))
        memcpy(out + IPV6_ADDRESSES + ADDRESS_SIZE, subnets[to], SUBNET_SIZE);
    uint8_t *udp = out + IPV6_HEADER_SIZE;
    put16(udp, 1000 + roll(3));
    put16(udp + UDP_SIZE, rest);
    memset(udp + UDP_HEADER_SIZE, (int)roll(256), payload);
    put16(udp + UDP_CHECKSUM, checksum_pseudo(out, PROTOCOL_UDP, rest));
    if (!begun)
        checksum_complete(udp, rest, UDP_CHECKSUM);
    return UDP_HEADERS + payload;
}

static void roll_session_keys(struct session_keys *out, int from, int to)
{
    struct session_keys other;
    if (from < to)
        make_sessions(out, &other, (uint32_t)(from * KEYS + to) * 10);
    else
        make_sessions(&other, out, (uint32_t)(to * KEYS + from) * 10);
    static const uint64_t nonces[] = {0, 100, UINT32_MAX, UINT64_MAX - 3, UINT64_MAX};
    out->send_nonce = nonces[roll(roll(8) ? 2 : 5)];
    out->keep_send_nonce = roll(12) != 0;
    if (!roll(40))
        out->local_key_seq = UINT64_MAX - roll(2);
}

/* ---- what comes out ---- */

/* The TUN with a vnet header: every part is read, so that a sanitizer sees what is gone. */
static void write_tun(void *context, const struct iovec *parts, int count)
{
    CHECK(count >= 2 && parts[0].iov_len == TUN_VNET_SIZE);
    struct tun *tun = context;
    const uint8_t *first = parts[1].iov_base;
    CHECK(parts[1].iov_len >= IPV6_HEADER_SIZE && first[0] >> 4 == 6);
    if (first[IPV6_NEXT_HEADER] == PROTOCOL_UDP)
        CHECK(uniform(first + UDP_HEADERS, parts[1].iov_len - UDP_HEADERS));
    for (int i = 2; i < count; i++)
        CHECK(uniform(parts[i].iov_base, parts[i].iov_len));
    packets++;
    joined += count > 2;
    if (writev(tun->fd, parts, count) < 0)
        tun->lost++;
}

static void check_event(const struct event *event, const uint8_t *data)
{
    if (event->type == EVENT_MESSAGE_RECEIVED) {
        CHECK(event->size);
        if (data[0] == INNER_PROTO)
            CHECK(uniform(data + 1, event->size - 1));
        messages++;
    } else if (event->type == EVENT_IPV6_RECEIVED) {
        packets++;
    } else if (event->type == EVENT_TRAFFIC_UNROUTABLE) {
        ptrdiff_t path = path_measure(data, event->size);
        CHECK(path > 0 && path_measure(data + path, event->size - (size_t)path) > 0);
    }
}

/* Looks at all whole frames that a node has put out. */
static void look_at(struct buffer *out)
{
    uint64_t length;
    int used;
    while ((used = uvarint_get(buffer_bytes(out), buffer_size(out), &length)) > 0) {
        CHECK(length >= 1 && length <= MAX_FRAME_SIZE && (size_t)used == uvarint_size(length));
        if (buffer_size(out) < (size_t)used + length)
            return;
        uint8_t *frame = buffer_bytes(out) + used;
        CHECK(frame[0] < FRAME_TYPES);
        frames++;
        if (frame[0] == FRAME_TRAFFIC) {
            size_t left = length - 1;
            ptrdiff_t path = path_measure(frame + 1, left);
            ptrdiff_t from = path > 0 ? path_measure(frame + 1 + path, left - (size_t)path) : 0;
            CHECK(from > 0 && left > (size_t)(path + from) + 2 * KEY_SIZE);
            captured_size = left;
            memcpy(captured, frame + 1, left);
        }
        buffer_consume(out, (size_t)used + length);
    }
}

static struct wire *wire_of(const struct node *node, uint64_t id, int *end)
{
    for (int i = 0; i < LINKS; i++)
        for (*end = 0; *end < 2; ++*end)
            if (wires[i].ends[*end] == node && wires[i].ids[*end] == id)
                return &wires[i];
    return NULL;
}

static void close_wire(struct wire *wire)
{
    for (int i = 0; i < 2; i++)
        if (wire->ends[i])
            plane_close_link(wire->ends[i]->plane, wire->ids[i]);
    if (wire->fds[1] >= 0)
        close(wire->fds[1]);
    buffer_free(&wire->parsed);
    *wire = (struct wire){.fds = {-1, -1}};
}

static void take_events(struct node *node)
{
    struct buffer batch;
    struct event event;
    const uint8_t *data;
    plane_settle(node->plane);
    events_take(&node->plane->events, &batch);
    plane_events_taken(node->plane);
    while (events_next(&batch, &event, &data)) {
        check_event(&event, data);
        int end;
        struct wire *wire = wire_of(node, event.link_id, &end);
        if (!wire)
            continue;
        if (event.type == EVENT_LINK_ENDED) {
            wire->ends[end] = NULL;
            close_wire(wire);
        } else if (event.type == EVENT_LINK_OUTPUT) {
            struct node *other = wire->ends[1 - end];
            struct link *link = plane_link(node->plane, event.link_id);
            if (link && (roll(3) || link->handed > 200000)) {
                link->handed = 0;
                link_flush(link, node->plane->now);
                plane_check_link(node->plane, link);
            }
            if (!end) {
                CHECK(buffer_append(&wire->parsed, data, event.size));
                look_at(&wire->parsed);
            }
            link = other ? plane_link(other->plane, wire->ids[1 - end]) : NULL;
            if (link) {
                uint8_t *copy = exact(data, event.size);
                plane_feed_link(other->plane, link, copy, event.size);
                free(copy);
            }
        }
    }
    buffer_free(&batch);
}

/* ---- what happens ---- */

static void open_wire(struct wire *wire)
{
    close_wire(wire);
    int first = (int)roll(NODES), second = (int)roll(NODES + 1);
    wire->ends[0] = &nodes[first];
    wire->ends[1] = second < NODES && second != first ? &nodes[second] : NULL;
    wire->feed = roll(2);
    int fds[2] = {-1, -1};
    if (!wire->feed)
        CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
    for (int i = 0; i < 2; i++) {
        wire->fds[i] = fds[i];
        if (!wire->ends[i])
            continue;
        struct stream stream;
        stream_init(&stream, fds[i]);
        wire->ids[i] = ++next_id;
        int key = i ? first : second < NODES ? second : KEYS - 1;
        CHECK(plane_add_link(wire->ends[i]->plane, wire->ids[i], keys[key], &stream));
    }
    if (wire->ends[1])
        wire->fds[1] = -1;
}

/* Brings bytes to a node's end of a wire that we are the peer of. */
static void inject(struct wire *wire, const uint8_t *data, size_t size)
{
    struct plane *plane = wire->ends[0]->plane;
    struct link *link = plane_link(plane, wire->ids[0]);
    if (!link)
        return;
    if (wire->feed) {
        uint8_t *copy = exact(data, size);
        plane_feed_link(plane, link, copy, size);
        free(copy);
    } else if (link_wants_input(link)) {
        (void)!write(wire->fds[1], data, size);
        plane_read_link(plane, link);
    }
}

static size_t make_traffic(uint8_t *out)
{
    if (captured_size && roll(2)) {
        memcpy(out, captured, captured_size);
        for (uint32_t spoilt = roll(3); spoilt; spoilt--)
            out[roll((uint32_t)captured_size)] ^= (uint8_t)(1 << roll(8));
        return captured_size;
    }
    size_t size = path_of((int)roll(KEYS), out, 40000);
    size += path_of((int)roll(KEYS), out + size, 40000);
    memcpy(out + size, keys[roll(KEYS)], KEY_SIZE);
    memcpy(out + size + KEY_SIZE, keys[roll(KEYS)], KEY_SIZE);
    size += 2 * KEY_SIZE;
    size += uvarint_put(out + size, roll(2) ? MAX_WATERMARK >> roll(64) : roll(5));
    if (!roll(6)) { /* more digits than it needs */
        out[size - 1] |= 0x80;
        out[size++] = 0;
    }
    size_t body = roll(200);
    for (size_t i = 0; i < body; i++)
        out[size + i] = (uint8_t)(i ? roll(256) : roll(5));
    return roll(20) ? size + body : roll((uint32_t)size);
}

static void peer_sends(struct wire *wire)
{
    uint8_t head[MAX_FRAME_HEAD];
    for (uint32_t count = 1 + roll(20); count && wire->ends[0]; count--) {
        size_t size = make_traffic(memory), used = uvarint_put(head, size + 1);
        for (uint32_t padding = roll(4) ? 0 : roll(6); padding && used < MAX_UVARINT_SIZE; padding--) {
            head[used - 1] |= 0x80;
            head[used++] = 0;
        }
        head[used++] = roll(8) ? FRAME_TRAFFIC : (uint8_t)roll(roll(4) ? FRAME_TYPES : 256);
        inject(wire, head, used);
        size_t cut = roll(2) ? size : roll((uint32_t)size + 1);
        inject(wire, memory, cut);
        inject(wire, memory + cut, size - cut);
    }
}

static void read_wire(struct wire *wire)
{
    for (int i = 0; i < 2; i++) {
        struct link *link = wire->ends[i] ? plane_link(wire->ends[i]->plane, wire->ids[i]) : NULL;
        if (!link || wire->feed)
            continue;
        if (link_wants_output(link))
            link_flush(link, wire->ends[i]->plane->now);
        if (link_wants_input(link))
            plane_read_link(wire->ends[i]->plane, link);
    }
    if (!wire->feed && wire->ends[0] && !wire->ends[1]) {
        uint8_t *place = buffer_reserve(&wire->parsed, 1 << 17);
        CHECK(place);
        ssize_t count = read(wire->fds[1], place, 1 << 17);
        wire->parsed.end += count > 0 ? (size_t)count : 0;
        look_at(&wire->parsed);
    }
}

static void new_fib(struct node *node)
{
    static uint8_t path[40000];
    size_t size = path_of((int)(node - nodes), path, sizeof path);
    struct fib *fib = fib_new(path, size);
    CHECK(fib);
    for (int i = 0; i < LINKS; i++) {
        for (int end = 0; end < 2; end++) {
            if (wires[i].ends[end] != node || !roll(5))
                continue;
            int key = wires[i].ends[1 - end] ? (int)(wires[i].ends[1 - end] - nodes) : KEYS - 2 + (int)roll(2);
            size = path_of(key, path, sizeof path);
            uint64_t cost = 1 + roll(3), priority = roll(2), order = roll(5);
            CHECK(fib_add(fib, wires[i].ids[end], keys[key], path, size, cost, priority, order));
        }
    }
    plane_set_fib(node->plane, fib);
}

static void change_tables(struct node *node)
{
    int own = (int)(node - nodes), key = (int)roll(KEYS);
    static uint8_t path[60000];
    struct session_keys session;
    uint64_t generation;
    switch (roll(10)) {
    case 0:
        new_fib(node);
        break;
    case 1:
        if (!roll(3))
            plane_remove_path(node->plane, keys[key]);
        if (!roll(3))
            plane_remove_session(node->plane, keys[key]);
        if (!roll(3))
            plane_remove_address(node->plane, keys[key]);
        break;
    case 2:
    case 3:
    case 4:
        CHECK(plane_set_address(node->plane, keys[key], addresses[key], subnets[roll(9) ? (uint32_t)key : roll(KEYS)]));
        break;
    case 5:
    case 6:
    case 7:
        roll_session_keys(&session, own, key);
        CHECK(plane_set_session(node->plane, keys[key], &session, &generation) && generation);
        break;
    default:
        CHECK(plane_set_path(node->plane, keys[key], path, path_of(key, path, sizeof path)));
        break;
    }
}

static void send_something(struct node *node)
{
    int own = (int)(node - nodes), key = (int)roll(KEYS);
    size_t size = roll(4) ? roll(1500) : roll(4) ? roll(20000) : roll(MAX_FRAME_SIZE);
    uint8_t *data;
    switch (roll(3)) {
    case 0:
        memset(memory, (int)roll(256), size);
        data = exact(memory, size);
        plane_send_payload(node->plane, keys[key], data, size);
        break;
    case 1:
        memset(memory, (int)roll(256), size);
        memory[0] = INNER_PROTO;
        data = exact(memory, size);
        plane_send_message(node->plane, keys[key], data, size);
        break;
    default:
        size = make_udp(memory, own, key, size < 65000 ? size : 65000, false);
        data = exact(memory, size);
        plane_send_ipv6(node->plane, data, size);
        break;
    }
    free(data);
}

static void tun_brings(struct node *node)
{
    if (node->tun < 0 || node->plane->tun.paused_until != 0)
        return;
    int key = (int)roll(KEYS);
    for (uint32_t count = 1 + roll(20); count; count--) {
        struct virtio_net_hdr header = {0};
        size_t payload = roll(4) ? roll(1400) : roll(60000);
        bool super = node->plane->tun.vnet && roll(3) == 0;
        size_t size = make_udp(memory + sizeof header, (int)(node - nodes), roll(3) ? key : (int)roll(KEYS), payload, super);
        if (super)
            header = (struct virtio_net_hdr){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
                                             .gso_type = VIRTIO_NET_HDR_GSO_UDP_L4,
                                             .gso_size = (uint16_t)(1 + roll(3000) + payload / 60),
                                             .csum_start = IPV6_HEADER_SIZE,
                                             .csum_offset = UDP_CHECKSUM};
        memcpy(memory, &header, sizeof header);
        size_t skip = node->plane->tun.vnet ? 0 : sizeof header;
        (void)!write(node->tun, memory + skip, size + sizeof header - skip);
    }
    plane_read_tun(node->plane);
}

static void switch_tun(struct node *node)
{
    struct tun *tun = &node->plane->tun;
    if (node->tun >= 0) {
        if (tun->fd >= 0)
            close(tun->fd);
        close(node->tun);
        node->tun = -1;
        tun_detach(tun);
        plane_forget_waiting(node->plane);
        tun->mtu = DEFAULT_MTU;
        return;
    }
    int fds[2];
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fds) == 0);
    CHECK(tun_attach(tun, fds[0], roll(2) ? 65535 : 1280));
    node->tun = fds[1];
    if (roll(4)) {
        tun->vnet = true;
        CHECK((tun->coalescer = malloc(sizeof *tun->coalescer)));
        coalescer_init(tun->coalescer, write_tun, tun, true, true);
    }
}

static void step(void)
{
    struct node *node = &nodes[roll(NODES)];
    struct wire *wire = &wires[roll(LINKS)];
    uint32_t what = roll(100);
    if (what < 2) {
        open_wire(wire);
        for (int i = 0; i < NODES; i++)
            if (roll(4))
                new_fib(&nodes[i]);
    } else if (what < 3)
        close_wire(wire);
    else if (what < 12)
        change_tables(node);
    else if (what < 40)
        send_something(node);
    else if (what < 50)
        tun_brings(node);
    else if (what < 51)
        switch_tun(node);
    else if (what < 65 && wire->ends[0] && !wire->ends[1])
        peer_sends(wire);
    else if (what < 80)
        read_wire(wire);
    else if (what < 92)
        take_events(node);
    else
        node->plane->now += roll(4) ? 0.01 : 0.3, plane_timers(node->plane);
    if (roll(2))
        plane_settle(node->plane);
    CHECK(node->plane->remotes.kept_bytes <= MAX_KEPT_BYTES && node->plane->remotes.by_key.count <= KEYS);
    for (uint8_t buffer[70000]; node->tun >= 0 && read(node->tun, buffer, sizeof buffer) > 0;)
        continue;
}

static void round_of(void)
{
    static const uint32_t depths[] = {1, 1, 300, 500, 30000};
    depth = roll(depths[roll(5)]);
    for (int i = 0; i < NODES; i++) {
        CHECK((nodes[i].plane = plane_new(keys[i], addresses[i], subnets[i])));
        nodes[i].plane->now = 1000;
        nodes[i].tun = -1;
    }
    for (int i = 0; i < LINKS; i++)
        open_wire(&wires[i]);
    for (int i = 0; i < NODES; i++) {
        new_fib(&nodes[i]);
        switch_tun(&nodes[i]);
        for (int j = 0; j < 50; j++)
            change_tables(&nodes[i]);
    }
    for (int i = 0; i < STEPS; i++)
        step();
    for (int i = 0; i < LINKS; i++)
        close_wire(&wires[i]);
    for (int i = 0; i < NODES; i++) {
        if (nodes[i].tun >= 0)
            switch_tun(&nodes[i]);
        plane_free(nodes[i].plane);
    }
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? atol(argv[1]) : 30;
    state = argc > 2 ? strtoull(argv[2], NULL, 0) * 2 + 1 : 0x9e3779b97f4a7c15;
    for (int i = 0; i < KEYS; i++) {
        make_key(keys[i], (uint32_t)i);
        address_for_key(keys[i], addresses[i]);
        memcpy(subnets[i], addresses[i], SUBNET_SIZE);
        subnets[i][0] = SUBNET_PREFIX;
    }
    for (int i = 0; i < LINKS; i++)
        wires[i].fds[0] = wires[i].fds[1] = -1;
    for (long i = 0; i < rounds; i++)
        round_of();
    printf("%ld rounds: %zu frames, %zu messages, %zu packets, %zu of them joined\n", rounds, frames, messages, packets,
           joined);
    return 0;
}
