/*
 * slipring.hpp: crash-safe shared-memory IPC for Linux, from C++17 and later.
 *
 * A header over slipring.h, whose comments tell each call's errors, progress and system calls. One
 * class for each of its handles: it closes the handle when it ends, and can be moved, not copied.
 *
 *     slipring::producer tx("ticks", slipring::kind::spsc);
 *     tx.send("hello");
 *
 *     slipring::consumer rx("ticks", slipring::kind::spsc);
 *     for (auto& frame : rx) std::cout << frame.text() << '\n';
 *
 * Errors. What can fail has two forms, constructors too: try_open(). `recv()` returns what was
 * received and throws slipring::error, a std::system_error. `try_recv()` never throws: it returns a
 * result<T>, which has a value or a code. With -fno-exceptions, use the second form; the first prints
 * the error and ends the program. Only lock(), unlock() and try_lock(), which std::unique_lock wants,
 * have one form: try_acquire() is the other.
 *
 * Time-outs. A `timeout` is a std::chrono duration, a time_point (a deadline), `forever` or
 * `no_wait`. By default `recv()` waits without limit and `try_recv()` does not wait.
 *
 * Threads, fork. As in slipring.h: a handle belongs to the thread of its first call, `take()` hands
 * it over. A frame, a grant or a request ends in the thread of its handle. A handle that was moved
 * from is closed: calls on it fail with errc::bad_handle.
 */

#ifndef SLIPRING_HPP
#define SLIPRING_HPP

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <limits>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#if defined(__has_include) && __cplusplus >= 202002L
#if __has_include(<span>)
#include <span>
#endif
#endif

#include "slipring.h"

namespace slipring {

// ------------------------------------------------------------------------------------- errors

/// Why a call failed: the codes of slipring.h, where each is explained.
enum class errc : int {
    ok = 0,
    would_block = SLIPRING_EAGAIN,
    timed_out = SLIPRING_ETIMEDOUT,
    closed = SLIPRING_EPIPE,
    invalid = SLIPRING_EINVAL,
    message_size = SLIPRING_EMSGSIZE,
    not_found = SLIPRING_ENOENT,
    exists = SLIPRING_EEXIST,
    not_supported = SLIPRING_EOPNOTSUPP,
    cancelled = SLIPRING_ECANCELED,
    overflow = SLIPRING_EOVERFLOW,
    busy = SLIPRING_EBUSY,
    peer_dead = SLIPRING_EPEERDEAD,
    bad_handle = SLIPRING_EHANDLE,
    wrong_thread = SLIPRING_EWRONGTHREAD,
    forked = SLIPRING_EFORKED,
    held = SLIPRING_EHELD,
    not_held = SLIPRING_ENOTHELD,
    other_type = SLIPRING_EOTHERTYPE,
    incompatible = SLIPRING_EINCOMPATIBLE,
    corrupt = SLIPRING_ECORRUPT,
    untrusted = SLIPRING_EUNTRUSTED,
    role_taken = SLIPRING_EROLETAKEN,
    too_many = SLIPRING_ETOOMANY,
    no_consumer = SLIPRING_ENOCONSUMER,
    evicted = SLIPRING_EEVICTED,
    overtaken = SLIPRING_EOVERTAKEN,
    unanswered = SLIPRING_EUNANSWERED,
    too_many_handles = SLIPRING_ETOOMANYHANDLES,
};

namespace detail {

class category final : public std::error_category {
   public:
    const char* name() const noexcept override { return "slipring"; }
    std::string message(int code) const override { return slipring_strerror(code); }
    /// Codes that are errno values equal those of std::errc.
    std::error_condition default_error_condition(int code) const noexcept override {
        return code < 4096 ? std::error_condition(code, std::generic_category())
                           : std::error_condition(code, *this);
    }
};

}  // namespace detail

/// The category of all codes of this library.
inline const std::error_category& category() noexcept {
    static const detail::category instance;
    return instance;
}

inline std::error_code make_error_code(errc code) noexcept {
    return {static_cast<int>(code), category()};
}

/// What the calling thread's last failed call said, with the values: for example both types of a
/// mismatch. What slipring::error::what() has, for results. The text changes with the next failure;
/// its address stays good while the thread runs.
inline const char* last_error() noexcept { return slipring_last_error(); }

/// A failed call. `code()` compares with errc, and with std::errc where an errno value says the
/// same; `what()` has the details.
class error : public std::system_error {
   public:
    error(errc code, const std::string& details)
        : std::system_error(make_error_code(code)), details_(details) {}
    const char* what() const noexcept override { return details_.what(); }

   private:
    std::runtime_error details_; /* a text that is copied without throwing */
};

namespace detail {

[[noreturn]] inline void fail(int code, const char* details) {
#if defined(__cpp_exceptions)
    throw error(static_cast<errc>(-code), details);
#else
    std::fprintf(stderr, "slipring: %s (%d)\n", details, code);
    std::abort();
#endif
}

[[noreturn, gnu::cold, gnu::noinline]] inline void fail(int code) { fail(code, slipring_last_error()); }

/// Passes on what a call returned, unless it is a code.
template <class Int>
inline Int check(Int returned) {
    if (returned < 0) fail(static_cast<int>(returned));
    return returned;
}

/// Says to construct a result by a function that fills its value and returns 0 or a code.
struct fill {};

/// The value of a failed result. Another one for types whose default constructor opens something.
template <class T>
struct empty {
    static T value() noexcept { return T{}; }
};

}  // namespace detail

/// A value, or the code of the failure. The value of a failed result is an empty T.
template <class T>
class [[nodiscard]] result {
   public:
    result(T value) noexcept : value_(std::move(value)) {}
    result(errc code) noexcept : code_(-static_cast<int>(code)) {}
    template <class F>
    result(detail::fill, F&& function) noexcept {
        const auto returned = function(value_);
        code_ = returned < 0 ? static_cast<int>(returned) : 0;
    }

    explicit operator bool() const noexcept { return code_ == 0; }
    bool has_value() const noexcept { return code_ == 0; }
    errc code() const noexcept { return static_cast<errc>(-code_); }
    std::error_code error() const noexcept { return make_error_code(code()); }

    T& operator*() & noexcept { return value_; }
    const T& operator*() const& noexcept { return value_; }
    T&& operator*() && noexcept { return std::move(value_); }
    T* operator->() noexcept { return &value_; }
    const T* operator->() const noexcept { return &value_; }
    /// The value; throws slipring::error if there is none.
    T& value() & { return detail::check(code_), value_; }
    const T& value() const& { return detail::check(code_), value_; }
    T&& value() && { return detail::check(code_), std::move(value_); }

   private:
    T value_ = detail::empty<T>::value();
    int code_ = 0;
};

/// Success, or the code of the failure.
template <>
class [[nodiscard]] result<void> {
   public:
    result() noexcept = default;
    result(errc code) noexcept : code_(-static_cast<int>(code)) {}
    result(detail::fill, int returned) noexcept : code_(returned < 0 ? returned : 0) {}

    explicit operator bool() const noexcept { return code_ == 0; }
    bool has_value() const noexcept { return code_ == 0; }
    errc code() const noexcept { return static_cast<errc>(-code_); }
    std::error_code error() const noexcept { return make_error_code(code()); }
    void value() const { detail::check(code_); }

   private:
    int code_ = 0;
};

// ------------------------------------------------------------------------------------ time-outs

/// How long a call may wait.
class timeout {
   public:
    /// A duration from now. Zero does not wait, and fails with errc::would_block; a negative one has
    /// passed: errc::timed_out.
    template <class Rep, class Period>
    constexpr timeout(std::chrono::duration<Rep, Period> duration) noexcept
        : ns_(nanoseconds(duration)) {}
    /// A deadline.
    template <class Clock, class Duration>
    timeout(std::chrono::time_point<Clock, Duration> deadline) noexcept {
        const auto now = Clock::now();
        ns_ = deadline > now ? nanoseconds(deadline - now) : 1;
    }

    /// As slipring.h has it: negative without limit.
    constexpr std::int64_t ns() const noexcept { return ns_; }
    static constexpr timeout without_limit() noexcept { return timeout(); }

   private:
    constexpr timeout() noexcept : ns_(-1) {}
    template <class Duration>
    static constexpr std::int64_t nanoseconds(Duration duration) noexcept {
        using std::chrono::nanoseconds;
        if (duration == Duration::zero()) return 0;
        if (!(duration > Duration::zero())) return 1;
        if (std::chrono::duration<double>(duration) >= std::chrono::duration<double>(nanoseconds::max()))
            return -1;
        const auto count = std::chrono::duration_cast<nanoseconds>(duration).count();
        return count > 0 ? count : 1;
    }

    std::int64_t ns_;
};

/// Waits without limit.
inline constexpr timeout forever = timeout::without_limit();
/// Does not wait.
inline constexpr timeout no_wait = std::chrono::nanoseconds(0);

// --------------------------------------------------------------------------------------- views

namespace detail {

template <class C>
using element = std::remove_pointer_t<decltype(std::declval<C&>().data())>;

template <class T>
inline constexpr bool is_byte = std::is_same_v<std::remove_const_t<T>, std::byte>;

/// What untyped memory is pointed to by, other than std::byte.
template <class T>
inline constexpr bool is_untyped =
    std::is_void_v<T> || std::is_same_v<std::remove_const_t<T>, char> ||
    std::is_same_v<std::remove_const_t<T>, unsigned char> || std::is_same_v<std::remove_const_t<T>, signed char>;

/// Whether a container of From can be seen as a view of T: the same type, or as its bytes.
template <class From, class T>
inline constexpr bool viewable =
    std::is_convertible_v<From (*)[], T (*)[]> ||
    (is_byte<T> && std::is_trivially_copyable_v<From> && (std::is_const_v<T> || !std::is_const_v<From>));

}  // namespace detail

/// A pointer and a number of elements, which belong to another object: std::span, to which it
/// converts in C++20.
template <class T>
class view {
   public:
    using element_type = T;
    using value_type = std::remove_cv_t<T>;

    constexpr view() noexcept = default;
    constexpr view(T* data, std::size_t size) noexcept : data_(data), size_(size) {}
    /// Untyped memory, or characters, for views of bytes.
    template <class V, class = std::enable_if_t<detail::is_byte<T> && detail::is_untyped<V> &&
                                                (std::is_const_v<T> || !std::is_const_v<V>)>>
    view(V* data, std::size_t size) noexcept
        : data_(static_cast<T*>(static_cast<std::conditional_t<std::is_const_v<T>, const void, void>*>(data))),
          size_(size) {}
    /// Anything with data() and size(): of T; for views of bytes also of other plain values.
    template <class C, class E = detail::element<C>, class = std::enable_if_t<detail::viewable<E, T>>>
    constexpr view(C&& container) noexcept
        : view(cast(container.data()), container.size() * (sizeof(E) / sizeof(T))) {}
    /// An array; as bytes to read, arrays of char are texts.
    template <class E, std::size_t N,
              class = std::enable_if_t<detail::viewable<E, T> &&
                                       !(std::is_const_v<T> && std::is_same_v<std::remove_const_t<E>, char>)>>
    constexpr view(E (&array)[N]) noexcept : view(cast(array), N * (sizeof(E) / sizeof(T))) {}
    /// The characters of a text, without the zero at its end.
    template <class V, class = std::enable_if_t<std::is_same_v<V, char> && std::is_same_v<T, const std::byte>>>
    view(const V* text) noexcept : view(std::string_view(text)) {}

    constexpr T* data() const noexcept { return data_; }
    constexpr std::size_t size() const noexcept { return size_; }
    constexpr bool empty() const noexcept { return size_ == 0; }
    constexpr T* begin() const noexcept { return data_; }
    constexpr T* end() const noexcept { return data_ + size_; }
    constexpr T& operator[](std::size_t at) const noexcept { return data_[at]; }
    /// The first `n` elements, or all if there are fewer.
    constexpr view first(std::size_t n) const noexcept { return {data_, n < size_ ? n : size_}; }
    /// All but the first `n` elements.
    constexpr view drop(std::size_t n) const noexcept {
        return n < size_ ? view(data_ + n, size_ - n) : view();
    }

   private:
    template <class E>
    static constexpr T* cast(E* data) noexcept {
        if constexpr (std::is_convertible_v<E (*)[], T (*)[]>)
            return data;
        else
            return reinterpret_cast<T*>(data);
    }

    T* data_ = nullptr;
    std::size_t size_ = 0;
};

/// Bytes to read.
using byte_view = view<const std::byte>;
/// Bytes to write.
using bytes = view<std::byte>;

/// The bytes of one plain value.
template <class T>
inline byte_view bytes_of(const T& value) noexcept {
    static_assert(std::is_trivially_copyable_v<T>, "only plain values are sent as their bytes");
    return {reinterpret_cast<const std::byte*>(&value), sizeof(T)};
}

/// The same, to write into it.
template <class T, class = std::enable_if_t<!std::is_const_v<T>>>
inline bytes bytes_of(T& value) noexcept {
    static_assert(std::is_trivially_copyable_v<T>, "only plain values are received as their bytes");
    return {reinterpret_cast<std::byte*>(&value), sizeof(T)};
}

/// Bytes as values of T: as many whole ones as there are, and none if the address is not aligned.
template <class T, class Byte>
inline auto elements_of(view<Byte> of) noexcept {
    static_assert(std::is_trivially_copyable_v<T>, "only plain values can be seen in bytes");
    using E = std::conditional_t<std::is_const_v<Byte>, const T, T>;
    const bool is_aligned = reinterpret_cast<std::uintptr_t>(of.data()) % alignof(T) == 0;
    return is_aligned ? view<E>(reinterpret_cast<E*>(of.data()), of.size() / sizeof(T)) : view<E>();
}

/// The one value of T that the bytes are; null if they have another size or alignment.
template <class T>
inline const T* try_as(byte_view of) noexcept {
    const view<const T> values = elements_of<T>(of);
    return of.size() == sizeof(T) && values.size() == 1 ? values.data() : nullptr;
}

/// The one value of T that the bytes are, in place; errc::message_size if they have another size or
/// alignment.
template <class T>
inline const T& as(byte_view of) {
    if (const T* value = try_as<T>(of)) return *value;
    detail::fail(-SLIPRING_EMSGSIZE,
                 ("the payload has " + std::to_string(of.size()) + " bytes, the type " +
                  std::to_string(sizeof(T)) + ", aligned to " + std::to_string(alignof(T)))
                     .c_str());
}

// ------------------------------------------------------------------------------------- options

/// The kinds of rings.
enum class kind : int {
    any = SLIPRING_ANY,
    spsc = SLIPRING_SPSC,
    mpmc = SLIPRING_MPMC,
    stream = SLIPRING_STREAM,
    latest = SLIPRING_LATEST,
    broadcast = SLIPRING_BROADCAST,
    mpsc = SLIPRING_MPSC,
};

/// Where a broadcast subscriber begins.
enum class start : int { latest = SLIPRING_START_LATEST, oldest = SLIPRING_START_OLDEST };

/// What a publisher does about a slow reliable subscriber.
enum class slow : int {
    block = SLIPRING_SLOW_BLOCK,
    fail = SLIPRING_SLOW_FAIL,
    evict = SLIPRING_SLOW_EVICT,
};

/// How blocking calls wait.
enum class idle : int {
    park = SLIPRING_IDLE_PARK,
    spin = SLIPRING_IDLE_SPIN,
    yield = SLIPRING_IDLE_YIELD,
    backoff = SLIPRING_IDLE_BACKOFF,
};

/// How to create or open something: slipring_options, by chained calls. A `kind` converts to it.
///
///     slipring::options(slipring::kind::mpmc).capacity(4096).payload(64)
class options {
   public:
    options() = default;
    options(slipring::kind of) { c_.kind = static_cast<int>(of); }

    options& capacity(std::size_t n) { return c_.capacity = n, *this; }
    options& payload(std::size_t n) { return c_.payload = n, *this; }
    options& lanes(std::size_t n) { return c_.lanes = n, *this; }
    options& participants(std::size_t n) { return c_.participants = n, *this; }
    options& mode(std::uint32_t permissions) { return c_.mode = permissions, *this; }
    options& idle(slipring::idle how) { return c_.idle = static_cast<int>(how), *this; }
    options& start(slipring::start where) { return c_.start = static_cast<int>(where), *this; }
    options& slow(slipring::slow what) { return c_.slow = static_cast<int>(what), *this; }
    /// slow::evict, of subscribers that leave no room for so long.
    options& evict_after(timeout time) {
        return c_.evict_after_ns = time.ns(), slow(slipring::slow::evict);
    }
    options& connect_timeout(timeout time) { return c_.connect_timeout_ns = time.ns(), *this; }
    options& at_most_once() { return flag(SLIPRING_AT_MOST_ONCE); }
    options& lossy() { return flag(SLIPRING_LOSSY); }
    options& fail_without_consumer() { return flag(SLIPRING_FAIL_WITHOUT_CONSUMER); }
    options& prefault() { return flag(SLIPRING_PREFAULT); }
    options& lock_memory() { return flag(SLIPRING_LOCK_MEMORY); }
    options& huge_pages() { return flag(SLIPRING_HUGE_PAGES); }
    options& best_effort() { return flag(SLIPRING_BEST_EFFORT); }
    options& trust_group() { return flag(SLIPRING_TRUST_GROUP); }
    /// Opens the anonymous segment of a descriptor, which stays the caller's.
    options& from_fd(int fd) { return c_.fd = fd, flag(SLIPRING_FROM_FD); }
    options& directory(std::string path) { return directory_ = std::move(path), *this; }
    options& message_type(std::string text) { return message_type_ = std::move(text), *this; }

    /// For slipring.h, as long as this object is not changed.
    slipring_options c() const noexcept {
        slipring_options all = c_;
        all.directory = directory_.empty() ? nullptr : directory_.c_str();
        all.message_type = message_type_.empty() ? nullptr : message_type_.c_str();
        return all;
    }

   private:
    options& flag(int flag) { return c_.flags |= static_cast<std::uint32_t>(flag), *this; }

    slipring_options c_ = SLIPRING_OPTIONS_INIT;
    std::string directory_;
    std::string message_type_;
};

// ------------------------------------------------------------------------------------- handles

/// What is known about a ring.
using info = slipring_info;

/// What all handles have: they close themselves, and move.
template <class C>
class handle {
   public:
    handle() noexcept = default;
    /// Owns a handle of slipring.h from now on.
    explicit handle(C* native) noexcept : native_(native) {}
    handle(handle&& other) noexcept : native_(std::exchange(other.native_, nullptr)) {}
    handle& operator=(handle&& other) noexcept {
        C* native = std::exchange(other.native_, nullptr);
        if (native_) slipring_close(native_);
        native_ = native;
        return *this;
    }
    ~handle() {
        if (native_) slipring_close(native_);
    }

    /// For slipring.h. Null if it was closed or moved from.
    C* native() const noexcept { return native_; }
    explicit operator bool() const noexcept { return native_ != nullptr; }

    /// Closes it now. What it holds is aborted, released or unlocked.
    result<void> try_close() noexcept {
        const int code = slipring_close(native_);
        if (code == 0) native_ = nullptr;
        return {detail::fill(), code};
    }
    void close() { try_close().value(); }
    /// Makes the calling thread its owner, while the owner before is in no call on it.
    result<void> try_take() noexcept { return {detail::fill(), slipring_take(native_)}; }
    void take() { try_take().value(); }

   private:
    C* native_ = nullptr;
};

namespace detail {

/// A handle that is opened by name or anonymously, with options.
template <class Self, class C, int (*Open)(const char*, const slipring_options*, C**)>
class opened : public handle<C> {
   public:
    using handle<C>::handle;
    /// Opens it, or creates it if the options say what.
    explicit opened(const std::string& name, const options& how = {}) { check(open(name.c_str(), how)); }
    /// Makes an anonymous one, for threads, or for processes that get its segment_fd(); or opens the
    /// other side by options::from_fd().
    explicit opened(const options& how) { check(open(nullptr, how)); }

    static result<Self> try_open(const std::string& name, const options& how = {}) noexcept {
        return {fill(), [&](Self& self) { return self.open(name.c_str(), how); }};
    }
    static result<Self> try_open(const options& how) noexcept {
        return {fill(), [&](Self& self) { return self.open(nullptr, how); }};
    }

    /// The descriptor of its segment, for another process. It belongs to this handle.
    result<int> try_segment_fd() const noexcept {
        return {fill(), [&](int& fd) { return fd = slipring_segment_fd(this->native()); }};
    }
    int segment_fd() const { return try_segment_fd().value(); }

   protected:
    ~opened() = default;
    opened(opened&&) noexcept = default;
    opened& operator=(opened&&) noexcept = default;

    int open(const char* name, const options& how) noexcept {
        const slipring_options given = how.c();
        C* native = nullptr;
        const int code = Open(name, &given, &native);
        handle<C>::operator=(handle<C>(native));
        return code;
    }
};

/// An end of a ring, or of a transport.
template <class Self, class C, int (*Open)(const char*, const slipring_options*, C**)>
class end : public opened<Self, C, Open> {
   public:
    using opened<Self, C, Open>::opened;

    /// Counts of all participants since the ring was created.
    result<slipring::info> try_info() const noexcept {
        return {fill(), [&](slipring::info& info) {
                    info.struct_size = sizeof info;
                    return slipring_get_info(this->native(), &info);
                }};
    }
    slipring::info info() const { return try_info().value(); }
    /// Waits until a peer of the other role is attached.
    result<void> try_wait_for_peer(timeout time = no_wait) noexcept {
        return {fill(), slipring_wait_for_peer(this->native(), time.ns())};
    }
    void wait_for_peer(timeout time = forever) { try_wait_for_peer(time).value(); }
    /// A descriptor for poll: of consumers readable (POLLIN), of producers writable (POLLOUT). Before
    /// polling, call try_recv() or try_send() until it returns errc::would_block.
    result<int> try_fd() noexcept {
        return {fill(), [&](int& fd) { return fd = slipring_fd(this->native()); }};
    }
    int fd() { return try_fd().value(); }

   protected:
    ~end() = default;
    end(end&&) noexcept = default;
    end& operator=(end&&) noexcept = default;
};

}  // namespace detail

// --------------------------------------------------------------------------------------- frames

/// A frame to be built in place. It is sent by commit(), and aborted if it ends without that.
class grant {
   public:
    grant() noexcept = default;
    grant(grant&& other) noexcept
        : owner_(std::exchange(other.owner_, nullptr)), buffer_(std::exchange(other.buffer_, bytes())) {}
    grant& operator=(grant&& other) noexcept {
        grant taken(std::move(other));
        std::swap(owner_, taken.owner_);
        std::swap(buffer_, taken.buffer_);
        return *this;
    }
    ~grant() { abort(); }

    /// The room, whose bytes are not cleared. Empty after commit() and abort().
    bytes buffer() const noexcept { return buffer_; }

    /// Sends the first `n` bytes as a frame. On failure, the grant is still there.
    result<void> try_commit(std::size_t n) noexcept { return ended(slipring_commit(owner_, n)); }
    void commit(std::size_t n) { try_commit(n).value(); }
    /// Sends all bytes.
    result<void> try_commit() noexcept { return try_commit(buffer_.size()); }
    void commit() { commit(buffer_.size()); }
    /// Sends the first `n` bytes with a kind, at least 0x0100, and a stream.
    result<void> try_commit(std::size_t n, std::uint16_t kind, std::uint16_t stream = 0) noexcept {
        return ended(slipring_commit_frame(owner_, kind, stream, n));
    }
    void commit(std::size_t n, std::uint16_t kind, std::uint16_t stream = 0) {
        try_commit(n, kind, stream).value();
    }
    /// Sends nothing.
    void abort() noexcept {
        if (owner_) slipring_abort(std::exchange(owner_, nullptr));
        buffer_ = {};
    }

   private:
    friend class producer;
    result<void> ended(int code) noexcept {
        if (code == 0) owner_ = nullptr, buffer_ = {};
        return {detail::fill(), code};
    }
    int reserve(slipring_producer* owner, std::size_t n, timeout time) noexcept {
        void* data = nullptr;
        const int code = slipring_reserve(owner, n, &data, time.ns());
        if (code == 0) owner_ = owner, buffer_ = bytes(data, n);
        return code;
    }

    slipring_producer* owner_ = nullptr;
    bytes buffer_;
};

/// Sends frames: a producer of a ring, a publisher, or the sender of a transport.
class producer : public detail::end<producer, slipring_producer, slipring_producer_open> {
   public:
    using end::end;

    /// Sends a copy of a payload; waits for room.
    result<void> try_send(byte_view payload, timeout time = no_wait) noexcept {
        return {detail::fill(), slipring_send(native(), payload.data(), payload.size(), time.ns())};
    }
    void send(byte_view payload, timeout time = forever) {
        detail::check(slipring_send(native(), payload.data(), payload.size(), time.ns()));
    }
    /// With a kind, at least 0x0100, and a stream, which the receiver finds in its frame.
    result<void> try_send_frame(std::uint16_t kind, std::uint16_t stream, byte_view payload,
                                timeout time = no_wait) noexcept {
        return {detail::fill(), slipring_send_frame(native(), kind, stream, payload.data(),
                                                    payload.size(), time.ns())};
    }
    void send_frame(std::uint16_t kind, std::uint16_t stream, byte_view payload, timeout time = forever) {
        try_send_frame(kind, stream, payload, time).value();
    }
    /// Sends several payloads, and returns how many: waits for room for the first only.
    result<std::size_t> try_send_batch(view<const byte_view> payloads, timeout time = no_wait) noexcept;
    std::size_t send_batch(view<const byte_view> payloads, timeout time = forever) {
        return try_send_batch(payloads, time).value();
    }
    /// Reserves room for a frame of at most `n` bytes, to build it in place. One at a time.
    result<grant> try_reserve(std::size_t n, timeout time = no_wait) noexcept {
        return {detail::fill(), [&](grant& room) { return room.reserve(native(), n, time); }};
    }
    grant reserve(std::size_t n, timeout time = forever) {
        grant room;
        detail::check(room.reserve(native(), n, time));
        return room;
    }
    /// Waits until a transport has sent all frames.
    result<void> try_flush(timeout time = no_wait) noexcept {
        return {detail::fill(), slipring_flush(native(), time.ns())};
    }
    void flush(timeout time = forever) { try_flush(time).value(); }
};

inline result<std::size_t> producer::try_send_batch(view<const byte_view> payloads, timeout time) noexcept {
    static_assert(sizeof(byte_view) == sizeof(slipring_payload) && std::is_standard_layout_v<byte_view>,
                  "a view is a pointer and a size");
    return {detail::fill(), [&](std::size_t& sent) {
                const auto* first = reinterpret_cast<const slipring_payload*>(payloads.data());
                const std::int64_t n = slipring_send_batch(native(), first, payloads.size(), time.ns());
                sent = n < 0 ? 0 : static_cast<std::size_t>(n);
                return n;
            }};
}

/// What came from a consumer.
enum class event : int {
    frame = SLIPRING_FRAME,
    /// Frames were lost before the next one: see missed().
    gap = SLIPRING_GAP,
    /// A producer of an mpsc ring has closed its lane, or died.
    ended = SLIPRING_ENDED,
    /// A frame that was received before.
    duplicate = SLIPRING_DUPLICATE,
    /// Bytes that no correct peer sends were skipped: missed() of them.
    skipped = SLIPRING_SKIPPED,
};

/// A received frame or event, which belongs to another object.
class frame_view {
   public:
    frame_view() noexcept = default;
    explicit frame_view(const slipring_frame& c, slipring::event what = slipring::event::frame) noexcept
        : c_(c), event_(what) {}

    /// What it is. Events other than frame and duplicate have no payload.
    slipring::event event() const noexcept { return event_; }
    bool is_frame() const noexcept { return event_ == slipring::event::frame; }

    byte_view payload() const noexcept { return {c_.data, c_.len}; }
    std::size_t size() const noexcept { return c_.len; }
    std::string_view text() const noexcept { return {static_cast<const char*>(c_.data), c_.len}; }
    /// The payload as one value, in place; errc::message_size if it has another size or alignment.
    template <class T>
    const T& as() const {
        return slipring::as<T>(payload());
    }
    /// The payload as one value, in place; null if it has another size or alignment.
    template <class T>
    const T* try_as() const noexcept {
        return slipring::try_as<T>(payload());
    }

    std::uint16_t kind() const noexcept { return c_.kind; }
    std::uint16_t stream() const noexcept { return c_.stream; }
    std::uint32_t seq() const noexcept { return c_.seq; }
    std::uint16_t lane() const noexcept { return c_.lane; }
    std::uint16_t producer() const noexcept { return c_.producer; }
    std::uint64_t missed() const noexcept { return c_.missed; }
    bool redelivered() const noexcept { return has(SLIPRING_FRAME_REDELIVERED); }
    bool is_fragment() const noexcept { return has(SLIPRING_FRAME_FRAGMENT); }
    bool died() const noexcept { return has(SLIPRING_FRAME_DIED); }
    bool is_control() const noexcept { return has(SLIPRING_FRAME_CONTROL); }

   protected:
    bool has(int flag) const noexcept { return (c_.flags & static_cast<std::uint32_t>(flag)) != 0; }

    slipring_frame c_{};
    slipring::event event_ = slipring::event::frame;
};

/// A received frame, in place. It is released when it ends: before its consumer receives the next.
class frame : public frame_view {
   public:
    frame() noexcept = default;
    frame(frame&& other) noexcept
        : frame_view(other), owner_(std::exchange(other.owner_, nullptr)) {
        other.clear();
    }
    frame& operator=(frame&& other) noexcept {
        frame taken(std::move(other));
        std::swap(c_, taken.c_);
        std::swap(event_, taken.event_);
        std::swap(owner_, taken.owner_);
        return *this;
    }
    ~frame() {
        if (owner_) slipring_release(owner_);
    }

    /// Gives the room back now. The frame is empty then.
    void release() noexcept {
        if (owner_) slipring_release(std::exchange(owner_, nullptr));
        clear();
    }
    /// Leaves it in the ring instead: the consumer, or its successor, receives it again.
    result<void> try_keep() noexcept {
        clear();
        return {detail::fill(), slipring_keep(std::exchange(owner_, nullptr))};
    }
    void keep() { try_keep().value(); }

    /// Receives the next frame in this object's place, whose frame is released first. 0 or a code.
    int receive(slipring_consumer* consumer, timeout time) noexcept {
        const bool holds = std::exchange(owner_, nullptr) != nullptr;
        const int code = holds ? slipring_recv_next(consumer, &c_, time.ns())
                               : slipring_recv(consumer, &c_, time.ns());
        if (code < 0) return clear(), code;
        event_ = static_cast<slipring::event>(code);
        if (code == SLIPRING_FRAME || code == SLIPRING_DUPLICATE) owner_ = consumer;
        return 0;
    }

   private:
    void clear() noexcept {
        c_ = slipring_frame();
        event_ = slipring::event::frame;
    }

    slipring_consumer* owner_ = nullptr;
};

/// Up to N frames, all released when it ends.
template <std::size_t N>
class batch {
   public:
    batch() noexcept = default;
    batch(batch&& other) noexcept
        : frames_(other.frames_), size_(std::exchange(other.size_, 0)), owner_(std::exchange(other.owner_, nullptr)) {}
    batch& operator=(batch&& other) noexcept {
        batch taken(std::move(other));
        std::swap(frames_, taken.frames_);
        std::swap(size_, taken.size_);
        std::swap(owner_, taken.owner_);
        return *this;
    }
    ~batch() { release(); }

    /// Over the frames, each as a value.
    class iterator {
       public:
        using iterator_category = std::input_iterator_tag;
        using value_type = frame_view;
        using difference_type = std::ptrdiff_t;
        using pointer = const frame_view*;
        using reference = frame_view;

        iterator() noexcept = default;
        explicit iterator(const slipring_frame* at) noexcept : at_(at) {}
        frame_view operator*() const noexcept { return frame_view(*at_); }
        iterator& operator++() noexcept { return ++at_, *this; }
        iterator operator++(int) noexcept { return iterator(at_++); }
        friend bool operator==(const iterator& a, const iterator& b) noexcept { return a.at_ == b.at_; }
        friend bool operator!=(const iterator& a, const iterator& b) noexcept { return a.at_ != b.at_; }

       private:
        const slipring_frame* at_ = nullptr;
    };

    std::size_t size() const noexcept { return size_; }
    bool empty() const noexcept { return size_ == 0; }
    frame_view operator[](std::size_t at) const noexcept { return frame_view(frames_[at]); }
    iterator begin() const noexcept { return iterator(frames_.data()); }
    iterator end() const noexcept { return iterator(frames_.data() + size_); }

    /// Gives the room of all back now.
    void release() noexcept {
        if (owner_) slipring_release(std::exchange(owner_, nullptr));
        size_ = 0;
    }

   private:
    friend class consumer;
    std::int64_t receive(slipring_consumer* consumer, timeout time) noexcept {
        const std::int64_t n = slipring_recv_batch(consumer, frames_.data(), N, time.ns());
        if (n > 0) size_ = static_cast<std::size_t>(n), owner_ = consumer;
        return n;
    }

    std::array<slipring_frame, N> frames_{};
    std::size_t size_ = 0;
    slipring_consumer* owner_ = nullptr;
};

namespace detail {

/// Receives until the other side has closed: for range-based `for`.
template <class Consumer, class Frame>
class frames {
   public:
    struct sentinel {};
    explicit frames(Consumer& from) : from_(&from) { ++*this; }
    Frame& operator*() noexcept { return frame_; }
    frames& operator++() {
        const int code = from_->receive(frame_, forever);
        if (code == -SLIPRING_EPIPE)
            from_ = nullptr;
        else
            from_->check(code);
        return *this;
    }
    bool operator!=(sentinel) const noexcept { return from_ != nullptr; }

   private:
    Consumer* from_;
    Frame frame_;
};

}  // namespace detail

/// Receives frames: a consumer of a ring, a subscriber, or the receiver of a transport. It holds
/// one frame or batch at a time: until that ends, other calls fail with errc::held.
class consumer : public detail::end<consumer, slipring_consumer, slipring_consumer_open> {
   public:
    using end::end;

    /// Receives a frame, in place, or an event of the channel; waits for it. errc::closed and
    /// errc::peer_dead at the end, when all was received.
    result<frame> try_recv(timeout time = no_wait) noexcept {
        return {detail::fill(), [&](frame& to) { return to.receive(native(), time); }};
    }
    frame recv(timeout time = forever) {
        frame to;
        detail::check(to.receive(native(), time));
        return to;
    }
    /// Receives a copy of a frame into a buffer, to which the payload then points. errc::message_size
    /// if it does not fit: the frame is then received by the next call.
    result<frame_view> try_recv_into(bytes buffer, timeout time = no_wait) noexcept {
        return {detail::fill(), [&](frame_view& to) {
                    slipring_frame frame{};
                    const int code =
                        slipring_recv_into(native(), buffer.data(), buffer.size(), &frame, time.ns());
                    if (code >= 0) to = frame_view(frame, static_cast<event>(code));
                    return code;
                }};
    }
    frame_view recv_into(bytes buffer, timeout time = forever) { return try_recv_into(buffer, time).value(); }
    /// Receives up to N frames; waits for the first. Empty if a lane of an mpsc ring has ended.
    template <std::size_t N>
    result<batch<N>> try_recv_batch(timeout time = no_wait) noexcept {
        return {detail::fill(), [&](batch<N>& to) { return to.receive(native(), time); }};
    }
    template <std::size_t N>
    batch<N> recv_batch(timeout time = forever) {
        batch<N> to;
        detail::check(to.receive(native(), time));
        return to;
    }

    /// for (auto& frame : consumer): until the other side has closed; throws other errors.
    auto begin() { return detail::frames<consumer, frame>(*this); }
    auto end() noexcept { return detail::frames<consumer, frame>::sentinel(); }

   private:
    friend class detail::frames<consumer, frame>;
    int receive(frame& to, timeout time) noexcept { return to.receive(native(), time); }
    static void check(int code) { detail::check(code); }
};

namespace detail {

/// Both ends of a new anonymous ring. No call is made on them, so each belongs to the thread that
/// uses it first.
template <class Sender, class Receiver>
inline result<std::pair<Sender, Receiver>> anonymous_pair(options how) noexcept {
    return {fill(), [&](std::pair<Sender, Receiver>& both) {
                auto ring = Receiver::try_open(how);
                if (!ring) return -static_cast<int>(ring.code());
                const int fd = slipring_segment_fd(ring->native());
                if (fd < 0) return fd;
                auto sender = Sender::try_open(how.from_fd(fd));
                if (!sender) return -static_cast<int>(sender.code());
                const int kept = fcntl(fd, F_DUPFD_CLOEXEC, 0);
                if (kept < 0) return -errno;
                (void)ring->try_close();
                auto receiver = Receiver::try_open(how.from_fd(kept));
                ::close(kept);
                if (!receiver) return -static_cast<int>(receiver.code());
                both = {std::move(*sender), std::move(*receiver)};
                return 0;
            }};
}

}  // namespace detail

/// The producer and the consumer of a new anonymous ring, for two threads of this process.
inline result<std::pair<producer, consumer>> try_pair(options how) noexcept {
    return detail::anonymous_pair<producer, consumer>(std::move(how));
}
inline std::pair<producer, consumer> pair(options how) { return try_pair(std::move(how)).value(); }

/// Both directions of an endpoint, such as "unix:/run/user/1000/app.sock".
inline result<std::pair<producer, consumer>> try_duplex(const std::string& endpoint,
                                                        const options& how = {}) noexcept {
    return {detail::fill(), [&](std::pair<producer, consumer>& both) {
                const slipring_options given = how.c();
                slipring_producer* tx = nullptr;
                slipring_consumer* rx = nullptr;
                const int code = slipring_duplex_open(endpoint.c_str(), &given, &tx, &rx);
                both = {producer(tx), consumer(rx)};
                return code;
            }};
}
inline std::pair<producer, consumer> duplex(const std::string& endpoint, const options& how = {}) {
    return try_duplex(endpoint, how).value();
}

// --------------------------------------------------------------------------------------- typed

/// Names a type without an object of it: see SLIPRING_DESCRIBE.
template <class T>
struct type {};

namespace detail {

template <class T>
inline constexpr bool is_character = std::is_same_v<T, char> || std::is_same_v<T, std::byte>;

template <class T>
inline constexpr bool is_no_field = std::is_enum_v<T> || std::is_pointer_v<T>;

template <class T>
struct description {
    static std::string text() {
        static_assert(!std::is_enum_v<T> || is_character<T>,
                      "an enum has values that other programs do not know: declare the field as its "
                      "std::underlying_type_t, and check what is received");
        static_assert(!std::is_pointer_v<T>, "an address means nothing in another process: send what it points to");
        if constexpr (is_character<T>) {
            return "u8";
        } else if constexpr (std::is_floating_point_v<T>) {
            static_assert(sizeof(T) <= 8, "long double has no equivalent in other languages");
            return "f" + std::to_string(sizeof(T) * 8);
        } else if constexpr (std::is_integral_v<T>) {
            static_assert(!std::is_same_v<T, bool>, "a bool has invalid bytes: use std::uint8_t");
            return (std::is_signed_v<T> ? "i" : "u") + std::to_string(sizeof(T) * 8);
        } else if constexpr (!is_no_field<T>) {
            return slipring_describe(type<T>());
        } else {
            return {};
        }
    }
};

template <class T, std::size_t N>
struct description<T[N]> {
    static std::string text() { return "[" + description<T>::text() + "; " + std::to_string(N) + "]"; }
};

template <class T, std::size_t N>
struct description<std::array<T, N>> : description<T[N]> {};

}  // namespace detail

/// The description of a message's type, as the Rust macro `message!` makes it: name, size,
/// alignment, and each field with its type and offset. Programs that attach to a ring agree on it.
template <class T>
inline std::string describe() {
    return detail::description<T>::text();
}

/// The kind of the frames with messages of this description.
inline std::uint16_t kind_of_frames(std::string_view description) noexcept {
    std::uint64_t hash = 0xCBF29CE484222325;
    for (const char byte : description) {
        hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001B3;
    }
    const std::uint64_t first = SLIPRING_DEFAULT_KIND + 1;
    return static_cast<std::uint16_t>(first + (hash == 0 ? 1 : hash) % (0x10000 - first));
}

/// A received message, in place: `*message` is a const T&. Otherwise as a frame, also for events,
/// which have no value.
template <class T>
class message : public frame {
   public:
    /// The value; errc::message_size if this is another event.
    const T& operator*() const { return as<T>(); }
    const T* operator->() const { return &as<T>(); }
};

/// A message to be built in place, cleared: `message->bid = 1`, then commit().
template <class T>
class message_grant {
   public:
    message_grant() noexcept = default;
    explicit message_grant(grant room) noexcept : room_(std::move(room)) {
        if (!room_.buffer().empty()) new (room_.buffer().data()) T();
    }

    T& operator*() const noexcept { return *std::launder(reinterpret_cast<T*>(room_.buffer().data())); }
    T* operator->() const noexcept { return &**this; }
    result<void> try_commit() noexcept { return room_.try_commit(sizeof(T)); }
    void commit() { try_commit().value(); }
    void abort() noexcept { room_.abort(); }

   private:
    grant room_;
};

/// Sends messages of one type over a ring. T is described by SLIPRING_MESSAGE or SLIPRING_DESCRIBE.
/// errc::other_type if the ring's other participants use another type: what() names both.
template <class T>
class typed_producer {
    static_assert(std::is_trivially_copyable_v<T> && alignof(T) <= 8,
                  "messages are plain values, aligned to at most 8 bytes");

   public:
    typed_producer() noexcept = default;
    explicit typed_producer(const std::string& name, options how = {})
        : handle_(name, how.message_type(slipring::describe<T>())) {}
    /// Over an anonymous ring, as slipring::producer.
    explicit typed_producer(options how) : handle_(how.message_type(slipring::describe<T>())) {}
    static result<typed_producer> try_open(const std::string& name, options how = {}) noexcept {
        auto opened = producer::try_open(name, how.message_type(slipring::describe<T>()));
        return opened ? result<typed_producer>(typed_producer(std::move(*opened))) : opened.code();
    }
    static result<typed_producer> try_open(options how) noexcept {
        auto opened = producer::try_open(how.message_type(slipring::describe<T>()));
        return opened ? result<typed_producer>(typed_producer(std::move(*opened))) : opened.code();
    }

    result<void> try_send(const T& value, timeout time = no_wait) noexcept {
        return handle_.try_send(bytes_of(value), time);
    }
    void send(const T& value, timeout time = forever) { handle_.send(bytes_of(value), time); }
    result<message_grant<T>> try_reserve(timeout time = no_wait) noexcept {
        auto room = handle_.try_reserve(sizeof(T), time);
        return room ? result<message_grant<T>>(message_grant<T>(std::move(*room))) : room.code();
    }
    message_grant<T> reserve(timeout time = forever) {
        return message_grant<T>(handle_.reserve(sizeof(T), time));
    }

    /// The handle behind it.
    producer& untyped() noexcept { return handle_; }

   private:
    explicit typed_producer(producer handle) noexcept : handle_(std::move(handle)) {}
    producer handle_;
};

/// Receives messages of one type from a ring: as typed_producer.
template <class T>
class typed_consumer {
    static_assert(std::is_trivially_copyable_v<T> && alignof(T) <= 8,
                  "messages are plain values, aligned to at most 8 bytes");

   public:
    typed_consumer() noexcept = default;
    explicit typed_consumer(const std::string& name, options how = {})
        : handle_(name, how.message_type(slipring::describe<T>())) {}
    /// Over an anonymous ring, as slipring::consumer.
    explicit typed_consumer(options how) : handle_(how.message_type(slipring::describe<T>())) {}
    static result<typed_consumer> try_open(const std::string& name, options how = {}) noexcept {
        auto opened = consumer::try_open(name, how.message_type(slipring::describe<T>()));
        return opened ? result<typed_consumer>(typed_consumer(std::move(*opened))) : opened.code();
    }
    static result<typed_consumer> try_open(options how) noexcept {
        auto opened = consumer::try_open(how.message_type(slipring::describe<T>()));
        return opened ? result<typed_consumer>(typed_consumer(std::move(*opened))) : opened.code();
    }

    /// Receives a message, in place, or an event of the channel; waits for it. errc::other_type for a
    /// frame of another type, which is skipped.
    result<message<T>> try_recv(timeout time = no_wait) noexcept {
        return {detail::fill(), [&](message<T>& to) { return receive(to, time); }};
    }
    message<T> recv(timeout time = forever) {
        message<T> to;
        check(receive(to, time));
        return to;
    }

    /// for (auto& message : consumer): until the other side has closed; throws other errors.
    auto begin() { return detail::frames<typed_consumer, message<T>>(*this); }
    auto end() noexcept { return typename detail::frames<typed_consumer, message<T>>::sentinel(); }

    /// The handle behind it.
    consumer& untyped() noexcept { return handle_; }

   private:
    friend class detail::frames<typed_consumer, message<T>>;
    explicit typed_consumer(consumer handle) noexcept : handle_(std::move(handle)) {}

    int receive(message<T>& to, timeout time) noexcept {
        const int code = to.receive(handle_.native(), time);
        if (code < 0 || !to.is_frame() || to.size() == sizeof(T)) return code;
        to.release(); /* of the type's kind, but of another size */
        return -SLIPRING_EINCOMPATIBLE;
    }
    static void check(int code) {
        if (code == -SLIPRING_EINCOMPATIBLE) detail::fail(code, "skipped a frame of another size than the type's");
        detail::check(code);
    }

    consumer handle_;
};

// --------------------------------------------------------------------------------------- bytes

/// Up to two runs of bytes. The second is empty today, because the memory is mapped twice in a row.
struct vectors {
    bytes first;
    bytes second;
    std::size_t size() const noexcept { return first.size() + second.size(); }
};

namespace detail {

template <class C>
inline result<vectors> stream_vectors(C* end, std::int64_t (*describe)(C*, slipring_span*)) noexcept {
    return {fill(), [&](vectors& both) {
                slipring_span spans[2] = {};
                const std::int64_t n = describe(end, spans);
                both = {{spans[0].data, spans[0].len}, {spans[1].data, spans[1].len}};
                return n;
            }};
}

/// A yes or no that a call returned, or its code.
inline result<bool> flagged(int returned) noexcept {
    return {fill(), [&](bool& flag) {
                flag = returned > 0;
                return returned;
            }};
}

/// A count that a call returns, or its code.
template <class F>
inline result<std::size_t> counted(F&& call) noexcept {
    return {fill(), [&](std::size_t& count) {
                const std::int64_t n = call();
                count = n < 0 ? 0 : static_cast<std::size_t>(n);
                return n;
            }};
}

}  // namespace detail

/// The writing end of a byte stream.
class stream_writer : public detail::end<stream_writer, slipring_stream_writer, slipring_stream_writer_open> {
   public:
    using end::end;

    /// Writes what fits, and returns how many bytes; with a time-out, waits until all are written.
    result<std::size_t> try_write(byte_view from, timeout time = no_wait) noexcept {
        return detail::counted(
            [&] { return slipring_stream_write(native(), from.data(), from.size(), time.ns()); });
    }
    std::size_t write(byte_view from, timeout time = forever) { return try_write(from, time).value(); }
    /// The free bytes, to be written in place; then commit(). Does not wait.
    result<vectors> try_write_vector() noexcept {
        return detail::stream_vectors(native(), slipring_stream_write_vector);
    }
    vectors write_vector() { return try_write_vector().value(); }
    /// Publishes the first `n` bytes of the vector.
    result<void> try_commit(std::size_t n) noexcept {
        return {detail::fill(), slipring_stream_commit(native(), n)};
    }
    void commit(std::size_t n) { try_commit(n).value(); }
};

/// The reading end of a byte stream.
class stream_reader : public detail::end<stream_reader, slipring_stream_reader, slipring_stream_reader_open> {
   public:
    using end::end;

    /// Reads at least one byte, and returns how many; waits for the first.
    result<std::size_t> try_read(bytes to, timeout time = no_wait) noexcept {
        return detail::counted([&] { return slipring_stream_read(native(), to.data(), to.size(), time.ns()); });
    }
    std::size_t read(bytes to, timeout time = forever) { return try_read(to, time).value(); }
    /// The filled bytes, to be read in place; then consume(). Does not wait.
    result<vectors> try_read_vector() noexcept {
        return detail::stream_vectors(native(), slipring_stream_read_vector);
    }
    vectors read_vector() { return try_read_vector().value(); }
    /// Removes the first `n` bytes of the vector.
    result<void> try_consume(std::size_t n) noexcept {
        return {detail::fill(), slipring_stream_consume(native(), n)};
    }
    void consume(std::size_t n) { try_consume(n).value(); }
};

/// Both ends of a new anonymous byte stream, for two threads of this process.
inline result<std::pair<stream_writer, stream_reader>> try_stream_pair(options how) noexcept {
    return detail::anonymous_pair<stream_writer, stream_reader>(std::move(how));
}
inline std::pair<stream_writer, stream_reader> stream_pair(options how = kind::stream) {
    return try_stream_pair(std::move(how)).value();
}

class ringbuffer;

template <>
struct detail::empty<ringbuffer> {
    static ringbuffer value() noexcept;
};

/// JACK's ring buffer, for one writing and one reading thread or process: no call waits.
class ringbuffer {
   public:
    /// Within this process.
    explicit ringbuffer(std::size_t size) : ringbuffer(slipring_ringbuffer_create(size)) {}
    static ringbuffer open_writer(const std::string& name, std::size_t size) {
        return ringbuffer(slipring_ringbuffer_open_writer(name.c_str(), size));
    }
    static ringbuffer open_reader(const std::string& name, std::size_t size) {
        return ringbuffer(slipring_ringbuffer_open_reader(name.c_str(), size));
    }
    /// The same, without exceptions; last_error() says why there is none.
    static result<ringbuffer> try_create(std::size_t size) noexcept;
    static result<ringbuffer> try_open_writer(const std::string& name, std::size_t size) noexcept;
    static result<ringbuffer> try_open_reader(const std::string& name, std::size_t size) noexcept;
    /// Owns one of slipring.h from now on; errc::invalid for null.
    explicit ringbuffer(slipring_ringbuffer_t* native) : native_(native) {
        if (!native_) detail::fail(-SLIPRING_EINVAL, slipring_last_error());
    }
    ringbuffer(ringbuffer&& other) noexcept : native_(std::exchange(other.native_, nullptr)) {}
    ringbuffer& operator=(ringbuffer&& other) noexcept {
        slipring_ringbuffer_t* native = std::exchange(other.native_, nullptr);
        slipring_ringbuffer_free(native_);
        native_ = native;
        return *this;
    }
    ~ringbuffer() { slipring_ringbuffer_free(native_); }

    slipring_ringbuffer_t* native() const noexcept { return native_; }
    /// Each returns how many bytes.
    std::size_t write(byte_view from) noexcept {
        return slipring_ringbuffer_write(native_, reinterpret_cast<const char*>(from.data()), from.size());
    }
    std::size_t read(bytes to) noexcept {
        return slipring_ringbuffer_read(native_, reinterpret_cast<char*>(to.data()), to.size());
    }
    std::size_t peek(bytes to) noexcept {
        return slipring_ringbuffer_peek(native_, reinterpret_cast<char*>(to.data()), to.size());
    }
    std::size_t write_space() const noexcept { return slipring_ringbuffer_write_space(native_); }
    std::size_t read_space() const noexcept { return slipring_ringbuffer_read_space(native_); }
    vectors write_vector() const noexcept { return both(slipring_ringbuffer_get_write_vector); }
    vectors read_vector() const noexcept { return both(slipring_ringbuffer_get_read_vector); }
    void write_advance(std::size_t n) noexcept { slipring_ringbuffer_write_advance(native_, n); }
    void read_advance(std::size_t n) noexcept { slipring_ringbuffer_read_advance(native_, n); }
    /// Locks it into memory. False if the limit RLIMIT_MEMLOCK forbids it.
    [[nodiscard]] bool lock_memory() noexcept { return slipring_ringbuffer_mlock(native_) == 0; }
    /// Makes it empty. Not while another thread uses it.
    void reset() noexcept { slipring_ringbuffer_reset(native_); }

   private:
    vectors both(void (*describe)(const slipring_ringbuffer_t*, slipring_ringbuffer_data_t*)) const noexcept {
        slipring_ringbuffer_data_t two[2] = {};
        describe(native_, two);
        return {{static_cast<void*>(two[0].buf), two[0].len}, {static_cast<void*>(two[1].buf), two[1].len}};
    }

    friend struct detail::empty<ringbuffer>;
    ringbuffer() noexcept : native_(nullptr) {}
    static result<ringbuffer> made(slipring_ringbuffer_t* native) noexcept {
        return {detail::fill(), [&](ringbuffer& self) {
                    self.native_ = native;
                    return native ? 0 : -SLIPRING_EINVAL;
                }};
    }

    slipring_ringbuffer_t* native_;
};

inline ringbuffer detail::empty<ringbuffer>::value() noexcept { return ringbuffer(); }
inline result<ringbuffer> ringbuffer::try_create(std::size_t size) noexcept {
    return made(slipring_ringbuffer_create(size));
}
inline result<ringbuffer> ringbuffer::try_open_writer(const std::string& name, std::size_t size) noexcept {
    return made(slipring_ringbuffer_open_writer(name.c_str(), size));
}
inline result<ringbuffer> ringbuffer::try_open_reader(const std::string& name, std::size_t size) noexcept {
    return made(slipring_ringbuffer_open_reader(name.c_str(), size));
}

// --------------------------------------------------------------------------------------- latest

/// What a read of a latest value found: `len`, `version`, `skipped`.
using reading = slipring_reading;

/// Writes latest values.
class latest_writer : public detail::end<latest_writer, slipring_latest_writer, slipring_latest_writer_open> {
   public:
    using end::end;

    /// Replaces the value of a cell, and returns its version.
    result<std::uint64_t> try_write(std::size_t cell, byte_view value) noexcept {
        return {detail::fill(), [&](std::uint64_t& version) {
                    const std::int64_t n = slipring_latest_write(native(), cell, value.data(), value.size());
                    version = n < 0 ? 0 : static_cast<std::uint64_t>(n);
                    return n;
                }};
    }
    std::uint64_t write(std::size_t cell, byte_view value) { return try_write(cell, value).value(); }
};

/// Reads latest values.
class latest_reader : public detail::end<latest_reader, slipring_latest_reader, slipring_latest_reader_open> {
   public:
    using end::end;

    /// Copies the newest value of a cell; waits only for its first.
    result<reading> try_read(std::size_t cell, bytes to, timeout time = no_wait) noexcept {
        return {detail::fill(), [&](reading& found) {
                    return slipring_latest_read(native(), cell, to.data(), to.size(), &found, time.ns());
                }};
    }
    reading read(std::size_t cell, bytes to, timeout time = forever) { return try_read(cell, to, time).value(); }
    /// The newest value of a cell that has values of T; errc::message_size if it has others.
    template <class T>
    result<T> try_read_as(std::size_t cell, timeout time = no_wait) noexcept {
        static_assert(std::is_trivially_copyable_v<T>, "only plain values are read as their bytes");
        return {detail::fill(), [&](T& value) {
                    reading found{};
                    const int code = slipring_latest_read(native(), cell, &value, sizeof value, &found, time.ns());
                    return code == 0 && found.len != sizeof value ? -SLIPRING_EMSGSIZE : code;
                }};
    }
    template <class T>
    T read_as(std::size_t cell, timeout time = forever) {
        return try_read_as<T>(cell, time).value();
    }
    /// Waits until a watched cell has a new value, and returns its number.
    result<std::size_t> try_changed(timeout time = no_wait) noexcept {
        return detail::counted([&] { return slipring_latest_changed(native(), time.ns()); });
    }
    std::size_t changed(timeout time = forever) { return try_changed(time).value(); }
    /// Watches only these cells from now on.
    result<void> try_watch(view<const std::size_t> cells) noexcept {
        return {detail::fill(), slipring_latest_watch(native(), cells.data(), cells.size())};
    }
    void watch(view<const std::size_t> cells) { try_watch(cells).value(); }
};

// ------------------------------------------------------------------------------------ primitives

/// Permits that processes share. A Lockable: std::unique_lock holds a permit.
class semaphore : public detail::opened<semaphore, slipring_semaphore, slipring_semaphore_open> {
   public:
    using opened::opened;

    result<void> try_acquire(timeout time = no_wait) noexcept {
        return {detail::fill(), slipring_semaphore_acquire(native(), time.ns())};
    }
    void acquire(timeout time = forever) { try_acquire(time).value(); }
    result<void> try_release() noexcept { return {detail::fill(), slipring_semaphore_release(native())}; }
    void release() { try_release().value(); }
    result<std::size_t> try_available() const noexcept {
        return detail::counted([&] { return slipring_semaphore_available(native()); });
    }
    std::size_t available() const { return try_available().value(); }

    void lock() { acquire(); }
    /// False if there is no permit; throws other errors.
    bool try_lock() {
        const auto got = try_acquire();
        if (!got && got.code() != errc::would_block) got.value();
        return got.has_value();
    }
    void unlock() { release(); }
};

/// A count that any process may raise, and waiters lower by one each.
class signal_semaphore
    : public detail::opened<signal_semaphore, slipring_signal_semaphore, slipring_signal_semaphore_open> {
   public:
    using opened::opened;

    result<void> try_post(std::uint32_t n = 1) noexcept {
        return {detail::fill(), slipring_signal_semaphore_post(native(), n)};
    }
    void post(std::uint32_t n = 1) { try_post(n).value(); }
    result<void> try_wait(timeout time = no_wait) noexcept {
        return {detail::fill(), slipring_signal_semaphore_wait(native(), time.ns())};
    }
    void wait(timeout time = forever) { try_wait(time).value(); }
};

/// One signal to many: set until it is reset.
class event_flag : public detail::opened<event_flag, slipring_event, slipring_event_open> {
   public:
    using opened::opened;

    result<void> try_set() noexcept { return {detail::fill(), slipring_event_set(native())}; }
    void set() { try_set().value(); }
    /// Whether it was set.
    result<bool> try_reset() noexcept { return detail::flagged(slipring_event_reset(native())); }
    bool reset() { return try_reset().value(); }
    result<void> try_wait(timeout time = no_wait) noexcept {
        return {detail::fill(), slipring_event_wait(native(), time.ns())};
    }
    void wait(timeout time = forever) { try_wait(time).value(); }
};

/// Data that several processes change in place, one at a time. A Lockable, for std::scoped_lock;
/// acquire() gives the data.
class mutex : public detail::opened<mutex, slipring_mutex, slipring_mutex_open> {
   public:
    using opened::opened;

    /// The locked data. Unlocks when it ends.
    class guard {
       public:
        guard() noexcept = default;
        guard(guard&& other) noexcept
            : owner_(std::exchange(other.owner_, nullptr)), data_(std::exchange(other.data_, bytes())),
              owner_died_(other.owner_died_) {}
        guard& operator=(guard&& other) noexcept {
            guard taken(std::move(other));
            std::swap(owner_, taken.owner_);
            std::swap(data_, taken.data_);
            std::swap(owner_died_, taken.owner_died_);
            return *this;
        }
        ~guard() { unlock(); }

        bytes data() const noexcept { return data_; }
        /// The data as one value, in place; errc::message_size if it has fewer bytes.
        template <class T>
        T& as() const {
            const bytes whole = data_.first(sizeof(T));
            return const_cast<T&>(slipring::as<T>(whole));
        }
        /// The data as one value, in place; null if it has fewer bytes.
        template <class T>
        T* try_as() const noexcept {
            return const_cast<T*>(slipring::try_as<T>(data_.first(sizeof(T))));
        }
        /// Whether the owner before died: the data may be half changed. Repair it, then call
        /// mark_consistent(), without which the next owner is told the same.
        bool owner_died() const noexcept { return owner_died_; }
        result<void> try_mark_consistent() noexcept {
            return {detail::fill(), slipring_mutex_mark_consistent(owner_)};
        }
        void mark_consistent() { try_mark_consistent().value(); }
        void unlock() noexcept {
            if (owner_) slipring_mutex_unlock(std::exchange(owner_, nullptr));
            data_ = {};
        }

       private:
        friend class mutex;
        int lock(slipring_mutex* owner, timeout time) noexcept {
            void* data = nullptr;
            std::size_t len = 0;
            const int code = slipring_mutex_lock(owner, &data, &len, time.ns());
            if (code >= 0) owner_ = owner, data_ = bytes(data, len), owner_died_ = code == SLIPRING_OWNER_DIED;
            return code;
        }

        slipring_mutex* owner_ = nullptr;
        bytes data_;
        bool owner_died_ = false;
    };

    result<guard> try_acquire(timeout time = no_wait) noexcept {
        return {detail::fill(), [&](guard& locked) { return locked.lock(native(), time); }};
    }
    guard acquire(timeout time = forever) { return try_acquire(time).value(); }

    /// Throws std::errc::owner_dead, without the lock, if the owner before died: use acquire() then.
    void lock() { locked(slipring_mutex_lock(native(), nullptr, nullptr, -1)); }
    /// False if it is locked; throws other errors.
    bool try_lock() {
        const int code = slipring_mutex_lock(native(), nullptr, nullptr, 0);
        if (code == -SLIPRING_EAGAIN) return false;
        locked(code);
        return true;
    }
    void unlock() { detail::check(slipring_mutex_unlock(native())); }

   private:
    void locked(int code) {
        if (detail::check(code) != SLIPRING_OWNER_DIED) return;
        slipring_mutex_unlock(native());
        detail::fail(-static_cast<int>(std::errc::owner_dead),
                     "the owner of the mutex died: acquire() it, check its data, mark it consistent");
    }
};

// ------------------------------------------------------------------------------------- wait sets

class wait_set;

template <>
struct detail::empty<wait_set> {
    static wait_set value() noexcept;
};

/// Waits for any number of handles and descriptors at once. A member is ready when a call on it may
/// do something, so call without waiting.
class wait_set : public handle<slipring_wait_set> {
   public:
    wait_set() { detail::check(open()); }
    explicit wait_set(slipring_wait_set* native) noexcept : handle(native) {}
    static result<wait_set> try_open() noexcept;

    /// Adds a handle under a number of the caller's choice; a producer waits for room for `n` bytes.
    template <class C>
    result<void> try_add(std::size_t token, const handle<C>& member, std::size_t n = 0) noexcept {
        return {detail::fill(), slipring_wait_set_add(native(), token, member.native(), n)};
    }
    template <class C>
    void add(std::size_t token, const handle<C>& member, std::size_t n = 0) {
        try_add(token, member, n).value();
    }
    /// Adds a descriptor, which stays the caller's: until it is readable, or writable.
    result<void> try_add_fd(std::size_t token, int fd, bool writable = false) noexcept {
        return {detail::fill(), slipring_wait_set_add_fd(native(), token, fd, writable)};
    }
    void add_fd(std::size_t token, int fd, bool writable = false) { try_add_fd(token, fd, writable).value(); }
    /// Whether the number was in the set.
    result<bool> try_remove(std::size_t token) noexcept {
        return detail::flagged(slipring_wait_set_remove(native(), token));
    }
    bool remove(std::size_t token) { return try_remove(token).value(); }

    /// Waits until members are ready, and returns the numbers of up to 64, until the next wait.
    result<view<const std::size_t>> try_wait(timeout time = no_wait) noexcept {
        return {detail::fill(), [&](view<const std::size_t>& ready) {
                    const std::int64_t n =
                        slipring_wait_set_wait(native(), tokens_.data(), tokens_.size(), time.ns());
                    ready = {tokens_.data(), n < 0 ? 0 : static_cast<std::size_t>(n)};
                    return n;
                }};
    }
    view<const std::size_t> wait(timeout time = forever) { return try_wait(time).value(); }

   private:
    int open() noexcept {
        slipring_wait_set* set = nullptr;
        const int code = slipring_wait_set_open(&set);
        handle::operator=(handle(set));
        return code;
    }

    std::array<std::size_t, 64> tokens_{};
};

inline wait_set detail::empty<wait_set>::value() noexcept { return wait_set(nullptr); }
inline result<wait_set> wait_set::try_open() noexcept {
    return {detail::fill(), [](wait_set& self) { return self.open(); }};
}

/// Makes a wait set return, from any thread and from signal handlers.
class waker : public handle<slipring_waker> {
   public:
    using handle::handle;
    waker() noexcept = default;
    waker(wait_set& set, std::size_t token) { *this = try_open(set, token).value(); }
    static result<waker> try_open(wait_set& set, std::size_t token) noexcept {
        return {detail::fill(), [&](waker& self) {
                    slipring_waker* made = nullptr;
                    const int code = slipring_waker_open(set.native(), token, &made);
                    self = waker(made);
                    return code;
                }};
    }
    result<void> try_wake() const noexcept { return {detail::fill(), slipring_wake(native())}; }
    void wake() const { try_wake().value(); }
};

/// Ends the waiting calls on one handle with errc::cancelled, from any thread and from signal
/// handlers.
class canceller : public handle<slipring_canceller> {
   public:
    using handle::handle;
    canceller() noexcept = default;
    template <class C>
    explicit canceller(const slipring::handle<C>& of) {
        *this = try_open(of).value();
    }
    template <class C>
    static result<canceller> try_open(const slipring::handle<C>& of) noexcept {
        return {detail::fill(), [&](canceller& self) {
                    slipring_canceller* made = nullptr;
                    const int code = slipring_canceller_open(of.native(), &made);
                    self = canceller(made);
                    return code;
                }};
    }
    result<void> try_cancel() const noexcept { return {detail::fill(), slipring_cancel(native())}; }
    void cancel() const { try_cancel().value(); }
    /// Lets calls wait again.
    result<void> try_reset() const noexcept { return {detail::fill(), slipring_canceller_reset(native())}; }
    void reset() const { try_reset().value(); }
};

// ------------------------------------------------------------------------------------------ rpc

/// Sends requests and finds the reply of each. Replies are valid until the next call on the client.
class client : public handle<slipring_client> {
   public:
    using handle::handle;
    explicit client(const std::string& name, const options& how = {}) { *this = try_open(name, how).value(); }
    static result<client> try_open(const std::string& name, const options& how = {}) noexcept {
        return {detail::fill(), [&](client& self) {
                    const slipring_options given = how.c();
                    slipring_client* made = nullptr;
                    const int code = slipring_client_open(name.c_str(), &given, &made);
                    self = client(made);
                    return code;
                }};
    }

    /// Sends a request and waits for its reply. errc::peer_dead or errc::closed as soon as the server
    /// has ended: it may have handled the request or not.
    result<byte_view> try_call(byte_view request, timeout time = forever) noexcept {
        return replied([&](const void** data, std::size_t* len) {
            return slipring_call(native(), request.data(), request.size(), data, len, time.ns());
        });
    }
    byte_view call(byte_view request, timeout time = forever) { return try_call(request, time).value(); }

    /// Sends a request, and returns the number of the call, for finish() or cancel().
    result<std::int64_t> try_start(byte_view request, timeout time = forever) noexcept {
        return {detail::fill(), [&](std::int64_t& number) {
                    return number = slipring_call_start(native(), request.data(), request.size(), time.ns());
                }};
    }
    std::int64_t start(byte_view request, timeout time = forever) { return try_start(request, time).value(); }
    /// Waits for the reply of a call, which has ended then.
    result<byte_view> try_finish(std::int64_t number, timeout time = forever) noexcept {
        return replied([&](const void** data, std::size_t* len) {
            return slipring_call_finish(native(), number, data, len, time.ns());
        });
    }
    byte_view finish(std::int64_t number, timeout time = forever) { return try_finish(number, time).value(); }
    result<void> try_cancel(std::int64_t number) noexcept {
        return {detail::fill(), slipring_call_cancel(native(), number)};
    }
    void cancel(std::int64_t number) { try_cancel(number).value(); }

   private:
    template <class F>
    static result<byte_view> replied(F&& call) noexcept {
        return {detail::fill(), [&](byte_view& reply) {
                    const void* data = nullptr;
                    std::size_t len = 0;
                    const int code = call(&data, &len);
                    if (code >= 0) reply = byte_view(data, len);
                    return code;
                }};
    }
};

/// A request that a server received. It is refused if it ends without a reply.
class request {
   public:
    request() noexcept = default;
    request(request&& other) noexcept
        : owner_(std::exchange(other.owner_, nullptr)), c_(std::exchange(other.c_, slipring_request())) {}
    request& operator=(request&& other) noexcept {
        request taken(std::move(other));
        std::swap(owner_, taken.owner_);
        std::swap(c_, taken.c_);
        return *this;
    }
    ~request() { refuse(); }

    /// Its bytes, until the server receives the next request.
    byte_view payload() const noexcept { return {c_.data, c_.len}; }
    std::string_view text() const noexcept { return {static_cast<const char*>(c_.data), c_.len}; }
    template <class T>
    const T& as() const {
        return slipring::as<T>(payload());
    }
    template <class T>
    const T* try_as() const noexcept {
        return slipring::try_as<T>(payload());
    }
    /// Until its caller stops waiting.
    std::chrono::nanoseconds remaining() const noexcept { return std::chrono::nanoseconds(c_.remaining_ns); }
    /// Whether its caller has cancelled it or waits no longer.
    result<bool> try_is_cancelled() const noexcept {
        return detail::flagged(slipring_is_cancelled(owner_, c_.id));
    }
    bool is_cancelled() const { return try_is_cancelled().value(); }

    /// Answers it: once.
    result<void> try_reply(byte_view reply) noexcept {
        return {detail::fill(),
                slipring_reply(std::exchange(owner_, nullptr), c_.id, reply.data(), reply.size())};
    }
    void reply(byte_view reply) { try_reply(reply).value(); }
    /// Tells its caller that it gets no answer: errc::unanswered.
    void refuse() noexcept {
        if (owner_) slipring_refuse(std::exchange(owner_, nullptr), c_.id);
    }

   private:
    friend class server;
    slipring_server* owner_ = nullptr;
    slipring_request c_{};
};

/// Takes requests and answers them.
class server : public handle<slipring_server> {
   public:
    using handle::handle;
    /// For up to `clients` clients at a time.
    server(const std::string& name, std::uint16_t clients, const options& how = {}) {
        *this = try_open(name, clients, how).value();
    }
    static result<server> try_open(const std::string& name, std::uint16_t clients,
                                   const options& how = {}) noexcept {
        return {detail::fill(), [&](server& self) {
                    const slipring_options given = how.c();
                    slipring_server* made = nullptr;
                    const int code = slipring_server_open(name.c_str(), clients, &given, &made);
                    self = server(made);
                    return code;
                }};
    }

    /// Receives a request; several may be open at a time.
    result<request> try_recv(timeout time = no_wait) noexcept {
        return {detail::fill(), [&](request& got) {
                    const int code = slipring_server_recv(native(), &got.c_, time.ns());
                    if (code >= 0) got.owner_ = native();
                    return code;
                }};
    }
    request recv(timeout time = forever) { return try_recv(time).value(); }
};

// ----------------------------------------------------------------------------------- names

/// Removes the name of a ring or primitive. Its participants go on.
inline result<void> try_remove(const std::string& name, const options& how = {}) noexcept {
    const slipring_options given = how.c();
    return {detail::fill(), slipring_remove(name.c_str(), &given)};
}
inline void remove(const std::string& name, const options& how = {}) { try_remove(name, how).value(); }

/// Removes the names of a server's rings.
inline result<void> try_remove_server(const std::string& name, const options& how = {}) noexcept {
    const slipring_options given = how.c();
    return {detail::fill(), slipring_server_remove(name.c_str(), &given)};
}
inline void remove_server(const std::string& name, const options& how = {}) {
    try_remove_server(name, how).value();
}

}  // namespace slipring

template <>
struct std::is_error_code_enum<slipring::errc> : std::true_type {};

#if defined(__cpp_lib_span) && defined(__cpp_lib_ranges)
template <class T>
inline constexpr bool std::ranges::enable_borrowed_range<slipring::view<T>> = true;
#endif

// ------------------------------------------------------------------------------------- messages

/// Declares a struct that is a message, with up to 32 fields. Arrays have their length behind the
/// name. The same description as the Rust macro: message! { struct Quote { bid: i64, sizes: [u32; 2] } }
///
///     SLIPRING_MESSAGE(Quote, (std::int64_t, bid), (std::uint32_t, sizes, [2]))
#define SLIPRING_MESSAGE(Name, ...)                                       \
    struct Name {                                                         \
        SLIPRING_DETAIL_EACH(SLIPRING_DETAIL_DECLARE, Name, __VA_ARGS__)  \
    };                                                                    \
    SLIPRING_DETAIL_DESCRIBE(Name, SLIPRING_DETAIL_SIZE_OF, SLIPRING_DETAIL_TEXT_OF, __VA_ARGS__)

/// Makes a message of a struct that there is already: all of its fields, in order. In the namespace
/// of the struct.
///
///     SLIPRING_DESCRIBE(Quote, bid, sizes)
#define SLIPRING_DESCRIBE(Name, ...) \
    SLIPRING_DETAIL_DESCRIBE(Name, SLIPRING_DETAIL_SIZE, SLIPRING_DETAIL_TEXT, __VA_ARGS__)

#define SLIPRING_DETAIL_DESCRIBE(Name, Size, Text, ...)                                             \
    inline std::string slipring_describe(slipring::type<Name>) {                                    \
        static_assert(std::is_trivially_copyable_v<Name> && std::is_standard_layout_v<Name>,        \
                      "a message is a plain struct");                                               \
        static_assert((0 SLIPRING_DETAIL_EACH(Size, Name, __VA_ARGS__)) == sizeof(Name),            \
                      "a message has no padding, and its description names all fields");            \
        std::string fields;                                                                         \
        SLIPRING_DETAIL_EACH(Text, Name, __VA_ARGS__)                                               \
        return #Name " { " + fields + " } of " + std::to_string(sizeof(Name)) +                     \
               " bytes, aligned to " + std::to_string(alignof(Name));                               \
    }

#define SLIPRING_DETAIL_DECLARE(Name, Field) SLIPRING_DETAIL_DECLARE_ Field
#define SLIPRING_DETAIL_DECLARE_(...) \
    SLIPRING_DETAIL_DECLARE__(__VA_ARGS__, , )
#define SLIPRING_DETAIL_DECLARE__(Type, Field, Array, ...) Type Field Array;
#define SLIPRING_DETAIL_NAME(...) SLIPRING_DETAIL_NAME_(__VA_ARGS__, , )
#define SLIPRING_DETAIL_NAME_(Type, Field, ...) Field

#define SLIPRING_DETAIL_SIZE_OF(Name, Field) SLIPRING_DETAIL_SIZE(Name, SLIPRING_DETAIL_NAME Field)
#define SLIPRING_DETAIL_SIZE(Name, Field) +sizeof(Name::Field)
#define SLIPRING_DETAIL_TEXT_OF(Name, Field) SLIPRING_DETAIL_TEXT(Name, SLIPRING_DETAIL_NAME Field)
#define SLIPRING_DETAIL_TEXT(Name, Field) SLIPRING_DETAIL_TEXT_(Name, Field)
#define SLIPRING_DETAIL_TEXT_(Name, Field)                                              \
    fields += (fields.empty() ? "" : ", ") + std::string(#Field ": ") +                 \
              slipring::describe<decltype(Name::Field)>() + " @ " +                     \
              std::to_string(offsetof(Name, Field));

// SLIPRING_DETAIL_EACH(Macro, Name, a, b, …): Macro(Name, a) Macro(Name, b) …
#define SLIPRING_DETAIL_EACH(M, Name, ...) \
    SLIPRING_DETAIL_CALL(SLIPRING_DETAIL_NTH(__VA_ARGS__, 32, 31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, ), M, Name, __VA_ARGS__)
#define SLIPRING_DETAIL_NTH(_1, _2, _3, _4, _5, _6, _7, _8, _9, _10, _11, _12, _13, _14, _15, _16, _17, _18, _19, _20, _21, _22, _23, _24, _25, _26, _27, _28, _29, _30, _31, _32, N, ...) SLIPRING_DETAIL_##N
#define SLIPRING_DETAIL_CALL(Each, M, Name, ...) Each(M, Name, __VA_ARGS__)
#define SLIPRING_DETAIL_1(M, Name, F) M(Name, F)
#define SLIPRING_DETAIL_2(M, Name, F, ...) M(Name, F) SLIPRING_DETAIL_1(M, Name, __VA_ARGS__)
#define SLIPRING_DETAIL_3(M, Name, F, ...) M(Name, F) SLIPRING_DETAIL_2(M, Name, __VA_ARGS__)
#define SLIPRING_DETAIL_4(M, Name, F, ...) M(Name, F) SLIPRING_DETAIL_3(M, Name, __VA_ARGS__)
#define SLIPRING_DETAIL_5(M, Name, F, ...) M(Name, F) SLIPRING_DETAIL_4(M, Name, __VA_ARGS__)
#define SLIPRING_DETAIL_6(M, Name, F, ...) M(Name, F) SLIPRING_DETAIL_5(M, Name, __VA_ARGS__)
#define SLIPRING_DETAIL_7(M, Name, F, ...) M(Name, F) SLIPRING_DETAIL_6(M, Name, __VA_ARGS__)
#define SLIPRING_DETAIL_8(M, Name, F, ...) M(Name, F) SLIPRING_DETAIL_7(M, Name, __VA_ARGS__)
#define SLIPRING_DETAIL_9(M, Name, F, ...) M(Name, F) SLIPRING_DETAIL_8(M, Name, __VA_ARGS__)
#define SLIPRING_DETAIL_10(M, Name, F, ...) M(Name, F) SLIPRING_DETAIL_9(M, Name, __VA_ARGS__)
#define SLIPRING_DETAIL_11(M, Name, F, ...) M(Name, F) SLIPRING_DETAIL_10(M, Name, __VA_ARGS__)
#define SLIPRING_DETAIL_12(M, Name, F, ...) M(Name, F) SLIPRING_DETAIL_11(M, Name, __VA_ARGS__)
#define SLIPRING_DETAIL_13(M, Name, F, ...) M(Name, F) SLIPRING_DETAIL_12(M, Name, __VA_ARGS__)
#define SLIPRING_DETAIL_14(M, Name, F, ...) M(Name, F) SLIPRING_DETAIL_13(M, Name, __VA_ARGS__)
#define SLIPRING_DETAIL_15(M, Name, F, ...) M(Name, F) SLIPRING_DETAIL_14(M, Name, __VA_ARGS__)
#define SLIPRING_DETAIL_16(M, Name, F, ...) M(Name, F) SLIPRING_DETAIL_15(M, Name, __VA_ARGS__)
#define SLIPRING_DETAIL_17(M, Name, F, ...) M(Name, F) SLIPRING_DETAIL_16(M, Name, __VA_ARGS__)
#define SLIPRING_DETAIL_18(M, Name, F, ...) M(Name, F) SLIPRING_DETAIL_17(M, Name, __VA_ARGS__)
#define SLIPRING_DETAIL_19(M, Name, F, ...) M(Name, F) SLIPRING_DETAIL_18(M, Name, __VA_ARGS__)
#define SLIPRING_DETAIL_20(M, Name, F, ...) M(Name, F) SLIPRING_DETAIL_19(M, Name, __VA_ARGS__)
#define SLIPRING_DETAIL_21(M, Name, F, ...) M(Name, F) SLIPRING_DETAIL_20(M, Name, __VA_ARGS__)
#define SLIPRING_DETAIL_22(M, Name, F, ...) M(Name, F) SLIPRING_DETAIL_21(M, Name, __VA_ARGS__)
#define SLIPRING_DETAIL_23(M, Name, F, ...) M(Name, F) SLIPRING_DETAIL_22(M, Name, __VA_ARGS__)
#define SLIPRING_DETAIL_24(M, Name, F, ...) M(Name, F) SLIPRING_DETAIL_23(M, Name, __VA_ARGS__)
#define SLIPRING_DETAIL_25(M, Name, F, ...) M(Name, F) SLIPRING_DETAIL_24(M, Name, __VA_ARGS__)
#define SLIPRING_DETAIL_26(M, Name, F, ...) M(Name, F) SLIPRING_DETAIL_25(M, Name, __VA_ARGS__)
#define SLIPRING_DETAIL_27(M, Name, F, ...) M(Name, F) SLIPRING_DETAIL_26(M, Name, __VA_ARGS__)
#define SLIPRING_DETAIL_28(M, Name, F, ...) M(Name, F) SLIPRING_DETAIL_27(M, Name, __VA_ARGS__)
#define SLIPRING_DETAIL_29(M, Name, F, ...) M(Name, F) SLIPRING_DETAIL_28(M, Name, __VA_ARGS__)
#define SLIPRING_DETAIL_30(M, Name, F, ...) M(Name, F) SLIPRING_DETAIL_29(M, Name, __VA_ARGS__)
#define SLIPRING_DETAIL_31(M, Name, F, ...) M(Name, F) SLIPRING_DETAIL_30(M, Name, __VA_ARGS__)
#define SLIPRING_DETAIL_32(M, Name, F, ...) M(Name, F) SLIPRING_DETAIL_31(M, Name, __VA_ARGS__)

#endif
