/*
 * shmbus.h: Ethernet LANs in one shared file.
 *
 * A bus is a regular file that every station maps. A process that may open the
 * file is on the LAN: no daemon, no root. The format is that of NetBSD's
 * shmif(4), so rump kernels can share a bus with programs of this library.
 *
 *     shmbus_t *bus;
 *     uint8_t frame[SHMBUS_MAX_FRAME];
 *     if (shmbus_join("/dev/shm/lan", NULL, &bus) < 0)
 *         errx(1, "%s", shmbus_last_error());
 *     while (shmbus_wait(bus, -1) > 0)
 *         for (int len; (len = shmbus_recv(bus, frame, sizeof frame)) > 0;)
 *             printf("%d bytes\n", len);
 *
 * Results. A call that can fail returns a negative number when it does: one of
 * enum shmbus_error. errno is then set, too, and shmbus_last_error() has a line
 * that says what happened and what to do. Zero and positive results are
 * successes. Nothing is printed, and no call ends the process.
 *
 * Handles. A shmbus_t * stands for one station or one tap. It is not an
 * address. A call with NULL, with a handle that was closed, or with any other
 * value returns SHMBUS_ERR_HANDLE. A process has at most 4096 handles.
 *
 * Threads. Different handles may be used by different threads at the same time.
 * While a call with a handle runs, another call with the same one returns
 * SHMBUS_ERR_IN_USE and does nothing.
 *
 * Processes. All descriptors are closed by exec. Use a handle only in the
 * process that opened it; a child of fork() opens its own.
 *
 * Other pointers must be NULL, which is an error unless the call says
 * otherwise, or point to what the call asks for.
 */
#ifndef SHMBUS_H
#define SHMBUS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version that this header belongs to; see also shmbus_version(). */
#define SHMBUS_VERSION "0.2.0"

/* The longest frame in bytes, with its Ethernet header and without a check
 * sequence: on a bus that rump kernels can share, and on any other. */
#define SHMBUS_MAX_FRAME 1514
#define SHMBUS_MAX_BIG_FRAME 9216

/* The shortest frame in bytes: an Ethernet header. */
#define SHMBUS_MIN_FRAME 14

/* The longest time in milliseconds to sleep after shmbus_arm(). */
#define SHMBUS_MAX_SLEEP_MS 100

/* A station or a tap. */
typedef struct shmbus shmbus_t;

/* What a call returns when it fails. In brackets: errno. */
enum shmbus_error {
    SHMBUS_ERR_ARGUMENT = -1,  /* NULL, or a value that is out of range [EINVAL] */
    SHMBUS_ERR_HANDLE = -2,    /* no open handle [EBADF] */
    SHMBUS_ERR_IN_USE = -3,    /* another thread uses the handle now [EBUSY] */
    SHMBUS_ERR_SYSTEM = -4,    /* the system refused something [its errno] */
    SHMBUS_ERR_NOT_A_BUS = -5, /* the file cannot be joined as a bus [ENOTSUP] */
    SHMBUS_ERR_NO_ROOM = -6,   /* no room for the file of the bus [ENOSPC, EFBIG, ...] */
    SHMBUS_ERR_DAMAGED = -7,   /* the header of the bus leads to no packet [EUCLEAN] */
    SHMBUS_ERR_BUSY = -8,      /* the lock of the bus was not free in time [EAGAIN] */
    SHMBUS_ERR_LENGTH = -9,    /* a frame is too long or too short [EMSGSIZE] */
    SHMBUS_ERR_LOST = -10,     /* the file was cut short or overwritten [ESTALE] */
    SHMBUS_ERR_TAP = -11,      /* a tap cannot do that [EPERM] */
    SHMBUS_ERR_INTERNAL = -12  /* a fault of this library; close the handle [ENOTRECOVERABLE] */
};

/* Flags of shmbus_options. */
#define SHMBUS_PROMISCUOUS 1u /* receive frames for other stations as well */
#define SHMBUS_EXISTING 2u    /* do not make a bus where there is none: ENOENT */
#define SHMBUS_OWN_FORMAT 4u  /* make a bus that rump kernels cannot share: longer
                                 frames, and faster; for files of other sizes
                                 than 1 MiB it is implied */

/*
 * How to join a bus. Begin with SHMBUS_OPTIONS_INIT, and set what is to differ:
 *
 *     struct shmbus_options options = SHMBUS_OPTIONS_INIT;
 *     options.name = "probe";
 *
 * A member that is 0 or NULL stands for the default.
 */
struct shmbus_options {
    size_t struct_size;        /* set by SHMBUS_OPTIONS_INIT */
    const char *name;          /* in the bus's list of members; the program's name */
    const uint8_t *mac;        /* 6 bytes; a random address, b2:a0:... */
    uint64_t size;             /* of the file, in bytes, if it is made; 1 MiB, or a
                                  multiple of 64 KiB up to 1 GiB */
    uint32_t mode;             /* permission bits of the file, if it is made; 0600 */
    uint32_t flags;            /* SHMBUS_PROMISCUOUS, ... */
    uint32_t lock_timeout_ms;  /* how long a send waits for the lock; 2000 */
    uint32_t wake_interval_us; /* least time between two wake-ups of other stations;
                                  0: a wake-up for each burst. See shmbus_flush() */
    uint32_t poll_us;          /* how long shmbus_wait() polls before it sleeps; 0 */
    uint32_t reserved;         /* must be 0 */
};

#define SHMBUS_OPTIONS_INIT { sizeof(struct shmbus_options), NULL, NULL, 0, 0, 0, 0, 0, 0, 0 }

/* Flags of shmbus_tap(). */
#define SHMBUS_TAP_OLDEST 1u /* begin with the oldest frame that is on the bus */
#define SHMBUS_TAP_RUNTS 2u  /* also packets of 1 to 13 bytes, which stations ignore */

/* A frame to receive. The caller sets data and size; the call sets the rest. */
struct shmbus_frame {
    void *data;            /* where to copy the frame; NULL only with size 0 */
    uint32_t size;         /* how many bytes fit there */
    uint32_t length;       /* the length of the frame: if it exceeds size, only size
                              bytes were copied */
    uint32_t seconds;      /* the sender's clock: wall time, or the uptime of a rump
                              kernel. The sender may write anything here */
    uint32_t microseconds; /* likewise */
    uint64_t sender;       /* random identity of the sending station */
};

/* What a station or tap has seen and done since it was opened. */
struct shmbus_stats {
    uint64_t rx_packets;      /* frames received */
    uint64_t rx_bytes;        /* their bytes */
    uint64_t tx_packets;      /* frames put on the bus */
    uint64_t tx_bytes;        /* their bytes */
    uint64_t tx_refused;      /* too long or too short, with the rest of their bursts */
    uint64_t tx_busy;         /* not sent: the lock was not free in time */
    uint64_t lock_waits;      /* how often the lock was not free at the first look */
    uint64_t wakeups;         /* sent to other stations */
    uint64_t wakeups_failed;  /* failed; each is repeated */
    uint64_t sleeps;          /* how often shmbus_wait() slept */
    uint64_t missed_wakeups;  /* how often a sleep timed out beside a frame */
    uint64_t filtered;        /* frames of others that were not for this station */
    uint64_t overruns;        /* how often writers came around the ring before it read */
    uint64_t overrun_bytes;   /* bytes of the ring that it missed by that */
    uint64_t overrun_frames;  /* an estimate of the frames that it missed by that */
    uint64_t corrupt;         /* how often something on the ring was no packet */
};

/* ---- the library ---- */

/* Returns the version of the library that runs, such as "0.1.0". */
const char *shmbus_version(void);

/* Returns a text for a result: "success" for 0 and above, and for a number that
 * is none of enum shmbus_error "unknown error". Never NULL. */
const char *shmbus_strerror(int result);

/* Returns what the latest call that failed in this thread has to say: one line,
 * without its end. Empty before the first. It is valid until the next call that
 * fails in this thread. Never NULL. */
const char *shmbus_last_error(void);

/* Makes the process survive that the file of a bus is cut short while it is
 * mapped: calls then return SHMBUS_ERR_LOST, where SIGBUS would kill the
 * process. It installs a handler for SIGBUS, which passes all other faults to
 * the handler before it. Call it once, before other threads run. */
int shmbus_survive_truncation(void);

/* ---- opening and closing ---- */

/* Joins the bus at path as a station, and makes the bus first if there is none
 * (or only an empty file). options may be NULL. Stores the station in *bus, or
 * NULL when it fails. It receives what is sent from now on. */
int shmbus_join(const char *path, const struct shmbus_options *options, shmbus_t **bus);

/* Joins as an interface of a rump kernel does: rump_pub_shmif_create() with this
 * path makes the same bus, and the same kind of address. It is shmbus_join()
 * without options. */
int shmbus_shmif_create(const char *path, shmbus_t **bus);

/* Opens a tap on an existing bus: it receives every frame, takes no lock, leaves
 * no trace on the bus, and needs only permission to read the file. Stores it in
 * *tap, or NULL when it fails. */
int shmbus_tap(const char *path, uint32_t flags, shmbus_t **tap);

/* Leaves the bus. NULL is no error and does nothing. */
int shmbus_close(shmbus_t *bus);

/* ---- frames ---- */

/* Sends a frame to all other stations on the bus. Returns 1. For more than one,
 * shmbus_send_burst() costs less for each. */
int shmbus_send(shmbus_t *bus, const void *frame, size_t length);

/* Sends count frames, in order, with one wake-up of the other stations. Returns
 * count. A frame that is too long or too short is SHMBUS_ERR_LENGTH, and none of
 * the burst is sent. After SHMBUS_ERR_BUSY the first *sent frames are on the
 * bus: continue with those after them. sent may be NULL. */
int shmbus_send_burst(shmbus_t *bus, const struct iovec *frames, size_t count, size_t *sent);

/* Wakes the other stations now, if wake_interval_us has put that off. */
int shmbus_flush(shmbus_t *bus);

/* Receives one frame, without waiting. Returns its length, or 0 when there is
 * none. If the length exceeds size, only size bytes were copied. */
int shmbus_recv(shmbus_t *bus, void *buffer, size_t size);

/* Receives up to count frames, without waiting. Returns how many. It may be 0
 * under load although there is more: call again before you sleep, or arm. */
int shmbus_recv_burst(shmbus_t *bus, struct shmbus_frame *frames, size_t count);

/* ---- waiting ---- */

/* Waits until there is something to read, for timeout_ms at most (-1: without
 * limit). Returns 1, or 0 when the time is over. What there is to read need not
 * be for this station. A signal does not end it; to wait for more than one
 * thing, poll shmbus_fd(). */
int shmbus_wait(shmbus_t *bus, int timeout_ms);

/* Returns the descriptor to poll for reading (poll, epoll, libevent, ...) after
 * shmbus_arm(). It stays the same until the handle is closed. Do not read or
 * close it. */
int shmbus_fd(shmbus_t *bus);

/* Prepares for a sleep. Returns 1 when there is something to read already: do
 * not sleep then. Returns 0 when the handle is armed: poll shmbus_fd(), for
 * SHMBUS_MAX_SLEEP_MS at most, since a sender may die between its frame and the
 * wake-up; then call shmbus_disarm(), and receive. No frame is missed between
 * the last receive and the sleep.
 *
 *     for (;;) {
 *         while (shmbus_recv_burst(bus, frames, 32) > 0) ...
 *         if (shmbus_arm(bus) == 0)
 *             poll(fds, nfds, SHMBUS_MAX_SLEEP_MS);
 *         shmbus_disarm(bus);
 *     }
 */
int shmbus_arm(shmbus_t *bus);

/* Ends what shmbus_arm() began. Without it, it does nothing. */
int shmbus_disarm(shmbus_t *bus);

/* ---- what it is ---- */

/* Copies the station's address to mac. */
int shmbus_mac(shmbus_t *bus, uint8_t mac[6]);

/* Returns the longest frame that the bus carries, in bytes. */
int shmbus_max_frame(shmbus_t *bus);

/* Changes whether the station receives frames for others (on: not 0). */
int shmbus_set_promiscuous(shmbus_t *bus, int on);

/* Copies the counters to *stats; size is sizeof *stats. */
int shmbus_stats(shmbus_t *bus, struct shmbus_stats *stats, size_t size);

#ifdef __cplusplus
}
#endif

#endif /* SHMBUS_H */
