/*
 * Samples from a thread with a deadline to one that writes them away: the callback builds its block
 * in the ring, makes no system call and never waits.
 *
 *     make -C bindings/c examples && target/bindings-c/examples/cpp_audio
 */

#include <cstdio>
#include <thread>

#include "slipring.hpp"

static constexpr std::size_t RATE = 48'000, BLOCK = 256, BLOCKS = 400;

/* The audio callback: one block, or none if there is no room. */
static bool process(slipring::stream_writer& ring, std::size_t number) noexcept {
    const auto room = ring.try_write_vector();
    if (!room) return false;
    const auto samples = slipring::elements_of<float>(room->first).first(BLOCK);
    if (samples.size() < BLOCK) return false;
    for (std::size_t i = 0; i < BLOCK; i++) samples[i] = static_cast<float>(number * BLOCK + i);
    return ring.try_commit(BLOCK * sizeof(float)).has_value();
}

int main() {
    /* The memory is locked (mlock) where the machine allows it, so that there are no page faults. */
    auto [writer, reader] = slipring::stream_pair(
        slipring::options(slipring::kind::stream).capacity(1 << 18).lock_memory().best_effort());

    std::size_t dropped = 0;
    std::thread audio([&dropped, ring = std::move(writer)]() mutable {
        for (std::size_t number = 0; number < BLOCKS; number++) {
            if (!process(ring, number)) dropped++;
            std::this_thread::yield(); /* a sound card would wake it every 5 ms */
        }
        ring.close();
    });

    std::size_t samples = 0;
    static float block[RATE];
    auto n = reader.try_read(block, slipring::forever);
    for (; n; n = reader.try_read(block, slipring::forever)) samples += *n / sizeof(float);
    audio.join();
    if (n.code() != slipring::errc::closed) { /* not the end, but an error */
        std::fprintf(stderr, "read: %s\n", slipring::last_error());
        return 1;
    }
    std::printf("%zu samples, %zu blocks dropped\n", samples, dropped);
    return samples == (BLOCKS - dropped) * BLOCK ? 0 : 1;
}
