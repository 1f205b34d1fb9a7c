/* What a frame of 64 bytes costs from C++: the same as frames.c, by slipring.hpp. */

#include <chrono>
#include <cstdio>
#include <thread>

#include "slipring.hpp"

static constexpr int FRAMES = 2000000;

using payload = std::array<unsigned char, 64>;

static unsigned sum = 0;

static void in_place(slipring::producer& tx, slipring::consumer& rx) {
    payload sent{};
    for (int i = 0; i < FRAMES; i++) {
        sent[0] = static_cast<unsigned char>(i);
        tx.send(sent, slipring::no_wait);
        sum += rx.recv(slipring::no_wait).as<payload>()[0];
    }
}

static void copy(slipring::producer& tx, slipring::consumer& rx) {
    payload sent{}, copy{};
    for (int i = 0; i < FRAMES; i++) {
        sent[0] = static_cast<unsigned char>(i);
        tx.send(sent, slipring::no_wait);
        rx.recv_into(copy, slipring::no_wait);
        sum += copy[0];
    }
}

static void two_threads(slipring::producer& tx, slipring::consumer& rx) {
    std::thread producing([out = std::move(tx)]() mutable {
        payload sent{};
        for (int i = 0; i < FRAMES; i++) {
            sent[0] = static_cast<unsigned char>(i);
            out.send(sent);
        }
    });
    for (auto& frame : rx) sum += frame.as<payload>()[0];
    producing.join();
}

static void measure(const char* name, void (*run)(slipring::producer&, slipring::consumer&)) {
    for (int lap = 0; lap < 2; lap++) {
        auto [tx, rx] = slipring::pair(slipring::options(slipring::kind::spsc).capacity(1 << 16));
        const auto start = std::chrono::steady_clock::now();
        run(tx, rx);
        const std::chrono::duration<double, std::nano> each = std::chrono::steady_clock::now() - start;
        if (lap == 1) std::printf("%s %.2f\n", name, each.count() / FRAMES);
    }
}

int main() {
    measure("in_place", in_place);
    measure("copy", copy);
    measure("two_threads", two_threads);
    return sum == 1;
}
