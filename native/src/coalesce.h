/*
 * Joins packets that came over the mesh into few and large writes for the TUN (generic receive offload).
 *
 * Packets are added as they are opened and stay where they are, unmoved and unchanged by others, until the next flush;
 * what is handed to the writer are lists of their parts. Packets of one flow keep their order, flows may overtake each
 * other. Nothing waits longer than until the flush. No descriptors, no allocation; about 20 KB.
 */
#ifndef YGGPY_COALESCE_H
#define YGGPY_COALESCE_H

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum {
    COALESCE_FLOWS = 16,   /* runs at a time; another flow pushes one of them out */
    COALESCE_PACKETS = 64, /* of one run; the kernel takes no more datagrams at once (UDP_MAX_SEGMENTS) */
};

/*
 * Takes one write for the TUN: parts[0] is the vnet header, the rest the packet. The list is gone after it returns; it
 * must not add or flush.
 */
typedef void coalesce_write(void *context, const struct iovec *parts, int count);

/* Packets of one flow that follow each other. */
struct coalesce_run {
    struct virtio_net_hdr header;
    uint8_t *packet;    /* the first one, whose headers stand for all */
    size_t header_size; /* of IPv6 and TCP or UDP */
    size_t piece_size;  /* payload bytes of all but the last */
    size_t size;        /* of the joined packet */
    uint32_t sequence;  /* that TCP must go on with */
    int count;          /* packets so far */
    struct iovec parts[1 + COALESCE_PACKETS];
};

struct coalescer {
    coalesce_write *write;
    void *context;
    bool tcp, udp;
    uint32_t active; /* a bit for each run in use */
    int last;        /* the run that was used last, and in all likelihood will be next */
    int victim;      /* the run that goes next when all are in use */
    struct virtio_net_hdr plain;
    uint32_t tags[COALESCE_FLOWS]; /* a hash of the flow, for a quick no */
    struct coalesce_run runs[COALESCE_FLOWS];
};

/* tcp, udp: which joined packets the kernel accepts (TUNSETOFFLOAD: TUN_F_TSO6, TUN_F_USO6). */
void coalescer_init(struct coalescer *coalescer, coalesce_write *write, void *context, bool tcp, bool udp);

/* Adds a packet of at least one byte; may write it and others. Its headers may be changed until the flush. */
void coalescer_add(struct coalescer *coalescer, uint8_t *packet, size_t size);

/* Writes all that waits. */
void coalescer_flush(struct coalescer *coalescer);

#endif
