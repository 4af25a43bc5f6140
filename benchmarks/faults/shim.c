/* Faults of the operating system in one process, by LD_PRELOAD: see shim.py. Nothing happens until something is armed.
   Calls are counted when the path of their file contains a given text; the n-th of one kind fails, is cut short, or
   kills the process. Besides, clocks may be wrong and locks slow. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { WRITE, FSYNC, RENAME, TRUNCATE, OPEN, LOCK, UNLINK, CONNECT, SEND, RECV, KINDS };
enum { ONCE, ON, KILL, SHORT, AFTER };

static int kind = -1, action, code;
static long nth, seen;
static char where[256];
static long long offset_ns;
static int lock_ms;

/* Arms the n-th call of a kind, or with n = 0 only counts them. */
void tunewright_arm(int k, long n, int a, int e, const char *path) {
    kind = -1; nth = n; action = a; code = e; seen = 0;
    strncpy(where, path, sizeof where - 1);
    kind = k;
}
long tunewright_seen(void) { long n = seen; kind = -1; return n; }

__attribute__((constructor)) static void begin(void) {
    const char *text = getenv("FAKETIME");
    if (text) offset_ns = (long long)(atof(text) * 1e9);
    if ((text = getenv("TUNEWRIGHT_SLOW_LOCKS_MS"))) lock_ms = atoi(text);
}

static int ours(const char *path) { return path && strstr(path, where) != NULL; }
static int ours_fd(int fd) {
    char link[40], path[1024];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return ours(path);
}
/* 0: go on as usual; 1: fail with errno set; 2: do half of it; 3: do it, then die. */
static int strike(int k) {
    long n = __sync_add_and_fetch(&seen, 1);
    if (!nth || n < nth || (n > nth && action != ON)) return 0;
    if (action == KILL) { kill(getpid(), SIGKILL); for (;;) pause(); }
    if (action == SHORT) return k == WRITE ? 2 : 1;
    if (action == AFTER) return 3;
    errno = code;
    return 1;
}
#define REAL(ret, name, ...) static ret (*real)(__VA_ARGS__); if (!real) real = dlsym(RTLD_NEXT, name)
#define ON_FD(k, fd) int hit = kind == (k) && ours_fd(fd) ? strike(k) : 0; if (hit == 1) return -1
#define ON_PATH(k, path) int hit = kind == (k) && ours(path) ? strike(k) : 0; if (hit == 1) return -1
static void die(void) { kill(getpid(), SIGKILL); for (;;) pause(); }
#define DONE(call) do { __auto_type r = (call); if (hit == 3) die(); return r; } while (0)

ssize_t write(int fd, const void *b, size_t n) {
    REAL(ssize_t, "write", int, const void *, size_t);
    ON_FD(WRITE, fd);
    if (hit == 2) { real(fd, b, n / 2); die(); }
    DONE(real(fd, b, n));
}
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t at) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    ON_FD(WRITE, fd);
    if (hit == 2) { real(fd, b, n / 2, at); die(); }
    DONE(real(fd, b, n, at));
}
ssize_t pwrite(int fd, const void *b, size_t n, off_t at) { return pwrite64(fd, b, n, at); }
int fsync(int fd) { REAL(int, "fsync", int); ON_FD(FSYNC, fd); DONE(real(fd)); }
int fdatasync(int fd) { REAL(int, "fdatasync", int); ON_FD(FSYNC, fd); DONE(real(fd)); }
int ftruncate64(int fd, off64_t n) { REAL(int, "ftruncate64", int, off64_t); ON_FD(TRUNCATE, fd); DONE(real(fd, n)); }
int ftruncate(int fd, off_t n) { return ftruncate64(fd, n); }
int rename(const char *a, const char *b) {
    REAL(int, "rename", const char *, const char *); ON_PATH(RENAME, b); DONE(real(a, b));
}
int renameat(int d, const char *a, int e, const char *b) {
    REAL(int, "renameat", int, const char *, int, const char *); ON_PATH(RENAME, b); DONE(real(d, a, e, b));
}
int unlink(const char *p) { REAL(int, "unlink", const char *); ON_PATH(UNLINK, p); DONE(real(p)); }
int open64(const char *p, int flags, ...) {
    va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more);
    REAL(int, "open64", const char *, int, ...); ON_PATH(OPEN, p); DONE(real(p, flags, mode));
}
int open(const char *p, int flags, ...) {
    va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more);
    return open64(p, flags, mode);
}
int fcntl64(int fd, int command, ...) {
    va_list more; va_start(more, command); void *arg = va_arg(more, void *); va_end(more);
    REAL(int, "fcntl64", int, int, ...);
    int locks = command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK || command == F_OFD_SETLKW;
    if (locks && lock_ms) {
        struct timespec nap = {0, (rand() % (2 * lock_ms)) * 1000000L};
        nanosleep(&nap, NULL);
    }
    if (locks && kind == LOCK) { ON_FD(LOCK, fd); DONE(real(fd, command, arg)); }
    return real(fd, command, arg);
}
int fcntl(int fd, int command, ...) {
    va_list more; va_start(more, command); void *arg = va_arg(more, void *); va_end(more);
    return fcntl64(fd, command, arg);
}
int connect(int fd, const struct sockaddr *a, socklen_t n) {
    REAL(int, "connect", int, const struct sockaddr *, socklen_t);
    int hit = kind == CONNECT ? strike(CONNECT) : 0; if (hit == 1) return -1;
    DONE(real(fd, a, n));
}
/* A connection that failed is gone for both sides. */
static ssize_t reset(int fd) { shutdown(fd, SHUT_RDWR); errno = code; return -1; }
ssize_t send(int fd, const void *b, size_t n, int flags) {
    REAL(ssize_t, "send", int, const void *, size_t, int);
    int hit = kind == SEND ? strike(SEND) : 0; if (hit == 1) return reset(fd);
    DONE(real(fd, b, n, flags));
}
ssize_t recv(int fd, void *b, size_t n, int flags) {
    REAL(ssize_t, "recv", int, void *, size_t, int);
    int hit = kind == RECV ? strike(RECV) : 0; if (hit == 1) return reset(fd);
    DONE(real(fd, b, n, flags));
}
/* The time of day only: the clocks that cannot be set stay right. */
int clock_gettime(clockid_t id, struct timespec *t) {
    REAL(int, "clock_gettime", clockid_t, struct timespec *);
    int r = real(id, t);
    if (!r && offset_ns && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
        long long ns = t->tv_sec * 1000000000LL + t->tv_nsec + offset_ns;
        t->tv_sec = ns / 1000000000LL; t->tv_nsec = ns % 1000000000LL;
    }
    return r;
}
int gettimeofday(struct timeval *restrict t, void *restrict zone) {
    struct timespec s; (void)zone;
    int r = clock_gettime(CLOCK_REALTIME, &s);
    t->tv_sec = s.tv_sec; t->tv_usec = s.tv_nsec / 1000;
    return r;
}
time_t time(time_t *t) {
    struct timespec s; clock_gettime(CLOCK_REALTIME, &s);
    if (t) *t = s.tv_sec;
    return s.tv_sec;
}
