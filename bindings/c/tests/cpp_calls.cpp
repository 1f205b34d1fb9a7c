/* slipring.hpp: streams, latest values, primitives, wait sets, descriptors, and calls. */

#include <poll.h>

#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

#include "slipring.hpp"

#include "check.h"

using namespace std::chrono_literals;
using slipring::errc;

TEST(streams_are_written_in_place) {
    auto [writer, reader] = slipring::stream_pair(slipring::options(slipring::kind::stream).capacity(4096));
    slipring::vectors room = writer.write_vector();
    CHECK(room.size() == 4096 && room.first.size() + room.second.size() == room.size());
    const auto samples = slipring::elements_of<float>(room.first);
    for (std::size_t i = 0; i < 64; i++) samples[i] = static_cast<float>(i);
    writer.commit(64 * sizeof(float));
    CHECK(writer.try_commit(4096).code() == errc::message_size);
    const auto filled = reader.read_vector();
    CHECK(slipring::elements_of<const float>(slipring::byte_view(filled.first))[63] == 63.0f);
    reader.consume(filled.size());
    CHECK(reader.read_vector().size() == 0);

    char text[8];
    CHECK(reader.try_read(text).code() == errc::would_block);
    CHECK(reader.try_read(text, 1us).code() == errc::timed_out);
    CHECK(writer.write("hello") == 5);
    CHECK(reader.read(text) == 5 && memcmp(text, "hello", 5) == 0);
    CHECK(writer.try_write(std::vector<char>(5000)).value() == 4096);
    CHECK(writer.try_write("x").code() == errc::would_block);
    CHECK(reader.info().kind == SLIPRING_STREAM);
    writer.close();
    std::vector<char> all(8192);
    CHECK(reader.read(all) == 4096);
    CHECK(reader.try_read(all, slipring::forever).code() == errc::closed);
}

TEST(ring_buffers_join_two_threads) {
    slipring::ringbuffer buffer(1 << 12);
    std::thread writer([&buffer] {
        for (std::uint32_t i = 0; i < 2000;) {
            if (buffer.write_space() < sizeof i) {
                std::this_thread::yield();
                continue;
            }
            CHECK(buffer.write(slipring::bytes_of(i)) == sizeof i);
            i++;
        }
    });
    for (std::uint32_t i = 0, got = 0; i < 2000;) {
        const slipring::bytes to = slipring::bytes_of(got);
        if (buffer.peek(to) < sizeof got) {
            std::this_thread::yield();
            continue;
        }
        CHECK(got == i && buffer.read_vector().size() >= sizeof got);
        buffer.read_advance(sizeof got);
        i++;
    }
    writer.join();
    slipring::ringbuffer moved = std::move(buffer);
    CHECK(buffer.native() == nullptr && buffer.write("x") == 0 && buffer.read_space() == 0);
    slipring::ringbuffer& same = moved;
    moved = std::move(same);
    const auto room = moved.write_vector();
    CHECK(room.size() == moved.write_space());
    room.first[0] = std::byte{'z'};
    moved.write_advance(1);
    char text[4];
    CHECK(moved.read(text) == 1 && text[0] == 'z');
    moved.reset();
    CHECK(moved.read_space() == 0);
}

TEST(latest_values_are_read_and_watched) {
    const auto how = slipring::options(slipring::kind::latest).capacity(4).payload(16);
    slipring::latest_writer writer("latest", how);
    slipring::latest_reader reader("latest");
    CHECK(reader.try_read_as<double>(1).code() == errc::would_block);
    CHECK(writer.write(1, slipring::bytes_of(1.5)) == 1);
    CHECK(writer.write(1, slipring::bytes_of(2.5)) == 2);
    CHECK(reader.changed() == 1);
    char buffer[16];
    const slipring::reading reading = reader.read(1, buffer);
    CHECK(reading.len == sizeof(double) && reading.version == 2 && reading.skipped == 0);
    CHECK(reader.read_as<double>(1) == 2.5);
    CHECK(reader.try_read_as<float>(1).code() == errc::message_size);
    CHECK(reader.try_read_as<double>(4).code() == errc::invalid);
    CHECK(writer.try_write(4, "x").code() == errc::invalid);
    const std::size_t cells[] = {2};
    reader.watch(cells);
    writer.write(1, slipring::bytes_of(3.5));
    writer.write(1, slipring::bytes_of(4.5));
    CHECK(reader.read(1, buffer).skipped == 1);
    CHECK(reader.try_changed().code() == errc::would_block);
    slipring::remove("latest");
}

TEST(semaphores_and_events) {
    slipring::semaphore permits("permits", slipring::options().capacity(2));
    {
        std::unique_lock one(permits);
        std::unique_lock two(permits, std::try_to_lock);
        CHECK(two.owns_lock() && permits.available() == 0 && !permits.try_lock());
        CHECK(permits.try_acquire(1us).code() == errc::timed_out);
    }
    CHECK(permits.available() == 2);
    CHECK(permits.try_release().code() == errc::not_held);
    slipring::semaphore moved = std::move(permits);
    CHECK(permits.try_acquire().code() == errc::bad_handle);

    slipring::signal_semaphore signals(slipring::options().capacity(10));
    signals.post(2);
    signals.wait();
    CHECK(signals.try_wait().has_value());
    CHECK(signals.try_wait().code() == errc::would_block);

    slipring::event_flag flag("flag", slipring::options().capacity(1));
    CHECK(flag.try_wait().code() == errc::would_block);
    flag.set();
    flag.wait();
    CHECK(flag.reset() && !flag.reset());
    slipring::remove("permits");
    slipring::remove("flag");
}

struct account {
    std::int64_t balance;
};

PEER(dies_with_the_lock) {
    slipring::mutex mutex(peer_args[0]);
    auto locked = mutex.acquire();
    locked.as<account>().balance = -1;
    raise(SIGKILL);
    return 1;
}

TEST(a_mutex_guards_its_data) {
    slipring::mutex mutex("account", slipring::options().capacity(sizeof(account)));
    {
        auto locked = mutex.acquire();
        CHECK(locked.data().size() >= sizeof(account) && !locked.owner_died());
        locked.as<account>().balance = 10;
        CHECK(mutex.try_acquire().code() == errc::held);
        auto moved = std::move(locked);
        CHECK(locked.data().empty());
        moved.as<account>().balance += 1;
    }
    {
        std::unique_lock lock(mutex);
        slipring::mutex other("account");
        CHECK(!other.try_lock());
        CHECK(other.try_acquire(1us).code() == errc::timed_out);
    }
    CHECK(end_peer(start_peer("dies_with_the_lock", "account", nullptr)) == 1000 + SIGKILL);
    bool told = false;
    try {
        mutex.lock();
    } catch (const slipring::error& error) {
        told = error.code() == std::errc::owner_dead;
    }
    CHECK(told);
    {
        auto locked = mutex.acquire();
        CHECK(locked.owner_died() && locked.as<account>().balance == -1);
        locked.mark_consistent();
    }
    CHECK(mutex.try_lock());
    mutex.unlock();
    slipring::remove("account");
}

TEST(a_wait_set_waits_for_all) {
    auto [tx, rx] = slipring::pair(slipring::kind::spsc);
    slipring::event_flag flag(slipring::options().capacity(1));
    slipring::wait_set set;
    set.add(10, rx);
    set.add(11, flag);
    int ends[2];
    CHECK(pipe(ends) == 0);
    set.add_fd(12, ends[0]);
    CHECK(set.try_add(10, flag).code() == errc::invalid);
    CHECK(set.try_wait().value().empty());
    CHECK(set.try_wait(1us).code() == errc::timed_out);
    tx.send("x");
    CHECK(set.wait().size() == 1 && set.wait()[0] == 10);
    rx.recv().release();
    CHECK(write(ends[1], "x", 1) == 1);
    flag.set();
    std::size_t sum = 0;
    for (const std::size_t token : set.wait()) sum += token;
    while (sum != 23) sum = sum == 11 || sum == 12 ? sum + set.wait()[0] : 23;
    CHECK(set.remove(12) && !set.remove(12));
    flag.reset();

    slipring::waker waker(set, 99);
    std::thread waking([&waker] { waker.wake(); });
    CHECK(set.wait()[0] == 99);
    waking.join();
    slipring::wait_set moved = std::move(set);
    tx.send("y");
    CHECK(moved.wait()[0] == 10);
    CHECK(set.try_wait().code() == errc::bad_handle);
    close(ends[0]);
    close(ends[1]);
}

TEST(a_canceller_ends_a_wait) {
    auto [tx, rx] = slipring::pair(slipring::kind::spsc);
    CHECK(rx.try_recv().code() == errc::would_block);
    slipring::canceller canceller(rx);
    std::thread cancelling([&canceller] { canceller.cancel(); });
    CHECK(rx.try_recv(slipring::forever).code() == errc::cancelled);
    cancelling.join();
    canceller.reset();
    tx.send("x");
    CHECK(rx.recv().text() == "x");
}

PEER(sends_when_polled) {
    slipring::producer tx(peer_args[0]);
    tx.wait_for_peer();
    for (int i = 0; i < 100; i++) tx.send(slipring::bytes_of(i));
    return 0;
}

TEST(a_descriptor_is_polled) {
    slipring::consumer rx("polled", slipring::options(slipring::kind::spsc).capacity(4096));
    pollfd polled{rx.fd(), POLLIN, 0};
    const pid_t pid = start_peer("sends_when_polled", "polled", nullptr);
    int next = 0;
    for (bool is_open = true; is_open;) {
        while (true) {
            const auto frame = rx.try_recv();
            is_open = frame || frame.code() == errc::would_block;
            if (!frame) break;
            CHECK(frame->as<int>() == next++);
        }
        if (is_open) CHECK(poll(&polled, 1, 60000) == 1);
    }
    CHECK(next == 100 && end_peer(pid) == 0);
    CHECK(rx.try_recv().code() == errc::closed);
    slipring::remove("polled");
}

TEST(calls_are_answered) {
    slipring::server server("calls", 2);
    std::thread serving([&server] {
        while (true) {
            auto request = server.recv();
            CHECK(request.remaining() > 0s);
            CHECK(request.text() != "one" || !request.is_cancelled());
            if (request.text() == "end") return request.reply("ended");
            if (request.text() == "drop") continue;
            auto moved = std::move(request);
            moved.reply("re: " + std::string(moved.text()));
            CHECK(moved.try_reply("twice").code() == errc::bad_handle);
        }
    });
    slipring::client client("calls");
    const auto text = [](slipring::byte_view of) {
        return std::string(reinterpret_cast<const char*>(of.data()), of.size());
    };
    CHECK(text(client.call("one", 60s)) == "re: one");
    CHECK(client.try_call("drop").code() == errc::unanswered);
    const auto first = client.start("a"), second = client.start("b"), third = client.start("c");
    CHECK(text(client.finish(second)) == "re: b");
    CHECK(text(client.finish(first)) == "re: a");
    client.cancel(third);
    CHECK(client.try_finish(third).code() == errc::not_held);
    slipring::client other = std::move(client);
    CHECK(client.try_call("x").code() == errc::bad_handle);
    CHECK(text(other.call("end")) == "ended");
    serving.join();
    server.take();
    CHECK(server.try_recv().code() == errc::would_block);
    server.close();
    slipring::remove_server("calls");
}

PEER(dying_server) {
    slipring::server server(peer_args[0], 2);
    auto request = server.recv();
    raise(SIGKILL);
    return 1;
}

TEST(a_killed_server_ends_the_call) {
    slipring::server("killed", 2).close();
    slipring::client client("killed");
    const pid_t pid = start_peer("dying_server", "killed", nullptr);
    CHECK(client.try_call("x", 60s).code() == errc::peer_dead);
    CHECK(end_peer(pid) == 1000 + SIGKILL);
    slipring::remove_server("killed");
}
