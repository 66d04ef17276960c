/* See pace.h. */
#include "pace.h"

#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

void pace_given(struct pace *pace, size_t size, uint64_t position)
{
    pace->given += size;
    pace->left -= size < pace->left ? size : pace->left;
    struct pace_mark *last = pace->count ? &pace->marks[(pace->first + pace->count - 1) % PACE_MARKS] : NULL;
    if (last && (pace->count == PACE_MARKS || position - last->start < pace->limit / (PACE_MARKS / 2))) {
        last->position = position; /* it tells of its bytes later than it could; never earlier */
        last->given = pace->given;
    } else {
        pace->marks[(pace->first + pace->count++) % PACE_MARKS] =
            (struct pace_mark){.start = position, .position = position, .given = pace->given};
    }
}

static size_t judged_limit(int fd)
{
    struct tcp_info info;
    socklen_t size = sizeof info;
    memset(&info, 0, sizeof info);
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0)
        return PACE_FLOOR; /* a Unix socket: no way, only the other process */
    if (info.tcpi_rtt * 1e-6 > PACE_FAR)
        return SIZE_MAX;
    double wanted = (double)info.tcpi_delivery_rate * (2e-6 * info.tcpi_min_rtt);
    return wanted > PACE_FLOOR ? (size_t)wanted : PACE_FLOOR;
}

bool pace_allows(struct pace *pace, int fd, uint64_t position, double now)
{
    if (pace->left)
        return true;
    if (now >= pace->judge_at) {
        pace->limit = judged_limit(fd);
        pace->judge_at = now + PACE_JUDGE;
    }
    int waiting;
    if (pace->limit == SIZE_MAX || ioctl(fd, SIOCOUTQ, &waiting) != 0) {
        pace->left = PACE_FLOOR;
        return true;
    }
    /* A Unix socket tells of more than was sent: the kernel's own overhead. */
    uint64_t acknowledged = (uint64_t)waiting < position ? position - (uint64_t)waiting : 0;
    while (pace->count && pace->marks[pace->first].position <= acknowledged) {
        pace->delivered = pace->marks[pace->first].given;
        pace->first = (pace->first + 1) % PACE_MARKS;
        pace->count--;
    }
    uint64_t under_way = pace->given - pace->delivered;
    pace->left = under_way < pace->limit ? pace->limit - (size_t)under_way : 0;
    return pace->left != 0;
}
