/*
 * Random traffic through link.c, both ways at once, over a socket and as a feed. The same numbers give the same run:
 * fuzz_link [rounds [seed]].
 *
 * In: frames with lengths in any encoding, cut anywhere; each must come up once, in order, as it was sent, though the
 * receiver spoils the memory it lies in. The first bad frame ends the link. Out: a peer that reads now and then must get
 * whole frames: every direct one, and the queued ones in order but for those that the queue counts as dropped.
 */
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "link.h"

enum { FRAMES_IN = 300, STEPS = 400 };

static uint64_t state;

static uint32_t roll(uint32_t sides)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32) % sides;
}

static size_t roll_size(void)
{
    static const uint32_t limits[] = {1, 10, 200, 1500, 20000, MAX_FRAME_SIZE};
    return roll(limits[roll(roll(4) ? 4 : 6)]);
}

static struct {
    struct link *link;
    int peer; /* the other end, or -1 */
    bool is_dirty;
    double now;
    struct buffer in;  /* what the peer is about to send */
    struct buffer out; /* what the peer has got */
    struct {
        uint8_t type;
        size_t size;
        uint32_t seed;
    } expected[FRAMES_IN];
    size_t written, arrived, bad_at; /* frames; the index of the bad one */
    size_t handed;                   /* feed: bytes the carrier holds */
    uint32_t direct_sent, direct_got, queued_sent, queued_next, queued_got;
} run;

static uint8_t scratch[STREAM_CIPHER_ROOM], *plain, body[MAX_FRAME_SIZE + 16], wanted[MAX_FRAME_SIZE];

/* ---- the owner ---- */

static const char *on_frame(void *self, struct link *link, enum frame_type type, uint8_t *start, uint8_t *payload,
                            size_t size)
{
    CHECK(self == &run && link == run.link && run.arrived < run.written);
    CHECK(type > FRAME_KEEPALIVE && type < FRAME_TYPES && start < payload && payload - start <= MAX_FRAME_HEAD);
    while (run.expected[run.arrived].type <= FRAME_KEEPALIVE)
        run.arrived++;
    CHECK(run.expected[run.arrived].type == type && run.expected[run.arrived].size == size);
    pattern(wanted, size, run.expected[run.arrived].seed);
    CHECK(memcmp(wanted, payload, size) == 0);
    run.arrived++;
    memset(start, 0xee, (size_t)(payload - start) + size);
    return NULL;
}

static void on_dirty(void *self, struct link *link)
{
    (void)self;
    CHECK(link == run.link && !run.is_dirty);
    run.is_dirty = true;
}

static void on_watch(void *self, struct link *link)
{
    (void)self;
    link->watching_input = link_wants_input(link);
    link->watching_output = link_wants_output(link);
}

static void on_output(void *self, struct link *link, const uint8_t *data, size_t size)
{
    (void)self, (void)link;
    CHECK(size && buffer_append(&run.out, data, size));
    run.handed += size;
}

static void on_armed(void *self, double at)
{
    (void)self;
    CHECK(at == run.link->timer_at);
}

static const struct link_owner owner = {&run, on_frame, on_dirty, on_watch, on_output, on_armed};

/* ---- in ---- */

static void write_in(void)
{
    if (run.written == FRAMES_IN)
        return;
    uint8_t head[MAX_FRAME_HEAD];
    size_t size = roll_size(), used;
    bool bad = run.written == run.bad_at;
    uint64_t length = size + 1;
    if (bad && roll(2))
        length = roll(2) ? 0 : MAX_FRAME_SIZE + 1 + (uint64_t)roll(1 << 30) * roll(1 << 30);
    used = uvarint_put(head, length);
    for (uint32_t padding = roll(6) ? 0 : roll(9); padding && used < MAX_UVARINT_SIZE; padding--) {
        head[used - 1] |= 0x80;
        head[used++] = 0;
    }
    uint8_t type = (uint8_t)roll(FRAME_TYPES);
    if (bad && length == size + 1)
        type = (uint8_t)(FRAME_TYPES + roll(200));
    head[used++] = type;
    run.expected[run.written].type = type;
    run.expected[run.written].size = size;
    run.expected[run.written].seed = (uint32_t)run.written;
    pattern(body, size, (uint32_t)run.written);
    CHECK(buffer_append(&run.in, head, used) && buffer_append(&run.in, body, size));
    run.written++;
}

static void carry_in(void)
{
    size_t size = buffer_size(&run.in);
    if (size && roll(2))
        size = 1 + roll((uint32_t)size);
    if (run.peer < 0) {
        size = size < STREAM_READ_SIZE ? size : STREAM_READ_SIZE;
        uint8_t *exact = malloc(size + !size);
        CHECK(exact);
        memcpy(exact, size ? buffer_bytes(&run.in) : body, size);
        link_feed(run.link, exact, size, plain, run.now);
        free(exact);
    } else {
        ssize_t count = size ? write(run.peer, buffer_bytes(&run.in), size) : 0;
        size = count > 0 ? (size_t)count : 0;
        link_read(run.link, scratch, plain, run.now);
    }
    buffer_consume(&run.in, size);
}

/* ---- out ---- */

/* Checks all whole frames that the peer has got. */
static void check_out(void)
{
    uint64_t length;
    int used;
    while ((used = uvarint_get(buffer_bytes(&run.out), buffer_size(&run.out), &length)) > 0) {
        CHECK(length >= 1 && length <= MAX_FRAME_SIZE);
        if (buffer_size(&run.out) < (size_t)used + length)
            break;
        const uint8_t *frame = buffer_bytes(&run.out) + used;
        uint32_t number = 0;
        if (length >= 5)
            memcpy(&number, frame + 1, sizeof number);
        if (frame[0] == FRAME_SIG_REQ) {
            CHECK(number == run.direct_got++);
        } else if (frame[0] == FRAME_TRAFFIC) {
            CHECK(number >= run.queued_next);
            run.queued_next = number + 1;
            run.queued_got++;
        } else {
            CHECK(frame[0] == FRAME_KEEPALIVE && length == 1);
        }
        if (frame[0] != FRAME_KEEPALIVE) {
            pattern(wanted, length - 5, number);
            CHECK(memcmp(wanted, frame + 5, length - 5) == 0);
        }
        buffer_consume(&run.out, (size_t)used + length);
    }
}

static void read_out(void)
{
    size_t most = roll(3) ? roll(100000) : 1 << 24;
    if (run.peer < 0) {
        size_t released = most < run.handed ? most : run.handed;
        run.handed -= released;
        run.link->handed -= released;
    } else {
        uint8_t *place = buffer_reserve(&run.out, most + 1);
        CHECK(place);
        ssize_t count = read(run.peer, place, most + 1);
        run.out.end += count > 0 ? (size_t)count : 0;
    }
    check_out();
    link_flush(run.link, run.now);
    check_out();
}

static void write_out(void)
{
    size_t size = 4 + roll_size(), head;
    if (size >= MAX_FRAME_SIZE)
        size = MAX_FRAME_SIZE - 1;
    if (!roll(3)) {
        memcpy(body, &run.direct_sent, 4);
        pattern(body + 4, size - 4, run.direct_sent++);
        link_send_direct(run.link, FRAME_SIG_REQ, body, size, run.now);
        return;
    }
    uint8_t key[KEY_SIZE] = {(uint8_t)roll(3)}, other[KEY_SIZE] = {(uint8_t)roll(3)};
    head = uvarint_put(body, size + 1);
    body[head++] = FRAME_TRAFFIC;
    memcpy(body + head, &run.queued_sent, 4);
    pattern(body + head + 4, size - 4, run.queued_sent++);
    link_send_queued(run.link, body, head + size, size, key, other, run.now);
    CHECK(run.link->queue.size <= MAX_QUEUED_BYTES);
}

static void settle(void)
{
    if (run.is_dirty) {
        run.is_dirty = run.link->dirty = false;
        link_flush(run.link, run.now);
    }
}

/* ---- a round ---- */

static void round_of(bool feed)
{
    int ends[2] = {-1, -1};
    memset(&run, 0, sizeof run);
    run.now = 1;
    run.peer = -1;
    run.bad_at = roll(2) ? FRAMES_IN : roll(FRAMES_IN);
    if (!feed) {
        CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0);
        run.peer = ends[1];
    }
    struct stream stream;
    static const uint8_t key[KEY_SIZE];
    stream_init(&stream, ends[0]);
    CHECK((run.link = link_new(1, key, &stream, &owner)));
    for (int i = 0; i < STEPS && !run.link->closed; i++) {
        if (run.written < FRAMES_IN && roll(2))
            write_in();
        if (roll(2))
            carry_in();
        for (uint32_t count = roll(3) ? roll(4) : roll(30); count; count--)
            write_out();
        if (roll(2))
            settle();
        if (roll(2))
            read_out();
        run.now += roll(100) * 0.001;
        link_timer(run.link, run.now);
        CHECK(run.link->closed || !run.link->timer_at || run.link->timer_at > run.now);
        CHECK(run.arrived <= run.bad_at || run.bad_at == FRAMES_IN);
    }
    if (!run.link->closed) { /* everything must come through now */
        while (!run.link->closed && (buffer_size(&run.in) || run.written < FRAMES_IN)) {
            write_in();
            carry_in();
        }
        CHECK(run.link->closed == (run.bad_at < FRAMES_IN));
        for (int i = 0; i < 1000 && !run.link->closed; i++) {
            settle();
            read_out();
        }
    }
    if (run.bad_at == FRAMES_IN && !run.link->closed) {
        while (run.arrived < FRAMES_IN && run.expected[run.arrived].type <= FRAME_KEEPALIVE)
            run.arrived++;
        CHECK(run.arrived == FRAMES_IN && !buffer_size(&run.link->partial));
        CHECK(run.direct_got == run.direct_sent && !buffer_size(&run.out) && !run.link->queue.count);
        CHECK(run.queued_got + run.link->queue.dropped == run.queued_sent);
    }
    link_free(run.link);
    if (run.peer >= 0)
        close(run.peer);
    buffer_free(&run.in);
    buffer_free(&run.out);
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? atol(argv[1]) : 20;
    state = argc > 2 ? strtoull(argv[2], NULL, 0) * 2 + 1 : 0x9e3779b97f4a7c15;
    size_t arrived = 0, queued = 0, dropped = 0;
    CHECK((plain = malloc(LINK_PLAIN_ROOM)));
    for (long i = 0; i < rounds; i++) {
        round_of(roll(2));
        arrived += run.arrived;
        queued += run.queued_got;
        dropped += run.queued_sent - run.queued_got;
    }
    free(plain);
    printf("%ld rounds: %zu frames in, %zu queued ones out, %zu not\n", rounds, arrived, queued, dropped);
    return 0;
}
