/* The answer "packet too big": its headers, what it quotes, and a checksum that a slow sum over everything confirms. */
#include "check.h"
#include "icmp.h"

static uint16_t sum(const uint8_t *data, size_t size, uint32_t begin)
{
    for (size_t i = 0; i < size; i++)
        begin += i % 2 ? data[i] : (uint32_t)data[i] << 8;
    while (begin > 0xffff)
        begin = (begin >> 16) + (begin & 0xffff);
    return (uint16_t)begin;
}

int main(void)
{
    static const size_t SIZES[] = {40, 41, 100, 511, 512, 513, 1281, 65535};
    static uint8_t packet[65535];
    for (size_t i = 0; i < sizeof SIZES / sizeof SIZES[0]; i++) {
        size_t size = SIZES[i], quoted = size < ICMP_QUOTED ? size : ICMP_QUOTED;
        uint32_t mtu = i % 2 ? 1280 : 0x01020304;
        pattern(packet, size, (uint32_t)i);
        packet[0] = 0x60;
        uint8_t *exact = malloc(size), *out = malloc(ICMP_MAX_SIZE);
        CHECK(exact && out);
        memcpy(exact, packet, size);
        memset(out, 0xee, ICMP_MAX_SIZE);
        CHECK(icmp_packet_too_big(exact, size, mtu, out) == 48 + quoted);
        CHECK(!memcmp(exact, packet, size)); /* the packet is only read */
        CHECK(out[0] == 0x60 && !out[1] && !out[2] && !out[3] && out[6] == 58 && out[7] == 255);
        CHECK((size_t)(out[4] << 8 | out[5]) == 8 + quoted);
        CHECK(!memcmp(out + 8, packet + 24, 16) && !memcmp(out + 24, packet + 8, 16));
        CHECK(out[40] == 2 && out[41] == 0);
        CHECK(((uint32_t)out[44] << 24 | (uint32_t)out[45] << 16 | (uint32_t)out[46] << 8 | out[47]) == mtu);
        CHECK(!memcmp(out + 48, packet, quoted));
        uint32_t pseudo = sum(out + 8, 32, 0) + 58u + (uint32_t)(8 + quoted);
        CHECK(sum(out + 40, 8 + quoted, pseudo) == 0xffff);
        free(exact);
        free(out);
    }
    return 0;
}
