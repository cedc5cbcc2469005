/* The phases: everybody connects and logs in; sits still, if asked to; enters a room; then some send for a while.
 *
 * The last line of standard output is one JSON object with all figures. Exit 0 means that they are worth something:
 * nothing lost, nobody disconnected, nothing refused. Everything is bounded in time. See `usage` for the options.
 */
#define _GNU_SOURCE
#include "generator.h"

#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static const uint64_t SECOND = 1000000000ull;
static const uint64_t PATIENCE = 60; /* seconds for everybody to log in, and to enter */
static const uint64_t DRAIN = 8;     /* seconds for what is under way at the end */
static const uint64_t QUIET = 300000000ull; /* nanoseconds without a byte: nothing more is coming */
static const uint64_t KEEP_ALIVE = 20;      /* seconds */

struct options options = {
    .clients = 100, .rooms = 1, .senders = 1, .window = 1, .payload = 400, .core = 1, .seconds = 2, .warm_up = 0.5,
    .connecting = 64, .entering = 64,
};
struct conn *conns;
int *members;
uint64_t now;
char *padding;

static struct {
    uint64_t due;
    uint32_t sender;
    uint16_t missing; /* deliveries and acknowledgement */
} slots[SLOTS];
static uint32_t next_slot;
static struct histogram latency, acknowledgement;
static bool measuring, sending;
static uint64_t measured_since;

/* --- messages ------------------------------------------------------------------------------------------------------- */

static void write_hex(char *to, uint64_t value, int digits)
{
    for (int i = digits - 1; i >= 0; i--, value >>= 4)
        to[i] = "0123456789abcdef"[value & 15];
}

static uint64_t read_hex(const char *from, int digits)
{
    uint64_t value = 0;
    for (int i = 0; i < digits; i++)
        value = value << 4 | (uint64_t)(from[i] <= '9' ? from[i] - '0' : from[i] - 'a' + 10);
    return value;
}

uint32_t slot_of(const char *tag)
{
    return (uint32_t)read_hex(tag + 16, 8) % SLOTS;
}

void new_message(struct conn *c, uint64_t due)
{
    uint32_t slot = next_slot++ % SLOTS;
    const struct protocol *p = options.protocol;
    slots[slot].due = due;
    slots[slot].sender = (uint32_t)c->index;
    slots[slot].missing = (uint16_t)(members[c->room] - !p->echoes + p->acknowledges);
    char tag[TAG + 1] = {0};
    write_hex(tag, due, 16);
    write_hex(tag + 16, slot, 8);
    c->in_flight++;
    totals.sent++;
    p->send(c, tag);
}

static bool enough(void)
{
    return options.messages && totals.sent >= options.messages;
}

static void part_arrived(uint32_t slot)
{
    if (!slots[slot].missing || --slots[slot].missing)
        return;
    struct conn *sender = &conns[slots[slot].sender];
    sender->in_flight--;
    totals.completed++;
    if (sending && options.rate == 0 && sender->phase == PRESENT && !enough())
        new_message(sender, now);
}

void delivered(struct conn *c, const char *tag)
{
    (void)c;
    uint64_t due = read_hex(tag, 16);
    uint32_t slot = slot_of(tag);
    if (slots[slot].due != due)
        return; /* of an earlier run, or nonsense */
    if (measuring) {
        totals.deliveries++;
        if (due >= measured_since)
            record(&latency, now > due ? now - due : 0);
    }
    part_arrived(slot);
}

void acknowledged(uint32_t slot)
{
    slot %= SLOTS;
    if (measuring) {
        totals.acknowledgements++;
        if (slots[slot].due >= measured_since)
            record(&acknowledgement, now > slots[slot].due ? now - slots[slot].due : 0);
    }
    part_arrived(slot);
}

void failed(struct conn *c, const char *text, size_t size)
{
    if (!totals.errors++)
        snprintf(totals.first_error, sizeof totals.first_error, "client %d: %.*s", c->index,
                 (int)(size < 200 ? size : 200), text);
}

/* --- phases --------------------------------------------------------------------------------------------------------- */

void logged_in(struct conn *c)
{
    c->phase = LOGGED_IN;
    totals.logged_in++;
}

void entered(struct conn *c)
{
    c->phase = PRESENT;
    totals.entered++;
}

static void begin_entering(struct conn *c)
{
    if (c->phase != LOGGED_IN)
        return;
    c->phase = ENTERING;
    options.protocol->enter(c);
}

/* Lets all clients take one step, so many at a time; answers the seconds it took. */
static double everybody(void (*step)(struct conn *), int *done, int at_a_time)
{
    uint64_t began = clock_now(), until = began + PATIENCE * SECOND;
    int next = 0;
    while (*done + totals.dead < options.clients && !totals.errors && clock_now() < until) {
        while (next < options.clients && next - *done - totals.dead < at_a_time)
            step(&conns[next++]);
        flush_dirty();
        turn(100);
    }
    return (double)(clock_now() - began) / 1e9;
}

/* Until nothing has come for a while. */
static void settle(void)
{
    uint64_t since = clock_now(), until = since + PATIENCE * SECOND, seen = totals.bytes_in;
    while (clock_now() - since < QUIET && clock_now() < until) {
        turn(50);
        if (totals.bytes_in != seen) {
            seen = totals.bytes_in;
            since = clock_now();
        }
    }
}

static void sit_still(double seconds)
{
    uint64_t until = clock_now() + (uint64_t)(seconds * 1e9);
    while (clock_now() < until)
        turn(100);
}

/* Lets everybody say something that means nothing, after so many seconds without. */
static void keep_alive(uint64_t seconds)
{
    static uint64_t last;
    if (!last)
        last = now;
    if (!options.protocol->keep_alive || now - last < seconds * SECOND)
        return;
    last = now;
    for (int i = 0; i < options.clients; i++)
        if (conns[i].phase == PRESENT)
            options.protocol->keep_alive(&conns[i]);
}

/* What the sending phase measured. */
struct measured {
    double seconds, server_cpu_s, own_cpu_s;
    uint64_t bytes, sent;
};

static struct measured send_for_a_while(void)
{
    struct conn **senders = calloc((size_t)options.clients, sizeof *senders);
    int *in_room = calloc((size_t)options.rooms, sizeof *in_room), count = 0, whose = 0;
    for (int i = 0; i < options.clients; i++)
        if (conns[i].phase == PRESENT && in_room[conns[i].room]++ < options.senders)
            senders[count++] = &conns[i];
    struct measured result = {0}, before = {0};
    sending = true;
    now = clock_now();
    uint64_t from = now + (uint64_t)(options.warm_up * 1e9), until = from + (uint64_t)(options.seconds * 1e9);
    double due = (double)now, interval = options.rate > 0 ? 1e9 / options.rate : 0;
    for (int i = 0; i < count && options.rate == 0; i++)
        for (int k = 0; k < options.window; k++)
            new_message(senders[i], now);
    flush_dirty();
    while (count && (now = clock_now()) < until && !totals.errors && !totals.dead &&
           !(enough() && totals.completed == totals.sent)) {
        if (!measuring && now >= from) {
            measuring = true;
            measured_since = now;
            before = (struct measured){0, (double)server_cpu_ns() / 1e9, own_cpu_seconds(), totals.bytes_in, totals.sent};
        }
        keep_alive(KEEP_ALIVE);
        if (options.rate == 0) {
            turn(50);
            continue;
        }
        for (; due <= (double)now && !enough(); due += interval)
            new_message(senders[whose++ % count], (uint64_t)due);
        flush_dirty();
        turn(due - (double)clock_now() > 1.2e6 ? 1 : 0); /* near its time, look without sleeping */
    }
    if (measuring) {
        result.seconds = (double)(clock_now() - measured_since) / 1e9;
        result.server_cpu_s = (double)server_cpu_ns() / 1e9 - before.server_cpu_s;
        result.own_cpu_s = own_cpu_seconds() - before.own_cpu_s;
        result.bytes = totals.bytes_in - before.bytes;
        result.sent = totals.sent - before.sent;
    }
    measuring = sending = false;
    for (uint64_t end = clock_now() + DRAIN * SECOND; totals.completed < totals.sent && clock_now() < end;) {
        turn(20);
        keep_alive(1); /* ngircd leaves what it has decrypted already until more comes over that connection */
    }
    free(senders);
    free(in_room);
    return result;
}

/* --- the command line ----------------------------------------------------------------------------------------------- */

static int usage(void)
{
    fputs("usage: generator -p PROTOCOL -o PORT [-n CLIENTS] [-R ROOMS] [-s SENDERS a room] [-w WINDOW a sender]\n"
          "  [-r MESSAGES a second in all] [-l BYTES of payload] [-d SECONDS] [-W SECONDS of warm-up] [-t (TLS)]\n"
          "  [-C CONNECTING at a time] [-J ENTERING at a time] [-I SECONDS idle] [-c CORE] [-P PID,PID of the server]\n"
          "  [-m MESSAGES at most] [-a FILE of accounts] [-k FILE of keys]\n"
          "  protocols: plain v1 v2 irc nats mqtt0 mqtt1 xmpp\n",
          stderr);
    return 2;
}

static bool parse(int count, char **words)
{
    static const struct protocol *const all[] = {&plain, &securechat_v1, &securechat_v2, &irc,
                                                 &nats,  &mqtt_qos0,     &mqtt_qos1,     &xmpp};
    int letter;
    while ((letter = getopt(count, words, "p:o:n:R:s:w:r:l:d:W:tC:J:I:c:P:a:k:m:")) > 0)
        switch (letter) {
        case 'p':
            for (size_t i = 0; i < sizeof all / sizeof *all; i++)
                if (!strcmp(optarg, all[i]->name))
                    options.protocol = all[i];
            break;
        case 'o': options.port = atoi(optarg); break;
        case 'n': options.clients = atoi(optarg); break;
        case 'R': options.rooms = atoi(optarg); break;
        case 's': options.senders = atoi(optarg); break;
        case 'w': options.window = atoi(optarg); break;
        case 'r': options.rate = atof(optarg); break;
        case 'l': options.payload = atoi(optarg); break;
        case 'd': options.seconds = atof(optarg); break;
        case 'W': options.warm_up = atof(optarg); break;
        case 't': options.tls = true; break;
        case 'C': options.connecting = atoi(optarg); break;
        case 'J': options.entering = atoi(optarg); break;
        case 'I': options.idle = atof(optarg); break;
        case 'c': options.core = atoi(optarg); break;
        case 'P': options.pids = optarg; break;
        case 'm': options.messages = strtoull(optarg, NULL, 10); break;
        case 'a': options.accounts = optarg; break;
        case 'k': options.keys = optarg; break;
        default: return false;
        }
    return options.protocol && options.port && options.clients > 0 && options.rooms > 0 && options.payload >= 64 &&
           options.payload % 4 == 0 && options.payload <= 4096 && optind == count;
}

static void prepare(void)
{
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(options.core, &cores);
    sched_setaffinity(0, sizeof cores, &cores); /* where there is no such core, anywhere will do */
    struct rlimit files = {0};
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    conns = calloc((size_t)options.clients, sizeof *conns);
    members = calloc((size_t)options.rooms, sizeof *members);
    padding = malloc(8192);
    for (int i = 0; i < 8192; i++)
        padding[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[(i * 7 + i / 32) % 32];
    for (int i = 0; i < options.clients; i++) {
        conns[i].index = i;
        conns[i].room = i % options.rooms;
        members[conns[i].room]++;
    }
}

int main(int count, char **words)
{
    if (!parse(count, words))
        return usage();
    prepare();
    net_setup();
    if (!options.protocol->setup()) {
        fputs("the accounts or keys cannot be read\n", stderr);
        return 2;
    }
    long rss_empty = server_rss();
    uint64_t cpu = server_cpu_ns();
    double login_s = everybody(open_connection, &totals.logged_in, options.connecting);
    settle();
    double login_cpu = (double)(server_cpu_ns() - cpu) / 1e3;
    if (options.idle > 0)
        fputs("sitting still\n", stderr); /* whoever started this may wait for it */
    sit_still(options.idle);
    long rss_logged_in = server_rss();
    cpu = server_cpu_ns();
    double enter_s = everybody(begin_entering, &totals.entered, options.entering);
    settle();
    double enter_cpu = (double)(server_cpu_ns() - cpu) / 1e3;
    struct measured m = {0};
    if (options.seconds > 0 && totals.entered == options.clients)
        m = send_for_a_while();
    uint64_t lost = totals.sent - totals.completed;
    double deliveries = (double)totals.deliveries, seconds = m.seconds > 0 ? m.seconds : 1;
    char *error = totals.first_error;
    for (char *p = error; *p; p++) /* a JSON string without escapes */
        if (*p == '"' || *p == '\\' || (unsigned char)*p < ' ' || (unsigned char)*p > '~')
            *p = '\'';
    printf("{\"deliveries_s\":%.0f,\"messages_s\":%.0f,\"cpu_us\":%.4f,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"p999_ms\":%.3f,"
           "\"max_ms\":%.3f,\"ack_p50_ms\":%.3f,\"ack_p99_ms\":%.3f,\"server_cores\":%.3f,\"generator_cores\":%.3f,"
           "\"bytes_delivery\":%.0f,\"sent\":%llu,\"lost\":%llu,",
           deliveries / seconds, (double)m.sent / seconds, deliveries ? m.server_cpu_s * 1e6 / deliveries : 0,
           quantile_ms(&latency, 0.5), quantile_ms(&latency, 0.99), quantile_ms(&latency, 0.999), latency.max / 1e6,
           quantile_ms(&acknowledgement, 0.5), quantile_ms(&acknowledgement, 0.99), m.server_cpu_s / seconds,
           m.own_cpu_s / seconds, deliveries ? (double)m.bytes / deliveries : 0, (unsigned long long)totals.sent,
           (unsigned long long)lost);
    printf("\"clients\":%d,\"logged_in\":%d,\"entered\":%d,\"dead\":%d,\"errors\":%llu,\"error\":\"%s\",\"login_s\":%.3f,"
           "\"login_cpu_us\":%.1f,\"enter_s\":%.3f,\"enter_cpu_us\":%.1f,\"rss_empty\":%ld,\"rss_idle\":%ld,\"rss\":%ld}\n",
           options.clients, totals.logged_in, totals.entered, totals.dead, (unsigned long long)totals.errors, error,
           login_s, login_cpu / options.clients, enter_s, enter_cpu / options.clients, rss_empty, rss_logged_in,
           server_rss());
    bool good = !lost && !totals.dead && !totals.errors && totals.entered == options.clients;
    return good ? 0 : 1;
}
