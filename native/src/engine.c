/* See engine.h. */
#include "engine.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS_PER_WAIT = 64 };

/* Newer than the oldest headers we build with. */
#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif

/* What epoll tells besides links, whose ids begin at 1 and never get that far. */
#define TAG_WAKE UINT64_MAX
#define TAG_TUN (UINT64_MAX - 1)

static double clock_now(const struct engine *engine)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9 + engine->clock_offset;
}

/* ---- the lock: whoever waits for `data` holds `turn`, so the other one cannot take it twice in a row ---- */

bool engine_try_lock(struct engine *engine)
{
    if (pthread_mutex_trylock(&engine->turn) != 0)
        return false;
    bool got = pthread_mutex_trylock(&engine->data) == 0;
    pthread_mutex_unlock(&engine->turn);
    if (got && engine->threaded)
        engine->plane->now = clock_now(engine);
    return got;
}

struct plane *engine_lock(struct engine *engine)
{
    pthread_mutex_lock(&engine->turn);
    pthread_mutex_lock(&engine->data);
    pthread_mutex_unlock(&engine->turn);
    if (engine->threaded)
        engine->plane->now = clock_now(engine);
    return engine->plane;
}

void engine_unlock(struct engine *engine)
{
    pthread_mutex_unlock(&engine->data);
}

/* ---- what the plane wants to be told ---- */

static void watch_link(void *watcher, struct link *link)
{
    struct engine *engine = watcher;
    if (link->stream.fd < 0 || engine->epoll < 0)
        return;
    if (link->closed) {
        epoll_ctl(engine->epoll, EPOLL_CTL_DEL, link->stream.fd, NULL);
        return;
    }
    struct epoll_event event = {.data.u64 = link->id};
    if (link_wants_input(link))
        event.events |= EPOLLIN;
    if (link_wants_output(link))
        event.events |= EPOLLOUT;
    if (!event.events) { /* even with nothing asked for, epoll would go on to tell of a peer that is gone */
        epoll_ctl(engine->epoll, EPOLL_CTL_DEL, link->stream.fd, NULL);
        return;
    }
    if (epoll_ctl(engine->epoll, EPOLL_CTL_MOD, link->stream.fd, &event) != 0 && errno == ENOENT)
        epoll_ctl(engine->epoll, EPOLL_CTL_ADD, link->stream.fd, &event);
}

static void watch_tun(void *watcher, bool input)
{
    struct engine *engine = watcher;
    if (engine->tun_fd < 0 || input == engine->tun_watched || engine->epoll < 0)
        return;
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = TAG_TUN};
    epoll_ctl(engine->epoll, input ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, engine->tun_fd, &event);
    engine->tun_watched = input;
}

bool engine_attach_tun(struct engine *engine, int fd, uint32_t mtu)
{
    engine_detach_tun(engine);
    if (!tun_attach(&engine->plane->tun, fd, mtu))
        return false;
    engine->plane->tun_serial++;
    engine->tun_fd = fd;
    watch_tun(engine, true);
    return true;
}

void engine_detach_tun(struct engine *engine)
{
    watch_tun(engine, false);
    engine->tun_fd = -1;
    tun_detach(&engine->plane->tun);
    plane_forget_waiting(engine->plane);
    engine->plane->tun.mtu = DEFAULT_MTU;
}

static void wake(const struct engine *engine)
{
    uint64_t one = 1;
    (void)!write(engine->wake, &one, sizeof one);
}

void engine_note_timers(struct engine *engine)
{
    if (!engine->threaded)
        return;
    double next = plane_next_timer(engine->plane);
    if (next != 0 && (engine->sleeps_until == 0 || next < engine->sleeps_until)) {
        engine->sleeps_until = next;
        wake(engine);
    }
}

/* ---- the thread ---- */

static void handle(struct engine *engine, const struct epoll_event *event)
{
    struct plane *plane = engine->plane;
    if (event->data.u64 == TAG_WAKE) {
        uint64_t count;
        (void)!read(engine->wake, &count, sizeof count);
        return;
    }
    if (event->data.u64 == TAG_TUN) {
        if (plane->tun.fd >= 0 && plane->tun.paused_until == 0)
            plane_read_tun(plane);
        return;
    }
    struct link *link = plane_link(plane, event->data.u64);
    if (!link || link->closed)
        return;
    if (event->events & EPOLLOUT)
        link_flush(link, plane->now);
    bool readable = event->events & (EPOLLIN | EPOLLHUP | EPOLLERR) && link_wants_input(link);
    if (!link->closed && (readable || (link->stream.write_error && link_wants_input(link))))
        plane_read_link(plane, link);
}

/* Waits until something happens or until `when`, which may be less than a millisecond away. */
static int wait_until(struct engine *engine, struct epoll_event *ready, double when, double now)
{
    if (when == 0)
        return epoll_wait(engine->epoll, ready, EVENTS_PER_WAIT, -1);
    double left = when <= now ? 0 : when - now > 60 ? 60 : when - now;
    if (!engine->coarse) {
        struct timespec timeout = {.tv_sec = (time_t)left};
        timeout.tv_nsec = (long)((left - (double)timeout.tv_sec) * 1e9);
        long count = syscall(SYS_epoll_pwait2, engine->epoll, ready, EVENTS_PER_WAIT, &timeout, NULL, 0);
        if (count >= 0 || errno == EINTR)
            return (int)count;
        engine->coarse = true; /* before Linux 5.11, or in a container that does not know the call */
    }
    return epoll_wait(engine->epoll, ready, EVENTS_PER_WAIT, left == 0 ? 0 : (int)(left * 1000) + 1);
}

static void *run(void *argument)
{
    struct engine *engine = argument;
    struct epoll_event ready[EVENTS_PER_WAIT];
    while (!atomic_load(&engine->stopping)) {
        struct plane *plane = engine_lock(engine);
        engine->sleeps_until = plane_timers(plane);
        double until = engine->sleeps_until, now = plane->now;
        engine_unlock(engine);
        int count = wait_until(engine, ready, until, now);
        for (int i = 0; i < count; i++) {
            engine_lock(engine);
            handle(engine, &ready[i]);
            plane_settle(engine->plane);
            engine_unlock(engine);
        }
    }
    return NULL;
}

static bool start_thread(struct engine *engine)
{
    sigset_t all, before;
    sigfillset(&all); /* signals are the interpreter's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&engine->thread, NULL, run, engine);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = error;
    return !error;
}

struct engine *engine_new(const uint8_t key[KEY_SIZE], const uint8_t address[ADDRESS_SIZE],
                          const uint8_t subnet[SUBNET_SIZE], bool threaded, double clock_offset, int wake_fd)
{
    struct engine *engine = calloc(1, sizeof *engine);
    struct plane *plane = engine ? plane_new(key, address, subnet) : NULL;
    if (!plane) {
        free(engine);
        errno = ENOMEM;
        return NULL;
    }
    engine->plane = plane;
    engine->clock_offset = clock_offset;
    engine->epoll = engine->wake = engine->tun_fd = -1;
    pthread_mutex_init(&engine->turn, NULL);
    pthread_mutex_init(&engine->data, NULL);
    plane->events.wake = wake_fd;
    plane->watcher = engine;
    plane->watch_link = watch_link;
    plane->watch_tun = watch_tun;
    if (!threaded)
        return engine;
    engine->threaded = true;
    engine->epoll = epoll_create1(EPOLL_CLOEXEC);
    engine->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = TAG_WAKE};
    if (engine->epoll >= 0 && engine->wake >= 0 &&
        epoll_ctl(engine->epoll, EPOLL_CTL_ADD, engine->wake, &event) == 0 && start_thread(engine))
        return engine;
    int error = errno;
    engine->threaded = false;
    engine_free(engine);
    errno = error;
    return NULL;
}

void engine_free(struct engine *engine)
{
    if (!engine)
        return;
    if (engine->threaded) {
        atomic_store(&engine->stopping, true);
        wake(engine);
        pthread_join(engine->thread, NULL);
    }
    engine_detach_tun(engine);
    plane_free(engine->plane);
    if (engine->epoll >= 0)
        close(engine->epoll);
    if (engine->wake >= 0)
        close(engine->wake);
    pthread_mutex_destroy(&engine->turn);
    pthread_mutex_destroy(&engine->data);
    free(engine);
}
