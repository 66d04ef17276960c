/*
 * The TUN device: packets in batches, and where the kernel offers it, many of them in one system call.
 *
 * With a vnet header (IFF_VNET_HDR) one read brings a super-packet of up to 64 KB, which segment.h cuts to size, and
 * one write takes a run of segments, which coalesce.h joins. Where the kernel refuses, packets go one by one.
 */
#ifndef YGGPY_TUN_H
#define YGGPY_TUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/virtio_net.h>

#include "coalesce.h"

enum {
    TUN_BATCH = 64,            /* packets read before links get their turn */
    TUN_BATCH_BYTES = 1 << 18, /* ... or bytes */
    TUN_VNET_SIZE = sizeof(struct virtio_net_hdr),
};

struct tun {
    int fd; /* -1: none; not closed here */
    bool vnet;
    uint32_t mtu;
    int error; /* errno of what ended its use, or 0 */
    double paused_until; /* 0: not paused */
    uint64_t lost; /* packets that the kernel did not take */
    struct coalescer *coalescer; /* NULL without a vnet header */
};

void tun_init(struct tun *tun);

/* Begins to use a non-blocking descriptor. False: out of memory. */
bool tun_attach(struct tun *tun, int fd, uint32_t mtu);
void tun_detach(struct tun *tun);

/*
 * Reads one packet (or super-packet) to data[0..room); the TUN_VNET_SIZE bytes in front of data are overwritten with
 * the header, which is zero when the device has none. Returns its size; 0: nothing there, or tun->error is set.
 */
size_t tun_read(struct tun *tun, uint8_t *data, size_t room, struct virtio_net_hdr *header);

/* Gives a packet to the kernel, at the latest with tun_flush; until then its bytes must stay where they are. */
void tun_write(struct tun *tun, uint8_t *packet, size_t size);
void tun_flush(struct tun *tun);

#endif
