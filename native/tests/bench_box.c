/*
 * How fast the session box seals and opens, for every implementation this CPU can run: GB/s and ns per packet.
 *
 * Each figure is the best of several short runs, as other load on the machine can only make a run slower. The sizes are
 * a small packet, a usual one, and the largest that one packet of a session carries.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "box.h"
#include "salsa20.h"

enum { RUNS = 15, BYTES_PER_RUN = 8 << 20, PACKETS_PER_RUN_MAX = 20000, MAX_SIZE = 65568 };

static uint8_t text[BOX_TAG_SIZE + MAX_SIZE];

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* Seconds per packet. */
static double measure(struct box_context *context, const struct box_key *key, size_t size, bool open)
{
    const size_t fitting = BYTES_PER_RUN / size;
    const size_t packets = fitting < PACKETS_PER_RUN_MAX ? fitting : PACKETS_PER_RUN_MAX;
    double best = 1e9;

    for (int run = 0; run < RUNS; run++) {
        double spent = 0, started = now();

        if (!open) {
            for (size_t i = 0; i < packets; i++)
                box_seal(context, key, i, text, text + BOX_TAG_SIZE, size);
            spent = now() - started;
        } else {
            /* Sealing makes what is opened, so the time of both less that of sealing counts. */
            for (size_t i = 0; i < packets; i++) {
                box_seal(context, key, i, text, text + BOX_TAG_SIZE, size);
                if (!box_open(context, key, i, text, text + BOX_TAG_SIZE, size))
                    abort();
            }
            spent = now() - started;
        }
        if (spent < best)
            best = spent;
    }
    return best / (double)packets;
}

int main(void)
{
    static const char *const names[] = {"avx512", "avx2", "portable"};
    static const size_t sizes[] = {100, 1433, 16384, 65568};
    uint8_t shared[BOX_KEY_SIZE];
    struct box_key key;
    struct box_context *context = box_context_new();

    if (context == NULL)
        return 1;
    memset(shared, 7, sizeof(shared));
    box_key_init(&key, shared);
    printf("%-10s %8s %12s %10s %12s %10s\n", "", "bytes", "seal GB/s", "ns", "open GB/s", "ns");
    for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++) {
        if (!salsa20_use(names[n]))
            continue;
        for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
            const double seal = measure(context, &key, sizes[s], false);
            const double open = measure(context, &key, sizes[s], true) - seal;
            const double size = (double)sizes[s];

            printf("%-10s %8zu %12.2f %10.0f %12.2f %10.0f\n", box_implementation(), sizes[s], size / seal * 1e-9,
                   seal * 1e9, size / open * 1e-9, open * 1e9);
        }
    }
    box_context_free(context);
    return 0;
}
