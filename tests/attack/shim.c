/* Kill the process at the n-th call that changes something below a folder, before the call or in the middle of it.
 *
 * Preloaded (LD_PRELOAD). A process arms itself: crash_arm(folder, n, half); n = 0 only counts. With half, a write is cut
 * in the middle and everything else is killed before it happens. crash_kind(i) says what call i of a process was.
 *
 * crash_pause(fd, other) kills nothing: before each call, and in the middle of each write, it says so to the descriptor
 * fd and waits for an answer from the other, so that somebody can look at what a kill at this instant would leave.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char root[PATH_MAX];
static long target = -1, count = 0;
static int half = 0;

#define KINDS 1000000
static char kinds[KINDS];

void crash_arm(const char *folder, long n, int cut) {
    strncpy(root, folder, sizeof root - 1);
    target = n;
    half = cut;
    count = 0;
}

long crash_count(void) { return count; }

/* 'w' for a write of more than one byte, '.' for any other call; counted from 1. */
char crash_kind(long n) { return n > 0 && n < KINDS ? kinds[n] : 0; }

static int below_path(const char *path) {
    char real[PATH_MAX];
    if (target < 0 || !path || !root[0]) return 0;
    if (path[0] != '/') {
        if (!getcwd(real, sizeof real)) return 0;
        size_t used = strlen(real);
        snprintf(real + used, sizeof real - used, "/%s", path);
        path = real;
    }
    return strncmp(path, root, strlen(root)) == 0;
}

static int below_fd(int fd) {
    char link[64], path[PATH_MAX];
    if (target < 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0 || path[0] != '/') return 0; /* pipes and sockets */
    path[n] = 0;
    return below_path(path);
}

/* Whether this is the call at which the process dies. */
static int saying_to = -1, hearing_from = -1;

void crash_pause(int saying, int listening) {
    saying_to = saying;
    hearing_from = listening;
}

static void wait_for_answer(char what) {
    char answer;
    syscall(SYS_write, saying_to, &what, 1);
    syscall(SYS_read, hearing_from, &answer, 1);
}

static int due_of(char kind) {
    count++;
    if (count < KINDS) kinds[count] = kind;
    if (saying_to >= 0) wait_for_answer('.');
    return count == target;
}

static int due(void) { return due_of('.'); }
static int due_write(size_t n) { return due_of(n > 1 ? 'w' : '.'); }

static void die(void) { kill(getpid(), SIGKILL); for (;;) pause(); }

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name)) dlsym(RTLD_NEXT, #name)

/* With pauses, a write happens in two parts. */
#define IN_TWO(first, rest) \
    if (saying_to >= 0 && n > 1 && below_fd(fd)) { \
        ssize_t a = first; \
        if (a < 0) return a; \
        wait_for_answer('w'); \
        ssize_t b = rest; \
        return b < 0 ? a : a + b; \
    }

ssize_t write(int fd, const void *data, size_t n) {
    REAL(write);
    if (below_fd(fd) && due_write(n)) { if (half && n > 1) real(fd, data, n / 2); die(); }
    IN_TWO(real(fd, data, n / 2), real(fd, (const char *) data + a, n - a))
    return real(fd, data, n);
}

ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at) {
    REAL(pwrite64);
    if (below_fd(fd) && due_write(n)) { if (half && n > 1) real(fd, data, n / 2, at); die(); }
    IN_TWO(real(fd, data, n / 2, at), real(fd, (const char *) data + a, n - a, at + a))
    return real(fd, data, n, at);
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t at) {
    REAL(pwrite);
    if (below_fd(fd) && due_write(n)) { if (half && n > 1) real(fd, data, n / 2, at); die(); }
    IN_TWO(real(fd, data, n / 2, at), real(fd, (const char *) data + a, n - a, at + a))
    return real(fd, data, n, at);
}

ssize_t writev(int fd, const struct iovec *parts, int n) {
    REAL(writev);
    if (below_fd(fd) && due_write(n)) { if (half && n > 1) real(fd, parts, n / 2); die(); }
    return real(fd, parts, n);
}

ssize_t pwritev(int fd, const struct iovec *parts, int n, off_t at) {
    REAL(pwritev);
    if (below_fd(fd) && due_write(n)) { if (half && n > 1) real(fd, parts, n / 2, at); die(); }
    return real(fd, parts, n, at);
}

ssize_t sendfile(int to, int from, off_t *at, size_t n) {
    REAL(sendfile);
    if (below_fd(to) && due_write(n)) { if (half && n > 1) real(to, from, at, n / 2); die(); }
    return real(to, from, at, n);
}

ssize_t copy_file_range(int from, off64_t *at, int to, off64_t *there, size_t n, unsigned flags) {
    REAL(copy_file_range);
    if (below_fd(to) && due_write(n)) { if (half && n > 1) real(from, at, to, there, n / 2, flags); die(); }
    return real(from, at, to, there, n, flags);
}

#define OPEN(name, at_given) \
    { int mode = 0; if (flags & (O_CREAT | O_TMPFILE)) { va_list more; va_start(more, flags); mode = va_arg(more, int); va_end(more); } \
      if ((flags & (O_CREAT | O_TRUNC)) && below_path(path) && due()) die(); \
      return real at_given; }

int open(const char *path, int flags, ...) { REAL(open); OPEN(open, (path, flags, mode)) }
int open64(const char *path, int flags, ...) { REAL(open64); OPEN(open64, (path, flags, mode)) }
int openat(int folder, const char *path, int flags, ...) { REAL(openat); OPEN(openat, (folder, path, flags, mode)) }
int openat64(int folder, const char *path, int flags, ...) { REAL(openat64); OPEN(openat64, (folder, path, flags, mode)) }

int fsync(int fd) { REAL(fsync); if (below_fd(fd) && due()) die(); return real(fd); }
int fdatasync(int fd) { REAL(fdatasync); if (below_fd(fd) && due()) die(); return real(fd); }
int ftruncate(int fd, off_t n) { REAL(ftruncate); if (below_fd(fd) && due()) die(); return real(fd, n); }
int ftruncate64(int fd, off64_t n) { REAL(ftruncate64); if (below_fd(fd) && due()) die(); return real(fd, n); }
int rename(const char *from, const char *to) { REAL(rename); if (below_path(to) && due()) die(); return real(from, to); }
int renameat(int a, const char *from, int b, const char *to) {
    REAL(renameat); if (below_path(to) && due()) die(); return real(a, from, b, to);
}
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    REAL(renameat2); if (below_path(to) && due()) die(); return real(a, from, b, to, flags);
}
int truncate(const char *path, off_t n) { REAL(truncate); if (below_path(path) && due()) die(); return real(path, n); }
int link(const char *from, const char *to) { REAL(link); if (below_path(to) && due()) die(); return real(from, to); }
int symlink(const char *from, const char *to) { REAL(symlink); if (below_path(to) && due()) die(); return real(from, to); }
int unlink(const char *path) { REAL(unlink); if (below_path(path) && due()) die(); return real(path); }
int unlinkat(int folder, const char *path, int flags) {
    REAL(unlinkat); if (below_path(path) && due()) die(); return real(folder, path, flags);
}
int rmdir(const char *path) { REAL(rmdir); if (below_path(path) && due()) die(); return real(path); }
int mkdir(const char *path, mode_t mode) { REAL(mkdir); if (below_path(path) && due()) die(); return real(path, mode); }
int mkdirat(int folder, const char *path, mode_t mode) {
    REAL(mkdirat); if (below_path(path) && due()) die(); return real(folder, path, mode);
}
int chmod(const char *path, mode_t mode) { REAL(chmod); if (below_path(path) && due()) die(); return real(path, mode); }
