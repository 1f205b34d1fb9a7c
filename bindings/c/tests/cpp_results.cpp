/* slipring.hpp by its results alone: compiled with -fno-exceptions -fno-rtti. */

#include "slipring.hpp"

#include "check.h"

using slipring::errc;

SLIPRING_MESSAGE(Tick, (std::int64_t, price))

TEST(results_without_exceptions) {
    CHECK(slipring::consumer::try_open("absent").code() == errc::not_found);
    auto tx = slipring::producer::try_open("results", slipring::kind::spsc);
    auto rx = slipring::consumer::try_open("results");
    CHECK(tx && rx);
    CHECK(tx->try_send("one").has_value());
    {
        auto room = tx->try_reserve(3, slipring::forever);
        std::memcpy(room->buffer().data(), "two", 3);
        CHECK(room->try_commit(3).has_value());
    }
    tx->close();
    int frames = 0;
    while (auto frame = rx->try_recv(slipring::forever)) frames += frame->text() == (frames == 0 ? "one" : "two");
    CHECK(frames == 2);
    CHECK(rx->try_recv().error() == errc::closed);
    CHECK(slipring::try_remove("results").has_value());
}

TEST(typed_results_without_exceptions) {
    auto tx = slipring::typed_producer<Tick>::try_open("ticks", slipring::kind::spsc);
    auto rx = slipring::typed_consumer<Tick>::try_open("ticks");
    CHECK(tx->try_send({17}).has_value());
    const auto tick = rx->try_recv(slipring::forever);
    CHECK(tick && tick->try_as<Tick>()->price == 17);
    CHECK(slipring::try_remove("ticks").has_value());
}

/* Whatever can fail has a form that returns a result. */
TEST(everything_has_a_result) {
    slipring::wait_set closed(nullptr);
    auto set = slipring::wait_set::try_open();
    CHECK(set && *set);
    auto waker = slipring::waker::try_open(*set, 7);
    CHECK(waker && waker->try_wake());
    CHECK(set->try_wait(slipring::forever)->size() == 1);
    CHECK(set->try_remove(8).has_value() && !*set->try_remove(8));
    CHECK(closed.try_remove(8).code() == errc::bad_handle);
    CHECK(slipring::waker::try_open(closed, 7).code() == errc::bad_handle);

    auto rx = slipring::consumer::try_open(slipring::kind::spsc);
    auto canceller = slipring::canceller::try_open(*rx);
    CHECK(canceller && canceller->try_cancel());
    CHECK(rx->try_recv(slipring::forever).code() == errc::cancelled);
    CHECK(canceller->try_reset() && rx->try_recv().code() == errc::would_block);
    CHECK(slipring::canceller::try_open(slipring::consumer()).code() == errc::bad_handle);
    CHECK(*rx->try_segment_fd() >= 0 && slipring::consumer().try_segment_fd().code() == errc::bad_handle);

    auto permits = slipring::semaphore::try_open(slipring::options().capacity(3));
    CHECK(*permits->try_available() == 3 && slipring::semaphore().try_available().code() == errc::bad_handle);
    auto flag = slipring::event_flag::try_open(slipring::options());
    CHECK(flag->try_set() && *flag->try_reset() && !*flag->try_reset());
    CHECK(slipring::event_flag().try_reset().code() == errc::bad_handle);
    auto mutex = slipring::mutex::try_open(slipring::options().capacity(8));
    auto guard = mutex->try_acquire();
    CHECK(guard && guard->try_mark_consistent() && guard->try_as<std::uint64_t>());
    CHECK(slipring::mutex::guard().try_mark_consistent().code() == errc::bad_handle);
    CHECK(slipring::request().try_is_cancelled().code() == errc::bad_handle);

    auto ring = slipring::ringbuffer::try_create(100);
    CHECK(ring && ring->write("abc") == 3);
    CHECK(!slipring::ringbuffer::try_create(SIZE_MAX));
    auto writer = slipring::ringbuffer::try_open_writer("buffer", 100);
    auto reader = slipring::ringbuffer::try_open_reader("buffer", 100);
    CHECK(writer && reader && writer->write("abc") == 3 && reader->read_space() == 3);
    CHECK(slipring::try_remove("buffer") && !slipring::ringbuffer::try_open_writer("a/b", 100));

    auto ticks = slipring::typed_producer<Tick>::try_open(slipring::kind::spsc);
    auto room = ticks->untyped().try_reserve(8);
    CHECK(room && room->try_commit());
}

PEER(uses_a_closed_handle) {
    CHECK(freopen("/dev/null", "w", stderr) != nullptr);
    slipring::producer().send("x");
    return 0;
}

TEST(a_throwing_form_ends_the_program) {
    CHECK(end_peer(start_peer("uses_a_closed_handle", nullptr, nullptr)) == 1000 + SIGABRT);
}
