/*
 * What a frame of 64 bytes costs from C: `make bench` runs it by turns with bench/frames.rs, which
 * does the same from Rust. Prints nanoseconds a frame, sent and received, within one thread and
 * between two.
 */

#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "slipring.h"

/* BURST: frames that are sent, and then received, to measure each side alone. */
enum { FRAMES = 2000000, BATCH = 16, BURST = 100 };

static void check(int64_t code) {
    if (code < 0) {
        fprintf(stderr, "%s\n", slipring_strerror((int)code));
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
static unsigned sum;

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

static void release(void) {
    char payload[64] = {0};
    slipring_frame frame;
    for (int i = 0; i < FRAMES; i++) {
        payload[0] = (char)i;
        check(slipring_send(tx, payload, sizeof payload, 0));
        check(slipring_recv(rx, &frame, 0));
        sum += *(const unsigned char *)frame.data;
        check(slipring_release(rx));
    }
}

static void next(void) {
    char payload[64] = {0};
    slipring_frame frame;
    for (int i = 0; i < FRAMES; i++) {
        payload[0] = (char)i;
        check(slipring_send(tx, payload, sizeof payload, 0));
        check(slipring_recv_next(rx, &frame, 0));
        sum += *(const unsigned char *)frame.data;
    }
    check(slipring_release(rx));
}

static void copy(void) {
    char payload[64] = {0}, copy[64];
    slipring_frame frame;
    for (int i = 0; i < FRAMES; i++) {
        payload[0] = (char)i;
        check(slipring_send(tx, payload, sizeof payload, 0));
        check(slipring_recv_into(rx, copy, sizeof copy, &frame, 0));
        sum += (unsigned char)copy[0];
    }
}

static void reserve(void) {
    slipring_frame frame;
    void *data;
    for (int i = 0; i < FRAMES; i++) {
        check(slipring_reserve(tx, 64, &data, 0));
        *(char *)data = (char)i;
        check(slipring_commit(tx, 64));
        check(slipring_recv_next(rx, &frame, 0));
        sum += *(const unsigned char *)frame.data;
    }
    check(slipring_release(rx));
}

static void batch(void) {
    char payload[64] = {0};
    slipring_payload payloads[BATCH];
    slipring_frame frames[BATCH];
    for (int i = 0; i < BATCH; i++) {
        payloads[i] = (slipring_payload){payload, sizeof payload};
    }
    for (int i = 0; i < FRAMES / BATCH; i++) {
        payload[0] = (char)i;
        check(slipring_send_batch(tx, payloads, BATCH, 0));
        int64_t n = slipring_recv_batch(rx, frames, BATCH, 0);
        check(n);
        for (int64_t j = 0; j < n; j++) {
            sum += *(const unsigned char *)frames[j].data;
        }
        check(slipring_release(rx));
    }
}

static void *produce(void *argument) {
    slipring_producer *out = argument;
    char payload[64] = {0};
    check(slipring_take(out));
    for (int i = 0; i < FRAMES; i++) {
        payload[0] = (char)i;
        check(slipring_send(out, payload, sizeof payload, -1));
    }
    return NULL;
}

static void two_threads(void) {
    slipring_consumer *in = rx;
    slipring_frame frame;
    pthread_t thread;
    unsigned own = 0; /* not beside what the other thread reads */
    if (pthread_create(&thread, NULL, produce, tx) != 0) {
        exit(1);
    }
    for (int i = 0; i < FRAMES; i++) {
        check(slipring_recv_next(in, &frame, -1));
        own += *(const unsigned char *)frame.data;
    }
    check(slipring_release(in));
    pthread_join(thread, NULL);
    sum += own;
}

/* Prints what a frame costs the sender and the receiver, each alone. */
static void bursts(void) {
    char payload[64] = {0};
    slipring_frame frame;
    open_both();
    for (int lap = 0; lap < 2; lap++) {
        double sending = 0, receiving = 0;
        for (int burst = 0; burst < FRAMES / BURST; burst++) {
            double start = now();
            for (int i = 0; i < BURST; i++) {
                payload[0] = (char)i;
                check(slipring_send(tx, payload, sizeof payload, 0));
            }
            double sent = now();
            for (int i = 0; i < BURST; i++) {
                check(slipring_recv_next(rx, &frame, 0));
                sum += *(const unsigned char *)frame.data;
            }
            check(slipring_release(rx));
            sending += sent - start;
            receiving += now() - sent;
        }
        if (lap == 1) {
            printf("send %.2f\n", sending / FRAMES);
            printf("recv_next %.2f\n", receiving / FRAMES);
        }
    }
    close_both();
}

static void measure(const char *name, void (*run)(void)) {
    open_both();
    run();
    close_both();
    open_both();
    double start = now();
    run();
    printf("%s %.2f\n", name, (now() - start) / FRAMES);
    close_both();
}

int main(void) {
    bursts();
    measure("in_place", release);
    measure("in_place_next", next);
    measure("copy", copy);
    measure("reserve_commit", reserve);
    measure("batches_of_16", batch);
    measure("two_threads", two_threads);
    return sum == 1;
}
