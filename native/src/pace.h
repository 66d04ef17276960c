/*
 * How much of our own traffic is on its way over one link, and whether more should be.
 *
 * The kernel takes megabytes for a socket, and what has once been given to it cannot be overtaken any more. So of what
 * comes from the TUN only so much is given as the connection needs to stay busy: what it delivers in two of its shortest
 * round trips, or PACE_FLOOR. The rest waits in the fair queue.
 *
 * Frames of others are not counted and not held back: they have their own queue and its rules (link.h). Where a round
 * trip takes longer than PACE_FAR, the queue that hurts is not ours, and nothing is held back either.
 */
#ifndef YGGPY_PACE_H
#define YGGPY_PACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PACE_FLOOR = 3 << 16, /* bytes that may always be on their way: both ends sleep and wake in the meantime */
    PACE_MARKS = 32,      /* remembered positions in the stream */
};

#define PACE_FAR 0.01     /* seconds of a (smoothed) round trip from which on nothing is held back */
#define PACE_JUDGE 0.01   /* seconds between two looks at what the connection delivers */

/* What had been given when the stream had `position` bytes; `start`: where it stood when the mark was new. */
struct pace_mark {
    uint64_t start, position, given;
};

struct pace {
    uint64_t given;     /* own bytes that have gone into the stream, ever */
    uint64_t delivered; /* of these: what the other end is known to have */
    size_t limit;       /* bytes; 0: not judged yet, SIZE_MAX: none */
    size_t left;        /* bytes that may be given before the kernel is asked again */
    double judge_at;
    struct pace_mark marks[PACE_MARKS];
    size_t first, count;
};

/* Notes that `size` own bytes have been given, and that the stream now has `position` bytes. */
void pace_given(struct pace *pace, size_t size, uint64_t position);

/* Whether more may be given. `fd` is the socket, `position` as above without what the kernel has not taken yet. */
bool pace_allows(struct pace *pace, int fd, uint64_t position, double now);

#endif
