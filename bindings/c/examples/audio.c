/*
 * Samples from a thread with a deadline to one that writes them away: JACK's ring buffer calls,
 * which never wait and make no system call.
 *
 *     make -C bindings/c examples && target/bindings-c/examples/audio
 */

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "slipring.h"

enum { RATE = 48000, BLOCK = 256, BLOCKS = 400 };

static slipring_ringbuffer_t *ring;
static atomic_int finished;
static int dropped;

/* The audio callback: one block, or none if there is no room. */
static void process(int number) {
    float block[BLOCK];
    for (int i = 0; i < BLOCK; i++) {
        block[i] = (float)(number * BLOCK + i);
    }
    if (slipring_ringbuffer_write_space(ring) >= sizeof block) {
        slipring_ringbuffer_write(ring, (const char *)block, sizeof block);
    } else {
        dropped++;
    }
}

static void *audio_thread(void *argument) {
    (void)argument;
    for (int number = 0; number < BLOCKS; number++) {
        process(number);
        sched_yield(); /* a sound card would wake it every 5 ms */
    }
    atomic_store(&finished, 1);
    return NULL;
}

int main(void) {
    size_t samples = 0;
    pthread_t thread;
    ring = slipring_ringbuffer_create(RATE * sizeof(float)); /* a second */
    if (!ring) {
        fprintf(stderr, "%s\n", slipring_last_error());
        return 1;
    }
    slipring_ringbuffer_mlock(ring); /* no page faults; -1 where the limit forbids it */
    if (pthread_create(&thread, NULL, audio_thread, NULL) != 0) {
        return 1;
    }
    for (;;) {
        int last = atomic_load(&finished);
        slipring_ringbuffer_data_t parts[2];
        slipring_ringbuffer_get_read_vector(ring, parts);
        if (parts[0].len == 0 && last) {
            break;
        }
        /* fwrite(parts[0].buf, 1, parts[0].len, file) … in place, without a copy */
        samples += (parts[0].len + parts[1].len) / sizeof(float);
        slipring_ringbuffer_read_advance(ring, parts[0].len + parts[1].len);
    }
    pthread_join(thread, NULL);
    slipring_ringbuffer_free(ring);
    printf("%zu samples, %d blocks dropped\n", samples, dropped);
    return samples == (size_t)(BLOCKS - dropped) * BLOCK ? 0 : 1;
}
