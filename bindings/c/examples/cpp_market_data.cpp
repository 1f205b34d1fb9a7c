/*
 * Market data: typed ticks from a feed that does not wait, to a strategy in another process that
 * knows which ticks it has missed. A Rust program that declares the same message is a peer, too:
 * slipring::message! { struct Tick { seq: u64, price: i64, size: u32, venue: u32 } }
 *
 *     make -C bindings/c examples && target/bindings-c/examples/cpp_market_data
 */

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include "slipring.hpp"

SLIPRING_MESSAGE(Tick, (std::uint64_t, seq), (std::int64_t, price), (std::uint32_t, size), (std::uint32_t, venue))

static constexpr std::uint64_t TICKS = 200'000;

/* Sends what there is room for. Returns how many ticks it dropped. */
static std::uint64_t feed(const std::string& name, const slipring::options& how) {
    slipring::typed_producer<Tick> tx(name, how);
    tx.untyped().wait_for_peer(std::chrono::seconds(30)); /* throws if it does not come */
    std::uint64_t dropped = 0;
    for (std::uint64_t seq = 0; seq < TICKS; seq++) {
        if (auto tick = tx.try_reserve()) {
            (*tick)->seq = seq;
            (*tick)->price = 10'842 + static_cast<std::int64_t>(seq % 7);
            (*tick)->size = 100;
            tick->commit();
        } else if (tick.code() == slipring::errc::would_block) {
            dropped++;
        } else {
            tick.value(); /* throws */
        }
    }
    /* The last one waits for room: its number says how many there were. */
    tx.send({TICKS, 0, 0, 0});
    return dropped;
}

/* Counts the ticks that are missing between those that it receives. */
static int strategy(const std::string& name, const slipring::options& how) {
    slipring::typed_consumer<Tick> rx(name, how);
    std::uint64_t next = 0, missed = 0, received = 0;
    std::int64_t highest = 0;
    for (auto& tick : rx) {
        missed += tick->seq - next;
        next = tick->seq + 1;
        if (tick->seq == TICKS) break;
        received++;
        if (tick->price > highest) highest = tick->price;
    }
    std::printf("received %llu, missed %llu, highest price %lld\n", static_cast<unsigned long long>(received),
                static_cast<unsigned long long>(missed), static_cast<long long>(highest));
    return received + missed == TICKS && highest == 10'848 ? 0 : 1;
}

int main() {
    const std::string name = "cpp-ticks-" + std::to_string(getpid());
    const auto how = slipring::options(slipring::kind::spsc).capacity(1 << 16);
    const pid_t pid = fork(); /* before any handle is opened */
    try {
        if (pid == 0) return strategy(name, how);
        const std::uint64_t dropped = feed(name, how);
        int status = 0;
        waitpid(pid, &status, 0);
        slipring::remove(name);
        std::printf("dropped %llu\n", static_cast<unsigned long long>(dropped));
        return status == 0 ? 0 : 1;
    } catch (const slipring::error& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
}
