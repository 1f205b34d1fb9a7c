/* What each kind of ring adds, streams, latest values, types, and batches. */

#include "check.h"

/* A producer and a consumer of an anonymous ring, the consumer with other flags and start. */
static void open_ring(slipring_options options, slipring_options reading, slipring_producer **tx,
                      slipring_consumer **rx) {
    CHECK_OK(slipring_producer_open(NULL, &options, tx));
    reading.flags |= SLIPRING_FROM_FD;
    reading.fd = slipring_segment_fd(*tx);
    CHECK_OK(slipring_consumer_open(NULL, &reading, rx));
}

static void close_both(void *tx, void *rx) {
    CHECK_OK(slipring_close(tx));
    CHECK_OK(slipring_close(rx));
}

static void build_in_place(int kind) {
    slipring_options options = options_of(kind);
    slipring_producer *tx;
    slipring_consumer *rx;
    slipring_frame frame;
    char copy[64];
    void *data;
    open_ring(options, options, &tx, &rx);
    CHECK_OK(slipring_reserve(tx, 16, &data, 0));
    memcpy(data, "never sent", 10);
    CHECK_OK(slipring_abort(tx));
    CHECK_CODE(slipring_recv(rx, &frame, 0), -SLIPRING_EAGAIN);
    CHECK_OK(slipring_reserve(tx, 16, &data, LONG_TIME));
    memcpy(data, "in place", 8);
    CHECK_OK(slipring_commit_frame(tx, 0x123, 7, 8));
    CHECK_CODE(slipring_recv(rx, &frame, LONG_TIME), SLIPRING_FRAME);
    CHECK(frame.len == 8 && memcmp(frame.data, "in place", 8) == 0);
    CHECK(frame.kind == 0x123 && frame.stream == 7);
    /* Kept, it comes again. */
    CHECK_OK(slipring_keep(rx));
    CHECK_CODE(slipring_recv(rx, &frame, 0), SLIPRING_FRAME);
    CHECK(frame.len == 8);
    CHECK_OK(slipring_release(rx));
    /* By copy; a buffer that is too small leaves the frame. */
    CHECK_OK(slipring_send_frame(tx, 0x124, 1, "a copy", 6, 0));
    CHECK_CODE(slipring_recv_into(rx, copy, 5, &frame, 0), -SLIPRING_EMSGSIZE);
    CHECK_CODE(slipring_recv_into(rx, copy, sizeof copy, &frame, 0), SLIPRING_FRAME);
    CHECK(frame.data == copy && frame.len == 6 && memcmp(copy, "a copy", 6) == 0 && frame.kind == 0x124);
    CHECK_CODE(slipring_recv_into(rx, copy, sizeof copy, &frame, 1000), -SLIPRING_ETIMEDOUT);
    close_both(tx, rx);
}

TEST(in_place_spsc) { build_in_place(SLIPRING_SPSC); }
TEST(in_place_mpmc) { build_in_place(SLIPRING_MPMC); }
TEST(in_place_mpsc) { build_in_place(SLIPRING_MPSC); }
TEST(in_place_broadcast) { build_in_place(SLIPRING_BROADCAST); }

static void batches(int kind) {
    slipring_options options = options_of(kind);
    slipring_producer *tx;
    slipring_consumer *rx;
    slipring_frame frames[8];
    slipring_payload payloads[3] = {{"one", 3}, {"two", 3}, {"three", 5}};
    open_ring(options, options, &tx, &rx);
    CHECK_CODE(slipring_send_batch(tx, payloads, 3, 0), 3);
    CHECK_CODE(slipring_send_batch(tx, payloads, 0, 0), 0);
    CHECK_CODE(slipring_recv_batch(rx, frames, 8, 0), 3);
    for (int i = 0; i < 3; i++) {
        CHECK(frames[i].len == payloads[i].len && memcmp(frames[i].data, payloads[i].data, frames[i].len) == 0);
    }
    CHECK_OK(slipring_keep(rx));
    for (int64_t i = 0, n; i < 3; i += n) {
        n = slipring_recv_batch(rx, frames, 2, 0);
        CHECK(n == 1 || n == 2);
        CHECK(frames[0].len == payloads[i].len);
        CHECK_OK(slipring_release(rx));
    }
    CHECK_CODE(slipring_recv_batch(rx, frames, 8, 0), -SLIPRING_EAGAIN);
    close_both(tx, rx);
}

TEST(batches_spsc) { batches(SLIPRING_SPSC); }
TEST(batches_mpmc) { batches(SLIPRING_MPMC); }
TEST(batches_mpsc) { batches(SLIPRING_MPSC); }
TEST(batches_broadcast) { batches(SLIPRING_BROADCAST); }

TEST(a_lossy_subscriber_is_told_what_it_missed) {
    slipring_options options = options_of(SLIPRING_BROADCAST), reading = options_of(SLIPRING_BROADCAST);
    slipring_producer *tx;
    slipring_consumer *rx;
    slipring_frame frame;
    uint64_t missed = 0, received = 0, value;
    options.capacity = 4096;
    reading.flags = SLIPRING_LOSSY;
    open_ring(options, reading, &tx, &rx);
    for (uint64_t i = 0; i < 10000; i++) {
        CHECK_OK(slipring_send(tx, &i, sizeof i, 0));
    }
    CHECK_OK(slipring_close(tx));
    for (;;) {
        int got = slipring_recv(rx, &frame, 0);
        if (got == -SLIPRING_EPIPE) {
            break;
        }
        if (got == SLIPRING_GAP) {
            missed += frame.missed;
            continue;
        }
        CHECK_CODE(got, SLIPRING_FRAME);
        memcpy(&value, frame.data, sizeof value);
        CHECK(value == missed + received);
        received++;
        CHECK_CODE(slipring_recv(rx, &frame, 0), -SLIPRING_EHELD);
        CHECK_CODE(slipring_keep(rx), -SLIPRING_EOPNOTSUPP);
        CHECK_OK(slipring_release(rx));
    }
    CHECK(received > 0 && missed > 0 && received + missed == 10000);
    CHECK_OK(slipring_close(rx));
}

TEST(a_slow_subscriber_fails_or_is_evicted) {
    slipring_options options = options_of(SLIPRING_BROADCAST), reading = options_of(SLIPRING_BROADCAST);
    slipring_producer *tx;
    slipring_consumer *rx;
    slipring_frame frame;
    char payload[256] = {0};
    int code, sent = 0;
    options.capacity = 4096;
    options.slow = SLIPRING_SLOW_FAIL;
    open_ring(options, reading, &tx, &rx);
    while ((code = slipring_send(tx, payload, sizeof payload, LONG_TIME)) == 0) {
        CHECK(++sent < 100);
    }
    CHECK_CODE(code, -SLIPRING_EAGAIN);
    close_both(tx, rx);
    options.slow = SLIPRING_SLOW_EVICT;
    options.evict_after_ns = 1000000;
    open_ring(options, reading, &tx, &rx);
    for (int i = 0; i < 100; i++) {
        CHECK_OK(slipring_send(tx, payload, sizeof payload, LONG_TIME));
    }
    do {
        code = slipring_recv(rx, &frame, 0);
        if (code == SLIPRING_FRAME) {
            CHECK_OK(slipring_release(rx));
        }
    } while (code == SLIPRING_FRAME);
    CHECK_CODE(code, -SLIPRING_EEVICTED);
    close_both(tx, rx);
}

TEST(lanes_tell_their_producers) {
    slipring_options options = options_of(SLIPRING_MPSC);
    slipring_producer *one, *two;
    slipring_consumer *rx;
    slipring_frame frame;
    options.lanes = 2;
    CHECK_OK(slipring_consumer_open("lanes", &options, &rx));
    CHECK_OK(slipring_producer_open("lanes", &options, &one));
    CHECK_OK(slipring_producer_open("lanes", &options, &two));
    CHECK_OK(slipring_send(one, "a", 1, 0));
    CHECK_OK(slipring_send(two, "b", 1, 0));
    int lanes[2] = {-1, -1};
    for (int i = 0; i < 2; i++) {
        CHECK_CODE(slipring_recv(rx, &frame, LONG_TIME), SLIPRING_FRAME);
        lanes[*(const char *)frame.data - 'a'] = frame.lane;
        CHECK_OK(slipring_release(rx));
    }
    CHECK(lanes[0] >= 0 && lanes[1] >= 0 && lanes[0] != lanes[1]);
    CHECK_OK(slipring_close(one));
    CHECK_CODE(slipring_recv(rx, &frame, LONG_TIME), SLIPRING_ENDED);
    CHECK(frame.lane == lanes[0] && !(frame.flags & SLIPRING_FRAME_DIED));
    CHECK_OK(slipring_close(two));
    CHECK_CODE(slipring_recv_into(rx, NULL, 0, &frame, LONG_TIME), SLIPRING_ENDED);
    CHECK_OK(slipring_close(rx));
    CHECK_OK(slipring_remove("lanes", NULL));
}

TEST(roles_and_names) {
    slipring_options options = options_of(SLIPRING_SPSC), other = options_of(SLIPRING_MPMC);
    slipring_producer *tx, *second;
    slipring_info info = {.struct_size = sizeof info};
    options.capacity = 65536;
    CHECK_OK(slipring_producer_open("roles", &options, &tx));
    CHECK_CODE(slipring_producer_open("roles", &options, &second), -SLIPRING_EROLETAKEN);
    CHECK_CODE(slipring_producer_open("roles", &other, &second), -SLIPRING_EINCOMPATIBLE);
    CHECK_OK(slipring_send(tx, "12345", 5, 0));
    CHECK_OK(slipring_get_info(tx, &info));
    CHECK(info.kind == SLIPRING_SPSC && info.capacity == 65536 && info.sent == 1 && info.received == 0);
    CHECK(info.bytes == 5 && info.used > 0 && info.producers == 1 && info.consumers == 0 && info.has_peer == 0);
    CHECK(info.max_payload > 1000);
    CHECK_CODE(slipring_wait_for_peer(tx, 1000), -SLIPRING_ETIMEDOUT);
    CHECK_CODE(slipring_remove("roles", &other), -SLIPRING_EINCOMPATIBLE);
    CHECK_OK(slipring_remove("roles", &options));
    CHECK_CODE(slipring_remove("roles", NULL), -SLIPRING_ENOENT);
    CHECK_OK(slipring_close(tx));
}

/* The unit of the capacity is that of the options, and payloads are aligned to 8 bytes, which is what
 * slipring.h says. */
TEST(units_and_alignment) {
    const int kinds[] = {SLIPRING_SPSC, SLIPRING_MPMC, SLIPRING_MPSC, SLIPRING_BROADCAST, SLIPRING_BROADCAST};
    const uint64_t capacities[] = {8192, 8192, 2 * 8192, 8192, 8192};
    for (int i = 0; i < 5; i++) {
        slipring_options options = options_of(kinds[i]);
        slipring_producer *tx;
        slipring_consumer *rx;
        slipring_frame frame;
        slipring_info info = {.struct_size = sizeof info};
        void *room;
        options.capacity = 5000; /* rounded up */
        options.lanes = kinds[i] == SLIPRING_MPSC ? 2 : 0;
        CHECK_OK(slipring_producer_open("units", &options, &tx));
        options.flags = i == 4 ? SLIPRING_LOSSY : 0;
        CHECK_OK(slipring_consumer_open("units", &options, &rx));
        CHECK_OK(slipring_get_info(tx, &info));
        CHECK(info.capacity == capacities[i]);
        for (size_t len = 0; len < 20; len++) {
            CHECK_OK(slipring_reserve(tx, len, &room, 0));
            CHECK((uintptr_t)room % 8 == 0);
            CHECK_OK(slipring_commit(tx, len));
            CHECK_CODE(slipring_recv(rx, &frame, 0), SLIPRING_FRAME);
            CHECK(frame.len == len && (uintptr_t)frame.data % 8 == 0);
            CHECK_OK(slipring_release(rx));
        }
        close_both(tx, rx);
        CHECK_OK(slipring_remove("units", NULL));
    }
}

TEST(a_full_ring) {
    slipring_options options = options_of(SLIPRING_SPSC);
    slipring_producer *tx;
    slipring_consumer *rx;
    char payload[512] = {0};
    void *data;
    int code;
    options.capacity = 4096;
    open_ring(options, options, &tx, &rx);
    while ((code = slipring_send(tx, payload, sizeof payload, 0)) == 0) {
    }
    CHECK_CODE(code, -SLIPRING_EAGAIN);
    CHECK_CODE(slipring_send(tx, payload, sizeof payload, 1000), -SLIPRING_ETIMEDOUT);
    CHECK_CODE(slipring_reserve(tx, sizeof payload, &data, 1000), -SLIPRING_ETIMEDOUT);
    CHECK(data == NULL);
    CHECK_CODE(slipring_send(tx, payload, 5000, 0), -SLIPRING_EMSGSIZE);
    CHECK_OK(slipring_close(rx));
    CHECK_CODE(slipring_send(tx, payload, sizeof payload, LONG_TIME), -SLIPRING_EPIPE);
    CHECK_OK(slipring_close(tx));

    options.flags = SLIPRING_FAIL_WITHOUT_CONSUMER;
    CHECK_OK(slipring_producer_open(NULL, &options, &tx));
    CHECK_CODE(slipring_send(tx, "x", 1, 0), -SLIPRING_ENOCONSUMER);
    CHECK_OK(slipring_close(tx));
}

TEST(types_are_compared) {
    slipring_options options = options_of(SLIPRING_SPSC), other = options;
    slipring_producer *tx;
    slipring_consumer *rx;
    slipring_frame frame;
    options.message_type = "Quote {bid: i64, ask: i64}";
    other.message_type = "Trade {price: i64}";
    CHECK_OK(slipring_producer_open("typed", &options, &tx));
    CHECK_CODE(slipring_consumer_open("typed", &other, &rx), -SLIPRING_EOTHERTYPE);
    CHECK(rx == NULL);
    CHECK(strstr(slipring_last_error(), options.message_type) && strstr(slipring_last_error(), other.message_type));
    CHECK_OK(slipring_consumer_open("typed", &options, &rx));
    CHECK_OK(slipring_send(tx, "0123456789abcdef", 16, 0));
    CHECK_CODE(slipring_recv(rx, &frame, 0), SLIPRING_FRAME);
    CHECK(frame.kind != SLIPRING_DEFAULT_KIND && frame.kind >= 0x100);
    CHECK_OK(slipring_release(rx));
    close_both(tx, rx);
    CHECK_OK(slipring_remove("typed", NULL));
    options.message_type = "bytes";
    CHECK_CODE(slipring_producer_open("fifo:/nowhere", &options, &tx), -SLIPRING_EOPNOTSUPP);
}

/* Frames of another kind are not handed out as those of the stated type. */
TEST(frames_of_another_type) {
    const int kinds[] = {SLIPRING_SPSC, SLIPRING_MPMC, SLIPRING_MPSC, SLIPRING_BROADCAST, SLIPRING_BROADCAST};
    for (int i = 0; i < 5; i++) {
        slipring_options options = options_of(kinds[i]);
        slipring_producer *tx;
        slipring_consumer *rx, *untyped = NULL;
        slipring_frame frame, frames[8];
        char buffer[300];
        CHECK_OK(slipring_producer_open("untyped", &options, &tx));
        options.flags = i == 4 ? SLIPRING_LOSSY : 0;
        options.message_type = "X";
        CHECK_OK(slipring_consumer_open("untyped", &options, &rx));
        uint16_t kind = 0;
        CHECK_OK(slipring_send(tx, "abc", 3, 0));
        CHECK_CODE(slipring_recv(rx, &frame, 0), -SLIPRING_EOTHERTYPE);
        CHECK(strstr(slipring_last_error(), "no type") && strstr(slipring_last_error(), "0x0100"));
        CHECK_CODE(slipring_release(rx), -SLIPRING_ENOTHELD);
        CHECK_CODE(slipring_recv(rx, &frame, 0), -SLIPRING_EAGAIN);
        CHECK_OK(slipring_send(tx, "abc", 3, 0));
        CHECK_CODE(slipring_recv_into(rx, buffer, sizeof buffer, &frame, 0), -SLIPRING_EOTHERTYPE);
        CHECK_CODE(slipring_recv_next(rx, &frame, 0), -SLIPRING_EAGAIN);
        CHECK_OK(slipring_close(tx));
        if (kinds[i] == SLIPRING_MPSC) {
            CHECK_CODE(slipring_recv(rx, &frame, LONG_TIME), SLIPRING_ENDED);
        }
        /* A batch ends before such a frame. */
        options.flags = 0;
        CHECK_OK(slipring_producer_open("untyped", &options, &tx));
        CHECK_OK(slipring_send(tx, "1", 1, 0));
        CHECK_OK(slipring_send(tx, "2", 1, 0));
        CHECK_OK(slipring_send_frame(tx, 0x1234, 0, "x", 1, 0));
        CHECK_OK(slipring_send(tx, "3", 1, 0));
        if (i < 4) {
            for (char next = '1'; next < '3';) {
                const int64_t n = slipring_recv_batch(rx, frames, 8, 0);
                CHECK(n == 1 || n == 2);
                for (int64_t at = 0; at < n; at++) {
                    CHECK(*(const char *)frames[at].data == next++);
                }
                kind = frames[0].kind;
                CHECK_OK(slipring_release(rx));
            }
            CHECK_CODE(slipring_recv_batch(rx, frames, 8, 0), -SLIPRING_EOTHERTYPE);
            CHECK(strstr(slipring_last_error(), "0x1234") != NULL);
            CHECK_CODE(slipring_recv_batch(rx, frames, 8, 0), 1);
            CHECK(*(const char *)frames[0].data == '3' && frames[0].kind == kind && kind != SLIPRING_DEFAULT_KIND);
            CHECK_OK(slipring_release(rx));
        } else {
            for (int n = 0; n < 4; n++) {
                CHECK_CODE(slipring_recv_next(rx, &frame, 0), n == 2 ? -SLIPRING_EOTHERTYPE : SLIPRING_FRAME);
            }
            CHECK_OK(slipring_release(rx));
        }
        CHECK_OK(slipring_close(rx));
        /* One that states no type receives all of them. */
        options.message_type = NULL;
        CHECK_OK(slipring_consumer_open("untyped", &options, &untyped));
        CHECK_OK(slipring_send(tx, "4", 1, 0));
        CHECK_CODE(slipring_recv(untyped, &frame, LONG_TIME), SLIPRING_FRAME);
        CHECK(frame.kind != SLIPRING_DEFAULT_KIND);
        close_both(tx, untyped);
        CHECK_OK(slipring_remove("untyped", NULL));
    }
}

TEST(streams) {
    slipring_options options = options_of(SLIPRING_STREAM);
    slipring_stream_writer *writer;
    slipring_stream_reader *reader;
    slipring_span spans[2];
    char buffer[5000];
    options.capacity = 4096;
    CHECK_OK(slipring_stream_writer_open(NULL, &options, &writer));
    options.flags = SLIPRING_FROM_FD;
    options.fd = slipring_segment_fd(writer);
    CHECK_OK(slipring_stream_reader_open(NULL, &options, &reader));
    CHECK_CODE(slipring_stream_read(reader, buffer, sizeof buffer, 0), -SLIPRING_EAGAIN);
    CHECK_CODE(slipring_stream_read_vector(reader, spans), 0);
    CHECK(spans[0].len == 0 && spans[1].len == 0);
    /* Round and round, so that every place of the ring is the first of a vector. */
    for (int round = 0; round < 100; round++) {
        CHECK_CODE(slipring_stream_write_vector(writer, spans), 4096);
        CHECK(spans[0].len + spans[1].len == 4096);
        memset(spans[0].data, round, 1000);
        CHECK_CODE(slipring_stream_commit(writer, 4097), -SLIPRING_EMSGSIZE);
        CHECK_OK(slipring_stream_commit(writer, 1000));
        CHECK_CODE(slipring_stream_read_vector(reader, spans), 1000);
        CHECK(*(unsigned char *)spans[0].data == round && ((unsigned char *)spans[0].data)[999] == round);
        CHECK_CODE(slipring_stream_consume(reader, 1001), -SLIPRING_EMSGSIZE);
        CHECK_OK(slipring_stream_consume(reader, 0));
        CHECK_OK(slipring_stream_consume(reader, 1000));
    }
    CHECK_CODE(slipring_stream_write(writer, buffer, sizeof buffer, 0), 4096);
    CHECK_CODE(slipring_stream_write(writer, buffer, sizeof buffer, 0), -SLIPRING_EAGAIN);
    CHECK_CODE(slipring_stream_write(writer, buffer, 1, 1000), -SLIPRING_ETIMEDOUT);
    CHECK_CODE(slipring_stream_read(reader, buffer, 96, LONG_TIME), 96);
    CHECK_CODE(slipring_stream_write(writer, buffer, 200, 1000000), 96); /* a part, then the error */
    CHECK_CODE(slipring_stream_write(writer, buffer, 104, 1000000), -SLIPRING_ETIMEDOUT);
    CHECK_OK(slipring_close(writer));
    for (int64_t read = 0; read < 4096;) {
        int64_t n = slipring_stream_read(reader, buffer, sizeof buffer, LONG_TIME);
        CHECK(n > 0);
        read += n;
    }
    CHECK_CODE(slipring_stream_read(reader, buffer, sizeof buffer, LONG_TIME), -SLIPRING_EPIPE);
    CHECK_OK(slipring_close(reader));
}

TEST(latest_values) {
    slipring_options options = options_of(SLIPRING_LATEST);
    slipring_latest_writer *writer;
    slipring_latest_reader *reader;
    slipring_reading reading;
    size_t watched[1] = {2};
    char buffer[64], big[4096] = {0};
    options.capacity = 3;
    options.payload = 16;
    CHECK_OK(slipring_latest_writer_open("latest", &options, &writer));
    CHECK_OK(slipring_latest_reader_open("latest", NULL, &reader));
    CHECK_CODE(slipring_latest_read(reader, 0, buffer, sizeof buffer, &reading, 0), -SLIPRING_EAGAIN);
    CHECK_CODE(slipring_latest_write(writer, 3, "x", 1), -SLIPRING_EINVAL);
    CHECK_CODE(slipring_latest_write(writer, 0, big, sizeof big), -SLIPRING_EMSGSIZE);
    CHECK_CODE(slipring_latest_write(writer, 2, "old", 3), 1);
    CHECK_CODE(slipring_latest_write(writer, 2, "newest", 6), 2);
    CHECK_CODE(slipring_latest_changed(reader, LONG_TIME), 2);
    CHECK_CODE(slipring_latest_read(reader, 2, buffer, 5, &reading, 0), -SLIPRING_EMSGSIZE);
    CHECK_OK(slipring_latest_read(reader, 2, buffer, sizeof buffer, &reading, 0));
    CHECK(reading.len == 6 && memcmp(buffer, "newest", 6) == 0 && reading.version == 2);
    CHECK_OK(slipring_latest_watch(reader, watched, 1));
    CHECK_CODE(slipring_latest_write(writer, 0, "x", 1), 1);
    CHECK_CODE(slipring_latest_changed(reader, 0), -SLIPRING_EAGAIN);
    CHECK_OK(slipring_close(writer));
    CHECK_OK(slipring_close(reader));
    CHECK_OK(slipring_remove("latest", &options));
}
