/* Wrong calls: each gets an error code, never a crash. */

#include "check.h"

#include <pthread.h>
#include <setjmp.h>
#include <sys/socket.h>

static slipring_options anonymous(int kind) { return options_of(kind); }

/* Both ends of an anonymous ring. */
static void open_pair(slipring_producer **tx, slipring_consumer **rx) {
    slipring_options options = anonymous(SLIPRING_SPSC);
    CHECK_OK(slipring_producer_open(NULL, &options, tx));
    options.flags = SLIPRING_FROM_FD;
    options.fd = slipring_segment_fd(*tx);
    CHECK(options.fd >= 0);
    CHECK_OK(slipring_consumer_open(NULL, &options, rx));
}

/* Every function that takes a handle, with this one. */
static void check_every_call(void *handle, int wanted) {
    char buffer[16];
    void *data;
    const void *reply;
    size_t len, tokens[1], cells[1] = {0};
    slipring_frame frame;
    slipring_span spans[2];
    slipring_reading reading;
    slipring_request request;
    slipring_payload payload = {"x", 1};
    slipring_info info = {.struct_size = sizeof info};
    slipring_waker *waker = (slipring_waker *)buffer;
    slipring_canceller *canceller = (slipring_canceller *)buffer;

    CHECK_CODE(slipring_send(handle, "x", 1, 0), wanted);
    CHECK_CODE(slipring_send_frame(handle, 0x100, 0, "x", 1, 0), wanted);
    CHECK_CODE(slipring_send_batch(handle, &payload, 1, 0), wanted);
    CHECK_CODE(slipring_reserve(handle, 1, &data, 0), wanted);
    CHECK_CODE(slipring_commit(handle, 0), wanted);
    CHECK_CODE(slipring_commit_frame(handle, 0x100, 0, 0), wanted);
    CHECK_CODE(slipring_abort(handle), wanted);
    CHECK_CODE(slipring_flush(handle, 0), wanted);
    CHECK_CODE(slipring_recv(handle, &frame, 0), wanted);
    CHECK_CODE(slipring_recv_next(handle, &frame, 0), wanted);
    CHECK_CODE(slipring_recv_into(handle, buffer, sizeof buffer, &frame, 0), wanted);
    CHECK_CODE(slipring_recv_batch(handle, &frame, 1, 0), wanted);
    CHECK_CODE(slipring_release(handle), wanted);
    CHECK_CODE(slipring_keep(handle), wanted);
    CHECK_CODE(slipring_stream_write(handle, "x", 1, 0), wanted);
    CHECK_CODE(slipring_stream_write_vector(handle, spans), wanted);
    CHECK_CODE(slipring_stream_commit(handle, 1), wanted);
    CHECK_CODE(slipring_stream_read(handle, buffer, sizeof buffer, 0), wanted);
    CHECK_CODE(slipring_stream_read_vector(handle, spans), wanted);
    CHECK_CODE(slipring_stream_consume(handle, 1), wanted);
    CHECK_CODE(slipring_latest_write(handle, 0, "x", 1), wanted);
    CHECK_CODE(slipring_latest_read(handle, 0, buffer, sizeof buffer, &reading, 0), wanted);
    CHECK_CODE(slipring_latest_changed(handle, 0), wanted);
    CHECK_CODE(slipring_latest_watch(handle, cells, 1), wanted);
    CHECK_CODE(slipring_semaphore_acquire(handle, 0), wanted);
    CHECK_CODE(slipring_semaphore_release(handle), wanted);
    CHECK_CODE(slipring_semaphore_available(handle), wanted);
    CHECK_CODE(slipring_signal_semaphore_post(handle, 1), wanted);
    CHECK_CODE(slipring_signal_semaphore_wait(handle, 0), wanted);
    CHECK_CODE(slipring_mutex_lock(handle, &data, &len, 0), wanted);
    CHECK_CODE(slipring_mutex_mark_consistent(handle), wanted);
    CHECK_CODE(slipring_mutex_unlock(handle), wanted);
    CHECK_CODE(slipring_event_set(handle), wanted);
    CHECK_CODE(slipring_event_reset(handle), wanted);
    CHECK_CODE(slipring_event_wait(handle, 0), wanted);
    CHECK_CODE(slipring_wait_set_add_fd(handle, 1, 0, 0), wanted);
    CHECK_CODE(slipring_wait_set_remove(handle, 1), wanted);
    CHECK_CODE(slipring_wait_set_wait(handle, tokens, 1, 0), wanted);
    CHECK_CODE(slipring_waker_open(handle, 1, &waker), wanted);
    CHECK(waker == NULL);
    CHECK_CODE(slipring_wake(handle), wanted);
    CHECK_CODE(slipring_canceller_open(handle, &canceller), wanted);
    CHECK(canceller == NULL);
    CHECK_CODE(slipring_cancel(handle), wanted);
    CHECK_CODE(slipring_canceller_reset(handle), wanted);
    CHECK_CODE(slipring_fd(handle), wanted);
    CHECK_CODE(slipring_call(handle, "x", 1, &reply, &len, 1), wanted);
    CHECK_CODE(slipring_call_start(handle, "x", 1, 1), wanted);
    CHECK_CODE(slipring_call_finish(handle, 1, &reply, &len, 1), wanted);
    CHECK_CODE(slipring_call_cancel(handle, 1), wanted);
    CHECK_CODE(slipring_server_recv(handle, &request, 0), wanted);
    CHECK_CODE(slipring_reply(handle, 1, "x", 1), wanted);
    CHECK_CODE(slipring_refuse(handle, 1), wanted);
    CHECK_CODE(slipring_is_cancelled(handle, 1), wanted);
    CHECK_CODE(slipring_take(handle), wanted);
    CHECK_CODE(slipring_get_info(handle, &info), wanted);
    CHECK_CODE(slipring_segment_fd(handle), wanted);
    CHECK_CODE(slipring_wait_for_peer(handle, 0), wanted);
    CHECK_CODE(slipring_close(handle), wanted);
}

TEST(null_and_made_up_handles) {
    int local = 0;
    check_every_call(NULL, -SLIPRING_EHANDLE);
    check_every_call(&local, -SLIPRING_EHANDLE);
    check_every_call(stdout, -SLIPRING_EHANDLE);
    uint64_t number = 88172645463325252u;
    for (int i = 0; i < 1000; i++) {
        number ^= number << 13, number ^= number >> 7, number ^= number << 17;
        check_every_call((void *)(uintptr_t)number, -SLIPRING_EHANDLE);
        check_every_call((void *)(uintptr_t)(number & 0xFF0), -SLIPRING_EHANDLE);
    }
    CHECK(strstr(slipring_last_error(), "no open handle") != NULL);
    CHECK_CODE(slipring_close(NULL), -SLIPRING_EHANDLE);
    CHECK(strstr(slipring_last_error(), "NULL") != NULL);
}

TEST(use_after_close_and_double_close) {
    slipring_producer *tx;
    slipring_consumer *rx;
    open_pair(&tx, &rx);
    void *old_tx = tx, *old_rx = rx;
    CHECK_OK(slipring_close(tx));
    CHECK_OK(slipring_close(rx));
    check_every_call(old_tx, -SLIPRING_EHANDLE);
    check_every_call(old_rx, -SLIPRING_EHANDLE);
    /* Others in the same places do not make the old ones valid. */
    open_pair(&tx, &rx);
    check_every_call(old_tx, -SLIPRING_EHANDLE);
    check_every_call(old_rx, -SLIPRING_EHANDLE);
    CHECK_OK(slipring_send(tx, "x", 1, 0));
    CHECK_OK(slipring_close(rx));
    CHECK_OK(slipring_close(tx));
}

TEST(a_handle_of_another_type) {
    slipring_producer *tx;
    slipring_consumer *rx;
    slipring_frame frame;
    open_pair(&tx, &rx);
    CHECK_CODE(slipring_send((slipring_producer *)rx, "x", 1, 0), -SLIPRING_EHANDLE);
    CHECK_CODE(slipring_recv((slipring_consumer *)tx, &frame, 0), -SLIPRING_EHANDLE);
    CHECK_CODE(slipring_reply((slipring_server *)tx, 1, "x", 1), -SLIPRING_EHANDLE);
    /* The same slot and generation, but another type in the value. */
    void *forged = (void *)((uintptr_t)tx ^ 0x30);
    CHECK_CODE(slipring_recv(forged, &frame, 0), -SLIPRING_EHANDLE);
    CHECK_CODE(slipring_close(forged), -SLIPRING_EHANDLE);
    /* The same type and generation, but another slot. */
    for (int bit = 12; bit < 28; bit++) {
        forged = (void *)((uintptr_t)tx ^ (uintptr_t)1 << bit);
        CHECK_CODE(slipring_send(forged, "x", 1, 0), -SLIPRING_EHANDLE);
        forged = (void *)((uintptr_t)rx ^ (uintptr_t)1 << bit);
        CHECK_CODE(slipring_recv(forged, &frame, 0), -SLIPRING_EHANDLE);
        CHECK_CODE(slipring_release(forged), -SLIPRING_EHANDLE);
    }
    CHECK_OK(slipring_close(tx));
    CHECK_OK(slipring_close(rx));
}

TEST(null_arguments) {
    slipring_producer *tx;
    slipring_consumer *rx;
    slipring_frame frame;
    slipring_options options = options_of(SLIPRING_SPSC);
    CHECK_CODE(slipring_producer_open("name", &options, NULL), -SLIPRING_EINVAL);
    CHECK_CODE(slipring_client_open(NULL, NULL, NULL), -SLIPRING_EINVAL);
    open_pair(&tx, &rx);
    CHECK_CODE(slipring_send(tx, NULL, 1, 0), -SLIPRING_EINVAL);
    CHECK_OK(slipring_send(tx, NULL, 0, 0));
    CHECK_CODE(slipring_send(tx, "x", (size_t)-1, 0), -SLIPRING_EINVAL);
    CHECK_CODE(slipring_send_batch(tx, NULL, 3, 0), -SLIPRING_EINVAL);
    CHECK_CODE(slipring_reserve(tx, 1, NULL, 0), -SLIPRING_EINVAL);
    CHECK_CODE(slipring_recv(rx, NULL, 0), -SLIPRING_EINVAL);
    CHECK_CODE(slipring_recv_into(rx, NULL, 9, &frame, 0), -SLIPRING_EINVAL);
    CHECK_CODE(slipring_recv_batch(rx, NULL, 9, 0), -SLIPRING_EINVAL);
    CHECK_CODE(slipring_recv_batch(rx, &frame, 0, 0), -SLIPRING_EINVAL);
    CHECK_CODE(slipring_get_info(tx, NULL), -SLIPRING_EINVAL);
    CHECK_CODE(slipring_remove(NULL, NULL), -SLIPRING_EINVAL);
    CHECK_OK(slipring_recv(rx, &frame, 0));
    CHECK(frame.len == 0);
    CHECK_CODE(slipring_recv_next(rx, NULL, 0), -SLIPRING_EINVAL); /* and releases nothing */
    CHECK_OK(slipring_release(rx));
    CHECK_CODE(slipring_recv(rx, NULL, 0), -SLIPRING_EINVAL);
    CHECK_CODE(slipring_send(tx, NULL, 1, 0), -SLIPRING_EINVAL);
    CHECK_CODE(slipring_send(tx, "x", (size_t)-1, 0), -SLIPRING_EINVAL);
    CHECK_CODE(slipring_recv_into(rx, NULL, 9, &frame, 0), -SLIPRING_EINVAL);
    CHECK_CODE(slipring_recv_into(rx, &frame, (size_t)-1, &frame, 0), -SLIPRING_EINVAL);
    CHECK_OK(slipring_close(tx));
    CHECK_OK(slipring_close(rx));
}

TEST(wrong_options) {
    struct {
        slipring_options options;
        uint64_t later[4];
    } newer;
    slipring_producer *tx = (slipring_producer *)&newer;
    slipring_options options = options_of(SLIPRING_SPSC);
    const size_t wrong[] = {0, 1, sizeof options - 8, sizeof options + 1, 4096, (size_t)-1};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        options.struct_size = wrong[i];
        CHECK_CODE(slipring_producer_open(NULL, &options, &tx), -SLIPRING_EINVAL);
        CHECK(tx == NULL);
        CHECK(strstr(slipring_last_error(), "struct_size") != NULL);
    }
    memset(&newer, 0, sizeof newer);
    newer.options = options_of(SLIPRING_SPSC);
    newer.options.struct_size = sizeof newer;
    CHECK_OK(slipring_producer_open(NULL, &newer.options, &tx));
    CHECK_OK(slipring_close(tx));
    newer.later[2] = 1;
    CHECK_CODE(slipring_producer_open(NULL, &newer.options, &tx), -SLIPRING_EOPNOTSUPP);

    options = options_of(12345);
    CHECK_CODE(slipring_producer_open(NULL, &options, &tx), -SLIPRING_EINVAL);
    options = options_of(SLIPRING_SPSC);
    options.flags = 1u << 31;
    CHECK_CODE(slipring_producer_open(NULL, &options, &tx), -SLIPRING_EINVAL);
    options = options_of(SLIPRING_SPSC);
    options.capacity = SIZE_MAX;
    CHECK_CODE(slipring_producer_open(NULL, &options, &tx), -SLIPRING_EINVAL);
    options = options_of(SLIPRING_STREAM);
    CHECK_CODE(slipring_producer_open(NULL, &options, &tx), -SLIPRING_EOPNOTSUPP);
    options = options_of(SLIPRING_SPSC);
    options.idle = 77;
    CHECK_CODE(slipring_producer_open(NULL, &options, &tx), -SLIPRING_EINVAL);
    options = options_of(SLIPRING_ANY);
    options.flags = SLIPRING_FROM_FD;
    for (int fd = -1; fd <= 1000000; fd += 1000001) {
        options.fd = fd;
        CHECK_CODE(slipring_producer_open(NULL, &options, &tx), -SLIPRING_EINVAL);
    }
    options.fd = STDERR_FILENO;
    CHECK(slipring_producer_open(NULL, &options, &tx) < 0);
    CHECK_CODE(slipring_producer_open("no/such", NULL, &tx), -SLIPRING_EINVAL);
    CHECK_CODE(slipring_producer_open("\xff", NULL, &tx), -SLIPRING_EINVAL);
    CHECK_CODE(slipring_producer_open("absent", NULL, &tx), -SLIPRING_ENOENT);
    CHECK_CODE(slipring_producer_open("pigeon:coop", NULL, &tx), -SLIPRING_EINVAL);
    CHECK(strstr(slipring_last_error(), "known schemes") != NULL);

    slipring_info info = {.struct_size = 3};
    options = options_of(SLIPRING_SPSC);
    CHECK_OK(slipring_producer_open(NULL, &options, &tx));
    CHECK_CODE(slipring_get_info(tx, &info), -SLIPRING_EINVAL);
    CHECK_OK(slipring_close(tx));
}

/* Options that mean nothing to the kind are refused, before anything is created. */
TEST(options_of_another_kind) {
    slipring_producer *tx;
    slipring_consumer *rx;
    slipring_options options;
#define OF_KIND(of, member, value, text)                                                           \
    do {                                                                                           \
        options = options_of(of);                                                                  \
        options.member = (value);                                                                  \
        CHECK_CODE(slipring_producer_open("no_such", &options, &tx), -SLIPRING_EINVAL);            \
        CHECK(tx == NULL && strstr(slipring_last_error(), text) != NULL);                          \
        CHECK(strstr(text, "must") || strstr(slipring_last_error(), #of) != NULL);                 \
        CHECK_CODE(slipring_consumer_open("no_such", &options, &rx), -SLIPRING_EINVAL);            \
        CHECK_CODE(slipring_consumer_open(NULL, &options, &rx), -SLIPRING_EINVAL);                 \
        CHECK_CODE(slipring_remove("no_such", NULL), -SLIPRING_ENOENT);                            \
    } while (0)
    OF_KIND(SLIPRING_SPSC, slow, 7, "options.slow: must");
    OF_KIND(SLIPRING_BROADCAST, slow, 7, "options.slow: must");
    OF_KIND(SLIPRING_BROADCAST, slow, -1, "options.slow: must");
    OF_KIND(SLIPRING_BROADCAST, slow, SLIPRING_SLOW_EVICT, "options.slow: must"); /* all, after 0 ns */
    OF_KIND(SLIPRING_BROADCAST, start, 2, "options.start: must");
    OF_KIND(SLIPRING_MPSC, start, 2, "options.start: must");
    OF_KIND(SLIPRING_SPSC, slow, SLIPRING_SLOW_FAIL, "options.slow:");
    OF_KIND(SLIPRING_MPMC, start, SLIPRING_START_OLDEST, "options.start:");
    OF_KIND(SLIPRING_SPSC, lanes, 2, "options.lanes:");
    OF_KIND(SLIPRING_BROADCAST, lanes, 2, "options.lanes:");
    OF_KIND(SLIPRING_SPSC, payload, 64, "options.payload:");
    OF_KIND(SLIPRING_MPSC, payload, 64, "options.payload:");
    OF_KIND(SLIPRING_SPSC, flags, SLIPRING_LOSSY, "SLIPRING_LOSSY");
    OF_KIND(SLIPRING_MPMC, flags, SLIPRING_LOSSY, "SLIPRING_LOSSY");
    OF_KIND(SLIPRING_BROADCAST, flags, SLIPRING_AT_MOST_ONCE, "SLIPRING_AT_MOST_ONCE");
    OF_KIND(SLIPRING_SPSC, participants, 1, "options.participants:");
    OF_KIND(SLIPRING_BROADCAST, participants, 1, "options.participants:");

    /* The same of a ring that is there, whose kind is not stated, and of an endpoint. */
    CHECK_OK(slipring_producer_open("ring:plain?kind=spsc", NULL, &tx));
    options = options_of(SLIPRING_ANY);
    options.flags = SLIPRING_LOSSY;
    CHECK_CODE(slipring_consumer_open("plain", &options, &rx), -SLIPRING_EINVAL);
    CHECK(strstr(slipring_last_error(), "SLIPRING_LOSSY") && strstr(slipring_last_error(), "SLIPRING_SPSC"));
    CHECK_OK(slipring_close(tx));
    options = options_of(SLIPRING_ANY);
    options.slow = SLIPRING_SLOW_FAIL;
    CHECK_CODE(slipring_producer_open("ring:plain", &options, &tx), -SLIPRING_EINVAL);
    CHECK_OK(slipring_remove("plain", NULL));
    CHECK_CODE(slipring_producer_open("ring:plain?kind=spsc", &options, &tx), -SLIPRING_EINVAL);
    CHECK_CODE(slipring_producer_open("ring:plain", &options, &tx), -SLIPRING_EINVAL);
    CHECK_CODE(slipring_remove("plain", NULL), -SLIPRING_ENOENT);

    options = options_of(SLIPRING_STREAM);
    slipring_stream_writer *writer;
    options.lanes = 3;
    CHECK_CODE(slipring_stream_writer_open("no_such", &options, &writer), -SLIPRING_EINVAL);
    options = options_of(SLIPRING_LATEST);
    slipring_latest_writer *latest;
    options.slow = SLIPRING_SLOW_FAIL;
    CHECK_CODE(slipring_latest_writer_open("no_such", &options, &latest), -SLIPRING_EINVAL);
    options = options_of(SLIPRING_ANY);
    slipring_server *server;
    options.lanes = 3;
    CHECK_CODE(slipring_server_open("no_such", 1, &options, &server), -SLIPRING_EINVAL);
    options = options_of(SLIPRING_SPSC);
    options.evict_after_ns = 5;
    CHECK_CODE(slipring_producer_open("no_such", &options, &tx), -SLIPRING_EINVAL);
    CHECK(strstr(slipring_last_error(), "evict_after_ns") != NULL);
    CHECK_CODE(slipring_remove("no_such", NULL), -SLIPRING_ENOENT);
}

/* Opens everything that has a name, and gets this error. */
static void check_every_open(const char *name, const slipring_options *options, int wanted, const char *text) {
    slipring_producer *tx;
    slipring_consumer *rx;
    slipring_stream_writer *writer;
    slipring_stream_reader *reader;
    slipring_latest_writer *latest_writer;
    slipring_latest_reader *latest_reader;
    slipring_semaphore *semaphore;
    slipring_signal_semaphore *signals;
    slipring_mutex *mutex;
    slipring_event *event;
    slipring_client *client;
    slipring_server *server;
#define REFUSED(call, handle)                                                                      \
    do {                                                                                           \
        CHECK_CODE(call, wanted);                                                                  \
        CHECK(handle == NULL && strstr(slipring_last_error(), text) != NULL);                      \
    } while (0)
    REFUSED(slipring_producer_open(name, options, &tx), tx);
    REFUSED(slipring_consumer_open(name, options, &rx), rx);
    REFUSED(slipring_stream_writer_open(name, options, &writer), writer);
    REFUSED(slipring_stream_reader_open(name, options, &reader), reader);
    REFUSED(slipring_latest_writer_open(name, options, &latest_writer), latest_writer);
    REFUSED(slipring_latest_reader_open(name, options, &latest_reader), latest_reader);
    REFUSED(slipring_semaphore_open(name, options, &semaphore), semaphore);
    REFUSED(slipring_signal_semaphore_open(name, options, &signals), signals);
    REFUSED(slipring_mutex_open(name, options, &mutex), mutex);
    REFUSED(slipring_event_open(name, options, &event), event);
    REFUSED(slipring_client_open(name, options, &client), client);
    REFUSED(slipring_server_open(name, 1, options, &server), server);
}

/* One member of otherwise plain options. */
#define OPTIONS_WITH(member, value)                                                                \
    (options = options_of(SLIPRING_ANY), options.connect_timeout_ns = 1, options.member = (value), &options)

/* Options that have no effect are refused. */
TEST(options_without_effect) {
    slipring_options options;
    slipring_producer *tx;
    slipring_consumer *rx;
    slipring_semaphore *semaphore;
    slipring_mutex *mutex;
    slipring_client *client;
    slipring_server *server;
    const char *const unix_socket = "unix:/nowhere/socket";

    open_pair(&tx, &rx);
    OPTIONS_WITH(fd, slipring_segment_fd(tx))->flags = SLIPRING_FROM_FD;
    check_every_open("no_such", &options, -SLIPRING_EINVAL, "SLIPRING_FROM_FD");
    check_every_open("no_such", OPTIONS_WITH(fd, slipring_segment_fd(tx)), -SLIPRING_EINVAL, "options.fd");
    CHECK_OK(slipring_close(tx));
    CHECK_OK(slipring_close(rx));

#define ENDPOINT_REFUSES(member, value)                                                            \
    do {                                                                                           \
        const char *const endpoints[] = {"ring:no_such?kind=spsc", unix_socket};                   \
        for (int i = 0; i < 2; i++) {                                                              \
            CHECK_CODE(slipring_producer_open(endpoints[i], OPTIONS_WITH(member, value), &tx), -SLIPRING_EINVAL); \
            CHECK(tx == NULL && strstr(slipring_last_error(), "endpoint's text") != NULL);        \
            CHECK_CODE(slipring_consumer_open(endpoints[i], &options, &rx), -SLIPRING_EINVAL);     \
        }                                                                                          \
        CHECK_CODE(slipring_client_open(unix_socket, &options, &client), -SLIPRING_EINVAL);        \
        CHECK_CODE(slipring_server_open(unix_socket, 1, &options, &server), -SLIPRING_EINVAL);     \
        CHECK_CODE(slipring_duplex_open(unix_socket, &options, &tx, &rx), -SLIPRING_EINVAL);       \
    } while (0)
    ENDPOINT_REFUSES(kind, SLIPRING_MPMC);
    ENDPOINT_REFUSES(capacity, 4096);
    ENDPOINT_REFUSES(payload, 64);
    ENDPOINT_REFUSES(lanes, 2);
    ENDPOINT_REFUSES(participants, 3);
    ENDPOINT_REFUSES(mode, 0660);
    ENDPOINT_REFUSES(idle, SLIPRING_IDLE_SPIN);
    ENDPOINT_REFUSES(start, SLIPRING_START_OLDEST);
    ENDPOINT_REFUSES(flags, SLIPRING_LOSSY);
    CHECK_CODE(slipring_remove("no_such", NULL), -SLIPRING_ENOENT); /* nothing was created */

    CHECK_CODE(slipring_client_open(unix_socket, OPTIONS_WITH(directory, "/tmp"), &client), -SLIPRING_EOPNOTSUPP);
    CHECK_CODE(slipring_server_open(unix_socket, 1, &options, &server), -SLIPRING_EOPNOTSUPP);
    CHECK_CODE(slipring_client_open(unix_socket, OPTIONS_WITH(message_type, "a"), &client), -SLIPRING_EOPNOTSUPP);
    CHECK_CODE(slipring_server_open(unix_socket, 1, &options, &server), -SLIPRING_EOPNOTSUPP);
    CHECK_CODE(slipring_client_open("no_such", &options, &client), -SLIPRING_EOPNOTSUPP);
    CHECK_CODE(slipring_server_open("no_such", 1, &options, &server), -SLIPRING_EOPNOTSUPP);
    CHECK(client == NULL && server == NULL && strstr(slipring_last_error(), "message_type") != NULL);

    CHECK_CODE(slipring_semaphore_open(NULL, OPTIONS_WITH(mode, 0660), &semaphore), -SLIPRING_EINVAL);
    CHECK_CODE(slipring_semaphore_open(NULL, OPTIONS_WITH(kind, SLIPRING_SPSC), &semaphore), -SLIPRING_EINVAL);
    CHECK_CODE(slipring_mutex_open(NULL, OPTIONS_WITH(payload, 64), &mutex), -SLIPRING_EINVAL);
    CHECK_CODE(slipring_mutex_open(NULL, OPTIONS_WITH(flags, SLIPRING_PREFAULT), &mutex), -SLIPRING_EINVAL);

    /* What an endpoint of a ring does have. */
    CHECK_OK(slipring_producer_open("ring:typed?kind=spsc", OPTIONS_WITH(message_type, "a"), &tx));
    CHECK_CODE(slipring_consumer_open("ring:typed", OPTIONS_WITH(message_type, "b"), &rx), -SLIPRING_EOTHERTYPE);
    CHECK_OK(slipring_close(tx));
    CHECK_OK(slipring_remove("typed", NULL));
}

TEST(misaligned_pointers) {
    _Alignas(16) char memory[512] = {0};
    void *const odd = memory + 1;
    slipring_options options = options_of(SLIPRING_ANY);
    slipring_producer *tx;
    slipring_consumer *rx;
    slipring_mutex *mutex;
    slipring_wait_set *set;
    slipring_waker *waker;
    slipring_client *client;
    slipring_server *server;
    slipring_request request;
    slipring_frame frame;
    slipring_stream_writer *writer;
    slipring_latest_writer *latest_writer;
    slipring_latest_reader *latest_reader;
    slipring_ringbuffer_t *buffer = slipring_ringbuffer_create(4096);
    void *data;
    const void *reply;
    size_t len;
    char copy[8];
#define MISALIGNED(call)                                                                           \
    do {                                                                                           \
        CHECK_CODE(call, -SLIPRING_EINVAL);                                                        \
        CHECK(strstr(slipring_last_error(), "misaligned") != NULL);                                \
        for (size_t i = 0; i < sizeof memory; i++) {                                               \
            CHECK(memory[i] == 0);                                                                 \
        }                                                                                          \
    } while (0)
    MISALIGNED(slipring_producer_open(NULL, odd, &tx));
    MISALIGNED(slipring_semaphore_open(NULL, odd, odd));
    MISALIGNED(slipring_producer_open(NULL, NULL, odd));
    MISALIGNED(slipring_wait_set_open(odd));
    MISALIGNED(slipring_duplex_open("tcp:localhost:1", NULL, &tx, odd));
    CHECK(tx == NULL);

    open_pair(&tx, &rx);
    MISALIGNED(slipring_reserve(tx, 1, odd, 0));
    CHECK_OK(slipring_send(tx, "x", 1, 0)); /* nothing is reserved */
    MISALIGNED(slipring_reserve(tx, 1, odd, 0)); /* also as a quick call */
    MISALIGNED(slipring_send_batch(tx, odd, 1, 0));
    MISALIGNED(slipring_recv(rx, odd, 0));
    MISALIGNED(slipring_recv_batch(rx, odd, 1, 0));
    MISALIGNED(slipring_recv_into(rx, copy, sizeof copy, odd, 0));
    CHECK_OK(slipring_recv(rx, &frame, 0));
    CHECK_OK(slipring_keep(rx));
    MISALIGNED(slipring_recv(rx, odd, 0)); /* quick calls */
    MISALIGNED(slipring_recv_next(rx, odd, 0));
    MISALIGNED(slipring_recv_into(rx, copy, sizeof copy, odd, 0));
    CHECK_OK(slipring_recv(rx, &frame, 0)); /* it was neither received nor released */
    CHECK(frame.len == 1 && *(const char *)frame.data == 'x');
    MISALIGNED(slipring_get_info(rx, odd));
    CHECK_OK(slipring_close(tx));
    CHECK_OK(slipring_close(rx));

    options.capacity = 8;
    CHECK_OK(slipring_mutex_open(NULL, &options, &mutex));
    MISALIGNED(slipring_mutex_lock(mutex, odd, &len, 0));
    MISALIGNED(slipring_mutex_lock(mutex, &data, odd, 0));
    CHECK_OK(slipring_mutex_lock(mutex, NULL, NULL, 0));
    CHECK_OK(slipring_close(mutex));

    CHECK_OK(slipring_wait_set_open(&set));
    CHECK_OK(slipring_waker_open(set, 1, &waker));
    MISALIGNED(slipring_waker_open(set, 1, odd));
    CHECK_OK(slipring_wake(waker));
    MISALIGNED(slipring_wait_set_wait(set, odd, 1, 0));
    CHECK_OK(slipring_close(set));
    CHECK_OK(slipring_close(waker));

    CHECK_OK(slipring_stream_writer_open(NULL, NULL, &writer));
    MISALIGNED(slipring_stream_write_vector(writer, odd));
    CHECK_OK(slipring_close(writer));

    CHECK_OK(slipring_latest_writer_open(NULL, NULL, &latest_writer));
    options = options_of(SLIPRING_ANY);
    options.flags = SLIPRING_FROM_FD;
    options.fd = slipring_segment_fd(latest_writer);
    CHECK_OK(slipring_latest_reader_open(NULL, &options, &latest_reader));
    CHECK_CODE(slipring_latest_write(latest_writer, 0, "x", 1), 1);
    MISALIGNED(slipring_latest_read(latest_reader, 0, copy, sizeof copy, odd, 0));
    MISALIGNED(slipring_latest_watch(latest_reader, odd, 1));
    CHECK_OK(slipring_close(latest_reader));
    CHECK_OK(slipring_close(latest_writer));

    CHECK_OK(slipring_server_open("odd", 1, NULL, &server));
    CHECK_OK(slipring_client_open("odd", NULL, &client));
    MISALIGNED(slipring_call(client, "x", 1, odd, &len, LONG_TIME));
    MISALIGNED(slipring_call(client, "x", 1, &reply, odd, LONG_TIME));
    CHECK_CODE(slipring_call_start(client, "x", 1, 1000000), -SLIPRING_ETIMEDOUT);
    CHECK_CODE(slipring_server_recv(server, &request, 0), -SLIPRING_EAGAIN); /* answers the client's search */
    CHECK_CODE(slipring_call_start(client, "x", 1, LONG_TIME), 1);
    MISALIGNED(slipring_server_recv(server, odd, LONG_TIME));
    MISALIGNED(slipring_call_finish(client, 1, odd, &len, LONG_TIME));
    CHECK_OK(slipring_close(client));
    CHECK_OK(slipring_close(server));
    CHECK_OK(slipring_server_remove("odd", NULL));

    CHECK(slipring_ringbuffer_write(buffer, "x", 1) == 1);
    slipring_ringbuffer_get_read_vector(buffer, odd);
    MISALIGNED(-SLIPRING_EINVAL); /* no code is returned */
    slipring_ringbuffer_get_write_vector(buffer, odd);
    MISALIGNED(-SLIPRING_EINVAL);
    slipring_ringbuffer_free(buffer);
}

TEST(what_is_held_and_what_is_not) {
    slipring_producer *tx;
    slipring_consumer *rx;
    slipring_frame frame;
    void *data, *second;
    open_pair(&tx, &rx);
    CHECK_CODE(slipring_commit(tx, 0), -SLIPRING_ENOTHELD);
    CHECK_CODE(slipring_abort(tx), -SLIPRING_ENOTHELD);
    CHECK_CODE(slipring_release(rx), -SLIPRING_ENOTHELD);
    CHECK_CODE(slipring_keep(rx), -SLIPRING_ENOTHELD);
    CHECK_OK(slipring_reserve(tx, 8, &data, 0));
    CHECK_CODE(slipring_reserve(tx, 8, &second, 0), -SLIPRING_EHELD);
    CHECK(second == NULL);
    CHECK_CODE(slipring_send(tx, "x", 1, 0), -SLIPRING_EHELD);
    CHECK_CODE(slipring_commit(tx, 9), -SLIPRING_EMSGSIZE);
    CHECK_CODE(slipring_commit_frame(tx, 3, 0, 8), -SLIPRING_EINVAL); /* a reserved kind */
    memcpy(data, "12345678", 8);
    CHECK_OK(slipring_commit(tx, 8));
    CHECK_OK(slipring_recv(rx, &frame, 0));
    CHECK_CODE(slipring_recv(rx, &frame, 0), -SLIPRING_EHELD);
    CHECK_CODE(slipring_recv_into(rx, &second, sizeof second, &frame, 0), -SLIPRING_EHELD);
    CHECK_CODE(slipring_fd(rx), -SLIPRING_EHELD);
    CHECK_OK(slipring_release(rx));
    CHECK_CODE(slipring_release(rx), -SLIPRING_ENOTHELD);
    CHECK_CODE(slipring_reserve(tx, SIZE_MAX, &data, 0), -SLIPRING_EMSGSIZE);
    CHECK_CODE(slipring_reserve(tx, 1 << 30, &data, 0), -SLIPRING_EMSGSIZE);
    /* Closed with both held. */
    CHECK_OK(slipring_send(tx, "x", 1, 0));
    CHECK_OK(slipring_reserve(tx, 8, &data, 0));
    CHECK_OK(slipring_recv(rx, &frame, 0));
    CHECK_OK(slipring_close(tx));
    CHECK_OK(slipring_close(rx));
}

static slipring_producer *shared_tx;
static slipring_consumer *shared_rx;

static void *call_as_stranger(void *argument) {
    slipring_frame frame;
    (void)argument;
    CHECK_CODE(slipring_send(shared_tx, "x", 1, 0), -SLIPRING_EWRONGTHREAD);
    CHECK_CODE(slipring_recv(shared_rx, &frame, 0), -SLIPRING_EWRONGTHREAD);
    CHECK(strstr(slipring_last_error(), "another thread") != NULL);
    return NULL;
}

static void *take_over(void *argument) {
    (void)argument;
    CHECK_OK(slipring_take(shared_tx));
    CHECK_OK(slipring_send(shared_tx, "taken", 5, 0));
    return NULL;
}

TEST(foreign_thread) {
    pthread_t thread;
    slipring_frame frame;
    open_pair(&shared_tx, &shared_rx);
    CHECK_OK(slipring_send(shared_tx, "x", 1, 0));
    CHECK_CODE(slipring_recv(shared_rx, &frame, 0), SLIPRING_FRAME);
    CHECK_OK(slipring_release(shared_rx));
    CHECK(pthread_create(&thread, NULL, call_as_stranger, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(pthread_create(&thread, NULL, take_over, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK_CODE(slipring_recv(shared_rx, &frame, 0), SLIPRING_FRAME);
    CHECK(frame.len == 5);
    CHECK_CODE(slipring_send(shared_tx, "x", 1, 0), -SLIPRING_EWRONGTHREAD);
    /* Its owner has ended: any thread may close it. */
    CHECK_OK(slipring_close(shared_tx));
    CHECK_OK(slipring_close(shared_rx));
}

static slipring_canceller *shared_canceller;
static int is_waiting;

static void *wait_for_a_frame(void *argument) {
    slipring_frame frame;
    (void)argument;
    CHECK_OK(slipring_canceller_open(shared_rx, &shared_canceller));
    __atomic_store_n(&is_waiting, 1, __ATOMIC_RELEASE);
    CHECK_CODE(slipring_recv(shared_rx, &frame, LONG_TIME), -SLIPRING_ECANCELED);
    return NULL;
}

TEST(closing_during_a_call_of_the_owner) {
    pthread_t thread;
    int code;
    open_pair(&shared_tx, &shared_rx);
    CHECK(pthread_create(&thread, NULL, wait_for_a_frame, NULL) == 0);
    while (!__atomic_load_n(&is_waiting, __ATOMIC_ACQUIRE)) {
        usleep(100);
    }
    /* The owner may not have entered its call yet, and then this one takes the handle over for an
       instant, and the owner would be refused: so the handle is only taken, while it is free. */
    usleep(200000);
    code = slipring_close(shared_rx);
    CHECK_CODE(code, -SLIPRING_EBUSY);
    CHECK_CODE(slipring_take(shared_rx), -SLIPRING_EBUSY);
    CHECK_OK(slipring_cancel(shared_canceller));
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK_OK(slipring_close(shared_rx));
    CHECK_CODE(slipring_close(shared_rx), -SLIPRING_EHANDLE);
    CHECK_OK(slipring_close(shared_canceller));
    CHECK_CODE(slipring_cancel(shared_canceller), -SLIPRING_EHANDLE);
    CHECK_OK(slipring_close(shared_tx));
}

/* Threads that close, take and use the same handles: every call returns, none is of two threads. */
static void *fight(void *argument) {
    slipring_frame frame;
    unsigned *seed = argument;
    for (int i = 0; i < 20000; i++) {
        switch (rand_r(seed) % 4) {
        case 0:
            slipring_take(shared_rx);
            break;
        case 1:
            if (slipring_recv(shared_rx, &frame, 0) == SLIPRING_FRAME) {
                slipring_release(shared_rx);
            }
            break;
        case 2:
            if (slipring_take(shared_tx) == 0) {
                slipring_send(shared_tx, "x", 1, 0);
            }
            break;
        default:
            slipring_recv_next(shared_rx, &frame, 0);
            slipring_release(shared_rx);
        }
    }
    return NULL;
}

TEST(threads_that_fight_for_a_handle) {
    pthread_t threads[4];
    unsigned seeds[4] = {1, 2, 3, 4};
    open_pair(&shared_tx, &shared_rx);
    for (int i = 0; i < 4; i++) {
        CHECK(pthread_create(&threads[i], NULL, fight, &seeds[i]) == 0);
    }
    for (int i = 0; i < 4; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    CHECK_OK(slipring_close(shared_tx));
    CHECK_OK(slipring_close(shared_rx));
}

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1
#endif
#endif

#ifndef __SANITIZE_THREAD__ /* it delays signals until the blocked call has returned */
static int code_in_handler;

static void on_signal(int signal) {
    (void)signal;
    slipring_frame frame;
    code_in_handler = slipring_recv(shared_rx, &frame, 0);
    slipring_cancel(shared_canceller);
}

TEST(a_signal_handler_within_a_call) {
    slipring_frame frame;
    struct sigaction action = {.sa_handler = on_signal};
    open_pair(&shared_tx, &shared_rx);
    CHECK_OK(slipring_canceller_open(shared_rx, &shared_canceller));
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    pid_t parent = getpid(), child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        /* Until the parent has ended its call and kills this process. */
        while (getppid() == parent) {
            usleep(20000);
            kill(parent, SIGUSR1);
        }
        _exit(1);
    }
    CHECK_CODE(slipring_recv(shared_rx, &frame, LONG_TIME), -SLIPRING_ECANCELED);
    kill(child, SIGKILL);
    CHECK(end_peer(child) == 1000 + SIGKILL);
    CHECK(code_in_handler == -SLIPRING_EBUSY || code_in_handler == -SLIPRING_EAGAIN ||
          code_in_handler == -SLIPRING_ECANCELED);
    CHECK_OK(slipring_close(shared_canceller));
    CHECK_OK(slipring_close(shared_tx));
    CHECK_OK(slipring_close(shared_rx));
}

#endif

TEST(fork_without_exec) {
    slipring_producer *tx;
    slipring_consumer *rx;
    slipring_frame frame;
    void *data;
    open_pair(&tx, &rx);
    CHECK_OK(slipring_send(tx, "x", 1, 0));
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK_CODE(slipring_send(tx, "x", 1, 0), -SLIPRING_EFORKED);
        CHECK_CODE(slipring_reserve(tx, 1, &data, 0), -SLIPRING_EFORKED);
        CHECK_CODE(slipring_recv(rx, &frame, 0), -SLIPRING_EFORKED);
        CHECK(strstr(slipring_last_error(), "fork") != NULL);
        CHECK_OK(slipring_close(tx));
        CHECK_OK(slipring_close(rx));
        open_pair(&tx, &rx); /* its own work */
        CHECK_OK(slipring_close(tx));
        CHECK_OK(slipring_close(rx));
        exit(0);
    }
    CHECK(end_peer(child) == 0);
    CHECK_CODE(slipring_recv(rx, &frame, 0), SLIPRING_FRAME);
    CHECK_OK(slipring_release(rx));
    CHECK_OK(slipring_send(tx, "y", 1, 0));
    CHECK_OK(slipring_close(tx));
    CHECK_OK(slipring_close(rx));
}

/* A call after another one that left something behind: nothing of it is taken for granted. */
TEST(every_state_after_another) {
    slipring_producer *tx;
    slipring_consumer *rx;
    slipring_frame frame, frames[2];
    void *data;
    char copy[1];
    open_pair(&tx, &rx);
    for (int i = 0; i < 3; i++) {
        CHECK_OK(slipring_send(tx, "1", 1, 0));
        CHECK_OK(slipring_reserve(tx, 1, &data, 0));
        CHECK_CODE(slipring_send(tx, "2", 1, 0), -SLIPRING_EHELD);
        CHECK_OK(slipring_abort(tx));
        CHECK_OK(slipring_send(tx, "2", 1, 0));
        CHECK_OK(slipring_send_frame(tx, 0x123, 4, "3", 1, 0));
        CHECK_OK(slipring_send(tx, "four", 4, 0));

        CHECK_OK(slipring_recv_next(rx, &frame, 0));
        CHECK(*(const char *)frame.data == '1' && frame.len == 1);
        CHECK_OK(slipring_keep(rx));
        CHECK_OK(slipring_recv_next(rx, &frame, 0));
        CHECK(*(const char *)frame.data == '1' && frame.kind == SLIPRING_DEFAULT_KIND);
        CHECK_OK(slipring_recv_next(rx, &frame, 0));
        CHECK(*(const char *)frame.data == '2' && frame.seq == 3 * (unsigned)i + 1 && frame.flags == 0);
        CHECK_OK(slipring_release(rx));
        CHECK_CODE(slipring_recv_batch(rx, frames, 1, 0), 1);
        CHECK(frames[0].kind == 0x123 && frames[0].stream == 4);
        CHECK_CODE(slipring_recv_into(rx, copy, 1, &frame, 0), -SLIPRING_EHELD);
        CHECK_OK(slipring_recv_next(rx, &frame, 0)); /* instead of a batch */
        CHECK(frame.len == 4);
        CHECK_OK(slipring_keep(rx));
        CHECK_CODE(slipring_recv_into(rx, copy, 1, &frame, 0), -SLIPRING_EMSGSIZE);
        CHECK_OK(slipring_recv_next(rx, &frame, 0));
        CHECK(frame.len == 4 && memcmp(frame.data, "four", 4) == 0);
        CHECK_CODE(slipring_recv_next(rx, &frame, 0), -SLIPRING_EAGAIN); /* and the last is released */
        CHECK_CODE(slipring_release(rx), -SLIPRING_ENOTHELD);
        if (i == 1) {
            CHECK(slipring_fd(rx) >= 0); /* from now on it has a doorbell */
        }
    }
    CHECK_OK(slipring_close(tx));
    CHECK_CODE(slipring_recv_next(rx, &frame, 0), -SLIPRING_EPIPE);
    CHECK_OK(slipring_close(rx));
}

static slipring_wait_set *shared_set;
static slipring_event *shared_event;

/* For a thread whose handle another one takes, to learn whether it is in its call. */
#define AGAIN_IF_TAKEN(handle, code, call)                                                         \
    do {                                                                                           \
        slipring_take(handle);                                                                     \
        code = (call);                                                                             \
    } while (code == -SLIPRING_EWRONGTHREAD || code == -SLIPRING_EBUSY)

static void *wait_for_the_event(void *argument) {
    int code;
    (void)argument;
    AGAIN_IF_TAKEN(shared_event, code, slipring_event_wait(shared_event, LONG_TIME));
    CHECK_OK(code);
    return NULL;
}

static void *wait_in_the_set(void *argument) {
    size_t tokens[2];
    int64_t code;
    (void)argument;
    AGAIN_IF_TAKEN(shared_set, code, slipring_wait_set_wait(shared_set, tokens, 2, LONG_TIME));
    CHECK_CODE(code, 1);
    return NULL;
}

/* In a child every call gets the same code, also on what was held, and closing works, also of what
   another thread of the parent is waiting for. */
TEST(every_handle_in_a_forked_child) {
    slipring_options options = options_of(SLIPRING_ANY);
    slipring_info info = {.struct_size = sizeof info};
    slipring_producer *tx;
    slipring_consumer *rx;
    slipring_semaphore *semaphore;
    slipring_mutex *mutex;
    slipring_waker *waker;
    slipring_canceller *canceller;
    slipring_frame frame;
    slipring_ringbuffer_t *buffer = slipring_ringbuffer_create(4096);
    pthread_t threads[2];
    void *data;
    size_t len;
    options.capacity = 2;
    open_pair(&tx, &rx);
    CHECK_OK(slipring_send(tx, "x", 1, 0));
    CHECK_OK(slipring_canceller_open(rx, &canceller));
    CHECK_OK(slipring_recv(rx, &frame, 0));
    CHECK_OK(slipring_reserve(tx, 1, &data, 0));
    CHECK_OK(slipring_semaphore_open(NULL, &options, &semaphore));
    CHECK_OK(slipring_semaphore_acquire(semaphore, 0));
    CHECK_OK(slipring_mutex_open(NULL, &options, &mutex));
    CHECK_OK(slipring_mutex_lock(mutex, &data, &len, 0));
    CHECK_OK(slipring_event_open(NULL, &options, &shared_event));
    int shared_event_fd = slipring_segment_fd(shared_event);
    CHECK(shared_event_fd >= 0);
    CHECK_OK(slipring_wait_set_open(&shared_set));
    CHECK_OK(slipring_waker_open(shared_set, 1, &waker));
    CHECK(slipring_ringbuffer_write(buffer, "x", 1) == 1);
    CHECK(pthread_create(&threads[0], NULL, wait_for_the_event, NULL) == 0);
    CHECK(pthread_create(&threads[1], NULL, wait_in_the_set, NULL) == 0);
    while (slipring_take(shared_set) != -SLIPRING_EBUSY || slipring_take(shared_event) != -SLIPRING_EBUSY) {
        usleep(1000);
    }
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        char byte;
        CHECK_CODE(slipring_commit(tx, 1), -SLIPRING_EFORKED);
        CHECK_CODE(slipring_abort(tx), -SLIPRING_EFORKED);
        CHECK_CODE(slipring_get_info(tx, &info), -SLIPRING_EFORKED);
        CHECK_CODE(slipring_release(rx), -SLIPRING_EFORKED);
        CHECK_CODE(slipring_keep(rx), -SLIPRING_EFORKED);
        CHECK_CODE(slipring_fd(rx), -SLIPRING_EFORKED);
        CHECK_CODE(slipring_take(rx), -SLIPRING_EFORKED);
        CHECK_CODE(slipring_semaphore_release(semaphore), -SLIPRING_EFORKED);
        CHECK_CODE(slipring_semaphore_available(semaphore), -SLIPRING_EFORKED);
        CHECK_CODE(slipring_mutex_mark_consistent(mutex), -SLIPRING_EFORKED);
        CHECK_CODE(slipring_mutex_unlock(mutex), -SLIPRING_EFORKED);
        CHECK_CODE(slipring_event_wait(shared_event, 0), -SLIPRING_EFORKED);
        CHECK_CODE(slipring_wait_set_remove(shared_set, 1), -SLIPRING_EFORKED);
        CHECK_CODE(slipring_wake(waker), -SLIPRING_EFORKED);
        CHECK_CODE(slipring_cancel(canceller), -SLIPRING_EFORKED);
        CHECK_CODE(slipring_canceller_reset(canceller), -SLIPRING_EFORKED);
        CHECK(slipring_ringbuffer_read(buffer, &byte, 1) == 0);
        CHECK(strstr(slipring_last_error(), "fork") != NULL);
        CHECK_OK(slipring_close(tx));
        CHECK_OK(slipring_close(rx));
        CHECK_OK(slipring_close(semaphore));
        CHECK_OK(slipring_close(mutex));
        CHECK_OK(slipring_close(shared_event));
        CHECK_OK(slipring_close(shared_set));
        CHECK_OK(slipring_close(waker));
        CHECK_OK(slipring_close(canceller));
        slipring_ringbuffer_free(buffer);
        CHECK_CODE(slipring_close(tx), -SLIPRING_EHANDLE);
        raise(SIGKILL); /* valgrind would report what the other threads of the parent own */
    }
    CHECK(end_peer(child) == 1000 + SIGKILL);
    CHECK_OK(slipring_wake(waker));
    CHECK(pthread_join(threads[1], NULL) == 0);
    options.flags = SLIPRING_FROM_FD;
    slipring_event *same;
    options.fd = shared_event_fd;
    CHECK_OK(slipring_event_open(NULL, &options, &same));
    CHECK_OK(slipring_event_set(same));
    CHECK(pthread_join(threads[0], NULL) == 0);
    CHECK_OK(slipring_commit(tx, 1));
    CHECK_OK(slipring_release(rx));
    CHECK_OK(slipring_semaphore_release(semaphore));
    CHECK_OK(slipring_mutex_unlock(mutex));
    CHECK(slipring_ringbuffer_read_space(buffer) == 1);
    slipring_ringbuffer_free(buffer);
    void *all[] = {tx, rx, semaphore, mutex, shared_event, same, shared_set, waker, canceller};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        CHECK_OK(slipring_close(all[i]));
    }
}

#ifndef __SANITIZE_THREAD__
static sigjmp_buf before_the_call;

static void leave_the_call(int signal) {
    (void)signal;
    siglongjmp(before_the_call, 1);
}

static void *leave_a_call_and_end(void *argument) {
    slipring_frame frame;
    sigset_t signals;
    int code;
    (void)argument;
    do {
        if (sigsetjmp(before_the_call, 1) == 0) {
            __atomic_store_n(&is_waiting, 1, __ATOMIC_RELEASE);
            slipring_recv(shared_rx, &frame, LONG_TIME);
        }
        code = slipring_release(shared_rx);
    } while (code == -SLIPRING_ENOTHELD); /* the signal came before the call */
    CHECK_CODE(code, -SLIPRING_EBUSY); /* as the header says */
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    CHECK(pthread_sigmask(SIG_BLOCK, &signals, NULL) == 0);
    __atomic_store_n(&is_waiting, 2, __ATOMIC_RELEASE);
    return NULL;
}

static void *set_an_event(void *argument) {
    slipring_event *event;
    (void)argument;
    CHECK_OK(slipring_event_open(NULL, NULL, &event));
    CHECK_OK(slipring_event_set(event));
    CHECK_OK(slipring_close(event));
    return NULL;
}

/* That is wrong, and stays with the thread that did it. */
TEST(a_thread_that_has_left_a_call_by_longjmp) {
    pthread_t thread;
    open_pair(&shared_tx, &shared_rx);
    CHECK(signal(SIGUSR1, leave_the_call) != SIG_ERR);
    CHECK(pthread_create(&thread, NULL, leave_a_call_and_end, NULL) == 0);
    for (int state = 0; state != 2; state = __atomic_load_n(&is_waiting, __ATOMIC_ACQUIRE)) {
        usleep(20000);
        if (state == 1) {
            CHECK(pthread_kill(thread, SIGUSR1) == 0);
        }
    }
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(pthread_create(&thread, NULL, set_an_event, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK_OK(slipring_close(shared_rx));
    CHECK_OK(slipring_close(shared_tx));
}
#endif

/* More than the table's first chunk, and each of them works. */
TEST(many_handles) {
    enum { N = 300 };
    slipring_event *events[N];
    slipring_producer *tx;
    slipring_consumer *rx;
    slipring_frame frame;
    for (int i = 0; i < N; i++) {
        CHECK_OK(slipring_event_open(NULL, NULL, &events[i]));
    }
    open_pair(&tx, &rx);
    for (int i = 0; i < 3; i++) {
        CHECK_OK(slipring_send(tx, "x", 1, 0));
        CHECK_OK(slipring_recv(rx, &frame, 0));
        CHECK_OK(slipring_release(rx));
    }
    CHECK_OK(slipring_close(tx));
    CHECK_OK(slipring_close(rx));
    for (int i = 0; i < N; i++) {
        CHECK_OK(slipring_event_set(events[i]));
        CHECK_OK(slipring_event_wait(events[i], 0));
        CHECK_OK(slipring_close(events[i]));
    }
}

/* Both handles of a call, or none. */
TEST(a_table_with_one_free_place) {
    enum { ALL = 65536 };
    static slipring_canceller *cancellers[ALL];
    slipring_event *event;
    slipring_producer *tx;
    slipring_consumer *rx;
    char endpoint[40];
    int ends[2], n = 0, code;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    snprintf(endpoint, sizeof endpoint, "fd:%d", ends[0]);
    CHECK_OK(slipring_event_open(NULL, NULL, &event));
    while ((code = slipring_canceller_open(event, &cancellers[n])) == 0) {
        n++;
    }
    CHECK_CODE(code, -SLIPRING_ETOOMANYHANDLES);
    CHECK_CODE(slipring_duplex_open(endpoint, NULL, &tx, &rx), -SLIPRING_ETOOMANYHANDLES);
    CHECK_OK(slipring_close(cancellers[--n]));
    CHECK_CODE(slipring_duplex_open(endpoint, NULL, &tx, &rx), -SLIPRING_ETOOMANYHANDLES);
    CHECK(tx == NULL && rx == NULL);
    CHECK(slipring_ringbuffer_create(4096) == NULL);
    CHECK_OK(slipring_canceller_open(event, &cancellers[n++])); /* the place is free still */
    CHECK_OK(slipring_close(cancellers[--n]));
    CHECK_OK(slipring_close(cancellers[--n]));
    CHECK_OK(slipring_duplex_open(endpoint, NULL, &tx, &rx));
    CHECK_OK(slipring_close(tx));
    CHECK_OK(slipring_close(rx));
    while (n > 0) {
        CHECK_OK(slipring_close(cancellers[--n]));
    }
    CHECK_OK(slipring_close(event));
}

TEST(every_code_has_a_text) {
    const int codes[] = {SLIPRING_EAGAIN,      SLIPRING_ETIMEDOUT,    SLIPRING_EPIPE,       SLIPRING_EINVAL,
                         SLIPRING_EMSGSIZE,    SLIPRING_ENOENT,       SLIPRING_EEXIST,      SLIPRING_EOPNOTSUPP,
                         SLIPRING_ECANCELED,   SLIPRING_EOVERFLOW,    SLIPRING_EBUSY,       SLIPRING_EPEERDEAD,
                         SLIPRING_EHANDLE,     SLIPRING_EWRONGTHREAD, SLIPRING_EFORKED,     SLIPRING_EHELD,
                         SLIPRING_ENOTHELD,    SLIPRING_EOTHERTYPE,   SLIPRING_EINCOMPATIBLE, SLIPRING_ECORRUPT,
                         SLIPRING_EUNTRUSTED,  SLIPRING_EROLETAKEN,   SLIPRING_ETOOMANY,    SLIPRING_ENOCONSUMER,
                         SLIPRING_EEVICTED,    SLIPRING_EOVERTAKEN,   SLIPRING_EUNANSWERED, SLIPRING_ETOOMANYHANDLES};
    const int n = sizeof codes / sizeof *codes;
    for (int i = 0; i < n; i++) {
        CHECK(slipring_strerror(codes[i]) == slipring_strerror(-codes[i]));
        CHECK(strcmp(slipring_strerror(codes[i]), "unknown code") != 0);
        for (int j = 0; j < i; j++) {
            CHECK(codes[i] != codes[j] && strcmp(slipring_strerror(codes[i]), slipring_strerror(codes[j])) != 0);
        }
    }
    CHECK(strcmp(slipring_strerror(9999), "unknown code") == 0);
    CHECK(slipring_strerror(-2147483647 - 1) != NULL);
    CHECK(strcmp(slipring_version(), SLIPRING_VERSION) == 0);
}
