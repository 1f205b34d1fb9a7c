/* slipring.hpp: errors, time-outs, views, handles that move, frames and grants. */

#include <algorithm>
#include <optional>
#include <thread>
#include <vector>

#include "slipring.hpp"

#include "check.h"

using namespace std::chrono_literals;
using slipring::errc;

/* That an expression throws slipring::error with a code. */
#define CHECK_THROWS(expression, wanted)                                                           \
    do {                                                                                           \
        bool thrown_ = false;                                                                      \
        try {                                                                                      \
            (void)(expression);                                                                    \
        } catch (const slipring::error& error_) {                                                  \
            thrown_ = true;                                                                        \
            CHECK(error_.code() == (wanted));                                                      \
        }                                                                                          \
        CHECK(thrown_);                                                                            \
    } while (0)

/* Each text once, also of the errors that have no details. */
TEST(texts_of_errors_are_not_doubled) {
    auto [tx, rx] = slipring::pair(slipring::kind::spsc);
    try {
        (void)rx.recv(1ms);
        CHECK(false);
    } catch (const slipring::error& error) {
        CHECK(std::string("timed out") == error.what());
        const slipring::error copied = error;
        CHECK(std::string("timed out") == copied.what() && copied.code() == errc::timed_out);
    }
    try {
        slipring::producer closed;
        closed.send("x");
        CHECK(false);
    } catch (const std::system_error& error) {
        CHECK(std::string("the handle is NULL: open one first, and check what opening returned") == error.what());
    }
    try {
        slipring::producer("a/b", slipring::kind::spsc);
        CHECK(false);
    } catch (const std::exception& error) {
        CHECK(std::string(error.what()) == slipring::last_error());
    }
}

TEST(characters_are_bytes) {
    auto [tx, rx] = slipring::pair(slipring::kind::spsc);
    const char text[] = "abcdef";
    const unsigned char raw[] = {'1', '2', '3'};
    const char* const chars = text;
    const unsigned char* const numbers = raw;
    tx.send({chars, 3});
    tx.send(slipring::byte_view(numbers, 2));
    CHECK(rx.recv().text() == "abc");
    CHECK(rx.recv().text() == "12");
    char into[10] = {};
    unsigned char into_numbers[10] = {};
    tx.send("xyz");
    tx.send("xyz");
    char* const to = into;
    unsigned char* const to_numbers = into_numbers;
    CHECK(rx.recv_into(slipring::bytes(to, 10)).text() == "xyz" && into[2] == 'z');
    CHECK(rx.recv_into(slipring::bytes(to_numbers, 10)).size() == 3 && into_numbers[0] == 'x');
}

TEST(batches_have_iterators_for_algorithms) {
    auto [tx, rx] = slipring::pair(slipring::kind::spsc);
    for (const char* text : {"a", "bb", "ccc"}) tx.send(text);
    const auto batch = rx.recv_batch<8>();
    const auto is_long = [](const slipring::frame_view& frame) { return frame.size() > 1; };
    CHECK(std::count_if(batch.begin(), batch.end(), is_long) == 2);
    CHECK(std::distance(batch.begin(), batch.end()) == 3);
    auto at = batch.begin();
    CHECK(at++ == batch.begin() && at != batch.begin() && (*at).text() == "bb");
    const auto texts = std::vector<slipring::frame_view>(batch.begin(), batch.end());
    CHECK(texts.size() == 3 && texts[2].text() == "ccc");
}

TEST(errors_have_codes_and_texts) {
    const auto opened = slipring::producer::try_open("absent");
    CHECK(!opened && opened.code() == errc::not_found);
    CHECK(opened.error() == errc::not_found);
    CHECK(opened.error() == std::errc::no_such_file_or_directory);
    CHECK(opened.error().category() == slipring::category());
    CHECK(opened.error().message() == slipring_strerror(SLIPRING_ENOENT));
    CHECK_THROWS(slipring::producer("absent"), errc::not_found);
    CHECK_THROWS(opened.value(), std::errc::no_such_file_or_directory);
    const std::error_code own = errc::peer_dead;
    CHECK(own.default_error_condition().category() == slipring::category());
    try {
        slipring::producer tx("bad/name", slipring::kind::spsc);
        CHECK(false);
    } catch (const std::system_error& error) {
        CHECK(error.code() == errc::invalid);
        CHECK(std::string(error.what()) == slipring::last_error());
    }
}

TEST(timeouts_are_durations_and_deadlines) {
    using slipring::timeout;
    CHECK(timeout(3ms).ns() == 3000000);
    CHECK(timeout(0s).ns() == 0 && slipring::no_wait.ns() == 0 && slipring::forever.ns() < 0);
    CHECK(timeout(-1s).ns() == 1);
    CHECK(timeout(std::chrono::hours::max()).ns() < 0);
    CHECK(timeout(std::chrono::duration<double>(1e300)).ns() < 0);
    CHECK(timeout(std::chrono::duration<double, std::nano>(0.25)).ns() == 1);
    CHECK(timeout(std::chrono::steady_clock::now() - 1s).ns() == 1);
    CHECK(timeout(std::chrono::steady_clock::time_point::max()).ns() > 0);
    CHECK(timeout(std::chrono::steady_clock::time_point::min()).ns() == 1);
    const auto deadline = timeout(std::chrono::system_clock::now() + 10s).ns();
    CHECK(deadline > 0 && deadline <= 10 * SECOND);

    auto [tx, rx] = slipring::pair(slipring::kind::spsc);
    CHECK(rx.try_recv().code() == errc::would_block);
    CHECK(rx.try_recv(1ns).code() == errc::timed_out);
    CHECK(rx.try_recv(std::chrono::steady_clock::now() + 1us).code() == errc::timed_out);
    CHECK_THROWS(rx.recv(1us), std::errc::timed_out);
}

TEST(views_are_made_of_what_programs_have) {
    const std::vector<char> vector{'a', 'b'};
    std::array<std::uint16_t, 3> array{1, 2, 3};
    const std::string text = "abc";
    CHECK(slipring::byte_view("abc").size() == 3);
    CHECK(slipring::byte_view(text).size() == 3);
    CHECK(slipring::byte_view(vector).size() == 2);
    CHECK(slipring::byte_view(array).size() == 6);
    slipring::bytes writable(array);
    CHECK(writable.size() == 6 && slipring::byte_view(writable).data() == writable.data());
    CHECK(slipring::bytes_of(array[0]).size() == 2);
    CHECK((!std::is_constructible_v<slipring::bytes, const std::vector<char>&>));
    CHECK((!std::is_constructible_v<slipring::byte_view, std::vector<std::string>&>));
    CHECK((!std::is_constructible_v<slipring::view<int>, std::vector<char>&>));

    const auto values = slipring::elements_of<std::uint16_t>(writable);
    values[2] = 7;
    CHECK(array[2] == 7 && values.size() == 3);
    CHECK(slipring::elements_of<std::uint16_t>(writable.drop(1)).empty());
    CHECK(writable.first(9).size() == 6 && writable.drop(9).empty());
    CHECK(std::count(values.begin(), values.end(), 7) == 1);
    CHECK(slipring::as<std::uint16_t>(writable.first(2)) == 1);
    CHECK(slipring::try_as<std::uint32_t>(writable) == nullptr);
    CHECK_THROWS(slipring::as<std::uint32_t>(writable), errc::message_size);
#if defined(__cpp_lib_span)
    const std::span<const std::byte> span = slipring::byte_view(array);
    CHECK(span.size() == 6 && slipring::byte_view(span).size() == 6);
    const std::span<std::byte> writing = writable;
    CHECK(writing.data() == writable.data());
#endif
}

TEST(handles_move_and_do_not_copy) {
    static_assert(!std::is_copy_constructible_v<slipring::producer>);
    static_assert(!std::is_copy_assignable_v<slipring::frame>);
    static_assert(std::is_nothrow_move_constructible_v<slipring::consumer>);
    static_assert(std::is_nothrow_move_assignable_v<slipring::consumer>);
    static_assert(sizeof(slipring::producer) == sizeof(slipring_producer*));

    auto [tx, rx] = slipring::pair(slipring::kind::spsc);
    slipring::producer moved(std::move(tx));
    CHECK(moved && !tx);
    CHECK(tx.try_send("x").code() == errc::bad_handle);
    CHECK(tx.try_reserve(1).code() == errc::bad_handle);
    CHECK(tx.try_close().code() == errc::bad_handle);
    CHECK_THROWS(tx.send("x"), errc::bad_handle);
    CHECK_THROWS(tx.info(), errc::bad_handle);
    moved.send("one");

    slipring::producer& same = moved;
    moved = std::move(same);
    moved.send("two");

    slipring::consumer other = std::move(rx);
    CHECK(rx.try_recv().code() == errc::bad_handle);
    rx = std::move(other);
    CHECK(rx.recv().text() == "one");
    {
        /* A frame lives through a move of its consumer. */
        slipring::frame frame = rx.recv();
        other = std::move(rx);
        CHECK(frame.text() == "two");
        CHECK(other.try_recv().code() == errc::held);
    }
    moved = slipring::producer();
    CHECK(other.try_recv(slipring::forever).code() == errc::closed);
    other.close();
    CHECK(!other && other.try_close().code() == errc::bad_handle);
}

TEST(frames_release_once) {
    auto [tx, rx] = slipring::pair(slipring::options(slipring::kind::spsc).capacity(4096));
    for (int i = 0; i < 4; i++) tx.send(slipring::bytes_of(i));
    {
        slipring::frame frame = rx.recv();
        slipring::frame taken = std::move(frame);
        CHECK(frame.size() == 0 && taken.as<int>() == 0);
        slipring::frame& same = taken;
        taken = std::move(same);
        CHECK(taken.as<int>() == 0);
        taken.release();
        CHECK(taken.size() == 0 && taken.try_as<int>() == nullptr);
        CHECK(taken.try_keep().code() == errc::bad_handle);
        taken = rx.recv();
        CHECK(taken.as<int>() == 1 && taken.seq() == 1);
        CHECK_THROWS(taken.as<char>(), errc::message_size);
        taken.keep();
        taken = rx.recv();
        CHECK(taken.as<int>() == 1 && taken.kind() == SLIPRING_DEFAULT_KIND);
    }
    {
        /* The frame outlives its consumer: it is released by that. */
        std::optional<slipring::consumer> ended(std::move(rx));
        slipring::frame frame = ended->recv();
        ended.reset();
    }
    CHECK(tx.try_send(std::string(2000, 'x'), 1ms).has_value());
}

TEST(frames_are_copied_and_batched) {
    auto [tx, rx] = slipring::pair(slipring::kind::spsc);
    const std::string texts[] = {"a", "bc", "def"};
    const std::vector<slipring::byte_view> payloads(std::begin(texts), std::end(texts));
    CHECK(tx.send_batch(payloads) == 3);
    CHECK(rx.info().sent == 3 && rx.info().kind == SLIPRING_SPSC);
    char small[1], buffer[16];
    CHECK(rx.recv_into(small).text() == "a");
    CHECK(rx.try_recv_into(small).code() == errc::message_size);
    CHECK(rx.recv_into(buffer).text() == "bc");
    tx.send_frame(0x1234, 5, "ghij");
    {
        const auto batch = rx.recv_batch<8>();
        std::string all;
        for (const slipring::frame_view frame : batch) all += frame.text();
        CHECK(all == "defghij" && batch.size() == 2);
        CHECK(batch[1].kind() == 0x1234 && batch[1].stream() == 5);
        CHECK(rx.try_recv().code() == errc::held);
    }
    CHECK(rx.try_recv().code() == errc::would_block);
}

TEST(grants_commit_or_abort) {
    auto [tx, rx] = slipring::pair(slipring::kind::spsc);
    {
        slipring::grant room = tx.reserve(8);
        CHECK(room.buffer().size() == 8);
        CHECK(tx.try_send("x").code() == errc::held);
        CHECK(room.try_commit(9).code() == errc::message_size);
        std::memcpy(room.buffer().data(), "01234567", 8);
        slipring::grant moved = std::move(room);
        CHECK(room.buffer().empty() && room.try_commit(1).code() == errc::bad_handle);
        moved.commit(5);
        CHECK(moved.try_commit(1).code() == errc::bad_handle);
    }
    CHECK(rx.recv().text() == "01234");
    { auto dropped = tx.reserve(8); }
    CHECK(rx.try_recv().code() == errc::would_block);
    auto aborted = tx.reserve(8);
    aborted.abort();
    aborted = tx.reserve(4);
    std::memset(aborted.buffer().data(), 'y', 4);
    aborted.commit(4, 0x0200, 3);
    const auto frame = rx.recv();
    CHECK(frame.text() == "yyyy" && frame.kind() == 0x0200 && frame.stream() == 3);
}

TEST(an_exception_aborts_the_grant) {
    auto [tx, rx] = slipring::pair(slipring::kind::spsc);
    try {
        auto room = tx.reserve(8);
        std::memset(room.buffer().data(), 'x', 8);
        throw std::string("half way");
    } catch (const std::string&) {
    }
    CHECK(rx.try_recv().code() == errc::would_block);
    tx.send("next");
    CHECK(rx.recv().text() == "next");
}

/* Sends frames to the ring that its argument names, through the C interface. */
PEER(c_counter) {
    slipring_options options = options_of(SLIPRING_MPSC);
    slipring_producer* tx = nullptr;
    CHECK_OK(slipring_producer_open(peer_args[0], &options, &tx));
    for (int i = 0; i < 1000; i++) CHECK_OK(slipring_send(tx, &i, sizeof i, LONG_TIME));
    CHECK_OK(slipring_close(tx));
    return 0;
}

TEST(a_loop_ends_when_the_c_process_has_closed) {
    slipring::consumer rx("loop", slipring::options(slipring::kind::mpsc).capacity(4096));
    const pid_t pid = start_peer("c_counter", "loop", nullptr);
    int next = 0, ended = 0;
    for (auto& frame : rx) {
        if (frame.is_frame())
            CHECK(frame.as<int>() == next++);
        else
            ended += frame.event() == slipring::event::ended && !frame.died();
    }
    CHECK(next == 1000 && ended == 1);
    CHECK(end_peer(pid) == 0);
    slipring::remove("loop");
    CHECK(slipring::try_remove("loop").code() == errc::not_found);
}

PEER(dies) {
    slipring::producer tx(peer_args[0]);
    tx.send("last");
    raise(SIGKILL);
    return 1;
}

TEST(a_loop_tells_that_the_producer_died) {
    slipring::consumer rx("dying", slipring::kind::spsc);
    const pid_t pid = start_peer("dies", "dying", nullptr);
    int frames = 0;
    bool told = false;
    try {
        for (auto& frame : rx) frames += frame.text() == "last";
    } catch (const slipring::error& error) {
        told = error.code() == errc::peer_dead;
    }
    CHECK(told && frames == 1);
    CHECK(end_peer(pid) == 1000 + SIGKILL);
    slipring::remove("dying");
}

TEST(a_lossy_subscriber_is_told_of_gaps) {
    const auto how = slipring::options(slipring::kind::broadcast).capacity(4096);
    slipring::producer tx("lossy", how);
    slipring::consumer rx("lossy", slipring::options(how).lossy().start(slipring::start::oldest));
    for (int i = 0; i < 1000; i++) tx.send(slipring::bytes_of(i));
    const auto gap = rx.recv();
    CHECK(gap.event() == slipring::event::gap && gap.missed() > 0 && gap.payload().empty());
    CHECK(rx.recv().as<int>() == static_cast<int>(gap.missed()));
    slipring::remove("lossy");
}

TEST(the_ends_of_a_pair_go_to_the_threads_that_use_them) {
    for (const auto kind : {slipring::kind::spsc, slipring::kind::mpmc, slipring::kind::mpsc, slipring::kind::broadcast}) {
        auto [tx, rx] = slipring::pair(kind);
        std::thread sending([out = std::move(tx)]() mutable { out.send("hello"); });
        std::thread receiving([in = std::move(rx)]() mutable { CHECK(in.recv().text() == "hello"); });
        sending.join();
        receiving.join();
    }
}

TEST(handles_belong_to_a_thread) {
    auto [tx, rx] = slipring::pair(slipring::kind::spsc);
    tx.send("first");
    std::thread([&sender = tx] {
        CHECK(sender.try_send("x").code() == errc::wrong_thread);
        sender.take();
        sender.send("second");
    }).join();
    CHECK(rx.recv().text() == "first");
    CHECK(rx.recv().text() == "second");
    const pid_t pid = fork();
    if (pid == 0) _exit(rx.try_recv().code() == errc::forked ? 0 : 1);
    CHECK(end_peer(pid) == 0);
}

TEST(a_ring_in_a_directory_of_its_own) {
    std::string directory = std::string(getenv("SLIPRING_DIR")) + "/own";
    const auto how = slipring::options(slipring::kind::spsc).directory(directory).prefault().mode(0600);
    slipring::producer tx("here", how);
    CHECK(slipring::consumer::try_open("here").code() == errc::not_found);
    slipring::consumer rx("here", slipring::options().directory(directory));
    tx.wait_for_peer();
    tx.send("hello");
    CHECK(rx.recv().text() == "hello");
    slipring::remove("here", how);
    CHECK(rmdir(directory.c_str()) == 0);
}

TEST(both_directions_of_a_socket) {
    const std::string path = std::string(getenv("SLIPRING_DIR")) + "/duplex.sock";
    std::thread server([&path] {
        auto [tx, rx] = slipring::duplex("unix:" + path + "?listen");
        const auto frame = rx.recv();
        tx.send("re: " + std::string(frame.text()));
        tx.flush();
    });
    auto [tx, rx] = slipring::duplex("unix:" + path);
    tx.send("hello");
    CHECK(tx.try_reserve(1).code() == errc::not_supported);
    CHECK(rx.recv().text() == "re: hello");
    server.join();
    unlink(path.c_str());
}
