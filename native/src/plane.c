/* See plane.h: life, links and tables. */
#include "plane.h"

#include <stdlib.h>
#include <string.h>

/* ---- what links report ---- */

static const char *on_frame(void *self, struct link *link, enum frame_type type, uint8_t *start, uint8_t *payload,
                            size_t size)
{
    (void)start;
    struct plane *plane = self;
    if (type == FRAME_TRAFFIC)
        return plane_on_traffic(plane, payload, size);
    plane_tell(plane, (struct event){.type = EVENT_PROTOCOL_FRAME, .link_id = link->id, .number = type}, payload, size);
    return NULL;
}

static void on_dirty(void *self, struct link *link)
{
    struct plane *plane = self;
    link->next_dirty = plane->dirty;
    plane->dirty = link;
}

static void on_watch(void *self, struct link *link)
{
    struct plane *plane = self;
    plane->watch_link(plane->watcher, link);
    link->watching_input = link_wants_input(link);
    link->watching_output = link_wants_output(link);
}

static void on_output(void *self, struct link *link, const uint8_t *data, size_t size)
{
    struct plane *plane = self;
    events_push(&plane->events, (struct event){.type = EVENT_LINK_OUTPUT, .link_id = link->id}, data, size);
}

static void on_armed(void *self, double at)
{
    struct plane *plane = self;
    if (plane->links_at == 0 || at < plane->links_at)
        plane->links_at = at;
}

void plane_tell(struct plane *plane, struct event event, const uint8_t *data, size_t size)
{
    event.when = plane->now;
    if (events_push(&plane->events, event, data, size) && plane->input)
        plane->input->event_bytes += sizeof event + size;
}

void plane_tell_unroutable(struct plane *plane, bool own, size_t path_sizes, const uint8_t *traffic, size_t size)
{
    /*
     * To read long coordinates costs the control plane far more than us, and hardly any of these get an answer. But of
     * our own dead paths it must hear, whatever others send.
     */
    if (path_sizes <= MAX_TOLD_PATHS && plane->unroutable[own]++ < MAX_UNROUTABLE)
        plane_tell(plane, (struct event){.type = EVENT_TRAFFIC_UNROUTABLE}, traffic, size);
}

/* ---- life ---- */

static void ignore_link(void *watcher, struct link *link)
{
    (void)watcher, (void)link;
}

static void ignore_tun(void *watcher, bool input)
{
    (void)watcher, (void)input;
}

struct plane *plane_new(const uint8_t key[KEY_SIZE], const uint8_t address[ADDRESS_SIZE],
                        const uint8_t subnet[SUBNET_SIZE])
{
    struct plane *plane = calloc(1, sizeof *plane);
    if (!plane)
        return NULL;
    memcpy(plane->own_key, key, KEY_SIZE);
    memcpy(plane->own_address, address, ADDRESS_SIZE);
    memcpy(plane->own_subnet, subnet, SUBNET_SIZE);
    remotes_init(&plane->remotes);
    table_init(&plane->links, offsetof(struct link, id), sizeof(uint64_t));
    tun_init(&plane->tun);
    plane->tun.mtu = DEFAULT_MTU;
    plane->events.wake = -1;
    plane->owner = (struct link_owner){plane, on_frame, on_dirty, on_watch, on_output, on_armed};
    plane->watch_link = ignore_link;
    plane->watch_tun = ignore_tun;
    plane->fib = fib_new((const uint8_t *)"", 1);
    plane->box = box_context_new();
    plane->packet = malloc(PACKET_ROOM);
    plane->segment = malloc(PACKET_ROOM);
    plane->scratch = malloc(STREAM_CIPHER_ROOM);
    plane->plain = malloc(LINK_PLAIN_ROOM);
    if (plane->fib && plane->box && plane->packet && plane->segment && plane->scratch && plane->plain)
        return plane;
    plane_free(plane);
    return NULL;
}

static void free_dead(struct plane *plane)
{
    while (plane->dead) {
        struct link *link = plane->dead;
        plane->dead = link->next_dead;
        link_free(link);
    }
}

void plane_free(struct plane *plane)
{
    if (!plane)
        return;
    struct link *link;
    for (size_t place = 0; (link = table_next(&plane->links, &place));)
        link_free(link);
    table_free(&plane->links);
    free_dead(plane);
    plane_forget_waiting(plane);
    remotes_free(&plane->remotes);
    fib_free(plane->fib);
    box_context_free(plane->box);
    tun_detach(&plane->tun);
    firewall_free(plane->firewall);
    buffer_free(&plane->events.queue);
    free(plane->packet);
    free(plane->segment);
    free(plane->scratch);
    free(plane->plain);
    free(plane);
}

/* Takes a closed link out of everything; it is freed when nobody is inside it any more. */
static void bury(struct plane *plane, struct link *link)
{
    table_remove(&plane->links, &link->id);
    plane->counters.received += link->received;
    plane->counters.sent += link->sent;
    plane->counters.dropped += link->queue.dropped;
    link->closed = true;
    plane->watch_link(plane->watcher, link);
    link->next_dead = plane->dead;
    plane->dead = link;
}

/* Tells the control plane of a link that ended by itself. */
static void report_end(struct plane *plane, struct link *link)
{
    bury(plane, link);
    events_push(&plane->events,
                (struct event){.type = EVENT_LINK_ENDED,
                               .link_id = link->id,
                               .number = link->reason,
                               .detail = (uint64_t)link->error},
                (const uint8_t *)link->text, strlen(link->text));
}

static bool is_buried(const struct plane *plane, const struct link *link)
{
    return table_get(&plane->links, &link->id) != link;
}

void plane_check_link(struct plane *plane, struct link *link)
{
    if (link->closed && !is_buried(plane, link))
        report_end(plane, link);
}

/* Gives the kernel what the links have collected, and the links what waits for them, until neither moves. */
static void flush(struct plane *plane)
{
    while (plane->dirty) {
        struct link *link = plane->dirty;
        plane->dirty = link->next_dirty;
        link->dirty = false;
        if (!link->closed)
            link_flush(link, plane->now);
        plane_check_link(plane, link);
    }
}

void plane_settle(struct plane *plane)
{
    flush(plane);
    if (!fair_is_empty(&plane->fair)) {
        plane_send_waiting(plane);
        flush(plane);
    }
    if (plane->tun.error && plane->tun.fd >= 0) {
        struct event event = {.type = EVENT_TUN_FAILED, .number = (uint64_t)plane->tun.error, .detail = plane->tun_serial};
        plane->watch_tun(plane->watcher, false);
        tun_detach(&plane->tun);
        plane_forget_waiting(plane);
        plane->tun.mtu = DEFAULT_MTU;
        events_push(&plane->events, event, NULL, 0);
    }
    free_dead(plane);
    events_wake(&plane->events);
}

double plane_next_timer(const struct plane *plane)
{
    double next = plane->tun.paused_until;
    if (plane->egress_at != 0 && (next == 0 || plane->egress_at < next))
        next = plane->egress_at;
    if (plane->links_at != 0 && (next == 0 || plane->links_at < next))
        next = plane->links_at;
    return next;
}

/* Judges the deadlines of all links and finds the next one. About once a second, so memory is given back here too. */
static void link_timers(struct plane *plane)
{
    struct link *link, *ended = NULL;
    plane->links_at = 0;
    if (fair_is_empty(&plane->fair))
        plane_free_spares(plane);
    for (size_t place = 0; (link = table_next(&plane->links, &place));) {
        link_timer(link, plane->now);
        if (link->closed) {
            link->next_dead = ended;
            ended = link;
        } else if (link->timer_at != 0) {
            on_armed(plane, link->timer_at);
        }
    }
    while (ended) {
        link = ended;
        ended = link->next_dead;
        report_end(plane, link);
    }
}

double plane_timers(struct plane *plane)
{
    if (plane->tun.paused_until != 0 && plane->now >= plane->tun.paused_until) {
        plane->tun.paused_until = 0; /* what is read now pushes out what has waited longest */
        plane->watch_tun(plane->watcher, true);
    }
    if (plane->links_at != 0 && plane->now >= plane->links_at)
        link_timers(plane);
    plane_settle(plane);
    return plane_next_timer(plane);
}

/* ---- links ---- */

bool plane_add_link(struct plane *plane, uint64_t id, const uint8_t key[KEY_SIZE], struct stream *stream)
{
    struct link *link = link_new(id, key, stream, &plane->owner);
    if (!link)
        return false;
    if (!table_put(&plane->links, link)) {
        *stream = link->stream;
        stream_init(&link->stream, -1);
        link_free(link);
        return false;
    }
    on_watch(plane, link);
    return true;
}

struct link *plane_link(const struct plane *plane, uint64_t id)
{
    return table_get(&plane->links, &id);
}

void plane_read_link(struct plane *plane, struct link *link)
{
    if (buffer_size(&link->stream.ahead)) {
        struct buffer ahead = link->stream.ahead;
        link->stream.ahead = (struct buffer){0};
        plane_feed_link(plane, link, buffer_bytes(&ahead), buffer_size(&ahead));
        buffer_free(&ahead);
        if (link->closed)
            return;
    }
    plane->input = link;
    link_read(link, plane->scratch, plane->plain, plane->now);
    plane->input = NULL;
    tun_flush(&plane->tun); /* what it was to write lies in the read buffer */
    plane_check_link(plane, link);
}

void plane_feed_link(struct plane *plane, struct link *link, const uint8_t *data, size_t size)
{
    while (size && !link->closed) {
        size_t piece = size < STREAM_READ_SIZE ? size : STREAM_READ_SIZE;
        plane->input = link;
        link_feed(link, data, piece, plane->plain, plane->now);
        plane->input = NULL;
        tun_flush(&plane->tun);
        data += piece;
        size -= piece;
    }
    plane_check_link(plane, link);
}

void plane_close_link(struct plane *plane, uint64_t id)
{
    struct link *link = plane_link(plane, id);
    if (link)
        bury(plane, link);
}

void plane_events_taken(struct plane *plane)
{
    plane->unopened = plane->unroutable[0] = plane->unroutable[1] = 0;
    struct link *link, *ended = NULL;
    for (size_t place = 0; (link = table_next(&plane->links, &place));) {
        if (!link->event_bytes)
            continue;
        link->event_bytes = 0;
        if (link->holding) {
            plane->input = link;
            link_resume(link, plane->plain, plane->now);
            plane->input = NULL;
            tun_flush(&plane->tun);
        }
        if (link->closed) {
            link->next_dead = ended;
            ended = link;
        } else if (link->watching_input != link_wants_input(link)) {
            on_watch(plane, link);
        }
    }
    while (ended) {
        link = ended;
        ended = link->next_dead;
        report_end(plane, link);
    }
}

/* ---- tables ---- */

void plane_set_fib(struct plane *plane, struct fib *fib)
{
    fib_free(plane->fib);
    plane->fib = fib;
}

bool plane_set_path(struct plane *plane, const uint8_t dest[KEY_SIZE], const uint8_t *path, size_t size)
{
    struct remote *remote = remote_make(&plane->remotes, dest);
    if (!remote || !remote_set_path(remote, path, size))
        return false;
    if (remote->kept)
        plane_send_kept(plane, remote);
    return true;
}

void plane_remove_path(struct plane *plane, const uint8_t dest[KEY_SIZE])
{
    struct remote *remote = remote_get(&plane->remotes, dest);
    if (!remote)
        return;
    remote->has_path = false;
    remote->last_traffic = NEVER;
    remote_forget_kept(&plane->remotes, remote);
    remote_release(&plane->remotes, remote);
}

bool plane_set_session(struct plane *plane, const uint8_t key[KEY_SIZE], const struct session_keys *keys,
                       uint64_t *generation)
{
    struct remote *remote = remote_make(&plane->remotes, key);
    if (!remote)
        return false;
    session_install(&remote->session, keys);
    remote->session.generation = ++plane->generations;
    remote->has_session = true;
    *generation = remote->session.generation;
    return true;
}

void plane_remove_session(struct plane *plane, const uint8_t key[KEY_SIZE])
{
    struct remote *remote = remote_get(&plane->remotes, key);
    if (!remote || !remote->has_session)
        return;
    session_wipe(&remote->session);
    remote->has_session = false;
    remote->bytes_received = remote->bytes_sent = 0;
    remote->last_session_use = NEVER;
    remote_release(&plane->remotes, remote);
}

bool plane_set_address(struct plane *plane, const uint8_t key[KEY_SIZE], const uint8_t address[ADDRESS_SIZE],
                       const uint8_t subnet[SUBNET_SIZE])
{
    struct remote *remote = remote_make(&plane->remotes, key);
    return remote && remote_set_address(&plane->remotes, remote, address, subnet);
}

void plane_remove_address(struct plane *plane, const uint8_t key[KEY_SIZE])
{
    struct remote *remote = remote_get(&plane->remotes, key);
    if (!remote || !remote->has_address)
        return;
    remote_remove_address(&plane->remotes, remote);
    remote_release(&plane->remotes, remote);
}
