/* The C++ side of languages.rs: sends each quote back with its prices exchanged. */

#include "../../include/slipring.hpp"

SLIPRING_MESSAGE(Level, (std::int64_t, price), (std::uint32_t, size), (std::uint32_t, orders))
SLIPRING_MESSAGE(Quote, (std::int64_t, bid), (std::int64_t, ask), (float, weights, [2][3]), (std::uint8_t, venue, [8]),
                 (Level, levels, [2]))
SLIPRING_MESSAGE(Other, (std::int32_t, bid))

int main(int, char** names) {
    slipring::typed_consumer<Quote> rx(names[1]);
    slipring::typed_producer<Quote> tx(names[2]);
    for (auto& quote : rx) {
        Quote back = *quote;
        back.bid = quote->ask;
        back.ask = quote->bid;
        tx.send(back);
    }
    rx = slipring::typed_consumer<Quote>();
    const auto other = slipring::typed_consumer<Other>::try_open(names[1]);
    if (other.code() != slipring::errc::other_type) return 1;
    std::printf("%s\n%s\n", slipring::describe<Other>().c_str(), slipring::last_error());
    return 0;
}
