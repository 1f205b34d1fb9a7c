/*
 * What failed calls say: the text of the last failure, the values in it, and the errno value of the
 * system call.
 */

#include "check.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>

/* As an argument beside the call that fails, where it is evaluated first: the address stays good,
 * and the text is that of the call. */
TEST(the_text_is_never_freed) {
    slipring_producer *tx;
    char printed[200];
    const char *const first = slipring_last_error();
    CHECK(strcmp(first, "no error") == 0);
    CHECK_CODE(slipring_producer_open("a/b", NULL, &tx), -SLIPRING_EINVAL);
    CHECK(slipring_last_error() == first && strstr(first, "name") != NULL);
    CHECK_CODE(slipring_producer_open(NULL, NULL, NULL), -SLIPRING_EINVAL);
    CHECK(strstr(first, "NULL") != NULL);
    snprintf(printed, sizeof printed, "%d: %s", slipring_producer_open("a/b", NULL, &tx), slipring_last_error());
    CHECK(strstr(printed, "-22: invalid") == printed);
    CHECK_CODE(slipring_producer_open("absent", NULL, &tx), -SLIPRING_ENOENT);
    CHECK_CODE(slipring_close(NULL), -SLIPRING_EHANDLE);
    CHECK(strstr(first, "the handle is NULL") == first);
    for (int i = 0; i < 2; i++) {
        slipring_options options = options_of(SLIPRING_SPSC);
        slipring_frame frame;
        slipring_consumer *rx;
        CHECK_OK(slipring_consumer_open(NULL, &options, &rx));
        CHECK_CODE(slipring_recv(rx, &frame, 0), -SLIPRING_EAGAIN);
        CHECK(strcmp(first, slipring_strerror(SLIPRING_EAGAIN)) == 0);
        CHECK_CODE(slipring_recv(rx, &frame, 1), -SLIPRING_ETIMEDOUT);
        CHECK(strcmp(first, slipring_strerror(SLIPRING_ETIMEDOUT)) == 0);
        CHECK_OK(slipring_close(rx));
        CHECK(strcmp(first, slipring_strerror(SLIPRING_ETIMEDOUT)) == 0);
    }
}

/* One that is too long is cut, not in the middle of a character. */
TEST(a_long_text_is_cut) {
    slipring_options options = options_of(SLIPRING_SPSC);
    slipring_producer *tx;
    slipring_consumer *rx;
    char type[1001];
    for (int i = 0; i < 1000; i += 2) {
        memcpy(type + i, "\xc3\xa9", 2);
    }
    type[1000] = 0;
    for (int shift = 0; shift < 2; shift++) {
        type[shift] = shift ? 'y' : 'x';
        type[1] = shift ? type[1] : 'x';
        options.message_type = "bytes";
        CHECK_OK(slipring_producer_open("cut", &options, &tx));
        options.message_type = type + shift;
        CHECK_CODE(slipring_consumer_open("cut", &options, &rx), -SLIPRING_EOTHERTYPE);
        const char *text = slipring_last_error();
        const size_t len = strlen(text);
        CHECK(len >= 509 && len <= 511);
        CHECK((unsigned char)text[len - 1] == 0xa9 && (unsigned char)text[len - 2] == 0xc3);
        CHECK_OK(slipring_close(tx));
        CHECK_OK(slipring_remove("cut", NULL));
    }
}

TEST(errno_values_of_system_calls) {
    slipring_options options = options_of(SLIPRING_SPSC);
    slipring_producer *tx;
    slipring_consumer *rx;
    options.directory = "/no/such/place";
    CHECK_CODE(slipring_producer_open("a", &options, &tx), -ENOENT);
    CHECK(strstr(slipring_last_error(), "/no/such/place") != NULL);
    options.directory = NULL;
    options.capacity = (size_t)1 << 40;
    CHECK_CODE(slipring_producer_open("large", &options, &tx), -ENOSPC);
    CHECK(strstr(slipring_last_error(), "bytes are needed") != NULL);
    CHECK_CODE(slipring_remove("large", NULL), -SLIPRING_ENOENT);

    /* A port that is bound, and of which no socket listens. */
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int bound = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(bind(bound, (struct sockaddr *)&address, size) == 0);
    CHECK(getsockname(bound, (struct sockaddr *)&address, &size) == 0);
    char endpoint[100];
    snprintf(endpoint, sizeof endpoint, "tcp:127.0.0.1:%d", ntohs(address.sin_port));
    options = options_of(SLIPRING_ANY);
    options.connect_timeout_ns = 1000000;
    CHECK_CODE(slipring_producer_open(endpoint, &options, &tx), -ECONNREFUSED);
    CHECK(strstr(slipring_last_error(), "refused") != NULL);
    CHECK_CODE(slipring_consumer_open(endpoint, &options, &rx), -ECONNREFUSED);
    CHECK_CODE(slipring_duplex_open(endpoint, &options, &tx, &rx), -ECONNREFUSED);
    close(bound);

    /* No more descriptors. */
    options = options_of(SLIPRING_SPSC);
    CHECK_OK(slipring_producer_open("files", &options, &tx));
    struct rlimit limit = {0, 0};
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    const int lowest = dup(0);
    close(lowest);
    for (int more = 0; more < 4; more++) {
        limit.rlim_cur = (rlim_t)(lowest + more);
        CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        int code = slipring_consumer_open("files", &options, &rx);
        if (code == 0) {
            break;
        }
        CHECK_CODE(code, -EMFILE);
        CHECK(strstr(slipring_last_error(), "/proc") == NULL);
    }
    limit.rlim_cur = limit.rlim_max;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK_OK(slipring_close(tx));
    if (rx) {
        CHECK_OK(slipring_close(rx));
    }
    CHECK_OK(slipring_remove("files", NULL));
}

/* Both sizes, for every kind of ring and for a transport. */
TEST(a_buffer_that_is_too_small) {
    const int kinds[] = {SLIPRING_SPSC, SLIPRING_MPMC, SLIPRING_MPSC, SLIPRING_BROADCAST, SLIPRING_BROADCAST};
    for (int i = 0; i < 6; i++) {
        slipring_options options = options_of(i < 5 ? kinds[i] : SLIPRING_ANY);
        slipring_producer *tx;
        slipring_consumer *rx;
        slipring_frame frame;
        char buffer[10];
        if (i < 5) {
            CHECK_OK(slipring_producer_open("small", &options, &tx));
            options.flags = i == 4 ? SLIPRING_LOSSY : 0;
            CHECK_OK(slipring_consumer_open("small", &options, &rx));
        } else {
            int ends[2];
            char endpoint[30];
            CHECK(pipe(ends) == 0);
            snprintf(endpoint, sizeof endpoint, "fd:%d", ends[1]);
            CHECK_OK(slipring_producer_open(endpoint, NULL, &tx));
            snprintf(endpoint, sizeof endpoint, "fd:%d", ends[0]);
            CHECK_OK(slipring_consumer_open(endpoint, NULL, &rx));
        }
        CHECK_OK(slipring_send(tx, "0123456789", 10, LONG_TIME));
        for (int again = 0; again < 2; again++) {
            CHECK_CODE(slipring_recv_into(rx, buffer, 2, &frame, LONG_TIME), -SLIPRING_EMSGSIZE);
            CHECK(strstr(slipring_last_error(), "the buffer has 2 bytes, the frame 10") != NULL);
        }
        CHECK_CODE(slipring_recv_into(rx, buffer, 10, &frame, LONG_TIME), SLIPRING_FRAME);
        CHECK(frame.len == 10 && frame.data == buffer && memcmp(buffer, "0123456789", 10) == 0);
        CHECK_OK(slipring_close(tx));
        CHECK_OK(slipring_close(rx));
        if (i < 5) {
            CHECK_OK(slipring_remove("small", NULL));
        }
    }
    slipring_options options = options_of(SLIPRING_LATEST);
    slipring_latest_writer *writer;
    slipring_latest_reader *reader;
    slipring_reading reading;
    char buffer[2];
    CHECK_OK(slipring_latest_writer_open("small", &options, &writer));
    CHECK_OK(slipring_latest_reader_open("small", &options, &reader));
    CHECK_CODE(slipring_latest_write(writer, 0, "0123456789", 10), 1);
    CHECK_CODE(slipring_latest_read(reader, 0, buffer, 2, &reading, 0), -SLIPRING_EMSGSIZE);
    CHECK(strstr(slipring_last_error(), "the buffer has 2 bytes, the value more") != NULL);
    CHECK_OK(slipring_close(writer));
    CHECK_OK(slipring_close(reader));
    CHECK_OK(slipring_remove("small", NULL));
}

/* An open that fails leaves no ring behind, and says what to call instead. */
TEST(a_failed_open_creates_nothing) {
    slipring_producer *tx;
    slipring_consumer *rx;
    slipring_stream_writer *writer;
    slipring_stream_reader *reader;
    slipring_latest_writer *latest_writer;
    slipring_latest_reader *latest_reader;
    slipring_server *server;
    slipring_options options;
#define NOTHING_BY(call, code, text)                                                               \
    do {                                                                                           \
        CHECK_CODE(call, code);                                                                    \
        CHECK(strstr(slipring_last_error(), text) != NULL);                                        \
        CHECK_CODE(slipring_remove("n", NULL), -SLIPRING_ENOENT);                                  \
    } while (0)
    const int frames[] = {SLIPRING_SPSC, SLIPRING_MPMC, SLIPRING_MPSC, SLIPRING_BROADCAST};
    for (int i = 0; i < 5; i++) {
        options = options_of(i < 4 ? frames[i] : SLIPRING_LATEST);
        NOTHING_BY(slipring_stream_writer_open("n", &options, &writer), -SLIPRING_EOPNOTSUPP, "SLIPRING_STREAM");
        NOTHING_BY(slipring_stream_reader_open("n", &options, &reader), -SLIPRING_EOPNOTSUPP, "SLIPRING_STREAM");
        options = options_of(i < 4 ? frames[i] : SLIPRING_STREAM);
        NOTHING_BY(slipring_latest_writer_open("n", &options, &latest_writer), -SLIPRING_EOPNOTSUPP, "_LATEST");
        NOTHING_BY(slipring_latest_reader_open("n", &options, &latest_reader), -SLIPRING_EOPNOTSUPP, "_LATEST");
    }
    options = options_of(SLIPRING_STREAM);
    NOTHING_BY(slipring_producer_open("n", &options, &tx), -SLIPRING_EOPNOTSUPP, "slipring_stream_writer_open");
    NOTHING_BY(slipring_consumer_open("n", &options, &rx), -SLIPRING_EOPNOTSUPP, "slipring_stream_reader_open");
    NOTHING_BY(slipring_server_open("n", 1, &options, &server), -SLIPRING_EINVAL, "mpmc");
    options = options_of(SLIPRING_LATEST);
    NOTHING_BY(slipring_producer_open("n", &options, &tx), -SLIPRING_EOPNOTSUPP, "slipring_latest_writer_open");
    NOTHING_BY(slipring_consumer_open("n", &options, &rx), -SLIPRING_EOPNOTSUPP, "slipring_latest_reader_open");

    /* Nor beside a ring of another kind. */
    options = options_of(SLIPRING_STREAM);
    CHECK_OK(slipring_stream_writer_open("n", &options, &writer));
    CHECK_CODE(slipring_producer_open("n", NULL, &tx), -SLIPRING_EOPNOTSUPP);
    CHECK(strstr(slipring_last_error(), "slipring_stream_writer_open") != NULL);
    CHECK_CODE(slipring_server_open("n", 2, NULL, &server), -SLIPRING_EINCOMPATIBLE);
    CHECK_OK(slipring_close(writer));
    CHECK_OK(slipring_remove("n", NULL)); /* and the directory is empty at the end */
}
