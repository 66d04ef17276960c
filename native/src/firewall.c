/* See firewall.h. The rules as they are packed, the walk through a packet's headers, the flows, the judgement. */
#include "firewall.h"

#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#include "offload.h"
#include "remote.h"

enum { FROM_ANYONE, FROM_PREFIX, FROM_KEY };

enum {
    HEADER_HOP_BY_HOP = 0,
    HEADER_ROUTING = 43,
    HEADER_FRAGMENT = 44,
    HEADER_AUTHENTICATION = 51,
    HEADER_DESTINATION = 60,
    HEADER_MOBILITY = 135,
    HEADER_HIP = 139,
    HEADER_SHIM6 = 140,

    PROTOCOL_DCCP = 33,
    PROTOCOL_ICMPV6 = 58,
    PROTOCOL_SCTP = 132,
    PROTOCOL_UDPLITE = 136,

    ICMP_FIRST_INFORMATION = 128, /* below: errors */
    ICMP_ECHO_REQUEST = 128,
    ICMP_ECHO_REPLY = 129,
    ICMP_HEAD = 8,

    TCP_FLAG_BYTE = 13,
    FLAG_FIN = 1,
    FLAG_SYN = 2,
    FLAG_RST = 4,
    FLAG_ACK = 16,
};

struct firewall_rule {
    uint8_t from, protocol, any_protocol, bits;
    uint16_t low, high, number; /* ports; for ICMPv6 types */
    uint8_t key[KEY_SIZE], address[ADDRESS_SIZE]; /* the address of the key, or of the prefix */
};

enum flow_state { FLOW_FREE, FLOW_NEW, FLOW_ANSWERED, FLOW_CLOSING };

struct firewall_flow {
    uint8_t remote[ADDRESS_SIZE], local[ADDRESS_SIZE];
    uint16_t remote_port, local_port;
    uint8_t protocol, state;
    double last; /* when a packet last passed */
};

struct firewall_fragment {
    uint8_t remote[ADDRESS_SIZE], local[ADDRESS_SIZE];
    uint32_t id;
    bool used;
    double when;
};

/* Seconds for which a flow may be idle; yggpy/firewall/flows.py has the same. */
#define TCP_NEW 120.0
#define TCP_ANSWERED 7440.0 /* RFC 5382, section 5 */
#define TCP_CLOSING 60.0
#define UDP_NEW 30.0
#define UDP_ANSWERED 180.0
#define ICMP_IDLE 30.0
#define OTHER_IDLE 600.0
#define FRAGMENT_TIME 60.0 /* RFC 8200, section 4.5: as long as a kernel waits for the rest */

/* ---- headers ---- */

/* What is read of a packet. */
struct summary {
    const uint8_t *source, *dest;
    size_t at; /* of the upper header */
    uint32_t fragment_id;
    uint16_t source_port, dest_port; /* 0 where the protocol has none */
    uint8_t protocol, flags, type;
    bool first_fragment, later_fragment;
};

static bool has_ports(uint8_t protocol)
{
    return protocol == PROTOCOL_TCP || protocol == PROTOCOL_UDP || protocol == PROTOCOL_DCCP ||
           protocol == PROTOCOL_SCTP || protocol == PROTOCOL_UDPLITE;
}

/* Follows the extension headers to the upper one. False: cut short, or too many. */
static bool find_upper(const uint8_t *packet, size_t size, struct summary *out)
{
    uint8_t next = packet[IPV6_NEXT_HEADER];
    size_t at = IPV6_HEADER_SIZE;
    for (int i = 0; i <= FIREWALL_MAX_HEADERS; i++) {
        switch (next) {
        case HEADER_HOP_BY_HOP:
        case HEADER_ROUTING:
        case HEADER_DESTINATION:
        case HEADER_MOBILITY:
        case HEADER_HIP:
        case HEADER_SHIM6:
        case HEADER_AUTHENTICATION:
        case HEADER_FRAGMENT:
            break;
        default:
            out->protocol = next;
            out->at = at;
            return true;
        }
        if (size - at < 8)
            return false;
        const uint8_t *header = packet + at;
        size_t length = (header[1] + (size_t)1) * 8;
        if (next == HEADER_AUTHENTICATION)
            length = (header[1] + (size_t)2) * 4;
        if (next == HEADER_FRAGMENT) {
            const uint16_t place = get16(header + 2);
            length = 8;
            out->fragment_id = get32(header + 4);
            if (place & 0xfff8) {
                out->later_fragment = true;
                out->protocol = header[0];
                return true;
            }
            out->first_fragment = place & 1;
        }
        if (size - at < length)
            return false;
        at += length;
        next = header[0];
    }
    return false;
}

/* Reads a packet; of one that is quoted by an error, the upper header need not be whole. */
static bool summarize(const uint8_t *packet, size_t size, bool quoted, struct summary *out)
{
    memset(out, 0, sizeof *out);
    if (size < IPV6_HEADER_SIZE || packet[0] >> 4 != 6)
        return false;
    out->source = packet + IPV6_ADDRESSES;
    out->dest = out->source + ADDRESS_SIZE;
    if (!find_upper(packet, size, out))
        return false;
    if (out->later_fragment)
        return true;
    const uint8_t *upper = packet + out->at;
    const size_t left = size - out->at;
    if (has_ports(out->protocol)) {
        if (left < PORTS_SIZE)
            return false;
        out->source_port = get16(upper);
        out->dest_port = get16(upper + 2);
        if (out->protocol == PROTOCOL_TCP && !quoted) {
            if (left < TCP_HEADER_SIZE)
                return false;
            out->flags = upper[TCP_FLAG_BYTE];
        }
    } else if (out->protocol == PROTOCOL_ICMPV6) {
        if (left < ICMP_HEAD)
            return false;
        out->type = upper[0];
    }
    return true;
}

/* ---- rules ---- */

bool firewall_rules_valid(const uint8_t *packed, size_t size, size_t number_count)
{
    if (size % FIREWALL_RULE_SIZE || size / FIREWALL_RULE_SIZE > FIREWALL_MAX_ENTRIES)
        return false;
    for (const uint8_t *at = packed; at < packed + size; at += FIREWALL_RULE_SIZE)
        if (at[0] > FROM_KEY || at[3] > 8 * ADDRESS_SIZE || get16(at + 8) >= number_count)
            return false;
    return true;
}

static struct firewall_rule *unpack(const uint8_t *packed, size_t count)
{
    struct firewall_rule *rules = calloc(count + 1, sizeof *rules);
    for (size_t i = 0; rules && i < count; i++, packed += FIREWALL_RULE_SIZE) {
        struct firewall_rule *rule = &rules[i];
        rule->from = packed[0];
        rule->protocol = packed[1];
        rule->any_protocol = packed[2];
        rule->bits = packed[3];
        rule->low = get16(packed + 4);
        rule->high = get16(packed + 6);
        rule->number = get16(packed + 8);
        memcpy(rule->key, packed + 10, KEY_SIZE);
        memcpy(rule->address, packed + 10 + KEY_SIZE, ADDRESS_SIZE);
    }
    return rules;
}

static bool in_prefix(const uint8_t *address, const uint8_t *prefix, unsigned bits)
{
    if (memcmp(address, prefix, bits / 8) != 0)
        return false;
    return bits % 8 == 0 || (address[bits / 8] ^ prefix[bits / 8]) >> (8 - bits % 8) == 0;
}

/* An address of the node with the rule's key: its own, or one of its subnet, which differs in the first byte. */
static bool of_key(const uint8_t *address, const struct firewall_rule *rule)
{
    if (address[0] == SUBNET_PREFIX)
        return memcmp(address + 1, rule->address + 1, SUBNET_SIZE - 1) == 0;
    return memcmp(address, rule->address, ADDRESS_SIZE) == 0;
}

/*
 * Returns the rule that lets in packets like this, or NULL. Without a key the address says whether a rule for a key
 * fits.
 */
static const struct firewall_rule *find_rule(const struct firewall *firewall, const uint8_t *key,
                                             const uint8_t *remote, uint8_t protocol, uint16_t port)
{
    for (size_t i = 0; i < firewall->rule_count; i++) {
        const struct firewall_rule *rule = &firewall->rules[i];
        if (!rule->any_protocol && (rule->protocol != protocol || port < rule->low || port > rule->high))
            continue;
        if (rule->from == FROM_KEY && !(key ? memcmp(key, rule->key, KEY_SIZE) == 0 : of_key(remote, rule)))
            continue;
        if (rule->from == FROM_PREFIX && !in_prefix(remote, rule->address, rule->bits))
            continue;
        return rule;
    }
    return NULL;
}

/* ---- flows ---- */

static double lifetime(const struct firewall_flow *flow)
{
    switch (flow->protocol) {
    case PROTOCOL_TCP:
        return flow->state == FLOW_NEW ? TCP_NEW : flow->state == FLOW_ANSWERED ? TCP_ANSWERED : TCP_CLOSING;
    case PROTOCOL_UDP:
        return flow->state == FLOW_NEW ? UDP_NEW : UDP_ANSWERED;
    case PROTOCOL_ICMPV6:
        return ICMP_IDLE;
    default:
        return OTHER_IDLE;
    }
}

static bool alive(const struct firewall_flow *flow, double now)
{
    return flow->state != FLOW_FREE && now - flow->last <= lifetime(flow);
}

static uint64_t mix(uint64_t state, uint64_t value)
{
    state = (state ^ value) * UINT64_C(0x9fb21c651e98df25);
    return state ^ state >> 32;
}

/* The eight places where a flow can be. */
static struct firewall_flow *set_of(const struct firewall *firewall, const struct firewall_flow *flow)
{
    uint64_t words[4], hash = firewall->secret[0];
    memcpy(words, flow->remote, ADDRESS_SIZE);
    memcpy(words + 2, flow->local, ADDRESS_SIZE);
    for (int i = 0; i < 4; i++)
        hash = mix(hash, words[i]);
    hash = mix(hash, (uint64_t)flow->remote_port << 24 | (uint64_t)flow->local_port << 8 | flow->protocol);
    return firewall->flows + mix(hash, firewall->secret[1]) % FIREWALL_SETS * FIREWALL_WAYS;
}

static struct firewall_flow *find_flow(const struct firewall *firewall, const struct firewall_flow *wanted, double now)
{
    struct firewall_flow *set = set_of(firewall, wanted);
    for (int i = 0; i < FIREWALL_WAYS; i++) {
        struct firewall_flow *flow = &set[i];
        if (flow->remote_port == wanted->remote_port && flow->local_port == wanted->local_port &&
            flow->protocol == wanted->protocol && memcmp(flow->remote, wanted->remote, ADDRESS_SIZE) == 0 &&
            memcmp(flow->local, wanted->local, ADDRESS_SIZE) == 0 && alive(flow, now))
            return flow;
    }
    return NULL;
}

static void add_flow(struct firewall *firewall, const struct firewall_flow *flow, double now)
{
    struct firewall_flow *set = set_of(firewall, flow), *victim = NULL;
    for (int i = 0; i < FIREWALL_WAYS; i++) {
        struct firewall_flow *place = &set[i];
        if (!alive(place, now)) {
            *place = *flow;
            return;
        }
        bool better = !victim || (place->state == FLOW_NEW) > (victim->state == FLOW_NEW) ||
                      ((place->state == FLOW_NEW) == (victim->state == FLOW_NEW) && place->last < victim->last);
        if (better)
            victim = place;
    }
    firewall->counters.evicted++;
    *victim = *flow;
}

/* The flow that a packet would belong to. False: packets like this belong to none. */
static bool flow_of(const struct summary *summary, const uint8_t *packet, bool inbound, struct firewall_flow *out)
{
    memset(out, 0, sizeof *out);
    memcpy(out->remote, inbound ? summary->source : summary->dest, ADDRESS_SIZE);
    memcpy(out->local, inbound ? summary->dest : summary->source, ADDRESS_SIZE);
    out->protocol = summary->protocol;
    out->remote_port = inbound ? summary->source_port : summary->dest_port;
    out->local_port = inbound ? summary->dest_port : summary->source_port;
    if (summary->protocol == PROTOCOL_ICMPV6) {
        if (summary->type != (inbound ? ICMP_ECHO_REPLY : ICMP_ECHO_REQUEST))
            return false;
        out->local_port = get16(packet + summary->at + 4); /* the identifier */
    }
    return true;
}

/* What a rule compares with its range: of an answer, the port that is answered from. */
static uint16_t service_of(const struct summary *summary, bool inbound)
{
    if (summary->protocol == PROTOCOL_ICMPV6)
        return inbound ? summary->type : ICMP_ECHO_REQUEST;
    return inbound ? summary->dest_port : summary->source_port;
}

static bool is_icmp_error(const struct summary *summary)
{
    return summary->protocol == PROTOCOL_ICMPV6 && !summary->later_fragment && summary->type < ICMP_FIRST_INFORMATION;
}

/* ---- fragments; they are rare, so a walk will do ---- */

static struct firewall_fragment *find_fragment(const struct firewall *firewall, const struct summary *summary)
{
    for (struct firewall_fragment *at = firewall->fragments; at < firewall->fragments + FIREWALL_FRAGMENTS; at++)
        if (at->used && at->id == summary->fragment_id && memcmp(at->remote, summary->source, ADDRESS_SIZE) == 0 &&
            memcmp(at->local, summary->dest, ADDRESS_SIZE) == 0)
            return at;
    return NULL;
}

static void note_fragment(struct firewall *firewall, const struct summary *summary, double now)
{
    struct firewall_fragment *place = find_fragment(firewall, summary);
    if (!place) {
        place = firewall->fragments;
        for (size_t i = 1; i < FIREWALL_FRAGMENTS && place->used; i++)
            if (!firewall->fragments[i].used || firewall->fragments[i].when < place->when)
                place = &firewall->fragments[i];
    }
    memcpy(place->remote, summary->source, ADDRESS_SIZE);
    memcpy(place->local, summary->dest, ADDRESS_SIZE);
    place->id = summary->fragment_id;
    place->when = now;
    place->used = true;
}

static bool fragment_expected(const struct firewall *firewall, const struct summary *summary, double now)
{
    const struct firewall_fragment *place = find_fragment(firewall, summary);
    return place && now - place->when <= FRAGMENT_TIME;
}

/* ---- the judgement ---- */

void firewall_outbound(struct firewall *firewall, const uint8_t *packet, size_t size, double now)
{
    struct summary summary;
    struct firewall_flow flow;
    if (!summarize(packet, size, false, &summary) || summary.later_fragment ||
        !flow_of(&summary, packet, false, &flow))
        return;
    struct firewall_flow *known = find_flow(firewall, &flow, now);
    if (known) {
        known->last = now;
        if (summary.flags & (FLAG_FIN | FLAG_RST))
            known->state = FLOW_CLOSING;
        else if ((summary.flags & (FLAG_SYN | FLAG_ACK)) == FLAG_SYN)
            known->state = FLOW_NEW;
        return;
    }
    if (summary.flags & FLAG_RST)
        return;
    if (summary.protocol != PROTOCOL_ICMPV6 &&
        find_rule(firewall, NULL, flow.remote, summary.protocol, service_of(&summary, false)))
        return; /* what is answered here comes in by its rule */
    flow.state = summary.flags & FLAG_FIN ? FLOW_CLOSING : FLOW_NEW;
    flow.last = now;
    add_flow(firewall, &flow, now);
}

/* Tells whether an ICMPv6 error is about something that this machine has sent within a flow or as an allowed answer. */
static bool error_expected(const struct firewall *firewall, const uint8_t *packet, size_t size,
                           const struct summary *outer, double now)
{
    struct summary quoted;
    struct firewall_flow flow;
    const uint8_t *sent = packet + outer->at + ICMP_HEAD;
    if (!summarize(sent, size - outer->at - ICMP_HEAD, true, &quoted) || quoted.later_fragment ||
        memcmp(quoted.source, outer->dest, ADDRESS_SIZE) != 0)
        return false;
    if (flow_of(&quoted, sent, false, &flow) && find_flow(firewall, &flow, now))
        return true;
    if (quoted.protocol == PROTOCOL_ICMPV6 && quoted.type != ICMP_ECHO_REPLY)
        return false;
    return find_rule(firewall, NULL, quoted.dest, quoted.protocol, service_of(&quoted, false)) != NULL;
}

static bool judge(struct firewall *firewall, const uint8_t *key, const uint8_t *packet, size_t size,
                  const struct summary *summary, double now)
{
    struct firewall_flow flow;
    if (is_icmp_error(summary)) {
        if (error_expected(firewall, packet, size, summary, now)) {
            firewall->counters.errors++;
            return true;
        }
    } else if (flow_of(summary, packet, true, &flow)) {
        struct firewall_flow *known = find_flow(firewall, &flow, now);
        if (known) {
            known->last = now;
            if (summary->flags & (FLAG_FIN | FLAG_RST))
                known->state = FLOW_CLOSING;
            else if (known->state == FLOW_NEW)
                known->state = FLOW_ANSWERED;
            firewall->counters.established++;
            return true;
        }
    }
    const struct firewall_rule *rule =
        find_rule(firewall, key, summary->source, summary->protocol, service_of(summary, true));
    if (rule)
        firewall->allowed[rule->number]++;
    return rule != NULL;
}

bool firewall_inbound(struct firewall *firewall, const uint8_t *key, const uint8_t *packet, size_t size, double now)
{
    struct summary summary;
    if (!summarize(packet, size, false, &summary)) {
        firewall->counters.malformed++;
        firewall->counters.denied++;
        return false;
    }
    if (summary.later_fragment) {
        if (fragment_expected(firewall, &summary, now)) {
            firewall->counters.fragments++;
            return true;
        }
    } else if (judge(firewall, key, packet, size, &summary, now)) {
        if (summary.first_fragment)
            note_fragment(firewall, &summary, now);
        return true;
    }
    firewall->counters.denied++;
    return false;
}

/* ---- life ---- */

bool firewall_set_rules(struct firewall *firewall, const uint8_t *packed, size_t size, size_t number_count)
{
    struct firewall_rule *rules = unpack(packed, size / FIREWALL_RULE_SIZE);
    uint64_t *allowed = calloc(number_count + 1, sizeof *allowed);
    if (!rules || !allowed) {
        free(rules);
        free(allowed);
        return false;
    }
    free(firewall->rules);
    free(firewall->allowed);
    firewall->rules = rules;
    firewall->rule_count = size / FIREWALL_RULE_SIZE;
    firewall->allowed = allowed;
    firewall->number_count = number_count;
    memset(&firewall->counters, 0, sizeof firewall->counters);
    return true;
}

struct firewall *firewall_new(const uint8_t *packed, size_t size, size_t number_count)
{
    struct firewall *firewall = calloc(1, sizeof *firewall);
    if (!firewall)
        return NULL;
    firewall->flows = calloc(FIREWALL_SETS * FIREWALL_WAYS, sizeof *firewall->flows);
    firewall->fragments = calloc(FIREWALL_FRAGMENTS, sizeof *firewall->fragments);
    if (firewall->flows && firewall->fragments && firewall_set_rules(firewall, packed, size, number_count) &&
        RAND_bytes((unsigned char *)firewall->secret, sizeof firewall->secret) == 1)
        return firewall;
    firewall_free(firewall);
    return NULL;
}

void firewall_free(struct firewall *firewall)
{
    if (!firewall)
        return;
    free(firewall->rules);
    free(firewall->allowed);
    free(firewall->flows);
    free(firewall->fragments);
    free(firewall);
}

size_t firewall_flow_count(const struct firewall *firewall, double now)
{
    size_t count = 0;
    for (size_t i = 0; i < FIREWALL_SETS * FIREWALL_WAYS; i++)
        count += alive(&firewall->flows[i], now);
    return count;
}
