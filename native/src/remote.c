/* See remote.h. */
#include "remote.h"

#include <stdlib.h>
#include <string.h>

void remotes_init(struct remotes *remotes)
{
    *remotes = (struct remotes){0};
    table_init(&remotes->by_key, offsetof(struct remote, key), KEY_SIZE);
    table_init(&remotes->by_address, offsetof(struct remote, address), ADDRESS_SIZE);
    table_init(&remotes->by_subnet, offsetof(struct remote, subnet), SUBNET_SIZE);
}

static void free_remote(struct remote *remote)
{
    session_wipe(&remote->session);
    free(remote->path);
    free(remote->kept);
    free(remote);
}

void remotes_free(struct remotes *remotes)
{
    struct remote *remote;
    for (size_t place = 0; (remote = table_next(&remotes->by_key, &place));)
        free_remote(remote);
    table_free(&remotes->by_key);
    table_free(&remotes->by_address);
    table_free(&remotes->by_subnet);
}

struct remote *remote_get(const struct remotes *remotes, const uint8_t key[KEY_SIZE])
{
    return table_get(&remotes->by_key, key);
}

/* AddrForKey: how many leading zeros the key has, then what follows the first one bit, inverted (section 10). */
void address_for_key(const uint8_t key[KEY_SIZE], uint8_t address[ADDRESS_SIZE])
{
    size_t ones = 0;
    while (ones < KEY_SIZE * 8 && !(key[ones / 8] & (0x80 >> (ones % 8))))
        ones++;
    memset(address, 0, ADDRESS_SIZE);
    address[0] = NODE_PREFIX;
    address[1] = (uint8_t)ones;
    /* Only whole bytes of what follows are taken, at most 14 of them. */
    size_t bytes = ones + 1 < KEY_SIZE * 8 ? (KEY_SIZE * 8 - ones - 1) / 8 : 0;
    for (size_t i = 0; i < bytes && i < ADDRESS_SIZE - 2; i++) {
        for (size_t j = 0; j < 8; j++) {
            size_t bit = ones + 1 + i * 8 + j;
            if (!(key[bit / 8] & (0x80 >> (bit % 8))))
                address[2 + i] |= (uint8_t)(0x80 >> j);
        }
    }
}

struct remote *remote_make(struct remotes *remotes, const uint8_t key[KEY_SIZE])
{
    struct remote *remote = remote_get(remotes, key);
    if (remote)
        return remote;
    remote = calloc(1, sizeof *remote);
    if (!remote)
        return NULL;
    memcpy(remote->key, key, KEY_SIZE);
    address_for_key(key, remote->address);
    memcpy(remote->subnet, remote->address, SUBNET_SIZE);
    remote->subnet[0] = SUBNET_PREFIX;
    remote->last_used = remote->last_traffic = remote->last_session_use = NEVER;
    remote->told_source = remote->told_ratchet = NEVER;
    if (!table_put(&remotes->by_key, remote)) {
        free(remote);
        return NULL;
    }
    return remote;
}

void remote_release(struct remotes *remotes, struct remote *remote)
{
    if (remote->has_session || remote->has_path || remote->has_address)
        return;
    remote_forget_kept(remotes, remote);
    table_remove(&remotes->by_key, remote->key);
    free_remote(remote);
}

bool remote_set_path(struct remote *remote, const uint8_t *path, size_t size)
{
    uint8_t *copy = malloc(size + 1);
    if (!copy)
        return false;
    memcpy(copy, path, size);
    free(remote->path);
    remote->path = copy;
    remote->path_size = size;
    remote->has_path = true;
    return true;
}

bool remote_set_address(struct remotes *remotes, struct remote *remote, const uint8_t address[ADDRESS_SIZE],
                        const uint8_t subnet[SUBNET_SIZE])
{
    remote_remove_address(remotes, remote);
    memcpy(remote->address, address, ADDRESS_SIZE);
    memcpy(remote->subnet, subnet, SUBNET_SIZE);
    remote->has_address = table_put(&remotes->by_address, remote) && table_put(&remotes->by_subnet, remote);
    if (!remote->has_address)
        remote_remove_address(remotes, remote);
    return remote->has_address;
}

void remote_remove_address(struct remotes *remotes, struct remote *remote)
{
    /* Another key may have the same address by now. */
    if (table_get(&remotes->by_address, remote->address) == remote)
        table_remove(&remotes->by_address, remote->address);
    if (table_get(&remotes->by_subnet, remote->subnet) == remote)
        table_remove(&remotes->by_subnet, remote->subnet);
    remote->has_address = false;
    remote->last_used = remote->told_source = NEVER;
}

/* ---- kept payloads ---- */

static void unlink_kept(struct remotes *remotes, struct remote *remote)
{
    if (remote->kept_previous)
        remote->kept_previous->kept_next = remote->kept_next;
    else
        remotes->first_kept = remote->kept_next;
    if (remote->kept_next)
        remote->kept_next->kept_previous = remote->kept_previous;
    else
        remotes->last_kept = remote->kept_previous;
    remote->kept_next = remote->kept_previous = NULL;
}

void remote_forget_kept(struct remotes *remotes, struct remote *remote)
{
    if (!remote->kept)
        return;
    unlink_kept(remotes, remote);
    remotes->kept_bytes -= remote->kept_room;
    free(remote->kept);
    remote->kept = NULL;
    remote->kept_room = remote->kept_start = remote->kept_size = 0;
}

/* Accounts for memory that a record now has; the bound may take it away from this very record. */
static void account(struct remotes *remotes, struct remote *remote, size_t room)
{
    remote->kept_room = room;
    remotes->kept_bytes += room;
    while (remotes->kept_bytes > MAX_KEPT_BYTES)
        remote_forget_kept(remotes, remotes->first_kept);
}

static void append_kept(struct remotes *remotes, struct remote *remote)
{
    remote->kept_previous = remotes->last_kept;
    if (remotes->last_kept)
        remotes->last_kept->kept_next = remote;
    else
        remotes->first_kept = remote;
    remotes->last_kept = remote;
}

void remote_keep(struct remotes *remotes, struct remote *remote, const uint8_t *payload, size_t size)
{
    /* The same memory serves packet after packet, unless it is far too large for what it holds. */
    if (remote->kept && remote->kept_room >= size && remote->kept_room / 4 <= size + 1024) {
        memmove(remote->kept, payload, size);
        remote->kept_start = 0;
        remote->kept_size = size;
        return;
    }
    uint8_t *memory = malloc(size + 1);
    if (!memory)
        return;
    memcpy(memory, payload, size);
    if (remote->kept) {
        remotes->kept_bytes -= remote->kept_room;
        free(remote->kept);
    } else {
        append_kept(remotes, remote);
    }
    remote->kept = memory;
    remote->kept_start = 0;
    remote->kept_size = size;
    account(remotes, remote, size);
}

bool remote_keep_memory(struct remotes *remotes, struct remote *remote, uint8_t **memory, size_t room, size_t start,
                        size_t size)
{
    uint8_t *other = remote->kept_room == room ? remote->kept : NULL;
    if (!other) {
        other = malloc(room);
        if (!other)
            return false;
        remote_forget_kept(remotes, remote);
        append_kept(remotes, remote);
        remote->kept = *memory;
        *memory = other;
        remote->kept_start = start;
        remote->kept_size = size;
        account(remotes, remote, room);
        return true;
    }
    remote->kept = *memory;
    *memory = other;
    remote->kept_start = start;
    remote->kept_size = size;
    return true;
}
