/*
 * How long each stage of the packet path takes, by itself and with warm caches: nanoseconds for a packet and GB/s.
 *
 * The sum of the stages of a way is what that way costs without the kernel. benchmarks/stages.py builds and runs this.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "checksum.h"
#include "coalesce.h"
#include "fib.h"
#include "offload.h"
#include "record.h"
#include "segment.h"
#include "session.h"
#include "table.h"

enum { ROOM = 1 << 18, REPEATS = 5 };

static const double LEAST_SECONDS = 0.05;

static uint8_t *memory, *other;
static struct box_context *box;
static struct session sender, receiver;
static struct record_half only_sealing, sealing, opening;
static struct fib *fib;
static size_t size;
static volatile size_t sink;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* The best of some runs, each long enough to be measured. */
static void measure(const char *name, void (*stage)(void))
{
    double best = 1e9;
    for (int i = 0; i < REPEATS; i++) {
        size_t count = 0;
        double start = now(), end;
        do {
            for (int j = 0; j < 16; j++)
                stage();
            count += 16;
            end = now();
        } while (end - start < LEAST_SECONDS);
        double each = (end - start) / (double)count;
        best = each < best ? each : best;
    }
    printf("%-34s %7zu bytes %9.0f ns %8.2f GB/s\n", name, size, best * 1e9, (double)size / best / 1e9);
}

static void seal(void)
{
    session_seal(&sender, box, memory + SESSION_MAX_HEAD, size);
}

static void seal_and_open(void)
{
    struct session_opened opened;
    size_t head = session_head_size(&sender);
    session_seal(&sender, box, memory + SESSION_MAX_HEAD, size);
    if (session_open(&receiver, box, memory + SESSION_MAX_HEAD - head, head + size, &opened) != SESSION_OPENED)
        abort();
}

static void seal_with(struct record_half *half)
{
    size_t used = 0;
    for (size_t at = 0; at < size; at += RECORD_MAX_PLAIN) {
        size_t piece = size - at < RECORD_MAX_PLAIN ? size - at : RECORD_MAX_PLAIN;
        used += record_seal(half, RECORD_DATA, memory + at, piece, other + used);
    }
    sink += used;
}

static void seal_records(void)
{
    seal_with(&only_sealing);
}

static void seal_and_open_records(void)
{
    seal_with(&sealing);
    size_t at = 0, length;
    enum record_type type;
    for (size_t left = size; left;) {
        size_t body = (size_t)other[at + 3] << 8 | other[at + 4];
        if (!record_open(&opening, other + at, other + at + RECORD_HEADER, body, memory, &length, &type))
            abort();
        at += RECORD_HEADER + body;
        left -= length;
    }
}

static void sum(void)
{
    sink += checksum_sum(memory, size);
}

static void find_hop(void)
{
    static uint8_t path[4] = {3, 1, 5, 0};
    sink += fib_find(fib, path, sizeof path).link_id;
}

static void search_hop(void)
{
    static uint8_t path[40];
    memset(path, 1, sizeof path - 1);
    path[0] = 3;
    sink += fib_find(fib, path, sizeof path).link_id; /* too long to be remembered */
}

/* A TCP super-packet with a partial checksum, as the kernel hands it over. */
static void super_packet(struct virtio_net_hdr *header, size_t piece)
{
    memset(memory, 0, 60);
    memory[0] = 6 << 4;
    put16(memory + IPV6_PAYLOAD_SIZE, size - IPV6_HEADER_SIZE);
    memory[IPV6_NEXT_HEADER] = PROTOCOL_TCP;
    memory[IPV6_HOP_LIMIT] = 64;
    memory[8] = memory[24] = 2;
    put16(memory + 40 + TCP_FLAGS, 5 << 12 | TCP_ACK);
    *header = (struct virtio_net_hdr){
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
        .gso_type = VIRTIO_NET_HDR_GSO_TCPV6,
        .gso_size = (uint16_t)piece,
        .hdr_len = 60,
        .csum_start = 40,
        .csum_offset = TCP_CHECKSUM,
    };
    put16(memory + 40 + TCP_CHECKSUM, checksum_pseudo(memory, PROTOCOL_TCP, size - IPV6_HEADER_SIZE));
}

static void cut(void)
{
    struct virtio_net_hdr header;
    struct segmenter segmenter;
    super_packet(&header, 1440);
    if (!segmenter_init(&segmenter, &header, memory, size))
        abort();
    size_t at = 0, piece;
    while ((piece = segmenter_next(&segmenter, other + at)))
        at += piece;
    sink += at;
}

static void forget(void *context, const struct iovec *parts, int count)
{
    (void)context;
    sink += parts[count - 1].iov_len;
}

static void cut_and_join(void)
{
    static struct coalescer coalescer;
    struct virtio_net_hdr header;
    struct segmenter segmenter;
    coalescer_init(&coalescer, forget, NULL, true, true);
    super_packet(&header, 1440);
    if (!segmenter_init(&segmenter, &header, memory, size))
        abort();
    size_t at = 0, piece;
    while ((piece = segmenter_next(&segmenter, other + at))) {
        coalescer_add(&coalescer, other + at, piece);
        at += piece;
    }
    coalescer_flush(&coalescer);
}

static void start(void)
{
    memory = calloc(1, ROOM);
    other = calloc(1, ROOM);
    box = box_context_new();
    uint8_t secret[32] = {1};
    struct session_keys keys = {.remote_key_seq = 1, .local_key_seq = 1, .keep_send_nonce = true};
    session_install(&sender, &keys);
    keys = (struct session_keys){.remote_key_seq = 1, .local_key_seq = 2, .keep_send_nonce = true};
    session_install(&receiver, &keys);
    fib = fib_new((const uint8_t *)"\3", 2);
    bool made = memory && other && box && fib && record_init(&sealing, 0x1301, secret, sizeof secret, true) &&
                record_init(&opening, 0x1301, secret, sizeof secret, false) &&
                record_init(&only_sealing, 0x1301, secret, sizeof secret, true);
    for (uint8_t i = 0; made && i < 60; i++) {
        uint8_t key[KEY_SIZE] = {i}, path[3] = {3, (uint8_t)(i + 1), 0};
        made = fib_add(fib, i + 1u, key, path, sizeof path, 1, 0, i);
    }
    if (!made)
        abort();
}

int main(void)
{
    static const size_t sizes[] = {100, 1433, 65536};
    start();
    printf("Salsa20: %s\n", box_implementation());
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size = sizes[i];
        measure("session: seal", seal);
        measure("session: seal and open", seal_and_open);
        measure("TLS records: seal", seal_records);
        measure("TLS records: seal and open", seal_and_open_records);
        measure("checksum", sum);
    }
    size = 61440;
    measure("cut to MTU 1500", cut);
    measure("cut to MTU 1500 and join again", cut_and_join);
    size = 4;
    measure("next hop of 60 links, remembered", find_hop);
    size = 40;
    measure("next hop of 60 links, searched", search_hop);
    return 0;
}
