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

PEER(uses_a_closed_handle) {
    CHECK(freopen("/dev/null", "w", stderr) != nullptr);
    slipring::producer().send("x");
    return 0;
}

TEST(a_throwing_form_ends_the_program) {
    CHECK(end_peer(start_peer("uses_a_closed_handle", nullptr, nullptr)) == 1000 + SIGABRT);
}
