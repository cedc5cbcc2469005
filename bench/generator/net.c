/* Connections: non-blocking sockets to 127.0.0.1 under one level-triggered epoll, with TLS where it is asked for. */
#include "generator.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 4096 };

static int epoll;
static SSL_CTX *tls_context;
static struct conn **dirty;
static int dirty_count;
static char *buffer; /* what is being read: an earlier rest, then new bytes */

uint64_t clock_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

void net_setup(void)
{
    epoll = epoll_create1(EPOLL_CLOEXEC);
    dirty = calloc((size_t)options.clients, sizeof *dirty);
    buffer = malloc(READ_BUFFER + MAX_LINE);
    if (!options.tls)
        return;
    tls_context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_verify(tls_context, SSL_VERIFY_NONE, NULL); /* it is our own server, on this machine */
    SSL_CTX_set_mode(tls_context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                      SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(tls_context, 1);
}

static void watch(struct conn *c, bool want_write)
{
    if (c->want_write == want_write)
        return;
    c->want_write = want_write;
    struct epoll_event event = {.events = EPOLLIN | (want_write ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &event);
}

void kill_connection(struct conn *c, const char *why)
{
    if (c->phase == DEAD)
        return;
    if (totals.dead++ < 3)
        fprintf(stderr, "client %d died in phase %d: %s (%s)\n", c->index, c->phase, why, strerror(errno));
    close(c->fd);
    c->phase = DEAD;
}

static void flush(struct conn *c)
{
    size_t done = 0;
    while (done < c->out_length) {
        ssize_t took;
        if (c->tls) {
            took = SSL_write(c->tls, c->out + done, (int)(c->out_length - done));
            if (took <= 0) {
                int error = SSL_get_error(c->tls, (int)took);
                if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
                    break;
                kill_connection(c, "TLS write");
                return;
            }
        } else {
            took = send(c->fd, c->out + done, c->out_length - done, MSG_NOSIGNAL);
            if (took < 0 && errno == EAGAIN)
                break;
            if (took < 0) {
                kill_connection(c, "write");
                return;
            }
        }
        done += (size_t)took;
    }
    memmove(c->out, c->out + done, c->out_length - done);
    c->out_length -= done;
    watch(c, c->out_length > 0);
}

void mark_dirty(struct conn *c)
{
    if (!c->dirty) {
        c->dirty = true;
        dirty[dirty_count++] = c;
    }
}

void flush_dirty(void)
{
    for (int i = 0; i < dirty_count; i++) {
        dirty[i]->dirty = false;
        if (dirty[i]->phase != DEAD)
            flush(dirty[i]);
    }
    dirty_count = 0;
}

void put(struct conn *c, const void *data, size_t size)
{
    if (c->out_length + size > c->out_capacity) {
        c->out_capacity = 2 * (c->out_length + size);
        c->out = realloc(c->out, c->out_capacity);
    }
    memcpy(c->out + c->out_length, data, size);
    c->out_length += size;
    mark_dirty(c);
}

void put_text(struct conn *c, const char *text)
{
    put(c, text, strlen(text));
}

void put_format(struct conn *c, const char *format, ...)
{
    char text[8192];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (size < 0 || (size_t)size >= sizeof text) {
        fprintf(stderr, "a line of %d bytes is too long for the generator\n", size);
        exit(2);
    }
    put(c, text, (size_t)size);
}

void open_connection(struct conn *c)
{
    struct sockaddr_in server = {.sin_family = AF_INET,
                                 .sin_port = htons((uint16_t)options.port),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int yes = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) {
        perror("socket");
        exit(2);
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    c->phase = CONNECTING;
    c->want_write = true;
    if (connect(c->fd, (struct sockaddr *)&server, sizeof server) < 0 && errno != EINPROGRESS) {
        kill_connection(c, "connect");
        return;
    }
    if (options.tls) {
        c->tls = SSL_new(tls_context);
        SSL_set_fd(c->tls, c->fd);
        SSL_set_connect_state(c->tls);
    }
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event);
}

static void begin(struct conn *c)
{
    c->phase = LOGGING_IN;
    watch(c, false);
    options.protocol->greet(c);
}

/* True once the connection stands and bytes of the protocol may come. */
static bool standing(struct conn *c)
{
    if (!c->tcp_ready) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) {
            errno = error;
            kill_connection(c, "connect");
            return false;
        }
        c->tcp_ready = true;
        if (!c->tls)
            begin(c);
    }
    if (!c->tls || c->tls_ready)
        return true;
    int done = SSL_do_handshake(c->tls);
    if (done == 1) {
        c->tls_ready = true;
        begin(c);
        return true;
    }
    int error = SSL_get_error(c->tls, done);
    if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
        kill_connection(c, "TLS handshake");
    else
        watch(c, error == SSL_ERROR_WANT_WRITE);
    return false;
}

/* Reads once; answers how many bytes came, 0 for none now. */
static size_t read_some(struct conn *c, char *to, size_t room)
{
    ssize_t got;
    if (c->tls) {
        got = SSL_read(c->tls, to, (int)room);
        if (got <= 0) {
            int error = SSL_get_error(c->tls, (int)got);
            if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
                kill_connection(c, "TLS read");
            return 0;
        }
    } else {
        got = recv(c->fd, to, room, 0);
        if (got <= 0) {
            if (got == 0 || errno != EAGAIN)
                kill_connection(c, got == 0 ? "closed by the server" : "read");
            return 0;
        }
    }
    return (size_t)got;
}

static void read_connection(struct conn *c)
{
    do {
        if (c->rest_length > MAX_LINE) {
            kill_connection(c, "a line without an end");
            return;
        }
        memcpy(buffer, c->rest, c->rest_length);
        size_t got = read_some(c, buffer + c->rest_length, READ_BUFFER - c->rest_length);
        if (!got)
            return;
        totals.bytes_in += got;
        size_t all = c->rest_length + got, used = options.protocol->input(c, buffer, all);
        c->rest_length = all - used;
        if (c->rest_length) {
            c->rest = realloc(c->rest, c->rest_length);
            memcpy(c->rest, buffer + used, c->rest_length);
        }
    } while (c->tls && c->phase != DEAD && SSL_has_pending(c->tls));
}

void turn(int milliseconds)
{
    static struct epoll_event events[EVENTS];
    int count = epoll_wait(epoll, events, EVENTS, milliseconds);
    now = clock_now();
    for (int i = 0; i < count; i++) {
        struct conn *c = events[i].data.ptr;
        if (c->phase == DEAD || !standing(c))
            continue;
        if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
            read_connection(c);
        if (c->phase != DEAD && (events[i].events & EPOLLOUT))
            flush(c);
        if (i % 32 == 31)
            now = clock_now();
    }
    now = clock_now();
    flush_dirty();
}
