/*
 * What the C tests share: CHECK, a private directory of segments, and other processes.
 *
 * A test program is one file. TEST(name) defines a test and registers it; main() is here. A test
 * that needs another process starts the same program again with the name of a PEER, so that it has
 * no memory of its parent's:
 *
 *     PEER(echo) { … arguments in peer_args[0..] … return 0; }
 *     pid_t pid = start_peer("echo", "argument", NULL);
 *     CHECK(end_peer(pid) == 0);
 */

#ifndef SLIPRING_CHECK_H
#define SLIPRING_CHECK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "slipring.h"

#define SECOND INT64_C(1000000000)
/* Long enough for a loaded machine; only a failing test waits that long. */
#define LONG_TIME (60 * SECOND)

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: not so: %s\n  last error: %s\n", __FILE__, __LINE__,           \
                    #condition, slipring_last_error());                                            \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* That a call returns a code; says which one it returned otherwise. */
#define CHECK_CODE(call, wanted)                                                                   \
    do {                                                                                           \
        long long got_ = (long long)(call);                                                        \
        if (got_ != (long long)(wanted)) {                                                         \
            fprintf(stderr, "%s:%d: %s returned %lld (%s), not %s\n  last error: %s\n", __FILE__,  \
                    __LINE__, #call, got_, slipring_strerror(got_ < 0 ? (int)got_ : 0), #wanted,   \
                    slipring_last_error());                                                        \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define CHECK_OK(call) CHECK_CODE(call, 0)

struct check_entry {
    const char *name;
    int is_peer;
    int (*run)(void);
    struct check_entry *next;
};

static struct check_entry *check_entries;
static char check_program[4096];
static char **peer_args;

#define CHECK_REGISTER(kind, id)                                                                   \
    static int check_##kind##_##id(void);                                                          \
    __attribute__((constructor)) static void register_##kind##_##id(void) {                       \
        static struct check_entry entry;                                                           \
        entry.name = #id;                                                                          \
        entry.is_peer = kind;                                                                      \
        entry.run = check_##kind##_##id;                                                           \
        entry.next = check_entries;                                                                \
        check_entries = &entry;                                                                    \
    }

/* In the body of a test, nothing is returned: it passes if it comes to its end. */
#define TEST(id)                                                                                   \
    static void test_##id(void);                                                                   \
    CHECK_REGISTER(0, id)                                                                          \
    static int check_0_##id(void) {                                                                \
        test_##id();                                                                               \
        return 0;                                                                                  \
    }                                                                                              \
    static void test_##id(void)

#define PEER(id)                                                                                   \
    CHECK_REGISTER(1, id)                                                                          \
    static int check_1_##id(void)

/* Starts this program again as a peer, with at most two arguments. */
static inline pid_t start_peer(const char *name, const char *first, const char *second) {
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        execl(check_program, check_program, "--peer", name, first, second, (char *)NULL);
        _exit(127);
    }
    return pid;
}

/* Waits for a peer. Its exit status, or 1000 and the signal that killed it. */
static inline int end_peer(pid_t pid) {
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/* Options of a kind, everything else at its default. */
static inline slipring_options options_of(int kind) {
    slipring_options options = SLIPRING_OPTIONS_INIT;
    options.kind = kind;
    return options;
}

static int check_run(const struct check_entry *entry) {
    fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        alarm(120);
        exit(entry->run());
    }
    return end_peer(pid);
}

/* The tests named by the arguments; all without arguments. Each in a process of its own. */
int main(int argc, char **argv) {
    int failed = 0, ran = 0;
    ssize_t length = readlink("/proc/self/exe", check_program, sizeof check_program - 1);
    CHECK(length > 0);
    check_program[length] = 0;
    if (argc >= 3 && strcmp(argv[1], "--peer") == 0) {
        peer_args = argv + 3;
        for (struct check_entry *entry = check_entries; entry; entry = entry->next) {
            if (entry->is_peer && strcmp(entry->name, argv[2]) == 0) {
                alarm(120);
                return entry->run();
            }
        }
        fprintf(stderr, "no peer %s\n", argv[2]);
        return 2;
    }
    char directory[] = "/dev/shm/slipring-c-test-XXXXXX";
    CHECK(mkdtemp(directory) != NULL);
    setenv("SLIPRING_DIR", directory, 1);
    for (struct check_entry *entry = check_entries; entry; entry = entry->next) {
        int wanted = argc < 2;
        for (int i = 1; i < argc; i++) {
            wanted |= strstr(entry->name, argv[i]) != NULL;
        }
        if (entry->is_peer || !wanted) {
            continue;
        }
        int status = check_run(entry);
        ran++;
        if (status != 0) {
            failed++;
            printf("FAILED %s (%d)\n", entry->name, status);
        }
    }
    /* A test removes the names that it makes. */
    if (rmdir(directory) != 0) {
        printf("FAILED: something is left in %s: %s\n", directory, strerror(errno));
        failed++;
    }
    printf("%s: %d tests, %d failed\n", strrchr(check_program, '/') + 1, ran, failed);
    return failed != 0;
}

#endif
