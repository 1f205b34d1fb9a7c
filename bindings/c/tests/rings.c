/* Rings of frames: every kind, in place and by copy, in one process and between two. */

#include "check.h"

/* Sends "0", "1", … to the ring that its argument names. */
PEER(counter) {
    slipring_options options = options_of(atoi(peer_args[1]));
    slipring_producer *tx;
    CHECK_OK(slipring_producer_open(peer_args[0], &options, &tx));
    CHECK_OK(slipring_wait_for_peer(tx, LONG_TIME));
    for (int i = 0; i < 1000; i++) {
        char text[16];
        int len = snprintf(text, sizeof text, "%d", i);
        CHECK_OK(slipring_send(tx, text, (size_t)len, LONG_TIME));
    }
    CHECK_OK(slipring_close(tx));
    return 0;
}

static void count_from_peer(const char *name, int kind) {
    char number[16];
    slipring_options options = options_of(kind);
    slipring_consumer *rx;
    slipring_frame frame;
    options.capacity = kind == SLIPRING_MPMC ? 16 : 4096;
    options.participants = 8;
    snprintf(number, sizeof number, "%d", kind);
    CHECK_OK(slipring_consumer_open(name, &options, &rx));
    pid_t pid = start_peer("counter", name, number);
    for (int i = 0; i < 1000; i++) {
        char text[16];
        int len = snprintf(text, sizeof text, "%d", i);
        CHECK_CODE(slipring_recv(rx, &frame, LONG_TIME), SLIPRING_FRAME);
        CHECK(frame.len == (size_t)len && memcmp(frame.data, text, frame.len) == 0);
        CHECK(frame.kind == SLIPRING_DEFAULT_KIND && frame.stream == 0 && frame.flags == 0);
        CHECK_OK(slipring_release(rx));
    }
    int end = slipring_recv(rx, &frame, LONG_TIME);
    if (kind == SLIPRING_MPSC) {
        CHECK_CODE(end, SLIPRING_ENDED);
        CHECK((frame.flags & SLIPRING_FRAME_DIED) == 0);
        end = slipring_recv(rx, &frame, LONG_TIME);
    }
    CHECK_CODE(end, -SLIPRING_EPIPE);
    CHECK(end_peer(pid) == 0);
    CHECK_OK(slipring_close(rx));
    CHECK_OK(slipring_remove(name, NULL));
}

TEST(spsc_between_processes) { count_from_peer("spsc", SLIPRING_SPSC); }
TEST(mpmc_between_processes) { count_from_peer("mpmc", SLIPRING_MPMC); }
TEST(mpsc_between_processes) { count_from_peer("mpsc", SLIPRING_MPSC); }
TEST(broadcast_between_processes) { count_from_peer("broadcast", SLIPRING_BROADCAST); }
