/* Two minimal fan-out servers: what the machine allows, without accounts, storage, checks or encryption.
 *
 *     server PORT each    c-imm: one send() a recipient a message
 *     server PORT batch   c-batch: what came in one turn of the event loop goes out as one send() a recipient
 *
 * It speaks lines:  J ROOM | S ROOM SLOT BODY  →  J | M ROOM SEQ BODY to the others, A SLOT SEQ to the sender.
 * One thread, epoll, 127.0.0.1 alone. Lines that are none of these are ignored; it serves a benchmark.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ROOMS = 16384, EVENTS = 4096, READ = 1 << 16 };

struct bytes {
    char *data;
    size_t size, capacity;
};

struct conn {
    int fd, room, place; /* which room, and where in its list */
    bool want_write, sent; /* sent: has a message in the batch that is being written */
    struct bytes rest, out, acks;
};

struct piece {
    size_t at, size;
    struct conn *sender;
};

struct room {
    struct conn **members;
    int count, capacity;
    struct bytes batch;
    struct piece *pieces;
    int piece_count, piece_capacity;
    unsigned long seq;
};

static struct room rooms[ROOMS];
static struct room *waiting[ROOMS]; /* rooms with a batch */
static int waiting_count, epoll;
static bool batching;

static void append(struct bytes *b, const void *data, size_t size)
{
    if (b->size + size > b->capacity) {
        b->capacity = 2 * (b->size + size);
        b->data = realloc(b->data, b->capacity);
    }
    memcpy(b->data + b->size, data, size);
    b->size += size;
}

static void watch(struct conn *c, bool want_write)
{
    if (c->want_write == want_write)
        return;
    c->want_write = want_write;
    struct epoll_event event = {.events = EPOLLIN | (want_write ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &event);
}

/* Sends now what the socket takes, and keeps the rest. */
static void say(struct conn *c, const char *data, size_t size)
{
    ssize_t took = 0;
    if (!c->out.size) {
        took = send(c->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (took < 0)
            took = 0;
        if ((size_t)took == size)
            return;
    }
    append(&c->out, data + took, size - (size_t)took);
    watch(c, true);
}

static void drain(struct conn *c)
{
    ssize_t took = send(c->fd, c->out.data, c->out.size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (took <= 0)
        return;
    memmove(c->out.data, c->out.data + took, c->out.size - (size_t)took);
    c->out.size -= (size_t)took;
    watch(c, c->out.size > 0);
}

static void enter(struct conn *c, int number)
{
    struct room *r = &rooms[number];
    if (r->count == r->capacity) {
        r->capacity = 2 * r->capacity + 16;
        r->members = realloc(r->members, (size_t)r->capacity * sizeof *r->members);
    }
    c->room = number;
    c->place = r->count;
    r->members[r->count++] = c;
    say(c, "J\n", 2);
}

static void message(struct conn *c, int number, const char *slot, const char *body, size_t size)
{
    struct room *r = &rooms[number];
    static struct bytes line;
    char head[48], ack[48];
    r->seq++;
    line.size = 0;
    append(&line, head, (size_t)snprintf(head, sizeof head, "M %d %lu ", number, r->seq));
    append(&line, body, size);
    append(&line, "\n", 1);
    int ack_size = snprintf(ack, sizeof ack, "A %lu %lu\n", strtoul(slot, NULL, 10), r->seq);
    if (!batching) {
        for (int i = 0; i < r->count; i++)
            if (r->members[i] != c)
                say(r->members[i], line.data, line.size);
        say(c, ack, (size_t)ack_size);
        return;
    }
    if (!r->piece_count)
        waiting[waiting_count++] = r;
    if (r->piece_count == r->piece_capacity) {
        r->piece_capacity = 2 * r->piece_capacity + 64;
        r->pieces = realloc(r->pieces, (size_t)r->piece_capacity * sizeof *r->pieces);
    }
    r->pieces[r->piece_count++] = (struct piece){r->batch.size, line.size, c};
    append(&r->batch, line.data, line.size);
    append(&c->acks, ack, (size_t)ack_size);
}

/* Everybody gets the whole batch in one send; who has messages in it gets the others' and its acknowledgements. */
static void write_batch(struct room *r)
{
    static struct bytes own;
    for (int i = 0; i < r->piece_count; i++)
        r->pieces[i].sender->sent = true;
    for (int i = 0; i < r->count; i++) {
        struct conn *c = r->members[i];
        if (!c->sent) {
            say(c, r->batch.data, r->batch.size);
            continue;
        }
        own.size = 0;
        append(&own, c->acks.data, c->acks.size);
        c->acks.size = 0;
        for (int j = 0; j < r->piece_count; j++)
            if (r->pieces[j].sender != c)
                append(&own, r->batch.data + r->pieces[j].at, r->pieces[j].size);
        say(c, own.data, own.size);
    }
    for (int i = 0; i < r->piece_count; i++)
        r->pieces[i].sender->sent = false;
    r->batch.size = 0;
    r->piece_count = 0;
}

static void line(struct conn *c, char *text, size_t size)
{
    char *next;
    if (size < 3)
        return;
    long number = strtol(text + 2, &next, 10);
    if (number < 0 || number >= ROOMS)
        return;
    if (text[0] == 'J') {
        enter(c, (int)number);
    } else if (text[0] == 'S') {
        char *slot = next + 1, *body = memchr(slot, ' ', size - (size_t)(slot - text));
        if (body)
            message(c, (int)number, slot, body + 1, size - (size_t)(body + 1 - text));
    }
}

static void gone(struct conn *c)
{
    if (c->room >= 0) {
        struct room *r = &rooms[c->room];
        r->members[c->place] = r->members[--r->count];
        r->members[c->place]->place = c->place;
    }
    close(c->fd);
    free(c->rest.data);
    free(c->out.data);
    free(c->acks.data);
    free(c);
}

static void readable(struct conn *c)
{
    static char buffer[READ];
    ssize_t got = recv(c->fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN)
            gone(c);
        return;
    }
    append(&c->rest, buffer, (size_t)got);
    char *at = c->rest.data, *end = at + c->rest.size, *newline;
    while ((newline = memchr(at, '\n', (size_t)(end - at)))) {
        line(c, at, (size_t)(newline - at));
        at = newline + 1;
    }
    c->rest.size = (size_t)(end - at);
    memmove(c->rest.data, at, c->rest.size);
}

static void accept_all(int listener)
{
    int fd, yes = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        struct conn *c = calloc(1, sizeof *c);
        c->fd = fd;
        c->room = -1;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    }
}

int main(int count, char **words)
{
    if (count != 3 || (strcmp(words[2], "each") && strcmp(words[2], "batch"))) {
        fputs("usage: server PORT each|batch\n", stderr);
        return 2;
    }
    batching = !strcmp(words[2], "batch");
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), yes = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    struct sockaddr_in here = {.sin_family = AF_INET,
                               .sin_port = htons((unsigned short)atoi(words[1])),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 4096)) {
        perror("bind");
        return 1;
    }
    epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    static struct epoll_event events[EVENTS];
    for (;;) {
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            struct conn *c = events[i].data.ptr;
            if (!c) {
                accept_all(listener);
                continue;
            }
            if (events[i].events & EPOLLOUT)
                drain(c);
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                readable(c);
        }
        for (int i = 0; i < waiting_count; i++)
            write_batch(waiting[i]);
        waiting_count = 0;
    }
}
