/* Semaphores, mutexes, events; wait sets, wakers, descriptors to poll. */

#include "check.h"

#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>

/* Locks the mutex that its argument names, changes the data by half, and is killed. */
PEER(dying_owner) {
    slipring_mutex *mutex;
    void *data;
    size_t len;
    CHECK_OK(slipring_mutex_open(peer_args[0], NULL, &mutex));
    CHECK_OK(slipring_mutex_lock(mutex, &data, &len, LONG_TIME));
    *(char *)data = 'h';
    raise(SIGKILL);
    return 0;
}

TEST(a_mutex_whose_owner_dies) {
    slipring_options options = SLIPRING_OPTIONS_INIT;
    slipring_mutex *mutex, *other;
    void *data;
    size_t len;
    options.capacity = 32;
    CHECK_OK(slipring_mutex_open("mutex", &options, &mutex));
    CHECK_OK(slipring_mutex_lock(mutex, &data, &len, 0));
    CHECK(len == 32 && *(char *)data == 0);
    CHECK_CODE(slipring_mutex_lock(mutex, &data, &len, 0), -SLIPRING_EHELD);
    CHECK_OK(slipring_mutex_open("mutex", NULL, &other));
    CHECK_CODE(slipring_mutex_lock(other, NULL, NULL, 0), -SLIPRING_EAGAIN);
    CHECK_CODE(slipring_mutex_lock(other, NULL, NULL, 1000), -SLIPRING_ETIMEDOUT);
    CHECK_OK(slipring_mutex_unlock(mutex));
    CHECK_CODE(slipring_mutex_unlock(mutex), -SLIPRING_ENOTHELD);
    CHECK(end_peer(start_peer("dying_owner", "mutex", NULL)) == 1000 + SIGKILL);
    CHECK_CODE(slipring_mutex_lock(mutex, &data, &len, LONG_TIME), SLIPRING_OWNER_DIED);
    CHECK(*(char *)data == 'h');
    CHECK_OK(slipring_mutex_mark_consistent(mutex));
    CHECK_OK(slipring_mutex_unlock(mutex));
    CHECK_OK(slipring_mutex_lock(other, &data, &len, LONG_TIME));
    CHECK_OK(slipring_close(other)); /* unlocks */
    CHECK_OK(slipring_mutex_lock(mutex, NULL, NULL, LONG_TIME));
    CHECK_OK(slipring_mutex_unlock(mutex));
    CHECK_OK(slipring_close(mutex));
    CHECK_OK(slipring_remove("mutex", NULL));
}

PEER(dying_holder) {
    slipring_semaphore *semaphore;
    CHECK_OK(slipring_semaphore_open(peer_args[0], NULL, &semaphore));
    CHECK_OK(slipring_semaphore_acquire(semaphore, LONG_TIME));
    raise(SIGKILL);
    return 0;
}

TEST(permits_of_the_dead_come_back) {
    slipring_options options = SLIPRING_OPTIONS_INIT;
    slipring_semaphore *semaphore;
    options.capacity = 2;
    CHECK_OK(slipring_semaphore_open("semaphore", &options, &semaphore));
    CHECK_CODE(slipring_semaphore_available(semaphore), 2);
    CHECK_OK(slipring_semaphore_acquire(semaphore, 0));
    CHECK(end_peer(start_peer("dying_holder", "semaphore", NULL)) == 1000 + SIGKILL);
    CHECK_OK(slipring_semaphore_acquire(semaphore, LONG_TIME));
    CHECK_CODE(slipring_semaphore_acquire(semaphore, 0), -SLIPRING_EAGAIN);
    CHECK_CODE(slipring_semaphore_acquire(semaphore, 1000), -SLIPRING_ETIMEDOUT);
    CHECK_OK(slipring_semaphore_release(semaphore));
    CHECK_OK(slipring_semaphore_release(semaphore));
    CHECK_CODE(slipring_semaphore_release(semaphore), -SLIPRING_ENOTHELD);
    CHECK_OK(slipring_close(semaphore));
    CHECK_OK(slipring_remove("semaphore", NULL));
    options.directory = "/tmp";
    CHECK_CODE(slipring_semaphore_open("semaphore", &options, &semaphore), -SLIPRING_EOPNOTSUPP);
}

PEER(poster) {
    slipring_signal_semaphore *semaphore;
    slipring_event *event;
    CHECK_OK(slipring_signal_semaphore_open(peer_args[0], NULL, &semaphore));
    CHECK_OK(slipring_event_open(peer_args[1], NULL, &event));
    CHECK_OK(slipring_signal_semaphore_post(semaphore, 3));
    CHECK_OK(slipring_event_wait(event, LONG_TIME));
    CHECK_OK(slipring_close(semaphore));
    CHECK_OK(slipring_close(event));
    return 0;
}

TEST(signals_and_events) {
    slipring_options options = SLIPRING_OPTIONS_INIT;
    slipring_signal_semaphore *semaphore;
    slipring_event *event;
    options.capacity = 1;
    CHECK_CODE(slipring_event_open("event", NULL, &event), -SLIPRING_ENOENT);
    CHECK_OK(slipring_event_open("event", &options, &event));
    CHECK_OK(slipring_signal_semaphore_open("signals", &options, &semaphore));
    CHECK_CODE(slipring_signal_semaphore_wait(semaphore, 0), -SLIPRING_EAGAIN);
    CHECK_CODE(slipring_event_wait(event, 0), -SLIPRING_EAGAIN);
    CHECK_CODE(slipring_event_wait(event, 1000), -SLIPRING_ETIMEDOUT);
    pid_t pid = start_peer("poster", "signals", "event");
    for (int i = 0; i < 3; i++) {
        CHECK_OK(slipring_signal_semaphore_wait(semaphore, LONG_TIME));
    }
    CHECK_OK(slipring_event_set(event));
    CHECK(end_peer(pid) == 0);
    CHECK_OK(slipring_event_wait(event, 0));
    CHECK_CODE(slipring_event_reset(event), 1);
    CHECK_CODE(slipring_event_reset(event), 0);
    CHECK_CODE(slipring_signal_semaphore_post(semaphore, UINT32_MAX), -SLIPRING_EOVERFLOW);
    CHECK_OK(slipring_close(semaphore));
    CHECK_OK(slipring_close(event));
    CHECK_OK(slipring_remove("signals", NULL));
    CHECK_OK(slipring_remove("event", NULL));
}

static slipring_waker *waker;

static void *wake(void *argument) {
    (void)argument;
    CHECK_OK(slipring_wake(waker));
    return NULL;
}

TEST(wait_sets) {
    slipring_options options = options_of(SLIPRING_SPSC);
    slipring_wait_set *set;
    slipring_producer *tx;
    slipring_consumer *rx;
    slipring_event *event;
    slipring_frame frame;
    size_t tokens[8];
    int ends[2];
    pthread_t thread;
    CHECK_OK(slipring_producer_open(NULL, &options, &tx));
    options.flags = SLIPRING_FROM_FD;
    options.fd = slipring_segment_fd(tx);
    CHECK_OK(slipring_consumer_open(NULL, &options, &rx));
    CHECK_OK(slipring_event_open(NULL, NULL, &event));
    CHECK(pipe(ends) == 0);
    CHECK_OK(slipring_wait_set_open(&set));
    CHECK_OK(slipring_wait_set_add(set, 1, rx, 0));
    CHECK_CODE(slipring_wait_set_add(set, 1, event, 0), -SLIPRING_EINVAL);
    CHECK_OK(slipring_wait_set_add(set, 2, event, 0));
    CHECK_OK(slipring_wait_set_add_fd(set, 3, ends[0], 0));
    CHECK_CODE(slipring_wait_set_add_fd(set, 4, -1, 0), -SLIPRING_EINVAL);
    CHECK_CODE(slipring_wait_set_add(set, 4, set, 0), -SLIPRING_EOPNOTSUPP);
    CHECK_CODE(slipring_wait_set_add(set, 4, NULL, 0), -SLIPRING_EHANDLE);
    CHECK_OK(slipring_waker_open(set, 5, &waker));
    CHECK_CODE(slipring_wait_set_wait(set, tokens, 8, 0), 0);
    CHECK_CODE(slipring_wait_set_wait(set, tokens, 8, 1000), -SLIPRING_ETIMEDOUT);
    CHECK_CODE(slipring_wait_set_wait(set, NULL, 8, 0), -SLIPRING_EINVAL);
    CHECK_CODE(slipring_wait_set_wait(set, tokens, 0, 0), -SLIPRING_EINVAL);

    CHECK_OK(slipring_send(tx, "x", 1, 0));
    CHECK_CODE(slipring_wait_set_wait(set, tokens, 8, LONG_TIME), 1);
    CHECK(tokens[0] == 1);
    CHECK_CODE(slipring_recv(rx, &frame, 0), SLIPRING_FRAME);
    CHECK_OK(slipring_release(rx));
    CHECK_OK(slipring_event_set(event));
    CHECK_CODE(slipring_wait_set_wait(set, tokens, 8, LONG_TIME), 1);
    CHECK(tokens[0] == 2);
    CHECK_CODE(slipring_event_reset(event), 1);
    CHECK(write(ends[1], "x", 1) == 1);
    CHECK_CODE(slipring_wait_set_wait(set, tokens, 8, LONG_TIME), 1);
    CHECK(tokens[0] == 3);
    CHECK_CODE(slipring_wait_set_remove(set, 3), 1);
    CHECK_CODE(slipring_wait_set_remove(set, 3), 0);
    CHECK(pthread_create(&thread, NULL, wake, NULL) == 0);
    CHECK_CODE(slipring_wait_set_wait(set, tokens, 8, LONG_TIME), 1);
    CHECK(tokens[0] == 5);
    CHECK(pthread_join(thread, NULL) == 0);
    /* Room for a frame. */
    CHECK_OK(slipring_wait_set_add(set, 6, tx, 100));
    CHECK_CODE(slipring_wait_set_wait(set, tokens, 8, LONG_TIME), 1);
    CHECK(tokens[0] == 6);
    CHECK_OK(slipring_close(waker));
    CHECK_OK(slipring_close(set));
    CHECK_OK(slipring_close(rx));
    CHECK_OK(slipring_close(tx));
    CHECK_OK(slipring_close(event));
    close(ends[0]);
    close(ends[1]);
}

PEER(sender) {
    slipring_options options = options_of(SLIPRING_SPSC);
    slipring_producer *tx;
    CHECK_OK(slipring_producer_open(peer_args[0], &options, &tx));
    for (int i = 0; i < 200; i++) {
        CHECK_OK(slipring_send(tx, &i, sizeof i, LONG_TIME));
        if (i % 50 == 0) {
            usleep(2000); /* the other side comes to sleep now and then */
        }
    }
    CHECK_OK(slipring_close(tx));
    return 0;
}

/* Receives all by poll or, with `use_epoll`, by an edge-triggered epoll. */
static void by_descriptor(const char *name, int use_epoll) {
    slipring_options options = options_of(SLIPRING_SPSC);
    slipring_consumer *rx;
    slipring_frame frame;
    int next = 0, value, code;
    CHECK_OK(slipring_consumer_open(name, &options, &rx));
    int fd = slipring_fd(rx);
    CHECK(fd >= 0 && fd == slipring_fd(rx));
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0);
    pid_t pid = start_peer("sender", name, NULL);
    for (;;) {
        while ((code = slipring_recv(rx, &frame, 0)) == SLIPRING_FRAME) {
            memcpy(&value, frame.data, sizeof value);
            CHECK(value == next++);
            CHECK_OK(slipring_release(rx));
        }
        if (code == -SLIPRING_EPIPE) {
            break;
        }
        CHECK_CODE(code, -SLIPRING_EAGAIN);
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        CHECK((use_epoll ? epoll_wait(epoll, &event, 1, 60000) : poll(&poll_fd, 1, 60000)) == 1);
    }
    CHECK(next == 200);
    CHECK(end_peer(pid) == 0);
    /* Blocking calls wait for the same bell. */
    CHECK_CODE(slipring_recv(rx, &frame, 1000), -SLIPRING_EPIPE);
    CHECK_OK(slipring_close(rx));
    CHECK_OK(slipring_remove(name, NULL));
    close(epoll);
}

TEST(poll_a_descriptor) { by_descriptor("poll", 0); }
TEST(epoll_a_descriptor) { by_descriptor("epoll", 1); }

TEST(a_blocking_call_beside_a_descriptor) {
    slipring_options options = options_of(SLIPRING_SPSC);
    slipring_consumer *rx;
    slipring_frame frame;
    CHECK_OK(slipring_consumer_open("beside", &options, &rx));
    CHECK(slipring_fd(rx) >= 0);
    CHECK_CODE(slipring_recv(rx, &frame, 1000000), -SLIPRING_ETIMEDOUT);
    pid_t pid = start_peer("sender", "beside", NULL);
    for (int i = 0; i < 200; i++) {
        CHECK_CODE(slipring_recv(rx, &frame, LONG_TIME), SLIPRING_FRAME);
        CHECK_OK(slipring_release(rx));
    }
    CHECK(end_peer(pid) == 0);
    CHECK_OK(slipring_close(rx));
    CHECK_OK(slipring_remove("beside", NULL));
}

/* Calls that wait for the bell are cancelled, too. */
TEST(a_canceller_beside_a_descriptor) {
    slipring_options options = options_of(SLIPRING_SPSC);
    slipring_consumer *rx;
    slipring_canceller *canceller;
    slipring_frame frame;
    CHECK_OK(slipring_consumer_open(NULL, &options, &rx));
    CHECK(slipring_fd(rx) >= 0);
    CHECK_OK(slipring_canceller_open(rx, &canceller));
    CHECK_OK(slipring_cancel(canceller));
    CHECK_CODE(slipring_recv(rx, &frame, LONG_TIME), -SLIPRING_ECANCELED);
    CHECK_CODE(slipring_recv(rx, &frame, -1), -SLIPRING_ECANCELED);
    CHECK_CODE(slipring_recv(rx, &frame, 0), -SLIPRING_EAGAIN);
    CHECK_OK(slipring_canceller_reset(canceller));
    CHECK_CODE(slipring_recv(rx, &frame, 1), -SLIPRING_ETIMEDOUT);
    CHECK_OK(slipring_close(canceller));
    CHECK_OK(slipring_close(rx));
}

enum { ROOM_FRAMES = 2000 };

PEER(slow_receiver) {
    slipring_options options = options_of(SLIPRING_ANY);
    slipring_consumer *rx;
    slipring_frame frame;
    int value, next = 0, code;
    CHECK_OK(slipring_consumer_open(peer_args[0], &options, &rx));
    while ((code = slipring_recv(rx, &frame, LONG_TIME)) >= 0) {
        if (code != SLIPRING_FRAME) {
            continue; /* the end of a lane */
        }
        memcpy(&value, frame.data, sizeof value);
        CHECK(value == next++);
        CHECK_OK(slipring_release(rx));
        if (next % 500 == 0) {
            usleep(2000); /* the ring becomes full */
        }
    }
    CHECK(next == ROOM_FRAMES);
    CHECK_OK(slipring_close(rx));
    return 0;
}

/* Sends by poll, and by each call that sends. */
static void send_by_descriptor(const char *name, int kind) {
    slipring_options options = options_of(kind);
    slipring_producer *tx;
    char payload[64] = {0};
    slipring_payload one = {payload, sizeof payload};
    void *data;
    int code, waits = 0;
    options.capacity = kind == SLIPRING_MPMC ? 16 : 4096;
    CHECK_OK(slipring_producer_open(name, &options, &tx));
    int fd = slipring_fd(tx);
    CHECK(fd >= 0 && fd == slipring_fd(tx));
    pid_t pid = start_peer("slow_receiver", name, NULL);
    CHECK_OK(slipring_wait_for_peer(tx, LONG_TIME));
    for (int i = 0; i < ROOM_FRAMES;) {
        memcpy(payload, &i, sizeof i);
        if (i % 4 == 0) {
            code = slipring_send(tx, payload, sizeof payload, 0);
        } else if (i % 4 == 1) {
            code = slipring_send_frame(tx, 0x111, 0, payload, sizeof payload, 0);
        } else if (i % 4 == 2) {
            code = (int)slipring_send_batch(tx, &one, 1, 0);
            code = code == 1 ? 0 : code;
        } else if ((code = slipring_reserve(tx, sizeof payload, &data, 0)) == 0) {
            memcpy(data, payload, sizeof payload);
            code = slipring_commit(tx, sizeof payload);
        }
        if (code == 0) {
            i++;
            continue;
        }
        CHECK_CODE(code, -SLIPRING_EAGAIN);
        struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
        CHECK(poll(&poll_fd, 1, 60000) == 1);
        waits++;
    }
    CHECK(waits > 0);
    CHECK_OK(slipring_close(tx));
    CHECK(end_peer(pid) == 0);
    if (kind == SLIPRING_SPSC) { /* a full ring without a consumer: not writable, and a call that waits does */
        CHECK_OK(slipring_producer_open(name, &options, &tx));
        fd = slipring_fd(tx);
        while ((code = slipring_send(tx, payload, sizeof payload, 0)) == 0) {
        }
        struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
        CHECK_CODE(code, -SLIPRING_EAGAIN);
        CHECK(poll(&poll_fd, 1, 10) == 0);
        CHECK_CODE(slipring_send(tx, payload, sizeof payload, 1000), -SLIPRING_ETIMEDOUT);
        CHECK_OK(slipring_close(tx));
    }
    CHECK_OK(slipring_remove(name, NULL));
}

TEST(poll_for_room_spsc) { send_by_descriptor("room_spsc", SLIPRING_SPSC); }
TEST(poll_for_room_mpmc) { send_by_descriptor("room_mpmc", SLIPRING_MPMC); }
TEST(poll_for_room_mpsc) { send_by_descriptor("room_mpsc", SLIPRING_MPSC); }
TEST(poll_for_room_broadcast) { send_by_descriptor("room_broadcast", SLIPRING_BROADCAST); }
