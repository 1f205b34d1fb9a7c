/*
 * A consumer in an event loop, beside a timer: poll(2) on its descriptor. Receive until the ring is
 * empty, then poll: the call that finds it empty arms the descriptor.
 *
 *     make -C bindings/c examples && target/bindings-c/examples/cpp_event_loop
 */

#include <poll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include "slipring.hpp"

using namespace std::chrono_literals;

int main() {
    auto [tx, rx] = slipring::pair(slipring::kind::spsc);
    const int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    const itimerspec each_20_ms{{0, 20'000'000}, {0, 20'000'000}};
    if (timer < 0 || timerfd_settime(timer, 0, &each_20_ms, nullptr) != 0) return 1;

    std::thread sender([out = std::move(tx)]() mutable {
        for (int i = 0; i < 5; i++) {
            out.send("message " + std::to_string(i));
            std::this_thread::sleep_for(50ms);
        }
    });

    pollfd polled[] = {{rx.fd(), POLLIN, 0}, {timer, POLLIN, 0}};
    int messages = 0, ticks = 0;
    while (true) {
        auto frame = rx.try_recv();
        for (; frame; frame.value().release(), frame = rx.try_recv()) {
            std::printf("%.*s\n", static_cast<int>(frame->size()), frame->text().data());
            messages++;
        }
        if (frame.code() == slipring::errc::closed) break;
        if (frame.code() != slipring::errc::would_block) {
            /* errc::peer_dead, if the producer was in another process that was killed; or another error. */
            std::fprintf(stderr, "receive: %s\n", slipring::last_error());
            std::_Exit(1);
        }
        if (poll(polled, 2, -1) < 0) {
            if (errno == EINTR) continue; /* a signal handler ran */
            std::perror("poll");
            std::_Exit(1);
        }
        if (polled[1].revents) {
            std::uint64_t expired = 0;
            if (read(timer, &expired, sizeof expired) > 0) ticks += static_cast<int>(expired);
        }
    }
    sender.join();
    close(timer);
    std::printf("%d messages, the timer expired %d times\n", messages, ticks);
    return messages == 5 && ticks > 0 ? 0 : 1;
}
