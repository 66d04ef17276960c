/*
 * The packet filter at the TUN (docs/firewall.md): who in the mesh may send what to this machine.
 *
 * What this machine sends passes, and is remembered as a flow, so that what is answered passes, too. What else comes in
 * must match a rule. yggpy/firewall does the same in Python, and both pass the same tests.
 *
 * A packet costs one look-up in the table of flows, and a walk over the rules when it is in none; nothing is allocated.
 * The table has a fixed size. A flow that finds no place takes that of an expired one, or else of the one among its
 * neighbours that was idle for longest, first of those that were never answered. What strangers send makes no flows:
 * neither do answers that a rule would let in anyway, so that a flood at an open port cannot push out other flows.
 */
#ifndef YGGPY_FIREWALL_H
#define YGGPY_FIREWALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    FIREWALL_RULE_SIZE = 58,      /* bytes of a rule in the form that Ruleset.pack makes */
    FIREWALL_MAX_ENTRIES = 4096,  /* packed rules */
    FIREWALL_SETS = 4096,         /* of flows */
    FIREWALL_WAYS = 8,            /* flows in a set */
    FIREWALL_FRAGMENTS = 256,     /* fragmented packets whose rest is let in; a new one replaces an old one */
    FIREWALL_MAX_HEADERS = 8,     /* extension headers that are followed */
};

struct firewall_counters {
    uint64_t established; /* packets let in because they belong to a flow */
    uint64_t errors;      /* ICMPv6 errors about a flow or about an answer to something allowed */
    uint64_t fragments;   /* later fragments of packets let in */
    uint64_t denied;      /* packets not let in, the next ones included */
    uint64_t malformed;   /* ... because they could not be read */
    uint64_t evicted;     /* flows that had to make room */
};

struct firewall {
    struct firewall_rule *rules;
    size_t rule_count;
    uint64_t *allowed; /* packets let in, by rule number */
    size_t number_count;
    struct firewall_flow *flows; /* FIREWALL_SETS * FIREWALL_WAYS */
    struct firewall_fragment *fragments;
    struct firewall_counters counters;
    uint64_t secret[2]; /* of the hash */
};

/* Makes a filter with `size` bytes of packed rules, whose numbers are below `number_count`. NULL: no memory. */
struct firewall *firewall_new(const uint8_t *packed, size_t size, size_t number_count);
void firewall_free(struct firewall *firewall);

/* Tells whether packed rules are well formed: whole ones, not too many, numbers in range. */
bool firewall_rules_valid(const uint8_t *packed, size_t size, size_t number_count);

/* Other rules from now on; flows stay, counters begin anew. False: no memory, and nothing has changed. */
bool firewall_set_rules(struct firewall *firewall, const uint8_t *packed, size_t size, size_t number_count);

/* Notes what this machine sends. The packet has a whole IPv6 header; it may be longer than its length field says. */
void firewall_outbound(struct firewall *firewall, const uint8_t *packet, size_t size, double now);

/* Judges a packet with a whole IPv6 header, sent by the node with this key. */
bool firewall_inbound(struct firewall *firewall, const uint8_t *key, const uint8_t *packet, size_t size, double now);

/* Counts the flows that have not expired. */
size_t firewall_flow_count(const struct firewall *firewall, double now);

#endif
