/*
 * A consumer in an event loop beside a timer: poll(2) on slipring_fd(). Receive until the ring is
 * empty, then poll: the call that finds it empty arms the descriptor.
 *
 *     make -C bindings/c examples && target/bindings-c/examples/event_loop
 */

#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "slipring.h"

static void check(int code, const char *what) {
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, slipring_last_error());
        exit(1);
    }
}

static void produce(const slipring_options *options) {
    slipring_producer *tx;
    check(slipring_producer_open("events", options, &tx), "open the producer");
    for (int i = 0; i < 100; i++) {
        check(slipring_send(tx, &i, sizeof i, -1), "send");
        usleep(1000);
    }
    check(slipring_close(tx), "close");
}

int main(void) {
    slipring_options options = SLIPRING_OPTIONS_INIT;
    options.kind = SLIPRING_SPSC;
    pid_t child = fork();
    if (child < 0) {
        perror("fork");
        return 1;
    }
    if (child == 0) {
        produce(&options);
        return 0;
    }

    slipring_consumer *rx;
    slipring_frame frame;
    check(slipring_consumer_open("events", &options, &rx), "open the consumer");
    int doorbell = slipring_fd(rx);
    check(doorbell, "make a descriptor");
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    struct itimerspec every = {{0, 20000000}, {0, 20000000}};
    if (timer < 0 || timerfd_settime(timer, 0, &every, NULL) != 0) {
        perror("timer");
        return 1;
    }

    int frames = 0, ticks = 0, code;
    for (;;) {
        while ((code = slipring_recv_next(rx, &frame, 0)) >= 0) {
            frames += code == SLIPRING_FRAME; /* other kinds of rings have other events, too */
        }
        if (code == -SLIPRING_EPIPE) {
            break; /* the producer has closed, and all was received */
        }
        if (code != -SLIPRING_EAGAIN) {
            check(code, "receive"); /* the producer was killed: -SLIPRING_EPEERDEAD; or another error */
        }
        struct pollfd fds[2] = {{doorbell, POLLIN, 0}, {timer, POLLIN, 0}};
        if (poll(fds, 2, -1) < 0) {
            if (errno == EINTR) {
                continue; /* a signal handler ran */
            }
            perror("poll");
            return 1;
        }
        uint64_t expired;
        if ((fds[1].revents & POLLIN) && read(timer, &expired, sizeof expired) == sizeof expired) {
            ticks += (int)expired;
        }
    }
    printf("%d frames, and the timer %s\n", frames, ticks > 0 ? "ran beside them" : "did not run");
    waitpid(child, NULL, 0);
    close(timer);
    check(slipring_close(rx), "close");
    check(slipring_remove("events", &options), "remove");
    return frames == 100 ? 0 : 1;
}
