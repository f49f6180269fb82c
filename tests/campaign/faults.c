/* Makes one call of a kind fail, or kills the process there: preloaded into a run by test_faults.

   Only calls count that are about a path below a folder. The n-th of them, from 1 on, fails with an
   error number; with the number 0 it kills the process before it does anything. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum kind { OPEN, RENAME, LINK, FSYNC, KINDS };

static const char *const names[KINDS] = {"open", "rename", "link", "fsync"};
static char folder[PATH_MAX];
static atomic_long counts[KINDS];
static long nth;
static int number;
static int chosen = KINDS;

/* Begins to count anew; of no kind, nothing fails. */
void fault_arm(const char *below, const char *call, long which, int error) {
    chosen = KINDS;
    snprintf(folder, sizeof folder, "%s", below);
    for (int kind = 0; kind < KINDS; kind++) counts[kind] = 0;
    nth = which;
    number = error;
    for (int kind = 0; kind < KINDS; kind++)
        if (!strcmp(call, names[kind])) chosen = kind;
}

/* The calls of a kind since then. */
long fault_count(const char *call) {
    for (int kind = 0; kind < KINDS; kind++)
        if (!strcmp(call, names[kind])) return counts[kind];
    return -1;
}

static int fails(enum kind kind, const char *path) {
    size_t length = strlen(folder);
    if (!length || !path || strncmp(path, folder, length)) return 0;
    long now = ++counts[kind];
    if ((int)kind != chosen || now != nth) return 0;
    if (!number) kill(getpid(), SIGKILL);
    errno = number;
    return 1;
}

static int fails_at(enum kind kind, int descriptor) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return fails(kind, path);
}

#define REAL(result, name, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) real = (result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

#define OPENS(name) \
    int name(const char *path, int flags, ...) { \
        REAL(int, name, const char *, int, ...); \
        MODE(flags) \
        return fails(OPEN, path) ? -1 : real(path, flags, mode); \
    }

#define OPENS_AT(name) \
    int name(int at, const char *path, int flags, ...) { \
        REAL(int, name, int, const char *, int, ...); \
        MODE(flags) \
        return fails(OPEN, path) ? -1 : real(at, path, flags, mode); \
    }

OPENS(open)
OPENS(open64)
OPENS_AT(openat)
OPENS_AT(openat64)

int rename(const char *from, const char *to) {
    REAL(int, rename, const char *, const char *);
    return fails(RENAME, to) ? -1 : real(from, to);
}

int link(const char *from, const char *to) {
    REAL(int, link, const char *, const char *);
    return fails(LINK, to) ? -1 : real(from, to);
}

int linkat(int from_at, const char *from, int to_at, const char *to, int flags) {
    REAL(int, linkat, int, const char *, int, const char *, int);
    return fails(LINK, to) ? -1 : real(from_at, from, to_at, to, flags);
}

int symlink(const char *target, const char *path) {
    REAL(int, symlink, const char *, const char *);
    return fails(LINK, path) ? -1 : real(target, path);
}

int fsync(int descriptor) {
    REAL(int, fsync, int);
    return fails_at(FSYNC, descriptor) ? -1 : real(descriptor);
}

int fdatasync(int descriptor) {
    REAL(int, fdatasync, int);
    return fails_at(FSYNC, descriptor) ? -1 : real(descriptor);
}
