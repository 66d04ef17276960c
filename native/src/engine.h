/*
 * The engine: a plane with a clock, a lock and, in a daemon, a thread of its own.
 *
 * The thread waits in epoll for links and the TUN and does all packet work. The control plane calls in from its own
 * thread under the same lock, between two batches of input: the lock is handed over in turn, so that neither side starves
 * however busy the other is. Without a thread (for simulations and tests) somebody else tells the time and carries bytes.
 */
#ifndef YGGPY_ENGINE_H
#define YGGPY_ENGINE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "plane.h"

struct engine {
    struct plane *plane; /* only under the lock */
    pthread_mutex_t turn, data;
    double clock_offset; /* added to CLOCK_BOOTTIME; see yggpy/clock.py */
    bool threaded;
    double sleeps_until; /* 0: for ever */
    bool coarse;         /* only whole milliseconds can be waited for */
    int epoll, wake;     /* wake: an eventfd that ends the thread's wait */
    atomic_bool stopping;
    bool tun_watched;
    int tun_fd;
    pthread_t thread;
};

/*
 * Makes an engine and, with `threaded`, starts its thread. `wake_fd` becomes readable when events wait; it stays the
 * caller's. NULL with errno set.
 */
struct engine *engine_new(const uint8_t key[KEY_SIZE], const uint8_t address[ADDRESS_SIZE],
                          const uint8_t subnet[SUBNET_SIZE], bool threaded, double clock_offset, int wake_fd);

/* Ends the thread and frees everything; the TUN descriptor stays open. */
void engine_free(struct engine *engine);

/* Gives the caller the plane, and its current time; every call that may change something ends with engine_unlock. */
struct plane *engine_lock(struct engine *engine);
/* True if it could be had without waiting. */
bool engine_try_lock(struct engine *engine);
void engine_unlock(struct engine *engine);

/* Begins or ends the use of a TUN descriptor; under the lock. False: out of memory. */
bool engine_attach_tun(struct engine *engine, int fd, uint32_t mtu);
void engine_detach_tun(struct engine *engine);

/* Makes sure that the thread wakes for a deadline that has come nearer; under the lock. */
void engine_note_timers(struct engine *engine);

#endif
