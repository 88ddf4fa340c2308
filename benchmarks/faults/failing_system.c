/* Calls of the system that fail, are slow, or tell an earlier time; put before libc's with LD_PRELOAD.

   FAULT_FSYNC_FAILS=N, FAULT_RENAME_FAILS=N: the N-th call fails with EIO. FAULT_FSYNC_MS=N: each fsync takes N ms
   more. FAULT_CLOCK_FILE=PATH: once that file is there, the wall clock is a day behind. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long number(const char *name) {
    const char *value = getenv(name);
    return value ? atol(value) : 0;
}

static int fails(const char *name, atomic_long *calls) {
    long at = number(name);
    return at && atomic_fetch_add(calls, 1) + 1 == at;
}

int fsync(int file) {
    static int (*real)(int);
    static atomic_long calls;
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    usleep(1000 * number("FAULT_FSYNC_MS"));
    if (fails("FAULT_FSYNC_FAILS", &calls)) { errno = EIO; return -1; }
    return real(file);
}

int rename(const char *from, const char *to) {
    static int (*real)(const char *, const char *);
    static atomic_long calls;
    if (!real) real = (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename");
    if (fails("FAULT_RENAME_FAILS", &calls)) { errno = EIO; return -1; }
    return real(from, to);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int answer = real(clock, now);
    const char *file = getenv("FAULT_CLOCK_FILE");
    if (!answer && clock == CLOCK_REALTIME && file && !access(file, F_OK)) now->tv_sec -= 86400;
    return answer;
}
