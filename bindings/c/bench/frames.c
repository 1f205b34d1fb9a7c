/*
 * What a frame of 64 bytes costs from C: `make bench` runs it by turns with bench/frames.rs, which
 * does the same from Rust. Prints nanoseconds a frame: one thread in place, one thread by copy, two
 * threads in place.
 */

#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "slipring.h"

enum { FRAMES = 2000000 };

static void check(int code) {
    if (code < 0) {
        fprintf(stderr, "%s\n", slipring_strerror(code));
        exit(1);
    }
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static slipring_producer *tx;
static slipring_consumer *rx;

static void open_both(void) {
    slipring_options options = SLIPRING_OPTIONS_INIT;
    options.kind = SLIPRING_SPSC;
    options.capacity = 1 << 16;
    check(slipring_producer_open(NULL, &options, &tx));
    options.flags = SLIPRING_FROM_FD;
    options.fd = slipring_segment_fd(tx);
    check(slipring_take(tx));
    check(slipring_consumer_open(NULL, &options, &rx));
}

static void close_both(void) {
    check(slipring_close(tx));
    check(slipring_close(rx));
}

static void *produce(void *argument) {
    char payload[64] = {0};
    (void)argument;
    check(slipring_take(tx));
    for (int i = 0; i < FRAMES; i++) {
        payload[0] = (char)i;
        check(slipring_send(tx, payload, sizeof payload, -1));
    }
    return NULL;
}

int main(void) {
    char payload[64] = {0}, copy[64];
    slipring_frame frame;
    unsigned sum = 0;
    pthread_t thread;
    double start;

    open_both();
    for (int lap = 0; lap < 2; lap++) {
        start = now();
        for (int i = 0; i < FRAMES; i++) {
            payload[0] = (char)i;
            check(slipring_send(tx, payload, sizeof payload, 0));
            check(slipring_recv(rx, &frame, 0));
            sum += *(const unsigned char *)frame.data;
            check(slipring_release(rx));
        }
    }
    printf("%.2f ", (now() - start) / FRAMES);
    for (int lap = 0; lap < 2; lap++) {
        start = now();
        for (int i = 0; i < FRAMES; i++) {
            payload[0] = (char)i;
            check(slipring_send(tx, payload, sizeof payload, 0));
            check(slipring_recv_into(rx, copy, sizeof copy, &frame, 0));
            sum += (unsigned char)copy[0];
        }
    }
    printf("%.2f ", (now() - start) / FRAMES);
    close_both();

    open_both();
    start = now();
    if (pthread_create(&thread, NULL, produce, NULL) != 0) {
        return 1;
    }
    for (int i = 0; i < FRAMES; i++) {
        check(slipring_recv(rx, &frame, -1));
        sum += *(const unsigned char *)frame.data;
        check(slipring_release(rx));
    }
    printf("%.2f\n", (now() - start) / FRAMES);
    pthread_join(thread, NULL);
    close_both();
    return sum == 1;
}
