/*
 * What the data plane knows of each remote node: one record, so that a packet costs one look-up.
 *
 * Records come and go with the control plane's tables, which bound their number. The one large thing in them, the last
 * payload kept for the day the path changes, is bounded here, over all of them.
 */
#ifndef YGGPY_REMOTE_H
#define YGGPY_REMOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "session.h"
#include "table.h"
#include "wire.h"

enum { MAX_KEPT_BYTES = 8 << 20 }; /* memory that kept payloads may take; beyond that the longest kept are forgotten */

#define NEVER (-1.0)

struct remote {
    uint8_t key[KEY_SIZE];
    uint8_t address[ADDRESS_SIZE]; /* derived from the key; in the tables while has_address */
    uint8_t subnet[SUBNET_SIZE];
    bool has_address, has_path, has_session;
    double last_used;         /* of the address */
    double last_traffic;      /* addressed to us; only while there is a path */
    double last_session_use;
    double told_source, told_ratchet; /* when the control plane was last told, see TELL_AGAIN in plane.c */
    uint64_t told_generation;
    uint64_t bytes_received, bytes_sent; /* of the session's messages */
    uint8_t *path; /* wire form */
    size_t path_size;
    uint8_t *kept; /* memory of the kept payload */
    size_t kept_room, kept_start, kept_size;
    struct remote *kept_next, *kept_previous;
    struct session session;
};

struct remotes {
    struct table by_key, by_address, by_subnet;
    struct remote *first_kept, *last_kept; /* the longest keeping first */
    size_t kept_bytes;
};

void remotes_init(struct remotes *remotes);
void remotes_free(struct remotes *remotes);

struct remote *remote_get(const struct remotes *remotes, const uint8_t key[KEY_SIZE]);

/* Finds or makes. NULL: out of memory. */
struct remote *remote_make(struct remotes *remotes, const uint8_t key[KEY_SIZE]);

/* Drops the record if no table of the control plane has the node any more. */
void remote_release(struct remotes *remotes, struct remote *remote);

bool remote_set_path(struct remote *remote, const uint8_t *path, size_t size);
bool remote_set_address(struct remotes *remotes, struct remote *remote, const uint8_t address[ADDRESS_SIZE],
                        const uint8_t subnet[SUBNET_SIZE]);
void remote_remove_address(struct remotes *remotes, struct remote *remote);

/* Keeps a copy of a payload in place of the one before. */
void remote_keep(struct remotes *remotes, struct remote *remote, const uint8_t *payload, size_t size);

/*
 * Keeps the payload at memory + start without a copy: `memory` (malloc'd, `room` bytes) is the record's from now on, and
 * the caller gets other memory of the same room for it. False: out of memory, nothing has changed.
 */
bool remote_keep_memory(struct remotes *remotes, struct remote *remote, uint8_t **memory, size_t room, size_t start,
                        size_t size);

/* Keeps nothing any more. */
void remote_forget_kept(struct remotes *remotes, struct remote *remote);

/* Writes the address (first 16 bytes) that belongs to a key; the subnet is its first 8 bytes with another first byte. */
void address_for_key(const uint8_t key[KEY_SIZE], uint8_t address[ADDRESS_SIZE]);

enum { NODE_PREFIX = 0x02, SUBNET_PREFIX = 0x03 };

#endif
