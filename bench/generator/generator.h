/* The load generator: many clients of one server in one thread, over 127.0.0.1 alone.
 *
 * main.c runs the phases and prints the figures, net.c owns the connections, figures.c counts and measures, and each
 * proto_*.c teaches it one protocol. A message carries a tag, 24 hex digits: when it was due (nanoseconds) and its
 * slot. Whoever receives it finds the tag again, so latency is measured from the time a message was due to be sent.
 */
#ifndef GENERATOR_H
#define GENERATOR_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TAG = 24, SLOTS = 1 << 20, MAX_LINE = 1 << 20, READ_BUFFER = 2 * MAX_LINE };

enum phase { UNOPENED, CONNECTING, LOGGING_IN, LOGGED_IN, ENTERING, PRESENT, DEAD };

struct account; /* what a SecureChat client knows of itself; proto_securechat.c */

struct conn {
    int fd;
    int index; /* which client, from 0 */
    int room;  /* which room, from 0 */
    enum phase phase;
    int step; /* the protocol's own place within a login */
    bool tcp_ready, tls_ready, want_write, dirty;
    SSL *tls;
    char *rest; /* the beginning of a line or packet whose end has not come yet */
    size_t rest_length;
    char *out; /* what the socket would not take yet */
    size_t out_length, out_capacity;
    unsigned in_flight;
    uint16_t packet_id; /* MQTT's */
    struct account *account;
};

/* One protocol. Every client enters one room after its login. */
struct protocol {
    const char *name;
    bool echoes;       /* a sender gets its own message like everybody else */
    bool acknowledges; /* a sender is told that its message is taken, and `acknowledged` is called */
    bool (*setup)(void);
    void (*greet)(struct conn *c);                            /* the connection stands, TLS included */
    void (*enter)(struct conn *c);                            /* logged in: go into the room */
    size_t (*input)(struct conn *c, char *data, size_t size); /* takes what is complete; answers how much that was */
    void (*send)(struct conn *c, const char *tag);            /* queues one message */
    void (*keep_alive)(struct conn *c);                       /* says something after a long silence; may be NULL */
};

extern const struct protocol securechat_v1, securechat_v2, plain, irc, nats, mqtt_qos0, mqtt_qos1, xmpp;

struct options {
    const struct protocol *protocol;
    int port, clients, rooms, senders, window, payload, core;
    double seconds, warm_up, rate; /* rate: messages a second in all, 0: as fast as the window allows */
    int connecting, entering;      /* how many clients may do so at a time */
    double idle;                   /* seconds to sit still before anything is sent */
    uint64_t messages; /* stop after so many; 0: when the time is over */
    bool tls;
    const char *accounts, *keys, *pids;
};

extern struct options options;
extern struct conn *conns;
extern int *members; /* of each room */
extern uint64_t now; /* nanoseconds, refreshed often */
extern char *padding; /* some text to fill messages with */

/* net.c */
void net_setup(void);
void open_connection(struct conn *c);
void turn(int milliseconds); /* waits so long for events, deals with them, and flushes what was queued */
void put(struct conn *c, const void *data, size_t size);
void put_text(struct conn *c, const char *text);
void put_format(struct conn *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
void mark_dirty(struct conn *c); /* flushed at the end of this turn */
void flush_dirty(void);
void kill_connection(struct conn *c, const char *why);
uint64_t clock_now(void);

/* main.c: what protocols report */
void logged_in(struct conn *c);
void entered(struct conn *c);
void delivered(struct conn *c, const char *tag);
void acknowledged(uint32_t slot);
void failed(struct conn *c, const char *text, size_t size); /* the server refused something */
void new_message(struct conn *c, uint64_t due);
uint32_t slot_of(const char *tag);

/* figures.c */
struct histogram {
    uint64_t bins[2048], count;
    double sum, max;
};
void record(struct histogram *h, uint64_t nanoseconds);
double quantile_ms(const struct histogram *h, double q);
uint64_t server_cpu_ns(void); /* of all threads of the servers, so far */
long server_rss(void);        /* bytes */
double own_cpu_seconds(void);

extern struct totals {
    int logged_in, entered, dead;
    uint64_t sent, completed, deliveries, acknowledgements, bytes_in, errors;
    char first_error[256];
} totals;

#endif
