/* See tun.h. */
#include "tun.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <linux/if.h>
#include <linux/if_tun.h>

/* Newer than the oldest headers we build with. */
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#endif
#ifndef TUN_F_USO6
#define TUN_F_USO6 0x40
#endif

void tun_init(struct tun *tun)
{
    *tun = (struct tun){.fd = -1};
}

/* What a device answers to a packet that it does not like, or (EIO) while it is set down; anything else is its end. */
static bool is_packet_error(int error)
{
    return error == EAGAIN || error == EINTR || error == EINVAL || error == EIO || error == ENOBUFS || error == ENOMEM;
}

static void write_parts(void *context, const struct iovec *parts, int count)
{
    struct tun *tun = context;
    if (tun->error || writev(tun->fd, parts, count) >= 0)
        return;
    tun->lost++;
    if (!is_packet_error(errno))
        tun->error = errno;
}

/* Turns on what the kernel has to offer, the most it accepts; with nothing at all the header is still there. */
static void negotiate(int fd, bool *tcp, bool *udp)
{
    unsigned basic = TUN_F_CSUM | TUN_F_TSO6 | TUN_F_TSO_ECN;
    /* UDP segmentation is turned on for both families or not at all. */
    *udp = ioctl(fd, TUNSETOFFLOAD, basic | TUN_F_TSO4 | TUN_F_USO4 | TUN_F_USO6) == 0;
    *tcp = *udp || ioctl(fd, TUNSETOFFLOAD, basic) == 0;
    if (!*tcp)
        (void)ioctl(fd, TUNSETOFFLOAD, 0);
}

bool tun_attach(struct tun *tun, int fd, uint32_t mtu)
{
    tun_init(tun);
    tun->fd = fd;
    tun->mtu = mtu;
    struct ifreq request;
    memset(&request, 0, sizeof request);
    if (ioctl(fd, TUNGETIFF, &request) != 0 || !(request.ifr_flags & IFF_VNET_HDR))
        return true;
    int size = TUN_VNET_SIZE;
    if (ioctl(fd, TUNSETVNETHDRSZ, &size) != 0) {
        tun->error = errno;
        return true;
    }
    tun->vnet = true;
    bool tcp, udp;
    negotiate(fd, &tcp, &udp);
    tun->coalescer = malloc(sizeof *tun->coalescer);
    if (!tun->coalescer) {
        tun_init(tun);
        return false;
    }
    coalescer_init(tun->coalescer, write_parts, tun, tcp, udp);
    return true;
}

void tun_detach(struct tun *tun)
{
    free(tun->coalescer);
    tun_init(tun);
}

size_t tun_read(struct tun *tun, uint8_t *data, size_t room, struct virtio_net_hdr *header)
{
    size_t extra = tun->vnet ? TUN_VNET_SIZE : 0;
    ssize_t count = read(tun->fd, data - extra, room + extra);
    if (count < 0) {
        if (!is_packet_error(errno))
            tun->error = errno;
        return 0;
    }
    if ((size_t)count <= extra)
        return 0;
    if (extra)
        memcpy(header, data - extra, sizeof *header);
    else
        memset(header, 0, sizeof *header);
    return (size_t)count - extra;
}

void tun_write(struct tun *tun, uint8_t *packet, size_t size)
{
    if (tun->coalescer) {
        coalescer_add(tun->coalescer, packet, size);
        return;
    }
    struct iovec part = {packet, size};
    write_parts(tun, &part, 1);
}

void tun_flush(struct tun *tun)
{
    if (tun->coalescer)
        coalescer_flush(tun->coalescer);
}
