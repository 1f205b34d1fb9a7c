/* Peers that are killed: what was sent is received, what was held comes again. */

#include "check.h"

PEER(dying_producer) {
    slipring_options options = options_of(SLIPRING_SPSC);
    slipring_producer *tx;
    void *data;
    CHECK_OK(slipring_producer_open(peer_args[0], &options, &tx));
    CHECK_OK(slipring_send(tx, "sent", 4, 0));
    CHECK_OK(slipring_reserve(tx, 9, &data, 0));
    memcpy(data, "half done", 9);
    raise(SIGKILL);
    return 0;
}

TEST(a_producer_dies_with_a_reservation) {
    slipring_options options = options_of(SLIPRING_SPSC);
    slipring_consumer *rx;
    slipring_producer *tx;
    slipring_frame frame;
    CHECK_OK(slipring_consumer_open("dying", &options, &rx));
    CHECK(end_peer(start_peer("dying_producer", "dying", NULL)) == 1000 + SIGKILL);
    CHECK_CODE(slipring_recv(rx, &frame, LONG_TIME), SLIPRING_FRAME);
    CHECK(frame.len == 4);
    CHECK_OK(slipring_release(rx));
    CHECK_CODE(slipring_recv(rx, &frame, LONG_TIME), -SLIPRING_EPEERDEAD);
    CHECK_OK(slipring_producer_open("dying", &options, &tx));
    CHECK_OK(slipring_send(tx, "next", 4, 0));
    CHECK_CODE(slipring_recv(rx, &frame, LONG_TIME), SLIPRING_FRAME);
    CHECK(memcmp(frame.data, "next", 4) == 0);
    CHECK_OK(slipring_release(rx));
    CHECK_OK(slipring_close(tx));
    CHECK_OK(slipring_close(rx));
    CHECK_OK(slipring_remove("dying", NULL));
}

PEER(dying_consumer) {
    slipring_consumer *rx;
    slipring_frame frame;
    CHECK_OK(slipring_consumer_open(peer_args[0], NULL, &rx));
    CHECK_CODE(slipring_recv(rx, &frame, LONG_TIME), SLIPRING_FRAME);
    raise(SIGKILL);
    return 0;
}

static void redelivers(int kind) {
    slipring_options options = options_of(kind);
    slipring_producer *tx;
    slipring_consumer *rx;
    slipring_frame frame;
    CHECK_OK(slipring_producer_open("redelivers", &options, &tx));
    CHECK_OK(slipring_send(tx, "job", 3, 0));
    CHECK(end_peer(start_peer("dying_consumer", "redelivers", NULL)) == 1000 + SIGKILL);
    CHECK_OK(slipring_consumer_open("redelivers", NULL, &rx));
    CHECK_CODE(slipring_recv(rx, &frame, LONG_TIME), SLIPRING_FRAME);
    CHECK(frame.len == 3 && (frame.flags & SLIPRING_FRAME_REDELIVERED));
    CHECK_OK(slipring_release(rx));
    CHECK_OK(slipring_close(rx));
    CHECK_OK(slipring_close(tx));
    CHECK_OK(slipring_remove("redelivers", NULL));
}

TEST(redelivery_spsc) { redelivers(SLIPRING_SPSC); }
TEST(redelivery_mpmc) { redelivers(SLIPRING_MPMC); }

PEER(reads_one_frame) {
    slipring_options options = options_of(SLIPRING_ANY);
    slipring_consumer *rx;
    slipring_frame frame;
    options.connect_timeout_ns = LONG_TIME;
    CHECK_OK(slipring_consumer_open(peer_args[0], &options, &rx));
    CHECK_CODE(slipring_recv(rx, &frame, LONG_TIME), SLIPRING_FRAME);
    raise(SIGKILL);
    return 0;
}

/* SIGPIPE has its default action here, which ends the process. */
TEST(a_pipe_without_a_reader_is_no_signal) {
    char fifo[200], number[20];
    slipring_options options = options_of(SLIPRING_ANY);
    slipring_producer *tx;
    int ends[2];
    CHECK(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
    options.connect_timeout_ns = LONG_TIME;

    snprintf(fifo, sizeof fifo, "fifo:%s/without_a_reader", getenv("SLIPRING_DIR"));
    pid_t reader = start_peer("reads_one_frame", fifo, NULL);
    CHECK_OK(slipring_producer_open(fifo, &options, &tx));
    CHECK_OK(slipring_send(tx, "x", 1, LONG_TIME));
    CHECK(end_peer(reader) == 1000 + SIGKILL);
    CHECK_CODE(slipring_send(tx, "x", 1, 0), -SLIPRING_EPIPE);
    CHECK_CODE(slipring_send(tx, "x", 1, LONG_TIME), -SLIPRING_EPIPE);
    CHECK_OK(slipring_close(tx));
    CHECK(unlink(fifo + strlen("fifo:")) == 0);

    CHECK(pipe(ends) == 0);
    snprintf(number, sizeof number, "fd:%d", ends[1]);
    CHECK_OK(slipring_producer_open(number, &options, &tx));
    CHECK_OK(slipring_send(tx, "x", 1, 0));
    close(ends[0]);
    CHECK_CODE(slipring_send(tx, "x", 1, 0), -SLIPRING_EPIPE);
    CHECK_OK(slipring_close(tx));

    /* The signal is the program's own again. */
    sigset_t set;
    CHECK(sigpending(&set) == 0 && !sigismember(&set, SIGPIPE));
    CHECK(sigprocmask(SIG_BLOCK, NULL, &set) == 0 && !sigismember(&set, SIGPIPE));
}
