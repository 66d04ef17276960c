/*
 * The pace of our own traffic over real sockets: it stops when enough is on its way, goes on when the other end has read,
 * counts nobody else's bytes, and gives the benefit of the doubt where there is nothing to measure.
 */
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "pace.h"

static uint8_t block[1 << 16];

static void tcp_pair(int ends[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(listener >= 0 && bind(listener, (struct sockaddr *)&address, size) == 0 && listen(listener, 1) == 0);
    CHECK(getsockname(listener, (struct sockaddr *)&address, &size) == 0);
    ends[0] = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connect(ends[0], (struct sockaddr *)&address, size) == 0);
    ends[1] = accept(listener, NULL, NULL);
    CHECK(ends[1] >= 0);
    close(listener);
}

/* Sends without reading until the pace says stop; returns the own bytes. */
static size_t fill(struct pace *pace, int fd, uint64_t *position, bool foreign)
{
    size_t own = 0;
    while (pace_allows(pace, fd, *position, 5) && own < 64 << 20) {
        ssize_t sent = send(fd, block, sizeof block, MSG_DONTWAIT);
        if (sent <= 0)
            break;
        *position += (uint64_t)sent;
        if (foreign)
            continue;
        pace_given(pace, (size_t)sent, *position);
        own += (size_t)sent;
    }
    return own;
}

static void drain(int fd)
{
    while (recv(fd, block, sizeof block, MSG_DONTWAIT) > 0)
        ;
}

/* `unread`: what is not read counts as on its way; a TCP peer's kernel acknowledges more than its program has read. */
static void test_stops_and_goes_on(int ends[2], bool unread)
{
    struct pace pace = {0};
    uint64_t position = 0;
    size_t total = 0;
    for (int round = 0; round < 50; round++) {
        size_t own = fill(&pace, ends[0], &position, false);
        total += own;
        CHECK(!unread || own <= pace.limit + sizeof block);
        CHECK(pace.given == total && pace.delivered <= total && pace.count <= PACE_MARKS);
        drain(ends[1]);
        for (int i = 0; i < 100 && !pace_allows(&pace, ends[0], position, 5); i++) {
            drain(ends[1]);
            usleep(1000);
        }
        CHECK(pace_allows(&pace, ends[0], position, 5));
    }
    CHECK(total >= (size_t)PACE_FLOOR * 3 && pace.delivered > 0);
}

int main(void)
{
    int ends[2];
    /* A Unix socket tells what the reader has not taken; no round trip, so the floor it is. */
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    int room = 4 << 20; /* without root the kernel stops us before the pace does */
    (void)setsockopt(ends[0], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
    test_stops_and_goes_on(ends, true);
    close(ends[0]);
    close(ends[1]);
    tcp_pair(ends);
    test_stops_and_goes_on(ends, false);
    /* What others send over the same link does not stop us, but for the moment that the kernel is full. */
    struct pace pace = {0};
    uint64_t position = 0;
    fill(&pace, ends[0], &position, true);
    CHECK(pace.given == 0 && pace_allows(&pace, ends[0], position, 6));
    close(ends[0]);
    close(ends[1]);
    /* A descriptor that is gone: nothing is held back, the link finds out for itself. */
    CHECK(pace_allows(&pace, -1, 0, 7));
    return 0;
}
