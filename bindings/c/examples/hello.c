/*
 * A producer and a consumer in two processes.
 *
 *     make -C bindings/c examples && target/bindings-c/examples/hello
 *
 * Or, after `make install`: cc hello.c $(pkg-config --cflags --libs slipring) -o hello && ./hello
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
    check(slipring_producer_open("hello", options, &tx), "open the producer");
    for (int i = 1; i <= 3; i++) {
        char text[32];
        int len = snprintf(text, sizeof text, "message %d", i);
        check(slipring_send(tx, text, (size_t)len, -1), "send");
    }
    check(slipring_close(tx), "close");
}

static void consume(const slipring_options *options) {
    slipring_consumer *rx;
    slipring_frame frame;
    int code;
    check(slipring_consumer_open("hello", options, &rx), "open the consumer");
    while ((code = slipring_recv_next(rx, &frame, -1)) == SLIPRING_FRAME) {
        printf("%.*s\n", (int)frame.len, (const char *)frame.data);
    }
    if (code != -SLIPRING_EPIPE) {
        check(code, "receive"); /* everything else than the end */
    }
    check(slipring_close(rx), "close");
}

int main(void) {
    slipring_options options = SLIPRING_OPTIONS_INIT;
    options.kind = SLIPRING_SPSC;

    pid_t child = fork(); /* before any handle is opened */
    if (child < 0) {
        perror("fork");
        return 1;
    }
    if (child == 0) {
        produce(&options);
        return 0;
    }
    consume(&options);
    waitpid(child, NULL, 0);
    check(slipring_remove("hello", &options), "remove");
    return 0;
}
