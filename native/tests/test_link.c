/*
 * One link: frames cut anywhere, malformed ones and what is said of them, the two deadlines, the queue behind a kernel
 * that takes no more, and the peer that never reads. Time is a number here; most links are feeds, the rest have a
 * socket pair.
 */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "link.h"

static struct link_owner owner;
static uint8_t plain[LINK_PLAIN_ROOM], scratch[STREAM_CIPHER_ROOM];
static const uint8_t KEY[KEY_SIZE] = {1}, SOURCE[KEY_SIZE] = {2}, DEST[KEY_SIZE] = {3};

/* What the owner was told. */
static struct buffer frames; /* of each: type, size, payload */
static struct buffer output;
static int frame_count, dirty_count, watch_count;
static double armed_at;
static const char *refusal;

static const char *on_frame(void *self, struct link *link, enum frame_type type, uint8_t *start, uint8_t *payload,
                            size_t size)
{
    CHECK(self == &owner && link && start < payload);
    uint8_t kind = (uint8_t)type;
    CHECK(buffer_append(&frames, &kind, 1) && buffer_append(&frames, &size, sizeof size) &&
          buffer_append(&frames, payload, size));
    memset(start, 0xee, (size_t)(payload - start) + size); /* all of it may be changed */
    frame_count++;
    return refusal;
}

static void on_dirty(void *self, struct link *link)
{
    CHECK(self == &owner && link->dirty);
    dirty_count++;
}

static void on_armed(void *self, double at)
{
    CHECK(self == &owner);
    armed_at = at;
}

static void on_watch(void *self, struct link *link)
{
    CHECK(self == &owner);
    link->watching_input = link_wants_input(link);
    link->watching_output = link_wants_output(link);
    watch_count++;
}

static void on_output(void *self, struct link *link, const uint8_t *data, size_t size)
{
    CHECK(self == &owner && link && size);
    CHECK(buffer_append(&output, data, size));
}

static struct link *open_link(int fd)
{
    buffer_free(&frames);
    buffer_free(&output);
    frame_count = dirty_count = watch_count = 0;
    armed_at = 0;
    refusal = NULL;
    struct stream stream;
    stream_init(&stream, fd);
    struct link *link = link_new(1, KEY, &stream, &owner);
    CHECK(link && stream.fd == -1 && link->stream.fd == fd);
    link->watching_input = true;
    return link;
}

static void flush(struct link *link, double now)
{
    link->dirty = false;
    link_flush(link, now);
}

static void feed(struct link *link, const uint8_t *data, size_t size, double now)
{
    /* In memory of its own, so that nothing beyond is looked at. */
    uint8_t *exact = malloc(size + !size);
    CHECK(exact);
    memcpy(exact, data, size);
    link_feed(link, exact, size, plain, now);
    free(exact);
}

static size_t put_frame(uint8_t *out, enum frame_type type, const uint8_t *payload, size_t size)
{
    size_t head = uvarint_put(out, size + 1);
    out[head++] = (uint8_t)type;
    if (size)
        memcpy(out + head, payload, size);
    return head + size;
}

static void expect_frame(enum frame_type type, const uint8_t *payload, size_t size)
{
    size_t found;
    CHECK(buffer_size(&frames) >= 1 + sizeof found + size && *buffer_bytes(&frames) == type);
    memcpy(&found, buffer_bytes(&frames) + 1, sizeof found);
    CHECK(found == size && !memcmp(buffer_bytes(&frames) + 1 + sizeof found, payload, size));
    buffer_consume(&frames, 1 + sizeof found + size);
}

static void test_cut_frames(void)
{
    static const size_t SIZES[] = {0, 1, 126, 127, 300};
    static uint8_t stream[1000], payload[1000];
    pattern(payload, sizeof payload, 1);
    size_t size = 0;
    for (int i = 0; i < 5; i++)
        size += put_frame(stream + size, (enum frame_type)(FRAME_SIG_REQ + i), payload, SIZES[i]);
    size += put_frame(stream + size, FRAME_KEEPALIVE, NULL, 0);
    size += put_frame(stream + size, FRAME_DUMMY, payload, 40);
    for (size_t cut = 0; cut <= size; cut++) {
        for (size_t gap = 0; gap < 3; gap++) {
            struct link *link = open_link(-1);
            size_t second = cut + gap * 61 < size ? cut + gap * 61 : size;
            feed(link, stream, cut, 1);
            feed(link, stream + cut, second - cut, 1);
            feed(link, stream + second, size - second, 1);
            CHECK(!link->closed && frame_count == 5 && link->received == size && !link->partial.room);
            for (int i = 0; i < 5; i++)
                expect_frame((enum frame_type)(FRAME_SIG_REQ + i), payload, SIZES[i]);
            link_free(link);
        }
    }
    /* Byte by byte, and the largest frame there may be, with its length in the longest form. */
    struct link *link = open_link(-1);
    for (size_t i = 0; i < size; i++)
        feed(link, stream + i, 1, 1);
    CHECK(frame_count == 5 && !link->closed);
    static uint8_t large[MAX_FRAME_SIZE + MAX_UVARINT_SIZE], body[MAX_FRAME_SIZE - 1];
    pattern(body, sizeof body, 2);
    memset(large, 0x80, MAX_UVARINT_SIZE);
    uint8_t digits[MAX_UVARINT_SIZE];
    size_t used = uvarint_put(digits, MAX_FRAME_SIZE);
    memcpy(large, digits, used);
    large[used - 1] |= 0x80;
    large[MAX_UVARINT_SIZE - 1] = 0;
    large[MAX_UVARINT_SIZE] = FRAME_TRAFFIC;
    memcpy(large + MAX_FRAME_HEAD, body, sizeof body);
    buffer_free(&frames);
    feed(link, large, sizeof large - 1, 1);
    CHECK(frame_count == 5);
    /* As much more as one call may bring. */
    static uint8_t rest[STREAM_READ_SIZE];
    rest[0] = large[sizeof large - 1];
    memset(rest + 1, 1, sizeof rest - 1); /* frames of one byte: keep-alives */
    feed(link, rest, sizeof rest, 1);
    CHECK(frame_count == 6 && !link->closed);
    expect_frame(FRAME_TRAFFIC, body, sizeof body);
    link_free(link);
}

static void test_malformed_frames(void)
{
    static const struct {
        const char *text;
        size_t size;
        uint8_t bytes[12];
    } cases[] = {
        {"empty message", 1, {0}},
        {"empty message", 3, {0x80, 0x80, 0}},
        {"oversized message of 131071 bytes, at most 131070 are allowed", 3, {0xff, 0xff, 7}},
        {"oversized message of 18446744073709551615 bytes, at most 131070 are allowed", 10,
         {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}},
        {"oversized message, its length overflows 64 bits", 10,
         {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2}},
        {"unrecognised message type 10", 2, {1, 10}},
        {"unrecognised message type 255", 3, {2, 255, 0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int pieces = 0; pieces < 2; pieces++) {
            struct link *link = open_link(-1);
            uint8_t bytes[40];
            size_t size = put_frame(bytes, FRAME_ANNOUNCE, KEY, 5);
            memcpy(bytes + size, cases[i].bytes, cases[i].size);
            size += cases[i].size;
            for (size_t at = 0; pieces && at < size && !link->closed; at++)
                feed(link, bytes + at, 1, 1);
            if (!pieces)
                feed(link, bytes, size, 1);
            CHECK(link->closed && link->reason == LINK_ERROR && !strcmp(link->text, cases[i].text));
            CHECK(frame_count == 1 && !link_wants_input(link));
            link_free(link);
        }
    }
    /* What the owner refuses ends the link; what stands behind is not looked at. */
    struct link *link = open_link(-1);
    uint8_t bytes[40];
    size_t size = put_frame(bytes, FRAME_ANNOUNCE, KEY, 5);
    size += put_frame(bytes + size, FRAME_ANNOUNCE, KEY, 5);
    refusal = "not with us";
    feed(link, bytes, size, 1);
    CHECK(link->closed && frame_count == 1 && !strcmp(link->text, "not with us"));
    link_close(link, LINK_EOF, 5, "later"); /* the first reason stands */
    CHECK(link->reason == LINK_ERROR && !link->error && !strcmp(link->text, "not with us"));
    link_free(link);
}

static void test_keepalive(void)
{
    struct link *link = open_link(-1);
    uint8_t bytes[40];
    size_t size = put_frame(bytes, FRAME_ANNOUNCE, KEY, 5);
    feed(link, bytes, size, 10);
    feed(link, bytes, size, 10.5); /* the first one counts */
    CHECK(link->timer_at == 10 + KEEPALIVE_DELAY && armed_at == link->timer_at);
    link_timer(link, 10.9);
    CHECK(!dirty_count && link->timer_at == 11);
    link_timer(link, 11);
    flush(link, 11);
    CHECK(dirty_count == 1 && buffer_size(&output) == 2 && !memcmp(buffer_bytes(&output), "\1\1", 2));
    CHECK(link->timer_at == 0 && link->read_by == 0 && link->sent == 2);
    /* Anything sent meanwhile serves as the answer. */
    feed(link, bytes, size, 20);
    link_send_direct(link, FRAME_BLOOM_FILTER, KEY, 3, 20.5);
    flush(link, 20.5);
    buffer_free(&output);
    link_timer(link, 21);
    CHECK(!buffer_size(&output) && link->sent == 7 && link->timer_at == 20.5 + READ_TIMEOUT);
    /* Quiet frames are not answered, but lift the deadline. */
    size = put_frame(bytes, FRAME_KEEPALIVE, NULL, 0);
    feed(link, bytes, size, 22);
    link_timer(link, 23.5);
    CHECK(!link->closed && link->timer_at == 0 && link->sent == 7);
    link_free(link);
}

static void test_read_deadline(void)
{
    uint8_t bytes[40];
    size_t size = put_frame(bytes, FRAME_DUMMY, KEY, 5);
    struct link *link = open_link(-1);
    link_send_direct(link, FRAME_KEEPALIVE, NULL, 0, 5); /* is owed no answer */
    CHECK(link->timer_at == 0);
    link_send_direct(link, FRAME_SIG_REQ, KEY, 3, 10);
    link_send_direct(link, FRAME_SIG_REQ, KEY, 3, 12); /* the first one counts */
    CHECK(link->timer_at == 13);
    feed(link, bytes, 3, 12.5); /* half a frame is no answer */
    link_timer(link, 12.99);
    CHECK(!link->closed);
    link_timer(link, 13.1);
    CHECK(link->closed && link->reason == LINK_ERROR && dirty_count == 1);
    CHECK(!strcmp(link->text, "no answer for 3 s (read deadline passed)"));
    link_send_direct(link, FRAME_SIG_REQ, KEY, 3, 14); /* without effect */
    CHECK(link_send_queued(link, bytes, size, 5, SOURCE, DEST, 14) && link->sent == 12);
    link_free(link);

    /* The whole frame is one, and the next frame of ours sets the deadline again. */
    link = open_link(-1);
    CHECK(link_send_queued(link, bytes, size, 5, SOURCE, DEST, 10));
    feed(link, bytes, size, 12.9);
    link_timer(link, 13);
    CHECK(!link->closed && link->timer_at == 0);
    link_send_direct(link, FRAME_SIG_REQ, KEY, 3, 14);
    CHECK(link->timer_at == 17);
    /* A timer that comes far too late: this process stood still, and what has arrived gets its chance. */
    link_timer(link, 17.6);
    CHECK(!link->closed && link->timer_at == 17.6 + STALL_GRACE);
    link_timer(link, 18.2);
    CHECK(link->closed);
    link_free(link);

    /* The same while we do not want to read. */
    link = open_link(-1);
    link_send_direct(link, FRAME_SIG_REQ, KEY, 3, 10);
    link->event_bytes = MAX_LINK_EVENTS;
    CHECK(!link_wants_input(link));
    for (double now = 13; now < 20; now += 0.5) {
        link_timer(link, now);
        CHECK(!link->closed && link->timer_at == now + STALL_GRACE);
    }
    link->event_bytes = 0;
    link_timer(link, 20);
    CHECK(link->closed);
    link_free(link);
}

/* Sends numbered frames of 1000 bytes; returns whether all of them went straight on. */
static bool send_numbered(struct link *link, uint32_t first, uint32_t count)
{
    bool straight = true;
    for (uint32_t i = first; i < first + count; i++) {
        uint8_t frame[1003], payload[1000] = {0};
        memcpy(payload, &i, sizeof i);
        put_frame(frame, FRAME_TRAFFIC, payload, 1000);
        straight &= link_send_queued(link, frame, sizeof frame, 1000, SOURCE, DEST, 1);
    }
    return straight;
}

static void test_queue_behind_a_feed(void)
{
    struct link *link = open_link(-1);
    uint32_t count = WRITE_AHEAD_LIMIT / 1003 + 1;
    CHECK(send_numbered(link, 0, count) && !send_numbered(link, count, 100));
    CHECK(link->queue.count == 100 && dirty_count == 1);
    flush(link, 1);
    CHECK(link->handed == count * 1003 && link->queue.count == 100 && buffer_size(&output) == link->handed);
    /* Direct frames overtake. */
    link_send_direct(link, FRAME_SIG_RES, KEY, 9, 1);
    flush(link, 1);
    CHECK(buffer_bytes(&output)[count * 1003] == 10);
    /* The carrier gets rid of half; as much is refilled, in order, and no more. */
    link->handed -= 60000;
    link_flush(link, 1);
    CHECK(link->queue.count > 30 && link->queue.count < 50);
    link->handed = 0;
    CHECK(!send_numbered(link, count + 100, 1)); /* nobody overtakes the queue */
    link_flush(link, 1);
    CHECK(!link->queue.count);
    CHECK(buffer_size(&output) == (count + 101) * 1003 + 11);
    buffer_consume(&output, count * 1003 + 11);
    for (uint32_t i = count; i < count + 101; i++) {
        CHECK(!memcmp(buffer_bytes(&output) + 3, &i, sizeof i));
        buffer_consume(&output, 1003);
    }
    /* The queue of a link that stays full is bounded. */
    CHECK(send_numbered(link, 0, 20));
    link->handed = WRITE_AHEAD_LIMIT;
    CHECK(!send_numbered(link, 0, 300));
    CHECK(link->queue.size <= MAX_QUEUED_BYTES && link->queue.dropped == 300 - MAX_QUEUED_BYTES / 1000);
    link_free(link);
}

static void test_backlog(void)
{
    struct link *link = open_link(-1);
    static uint8_t payload[50000];
    int sent = 0;
    for (; !link->closed && sent < 100; sent++) {
        link_send_direct(link, FRAME_ANNOUNCE, payload, sizeof payload, 1);
        flush(link, 1);
    }
    CHECK(link->closed && sent == MAX_DIRECT_BACKLOG / 50004 + 2);
    CHECK(!strcmp(link->text, "peer does not read: more than 1048576 bytes wait"));
    link_free(link);
}

static void test_socket(void)
{
    int ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0);
    struct link *link = open_link(ends[0]);
    uint32_t count = 0, got = 0;
    while (!link->queue.count) /* until the kernel takes no more */
        send_numbered(link, count++, 1);
    send_numbered(link, count, 40);
    count += 40;
    flush(link, 1);
    CHECK(link->watching_output && watch_count == 1 && link->queue.count >= 40);
    static uint8_t data[1003];
    for (ssize_t size; (size = recv(ends[1], data, sizeof data, 0)) > 0 || link_wants_output(link);) {
        if (size < 0) {
            link_flush(link, 1);
            continue;
        }
        for (size_t more; (size_t)size < sizeof data; size += (ssize_t)more) {
            ssize_t next = recv(ends[1], data + size, sizeof data - (size_t)size, 0);
            if (next < 0)
                link_flush(link, 1);
            more = next > 0 ? (size_t)next : 0;
        }
        CHECK(!memcmp(data + 3, &got, sizeof got));
        got++;
    }
    CHECK(got == count && !link->watching_output && !link->closed);

    /* The peer's last words are handled, then its end. */
    size_t size = put_frame(data, FRAME_ANNOUNCE, KEY, 5);
    for (size_t i = 0; i < size; i++, link_read(link, scratch, plain, 1))
        CHECK(send(ends[1], data + i, 1, 0) == 1);
    close(ends[1]);
    CHECK(frame_count == 1 && !link->closed);
    link_read(link, scratch, plain, 1);
    CHECK(link->closed && link->reason == LINK_EOF && !strcmp(link->text, "EOF"));
    link_free(link);
}

int main(void)
{
    owner = (struct link_owner){&owner, on_frame, on_dirty, on_watch, on_output, on_armed};
    test_cut_frames();
    test_malformed_frames();
    test_keepalive();
    test_read_deadline();
    test_queue_behind_a_feed();
    test_backlog();
    test_socket();
    buffer_free(&frames);
    buffer_free(&output);
    return 0;
}
