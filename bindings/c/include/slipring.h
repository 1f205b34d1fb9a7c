/*
 * slipring.h: crash-safe shared-memory IPC for Linux, from C and C++.
 *
 * Written by `make header` from src/, and compared with it by `cargo test`: do not edit.
 *
 * Errors. A function returns 0 or a positive result, or a negative code: -SLIPRING_EAGAIN and so on,
 * or a negated errno value of a system call. slipring_strerror() explains a code,
 * slipring_last_error() has the details of the last failure in this thread. A pointer that is not
 * NULL must point to what the comment says, as everywhere in C. Every other wrong argument gets an
 * error: NULL, a misaligned pointer, an option that has no effect on what is opened, a handle that
 * was closed, of another type, of another thread, or of the parent process.
 *
 * Time-outs. All are in nanoseconds from now: 0 does not wait, a negative number has no limit.
 *
 * Threads. A handle belongs to the thread that makes the first call on it after opening it. Open one
 * for each thread, or hand it over by slipring_take(). Another thread may close it while its owner
 * is in no call. Wakers and cancellers are for all threads; slipring_wake() and slipring_cancel() are
 * also for signal handlers, and nothing else is. Do not leave a call by longjmp() or
 * pthread_cancel(): this thread's other calls would get -SLIPRING_EBUSY.
 *
 * fork. A handle belongs to the process that opened it: in a child every call gets
 * -SLIPRING_EFORKED, but for slipring_close(). Open it again there.
 */

#ifndef SLIPRING_H
#define SLIPRING_H

#include <stddef.h>
#include <stdint.h>

/** The version of this header: compare it with slipring_version(). */
#define SLIPRING_VERSION "0.1.0"
#define SLIPRING_VERSION_MAJOR 0
#define SLIPRING_VERSION_MINOR 1
#define SLIPRING_VERSION_PATCH 0

/** All options at their defaults: slipring_options options = SLIPRING_OPTIONS_INIT; */
#define SLIPRING_OPTIONS_INIT {sizeof(slipring_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, NULL}


/**
 * Full or empty: nothing can be done now. Wait, or call again with a time-out.
 */
#define SLIPRING_EAGAIN 11

/**
 * The time-out passed.
 */
#define SLIPRING_ETIMEDOUT 110

/**
 * Closed: the other side has finished, and everything it sent was received.
 */
#define SLIPRING_EPIPE 32

/**
 * An argument or an option is invalid: see slipring_last_error().
 */
#define SLIPRING_EINVAL 22

/**
 * The frame or the buffer has the wrong size: see slipring_last_error() for the limit.
 */
#define SLIPRING_EMSGSIZE 90

/**
 * There is nothing of that name: create it, or start the other side first.
 */
#define SLIPRING_ENOENT 2

/**
 * The name or address is in use.
 */
#define SLIPRING_EEXIST 17

/**
 * This kind of handle, ring or machine cannot do that.
 */
#define SLIPRING_EOPNOTSUPP 95

/**
 * A canceller ended the wait.
 */
#define SLIPRING_ECANCELED 125

/**
 * The count of a signal semaphore would exceed its maximum.
 */
#define SLIPRING_EOVERFLOW 75

/**
 * The handle is in a call of another thread, or of the code that a signal handler interrupted.
 */
#define SLIPRING_EBUSY 16

/**
 * A peer died without closing. All that it had committed was delivered first.
 */
#define SLIPRING_EPEERDEAD 5001

/**
 * No handle: NULL, closed already, of another type, or never returned by this library.
 */
#define SLIPRING_EHANDLE 5002

/**
 * The handle belongs to another thread: open one for each thread, or call slipring_take().
 */
#define SLIPRING_EWRONGTHREAD 5003

/**
 * The handle belongs to the parent process: open it again after fork.
 */
#define SLIPRING_EFORKED 5004

/**
 * The handle holds a frame, a reservation or a request: finish that first.
 */
#define SLIPRING_EHELD 5005

/**
 * The handle holds nothing that could be committed, released, unlocked or answered.
 */
#define SLIPRING_ENOTHELD 5006

/**
 * The messages have another type: slipring_last_error() names both.
 */
#define SLIPRING_EOTHERTYPE 5007

/**
 * The other side uses another version or kind, another number of permits, or another size of a
 * mutex. The sizes of a ring that exists are not compared with the options: it is used as it is.
 */
#define SLIPRING_EINCOMPATIBLE 5008

/**
 * Shared memory or a byte stream contains what no correct peer writes.
 */
#define SLIPRING_ECORRUPT 5009

/**
 * Refused for safety: the file or directory is not as a trustworthy peer would have created it.
 */
#define SLIPRING_EUNTRUSTED 5010

/**
 * A living participant holds the role already: one producer, or one consumer.
 */
#define SLIPRING_EROLETAKEN 5011

/**
 * All participant ids or lanes are in use.
 */
#define SLIPRING_ETOOMANY 5012

/**
 * No consumer is attached, and SLIPRING_FAIL_WITHOUT_CONSUMER was set.
 */
#define SLIPRING_ENOCONSUMER 5013

/**
 * The publisher has evicted this subscriber, because it was too slow.
 */
#define SLIPRING_EEVICTED 5014

/**
 * A latest value was replaced faster than it could be copied: read again.
 */
#define SLIPRING_EOVERTAKEN 5015

/**
 * The server dropped the request without an answer.
 */
#define SLIPRING_EUNANSWERED 5016

/**
 * All 65,536 handles of this process are in use.
 */
#define SLIPRING_ETOOMANYHANDLES 5017

/**
 * The kind of the ring that is there already: nothing is created. 0.
 */
#define SLIPRING_ANY 0

/**
 * One producer, one consumer, frames of any size.
 */
#define SLIPRING_SPSC 1

/**
 * Several producers and consumers; each frame goes to one consumer.
 */
#define SLIPRING_MPMC 2

/**
 * Bytes without boundaries: slipring_stream_writer, slipring_stream_reader.
 */
#define SLIPRING_STREAM 3

/**
 * Values of which the newest matters: slipring_latest_writer, slipring_latest_reader.
 */
#define SLIPRING_LATEST 6

/**
 * One publisher; each subscriber receives each frame.
 */
#define SLIPRING_BROADCAST 9

/**
 * Several producers, each with a lane of its own, one consumer.
 */
#define SLIPRING_MPSC 10

/**
 * Frames of a dead consumer are lost and counted, instead of delivered again with a mark.
 */
#define SLIPRING_AT_MOST_ONCE 1

/**
 * A broadcast subscriber that the publisher does not wait for: frames are copied, and those that
 * it was too slow for are counted.
 */
#define SLIPRING_LOSSY 2

/**
 * Sending fails with SLIPRING_ENOCONSUMER while no consumer is attached.
 */
#define SLIPRING_FAIL_WITHOUT_CONSUMER 4

/**
 * All pages are made present at once.
 */
#define SLIPRING_PREFAULT 8

/**
 * All pages are locked into memory (mlock).
 */
#define SLIPRING_LOCK_MEMORY 16

/**
 * Huge pages.
 */
#define SLIPRING_HUGE_PAGES 32

/**
 * What the machine refuses of the three above is left out.
 */
#define SLIPRING_BEST_EFFORT 64

/**
 * Members of the file's group are trusted, too.
 */
#define SLIPRING_TRUST_GROUP 128

/**
 * `fd` is the descriptor of an anonymous segment (slipring_segment_fd()) that this process opened
 * or was passed; the name must be NULL.
 */
#define SLIPRING_FROM_FD 256

/**
 * A broadcast subscriber begins with the next frame. 0.
 */
#define SLIPRING_START_LATEST 0

/**
 * A broadcast subscriber begins with the oldest frame that is still there.
 */
#define SLIPRING_START_OLDEST 1

/**
 * A publisher waits for a slow reliable subscriber. 0.
 */
#define SLIPRING_SLOW_BLOCK 0

/**
 * Sending fails at once if a reliable subscriber leaves no room.
 */
#define SLIPRING_SLOW_FAIL 1

/**
 * A subscriber that leaves no room for `evict_after_ns` is evicted.
 */
#define SLIPRING_SLOW_EVICT 2

/**
 * Blocking calls spin for a few microseconds, then sleep. 0.
 */
#define SLIPRING_IDLE_PARK 0

/**
 * Blocking calls never sleep.
 */
#define SLIPRING_IDLE_SPIN 1

/**
 * Blocking calls give up the processor between two attempts, and never sleep.
 */
#define SLIPRING_IDLE_YIELD 2

/**
 * Blocking calls spin and yield for longer and longer, then sleep.
 */
#define SLIPRING_IDLE_BACKOFF 3

/**
 * slipring_recv() received frames. 0.
 */
#define SLIPRING_FRAME 0

/**
 * slipring_recv() reports that frames were lost before the next one: see `missed`.
 */
#define SLIPRING_GAP 1

/**
 * slipring_recv() reports that a producer of an mpsc ring has closed its lane, or died: see `lane`,
 * `producer` and SLIPRING_FRAME_DIED.
 */
#define SLIPRING_ENDED 2

/**
 * slipring_recv() received a frame that this receiver has received before.
 */
#define SLIPRING_DUPLICATE 3

/**
 * slipring_recv() reports bytes that no correct peer sends, and skipped them: `missed` of them.
 */
#define SLIPRING_SKIPPED 4

/**
 * The frame was received before, by a consumer that died or left without releasing it.
 */
#define SLIPRING_FRAME_REDELIVERED 1

/**
 * A fragment of a longer message: not the first part, not the last part, or neither.
 */
#define SLIPRING_FRAME_FRAGMENT 2

/**
 * The producer of the lane died without closing (SLIPRING_ENDED).
 */
#define SLIPRING_FRAME_DIED 4

/**
 * A control frame of the transport.
 */
#define SLIPRING_FRAME_CONTROL 8

/**
 * The kind of frames that state none.
 */
#define SLIPRING_DEFAULT_KIND 256

/**
 * slipring_mutex_lock() returns it if the owner before died: the data may be half changed.
 */
#define SLIPRING_OWNER_DIED 1

/**
 * Ends the blocking calls on one handle from any thread or signal handler.
 */
typedef struct slipring_canceller slipring_canceller;

/**
 * Sends requests and finds the reply of each.
 */
typedef struct slipring_client slipring_client;

/**
 * Receives frames: a consumer of a ring, a subscriber, or the receiver of a transport.
 */
typedef struct slipring_consumer slipring_consumer;

/**
 * One signal to many: set until it is reset.
 */
typedef struct slipring_event slipring_event;

/**
 * Reads latest values: any number for a ring, which the writer never waits for.
 */
typedef struct slipring_latest_reader slipring_latest_reader;

/**
 * Writes latest values: one for a ring.
 */
typedef struct slipring_latest_writer slipring_latest_writer;

/**
 * Data that several processes change in place, one at a time.
 */
typedef struct slipring_mutex slipring_mutex;

/**
 * Sends frames: a producer of a ring, a publisher, or the sender of a transport.
 */
typedef struct slipring_producer slipring_producer;

/**
 * A ring buffer of bytes, for one writing and one reading thread.
 */
typedef struct slipring_ringbuffer_t slipring_ringbuffer_t;

/**
 * A number of permits that processes share. The permits of a process that dies are given back.
 */
typedef struct slipring_semaphore slipring_semaphore;

/**
 * Takes requests and answers them.
 */
typedef struct slipring_server slipring_server;

/**
 * A count that any process may raise, and waiters lower by one each.
 */
typedef struct slipring_signal_semaphore slipring_signal_semaphore;

/**
 * The reading end of a byte stream.
 */
typedef struct slipring_stream_reader slipring_stream_reader;

/**
 * The writing end of a byte stream.
 */
typedef struct slipring_stream_writer slipring_stream_writer;

/**
 * Waits for any number of handles and descriptors at once.
 */
typedef struct slipring_wait_set slipring_wait_set;

/**
 * Wakes a wait set from any thread or signal handler.
 */
typedef struct slipring_waker slipring_waker;

/**
 * How to create or open something. Begin with SLIPRING_OPTIONS_INIT, which sets `struct_size` and
 * leaves every other member at its default, zero; then set what you need. Every opening function
 * takes NULL for "all defaults".
 *
 * An endpoint's text says its kind, sizes and flags. So beside an endpoint -SLIPRING_EINVAL
 * refuses them here; `connect_timeout_ns` may be set, and for "ring:" `slow`, `directory` and
 * `message_type`. Of a semaphore, mutex or event: `capacity`, or `fd`, only.
 */
typedef struct slipring_options {
  /**
   * sizeof(slipring_options): by it the library recognises callers of other versions.
   */
  size_t struct_size;
  /**
   * SLIPRING_SPSC and so on, to create the ring if it does not exist; SLIPRING_ANY to open one.
   */
  int kind;
  /**
   * SLIPRING_LOSSY and so on, combined by `|`.
   */
  uint32_t flags;
  /**
   * Bytes of a ring (of each lane, for mpsc), rounded up to a power of two of at least 4096; frames
   * of an mpmc ring, rounded up to a power of two; cells of latest values; permits of a semaphore;
   * bytes of a mutex. 0: 1 MiB; 64 KiB for a lane; 1024 frames; 1 cell. A ring that exists keeps
   * its own.
   */
  size_t capacity;
  /**
   * The largest payload in bytes of a frame of an mpmc ring, or of a latest value. 0: 256. Some
   * more may fit: `max_payload` of slipring_get_info() is the limit, also of the other kinds, and
   * -SLIPRING_EMSGSIZE names it.
   */
  size_t payload;
  /**
   * Lanes of an mpsc ring. 0: 16.
   */
  size_t lanes;
  /**
   * Participants, producers and consumers together: at least 2. 0: the default of the kind.
   */
  size_t participants;
  /**
   * Permissions of the file, as for chmod. 0: 0600.
   */
  uint32_t mode;
  /**
   * SLIPRING_IDLE_SPIN and so on: how blocking calls wait.
   */
  int idle;
  /**
   * SLIPRING_START_OLDEST and so on, for broadcast subscribers.
   */
  int start;
  /**
   * SLIPRING_SLOW_FAIL and so on, for publishers.
   */
  int slow;
  /**
   * Nanoseconds, for SLIPRING_SLOW_EVICT, which needs them: above 0.
   */
  int64_t evict_after_ns;
  /**
   * Nanoseconds that opening an endpoint may wait for its peer. 0: 10 seconds; negative: no limit.
   */
  int64_t connect_timeout_ns;
  /**
   * The descriptor for SLIPRING_FROM_FD. It stays the caller's: the library duplicates it.
   */
  int fd;
  /**
   * Must be 0.
   */
  int reserved;
  /**
   * The directory of named segments. NULL: the environment variable SLIPRING_DIR, or
   * /dev/shm/slipring-UID.
   */
  const char *directory;
  /**
   * A text that names the type of the messages. All participants of a ring that state one must
   * state the same: the others get -SLIPRING_EOTHERTYPE. A consumer that states one also gets it
   * for each frame of another kind, such as those of a producer that states none; that frame is
   * released. NULL: no stated type; such a consumer receives every frame, with its kind.
   */
  const char *message_type;
} slipring_options;

/**
 * A payload to send.
 */
typedef struct slipring_payload {
  /**
   * Its bytes.
   */
  const void *data;
  /**
   * How many.
   */
  size_t len;
} slipring_payload;

/**
 * A received frame, or a report about the channel.
 */
typedef struct slipring_frame {
  /**
   * The payload, in place: valid until the frame is released. Not to be written to. On a ring it
   * is aligned to 8 bytes, so it may be cast to a struct of the size `len`; of a transport it may
   * have any address: copy it.
   */
  const void *data;
  /**
   * Bytes of the payload.
   */
  size_t len;
  /**
   * What the sender said the frame is: SLIPRING_DEFAULT_KIND, or as in slipring_send_frame().
   */
  uint16_t kind;
  /**
   * The stream within the channel.
   */
  uint16_t stream;
  /**
   * The number of the frame in its stream, from 0, by the sender.
   */
  uint32_t seq;
  /**
   * SLIPRING_FRAME_REDELIVERED and so on, combined.
   */
  uint32_t flags;
  /**
   * The lane of an mpsc ring.
   */
  uint16_t lane;
  /**
   * The participant that held the lane.
   */
  uint16_t producer;
  /**
   * Frames that were lost (SLIPRING_GAP), or bytes (SLIPRING_SKIPPED).
   */
  uint64_t missed;
} slipring_frame;

/**
 * A run of bytes.
 */
typedef struct slipring_span {
  /**
   * Its first byte.
   */
  void *data;
  /**
   * How many.
   */
  size_t len;
} slipring_span;

/**
 * What slipring_latest_read() read.
 */
typedef struct slipring_reading {
  /**
   * Bytes of the value.
   */
  size_t len;
  /**
   * How many values the cell has had.
   */
  uint64_t version;
  /**
   * Values between this one and the one that this reader read before.
   */
  uint64_t skipped;
} slipring_reading;

/**
 * A request that a server received.
 */
typedef struct slipring_request {
  /**
   * Its number, for slipring_reply().
   */
  int64_t id;
  /**
   * Its payload, until the next call of slipring_server_recv().
   */
  const void *data;
  /**
   * Bytes of the payload.
   */
  size_t len;
  /**
   * Nanoseconds until its caller stops waiting; INT64_MAX for no limit.
   */
  int64_t remaining_ns;
} slipring_request;

/**
 * What is known about a ring. Set `struct_size` before the call.
 */
typedef struct slipring_info {
  /**
   * sizeof(slipring_info).
   */
  size_t struct_size;
  /**
   * SLIPRING_SPSC and so on.
   */
  int kind;
  /**
   * 1 if a peer of the other role is attached.
   */
  int has_peer;
  /**
   * Bytes of the ring, of all lanes for mpsc; frames of an mpmc ring; cells of latest values.
   */
  uint64_t capacity;
  /**
   * The largest payload in bytes.
   */
  uint64_t max_payload;
  /**
   * What of the capacity is in use.
   */
  uint64_t used;
  /**
   * Attached producers.
   */
  uint64_t producers;
  /**
   * Attached consumers.
   */
  uint64_t consumers;
  /**
   * Frames sent, or bytes of a stream.
   */
  uint64_t sent;
  /**
   * Frames received and released.
   */
  uint64_t received;
  /**
   * Bytes of payload sent.
   */
  uint64_t bytes;
  /**
   * Frames delivered again after a consumer had died.
   */
  uint64_t redelivered;
  /**
   * Frames lost by the death of a consumer, with SLIPRING_AT_MOST_ONCE.
   */
  uint64_t lost;
  /**
   * How often a dead participant's work was recovered.
   */
  uint64_t recovered;
  /**
   * Times that a participant slept.
   */
  uint64_t sleeps;
} slipring_info;

/**
 * A run of bytes, as in jack/ringbuffer.h.
 */
typedef struct slipring_ringbuffer_data_t {
  /**
   * Its first byte.
   */
  char *buf;
  /**
   * How many.
   */
  size_t len;
} slipring_ringbuffer_data_t;

#ifdef __cplusplus
extern "C" {
#endif  /* __cplusplus */

/**
 * What an error code means and what to do, as a constant text: never NULL, not to be freed. Accepts
 * the code as functions return it (negative) or as the constants have it. For the values of a
 * certain failure, such as a limit, see slipring_last_error(). Wait-free, no system call.
 */
const char *slipring_strerror(int code);

/**
 * What the calling thread's last failed call said, with the values: for example both types of a
 * mismatch. Never NULL, not to be freed, valid until the thread ends: one array of 512 bytes for
 * each thread, into which each failed call writes (a longer text is cut). So copy what you keep.
 * After a call that succeeded it is still the text of the one before. No system call.
 */
const char *slipring_last_error(void);

/**
 * Opens a producer.
 *
 * `name` is the name of a ring, which is created if `options->kind` states a kind and it does not
 * exist; or an endpoint, such as "tcp:localhost:7000", "fifo:/run/user/1000/ticks" or
 * "ring:jobs?kind=mpmc" (docs/transports.md lists them); or NULL for a new anonymous ring, whose
 * descriptor (slipring_segment_fd()) a consumer opens with SLIPRING_FROM_FD.
 *
 * Writes the handle to `*producer`, or NULL. Returns 0; -SLIPRING_ENOENT, -SLIPRING_EROLETAKEN,
 * -SLIPRING_EINCOMPATIBLE, -SLIPRING_EOTHERTYPE, -SLIPRING_EUNTRUSTED, -SLIPRING_EINVAL,
 * -SLIPRING_ETIMEDOUT for an endpoint, or the errno of a system call. Some system calls.
 */
int slipring_producer_open(const char *name,
                           const struct slipring_options *options,
                           struct slipring_producer **producer);

/**
 * Sends a copy of `len` bytes as one frame, of the agreed type's kind or SLIPRING_DEFAULT_KIND.
 *
 * Waits for room up to `timeout_ns` nanoseconds: 0 does not wait, a negative number waits without
 * limit. Returns 0; -SLIPRING_EAGAIN if full and `timeout_ns` is 0, -SLIPRING_ETIMEDOUT,
 * -SLIPRING_EMSGSIZE, -SLIPRING_EPIPE or -SLIPRING_EPEERDEAD if no consumer will make room.
 * Wait-free with 0, on a ring. No system call on a ring, unless a consumer sleeps or this one does.
 */
int slipring_send(struct slipring_producer *producer,
                  const void *data,
                  size_t len,
                  int64_t timeout_ns);

/**
 * slipring_send() with a kind, at least 0x0100, and a stream, which the receiver finds in its
 * slipring_frame.
 */
int slipring_send_frame(struct slipring_producer *producer,
                        uint16_t kind,
                        uint16_t stream,
                        const void *data,
                        size_t len,
                        int64_t timeout_ns);

/**
 * Reserves room for a frame of at most `len` bytes, to build it in place: writes its address, which
 * is aligned to 8 bytes, to `*data`. Nothing is visible to consumers until slipring_commit(). One reservation at a time; until
 * its end, other calls on the producer return -SLIPRING_EHELD. Closing the producer aborts it.
 *
 * The bytes are not cleared. Time-outs and errors as for slipring_send(); -SLIPRING_EOPNOTSUPP on
 * transports. On a broadcast ring the frame is built elsewhere, and copied when it is committed.
 */
int slipring_reserve(struct slipring_producer *producer,
                     size_t len,
                     void **data,
                     int64_t timeout_ns);

/**
 * Sends the first `len` bytes of the reservation as a frame. Returns 0; -SLIPRING_ENOTHELD;
 * -SLIPRING_EMSGSIZE if `len` exceeds the reservation, which is then still held. Wait-free; a
 * system call only to wake a sleeping consumer.
 */
int slipring_commit(struct slipring_producer *producer, size_t len);

/**
 * slipring_commit() with a kind and a stream, as slipring_send_frame().
 */
int slipring_commit_frame(struct slipring_producer *producer,
                          uint16_t kind,
                          uint16_t stream,
                          size_t len);

/**
 * Discards the reservation: nothing is sent. Returns 0 or -SLIPRING_ENOTHELD. Wait-free.
 */
int slipring_abort(struct slipring_producer *producer);

/**
 * Waits until everything sent has left this process: of a transport that queues frames. At once
 * for rings. Returns 0 or an error of slipring_send().
 */
int slipring_flush(struct slipring_producer *producer, int64_t timeout_ns);

/**
 * Sends several frames, each as slipring_send(); on rings those of SLIPRING_DEFAULT_KIND become
 * visible at once, which is the cheapest way to send small ones. Returns how many were sent, at
 * least 1 unless `n` is 0, or the error of the first. The time-out is for the first; the others are
 * sent while there is room.
 */
int64_t slipring_send_batch(struct slipring_producer *producer,
                            const struct slipring_payload *payloads,
                            size_t n,
                            int64_t timeout_ns);

/**
 * Opens both directions of an endpoint, such as "unix:/run/user/1000/app.sock?listen" or
 * "tcp:localhost:7000": a producer and a consumer, to be closed separately. Errors as for
 * slipring_producer_open(); -SLIPRING_EOPNOTSUPP for endpoints of one direction.
 */
int slipring_duplex_open(const char *endpoint,
                         const struct slipring_options *options,
                         struct slipring_producer **producer,
                         struct slipring_consumer **consumer);

/**
 * Opens a consumer: as slipring_producer_open(). For a broadcast ring it is a subscriber, reliable
 * unless SLIPRING_LOSSY is set, from `options->start` on.
 */
int slipring_consumer_open(const char *name,
                           const struct slipring_options *options,
                           struct slipring_consumer **consumer);

/**
 * Receives a frame in place: fills `*frame`, whose payload stays valid until slipring_release().
 * One frame, or one batch, at a time; until its end, other calls on the consumer return
 * -SLIPRING_EHELD. If this process dies first, the frame is delivered again to another consumer.
 *
 * Waits up to `timeout_ns` nanoseconds: 0 does not wait, a negative number waits without limit.
 * Returns SLIPRING_FRAME (0); or, without a frame to release, SLIPRING_GAP, SLIPRING_ENDED or
 * SLIPRING_SKIPPED; or SLIPRING_DUPLICATE, with one (transports only). Errors: -SLIPRING_EAGAIN if
 * empty and `timeout_ns` is 0, -SLIPRING_ETIMEDOUT, -SLIPRING_EPIPE and -SLIPRING_EPEERDEAD at the
 * end, when everything was received; -SLIPRING_EEVICTED; -SLIPRING_ECORRUPT.
 * Wait-free with 0, on spsc, mpsc and broadcast rings; lock-free on mpmc rings. No system call on a
 * ring, unless a producer sleeps or this call does.
 */
int slipring_recv(struct slipring_consumer *consumer,
                  struct slipring_frame *frame,
                  int64_t timeout_ns);

/**
 * slipring_release(), if a frame or batch is held, and slipring_recv(), in one call: the shortest
 * loop over frames in place. Returns as slipring_recv(); an error holds nothing, except
 * -SLIPRING_EHANDLE, -SLIPRING_EWRONGTHREAD, -SLIPRING_EBUSY and -SLIPRING_EINVAL, which release
 * nothing.
 */
int slipring_recv_next(struct slipring_consumer *consumer,
                       struct slipring_frame *frame,
                       int64_t timeout_ns);

/**
 * Receives a copy of a frame into `buffer` of `size` bytes, and releases the frame: fills
 * `*frame`, whose `data` is `buffer`. The size of this frame is enough for every kind of ring;
 * `max_payload` of slipring_get_info() is enough for every frame. Otherwise as slipring_recv();
 * -SLIPRING_EMSGSIZE if the payload is larger than `size`: the frame is then received by the next
 * call.
 */
int slipring_recv_into(struct slipring_consumer *consumer,
                       void *buffer,
                       size_t size,
                       struct slipring_frame *frame,
                       int64_t timeout_ns);

/**
 * Receives up to `max` frames in place, all to be released by one slipring_release(). Waits for the
 * first as slipring_recv(). Returns how many, or an error; 0 reports the end of a lane of an mpsc
 * ring, in the first frame. -SLIPRING_EOPNOTSUPP for lossy subscribers and transports.
 */
int64_t slipring_recv_batch(struct slipring_consumer *consumer,
                            struct slipring_frame *frames,
                            size_t max,
                            int64_t timeout_ns);

/**
 * Releases the frame or batch that was received last: its payload is no longer valid. Returns 0 or
 * -SLIPRING_ENOTHELD. Wait-free; a system call only to wake a sleeping producer.
 */
int slipring_release(struct slipring_consumer *consumer);

/**
 * Leaves the frame or batch in the ring instead of releasing it: this consumer, or its successor,
 * receives it again. Returns 0 or -SLIPRING_ENOTHELD.
 */
int slipring_keep(struct slipring_consumer *consumer);

/**
 * Opens the writing end of a byte stream: as slipring_producer_open(), with SLIPRING_STREAM to
 * create one, and without endpoints. A NULL name makes an anonymous one.
 */
int slipring_stream_writer_open(const char *name,
                                const struct slipring_options *options,
                                struct slipring_stream_writer **writer);

/**
 * Opens the reading end of a byte stream: as slipring_stream_writer_open().
 */
int slipring_stream_reader_open(const char *name,
                                const struct slipring_options *options,
                                struct slipring_stream_reader **reader);

/**
 * Writes bytes. With `timeout_ns` 0 it writes what fits, and returns how many bytes that was, or
 * -SLIPRING_EAGAIN for none. Otherwise it waits until all are written, and returns `len`; if it
 * fails after a part, it returns how many bytes were written, and the next call the error:
 * -SLIPRING_ETIMEDOUT, -SLIPRING_EPIPE, -SLIPRING_EPEERDEAD. Wait-free with 0.
 */
int64_t slipring_stream_write(struct slipring_stream_writer *writer,
                              const void *data,
                              size_t len,
                              int64_t timeout_ns);

/**
 * Describes the free bytes, to be written in place: up to two runs, the second of which follows
 * the first. The second is empty today, because the memory is mapped twice in a row; programs
 * written for rings that wrap around need no change. Returns the sum of both. Then
 * slipring_stream_commit(). Wait-free, no system call.
 */
int64_t slipring_stream_write_vector(struct slipring_stream_writer *writer,
                                     struct slipring_span *spans);

/**
 * Publishes the first `n` bytes of the vector. Returns 0; -SLIPRING_EMSGSIZE if it has fewer.
 * Wait-free; a system call only to wake a sleeping reader.
 */
int slipring_stream_commit(struct slipring_stream_writer *writer, size_t n);

/**
 * Reads at most `size` bytes, at least one: waits for the first. Returns how many, or
 * -SLIPRING_EAGAIN if none and `timeout_ns` is 0, -SLIPRING_ETIMEDOUT, -SLIPRING_EPIPE and
 * -SLIPRING_EPEERDEAD at the end. Wait-free with 0.
 */
int64_t slipring_stream_read(struct slipring_stream_reader *reader,
                             void *buffer,
                             size_t size,
                             int64_t timeout_ns);

/**
 * Describes the filled bytes, to be read in place, as slipring_stream_write_vector(). Returns the
 * sum of both runs, which is 0 for an empty ring and at the end. Then slipring_stream_consume().
 */
int64_t slipring_stream_read_vector(struct slipring_stream_reader *reader,
                                    struct slipring_span *spans);

/**
 * Removes the first `n` bytes of the vector. Returns 0; -SLIPRING_EMSGSIZE if it has fewer.
 * Wait-free; a system call only to wake a sleeping writer.
 */
int slipring_stream_consume(struct slipring_stream_reader *reader, size_t n);

/**
 * Opens the writer of latest values: as slipring_stream_writer_open(), with SLIPRING_LATEST,
 * `capacity` cells of `payload` bytes each.
 */
int slipring_latest_writer_open(const char *name,
                                const struct slipring_options *options,
                                struct slipring_latest_writer **writer);

/**
 * Opens a reader of latest values: as slipring_latest_writer_open().
 */
int slipring_latest_reader_open(const char *name,
                                const struct slipring_options *options,
                                struct slipring_latest_reader **reader);

/**
 * Replaces the value of a cell. Returns its version, from 1; -SLIPRING_EINVAL for a cell that there
 * is not; -SLIPRING_EMSGSIZE. Wait-free; a system call only to wake sleeping readers.
 */
int64_t slipring_latest_write(struct slipring_latest_writer *writer,
                              size_t cell,
                              const void *data,
                              size_t len);

/**
 * Copies the newest value of a cell into `buffer`, whether or not this reader has read it before,
 * and describes it in `*reading`. Waits only for the first value of the cell. Returns 0;
 * -SLIPRING_EAGAIN if the cell has no value yet and `timeout_ns` is 0; -SLIPRING_ETIMEDOUT;
 * -SLIPRING_EMSGSIZE if `size` is too small; -SLIPRING_EOVERTAKEN.
 */
int slipring_latest_read(struct slipring_latest_reader *reader,
                         size_t cell,
                         void *buffer,
                         size_t size,
                         struct slipring_reading *reading,
                         int64_t timeout_ns);

/**
 * Waits until a watched cell has a value that this reader has not read, and returns its number.
 * All cells are watched, unless slipring_latest_watch() named some. Errors as for
 * slipring_recv().
 */
int64_t slipring_latest_changed(struct slipring_latest_reader *reader, int64_t timeout_ns);

/**
 * Watches only the `n` cells whose numbers are in `cells` from now on.
 */
int slipring_latest_watch(struct slipring_latest_reader *reader, const size_t *cells, size_t n);

/**
 * Opens a semaphore; creates it with `options->capacity` permits if that is not 0 and it does not
 * exist. `options` may have SLIPRING_FROM_FD; a NULL name makes an anonymous one. The name is in
 * the directory of SLIPRING_DIR; `options->directory` is refused. Errors as for
 * slipring_producer_open().
 */
int slipring_semaphore_open(const char *name,
                            const struct slipring_options *options,
                            struct slipring_semaphore **semaphore);

/**
 * Acquires a permit. Returns 0; -SLIPRING_EAGAIN if there is none and `timeout_ns` is 0;
 * -SLIPRING_ETIMEDOUT. Several may be held.
 */
int slipring_semaphore_acquire(struct slipring_semaphore *semaphore, int64_t timeout_ns);

/**
 * Gives a permit back that this handle acquired. Returns 0 or -SLIPRING_ENOTHELD. Wait-free.
 */
int slipring_semaphore_release(struct slipring_semaphore *semaphore);

/**
 * How many permits are free now. Wait-free.
 */
int64_t slipring_semaphore_available(struct slipring_semaphore *semaphore);

/**
 * Opens a signalling semaphore; creates it if `options->capacity` is not 0 and it does not exist.
 * Otherwise as slipring_semaphore_open().
 */
int slipring_signal_semaphore_open(const char *name,
                                   const struct slipring_options *options,
                                   struct slipring_signal_semaphore **semaphore);

/**
 * Raises the count by `n`. Returns 0 or -SLIPRING_EOVERFLOW. A system call only to wake sleepers.
 */
int slipring_signal_semaphore_post(struct slipring_signal_semaphore *semaphore, uint32_t n);

/**
 * Lowers the count by one, once it is above 0. Returns 0; -SLIPRING_EAGAIN if it is 0 and
 * `timeout_ns` is 0; -SLIPRING_ETIMEDOUT.
 */
int slipring_signal_semaphore_wait(struct slipring_signal_semaphore *semaphore, int64_t timeout_ns);

/**
 * Opens a mutex with its data; creates it with `options->capacity` bytes, cleared, if that is not 0
 * and it does not exist. Otherwise as slipring_semaphore_open().
 */
int slipring_mutex_open(const char *name,
                        const struct slipring_options *options,
                        struct slipring_mutex **mutex);

/**
 * Locks the mutex: writes the address of the data to `*data` and its size to `*len` (NULL to leave
 * one out). Returns 0, or SLIPRING_OWNER_DIED: check the data, then
 * slipring_mutex_mark_consistent(), without which the next owner is told the same. Errors:
 * -SLIPRING_EAGAIN if it is locked and `timeout_ns` is 0; -SLIPRING_ETIMEDOUT; -SLIPRING_EHELD if
 * this handle has it.
 */
int slipring_mutex_lock(struct slipring_mutex *mutex, void **data, size_t *len, int64_t timeout_ns);

/**
 * Says that the data is whole again, after SLIPRING_OWNER_DIED. Returns 0 or -SLIPRING_ENOTHELD.
 */
int slipring_mutex_mark_consistent(struct slipring_mutex *mutex);

/**
 * Unlocks the mutex: its data must not be used any more. Returns 0 or -SLIPRING_ENOTHELD.
 */
int slipring_mutex_unlock(struct slipring_mutex *mutex);

/**
 * Opens an event; creates it if `options->capacity` is not 0 and it does not exist. Otherwise as
 * slipring_semaphore_open().
 */
int slipring_event_open(const char *name,
                        const struct slipring_options *options,
                        struct slipring_event **event);

/**
 * Sets the event: all that wait for it go on. Returns 0.
 */
int slipring_event_set(struct slipring_event *event);

/**
 * Resets the event. Returns 1 if it was set, otherwise 0.
 */
int slipring_event_reset(struct slipring_event *event);

/**
 * Waits until the event is set. Returns 0; -SLIPRING_EAGAIN if it is not and `timeout_ns` is 0;
 * -SLIPRING_ETIMEDOUT. It stays set.
 */
int slipring_event_wait(struct slipring_event *event, int64_t timeout_ns);

/**
 * Makes a wait set. Returns 0 or the errno of a system call. Close it by slipring_close().
 */
int slipring_wait_set_open(struct slipring_wait_set **set);

/**
 * Adds a handle under a number of the caller's choice, by which slipring_wait_set_wait() returns
 * it: a consumer, a stream reader or a reader of latest values that may receive; a producer that
 * has room for `len` bytes, or a stream writer; a semaphore with a permit; a mutex that is free; an
 * event that is set. `len` is 0 for all others. The handle stays usable, and closing it removes it.
 *
 * Returns 0; -SLIPRING_EINVAL if the number is in the set; -SLIPRING_EHELD while a frame is held;
 * -SLIPRING_EOPNOTSUPP for other handles.
 */
int slipring_wait_set_add(struct slipring_wait_set *set, size_t token, void *handle, size_t len);

/**
 * Adds a descriptor: readable, or writable if `writable` is not 0. It stays the caller's.
 */
int slipring_wait_set_add_fd(struct slipring_wait_set *set, size_t token, int fd, int writable);

/**
 * Removes a member. Returns 1 if the number was in the set, otherwise 0.
 */
int slipring_wait_set_remove(struct slipring_wait_set *set, size_t token);

/**
 * Waits until members are ready, and writes the numbers of up to `max` of them to `tokens`. Returns
 * how many; 0 if there are none and `timeout_ns` is 0; -SLIPRING_ETIMEDOUT. A member is ready when
 * a call on it may do something, so call without waiting. No system call if one is ready.
 */
int64_t slipring_wait_set_wait(struct slipring_wait_set *set,
                               size_t *tokens,
                               size_t max,
                               int64_t timeout_ns);

/**
 * Makes a waker that makes the set return `token`. Close both, in any order.
 */
int slipring_waker_open(struct slipring_wait_set *set, size_t token, struct slipring_waker **waker);

/**
 * Makes the set return, now or at its next wait. From any thread, and from signal handlers.
 */
int slipring_wake(struct slipring_waker *waker);

/**
 * Makes a canceller of a handle that belongs to the calling thread. -SLIPRING_EOPNOTSUPP for
 * transports and wait sets: use a waker.
 */
int slipring_canceller_open(void *handle, struct slipring_canceller **canceller);

/**
 * Ends the call on the handle that waits, and every later one that would wait, with
 * -SLIPRING_ECANCELED. From any thread, and from signal handlers.
 */
int slipring_cancel(struct slipring_canceller *canceller);

/**
 * Lets calls on the handle wait again.
 */
int slipring_canceller_reset(struct slipring_canceller *canceller);

/**
 * A descriptor for poll, select, epoll or io_uring. Of a consumer it is readable (POLLIN) when a
 * call without waiting may have a result, of a producer writable (POLLOUT) when there may be room.
 * Before polling, call slipring_recv(), or slipring_send(), with a time-out of 0 until it returns
 * -SLIPRING_EAGAIN: that arms the descriptor. It belongs to the handle: do not read, write or
 * close it. A consumer tells of released space from time to time: the descriptor of a ring's
 * producer may become writable up to 50 ms late.
 *
 * Returns the descriptor; -SLIPRING_EOPNOTSUPP for other handles: use a wait set. The first call
 * makes it, by some system calls.
 */
int slipring_fd(void *handle);

/**
 * Opens a client of the server `name`, which must have been started once; or of a server behind an
 * endpoint of two directions, such as "unix:/run/user/1000/app.sock". `options` as the server's:
 * an mpmc ring (the default), or SLIPRING_SPSC for one client; calls have no `message_type`.
 * Errors as for slipring_producer_open(); -SLIPRING_ETOOMANY if all reply lanes are taken.
 */
int slipring_client_open(const char *name,
                         const struct slipring_options *options,
                         struct slipring_client **client);

/**
 * Sends a request and waits for its reply, which is at `*reply` until the next call on the client,
 * with `*reply_len` bytes. Waits first until there is a server, as slipring_call_start().
 *
 * Returns 0; -SLIPRING_EPEERDEAD or -SLIPRING_EPIPE as soon as the server has ended: it may have
 * handled the request or not, and the library does not repeat it; -SLIPRING_ETIMEDOUT, after which
 * the request is cancelled; -SLIPRING_EUNANSWERED; -SLIPRING_EMSGSIZE; -SLIPRING_ECANCELED. A
 * `timeout_ns` of 0 has passed at once: pass a positive one, or a negative one for no limit.
 */
int slipring_call(struct slipring_client *client,
                  const void *request,
                  size_t len,
                  const void **reply,
                  size_t *reply_len,
                  int64_t timeout_ns);

/**
 * Sends a request and does not wait for its reply. Waits first, up to `timeout_ns`, until a server
 * has answered from within slipring_server_recv(), which it does once (so the client needs a
 * thread of its own), and until there is room. The server skips the request if it comes to it
 * after `timeout_ns`. Returns the number of the call, from 1, for slipring_call_finish() or
 * slipring_call_cancel(); errors as for slipring_call().
 */
int64_t slipring_call_start(struct slipring_client *client,
                            const void *request,
                            size_t len,
                            int64_t timeout_ns);

/**
 * Waits for the reply of a call. Whatever it returns, the call has ended. Otherwise as
 * slipring_call().
 */
int slipring_call_finish(struct slipring_client *client,
                         int64_t call,
                         const void **reply,
                         size_t *reply_len,
                         int64_t timeout_ns);

/**
 * Cancels a call: its reply is discarded, and the server is told.
 */
int slipring_call_cancel(struct slipring_client *client, int64_t call);

/**
 * Opens a server for up to `clients` clients at a time: creates its rings, `name` for requests and
 * one for each reply lane, or opens them. Or a server for the one client of an endpoint of two
 * directions. -SLIPRING_EROLETAKEN while another server runs.
 */
int slipring_server_open(const char *name,
                         uint16_t clients,
                         const struct slipring_options *options,
                         struct slipring_server **server);

/**
 * Receives a request: answer it by its number, now or after others, with slipring_reply() or
 * slipring_refuse(). Time-outs and errors as for slipring_recv(). Requests of which the caller has
 * gone, or whose time has passed, are skipped.
 */
int slipring_server_recv(struct slipring_server *server,
                         struct slipring_request *request,
                         int64_t timeout_ns);

/**
 * Answers a request. Waits for room in its caller's lane, until the caller's deadline. Returns 0;
 * -SLIPRING_ENOTHELD for an unknown number; -SLIPRING_EMSGSIZE, of which the caller is told;
 * -SLIPRING_EPIPE, -SLIPRING_EPEERDEAD or -SLIPRING_ETIMEDOUT if the caller waits no longer, which
 * ends this request only: go on with the next.
 */
int slipring_reply(struct slipring_server *server, int64_t id, const void *reply, size_t len);

/**
 * Tells the caller of a request that it gets no answer: -SLIPRING_EUNANSWERED.
 */
int slipring_refuse(struct slipring_server *server, int64_t id);

/**
 * Returns 1 if the caller of a request has cancelled it or waits no longer, otherwise 0.
 */
int slipring_is_cancelled(struct slipring_server *server, int64_t id);

/**
 * Closes a handle of any type: what it holds is aborted, released or unlocked, and its peers are
 * told. Its value is invalid from then on, and every call with it returns -SLIPRING_EHANDLE.
 *
 * The owner thread may call it, and another thread while the owner is in no call, for example after
 * it has ended. Returns 0; -SLIPRING_EHANDLE for NULL and for a handle that was closed;
 * -SLIPRING_EBUSY during a call of the owner.
 */
int slipring_close(void *handle);

/**
 * Makes the calling thread the owner of a handle of another thread, which is in no call on it. A
 * handle belongs to the thread that makes the first call on it after opening. Returns 0;
 * -SLIPRING_EBUSY during a call of the owner.
 */
int slipring_take(void *handle);

/**
 * Fills `*info` for the ring of a producer, a consumer, or an end of a stream or of latest values:
 * counts of all participants since it was created. Returns 0; -SLIPRING_EINVAL for a wrong
 * `struct_size`; -SLIPRING_EOPNOTSUPP for other handles. Some loads for each participant.
 */
int slipring_get_info(void *handle, struct slipring_info *info);

/**
 * The descriptor of a handle's segment, to be passed to another process (SCM_RIGHTS, or
 * inheritance by fork and exec after clearing FD_CLOEXEC), which opens it with SLIPRING_FROM_FD. It
 * belongs to the handle: do not close it. For anonymous rings and primitives.
 */
int slipring_segment_fd(void *handle);

/**
 * Waits until a peer of the other role is attached to the ring of a handle. Returns 0;
 * -SLIPRING_ETIMEDOUT; -SLIPRING_EOPNOTSUPP for handles without a ring.
 */
int slipring_wait_for_peer(void *handle, int64_t timeout_ns);

/**
 * Removes the name of a ring or primitive: its participants go on, and its memory is freed with the
 * last of them. `options` may name a directory and a kind, which the ring must then have. Returns
 * 0; -SLIPRING_ENOENT; -SLIPRING_EINCOMPATIBLE; -SLIPRING_EUNTRUSTED.
 */
int slipring_remove(const char *name, const struct slipring_options *options);

/**
 * Removes the names of a server's rings: those of its requests and of each reply lane. Otherwise as
 * slipring_remove().
 */
int slipring_server_remove(const char *name, const struct slipring_options *options);

/**
 * The version of the library, such as "0.1.0": compare it with SLIPRING_VERSION of the header.
 */
const char *slipring_version(void);

/**
 * Makes a ring buffer that holds at least `sz` bytes, for two threads of this process. NULL if
 * there is no memory: see slipring_last_error().
 */
struct slipring_ringbuffer_t *slipring_ringbuffer_create(size_t sz);

/**
 * Opens the writing side of the named ring buffer of at least `sz` bytes, for a reader in another
 * process. NULL on failure. Not in JACK.
 */
struct slipring_ringbuffer_t *slipring_ringbuffer_open_writer(const char *name, size_t sz);

/**
 * Opens the reading side of the named ring buffer, for a writer in another process. NULL on
 * failure. Not in JACK.
 */
struct slipring_ringbuffer_t *slipring_ringbuffer_open_reader(const char *name, size_t sz);

/**
 * Frees the ring buffer. NULL, and a buffer that was freed before, are ignored.
 */
void slipring_ringbuffer_free(struct slipring_ringbuffer_t *rb);

/**
 * Describes the bytes to be read, in place: `vec` has room for two runs, of which the second is
 * empty.
 */
void slipring_ringbuffer_get_read_vector(const struct slipring_ringbuffer_t *rb,
                                         struct slipring_ringbuffer_data_t *vec);

/**
 * Describes the room to be written, in place: `vec` has room for two runs, of which the second is
 * empty.
 */
void slipring_ringbuffer_get_write_vector(const struct slipring_ringbuffer_t *rb,
                                          struct slipring_ringbuffer_data_t *vec);

/**
 * Reads at most `cnt` bytes. Returns how many. Wait-free.
 */
size_t slipring_ringbuffer_read(struct slipring_ringbuffer_t *rb, char *dest, size_t cnt);

/**
 * Reads at most `cnt` bytes and leaves them in the buffer. Returns how many. Wait-free.
 */
size_t slipring_ringbuffer_peek(struct slipring_ringbuffer_t *rb, char *dest, size_t cnt);

/**
 * Removes `cnt` bytes, after slipring_ringbuffer_get_read_vector(); all there are if fewer.
 */
void slipring_ringbuffer_read_advance(struct slipring_ringbuffer_t *rb, size_t cnt);

/**
 * How many bytes can be read.
 */
size_t slipring_ringbuffer_read_space(const struct slipring_ringbuffer_t *rb);

/**
 * Locks the buffer into memory. Returns 0, or -1 if the limit RLIMIT_MEMLOCK forbids it, and for
 * buffers between processes, which stay as they are. Call it before the two threads start.
 */
int slipring_ringbuffer_mlock(struct slipring_ringbuffer_t *rb);

/**
 * Makes the buffer empty. Not while another thread uses it.
 */
void slipring_ringbuffer_reset(struct slipring_ringbuffer_t *rb);

/**
 * Makes the buffer empty, and changes its size to at least `sz` bytes. Not while another thread
 * uses it. Buffers between processes stay as they are, and slipring_last_error() says so.
 */
void slipring_ringbuffer_reset_size(struct slipring_ringbuffer_t *rb, size_t sz);

/**
 * Writes at most `cnt` bytes. Returns how many. Wait-free.
 */
size_t slipring_ringbuffer_write(struct slipring_ringbuffer_t *rb, const char *src, size_t cnt);

/**
 * Publishes `cnt` bytes, after slipring_ringbuffer_get_write_vector(); all there is room for if
 * fewer.
 */
void slipring_ringbuffer_write_advance(struct slipring_ringbuffer_t *rb, size_t cnt);

/**
 * How many bytes can be written.
 */
size_t slipring_ringbuffer_write_space(const struct slipring_ringbuffer_t *rb);

#ifdef __cplusplus
}  /* extern "C" */
#endif  /* __cplusplus */

#endif  /* SLIPRING_H */
