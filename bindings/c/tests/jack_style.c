/* A program that was written for jack/ringbuffer.h, with its names defined away: see JACK.md. */

#include "check.h"

#include <pthread.h>

#define jack_ringbuffer_t slipring_ringbuffer_t
#define jack_ringbuffer_data_t slipring_ringbuffer_data_t
#define jack_ringbuffer_create slipring_ringbuffer_create
#define jack_ringbuffer_free slipring_ringbuffer_free
#define jack_ringbuffer_get_read_vector slipring_ringbuffer_get_read_vector
#define jack_ringbuffer_get_write_vector slipring_ringbuffer_get_write_vector
#define jack_ringbuffer_read slipring_ringbuffer_read
#define jack_ringbuffer_peek slipring_ringbuffer_peek
#define jack_ringbuffer_read_advance slipring_ringbuffer_read_advance
#define jack_ringbuffer_read_space slipring_ringbuffer_read_space
#define jack_ringbuffer_mlock slipring_ringbuffer_mlock
#define jack_ringbuffer_reset slipring_ringbuffer_reset
#define jack_ringbuffer_reset_size slipring_ringbuffer_reset_size
#define jack_ringbuffer_write slipring_ringbuffer_write
#define jack_ringbuffer_write_advance slipring_ringbuffer_write_advance
#define jack_ringbuffer_write_space slipring_ringbuffer_write_space

enum { SAMPLES = 100000 };

static jack_ringbuffer_t *ring;

/* What a disk thread of a recorder does: in place, by vectors. */
static void *disk(void *argument) {
    float expected = 0;
    (void)argument;
    while (expected < SAMPLES) {
        jack_ringbuffer_data_t vec[2];
        jack_ringbuffer_get_read_vector(ring, vec);
        size_t got = 0;
        for (int part = 0; part < 2; part++) {
            for (size_t at = 0; at + sizeof(float) <= vec[part].len; at += sizeof(float), got += sizeof(float)) {
                float sample;
                memcpy(&sample, vec[part].buf + at, sizeof sample);
                CHECK(sample == expected);
                expected += 1;
            }
        }
        jack_ringbuffer_read_advance(ring, got);
        if (got == 0) {
            sched_yield();
        }
    }
    return NULL;
}

TEST(a_recorder) {
    pthread_t thread;
    ring = jack_ringbuffer_create(1000 * sizeof(float));
    CHECK(ring != NULL);
    CHECK(jack_ringbuffer_write_space(ring) >= 1000 * sizeof(float));
    int locked = jack_ringbuffer_mlock(ring);
    CHECK(locked == 0 || locked == -1);
    CHECK(pthread_create(&thread, NULL, disk, NULL) == 0);
    for (float sample = 0; sample < SAMPLES;) {
        float block[64];
        size_t room = jack_ringbuffer_write_space(ring) / sizeof(float), n = 0;
        for (; n < 64 && n < room && sample < SAMPLES; n++) {
            block[n] = sample++;
        }
        CHECK(jack_ringbuffer_write(ring, (const char *)block, n * sizeof(float)) == n * sizeof(float));
        if (n == 0) {
            sched_yield();
        }
    }
    CHECK(pthread_join(thread, NULL) == 0);
    jack_ringbuffer_free(ring);
    jack_ringbuffer_free(ring); /* a defect of the program, and no crash */
}

TEST(every_function) {
    jack_ringbuffer_t *rb = jack_ringbuffer_create(100);
    jack_ringbuffer_data_t vec[2];
    char out[16] = {0};
    size_t size = jack_ringbuffer_write_space(rb);
    CHECK(size >= 100 && jack_ringbuffer_read_space(rb) == 0);
    CHECK(jack_ringbuffer_read(rb, out, sizeof out) == 0);
    CHECK(jack_ringbuffer_write(rb, "abcdef", 6) == 6);
    CHECK(jack_ringbuffer_read_space(rb) == 6 && jack_ringbuffer_write_space(rb) == size - 6);
    CHECK(jack_ringbuffer_peek(rb, out, 3) == 3 && memcmp(out, "abc", 3) == 0);
    CHECK(jack_ringbuffer_peek(rb, out, sizeof out) == 6);
    CHECK(jack_ringbuffer_read(rb, out, 2) == 2 && memcmp(out, "ab", 2) == 0);
    jack_ringbuffer_read_advance(rb, 1);
    jack_ringbuffer_get_read_vector(rb, vec);
    CHECK(vec[0].len + vec[1].len == 3 && memcmp(vec[0].buf, "def", 3) == 0);
    jack_ringbuffer_get_write_vector(rb, vec);
    CHECK(vec[0].len + vec[1].len == size - 3);
    memcpy(vec[0].buf, "ghi", 3);
    jack_ringbuffer_write_advance(rb, 3);
    CHECK(jack_ringbuffer_mlock(rb) <= 0);
    CHECK(jack_ringbuffer_read(rb, out, sizeof out) == 6 && memcmp(out, "defghi", 6) == 0);
    jack_ringbuffer_write(rb, "rest", 4);
    jack_ringbuffer_reset(rb);
    CHECK(jack_ringbuffer_read_space(rb) == 0 && jack_ringbuffer_write_space(rb) == size);
    jack_ringbuffer_reset_size(rb, 10 * size);
    CHECK(jack_ringbuffer_write_space(rb) >= 10 * size);
    jack_ringbuffer_free(rb);
    CHECK(jack_ringbuffer_write(rb, "x", 1) == 0);
    CHECK(jack_ringbuffer_read_space(rb) == 0);
    jack_ringbuffer_get_write_vector(rb, vec);
    CHECK(vec[0].len == 0 && vec[1].len == 0);
    jack_ringbuffer_free(NULL);
    CHECK(jack_ringbuffer_write(NULL, "x", 1) == 0);
    CHECK(jack_ringbuffer_mlock(NULL) == -1);
}

PEER(reader) {
    slipring_ringbuffer_t *rb = slipring_ringbuffer_open_reader(peer_args[0], 4096);
    char out[4];
    size_t read = 0;
    CHECK(rb != NULL);
    while (read < 4) {
        read += slipring_ringbuffer_read(rb, out + read, sizeof out - read);
    }
    CHECK(memcmp(out, "data", 4) == 0);
    CHECK(slipring_ringbuffer_write(rb, "x", 1) == 0); /* the other side's */
    slipring_ringbuffer_free(rb);
    return 0;
}

TEST(between_two_processes) {
    slipring_ringbuffer_t *rb = slipring_ringbuffer_open_writer("jack", 4096);
    char out[4];
    CHECK(rb != NULL);
    CHECK(slipring_ringbuffer_open_writer("jack", 4096) == NULL);
    CHECK(strstr(slipring_last_error(), "already attached") != NULL);
    pid_t pid = start_peer("reader", "jack", NULL);
    CHECK(slipring_ringbuffer_write(rb, "data", 4) == 4);
    CHECK(slipring_ringbuffer_read(rb, out, 4) == 0);
    CHECK(end_peer(pid) == 0);
    slipring_ringbuffer_free(rb);
    CHECK_OK(slipring_remove("jack", NULL));
}

TEST(a_named_buffer_keeps_its_ring) {
    slipring_ringbuffer_t *writer = slipring_ringbuffer_open_writer("kept", 4096);
    slipring_ringbuffer_t *reader = slipring_ringbuffer_open_reader("kept", 4096);
    slipring_ringbuffer_t *sides[] = {writer, reader};
    char out[4];
    CHECK(writer != NULL && reader != NULL);
    for (int i = 0; i < 2; i++) {
        CHECK(slipring_ringbuffer_mlock(sides[i]) == -1);
        CHECK(strstr(slipring_last_error(), "named") != NULL);
        CHECK(slipring_ringbuffer_write(NULL, "x", 1) == 0); /* another error */
        slipring_ringbuffer_reset_size(sides[i], 1 << 20);
        CHECK(strstr(slipring_last_error(), "named") != NULL);
        CHECK(slipring_ringbuffer_write_space(writer) == 4096);
        CHECK(slipring_ringbuffer_write(writer, "abc", 3) == 3);
        CHECK(slipring_ringbuffer_read(reader, out, sizeof out) == 3 && memcmp(out, "abc", 3) == 0);
    }
    slipring_ringbuffer_free(writer);
    slipring_ringbuffer_free(reader);
    CHECK_OK(slipring_remove("kept", NULL));
}
