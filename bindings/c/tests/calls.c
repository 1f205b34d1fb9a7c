/* Requests and replies, also while the server is killed; endpoints; peers in other languages. */

#include "check.h"

#include <pthread.h>


/* Answers each request by its text in reverse; "die" kills it while it has the request. */
PEER(server) {
    slipring_server *server;
    slipring_request request;
    CHECK_OK(slipring_server_open(peer_args[0], 16, NULL, &server));
    for (;;) {
        char reply[64];
        int code = slipring_server_recv(server, &request, LONG_TIME);
        if (code == -SLIPRING_EPIPE) {
            break;
        }
        CHECK_OK(code);
        CHECK(request.len <= sizeof reply);
        if (request.len == 3 && memcmp(request.data, "die", 3) == 0) {
            raise(SIGKILL);
        }
        if (request.len == 4 && memcmp(request.data, "stop", 4) == 0) {
            CHECK_OK(slipring_reply(server, request.id, NULL, 0));
            break;
        }
        for (size_t i = 0; i < request.len; i++) {
            reply[i] = ((const char *)request.data)[request.len - 1 - i];
        }
        CHECK_OK(slipring_reply(server, request.id, reply, request.len));
        CHECK_CODE(slipring_reply(server, request.id, reply, request.len), -SLIPRING_ENOTHELD);
    }
    CHECK_OK(slipring_close(server));
    return 0;
}

static void open_client(const char *name, slipring_client **client) {
    int code;
    while ((code = slipring_client_open(name, NULL, client)) == -SLIPRING_ENOENT) {
        usleep(1000); /* the server has not made its rings yet */
    }
    CHECK_OK(code);
}

TEST(calls_are_answered) {
    slipring_client *client;
    const void *reply;
    size_t len;
    pid_t pid = start_peer("server", "answers", NULL);
    open_client("answers", &client);
    for (int i = 0; i < 100; i++) {
        CHECK_OK(slipring_call(client, "abc", 3, &reply, &len, LONG_TIME));
        CHECK(len == 3 && memcmp(reply, "cba", 3) == 0);
    }
    int64_t one = slipring_call_start(client, "12", 2, LONG_TIME);
    int64_t two = slipring_call_start(client, "34", 2, LONG_TIME);
    int64_t three = slipring_call_start(client, "56", 2, LONG_TIME);
    CHECK(one > 0 && two > one && three > two);
    CHECK_OK(slipring_call_cancel(client, three));
    CHECK_CODE(slipring_call_cancel(client, three), -SLIPRING_ENOTHELD);
    CHECK_OK(slipring_call_finish(client, two, &reply, &len, LONG_TIME));
    CHECK(len == 2 && memcmp(reply, "43", 2) == 0);
    CHECK_OK(slipring_call_finish(client, one, &reply, &len, LONG_TIME));
    CHECK(len == 2 && memcmp(reply, "21", 2) == 0);
    CHECK_CODE(slipring_call_finish(client, one, &reply, &len, LONG_TIME), -SLIPRING_ENOTHELD);
    CHECK(reply == NULL && len == 0);
    CHECK_OK(slipring_call(client, "stop", 4, &reply, &len, LONG_TIME));
    CHECK(len == 0);
    CHECK(end_peer(pid) == 0);
    CHECK_CODE(slipring_call(client, "x", 1, &reply, &len, 1000000), -SLIPRING_ETIMEDOUT);
    CHECK_OK(slipring_close(client));
    CHECK_OK(slipring_server_remove("answers", NULL));
}

TEST(a_killed_server_ends_every_call_at_once) {
    slipring_client *client, *other;
    const void *reply;
    size_t len;
    pid_t pid = start_peer("server", "killed", NULL);
    open_client("killed", &client);
    open_client("killed", &other);
    CHECK_OK(slipring_call(other, "warm", 4, &reply, &len, LONG_TIME));
    int64_t waiting = slipring_call_start(other, "late", 4, LONG_TIME);
    CHECK(waiting > 0);
    CHECK_CODE(slipring_call(client, "die", 3, &reply, &len, LONG_TIME), -SLIPRING_EPEERDEAD);
    int code = slipring_call_finish(other, waiting, &reply, &len, LONG_TIME);
    CHECK(code == 0 || code == -SLIPRING_EPEERDEAD); /* it may have been answered before */
    CHECK(end_peer(pid) == 1000 + SIGKILL);
    /* Another server serves the same clients. */
    pid = start_peer("server", "killed", NULL);
    CHECK_OK(slipring_call(client, "ab", 2, &reply, &len, LONG_TIME));
    CHECK(memcmp(reply, "ba", 2) == 0);
    CHECK_OK(slipring_call(other, "stop", 4, &reply, &len, LONG_TIME));
    CHECK(end_peer(pid) == 0);
    CHECK_OK(slipring_close(client));
    CHECK_OK(slipring_close(other));
    CHECK_OK(slipring_server_remove("killed", NULL));
}

static pthread_barrier_t step;

static void *call_in_steps(void *argument) {
    slipring_options *options = argument;
    slipring_client *client;
    const void *reply;
    size_t len;
    char big[4096] = {0};
    CHECK_OK(slipring_client_open("requests", options, &client));
    int64_t one = slipring_call_start(client, "one", 3, LONG_TIME);
    int64_t two = slipring_call_start(client, "two", 3, -1);
    CHECK_OK(slipring_call_finish(client, two, &reply, &len, LONG_TIME));
    CHECK(len == 6 && memcmp(reply, "second", 6) == 0);
    CHECK_CODE(slipring_call_finish(client, one, &reply, &len, LONG_TIME), -SLIPRING_EUNANSWERED);
    one = slipring_call_start(client, "one", 3, LONG_TIME);
    pthread_barrier_wait(&step); /* the server has it */
    CHECK_OK(slipring_call_cancel(client, one));
    pthread_barrier_wait(&step);
    CHECK_CODE(slipring_call(client, big, sizeof big, &reply, &len, LONG_TIME), -SLIPRING_EMSGSIZE);
    CHECK_OK(slipring_close(client));
    return NULL;
}

TEST(requests_are_refused_deferred_and_cancelled) {
    slipring_options options = SLIPRING_OPTIONS_INIT;
    slipring_server *server, *second;
    slipring_client *client;
    slipring_request request, later;
    pthread_t thread;
    options.capacity = 64;
    options.payload = 128;
    CHECK_CODE(slipring_client_open("requests", NULL, &client), -SLIPRING_ENOENT);
    CHECK_OK(slipring_server_open("requests", 2, &options, &server));
    CHECK_CODE(slipring_server_open("requests", 2, &options, &second), -SLIPRING_EROLETAKEN);
    CHECK_CODE(slipring_server_recv(server, &request, 0), -SLIPRING_EAGAIN);
    CHECK_CODE(slipring_server_recv(server, &request, 1000), -SLIPRING_ETIMEDOUT);
    CHECK(pthread_barrier_init(&step, NULL, 2) == 0);
    CHECK(pthread_create(&thread, NULL, call_in_steps, &options) == 0);
    CHECK_OK(slipring_server_recv(server, &request, LONG_TIME));
    CHECK(request.len == 3 && memcmp(request.data, "one", 3) == 0);
    CHECK(request.remaining_ns > 0 && request.remaining_ns <= LONG_TIME);
    CHECK_OK(slipring_server_recv(server, &later, LONG_TIME));
    CHECK(memcmp(later.data, "two", 3) == 0 && later.remaining_ns == INT64_MAX);
    CHECK_OK(slipring_reply(server, later.id, "second", 6));
    CHECK_OK(slipring_refuse(server, request.id));
    CHECK_OK(slipring_server_recv(server, &request, LONG_TIME));
    CHECK_CODE(slipring_is_cancelled(server, request.id), 0);
    pthread_barrier_wait(&step);
    pthread_barrier_wait(&step);
    CHECK_CODE(slipring_is_cancelled(server, request.id), 1);
    int code = slipring_reply(server, request.id, "x", 1);
    CHECK(code == 0 || code == -SLIPRING_EPIPE); /* the client may have closed */
    CHECK_CODE(slipring_is_cancelled(server, request.id), -SLIPRING_ENOTHELD);
    CHECK(pthread_join(thread, NULL) == 0);
    pthread_barrier_destroy(&step);
    CHECK_OK(slipring_close(server));
    CHECK_OK(slipring_server_remove("requests", &options));
}

PEER(echo) {
    slipring_producer *tx;
    slipring_consumer *rx;
    slipring_frame frame;
    CHECK_OK(slipring_duplex_open(peer_args[0], NULL, &tx, &rx));
    for (;;) {
        int code = slipring_recv(rx, &frame, LONG_TIME);
        if (code == -SLIPRING_EPIPE) {
            break;
        }
        CHECK_CODE(code, SLIPRING_FRAME);
        CHECK_OK(slipring_send_frame(tx, frame.kind, frame.stream, frame.data, frame.len, LONG_TIME));
        CHECK_OK(slipring_release(rx));
    }
    CHECK_OK(slipring_flush(tx, LONG_TIME));
    CHECK_OK(slipring_close(tx));
    CHECK_OK(slipring_close(rx));
    return 0;
}

TEST(endpoints_of_two_directions) {
    char socket[300], listening[320], small[2], copy[4];
    slipring_producer *tx;
    slipring_consumer *rx;
    slipring_frame frame;
    void *data;
    snprintf(socket, sizeof socket, "unix:%s/echo.sock", getenv("SLIPRING_DIR"));
    snprintf(listening, sizeof listening, "%s?listen", socket);
    pid_t pid = start_peer("echo", listening, NULL);
    CHECK_OK(slipring_duplex_open(socket, NULL, &tx, &rx));
    CHECK(slipring_fd(rx) >= 0);
    CHECK_OK(slipring_send_frame(tx, 0x1234, 5, "ping", 4, LONG_TIME));
    CHECK_OK(slipring_flush(tx, LONG_TIME));
    CHECK_CODE(slipring_recv(rx, &frame, LONG_TIME), SLIPRING_FRAME);
    CHECK(frame.len == 4 && memcmp(frame.data, "ping", 4) == 0 && frame.kind == 0x1234 && frame.stream == 5);
    CHECK_CODE(slipring_recv(rx, &frame, 0), -SLIPRING_EHELD);
    CHECK_OK(slipring_keep(rx)); /* a transport: this receiver gets it again */
    CHECK_CODE(slipring_recv_into(rx, small, sizeof small, &frame, LONG_TIME), -SLIPRING_EMSGSIZE);
    CHECK_CODE(slipring_recv_into(rx, copy, sizeof copy, &frame, LONG_TIME), SLIPRING_FRAME);
    CHECK(memcmp(copy, "ping", 4) == 0);
    CHECK_CODE(slipring_recv(rx, &frame, 0), -SLIPRING_EAGAIN);
    CHECK_CODE(slipring_reserve(tx, 4, &data, 0), -SLIPRING_EOPNOTSUPP);
    CHECK_CODE(slipring_recv_batch(rx, &frame, 1, 0), -SLIPRING_EOPNOTSUPP);
    CHECK_CODE(slipring_segment_fd(tx), -SLIPRING_EOPNOTSUPP);
    CHECK_OK(slipring_close(tx));
    CHECK_CODE(slipring_recv(rx, &frame, LONG_TIME), -SLIPRING_EPIPE);
    CHECK_OK(slipring_close(rx));
    CHECK(end_peer(pid) == 0);
    CHECK_CODE(slipring_duplex_open("udp:localhost:9", NULL, &tx, &rx), -SLIPRING_EOPNOTSUPP);
    CHECK(tx == NULL);
}

/* A ring by its endpoint, and the command `slipring` on its other side: a program in Rust. */
TEST(the_command_line_as_a_peer) {
    const char *command = getenv("SLIPRING_COMMAND");
    char received[64] = {0};
    slipring_producer *tx;
    slipring_consumer *rx;
    slipring_frame frame;
    int ends[2];
    if (!command) {
        printf("skipped: SLIPRING_COMMAND does not name the command slipring\n");
        return;
    }
    CHECK_OK(slipring_producer_open("ring:lines?capacity=64KiB", NULL, &tx));
    CHECK(pipe(ends) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        execl(command, command, "recv", "ring:lines", (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    CHECK_OK(slipring_send(tx, "from C", 6, LONG_TIME));
    CHECK_OK(slipring_close(tx));
    CHECK(end_peer(pid) == 0);
    CHECK(read(ends[0], received, sizeof received - 1) > 0);
    CHECK(strcmp(received, "from C\n") == 0);
    close(ends[0]);

    CHECK_OK(slipring_consumer_open("lines", NULL, &rx));
    CHECK(pipe(ends) == 0);
    CHECK(write(ends[1], "from Rust\n", 10) == 10);
    close(ends[1]);
    pid = fork();
    if (pid == 0) {
        dup2(ends[0], STDIN_FILENO);
        close(ends[0]);
        execl(command, command, "send", "ring:lines", (char *)NULL);
        _exit(127);
    }
    close(ends[0]);
    CHECK_CODE(slipring_recv(rx, &frame, LONG_TIME), SLIPRING_FRAME);
    CHECK(frame.len == 9 && memcmp(frame.data, "from Rust", 9) == 0);
    CHECK_OK(slipring_release(rx));
    CHECK(end_peer(pid) == 0);
    CHECK_CODE(slipring_recv(rx, &frame, LONG_TIME), -SLIPRING_EPIPE);
    CHECK_OK(slipring_close(rx));
    CHECK_OK(slipring_remove("lines", NULL));
}
