/* MQTT 3.1.1, quality of service 0 and 1; a room is a topic. */
#include "generator.h"

#include <stdio.h>
#include <string.h>

enum { CONNECT = 0x10, CONNACK = 2, PUBLISH = 0x30, SUBSCRIBE = 0x82, SUBACK = 9, PUBACK = 0x40 };

/* Writes a fixed header; answers its size, at most 5. */
static size_t header(char *to, int type, size_t remaining)
{
    size_t size = 0;
    to[size++] = (char)type;
    do {
        size_t digit = remaining & 127;
        remaining >>= 7;
        to[size++] = (char)(digit | (remaining ? 128 : 0));
    } while (remaining);
    return size;
}

static size_t string(char *to, const char *text)
{
    size_t size = strlen(text);
    to[0] = (char)(size >> 8);
    to[1] = (char)size;
    memcpy(to + 2, text, size);
    return size + 2;
}

static int quality(void)
{
    return options.protocol == &mqtt_qos1;
}

static bool setup(void)
{
    return true;
}

static void greet(struct conn *c)
{
    char packet[64], name[16];
    snprintf(name, sizeof name, "c%d", c->index);
    size_t size = header(packet, CONNECT, 10 + 2 + strlen(name));
    memcpy(packet + size, "\0\4MQTT\4\2\0\0", 10); /* a clean session, no keep-alive */
    size += 10;
    size += string(packet + size, name);
    put(c, packet, size);
}

static void enter(struct conn *c)
{
    char packet[64], topic[16];
    snprintf(topic, sizeof topic, "r%d", c->room);
    size_t size = header(packet, SUBSCRIBE, 2 + 2 + strlen(topic) + 1);
    packet[size++] = 0;
    packet[size++] = 1; /* packet id */
    size += string(packet + size, topic);
    packet[size++] = (char)quality();
    put(c, packet, size);
}

static void publish_arrived(struct conn *c, int first, char *body)
{
    char *at = body + 2 + ((unsigned char)body[0] << 8 | (unsigned char)body[1]);
    if ((first >> 1) & 3) {
        char taken[4] = {PUBACK, 2, at[0], at[1]};
        put(c, taken, sizeof taken);
        at += 2;
    }
    if (*at == '^')
        delivered(c, at + 1);
}

static size_t input(struct conn *c, char *data, size_t size)
{
    size_t at = 0;
    while (size - at >= 2) {
        size_t remaining = 0, head = 1;
        int shift = 0, digit;
        do {
            if (at + head >= size)
                return at;
            digit = (unsigned char)data[at + head++];
            remaining |= (size_t)(digit & 127) << shift;
            shift += 7;
        } while (digit & 128);
        if (size - at < head + remaining)
            return at;
        int first = (unsigned char)data[at], type = first >> 4;
        if (type == 3)
            publish_arrived(c, first, data + at + head);
        else if (type == CONNACK)
            logged_in(c);
        else if (type == SUBACK)
            entered(c);
        at += head + remaining;
    }
    return at;
}

static void send_message(struct conn *c, const char *tag)
{
    char packet[64], topic[16];
    snprintf(topic, sizeof topic, "r%d", c->room);
    size_t id = quality() ? 2 : 0;
    size_t size = header(packet, PUBLISH | quality() << 1, 2 + strlen(topic) + id + (size_t)options.payload);
    size += string(packet + size, topic);
    if (id) {
        c->packet_id = c->packet_id == UINT16_MAX ? 1 : c->packet_id + 1;
        packet[size++] = (char)(c->packet_id >> 8);
        packet[size++] = (char)c->packet_id;
    }
    put(c, packet, size);
    put(c, "^", 1);
    put(c, tag, TAG);
    put(c, padding, (size_t)options.payload - TAG - 1);
}

const struct protocol mqtt_qos0 = {
    .name = "mqtt0", .echoes = true, .setup = setup, .greet = greet, .enter = enter, .input = input, .send = send_message};
const struct protocol mqtt_qos1 = {
    .name = "mqtt1", .echoes = true, .setup = setup, .greet = greet, .enter = enter, .input = input, .send = send_message};
