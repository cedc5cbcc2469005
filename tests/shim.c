/*
 * Watches what a process does to the files of one directory, and fails it on demand. For LD_PRELOAD; see tests/shim.py.
 *
 * SHIM_DIRECTORY  the directory, absolute.
 * SHIM_LOG        a file that gets a record of each change, once it was made, and of each sync; unset: none.
 * SHIM_FAULTS     a directory: while it has a file "sync", fsync and fdatasync fail with EIO and sync nothing; while
 *                 it has "write", pwrite and ftruncate fail with EIO and change nothing. Unset: nothing fails.
 *
 * A record is a header, then the file's name within the directory (empty: the directory itself), then the data.
 * What SQLite keeps in its -shm file is not looked at: it is made anew after a crash.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

struct header {
    uint8_t kind; /* c create, u unlink, r rename (the data is the new name), w write, t truncate, s sync */
    uint8_t failed;
    uint16_t name;
    uint32_t data;
    uint64_t offset;
};

static const char *directory, *faults;
static int journal = -1;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) static typeof(&name) real; if (!real) real = (typeof(&name))dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("SHIM_LOG");
    directory = getenv("SHIM_DIRECTORY");
    faults = getenv("SHIM_FAULTS");
    REAL(open);
    if (directory && path && (journal = real(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600)) < 0) abort();
}

/* The name within the directory; NULL: not ours. */
static const char *ours(const char *path) {
    size_t length = directory ? strlen(directory) : 0;
    if (!length || strncmp(path, directory, length)) return NULL;
    if (!path[length]) return "";
    if (path[length] != '/') return NULL;
    const char *name = path + length + 1, *end = strrchr(name, '-');
    return end && !strcmp(end, "-shm") ? NULL : name;
}

/* The same for an open file; `path` has PATH_MAX bytes. */
static const char *ours_open(int fd, char *path) {
    char link[64];
    if (!directory) return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return NULL;
    path[length] = 0;
    return ours(path);
}

static int failing(const char *what) {
    char path[PATH_MAX];
    if (!faults) return 0;
    snprintf(path, sizeof path, "%s/%s", faults, what);
    return !access(path, F_OK);
}

static void note(char kind, int failed, const char *name, uint64_t offset, const void *data, size_t size) {
    if (journal < 0) return;
    int before = errno;
    struct header header = {kind, failed, strlen(name), size, offset};
    struct iovec parts[] = {{&header, sizeof header}, {(void *)name, header.name}, {(void *)data, size}};
    if (writev(journal, parts, 3) != (ssize_t)(sizeof header + header.name + size)) abort();
    errno = before;
}

static int sync_file(int (*real)(int), int fd) {
    char path[PATH_MAX];
    const char *name = ours_open(fd, path);
    if (!name) return real(fd);
    pthread_mutex_lock(&turn);
    int failed = failing("sync"), result = failed ? -1 : real(fd);
    if (failed) errno = EIO;
    note('s', result != 0, name, 0, NULL, 0);
    pthread_mutex_unlock(&turn);
    return result;
}

int fsync(int fd) { REAL(fsync); return sync_file(real, fd); }
int fdatasync(int fd) { REAL(fdatasync); return sync_file(real, fd); }

typedef ssize_t writer(int, const void *, size_t, off_t);

static ssize_t write_file(writer *real, int fd, const void *data, size_t size, off_t offset) {
    char path[PATH_MAX];
    const char *name = ours_open(fd, path);
    if (!name) return real(fd, data, size, offset);
    if (failing("write")) { errno = EIO; return -1; }
    pthread_mutex_lock(&turn);
    ssize_t done = real(fd, data, size, offset);
    if (done > 0) note('w', 0, name, offset, data, done);
    pthread_mutex_unlock(&turn);
    return done;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    REAL(pwrite);
    return write_file(real, fd, data, size, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset) {
    REAL(pwrite64);
    return write_file(real, fd, data, size, offset);
}

static int truncate_file(int (*real)(int, off_t), int fd, off_t size) {
    char path[PATH_MAX];
    const char *name = ours_open(fd, path);
    if (!name) return real(fd, size);
    if (failing("write")) { errno = EIO; return -1; }
    pthread_mutex_lock(&turn);
    int result = real(fd, size);
    if (!result) note('t', 0, name, size, NULL, 0);
    pthread_mutex_unlock(&turn);
    return result;
}

int ftruncate(int fd, off_t size) { REAL(ftruncate); return truncate_file(real, fd, size); }
int ftruncate64(int fd, off_t size) { REAL(ftruncate64); return truncate_file(real, fd, size); }

static int open_file(int (*real)(const char *, int, ...), const char *path, int flags, mode_t mode) {
    const char *name = flags & O_CREAT ? ours(path) : NULL;
    if (!name) return real(path, flags, mode);
    pthread_mutex_lock(&turn);
    int new = access(path, F_OK), fd = real(path, flags, mode);
    if (new && fd >= 0) note('c', 0, name, 0, NULL, 0);
    pthread_mutex_unlock(&turn);
    return fd;
}

#define MODE(flags, mode) mode_t mode = 0; \
    if (flags & O_CREAT) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }

int open(const char *path, int flags, ...) { MODE(flags, mode) REAL(open); return open_file(real, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags, mode) REAL(open64); return open_file(real, path, flags, mode); }

int unlink(const char *path) {
    REAL(unlink);
    const char *name = ours(path);
    if (!name) return real(path);
    pthread_mutex_lock(&turn);
    int result = real(path);
    if (!result) note('u', 0, name, 0, NULL, 0);
    pthread_mutex_unlock(&turn);
    return result;
}

int rename(const char *from, const char *to) {
    REAL(rename);
    const char *name = ours(from), *new = ours(to);
    if (!name || !new) return real(from, to);
    pthread_mutex_lock(&turn);
    int result = real(from, to);
    if (!result) note('r', 0, name, 0, new, strlen(new));
    pthread_mutex_unlock(&turn);
    return result;
}
