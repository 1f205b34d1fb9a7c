/* slipring.hpp: messages with a stated type. Their exchange with Rust is in languages.rs. */

#include <vector>

#include "slipring.hpp"

#include "check.h"

using slipring::errc;

namespace market {

SLIPRING_MESSAGE(Quote, (std::int64_t, bid), (std::int64_t, ask), (std::uint32_t, sizes, [2]))

/* A struct that was there before. */
struct Trade {
    double price;
    float weights[2][3];
    std::array<std::uint16_t, 3> venues;
    char symbol[6];
    std::int8_t side;
    std::byte flags[3];
    Quote quote;
};
SLIPRING_DESCRIBE(Trade, price, weights, venues, symbol, side, flags, quote)

SLIPRING_MESSAGE(Narrow, (std::int32_t, bid))

SLIPRING_MESSAGE(Most, (char, a0), (char, a1), (char, a2), (char, a3), (char, a4), (char, a5), (char, a6),
                 (char, a7), (char, a8), (char, a9), (char, b0), (char, b1), (char, b2), (char, b3),
                 (char, b4), (char, b5), (char, b6), (char, b7), (char, b8), (char, b9), (char, c0),
                 (char, c1), (char, c2), (char, c3), (char, c4), (char, c5), (char, c6), (char, c7),
                 (char, c8), (char, c9), (char, d0), (char, d1))

}  // namespace market

using market::Narrow;
using market::Quote;
using market::Trade;

TEST(descriptions_are_those_of_rust) {
    /* The first is the example of message! in the Rust documentation, which is run there. */
    CHECK(slipring::describe<Quote>() ==
          "Quote { bid: i64 @ 0, ask: i64 @ 8, sizes: [u32; 2] @ 16 } of 24 bytes, aligned to 8");
    CHECK(slipring::describe<Trade>() ==
          "Trade { price: f64 @ 0, weights: [[f32; 3]; 2] @ 8, venues: [u16; 3] @ 32, symbol: [u8; 6] @ 38, "
          "side: i8 @ 44, flags: [u8; 3] @ 45, quote: " +
              slipring::describe<Quote>() + " @ 48 } of 72 bytes, aligned to 8");
    CHECK(sizeof(market::Most) == 32);
    CHECK(slipring::describe<market::Most>().find("d1: u8 @ 31 } of 32") != std::string::npos);
    CHECK(slipring::describe<std::uint64_t>() == "u64");
    CHECK((slipring::describe<std::array<long long, 4>>() == "[i64; 4]"));
}

TEST(messages_are_sent_and_built_in_place) {
    slipring::typed_consumer<Quote> rx("quotes", slipring::kind::spsc);
    slipring::typed_producer<Quote> tx("quotes");
    tx.send({1, 2, {3, 4}});
    {
        auto quote = rx.recv();
        CHECK(quote->bid == 1 && (*quote).sizes[1] == 4);
        CHECK(quote.kind() == slipring::kind_of_frames(slipring::describe<Quote>()));
    }
    auto room = tx.reserve();
    CHECK(room->bid == 0 && room->sizes[1] == 0);
    room->ask = 9;
    room.commit();
    CHECK(rx.recv()->ask == 9);
    CHECK(rx.try_recv().code() == errc::would_block);
    { auto dropped = tx.try_reserve(); }
    CHECK(rx.try_recv().code() == errc::would_block);
    CHECK(tx.try_send({5, 6, {}}).has_value());
    tx = slipring::typed_producer<Quote>();
    std::int64_t sum = 0;
    for (auto& quote : rx) sum += quote->bid + quote->ask;
    CHECK(sum == 11);
    slipring::remove("quotes");
}

TEST(a_mismatch_names_both_types) {
    slipring::typed_producer<Quote> tx("mismatch", slipring::kind::mpmc);
    const auto opened = slipring::typed_consumer<Narrow>::try_open("mismatch");
    CHECK(opened.code() == errc::other_type);
    CHECK(strstr(slipring::last_error(), slipring::describe<Quote>().c_str()) != nullptr);
    CHECK(strstr(slipring::last_error(), slipring::describe<Narrow>().c_str()) != nullptr);
    try {
        slipring::typed_consumer<Narrow> rx("mismatch");
        CHECK(false);
    } catch (const slipring::error& error) {
        CHECK(error.code() == errc::other_type);
        CHECK(strstr(error.what(), slipring::describe<Quote>().c_str()) != nullptr);
        CHECK(strstr(error.what(), slipring::describe<Narrow>().c_str()) != nullptr);
    }
    CHECK(slipring::typed_consumer<Quote>::try_open("mismatch").has_value());
    slipring::remove("mismatch");
}

TEST(a_refused_participant_is_not_seen_by_the_others) {
    slipring::typed_producer<Quote> tx("refused", slipring::options(slipring::kind::spsc).capacity(4096));
    while (tx.try_send({1, 2, {}})) continue;
    CHECK(slipring::typed_consumer<Narrow>::try_open("refused").code() == errc::other_type);
    CHECK(slipring::typed_consumer<Narrow>::try_open("refused", slipring::kind::spsc).code() == errc::other_type);
    /* It waits for room, as before: no consumer has come and closed. */
    CHECK(tx.try_send({3, 4, {}}, std::chrono::milliseconds(1)).code() == errc::timed_out);
    slipring::remove("refused");
}

TEST(a_frame_of_another_type_is_skipped) {
    slipring::typed_producer<Quote> tx("skipped", slipring::kind::spsc);
    slipring::typed_consumer<Quote> rx("skipped");
    const auto kind = slipring::kind_of_frames(slipring::describe<Quote>());
    tx.untyped().send_frame(0x1000, 0, "no quote");
    tx.untyped().send_frame(kind, 0, "too short");
    tx.send({7, 8, {}});
    CHECK(rx.try_recv().code() == errc::other_type);
    try {
        (void)rx.recv();
        CHECK(false);
    } catch (const slipring::error& error) {
        CHECK(error.code() == errc::incompatible);
        CHECK(strstr(error.what(), "another size") != nullptr);
    }
    CHECK(rx.recv()->bid == 7);
    slipring::remove("skipped");
}

TEST(the_ends_of_lanes_are_no_messages) {
    slipring::typed_consumer<Quote> rx("lanes", slipring::kind::mpsc);
    slipring::typed_producer<Quote>("lanes", slipring::kind::mpsc).send({1, 2, {}});
    int quotes = 0, ended = 0;
    for (auto& quote : rx) {
        if (quote.is_frame()) {
            quotes++;
            continue;
        }
        ended++;
        bool thrown = false;
        try {
            (void)quote->bid;
        } catch (const slipring::error& error) {
            thrown = error.code() == errc::message_size;
        }
        CHECK(thrown);
    }
    CHECK(quotes == 1 && ended == 1);
    slipring::remove("lanes");
}

TEST(messages_of_every_kind_of_ring_are_aligned) {
    for (const auto kind : {slipring::kind::spsc, slipring::kind::mpmc, slipring::kind::mpsc, slipring::kind::broadcast}) {
        slipring::typed_consumer<Quote> rx("aligned", kind);
        slipring::typed_producer<Quote> tx("aligned", kind);
        for (int i = 0; i < 5; i++) {
            tx.untyped().send_frame(0x1000, 0, std::string(static_cast<std::size_t>(i), 'x'));
            tx.send({i, 0, {}});
            CHECK(rx.try_recv().code() == errc::other_type);
            CHECK(rx.recv()->bid == i);
        }
        slipring::remove("aligned");
    }
    const auto how = slipring::options(slipring::kind::broadcast);
    slipring::typed_producer<Quote> tx("aligned", how);
    slipring::typed_consumer<Quote> rx("aligned", slipring::options(how).lossy());
    tx.send({3, 4, {}});
    CHECK(rx.recv()->ask == 4);
    slipring::remove("aligned");
}
