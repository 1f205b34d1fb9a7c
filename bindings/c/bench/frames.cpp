/* What a frame of 64 bytes costs from C++: the same as frames.c, by slipring.hpp. */

#include <chrono>
#include <cstdio>
#include <thread>

#include "slipring.hpp"

static constexpr int FRAMES = 2000000;

using payload = std::array<unsigned char, 64>;

template <class F>
static double ns_a_frame(F&& each) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < FRAMES; i++) each(i);
    return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count() / FRAMES;
}

int main() {
    const auto how = slipring::options(slipring::kind::spsc).capacity(1 << 16);
    payload sent{}, copy{};
    unsigned sum = 0;
    double figure = 0;
    auto [tx, rx] = slipring::pair(how);
    for (int lap = 0; lap < 2; lap++) {
        figure = ns_a_frame([&, &out = tx, &in = rx](int i) {
            sent[0] = static_cast<unsigned char>(i);
            out.send(sent, slipring::no_wait);
            sum += in.recv(slipring::no_wait).as<payload>()[0];
        });
    }
    std::printf("%.2f ", figure);
    for (int lap = 0; lap < 2; lap++) {
        figure = ns_a_frame([&, &out = tx, &in = rx](int i) {
            sent[0] = static_cast<unsigned char>(i);
            out.send(sent, slipring::no_wait);
            in.recv_into(copy, slipring::no_wait);
            sum += copy[0];
        });
    }
    std::printf("%.2f ", figure);
    auto [sender, receiver] = slipring::pair(how);
    std::thread producing([out = std::move(sender)]() mutable {
        payload bytes{};
        ns_a_frame([&](int i) {
            bytes[0] = static_cast<unsigned char>(i);
            out.send(bytes);
        });
    });
    std::printf("%.2f\n", ns_a_frame([&, &in = receiver](int) { sum += in.recv().as<payload>()[0]; }));
    producing.join();
    return sum == 1;
}
