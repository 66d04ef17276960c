/*
 * Cuts what one read from the TUN gave into the packets that go over the mesh. No descriptors, no allocation.
 *
 *     struct segmenter segmenter;
 *     if (!segmenter_init(&segmenter, &header, packet, size))
 *         ... drop it
 *     if (segmenter_whole(&segmenter, &packet, &size))
 *         ... one packet, where it was read
 *     else
 *         while ((size = segmenter_next(&segmenter, out)))
 *             ... the next one
 */
#ifndef YGGPY_SEGMENT_H
#define YGGPY_SEGMENT_H

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct segmenter {
    const uint8_t *packet;
    size_t size;
    size_t at;          /* of the next payload byte in the packet; size: all are out */
    size_t transport;   /* where the TCP or UDP header begins */
    size_t header_size; /* all headers, which every piece gets; 0: the packet stays whole */
    size_t piece_size;  /* payload bytes of every piece but the last */
    size_t checksum;    /* where the checksum lies in the transport header */
    uint64_t pseudo;    /* sum of the pseudo header, but for the size */
};

/*
 * Begins with a packet of 1 to MAX_TUN_PACKET bytes, which must stay where it is until the last piece is out. A packet
 * that stays whole gets its checksum completed in place. False: the header does not fit the packet, or asks for what
 * was never offered to the kernel (IPv4, UFO); the packet is to be dropped and may have changed.
 *
 * The kernel is believed in that NEEDS_CSUM comes with the sum of the pseudo header in the checksum field, and in where
 * the transport header begins; whatever the bytes, nothing outside of them is touched.
 */
bool segmenter_init(struct segmenter *segmenter, const struct virtio_net_hdr *header, uint8_t *packet, size_t size);

/* Whether it is one packet only, then ready in place: a sub-range of what init was given. Does not count as taken. */
bool segmenter_whole(const struct segmenter *segmenter, const uint8_t **packet, size_t *size);

/*
 * Writes the next packet to out and returns its size; 0: all are out. Out has room for MAX_TUN_PACKET bytes and does
 * not overlap the packet of init.
 */
size_t segmenter_next(struct segmenter *segmenter, uint8_t *out);

#endif
