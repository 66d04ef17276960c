/*
 * What the tests of coalesce.c share: a case is start(), any number of add(), and EXPECT() with the packets of each
 * write. What came out is cut again and must be what went in, in the order of each flow.
 */
#ifndef YGGPY_COALESCE_RECORDER_H
#define YGGPY_COALESCE_RECORDER_H

#include "coalesce.h"
#include "offload_packets.h"
#include "segment.h"

enum { MAX_PACKETS = 2000, MAX_BYTES = 8 << 20 };

/* The packets of one case: as they are added, and a copy to compare with. */
static uint8_t memory[MAX_BYTES], copies[MAX_BYTES];
static struct {
    size_t at, size;
} packets[MAX_PACKETS];
static size_t packet_count, bytes_used;

/* The writes that came out. */
static struct {
    struct virtio_net_hdr header;
    size_t at, size;
    int parts;
} writes[MAX_PACKETS];
static uint8_t written[MAX_BYTES];
static size_t write_count, bytes_written;

static struct coalescer coalescer;

static inline void collect(void *context, const struct iovec *parts, int count)
{
    CHECK(context == &coalescer && count >= 2 && write_count < MAX_PACKETS);
    CHECK(parts[0].iov_len == 10);
    memcpy(&writes[write_count].header, parts[0].iov_base, 10);
    writes[write_count].at = bytes_written;
    writes[write_count].parts = count;
    for (int i = 1; i < count; i++) {
        CHECK(parts[i].iov_len && bytes_written + parts[i].iov_len <= MAX_BYTES);
        memcpy(written + bytes_written, parts[i].iov_base, parts[i].iov_len);
        bytes_written += parts[i].iov_len;
    }
    writes[write_count].size = bytes_written - writes[write_count].at;
    CHECK(writes[write_count].size <= MAX_TUN_PACKET);
    write_count++;
}

static inline void start(bool tcp, bool udp)
{
    packet_count = bytes_used = write_count = bytes_written = 0;
    coalescer_init(&coalescer, collect, &coalescer, tcp, udp);
}

static inline void add_bytes(const uint8_t *data, size_t size)
{
    CHECK(packet_count < MAX_PACKETS && bytes_used + size <= MAX_BYTES);
    memcpy(memory + bytes_used, data, size);
    memcpy(copies + bytes_used, data, size);
    packets[packet_count].at = bytes_used;
    packets[packet_count++].size = size;
    coalescer_add(&coalescer, memory + bytes_used, size);
    bytes_used += size;
}

static inline void add(struct description it)
{
    static uint8_t data[MAX_TUN_PACKET];
    add_bytes(data, make(data, &it));
}

/* Whether the two have to stay in order: of one flow, or between the same addresses and one of no known flow. */
static inline bool same_flow(size_t one, size_t other)
{
    const uint8_t *a = copies + packets[one].at, *b = copies + packets[other].at;
    if (packets[one].size < 44 || packets[other].size < 44 || (a[6] != PROTOCOL_TCP && a[6] != PROTOCOL_UDP) ||
        (b[6] != PROTOCOL_TCP && b[6] != PROTOCOL_UDP))
        return !memcmp(a + 8, b + 8, 32);
    return a[6] == b[6] && !memcmp(a + 8, b + 8, 36);
}

/* Flushes; what came out, cut again, must be what went in, and each flow in its order. */
static inline void finish(void)
{
    static uint8_t piece[MAX_TUN_PACKET];
    static bool seen[MAX_PACKETS];
    memset(seen, 0, sizeof seen);
    coalescer_flush(&coalescer);
    size_t out_count = 0;
    for (size_t i = 0; i < write_count; i++) {
        struct segmenter segmenter;
        CHECK(segmenter_init(&segmenter, &writes[i].header, written + writes[i].at, writes[i].size));
        size_t size;
        int parts = 1;
        while ((size = segmenter_next(&segmenter, piece))) {
            size_t k = 0;
            while (k < packet_count && (seen[k] || !same_packet(piece, size, copies + packets[k].at, packets[k].size)))
                k++;
            CHECK(k < packet_count);
            for (size_t earlier = 0; earlier < k; earlier++)
                CHECK(seen[earlier] || !same_flow(earlier, k));
            seen[k] = true;
            out_count++;
            parts++;
        }
        CHECK(parts == writes[i].parts);
    }
    CHECK(out_count == packet_count);
    size_t before = write_count;
    coalescer_flush(&coalescer);
    CHECK(write_count == before);
}

/* Finishes and checks how many packets each write was made of; 0 ends the list. */
static inline void expect(const int *counts)
{
    finish();
    size_t i = 0;
    for (; counts[i]; i++) {
        CHECK(i < write_count);
        CHECK(writes[i].parts == 1 + counts[i]);
    }
    CHECK(i == write_count);
}

#define EXPECT(...) expect((const int[]){__VA_ARGS__, 0})

static inline struct description next(struct description it)
{
    it.sequence += (uint32_t)it.payload;
    return it;
}

#endif
